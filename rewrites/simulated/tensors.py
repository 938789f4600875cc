"""Tensors of the simulated device: genuine tensors over host memory.

A tensor of the host is exported through DLPack, the device in the capsule is overwritten, and
the capsule is imported again. The result is a plain `torch.Tensor` with the dispatch keys, the
storage and the device index of an accelerator, over the same memory; the way back makes an alias
on the host. Nothing is copied either way.

Both ways cost a microsecond, so a device tensor keeps its alias: in an attribute if it was made
here, in a table if it is a parameter, which programs copy with its attributes. Whatever gives a
tensor other sizes or other memory forgets the alias.
"""

from __future__ import annotations

import ctypes
import functools
import weakref
from collections.abc import Callable
from typing import Any

import torch

_C = torch._C
_to_dlpack = _C._to_dlpack
_from_dlpack = _C._from_dlpack
#: All memory as words of eight bytes: nothing reads and writes one quicker.
_words = memoryview((ctypes.c_int64 * (1 << 59)).from_address(0)).cast("B").cast("q")
#: Where a PyCapsule keeps its pointer: after the reference count and the type.
_CAPSULE_POINTER = 2 * ctypes.sizeof(ctypes.c_void_p)
#: Where a DLTensor keeps its device, after the pointer to the data (dlpack.h, DLTensor).
_DEVICE = ctypes.sizeof(ctypes.c_void_p)
_HOST = 1
#: kDLExtDev of dlpack.h, which torch takes for its PrivateUse1 device.
_EXTENSION = 12
#: The allocator of the device hands out multiples of this many bytes.
BLOCK = 512
_ROUND = BLOCK - 1
#: The allocator takes memory from the device in pieces of this size.
SEGMENT = 2 << 20

HOST_KEYS = _C.DispatchKeySet(_C.DispatchKey.CPU)


def blocks(size: int) -> int:
    """The bytes that the allocator hands out for `size` of them."""
    return (size + _ROUND) & -BLOCK


class OutOfMemory(torch.OutOfMemoryError):  # type: ignore[misc]
    """The device has no memory left."""


