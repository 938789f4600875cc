"""Tensors of the device that go to another process: both then look at the same memory.

The real package shares device memory too (torch_npu.multiprocessing.reductions). Here the tensor
moves into shared memory of the host when it is sent for the first time.
"""

from __future__ import annotations

from multiprocessing.reduction import ForkingPickler
from typing import Any

import torch
from torch.multiprocessing import reductions

from . import devices
from .tensors import share, unwrap

#: Shared host tensors by the address of their memory; they live as long as the process.
_shared: dict[int, Any] = {}


def _rebuild(host: Any, index: int, kind: type, requires_grad: bool) -> Any:
    _shared[host.data_ptr()] = host
    made = share(host, index)
    if issubclass(kind, torch.nn.Parameter):
        return torch.nn.Parameter(made, requires_grad)
    return made.requires_grad_(requires_grad)


def _reduce(tensor: Any) -> Any:
    if tensor.device.type != devices.NAME or tensor.layout is not torch.strided:
        return reductions.reduce_tensor(tensor)
    if tensor.requires_grad and not tensor.is_leaf:
        raise RuntimeError(
            "Cowardly refusing to serialize non-leaf tensor which requires_grad, since autograd "
            "does not support crossing process boundaries."
        )
    host = _shared.get(tensor.data_ptr())
    if host is None or host.shape != tensor.shape or host.dtype != tensor.dtype:
        host = unwrap(tensor.detach()).clone().share_memory_()
        with torch.no_grad():
            tensor.set_(share(host, tensor.get_device()))
        _shared[host.data_ptr()] = host
    return _rebuild, (host, tensor.get_device(), type(tensor), tensor.requires_grad)


def install() -> None:
    """Let tensors of the device go through queues and to spawned processes."""
    for kind in (torch.Tensor, torch.nn.Parameter):
        ForkingPickler.register(kind, _reduce)
