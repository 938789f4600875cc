"""`porter rehearse`: run a command on a simulated device."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from porter.commands.options import Hardware, PageFormat
from porter.problem import Mistake
from porter.targets import TABLED


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
