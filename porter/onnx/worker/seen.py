"""Watches the forward calls of the user's modules in any program; torch starts it on import.

A call counts if no other module of the user's is running: those are the models. What made them,
and what they were given, goes to a file for each process.
"""

from __future__ import annotations

import atexit
import contextlib
import inspect
import json
import os
import sys
import threading
import weakref
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import expression
from .expression import MADE, CannotWrite, Expression

VARIABLE = "PORTER_ONNX_CAPTURE"
#: Calls of one model that are looked at.
CALLS = 50
_threads = threading.local()


@dataclass
class Seen:
    """One model.

    Args:
        module: the object's type lives in this module.
        file: the source file of the type.
        name: the type's qualified name.
        made: what makes it; None if that cannot be written.
        why_not: what cannot be.
        calls: the arguments of each call, described.
    """

    module: str
    file: str
    name: str
    made: Expression | None
    why_not: str = ""
    calls: list[dict[str, Any]] = field(default_factory=list)
    saved: bool = False


class Watch:
    """What a process has seen.

    Args:
        settings: `root`, `folder`, `save`, `others`.
    """

    def __init__(self, settings: dict[str, Any]) -> None:
        """Nothing is seen yet."""
        self.root = os.path.realpath(settings["root"]) + os.sep
        self.folder = Path(settings["folder"])
        self.save = bool(settings["save"])
        self.seen: dict[tuple[str, str, str], Seen] = {}
        self.others: dict[str, None] = {}
        self._own: dict[type, str] = {}
        self._pending: weakref.WeakKeyDictionary[Any, Expression] = weakref.WeakKeyDictionary()
        self._why: weakref.WeakKeyDictionary[Any, str] = weakref.WeakKeyDictionary()

    def file_of(self, kind: type) -> str:
        """The user's file that defines a class; empty if none does."""
        found = self._own.get(kind)
        if found is None:
            module = sys.modules.get(kind.__module__)
            name = os.path.realpath(getattr(module, "__file__", None) or "")
            inner = name.startswith(self.root) and "-packages" not in name
            found = self._own[kind] = name if inner else ""
        return found

    def made(self, module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Keep what a module is to be made with."""
        kind = type(module)
        try:
            if "<" in kind.__qualname__:
                raise CannotWrite(f"{kind.__name__} is defined within a function")
            name = f"{kind.__module__}:{kind.__qualname__}"
            self._pending[module] = expression.call(name, arguments, options)
        except CannotWrite as problem:
            self._why[module] = str(problem)
        except Exception as error:  # an argument that cannot even be looked at
            self._why[module] = f"its arguments ({type(error).__name__})"

    def initialized(self, module: Any) -> None:
        """A module was made by its class, with what was kept."""
        found = self._pending.pop(module, None)
        if found is not None:
            MADE[module] = found

    def called(
        self,
        module: Any,
        own: bool,
        outermost: bool,
        arguments: tuple[Any, ...],
        options: dict[str, Any],
    ) -> None:
        """Keep what a module outside of all others of the user's is called with."""
        if own:
            self._call(module, arguments, options)
        elif outermost and _foreign(type(module)):
            self.others[f"{type(module).__module__}.{type(module).__qualname__}"] = None

    def _call(self, module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
        """Keep what a model is called with."""
        kind = type(module)
        made = MADE.get(module)
        key = (kind.__module__, kind.__qualname__, made.text if made else "")
        found = self.seen.get(key)
        if found is None:
            why = "" if made else self._why.get(module, "it is a copy, or was read from a file")
            found = Seen(kind.__module__, self.file_of(kind), kind.__qualname__, made, why)
            self.seen[key] = found
        if len(found.calls) >= CALLS:
            return
        found.calls.append(_described(module, arguments, options))
        if self.save and not found.saved:
            found.saved = True
            number = list(self.seen).index(key)
            _save(self.folder / f"{os.getpid()}-{number}", module, arguments, options)
        if len(found.calls) in (1, 2, CALLS):
            self.write()

    def write(self) -> None:
        """Write all that was seen."""
        rows = [
            {
                "module": s.module,
                "file": s.file,
                "name": s.name,
                "made": s.made.text if s.made else None,
                "imports": sorted(s.made.imports) if s.made else [],
                "literal": bool(s.made and s.made.literal),
                "why_not": s.why_not,
                "calls": s.calls,
                "saved": f"{os.getpid()}-{number}" if s.saved else "",
            }
            for number, s in enumerate(self.seen.values())
        ]
        path = self.folder / f"{os.getpid()}.json"
        temporary = path.with_suffix(".part")
        temporary.write_text(json.dumps({"seen": rows, "others": list(self.others)}))
        temporary.replace(path)


def start() -> None:
    """Begin to watch; called by torch at the end of its import."""
    settings = json.loads(Path(os.environ[VARIABLE]).read_text(encoding="utf-8"))
    if settings["on_cpu"]:
        import porter_on_cpu  # type: ignore[import-not-found]

        porter_on_cpu.install()
    watch = Watch(settings)
    _watch_making(watch)
    _watch_calls(watch)
    atexit.register(watch.write)


def _watch_making(watch: Watch) -> None:
    import torch

    base: Any = torch.nn.Module
    initialize = base.__init__

    def new(cls: type, *arguments: Any, **options: Any) -> Any:
        module = super(base, cls).__new__(cls)
        watch.made(module, arguments, options)
        return module

    def init(self: Any, *arguments: Any, **options: Any) -> None:
        # A copy, or what a file holds, is made without this: with what, nobody knows.
        watch.initialized(self)
        initialize(self, *arguments, **options)

    base.__new__ = new
    base.__init__ = init


def _watch_calls(watch: Watch) -> None:
    import torch

    base: Any = torch.nn.Module
    real = base.__call__

    def call(self: Any, *arguments: Any, **options: Any) -> Any:
        stack = _threads.__dict__.setdefault("stack", [])
        own = bool(watch.file_of(type(self)))
        if not any(stack):
            # Whatever goes wrong here, the user's program goes on.
            with contextlib.suppress(Exception):
                watch.called(self, own, not stack, arguments, options)
        stack.append(own)
        try:
            return real(self, *arguments, **options)
        finally:
            stack.pop()

    base.__call__ = call


def _foreign(kind: type) -> bool:
    return not kind.__module__.startswith("torch.")


# Arguments --------------------------------------------------------------------------------------


def _described(module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> dict[str, Any]:
    """The arguments by name, each as data; `*` holds those without a name."""
    named: dict[str, Any] = {}
    rest: list[Any] = []
    try:
        parameters = list(inspect.signature(module.forward).parameters.values())
    except (TypeError, ValueError):
        parameters = []
    by_position = [p for p in parameters if p.kind <= p.POSITIONAL_OR_KEYWORD]
    for number, value in enumerate(arguments):
        if number < len(by_position):
            named[by_position[number].name] = _value(value)
        else:
            rest.append(_value(value))
    named.update((k, _value(v)) for k, v in options.items())
    return {"named": named, "rest": rest}


def _value(value: Any) -> dict[str, Any]:
    import torch

    if isinstance(value, torch.Tensor):
        low, high = _range(value)
        dtype = str(value.dtype).rpartition(".")[2]
        return {
            "kind": "tensor", "dtype": dtype, "shape": list(value.shape), "low": low, "high": high,
        }  # fmt: skip
    if type(value) in (list, tuple):
        items = [_value(v) for v in value]
        if any(i["kind"] != "constant" for i in items):
            return {"kind": type(value).__name__, "items": items}
    if type(value) is dict and all(isinstance(k, str) for k in value):
        return {"kind": "dict", "items": {k: _value(v) for k, v in value.items()}}
    try:
        found = expression.write(value)
    except CannotWrite as problem:
        return {"kind": "object", "what": str(problem)}
    if not found.literal:
        return {"kind": "object", "what": f"a {type(value).__name__}"}
    return {"kind": "constant", "source": found.text}


def _range(value: Any) -> tuple[float | None, float | None]:
    import torch

    if not value.numel() or value.dtype is torch.bool or value.is_complex():
        return None, None
    with torch.no_grad():
        low, high = (
            value.detach().aminmax()
            if value.dtype is not torch.bfloat16
            else (value.detach().float().aminmax())
        )
    found = float(low), float(high)
    return found if all(abs(f) < 1e300 for f in found) else (None, None)


def _save(path: Path, module: Any, arguments: tuple[Any, ...], options: dict[str, Any]) -> None:
    """Keep the weights and the arguments of a call, as tensors only."""
    import torch

    def plain(value: Any) -> Any:
        if isinstance(value, torch.Tensor):
            return value.detach().to("cpu").clone()
        if type(value) in (list, tuple):
            return type(value)(plain(v) for v in value)
        if type(value) is dict:
            return {k: plain(v) for k, v in value.items()}
        return value

    data = {"arguments": plain(list(arguments)), "options": plain(dict(options))}
    torch.save(data, f"{path}.inputs.pt")
    state = {k: plain(v) for k, v in module.state_dict().items() if isinstance(v, torch.Tensor)}
    torch.save(state, f"{path}.weights.pt")
