"""Work on many items, in several processes where that pays.

The results do not depend on the number of processes. A worker that dies costs only the item that
it died of.
"""

from __future__ import annotations

import contextlib
import gc
import multiprocessing
import multiprocessing.connection
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Generic, TypeVar

from porter import isolate, stopping

Item = TypeVar("Item")
State = TypeVar("State")
Result = TypeVar("Result")

Progress = Callable[[int, int], None]
"""Called with the number of items done and of all items."""

DIED = "the process that read it died; it may need too much memory"
"""What to say of an item that no worker survives."""

_CHUNK = 16


@dataclass(frozen=True)
class Work(Generic[Item, State, Result]):
    """What is done with each item.

    Args:
        do: a function of a module (workers find it by its name); it should not raise.
        state: what all items share; handed to each worker once.
        died: the result of an item that no worker survives.
        chunk: the most items that are handed to a worker at once.
        weight: how long an item takes, compared with others. The heaviest are begun first, so that
            no worker is left with one at the end; None takes items in order, all alike.
    """

    do: Callable[[Item, State], Result]
    state: State
    died: Callable[[Item], Result]
    chunk: int = _CHUNK
    weight: Callable[[Item], int] | None = None


def spread(
    work: Work[Item, State, Result],
    items: Sequence[Item],
    jobs: int,
    progress: Progress | None = None,
    meanwhile: Callable[[], object] | None = None,
) -> list[Result]:
    """Do the work, in `jobs` processes at most; results in the order of the items.

    Args:
        work: what is done.
        items: what it is done with.
        jobs: the most processes.
        progress: told how far it is.
        meanwhile: done once in this process while others work; not at all without others.
    """
    run = _Spread(work, items, progress, meanwhile)
    jobs = min(jobs, len(items))
    if jobs <= 1:
        run.here()
    else:
        lost = run.pooled(run.chunks(jobs), jobs)
        # One worker died and took the others' work with it: find out which item it was.
        for chunk in lost:
            for again in run.pooled([chunk], 1):
                for index in again:
                    if run.pooled([[index]], 1):
                        run.results[index] = work.died(items[index])
    return [run.results[index] for index in range(len(items))]


def processes(jobs: int, size: int, serial: int) -> int:
    """How many processes to use.

    Args:
        jobs: as asked for; 0 leaves the choice.
        size: bytes to work on.
        serial: below so many, starting processes costs more than they save.
    """
    if jobs:
        return jobs
    if size < serial:
        return 1
    return min(_processors(), 61)  # the most that Windows can wait for


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


@dataclass
class _Spread(Generic[Item, State, Result]):
    """The work under way; results by index."""

    work: Work[Item, State, Result]
    items: Sequence[Item]
    progress: Progress | None
    meanwhile: Callable[[], object] | None = None
    results: dict[int, Result] = field(default_factory=dict)

    def here(self) -> None:
        """Do all in this process."""
        with _collected():
            for index, item in enumerate(self.items):
                self.results[index] = self.work.do(item, self.work.state)
                _collect()
                self._tick()

    def chunks(self, jobs: int) -> list[list[int]]:
        count, weight = len(self.items), self.work.weight
        size = max(1, min(self.work.chunk, count // (jobs * 4)))
        if weight is None:
            indexes = iter(range(count))
            return list(iter(lambda: list(islice(indexes, size)), []))
        weights = [weight(item) for item in self.items]
        most = sum(weights) // (jobs * 16)
        found: list[list[int]] = []
        heavy = 0
        for index in sorted(range(count), key=lambda i: -weights[i]):
            if not found or len(found[-1]) >= size or heavy + weights[index] > most:
                found.append([])
                heavy = 0
            found[-1].append(index)
            heavy += weights[index]
        return found

    def pooled(self, chunks: Sequence[list[int]], jobs: int) -> list[list[int]]:
        """Fill `results`; return the chunks that were lost because a worker died."""
        # A forked worker has the rules loaded; all are forked before the pool starts a thread.
        method = "fork" if sys.platform == "linux" else "spawn"
        pool = ProcessPoolExecutor(
            jobs,
            multiprocessing.get_context(method),
            initializer=_start,
            initargs=(self.work.do, self.work.state),
        )
        lost: list[list[int]] = []
        try:
            waiting: dict[Future[list[Result]], list[int]] = {}
            # Until the workers, forked here, have their own answer.
            with stopping.deferred(), isolate.Spawning():
                for chunk in chunks:
                    try:
                        waiting[pool.submit(_do, [self.items[i] for i in chunk])] = chunk
                    except BrokenProcessPool:
                        lost.append(chunk)
            meanwhile, self.meanwhile = self.meanwhile, None
            if meanwhile is not None:
                meanwhile()
            while waiting:
                self._collect(waiting, lost)
            pool.shutdown()
        except BaseException:  # Ctrl-C above all: nothing has been written yet
            pool.shutdown(wait=False, cancel_futures=True)
            for child in multiprocessing.active_children():
                child.terminate()
            raise
        return sorted(lost)

    def _collect(
        self, waiting: dict[Future[list[Result]], list[int]], lost: list[list[int]]
    ) -> None:
        done, _ = wait(waiting, return_when=FIRST_COMPLETED)
        for future in done:
            chunk = waiting.pop(future)
            try:
                self.results.update(zip(chunk, future.result(), strict=True))
            except BrokenProcessPool:
                lost.append(chunk)
        self._tick()

    def _tick(self) -> None:
        if self.progress is not None:
            self.progress(len(self.results), len(self.items))


# In a worker ------------------------------------------------------------------------------------

_given: Mapping[str, Any] = {}


def _start(do: Callable[[Any, Any], Any], state: object) -> None:
    global _given
    _given = {"do": do, "state": state}
    gc.disable()
    gc.freeze()
    for name in ("SIGINT", "SIGHUP"):  # the parent decides; a terminal sends them to all
        if hasattr(signal, name):
            signal.signal(getattr(signal, name), signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End when the parent does, whatever ended it: nobody would take the results."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        multiprocessing.connection.wait([parent.sentinel])
        os._exit(1)


def _do(items: list[Any]) -> list[Any]:
    return [_one(item) for item in items]


def _one(item: Any) -> Any:
    result = _given["do"](item, _given["state"])
    _collect()
    return result


# Garbage ----------------------------------------------------------------------------------------
#
# A syntax tree is one large cycle. Python looks for cycles while the tree is built, again and
# again, and finds none; it looks between two files instead: a fifth faster, and with less memory.


@contextlib.contextmanager
def _collected() -> Iterator[None]:
    """Leave garbage to `_collect` within."""
    before = gc.isenabled()
    gc.disable()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()
        if before:
            gc.enable()


def _collect() -> None:
    """Free what the last item left; what it leaves to stay is not looked at again."""
    gc.collect()
    gc.freeze()
