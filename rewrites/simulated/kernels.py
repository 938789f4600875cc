"""Kernels of the device: the operator of the host, run on aliases of the same memory.

The operators that the device's binary registers get a kernel; every other one that torch cannot
compose from those reaches `_fallback`, which records the line of the user, as the real device
says that it falls back to the CPU.
"""

from __future__ import annotations

import functools
import re
import sys
import threading
from collections.abc import Callable, Sequence
from typing import Any

import torch

from . import autocast, devices, random
from .record import FLUSH_OPERATORS, RECORD, NotSimulated, site
from .settings import load
from .tensors import rebind, unwrap, view_like, wrap

_C = torch._C
_Tensor = torch.Tensor
NAME = devices.NAME

OTHER, TENSOR, TENSORS, DEVICE, GENERATOR = range(5)
_KINDS = {
    "Tensor": TENSOR,
    "Optional[Tensor]": TENSOR,
    "List[Tensor]": TENSORS,
    "List[Optional[Tensor]]": TENSORS,
    "Optional[List[Tensor]]": TENSORS,
    "Device": DEVICE,
    "Optional[Device]": DEVICE,
    "Generator": GENERATOR,
    "Optional[Generator]": GENERATOR,
}

#: Arguments that decide what kind of memory a result gets.
PLACEMENT = frozenset(["layout", "pin_memory"])
#: Operators that take host tensors beside those of the device, as they do for CUDA: indices,
#: lengths, steps of optimisers.
HOST_BESIDE = frozenset(
    "index.Tensor index.Tensor_out index_put index_put_ _index_put_impl_ _unsafe_index.Tensor "
    "_unsafe_index_put _foreach_addcdiv_.Tensor _foreach_addcmul_.Tensor _foreach_addcdiv.Tensor "
    "_foreach_addcmul.Tensor _pack_padded_sequence _pack_padded_sequence_backward _copy_from "
    "_copy_from_and_resize copy_ _fused_adam_ _fused_adamw_ _ctc_loss.Tensor "
    "_ctc_loss_backward.Tensor repeat_interleave.Tensor".split()
)
#: Results that stay on the host: torch/csrc/autograd keeps the batch sizes there.
HOST_RESULTS = {"_pack_padded_sequence": (1,)}
#: Backward steps of composite operators for which the device has a kernel of its own.
OWN_BACKWARD = frozenset(
    "_thnn_fused_gru_cell_backward _weight_norm_interface_backward _cdist_backward "
    "_pdist_backward".split()
)
#: Namespaces without kernels of their own: they work on whatever they are given.
AGNOSTIC = frozenset("aten c10d c10d_functional _c10d_functional profiler prim prims".split())

#: Operators that a training step runs often. torch's own Python functions of the same name take
#: the same arguments, and are called quicker than the operator itself.
QUICK = frozenset(
    "add.Tensor sub.Tensor mul.Tensor div.Tensor mul.Scalar div.Scalar add.Scalar pow.Tensor_Scalar "
    "neg abs exp log sqrt rsqrt reciprocal tanh sigmoid relu mm addmm bmm baddbmm sum "
    "sum.dim_IntList mean mean.dim cat.default cat stack where.self maximum minimum clamp "
    "eq.Tensor eq.Scalar ne.Scalar gt.Scalar lt.Scalar ge.Scalar le.Scalar ones_like zeros_like "
    "embedding index_select add_.Tensor mul_.Tensor mul_.Scalar div_.Tensor zero_ fill_.Scalar "
    "sub_.Tensor relu_ addcmul_ addcdiv_ lerp_.Scalar".split()
)


#: Operators with such parts in their names are never called with numbers for tensors.
_NO_NUMBERS = re.compile("^_|^native_|_forward|_backward")


def _quick(op: Any, short: str, tensors: int) -> Callable[..., Any]:
    """How to call an operator on the host."""
    base = short.partition(".")[0]
    if base.startswith("_foreach_") or short in QUICK:
        place = _C.TensorBase if base.endswith("_") and base[0] != "_" else _C._VariableFunctions
        found: Callable[..., Any] | None = getattr(place, base, None)
        if found is not None:
            return found
    if tensors == 1 or _NO_NUMBERS.search(short):
        return functools.partial(_C._dispatch_call_boxed, op._handle)
    made: Callable[..., Any] = op._op
    return made


