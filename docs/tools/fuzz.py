"""Run made-up programs through every rule and look for what must never happen.

    python docs/tools/fuzz.py python --cases 100000 --seed 1 --jobs 2 --corpus FOLDER --keep FOLDER
    python docs/tools/fuzz.py replay FILE...      # cases that were kept

A case is one program (docs/tools/fuzz_programs.py) for one target and lowest torch version, with
and without unsafe rewrites. `Checker` lists what is checked. Failing cases are made smaller and
kept as JSON. The same seed gives the same cases with the same Python, hypothesmith and corpus. The
exit code is 1 if a case failed, or if no rewrite took place in half of them.
"""

from __future__ import annotations

import argparse
import ast
import builtins
import codecs
import contextlib
import io
import json
import multiprocessing
import random
import re
import signal
import symtable
import sys
import time
import tokenize
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent))

import fuzz_programs as programs
from fuzz_programs import Corpus, Places, Sources, compiles, tokens

from porter import analysis, engine, own, survey
from porter import catalog as rules
from porter.report import FileStatus
from porter.rewrites.support import tables
from porter.rule import QUIET, Safety, Status
from porter.source import decode_python
from porter.syntax import parse
from porter.targets import NAMES, Target

#: Every rule, those on request included.
SELECT = ("ALL", "POR95")
VERSIONS = [
    (2, 7),
    (2, 7),
    (2, 7),
    (2, 3),
    (2, 4),
    (2, 5),
    (2, 6),
    (2, 8),
    (2, 9),
    (2, 10),
    (2, 13),
]
HARDWARE = ["", "", *tables.LINES]
#: A case that takes longer has failed.
SECONDS = 30
CHUNK = 200
#: Cases kept of each way to fail.
KEPT = 3
#: Rules that speak of other files than Python ones.
ELSEWHERE = {own.NOT_PYTHON, own.UNREAD_TEXT, own.TORCH_BOUND}


#: Words in pieces, which the quick look at the bytes cannot see: escapes, strings side by side.
_PIECES = re.compile(
    rb"\\x|\\[0-7]{2}|['\"](?:\s|\\\s)*[rRuUfF]?['\"]|[\"'](?:\w|:)*\\[\r\n]|\xf0\x9d[\x96\x97]"
)


class Broken(Exception):
    """A property that does not hold."""

    def __init__(self, check: str, message: str) -> None:
        """Name the check, and say what was found."""
        super().__init__(f"{check}: {message}")
        self.check = check
        self.message = message


class Slow(BaseException):
    """A case took longer than `SECONDS`; no `except Exception` stops it."""


@dataclass(frozen=True)
class Case:
    """A program for a target."""

    seed: int
    index: int
    kind: str
    data: bytes
    goal: Target


def case(seed: int, index: int, sources: Sources) -> Case:
    """The case of this number."""
    rng = random.Random(f"{seed}/{index}")
    shares = sources.kinds()
    kind = rng.choices(list(shares), list(shares.values()))[0]
    name = rng.choice(NAMES)
    hardware = rng.choice(HARDWARE) if name == "npu" else ""
    goal = Target(name, rng.choice(VERSIONS), hardware=hardware)
    return Case(seed, index, kind, programs.program(kind, rng, sources), goal)


# What the engine did ------------------------------------------------------------------------------


@dataclass
class Pass:
    """One pass of the engine over a text."""

    before: str
    after: str
    spans: Sequence[Any]
    accepted: Sequence[Any]
    imports: Sequence[tuple[int, int]]


@dataclass
class Log:
    """What the engine did since the log was emptied."""

    outcomes: dict[bool, engine.Outcome] = field(default_factory=dict)
    passes: dict[bool, list[Pass]] = field(default_factory=dict)
    listening: bool = False

    def clear(self) -> None:
        """Forget everything."""
        self.outcomes.clear()
        self.passes.clear()


LOG = Log()


def listen() -> None:
    """Have the engine write down what it does."""
    if LOG.listening:
        return
    LOG.listening = True
    analyse, rewrite = engine.analyse, engine._rewrite

    def heard(*args: Any, unsafe: bool = False, **options: Any) -> engine.Outcome:
        LOG.passes[unsafe] = []
        LOG.outcomes[unsafe] = outcome = analyse(*args, unsafe=unsafe, **options)
        return outcome

    def seen(module: Any, findings: Any, unsafe: bool) -> Any:
        state = rewrite(module, findings, unsafe)
        spans = [module.span(statement) for statement, _ in module.imports]
        LOG.passes.setdefault(unsafe, []).append(
            Pass(module.text, state.text, tuple(state.spans), tuple(state.accepted), spans)
        )
        return state

    engine.analyse = heard
    engine._rewrite = seen


