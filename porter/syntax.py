"""Parse Python source to ``ast`` nodes whose positions can be trusted for editing.

``parse`` is the only way porter reads Python. It gives the tree of ``ast.parse`` with three
additions:

* syntax newer than the running interpreter (PEP 695, 701, 750, 758, ``except*``) is read with
  LibCST and converted, with the positions a new enough interpreter would give;
* everything inside f-strings has its exact position on every Python (before 3.12 the interpreter
  gives wrong ones, see https://peps.python.org/pep-0701/#rationale);
* a failure is always a ``SyntaxProblem`` with one clear line, never a crash.

Positions inside an f-string follow one convention on every Python version:

* a ``FormattedValue`` spans ``{...}``, braces included; a format spec (``JoinedStr``) spans the
  text after its ``:`` up to the closing brace;
* a ``Constant`` part spans its source text without the quotes: in ``f"cuda:{i}"`` the constant
  spans ``cuda:``. Text is source text: escapes and ``{{`` are not decoded;
* where no single stretch of source is the constant (text merged from several literals of an
  implicit concatenation, or the echo of ``{x=}``), it spans from the first to the last
  contributing character, and ``exact_span`` answers False for it: report it, do not edit it;
* the ``JoinedStr`` itself spans the whole literal or concatenation, quotes and prefixes included.
"""

from __future__ import annotations

import ast
import re
import sys
import threading
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NoReturn, TypeVar

_T = TypeVar("_T")
_NEWLINE = re.compile(r"\r\n?|\n")
_BOM = "\ufeff"
TOO_DEEP = "nested too deeply to be analysed; split the expression or exclude this file"


class SyntaxProblem(Exception):
    """A file that cannot be analysed.

    ``line`` and ``column`` are 1-based and count characters; ``message`` is one line;
    ``python2`` is True when the text looks like Python 2.
    """

    def __init__(self, message: str, line: int, column: int, python2: bool = False) -> None:
        """Store the place and the reason."""
        super().__init__(message, line, column, python2)
        self.message = message
        self.line = line
        self.column = column
        self.python2 = python2

    def __str__(self) -> str:
        """Return ``line:column: message``."""
        return f"{self.line}:{self.column}: {self.message}"


class LineIndex:
    r"""Convert between ``ast`` positions and character offsets into one text.

    A line ends with ``\n``, ``\r\n`` or a lone ``\r``, as for the Python tokenizer; a form feed
    or U+2028 does not end a line.
    """

    def __init__(self, text: str) -> None:
        """Index the lines of ``text``."""
        self._text = text
        self._starts = [0]
        self._starts.extend(match.end() for match in _NEWLINE.finditer(text))
        self._ascii = text.isascii()
        # UTF-8 of the lines that are not ASCII; None for a line that is.
        self._encoded: dict[int, bytes | None] = {}

    @property
    def newline(self) -> str:
        """How the first line ends; a line feed where there is one line only."""
        found = _NEWLINE.search(self._text)
        return found[0] if found else "\n"

    def offset(self, lineno: int, utf8_col: int) -> int:
        """Return the character offset of ``ast``'s (``lineno``, ``col_offset``)."""
        start = self._starts[lineno - 1]
        if self._ascii:
            return start + utf8_col
        encoded = self._line_bytes(lineno)
        if encoded is None:
            return start + utf8_col
        return start + len(encoded[:utf8_col].decode("utf-8", "surrogatepass"))

    def position(self, offset: int) -> tuple[int, int]:
        """Return the 1-based (line, column in characters) of a character offset."""
        line = bisect_right(self._starts, offset)
        return line, offset - self._starts[line - 1] + 1

    def utf8_position(self, offset: int) -> tuple[int, int]:
        """Return ``ast``'s (``lineno``, ``col_offset``) of a character offset."""
        line = bisect_right(self._starts, offset)
        start = self._starts[line - 1]
        if self._ascii or self._line_bytes(line) is None:
            return line, offset - start
        return line, len(self._text[start:offset].encode("utf-8", "surrogatepass"))

    def line_start(self, line: int) -> int:
        """Return the character offset of the first character of 1-based ``line``."""
        return self._starts[line - 1]

    def lead(self, offset: int) -> str | None:
        """Return the space in front of what begins its line; None for what does not begin one.

        A line that a backslash joins to the one before does not begin anything.
        """
        start = self._starts[bisect_right(self._starts, offset) - 1]
        space = self._text[start:offset]
        before = self._text[max(start - 3, 0) : start]
        continued = before.rstrip("\r\n").endswith("\\")
        return None if space.strip() or continued else space

    def line_end(self, offset: int) -> int:
        """Return the offset of what ends the line of ``offset``: its newline, or the text's end."""
        following = bisect_right(self._starts, offset)
        if following == len(self._starts):
            return len(self._text)
        end = self._starts[following] - 1
        return end - (self._text[end] == "\n" and end > offset and self._text[end - 1] == "\r")

    def span(self, node: ast.AST) -> tuple[int, int]:
        """Return the character offsets (start, end) of a node that has a position.

        Raises AttributeError for a node without one (``arguments``, ``comprehension``, ...).
        """
        return (
            self.offset(node.lineno, node.col_offset),  # type: ignore[attr-defined]
            self.offset(node.end_lineno, node.end_col_offset),  # type: ignore[attr-defined]
        )

    def _line_bytes(self, line: int) -> bytes | None:
        try:
            return self._encoded[line]
        except KeyError:
            end = self._starts[line] if line < len(self._starts) else len(self._text)
            content = self._text[self._starts[line - 1] : end]
            encoded = None if content.isascii() else content.encode("utf-8", "surrogatepass")
            self._encoded[line] = encoded
            return encoded


