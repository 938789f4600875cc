"""How the files of a repository become units of work.

Every unit is a run of files that follow each other in the order of a report, so that what the
units say can be put together again without sorting. Cuts are made between folders where that is
possible. Nothing that is reported depends on where they are.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import groupby

from porter.project import Patterns


@dataclass(frozen=True)
class Shard:
    """Files of one unit.

    Args:
        group: the folder that a pattern chose; empty elsewhere.
        members: indexes of the files, in the order of their names.
    """

    group: str
    members: tuple[int, ...]


@dataclass(frozen=True)
class Cutter:
    """Cuts files into shards.

    Args:
        names: their paths, POSIX.
        sizes: their bytes.
        patterns: of folders that are on their own.
        max_files: the most files of a shard.
        max_bytes: the most bytes of a shard, unless one file alone has more.
    """

    names: Sequence[str]
    sizes: Sequence[int]
    patterns: Sequence[str]
    max_files: int
    max_bytes: int

    def shards(self) -> list[Shard]:
        """The shards, in the order of the names of their files."""
        order = sorted(range(len(self.names)), key=self.names.__getitem__)
        groups = _Groups(Patterns(self.patterns))
        return [
            Shard(group, tuple(piece))
            for group, members in groupby(order, lambda i: groups.of(self.names[i]))
            for piece in self._pieces(list(members), f"{group}/" if group else "")
        ]

    def _pieces(self, members: list[int], prefix: str) -> Iterator[list[int]]:
        """Cut files, all of which lie below `prefix`, between its folders or within them."""
        if self._fits(len(members), self._bytes(members)):
            yield members
            return
        pending: list[int] = []
        size = 0
        for name, found in groupby(members, lambda i: _step(self.names[i], len(prefix))):
            inner = list(found)
            more = self._bytes(inner)
            if pending and not self._fits(len(pending) + len(inner), size + more):
                yield pending
                pending, size = [], 0
            if name.endswith("/") and not self._fits(len(inner), more):
                yield from self._pieces(inner, name)
            else:
                pending += inner
                size += more
        if pending:
            yield pending

    def _bytes(self, members: Sequence[int]) -> int:
        return sum(self.sizes[i] for i in members)

    def _fits(self, files: int, size: int) -> bool:
        return files <= self.max_files and (size <= self.max_bytes or files == 1)


def _step(name: str, start: int) -> str:
    """The folder that comes next on the way to a file, with its slash, or the file."""
    end = name.find("/", start)
    return name if end < 0 else name[: end + 1]


class _Groups:
    """The outermost folder of a file that a pattern matches."""

    def __init__(self, patterns: Patterns) -> None:
        self._patterns = patterns
        self._known: dict[str, str] = {"": ""}

    def of(self, name: str) -> str:
        return self._folder(name.rpartition("/")[0])

    def _folder(self, folder: str) -> str:
        if folder not in self._known:
            above = self._folder(folder.rpartition("/")[0])
            own = folder if self._patterns.match(folder, folder=True) else ""
            self._known[folder] = above or own
        return self._known[folder]
