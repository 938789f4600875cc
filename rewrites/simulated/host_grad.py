"""Operators that are one kernel of the device, forward and backward: run whole on the host.

The host's own autograd gives the backward pass, so a reference written with plain torch functions
is enough for any of them. The graph within is kept until the backward pass has run.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import torch

from . import autocast, devices, random
from .kernels import Plan, count, mixed
from .tensors import unwrap, wrap

_Tensor = torch.Tensor


class _OnHost(torch.autograd.Function):  # type: ignore[misc]
    """One call of a host function on device tensors."""

    @staticmethod
    def forward(ctx: Any, call: Callable[..., Any], rebuild: Any, *tensors: Any) -> Any:
        index = _common(tensors)
        host = [unwrap(t) if isinstance(t, _Tensor) and not t.is_cpu else t for t in tensors]
        wanted = [isinstance(t, _Tensor) and t.requires_grad for t in tensors]
        if any(wanted):
            host = [
                h.detach().requires_grad_() if w else h for h, w in zip(host, wanted, strict=True)
            ]
        with (
            torch.set_grad_enabled(any(wanted)),
            random.drawing(index),
            autocast.without_host(),
        ):
            out = call(*rebuild(host))
        single = isinstance(out, _Tensor)
        outs = (out,) if single else tuple(out)
        ctx.outs, ctx.host, ctx.wanted, ctx.index = outs, host, wanted, index
        ctx.set_materialize_grads(False)
        made = tuple(wrap(_own(o, host), index) if isinstance(o, _Tensor) else o for o in outs)
        fixed = [
            m
            for o, m in zip(outs, made, strict=True)
            if isinstance(o, _Tensor) and not o.requires_grad
        ]
        ctx.mark_non_differentiable(*fixed)
        return made[0] if single else made

    @staticmethod
    def backward(ctx: Any, *grads: Any) -> Any:
        pairs = [
            (o, unwrap(g) if not g.is_cpu else g)
            for o, g in zip(ctx.outs, grads, strict=True)
            if g is not None and isinstance(o, _Tensor) and o.requires_grad
        ]
        leaves = [h for h, w in zip(ctx.host, ctx.wanted, strict=True) if w]
        found: Sequence[Any] = [None] * len(leaves)
        if pairs:
            outs, given = zip(*pairs, strict=True)
            found = torch.autograd.grad(outs, leaves, given, allow_unused=True, retain_graph=True)
        left = iter(found)
        back = [next(left) if w else None for w in ctx.wanted]
        return None, None, *(wrap(b, ctx.index) if b is not None else None for b in back)


def _own(out: Any, host: Sequence[Any]) -> Any:
    """The result without its graph; a copy if it is one of the arguments."""
    bare = out.detach()
    return bare.clone() if any(out is h for h in host) else bare


def _common(tensors: Sequence[Any]) -> int:
    """The device of all tensors; lengths and single numbers may be on the host.

    Raises:
        RuntimeError: they are on different devices.
    """
    found = {
        str(t.device): t.get_device()
        for t in tensors
        if isinstance(t, _Tensor) and not (t.is_cpu and (not t.dim() or t.dtype is torch.int64))
    }
    if len(found) > 1:
        first, second = list(found)[:2]
        raise mixed(first, second, "a fused operator")
    index = next(iter(found.values()), -1)
    return index if index >= 0 else devices.current()


def apply(call: Callable[..., Any], args: Sequence[Any]) -> Any:
    """Run a host function on device tensors, differentiably.

    Args:
        call: takes host tensors and other values, in the form of `args`.
        args: its arguments; lists of tensors may be among them.

    Raises:
        RuntimeError: the tensors are on different devices.
    """
    tensors: list[Any] = []
    form: list[Any] = []
    for arg in args:
        if isinstance(arg, _Tensor):
            form.append(len(tensors))
            tensors.append(arg)
        elif isinstance(arg, (list, tuple)) and any(isinstance(a, _Tensor) for a in arg):
            form.append(range(len(tensors), len(tensors) + len(arg)))
            tensors.extend(arg)
        else:
            form.append((arg,))

    def rebuild(host: list[Any]) -> list[Any]:
        made: list[Any] = []
        for part in form:
            if isinstance(part, int):
                made.append(host[part])
            elif isinstance(part, range):
                made.append([host[i] for i in part])
            else:
                made.append(part[0])
        return made

    return _OnHost.apply(call, rebuild, *tensors)


def whole(op: Any) -> Callable[..., Any]:
    """A kernel that runs an operator and its backward pass on the host."""
    plan = Plan(op)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        count(plan)
        return apply(lambda *host: _call(op, host, len(args), kwargs), [*args, *kwargs.values()])

    return kernel


def _call(op: Any, host: Sequence[Any], positional: int, kwargs: dict[str, Any]) -> Any:
    return op(*host[:positional], **dict(zip(kwargs, host[positional:], strict=True)))


#: Composite operators of torch that the device has whole, and that the host has whole as well.
WHOLE = (
    "lstm.input lstm.data gru.input gru.data rnn_tanh.input rnn_relu.input "
    "scaled_dot_product_attention cdist pdist linalg_cholesky"
).split()


def kernels() -> dict[str, Callable[..., Any]]:
    """The kernels of `WHOLE`, by operator."""
    found = {}
    for name in WHOLE:
        base, _, overload = name.partition(".")
        op = getattr(getattr(torch.ops.aten, base), overload or "default")
        found[name] = whole(op)
    return found
