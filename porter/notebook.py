"""Jupyter notebooks as one Python text, and changes of that text back in the notebook's bytes.

The format is described at https://nbformat.readthedocs.io/en/latest/format_description.html
(version 4; version 3 keeps cells in worksheets and calls the source "input").

The JSON is never written anew: its strings are located, and only the characters that change are
replaced, in the style of escapes that the file uses.
"""

from __future__ import annotations

import ast
import bisect
import re
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple, Protocol

from porter import ipython
from porter.jsonspan import (
    JsonProblem,
    Value,
    is_newline,
    scan,
    spelled,
    string,
    units,
    writes_ascii,
)
from porter.patch import changes
from porter.source import Source, SourceProblem, decode_text

_LINE_END = re.compile(r"\r\n|\r|\n")


class TextEdit(Protocol):
    """Anything with ``start``, ``end`` and ``text``: replace text[start:end]."""

    @property
    def start(self) -> int:
        """First character replaced."""

    @property
    def end(self) -> int:
        """Character after the last one replaced."""

    @property
    def text(self) -> str:
        """What stands there instead."""


class CellPosition(NamedTuple):
    """A place in a notebook: cell from 0 (all cells counted), line from 1, column from 0."""

    cell_index: int
    line: int
    column: int


@dataclass(frozen=True)
class Magic:
    """IPython syntax that ``Notebook.text`` hides: ``text`` stands at ``start``:``end``."""

    start: int
    end: int
    text: str
    cell_index: int


@dataclass(frozen=True)
class _Edit:
    """A plain ``TextEdit``."""

    start: int
    end: int
    text: str


@dataclass(frozen=True)
class _Cell:
    """One code cell: ``value`` is its source in the JSON, a string or an array of ``strings``."""

    index: int
    value: Value
    strings: tuple[Value, ...]
    source: str


@dataclass(frozen=True)
class _Placed:
    """A cell's place in the joined text, and what is hidden of it there."""

    cell: _Cell
    start: int
    hidden: tuple[tuple[int, int], ...]

    @property
    def end(self) -> int:
        return self.start + len(self.cell.source)


