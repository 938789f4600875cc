r"""Patches in git's format that ``git apply`` and ``patch -p1`` accept.

Lines end at ``\n`` only, as git counts them: a form feed or a lone carriage return is content.
The comparison is a patience diff (anchors on lines unique to both sides) with Myers' algorithm
(E. Myers, "An O(ND) Difference Algorithm and Its Variations", 1986) between the anchors: close to
linear for the small changes that rewriting makes, where difflib is quadratic.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Hashable, Iterable, Iterator, Sequence
from typing import NamedTuple, TypeVar

Region = tuple[int, int, int, int]
"""Lines before[a:b] became after[c:d], counted from 0: ``(a, b, c, d)``."""

_CONTEXT = 3
_MAX_DISTANCE = 400  # differing lines between two anchors, beyond which all of them are replaced
_NO_NEWLINE = b"\\ No newline at end of file\n"
_ESCAPES = {7: "a", 8: "b", 9: "t", 10: "n", 11: "v", 12: "f", 13: "r", 34: '"', 92: "\\"}


Line = TypeVar("Line", bound=Hashable)


class Block(NamedTuple):
    """before[a:b] is replaced by after[c:d]."""

    a: int
    b: int
    c: int
    d: int


def unified(
    path: str, before: bytes, after: bytes, *, regions: Sequence[Region] | None = None
) -> bytes:
    """Return the patch piece that turns ``before`` into ``after``; nothing when they are equal.

    Args:
        path: POSIX path relative to the folder in which the patch is applied.
        before: the present content.
        after: the wanted content.
        regions: the changed line ranges, sorted, where the caller knows them. They save time only:
            regions that do not fit the contents are ignored.
    """
    if before == after:
        return b""
    old, new = _lines(before), _lines(after)
    blocks = list(changes(old, new, regions=regions))
    pieces = [_header(path)]
    for group in _groups(blocks):
        pieces.extend(_hunk(old, new, group))
    return b"".join(pieces)


def _lines(data: bytes) -> list[bytes]:
    lines = [line + b"\n" for line in data.split(b"\n")]
    last = lines.pop()[:-1]
    return [*lines, last] if last else lines


def _header(path: str) -> bytes:
    old, new = _quoted("a/" + path), _quoted("b/" + path)
    # git ends an unquoted name that holds a space with a tab, so that readers see its end.
    end = b"\t\n" if b" " in old and not old.startswith(b'"') else b"\n"
    return b"diff --git %b %b\n--- %b%b+++ %b%b" % (old, new, old, end, new, end)


def _quoted(path: str) -> bytes:
    """Return ``path`` as git writes it: C-quoted if it holds control, quote or non-ASCII bytes."""
    raw = path.encode("utf-8", "surrogateescape")
    if all(32 <= byte < 127 and byte not in _ESCAPES for byte in raw):
        return raw
    return f'"{"".join(map(_escaped, raw))}"'.encode("ascii")


def _escaped(byte: int) -> str:
    if byte in _ESCAPES:
        return "\\" + _ESCAPES[byte]
    return chr(byte) if 32 <= byte < 127 else f"\\{byte:03o}"


def changes(
    old: Sequence[Line], new: Sequence[Line], *, regions: Sequence[Region] | None = None
) -> Iterator[Block]:
    """Yield the differing blocks of two sequences of lines, in order; see ``unified``."""
    whole = [(0, len(old), 0, len(new))]
    known = regions if regions is not None and _fit(old, new, regions) else whole
    return _merged(block for region in known for block in _diff(old, new, Block(*region)))


def _fit(old: Sequence[Line], new: Sequence[Line], regions: Sequence[Region]) -> bool:
    """Tell whether everything outside ``regions`` is the same on both sides."""
    a = c = 0
    for start, end, new_start, new_end in [*regions, (len(old), len(old), len(new), len(new))]:
        if not (a <= start <= end <= len(old) and c <= new_start <= new_end <= len(new)):
            return False
        if old[a:start] != new[c:new_start]:
            return False
        a, c = end, new_end
    return True


def _diff(old: Sequence[Line], new: Sequence[Line], block: Block) -> Iterator[Block]:
    """Yield the differing blocks within ``block``, in order."""
    waiting = [block]
    while waiting:
        trimmed = _trimmed(old, new, waiting.pop())
        if trimmed.a == trimmed.b and trimmed.c == trimmed.d:
            continue
        if trimmed.a == trimmed.b or trimmed.c == trimmed.d:
            yield trimmed
            continue
        anchors = _anchors(old, new, trimmed)
        if anchors:
            waiting.extend(reversed(list(_between(trimmed, anchors))))
        else:
            yield from _myers(old, new, trimmed)


def _trimmed(old: Sequence[Line], new: Sequence[Line], block: Block) -> Block:
    a, b, c, d = block
    while a < b and c < d and old[a] == new[c]:
        a, c = a + 1, c + 1
    while a < b and c < d and old[b - 1] == new[d - 1]:
        b, d = b - 1, d - 1
    return Block(a, b, c, d)


def _anchors(old: Sequence[Line], new: Sequence[Line], block: Block) -> list[tuple[int, int]]:
    """Return pairs of equal lines that are unique on both sides and in the same order there."""
    theirs = _unique(new, block.c, block.d)
    mine = _unique(old, block.a, block.b)
    pairs = sorted((i, theirs[line]) for line, i in mine.items() if line in theirs)
    # Longest increasing subsequence of the second numbers, by patience sorting.
    tops: list[int] = []
    piles: list[int] = []
    previous: list[int] = []
    for at, (_, j) in enumerate(pairs):
        pile = bisect_left(tops, j)
        previous.append(piles[pile - 1] if pile else -1)
        if pile == len(tops):
            tops.append(j)
            piles.append(at)
        else:
            tops[pile], piles[pile] = j, at
    chain: list[tuple[int, int]] = []
    at = piles[-1] if piles else -1
    while at >= 0:
        chain.append(pairs[at])
        at = previous[at]
    return chain[::-1]


def _unique(lines: Sequence[Line], start: int, end: int) -> dict[Line, int]:
    found: dict[Line, int] = {}
    for i in range(start, end):
        found[lines[i]] = -1 if lines[i] in found else i
    return {line: i for line, i in found.items() if i >= 0}


def _between(block: Block, anchors: list[tuple[int, int]]) -> Iterator[Block]:
    a, c = block.a, block.c
    for i, j in anchors:
        yield Block(a, i, c, j)
        a, c = i + 1, j + 1
    yield Block(a, block.b, c, block.d)


def _myers(old: Sequence[Line], new: Sequence[Line], block: Block) -> Iterator[Block]:
    """Yield a shortest edit of ``block``; all of it when the sides differ too much."""
    a, b, c, d = block
    n, m = b - a, d - c
    reach = {1: 0}
    trace: list[dict[int, int]] = []
    for distance in range(min(n + m, _MAX_DISTANCE) + 1):
        trace.append(dict(reach))
        for k in range(-distance, distance + 1, 2):
            down = k == -distance or (k != distance and reach[k - 1] < reach[k + 1])
            x = reach[k + 1] if down else reach[k - 1] + 1
            y = x - k
            while x < n and y < m and old[a + x] == new[c + y]:
                x, y = x + 1, y + 1
            reach[k] = x
            if x >= n and y >= m:
                yield from _walked(block, trace)
                return
    yield block


def _walked(block: Block, trace: list[dict[int, int]]) -> Iterator[Block]:
    """Follow Myers' trace back from the end; every step is one removed or added line."""
    x, y = block.b - block.a, block.d - block.c
    steps: list[Block] = []
    for distance in range(len(trace) - 1, 0, -1):
        reach, k = trace[distance], x - y
        down = k == -distance or (k != distance and reach[k - 1] < reach[k + 1])
        x = reach[k + 1] if down else reach[k - 1]
        y = x - (k + 1 if down else k - 1)
        a, c = block.a + x, block.c + y
        steps.append(Block(a, a, c, c + 1) if down else Block(a, a + 1, c, c))
    yield from reversed(steps)


