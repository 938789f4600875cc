"""What a worker tells the process that started it: a JSON file, complete after every step."""

from __future__ import annotations

import json
import os
import traceback
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: Errors of the exporter that only wrap another one.
_WRAPPERS = ("TorchExportError", "ConversionError", "GraphConstructionError")
#: Characters of an exporter's message that are kept; they run to megabytes.
MESSAGE = 6000


class Stop(Exception):
    """The model cannot be checked any further; the text says why, for a person.

    Args:
        step: build, inputs, forward or weights.
    """

    def __init__(self, step: str, text: str) -> None:
        """Keep both."""
        super().__init__(text)
        self.step = step


@dataclass
class Record:
    """The file, and what is in it.

    Args:
        path: where it lies.
        root: the folder of the user's code.
        found: what is known by now.
    """

    path: Path
    root: Path
    found: dict[str, Any] = field(default_factory=dict)

    def put(self, **values: Any) -> None:
        """Add what is known now, and write the file."""
        self.found.update(values)
        temporary = self.path.with_suffix(".part")
        temporary.write_text(json.dumps(self.found), encoding="utf-8")
        temporary.replace(self.path)

    def note(self, text: str) -> None:
        """Add a remark for the user."""
        notes = self.found.setdefault("notes", [])
        if text not in notes:
            notes.append(text)

    def failure(self, error: BaseException) -> dict[str, Any]:
        """An error as data: what it says, and the user's line."""
        first = root_cause(error)
        text = str(first).strip() or type(first).__name__
        return {
            "type": type(first).__name__,
            "message": text[:MESSAGE],
            "place": self._place(error, text),
            "functions": _functions(first),
            "chain": [type(e).__name__ for e in chain(error)],
        }

    def _place(self, error: BaseException, text: str) -> str:
        for each in reversed(chain(error)):
            place = self.frame(traceback.extract_tb(each.__traceback__))
            if place:
                return place
        return self.line(text)

    def frame(self, frames: traceback.StackSummary) -> str:
        """The innermost line of the user's among frames."""
        for frame in reversed(frames):
            if self.owns(frame.filename):
                return f"{os.path.realpath(frame.filename)}:{frame.lineno}"
        return ""

    def line(self, text: str) -> str:
        """The last line of the user's that a text quotes as tracebacks do."""
        place = ""
        for line in text.splitlines():
            parts = line.strip().split('"')
            if len(parts) >= 3 and parts[0].endswith("File ") and self.owns(parts[1]):
                number = "".join(
                    c for c in parts[2].partition(" line ")[2] if c.isdigit() or c == ","
                )
                place = f"{os.path.realpath(parts[1])}:{number.partition(',')[0]}"
        return place

    def owns(self, name: str) -> bool:
        """Whether a file is the user's own."""
        if "-packages" in name or name.startswith("<"):
            return False
        return os.path.realpath(name).startswith(f"{self.root}{os.sep}")


def _functions(error: BaseException) -> list[str]:
    """The functions that were running, outermost first."""
    frames = traceback.extract_tb(error.__traceback__)
    return list(dict.fromkeys(f.name for f in frames if not f.name.startswith("<")))[-60:]


def chain(error: BaseException) -> list[BaseException]:
    """An error and its causes, the last one raised first."""
    found: list[BaseException] = []
    each: BaseException | None = error
    while each is not None and each not in found:
        found.append(each)
        each = each.__cause__ or (None if each.__suppress_context__ else each.__context__)
    return found


def root_cause(error: BaseException) -> BaseException:
    """The error that says most: behind those of the exporter, which only wrap it."""
    for each in chain(error):
        if type(each).__name__ not in (
            "TorchExportError",
            "ConversionError",
            "GraphConstructionError",
        ):
            return each
    return error
