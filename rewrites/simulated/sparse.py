"""Sparse tensors of the device: indices and values are dense tensors of the device.

The parts that only look at sizes are torch's own; the rest runs on a sparse tensor of the host
that is made of aliases.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterable
from typing import Any

import torch

from .kernels import Plan, fallback, run
from .record import NotSimulated
from .tensors import unwrap, wrap

_C = torch._C
_aten = torch.ops.aten
_has = _C._dispatch_has_kernel_for_dispatch_key
_make = _aten._sparse_coo_tensor_with_dims_and_tensors.default
_COO, _COMPRESSED = "SparsePrivateUse1", "SparseCsrPrivateUse1"
_HOSTS = {_COO: "SparseCPU", _COMPRESSED: "SparseCsrCPU"}
_KEYS = {key: _C.DispatchKeySet(getattr(_C.DispatchKey, host)) for key, host in _HOSTS.items()}

#: Kernels that look at sizes only, or keep the tensors that they are given.
METADATA = {
    _COO: (
        "_indices _values _nnz sparse_dim dense_dim _dimI _dimV is_coalesced _coalesced_ "
        "_sparse_coo_tensor_with_dims _sparse_coo_tensor_with_dims_and_tensors "
        "sparse_resize_ sparse_resize_and_clear_ indices values"
    ).split(),
    _COMPRESSED: (
        "crow_indices col_indices ccol_indices row_indices values _nnz sparse_dim dense_dim"
    ).split(),
}
#: Made by hand.
_OWN = ("empty.memory_format", "clone")
_BY_ROW = (torch.sparse_csr, torch.sparse_bsr)


def _part(name: str, key: str) -> Callable[[Any], Any]:
    op = getattr(_aten, name).default
    return lambda tensor: unwrap(op.redispatch(_KEYS[key], tensor))


_indices, _values = _part("_indices", _COO), _part("_values", _COO)
_rows, _columns = _part("crow_indices", _COMPRESSED), _part("col_indices", _COMPRESSED)
_by_column, _row = _part("ccol_indices", _COMPRESSED), _part("row_indices", _COMPRESSED)
_kept = _part("values", _COMPRESSED)


def to_host(tensor: Any) -> Any:
    """A sparse host tensor over the memory of one of the device.

    Raises:
        NotSimulated: the layout is not simulated.
    """
    layout = tensor.layout
    if layout is torch.sparse_coo:
        return torch.sparse_coo_tensor(
            _indices(tensor),
            _values(tensor),
            tensor.size(),
            is_coalesced=tensor.is_coalesced(),
            check_invariants=False,
        )
    if layout in _BY_ROW or layout in (torch.sparse_csc, torch.sparse_bsc):
        parts = (_rows, _columns) if layout in _BY_ROW else (_by_column, _row)
        return torch.sparse_compressed_tensor(
            *(part(tensor) for part in parts),
            _kept(tensor),
            tensor.size(),
            layout=layout,
            check_invariants=False,
        )
    raise NotSimulated(f"{layout} tensors are not simulated")


def to_device(tensor: Any, index: int) -> Any:
    """A sparse tensor of the device with the parts of one of the host.

    Raises:
        NotSimulated: the layout is not simulated.
    """
    layout = tensor.layout
    if layout is torch.sparse_coo:
        parts = wrap(tensor._indices(), index), wrap(tensor._values(), index)
        return _make.redispatch(
            _KEYS[_COO],
            tensor.sparse_dim(),
            tensor.dense_dim(),
            list(tensor.size()),
            *parts,
            dtype=tensor.dtype,
            layout=torch.sparse_coo,
            device=parts[0].device,
            is_coalesced=tensor.is_coalesced(),
        )
    if layout in _BY_ROW:
        plain, other = tensor.crow_indices(), tensor.col_indices()
    elif layout in (torch.sparse_csc, torch.sparse_bsc):
        plain, other = tensor.ccol_indices(), tensor.row_indices()
    else:
        raise NotSimulated(f"{layout} tensors are not simulated")
    values = wrap(tensor.values(), index)
    return _aten._sparse_compressed_tensor_unsafe(
        wrap(plain, index),
        wrap(other, index),
        values,
        tensor.size(),
        dtype=tensor.dtype,
        layout=layout,
        device=values.device,
    )


def _metadata(op: Any, key: str) -> Callable[..., Any]:
    return functools.partial(op.redispatch, _KEYS[key])


def _clone(tensor: Any, *, memory_format: Any = None) -> Any:
    return to_device(to_host(tensor).clone(), tensor.get_device())


_plans: dict[Any, Plan] = {}


def _anything(listed: frozenset[str]) -> Callable[..., Any]:
    def call(op: Any, *args: Any, **kwargs: Any) -> Any:
        plan = _plans.get(op)
        if plan is None:
            plan = _plans[op] = Plan(op)
        if listed and plan.short not in listed:
            return fallback(op, *args, **kwargs)
        return run(plan, args, kwargs)

    return call


def install(library: Any, aten: Any, coo: Iterable[str], compressed: Iterable[str]) -> None:
    """Register the kernels.

    Args:
        library: for the fallback of all operators.
        aten: for single operators.
        coo: the operators that the device has for sparse tensors; all if empty.
        compressed: the same for tensors of compressed rows or columns.
    """
    for key, listed in ((_COO, frozenset(coo)), (_COMPRESSED, frozenset(compressed))):
        call = _anything(listed)
        library.fallback(call, key)
        _install_metadata(aten, key)
        for name in _C._dispatch_get_all_op_names():
            base, _, overload = name.removeprefix("aten::").partition(".")
            short = f"{base}.{overload}" if overload else base
            if not name.startswith("aten::") or short in _OWN or base in METADATA[key]:
                continue
            # torch's own way to compose such an operator would come before the fallback.
            if _has(name, _HOSTS[key]) and (not listed or short in listed):
                op = getattr(getattr(_aten, base), overload or "default")
                aten.impl(short, functools.partial(call, op), key)


def _install_metadata(aten: Any, key: str) -> None:
    for name in METADATA[key]:
        op = getattr(getattr(_aten, name, None), "default", None)
        if op is not None and _has(f"aten::{name}", _HOSTS[key]):
            aten.impl(name, _metadata(op, key), key)
            if name.startswith("_sparse_coo_tensor_with_dims"):
                aten.impl(name, _metadata(op, key), "PrivateUse1")
    aten.impl("empty.memory_format", _metadata(_aten.empty.memory_format, key), key)
    aten.impl("clone", _clone, key)
