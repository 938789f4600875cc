"""The report of a rehearsal, for a terminal."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from porter.rehearse.verdict import DOUBT, GOOD, ON_HOST, Count, Failure, Rehearsal, Verdict

#: Rows of each kind that are printed; JSON has them all.
ROWS = 12
#: Lines of an error's text, and of the reasons, that are printed.
LINES = 8
#: Characters of a command that are printed.
WIDTH = 80
_MEGABYTE = 2**20
#: Folders that only say where a library or Python is installed.
_INSTALLED = re.compile(r"/[^\s:\"'<>]*?/(?=(?:site-packages|dist-packages|python3\.\d+)/)")

_MEANING = {
    Verdict.RAN: "It ended well, and its work was done on the device.",
    Verdict.FAILED: "It ended with an error.",
    Verdict.CRASHED: "A signal ended it.",
    Verdict.HUNG: "It did not end in time (--limit).",
    Verdict.FULL: "It needs more memory than this machine has to spare (--host-memory).",
    Verdict.NOT_PROVED: "That it runs on the device is not shown.",
    Verdict.UNSUPPORTED: "It was not run.",
}


def text(rehearsal: Rehearsal, bases: Sequence[Path] = ()) -> str:
    """The report in lines.

    Args:
        rehearsal: what came of it.
        bases: the folders that paths are shown relative to.
    """
    return shortened("\n".join(lines(rehearsal)) + "\n", bases)


def shortened(said: str, bases: Sequence[Path] = ()) -> str:
    """Paths relative to folders, and those of libraries without the way there."""
    for base in bases:
        if str(base) == base.anchor:
            continue
        said = re.sub(rf"(?<![\w./-]){re.escape(str(base))}/", "", said)
    return _INSTALLED.sub("", said)


def headline(r: Rehearsal) -> str:
    """What came of it, in one line."""
    name = f": {_cut(r.command)}" if r.command else ""
    return f"{r.verdict.value.upper()}{name} on the simulated {r.device}"


def _cut(command: str) -> str:
    return command if len(command) <= WIDTH else f"{command[: WIDTH - 4].rstrip()} ..."


def lines(r: Rehearsal) -> Iterator[str]:
    """The report, line by line, with whole paths."""
    yield headline(r)
    if r.verdict is Verdict.UNSUPPORTED:
        yield from (f"  {reason}" for reason in r.reasons)
        return
    yield f"  {_MEANING[r.verdict]} {summary(r)}".rstrip()
    if r.verdict is not Verdict.RAN:
        yield from _reasons(r)
    for failure in r.failures[:3]:
        yield from _failure(failure)
    if len(r.failures) > 3:
        yield f"  and {plural(len(r.failures) - 3, 'more error')}"
    yield from _rules(r)
    yield from _operators(r)
    yield from _table("Copies between host and device:", r.transfers, sizes=True)
    yield from _table("Uses of an accelerator that is not there:", r.touches)
    yield from _table("Remarks:", _remarks(r))


def _remarks(r: Rehearsal) -> list[Count]:
    """What is to be known, but for what stands among the reasons already."""
    hidden = {GOOD}
    if r.verdict is Verdict.NOT_PROVED:
        hidden |= {ON_HOST, *(n.what for n in r.notes if n.outcome == DOUBT)}
    return [replace(n, outcome="") for n in r.notes if n.what not in hidden]


def summary(r: Rehearsal) -> str:
    """Numbers, in one line."""
    parts = [f"{r.seconds:.1f} s"] if r.seconds else []
    if r.processes > 1:
        parts.append(f"{r.processes} processes")
    peaks = [f"{name} {_size(row['peak'])}" for name, row in r.memory.items()]
    if peaks:
        parts.append(f"peak memory {', '.join(peaks[:4])}{', ...' if len(peaks) > 4 else ''}")
    said = ", ".join(parts)
    return f"{said[:1].upper()}{said[1:]}." if said else ""


def _size(number: int) -> str:
    if number < 1024:
        return f"{number} B"
    small = number < _MEGABYTE
    return f"{number / 1024:,.1f} KiB" if small else f"{number / _MEGABYTE:,.1f} MiB"


def plural(number: int, word: str) -> str:
    """Like "1 line", "2 lines"."""
    return f"{number:,} {word}" if number == 1 else f"{number:,} {word}s"


def _reasons(r: Rehearsal) -> Iterator[str]:
    # The error itself says more than the code that it ended with.
    reasons = r.reasons[1:] if r.failures and r.verdict is Verdict.FAILED else r.reasons
    yield from (f"  {reason}" for reason in reasons[:LINES])
    if len(reasons) > LINES:
        yield f"  and {len(reasons) - LINES} more"


def _failure(failure: Failure) -> Iterator[str]:
    first, *more = failure.message.splitlines()[:LINES] or [failure.type]
    yield f"  {first}"
    yield from (f"    {line}" for line in more)
    if failure.where:
        yield f"  in {failure.where}"
    own = [f for f in failure.frames if f.kind == "user"]
    if failure.place and not own:
        yield f"    {failure.place}"
    for frame in own[::-1][:LINES]:
        yield f"    {frame.file}:{frame.line} in {frame.function}"
        if frame.text:
            yield f"      {frame.text.strip()}"


def _rules(r: Rehearsal) -> Iterator[str]:
    if r.rules:
        yield "  What porter finds there:"
        yield from (f"    {rule}" for rule in r.rules[:ROWS])


def _operators(r: Rehearsal) -> Iterator[str]:
    if not r.operators and not r.fallbacks:
        return
    back = {f.what for f in r.fallbacks}
    own = [o for o in r.operators if o.what not in back]
    yield "  Operators:"
    runs = sum(o.times for o in own)
    yield f"    {runs:8,}  ran on the device, of {plural(len(own), 'kind')}"
    times = sum(f.times for f in r.fallbacks)
    if times:
        kinds = f"of {plural(len(back), 'kind')}, at {plural(len(r.fallbacks), 'line')}"
        yield f"    {times:8,}  fell back to the host, {kinds}"
    yield from _table(f"Fell back to the host, for {r.device} has no kernel:", r.fallbacks)
    yield from _table("Ran most often on the device (the first line of each):", own)


def _table(title: str, rows: Sequence[Count], sizes: bool = False) -> Iterator[str]:
    if not rows:
        return
    yield f"  {title}"
    for row in rows[:ROWS]:
        size = f" {_size(row.bytes):>12}" if sizes else ""
        outcome = f" {row.outcome}" if row.outcome else ""
        place = f"  {row.place}" if row.place else ""
        yield f"    {row.times:8,}x{size}  {row.what}{outcome}{place}"
    if len(rows) > ROWS:
        yield f"    and {len(rows) - ROWS} more (--output-format json has all)"
