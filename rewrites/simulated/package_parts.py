"""Parts of the device's package that programs use for training: optimisers and the profiler."""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable
from typing import Any

import torch
import torch.profiler

from . import devices
from .stubs import SimulatedModule

#: Fused optimisers and the ones of torch that do the same.
_OPTIMISERS = {
    "NpuFusedAdadelta": "Adadelta",
    "NpuFusedAdam": "Adam",
    "NpuFusedAdamW": "AdamW",
    "NpuFusedRMSprop": "RMSprop",
    "NpuFusedSGD": "SGD",
}


def optimisers(name: str) -> SimulatedModule:
    """The module with the fused optimisers."""
    module = SimulatedModule(name)
    for fused, plain in _OPTIMISERS.items():
        base = getattr(torch.optim, plain)
        made = type(fused, (base,), {"clip_grad_norm_fused_": _clip, "__module__": name})
        setattr(module, fused, made)
    return module


def _clip(self: Any, max_norm: float, norm_type: float = 2.0) -> Any:
    parameters = [p for group in self.param_groups for p in group["params"]]
    return torch.nn.utils.clip_grad_norm_(parameters, max_norm, norm_type)


class ProfilerActivity(enum.Enum):
    """What is profiled."""

    CPU = "CPU"
    NPU = devices.NAME.upper()


class _AnyLevel(enum.EnumMeta):
    """An enumeration with every name: they choose what the hardware measures."""

    def __getattr__(cls, name: str) -> str:
        if name.startswith("_"):
            raise AttributeError(name)
        return name


class ProfilerLevel(enum.Enum, metaclass=_AnyLevel):
    """How much is profiled, without effect here."""


class AiCMetrics(enum.Enum, metaclass=_AnyLevel):
    """What is measured, without effect here."""


class ExportType(enum.Enum, metaclass=_AnyLevel):
    """What is written, without effect here."""


class ExperimentalConfig:
    """More options, without effect here."""

    def __init__(self, **options: Any) -> None:
        self.options = options


class Profile(torch.profiler.profile):  # type: ignore[misc]
    """torch's profiler, of the host."""

    def __init__(
        self,
        *,
        activities: Iterable[Any] | None = None,
        schedule: Callable[[int], Any] | None = None,
        on_trace_ready: Callable[..., Any] | None = None,
        experimental_config: Any = None,
        **options: Any,
    ) -> None:
        known = ("record_shapes", "profile_memory", "with_stack", "with_flops", "with_modules")
        super().__init__(
            activities=[torch.profiler.ProfilerActivity.CPU],
            schedule=schedule,
            on_trace_ready=on_trace_ready,
            **{k: v for k, v in options.items() if k in known},
        )


def _trace_handler(*_: object, **__: object) -> Callable[[Any], None]:
    return lambda profile: None


def profiler(name: str) -> SimulatedModule:
    """The module with the profiler."""
    module = SimulatedModule(name)
    module.__dict__.update(
        AiCMetrics=AiCMetrics,
        ExportType=ExportType,
        ProfilerAction=torch.profiler.ProfilerAction,
        ProfilerActivity=ProfilerActivity,
        ProfilerLevel=ProfilerLevel,
        _ExperimentalConfig=ExperimentalConfig,
        profile=Profile,
        schedule=torch.profiler.schedule,
        supported_activities=lambda: set(ProfilerActivity),
        tensorboard_trace_handler=_trace_handler,
    )
    return module