def _merged(blocks: Iterable[Block]) -> Iterator[Block]:
    """Join blocks with no common line between them."""
    current: Block | None = None
    for block in blocks:
        if current is not None and (current.b, current.d) == (block.a, block.c):
            current = Block(current.a, block.b, current.c, block.d)
            continue
        if current is not None:
            yield current
        current = block
    if current is not None:
        yield current


def _groups(blocks: list[Block]) -> Iterator[list[Block]]:
    """Yield the blocks that share a hunk because their context lines meet."""
    group: list[Block] = []
    for block in blocks:
        if group and block.a - group[-1].b > 2 * _CONTEXT:
            yield group
            group = []
        group.append(block)
    if group:
        yield group


def _hunk(old: list[bytes], new: list[bytes], group: list[Block]) -> Iterator[bytes]:
    first, last = group[0], group[-1]
    lead = min(_CONTEXT, first.a, first.c)
    tail = min(_CONTEXT, len(old) - last.b, len(new) - last.d)
    start, end = first.a - lead, last.b + tail
    yield b"@@ -%b +%b @@\n" % (_range(start, end), _range(first.c - lead, last.d + tail))
    at = start
    for block in group:
        yield from (_marked(b" ", line) for line in old[at : block.a])
        yield from (_marked(b"-", line) for line in old[block.a : block.b])
        yield from (_marked(b"+", line) for line in new[block.c : block.d])
        at = block.b
    yield from (_marked(b" ", line) for line in old[at:end])


def _range(start: int, end: int) -> bytes:
    size = end - start
    first = start + 1 if size else start
    return b"%d" % first if size == 1 else b"%d,%d" % (first, size)


def _marked(mark: bytes, line: bytes) -> bytes:
    return mark + line if line.endswith(b"\n") else mark + line + b"\n" + _NO_NEWLINE
