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
    r'|(?<!\w)(?:u8|[uUL])?R"(?P<tag>[^()\\ \t\r\n]{0,16})\((?:.*?\)(?P=tag)"|.*)'
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
        if strings and token[0] != "/":
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


#: Names that extensions are bound to by habit: `_C`, `ops_ext`, `self.adam_op`, `ext_module`.
_HABIT = re.compile(
    rb"_+[A-Za-z]\w*|C|ext\w*|\w+_(?:ext|op|ops|plugin|backend|lib|cpp|kernels?|module)\d*"
)
_LOADED = re.compile(
    rb"(\w+)(?:\s*:\s*\w+)?\s*=\s*[\w.()\s]*?\b(?:load|load_inline|load_ext\w*|get_plugin|import_module)\s*\("
)
_IMPORTED = re.compile(
    rb"^[ \t]*from[ \t]+([\w.]+)[ \t]+import[ \t]+(\([^)]*\)|[^\n#]+)|^[ \t]*import[ \t]+([^\n#]+)",
    re.MULTILINE,
)


def callers(names: Iterable[str], files: Iterable[tuple[str, bytes]]) -> Mapping[str, list[str]]:
    """Where Python files call functions bound in C++, as far as names allow.

    A call counts if its receiver was loaded or imported as an extension, has a name that
    extensions are given by habit, or is `torch.ops`; or if the function itself was imported from
    such a module.

    Args:
        names: of functions bound in C++.
        files: the shown path and the bytes of each Python file.
    """
    wanted = sorted({n for n in names if not n.startswith("__")})
    found: dict[str, list[str]] = {}
    if not wanted:
        return found
    choice = "|".join(map(re.escape, wanted))
    receiver = r"(?<![\w.])((?:\w+(?:\([^()\n]*\))?\s*\.\s*)*)"
    called = re.compile(rf"{receiver}({choice})\s*\(".encode())
    # A search that begins with a literal is many times as fast as one that does not.
    signs = [re.compile(rf"{re.escape(name)}\s*\(".encode()) for name in wanted]
    for shown, data in files:
        if not any(sign.search(data) for sign in signs):
            continue
        for match in _calls(called, data):
            line = data.count(b"\n", 0, match.start(2)) + 1
            found.setdefault(match[2].decode(), []).append(f"{shown}:{line}")
    return found


def _calls(called: re.Pattern[bytes], data: bytes) -> Iterator[re.Match[bytes]]:
    receivers: set[bytes] | None = None
    imported: set[bytes] = set()
    for match in called.finditer(data):
        if b"#" in data[data.rfind(b"\n", 0, match.start()) + 1 : match.start()]:
            continue
        if receivers is None:
            receivers, imported = _bound(data)
        chain = [part.strip() for part in match[1].split(b".") if part.strip()]
        if not chain:
            if match[2] in imported and not data[: match.start()].rstrip(b" \t").endswith(b"def"):
                yield match
        elif (
            chain[:2] == [b"torch", b"ops"]
            or chain[-1] in receivers
            or chain[-1].startswith(b"load(")
            or (_HABIT.fullmatch(chain[-1]) and chain[-1] != b"self")
        ):
            yield match


def _bound(data: bytes) -> tuple[set[bytes], set[bytes]]:
    """The names bound to extensions in a file, and those of functions imported from one."""
    receivers = {found[1] for found in _LOADED.finditer(data)}
    functions: set[bytes] = set()
    for found in _IMPORTED.finditer(data):
        module = (found[1] or b"").rpartition(b".")[2]
        for item in re.split(rb"\s*,\s*", (found[2] or found[3]).strip(b"() \t\r\n")):
            original, _, local = item.partition(b" as ")
            if _HABIT.fullmatch(original.strip().rpartition(b".")[2]):
                receivers.add((local or original).strip())
            elif module and _HABIT.fullmatch(module):
                functions.add((local or original).strip())
    return receivers, functions
