"""`porter rehearse`: prepare the device, run the command, judge it."""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import shlex
import shutil
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from porter import temporary
from porter.problem import Mistake
from porter.rehearse import cells, interpreter, launch, processes, show
from porter.rehearse.interpreter import Interpreter
from porter.rehearse.verdict import Count, Rehearsal, Verdict, judge, read
from porter.rule import Status
from porter.source import decode_python
from porter.targets import TABLED, Target

if TYPE_CHECKING:
    from porter.engine import Settled

#: Seconds that a rehearsal may take unless another limit is given.
DEFAULT_LIMIT = 600.0
PROVED, NOT_PROVED, TROUBLE = 0, 1, 2
#: Sessions, signals and their like.
POSIX = os.name == "posix"
#: The part of the free memory of this machine that a rehearsal may take unless told otherwise.
_SHARE = 0.9
NO_TORCH = (
    "rehearsals need a Python with torch: pip install 'torch-porter[rehearse]', or name one with "
    "--python"
)
#: What to do about a finding without a reason, by its status.
_WORDS = {
    Status.REWRITTEN: "porter migrate rewrites it",
    Status.LEFT: "left for a person",
    Status.INFORMATION: "nothing has to be done",
}


@dataclass(frozen=True)
class Options:
    """How to rehearse.

    Args:
        device: the name of the simulated device.
        module: whether the first word is a module.
        python: the interpreter to run with; empty for this one, or else that of the shell.
        limit: seconds; 0 for no limit.
        host_memory: bytes of this machine that all processes may hold together; 0 for most of
            what is free.
        strict: whether an operator without a kernel is an error.
        devices: how many devices there are.
        memory: bytes of memory of each device.
        hardware: the product line.
        quiet: whether operators that fall back are kept from standard error.
        echo: whether the command's own standard error is passed on.
        folder: where to run; empty for the current folder.
        original: the folder that `folder` is a part of a copy of; empty if it is no copy.
        copied: the copy of `original`.
        variables: environment variables to add, as "NAME=value".
    """

    device: str = TABLED
    module: bool = False
    python: str = ""
    limit: float = DEFAULT_LIMIT
    host_memory: int = 0
    strict: bool = False
    devices: int = 8
    memory: int = 64 << 30
    hardware: str = ""
    quiet: bool = False
    echo: bool = True
    folder: str = ""
    original: str = ""
    copied: str = ""
    variables: tuple[str, ...] = ()


