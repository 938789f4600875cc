"""Shell text as simple commands, with the place of every word.

Quoting, comments, continuation lines, here-documents and substitutions follow the POSIX shell
grammar (https://pubs.opengroup.org/onlinepubs/9799919799/utilities/V3_chap02.html) and bash. It
reads, it never runs or expands anything; what it cannot follow is a `ShellProblem`.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace

_BLANK = " \t"
_NEWLINE = "\r\n"
_META = frozenset(" \t\r\n;&|<>()")
_NAME = re.compile(r"[A-Za-z_]\w*")
_ASSIGNMENT = re.compile(r"[A-Za-z_]\w*(?:\[[^\]]*\])?\+?=")
_REDIRECT = re.compile(r"(?:\d+|\{\w+\})?(?:<<<|<<-?|<>|<&|>&|>>|>\||&>>?|[<>])")
#: A parameter of CircleCI's configuration, which is filled in before a shell reads the text.
_PARAMETER = re.compile(r"<<[ \t]*[A-Za-z_][\w-]*\.[\w.-]+[ \t]*>>")
#: Words that may stand before a command without being one.
_LEADING = frozenset("if then else elif do while until ! { time".split())
_ALONE = frozenset("fi done esac } in".split())
#: Words that open a group of commands, whose output may be read as a whole, and that close it.
_OPENING = frozenset("{ if for while until case select".split())
_CLOSING = frozenset("} fi done esac".split())
_DEPTH = 60


class ShellProblem(Exception):
    """Text that cannot be followed; `message` is one line, `offset` the place."""

    def __init__(self, message: str, offset: int) -> None:
        """Keep what is wrong and where."""
        super().__init__(message)
        self.message = message
        self.offset = offset


@dataclass(frozen=True)
class Word:
    """One word of a command.

    Args:
        start: offset of its first character, quotes included.
        end: offset behind its last.
        raw: the text as written.
        value: the text without quotes; what is expanded stays as it is written.
        static: whether nothing in it is expanded.
    """

    start: int
    end: int
    raw: str
    value: str
    static: bool = True

    def find(self, part: str) -> int:
        """The offset in the text at which `part` of the value is written once; -1 otherwise."""
        return self.start + self.raw.index(part) if self.raw.count(part) == 1 else -1


@dataclass(frozen=True)
class Command:
    """A simple command.

    Args:
        assignments: the `NAME=value` words before it.
        words: the program and its arguments; empty if it only assigns.
        captured: whether its output is read: by a pipe, a substitution or a file.
    """

    assignments: tuple[Word, ...]
    words: tuple[Word, ...]
    captured: bool = False

    @property
    def start(self) -> int:
        """Offset of the first word."""
        return (*self.assignments, *self.words)[0].start

    @property
    def end(self) -> int:
        """Offset behind the last word."""
        return max(word.end for word in (*self.assignments, *self.words))


@dataclass
class Script:
    """What a text says.

    Args:
        commands: every command, those in substitutions included, by their end.
        comments: spans of comments, from the `#`.
        bodies: spans of here-documents.
    """

    commands: list[Command] = field(default_factory=list)
    comments: list[tuple[int, int]] = field(default_factory=list)
    bodies: list[tuple[int, int]] = field(default_factory=list)


def read(text: str, start: int = 0, end: int | None = None, *, folded: bool = False) -> Script:
    """Read text[start:end].

    Args:
        text: the whole text; offsets are into it.
        start: where the shell's part begins.
        end: where it ends.
        folded: whether a newline is a space, as in a folded YAML scalar.

    Raises:
        ShellProblem: a quote or substitution is never closed.
    """
    reader = _Reader(text, len(text) if end is None else end, folded)
    reader.commands(start, "")
    reader.script.commands.sort(key=lambda c: (c.start, c.end))
    return reader.script


@dataclass
class _Draft:
    """A command under way."""

    assignments: list[Word] = field(default_factory=list)
    words: list[Word] = field(default_factory=list)
    captured: bool = False
    #: How many commands were there before the parenthesis that closes right before this draft.
    group: int | None = None


class _Reader:
    """One pass over a text."""

    def __init__(self, text: str, end: int, folded: bool) -> None:
        self.text = text
        self.end = end
        self.folded = folded
        self.script = Script()
        self._waiting: list[tuple[str, bool, bool]] = []
        self._depth = 0
        #: How many commands were there before each group of words that is open here.
        self._groups: list[int] = []

    def commands(self, at: int, closer: str, *, captured: bool = False, array: bool = False) -> int:
        """Read commands up to an unmatched `closer`; return the offset behind it."""
        self._depth += 1
        if self._depth > _DEPTH:
            raise ShellProblem("nested too deeply", at)
        opened, draft, open_groups = at, _Draft(captured=captured), 0
        outer, self._groups = self._groups, []
        parentheses: list[int] = []
        while at < self.end:
            char = self.text[at]
            if closer and char == closer and not (closer == ")" and open_groups):
                self._finish(draft)
                self._depth -= 1
                self._groups = outer
                return at + 1
            joined = self._joined(at)
            if char in _BLANK or joined:
                at += joined or 1
            elif char == "#" and not (draft.words and self._glued(at)):
                at = self._comment(at)
            elif char in _NEWLINE:
                at = self._newline(at)
                if not (array or self.folded):
                    draft = self._next(draft, captured)
            elif char in ";&|" and not self.text.startswith("&>", at):
                piped = char == "|" and not self.text.startswith("||", at)
                draft.captured = draft.captured or piped
                draft = self._next(draft, captured)
                at += 1
            elif _PARAMETER.match(self.text, at, self.end):
                at = self._add(at, draft, closer)
            elif redirect := _REDIRECT.match(self.text, at, self.end):
                at = self._redirect(redirect, draft)
            elif char in "()":
                open_groups = max(open_groups + (1 if char == "(" else -1), 0)
                if self.text.startswith("((", at) and not draft.words:
                    at = self._arithmetic(at)
                    open_groups -= 1
                else:
                    draft = self._next(draft, captured)
                    if char == "(":
                        parentheses.append(len(self.script.commands))
                    elif parentheses:  # one that is not open ends a pattern of `case`
                        draft.group = parentheses.pop()
                    at += 1
            else:
                at = self._add(at, draft, closer)
        self._finish(draft)
        self._depth -= 1
        self._groups = outer
        if closer:
            raise ShellProblem(f"nothing closes this with {closer!r}", opened)
        return at

    # Commands -------------------------------------------------------------------------------

    def _next(self, draft: _Draft, captured: bool) -> _Draft:
        self._finish(draft)
        return _Draft(captured=captured)

    def _finish(self, draft: _Draft) -> None:
        words = draft.words
        group = draft.group
        if words and words[0].raw in _CLOSING and self._groups:
            group = self._groups.pop()
        if group is not None and draft.captured:
            inside = self.script.commands[group:]
            self.script.commands[group:] = [replace(c, captured=True) for c in inside]
        while words and words[0].raw in _LEADING | _OPENING:
            if words[0].raw in _OPENING:
                self._groups.append(len(self.script.commands))
            if words[0].raw not in _LEADING:
                break
            words = words[1:]
        if words and words[0].raw in _ALONE:
            words = words[1:]
        assignments = list(draft.assignments)
        while words and _ASSIGNMENT.match(words[0].raw):
            assignments.append(words[0])
            words = words[1:]
        if words or assignments:
            self.script.commands.append(Command(tuple(assignments), tuple(words), draft.captured))

    def _add(self, at: int, draft: _Draft, closer: str) -> int:
        word = self._word(at, closer)
        if not draft.words and _ASSIGNMENT.match(word.raw):
            after = self._array(word)
            draft.assignments.append(word)
            return after
        draft.words.append(word)
        return word.end

    def _array(self, word: Word) -> int:
        """Read the parenthesis of `NAME=(...)` behind a word; its words make a command."""
        if word.raw.endswith("=") and self.text.startswith("(", word.end, self.end):
            return self.commands(word.end + 1, ")", array=True)
        return word.end

    def _glued(self, at: int) -> bool:
        return at > 0 and self.text[at - 1] not in _META

    def _joined(self, at: int) -> int:
        """The length of a backslash and newline at `at`; 0 if there is none."""
        if self.text[at] != "\\":
            return 0
        if self.text.startswith("\\\r\n", at):
            return 3
        return 2 if self.text.startswith(("\\\n", "\\\r"), at) else 0

    def _comment(self, at: int) -> int:
        stop = _line_end(self.text, at, self.end)
        self.script.comments.append((at, stop))
        return stop

    def _newline(self, at: int) -> int:
        at += 2 if self.text.startswith("\r\n", at) else 1
        waiting, self._waiting = self._waiting, []
        for delimiter, dashed, plain in waiting:
            at = self._body(at, delimiter, dashed, plain)
        return at

    def _body(self, at: int, delimiter: str, dashed: bool, plain: bool) -> int:
        """Skip a here-document; commands substituted in it are read."""
        begin = at
        while at < self.end:
            stop = _line_end(self.text, at, self.end)
            # Indented in YAML: blanks before the delimiter are the scalar's indentation.
            line = self.text[at:stop]
            following = stop + (2 if self.text.startswith("\r\n", stop) else 1)
            if line.strip(" \t" if dashed else " ") == delimiter:
                self.script.bodies.append((begin, at))
                if not plain:
                    self._substituted(begin, at)
                return min(following, self.end)
            at = following
        self.script.bodies.append((begin, self.end))
        return self.end

    def _substituted(self, start: int, stop: int) -> None:
        end, self.end = self.end, stop
        at = start
        while at < stop:
            at = self._expansion(at) if self.text[at] in "$`" else at + 1
        self.end = end

    def _redirect(self, found: re.Match[str], draft: _Draft) -> int:
        operator = found.group().lstrip("0123456789")
        at = self._blanks(found.end())
        if operator in ("<<", "<<-"):
            word = self._word(at, "")
            plain = any(c in word.raw for c in "'\"\\")
            self._waiting.append((word.value, operator == "<<-", plain))
            return max(word.end, at + 1)
        if operator in (">", ">>", "&>", "&>>", ">|"):
            draft.captured = True
        if self.text.startswith("(", at, self.end):  # <(command), >(command)
            return self.commands(at + 1, ")", captured=True)
        if at >= self.end or self.text[at] in _NEWLINE:
            return at
        return max(self._word(at, "").end, at)

    def _blanks(self, at: int) -> int:
        while at < self.end and self.text[at] in _BLANK:
            at += 1
        return at

    def _arithmetic(self, at: int) -> int:
        depth, opened = 0, at
        while at < self.end:
            depth += {"(": 1, ")": -1}.get(self.text[at], 0)
            at += 1
            if not depth:
                return at
        raise ShellProblem("nothing closes this with '))'", opened)

    # Words ----------------------------------------------------------------------------------

    def _word(self, start: int, closer: str) -> Word:
        at, value, static = start, [], True
        while at < self.end:
            char = self.text[at]
            if char == "<" and (parameter := _PARAMETER.match(self.text, at, self.end)):
                value.append(parameter.group())
                at, static = parameter.end(), False
                continue
            if char in _META or (char == closer and closer):
                break
            if joined := self._joined(at):
                at += joined
            elif char == "\\":
                value.append(self.text[at + 1 : at + 2])
                at += 2
            elif char in "'\"":
                piece, stop, fixed = self._quoted(at)
                value.append(piece)
                at, static = stop, static and fixed
            elif char in "$`":
                stop = self._expansion(at)
                value.append(self.text[at:stop])
                static = static and stop == at + 1
                at = stop
            else:
                value.append(char)
                at += 1
        at = min(at, self.end)
        return Word(start, at, self.text[start:at], "".join(value), static)

    def _quoted(self, at: int) -> tuple[str, int, bool]:
        """The value of a quoted piece, where it ends, and whether nothing in it is expanded."""
        opened, quote = at, self.text[at]
        if quote == "'":
            stop = self.text.find("'", at + 1, self.end)
            if stop < 0:
                raise ShellProblem("a quote is never closed", opened)
            return self.text[at + 1 : stop], stop + 1, True
        value: list[str] = []
        fixed, at = True, at + 1
        while at < self.end:
            char = self.text[at]
            if char == '"':
                return "".join(value), at + 1, fixed
            if char == "\\" and at + 1 < self.end:
                following = self.text[at + 1]
                if following not in _NEWLINE:
                    value.append(following if following in '"\\$`' else char + following)
                at += 2
            elif char in "$`":
                stop = self._expansion(at)
                value.append(self.text[at:stop])
                fixed = fixed and stop == at + 1
                at = stop
            else:
                value.append(char)
                at += 1
        raise ShellProblem("a quote is never closed", opened)

    def _expansion(self, at: int) -> int:
        """The end of what is expanded at a `$` or backtick; `at + 1` where nothing is."""
        text = self.text
        if text[at] == "`":
            return self.commands(at + 1, "`", captured=True)
        if text.startswith("$((", at, self.end):
            try:
                return self._arithmetic(at + 1)
            except ShellProblem:
                pass
        if text.startswith("$(", at, self.end):
            return self.commands(at + 2, ")", captured=True)
        if text.startswith("${", at, self.end):
            return self._braces(at + 1)
        if text.startswith("$'", at, self.end):
            found = re.compile(r"(?:[^'\\]|\\.)*'", re.DOTALL).match(text, at + 2, self.end)
            if found is None:
                raise ShellProblem("a quote is never closed", at)
            return found.end()
        name = _NAME.match(text, at + 1, self.end)
        if name is not None:
            return name.end()
        special = at + 1 < self.end and text[at + 1] in "0123456789@*#?$!-"
        return at + 2 if special else at + 1

    def _braces(self, at: int) -> int:
        opened, depth = at, 0
        while at < self.end:
            char = self.text[at]
            if char == "\\":
                at += 1
            elif self.text.startswith("$(", at):
                at = self.commands(at + 2, ")", captured=True) - 1
            elif char == "'" and depth == 2:  # ${{ 'text' }} of templates
                found = self.text.find("'", at + 1, self.end)
                at = found if found >= 0 else at
            depth += {"{": 1, "}": -1}.get(char, 0)
            at += 1
            if not depth:
                return at
        raise ShellProblem("nothing closes this with '}'", opened)


def _line_end(text: str, at: int, end: int) -> int:
    ends = [e for e in (text.find("\n", at, end), text.find("\r", at, end)) if e >= 0]
    return min(ends, default=end)


# Programs ---------------------------------------------------------------------------------------

_WRAPPERS = {
    "sudo": frozenset("-u -g -h -p -C -D -R -T -U".split()),
    "env": frozenset("-u -C -S".split()),
    "nohup": frozenset(),
    "exec": frozenset("-a".split()),
    "command": frozenset(),
    "time": frozenset("-o -f".split()),
    "nice": frozenset("-n".split()),
    "stdbuf": frozenset("-i -o -e".split()),
    "watch": frozenset("-n".split()),
    "timeout": frozenset("-s -k".split()),
    "xvfb-run": frozenset(),
}  # fmt: skip


def effective(command: Command) -> tuple[list[Word], list[Word]]:
    """The assignments and words of a command behind `sudo`, `env`, `nohup` and their like."""
    assignments, words = list(command.assignments), list(command.words)
    while words:
        name = words[0].value.rpartition("/")[2]
        if name == "command" and words[1:] and words[1].value in ("-v", "-V"):
            break  # asks where a program is; runs nothing
        if name in _WRAPPERS:
            takes, words = _WRAPPERS[name], words[1:]
            while words and words[0].value.startswith("-"):
                words = words[2:] if words[0].value in takes else words[1:]
            if name == "timeout":
                words = words[1:]
        elif words[0].value.startswith("--"):  # an option of a Dockerfile's RUN
            words = words[1:]
        elif len(words) < len(command.words) and _ASSIGNMENT.match(words[0].value):
            assignments.append(words[0])
            words = words[1:]
        else:
            break
    return assignments, words


def program(words: Sequence[Word]) -> str:
    """The program that words name, without its folder; empty without words."""
    return words[0].value.rpartition("/")[2] if words else ""


def options(words: Sequence[Word]) -> Iterator[tuple[str, Word | None]]:
    """Options as (name, word that holds the value): `--a b`, `--a=b`, `a=b`, `-a`.

    The word is the option's own where the value is written behind `=`.
    """
    for position, word in enumerate(words):
        name, equals, _ = word.value.partition("=")
        if equals and re.fullmatch(r"-{0,2}\+*[\w.@/-]+", name):
            yield name, word
        elif word.value.startswith("-"):
            following = words[position + 1] if position + 1 < len(words) else None
            taken = following is not None and not following.value.startswith("-")
            yield word.value, following if taken else None
