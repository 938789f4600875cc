"""The report of a rehearsal, for a terminal."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from porter.rehearse.verdict import Count, Failure, Rehearsal, Verdict

#: Rows of each kind that are printed; JSON has them all.
ROWS = 12
_MEGABYTE = 2**20


def text(rehearsal: Rehearsal, base: Path | None = None) -> str:
    """The report in lines.

    Args:
        rehearsal: what came of it.
        base: the folder that paths are shown relative to.
    """
    lines = "\n".join(_lines(rehearsal)) + "\n"
    return lines.replace(f"{base}/", "") if base is not None else lines


def _lines(r: Rehearsal) -> Iterator[str]:
    yield f"{r.verdict.value.upper()} on simulated {r.device}: {_headline(r)}"
    if r.verdict is not Verdict.RAN:
        yield from (f"  {reason}" for reason in r.reasons[:ROWS])
    for failure in r.failures[:3]:
        yield from _failure(failure)
    for rule in r.rules:
        yield f"  {rule}"
    if r.stacks:
        yield "  where it was:"
        yield from (f"    {line}" for line in r.stacks.splitlines()[:30])
    yield from _table("ran on the host for want of a kernel", r.fallbacks)
    yield from _table("between host and device", r.transfers, sizes=True)
    yield from _table("other accelerators", r.touches)
    yield from _table("remarks", r.notes)
    yield from _table("operators", r.operators)
    peaks = [f"{name} {row['peak'] / _MEGABYTE:.1f} MiB" for name, row in r.memory.items()]
    if peaks:
        yield f"  peak memory: {', '.join(peaks)}"


def _headline(r: Rehearsal) -> str:
    parts = [f"{r.runs} operators of {len(r.operators)} kinds", f"{r.seconds:.1f} s"]
    if r.fallbacks:
        times = sum(f.times for f in r.fallbacks)
        parts.insert(1, f"fell back to the host {times} times at {len(r.fallbacks)} lines")
    if r.processes > 1:
        parts.append(f"{r.processes} processes")
    return ", ".join(parts)


def _failure(failure: Failure) -> Iterator[str]:
    where = f" in {failure.where}" if failure.where else ""
    yield f"  at {failure.place or '?'}{where}"
    own = [f for f in failure.frames if f.kind == "user"]
    for frame in own:
        yield f"    {frame.file}:{frame.line} in {frame.function}"
        if frame.text:
            yield f"      {frame.text.strip()}"
    yield from (f"    {line}" for line in failure.message.splitlines()[:6])


def _table(title: str, rows: tuple[Count, ...], sizes: bool = False) -> Iterator[str]:
    if not rows:
        return
    yield f"  {title}:"
    for row in rows[:ROWS]:
        size = f" {row.bytes / _MEGABYTE:9.2f} MiB" if sizes else ""
        outcome = f" {row.outcome}" if row.outcome else ""
        yield f"    {row.times:8}x{size}  {row.what}{outcome}  {row.place}"
    if len(rows) > ROWS:
        yield f"    and {len(rows) - ROWS} more"
