"""A run over a project: what is read, what is analysed, and what comes of it.

A cheap look at the bytes comes first; files in which no rule can find anything are neither
decoded nor parsed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

from porter import codes, files, lookout, requirements, survey
from porter.config import Settings
from porter.levels import Category, Status
from porter.lookout import Lookout, wants
from porter.places import Place, place
from porter.project import InputFile, Kind, Patterns, Skipped, UsageProblem, discover
from porter.provenance import Provenance, tables
from porter.report import FileReport, FileStatus, Report, SiteReport, assemble, said
from porter.survey import Look, Seen, View

if TYPE_CHECKING:
    from porter.cache import Cache
    from porter.catalog import Catalog
    from porter.facts import Found
    from porter.module import ProjectFacts
    from porter.pool import Progress
    from porter.task import FileResult, Plan, Task

    #: Rules, or what is known of them without loading them.
    Rules: TypeAlias = Catalog | Lookout

# What only an analysis needs is imported where it is needed: most runs of a hook look at a few
# files, and find that none of them concerns a rule.

#: Of more files than these, some will have to be analysed: then they are looked at as a whole.
FEW = 64


@dataclass(frozen=True)
class Request:
    """What to look at and how.

    Args:
        paths: files and folders; empty with `stdin`.
        settings: from the configuration, with what the command line overrides.
        exclude: patterns of the command line, relative to each folder given.
        jobs: number of processes; 0 chooses.
        stdin: bytes to analyse instead of files.
        stdin_name: the path they stand for.
        only: real paths of the files to report on; the others are read for what they tell of
            these. None reports on all.
        cache: use what earlier runs found out, and keep what this one does.
        force_exclude: leave out files named in `paths` too, if a search would.
    """

    paths: tuple[Path, ...]
    settings: Settings = field(default_factory=Settings)
    exclude: tuple[str, ...] = ()
    jobs: int = 0
    stdin: bytes | None = None
    stdin_name: str = "stdin.py"
    only: frozenset[str] | None = None
    cache: bool = False
    force_exclude: bool = False


class Changed(NamedTuple):
    """A file with its new content; `digest` is the SHA-256 of the content it was made from."""

    file: InputFile
    path: str
    packed: bytes
    digest: str

    @classmethod
    def of(cls, file: InputFile, path: str, after: bytes, digest: str) -> Changed:
        """A file that becomes `after`."""
        from porter.task import packed

        return cls(file, path, packed(after), digest)

    @property
    def after(self) -> bytes:
        """The new content."""
        from porter.task import unpacked

        return unpacked(self.packed)


@dataclass(frozen=True)
class Run:
    """The outcome of a run.

    Args:
        report: what was found.
        changed: the files to rewrite, sorted by path.
        base: the folder that paths of the report are relative to, as it is to be shown.
        choice: the torch version to support.
        notes: remarks for the user.
        traces: tracebacks of rules that failed, for whoever debugs them.
        waiting: declared torch versions that are too low, while no code here asks for more.
    """

    report: Report
    changed: tuple[Changed, ...]
    base: Path
    choice: requirements.Choice
    notes: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()
    waiting: tuple[SiteReport, ...] = ()


def run(request: Request, progress: Progress | None = None) -> Run:
    """Look at everything the request names. Nothing is written, but for porter's own cache.

    Raises:
        UsageProblem: a path does not exist, or a version or code is malformed.
        porter.config.ConfigProblem: a pyproject.toml is malformed.
        porter.catalog.CatalogProblem: a selected code matches no rule.
    """
    settings = request.settings
    known = lookout.selected(settings.select, settings.ignore)
    inputs = _named(request, known)
    looks = _unconcerned(request, inputs, progress)
    if looks is not None:
        return _outcome(request, inputs, looks, {}, known)
    inputs = _surrounded(request, inputs)
    kept = _cache(request, known, inputs)
    looks = _looks(request, inputs, kept, progress)
    found, callers = _across(inputs, looks, kept, known)
    plan = planned(settings, inputs.choice, found.facts, callers)
    results = _results(request, inputs, looks, found, plan, kept, progress)
    kept.cache.save()
    return _outcome(request, inputs, looks, results, known)


@dataclass(frozen=True, eq=False, repr=False)
class Inputs:
    """What a run reads; `gathered` makes it.

    Args:
        places: its own files first, then those that only tell about these.
        own: the number of the former.
        skipped: what was left out, and why.
        notes: remarks for the user.
        base: the folder that shown paths are relative to.
        choice: the torch version to support.
        stdin: what is read instead of the first file.
    """

    places: Sequence[Place]
    own: int
    skipped: tuple[Skipped, ...]
    notes: tuple[str, ...]
    base: Path
    choice: requirements.Choice
    stdin: bytes | None

    def seen(self) -> list[Seen]:
        """The files as the first look takes them."""
        return [
            Seen.of(where, self.stdin if index == 0 else None)
            for index, where in enumerate(self.places)
        ]

    def read(self, index: int) -> bytes:
        """The bytes of a file, read anew: all of a large project would fill the memory."""
        if index == 0 and self.stdin is not None:
            return self.stdin
        try:
            return files.read(self.places[index].file.path)
        except OSError:
            return b""


def gathered(request: Request, catalog: Rules) -> Inputs:
    """Find what a request names, and what lies around it.

    Raises:
        UsageProblem: a path does not exist, or a version is malformed.
    """
    return _surrounded(request, _named(request, catalog))


def _named(request: Request, catalog: Rules) -> Inputs:
    """What a request names, without what lies around it."""
    files, skipped, notes = _inputs(request, catalog)
    base, choice = _base(request), chosen(request)
    places = [place(file, _relative(file, base)) for file in files]
    notes = (*notes, *choice.problems)
    return Inputs(places, len(files), skipped, notes, base, choice, request.stdin)


def _surrounded(request: Request, named: Inputs) -> Inputs:
    """The same, followed by what only tells about it."""
    own_places, others = list(named.places), []
    if request.only is not None:
        inside = [os.path.realpath(p.file.path) in request.only for p in own_places]
        others = [p for p, chosen in zip(own_places, inside, strict=True) if not chosen]
        own_places = [p for p, chosen in zip(own_places, inside, strict=True) if chosen]
    around = _surroundings(request, [where.file for where in named.places])
    others += [place(file, _relative(file, named.base)) for file in around]
    return replace(named, places=[*own_places, *others], own=len(own_places))


def _unconcerned(request: Request, inputs: Inputs, progress: Progress | None) -> list[Look] | None:
    """The first look at the files, if they need no more than that; None if one may.

    What lies around them matters only to files that are analysed: those that concern a rule, and
    those that use a name which another file passes on.
    """
    if request.only is not None or len(inputs.places) > FEW:
        return None
    looks, python = [], []
    view = viewed(request.settings)
    for index, file in enumerate(inputs.seen()):
        try:
            data = file.data if file.data is not None else files.read(file.path)
        except OSError:
            return None
        look = survey.glance(file, data, view)
        if look.concerns or file.kind == "notebook":  # whose imports are no lines of their own
            return None
        if file.kind == "python":
            python.append((file.path, data))
        looks.append(look)
        if progress is not None:
            progress(index + 1, len(inputs.places))
    if not any(b"import" in data for _, data in python):
        return looks
    from porter import reach

    found = reach.may_use(python, _perhaps_around(request), survey.signs(view))
    return None if found else looks


def _perhaps_around(request: Request) -> Iterator[Path]:
    """At least the places of `_surroundings`, found without git."""
    for path in request.paths or (Path(request.stdin_name),):
        folder = requirements.project_folder(path)
        yield from [folder] if requirements.has_metadata(folder) else _neighbours(path)


class _Kept(NamedTuple):
    """What earlier runs of the same kind found out; `key` is what all of it depends on."""

    cache: Cache
    key: bytes


def _cache(request: Request, known: Lookout, inputs: Inputs) -> _Kept:
    from porter import cache
    from porter.cache import Cache

    if not request.cache:
        return _Kept(Cache(), b"")
    settings = request.settings
    identity = (
        os.path.realpath(inputs.base),
        [os.path.realpath(path) for path in request.paths],
        request.stdin_name if request.stdin is not None else "",
        settings.target,
        settings.unsafe,
        settings.select,
        settings.ignore,
    )
    return _Kept(cache.opened(identity), cache.installation(known.packages))


def _looks(request: Request, inputs: Inputs, kept: _Kept, progress: Progress | None) -> list[Look]:
    """The first look at every file; what is known of the same bytes is not looked for again."""
    from porter import cache

    seen, view = inputs.seen(), viewed(request.settings)
    name = cache.key("looks", kept.key, view)
    known: dict[tuple[str, str], Look] = kept.cache.get(name) or {}
    looks: list[Look | None] = [None] * len(seen)
    if known:
        for index, file in enumerate(seen):
            before = known.get((file.shown, file.kind))
            if before is not None and survey.digest(file) == before.digest:
                looks[index] = before
    fresh = [index for index, found in enumerate(looks) if found is None]
    if fresh:
        new = survey.look([seen[i] for i in fresh], view, request.jobs, progress)
        for index, found in zip(fresh, new, strict=True):
            looks[index] = found
    done = [found for found in looks if found is not None]
    table = {(f.shown, f.kind): k for f, k in zip(seen, done, strict=True) if not k.problem}
    if table != known:
        kept.cache.put(name, table)
    return done


def _across(
    inputs: Inputs, looks: Sequence[Look], kept: _Kept, catalog: Rules
) -> tuple[Found, dict[str, list[str]]]:
    """What files tell about each other: passed on names, and callers of C++ functions."""
    from porter import cache

    listed = [(p.shown, p.file.kind, p.dotted, p.names) for p in inputs.places]
    name = cache.key("across", kept.key, inputs.own, listed, [k.digest for k in looks])
    before: tuple[Found, dict[str, list[str]]] | None = kept.cache.get(name)
    if before is not None:
        return before
    found, callers = across(inputs, looks, catalog)
    kept.cache.put(name, (found, callers))
    return found, callers


def viewed(settings: Settings) -> View:
    """What the first look at a file depends on."""
    return View(settings.select, settings.ignore, settings.target, settings.hardware)


def across(
    inputs: Inputs, looks: Sequence[Look], catalog: Rules
) -> tuple[Found, dict[str, list[str]]]:
    """What files tell about each other: passed on names, and callers of C++ functions."""
    from porter import facts

    found = facts.collect(
        inputs.places,
        [i for i, look in enumerate(looks) if look.exports],
        [i for i, look in enumerate(looks) if look.methods],
        inputs.read,
        catalog,
    )
    return found, _callers(inputs, looks)


def planned(
    settings: Settings,
    choice: requirements.Choice,
    found: ProjectFacts,
    callers: Mapping[str, Sequence[str]],
) -> Plan:
    """What every analysis of a run depends on besides its file."""
    from porter.targets import Target
    from porter.task import Plan

    target = Target(
        settings.target,
        choice.version,
        torch_npu=settings.torch_npu,
        hardware=settings.hardware,
    )
    return Plan(target, settings.select, settings.ignore, settings.unsafe, found, callers)


def concerned(
    settings: Settings, inputs: Inputs, looks: Sequence[Look], needed: Collection[int]
) -> Iterator[tuple[int, Task]]:
    """The files of a run that must be analysed, or that cannot be read, by index.

    Args:
        settings: name the codes that are off for some files.
        inputs: the files.
        looks: what the first look at each told.
        needed: indexes of files that must be analysed whatever their bytes.
    """
    ignored = _Ignored(settings)
    for index, seen in enumerate(looks[: inputs.own]):
        if seen.problem or seen.concerns or index in needed:
            where = inputs.places[index]
            codes = ignored.codes(where.file.path)
            yield index, _task(where, seen.size, codes, inputs.stdin if index == 0 else None)


def _results(
    request: Request,
    inputs: Inputs,
    looks: Sequence[Look],
    found: Found,
    plan: Plan,
    kept: _Kept,
    progress: Progress | None,
) -> dict[int, FileResult]:
    """What became of each file that had to be analysed or cannot be read."""
    from porter import cache

    depends = cache.key(kept.key, plan)
    results: dict[int, FileResult] = {}
    tasks: dict[int, tuple[bytes, Task]] = {}
    for index, task in concerned(request.settings, inputs, looks, found.needed):
        seen = looks[index]
        if seen.problem:
            from porter.analysis import failure

            results[index] = failure(task, seen.problem)
            continue
        name = cache.key("result", depends, seen.digest, replace(task, data=None))
        before = kept.cache.get(name)
        if before is not None:
            results[index] = before
        else:
            tasks[index] = (name, task)
    analysed = analyse_all([task for _, task in tasks.values()], plan, request.jobs, progress)
    for (index, (name, _)), result in zip(tasks.items(), analysed, strict=True):
        results[index] = result
        if result.digest == looks[index].digest.hex() and not result.trace:
            kept.cache.put(name, result)
    return results


def analyse_all(
    tasks: Sequence[Task], plan: Plan, jobs: int, progress: Progress | None
) -> list[FileResult]:
    """See `porter.analysis.analyse_all`."""
    if not tasks:
        return []
    from porter import analysis

    return analysis.analyse_all(tasks, plan, jobs, progress)


def _outcome(
    request: Request,
    inputs: Inputs,
    looks: Sequence[Look],
    results: Mapping[int, FileResult],
    catalog: Rules,
) -> Run:
    settings, choice, places = request.settings, inputs.choice, inputs.places[: inputs.own]
    sites = [site for result in results.values() for site in result.sites]
    relies = any(seen.agnostic for seen in looks[: inputs.own])
    relies = relies or any(site.status is Status.REWRITTEN for site in sites)
    too_low, others, skipped = leftovers(settings, inputs, catalog)
    sites += too_low if relies else ()
    sites += others
    files = [became(where.shown, results.get(i)) for i, where in enumerate(places)]
    files += skipped
    silenced = sum(result.suppressed for result in results.values())
    origin = made_with(settings, choice, catalog)
    return Run(
        assemble(settings.target, choice.text, sites, files, silenced, origin),
        tuple(_changed(places, results)),
        inputs.base,
        choice,
        inputs.notes,
        tuple(result.trace for result in results.values() if result.trace),
        () if relies else too_low,
    )


def leftovers(
    settings: Settings, inputs: Inputs, catalog: Rules
) -> tuple[tuple[SiteReport, ...], tuple[SiteReport, ...], tuple[FileReport, ...]]:
    """What is said of a project rather than of a file that was read.

    Returns:
        Declared torch versions that are too low, to be told if the code relies on a newer one;
        files too large to be read; all that was left out.
    """
    return (
        tuple(_too_low(inputs.choice, inputs.base, catalog, _Ignored(settings))),
        tuple(_too_large(inputs.skipped, catalog)),
        tuple(FileReport(s.relative, FileStatus.SKIPPED, s.reason) for s in inputs.skipped),
    )


def _callers(inputs: Inputs, looks: Sequence[Look]) -> dict[str, list[str]]:
    """Where Python files of the run call what its C++ files bind."""
    if not any(look.binds for look in looks[: inputs.own]):
        return {}
    from porter import native

    places = inputs.places[: inputs.own]
    names: list[str] = []
    for index in range(len(places)):
        if looks[index].binds:
            bound = native.exports(inputs.read(index).decode("utf-8", "replace"))
            names += [export.name for export in bound]
    python = (
        (where.shown, inputs.read(index))
        for index, where in enumerate(places)
        if where.file.kind == "python"
    )
    return dict(native.callers(names, python)) if names else {}


def made_with(settings: Settings, choice: requirements.Choice, catalog: Rules) -> Provenance:
    """What a report depends on."""
    return Provenance(
        origin=choice.origin,
        select=settings.select,
        ignore=settings.ignore,
        unsafe=settings.unsafe,
        torch_npu=settings.torch_npu,
        hardware=settings.hardware,
        rules=tuple(rule.code for rule in catalog.rules),
        tables=tables(),
    )


def _task(where: Place, size: int, codes: tuple[str, ...], stdin: bytes | None) -> Task:
    from porter.task import Task

    file = where.file
    return Task(str(file.path), where.shown, file.kind, where.dotted, size, codes, stdin)


def became(shown: str, result: FileResult | None) -> FileReport:
    """What became of a file; without a result it was not even analysed."""
    if result is None:
        return FileReport(shown, FileStatus.UNCHANGED)
    return FileReport(shown, result.status, result.reason, result.hunks)


def _changed(places: Sequence[Place], results: Mapping[int, FileResult]) -> Iterator[Changed]:
    for index in sorted(results, key=lambda i: places[i].shown):
        result, where = results[index], places[index]
        if result.packed is not None:
            yield Changed(where.file, where.shown, result.packed, result.digest)


def _inputs(
    request: Request, catalog: Rules
) -> tuple[list[InputFile], tuple[Skipped, ...], tuple[str, ...]]:
    if request.stdin is not None:
        path = Path(request.stdin_name)
        kind: Kind = "notebook" if path.suffix.lower() == ".ipynb" else "python"
        if path.suffix.lower() not in (".py", ".pyi", ".pyw") and wants(lookout.load(), path.name):
            kind = "other"
        return [InputFile(path.parent, path, path.name, kind)], (), ()
    settings, folder = request.settings, request.settings.folder
    exclude = [*request.exclude]
    rest: Patterns | None = None
    if folder is not None and settings.exclude:
        if all(os.path.realpath(p) == os.path.realpath(folder) for p in request.paths):
            exclude = [*settings.exclude, *exclude]
        else:
            rest = Patterns(settings.exclude)
    found = discover(
        request.paths,
        exclude=exclude,
        force_exclude=request.force_exclude,
        also=functools.partial(wants, catalog),
    )
    files = list(found.files)
    if rest is not None and folder is not None:
        named = set(request.paths) if not request.force_exclude else set()
        files = [f for f in files if f.path in named or not rest.match_outer(f.path, folder)]
    return files, found.skipped, found.notes


def _base(request: Request) -> Path:
    """The folder that reported paths are relative to."""
    if request.stdin is not None:
        return Path()
    here = os.path.abspath(Path.cwd())  # noqa: PTH100 - a link stays what the user wrote
    if not any(p.is_dir() or not _holds(here, os.path.abspath(p)) for p in request.paths):  # noqa: PTH100
        return Path()  # files of this folder are called by their paths from here
    roots = list(dict.fromkeys(p if p.is_dir() else p.parent for p in request.paths))
    if len(roots) == 1:
        return roots[0]
    common = os.path.commonpath([os.path.abspath(root) for root in roots])  # noqa: PTH100
    if any(root.is_absolute() for root in roots):
        return Path(common)
    return Path(os.path.relpath(common))


def _relative(file: InputFile, base: Path) -> str:
    if file.root == base:
        return file.relative
    return Path(os.path.relpath(file.path, base)).as_posix()


def chosen(request: Request) -> requirements.Choice:
    """The torch version to support.

    Raises:
        UsageProblem: what was asked for is no version.
    """
    paths = request.paths or (Path(request.stdin_name),)
    folders = dict.fromkeys(requirements.declaring_folder(path) for path in paths)
    bounds = [bound for folder in folders for bound in requirements.declared(folder)]
    files = tuple(path for folder in folders for path in requirements.asked(folder))
    try:
        found = requirements.choose(request.settings.target, request.settings.min_torch, bounds)
        said = tuple(text for folder in folders for text in requirements.problems(folder))
        return replace(found, asked=files, problems=said)
    except ValueError:
        asked = request.settings.min_torch
        raise UsageProblem(f"--min-torch cannot be {asked!r}: write it like 2.9, or auto") from None


def _surroundings(request: Request, files: Sequence[InputFile]) -> list[InputFile]:
    """The rest of the project, read for names that pass between its files and changed never."""
    given = {os.path.realpath(path) for path in request.paths}
    paths = request.paths or (Path(request.stdin_name),)
    around = [
        place
        for place in dict.fromkeys(place for path in paths for place in _neighbours(path))
        if not any(_holds(g, os.path.realpath(place)) for g in given)
    ]
    if not around:
        return []
    known = {os.path.realpath(file.path) for file in files}
    return [f for f in discover(around).files if os.path.realpath(f.path) not in known]


def _neighbours(path: Path) -> list[Path]:
    """Where code that is imported together with `path` lies, as far as that is surely near."""
    folder = requirements.project_folder(path)
    # What a repository ignores (downloads, copies) lies in its folder, but is no part of it.
    if requirements.has_metadata(folder) and (folder == path or not _ignored(path)):
        return [folder]
    inner = (path if path.is_dir() else path.parent).absolute()
    if (inner / "__init__.py").is_file():
        while (inner.parent / "__init__.py").is_file() and inner.parent != inner:
            inner = inner.parent
        return [inner]
    # A lone script may lie anywhere, even in a home folder: only its own folder is looked at.
    return sorted(inner.glob("*.py")) if inner.is_dir() and not path.is_dir() else []


def _ignored(path: Path) -> bool:
    from porter import git

    return git.ignored(path)


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep)


class _Ignored:
    """The codes that `per-file-ignores` switches off for a file."""

    def __init__(self, settings: Settings) -> None:
        self._base = settings.folder
        self._rules = [
            (Patterns([pattern]), tuple(code.upper() for code in codes))
            for pattern, codes in settings.per_file_ignores
        ]

    def codes(self, path: Path) -> tuple[str, ...]:
        base = self._base or Path.cwd()
        return tuple(
            code
            for patterns, codes in self._rules
            if patterns.match_outer(path, base)
            for code in codes
        )


def _too_large(skipped: Sequence[Skipped], catalog: Rules) -> Iterator[SiteReport]:
    """Files that were not read for their size: code is work left, data is only named."""
    rule = catalog.get(codes.UNREAD_TEXT)
    for left in skipped if rule is not None else ():
        if rule is None or not left.reason.startswith("larger than"):
            continue
        site = said(left.relative, rule, 1, 1, "", left.reason)
        code = left.relative.lower().endswith((".py", ".pyi", ".pyw", ".ipynb"))
        if not code:
            site = replace(site, status=Status.INFORMATION, category=Category.INFORMATION, effort=0)
        yield site


def _too_low(
    choice: requirements.Choice, base: Path, catalog: Rules, ignored: _Ignored
) -> Iterator[SiteReport]:
    rule = catalog.get(codes.TORCH_BOUND)
    for bound in choice.too_low if rule is not None else ():
        if rule is None or any(rule.code.startswith(c) for c in ignored.codes(bound.path)):
            continue
        path = Path(os.path.relpath(bound.path, base)).as_posix()
        reason = f"the migrated code needs torch >= {choice.text}; raise this bound"
        yield said(path, rule, bound.line, 1, bound.text, reason)
