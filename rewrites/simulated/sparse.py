"""Sparse tensors of the device: indices and values are dense tensors of the device.

The parts that only look at sizes are torch's own; the rest runs on a sparse tensor of the host
that is made of aliases.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from .kernels import Plan, fallback, run
from .tensors import unwrap, wrap

_C = torch._C
_aten = torch.ops.aten
_KEYS = _C.DispatchKeySet(_C.DispatchKey.SparseCPU)
_KEY = "SparsePrivateUse1"
_make = _aten._sparse_coo_tensor_with_dims_and_tensors.default
_indices = _aten._indices.default
_values = _aten._values.default

#: Kernels that look at sizes only, or keep the tensors that they are given.
METADATA = (
    "_indices _values _nnz sparse_dim dense_dim _dimI _dimV is_coalesced _coalesced_ "
    "_sparse_coo_tensor_with_dims _sparse_coo_tensor_with_dims_and_tensors "
    "sparse_resize_ sparse_resize_and_clear_ indices values"
).split()


def to_host(tensor: Any) -> Any:
    """A sparse host tensor over the memory of one of the device."""
    if tensor.layout is not torch.sparse_coo:
        raise NotImplementedError(f"{tensor.layout} tensors are not simulated")
    return torch.sparse_coo_tensor(
        unwrap(_indices.redispatch(_KEYS, tensor)),
        unwrap(_values.redispatch(_KEYS, tensor)),
        tensor.size(),
        is_coalesced=tensor.is_coalesced(),
        check_invariants=False,
    )


def to_device(tensor: Any, index: int) -> Any:
    """A sparse tensor of the device with the parts of one of the host.

    Raises:
        NotImplementedError: the layout is not simulated.
    """
    if tensor.layout is not torch.sparse_coo:
        raise NotImplementedError(f"{tensor.layout} tensors are not simulated")
    parts = wrap(tensor._indices(), index), wrap(tensor._values(), index)
    return _make.redispatch(
        _KEYS,
        tensor.sparse_dim(),
        tensor.dense_dim(),
        list(tensor.size()),
        *parts,
        dtype=tensor.dtype,
        layout=torch.sparse_coo,
        device=parts[0].device,
        is_coalesced=tensor.is_coalesced(),
    )


def _metadata(op: Any) -> Callable[..., Any]:
    def kernel(*args: Any, **kwargs: Any) -> Any:
        return op.redispatch(_KEYS, *args, **kwargs)

    return kernel


def _empty(op: Any) -> Callable[..., Any]:
    def kernel(size: Any, **kwargs: Any) -> Any:
        return op.redispatch(_KEYS, size, **kwargs)

    return kernel


def _clone(tensor: Any, *, memory_format: Any = None) -> Any:
    return to_device(to_host(tensor).clone(), tensor.get_device())


def install(library: Any, listed: frozenset[str]) -> None:
    """Register the kernels; `listed` are the operators that the device has for sparse tensors."""
    plans: dict[Any, Plan] = {}

    def anything(op: Any, *args: Any, **kwargs: Any) -> Any:
        plan = plans.get(op)
        if plan is None:
            plan = plans[op] = Plan(op)
        if listed and plan.short not in listed:
            return fallback(op, *args, **kwargs)
        return run(plan, args, kwargs)

    library.fallback(anything, _KEY)


def install_metadata(aten: Any) -> None:
    """Register the kernels of torch that any device can use."""
    for name in METADATA:
        op = getattr(getattr(_aten, name, None), "default", None)
        if op is not None and _C._dispatch_has_kernel_for_dispatch_key(
            f"aten::{name}", "SparseCPU"
        ):
            aten.impl(name, _metadata(op), _KEY)
            if name.startswith("_sparse_coo_tensor_with_dims"):
                aten.impl(name, _metadata(op), "PrivateUse1")
    aten.impl("empty.memory_format", _empty(_aten.empty.memory_format), _KEY)
    aten.impl("clone", _clone, _KEY)
