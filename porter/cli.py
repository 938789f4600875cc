"""The command line: parses options, calls the rest, and maps what came of it to exit codes.

Exit codes: 0 nothing is left that a person must do, 1 findings are left, 2 usage, configuration,
or a file that could not be read, 130 interrupted. Everything heavy is imported within commands,
so that `porter --help` is quick.
"""

from __future__ import annotations

import contextlib
import errno
import os
import sys
from collections.abc import Iterable, Iterator, Sequence
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from porter.targets import NAMES, TABLED

if TYPE_CHECKING:
    from porter.baseline import Baseline
    from porter.catalog import Catalog
    from porter.report import Report
    from porter.runner import Request, Run

OK, FINDINGS, TROUBLE, INTERRUPTED = 0, 1, 2, 130

app = typer.Typer(
    name="porter",
    help="Move device-bound PyTorch code to any accelerator, or to one other device.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


class Mistake(Exception):
    """A mistake of the user; the text is one line."""


class Interrupted(Exception):
    """The user pressed Ctrl-C; the option parser would swallow KeyboardInterrupt itself."""


@contextlib.contextmanager
def _stoppable() -> Iterator[None]:
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None


class Format(str, Enum):
    """How `check` prints findings."""

    CONCISE = "concise"
    FULL = "full"
    JSON = "json"
    GITHUB = "github"
    SARIF = "sarif"
    JUNIT = "junit"
    RDJSON = "rdjson"
    CSV = "csv"
    MARKDOWN = "markdown"
    HTML = "html"


class View(str, Enum):
    """How `report` shows a report."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    SARIF = "sarif"
    GITHUB = "github"
    JUNIT = "junit"
    CSV = "csv"
    RDJSON = "rdjson"
    JSON = "json"


class FailOn(str, Enum):
    """When a comparison fails."""

    NEW = "new"
    ANY = "any"
    NEVER = "never"


class PageFormat(str, Enum):
    """How rules are printed."""

    TEXT = "text"
    JSON = "json"


def start(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments (default: the program's own).

    Returns:
        The exit code.
    """
    try:
        given = sys.argv[1:] if arguments is None else arguments
        code = app(args=_spelled(given), prog_name="porter", standalone_mode=False)
        sys.stdout.flush()
    except (Interrupted, KeyboardInterrupt):
        return _error("interrupted; no further file is changed", INTERRUPTED)
    except OSError as problem:
        if problem.errno != errno.EPIPE:
            raise
        # The reader has gone (`| head`); keep Python from flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINDINGS
    except Exception as problem:
        text = _one_line(problem)
        if text is None and os.environ.get("PORTER_DEBUG"):
            raise
        return _error(text or _internal(problem), TROUBLE)
    return code if isinstance(code, int) else OK


def _spelled(arguments: Sequence[str]) -> list[str]:
    """The arguments with the value that `--changed` has if it stands alone."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    options = [f"{a}=HEAD" if a == "--changed" else a for a in arguments[:end]]
    return [*options, *arguments[end:]]


def _one_line(problem: Exception) -> str | None:
    """What to tell the user about a mistake of theirs; None for a mistake of porter."""
    if hasattr(problem, "format_message"):  # raised by the option parser
        return str(problem.format_message()).replace("\n", " ")
    if type(problem).__name__ == "Abort":
        return "interrupted"
    from porter.baseline import BaselineProblem
    from porter.catalog import CatalogProblem
    from porter.changed import RevisionProblem
    from porter.compare import CompareProblem
    from porter.config import ConfigProblem
    from porter.project import UsageProblem
    from porter.reading import ReportProblem
    from porter.support import Unanswerable
    from porter.writing import WriteProblem

    known = (
        Mistake, BaselineProblem, CatalogProblem, CompareProblem, ConfigProblem, ReportProblem,
        RevisionProblem, Unanswerable, UsageProblem, WriteProblem,
    )  # fmt: skip
    return " ".join(str(problem).split()) if isinstance(problem, known) else None


def _internal(problem: Exception) -> str:
    what = " ".join(f"{type(problem).__name__}: {problem}".split())
    return f"internal error ({what}); please report it with what PORTER_DEBUG=1 shows"


def _error(text: str, code: int) -> int:
    print(f"error: {text}", file=sys.stderr)
    return code


# Options ----------------------------------------------------------------------------------------

Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="Files and folders; - reads standard input."),
]
TargetName = Annotated[
    str | None,
    typer.Option("--target", metavar="NAME", help=f"{' or '.join(NAMES)}. Default: {NAMES[0]}."),
]
MinTorch = Annotated[
    str | None,
    typer.Option(
        "--min-torch",
        metavar="X.Y|auto",
        help="Lowest torch version to support; auto reads the project's requirements.",
    ),
]
TorchNpu = Annotated[
    str | None,
    typer.Option("--torch-npu", metavar="X.Y", help="torch_npu version to look names up for."),
]
Hardware = Annotated[
    str | None,
    typer.Option("--hardware", metavar="LINE", help="Product line to look names up for."),
]
Unsafe = Annotated[
    bool | None,
    typer.Option("--unsafe/--safe", help="Also apply rewrites that may change behaviour."),
]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", metavar="CODES", help="Only these rules, such as POR1,POR201."),
]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", metavar="CODES", help="Not these rules.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="GLOB",
        help="Leave out files and folders, as in a .gitignore; adds to the configuration.",
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Write all findings as JSON, or as .html, .md, .sarif, .csv, .xml (JUnit), .txt.",
    ),
]
StdinName = Annotated[
    str, typer.Option("--stdin-filename", metavar="PATH", help="The path that - stands for.")
]
Jobs = Annotated[str, typer.Option("-j", "--jobs", metavar="N|auto", help="Number of processes.")]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Name every place.")]


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> int:
    if version:
        from porter import __version__

        print(f"porter {__version__}")
        raise typer.Exit(OK)
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(TROUBLE)
    return OK


# migrate ----------------------------------------------------------------------------------------


@app.command()
def migrate(
    paths: Paths,
    target: TargetName = None,
    min_torch: MinTorch = None,
    torch_npu: TorchNpu = None,
    hardware: Hardware = None,
    diff: Annotated[
        bool, typer.Option("--diff", help="Print a patch for `git apply`; write nothing.")
    ] = False,
    output: Annotated[
        Path | None,
        typer.Option("-o", "--output", metavar="DIR", help="Write a migrated copy of the tree."),
    ] = None,
    unsafe: Unsafe = None,
    annotate: Annotated[
        bool | None,
        typer.Option(
            "--annotate/--no-annotate",
            help="Leave TODO comments at what is left for a person, or take them out.",
        ),
    ] = None,
    allow_dirty: Annotated[
        bool, typer.Option("--allow-dirty", help="Change files with uncommitted changes too.")
    ] = False,
    select: Select = None,
    ignore: Ignore = None,
    exclude: Exclude = None,
    report: ReportFile = None,
    stdin_filename: StdinName = "stdin.py",
    jobs: Jobs = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Rewrite code in place, and say what is left for a person."""
    if diff and output is not None:
        raise Mistake("--diff and --output exclude each other")
    request = _request(
        paths,
        stdin_filename,
        target,
        min_torch,
        torch_npu,
        hardware,
        unsafe,
        select,
        ignore,
        exclude,
        jobs,
    )
    if output is not None and request.stdin is not None:
        raise Mistake("--output needs files, not standard input")
    if annotate is not None and request.stdin is not None:
        raise Mistake("--annotate needs files, not standard input")
    _check_report(report)
    run = _run(request, quiet)
    if annotate is not None:
        from porter.annotate import annotated

        run = annotated(run, wanted=annotate)
    wrote = not diff
    if wrote:
        run = _applied(run)
    if request.stdin is not None:
        _stdout(_patch(run, request) if diff else _only(run, request.stdin))
    elif diff:
        _stdout(_patch(run, request))
    elif output is not None:
        _copy(run, request, output)
    else:
        found = _in_place(run, allow_dirty)
        if found is None:
            return TROUBLE
        run = found
    return _finish(run, report, quiet, verbose, wrote)


def _applied(run: Run) -> Run:
    from dataclasses import replace

    return replace(run, report=replace(run.report, applied=True))


def _patch(run: Run, request: Request) -> bytes:
    from porter.deliver import as_patch

    return as_patch(run, request.stdin)


def _only(run: Run, stdin: bytes) -> bytes:
    return run.changed[0].after if run.changed else stdin


def _copy(run: Run, request: Request, output: Path) -> None:
    from porter.deliver import as_copy

    with _stoppable():
        copied = as_copy(run, request.paths, output)
    for skipped in copied.skipped:
        _note(f"not copied: {skipped.relative}: {skipped.reason}")


def _in_place(run: Run, allow_dirty: bool) -> Run | None:
    """Write the files; None if that was refused."""
    from dataclasses import replace

    from porter.deliver import Uncommitted, in_place

    try:
        with _stoppable():
            written = in_place(run, allow_dirty=allow_dirty, announce=_announce)
    except Uncommitted as problem:
        _error(
            "nothing was written: these files have changes that are not committed "
            "(commit or stash them, or pass --allow-dirty):",
            TROUBLE,
        )
        for path in problem.paths:
            print(f"  {path}", file=sys.stderr)
        return None
    return replace(run, report=run.report.without(written.failures))


def _announce(undo: Path) -> None:
    _note(f"undo with: git apply {undo} (or patch -p1), in {undo.parent.parent}")


# check ------------------------------------------------------------------------------------------


@app.command()
def check(
    paths: Paths,
    target: TargetName = None,
    min_torch: MinTorch = None,
    torch_npu: TorchNpu = None,
    hardware: Hardware = None,
    unsafe: Unsafe = None,
    select: Select = None,
    ignore: Ignore = None,
    exclude: Exclude = None,
    report: ReportFile = None,
    output_format: Annotated[
        Format, typer.Option("--output-format", help="How to print findings.")
    ] = Format.CONCISE,
    statistics: Annotated[
        bool, typer.Option("--statistics", help="Count findings by rule instead.")
    ] = False,
    baseline: Annotated[
        Path | None,
        typer.Option(
            "--baseline",
            metavar="FILE",
            help="Leave out findings that FILE accepts; drop from it what is gone.",
        ),
    ] = None,
    write_baseline: Annotated[
        Path | None,
        typer.Option(
            "--write-baseline", metavar="FILE", help="Accept all present findings in FILE."
        ),
    ] = None,
    changed: Annotated[
        str | None,
        typer.Option(
            "--changed",
            metavar="[=REV]",
            help="Only files that differ from where the branch left REV (HEAD if not given).",
        ),
    ] = None,
    diff_only: Annotated[
        str | None,
        typer.Option("--diff-only", metavar="REV", help="Only lines that differ from REV."),
    ] = None,
    add_ignores: Annotated[
        bool,
        typer.Option(
            "--add-ignores", help="Silence all findings by `# porter: ignore[CODE]` comments."
        ),
    ] = False,
    exit_zero: Annotated[
        bool, typer.Option("--exit-zero", help="Exit with 0 even if there are findings.")
    ] = False,
    stdin_filename: StdinName = "stdin.py",
    jobs: Jobs = "auto",
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Print what migrate would rewrite and leave; write nothing."""
    from porter.rule import Status

    request = _request(
        paths,
        stdin_filename,
        target,
        min_torch,
        torch_npu,
        hardware,
        unsafe,
        select,
        ignore,
        exclude,
        jobs,
    )
    if write_baseline is not None and (baseline or changed or diff_only or request.stdin):
        raise Mistake("--write-baseline accepts the findings of whole files, and of all of them")
    _check_report(report)
    run = _run(_narrowed(request, changed), quiet)
    if write_baseline is not None:
        return _write_baseline(run, write_baseline)
    run = _without_accepted(run, request, baseline, diff_only)
    if add_ignores:
        return _add_ignores(run, request)
    _print_findings(run, output_format, statistics, verbose)
    code = _finish(run, report, True, verbose, wrote=False)
    rewritable = sum(not site.accepted for site in run.report.having(Status.REWRITTEN))
    pending = len(run.report.pending)
    if not quiet:
        from porter.display import plural

        accepted = sum(site.accepted for site in run.report.sites)
        known = f", {accepted} in the baseline" if accepted else ""
        print(
            f"{plural(rewritable, 'site')} to rewrite ([*]: `porter migrate` does), "
            f"{pending} left for a person{known}.",
            file=sys.stderr,
        )
    if code == OK and rewritable:
        code = FINDINGS
    return OK if exit_zero and code == FINDINGS else code


def _narrowed(request: Request, revision: str | None) -> Request:
    """The request for files that differ from a revision only."""
    from dataclasses import replace

    if revision is None:
        return request
    from porter import changed

    if request.stdin is not None:
        raise Mistake("--changed needs files, not standard input")
    return replace(request, only=frozenset(changed.files(request.paths, revision)))


def _without_accepted(run: Run, request: Request, path: Path | None, revision: str | None) -> Run:
    """The run without what a baseline accepts and without lines that have not changed."""
    from dataclasses import replace

    if (path or revision) and request.stdin is not None:
        raise Mistake("--baseline and --diff-only need files, not standard input")
    report = run.report
    if path is not None:
        from porter import baseline

        found = baseline.read(path)
        applied = baseline.apply(report, found, *_seen_from(run, path, baseline.paths(found)))
        report = applied.report
        if applied.gone:
            _save_baseline(path, applied.kept)
            _note(f"{path}: {applied.gone} accepted findings are gone and were taken out")
    if revision is not None:
        from porter.changed import only_changed_lines

        report = only_changed_lines(report, run.base.joinpath, request.paths, revision)
    return replace(run, report=report)


def _write_baseline(run: Run, path: Path) -> int:
    from porter import baseline

    found = baseline.of(run.report, _seen_from(run, path)[0])
    _save_baseline(path, found)
    _note(f"{path}: {sum(found.entries.values())} findings are accepted from now on")
    return TROUBLE if run.report.failed else OK


def _save_baseline(path: Path, found: Baseline) -> None:
    from porter.baseline import as_json
    from porter.writing import write_atomic

    write_atomic(path, as_json(found).encode(), expected=None)


def _add_ignores(run: Run, request: Request) -> int:
    from porter.deliver import add_ignores
    from porter.display import plural

    if request.stdin is not None:
        raise Mistake("--add-ignores needs files, not standard input")
    silenced, left = add_ignores(run)
    for path, reason in left.items():
        _error(f"{path}: {reason}", TROUBLE)
    _note(f"{plural(silenced, 'finding')} silenced by comments; say why behind each")
    return TROUBLE if run.report.failed or left else OK


def _seen_from(run: Run, path: Path, names: Iterable[str] = ()) -> tuple[str, set[str]]:
    """The run's folder from that of a baseline, and which of its names are files not read."""
    from porter.baseline import moved

    folder = os.path.realpath(path.parent)
    prefix = Path(os.path.relpath(os.path.realpath(run.base), folder)).as_posix()
    read = {moved(prefix, file.path) for file in run.report.files}
    return prefix, {n for n in names if n not in read and os.path.lexists(Path(folder, n))}


def _print_findings(run: Run, form: Format, statistics: bool, verbose: bool) -> None:
    from porter import display

    catalog, ink = _catalog(), display.Ink(sys.stdout)
    sites = display.findings(run.report, everything=verbose)
    if form is Format.JSON:
        from porter.report import as_json

        print(as_json(run.report), end="")
        return
    if form not in (Format.CONCISE, Format.FULL, Format.GITHUB):
        from porter import reading
        from porter.report import as_data

        text = reading.shown(as_data(run.report), form.value, reading.prefix(run.base))
        _stdout(text.encode())
        return
    if statistics:
        for line in display.statistics(sites, catalog):
            print(line)
        return
    for site in sites:
        path = (run.base / site.path).as_posix()
        if form is Format.GITHUB:
            print(display.github(site, path, catalog))
        else:
            show = display.full if form is Format.FULL else display.concise
            print(show(site, path, catalog, ink))


# report -----------------------------------------------------------------------------------------


@app.command("report")
def report_(
    reports: Annotated[
        list[Path], typer.Argument(metavar="REPORT...", help="A report; two with --compare.")
    ],
    compare: Annotated[
        bool, typer.Option("--compare", help="Show what changed from the first to the second.")
    ] = False,
    form: Annotated[
        View | None,
        typer.Option("-f", "--format", help="Default: what the output's name asks for, or text."),
    ] = None,
    output: Annotated[
        Path | None, typer.Option("-o", "--output", metavar="FILE", help="Write to a file.")
    ] = None,
    prefix: Annotated[
        str, typer.Option("--prefix", metavar="DIR", help="Put this folder before all paths.")
    ] = "",
    fail_on: Annotated[
        FailOn, typer.Option("--fail-on", help="Exit with 1: new or any findings (--compare).")
    ] = FailOn.NEVER,
) -> int:
    """Show a report in another format, or compare two."""
    from porter import output as views
    from porter import reading

    if len(reports) != (2 if compare else 1):
        wanted = "two reports: BASE HEAD" if compare else "one report (or --compare BASE HEAD)"
        raise Mistake(f"write {wanted}")
    if fail_on is not FailOn.NEVER and not compare:
        raise Mistake("--fail-on goes with --compare")
    _check_report(output, "--output")
    name = form.value if form else (views.form_of(output) if output else None)
    if name is None:
        name = "json" if output is not None and output.suffix.lower() == ".json" else "text"
    loaded = [reading.load(path) for path in reports]
    if compare:
        text, failed = reading.compared(loaded[0], loaded[1], name, prefix, fail_on.value)
    else:
        text, failed = reading.shown(loaded[0], name, prefix), False
    if output is None:
        _stdout(text.encode())
    else:
        from porter.writing import write_atomic

        write_atomic(output, text.encode(), expected=None)
    return FINDINGS if failed else OK


# rules ------------------------------------------------------------------------------------------


@app.command("rule")
def rule_(
    code: Annotated[str, typer.Argument(metavar="CODE", help="Code or name of a rule.")],
    output_format: Annotated[PageFormat, typer.Option("--output-format")] = PageFormat.TEXT,
) -> int:
    """Explain a rule."""
    from porter import display

    catalog = _catalog()
    found = catalog.get(code)
    if found is None:
        known = [name for r in catalog.rules for name in (r.code, r.name)]
        raise Mistake(f"no rule is called {code!r}{_suggestion(code, known)}")
    if output_format is PageFormat.JSON:
        _print_json(display.rule_data(found))
    else:
        print(display.rule_page(found, display.Ink(sys.stdout)), end="")
    return OK


@app.command("rules")
def rules_(
    output_format: Annotated[PageFormat, typer.Option("--output-format")] = PageFormat.TEXT,
) -> int:
    """List all rules."""
    from porter import display

    catalog = _catalog()
    if output_format is PageFormat.JSON:
        _print_json([display.rule_data(r) for r in catalog.rules])
    else:
        print("\n".join(display.rule_lines(catalog.rules)))
    return OK


@app.command(
    "rehearse",
    # What follows the first word belongs to the command that is rehearsed.
    context_settings={"allow_extra_args": True, "allow_interspersed_args": False},
)
def rehearse_(
    context: typer.Context,
    module: Annotated[bool, typer.Option("-m", help="The first word is a module.")] = False,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="Name of the simulated device.")
    ] = TABLED,
    strict: Annotated[
        bool, typer.Option("--strict", help="An operator without a kernel is an error.")
    ] = False,
    hardware: Hardware = None,
    python: Annotated[
        str, typer.Option("--python", metavar="PATH", help="A Python that has torch.")
    ] = "",
    limit: Annotated[
        float, typer.Option("--limit", metavar="SECONDS", help="Stop after this time; 0 never.")
    ] = 600.0,
    output_format: Annotated[PageFormat, typer.Option("--output-format")] = PageFormat.TEXT,
) -> int:
    """Run a command on a simulated device: `porter rehearse train.py --epochs 1`.

    This command, unlike the others, runs the code it is given. It needs torch.
    """
    import importlib.util

    from porter.rehearse import command

    if not python and importlib.util.find_spec("torch") is None:
        raise Mistake("rehearsals need torch here: pip install 'torch-porter[rehearse]'")
    options = command.Options(
        device=device,
        module=module,
        python=python,
        limit=limit,
        strict=strict,
        hardware=hardware or "",
    )
    words = list(context.args)
    if "--" in words:
        words.remove("--")
    try:
        found = command.rehearse(words, options, sys.stderr)
    except command.Mistake as problem:
        raise Mistake(str(problem)) from None
    print(command.report(found, as_json=output_format is PageFormat.JSON), end="")
    return command.exit_code(found)


