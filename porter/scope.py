"""Scopes and bindings: which name means what, without a metadata provider."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any


@dataclass(eq=False, slots=True)
class Binding:
    """One place that gives a name a meaning.

    Args:
        kind: import, star, assign, augment, param, def, class, for, with, except, match, delete.
        node: the statement, alias, argument or name node that binds.
        value: the expression assigned or the default of a parameter, where there is one.
        target: for an import, the qualified name ("torch.cuda", ".compat.autocast").
        statement: the import statement, for imports.
        fallback: bound in an `except` handler or an `else` of a guarded import.
        typing_only: bound under `if TYPE_CHECKING:`.
    """

    kind: str
    node: ast.AST
    value: ast.expr | None = None
    target: str = ""
    statement: ast.stmt | None = None
    fallback: bool = False
    typing_only: bool = False


@dataclass(eq=False, slots=True)
class Scope:
    """A namespace: module, class, function, lambda or comprehension."""

    kind: str
    node: ast.AST
    parent: Scope | None
    bindings: dict[str, list[Binding]] = field(default_factory=dict)
    loads: dict[str, list[ast.Name]] = field(default_factory=dict)
    globals: set[str] = field(default_factory=set)
    nonlocals: set[str] = field(default_factory=set)
    children: list[Scope] = field(default_factory=list)

    def bind(self, name: str, binding: Binding) -> None:
        """Record that `binding` gives `name` a meaning here."""
        self.bindings.setdefault(name, []).append(binding)

    @property
    def module(self) -> Scope:
        """The outermost scope."""
        scope = self
        while scope.parent is not None:
            scope = scope.parent
        return scope

    @property
    def function(self) -> Scope:
        """The nearest enclosing function, or else the class or module itself."""
        scope = self
        while scope.kind in ("lambda", "comprehension") and scope.parent is not None:
            scope = scope.parent
        return scope

    def owner(self, name: str) -> Scope | None:
        """The scope whose bindings `name` refers to when read here."""
        if name in self.globals:
            top = self.module
            return top if name in top.bindings else None
        if name in self.bindings and name not in self.nonlocals:
            return self
        scope = self.parent
        while scope is not None:
            if name in scope.globals:
                top = self.module
                return top if name in top.bindings else None
            if scope.kind != "class" and name in scope.bindings and name not in scope.nonlocals:
                return scope
            scope = scope.parent
        return None

    def uses(self, name: str) -> Iterator[ast.Name]:
        """Every load of `name` that refers to this scope's binding."""
        stack: list[Scope] = [self]
        while stack:
            scope = stack.pop()
            if name in scope.loads and scope.owner(name) is self:
                yield from scope.loads[name]
            stack.extend(scope.children)

    def descendants(self) -> Iterator[Scope]:
        """This scope and all below it."""
        stack: list[Scope] = [self]
        while stack:
            scope = stack.pop()
            yield scope
            stack.extend(scope.children)


def parent_of(node: Any) -> Any:
    """The node around `node`, as the walk recorded it."""
    return node.parent


