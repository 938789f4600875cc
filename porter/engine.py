"""One text in, findings and a new text out. The engine knows spans and rules, no device.

The steps: wake the rules at their sites, settle what guards what, accept rewrites that do not
overlap, write shared expressions and imports, and prove that the result still compiles.
"""

from __future__ import annotations

import ast
import functools
import gc
import re
import sys
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace

from porter.catalog import Catalog
from porter.edit import Claims, Span, apply
from porter.imports import add_imports, edit_imports
from porter.module import NO_FACTS, Module, ProjectFacts
from porter.rule import QUIET, Category, Finding, Rule, Safety, Status
from porter.scan import EXAMPLE
from porter.shared import Placement, place
from porter.site import Site
from porter.suppress import Suppressions
from porter.syntax import LineIndex, SyntaxProblem, parse, without_data
from porter.targets import Target

#: Rewrites that had to wait for an overlapping one are tried again this many times.
MAX_PASSES = 10
#: Expressions may nest deeper than Python's default recursion limit allows a walk to follow.
RECURSION_LIMIT = 12_000
#: How many characters before and after a site are kept of the lines that it stands on.
NEAR = 500


class RuleProblem(Exception):
    """A rule that raised an exception; `code` names it and the cause is the exception."""

    def __init__(self, code: str, line: int) -> None:
        """Keep the rule's code and the 1-based line of the site."""
        super().__init__(code, line)
        self.code = code
        self.line = line

    def __str__(self) -> str:
        """Return one line without the file's name."""
        cause = self.__cause__
        what = f"{type(cause).__name__}: {cause}".splitlines()[0] if cause else "failed"
        return f"rule {self.code} failed at line {self.line} ({what}); please report this"


@dataclass(frozen=True)
class Settled:
    """A finding with what became of it.

    Args:
        finding: the rule's answer.
        status: rewritten, left or information.
        line: 1-based line in the source as it was.
        column: 1-based column in characters.
        before: the source line of the site.
        after: that line as rewritten (empty if not rewritten).
    """

    finding: Finding
    status: Status
    line: int
    column: int
    before: str
    after: str = ""


@dataclass(frozen=True)
class Outcome:
    """What the engine makes of one text.

    Args:
        text: the text after all accepted rewrites.
        settled: findings in source order.
        problem: why the rewrites of the file were discarded; empty if they were not.
        suppressed: how many findings a comment silenced.
        silenced: the rule and the line of each of these.
    """

    text: str
    settled: tuple[Settled, ...] = ()
    problem: str = ""
    suppressed: int = 0
    silenced: tuple[tuple[str, int], ...] = ()


@dataclass
class _Pass:
    """What one pass over the text accepted."""

    text: str
    spans: list[Span] = field(default_factory=list)
    accepted: list[Finding] = field(default_factory=list)
    refused: list[Finding] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)


def analyse(
    text: str,
    catalog: Catalog,
    target: Target,
    *,
    path: str = "<text>",
    dotted: str = "",
    unsafe: bool = False,
    facts: ProjectFacts = NO_FACTS,
) -> Outcome:
    """Analyse and rewrite one Python text.

    Args:
        text: the decoded source.
        catalog: rules in force.
        target: what to migrate to.
        path: display path, for findings.
        dotted: dotted path of the module in its project.
        unsafe: whether unsafe rewrites are applied too.
        facts: what the rest of the project tells.

    Raises:
        SyntaxProblem: the text is not Python 3.
        RuleProblem: a rule raised an exception.
    """
    if sys.getrecursionlimit() < RECURSION_LIMIT:
        sys.setrecursionlimit(RECURSION_LIMIT)
    module = Module(text, path, dotted, facts)
    suppressions = Suppressions.read(text)
    findings, silenced = _unsuppressed(find(module, catalog, target), module, suppressions)
    first = _rewrite(module, settle_guards(findings, module, unsafe), unsafe)
    page = _Page(text, module.index)
    del module
    _forget(text)
    new, extra = first.text, list(first.refused)
    for _ in range(MAX_PASSES):
        if not extra or new == text:
            break
        again = Module(new, path, dotted, facts)
        more, _ = _unsuppressed(find(again, catalog, target), again, Suppressions.read(new))
        following = _rewrite(again, settle_guards(more, again, unsafe), unsafe)
        if following.text == new:
            break
        new, extra = following.text, list(following.refused)
        del again
        _forget(new)
    problem = _compile_problem(text, new)
    if problem:
        left = [replace(f, reason=f.reason or problem) for f in findings]
        settled = tuple(_settle(page, f, Status.LEFT) for f in left)
        return Outcome(text, settled, problem, len(silenced), silenced)
    return Outcome(new, tuple(_settled(page, first)), "", len(silenced), silenced)


