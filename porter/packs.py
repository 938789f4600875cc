"""Whether other packages bring rules, told without reading what every package says of itself.

`importlib.metadata.entry_points` reads the metadata of all packages, which takes as long as the
first look at a hundred files. Here their files are searched for the name of the group; only where
it occurs, or cannot be looked for, is the whole answer needed.
"""

from __future__ import annotations

import os
import sys

#: The group of entry points by which a package names its module of rules.
GROUP = "porter.rewrites"
_DESCRIPTIONS = (".dist-info", ".egg-info")


def installed() -> bool:
    """Whether a package may bring rules; False only if none does."""
    return _others_find() or any(_mentioned(place) for place in sys.path)


def _others_find() -> bool:
    """Whether anything besides `sys.path` leads to packages."""
    from importlib.machinery import PathFinder

    finders = (f for f in sys.meta_path if f is not PathFinder)
    return any(hasattr(finder, "find_distributions") for finder in finders)


def _mentioned(place: str) -> bool:
    if place.lower().endswith(".egg"):
        return True
    try:
        names = os.listdir(place or ".")  # noqa: PTH208
    except NotADirectoryError:
        return True  # an archive
    except OSError:
        return False
    return any(
        _mentions(os.path.join(place, name, "entry_points.txt"))  # noqa: PTH118
        for name in names
        if name.lower().endswith(_DESCRIPTIONS)
    )


def _mentions(path: str) -> bool:
    try:
        with open(path, "rb") as file:  # noqa: PTH123
            return GROUP.encode() in file.read()
    except OSError:
        return False
