"""What units do: a run of porter in steps that other machines can share.

A run looks at each file, joins what files tell about each other, and analyses each file with what
all of them told. The first and the last are done for each shard of a repository, the join once:
that is why a repository that is cut into shards has the findings it has in one piece. Each step is
the code of `porter.runner`; only where its values come from and go to is different.

1. `inventory` finds the files and cuts them into shards;
2. `look` has the first look at the files of a shard;
3. `join` tells what passes between files, and what each analysis depends on;
4. `analyse` analyses the files of a shard, and leaves a part of the report;
5. `merge` puts the parts together, and leaves a summary.

`whole` does all of them at once where there is one shard.
"""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from porter import cache, catalog, config, runner, support, survey
from porter.analysis import FileResult, analyse_all, failure
from porter.catalog import Catalog
from porter.config import Settings
from porter.facts import Found
from porter.fleet import gaps, part, state
from porter.fleet.cut import Cutter, Shard
from porter.fleet.part import Part
from porter.fleet.unit import Unit, digest
from porter.output import render
from porter.places import Place
from porter.places import place as placed
from porter.project import InputFile, Skipped
from porter.report import Report, assemble
from porter.requirements import Choice
from porter.runner import Inputs, Request
from porter.score import percent
from porter.survey import Look, Seen
from porter.targets import Target

#: Where nothing asks for a version.
_NO_CHOICE = Choice((0, 0), "")
#: A report with more sites has no page of its own: a browser would not show it in time.
MAX_PAGE_SITES = 20_000


def do(unit: Unit) -> dict[str, Any]:
    """Do what the unit's step says; returns what the run must know of it."""
    return _STEPS[unit.step](Bench(unit))


@dataclass
class Bench:
    """A unit, and what its steps need to know of its repository, read once."""

    unit: Unit

    @functools.cached_property
    def settings(self) -> Settings:
        """The repository's own configuration, with what the list says instead."""
        own = config.load([Path(self.unit.repo.path)])
        settings = replace(own, **dict(self.unit.repo.given))
        if settings.torch_npu or settings.hardware:
            support.validate(
                Target(settings.target, torch_npu=settings.torch_npu, hardware=settings.hardware)
            )
        return settings

    @functools.cached_property
    def catalog(self) -> Catalog:
        """The rules in force."""
        return catalog.selected(self.settings.select, self.settings.ignore)

    @functools.cached_property
    def request(self) -> Request:
        """What `porter check FOLDER` would look at."""
        return Request(
            (Path(self.unit.repo.path),),
            self.settings,
            exclude=(*self.unit.repo.exclude, *_made(self.unit)),
            jobs=1,
            force_exclude=self.settings.force_exclude,
        )

    @functools.cached_property
    def choice(self) -> Choice:
        """The torch version to support."""
        return runner.chosen(self.request)

    def about(self, **changes: Any) -> Bench:
        """The same for another unit of the repository, with what is known by now."""
        other = replace(self)
        other.__dict__.update(self.__dict__)
        other.unit = replace(self.unit, **changes)
        return other


def whole(at: Bench) -> dict[str, Any]:
    """All steps, where one shard holds everything; else the inventory."""
    found = inventory(at)
    sizes = [*found["own"], *found["around"]]
    if len(sizes) > 1:
        return found
    looks = [look(at.about(stop=size)) for size in sizes]
    join(at.about(pieces=tuple((0, 0, each["place"]) for each in looks)))
    parts = [analyse(at.about(stop=size)) for size in found["own"]]
    done = merge(at.about(pieces=tuple((0, 0, each["place"]) for each in parts)))
    return {**found, **done}


# Steps ------------------------------------------------------------------------------------------


def inventory(at: Bench) -> dict[str, Any]:
    """Find the files and cut them into shards; those around the repository come last."""
    unit = at.unit
    inputs = runner.gathered(at.request, at.catalog)
    own = range(inputs.own)
    around = range(inputs.own, len(inputs.places))
    shards = _cut(unit, inputs, own, unit.repo.split)
    others = _cut(unit, inputs, around, ())
    roots = list(dict.fromkeys(str(where.file.root) for where in inputs.places))
    for number, shard in enumerate((*shards, *others)):
        rows = [_row(inputs.places[i], i, roots) for i in shard.members]
        state.leave_json(_file(unit, f"files-{number}"), rows)
    known = {
        "roots": roots,
        "groups": [shard.group for shard in shards],
        "files": len(inputs.places),
        "own": inputs.own,
        "skipped": [[each.relative, each.reason] for each in inputs.skipped],
    }
    state.leave_json(_file(unit, "inventory"), known)
    return {
        "own": [len(shard.members) for shard in shards],
        "around": [len(shard.members) for shard in others],
        "notes": list(inputs.notes),
    }


