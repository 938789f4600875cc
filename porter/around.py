"""Which of many spans of a text lies around an offset, in the time of a binary search."""

from __future__ import annotations

import bisect
import heapq
from collections.abc import Callable, Iterable

Span = tuple[int, int]


def _first(span: Span) -> int:
    return 0


def length(span: Span) -> int:
    """A rank that prefers the longest span."""
    return span[0] - span[1]


class Around:
    """Spans to ask about.

    Args:
        spans: (start, end) each, in any order; they may overlap.
        rank: of those around an offset the one with the lowest rank answers, the first of equals.
    """

    def __init__(self, spans: Iterable[Span], rank: Callable[[Span], int] = _first) -> None:
        """Work out the answer for every offset."""
        known = list(spans)
        waiting = sorted(((start, number) for number, (start, _) in enumerate(known)), reverse=True)
        self._starts: list[int] = []
        self._answers: list[int | None] = []
        open_: list[tuple[int, int]] = []
        for at in sorted({edge for span in known for edge in span}):
            while waiting and waiting[-1][0] <= at:
                number = waiting.pop()[1]
                heapq.heappush(open_, (rank(known[number]), number))
            while open_ and known[open_[0][1]][1] <= at:
                heapq.heappop(open_)
            self._starts.append(at)
            self._answers.append(open_[0][1] if open_ else None)

    def at(self, offset: int) -> int | None:
        """The position, in the order given, of the span around an offset; None if there is none."""
        place = bisect.bisect_right(self._starts, offset) - 1
        return self._answers[place] if place >= 0 else None