class Collector:
    """The single walk over a tree: parents, scopes, bindings, and what rules may look at."""

    def __init__(self, tree: ast.Module) -> None:
        """Walk `tree`."""
        self.root = Scope("module", tree, None)
        self.scopes: dict[int, Scope] = {id(tree): self.root}
        self.chains: list[tuple[ast.Attribute | ast.Name, Scope]] = []
        self.strings: list[tuple[ast.Constant, Scope]] = []
        self.keywords: list[tuple[ast.keyword, Scope]] = []
        self.attributes: dict[str, list[ast.Attribute]] = {}
        self.imports: list[tuple[ast.Import | ast.ImportFrom, Scope]] = []
        self.subscripts: list[ast.Subscript] = []
        self.names: set[str] = set()
        self._fallback = 0
        self._typing = 0
        self._body(tree, tree.body, self.root)

    # Every node gets its parent: rules ask what an expression is part of.
    def _body(self, owner: ast.AST, body: list[Any], scope: Scope) -> None:
        for node in body:
            node.parent = owner
            self._visit(node, scope)

    def _visit(self, node: Any, scope: Scope) -> None:
        _HANDLERS.get(node.__class__, _CHILDREN)(self, node, scope)

    def _children(self, node: Any, scope: Scope) -> None:
        # Half of the time of the walk is spent here: no call that can be spared.
        kind = node.__class__
        names = _HOLDING.get(kind)
        if names is None:
            names = _HOLDING[kind] = tuple(n for n in node._fields if n not in _PLAIN)
        for name in names:
            value = getattr(node, name, None)
            if value.__class__ is list:
                for item in value:
                    if isinstance(item, ast.AST):
                        item.parent = node  # type: ignore[attr-defined]
                        _HANDLERS.get(item.__class__, _CHILDREN)(self, item, scope)
            elif isinstance(value, ast.AST):
                value.parent = node  # type: ignore[attr-defined]
                _HANDLERS.get(value.__class__, _CHILDREN)(self, value, scope)

    def _attribute(self, node: ast.Attribute, scope: Scope) -> None:
        parent = node.parent  # type: ignore[attr-defined]
        if parent.__class__ is not ast.Attribute:
            self.chains.append((node, scope))
        found = self.attributes.get(node.attr)
        if found is None:
            self.attributes[node.attr] = [node]
        else:
            found.append(node)
        value = node.value
        value.parent = node  # type: ignore[attr-defined]
        self._visit(value, scope)

    def _name(self, node: ast.Name, scope: Scope) -> None:
        name = node.id
        self.names.add(name)
        if node.ctx.__class__ is ast.Load:
            found = scope.loads.get(name)
            if found is None:
                scope.loads[name] = [node]
            else:
                found.append(node)
            if node.parent.__class__ is not ast.Attribute:  # type: ignore[attr-defined]
                self.chains.append((node, scope))
        else:
            kind = "delete" if node.ctx.__class__ is ast.Del else _binding_kind(node)
            self._bind(name, Binding(kind, node, _assigned_value(node)), scope)

    def _constant(self, node: ast.Constant, scope: Scope) -> None:
        if node.value.__class__ is str:
            self.strings.append((node, scope))

    def _joined(self, node: Any, scope: Scope) -> None:
        """An f-string without a field is the plain string that it makes."""
        values = node.values
        plain = len(values) == 1 and values[0].__class__ is ast.Constant
        if plain and node.parent.__class__ is not ast.FormattedValue:
            constant = values[0]
            # The node stays the same object, since what is around it refers to it.
            node.__class__ = ast.Constant
            node.value, node.kind = constant.value, None
            node.porter_exact = getattr(constant, "porter_exact", True)
            self._constant(node, scope)
            return
        self._children(node, scope)

    def _subscript(self, node: ast.Subscript, scope: Scope) -> None:
        self.subscripts.append(node)
        self._children(node, scope)

    def _call(self, node: ast.Call, scope: Scope) -> None:
        for keyword in node.keywords:
            if keyword.arg is not None:
                self.keywords.append((keyword, scope))
        self._children(node, scope)

    def _bind(self, name: str, binding: Binding, scope: Scope) -> None:
        self.names.add(name)
        binding.fallback = binding.fallback or self._fallback > 0
        binding.typing_only = binding.typing_only or self._typing > 0
        if name in scope.globals:
            scope.module.bind(name, binding)
            return
        if name in scope.nonlocals:
            owner = scope.parent.owner(name) if scope.parent else None
            (owner or scope).bind(name, binding)
            return
        # A walrus in a comprehension binds in the scope around it.
        if scope.kind == "comprehension" and isinstance(
            binding.node.parent,  # type: ignore[attr-defined]
            ast.NamedExpr,
        ):
            scope = scope.function
        scope.bind(name, binding)

    def _import(self, node: ast.Import, scope: Scope) -> None:
        self.imports.append((node, scope))
        for alias in node.names:
            alias.parent = node  # type: ignore[attr-defined]
            if alias.asname:
                self._bind(alias.asname, Binding("import", alias, None, alias.name, node), scope)
            else:
                top = alias.name.partition(".")[0]
                self._bind(top, Binding("import", alias, None, top, node), scope)

    def _import_from(self, node: ast.ImportFrom, scope: Scope) -> None:
        self.imports.append((node, scope))
        base = "." * node.level + (node.module or "")
        for alias in node.names:
            alias.parent = node  # type: ignore[attr-defined]
            if alias.name == "*":
                self._bind("*", Binding("star", alias, None, base, node), scope)
                continue
            joint = "" if base.endswith(".") else "."
            target = base + joint + alias.name
            self._bind(
                alias.asname or alias.name, Binding("import", alias, None, target, node), scope
            )

    def _function(self, node: Any, scope: Scope) -> None:
        self._bind(node.name, Binding("def", node), scope)
        for decorator in node.decorator_list:
            decorator.parent = node
            self._visit(decorator, scope)
        inner = Scope("function", node, scope)
        scope.children.append(inner)
        self.scopes[id(node)] = inner
        self._arguments(node.args, node, scope, inner)
        if node.returns is not None:
            node.returns.parent = node
            self._visit(node.returns, scope)
        for parameter in getattr(node, "type_params", ()):
            parameter.parent = node
            self._children(parameter, scope)  # bounds do not see what the body binds
        _declare(node.body, inner)
        self._body(node, node.body, inner)

    def _arguments(self, args: ast.arguments, owner: Any, outer: Scope, inner: Scope) -> None:
        args.parent = owner  # type: ignore[attr-defined]
        positional = [*args.posonlyargs, *args.args]
        defaults: list[ast.expr | None] = [None] * (len(positional) - len(args.defaults))
        defaults += args.defaults
        pairs = [*zip(positional, defaults, strict=True)]
        pairs += [*zip(args.kwonlyargs, args.kw_defaults, strict=True)]
        pairs += [(a, None) for a in (args.vararg, args.kwarg) if a is not None]
        for argument, default in pairs:
            argument.parent = args  # type: ignore[attr-defined]
            self._bind(argument.arg, Binding("param", argument, default), inner)
            if argument.annotation is not None:
                argument.annotation.parent = argument  # type: ignore[attr-defined]
                self._visit(argument.annotation, outer)
            if default is not None:
                default.parent = args  # type: ignore[attr-defined]
                self._visit(default, outer)

    def _lambda(self, node: ast.Lambda, scope: Scope) -> None:
        inner = Scope("lambda", node, scope)
        scope.children.append(inner)
        self.scopes[id(node)] = inner
        self._arguments(node.args, node, scope, inner)
        node.body.parent = node  # type: ignore[attr-defined]
        self._visit(node.body, inner)

    def _class(self, node: Any, scope: Scope) -> None:
        self._bind(node.name, Binding("class", node), scope)
        for item in (*node.decorator_list, *node.bases, *node.keywords):
            item.parent = node
            self._visit(item, scope)
        inner = Scope("class", node, scope)
        scope.children.append(inner)
        self.scopes[id(node)] = inner
        _declare(node.body, inner)
        self._body(node, node.body, inner)

    def _comprehension(self, node: Any, scope: Scope) -> None:
        inner = Scope("comprehension", node, scope)
        scope.children.append(inner)
        self.scopes[id(node)] = inner
        for position, generator in enumerate(node.generators):
            generator.parent = node
            # The first iterable is evaluated in the enclosing scope.
            generator.iter.parent = generator
            self._visit(generator.iter, scope if position == 0 else inner)
            generator.target.parent = generator
            self._visit(generator.target, inner)
            for condition in generator.ifs:
                condition.parent = generator
                self._visit(condition, inner)
        elements: list[Any] = (
            [node.key, node.value] if isinstance(node, ast.DictComp) else [node.elt]
        )
        for element in elements:
            element.parent = node
            self._visit(element, inner)

    def _try(self, node: Any, scope: Scope) -> None:
        self._body(node, node.body, scope)
        self._fallback += 1
        self._body(node, node.handlers, scope)
        self._fallback -= 1
        self._body(node, node.orelse, scope)
        self._body(node, node.finalbody, scope)

    def _handler(self, node: ast.ExceptHandler, scope: Scope) -> None:
        if node.name:
            self._bind(node.name, Binding("except", node), scope)
        self._children(node, scope)

    def _if(self, node: ast.If, scope: Scope) -> None:
        typing_only = _is_type_checking(node.test)
        node.test.parent = node  # type: ignore[attr-defined]
        self._visit(node.test, scope)
        self._typing += typing_only
        self._body(node, node.body, scope)
        self._typing -= typing_only
        self._fallback += 1
        self._body(node, node.orelse, scope)
        self._fallback -= 1

    def _match_name(self, node: Any, scope: Scope) -> None:
        name = getattr(node, "name", None) or getattr(node, "rest", None)
        if name:
            self._bind(name, Binding("match", node), scope)
        self._children(node, scope)

    def _nothing(self, node: Any, scope: Scope) -> None:
        return None