def parse_python(text: str) -> ast.Module:
    """Parse ``text`` without the warnings that belong to the user's code."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


class Notebook:
    """The code cells of a notebook as one Python text.

    Between two cells stands a comment line of its own. Offsets into ``text`` are offsets into the
    cells' sources too: what is hidden there is replaced by as many other characters.

    Attributes:
        text: the joined cells.
        magics: IPython's magics, commands and help requests, hidden in ``text``, in order.
        unparsed: (index, message) of each cell that is not Python, hidden as a whole.
    """

    text: str
    magics: tuple[Magic, ...]
    unparsed: tuple[tuple[int, str], ...]

    def __init__(
        self, source: Source, cells: Sequence[_Cell], parse: Callable[[str], object]
    ) -> None:
        """Use ``parse`` instead."""
        self._source = source
        self._cells = tuple(cells)
        self._parse = parse
        self._mark = _unused_mark(cells)
        magics: list[Magic] = []
        unparsed: list[tuple[int, str]] = []
        placed: list[_Placed] = []
        pieces: list[str] = []
        offset = 0
        for cell in cells:
            if placed:
                pieces.append(self._separator(cell))
                offset += len(pieces[-1])
            shown, spans, problem = _shown(cell.source, parse, len(magics))
            magics += [
                Magic(offset + s.start, offset + s.end, cell.source[s.start : s.end], cell.index)
                for s in spans
            ]
            hidden = tuple((offset + s.start, offset + s.end) for s in spans)
            if problem is not None:
                unparsed.append((cell.index, problem))
                hidden = ((offset, offset + len(cell.source)),)
            placed.append(_Placed(cell, offset, hidden))
            pieces.append(shown)
            offset += len(shown)
        self.text = "".join(pieces)
        self.magics = tuple(magics)
        self.unparsed = tuple(unparsed)
        self._placed = tuple(placed)
        self._starts = [place.start for place in placed]
        self._lines: dict[int, list[int]] = {}

    @classmethod
    def parse(cls, data: bytes, parse: Callable[[str], object] = parse_python) -> Notebook:
        """Read a notebook.

        Args:
            data: the notebook file's bytes.
            parse: raises an exception for text that is not Python.

        Raises:
            SourceProblem: not a notebook of format 2 to 4, or not one in Python.
        """
        source = decode_text("", data)
        notebook = cls(source, list(_code_cells(source.text)), parse)
        problem = _problem(notebook.text, parse)
        if problem is not None:
            raise SourceProblem(f"the cells together are not valid Python: {problem}")
        return notebook

    def locate(self, offset: int) -> CellPosition:
        """Return the cell, line and column of a character offset into ``text``.

        An offset between two cells counts as the end of the first.

        Raises:
            ValueError: the notebook has no code cell.
        """
        if not self._placed:
            raise ValueError("the notebook has no code cell")
        place = self._placed[max(bisect.bisect_right(self._starts, offset) - 1, 0)]
        inside = max(min(offset, place.end) - place.start, 0)
        if place.start not in self._lines:
            found = [0, *(end.end() for end in _LINE_END.finditer(place.cell.source))]
            self._lines[place.start] = found
        starts = self._lines[place.start]
        line = bisect.bisect_right(starts, inside)
        return CellPosition(place.cell.index, line, inside - starts[line - 1])

    def apply(self, edits: Sequence[TextEdit]) -> bytes:
        """Return the notebook's bytes with ``edits`` of ``text`` made in its cells.

        Nothing outside the changed strings differs, nor do unchanged characters in them. An edit
        may lie within something hidden, and then replaces what really stands there.

        Raises:
            SourceProblem: an edit reaches beyond its cell or into something hidden, or edits
                overlap.
        """
        return self._applied(edits, hidden_too=True)

    def rewrite(self, text: str) -> bytes:
        """Return the notebook's bytes with ``text`` in place of ``self.text``.

        Raises:
            SourceProblem: ``text`` lacks a line that separates two cells, or changes something
                hidden.
        """
        edits = list(self._edits(text))
        data = self._applied(edits, hidden_too=False)
        # Proves that nothing hidden was taken for code, and that the edits were the right ones.
        if edits and Notebook.parse(data, self._parse).text != text:
            raise SourceProblem("the change cannot be written back into the cells; left alone")
        return data

    def _separator(self, cell: _Cell) -> str:
        return f"\n{self._mark} {cell.index}\n"

    def _edits(self, text: str) -> Iterator[_Edit]:
        """Yield the edits that make ``text`` of ``self.text``, cell by cell."""
        rest = text
        for place, following in zip(self._placed, [*self._placed[1:], None], strict=True):
            new = rest
            if following is not None:
                separator = self._separator(following.cell)
                if rest.count(separator) != 1:
                    raise SourceProblem("the change removes the border between two cells")
                new, _, rest = rest.partition(separator)
            yield from _differences(self.text[place.start : place.end], new, place.start)

    def _applied(self, edits: Sequence[TextEdit], *, hidden_too: bool) -> bytes:
        by_place: dict[int, list[_Edit]] = {}
        last = 0
        for edit in sorted(edits, key=lambda edit: (edit.start, edit.end)):
            if edit.start < last or edit.end < edit.start:
                raise SourceProblem("two changes overlap")
            last = edit.end
            at = bisect.bisect_right(self._starts, edit.start) - 1
            if at < 0 or edit.end > self._placed[at].end:
                raise SourceProblem("a change reaches beyond its cell")
            place = self._placed[at]
            _check_hidden(edit, place.hidden, hidden_too)
            moved = _Edit(edit.start - place.start, edit.end - place.start, edit.text)
            by_place.setdefault(at, []).append(moved)
        old = self._source.text
        writer = _Writer(old, writes_ascii(old), _inline_gap(old, self._cells))
        replacements: list[tuple[int, int, str]] = []
        expected = [cell.source for cell in self._cells]
        for at, own in by_place.items():
            replacements += writer.replacements(self._placed[at].cell, own)
            expected[at] = _edited(expected[at], own)
        new = _spliced(old, replacements)
        if by_place and [cell.source for cell in _code_cells(new)] != expected:
            raise SourceProblem("the change cannot be written back into the cells; left alone")
        return self._source.encode(new)


def _code_cells(text: str) -> Iterator[_Cell]:
    """Yield the Python cells of the notebook that the JSON ``text`` holds."""
    if not text.strip():
        raise SourceProblem("the notebook is empty")
    try:
        root = scan(text)
        version = _version(text, root)
        _check_language(text, root)
        holders = [root] if version >= 4 else _items(root.get("worksheets"))
        cells = [cell for holder in holders for cell in _items(holder.get("cells"))]
        for index, cell in enumerate(cells):
            value = cell.get("source" if version >= 4 else "input")
            if _text(text, cell.get("cell_type")) == "code" and value is not None:
                language = _text(text, _path(cell, "metadata", "vscode", "languageId"))
                if _is_python(language or _text(text, cell.get("language"))):
                    yield _cell(text, index, value)
    except JsonProblem as problem:
        raise SourceProblem(problem.message) from None


def _cell(text: str, index: int, value: Value) -> _Cell:
    strings = (value,) if value.kind == '"' else tuple(value.items)
    if value.kind not in '"[' or any(item.kind != '"' for item in strings):
        raise SourceProblem(f"cell {index}: the source is not text")
    return _Cell(index, value, strings, "".join(string(text, item) for item in strings))


def _version(text: str, root: Value) -> int:
    value = root.get("nbformat")
    number = text[value.start : value.end] if value is not None else ""
    if not number.isdigit():
        raise SourceProblem("not a Jupyter notebook: it names no format version")
    if number not in {"2", "3", "4"}:
        raise SourceProblem(f"notebook format {number} is not supported (2 to 4 are)")
    return int(number)


def _check_language(text: str, root: Value) -> None:
    for path in (("kernelspec", "language"), ("language_info", "name")):
        language = _text(text, _path(root, "metadata", *path))
        if not _is_python(language):
            raise SourceProblem(f"the notebook's language is {language}, not Python")


def _is_python(language: str) -> bool:
    return not language or re.fullmatch(r"i?python[\d.]*", language.strip().lower()) is not None


def _path(value: Value | None, *keys: str) -> Value | None:
    for key in keys:
        value = value.get(key) if value is not None else None
    return value


def _items(value: Value | None) -> list[Value]:
    return value.items if value is not None and value.kind == "[" else []


def _text(text: str, value: Value | None) -> str:
    return string(text, value) if value is not None and value.kind == '"' else ""


def _unused_mark(cells: Sequence[_Cell]) -> str:
    mark = "# %% cell"
    while any(mark in cell.source for cell in cells):
        mark = mark.replace("%%", "%%%", 1)
    return mark


def _shown(
    source: str, parse: Callable[[str], object], first: int
) -> tuple[str, list[ipython.Span], str | None]:
    """Return a cell's text to show, the IPython syntax hidden in it, and why it is all hidden."""
    if _problem(source, parse) is None:
        return source, [], None
    spans = ipython.hidden(source)
    shown = ipython.masked(source, spans, first)
    problem = _problem(shown, parse)
    return (shown if problem is None else ipython.blanked(source)), spans, problem


