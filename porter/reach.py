"""Whether files may use a name that another file of their project passes on, told by bytes alone.

`porter.facts` finds such names exactly, for which it must look at the whole project. What is asked
here takes only the files that imports may lead to, and its answer is no only where that search
would find nothing: a file that is used is named in the file that uses it, and along each chain of
imports one file binds the watched name itself.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import NamedTuple

from porter import files
from porter.project import is_left_out
from porter.scan import Signs

#: A longer chain is not followed by the search either (`porter.facts.MAX_CHAIN`).
LONGEST_CHAIN = 7
#: Where more files lie around, the question is left to the search.
MOST = 20_000
#: Where imports lead to more files than these, looking at all takes no longer.
MOST_FOLLOWED = 300

_WORD = rb"\w+"
_ATTRIBUTE = rb"\.\s*(\w+)"
_FROM_HERE = rb"\bfrom\s+\.[\s.]*import\b"
#: What may end a line within a statement.
_BREAK = b"\\"


class _Module(NamedTuple):
    """A file that others may import.

    Args:
        path: the file.
        name: the last part of its dotted path.
        parts: the folders that may be the parts before it.
    """

    path: str
    name: bytes
    parts: frozenset[bytes]


class _Text:
    """What one file says of others.

    Args:
        path: the file.
        data: its bytes.
    """

    def __init__(self, path: str, data: bytes) -> None:
        self.path = path
        said = b"\n".join(_imports(data))
        self.plain = said.isascii()  # Python takes some letters for others
        self.named = set(re.findall(_WORD, said))
        self.attributes = set(re.findall(_ATTRIBUTE, data)) if said else set()
        self.here = re.search(_FROM_HERE, said) is not None

    def may_use(self, module: _Module) -> bool:
        """Whether an import in this file may lead to a module that it names somewhere."""
        return module.name in self.named or not self.named.isdisjoint(module.parts)


def _imports(data: bytes) -> Iterator[bytes]:
    """All lines of statements that import something, and at worst some more."""
    at = data.find(b"import")
    while at >= 0:
        start = _line_start(data, at)
        while start and data[:start].rstrip(b"\r\n").endswith(_BREAK):
            start = _line_start(data, start - 2)
        end, opened = at, False
        while end < len(data):
            stop = _line_end(data, end)
            code = data[end:stop].partition(b"#")[0]
            opened = (opened or b"(" in code) and b")" not in code
            end = stop + 1
            if not opened and not code.rstrip().endswith(_BREAK):
                break
        yield data[start:end]
        at = data.find(b"import", max(end, at + 1))


def _line_start(data: bytes, at: int) -> int:
    return max(data.rfind(b"\n", 0, max(at, 0)), data.rfind(b"\r", 0, max(at, 0))) + 1


def _line_end(data: bytes, at: int) -> int:
    ends = (data.find(mark, at) for mark in (b"\n", b"\r"))
    return min((end for end in ends if end >= 0), default=len(data))


def may_use(own: Sequence[tuple[str, bytes]], around: Iterable[Path], signs: Signs) -> bool:
    """Whether one of these files may use a watched name that a file of its project passes on.

    Args:
        own: path and content of each.
        around: folders and files that hold the rest of the project.
        signs: tell which files bind watched names themselves.

    Returns:
        False only if none does.
    """
    texts = [_Text(os.path.abspath(path), data) for path, data in own]  # noqa: PTH100
    if not any(text.named for text in texts):
        return False
    modules = _modules(around, (text.path for text in texts))
    followed: set[str] = set()
    for _ in range(LONGEST_CHAIN):
        if modules is None or not all(text.plain for text in texts):
            return True
        fresh = []
        for path in _led_to(texts, modules) - followed:
            try:
                data = files.read(path)
            except OSError:
                continue
            if signs.may_export(data):
                return True
            fresh.append(_Text(path, data))
            followed.add(path)
        if len(followed) > MOST_FOLLOWED:
            return True
        if not fresh:
            return False
        texts = fresh
    return False


def _led_to(texts: Iterable[_Text], modules: dict[bytes, list[_Module]]) -> set[str]:
    """The paths that imports of these files may lead to."""
    found: set[str] = set()
    for text in texts:
        for name in (text.named | text.attributes) & modules.keys():
            found.update(m.path for m in modules[name] if m.path != text.path and text.may_use(m))
        for module in modules[_ODD]:
            folder = module.path.rpartition(os.sep)[0] + os.sep
            if not module.name.isascii() or (text.here and text.path.startswith(folder)):
                found.add(module.path)
        found.discard(text.path)
    return found


#: Under this name stand packages, which `from . import` may mean, and names that are not ASCII.
_ODD = b""


def _modules(around: Iterable[Path], own: Iterable[str]) -> dict[bytes, list[_Module]] | None:
    """The files around by the last part of their dotted path; None if they are too many."""
    paths: dict[str, None] = dict.fromkeys(own)
    for place in around:
        for path in _python_files(os.path.abspath(place)):  # noqa: PTH100
            paths[path] = None
            if len(paths) > MOST:
                return None
    found: dict[bytes, list[_Module]] = {_ODD: []}
    for path in paths:
        folder, _, file = path.rpartition(os.sep)
        parts = folder.split(os.sep)  # noqa: PTH206 - a plain string, of thousands of files
        stem = file.split(".")[0]
        name = os.fsencode(parts[-1] if stem == "__init__" else stem)
        module = _Module(path, name, frozenset(map(os.fsencode, parts)))
        found.setdefault(name, []).append(module)
        if stem == "__init__" or not name.isascii():
            found[_ODD].append(module)
    return found


def _python_files(place: str) -> Iterator[str]:
    """The files at and below a place that may be modules."""
    if not os.path.isdir(place):  # noqa: PTH112
        yield place
        return
    waiting = [place]
    while waiting:
        here = waiting.pop()
        try:
            with os.scandir(here) as scan:
                entries = list(scan)
        except OSError:
            continue
        for entry in entries:
            if entry.is_dir(follow_symlinks=False):
                if not is_left_out(entry.path, entry.name):
                    waiting.append(entry.path)
            elif _may_be_python(entry.name) and not entry.is_symlink():
                yield entry.path


def _may_be_python(name: str) -> bool:
    """Whether a file of that name is read as Python; without a suffix it may be a script."""
    return "." not in name or name.lower().endswith((".py", ".pyi", ".pyw"))
