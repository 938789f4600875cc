"""Keeps Python from importing what lies in a project that porter only looks at.

`python -m porter` has the current folder first on the path that Python imports from, and so has
any program where PYTHONPATH names it or has an empty part: a project's own `click.py`, `json.py`
or entry points would run. What a person has installed into porter's Python, rule packs among it,
is not touched.

Nothing is imported here but what Python has loaded to start, and no `__future__` either: that, too,
would be looked for in the current folder first.
"""

import os
import sys

_INSTALLED = ("site-packages", "dist-packages")


def from_projects(arguments: "list[str]") -> None:
    """Take the current folder, and projects that PYTHONPATH names, off Python's path.

    Only what stands before the standard library can take the place of a module, and only that is
    looked at; it goes if it is, holds or lies in a folder that porter looks at.

    Args:
        arguments: of the command line; those that are paths are what porter looks at.
    """
    paths = [os.curdir, *arguments]
    places = {os.path.realpath(path) for path in paths if os.path.lexists(path)}
    own = os.path.realpath(os.path.dirname(os.path.dirname(__file__)))  # noqa: PTH120
    library = os.path.realpath(os.path.dirname(getattr(os, "__file__", "")))  # noqa: PTH120
    kept: list[str] = []
    before = True
    for entry in sys.path:
        real = os.path.realpath(entry)
        before = before and real != library
        installed = os.path.basename(real) in _INSTALLED  # noqa: PTH119
        if before and real != own and not installed and _meets(real, places):
            continue
        kept.append(entry)
    sys.path[:] = kept


class Spawning:
    """While a process is started that imports anew, as on macOS and Windows: it, too, must not
    have the current folder, or a project, on its path. Not for processes that run users' code.

    Python 3.10 does not know the variable: https://docs.python.org/3/using/cmdline.html
    """

    def __enter__(self) -> None:
        """Set what Python asks for as it starts."""
        self._before = {name: os.environ.get(name) for name in ("PYTHONSAFEPATH", "PYTHONPATH")}
        os.environ["PYTHONSAFEPATH"] = "1"
        path = self._before["PYTHONPATH"]
        if path is not None:
            kept = {os.path.realpath(entry) for entry in sys.path}
            entries = [e for e in path.split(os.pathsep) if e and os.path.realpath(e) in kept]
            os.environ["PYTHONPATH"] = os.pathsep.join(entries)

    def __exit__(self, *problem: object) -> None:
        """Set it back."""
        for name, value in self._before.items():
            if value is None:
                os.environ.pop(name, None)
            else:
                os.environ[name] = value


def _meets(folder: str, places: "set[str]") -> bool:
    """Tell whether a folder is one of the places, holds one, or lies in one."""
    return any(_holds(folder, place) or _holds(place, folder) for place in places)


def _holds(folder: str, path: str) -> bool:
    return path == folder or path.startswith(folder.rstrip(os.sep) + os.sep)
