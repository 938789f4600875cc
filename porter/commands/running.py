"""From options to a run, and from a run to summary, report and exit code.

Exit codes: 0 nothing is left that a person must do, 1 findings are left, 2 usage, configuration,
or a file that could not be read, 130 interrupted.
"""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from porter.problem import Mistake
from porter.targets import NAMES

if TYPE_CHECKING:
    from porter.catalog import Catalog
    from porter.commands.options import Analysis
    from porter.lookout import Lookout
    from porter.report import Report
    from porter.runner import Request, Run

OK, FINDINGS, TROUBLE, INTERRUPTED = 0, 1, 2, 130


class Interrupted(Exception):
    """The user pressed Ctrl-C; the option parser would swallow KeyboardInterrupt itself."""


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Turn Ctrl-C into Interrupted, which the option parser lets through."""
    try:
        yield
    except KeyboardInterrupt:
        raise Interrupted from None


def request(given: Analysis) -> Request:
    """What to run: the configuration, and what the command line says instead.

    Raises:
        Mistake: the options do not fit each other, or a path does not exist.
    """
    from dataclasses import replace

    from porter import config
    from porter.runner import Request

    paths, name = given.paths, given.stdin_filename
    stdin = Path("-") in paths
    if stdin and len(paths) > 1:
        raise Mistake("- cannot be combined with other paths")
    for path in paths if not stdin else ():
        if not os.path.lexists(path):
            raise Mistake(f"no such file or folder: {path}")
    if given.target is not None and given.target not in NAMES:
        known = ", ".join(NAMES)
        raise Mistake(f"--target cannot be {given.target!r} (known: {known})")
    settings = config.load([Path(name)] if stdin else paths)
    said: dict[str, object] = {
        "target": given.target,
        "min_torch": given.min_torch,
        "torch_npu": given.torch_npu,
        "hardware": given.hardware,
        "unsafe": given.unsafe,
        "force_exclude": given.force_exclude,
        "select": _codes(given.select),
        "ignore": _codes(given.ignore),
    }
    settings = replace(settings, **{k: v for k, v in said.items() if v is not None})  # type: ignore[arg-type]
    if settings.torch_npu or settings.hardware:
        from porter.support import validate
        from porter.targets import Target

        validate(Target(settings.target, torch_npu=settings.torch_npu, hardware=settings.hardware))
    return Request(
        paths=() if stdin else tuple(dict.fromkeys(paths)),
        settings=settings,
        exclude=given.exclude,
        jobs=jobs(given.jobs),
        stdin=sys.stdin.buffer.read() if stdin else None,
        stdin_name=name,
        cache=not given.no_cache,
        force_exclude=settings.force_exclude,
    )


def _codes(values: tuple[str, ...]) -> tuple[str, ...] | None:
    if not values:
        return None
    return tuple(code.strip() for value in values for code in value.split(",") if code.strip())


def jobs(text: str) -> int:
    """The number of processes that an option asks for; 0 if it leaves the choice.

    Raises:
        Mistake: it is no number.
    """
    if text == "auto":
        return 0
    if text.isdecimal() and int(text) > 0:
        return int(text)
    raise Mistake(f"--jobs cannot be {text!r}: a number from 1, or auto")


def run(request: Request, quiet: bool) -> Run:
    """Do what is asked, behind a progress bar, and print what the run notes."""
    from porter import runner
    from porter.display import Bar

    bar = Bar(sys.stderr, quiet=quiet)
    try:
        with stoppable():
            done = runner.run(request, bar)
    finally:
        bar.clear()
    for text in done.notes:
        note(text)
    if not quiet:
        note(f"min torch: {done.choice.text} ({done.choice.origin})")
    if os.environ.get("PORTER_DEBUG"):
        for trace in done.traces:
            print(trace, end="", file=sys.stderr)
    return done


def write_report(run: Run, path: Path | None) -> None:
    """Write the report where one is wanted; before printing, whose reader may leave at any time."""
    if path is not None:
        from porter.reading import as_text
        from porter.writing import write_atomic

        write_atomic(path, as_text(run.report, path).encode(), expected=None)


def finish(run: Run, quiet: bool, verbose: bool, wrote: bool) -> int:
    """Print the summary, and return the exit code."""
    if quiet:
        for file in run.report.failed:
            error(f"{(run.base / file.path).as_posix()}: {file.reason}", TROUBLE)
    else:
        from porter import display

        prefix = shown_before(run)
        ink = display.Ink(sys.stderr)
        for line in display.summary(run.report, rules(), prefix, ink, wrote=wrote, verbose=verbose):
            print(line, file=sys.stderr)
    return _code(run.report)


def shown_before(run: Run) -> str:
    """What stands before a path of the report where it is shown."""
    return "" if str(run.base) == "." else f"{run.base.as_posix()}/"


def _code(report: Report) -> int:
    if report.failed:
        return TROUBLE
    return FINDINGS if report.pending else OK


def check_report(path: Path | None, option: str = "--report") -> None:
    """Tell before a long run that its report could not be written."""
    if path is None:
        return
    if path.is_dir() or not path.absolute().parent.is_dir():
        raise Mistake(f"{option}: {path} cannot be written: its folder must exist")


def catalog() -> Catalog:
    """All rules, those of installed packs included."""
    from porter.catalog import load

    return load()


def rules() -> Lookout:
    """What is known of all rules without loading them."""
    from porter.lookout import load

    return load()


def note(text: str) -> None:
    """Tell what is worth knowing, on standard error."""
    print(f"note: {_visible(text)}", file=sys.stderr)


def error(text: str, code: int) -> int:
    """Tell what went wrong, on standard error; returns the exit code."""
    print(f"error: {_visible(text)}", file=sys.stderr)
    return code


def _visible(text: str) -> str:
    """The text without what a terminal would act on: it may name files of any name."""
    from porter.display import visible

    return visible(text)


def stdout(data: bytes) -> None:
    """Print bytes as they are: a patch or a file may hold any."""
    sys.stdout.flush()
    sys.stdout.buffer.write(data)
    sys.stdout.buffer.flush()
