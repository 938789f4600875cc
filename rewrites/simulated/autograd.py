"""Backward passes on several devices.

The autograd engine has one queue for each device index; their number is the highest device count
that any registered device guard tells. The guard that Python can register tells 1, so a guard for
a device type that is not in use is registered from here, whose every method returns the count.
"""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path
from typing import Any

import torch

from . import devices

#: c10::impl::device_guard_impl_registry of libc10, an array by device type.
_REGISTRY = "_ZN3c104impl26device_guard_impl_registryE"
_TYPES = 21
#: DeviceType::FPGA: no build of torch has a guard for it.
_UNUSED = 7
#: More virtual methods than a guard has.
_METHODS = 64

_kept: list[Any] = []


def supported() -> bool:
    """Whether this platform's libc10 is laid out as expected."""
    return sys.platform == "linux"


def install() -> None:
    """Make queues for all devices.

    Raises:
        RuntimeError: this build of torch is laid out in another way.
    """
    if devices.COUNT <= 1:
        return
    library = ctypes.CDLL(str(Path(torch.__file__).parent / "lib" / "libc10.so"))
    try:
        registry = (ctypes.c_void_p * _TYPES).in_dll(library, _REGISTRY)
    except ValueError:
        raise RuntimeError("this build of torch keeps its device guards elsewhere") from None
    if registry[_UNUSED]:
        return
    method = ctypes.CFUNCTYPE(ctypes.c_int64)(lambda: devices.COUNT)
    address = ctypes.cast(method, ctypes.c_void_p).value
    table = (ctypes.c_void_p * _METHODS)(*[address] * _METHODS)
    guard = (ctypes.c_void_p * 2)(ctypes.addressof(table), 0)
    registry[_UNUSED] = ctypes.addressof(guard)
    _kept.extend((method, table, guard))
