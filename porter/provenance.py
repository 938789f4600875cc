"""Where the statements of a report come from: versions, tables and the rules in force."""

from __future__ import annotations

import functools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from porter import __version__, lookout

#: Below the folder of the rules.
_SOURCES = "support/sources.json"


class Table(NamedTuple):
    """A table of facts that rules look names up in.

    Args:
        name: its file.
        date: when its source was read.
        source: what was read.
    """

    name: str
    date: str
    source: str


@dataclass(frozen=True)
class Provenance:
    """What must be the same for a run to give the same report.

    Args:
        version: of porter.
        origin: where the lowest torch version comes from: "given", "default" or a file name.
        select: code prefixes asked for; empty means all.
        ignore: code prefixes left out.
        unsafe: whether unsafe rewrites were applied too.
        torch_npu: the version that names were looked up for; empty for the newest known.
        hardware: the product line that names were looked up for; empty for none.
        rules: codes of the rules in force.
        tables: the tables that rules look names up in.
    """

    version: str = __version__
    origin: str = ""
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    unsafe: bool = False
    torch_npu: str = ""
    hardware: str = ""
    rules: tuple[str, ...] = ()
    tables: tuple[Table, ...] = ()


@functools.cache
def tables() -> tuple[Table, ...]:
    """The tables of this installation, by name."""
    try:
        text = Path(lookout.folder(), _SOURCES).read_text("utf-8")
        rows = json.loads(text)
        found = [Table(name, rows[name]["date"], rows[name]["source"]) for name in sorted(rows)]
    except (ModuleNotFoundError, OSError, KeyError, ValueError, TypeError):
        return ()
    return tuple(found)
