"""Runs one command with a time limit; whatever it does, this returns."""

from __future__ import annotations

import collections
import contextlib
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

#: Temporary folders of rehearsals begin so: what lies in them is not the user's.
FOLDER_PREFIX = "porter-rehearse-"
#: Lines of standard error that are kept.
KEPT_LINES = 400
#: Seconds that a process may take to write down where it is, and then to end.
GRACE_SECONDS = 3.0
_POLL_SECONDS = 0.05


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: its exit code; negative for a signal.
        seconds: how long it ran.
        stopped: whether it was stopped at the time limit.
        errors: the last lines of standard error.
    """

    code: int
    seconds: float
    stopped: bool
    errors: str


class NotFound(Exception):
    """The program to run does not exist; the text is one line."""


def resolve(words: Sequence[str], python: str, module: bool, folder: Path = Path()) -> list[str]:
    """The command for what the user wrote.

    Args:
        words: a script, a module or a program, with its arguments.
        python: the interpreter for scripts and modules.
        module: whether the first word is a module.
        folder: what a script's path is relative to.

    Raises:
        NotFound: there is no such script or program.
    """
    first, *rest = words
    if module:
        return [python, "-m", first, *rest]
    if first.endswith(".py") or (folder / first).is_dir():
        if not (folder / first).exists():
            raise NotFound(f"{first}: no such file")
        return [python, first, *rest]
    if Path(first).name in ("python", "python3"):
        return [python, *rest]
    beside = Path(python).parent / first
    if beside.is_file() and os.sep not in first:
        return [str(beside), *rest]
    found = shutil.which(first)
    if found is None:
        raise NotFound(f"{first}: no such script or program")
    return [found, *rest]


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    limit: float,
    ask: int | None = None,
    output: IO[str] | None = None,
) -> Ended:
    """Run a command; stop it and all its children at the time limit.

    Args:
        command: program and arguments.
        environment: variables to add to those of this process.
        folder: where to run.
        limit: seconds; 0 for none.
        ask: a signal that makes a process write down where it is.
        output: where standard output goes; None leaves it alone.

    Raises:
        NotFound: the program cannot be started.
    """
    start = time.monotonic()
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            text=True,
            errors="replace",
            start_new_session=True,
        )
    except OSError as error:
        raise NotFound(f"{command[0]}: {error.strerror}") from None
    kept: collections.deque[str] = collections.deque(maxlen=KEPT_LINES)
    reader = threading.Thread(target=_forward, args=(process.stderr, kept), daemon=True)
    reader.start()
    try:
        stopped = not _wait(process, limit)
        if stopped:
            _stop(process, ask)
    except BaseException:
        _signal(process, signal.SIGKILL)
        raise
    reader.join(GRACE_SECONDS)
    _signal(process, signal.SIGKILL)
    return Ended(process.returncode, time.monotonic() - start, stopped, "".join(kept))


def _forward(stream: IO[str] | None, kept: collections.deque[str]) -> None:
    for line in stream or ():
        kept.append(line)
        with contextlib.suppress(OSError, ValueError):
            sys.stderr.write(line)
            sys.stderr.flush()


def _wait(process: subprocess.Popen[str], limit: float) -> bool:
    try:
        process.wait(limit or None)
    except subprocess.TimeoutExpired:
        return False
    return True


def _stop(process: subprocess.Popen[str], ask: int | None) -> None:
    if ask is not None:
        _signal(process, ask)
        time.sleep(min(1.0, GRACE_SECONDS))
    _signal(process, signal.SIGTERM)
    with contextlib.suppress(subprocess.TimeoutExpired):
        process.wait(GRACE_SECONDS)
    _signal(process, signal.SIGKILL)
    process.wait()


def _signal(process: subprocess.Popen[str], number: int) -> None:
    """Send a signal to the process and all that it started: they share its session."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, number)
