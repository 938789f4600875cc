"""What an analysis is asked, and what it answers; apart from it, so that answers can be kept."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from porter.module import NO_FACTS, ProjectFacts
from porter.report import FileStatus, SiteReport

if TYPE_CHECKING:
    from porter.catalog import Catalog
    from porter.hunks import Hunk
    from porter.project import Kind
    from porter.targets import Target


@dataclass(frozen=True)
class Plan:
    """What every worker must know; the rules themselves are loaded by each worker."""

    target: Target
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    unsafe: bool = False
    facts: ProjectFacts = NO_FACTS
    callers: Mapping[str, Sequence[str]] = field(default_factory=dict)

    def catalog(self, ignored: tuple[str, ...] = ()) -> Catalog:
        """The rules in force for a file that ignores these codes as well."""
        from porter.catalog import selected

        return selected(self.select, self.ignore, ignored)


@dataclass(frozen=True)
class Task:
    """One file to analyse; `data` only where it does not come from the disk."""

    path: str
    shown: str
    kind: Kind
    dotted: str
    size: int = 0
    ignored: tuple[str, ...] = ()
    data: bytes | None = None


@dataclass(frozen=True)
class FileResult:
    """What became of one file; small, because it travels between processes.

    `digest` is the SHA-256 of the bytes that were analysed; empty if they were not. `packed` is
    the new content, compressed: a run holds that of all files until it writes them.
    """

    status: FileStatus
    reason: str = ""
    sites: tuple[SiteReport, ...] = ()
    packed: bytes | None = None
    digest: str = ""
    suppressed: int = 0
    trace: str = ""
    hunks: tuple[Hunk, ...] = ()

    @property
    def after(self) -> bytes | None:
        """The new content; None if nothing changes."""
        return None if self.packed is None else unpacked(self.packed)


def packed(content: bytes) -> bytes:
    """Content as it is kept: source code shrinks to a quarter in hardly any time."""
    return zlib.compress(content, 1)


def unpacked(kept: bytes) -> bytes:
    """The content behind `packed`."""
    return zlib.decompress(kept)
