"""Hands units to an engine until every repository of a list is done or has failed."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import count

from porter.fleet.engine import Engine
from porter.fleet.listing import Fleet
from porter.fleet.unit import DIED, LATE, NODE, Job, Outcome, Unit

#: How often a unit is begun again because the machine it ran on was lost.
MACHINES = 5
Progress = Callable[[int, int], None]


@dataclass
class Done:
    """What became of one repository.

    Args:
        summary: where its summary is; empty if it failed.
        failed: why.
        notes: remarks for the user.
        units: how many it took.
        kept: how many of them were found finished.
    """

    summary: str = ""
    failed: str = ""
    notes: list[str] = field(default_factory=list)
    units: int = 0
    kept: int = 0


def drive(fleet: Fleet, job: Job, engine: Engine, progress: Progress) -> list[Done]:
    """Do everything that a list asks for.

    Args:
        fleet: the list.
        job: what all units share.
        engine: runs them.
        progress: told how many units are done, and how many there are as far as is known.

    Returns:
        What became of each repository, in the order of the list.
    """
    courses = [_Course(Unit(job, repo, i, "whole")) for i, repo in enumerate(fleet.repos)]
    queue = _Queue()
    for course in courses:
        queue.add(course, course.begin())
    running = done = 0
    while queue or running:
        while queue and engine.room() > 0:
            unit = queue.next()
            if not courses[unit.number].done.failed:
                engine.start(unit)
                running += 1
        for unit, outcome in engine.finished() if running else ():
            running -= 1
            done += 1
            course = courses[unit.number]
            queue.add(course, course.took(unit, outcome))
        progress(done, done + running + len(queue))
    return [course.done for course in courses]


class _Queue:
    """Units that wait: those of heavy repositories first, and what is begun before what is not."""

    def __init__(self) -> None:
        self._heap: list[tuple[tuple[float, ...], Unit]] = []
        self._ticket = count()

    def __len__(self) -> int:
        return len(self._heap)

    def add(self, course: _Course, units: list[Unit]) -> None:
        for unit in units:
            begun = 0 if course.done.units else 1
            # The ticket is unique, so units themselves are never compared.
            order = (begun, -unit.repo.weight, unit.number, next(self._ticket))
            heapq.heappush(self._heap, (order, unit))

    def next(self) -> Unit:
        return heapq.heappop(self._heap)[1]


@dataclass
class _Course:
    """One repository on its way through the steps.

    Args:
        first: the unit for all of it.
        done: what became of it so far.
        left: units of the present step that have not ended.
        places: what units of the present step left, by shard and first file.
        sizes: number of files of each shard, its own ones first.
        own: how many shards are its own.
        tries: how often each unit has been begun again, by what was lost.
    """

    first: Unit
    done: Done = field(default_factory=Done)
    left: int = 0
    places: dict[tuple[int, int], str] = field(default_factory=dict)
    sizes: list[int] = field(default_factory=list)
    own: int = 0
    tries: dict[tuple[Unit, str], int] = field(default_factory=dict)

    def begin(self) -> list[Unit]:
        """The first unit; none if the list says already that there is nothing to look at."""
        if self.first.repo.problem:
            self.done.failed = self.first.repo.problem
            return []
        return [self.first]

    def took(self, unit: Unit, outcome: Outcome) -> list[Unit]:
        """What is to be done after a unit has ended."""
        self.done.units += 1
        if self.done.failed:
            return []
        if outcome.failed:
            self.done.failed = outcome.failed
            return []
        if outcome.lost:
            return self._again(unit, outcome.lost)
        value = outcome.value
        self.done.kept += bool(value.get("kept"))
        if "summary" in value:
            self.done.summary = value["summary"]
            self.done.notes += value.get("notes", ())
            return []
        if unit.step in ("whole", "inventory"):
            self.done.notes += value["notes"]
            self.sizes, self.own = [*value["own"], *value["around"]], len(value["own"])
            return self._spread("look", len(self.sizes))
        if unit.step in ("look", "analyse"):
            self.places[unit.shard, unit.start] = value["place"]
            self.left -= 1
            if self.left:
                return []
            return [self._gather("join" if unit.step == "look" else "merge")]
        return self._spread("analyse", self.own)

    def _spread(self, step: str, shards: int) -> list[Unit]:
        self.places.clear()
        self.left = shards
        if not shards:
            return [self._gather("join" if step == "look" else "merge")]
        return [
            replace(self.first, step=step, shard=shard, start=0, stop=self.sizes[shard])
            for shard in range(shards)
        ]

    def _gather(self, step: str) -> Unit:
        pieces = tuple((*at, self.places[at]) for at in sorted(self.places))
        self.places.clear()
        return replace(self.first, step=step, pieces=pieces)

    def _again(self, unit: Unit, lost: str) -> list[Unit]:
        """What to do about a unit that was lost; a smaller one may survive."""
        times = self.tries[unit, lost] = self.tries.get((unit, lost), 0) + 1
        if lost == NODE and times <= MACHINES:
            return [unit]
        if unit.step == "whole" and lost != NODE:
            return [replace(unit, step="inventory")]
        if unit.size > 1 and lost != NODE:
            middle = unit.start + unit.size // 2
            self.left += 1
            return [replace(unit, stop=middle), replace(unit, start=middle)]
        if lost == DIED and times == 1 and not unit.lost:
            return [unit]
        if unit.size and not unit.lost:
            return [replace(unit, lost=_reason(unit, lost))]
        self.done.failed = f"{unit.step}: {_reason(unit, lost)}"
        return []


def _reason(unit: Unit, lost: str) -> str:
    if lost == NODE:
        return f"the machine that did it was lost {MACHINES + 1} times"
    if lost == LATE:
        return f"took longer than {unit.job.limit:g} seconds (--timeout)"
    return "the process that read it died; it may need too much memory"
