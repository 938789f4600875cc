"""`porter check`: print what migrate would rewrite and leave."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from porter.commands import running
from porter.commands.command import Choices, command, option
from porter.commands.options import PATH, Analysis, Format, analysis
from porter.commands.running import FINDINGS, OK, TROUBLE
from porter.problem import Mistake

if TYPE_CHECKING:
    from porter.baseline import Applied, Baseline, Bounds
    from porter.runner import Request, Run


@command("check")
@analysis
@option(
    "--output-format",
    type=Choices(Format),
    default=Format.CONCISE.value,
    help="How to print findings.",
)
@option("--statistics", is_flag=True, help="Count findings by rule instead.")
@option(
    "--baseline",
    type=PATH,
    metavar="FILE",
    help="Leave out findings that FILE accepts; drop from it what is gone.",
)
@option("--write-baseline", type=PATH, metavar="FILE", help="Accept all present findings in FILE.")
@option(
    "--changed",
    metavar="[=REV]",
    help="Only files that differ from where the branch left REV (HEAD if not given).",
)
@option("--diff-only", metavar="REV", help="Only lines that differ from REV.")
@option(
    "--add-ignores",
    is_flag=True,
    help="Silence all findings by `# porter: ignore[CODE]` comments.",
)
@option("--exit-zero", is_flag=True, help="Exit with 0 even if there are findings.")
def check(
    analysis: Analysis,
    output_format: Format,
    statistics: bool,
    baseline: Path | None,
    write_baseline: Path | None,
    changed: str | None,
    diff_only: str | None,
    add_ignores: bool,
    exit_zero: bool,
) -> int:
    """Print what migrate would rewrite and leave; write nothing."""
    from porter.levels import Status

    request = running.request(analysis)
    if write_baseline is not None and (baseline or changed or diff_only or request.stdin):
        raise Mistake("--write-baseline accepts the findings of whole files, and of all of them")
    running.check_report(analysis.report)
    run = running.run(_narrowed(request, changed), analysis.quiet)
    if write_baseline is not None:
        return _write_baseline(run, write_baseline)
    run = _without_accepted(run, request, baseline, diff_only)
    if add_ignores:
        return _add_ignores(run, request)
    running.write_report(run, analysis.report)
    _print_findings(run, output_format, statistics, analysis.verbose)
    code = running.finish(run, True, analysis.verbose, wrote=False)
    rewritable = sum(not site.accepted for site in run.report.having(Status.REWRITTEN))
    pending = len(run.report.pending)
    if not analysis.quiet:
        from porter.display import plural, skipped, unshown_advice

        accepted = sum(site.accepted for site in run.report.sites)
        known = f", {accepted} in the baseline" if accepted else ""
        print(
            f"{plural(rewritable, 'site')} to rewrite ([*]: `porter migrate` does), "
            f"{pending} left for a person{known}.",
            file=sys.stderr,
        )
        for line in skipped(run.report, running.shown_before(run), analysis.verbose):
            print(line, file=sys.stderr)
        if os.environ.get("PRE_COMMIT"):
            _offer(run, _repeated(analysis))
        advice = "" if analysis.verbose else unshown_advice(run.report)
        if advice:
            print(advice, file=sys.stderr)
    if code == OK and rewritable:
        code = FINDINGS
    return OK if exit_zero and code == FINDINGS else code


def _offer(run: Run, options: Sequence[str]) -> None:
    """Tell what to do next, in a hook whose user may never have called porter."""
    from porter.display import findings

    found = findings(run.report)
    if not found:
        return
    from porter.offer import lines

    for line in lines(found, run.base, options):
        print(line, file=sys.stderr)


def _repeated(given: Analysis) -> list[str]:
    """The options that make a migration do what this check said."""
    single = {
        "--target": given.target,
        "--min-torch": given.min_torch,
        "--torch-npu": given.torch_npu,
        "--hardware": given.hardware,
    }
    words = [word for name, value in single.items() if value for word in (name, value)]
    words += [] if given.unsafe is None else ["--unsafe" if given.unsafe else "--safe"]
    for name, values in (("--select", given.select), ("--ignore", given.ignore)):
        words += [name, ",".join(values)] if values else []
    return words


def _narrowed(request: Request, revision: str | None) -> Request:
    """The request for files that differ from a revision only."""
    from dataclasses import replace

    if revision is None:
        return request
    from porter import changed

    if request.stdin is not None:
        raise Mistake("--changed needs files, not standard input")
    return replace(request, only=frozenset(changed.files(request.paths, revision)))


def _without_accepted(run: Run, request: Request, path: Path | None, revision: str | None) -> Run:
    """The run without what a baseline accepts and without lines that have not changed."""
    from dataclasses import replace

    if (path or revision) and request.stdin is not None:
        raise Mistake("--baseline and --diff-only need files, not standard input")
    report = run.report
    if path is not None:
        from porter import baseline

        found = baseline.read(path)
        seen = _seen_from(run, path, baseline.paths(found))
        applied = baseline.apply(report, found, *seen, _bounds(run, seen[0]))
        report = applied.report
        if applied.gone:
            _shrink(path, found, applied)
    if revision is not None:
        from porter.changed import only_changed_lines

        report = only_changed_lines(report, run.base.joinpath, request.paths, revision)
    return replace(run, report=report)


def _shrink(path: Path, before: Baseline, applied: Applied) -> None:
    """Take out of a baseline what is gone; if that cannot be done now, a later run does it."""
    from porter.baseline import as_json
    from porter.writing import WriteProblem, write_atomic

    gone = f"{applied.gone} accepted findings are gone"
    try:
        write_atomic(path, as_json(applied.kept).encode(), expected=before.source)
        running.note(f"{path}: {gone} and were taken out")
    except WriteProblem as problem:
        running.note(f"{problem.message}: {gone} and stay in it")


def _write_baseline(run: Run, path: Path) -> int:
    from porter import baseline

    found = baseline.of(run.report, _seen_from(run, path)[0])
    _save_baseline(path, found)
    running.note(f"{path}: {sum(found.entries.values())} findings are accepted from now on")
    return TROUBLE if run.report.failed else OK


def _save_baseline(path: Path, found: Baseline) -> None:
    from porter.baseline import as_json
    from porter.writing import write_atomic

    write_atomic(path, as_json(found).encode(), expected=None)


def _add_ignores(run: Run, request: Request) -> int:
    from porter import own
    from porter.deliver import add_ignores
    from porter.display import plural

    if request.stdin is not None:
        raise Mistake("--add-ignores needs files, not standard input")
    silenced, left = add_ignores(run)
    for path, reason in left.items():
        running.error(f"{path}: {reason}", TROUBLE)
    running.note(f"{plural(silenced, 'finding')} silenced by comments; say why behind each")
    others = [s for s in run.report.pending if s.rule in own.CODES]
    if others:
        codes = ", ".join(sorted({s.rule for s in others}))
        running.note(
            f"{plural(len(others), 'finding')} about whole files ({codes}) left: a baseline "
            "or --ignore hides them"
        )
    return TROUBLE if run.report.failed or left else OK


def _seen_from(run: Run, path: Path, names: Iterable[str] = ()) -> tuple[str, set[str]]:
    """The run's folder from that of a baseline, and which of its names are files not read."""
    from porter.baseline import moved

    folder = os.path.realpath(path.parent)
    prefix = Path(os.path.relpath(os.path.realpath(run.base), folder)).as_posix()
    read = {moved(prefix, file.path) for file in run.report.files}
    return prefix, {n for n in names if n not in read and os.path.lexists(Path(folder, n))}