def exact_span(node: ast.AST) -> bool:
    """Tell whether the position of ``node`` is the source of ``node`` and nothing else.

    False for nodes without a position and for those f-string parts that no single stretch of
    source text stands for (see the module's convention): such text must not be edited in place.
    """
    return hasattr(node, "lineno") and bool(getattr(node, "porter_exact", True))


def parse(text: str) -> ast.Module:
    """Parse ``text`` to a module whose node positions are exact.

    Raises SyntaxProblem, and nothing else, when the text cannot be analysed.
    """
    # Three form feeds take the place of the three UTF-8 bytes of a byte order mark: the
    # tokenizer skips them without counting an indent, so columns refer to the text as given.
    source = "\f\f\f" + text[1:] if text.startswith(_BOM) else text
    source = without_data(source)
    _refuse_too_much(source)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes and the like: not for us to say
        return _parse(text, source)


def _parse(text: str, source: str) -> ast.Module:
    if sys.version_info < (3, 11) and len(source) > _MAY_BE_DEEP:
        # There `ast.parse` makes nodes without counting how deep they are, and the process dies.
        if _depth(_mask(source)) > _MAX_NODES:
            raise SyntaxProblem(TOO_DEEP, 1, 1)
    try:
        tree = ast.parse(source)
        reparse = sys.version_info < (3, 12)
    except SyntaxError as error:
        tree, reparse = _parse_newer(text, error), False
    except (RecursionError, MemoryError):
        raise SyntaxProblem(TOO_DEEP, 1, 1) from None
    except ValueError as error:
        _raise_value_problem(text, error)
    _refuse_python2_that_parses(text, tree)
    if _MAY_HAVE_FSTRING.search(text):
        try:
            _FStringPositions(text, reparse).correct(tree)
        except RecursionError:
            raise SyntaxProblem(TOO_DEEP, 1, 1) from None
    return tree


#: Long runs of numbers are looked for in texts of so many characters, and have so many themselves.
_WITH_DATA, _DATA = 100_000, 10_000
_NUMBER = r"[-+]?(?:0[xX][\da-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][-+]?\d+)?)"
#: At most so many at a time, since `re` remembers every round; runs that touch are one.
_NUMBERS = re.compile(rf"(?:{_NUMBER}\s*,\s*){{1,500}}")
_IN_LINE = re.compile(r"[^\r\n]+")


def without_data(text: str) -> str:
    """Blank all numbers but the first and the last of long runs, which are data and no code.

    A node of ``ast`` takes some 500 bytes, the number that it stands for takes 5 in the text. All
    other positions stay what they are.
    """
    if len(text) < _WITH_DATA:
        return text
    pieces: list[str] = []
    last = 0
    for start, end in _runs(text):
        start = text.index(",", start) + 1  # what stands before the first number may belong to it
        pieces += [text[last:start], _IN_LINE.sub(lambda m: " " * len(m[0]), text[start:end])]
        last = end
    return "".join([*pieces, text[last:]]) if pieces else text


