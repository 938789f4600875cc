"""Files other than Python: their kinds, what rules see of them, and the ways to answer.

A rule with `files` gets one `TextSite` for each file that matches, and asks it for scalars (YAML,
JSON, TOML, INI), instructions (Dockerfile) or commands (shell), each with its place.
"""

from __future__ import annotations

import functools
import inspect
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from porter.dockerfile import DockerfileProblem, Instruction, instructions
from porter.rule import Category, Check, Edit, Example, Finding, Rule, Safety
from porter.scalars import DataProblem, Scalar
from porter.scalars import read as read_scalars
from porter.shell import Script, ShellProblem, Word
from porter.shell import read as read_shell
from porter.syntax import LineIndex
from porter.targets import NAMES, Target

#: Kinds by what the last part of a path matches, the first that does.
_KINDS = (
    ("requirements", r"[\w.-]*(?:requirements?|constraints?|reqs)[\w.-]*\.(?:txt|in)"),
    ("dockerfile", r"(?:dockerfile|containerfile)(?:[._-].*)?|.*\.(?:dockerfile|containerfile)"),
    ("yaml", r".*\.ya?ml"),
    ("json", r".*\.jsonc?"),
    ("toml", r".*\.toml|pipfile"),
    ("ini", r"setup\.cfg|tox\.ini"),
    ("shell", r".*\.(?:sh|bash|zsh|ksh|sbatch|slurm|slrm|pbs|lsf|job|env)|\.env(?:\..*)?|\.envrc"),
    ("make", r"(?:gnu)?makefile(?:\..*)?|.*\.mk"),
    ("cmake", r"cmakelists\.txt|.*\.cmake"),
    ("native", r".*\.(?:cu|cuh|cpp|cc|cxx|c|h|hh|hpp|hxx|inl)"),
)
_NAMED = re.compile("|".join(f"(?P<{k}>{p})" for k, p in _KINDS), re.IGNORECASE | re.DOTALL)
#: A longer file in one of these formats holds data, not settings.
LONGEST_SETTINGS = 1_000_000
DATA = frozenset({"yaml", "json", "toml", "ini"})


class TextProblem(Exception):
    """A file that cannot be read as what it is; `message` is one line."""

    def __init__(self, message: str, line: int = 1) -> None:
        """Keep what is wrong and on which 1-based line."""
        super().__init__(message)
        self.message = message
        self.line = line


@functools.lru_cache(maxsize=4096)
def kind_of(path: str) -> str:
    """The kind of a file by its relative POSIX path; "text" if it is no known one."""
    folder, _, name = path.rpartition("/")
    if folder.rpartition("/")[2] == "requirements" and name.lower().endswith((".txt", ".in")):
        return "requirements"
    found = _NAMED.fullmatch(name)
    return found.lastgroup or "text" if found else "text"


@dataclass(eq=False)
class TextFile:
    """One file that is not Python.

    Args:
        text: decoded, without a byte order mark.
        path: POSIX, relative to the project.
        callers: where Python code calls a function that C++ binds, by its name.
        memo: what rules remember for the file.
    """

    text: str
    path: str
    callers: Mapping[str, Sequence[str]] = field(default_factory=dict)
    memo: dict[str, Any] = field(default_factory=dict)

    @functools.cached_property
    def kind(self) -> str:
        """See `kind_of`."""
        return kind_of(self.path)

    @functools.cached_property
    def index(self) -> LineIndex:
        """Lines and columns."""
        return LineIndex(self.text)

    @functools.cached_property
    def scalars(self) -> tuple[Scalar, ...]:
        """The scalars and keys of a data file; none of another kind.

        Raises:
            TextProblem: it is not of its format.
        """
        if self.kind not in DATA:
            return ()
        if len(self.text) > LONGEST_SETTINGS:
            raise TextProblem(
                f"longer than {LONGEST_SETTINGS:,} characters: taken for data, not read"
            )
        try:
            return read_scalars(self.kind, self.text)
        except DataProblem as problem:
            raise TextProblem(problem.message, problem.line) from None

    @functools.cached_property
    def instructions(self) -> tuple[Instruction, ...]:
        """The instructions of a Dockerfile; none of another kind.

        Raises:
            TextProblem: it is no Dockerfile.
        """
        if self.kind != "dockerfile":
            return ()
        try:
            return instructions(self.text)
        except DockerfileProblem as problem:
            raise TextProblem(problem.message, problem.line) from None

    def words(self, instruction: Instruction) -> tuple[Word, ...]:
        """The words of an instruction.

        Raises:
            TextProblem: a quote in it is never closed.
        """
        try:
            return instruction.words
        except ShellProblem as problem:
            raise self._not_shell(problem) from None

    def commands(self, instruction: Instruction) -> Script:
        """The commands of an instruction.

        Raises:
            TextProblem: the shell text cannot be followed.
        """
        try:
            return instruction.script
        except ShellProblem as problem:
            raise self._not_shell(problem) from None

    def _not_shell(self, problem: ShellProblem) -> TextProblem:
        line = self.index.position(min(problem.offset, len(self.text)))[0]
        return TextProblem(f"not understood as shell: {problem.message}", line)

    def script(self, start: int = 0, end: int | None = None, *, folded: bool = False) -> Script:
        """The shell commands in a part of the text, or in all of it.

        Raises:
            TextProblem: the shell text cannot be followed.
        """
        key = f"script {start} {end} {folded}"
        if key not in self.memo:
            try:
                self.memo[key] = read_shell(self.text, start, end, folded=folded)
            except ShellProblem as problem:
                raise self._not_shell(problem) from None
        found: Script = self.memo[key]
        return found

    def lines(self) -> Iterator[tuple[int, str]]:
        """The offset of each line and its text without the line end."""
        for found in re.finditer(r"([^\r\n]*)(?:\r\n|\r|\n|\Z)", self.text):
            if found.end() > found.start() or found.group(1):
                yield found.start(), found[1]


