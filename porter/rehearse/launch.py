"""Runs one command with limits; whatever it does, this returns."""

from __future__ import annotations

import codecs
import contextlib
import os
import secrets
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from porter import stopping
from porter.rehearse import processes

#: Temporary folders of rehearsals begin so: what lies in them is not the user's.
FOLDER_PREFIX = "porter-rehearse-"
#: Bytes of standard error that are kept, the last ones.
KEPT_BYTES = 1 << 18
#: Seconds that a process may take to write down where it is, and then to end.
GRACE_SECONDS = 3.0
#: Seconds that processes may take to end after the command has.
LAST_SECONDS = 1.0
#: Seconds between two looks at the memory.
_LOOK_SECONDS = 0.25
_POLL_SECONDS = 0.05
#: By this variable of their environment the processes of a command are told from all others.
_MARK = "PORTER_REHEARSAL_ID"
#: Makes a process of Python write down where it is when a signal ends it.
_TELLING = {"PYTHONFAULTHANDLER": "1"}

TIME, MEMORY = "time", "memory"
#: What such a process writes first.
FATAL = "Fatal Python error:"


@dataclass(frozen=True)
class Limits:
    """What a command may use.

    Args:
        seconds: how long it may run; 0 for no limit.
        memory: bytes that all its processes may hold together; 0 for no limit.
    """

    seconds: float = 0.0
    memory: int = 0


@dataclass(frozen=True)
class Ended:
    """How a command ended.

    Args:
        code: its exit code; negative for a signal.
        seconds: how long it ran.
        stopped: "time" or "memory" if it was stopped at that limit, else empty.
        errors: the end of its standard error.
        outlived: the command lines of processes that still ran after it had ended.
    """

    code: int
    seconds: float
    stopped: str = ""
    errors: str = ""
    outlived: tuple[str, ...] = ()


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
    if first in ("python", "python3"):
        return [python, *rest]
    if os.sep in first:
        if not os.access(folder / first, os.X_OK):
            raise NotFound(f"{first}: no such program, or it cannot be run")
        return [first, *rest]
    beside = Path(python).parent / first
    if beside.is_file():
        return [str(beside), *rest]
    found = shutil.which(first)
    if found is None:
        raise NotFound(f"{first}: no such script or program")
    return [found, *rest]


def run(
    command: Sequence[str],
    environment: Mapping[str, str],
    folder: Path,
    limits: Limits = Limits(),
    *,
    ask: Callable[[], set[int]] | None = None,
    output: IO[Any] | int | None = None,
    echo: bool = True,
) -> Ended:
    """Run a command; at a limit, and at the end, stop every process that it started.

    Args:
        command: program and arguments.
        environment: variables to add to those of this process.
        folder: where to run.
        limits: what it may use.
        ask: makes processes write down where they are, and tells which were asked.
        output: where standard output goes; None leaves it alone.
        echo: whether its standard error is passed on to that of this process.

    Raises:
        NotFound: the program cannot be started.
    """
    start = time.monotonic()
    mark = secrets.token_hex(16)
    added = {**environment, **_TELLING, _MARK: mark}
    try:
        process = subprocess.Popen(
            command,
            cwd=folder,
            env={**os.environ, **added},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
    except OSError as error:
        raise NotFound(f"{command[0]}: {error.strerror}") from None
    _without_core(process.pid)
    kin = _Kin(process, processes.Family(f"{_MARK}={mark}"))
    heard = _Heard(process.stderr, echo)
    outlived: tuple[str, ...] = ()
    try:
        with stopping.raising():
            stopped = _wait(kin, start, limits)
            if stopped:
                # What they say when they are ended is no part of what the user wants to see.
                heard.echo = False
                _stop(kin, ask)
            else:
                outlived = kin.outlived()
    finally:
        kin.kill()
        heard.finish()
    return Ended(process.returncode, time.monotonic() - start, stopped, heard.text(), outlived)


def _without_core(pid: int) -> None:
    """A program that crashes must not leave a file of its memory in the user's folder."""
    with contextlib.suppress(ImportError, AttributeError, OSError, ValueError):
        import resource

        resource.prlimit(pid, resource.RLIMIT_CORE, (0, 0))


class _Heard:
    """Passes a stream on, and keeps its end; a line may be endless."""

    def __init__(self, stream: IO[bytes] | None, echo: bool) -> None:
        self._kept = bytearray()
        self.echo = echo
        self._thread = threading.Thread(target=self._forward, args=(stream,), daemon=True)
        self._thread.start()

    def _forward(self, stream: IO[bytes] | None) -> None:
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        while stream is not None:
            try:
                piece = os.read(stream.fileno(), 1 << 16)
            except (OSError, ValueError):
                return
            if not piece:
                return
            self._kept += piece
            del self._kept[:-KEPT_BYTES]
            if self.echo:
                with contextlib.suppress(OSError, ValueError):
                    sys.stderr.write(decoder.decode(piece))
                    sys.stderr.flush()

    def finish(self) -> None:
        self._thread.join(GRACE_SECONDS)

    def text(self) -> str:
        return bytes(self._kept).decode("utf-8", "replace")


@dataclass
class _Kin:
    """A process and all that it started."""

    process: subprocess.Popen[bytes]
    family: processes.Family

    def members(self) -> set[int]:
        return set(self.family.members())

    def signal(self, number: int) -> None:
        """Send a signal to all of them, and to whoever shares the session."""
        _signal(self.members(), number)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, number)

    def outlived(self) -> tuple[str, ...]:
        """What still runs although the command has ended; it gets a moment to end as well."""
        self.gone(LAST_SECONDS)
        left = sorted(self.members())
        return tuple(dict.fromkeys(filter(None, (processes.command_line(p) for p in left))))

    def gone(self, seconds: float) -> bool:
        """Wait until none of them runs; tells whether that came true in time."""
        end = time.monotonic() + seconds
        while self.members() or self.process.poll() is None:
            if time.monotonic() > end:
                return False
            time.sleep(_POLL_SECONDS)
        return True

    def kill(self) -> None:
        """End all of them, those too that are born meanwhile."""
        for _ in range(10):
            self.signal(signal.SIGKILL)
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.process.wait(GRACE_SECONDS)
            if not self.members():
                return
            time.sleep(_POLL_SECONDS)


def _wait(kin: _Kin, start: float, limits: Limits) -> str:
    """Wait for the end; tells the limit that was reached, if one was."""
    while True:
        left = start + limits.seconds - time.monotonic() if limits.seconds else _LOOK_SECONDS
        if left <= 0:
            return TIME
        try:
            kin.process.wait(min(left, _LOOK_SECONDS))
        except subprocess.TimeoutExpired:
            if limits.memory and processes.memory(kin.members()) > limits.memory:
                return MEMORY
        else:
            return ""


def _stop(kin: _Kin, ask: Callable[[], set[int]] | None) -> None:
    asked = ask() if ask is not None else set()
    if asked:
        # One that was halted answers when it goes on, before it does anything else.
        _signal(asked, signal.SIGCONT)
        time.sleep(min(1.0, GRACE_SECONDS))
    # Python writes its stack when this signal ends it.
    if others := kin.members() - asked:
        _signal(others, signal.SIGABRT)
        _signal(others, signal.SIGCONT)
        time.sleep(4 * _POLL_SECONDS)
    kin.signal(signal.SIGTERM)
    kin.gone(GRACE_SECONDS)


def _signal(pids: Iterable[int], number: int) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
