"""The verdict on one model, from what its two processes wrote."""

from __future__ import annotations

import enum
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from porter import score
from porter.onnx.explain import Explanation, explain
from porter.onnx.spec import Model
from porter.rehearse import launch

if TYPE_CHECKING:
    from porter.onnx.operators import OperatorReport


class Verdict(str, enum.Enum):
    """What came of a model, in a word or two."""

    PASS = "pass"
    GAP = "gap"
    STATIC = "static"
    LEGACY = "legacy"
    MISMATCH = "mismatch"
    CHANGED = "changed"
    NOT_EXPORTED = "not exported"
    NOT_COMPARABLE = "not comparable"
    NO_ORIGINAL = "no original"
    NOT_RUN = "not run"
    STOPPED = "stopped"


#: How a report calls these checks.
KIND = "ONNX check"
#: What fails nothing, but proves nothing either. All else but a pass is a failure.
_OUTCOMES = dict.fromkeys((Verdict.NOT_COMPARABLE, Verdict.NO_ORIGINAL), score.UNPROVED)
#: What each verdict says.
MEANING = {
    Verdict.PASS: "the graph and the original give the numbers of the migrated model",
    Verdict.GAP: "the numbers are right, but the target's compiler does not take the graph",
    Verdict.STATIC: "the numbers are right for the sizes of the export only",
    Verdict.LEGACY: "only the legacy exporter makes a graph; it holds for one run of the code",
    Verdict.MISMATCH: "the graph gives other numbers than the model",
    Verdict.CHANGED: "the migrated model gives other numbers than the original",
    Verdict.NOT_EXPORTED: "no graph can be made",
    Verdict.NOT_COMPARABLE: "the model gives other numbers each time it is called",
    Verdict.NO_ORIGINAL: "the graph is right, but the original could not run here",
    Verdict.NOT_RUN: "the model could not be made or called",
    Verdict.STOPPED: "a limit was reached, or the process crashed",
}


@dataclass(frozen=True)
class Ran:
    """How one process ended, and what it wrote.

    Args:
        record: what it wrote; empty if it was not run.
        code: its exit code; negative for a signal.
        stopped: "time" or "memory" if it was stopped at that limit.
        errors: the end of its standard error.
    """

    record: Mapping[str, Any] = field(default_factory=dict)
    code: int = 0
    stopped: str = ""
    errors: str = ""

    @property
    def done(self) -> bool:
        """Whether it did all that it was to do."""
        return self.record.get("step") == "done"


@dataclass(frozen=True)
class Attempt:
    """One rung of the ladder.

    Args:
        name: of the rung.
        outcome: ok, failed (no graph, or none that runs), differs (other numbers).
        stage: where it failed: export, checker, opset, dimensions, run.
        said: the message.
        explanation: what it means; None if it held.
        sets: for each set of inputs: `sizes`, `ok`, `error`, `reason`, `original`.
        engine: what ran the graph.
        dtype: what decides the tolerance.
        tolerance: the allowed error.
        strategy: how the code was captured.
        first: the first value inside that differs.
        optimizer: whether the numbers are right without the runtime's own optimizations.
    """

    name: str
    outcome: str
    stage: str
    said: str = ""
    explanation: Explanation | None = None
    sets: tuple[Mapping[str, Any], ...] = ()
    engine: str = ""
    dtype: str = ""
    tolerance: float = 0.0
    strategy: str = ""
    first: Mapping[str, Any] = field(default_factory=dict)
    optimizer: bool = False

    @property
    def error(self) -> float:
        """The largest error on all sets."""
        return max([0.0, *(s["error"] or 0.0 for s in self.sets)])


