"""Pinned memory of the host: ordinary memory with a mark, which its views have too."""

from __future__ import annotations

import functools
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.jit import _builtins
from torch.utils import _device as torch_device

from . import devices, random

_C = torch._C
_pinned: set[int] = set()
#: Functions of torch that make a tensor of the host, and methods that do.
FACTORIES = (
    "arange empty empty_like empty_strided eye full full_like linspace ones ones_like rand "
    "rand_like randint randn randn_like randperm tensor zeros zeros_like"
).split()
#: Functions that take a generator, which must be of the device that the numbers are for.
DRAWING = "bernoulli multinomial normal rand randint randn randperm".split()
METHODS = "new_empty new_full new_ones new_tensor new_zeros".split()


class _Pin:
    """Takes the mark away with the memory."""

    __slots__ = ("address",)

    def __init__(self, address: int) -> None:
        self.address = address
        _pinned.add(address)

    def __del__(self) -> None:
        _pinned.discard(self.address)


def is_pinned(tensor: Any, device: Any = None) -> bool:
    """Whether a host tensor is pinned."""
    if not _pinned or tensor.device.type != "cpu" or tensor.layout != torch.strided:
        return False
    return tensor.untyped_storage().data_ptr() in _pinned


def pin_memory(tensor: Any, device: Any = None) -> Any:
    """A pinned copy of a host tensor.

    Raises:
        RuntimeError: it is not on the host.
    """
    if tensor.device.type != "cpu":
        raise RuntimeError(f"cannot pin '{tensor.type()}' only dense CPU tensors can be pinned")
    return marked(tensor.clone())


def marked(tensor: Any) -> Any:
    """The same memory, pinned; it must be new memory of the host."""
    if not tensor.numel():
        return tensor
    tensor._porter_pin = _Pin(tensor.untyped_storage().data_ptr())
    # Whoever holds the imported memory holds the tensor, and with it the mark.
    return _C._from_dlpack(_C._to_dlpack(tensor))


def _pinning(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, pin_memory: Any = False, **kwargs: Any) -> Any:
        made = function(*args, **kwargs)
        if not pin_memory:
            return made
        if not made.is_cpu:
            raise RuntimeError(f"Only dense CPU tensors can be pinned, not one on {made.device}")
        needs = made.requires_grad
        return marked(made.detach()).requires_grad_(needs)

    return call


def _drawing(function: Callable[..., Any]) -> Callable[..., Any]:
    """torch checks this in the kernel of the host, which takes the device's generators here."""

    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        made = function(*args, **kwargs)
        generator = kwargs.get("generator")
        if generator is not None and made.is_cpu and random.is_own(generator):
            raise RuntimeError(
                f"Expected a 'cpu' device type for generator but found '{devices.NAME}'"
            )
        return made

    return call


def install() -> None:
    """Let functions of torch that make tensors pin them.

    In torch, they ask the device for an allocator, which Python cannot provide.
    """
    # `with torch.device(...)` knows these functions by identity; torch passes it the originals.
    torch_device._device_constructors()
    for name in sorted({*FACTORIES, *DRAWING}):
        original = made = getattr(torch, name)
        if name in FACTORIES:
            made = _pinning(made)
        if name in DRAWING:
            made = _drawing(made)
        # So does TorchScript.
        builtin = _builtins._find_builtin(original)
        if builtin is not None:
            _builtins._register_builtin(made, builtin)
        setattr(torch, name, made)
    for name in METHODS:
        setattr(torch.Tensor, name, _pinning(getattr(torch.Tensor, name)))


_served: list[Any] = []


def serve_torch() -> None:
    """Let torch's own code have pinned memory too.

    That puts Python into each `empty` of torch, so it is done when it is needed.
    """
    if _served:
        return
    library = torch.library.Library("aten", "IMPL")
    for name in ("empty.memory_format", "empty_strided"):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            library.impl(name, _serving(name), "BackendSelect", with_keyset=True)
    _served.append(library)


def _serving(name: str) -> Callable[..., Any]:
    original = torch.library.get_kernel(f"aten::{name}", "BackendSelect").call_boxed

    def kernel(keys: Any, *sizes: Any, pin_memory: Any = None, **options: Any) -> Any:
        made = original(keys, *sizes, pin_memory=None, **options)
        return marked(made) if pin_memory and made.is_cpu else made

    return kernel
