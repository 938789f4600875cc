"""A migration that is tried before it is written: a migrated copy is rehearsed."""

from __future__ import annotations

import bisect
import difflib
import os
import re
import shlex
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, Any

from porter import git, temporary
from porter.problem import Mistake
from porter.rehearse import command, copies, merge, show
from porter.rehearse.command import Options
from porter.rehearse.verdict import Count, Failure, Rehearsal, Verdict
from porter.runner import Run
from porter.source import SourceProblem, decode_python
from porter.targets import TABLED

#: Any name that is no device will do: code for every accelerator must not know it.
OTHER = "other"
#: Copies are made in temporary folders of this name, which is not that of the machinery.
_PREFIX = "porter-copy-"
_VARIABLE = re.compile(r"[A-Za-z_]\w*=")
#: Words that a shell would understand, and a program would not.
_SHELL = frozenset({"|", "||", "&&", "&", ";", ">", ">>", "<", "2>", "2>&1"})


@dataclass(frozen=True)
class Wanted:
    """What to rehearse, and how.

    Args:
        command: as it is typed in a shell, with environment variables in front.
        devices: names of the devices, one after the other; empty for those of the target.
        before: whether the code is rehearsed as it was, too.
        linked: folders to link instead of copying them.
        limit: bytes that a copy may have.
        options: everything else.
    """

    command: str
    devices: tuple[str, ...] = ()
    before: bool = False
    linked: tuple[Path, ...] = ()
    limit: int = copies.LIMIT
    options: Options = field(default_factory=Options)


@dataclass(frozen=True)
class Trial:
    """What came of a migration that was tried.

    Args:
        rehearsals: of the migrated code, by device.
        before: of the code as it was; None if that was not asked for.
        bases: folders that paths are shown relative to: where it ran, and the project.
    """

    rehearsals: tuple[Rehearsal, ...]
    before: Rehearsal | None
    bases: tuple[Path, ...]

    @property
    def proved(self) -> bool:
        """Whether it ran on every device."""
        return all(r.proved for r in self.rehearsals)

    @property
    def possible(self) -> bool:
        """Whether there was a rehearsal at all."""
        return all(r.verdict is not Verdict.UNSUPPORTED for r in self.rehearsals)

    def checks(self) -> list[dict[str, Any]]:
        """The rehearsals for the report."""
        found = [merge.check(r, self.bases) for r in self.rehearsals]
        if self.before is not None:
            said = merge.check(self.before, self.bases)
            for each in found:
                each["detail"] += f"; before the migration: {said['verdict']}"
                each["detail"] += f" ({said['detail']})" if said["detail"] else ""
        return found


def parsed(text: str) -> tuple[tuple[str, ...], list[str]]:
    """Environment variables and words of a command.

    Raises:
        Mistake: it is empty, or a line for a shell.
    """
    try:
        words = shlex.split(text)
    except ValueError as problem:
        raise Mistake(f"--rehearse: {text!r}: {problem}") from None
    stray = next((w for w in words if w in _SHELL), None)
    if stray is not None:
        raise Mistake(f"--rehearse takes one command without {stray!r}; or write sh -c '...'")
    start = next((i for i, w in enumerate(words) if not _VARIABLE.match(w)), len(words))
    if start == len(words):
        raise Mistake(f"--rehearse: {text!r} names no command")
    return tuple(words[:start]), words[start:]


def place(paths: Sequence[Path], here: Path) -> tuple[Path, Path]:
    """The project to copy, and the folder in it to run in; both real paths.

    The command runs where porter runs. Where that does not hold what is migrated, it runs in the
    one folder that was named. The project is the whole work tree of git, or else that folder.

    Raises:
        Mistake: what is migrated is spread over several places.
    """
    real = [Path(os.path.realpath(p)) for p in paths]
    folder = Path(os.path.realpath(here))
    top = git.toplevel(folder) or folder
    if not all(p.is_relative_to(top) for p in real):
        if len(real) != 1 or not real[0].is_dir():
            raise Mistake("--rehearse: run porter in the project's folder, which must hold all of "
                          "PATH")  # fmt: skip
        folder = real[0]
        top = git.toplevel(folder) or folder
    return top, folder


def devices(target: str) -> tuple[str, ...]:
    """The devices that code for a target must run on.

    Code for every accelerator must run on the one whose traps are known, and on one it cannot
    know.
    """
    return (TABLED,) if target == TABLED else (TABLED, OTHER)


def rehearse(
    run: Run,
    paths: Sequence[Path],
    wanted: Wanted,
    say: Callable[[str], None],
    output: IO[str] | int | None = None,
) -> Trial:
    """Rehearse a migration in copies of the project, which itself stays as it is.

    Args:
        run: what the migration writes.
        paths: what is migrated.
        wanted: what to rehearse.
        say: told in one line what begins.
        output: where the command's standard output goes.

    Raises:
        Mistake: the command or the place to run it cannot be used.
        copies.CopyProblem: the project cannot be copied.
    """
    variables, words = parsed(wanted.command)
    project, folder = place(paths, Path.cwd())
    options = replace(wanted.options, variables=variables)
    changes = {c.file.path: c.after for c in run.changed}
    names = wanted.devices or devices(run.report.target)
    before = None
    if wanted.before:
        say(f"rehearsing the code as it is on the simulated {names[0]}")
        one = replace(options, device=names[0])
        before = _in_copy(project, folder, words, wanted, one, {}, output)
    done: list[Rehearsal] = []
    for name in names:
        say(f"rehearsing the migrated code on the simulated {name}")
        one = replace(options, device=name)
        done.append(_in_copy(project, folder, words, wanted, one, changes, output))
        if not done[-1].proved:
            # Nothing is written now, so its lines must be those of the files as they are.
            done[-1] = with_old_lines(done[-1], changes)
            break
    return Trial(tuple(done), before, (folder, project))


