"""Where comments stand in files other than Python, and where one can be put.

A comment is about a unit: the lines that belong together because no comment can stand at their
ends (a continued command, an instruction of a Dockerfile, a string over several lines). Grammars:
https://yaml.org/spec/1.2.2/#66-comments , https://toml.io/en/v1.0.0#comment ,
https://docs.docker.com/reference/dockerfile/#format ,
https://pip.pypa.io/en/stable/reference/requirements-file-format/#comments ,
https://www.gnu.org/software/make/manual/html_node/Makefile-Contents.html ,
https://cmake.org/cmake/help/latest/manual/cmake-language.7.html#comments ,
https://docs.python.org/3/library/configparser.html#supported-ini-file-structure
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

from porter.text_site import DATA, TextFile, TextProblem, kind_of

_PYTHON = (".py", ".pyi", ".pyw")
#: A comment to the shell that a scheduler of batch jobs takes as an option.
_DIRECTIVE = re.compile(r"#(?:SBATCH|PBS|BSUB|PJM|OAR|COBALT|\$)[ \t]+\S|#\$[ \t]*-")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")


@dataclass
class Layout:
    """What matters for comments about the lines of a text, by 1-based number.

    Args:
        comments: where the comment of a line starts (0-based column).
        open: lines at whose end no comment can stand.
        starts: the first line of the unit that a line belongs to, where that is another.
        ends: the last line of such a unit.
        inner: lines whose comments speak of them alone, such as those of a script in YAML.
        mark: how a comment begins; empty if the format has none.
        indented: whether a comment above a line may be indented like it.
    """

    comments: dict[int, int] = field(default_factory=dict)
    open: set[int] = field(default_factory=set)
    starts: dict[int, int] = field(default_factory=dict)
    ends: dict[int, int] = field(default_factory=dict)
    inner: set[int] = field(default_factory=set)
    mark: str = "#"
    indented: bool = True

    def unit(self, first: int, last: int) -> None:
        """Say that these lines belong together; units that overlap become one."""
        if self.starts.get(first, last) <= first and self.ends.get(first, first) >= last > first:
            return
        first = min(self.starts.get(n, n) for n in range(first, last + 1))
        last = max(self.ends.get(n, n) for n in range(first, last + 1))
        for number in range(first, last + 1):
            self.starts[number], self.ends[number] = first, last

    def closed(self, first: int, last: int) -> None:
        """Say that these lines belong together and only the last can have a comment."""
        self.unit(first, last)
        self.open.update(range(first, last))


def lines_of(text: str) -> list[str]:
    """The lines of a text with their ends, as Python counts them."""
    return [m.group() for m in _LINE.finditer(text) if m.group()]


def language(path: str) -> str:
    """What a file that was analysed is written in: "python", "notebook", or its kind."""
    name = path.rpartition("/")[2].lower()
    if name.endswith(_PYTHON):
        return "python"
    if name.endswith(".ipynb"):
        return "notebook"
    kind = kind_of(path)
    # Without a suffix, only scripts that name Python in their first line are read.
    return "python" if kind == "text" and "." not in name else kind


def layout(file: TextFile) -> Layout:
    """What matters for comments about the lines of a file.

    Raises:
        TextProblem: the file is not of its kind.
    """
    found = Layout(mark=mark(file))
    _READERS.get(file.kind, _plain)(file, found)
    return found


def mark(file: TextFile) -> str:
    """How comments begin that porter may write into a file; empty if it has none."""
    if file.kind == "json":
        return "//" if file.path.lower().endswith(".jsonc") else ""
    if file.kind == "native":
        return "//"
    return "#" if file.kind in _READERS else ""


def spoken(file: TextFile) -> Iterator[tuple[str, int, int, int, int]]:
    """The comments of a file: text, line, 0-based column, first and last line they speak of.

    A comment behind the end of a unit speaks of all of it, one within of its own line. One alone
    on its line speaks of the unit that follows, or within a unit of the next line. Where a file is
    not of its kind, what looks like a comment is taken for one.
    """
    lines = lines_of(file.text)
    try:
        found = layout(file)
    except TextProblem:
        found = Layout()
        _plain(file, found)
    following = _following(lines, found)
    for number, column in sorted(found.comments.items()):
        line = lines[number - 1].rstrip("\r\n")
        if line[:column].strip():
            first, last = _behind(found, number)
        else:
            about = following[number - 1]
            first, last = found.starts.get(about, about), found.ends.get(about, about)
            if first <= number:
                first = last = about
        yield line[column:], number, column, first, last


def _behind(found: Layout, number: int) -> tuple[int, int]:
    first, last = found.starts.get(number, number), found.ends.get(number, number)
    heads = number == first and number not in found.open
    whole = number not in found.inner and (number == last or heads)
    return (first, last) if whole else (number, number)


def _following(lines: list[str], found: Layout) -> list[int]:
    """For each line the next that is neither blank nor a comment alone; itself at the end."""
    answers: list[int] = []
    after = 0
    for number in range(len(lines), 0, -1):
        answers.append(after or number)
        line = lines[number - 1]
        if line[: found.comments.get(number, len(line))].strip():
            after = number
    return answers[::-1]


# Formats ----------------------------------------------------------------------------------------


def _plain(file: TextFile, found: Layout) -> None:
    """A format that is not followed: a mark at the start of a line or behind a blank."""
    marked = re.compile(r"(?:^|(?<=\s))(?:#|//)" if file.kind in ("json", "native") else
                        r"(?:^|(?<=\s))#")  # fmt: skip
    for number, line in enumerate(lines_of(file.text), 1):
        comment = marked.search(line)
        if comment is not None:
            found.comments[number] = comment.start()


def _data(file: TextFile, found: Layout) -> None:
    """YAML and TOML: a mark outside of every scalar."""
    hidden = _Hidden(file, found)
    for scalar in file.scalars:
        if scalar.style in ("literal", "folded"):
            if scalar.inner is not None:
                # Its lines are text; one that is run as shell may hold comments of its own.
                hidden.block(scalar.start, *scalar.inner)
        else:
            hidden.text(scalar.start, scalar.end)
    blank = r"(?:^|(?<=[ \t\r\n]))#" if file.kind == "yaml" else r"#"
    hidden.comments(re.compile(blank, re.MULTILINE))


@dataclass
class _Hidden:
    """Spans of a text in which a mark begins no comment."""

    file: TextFile
    found: Layout
    spans: list[tuple[int, int]] = field(default_factory=list)

    def text(self, start: int, end: int) -> None:
        """A string from start to end."""
        self.spans.append((start, end))
        first, last = self._lines(start, end)
        if last > first:
            self.found.closed(first, last)

    def block(self, start: int, body: int, end: int) -> None:
        """Lines of text from `body` to `end` below a header at `start`."""
        trimmed = len(self.file.text[body:end].rstrip())
        if not trimmed:
            return
        first, last = self._lines(start, body + trimmed)
        self.found.unit(first, last)
        self.found.open.update(range(first + 1, last + 1))
        self.found.inner.update(range(first + 1, last + 1))

    def _lines(self, start: int, end: int) -> tuple[int, int]:
        first = self.file.index.position(start)[0]
        return first, self.file.index.position(max(start, end - 1))[0]

    def comments(self, marked: re.Pattern[str]) -> None:
        """Take every mark outside of the spans as the start of a comment."""
        text, at, spans = self.file.text, 0, iter(sorted(self.spans))
        span = next(spans, None)
        while found := marked.search(text, at):
            start = found.end() - len(found.group().lstrip())
            while span is not None and span[1] <= start:
                span = next(spans, None)
            if span is not None and span[0] <= start:
                at = span[1]
                continue
            line, column = self.file.index.position(start)
            self.found.comments[line] = column - 1
            rest = re.compile(r"[\r\n]").search(text, start)
            at = rest.end() if rest else len(text)


def _shell(file: TextFile, found: Layout) -> None:
    script, position = file.script(), file.index.position
    for start, end in script.comments:
        line, column = position(start)
        if _DIRECTIVE.match(file.text, start, end):
            # Schedulers read these lines; what may stand behind an option differs.
            inside = re.compile(r"[ \t]#").search(file.text, start, end)
            found.open.add(line)
            if inside is None:
                continue
            column += inside.end() - 1 - start
        found.comments[line] = column - 1
    for command in script.commands:
        found.closed(position(command.start)[0], position(max(command.end - 1, 0))[0])
    for start, end in script.bodies:
        first, last = position(start)[0], position(end)[0]  # that of the delimiter
        found.unit(max(first - 1, 1), last)
        found.open.update(range(first, last + 1))
    _continued(file, found)
    name = file.path.rpartition("/")[2].lower()
    if name.startswith(".env") or name.endswith(".env"):
        # Some readers of such files take a comment behind a value for a part of it.
        found.open.update(range(1, len(lines_of(file.text)) + 1))


def _continued(file: TextFile, found: Layout) -> None:
    """Lines that end with a backslash belong to the next."""
    lines = lines_of(file.text)
    first = 0  # of the lines under way
    for number, line in enumerate(lines, 1):
        if line.rstrip("\r\n").endswith("\\") and number not in found.comments:
            first = first or number
            if number < len(lines):
                continue
        if first:
            found.closed(first, number)
        first = 0


def _requirements(file: TextFile, found: Layout) -> None:
    _plain(file, found)
    _continued(file, found)


def _dockerfile(file: TextFile, found: Layout) -> None:
    """Comments have lines of their own; behind a command of RUN the shell takes them as such."""
    _plain(file, found)
    for instruction in file.instructions:
        first = file.index.position(instruction.start)[0]
        last = file.index.position(max(instruction.end - 1, instruction.start))[0]
        found.unit(first, last)
        found.open.update(range(first, last + 1))


def _above_only(file: TextFile, found: Layout) -> None:
    """INI files and makefiles: behind a value a comment would become part of it."""
    _plain(file, found)
    found.open.update(range(1, len(lines_of(file.text)) + 1))
    if file.kind == "make":
        found.indented = False  # below a target, an indented comment is run
        _continued(file, found)
        defined = 0  # the first line of the definition under way
        for number, line in enumerate(lines_of(file.text), 1):
            word = re.match(r"[ \t]*(define|endef)\b", line)
            if word is not None and word[1] == "define":
                defined = defined or number
            elif word is not None and defined:
                found.unit(defined, number)
                defined = 0


# A long token that is never closed runs to the end: to look for its end again at each of many would
# take the square of the time.
_CMAKE = re.compile(
    r"#\[(?P<a>=*)\[(?:.*?\](?P=a)\]|.*)|\[(?P<b>=*)\[(?:.*?\](?P=b)\]|.*)"
    r"|\"(?:[^\"\\]|\\.)*\"|\\.|(?P<mark>#)",
    re.DOTALL,
)
_NATIVE = re.compile(
    r"/\*.*?(?:\*/|\Z)|(?<!\w)(?:u8|[uUL])?R\"(?P<a>[^()\\\s]{0,16})\((?:.*?\)(?P=a)\"|.*)"
    r"|\"(?:[^\"\\\r\n]|\\.)*\""
    r"|(?<!\w)'(?:[^'\\\r\n]|\\.)+'|(?P<mark>//)",
    re.DOTALL,
)


def _tokens(file: TextFile, found: Layout) -> None:
    """CMake, C++ and JSON with comments: strings and long comments hide the mark."""
    pattern, text, at = _CMAKE if file.kind == "cmake" else _NATIVE, file.text, 0
    while token := pattern.search(text, at):
        line, column = file.index.position(token.start())
        at = token.end()
        if token["mark"]:
            found.comments[line] = column - 1
            rest = re.compile(r"(?<!\\)(?:\r\n|\r|\n)").search(text, at)
            at = rest.start() if rest else len(text)
            found.closed(line, file.index.position(max(at - 1, token.start()))[0])
        else:
            found.closed(line, file.index.position(max(at - 1, token.start()))[0])
    _continued(file, found)


_READERS: dict[str, Callable[[TextFile, Layout], None]] = {
    "yaml": _data,
    "toml": _data,
    "ini": _above_only,
    "make": _above_only,
    "shell": _shell,
    "dockerfile": _dockerfile,
    "requirements": _requirements,
    "cmake": _tokens,
    "native": _tokens,
    "json": _tokens,
}


# Proof ------------------------------------------------------------------------------------------


def same(old: TextFile, new: TextFile) -> bool:
    """Whether two files say the same but for their comments."""
    try:
        return _content(old) == _content(new)
    except TextProblem:
        return False


def _content(file: TextFile) -> object:
    if file.kind in DATA:
        return [(s.path, s.value, s.is_key, s.document) for s in file.scalars]
    if file.kind == "shell":
        script = file.script()
        words = [tuple(w.raw for w in (*c.assignments, *c.words)) for c in script.commands]
        return words, [file.text[start:end] for start, end in script.bodies]
    if file.kind == "dockerfile":
        return [(i.name, file.text[i.body : i.end].rstrip()) for i in file.instructions]
    found = layout(file)
    lines = enumerate(lines_of(file.text), 1)
    code = [
        line[: found.comments[n]].rstrip() if n in found.comments else line.rstrip("\r\n")
        for n, line in lines
    ]
    return [line for line in code if line.strip()]
