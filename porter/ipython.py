"""IPython's additions to Python, hidden behind Python of the same length.

See https://ipython.readthedocs.io/en/stable/interactive/reference.html: magics (``%x``, ``%%x``),
shell commands (``!x``, ``y = !x``) and help (``?x``, ``x?``).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple

PYTHON_BODY = frozenset(
    {"time", "timeit", "capture", "prun", "memit", "debug", "wandb", "pyinstrument", "snakeviz"}
)
"""Cell magics that run the rest of the cell as Python in the notebook's own process."""

_NEWLINE = r"(?:\r\n|\r|\n)"
_BLANK_LINES = re.compile(rf"(?:[ \t\f]*{_NEWLINE})*")
_CELL_MAGIC = re.compile(r"%%[ \t]*([\w.]*)[^\r\n]*")
_INDENT = re.compile(r"[ \t\f]*")
_COMMAND = re.compile(rf"(?:\\{_NEWLINE}|[^\r\n])*")
_ASSIGNED = re.compile(
    r"(?:[\w., \t:*]|\[[^\[\]\r\n]*\]|\([^()\r\n]*\))+=[ \t]*(?=![^=]|%[A-Za-z_])"
)
_HELP_END = re.compile(r"\?{1,2}[ \t;]*(?=[\r\n]|$)")
_TOKEN = re.compile(
    rf"""(?P<string>\"\"\"|'''|["'])|(?P<comment>\#[^\r\n]*)|(?P<open>[(\[{{])|(?P<close>[)\]}}])"""
    rf"""|(?P<joined>\\{_NEWLINE})|(?P<newline>{_NEWLINE})|(?P<help>\?)"""
)
_STRING_REST = {
    quote: re.compile(rf"(?:[^\\]|\\.)*?{quote}", re.DOTALL) for quote in ('"""', "'''")
} | {
    quote: re.compile(rf"(?:[^\\\r\n{quote}]|\\(?:\r\n|.))*{quote}?", re.DOTALL) for quote in "\"'"
}
_NOT_NEWLINE = re.compile(r"[^\r\n]")


class Span(NamedTuple):
    """Hidden text[start:end]; ``value`` is true where an expression has to stand, not a statement.

    That is the right side of an assignment.
    """

    start: int
    end: int
    value: bool = False


def hidden(text: str) -> list[Span]:
    """Return the places in a cell that are IPython's own, in order."""
    start = _after_blank_lines(text, 0)
    spans: list[Span] = []
    while (magic := _CELL_MAGIC.match(text, start)) is not None:
        if magic.group(1) not in PYTHON_BODY:
            return [*spans, Span(start, len(text))]
        spans.append(Span(magic.start(), magic.end()))
        start = _after_blank_lines(text, magic.end())
    return [*spans, *_in_lines(text, start)]


def masked(text: str, spans: list[Span], first: int = 0) -> str:
    """Return ``text`` with ``spans`` replaced by Python of the same length and lines.

    Where it fits, the replacement carries a number from ``first`` on, so that no two are equal.
    """
    pieces: list[str] = []
    last = 0
    for number, span in enumerate(spans, first):
        pieces += [text[last : span.start], _filler(text[span.start : span.end], span, number)]
        last = span.end
    return "".join([*pieces, text[last:]])


def blanked(text: str) -> str:
    """Return ``text`` with everything but its line ends replaced by spaces."""
    return _NOT_NEWLINE.sub(" ", text)


def _filler(text: str, span: Span, number: int) -> str:
    blank = blanked(text)
    room = min(at for at in (text.find("\r"), text.find("\n"), len(text)) if at >= 0)
    for statement in (f"pass #{number}", "pass", "0"):
        filler = statement.replace("pass", "0") if span.value else statement
        if len(filler) <= room:
            return filler + blank[len(filler) :]
    return blank


def _after_blank_lines(text: str, start: int) -> int:
    found = _BLANK_LINES.match(text, start)
    return found.end() if found else start


def _in_lines(text: str, start: int) -> Iterator[Span]:
    """Yield the magics, commands and help requests in the lines from ``start`` on."""
    while start < len(text):
        indent = _INDENT.match(text, start)
        begin = indent.end() if indent else start
        span = _at_line_start(text, begin)
        if span is None:
            span, start = _logical_line(text, begin)
        else:
            start = span.end
            start += 2 if text.startswith("\r\n", start) else 1
        if span is not None:
            yield span


def _at_line_start(text: str, begin: int) -> Span | None:
    if text[begin : begin + 1] in {"%", "!", "?"}:
        return Span(begin, _command_end(text, begin))
    assigned = _ASSIGNED.match(text, begin)
    if assigned is not None:
        return Span(assigned.end(), _command_end(text, assigned.end()), value=True)
    return None


def _command_end(text: str, start: int) -> int:
    found = _COMMAND.match(text, start)
    return found.end() if found else start


def _logical_line(text: str, begin: int) -> tuple[Span | None, int]:
    """Return the request for help that the logical line is, if any, and where the next starts."""
    depth = 0
    at = begin
    span: Span | None = None
    while (token := _TOKEN.search(text, at)) is not None:
        at = token.end()
        match token.lastgroup:
            case "string":
                rest = _STRING_REST[token.group()].match(text, at)
                at = rest.end() if rest else len(text)
            case "open":
                depth += 1
            case "close":
                depth -= 1
            case "newline" if depth <= 0:
                return span, at
            case "help" if depth <= 0:
                end = _HELP_END.match(text, token.start())
                if end is not None:
                    span, at = Span(begin, end.end()), end.end()
            case _:
                pass
    return span, len(text)