def look(at: Bench) -> dict[str, Any]:
    """The first look at files of a shard."""
    unit = at.unit
    _, places = _places(unit)
    if unit.lost:
        return _leave(unit, [Look(problem=unit.lost) for _ in places])
    seen = Inputs(places, len(places), (), (), Path(), _NO_CHOICE, None).seen()
    digests = [survey.digest(file) for file in seen]
    view = runner.viewed(at.settings)
    key = cache.key("looks", unit.job.code, view, [(f.shown, f.relative, f.kind) for f in seen],
                    digests)  # fmt: skip
    kept = state.result(Path(unit.job.state), key)
    if not unit.job.fresh and state.used(kept):
        return {"place": str(kept), "kept": True}
    looks = survey.look(seen, view, 1, None)
    if [each.digest for each in looks] != digests:
        return _leave(unit, looks)  # something cannot be read, or changes at this moment
    state.write_packed(kept, looks)
    return {"place": str(kept)}


def _leave(unit: Unit, looks: Sequence[Look]) -> dict[str, Any]:
    """Hand looks on within this run alone."""
    place = _file(unit, f"looks-{unit.shard}-{unit.start}")
    state.leave_packed(place, list(looks))
    return {"place": str(place)}


def join(at: Bench) -> dict[str, Any]:
    """What files tell about each other, from what was seen of all of them."""
    unit = at.unit
    known = _inventory(unit)
    places: list[Place | None] = [None] * known["files"]
    looks: list[Look | None] = [None] * known["files"]
    order: dict[int, list[int]] = {}
    for shard, start, place in unit.pieces:
        found: list[Look] = state.read_packed(Path(place))
        piece = replace(unit, shard=shard, start=start, stop=start + len(found))
        indexes, inside = _places(piece)
        order.setdefault(shard, []).extend(indexes)
        for index, where, seen in zip(indexes, inside, found, strict=True):
            places[index], looks[index] = where, seen
    all_places, all_looks = _complete(places), _complete(looks)
    inputs = Inputs(all_places, known["own"], (), (), Path(unit.repo.path), at.choice, None)
    found_facts, callers = _across(at, inputs, all_looks)
    plan = runner.planned(at.settings, at.choice, found_facts.facts, callers)
    state.leave_packed(_file(unit, "plan"), (plan, cache.key("plan", unit.job.code, plan)))
    for shard in range(len(known["groups"])):
        mine = [all_looks[i] for i in order[shard]]
        needed = [at for at, i in enumerate(order[shard]) if i in found_facts.needed]
        state.leave_packed(_file(unit, f"looked-{shard}"), (mine, needed))
    agnostic = any(seen.agnostic for seen in all_looks[: known["own"]])
    state.leave_json(_file(unit, "joined"), {"agnostic": agnostic})
    return {}


def _across(at: Bench, inputs: Inputs, looks: Sequence[Look]) -> tuple[Found, dict[str, list[str]]]:
    """As the runner does; kept, for it is the step that cannot be shared out."""
    job = at.unit.job
    listed = [(p.shown, p.file.kind, p.dotted, p.names) for p in inputs.places]
    seen = [(each.digest, each.problem) for each in looks]
    view = runner.viewed(at.settings)
    kept = state.result(
        Path(job.state), cache.key("across", job.code, view, inputs.own, listed, seen)
    )
    if not job.fresh and state.used(kept):
        found: tuple[Found, dict[str, list[str]]] = state.read_packed(kept)
        return found
    found = runner.across(inputs, looks, at.catalog)
    if not any(each.problem for each in looks):
        state.write_packed(kept, found)
    return found


