"""`porter report`: show a report in another format, or compare two."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from porter.commands import running
from porter.commands.options import FailOn, View
from porter.commands.running import FINDINGS, OK
from porter.problem import Mistake


def report_(
    reports: Annotated[
        list[Path], typer.Argument(metavar="REPORT...", help="A report; two with --compare.")
    ],
    with_: Annotated[
        list[Path] | None,
        typer.Option(
            "--with",
            metavar="FILE",
            help="Add a rehearsal (`porter rehearse --output-format json`); may be repeated.",
        ),
    ] = None,
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
    running.check_report(output, "--output")
    name = form.value if form else (views.form_of(output) if output else None)
    if name is None:
        name = "json" if output is not None and output.suffix.lower() == ".json" else "text"
    loaded = [reading.load(path) for path in reports]
    if with_:
        from porter.rehearse import merge

        if compare:
            raise Mistake("--with goes with one report")
        checks = [check for path in with_ for check in merge.load(path)]
        loaded = [merge.added(loaded[0], checks)]
    if compare:
        text, failed = reading.compared(loaded[0], loaded[1], name, prefix, fail_on.value)
    else:
        text, failed = reading.shown(loaded[0], name, prefix), False
    if output is None:
        running.stdout(text.encode())
    else:
        from porter.writing import write_atomic

        write_atomic(output, text.encode(), expected=None)
    return FINDINGS if failed else OK
