"""Writes values as Python: what a constructor was given, so that it can be given again."""

from __future__ import annotations

import argparse
import dataclasses
import enum
import functools
import math
import pathlib
import sys
import types
import weakref
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

#: Characters of one expression; a configuration of a model is far below.
LIMIT = 20_000
#: Elements of a tensor or array that is written out.
ELEMENTS = 64
_DEPTH = 12


@dataclass(frozen=True)
class Expression:
    """A value as it is written.

    Args:
        text: the expression.
        imports: modules and `module:name` that it needs.
        literal: whether ast.literal_eval reads it.
    """

    text: str
    imports: frozenset[str] = frozenset()
    literal: bool = True


class CannotWrite(Exception):
    """A value has no expression; the text names its kind."""


#: What made each module, by object; filled while a program runs.
MADE: weakref.WeakKeyDictionary[Any, Expression] = weakref.WeakKeyDictionary()


def write(value: Any, depth: int = 0) -> Expression:
    """A value as an expression.

    Raises:
        CannotWrite: it has none.
    """
    if depth > _DEPTH:
        raise CannotWrite("deeply nested values")
    for kinds, writer in _WRITERS:
        if isinstance(value, kinds):
            found: Expression = writer(value, depth + 1)
            break
    else:
        found = _other(value, depth + 1)
    if len(found.text) > LIMIT:
        raise CannotWrite(f"a very long {type(value).__name__}")
    return found


def call(
    function: str, arguments: Iterable[Any], options: Mapping[str, Any], depth: int = 0
) -> Expression:
    """A call of something that is imported.

    Args:
        function: `module:name`.
        arguments: by position.
        options: by name.
        depth: how deep the call lies in another value.

    Raises:
        CannotWrite: an argument has no expression.
    """
    texts: list[str] = []
    imports, literal = {function}, True
    for name, value in [*(("", a) for a in arguments), *options.items()]:
        try:
            found = write(value, depth)
        except CannotWrite as problem:
            what = f"argument {name!r}" if name else f"argument {len(texts) + 1}"
            raise CannotWrite(f"{what} ({problem})") from None
        if name and not name.isidentifier():
            raise CannotWrite(f"argument {name!r}")
        texts.append(f"{name}={found.text}" if name else found.text)
        imports |= found.imports
        literal = literal and found.literal
    # The name stands in the namespace that the imports fill.
    return Expression(
        f"{function.rpartition(':')[2]}({', '.join(texts)})", frozenset(imports), literal
    )


def _called(
    function: str, arguments: Iterable[Any], options: Mapping[str, Any], depth: int
) -> Expression:
    found = call(function, arguments, options, depth)
    return dataclasses.replace(found, literal=False)


def _joined(parts: Iterable[Expression], pattern: Callable[[list[str]], str]) -> Expression:
    found = list(parts)
    imports = frozenset(i for p in found for i in p.imports)
    return Expression(pattern([p.text for p in found]), imports, all(p.literal for p in found))


def _plain(value: Any, depth: int) -> Expression:
    return Expression(repr(value))


def _float(value: float, depth: int) -> Expression:
    if math.isfinite(value):
        return Expression(repr(float(value)))
    return Expression(f'float("{value}")', literal=False)


def _list(value: list[Any], depth: int) -> Expression:
    return _joined((write(v, depth) for v in value), lambda t: f"[{', '.join(t)}]")


def _tuple(value: tuple[Any, ...], depth: int) -> Expression:
    if hasattr(value, "_fields"):
        return _called(_where(type(value)), value, {}, depth)
    one = "," if len(value) == 1 else ""
    return _joined((write(v, depth) for v in value), lambda t: f"({', '.join(t)}{one})")


def _dict(value: Mapping[Any, Any], depth: int) -> Expression:
    pairs = [write(part, depth) for item in value.items() for part in item]
    plain = _joined(
        pairs,
        lambda t: "{" + ", ".join(f"{k}: {v}" for k, v in zip(t[::2], t[1::2], strict=True)) + "}",
    )
    if type(value) is dict:
        return plain
    kind = _where(type(value))
    name = kind.rpartition(":")[2]
    return Expression(f"{name}({plain.text})", plain.imports | {kind}, literal=False)


