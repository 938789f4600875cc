"""Results on disk: files replaced in one step, copies of whole trees, patches that undo."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from porter import git
from porter.patch import unified
from porter.problem import Problem
from porter.project import Skipped

_NOT_COPIED = frozenset(
    {".git", ".hg", ".svn", ".porter", "__pycache__", "node_modules", ".tox", ".nox"}
    | {".mypy_cache", ".ruff_cache", ".pytest_cache", ".hypothesis"}
)
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class WriteProblem(Problem):
    """Something that could not be written; ``message`` is one line that names it."""

    def __init__(self, message: str) -> None:
        """Keep ``message`` as the one line to show."""
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Change:
    """One rewritten file: ``path`` is POSIX, relative to the folder the patch applies in."""

    path: str
    before: bytes
    after: bytes


@dataclass(frozen=True)
class Copied:
    """What ``copy_tree`` did: the number of files, and what it left out and why."""

    files: int
    skipped: tuple[Skipped, ...]


# One file ---------------------------------------------------------------------------------------


def write_atomic(
    path: Path, data: bytes, *, expected: bytes | None, root: Path | None = None
) -> None:
    """Replace a file's content in one step: readers see the old or the new one, never a part.

    Mode bits are kept, and the owner where that is possible. A symbolic link stays one: the file
    it leads to is replaced.

    Args:
        path: the file; with ``expected`` None it need not exist.
        data: the new content.
        expected: the content that ``data`` was made from. None overwrites whatever is there.
        root: the folder that must hold the file a link leads to; by default that of ``path``.

    Raises:
        WriteProblem: the content is no longer ``expected``, the file is read-only, lies outside
            ``root`` or is not a regular file, or the disk refuses. Nothing has changed then.
    """
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(root if root is not None else path.parent)):
        raise WriteProblem(f"{path}: a symbolic link leads out of the folder; left alone")
    try:
        before = _state(path, real, expected)
        _replace(real, data, before)
    except OSError as problem:
        raise WriteProblem(_explained(path, problem)) from None
    except _Changed:
        raise WriteProblem(f"{path}: changed on disk during the run; left alone") from None


class _Changed(Exception):
    """The file is no longer the one that was read."""


def _state(path: Path, real: Path, expected: bytes | None) -> os.stat_result | None:
    """Return the state of the file to replace, None if there is none and none is expected."""
    try:
        found = real.lstat()
    except FileNotFoundError:
        if expected is None:
            return None
        raise _Changed from None
    if not stat.S_ISREG(found.st_mode):
        raise WriteProblem(f"{path}: not a regular file; left alone")
    if not found.st_mode & 0o222:
        raise WriteProblem(f"{path}: read-only; left alone (chmod u+w lets it be written)")
    if expected is not None:
        # Without following a link or waiting for a pipe that has just taken the file's place.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        flags |= getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(real, flags), "rb") as file:
            if file.read(len(expected) + 1) != expected:
                raise _Changed
            found = os.fstat(file.fileno())
    return found


def _replace(real: Path, data: bytes, before: os.stat_result | None) -> None:
    descriptor, name = tempfile.mkstemp(
        prefix=f".{real.name[:100]}.", suffix=".tmp", dir=real.parent
    )
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        _take_over(temporary, real, before)
        if _identity(real) != _identity_of(before):
            raise _Changed
        temporary.replace(real)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise
    _sync_folder(real.parent)


def _take_over(temporary: Path, real: Path, before: os.stat_result | None) -> None:
    """Give ``temporary`` the owner, mode and extended attributes of the file it replaces."""
    if before is None:
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)
        return
    if hasattr(os, "chown"):
        made = temporary.stat()
        if (made.st_uid, made.st_gid) != (before.st_uid, before.st_gid):
            with contextlib.suppress(OSError):  # only root may give a file away
                os.chown(temporary, before.st_uid, before.st_gid)
    if hasattr(os, "listxattr"):
        with contextlib.suppress(OSError):
            for attribute in os.listxattr(real):
                os.setxattr(temporary, attribute, os.getxattr(real, attribute))
    temporary.chmod(stat.S_IMODE(before.st_mode))


def _identity(path: Path) -> tuple[int, int, int] | None:
    try:
        return _identity_of(path.lstat())
    except FileNotFoundError:
        return None


def _identity_of(found: os.stat_result | None) -> tuple[int, int, int] | None:
    return None if found is None else (found.st_ino, found.st_size, found.st_mtime_ns)


def _sync_folder(folder: Path) -> None:
    """Make the new name durable where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _explained(path: Path, problem: OSError) -> str:
    if problem.errno in _FULL:
        return f"{path}: no space left to write it; left alone"
    if problem.errno in _DENIED:
        return f"{path}: its folder cannot be written ({problem.strerror}); left alone"
    return f"{path}: cannot be written: {problem.strerror or problem}; left alone"


# A copy of everything ---------------------------------------------------------------------------


