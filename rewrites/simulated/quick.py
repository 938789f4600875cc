"""The quick ways through an operator, by its form.

A model of small layers spends its time between operators, so the forms that a training step is made
of have kernels with nothing in them that the form does not need. Whatever is unusual about a call
(devices that differ, tensors of the host, no tensor at all) goes to `kernels.run`, which knows
every form and says what is wrong.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import torch

from . import autocast, random
from .kernels import HOST_CALLS, NAME, OTHER, TENSOR, TENSORS, Plan, count, general, run
from .limits import CHANNELS, LIMITED
from .record import FLUSH_OPERATORS
from .tensors import fresh, keep, unwrap

_Tensor, _strided = torch.Tensor, torch.strided
_get_device = _Tensor.get_device
_apart = random._own
_casts = autocast.ON_HOST


def kernel_for(op: Any) -> Callable[..., Any]:
    """The quickest kernel for the form of an operator."""
    plan = Plan(op)
    quick = _quick(plan, op)
    if quick is None:
        return general(plan)
    if not plan.choices or plan.short in LIKE:
        return quick
    choices = plan.choices

    def kernel(*args: Any, **kwargs: Any) -> Any:
        if kwargs and not choices.isdisjoint(kwargs):
            return run(plan, args, kwargs)
        return quick(*args, **kwargs)

    return kernel


#: Operators that torch always tells where the result is to be: where the tensor is.
LIKE = frozenset("empty_like ones_like zeros_like".split())
#: Operators that may return a lazy conjugate.
_LAZY = re.compile("linalg|^lu_|cholesky|triangular_solve")


def _quick(plan: Plan, op: Any) -> Callable[..., Any] | None:
    if plan.host_beside or plan.host_results or _LAZY.search(plan.short):
        return None
    if plan.short.startswith("_foreach_"):
        return _foreach(plan, op)
    if any(plan.kinds[i] != TENSORS for i in plan.lists):
        return None
    if plan.short in LIKE:
        return _like(plan)
    if plan.makes_new:
        return _new(plan)
    if plan.short in HOST_CALLS:
        return None
    if plan.in_place and plan.places[:1] == (0,) and not plan.lists:
        return _in_place(plan)
    return None


def _new(plan: Plan) -> Callable[..., Any] | None:
    """A kernel for operators that make new tensors."""
    if plan.lists:
        return _of_lists(plan)
    if plan.makes_tensor and plan.places == (0,):
        return _of_one(plan)
    if plan.makes_tensor and plan.places == (0, 1):
        return _of_two(plan)
    if plan.makes_tensor and plan.places == (0, 1, 2):
        return _of_three(plan)
    return _of_many(plan) if plan.places else None


def _of_one(plan: Plan) -> Callable[..., Any]:
    call, cell, draws = plan.call, plan.cell, plan.random

    def kernel(first: Any, *rest: Any, **kwargs: Any) -> Any:
        index = first.get_device() if isinstance(first, _Tensor) else -1
        if index < 0 or _casts or (draws and _apart):
            return run(plan, (first, *rest), kwargs)
        cell[0] = n = cell[0] + 1
        if n % FLUSH_OPERATORS == 1:
            count(plan, n)
        host = first._porter_host
        if host is None:
            host = unwrap(first)
        return fresh(call(host, *rest, **kwargs), index)

    return kernel


def _like(plan: Plan) -> Callable[..., Any]:
    """`ones_like` and the like: each backward pass begins with one."""
    call, cell = plan.call, plan.cell

    def kernel(
        first: Any, *, dtype: Any = None, layout: Any = None, device: Any = None,
        pin_memory: Any = None, memory_format: Any = None,
    ) -> Any:  # fmt: skip
        index = first.get_device()
        if LIMITED and memory_format in CHANNELS:
            memory_format = torch.contiguous_format
        if (
            index < 0
            or _casts
            or pin_memory
            or (layout is not None and layout is not _strided)
            or (device is not None and (device.type != NAME or device.index != index))
        ):
            named = {"dtype": dtype, "layout": layout, "device": device, "pin_memory": pin_memory}
            return run(plan, (first,), {**named, "memory_format": memory_format})
        cell[0] = n = cell[0] + 1
        if n % FLUSH_OPERATORS == 1:
            count(plan, n)
        return fresh(call(unwrap(first), dtype=dtype, memory_format=memory_format), index)

    return kernel


def _of_two(plan: Plan) -> Callable[..., Any]:
    call, cell, draws = plan.call, plan.cell, plan.random

    def kernel(first: Any, second: Any = None, *rest: Any, **kwargs: Any) -> Any:
        if not isinstance(first, _Tensor):
            return run(plan, (first, second, *rest), kwargs)
        index = first.get_device()
        # Numbers that torch has made tensors of arrive as numbers again.
        number = not isinstance(second, _Tensor)
        if (
            index < 0
            or _casts
            or (draws and _apart)
            or not (number or second.get_device() == index)
        ):
            return run(plan, (first, second, *rest), kwargs)
        cell[0] = n = cell[0] + 1
        if n % FLUSH_OPERATORS == 1:
            count(plan, n)
        host = first._porter_host
        if host is None:
            host = unwrap(first)
        if number:
            return fresh(call(host, second, *rest, **kwargs), index)
        other = second._porter_host
        if other is None:
            other = unwrap(second)
        return fresh(call(host, other, *rest, **kwargs), index)

    return kernel


def _of_three(plan: Plan) -> Callable[..., Any]:
    call, cell, draws = plan.call, plan.cell, plan.random

    def kernel(first: Any, second: Any = None, third: Any = None, *rest: Any, **kwargs: Any) -> Any:
        if (
            isinstance(first, _Tensor)
            and isinstance(second, _Tensor)
            and isinstance(third, _Tensor)
            and not _casts
            and not (draws and _apart)
        ):
            index = first.get_device()
            if index >= 0 and second.get_device() == index == third.get_device():
                cell[0] = n = cell[0] + 1
                if n % FLUSH_OPERATORS == 1:
                    count(plan, n)
                a, b, c = first._porter_host, second._porter_host, third._porter_host
                if a is None:
                    a = unwrap(first)
                if b is None:
                    b = unwrap(second)
                if c is None:
                    c = unwrap(third)
                return fresh(call(a, b, c, *rest, **kwargs), index)
        return run(plan, (first, second, third, *rest), kwargs)

    return kernel


def _of_many(plan: Plan) -> Callable[..., Any]:
    call, cell, places, draws = plan.call, plan.cell, plan.places, plan.random
    single = plan.makes_tensor

    def kernel(*args: Any, **kwargs: Any) -> Any:
        host = list(args)
        index = -1
        n = len(host)
        for i in places:
            if i >= n:
                break
            t = host[i]
            if not isinstance(t, _Tensor):
                continue
            at = t.get_device()
            if at != index:
                if at < 0 or index >= 0:
                    return run(plan, args, kwargs)
                index = at
            alias = t._porter_host
            host[i] = alias if alias is not None else unwrap(t)
        if index < 0 or _casts or (draws and _apart):
            return run(plan, args, kwargs)
        cell[0] = n = cell[0] + 1
        if n % FLUSH_OPERATORS == 1:
            count(plan, n)
        out = call(*host, **kwargs)
        if single:
            return fresh(out, index)
        return tuple([fresh(o, index) if isinstance(o, _Tensor) else o for o in out])

    return kernel


def _of_lists(plan: Plan) -> Callable[..., Any]:
    """`cat`, `stack` and `index`: lists of tensors among the arguments."""
    call, cell, kinds, draws = plan.call, plan.cell, plan.kinds, plan.random
    single = plan.makes_tensor

    def kernel(*args: Any, **kwargs: Any) -> Any:
        host = list(args)
        index = -1
        for i, value in enumerate(args):
            kind = kinds[i]
            if kind == OTHER or value is None:
                continue
            given = (value,) if kind == TENSOR else value
            made = []
            for t in given:
                if not isinstance(t, _Tensor):
                    made.append(t)
                    continue
                at = t.get_device()
                if at != index:
                    if at < 0 or index >= 0:
                        return run(plan, args, kwargs)
                    index = at
                alias = t._porter_host
                made.append(alias if alias is not None else unwrap(t))
            host[i] = made[0] if kind == TENSOR else made
        if index < 0 or _casts or (draws and _apart):
            return run(plan, args, kwargs)
        cell[0] = n = cell[0] + 1
        if n % FLUSH_OPERATORS == 1:
            count(plan, n)
        out = call(*host, **kwargs)
        if single:
            return fresh(out, index)
        return tuple([fresh(o, index) if isinstance(o, _Tensor) else o for o in out])

    return kernel


def _in_place(plan: Plan) -> Callable[..., Any]:
    call, cell, places, draws = plan.call, plan.cell, plan.places[1:], plan.random

    def kernel(first: Any, *rest: Any, **kwargs: Any) -> Any:
        index = first.get_device()
        if index < 0 or not first.numel() or _casts or (draws and _apart):
            return run(plan, (first, *rest), kwargs)
        host = first._porter_host
        if host is None:
            host = unwrap(first)
        others = rest
        if places and rest:
            others = list(rest)  # type: ignore[assignment]
            for i in places:
                if i > len(rest):
                    break
                t = rest[i - 1]
                if not isinstance(t, _Tensor):
                    continue
                if t.get_device() != index:
                    return run(plan, (first, *rest), kwargs)
                alias = t._porter_host
                others[i - 1] = alias if alias is not None else unwrap(t)  # type: ignore[index]
        cell[0] = n = cell[0] + 1
        if n % FLUSH_OPERATORS == 1:
            count(plan, n)
        call(host, *others, **kwargs)
        return first

    return kernel


def _foreach(plan: Plan, op: Any) -> Callable[..., Any] | None:
    """A kernel for an operator on lists of tensors: optimisers run them."""
    schema = op._schema
    writes = [i for i, a in enumerate(schema.arguments) if a.alias_info is not None]
    simple = (
        str(schema.arguments[0].type) == "List[Tensor]"
        and writes in ([], [0])
        and [str(r.type) for r in schema.returns] in ([], ["List[Tensor]"])
    )
    if not simple:
        return None
    call, cell, kinds = plan.call, plan.cell, plan.kinds
    changes = bool(writes)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        index = args[0][0].get_device() if args[0] else -1
        if index < 0 or _casts:
            return run(plan, args, kwargs)
        host = list(args)
        for i, value in enumerate(args):
            kind = kinds[i]
            if kind == TENSORS:
                if {*map(_get_device, value)} != {index}:
                    return run(plan, args, kwargs)
                host[i] = [*map(keep, value)]
            elif kind == TENSOR and isinstance(value, _Tensor) and not value.is_cpu:
                host[i] = unwrap(value)
        cell[0] = n = cell[0] + 1
        if n % FLUSH_OPERATORS == 1:
            count(plan, n)
        out = call(*host, **kwargs)
        return None if changes else [fresh(o, index) for o in out]

    return kernel
