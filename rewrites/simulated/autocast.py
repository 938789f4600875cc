"""Autocast: the policies that the device's binary registers, operator by operator."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

import torch

from . import devices

_C = torch._C
_OFF = _C.DispatchKeySet(_C.DispatchKey.AutocastPrivateUse1)


def policies(operators: dict[str, str]) -> dict[str, str]:
    """For each operator, without its namespace, what autocast does with its arguments."""
    return {n.removeprefix("aten::"): p for n, p in operators.items() if p}


def _cast(value: Any, dtype: Any) -> Any:
    if isinstance(value, torch.Tensor):
        wanted = (
            value.is_floating_point()
            and value.dtype not in (torch.float64, dtype)
            and value.device.type == devices.NAME
        )
        return value.to(dtype) if wanted else value
    if isinstance(value, (list, tuple)):
        return [_cast(v, dtype) for v in value]
    return value


_cache: dict[int, tuple[Any, Any]] = {}


def _cast_cached(value: Any, dtype: Any) -> Any:
    """As `_cast`, but a parameter is cast once for each time that autocast is entered."""
    if not (
        isinstance(value, torch.Tensor)
        and value.requires_grad
        and value.is_leaf
        and value.dtype is torch.float32
        and torch.is_autocast_cache_enabled()
    ):
        return _cast(value, dtype)
    known = _cache.get(id(value))
    if known is not None and known[0] is value and known[1].dtype is dtype:
        return known[1]
    made = _cast(value, dtype)
    _cache[id(value)] = (value, made)
    return made


def _floats(values: Iterable[Any]) -> set[Any]:
    found = set()
    for value in values:
        if isinstance(value, torch.Tensor):
            if value.is_floating_point():
                found.add(value.dtype)
        elif isinstance(value, (list, tuple)):
            found |= _floats(value)
    return found


def kernel(op: Any, policy: str) -> Callable[..., Any]:
    """The autocast kernel of an operator."""

    def run(*args: Any, **kwargs: Any) -> Any:
        with _C._ExcludeDispatchKeyGuard(_OFF):
            if policy == "fp32_set_opt_dtype":
                return _in_float32(op, args, kwargs)
            dtype = torch.float32
            if policy == "lower_precision_fp":
                dtype = torch.get_autocast_dtype(devices.NAME)
            elif policy == "promote":
                present = _floats([*args, *kwargs.values()])
                if torch.float32 not in present:
                    dtype = torch.get_autocast_dtype(devices.NAME)
            cast = _cast_cached if policy == "lower_precision_fp" else _cast
            return op(
                *[cast(a, dtype) for a in args], **{k: cast(v, dtype) for k, v in kwargs.items()}
            )

    return run


def _in_float32(op: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Any:
    """The operator with float32 for its result, where the caller leaves that open."""
    names = [a.name for a in op._schema.arguments]
    given = dict(zip(names, args)) | kwargs  # noqa: B905 - later arguments have defaults
    low = _floats(args[:1]) & {torch.float16, torch.bfloat16}
    if "dtype" in names:
        if low and given.get("dtype") is None:
            given["dtype"] = torch.float32
    elif low:
        given = {n: _cast(v, torch.float32) for n, v in given.items()}
    plain = [a.name for a in op._schema.arguments if not a.kwarg_only]
    return op(*[given.pop(n) for n in plain if n in given], **given)


def install(library: Any, operators: dict[str, str]) -> None:
    """Register the policies, and let every other operator pass."""
    for name, policy in policies(operators).items():
        base, _, overload = name.partition(".")
        packet = getattr(torch.ops.aten, base, None)
        op = getattr(packet, overload or "default", None)
        if op is not None:
            library.impl(name, kernel(op, policy), "AutocastPrivateUse1")
    _forget_at_exit()
    watch_host()


#: Not empty while autocast casts on the host: kernels of the device must not be cast by it.
ON_HOST: list[bool] = []
_HOST_KEY = _C.DispatchKeySet(_C.DispatchKey.AutocastCPU)


def without_host() -> Any:
    """A context in which autocast of the host does nothing."""
    return _C._ExcludeDispatchKeyGuard(_HOST_KEY)


def watch_host() -> None:
    """Notice when autocast of the host is switched."""
    general, host = torch.set_autocast_enabled, torch.set_autocast_cpu_enabled

    def note() -> None:
        ON_HOST[:] = [True] if torch.is_autocast_enabled("cpu") else []

    def set_autocast_enabled(*args: Any) -> None:
        general(*args)
        note()

    def set_autocast_cpu_enabled(enabled: bool) -> None:
        host(enabled)
        note()

    torch.set_autocast_enabled = set_autocast_enabled
    torch.set_autocast_cpu_enabled = set_autocast_cpu_enabled


def _forget_at_exit() -> None:
    """torch clears its own cache of casts when the outermost autocast ends; so must this one."""
    clear = torch.clear_autocast_cache

    def clear_autocast_cache() -> None:
        _cache.clear()
        clear()

    torch.clear_autocast_cache = clear_autocast_cache
