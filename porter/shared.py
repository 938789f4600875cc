"""Place expressions that several edits share: in place once, through one assignment otherwise."""

from __future__ import annotations

import ast
import bisect
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from porter.edit import Span
from porter.module import Module
from porter.rule import Edit, Finding, Shared, inline_text
from porter.scope import Scope

#: A line that grows beyond this shares its expression through an assignment even if used once.
MAX_LINE = 100


@dataclass
class Placement:
    """Replacements with all text settled, and the assignments that they brought along."""

    spans: list[Span] = field(default_factory=list)
    assignments: list[int] = field(default_factory=list)


@dataclass
class _Group:
    shared: Shared
    owner: ast.AST
    edits: list[Edit] = field(default_factory=list)


def place(module: Module, findings: Iterable[Finding]) -> Placement:
    """Turn the edits of accepted findings into text replacements."""
    edits = {(e.start, e.end, e.parts): e for f in findings for e in f.edits}
    groups: dict[tuple[int, str], _Group] = {}
    for edit in edits.values():
        for part in edit.parts:
            if isinstance(part, Shared):
                owner = _owner(module, edit.start, part.level)
                group = groups.setdefault((id(owner), part.expression), _Group(part, owner))
                group.edits.append(edit)
    placement = Placement()
    names: dict[tuple[int, str], str] = {}
    for key, group in groups.items():
        name = _assign(module, group, placement)
        if name:
            names[key] = name
    for edit in edits.values():
        text = "".join(_text(module, edit, part, names) for part in edit.parts)
        placement.spans.append(Span(edit.start, edit.end, text))
    return placement


def _text(module: Module, edit: Edit, part: str | Shared, names: dict[tuple[int, str], str]) -> str:
    if isinstance(part, str):
        return part
    owner = _owner(module, edit.start, part.level)
    name = names.get((id(owner), part.expression))
    return name + part.tail if name else inline_text(part)


def _owner(module: Module, offset: int, level: str) -> ast.AST:
    """The function whose body holds `offset`, or the module."""
    if level == "module":
        return module.tree
    bodies = module.once("bodies", lambda: _Bodies.of(module))
    return bodies.around(offset) or module.tree


@dataclass(frozen=True)
class _Bodies:
    """Where the bodies of functions are, by start; they nest and never overlap otherwise.

    Args:
        starts: where each begins.
        ends: where each ends.
        outer: which one each lies in; -1 for none.
        nodes: the functions.
    """

    starts: list[int]
    ends: list[int]
    outer: list[int]
    nodes: list[Any]

    @classmethod
    def of(cls, module: Module) -> _Bodies:
        scopes = module.root.descendants()
        functions: list[Any] = [s.node for s in scopes if s.kind == "function"]
        spans = sorted(
            ((module.start(f.body[0]), module.end(f), f) for f in functions), key=lambda s: s[:2]
        )
        outer: list[int] = []
        around: list[int] = []
        for index, (start, _, _) in enumerate(spans):
            while around and spans[around[-1]][1] <= start:
                around.pop()
            outer.append(around[-1] if around else -1)
            around.append(index)
        return cls([s[0] for s in spans], [s[1] for s in spans], outer, [s[2] for s in spans])

    def around(self, offset: int) -> ast.AST | None:
        """The innermost function whose body holds the offset."""
        index = bisect.bisect_right(self.starts, offset) - 1
        while index >= 0 and self.ends[index] <= offset:
            index = self.outer[index]
        found: ast.AST | None = self.nodes[index] if index >= 0 else None
        return found


def _assign(module: Module, group: _Group, placement: Placement) -> str:
    """Add an assignment for the group if it is worth one; return the variable's name."""
    shared, owner = group.shared, group.owner
    count = sum(1 for e in group.edits for p in e.parts if p == shared or _same(p, shared))
    if shared.inline and count < 2 and not _too_long(module, group.edits[0]):
        return ""
    anchor = _anchor(module, group)
    if anchor is None:
        return ""
    name = _free_name(module, owner, shared.name)
    newline = _newline(module.text)
    indent = module.text[module.index.line_start(module.index.position(anchor)[0]) : anchor]
    line = f"{name} = {shared.expression}{newline}{indent}"
    if isinstance(owner, ast.Module) and not indent and _behind_imports(module, anchor):
        line = f"{newline}{name} = {shared.expression}{newline}"
        if not _blank_follows(module, anchor):
            line += newline
    placement.spans.append(Span(anchor, anchor, line))
    placement.assignments.append(anchor)
    return name


def _too_long(module: Module, edit: Edit) -> bool:
    """Whether the line would grow beyond what reviewers read in one go."""
    line = module.index.line_start(module.index.position(edit.start)[0])
    end = edit.end
    while end < len(module.text) and module.text[end] not in "\r\n":
        end += 1
    new = module.text[line : edit.start] + edit.text + module.text[edit.end : end]
    return max(map(len, new.splitlines())) > MAX_LINE


