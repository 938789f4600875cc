"""The table of CUDA-bound torch names, `api.toml`, as typed rows."""

from __future__ import annotations

import functools
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: torch.get_device_module() without an argument finds the accelerator since 2.5
#: (torch/__init__.py); what it is given here to decide with is torch 2.6 and later anyway.
DEVICE_MODULE_SINCE = "2.5"


@dataclass(frozen=True)
class Row:
    """What is known of one name; the columns are explained at the top of `api.toml`."""

    name: str
    kind: str
    fate: str
    accelerator: str
    accelerator_since: str
    accelerator_params: tuple[str, ...]
    device_module: bool
    npu: str
    npu_params: tuple[str, ...]
    params: tuple[str, ...]
    cpu: str
    accelerator_cpu: str
    device_module_cpu: str
    reason: str
    advice: str
    source: str
    versions: str

    @property
    def explanation(self) -> str:
        """Why, then what to do."""
        return " ".join(t for t in (self.reason, self.advice) if t)


def _row(name: str, data: dict[str, Any]) -> Row:
    since = data.get("accelerator_since", "2.6")
    on_npu = data.get("accelerator_npu_since", since)
    exact = data.get("npu_exact", True)
    params = tuple(data.get("params", ()))
    return Row(
        name=name,
        kind=data.get("kind", ""),
        fate=data.get("fate", "gap"),
        accelerator=data.get("accelerator", ""),
        # The result must run on an NPU too, so the later of the two versions counts.
        accelerator_since=max(since, on_npu, key=lambda v: [int(p) for p in v.split(".")]),
        accelerator_params=tuple(data.get("accelerator_params", params)),
        device_module=bool(data.get("device_module")),
        npu=data.get("npu", "") if exact else "",
        npu_params=tuple(data.get("npu_params", params)),
        params=params,
        cpu=data.get("cpu", ""),
        accelerator_cpu=data.get("accelerator_cpu", ""),
        device_module_cpu=data.get("device_module_cpu", ""),
        reason=data.get("reason", ""),
        advice=data.get("advice", ""),
        source=data.get("source", ""),
        versions=data.get("versions", ""),
    )


@functools.cache
def _raw() -> dict[str, dict[str, Any]]:
    text = (Path(__file__).parent / "api.toml").read_text(encoding="utf-8")
    table: dict[str, dict[str, Any]] = tomllib.loads(text)
    return table


@functools.cache
def row(name: str) -> Row | None:
    """The row of a qualified name, aliases followed; None if the table has none."""
    data = _raw().get(name)
    if data is None:
        return None
    alias = data.get("alias_of")
    return row(alias) if alias else _row(name, data)


def names() -> tuple[str, ...]:
    """Every name of the table, sorted."""
    return tuple(sorted(_raw()))
