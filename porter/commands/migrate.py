"""`porter migrate`: rewrite code in place, as a patch or as a copy."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from porter.commands import running
from porter.commands.command import command, gathered, option
from porter.commands.options import PATH, Analysis, analysis
from porter.commands.running import FINDINGS, TROUBLE
from porter.problem import Mistake
from porter.targets import NAMES, TABLED

if TYPE_CHECKING:
    from porter.rehearse.migration import Trial, Wanted
    from porter.runner import Request, Run

_SECTION = "Rehearsal"


@dataclass(frozen=True)
class Rehearsal:
    """The rehearsal that must show that the migrated code runs before anything is written.

    Args:
        rehearse: the command; empty for no rehearsal.
        rehearse_timeout: seconds; 0 for no limit.
        rehearse_device: names of the simulated devices; empty for those of the target.
        rehearse_before: whether the code is rehearsed as it is, too.
        rehearse_python: a Python that has torch; empty for this one.
        rehearse_link: folders that are linked into the copy.
        rehearse_copy: the most to copy, in GiB.
        unproved: whether to write all the same.
    """

    rehearse: str
    rehearse_timeout: float
    rehearse_device: tuple[str, ...]
    rehearse_before: bool
    rehearse_python: str
    rehearse_link: tuple[Path, ...]
    rehearse_copy: float
    unproved: bool


_rehearsal = gathered(
    "rehearsal",
    Rehearsal,
    option(
        "--rehearse",
        metavar="COMMAND",
        default="",
        help="Write only if COMMAND, such as 'python train.py', runs on a simulated device in "
        "a migrated copy.",
        section=_SECTION,
    ),
    option(
        "--rehearse-timeout",
        type=click.FloatRange(min=0),
        metavar="SECONDS",
        default=600.0,
        help="Stop each rehearsal after this time; 0 never.",
        section=_SECTION,
    ),
    option(
        "--rehearse-device",
        multiple=True,
        metavar="NAME",
        help=f"Name of the simulated device; may be repeated. Default: {TABLED}, and for the "
        f"target {NAMES[0]} another one after it.",
        section=_SECTION,
    ),
    option(
        "--rehearse-before",
        is_flag=True,
        help="Rehearse the code as it is first, to show the difference.",
        section=_SECTION,
    ),
    option(
        "--rehearse-python",
        metavar="PATH",
        default="",
        help="A Python that has torch.",
        section=_SECTION,
    ),
    option(
        "--rehearse-link",
        multiple=True,
        type=PATH,
        metavar="FOLDER",
        help="Link this folder into the copy, for data too large to copy; may be repeated.",
        section=_SECTION,
    ),
    option(
        "--rehearse-copy",
        type=click.FloatRange(min=0.001),
        metavar="GIB",
        default=4.0,
        help="Refuse to copy more than this.",
        section=_SECTION,
    ),
    option(
        "--unproved",
        is_flag=True,
        help="Write even if the rehearsal does not show that it runs.",
        section=_SECTION,
    ),
)


@command("migrate")
@analysis
@option("--diff", is_flag=True, help="Print a patch for `git apply`; write nothing.")
@option("-o", "--output", type=PATH, metavar="DIR", help="Write a migrated copy of the tree.")
@option(
    "--annotate/--no-annotate",
    default=None,
    help="Leave TODO comments at what is left for a person, or take them out.",
)
@option("--allow-dirty", is_flag=True, help="Change files with uncommitted changes too.")
@_rehearsal
def migrate(
    analysis: Analysis,
    rehearsal: Rehearsal,
    diff: bool,
    output: Path | None,
    annotate: bool | None,
    allow_dirty: bool,
) -> int:
    """Rewrite code in place, and say what is left for a person."""
    if diff and output is not None:
        raise Mistake("--diff and --output exclude each other")
    request, quiet = running.request(analysis), analysis.quiet
    if output is not None and request.stdin is not None:
        raise Mistake("--output needs files, not standard input")
    if annotate is not None and request.stdin is not None:
        raise Mistake("--annotate needs files, not standard input")
    running.check_report(analysis.report)
    run = running.run(request, quiet)
    if annotate is not None:
        from porter.annotate import annotated

        marked = annotated(run, wanted=annotate)
        run = marked.run
        for path, why in marked.without.items() if not quiet else ():
            running.note(f"{(run.base / path).as_posix()}: no TODO comment was left here: {why}")
    trial = None
    if rehearsal.rehearse:
        if _refused_early(run, request, output, allow_dirty or diff):
            return TROUBLE
        trial = _tried(run, request, _wanted(rehearsal, request, quiet), quiet)
        run = replace(run, report=replace(run.report, checks=tuple(trial.checks())))
        if not trial.proved and not rehearsal.unproved:
            running.write_report(run, analysis.report)
            return _unwritten(trial, running.finish(run, quiet, analysis.verbose, False))
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
    running.write_report(run, analysis.report)
    if printed is not None:
        running.stdout(printed)
    code = running.finish(run, quiet, analysis.verbose, wrote)
    return code if trial is None or trial.proved else max(code, FINDINGS)


def _wanted(given: Rehearsal, request: Request, quiet: bool) -> Wanted:
    from porter.rehearse.command import Options
    from porter.rehearse.migration import Wanted

    for folder in given.rehearse_link:
        if not folder.is_dir():
            raise Mistake(f"--rehearse-link: {folder} is no folder")
    options = Options(
        python=given.rehearse_python,
        limit=given.rehearse_timeout,
        hardware=request.settings.hardware,
        quiet=True,
        echo=not quiet,
    )
    return Wanted(
        given.rehearse,
        given.rehearse_device,
        given.rehearse_before,
        given.rehearse_link,
        int(given.rehearse_copy * 2**30),
        options,
    )


def _refused_early(run: Run, request: Request, output: Path | None, dirty: bool) -> bool:
    """Refuse what would be refused after the rehearsal, which may take long."""
    from porter import git
    from porter.deliver import check_copy, shown
    from porter.rehearse import migration

    if request.stdin is not None:
        raise Mistake("--rehearse needs files, not standard input")
    migration.place(request.paths, Path.cwd())
    if output is not None:
        check_copy(run, request.paths, output)
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
    from porter.display import visible

    running.error(
        "nothing was written: these files have changes that are not committed "
        "(commit or stash them, or pass --allow-dirty):",
        TROUBLE,
    )
    for path in paths:
        print(visible(f"  {path}"), file=sys.stderr)


def _announce(undo: Path) -> None:
    running.note(f"undo with: git apply {undo} (or patch -p1), in {undo.parent.parent}")