def _problem(text: str, parse: Callable[[str], object]) -> str | None:
    """Return why ``parse`` refuses ``text``."""
    try:
        parse(text)
    except SyntaxError as problem:
        return f"line {problem.lineno}: {problem.msg}" if problem.lineno else problem.msg
    except Exception as problem:  # the caller's own exceptions, or nesting too deep
        return (str(problem) or type(problem).__name__).splitlines()[0]
    return None


def _check_hidden(edit: TextEdit, hidden: Sequence[tuple[int, int]], hidden_too: bool) -> None:
    for start, end in hidden:
        within = start <= edit.start and edit.end <= end
        if edit.start < end and start < edit.end and not (hidden_too and within):
            raise SourceProblem("a change touches a magic, a command or a cell that is not Python")


def _differences(old: str, new: str, offset: int) -> Iterator[_Edit]:
    """Yield edits that make ``new`` of ``old``, which starts at ``offset``."""
    before, after = old.splitlines(keepends=True), new.splitlines(keepends=True)
    starts = [0]
    for line in before:
        starts.append(starts[-1] + len(line))
    for block in changes(before, after):
        if block.b - block.a == block.d - block.c:
            pairs = [
                (i, i + 1, after[j])
                for i, j in zip(range(block.a, block.b), range(block.c, block.d), strict=True)
            ]
        else:
            pairs = [(block.a, block.b, "".join(after[block.c : block.d]))]
        for a, b, text in pairs:
            yield _trimmed(_Edit(offset + starts[a], offset + starts[b], text), old, offset)


def _trimmed(edit: _Edit, old: str, offset: int) -> _Edit:
    """Return ``edit`` without the characters at both ends that it does not change."""
    gone, text = old[edit.start - offset : edit.end - offset], edit.text
    limit = min(len(gone), len(text))
    head = next((i for i in range(limit) if gone[i] != text[i]), limit)
    limit -= head
    tail = next((i for i in range(limit) if gone[-1 - i] != text[-1 - i]), limit)
    return _Edit(edit.start + head, edit.end - tail, text[head : len(text) - tail])


def _edited(text: str, edits: Sequence[_Edit]) -> str:
    return _spliced(text, [(edit.start, edit.end, edit.text) for edit in edits])


def _spliced(text: str, replacements: Sequence[tuple[int, int, str]]) -> str:
    pieces: list[str] = []
    last = 0
    for start, end, new in sorted(replacements, key=lambda replacement: replacement[:2]):
        pieces += [text[last:start], new]
        last = end
    return "".join([*pieces, text[last:]])


def _inline_gap(text: str, cells: Sequence[_Cell]) -> str:
    """Return what stands between two strings of a source somewhere, for arrays on one line."""
    for cell in cells:
        for left, right in pairwise(cell.strings):
            if "\n" not in (gap := text[left.end : right.start]):
                return gap
    return ", "