def _in_copy(
    project: Path,
    folder: Path,
    words: Sequence[str],
    wanted: Wanted,
    options: Options,
    changes: Mapping[Path, bytes],
    output: IO[str] | int | None,
) -> Rehearsal:
    with temporary.folder(_PREFIX) as home:
        # The folder keeps its name: a package may be called by it.
        copied = home / (project.name or "project")
        copied.mkdir()
        copies.copy(project, copied, changes, wanted.linked, wanted.limit)
        mine = [_moved(word, str(project), str(copied)) for word in words]
        variables = tuple(_moved(v, str(project), str(copied)) for v in options.variables)
        found = command.rehearse(
            mine,
            replace(
                options,
                folder=str(copied / folder.relative_to(project)),
                original=str(project),
                copied=str(copied),
                variables=variables,
            ),
            output,
        )
        return with_paths(found, str(copied), str(project))


def _moved(word: str, project: str, copied: str) -> str:
    """A word with paths into the project leading into the copy."""
    return re.sub(rf"(^|[=:,]){re.escape(project)}(?=/|$|[:,])", rf"\g<1>{_safe(copied)}", word)


def _safe(text: str) -> str:
    return text.replace("\\", r"\\")


# Paths and lines --------------------------------------------------------------------------------


def _changed(found: Rehearsal, change: Callable[[str], str]) -> Rehearsal:
    """A rehearsal with all of its texts changed."""

    def failure(row: Failure) -> Failure:
        frames = []
        for frame in row.frames:
            file, _, line = change(f"{frame.file}:{frame.line}").rpartition(":")
            frames.append(replace(frame, file=file, line=int(line)))
        return replace(row, message=change(row.message), frames=tuple(frames))

    def counts(rows: tuple[Count, ...]) -> tuple[Count, ...]:
        return tuple(replace(r, what=change(r.what), place=change(r.place)) for r in rows)

    return replace(
        found,
        operators=counts(found.operators),
        fallbacks=counts(found.fallbacks),
        transfers=counts(found.transfers),
        touches=counts(found.touches),
        notes=counts(found.notes),
        reasons=tuple(map(change, found.reasons)),
        rules=tuple(map(change, found.rules)),
        failures=tuple(map(failure, found.failures)),
        stacks=change(found.stacks),
        command=change(found.command),
    )


def with_paths(found: Rehearsal, copied: str, project: str) -> Rehearsal:
    """A rehearsal of a copy, with the paths of the project."""
    pattern = re.compile(rf"(?<![\w./-]){re.escape(copied)}(?=/|\b)")
    return _changed(found, lambda text: pattern.sub(_safe(project), text))


def with_old_lines(found: Rehearsal, changes: Mapping[Path, bytes]) -> Rehearsal:
    """A rehearsal of migrated files, with the numbers that its lines had before."""
    tables = {os.path.realpath(path): path for path in changes}
    read: dict[str, _Lines | None] = {}

    def number(match: re.Match[str]) -> str:
        file = match["file"]
        if file not in tables:
            return match[0]
        if file not in read:
            read[file] = _lines(tables[file], changes[tables[file]])
        table = read[file]
        return match[0] if table is None else f"{file}:{table.before(int(match['line']))}"

    pattern = re.compile(r"(?P<file>/[^\s:\"']+):(?P<line>\d+)")
    return _changed(found, lambda text: pattern.sub(number, text))


@dataclass(frozen=True)
class _Lines:
    """Where the lines of a file came from: `starts` of blocks after, with the same before."""

    starts: tuple[int, ...]
    earlier: tuple[int, ...]
    equal: tuple[bool, ...]

    def before(self, line: int) -> int:
        """The 1-based number that a line had; for a new line, that of the one it stands at."""
        i = bisect.bisect_right(self.starts, line - 1) - 1
        if i < 0:
            return line
        return self.earlier[i] + 1 + (line - 1 - self.starts[i] if self.equal[i] else 0)


def _lines(path: Path, after: bytes) -> _Lines | None:
    try:
        before = decode_python(str(path), path.read_bytes()).text.splitlines()
        now = decode_python(str(path), after).text.splitlines()
    except (OSError, SourceProblem):
        return None
    blocks = difflib.SequenceMatcher(None, before, now, autojunk=False).get_opcodes()
    rows = [
        # Lines that were replaced one by one keep their place in the block.
        (j1, i1, tag == "equal" or i2 - i1 == j2 - j1)
        for tag, i1, i2, j1, j2 in blocks
        if j2 > j1
    ]
    starts, earlier, equal = zip(*rows, strict=True) if rows else ((), (), ())
    return _Lines(starts, earlier, equal)


# What is said -----------------------------------------------------------------------------------


def block(trial: Trial) -> str:
    """The verdict on the migration, for a terminal."""
    parts = []
    if trial.before is not None:
        parts.append(_brief("before", trial.before, trial.bases))
    for found in trial.rehearsals:
        if found.proved:
            parts.append(_brief("after", found, trial.bases))
        else:
            parts.append(show.text(found, trial.bases).rstrip())
    if trial.proved:
        names = " and on the simulated ".join(r.device for r in trial.rehearsals)
        parts.append(f"Proved: the migrated code ran on the simulated {names}.")
    return "\n".join(parts) + "\n"


def _brief(when: str, found: Rehearsal, bases: Sequence[Path]) -> str:
    said = merge.check(found, bases)["detail"]
    more = f" {show.summary(found)}" if found.proved else ""
    verdict = found.verdict.value.upper()
    return f"{when:6} {verdict} on the simulated {found.device}: {said}.{more}"