#: More words of code than these, some 200,000 dense lines, take more than 1.5 GB as a tree.
_MAX_WORDS = 900_000
_WORD = re.compile(r"\w+")


def _refuse_too_much(text: str) -> None:
    """Raise for a text whose tree would fill the memory; strings and comments do not count."""
    if len(text) < 2 * _MAX_WORDS:
        return
    words = sum(1 for _ in _WORD.finditer(_mask(text)))
    if words > _MAX_WORDS:
        message = (
            f"holds {words:,} words of code, more than porter takes into memory "
            f"({_MAX_WORDS:,}); split the file or exclude it"
        )
        raise SyntaxProblem(message, 1, 1)


def _runs(text: str) -> Iterator[tuple[int, int]]:
    """Where long runs of numbers, each with a comma, begin and end."""
    start = end = 0
    for found in _NUMBERS.finditer(text):
        if found.start() != end:
            if end - start >= _DATA:
                yield start, end
            start = found.start()
        end = found.end()
    if end - start >= _DATA:
        yield start, end


def _raise_value_problem(text: str, error: ValueError) -> NoReturn:
    """Report what ``ast.parse`` refuses before it reads syntax: null bytes, lone surrogates."""
    found = re.search("[\0\ud800-\udfff]", text)
    line, column = LineIndex(text).position(found.start() if found else 0)
    what = "a null byte" if found and found[0] == "\0" else "a character that is not Unicode text"
    message = f"the file contains {what}; is it a Python source file?" if found else str(error)
    raise SyntaxProblem(message, line, column) from None


# --- syntax the running interpreter refuses -------------------------------------------------


def _parse_newer(text: str, error: SyntaxError) -> ast.Module:
    """Read ``text``, which ``ast.parse`` refused with ``error``, as newer Python, or raise."""
    if "\0" in text:
        _raise_value_problem(text, ValueError(error.msg))
    if "too many nested" in error.msg:
        raise _problem(text, error, TOO_DEEP) from None
    code = _mask(text)
    if _depth(code) <= _MAX_DEPTH:
        tree = _with_deep_stack(lambda: _libcst_parse(text))
        if tree is not None:
            return tree
    found = _python2(text, code, error)
    if found is not None:
        raise found from None
    raise _problem(text, error, error.msg) from None


def _libcst_parse(text: str) -> ast.Module | None:
    """Return the converted LibCST tree, or None when ``text`` is not newer Python either."""
    from porter import cst_ast  # LibCST takes long to import and is rarely needed

    return cst_ast.parse_newer(text)


def _problem(text: str, error: SyntaxError, message: str) -> SyntaxProblem:
    line, column = max(error.lineno or 1, 1), max(error.offset or 1, 1)
    if line == 1 and text.startswith(_BOM):
        column = max(column - 2, 1)  # the mark is one character, its stand-in three
    return SyntaxProblem(" ".join(message.split()), line, column)


_STRING_OR_COMMENT = re.compile(
    r"""
    \#[^\r\n]*
  | '''(?:[^\\]|\\.)*?(?:'''|\Z) | \"\"\"(?:[^\\]|\\.)*?(?:\"\"\"|\Z)
  | '(?:[^\\\r\n']|\\(?:\r\n|.))*'? | "(?:[^\\\r\n"]|\\(?:\r\n|.))*"?
    """,
    re.VERBOSE | re.DOTALL,
)


def _mask(text: str) -> str:
    """Blank comments and the inside of strings; length, newlines and quotes stay."""

    def blank(match: re.Match[str]) -> str:
        token = match[0]
        inside = re.sub(r"[^\r\n]", " ", token)
        return inside if token[0] == "#" or len(token) < 2 else token[0] + inside[1:-1] + token[-1]

    return _STRING_OR_COMMENT.sub(blank, text)