@app.command("query")
def query_(
    name: Annotated[str, typer.Argument(metavar="NAME", help="An API, operator or package.")],
    torch_npu: TorchNpu = None,
    hardware: Hardware = None,
    output_format: Annotated[PageFormat, typer.Option("--output-format")] = PageFormat.TEXT,
) -> int:
    """Say what the target offers for a name: status, equivalent, limits, source."""
    from porter.query import query

    text, code = query(
        name,
        torch_npu=torch_npu or "",
        hardware=hardware or "",
        output_format=output_format.value,
    )
    print(text, file=sys.stderr if code == TROUBLE else sys.stdout)
    return code


def _suggestion(word: str, known: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else "; see `porter rules`"


def _print_json(data: Any) -> None:
    import json

    print(json.dumps(data, indent=2))


# Shared -----------------------------------------------------------------------------------------


def _request(
    paths: list[Path],
    stdin_filename: str,
    target: str | None,
    min_torch: str | None,
    torch_npu: str | None,
    hardware: str | None,
    unsafe: bool | None,
    select: list[str] | None,
    ignore: list[str] | None,
    exclude: list[str] | None,
    jobs: str,
) -> Request:
    """What to run: the configuration, and what the command line says instead."""
    from dataclasses import replace

    from porter import config
    from porter.runner import Request

    stdin = Path("-") in paths
    if stdin and len(paths) > 1:
        raise Mistake("- cannot be combined with other paths")
    for path in paths if not stdin else ():
        if not os.path.lexists(path):
            raise Mistake(f"no such file or folder: {path}")
    if target is not None and target not in NAMES:
        known = ", ".join(NAMES)
        raise Mistake(f"--target cannot be {target!r} (known: {known})")
    settings = config.load([Path(stdin_filename)] if stdin else paths)
    given: dict[str, object] = {
        "target": target,
        "min_torch": min_torch,
        "torch_npu": torch_npu,
        "hardware": hardware,
        "unsafe": unsafe,
        "select": _codes(select),
        "ignore": _codes(ignore),
    }
    settings = replace(settings, **{k: v for k, v in given.items() if v is not None})  # type: ignore[arg-type]
    if settings.torch_npu or settings.hardware:
        from porter.support import validate
        from porter.targets import Target

        validate(Target(settings.target, torch_npu=settings.torch_npu, hardware=settings.hardware))
    return Request(
        paths=() if stdin else tuple(dict.fromkeys(paths)),
        settings=settings,
        exclude=tuple(exclude or ()),
        jobs=_jobs(jobs),
        stdin=sys.stdin.buffer.read() if stdin else None,
        stdin_name=stdin_filename,
    )


def _codes(values: list[str] | None) -> tuple[str, ...] | None:
    if values is None:
        return None
    return tuple(code.strip() for value in values for code in value.split(",") if code.strip())


def _jobs(text: str) -> int:
    if text == "auto":
        return 0
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise Mistake(f"--jobs cannot be {text!r}: a number from 1, or auto")


def _run(request: Request, quiet: bool) -> Run:
    from porter.display import Bar
    from porter.runner import run

    bar = Bar(sys.stderr, quiet=quiet)
    try:
        with _stoppable():
            done = run(request, bar)
    finally:
        bar.clear()
    for note in done.notes:
        _note(note)
    if not quiet:
        _note(f"min torch: {done.choice.text} ({done.choice.origin})")
    if os.environ.get("PORTER_DEBUG"):
        for trace in done.traces:
            print(trace, end="", file=sys.stderr)
    return done


def _finish(run: Run, report: Path | None, quiet: bool, verbose: bool, wrote: bool) -> int:
    """Write the report, print the summary, and return the exit code."""
    if report is not None:
        from porter.reading import as_text
        from porter.writing import write_atomic

        write_atomic(report, as_text(run.report, report).encode(), expected=None)
    if quiet:
        for file in run.report.failed:
            print(f"error: {(run.base / file.path).as_posix()}: {file.reason}", file=sys.stderr)
    else:
        from porter import display

        prefix = "" if str(run.base) == "." else f"{run.base.as_posix()}/"
        ink = display.Ink(sys.stderr)
        for line in display.summary(
            run.report, _catalog(), prefix, ink, wrote=wrote, verbose=verbose
        ):
            print(line, file=sys.stderr)
    return _code(run.report)


def _code(report: Report) -> int:
    if report.failed:
        return TROUBLE
    return FINDINGS if report.pending else OK


def _check_report(path: Path | None, option: str = "--report") -> None:
    """Tell before a long run that its report could not be written."""
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise Mistake(f"{option}: {path} cannot be written: its folder must exist")


def _catalog() -> Catalog:
    from porter.catalog import load

    return load()


def _note(text: str) -> None:
    print(f"note: {text}", file=sys.stderr)


def _stdout(data: bytes) -> None:
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
