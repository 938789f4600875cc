"""`porter clean`: remove what earlier runs have kept."""

from __future__ import annotations

from porter.commands import running
from porter.commands.command import command
from porter.commands.running import OK


@command("clean")
def clean() -> int:
    """Remove the cache: what earlier runs found out and kept for the next."""
    from porter import cache
    from porter.display import plural

    place, files, size = cache.clean()
    where = f" in {place}" if place is not None else ""
    running.note(f"removed {plural(files, 'file')}, {size / 1e6:.1f} MB{where}")
    return OK
