"""Comments that silence findings: `# porter: ignore[POR101] reason`, coded `# noqa: POR101`."""

from __future__ import annotations

import bisect
import io
import re
import tokenize
import warnings
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from porter.text_site import TextFile

_PORTER = re.compile(
    r"(?P<mark>#|//)\s*porter:\s*(?P<what>ignore|file-ignore)\b\s*(?:\[(?P<codes>[^\]]*)\])?",
    re.IGNORECASE,
)
_NOQA = re.compile(r"(?:#|//)\s*noqa\s*:\s*(?P<codes>[A-Z]+\d+(?:[\s,]+[A-Z]+\d+)*)", re.IGNORECASE)
_CODE = re.compile(r"[A-Z]+\d+\Z")
_MENTION = re.compile(r"(?:#|//)\s*(?:porter:|noqa\s*:)", re.IGNORECASE)
_LAYOUT = {
    tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.INDENT, tokenize.DEDENT,
    tokenize.ENCODING, tokenize.ENDMARKER,
}  # fmt: skip


@dataclass(frozen=True)
class _Comment:
    """A comment and the lines it speaks of, first to last, 1-based."""

    text: str
    line: int
    first: int
    last: int
    column: int = 0


@dataclass(frozen=True)
class Spoken:
    """One comment that silences.

    Args:
        line: where it stands, 1-based.
        codes: the codes (or prefixes) it names.
        first: the first line it speaks of; 1 for a whole file.
        last: the last one; None for a whole file.
        foreign: whether it is a `noqa`, whose codes may be those of other tools.
        column: where it begins in its line, 0-based.
    """

    line: int
    codes: tuple[str, ...]
    first: int
    last: int | None
    foreign: bool = False
    column: int = 0

    def covers(self, code: str, line: int) -> bool:
        """Whether it silences a finding of the rule `code` on `line`."""
        inside = line >= self.first and (self.last is None or line <= self.last)
        return inside and any(code.startswith(named) for named in self.codes)