@dataclass(frozen=True)
class _Page:
    """What is left of a module when all is found and nothing is to be rewritten any more."""

    text: str
    index: LineIndex


#: The tree of a text of so many characters is worth freeing before the next one is made.
_WORTH_FREEING = 1_000_000


def _forget(text: str) -> None:
    """Free the tree of a large text, whose nodes refer to each other."""
    if len(text) > _WORTH_FREEING:
        gc.collect()


def find(module: Module, catalog: Catalog, target: Target) -> list[Finding]:
    """Every finding of every rule, in source order, without repeats."""
    found: dict[tuple[str, int, int, object], Finding] = {}
    for bare, rules in sites(module, catalog):
        site = replace(bare, target=target)
        for rule in rules:
            if target.name not in rule.targets:
                continue
            for finding in _checked(rule, site, target):
                stamped = _stamp(_reviewed(site, finding, catalog), rule)
                key = (rule.code, stamped.start, stamped.end, stamped.edits)
                found.setdefault(key, stamped)
    return sorted(found.values(), key=lambda f: (f.start, f.end, f.rule))


def _checked(rule: Rule, site: Site, target: Target) -> Iterator[Finding]:
    try:
        yield from rule.check(site, target)
    except RecursionError:
        raise  # says something of the file, not of the rule
    except Exception as error:
        raise RuleProblem(rule.code, getattr(site.node, "lineno", 1)) from error


def _reviewed(site: Site, finding: Finding, catalog: Catalog) -> Finding:
    for review in catalog.reviews:
        if not finding.rewrites:
            break
        finding = review(site, finding)
    return finding


def _stamp(finding: Finding, rule: Rule) -> Finding:
    return replace(
        finding,
        rule=rule.code,
        category=finding.category or rule.category,
        effort=rule.effort if finding.effort is None else finding.effort,
        safety=(
            Safety.UNSAFE
            if finding.safety is Safety.SAFE and rule.safety is Safety.UNSAFE
            else finding.safety
        ),
    )


# Sites ----------------------------------------------------------------------------------------


def sites(module: Module, catalog: Catalog) -> Iterator[tuple[Site, list[Rule]]]:
    """Every site that wakes a rule."""
    yield from _import_sites(module, catalog)
    yield from _name_sites(module, catalog)
    yield from _attribute_sites(module, catalog)
    yield from _string_sites(module, catalog)
    for keyword, scope in module.keywords:
        rules = catalog.keywords.get(keyword.arg or "")
        if rules:
            yield Site(module, keyword, scope, "keyword", keyword.arg or ""), rules


def rules_for(name: str, catalog: Catalog) -> list[Rule]:
    """Rules woken by exactly this qualified name."""
    exact = catalog.exact.get(name)
    if exact:
        return exact
    prefix = name
    while "." in prefix:
        prefix = prefix.rpartition(".")[0]
        found = catalog.prefixes.get(prefix)
        if found:
            return found
    return []


def _import_sites(module: Module, catalog: Catalog) -> Iterator[tuple[Site, list[Rule]]]:
    for statement, scope in module.imports:
        for alias in statement.names:
            if isinstance(statement, ast.Import):
                target = alias.name
            else:
                base = module.absolute("." * statement.level + (statement.module or ""))
                target = base if alias.name == "*" else f"{base}.{alias.name}"
            rules = rules_for(target, catalog)
            if not rules and alias.name == "*":
                rules = rules_for(f"{target}.*", catalog)
            if rules:
                yield Site(module, alias, scope, "import", target), rules


