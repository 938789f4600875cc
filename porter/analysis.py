"""The analysis of one file: from its bytes to what was found and its new bytes.

Nothing is raised: what goes wrong in a file is its result, so that no file can end a run.
"""

from __future__ import annotations

import hashlib
import re
import traceback
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from porter import catalog as rules
from porter import engine, files, own
from porter.catalog import Catalog
from porter.hunks import Hunk, compare
from porter.notebook import Notebook
from porter.pool import DIED, Progress, Work, processes, spread
from porter.report import FileStatus, SiteReport
from porter.report import said as said
from porter.rule import Category, Edit, Safety, Status
from porter.source import UTF16, SourceProblem, decode_python, decode_text
from porter.suppress import Suppressions, mention
from porter.syntax import TOO_DEEP, LineIndex, SyntaxProblem, parse
from porter.task import FileResult as FileResult
from porter.task import Plan as Plan
from porter.task import Task as Task
from porter.task import packed
from porter.text import analyse_text, wants
from porter.text_site import TextFile, TextProblem

#: Bytes of an unreadable file in which lines to look at are searched for.
LOOKED_AT = 200_000
#: Below so many bytes to analyse, starting processes costs more than they save.
SERIAL_BYTES = 600_000
#: Lines before and after a site that a report shows, and how much of each.
AROUND = 3
WIDEST = 400


def analyse_all(
    tasks: Sequence[Task], plan: Plan, jobs: int = 0, progress: Progress | None = None
) -> list[FileResult]:
    """Analyse files, in processes where that pays; results in the order of the tasks."""
    if tasks:
        plan.catalog()  # loaded here once, and so in every forked process
    size = sum(task.size for task in tasks)
    work = Work(analyse, plan, lambda task: failure(task, DIED), weight=lambda task: task.size)
    return spread(work, tasks, processes(jobs, size, SERIAL_BYTES), progress)


def analyse(task: Task, plan: Plan) -> FileResult:
    """Analyse one file. Whatever goes wrong is in the result; nothing is raised."""
    try:
        data = task.data if task.data is not None else files.read(task.path)
        if task.kind == "other" and wants(rules.load(), task.shown):
            return _other(task, plan, data)
        if data.startswith(UTF16):
            raise SourceProblem("is UTF-16; save it as UTF-8 so that Python can read it")
        if task.kind == "notebook":
            return _notebook(task, plan, data)
        source = decode_python(task.shown, data)
        outcome, sites = _analysed(task, plan, source.text)
        after = source.encode(outcome.text) if outcome.text != source.text else None
        hunks = compare(source.text, outcome.text)
        return _result(outcome, sites, data, after, hunks)
    except OSError as problem:
        return failure(task, f"cannot be read: {problem.strerror or problem}")
    except SourceProblem as problem:
        return failure(task, problem.message)
    except SyntaxProblem as problem:
        return failure(task, problem.message, problem.line, problem.column)
    except RecursionError:
        return failure(task, TOO_DEEP)
    except MemoryError:
        return failure(task, "needs more memory than there is; split the file or exclude it")
    except engine.RuleProblem as problem:
        return failure(task, str(problem), problem.line, trace=traceback.format_exc())
    except Exception as problem:
        what = f"{type(problem).__name__}: {problem}".splitlines()[0]
        return failure(task, f"internal error ({what}); please report this",
                        trace=traceback.format_exc())  # fmt: skip


def _analysed(task: Task, plan: Plan, text: str) -> tuple[engine.Outcome, list[SiteReport]]:
    catalog = plan.catalog(task.ignored)

    def analysed(unsafe: bool) -> engine.Outcome:
        return engine.analyse(
            text,
            catalog,
            plan.target,
            path=task.shown,
            dotted=task.dotted,
            unsafe=unsafe,
            facts=plan.facts,
        )

    outcome = analysed(plan.unsafe)
    lines = re.split(r"\r\n|\r|\n", text)
    sites = [_around(s, lines) for s in _sites(task, outcome, lambda: analysed(True))]
    sites += _comments(task, plan, Suppressions.read(text), outcome, lines)
    return outcome, sites


