"""From the records of all processes to one verdict."""

from __future__ import annotations

import collections
import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from enum import Enum
from pathlib import Path
from typing import Any

from porter.rehearse.launch import FOLDER_PREFIX, Ended

_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:, in (?P<function>.+))?$')
_ERROR = re.compile(
    r"^(?P<type>[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|\w*)): ?(?P<said>.*)$"
)
#: The device does not run on every torch: `porter.rewrites.simulated.start.Unsupported`.
_REFUSED = re.compile(r"^\S*\bUnsupported: (?P<said>.+)$", re.MULTILINE)
NO_TORCH = "this Python has no torch; give one that has with --python, or install it here"
#: Errors that only tell of another process's error.
_OF_OTHERS = frozenset(["ChildFailedError", "ProcessRaisedException", "ProcessExitedException"])


class Verdict(str, Enum):
    """What a rehearsal came to."""

    RAN = "ran"
    FAILED = "failed"
    CRASHED = "crashed"
    HUNG = "stopped at the time limit"
    NOT_PROVED = "not proved"
    UNSUPPORTED = "not rehearsed"


@dataclass(frozen=True)
class Frame:
    """One line of a stack.

    Args:
        file: the source file.
        line: 1-based.
        function: the name of the function.
        text: the source line.
        kind: "user", "library" or "internal"; empty if it is not known.
    """

    file: str
    line: int
    function: str = ""
    text: str = ""
    kind: str = ""


@dataclass(frozen=True)
class Failure:
    """An error that ended a process or a test.

    Args:
        type: the exception's type.
        message: what it says, with the type.
        frames: the stack, outermost first.
        where: the test, if it is one.
    """

    type: str
    message: str
    frames: tuple[Frame, ...] = ()
    where: str = ""

    @property
    def place(self) -> str:
        """The innermost line of the user's code, or else of any."""
        own = [f for f in self.frames if f.kind == "user"] or list(self.frames)
        return f"{own[-1].file}:{own[-1].line}" if own else ""


@dataclass(frozen=True)
class Count:
    """Something that happened, how often and where.

    Args:
        what: the operator, the name or the direction.
        place: the user's line.
        times: how often.
        bytes: how much was moved.
        outcome: what came of it.
        own: whether the user's own code asked for it, and not a library.
    """

    what: str
    place: str
    times: int
    bytes: int = 0
    outcome: str = ""
    own: bool = True


@dataclass(frozen=True)
class Rehearsal:
    """What is known after a rehearsal.

    Args:
        verdict: in one word.
        device: the name of the simulated device.
        reasons: why it is not proved, or what stood in the way.
        code: the exit code of the command.
        seconds: how long it ran.
        processes: how many processes used the device's library.
        operators: that ran on the device, by number of runs.
        fallbacks: operators that ran on the host, by line.
        transfers: between host and device, by line.
        touches: uses of another accelerator.
        notes: other remarks.
        memory: for each device, its peak and what was held at the end.
        failures: errors, the first one first.
        stacks: where a stopped process was.
        rules: rules that cover the failing line, each with its code and advice.
    """

    verdict: Verdict
    device: str
    reasons: tuple[str, ...] = ()
    code: int = 0
    seconds: float = 0.0
    processes: int = 0
    operators: tuple[Count, ...] = ()
    fallbacks: tuple[Count, ...] = ()
    transfers: tuple[Count, ...] = ()
    touches: tuple[Count, ...] = ()
    notes: tuple[Count, ...] = ()
    memory: Mapping[str, Mapping[str, int]] = field(default_factory=dict)
    failures: tuple[Failure, ...] = ()
    stacks: str = ""
    rules: tuple[str, ...] = ()

    @property
    def proved(self) -> bool:
        """Whether the code ran on the device from beginning to end."""
        return self.verdict is Verdict.RAN

    @property
    def runs(self) -> int:
        """How many operators ran on the device."""
        return sum(o.times for o in self.operators)

    def as_json(self) -> dict[str, Any]:
        """All of it as plain data."""
        found = asdict(self)
        found["verdict"] = self.verdict.value
        found["proved"] = self.proved
        return found


def read(folder: Path) -> list[dict[str, Any]]:
    """The records of all processes, oldest first; one that cannot be read is left out."""
    found = []
    for path in sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime):
        try:
            found.append(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError):
            continue
    return found


def judge(
    ended: Ended, records: Sequence[Mapping[str, Any]], device: str, stacks: str = ""
) -> Rehearsal:
    """The verdict on a command.

    Args:
        ended: how it ended.
        records: what its processes wrote.
        device: the name of the device.
        stacks: where its processes were at the time limit.
    """
    operators = _summed(
        (name, row[1], row[0], 0, "", True) for r in records for name, row in r["operators"].items()
    )
    fallbacks = _summed((n, s, c, 0, "", True) for r in records for n, s, c in r["fallbacks"])
    transfers = _summed((d, s, c, b, "", True) for r in records for d, s, c, b in r["transfers"])
    touches = _summed(
        (n, s, c, 0, o, own == "user") for r in records for n, o, s, own, c in r["touches"]
    )
    notes = _summed((t, s, c, 0, "", True) for r in records for t, s, c in r["notes"])
    failures = _failures(ended, records)
    verdict, reasons = _verdict(ended, records, operators, touches, notes, failures)
    return Rehearsal(
        verdict,
        device,
        reasons,
        ended.code,
        round(ended.seconds, 2),
        len(records),
        _by_operator(operators),
        fallbacks,
        transfers,
        touches,
        notes,
        _memory(records),
        failures,
        stacks,
    )


