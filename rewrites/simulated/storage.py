"""Storages of the device: copies, saving and loading, pinning."""

from __future__ import annotations

from typing import Any

import torch

from . import devices
from .record import NotSimulated
from .tensors import MEMORIES, blocks, share, unwrap, wrap

_NAME = devices.NAME
_Untyped = torch.UntypedStorage


#: What memory holds after it was given back: no number, in floating types.
_LOST = 0xFF


class _Freed:
    """The part of a storage that does not count: it was given back to the device.

    Args:
        index: the device.
        size: bytes that are left.
        whole: bytes that there were.
    """

    __slots__ = ("bytes", "memory", "size")

    def __init__(self, index: int, size: int, whole: int) -> None:
        self.memory, self.size = MEMORIES[index], size
        self.bytes = blocks(whole) - blocks(size)
        self.memory.live -= self.bytes

    def __del__(self) -> None:
        memory = self.memory
        memory.live += self.bytes
        if memory.live > memory.peak:
            memory.peak = memory.live


def _index(device: Any) -> int:
    return devices.index_of(device)


def _view(storage: Any) -> Any:
    """The bytes of a device storage as a device tensor."""
    seed = share(torch.empty(0, dtype=torch.uint8), storage.device.index)
    return seed.set_(storage)


def _to_host(storage: Any) -> Any:
    return unwrap(_view(storage)).clone().untyped_storage()


def _to_device(storage: Any, device: Any = None, non_blocking: bool = False) -> Any:
    index = _index(device)
    if storage.device.type == _NAME and storage.device.index == index:
        return storage
    source = storage if storage.device.type == "cpu" else storage.cpu()
    bytes_ = torch.empty(0, dtype=torch.uint8).set_(source).clone()
    return wrap(bytes_, index).untyped_storage()


def _location(storage: Any) -> str | None:
    return f"{_NAME}:{storage.device.index}" if storage.device.type == _NAME else None


def _restore(storage: Any, location: str) -> Any:
    if location.partition(":")[0] != _NAME:
        return None
    device = torch.device(location)
    index = device.index if device.index is not None else devices.current()
    if index >= devices.COUNT:
        raise RuntimeError(
            f"Attempting to deserialize object on {_NAME} device {index} but "
            f"torch.{_NAME}.device_count() is {devices.COUNT}. Please use torch.load with "
            "map_location to map your storages to an existing device."
        )
    return _to_device(storage, torch.device(_NAME, index))


def install() -> None:
    """Give torch's storages the methods of the device."""
    host_cpu, host_resize, host_clone = _Untyped.cpu, _Untyped.resize_, _Untyped.clone
    host_bytes = _Untyped.nbytes

    def cpu(self: Any) -> Any:
        return _to_host(self) if self.device.type == _NAME else host_cpu(self)

    def resize_(self: Any, size: int) -> Any:
        if self.device.type != _NAME:
            return host_resize(self, size)
        whole = host_bytes(self)
        if size > whole:
            raise NotSimulated("storage.resize_ beyond the first size is not simulated")
        # FSDP frees a storage with resize_(0) and lets it grow back: the memory is kept.
        if size < self.nbytes():
            unwrap(_view(self))[size:].fill_(_LOST)
        self.__dict__.pop("_porter_freed", None)
        if size < whole:
            self._porter_freed = _Freed(self.device.index, size, whole)
        return self

    def nbytes(self: Any) -> int:
        freed = self.__dict__.get("_porter_freed")
        size: int = host_bytes(self) if freed is None else freed.size
        return size

    def clone(self: Any) -> Any:
        if self.device.type != _NAME:
            return host_clone(self)
        return _to_device(_to_host(self), self.device)

    def tolist(self: Any) -> list[int]:
        return list(self.cpu()) if self.device.type == _NAME else list(self)

    def typed(self: Any, device: Any = None, non_blocking: bool = False) -> Any:
        return self._new_wrapped_storage(_to_device(self._untyped_storage, device))

    _Untyped.cpu, _Untyped.resize_, _Untyped.clone, _Untyped.tolist = cpu, resize_, clone, tolist
    _Untyped.nbytes = _Untyped.size = _Untyped.__len__ = nbytes
    setattr(_Untyped, _NAME, _to_device)
    setattr(_Untyped, f"is_{_NAME}", property(lambda s: s.device.type == _NAME))
    setattr(torch.TypedStorage, _NAME, typed)
    setattr(torch.TypedStorage, f"is_{_NAME}", property(lambda s: s.device.type == _NAME))
    torch.serialization.register_package(15, _location, _restore)
