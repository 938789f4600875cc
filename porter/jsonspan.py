r"""JSON with the place of every value, and edits inside its strings.

The standard library tells no positions, drops all but the last of duplicate keys and follows
nesting by recursion. Here every value knows its span in the text, and nothing recurses. Strings
are decoded only when asked for: a notebook's outputs can be large.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass, field

_SPACE = re.compile(r"[ \t\n\r]*")
_SCALAR = re.compile(
    r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?|true|false|null|NaN|-?Infinity"
)
_UNIT = re.compile(
    r"\\u[dD][89abAB][0-9a-fA-F]{2}\\u[dD][c-fC-F][0-9a-fA-F]{2}|\\u[0-9a-fA-F]{4}|\\.|[^\\]",
    re.DOTALL,
)
_ESCAPED_TEXT = re.compile(r"\\u(?!00[0-7])[0-9a-fA-F]{4}")


class JsonProblem(Exception):
    """Text that is not JSON; ``message`` is one line with the place."""

    def __init__(self, text: str, offset: int, what: str) -> None:
        """Describe ``what`` was wrong at ``offset``."""
        line = text.count("\n", 0, offset) + 1
        column = offset - text.rfind("\n", 0, offset)
        self.message = f"not valid JSON: {what} at line {line}, column {column}"
        super().__init__(self.message)


@dataclass(eq=False)
class Value:
    """One JSON value, text[start:end]; ``kind`` is its first character.

    ``items`` are the elements of an array, or the values of an object with ``keys`` beside them.
    """

    kind: str
    start: int
    end: int = -1
    keys: list[str] = field(default_factory=list)
    items: list[Value] = field(default_factory=list)

    def get(self, key: str) -> Value | None:
        """Return the member ``key`` of an object, the last of several; None if there is none."""
        for at in range(len(self.keys) - 1, -1, -1):
            if self.keys[at] == key:
                return self.items[at]
        return None


def scan(text: str) -> Value:
    """Return the value that ``text`` holds.

    Raises:
        JsonProblem: ``text`` is not one JSON value (NaN and Infinity are let pass, as in json).
    """
    try:
        return _scan(text)
    except IndexError:
        raise JsonProblem(text, len(text), "unexpected end") from None


def string(text: str, value: Value) -> str:
    """Return what the JSON string ``value`` says.

    Raises:
        JsonProblem: it holds a wrong escape or a bare control character.
    """
    return _decoded(text, value.start, value.end)


def units(text: str, value: Value) -> list[str]:
    """Return how each character of the JSON string ``value`` is spelled, one item a character."""
    return _UNIT.findall(text, value.start + 1, value.end - 1)


def spelled(text: str, *, ascii_only: bool) -> list[str]:
    """Return the spelling inside a JSON string of each character of ``text``."""
    return [json.dumps(c, ensure_ascii=ascii_only or "\ud800" <= c <= "\udfff")[1:-1] for c in text]


def writes_ascii(text: str) -> bool:
    """Tell whether the JSON ``text`` escapes every character beyond ASCII."""
    return text.isascii() and _ESCAPED_TEXT.search(text) is not None


def is_newline(unit: str) -> bool:
    r"""Tell whether a character's spelling stands for ``\n``."""
    return unit == "\\n" or unit.lower() == "\\u000a"


def _scan(text: str) -> Value:
    pos = _space(text, 0)
    open_values: list[Value] = []
    while True:
        value, pos = _begin(text, pos)
        if open_values:
            open_values[-1].items.append(value)
        if value.end < 0:
            open_values.append(value)
            pos = _space(text, pos)
            if text[pos] != _closer(value):
                pos = _key(text, pos, value)
                continue
        elif not open_values:
            return _finish(text, value, pos)
        # A value has ended, or text[pos] ends one.
        while True:
            pos = _space(text, pos)
            inner = open_values[-1]
            if text[pos] == _closer(inner):
                pos += 1
                inner.end = pos
                open_values.pop()
                if not open_values:
                    return _finish(text, inner, pos)
            elif text[pos] == ",":
                pos = _key(text, _space(text, pos + 1), inner)
                break
            else:
                raise JsonProblem(text, pos, f"expected ',' or '{_closer(inner)}'")


def _begin(text: str, pos: int) -> tuple[Value, int]:
    """Return the value at ``pos`` and where to go on; an array or object is left open."""
    first = text[pos]
    if first in "{[":
        return Value(first, pos), pos + 1
    if first == '"':
        end = _string_end(text, pos)
    else:
        found = _SCALAR.match(text, pos)
        if found is None:
            raise JsonProblem(text, pos, "expected a value")
        end = found.end()
    return Value(first, pos, end), end


def _key(text: str, pos: int, value: Value) -> int:
    """Read the key at ``pos`` if ``value`` is an object; return where its member's value starts."""
    if value.kind == "[":
        return pos
    if text[pos] != '"':
        raise JsonProblem(text, pos, "expected a key in double quotes")
    end = _string_end(text, pos)
    value.keys.append(_decoded(text, pos, end))
    colon = _space(text, end)
    if text[colon] != ":":
        raise JsonProblem(text, colon, "expected ':'")
    return _space(text, colon + 1)


def _finish(text: str, value: Value, pos: int) -> Value:
    end = _space(text, pos)
    if end != len(text):
        raise JsonProblem(text, end, "more text after the end")
    return value


def _closer(value: Value) -> str:
    return "}" if value.kind == "{" else "]"


def _space(text: str, pos: int) -> int:
    found = _SPACE.match(text, pos)
    return found.end() if found else pos


def _string_end(text: str, start: int) -> int:
    """Return where the string that starts at ``start`` ends, quotes included."""
    at = start
    while True:
        at = text.find('"', at + 1)
        if at < 0:
            raise JsonProblem(text, start, "unterminated string")
        before = at
        while text[before - 1] == "\\":
            before -= 1
        if (at - before) % 2 == 0:
            return at + 1


def _decoded(text: str, start: int, end: int) -> str:
    try:
        return str(json.loads(text[start:end]))
    except ValueError:
        raise JsonProblem(
            text, start, "a string with a wrong escape or control character"
        ) from None
