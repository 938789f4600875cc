"""What one file must know of the others: names that pass through modules, methods of classes.

`from .compat import autocast` says nothing about what `autocast` is: that stands in the other
file. Modules that import watched names (the catalog's `exported` prefixes) are looked for, then
the files that import those names from them, and so on along chains. A cheap search over bytes
comes first; only what it finds is parsed.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from porter.module import Module, ProjectFacts
from porter.places import Place as Place
from porter.places import place as place
from porter.project import InputFile
from porter.source import SourceProblem, decode_python
from porter.syntax import SyntaxProblem

if TYPE_CHECKING:
    from porter.lookout import Watched

#: How long a chain of modules may be that pass a name on.
MAX_CHAIN = 6

Reader = Callable[[int], bytes]
"""Gives the bytes of a file by its index."""


@dataclass(frozen=True)
class Found:
    """What the search over a project gave.

    Args:
        facts: for the engine.
        needed: indexes of the files that import a watched name from a file of the project: rules
            must look at them whatever their bytes.
    """

    facts: ProjectFacts
    needed: frozenset[int]


#: Folders at the top of a project that hold its packages.
_SOURCES = frozenset({"src", "python", "lib"})


def _own_package(where: Place) -> str:
    """The package that a file makes importable from the top of the project; empty if none."""
    parts = where.file.relative.split("/")
    if parts[0] in _SOURCES:
        parts = parts[1:]
    return parts[0] if len(parts) == 2 and parts[1] in ("__init__.py", "__init__.pyi") else ""


# Search -----------------------------------------------------------------------------------------


def collect(
    places: Sequence[Place],
    exporters: Sequence[int],
    methods: Sequence[int],
    read: Reader,
    watched: Watched,
) -> Found:
    """Search a project.

    Args:
        places: its files.
        exporters: those that may bind a watched name, by index in `places`.
        methods: those that may define a watched method.
        read: gives the bytes of a file by index; empty if it cannot be read.
        watched: says which names and methods are watched.
    """
    search = _Search(places, read, watched)
    search.follow(exporters)
    found = search.methods(methods)
    imported: dict[str, frozenset[str]] = {}
    for i, names in search.imported.items():
        dotted = places[i].dotted
        imported[dotted] = imported.get(dotted, frozenset()) | names
    facts = ProjectFacts(
        exports=search.exports,
        methods=found,
        imported=imported,
        uncertain=frozenset(search.uncertain),
        packages=frozenset(filter(None, map(_own_package, places))),
    )
    return Found(facts, frozenset(search.needed))


@dataclass
class _Search:
    """The search under way; `exports` and `uncertain` are what `ProjectFacts` will hold."""

    places: Sequence[Place]
    read: Reader
    watched: Watched
    exports: dict[str, dict[str, str]] = field(default_factory=dict)
    uncertain: set[str] = field(default_factory=set)
    imported: dict[int, set[str]] = field(default_factory=dict)
    needed: set[int] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._owners, self._ambiguous = _owners(self.places)
        self._known: dict[int, dict[str, str]] = {}

    def follow(self, exporters: Iterable[int]) -> None:
        """Record what these files export, and follow it to whoever imports it."""
        fresh = [i for i in exporters if self._record(i)]
        for _ in range(MAX_CHAIN):
            if not fresh:
                return
            users = self._users(fresh)
            self.needed.update(users)
            fresh = [i for i in users if self.places[i].file.kind == "python" and self._record(i)]

    def _record(self, index: int) -> bool:
        """Record what a file exports; whether that is more than was known."""
        module = self._module(index)
        if module is None:
            return False
        known = self._known.setdefault(index, {})
        before = len(known)
        names = [n for n in self.places[index].names if self._owners.get(n) == index]
        for local in sorted(module.root.bindings):
            found = module.resolve_name(local, module.root) if local != "*" else None
            if found is None or not self._watched(found.name):
                continue
            known[local] = found.name
            for name in names:
                self.exports.setdefault(name, {})[local] = found.name
                if not found.certain or name in self._ambiguous:
                    self.uncertain.add(f"{name}.{local}")
        self._record_star(module, names, known)
        return len(known) > before

    def _record_star(self, module: Module, names: list[str], known: dict[str, str]) -> None:
        for binding in module.root.bindings.get("*", ()):
            passed = self.exports.get(module.absolute(binding.target), {})
            for local, target in passed.items():
                if local.startswith("_") or local in known:
                    continue
                known[local] = target
                for name in names:
                    self.exports.setdefault(name, {})[local] = target
                    self.uncertain.add(f"{name}.{local}")

    def _watched(self, name: str) -> bool:
        return any(name == p or name.startswith(p + ".") for p in self.watched.exported)

    def _users(self, exporters: list[int]) -> list[int]:
        """The files that import a name that these files export."""
        names = {local for i in exporters for local in self._known[i]}
        stems = {n.rpartition(".")[2] for i in exporters for n in self.places[i].names}
        named = _Mention(names, rb"import\s*\(?\s*\*")
        placed = _Mention(stems, rb"from\s+\.+\s+import")
        wanted = set(exporters)
        readers = (i for i, where in enumerate(self.places) if where.file.kind != "other")
        return [
            i
            for i in readers
            if named.search(data := self.read(i)) and placed.search(data) and self._uses(i, wanted)
        ]

    def _uses(self, index: int, wanted: set[int]) -> bool:
        """Record what a file imports from the wanted ones; whether it imports anything."""
        module = self._module(index, plain=True)
        if module is None:
            return False
        used = set()
        for statement, _ in module.imports:
            if not isinstance(statement, ast.ImportFrom):
                continue
            base = module.absolute("." * statement.level + (statement.module or "")).rstrip(".")
            for alias in statement.names:
                used |= self._used(base, alias.name, wanted, index)
        for chain, scope in module.chains:
            found = module.resolve(chain, scope)
            name = found.name if found is not None else ""
            while "." in name:
                name, _, last = name.rpartition(".")
                used |= self._used(name, last, wanted, index)
        return bool(used)

    def _used(self, base: str, name: str, wanted: set[int], user: int) -> set[str]:
        owner = self._owners.get(base)
        if owner is None or owner not in wanted or owner == user:
            return set()
        names = set(self._known[owner]) if name == "*" else {name} & self._known[owner].keys()
        if names:
            self.imported.setdefault(owner, set()).update(names)
        return names

    def methods(self, candidates: Iterable[int]) -> dict[str, tuple[str, ...]]:
        """The classes that define a watched method."""
        found: dict[str, list[str]] = {}
        for index in candidates:
            module = self._module(index, plain=True)
            shown = self.places[index].shown
            for node in ast.walk(module.tree) if module is not None else ():
                if not isinstance(node, ast.ClassDef):
                    continue
                for item in node.body:
                    if (
                        isinstance(item, (ast.FunctionDef, ast.AsyncFunctionDef))
                        and item.name in self.watched.methods
                    ):
                        found.setdefault(item.name, []).append(f"{shown}:{item.lineno} {node.name}")
        return {name: tuple(classes) for name, classes in sorted(found.items())}

    def _module(self, index: int, *, plain: bool = False) -> Module | None:
        """The parsed file; None if it cannot be read (the run says so where it matters).

        Args:
            index: which file.
            plain: leave names unresolved that pass through other files.
        """
        where = self.places[index]
        facts = (
            ProjectFacts()
            if plain
            else ProjectFacts(exports=self.exports, uncertain=frozenset(self.uncertain))
        )
        try:
            return Module(text_of(where.file, self.read(index)), where.shown, where.dotted, facts)
        except (SourceProblem, SyntaxProblem):
            return None


def text_of(file: InputFile, data: bytes) -> str:
    """The Python text of a file or notebook.

    Raises:
        SourceProblem: it cannot be decoded.
    """
    if file.kind == "notebook":
        from porter.notebook import Notebook
        from porter.syntax import parse

        return Notebook.parse(data, parse).text
    return decode_python(file.relative, data).text


def _owners(places: Sequence[Place]) -> tuple[dict[str, int], set[str]]:
    """Which file a dotted path most likely means, and the paths that could mean others too."""
    primary: dict[str, list[int]] = {}
    every: dict[str, list[int]] = {}
    for index, where in enumerate(places):
        if where.file.kind != "python":
            continue
        for position, name in enumerate(where.names):
            every.setdefault(name, []).append(index)
            if position == 0:
                primary.setdefault(name, []).append(index)
    owners = {}
    for name, claims in every.items():
        best = primary.get(name) or claims
        if len(best) == 1:
            owners[name] = best[0]
    return owners, {name for name, claims in every.items() if len(claims) > 1}


class _Mention:
    """One of some words, or a pattern; the words are looked for as bytes first, being quick."""

    def __init__(self, words: Iterable[str], pattern: bytes) -> None:
        choice = sorted(set(words))
        self._words = [word.encode("utf-8", "surrogateescape") for word in choice]
        whole = rf"\b(?:{'|'.join(map(re.escape, choice))})\b"
        self._whole = re.compile(whole.encode("utf-8", "surrogateescape"))
        self._pattern = re.compile(pattern)

    def search(self, data: bytes) -> bool:
        """Whether it occurs."""
        if any(word in data for word in self._words) and self._whole.search(data):
            return True
        return self._pattern.search(data) is not None