# The checks ---------------------------------------------------------------------------------------


@dataclass
class Counts:
    """What a case did."""

    compiled: bool = False
    read: bool = False
    sites: int = 0
    rewritten: int = 0
    edits: int = 0
    rules: Counter[str] = field(default_factory=Counter)
    changed: Counter[str] = field(default_factory=Counter)


class Checker:
    """Everything that must hold for one case.

    - Nothing is raised; what cannot be read is one POR000 and stays as it is; what compiles is read.
    - The quick look at the bytes lets every file through in which rules find something.
    - The result compiles if the input did, and no rewrite had to be taken back for that.
    - Nothing changes without a rewritten site, and a rewritten site changes something.
    - Only the spans of accepted edits, import statements, and whole new lines differ; comments,
      docstrings, line ends, byte order mark and encoding stay.
    - The trees before and after differ only within the code of rewritten sites.
    - No name is undefined that was not; a new variable is assigned in front of every use.
    - No f-string needs a newer Python than those of the input.
    - Lines and columns of the sites are right.
    - A second run changes nothing.
    - With unsafe rewrites the sites are the same, and what was rewritten without is rewritten too.
    """

    def __init__(self, case: Case) -> None:
        """Prepare to check `case`."""
        self.case = case
        self.counts = Counts()
        self.plan = analysis.Plan(case.goal, SELECT)
        self.task = analysis.Task("case.py", "case.py", "python", "case", data=case.data)

    def run(self) -> Counts:
        """Check the case.

        Raises:
            Broken: a property does not hold.
        """
        listen()
        LOG.clear()
        self.counts.compiled = readable(self.case.data) and compiles(self.case.data)
        result = analysis.analyse(self.task, self.plan)
        for site in result.sites:
            self.counts.rules[site.rule] += 1
        if result.trace or "please report" in result.reason:
            raise Broken("crash", f"{result.reason}\n{result.trace}")
        if result.status is FileStatus.FAILED:
            self._failed(result)
            return self.counts
        self.counts.read = True
        source = decode_python("case.py", self.case.data)
        outcomes, passes = dict(LOG.outcomes), dict(LOG.passes)
        safe = outcomes[False]
        self._concerns(result)
        self._bytes(source, safe, result)
        self._unsafe(source.text, safe, outcomes, passes)
        for unsafe, outcome in sorted(outcomes.items()):
            self._positions(source.text, outcome) if not unsafe else None
            after = source.encode(outcome.text)
            self._outcome(source.text, outcome, passes[unsafe], after, unsafe)
        self._count(outcomes)
        return self.counts

    def _count(self, outcomes: dict[bool, engine.Outcome]) -> None:
        every = outcomes.get(True, outcomes[False])
        done = [s.finding for s in every.settled if s.status is Status.REWRITTEN]
        self.counts.sites = len(every.settled)
        self.counts.rewritten = len(done)
        self.counts.edits = sum(len(f.edits) + len(f.moves) for f in done)
        self.counts.changed.update(f.rule for f in done)

    def _failed(self, result: analysis.FileResult) -> None:
        codes = [s.rule for s in result.sites]
        if codes != [own.UNREADABLE] or result.after is not None:
            raise Broken("unreadable", f"sites {codes} for: {result.reason}")
        legal = re.search("nested too deeply|not round-trippable", result.reason)
        if self.counts.compiled and not legal:
            raise Broken("refused", f"it compiles, and was refused: {result.reason}")

    def _concerns(self, result: analysis.FileResult) -> None:
        seen = survey.Seen("case.py", "case.py", "case.py", "python", self.case.data)
        view = survey.View(SELECT, (), self.case.goal.name, self.case.goal.hardware)
        found = sorted({s.rule for s in result.sites if s.category not in QUIET})
        if found and not survey.look_at(seen, view).concerns and not _PIECES.search(self.case.data):
            raise Broken("overlooked", f"the quick look passes over a file with {found}")

    def _bytes(self, source: Any, safe: engine.Outcome, result: analysis.FileResult) -> None:
        data = self.case.data
        if (result.after is None) != (safe.text == source.text):
            raise Broken("bytes", "the bytes and the text disagree on whether something changed")
        after = result.after or data
        if after.startswith(codecs.BOM_UTF8) != data.startswith(codecs.BOM_UTF8):
            raise Broken("bytes", "the byte order mark changed")
        read = decode_python("case.py", after)
        if read.text != safe.text or read.encoding != source.encoding:
            raise Broken("bytes", "the bytes do not read back as the text")
        if _redone(source.text, result.hunks) != safe.text:
            raise Broken("hunks", "the pieces of the report do not lead to the new text")

    def _unsafe(self, text: str, safe: engine.Outcome, outcomes: dict[bool, engine.Outcome],
                passes: dict[bool, list[Pass]]) -> None:  # fmt: skip
        if True not in outcomes:
            if self.case.index % 10 and not any(
                s.finding.safety is Safety.UNSAFE for s in safe.settled
            ):
                return
            catalog = self.plan.catalog()
            engine.analyse(
                text, catalog, self.case.goal, path="case.py", dotted="case", unsafe=True
            )
            outcomes[True], passes[True] = LOG.outcomes[True], LOG.passes[True]
        unsafe = outcomes[True]
        keys = [sorted({_key(s) for s in o.settled}) for o in (safe, unsafe)]
        if keys[0] != keys[1]:
            raise Broken("unsafe-sites", f"{set(keys[0]) ^ set(keys[1])}")
        done = {_key(s) for s in unsafe.settled if s.status is Status.REWRITTEN}
        lost = {_key(s) for s in safe.settled if s.status is Status.REWRITTEN} - done
        if lost:
            raise Broken("unsafe-subset", f"rewritten without --unsafe, not with: {sorted(lost)}")

    def _positions(self, text: str, outcome: engine.Outcome) -> None:
        for settled in outcome.settled:
            before = re.split(r"\r\n|\r|\n", text[: settled.finding.start])
            if (settled.line, settled.column) != (len(before), len(before[-1]) + 1):
                raise Broken(
                    "position", f"{settled.finding.rule} at {settled.line}:{settled.column}"
                )
            if not 0 <= settled.finding.start <= settled.finding.end <= len(text):
                raise Broken("position", f"{settled.finding.rule} ends outside of the file")

    # One outcome ----------------------------------------------------------------------------------

    def _outcome(self, text: str, outcome: engine.Outcome, passes: list[Pass], after: bytes,
                 unsafe: bool) -> None:  # fmt: skip
        if outcome.problem:
            raise Broken("discarded", outcome.problem + _names(outcome))
        done = [s.finding for s in outcome.settled if s.status is Status.REWRITTEN]
        if bool(done) != (outcome.text != text):
            raise Broken("silent", f"{len(done)} rewritten sites, changed: {outcome.text != text}")
        if not done:
            return
        if self.counts.compiled and not compiles(after):
            raise Broken("compile", "the result does not compile" + _names(outcome))
        _spans(text, outcome.text, passes, done)
        _prose(text, outcome.text)
        if self.counts.compiled:
            _names_defined(text, outcome.text)
            _Trees(text, outcome.text, done).check()
        self._again(outcome, unsafe)

    def _again(self, outcome: engine.Outcome, unsafe: bool) -> None:
        again = engine.analyse(outcome.text, self.plan.catalog(), self.case.goal, path="case.py",
                               dotted="case", unsafe=unsafe)  # fmt: skip
        done = [s.finding for s in again.settled if s.status is Status.REWRITTEN]
        if again.text != outcome.text or done:
            rule = sorted({f.rule for f in done})
            raise Broken("second-run", f"a second run changes {rule}")