#: Fields that hold no nodes, or contexts and operators, which are singletons shared by all nodes.
_PLAIN = frozenset(
    "ctx op ops id attr arg names module level kind type_comment conversion "
    "simple is_async asname rest kwd_attrs".split()
)
#: The other fields, by the class of the node.
_HOLDING: dict[type, tuple[str, ...]] = {}
_CHILDREN = Collector._children
_HANDLERS: dict[type, Any] = {
    ast.Attribute: Collector._attribute,
    ast.Name: Collector._name,
    ast.Constant: Collector._constant,
    ast.JoinedStr: Collector._joined,
    ast.Call: Collector._call,
    ast.Subscript: Collector._subscript,
    ast.Import: Collector._import,
    ast.ImportFrom: Collector._import_from,
    ast.FunctionDef: Collector._function,
    ast.AsyncFunctionDef: Collector._function,
    ast.Lambda: Collector._lambda,
    ast.ClassDef: Collector._class,
    ast.ListComp: Collector._comprehension,
    ast.SetComp: Collector._comprehension,
    ast.GeneratorExp: Collector._comprehension,
    ast.DictComp: Collector._comprehension,
    ast.Try: Collector._try,
    ast.ExceptHandler: Collector._handler,
    ast.If: Collector._if,
    ast.MatchAs: Collector._match_name,
    ast.MatchStar: Collector._match_name,
    ast.MatchMapping: Collector._match_name,
    ast.Global: Collector._nothing,
    ast.Nonlocal: Collector._nothing,
    ast.Pass: Collector._nothing,
}
if hasattr(ast, "TryStar"):
    _HANDLERS[ast.TryStar] = Collector._try