# LibCST's parser recurses without a limit, a stack overflow there ends the process, and its time
# grows with the square of the depth: what is deeper than any real program is kept from it.
# CPython's own limit is 200 brackets.
_MAX_BRACKETS = 200
_MAX_DEPTH = 1000
#: What `ast.parse` of Python 3.10 survives is between these and twice as many, with 8 MB of stack.
_MAX_NODES = 20_000
_MAY_BE_DEEP = 2 * _MAX_NODES
_DEPTH_TOKEN = re.compile(
    r"\\[\r\n]+|[(\[{]|[)\]}]|,|[\r\n;]|\b(?:not|and|or|if|else|elif|lambda|await|in|is)\b|[-+*/%@&|^~.<>:]"
)


def _depth(code: str) -> int:
    """Return an upper bound of the depth of the expressions and elif chains of masked code."""
    chain, outer, deepest, base, elifs = 0, list[tuple[int, int]](), 0, 0, 0
    for match in _DEPTH_TOKEN.finditer(code):
        token = match[0]
        if token in "([{":
            outer.append((base, chain))
            base, chain = base + chain + 1, 0
            if len(outer) > _MAX_BRACKETS:
                return _MAX_DEPTH + 1
        elif token in ")]}":
            if outer:
                base, chain = outer.pop()
            chain += 1  # a call or subscript of what stands before it
        elif token == ",":
            chain = 0
        elif token in "\r\n;":
            chain = chain if outer else 0
        else:
            chain += 1
            elifs += token == "elif"
        deepest = max(deepest, base + chain)
    return max(deepest, elifs)


_DEEP_STACK = threading.Lock()


def _with_deep_stack(work: Callable[[], _T]) -> _T | None:
    """Run ``work`` where deep recursion, in C and in Python, does no harm.

    Returns None when it still recurses too deeply.
    """
    results: list[_T | None] = []
    errors: list[BaseException] = []

    def target() -> None:
        try:
            results.append(work())
        except (RecursionError, MemoryError):
            results.append(None)
        except BaseException as error:  # handed to the caller's thread below
            errors.append(error)

    with _DEEP_STACK:  # the two settings are those of the whole process
        limit, size = sys.getrecursionlimit(), threading.stack_size(512 * 1024 * 1024)
        sys.setrecursionlimit(max(limit, 30_000))
        try:
            thread = threading.Thread(target=target)
            thread.start()
            thread.join()
        except RuntimeError:  # no room for such a stack: then no such work
            return None
        finally:
            threading.stack_size(size)
            sys.setrecursionlimit(limit)
    if errors:
        raise errors[0]
    return results[0]


# --- Python 2 -------------------------------------------------------------------------------

_ATOM = r"(?:[\"'`\d]|(?!(?:if|else|and|or|in|is|not|for|as|from|import|async)\b)[A-Za-z_])"
_PYTHON2_SYNTAX: tuple[tuple[str, re.Pattern[str]], ...] = tuple(
    (what, re.compile(pattern, re.MULTILINE))
    for what, pattern in (
        ("print statement", rf"(?<![\w.])print(?:[ \t]+{_ATOM}|[ \t]*[\"'`]|[ \t]*>>)"),
        ("exec statement", rf"(?<![\w.])exec(?:[ \t]+{_ATOM}|[ \t]*[\"'`])"),
        (
            "'except X, name:'",
            r"^[ \t]*except\b[ \t]*(?:[\w.]+[ \t]*,[ \t]*[a-z_]\w*|\([^()]*\)[ \t]*,[ \t]*\w+)"
            r"[ \t]*:",
        ),
        ("'raise X, value'", r"(?:^|[:;])[ \t]*raise[ \t]+[\w.]+[ \t]*,"),
        ("backticks", "`"),
        ("the <> operator", "<>"),
        ("an octal number such as 0777", r"(?<![\w.])0[0-9]*[1-9][0-9]*[lL]?(?![\w.])"),
        ("a long number such as 10L", r"(?<![\w.])(?:\d+|0[xX][0-9a-fA-F]+)[lL]\b"),
        ("a ur'' string", r"(?<!\w)[uU][rR][\"']"),
        ("tuple parameters", r"\blambda[ \t]*\(|\bdef[ \t]+\w+[ \t]*\([ \t]*\("),
    )
)