@dataclass(frozen=True)
class ModelCheck:
    """All that is known of one model.

    Args:
        name: what it is called.
        factory: what makes it.
        verdict: what came of it.
        detail: the same in a sentence.
        original: `status` (identical, equal, differs, same code, failed, not asked), `error`,
            `reason`.
        attempts: the rungs of the ladder that were tried.
        rung: the one that held; empty if none did.
        graph: `opset`, `inputs`, `outputs`, `nodes`, `bytes`.
        trouble: what kept the model from running; None if it ran.
        operators: what the target's compiler takes; None if no graph was made.
        operators_note: why nothing is known of them.
        notes: remarks.
        versions: of what took part.
    """

    name: str
    factory: str
    verdict: Verdict
    detail: str
    original: Mapping[str, Any] = field(default_factory=dict)
    attempts: tuple[Attempt, ...] = ()
    rung: str = ""
    graph: Mapping[str, Any] = field(default_factory=dict)
    trouble: Explanation | None = None
    operators: OperatorReport | None = None
    operators_note: str = ""
    notes: tuple[str, ...] = ()
    versions: Mapping[str, str] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether nothing is left to do."""
        return self.verdict is Verdict.PASS

    def as_json(self) -> dict[str, Any]:
        """As a report holds it: the same for the same run, so errors have one digit."""
        return {
            "kind": KIND,
            "name": self.name,
            "verdict": self.verdict.value,
            "outcome": score.PASSED if self.passed else _OUTCOMES.get(self.verdict, score.FAILED),
            "detail": self.detail,
            "onnx": {
                "factory": self.factory,
                "original": {**self.original, "error": rounded(self.original.get("error"))},
                "rung": self.rung,
                "attempts": [_attempt(a) for a in self.attempts],
                "graph": dict(self.graph) or None,
                "trouble": self.trouble.as_json() if self.trouble else None,
                "operators": self.operators.to_json() if self.operators else None,
                "operators_note": self.operators_note,
                "notes": list(self.notes),
                "versions": dict(self.versions),
            },
        }


def rounded(error: float | None) -> float | None:
    """An error with one digit, so that a report does not change with the last bits."""
    return None if error is None else float(f"{error:.0e}")


def _attempt(attempt: Attempt) -> dict[str, Any]:
    return {
        "rung": attempt.name,
        "outcome": attempt.outcome,
        "stage": attempt.stage,
        "strategy": attempt.strategy,
        "engine": attempt.engine,
        "dtype": attempt.dtype,
        "tolerance": attempt.tolerance,
        "sets": [
            {
                "sizes": dict(s["sizes"]),
                "equal": s["ok"],
                "error": rounded(s["error"]),
                "reason": s.get("reason", ""),
                "recorded": bool(s.get("recorded")),
                "values": s.get("values", ""),
            }
            for s in attempt.sets
        ],
        "explanation": attempt.explanation.as_json() if attempt.explanation else None,
        "first_difference": dict(attempt.first) or None,
        "optimizer": attempt.optimizer,
    }


Rename = Callable[[str], str]


def judge(model: Model, original: Ran | None, migrated: Ran, rename: Rename) -> ModelCheck:
    """The verdict, without what the compiler says.

    Args:
        model: that was checked.
        original: its process; None if no other version was to be compared.
        migrated: the process of the migrated version.
        rename: turns paths within a text into those that the user knows.
    """
    record = migrated.record
    attempts = tuple(_read(rung, rename) for rung in record.get("rungs", ()))
    check = ModelCheck(
        model.title,
        model.factory,
        Verdict.NOT_RUN,
        "",
        original=_original(original, migrated, rename),
        attempts=attempts,
        rung=str(record.get("rung", "")),
        graph=dict(record.get("graph", {})) if record.get("rung") else {},
        notes=_notes(original, migrated),
        versions=dict(record.get("versions", {})),
    )
    if not migrated.done:
        trouble = trouble_of(migrated, rename)
        ended = migrated.stopped or migrated.code < 0 or trouble.kind == "memory"
        verdict = Verdict.STOPPED if ended else Verdict.NOT_RUN
        return replace(check, verdict=verdict, trouble=trouble, detail=trouble.text)
    verdict = _verdict(check, record)
    return replace(check, verdict=verdict, detail=_detail(check, verdict, record))


def _verdict(check: ModelCheck, record: Mapping[str, Any]) -> Verdict:
    status = check.original["status"]
    if status == "differs":
        return Verdict.CHANGED
    if record.get("unstable"):
        return Verdict.NOT_COMPARABLE
    if not check.rung:
        wrong = check.attempts and check.attempts[0].outcome == "differs"
        return Verdict.MISMATCH if wrong else Verdict.NOT_EXPORTED
    if check.rung in ("static", "legacy"):
        return Verdict(check.rung)
    return Verdict.NO_ORIGINAL if status == "failed" else Verdict.PASS


def _detail(check: ModelCheck, verdict: Verdict, record: Mapping[str, Any]) -> str:
    first = check.attempts[0] if check.attempts else None
    held = next((a for a in check.attempts if a.name == check.rung), None)
    if verdict is Verdict.CHANGED:
        return f"not the numbers of the original: {check.original['reason']}"
    if verdict is Verdict.NOT_COMPARABLE:
        return _UNSTABLE[record["unstable"]]
    if verdict in (Verdict.MISMATCH, Verdict.NOT_EXPORTED) and first is not None:
        return first.explanation.text if first.explanation else first.said
    if verdict is Verdict.NO_ORIGINAL:
        return f"the original could not run here: {check.original['reason']}"
    parts = []
    if held is not None:
        parts.append(f"largest error {held.error:.0e} of {held.tolerance:g} allowed")
    if held is not None and held.name not in ("default", "static", "legacy"):
        parts.append(f"needs {_NEEDS[held.name]}")
    if verdict in (Verdict.STATIC, Verdict.LEGACY) and first is not None and first.explanation:
        parts.append(first.explanation.text)
    words = {"identical": "identical to the original", "equal": "equal to the original"}
    if check.original["status"] in words:
        parts.insert(0, words[check.original["status"]])
    return "; ".join(parts)


_NEEDS = {
    "eager-attention": 'set_attn_implementation("eager")',
    "no-cache": "config.use_cache = False",
}
_UNSTABLE = {
    "random": "forward draws random numbers, also in evaluation mode; return the mean there, or "
    "pass the noise as an input",
    "state": "two calls with the same input give other outputs: forward keeps something between "
    "calls; pass it as an input",
}


def _read(rung: Mapping[str, Any], rename: Rename) -> Attempt:
    failure = dict(rung.get("failure", {}))
    failure["place"] = rename(str(failure.get("place", "")))
    said = str(rung.get("message", ""))
    good = rung["outcome"] == "ok"
    explained = None if good else _explained(rung, failure, said)
    first = dict(rung.get("first", {}))
    if "place" in first:
        first["place"] = rename(first["place"])
    return Attempt(
        rung["rung"],
        rung["outcome"],
        rung["stage"],
        said or (explained.said if explained else ""),
        explained,
        tuple(rung.get("sets", ())),
        rung.get("engine", ""),
        rung.get("dtype", ""),
        rung.get("tolerance", 0.0),
        rung.get("strategy", ""),
        first,
        bool(rung.get("without_optimizations")),
    )


def _explained(rung: Mapping[str, Any], failure: Mapping[str, Any], said: str) -> Explanation:
    if rung["outcome"] == "differs" and not failure.get("message"):
        found = explain({}, said)
        if found.kind != "other":
            return found
        other = rung.get("only_other_sizes")
        text = "with other sizes than those of the export" if other else "on the same input"
        return Explanation("numbers", f"the graph gives other numbers {text}", "", "", said)
    return explain(failure, said)


#: What an error outside of the exporter may be explained by; other words would mislead.
_OF_USER = ("memory", "package", "name", "device")


def trouble_of(ran: Ran, rename: Rename) -> Explanation:
    """Why a process did not do its job."""
    step = str(ran.record.get("step", "start"))
    place = rename(_hung_at(ran.errors))
    if ran.stopped == "time":
        return Explanation(
            "time", f"it still ran at the time limit ({step})",
            "raise --timeout, or check a smaller configuration of the model", place,
        )  # fmt: skip
    if ran.stopped == "memory":
        return Explanation(
            "memory", f"it held more than the memory limit ({step})",
            "raise --memory, or check a smaller configuration of the model", place,
        )  # fmt: skip
    stop = ran.record.get("stop")
    if stop is None:
        how = f"signal {-ran.code} ended the process" if ran.code < 0 else "the process ended"
        return Explanation("crash", f"{how} ({step})", "", place, _last_words(ran.errors))
    if "reason" in stop:
        return Explanation(str(stop["step"]), rename(str(stop["reason"])), "")
    found = explain({**stop, "place": rename(str(stop.get("place", "")))})
    said = rename(found.said)
    if found.kind not in _OF_USER:
        text = f"{stop.get('type', 'error')} in {stop['step']}: {said}"
        sizes = "if these sizes are wrong, correct --vary; if not, the code takes only some"
        remedy = sizes if "=" in step else ""
        return replace(found, kind=step.split()[0], text=text, remedy=remedy, said=said)
    return replace(found, text=f"{found.text} ({stop['step']})", said=said)


_NOT_USERS = ("-packages", "/lib/python3", "porter_on", "<")


def _hung_at(errors: str) -> str:
    """The innermost line outside of libraries in the stack that a stopped process wrote."""
    for line in errors.splitlines():
        match = re.match(r'\s+File "([^"]+)", line (\d+) in ', line)
        if match and not any(part in match[1] for part in _NOT_USERS):
            return f"{match[1]}:{match[2]}"
    return ""


def _last_words(text: str) -> str:
    """What a process said of its end."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    fatal = [line for line in lines if line.startswith(launch.FATAL)]
    return (fatal or lines)[-1][:300] if lines else ""


