"""Edits on text: which may stand together, and how they are applied."""

from __future__ import annotations

import bisect
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Span:
    """A replacement ready to apply: `text[start:end]` becomes `new`."""

    start: int
    end: int
    new: str


class Overlap(Exception):
    """Two edits touch the same characters with different intent."""


class Claims:
    """The characters already claimed by accepted edits; kept sorted."""

    def __init__(self) -> None:
        """Start without a claim."""
        self._starts: list[int] = []
        self._spans: list[tuple[int, int, object]] = []

    def accepts(self, edits: Iterable[tuple[int, int, object]]) -> bool:
        """Claim all of `edits` (start, end, meaning), or none of them.

        An edit equal to one already claimed is accepted: two rules agree. Two insertions at one
        offset are accepted only if equal.
        """
        new: list[tuple[int, int, object]] = []
        for start, end, meaning in edits:
            clash = self._clash(start, end)
            if clash is None:
                new.append((start, end, meaning))
            elif clash != (start, end, meaning):
                return False
        for claim in new:
            at = bisect.bisect_left(self._starts, claim[0])
            self._starts.insert(at, claim[0])
            self._spans.insert(at, claim)
        return True

    def _clash(self, start: int, end: int) -> tuple[int, int, object] | None:
        at = bisect.bisect_left(self._starts, start)
        for position in (at - 1, at, at + 1):
            if 0 <= position < len(self._spans):
                left, right, _ = self._spans[position]
                if start == end and left == right:
                    hit = start == left
                elif start == end:
                    hit = left < start < right
                elif left == right:
                    hit = start < left < end
                else:
                    hit = start < right and left < end
                if hit:
                    return self._spans[position]
        return None


def apply(text: str, spans: Sequence[Span]) -> str:
    """Apply non-overlapping replacements; equal ones count once.

    Insertions at one offset keep the order in which they are given.

    Raises:
        Overlap: two replacements overlap; the caller must decide before.
    """
    pieces: list[str] = []
    last = 0
    for span in sorted(dict.fromkeys(spans), key=lambda s: (s.start, s.end)):
        if span.start < last:
            raise Overlap(f"edits overlap at offset {span.start}")
        pieces.append(text[last : span.start])
        pieces.append(span.new)
        last = span.end
    pieces.append(text[last:])
    return "".join(pieces)