def readable(data: bytes) -> bool:
    """Whether Python could read a file of these bytes; `compile` does not look at comments."""
    try:
        encoding, _ = tokenize.detect_encoding(io.BytesIO(data).readline)
        data.decode(encoding)
    except (SyntaxError, ValueError, LookupError):
        return False
    return True


def _key(settled: engine.Settled) -> tuple[int, int, str]:
    return settled.finding.start, settled.finding.end, settled.finding.rule


def _names(outcome: engine.Outcome) -> str:
    return f" {sorted({s.finding.rule for s in outcome.settled if s.finding.rewrites})}"


def _redone(text: str, hunks: Sequence[Any]) -> str:
    """The text with the pieces of a report applied."""
    lines = text.split("\n")
    out, last = [], 0
    for hunk in hunks:
        out += lines[last : hunk.old - 1]
        last = hunk.old - 1
        for line in hunk.lines:
            mark, rest = line[:1], line[1:]
            last += mark in " -"
            if mark in " +":
                out.append(rest)
    bare = hunks[-1].lines if hunks else ()
    # Whether the last line ends is said by a line with a backslash.
    out += lines[last:]
    result = "\n".join(out)
    new_end = [i for i, line in enumerate(bare) if line[:1] in " +"]
    if hunks and last >= len(lines) - 1 and not lines[-1] and new_end:
        ended = not (new_end[-1] + 1 < len(bare) and bare[new_end[-1] + 1].startswith("\\"))
        if not ended and result.endswith("\n"):
            result = result[:-1]
    return result


