"""`porter rehearse`: run a command on a simulated device."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from porter.commands import running
from porter.commands.command import command, option
from porter.commands.options import PATH, PageFormat, hardware, page_format
from porter.targets import TABLED

_GIGABYTE = 1 << 30


@command(
    "rehearse",
    # What follows the first word belongs to the command that is rehearsed.
    context_settings={"allow_extra_args": True, "allow_interspersed_args": False},
    options_metavar="[OPTIONS] COMMAND...",
)
@option("-m", "module", is_flag=True, help="The first word is a module.")
@option("--device", metavar="NAME", default=TABLED, help="Name of the simulated device.")
@option("--devices", type=click.IntRange(1, 64), metavar="N", default=8, help="How many there are.")
@option(
    "--memory",
    type=click.FloatRange(min=0.001),
    metavar="GIB",
    default=64.0,
    help="Memory of each device.",
)
@option(
    "--strict",
    is_flag=True,
    help="Operators without a kernel are errors, and dtypes not listed for --hardware.",
)
@hardware()
@option("--python", metavar="PATH", default="", help="A Python that has torch.")
@option(
    "--limit",
    type=click.FloatRange(min=0),
    metavar="SECONDS",
    default=600.0,
    help="Stop after this time; 0 never.",
)
@option(
    "--host-memory",
    type=click.FloatRange(min=0),
    metavar="GIB",
    default=0.0,
    help="Stop when all processes hold more of this machine; 0 for most of what is free.",
)
@option(
    "--report-into",
    type=PATH,
    metavar="REPORT",
    help="Add the verdict to a JSON report of porter.",
)
@page_format
@click.pass_context
def rehearse_(
    context: click.Context,
    /,
    *,
    hardware: str | None,
    host_memory: float,
    memory: float,
    report_into: Path | None,
    output_format: PageFormat,
    **values: Any,
) -> int:
    """Run a command on a simulated device: `porter rehearse train.py --epochs 1`.

    This command, unlike the others, runs the code it is given. It needs torch.
    """
    from porter import reading
    from porter.rehearse import command as rehearsal
    from porter.rehearse import merge

    if hardware:
        from porter.support import validate
        from porter.targets import Target

        validate(Target(TABLED, hardware=hardware))
    if report_into is not None:
        reading.load(report_into)  # a mistake here must not cost a rehearsal
    options = rehearsal.Options(
        **values,
        host_memory=int(host_memory * _GIGABYTE),
        memory=int(memory * _GIGABYTE),
        hardware=hardware or "",
    )
    words = list(context.args)
    if "--" in words[:2]:  # before the command, or before its own options
        words.remove("--")
    with running.stoppable():
        found = rehearsal.rehearse(words, options, sys.stderr)
    print(rehearsal.report(found, as_json=output_format is PageFormat.JSON), end="")
    if report_into is not None:
        merge.into(report_into, found, Path.cwd())
        running.note(f"{report_into}: the verdict was added")
    return rehearsal.exit_code(found)
