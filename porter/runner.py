"""A run over many files: what is read, what is analysed, and by how many processes.

A cheap look at the bytes comes first; files in which no rule can find anything are neither
decoded nor parsed. The result does not depend on the number of processes, and no single file can
end a run: what goes wrong in one is reported as its failure.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import re
import signal
import sys
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from porter import catalog as rules
from porter import engine, facts, own, requirements
from porter.catalog import Catalog
from porter.config import Settings
from porter.module import NO_FACTS, ProjectFacts
from porter.notebook import Notebook
from porter.project import InputFile, Kind, Patterns, Skipped, UsageProblem, discover
from porter.report import FileReport, FileStatus, Report, SiteReport, assemble
from porter.rule import Category, Rule, Safety, Status
from porter.source import SourceProblem, decode_python
from porter.suppress import Suppressions
from porter.syntax import LineIndex, SyntaxProblem, parse
from porter.targets import Target

Progress = Callable[[int, int], None]
"""Called with the number of files done and of all files."""

#: Below so many bytes to analyse, starting processes costs more than they save.
SERIAL_BYTES = 600_000
#: Bytes of files kept in memory between the first look and the search across files.
KEPT_BYTES = 200_000_000
_CHUNK = 16
_UTF16 = (b"\xff\xfe", b"\xfe\xff")


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
    """

    paths: tuple[Path, ...]
    settings: Settings = Settings()
    exclude: tuple[str, ...] = ()
    jobs: int = 0
    stdin: bytes | None = None
    stdin_name: str = "stdin.py"


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


@dataclass(frozen=True)
class Plan:
    """What every worker must know; the rules themselves are loaded by each worker."""

    target: Target
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    unsafe: bool = False
    facts: ProjectFacts = NO_FACTS

    def catalog(self, ignored: tuple[str, ...] = ()) -> Catalog:
        """The rules in force for a file that ignores these codes as well."""
        return _selected(self.select, self.ignore, ignored)


_catalogs: dict[tuple[object, ...], Catalog] = {}


def _selected(
    select: tuple[str, ...], ignore: tuple[str, ...], ignored: tuple[str, ...]
) -> Catalog:
    full = rules.load()
    key = (id(full), select, ignore, ignored)
    if key not in _catalogs:
        chosen = full.select(select, ignore)
        if ignored:
            known = [c for c in ignored if any(r.code.startswith(c) for r in chosen.rules)]
            chosen = chosen.select((), known) if known else chosen
        _catalogs[key] = chosen
    return _catalogs[key]


@dataclass(frozen=True)
class Task:
    """One file to analyse; `data` only where it does not come from the disk."""

    path: str
    shown: str
    kind: Kind
    dotted: str
    size: int = 0
    ignored: tuple[str, ...] = ()
    data: bytes | None = None


@dataclass(frozen=True)
class FileResult:
    """What became of one file; small, because it travels between processes."""

    status: FileStatus
    reason: str = ""
    sites: tuple[SiteReport, ...] = ()
    after: bytes | None = None
    digest: str = ""
    suppressed: int = 0
    trace: str = ""


# One file ---------------------------------------------------------------------------------------


def analyse(task: Task, plan: Plan) -> FileResult:
    """Analyse one file. Whatever goes wrong is in the result; nothing is raised."""
    try:
        data = task.data if task.data is not None else Path(task.path).read_bytes()
        if data.startswith(_UTF16):
            raise SourceProblem("is UTF-16; save it as UTF-8 so that Python can read it")
        if task.kind == "notebook":
            return _notebook(task, plan, data)
        source = decode_python(task.shown, data)
        outcome, sites = _analysed(task, plan, source.text)
        after = source.encode(outcome.text) if outcome.text != source.text else None
        return _result(outcome, sites, data, after)
    except OSError as problem:
        return _failure(task, f"cannot be read: {problem.strerror or problem}")
    except SourceProblem as problem:
        return _failure(task, problem.message)
    except SyntaxProblem as problem:
        return _failure(task, problem.message, problem.line, problem.column)
    except engine.RuleProblem as problem:
        return _failure(task, str(problem), problem.line, trace=traceback.format_exc())
    except Exception as problem:
        what = f"{type(problem).__name__}: {problem}".splitlines()[0]
        return _failure(task, f"internal error ({what}); please report this",
                        trace=traceback.format_exc())  # fmt: skip


