"""What a run found and did, as data, and as JSON that is the same on every run.

Nothing in a report depends on the time, the machine or the place of the folder.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from enum import Enum
from typing import Any

from porter.rule import Category, Safety, Status

#: Version of the JSON layout; raised when a field changes its meaning or goes away.
SCHEMA = 1


class FileStatus(str, Enum):
    """What became of a file."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True)
class SiteReport:
    """One finding and what became of it.

    Args:
        path: POSIX, relative to the folder of the report.
        line: 1-based line in the source as it was (of the cell, in a notebook).
        column: 1-based column in characters.
        rule: the rule's code.
        status: rewritten, left or information.
        safety: how far the rewrite may be trusted; manual without one.
        category: what happens if the site stays.
        effort: points for a person if it stays.
        symbol: the resolved name behind the site; may be empty.
        before: the source lines as they were.
        after: those lines as rewritten; empty if they were not.
        reason: why it is left and what to do; may be empty.
        cell: 1-based number of the notebook's cell, all cells counted; None elsewhere.
    """

    path: str
    line: int
    column: int
    rule: str
    status: Status
    safety: Safety
    category: Category
    effort: int
    symbol: str = ""
    before: str = ""
    after: str = ""
    reason: str = ""
    cell: int | None = None

    @property
    def place(self) -> str:
        """The position as it is written behind the path."""
        cell = f"cell {self.cell}:" if self.cell is not None else ""
        return f"{cell}{self.line}:{self.column}"

    @property
    def order(self) -> tuple[object, ...]:
        """What sites are sorted by."""
        return (self.path, self.cell or 0, self.line, self.column, self.rule, self.reason)

    @property
    def pending(self) -> bool:
        """Whether a person must still do something about it."""
        needed = (Category.MANDATORY, Category.POTENTIAL)
        return self.status is Status.LEFT and self.category in needed


@dataclass(frozen=True)
class FileReport:
    """One file and what became of it.

    Args:
        path: POSIX, relative to the folder of the report.
        status: changed, unchanged, failed or skipped.
        reason: why it failed or was skipped.
    """

    path: str
    status: FileStatus
    reason: str = ""


@dataclass(frozen=True)
class Report:
    """A whole run; build it with `assemble`.

    Args:
        target: name of the target.
        min_torch: lowest torch version supported, like "2.9".
        sites: sorted by place.
        files: sorted by path.
        suppressed: number of findings that comments silenced.
    """

    target: str
    min_torch: str
    sites: tuple[SiteReport, ...]
    files: tuple[FileReport, ...]
    suppressed: int = 0

    def count(self, status: FileStatus) -> int:
        """How many files have this status."""
        return sum(file.status is status for file in self.files)

    def having(self, status: Status) -> tuple[SiteReport, ...]:
        """The sites with this status."""
        return tuple(site for site in self.sites if site.status is status)

    @property
    def failed(self) -> tuple[FileReport, ...]:
        """The files that could not be read, parsed or written."""
        return tuple(file for file in self.files if file.status is FileStatus.FAILED)

    @property
    def pending(self) -> tuple[SiteReport, ...]:
        """The sites that a person must still deal with."""
        return tuple(site for site in self.sites if site.pending)

    def without(self, failures: dict[str, str]) -> Report:
        """The report if these files (path: reason) could not be written after all."""
        sites = tuple(
            replace(s, status=Status.LEFT, after="", reason=failures[s.path])
            if s.path in failures and s.status is Status.REWRITTEN
            else s
            for s in self.sites
        )
        files = tuple(
            FileReport(f.path, FileStatus.FAILED, failures[f.path]) if f.path in failures else f
            for f in self.files
        )
        return replace(self, sites=sites, files=files)


def assemble(
    target: str,
    min_torch: str,
    sites: Iterable[SiteReport],
    files: Iterable[FileReport],
    suppressed: int = 0,
) -> Report:
    """A report in its stable order."""
    return Report(
        target,
        min_torch,
        tuple(sorted(sites, key=lambda site: site.order)),
        tuple(sorted(set(files), key=lambda file: (file.path, file.status.value, file.reason))),
        suppressed,
    )


def as_data(report: Report) -> dict[str, Any]:
    """The report as plain data, in the layout of `SCHEMA`."""
    return {
        "schema": SCHEMA,
        "target": report.target,
        "min_torch": report.min_torch,
        "summary": _summary(report),
        "files": [_plain(file) for file in report.files],
        "sites": [_plain(site) for site in report.sites],
    }


def as_json(report: Report) -> str:
    """The report as JSON text; the same report gives the same bytes."""
    return json.dumps(as_data(report), indent=2, ensure_ascii=True) + "\n"


def _plain(item: SiteReport | FileReport) -> dict[str, Any]:
    plain: dict[str, Any] = {}
    for field in fields(item):
        value = getattr(item, field.name)
        if field.name == "cell" and value is None:
            continue
        plain[field.name] = value.value if isinstance(value, Enum) else value
    return plain


def _summary(report: Report) -> dict[str, Any]:
    left = report.having(Status.LEFT)
    return {
        "files": {
            "read": len(report.files) - report.count(FileStatus.SKIPPED),
            **{status.value: report.count(status) for status in FileStatus},
        },
        "sites": {
            "total": len(report.sites),
            **{status.value: len(report.having(status)) for status in Status},
            "pending": len(report.pending),
            "suppressed": report.suppressed,
        },
        "effort": {
            "rewritten": sum(site.effort for site in report.having(Status.REWRITTEN)),
            "left": sum(site.effort for site in left),
        },
        "rules": {
            code: {
                status.value: sum(s.rule == code and s.status is status for s in report.sites)
                for status in Status
            }
            for code in _codes(report.sites)
        },
    }


def _codes(sites: Sequence[SiteReport]) -> list[str]:
    return sorted(Counter(site.rule for site in sites))
