"""Makes every accelerator the CPU, in the process that calls `install`.

So code that asks for a device that is not there runs, and code before and after a migration runs
on the same kernels: what differs then is the code. Nothing is proved about devices; that is what
the simulated device is for.

The file is copied next to the worker that needs it; it imports nothing of porter, and torch only
when it is told to start.
"""

from __future__ import annotations

import functools
import importlib.machinery
import importlib.util
import os
import sys
import types
from collections.abc import Callable
from typing import Any

#: Device types that become the CPU.
DEVICES = ("cuda", "npu")
#: Variables for the process: no real device takes part.
ENVIRONMENT = {
    "CUDA_VISIBLE_DEVICES": "",
    "ASCEND_RT_VISIBLE_DEVICES": "",
    "TORCH_DEVICE_BACKEND_AUTOLOAD": "0",
}
#: Where a tensor type stands as text, it begins so.
_TYPES = tuple(f"torch.{d}." for d in DEVICES)
#: What asks for a device as its first word. Others take it as `device=`.
_FIRST = frozenset(["to", "_parse_to", "set_default_device", "get_device_module"])
_NUMBERS = {
    "device_count": 1,
    "current_device": 0,
    "current_device_index": 0,
    "memory_allocated": 0,
    "max_memory_allocated": 0,
    "memory_reserved": 0,
    "max_memory_reserved": 0,
    "memory_cached": 0,
    "max_memory_cached": 0,
    "utilization": 0,
    "initial_seed": 0,
}
_NOTHING = (
    "synchronize", "empty_cache", "set_device", "set_device_index", "set_device_idx",
    "manual_seed", "manual_seed_all", "seed", "seed_all", "init", "_lazy_init", "ipc_collect",
    "reset_peak_memory_stats", "reset_max_memory_allocated", "reset_max_memory_cached",
    "reset_accumulated_memory_stats", "set_per_process_memory_fraction", "set_stream",
    "set_rng_state", "set_rng_state_all", "set_sync_debug_mode", "set_compile_mode",
)  # fmt: skip
_TENSORS = (
    "FloatTensor", "DoubleTensor", "HalfTensor", "BFloat16Tensor", "ByteTensor", "CharTensor",
    "ShortTensor", "IntTensor", "LongTensor", "BoolTensor",
)  # fmt: skip
#: What makes tensors, and takes `device=`.
_FACTORIES = (
    "arange", "as_tensor", "empty", "empty_like", "eye", "full", "full_like", "linspace",
    "logspace", "ones", "ones_like", "rand", "rand_like", "randint", "randint_like", "randn",
    "randn_like", "randperm", "tensor", "tril_indices", "triu_indices", "zeros", "zeros_like",
)  # fmt: skip
_METHODS = ("to", "type", "new_empty", "new_full", "new_ones", "new_tensor", "new_zeros")

_ABSENT = object()


class Inert:
    """Stands for a stream, an event or a context: does nothing, whatever is asked of it."""

    def __init__(self, *arguments: Any, **options: Any) -> None:
        """Take anything."""

    def __enter__(self) -> Inert:
        """Change nothing."""
        return self

    def __exit__(self, *error: object) -> None:
        """Let errors through."""

    def query(self) -> bool:
        """Work is done when a call returns."""
        return True

    def elapsed_time(self, other: object) -> float:
        """No time is taken."""
        return 0.0

    def __getattr__(self, name: str) -> Any:
        """Any other method."""
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *arguments, **options: None


