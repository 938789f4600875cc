"""Analysis of many files, in several processes where that pays.

The results do not depend on the number of processes. A worker that dies costs only the file that
it died of.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from itertools import islice

from porter.analysis import FileResult, Plan, Task, analyse, failure

Progress = Callable[[int, int], None]
"""Called with the number of files done and of all files."""

#: Below so many bytes to analyse, starting processes costs more than they save.
SERIAL_BYTES = 600_000
_CHUNK = 16


def analyse_all(
    tasks: Sequence[Task], plan: Plan, jobs: int = 0, progress: Progress | None = None
) -> list[FileResult]:
    """Analyse files, in processes where that pays; results in the order of the tasks."""
    results: dict[int, FileResult] = {}
    tick = _Tick(results, len(tasks), progress)
    jobs = _jobs(tasks, jobs)
    plan.catalog()  # loaded here once, and so in every forked process
    if jobs == 1:
        for index, task in enumerate(tasks):
            results[index] = analyse(task, plan)
            tick()
    else:
        chunks = _chunks(len(tasks), jobs)
        lost = _pooled(tasks, plan, chunks, jobs, results, tick)
        # One worker died and took the others' work with it: find out which file it was.
        for chunk in lost:
            for again in _pooled(tasks, plan, [chunk], 1, results, tick):
                for index in again:
                    if _pooled(tasks, plan, [[index]], 1, results, tick):
                        reason = "the process that read it died; it may need too much memory"
                        results[index] = failure(tasks[index], reason)
    return [results[index] for index in range(len(tasks))]


@dataclass
class _Tick:
    results: Mapping[int, FileResult]
    total: int
    progress: Progress | None

    def __call__(self) -> None:
        if self.progress is not None:
            self.progress(len(self.results), self.total)


def _jobs(tasks: Sequence[Task], jobs: int) -> int:
    if jobs == 0:
        if sum(task.size for task in tasks) < SERIAL_BYTES:
            return 1
        jobs = min(_processors(), 61)  # the most that Windows can wait for
    return max(1, min(jobs, len(tasks)))


def _processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _chunks(count: int, jobs: int) -> list[list[int]]:
    size = max(1, min(_CHUNK, count // (jobs * 4)))
    indexes = iter(range(count))
    return list(iter(lambda: list(islice(indexes, size)), []))


def _pooled(
    tasks: Sequence[Task],
    plan: Plan,
    chunks: Sequence[list[int]],
    jobs: int,
    results: dict[int, FileResult],
    tick: Callable[[], None],
) -> list[list[int]]:
    """Fill `results`; return the chunks that were lost because a worker died."""
    # A forked worker has the rules loaded; all are forked before the pool starts a thread.
    method = "fork" if sys.platform == "linux" else "spawn"
    pool = ProcessPoolExecutor(
        jobs, multiprocessing.get_context(method), initializer=_start, initargs=(plan,)
    )
    lost: list[list[int]] = []
    try:
        waiting: dict[Future[list[FileResult]], list[int]] = {}
        for chunk in chunks:
            try:
                waiting[pool.submit(_work, [tasks[i] for i in chunk])] = chunk
            except BrokenProcessPool:
                lost.append(chunk)
        while waiting:
            done, _ = wait(waiting, return_when=FIRST_COMPLETED)
            for future in done:
                chunk = waiting.pop(future)
                try:
                    results.update(zip(chunk, future.result(), strict=True))
                except BrokenProcessPool:
                    lost.append(chunk)
            tick()
        pool.shutdown()
    except BaseException:  # Ctrl-C above all: nothing has been written yet
        pool.shutdown(wait=False, cancel_futures=True)
        for child in multiprocessing.active_children():
            child.terminate()
        raise
    return sorted(lost)


_plan: Plan | None = None


def _start(plan: Plan) -> None:
    global _plan
    _plan = plan
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent decides


def _work(tasks: list[Task]) -> list[FileResult]:
    if _plan is None:
        raise RuntimeError("the worker was not started with a plan")
    return [analyse(task, _plan) for task in tasks]
