"""What changed in a file, as pieces that a report can hold and every view can draw."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from porter.patch import unified

#: The start of the old and of the new lines in the head of a piece.
_HEAD = re.compile(r"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@")


@dataclass(frozen=True)
class Hunk:
    """A changed piece of a file with the lines around it.

    Args:
        old: 1-based number of its first line in the file as it was.
        new: the same in the file as it became.
        lines: as in a unified diff, each after " ", "-", "+" or (no newline at the end) a
            backslash. Lines end at ``\\n``: a carriage return stays part of its line.
    """

    old: int
    new: int
    lines: tuple[str, ...]


def compare(before: str, after: str) -> tuple[Hunk, ...]:
    """The pieces in which two texts differ, in order."""
    if before == after:
        return ()
    patch = unified("x", _bytes(before), _bytes(after))
    return tuple(_read(patch.decode("utf-8", "surrogateescape").split("\n")))


def _bytes(text: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError:  # other lone surrogates, which some notebooks hold
        return text.encode("utf-8", "replace")


def _read(patch: list[str]) -> Iterator[Hunk]:
    starts = [i for i, line in enumerate(patch) if i >= 3 and line.startswith("@@ ")]
    for start, end in zip(starts, [*starts, len(patch) - 1][1:], strict=True):
        head = _HEAD.match(patch[start])
        if head is None:
            continue
        # An empty side counts from the line before it.
        old = int(head[1]) + (head[2] == "0")
        new = int(head[3]) + (head[4] == "0")
        yield Hunk(old, new, tuple(patch[start + 1 : end]))
