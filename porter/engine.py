"""One text in, findings and a new text out. The engine knows spans and rules, no device.

The steps: wake the rules at their sites, settle what guards what, accept rewrites that do not
overlap, write shared expressions and imports, and prove that the result still compiles.
"""

from __future__ import annotations

import ast
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
from porter.shared import Placement, place
from porter.site import Site
from porter.suppress import Suppressions
from porter.syntax import SyntaxProblem, parse
from porter.targets import Target

#: Rewrites that had to wait for an overlapping one are tried again this many times.
MAX_PASSES = 10
#: Expressions may nest deeper than Python's default recursion limit allows a walk to follow.
RECURSION_LIMIT = 12_000


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
    new, extra = first.text, list(first.refused)
    for _ in range(MAX_PASSES):
        if not extra or new == module.text:
            break
        again = Module(new, path, dotted, facts)
        more, _ = _unsuppressed(find(again, catalog, target), again, Suppressions.read(new))
        following = _rewrite(again, settle_guards(more, again, unsafe), unsafe)
        if following.text == new:
            break
        new, extra = following.text, list(following.refused)
    problem = _compile_problem(text, new)
    if problem:
        left = [replace(f, reason=f.reason or problem) for f in findings]
        settled = tuple(_settle(module, f, Status.LEFT) for f in left)
        return Outcome(text, settled, problem, len(silenced), silenced)
    return Outcome(new, tuple(_settled(module, first)), "", len(silenced), silenced)


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
    for constant, scope in module.strings:
        value = constant.value
        if quick.search(value) is None:  # type: ignore[arg-type]
            continue
        rules = [r for pattern, r in catalog.strings if pattern.search(value)]  # type: ignore[arg-type]
        yield Site(module, constant, scope, "string"), rules


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
    result = list(findings)
    order = sorted(range(len(findings)), key=lambda i: findings[i].start)
    starts = [findings[i].start for i in order]
    _hold_arguments(result, order, starts, unsafe)
    for position, guard in enumerate(findings):
        if not _applies(guard, unsafe):
            continue
        if guard.shields is not None and _has_gap(result, guard.shields):
            reason = "the rest of this condition works on this device alone"
            result[position] = _left_alone(guard, reason)
            continue
        if guard.guards is None:
            continue
        low, high = guard.guards
        inside = sorted(order[bisect_left(starts, low) : bisect_left(starts, high)])
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
    return result


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


def _has_gap(findings: list[Finding], span: tuple[int, int]) -> bool:
    return any(
        f.native_only and not f.rewrites and f.category is not Category.INFORMATION
        for f in findings
        if span[0] <= f.start < span[1]
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
    for node in ast.walk(module.tree):
        if not isinstance(node, ast.stmt) or hasattr(node, "body"):
            continue
        if isinstance(node, (ast.Pass, ast.Import, ast.ImportFrom)) or _is_talk(node):
            continue
        start, end = module.span(node)
        if low <= start and end <= high:
            yield start, end


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
        elif _loses_comment(module, finding):
            state.left.append(
                replace(finding, reason="a comment stands inside the code to rewrite")
            )
        elif claims.accepts((e.start, e.end, e.parts) for e in finding.edits):
            state.accepted.append(finding)
        else:
            state.refused.append(finding)
    if not state.accepted:
        return state
    placement = place(module, state.accepted)
    spans = [*placement.spans]
    spans += edit_imports(module, state.accepted, spans)
    spans += add_imports(module, state.accepted, placement)
    state.spans = spans
    state.text = apply(module.text, spans)
    return state


def _loses_comment(module: Module, finding: Finding) -> bool:
    return any("\n" in (old := module.text[e.start : e.end]) and "#" in old for e in finding.edits)


def _compile_problem(before: str, after: str) -> str:
    """Why `after` may not be written; empty if it compiles wherever `before` did."""
    if after == before:
        return ""
    try:
        parse(after)
    except SyntaxProblem as error:
        place = f"line {error.line}: {error.message}"
        return f"the rewrite would not parse ({place}); file left as it was"
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(after, "<after>", "exec", dont_inherit=True)
        except SyntaxError as error:
            try:
                compile(before, "<before>", "exec", dont_inherit=True)
            except SyntaxError:
                return ""
            return f"the rewrite would not compile ({error.msg}); file left as it was"
        except (RecursionError, MemoryError):
            return ""
    return ""


# Answers --------------------------------------------------------------------------------------


def _settled(module: Module, first: _Pass) -> Iterator[Settled]:
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


def _lines(module: Module, finding: Finding) -> tuple[int, int]:
    """Where the lines begin and end that a finding and its edits stand on."""
    low = module.index.line_start(module.index.position(finding.start)[0])
    high = _line_end(module.text, max([finding.end, *(e.end for e in finding.edits)]))
    return min([low, *(e.start for e in finding.edits)]), high


def _settle(
    module: Module, finding: Finding, status: Status, spans: Sequence[Span] = ()
) -> Settled:
    line, column = module.index.position(finding.start)
    low, high = _lines(module, finding)
    before = module.text[low:high]
    after = ""
    if status is Status.REWRITTEN:
        own = [s for s in spans if low <= s.start and s.end <= high]
        after = apply(before, [Span(s.start - low, s.end - low, s.new) for s in own])
    return Settled(finding, status, line, column, before, after)


def _line_end(text: str, offset: int) -> int:
    ends = [e for e in (text.find("\n", offset), text.find("\r", offset)) if e >= 0]
    return min(ends, default=len(text))


__all__ = ["MAX_PASSES", "Outcome", "Placement", "Settled", "analyse", "find", "settle_guards"]