class State:
    """What is in force.

    Args:
        torch: the module.
    """

    def __init__(self, torch: Any) -> None:
        """Nothing is installed yet."""
        self.torch = torch
        self.used: dict[str, None] = {}
        self.mode: Any = None
        self.replaced: list[tuple[Any, str, Any]] = []
        self.added: list[str] = []
        self.folder = os.path.dirname(torch.__file__) + os.sep  # noqa: PTH120

    def replace(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute, which `lighten` may take back."""
        self.replaced.append((owner, name, vars(owner).get(name, _ABSENT)))
        setattr(owner, name, value)

    def add(self, module: Any) -> None:
        """Let a module be imported."""
        sys.modules[module.__name__] = module
        self.added.append(module.__name__)

    def note(self, what: str) -> None:
        """Keep in mind that something was taken for the CPU's."""
        self.used[what] = None

    def lighten(self, *, used: bool) -> None:
        """Replace no more than an exporter can follow, which traces what is in the way.

        Args:
            used: whether `forward` asks for a device. If not, all is as torch made it.
        """
        if not used:
            self.undo()
        elif self.mode is not None:
            self.mode.__exit__(None, None, None)
            self.mode = None
            _replace_functions(self)

    def undo(self) -> None:
        """Take everything back."""
        if self.mode is not None:
            self.mode.__exit__(None, None, None)
            self.mode = None
        for owner, name, value in reversed(self.replaced):
            if value is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, value)
        self.replaced.clear()
        for name in self.added:
            sys.modules.pop(name, None)
        self.added.clear()


def _named(value: Any) -> bool:
    """Whether a value names a device that becomes the CPU."""
    if not isinstance(value, str):
        return getattr(value, "type", None) in DEVICES and hasattr(value, "index")
    return value.partition(":")[0] in DEVICES


def install() -> State:
    """Replace devices from now on.

    Returns:
        What was replaced, as it comes to light.
    """
    import torch

    state = State(torch)
    for name in DEVICES:
        _replace_module(state, name)
    _replace_accelerator(state)
    _replace_autocast(state)
    _replace_loading(state)
    # Told of a stream that is none, this fails before any replacement of it is asked.
    state.replace(torch.Tensor, "record_stream", lambda self, stream: None)
    state.mode = _mode(state)
    state.mode.__enter__()
    return state


def _mode(state: State) -> Any:
    from torch.overrides import TorchFunctionMode

    torch: Any = state.torch
    is_there = {torch.Tensor.is_cuda.__get__}
    moves = {torch.Tensor.cuda: "cuda", getattr(torch.Tensor, "npu", None): "npu"}
    pinned = {torch.Tensor.pin_memory}
    get_device = {torch.Tensor.get_device, torch.get_device}

    class AsCpu(TorchFunctionMode):  # type: ignore[misc]
        def __torch_function__(
            self, function: Any, types: Any, arguments: Any = (), options: Any = None
        ) -> Any:
            options = options or {}
            if function is torch.device:
                return _device(state, arguments, options)
            if function in moves:
                state.note(f".{moves[function]}()")
                return arguments[0]
            if function in is_there:
                state.note(".is_cuda")
                return True
            if function in pinned:
                return arguments[0]
            if function in get_device:
                return 0
            arguments, options = _arguments(state, function, arguments, options)
            return function(*arguments, **options)

    return AsCpu()


def _device(state: State, arguments: Any, options: Any) -> Any:
    device = state.torch.device
    given = [*arguments, *options.values()]
    if given and (_named(given[0]) or isinstance(given[0], int)):
        state.note(f"device({given[0]!r})")
        return device("cpu")
    return device(*arguments, **options)


def _arguments(state: State, function: Any, arguments: Any, options: Any) -> tuple[Any, Any]:
    """The arguments of a call, with the CPU where they name another device."""
    name = getattr(function, "__name__", "")
    if options.get("pin_memory") is True:
        options = {**options, "pin_memory": False}
    if _named(options.get("device")) or isinstance(options.get("device"), int):
        state.note(f"{name}(device={str(options['device'])!r})")
        options = {**options, "device": "cpu"}
    if name in _FIRST or name == "type":
        arguments = tuple(_first(state, name, a) for a in arguments)
        options = {k: _first(state, name, v) for k, v in options.items()}
    return arguments, options


