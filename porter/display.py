"""What people see: findings, the summary, rule pages, and a progress bar on terminals."""

from __future__ import annotations

import os
import re
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TextIO

from porter.levels import QUIET, Category, Status

if TYPE_CHECKING:
    from typing import Protocol

    from porter.report import Report, SiteReport
    from porter.rule import Example, Rule

    class Named(Protocol):
        """A rule, as far as it is shown with what it found."""

        @property
        def name(self) -> str:
            """The pattern found, in kebab case."""

    class Rules(Protocol):
        """What knows the names of rules: a catalog, or what is known without loading it."""

        def get(self, code: str, /) -> Named | None:
            """The rule of that code."""


#: Seconds before the bar appears: what ends sooner needs none.
PATIENCE = 2.0
#: How many places are named for each reason in a summary.
PLACES = 3
_UNREADABLE = "POR000"
#: What a terminal acts on instead of showing it; tabs do no harm.
_CONTROL = re.compile("[\x00-\x08\x0a-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
#: How a line begins, and what stands anywhere in it, that the runners of GitHub, Azure and
#: TeamCity take for a command.
_COMMAND = re.compile(r"^\s*:(?=:[\w-]+(?:[ ][^\n]*)?::)|#(?=#(?:vso|teamcity)?\[)")
_STYLES = {"bold": "1", "dim": "2", "red": "31", "green": "32", "yellow": "33", "cyan": "36"}


class Ink:
    """Colours for one stream: none in pipes, with NO_COLOR (https://no-color.org) or TERM=dumb."""

    def __init__(self, stream: TextIO) -> None:
        """Decide once for `stream`."""
        plain = bool(os.environ.get("NO_COLOR")) or os.environ.get("TERM") == "dumb"
        self._on = stream.isatty() and not plain

    def __call__(self, style: str, text: str) -> str:
        """Return `text` in a style such as "red"."""
        return f"\x1b[{_STYLES[style]}m{text}\x1b[0m" if self._on else text


class Bar:
    """A progress bar on a terminal, after some time; nothing anywhere else."""

    def __init__(self, stream: TextIO, *, quiet: bool = False, what: str = "files") -> None:
        """Prepare a bar on `stream` that counts `what`."""
        self._what = what
        self._stream = stream
        self._on = stream.isatty() and not quiet and os.environ.get("TERM") != "dumb"
        self._start = time.monotonic()
        self._last = 0.0
        self._drawn = False

    def __call__(self, done: int, total: int) -> None:
        """Show that `done` of `total` are done."""
        now = time.monotonic()
        if not self._on or now - self._start < PATIENCE or now - self._last < 0.1:
            return
        import shutil

        self._last = now
        width = max(10, min(40, shutil.get_terminal_size().columns - 30))
        full = width * done // total if total else 0
        text = f"[{'#' * full}{'.' * (width - full)}] {done}/{total} {self._what}"
        self._stream.write(f"\r{text}\x1b[K")
        self._stream.flush()
        self._drawn = True

    def clear(self) -> None:
        """Take the bar away."""
        if self._drawn:
            self._stream.write("\r\x1b[K")
            self._stream.flush()
            self._drawn = False


def visible(text: str) -> str:
    """The text on one line and in its place: control characters and what begins commands escaped.

    A name or a line of code could otherwise move the cursor, or look like a command to the
    program that reads the log of a CI job.
    """
    return _COMMAND.sub(
        lambda found: f"{found.group()[:-1]}\\x{ord(found.group()[-1]):02x}", control(text)
    )


def control(text: str) -> str:
    """The text with control characters as escapes."""
    return _CONTROL.sub(lambda found: repr(found.group())[1:-1], text)


def plural(count: int, word: str) -> str:
    """Like "1 site", "2 sites"."""
    return f"{count} {word}" if count == 1 else f"{count} {word}s"


# Findings ---------------------------------------------------------------------------------------


def findings(report: Report, *, everything: bool = False) -> list[SiteReport]:
    """The sites that `check` shows.

    Args:
        report: the run.
        everything: add information, and all advice; without it, advice is shown only if the
            selection of rules asks for it in particular ("POR92").
    """
    return [
        s
        for s in report.sites
        if not s.accepted
        and (everything or s.status is not Status.INFORMATION or _asked(s, report))
    ]


def _asked(site: SiteReport, report: Report) -> bool:
    """Whether advice was asked for by more of its code than the letters all rules share."""
    return site.category is Category.ADVICE and any(
        site.rule.startswith(prefix.upper()) and any(c.isdigit() for c in prefix)
        for prefix in report.provenance.select
    )


def concise(site: SiteReport, path: str, catalog: Rules, ink: Ink) -> str:
    """One line: `path:line:col: CODE message`."""
    code = ink("red" if site.pending else "yellow", site.rule)
    return f"{ink('bold', visible(path))}:{site.place}: {code} {message(site, catalog)}"


def message(site: SiteReport, catalog: Rules) -> str:
    """What a finding says, on one line."""
    rule = catalog.get(site.rule)
    name = rule.name if rule is not None else ""
    mark = "[*] " if site.status is Status.REWRITTEN else ""
    reason = " ".join(site.reason.split())
    return f"{mark}{name}: {visible(reason)}" if reason else f"{mark}{name}"


def full(site: SiteReport, path: str, catalog: Rules, ink: Ink) -> str:
    """The line of `concise`, and the code before and after."""
    lines = [concise(site, path, catalog, ink)]
    if not site.after and site.status is not Status.REWRITTEN:
        lines += [f"    {visible(text)}" for text in site.before.splitlines()]
        return "\n".join(lines) + "\n"
    lines += [f"    {ink('red', '- ' + visible(text))}" for text in site.before.splitlines()]
    lines += [f"    {ink('green', '+ ' + visible(text))}" for text in site.after.splitlines()]
    return "\n".join(lines) + "\n"


def github(site: SiteReport, path: str, catalog: Rules) -> str:
    """A workflow command; see GitHub's "Workflow commands for GitHub Actions"."""
    level = "error" if site.category is Category.MANDATORY else "warning"
    level = "notice" if site.category in QUIET else level
    text = _escaped(f"{site.rule} {message(site, catalog)}")
    place = f"file={_escaped(path, property_=True)},line={site.line},col={site.column}"
    return f"::{level} title=porter ({site.rule}),{place}::{text}"


def _escaped(text: str, *, property_: bool = False) -> str:
    # What a terminal would act on; line ends have a form of their own here.
    text = "".join(p if p in "\r\n" else control(p) for p in re.split(r"([\r\n])", text))
    pairs = [("%", "%25"), ("\r", "%0D"), ("\n", "%0A")]
    if property_:
        pairs += [(":", "%3A"), (",", "%2C")]
    for old, new in pairs:
        text = text.replace(old, new)
    return text


def statistics(sites: Iterable[SiteReport], catalog: Rules) -> list[str]:
    """How often each rule was found, most first."""
    sites = list(sites)
    counts = Counter(site.rule for site in sites)
    rewritten = {site.rule for site in sites if site.status is Status.REWRITTEN}
    lines = []
    for code, count in sorted(counts.items(), key=lambda item: (-item[1], item[0])):
        rule = catalog.get(code)
        mark = "[*]" if code in rewritten else "[ ]"
        lines.append(f"{count:>5}  {code}  {mark} {rule.name if rule is not None else ''}")
    return lines


# Summary ----------------------------------------------------------------------------------------


def summary(
    report: Report, catalog: Rules, prefix: str, ink: Ink, *, wrote: bool, verbose: bool = False
) -> list[str]:
    """What a run did and what is left, for people.

    Args:
        report: the run.
        catalog: for the names of rules.
        prefix: what to put before paths.
        ink: colours.
        wrote: whether the changes have been made, not only shown.
        verbose: name every place, and information too.
    """
    return [
        *_counts(report, ink, wrote),
        *_left(report, catalog, prefix, ink, verbose),
        *_files(report, prefix, ink, verbose),
    ]


def _counts(report: Report, ink: Ink, wrote: bool) -> Iterator[str]:
    from porter.report import FileStatus

    read = len(report.files) - report.count(FileStatus.SKIPPED)
    changed, sites = report.count(FileStatus.CHANGED), len(report.having(Status.REWRITTEN))
    if wrote:
        text = f"{plural(changed, 'file')} changed, {plural(sites, 'site')} rewritten"
    else:
        text = f"{plural(changed, 'file')} would change, {plural(sites, 'site')} would be rewritten"
    yield f"{plural(read, 'file')} read, {ink('green', text)}."
    if report.suppressed:
        yield f"{plural(report.suppressed, 'finding')} silenced by comments."


def _left(report: Report, catalog: Rules, prefix: str, ink: Ink, verbose: bool) -> Iterator[str]:
    left = [s for s in report.having(Status.LEFT) if s.rule != _UNREADABLE]
    pending = [s for s in left if s.pending]
    optional = [s for s in left if not s.pending]
    quiet = [s for s in report.having(Status.INFORMATION) if not s.accepted]
    advice = [s for s in quiet if s.category is Category.ADVICE]
    information = [s for s in quiet if s.category is not Category.ADVICE]
    if pending:
        points = plural(sum(s.effort for s in pending), "point")
        yield ink("yellow", f"{plural(len(pending), 'site')} left for a person ({points}):")
        yield from _grouped(pending, catalog, prefix, ink, verbose)
    elif not report.failed:
        yield "Nothing is left that a person must do."
    if optional:
        yield f"{plural(len(optional), 'site')} left that may stay:"
        yield from _grouped(optional, catalog, prefix, ink, verbose)
    if advice and verbose:
        yield f"{_advice(advice)}:"
        yield from _grouped(advice, catalog, prefix, ink, verbose)
    elif advice:
        yield f"{_advice(advice)} (-v shows it, and reports do)."
    if information and verbose:
        yield f"{plural(len(information), 'site')} for information:"
        yield from _grouped(information, catalog, prefix, ink, verbose)


def unshown_advice(report: Report) -> str:
    """The line that stands for the advice that `check` does not show; empty if there is none."""
    hidden = [
        s
        for s in report.sites
        if s.category is Category.ADVICE and not s.accepted and not _asked(s, report)
    ]
    return f"{_advice(hidden)} (-v shows it, and reports do)." if hidden else ""


def _advice(sites: Sequence[SiteReport]) -> str:
    places, files = plural(len(sites), "place"), plural(len({s.path for s in sites}), "file")
    return f"Advice on precision and speed for {places} in {files}"


def _grouped(
    sites: Sequence[SiteReport], catalog: Rules, prefix: str, ink: Ink, verbose: bool
) -> Iterator[str]:
    """Sites by rule, then by reason, the most frequent first."""
    rules = Counter(site.rule for site in sites)
    for code, count in sorted(rules.items(), key=lambda item: (-item[1], item[0])):
        rule = catalog.get(code)
        yield f"  {ink('cyan', code)} {rule.name if rule is not None else ''} ({count})"
        mine = [s for s in sites if s.rule == code]
        reasons = Counter(" ".join(s.reason.split()) for s in mine)
        for reason, number in sorted(reasons.items(), key=lambda item: (-item[1], item[0])):
            places = [
                visible(f"{prefix}{s.path}:{_line(s)}")
                for s in mine
                if " ".join(s.reason.split()) == reason
            ]
            if reason:
                yield visible(f"    {reason}")
            named = places if verbose else places[:PLACES]
            more = f" and {number - len(named)} more" if number > len(named) else ""
            yield ink("dim", f"      {', '.join(named)}{more}")


def _line(site: SiteReport) -> str:
    return f"cell {site.cell}:{site.line}" if site.cell is not None else str(site.line)


def _files(report: Report, prefix: str, ink: Ink, verbose: bool) -> Iterator[str]:
    from porter.report import FileStatus

    failed = report.failed
    if failed:
        yield ink("red", f"{plural(len(failed), 'file')} could not be migrated:")
        yield from (visible(f"  {prefix}{file.path}: {file.reason}") for file in failed)
    held = [f for f in report.files if f.status is FileStatus.UNCHANGED and f.reason]
    if held:
        yield ink("red", f"{plural(len(held), 'file')} left as it was:")
        yield from (visible(f"  {prefix}{file.path}: {file.reason}") for file in held)
    yield from skipped(report, prefix, verbose)


def skipped(report: Report, prefix: str, verbose: bool) -> Iterator[str]:
    """The files and folders that were not read, and why."""
    from porter.report import FileStatus

    left = [f for f in report.files if f.status is FileStatus.SKIPPED]
    if left:
        yield f"{plural(len(left), 'path')} skipped:"
        named = left if verbose else left[:5]
        yield from (visible(f"  {prefix}{file.path}: {file.reason}") for file in named)
        if len(left) > len(named):
            yield f"  and {len(left) - len(named)} more (-v names them)"


# Rules ------------------------------------------------------------------------------------------


def rule_page(rule: Rule, ink: Ink) -> str:
    """The page of a rule: its docstring and its examples."""
    lines = [
        ink("bold", f"{rule.code} {rule.name}"),
        f"rewrites: {rule.safety.value}; if it stays: {rule.category.value}, "
        f"{plural(rule.effort, 'point')}; targets: {', '.join(rule.targets)}",
        "",
        rule.doc.strip(),
    ]
    changes = [e for e in rule.examples if e.changes]
    kept = [e for e in rule.examples if not e.changes]
    if changes:
        lines += ["", "## Examples"]
        for example in changes:
            lines += ["", *_example(example, rule.targets, ink)]
    if kept:
        lines += ["", "## Left as it is"]
        for example in kept:
            lines += ["", *([example.note + ":"] if example.note else [])]
            lines += [f"    {text}".rstrip() for text in example.before.splitlines()]
    return "\n".join(lines) + "\n"


def _example(example: Example, targets: Sequence[str], ink: Ink) -> Iterator[str]:
    options = " --unsafe" if example.unsafe else ""
    options += f" --min-torch {example.min_torch}" if example.min_torch else ""
    for target in targets:
        after: str | None = getattr(example, target, None)
        if after is None:
            continue
        note = f" ({example.note})" if example.note else ""
        yield f"--target {target}{options}{note}:"
        import difflib

        compared = difflib.unified_diff(
            example.before.splitlines(), after.splitlines(), lineterm="", n=2
        )
        for line in list(compared)[2:]:
            if line.startswith("@@"):
                continue
            style = {"+": "green", "-": "red"}.get(line[:1])
            yield f"    {ink(style, line) if style else line}"


def rule_data(rule: Rule) -> dict[str, Any]:
    """A rule as plain data."""
    return {
        "code": rule.code,
        "name": rule.name,
        "summary": rule.summary,
        "safety": rule.safety.value,
        "category": rule.category.value,
        "effort": rule.effort,
        "targets": list(rule.targets),
        "doc": rule.doc,
        "examples": [
            {
                "before": example.before,
                **{target: getattr(example, target, None) for target in rule.targets},
                "unsafe": example.unsafe,
                "min_torch": example.min_torch,
                "note": example.note,
            }
            for example in rule.examples
        ],
    }


def rule_lines(rules: Sequence[Rule]) -> list[str]:
    """One line for each rule."""
    width = max((len(rule.name) for rule in rules), default=0)
    return [f"{r.code}  {r.name:<{width}}  {r.summary}" for r in rules]


def say(text: str, stream: TextIO | None = None) -> None:
    """Write one line to standard error, or to `stream`."""
    print(text, file=stream if stream is not None else sys.stderr)