def analyse(at: Bench) -> dict[str, Any]:
    """Analyse files of a shard, and leave a part of the report."""
    unit = at.unit
    _, places = _places(unit)
    looks, needed = state.read_packed(_file(unit, f"looked-{unit.shard}"))
    looks = looks[unit.start : unit.stop]
    inside = {at - unit.start for at in needed if unit.start <= at < unit.stop}
    plan, depends = state.read_packed(_file(unit, "plan"))
    inputs = Inputs(places, len(places), (), (), Path(), _NO_CHOICE, None)
    todo = dict(runner.concerned(at.settings, inputs, looks, inside))
    key = cache.key("part", part.SCHEMA, depends, _listed(places), looks, todo)
    kept = state.result(Path(unit.job.state), key)
    if not unit.lost and not unit.job.fresh and state.used(kept):
        return {"place": str(kept), "kept": True}
    results = {
        index: failure(task, unit.lost or looks[index].problem)
        for index, task in todo.items()
        if unit.lost or looks[index].problem
    }
    left = [index for index in todo if index not in results]
    results |= zip(left, analyse_all([todo[i] for i in left], plan, 1), strict=True)
    data = part.text(_part(at, places, results))
    sound = all(_sound(places[index], looks[index], each) for index, each in results.items())
    place = kept if sound and not unit.lost else _file(unit, f"part-{unit.shard}-{unit.start}")
    state.write(place, data)
    return {"place": str(place), "kept": False}


def _sound(where: Place, seen: Look, result: FileResult) -> bool:
    """Whether a result depends on the bytes of its file alone, so that it may be kept."""
    if seen.problem or result.trace:
        return False
    if result.digest:
        return result.digest == seen.digest.hex()
    return survey.digest(Seen.of(where)) == seen.digest


def merge(at: Bench) -> dict[str, Any]:
    """Put the parts together: the report, its page, and a summary of it."""
    unit = at.unit
    known = _inventory(unit)
    skipped = tuple(Skipped(*each) for each in known["skipped"])
    inputs = Inputs((), 0, skipped, (), Path(unit.repo.path), at.choice, None)
    too_low, too_large, left_out = runner.leftovers(at.settings, inputs, at.catalog)
    parts = [Part(Path(place)) for _, _, place in unit.pieces]
    rewritten = any(each.head["report"]["summary"]["sites"]["rewritten"] for each in parts)
    relies = rewritten or state.read_json(_file(unit, "joined"))["agnostic"]
    extra = assemble(
        at.settings.target,
        at.choice.text,
        (*too_large, *(too_low if relies else ())),
        left_out,
        0,
        runner.made_with(at.settings, at.choice, at.catalog),
    )
    text = part.text(extra)
    key = cache.key("summary", unit.job.code, unit.repo.name, text, known["groups"],
                    _identities(unit))  # fmt: skip
    return _merged(unit, parts, extra, key, known["groups"])


def _merged(
    unit: Unit, parts: Sequence[Part], extra: Report, key: bytes, groups: Sequence[str]
) -> dict[str, Any]:
    kept = state.result(Path(unit.job.state), key)
    page = Path(unit.job.output, "repos", f"{unit.repo.name}.html")
    report = page.with_name(page.name.removesuffix(".html") + ".json")
    passing = any(_passing(unit, each.path) for each in parts)
    if not passing and not unit.job.fresh and state.used(kept):
        summary = state.read_json(kept)
        if (digest(report), digest(page)) == (summary["report"], summary["page"]):
            return {"summary": str(kept), "kept": True}
    head = json.loads(part.text(extra).partition(b"\n")[0])
    heads = [*(each.head for each in parts), head]
    whole_head = part.total(heads)
    written = part.write_report(report, parts, extra, whole_head)
    summary = {
        "report": written,
        "page": _write_page(page, report, whole_head),
        "target": whole_head["target"],
        "min_torch": whole_head["min_torch"],
        "verdict": whole_head["verdict"],
        "summary": whole_head["summary"],
        "gaps": gaps.added([each["gaps"] for each in heads]),
        "rules": {code: _about(rule) for code, rule in whole_head["rules"].items()},
        "units": _groups(unit, parts, groups),
    }
    # What a part that is not kept led to is not kept either.
    place = _file(unit, "summary") if passing else kept
    state.write_json(place, summary)
    return {"summary": str(place)}


