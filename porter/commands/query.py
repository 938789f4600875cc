"""`porter query`: say what the target offers for a name."""

from __future__ import annotations

import sys

from porter.commands.command import argument, command
from porter.commands.options import PageFormat, hardware, page_format, torch_npu
from porter.commands.running import TROUBLE


@command("query")
@argument("name", metavar="NAME", help="An API, operator or package.")
@torch_npu()
@hardware()
@page_format
def query_(
    name: str, torch_npu: str | None, hardware: str | None, output_format: PageFormat
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
