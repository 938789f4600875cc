"""The folder `.porter` of a project: undo patches, and files in the making.

Git ignores it. One run at a time works in it, so that two runs do not mix what they write. It goes
when nothing is left in it.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from porter import temporary
from porter.patch import unified
from porter.writing import WriteProblem, explained, is_full, sync, sync_folder

NAME = ".porter"
#: How long to wait for another run to end its work here.
WAIT_SECONDS = 10.0
_POLL_SECONDS = 0.02
_IGNORE = ".gitignore"


@dataclass(frozen=True)
class Change:
    """One rewritten file: ``path`` is POSIX, relative to the folder the patch applies in."""

    path: str
    before: bytes
    after: bytes


@dataclass
class Undo:
    """A patch that takes changes back.

    Args:
        path: where it lies.
        pieces: its parts, by the path of the file.
    """

    path: Path
    pieces: dict[str, bytes]

    def only(self, paths: Collection[str]) -> bool:
        """Reduce the patch to these files, since `git apply` takes a patch as a whole or not.

        Returns:
            Whether anything is left; otherwise the patch is gone. If the disk refuses, it stays
            as it is.
        """
        left = {path: piece for path, piece in self.pieces.items() if path in paths}
        if left == self.pieces:
            return True
        with contextlib.suppress(OSError):
            if left:
                with temporary.made(self.path.parent, self.path.name) as new:
                    new.file.write(b"".join(left.values()))
                    _published(new, self.path)
            else:
                self.path.unlink()
            self.pieces = left
        return bool(self.pieces)


@dataclass(frozen=True)
class WorkFolder:
    """The folder `.porter` in ``folder``; ``refusal`` tells why it cannot be used, if so."""

    folder: Path
    refusal: str = ""

    @property
    def home(self) -> Path:
        """Where it lies."""
        return self.folder / NAME

    @property
    def stage(self) -> Path | None:
        """Where files are made before they take another's place; None if it cannot be used."""
        return None if self.refusal else self.home

    def undo(self, changes: Sequence[Change]) -> Undo:
        """Write the patch that takes ``changes`` back, as ``undo-N.patch``.

        It applies in ``folder``, with ``patch -p1`` or (at the top of a work tree) ``git apply``.
        It is on the disk when this returns.

        Raises:
            WriteProblem: it cannot be written.
        """
        if self.refusal:
            raise WriteProblem(self.refusal)
        pieces = {c.path: unified(c.path, c.after, c.before) for c in changes}
        try:
            with temporary.made(self.home, "undo.patch") as new:
                new.file.write(b"".join(pieces.values()))
                path = self._free()
                try:
                    _published(new, path)
                except BaseException:
                    path.unlink()
                    raise
            sync_folder(self.folder)
        except OSError as problem:
            reason = "no space left" if is_full(problem) else problem.strerror or problem
            raise WriteProblem(
                f"{self.home}: nothing was changed, since the patch that undoes it cannot be "
                f"written: {reason}"
            ) from None
        return Undo(path, pieces)

    def _free(self) -> Path:
        """Take the first free number, so that no other run takes it."""
        number = 1
        while True:
            path = self.home / f"undo-{number}.patch"
            try:
                path.open("xb").close()
            except FileExistsError:
                number += 1
            else:
                return path


def _published(new: temporary.Temporary, path: Path) -> None:
    sync(new)
    new.path.chmod(0o644)
    new.file.close()
    new.path.replace(path)
    sync_folder(path.parent)


@contextlib.contextmanager
def opened(folder: Path) -> Iterator[WorkFolder]:
    """The folder `.porter` in ``folder``, made if need be; no other run works in it meanwhile.

    Raises:
        WriteProblem: another run works in it and does not end.
    """
    home = folder / NAME
    if home.is_symlink():
        yield WorkFolder(folder, f"{home}: is a symbolic link; remove it")
        return
    held: int | None = None
    try:
        held = _entered(home)
        _tidied(home, sure=held is not None)
    except OSError as problem:
        work = WorkFolder(folder, explained(home, problem))
    else:
        work = WorkFolder(folder)
    try:
        yield work
    finally:
        if not work.refusal:
            _left(home)
        if held is not None:
            os.close(held)


def _entered(home: Path) -> int | None:
    """Make and lock the folder; returns what holds the lock, None where there are no locks."""
    end = time.monotonic() + WAIT_SECONDS
    while True:
        home.mkdir(exist_ok=True)
        if sys.platform == "win32":
            return None
        try:
            held = os.open(home, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW)
        except FileNotFoundError:
            continue  # another run has just ended and removed it
        got = temporary.lock(held, wait=False)
        if got and _is_there(held, home):
            return held
        os.close(held)
        if got is None:
            return None
        if time.monotonic() > end:
            raise WriteProblem(
                f"{home.parent}: another run of porter is writing here; wait until it has ended"
            )
        time.sleep(_POLL_SECONDS)


def _is_there(held: int, home: Path) -> bool:
    """Whether the locked folder is still the one of that name."""
    try:
        return os.path.samestat(os.fstat(held), home.lstat())
    except FileNotFoundError:
        return False


def _tidied(home: Path, *, sure: bool) -> None:
    """Remove what a run that was killed has left; ``sure`` says that no other one is at work."""
    ignore = home / _IGNORE
    if not ignore.exists() or not ignore.stat().st_size:
        ignore.write_bytes(b"*\n")
    temporary.sweep(home)
    for patch in home.glob("undo-*.patch") if sure else ():
        if not patch.stat().st_size:  # its number was taken, and then the run ended
            patch.unlink()


def _left(home: Path) -> None:
    with contextlib.suppress(OSError):
        if {entry.name for entry in home.iterdir()} == {_IGNORE}:
            (home / _IGNORE).unlink()
            home.rmdir()
