"""The set of rules in force: loaded from `porter.rewrites` and from entry points."""

from __future__ import annotations

import functools
import importlib
import pkgutil
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

from porter.lookout import CatalogProblem as CatalogProblem
from porter.lookout import selection
from porter.packs import GROUP
from porter.rule import Finding, Rule
from porter.scan import Marker
from porter.site import Site
from porter.text_site import TextSite

Review = Callable[[Site, Finding], Finding]
TextReview = Callable[[TextSite, Finding], Finding]

CODE = re.compile(r"[A-Z]{3,6}\d{3}\Z")


@dataclass(frozen=True, eq=False)
class Catalog:
    """Rules, indexed by what wakes them.

    Args:
        rules: sorted by code.
        families: for each module of rules, the targets it serves and its byte patterns.
        exported: prefixes of qualified names that other files of a project may re-export.
        methods: method names whose definition in a project changes what rules may assume.
        reviews: functions (Site, Finding) -> Finding that see every rewrite before it is accepted.
        text_words: what a file other than Python must hold for any rule to look at it, lower case.
        text_reviews: functions (TextSite, Finding) -> Finding for findings in such files.
        text_files: patterns of such files that a rule looks at whatever they hold.
        on_request: rules that run only if a prefix with two digits selects them: the codes of a
            module, the targets it serves and its byte patterns.
        on_lines: as `families`, but by the product line for which they count.
    """

    rules: tuple[Rule, ...]
    families: tuple[tuple[frozenset[str], tuple[str, ...]], ...] = ()
    exported: tuple[str, ...] = ()
    methods: tuple[str, ...] = ()
    reviews: tuple[Review, ...] = ()
    text_words: tuple[bytes, ...] = ()
    text_reviews: tuple[TextReview, ...] = ()
    text_files: tuple[str, ...] = ()
    on_request: tuple[tuple[frozenset[str], frozenset[str], tuple[str, ...]], ...] = ()
    on_lines: tuple[tuple[frozenset[str], Mapping[str, tuple[str, ...]]], ...] = ()

    def may_concern(self, data: bytes) -> bool:
        """Whether rules for files other than Python may find anything in these bytes."""
        lower = data.lower()
        return any(word in lower for word in self.text_words)

    @functools.cached_property
    def marker(self) -> Marker:
        """What a file must hold for any rule to look at it."""
        return Marker.of(
            (p for _, family in self.families for p in family),
            texts=(r.strings for r in self.rules if r.strings),
        )

    def serving(self, target: str, line: str = "") -> Catalog:
        """The catalog reduced to what serves one target, and one product line of it if chosen."""
        rules = tuple(r for r in self.rules if target in r.targets)
        lines = ((served, markers.get(line, ())) for served, markers in self.on_lines)
        families = tuple(f for f in (*self.families, *lines) if target in f[0])
        return replace(self, rules=rules, families=families)

    @functools.cached_property
    def exact(self) -> dict[str, list[Rule]]:
        """Rules by exact qualified name."""
        return _index((n, r) for r in self.rules for n in r.names if not n.endswith("*"))

    @functools.cached_property
    def prefixes(self) -> dict[str, list[Rule]]:
        """Rules by prefix ("torch.cuda" for "torch.cuda.*")."""
        return _index((n[:-2], r) for r in self.rules for n in r.names if n.endswith(".*"))

    @functools.cached_property
    def attributes(self) -> dict[str, list[Rule]]:
        """Rules by attribute name."""
        return _index((a, r) for r in self.rules for a in r.attributes)

    @functools.cached_property
    def keywords(self) -> dict[str, list[Rule]]:
        """Rules by keyword argument."""
        return _index((k, r) for r in self.rules for k in r.keywords)

    @functools.cached_property
    def strings(self) -> list[tuple[re.Pattern[str], Rule]]:
        """Rules by pattern over string constants."""
        return [(re.compile(r.strings), r) for r in self.rules if r.strings]

    @functools.cached_property
    def any_string(self) -> re.Pattern[str] | None:
        """One pattern that any string rule needs."""
        patterns = sorted({r.strings for r in self.rules if r.strings})
        return re.compile("|".join(f"(?:{p})" for p in patterns)) if patterns else None

    def get(self, code: str) -> Rule | None:
        """The rule of that code or name."""
        for found in self.rules:
            if code.upper() == found.code or code == found.name:
                return found
        return None

    def select(self, select: Sequence[str], ignore: Sequence[str]) -> Catalog:
        """The catalog reduced to code prefixes.

        Raises:
            CatalogProblem: a prefix matches no rule.
        """
        codes = (rule.code for rule in self.rules)
        kept, heard = selection(codes, self.on_request, select, ignore)
        chosen = tuple(rule for rule in self.rules if rule.code in kept)
        return replace(self, rules=chosen, families=(*self.families, *heard), on_request=())