def _name_sites(module: Module, catalog: Catalog) -> Iterator[tuple[Site, list[Rule]]]:
    for chain, scope in module.chains:
        node: ast.expr = chain
        while isinstance(node, ast.Attribute):
            node = node.value
        if isinstance(node, ast.Name):
            if scope.owner(node.id) is None and module.resolve_name(node.id, scope) is None:
                continue
        elif not isinstance(node, ast.Call):
            continue
        base = module.resolve(node, scope)
        if base is None:
            continue
        resolved = module.resolve(chain, scope)
        if resolved is None:
            continue
        yield from _longest(module, catalog, chain, resolved.certain, scope)


def _longest(
    module: Module, catalog: Catalog, chain: ast.expr, certain: bool, scope: object
) -> Iterator[tuple[Site, list[Rule]]]:
    """The longest part of the chain that wakes a rule; one site for each chain."""
    node: ast.expr = chain
    while True:
        name = module.name_of(node)
        rules = rules_for(name, catalog)
        if rules:
            yield Site(module, node, scope, "name", name, certain), rules  # type: ignore[arg-type]
            return
        if not isinstance(node, ast.Attribute):
            return
        node = node.value


def _attribute_sites(module: Module, catalog: Catalog) -> Iterator[tuple[Site, list[Rule]]]:
    for attribute, rules in catalog.attributes.items():
        for node in module.attributes.get(attribute, ()):
            name = module.name_of(node)
            # A rule that the name woke has seen this node; others have not.
            awake = rules_for(name, catalog) if name else []
            asleep = [r for r in rules if r not in awake]
            if asleep:
                yield Site(module, node, module.scope(node), "attribute", name), asleep


def _string_sites(module: Module, catalog: Catalog) -> Iterator[tuple[Site, list[Rule]]]:
    quick = catalog.any_string
    if quick is None:
        return
    short, anywhere = _QUICK_LENGTH, _anywhere(tuple(p.pattern for p, _ in catalog.strings))
    for constant, scope in module.strings:
        value: str = constant.value  # type: ignore[assignment]
        if len(value) > short and not any(p.search(value) for p in anywhere):
            continue
        if ">>>" in value and "\n" in value:
            value = re.sub(EXAMPLE, "", value)
        if quick.search(value) is None:
            continue
        rules = [r for pattern, r in catalog.strings if pattern.search(value)]
        yield Site(module, constant, scope, "string"), rules


#: From this length on, a string is searched for one pattern after the other.
_QUICK_LENGTH = 60


@functools.cache
def _anywhere(patterns: tuple[str, ...]) -> tuple[re.Pattern[str], ...]:
    """What some pattern needs to match, each for itself, since `re` jumps to a literal beginning.

    An alternation has none, and is tried at every character of every docstring.
    """
    parts = dict.fromkeys(part for pattern in patterns for part in _alternatives(pattern))
    starting = [part for part in parts if part.startswith("^")]
    others = dict.fromkeys(part.removeprefix(r"\b") for part in parts if not part.startswith("^"))
    first = [rf"\A(?:{'|'.join(part[1:] for part in starting)})"] if starting else []
    return tuple(re.compile(part) for part in (*first, *others))


def _alternatives(pattern: str) -> Iterator[str]:
    """The alternatives at the top of a pattern."""
    depth = start = at = 0
    in_set = False
    while at < len(pattern):
        character = pattern[at]
        if character == "\\":
            at += 1
        elif in_set:
            in_set = character != "]"
        elif character == "[":
            in_set = True
            at += pattern.startswith("^", at + 1)
            at += pattern.startswith("]", at + 1)
        elif character in "()":
            depth += 1 if character == "(" else -1
        elif character == "|" and not depth:
            yield pattern[start:at]
            start = at + 1
        at += 1
    yield pattern[start:]


