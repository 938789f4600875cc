"""What the first look at files must know of the rules: plain data, there without loading them.

Loading all rules takes longer than looking at a thousand files, and most runs of a hook find none
that concerns them. So the data is written into `porter.rewrites` when the rules change
(`python docs/build.py`). It counts only while the files that it was made from are as they were,
and while no other rules are installed; else it is taken from the rules themselves.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import zlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, NamedTuple

from porter.levels import Category
from porter.problem import Problem
from porter.project import Patterns
from porter.scan import Marker

if TYPE_CHECKING:
    from typing import Protocol

    from porter.catalog import Catalog

    class Watched(Protocol):
        """What says which names and methods files may pass on; see `porter.catalog.Catalog`."""

        @property
        def exported(self) -> tuple[str, ...]:
            """Prefixes of qualified names."""

        @property
        def methods(self) -> tuple[str, ...]:
            """Names of methods."""

    class Filed(Protocol):
        """What looks at files other than Python."""

        @property
        def files(self) -> tuple[str, ...]:
            """Patterns over relative paths."""

    class Wanting(Protocol):
        """What says which files other than Python are looked at: a catalog or a lookout."""

        @property
        def rules(self) -> Sequence[Filed]:
            """The rules."""

        @property
        def text_files(self) -> tuple[str, ...]:
            """Patterns of files that are looked at whatever they hold."""

        def __hash__(self) -> int:
            """By identity."""


FILE = "lookout.json"
PACKAGE = "porter.rewrites"
#: Where the rules get their data from, besides their own folder.
_TABLES, _SUFFIXES = "support", (".py", ".toml", ".tsv")


class CatalogProblem(Problem):
    """Rules that cannot be loaded or selected; the text is one line for the user."""


class Entry(NamedTuple):
    """What is known of a rule without its function: see `porter.rule.Rule`."""

    code: str
    name: str
    category: Category
    effort: int
    files: tuple[str, ...]


OnRequest = tuple[frozenset[str], frozenset[str], tuple[str, ...]]


@dataclass(frozen=True, eq=False, repr=False)
class Lookout:
    """What rules look for in the bytes of files; the fields that `Catalog` has mean the same.

    Args:
        rules: sorted by code.
        strings: the targets that a rule serves, and its pattern over string constants.
        packages: the top packages that the modules of rules are in.
        literals: for patterns among the markers, texts of which every match holds one.
    """

    rules: tuple[Entry, ...]
    families: tuple[tuple[frozenset[str], tuple[str, ...]], ...]
    exported: tuple[str, ...]
    methods: tuple[str, ...]
    text_words: tuple[bytes, ...]
    text_files: tuple[str, ...]
    on_request: tuple[OnRequest, ...]
    on_lines: tuple[tuple[frozenset[str], Mapping[str, tuple[str, ...]]], ...]
    strings: tuple[tuple[frozenset[str], str], ...]
    packages: tuple[str, ...]
    literals: Mapping[str, tuple[str, ...]]

    @functools.cached_property
    def marker(self) -> Marker:
        """What a file must hold for any rule to look at it."""
        return Marker.of(
            (p for _, family in self.families for p in family),
            self.literals,
            (pattern for _, pattern in self.strings),
        )

    def get(self, code: str) -> Entry | None:
        """The rule of that code."""
        return self._by_code.get(code)

    @functools.cached_property
    def _by_code(self) -> dict[str, Entry]:
        return {entry.code: entry for entry in self.rules}

    def may_concern(self, data: bytes) -> bool:
        """Whether rules for files other than Python may find anything in these bytes."""
        lower = data.lower()
        return any(word in lower for word in self.text_words)

    def select(self, select: Sequence[str], ignore: Sequence[str]) -> Lookout:
        """As `Catalog.select`.

        Raises:
            CatalogProblem: a prefix matches no rule.
        """
        kept, heard = selection((e.code for e in self.rules), self.on_request, select, ignore)
        return replace(
            self,
            rules=tuple(entry for entry in self.rules if entry.code in kept),
            families=(*self.families, *heard),
            on_request=(),
        )

    def serving(self, target: str, line: str = "") -> Lookout:
        """As `Catalog.serving`, for the markers."""
        lines = ((served, markers.get(line, ())) for served, markers in self.on_lines)
        families = tuple(f for f in (*self.families, *lines) if target in f[0])
        strings = tuple(s for s in self.strings if target in s[0])
        return replace(self, families=families, strings=strings)


def selection(
    codes: Iterable[str],
    on_request: Iterable[OnRequest],
    select: Sequence[str],
    ignore: Sequence[str],
) -> tuple[frozenset[str], tuple[tuple[frozenset[str], tuple[str, ...]], ...]]:
    """The codes that prefixes choose, and the families that run since they were asked for.

    Args:
        codes: of all rules.
        on_request: as `Catalog.on_request`.
        select: prefixes; empty means all.
        ignore: prefixes; where both match, the longer one wins.

    Raises:
        CatalogProblem: a prefix matches no rule.
    """
    every = list(codes)
    for prefix in (*select, *ignore):
        if prefix.upper() != "ALL" and not any(c.startswith(prefix.upper()) for c in every):
            raise CatalogProblem(
                f"no rule has a code that starts with {prefix!r}; see `porter rules`"
            )
    asked = tuple(p.upper() for p in select if sum(c.isdigit() for c in p) > 1)
    families = list(on_request)
    silent = {c for own, *_ in families for c in own if not c.startswith(asked)}
    wanted = select or ("ALL",)
    kept = (c for c in every if c not in silent and _best(c, wanted) > _best(c, ignore))
    return frozenset(kept), tuple((t, m) for own, t, m in families if not own <= silent)


def _best(code: str, prefixes: Sequence[str]) -> int:
    """Length of the longest prefix that matches; the more specific choice wins."""
    best = -1
    for prefix in prefixes:
        if prefix.upper() == "ALL":
            best = max(best, 0)
        elif code.startswith(prefix.upper()):
            best = max(best, len(prefix))
    return best


# Files other than Python ------------------------------------------------------------------------


def wants(rules: Wanting, path: str) -> bool:
    """Whether any rule looks at files with this relative path."""
    return _wanted(rules).match(path, folder=False)


@functools.lru_cache(maxsize=64)
def _wanted(rules: Wanting) -> Patterns:
    """All patterns at once: this is asked for every file of a project."""
    return Patterns(sorted({pattern for rule in rules.rules for pattern in rule.files}))


def always_wants(rules: Wanting, path: str) -> bool:
    """Whether a rule looks at a file with this relative path whatever it holds."""
    return _unasked(rules.text_files).match(path, folder=False)


@functools.lru_cache(maxsize=64)
def _unasked(patterns: tuple[str, ...]) -> Patterns:
    return Patterns(patterns)


# Where it comes from ----------------------------------------------------------------------------


@functools.cache
def load() -> Lookout:
    """What all rules of this installation look for."""
    from porter.packs import installed

    found = None if installed() else kept()
    if found is None:
        from porter.catalog import load as load_rules

        found = of(load_rules())
    return found


@functools.cache
def selected(select: tuple[str, ...], ignore: tuple[str, ...]) -> Lookout:
    """What the selected rules look for.

    Raises:
        CatalogProblem: a selected code matches no rule.
    """
    return load().select(select, ignore)


def of(catalog: Catalog, literals: Mapping[str, Sequence[str]] | None = None) -> Lookout:
    """What the rules of a catalog look for.

    Args:
        catalog: all rules, none selected.
        literals: for its patterns, texts of which every match holds one.
    """
    return Lookout(
        tuple(Entry(r.code, r.name, r.category, r.effort, r.files) for r in catalog.rules),
        catalog.families,
        catalog.exported,
        catalog.methods,
        catalog.text_words,
        catalog.text_files,
        catalog.on_request,
        catalog.on_lines,
        tuple((frozenset(r.targets), r.strings) for r in catalog.rules if r.strings),
        tuple(sorted({r.check.__module__.partition(".")[0] for r in catalog.rules})),
        {name: tuple(texts) for name, texts in (literals or {}).items()},
    )


def as_json(lookout: Lookout) -> str:
    """The data to keep, with what tells whether it is out of date."""
    data = {
        "made_from": state(folder()),
        "rules": [
            [e.code, e.name, e.category.value, e.effort, list(e.files)] for e in lookout.rules
        ],
        "families": [[sorted(t), list(p)] for t, p in lookout.families],
        "exported": list(lookout.exported),
        "methods": list(lookout.methods),
        "text_words": [word.decode() for word in lookout.text_words],
        "text_files": list(lookout.text_files),
        "on_request": [[sorted(c), sorted(t), list(p)] for c, t, p in lookout.on_request],
        "on_lines": [
            [sorted(t), {line: list(p) for line, p in lines.items()}]
            for t, lines in lookout.on_lines
        ],
        "strings": [[sorted(t), pattern] for t, pattern in lookout.strings],
        "packages": list(lookout.packages),
        "literals": {name: list(texts) for name, texts in sorted(lookout.literals.items())},
    }
    return json.dumps(data, indent=1) + "\n"


def kept() -> Lookout | None:
    """The data that was written when the rules last changed; None if it is out of date."""
    place = folder()
    try:
        with open(os.path.join(place, FILE), "rb") as file:  # noqa: PTH118, PTH123
            data = json.loads(file.read())
        if data["made_from"] != state(place):
            return None
    except (OSError, ValueError, KeyError):
        return None
    return _read(data)


def _read(data: Mapping[str, Any]) -> Lookout:
    return Lookout(
        tuple(Entry(c, n, Category(k), e, tuple(f)) for c, n, k, e, f in data["rules"]),
        tuple((frozenset(t), tuple(p)) for t, p in data["families"]),
        tuple(data["exported"]),
        tuple(data["methods"]),
        tuple(word.encode() for word in data["text_words"]),
        tuple(data["text_files"]),
        tuple((frozenset(c), frozenset(t), tuple(p)) for c, t, p in data["on_request"]),
        tuple(
            (frozenset(t), {line: tuple(p) for line, p in lines.items()})
            for t, lines in data["on_lines"]
        ),
        tuple((frozenset(t), pattern) for t, pattern in data["strings"]),
        tuple(data["packages"]),
        {name: tuple(texts) for name, texts in data["literals"].items()},
    )


def folder() -> str:
    """The folder of the rules, found without importing it."""
    spec = importlib.util.find_spec(PACKAGE)
    places = spec.submodule_search_locations if spec is not None else None
    return next(iter(places or [""]))


def state(place: str) -> int:
    """A checksum of all that the data is made from, whatever its line ends."""
    found = 0
    for path in _sources(place):
        with open(path, "rb") as file:  # noqa: PTH123
            data = file.read()
        found = zlib.crc32(data.replace(b"\r\n", b"\n") if b"\r" in data else data, found)
    return found


def _sources(place: str) -> Iterator[str]:
    here = os.path.dirname(__file__)  # noqa: PTH120
    yield from (os.path.join(here, name) for name in ("codes.py", "own.py", "targets.py"))  # noqa: PTH118
    for within in (place, os.path.join(place, _TABLES)):  # noqa: PTH118
        for name in sorted(os.listdir(within)):  # noqa: PTH208
            if name.endswith(_SUFFIXES):
                yield os.path.join(within, name)  # noqa: PTH118
