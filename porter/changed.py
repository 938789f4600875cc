"""What has changed since a revision: files, and lines within them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

from porter import git
from porter.files import read
from porter.patch import changes
from porter.problem import Problem
from porter.report import Report, SiteReport

_ENDS = re.compile(r"\r\n|\r|\n")
DEFAULT = "HEAD"


class RevisionProblem(Problem):
    """A revision that cannot be compared with; the text is one line for the user."""


def files(paths: Iterable[Path], revision: str) -> set[str]:
    """The real paths of files that differ from where the branch left `revision`.

    Staged, unstaged and untracked files count too.

    Args:
        paths: files and folders that name the repositories to ask.
        revision: as git writes it.

    Raises:
        RevisionProblem: a path is in no repository, or that has no such revision.
    """
    found: set[str] = set()
    for top, start in _repositories(paths, revision).items():
        names = git.changed_since(top, start)
        if names is None:
            raise RevisionProblem(f"git cannot compare with {revision!r} in {top.name}")
        found.update(os.path.realpath(top / name) for name in names)
    return found


def only_changed_lines(
    report: Report, place: Callable[[str], Path], paths: Iterable[Path], revision: str
) -> Report:
    """The report with only those sites that stand on changed lines.

    Args:
        report: the report.
        place: from a path of the report to the file.
        paths: files and folders that name the repositories to ask.
        revision: as git writes it.

    Raises:
        RevisionProblem: as `files`.
    """
    tops = _repositories(paths, revision)
    differing = files(paths, revision)
    kept: list[SiteReport] = []
    lines: dict[str, Callable[[SiteReport], bool]] = {}
    for site in report.sites:
        path = os.path.realpath(place(site.path))
        if path not in differing:
            continue
        if path not in lines:
            lines[path] = _touched(Path(path), tops)
        if lines[path](site):
            kept.append(site)
    return replace(report, sites=tuple(kept))


def _repositories(paths: Iterable[Path], revision: str) -> dict[Path, str]:
    """The work trees of paths, each with the commit to compare with."""
    found: dict[Path, str] = {}
    for path in paths:
        top = git.toplevel(path)
        if top is None:
            why = git.refusal(path)
            raise RevisionProblem(
                f"{path} is in no git repository{f' ({why})' if why else ''}, so nothing tells "
                "what has changed"
            )
        if top not in found:
            start = git.fork(top, revision)
            if start is None:
                raise RevisionProblem(
                    f"git knows no revision {revision!r} here (write --changed=REV; a shallow "
                    "clone lacks older ones)"
                )
            found[top] = start
    return found


def _touched(path: Path, tops: dict[Path, str]) -> Callable[[SiteReport], bool]:
    """A function that tells whether a site of the file stands on a changed line."""
    top = next((t for t in tops if path.is_relative_to(t)), None)
    old = git.content(top, tops[top], path.relative_to(top).as_posix()) if top else None
    if old is None:
        return lambda site: True
    try:
        new = read(path)
    except OSError:
        return lambda site: True
    if path.suffix.lower() == ".ipynb":
        before, after = _cells(old), _cells(new)
        if before is None or after is None:
            return lambda site: True
        numbers = _added([line for _, _, line in before], [line for _, _, line in after])
        places = {after[n][:2] for n in numbers}
        return lambda site: _on(site, lambda line: ((site.cell or 0), line) in places)
    marked = {n + 1 for n in _added(_lines(old), _lines(new))}
    return lambda site: _on(site, marked.__contains__)


def _on(site: SiteReport, marked: Callable[[int], bool]) -> bool:
    # Code before and after may begin with lines that an edit of the site needs elsewhere.
    count = len(_ENDS.split(site.before)) if site.before else 1
    return any(marked(line) for line in range(site.line, site.line + count))


def _lines(data: bytes) -> list[str]:
    return _ENDS.split(data.decode("utf-8", "surrogateescape"))


def _added(old: Sequence[str], new: Sequence[str]) -> list[int]:
    """The indexes of new lines that differ from the old text."""
    return [n for block in changes(old, new) for n in range(block.c, block.d)]


def _cells(data: bytes) -> list[tuple[int, int, str]] | None:
    """The lines of a notebook: cell and line, both from 1, and the text."""
    try:
        cells = json.loads(data)["cells"]
        found = []
        for number, cell in enumerate(cells, 1):
            source = cell["source"]
            text = source if isinstance(source, str) else "".join(source)
            found += [(number, at, line) for at, line in enumerate(_ENDS.split(text), 1)]
        return found
    except (ValueError, KeyError, TypeError):
        return None
