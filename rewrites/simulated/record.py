"""What happened on the device, with the lines of the user that made it happen.

Counting must cost little: an operator is a cell in a list, and a line is looked up only when
something is worth a line (the first run of an operator, a transfer, a fallback).
"""

from __future__ import annotations

import atexit
import contextlib
import faulthandler
import json
import os
import signal
import sys
import sysconfig
import threading
import time
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import IO, Any, NoReturn

from .settings import SETTINGS_VARIABLE

#: Frames of a traceback that are kept.
MAX_FRAMES = 40
#: Failures that are kept: a test suite may have many.
MAX_FAILURES = 50
#: Seconds after which a process that still computes writes down where it is.
FLUSH_SECONDS = 1.0
#: Operators between two looks at the clock.
FLUSH_OPERATORS = 2000

INTERNAL, LIBRARY, USER = 0, 1, 2
_HERE = os.path.dirname(os.path.abspath(__file__)) + os.sep  # noqa: PTH100, PTH120
#: The folder that the device is started from, if it was prepared for a process.
_BOOT = os.path.dirname(os.environ.get(SETTINGS_VARIABLE, "")) + os.sep  # noqa: PTH120
_MACHINERY = (_HERE, "<", *([_BOOT] if os.sep != _BOOT else []))
_paths = sysconfig.get_paths()
_LIBRARIES = tuple({_paths[name] + os.sep for name in ("purelib", "platlib", "scripts")})
#: Folders of packages; an environment may see those of another.
_PACKAGES = ("site-packages", "dist-packages")
_STANDARD = tuple({_paths["stdlib"] + os.sep, _paths["platstdlib"] + os.sep})
_kinds: dict[CodeType, int] = {}


def _kind(code: CodeType) -> int:
    """Whose code this is: the machinery's, an installed library's or the user's."""
    kind = _kinds.get(code)
    if kind is None:
        name = code.co_filename
        if name.startswith("<ipython") or "ipykernel_" in name:
            kind = USER
        elif name.startswith(_MACHINERY) or _torch_file(name):
            kind = INTERNAL
        elif _installed(name):
            kind = LIBRARY
        elif name.startswith(_STANDARD):
            kind = INTERNAL
        else:
            kind = USER
        _kinds[code] = kind
    return kind


def _installed(name: str) -> bool:
    return name.startswith(_LIBRARIES) or any(
        f"{os.sep}{part}{os.sep}" in name for part in _PACKAGES
    )


def _torch_file(name: str) -> bool:
    return _installed(name) and f"-packages{os.sep}torch{os.sep}" in name


def _pick(frame: FrameType | None) -> str:
    """The innermost line of the user, or else of a library; empty if there is none."""
    library = ""
    while frame is not None:
        kind = _kind(frame.f_code)
        if kind == USER:
            return f"{frame.f_code.co_filename}:{frame.f_lineno}"
        if kind == LIBRARY and not library:
            library = f"{frame.f_code.co_filename}:{frame.f_lineno}"
        frame = frame.f_back
    return library


def _waiting() -> str:
    """The line that waits for a backward pass, seen from a thread of the autograd engine."""
    frames = sys._current_frames()
    main = frames.get(threading.main_thread().ident or 0)
    waiting = [f for f in frames.values() if f.f_code.co_name == "_engine_run_backward"]
    chosen = main
    if waiting and (main is None or main not in waiting):
        chosen = waiting[0]
    return _pick(chosen)


def site(node: Callable[[], str] | None = None) -> str:
    """The line of the user that runs now.

    Args:
        node: names the step of the backward pass, for threads of the autograd engine.
    """
    found = _pick(sys._getframe(1))
    if found:
        return found
    step = node() if node is not None else ""
    return f"{_waiting() or '?'} (backward{' of ' + step if step else ''})"


class NotSimulated(NotImplementedError):
    """The real device can do this, or may; the simulated one cannot."""


def caller_kind(depth: int = 2) -> int:
    """Whose code calls the function that asks."""
    return _kind(sys._getframe(depth).f_code)


