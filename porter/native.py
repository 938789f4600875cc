"""C++ text: what it binds for Python, and its code without comments and strings.

Bindings are those of pybind11 (https://pybind11.readthedocs.io/en/stable/basics.html) and of
torch's library macros (https://docs.pytorch.org/docs/stable/library.html).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass

_TOKENS = re.compile(
    r"//(?:\\(?:\r\n|\n|\r)|[^\r\n])*|/\*.*?(?:\*/|\Z)"
    r'|R"(?P<tag>[^()\\ \t\r\n]{0,16})\(.*?\)(?P=tag)"'
    r'|"(?:[^"\\\r\n]|\\.)*"'
    r"|'(?:[^'\\\r\n]|\\.){1,8}'",
    re.DOTALL,
)
_MODULE = re.compile(r"\bPYBIND11_MODULE\s*\(\s*(\w+)\s*,\s*(\w+)\s*\)")
_LIBRARY = re.compile(
    r"\bTORCH_LIBRARY(?:_FRAGMENT|_IMPL)?\s*\(\s*(\w+)\s*,\s*(?:(\w+)\s*,\s*)?(\w+)\s*\)"
)
_DEFINED = re.compile(r"\b\w+\s*\.\s*(?:def|impl)\s*\(\s*(?:TORCH_SELECTIVE_NAME\s*\(\s*)?\"")
_QUOTED = re.compile(r'"((?:[^"\\]|\\.)*)"')
_OPERATOR = re.compile(r"(?:(\w+)::)?(\w+)")


@dataclass(frozen=True)
class Export:
    """A function that C++ offers to Python.

    Args:
        name: what Python calls.
        module: the library of torch.ops that holds it; empty for a pybind11 module.
        offset: where it is bound.
    """

    name: str
    module: str
    offset: int


def code_of(text: str, *, strings: bool = True) -> str:
    """The text with comments (and strings, unless kept) blanked out, of the same length."""

    def blank(found: re.Match[str]) -> str:
        token = found.group()
        if strings and token[0] in "\"'R":
            return token
        return re.sub(r"[^\r\n]", " ", token)

    return _TOKENS.sub(blank, text)


def exports(text: str) -> tuple[Export, ...]:
    """Every function that the text binds, in order, each name once."""
    if "PYBIND11_MODULE" not in text and "TORCH_LIBRARY" not in text:
        return ()
    code = code_of(text)
    found: dict[tuple[str, str], Export] = {}
    blocks = sorted(
        [(m.end(), "") for m in _MODULE.finditer(code)]
        + [(m.end(), m[1]) for m in _LIBRARY.finditer(code)]
    )
    for position, (start, module) in enumerate(blocks):
        stop = blocks[position + 1][0] if position + 1 < len(blocks) else len(code)
        for defined in _DEFINED.finditer(code, start, stop):
            quoted = _QUOTED.match(code, defined.end() - 1)
            operator = _OPERATOR.match(quoted[1]) if quoted else None
            if operator is not None:
                export = Export(operator[2], module, defined.start())
                found.setdefault((module, export.name), export)
    return tuple(found.values())


def callers(names: Iterable[str], files: Iterable[tuple[str, bytes]]) -> Mapping[str, list[str]]:
    """Where Python files call such names: `anything.name(` or `name(` where it is imported.

    The name is all there is to go by: a method of the same name counts as well.

    Args:
        names: of functions bound in C++.
        files: the shown path and the bytes of each Python file.
    """
    wanted = sorted({n for n in names if len(n) > 3 and not n.startswith("__")})
    found: dict[str, list[str]] = {}
    if not wanted:
        return found
    pattern = re.compile(
        rf"(?<!def )(?<!\w)({'|'.join(map(re.escape, wanted))})\s*(?=[(.])".encode()
    )
    imported = re.compile(rb"\bimport\b[^\n#]*")
    for shown, data in files:
        for match in _calls(pattern, imported, data):
            line = data.count(b"\n", 0, match.start()) + 1
            found.setdefault(match[1].decode(), []).append(f"{shown}:{line}")
    return found


def _calls(
    pattern: re.Pattern[bytes], imported: re.Pattern[bytes], data: bytes
) -> Iterator[re.Match[bytes]]:
    brought = b" ".join(imported.findall(data))
    for match in pattern.finditer(data):
        dotted = data[match.start() - 1 : match.start()] == b"."
        if dotted or re.search(rb"\b" + re.escape(match[1]) + rb"\b", brought):
            yield match
