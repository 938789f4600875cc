"""What a run found and did, as data, and as JSON that is the same on every run.

Nothing in a report depends on the time, the machine or the place of the folder.
"""

from __future__ import annotations

import functools
import re
import sys
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from enum import Enum
from typing import TYPE_CHECKING, Any, NamedTuple

from porter.levels import Category, Safety, Status
from porter.provenance import Provenance
from porter.targets import Target, version

if TYPE_CHECKING:
    from porter import support
    from porter.hunks import Hunk
    from porter.lookout import Entry
    from porter.rule import Rule

#: The topic of rules that name none.
CODE = "code"
_URL = r"https?://[^\s<>()`\"]+"
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
        proposed: those lines as `--unsafe` would write them; empty if they were not left for that.
        reason: why it is left and what to do; may be empty.
        cell: 1-based number of the notebook's cell, all cells counted; None elsewhere.
        snippet: the lines around the site, each cut to a length that can be shown.
        snippet_start: the number of the first of them.
        accepted: whether a baseline holds it, so that it needs no attention now.
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
    proposed: str = ""
    reason: str = ""
    cell: int | None = None
    snippet: tuple[str, ...] = ()
    snippet_start: int = 0
    accepted: bool = False

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
        return self.status is Status.LEFT and self.category in needed and not self.accepted

    @property
    def fingerprint(self) -> str:
        """The same for the same code under the same rule, wherever it stands."""
        import hashlib

        own = self.line - self.snippet_start
        code = self.snippet[own] if 0 <= own < len(self.snippet) else self.before
        content = "\0".join((self.rule, " ".join(code.split())))
        return hashlib.sha256(content.encode("utf-8", "surrogatepass")).hexdigest()[:16]


class FileReport(NamedTuple):
    """One file and what became of it.

    Args:
        path: POSIX, relative to the folder of the report.
        status: changed, unchanged, failed or skipped.
        reason: why it failed or was skipped.
        hunks: what changed.
    """

    path: str
    status: FileStatus
    reason: str = ""
    hunks: tuple[Hunk, ...] = ()


@dataclass(frozen=True)
class Report:
    """A whole run; build it with `assemble`.

    Args:
        target: name of the target.
        min_torch: lowest torch version supported, like "2.9".
        sites: sorted by place.
        files: sorted by path.
        suppressed: number of findings that comments silenced.
        provenance: what the report was made with.
        applied: whether the rewrites are in the files by now.
        checks: verdicts of runs of the migrated code, as `porter.rehearse.merge` makes them.
    """

    target: str
    min_torch: str
    sites: tuple[SiteReport, ...]
    files: tuple[FileReport, ...]
    suppressed: int = 0
    provenance: Provenance = field(default_factory=Provenance)
    applied: bool = False
    checks: tuple[Mapping[str, Any], ...] = ()

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


def said(
    path: str, rule: Rule | Entry, line: int, column: int, before: str, reason: str
) -> SiteReport:
    """A site of a rule that looks at no code."""
    return SiteReport(
        path=path,
        line=line,
        column=column,
        rule=rule.code,
        status=Status.LEFT,
        safety=Safety.MANUAL,
        category=rule.category,
        effort=rule.effort,
        before=before,
        reason=reason,
    )


def assemble(
    target: str,
    min_torch: str,
    sites: Iterable[SiteReport],
    files: Iterable[FileReport],
    suppressed: int = 0,
    provenance: Provenance | None = None,
) -> Report:
    """A report in its stable order."""
    return Report(
        target,
        min_torch,
        tuple(sorted(sites, key=lambda site: site.order)),
        tuple(sorted(set(files), key=lambda file: (file.path, file.status.value, file.reason))),
        suppressed,
        provenance or Provenance(),
    )


def as_data(report: Report) -> dict[str, Any]:
    """The report as plain data, in the layout of `SCHEMA` (docs/report.schema.json)."""
    from porter import score

    data: dict[str, Any] = {
        "schema": SCHEMA,
        "target": report.target,
        "min_torch": report.min_torch,
        "applied": report.applied,
        "verdict": {},
        "summary": _summary(report),
        "rules": {code: _rule(code) for code in _codes(report.sites)},
        "apis": list(_apis(report)),
        "files": [_file(file) for file in report.files],
        "sites": list(_sites(report.sites)),
        "provenance": _provenance(report.provenance),
    }
    if report.checks:
        data["checks"] = list(report.checks)
    data["verdict"] = score.verdict(data)
    return data


def as_json(report: Report) -> str:
    """The report as JSON text; the same report gives the same bytes."""
    import json

    return json.dumps(as_data(report), indent=2, ensure_ascii=True) + "\n"


def fingerprints(sites: Iterable[SiteReport]) -> list[str]:
    """A name for each site that stays when lines move: its content, and which of its like it is.

    Args:
        sites: in the order of a report.
    """
    seen: Counter[tuple[str, str]] = Counter()
    names = []
    for site in sites:
        content = site.fingerprint
        seen[site.path, content] += 1
        names.append(f"{content}:{seen[site.path, content]}")
    return names


