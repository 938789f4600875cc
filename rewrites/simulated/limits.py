"""What the device with tables does about memory formats and about float64.

Read on 2026-11-28 in Ascend/pytorch, torch_npu/csrc/aten/common, at 9e73e70 (2026-08-21, the branch
for torch 2.13 to 2.15) and in the branches v2.7.1 and v2.10.0 to v2.12.0, which agree; the binary
of torch_npu 2.13.0 holds the same messages. None of it asks for the product line. A device of
another name has none of these limits.

- ToKernelNpu.cpp: `_to_copy` takes no other memory format than contiguous_format and
  preserve_format; a cast to float64 that names no device gives float32, with one warning.
- TensorFactories.cpp: `empty` makes contiguous memory only; `empty_like` and `clone` pass over
  the format that they are asked for. So does `ones_like` (op-plugin, OnesLikeKernelNpuOpApi.cpp).
- TensorProperties.cpp: `contiguous` makes memory of contiguous_format only.
- ResizeNpu.cpp: `resize_as_` takes no other format; `resize_` passes over it.
"""

from __future__ import annotations

import sys
import warnings
from collections.abc import Callable
from typing import Any

import torch

from . import kernels
from .record import RECORD
from .settings import load

#: Whether this device has the limits.
LIMITED = load().tabled
_PLAIN = (None, torch.contiguous_format)
_KEPT = (*_PLAIN, torch.preserve_format)
#: The formats that the device does not have.
CHANNELS = (torch.channels_last, torch.channels_last_3d)
_CREATED = "Only c10::MemoryFormat::Contiguous is supported for creating a npu tensor"
_CONVERTED = "Only contiguous_format or preserve_format is supported."
_GATHERED = "NPU contiguous operator only supported contiguous memory format."
_RESIZED = "NPU only support format is contiguous_format or preserve_format."
_NO_DOUBLE = "Device do not support double dtype now, dtype cast replace with float."
_warned: list[bool] = []


def created(memory_format: Any) -> None:
    """Refuse new memory in a format that the device does not have.

    Raises:
        RuntimeError: it is another one than contiguous_format.
    """
    if LIMITED and memory_format not in _PLAIN:
        raise RuntimeError(_CREATED)


def converted(tensor: Any, dtype: Any, named: bool, memory_format: Any) -> Any:
    """The dtype that a conversion of a tensor gives.

    Args:
        tensor: what is converted.
        dtype: what is asked for; None to keep it.
        named: whether a device or a layout is asked for as well.
        memory_format: what is asked for.

    Raises:
        RuntimeError: the device does not have the memory format.
    """
    if not LIMITED:
        return dtype
    if memory_format not in _KEPT:
        raise RuntimeError(_CONVERTED)
    if dtype is not torch.float64 or named or tensor.dtype is torch.float64 or kernels.inside():
        return dtype
    # torch prints numbers in float64; that is no use of it.
    if not sys._getframe(2).f_code.co_filename.endswith("_tensor_str.py"):
        RECORD.note("a cast to float64 gives float32 on the device", kernels.line())
    if not _warned:
        _warned.append(True)
        warnings.warn(_NO_DOUBLE, stacklevel=3)
    return torch.float32


def contiguous(tensor: Any, *, memory_format: Any = torch.contiguous_format) -> Any:
    """`contiguous`, for a tensor of the device.

    Raises:
        RuntimeError: the device does not have the memory format.
    """
    if tensor.is_contiguous(memory_format=memory_format):
        return tensor
    if memory_format is not torch.contiguous_format:
        raise RuntimeError(_GATHERED)
    return tensor.clone(memory_format=memory_format)


def formats(name: str, kernel: Callable[..., Any]) -> Callable[..., Any]:
    """A kernel that does with memory formats what the device does.

    Args:
        name: the operator, without its namespace.
        kernel: what it runs.
    """
    if not LIMITED or name not in ("clone", "resize_", "resize_as_"):
        return kernel

    def plain(*args: Any, **kwargs: Any) -> Any:
        if kwargs and kwargs.get("memory_format") in CHANNELS:
            if name == "resize_as_":
                raise RuntimeError(_RESIZED)
            kwargs["memory_format"] = torch.contiguous_format
        return kernel(*args, **kwargs)

    return plain
