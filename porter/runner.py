"""A run over a project: what is read, what is analysed, and what comes of it.

A cheap look at the bytes comes first; files in which no rule can find anything are neither
decoded nor parsed.
"""

from __future__ import annotations

import functools
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from porter import catalog as rules
from porter import facts, git, native, own, requirements, survey
from porter.analysis import FileResult, Plan, Task, analyse_all, failure, said
from porter.catalog import Catalog, selected
from porter.config import Settings
from porter.pool import Progress
from porter.project import InputFile, Kind, Patterns, Skipped, UsageProblem, discover
from porter.provenance import Provenance, tables
from porter.report import FileReport, FileStatus, Report, SiteReport, assemble
from porter.rule import Status
from porter.survey import Look, Seen, View
from porter.targets import Target
from porter.text import wants


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
    """

    paths: tuple[Path, ...]
    settings: Settings = field(default_factory=Settings)
    exclude: tuple[str, ...] = ()
    jobs: int = 0
    stdin: bytes | None = None
    stdin_name: str = "stdin.py"
    only: frozenset[str] | None = None


@dataclass(frozen=True)
class Changed:
    """A file with its new content; `digest` is the SHA-256 of the content it was made from."""

    file: InputFile
    path: str
    after: bytes
    digest: str


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
    """

    report: Report
    changed: tuple[Changed, ...]
    base: Path
    choice: requirements.Choice
    notes: tuple[str, ...] = ()
    traces: tuple[str, ...] = ()


def run(request: Request, progress: Progress | None = None) -> Run:
    """Look at everything the request names. Nothing is written.

    Raises:
        UsageProblem: a path does not exist, or a version or code is malformed.
        porter.config.ConfigProblem: a pyproject.toml is malformed.
        porter.catalog.CatalogProblem: a selected code matches no rule.
    """
    settings = request.settings
    catalog = selected(settings.select, settings.ignore)
    files, skipped, notes = _inputs(request, catalog)
    base = _base(request)
    choice = _choice(request)
    surroundings = _surroundings(request, files)
    if request.only is not None:
        others = [f for f in files if os.path.realpath(f.path) not in request.only]
        files = [f for f in files if os.path.realpath(f.path) in request.only]
        surroundings = [*others, *surroundings]
    everything = [*files, *surroundings]
    places = [facts.place(file, _relative(file, base)) for file in everything]
    sources = _Sources(places, request.stdin)
    seen = [sources.seen(index) for index in range(len(places))]
    view = View(settings.select, settings.ignore, settings.target)
    looks = survey.look(seen, view, request.jobs, progress)
    found = facts.collect(
        places,
        [i for i, look in enumerate(looks) if look.exports],
        [i for i, look in enumerate(looks) if look.methods],
        sources.read,
        catalog,
    )
    plan = Plan(
        Target(
            settings.target,
            choice.version,
            torch_npu=settings.torch_npu,
            hardware=settings.hardware,
        ),
        settings.select,
        settings.ignore,
        settings.unsafe,
        found.facts,
        _callers(places[: len(files)], looks, sources),
    )
    ignored = _Ignored(settings)
    results = {
        index: failure(_task(places[index], 0, (), None), look.problem)
        for index, look in enumerate(looks[: len(files)])
        if look.problem
    }
    tasks = {
        index: _task(places[index], look.size, ignored.codes(files[index].path), request.stdin)
        for index, look in enumerate(looks[: len(files)])
        if not look.problem and (look.concerns or index in found.needed)
    }
    analysed = analyse_all(list(tasks.values()), plan, request.jobs, progress)
    results.update(zip(tasks, analysed, strict=True))
    sites = [site for result in results.values() for site in result.sites]
    relies = any(look.agnostic for look in looks[: len(files)])
    if relies or any(site.status is Status.REWRITTEN for site in sites):
        sites += _too_low(choice, base, catalog, ignored)
    files_said = [_file(places[i].shown, results.get(i)) for i in range(len(files))]
    files_said += [FileReport(s.relative, FileStatus.SKIPPED, s.reason) for s in skipped]
    silenced = sum(result.suppressed for result in results.values())
    return Run(
        assemble(
            settings.target,
            choice.text,
            sites,
            files_said,
            silenced,
            _provenance(settings, choice, catalog),
        ),
        tuple(_changed(files, places, results)),
        base,
        choice,
        notes,
        tuple(result.trace for result in results.values() if result.trace),
    )


@dataclass(frozen=True)
class _Sources:
    """The bytes of files, read anew each time: all of a large project would fill the memory."""

    places: Sequence[facts.Place]
    stdin: bytes | None

    def seen(self, index: int) -> Seen:
        return Seen.of(self.places[index], self.stdin if index == 0 else None)

    def read(self, index: int) -> bytes:
        if index == 0 and self.stdin is not None:
            return self.stdin
        try:
            return self.places[index].file.path.read_bytes()
        except OSError:
            return b""


