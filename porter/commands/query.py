"""`porter query`: say what the target offers for a name."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from porter.commands.options import Hardware, PageFormat, TorchNpu
from porter.commands.running import TROUBLE


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
