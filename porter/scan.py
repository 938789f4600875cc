"""Decide from its bytes whether a Python file can hold a site at all."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

# Exact for valid Python: a string ends at its own quotes, raw or not, and a backslash always takes
# the next character with it. One-line strings are matched so that quotes and "#" inside them do
# not start anything; they stay in the text, since rules look at them.
_TOKENS = re.compile(
    rb"\"\"\"(?:[^\\\"]|\\.|\"(?!\"\"))*\"\"\""
    rb"|'''(?:[^\\']|\\.|'(?!''))*'''"
    rb"|#[^\r\n]*"
    rb"|\"(?:[^\\\"\r\n]|\\.)*\""
    rb"|'(?:[^\\'\r\n]|\\.)*'",
    re.DOTALL,
)
_CODE_IN_STRINGS = re.compile(rb"\b(?:exec|eval|compile|load_inline)\s*\(")
_PLAIN = re.compile(r"[\w \-]+", re.ASCII)


@dataclass(frozen=True)
class Marker:
    """What a file must hold for any rule to look at it.

    Args:
        words: texts, one of which is enough.
        patterns: the same for what a text cannot say. They are tried one by one: an alternation
            has no common beginning that `re` could jump to, and is ten times slower.
    """

    words: tuple[bytes, ...]
    patterns: tuple[re.Pattern[bytes], ...]

    @classmethod
    def of(cls, patterns: Iterable[str]) -> Marker:
        """The marker for patterns of `re`, of which those without special characters are words."""
        every = sorted(set(patterns))
        words = {p for p in every if _PLAIN.fullmatch(p)}
        needed = [w for w in words if not any(other in w for other in words - {w})]
        return cls(
            tuple(w.encode() for w in sorted(needed)),
            tuple(re.compile(p.encode()) for p in every if p not in words),
        )

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
            yield from (found.start() for found in pattern.finditer(data))


def may_match(data: bytes, marker: Marker) -> bool:
    """Whether any rule could find something in a file.

    Args:
        data: the file's bytes.
        marker: what must occur for a rule to wake.

    Returns:
        False if the marker occurs nowhere, or in comments and triple-quoted text only. Text that
        is executed counts as code.
    """
    if not marker.search(data):
        return False
    return _CODE_IN_STRINGS.search(data) is not None or _in_code(data, marker)


def _in_code(data: bytes, marker: Marker) -> bool:
    """Whether the marker occurs outside comments and triple-quoted text."""
    places = sorted(marker.places(data))
    end = 0  # of the last token
    position = 0
    for token in _TOKENS.finditer(data):
        start = token.start()
        if places[position] < start:
            return True
        end = token.end()
        prose = data[start] == _HASH or data[start : start + 3] in _TRIPLE
        while places[position] < end:
            if not prose:
                return True
            position += 1
            if position == len(places):
                return False
    return True


_HASH = ord("#")
_TRIPLE = (b'"""', b"'''")