#: Host implementations by operator, for those that the CPU build of torch lacks.
HOST_CALLS: dict[str, Callable[..., Any]] = {}

_inside = threading.local()


def node() -> str:
    """The step of the backward pass that runs in this thread; empty outside of one."""
    found = _C._current_autograd_node()
    return found.name() if found is not None else ""


class Plan:
    """What is to be known of one operator, read from its schema once.

    Args:
        op: the operator.
    """

    __slots__ = (
        "call",
        "cell",
        "choices",
        "first",
        "generator",
        "host_beside",
        "host_results",
        "kinds",
        "lists",
        "makes_tensor",
        "name",
        "named",
        "only_tensors",
        "places",
        "random",
        "returns",
        "short",
        "writes",
    )

    def __init__(self, op: Any) -> None:
        schema = op._schema
        self.name = schema.name + (f".{schema.overload_name}" if schema.overload_name else "")
        self.short = self.name.partition("::")[2] if self.name.startswith("aten::") else self.name
        self.cell, self.first = RECORD.cell(self.name)
        self.kinds = [_KINDS.get(str(a.type), OTHER) for a in schema.arguments]
        self.named = {a.name: k for a, k in zip(schema.arguments, self.kinds, strict=True)}
        positional = [
            k for a, k in zip(schema.arguments, self.kinds, strict=True) if not a.kwarg_only
        ]
        self.places = tuple(i for i, k in enumerate(positional) if k == TENSOR)
        found = HOST_CALLS.get(self.short)
        self.call = found or _quick(op, self.short, self.kinds.count(TENSOR))
        self.lists = tuple(i for i, k in enumerate(positional) if k not in (TENSOR, OTHER))
        self.generator = next((a.name for a in schema.arguments if "Generator" in str(a.type)), "")
        self.random = torch.Tag.nondeterministic_seeded in op.tags
        self.host_beside = self.short in HOST_BESIDE
        self.host_results = HOST_RESULTS.get(self.short, ())
        origin = {}
        self.writes: list[tuple[int, str]] = []
        for i, a in enumerate(schema.arguments):
            if a.alias_info is not None:
                origin.update(
                    dict.fromkeys(a.alias_info.before_set, (i, a.name, a.alias_info.is_write))
                )
                if a.alias_info.is_write:
                    self.writes.append((i, a.name))
        kinds = [str(r.type) for r in schema.returns]
        self.makes_tensor = kinds == ["Tensor"]
        self.only_tensors = bool(kinds) and all(
            k == "Tensor" and r.alias_info is None
            for k, r in zip(kinds, schema.returns, strict=True)
        )
        #: Arguments by name that are tensors or choose where the result is.
        self.choices = {
            a.name
            for a, k in zip(schema.arguments, self.kinds, strict=True)
            if a.kwarg_only and (k != OTHER or a.name in PLACEMENT)
        }
        self.returns: list[tuple[int, str, bool] | None] = []
        for r in schema.returns:
            aliases = r.alias_info.before_set if r.alias_info is not None else ()
            self.returns.append(next((origin[k] for k in aliases if k in origin), None))

    @property
    def makes_new(self) -> bool:
        """Whether all that it returns are new tensors."""
        unlike = "sparse" in self.name or "quantize" in self.name or "to_mkldnn" in self.name
        return self.only_tensors and not self.writes and not unlike

    @property
    def in_place(self) -> bool:
        """Whether it only changes its first argument and returns it."""
        return (
            [w[0] for w in self.writes] == [0]
            and self.kinds[0] == TENSOR
            and len(self.returns) == 1
        )


def inside() -> int:
    """How many kernels of the device this thread is in: what runs there is a part of them."""
    depth: int = getattr(_inside, "depth", 0)
    return depth


def line() -> str:
    """The line of the user that runs now, with the step of the backward pass that it runs."""
    step = node()
    found = site()
    return f"{found} (backward of {step})" if step else found


def count(plan: Plan, runs: int = 0) -> None:
    """Count a run of an operator; `runs` if it is counted already, and worth a look."""
    cell = plan.cell
    if not runs:
        cell[0] = runs = cell[0] + 1
    if not plan.first[0]:
        plan.first[0] = line()
        RECORD.tick(1 if len(RECORD.operators) < 2 else 0)
    elif runs % FLUSH_OPERATORS == 1:
        RECORD.tick(runs)


