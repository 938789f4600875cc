"""The list of repositories: a TOML file with a table [fleet] and tables [[repo]]."""

from __future__ import annotations

import glob
import os
import re
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from porter import config
from porter.config import ConfigProblem, Reader, Wrong

#: A unit of work holds no more than this, unless the list says otherwise.
MAX_FILES = 2_000
MAX_BYTES = 32_000_000
#: Settings of a repository that the list may overrule; `exclude` adds to the repository's own.
SETTINGS = ("target", "min-torch", "torch-npu", "hardware", "select", "ignore", "unsafe")

_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.-]*://|[^/\\]+@[^/\\]+:")
_NOT_IN_A_NAME = re.compile(r'[\x00-\x1f\x7f\\:*?"<>|]')
_LONGEST_NAME = 150


class ListProblem(ConfigProblem):
    """A list that cannot be used; `message` is one line that names the file and the key."""


@dataclass(frozen=True)
class Repo:
    """One repository of a list.

    Args:
        name: unique; its reports are called by it.
        path: its folder, absolute.
        shown: the folder as reports name it.
        given: settings that the list overrules, by their names in `porter.config.Settings`.
        exclude: patterns that add to those of its configuration.
        split: patterns of folders that are units of work of their own.
        max_files: the most files of a unit.
        max_bytes: the most bytes of a unit, unless one file alone has more.
        team: whose it is; may be empty.
        labels: words to find it by.
        weight: how much it counts against others.
        problem: why it cannot be looked at; empty if it can.
    """

    name: str
    path: str
    shown: str
    given: tuple[tuple[str, Any], ...] = ()
    exclude: tuple[str, ...] = ()
    split: tuple[str, ...] = ()
    max_files: int = MAX_FILES
    max_bytes: int = MAX_BYTES
    team: str = ""
    labels: tuple[str, ...] = ()
    weight: float = 1.0
    problem: str = ""


@dataclass(frozen=True)
class Fleet:
    """A list: the `folder` it lies in, the `title` of its dashboard, and its repositories."""

    folder: str
    title: str
    repos: tuple[Repo, ...]


def read(source: Path, target: str = "", made: Collection[Path] = ()) -> Fleet:
    """Read a list.

    Args:
        source: the file.
        target: overrules the target of all repositories; empty leaves the choice to the list.
        made: folders that fleets write, which no pattern is meant to match.

    Raises:
        ListProblem: it is malformed, names no repository, or names two alike.
    """
    try:
        data = config.read_toml(source)
    except ConfigProblem as problem:
        raise ListProblem(problem.message) from None
    without = frozenset(map(os.path.realpath, made))
    where = config.shown(source).as_posix()
    return _List(where, source.absolute().parent, target, without).fleet(data)


