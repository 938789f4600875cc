"""The files through which the units of a fleet talk, and those that outlive a run.

    results/   what finished units gave, called by the SHA-256 of all that it depends on: the code
               of porter, the settings, and the bytes that were read. An entry is right or absent.
    work/      one folder for each run under way; gone when it ends.

Everything is written in one step, so a unit that is killed leaves nothing half done, and two runs
at the same time do not harm each other.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from porter import cache, temporary
from porter.problem import Problem
from porter.writing import write_atomic

#: Results not used for so long are removed.
MAX_AGE_SECONDS = 60 * 24 * 3600
#: Folders of runs that were killed are removed when nothing has been written there for so long.
STALE_SECONDS = 2 * 24 * 3600
_IGNORE = ".gitignore"


class StateProblem(Problem):
    """The folder cannot be used; the text is one line."""


def begun(state: Path) -> Path:
    """Prepare the folder; returns the one of this run.

    Raises:
        StateProblem: it cannot be written.
    """
    try:
        for folder in (state / "results", state / "work"):
            folder.mkdir(parents=True, exist_ok=True)
        if not (state / _IGNORE).exists():
            write_atomic(state / _IGNORE, b"*\n", expected=None)
        return Path(tempfile.mkdtemp(prefix="run-", dir=state / "work"))
    except OSError as problem:
        raise StateProblem(f"{state}: cannot be written: {problem.strerror}") from None


def ended(state: Path, work: Path) -> None:
    """Remove the folder of a run, and what nobody has used for long."""
    shutil.rmtree(work, ignore_errors=True)
    now = time.time()
    for folder in _listed(state / "work"):
        with contextlib.suppress(OSError):
            if now - folder.stat().st_mtime > STALE_SECONDS:
                shutil.rmtree(folder, ignore_errors=True)
    for shelf in _listed(state / "results"):
        for file in _listed(shelf):
            with contextlib.suppress(OSError):
                if now - file.stat().st_mtime > MAX_AGE_SECONDS:
                    file.unlink()


def _listed(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def result(state: Path, key: bytes) -> Path:
    """Where the result under a key is, or would be."""
    name = key.hex()
    return state / "results" / name[:2] / name[2:]


def used(path: Path) -> bool:
    """Whether there is such a result; it is kept for longer then."""
    try:
        os.utime(path)
    except OSError:
        return False
    return True


def write(path: Path, data: bytes) -> None:
    """Write a file, and its folder where that is missing."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomic(path, data, expected=None)


def write_json(path: Path, value: object) -> None:
    """Write plain data."""
    write(path, json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode())


def leave_json(path: Path, value: object) -> None:
    """Write plain data for other units of this run."""
    _leave(path, json.dumps(value, ensure_ascii=True, separators=(",", ":")).encode())


def leave_packed(path: Path, value: object) -> None:
    """Write dataclasses of porter for other units of this run."""
    _leave(path, cache.packed(value))


def _leave(path: Path, data: bytes) -> None:
    """As `write`, but after a loss of power the file may be anything: the run has ended too."""
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.made(path.parent, path.name) as made:
        made.file.write(data)
        made.file.flush()
        made.path.replace(path)


def read_json(path: Path) -> Any:
    """Read plain data."""
    return json.loads(path.read_bytes())


def write_packed(path: Path, value: object) -> None:
    """Write dataclasses of porter."""
    write(path, cache.packed(value))


def read_packed(path: Path) -> Any:
    """Read dataclasses of porter."""
    return cache.unpacked(path.read_bytes())


def lines(path: Path, skip: int, count: int) -> Iterator[bytes]:
    """Some lines of a file."""
    with path.open("rb") as file:
        for _ in range(skip):
            file.readline()
        for _ in range(count):
            yield file.readline()
