"""Adding `# porter: ignore[CODE]` comments to code in bulk.

A comment goes to the end of the finding's line. Where the line ends inside a string or with a
backslash, it goes above the statement, which it then covers. The result is accepted only if the
code means the same and every finding is covered.
"""

from __future__ import annotations

import ast
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from porter.suppress import Suppressions, codes_of, with_codes
from porter.syntax import parse

_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")


@dataclass
class Layout:
    """What matters about the lines of a text, by 1-based number.

    Args:
        comments: where the comment of a line starts (0-based column).
        open: lines whose end lies inside a string.
        starts: the first line of the statement that a line belongs to.
    """

    comments: dict[int, int] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    starts: dict[int, int] = field(default_factory=dict)


def add(text: str, wanted: Mapping[int, Iterable[str]]) -> str | None:
    """The text with comments that silence these findings.

    Args:
        text: Python source.
        wanted: codes by 1-based line.

    Returns:
        None if that cannot be done with certainty.
    """
    lines = lines_of(text)
    try:
        found = layout(text)
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        return None
    above: dict[int, set[str]] = {}
    for number, codes in sorted(wanted.items()):
        if not 1 <= number <= len(lines):
            return None
        line = lines[number - 1]
        body = line.rstrip("\r\n")
        if number in found.comments:
            column = found.comments[number]
            known = codes_of(body[column:])
            comment = with_codes(body[column:], list(dict.fromkeys([*known, *sorted(codes)])))
            lines[number - 1] = body[:column] + comment + line[len(body) :]
        elif number in found.open or body.endswith("\\"):
            above.setdefault(found.starts.get(number, number), set()).update(codes)
        else:
            comment = with_codes("", sorted(codes))
            lines[number - 1] = f"{body.rstrip()}  {comment}{line[len(body) :]}"
    for number in sorted(above, reverse=True):
        lines.insert(number - 1, _own_line(lines[number - 1], sorted(above[number])))
    new = "".join(lines)
    shift = sorted(above)
    moved = {n + sum(s <= n for s in shift): codes for n, codes in wanted.items()}
    return new if _right(text, new, moved) else None


def _own_line(statement: str, codes: list[str]) -> str:
    body = statement.rstrip("\r\n")
    indent = body[: len(body) - len(body.lstrip())]
    return f"{indent}{with_codes('', codes)}{statement[len(body) :] or chr(10)}"


def lines_of(text: str) -> list[str]:
    """The lines of a text with their ends, as Python counts them."""
    return [m.group() for m in _LINE.finditer(text) if m.group()]


def layout(text: str) -> Layout:
    """What matters about the lines of a text.

    Raises:
        tokenize.TokenError, SyntaxError, ValueError, RecursionError: it cannot be read.
    """
    found = Layout()
    first = 0
    outer: list[int] = []  # first lines of f-strings under way
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokens = list(tokenize.generate_tokens(io.StringIO(text, newline="").readline))
    for token in tokens:
        name = tokenize.tok_name[token.type]
        if token.type == tokenize.COMMENT:
            found.comments[token.start[0]] = token.start[1]
        elif name.endswith("STRING_START"):
            outer.append(token.start[0])
        elif name.endswith("STRING_END"):
            found.open.update(range(outer.pop(), token.end[0]))
        elif token.type == tokenize.STRING:
            found.open.update(range(token.start[0], token.end[0]))
        if name in ("NL", "INDENT", "DEDENT", "COMMENT", "ENDMARKER"):
            continue
        if token.type == tokenize.NEWLINE:
            for line in range(first, token.start[0] + 1) if first else ():
                found.starts.setdefault(line, first)
            first = 0
        elif not first:
            first = token.start[0]
    return found


def _right(old: str, new: str, wanted: Mapping[int, Iterable[str]]) -> bool:
    """Whether the code means the same and all findings are covered."""
    silenced = Suppressions.read(new)
    if not all(silenced.covers(code, line) for line, codes in wanted.items() for code in codes):
        return False
    try:
        return ast.dump(parse(old)) == ast.dump(parse(new))
    except Exception:  # what does not parse is not touched
        return False
