"""Which processes belong to a command, and how much memory they hold.

A command may start processes that leave its session (torchrun does so for every worker), so they
are told by a mark in their environment, which children inherit. Linux tells environments and
memory in /proc (proc(5)); elsewhere nothing is known, and only the session is left to go by.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

_PROC = Path("/proc")
_CGROUP = Path("/sys/fs/cgroup")


class Family:
    """The processes that carry a mark in their environment.

    Args:
        mark: "NAME=value".
    """

    def __init__(self, mark: str) -> None:
        """Look for `mark`, which no other process has."""
        self._mark = b"\0" + os.fsencode(mark) + b"\0"
        self._foreign: set[int] = set()

    def members(self) -> list[int]:
        """The process ids, without those that have ended and wait for their parent."""
        found = []
        for pid in _pids():
            if pid not in self._foreign and self._is_member(pid):
                found.append(pid)
        return found

    def _is_member(self, pid: int) -> bool:
        try:
            text = (_PROC / str(pid) / "environ").read_bytes()
        except PermissionError:
            self._foreign.add(pid)
            return False
        except OSError:
            return False
        # The environment is empty for a moment while a process is started; ask again later.
        if text and self._mark not in b"\0" + text + b"\0":
            self._foreign.add(pid)
            return False
        return bool(text) and _state(pid) not in ("Z", "X", "")


def _pids() -> list[int]:
    try:
        return [int(name) for name in os.listdir(_PROC) if name.isdecimal()]  # noqa: PTH208
    except OSError:
        return []


def _state(pid: int) -> str:
    try:
        text = (_PROC / str(pid) / "stat").read_text(errors="replace")
    except OSError:
        return ""
    return text.rpartition(") ")[2][:1]


def command_line(pid: int) -> str:
    """What a process was started with; empty if it is not known."""
    try:
        text = (_PROC / str(pid) / "cmdline").read_bytes()
    except OSError:
        return ""
    return " ".join(text.decode("utf-8", "replace").strip("\0").split("\0"))


def memory(pids: Iterable[int]) -> int:
    """Bytes that processes hold: what each has alone, and the largest of what they share."""
    page = os.sysconf("SC_PAGE_SIZE") if hasattr(os, "sysconf") else 4096
    alone = shared = 0
    for pid in pids:
        with contextlib.suppress(OSError, ValueError, IndexError):
            fields = (_PROC / str(pid) / "statm").read_text().split()
            resident, common = int(fields[1]) * page, int(fields[2]) * page
            alone += resident - common
            shared = max(shared, common)
    return alone + shared


def available() -> int:
    """Bytes that this machine, or this container, has left; 0 if it is not known."""
    found = []
    with contextlib.suppress(OSError, ValueError, IndexError):
        for line in (_PROC / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                found.append(int(line.split()[1]) * 1024)
    with contextlib.suppress(OSError, ValueError):
        most = int((_CGROUP / "memory.max").read_text())
        found.append(most - int((_CGROUP / "memory.current").read_text()))
    return max(0, min(found)) if found else 0