def _comments(
    task: Task,
    plan: Plan,
    suppressions: Suppressions,
    outcome: engine.Outcome,
    lines: Sequence[str],
) -> Iterator[SiteReport]:
    """Comments that hide nothing, because they name no rule or none that found something."""
    blanket = plan.catalog(task.ignored).get(own.BLANKET)
    for line in suppressions.malformed if blanket is not None else ():
        comment = lines[line - 1]
        at = mention(comment)
        mark = "//" if comment.startswith("//", at) else "#"
        why = f"names no rule, so it hides nothing; write `{mark} porter: ignore[CODE] reason`"
        if blanket is not None:
            yield said(task.shown, blanket, line, at + 1, comment, why)
    yield from _unused(task, plan, suppressions, outcome, lines)


def _unused(
    task: Task,
    plan: Plan,
    suppressions: Suppressions,
    outcome: engine.Outcome,
    lines: Sequence[str],
) -> Iterator[SiteReport]:
    """Comments that silence nothing, as far as their rules were looked for."""
    catalog = plan.catalog(task.ignored)
    unused = catalog.get(own.UNUSED)
    if unused is None or outcome.problem:
        return
    for comment, code in suppressions.unused(outcome.silenced):
        named = [r for r in rules.load().rules if r.code.startswith(code)]
        if named and all(r.code in own.CODES for r in named):
            continue  # these are said about files and comments, which no comment silences
        looked_for = [r for r in named if plan.target.name in r.targets and catalog.get(r.code)]
        if (named and not looked_for) or (comment.foreign and not named):
            continue
        why = "silences nothing here" if named else "is the code of no rule"
        text, column = lines[comment.line - 1], comment.column + 1
        yield said(task.shown, unused, comment.line, column, text, f"{code} {why}; take it out")


def _around(site: SiteReport, lines: Sequence[str]) -> SiteReport:
    """The site with the lines around it."""
    start = max(1, site.line - AROUND)
    shown = lines[start - 1 : site.line + AROUND]
    cut = (line if len(line) <= WIDEST else line[:WIDEST] + " ..." for line in shown)
    return replace(site, snippet=tuple(cut), snippet_start=start)


def _sites(
    task: Task, outcome: engine.Outcome, unsafe: Callable[[], engine.Outcome]
) -> list[SiteReport]:
    """The sites of a file, with what `--unsafe` would write where a rewrite awaits approval."""
    waiting = any(
        s.status is Status.LEFT and s.finding.safety is Safety.UNSAFE for s in outcome.settled
    )
    approved = {
        (s.finding.rule, s.line, s.column): s
        for s in (unsafe().settled if waiting else ())
        if s.status is Status.REWRITTEN
    }
    return [
        _site(task, s, approved.get((s.finding.rule, s.line, s.column)), tried=True)
        for s in outcome.settled
    ]


def _site(
    task: Task,
    settled: engine.Settled,
    proposed: engine.Settled | None = None,
    *,
    tried: bool = False,
) -> SiteReport:
    """One site; `tried` says that `proposed` tells whether `--unsafe` would rewrite it."""
    finding = settled.finding
    reason, safety = finding.reason, finding.safety
    waits = settled.status is Status.LEFT and safety is Safety.UNSAFE
    if waits and tried and proposed is None:
        safety = Safety.MANUAL  # what stands around it keeps it from being rewritten at all
    elif waits:
        reason = f"{reason or 'not certain to keep the behaviour'} (--unsafe rewrites it)"
    proposed = proposed if waits else None
    return SiteReport(
        path=task.shown,
        line=settled.line,
        column=settled.column,
        rule=finding.rule,
        status=settled.status,
        safety=safety,
        category=finding.category or Category.MANDATORY,
        effort=finding.effort or 0,
        symbol=finding.symbol,
        before=proposed.before if proposed else settled.before,
        after=settled.after,
        proposed=proposed.after if proposed else "",
        reason=reason,
    )


def _result(
    outcome: engine.Outcome,
    sites: Sequence[SiteReport],
    data: bytes,
    after: bytes | None,
    hunks: tuple[Hunk, ...],
) -> FileResult:
    return FileResult(
        FileStatus.UNCHANGED if after is None else FileStatus.CHANGED,
        outcome.problem,
        tuple(sites),
        None if after is None else packed(after),
        hashlib.sha256(data).hexdigest(),
        outcome.suppressed,
        hunks=hunks,
    )


