"""Units in processes of this machine, one process for each.

So a unit that dies, or runs out of memory, takes no other with it, and the memory that it had is
free again when it ends.
"""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection, wait
from multiprocessing.process import BaseProcess

from porter import isolate, stopping
from porter.catalog import load
from porter.fleet.unit import DIED, LATE, Outcome, Unit, overdue, perform


class Local:
    """The engine of one machine."""

    def __init__(self, jobs: int) -> None:
        """Prepare for `jobs` units at a time."""
        self._jobs = jobs
        # A forked process has the rules, and all else that units need, loaded.
        self._context = multiprocessing.get_context("fork" if sys.platform == "linux" else "spawn")
        self._running: dict[Connection, tuple[BaseProcess, Unit]] = {}
        load()
        importlib.import_module("porter.fleet.steps")

    def room(self) -> int:
        """How many more units it would start at once."""
        return self._jobs - len(self._running)

    def start(self, unit: Unit) -> None:
        """Begin with a unit."""
        ours, theirs = self._context.Pipe(duplex=False)
        process = self._context.Process(target=_run, args=(theirs, unit))  # type: ignore[attr-defined]
        # Until the process has its own answer to signals.
        with stopping.deferred(), isolate.Spawning():
            process.start()
        theirs.close()
        self._running[ours] = (process, unit)

    def finished(self) -> list[tuple[Unit, Outcome]]:
        """Wait until at least one unit has ended."""
        ended = []
        for ready in wait(list(self._running)):
            assert isinstance(ready, Connection)
            process, unit = self._running[ready]
            try:
                outcome = ready.recv()
            except (EOFError, OSError):
                outcome = Outcome(lost=DIED)
            ready.close()
            del self._running[ready]
            _end(process, gently=not outcome.lost)
            if outcome.lost and overdue(unit):
                outcome = Outcome(lost=LATE)
            ended.append((unit, outcome))
        return ended

    def close(self) -> None:
        """End whatever still runs."""
        for connection, (process, _) in self._running.items():
            _end(process, gently=False)
            connection.close()
        self._running.clear()


def _end(process: BaseProcess, *, gently: bool) -> None:
    if gently:
        process.join(10)
    if process.is_alive():
        process.kill()
    process.join()
    process.close()


def _run(answer: Connection, unit: Unit) -> None:
    """The whole life of a process."""
    for name in ("SIGINT", "SIGHUP"):  # a terminal sends them to all; the parent decides
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    outcome = perform(unit)
    with contextlib.suppress(OSError):
        answer.send(outcome)


def _end_with_parent() -> None:
    """End when the parent does, whatever ended it: nobody would take the result."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        wait([parent.sentinel])
        os._exit(1)
