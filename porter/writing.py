"""Files replaced in one step."""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from pathlib import Path

from porter import stopping, temporary
from porter.problem import Problem

_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}


class WriteProblem(Problem):
    """Something that could not be written; ``message`` is one line that names it."""

    def __init__(self, message: str) -> None:
        """Keep ``message`` as the one line to show."""
        super().__init__(message)
        self.message = message


class ChangedMeanwhile(WriteProblem):
    """The file is no longer the one that was read."""


def write_atomic(
    path: Path,
    data: bytes,
    *,
    expected: bytes | None,
    root: Path | None = None,
    stage: Path | None = None,
) -> None:
    """Replace a file's content in one step: readers see the old or the new one, never a part.

    That holds after a loss of power too, as far as the disk keeps what it confirms. Mode bits are
    kept, and the owner where that is possible. A symbolic link stays one: the file it leads to is
    replaced. A signal that ends the run waits until the file is replaced.

    Args:
        path: the file; with ``expected`` None it need not exist.
        data: the new content.
        expected: the content that ``data`` was made from. None overwrites whatever is there.
        root: the folder that must hold the file a link leads to; by default that of ``path``.
        stage: where the new content is written before it takes the file's place; by default, and
            if that is another disk, beside the file.

    Raises:
        ChangedMeanwhile: the content is no longer ``expected``. Nothing has changed then.
        WriteProblem: the file is read-only, lies outside ``root`` or is not a regular file, or the
            disk refuses. Nothing has changed then.
    """
    real = Path(os.path.realpath(path))
    if not real.is_relative_to(os.path.realpath(root if root is not None else path.parent)):
        raise WriteProblem(f"{path}: a symbolic link leads out of the folder; left alone")
    try:
        with stopping.deferred():
            before = _state(path, real, expected)
            if stage is None or not _replaced(stage, real, data, before):
                temporary.sweep(real.parent, temporary.prefix_of(real.name))
                _replace(real.parent, real, data, before)
    except OSError as problem:
        raise WriteProblem(explained(path, problem)) from None
    except _Changed:
        raise ChangedMeanwhile(f"{path}: changed on disk during the run; left alone") from None


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
    if not os.access(real, os.W_OK, effective_ids=os.access in os.supports_effective_ids):
        # Its folder may well let it be replaced; that would go round what its owner allows.
        raise WriteProblem(f"{path}: this user may not write it; left alone")
    if expected is not None:
        # Without following a link or waiting for a pipe that has just taken the file's place.
        flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
        flags |= getattr(os, "O_BINARY", 0)
        with os.fdopen(os.open(real, flags), "rb") as file:
            if file.read(len(expected) + 1) != expected:
                raise _Changed
            found = os.fstat(file.fileno())
    return found


def _replaced(stage: Path, real: Path, data: bytes, before: os.stat_result | None) -> bool:
    """Replace by way of another folder; false if that folder cannot serve."""
    try:
        if not os.access(stage, os.W_OK) or stage.stat().st_dev != real.parent.stat().st_dev:
            return False
        _replace(stage, real, data, before)
    except OSError as problem:
        if problem.errno != errno.EXDEV:  # one disk may be mounted twice
            raise
        return False
    return True


def _replace(stage: Path, real: Path, data: bytes, before: os.stat_result | None) -> None:
    with temporary.made(stage, real.name) as new:
        new.file.write(data)
        sync(new)
        _take_over(new.path, real, before)
        if _identity(real) != _identity_of(before):
            raise _Changed
        new.file.close()
        new.path.replace(real)
    sync_folder(real.parent)


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


def sync(new: temporary.Temporary) -> None:
    """Have the disk keep what was written to a file."""
    new.file.flush()
    os.fsync(new.file.fileno())


def sync_folder(folder: Path) -> None:
    """Have the disk keep new names, where the system can."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def explained(path: Path, problem: OSError) -> str:
    """One line about a file that could not be written."""
    if problem.errno in _FULL:
        return f"{path}: no space left to write it; left alone"
    if problem.errno in _DENIED:
        return f"{path}: its folder cannot be written ({problem.strerror}); left alone"
    return f"{path}: cannot be written: {problem.strerror or problem}; left alone"


def is_full(problem: OSError) -> bool:
    """Whether the disk, a quota or a limit has no room left."""
    return problem.errno in _FULL
