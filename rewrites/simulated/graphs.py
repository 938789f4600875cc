"""Graphs of the device: work that is captured once and replayed.

A capture on the machine runs nothing: it lists what is to be run. Here it runs, because results
have sizes and types that later calls ask for, and at the end of the capture its effects are taken
back: what was changed in place is as before, and what was made holds no numbers. A replay runs
the list on the same memory.
"""

from __future__ import annotations

import functools
import itertools
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten, tree_leaves, tree_unflatten

from . import devices, memory
from .record import NotSimulated
from .tensors import unwrap

_Tensor = torch.Tensor
_MODES = ("global", "thread_local", "relaxed", "default")
#: Operators that wait for the device, by their names.
_WAITING = frozenset(
    "aten::_local_scalar_dense aten::nonzero aten::masked_select aten::_unique2 aten::equal "
    "aten::unique_consecutive aten::is_nonzero".split()
)
_pools = itertools.count(1)
_capturing: list[Any] = []


def _tensors(value: Any) -> list[Any]:
    return [v for v in tree_leaves(value) if isinstance(v, _Tensor)]


def _on_device(tensor: Any) -> bool:
    return bool(tensor.device.type == devices.NAME)


class _List(TorchDispatchMode):  # type: ignore[misc]
    """Lists each operator with its arguments and its results."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: list[tuple[Any, Any, Any, list[Any]]] = []
        self.before: dict[int, tuple[Any, Any]] = {}
        self.made: set[int] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        given = _tensors((args, kwargs))
        self._refuse(func, given, kwargs)
        writes = [a for a in func._schema.arguments if a.alias_info and a.alias_info.is_write]
        if writes:
            self._keep(given)
        out = func(*args, **kwargs)
        results = _tensors(out)
        if not all(_on_device(t) for t in given + results) and results:
            return out
        if not func.is_view:
            self.calls.append((func, args, kwargs, results))
        known = {t.untyped_storage().data_ptr() for t in given}
        self.made.update({t.untyped_storage().data_ptr() for t in results} - known)
        return out

    def _refuse(self, func: Any, given: list[Any], kwargs: dict[str, Any]) -> None:
        name = func._schema.name
        there = {_on_device(t) for t in given}
        target = kwargs.get("device")
        if target is not None and name == "aten::_to_copy":
            there.add(target.type == devices.NAME)
        copies = name in ("aten::copy_", "aten::_to_copy") and len(there) > 1
        if (name in _WAITING and True in there) or copies:
            raise RuntimeError(
                f"{name} is not permitted while a stream is captured: it waits for the device, or "
                "copies between the device and memory of the host that is not pinned"
            )

    def _keep(self, given: list[Any]) -> None:
        """Remember what is there before it is changed."""
        for tensor in given:
            where = tensor.untyped_storage().data_ptr()
            if _on_device(tensor) and where not in self.before and where not in self.made:
                whole = torch.empty(0, dtype=torch.uint8, device=tensor.device)
                whole.set_(tensor.untyped_storage())
                self.before[where] = whole, unwrap(whole).clone()

    def take_back(self) -> None:
        """Undo what the capture did, which only its replay may do."""
        for whole, before in self.before.values():
            unwrap(whole).copy_(before)
        self.before.clear()
        for *_, results in self.calls:
            for tensor in results:
                if tensor.is_floating_point() and self._is_made(tensor):
                    unwrap(tensor.detach()).fill_(torch.nan)

    def _is_made(self, tensor: Any) -> bool:
        return tensor.untyped_storage().data_ptr() in self.made

    def run(self) -> None:
        """Run the list."""
        with torch.no_grad():
            for func, args, kwargs, results in self.calls:
                for old, new in zip(results, _tensors(func(*args, **kwargs)), strict=True):
                    if old is not new and old.data_ptr() != new.data_ptr():
                        unwrap(old.detach()).copy_(unwrap(new))


class Graph:
    """Work of the device that can be run again."""

    def __init__(self) -> None:
        self._list: _List | None = None
        self._recording: _List | None = None
        self._pool = graph_pool_handle()
        self.auto_dispatch_capture = False

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "global") -> None:
        """Begin to list the work of the current stream.

        Raises:
            RuntimeError: it is the default stream, or a capture is under way.
        """
        name = devices.NAME.upper()
        if capture_error_mode not in _MODES:
            raise RuntimeError(
                f"Unknown capture error mode. Expected `global`, `thread_local`, or `relaxed`, got "
                f"{capture_error_mode}"
            )
        if devices.current_stream() == devices.default_stream():
            raise RuntimeError(
                f"{name} graphs must be captured on a non-default stream. (However, after capture, "
                "it's ok to replay them on the default stream.)"
            )
        if _capturing:
            raise RuntimeError("another capture is under way in this process")
        self._pool = pool if pool is not None else self._pool
        self._recording = _List()
        self._state = torch.random.default_generator.get_state()
        self._recording.__enter__()
        _capturing.append(self)

    def capture_end(self) -> None:
        """End the list.

        Raises:
            RuntimeError: it was not begun.
        """
        if self._recording is None:
            raise RuntimeError("capture_end was called without capture_begin")
        _capturing.remove(self)
        self._recording.__exit__(None, None, None)
        self._recording.take_back()
        torch.random.default_generator.set_state(self._state)
        self._list, self._recording = self._recording, None

    def replay(self) -> None:
        """Run the work.

        Raises:
            RuntimeError: nothing was captured.
        """
        if self._list is None:
            raise RuntimeError(
                f"Called {type(self).__name__}::replay without a preceding successful capture."
            )
        self._list.run()

    def reset(self) -> None:
        """Forget the work."""
        self._list = None

    def pool(self) -> Any:
        """What stands for the memory of the graph."""
        return self._pool

    def update(self, cpu_update_input: Any) -> None:
        """Change lengths in captured attention operators: not simulated.

        Raises:
            NotSimulated: always.
        """
        raise NotSimulated("the update of a captured graph is not simulated")

    def debug_dump(self, debug_path: Any) -> None:
        """Describe the graph in a file: without effect here."""

    def enable_debug_mode(self) -> None:
        """Let `debug_dump` describe the graph: without effect here."""

    def super_kernel_optimize(self, *_: object, **__: object) -> None:
        """Join kernels: without effect here."""

    def instantiate(self) -> None:
        """Make the graph ready: it always is."""


class AcceleratorGraph(Graph):
    """The same through torch.accelerator, which begins and ends it as a context.

    Args:
        keep_graph: without effect here.
        pool: what stands for the memory of another graph.
        capture_error_mode: what a capture forbids.
    """

    def __init__(
        self, keep_graph: bool = False, *, pool: Any = None, capture_error_mode: str = "default"
    ) -> None:
        super().__init__()
        self.graph_pool, self.capture_error_mode = pool, capture_error_mode

    def capture_begin(self, pool: Any = None, capture_error_mode: str = "") -> None:
        """Begin to list the work of the current stream."""
        super().capture_begin(pool or self.graph_pool, self.capture_error_mode)

    def __enter__(self) -> None:
        self.capture_begin()

    def __exit__(self, *_: object) -> None:
        self.capture_end()


class Capture:
    """List the work of a block of code in a graph (`torch.npu.graph`).

    Args:
        npu_graph: the graph.
        pool: what stands for the memory of another graph.
        stream: the stream to capture; a stream of its own if None.
        auto_dispatch_capture: kept in the graph.
        capture_error_mode: what the capture forbids.
    """

    default_capture_stream: Any = None

    def __init__(
        self,
        npu_graph: Any,
        pool: Any = None,
        stream: Any = None,
        auto_dispatch_capture: bool = False,
        capture_error_mode: str = "global",
    ) -> None:
        if Capture.default_capture_stream is None:
            Capture.default_capture_stream = devices.Stream()
        self.capture_stream = stream if stream is not None else Capture.default_capture_stream
        self.stream_ctx = devices.StreamContext(self.capture_stream)
        self.npu_graph, self.pool, self.capture_error_mode = npu_graph, pool, capture_error_mode
        npu_graph.auto_dispatch_capture = auto_dispatch_capture

    def __enter__(self) -> None:
        memory.empty_cache()
        self.stream_ctx.__enter__()
        self.npu_graph.capture_begin(self.pool, capture_error_mode=self.capture_error_mode)

    def __exit__(self, *_: object) -> None:
        self.npu_graph.capture_end()
        self.stream_ctx.__exit__()


def graph_pool_handle() -> tuple[int, int]:
    """What stands for the memory of graphs."""
    return 0, next(_pools)


def is_current_stream_capturing() -> bool:
    """Whether a capture is under way."""
    return bool(_capturing)


def make_graphed_callables(
    callables: Any,
    sample_args: Any,
    num_warmup_iters: int = 3,
    allow_unused_input: bool = False,
    pool: Any = None,
) -> Any:
    """Functions or modules whose forward and backward passes are graphs.

    Args:
        callables: one or a tuple of them.
        sample_args: the tuple of tensors that each is called with; their memory is used again.
        num_warmup_iters: runs before the capture.
        allow_unused_input: whether an input may have no gradient.
        pool: what stands for the memory of another graph.

    Raises:
        RuntimeError: a module has hooks, or autocast caches its casts.
    """
    if torch.is_autocast_enabled(devices.NAME) and torch.is_autocast_cache_enabled():
        raise RuntimeError(
            "make_graphed_callables does not support the autocast caching. Please set "
            "`cache_enabled=False`."
        )
    single = not isinstance(callables, tuple)
    pairs = [(callables, sample_args)] if single else list(zip(callables, sample_args, strict=True))
    made = [_graphed(call, args, num_warmup_iters, allow_unused_input) for call, args in pairs]
    return made[0] if single else tuple(made)


def _graphed(call: Any, sample: Any, warmups: int, allow_unused: bool) -> Any:
    module = call if isinstance(call, torch.nn.Module) else None
    if module is not None and (
        module._backward_hooks or module._forward_hooks or module._forward_pre_hooks
    ):
        raise RuntimeError(
            "Modules must not have hooks registered at the time they are passed. However, "
            "registering hooks on modules after passing them through make_graphed_callables is "
            "allowed."
        )
    inputs = tuple(tree_leaves(sample))
    if not all(isinstance(t, _Tensor) for t in inputs):
        raise RuntimeError(
            "In the beta API, sample_args for each callable must contain only Tensors. Other types "
            "are not allowed."
        )
    leaves = inputs + (tuple(module.parameters()) if module is not None else ())
    forward = module.forward if module is not None else call
    stream = devices.Stream()
    for _ in range(warmups):
        _gradients(tree_leaves(forward(*sample)), leaves, allow_unused)
    ahead, back = Graph(), Graph()
    with devices.StreamContext(stream):
        ahead.capture_begin()
        outputs, form = tree_flatten(forward(*sample))
        ahead.capture_end()
        given = [torch.zeros_like(o) if o.requires_grad else None for o in outputs]
        back.capture_begin()
        found = _gradients(outputs, leaves, allow_unused, given)
        back.capture_end()
    replay = _replaying(ahead, back, len(inputs), leaves, outputs, given, found)

    def run(*args: Any) -> Any:
        out = replay.apply(*tree_leaves(args), *leaves[len(inputs) :])
        return tree_unflatten(out if isinstance(out, tuple) else (out,), form)

    if module is None:
        return run
    training = module.training

    @functools.wraps(forward)
    def either(*args: Any) -> Any:
        return run(*args) if module.training == training else forward(*args)

    module.forward = either
    return module


def _gradients(
    outputs: Sequence[Any], leaves: Sequence[Any], allow_unused: bool, given: Any = None
) -> list[Any]:
    outs = [o for o in outputs if o.requires_grad]
    wanted = [t for t in leaves if t.requires_grad]
    if not outs or not wanted:
        return [None] * len(leaves)
    weights = [g for g in given if g is not None] if given else [torch.zeros_like(o) for o in outs]
    found = iter(torch.autograd.grad(outs, wanted, weights, allow_unused=allow_unused))
    return [next(found) if t.requires_grad else None for t in leaves]


def _replaying(
    ahead: Graph,
    back: Graph,
    count: int,
    leaves: Sequence[Any],
    outputs: Sequence[Any],
    given: Sequence[Any],
    found: Sequence[Any],
) -> Any:
    class Replay(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(ctx: Any, *tensors: Any) -> Any:
            for mine, theirs in zip(leaves[:count], tensors, strict=False):
                if mine.data_ptr() != theirs.data_ptr():
                    with torch.no_grad():
                        mine.copy_(theirs)
            ahead.replay()
            return tuple(o.detach() for o in outputs)

        @staticmethod
        def backward(ctx: Any, *grads: Any) -> Any:
            for mine, theirs in zip(given, grads, strict=True):
                if mine is not None:
                    mine.copy_(theirs)
            back.replay()
            return tuple(g.detach() if g is not None else None for g in found)

    return Replay


def names() -> dict[str, Callable[..., Any]]:
    """What the module of the tabled device gets."""
    return {
        "NPUGraph": type("NPUGraph", (Graph,), {"__module__": f"torch.{devices.NAME}"}),
        "graph": Capture,
        "graph_pool_handle": graph_pool_handle,
        "is_current_stream_capturing": is_current_stream_capturing,
        "make_graphed_callables": make_graphed_callables,
    }


def install() -> None:
    """Let torch.accelerator make graphs of the device, if this torch has them."""
    if hasattr(torch.accelerator, "Graph"):
        torch.accelerator.Graph = AcceleratorGraph
