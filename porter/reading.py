"""Reports read back from their files, and written as the view that a name or an option asks for."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from porter import compare, files, score
from porter.output import encodable, form_of, render
from porter.output.view import rebased
from porter.problem import Problem
from porter.report import SCHEMA, FileStatus, Report, as_data, as_json
from porter.rule import Category, Safety, Status
from porter.shape import misfit

_CHECK = {
    "kind": str, "name": str, "verdict": str, "detail": str,
    "outcome?": frozenset({score.PASSED, score.UNPROVED, score.FAILED}),
    "rehearsal?": {}, "onnx?": {},
}  # fmt: skip
_COUNTS = {status.value: int for status in Status}
_CATEGORY = frozenset(category.value for category in Category)
_SAFETY = frozenset(safety.value for safety in Safety)
#: What every report of this layout has, as docs/report.schema.json says it; views rely on it.
SHAPE: dict[str, Any] = {
    "target": str,
    "min_torch": str,
    "applied": bool,
    "verdict": {
        "status": frozenset({"READY", "AFTER REVIEW", "BLOCKED"}),
        "sentence": str,
        "readiness": (int, type(None)),
        "points": {"resolved": int, "total": int, "open": int},
        "sites": {f"{name}?" if name == "advice" else name: int for name in score.CLASSES},
    },
    "summary": {
        "files": {"read": int, **{status.value: int for status in FileStatus}},
        "sites": {"total": int, **_COUNTS, "pending": int, "suppressed": int, "accepted": int},
        "effort": {"rewritten": int, "left": int},
        "rules": {"*": _COUNTS},
    },
    "rules": {
        "*": {
            "name": str, "title": str, "family": str, "topic": str, "category": _CATEGORY,
            "safety": _SAFETY, "effort": int, "why": str, "advice": str, "references": [str],
        }
    },
    "apis": [
        {
            "name": str, "uses": int, "files": int, **_COUNTS,
            "known": [{
                "kind": str, "status": str, "equivalent": str, "since": str, "note": str,
                "source": str,
            }],
        }
    ],
    "checks?": [_CHECK],
    "files": [
        {
            "path": str,
            "status": frozenset(status.value for status in FileStatus),
            "reason": str,
            "hunks?": [{"old": int, "new": int, "lines": [str]}],
        }
    ],
    "sites": [
        {
            "path": str, "line": int, "column": int, "rule": str,
            "status": frozenset(status.value for status in Status),
            "safety": _SAFETY, "category": _CATEGORY, "effort": int, "symbol": str, "before": str,
            "after": str, "proposed": str, "reason": str, "cell?": int, "accepted": bool,
            "snippet": {"start": int, "lines": [str]}, "fingerprint": str,
        }
    ],
    "provenance": {
        "porter": str, "min_torch_origin": str, "select": [str], "ignore": [str], "unsafe": bool,
        "rules": [str], "tables": [{"name": str, "date": str, "source": str}], "torch_npu": str,
        "hardware": str,
    },
}  # fmt: skip
KEYS = tuple(key for key in SHAPE if not key.endswith("?"))


class ReportProblem(Problem):
    """A report that cannot be used; the text is one line that names the file."""


def load(path: Path) -> dict[str, Any]:
    """The data of a report.

    Raises:
        ReportProblem: it is missing, malformed, or of another layout.
    """
    try:
        data: Any = json.loads(files.read(path, files.REPORT))
    except OSError as problem:
        raise ReportProblem(f"{path}: cannot be read: {problem.strerror or problem}") from None
    except (ValueError, RecursionError) as problem:
        raise ReportProblem(f"{path}: not valid JSON: {problem}") from None
    if not isinstance(data, dict) or "schema" not in data or "sites" not in data:
        raise ReportProblem(
            f"{path}: not a report of porter (`porter check PATH --report {path}` writes one)"
        )
    missing = [key for key in KEYS if key not in data]
    if data["schema"] != SCHEMA or missing:
        raise ReportProblem(f"{path}: made by another version of porter; make it again")
    wrong = misfit(data, SHAPE) or _unknown_rule(data)
    if wrong:
        raise ReportProblem(f"{path}: the report is damaged: {wrong}; make it again")
    return data


def checks(path: Path, found: list[Any]) -> list[dict[str, Any]]:
    """Verdicts of runs as a file holds them.

    Raises:
        ReportProblem: they are none.
    """
    wrong = misfit(found, [_CHECK], "checks")
    if wrong:
        raise ReportProblem(f"{path}: the report is damaged: {wrong}; make it again")
    return found


def _unknown_rule(data: Mapping[str, Any]) -> str:
    """What is wrong if a site has a rule that the report does not explain; empty if none has."""
    for number, site in enumerate(data["sites"]):
        if site["rule"] not in data["rules"]:
            return f"sites[{number}].rule is not among its rules"
    return ""


def shown(data: Mapping[str, Any], form: str, prefix: str = "") -> str:
    """A view of a report; malformed data is the fault of whoever edited it.

    Raises:
        ReportProblem: the data lacks what the view needs.
    """
    try:
        moved = rebased(data, prefix)
        return json.dumps(moved, indent=2) + "\n" if form == "json" else render(moved, form)
    except (LookupError, TypeError, ValueError, AttributeError) as problem:
        raise ReportProblem(f"the report is damaged ({problem!r}); make it again") from problem


def compared(
    base: Mapping[str, Any], head: Mapping[str, Any], form: str, prefix: str, fail_on: str
) -> tuple[str, bool]:
    """A view of two reports, and whether what `fail_on` names is among it.

    Raises:
        ReportProblem: there is no such view of two reports.
        CompareProblem: the reports cannot be compared.
    """
    found = compare.compare(rebased(base, prefix), rebased(head, prefix))
    views = {"text": compare.as_text, "markdown": compare.as_markdown}
    if form == "json":
        text = json.dumps(compare.as_data(found), indent=2) + "\n"
    elif form in views:
        text = encodable(views[form](found))
    else:
        raise ReportProblem(f"--compare has no {form}: use text, markdown or json")
    return text, found.fails(fail_on)


def as_text(report: Report, path: Path) -> str:
    """What to write into a file: the view that its name asks for, else JSON."""
    form = form_of(path)
    return as_json(report) if form is None else render(as_data(report), form)


def prefix(base: Path) -> str:
    """A report's folder as seen from here; empty if that is not below here."""
    relative = os.path.relpath(base)
    return "" if relative.startswith("..") or os.path.isabs(relative) else Path(relative).as_posix()  # noqa: PTH117