def _analysed(task: Task, plan: Plan, text: str) -> tuple[engine.Outcome, list[SiteReport]]:
    catalog = plan.catalog(task.ignored)
    outcome = engine.analyse(
        text,
        catalog,
        plan.target,
        path=task.shown,
        dotted=task.dotted,
        unsafe=plan.unsafe,
        facts=plan.facts,
    )
    sites = [_site(task, settled) for settled in outcome.settled]
    blanket = catalog.get(own.BLANKET)
    if blanket is not None:
        lines = re.split(r"\r\n|\r|\n", text)
        for line in Suppressions.read(text).malformed:
            comment = lines[line - 1]
            sites.append(_said(
                task.shown, blanket, line, comment.index("#") + 1, comment,
                "names no rule, so it hides nothing; write `# porter: ignore[CODE] reason`",
            ))  # fmt: skip
    return outcome, sites


def _site(task: Task, settled: engine.Settled) -> SiteReport:
    finding = settled.finding
    reason = finding.reason
    if settled.status is Status.LEFT and finding.safety is Safety.UNSAFE:
        reason = f"{reason or 'not certain to keep the behaviour'} (--unsafe rewrites it)"
    return SiteReport(
        path=task.shown,
        line=settled.line,
        column=settled.column,
        rule=finding.rule,
        status=settled.status,
        safety=finding.safety,
        category=finding.category or Category.MANDATORY,
        effort=finding.effort or 0,
        symbol=finding.symbol,
        before=settled.before,
        after=settled.after,
        reason=reason,
    )


def _said(
    path: str, rule: Rule, line: int, column: int, before: str, reason: str, effort: int | None = None
) -> SiteReport:
    """A site of a rule that looks at no code."""
    return SiteReport(
        path=path,
        line=line,
        column=column,
        rule=rule.code,
        status=Status.LEFT,
        safety=Safety.MANUAL,
        category=rule.category,
        effort=rule.effort if effort is None else effort,
        before=before,
        reason=reason,
    )


def _result(
    outcome: engine.Outcome, sites: Sequence[SiteReport], data: bytes, after: bytes | None
) -> FileResult:
    return FileResult(
        FileStatus.UNCHANGED if after is None else FileStatus.CHANGED,
        outcome.problem,
        tuple(sites),
        after,
        hashlib.sha256(data).hexdigest() if after is not None else "",
        outcome.suppressed,
    )


def _failure(
    task: Task, reason: str, line: int = 0, column: int = 1, *, trace: str = ""
) -> FileResult:
    reason = " ".join(reason.split())
    if not line:
        named = re.match(r"line (\d+): ", reason)
        line = int(named[1]) if named else 1
    rule = rules.load().get(own.UNREADABLE)
    site = [_said(task.shown, rule, line, column, "", reason)] if rule is not None else []
    where = f"line {line}: " if line > 1 and f"line {line}" not in reason else ""
    return FileResult(FileStatus.FAILED, where + reason, tuple(site), trace=trace)


# Notebooks --------------------------------------------------------------------------------------


def _notebook(task: Task, plan: Plan, data: bytes) -> FileResult:
    try:
        notebook = Notebook.parse(data, parse)
    except SourceProblem as problem:
        if problem.message.startswith("the notebook's language"):
            return FileResult(FileStatus.SKIPPED, problem.message)
        raise
    outcome, sites = _analysed(task, plan, notebook.text)
    after = notebook.rewrite(outcome.text) if outcome.text != notebook.text else None
    index = LineIndex(notebook.text)
    placed = [_in_cell(site, notebook, index) for site in sites]
    placed += _unread(task, plan, notebook)
    return _result(outcome, placed, data, after)