def _python2(text: str, code: str, error: SyntaxError) -> SyntaxProblem | None:
    """Return the problem of a refused text that uses syntax only Python 2 had."""
    lines = LineIndex(text)
    found: list[tuple[bool, int, str]] = []
    for what, pattern in _PYTHON2_SYNTAX:
        for match in pattern.finditer(code):
            end_line = lines.position(match.end() - 1)[0]
            found.append((end_line != error.lineno, match.start(), what))
    if not found:
        return None
    elsewhere, start, what = min(found)
    own = _problem(text, error, "")
    line, column = lines.position(start) if elsewhere else (own.line, own.column)
    return _python2_problem(what, line, column)


def _python2_problem(what: str, line: int, column: int) -> SyntaxProblem:
    message = (
        f"looks like Python 2 ({what}): porter reads Python 3 only;"
        " convert the file first or exclude it"
    )
    return SyntaxProblem(message, line, column, python2=True)


_MAY_BE_PYTHON2 = re.compile(
    r"^[ \t]*(?:print[ \t]*>>|except\b[^:\n]*,[ \t]*\w+[ \t]*:)", re.MULTILINE
)


def _refuse_python2_that_parses(text: str, tree: ast.Module) -> None:
    """Raise for the two Python 2 forms that are valid, and wrong, in Python 3.

    ``print >>f, x`` shifts the function print, a TypeError; ``except X, e:`` (PEP 758, Python
    3.14) also catches e, a name that such a file never binds; a tuple in a tuple of exceptions
    is never right.
    """
    if not _MAY_BE_PYTHON2.search(text):
        return
    lines = LineIndex(text)
    for node in ast.walk(tree):
        what = None
        if isinstance(node, ast.Expr) and _is_print_chevron(node.value):
            what = "print statement"
        elif isinstance(node, ast.ExceptHandler) and _is_comma_handler(node, tree, lines):
            what = "'except X, name:'"
        if what is not None:
            raise _python2_problem(what, *lines.position(lines.span(node)[0]))


def _is_print_chevron(value: ast.expr) -> bool:
    if isinstance(value, ast.Tuple) and value.elts:
        value = value.elts[0]
    while isinstance(value, ast.BinOp):
        left = value.left
        if isinstance(value.op, ast.RShift) and isinstance(left, ast.Name) and left.id == "print":
            return True
        value = left
    return False


def _is_comma_handler(node: ast.ExceptHandler, tree: ast.Module, lines: LineIndex) -> bool:
    caught = node.type
    if not isinstance(caught, ast.Tuple) or len(caught.elts) != 2 or node.name is not None:
        return False
    first, last = caught.elts
    if not isinstance(last, ast.Name) or lines.span(last)[1] != lines.span(caught)[1]:
        return False  # the tuple ends with its own parenthesis, or with a comma
    if isinstance(first, ast.Tuple):
        return True
    return last.id[:1].islower() and last.id not in _bound_by_import_or_class(tree)


def _bound_by_import_or_class(tree: ast.Module) -> set[str]:
    bound: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            bound.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
        elif isinstance(node, ast.ClassDef):
            bound.add(node.name)
    return bound


# --- f-strings ------------------------------------------------------------------------------

_MAY_HAVE_FSTRING = re.compile(r"(?<!\w)(?:[fFtT][rR]?|[rR][fFtT])[\"']")
_PREFIX_AND_QUOTE = re.compile(r"(?P<prefix>[A-Za-z]{0,2})(?P<quote>'''|\"\"\"|'|\")")
_BETWEEN_LITERALS = re.compile(r"(?:[ \t\f]+|\\?(?:\r\n?|\n)|\#[^\r\n]*)+")
_NAMED_ESCAPE = re.compile(r"N\{[^}]*\}")
_ONLY_CONTINUATIONS = re.compile(r"(?:\\(?:\r\n?|\n))*\Z")
_PLAIN_TEXT = re.compile(r"[^\\{}'\"]+")
_PLAIN_EXPRESSION = re.compile(r"[^\\{}'\"()\[\]#!:=<>]+")
_OPERATORS_WITH_EQUAL = frozenset({"==", "!=", "<=", ">="})


class _Unreadable(Exception):
    """The scanner and the tree disagree about an f-string."""


