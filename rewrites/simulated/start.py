"""Starts the simulated device in this process."""

from __future__ import annotations

import sys
from typing import Any

from .settings import load

#: Versions of torch that the technique was run with: it uses private interfaces.
TORCH = ("2.13", "2.14")


class Unsupported(RuntimeError):
    """This torch, or this platform, cannot carry the simulated device."""


_started: list[Any] = []


def start() -> Any:
    """Make the device, once; return its module (`torch.npu`).

    Raises:
        Unsupported: this torch is another version than those that were tried.
    """
    if _started:
        return _started[0]
    import torch

    version = torch.__version__
    if not version.startswith(tuple(f"{v}." for v in TORCH)):
        raise Unsupported(
            f"the simulated device runs on torch {' and '.join(TORCH)}; this is torch {version}"
        )
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
    tensors.prepare(settings.count, settings.memory)
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
        def type_(self) -> Any:
            return torch._C._autograd.DeviceType.PrivateUse1

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
    RECORD.open(settings.record)
    return module