def _same(part: str | Shared, shared: Shared) -> bool:
    return isinstance(part, Shared) and part.expression == shared.expression


def _anchor(module: Module, group: _Group) -> int | None:
    """Where the assignment can stand: the start of a line, before the first use."""
    first = min(e.start for e in group.edits)
    last = max(e.start for e in group.edits)
    if group.shared.level == "module":
        return _module_anchor(module, first)
    body: list[ast.stmt] = group.owner.body  # type: ignore[attr-defined]
    while True:
        statement = _holding(module, body, first)
        if statement is None:
            return None
        inner = _inner_block(module, statement, first, last)
        if inner is None and _is_definition(statement) and isinstance(group.owner, ast.Module):
            return _module_anchor(module, _statement_start(module, statement))
        if inner is None:
            return _line_start(module, statement)
        body = inner


def _is_definition(statement: ast.stmt) -> bool:
    return isinstance(statement, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))


def _holding(module: Module, body: list[ast.stmt], offset: int) -> ast.stmt | None:
    for statement in body:
        start = _statement_start(module, statement)
        if start <= offset < max(module.end(statement), start + 1):
            return statement
    return None


def _inner_block(
    module: Module, statement: ast.stmt, first: int, last: int
) -> list[ast.stmt] | None:
    """The block of a branch that holds all uses; loops are not entered."""
    if not isinstance(statement, (ast.If, ast.With, ast.Try)):
        return None
    for name in ("body", "orelse", "finalbody"):
        block: list[ast.stmt] = getattr(statement, name, [])
        if not block:
            continue
        start = _statement_start(module, block[0])
        alone = _line_start(module, block[0]) is not None
        if start <= first and last < module.end(block[-1]) and alone:
            # `elif` is an `if` in an `else`: nothing can stand before it.
            is_elif = name == "orelse" and module.text.startswith("elif", start)
            return None if is_elif else block
    return None


def _line_start(module: Module, statement: ast.stmt) -> int | None:
    """Where the statement starts, if it starts its line."""
    start = _statement_start(module, statement)
    line = module.index.line_start(module.index.position(start)[0])
    return None if module.text[line:start].strip() else start


def _behind_imports(module: Module, anchor: int) -> bool:
    """Whether the assignment opens a paragraph of its own below the imports."""
    return anchor == _module_anchor(module, anchor)


def _module_anchor(module: Module, first: int) -> int | None:
    """Behind the block of imports at the top, if that stands before the first use."""
    last: ast.stmt | None = None
    for statement in module.tree.body:
        if _statement_start(module, statement) > first:
            break
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            last = statement
        elif last is not None and not _holds_imports(statement):
            break
    if last is None or module.end(last) > first:
        return None
    if any(s is not last and s.lineno == last.end_lineno for s in module.tree.body):
        return None
    return _next_line(module.text, module.end(last))


def _holds_imports(statement: ast.stmt) -> bool:
    """`try: import x`, `if version: import y` and the like belong to the block of imports."""
    return isinstance(statement, (ast.Try, ast.If)) and any(
        isinstance(s, (ast.Import, ast.ImportFrom)) for s in statement.body
    )


def _next_line(text: str, offset: int) -> int | None:
    end = offset
    while end < len(text) and text[end] not in "\r\n":
        end += 1
    if end >= len(text):
        return None
    return end + (2 if text.startswith("\r\n", end) else 1)


def _blank_follows(module: Module, anchor: int) -> bool:
    """Whether a blank line (or nothing) already follows the place of insertion."""
    return module.text[anchor : anchor + 1] in ("", "\n", "\r")


def _statement_start(module: Module, statement: Any) -> int:
    decorators = getattr(statement, "decorator_list", None)
    if decorators:
        # The "@" stands before the decorator's expression.
        return module.text.rfind("@", 0, module.start(decorators[0]))
    return module.start(statement)


def _free_name(module: Module, owner: ast.AST, wish: str) -> str:
    scope: Scope = module.scopes[id(owner)]
    candidates = [wish, f"accelerator_{wish}", f"_{wish}"]
    candidates += [f"{wish}_{n}" for n in range(2, 100)]
    taken: set[str] = set()
    for inner in scope.descendants():
        taken.update(inner.bindings)
        taken.update(inner.loads)
        taken.update(inner.globals)
    if scope.kind == "module":
        taken |= module.names
    return next(c for c in candidates if c not in taken)


def _newline(text: str) -> str:
    at = text.find("\n")
    if at > 0 and text[at - 1] == "\r":
        return "\r\n"
    return "\r" if at < 0 and "\r" in text else "\n"
