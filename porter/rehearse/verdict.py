"""From the records of all processes to one verdict."""

from __future__ import annotations

import collections
import json
import re
import signal
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

from porter.rehearse.launch import FOLDER_PREFIX, MEMORY, TIME, Ended

_FRAME = re.compile(r'^\s*File "(?P<file>[^"]+)", line (?P<line>\d+)(?:,? in (?P<function>.+))?$')
_ERROR = re.compile(
    r"^(?P<type>[A-Za-z_][\w.]*(?:Error|Exception|Interrupt|Exit|\w*)): ?(?P<said>.*)$"
)
#: The device does not run on every torch: `porter.rewrites.simulated.start.Unsupported`.
_REFUSED = re.compile(r"^\S*\bUnsupported: (?P<said>.+)$", re.MULTILINE)
NO_TORCH = "this Python has no torch; give one that has with --python, or install it here"
#: Version of the JSON layout (docs/rehearsal.schema.json).
LAYOUT = 1
#: Errors that only tell of another process's error.
_OF_OTHERS = frozenset(["ChildFailedError", "ProcessRaisedException", "ProcessExitedException"])
#: Errors that only tell that a process was stopped.
_OF_STOPPING = frozenset(["SignalException", "KeyboardInterrupt", "SystemExit"])
_FATAL = re.compile(r"^Fatal Python error: (?P<said>.+)$", re.MULTILINE)
#: What kernels of the host say of dtypes that they do not take; the device has kernels of its own.
_NO_HOST_KERNEL = re.compile(r'"[\w:]+" not implemented for \'\w+\'')
_NOT_SIMULATED = re.compile(r"^\S*NotImplementedError: .*\bnot simulated\b")
#: How the outcomes of uses of another accelerator begin that leave nothing undone: a question, and
#: a seed that the device has anyway.
HARMLESS = ("answered", "needless")
#: The outcome of a remark that makes a rehearsal no proof.
DOUBT = "doubt"
#: The remark that says that all is well.
GOOD = "an optimiser steps parameters on the device"
#: The remark that says that nothing is, unless there is the other one as well.
ON_HOST = "an optimiser steps parameters on the host"


class Verdict(str, Enum):
    """What a rehearsal came to."""

    RAN = "ran"
    FAILED = "failed"
    CRASHED = "crashed"
    HUNG = "stopped at the time limit"
    FULL = "stopped at the memory limit"
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
        command: what was rehearsed.
        hardware: the product line that operators and dtypes were looked up for; may be empty.
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
    command: str = ""
    hardware: str = ""

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
        return {"rehearsal": LAYOUT, "proved": self.proved, **found}


