"""The first look at every file: cheap enough for all, and all that most files ever get.

It tells from the bytes whether a file must be analysed, and what it may have to say about others.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from porter import catalog as rules
from porter import own
from porter.catalog import Catalog
from porter.facts import Place, Signs
from porter.pool import DIED, Progress, Work, processes, spread
from porter.project import Kind
from porter.scan import may_match
from porter.source import UTF16
from porter.text import wants
from porter.text_site import kind_of

#: Below so many bytes to look at, starting processes costs more than they save.
SERIAL_BYTES = 6_000_000
#: How a line of a notebook begins that IPython gives to the shell.
_COMMAND = re.compile(rb"(?:\"|\\n)\s*[!%]")


@dataclass(frozen=True)
class Look:
    """What the bytes of a file tell.

    Args:
        digest: the SHA-256 of the bytes.
        size: their number.
        concerns: rules may find something, or it must be reported as unreadable.
        exports: it may bind a watched name at its top level.
        methods: it may define a watched method.
        binds: it may bind C++ functions for Python.
        agnostic: it uses torch.accelerator.
        problem: why it cannot be read; the rest says nothing then.
    """

    digest: bytes = b""
    size: int = 0
    concerns: bool = False
    exports: bool = False
    methods: bool = False
    binds: bool = False
    agnostic: bool = False
    problem: str = ""


@dataclass(frozen=True)
class View:
    """What every worker must know to look at files.

    Args:
        select: code prefixes in force; empty means all.
        ignore: code prefixes not in force.
        target: what the rules serve.
        hardware: the product line of the target that was chosen; empty if none.
    """

    select: tuple[str, ...]
    ignore: tuple[str, ...]
    target: str
    hardware: str = ""


@dataclass(frozen=True)
class Seen:
    """One file to look at; `data` only where it does not come from the disk."""

    path: str
    shown: str
    relative: str
    kind: Kind
    data: bytes | None = None

    @classmethod
    def of(cls, where: Place, data: bytes | None = None) -> Seen:
        """The file at a place."""
        file = where.file
        return cls(str(file.path), where.shown, file.relative, file.kind, data)


def look(files: Sequence[Seen], view: View, jobs: int, progress: Progress | None) -> list[Look]:
    """Look at files, in several processes where that pays; in the order of the files."""
    _signs(view)  # made here once, and so in every forked process
    size = sum(_size(file) for file in files)
    work = Work(look_at, view, lambda file: Look(problem=DIED), chunk=64)
    return spread(work, files, processes(jobs, size, SERIAL_BYTES), progress)


def digest(file: Seen) -> bytes | None:
    """The SHA-256 of a file; None if it cannot be read."""
    try:
        return hashlib.sha256(_bytes(file)).digest()
    except OSError:
        return None


def look_at(file: Seen, view: View) -> Look:
    """Look at one file."""
    try:
        data = _bytes(file)
    except OSError as problem:
        return Look(problem=f"cannot be read: {problem.strerror or problem}")
    serving, signs = _signs(view)
    return Look(
        digest=hashlib.sha256(data).digest(),
        size=len(data),
        concerns=_concerns(file, data, serving),
        exports=file.kind == "python" and signs.may_export(data),
        methods=file.kind != "other" and signs.may_define(data),
        binds=kind_of(file.shown) == "native" and b"m.def" in data,
        agnostic=b"torch.accelerator" in data,
    )


def _bytes(file: Seen) -> bytes:
    return file.data if file.data is not None else Path(file.path).read_bytes()


def _size(file: Seen) -> int:
    if file.data is not None:
        return len(file.data)
    try:
        return Path(file.path).stat().st_size
    except OSError:
        return 0


_made: dict[View, tuple[Catalog, Signs]] = {}


def _signs(view: View) -> tuple[Catalog, Signs]:
    if view not in _made:
        catalog = rules.selected(view.select, view.ignore)
        _made[view] = (catalog.serving(view.target, view.hardware), Signs.of(catalog))
    return _made[view]


def _concerns(file: Seen, data: bytes, catalog: Catalog) -> bool:
    if file.kind == "other" and wants(rules.load(), file.relative):
        data = data.replace(b"\0", b"") if data.startswith(UTF16) else data
        if own.MADE.match(data) is not None:
            return False
        return catalog.may_concern(data) or own.COMMENT.search(data) is not None
    if data.startswith(UTF16):
        return True
    if file.kind == "notebook":  # its bytes are JSON: what looks like a comment need not be one
        commands = _COMMAND.search(data) is not None and catalog.may_concern(data)
        return commands or catalog.marker.search(data)
    return own.COMMENT.search(data) is not None or may_match(data, catalog.marker)
