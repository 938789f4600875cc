"""A notebook as a script: its code cells, one after the other, in one namespace."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from porter.ipython import hidden, masked

_SCRIPT = '''"""Runs the cells of a notebook."""

import linecache
import sys

sys.argv = {arguments!r}
space = {{"__name__": "__main__", "__doc__": None}}
for name, text in {cells!r}:
    linecache.cache[name] = (len(text), None, text.splitlines(True), name)
    exec(compile(text, name, "exec"), space)
'''


class NotebookProblem(Exception):
    """The file is no notebook; the text is one line."""


def _python(cell: str) -> str:
    return masked(cell, hidden(cell))


def script(path: Path, arguments: list[str], folder: Path) -> Path:
    """Write a script that runs the notebook's cells; magics and shell lines are left out.

    Raises:
        NotebookProblem: the file is no notebook.
        OSError: it cannot be read, or the script cannot be written.
    """
    try:
        notebook: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        cells = [
            (f"{path}#{number}", _python("".join(cell["source"])))
            for number, cell in enumerate(notebook["cells"], 1)
            if cell["cell_type"] == "code"
        ]
    except (ValueError, KeyError, TypeError) as error:
        raise NotebookProblem(f"{path}: not a notebook ({type(error).__name__})") from None
    written = folder / "notebook.py"
    text = _SCRIPT.format(arguments=[str(path), *arguments], cells=cells)
    written.write_text(text, encoding="utf-8")
    return written