@dataclass
class _Run:
    """Neighbouring strings of a source, items first to last, that edits change together."""

    first: int
    last: int
    edits: list[_Edit]


@dataclass(frozen=True)
class _Writer:
    """Turns edits of sources into replacements in the JSON ``text``."""

    text: str
    ascii_only: bool
    inline_gap: str

    def replacements(self, cell: _Cell, edits: Sequence[_Edit]) -> Iterator[tuple[int, int, str]]:
        """Yield replacements in the JSON that make the sorted ``edits`` of the cell's source."""
        if not cell.strings:
            lines = self._lines(spelled("".join(e.text for e in edits), ascii_only=self.ascii_only))
            new = self.inline_gap.join(f'"{line}"' for line in lines)
            yield cell.value.start + 1, cell.value.end - 1, new
            return
        starts = [0]
        for item in cell.strings:
            starts.append(starts[-1] + len(units(self.text, item)))
        runs = _runs(edits, starts[:-1])
        at = 0
        while at < len(runs):
            run = runs[at]
            spelling = self._spelling(cell, run, starts[run.first])
            if cell.value.kind == '"':
                yield cell.value.start + 1, cell.value.end - 1, "".join(spelling)
            elif self._needs_more(cell, run, spelling):
                run.last += 1
                if at + 1 < len(runs) and runs[at + 1].first == run.last:
                    following = runs.pop(at + 1)
                    run.last = following.last
                    run.edits += following.edits
                continue
            elif not spelling and at + 1 < len(runs) and runs[at + 1].first == run.last + 1:
                following = runs.pop(at + 1)
                run.last = following.last
                run.edits += following.edits
                continue
            else:
                yield self._strings(cell, run, self._lines(spelling))
            at += 1

    def _needs_more(self, cell: _Cell, run: _Run, spelling: list[str]) -> bool:
        """Tell whether the run lost its last line end, so that the next line belongs to it."""
        old = units(self.text, cell.strings[run.last])
        ended = bool(old) and is_newline(old[-1])
        ends = not spelling or is_newline(spelling[-1])
        return ended and not ends and run.last + 1 < len(cell.strings)

    def _spelling(self, cell: _Cell, run: _Run, offset: int) -> list[str]:
        """Return the run's characters after its edits, as spelled in JSON."""
        pieces = [
            unit
            for item in cell.strings[run.first : run.last + 1]
            for unit in units(self.text, item)
        ]
        for edit in reversed(run.edits):
            new = spelled(edit.text, ascii_only=self.ascii_only)
            pieces[edit.start - offset : edit.end - offset] = new
        return pieces

    def _lines(self, spelling: list[str]) -> list[str]:
        lines: list[str] = []
        start = 0
        for at, unit in enumerate(spelling, 1):
            if is_newline(unit) or at == len(spelling):
                lines.append("".join(spelling[start:at]))
                start = at
        return lines

    def _strings(self, cell: _Cell, run: _Run, lines: list[str]) -> tuple[int, int, str]:
        """Return the replacement that puts ``lines`` in place of the run's strings."""
        strings, text = cell.strings, self.text
        start, end = strings[run.first].start, strings[run.last].end
        if not lines:
            if run.last + 1 < len(strings):
                return start, strings[run.last + 1].start, ""
            if run.first > 0:
                return strings[run.first - 1].end, end, ""
            return start, end, '""'
        inner = strings[run.first : run.last + 1]
        gaps = [text[a.end : b.start] for a, b in pairwise(inner)]
        gaps += [self._gap(cell)] * (len(lines) - 1 - len(gaps))
        pieces = [f'"{lines[0]}"']
        for gap, line in zip(gaps[: len(lines) - 1], lines[1:], strict=True):
            pieces.append(f'{gap}"{line}"')
        return start, end, "".join(pieces)

    def _gap(self, cell: _Cell) -> str:
        """Return what to put between two strings of the cell's array."""
        strings = cell.strings
        if len(strings) > 1:
            return self.text[strings[0].end : strings[1].start]
        lead = self.text[cell.value.start + 1 : strings[0].start]
        return f",{lead}" if lead else self.inline_gap


def _runs(edits: Sequence[_Edit], starts: list[int]) -> list[_Run]:
    """Group sorted ``edits`` by the strings, beginning at ``starts``, that they change."""
    runs: list[_Run] = []
    for edit in edits:
        first = bisect.bisect_right(starts, edit.start) - 1
        last = max(first, bisect.bisect_left(starts, edit.end) - 1)
        if runs and first <= runs[-1].last:
            runs[-1].last = max(runs[-1].last, last)
            runs[-1].edits.append(edit)
        else:
            runs.append(_Run(first, last, [edit]))
    return runs
