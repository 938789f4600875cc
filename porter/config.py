"""Settings from `[tool.porter]` in pyproject.toml, or from porter.toml.

The closest such file at or above the given path counts, up to the top of its repository.
"""

from __future__ import annotations

import contextlib
import difflib
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porter.problem import Problem
from porter.targets import NAMES, version

if TYPE_CHECKING:
    from porter.onnx.spec import Model

if sys.version_info >= (3, 11):
    import tomllib as tomllib
else:
    import tomli as tomllib

OWN_FILE = "porter.toml"
SHARED_FILE = "pyproject.toml"


class ConfigProblem(Problem):
    """A configuration that cannot be used; `message` is one line that names the file."""

    def __init__(self, message: str) -> None:
        """Keep `message` as the one line to show."""
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Settings:
    """What a configuration file can set.

    Args:
        target: what to migrate to.
        min_torch: lowest torch version to support, or "auto".
        select: code prefixes in force; empty means all.
        ignore: code prefixes not in force.
        exclude: patterns as in a .gitignore of files to leave out.
        force_exclude: leave out excluded files also where the command line names them.
        unsafe: apply unsafe rewrites too.
        torch_npu: version of torch_npu that API findings are for; empty takes the newest known.
        hardware: product line that API findings are for; empty names no line.
        per_file_ignores: (pattern, code prefixes), as `ignore` for matching files.
        onnx: the models that `porter onnx check` checks.
        source: the file; None for the built-in settings.
    """

    target: str = "accelerator"
    min_torch: str = "auto"
    select: tuple[str, ...] = ()
    ignore: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()
    force_exclude: bool = False
    unsafe: bool = False
    torch_npu: str = ""
    hardware: str = ""
    per_file_ignores: tuple[tuple[str, tuple[str, ...]], ...] = ()
    onnx: tuple[Model, ...] = ()
    source: Path | None = None

    @property
    def folder(self) -> Path | None:
        """The folder that the patterns are relative to."""
        return self.source.parent if self.source is not None else None


def load(paths: Sequence[Path]) -> Settings:
    """The settings for these paths.

    Raises:
        ConfigProblem: a file is malformed, or the paths belong to different files.
    """
    sources = {_closest(path) for path in paths} or {None}
    if len(sources) > 1:
        names = ", ".join(sorted(str(s) if s else "no file" for s in sources))
        raise ConfigProblem(
            f"these paths have different configurations ({names}); run porter on each"
        )
    source = sources.pop()
    return read(source) if source is not None else Settings()


def _closest(path: Path) -> Path | None:
    start = path.absolute()
    for folder in (start, *start.parents):
        own = folder / OWN_FILE
        if own.is_file():
            return own
        shared = folder / SHARED_FILE
        if shared.is_file() and _configures(shared):
            return shared
        if (folder / ".git").exists():
            return None
    return None


def _configures(shared: Path) -> bool:
    """Whether a pyproject.toml has settings of porter.

    Raises:
        ConfigProblem: it names porter, but is malformed; any other is just a file of the project.
    """
    try:
        return "porter" in read_toml(shared).get("tool", {})
    except ConfigProblem:
        with contextlib.suppress(OSError):
            if b"porter" in shared.read_bytes():
                raise
        return False


def read(source: Path) -> Settings:
    """The settings of one file.

    Raises:
        ConfigProblem: the file is malformed, or has an unknown key or a wrong value.
    """
    table: Any = read_toml(source)
    where = str(_shown(source))
    if source.name == SHARED_FILE:
        table = table["tool"]["porter"]
        where += ": [tool.porter]"
    if not isinstance(table, dict):
        raise ConfigProblem(f"{where} must be a table")
    values: dict[str, Any] = {}
    for key, value in table.items():
        reader = _READERS.get(key)
        if reader is None:
            raise ConfigProblem(f"{where}: unknown key {key!r}{_suggestion(key, _READERS)}")
        try:
            values[key.replace("-", "_")] = reader(value)
        except _Wrong as problem:
            raise ConfigProblem(f"{where}: {key} {problem}") from None
    return Settings(**values, source=source)


def read_toml(source: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        ConfigProblem: it cannot be read or is malformed.
    """
    try:
        data: dict[str, Any] = tomllib.loads(source.read_bytes().decode("utf-8-sig"))
        return data
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, RecursionError) as problem:
        reason = str(problem) or type(problem).__name__
        raise ConfigProblem(f"{_shown(source)}: not valid TOML: {reason}") from None
    except OSError as problem:
        raise ConfigProblem(f"{_shown(source)}: cannot be read: {problem.strerror}") from None


def _shown(path: Path) -> Path:
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def _suggestion(word: str, known: Mapping[str, object] | Sequence[str]) -> str:
    plain = word.lower().replace("_", "-")
    close = difflib.get_close_matches(plain, list(known), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f" (known: {', '.join(sorted(known))})"


# Values -----------------------------------------------------------------------------------------


class _Wrong(Exception):
    """A value of the wrong kind; the text continues "KEY ..."."""


def _target(value: Any) -> str:
    if value in NAMES:
        return str(value)
    if isinstance(value, str):
        raise _Wrong(f"cannot be {value!r}{_suggestion(value, NAMES)}")
    raise _Wrong(f"must be one of {', '.join(NAMES)}, not {_kind(value)}")


def _min_torch(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # The number 2.10 is 2.1: only text can tell them apart.
        raise _Wrong('must be text: write it in quotes, like "2.9"')
    if not isinstance(value, str):
        raise _Wrong(f'must be text like "2.9" or "auto", not {_kind(value)}')
    if value != "auto":
        try:
            version(value)
        except ValueError:
            raise _Wrong(f'cannot be {value!r}: write it like "2.9", or "auto"') from None
    return value


def _texts(value: Any) -> tuple[str, ...]:
    if not isinstance(value, list):
        raise _Wrong(f"must be a list of text, not {_kind(value)}")
    for item in value:
        if not isinstance(item, str):
            raise _Wrong(f"must be a list of text, but holds {_kind(item)}")
    return tuple(value)


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise _Wrong(f"must be text, not {_kind(value)}")
    return value


def _flag(value: Any) -> bool:
    if not isinstance(value, bool):
        raise _Wrong(f"must be true or false, not {_kind(value)}")
    return value


def _patterns(value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise _Wrong(f"must be a table of pattern = [codes], not {_kind(value)}")
    try:
        return tuple((pattern, _texts(codes)) for pattern, codes in value.items())
    except _Wrong as problem:
        raise _Wrong(f"of a pattern {problem}") from None


def _models(value: Any) -> tuple[Model, ...]:
    from porter.onnx.spec import SpecProblem, from_tables

    if not isinstance(value, list):
        raise _Wrong(f"must be tables, [[tool.porter.onnx]], not {_kind(value)}")
    try:
        return from_tables(value)
    except SpecProblem as problem:
        raise _Wrong(str(problem)) from None


def _kind(value: Any) -> str:
    for kind, name in _KINDS:
        if isinstance(value, kind):
            return name
    return "a date"


_KINDS: tuple[tuple[type, str], ...] = (
    (bool, "true or false"),
    (str, "text"),
    (int, "a number"),
    (float, "a number"),
    (list, "a list"),
    (dict, "a table"),
)

_READERS: dict[str, Callable[[Any], Any]] = {
    "target": _target,
    "min-torch": _min_torch,
    "select": _texts,
    "ignore": _texts,
    "exclude": _texts,
    "force-exclude": _flag,
    "unsafe": _flag,
    "torch-npu": _text,
    "hardware": _text,
    "per-file-ignores": _patterns,
    "onnx": _models,
}
