"""Which module a file is, as far as its path tells."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from porter.project import InputFile


class Place(NamedTuple):
    """A file as a module.

    Args:
        file: the file.
        dotted: its own dotted path, for relative imports; a package's ends with ".__init__".
        names: the dotted paths that other files may import it by.
        shown: the path to show, POSIX.
    """

    file: InputFile
    dotted: str
    names: tuple[str, ...]
    shown: str


def place(file: InputFile, shown: str) -> Place:
    """The module that a file is, judged by `__init__.py` files and the root it was given in."""
    stem = file.path.name.split(".")[0]
    package = _package(str(file.path.parent.absolute()))
    inner = [*package, stem]
    relative = [*file.relative.split("/")[:-1], stem]
    source = relative[1:] if relative[0] == "src" and len(relative) > 1 else relative
    own = inner if package else source
    candidates = [own, source, relative]
    if not package:
        candidates.append([stem])  # a script imports its neighbours by their bare names
    names = dict.fromkeys(_importable(parts) for parts in candidates)
    return Place(file, ".".join(own), tuple(n for n in names if n), shown)


def _importable(parts: Sequence[str]) -> str:
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def _package(folder: str) -> tuple[str, ...]:
    """The dotted path of the package that a folder is; empty if it is none."""
    path = Path(folder)
    if not (path / "__init__.py").is_file() or path.parent == path:
        return ()
    return (*_package(str(path.parent)), path.name)