def _enum(value: enum.Enum, depth: int) -> Expression:
    kind = _where(type(value))
    return Expression(f"{kind.rpartition(':')[2]}.{value.name}", frozenset([kind]), literal=False)


def _named(value: Any, depth: int) -> Expression:
    """A function or class that can be imported by its name."""
    kind = _where(value)
    return Expression(kind.rpartition(":")[2], frozenset([kind]), literal=False)


def _partial(value: functools.partial[Any], depth: int) -> Expression:
    return _called("functools:partial", (value.func, *value.args), value.keywords, depth)


def _namespace(value: Any, depth: int) -> Expression:
    kind = _where(type(value)).replace("types:types.", "types:")
    return _called(kind, (), vars(value), depth)


def _path(value: pathlib.PurePath, depth: int) -> Expression:
    return _called("pathlib:Path", (str(value),), {}, depth)


_WRITERS: tuple[tuple[Any, Callable[..., Expression]], ...] = (
    (enum.Enum, _enum),
    ((type(None), bool, str, bytes), _plain),
    (float, _float),
    ((int, complex), _plain),
    (list, _list),
    (tuple, _tuple),
    (functools.partial, _partial),
    ((type, types.FunctionType, types.BuiltinFunctionType), _named),
    ((argparse.Namespace, types.SimpleNamespace), _namespace),
    (pathlib.PurePath, _path),
)


def _other(value: Any, depth: int) -> Expression:
    """What belongs to packages that may not be there, and instances that tell their arguments."""
    torch = sys.modules.get("torch")
    if torch is not None:
        found = _of_torch(torch, value, depth)
        if found is not None:
            return found
    kind = type(value)
    if type(value).__module__ == "numpy":
        return _of_numpy(value, depth)
    if hasattr(value, "to_diff_dict"):  # a configuration of Hugging Face
        return _called(_where(kind), (), value.to_diff_dict(), depth)
    if kind.__module__.startswith("omegaconf"):
        plain = sys.modules["omegaconf"].OmegaConf.to_container(value, resolve=True)
        return _called("omegaconf:OmegaConf.create", (plain,), {}, depth)
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        given = {f.name: getattr(value, f.name) for f in dataclasses.fields(value) if f.init}
        return _called(_where(kind), (), given, depth)
    if isinstance(value, Mapping):
        return _dict(value, depth)
    raise CannotWrite(f"a {kind.__name__}")


def _of_torch(torch: Any, value: Any, depth: int) -> Expression | None:
    if isinstance(value, (torch.dtype, torch.memory_format)):
        return Expression(str(value), frozenset(["torch"]), literal=False)
    if isinstance(value, torch.device):
        return _called("torch:device", (str(value),), {}, depth)
    if isinstance(value, torch.Tensor):
        if value.numel() > ELEMENTS:
            raise CannotWrite(f"a tensor of {value.numel()} elements")
        dtype = {"dtype": value.dtype}
        return _called("torch:tensor", (value.detach().cpu().tolist(),), dtype, depth)
    if isinstance(value, torch.nn.Module):
        made = MADE.get(value)
        if made is None:
            raise CannotWrite(f"a {type(value).__name__}")
        return dataclasses.replace(made, literal=False)
    return None


def _of_numpy(value: Any, depth: int) -> Expression:
    if getattr(value, "ndim", 0) == 0:
        return write(value.item(), depth)
    if value.size > ELEMENTS:
        raise CannotWrite(f"an array of {value.size} elements")
    return _called("numpy:array", (value.tolist(),), {"dtype": str(value.dtype)}, depth)


def _where(value: Any) -> str:
    """`module:name` of something that can be imported.

    Raises:
        CannotWrite: it was made within a function, or without a name.
    """
    module, name = getattr(value, "__module__", None), getattr(value, "__qualname__", "")
    if not module or "<" in name or not name:
        raise CannotWrite(f"{name or 'something'}, which has no place in a module")
    if module == "builtins":
        return f"builtins:{name}"
    found: Any = sys.modules.get(module)
    for part in name.split("."):
        found = getattr(found, part, None)
    if found is not value:
        raise CannotWrite(f"{name}, which {module} does not give")
    return f"{module}:{name}"
