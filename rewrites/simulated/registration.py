"""Registers the kernels with torch's dispatcher."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from . import (
    autocast,
    compiler,
    data_parallel,
    dtypes,
    graphs,
    host_grad,
    kernels,
    limits,
    pinned,
    sparse,
    special,
    tensors,
)
from .kernels import OwnKernel, Plan, count, fallback
from .quick import kernel_for
from .record import NotSimulated
from .settings import Settings

_C = torch._C
_KEY = "PrivateUse1"
_has = _C._dispatch_has_kernel_for_dispatch_key
_NESTED = _C.DispatchKeySet(_C.DispatchKey.NestedTensorCPU)
_libraries: list[Any] = []

#: Kernels of torch that need sizes and strides only: they work on any device.
METADATA = (
    "as_strided as_strided_ view _reshape_alias unfold set_.source_Storage_storage_offset is_set_to"
).split()
#: Composite operators whose parts all have kernels: torch may take them apart by itself.
PLAIN_COMPOSITES = frozenset(
    "__ior__.Scalar __ior__.Tensor adaptive_avg_pool2d argsort argsort.stable contiguous "
    "fft_fftshift fft_ifftshift flatten_dense_tensors isclose isfinite kl_div l1_loss log_sigmoid "
    "matmul one_hot softmax.int where".split()
)
#: Operators that torch composes of functions of its own, which only its own devices have.
STUBBED = ("conj_physical_",)
#: Operators that torch decides on before it looks at the device.
SELECTED = frozenset(["is_pinned", "_pin_memory", "copy_"])


def operator(name: str) -> Any:
    """The operator of a name such as "add.Tensor"; None if this torch has none."""
    base, _, overload = name.partition(".")
    return getattr(getattr(torch.ops.aten, base, None), overload or "default", None)


def _specials() -> dict[str, Callable[..., Any]]:
    found: dict[str, Callable[..., Any]] = {
        "_copy_from": special.copy_from,
        "resize_": limits.formats("resize_", special.resize),
        "set_.source_Tensor": special.set_tensor,
        "set_.source_Storage": special.set_storage,
        "set_": special.set_empty,
    }
    for name in METADATA:
        found[name] = special.metadata_only(operator(name))
    found["as_strided"] = special.as_strided(operator("as_strided"))
    for name in ("empty.memory_format", "empty_strided"):
        found[name] = special.empty(operator(name))
    for name in ("zeros", "ones", "full"):
        found[name] = special.factory(operator(name))
    found["_to_copy"] = special.to_copy(operator("_to_copy"))
    found["_local_scalar_dense"] = special.local_scalar(operator("_local_scalar_dense"))
    if limits.LIMITED:
        found["contiguous"] = limits.contiguous
    found.update(host_grad.kernels())
    return found


def _composite(op: Any) -> Callable[..., Any]:
    """A composite operator for which the device has one kernel: what is inside does not count."""
    plan = Plan(op)

    take_apart = functools.partial(op._op_dk, _C.DispatchKey.CompositeImplicitAutograd)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        count(plan)
        with OwnKernel():
            return take_apart(*args, **kwargs)

    return kernel


def _no_quantized(op: Any, *_: object, **__: object) -> Any:
    raise NotSimulated(f"quantized tensors are not simulated (aten::{op._opname} asks for one)")


def _nested(aten: Any) -> None:
    """Nested tensors of the strided layout: the four operators that the binary registers."""
    for name in ("_nested_tensor_size", "unbind.int", "values"):
        op = operator(name)
        call = torch.library.get_kernel(op, "NestedTensorCPU").call_boxed
        aten.impl(name, functools.partial(call, _NESTED), "NestedTensorPrivateUse1")
    aten.impl("to_padded_tensor", special.to_padded_tensor, "NestedTensorPrivateUse1")


def install(settings: Settings) -> None:
    """Register everything. The libraries live as long as the process."""
    anything = torch.library.Library("_", "IMPL")
    anything.fallback(fallback, _KEY)
    anything.fallback(torch.library.fallthrough_kernel, "AutocastPrivateUse1")
    anything.fallback(_no_quantized, "QuantizedPrivateUse1")
    aten = torch.library.Library("aten", "IMPL")
    _libraries.extend((anything, aten))
    tensors.install()
    pinned.install()
    compiler.install()
    graphs.install()
    if settings.tabled:
        data_parallel.install()
    specials = _specials()
    listed = [n.removeprefix("aten::") for n in settings.operators if n.startswith("aten::")]
    for name in sorted({*listed, *specials}):
        _register(aten, name, specials)
    for name in STUBBED:
        aten.impl(name, functools.partial(fallback, operator(name)), _KEY)
    for key in ("CPU", "AutogradCPU", _KEY, f"Autograd{_KEY}"):
        aten.impl("_has_compatible_shallow_copy_type", special.shallow_copy, key)
    torch.Tensor.record_stream = special.record_stream
    aten.impl("is_pinned", pinned.is_pinned, "BackendSelect")
    aten.impl("_pin_memory", pinned.pin_memory, "BackendSelect")
    autocast.install(aten, {**settings.operators, **settings.composites})
    kernels.LAYOUTS.update(to_host=sparse.to_host, to_device=sparse.to_device)
    _nested(aten)
    sparse.install(anything, aten, settings.sparse, settings.compressed)


def _register(aten: Any, name: str, specials: dict[str, Callable[..., Any]]) -> None:
    op = operator(name)
    if op is None or name in SELECTED:
        return
    composite = _has(f"aten::{name}", "CompositeImplicitAutograd")
    if name in specials:
        if composite:
            aten.impl(name, specials[name], f"Autograd{_KEY}")
        aten.impl(name, specials[name], _KEY)
    elif composite and not _has(f"aten::{name}", "CPU"):
        if name not in PLAIN_COMPOSITES:
            kernel = _composite(op)
            aten.impl(name, kernel, f"Autograd{_KEY}")
            aten.impl(name, kernel, _KEY)
    else:
        aten.impl(name, limits.formats(name, dtypes.guarded(name, kernel_for(op))), _KEY)