def _declare(body: list[Any], scope: Scope) -> None:
    """Record `global` and `nonlocal` before the bindings they govern are seen."""
    stack = list(body)
    while stack:
        node = stack.pop()
        if isinstance(node, ast.Global):
            scope.globals.update(node.names)
        elif isinstance(node, ast.Nonlocal):
            scope.nonlocals.update(node.names)
        elif isinstance(node, ast.stmt) and not isinstance(
            node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
        ):
            for name in ("body", "orelse", "finalbody", "handlers", "cases"):
                stack.extend(getattr(node, name, ()))
        elif isinstance(node, (ast.ExceptHandler, ast.match_case)):
            stack.extend(node.body)


def _is_type_checking(test: ast.expr) -> bool:
    if isinstance(test, ast.Name):
        return test.id == "TYPE_CHECKING"
    return isinstance(test, ast.Attribute) and test.attr == "TYPE_CHECKING"


def _binding_kind(node: ast.Name) -> str:
    parent: Any = node.parent  # type: ignore[attr-defined]
    while isinstance(parent, (ast.Tuple, ast.List, ast.Starred)):
        parent = parent.parent  # type: ignore[union-attr]
    if isinstance(parent, (ast.For, ast.AsyncFor, ast.comprehension)):
        return "for"
    if isinstance(parent, ast.withitem):
        return "with"
    if isinstance(parent, ast.AugAssign):
        return "augment"
    return "assign"


def _assigned_value(node: ast.Name) -> ast.expr | None:
    parent: Any = node.parent  # type: ignore[attr-defined]
    if isinstance(parent, (ast.Assign, ast.AnnAssign, ast.NamedExpr)):
        return parent.value
    # `a, b = x, y` pairs element by element.
    if isinstance(parent, (ast.Tuple, ast.List)):
        outer: Any = parent.parent  # type: ignore[union-attr]
        if isinstance(outer, ast.Assign) and isinstance(outer.value, (ast.Tuple, ast.List)):
            left, right = parent.elts, outer.value.elts
            if len(left) == len(right) and not any(
                isinstance(e, ast.Starred) for e in (*left, *right)
            ):
                value: ast.expr = right[left.index(node)]
                return value
    return None