# Settling -------------------------------------------------------------------------------------


def _unsuppressed(
    findings: list[Finding], module: Module, suppressions: Suppressions
) -> tuple[list[Finding], tuple[tuple[str, int], ...]]:
    """The findings that no comment silences, and the rule and line of those that one does."""
    if not suppressions:
        return findings, ()
    kept, silenced = [], []
    for finding in findings:
        line = module.index.position(finding.start)[0]
        if suppressions.covers(finding.rule, line):
            silenced.append((finding.rule, line))
        else:
            kept.append(finding)
    return kept, tuple(silenced)


def settle_guards(findings: list[Finding], module: Module, unsafe: bool) -> list[Finding]:
    """Leave a guard alone whose body works on the original device only.

    Opening such a branch to another device would run code there that cannot work.
    """
    result = _all_or_none(findings, module, unsafe)
    order = sorted(range(len(findings)), key=lambda i: findings[i].start)
    starts = [findings[i].start for i in order]
    _hold_arguments(result, order, starts, unsafe)

    def _within(region: tuple[int, int]) -> list[int]:
        return sorted(order[bisect_left(starts, region[0]) : bisect_left(starts, region[1])])

    for position, guard in enumerate(findings):
        if not _applies(guard, unsafe):
            continue
        if guard.shields is not None and _has_gap(result, _within(guard.shields)):
            reason = "the rest of this condition works on this device alone"
            result[position] = _left_alone(guard, reason)
            continue
        if guard.guards is None:
            continue
        inside = _within(guard.guards)
        if not inside or not _only_native(inside, result, module, guard.guards):
            continue
        result[position] = _left_alone(guard, "guards code for this device alone, left as it is")
        branch = any(True for _ in _simple_statements(module, guard.guards))
        for i in inside:
            found = result[i]
            if branch or found.category in QUIET or found.rewrites:
                result[i] = _left_alone(found, found.reason)
            else:
                # A value is needed on every device; whether the other one serves is a question.
                result[i] = replace(found, category=Category.POTENTIAL)
    return _all_or_none(result, module, unsafe)


def _all_or_none(findings: Sequence[Finding], module: Module, unsafe: bool) -> list[Finding]:
    """Leave what is rewritten together with something that is left, or awaits approval."""
    held = {
        f.together
        for f in findings
        if f.together is not None and not (_applies(f, unsafe) and not _hindrance(module, f))
    }
    if not held:
        return list(findings)
    waiting = {
        f.together for f in findings if f.together in held and not _may_be_approved(module, f)
    }
    reason = "an import or another use of this name is left; change them together"
    result = []
    for found in findings:
        if found.together not in held or not found.rewrites:
            result.append(found)
        elif found.together in waiting:
            change = replace(found, edits=(), moves=(), imports=(), safety=Safety.MANUAL)
            result.append(replace(change, reason=reason))
        else:
            result.append(replace(found, safety=Safety.UNSAFE, reason=found.reason or reason))
    return result


def _may_be_approved(module: Module, finding: Finding) -> bool:
    return finding.rewrites and not _hindrance(module, finding)


def _hold_arguments(
    findings: list[Finding], order: list[int], starts: list[int], unsafe: bool
) -> None:
    """Leave the arguments of a call alone that stays: the other device's would not fit it."""
    for call in tuple(findings):
        stays = call.category is not Category.INFORMATION and not _applies(call, unsafe)
        if call.holds is None or not stays:
            continue
        low, high = call.holds
        for i in order[bisect_left(starts, low) : bisect_left(starts, high)]:
            if findings[i].rewrites:
                findings[i] = _left_alone(findings[i], "an argument of a call that stays as it is")


def _has_gap(findings: list[Finding], inside: Iterable[int]) -> bool:
    return any(
        f.native_only and not f.rewrites and f.category is not Category.INFORMATION
        for f in (findings[i] for i in inside)
    )