def mixed(first: object, second: object, name: str) -> RuntimeError:
    """The error for tensors of different devices, in torch's words."""
    return RuntimeError(
        "Expected all tensors to be on the same device, but found at least two devices, "
        f"{first} and {second}! (when checking arguments for {name})"
    )


def to_host(tensor: Any) -> Any:
    """A host tensor of the same layout over the memory of a device tensor."""
    if tensor.layout is not torch.strided:
        return LAYOUTS["to_host"](tensor)
    return unwrap(tensor)


def to_device(tensor: Any, index: int) -> Any:
    """A new host tensor, given to a device.

    Raises:
        NotSimulated: the simulation has no tensors of this kind.
    """
    if tensor.layout is not torch.strided:
        return LAYOUTS["to_device"](tensor, index)
    if tensor.is_quantized:
        raise NotSimulated("quantized tensors are not simulated")
    return wrap(tensor, index)


#: How tensors that are not strided come and go; filled by the module that knows them.
LAYOUTS: dict[str, Callable[..., Any]] = {}


class _Conversion:
    """Arguments on their way to the host: which device they came from."""

    __slots__ = ("aliases", "host", "index", "name", "place")

    def __init__(self, name: str) -> None:
        self.index = -1
        #: Where the result is asked for.
        self.place: Any = None
        self.host = False
        self.name = name
        self.aliases: dict[int, Any] = {}

    def tensor(self, value: Any) -> Any:
        if value is None or not isinstance(value, _Tensor):
            return value
        if value.is_cpu:
            self.host = self.host or value.dim() > 0
            return value
        if value.is_meta:
            raise mixed(f"{NAME}:{max(self.index, 0)}", "meta", self.name)
        index = value.get_device()
        if self.index < 0:
            self.index = index
        elif self.index != index:
            raise mixed(f"{NAME}:{self.index}", f"{NAME}:{index}", self.name)
        alias = self.aliases.get(id(value))
        if alias is None:
            alias = self.aliases[id(value)] = to_host(value)
        return alias

    def value(self, value: Any, kind: int) -> Any:
        if kind == TENSOR:
            return self.tensor(value)
        if kind == TENSORS:
            return value if value is None else [self.tensor(v) for v in value]
        if kind == DEVICE:
            return self.device(value)
        if kind == GENERATOR:
            return value
        return value

    def device(self, value: Any) -> Any:
        if value is None:
            return value
        self.place = value
        return _HOST if value.type == NAME else value


_HOST = torch.device("cpu")


def run(plan: Plan, args: Sequence[Any], kwargs: dict[str, Any]) -> Any:
    """Run an operator of any form on the host and give its results to the device.

    Raises:
        RuntimeError: the tensors are on different devices.
    """
    count(plan)
    c = _Conversion(plan.short)
    kinds = plan.kinds
    host = [c.value(a, kinds[i]) if kinds[i] else a for i, a in enumerate(args)]
    named = {k: c.value(v, plan.named[k]) for k, v in kwargs.items()}
    named.pop("pin_memory", None)
    if c.host and c.index >= 0 and not plan.host_beside:
        raise mixed(f"{NAME}:{c.index}", "cpu", plan.short)
    index = c.index if c.index >= 0 else devices.current()
    elsewhere = c.place is not None and c.place.type != NAME
    if c.place is not None and not elsewhere:
        index = devices.index_of(c.place)
    _check_generator(plan, host, named)
    _growing(plan, host, named)
    out = _call(plan, index, host, named)
    for i, name in plan.writes:
        given = args[i] if i < len(args) else kwargs.get(name)
        used = host[i] if i < len(args) else named.get(name)
        _follow(given, used)
    returns = plan.returns
    if elsewhere:
        return out
    if len(returns) == 1:
        return _result(out, returns[0], args, kwargs, c, index)
    if not returns:
        return None
    stay = plan.host_results
    return tuple(
        o if i in stay else _result(o, r, args, kwargs, c, index)
        for i, (o, r) in enumerate(zip(out, returns, strict=True))
    )


def _call(plan: Plan, index: int, host: list[Any], named: dict[str, Any]) -> Any:
    if plan.random and index in random._own:
        with random.drawing(index):
            return plan.call(*host, **named)
    if autocast.ON_HOST:
        with autocast.without_host():
            return plan.call(*host, **named)
    return plan.call(*host, **named)


