"""The commands that a check offers in a hook of pre-commit, ready to be pasted into a shell.

https://pre-commit.com/#creating-new-hooks: hooks run with PRE_COMMIT=1, in the top folder of the
repository, and with the program of an environment that the user does not have on the path.
"""

from __future__ import annotations

import os
import shlex
import shutil
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

from porter import own
from porter.report import SiteReport
from porter.rule import Status

CONFIG = ".pre-commit-config.yaml"
MIGRATE = "porter-migrate"
#: More names than this would hide what the message says.
MOST = 20


def lines(sites: Sequence[SiteReport], base: Path, options: Sequence[str]) -> Iterator[str]:
    """What to do about findings, for a person who has just been stopped.

    Args:
        sites: the findings that were shown.
        base: the folder that their paths are relative to, as seen from here.
        options: of the check, that a migration must be given as well.
    """
    rewritten = [site for site in sites if site.status is Status.REWRITTEN]
    left = [site for site in sites if site.pending and site.rule not in own.CODES]
    if rewritten:
        names = sorted({(base / site.path).as_posix() for site in rewritten})
        files = " ".join(map(quoted, names)) if len(names) <= MOST else "."
        marked = "the site" if len(rewritten) == 1 else f"the {len(rewritten)} sites"
        yield f"To rewrite {marked} marked [*], then commit again:"
        yield f"  {_command(options, names, files)}"
        yield f"  git add {files}"
    if left:
        codes = sorted({site.rule for site in left})
        yield "What a person must do, and why:"
        yield from (f"  {_program()} rule {code}" for code in codes[:MOST])
        yield f"Or accept a site with a comment: porter: ignore[{codes[0]}] reason"


def _command(options: Sequence[str], names: Sequence[str], files: str) -> str:
    stage = _hook()
    if stage is not None and len(names) <= MOST:
        return f"pre-commit run {MIGRATE} --hook-stage {stage} --files {files}"
    words = [_program(), "migrate", "--allow-dirty", *map(quoted, options), files]
    return " ".join(words)


def _program() -> str:
    """What calls porter in the user's own shell: the environment of the hook is not on its path."""
    here = Path(sys.executable).parent
    path = os.environ.get("PATH", "").split(os.pathsep)
    theirs = os.pathsep.join(p for p in path if p and os.path.realpath(p) != os.path.realpath(here))
    if shutil.which("porter", path=theirs):
        return "porter"
    own_program = shutil.which("porter", path=str(here))
    return quoted(own_program) if own_program else f"{quoted(sys.executable)} -m porter"


def _hook() -> str | None:
    """The stage in which pre-commit runs the hook that rewrites; None if it is not configured."""
    from porter import files, scalars

    try:
        text = files.read(CONFIG, files.SETTINGS).decode("utf-8-sig")
        # Not made into objects: references in YAML can stand for more than any memory holds.
        found = [s for s in scalars.read("yaml", text) if not s.is_key and not s.document]
    except (OSError, UnicodeDecodeError, scalars.DataProblem):
        return None
    hooks = [s.path[:4] for s in found if s.path[4:] == ("id",) and s.value == MIGRATE]
    hooks = [path for path in hooks if (path[0], path[2]) == ("repos", "hooks")]
    if not hooks:
        return None
    own_stages = [s.value for s in found if s.path[:-1] == (*hooks[0], "stages")]
    stages = own_stages or [s.value for s in found if s.path[:-1] == ("default_stages",)]
    return "manual" if "manual" in stages or not stages else stages[0]


def quoted(name: str) -> str:
    """A word as a shell reads it; bash's `$'...'` where a terminal could not show a character."""
    if name.isprintable() and not any("\ud800" <= c <= "\udfff" for c in name):
        return shlex.quote(name)
    plain = b"-_./ ,:+=@%"
    return "$'" + "".join(
        chr(b) if chr(b).isascii() and (chr(b).isalnum() or b in plain) else f"\\x{b:02x}"
        for b in os.fsencode(name)
    ) + "'"  # fmt: skip
