"""What one file must know of the others: names that pass through modules, methods of classes.

`from .compat import autocast` says nothing about what `autocast` is: that stands in the other
file. Modules that import watched names (the catalog's `exported` prefixes) are looked for, then
the files that import those names from them, and so on along chains. A cheap search over bytes
comes first; only what it finds is parsed.
"""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from porter.catalog import Catalog
from porter.module import Module, ProjectFacts
from porter.project import InputFile
from porter.source import SourceProblem, decode_python
from porter.syntax import SyntaxProblem

#: How long a chain of modules may be that pass a name on.
MAX_CHAIN = 6

Reader = Callable[[int], bytes]
"""Gives the bytes of a file by its index."""


@dataclass(frozen=True)
class Place:
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


#: Folders at the top of a project that hold its packages.
_SOURCES = frozenset({"src", "python", "lib"})


def _own_package(where: Place) -> str:
    """The package that a file makes importable from the top of the project; empty if none."""
    parts = where.file.relative.split("/")
    if parts[0] in _SOURCES:
        parts = parts[1:]
    return parts[0] if len(parts) == 2 and parts[1] in ("__init__.py", "__init__.pyi") else ""


def _importable(parts: Sequence[str]) -> str:
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


@functools.cache
def _package(folder: str) -> tuple[str, ...]:
    """The dotted path of the package that a folder is; empty if it is none."""
    path = Path(folder)
    if not (path / "__init__.py").is_file() or path.parent == path:
        return ()
    return (*_package(str(path.parent)), path.name)


# Bytes ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Signs:
    """Byte patterns that tell which files have something to say.

    Args:
        exports: the file may bind a watched name at its top level.
        methods: the file may define a watched method.
        words: without one of these no watched name can be bound; looked for first, being quick.
    """

    exports: re.Pattern[bytes]
    methods: re.Pattern[bytes]
    words: tuple[bytes, ...]

    def may_export(self, data: bytes) -> bool:
        """Whether a file with these bytes may bind a watched name at its top level."""
        return any(word in data for word in self.words) and bool(self.exports.search(data))

    def may_define(self, data: bytes) -> bool:
        """Whether a file with these bytes may define a watched method."""
        return self.methods.search(data) is not None

    @classmethod
    def of(cls, catalog: Catalog) -> Signs:
        """The patterns for a catalog."""
        exports = [_import_pattern(prefix) for prefix in catalog.exported]
        methods = "|".join(map(re.escape, catalog.methods)) or "(?!)"
        return cls(
            re.compile("|".join(exports).encode() or b"(?!)", re.MULTILINE),
            # Not "\\bdef": `re` jumps to a literal only if the pattern begins with it.
            re.compile(rf"def\s+(?:{methods})\s*\(".encode()),
            tuple({prefix.rpartition(".")[2].encode() for prefix in catalog.exported}),
        )


def _import_pattern(prefix: str) -> str:
    """Matches ways to bind something below a dotted prefix to a name."""
    package, _, last = prefix.rpartition(".")
    whole, last = re.escape(prefix), re.escape(last)
    ways = [rf"from\s+{whole}[.\w]*\s+import\b", rf"import\s+{whole}\b", rf"=\s*{whole}\b"]
    if package:
        names = r"(?:\([^)]*?|[^\n(;]*?)"
        ways.append(rf"from\s+{re.escape(package)}\s+import\s+{names}\b{last}\b")
    return "|".join(ways)


# Search -----------------------------------------------------------------------------------------


def collect(
    places: Sequence[Place],
    exporters: Sequence[int],
    methods: Sequence[int],
    read: Reader,
    catalog: Catalog,
) -> Found:
    """Search a project.

    Args:
        places: its files.
        exporters: those that may bind a watched name, by index in `places`.
        methods: those that may define a watched method.
        read: gives the bytes of a file by index; empty if it cannot be read.
        catalog: says which names and methods are watched.
    """
    search = _Search(places, read, catalog)
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
    catalog: Catalog
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
        return any(name == p or name.startswith(p + ".") for p in self.catalog.exported)

    def _users(self, exporters: list[int]) -> list[int]:
        """The files that import a name that these files export."""
        names = {local for i in exporters for local in self._known[i]}
        stems = {n.rpartition(".")[2] for i in exporters for n in self.places[i].names}
        named = re.compile(_any_word(names) + rb"|import\s*\(?\s*\*")
        placed = re.compile(_any_word(stems) + rb"|from\s+\.+\s+import")
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
                        and item.name in self.catalog.methods
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


def _any_word(words: Iterable[str]) -> bytes:
    choice = "|".join(sorted(map(re.escape, words)))
    return rf"\b(?:{choice})\b".encode("utf-8", "surrogateescape")
