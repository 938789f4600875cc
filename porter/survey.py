"""The first look at every file: cheap enough for all, and all that most files ever get.

It tells from the bytes whether a file must be analysed, and what it may have to say about others.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from porter import codes, files, lookout
from porter.lookout import Lookout, always_wants, wants
from porter.places import Place
from porter.project import Kind
from porter.scan import UTF16, Signs, may_match

if TYPE_CHECKING:
    from porter.pool import Progress

#: Below so many bytes to look at, starting processes costs more than they save.
SERIAL_BYTES = 6_000_000
#: From so many bytes on, patterns are compiled before they are needed.
PREPARED_BYTES = 500_000
#: How a line of a notebook begins that IPython gives to the shell.
_COMMAND = rb"(?:\"|\\n)\s*[!%]"


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


class View(NamedTuple):
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


class Seen(NamedTuple):
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
    serving, _ = _signs(view)  # made here once, and so in every forked process
    size = sum(_size(file) for file in files)
    if size > PREPARED_BYTES:
        serving.marker.prepare()
    if len(files) == 1 or (jobs in (0, 1) and size < SERIAL_BYTES):
        return _here(files, view, progress)
    from porter.pool import DIED, Work, processes, spread

    work = Work(look_at, view, lambda file: Look(problem=DIED), chunk=64)
    return spread(work, files, processes(jobs, size, SERIAL_BYTES), progress, _load_rules)


def _load_rules() -> None:
    """Load what the analysis needs, while other processes look: of so many files, some need it."""
    import porter.analysis  # noqa: F401
    from porter import catalog

    catalog.load()


def _here(files: Sequence[Seen], view: View, progress: Progress | None) -> list[Look]:
    """Look at files in this process, which needs nothing that could start others."""
    looks = []
    for file in files:
        looks.append(look_at(file, view))
        if progress is not None:
            progress(len(looks), len(files))
    return looks


def digest(file: Seen) -> bytes | None:
    """The SHA-256 of a file; None if it cannot be read."""
    import hashlib

    try:
        return hashlib.sha256(_bytes(file)).digest()
    except OSError:
        return None


def glance(file: Seen, data: bytes, view: View) -> Look:
    """Look at bytes for what decides whether a file is analysed, and for nothing else."""
    return Look(
        size=len(data),
        concerns=_concerns(file, data, _signs(view)[0]),
        agnostic=b"torch.accelerator" in data,
    )


def look_at(file: Seen, view: View) -> Look:
    """Look at one file."""
    import hashlib

    try:
        data = _bytes(file)
    except OSError as problem:
        return Look(problem=f"cannot be read: {problem.strerror or problem}")
    serving, telling = _signs(view)
    return Look(
        digest=hashlib.sha256(data).digest(),
        size=len(data),
        concerns=_concerns(file, data, serving),
        exports=file.kind == "python" and telling.may_export(data),
        methods=file.kind != "other" and telling.may_define(data),
        binds=b"m.def" in data and _is_native(file.shown),
        agnostic=b"torch.accelerator" in data,
    )


def _is_native(path: str) -> bool:
    from porter.text_site import kind_of

    return kind_of(path) == "native"


def _bytes(file: Seen) -> bytes:
    return file.data if file.data is not None else files.read(file.path)


def _size(file: Seen) -> int:
    if file.data is not None:
        return len(file.data)
    try:
        return Path(file.path).stat().st_size
    except OSError:
        return 0


def signs(view: View) -> Signs:
    """What tells which files have something to say about others."""
    return _signs(view)[1]


_made: dict[View, tuple[Lookout, Signs]] = {}


def _signs(view: View) -> tuple[Lookout, Signs]:
    if view not in _made:
        found = lookout.selected(view.select, view.ignore)
        serving = found.serving(view.target, view.hardware)
        _made[view] = (serving, Signs(found.exported, found.methods))
    return _made[view]


#: A letter that JSON need not escape; words must be looked for behind such escapes.
_NEEDLESS = rb"\\u00(?:[46][1-9a-fA-F]|[57][0-9aA]|2[eE]|3[0-9]|5[fF])"
#: Where a line of a cell goes on in another string.
_JOINT = rb"\"\s*,\s*\""


def _notebook_concerns(data: bytes, serving: Lookout) -> bool:
    if re.search(_NEEDLESS, data) is not None:
        return True
    for seen in (data, re.sub(_JOINT, b"", data)):
        commands = re.search(_COMMAND, data) is not None and serving.may_concern(seen)
        if commands or serving.marker.search(seen):
            return True
    return False


def _concerns(file: Seen, data: bytes, serving: Lookout) -> bool:
    if file.kind == "other" and wants(lookout.load(), file.relative):
        data = data.replace(b"\0", b"") if data.startswith(UTF16) else data
        if codes.MADE.match(data) is not None:
            return False
        speaks = serving.may_concern(data) or codes.COMMENT.search(data) is not None
        return speaks or always_wants(serving, file.relative)
    if data.startswith(UTF16):
        return True
    if file.kind == "notebook":  # its bytes are JSON: what looks like a comment need not be one
        return _notebook_concerns(data, serving)
    return codes.COMMENT.search(data) is not None or may_match(data, serving.marker)
