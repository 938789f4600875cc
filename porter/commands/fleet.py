"""`porter fleet`: many repositories in one dashboard."""

from __future__ import annotations

import os
import sys
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING

from porter import stopping
from porter.commands import running
from porter.commands.command import Choices, argument, command, option
from porter.commands.options import PATH
from porter.commands.running import FINDINGS, OK, TROUBLE
from porter.problem import Mistake

if TYPE_CHECKING:
    from porter.fleet.run import Result


class Engine(str, Enum):
    """What runs the units of a fleet."""

    LOCAL = "local"
    RAY = "ray"


class Summary(str, Enum):
    """How the dashboard is printed."""

    TEXT = "text"
    JSON = "json"
    MARKDOWN = "markdown"


@command("fleet")
@argument("source", type=PATH, metavar="LIST", help="A TOML file that names the repositories.")
@option(
    "-o",
    "--output",
    type=PATH,
    metavar="DIR",
    default="porter-fleet",
    help="Where fleet.json, fleet.html and the reports go.",
)
@option("--target", metavar="NAME", default="", help="Overrule the target of all repositories.")
@option(
    "-f",
    "--format",
    "form",
    type=Choices(Summary),
    default=Summary.TEXT.value,
    help="How to print the dashboard.",
)
@option("-q", "--quiet", is_flag=True, help="Print errors only.")
@option("-j", "--jobs", metavar="N|auto", default="auto", help="Units of work at a time.")
@option(
    "--engine",
    type=Choices(Engine),
    default=Engine.LOCAL.value,
    help="Processes of this machine, or a Ray cluster that exists.",
)
@option(
    "--address",
    metavar="HOST:PORT",
    default="",
    help="The Ray cluster. Default: RAY_ADDRESS, or the one of this machine.",
)
@option(
    "--timeout", type=float, metavar="SECONDS", default=0.0, show_default=False,
    help="What a unit may take. Default: any time.",
)  # fmt: skip
@option(
    "--state",
    type=PATH,
    metavar="DIR",
    help="Where finished units are kept for the next run. Default: in the output.",
)
@option("--fresh", is_flag=True, help="Use nothing that earlier runs kept.")
def fleet(
    source: Path,
    output: Path,
    target: str,
    form: Summary,
    quiet: bool,
    jobs: str,
    engine: Engine,
    address: str,
    timeout: float,
    state: Path | None,
    fresh: bool,
) -> int:
    """Look at many repositories, or a very large one, and write one dashboard."""
    from porter.display import Bar
    from porter.fleet.run import Options, run
    from porter.targets import NAMES

    if target and target not in NAMES:
        raise Mistake(f"--target cannot be {target!r} (known: {', '.join(NAMES)})")
    if timeout < 0:
        raise Mistake("--timeout must be a number of seconds, or 0 for any time")
    if address and engine is not Engine.RAY:
        raise Mistake("--address goes with --engine ray")
    options = Options(
        source, output, state, engine.value, running.jobs(jobs), address, fresh, timeout, target
    )
    bar = Bar(sys.stderr, quiet=quiet, what="units")
    try:
        with running.stoppable():
            result = run(options, bar)
    except stopping.Stopped as stop:
        stop.note = "finished units are kept: the same command goes on from there"
        raise
    finally:
        bar.clear()
    return _said(result, output, form, quiet)


def _said(result: Result, output: Path, form: Summary, quiet: bool) -> int:
    from porter.display import plural
    from porter.fleet import show
    from porter.fleet.run import HTML, JSON

    data = result.data
    for row, done in zip(data["repos"], result.done, strict=True):
        for text in done.notes:
            running.note(f"{row['name']}: {text}")
        if done.failed:
            running.error(f"{row['name']}: {done.failed}", TROUBLE)
    if not quiet:
        if form is Summary.JSON:
            running.stdout((output / JSON).read_bytes())
        else:
            text = show.as_text(data) if form is Summary.TEXT else show.as_markdown(data)
            print(text, end="", flush=True)
        kept = sum(each.kept for each in result.done)
        found = f" ({plural(kept, 'unit')} of work found finished)" if kept else ""
        print(f"dashboard: {os.fspath(output / HTML)}{found}", file=sys.stderr)
    totals = data["totals"]
    if totals["statuses"]["FAILED"] or totals["files"]["failed"]:
        return TROUBLE
    return FINDINGS if totals["pending"] else OK