def _index(pairs: Iterable[tuple[str, Rule]]) -> dict[str, list[Rule]]:
    index: dict[str, list[Rule]] = {}
    for key, found in pairs:
        index.setdefault(key, []).append(found)
    return index


def shipped() -> list[object]:
    """The rule modules of porter itself."""
    package = importlib.import_module("porter.rewrites")
    modules: list[object] = [importlib.import_module("porter.own")]
    modules += [
        importlib.import_module(f"porter.rewrites.{info.name}")
        for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda i: i.name)
    ]
    return modules


def _modules() -> list[object]:
    """The rule modules shipped with porter, then those of installed packs."""
    from importlib import metadata

    modules = shipped()
    for entry in sorted(metadata.entry_points(group=GROUP), key=lambda e: e.name):
        try:
            modules.append(entry.load())
        except Exception as error:
            raise CatalogProblem(
                f"rule pack {entry.name!r} ({entry.value}) cannot be loaded: {error!r}"
            ) from error
    return modules


def collect(modules: Iterable[object]) -> Catalog:
    """Build a catalog from modules that hold `Rule` objects.

    A module may also hold MARKERS (byte patterns), EXPORTED, METHODS, REVIEWS and, for
    files other than Python, TEXT_WORDS (lower case), TEXT_REVIEWS and TEXT_FILES (patterns of
    files that are looked at whatever they hold). ON_REQUEST = True keeps its rules out of a run
    unless their codes are selected; LINE_MARKERS are MARKERS by the product line of the target
    for which they count.

    Raises:
        CatalogProblem: two rules share a code or name, or a code is malformed.
    """
    rules: dict[str, Rule] = {}
    names: set[str] = set()
    families: list[tuple[frozenset[str], tuple[str, ...]]] = []
    exported: list[str] = []
    methods: list[str] = []
    reviews: list[Review] = []
    text_words: list[str] = []
    text_reviews: list[TextReview] = []
    text_files: list[str] = []
    on_request: list[tuple[frozenset[str], frozenset[str], tuple[str, ...]]] = []
    on_lines: list[tuple[frozenset[str], Mapping[str, tuple[str, ...]]]] = []
    for module in modules:
        own = [v for v in vars(module).values() if isinstance(v, Rule)]
        served = frozenset(t for r in own for t in r.targets)
        family = (served, tuple(getattr(module, "MARKERS", ())))
        if getattr(module, "ON_REQUEST", False):
            on_request.append((frozenset(r.code for r in own), *family))
        else:
            families.append(family)
        if hasattr(module, "LINE_MARKERS"):
            on_lines.append((served, module.LINE_MARKERS))
        exported += getattr(module, "EXPORTED", ())
        methods += getattr(module, "METHODS", ())
        reviews += getattr(module, "REVIEWS", ())
        text_words += getattr(module, "TEXT_WORDS", ())
        text_reviews += getattr(module, "TEXT_REVIEWS", ())
        text_files += getattr(module, "TEXT_FILES", ())
        for value in own:
            if rules.get(value.code) is value:
                continue
            if value.code in rules or value.name in names:
                raise CatalogProblem(f"two rules are called {value.code} or {value.name}")
            if not CODE.match(value.code):
                raise CatalogProblem(f"malformed rule code {value.code!r} (write it like ABC123)")
            rules[value.code] = value
            names.add(value.name)
    return Catalog(
        tuple(rules[c] for c in sorted(rules)),
        tuple(families),
        tuple(sorted(set(exported))),
        tuple(sorted(set(methods))),
        tuple(reviews),
        tuple(word.encode() for word in dict.fromkeys(text_words)),
        tuple(text_reviews),
        tuple(text_files),
        tuple(on_request),
        tuple(on_lines),
    )


@functools.cache
def load() -> Catalog:
    """The full catalog of this installation."""
    return collect(_modules())


_catalogs: dict[tuple[object, ...], Catalog] = {}


def selected(
    select: tuple[str, ...], ignore: tuple[str, ...], ignored: tuple[str, ...] = ()
) -> Catalog:
    """The rules selected, without the `ignored` ones; made once.

    Raises:
        CatalogProblem: a selected code matches no rule.
    """
    full = load()
    key = (id(full), select, ignore, ignored)
    if key not in _catalogs:
        chosen = full.select(select, ignore)
        if ignored:
            known = [c for c in ignored if any(r.code.startswith(c) for r in chosen.rules)]
            left = tuple(r for r in chosen.rules if not r.code.startswith(tuple(known)))
            chosen = replace(chosen, rules=left)
        _catalogs[key] = chosen
    return _catalogs[key]
