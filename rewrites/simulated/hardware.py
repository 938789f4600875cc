"""What Ascend's sources say of operators and dtypes on one product line.

Runs in porter's process, without torch.
"""

from __future__ import annotations

import functools
from collections.abc import Iterable, Iterator

from ..support import tables

#: Where the API of an operator may be listed.
PLACES = ("torch.{}", "torch.nn.functional.{}", "torch.Tensor.{}", "torch.special.{}")
#: The dtypes of Ascend's lists, as torch has them.
LISTED = {
    "fp16": "float16", "fp32": "float32", "fp64": "float64", "uint8": "uint8", "int8": "int8",
    "int16": "int16", "int32": "int32", "int64": "int64", "bool": "bool",
    "complex64": "complex64", "complex128": "complex128",
}  # fmt: skip
#: What the lists of APIs call the first tensor.
_FIRST = ("input", "self", "*")


def remarks(operators: Iterable[str], hardware: str) -> Iterator[tuple[str, str]]:
    """For each operator that the product line is not known to run, its name and what is said.

    Args:
        operators: full names, such as "aten::isin.Tensor_Tensor".
        hardware: one of `tables.LINES`; empty for none.
    """
    if not hardware:
        return
    for name in operators:
        if "::" not in name:
            continue
        known = _rows(name)
        if known and not any(hardware in row.lines for row in known):
            yield name, f"{known[0].name} is not on Ascend's list for {hardware}"


def _rows(name: str) -> list[tables.Api]:
    base = name.rpartition("::")[2].partition(".")[0]
    if base.startswith("_"):
        return []
    found = (tables.api(place.format(base), tables.BINARY) for place in PLACES)
    return [row for row in found if row is not None]


@functools.cache
def _refused() -> dict[str, tuple[str, dict[str, tuple[str, ...]]]]:
    """By operator: the function of CANN, and the dtypes that it does not take, by product line."""
    found = {}
    for text in (tables.HERE / "dtypes.tsv").read_text(encoding="utf-8").splitlines():
        if text.startswith("#"):
            continue
        name, function, limits = text.split("\t")
        lines: dict[str, tuple[str, ...]] = dict.fromkeys(tables.LINES, ())
        for part in limits.split(" "):
            line, _, dtypes = part.rpartition(":")
            for each in [line] if line else lines:
                lines[each] += tuple(dtypes.split(","))
        found[f"aten::{name}"] = (function, lines)
    return found


def refused(hardware: str) -> dict[str, tuple[tuple[str, ...], str]]:
    """By operator: dtypes of its first tensor that fail on a product line, and why.

    Documentation and source of the function of CANN agree on them (docs/tools/build_dtypes.py).
    """
    return {
        name: (lines[hardware], f"{function} of CANN does not take it on {hardware}")
        for name, (function, lines) in _refused().items()
        if lines[hardware]
    }


def unlisted(hardware: str) -> dict[str, tuple[tuple[str, ...], str]]:
    """By operator: dtypes of its first tensor that Ascend's list of APIs leaves out, and why.

    The lists say "only" and are not complete: half of them leave out bfloat16, with which whole
    models are trained, so it is not among these dtypes.
    """
    found = {}
    for name, operator in tables.operators().items():
        rows = [row for row in _rows(name) if hardware in row.lines]
        if operator.kind != "npu" or not rows:
            continue
        named = [_first(row) for row in rows]
        if all(named):
            known = frozenset(d for dtypes in named for d in dtypes)
            missing = tuple(full for short, full in LISTED.items() if short not in known)
            if missing:
                found[name] = (missing, f"Ascend's list has {rows[0].name} without it")
    return found


def _first(row: tables.Api) -> tuple[str, ...]:
    """The dtypes that a list has for the first tensor of an API; empty if it has no limit."""
    dtypes = dict(row.dtypes)
    return next((dtypes[name] for name in _FIRST if name in dtypes), ())
