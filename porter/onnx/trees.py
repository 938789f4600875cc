"""The two versions of the code: the tree as it is, and a mirror of it with other files.

A mirror has copies of all Python files, and of all that differ; everything else in it is a link,
so that data and weights of any size are there without being copied.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from porter import git
from porter.problem import Problem

#: Folders that belong to no version of the code.
_LEFT_OUT = frozenset(
    [".git", ".hg", ".svn", "__pycache__", ".mypy_cache", ".ruff_cache", ".pytest_cache",
     ".porter_cache", "node_modules", ".tox", ".nox"]
)  # fmt: skip
_CODE = (".py", ".pyi", ".pyw")


class TreeProblem(Problem):
    """A version of the code that cannot be had; the text is one line."""


@dataclass(frozen=True)
class Trees:
    """Where the two versions lie.

    Args:
        migrated: the version to check.
        original: the version to compare with; None for none.
        names: folders that stand for the user's, with what a report calls them.
        changed: files of the migrated version, relative to it, that are not the user's own.
    """

    migrated: Path
    original: Path | None
    names: Mapping[Path, str] = field(default_factory=dict)
    changed: frozenset[str] = frozenset()

    def rename(self, text: str) -> str:
        """A text with paths as the user knows them."""
        for file in self.changed:
            for path in dict.fromkeys((str(self.migrated), os.path.realpath(self.migrated))):
                text = text.replace(f"{path}{os.sep}{file}", f"migrated {file}")
        for folder, name in self.names.items():
            for path in dict.fromkeys((str(folder), os.path.realpath(folder))):
                text = text.replace(f"{path}{os.sep}", name)
        return text


def mirror(
    root: Path, target: Path, changes: Mapping[Path, bytes], without: Iterable[Path] = ()
) -> None:
    """Fill `target` with the tree below `root`.

    Args:
        root: the tree.
        target: an empty folder.
        changes: other contents by path in the tree; paths that are not there are added.
        without: paths to leave out.
    """
    real = Path(os.path.realpath(root))
    wanted = {Path(os.path.realpath(p)): data for p, data in changes.items()}
    gone = {Path(os.path.realpath(p)) for p in without}
    _fill(real, target, wanted, gone, Path(os.path.realpath(target)))
    for path, data in wanted.items():
        if not path.is_relative_to(real):
            continue
        place = target / path.relative_to(real)
        if not place.exists():
            _real_folder(place.parent, target, real)
            place.write_bytes(data)


def _fill(
    folder: Path, place: Path, changes: Mapping[Path, bytes], gone: set[Path], target: Path
) -> bool:
    """Copy or link what is in a folder; tells whether anything had to be copied."""
    place.mkdir(parents=True, exist_ok=True)
    copied = False
    with os.scandir(folder) as entries:
        for entry in sorted(entries, key=lambda e: e.name):
            path, goal = Path(entry.path), place / entry.name
            if path in gone or path == target:
                copied = True
            elif path in changes:
                goal.write_bytes(changes[path])
                copied = True
            elif entry.is_dir(follow_symlinks=False):
                if entry.name in _LEFT_OUT or (path / "pyvenv.cfg").is_file():
                    continue
                if _fill(path, goal, changes, gone, target):
                    copied = True
                else:
                    shutil.rmtree(goal)
                    goal.symlink_to(path, target_is_directory=True)
            elif entry.is_file() and path.suffix in _CODE:
                shutil.copyfile(path, goal)
                copied = True
            else:
                goal.symlink_to(path)
    return copied


def _real_folder(folder: Path, target: Path, root: Path) -> None:
    """Make a folder of the mirror; a link above it becomes a folder of links."""
    parts = folder.relative_to(target).parts
    for i in range(1, len(parts) + 1):
        here = target.joinpath(*parts[:i])
        if here.is_symlink():
            source = root.joinpath(*parts[:i])
            here.unlink()
            here.mkdir()
            for entry in source.iterdir():
                (here / entry.name).symlink_to(entry)
        here.mkdir(exist_ok=True)


def at_revision(root: Path, revision: str, target: Path) -> None:
    """Fill `target` with the code below `root` as a revision has it, and the rest as it is.

    Raises:
        TreeProblem: git cannot give it.
    """
    top = git.toplevel(root)
    if top is None:
        raise TreeProblem(f"--original {revision}: neither a folder, nor is this a git repository")
    names = git.files_at(top, revision)
    if names is None:
        raise TreeProblem(f"--original {revision}: neither a folder nor a revision of git")
    below = Path(os.path.realpath(root))
    old = {top / n for n in names if (top / n).is_relative_to(below)}
    differ = {top / n for n in git.changed_since(top, revision) or names}
    changes: dict[Path, bytes] = {}
    for path in old & differ:
        data = git.content(top, revision, path.relative_to(top).as_posix())
        if data is not None:
            changes[path] = data
    mirror(root, target, changes, without=(p for p in differ - old if p.suffix in _CODE))