class Record:
    """The events of one process.

    Attributes:
        operators: by name, how often it ran (a list of one number) and its first line.
        fallbacks: by operator and line, how often it ran on the CPU.
        transfers: by direction and line, how often and how many bytes.
        touches: by foreign name and line, what came of it and how often.
        notes: other remarks by kind and line.
        doubts: the kinds of remarks after which a good end proves nothing.
        original: a folder that nothing may be imported from; empty for none.
    """

    def __init__(self) -> None:
        self.operators: dict[str, tuple[list[int], list[str]]] = {}
        self.fallbacks: dict[tuple[str, str], int] = {}
        self.transfers: dict[tuple[str, str], list[int]] = {}
        self.touches: dict[tuple[str, str, str, str], int] = {}
        self.notes: dict[tuple[str, str], int] = {}
        self.doubts: set[str] = set()
        self.failures: list[dict[str, Any]] = []
        self.memory: Callable[[], dict[str, dict[str, int]]] = dict
        self.state = "running"
        self.original = ""
        self._folder = ""
        self._stack: IO[str] | None = None
        self._owner = os.getpid()
        self._next_flush = 0.0

    def cell(self, name: str) -> tuple[list[int], list[str]]:
        """The counter of an operator and the place for its first line."""
        return self.operators.setdefault(name, ([0], [""]))

    def fallback(self, name: str, line: str) -> bool:
        """Count a run on the CPU; tell whether it is the first one of its line."""
        before = self.fallbacks.get((name, line), 0)
        self.fallbacks[name, line] = before + 1
        return not before

    def transfer(self, direction: str, size: int) -> None:
        """Count a copy between a device and the host, by the line that runs now."""
        known = self.transfers.setdefault((direction, site()), [0, 0])
        known[0] += 1
        known[1] += size

    def touch(self, name: str, outcome: str, line: str, owner: int = USER, times: int = 1) -> None:
        """Count a use of another accelerator's name; `owner` is whose code asked for it."""
        key = (name, outcome, line, "user" if owner == USER else "library")
        count = self.touches.get(key, 0) + times
        if count:
            self.touches[key] = count
        else:
            self.touches.pop(key, None)

    def note(self, text: str, line: str, doubt: bool = False) -> None:
        """Count a remark; with `doubt`, a program that ends well is still not proved to run."""
        self.notes[text, line] = self.notes.get((text, line), 0) + 1
        if doubt:
            self.doubts.add(text)

    def fail(self, error: BaseException, trace: TracebackType | None, where: str = "") -> None:
        """Keep an exception that ended the process, or the test `where`, with its stack."""
        if len(self.failures) >= MAX_FAILURES:
            return
        frames = [
            {"file": f.filename, "line": f.lineno, "function": f.name, "text": f.line or ""}
            for f in traceback.extract_tb(trace)[-MAX_FRAMES:]
        ]
        walked = traceback.walk_tb(trace)
        kinds = [_kind(f.f_code) for f, _ in walked][-MAX_FRAMES:]
        for frame, kind in zip(frames, kinds, strict=False):
            frame["kind"] = ("internal", "library", "user")[kind]
        said = "".join(traceback.format_exception_only(type(error), error)).strip()
        self.failures.append(
            {"type": type(error).__name__, "message": said, "frames": frames, "where": where}
        )

    def open(self, folder: str) -> None:
        """Write to this folder from now on: at the first operator, every second, at the end."""
        self._folder = folder
        if not folder:
            return
        self._watch_exceptions()
        self._watch_exit()
        atexit.register(self._close)
        os.register_at_fork(after_in_child=self._forked)
        self._answer_signals()
        self.flush()

    def _answer_signals(self) -> None:
        """Let the parent ask where this process is, even in the middle of an operator."""
        number = getattr(signal, "SIGUSR1", None)
        if number is None or threading.current_thread() is not threading.main_thread():
            return
        path = Path(self._folder) / f"{os.getpid()}.stack"
        with contextlib.suppress(OSError, ValueError):
            self._stack = path.open("w", encoding="utf-8")
            faulthandler.register(number, self._stack, all_threads=False)

    def _forked(self) -> None:
        self._owner = os.getpid()
        for cell, _ in self.operators.values():
            cell[0] = 0
        for counts in (self.fallbacks, self.transfers, self.touches, self.notes):
            counts.clear()
        self.failures = []
        self._answer_signals()
        self.flush()

    def _watch_exceptions(self) -> None:
        previous = sys.excepthook

        def hook(
            kind: type[BaseException], error: BaseException, trace: TracebackType | None
        ) -> None:
            self.fail(error, trace)
            self.flush()
            previous(kind, error, trace)

        sys.excepthook = hook

    def _watch_exit(self) -> None:
        """`os._exit` skips everything that is registered for the end, and so does the record."""
        leave = os._exit

        def _exit(status: int) -> NoReturn:
            if caller_kind() == USER:
                self.note(f"os._exit({status}) ended the process", site())
            self._close()
            leave(status)

        os._exit = _exit

    def _strangers(self) -> None:
        """Note modules of the original: what runs in a copy must not import from it."""
        original = os.path.realpath(self.original) + os.sep
        for module in list(sys.modules.values()):
            file = getattr(module, "__file__", None)
            if not isinstance(file, str) or _installed(file):
                continue
            if os.path.realpath(file).startswith(original):
                self.note("it was imported from the original, which was not migrated", file, True)

    def _close(self) -> None:
        if self.original:
            self._strangers()
        self.state = "ended"
        self.flush()

    def tick(self, total: int) -> None:
        """Write down the counts if the last time is long ago; `total` operators have run."""
        now = time.monotonic()
        if now >= self._next_flush or total == 1:
            self._next_flush = now + FLUSH_SECONDS
            self.flush()

    def flush(self) -> None:
        """Write the record of this process, whole."""
        if not self._folder or self._owner != os.getpid():
            return
        path = Path(self._folder) / f"{os.getpid()}.json"
        part = path.with_suffix(".part")
        with contextlib.suppress(OSError):
            part.write_text(json.dumps(self.as_json()), encoding="utf-8")
            part.replace(path)

    def as_json(self) -> dict[str, Any]:
        """The record as plain data."""
        return {
            "pid": os.getpid(),
            "parent": os.getppid(),
            "state": self.state,
            "arguments": list(getattr(sys, "orig_argv", sys.argv)),
            "rank": os.environ.get("RANK", ""),
            "operators": {n: [c[0], s[0]] for n, (c, s) in self._ran()},
            "fallbacks": [[n, s, c] for (n, s), c in list(self.fallbacks.items())],
            "transfers": [[d, s, *c] for (d, s), c in list(self.transfers.items())],
            "touches": [[*key, c] for key, c in list(self.touches.items())],
            "notes": [[t, s, c, t in self.doubts] for (t, s), c in list(self.notes.items())],
            "failures": self.failures,
            "memory": self.memory(),
        }

    def _ran(self) -> Iterator[tuple[str, tuple[list[int], list[str]]]]:
        return ((n, row) for n, row in list(self.operators.items()) if row[0][0])


#: The record of this process.
RECORD = Record()
