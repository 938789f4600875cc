"""One parsed Python file: text, tree, scopes, and what every name in it stands for."""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Hashable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, TypeVar

from porter.scope import Binding, Collector, Scope
from porter.syntax import TOO_DEEP, LineIndex, SyntaxProblem, exact_span, parse

T = TypeVar("T")

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)

#: How many aliases of aliases are followed (`a = torch.cuda; b = a; ...`).
MAX_ALIASES = 8


@dataclass(frozen=True)
class Resolved:
    """What an expression stands for.

    Args:
        name: the qualified name ("torch.cuda.is_available").
        certain: False when another meaning is possible at run time.
    """

    name: str
    certain: bool = True


@dataclass(frozen=True)
class ProjectFacts:
    """What one file must know of the others.

    Args:
        exports: for a module's dotted path, the qualified name behind each name it re-exports.
        methods: for a method name, the classes of the project that define it ("path:line Name").
        imported: for a module's dotted path (as given to `Module`), the names that other files
            import from it: their imports must stay even if this file no longer uses them.
        uncertain: re-exported names ("package.module.name") that may mean something else.
        packages: the packages that the project itself holds, by their names.
    """

    exports: Mapping[str, Mapping[str, str]] = field(default_factory=dict)
    methods: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    imported: Mapping[str, frozenset[str]] = field(default_factory=dict)
    uncertain: frozenset[str] = frozenset()
    packages: frozenset[str] = frozenset()


NO_FACTS = ProjectFacts()


