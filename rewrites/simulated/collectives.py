"""Collective communication between processes that simulate: the device's backend over gloo.

The device's backend takes tensors of the device only; gloo moves their memory. Every call is done
when it returns, and the work that it hands back is finished.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch

from . import devices, pinned
from .record import RECORD, site
from .settings import load
from .tensors import unwrap

_NAME = devices.NAME
#: The name of the backend of the device that has tables; others are called after the device.
TABLED_BACKEND = "hccl"

#: What gloo offers and a program may call, with the place of the result among the arguments.
_METHODS = (
    "allreduce broadcast allgather reduce gather scatter reduce_scatter _allgather_base "
    "_reduce_scatter_base alltoall_base alltoall send recv recv_anysource allreduce_coalesced "
    "allgather_coalesced"
).split()
#: What only two processes take part in.
_MESSAGES = frozenset(["send", "recv", "recv_anysource"])
#: Collectives over several tensors that gloo has for one tensor only.
_ONE_BY_ONE = {
    "allgather_into_tensor_coalesced": "_allgather_base",
    "reduce_scatter_tensor_coalesced": "_reduce_scatter_base",
}


def backend() -> str:
    """The name of the backend."""
    return TABLED_BACKEND if load().tabled else f"{_NAME}ccl"


#: What the program asked for, such as "cpu:gloo,npu:hccl": then tensors of the host pass too.
_asked = [""]


def _host(value: Any, host_too: bool) -> Any:
    if isinstance(value, torch.Tensor):
        if value.device.type == _NAME:
            return unwrap(value.detach())
        if not host_too:
            raise RuntimeError(f"No backend type associated with device type {value.device.type}")
        return value
    if isinstance(value, (list, tuple)):
        return [_host(v, host_too) for v in value]
    return value


def _mean(options: Any, dist: Any) -> bool:
    """Whether the mean is wanted: gloo has none, so the sum is taken and divided."""
    wanted = bool(getattr(options, "reduceOp", None) == dist.ReduceOp.AVG)
    if wanted:
        options.reduceOp = dist.ReduceOp.SUM
    return wanted


def _divide(value: Any, size: int) -> None:
    if isinstance(value, torch.Tensor):
        value.div_(size)
    elif isinstance(value, (list, tuple)):
        for v in value:
            _divide(v, size)


def install() -> None:
    """Register the backend, if this torch has torch.distributed."""
    import torch.distributed as dist

    if not dist.is_available():
        return
    from torch.distributed import distributed_c10d as c10d

    made = _group_type(dist)
    name = backend()

    def create(store: Any, rank: int, size: int, timeout: Any) -> Any:
        gloo = torch._C._distributed_c10d.ProcessGroupGloo(store, rank, size, timeout=timeout)
        return made(gloo, rank, size, ("cpu" in _asked[0]) or _asked[0] in ("", "undefined"))

    dist.Backend.register_backend(name, create, extended_api=False, devices=[_NAME])
    dist.Backend.default_device_backend_map[_NAME] = name
    setattr(dist, f"is_{name}_available", lambda: True)
    original = c10d._new_process_group_helper

    def helper(*args: Any, **kwargs: Any) -> Any:
        given = kwargs.get("backend", args[3] if len(args) > 3 else "")
        _asked[0] = str(given).lower()
        return original(*args, **kwargs)

    c10d._new_process_group_helper = helper
    _watch_replicas()


def _watch_replicas() -> None:
    """Searching for unused parameters, DDP copies through pinned memory."""
    kind: Any = torch.nn.parallel.DistributedDataParallel
    init, fixed = kind.__init__, kind._set_static_graph

    @functools.wraps(init)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if kwargs.get("find_unused_parameters") or kwargs.get("static_graph") or len(args) > 6:
            pinned.serve_torch()
        init(self, *args, **kwargs)

    def _set_static_graph(self: Any) -> None:
        pinned.serve_torch()
        fixed(self)

    kind.__init__, kind._set_static_graph = __init__, _set_static_graph


def _group_type(dist: Any) -> Any:
    group: Any = dist.ProcessGroup
    work: Any = torch._C._distributed_c10d.Work

    class Done(work):  # type: ignore[misc]
        """Work that is finished."""

        def __init__(self, results: Any) -> None:
            super().__init__()
            self.results = results
            self.future = torch.futures.Future()
            self.future.set_result(results)

        def wait(self, timeout: Any = None) -> bool:
            return True

        def is_completed(self) -> bool:
            return True

        def is_success(self) -> bool:
            return True

        def synchronize(self) -> None:
            return None

        def get_future(self) -> Any:
            return self.future

        def result(self) -> Any:
            return self.results

    class Later(Done):
        """A message on its way: waiting for one before the other is posted would never end."""

        def __init__(self, results: Any, under_way: Any) -> None:
            super().__init__(results)
            self.under_way = under_way

        def wait(self, timeout: Any = None) -> bool:
            if timeout:
                self.under_way.wait(timeout)
            else:
                self.under_way.wait()
            return True

        def synchronize(self) -> None:
            self.wait()

        def is_completed(self) -> bool:
            return bool(self.under_way.is_completed())

    class Group(group):  # type: ignore[misc]
        """The processes of one group."""

        def __init__(self, gloo: Any, rank: int, size: int, host_too: bool) -> None:
            super().__init__(rank, size)
            self.gloo, self.host_too, self._name = gloo, host_too, ""

        def getBackendName(self) -> str:
            return backend()

        name = getBackendName

        @property
        def _device_types(self) -> list[torch.device]:
            return [torch.device(_NAME), *([torch.device("cpu")] if self.host_too else [])]

        supports_coalescing = False

        def _get_backend(self, device: Any) -> Any:
            if torch.device(device).type != _NAME and not self.host_too:
                raise RuntimeError(f"No backend type associated with device type {device}")
            return self

        def _set_group_name(self, name: str) -> None:
            self._name = name

        @property
        def group_name(self) -> str:
            return self._name

        def barrier(self, opts: Any = None) -> Any:
            (self.gloo.barrier(opts) if opts is not None else self.gloo.barrier()).wait()
            return Done([])

        def shutdown(self) -> None:
            return None

        def abort(self) -> None:
            return None

    def method(name: str) -> Callable[..., Any]:
        cell, first = RECORD.cell(f"{backend()}::{name}")

        def call(self: Any, *args: Any, **kwargs: Any) -> Any:
            cell[0] += 1
            if cell[0] == 1:
                first[0] = site()
            options = [*args, *kwargs.values()]
            mean = any(_mean(o, dist) for o in options)
            host = [_host(a, self.host_too) for a in args]
            if name.endswith("_base") and name.startswith("_"):
                # gloo cuts the first dimension, which may have another length here.
                host[:2] = [h.flatten() for h in host[:2]]
            named = {k: _host(v, self.host_too) for k, v in kwargs.items()}
            under_way = getattr(self.gloo, name)(*host, **named)
            if name in _MESSAGES:
                return Later(args[0], under_way)
            under_way.wait()
            if mean:
                _divide(host[0], self.size())
            result = args[0] if args else []
            return Done([result] if isinstance(result, torch.Tensor) else result)

        return call

    def one_by_one(single: str) -> Callable[..., Any]:
        def call(self: Any, outputs: Any, inputs: Any, *options: Any) -> Any:
            for pair in zip(outputs, inputs, strict=True):
                getattr(self, single)(*pair)
            if any(_mean(o, dist) for o in options):
                _divide([_host(o, self.host_too) for o in outputs], self.size())
            return Done(outputs)

        return call

    for name in _METHODS:
        setattr(Group, name, method(name))
    for name, single in _ONE_BY_ONE.items():
        setattr(Group, name, one_by_one(single))
    Group.all_gather_single = Group._allgather_base
    Group.reduce_scatter_single = Group._reduce_scatter_base
    return Group
