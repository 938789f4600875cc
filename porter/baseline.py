"""A baseline: the findings that a repository accepts for now, so that only new ones count.

An entry is a path, a rule and a hash of the line's content without its blanks, and how often it
may be there: moved lines stay accepted, one more copy of a line does not. A run drops entries
whose findings are gone, so the file shrinks by itself and what was fixed cannot come back.
"""

from __future__ import annotations

import json
import os
from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from porter import files
from porter.problem import Problem
from porter.report import FileStatus, Report, SiteReport
from porter.rule import Status
from porter.shape import misfit

FORMAT = 1
SHAPE: dict[str, Any] = {
    "target": str,
    "findings": [{"path": str, "rule": str, "content": str, "count": int}],
}

Key = tuple[str, str, str]
"""Path relative to the baseline's folder, rule, hash of the content."""


class BaselineProblem(Problem):
    """A baseline that cannot be used; the text is one line that names the file."""


@dataclass(frozen=True)
class Baseline:
    """Accepted findings.

    Args:
        target: the target that they are about.
        entries: how many findings of each kind are accepted.
        source: the file as it was read, if it was.
    """

    target: str
    entries: Mapping[Key, int]
    source: bytes | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True)
class Applied:
    """What a baseline makes of a report.

    Args:
        report: the report with its accepted findings marked.
        kept: the baseline without what is gone.
        gone: the number of findings dropped from it.
    """

    report: Report
    kept: Baseline
    gone: int


def read(path: Path) -> Baseline:
    """Read a baseline.

    Raises:
        BaselineProblem: the file is missing or malformed.
    """
    try:
        source = files.read(path, files.REPORT)
        data: Any = json.loads(source)
    except OSError as problem:
        why = problem.strerror or problem
        raise BaselineProblem(
            f"{path}: cannot be read: {why} (`porter check --write-baseline {path}` writes one)"
        ) from None
    except (ValueError, RecursionError) as problem:
        raise BaselineProblem(f"{path}: not valid JSON: {problem}") from None
    wrong = misfit(data, {"porter-baseline": int})
    if not wrong and data["porter-baseline"] != FORMAT:
        raise BaselineProblem(
            f"{path}: its format is {data['porter-baseline']}, this porter reads {FORMAT}"
        )
    wrong = wrong or misfit(data, SHAPE)
    if wrong:
        raise BaselineProblem(f"{path}: not a baseline of porter: {wrong}")
    entries: Counter[Key] = Counter()
    for number, entry in enumerate(data["findings"]):
        if entry["count"] < 1:
            raise BaselineProblem(
                f"{path}: not a baseline of porter: findings[{number}].count must be at least 1"
            )
        # Two branches that accept the same finding leave two entries when they are merged.
        key = entry["path"], entry["rule"], entry["content"]
        entries[key] = max(entries[key], entry["count"])
    return Baseline(data["target"], dict(entries), source)


def as_json(baseline: Baseline) -> str:
    """The text of a baseline: sorted, and with a line for each entry, so that it merges well."""
    rows = [
        json.dumps({"path": path, "rule": rule, "content": content, "count": count})
        for (path, rule, content), count in sorted(baseline.entries.items())
    ]
    listed = ",\n".join(f"    {row}" for row in rows)
    findings = f"[\n{listed}\n  ]" if rows else "[]"
    return (
        f'{{\n  "porter-baseline": {FORMAT},\n  "target": {json.dumps(baseline.target)},\n'
        f'  "findings": {findings}\n}}\n'
    )


def of(report: Report, prefix: str) -> Baseline:
    """The baseline that accepts every finding of a report.

    Args:
        report: the report.
        prefix: the report's folder, relative to that of the baseline (POSIX; "." is the same).
    """
    counts = Counter(_key(site, prefix) for site in report.sites if _counts(site))
    return Baseline(report.target, counts)


@dataclass(frozen=True)
class Bounds:
    """Findings about files that are asked for one thing, also where a run does not read them.

    Args:
        rule: the only rule that speaks of these files then.
        paths: of the files, relative to the baseline's folder.
        waiting: findings that hold and were not reported this time.
    """

    rule: str
    paths: Collection[str]
    waiting: Sequence[SiteReport] = ()


def apply(
    report: Report,
    baseline: Baseline,
    prefix: str,
    present: Collection[str] = (),
    bounds: Bounds | None = None,
) -> Applied:
    """Mark the findings that a baseline accepts, and drop from it what is gone.

    Args:
        report: the report.
        baseline: what is accepted.
        prefix: the report's folder, relative to that of the baseline.
        present: paths of the baseline that exist though this run did not read them. Their entries
            stay, as do those of rules that were not in force and of files that failed.
        bounds: what is known of the project's requirements, whatever this run read.

    Raises:
        BaselineProblem: the baseline is about another target.
    """
    if baseline.target != report.target:
        raise BaselineProblem(
            f"the baseline is about the target {baseline.target}, not {report.target}"
        )
    left = Counter(dict(baseline.entries))
    read_ = {
        moved(prefix, file.path)
        for file in report.files
        if file.status in (FileStatus.CHANGED, FileStatus.UNCHANGED)
    }
    failed = {moved(prefix, file.path) for file in report.failed}
    # A baseline's file that is gone may have been renamed: its entries then count anywhere.
    nowhere: Counter[tuple[str, str]] = Counter()
    for (path, rule, content), count in baseline.entries.items():
        if path not in read_ and path not in failed and path not in present:
            nowhere[rule, content] += count
    sites = []
    for site in report.sites:
        key = _key(site, prefix)
        accepted = _counts(site) and _taken(left, nowhere, key)
        sites.append(replace(site, accepted=True) if accepted else site)
    marked = replace(report, sites=tuple(sites))
    known = set(report.provenance.rules)
    kept = {}
    waiting = Counter(_key(site, prefix) for site in bounds.waiting) if bounds else Counter()
    for key, count in baseline.entries.items():
        path, rule, _ = key
        if bounds and rule == bounds.rule and path in bounds.paths and rule in known:
            here = max(count - left[key], min(count, waiting[key]))
            if here:
                kept[key] = here
            continue
        sure = path in read_ or (path not in failed and path not in present)
        here = count - left[key] if sure and (rule in known or not known) else count
        if here:
            kept[key] = here
    for key, count in Counter(_key(s, prefix) for s in sites if s.accepted).items():
        kept[key] = max(kept.get(key, 0), count)
    gone = sum(baseline.entries.values()) - sum(kept.values())
    return Applied(marked, Baseline(baseline.target, kept), gone)


def _taken(left: Counter[Key], nowhere: Counter[tuple[str, str]], key: Key) -> bool:
    if left[key] > 0:
        left[key] -= 1
        return True
    if nowhere[key[1:]] > 0:
        nowhere[key[1:]] -= 1
        return True
    return False


def _counts(site: SiteReport) -> bool:
    return site.status is not Status.INFORMATION


def _key(site: SiteReport, prefix: str) -> Key:
    return moved(prefix, site.path), site.rule, site.fingerprint


def moved(prefix: str, path: str) -> str:
    """A report's path relative to another folder."""
    return Path(os.path.normpath(f"{prefix}/{path}")).as_posix()


def paths(baseline: Baseline) -> Iterable[str]:
    """The paths that a baseline names."""
    return sorted({path for path, _, _ in baseline.entries})