def _left_alone(finding: Finding, reason: str) -> Finding:
    return replace(
        finding,
        edits=(),
        moves=(),
        imports=(),
        reason=reason,
        safety=Safety.MANUAL,
        category=Category.INFORMATION,
        effort=0,
    )


def _only_native(
    inside: list[int], findings: list[Finding], module: Module, region: tuple[int, int]
) -> bool:
    natives = [findings[i] for i in inside if findings[i].native_only]
    if not natives or any(findings[i].rewrites for i in inside):
        return False
    if any(f.category is not Category.INFORMATION for f in natives):
        return True  # it would fail on another device, and nothing there was made ready for one
    for start, end in _simple_statements(module, region):
        if not any(start <= f.start < end for f in natives):
            return False
    return True


def _simple_statements(module: Module, region: tuple[int, int]) -> Iterator[tuple[int, int]]:
    """Spans of the statements in the region that do something beyond control flow and talk."""
    low, high = region
    spans = module.once("simple statements", lambda: sorted(_every_simple_statement(module)))
    for start, end in spans[bisect_left(spans, (low, low)) : bisect_left(spans, (high, high))]:
        if end <= high:
            yield start, end


def _every_simple_statement(module: Module) -> Iterator[tuple[int, int]]:
    waiting: list[ast.AST] = [module.tree]
    while waiting:
        node = waiting.pop()
        if not isinstance(node, ast.stmt) or hasattr(node, "body") or hasattr(node, "cases"):
            for name in ("body", "orelse", "handlers", "finalbody", "cases"):
                inner = getattr(node, name, None)
                waiting += inner if isinstance(inner, list) else ()
        elif not isinstance(node, (ast.Pass, ast.Import, ast.ImportFrom)) and not _is_talk(node):
            yield module.span(node)


def _is_talk(node: ast.stmt) -> bool:
    """A docstring, `print(...)`, `logger.info(...)` or `warnings.warn(...)`."""
    if not isinstance(node, ast.Expr):
        return False
    if isinstance(node.value, ast.Constant):
        return True
    if not isinstance(node.value, ast.Call):
        return False
    function = node.value.func
    if isinstance(function, ast.Name):
        return function.id == "print"
    return isinstance(function, ast.Attribute) and function.attr in {
        "debug", "info", "warning", "warn", "print",
    }  # fmt: skip


def _applies(finding: Finding, unsafe: bool) -> bool:
    if not finding.rewrites:
        return False
    return finding.safety is Safety.SAFE or (unsafe and finding.safety is Safety.UNSAFE)


# Rewriting ------------------------------------------------------------------------------------


def _rewrite(module: Module, findings: Iterable[Finding], unsafe: bool) -> _Pass:
    state = _Pass(module.text)
    claims = Claims()
    for finding in findings:
        if not _applies(finding, unsafe):
            state.left.append(finding)
        elif reason := _hindrance(module, finding):
            state.left.append(replace(finding, reason=reason))
        elif claims.accepts((e.start, e.end, e.parts) for e in finding.edits):
            state.accepted.append(finding)
        else:
            state.refused.append(finding)
    placement = _placed(module, state)
    if not state.accepted:
        return state
    moved = edit_imports(module, state.accepted, placement.spans)
    added = add_imports(module, state.accepted, placement)  # it may join one of the spans
    state.spans = spans = [*placement.spans, *moved, *added]
    state.text = apply(module.text, spans)
    return state


_NO_QUOTES = "before Python 3.12 the new text cannot stand in this f-string; take it out of it"


def _placed(module: Module, state: _Pass) -> Placement:
    """Settle the text of what was accepted; leave what cannot be written where it stands."""
    placement = place(module, state.accepted)
    while placement.unquoted:
        bad = [f for f in state.accepted if any(e in placement.unquoted for e in f.edits)]
        state.left += [replace(f, reason=_NO_QUOTES) for f in bad]
        state.accepted = [f for f in state.accepted if f not in bad]
        placement = place(module, state.accepted)
    return placement


