"""Operators of the device's own package, as references on the host.

They are written from the formulas in the pages of Ascend/pytorch, docs/zh/api, and give the
numbers of plain torch, not those of the device.
"""

from __future__ import annotations

from typing import Any


def install(module: Any) -> None:
    """Add the operators to the package."""
