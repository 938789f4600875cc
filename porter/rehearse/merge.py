"""The verdict of a rehearsal as a part of a migration report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from porter import reading, score
from porter.problem import Problem
from porter.rehearse import show
from porter.rehearse.verdict import LAYOUT, Rehearsal, Verdict, from_json
from porter.writing import ChangedMeanwhile, write_atomic

KIND = "rehearsal"
_OUTCOMES = {Verdict.RAN: score.PASSED, Verdict.NOT_PROVED: score.UNPROVED}


class RehearsalProblem(Problem):
    """A rehearsal that cannot be read; the text is one line that names the file."""


def check(rehearsal: Rehearsal, bases: Sequence[Path] = ()) -> dict[str, Any]:
    """A rehearsal as a report holds it: the same for every run with the same outcome.

    Args:
        rehearsal: what came of it.
        bases: the folders that paths become relative to.
    """
    # Time and the addresses in a stack differ from run to run.
    said = {k: v for k, v in rehearsal.as_json().items() if k not in ("seconds", "stacks")}
    data = _shortened(said, bases)
    return {
        "kind": KIND,
        "name": f"{data['command']} on the simulated {rehearsal.device}",
        "verdict": rehearsal.verdict.value,
        "outcome": _OUTCOMES.get(rehearsal.verdict, score.FAILED),
        "detail": _detail(from_json(data)),
        "rehearsal": data,
    }


def _shortened(value: Any, bases: Sequence[Path]) -> Any:
    if isinstance(value, str):
        return show.shortened(value, bases)
    if isinstance(value, Mapping):
        return {k: _shortened(v, bases) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_shortened(v, bases) for v in value]
    return value


def _detail(r: Rehearsal) -> str:
    """What to know of it in one sentence or two."""
    parts = []
    if r.failures:
        first = r.failures[0]
        said = first.message.splitlines()[0] if first.message else first.type
        parts.append(f"{first.place}: {said}")
    elif not r.proved:
        parts.extend(r.reasons[:3])
    if r.operators:
        parts.append(f"{show.plural(r.runs, 'operator')} ran on the device")
    if r.fallbacks:
        times = sum(f.times for f in r.fallbacks)
        lines = show.plural(len(r.fallbacks), "line")
        parts.append(f"{times:,} fell back to the host at {lines}")
    return "; ".join(parts)


def added(data: Mapping[str, Any], checks: list[dict[str, Any]]) -> dict[str, Any]:
    """A report with verdicts of runs; the same run rehearsed again takes the place of the first."""
    names = {(c["kind"], c["name"]) for c in checks}
    kept = [c for c in data.get("checks", []) if (c["kind"], c["name"]) not in names]
    found = {**data, "checks": [*kept, *checks]}
    return {**found, "verdict": score.verdict(found)}


def into(path: Path, rehearsal: Rehearsal, base: Path) -> None:
    """Add a rehearsal to the report in a file.

    Raises:
        porter.reading.ReportProblem: it is no report.
        porter.writing.WriteProblem: it cannot be written.
    """
    tries = 20
    while True:
        before = path.read_bytes() if path.is_file() else None
        data = added(reading.load(path), [check(rehearsal, (base,))])
        try:
            write_atomic(path, (json.dumps(data, indent=2) + "\n").encode(), expected=before)
        except ChangedMeanwhile:  # by a rehearsal that has just ended, too
            tries -= 1
            if not tries:
                raise
        else:
            return


def load(path: Path) -> list[dict[str, Any]]:
    """The checks in a file: a rehearsal (`porter rehearse --output-format json`), or a report.

    Raises:
        RehearsalProblem: it is missing, malformed, or neither of both.
    """
    try:
        data: Any = json.loads(path.read_bytes())
        if isinstance(data, dict) and data.get("rehearsal") == LAYOUT:
            return [check(from_json(data), (Path.cwd(),))]
    except OSError as problem:
        raise RehearsalProblem(f"{path}: cannot be read: {problem.strerror}") from None
    except (ValueError, KeyError, TypeError, RecursionError) as problem:
        raise RehearsalProblem(f"{path}: not a rehearsal ({problem})") from None
    if isinstance(data, dict) and isinstance(data.get("checks"), list):
        return reading.checks(path, data["checks"])
    raise RehearsalProblem(
        f"{path}: not a rehearsal (`porter rehearse --output-format json SCRIPT > {path}` "
        "writes one)"
    )