def _loses_comment(module: Module, finding: Finding) -> bool:
    spans = (module.text[e.start : e.end] for e in finding.edits)
    return any("#" in old and ("\n" in old or "\r" in old) for old in spans)


def _hindrance(module: Module, finding: Finding) -> str:
    """Why the edits of a finding cannot stand in this text; empty if they can."""
    edits = finding.edits
    if _loses_comment(module, finding):
        return "a comment stands inside the code to rewrite"
    old = "".join(module.text[e.start : e.end] for e in edits)
    new = "".join(e.text for e in edits)
    if edits and not finding.moves and all(e.text == module.text[e.start : e.end] for e in edits):
        return finding.reason or "it is put together in a way that is not rewritten"
    if _open_brackets(old) != _open_brackets(new):
        return "a parenthesis stands inside the code to rewrite"
    return ""


_STRING = re.compile(r"\"(?:[^\"\\\n]|\\.)*\"|'(?:[^'\\\n]|\\.)*'")


def _open_brackets(text: str) -> tuple[int, ...]:
    """How many brackets of each kind are opened and not closed, or closed and not opened."""
    bare = _STRING.sub("", text)
    return tuple(bare.count(a) - bare.count(b) for a, b in ("()", "[]", "{}"))


def _compile_problem(before: str, after: str) -> str:
    """Why `after` may not be written; empty if it compiles wherever `before` did."""
    if after == before:
        return ""
    refused = _compile_error(after)
    if not refused:
        return ""
    try:
        parse(after)
    except SyntaxProblem as error:
        place = f"line {error.line}: {error.message}"
        return f"the rewrite would not parse ({place}); file left as it was"
    if _compile_error(before):
        return ""
    return f"the rewrite would not compile ({refused}); file left as it was"


def _compile_error(text: str) -> str:
    """Why the running Python does not compile a text; empty if it does."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(without_data(text), "<text>", "exec", dont_inherit=True)
        except SyntaxError as error:
            return error.msg
        except (RecursionError, MemoryError) as error:
            return type(error).__name__
        except ValueError as error:  # a null byte, a lone surrogate
            return str(error)
    return ""


# Answers --------------------------------------------------------------------------------------


def _settled(module: _Page, first: _Pass) -> Iterator[Settled]:
    accepted = {id(f): Status.REWRITTEN for f in (*first.accepted, *first.refused)}
    everything = [*first.accepted, *first.refused, *first.left]
    spans = sorted(first.spans, key=lambda span: span.start)
    starts = [span.start for span in spans]
    for finding in sorted(everything, key=lambda f: (f.start, f.end, f.rule)):
        status = accepted.get(id(finding))
        if status is None:
            silent = finding.category in QUIET
            status = Status.INFORMATION if silent else Status.LEFT
        low, high = _lines(module, finding)
        near = spans[bisect_left(starts, low) : bisect_right(starts, high)]
        yield _settle(module, finding, status, near)


def _lines(module: _Page, finding: Finding) -> tuple[int, int]:
    """Where the lines begin and end that a finding and its edits stand on.

    Of a line that is longer than anybody reads, only what stands near: thousands of sites on one
    line would each hold all of it.
    """
    first = min([finding.start, *(e.start for e in finding.edits)])
    last = max([finding.end, *(e.end for e in finding.edits)])
    low = module.index.line_start(module.index.position(finding.start)[0])
    return max(min(low, first), first - NEAR), min(module.index.line_end(last), last + NEAR)


def _settle(module: _Page, finding: Finding, status: Status, spans: Sequence[Span] = ()) -> Settled:
    line, column = module.index.position(finding.start)
    low, high = _lines(module, finding)
    before = module.text[low:high]
    after = ""
    if status is Status.REWRITTEN:
        own = [s for s in spans if low <= s.start and s.end <= high]
        after = apply(before, [Span(s.start - low, s.end - low, s.new) for s in own])
    return Settled(finding, status, line, column, before, after)


__all__ = ["MAX_PASSES", "Outcome", "Placement", "Settled", "analyse", "find", "settle_guards"]