_LINE = re.compile(
    r"import [\w.]+(?:  # noqa: F401)?|from [\w.]+ import [\w., ]+|\w+ = \S.*"
)  # fmt: skip


def _spans(text: str, final: str, passes: list[Pass], done: Sequence[Any]) -> None:
    """Only edits of findings, imports, and whole new lines differ, and line ends are the file's."""
    current = text
    for number, step in enumerate(passes):
        if step.before != current:
            raise Broken("spans", "a pass began with another text")
        edits = {(e.start, e.end) for f in step.accepted for e in f.edits}
        pieces, last = [], 0
        for span in sorted(dict.fromkeys(step.spans), key=lambda s: (s.start, s.end)):
            if span.start < last:
                raise Broken("spans", "edits overlap")
            pieces += [current[last : span.start], span.new]
            last = span.end
            known = (span.start, span.end) in edits
            within = any(low <= span.start and span.end <= high for low, high in step.imports)
            if not (known or within) and not _is_lines(current, span):
                raise Broken(
                    "spans", f"{current[span.start : span.end]!r} -> {span.new!r} in no site"
                )
        result = "".join([*pieces, current[last:]])
        if result != step.after:
            raise Broken("spans", "text outside of the edits changed")
        if number == 0:
            shown = {(e.start, e.end) for f in done for e in f.edits}
            if not edits <= shown:
                raise Broken("spans", f"edits of no reported site: {sorted(edits - shown)}")
        current = step.after if step.after != step.before else current
    if current != final:
        raise Broken("spans", "the passes do not lead to the result")
    ends = [set(re.findall(r"\r\n|\r|\n", t)) for t in (text, final)]
    if len(ends[0]) < 2 and not ends[1] <= (ends[0] or {"\n"}):
        raise Broken("newlines", f"{ends[0]} became {ends[1]}")


def _is_lines(text: str, span: Any) -> bool:
    """Whether a span inserts imports or assignments, or deletes the lines of an import."""
    if span.start < span.end:
        old = text[span.start : span.end].strip()
        return not span.new and re.match(r"(?:import|from)\b", old) is not None
    pieces = [p.strip() for p in re.split(r"\r\n|\r|\n|;(?= |$)", span.new)]
    return all(_LINE.fullmatch(p) for p in pieces if p)


def _prose(before: str, after: str) -> None:
    """Comments and docstrings stay."""
    read = [tokens(text) for text in (before, after)]
    old, new = (
        [t.string for t in some if t.type == tokenize.COMMENT and t.string != "# noqa: F401"]
        for some in read
    )
    if old != new:
        raise Broken(
            "comments", f"{[c for c in old if c not in new] or [c for c in new if c not in old]}"
        )
    if FREE and _nested(read[0]) < _nested(read[1]):
        raise Broken("f-string", "an f-string holds its own quotes, a backslash or a comment now")


FREE = programs.FREE_QUOTES


def _nested(found: Sequence[tokenize.TokenInfo]) -> int:
    """How many things stand in f-strings that only Python 3.12 reads (PEP 701)."""
    count = 0
    open_quotes: list[str] = []
    for token in found:
        if token.type == programs._START:
            quote = token.string.lstrip("rRfFbBuU")
            count += any(quote == q or (len(q) == 1 and quote[0] == q) for q in open_quotes)
            open_quotes.append(quote)
        elif token.type == programs._END:
            open_quotes.pop()
        elif open_quotes and token.type == tokenize.STRING:
            body = token.string.lstrip("rRfFbBuU")
            count += any(q in body if len(q) == 3 else body.startswith(q) for q in open_quotes)
            count += "\\" in body
        elif open_quotes and token.type == tokenize.COMMENT:
            count += 1
    return count


# Names --------------------------------------------------------------------------------------------


