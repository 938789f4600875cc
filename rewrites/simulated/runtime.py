"""The module of the device (`torch.npu`), and torch.accelerator on top of it."""

from __future__ import annotations

import sys
import types
import warnings
from collections.abc import Callable
from typing import Any

import torch
from torch.utils.checkpoint import DefaultDeviceType

from . import devices, graphs, memory, random
from .settings import load
from .stubs import SimulatedModule
from .tensors import MEMORIES

_C = torch._C
_NAME = devices.NAME
_DTYPES = {
    "BFloat16": torch.bfloat16,
    "Bool": torch.bool,
    "Byte": torch.uint8,
    "Char": torch.int8,
    "Double": torch.float64,
    "Float": torch.float32,
    "Half": torch.float16,
    "Int": torch.int32,
    "Long": torch.int64,
    "Short": torch.int16,
}
#: Names of products by line, as `get_device_name` gives them.
_PRODUCTS = {"A2": "Ascend910B2", "A3": "Ascend910_9392", "950DT": "Ascend950DT"}


class _Properties:
    """What `get_device_properties` knows; no field of another accelerator."""

    def __init__(self, index: int) -> None:
        self.name = device_name(index)
        self.total_memory = MEMORIES[index].limit
        if load().tabled:
            self.cube_core_num, self.vector_core_num, self.L2_cache_size = 24, 48, 192 << 20

    def __repr__(self) -> str:
        return f"_{_NAME.upper()}DeviceProperties({self.__dict__})"


def device_name(device: Any = None) -> str:
    """The name of the product."""
    devices.index_of(device)
    if not load().tabled:
        return f"{_NAME} (simulated)"
    return _PRODUCTS.get(load().hardware, _PRODUCTS["A2"])


def _capability(device: Any = None) -> None:
    warnings.warn(f"torch.{_NAME}.get_device_capability isn't implemented!", stacklevel=2)


class _TensorType(type):
    """`torch.npu.FloatTensor`: a constructor, and a question about device and dtype."""

    dtype: Any

    def __instancecheck__(cls, value: object) -> bool:
        return (
            isinstance(value, torch.Tensor)
            and value.device.type == _NAME
            and value.dtype == cls.dtype
        )

    def __call__(cls, *args: Any) -> Any:
        device = torch.device(_NAME, devices.current())
        sizes = isinstance(args[0], (int, torch.Size)) if args else True
        if not sizes:
            return torch.tensor(*args, dtype=cls.dtype, device=device)
        sized = args[0] if args and isinstance(args[0], torch.Size) else args
        return torch.empty(sized, dtype=cls.dtype, device=device)


def _install_type(module: SimulatedModule) -> None:
    """Let `tensor.type(...)` take the tensor types of the device."""
    original = torch.Tensor.type

    def type_(self: Any, dtype: Any = None, non_blocking: bool = False, **kwargs: Any) -> Any:
        if isinstance(dtype, str) and dtype.startswith(f"torch.{_NAME}."):
            dtype = getattr(module, dtype.rpartition(".")[2])
        if isinstance(dtype, _TensorType):
            device = torch.device(_NAME, devices.current())
            return self.to(device, dtype.dtype, non_blocking=non_blocking)
        if dtype is None:
            return original(self)
        return original(self, dtype, non_blocking, **kwargs)

    torch.Tensor.type = type_


def _tensor_types() -> dict[str, Any]:
    return {
        f"{name}Tensor": _TensorType(f"{name}Tensor", (), {"dtype": dtype})
        for name, dtype in _DTYPES.items()
    }


class _Autocast(torch.amp.autocast_mode.autocast):  # type: ignore[misc]
    def __init__(
        self, enabled: bool = True, dtype: Any = torch.float16, cache_enabled: bool = True
    ) -> None:
        super().__init__(_NAME, enabled=enabled, dtype=dtype, cache_enabled=cache_enabled)


class _GradScaler(torch.amp.GradScaler):  # type: ignore[misc]
    def __init__(
        self,
        init_scale: float = 2.0**16,
        growth_factor: float = 2.0,
        backoff_factor: float = 0.5,
        growth_interval: int = 2000,
        dynamic: bool = True,
        enabled: bool = True,
    ) -> None:
        super().__init__(_NAME, init_scale, growth_factor, backoff_factor, growth_interval, enabled)


def _amp(parent: str) -> SimulatedModule:
    module = SimulatedModule(f"{parent}.amp")
    module.__dict__.update(
        autocast=_Autocast,
        GradScaler=_GradScaler,
        custom_fwd=_custom(torch.amp.custom_fwd),
        custom_bwd=_custom(torch.amp.custom_bwd),
    )
    return module


