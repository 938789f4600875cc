"""`porter report`: show a report in another format, or compare two."""

from __future__ import annotations

from enum import Enum
from pathlib import Path

from porter.commands import running
from porter.commands.command import Choices, argument, command, option
from porter.commands.options import PATH
from porter.commands.running import FINDINGS, OK
from porter.problem import Mistake


class View(str, Enum):
    """How `report` shows a report."""

    TEXT = "text"
    MARKDOWN = "markdown"
    HTML = "html"
    SARIF = "sarif"
    GITHUB = "github"
    GITLAB = "gitlab"
    JUNIT = "junit"
    CSV = "csv"
    RDJSON = "rdjson"
    JSON = "json"


class FailOn(str, Enum):
    """When a comparison fails."""

    NEW = "new"
    ANY = "any"
    NEVER = "never"


@command("report")
@argument(
    "reports",
    nargs=-1,
    required=True,
    type=PATH,
    metavar="REPORT...",
    help="A report; two with --compare.",
)
@option(
    "--with",
    "with_",
    multiple=True,
    type=PATH,
    metavar="FILE",
    help="Add a rehearsal (`porter rehearse --output-format json`); may be repeated.",
)
@option("--compare", is_flag=True, help="Show what changed from the first to the second.")
@option(
    "-f",
    "--format",
    "form",
    type=Choices(View),
    help="Default: what the output's name asks for, or text.",
)
@option("-o", "--output", type=PATH, metavar="FILE", help="Write to a file.")
@option("--prefix", metavar="DIR", default="", help="Put this folder before all paths.")
@option(
    "--fail-on",
    type=Choices(FailOn),
    default=FailOn.NEVER.value,
    help="Exit with 1: new or any findings (--compare).",
)
def report_(
    reports: tuple[Path, ...],
    with_: tuple[Path, ...],
    compare: bool,
    form: View | None,
    output: Path | None,
    prefix: str,
    fail_on: FailOn,
) -> int:
    """Show a report in another format, or compare two."""
    from porter import output as views
    from porter import reading

    if len(reports) != (2 if compare else 1):
        wanted = "two reports: BASE HEAD" if compare else "one report (or --compare BASE HEAD)"
        raise Mistake(f"write {wanted}")
    if fail_on is not FailOn.NEVER and not compare:
        raise Mistake("--fail-on goes with --compare")
    running.check_report(output, "--output")
    name = form.value if form else (views.form_of(output) if output else None)
    if name is None:
        name = "json" if output is not None and output.suffix.lower() == ".json" else "text"
    loaded = [reading.load(path) for path in reports]
    if with_:
        from porter.rehearse import merge

        if compare:
            raise Mistake("--with goes with one report")
        checks = [check for path in with_ for check in merge.load(path)]
        loaded = [merge.added(loaded[0], checks)]
    if compare:
        text, failed = reading.compared(loaded[0], loaded[1], name, prefix, fail_on.value)
    else:
        text, failed = reading.shown(loaded[0], name, prefix), False
    if output is None:
        running.stdout(text.encode())
    else:
        from porter.writing import write_atomic

        write_atomic(output, text.encode(), expected=None)
    return FINDINGS if failed else OK
