"""Random numbers of the device.

Until a program seeds the device by itself, device and host draw from one generator: a script then
makes the same numbers as on the host alone, so that its losses can be compared. From
`manual_seed` of the device on, each device has a generator of its own.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from typing import Any

import torch

from . import devices

_C = torch._C
_own: dict[int, Any] = {}
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


def of(index: int) -> Any:
    """The default generator of a device."""
    return _own.get(index, torch.default_generator)


def _apart(index: int) -> Any:
    if index not in _own:
        _own[index] = Generator(torch.device(devices.NAME, index))
    return _own[index]


def join() -> None:
    """Let all devices draw from the generator of the host again."""
    _own.clear()


def manual_seed(seed: int) -> None:
    """Seed the current device."""
    _apart(devices.current()).manual_seed(int(seed))


def manual_seed_all(seed: int) -> None:
    """Seed all devices."""
    for index in range(devices.COUNT):
        _apart(index).manual_seed(int(seed))


def seed() -> None:
    """Seed the current device with a random number."""
    _apart(devices.current()).seed()


def seed_all() -> None:
    """Seed all devices with one random number."""
    manual_seed_all(_apart(devices.current()).seed())


def initial_seed() -> int:
    """The seed of the current device."""
    found: int = of(devices.current()).initial_seed()
    return found


def get_rng_state(device: Any = None) -> Any:
    """The state of a device's generator, a host tensor."""
    return of(devices.index_of(device)).get_state()


def set_rng_state(new_state: Any, device: Any = None) -> None:
    """Set the state of a device's generator."""
    of(devices.index_of(device)).set_state(new_state)


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
    torch.default_generator.set_state(own.get_state())
    try:
        yield
    finally:
        own.set_state(torch.default_generator.get_state())
        torch.default_generator.set_state(host)


def seed_custom_device(seed: int) -> None:
    """What `torch.manual_seed` does for the device: one generator again, seeded by the host."""
    join()


def install() -> None:
    """Let torch make and seed generators of the device."""
    torch.Generator = Generator
    torch.random._seed_custom_device = seed_custom_device
