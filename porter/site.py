"""A place in a file that a rule may look at, and the ways to answer."""

from __future__ import annotations

import ast
import dataclasses
from dataclasses import dataclass
from typing import Any

from porter.module import Module
from porter.rule import Category, Edit, Finding, Safety, Shared
from porter.scope import Scope
from porter.targets import Target

DEFAULT_TARGET = Target("accelerator")


@dataclass(frozen=True)
class Site:
    """A place in a Python file.

    Args:
        module: the file.
        node: the expression, keyword or import alias.
        scope: the scope in which it is evaluated.
        kind: "name" (resolved), "attribute" (unknown receiver), "string", "keyword", "import".
        name: the qualified name, for the kinds "name" and "import".
        certain: whether that name is its only possible meaning.
        target: what the file is migrated to.
    """

    module: Module
    node: Any
    scope: Scope
    kind: str
    name: str = ""
    certain: bool = True
    target: Target = DEFAULT_TARGET

    def at(self, node: Any, kind: str = "name", name: str = "") -> Site:
        """The same place seen from another node of the same scope."""
        return dataclasses.replace(self, node=node, kind=kind, name=name)

    # What stands there ------------------------------------------------------------------------

    @property
    def start(self) -> int:
        """Offset of the first character."""
        return self.module.start(self.node)

    @property
    def end(self) -> int:
        """Offset behind the last character."""
        return self.module.end(self.node)

    @property
    def text(self) -> str:
        """The source text."""
        return self.module.text[self.start : self.end]

    @property
    def parent(self) -> Any:
        """The node around it."""
        return self.node.parent

    @property
    def call(self) -> ast.Call | None:
        """The call of which this is the function, if it is called."""
        parent = getattr(self.node, "parent", None)
        if isinstance(parent, ast.Call) and parent.func is self.node:
            return parent
        return None

    @property
    def stored(self) -> bool:
        """Whether the site is assigned to or deleted."""
        return isinstance(getattr(self.node, "ctx", None), (ast.Store, ast.Del))

    # Spelling ---------------------------------------------------------------------------------

    def spell(self, module: str) -> str | None:
        """How an imported module can be written here; None if its name is taken."""
        found = self.module.spelling(module, self.scope)
        if found is not None:
            return found
        return module if self.module.is_free(module.partition(".")[0]) else None

    def needs(self, module: str) -> tuple[str, ...]:
        """The import to add so that `spell(module)` works."""
        return () if self.module.spelling(module, self.scope) is not None else (module,)

    # Answers ----------------------------------------------------------------------------------

    def finding(
        self,
        *edits: Edit,
        reason: str = "",
        safety: Safety = Safety.SAFE,
        category: Category | None = None,
        effort: int | None = None,
        imports: tuple[str, ...] = (),
        moves: tuple[tuple[int, str], ...] = (),
        native_only: bool = False,
        guards: tuple[int, int] | None = None,
        span: tuple[int, int] | None = None,
        symbol: str = "",
    ) -> Finding:
        """A finding at this site with these edits."""
        start, end = span or (self.start, self.end)
        if not self.certain and safety is Safety.SAFE and (edits or moves):
            safety = Safety.UNSAFE
            reason = reason or "the name has another possible meaning here; check both"
        return Finding(
            start,
            end,
            edits,
            reason,
            safety if edits or moves else Safety.MANUAL,
            category,
            effort,
            imports,
            moves,
            native_only,
            guards,
            self._shields() if edits else None,
            symbol or self.name,
        )

    def _shields(self) -> tuple[int, int] | None:
        """The later parts of an `and` that holds the site as a condition."""
        child: Any = self.node
        found: tuple[int, int] | None = None
        for parent in self.module.parents(self.node):
            if isinstance(parent, ast.BoolOp) and isinstance(parent.op, ast.And):
                if child is not parent.values[-1]:
                    found = (self.module.end(child), self.module.end(parent))
            elif not isinstance(parent, (ast.Compare, ast.Call, ast.Attribute, ast.UnaryOp)):
                break
            child = parent
        return found

    def gap(self, advice: str, **options: Any) -> Finding:
        """A finding that a person must deal with."""
        return self.finding(reason=advice, **options)

    def advice(self, remedy: str, **options: Any) -> Finding:
        """Something that works, and how it could be faster or more exact on the target."""
        return self.finding(reason=remedy, category=Category.ADVICE, effort=0, **options)

    def information(self, reason: str, **options: Any) -> Finding:
        """A finding that needs nothing done."""
        return self.finding(
            reason=reason, category=Category.INFORMATION, effort=0, native_only=True, **options
        )

    def replace(self, *parts: str | Shared, **options: Any) -> Finding:
        """Replace the whole site."""
        return self.finding(Edit.of(self.start, self.end, *parts), **options)


def needs_parentheses(node: Any) -> bool:
    """Whether a compound expression (`a or b`, `a if c else b`) in place of `node` needs them."""
    parent = node.parent
    if isinstance(parent, ast.Call):
        return parent.func is node
    if isinstance(parent, ast.Subscript):
        return parent.value is node
    if isinstance(parent, ast.keyword):
        return parent.arg is None
    if isinstance(parent, ast.Dict) and any(v is node for v in parent.values):
        return parent.keys[[v is node for v in parent.values].index(True)] is None
    return not isinstance(
        parent,
        (
            ast.Assign,
            ast.AnnAssign,
            ast.AugAssign,
            ast.Return,
            ast.Expr,
            ast.arguments,
            ast.Dict,
            ast.List,
            ast.Tuple,
            ast.Set,
            ast.If,
            ast.While,
            ast.Slice,
        ),
    )
