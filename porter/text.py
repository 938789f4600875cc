"""One text that is not Python in, findings and a new text out.

As `porter.engine` does for Python: rules answer, comments silence, rewrites that do not overlap are
accepted, and the result must still be what it was, but for the places changed.
"""

from __future__ import annotations

import bisect
import functools
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import cast

from porter.catalog import Catalog
from porter.edit import Claims, Span, apply
from porter.engine import Outcome, RuleProblem, Settled
from porter.lookout import always_wants as always_wants
from porter.lookout import wants as wants
from porter.project import Patterns
from porter.rule import QUIET, Finding, Rule, Safety, Status
from porter.suppress import Suppressions
from porter.targets import Target
from porter.text_site import DATA, TextCheck, TextFile, TextProblem, TextSite

#: A longer text is not analysed: such files hold data, not settings.
MAX_LENGTH = 10_000_000
#: What porter itself has written; its advice names what rules look for.
_TODO = re.compile(r"(?<=[#/] )porter: TODO\[[^\r\n]*")
_PROBLEM = "the rewrite would change more than its place; file left as it was"


def rules_for(catalog: Catalog, path: str) -> list[Rule]:
    """The rules that look at a file with this relative path."""
    return [rule for rule, patterns in _by_files(catalog) if patterns.match(path, folder=False)]


@functools.lru_cache(maxsize=64)
def _by_files(catalog: Catalog) -> tuple[tuple[Rule, Patterns], ...]:
    return tuple((rule, Patterns(rule.files)) for rule in catalog.rules if rule.files)


def analyse_text(
    text: str,
    catalog: Catalog,
    target: Target,
    path: str,
    *,
    unsafe: bool = False,
    callers: Mapping[str, Sequence[str]] | None = None,
) -> Outcome:
    """Analyse and rewrite one text that is not Python.

    Args:
        text: decoded, without a byte order mark.
        catalog: rules in force.
        target: what to migrate to.
        path: POSIX, relative to the project; it decides the kind and the rules.
        unsafe: whether unsafe rewrites are applied too.
        callers: where Python code calls a function that C++ binds, by its name.

    Raises:
        TextProblem: the text is not of its kind.
        RuleProblem: a rule raised an exception.
    """
    if len(text) > MAX_LENGTH:
        raise TextProblem(f"longer than {MAX_LENGTH // 1_000_000} million characters; not read")
    file = TextFile(text, path, callers or {})
    plain = _TODO.sub(lambda found: " " * len(found.group()), text)
    seen = file if plain == text else TextFile(plain, path, callers or {})
    findings = find(seen, catalog, target)
    kept, silenced = _unsilenced(file, findings)
    done = _rewrite(file, kept, unsafe)
    problem = _problem(file, done) if done.text != text else ""
    if problem:
        left = [replace(f, reason=f.reason or problem) for f in kept]
        settled = tuple(_settle(file, f, Status.LEFT, ()) for f in left)
        return Outcome(text, settled, problem, len(silenced), silenced)
    return Outcome(done.text, tuple(_settled(file, done)), "", len(silenced), silenced)


def _unsilenced(
    file: TextFile, findings: Iterable[Finding]
) -> tuple[list[Finding], tuple[tuple[str, int], ...]]:
    """The findings that no comment silences; the rule and the line of those that one does."""
    silence = Suppressions.read_file(file)
    kept, silenced = [], []
    for finding in findings:
        line = file.index.position(finding.start)[0]
        if silence.covers(finding.rule, line):
            silenced.append((finding.rule, line))
        else:
            kept.append(finding)
    return kept, tuple(silenced)


def find(file: TextFile, catalog: Catalog, target: Target) -> list[Finding]:
    """Every finding of every rule for the file, in order, without repeats.

    Raises:
        TextProblem: the text is not of its kind.
        RuleProblem: a rule raised an exception.
    """
    site = TextSite(file, target)
    found: dict[tuple[str, int, int, object], Finding] = {}
    for rule in rules_for(catalog, file.path):
        if target.name not in rule.targets:
            continue
        try:
            answers = list(cast(TextCheck, rule.check)(site, target))
        except TextProblem:
            raise
        except Exception as error:
            raise RuleProblem(rule.code, 1) from error
        for finding in answers:
            stamped = replace(
                finding,
                rule=rule.code,
                category=finding.category or rule.category,
                effort=rule.effort if finding.effort is None else finding.effort,
                safety=_safety(finding, rule),
            )
            for review in catalog.text_reviews:
                stamped = review(site, stamped)
            found.setdefault((rule.code, stamped.start, stamped.end, stamped.edits), stamped)
    return sorted(found.values(), key=lambda f: (f.start, f.end, f.rule))


