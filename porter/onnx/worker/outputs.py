"""Outputs of a model: taken apart into tensors, and compared."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence
from typing import Any

#: Largest error against the graph, relative to an element and to the mean square of its tensor.
#: Another order of additions gives up to some 1e-5 in float32 (measured on the models of
#: docs/onnx.md); a wrong operator gives 1e-2 and more.
GRAPH = {"float64": 1e-7, "float32": 1e-4, "float16": 1e-2, "bfloat16": 5e-2}
#: Against the original, where the same kernels run in the same order.
EAGER = {"float64": 1e-12, "float32": 1e-6, "float16": 1e-3, "bfloat16": 1e-2}
#: From the coarsest to the finest.
ORDER = ("bfloat16", "float16", "float32", "float64")
#: A tensor whose values are all below this is taken for zeros with noise.
FLOOR = 1e-5


def register(output: Any) -> None:
    """Make dataclasses in an output known to torch, which takes apart only what it knows."""
    import torch

    if dataclasses.is_dataclass(output) and not isinstance(output, type):
        kind = type(output)
        known = torch.utils._pytree.SUPPORTED_NODES
        if kind not in known:
            torch.export.register_dataclass(kind)
        for each in dataclasses.fields(output):
            register(getattr(output, each.name))
    elif isinstance(output, Mapping):
        for value in output.values():
            register(value)
    elif isinstance(output, (list, tuple)):
        for value in output:
            register(value)


def flat(output: Any) -> tuple[dict[str, Any], list[str]]:
    """An output's tensors by their place in it, and what else is in it.

    Numbers count as tensors; None is nothing.
    """
    import torch

    register(output)
    leaves, _ = torch.utils._pytree.tree_flatten_with_path(output)
    found: dict[str, Any] = {}
    others = []
    for path, leaf in leaves:
        name = torch.utils._pytree.keystr(path) or "output"
        if isinstance(leaf, torch.Tensor):
            found[name] = leaf.detach().to("cpu").clone()
        elif isinstance(leaf, (bool, int, float)):
            found[name] = torch.tensor(leaf)
        elif leaf is not None and not isinstance(leaf, str):
            others.append(f"{name} ({type(leaf).__name__})")
    return found, others


def precision(model: Any, *values: Any) -> str:
    """The coarsest floating dtype of a model and its inputs: what its errors are judged by."""
    import torch

    leaves = torch.utils._pytree.tree_leaves(list(values))
    tensors = [
        *model.parameters(), *model.buffers(), *(v for v in leaves if isinstance(v, torch.Tensor))
    ]  # fmt: skip
    found = {str(t.dtype).rpartition(".")[2] for t in tensors}
    return next((name for name in ORDER if name in found), "float32")


def compare(
    expected: Mapping[str, Any], actual: Mapping[str, Any], tolerance: float
) -> dict[str, Any]:
    """Whether two outputs are equal within a tolerance.

    Returns:
        `ok`; `identical`, to the last bit; `error`, the largest one relative to what is allowed
        to differ by 1; `where`, the output with it; `reason`, if they are not equal.
    """
    if list(expected) != list(actual):
        only = [*(set(expected) - set(actual)), *(set(actual) - set(expected))]
        return _unequal(f"other outputs: {', '.join(sorted(only)[:6])}")
    worst: dict[str, Any] = {"ok": True, "identical": True, "error": 0.0, "where": ""}
    for name, value in expected.items():
        found = tensors(value, actual[name], tolerance)
        worst["identical"] = worst["identical"] and found["identical"]
        if not found["ok"]:
            return {**found, "where": name}
        if found["error"] > worst["error"]:
            worst.update(error=found["error"], where=name)
    return worst


def _unequal(reason: str, error: float | None = None) -> dict[str, Any]:
    return {"ok": False, "identical": False, "error": error, "where": "", "reason": reason}


def tensors(expected: Any, actual: Any, tolerance: float) -> dict[str, Any]:
    """Whether two tensors are equal within a tolerance, as `compare` says it."""
    import torch

    if expected.shape != actual.shape:
        return _unequal(f"shape {list(actual.shape)} instead of {list(expected.shape)}")
    if expected.dtype != actual.dtype:
        names = [str(t.dtype).rpartition(".")[2] for t in (actual, expected)]
        return _unequal(f"dtype {names[0]} instead of {names[1]}")
    if torch.equal(expected, actual):
        return {"ok": True, "identical": True, "error": 0.0}
    if expected.is_complex():
        expected, actual = torch.view_as_real(expected), torch.view_as_real(actual)
    if not expected.is_floating_point():
        different = int((expected != actual).sum())
        return _unequal(f"{different} of {expected.numel()} values differ")
    a, b = actual.double(), expected.double()
    finite = b.isfinite()
    special = torch.where(finite, 0.0, b)
    if not torch.equal(torch.where(a.isfinite(), 0.0, a).nan_to_num(7), special.nan_to_num(7)):
        count = int((a.isfinite() != finite).sum())
        return _unequal(f"{count} of {b.numel()} values are infinite or no numbers on one side")
    a, b = a[finite], b[finite]
    if not b.numel():
        return {"ok": True, "identical": True, "error": 0.0}
    scale = max(float(b.square().mean().sqrt()), FLOOR)
    errors = (a - b).abs() / (b.abs() + scale)
    error = float(errors.max())
    if error <= tolerance:
        return {"ok": True, "identical": error == 0.0, "error": error}
    count = int((errors > tolerance).sum())
    return _unequal(
        f"{count} of {b.numel()} values differ by more than {tolerance:g}, at most {error:.1e}",
        error,
    )


def dull(rows: Sequence[Mapping[str, Any]]) -> str:
    """Why outputs prove little; empty if they prove something."""
    values = [t.double().flatten() for row in rows for t in row.values() if t.is_floating_point()]
    if not values:
        return ""
    if all(not bool(v.isfinite().any()) for v in values):
        return "no output holds a finite number: equal outputs prove nothing"
    if all(bool((v == v[:1]).all()) for v in values if v.numel() > 1) and any(
        v.numel() > 1 for v in values
    ):
        return "all values of each output are the same: equal outputs prove little"
    return ""
