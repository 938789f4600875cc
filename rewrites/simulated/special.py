"""Kernels that no operator of the host gives: copies, views of the same memory, fused cells."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from . import devices, limits
from .kernels import HOST_CALLS, NAME, Plan, count, line, run
from .pinned import marked
from .record import RECORD, NotSimulated, site
from .tensors import HOST_KEYS, MEMORIES, forget, fresh, rebind, unwrap, wrap

_aten = torch.ops.aten
_Tensor = torch.Tensor
_set = _aten.set_.source_Storage_storage_offset


def metadata_only(op: Any) -> Callable[..., Any]:
    """A kernel of torch that looks at sizes and strides only, and never at the memory."""
    plan = Plan(op)
    cell, first = plan.cell, plan.first
    call = torch.library.get_kernel(op, "CPU").call_boxed
    changes = bool(plan.writes)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        cell[0] += 1
        if not first[0]:
            count(plan, cell[0])
        if changes:
            forget(args[0])
        return call(HOST_KEYS, *args, **kwargs)

    return kernel


def as_strided(op: Any) -> Callable[..., Any]:
    """`as_strided`: torch makes most views with it."""
    plan = Plan(op)
    cell, first = plan.cell, plan.first
    call = torch.library.get_kernel(op, "CPU").call_boxed

    def kernel(tensor: Any, size: Any, stride: Any, storage_offset: Any = None) -> Any:
        cell[0] += 1
        if not first[0]:
            count(plan, cell[0])
        return call(HOST_KEYS, tensor, size, stride, storage_offset)

    return kernel


_COPY = RECORD.cell("aten::_copy_from")
#: Floating types that are slow, or not there at all, on accelerators of this kind.
_DOUBLE = {torch.float64: "float64", torch.complex128: "complex128"}


def copy_from(source: Any, target: Any, non_blocking: bool = False) -> Any:
    """Copy within a device, between devices, and to and from the host."""
    from_host, to_host = source.is_cpu, target.is_cpu
    _COPY[0][0] += 1
    if not _COPY[1][0]:
        _COPY[1][0] = line()
    if from_host or to_host or source.get_device() != target.get_device():
        kinds = ["host" if t.is_cpu else NAME for t in (source, target)]
        RECORD.transfer(" to ".join(kinds), target.nbytes)
        if not to_host and target.dtype in _DOUBLE:
            RECORD.note(f"a {_DOUBLE[target.dtype]} tensor on the device", site())
    host = unwrap(target) if not to_host else target
    host.copy_(unwrap(source) if not from_host else source)
    return target


def to_copy(op: Any) -> Callable[..., Any]:
    """`_to_copy`: another dtype, another device, or the host."""
    plan = Plan(op)
    cell, first = plan.cell, plan.first
    convert, float64 = op._op, torch.float64

    def kernel(
        tensor: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
        pin_memory: Any = None, non_blocking: bool = False, memory_format: Any = None,
    ) -> Any:  # fmt: skip
        index = tensor.get_device()
        if dtype is float64 or memory_format is not None:
            named = device is not None or layout is not None
            dtype = limits.converted(tensor, dtype, named, memory_format)
        to_host = device is not None and device.type == "cpu"
        if not (to_host or device is None or device.type == NAME) or (
            layout not in (None, torch.strided)
        ):
            return op._op_dk(
                torch._C.DispatchKey.CompositeExplicitAutograd, tensor, dtype=dtype, layout=layout,
                device=device, non_blocking=non_blocking, memory_format=memory_format,
            )  # fmt: skip
        cell[0] += 1
        if not first[0]:
            count(plan, cell[0])
        made = convert(unwrap(tensor), dtype=dtype, memory_format=memory_format)
        if to_host:
            RECORD.transfer(f"{NAME} to host", made.nbytes)
            # torch takes pinned memory for copies that it does not wait for.
            return marked(made) if non_blocking or pin_memory else made
        target = index if device is None else devices.index_of(device)
        if target != index:
            RECORD.transfer(f"{'host' if index < 0 else NAME} to {NAME}", made.nbytes)
            if index < 0 and made.dtype in _DOUBLE:
                RECORD.note(f"a {_DOUBLE[made.dtype]} tensor on the device", site())
        return wrap(made, target)

    return kernel


def local_scalar(op: Any) -> Callable[[Any], Any]:
    """`.item()`: a transfer that waits for the device."""
    plan = Plan(op)

    def kernel(tensor: Any) -> Any:
        count(plan)
        RECORD.transfer(f"{NAME} to host", tensor.nbytes)
        return op._op(unwrap(tensor))

    return kernel


def empty(op: Any) -> Callable[..., Any]:
    """`empty` and `empty_strided`: memory of the device."""
    plan = Plan(op)
    cell, first = plan.cell, plan.first
    make = torch.empty_strided if "strided" in plan.short else torch.empty

    def kernel(
        size: Any, *stride: Any, dtype: Any = None, layout: Any = None, device: Any = None,
        pin_memory: Any = None, memory_format: Any = None,
    ) -> Any:  # fmt: skip
        cell[0] += 1
        if not first[0]:
            count(plan, cell[0])
        if layout is not None and layout is not torch.strided:
            raise NotImplementedError(f"no {layout} memory on {NAME}")
        index = devices.current() if device is None or device.index is None else device.index
        if index >= devices.COUNT:
            devices.check(index)
        if math.prod(size) > LARGE:
            ask(index, size, dtype)
        if memory_format is not None:
            limits.created(memory_format)
            return fresh(make(size, dtype=dtype, memory_format=memory_format), index)
        return fresh(make(size, *stride, dtype=dtype), index)

    return kernel


def factory(op: Any) -> Callable[..., Any]:
    """`zeros` and the like: they make a tensor from a size, without one."""
    plan = Plan(op)
    cell, first, call = plan.cell, plan.first, plan.call

    def kernel(
        *args: Any, layout: Any = None, device: Any = None, pin_memory: Any = None, **kwargs: Any
    ) -> Any:
        if layout is not None and layout is not torch.strided:
            return run(plan, args, {**kwargs, "layout": layout, "device": device})
        cell[0] += 1
        if not first[0]:
            count(plan, cell[0])
        index = devices.current() if device is None or device.index is None else device.index
        if index >= devices.COUNT:
            devices.check(index)
        if math.prod(args[0]) > LARGE:
            ask(index, args[0], kwargs.get("dtype"))
        return fresh(call(*args, **kwargs), index)

    return kernel


#: Tensors with more elements are refused before the host is asked for memory.
LARGE = 1 << 24


def ask(index: int, sizes: Any, dtype: Any) -> None:
    """Refuse memory that the device does not have before the host is asked for it.

    Raises:
        OutOfMemory: the device is full.
    """
    size = (dtype or torch.get_default_dtype()).itemsize
    for n in sizes:
        size *= n
    memory = MEMORIES[index]
    if memory.live + size > memory.limit:
        memory.live += size
        memory.grow(index, size)


#: References to the storage of a tensor that shares it with none: its own, and Python's.
_ALONE = 2


def resize(tensor: Any, size: Any, memory_format: Any = None) -> Any:
    """`resize_`: other sizes, and other memory if it gets larger.

    Raises:
        NotSimulated: other tensors would have to grow with it.
    """
    needed = tensor.element_size()
    for n in size:
        needed *= n
    offset = tensor.storage_offset() * tensor.element_size()
    if needed + offset <= tensor.untyped_storage().nbytes():
        shape = torch.empty(
            size, device="meta", memory_format=memory_format or torch.contiguous_format
        )
        forget(tensor)
        _set.redispatch(
            HOST_KEYS,
            tensor,
            tensor.untyped_storage(),
            tensor.storage_offset(),
            size,
            shape.stride(),
        )
        return tensor
    forget(tensor)
    if torch._C._storage_Use_Count(tensor.untyped_storage()._cdata) > _ALONE:
        raise NotSimulated("resize_ of a tensor that shares its memory is not simulated")
    new = torch.empty(
        size, dtype=tensor.dtype, memory_format=memory_format or torch.contiguous_format
    )
    if tensor.numel():
        new.view(-1)[: tensor.numel()].copy_(unwrap(tensor).reshape(-1))
    rebind(tensor, new)
    return tensor


def set_tensor(tensor: Any, source: Any) -> Any:
    """`set_` from a tensor."""
    forget(tensor)
    _set.redispatch(
        HOST_KEYS,
        tensor,
        source.untyped_storage(),
        source.storage_offset(),
        source.size(),
        source.stride(),
    )
    return tensor


def set_storage(tensor: Any, source: Any) -> Any:
    """`set_` from a storage."""
    forget(tensor)
    _set.redispatch(HOST_KEYS, tensor, source, 0, [source.nbytes() // tensor.element_size()], [1])
    return tensor


def set_empty(tensor: Any) -> Any:
    """`set_` without arguments."""
    rebind(tensor, torch.empty(0, dtype=tensor.dtype))
    return tensor


def to_padded_tensor(tensor: Any, padding: float, output_size: Any = None) -> Any:
    """A dense tensor of the parts of a nested one, filled up with a number."""
    parts = tensor.unbind()
    sizes = [max(sizes) for sizes in zip(*(p.shape for p in parts), strict=True)]
    shape = list(output_size) if output_size is not None else [len(parts), *sizes]
    made = torch.full(shape, padding, dtype=tensor.dtype, device=parts[0].device)
    for row, part in zip(made, parts, strict=False):
        row[tuple(slice(n) for n in part.shape)].copy_(part)
    return made


def record_stream(tensor: Any, stream: Any) -> None:
    """`record_stream`: the memory is kept anyway.

    Raises:
        TypeError: it is no stream.
    """
    if not isinstance(stream, devices.Stream):
        raise TypeError(f"expected a stream of {NAME}, but got {type(stream).__name__}")


def shallow_copy(tensor: Any, other: Any) -> bool:
    """Whether `tensor.data = other` keeps the tensor: `Module.to` then keeps its parameters."""
    forget(tensor)
    return all(
        t.layout == torch.strided and t.device.type in ("cpu", NAME) for t in (tensor, other)
    )


# ATen takes these fused cells for devices that are not the CPU; the CPU build has none of them.


_sigmoid_backward = _aten.sigmoid_backward.default
_tanh_backward = _aten.tanh_backward.default


def _biased(gates: Any, bias: Any) -> Any:
    return gates if bias is None else gates + bias


def _lstm_cell(ig: Any, hg: Any, cx: Any, bi: Any = None, bh: Any = None) -> Any:
    gates = _biased(ig, bi) + _biased(hg, bh)
    i, f, c, o = gates.unsafe_chunk(4, 1)
    i.sigmoid_(), f.sigmoid_(), c.tanh_(), o.sigmoid_()
    cy = (f * cx).add_(i * c)
    return o * cy.tanh(), cy, gates


def _lstm_cell_backward(
    grad_hy: Any, grad_cy: Any, cx: Any, cy: Any, workspace: Any, has_bias: bool
) -> Any:
    i, f, c, o = workspace.unsafe_chunk(4, 1)
    t = cy.tanh()
    if grad_hy is None:
        grad_hy = torch.zeros_like(cy)
    go = _sigmoid_backward(grad_hy * t, o)
    gc = _tanh_backward(grad_hy * o, t)
    if grad_cy is not None:
        gc.add_(grad_cy)
    gi, gf = _sigmoid_backward(gc * c, i), _sigmoid_backward(gc * cx, f)
    joined = torch.cat([gi, gf, _tanh_backward(gc * i, c), go], 1)
    return joined, gc * f, joined.sum(0) if has_bias else torch.empty(0)


def _gru_cell(ig: Any, hg: Any, hx: Any, bi: Any = None, bh: Any = None) -> Any:
    ir, iz, new_i = _biased(ig, bi).unsafe_chunk(3, 1)
    hr, hz, new_h = _biased(hg, bh).unsafe_chunk(3, 1)
    r, z = (ir + hr).sigmoid_(), (iz + hz).sigmoid_()
    n = (new_i + r * new_h).tanh_()
    return n + z * (hx - n), torch.cat([r, z, n, hx, new_h], 1)


def _gru_cell_backward(grad: Any, workspace: Any, has_bias: bool) -> Any:
    r, z, n, hx, new_h = workspace.unsafe_chunk(5, 1)
    gn = _tanh_backward(grad * (1 - z), n)
    gz = _sigmoid_backward(grad * (hx - n), z)
    gr = _sigmoid_backward(gn * new_h, r)
    gi, gh = torch.cat([gr, gz, gn], 1), torch.cat([gr, gz, gn * r], 1)
    bias = (gi.sum(0), gh.sum(0)) if has_bias else (None, None)
    return gi, gh, grad * z, *bias


def _typed(name: str) -> Callable[..., Any]:
    """`mm.dtype` and the like: the product in a wider type."""

    def call(*args: Any, out: Any = None, **kwargs: Any) -> Any:
        operands = [a.to(args[-1]) if isinstance(a, _Tensor) else a for a in args[:-1]]
        made = getattr(torch, name)(*operands, **kwargs)
        return made if out is None else out.copy_(made)

    return call


def _batch_norm_stats(x: Any, eps: float) -> Any:
    axes = [d for d in range(x.dim()) if d != 1]
    variance, mean = torch.var_mean(x.float(), axes, correction=0)
    return mean, (variance + eps).rsqrt()


def _batch_norm_elemt(
    x: Any, weight: Any, bias: Any, mean: Any, invstd: Any, eps: float, out: Any = None
) -> Any:
    shape = [1, -1, *[1] * (x.dim() - 2)]
    made = (x.float() - mean.view(shape)) * invstd.view(shape)
    if weight is not None:
        made = made * weight.view(shape)
    if bias is not None:
        made = made + bias.view(shape)
    made = made.to(x.dtype)
    return made if out is None else out.copy_(made)


def _gather_stats(
    x: Any, mean: Any, invstd: Any, running_mean: Any, running_var: Any, momentum: float,
    eps: float, counts: Any,
) -> Any:  # fmt: skip
    n = counts.view(-1, 1).to(mean.dtype)
    total = n.sum()
    all_mean = (mean * n).sum(0) / total
    variance = ((invstd**-2 - eps + (mean - all_mean) ** 2) * n).sum(0) / total
    if running_mean is not None:
        running_mean.mul_(1 - momentum).add_(all_mean, alpha=momentum)
    if running_var is not None:
        unbiased = variance * total / (total - 1)
        running_var.mul_(1 - momentum).add_(unbiased, alpha=momentum)
    return all_mean, (variance + eps).rsqrt()


def _batch_norm_backward_reduce(
    grad: Any, x: Any, mean: Any, invstd: Any, weight: Any, wants_x: bool, wants_weight: bool,
    wants_bias: bool,
) -> Any:  # fmt: skip
    axes = [d for d in range(x.dim()) if d != 1]
    shape = [1, -1, *[1] * (x.dim() - 2)]
    sum_grad = grad.float().sum(axes)
    sum_grad_x = (grad.float() * (x.float() - mean.view(shape))).sum(axes)
    return sum_grad, sum_grad_x, sum_grad_x * invstd, sum_grad.clone()


def _batch_norm_backward_elemt(
    grad: Any, x: Any, mean: Any, invstd: Any, weight: Any, sum_grad: Any, sum_grad_x: Any,
    counts: Any,
) -> Any:  # fmt: skip
    shape = [1, -1, *[1] * (x.dim() - 2)]
    n = counts.sum().to(mean.dtype)
    made = grad.float() - (sum_grad / n).view(shape)
    made = made - (x.float() - mean.view(shape)) * (invstd**2 * sum_grad_x / n).view(shape)
    scale = invstd if weight is None else invstd * weight
    return (made * scale.view(shape)).to(x.dtype)


def _depthwise(
    x: Any, weight: Any, size: Any, bias: Any, stride: Any, padding: Any, dilation: Any,
    out: Any = None,
) -> Any:  # fmt: skip
    made = torch.nn.functional.conv2d(x, weight, bias, stride, padding, dilation, x.shape[1])
    return made if out is None else out.copy_(made)


def _masked_scale(x: Any, mask: Any, scale: float) -> Any:
    return x * mask.to(x.dtype) * scale


def _addbmm_(x: Any, *args: Any, **kwargs: Any) -> Any:
    """In place, it gives its argument other sizes, which imported memory may not have."""
    made = torch.addbmm(x, *args, **kwargs)
    return x.copy_(made) if made.shape == x.shape else x.set_(made)


def _histc(x: Any, bins: int = 100, min: Any = 0, max: Any = 0) -> Any:
    """The host counts floating numbers only."""
    if x.is_floating_point():
        return torch.histc(x, bins, min, max)
    return torch.histc(x.double(), bins, min, max).to(x.dtype)


_LOW = (torch.float16, torch.bfloat16)
#: Operators that the host does not have in half precision, and accelerators have.
_WIDER = (
    "avg_pool3d avg_pool3d_backward multi_margin_loss multi_margin_loss_backward "
    "multilabel_margin_loss_forward multilabel_margin_loss_backward polygamma"
).split()


def _wider(name: str) -> Callable[..., Any]:
    """The operator in float32 if its arguments are of half precision."""
    op = getattr(_aten, name).default

    def call(*args: Any, **kwargs: Any) -> Any:
        low = [a.dtype for a in args if isinstance(a, _Tensor) and a.dtype in _LOW]
        if not low:
            return op(*args, **kwargs)
        wide = [a.float() if isinstance(a, _Tensor) and a.dtype in _LOW else a for a in args]
        made = op(*wide, **kwargs)
        outs = made if isinstance(made, tuple) else (made,)
        outs = tuple(o.to(low[0]) if o.is_floating_point() else o for o in outs)
        return outs if isinstance(made, tuple) else outs[0]

    return call


def _sparse_mm_reduce(x: Any, other: Any, reduce: str) -> Any:
    """The host leaves out what the backward pass needs if no argument requires gradients."""
    with torch.enable_grad():
        return _aten._sparse_mm_reduce_impl(x, other.detach().requires_grad_(), reduce)


HOST_CALLS.update(
    {
        "_sparse_mm_reduce_impl": _sparse_mm_reduce,
        "histc": _histc,
        **{name: _wider(name) for name in _WIDER},
        "addbmm_": _addbmm_,
        "_thnn_fused_lstm_cell": _lstm_cell,
        "_thnn_fused_lstm_cell_backward_impl": _lstm_cell_backward,
        "_thnn_fused_gru_cell": _gru_cell,
        "_thnn_fused_gru_cell_backward": _gru_cell_backward,
        "batch_norm_stats": _batch_norm_stats,
        "batch_norm_elemt": _batch_norm_elemt,
        "batch_norm_elemt.out": _batch_norm_elemt,
        "batch_norm_gather_stats_with_counts": _gather_stats,
        "batch_norm_backward_reduce": _batch_norm_backward_reduce,
        "batch_norm_backward_elemt": _batch_norm_backward_elemt,
        "_conv_depthwise2d": _depthwise,
        "_conv_depthwise2d.out": _depthwise,
        "_masked_scale": _masked_scale,
        **{
            f"{name}.{overload}": _typed(name)
            for name in ("mm", "bmm", "addmm", "baddbmm")
            for overload in ("dtype", "dtype_out")
        },
    }
)