def _callers(
    places: Sequence[facts.Place], looks: Sequence[Look], sources: _Sources
) -> dict[str, list[str]]:
    """Where Python files call what C++ files of the run bind."""
    names: list[str] = []
    for index in range(len(places)):
        if looks[index].binds:
            bound = native.exports(sources.read(index).decode("utf-8", "replace"))
            names += [export.name for export in bound]
    python = (
        (where.shown, sources.read(index))
        for index, where in enumerate(places)
        if where.file.kind == "python"
    )
    return dict(native.callers(names, python)) if names else {}


def _provenance(settings: Settings, choice: requirements.Choice, catalog: Catalog) -> Provenance:
    return Provenance(
        origin=choice.origin,
        select=settings.select,
        ignore=settings.ignore,
        unsafe=settings.unsafe,
        rules=tuple(rule.code for rule in catalog.rules),
        tables=tables(),
    )


def _task(where: facts.Place, size: int, codes: tuple[str, ...], stdin: bytes | None) -> Task:
    file = where.file
    return Task(str(file.path), where.shown, file.kind, where.dotted, size, codes, stdin)


def _file(shown: str, result: FileResult | None) -> FileReport:
    if result is None:
        return FileReport(shown, FileStatus.UNCHANGED)
    return FileReport(shown, result.status, result.reason, result.hunks)


def _changed(
    files: Sequence[InputFile], places: Sequence[facts.Place], results: Mapping[int, FileResult]
) -> Iterator[Changed]:
    for index in sorted(results, key=lambda i: places[i].shown):
        result = results[index]
        if result.after is not None:
            yield Changed(files[index], places[index].shown, result.after, result.digest)


def _inputs(
    request: Request, catalog: Catalog
) -> tuple[list[InputFile], tuple[Skipped, ...], tuple[str, ...]]:
    if request.stdin is not None:
        path = Path(request.stdin_name)
        kind: Kind = "notebook" if path.suffix.lower() == ".ipynb" else "python"
        if path.suffix.lower() not in (".py", ".pyi", ".pyw") and wants(rules.load(), path.name):
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
    found = discover(request.paths, exclude=exclude, also=functools.partial(wants, catalog))
    files = list(found.files)
    if rest is not None and folder is not None:
        named = set(request.paths)
        files = [f for f in files if f.path in named or not rest.match_outer(f.path, folder)]
    return files, found.skipped, found.notes


def _base(request: Request) -> Path:
    """The folder that reported paths are relative to."""
    if request.stdin is not None:
        return Path()
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


def _choice(request: Request) -> requirements.Choice:
    paths = request.paths or (Path(request.stdin_name),)
    folders = dict.fromkeys(requirements.project_folder(path) for path in paths)
    bounds = [bound for folder in folders for bound in requirements.declared(folder)]
    try:
        return requirements.choose(request.settings.target, request.settings.min_torch, bounds)
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
    known = {os.path.realpath(file.path) for file in files}
    return [f for f in discover(around).files if os.path.realpath(f.path) not in known]


def _neighbours(path: Path) -> list[Path]:
    """Where code that is imported together with `path` lies, as far as that is surely near."""
    folder = requirements.project_folder(path)
    # What a repository ignores (downloads, copies) lies in its folder, but is no part of it.
    if requirements.has_metadata(folder) and (folder == path or not git.ignored(path)):
        return [folder]
    inner = (path if path.is_dir() else path.parent).absolute()
    if (inner / "__init__.py").is_file():
        while (inner.parent / "__init__.py").is_file() and inner.parent != inner:
            inner = inner.parent
        return [inner]
    # A lone script may lie anywhere, even in a home folder: only its own folder is looked at.
    return sorted(inner.glob("*.py")) if inner.is_dir() and not path.is_dir() else []


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep)


@dataclass
class _Ignored:
    """The codes that `per-file-ignores` switches off for a file."""

    settings: Settings

    def __post_init__(self) -> None:
        self._rules = [
            (Patterns([pattern]), tuple(code.upper() for code in codes))
            for pattern, codes in self.settings.per_file_ignores
        ]

    def codes(self, path: Path) -> tuple[str, ...]:
        base = self.settings.folder or Path.cwd()
        return tuple(
            code
            for patterns, codes in self._rules
            if patterns.match_outer(path, base)
            for code in codes
        )


def _too_low(
    choice: requirements.Choice, base: Path, catalog: Catalog, ignored: _Ignored
) -> Iterator[SiteReport]:
    rule = catalog.get(own.TORCH_BOUND)
    for bound in choice.too_low if rule is not None else ():
        if rule is None or any(rule.code.startswith(c) for c in ignored.codes(bound.path)):
            continue
        path = Path(os.path.relpath(bound.path, base)).as_posix()
        reason = f"the migrated code needs torch >= {choice.text}; raise this bound"
        yield said(path, rule, bound.line, 1, bound.text, reason)
