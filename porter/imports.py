"""Imports after a rewrite: add what the new text needs, move or drop what it no longer uses."""

from __future__ import annotations

import ast
import bisect
import re
from collections.abc import Iterable, Sequence
from typing import Any

from porter.edit import Span
from porter.module import Module
from porter.rule import Finding
from porter.scope import Scope
from porter.shared import Placement, _ends_line, _next_line, _statement_start

#: The module's name, which may stand in several parts on several lines.
_WORD = re.compile(r"\w+")
_FROM = re.compile(r"from(?:\s|\\\s)+((?:[\w.]|\s|\\\s)+?)(?:\s|\\\s)+import\b")


def add_imports(module: Module, findings: Iterable[Finding], placement: Placement) -> list[Span]:
    """Insert `import x` for modules that the accepted rewrites need, once each."""
    needed = sorted({name for f in findings for name in f.imports})
    needed = [n for n in needed if module.spelling(n, module.root) is None]
    if not needed:
        return []
    newline = module.index.newline
    text = "".join(f"import {name}{newline}" for name in needed)
    beside = _beside(module, needed[0])
    offset, blank = (beside, False) if beside is not None else _import_place(module)
    if offset is None:
        return []
    if offset != module.index.line_start(module.index.position(offset)[0]):
        return [Span(offset, offset, "".join(f"import {name}; " for name in needed))]
    if beside is not None:
        # Imported for what it does to the other module, so linters see no use.
        text = text.replace(newline, f"  # noqa: F401{newline}")
    text += newline if blank else ""
    # A line inserted at the same place by a shared assignment must stand below the import.
    for position, span in enumerate(placement.spans):
        if span.start == span.end == offset:
            placement.spans[position] = Span(offset, offset, text + span.new)
            return []
    return [Span(offset, offset, text)]


def _beside(module: Module, needed: str) -> int | None:
    """Behind the import that the new one extends: `import torch_npu` follows `import torch`."""
    for statement in module.tree.body:
        if not isinstance(statement, ast.Import):
            continue
        extends = any(needed.startswith(f"{a.name}_") for a in statement.names)
        if extends and _ends_line(module, statement):
            return _next_line(module.text, module.end(statement))
    return None


def _import_place(module: Module) -> tuple[int | None, bool]:
    """Where a new top-level import goes, and whether a blank line must follow it."""
    body = module.tree.body
    last: ast.stmt | None = None
    for position, statement in enumerate(body):
        if position == 0 and _is_docstring(statement):
            last = statement
            continue
        if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
            last = statement
            continue
        if last is not None and not _ends_line(module, last):
            return module.start(statement), False  # `"""Docs."""; import os`
        if isinstance(statement, (ast.Import, ast.ImportFrom)):
            return module.index.line_start(statement.lineno), False
        break
    if last is None:
        first = body[0] if body else None
        start = _statement_start(module, first) if first is not None else len(module.text)
        return module.index.line_start(module.index.position(start)[0]), True
    return _next_line(module.text, module.end(last)), False


def _is_docstring(statement: ast.stmt) -> bool:
    return (
        isinstance(statement, ast.Expr)
        and isinstance(statement.value, ast.Constant)
        and isinstance(statement.value.value, str)
    )


def edit_imports(module: Module, findings: Sequence[Finding], spans: Sequence[Span]) -> list[Span]:
    """Move imported names to the modules that rewrites ask for; drop those no use is left of."""
    moves = {offset: target for f in findings for offset, target in f.moves}
    replaced = _Replaced(sorted(spans, key=lambda s: (s.start, s.end)))
    gone: list[Span] = []
    for statement, scope in module.imports:
        moved: dict[int, str] = {}
        dropped: set[int] = set()
        for position, alias in enumerate(statement.names):
            if module.start(alias) in moves:
                moved[position] = moves[module.start(alias)]
            elif _consumed(module, statement, alias, scope, replaced):
                dropped.add(position)
        if moved or dropped:
            gone += _edit_statement(module, statement, moved, dropped)
    return gone


def _consumed(
    module: Module, statement: Any, alias: ast.alias, scope: Scope, spans: _Replaced
) -> bool:
    """Whether the rewrites replaced every use of an imported name."""
    if alias.name == "*" or (isinstance(statement, ast.Import) and not alias.asname):
        return False
    local = alias.asname or alias.name
    uses = list(scope.uses(local))
    if not uses or len(scope.bindings.get(local, ())) != 1:
        return False
    if module.path.endswith("__init__.py") or _exported(module, local):
        return False
    if local in module.facts.imported.get(module.dotted, ()):
        return False
    return all(spans.without(local, module.start(u), module.end(u)) for u in uses)


