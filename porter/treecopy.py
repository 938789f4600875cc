"""A copy of whole trees, with some files changed.

The copy is planned first; then each file appears in one step. So a copy that was interrupted holds
whole files only, and the same command goes on with it: what is there already and is what belongs
there stays.
"""

from __future__ import annotations

import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from porter import git, temporary, workfolder
from porter.project import Skipped
from porter.stopping import Stopped
from porter.writing import WriteProblem, is_full

_NOT_COPIED = frozenset(
    {".git", ".hg", ".svn", ".porter", "__pycache__", "node_modules", ".tox", ".nox"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
)
_BLOCK = 1 << 20  # bytes that are compared at once


@dataclass(frozen=True)
class Copied:
    """What ``copy_tree`` did: the number of files, and what it left out and why."""

    files: int
    skipped: tuple[Skipped, ...]


def copy_tree(roots: Sequence[Path], out: Path, *, changes: Mapping[Path, bytes]) -> Copied:
    """Copy ``roots`` to ``out``, with the changed files' new content, and leave them as they are.

    A file at ROOT/a/b goes to OUT/a/b. In a git work tree ignored files are not copied; elsewhere
    caches and virtual environments are not. Links that stay within their root are copied as links.

    Args:
        roots: folders, or single files.
        out: the folder to fill; made if need be. It may hold part of exactly this copy.
        changes: new content by the path of the file it replaces.

    Raises:
        WriteProblem: ``out`` lies in a root, holds one or holds anything else, two roots want the
            same place, or the disk refuses.
        Stopped: a signal has ended the copy.
    """
    try:
        plan = _planned(roots, out, changes)
        out.mkdir(parents=True, exist_ok=True)
        with workfolder.opened(Path(os.path.realpath(out))) as work:
            # Once more: another run may just have written here.
            _fill(plan, work.folder, work.stage or work.folder, _check_content(plan, out))
    except OSError as problem:
        name = problem.filename2 or problem.filename or out
        reason = "no space left" if is_full(problem) else problem.strerror or problem
        raise WriteProblem(f"{os.fsdecode(name)}: {reason}; {_incomplete(out)}") from None
    except Stopped as stop:
        raise Stopped(stop.number, _incomplete(out) if out.is_dir() else "") from None
    return Copied(len(plan.taken), tuple(sorted(set(plan.skipped))))


def check(roots: Sequence[Path], out: Path, *, changes: Mapping[Path, bytes]) -> None:
    """Raise the WriteProblem that ``copy_tree`` would raise before it writes anything."""
    try:
        _planned(roots, out, changes)
    except OSError as problem:
        name = os.fsdecode(problem.filename or out)
        raise WriteProblem(f"{name}: {problem.strerror or problem}") from None


def _planned(roots: Sequence[Path], out: Path, changes: Mapping[Path, bytes]) -> _Plan:
    _check_out(roots, out)
    plan = _Plan({os.path.realpath(p): d for p, d in changes.items()})
    for root in _outermost(roots):
        plan.add(root)
    missing = sorted(plan.contents.keys() - plan.taken.values())
    if missing:
        raise WriteProblem(f"{missing[0]}: changed, but not in any of the folders to copy")
    if out.is_dir():
        _check_content(plan, out)
    return plan


def _incomplete(out: Path) -> str:
    return f"{out} is incomplete (the same command goes on with it)"


def _check_out(roots: Sequence[Path], out: Path) -> None:
    real = Path(os.path.realpath(out))
    for root in roots:
        source = Path(os.path.realpath(root))
        if real.is_relative_to(source):
            raise WriteProblem(
                f"{out}: lies in {root}, which is to be copied; choose another place"
            )
        if source.is_relative_to(real):
            raise WriteProblem(f"{out}: holds {root}, which is to be copied; choose another place")
    if os.path.lexists(out) and not real.is_dir():
        raise WriteProblem(f"{out}: exists and is no folder")


def _check_content(plan: _Plan, out: Path) -> set[str]:
    """Return which files of the plan are in ``out`` already.

    Raises:
        WriteProblem: there is something else.
    """
    done: set[str] = set()
    folders = {parent.as_posix() for name in plan.taken for parent in Path(name).parents}
    waiting = [""]
    while waiting:
        here = waiting.pop()
        with os.scandir(out / here) as scan:
            entries = list(scan)
        for entry in entries:
            name = f"{here}/{entry.name}" if here else entry.name
            if entry.is_dir(follow_symlinks=False):
                if name in folders:
                    waiting.append(name)
                    continue
                if name == workfolder.NAME:
                    continue
            elif entry.name.endswith(temporary.SUFFIX):
                continue
            elif plan.is_done(name, entry):
                done.add(name)
                continue
            raise WriteProblem(
                f"{out}: is not empty ({name} is not what this copy puts there); remove it, or "
                "choose another place"
            )
    return done


def _fill(plan: _Plan, target: Path, stage: Path, done: set[str]) -> None:
    folders: set[Path] = set()
    for name, source in plan.taken.items():
        if name in done:
            continue
        place = target / name
        if place.parent not in folders:
            place.parent.mkdir(parents=True, exist_ok=True)
            temporary.sweep(place.parent)
            folders.add(place.parent)
        text = plan.links.get(name)
        if text is not None:
            place.symlink_to(text)
        else:
            _copy_file(source, place, stage, plan.contents.get(source))


def _copy_file(source: str, place: Path, stage: Path, content: bytes | None) -> None:
    with temporary.made(stage, place.name) as new:
        if content is not None:
            new.file.write(content)
        else:
            with Path(source).open("rb") as file:
                shutil.copyfileobj(file, new.file, _BLOCK)
        new.file.close()
        new.path.chmod(stat.S_IMODE(Path(source).stat().st_mode) | stat.S_IWUSR)
        new.path.replace(place)


def _outermost(roots: Sequence[Path]) -> list[Path]:
    """Return ``roots`` without those that lie within others."""
    real = {root: Path(os.path.realpath(root)) for root in roots}
    return [
        root
        for root, place in real.items()
        if not any(place != other and place.is_relative_to(other) for other in real.values())
    ]


@dataclass
class _Plan:
    """What is to be copied.

    Args:
        contents: new content by the real path of the file that has another.
        taken: by the name in the copy, which file comes there.
        links: by the name in the copy, the text of what is to be a link.
        skipped: what is left out.
    """

    contents: Mapping[str, bytes]
    taken: dict[str, str] = field(default_factory=dict)
    links: dict[str, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)

    def is_done(self, name: str, entry: os.DirEntry[str]) -> bool:
        """Whether a file or link in the copy is what belongs there."""
        source, text = self.taken.get(name), self.links.get(name)
        if source is None or entry.is_symlink() != (text is not None):
            return False
        if text is not None:
            return os.readlink(entry.path) == text  # noqa: PTH115 - a Path would tidy the text
        if not entry.is_file(follow_symlinks=False):
            return False
        with Path(entry.path).open("rb") as there:
            content = self.contents.get(source)
            if content is not None:
                return there.read(len(content) + 1) == content
            with Path(source).open("rb") as file:
                return _equal(file, there)

    def add(self, root: Path) -> None:
        """Plan for one root."""
        real = os.path.realpath(root)
        if not root.is_dir():
            self._file(root.name, real)
            return
        for relative in self._names(real):
            if relative.startswith(f"{workfolder.NAME}/"):  # tracked by git or not, it is porter's
                self.skipped.append(Skipped(workfolder.NAME, "a folder of porter's own"))
            else:
                self._entry(relative, real)
        copied = set(self.taken.values())
        for source in self.contents:  # explicitly named files may be ignored ones
            if Path(source).is_relative_to(real) and source not in copied:
                self._file(Path(source).relative_to(real).as_posix(), source)

    def _names(self, real: str) -> Iterator[str]:
        """Yield the names below ``real`` to copy, relative to it."""
        known = git.listing(Path(real))
        if known is not None and not (known.tracked or known.untracked) and git.ignored(Path(real)):
            known = None
        if known is None:
            yield from self._walked(real, "")
        else:
            yield from self._listed(real, "", known)

    def _listed(self, real: str, start: str, known: git.Listing) -> Iterator[str]:
        yield from (start + name for name in (*known.tracked, *known.untracked))
        for name in known.nested:
            inner = f"{real}/{start}{name}"
            if not Path(inner).is_dir() or Path(inner).is_symlink():
                continue
            listing = git.listing(Path(inner)) if os.path.lexists(f"{inner}/.git") else None
            if listing is not None:
                yield from self._listed(real, f"{start}{name}/", listing)
            else:
                yield from self._walked(real, start + name)

    def _walked(self, real: str, start: str) -> Iterator[str]:
        waiting = [start]
        while waiting:
            here = waiting.pop()
            prefix = f"{here}/" if here else ""
            with os.scandir(f"{real}/{here}") as scan:
                entries = sorted(scan, key=lambda entry: entry.name)
            if here and any(entry.name == ".git" for entry in entries):
                known = git.listing(Path(real, here))
                if known is not None:
                    yield from self._listed(real, prefix, known)
                    continue
            for entry in entries:
                if not entry.is_dir(follow_symlinks=False):
                    yield prefix + entry.name
                elif entry.name in _NOT_COPIED or os.path.lexists(f"{entry.path}/pyvenv.cfg"):
                    continue
                else:
                    waiting.append(prefix + entry.name)

    def _entry(self, relative: str, root: str) -> None:
        """Plan for what ``relative`` is in ``root``: a file or a link."""
        source = f"{root}/{relative}"
        parent = os.path.realpath(Path(source).parent)
        if not Path(parent).is_relative_to(root):
            self.skipped.append(
                Skipped(relative, "a symbolic link above it leads out of the folder")
            )
            return
        try:
            mode = os.lstat(source).st_mode
        except FileNotFoundError:
            return  # tracked, but gone from disk
        if stat.S_ISLNK(mode):
            self._link(relative, source, root)
        elif stat.S_ISREG(mode):
            self._file(relative, os.path.join(parent, Path(source).name))  # noqa: PTH118
        else:
            self.skipped.append(Skipped(relative, "not a regular file"))

    def _file(self, relative: str, source: str) -> None:
        earlier = self.taken.setdefault(relative, source)
        if earlier != source:
            raise WriteProblem(
                f"{relative}: both {earlier} and {source} belong there; copy them apart"
            )

    def _link(self, relative: str, source: str, root: str) -> None:
        target = os.path.realpath(source)
        if not Path(target).is_relative_to(root):
            self.skipped.append(Skipped(relative, "symbolic link out of the folder"))
            return
        self._file(relative, source)
        text = os.readlink(source)  # noqa: PTH115 - a Path would tidy the text
        lexical = os.path.normpath(f"{relative}/../{text}")
        if os.path.isabs(text) or lexical.startswith(".."):  # noqa: PTH117
            # It would lead back to the original.
            text = os.path.relpath(target, os.path.realpath(Path(source).parent))
        self.links[relative] = text


def _equal(one: BinaryIO, other: BinaryIO) -> bool:
    while True:
        block = one.read(_BLOCK)
        if block != other.read(_BLOCK):
            return False
        if not block:
            return True