class Memory:
    """What one device holds.

    Args:
        limit: bytes it has.
    """

    __slots__ = ("allocations", "frees", "limit", "live", "peak", "peak_reserved", "reserved")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.live = self.peak = self.reserved = self.peak_reserved = 0
        self.allocations = self.frees = 0

    def grow(self, index: int, size: int) -> None:
        """Refuse an allocation, or take more memory from the device for it."""
        if self.live > self.limit:
            self.live -= size
            raise OutOfMemory(
                f"NPU out of memory. Tried to allocate {size / 2**20:.2f} MiB (device {index}; "
                f"{self.limit / 2**30:.2f} GiB total capacity; "
                f"{self.live / 2**30:.2f} GiB already allocated)"
            )
        self.peak = self.live
        if self.live > self.reserved:
            self.reserved = -(-self.live // SEGMENT) * SEGMENT
            self.peak_reserved = max(self.reserved, self.peak_reserved)


MEMORIES: list[Memory] = []


class _Block(int):
    """Lives as long as the memory of one tensor: torch drops it with the last owner.

    The bytes and the index of the device in one number: it is made without a call into Python, and
    the garbage collector need not look at it. Bytes are a multiple of `BLOCK`, so that an index
    fits into their low bits.
    """

    __slots__ = ()

    def __del__(self, _memories: list[Memory] = MEMORIES) -> None:
        memory = _memories[self & _ROUND]
        memory.live -= self & -BLOCK
        memory.frees += 1


def prepare(count: int, memory: int) -> None:
    """Make the memories of `count` devices, and check that the layout of a capsule is known.

    Raises:
        RuntimeError: this Python or torch keeps a capsule in another way.
    """
    MEMORIES.extend(Memory(memory) for _ in range(count))
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    capsule = _to_dlpack(torch.empty(1))
    address = pointer(capsule, b"dltensor")
    if (
        _words[(id(capsule) + _CAPSULE_POINTER) >> 3] != address
        or _words[(address + _DEVICE) >> 3] != _HOST
    ):
        raise RuntimeError("this Python or torch has another layout of DLPack capsules")


def share(tensor: Any, index: int) -> Any:
    """A tensor of device `index` over the memory of a host tensor; not counted as memory."""
    capsule = _to_dlpack(tensor)
    _words[_words[(id(capsule) + _CAPSULE_POINTER) >> 3] + _DEVICE >> 3] = _EXTENSION | index << 32
    return _from_dlpack(capsule)


def wrap(tensor: Any, index: int) -> Any:
    """Give a new host tensor to device `index`.

    Raises:
        OutOfMemory: the device is full.
    """
    if tensor.is_conj() or tensor.is_neg():
        tensor = tensor.resolve_conj().resolve_neg()
    if tensor._is_zerotensor():
        tensor = torch.zeros(tensor.shape, dtype=tensor.dtype)  # Its memory is not there.
    return fresh(tensor, index)


def fresh(tensor: Any, index: int) -> Any:
    """As `wrap`, for the result of an operator that never returns a lazy one.

    Raises:
        OutOfMemory: the device is full.
    """
    size = (tensor.nbytes + _ROUND) & -BLOCK
    memory = MEMORIES[index]
    live = memory.live = memory.live + size
    memory.allocations += 1
    if live > memory.peak:
        memory.grow(index, size)
    tensor._porter_block = _Block(size | index)
    capsule = _to_dlpack(tensor)
    _words[_words[(id(capsule) + _CAPSULE_POINTER) >> 3] + _DEVICE >> 3] = _EXTENSION | index << 32
    made = _from_dlpack(capsule)
    made._porter_host = tensor
    return made


def unwrap(tensor: Any) -> Any:
    """A host tensor over the memory of a device tensor."""
    host = tensor._porter_host
    if host is None:
        host = _aliases.get(id(tensor))
        if host is None:
            return keep(tensor) if tensor.requires_grad and tensor.is_leaf else _alias(tensor)
    return host


def keep(tensor: Any) -> Any:
    """As `unwrap`, and remember the alias: the tensor will be used again."""
    host = tensor._porter_host
    if host is not None:
        return host
    host = _aliases.get(id(tensor))
    if host is not None:
        return host
    key = id(tensor)
    # The alias holds the tensor that it is made of: of the tensor itself, that would be a cycle.
    host = _alias(tensor.detach())
    if tensor.requires_grad and tensor.is_leaf:
        _aliases[key] = host
        _leaves[key] = weakref.ref(tensor, lambda _: _drop(key))
    else:
        tensor._porter_host = host
    return host


#: Aliases of leaves by the address of the Python object, and what tells when that is gone.
_aliases: dict[int, Any] = {}
_leaves: dict[int, Any] = {}
torch.Tensor._porter_host = None


def _drop(key: int) -> None:
    _aliases.pop(key, None)
    _leaves.pop(key, None)


def forget(tensor: Any) -> None:
    """The tensor gets other sizes, other memory, or is copied with its attributes."""
    if tensor._porter_host is not None:
        del tensor._porter_host
    _drop(id(tensor))


def _forgetting(function: Callable[..., Any], count: int) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        for tensor in args[:count]:
            forget(tensor)
        return function(*args, **kwargs)

    return call


def install() -> None:
    """Keep aliases out of copies and files."""
    for name in ("__deepcopy__", "__reduce_ex__"):
        setattr(torch.Tensor, name, _forgetting(getattr(torch.Tensor, name), 1))
    torch.utils.swap_tensors = _forgetting(torch.utils.swap_tensors, 2)


def _alias(tensor: Any) -> Any:
    capsule = _to_dlpack(tensor)
    _words[_words[(id(capsule) + _CAPSULE_POINTER) >> 3] + _DEVICE >> 3] = _HOST
    # The bits of lazy conjugates and negatives do not travel.
    if tensor.is_conj():
        return _lazily(tensor, _from_dlpack(capsule).conj())
    if tensor.is_neg():
        return _lazily(tensor, _from_dlpack(capsule))
    return _from_dlpack(capsule)


def _lazily(tensor: Any, alias: Any) -> Any:
    return alias._neg_view() if tensor.is_neg() else alias


_as_strided = torch.ops.aten.as_strided.default
_set = torch.ops.aten.set_.source_Storage_storage_offset


def view_like(base: Any, host_base: Any, host_view: Any) -> Any:
    """A view of `base`, laid out as a view of its alias on the host."""
    if host_view.dtype != base.dtype:
        return share(host_view, base.device.index)
    offset = base.storage_offset()
    if host_view.numel():
        distance = host_view.data_ptr() - host_base.data_ptr()
        offset += distance // max(1, base.element_size())
    return _as_strided.redispatch(HOST_KEYS, base, host_view.size(), host_view.stride(), offset)


def rebind(tensor: Any, host: Any) -> None:
    """Let a device tensor look at the memory of another host tensor."""
    new = wrap(host, tensor.device.index)
    forget(tensor)
    _set.redispatch(
        HOST_KEYS, tensor, new.untyped_storage(), new.storage_offset(), new.size(), new.stride()
    )