def _original(original: Ran | None, migrated: Ran, rename: Rename) -> dict[str, Any]:
    if original is None:
        return {"status": "not asked", "error": None, "reason": ""}
    if not original.done:
        trouble = trouble_of(original, rename)
        where = f"{trouble.place}: " if trouble.place else ""
        return {"status": "failed", "error": None, "reason": f"{where}{trouble.text}"}
    found = dict(migrated.record.get("original", {}))
    return {
        "status": found.get("status", "failed"),
        "error": found.get("error"),
        "reason": found.get("reason", "the migrated model did not run"),
    }


def _notes(original: Ran | None, migrated: Ran) -> tuple[str, ...]:
    notes: dict[str, None] = {}
    devices: dict[str, None] = {}
    for ran in (original, migrated):
        if ran is not None:
            notes.update(dict.fromkeys(ran.record.get("notes", ())))
            devices.update(dict.fromkeys(ran.record.get("devices", ())))
    if devices:
        shown = ", ".join(sorted(devices)[:4])
        more = f" and {len(devices) - 4} more" if len(devices) > 4 else ""
        notes[f"on the CPU instead of a device: {shown}{more}"] = None
    return tuple(notes)


def with_operators(
    check: ModelCheck, report: OperatorReport | None, note: str, *, gate: bool = True
) -> ModelCheck:
    """The verdict with what the target's compiler takes.

    Args:
        check: of a model whose graph was made.
        report: on its operators; None if they could not be looked up.
        note: why not.
        gate: whether a model passes only if the compiler takes its operators.
    """
    if report is None:
        return replace(check, operators_note=note)
    if report.clean or not gate or check.verdict is not Verdict.PASS:
        return replace(check, operators=report)
    missing = [u.title for u in report.operators if u.registration.value != "registered"]
    blocks = [r.text for r in report.remarks if r.blocks]
    named = "; ".join([*([f"not known to be taken: {', '.join(missing)}"] if missing else []),
                       *blocks])  # fmt: skip
    return replace(
        check, operators=report, verdict=Verdict.GAP, detail=f"{report.compiler}: {named}"
    )


def tally(checks: Sequence[ModelCheck]) -> dict[str, int]:
    """How many models have each verdict, without those that none has."""
    found = {v.value: sum(c.verdict is v for c in checks) for v in Verdict}
    return {name: number for name, number in found.items() if number}
