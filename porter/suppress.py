"""Comments that silence findings: `# porter: ignore[POR101] reason`, coded `# noqa: POR101`."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

_PORTER = re.compile(r"#\s*porter:\s*(?P<what>ignore|file-ignore)\s*(?:\[(?P<codes>[^\]]*)\])?")
_NOQA = re.compile(r"#\s*noqa\s*:\s*(?P<codes>[A-Z]+\d+(?:[\s,]+[A-Z]+\d+)*)", re.IGNORECASE)
_CODE = re.compile(r"[A-Z]+\d+\Z")
_LINES = re.compile(r"\r\n|\r|\n")


@dataclass
class Suppressions:
    """Which findings the comments of one file silence.

    Args:
        lines: codes (or prefixes) silenced on a 1-based line.
        whole: codes silenced in the whole file.
        malformed: lines with a `porter:` comment that names no code; a blanket form silences
            nothing, so that no finding is hidden by accident.
    """

    lines: dict[int, tuple[str, ...]] = field(default_factory=dict)
    whole: tuple[str, ...] = ()
    malformed: tuple[int, ...] = ()

    def __bool__(self) -> bool:
        """Whether there is anything to silence."""
        return bool(self.lines or self.whole)

    @classmethod
    def read(cls, text: str) -> Suppressions:
        """Read the comments of a text. A comment alone on its line covers the next line."""
        if "porter:" not in text and "noqa" not in text.lower():
            return cls()
        found = cls()
        malformed = []
        for number, line in enumerate(_LINES.split(text), 1):
            if "#" not in line:
                continue
            codes, scope, bad = _codes(line)
            if bad:
                malformed.append(number)
            if not codes:
                continue
            if scope == "file-ignore":
                found.whole += codes
            else:
                at = number + 1 if line.lstrip().startswith("#") else number
                found.lines[at] = found.lines.get(at, ()) + codes
        found.malformed = tuple(malformed)
        return found

    def covers(self, code: str, line: int) -> bool:
        """Whether a finding of `code` on `line` is silenced."""
        return any(code.startswith(c) for c in (*self.whole, *self.lines.get(line, ())))


def _codes(line: str) -> tuple[tuple[str, ...], str, bool]:
    """The codes a line names, the form used, and whether a porter comment names none."""
    found = _PORTER.search(line)
    if found:
        codes = tuple(
            c.strip().upper() for c in re.split(r"[,\s]+", found["codes"] or "") if c.strip()
        )
        good = tuple(c for c in codes if _CODE.match(c))
        return good, found["what"], not good or len(good) < len(codes)
    noqa = _NOQA.search(line)
    if noqa:
        return tuple(c.upper() for c in re.split(r"[\s,]+", noqa["codes"]) if c), "ignore", False
    return (), "", False