def from_json(data: Mapping[str, Any]) -> Rehearsal:
    """A rehearsal from the data that `as_json` gives.

    Raises:
        KeyError, TypeError, ValueError: it is not such data.
    """
    given = {k: v for k, v in data.items() if k not in ("rehearsal", "proved")}
    for name in ("operators", "fallbacks", "transfers", "touches", "notes"):
        given[name] = tuple(Count(**row) for row in given[name])
    given["failures"] = tuple(
        Failure(**{**f, "frames": tuple(Frame(**row) for row in f["frames"])})
        for f in given["failures"]
    )
    for name in ("reasons", "rules"):
        given[name] = tuple(given[name])
    return Rehearsal(**{**given, "verdict": Verdict(given["verdict"])})


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
        stacks: where its processes were at the limit, as faulthandler writes it.
    """
    operators = _summed(
        (name, row[1], row[0], 0, "", True) for r in records for name, row in r["operators"].items()
    )
    fallbacks = _summed((n, s, c, 0, "", True) for r in records for n, s, c in r["fallbacks"])
    transfers = _summed((d, s, c, b, "", True) for r in records for d, s, c, b in r["transfers"])
    touches = _summed(
        (n, s, c, 0, o, own == "user") for r in records for n, o, s, own, c in r["touches"]
    )
    notes = _summed(
        (row[0], row[1], row[2], 0, DOUBT if row[3:] == [True] else "", True)
        for r in records
        for row in r["notes"]
    )
    left = tuple(Count(f"still ran after the end: {line}", "", 1) for line in ended.outlived)
    found = Rehearsal(
        Verdict.RAN,
        device,
        code=ended.code,
        seconds=round(ended.seconds, 2),
        processes=len(records),
        operators=_by_operator(operators),
        fallbacks=fallbacks,
        transfers=transfers,
        touches=touches,
        notes=(*notes, *left),
        memory=_memory(records),
        failures=_failures(ended, records),
        stacks=stacks,
    )
    verdict, reasons = _verdict(ended, records, found)
    return replace(found, verdict=verdict, reasons=reasons)


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
        if not (ended.stopped and f["type"] in _OF_STOPPING)
    ]
    told = [_told(f) for f in found if f.type in _OF_OTHERS]
    first = [f for f in found if f.type not in _OF_OTHERS]
    crash = fatal_from_text(ended.errors) if ended.code and not ended.stopped else None
    if crash is not None:
        first.append(crash)
    if not first and not told and ended.code > 0 and not ended.stopped:
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
            frames.append(_frame(match))
            continue
        error = _ERROR.match(stripped) if frames and not stripped.startswith(" ") else None
        if error:
            failure = Failure(error["type"].rpartition(".")[2], stripped.strip(), tuple(frames))
            frames = []
    return failure


def fatal_from_text(text: str) -> Failure | None:
    """Where Python was when a signal ended it, as faulthandler wrote it; None if it did not."""
    match = _FATAL.search(text)
    if match is None:
        return None
    frames = tuple(stack_from_text(text[match.end() :]))
    said = match["said"].strip()
    return Failure("crash", f"Fatal Python error: {said}", frames) if frames else None


def stack_from_text(text: str) -> list[Frame]:
    """The first stack in what faulthandler wrote, outermost line first."""
    frames: list[Frame] = []
    for line in text.splitlines():
        match = _FRAME.match(line)
        if match:
            frames.append(_frame(match))
        elif frames:
            break
    return frames[::-1]


def _frame(match: re.Match[str]) -> Frame:
    kind = _guess(match["file"])
    return Frame(match["file"], int(match["line"]), match["function"] or "", "", kind)


def _guess(file: str) -> str:
    # Programs such as torchrun are installed without an extension.
    program = Path(file).parent.name == "bin" and not Path(file).suffix
    if "site-packages" in file or "dist-packages" in file or program:
        return "library"
    inner = file.startswith("<") or "/lib/python3" in file or FOLDER_PREFIX in file
    return "internal" if inner else "user"


def _verdict(
    ended: Ended, records: Sequence[Mapping[str, Any]], found: Rehearsal
) -> tuple[Verdict, tuple[str, ...]]:
    if ended.stopped == TIME:
        return Verdict.HUNG, (f"it still ran after {ended.seconds:.0f} s", *_where(found.stacks))
    if ended.stopped == MEMORY:
        said = "its processes held more memory of this machine than they may"
        return Verdict.FULL, (said, *_where(found.stacks))
    refused = _REFUSED.search(ended.errors) if ended.code else None
    if refused:
        return Verdict.UNSUPPORTED, (refused["said"],)
    missing = (f for f in found.failures if f.type == "ModuleNotFoundError")
    if any(f.message.endswith("'torch'") for f in missing):
        return Verdict.UNSUPPORTED, (NO_TORCH,)
    if ended.code < 0:
        return Verdict.CRASHED, (_signal_name(-ended.code),)
    if ended.code and found.failures and all(map(_is_gap, found.failures)):
        gaps = (f"{f.place}: the simulation cannot do this: {f.message}" for f in found.failures)
        return Verdict.NOT_PROVED, tuple(dict.fromkeys(gaps))
    if ended.code:
        return Verdict.FAILED, (f"exit code {ended.code}", *_last_words(ended, found))
    reasons = tuple(_doubts(records, found))
    return (Verdict.NOT_PROVED if reasons else Verdict.RAN), reasons


def _is_gap(failure: Failure) -> bool:
    """Whether only the simulation failed: what the device would have done is not known."""
    if failure.type == "NotSimulated" or _NOT_SIMULATED.search(failure.message):
        return True
    inside = bool(failure.frames) and FOLDER_PREFIX in failure.frames[-1].file
    return inside and bool(_NO_HOST_KERNEL.search(failure.message))


def _where(stacks: str) -> Iterable[str]:
    """The user's line that a process was at when it was stopped."""
    for part in re.split(r"^(?=Current thread|Stack \(|Thread )", stacks, flags=re.MULTILINE):
        stack = tuple(stack_from_text(part))
        place = Failure("", "", stack).place
        if any(f.kind == "user" for f in stack):
            yield f"{place}: here it was when it was stopped"


def _signal_name(number: int) -> str:
    try:
        name = signal.Signals(number).name
    except ValueError:
        name = f"signal {number}"
    more = "; perhaps the machine has too little memory" if name == "SIGKILL" else ""
    return f"killed by {name}{more}"


def _last_words(ended: Ended, found: Rehearsal) -> Iterable[str]:
    """What an exit without a traceback is about."""
    if found.failures:
        return
    lines = [line.strip() for line in ended.errors.splitlines() if line.strip()]
    if lines:
        yield f"the last line it wrote: {lines[-1]}"
    yield from (_said(t) for t in found.touches if t.own)


def _said(touch: Count) -> str:
    return f"{touch.place}: {touch.what} {touch.outcome}"


def _doubts(records: Sequence[Mapping[str, Any]], found: Rehearsal) -> Iterable[str]:
    """Why a command that ended well does not prove that the code runs on the device."""
    if not records:
        yield "no process loaded torch with the simulated device"
        return
    if not found.operators:
        yield "no operator ran on the device"
    busy = {r["rank"] for r in records if r["operators"]}
    for rank in sorted({r["rank"] for r in records} - busy - {""}):
        yield f"rank {rank} ran no operator on the device"
    for touch in found.touches:
        # With operators on the device, a question is only a question; what has no effect may be
        # what the program needs there.
        if touch.own and (not found.operators or not touch.outcome.startswith(HARMLESS)):
            yield _said(touch)
    yield from (f"{n.place}: {n.what}" for n in found.notes if n.outcome == DOUBT)
    on_host = [n for n in found.notes if n.what == ON_HOST]
    if on_host and not any(n.what == GOOD for n in found.notes):
        yield f"{on_host[0].place}: the optimiser steps parameters on the host only"