@dataclass(frozen=True)
class TextSite:
    """A file as a rule sees it.

    Args:
        file: the file.
        target: what the project is migrated to.
    """

    file: TextFile
    target: Target

    @property
    def path(self) -> str:
        """The relative path."""
        return self.file.path

    @property
    def kind(self) -> str:
        """The kind of the file."""
        return self.file.kind

    @property
    def text(self) -> str:
        """The whole text."""
        return self.file.text

    def finding(
        self,
        span: tuple[int, int],
        *edits: Edit,
        reason: str = "",
        safety: Safety = Safety.SAFE,
        category: Category | None = None,
        effort: int | None = None,
        symbol: str = "",
    ) -> Finding:
        """A finding at text[span[0]:span[1]] with these edits."""
        return Finding(
            *span,
            edits=edits,
            reason=reason,
            safety=safety if edits else Safety.MANUAL,
            category=category,
            effort=effort,
            symbol=symbol,
        )

    def gap(self, span: tuple[int, int], advice: str, **options: Any) -> Finding:
        """A finding that a person must deal with."""
        return self.finding(span, reason=advice, **options)

    def advice(self, span: tuple[int, int], remedy: str, **options: Any) -> Finding:
        """Something that works, and how it could be faster or more exact on the target."""
        return self.finding(span, reason=remedy, category=Category.ADVICE, effort=0, **options)

    def information(self, span: tuple[int, int], reason: str, **options: Any) -> Finding:
        """A finding that needs nothing done."""
        return self.finding(span, reason=reason, category=Category.INFORMATION, effort=0, **options)

    def replace(self, span: tuple[int, int], new: str, **options: Any) -> Finding:
        """Replace a span."""
        return self.finding(span, Edit.of(*span, new), **options)


TextCheck = Callable[[TextSite, Target], Iterator[Finding]]


def text_rule(
    code: str,
    name: str,
    *,
    files: Sequence[str],
    safety: Safety = Safety.SAFE,
    category: Category = Category.MANDATORY,
    effort: int = 1,
    examples: Sequence[Example] = (),
    targets: Sequence[str] = NAMES,
) -> Callable[[TextCheck], Rule]:
    """Turn a function over `TextSite` into a `Rule`; its docstring becomes the rule's page.

    Args:
        code: such as "POR841".
        name: in kebab case.
        files: patterns as in a .gitignore, over the relative path.
        safety: the level of its rewrites.
        category: what happens on the target if a site stays.
        effort: points for a site that stays.
        examples: each with the path of its file.
        targets: the targets it applies to.
    """

    def decorate(check: TextCheck) -> Rule:
        return Rule(
            code=code,
            name=name,
            check=cast(Check, check),
            safety=safety,
            category=category,
            effort=effort,
            files=tuple(files),
            examples=tuple(examples),
            doc=inspect.cleandoc(check.__doc__ or ""),
            targets=tuple(targets),
        )

    return decorate