@dataclass(frozen=True, slots=True)
class _Text:
    """A stretch of literal text; ``exact`` is False for the echo of ``{x=}``."""

    start: int
    end: int
    exact: bool = True


@dataclass(frozen=True, slots=True)
class _Field:
    """A replacement field ``{expression=!r:spec}``; the offsets include its braces.

    ``echo_end`` is the end of the text that ``=`` repeats, 0 without ``=``.
    """

    start: int
    end: int
    expression: tuple[int, int]
    echo_end: int
    spec: tuple[_Part, ...] | None
    spec_start: int


_Part = _Text | _Field


class _FStringScanner:
    """Find the texts and fields of the string literals of one text."""

    def __init__(self, text: str) -> None:
        self._text = text

    def literals(self, start: int, end: int) -> Iterator[_Part]:
        """Yield the parts of the literals of the concatenation at [start, end), in order."""
        position = start
        while position < end:
            gap = _BETWEEN_LITERALS.match(self._text, position, end)
            if gap:
                position = gap.end()
                continue
            parts, position = self.literal(position)
            yield from parts
        if position != end:
            raise _Unreadable

    def literal(self, start: int) -> tuple[list[_Part], int]:
        """Return the parts of the literal at ``start`` and the offset after its quotes."""
        match = _PREFIX_AND_QUOTE.match(self._text, start)
        if match is None:
            raise _Unreadable
        prefix, quote = match["prefix"].lower(), match["quote"]
        parts, end = self._parts(
            match.end(), quote, raw="r" in prefix, fields="f" in prefix or "t" in prefix
        )
        return parts, end + len(quote)

    def _parts(
        self, position: int, quote: str, raw: bool, fields: bool, in_spec: bool = False
    ) -> tuple[list[_Part], int]:
        """Scan literal text up to the closing quote, or the closing brace of a format spec."""
        text, parts, start = self._text, list[_Part](), position
        while position < len(text):
            plain = _PLAIN_TEXT.match(text, position)
            if plain:
                position = plain.end()
                continue
            char = text[position]
            if text.startswith(quote, position) or (in_spec and char == "}"):
                self._add_text(parts, start, position, raw)
                return parts, position
            if char == "\\":
                position = self._after_backslash(position + 1, raw, fields)
            elif not fields or char not in "{}":
                position += 1
            elif text[position + 1 : position + 2] == char and not in_spec:
                position += 2
            elif char == "{":
                self._add_text(parts, start, position, raw)
                field = self._field(position, quote, raw)
                parts.append(field)
                position = start = field.end
            else:
                raise _Unreadable
        raise _Unreadable

    def _add_text(self, parts: list[_Part], start: int, end: int, raw: bool) -> None:
        """Add the text unless its value is empty: such text has no Constant in the tree."""
        if start == end:
            return
        if not raw and _ONLY_CONTINUATIONS.match(self._text[start:end]):
            return
        parts.append(_Text(start, end))

    def _after_backslash(self, position: int, raw: bool, fields: bool) -> int:
        """Return the offset after the escape whose backslash stands before ``position``."""
        if fields and not raw:
            named = _NAMED_ESCAPE.match(self._text, position)
            if named:
                return named.end()
        # A backslash does not escape a brace of an f-string.
        return position if fields and self._text[position] in "{}" else position + 1

    def _field(self, start: int, quote: str, raw: bool) -> _Field:
        end = self._expression_end(start + 1)
        expression, text = (start + 1, end), self._text
        position = end
        position = self._skip_space(position + (text[position] == "="))
        echo_end = position if text[end] == "=" else 0
        if text[position] == "!":
            position = self._skip_space(position + 1)
            while text[position].isalnum() or text[position] == "_":
                position += 1
            position = self._skip_space(position)
        spec: tuple[_Part, ...] | None = None
        spec_start = position
        if text[position] == ":":
            spec_start = position + 1
            parts, position = self._parts(spec_start, quote, raw, fields=True, in_spec=True)
            spec = tuple(parts)
        if text[position : position + 1] != "}":
            raise _Unreadable
        return _Field(start, position + 1, expression, echo_end, spec, spec_start)

    def _skip_space(self, position: int) -> int:
        while position < len(self._text):
            if self._text[position] == "#":
                newline = _NEWLINE.search(self._text, position)
                position = newline.end() if newline else len(self._text)
            elif self._text[position].isspace():
                position += 1
            else:
                return position
        raise _Unreadable

    def _expression_end(self, position: int) -> int:
        """Return the offset of what ends the expression at ``position``: one of ``} ! : =``."""
        text, depth = self._text, 0
        while position < len(text):
            plain = _PLAIN_EXPRESSION.match(text, position)
            if plain:
                position = plain.end()
            char = text[position : position + 1]
            if char in ("'", '"'):
                position = self._after_nested_string(position)
            elif char == "#":
                position = self._skip_space(position)
            elif depth == 0 and text[position : position + 2] in _OPERATORS_WITH_EQUAL:
                position += 2
            elif depth == 0 and char in ("}", "!", ":", "="):
                return position
            else:
                depth += (char in ("(", "[", "{")) - (char in (")", "]", "}"))
                position += 1
        raise _Unreadable

    def _after_nested_string(self, quote: int) -> int:
        start = quote
        while start and quote - start < 2 and self._text[start - 1].isalpha():
            start -= 1
        while start < quote and not _is_prefix(self._text[start:quote]):
            start += 1
        return self.literal(start)[1]