class _Replaced:
    """What rewrites put in place of the old text, sorted; they do not overlap."""

    def __init__(self, spans: Sequence[Span]) -> None:
        self._spans = spans
        self._starts = [span.start for span in spans]

    def without(self, name: str, start: int, end: int) -> bool:
        """Whether what replaces `[start, end)` no longer says `name`."""
        at = bisect.bisect_right(self._starts, start) - 1
        while at >= 0:
            span = self._spans[at]
            if span.start < span.end:
                mentioned = re.search(rf"(?<![\w.]){re.escape(name)}\b", span.new)
                return end <= span.end and not mentioned
            at -= 1  # an insertion replaces nothing
        return False


def _exported(module: Module, local: str) -> bool:
    """Whether a string names it: `__all__`, a quoted annotation, getattr by name."""
    return local in module.once("words of strings", lambda: _words(module))


def _words(module: Module) -> set[str]:
    short: list[str] = [c.value for c, _ in module.strings if len(c.value) < 200]  # type: ignore[misc,arg-type]
    return {word for text in short for word in _WORD.findall(text)}


def _edit_statement(
    module: Module, statement: Any, moved: dict[int, str], dropped: set[int]
) -> list[Span]:
    names = statement.names
    gone = dropped | set(moved)
    if any("#" in module.segment(statement) for _ in (0,)) and len(gone) < len(names):
        return _split_with_comments(module, statement, moved)
    targets = set(moved.values())
    if len(gone) == len(names) and not moved:
        return _delete(module, statement)
    if len(targets) == 1 and len(gone) == len(names):
        found = _FROM.match(module.text, module.start(statement))
        if found is None:
            return []
        module_span = Span(found.start(1), found.end(1), targets.pop())
        return [module_span, *_remove(module, names, dropped)]
    return [*_remove(module, names, gone), *_new_lines(module, statement, moved)]


def _split_with_comments(module: Module, statement: Any, moved: dict[int, str]) -> list[Span]:
    # Comments between the names belong to someone; the old import stays beside the new one.
    return _new_lines(module, statement, moved, after=True)


def _remove(module: Module, names: list[ast.alias], gone: set[int]) -> list[Span]:
    """Take names out of an import list, commas included."""
    spans = []
    kept = [i for i in range(len(names)) if i not in gone]
    for position in sorted(gone):
        later = [k for k in kept if k > position]
        if later:
            spans.append(Span(module.start(names[position]), module.start(names[position + 1]), ""))
        else:
            before = names[position - 1]
            spans.append(Span(module.end(before), module.end(names[position]), ""))
    return spans


def _new_lines(
    module: Module, statement: Any, moved: dict[int, str], after: bool = False
) -> list[Span]:
    if not moved:
        return []
    start = module.start(statement)
    indent = module.index.lead(start)
    newline = module.index.newline
    lines = []
    for target in sorted(set(moved.values())):
        names = [_spelled(statement.names[i]) for i in sorted(moved) if moved[i] == target]
        lines.append(f"from {target} import {', '.join(names)}")
    if indent is None:
        return [Span(start, start, "; ".join(lines) + "; ")]
    if after:
        end = module.end(statement)
        return [Span(end, end, "".join(f"{newline}{indent}{text}" for text in lines))]
    return [Span(start, start, "".join(f"{text}{newline}{indent}" for text in lines))]


def _spelled(alias: ast.alias) -> str:
    return f"{alias.name} as {alias.asname}" if alias.asname else alias.name


def _delete(module: Module, statement: Any) -> list[Span]:
    """Delete a statement with its line, or leave `pass` where the block would be empty."""
    start, end = module.span(statement)
    parent = statement.parent
    siblings = next(
        block
        for name in ("body", "orelse", "finalbody", "handlers")
        if isinstance(block := getattr(parent, name, None), list) and statement in block
    )
    if isinstance(parent, (ast.Try, ast.If)) or len(siblings) == 1:
        # An import on trial (try/except, if) tells the reader something; it stays.
        return []
    line = module.index.line_start(statement.lineno)
    following = _next_line(module.text, end)
    rest = module.text[end : following if following is not None else len(module.text)]
    if module.index.lead(start) is None or rest.strip():
        return []
    if following is None:
        return []
    return [Span(line, following, "")]