def _write_page(page: Path, report: Path, head: dict[str, Any]) -> str:
    """Write the page of a report, unless it is too large for one; returns its SHA-256."""
    if head["summary"]["sites"]["total"] > MAX_PAGE_SITES:
        page.unlink(missing_ok=True)
        return ""
    data = json.loads(report.read_bytes())
    state.write(page, render(data, "html").encode())
    return digest(page)


def _about(rule: dict[str, Any]) -> dict[str, Any]:
    return {key: rule[key] for key in ("name", "title", "family", "topic", "category")}


def _groups(unit: Unit, parts: Sequence[Part], groups: Sequence[str]) -> list[dict[str, Any]]:
    """What each folder that a pattern chose amounts to, and all else as one."""
    if not any(groups):
        return []
    found: dict[str, list[dict[str, Any]]] = {}
    for (shard, _, _), each in zip(unit.pieces, parts, strict=True):
        found.setdefault(groups[shard], []).append(each.head)
    rows = []
    for group in sorted(found):
        report = part.total(found[group])
        rows.append(
            {
                "folder": group,
                "readiness": percent(report["verdict"]["points"]),
                **{key: report["verdict"][key] for key in ("status", "points", "sites")},
                "files": report["summary"]["files"],
                "effort": report["summary"]["effort"],
            }
        )
    return rows


# Files of a unit --------------------------------------------------------------------------------


def _file(unit: Unit, name: str) -> Path:
    return Path(unit.job.work, str(unit.number), name)


def _passing(unit: Unit, path: Path) -> bool:
    """Whether a file ends with this run."""
    return Path(unit.job.work) in path.parents


def _inventory(unit: Unit) -> Any:
    return state.read_json(_file(unit, "inventory"))


def _row(where: Place, index: int, roots: Sequence[str]) -> list[Any]:
    file = where.file
    return [index, roots.index(str(file.root)), file.relative, file.kind, where.shown]


def _places(unit: Unit) -> tuple[list[int], list[Place]]:
    """The files of a unit, and their numbers in the whole repository."""
    roots = [Path(root) for root in _inventory(unit)["roots"]]
    rows = state.read_json(_file(unit, f"files-{unit.shard}"))[unit.start : unit.stop]
    places = [
        placed(InputFile(roots[root], roots[root] / relative, relative, kind), shown)
        for _, root, relative, kind, shown in rows
    ]
    return [row[0] for row in rows], places


def _listed(places: Sequence[Place]) -> list[tuple[str, str, str]]:
    return [(where.shown, where.file.kind, where.dotted) for where in places]


def _identities(unit: Unit) -> list[str]:
    """What the parts are called, which tells all about them; those not kept are called anew."""
    return ["/".join(Path(place).parts[-2:]) for _, _, place in unit.pieces]


def _complete(values: Sequence[Any]) -> list[Any]:
    if any(value is None for value in values):
        raise RuntimeError("a unit left nothing for some of its files")
    return list(values)


def _cut(unit: Unit, inputs: Inputs, which: range, patterns: Sequence[str]) -> list[Shard]:
    places = [inputs.places[i] for i in which]
    cutter = Cutter(
        [where.shown for where in places],
        [_size(where.file.path) for where in places],
        patterns,
        unit.repo.max_files,
        unit.repo.max_bytes,
    )
    first = which.start
    return [
        Shard(shard.group, tuple(first + i for i in shard.members)) for shard in cutter.shards()
    ]


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0


def _part(at: Bench, places: Sequence[Place], results: dict[int, FileResult]) -> Report:
    return assemble(
        at.settings.target,
        at.choice.text,
        [site for result in results.values() for site in result.sites],
        [runner.became(where.shown, results.get(i)) for i, where in enumerate(places)],
        sum(result.suppressed for result in results.values()),
        runner.made_with(at.settings, at.choice, at.catalog),
    )


def _made(unit: Unit) -> list[str]:
    """Patterns of the folders that fleets write, where they lie within the repository."""
    inside = []
    for folder in (unit.job.output, unit.job.state):
        relative = os.path.relpath(os.path.realpath(folder), os.path.realpath(unit.repo.path))
        if relative != "." and not relative.startswith(".."):
            inside.append(f"/{Path(relative).as_posix()}/")
    return inside


_STEPS = {
    "whole": whole,
    "inventory": inventory,
    "look": look,
    "join": join,
    "analyse": analyse,
    "merge": merge,
}
