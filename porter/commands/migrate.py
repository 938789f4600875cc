"""`porter migrate`: rewrite code in place, as a patch or as a copy."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from porter.commands import running
from porter.commands.options import (
    Exclude,
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
from porter.commands.running import TROUBLE
from porter.problem import Mistake

if TYPE_CHECKING:
    from porter.runner import Request, Run


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
    no_cache: NoCache = False,
    quiet: Quiet = False,
    verbose: Verbose = False,
) -> int:
    """Rewrite code in place, and say what is left for a person."""
    if diff and output is not None:
        raise Mistake("--diff and --output exclude each other")
    request = running.request(
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
        no_cache,
    )
    if output is not None and request.stdin is not None:
        raise Mistake("--output needs files, not standard input")
    if annotate is not None and request.stdin is not None:
        raise Mistake("--annotate needs files, not standard input")
    running.check_report(report)
    run = running.run(request, quiet)
    if annotate is not None:
        from porter.annotate import annotated

        run = annotated(run, wanted=annotate)
    wrote = not diff
    if wrote:
        run = _applied(run)
    if request.stdin is not None:
        running.stdout(_patch(run, request) if diff else _only(run, request.stdin))
    elif diff:
        running.stdout(_patch(run, request))
    elif output is not None:
        _copy(run, request, output)
    else:
        found = _in_place(run, allow_dirty)
        if found is None:
            return TROUBLE
        run = found
    return running.finish(run, report, quiet, verbose, wrote)


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
        running.error(
            "nothing was written: these files have changes that are not committed "
            "(commit or stash them, or pass --allow-dirty):",
            TROUBLE,
        )
        for path in problem.paths:
            print(f"  {path}", file=sys.stderr)
        return None
    return replace(run, report=run.report.without(written.failures))


def _announce(undo: Path) -> None:
    running.note(f"undo with: git apply {undo} (or patch -p1), in {undo.parent.parent}")
