"""The commands that pages show: found, run in a scratch folder, compared with what is shown.

A block marked `sh` or `console` is a list of commands. In `sh` every line is one, and what it
prints is not looked at. In `console` lines that start with "$ " are commands; the lines below a
command, if there are any, are what it prints. "..." alone on a line stands for any number of
lines, within a line for any text.

The commands of a page run one after another in one shell, as a reader would type them. Comments
above a block, which readers do not see, say what is special about it:

    <!-- start: sample -->        from here on in a fresh folder; see PLACES
    <!-- before: touch a.py -->   run this first; it may have several lines
    <!-- needs: torch -->         only where this module is installed
    <!-- not run: REASON -->      not at all; the reason begins with one of REASONS
    <!-- apply: . -->             above a `diff`: the reader makes this change in that folder

python tests/console.py           list the blocks that are not run, and count the rest
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import stat
import subprocess
import sys
import textwrap
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
LANGUAGES = ("sh", "console")
#: Fresh folders: the sample as a git repository, this repository, or nothing.
PLACES = ("sample", "checkout", "empty")
#: Why a block may be left out. Whatever else stops it is a lie of the page.
REASONS = (
    "installs packages",
    "needs the network",
    "needs an NPU",
    "takes minutes",
    "too slow",
    "needs a repository host",
)
#: Commands that exit with 1 when something is left to do, which is no failure.
ONE_IS_FINE = re.compile(r"^\S*porter (check|migrate|report)\b")
#: How long the commands of one folder may take together, in seconds.
LIMIT = 240
_FENCE = re.compile(r"^( *)(`{3,}|~{3,})(.*)$")
_MARK = re.compile(r"<!-- *([a-z ]+): *(.*?) *-->", re.DOTALL)
_START, _END = "\x1e", "\x1f"


@dataclass(frozen=True)
class Command:
    """What to type, and what the page says it prints; nothing if that is not compared."""

    line: int
    text: str
    shown: tuple[str, ...] = ()
    hidden: bool = False


@dataclass(frozen=True)
class Block:
    """One fenced block of commands."""

    line: int
    commands: tuple[Command, ...]
    start: str = ""
    needs: tuple[str, ...] = ()
    not_run: str = ""


@dataclass(frozen=True)
class Outcome:
    """What came of a command."""

    command: Command
    status: int
    printed: str

    def problem(self) -> str:
        """What is wrong, in words for whoever mends the page; empty if nothing is."""
        what = f"line {self.command.line}: {self.command.text}\n"
        if self.command.shown and not matches(self.command.shown, self.printed):
            shown = "\n".join(self.command.shown)
            return f"{what}the page shows:\n{shown}\nit printed:\n{self.printed}"
        fine = self.status == 0 or (self.status == 1 and ONE_IS_FINE.match(self.command.text))
        # A page that shows an error shows what is printed then.
        if fine or self.command.shown:
            return ""
        return f"{what}exited with {self.status} and printed:\n{self.printed}"


# Finding ----------------------------------------------------------------------------------------


def fences(text: str) -> Iterator[tuple[int, str, list[str], str]]:
    """Every fenced block: its first line, its language, its lines, and the text above it."""
    lines = text.splitlines()
    above, index = 0, 0
    while index < len(lines):
        opening = _FENCE.match(lines[index])
        if not opening:
            index += 1
            continue
        indent, fence, language = opening[1], opening[2], opening[3].strip()
        end = index + 1
        while end < len(lines) and lines[end].strip() != fence:
            end += 1
        body = [line.removeprefix(indent) for line in lines[index + 1 : end]]
        yield index + 1, language.split(" ")[0], body, "\n".join(lines[above:index])
        above = index = end + 1


def blocks(text: str) -> list[Block]:
    """The blocks of commands of a page."""
    found = []
    start = ""
    for line, language, body, above in fences(text):
        marks = dict(_marks(above))
        # Where a folder starts may be said above a block that holds no commands.
        start = marks.get("start", start)
        if language not in LANGUAGES and "apply" not in marks:
            continue
        listed = list(_typed(body, line) if language == "sh" else _session(body, line))
        if "apply" in marks:
            listed = [_applied(body, marks["apply"], line)]
        before = textwrap.dedent(marks.get("before", "")).strip()
        hidden = [Command(line, before, hidden=True)] if before else []
        needs = tuple(re.findall(r"[\w.]+", marks.get("needs", "")))
        reason = marks.get("not run", "")
        found.append(Block(line, (*hidden, *listed), start, needs, reason))
        start = ""
    return found


def _marks(above: str) -> Iterator[tuple[str, str]]:
    for found in _MARK.finditer(above):
        # Only the place of the start holds on; the other marks stand right above their block.
        rest = _MARK.sub("", above[found.end() :]).strip()
        if found[1] == "start" or not rest:
            yield found[1], found[2]


def _applied(patch: Sequence[str], folder: str, line: int) -> Command:
    # An empty line of a patch holds a space, which editors take away.
    lines = "\n".join(text or " " for text in patch)
    return Command(line, f"git -C {folder} apply - <<'PATCH'\n{lines}\nPATCH", hidden=True)


def _typed(body: Sequence[str], line: int) -> Iterator[Command]:
    number = 0
    while number < len(body):
        first = number
        while body[number].endswith("\\") and number + 1 < len(body):
            number += 1
        number += 1
        text = "\n".join(body[first:number]).strip()
        if text and not text.startswith("#"):
            yield Command(line + 1 + first, text)


def _session(body: Sequence[str], line: int) -> Iterator[Command]:
    command: Command | None = None
    for number, text in enumerate(body, line + 1):
        if text.startswith("$ "):
            if command:
                yield _trimmed(command)
            command = Command(number, text[2:].strip())
        elif command and text.startswith("> ") and not command.shown:
            command = replace(command, text=f"{command.text}\n{text[2:]}")
        elif command:
            command = replace(command, shown=(*command.shown, text))
    if command:
        yield _trimmed(command)


def _trimmed(command: Command) -> Command:
    lines = list(command.shown)
    while lines and not lines[-1].strip():
        lines.pop()
    return replace(command, shown=tuple(lines))


def groups(found: Iterable[Block]) -> list[tuple[str, list[Block]]]:
    """Blocks that share a folder and a shell, with the place where they start."""
    result: list[tuple[str, list[Block]]] = []
    for block in found:
        if block.start or not result:
            result.append((block.start or PLACES[0], []))
        result[-1][1].append(block)
    return result


# Comparing --------------------------------------------------------------------------------------


def matches(shown: Sequence[str], printed: str) -> bool:
    """Whether a page shows what was printed, with "..." for what it leaves out."""
    pattern = ""
    for line in shown:
        if line.strip() == "...":
            pattern += r"(?:[^\n]*\n)*?"
        else:
            pattern += r"[^\n]*?".join(map(re.escape, line.rstrip().split("..."))) + r"\n"
    lines = (line.rstrip() for line in printed.strip("\n").splitlines())
    return re.fullmatch(pattern, "".join(f"{line}\n" for line in lines)) is not None


# Running ----------------------------------------------------------------------------------------


def run(start: str, found: Sequence[Block], scratch: Path) -> list[Outcome]:
    """Run the blocks of one group in a fresh folder below `scratch`, in one shell.

    Raises RuntimeError if the shell ended before its commands did.
    """
    place = make(start, scratch)
    commands = [command for block in found for command in block.commands]
    script = scratch / "commands.sh"
    script.write_text("".join(map(_step, range(len(commands)), commands)), encoding="utf-8")
    done = subprocess.run(
        ["bash", str(script)],
        check=False,
        cwd=place,
        env=environment(scratch),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        timeout=LIMIT,
    )
    text = done.stdout.decode("utf-8", "replace").replace("\r\n", "\n")
    pattern = re.compile(f"{_START}\n(.*?){_END}(\\d+)\n", re.DOTALL)
    answers = pattern.findall(text)
    if len(answers) != len(commands):
        raise RuntimeError(f"the shell ended early:\n{text}")
    return [Outcome(c, int(s), printed) for c, (printed, s) in zip(commands, answers, strict=True)]


def _step(number: int, command: Command) -> str:
    # The status must be there for the next command, which may be `echo $?`.
    return (
        f"_s=$?; printf '{_START}\\n'; (exit $_s)\n"
        f"eval {shlex.quote(command.text)}\n"
        f"_s=$?; printf '{_END}%d\\n' $_s; (exit $_s)\n"
    )


def environment(scratch: Path) -> dict[str, str]:
    """A user with an empty home, for whom porter and python are this installation."""
    programs(tools := scratch / "bin")
    home = scratch / "home"
    home.mkdir()
    (home / ".gitconfig").write_text(
        "[user]\n\tname = Reader\n\temail = reader@example.org\n[init]\n\tdefaultBranch = main\n"
    )
    kept = {key: os.environ[key] for key in ("LANG", "TMPDIR", "SYSTEMROOT") if key in os.environ}
    return {
        **kept,
        "PATH": os.pathsep.join([str(tools), os.environ.get("PATH", os.defpath)]),
        "HOME": str(home),
        "NO_COLOR": "1",
        "TERM": "dumb",
        "COLUMNS": "100",
        "PAGER": "cat",
        "GIT_PAGER": "cat",
        "PYTHONDONTWRITEBYTECODE": "1",
        # Results and remarks in the order of a terminal.
        "PYTHONUNBUFFERED": "1",
    }


def programs(folder: Path) -> None:
    """Fill a folder with what a reader has installed."""
    folder.mkdir(parents=True)
    for name, command in {
        "porter": f'exec "{sys.executable}" -m porter "$@"',
        "python": f'exec "{sys.executable}" "$@"',
        "python3": f'exec "{sys.executable}" "$@"',
        "mkdocs": f'exec "{sys.executable}" -m mkdocs "$@"',
        "pip": "echo 'mark this block: <!-- not run: installs packages -->'; exit 3",
    }.items():
        program = folder / name
        program.write_text(f"#!/bin/sh\n{command}\n", encoding="utf-8")
        program.chmod(program.stat().st_mode | stat.S_IXUSR)


def make(place: str, scratch: Path) -> Path:
    """Make the folder that a group starts in. Raises ValueError if there is no such place."""
    if place == "sample":
        folder = scratch / "stripes"
        shutil.copytree(ROOT / "fixtures" / "sample", folder)
        commit(folder)
    elif place == "checkout":
        folder = scratch / "porter"
        folder.mkdir()
        for path in ROOT.iterdir():
            if path.is_file():
                shutil.copy2(path, folder)
        for name in ("docs", "fixtures", "porter", "rewrites", "tests"):
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, folder / name, ignore=ignored)
        commit(folder)
        programs(folder / ".venv" / "bin")
        # run.py believes that it has installed the sample's needs already.
        stamp = "import json, run; print(json.dumps({'sample': run.digest(['-e', '.'])}))"
        done = subprocess.run(
            [sys.executable, "-c", stamp], check=True, cwd=folder, capture_output=True
        )
        (folder / ".venv" / "installed.json").write_bytes(done.stdout)
    elif place == "empty":
        folder = scratch / "work"
        folder.mkdir()
    else:
        raise ValueError(f"<!-- start: {place} -->: it must be one of {', '.join(PLACES)}")
    return folder


def commit(folder: Path) -> None:
    """Make a folder a git repository with one commit."""
    author = ["-c", "user.name=Reader", "-c", "user.email=reader@example.org"]
    for words in (["init", "-q", "-b", "main"], ["add", "-A"], [*author, "commit", "-qm", "First"]):
        subprocess.run(["git", *words], check=True, cwd=folder, capture_output=True)


# Counting ---------------------------------------------------------------------------------------


def pages() -> list[Path]:
    """The pages that people write; generated ones show examples of rules, which are tests."""
    generated = {"cli.md", "corpus.md", "support.md"}
    return [
        *sorted(ROOT.glob("*.md")),
        *sorted(p for p in (ROOT / "docs").glob("*.md") if p.name not in generated),
    ]


def main() -> None:
    """Say which blocks are not run and why, and how many commands are."""
    ran = left = 0
    for page in pages():
        for block in blocks(page.read_text(encoding="utf-8")):
            number = sum(not command.hidden for command in block.commands)
            if block.not_run:
                left += number
                place = f"{page.relative_to(ROOT).as_posix()}:{block.line}"
                print(f"{place}: {number} not run: {block.not_run}")
            else:
                ran += number
    print(f"{ran} commands are run, {left} are not")


if __name__ == "__main__":
    main()
