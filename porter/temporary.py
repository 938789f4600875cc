"""Files in the making: named so that a later run knows them, and removes them if this one died.

Whoever makes such a file holds a lock on it, which ends with the process whatever ends it. So a
file that can be locked belongs to nobody any more. Windows, which has no such locks, lets nobody
remove a file that is open; there, and on disks without locks, only old ones are removed.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, NamedTuple

from porter import stopping

SUFFIX = ".porter-tmp"
#: Without locks, a file that has not been touched for so long belongs to nobody.
STALE_SECONDS = 24 * 3600
_NEW_SECONDS = 60


class Temporary(NamedTuple):
    """A file in the making, open for writing."""

    file: BinaryIO
    path: Path


@contextlib.contextmanager
def made(folder: Path, name: str) -> Iterator[Temporary]:
    """A new file that becomes the file ``name``; gone at the end unless it has been renamed.

    Raises:
        OSError: the folder or the disk refuses.
    """
    found: list[tuple[int, Path]] = []
    try:
        with stopping.deferred():  # a signal does not come between the file and its removal
            found.append(_locked(folder, prefix_of(name)))
        descriptor, path = found[0]
        # The lock must end with the renaming, not with the closing, which comes before it.
        kept = -1 if sys.platform == "win32" else os.dup(descriptor)
        with os.fdopen(descriptor, "wb") as file:
            found[0] = kept, path
            yield Temporary(file, path)
    finally:
        with stopping.deferred():
            for descriptor, path in found:
                with contextlib.suppress(OSError):
                    path.unlink()
                if descriptor >= 0:
                    os.close(descriptor)


def prefix_of(name: str) -> str:
    """How the names of files begin that are to become ``name``."""
    # A name has up to 255 bytes, and a letter up to four.
    return f".{os.fsencode(name)[:100].decode('utf-8', 'ignore')}."


def _locked(folder: Path, prefix: str) -> tuple[int, Path]:
    while True:
        descriptor, name = tempfile.mkstemp(prefix=prefix, suffix=SUFFIX, dir=folder)
        lock(descriptor, wait=True)
        if os.fstat(descriptor).st_nlink:
            return descriptor, Path(name)
        os.close(descriptor)  # another run took it for left over before it was locked


def sweep(folder: Path, prefix: str = "") -> None:
    """Remove what runs that died left in ``folder``; never raises for a bad disk."""
    with contextlib.suppress(OSError), os.scandir(folder) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.name.endswith(SUFFIX):
                _remove(Path(entry.path))


@contextlib.contextmanager
def folder(prefix: str) -> Iterator[Path]:
    """A folder in the system's place for temporary files, which goes at the end.

    If this process dies, the next one that makes a folder of this kind removes it.
    """
    _sweep_folders(Path(tempfile.gettempdir()), prefix)
    with tempfile.TemporaryDirectory(prefix=prefix, ignore_cleanup_errors=True) as name:
        held = None if sys.platform == "win32" else os.open(name, os.O_RDONLY)
        try:
            if held is not None:
                lock(held, wait=True)
            yield Path(os.path.realpath(name))
        finally:
            if held is not None:
                os.close(held)


def _sweep_folders(place: Path, prefix: str) -> None:
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.startswith(prefix) and entry.is_dir(follow_symlinks=False):
                _remove_folder(Path(entry.path))


def _remove_folder(path: Path) -> None:
    if sys.platform == "win32":
        return
    with contextlib.suppress(OSError):
        held = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        try:
            state = os.fstat(held)
            # A new one may not be locked yet.
            old = time.time() - state.st_mtime > _NEW_SECONDS
            if old and state.st_uid == os.getuid() and lock(held, wait=False):
                shutil.rmtree(path, ignore_errors=True)
        finally:
            os.close(held)


def _remove(path: Path) -> None:
    flags = os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0) | getattr(os, "O_NONBLOCK", 0)
    with contextlib.suppress(OSError):
        descriptor = os.open(path, flags)
        try:
            free = lock(descriptor, wait=False)
            old = time.time() - os.fstat(descriptor).st_mtime > STALE_SECONDS
            if free:
                path.unlink()  # still locked: whoever waits for the lock sees that it is gone
        finally:
            os.close(descriptor)
        if free is None and old:
            path.unlink()


def lock(descriptor: int, *, wait: bool) -> bool | None:
    """Lock an open file or folder until it is closed.

    Returns:
        False if another process holds it, None where there are no such locks.
    """
    if sys.platform == "win32":
        return None
    import fcntl

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError:
        return None
    return True
