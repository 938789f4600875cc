"""Decide from its bytes whether a Python file can hold a site at all."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

#: How files begin that Python cannot read but an editor may have written.
UTF16 = (b"\xff\xfe", b"\xfe\xff")

# Patterns are compiled when they are first needed: most runs need few, and compiling is slow.

# Exact for valid Python: a string ends at its own quotes, raw or not, and a backslash always takes
# the next character with it. One-line strings are matched so that quotes and "#" inside them do
# not start anything; they stay in the text, since rules look at them.
_TOKENS = (
    rb"\"\"\"(?:[^\\\"]|\\.|\"(?!\"\"))*\"\"\""
    rb"|'''(?:[^\\']|\\.|'(?!''))*'''"
    rb"|#[^\r\n]*"
    rb"|\"(?:[^\\\"\r\n]|\\.)*\""
    rb"|'(?:[^\\'\r\n]|\\.)*'"
)
#: Calls that run a text. Each begins with a literal that `re` can jump to.
_RUNNERS = (
    (b"exec", rb"exec\s*\("),
    (b"load_inline", rb"load_inline\s*\("),
    (b"eval", rb"eval\s*\((?!\s*\))"),  # `model.eval()` is given nothing to run
    (b"compile", rb"compile\s*\("),
)
_FEW = 8
#: A pattern of these characters is a word; to be read with re.ASCII.
PLAIN = r"[\w \-]+"


@dataclass(frozen=True, eq=False, repr=False)
class Pattern:
    """A regular expression for bytes.

    Args:
        text: the expression.
        words: every match holds one of them; empty if that is not known. They are looked for
            first, so that a few files cost neither a search nor the compilation.
    """

    text: bytes
    words: tuple[bytes, ...] = ()

    @functools.cached_property
    def compiled(self) -> re.Pattern[bytes]:
        """The compiled expression."""
        return re.compile(self.text)

    def may_match(self, data: bytes) -> bool:
        """False only where a search would find nothing."""
        # Once it is compiled, one search is faster than looking for many words one by one.
        if not self.words or (len(self.words) > _FEW and "compiled" in self.__dict__):
            return True
        return any(word in data for word in self.words)

    def search(self, data: bytes) -> bool:
        """Whether it occurs."""
        return self.may_match(data) and self.compiled.search(data) is not None

    def places(self, data: bytes) -> Iterator[int]:
        """Where it occurs."""
        if self.may_match(data):
            yield from (found.start() for found in self.compiled.finditer(data))


@dataclass(frozen=True, eq=False, repr=False)
class Marker:
    """What a file must hold for any rule to look at it.

    Args:
        words: texts, one of which is enough.
        patterns: the same for what a text cannot say. They are tried one by one: an alternation
            has no common beginning that `re` could jump to, and is ten times slower.
        texts: what a string must hold for a rule to look at it; None if that is not known.
    """

    words: tuple[bytes, ...]
    patterns: tuple[Pattern, ...]
    texts: tuple[Pattern, ...] | None = None

    @classmethod
    def of(
        cls,
        patterns: Iterable[str],
        literals: Mapping[str, Sequence[str]] | None = None,
        texts: Iterable[str] | None = None,
    ) -> Marker:
        """The marker for patterns of `re`, of which those without special characters are words.

        Args:
            patterns: the patterns.
            literals: for a pattern, texts of which every match holds one.
            texts: patterns over the strings of a program; None if any string may count.
        """
        every, known = sorted(set(patterns)), literals or {}
        words = {p for p in every if re.fullmatch(PLAIN, p, re.ASCII)}
        needed = [w for w in words if not any(other in w for other in words - {w})]

        def compiled(pattern: str) -> Pattern:
            return Pattern(pattern.encode(), tuple(w.encode() for w in known.get(pattern, ())))

        return cls(
            tuple(w.encode() for w in sorted(needed)),
            tuple(compiled(p) for p in every if p not in words),
            None if texts is None else tuple(compiled(p) for p in sorted(set(texts))),
        )

    def prepare(self) -> None:
        """Compile all patterns, which pays where many files are to be searched."""
        for pattern in self.patterns:
            if len(pattern.words) > _FEW:
                _ = pattern.compiled

    def search(self, data: bytes) -> bool:
        """Whether it occurs at all."""
        return any(w in data for w in self.words) or any(p.search(data) for p in self.patterns)

    def places(self, data: bytes) -> Iterator[int]:
        """Where it occurs, in no order."""
        for word in self.words:
            at = data.find(word)
            while at >= 0:
                yield at
                at = data.find(word, at + len(word))
        for pattern in self.patterns:
            yield from pattern.places(data)


def may_match(data: bytes, marker: Marker) -> bool:
    """Whether any rule could find something in a file.

    Args:
        data: the file's bytes.
        marker: what must occur for a rule to wake.

    Returns:
        False if the marker occurs nowhere, or only in comments, docstrings, and text of several
        lines that no rule for strings asks for. Where text is executed, all of it counts as code.
    """
    if not marker.search(data):
        return False
    return _runs_text(data) or _in_code(data, marker)


def _runs_text(data: bytes) -> bool:
    for word, call in _RUNNERS:
        if word not in data:
            continue
        for found in re.finditer(call, data):
            at = found.start()
            before = data[max(at - 8, 0) : at]
            if word == b"compile" and re.search(rb"\b(?:torch|re)\.\Z", before):
                continue
            if not before[-1:].isalnum() and before[-1:] != b"_":
                return True
    return False


def _in_code(data: bytes, marker: Marker) -> bool:
    """Whether the marker occurs outside comments and docstrings."""
    places = sorted(marker.places(data))
    end = 0  # of the last token
    position = 0
    for token in re.compile(_TOKENS, re.DOTALL).finditer(data):
        start = token.start()
        if places[position] < start:
            return True
        end = token.end()
        prose = data[start] == _HASH or (
            data[start : start + 3] in _TRIPLE
            and (_stands_alone(data, start) or not _asked(data, start, end, marker))
        )
        while places[position] < end:
            if not prose:
                return True
            position += 1
            if position == len(places):
                return False
    return True


# What goes on with the next line: an operator, an open bracket, a backslash, an unfinished word.
_GOES_ON = (
    rb"(?:[(\[{,=+\-*/%&|^~<>@\\]|\b(?:and|assert|await|else|if|in|is|not|or|return|yield))"
    rb"\s*\Z"
)


def _stands_alone(data: bytes, start: int) -> bool:
    """Whether a string in triple quotes is a statement of its own, such as a docstring."""
    line = max(data.rfind(b"\n", 0, start), data.rfind(b"\r", 0, start)) + 1
    if data[line:start].strip(b" \t\f").lower() not in (b"", b"r", b"u"):
        return False
    return re.search(_GOES_ON, data[max(line - 200, 0) : line]) is None


#: Lines of an interactive session: they document, as a docstring does.
EXAMPLE = r"(?m)^[ \t]*(?:>>>|\.\.\.)[^\r\n]*"


def _asked(data: bytes, start: int, end: int, marker: Marker) -> bool:
    """Whether a rule for strings may ask for the text in triple quotes at [start, end)."""
    text = data[start + 3 : end - 3]
    prefix = data[max(start - 2, 0) : start].lower()
    pieces = b"f" in prefix or b"t" in prefix or b"\\" in text
    if marker.texts is None or pieces or b"\n" not in text:
        return True
    plain = re.sub(EXAMPLE.encode(), b"", text.replace(b"\r\n", b"\n"))
    return any(pattern.search(plain) for pattern in marker.texts)


_HASH = ord("#")
_TRIPLE = (b'"""', b"'''")


