"""Starts the simulated device in this process."""

from __future__ import annotations

import itertools
import sys
from typing import Any

from .settings import load

#: Versions of torch that the technique was run with: it uses private interfaces.
TORCH = ("2.13", "2.14")


class Unsupported(RuntimeError):
    """This torch, or this platform, cannot carry the simulated device."""


_started: list[Any] = []


def refusal(version: str, platform: str) -> str:
    """Why there can be no simulated device, in one line; empty if there can be.

    Args:
        version: that of torch.
        platform: as `sys.platform` names it.
    """
    if platform.startswith(("win", "cygwin")):
        return "the simulated device runs on Linux; on Windows, rehearse in WSL"
    if not version.startswith(tuple(f"{v}." for v in TORCH)):
        known = " and ".join(TORCH)
        return f"the simulated device runs on torch {known}; this is torch {version}"
    return ""


def caution(platform: str) -> str:
    """What to know of a platform on which the device may run, but never did."""
    if platform.startswith("linux"):
        return ""
    return f"the simulated device was tried on Linux only, never on {platform}"


def start() -> Any:
    """Make the device, once; return its module (`torch.npu`).

    Raises:
        Unsupported: this torch, or this platform, is none of those that can carry it.
    """
    if _started:
        return _started[0]
    import torch

    refused = refusal(torch.__version__, sys.platform)
    if refused:
        raise Unsupported(refused)
    _started.append(_start(torch))
    return _started[0]


def _start(torch: Any) -> Any:
    from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

    settings = load()
    from . import (
        autograd,
        collectives,
        memory,
        probes,
        random,
        registration,
        runtime,
        sharing,
        storage,
        tensors,
    )
    from .record import RECORD

    torch.utils.rename_privateuse1_backend(settings.device)
    try:
        tensors.prepare(settings.count, settings.memory)
    except RuntimeError as error:
        raise Unsupported(str(error)) from None
    module = runtime.build()
    sys.modules[f"torch.{settings.device}"] = module
    acc = torch._C._acc
    hooks: Any = acc.PrivateUse1Hooks
    guard: Any = acc.DeviceGuard

    class Hooks(hooks):  # type: ignore[misc]
        def is_available(self) -> bool:
            return True

        def has_primary_context(self, index: int) -> bool:
            return True

        def is_built(self) -> bool:
            return True

    class Guard(guard):  # type: ignore[misc]
        #: Autograd asks several times for each step: this answers without a frame of Python.
        type_ = itertools.repeat(torch._C._autograd.DeviceType.PrivateUse1).__next__

    _setup_privateuseone_for_python_backend(
        settings.device, backend_module=module, hook=Hooks(), device_guard=Guard()
    )
    setattr(torch, settings.device, module)
    registration.install(settings)
    storage.install()
    sharing.install()
    runtime.install_accelerator(module)
    random.install()
    autograd.install()
    collectives.install()
    probes.install()
    RECORD.memory = memory.peaks
    RECORD.original = settings.original
    RECORD.open(settings.record)
    return module
