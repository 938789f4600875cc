"""Rules of porter itself: what it says about files and comments rather than about code.

They look at no site. Whoever finds such a thing (the runner, the reader of requirements) makes
the entry; the rules here give it a code, a page and a place in --select and --ignore.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

from porter.codes import BLANKET as BLANKET
from porter.codes import CODES as CODES
from porter.codes import COMMENT as COMMENT
from porter.codes import MADE as MADE
from porter.codes import NOT_PYTHON as NOT_PYTHON
from porter.codes import TORCH_BOUND as TORCH_BOUND
from porter.codes import UNREAD_TEXT as UNREAD_TEXT
from porter.codes import UNREADABLE as UNREADABLE
from porter.codes import UNUSED as UNUSED
from porter.rule import Category, Finding, rule

if TYPE_CHECKING:
    from porter.site import Site
    from porter.targets import Target

#: What reports call the family of these rules.
FAMILY = "files and comments"

#: What they look at, where that is not code.
TOPIC = {TORCH_BOUND: "dependencies"}


@rule(UNREADABLE, "unreadable-file", effort=0)
def unreadable_file(site: Site, target: Target) -> Iterator[Finding]:
    """Reports a file that cannot be read or parsed.

    ## Why it matters
    Code that was not read was not migrated, and nothing else would tell.

    ## What it does
    Names the file and the place: Python 2, a syntax error, bytes that are not valid in the
    declared encoding. The file is left as it was and the exit code is 2. Other files are migrated.

    ## References
    - https://peps.python.org/pep-0263/
    """
    yield from ()


@rule(UNUSED, "unused-suppression", category=Category.OPTIONAL)
def unused_suppression(site: Site, target: Target) -> Iterator[Finding]:
    """Reports a `# porter: ignore[CODE]` comment that silences nothing.

    ## Why it matters
    It would hide the next finding of that rule which somebody writes on the line.

    ## What it does
    Points at the comment and the code. Codes of rules that are not in force, or not about the
    target, are not looked at; neither are those of other tools in a `# noqa`.
    """
    yield from ()


@rule(BLANKET, "blanket-suppression", category=Category.OPTIONAL)
def blanket_suppression(site: Site, target: Target) -> Iterator[Finding]:
    """Reports a `# porter: ignore` comment that names no rule.

    ## Why it matters
    A comment without a code would also hide what nobody has looked at. It therefore hides nothing.

    ## What it does
    Asks for the code: `# porter: ignore[POR101] reason`.
    """
    yield from ()


@rule(NOT_PYTHON, "unread-code", category=Category.POTENTIAL)
def unread_code(site: Site, target: Target) -> Iterator[Finding]:
    """Reports notebook magics, commands and cells that are not Python but look relevant.

    ## Why it matters
    A shell command in a notebook can choose the device as well as Python code can.

    ## What it does
    Points at the command or cell; porter changes Python code only.

    ## References
    - https://ipython.readthedocs.io/en/stable/interactive/magics.html
    """
    yield from ()


@rule(UNREAD_TEXT, "unread-file", category=Category.POTENTIAL)
def unread_file(site: Site, target: Target) -> Iterator[Finding]:
    """Reports a configuration, script or image that looks relevant but cannot be read as such.

    ## Why it matters
    Templates, broken YAML and binary files can choose the device as well as valid files can.

    ## What it does
    Names the place that stops the reader, and the first lines with what rules look for. The file
    is left as it was; the exit code does not change, since a template need not be valid.

    ## References
    - https://yaml.org/spec/1.2.2/
    """
    yield from ()


@rule(TORCH_BOUND, "torch-requirement-too-low")
def torch_requirement_too_low(site: Site, target: Target) -> Iterator[Finding]:
    """Reports a declared torch version that is lower than the migrated code needs.

    ## Why it matters
    The migrated code calls functions that older versions lack; whoever installs the lowest
    version that the project allows gets an AttributeError.

    ## What it does
    Reads requirements files, pyproject.toml, setup.cfg, setup.py and environment.yml, and points
    at the line. Raise the bound, or choose an older version with `--min-torch`.

    ## References
    - https://docs.pytorch.org/docs/stable/accelerator.html
    - https://packaging.python.org/en/latest/specifications/dependency-specifiers/
    """
    yield from ()
