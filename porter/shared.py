"""Place expressions that several edits share: in place once, through one assignment otherwise."""

from __future__ import annotations

import ast
import bisect
import keyword
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from porter.edit import Span
from porter.module import Module
from porter.quotes import around, fitted
from porter.rule import Edit, Finding, Shared, inline_text
from porter.scope import Scope

#: A line that grows beyond this shares its expression through an assignment even if used once.
MAX_LINE = 100


@dataclass
class Placement:
    """Replacements with all text settled, and the assignments that they brought along.

    `unquoted` are edits for whose text an f-string leaves no quotes.
    """

    spans: list[Span] = field(default_factory=list)
    assignments: list[int] = field(default_factory=list)
    unquoted: list[Edit] = field(default_factory=list)


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
        # One name for two values would let the nearer or later assignment hide the other.
        others = {name for (_, text), name in names.items() if text != key[1]}
        name = _assign(module, group, placement, others)
        if name:
            names[key] = name
    for edit in edits.values():
        text = _written(module, edit, names)
        if text is None:
            placement.unquoted.append(edit)
        else:
            placement.spans.append(Span(edit.start, edit.end, _apart(module.text, edit, text)))
    return placement


def _written(module: Module, edit: Edit, names: Mapping[tuple[int, str], str]) -> str | None:
    """The new text; None if an f-string around it, or it itself, leaves it no quotes."""
    own, texts = _own_quotes(edit), []
    for part in edit.parts:
        text: str | None
        if isinstance(part, str):
            text = part
        else:
            name = names.get((id(_owner(module, edit.start, part.level)), part.expression))
            text = name + part.tail if name else fitted(inline_text(part), own)
        if text is None:
            return None
        texts.append(text)
    return fitted("".join(texts), around(module, edit.start, edit.end))


_F_STRING = re.compile(r"[fF]('{3}|\"{3}|'|\")")


def _own_quotes(edit: Edit) -> tuple[str, ...]:
    """The quotes of the f-string that the new text is itself, in which an expression stands."""
    first = edit.parts[0] if edit.parts else ""
    found = _F_STRING.match(first) if isinstance(first, str) else None
    return (found[1],) if found else ()


_WORD_BEFORE, _WORD_AFTER = re.compile(r"\w+\Z"), re.compile(r"\w+")
#: No word of Python's own is longer.
_LONGEST = max(map(len, keyword.kwlist))


def _apart(text: str, edit: Edit, new: str) -> str:
    """The new text, with space where one of its words would run into a keyword or a name.

    `if"cuda"in x` is Python, and so is `x.type=="cuda"`.
    """
    before = _WORD_BEFORE.search(text, max(edit.start - _LONGEST - 1, 0), edit.start)
    first = _WORD_AFTER.match(new)
    inside = edit.start < edit.end
    if before and first and not (inside and _word(text[edit.start])) and _keyword(before, first):
        new = " " + new
    after, last = _WORD_AFTER.match(text, edit.end), _WORD_BEFORE.search(new)
    if after and last and not (inside and _word(text[edit.end - 1])) and _keyword(last, after):
        new += " "
    return new


def _keyword(left: re.Match[str], right: re.Match[str]) -> bool:
    return keyword.iskeyword(left[0]) or keyword.iskeyword(right[0])


def _word(character: str) -> bool:
    return character.isalnum() or character == "_"


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
            ((_statement_start(module, f.body[0]), module.end(f), f) for f in functions),
            key=lambda s: s[:2],
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