def _bounds(run: Run, prefix: str) -> Bounds:
    """What the run knows of the project's requirements, for a baseline."""
    from porter import own
    from porter.baseline import Bounds, moved

    start = os.path.realpath(run.base)
    asked = (Path(os.path.relpath(os.path.realpath(p), start)) for p in run.choice.asked)
    return Bounds(own.TORCH_BOUND, {moved(prefix, p.as_posix()) for p in asked}, run.waiting)


def _print_findings(run: Run, form: Format, statistics: bool, verbose: bool) -> None:
    from porter import display

    rules, ink = running.rules(), display.Ink(sys.stdout)
    sites = display.findings(run.report, everything=verbose)
    if form is Format.JSON:
        from porter.report import as_json

        print(as_json(run.report), end="")
        return
    if form not in (Format.CONCISE, Format.FULL, Format.GITHUB):
        from porter import reading
        from porter.report import as_data

        text = reading.shown(as_data(run.report), form.value, reading.prefix(run.base))
        running.stdout(text.encode())
        return
    if statistics:
        for line in display.statistics(sites, rules):
            print(line)
        return
    for site in sites:
        path = (run.base / site.path).as_posix()
        if form is Format.GITHUB:
            print(display.github(site, path, rules))
        else:
            show = display.full if form is Format.FULL else display.concise
            print(show(site, path, rules, ink))