def _first(state: State, name: str, value: Any) -> Any:
    if _named(value):
        state.note(f"{name}({str(value)!r})")
        return "cpu"
    if isinstance(value, str) and value.startswith(_TYPES):
        state.note(value)
        return "torch." + value.rpartition(".")[2]
    return value


def _replace_functions(state: State) -> None:
    torch: Any = state.torch
    for name in (*DEVICES, "pin_memory"):
        state.replace(torch.Tensor, name, _moved(state, name))
    state.replace(torch.Tensor, "is_cuda", _there(state, "is_cuda", torch.Tensor.is_cuda))
    for owner, names in ((torch, _FACTORIES), (torch.Tensor, _METHODS)):
        for name in names:
            if hasattr(owner, name):
                state.replace(owner, name, _mapped(state, getattr(owner, name), name))


def _mapped(state: State, real: Any, name: str) -> Callable[..., Any]:
    def function(*arguments: Any, **options: Any) -> Any:
        if _named(options.get("device")):
            options["device"] = "cpu"
        if name in ("to", "type"):
            arguments = tuple(_first(state, name, a) for a in arguments)
        return real(*arguments, **options)

    function.__name__ = name
    return function


# Modules ----------------------------------------------------------------------------------------


def _of_user(state: State) -> bool:
    """Whether the caller of a replaced function is neither torch nor another library."""
    name = sys._getframe(2).f_code.co_filename
    return not name.startswith(state.folder) and "-packages" not in name


def _unless_torch(state: State, name: str, value: Any, real: Any) -> Any:
    """A function that tells libraries the truth, and the user's code that there is a device."""

    def answer(*arguments: Any, **options: Any) -> Any:
        if not _of_user(state):
            # What torch does not have, no library is to find.
            return real(*arguments, **options) if real is not None else value is not True and value
        state.note(f"{name}()")
        return value

    answer.__name__ = answer.__qualname__ = name
    # Code that is traced takes the answer as it is.
    return _constant(state, answer)


def _constant(state: State, function: Callable[..., Any]) -> Callable[..., Any]:
    # The mark that torch._dynamo.assume_constant_result sets; importing that costs seconds.
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


def _replace_module(state: State, name: str) -> None:
    torch = state.torch
    module = getattr(torch, name, None)
    if module is None:
        module = _module(f"torch.{name}")
        state.replace(torch, name, module)
        state.add(module)
    for what in ("is_available", "is_initialized", "is_bf16_supported"):
        real = getattr(module, what, None)
        state.replace(module, what, _unless_torch(state, what, True, real))
    _fill(state, module)
    for kind in _TENSORS:
        state.replace(module, kind, getattr(torch, kind, None))
    amp = getattr(module, "amp", None)
    if amp is None:
        amp = _module(f"torch.{name}.amp")
        amp.autocast = lambda *a, **k: torch.autocast(name, *a, **k)
        amp.GradScaler = torch.amp.GradScaler
        state.replace(module, "amp", amp)
        state.add(amp)
    if name != "cuda":
        if f"torch_{name}" not in sys.modules:
            _package(state, f"torch_{name}", name, module)
        state.replace(torch.Tensor, name, _moved(state, name))
        state.replace(torch.Tensor, f"is_{name}", _there(state, f"is_{name}"))
    state.replace(torch.nn.Module, name, _moved(state, name))


def _there(state: State, name: str, real: Any = None) -> property:
    """Tells the user's code that a tensor is on the device, and others what torch would."""

    def there(self: Any) -> bool:
        if not _of_user(state):
            return bool(real.__get__(self)) if real is not None else False
        state.note(f".{name}")
        return True

    return property(there)


def _package(state: State, name: str, device: str, module: Any) -> None:
    """What `import torch_DEVICE` finds, with the part that takes over another device's names."""
    package = _module(name)
    setattr(package, device, module)
    contrib = _module(f"{name}.contrib")
    transfer = _module(f"{name}.contrib.transfer_to_{device}")
    setattr(contrib, f"transfer_to_{device}", transfer)
    package.contrib = contrib
    for made in (package, contrib, transfer):
        state.add(made)