def failure(
    task: Task, reason: str, line: int = 0, column: int = 1, *, trace: str = ""
) -> FileResult:
    """The result of a file that cannot be analysed; `reason` may begin with "line N: "."""
    reason = " ".join(reason.split())
    if not line:
        named = re.match(r"line (\d+): ", reason)
        line = int(named[1]) if named else 1
    rule = rules.load().get(own.UNREADABLE)
    site = [said(task.shown, rule, line, column, "", reason)] if rule is not None else []
    where = f"line {line}: " if line > 1 and f"line {line}" not in reason else ""
    return FileResult(FileStatus.FAILED, where + reason, tuple(site), trace=trace)


# Files other than Python ------------------------------------------------------------------------


def _other(task: Task, plan: Plan, data: bytes) -> FileResult:
    catalog = plan.catalog(task.ignored)
    try:
        if data.startswith(UTF16):
            raise SourceProblem("is UTF-16; save it as UTF-8")
        source = decode_text(task.shown, data)

        def analysed(unsafe: bool) -> engine.Outcome:
            return analyse_text(
                source.text,
                catalog,
                plan.target,
                task.shown,
                unsafe=unsafe,
                callers=plan.callers,
            )

        outcome = analysed(plan.unsafe)
        found = _sites(task, outcome, lambda: analysed(True))
    except SourceProblem as problem:
        named = re.match(r"line (\d+): ", problem.message)
        return _not_read(task, catalog, data, problem.message, int(named[1]) if named else 1)
    except TextProblem as problem:
        return _not_read(task, catalog, data, problem.message, problem.line)
    lines = re.split(r"\r\n|\r|\n", source.text)
    sites = [_around(site, lines) for site in found]
    silence = Suppressions.read_file(TextFile(source.text, task.shown))
    sites += _comments(task, plan, silence, outcome, lines)
    after = source.encode(outcome.text) if outcome.text != source.text else None
    return _result(outcome, sites, data, after, compare(source.text, outcome.text))


def _not_read(task: Task, catalog: Catalog, data: bytes, why: str, line: int) -> FileResult:
    """A relevant file that is not what its name says: left alone, with one finding."""
    head = data[:LOOKED_AT].lower()
    words = re.compile(b"|".join(map(re.escape, catalog.text_words)) or b"(?!)")
    numbers = {head.count(b"\n", 0, found.start()) + 1 for found in words.finditer(head)}
    first = ", ".join(map(str, sorted(numbers)[:5]))
    more = f" and {len(numbers) - 5} more" if len(numbers) > 5 else ""
    where = f"; look at line{'s' if len(numbers) > 1 else ''} {first}{more}" if numbers else ""
    rule = catalog.get(own.UNREAD_TEXT)
    lines = data.splitlines()
    shown = lines[line - 1][:WIDEST].decode("utf-8", "replace") if line <= len(lines) else ""
    shown = "" if "\0" in shown else shown
    site = [said(task.shown, rule, line, 1, shown, why + where)] if rule is not None else []
    place = "" if why.startswith("line ") or line == 1 else f"line {line}: "
    return FileResult(FileStatus.SKIPPED, place + why, tuple(site))


# Notebooks --------------------------------------------------------------------------------------


def _notebook(task: Task, plan: Plan, data: bytes) -> FileResult:
    try:
        notebook = Notebook.parse(data, parse)
    except SourceProblem as problem:
        if problem.message.startswith("the notebook's language"):
            return FileResult(FileStatus.SKIPPED, problem.message)
        raise
    outcome, sites = _analysed(task, plan, notebook.text)
    after = notebook.rewrite(outcome.text) if outcome.text != notebook.text else None
    index = LineIndex(notebook.text)
    placed = [_in_cell(site, notebook, index) for site in sites]
    commands = _commands(task, plan, notebook)
    after = _with_commands(notebook, data, after, commands)
    for start, inside in commands.items():
        placed += _in_command(task, notebook, start, inside)
    placed += _unread(task, plan, notebook, commands)
    hunks = compare(_shown(data), _shown(after)) if after is not None else ()
    return _result(outcome, placed, data, after, hunks)