def rehearse(
    words: Sequence[str], options: Options | None = None, output: IO[str] | int | None = None
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
    said = " ".join(["-m"] * options.module + [shlex.quote(word) for word in words])
    if not POSIX:
        return _refused(options, _simulated("start").refusal("", sys.platform), said)
    with temporary.folder(launch.FOLDER_PREFIX) as folder:
        found = _rehearse(list(words), options, folder, output)
    return replace(found, command=said)


def _simulated(module: str) -> Any:
    return importlib.import_module(f"porter.rewrites.simulated.{module}")


def _refused(options: Options, reason: str, command: str = "") -> Rehearsal:
    return Rehearsal(Verdict.UNSUPPORTED, options.device, (reason,), command=command)


def _rehearse(
    words: list[str], options: Options, folder: Path, output: IO[str] | int | None
) -> Rehearsal:
    where = Path(options.folder or Path.cwd()).resolve()
    records = folder / "records"
    boot = folder / "boot"
    records.mkdir()
    boot.mkdir()
    given = dict(v.partition("=")[::2] for v in options.variables)
    try:
        python, asked = choose(options.python, where, given)
        start = _simulated("start")
        refused = start.refusal(asked.torch, asked.platform) if asked.torch else ""
        if refused:
            return _refused(options, refused)
        environment = {**given, **_prepare(boot, records, options)}
        _import_from(environment, given, asked, options)
        # Programs that start Python by its name are to start this one.
        beside = str(Path(python).parent)
        environment["PATH"] = beside + os.pathsep + given.get("PATH", os.environ.get("PATH", ""))
        if words[0].endswith(".ipynb"):
            words = [str(cells.script(where / words[0], words[1:], folder)), *words[1:]]
            environment["PYTHONPATH"] += os.pathsep + str(where)
        command = launch.resolve(words, python, options.module, where)
        ended = launch.run(
            command,
            environment,
            where,
            launch.Limits(options.limit, _memory_limit(options)),
            ask=lambda: _ask(records),
            output=output,
            echo=options.echo,
        )
    except (
        launch.NotFound, interpreter.NoAnswer, cells.NotebookProblem, ValueError, OSError,
    ) as error:  # fmt: skip
        raise Mistake(str(error)) from None
    stacks = _stacks(records, ended.errors) if ended.stopped else ""
    found = judge(ended, read(records), options.device, stacks)
    warned = start.caution(asked.platform)
    notes = [Count(warned, "", 1)] if warned else []
    found = replace(found, notes=(*notes, *_remarks(found, options), *found.notes))
    return replace(found, rules=tuple(_rules(found, options.device)), hardware=options.hardware)


def choose(given: str, folder: Path, environment: dict[str, str]) -> tuple[str, Interpreter]:
    """The interpreter to run with, and what it answered.

    Args:
        given: the one that the user named; empty for this one if it has torch, or else the one
            that the shell finds.
        folder: where it runs.
        environment: variables to add to those of this process.

    Raises:
        Mistake: none has torch.
        interpreter.NoAnswer: the one that was named does not answer.
    """
    if given:
        asked = interpreter.ask(given, folder, environment)
        if asked.has_torch:
            return given, asked
        raise Mistake(f"{given} has no torch")
    for python in dict.fromkeys((sys.executable, *_of_the_shell())):
        with contextlib.suppress(interpreter.NoAnswer):
            asked = interpreter.ask(python, folder, environment)
            if asked.has_torch:
                return python, asked
    raise Mistake(NO_TORCH)


def _of_the_shell() -> Iterator[str]:
    for name in ("python", "python3"):
        found = shutil.which(name)
        if found is not None:
            yield found


def _memory_limit(options: Options) -> int:
    return options.host_memory or int(processes.available() * _SHARE)


def _prepare(boot: Path, records: Path, options: Options) -> dict[str, str]:
    prepare = _simulated("prepare")
    settings = prepare.Settings(
        device=options.device,
        count=options.devices,
        strict=options.strict,
        quiet=options.quiet,
        memory=options.memory,
        hardware=options.hardware,
        record=str(records),
        original=options.original,
    )
    made: Callable[..., dict[str, str]] = prepare.prepare
    return made(boot, settings)


def _import_from(
    environment: dict[str, str], given: dict[str, str], asked: Interpreter, options: Options
) -> None:
    """Let the copy's own modules be found before those of the original, where it is installed."""
    boot, *rest = environment["PYTHONPATH"].split(os.pathsep)
    if "PYTHONPATH" in given:
        rest = given["PYTHONPATH"].split(os.pathsep)
    moved = [moved_path(p, options.original, options.copied) for p in asked.path]
    found = dict.fromkeys(p for p in moved if p and Path(p).is_dir())
    environment["PYTHONPATH"] = os.pathsep.join([boot, *found, *filter(None, rest)])


def moved_path(path: str, original: str, copied: str) -> str:
    """Where the copy has what the original has at `path`; empty if it lies elsewhere.

    Args:
        path: a folder that modules are imported from.
        original: the folder that was copied; empty if none was.
        copied: the copy.
    """
    real = os.path.realpath(path)
    if not original or (real != original and not real.startswith(original + os.sep)):
        return ""
    if any(part in ("site-packages", "dist-packages") for part in Path(real).parts):
        return ""
    return copied + real[len(original) :]


def _ask(records: Path) -> set[int]:
    """Ask the processes that answer where they are; tells which those are."""
    number = getattr(signal, "SIGUSR1", 0)
    asked = set()
    for path in records.glob("*.stack") if number else ():
        with contextlib.suppress(ValueError, ProcessLookupError, PermissionError):
            os.kill(int(path.stem), number)
            asked.add(int(path.stem))
    return asked


def _remarks(found: Rehearsal, options: Options) -> Iterator[Count]:
    """What the tables say of the operators on the chosen product line."""
    if options.device != TABLED:
        return
    ran = {o.what: o for o in found.operators}
    for name, said in _simulated("hardware").remarks(ran, options.hardware):
        yield Count(said, ran[name].place, ran[name].times)


def _stacks(records: Path, errors: str) -> str:
    """What the processes wrote when they were asked where they are, or were ended."""
    texts = [p.read_text(encoding="utf-8", errors="replace") for p in records.glob("*.stack")]
    if not any(t.strip() for t in texts):
        texts = [errors[errors.find(launch.FATAL) :]] if launch.FATAL in errors else []
    return "\n".join(t.strip() for t in texts if t.strip())


def _rules(found: Rehearsal, device: str) -> list[str]:
    """What porter itself says of the lines that failed or touched another accelerator.

    Where it says nothing of the line that failed, the cause may stand elsewhere in that file: what
    porter left there for a person.
    """
    target = Target(TABLED if device == TABLED else "accelerator")
    failed = [_split(f.place) for f in found.failures]
    touched = [_split(t.place) for t in found.touches if t.own]
    sites: dict[str, list[Settled]] = {}
    said: dict[str, None] = {}
    for file, line in (*failed, *touched):
        if file not in sites:
            sites[file] = _settled(Path(file), target) if Path(file).is_file() else []
        said.update((_told(file, s), None) for s in sites[file] if s.line == line)
    covered = any(s.line == line for file, line in failed for s in sites[file])
    for file in {} if covered else dict.fromkeys(file for file, _ in failed):
        said.update((_told(file, s), None) for s in sites[file] if s.status is Status.LEFT)
    return list(said)


def _split(place: str) -> tuple[str, int]:
    file, _, line = place.partition(" ")[0].rpartition(":")
    return file, int(line) if line.isdigit() else 0


def _told(file: str, site: Settled) -> str:
    return f"{file}:{site.line}: {site.finding.rule} {site.finding.reason or _WORDS[site.status]}"


def _settled(path: Path, target: Target) -> list[Settled]:
    from porter import catalog, engine

    try:
        text = decode_python(str(path), path.read_bytes()).text
        return list(engine.analyse(text, catalog.load(), target, path=str(path)).settled)
    except Exception:
        # The file is the user's, and may be anything; the verdict stands without its rules.
        return []


def report(rehearsal: Rehearsal, *, as_json: bool = False) -> str:
    """The report as text, for a terminal or for programs."""
    if as_json:
        return json.dumps(rehearsal.as_json(), indent=1) + "\n"
    return show.text(rehearsal, (Path.cwd(),))


def exit_code(rehearsal: Rehearsal) -> int:
    """0 if the code is proved to run, 1 if it is not, 2 if it could not be rehearsed."""
    if rehearsal.verdict is Verdict.UNSUPPORTED:
        return TROUBLE
    return PROVED if rehearsal.proved else NOT_PROVED
