"""What earlier runs found out, kept by content.

Nothing is looked up by name or date: a key is made of the bytes that were read and of all that
the answer depends on (rules, target, options, what other files tell), so an entry is either right
or not found. Each project and choice of options has one file, replaced in one step: runs at the
same time cannot spoil it, they only forget what the other one added. A file that is damaged, too
large or not readable counts as empty.

The folder belongs to the user and lies outside every project: a project that was downloaded
cannot bring answers of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import enum
import hashlib
import importlib
import io
import os
import pickle
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from porter._version import __version__

FOLDER = "PORTER_CACHE_DIR"
"""The environment variable that names another folder."""

#: All files together are kept below this; the ones not used for longest go first.
MAX_TOTAL = 500_000_000
#: A larger file is not written: reading it would cost more than it saves.
MAX_FILE = 100_000_000
#: Files not used for so long are removed whatever their size.
MAX_AGE = 60 * 24 * 3600
SUFFIX = ".porter-cache"
#: The folder may be one that others use too, such as /tmp: only what bears these names is ours.
_TEMPORARY = SUFFIX + ".tmp"
_MAGIC = b"porter cache 1\n"
_DIGEST = 32


@dataclass
class Cache:
    """The entries of one project and choice of options.

    Args:
        file: where they are kept; None keeps nothing.
        entries: what an earlier run left, by key.
        used: what this run asked for or added; only this is kept.
        fresh: whether there is anything to write.
    """

    file: Path | None = None
    entries: dict[bytes, bytes] = field(default_factory=dict)
    used: dict[bytes, bytes] = field(default_factory=dict)
    fresh: bool = False

    def get(self, key: bytes) -> Any:
        """The value under a key; None if there is none."""
        blob = self.entries.get(key)
        if blob is None:
            return None
        try:
            value = unpacked(blob)
        except Exception:  # whatever is wrong with it, it is not there
            return None
        self.used[key] = blob
        return value

    def put(self, key: bytes, value: object) -> None:
        """Keep a value: a dataclass or enumeration of porter, or of plain types."""
        if self.file is not None:
            self.used[key] = packed(value)
            self.fresh = True

    def save(self) -> None:
        """Write what was used, if that is not what is there; never raises for a bad disk."""
        if self.file is None or not self.fresh:
            return
        payload = pickle.dumps(self.used, protocol=5)
        if len(payload) > MAX_FILE:
            return
        with contextlib.suppress(OSError):
            _write(self.file, _MAGIC + hashlib.sha256(payload).digest() + payload)
            _prune(self.file.parent)


def opened(identity: Iterable[object]) -> Cache:
    """The cache for whatever `identity` names, empty if there is none yet."""
    place = folder()
    if place is None:
        return Cache()
    file = place / (key("file", sys.version_info[:2], *identity).hex()[:40] + SUFFIX)
    return Cache(file, _entries(file))


def folder() -> Path | None:
    """Where files are kept; None if the system names no place."""
    named = os.environ.get(FOLDER)
    if named:
        return Path(named)
    try:
        home = Path.home()
    except RuntimeError:
        return None
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local") / "porter"
    if sys.platform == "darwin":
        return home / "Library" / "Caches" / "porter"
    base = os.environ.get("XDG_CACHE_HOME", "")
    return (Path(base) if os.path.isabs(base) else home / ".cache") / "porter"  # noqa: PTH117


def clean() -> tuple[Path | None, int, int]:
    """Remove all files; returns the folder, their number and their bytes."""
    place = folder()
    files = _files(place) if place is not None else []
    count = size = 0
    for _, length, path in files:
        with contextlib.suppress(OSError):
            path.unlink()
            count, size = count + 1, size + length
    if place is not None:
        with contextlib.suppress(OSError):
            place.rmdir()
    return place, count, size


# Values -----------------------------------------------------------------------------------------


def packed(value: object) -> bytes:
    """A dataclass or enumeration of porter, or of plain types, as bytes."""
    return pickle.dumps(value, protocol=5)


def unpacked(blob: bytes) -> Any:
    """The value that was packed; whatever the bytes are, no code of others is run.

    Raises:
        pickle.UnpicklingError: it is of another kind.
    """
    return _Reader(io.BytesIO(blob)).load()


# Keys -------------------------------------------------------------------------------------------


def key(*parts: object) -> bytes:
    """The SHA-256 of values: the same in every process for equal values.

    Raises:
        TypeError: a value is of a kind that has no such form.
    """
    state = hashlib.sha256()
    for part in parts:
        for piece in _pieces(part):
            state.update(len(piece).to_bytes(8, "little"))
            state.update(piece)
    return state.digest()


def _pieces(value: object) -> Iterator[bytes]:
    kind = type(value).__name__.encode()
    if isinstance(value, enum.Enum):
        yield from (kind, value.name.encode())
    elif isinstance(value, str):
        yield from (b"s", value.encode("utf-8", "surrogatepass"))
    elif isinstance(value, bytes):
        yield from (b"b", value)
    elif value is None or isinstance(value, (bool, int, float)):
        yield from (kind, repr(value).encode())
    elif isinstance(value, Path):
        yield from (b"p", os.fsencode(value))
    elif dataclasses.is_dataclass(value) and not isinstance(value, type):
        yield from (kind, b"(")
        for item in dataclasses.fields(value):
            yield from _pieces(getattr(value, item.name))
        yield b")"
    elif isinstance(value, Mapping):
        yield b"{"
        for name in sorted(value):
            yield from _pieces(name)
            yield from _pieces(value[name])
        yield b"}"
    elif isinstance(value, (set, frozenset)):
        yield b"<"
        for item in sorted(value):
            yield from _pieces(item)
        yield b">"
    elif isinstance(value, (tuple, list)):
        yield b"["
        for item in value:
            yield from _pieces(item)
        yield b"]"
    else:
        raise TypeError(f"no key for {type(value).__name__}")


def installation(modules: Iterable[str]) -> bytes:
    """A key that changes with porter, with these modules of rules, and with the parser.

    Args:
        modules: dotted names; whatever lies in their top packages counts.
    """
    tops = sorted({name.partition(".")[0] for name in modules} | {"porter"})
    found = [_state(Path(place)) for top in tops for place in _places(top)]
    return key(__version__, sys.version_info[:3], sys.platform, _libcst(), found)


def code(modules: Iterable[str]) -> bytes:
    """As `installation`, but by content: the same wherever the same code is installed.

    Args:
        modules: dotted names; whatever lies in their top packages counts.
    """
    tops = {name.partition(".")[0] for name in modules} | {"porter"}
    found: dict[str, bytes] = {}
    for name in sorted(tops | {"porter.rewrites"}):  # which may lie in a folder of its own
        module = importlib.import_module(name)
        for place in list(getattr(module, "__path__", [])) or [module.__file__ or ""]:
            found |= _content(name.replace(".", "/"), Path(place))
    return key(__version__, sys.version_info[:3], _libcst(), found)


def _content(name: str, place: Path) -> dict[str, bytes]:
    """Names and digests of what belongs to a package or module."""
    base = place if place.is_dir() else place.parent
    paths = [Path(path) for path, _, _ in _state(place)]
    return {
        f"{name}/{path.relative_to(base).as_posix()}": hashlib.sha256(path.read_bytes()).digest()
        for path in paths
    }


def _places(top: str) -> list[str]:
    names = [top, "porter.rewrites"] if top == "porter" else [top]
    found: list[str] = []
    for name in names:
        module = importlib.import_module(name)
        found += list(getattr(module, "__path__", [])) or [module.__file__ or ""]
    return found


def _state(place: Path) -> list[tuple[str, int, int]]:
    """Names, sizes and times of what belongs to a package or module."""
    if place.is_file():
        status = place.stat()
        return [(str(place), status.st_size, status.st_mtime_ns)]
    found: list[tuple[str, int, int]] = []
    for here, folders, files in os.walk(place):
        folders[:] = [name for name in folders if name != "__pycache__"]
        for name in files:
            status = os.stat(os.path.join(here, name))  # noqa: PTH116, PTH118
            found.append((f"{here}/{name}", status.st_size, status.st_mtime_ns))
    return sorted(found)


def _libcst() -> str:
    """The version of the parser, which stands in the name of the folder next to it."""
    from importlib.util import find_spec

    spec = find_spec("libcst")
    if spec is not None and spec.origin is not None:
        with contextlib.suppress(OSError):
            names = os.listdir(Path(spec.origin).parent.parent)  # noqa: PTH208
            found = [n for n in names if n.startswith("libcst-") and n.endswith(".dist-info")]
            if len(found) == 1:
                return found[0]
    import importlib.metadata

    try:
        return importlib.metadata.version("libcst")
    except importlib.metadata.PackageNotFoundError:
        return ""


# Files ------------------------------------------------------------------------------------------


def _entries(file: Path) -> dict[bytes, bytes]:
    try:
        data = file.read_bytes()
        os.utime(file)
    except OSError:
        return {}
    head = len(_MAGIC) + _DIGEST
    payload = memoryview(data)[head:]
    if (
        data[: len(_MAGIC)] != _MAGIC
        or hashlib.sha256(payload).digest() != data[len(_MAGIC) : head]
    ):
        return {}
    try:
        entries = _Reader(io.BytesIO(payload)).load()
    except Exception:
        return {}
    return entries if isinstance(entries, dict) else {}


def _write(file: Path, data: bytes) -> None:
    file.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor, name = tempfile.mkstemp(prefix=".", suffix=_TEMPORARY, dir=file.parent)
    temporary = Path(name)
    try:
        with os.fdopen(descriptor, "wb") as out:
            out.write(data)
        temporary.replace(file)
    except BaseException:
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise


def _files(place: Path) -> list[tuple[float, int, Path]]:
    """Time of last use, size and path of each file, latest first."""
    found = []
    with contextlib.suppress(OSError), os.scandir(place) as entries:
        for entry in entries:
            if entry.name.endswith((SUFFIX, _TEMPORARY)) and entry.is_file(follow_symlinks=False):
                with contextlib.suppress(OSError):
                    status = entry.stat(follow_symlinks=False)
                    found.append((status.st_mtime, status.st_size, Path(entry.path)))
    return sorted(found, key=lambda item: item[0], reverse=True)


def _prune(place: Path) -> None:
    total, now = 0, time.time()
    for used, size, path in _files(place):
        total += size
        left_over = path.suffix == ".tmp" and now - used > 3600
        if total > MAX_TOTAL or now - used > MAX_AGE or left_over:
            with contextlib.suppress(OSError):
                path.unlink()


class _Reader(pickle.Unpickler):
    """Reads plain types, and dataclasses and enumerations of porter; nothing else."""

    def find_class(self, module: str, name: str) -> Any:
        if module.partition(".")[0] == "porter":
            found = getattr(importlib.import_module(module), name, None)
            if isinstance(found, type) and (
                dataclasses.is_dataclass(found) or issubclass(found, enum.Enum)
            ):
                return found
        if (module, name) in {("builtins", "frozenset"), ("builtins", "set")}:
            return frozenset if name == "frozenset" else set
        raise pickle.UnpicklingError(f"{module}.{name} is not kept in a cache")
