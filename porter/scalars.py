"""YAML, JSON, TOML and INI text as scalars, each with its path of keys and its place.

Nothing is written anew from a parsed tree: edits go to the spans found here, so that comments,
key order and layout survive by construction. PyYAML's events give exact marks and follow nesting
without recursion; JSON is scanned by `porter.jsonspan`; TOML is proven by tomllib first.
What is nested deeper than any settings are is not read: each scalar carries the keys above it.

https://yaml.org/spec/1.2.2/ , https://www.rfc-editor.org/rfc/rfc8259 , https://toml.io/en/v1.0.0
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

import yaml

from porter import jsonspan, toml

Path = tuple["str | int", ...]

#: libyaml is much faster than the same in Python, and both give the same events.
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


#: Levels of nesting, or keys above a scalar.
MAX_DEPTH = 200
_TOO_DEEP = f"nested deeper than {MAX_DEPTH} levels"


class DataProblem(Exception):
    """Text that is not of its format; `message` is one line, `line` the place."""

    def __init__(self, message: str, line: int = 1) -> None:
        """Keep what is wrong and on which 1-based line."""
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True)
class Scalar:
    """One scalar or key.

    Args:
        path: keys and positions from the top of its document; a key's own path ends with itself.
        value: what it says, as text, whatever its type.
        start: offset of its first character, quotes included.
        end: offset behind its last.
        style: "plain", "quoted", "literal" or "folded".
        is_key: whether it is the key of a mapping.
        inner: the span where `value` is written letter by letter; None if escapes are in it.
            For a literal or folded scalar: the span of its lines, indentation included.
        document: which document of a YAML stream.
    """

    path: Path
    value: str
    start: int
    end: int
    style: str = "plain"
    is_key: bool = False
    inner: tuple[int, int] | None = None
    document: int = 0

    @property
    def key(self) -> str:
        """The nearest key: its own, or that of the mapping entry that holds it; may be empty."""
        return next((k for k in reversed(self.path) if isinstance(k, str)), "")

    @property
    def listed(self) -> bool:
        """Whether it is an element of a list."""
        return not self.is_key and bool(self.path) and isinstance(self.path[-1], int)

    def below(self, *keys: str) -> bool:
        """Whether one of `keys` is among the keys above it."""
        return any(k in keys for k in self.path[:-1])


def read(kind: str, text: str) -> tuple[Scalar, ...]:
    """Every scalar and key of a text, in order.

    Args:
        kind: "yaml", "json", "toml" or "ini".
        text: decoded, without a byte order mark.

    Raises:
        DataProblem: it is not of that format.
    """
    readers = {"yaml": _yaml, "json": _json, "toml": _toml, "ini": _ini}
    return tuple(readers[kind](text))


# YAML -------------------------------------------------------------------------------------------


@dataclass
class _Open:
    """A mapping or sequence that is not closed yet."""

    path: Path
    mapping: bool
    count: int = 0
    key: str | None = None

    def place(self) -> tuple[Path, bool]:
        """The path of the next node in it, and whether that is a key; then move on."""
        if not self.mapping:
            self.count += 1
            return (*self.path, self.count - 1), False
        if self.key is None:
            return self.path, True
        path, self.key = (*self.path, self.key), None
        return path, False


def _yaml(text: str) -> Iterator[Scalar]:
    stack: list[_Open] = []
    document = -1
    try:
        for event in yaml.parse(text, Loader=_LOADER):
            if isinstance(event, yaml.DocumentStartEvent):
                document += 1
            elif isinstance(event, yaml.CollectionEndEvent):
                stack.pop()
            elif isinstance(event, yaml.NodeEvent):
                path, is_key = stack[-1].place() if stack else ((), False)
                if isinstance(event, yaml.CollectionStartEvent):
                    if is_key:  # a collection as a key
                        stack[-1].key, path = "?", (*path, "?")
                    mapping = isinstance(event, yaml.MappingStartEvent)
                    if len(stack) == MAX_DEPTH:
                        mark = event.start_mark
                        raise DataProblem(_TOO_DEEP, mark.line + 1 if mark else 1)
                    stack.append(_Open(path, mapping))
                    continue
                value = event.value if isinstance(event, yaml.ScalarEvent) else "*"
                if is_key:
                    stack[-1].key, path = value, (*path, value)
                if isinstance(event, yaml.ScalarEvent):
                    yield _yaml_scalar(text, event, path, is_key, document)
    except yaml.MarkedYAMLError as problem:
        mark = problem.problem_mark or problem.context_mark
        what = problem.problem or problem.context or "cannot be read"
        raise DataProblem(f"not valid YAML: {what}", mark.line + 1 if mark else 1) from None
    except (yaml.YAMLError, ValueError) as problem:
        at = getattr(problem, "position", 0)
        line = text.count("\n", 0, at) + 1 if isinstance(at, int) else 1
        raise DataProblem("not valid YAML: a character that it does not allow", line) from None


def _yaml_scalar(text: str, event: yaml.ScalarEvent, path: Path, key: bool, doc: int) -> Scalar:
    start = event.start_mark.index if event.start_mark else 0
    end = event.end_mark.index if event.end_mark else start
    style = {"|": "literal", ">": "folded", "": "plain"}.get(event.style or "", "quoted")
    inner: tuple[int, int] | None = None
    if style in ("literal", "folded"):
        body = text.find("\n", start, end)
        inner = (body + 1, end) if body >= 0 else None
    else:
        edge = 1 if style == "quoted" else 0
        if text[start + edge : end - edge] == event.value:
            inner = (start + edge, end - edge)
    return Scalar(path, event.value, start, end, style, key, inner, doc)


# JSON -------------------------------------------------------------------------------------------

_COMMENTED = re.compile(r"\"(?:[^\"\\]|\\.)*\"|//[^\r\n]*|/\*(?:.*?\*/|.*)", re.DOTALL)
_TRAILING = re.compile(r"\"(?:[^\"\\]|\\.)*\"|,(?=\s*[\]}])", re.DOTALL)
_LINE_OF = re.compile(r" at line (\d+), column \d+$")


def _json(text: str) -> Iterator[Scalar]:
    try:
        root = jsonspan.scan(text)
    except jsonspan.JsonProblem as problem:
        # Editors' settings are JSON with comments; what is hidden keeps its length.
        text = _TRAILING.sub(_blank, _COMMENTED.sub(_blank, text))
        try:
            root = jsonspan.scan(text)
        except jsonspan.JsonProblem:
            found = _LINE_OF.search(problem.message)
            line = int(found[1]) if found else 1
            raise DataProblem(_LINE_OF.sub("", problem.message), line) from None
    waiting: list[tuple[Path, jsonspan.Value]] = [((), root)]
    found_scalars: list[Scalar] = []
    while waiting:
        path, value = waiting.pop()
        if len(path) > MAX_DEPTH:
            raise DataProblem(_TOO_DEEP, text.count("\n", 0, value.start) + 1)
        if value.kind == "[":
            waiting += [((*path, i), item) for i, item in enumerate(value.items)]
        elif value.kind == "{":
            behind = value.start + 1
            for key, item in zip(value.keys, value.items, strict=True):
                at = text.index('"', behind)
                end = text.rindex('"', at, item.start) + 1
                found_scalars.append(_json_string(text, (*path, key), key, at, end, True))
                waiting.append(((*path, key), item))
                behind = item.end
        else:
            found_scalars.append(_json_scalar(text, path, value))
    yield from sorted(found_scalars, key=lambda s: s.start)


def _blank(found: re.Match[str]) -> str:
    token = found.group()
    return token if token[0] == '"' else re.sub(r"[^\r\n]", " ", token)


def _json_scalar(text: str, path: Path, value: jsonspan.Value) -> Scalar:
    if value.kind != '"':
        shown = text[value.start : value.end]
        return Scalar(path, shown, value.start, value.end, inner=(value.start, value.end))
    try:
        said = jsonspan.string(text, value)
    except jsonspan.JsonProblem as problem:
        found = _LINE_OF.search(problem.message)
        line = int(found[1]) if found else 1
        raise DataProblem(_LINE_OF.sub("", problem.message), line) from None
    return _json_string(text, path, said, value.start, value.end, False)


def _json_string(text: str, path: Path, said: str, start: int, end: int, key: bool) -> Scalar:
    inner = (start + 1, end - 1) if text[start + 1 : end - 1] == said else None
    return Scalar(path, said, start, end, "quoted", key, inner)


# TOML -------------------------------------------------------------------------------------------

_TOML_SPACE = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_TOML_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")
_TOML_STRING = re.compile(
    r'"""(?P<a>(?:[^\\]|\\.)*?"{0,2})"""(?!")'
    r"|'''(?P<b>.*?'{0,2})'''(?!')"
    r'|"(?P<c>(?:[^"\\]|\\.)*)"'
    r"|'(?P<d>[^']*)'",
    re.DOTALL,
)
_TOML_OTHER = re.compile(r"[^,\]}#\r\n]+")


def _toml(text: str) -> Iterator[Scalar]:
    try:
        toml.loads(text)
    except toml.TOMLDecodeError as problem:
        found = re.search(r" \(at line (\d+), column \d+\)$", str(problem))
        line = int(found[1]) if found else text.count("\n") + 1
        message = str(problem)[: found.start()] if found else str(problem)
        raise DataProblem(f"not valid TOML: {message}", line) from None
    return iter(_Toml(text).scalars())


class _Toml:
    """Scans text that is known to be valid."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.found: list[Scalar] = []
        self._tables: dict[Path, int] = {}

    def scalars(self) -> list[Scalar]:
        at = self._space(0)
        table: Path = ()
        while at < len(self.text):
            if self.text[at] == "[":
                array = self.text.startswith("[[", at)
                path, at = self._keys((), at + 1 + array, emit=False)
                at = self.text.index("]", at) + 1 + array
                table = path
                if array:
                    self._tables[path] = self._tables.get(path, -1) + 1
                    table = (*path, self._tables[path])
            else:
                at = self._pair(table, at)
            at = self._space(at)
        return self.found

    def _space(self, at: int) -> int:
        found = _TOML_SPACE.match(self.text, at)
        return found.end() if found else at

    def _pair(self, table: Path, at: int) -> int:
        path, at = self._keys(table, at, emit=True)
        return self._value(path, self._space(self.text.index("=", at) + 1))

    def _keys(self, path: Path, at: int, *, emit: bool) -> tuple[Path, int]:
        while True:
            at = self._space(at)
            quoted = _TOML_STRING.match(self.text, at)
            bare = _TOML_BARE_KEY.match(self.text, at)
            found = quoted or bare
            if found is None:  # never in valid text
                raise DataProblem("not valid TOML", self.text.count("\n", 0, at) + 1)
            value = self._said(found) if found is quoted else found.group()
            path = (*path, value)
            if emit:
                self._emit(path, value, found.span(), found is quoted, True)
            at = self._space(found.end())
            if not self.text.startswith(".", at):
                return path, at
            at += 1

    def _value(self, path: Path, at: int) -> int:
        if len(path) > MAX_DEPTH:
            raise DataProblem(_TOO_DEEP, self.text.count("\n", 0, at) + 1)
        if self.text[at] == "[":
            return self._items(path, at, "]")
        if self.text[at] == "{":
            return self._items(path, at, "}")
        if (string := _TOML_STRING.match(self.text, at)) is not None:
            self._emit(path, self._said(string), string.span(), True, False)
            return string.end()
        found = _TOML_OTHER.match(self.text, at)
        end = at + len(found.group().rstrip()) if found else at + 1
        self._emit(path, self.text[at:end], (at, end), False, False)
        return end

    def _items(self, path: Path, at: int, closer: str) -> int:
        at, count = self._space(at + 1), 0
        while self.text[at] != closer:
            at = self._value((*path, count), at) if closer == "]" else self._pair(path, at)
            count += 1
            at = self._space(at)
            if self.text[at] == ",":
                at = self._space(at + 1)
        return at + 1

    def _said(self, found: re.Match[str]) -> str:
        if found["b"] is not None or found["d"] is not None:
            return found["b"] if found["b"] is not None else found["d"]
        return str(toml.loads(f"x = {found.group()}")["x"])

    def _emit(self, path: Path, value: str, span: tuple[int, int], quoted: bool, key: bool) -> None:
        start, end = span
        edge = 0
        if quoted:
            edge = 3 if self.text.startswith(('"""', "'''"), start) and end - start >= 6 else 1
        plain = self.text[start + edge : end - edge] == value
        inner = (start + edge, end - edge) if plain else None
        style = "quoted" if quoted else "plain"
        self.found.append(Scalar(path, value, start, end, style, key, inner))


# INI --------------------------------------------------------------------------------------------

_INI_SECTION = re.compile(r"\[([^\]]+)\]")
_INI_PAIR = re.compile(r"([^\s=:#;\[][^=:]*?)[ \t]*[=:][ \t]*")


def _ini(text: str) -> Iterator[Scalar]:
    """Each line of a value is a scalar, as configparser and setuptools read lists."""
    section, key, count = "", "", 0
    for line in re.finditer(r"[^\r\n]+", text):
        start, content = line.start(), line.group()
        stripped = content.strip()
        if not stripped or stripped[0] in "#;":
            continue
        if content[0] not in " \t":
            found = _INI_SECTION.match(content)
            if found is not None:
                section, key = found[1], ""
                continue
            pair = _INI_PAIR.match(content)
            if pair is None:
                number = text.count("\n", 0, start) + 1
                raise DataProblem("not valid INI: neither a section nor a value", number)
            key, count = pair[1], 0
            yield Scalar((section, key), key, start, start + len(key), is_key=True,
                         inner=(start, start + len(key)))  # fmt: skip
            start, stripped = start + pair.end(), content[pair.end() :].strip()
        if stripped and key:
            at = text.index(stripped, start)
            span = (at, at + len(stripped))
            yield Scalar((section, key, count), stripped, *span, inner=span)
            count += 1