def _free(text: str) -> set[str]:
    """The global names that a text reads and does not bind."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        top = symtable.symtable(text, "<case>", "exec")
    bound: set[str] = set()
    read: set[str] = set()

    def walk(table: symtable.SymbolTable) -> None:
        for symbol in table.get_symbols():
            stored = symbol.is_assigned() or symbol.is_imported()
            outer = table is top
            if stored and (outer or symbol.is_declared_global()):
                bound.add(symbol.get_name())
            if symbol.is_referenced() and (symbol.is_global() or (outer and not stored)):
                read.add(symbol.get_name())
        for inner in table.get_children():
            walk(inner)

    walk(top)
    return read - bound - set(dir(builtins)) - {"__file__", "__path__"}


def _names_defined(before: str, after: str) -> None:
    new = _free(after) - _free(before)
    if new:
        raise Broken("undefined", f"names that nothing binds: {sorted(new)}")


# Trees --------------------------------------------------------------------------------------------


class _Trees:
    """Compares the trees before and after: they may differ in the code of rewritten sites alone."""

    def __init__(self, before: str, after: str, done: Sequence[Any]) -> None:
        self.before = before
        self.old = parse(before)
        self.new = parse(after)
        self.places = Places(before.removeprefix("\ufeff"))
        self.parents = {id(c): n for n in ast.walk(self.old) for c in ast.iter_child_nodes(n)}
        self.inserted: list[tuple[list[ast.stmt], int, str]] = []
        self.allowed = self._sites(done)

    def check(self) -> None:
        """Compare.

        Raises:
            Broken: they differ elsewhere.
        """
        self._same(self.old, self.new, self.old)
        for block, position, name in self.inserted:
            self._in_front(block, position, name)

    def _sites(self, done: Sequence[Any]) -> set[int]:
        """The nodes that hold exactly what a finding rewrites, and all within."""
        found: set[int] = set()
        for finding in done:
            if not finding.edits:
                continue
            low = min(finding.start, *(e.start for e in finding.edits))
            high = max(finding.end, *(e.end for e in finding.edits))
            node = self._holding(self.old, low, high)
            parent = self.parents.get(id(node))
            more = any("," in e.text for e in finding.edits)
            if more and isinstance(parent, (ast.Call, ast.List, ast.Tuple, ast.Set)):
                node, parent = parent, self.parents.get(id(parent))
            if isinstance(parent, ast.BoolOp):
                joint = " and " if isinstance(parent.op, ast.And) else " or "
                if any(joint in e.text for e in finding.edits):  # a and b and site
                    node, parent = parent, self.parents.get(id(parent))
            if isinstance(parent, ast.Call) and parent.func is node:
                node, parent = parent, self.parents.get(id(parent))
            if isinstance(parent, ast.Expr):
                node = parent
            found.update(id(inner) for inner in ast.walk(node))
        return found

    def _holding(self, node: ast.AST, low: int, high: int) -> ast.AST:
        """The smallest expression or statement around a span; a whole f-string around its parts."""
        while not isinstance(node, ast.JoinedStr):
            for child in ast.iter_child_nodes(node):
                if not hasattr(child, "lineno"):
                    inner = self._holding(child, low, high)
                    if inner is child:
                        continue
                    return inner
                start, end = self.places.span(child)
                decorators = getattr(child, "decorator_list", ())
                if decorators:
                    start = self.places.span(decorators[0])[0] - 1
                if start <= low and high <= end:
                    node = child
                    break
            else:
                break
        return node

    def _same(self, a: Any, b: Any, around: ast.AST) -> None:
        if isinstance(a, ast.AST):
            around = a if hasattr(a, "lineno") else around
            if type(a) is not type(b):
                self._differs(around, b)
                return
            for name in a._fields:
                old, new = getattr(a, name, None), getattr(b, name, None)
                if isinstance(old, list) and isinstance(new, list):
                    self._lists(old, new, around)
                elif isinstance(old, ast.AST):
                    self._same(old, new, around)
                elif old != new or type(old) is not type(new):
                    self._differs(around, b)
        elif a != b or type(a) is not type(b):
            self._differs(around, b)

    def _lists(self, old: list[Any], new: list[Any], around: ast.AST) -> None:
        if any(isinstance(n, ast.stmt) for n in (*old, *new)):
            self._statements(old, new, around)
        elif len(old) != len(new):
            self._differs(around, new)
        else:
            for a, b in zip(old, new, strict=True):
                self._same(a, b, around)

    def _statements(self, old: list[ast.stmt], new: list[ast.stmt], around: ast.AST) -> None:
        kept = [s for s in old if not isinstance(s, (ast.Import, ast.ImportFrom))]
        extra = sum(not isinstance(s, (ast.Import, ast.ImportFrom)) for s in new) - len(kept)
        position = 0
        for number, statement in enumerate(new):
            if isinstance(statement, (ast.Import, ast.ImportFrom)):
                continue
            split = isinstance(statement, ast.Expr) and position > 0
            split = split and id(kept[position - 1]) in self.allowed
            if extra > 0 and split and not _equal(kept, position, statement):
                extra -= 1  # one call became two
                continue
            if extra > 0 and isinstance(statement, ast.Assign):
                target = statement.targets[0]
                fresh = isinstance(target, ast.Name) and not _equal(kept, position, statement)
                other = position < len(kept) and isinstance(kept[position], ast.Assign)
                if fresh and other:
                    same = ast.dump(kept[position].targets[0]) == ast.dump(target)  # type: ignore[attr-defined]
                    fresh = not same
                if fresh:
                    self.inserted.append((new, number, target.id))  # type: ignore[attr-defined]
                    extra -= 1
                    continue
            if position == len(kept):
                self._differs(around, statement)
                return
            self._same(kept[position], statement, kept[position])
            position += 1
        if position < len(kept):
            self._differs(around, kept[position])

    def _differs(self, node: ast.AST, new: Any) -> None:
        if id(node) in self.allowed:
            return
        segment = ""
        if hasattr(node, "lineno"):
            start, end = self.places.span(node)
            segment = self.before[start:end]
        became = (
            ast.unparse(new) if isinstance(new, ast.AST) and not isinstance(new, ast.Module) else ""
        )
        raise Broken("tree", f"{type(node).__name__} {segment[:200]!r} became {became[:200]!r}")

    def _in_front(self, block: list[ast.stmt], position: int, name: str) -> None:
        """A new variable is assigned in front of every use in its scope."""
        behind = {id(n) for s in block[position + 1 :] for n in ast.walk(s)}
        owner = self._owner(block)
        for node in _scope(ast.Module(getattr(owner, "body", []), []), name):
            if isinstance(node, ast.Name) and node.id == name and isinstance(node.ctx, ast.Load):
                if id(node) not in behind:
                    raise Broken(
                        "order", f"{name} is read on line {node.lineno} in front of its assignment"
                    )
            elif (
                isinstance(node, ast.Name)
                and node.id == name
                and node not in block[position].targets
            ):  # type: ignore[attr-defined]
                raise Broken("order", f"{name} is bound twice")

    def _owner(self, block: list[ast.stmt]) -> ast.AST:
        owner: ast.AST = self.new
        stack: list[tuple[ast.AST, ast.AST]] = [(self.new, self.new)]
        while stack:
            node, scope = stack.pop()
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Lambda)):
                scope = node
            if any(getattr(node, n, None) is block for n in ("body", "orelse", "finalbody")):
                return scope
            stack += [(child, scope) for child in ast.iter_child_nodes(node)]
        return owner


def _equal(kept: Sequence[ast.stmt], position: int, statement: ast.stmt) -> bool:
    return position < len(kept) and ast.dump(kept[position]) == ast.dump(statement)


def _scope(owner: ast.AST, name: str) -> Iterator[ast.AST]:
    """The nodes of a scope and of those within that do not bind the name themselves."""
    for child in ast.iter_child_nodes(owner):
        if isinstance(
            child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)
        ) and (_binds(child, name)):
            continue
        yield child
        yield from _scope(child, name)


def _binds(scope: Any, name: str) -> bool:
    arguments = getattr(scope, "args", None)
    if isinstance(arguments, ast.arguments) and any(
        isinstance(a, ast.arg) and a.arg == name for a in ast.walk(arguments)
    ):
        return True
    body = scope.body if isinstance(scope.body, list) else [scope.body]
    return any(
        isinstance(n, ast.Name) and n.id == name and isinstance(n.ctx, ast.Store)
        for s in body
        for n in ast.walk(s)
    )


# Running ------------------------------------------------------------------------------------------


@dataclass
class Tally:
    """What the cases of a kind did."""

    cases: int = 0
    compiled: int = 0
    sites: int = 0
    rewritten: int = 0
    edits: int = 0
    failures: int = 0
    seconds: float = 0.0

    def add(self, other: Tally) -> None:
        """Add the numbers of another one."""
        for name in asdict(other):
            setattr(self, name, getattr(self, name) + getattr(other, name))


@dataclass
class Failure:
    """A case that failed."""

    case: Case
    check: str
    message: str


@dataclass
class Result:
    """What several cases did."""

    tallies: dict[str, Tally] = field(default_factory=dict)
    rules: Counter[tuple[str, str]] = field(default_factory=Counter)
    changed: Counter[tuple[str, str]] = field(default_factory=Counter)
    failures: list[Failure] = field(default_factory=list)

    def add(self, other: Result) -> None:
        """Add the numbers of another one."""
        for kind, tally in other.tallies.items():
            self.tallies.setdefault(kind, Tally()).add(tally)
        self.rules.update(other.rules)
        self.changed.update(other.changed)
        self.failures += other.failures

    def total(self) -> Tally:
        """All kinds together."""
        total = Tally()
        for tally in self.tallies.values():
            total.add(tally)
        return total

    def asleep(self) -> list[str]:
        """The rules that found nothing for a target they serve."""
        return [
            f"{rule.code} {target}"
            for rule in rules.load().rules
            for target in rule.targets
            if not rule.files and rule.code not in ELSEWHERE and not self.rules[rule.code, target]
        ]


@contextlib.contextmanager
def limited() -> Iterator[None]:
    """Raise `Slow` after too long a time, where the system can."""

    def ring(*_: object) -> None:
        raise Slow

    if not hasattr(signal, "SIGALRM"):
        yield
        return
    before = signal.signal(signal.SIGALRM, ring)
    signal.alarm(SECONDS)
    try:
        yield
    finally:
        signal.alarm(0)
        signal.signal(signal.SIGALRM, before)


def attempt(case: Case) -> tuple[Counts, Failure | None]:
    """Check one case."""
    checker = Checker(case)
    try:
        with limited():
            checker.run()
    except Broken as error:
        return checker.counts, Failure(case, error.check, error.message)
    except Slow:
        return checker.counts, Failure(case, "slow", f"took more than {SECONDS} s")
    except Exception:
        return checker.counts, Failure(case, "raised", traceback.format_exc())
    return checker.counts, None


def several(seed: int, indices: Sequence[int], sources: Sources) -> Result:
    """Make and check the cases of some numbers."""
    result = Result()
    for index in indices:
        begin = time.perf_counter()
        made = case(seed, index, sources)
        counts, failure = attempt(made)
        tally = result.tallies.setdefault(made.kind, Tally())
        tally.add(Tally(1, counts.compiled, counts.sites > 0, counts.rewritten > 0, counts.edits,
                        failure is not None, time.perf_counter() - begin))  # fmt: skip
        name = made.goal.name
        result.rules.update({(rule, name): n for rule, n in counts.rules.items()})
        result.changed.update({(rule, name): n for rule, n in counts.changed.items()})
        if failure is not None:
            result.failures.append(failure)
    return result


_SOURCES = Sources()


def _chunk(work: tuple[int, range]) -> Result:
    return several(work[0], work[1], _SOURCES)


def _quietly() -> None:
    """Leave it to the first process to say that a run was stopped."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


