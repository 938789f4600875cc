"""`porter migrate`: rewrite code in place, as a patch or as a copy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from porter.commands import running
from porter.commands.options import (
    Exclude,
    ForceExclude,
    Hardware,
    Ignore,
    Jobs,
    MinTorch,
    NoCache,
    Paths,
    Quiet,
    ReportFile,
    Select,
    StdinName,
    TargetName,
    TorchNpu,
    Unsafe,
    Verbose,
)
from porter.commands.running import FINDINGS, TROUBLE
from porter.problem import Mistake
from porter.targets import NAMES, TABLED

if TYPE_CHECKING:
    from porter.rehearse.migration import Trial, Wanted
    from porter.runner import Request, Run

_PANEL = "Rehearsal"


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
    force_exclude: ForceExclude = None,
    report: ReportFile = None,
    rehearse: Annotated[
        str,
        typer.Option(
            "--rehearse",
            metavar="COMMAND",
            help="Write only if COMMAND, such as 'python train.py', runs on a simulated device in "
            "a migrated copy.",
            rich_help_panel=_PANEL,
        ),
    ] = "",
    rehearse_timeout: Annotated[
        float,
        typer.Option(
            "--rehearse-timeout",
            metavar="SECONDS",
            min=0,
            help="Stop each rehearsal after this time; 0 never.",
            rich_help_panel=_PANEL,
        ),
    ] = 600.0,
    rehearse_device: Annotated[
        list[str] | None,
        typer.Option(
            "--rehearse-device",
            metavar="NAME",
            help=f"Name of the simulated device; may be repeated. Default: {TABLED}, and for the "
            f"target {NAMES[0]} another one after it.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    rehearse_before: Annotated[
        bool,
        typer.Option(
            "--rehearse-before",
            help="Rehearse the code as it is first, to show the difference.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    rehearse_python: Annotated[
        str,
        typer.Option(
            "--rehearse-python",
            metavar="PATH",
            help="A Python that has torch.",
            rich_help_panel=_PANEL,
        ),
    ] = "",
    rehearse_link: Annotated[
        list[Path] | None,
        typer.Option(
            "--rehearse-link",
            metavar="FOLDER",
            help="Link this folder into the copy, for data too large to copy; may be repeated.",
            rich_help_panel=_PANEL,
        ),
    ] = None,
    rehearse_copy: Annotated[
        float,
        typer.Option(
            "--rehearse-copy",
            metavar="GIB",
            min=0.001,
            help="Refuse to copy more than this.",
            rich_help_panel=_PANEL,
        ),
    ] = 4.0,
    unproved: Annotated[
        bool,
        typer.Option(
            "--unproved",
            help="Write even if the rehearsal does not show that it runs.",
            rich_help_panel=_PANEL,
        ),
    ] = False,
    stdin_filename: StdinName = "stdin.py",
    jobs: Jobs = "auto",
    no_cache: NoCache = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Rewrite code in place, and say what is left for a person."""
    if diff and output is not None:
        raise Mistake("--diff and --output exclude each other")
    request = running.request(
        paths,
        stdin_filename=stdin_filename,
        target=target,
        min_torch=min_torch,
        torch_npu=torch_npu,
        hardware=hardware,
        unsafe=unsafe,
        select=select,
        ignore=ignore,
        exclude=exclude,
        jobs=jobs,
        no_cache=no_cache,
        force_exclude=force_exclude,
    )
    if output is not None and request.stdin is not None:
        raise Mistake("--output needs files, not standard input")
    if annotate is not None and request.stdin is not None:
        raise Mistake("--annotate needs files, not standard input")
    running.check_report(report)
    run = running.run(request, quiet)
    if annotate is not None:
        from porter.annotate import annotated

        marked = annotated(run, wanted=annotate)
        run = marked.run
        for path, why in marked.without.items() if not quiet else ():
            running.note(f"{(run.base / path).as_posix()}: no TODO comment was left here: {why}")
    trial = None
    if rehearse:
        if _refused_early(run, request, output, allow_dirty or diff):
            return TROUBLE
        wanted = _wanted(
            rehearse,
            tuple(rehearse_device or ()),
            rehearse_before,
            tuple(rehearse_link or ()),
            rehearse_copy,
            python=rehearse_python,
            limit=rehearse_timeout,
            hardware=request.settings.hardware,
            quiet=True,
            echo=not quiet,
        )
        trial = _tried(run, request, wanted, quiet)
        run = replace(run, report=replace(run.report, checks=tuple(trial.checks())))
        if not trial.proved and not unproved:
            running.write_report(run, report)
            return _unwritten(trial, running.finish(run, quiet, verbose, False))
    wrote = not diff
    if wrote:
        run = _applied(run)
    printed: bytes | None = None
    if diff:
        printed = _patch(run, request)
    elif request.stdin is not None:
        printed = _only(run, request.stdin)
    elif output is not None:
        _copy(run, request, output)
    else:
        found = _in_place(run, allow_dirty)
        if found is None:
            return TROUBLE
        run = found
    running.write_report(run, report)
    if printed is not None:
        running.stdout(printed)
    code = running.finish(run, quiet, verbose, wrote)
    return code if trial is None or trial.proved else max(code, FINDINGS)


