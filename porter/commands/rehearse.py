"""`porter rehearse`: run a command on a simulated device."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Annotated

import typer

from porter.commands import running
from porter.commands.options import Hardware, PageFormat
from porter.targets import TABLED

_GIGABYTE = 1 << 30


def rehearse_(
    context: typer.Context,
    module: Annotated[bool, typer.Option("-m", help="The first word is a module.")] = False,
    device: Annotated[
        str, typer.Option("--device", metavar="NAME", help="Name of the simulated device.")
    ] = TABLED,
    devices: Annotated[
        int, typer.Option("--devices", metavar="N", min=1, max=64, help="How many there are.")
    ] = 8,
    memory: Annotated[
        float, typer.Option("--memory", metavar="GIB", min=0.001, help="Memory of each device.")
    ] = 64.0,
    strict: Annotated[
        bool,
        typer.Option(
            "--strict",
            help="Operators without a kernel are errors, and dtypes not listed for --hardware.",
        ),
    ] = False,
    hardware: Hardware = None,
    python: Annotated[
        str, typer.Option("--python", metavar="PATH", help="A Python that has torch.")
    ] = "",
    limit: Annotated[
        float,
        typer.Option("--limit", metavar="SECONDS", min=0, help="Stop after this time; 0 never."),
    ] = 600.0,
    host_memory: Annotated[
        float,
        typer.Option(
            "--host-memory",
            metavar="GIB",
            min=0,
            help="Stop when all processes hold more of this machine; 0 for most of what is free.",
        ),
    ] = 0.0,
    report_into: Annotated[
        Path | None,
        typer.Option(
            "--report-into", metavar="REPORT", help="Add the verdict to a JSON report of porter."
        ),
    ] = None,
    output_format: Annotated[PageFormat, typer.Option("--output-format")] = PageFormat.TEXT,
) -> int:
    """Run a command on a simulated device: `porter rehearse train.py --epochs 1`.

    This command, unlike the others, runs the code it is given. It needs torch.
    """
    from porter import reading
    from porter.rehearse import command, merge

    if hardware:
        from porter.support import validate
        from porter.targets import Target

        validate(Target(TABLED, hardware=hardware))
    if report_into is not None:
        reading.load(report_into)  # a mistake here must not cost a rehearsal
    options = command.Options(
        device=device,
        module=module,
        python=python,
        limit=limit,
        host_memory=int(host_memory * _GIGABYTE),
        strict=strict,
        devices=devices,
        memory=int(memory * _GIGABYTE),
        hardware=hardware or "",
    )
    words = list(context.args)
    if "--" in words[:2]:  # before the command, or before its own options
        words.remove("--")
    with running.stoppable():
        found = command.rehearse(words, options, sys.stderr)
    print(command.report(found, as_json=output_format is PageFormat.JSON), end="")
    if report_into is not None:
        merge.into(report_into, found, Path.cwd())
        running.note(f"{report_into}: the verdict was added")
    return command.exit_code(found)