def _assign(module: Module, group: _Group, placement: Placement, others: set[str]) -> str:
    """Add an assignment for the group if it is worth one; return the variable's name."""
    shared, owner = group.shared, group.owner
    count = sum(1 for e in group.edits for p in e.parts if p == shared or _same(p, shared))
    quoted = all(_written(module, e, {}) is not None for e in group.edits)
    if shared.inline and count < 2 and quoted and not _too_long(module, group.edits[0]):
        return ""
    anchor = _anchor(module, group)
    if anchor is None:
        return ""
    name = _free_name(module, owner, shared.name, others)
    newline = module.index.newline
    indent = module.text[module.index.line_start(module.index.position(anchor)[0]) : anchor]
    line = f"{name} = {shared.expression}{newline}{indent}"
    if isinstance(owner, ast.Module) and not indent and _behind_imports(module, anchor, shared):
        line = f"{newline}{name} = {shared.expression}{newline}"
        if not _blank_follows(module, anchor):
            line += newline
    placement.spans.append(Span(anchor, anchor, line))
    placement.assignments.append(anchor)
    return name


def _too_long(module: Module, edit: Edit) -> bool:
    """Whether the line would grow beyond what reviewers read in one go."""
    line = module.index.line_start(module.index.position(edit.start)[0])
    end = module.index.line_end(edit.end)
    new = module.text[line : edit.start] + edit.text + module.text[edit.end : end]
    return max(map(len, new.splitlines())) > MAX_LINE


def _same(part: str | Shared, shared: Shared) -> bool:
    return isinstance(part, Shared) and part.expression == shared.expression


def _anchor(module: Module, group: _Group) -> int | None:
    """Where the assignment can stand: the start of a line, before the first use."""
    first = min(e.start for e in group.edits)
    last = max(e.start for e in group.edits)
    if group.shared.level == "module":
        return _module_anchor(module, first, group.shared)
    body: list[ast.stmt] = group.owner.body  # type: ignore[attr-defined]
    while True:
        statement = _holding(module, body, first)
        if statement is None:
            return None
        inner = _inner_block(module, statement, first, last)
        if inner is None and _is_definition(statement) and isinstance(group.owner, ast.Module):
            return _module_anchor(module, _statement_start(module, statement), group.shared)
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
    return None if module.index.lead(start) is None else start


def _behind_imports(module: Module, anchor: int, shared: Shared) -> bool:
    """Whether the assignment opens a paragraph of its own below the imports."""
    return anchor == _module_anchor(module, anchor, shared)


def _module_anchor(module: Module, first: int, shared: Shared) -> int | None:
    """Behind the first block of imports that brings what is needed, if no use stands before it."""
    last: ast.stmt | None = None
    ready = _ready(module, shared)
    for statement in module.tree.body:
        start = _statement_start(module, statement)
        if start > first:
            break
        brings = module.end(statement) == ready
        if brings or isinstance(statement, (ast.Import, ast.ImportFrom)):
            last = statement
        elif last is not None and start >= ready and not _holds_imports(statement):
            break
    if last is None or not ready <= module.end(last) <= first:
        return None
    return _next_line(module.text, module.end(last)) if _ends_line(module, last) else None


def _ready(module: Module, shared: Shared) -> float:
    """Where all that the expression names has surely been imported; infinite if that is nowhere."""
    names = {n.id for n in ast.walk(ast.parse(shared.expression)) if isinstance(n, ast.Name)}
    return max((module.imported_at(name) for name in names), default=0)


def _ends_line(module: Module, statement: ast.stmt) -> bool:
    """Whether nothing follows the statement on its line, which does not go on either."""
    end = module.end(statement)
    following = _next_line(module.text, end)
    rest = module.text[end : following if following is not None else len(module.text)].strip()
    return not rest or rest.startswith("#")


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


def _free_name(module: Module, owner: ast.AST, wish: str, others: set[str]) -> str:
    scope: Scope = module.scopes[id(owner)]
    candidates = [wish, f"accelerator_{wish}", f"_{wish}"]
    candidates += [f"{wish}_{n}" for n in range(2, 100)]
    taken = set(others)
    for inner in scope.descendants():
        taken.update(inner.bindings)
        taken.update(inner.loads)
        taken.update(inner.globals)
    if scope.kind == "module":
        taken |= module.names
    return next(c for c in candidates if c not in taken)