def _safety(finding: Finding, rule: Rule) -> Safety:
    lower = finding.safety is Safety.SAFE and rule.safety is Safety.UNSAFE
    return Safety.UNSAFE if lower else finding.safety


@dataclass
class _Done:
    """What was accepted."""

    text: str
    spans: list[Span] = field(default_factory=list)
    accepted: list[Finding] = field(default_factory=list)
    left: list[Finding] = field(default_factory=list)


def _rewrite(file: TextFile, findings: Iterable[Finding], unsafe: bool) -> _Done:
    done, claims = _Done(file.text), Claims()
    for finding in findings:
        applies = finding.safety is Safety.SAFE or (unsafe and finding.safety is Safety.UNSAFE)
        if (
            finding.rewrites
            and applies
            and claims.accepts((e.start, e.end, e.parts) for e in finding.edits)
        ):
            done.accepted.append(finding)
            done.spans += [Span(e.start, e.end, e.text) for e in finding.edits]
        else:
            done.left.append(finding)
    done.text = apply(file.text, done.spans)
    return done


# Proof ------------------------------------------------------------------------------------------


def _problem(file: TextFile, done: _Done) -> str:
    """Why the result may not be written; empty if it is what it was but for the changes."""
    after = TextFile(done.text, file.path)
    try:
        if file.kind in DATA:
            return _data_problem(file, after, done.spans)
        if file.kind == "dockerfile":
            same = [i.name for i in file.instructions] == [i.name for i in after.instructions]
            return "" if same else _PROBLEM
        if file.kind == "shell":
            same = len(file.script().commands) == len(after.script().commands)
            return "" if same else _PROBLEM
    except TextProblem as problem:
        return f"the rewrite would not parse (line {problem.line}: {problem.message})"
    return ""


def _data_problem(file: TextFile, after: TextFile, spans: Sequence[Span]) -> str:
    """Compare scalar by scalar: one may differ only where an edit lies inside it."""
    if len(file.scalars) != len(after.scalars):
        return _PROBLEM
    ordered = sorted(spans, key=lambda s: (s.start, s.end))
    for old, new in zip(file.scalars, after.scalars, strict=True):
        first = bisect.bisect_left(ordered, old.start, key=lambda s: s.start)
        touched = first < len(ordered) and ordered[first].end <= old.end
        if (len(old.path), old.is_key) != (len(new.path), new.is_key):
            return _PROBLEM
        if not touched and old.value != new.value:
            return _PROBLEM
    return ""


# Answers ----------------------------------------------------------------------------------------


def _settled(file: TextFile, done: _Done) -> Iterator[Settled]:
    accepted = {id(f) for f in done.accepted}
    everything = [*done.accepted, *done.left]
    spans = sorted(dict.fromkeys(done.spans), key=lambda s: (s.start, s.end))
    for finding in sorted(everything, key=lambda f: (f.start, f.end, f.rule)):
        status = Status.REWRITTEN if id(finding) in accepted else Status.LEFT
        if status is Status.LEFT and finding.category in QUIET:
            status = Status.INFORMATION
        yield _settle(file, finding, status, spans)


def _settle(file: TextFile, finding: Finding, status: Status, spans: Sequence[Span]) -> Settled:
    """One finding, settled; the spans of the file are sorted."""
    line, column = file.index.position(finding.start)
    low = min([file.index.line_start(line), *(e.start for e in finding.edits)])
    high = _line_end(file.text, max([finding.start, *(e.end for e in finding.edits)]))
    before, after = file.text[low:high], ""
    if status is Status.REWRITTEN:
        first = bisect.bisect_left(spans, low, key=lambda s: s.start)
        last = bisect.bisect_right(spans, high, key=lambda s: s.start)
        own = [s for s in spans[first:last] if s.end <= high]
        after = apply(before, [Span(s.start - low, s.end - low, s.new) for s in own])
    return Settled(finding, status, line, column, before, after)


def _line_end(text: str, offset: int) -> int:
    found = re.compile(r"[\r\n]").search(text, offset)
    return found.start() if found else len(text)
