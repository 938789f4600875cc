"""What torch.nn.DataParallel calls in torch._C, where a build without CUDA has nothing.

The device's real package puts the same functions there (Ascend/pytorch,
torch_npu/csrc/npu/DataParallelComm.cpp); another device has none, and DataParallel fails on it. But
Ascend's list of APIs says that DataParallel is not supported (docs/zh/api/native_api, torch-nn.md),
so a program that uses several devices with it is not proved to run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from . import devices
from .record import RECORD, site

_C = torch._C
Tensors = Sequence[Any]


def _place(index: int) -> torch.device:
    if index < 0:
        raise RuntimeError(f"Expected non-negative device index, but got {index}")
    return torch.device(devices.NAME, devices.check(index))


def _doubt(indices: Sequence[int]) -> None:
    if len(indices) > 1:
        RECORD.note(
            "torch.nn.DataParallel over several devices: torch_npu has its functions, but Ascend's "
            "list of APIs says that it is not supported",
            site(),
            doubt=True,
        )


def _on_device(tensors: Tensors, what: str) -> None:
    for i, tensor in enumerate(tensors):
        if tensor.device.type != devices.NAME:
            raise RuntimeError(
                f"Expected all {what} tensors to be {devices.NAME.upper()} tensors, but tensor at "
                f"index {i} has device '{tensor.device}'"
            )


def broadcast(tensor: Any, devices: Sequence[int]) -> list[Any]:
    """Copies of a tensor on all devices; on its own device, the tensor itself."""
    return [tensor if i == tensor.get_device() else tensor.to(_place(i)) for i in devices]


def broadcast_out(tensor: Any, out: Tensors) -> Tensors:
    """Copy a tensor to tensors of the same size."""
    _on_device(out, "output")
    for target in out:
        if target.shape != tensor.shape:
            raise RuntimeError(
                "Expected all output tensors to have same shape as the source tensor "
                f"{list(tensor.shape)}, but one has shape {list(target.shape)}"
            )
        target.copy_(tensor)
    return out


def broadcast_coalesced(
    tensors: Tensors, devices: Sequence[int], buffer_size: int
) -> list[list[Any]]:
    """Copies of tensors on all devices, by device."""
    _doubt(devices)
    if any(t.get_device() != devices[0] for t in tensors):
        raise RuntimeError(f"All tensors must be on devices[0]: {devices[0]}")
    copies = [[t.detach().to(_place(i)) for t in tensors] for i in devices[1:]]
    return [list(tensors), *copies]


def scatter(
    tensor: Any, devices: Sequence[int], chunk_sizes: Any, dim: int, streams: Any
) -> list[Any]:
    """Cut a tensor into pieces for the devices."""
    _doubt(devices)
    if not devices:
        raise RuntimeError("Expected at least one device to scatter to")
    if chunk_sizes is not None and len(chunk_sizes) != len(devices):
        raise RuntimeError(
            "Expected devices and chunk_sizes to be of same length, but got len(devices) = "
            f"{len(devices)} and len(chunk_sizes) = {len(chunk_sizes)}"
        )
    pieces = (
        tensor.chunk(len(devices), dim) if chunk_sizes is None else tensor.split(chunk_sizes, dim)
    )
    pairs = zip(pieces, devices)  # noqa: B905 - there may be fewer pieces than devices
    return [p if i == tensor.get_device() else p.to(_place(i)) for p, i in pairs]


def scatter_out(tensor: Any, out: Tensors, dim: int, streams: Any) -> Tensors:
    """Cut a tensor into pieces of given sizes."""
    _on_device(out, "output")
    for target, piece in zip(out, tensor.split([t.size(dim) for t in out], dim), strict=True):
        target.copy_(piece)
    return out


def gather(tensors: Tensors, dim: int, destination_index: int | None) -> Any:
    """Join tensors of the devices on one of them, or on the host for -1."""
    if not tensors:
        raise RuntimeError("Expected at least one tensor to gather from")
    _on_device(tensors, "input")
    if destination_index == -1:
        return torch.cat([t.cpu() for t in tensors], dim)
    index = devices.current() if destination_index is None else destination_index
    return torch.cat([t.to(_place(index)) for t in tensors], dim)


def gather_out(tensors: Tensors, out: Any, dim: int) -> Any:
    """Join tensors of the devices in one that is there."""
    _on_device(tensors, "input")
    for piece, tensor in zip(out.split([t.size(dim) for t in tensors], dim), tensors, strict=True):
        piece.copy_(tensor)
    return out


def install() -> None:
    """Put the functions where torch.nn.parallel.comm looks for them."""
    for function in (
        broadcast, broadcast_out, broadcast_coalesced, scatter, scatter_out, gather, gather_out,
    ):  # fmt: skip
        setattr(_C, f"_{function.__name__}", function)
