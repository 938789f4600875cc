"""The options that several commands share, and the values they may have."""

from __future__ import annotations

from enum import Enum
from pathlib import Path
from typing import Annotated

import typer

from porter.targets import NAMES


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


class PageFormat(str, Enum):
    """How rules are printed."""

    TEXT = "text"
    JSON = "json"


Paths = Annotated[
    list[Path],
    typer.Argument(metavar="PATH...", help="Files and folders; - reads standard input."),
]
TargetName = Annotated[
    str | None,
    typer.Option("--target", metavar="NAME", help=f"{' or '.join(NAMES)}. Default: {NAMES[0]}."),
]
MinTorch = Annotated[
    str | None,
    typer.Option(
        "--min-torch",
        metavar="X.Y|auto",
        help="Lowest torch version to support; auto reads the project's requirements.",
    ),
]
TorchNpu = Annotated[
    str | None,
    typer.Option("--torch-npu", metavar="X.Y", help="torch_npu version to look names up for."),
]
Hardware = Annotated[
    str | None,
    typer.Option("--hardware", metavar="LINE", help="Product line to look names up for."),
]
Unsafe = Annotated[
    bool | None,
    typer.Option("--unsafe/--safe", help="Also apply rewrites that may change behaviour."),
]
Select = Annotated[
    list[str] | None,
    typer.Option("--select", metavar="CODES", help="Only these rules, such as POR1,POR201."),
]
Ignore = Annotated[
    list[str] | None, typer.Option("--ignore", metavar="CODES", help="Not these rules.")
]
Exclude = Annotated[
    list[str] | None,
    typer.Option(
        "--exclude",
        metavar="GLOB",
        help="Leave out files and folders, as in a .gitignore; adds to the configuration.",
    ),
]
ForceExclude = Annotated[
    bool | None,
    typer.Option(
        "--force-exclude/--no-force-exclude",
        help="Leave out excluded files also where they are named here, and files of no concern: "
        "for programs that pass all changed files.",
    ),
]
ReportFile = Annotated[
    Path | None,
    typer.Option(
        "--report",
        metavar="FILE",
        help="Write all findings as JSON, or as .html, .md, .sarif, .csv, .xml (JUnit), .txt.",
    ),
]
StdinName = Annotated[
    str, typer.Option("--stdin-filename", metavar="PATH", help="The path that - stands for.")
]
Jobs = Annotated[str, typer.Option("-j", "--jobs", metavar="N|auto", help="Number of processes.")]
NoCache = Annotated[
    bool, typer.Option("--no-cache", help="Neither use nor keep what earlier runs found out.")
]
Quiet = Annotated[bool, typer.Option("-q", "--quiet", help="Print results and errors only.")]
Verbose = Annotated[bool, typer.Option("-v", "--verbose", help="Name every place.")]
