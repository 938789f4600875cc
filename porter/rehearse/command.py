"""`porter rehearse`: prepare the device, run the command, judge it."""

from __future__ import annotations

import importlib
import json
import os
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, Any

from porter.rehearse import cells, launch, show
from porter.rehearse.verdict import Count, Rehearsal, judge, read
from porter.source import decode_python
from porter.targets import TABLED, Target

#: Seconds that a rehearsal may take unless another limit is given.
DEFAULT_LIMIT = 600.0
RAN, NOT_PROVED, TROUBLE = 0, 1, 2
#: What to do about a finding without a reason, by its status.
_WORDS = {
    "rewritten": "porter migrate rewrites it",
    "left": "left for a person",
    "information": "nothing has to be done",
}


class Mistake(Exception):
    """A mistake of the user; the text is one line."""


@dataclass(frozen=True)
class Options:
    """How to rehearse.

    Args:
        device: the name of the simulated device.
        module: whether the first word is a module.
        python: the interpreter to run with; empty for this one.
        limit: seconds; 0 for no limit.
        strict: whether an operator without a kernel is an error.
        devices: how many devices there are.
        memory: bytes of memory of each device.
        hardware: the product line.
        quiet: whether operators that fall back are kept from standard error.
        folder: where to run; empty for the current folder.
    """

    device: str = TABLED
    module: bool = False
    python: str = ""
    limit: float = DEFAULT_LIMIT
    strict: bool = False
    devices: int = 8
    memory: int = 64 << 30
    hardware: str = ""
    quiet: bool = False
    folder: str = ""


def rehearse(
    words: Sequence[str], options: Options | None = None, output: IO[str] | None = None
) -> Rehearsal:
    """Run a command on the simulated device.

    Args:
        words: a script, a module, a notebook or a program, with its arguments.
        options: how; the defaults if None.
        output: where the command's standard output goes; None leaves it alone.

    Raises:
        Mistake: there is no such script, program, device or interpreter.
    """
    options = options or Options()
    if not words:
        raise Mistake("nothing to rehearse: name a script, or a program after --")
    if os.name != "posix":
        raise Mistake("rehearsals need Linux or macOS")
    with tempfile.TemporaryDirectory(prefix=launch.FOLDER_PREFIX) as name:
        return _rehearse(list(words), options, Path(name), output)


def _rehearse(
    words: list[str], options: Options, folder: Path, output: IO[str] | None
) -> Rehearsal:
    where = Path(options.folder or Path.cwd()).resolve()
    records = folder / "records"
    boot = folder / "boot"
    records.mkdir()
    boot.mkdir()
    python = options.python or sys.executable
    try:
        environment = _prepare(boot, records, options)
        if words[0].endswith(".ipynb"):
            words = [str(cells.script(where / words[0], words[1:], folder)), *words[1:]]
            environment["PYTHONPATH"] += os.pathsep + str(where)
        command = launch.resolve(words, python, options.module, where)
        ask = getattr(signal, "SIGUSR1", None)
        ended = launch.run(command, environment, where, options.limit, ask, output)
    except (launch.NotFound, cells.NotebookProblem, ValueError, OSError) as error:
        raise Mistake(str(error)) from None
    stacks = _stacks(records) if ended.stopped else ""
    found = judge(ended, read(records), options.device, stacks)
    found = replace(found, notes=(*_remarks(found, options), *found.notes))
    return replace(found, rules=tuple(_rules(found, options.device)))


def _prepare(boot: Path, records: Path, options: Options) -> dict[str, str]:
    prepare: Any = importlib.import_module("porter.rewrites.simulated.prepare")
    settings = prepare.Settings(
        device=options.device,
        count=options.devices,
        strict=options.strict,
        quiet=options.quiet,
        memory=options.memory,
        hardware=options.hardware,
        record=str(records),
    )
    made: Callable[..., dict[str, str]] = prepare.prepare
    return made(boot, settings)


def _remarks(found: Rehearsal, options: Options) -> Iterator[Count]:
    """What the tables say of the operators on the chosen product line."""
    if options.device != TABLED:
        return
    module: Any = importlib.import_module("porter.rewrites.simulated.hardware")
    ran = {o.what: o for o in found.operators}
    for name, said in module.remarks(ran, options.hardware):
        yield Count(said, ran[name].place, ran[name].times)


def _stacks(records: Path) -> str:
    """What the processes wrote when they were asked where they are."""
    texts = (p.read_text(encoding="utf-8", errors="replace") for p in records.glob("*.stack"))
    return "\n".join(t.strip() for t in texts if t.strip())


def _rules(found: Rehearsal, device: str) -> list[str]:
    """What porter itself says of the lines that failed or touched another accelerator."""
    places = [f.place for f in found.failures] + [t.place for t in found.touches if t.own]
    target = Target(TABLED if device == TABLED else "accelerator")
    said: dict[str, None] = {}
    for place in dict.fromkeys(places):
        file, _, line = place.partition(" ")[0].rpartition(":")
        if line.isdigit() and Path(file).is_file():
            said.update(dict.fromkeys(_rules_at(Path(file), int(line), target)))
    return list(said)


def _rules_at(path: Path, line: int, target: Target) -> list[str]:
    from porter import catalog, engine

    try:
        text = decode_python(str(path), path.read_bytes()).text
        outcome = engine.analyse(text, catalog.load(), target, path=str(path))
    except Exception:
        # The file is the user's, and may be anything; the verdict stands without its rules.
        return []
    return [
        f"{path}:{line}: {s.finding.rule} {s.finding.reason or _WORDS[s.status.value]}"
        for s in outcome.settled
        if s.line == line
    ]


def report(rehearsal: Rehearsal, *, as_json: bool = False) -> str:
    """The report as text, for a terminal or for programs."""
    if as_json:
        return json.dumps(rehearsal.as_json(), indent=1) + "\n"
    return show.text(rehearsal, Path.cwd())


def exit_code(rehearsal: Rehearsal) -> int:
    """0 if the code is proved to run, 1 if it is not."""
    return RAN if rehearsal.proved else NOT_PROVED