def _in_cell(site: SiteReport, notebook: Notebook, index: LineIndex) -> SiteReport:
    from dataclasses import replace

    at = notebook.locate(index.line_start(site.line) + site.column - 1)
    return replace(site, cell=at.cell_index + 1, line=at.line, column=at.column + 1)


def _unread(task: Task, plan: Plan, notebook: Notebook) -> Iterator[SiteReport]:
    """Commands and cells that are not Python but hold what rules look for."""
    from dataclasses import replace

    catalog = plan.catalog(task.ignored)
    rule = catalog.get(own.NOT_PYTHON)
    if rule is None:
        return
    for magic in notebook.magics:
        if catalog.marker.search(magic.text.encode("utf-8", "surrogatepass")):
            at = notebook.locate(magic.start)
            line = magic.text.splitlines()[0]
            reason = "IPython magic or command: porter changes Python code only; check it"
            said = _said(task.shown, rule, at.line, at.column + 1, line, reason)
            yield replace(said, cell=at.cell_index + 1)
    for cell, problem in notebook.unparsed:
        reason = f"this cell is not Python ({problem}) and was not read; check it"
        yield replace(_said(task.shown, rule, 1, 1, "", reason), cell=cell + 1)


# Many files -------------------------------------------------------------------------------------


@dataclass
class _Bytes(Mapping[int, bytes]):
    """The bytes of files by index; read again from the disk where they would fill the memory."""

    files: Sequence[InputFile]
    sizes: dict[int, int] = field(default_factory=dict)
    kept: dict[int, bytes] = field(default_factory=dict)
    total: int = 0

    def add(self, index: int, data: bytes) -> None:
        self.sizes[index] = len(data)
        if self.total + len(data) <= KEPT_BYTES:
            self.kept[index] = data
            self.total += len(data)

    def __getitem__(self, index: int) -> bytes:
        if index in self.kept:
            return self.kept[index]
        if index not in self.sizes:
            raise KeyError(index)
        try:
            return self.files[index].path.read_bytes()
        except OSError:
            return b""

    def __iter__(self) -> Iterator[int]:
        return iter(self.sizes)

    def __len__(self) -> int:
        return len(self.sizes)


def run(request: Request, progress: Progress | None = None) -> Run:
    """Look at everything the request names. Nothing is written.

    Raises:
        UsageProblem: a path does not exist, or a version or code is malformed.
        porter.config.ConfigProblem: a pyproject.toml is malformed.
        porter.catalog.CatalogProblem: a selected code matches no rule.
    """
    settings = request.settings
    catalog = _selected(settings.select, settings.ignore, ())
    files, skipped, notes = _inputs(request)
    base = _base(request, files)
    choice = _choice(request)
    beyond = _surroundings(request, files)
    everything = [*files, *beyond]
    places = [facts.place(f, _relative(f, base)) for f in everything]
    data, problems = _read(request, everything, len(files), progress)
    found = facts.collect(places, data, catalog)
    plan = Plan(
        Target(settings.target, choice.version),
        settings.select,
        settings.ignore,
        settings.unsafe,
        found.facts,
    )
    wanted = [
        i
        for i in range(len(files))
        if i in data and (i in found.needed or _concerns(data[i], catalog))
    ]
    ignored = _Ignored(settings)
    tasks = [
        Task(
            str(files[i].path), places[i].shown, files[i].kind, places[i].dotted, data.sizes[i],
            ignored.codes(files[i].path), request.stdin,
        )
        for i in wanted
    ]  # fmt: skip
    migrated = any(b"torch.accelerator" in data[i] for i in data if i < len(files))
    results = dict(zip(wanted, analyse_all(tasks, plan, request.jobs, progress), strict=True))
    results.update(problems)
    sites = [site for i in sorted(results) for site in results[i].sites]
    if migrated or any(site.status is Status.REWRITTEN for site in sites):
        sites += _too_low(choice, base, catalog, ignored)
    unread = FileResult(FileStatus.UNCHANGED)
    reports = [
        FileReport(places[i].shown, (r := results.get(i, unread)).status, r.reason)
        for i in range(len(files))
    ]
    reports += [FileReport(s.relative, FileStatus.SKIPPED, s.reason) for s in skipped]
    return Run(
        assemble(
            settings.target, choice.text, sites, reports,
            sum(r.suppressed for r in results.values()),
        ),
        tuple(
            Changed(files[i], places[i].shown, after, results[i].digest)
            for i in sorted(results, key=lambda i: places[i].shown)
            if (after := results[i].after) is not None
        ),
        base,
        choice,
        notes,
        tuple(r.trace for r in results.values() if r.trace),
    )  # fmt: skip