def _sites(sites: Sequence[SiteReport]) -> Iterator[dict[str, Any]]:
    for site, name in zip(sites, fingerprints(sites), strict=True):
        plain: dict[str, Any] = {}
        for each in fields(site):
            value = getattr(site, each.name)
            if (each.name == "cell" and value is None) or each.name == "snippet_start":
                continue
            plain[each.name] = value.value if isinstance(value, Enum) else value
        plain["snippet"] = {"start": site.snippet_start, "lines": list(site.snippet)}
        plain["fingerprint"] = name
        yield plain


def _file(file: FileReport) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "path": file.path,
        "status": file.status.value,
        "reason": file.reason,
    }
    if file.hunks:
        plain["hunks"] = [
            {"old": hunk.old, "new": hunk.new, "lines": list(hunk.lines)} for hunk in file.hunks
        ]
    return plain


def _provenance(provenance: Provenance) -> dict[str, Any]:
    return {
        "porter": provenance.version,
        "min_torch_origin": provenance.origin,
        "select": list(provenance.select),
        "ignore": list(provenance.ignore),
        "unsafe": provenance.unsafe,
        "torch_npu": provenance.torch_npu,
        "hardware": provenance.hardware,
        "rules": list(provenance.rules),
        "tables": [table._asdict() for table in provenance.tables],
    }


def _summary(report: Report) -> dict[str, Any]:
    left = report.having(Status.LEFT)
    rules: Counter[tuple[str, Status]] = Counter((s.rule, s.status) for s in report.sites)
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
            "accepted": sum(site.accepted for site in report.sites),
        },
        "effort": {
            "rewritten": sum(site.effort for site in report.having(Status.REWRITTEN)),
            "left": sum(site.effort for site in left),
        },
        "rules": {
            code: {status.value: rules[code, status] for status in Status}
            for code in _codes(report.sites)
        },
    }


def _codes(sites: Sequence[SiteReport]) -> list[str]:
    return sorted({site.rule for site in sites})


# Rules and names --------------------------------------------------------------------------------


@functools.cache
def _rule(code: str) -> dict[str, Any]:
    """What a view says about a rule without asking the catalog again."""
    from porter.catalog import load

    rule = load().get(code)
    if rule is None:
        return {
            "name": code, "title": "", "family": "other", "topic": CODE, "category": "mandatory",
            "safety": "manual", "effort": 0, "why": "", "advice": "", "references": [],
        }  # fmt: skip
    page = _sections(rule.doc)
    return {
        "name": rule.name,
        "title": rule.summary,
        "family": _family(rule),
        "topic": _topic(rule),
        "category": rule.category.value,
        "safety": rule.safety.value,
        "effort": rule.effort,
        "why": page.get("why it matters", ""),
        "advice": page.get("what to do by hand", "") or page.get("use instead", ""),
        "references": [url.rstrip(".,;:") for url in re.findall(_URL, page.get("references", ""))],
    }


def _family(rule: Rule) -> str:
    """The module of a rule as words; a module may name its FAMILY otherwise."""
    name = rule.check.__module__
    said = getattr(sys.modules.get(name), "FAMILY", None)
    return said if isinstance(said, str) else name.rpartition(".")[2].strip("_").replace("_", " ")


def _topic(rule: Rule) -> str:
    """What a rule looks at; a module names its TOPIC, or one for each code that has another."""
    said = getattr(sys.modules.get(rule.check.__module__), "TOPIC", CODE)
    return str(said.get(rule.code, CODE) if isinstance(said, Mapping) else said)


def _sections(page: str) -> dict[str, str]:
    parts = re.split(r"^## +(.+)$", page, flags=re.MULTILINE)
    return {
        title.strip().lower(): text.strip()
        for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


def _apis(report: Report) -> Iterator[dict[str, Any]]:
    """The names behind the sites, how often, and what the tables know of each."""
    from porter import support

    uses: dict[str, list[SiteReport]] = {}
    for site in report.sites:
        if site.symbol:
            uses.setdefault(site.symbol, []).append(site)
    target = _target(report)
    for name in sorted(uses):
        mine = uses[name]
        yield {
            "name": name,
            "uses": len(mine),
            "files": len({site.path for site in mine}),
            **{status.value: sum(s.status is status for s in mine) for status in Status},
            "known": [_known(found) for found in support.known(name, target)],
        }


def _target(report: Report) -> Target:
    try:
        return Target(report.target, version(report.min_torch))
    except ValueError:
        return Target(report.target)


def _known(found: support.Support) -> Mapping[str, str]:
    return {
        "kind": found.kind,
        "status": found.status.value,
        "equivalent": found.equivalent,
        "since": found.since,
        "note": "; ".join(text for text in (found.note, *found.limits) if text),
        "source": found.source,
    }
