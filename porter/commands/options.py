"""The options that several commands share, and the values they may have."""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from pathlib import Path

import click

from porter.commands.command import OPTIONS, Choices, Decorator, argument, gathered, option
from porter.targets import NAMES

#: A path, which need not exist.
PATH = click.Path(path_type=Path)


class Format(str, Enum):
    """How `check` prints findings."""

    CONCISE = "concise"
    FULL = "full"
    JSON = "json"
    GITHUB = "github"
    GITLAB = "gitlab"
    SARIF = "sarif"
    JUNIT = "junit"
    RDJSON = "rdjson"
    CSV = "csv"
    MARKDOWN = "markdown"
    HTML = "html"


class PageFormat(str, Enum):
    """How rules are printed."""

    TEXT = "text"
    JSON = "json"


@dataclass(frozen=True, eq=False, repr=False)
class Analysis:
    """What `migrate` and `check` are asked to look at, and how.

    Args:
        paths: files and folders; "-" alone is standard input.
        target: what to migrate to; None as the configuration says, and so below.
        min_torch: lowest torch version, or "auto".
        torch_npu: version that names are looked up for.
        hardware: product line that names are looked up for.
        unsafe: whether unsafe rewrites are applied.
        select: lists of code prefixes, separated by commas.
        ignore: the same.
        exclude: patterns as in a .gitignore.
        force_exclude: whether they count for files that are named too.
        stdin_filename: the path that standard input stands for.
        report: where to write the report.
        jobs: a number of processes, or "auto".
        no_cache: whether nothing is kept between runs.
        quiet: print results and errors only.
        verbose: name every place.
    """

    paths: tuple[Path, ...]
    target: str | None = None
    min_torch: str | None = None
    torch_npu: str | None = None
    hardware: str | None = None
    unsafe: bool | None = None
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    force_exclude: bool | None = None
    stdin_filename: str = "stdin.py"
    report: Path | None = None
    jobs: str = "auto"
    no_cache: bool = False
    quiet: bool = False
    verbose: bool = False


_TARGET, _RULES, _FILES, _RUN = "Target", "Rules", "Files", "Run"

paths = argument(
    "paths",
    nargs=-1,
    required=True,
    type=PATH,
    metavar="PATH...",
    help="Files and folders; - reads standard input.",
)


def target(section: str = OPTIONS) -> Decorator:
    """The option that names the target."""
    said = f"{' or '.join(NAMES)}. Default: {NAMES[0]}."
    return option("--target", metavar="NAME", help=said, section=section)


def torch_npu(section: str = OPTIONS) -> Decorator:
    """The option that names a release of the target's software."""
    said = "torch_npu version to look names up for."
    return option("--torch-npu", metavar="X.Y", help=said, section=section)


def hardware(section: str = OPTIONS) -> Decorator:
    """The option that names a product line of the target."""
    said = "Product line to look names up for."
    return option("--hardware", metavar="LINE", help=said, section=section)


def report_file(section: str = OPTIONS) -> Decorator:
    """The option that asks for a report."""
    said = "Write all findings as JSON, or as .html, .md, .sarif, .csv, .xml (JUnit), .txt."
    return option("--report", type=PATH, metavar="FILE", help=said, section=section)


def quiet(section: str = OPTIONS) -> Decorator:
    """The option that leaves out what only people read."""
    said = "Print results and errors only."
    return option("-q", "--quiet", is_flag=True, help=said, section=section)


page_format = option("--output-format", type=Choices(PageFormat), default=PageFormat.TEXT.value)

#: All that says what to analyse and how; the command takes it as `analysis`.
analysis = gathered(
    "analysis",
    Analysis,
    paths,
    target(_TARGET),
    option(
        "--min-torch",
        metavar="X.Y|auto",
        help="Lowest torch version to support; auto reads the project's requirements.",
        section=_TARGET,
    ),
    torch_npu(_TARGET),
    hardware(_TARGET),
    option(
        "--unsafe/--safe",
        default=None,
        help="Also apply rewrites that may change behaviour.",
        section=_RULES,
    ),
    option(
        "--select",
        multiple=True,
        metavar="CODES",
        help="Only these rules, such as POR1,POR201.",
        section=_RULES,
    ),
    option("--ignore", multiple=True, metavar="CODES", help="Not these rules.", section=_RULES),
    option(
        "--exclude",
        multiple=True,
        metavar="GLOB",
        help="Leave out files and folders, as in a .gitignore; adds to the configuration.",
        section=_FILES,
    ),
    option(
        "--force-exclude/--no-force-exclude",
        default=None,
        help="Leave out excluded files also where they are named here, and files of no concern: "
        "for programs that pass all changed files.",
        section=_FILES,
    ),
    option(
        "--stdin-filename",
        metavar="PATH",
        default="stdin.py",
        help="The path that - stands for.",
        section=_FILES,
    ),
    report_file(_RUN),
    option(
        "-j",
        "--jobs",
        metavar="N|auto",
        default="auto",
        help="Number of processes.",
        section=_RUN,
    ),
    option(
        "--no-cache",
        is_flag=True,
        help="Neither use nor keep what earlier runs found out.",
        section=_RUN,
    ),
    quiet(_RUN),
    option("-v", "--verbose", is_flag=True, help="Name every place.", section=_RUN),
)
