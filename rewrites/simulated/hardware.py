"""What Ascend's lists of APIs say of the operators that ran, for one product line.

Runs in porter's process, without torch.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ..support import tables

#: Where the API of an operator may be listed.
PLACES = ("torch.{}", "torch.nn.functional.{}", "torch.Tensor.{}")


def remarks(operators: Iterable[str], hardware: str) -> Iterator[tuple[str, str]]:
    """For each operator that the product line is not known to run, its name and what is said.

    Args:
        operators: full names, such as "aten::isin.Tensor_Tensor".
        hardware: one of `tables.LINES`; empty for none.
    """
    if not hardware:
        return
    for name in operators:
        base = name.rpartition("::")[2].partition(".")[0]
        if base.startswith("_") or "::" not in name:
            continue
        rows = [tables.api(place.format(base), tables.BINARY) for place in PLACES]
        known = [row for row in rows if row is not None]
        if known and not any(hardware in row.lines for row in known):
            yield name, f"{known[0].name} is not on Ascend's list for {hardware}"