def fuzz(seed: int, cases: int, sources: Sources, jobs: int = 1,
         tell: Callable[[Result], None] = lambda result: None) -> Result:  # fmt: skip
    """Make and check cases, in several processes if asked to."""
    global _SOURCES
    _SOURCES = sources
    result = Result()
    chunks = [(seed, range(i, min(i + CHUNK, cases))) for i in range(0, cases, CHUNK)]
    if jobs == 1:
        for chunk in chunks:
            result.add(_chunk(chunk))
            tell(result)
        return result
    with multiprocessing.get_context("fork").Pool(jobs, _quietly) as pool:
        for part in pool.imap_unordered(_chunk, chunks):
            result.add(part)
            tell(result)
    return result


# Failing cases ------------------------------------------------------------------------------------


def minimal(failure: Failure, seconds: float = 20) -> bytes:
    """The case made smaller as long as it fails in the same way."""
    end = time.monotonic() + seconds
    rule = _rules(failure)

    def fails(data: bytes) -> bool:
        if time.monotonic() > end:
            return False
        old = failure.case
        _, found = attempt(Case(old.seed, old.index, old.kind, data, old.goal))
        return found is not None and found.check == failure.check and _rules(found) == rule

    data = failure.case.data
    for pattern in (rb"[^\r\n]*(?:\r\n|\r|\n|$)", rb"\w+|\s+|[^\w\s]", rb"(?s)."):
        parts = [p for p in re.findall(pattern, data) if p]
        size = max(len(parts) // 2, 1)
        while size and len(parts) > 1:
            at, smaller = 0, False
            while at < len(parts):
                trial = parts[:at] + parts[at + size :]
                if fails(b"".join(trial)):
                    parts, smaller = trial, True
                else:
                    at += size
            if not smaller or size > len(parts):
                size //= 2
        data = b"".join(parts)
    return data


def _rules(failure: Failure) -> tuple[str, ...]:
    return tuple(sorted(set(re.findall(r"POR\d{3}", failure.message.splitlines()[0]))))


def keep(folder: Path, failure: Failure, small: bytes) -> Path:
    """Write a failing case as JSON."""
    folder.mkdir(parents=True, exist_ok=True)
    case = failure.case
    path = folder / f"{failure.check}-{case.seed}-{case.index}.json"
    content = {
        "check": failure.check, "message": failure.message, "seed": case.seed, "index": case.index,
        "kind": case.kind, "target": case.goal.name, "min_torch": list(case.goal.min_torch),
        "hardware": case.goal.hardware, "minimal": small.decode("latin-1"),
        "program": case.data.decode("latin-1"),
    }  # fmt: skip
    path.write_text(json.dumps(content, indent=1) + "\n")
    return path


def kept(path: Path, part: str = "program") -> Case:
    """Read a case that was kept; `part` may be "minimal"."""
    found = json.loads(path.read_text())
    goal = Target(found["target"], tuple(found["min_torch"]), hardware=found["hardware"])
    return Case(found["seed"], found["index"], found["kind"], found[part].encode("latin-1"), goal)


# The command line ---------------------------------------------------------------------------------


def table(result: Result, seed: int) -> str:
    """The numbers as a table in Markdown."""
    lines = ["| Kind | Cases | Compile | With sites | With rewrites | Edits | Failures | Seconds | Seed |",
             "| --- | --- | --- | --- | --- | --- | --- | --- | --- |"]  # fmt: skip
    for kind, t in [*sorted(result.tallies.items()), ("all", result.total())]:
        lines.append(
            f"| {kind} | {t.cases} | {t.compiled} | {t.sites} | {t.rewritten} | {t.edits} "
            f"| {t.failures} | {t.seconds:.0f} | {seed} |"
        )
    return "\n".join(lines)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="Look for cases in which porter breaks its word.")
    commands = parser.add_subparsers(dest="command", required=True)
    run = commands.add_parser("python", help="make cases and check them")
    run.add_argument("--cases", type=int, default=2000)
    run.add_argument("--seed", type=int, default=1)
    run.add_argument("--jobs", type=int, default=1)
    run.add_argument("--corpus", type=Path, help="a folder of Python files to change")
    run.add_argument("--keep", type=Path, help="where failing cases go")
    run.add_argument("--smith", type=int, default=150, help="programs that hypothesmith makes")
    replay = commands.add_parser("replay", help="check cases that were kept")
    replay.add_argument("files", type=Path, nargs="+")
    options = parser.parse_args()
    if options.command == "replay":
        return _replay(options.files)
    sources = Sources(
        Corpus.of(options.corpus, options.seed) if options.corpus else None,
        programs.smithed(options.seed, options.smith) if options.smith else (),
    )
    seen: Counter[str] = Counter()
    done_so_far = Result()

    def tell(result: Result) -> None:
        nonlocal done_so_far
        done_so_far = result
        for failure in result.failures:
            sign = f"{failure.check} {' '.join(_rules(failure))}"
            seen[sign] += 1
            if seen[sign] <= KEPT:
                small = minimal(failure)
                print(f"\n{sign} (case {failure.case.index})\n{failure.message}", flush=True)
                print(small.decode("utf-8", "backslashreplace"), flush=True)
                if options.keep:
                    keep(options.keep, failure, small)
        result.failures.clear()
        done = result.total()
        print(f"\r{done.cases} cases, {done.failures} failed", end="", file=sys.stderr, flush=True)

    for end in (signal.SIGINT, signal.SIGTERM):
        signal.signal(end, signal.default_int_handler)
    try:
        result = fuzz(options.seed, options.cases, sources, options.jobs, tell)
    except KeyboardInterrupt:
        result = done_so_far
        print("\nstopped early")
    print(file=sys.stderr)
    for sign, count in seen.most_common():
        print(f"{count} x {sign}")
    print(table(result, options.seed))
    asleep, total = result.asleep(), result.total()
    print(f"never woken: {', '.join(asleep) or 'none'}")
    still = [f"{r.code} {t}" for r in rules.load().rules for t in r.targets
             if any(getattr(e, t) is not None for e in r.examples) and not r.files
             and not result.changed[r.code, t]]  # fmt: skip
    print(f"never rewrote anything: {', '.join(still) or 'none'}")
    return int(total.failures > 0 or total.rewritten * 2 < total.cases)


def _replay(files: Sequence[Path]) -> int:
    bad = 0
    for path in files:
        _, failure = attempt(kept(path))
        bad += failure is not None
        print(f"{path.name}: {failure.check + ': ' + failure.message if failure else 'holds'}")
    return int(bad > 0)


if __name__ == "__main__":
    sys.exit(main())