class Module:
    """A parsed file.

    Args:
        text: the decoded source, newlines untouched.
        path: display path, POSIX, relative to the given root.
        dotted: the module's dotted path inside its project, for relative imports.
        facts: what the rest of the project tells.

    Raises:
        porter.syntax.SyntaxProblem: the text is not Python 3.
    """

    def __init__(
        self, text: str, path: str = "<text>", dotted: str = "", facts: ProjectFacts = NO_FACTS
    ) -> None:
        """Parse `text` and walk it once."""
        self.text = text
        self.path = path
        self.dotted = dotted
        self.facts = facts
        self.tree = parse(text)
        self.index = LineIndex(text)
        try:
            walk = Collector(self.tree)
        except RecursionError:
            raise SyntaxProblem(TOO_DEEP, 1, 1) from None
        self.root: Scope = walk.root
        self.scopes = walk.scopes
        self.chains = walk.chains
        self.strings = walk.strings
        self.keywords = walk.keywords
        self.attributes = walk.attributes
        self.imports = walk.imports
        self.subscripts = walk.subscripts
        self.names = walk.names
        #: What rules work out once for a file.
        self.memo: dict[Hashable, Any] = {}
        self._resolved: dict[int, Resolved | None] = {}
        self._bindings: dict[tuple[int, str], Resolved | None] = {}
        self._imports: dict[int, dict[str, list[str]]] = {}

    def once(self, key: Hashable, make: Callable[[], T]) -> T:
        """What `make` returns, worked out at the first call for this file and key."""
        if key not in self.memo:
            self.memo[key] = make()
        found: T = self.memo[key]
        return found

    # Positions ------------------------------------------------------------------------------

    def start(self, node: Any) -> int:
        """Offset of the first character of `node`."""
        return self.index.offset(node.lineno, node.col_offset)

    def end(self, node: Any) -> int:
        """Offset behind the last character of `node`."""
        return self.index.offset(node.end_lineno, node.end_col_offset)

    def span(self, node: Any) -> tuple[int, int]:
        """Both offsets."""
        return self.start(node), self.end(node)

    def segment(self, node: Any) -> str:
        """The source text of `node`."""
        return self.text[self.start(node) : self.end(node)]

    def exact(self, node: ast.AST) -> bool:
        """Whether the positions of `node` can be trusted for editing."""
        return exact_span(node)

    # Structure ------------------------------------------------------------------------------

    def parents(self, node: ast.AST) -> Iterator[ast.AST]:
        """The nodes around `node`, innermost first."""
        current = getattr(node, "parent", None)
        while current is not None:
            yield current
            current = getattr(current, "parent", None)

    def statement(self, node: ast.AST) -> ast.stmt:
        """The innermost statement that holds `node`."""
        current: Any = node
        while not isinstance(current, ast.stmt):
            current = current.parent
        return current

    def scope(self, node: ast.AST) -> Scope:
        """The scope in which `node` is evaluated."""
        child: Any = node
        for parent in self.parents(node):
            found = self.scopes.get(id(parent))
            if found is not None and self._inside(parent, child):
                return found
            child = parent
        return self.root

    @staticmethod
    def _inside(owner: Any, child: Any) -> bool:
        # Decorators, defaults, annotations and bases belong to the scope outside.
        if isinstance(owner, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            return isinstance(child, ast.stmt)
        if isinstance(owner, ast.Lambda):
            return child is owner.body
        if isinstance(owner, (ast.ListComp, ast.SetComp, ast.GeneratorExp, ast.DictComp)):
            return not (isinstance(child, ast.comprehension) and child is owner.generators[0])
        return True

    def imported_at(self, name: str) -> float:
        """Where the file has surely imported a name: 0 if it never does, infinite if it may not.

        An import behind a condition or in a `try` that goes on without it may not have happened.
        """
        return self.once("imported", self._surely_imported).get(name, 0)

    def _surely_imported(self) -> dict[str, float]:
        found: dict[str, float] = {}
        for name, bindings in self.root.bindings.items():
            nodes = [b.node for b in bindings if b.kind == "import"]
            if nodes:
                found[name] = min((self._surely_run(node) for node in nodes), default=math.inf)
        return found

    def _surely_run(self, node: ast.AST) -> float:
        """The end of the statement of the file that runs this import whatever happens."""
        child: Any = node
        for parent in self.parents(node):
            if isinstance(parent, ast.Module):
                return self.end(child)
            needed = isinstance(parent, ast.Try) and child in parent.body
            if isinstance(parent, (ast.Import, ast.ImportFrom, ast.With)):
                needed = True
            elif needed:
                needed = all(isinstance(h.body[-1], ast.Raise) for h in parent.handlers)  # type: ignore[attr-defined]
            if not needed:
                return math.inf
            child = parent
        return math.inf

    def function(self, node: ast.AST) -> Any:
        """The innermost function definition around `node`, or None."""
        child: Any = node
        for parent in self.parents(node):
            if isinstance(parent, _FUNCTIONS) and isinstance(child, ast.stmt):
                return parent
            child = parent
        return None

    def enclosing_class(self, node: ast.AST) -> ast.ClassDef | None:
        """The innermost class around `node`, or None."""
        for parent in self.parents(node):
            if isinstance(parent, ast.ClassDef):
                return parent
        return None

    # Names ----------------------------------------------------------------------------------

    def resolve(self, node: ast.AST | None, scope: Scope | None = None) -> Resolved | None:
        """What `node` stands for, if it leads to an import; None if it is local or unknown."""
        if node is None:
            return None
        key = id(node)
        if key in self._resolved:
            return self._resolved[key]
        self._resolved[key] = None  # a cycle of aliases resolves to nothing
        found = self._resolve(node, scope)
        self._resolved[key] = found
        return found

    def name_of(self, node: ast.AST | None) -> str:
        """The qualified name behind `node`, or an empty string."""
        found = self.resolve(node)
        return found.name if found is not None else ""

    def _resolve(self, node: ast.AST, scope: Scope | None) -> Resolved | None:
        if isinstance(node, ast.Name):
            return self.resolve_name(node.id, scope or self.scope(node))
        if isinstance(node, ast.Attribute):
            base = self.resolve(node.value, scope)
            if base is None:
                return None
            return self._reexported(Resolved(f"{base.name}.{node.attr}", base.certain))
        if isinstance(node, ast.Call) and len(node.args) == 2 and not node.keywords:
            return self._resolve_getattr(node, scope)
        return None

    def _resolve_getattr(self, node: ast.Call, scope: Scope | None) -> Resolved | None:
        if not (isinstance(node.func, ast.Name) and node.func.id == "getattr"):
            return None
        base, attribute = node.args
        if not (isinstance(attribute, ast.Constant) and isinstance(attribute.value, str)):
            return None
        if (scope or self.scope(node)).owner("getattr") is not None:
            return None
        found = self.resolve(base, scope)
        return Resolved(f"{found.name}.{attribute.value}", found.certain) if found else None

    def resolve_name(self, name: str, scope: Scope, depth: int = 0) -> Resolved | None:
        """What the bare `name` stands for when read in `scope`."""
        owner = scope.owner(name)
        if owner is None:
            return self._from_star(name)
        key = (id(owner), name)
        if key not in self._bindings:
            self._bindings[key] = None
            self._bindings[key] = self._resolve_bindings(owner, name, depth)
        return self._bindings[key]

    def _resolve_bindings(self, owner: Scope, name: str, depth: int) -> Resolved | None:
        bindings = owner.bindings[name]
        imports = [b for b in bindings if b.kind == "import"]
        if not imports:
            return self._resolve_alias(owner, bindings, depth)
        targets = {self.absolute(b.target) for b in imports}
        others = [b for b in bindings if b.kind != "import" and not _is_placeholder(b)]
        first = self.absolute(imports[0].target)
        return self._reexported(Resolved(first, len(targets) == 1 and not others))

    def _from_star(self, name: str) -> Resolved | None:
        """What a name bound nowhere means if a `from x import *` brings it; never certain."""
        for binding in self.root.bindings.get("*", ()) if self.facts.exports else ():
            base = self.absolute(binding.target)
            if name in self.facts.exports.get(base, {}):
                return self._reexported(Resolved(f"{base}.{name}", certain=False))
        return None

    def _resolve_alias(self, owner: Scope, bindings: list[Binding], depth: int) -> Resolved | None:
        if len(bindings) != 1 or depth >= MAX_ALIASES or bindings[0].kind != "assign":
            return None
        value = bindings[0].value
        if isinstance(value, (ast.Attribute, ast.Name)) or _is_getattr(value):
            return self.resolve(value)
        return None

    def absolute(self, target: str) -> str:
        """A relative import target as a dotted path of the project, where that is known."""
        if not target.startswith("."):
            return target
        level = len(target) - len(target.lstrip("."))
        parts = self.dotted.split(".") if self.dotted else []
        if not parts or level > len(parts):
            return target
        return ".".join([*parts[: len(parts) - level], target[level:]])

    def _reexported(self, found: Resolved) -> Resolved:
        for _ in range(MAX_ALIASES):
            base, _, last = found.name.rpartition(".")
            target = self.facts.exports.get(base, {}).get(last)
            if target is None:
                break
            found = Resolved(target, found.certain and found.name not in self.facts.uncertain)
        return found

    # Spelling -------------------------------------------------------------------------------

    def spelling(self, name: str, scope: Scope) -> str | None:
        """How the imported module `name` can be written in `scope`; None if it cannot."""
        current: Scope | None = scope
        while current is not None:
            for local in self._import_names(current).get(name, ()):
                if scope.owner(local) is not current:
                    continue
                found = self.resolve_name(local, scope)
                if found is not None and found.certain and found.name == name:
                    return local
            current = current.parent
        return None

    def _import_names(self, scope: Scope) -> dict[str, list[str]]:
        """The names that a scope imports, by what each stands for."""
        found = self._imports.get(id(scope))
        if found is None:
            found = self._imports[id(scope)] = {}
            for local, bindings in scope.bindings.items():
                for target in dict.fromkeys(
                    b.target for b in bindings if b.kind == "import" and not b.typing_only
                ):
                    found.setdefault(target, []).append(local)
        return found

    def is_free(self, name: str) -> bool:
        """Whether no scope of the file binds or reads `name`."""
        return name not in self.names


def _is_placeholder(binding: Binding) -> bool:
    """`torch = None` beside the import: the name still means the module wherever it works."""
    return (
        binding.kind == "assign"
        and isinstance(binding.value, ast.Constant)
        and binding.value.value in (None, False)
    ) or binding.kind == "delete"


def _is_getattr(value: ast.expr | None) -> bool:
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Name)
        and value.func.id == "getattr"
    )
