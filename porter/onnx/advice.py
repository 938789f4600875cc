"""What in the source of a model is known to break or freeze its export.

The rules belong to `porter.rewrites` and run only on request; a check of a model asks for them, for
the file that defines it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porter import catalog, engine
from porter.source import SourceProblem, decode_python
from porter.syntax import SyntaxProblem
from porter.targets import TABLED, Target

#: The prefix of the rules about exports.
CODES = "POR95"


@dataclass(frozen=True)
class Advice:
    """One place in a file.

    Args:
        code: the rule.
        path: the file, as it was given.
        line: from 1.
        column: from 1, in characters.
        text: what happens there, and what to do.
        source: the line as it stands.
    """

    code: str
    path: str
    line: int
    column: int
    text: str
    source: str

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "code": self.code,
            "path": self.path,
            "line": self.line,
            "column": self.column,
            "text": self.text,
            "source": self.source,
        }


def advise(path: Path, target: Target, *, shown: str = "") -> tuple[Advice, ...]:
    """What the rules about exports say of one file, in its order; nothing if it cannot be read.

    Args:
        path: a Python file.
        target: what the project is migrated to.
        shown: how the answer names the file; empty takes the path.
    """
    try:
        text = decode_python(str(path), path.read_bytes()).text
        rules = catalog.selected((CODES,), ())
        outcome = engine.analyse(text, rules, target, path=shown or str(path))
    except (OSError, SourceProblem, SyntaxProblem, engine.RuleProblem):
        return ()
    return tuple(
        Advice(
            s.finding.rule, shown or str(path), s.line, s.column, s.finding.reason, s.before.strip()
        )
        for s in outcome.settled
    )


def within(classes: Iterable[Sequence[Any]], root: Path) -> list[Advice]:
    """What they say of some classes, for the target whose operators are known.

    Args:
        classes: of each its path below the root, its first and its last line.
        root: the folder.
    """
    lines: dict[str, list[range]] = {}
    for path, first, last in classes:
        lines.setdefault(str(path), []).append(range(int(first), int(last) + 1))
    return [
        found
        for path, spans in sorted(lines.items())
        for found in advise(root / path, Target(TABLED), shown=path)
        if any(found.line in span for span in spans)
    ]
