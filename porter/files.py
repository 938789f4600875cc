"""Reading files that may be anything: pipes, devices, links to them, or files without an end."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

_FLAGS = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_CLOEXEC", 0)
#: A pipe that has just taken the file's place must not be waited for.
_FLAGS |= getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_NOCTTY", 0)

#: The most that a file of settings, or a list of requirements, may hold, in bytes.
SETTINGS = 1_000_000
#: The most that a report or baseline may hold, in bytes.
REPORT = 1_000_000_000


def read(path: str | Path, most: int | None = None) -> bytes:
    """The content of a regular file.

    A file that grows meanwhile is read as far as it reached at the start, and one that the system
    makes up (below /proc) only if it ends within `most`.

    Args:
        path: the file, or a link to it.
        most: the most bytes that it may hold; None takes what its folder says.

    Raises:
        OSError: it cannot be read, is no regular file (EINVAL), or holds more (EFBIG).
    """
    descriptor = os.open(path, _FLAGS)
    with os.fdopen(descriptor, "rb", buffering=0) as file:
        state = os.fstat(descriptor)
        if not stat.S_ISREG(state.st_mode):
            raise OSError(errno.EINVAL, "not a regular file", str(path))
        limit = state.st_size if most is None else most
        if state.st_size > limit:
            raise _too_large(path, limit)
        wanted = state.st_size or limit + 1  # files that the system makes up have no size
        pieces, size = [], 0
        while size < wanted and (piece := file.read(min(wanted - size, 1 << 20))):
            pieces.append(piece)
            size += len(piece)
        if size > limit:
            raise _too_large(path, limit)
        return b"".join(pieces)


def _too_large(path: str | Path, limit: int) -> OSError:
    return OSError(errno.EFBIG, f"holds more than {limit:,} bytes", str(path))