def _wanted(
    command: str,
    devices: tuple[str, ...],
    before: bool,
    linked: tuple[Path, ...],
    copy: float,
    **options: Any,
) -> Wanted:
    from porter.rehearse.command import Options
    from porter.rehearse.migration import Wanted

    for folder in linked:
        if not folder.is_dir():
            raise Mistake(f"--rehearse-link: {folder} is no folder")
    return Wanted(command, devices, before, linked, int(copy * 2**30), Options(**options))


def _refused_early(run: Run, request: Request, output: Path | None, dirty: bool) -> bool:
    """Refuse what would be refused after the rehearsal, which may take long."""
    from porter import git
    from porter.deliver import shown
    from porter.rehearse import migration

    if request.stdin is not None:
        raise Mistake("--rehearse needs files, not standard input")
    migration.place(request.paths, Path.cwd())
    if output is not None:
        if output.is_dir() and any(output.iterdir()):
            raise Mistake(f"{output}: is not empty; remove it, or choose another place")
    elif not dirty:
        changed = git.dirty(c.file.path for c in run.changed)
        if changed:
            _uncommitted([shown(run, c.path) for c in run.changed if c.file.path in changed])
            return True
    return False


def _tried(run: Run, request: Request, wanted: Wanted, quiet: bool) -> Trial:
    """Rehearse the migration in a copy, and tell what came of it."""
    import subprocess

    from porter.rehearse import migration

    say = (lambda text: None) if quiet else running.note
    output = subprocess.DEVNULL if quiet else sys.stderr
    with running.stoppable():
        trial = migration.rehearse(run, request.paths, wanted, say, output)
    if not quiet or not trial.proved:
        print(migration.block(trial), file=sys.stderr, end="")
    return trial


def _unwritten(trial: Trial, code: int) -> int:
    """Say that nothing was written, and return the exit code."""
    if not trial.possible:
        return running.error("nothing was written: there could be no rehearsal", TROUBLE)
    return running.error(
        "nothing was written: the migrated code is not proved to run (--unproved writes all the "
        "same)",
        max(code, FINDINGS),
    )


def _applied(run: Run) -> Run:
    return replace(run, report=replace(run.report, applied=True))


def _patch(run: Run, request: Request) -> bytes:
    from porter.deliver import as_patch

    return as_patch(run, request.stdin)


def _only(run: Run, stdin: bytes) -> bytes:
    return run.changed[0].after if run.changed else stdin


def _copy(run: Run, request: Request, output: Path) -> None:
    from porter.deliver import as_copy

    with running.stoppable():
        copied = as_copy(run, request.paths, output)
    for skipped in copied.skipped:
        running.note(f"not copied: {skipped.relative}: {skipped.reason}")


def _in_place(run: Run, allow_dirty: bool) -> Run | None:
    """Write the files; None if that was refused."""
    from porter.deliver import Uncommitted, in_place

    try:
        with running.stoppable():
            written = in_place(run, allow_dirty=allow_dirty, announce=_announce)
    except Uncommitted as problem:
        _uncommitted(problem.paths)
        return None
    return replace(run, report=run.report.without(written.failures))


def _uncommitted(paths: Sequence[str]) -> None:
    running.error(
        "nothing was written: these files have changes that are not committed "
        "(commit or stash them, or pass --allow-dirty):",
        TROUBLE,
    )
    for path in paths:
        print(f"  {path}", file=sys.stderr)


def _announce(undo: Path) -> None:
    running.note(f"undo with: git apply {undo} (or patch -p1), in {undo.parent.parent}")