def _is_prefix(letters: str) -> bool:
    return letters.lower() in {"f", "r", "b", "u", "t", "fr", "rf", "br", "rb", "tr", "rt"}


class _FStringPositions:
    """Give every node inside the f-strings of a tree its exact position."""

    def __init__(self, text: str, reparse: bool) -> None:
        """Prepare for ``text``; ``reparse`` where expressions have wrong positions too."""
        self._text = text
        self._lines = LineIndex(text)
        self._scanner = _FStringScanner(text)
        self._reparse = reparse

    def correct(self, tree: ast.AST) -> None:
        """Correct ``tree`` in place. The positions of its outermost f-strings must be right."""
        for node in _outermost_fstrings(tree, self._candidates(tree)):
            try:
                parts = list(self._scanner.literals(*self._lines.span(node)))
                self._assign(node, parts)
            except (_Unreadable, IndexError):
                _mark_inexact(node)

    def _candidates(self, tree: ast.AST) -> Sequence[int] | None:
        """The lines on which an f-string may begin; None within one, where all are looked for."""
        if not isinstance(tree, ast.Module):
            return None
        starts = (found.start() for found in _MAY_HAVE_FSTRING.finditer(self._text))
        return list(dict.fromkeys(self._lines.position(start)[0] for start in starts))

    def _assign(self, joined: ast.AST, parts: Iterable[_Part]) -> None:
        values: list[ast.expr] = _normal_values(joined)
        groups = list(_groups(parts))
        if len(groups) != len(values):
            raise _Unreadable
        for value, group in zip(values, groups, strict=True):
            if isinstance(group, _Field):
                self._assign_field(value, group)
            elif isinstance(value, ast.Constant):
                self._place(value, group.start, group.end)
                if not group.exact:
                    value.porter_exact = False  # type: ignore[attr-defined]
            else:
                raise _Unreadable

    def _assign_field(self, value: ast.expr, field: _Field) -> None:
        if type(value).__name__ not in _FIELD_NAMES:
            raise _Unreadable
        self._place(value, field.start, field.end)
        if self._reparse:
            value.value = self._relocated(value.value, *field.expression)  # type: ignore[attr-defined]
        self.correct(value.value)  # type: ignore[attr-defined]
        spec: ast.expr | None = value.format_spec  # type: ignore[attr-defined]
        if (spec is None) != (field.spec is None):
            raise _Unreadable
        if spec is not None and field.spec is not None:
            self._place(spec, field.spec_start, field.end - 1)
            self._assign(spec, field.spec)

    def _relocated(self, node: ast.expr, start: int, end: int) -> ast.expr:
        """Return ``node``, the expression at [start, end), with exact positions."""
        source = self._text[start:end]
        stripped = source.strip()
        first = start + len(source) - len(source.lstrip())
        if stripped.isidentifier():
            self._place(node, first, first + len(stripped))
            return node
        try:
            fresh = ast.parse(f"({source})", mode="eval").body
        except (SyntaxError, ValueError, MemoryError):
            raise _Unreadable from None
        # The parentheses are ours; a bare tuple or generator must not span them.
        bare = fresh.lineno == 1 and fresh.col_offset == 0
        line, column = self._lines.utf8_position(start)
        for inner in ast.walk(fresh):
            if hasattr(inner, "lineno"):
                _shift(inner, line - 1, column - 1)
        if bare:
            self._place(fresh, first, first + len(stripped))
        return fresh

    def _place(self, node: ast.AST, start: int, end: int) -> None:
        node.lineno, node.col_offset = self._lines.utf8_position(start)  # type: ignore[attr-defined]
        node.end_lineno, node.end_col_offset = self._lines.utf8_position(end)  # type: ignore[attr-defined]