def _inputs(
    request: Request,
) -> tuple[list[InputFile], tuple[Skipped, ...], tuple[str, ...]]:
    if request.stdin is not None:
        path = Path(request.stdin_name)
        kind: Kind = "notebook" if path.suffix.lower() == ".ipynb" else "python"
        return [InputFile(path.parent, path, path.name, kind)], (), ()
    settings, folder = request.settings, request.settings.folder
    exclude = [*request.exclude]
    rest: Patterns | None = None
    if folder is not None and settings.exclude:
        if all(os.path.realpath(p) == os.path.realpath(folder) for p in request.paths):
            exclude = [*settings.exclude, *exclude]
        else:
            rest = Patterns(settings.exclude)
    found = discover(request.paths, exclude=exclude)
    files = list(found.files)
    if rest is not None and folder is not None:
        named = set(request.paths)
        files = [f for f in files if f.path in named or not rest.match_outer(f.path, folder)]
    return files, found.skipped, found.notes


def _base(request: Request, files: Sequence[InputFile]) -> Path:
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
        raise UsageProblem(
            f"--min-torch cannot be {asked!r}: write it like 2.9, or auto"
        ) from None


def _surroundings(request: Request, files: Sequence[InputFile]) -> list[InputFile]:
    """The rest of the project, read for names that pass between its files and changed never."""
    given = {os.path.realpath(path) for path in request.paths}
    paths = request.paths or (Path(request.stdin_name),)
    folders = [
        folder
        for folder in dict.fromkeys(requirements.project_folder(path) for path in paths)
        if folder.is_dir() and not any(_holds(g, os.path.realpath(folder)) for g in given)
    ]
    if not folders:
        return []
    known = {os.path.realpath(file.path) for file in files}
    return [
        file
        for file in discover(folders).files
        if os.path.realpath(file.path) not in known
    ]


def _holds(outer: str, inner: str) -> bool:
    return inner == outer or inner.startswith(outer.rstrip(os.sep) + os.sep)


def _concerns(data: bytes, catalog: Catalog) -> bool:
    return catalog.marker.search(data) is not None or data.startswith(_UTF16)


def _read(
    request: Request, files: Sequence[InputFile], own_files: int, progress: Progress | None
) -> tuple[_Bytes, dict[int, FileResult]]:
    data = _Bytes(files)
    problems: dict[int, FileResult] = {}
    for index, file in enumerate(files):
        if request.stdin is not None and index == 0:
            data.add(0, request.stdin)
            continue
        try:
            data.add(index, file.path.read_bytes())
        except OSError as problem:
            if index < own_files:
                task = Task(str(file.path), file.relative, file.kind, "")
                reason = f"cannot be read: {problem.strerror or problem}"
                problems[index] = _failure(task, reason)
        if progress is not None and index % 200 == 0:
            progress(0, own_files)
    return data, problems


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
        yield _said(path, rule, bound.line, 1, bound.text, reason)


# Processes --------------------------------------------------------------------------------------


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
                        results[index] = _failure(tasks[index], reason)
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
        jobs = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        jobs = min(jobs, 61)  # the most that Windows can wait for
    return max(1, min(jobs, len(tasks)))


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