@dataclass(frozen=True, eq=False, repr=False)
class Signs:
    """Byte patterns that tell which files have something to say about others.

    Args:
        exported: prefixes of qualified names that files may pass on.
        methods: names of methods whose definition matters.
    """

    exported: tuple[str, ...]
    methods: tuple[str, ...]

    def may_export(self, data: bytes) -> bool:
        """Whether a file with these bytes may bind a watched name at its top level."""
        return self._exports.search(data)

    def may_define(self, data: bytes) -> bool:
        """Whether a file with these bytes may define a watched method."""
        return self._defines.search(data)

    @functools.cached_property
    def _exports(self) -> Pattern:
        ways = "|".join(_import_pattern(prefix) for prefix in self.exported) or "(?!)"
        last = sorted({prefix.rpartition(".")[2].encode() for prefix in self.exported})
        return Pattern(f"(?m:{ways})".encode(), tuple(last))

    @functools.cached_property
    def _defines(self) -> Pattern:
        methods = "|".join(map(re.escape, self.methods)) or "(?!)"
        # Not "\\bdef": `re` jumps to a literal only if the pattern begins with it.
        text = rf"def\s+(?:{methods})\s*\(".encode()
        return Pattern(text, tuple(name.encode() for name in self.methods))


def _import_pattern(prefix: str) -> str:
    """Matches ways to bind something below a dotted prefix to a name."""
    package, _, last = prefix.rpartition(".")
    whole, last = re.escape(prefix), re.escape(last)
    ways = [rf"from\s+{whole}[.\w]*\s+import\b", rf"import\s+{whole}\b", rf"=\s*{whole}\b"]
    if package:
        names = r"(?:\([^)]*?|[^\n(;]*?)"
        ways.append(rf"from\s+{re.escape(package)}\s+import\s+{names}\b{last}\b")
    return "|".join(ways)
