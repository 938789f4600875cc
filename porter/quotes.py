"""New text within f-strings: before Python 3.12 it may not hold the quotes of the string around it.

https://peps.python.org/pep-0701/
"""

from __future__ import annotations

import ast
import re

from porter.module import Module

_OPENING = re.compile(r"([a-zA-Z]*)('''|\"\"\"|'|\")")
_BETWEEN = re.compile(r"(?:[ \t\f\r\n]|\\\r?\n|#[^\r\n]*)+")
_LITERAL = re.compile(r"([a-zA-Z]*)(['\"])((?:(?!\2)[^\\])*)\2")


def around(module: Module, start: int, end: int) -> tuple[str, ...]:
    """The quotes of the f-strings in which a span lies, outermost first."""
    found = []
    for node, (low, high) in module.once("f-strings", lambda: _strings(module)):
        if low < start and end < high:
            quote = _quote(module, node, start, end)
            if quote:
                found.append(quote)
    return tuple(found)


def fitted(text: str, quotes: tuple[str, ...]) -> str | None:
    """The text with quotes that may stand within `quotes`; None if there are none left."""
    if not any(quote in text for quote in quotes):
        return text
    free = [quote for quote in ("'", '"') if quote not in quotes]
    if not free:
        return None

    def requoted(literal: re.Match[str]) -> str:
        prefix, quote, body = literal.groups()
        return literal[0] if quote in free or free[0] in body else prefix + free[0] + body + free[0]

    text = _LITERAL.sub(requoted, text)
    return None if any(quote in text for quote in quotes) else text


def _strings(module: Module) -> list[tuple[ast.JoinedStr, tuple[int, int]]]:
    found = [n for n in ast.walk(module.tree) if isinstance(n, ast.JoinedStr)]
    return sorted(((n, module.span(n)) for n in found), key=lambda item: item[1])


def _quote(module: Module, node: ast.JoinedStr, start: int, end: int) -> str:
    """The quote of the literal that holds a span between its quotes; empty if none does.

    A literal ends at its own quote outside of its fields, which may hold anything.
    """
    fields = dict(module.span(v) for v in node.values if isinstance(v, ast.FormattedValue))
    text, (position, last) = module.text, module.span(node)
    while position < last:
        blank = _BETWEEN.match(text, position)
        position = blank.end() if blank else position
        opening = _OPENING.match(text, position)
        if opening is None:
            return ""
        begin = position = opening.end()
        quote = opening[2]
        while position < last and not text.startswith(quote, position):
            if position in fields:
                position = fields[position]
            else:
                position += 2 if text[position] == "\\" else 1
        if begin <= start and end <= position:
            return quote
        position += len(quote)
    return ""