@dataclass(frozen=True)
class _List:
    """A list while it is read: how messages name it, and what its paths are relative to."""

    where: str
    folder: Path
    target: str
    without: frozenset[str]

    def fleet(self, data: Mapping[str, Any]) -> Fleet:
        for key in data:
            if key not in ("fleet", "repo"):
                known = {"fleet": None, "repo": None}
                raise ListProblem(f"{self.where}: unknown key {key!r}{config.meant(key, known)}")
        defaults = self._table(f"{self.where}: [fleet]", data.get("fleet", {}), _FLEET)
        entries = data.get("repo", [])
        if not isinstance(entries, list) or not entries:
            raise ListProblem(f"{self.where}: names no repository; add [[repo]] with path = ...")
        tables = [
            (where, self._table(where, entry, _REPO))
            for number, entry in enumerate(entries, 1)
            for where in [self._entry(number, entry)]
        ]
        named = {
            os.path.realpath(self._absolute(table["path"]))
            for _, table in tables
            if "path" in table
        }
        repos = [
            repo for where, table in tables for repo in self._repos(where, table, defaults, named)
        ]
        self._distinct(repos)
        return Fleet(str(self.folder), defaults.get("title", "Fleet"), tuple(r for _, r in repos))

    def _entry(self, number: int, entry: Any) -> str:
        said = entry.get("name", entry.get("path")) if isinstance(entry, dict) else None
        called = f" ({said!r})" if isinstance(said, str) else ""
        return f"{self.where}: [[repo]] {number}{called}"

    def _table(self, where: str, table: Any, readers: Mapping[str, Reader]) -> dict[str, Any]:
        if not isinstance(table, dict):
            raise ListProblem(f"{where} must be a table, not {config.kind_of(table)}")
        try:
            return {key: config.checked(where, key, value, readers) for key, value in table.items()}
        except ConfigProblem as problem:
            raise ListProblem(problem.message) from None

    def _repos(
        self, where: str, table: dict[str, Any], defaults: dict[str, Any], named: set[str]
    ) -> Iterator[tuple[str, Repo]]:
        """The repositories of one entry, each with how messages name the entry."""
        if ("path" in table) == ("paths" in table):
            raise ListProblem(f"{where} needs path = FOLDER, or paths = [PATTERNS]; one of them")
        if "paths" in table and "name" in table:
            raise ListProblem(f"{where}: name goes with path; folders of paths name themselves")
        common = self._common(table, defaults)
        if "path" in table:
            name = table.get("name") or self._absolute(table["path"]).name
            yield where, self._repo(where, name, table["path"], common)
            return
        for pattern in table["paths"]:
            found = list(self._folders(pattern))
            if not found:
                raise ListProblem(f"{where}: paths: no folder matches {pattern!r}")
            for path in found:
                # What has an entry of its own is looked at as that one says.
                if os.path.realpath(self._absolute(path)) not in named:
                    yield where, self._repo(where, path, path, common)

    def _common(self, table: dict[str, Any], defaults: dict[str, Any]) -> Repo:
        values = {**defaults, **table}
        if self.target:
            values["target"] = self.target
        given = {key.replace("-", "_"): values[key] for key in SETTINGS if key in values}
        return Repo(
            "",
            "",
            "",
            given=tuple(sorted(given.items())),
            exclude=(*defaults.get("exclude", ()), *table.get("exclude", ())),
            split=values.get("split", ()),
            max_files=values.get("max-files", MAX_FILES),
            max_bytes=values.get("max-bytes", MAX_BYTES),
            team=values.get("team", ""),
            labels=tuple(dict.fromkeys((*defaults.get("labels", ()), *table.get("labels", ())))),
            weight=values.get("weight", 1.0),
        )

    def _repo(self, where: str, name: str, path: str, common: Repo) -> Repo:
        reason = _bad_name(name)
        if reason:
            raise ListProblem(f"{where}: name {name!r} {reason}")
        full = self._absolute(path)
        problem = ""
        if not full.is_dir():
            kind = "is not a folder" if full.exists() else "no such folder"
            problem = f"{where}: path: {kind}: {path}"
        shown = Path(path).as_posix()
        return replace(common, name=name, path=str(full), shown=shown, problem=problem)

    def _absolute(self, path: str) -> Path:
        return Path(os.path.abspath(self.folder / Path(path).expanduser()))  # noqa: PTH100

    def _folders(self, pattern: str) -> Iterator[str]:
        """The folders that a pattern matches, as paths to show, sorted."""
        # Not Path.glob, which enters links to folders in some releases of Python and not in others.
        found = glob.glob(pattern, root_dir=self.folder, recursive=True)  # noqa: PTH207
        for path in sorted(found):
            full = self.folder / path
            if full.is_dir() and os.path.realpath(full) not in self.without:
                yield Path(path).as_posix()

    def _distinct(self, repos: list[tuple[str, Repo]]) -> None:
        """Two names that differ in case alone would share a file on some disks."""
        seen: dict[str, str] = {}
        for where, repo in repos:
            key = repo.name.casefold()
            if key in seen:
                raise ListProblem(
                    f"{where}: name {repo.name!r} is taken by {seen[key]}; give it another name"
                )
            seen[key] = where.removeprefix(f"{self.where}: ")


def _bad_name(name: str) -> str:
    if not name or len(name) > _LONGEST_NAME:
        return f"must have 1 to {_LONGEST_NAME} characters; set name"
    if _NOT_IN_A_NAME.search(name):
        return "holds a character that no file can be called by everywhere; set another name"
    if any(part in ("", ".", "..") for part in name.split("/")):
        return "must be a name, or names with / between them; set name"
    return ""


# Values -----------------------------------------------------------------------------------------


def _folder(value: Any) -> str:
    path = config.text(value)
    if _URL.match(path):
        raise Wrong(
            f"cannot be a URL ({path}): porter reads folders and fetches nothing; "
            "clone it (git clone --depth 1) and write the folder"
        )
    if not path.strip():
        raise Wrong("must name a folder")
    return path


def _folders(value: Any) -> tuple[str, ...]:
    paths = tuple(_folder(path) for path in config.texts(value))
    if any(Path(path).is_absolute() or ".." in Path(path).parts for path in paths):
        raise Wrong("must stay below the folder of the list; write path for others")
    return paths


def _patterns(value: Any) -> tuple[str, ...]:
    return (value,) if isinstance(value, str) else config.texts(value)


def _count(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise Wrong("must be a whole number from 1")
    return value


def _weight(value: Any) -> float:
    if not isinstance(value, (int, float)) or isinstance(value, bool) or not 0 < value < 1e9:
        raise Wrong("must be a number above 0")
    return float(value)


_BOTH: dict[str, Reader] = {
    **{key: config.READERS[key] for key in (*SETTINGS, "exclude")},
    "max-files": _count,
    "max-bytes": _count,
    "team": config.text,
    "labels": config.texts,
    "split": _patterns,
}
_FLEET: dict[str, Reader] = {**_BOTH, "title": config.text}
_REPO: dict[str, Reader] = {
    **_BOTH,
    "name": config.text,
    "path": _folder,
    "paths": _folders,
    "weight": _weight,
}
