"""Signals that end a run: Ctrl-C (SIGINT), a plain `kill` (SIGTERM), a closed terminal (SIGHUP)."""

from __future__ import annotations

import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass

_NAMES = ("SIGINT", "SIGTERM", "SIGHUP")


class Stopped(SystemExit):
    """A signal asks the run to end.

    Not an Exception, which might be caught on its way, nor a KeyboardInterrupt, which the option
    parser would swallow. The exit code is the one that shells write: 130 for Ctrl-C, 143 for
    SIGTERM, 129 for SIGHUP.
    """

    def __init__(self, number: int, note: str = "") -> None:
        """Keep the number of the signal, and what to tell the user of the work done so far."""
        super().__init__(128 + number)
        self.number = number
        self.note = note


@dataclass
class Pending:
    """A signal that waits; `number` is 0 as long as none has come."""

    number: int = 0


@contextlib.contextmanager
def raising() -> Iterator[None]:
    """Within, a signal that ends a run raises Stopped wherever the program is."""

    def stop(number: int, frame: object) -> None:
        raise Stopped(number)

    with _handled(stop):
        yield


@contextlib.contextmanager
def deferred() -> Iterator[Pending]:
    """Within, such a signal only waits; it is delivered at the end, however often it has come.

    Whoever can end early looks at what is yielded. An exception that leaves the block is the
    answer to a signal that waits.
    """
    pending = Pending()

    def note(number: int, frame: object) -> None:
        pending.number = pending.number or number

    with _handled(note):
        yield pending
    if pending.number:
        signal.raise_signal(pending.number)


_answers: list[int] = []


def answer(code: int) -> None:
    """Note that the user was told of the interruption, and the exit code for it."""
    _answers.append(code)


def answered() -> int | None:
    """The exit code of an interruption that the user was told of."""
    return _answers[-1] if _answers else None


def ignored() -> None:
    """From now on such signals do nothing: the process is about to end."""
    if threading.current_thread() is threading.main_thread():
        for number in _numbers():
            signal.signal(number, signal.SIG_IGN)


@contextlib.contextmanager
def _handled(what: Callable[[int, object], None]) -> Iterator[None]:
    before = {}
    if threading.current_thread() is threading.main_thread():  # Python allows it in no other
        # What is ignored stays so: `nohup` has SIGHUP ignored.
        known = {number: signal.getsignal(number) for number in _numbers()}
        before = {n: old for n, old in known.items() if old not in (None, signal.SIG_IGN)}
    try:
        for number in before:
            signal.signal(number, what)
        yield
    finally:
        for number, old in before.items():
            if signal.getsignal(number) is what:  # it may be ignored by now
                signal.signal(number, old)


def _numbers() -> list[signal.Signals]:
    return [getattr(signal, name) for name in _NAMES if hasattr(signal, name)]
