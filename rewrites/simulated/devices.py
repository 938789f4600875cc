"""Device indices, streams and events.

Work on the simulated device is done when the call returns, so streams are always idle. What a
program can get wrong is kept: which stream and device are current, which device a stream belongs
to, and what an event may be asked.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import threading
import time
from collections.abc import Callable
from typing import Any

import torch
import torch.nn.parameter

from .settings import load

NAME = load().device
COUNT = load().count

_local = threading.local()
_process = [0]


def current() -> int:
    """The index of the current device of this thread."""
    found: int = getattr(_local, "index", _process[0])
    return found


def check(index: int) -> int:
    """The index itself.

    Raises:
        RuntimeError: there is no such device.
    """
    if not 0 <= index < COUNT:
        raise RuntimeError(
            f"Invalid {NAME} device ordinal {index}: this machine has devices 0 to {COUNT - 1}"
        )
    return index


def index_of(device: Any) -> int:
    """The index that a device, a string, a number or None stands for.

    Raises:
        ValueError: it is another kind of device.
        RuntimeError: there is no such device.
    """
    if device is None:
        return current()
    if isinstance(device, int):
        return check(device) if device >= 0 else current()
    if isinstance(device, str):
        device = torch.device(device)
    if not isinstance(device, torch.device):
        raise ValueError(f"Expected a torch.device or an integer, but got: {device!r}")
    if device.type != NAME:
        raise ValueError(f"Expected a {NAME} device, but got: {device}")
    return current() if device.index is None else check(device.index)


def choose(device: Any) -> None:
    """Make a device the current one of this thread."""
    index = index_of(device)
    _local.index = index
    if index and not _several:
        _place_on_current()
    if threading.current_thread() is threading.main_thread():
        _process[0] = index


#: Whether a device other than the first one was current.
_several: list[bool] = []


def _place_on_current() -> None:
    """Let `to`, `tensor` and the like take a device without an index for the current one.

    In torch they ask the device's guard, and the one that Python can register knows the first
    device only. A program that uses that one alone need not pay for it.
    """
    _several.append(True)
    torch.Tensor.to = _placed(torch.Tensor.to)
    # Lazy parameters know by identity what they allow.
    mixin: Any = vars(torch.nn.parameter)["UninitializedTensorMixin"]
    mixin._allowed_methods.append(torch.Tensor.to)
    torch.Tensor.new_tensor = _beside(torch.Tensor.new_tensor)
    for name in ("tensor", "as_tensor", "asarray"):
        setattr(torch, name, _placed(getattr(torch, name)))


def _beside(new: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(new)
    def call(self: Any, *args: Any, device: Any = None, **kwargs: Any) -> Any:
        return new(self, *args, device=device if device is not None else self.device, **kwargs)

    return call


def _placed(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        args = tuple(a if isinstance(a, torch.Tensor) else _with_index(a) for a in args)
        if "device" in kwargs:
            kwargs["device"] = _with_index(kwargs["device"])
        return function(*args, **kwargs)

    return call


def _with_index(device: Any) -> Any:
    if isinstance(device, torch.device):
        bare = device.type == NAME and device.index is None
    else:
        bare = isinstance(device, str) and device == NAME
    return torch.device(NAME, current()) if bare else device


def exchange(index: int) -> int:
    """Make a device current and return the one before; a negative index changes nothing."""
    before = current()
    if index >= 0:
        choose(index)
    return before


class DeviceContext(contextlib.ContextDecorator):
    """Make a device current for a block of code.

    Args:
        device: anything that names a device; None or -1 changes nothing.
    """

    def __init__(self, device: Any) -> None:
        self.idx = -1 if device is None else index_of(device)
        self.prev_idx = -1

    def __enter__(self) -> DeviceContext:
        self.prev_idx = exchange(self.idx)
        return self

    def __exit__(self, *_: object) -> None:
        exchange(self.prev_idx)


class DeviceOf(DeviceContext):
    """Make the device of a tensor current; a tensor of the host changes nothing."""

    def __init__(self, obj: Any) -> None:
        device = obj.device
        super().__init__(device if device.type == NAME else None)


_numbers = itertools.count(1)


class Stream:
    """A queue of work of one device.

    Args:
        device: anything that names a device; None for the current one.
        priority: kept, without effect.
    """

    def __init__(
        self, device: Any = None, priority: int = 0, *, stream_id: int | None = None, **_: object
    ) -> None:
        self.device = torch.device(NAME, index_of(device))
        self.priority = priority
        self.stream_id = next(_numbers) if stream_id is None else stream_id
        self._before: list[tuple[Stream, int]] = []

    device_index = property(lambda self: self.device.index)
    device_type = property(lambda self: torch._C._autograd.DeviceType.PrivateUse1)

    def synchronize(self) -> None:
        """Wait until all work is done."""

    def query(self) -> bool:
        """Whether all work is done."""
        return True

    def wait_event(self, event: Event) -> None:
        """Let later work wait for an event."""
        _of_kind(event, Event)

    def wait_stream(self, stream: Stream) -> None:
        """Let later work wait for another stream."""
        _of_kind(stream, Stream)

    def record_event(self, event: Event | None = None) -> Event:
        """Record an event, a new one if none is given."""
        event = event if event is not None else Event()
        event.record(self)
        return event

    def __enter__(self) -> Stream:
        self._before.append((current_stream(), current()))
        choose(self.device)
        set_stream(self)
        return self

    def __exit__(self, *_: object) -> None:
        stream, index = self._before.pop()
        set_default(self.device.index)
        set_stream(stream)
        choose(index)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stream):
            return NotImplemented
        return (self.stream_id, self.device) == (other.stream_id, other.device)

    def __hash__(self) -> int:
        return hash((self.stream_id, self.device))

    def __repr__(self) -> str:
        return f"<torch.{NAME}.Stream device={self.device} stream_id={self.stream_id}>"


class Event:
    """A point in a queue of work.

    Args:
        enable_timing: whether it can be asked for times.
    """

    def __init__(
        self, device: Any = None, *, enable_timing: bool = False, blocking: bool = False,
        interprocess: bool = False, external: bool = False, **_: object,
    ) -> None:  # fmt: skip
        # torch.npu.Event takes enable_timing first, torch.Event the device.
        self.enable_timing = device if isinstance(device, bool) else enable_timing
        self.device = torch.device(NAME, current())
        self._time: float | None = None

    def record(self, stream: Stream | None = None) -> None:
        """Record the event on a stream, the current one if none is given."""
        stream = stream if stream is not None else current_stream()
        _of_kind(stream, Stream)
        self.device = stream.device
        self._time = time.perf_counter()

    def wait(self, stream: Stream | None = None) -> None:
        """Let a stream wait for the event."""

    def query(self) -> bool:
        """Whether the event has happened."""
        return True

    def synchronize(self) -> None:
        """Wait for the event."""

    def elapsed_time(self, end_event: Event) -> float:
        """Milliseconds until another event.

        Raises:
            RuntimeError: an event keeps no time, or was not recorded.
        """
        if not (self.enable_timing and end_event.enable_timing):
            raise RuntimeError("Both events must be created with argument 'enable_timing=True'.")
        if self._time is None or end_event._time is None:
            raise RuntimeError("Both events must be recorded before calculating elapsed time.")
        return (end_event._time - self._time) * 1e3

    def __repr__(self) -> str:
        return f"<torch.{NAME}.Event recorded={self._time is not None}>"


def _of_kind(value: object, kind: type) -> None:
    if not isinstance(value, kind):
        raise TypeError(f"expected a torch.{NAME}.{kind.__name__}, but got {type(value).__name__}")


_defaults: dict[int, Stream] = {}


def default_stream(device: Any = None) -> Stream:
    """The stream that is current unless another one is set."""
    index = index_of(device)
    if index not in _defaults:
        _defaults[index] = Stream(index, stream_id=0)
    return _defaults[index]


def _streams() -> dict[int, Stream]:
    found: dict[int, Stream] | None = getattr(_local, "streams", None)
    if found is None:
        found = _local.streams = {}
    return found


def current_stream(device: Any = None) -> Stream:
    """The stream that work of this thread goes to."""
    index = index_of(device)
    return _streams().get(index) or default_stream(index)


def set_stream(stream: Stream | None) -> None:
    """Let work of this thread go to a stream, and make its device current."""
    if stream is not None:
        choose(stream.device)
        _streams()[stream.device.index] = stream


def set_default(index: int) -> None:
    """Let work of this thread go to the default stream of a device."""
    _streams().pop(index, None)


class StreamContext:
    """Make a stream current for a block of code; None changes nothing."""

    def __init__(self, stream: Stream | None) -> None:
        self.stream = stream

    def __enter__(self) -> None:
        if self.stream is not None:
            self.stream.__enter__()

    def __exit__(self, *_: object) -> None:
        if self.stream is not None:
            self.stream.__exit__()