def _shown(data: bytes) -> str:
    return data.decode("utf-8", "surrogateescape")


def _in_cell(site: SiteReport, notebook: Notebook, index: LineIndex) -> SiteReport:
    at = notebook.locate(index.line_start(site.line) + site.column - 1)
    numbers = range(site.snippet_start, site.snippet_start + len(site.snippet))
    cells = [notebook.locate(index.line_start(number)).cell_index for number in numbers]
    inside = [i for i, cell in enumerate(cells) if cell == at.cell_index]
    start = at.line - site.line + numbers[inside[0]] if inside else 0
    return replace(
        site,
        cell=at.cell_index + 1,
        line=at.line,
        column=at.column + 1,
        snippet=tuple(site.snippet[i] for i in inside),
        snippet_start=start,
    )


#: What stands before a shell command in a cell: `!`, `%pip`, `%%bash`.
_TO_SHELL = re.compile(
    r"!{1,2}|%(?=(?:pip|conda|mamba|uv)\b)|%(?:env|set_env|sx|sc|system)\b"
    r"|%%(?:bash|sh|script[ \t]+(?:ba)?sh|shell|system|sx)[^\r\n]*"
)


def _commands(task: Task, plan: Plan, notebook: Notebook) -> dict[int, engine.Outcome]:
    """What rules for shell scripts say of a notebook's commands, by where each begins."""
    found = {}
    catalog = plan.catalog(task.ignored)
    for magic in notebook.magics:
        lead = _TO_SHELL.match(magic.text)
        data = magic.text.encode("utf-8", "surrogatepass")
        if lead is None or not catalog.may_concern(data):
            continue
        shell = " " * lead.end() + magic.text[lead.end() :]
        try:
            outcome = analyse_text(shell, catalog, plan.target, "cell.sh", unsafe=plan.unsafe)
        except TextProblem:
            continue
        if outcome.settled:
            found[magic.start] = outcome
    return found


def _in_command(
    task: Task, notebook: Notebook, start: int, outcome: engine.Outcome
) -> Iterator[SiteReport]:
    for settled in outcome.settled:
        at = notebook.locate(start + settled.finding.start)
        site = _site(task, settled)
        yield replace(site, cell=at.cell_index + 1, line=at.line, column=at.column + 1)


def _with_commands(
    notebook: Notebook, data: bytes, after: bytes | None, commands: Mapping[int, engine.Outcome]
) -> bytes | None:
    """The notebook's bytes with its commands rewritten as well."""
    now = Notebook.parse(data if after is None else after, parse)
    if [m.text for m in now.magics] != [m.text for m in notebook.magics]:
        return after
    edits = [
        Edit.of(new.start + e.start, new.start + e.end, e.text)
        for old, new in zip(notebook.magics, now.magics, strict=True)
        if old.start in commands
        for settled in commands[old.start].settled
        if settled.status is Status.REWRITTEN
        for e in settled.finding.edits
    ]
    return now.apply(list(dict.fromkeys(edits))) if edits else after


def _unread(
    task: Task, plan: Plan, notebook: Notebook, commands: Mapping[int, engine.Outcome]
) -> Iterator[SiteReport]:
    """Commands and cells that are not Python but hold what rules look for."""
    catalog = plan.catalog(task.ignored)
    rule = catalog.get(own.NOT_PYTHON)
    if rule is None:
        return
    for magic in notebook.magics:
        if magic.start in commands:
            continue
        if catalog.marker.search(magic.text.encode("utf-8", "surrogatepass")):
            at = notebook.locate(magic.start)
            line = magic.text.splitlines()[0]
            reason = "IPython magic or command: porter changes Python code only; check it"
            site = said(task.shown, rule, at.line, at.column + 1, line, reason)
            yield replace(site, cell=at.cell_index + 1)
    for cell, problem in notebook.unparsed:
        reason = f"this cell is not Python ({problem}) and was not read; check it"
        yield replace(said(task.shown, rule, 1, 1, "", reason), cell=cell + 1)