def _custom(decorator: Callable[..., Any]) -> Callable[..., Any]:
    def decorate(function: Any = None, **kwargs: Any) -> Any:
        return decorator(function, device_type=_NAME, **kwargs)

    return decorate


def _nothing(*_: object, **__: object) -> None:
    """Settings of the hardware, without effect here."""


def _constant(value: Any) -> Callable[..., Any]:
    return lambda *_, **__: value


def _stream(stream: Any) -> devices.StreamContext:
    return devices.StreamContext(stream)


def _synchronize(device: Any = None) -> None:
    devices.index_of(device)


class _Setting:
    """A setting with attributes that a program may set."""

    def __init__(self) -> None:
        self.allow_hf32 = False


def build() -> SimulatedModule:
    """The module of the device."""
    parent = f"torch.{_NAME}"
    module = SimulatedModule(parent)
    found = module.__dict__
    found.update(
        current_device=devices.current,
        set_device=devices.choose,
        device=devices.DeviceContext,
        device_of=devices.DeviceOf,
        device_count=_constant(devices.COUNT),
        is_available=_constant(True),
        is_initialized=_constant(True),
        _initialized=True,
        init=_nothing,
        _lazy_init=_nothing,
        _is_in_bad_fork=_constant(False),
        _get_device_index=lambda device, optional=False, allow_cpu=False: devices.index_of(device),
        synchronize=_synchronize,
        Stream=devices.Stream,
        Event=devices.Event,
        StreamContext=devices.StreamContext,
        stream=_stream,
        current_stream=devices.current_stream,
        default_stream=devices.default_stream,
        set_stream=devices.set_stream,
        get_device_name=device_name,
        get_device_properties=lambda device=None: _Properties(devices.index_of(device)),
        get_device_capability=_capability,
        can_device_access_peer=lambda a, b: devices.check(a) != devices.check(b),
        utilization=_constant(0),
        is_bf16_supported=_constant(True),
        get_amp_supported_dtype=_constant([torch.float16, torch.bfloat16, torch.float32]),
        get_autocast_dtype=lambda: torch.get_autocast_dtype(_NAME),
        set_autocast_dtype=lambda dtype: torch.set_autocast_dtype(_NAME, dtype),
        is_autocast_enabled=lambda: torch.is_autocast_enabled(_NAME),
        set_autocast_enabled=lambda enable: torch.set_autocast_enabled(_NAME, enable),
        default_generators=tuple(
            random.Generator(torch.device(_NAME, i)) for i in range(devices.COUNT)
        ),
        **_tensor_types(),
    )
    for source, names in (
        (
            memory,
            "memory_allocated max_memory_allocated memory_reserved max_memory_reserved "
            "reset_peak_memory_stats reset_accumulated_memory_stats empty_cache mem_get_info "
            "memory_stats memory_summary memory_snapshot",
        ),
        (
            random,
            "manual_seed manual_seed_all seed seed_all initial_seed get_rng_state set_rng_state "
            "get_rng_state_all set_rng_state_all",
        ),
    ):
        for name in names.split():
            found[name] = getattr(source, name)
    found.update(
        memory_cached=memory.memory_reserved,
        max_memory_cached=memory.max_memory_reserved,
        reset_max_memory_allocated=memory.reset_peak_memory_stats,
        reset_max_memory_cached=memory.reset_peak_memory_stats,
    )
    found["amp"] = _amp(parent)
    _submodules(module)
    if load().tabled:
        _device_only(found)
        _graphs(module)
    return module


def _submodules(module: SimulatedModule) -> None:
    """Let `torch.npu.memory` and the like be imported: they hold names of the module itself."""
    for name in ("memory", "random", "streams", "utils"):
        child = SimulatedModule(f"{module.__name__}.{name}")
        for key, value in list(module.__dict__.items()):
            if not key.startswith("_") and not isinstance(value, types.ModuleType):
                child.__dict__[key] = value
        module.__dict__[name] = child
    for name in ("memory", "random", "streams", "utils", "amp"):
        sys.modules[f"{module.__name__}.{name}"] = module.__dict__[name]


def _graphs(module: SimulatedModule) -> None:
    """Graphs, which torch.accelerator has in another form."""
    child = SimulatedModule(f"{module.__name__}.graphs")
    child.__dict__.update(graphs.names())
    module.__dict__.update(graphs.names(), graphs=child)
    sys.modules[child.__name__] = child


