"""Whether data read from a file has the keys and types that it must have."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

_NAMES = {
    str: "text", int: "a whole number", bool: "true or false", type(None): "null", list: "a list",
    dict: "an object", float: "a number",
}  # fmt: skip


def misfit(value: Any, shape: Any, place: str = "") -> str:
    """What of a value does not fit a shape, as one clause for the user; empty if it fits.

    Args:
        value: what a reader of JSON or TOML gave.
        shape: a type; a tuple of types, one of which it must have; a frozenset of texts; a list
            that holds the shape of every item; or a dict of shapes by key, where "key?" may be
            missing and "*" stands for every key. Further keys of the value are let pass.
        place: what the value is called, such as "sites[3].line".
    """
    return next(_misfits(value, shape, place), "")


def _misfits(value: Any, shape: Any, place: str) -> Iterator[str]:
    if isinstance(shape, (type, tuple)):
        types = shape if isinstance(shape, tuple) else (shape,)
        if type(value) not in types:
            wanted = " or ".join(_NAMES[kind] for kind in types)
            yield f"{place or 'it'} must be {wanted}, not {_NAMES.get(type(value), 'a date')}"
    elif isinstance(shape, frozenset):
        if not isinstance(value, str) or value not in shape:
            yield f"{place} must be one of {', '.join(sorted(shape))}"
    elif isinstance(shape, list):
        if not isinstance(value, list):
            yield from _misfits(value, list, place)
            return
        for number, item in enumerate(value):
            yield from _misfits(item, shape[0], f"{place}[{number}]")
    elif not isinstance(value, dict):
        yield from _misfits(value, dict, place)
    else:
        for key, inner in _members(value, shape):
            name = f"{place}.{key}" if place else key
            if key not in value:
                yield f"{name} is missing"
            else:
                yield from _misfits(value[key], inner, name)


def _members(value: dict[str, Any], shape: dict[str, Any]) -> Iterator[tuple[str, Any]]:
    """The keys to look at and their shapes."""
    for key, inner in shape.items():
        if key == "*":
            yield from ((name, inner) for name in value)
        elif not key.endswith("?") or key[:-1] in value:
            yield key.removesuffix("?"), inner
