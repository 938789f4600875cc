"""What is known of one name: the answers of every table, in one form.

The tables belong to `porter.rewrites`; this module only asks them.
"""

from __future__ import annotations

import difflib
import enum
import functools
import importlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field

from porter.problem import Problem
from porter.targets import Target

#: How many near misses are suggested.
SUGGESTIONS = 5
#: How alike a name must be to be suggested, from 0 to 1.
ALIKE = 0.72


class Status(str, enum.Enum):
    """What becomes of a name on the target."""

    SUPPORTED = "supported"
    LIMITED = "limited"
    ON_CPU = "runs on the CPU"
    REPLACED = "replaced"
    ADAPTER = "needs an adapter"
    IGNORED = "ignored"
    UNSUPPORTED = "unsupported"
    UNVERIFIED = "unverified"
    #: A compiler can read it, which is no proof that the device can run it.
    REGISTERED = "registered"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Support:
    """One answer of one table.

    Args:
        name: the name as the table writes it.
        kind: what it is, such as "API", "operator", "package", "environment variable".
        status: what becomes of it on the target.
        equivalent: what to use instead; empty if nothing else is known or needed.
        since: the first version that has the equivalent, or supports the name.
        limits: restrictions, each in a few words.
        lines: product lines, each with whether it supports the name; empty if it is not said.
        note: what to do or to know.
        source: where that was read, with its date.
        version: the version of the target that the answer is about.
    """

    name: str
    kind: str
    status: Status
    equivalent: str = ""
    since: str = ""
    limits: tuple[str, ...] = ()
    lines: tuple[tuple[str, bool], ...] = ()
    note: str = ""
    source: str = ""
    version: str = ""


@dataclass(frozen=True)
class Answer:
    """All that is known of a name.

    Args:
        query: what was asked for.
        found: one entry for each table that knows it; empty if none does.
        suggestions: names that it may be a misspelling of.
        notes: remarks on the question, such as a version that no table is about.
    """

    query: str
    found: tuple[Support, ...] = ()
    suggestions: tuple[str, ...] = ()
    notes: tuple[str, ...] = field(default=())


class Unanswerable(Problem):
    """A question that makes no sense; the text is one line for the user."""


Lookup = Callable[[str, Target], Iterable[Support]]


def ask(name: str, target: Target) -> Answer:
    """What is known of a name.

    Args:
        name: a qualified name, an operator, an environment variable or a package.
        target: the versions and the product line to answer for.

    Raises:
        Unanswerable: there is no such version or product line.
    """
    tables = _tables()
    notes = tuple(tables.notes(target))
    query = name.strip().removesuffix("()")
    for spelling in tables.spellings(query):
        found = tuple(_answers(spelling, target))
        if found:
            return Answer(query, found, (), notes)
    return Answer(query, (), _alike(query), notes)


def validate(target: Target) -> None:
    """Check that the tables can answer for a target.

    Raises:
        Unanswerable: there is no such version or product line.
    """
    tuple(_tables().notes(target))


def known(name: str, target: Target) -> tuple[Support, ...]:
    """What the tables say of a qualified name; nothing if none knows it."""
    return tuple(_answers(name, target))


def _tables() -> _Tables:
    module = importlib.import_module("porter.rewrites.support.lookup")
    return _Tables(module.LOOKUPS, module.spellings, module.names, module.notes)


@dataclass(frozen=True)
class _Tables:
    lookups: tuple[Lookup, ...]
    spellings: Callable[[str], Iterable[str]]
    names: Callable[[], Iterable[str]]
    notes: Callable[[Target], Iterable[str]]


def _answers(name: str, target: Target) -> Iterator[Support]:
    for lookup in _tables().lookups:
        yield from lookup(name, target)


@functools.cache
def _all_names() -> tuple[str, ...]:
    return tuple(sorted(set(_tables().names())))


def _alike(query: str) -> tuple[str, ...]:
    """Names that look like the query: the same last part first, then near misses."""
    last = _last(query)
    names = _all_names()
    same = [n for n in names if last and _last(n) == last]
    folded = {n.lower(): n for n in reversed(names)}
    near = difflib.get_close_matches(query.lower(), folded, n=SUGGESTIONS, cutoff=ALIKE)
    lasts: dict[str, str] = {}
    for name in names:
        lasts.setdefault(_last(name), name)
    near_last = difflib.get_close_matches(last, lasts, n=SUGGESTIONS, cutoff=0.8) if last else []
    ordered = [
        *sorted(same, key=lambda n: (len(n), n)),
        *(folded[n] for n in near),
        *(lasts[n] for n in near_last),
    ]
    return tuple(dict.fromkeys(ordered))[:SUGGESTIONS]


def _last(name: str) -> str:
    if "::" in name:
        return name.rpartition("::")[2].partition(".")[0].lower()
    return name.rpartition(".")[2].lower()
