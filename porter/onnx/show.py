"""Verdicts for people: from what a report holds, so that a view needs nothing else."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from porter.onnx.explain import RUNGS
from porter.onnx.verdict import MEANING, ModelCheck, Verdict, tally

WIDTH = 100
_LABEL = 10
_ENGINES = {"onnxruntime": "ONNX Runtime", "onnx.reference": "the reference evaluator of onnx"}
_STATUS = {
    "identical": "the same numbers to the last bit",
    "equal": "the same numbers",
    "same code": "porter changes nothing here, so there is one version only",
    "not asked": "not compared",
}
_STAGES = {
    "export": "no graph",
    "checker": "not valid ONNX",
    "opset": "not at this opset",
    "dimensions": "sizes are fixed",
    "run": "the graph does not run",
}
#: Characters of a message that are shown.
_SAID = 160
#: Operators named of each kind.
_NAMED = 8

Data = Mapping[str, Any]


def text(checks: Sequence[ModelCheck]) -> str:
    """All verdicts, and how many there are of each."""
    blocks = [_block(check.as_json()) for check in checks]
    counts = ", ".join(f"{number} {name}" for name, number in tally(checks).items())
    many = f"{len(checks)} models" if len(checks) != 1 else "1 model"
    return "\n\n".join([*blocks, f"{many}: {counts}."]) + "\n"


def _block(check: Data) -> str:
    factory = check["onnx"]["factory"]
    beside = f"  ({factory})" if factory != check["name"] else ""
    head = f"{check['verdict'].upper()}  {check['name']}{beside}"
    return "\n".join([head, *lines(check)])


def lines(check: Data) -> list[str]:
    """All that is known of one model.

    Args:
        check: as `ModelCheck.as_json` makes it.
    """
    return [line for row in _rows(check) for line in row.splitlines()]


def _rows(check: Data) -> Iterator[str]:
    found = check["onnx"]
    yield _row("", f"{_meaning(check['verdict'], found['original'])}.")
    yield _row("original", _original(found["original"]))
    if found["trouble"] is not None:
        yield _row("problem", _told(found["trouble"]))
        yield from _remedy(found["trouble"])
    elif not found["attempts"]:
        yield _row("reason", check["detail"])
    told: set[tuple[str, str]] = set()
    for attempt in found["attempts"]:
        yield from _attempt(attempt, told)
    if found["graph"]:
        yield _row("graph", _graph(found["graph"]))
    yield from _operators(found)
    for note in found["notes"]:
        yield _row("note", note)


def _meaning(verdict: str, original: Data) -> str:
    if verdict == Verdict.PASS.value and original["status"] in ("same code", "not asked"):
        return "the graph gives the numbers of the model"
    return MEANING[Verdict(verdict)]


def _row(label: str, content: str) -> str:
    return textwrap.fill(
        content,
        WIDTH,
        initial_indent=f"  {label:<{_LABEL}} ",
        subsequent_indent=" " * (_LABEL + 3),
        break_long_words=False,
        break_on_hyphens=False,
    )


def _original(original: Data) -> str:
    status = original["status"]
    if status in _STATUS:
        return _STATUS[status]
    said = "could not run here" if status == "failed" else "other numbers"
    return f"{said}: {original['reason']}"


def _told(explanation: Data) -> str:
    place = f"{explanation['place']}: " if explanation["place"] else ""
    said, words = explanation["said"], explanation["text"]
    short = said if len(said) <= _SAID else f"{said[:_SAID]}..."
    return f"{place}{words}{f' [{short}]' if said and said not in words else ''}"


def _remedy(explanation: Data) -> Iterator[str]:
    if explanation["remedy"]:
        yield _row("", f"what to do: {explanation['remedy']}")


def _attempt(attempt: Data, told: set[tuple[str, str]]) -> Iterator[str]:
    name = attempt["rung"]
    label = "export" if name == "default" else "then"
    how = "" if name == "default" else f"{RUNGS[name]}: "
    if attempt["outcome"] == "ok":
        way = f" ({attempt['strategy']} capture)" if attempt["strategy"] else ""
        yield _row(label, f"{how}holds{way}")
    elif attempt["explanation"] is not None:
        why = attempt["explanation"]
        key = (why["text"], why["place"])
        yield _row(label, f"{how}{_failed(attempt)}. {'As above.' if key in told else _told(why)}")
        if key not in told:
            yield from _remedy(why)
        told.add(key)
    if attempt["sets"]:
        engine = _ENGINES.get(attempt["engine"], attempt["engine"])
        sets = "; ".join(_set(row, number) for number, row in enumerate(attempt["sets"], 1))
        allowed = f"{attempt['dtype']}, error allowed {attempt['tolerance']:g}"
        yield _row("numbers", f"{engine}, {allowed}: {sets}")
    if attempt["first_difference"]:
        yield _row("where", _first(attempt))


def _failed(attempt: Data) -> str:
    if attempt["outcome"] == "differs":
        return "other numbers"
    stage = attempt["stage"]
    return _STAGES.get(stage, f"failed ({stage})")


def _set(row: Data, number: int) -> str:
    sizes = ", ".join(f"{name}={size}" for name, size in row["sizes"].items())
    where = "recorded inputs" if row["recorded"] else (sizes or f"inputs {number}")
    where += f" and values {row['values']}" if row["values"] else ""
    if row["equal"]:
        return f"{row['error'] or 0.0:.0e} at {where}"
    return f"at {where}: {' '.join(str(row['reason']).split())[:300]}"


def _first(attempt: Data) -> str:
    first = attempt["first_difference"]
    if "value" not in first:
        extra = "; the runtime's own optimizations are at fault: without them the outputs are equal"
        return f"{first['reason']}{extra if attempt['optimizer'] else ''}"
    place = f"{first['place']}: " if first["place"] else ""
    return (
        f"{place}the first value inside that differs is {first['value']}, of {first['operator']} "
        f"({first['torch']}): {first['reason']}; {first['before']} before it are equal"
    )


def _graph(graph: Data) -> str:
    size = graph["bytes"]
    shown = f"{size / 1e6:.1f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"
    inputs, outputs = ", ".join(graph["inputs"]), ", ".join(graph["outputs"])
    nodes = "1 node" if graph["nodes"] == 1 else f"{graph['nodes']} nodes"
    return f"opset {graph['opset']}, {nodes}, {shown}; {inputs} -> {outputs}"


def _operators(found: Data) -> Iterator[str]:
    if found["operators"] is None:
        if found["operators_note"]:
            yield _row("operators", found["operators_note"])
        return
    report = found["operators"]
    kinds: dict[str, list[Data]] = {}
    for use in report["operators"]:
        kinds.setdefault(use["registration"], []).append(use)
    parts = []
    for kind, uses in sorted(kinds.items()):
        titles = [_title(use) for use in uses]
        more = f" and {len(titles) - _NAMED} more" if len(titles) > _NAMED else ""
        named = "" if kind == "registered" else f" ({', '.join(titles[:_NAMED])}{more})"
        parts.append(f"{len(titles)} {kind}{named}")
    blocks = "".join(f"; {r['text']}" for r in report["remarks"] if r["blocks"])
    yield _row("operators", f"{report['compiler']['name']}: {', '.join(parts)}{blocks}")
    for use in report["operators"]:
        if use["registration"] != "registered" and use["advice"]:
            yield _row("", f"{_title(use)}: {use['advice']}")


def _title(use: Data) -> str:
    domain = "" if use["domain"] in ("ai.onnx", "") else f"{use['domain']}::"
    return f"{domain}{use['operator']}@{use['opset']}"
