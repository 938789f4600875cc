"""Reports read back from their files, and written as the view that a name or an option asks for."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from porter import compare
from porter.output import encodable, form_of, render
from porter.output.view import rebased
from porter.problem import Problem
from porter.report import SCHEMA, Report, as_data, as_json

#: What every report of this layout has; views rely on it.
KEYS = (
    "target", "min_torch", "applied", "verdict", "summary", "rules", "apis", "files", "sites",
    "provenance",
)  # fmt: skip


class ReportProblem(Problem):
    """A report that cannot be used; the text is one line that names the file."""


def load(path: Path) -> dict[str, Any]:
    """The data of a report.

    Raises:
        ReportProblem: it is missing, malformed, or of another layout.
    """
    try:
        data: Any = json.loads(path.read_bytes())
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
    return data


def shown(data: Mapping[str, Any], form: str, prefix: str = "") -> str:
    """A view of a report; malformed data is the fault of whoever edited it.

    Raises:
        ReportProblem: the data lacks what the view needs.
    """
    try:
        moved = rebased(data, prefix)
        return json.dumps(moved, indent=2) + "\n" if form == "json" else render(moved, form)
    except (KeyError, TypeError, IndexError, AttributeError) as problem:
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