@dataclass
class Suppressions:
    """Which findings the comments of one file silence.

    Args:
        lines: codes (or prefixes) silenced on a 1-based line.
        whole: codes silenced in the whole file.
        malformed: lines with a `porter:` comment that names no code; a blanket form silences
            nothing, so that no finding is hidden by accident.
        spoken: the comments behind all that.
    """

    lines: dict[int, tuple[str, ...]] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    malformed: tuple[int, ...] = ()
    spoken: tuple[Spoken, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to silence."""
        return bool(self.lines or self.whole)

    @classmethod
    def read(cls, text: str) -> Suppressions:
        """Read the comments of a text.

        A comment at the end of a statement covers the whole statement (the header of a compound
        one); within a statement it covers its own line. A comment alone on its line covers the
        statement that follows.
        """
        return cls._of(_comments(text)) if _MENTION.search(text) else cls()

    @classmethod
    def read_file(cls, file: TextFile) -> Suppressions:
        """Read the comments of a file that is not Python; `porter.comments` says where they are."""
        if not _MENTION.search(file.text):
            return cls()
        from porter.comments import spoken

        return cls._of(
            _Comment(text, line, first, last, column)
            for text, line, column, first, last in spoken(file)
        )

    @classmethod
    def _of(cls, comments: Iterable[_Comment]) -> Suppressions:
        found = cls()
        malformed = []
        spoken: list[Spoken] = []
        for comment in comments:
            codes, scope, bad = _codes(comment.text)
            if bad:
                malformed.append(comment.line)
            if codes:
                whole = scope == "file-ignore"
                first, last = (1, None) if whole else (comment.first, comment.last)
                foreign = _PORTER.search(comment.text) is None
                spoken.append(Spoken(comment.line, codes, first, last, foreign, comment.column))
        found.spoken = tuple(spoken)
        # Any number of comments may stand above one statement.
        about: dict[tuple[int, int | None], dict[str, None]] = {}
        for said in spoken:
            about.setdefault((said.first, said.last), {}).update(dict.fromkeys(said.codes))
        for (first, last), listed in about.items():
            if last is None:
                found.whole = tuple(listed)
                continue
            for line in range(first, last + 1):
                found.lines[line] = found.lines.get(line, ()) + tuple(listed)
        found.malformed = tuple(malformed)
        return found

    def covers(self, code: str, line: int) -> bool:
        """Whether a finding of `code` on `line` is silenced."""
        return any(code.startswith(c) for c in (*self.whole, *self.lines.get(line, ())))

    def unused(self, silenced: Sequence[tuple[str, int]]) -> Iterator[tuple[Spoken, str]]:
        """The codes in comments that silence nothing.

        Args:
            silenced: rule and line of what was silenced.
        """
        ordered = sorted((line, code) for code, line in silenced)
        every = {code for code, _ in silenced}
        for comment in self.spoken:
            within = every
            if comment.last is not None:
                first = bisect.bisect_left(ordered, (comment.first, ""))
                last = bisect.bisect_left(ordered, (comment.last + 1, ""))
                within = {code for _, code in ordered[first:last]}
            for named in dict.fromkeys(comment.codes):
                if not any(code.startswith(named) for code in within):
                    yield comment, named


def _comments(text: str) -> Iterator[_Comment]:
    """The comments of a text, with the lines each speaks of."""
    first = 0  # the first line of the statement under way; 0 between statements
    own: list[tokenize.TokenInfo] = []  # comments alone on their lines, before the statement
    inside: list[tokenize.TokenInfo] = []
    for token in _tokens(text):
        if token.type == tokenize.COMMENT:
            (inside if first else own).append(token)
        elif token.type == tokenize.NEWLINE and first:
            last = token.start[0]
            yield from (_Comment(t.string, t.start[0], first, last, t.start[1]) for t in own)
            for comment in inside:
                line = comment.start[0]
                spoken = (first, last) if line == last else (line, line)
                yield _Comment(comment.string, line, *spoken, comment.start[1])
            first, own, inside = 0, [], []
        elif token.type not in _LAYOUT and not first:
            first = token.start[0]
    for token in (*own, *inside):
        line, column = token.start
        yield _Comment(token.string, line, line, line, column)


def _tokens(text: str) -> Iterator[tokenize.TokenInfo]:
    """The tokens of a text, as far as they can be read.

    Syntax newer than the running interpreter may stop the tokenizer; comments behind that place
    silence nothing, so that findings are shown rather than hidden.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            yield from tokenize.generate_tokens(io.StringIO(text, newline="").readline)
        except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
            return


def codes_of(comment: str) -> tuple[str, ...]:
    """The codes that one comment names, in either form."""
    return _codes(comment)[0]


def with_codes(comment: str, codes: Sequence[str], mark: str = "#") -> str:
    """The comment with an `ignore` of exactly these codes, whatever else it says."""
    found = _PORTER.search(comment)
    listed = f"{found['mark'] if found else mark} porter: ignore[{', '.join(codes)}]"
    if found is None:
        return f"{comment.rstrip()}  {listed}" if comment else listed
    return comment[: found.start()] + listed + comment[found.end() :]


def mention(line: str) -> int:
    """Where a line mentions porter in a comment, 0-based; 0 if it does not."""
    found = _MENTION.search(line)
    return found.start() if found else 0


def _codes(comment: str) -> tuple[tuple[str, ...], str, bool]:
    """The codes a comment names, the form used, and whether a porter comment names none."""
    found = _PORTER.search(comment)
    if found:
        codes = tuple(
            c.strip().upper() for c in re.split(r"[,\s]+", found["codes"] or "") if c.strip()
        )
        good = tuple(c for c in codes if _CODE.match(c))
        return good, found["what"].lower(), not good or len(good) < len(codes)
    noqa = _NOQA.search(comment)
    if noqa:
        return tuple(c.upper() for c in re.split(r"[\s,]+", noqa["codes"]) if c), "ignore", False
    return (), "", False
