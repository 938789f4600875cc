"""Settings from `[tool.porter]` in pyproject.toml, or from porter.toml.

The closest such file at or above the given path counts, up to the top of its repository.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porter import files
from porter.problem import Problem
from porter.targets import NAMES, version

if TYPE_CHECKING:
    from porter.onnx.spec import Model

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
    if not _may_name_porter(shared):
        return False
    try:
        tools = read_toml(shared).get("tool")
        return isinstance(tools, dict) and "porter" in tools
    except ConfigProblem:
        with contextlib.suppress(OSError):
            if b"porter" in files.read(shared, files.SETTINGS):
                raise
        return False


def _may_name_porter(shared: Path) -> bool:
    """False only if no key of a TOML file can be "porter": most need not be parsed."""
    try:
        data = files.read(shared, files.SETTINGS)
    except OSError:
        return False
    return any(text in data for text in (b"porter", b"\\u", b"\\U", b"\\x"))


def read(source: Path) -> Settings:
    """The settings of one file.

    Raises:
        ConfigProblem: the file is malformed, or has an unknown key or a wrong value.
    """
    table: Any = read_toml(source)
    where = str(shown(source))
    if source.name == SHARED_FILE:
        table = table["tool"]["porter"]
        where += ": [tool.porter]"
    if not isinstance(table, dict):
        raise ConfigProblem(f"{where} must be a table")
    values: dict[str, Any] = {}
    for key, value in table.items():
        values[key.replace("-", "_")] = checked(where, key, value, READERS)
    return Settings(**values, source=source)


Reader = Callable[[Any], Any]
"""Makes a setting of a value of a TOML file; raises `Wrong`."""


def checked(where: str, key: str, value: Any, readers: Mapping[str, Reader]) -> Any:
    """One setting of a TOML file.

    Args:
        where: the file, and the table in it.
        key: as it stands there.
        value: as it stands there.
        readers: what reads each key.

    Raises:
        ConfigProblem: the key is unknown, or the value is wrong.
    """
    reader = readers.get(key)
    if reader is None:
        raise ConfigProblem(f"{where}: unknown key {key!r}{meant(key, readers)}")
    try:
        return reader(value)
    except Wrong as problem:
        raise ConfigProblem(f"{where}: {key} {problem}") from None


def read_toml(source: Path) -> dict[str, Any]:
    """The content of a TOML file.

    Raises:
        ConfigProblem: it cannot be read or is malformed.
    """
    from porter import toml

    try:
        return toml.loads(files.read(source, files.SETTINGS).decode("utf-8-sig"))
    except ValueError as problem:
        raise ConfigProblem(f"{shown(source)}: not valid TOML: {problem}") from None
    except OSError as problem:
        raise ConfigProblem(f"{shown(source)}: cannot be read: {problem.strerror}") from None


def shown(path: Path) -> Path:
    """A path as messages name it: from here, if it is below."""
    here = Path.cwd()
    return path.relative_to(here) if path.is_relative_to(here) else path


def meant(word: str, known: Mapping[str, object] | Sequence[str]) -> str:
    """What to say of a word that is not among the known ones."""
    plain = word.lower().replace("_", "-")
    import difflib

    close = difflib.get_close_matches(plain, list(known), n=1)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f" (known: {', '.join(sorted(known))})"


# Values -----------------------------------------------------------------------------------------


class Wrong(Exception):
    """A value of the wrong kind; the text continues "KEY ..."."""


def _target(value: Any) -> str:
    if value in NAMES:
        return str(value)
    if isinstance(value, str):
        raise Wrong(f"cannot be {value!r}{meant(value, NAMES)}")
    raise Wrong(f"must be one of {', '.join(NAMES)}, not {kind_of(value)}")


def _min_torch(value: Any) -> str:
    if isinstance(value, (int, float)) and not isinstance(value, bool):
        # The number 2.10 is 2.1: only text can tell them apart.
        raise Wrong('must be text: write it in quotes, like "2.9"')
    if not isinstance(value, str):
        raise Wrong(f'must be text like "2.9" or "auto", not {kind_of(value)}')
    if value != "auto":
        try:
            version(value)
        except ValueError:
            raise Wrong(f'cannot be {value!r}: write it like "2.9", or "auto"') from None
    return value


def texts(value: Any) -> tuple[str, ...]:
    """A list of text."""
    if not isinstance(value, list):
        raise Wrong(f"must be a list of text, not {kind_of(value)}")
    for item in value:
        if not isinstance(item, str):
            raise Wrong(f"must be a list of text, but holds {kind_of(item)}")
    return tuple(value)


def text(value: Any) -> str:
    """Text."""
    if not isinstance(value, str):
        raise Wrong(f"must be text, not {kind_of(value)}")
    return value


def flag(value: Any) -> bool:
    """True or false."""
    if not isinstance(value, bool):
        raise Wrong(f"must be true or false, not {kind_of(value)}")
    return value


def _patterns(value: Any) -> tuple[tuple[str, tuple[str, ...]], ...]:
    if not isinstance(value, dict):
        raise Wrong(f"must be a table of pattern = [codes], not {kind_of(value)}")
    try:
        return tuple((pattern, texts(codes)) for pattern, codes in value.items())
    except Wrong as problem:
        raise Wrong(f"of a pattern {problem}") from None


def _models(value: Any) -> tuple[Model, ...]:
    from porter.onnx.spec import SpecProblem, from_tables

    if not isinstance(value, list):
        raise Wrong(f"must be tables, [[tool.porter.onnx]], not {kind_of(value)}")
    try:
        return from_tables(value)
    except SpecProblem as problem:
        raise Wrong(str(problem)) from None


def kind_of(value: Any) -> str:
    """What a value of a TOML file is, in words."""
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

#: What reads each key.
READERS: dict[str, Reader] = {
    "target": _target,
    "min-torch": _min_torch,
    "select": texts,
    "ignore": texts,
    "exclude": texts,
    "force-exclude": flag,
    "unsafe": flag,
    "torch-npu": text,
    "hardware": text,
    "per-file-ignores": _patterns,
    "onnx": _models,
}
