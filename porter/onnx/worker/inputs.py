"""Inputs of a model: drawn from a specification, or read from a file, and bound to `forward`."""

from __future__ import annotations

import ast
import copy
import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .record import Record, Stop

#: Below this, integers are drawn if nothing is said of them: an index that most tables have.
DEFAULT_HIGH = 2


@dataclass(frozen=True, eq=False)
class Case:
    """Arguments of one call of `forward`.

    Args:
        arguments: by position.
        options: by name, in the order of the signature.
        sizes: of the named dimensions.
        recorded: whether the values were read from a file.
    """

    arguments: tuple[Any, ...]
    options: dict[str, Any]
    sizes: dict[str, int]
    recorded: bool = False

    def fresh(self) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Copies, which `forward` may change."""
        return copy.deepcopy(self.arguments), copy.deepcopy(self.options)


def cases(spec: Mapping[str, Any], model: Any, record: Record) -> tuple[Case, list[Case]]:
    """The inputs to export with, and those to compare on.

    Those to export with have the first sizes; the first to compare on have the same sizes and
    other values.

    Raises:
        Stop: they do not fit `forward`.
    """
    sizes = _ordered(spec["sizes"])
    export = _bound(model, spec, sizes[0], 0)
    compare = [_bound(model, spec, row, number) for number, row in enumerate(sizes, 1)]
    if spec["data"]:
        recorded = _recorded(record.root / spec["data"], sizes[0])
        if not spec["inputs"]:
            return recorded, [recorded]
        compare.insert(0, recorded)
    return export, compare


def _ordered(sizes: list[dict[str, int]]) -> list[dict[str, int]]:
    """With the sizes to export with first: torch takes a size of 1 for a constant."""
    return sorted(sizes, key=lambda row: 1 in row.values())


def _bound(model: Any, spec: Mapping[str, Any], sizes: Mapping[str, int], number: int) -> Case:
    import torch

    generator = torch.Generator("cpu")
    generator.manual_seed(1000 + number)
    values = [(i["name"], draw(i["value"], sizes, generator)) for i in spec["inputs"]]
    try:
        parameters = inspect.signature(model.forward).parameters
    except (TypeError, ValueError):
        return Case(tuple(v for _, v in values), {}, dict(sizes))
    return _bind(parameters, values, dict(sizes))


def _bind(
    parameters: Mapping[str, inspect.Parameter],
    values: list[tuple[str, Any]],
    sizes: dict[str, int],
) -> Case:
    kinds = inspect.Parameter
    by_position = [p.name for p in parameters.values() if p.kind <= kinds.POSITIONAL_OR_KEYWORD]
    variable = any(p.kind is kinds.VAR_POSITIONAL for p in parameters.values())
    options = any(p.kind is kinds.VAR_KEYWORD for p in parameters.values())
    unnamed = [v for name, v in values if not name]
    if len(unnamed) > len(by_position) and not variable:
        raise Stop("inputs", f"forward takes {len(by_position)} arguments, not {len(unnamed)}")
    given: dict[str, Any] = {}
    for name, value in values:
        if name and name not in parameters and not options:
            known = ", ".join(p for p in parameters)
            raise Stop("inputs", f"forward has no argument {name!r} (it has: {known})")
        if name:
            given[name] = value
    arguments = list(unnamed)
    for name in by_position[len(arguments) :]:
        if name not in given:
            break
        arguments.append(given.pop(name))
    taken = set(by_position[: len(arguments)])
    missing = [
        p.name
        for p in parameters.values()
        if p.default is kinds.empty
        and p.kind in (kinds.POSITIONAL_ONLY, kinds.POSITIONAL_OR_KEYWORD, kinds.KEYWORD_ONLY)
        and p.name not in given
        and p.name not in taken
    ]
    if missing:
        raise Stop("inputs", f"forward needs {', '.join(missing)}: add --input {missing[0]}=...")
    ordered = {p: given[p] for p in parameters if p in given}
    return Case(tuple(arguments), {**ordered, **given}, sizes)


def draw(value: Mapping[str, Any], sizes: Mapping[str, int], generator: Any) -> Any:
    """A value of random numbers.

    Args:
        value: its specification.
        sizes: of the named dimensions.
        generator: of the CPU.
    """
    kind = value["kind"]
    if kind == "constant":
        return ast.literal_eval(value["source"])
    if kind == "dict":
        return {k: draw(v, sizes, generator) for k, v in value["items"]}
    if kind in ("tuple", "list"):
        items = [draw(v, sizes, generator) for _, v in value["items"]]
        return tuple(items) if kind == "tuple" else items
    return _tensor(value, sizes, generator)


def _tensor(value: Mapping[str, Any], sizes: Mapping[str, int], generator: Any) -> Any:
    import torch

    dtype = getattr(torch, value["dtype"])
    shape = [d if isinstance(d, int) else d[0] * sizes[d[1]] for d in value["dims"]]
    low, high = value["low"], value["high"]
    if dtype is torch.bool:
        return torch.randint(0, 2, shape, generator=generator).bool()
    if not dtype.is_floating_point and not dtype.is_complex:
        bounds = (0, DEFAULT_HIGH) if low is None else (int(low), int(high))
        return torch.randint(*bounds, shape, generator=generator).to(dtype)
    if low is None:
        wide = dtype if dtype.is_complex else torch.float64
        return torch.randn(shape, generator=generator, dtype=wide).to(dtype)
    drawn = torch.rand(shape, generator=generator, dtype=torch.float64)
    return (drawn * (high - low) + low).to(dtype)


def _recorded(path: Path, sizes: dict[str, int]) -> Case:
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
        return Case(tuple(found["arguments"]), dict(found["options"]), dict(sizes), recorded=True)
    except FileNotFoundError:
        raise Stop("inputs", f"{path.name}: no such file") from None
    except Exception as error:
        raise Stop("inputs", f"{path.name}: no recorded inputs ({type(error).__name__})") from None


def scaled(case: Case, factor: float) -> Case | None:
    """The case with its floating values multiplied; None if it has none."""
    import torch

    def change(leaf: Any) -> Any:
        floating = isinstance(leaf, torch.Tensor) and leaf.is_floating_point()
        return leaf * factor if floating else leaf

    tree = torch.utils._pytree
    before = tree.tree_leaves((case.arguments, case.options))
    if not any(change(leaf) is not leaf for leaf in before):
        return None
    arguments, options = tree.tree_map(change, (case.arguments, case.options))
    return Case(arguments, options, case.sizes)


def dynamic_shapes(spec: Mapping[str, Any], model: Any, case: Case) -> dict[str, Any] | None:
    """What torch.export wants to know of the named dimensions; None if there are none.

    Returns:
        For each argument of `forward`, its dimensions.
    """
    import torch

    if not spec["dynamic"]:
        return None
    named = {name: torch.export.Dim(name) for name in spec["dynamic"]}
    by_name = {i["name"]: i["value"] for i in spec["inputs"] if i["name"]}
    unnamed = [i["value"] for i in spec["inputs"] if not i["name"]]
    parameters = list(inspect.signature(model.forward).parameters.values())
    found: dict[str, Any] = {}
    position = 0
    for parameter in parameters:
        if position >= len(case.arguments):
            break
        if parameter.kind is inspect.Parameter.VAR_POSITIONAL:
            found[parameter.name] = tuple(_shapes(v, named) for v in unnamed[position:])
            position = len(case.arguments)
            break
        value = unnamed[position] if position < len(unnamed) else by_name[parameter.name]
        found[parameter.name] = _shapes(value, named)
        position += 1
    for name in case.options:
        found[name] = _shapes(by_name[name], named)
    return found


def _shapes(value: Mapping[str, Any], named: Mapping[str, Any]) -> Any:
    kind = value["kind"]
    if kind == "constant":
        return None
    if kind == "dict":
        return {k: _shapes(v, named) for k, v in value["items"]}
    if kind in ("tuple", "list"):
        items = [_shapes(v, named) for _, v in value["items"]]
        return tuple(items) if kind == "tuple" else items
    dims = {
        i: named[d[1]] if d[0] == 1 else d[0] * named[d[1]]
        for i, d in enumerate(value["dims"])
        if not isinstance(d, int)
    }
    return dims or None
