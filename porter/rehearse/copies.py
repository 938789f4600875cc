"""A copy of a project to run: everything that its programs may read, and nothing of it shared.

Unlike a copy of the code (`porter.writing.copy_tree`) it has what git ignores, for data and
checkpoints are ignored. A file of the original is never linked, unless its folder was named: what
the program writes must not reach the original. Environments and caches are the exception: linked
or left out, for nothing in them is the project's.
"""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from porter.problem import Problem

#: Bytes that a copy may have unless another limit is given.
LIMIT = 4 << 30
_LEFT_OUT = frozenset(
    {"__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis", ".porter"}
)
_LINKED = frozenset({"node_modules", ".tox", ".nox"})
#: Histories larger than this are left out: programs at most ask for the commit.
_HISTORY_LIMIT = 256 << 20
_HISTORIES = frozenset({".git", ".hg", ".svn"})


class CopyProblem(Problem):
    """A project that cannot be copied; the text is one line."""


@dataclass
class _Plan:
    """What is to be made, by relative path.

    Args:
        folders: folders to make, outer ones first.
        files: files to copy, with their sizes.
        links: links to make, with what they lead to.
    """

    folders: list[str] = field(default_factory=list)
    files: dict[str, int] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)


def copy(
    root: Path,
    out: Path,
    changes: Mapping[Path, bytes],
    linked: Collection[Path] = (),
    limit: int = LIMIT,
) -> None:
    """Copy a project.

    Args:
        root: the project.
        out: an existing empty folder outside of it.
        changes: new content by the path of the file it replaces.
        linked: folders of the project to link instead; what is written there reaches the original.
        limit: bytes that the copy may have.

    Raises:
        CopyProblem: the project is too large, or cannot be read, or the copy cannot be written.
    """
    real = os.path.realpath(root)
    contents = {os.path.realpath(path): data for path, data in changes.items()}
    try:
        plan = _planned(real, {os.path.realpath(path) for path in linked})
        _check_size(plan, real, limit)
        for folder in plan.folders:
            (out / folder).mkdir()
        for name in plan.files:
            # What cannot be read here cannot be read by the program either.
            with contextlib.suppress(PermissionError):
                _copy_file(f"{real}/{name}", out / name, contents.get(f"{real}/{name}"))
        for name, target in plan.links.items():
            (out / name).symlink_to(target)
    except OSError as problem:
        raise CopyProblem(_explained(problem, out)) from None


def _explained(problem: OSError, out: Path) -> str:
    if problem.errno in (errno.ENOSPC, errno.EDQUOT):
        return f"no space left for a copy to rehearse in {out.parent}; set TMPDIR to another place"
    name = os.fsdecode(problem.filename) if problem.filename else str(out)
    return f"{name}: cannot be copied: {problem.strerror or problem}"


def _copy_file(source: str, place: Path, content: bytes | None) -> None:
    if content is None:
        shutil.copyfile(source, place)
    else:
        place.write_bytes(content)
    shutil.copystat(source, place)
    place.chmod(stat.S_IMODE(place.stat().st_mode) | stat.S_IWUSR)


def _planned(real: str, linked: set[str]) -> _Plan:
    plan = _Plan()
    waiting = [""]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(f"{real}/{here}") as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
        except PermissionError:
            continue
        for entry in entries:
            relative = f"{here}/{entry.name}" if here else entry.name
            if entry.is_symlink():
                plan.links[relative] = _link_target(entry.path, real)
            elif entry.is_dir():
                if _linked_folder(entry, linked):
                    plan.links[relative] = os.path.realpath(entry.path)
                elif not _left_out(entry):
                    plan.folders.append(relative)
                    waiting.append(relative)
            elif entry.is_file():
                plan.files[relative] = entry.stat().st_size
    return plan


def _linked_folder(entry: os.DirEntry[str], linked: set[str]) -> bool:
    return (
        entry.name in _LINKED
        or os.path.lexists(f"{entry.path}/pyvenv.cfg")
        or os.path.lexists(f"{entry.path}/conda-meta")
        or os.path.realpath(entry.path) in linked
    )


def _left_out(entry: os.DirEntry[str]) -> bool:
    if entry.name in _HISTORIES:
        return sum(_sizes(entry.path)) > _HISTORY_LIMIT
    return entry.name in _LEFT_OUT


def _sizes(folder: str) -> Iterator[int]:
    for here, _, names in os.walk(folder):
        for name in names:
            try:
                yield os.lstat(f"{here}/{name}").st_size
            except OSError:
                continue


def _link_target(path: str, real: str) -> str:
    """Where a link of the copy leads: within the copy if the link stays within the project."""
    text = os.readlink(path)  # noqa: PTH115 - a Path would tidy the text
    target = os.path.realpath(path)
    if target != real and not target.startswith(real + os.sep):
        return target
    return os.path.relpath(target, os.path.realpath(Path(path).parent)) if text else target


def _check_size(plan: _Plan, real: str, limit: int) -> None:
    total = sum(plan.files.values())
    if total <= limit:
        return
    sizes: dict[str, int] = {}
    for name, size in plan.files.items():
        top = name.partition("/")[0]
        sizes[top] = sizes.get(top, 0) + size
    largest = sorted(sizes, key=lambda name: -sizes[name])[:3]
    named = ", ".join(f"{name} ({sizes[name] / 2**30:.1f} GiB)" for name in largest)
    raise CopyProblem(
        f"{real}: {total / 2**30:.1f} GiB are too much for a copy to rehearse in; the largest: "
        f"{named}. --rehearse-link FOLDER links a folder that the program only reads, and "
        "--rehearse-copy GIB raises the limit"
    )