def _check_generator(plan: Plan, host: list[Any], named: dict[str, Any]) -> None:
    if not plan.generator:
        return
    given = named.get(plan.generator)
    if given is None:
        given = next((a for a in host if isinstance(a, _C.Generator)), None)
    if given is not None and not random.is_own(given):
        raise RuntimeError(
            f"Expected a '{NAME}' device type for generator but found '{given.device.type}'"
        )


def _growing(plan: Plan, host: list[Any], named: dict[str, Any]) -> None:
    """Give the host operator `out` tensors that it may resize: imported memory cannot grow."""
    for i, name in plan.writes:
        given = host[i] if i < len(host) else named.get(name)
        if isinstance(given, _Tensor) and not given.numel() and i:
            new = torch.empty_like(given)
            if i < len(host):
                host[i] = new
            else:
                named[name] = new


def _follow(given: Any, used: Any) -> None:
    """Let `out` tensors follow the host tensors that the operator resized or made lazy."""
    if isinstance(given, (list, tuple)):
        for g, u in zip(given, used, strict=True):
            _follow(g, u)
    elif isinstance(given, _Tensor) and isinstance(used, _Tensor) and not given.is_cpu:
        if given.shape != used.shape or (used.numel() and given.data_ptr() != used.data_ptr()):
            rebind(given, used)
        elif given.is_conj() != used.is_conj():
            _C._set_conj(given, used.is_conj())


def _result(
    out: Any,
    origin: tuple[int, str, bool] | None,
    args: Sequence[Any],
    kwargs: dict[str, Any],
    c: _Conversion,
    index: int,
) -> Any:
    if origin is not None:
        place, name, write = origin
        source = args[place] if place < len(args) else kwargs.get(name)
        if write:
            return source
        base = c.aliases[id(source)]
        if isinstance(out, _Tensor):
            return view_like(source, base, out)
        return [view_like(source, base, o) for o in out]
    if isinstance(out, _Tensor):
        return to_device(out, index)
    if isinstance(out, (list, tuple)):
        return [to_device(o, index) if isinstance(o, _Tensor) else o for o in out]
    return out


def general(plan: Plan) -> Callable[..., Any]:
    """A kernel for an operator of any form."""
    return lambda *args, **kwargs: run(plan, args, kwargs)


class OwnKernel:
    """Nothing that runs within falls back: it is part of one kernel of the device."""

    __slots__ = ()

    def __enter__(self) -> None:
        """Go one kernel deeper."""
        _inside.depth = inside() + 1

    def __exit__(self, *_: object) -> None:
        """Come back."""
        _inside.depth -= 1


_plans: dict[Any, Plan] = {}
_SETTINGS = load()


def fallback(op: Any, *args: Any, **kwargs: Any) -> Any:
    """An operator for which the device has no kernel.

    Raises:
        NotImplementedError: it is no operator of torch, or the rehearsal is strict.
    """
    plan = _plans.get(op)
    if plan is None:
        plan = _plans[op] = Plan(op)
    space = plan.name.partition("::")[0]
    if space == "aten":
        if _SETTINGS.tabled and not inside() and plan.short not in OWN_BACKWARD:
            _report(plan.name)
    elif space not in AGNOSTIC and not _host_kernel(op):
        raise NotImplementedError(
            f"Could not run '{plan.name}' with arguments from the '{NAME}' backend: "
            "this operator has no kernel for the device"
        )
    elif space not in AGNOSTIC:
        raise NotImplementedError(
            f"Could not run '{plan.name}' with arguments from the '{NAME}' backend: it has a "
            "kernel for the host only"
        )
    return run(plan, args, kwargs)


def _host_kernel(op: Any) -> bool:
    found: bool = _C._dispatch_has_kernel_for_dispatch_key(op.name(), "CPU")
    return found


def _report(name: str) -> None:
    place = line()
    if not RECORD.fallback(name, place):
        return
    said = (
        f"CAUTION: The operator '{name}' is not currently supported on the {NAME.upper()} backend "
        f"and will fall back to run on the CPU. This may have performance implications. [{place}]"
    )
    if _SETTINGS.strict:
        raise NotImplementedError(said)
    if not _SETTINGS.quiet:
        print(said, file=sys.stderr)
