"""Random numbers of the device.

Until a program seeds the device by itself, device and host draw from one generator: a script then
makes the same numbers as on the host alone, so that its losses can be compared. From
`manual_seed` of the device on, each device has a generator of its own.
"""

from __future__ import annotations

import contextlib
import struct
import sys
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from . import devices

_C = torch._C
_own: dict[int, _Own] = {}
#: The generators of the device by the address of the C++ object: that is what comes back from it.
_known: set[int] = set()


class _Kind(type(_C.Generator)):  # type: ignore[misc]
    def __instancecheck__(cls, value: object) -> bool:
        return isinstance(value, _C.Generator)


_Host: Any = _C.Generator


class Generator(_Host, metaclass=_Kind):  # type: ignore[misc]
    """`torch.Generator` that knows the device; the numbers are those of the host.

    Args:
        device: what it makes numbers for.
    """

    def __new__(cls, device: Any = "cpu") -> Any:
        """Make a generator of the host, and keep the device that was asked for."""
        device = torch.device(device)
        simulated = device.type == devices.NAME
        made = _C.Generator.__new__(cls, "cpu" if simulated else device)
        if simulated:
            made._device = torch.device(devices.NAME, devices.index_of(device))
            _known.add(made._cdata)
        return made

    def __init__(self, device: Any = "cpu") -> None:
        """Do nothing: `__new__` has done it."""

    def __del__(self) -> None:
        if "_device" in self.__dict__:
            _known.discard(self._cdata)

    @property
    def device(self) -> torch.device:
        """The device it makes numbers for."""
        return self.__dict__.get("_device") or _C.Generator.device.__get__(self)


def is_own(generator: Any) -> bool:
    """Whether a generator was made for the device."""
    return generator._cdata in _known


class _Own:
    """The generator of a device that draws apart from the host: a seed and an offset.

    A draw starts from both, and moves the offset on; so the state has 16 bytes, as that of an
    accelerator has, and DTensor can count in it.
    """

    __slots__ = ("offset", "seed", "state")

    def __init__(self, seed: int) -> None:
        self.seed, self.offset = seed, 0
        #: A state of the host's kind that the program has set; then offsets do not count.
        self.state: Any = None

    def start(self) -> None:
        """Let the host's generator draw for this one."""
        if self.state is not None:
            torch.default_generator.set_state(self.state)
        else:
            mixed = (self.seed + self.offset * _GOLDEN) & _MASK if self.offset else self.seed
            torch.default_generator.manual_seed(mixed)

    def stop(self) -> None:
        """Move on after a draw."""
        if self.state is not None:
            self.state = torch.default_generator.get_state()
        else:
            self.offset += _STRIDE

    def packed(self) -> Any:
        """The state, a host tensor of bytes."""
        if self.state is not None:
            return self.state.clone()
        return torch.tensor(list(_STATE.pack(self.seed & _WORD, self.offset)), dtype=torch.uint8)


_STATE = struct.Struct("<Qq")
_WORD, _MASK, _GOLDEN = (1 << 64) - 1, (1 << 63) - 1, 0x9E3779B97F4A7C15
#: How far a draw moves the offset: DTensor wants multiples of four.
_STRIDE = 4
#: It counts in the state, so that it needs one with an offset.
_COUNTING = "torch.distributed.tensor._random"


def _apart(index: int) -> _Own:
    if index not in _own:
        _own[index] = _Own(torch.default_generator.initial_seed())
    return _own[index]


def join() -> None:
    """Let all devices draw from the generator of the host again."""
    _own.clear()


def manual_seed(seed: int) -> None:
    """Seed the current device."""
    _own[devices.current()] = _Own(int(seed))


def manual_seed_all(seed: int) -> None:
    """Seed all devices."""
    for index in range(devices.COUNT):
        _own[index] = _Own(int(seed))


def seed() -> None:
    """Seed the current device with a random number."""
    manual_seed(_Host().seed())


def seed_all() -> None:
    """Seed all devices with one random number."""
    manual_seed_all(_Host().seed())


def initial_seed() -> int:
    """The seed of the current device."""
    own = _own.get(devices.current())
    found: int = own.seed if own is not None else torch.default_generator.initial_seed()
    return found


def get_rng_state(device: Any = None) -> Any:
    """The state of a device's generator, a host tensor of bytes."""
    index = devices.index_of(device)
    if sys._getframe(1).f_globals.get("__name__") == _COUNTING:
        _apart(index)
    own = _own.get(index)
    return own.packed() if own is not None else torch.default_generator.get_state()


def set_rng_state(new_state: Any, device: Any = None) -> None:
    """Set the state of a device's generator."""
    index = devices.index_of(device)
    if new_state.numel() == _STATE.size:
        seed, offset = _STATE.unpack(bytes(new_state.tolist()))
        _own[index] = own = _Own(seed)
        own.offset = offset
    elif index in _own:
        _own[index].state = new_state.clone()
    else:
        torch.default_generator.set_state(new_state)


def get_rng_state_all() -> list[Any]:
    """The states of all devices."""
    return [get_rng_state(index) for index in range(devices.COUNT)]


def set_rng_state_all(new_states: Iterable[Any]) -> None:
    """Set the states of all devices."""
    for index, state in enumerate(new_states):
        set_rng_state(state, index)


@contextlib.contextmanager
def drawing(index: int) -> Iterator[None]:
    """Let host operators without a generator draw from the one of a device."""
    own = _own.get(index)
    if own is None:
        yield
        return
    host = torch.default_generator.get_state()
    own.start()
    try:
        yield
    finally:
        own.stop()
        torch.default_generator.set_state(host)


def seed_custom_device(seed: int) -> None:
    """What `torch.manual_seed` does for the device: one generator again, seeded by the host."""
    join()


def install() -> None:
    """Let torch make and seed generators of the device."""
    torch.Generator = Generator
    torch.random._seed_custom_device = seed_custom_device