def _module(name: str) -> Any:
    """An empty module that importlib.util.find_spec takes for an imported one."""
    spec = importlib.machinery.ModuleSpec(name, None, is_package=True)
    return importlib.util.module_from_spec(spec)


def _moved(state: State, name: str) -> Callable[..., Any]:
    def move(self: Any, *arguments: Any, **options: Any) -> Any:
        state.note(f".{name}()")
        return self

    move.__name__ = name
    return move


def _fill(state: State, module: Any) -> None:
    """Functions that ask or tell a device something that the CPU has no answer to."""
    properties = types.SimpleNamespace(
        name="cpu", major=8, minor=0, total_memory=64 << 30, multi_processor_count=1
    )
    answers: dict[str, Any] = {
        **_NUMBERS,
        **dict.fromkeys(_NOTHING),
        "get_device_name": "cpu",
        "get_device_capability": (8, 0),
        "get_device_properties": properties,
        "mem_get_info": (64 << 30, 64 << 30),
        "get_memory_info": (64 << 30, 64 << 30),
        "memory_stats": {},
        "memory_summary": "",
        "get_arch_list": [],
    }
    for name, value in answers.items():
        real = getattr(module, name, None)
        if real is not None or name not in ("init", "_lazy_init"):
            state.replace(module, name, _unless_torch(state, name, value, real))
    for name in ("current_stream", "default_stream", "stream", "device", "device_index"):
        state.replace(module, name, _inert(state, name))
    for name in ("Stream", "Event", "ExternalStream", "StreamContext", "device_of"):
        state.replace(module, name, Inert)


def _inert(state: State, name: str) -> Callable[..., Any]:
    def make(*arguments: Any, **options: Any) -> Inert:
        state.note(f"{name}()")
        return Inert()

    make.__name__ = name
    return make


def _replace_accelerator(state: State) -> None:
    accelerator = getattr(state.torch, "accelerator", None)
    if accelerator is None:
        return
    real = accelerator.current_accelerator
    cpu = state.torch.device("cpu")
    _fill(state, accelerator)
    there = _unless_torch(state, "is_available", True, accelerator.is_available)
    state.replace(accelerator, "is_available", there)
    answer = _unless_torch(state, "current_accelerator", cpu, real)
    state.replace(accelerator, "current_accelerator", answer)


def _replace_autocast(state: State) -> None:
    """Switch mixed precision off: the CPU's is another than a device's."""
    autocast = state.torch.amp.autocast_mode.autocast
    made = autocast.__init__

    def init(self: Any, device_type: str, *arguments: Any, **options: Any) -> None:
        state.note("autocast, which is off here")
        made(self, "cpu", enabled=False)

    state.replace(autocast, "__init__", init)


def _replace_loading(state: State) -> None:
    torch = state.torch
    load, module_of = torch.load, torch.get_device_module
    generator: Any = torch.Generator

    def mapped(file: Any, map_location: Any = None, *arguments: Any, **options: Any) -> Any:
        # A callable or a mapping may name a device as well; all of a checkpoint fits the CPU.
        return load(file, "cpu", *arguments, **options)

    class Generator(generator):  # type: ignore[misc]
        def __new__(cls, device: Any = "cpu") -> Any:
            return super().__new__(cls, "cpu" if _named(device) else device)

    @functools.wraps(module_of)
    def device_module(device: Any = None) -> Any:
        text = str(device).partition(":")[0]
        return getattr(torch, text) if text in DEVICES else module_of(device)

    state.replace(torch, "load", mapped)
    state.replace(torch, "Generator", Generator)
    state.replace(torch, "get_device_module", device_module)
    set_type = torch.set_default_tensor_type

    def default_type(kind: Any) -> None:
        set_type(_first(state, "set_default_tensor_type", kind))

    state.replace(torch, "set_default_tensor_type", default_type)
