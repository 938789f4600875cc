"""Completion of commands and options in the user's shell: bash, zsh or fish."""

from __future__ import annotations

import os
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from porter.problem import Mistake

if TYPE_CHECKING:
    import click

_VARIABLE = "_PORTER_COMPLETE"
#: For each shell the file of the script, and the file and lines that make the shell read it; a
#: shell that has a folder for such scripts needs none.
_PLACES = {
    "bash": (".bash_completions/porter.sh", ".bashrc", 'source "{script}"'),
    "zsh": (
        ".zfunc/_porter",
        ".zshrc",
        "fpath+={folder}; autoload -Uz compinit; compinit",
    ),
    "fish": (".config/fish/completions/porter.fish", "", ""),
}


def script(program: click.Command) -> str:
    """The completion script for the user's shell.

    Raises:
        Mistake: there is none for it.
    """
    from click.shell_completion import get_completion_class

    shell = _shell()
    found = get_completion_class(shell)
    if found is None:
        raise Mistake(f"no completion for {shell}")
    return found(program, {}, "porter", _VARIABLE).source()


def install(program: click.Command) -> str:
    """Write the script into the user's home, make the shell read it, and say where it is.

    Raises:
        Mistake: there is none for the user's shell, or a file cannot be written.
    """
    text, (name, start, lines) = script(program), _PLACES[_shell()]
    path = Path.home() / name
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
        if start:
            _add(Path.home() / start, lines.format(script=path, folder=path.parent))
    except OSError as problem:
        raise Mistake(f"{problem.filename}: cannot be written: {problem.strerror}") from None
    return f"{_shell()} completion is in {path}; it works in new shells"


def _add(path: Path, line: str) -> None:
    known = path.read_text(encoding="utf-8", errors="surrogateescape") if path.exists() else ""
    if line not in known.splitlines():
        with path.open("a", encoding="utf-8") as out:
            out.write(("" if not known or known.endswith("\n") else "\n") + line + "\n")


def _shell() -> str:
    named = PurePath(os.environ.get("SHELL", "")).name
    if named not in _PLACES:
        known = ", ".join(_PLACES)
        raise Mistake(f"SHELL names no shell with completion ({named or 'unset'}; known: {known})")
    return named
