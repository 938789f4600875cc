"""Backward passes run in the thread that asks for them, as those of the host do.

On an accelerator the autograd engine has a thread for each device. Here the work is Python's
anyway, a switch of threads costs more than a small operator, and in the asking thread the stack
has the user's line. It also serves devices of every index, for which the engine has no threads:
the device guard that Python can register tells of one device only.
"""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import torch
from torch.autograd.function import BackwardCFunction
from torch.autograd.variable import ImperativeEngine, Variable

from . import devices

_C = torch._C
_Base: Any = ImperativeEngine


class Engine(_Base):  # type: ignore[misc]
    """The engine of torch, on one thread."""

    def run_backward(self, *args: Any, **kwargs: Any) -> Any:
        """Run a backward pass; the arguments are those of torch's engine."""
        if not _C._is_multithreading_enabled():
            return _Base.run_backward(self, *args, **kwargs)
        _C._set_multithreading_enabled(False)
        try:
            return _Base.run_backward(self, *args, **kwargs)
        finally:
            _C._set_multithreading_enabled(True)


def _on_its_device(apply: Callable[..., Any]) -> Callable[..., Any]:
    """The backward pass of a custom function, with the device current that its gradient is on.

    On the machine, the thread of that device runs it.
    """

    @functools.wraps(apply)
    def call(self: Any, *grads: Any) -> Any:
        found = (g.get_device() for g in grads if isinstance(g, torch.Tensor) and not g.is_cpu)
        before = devices.exchange(next(found, -1))
        try:
            return apply(self, *grads)
        finally:
            devices.exchange(before)

    return call


def install() -> None:
    """Let torch use this engine."""
    Variable._execution_engine = Engine()
    BackwardCFunction.apply = _on_its_device(BackwardCFunction.apply)