def _device_only(found: dict[str, Any]) -> None:
    """Names that only the device with a table has: settings, without effect here."""
    for name in (
        "set_compile_mode set_option set_aoe set_dump init_dump finalize_dump set_op_timeout_ms "
        "set_mm_bmm_format_nd ipc_collect clear_npu_overflow_flag set_sync_debug_mode "
        "set_per_process_memory_fraction use_compatible_impl set_task_queue_enable "
        "set_deterministic_level reset_peak_host_memory_stats host_empty_cache "
        "reset_accumulated_host_memory_stats empty_virt_addr_cache enable_flash_sdp "
        "enable_math_sdp enable_mem_efficient_sdp"
    ).split():
        found[name] = _nothing
    for name, value in {
        "get_npu_overflow_flag": False,
        "get_mm_bmm_format_nd": True,
        "is_jit_compile_false": True,
        "get_sync_debug_mode": 0,
        "get_task_queue_enable": 1,
        "get_soc_version": 220,
        "get_allocator_backend": "native",
        "are_compatible_impl_enabled": False,
        "flash_sdp_enabled": True,
        "math_sdp_enabled": True,
        "mem_efficient_sdp_enabled": True,
        "host_memory_stats": {},
    }.items():
        found[name] = _constant(value)
    found["matmul"], found["conv"] = _Setting(), _Setting()
    found["utils"].__dict__.update(
        npu_check_overflow=lambda grad: not bool(torch.isfinite(grad.float()).all()),
        is_support_inf_nan=_constant(True),
        get_cann_version=_constant(""),
    )


def install_accelerator(module: SimulatedModule) -> None:
    """Point torch.accelerator, which asks C, to the simulated device."""

    def exchange(index: int) -> int:
        return devices.exchange(index)

    patches: dict[str, Callable[..., Any]] = {
        "setDeviceIndex": devices.choose,
        "getDeviceIndex": devices.current,
        "exchangeDevice": exchange,
        "maybeExchangeDevice": exchange,
        "synchronizeDevice": _synchronize,
        "getStream": devices.current_stream,
        "setStream": devices.set_stream,
        "hooks_device_count": _constant(devices.COUNT),
        "hooks_get_current_device": devices.current,
        "hooks_set_current_device": devices.choose,
        "hooks_exchange_device": exchange,
        "hooks_maybe_exchange_device": exchange,
        "isAllocatorInitialized": _constant(True),
        "emptyCache": memory.empty_cache,
        "emptyHostCache": _nothing,
        "getMemoryInfo": memory.mem_get_info,
        "resetPeakStats": memory.reset_peak_memory_stats,
        "resetAccumulatedStats": memory.reset_accumulated_memory_stats,
        "getDeviceStats": _nested_stats,
        "getDeviceCapability": _capability_table,
    }
    for name, function in patches.items():
        if hasattr(_C, f"_accelerator_{name}"):
            setattr(_C, f"_accelerator_{name}", function)
    _generic_streams()
    _install_type(module)
    if load().tabled:
        # As the real package does: for checkpoints without a tensor to tell the device from.
        DefaultDeviceType.set_device_type(_NAME)


def _capability_table(device: Any = None) -> dict[str, Any]:
    return {"supported_dtypes": set(_DTYPES.values())}


def _nested_stats(device: Any = None) -> dict[str, Any]:
    """The statistics in the form that torch.accelerator.memory flattens again."""
    nested: dict[str, Any] = {}
    for name, value in memory.memory_stats(device).items():
        place = nested
        *parents, last = name.split(".")
        for part in parents:
            place = place.setdefault(part, {})
        place[last] = value
    return nested


def _generic_streams() -> None:
    """Let `torch.Stream` and `torch.Event` make those of the device."""
    torch.Stream = _generic(torch.Stream, devices.Stream)
    torch.Event = _generic(torch.Event, devices.Event)


def _generic(original: Any, simulated: type) -> Any:
    class Kind(type(original)):  # type: ignore[misc]
        def __instancecheck__(cls, value: object) -> bool:
            return isinstance(value, (original, simulated))

        def __call__(cls, *args: Any, **kwargs: Any) -> Any:
            device = kwargs.get("device", args[0] if args else None)
            named = (
                str(device).partition(":")[0] if isinstance(device, (str, torch.device)) else _NAME
            )
            if named != _NAME:
                return original(*args, **kwargs)
            return simulated(*args, **kwargs)

    return Kind(original.__name__, (), {"__module__": "torch", "__doc__": original.__doc__})