_FSTRING_NAMES = frozenset({"JoinedStr", "TemplateStr"})  # by name: older Pythons lack some
_FIELD_NAMES = frozenset({"FormattedValue", "Interpolation"})
_LEAVES = frozenset({ast.Name, ast.Constant, ast.Load, ast.Store, ast.alias})


def _outermost_fstrings(tree: ast.AST, lines: Sequence[int] | None = None) -> list[ast.AST]:
    """The f-strings that lie in no other one.

    Args:
        tree: where to look.
        lines: the lines on which one may begin, sorted; statements without any are passed over.
    """
    found: list[ast.AST] = []
    stack = [tree]
    while stack:
        node = stack.pop()
        if type(node).__name__ in _FSTRING_NAMES:
            found.append(node)
            continue
        if lines is not None and isinstance(node, ast.stmt):
            # A decorator stands above the line that its definition is said to begin on.
            above: list[ast.expr] = getattr(node, "decorator_list", [])
            first = min([node.lineno, *(d.lineno for d in above)])
            at = bisect_left(lines, first)
            if at == len(lines) or lines[at] > (node.end_lineno or node.lineno):
                continue
        # Faster than iter_child_nodes, and this visits the nodes of every file.
        for value in node.__dict__.values():
            kind = value.__class__
            if kind is list:
                stack.extend(
                    [v for v in value if v.__class__ not in _LEAVES and isinstance(v, ast.AST)]
                )
            elif kind not in _LEAVES and isinstance(value, ast.AST):
                stack.append(value)
    return found


def _normal_values(joined: ast.AST) -> list[ast.expr]:
    """Drop empty constants and merge neighbours: the shape differs between Python versions."""
    values: list[ast.expr] = joined.values  # type: ignore[attr-defined]
    normal: list[ast.expr] = []
    for value in values:
        if isinstance(value, ast.Constant) and isinstance(value.value, str):
            last = normal[-1] if normal else None
            if isinstance(last, ast.Constant) and isinstance(last.value, str):
                last.value += value.value
                continue
            if not value.value:
                continue
        normal.append(value)
    values[:] = normal
    return values


def _groups(parts: Iterable[_Part]) -> Iterator[_Part]:
    """Merge neighbouring texts, the echo of ``{x=}`` included: the tree has one constant."""
    pending: _Text | None = None
    for part in parts:
        text: _Part | None = part
        if isinstance(part, _Field):
            text = _Text(part.expression[0], part.echo_end, exact=False) if part.echo_end else None
        if isinstance(text, _Text):
            pending = _Text(pending.start, text.end, exact=False) if pending else text
        if isinstance(part, _Field):
            if pending is not None:
                yield pending
            pending = None
            yield part
    if pending is not None:
        yield pending


def _shift(node: ast.AST, lines: int, columns: int) -> None:
    """Move a node parsed on its own; only its first line has another column."""
    if node.lineno == 1:  # type: ignore[attr-defined]
        node.col_offset += columns  # type: ignore[attr-defined]
    if node.end_lineno == 1:  # type: ignore[attr-defined]
        node.end_col_offset += columns  # type: ignore[attr-defined]
    node.lineno += lines  # type: ignore[attr-defined]
    node.end_lineno += lines  # type: ignore[attr-defined]


def _mark_inexact(joined: ast.AST) -> None:
    for node in ast.walk(joined):
        if node is not joined and hasattr(node, "lineno"):
            node.porter_exact = False  # type: ignore[attr-defined]
