"""A unit of work: what an engine runs, in whatever process and on whatever machine."""

from __future__ import annotations

import contextlib
import faulthandler
import functools
import hashlib
import os
import socket
import traceback
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from porter.fleet.listing import Repo
from porter.problem import Problem

#: What a unit did not survive: its own process, the machine it ran on, or the time it was given.
DIED, NODE, LATE = "died", "node", "late"


@dataclass(frozen=True)
class Job:
    """What all units of a run share.

    Args:
        state: folder of what is kept.
        work: folder of this run.
        output: folder of the reports.
        folder: that of the list; messages name files from there.
        code: identifies the code of porter that all units must run.
        fresh: use nothing that earlier runs kept.
        limit: seconds that a unit may take; 0 for any.
    """

    state: str
    work: str
    output: str
    folder: str
    code: str
    fresh: bool = False
    limit: float = 0.0


@dataclass(frozen=True)
class Unit:
    """A unit of work.

    Args:
        job: what it shares with all others.
        repo: what it is about.
        number: of the repository in the list.
        step: what to do; a function of `porter.fleet.steps`.
        shard: which of the repository's runs of files.
        start: the first file in it.
        stop: the file behind the last one.
        pieces: what earlier units left, in order: the shard, the first file, and the place.
        lost: why this unit cannot be done; it then says so of each of its files.
    """

    job: Job
    repo: Repo
    number: int
    step: str
    shard: int = 0
    start: int = 0
    stop: int = 0
    pieces: tuple[tuple[int, int, str], ...] = field(default=(), repr=False)
    lost: str = ""

    @property
    def size(self) -> int:
        """How many files it is about, where it is about files."""
        return self.stop - self.start

    @property
    def late(self) -> Path:
        """Written into by the watch over its time, as it ends the process."""
        name = f"{self.number}-{self.step}-{self.shard}-{self.start}-{self.stop}"
        return Path(self.job.work, f"late-{name}")


@dataclass(frozen=True)
class Outcome:
    """What became of a unit.

    Args:
        value: what it tells the run, as plain data; small.
        failed: why it could not be done.
        lost: `DIED`, `NODE` or `LATE` if it did not end by itself.
    """

    value: dict[str, Any] = field(default_factory=dict)
    failed: str = ""
    lost: str = ""


def perform(unit: Unit) -> Outcome:
    """Do a unit. Nothing is raised but what must end the process."""
    try:
        reason = _misplaced(unit)
        if reason:
            return Outcome(failed=reason)
        # So that messages name files alike wherever this runs.
        os.chdir(unit.job.folder)
        with _watched(unit):
            from porter.fleet import steps

            return Outcome(steps.do(unit))
    except Problem as problem:
        return Outcome(failed=_named(unit, " ".join(str(problem).split())))
    except MemoryError:
        return Outcome(lost=DIED)
    except Exception as problem:
        if os.environ.get("PORTER_DEBUG"):
            traceback.print_exc()
        what = " ".join(f"{type(problem).__name__}: {problem}".split())
        return Outcome(failed=_named(unit, f"internal error ({what})"))


def _misplaced(unit: Unit) -> str:
    """Why this machine cannot do the unit; empty if it can."""
    here = socket.gethostname()
    if not Path(unit.job.work).is_dir():
        return (
            f"machine {here} does not see the state folder {unit.job.state}; all machines need "
            "the list, the repositories and the output on one shared file system"
        )
    if not Path(unit.repo.path).is_dir():
        return (
            f"machine {here} does not see {unit.repo.path}; put the repository on a file system "
            "that all machines share, at the same path"
        )
    if code() != unit.job.code:
        return f"machine {here} has another porter, rule pack or Python; install the same there"
    return ""


@functools.cache
def code() -> str:
    """Identifies the code of porter, its rule packs and the Python that runs it."""
    from porter import cache
    from porter.catalog import load

    return cache.code({rule.check.__module__ for rule in load().rules}).hex()


def _named(unit: Unit, text: str) -> str:
    """A message that names the repository as the list does, not by where the list lies."""
    return text.replace(unit.repo.path, unit.repo.shown)


@contextlib.contextmanager
def _watched(unit: Unit) -> Iterator[None]:
    """End the process when the unit has taken too long.

    The watch is a thread of faulthandler, which needs no lock of Python: a regular expression that
    never ends holds that lock.
    """
    if not unit.job.limit:
        yield
        return
    with unit.late.open("w") as file:
        faulthandler.dump_traceback_later(unit.job.limit, exit=True, file=file)
        try:
            yield
        finally:
            faulthandler.cancel_dump_traceback_later()
    unit.late.unlink()


def overdue(unit: Unit) -> bool:
    """Whether the process of a unit was ended because the unit took too long."""
    try:
        return unit.late.stat().st_size > 0
    except OSError:
        return False


def digest(path: Path) -> str:
    """The SHA-256 of a file; empty if it cannot be read."""
    try:
        with path.open("rb") as file:
            state = hashlib.sha256()
            while block := file.read(1 << 20):
                state.update(block)
            return state.hexdigest()
    except OSError:
        return ""
