"""Dockerfile text as instructions (https://docs.docker.com/reference/dockerfile/).

Continuation lines, the escape directive, comments between continued lines, here-documents and the
JSON form of commands are followed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace

from porter.shell import Command, Script, Word, read

_INSTRUCTION = re.compile(r"[ \t]*([A-Za-z]+)(?=[ \t\r\n\\`]|\Z)")
_DIRECTIVE = re.compile(r"[ \t]*#[ \t]*(\w+)[ \t]*=[ \t]*(\S+)[ \t]*\Z")
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n|\Z)")
_HEREDOC = re.compile(r"<<-?[\"']?(\w+)[\"']?")
_KNOWN = frozenset(
    "ADD ARG CMD COPY ENTRYPOINT ENV EXPOSE FROM HEALTHCHECK LABEL MAINTAINER ONBUILD RUN SHELL "
    "STOPSIGNAL USER VOLUME WORKDIR".split()
)
_JSON_WORD = re.compile(r'"(?:[^"\\]|\\.)*"')


class DockerfileProblem(Exception):
    """Text that is no Dockerfile; `message` is one line, `line` the place."""

    def __init__(self, message: str, line: int) -> None:
        """Keep what is wrong and on which 1-based line."""
        super().__init__(message)
        self.message = message
        self.line = line


@dataclass(frozen=True)
class Instruction:
    """One instruction.

    Args:
        name: in capitals.
        start: offset of its name.
        body: offset of what follows the name.
        end: offset behind its last line.
        masked: the whole text with the comments between its lines blanked out.
    """

    name: str
    start: int
    body: int
    end: int
    masked: str

    @property
    def words(self) -> tuple[Word, ...]:
        """What follows the name, split as a shell would split it."""
        script = read(self.masked, self.body, self.end, folded=True)
        return tuple(
            word for command in script.commands for word in (*command.assignments, *command.words)
        )

    @property
    def script(self) -> Script:
        """The commands of RUN, CMD and ENTRYPOINT.

        Raises:
            porter.shell.ShellProblem: the shell text cannot be followed.
        """
        content = self.masked[self.body : self.end].strip()
        if content.startswith("["):
            words = self._json_words()
            if words:
                return Script([Command((), words)])
        found = _HEREDOC.match(content)
        if found is not None:  # RUN <<EOF: the lines are the script
            first = _line_end(self.masked, self.body)
            last = self.masked.rstrip().rfind(found[1], first, self.end)
            return read(self.masked, first, max(last, first))
        return read(self.masked, self.body, self.end)

    def _json_words(self) -> tuple[Word, ...]:
        body = self.masked[self.body : self.end]
        try:
            if not all(isinstance(item, str) for item in json.loads(body)):
                return ()
        except ValueError:
            return ()
        return tuple(
            Word(self.body + f.start(), self.body + f.end(), f.group(), json.loads(f.group()))
            for f in _JSON_WORD.finditer(body)
        )


def instructions(text: str) -> tuple[Instruction, ...]:
    """The instructions of a Dockerfile.

    Raises:
        DockerfileProblem: a line is none.
    """
    return tuple(_instructions(text))


def _instructions(text: str) -> Iterator[Instruction]:
    escape, at = "\\", 0
    directives = True
    while at < len(text):
        stop = _line_end(text, at)
        line = text[at:stop].rstrip("\r\n")
        directive = _DIRECTIVE.match(line) if directives else None
        if directive is not None and directive[1].lower() == "escape":
            escape = directive[2]
        directives = directives and directive is not None
        if not line.strip() or line.lstrip().startswith("#"):
            at = stop
            continue
        found = _INSTRUCTION.match(text, at)
        if found is None or found[1].upper() not in _KNOWN:
            number = len(re.findall(r"\r\n|\r|\n", text[:at])) + 1
            raise DockerfileProblem(f"not a Dockerfile: {line.strip()[:40]!r}", number)
        end, masked = _whole(text, at, escape)
        yield from _unwrapped(
            Instruction(found[1].upper(), found.start(1), found.end(), end, masked)
        )
        at = end


def _unwrapped(found: Instruction) -> Iterator[Instruction]:
    """The instruction behind ONBUILD; a health check's command."""
    if found.name in ("ONBUILD", "HEALTHCHECK"):
        inner = re.compile(r"(?:[ \t]|--\S+)*(RUN|CMD|ENV|COPY|ADD)\b").match(
            found.masked, found.body, found.end
        )
        if inner is not None:
            found = replace(found, name=inner[1], start=inner.start(1), body=inner.end())
    yield found


def _whole(text: str, start: int, escape: str) -> tuple[int, str]:
    """The end of an instruction, and the text with comments inside it blanked."""
    masked = text
    at = stop = start
    continued = True
    while continued and at < len(text):
        stop = _line_end(text, at)
        line = text[at:stop].rstrip()
        if at > start and line.lstrip().startswith("#"):
            # Docker drops such lines; blanked, they join the lines around them.
            masked = masked[:at] + " " * (stop - at) + masked[stop:]
        elif at == start or line:
            continued = line.endswith(escape)
        at = stop
    if escape != "\\":
        body = masked[start:stop]
        joined = re.sub(re.escape(escape) + r"(?=[ \t]*(?:\r\n|\r|\n))", r"\\", body)
        masked = masked[:start] + joined + masked[stop:]
    for delimiter in _HEREDOC.findall(masked[start:stop]):
        closing = re.compile(rf"^[ \t]*{delimiter}[ \t]*$", re.MULTILINE).search(text, stop)
        stop = _line_end(text, closing.start()) if closing else len(text)
    return stop, masked


def _line_end(text: str, at: int) -> int:
    found = _LINE.match(text, at)
    return found.end() if found and found.end() > at else len(text)