def copy_tree(
    roots: Sequence[Path], out: Path, *, changes: Mapping[Path, bytes], force: bool = False
) -> Copied:
    """Copy ``roots`` to ``out``, with the changed files' new content, and leave them as they are.

    A file at ROOT/a/b goes to OUT/a/b. In a git work tree ignored files are not copied; elsewhere
    caches and virtual environments are not. Links that stay within their root are copied as links.

    Args:
        roots: folders, or single files.
        out: the folder to fill; made if need be.
        changes: new content by the path of the file it replaces.
        force: fill ``out`` even if it is not empty, overwriting what has the same name.

    Raises:
        WriteProblem: ``out`` lies in a root, holds one or is not empty, two roots want the same
            place, or the disk refuses.
    """
    _check_out(roots, out, force)
    copy = _Copy(Path(os.path.realpath(out)), {os.path.realpath(p): d for p, d in changes.items()})
    try:
        copy.target.mkdir(parents=True, exist_ok=True)
        for root in _outermost(roots):
            copy.add(root)
    except OSError as problem:
        name = problem.filename or out
        reason = "no space left" if problem.errno in _FULL else problem.strerror or problem
        raise WriteProblem(f"{os.fsdecode(name)}: {reason}; {out} is incomplete") from None
    missing = sorted(copy.contents.keys() - copy.taken.values())
    if missing:
        raise WriteProblem(f"{missing[0]}: changed, but not in any of the folders to copy")
    return Copied(copy.files, tuple(sorted(set(copy.skipped))))


def _check_out(roots: Sequence[Path], out: Path, force: bool) -> None:
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
    if real.is_dir() and not force and any(real.iterdir()):
        raise WriteProblem(f"{out}: is not empty; remove it, or force the copy")


def _outermost(roots: Sequence[Path]) -> list[Path]:
    """Return ``roots`` without those that lie within others."""
    real = {root: Path(os.path.realpath(root)) for root in roots}
    return [
        root
        for root, place in real.items()
        if not any(place != other and place.is_relative_to(other) for other in real.values())
    ]


@dataclass
class _Copy:
    """A copy under way: ``taken`` tells which file each place under ``target`` came from."""

    target: Path
    contents: Mapping[str, bytes]
    taken: dict[str, str] = field(default_factory=dict)
    skipped: list[Skipped] = field(default_factory=list)
    folders: set[Path] = field(default_factory=set)
    files: int = 0

    def add(self, root: Path) -> None:
        """Copy one root."""
        real = os.path.realpath(root)
        if not root.is_dir():
            self._file(root.name, real)
            return
        for relative in self._names(real):
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
        """Copy what ``relative`` is in ``root``: a file or a link."""
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
        place = self._place(relative, source)
        if place is None:
            return
        content = self.contents.get(source)
        if content is None:
            shutil.copyfile(source, place)
        else:
            place.write_bytes(content)
        place.chmod(stat.S_IMODE(Path(source).stat().st_mode) | stat.S_IWUSR)
        self.files += 1

    def _link(self, relative: str, source: str, root: str) -> None:
        target = os.path.realpath(source)
        if not Path(target).is_relative_to(root):
            self.skipped.append(Skipped(relative, "symbolic link out of the folder"))
            return
        place = self._place(relative, source)
        if place is None:
            return
        text = os.readlink(source)  # noqa: PTH115 - a Path would tidy the text
        lexical = os.path.normpath(f"{relative}/../{text}")
        if os.path.isabs(text) or lexical.startswith(".."):  # noqa: PTH117
            # It would lead back to the original.
            text = os.path.relpath(target, os.path.realpath(Path(source).parent))
        place.symlink_to(text)
        self.files += 1

    def _place(self, relative: str, source: str) -> Path | None:
        """Return the free place for ``relative``; None if ``source`` is there already."""
        place = self.target / relative
        earlier = self.taken.get(relative)
        if earlier == source:
            return None
        if earlier is not None:
            raise WriteProblem(
                f"{place}: both {earlier} and {source} belong there; copy them apart"
            )
        self.taken[relative] = source
        if os.path.lexists(place):
            if place.is_dir() and not place.is_symlink():
                raise WriteProblem(f"{place}: a folder stands where a file belongs")
            place.unlink()
        self._make_folder(place.parent)
        return place

    def _make_folder(self, folder: Path) -> None:
        """Make ``folder`` within the target, going through no link."""
        if folder in self.folders or folder == self.target:
            return
        self._make_folder(folder.parent)
        if folder.is_symlink() or (folder.exists() and not folder.is_dir()):
            raise WriteProblem(f"{folder}: stands where a folder belongs")
        folder.mkdir(exist_ok=True)
        self.folders.add(folder)


# Undo -------------------------------------------------------------------------------------------


def undo_patch(changes: Sequence[Change], folder: Path) -> Path:
    """Write the patch that takes ``changes`` back, as ``folder/.porter/undo-N.patch``.

    It applies in ``folder``, with ``patch -p1`` or (at the top of a work tree) ``git apply``.
    ``.porter`` gets a .gitignore that keeps it out of git.

    Raises:
        WriteProblem: ``.porter`` cannot be written or is a link.
    """
    home = folder / ".porter"
    pieces = [unified(change.path, change.after, change.before) for change in changes]
    try:
        if home.is_symlink():
            raise WriteProblem(f"{home}: is a symbolic link; remove it")
        home.mkdir(parents=True, exist_ok=True)
        with contextlib.suppress(FileExistsError), (home / ".gitignore").open("xb") as file:
            file.write(b"*\n")
        return _write_new(home, b"".join(pieces))
    except OSError as problem:
        raise WriteProblem(_explained(home, problem)) from None


def _write_new(home: Path, data: bytes) -> Path:
    """Write ``data`` under the first free number."""
    number = 1
    while True:
        path = home / f"undo-{number}.patch"
        try:
            with path.open("xb") as file:
                file.write(data)
        except FileExistsError:
            number += 1
        else:
            return path