def _summed(rows: Iterable[tuple[str, str, int, int, str, bool]]) -> tuple[Count, ...]:
    times: collections.Counter[tuple[str, str, str, bool]] = collections.Counter()
    sizes: collections.Counter[tuple[str, str, str, bool]] = collections.Counter()
    for what, place, count, size, outcome, own in rows:
        times[what, place, outcome, own] += count
        sizes[what, place, outcome, own] += size
    found = [
        Count(what, place, count, sizes[what, place, outcome, own], outcome, own)
        for (what, place, outcome, own), count in times.items()
    ]
    return tuple(sorted(found, key=lambda c: (-c.times, c.what, c.place)))


def _by_operator(rows: tuple[Count, ...]) -> tuple[Count, ...]:
    """One row for each operator, with the line that ran it most."""
    found: dict[str, Count] = {}
    for row in rows:
        known = found.get(row.what)
        times = row.times + (known.times if known else 0)
        found[row.what] = Count(row.what, known.place if known else row.place, times)
    return tuple(sorted(found.values(), key=lambda c: (-c.times, c.what)))


def _memory(records: Sequence[Mapping[str, Any]]) -> dict[str, dict[str, int]]:
    found: dict[str, dict[str, int]] = {}
    for record in records:
        for name, row in record["memory"].items():
            known = found.setdefault(name, {"peak": 0, "held": 0})
            known["peak"] = max(known["peak"], row["peak"])
            known["held"] = max(known["held"], row["held"])
    return dict(sorted(found.items()))


def _failures(ended: Ended, records: Sequence[Mapping[str, Any]]) -> tuple[Failure, ...]:
    found = [
        Failure(
            f["type"],
            f["message"],
            tuple(Frame(**frame) for frame in f["frames"]),
            f.get("where", ""),
        )
        for record in records
        for f in record["failures"]
    ]
    told = [_told(f) for f in found if f.type in _OF_OTHERS]
    first = [f for f in found if f.type not in _OF_OTHERS]
    if not found and ended.code > 0:
        last = from_text(ended.errors)
        told = [last] if last is not None else []
    return tuple(first) or tuple(told)


def _told(failure: Failure) -> Failure:
    """The error that a parent process tells of, from its text."""
    return from_text(failure.message) or failure


def from_text(text: str) -> Failure | None:
    """The last traceback in a text; None if there is none."""
    frames: list[Frame] = []
    failure = None
    for line in text.splitlines():
        stripped = re.sub(r"^\[rank\d+\]: ?", "", line)
        if stripped.strip() == "Traceback (most recent call last):":
            frames = []
            continue
        match = _FRAME.match(stripped)
        if match:
            kind = _guess(match["file"])
            frames.append(
                Frame(match["file"], int(match["line"]), match["function"] or "", "", kind)
            )
            continue
        error = _ERROR.match(stripped) if frames and not stripped.startswith(" ") else None
        if error:
            failure = Failure(error["type"].rpartition(".")[2], stripped.strip(), tuple(frames))
            frames = []
    return failure


def _guess(file: str) -> str:
    if "site-packages" in file or "dist-packages" in file:
        return "library"
    inner = file.startswith("<") or "/lib/python3" in file or FOLDER_PREFIX in file
    return "internal" if inner else "user"


def _verdict(
    ended: Ended,
    records: Sequence[Mapping[str, Any]],
    operators: tuple[Count, ...],
    touches: tuple[Count, ...],
    notes: tuple[Count, ...],
    failures: tuple[Failure, ...],
) -> tuple[Verdict, tuple[str, ...]]:
    if ended.stopped:
        return Verdict.HUNG, (f"it still ran after {ended.seconds:.0f} s",)
    refused = _REFUSED.search(ended.errors) if ended.code else None
    if refused:
        return Verdict.UNSUPPORTED, (refused["said"],)
    if any(f.type == "ModuleNotFoundError" and f.message.endswith("'torch'") for f in failures):
        return Verdict.UNSUPPORTED, (NO_TORCH,)
    if ended.code < 0:
        return Verdict.CRASHED, (f"killed by signal {-ended.code}",)
    if ended.code:
        return Verdict.FAILED, (f"exit code {ended.code}",)
    reasons = tuple(_doubts(records, operators, touches, notes))
    return (Verdict.NOT_PROVED if reasons else Verdict.RAN), reasons


def _doubts(
    records: Sequence[Mapping[str, Any]],
    operators: tuple[Count, ...],
    touches: tuple[Count, ...],
    notes: tuple[Count, ...],
) -> Iterable[str]:
    """Why a command that ended well does not prove that the code runs on the device."""
    if not records:
        yield "no process loaded torch with the simulated device"
        return
    if not operators:
        yield "no operator ran on the device"
    for record in records:
        if record["rank"] and not record["operators"]:
            yield f"rank {record['rank']} ran no operator on the device"
    for touch in touches:
        # With operators on the device, a question is only a question; what has no effect is not.
        if touch.own and (not operators or touch.outcome != "consulted"):
            yield f"{touch.place}: {touch.what} {touch.outcome}"
    on_host = [n for n in notes if n.what == "an optimiser steps parameters on the host"]
    if on_host and not any(n.what == "an optimiser steps parameters on the device" for n in notes):
        yield f"{on_host[0].place}: the optimiser steps parameters on the host only"
