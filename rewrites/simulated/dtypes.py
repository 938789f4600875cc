"""Dtypes that an operator does not take on the chosen product line."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from . import kernels
from .record import RECORD
from .settings import load

_SETTINGS = load()
_Tensor = torch.Tensor


class UnsupportedDtype(RuntimeError):
    """The product line has no kernel for the dtype."""


def guarded(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that looks at the dtype of its first tensor, if anything is known of it.

    Args:
        name: the operator, without its namespace.
        kernel: what it runs.
    """
    refused, why = _known(_SETTINGS.refused, name)
    unlisted, remark = _known(_SETTINGS.unlisted, name)
    if not refused and not unlisted:
        return kernel
    said: set[Any] = set()

    def checked(*args: Any, **kwargs: Any) -> Any:
        first = args[0] if args else None
        if isinstance(first, (list, tuple)):
            first = first[0] if first else None
        if isinstance(first, _Tensor) and not kernels.inside():
            if first.dtype in refused:
                _refuse(name, first.dtype, why)
            elif first.dtype in unlisted and first.dtype not in said:
                said.add(first.dtype)
                RECORD.note(f"aten::{name} with {_short(first.dtype)}: {remark}", kernels.line())
        return kernel(*args, **kwargs)

    return checked


def _known(table: Mapping[str, tuple[Sequence[str], str]], name: str) -> tuple[frozenset[Any], str]:
    dtypes, why = table.get(f"aten::{name}", ([], ""))
    return frozenset(getattr(torch, d) for d in dtypes), why


def _refuse(name: str, dtype: Any, why: str) -> None:
    said = f"aten::{name} with {_short(dtype)}: {why}"
    RECORD.note(said, kernels.line(), doubt=True)
    if _SETTINGS.strict:
        raise UnsupportedDtype(said)


def _short(dtype: Any) -> str:
    return str(dtype).removeprefix("torch.")
