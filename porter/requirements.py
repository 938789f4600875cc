"""Which torch version a project asks for, and which one its migrated code may rely on.

Read are pyproject.toml, setup.cfg, setup.py (never executed), requirements files and conda
environments at the top of a project. Specifiers follow
https://packaging.python.org/en/latest/specifications/version-specifiers/ , Poetry's carets
https://python-poetry.org/docs/dependency-specification/ and conda's single `=`.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from porter import files
from porter.config import ConfigProblem, read_toml
from porter.targets import ACCELERATOR_SINCE, DEFAULT_MIN_TORCH, Target, version

Version = tuple[int, int]

_LARGEST = 1_000_000  # bytes; a longer file is no list of requirements
_TOPS = ("pyproject.toml", "setup.py", "setup.cfg")
_LISTS = ("requirements*.txt", "requirements*.in", "requirements/*.txt")
_ENVIRONMENTS = tuple(f"{n}*.{e}" for n in ("environment", "conda") for e in ("yml", "yaml"))
_NAME = r"(?:[\w.-]+::)?(?:torch|pytorch)"
_REQUIREMENT = rf"(?i:\s*{_NAME}(?![\w.-])\s*(?:\[[^\]]*\])?\s*(?P<rest>[^;#]*))"
_CLAUSE = r"(?P<operator>===?|~=|!=|<=|>=|<|>|=|\^|~)?\s*v?(?P<version>\d{1,6}(?:\.\d{1,6})*)(?!\d)"
_WHEEL = r"torch-(\d{1,6}\.\d{1,6})(?!\d)"


class Bound(NamedTuple):
    """One place that asks for torch.

    Args:
        path: the file.
        line: 1-based line in it.
        text: that line, stripped.
        lower: lowest version allowed; None without a lower bound.
        upper: highest version allowed, as far as it is known; None without an upper bound.
        rank: 0 for what the package itself needs, then its extras, lists, environments.
    """

    path: Path
    line: int
    text: str
    lower: Version | None
    upper: Version | None
    rank: int

    def below(self, needed: Version) -> bool:
        """Whether it allows versions that are too old, or no other."""
        if self.upper is not None and self.upper < needed:
            return True
        return self.lower is not None and self.lower < needed


@dataclass(frozen=True)
class Choice:
    """The version taken.

    Args:
        version: (major, minor).
        origin: where it comes from: "given", "default" or a file name.
        too_low: the declared bounds that are lower.
        asked: the files that may declare bounds.
        problems: what of them could not be read, for the user.
    """

    version: Version
    origin: str
    too_low: tuple[Bound, ...] = ()
    asked: tuple[Path, ...] = ()
    problems: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """Like "2.9"."""
        return f"{self.version[0]}.{self.version[1]}"


def choose(target: str, asked: str, bounds: Sequence[Bound]) -> Choice:
    """The lowest torch version to support.

    Args:
        target: name of the target.
        asked: a version, which wins, or "auto".
        bounds: what the project declares.

    Raises:
        ValueError: `asked` is neither.
    """
    if asked != "auto":
        chosen, origin = version(asked), "given"
    else:
        chosen, origin = DEFAULT_MIN_TORCH, "default"
        declared = _lowest(bounds)
        if declared is not None and declared.lower is not None:
            usable = not Target(target).agnostic or declared.lower >= ACCELERATOR_SINCE
            if usable:
                chosen, origin = declared.lower, declared.path.name
    return Choice(chosen, origin, tuple(b for b in bounds if b.below(chosen)))


def _lowest(bounds: Sequence[Bound]) -> Bound | None:
    """The lowest of the bounds that say most about the package."""
    lower = [b for b in bounds if b.lower is not None]
    return min(lower, key=lambda b: (b.rank, b.lower or (0, 0)), default=None)


def project_folder(path: Path) -> Path:
    """The folder at or above `path` that holds the project's metadata; else its own folder.

    Above a package without metadata this is the folder that the package is imported from.
    """
    start = (path if path.is_dir() else path.parent).absolute()
    for folder in (start, *start.parents):
        if has_metadata(folder):
            return folder
        if (folder / ".git").exists():
            break
    folder = start
    while (folder / "__init__.py").is_file() and folder.parent != folder:
        folder = folder.parent
    return folder


def declaring_folder(path: Path) -> Path:
    """The folder at or above `path` whose files say which torch is wanted; else the project's.

    An example or a service inside a larger project may have requirements of its own.
    """
    project = project_folder(path)
    start = (path if path.is_dir() else path.parent).absolute()
    for folder in (start, *start.parents):
        if folder == project or (folder / ".git").exists():
            break
        if declared(folder):
            return folder
    return project


def has_metadata(folder: Path) -> bool:
    """Whether `folder` is the top of a project that can be installed."""
    return any((folder / name).is_file() for name in _TOPS)


def declared(folder: Path) -> list[Bound]:
    """Every place at the top of the project in `folder` that asks for torch, in stable order."""
    bounds = [
        *_pyproject(folder / "pyproject.toml"),
        *_setup_cfg(folder / "setup.cfg"),
        *_setup_py(folder / "setup.py"),
    ]
    for path in _named(folder, *_LISTS):
        bounds += _lines(path, rank=2)
    for path in _named(folder, *_ENVIRONMENTS):
        bounds += _lines(path, rank=3, lead=r"\s*-\s*['\"]?")
    return sorted(set(bounds), key=lambda b: (b.rank, b.path.as_posix(), b.line))


def problems(folder: Path) -> list[str]:
    """What at the top of the project in `folder` could not be read, one line each."""
    path = folder / "pyproject.toml"
    if "torch" not in _text(path):
        return []
    try:
        read_toml(path)
    except ConfigProblem as problem:
        return [f"{problem}; the torch version that it asks for was not read"]
    return []


def asked(folder: Path) -> list[Path]:
    """The files that `declared` reads."""
    return _named(folder, *_TOPS, *_LISTS, *_ENVIRONMENTS)


def _named(folder: Path, *patterns: str) -> list[Path]:
    return sorted({path for pattern in patterns for path in folder.glob(pattern)})


def _text(path: Path) -> str:
    try:
        return files.read(path, _LARGEST).decode("utf-8-sig", "replace")
    except OSError:
        return ""


# Specifiers -------------------------------------------------------------------------------------


def parse(requirement: str, *, bare: str = ">=") -> tuple[Version | None, Version | None] | None:
    """Lower and upper bound of a requirement such as `torch>=2.1,<3`; None if it is not torch's.

    Args:
        requirement: the text.
        bare: the operator meant where a version stands alone.
    """
    found = re.match(_REQUIREMENT, requirement)
    return None if found is None else _bounds(found["rest"], bare)


def _bounds(specifier: str, bare: str) -> tuple[Version | None, Version | None]:
    if "@" in specifier or "://" in specifier:
        wheel = re.search(_WHEEL, specifier, re.ASCII)
        exact = version(wheel[1]) if wheel else None
        return exact, exact
    lowers: list[Version] = []
    uppers: list[Version] = []
    for clause in re.split(r"(?<![,\s|])[,\s|]+(?=[<>=!~^])|,", specifier.strip(" \t\"'()")):
        found = re.match(_CLAUSE, clause.strip(), re.ASCII)
        if found is None:
            continue
        numbers = [int(n) for n in found["version"].split(".")]
        at = (numbers[0], numbers[1] if len(numbers) > 1 else 0)
        operator = found["operator"] or bare
        if operator in {">=", ">", "==", "===", "=", "~=", "^", "~"}:
            lowers.append(at)
        if operator in {"==", "===", "=", "<="}:
            uppers.append(at if len(numbers) > 1 else (at[0], 999))
        elif operator == "<":
            whole = len(numbers) < 3 or not any(numbers[2:])
            uppers.append(_before(at) if whole else at)
    return max(lowers, default=None), min(uppers, default=None)


def _before(at: Version) -> Version:
    return (at[0], at[1] - 1) if at[1] else (at[0] - 1, 999)


# Files ------------------------------------------------------------------------------------------


def _lines(path: Path, *, rank: int, lead: str = "") -> Iterator[Bound]:
    """Requirements that stand one on a line, behind `lead`."""
    for number, line in enumerate(_text(path).splitlines(), 1):
        begin = re.match(lead, line)
        found = parse(line[begin.end() :]) if begin else None
        if found is not None:
            yield Bound(path, number, line.strip(), *found, rank)


def _located(path: Path, text: str, requirements: Iterable[str], rank: int) -> Iterator[Bound]:
    """Requirements given as text, with the first line that holds each."""
    for requirement in requirements:
        found = parse(requirement)
        if found is None:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if requirement.strip() in line:
                yield Bound(path, number, line.strip(), *found, rank)
                break


def _pyproject(path: Path) -> Iterator[Bound]:
    text = _text(path)
    if "torch" not in text:
        return
    try:
        data = read_toml(path)
    except ConfigProblem:  # `problems` says so; a broken file must not stop the run
        return
    project = _table(data.get("project"))
    yield from _located(path, text, _strings(project.get("dependencies")), 0)
    for extra in _table(project.get("optional-dependencies")).values():
        yield from _located(path, text, _strings(extra), 1)
    poetry = _table(_table(data.get("tool")).get("poetry"))
    yield from _poetry(path, text, poetry.get("dependencies"), 0)
    yield from _poetry(path, text, poetry.get("dev-dependencies"), 1)
    for group in _table(poetry.get("group")).values():
        yield from _poetry(path, text, _table(group).get("dependencies"), 1)


def _poetry(path: Path, text: str, dependencies: object, rank: int) -> Iterator[Bound]:
    value = _table(dependencies).get("torch")
    for option in value if isinstance(value, list) else [value]:
        specifier = _table(option).get("version") if isinstance(option, dict) else option
        if not isinstance(specifier, str):
            continue
        for number, line in enumerate(text.splitlines(), 1):
            if re.search(r"\btorch\b", line) and specifier in line:
                yield Bound(path, number, line.strip(), *_bounds(specifier, "=="), rank)
                break


def _table(value: object) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _strings(value: object) -> list[str]:
    return [v for v in value if isinstance(v, str)] if isinstance(value, list) else []


def _setup_cfg(path: Path) -> Iterator[Bound]:
    text = _text(path)
    if "torch" not in text.lower():
        return
    import configparser

    config = configparser.RawConfigParser(strict=False)
    with contextlib.suppress(configparser.Error):
        config.read_string(text)
    own: object = config.get("options", "install_requires", fallback="")
    yield from _located(path, text, _said(own), 0)
    if config.has_section("options.extras_require"):
        for _, extra in config.items("options.extras_require"):
            yield from _located(path, text, _said(extra), 1)


def _said(value: object) -> list[str]:
    """The lines of a value; the parser leaves a list of them where it stops at an error."""
    return value.splitlines() if isinstance(value, str) else _strings(value)


def _setup_py(path: Path) -> Iterator[Bound]:
    """String constants of setup.py that are requirements, wherever they stand."""
    text = _text(path)
    if "torch" not in text:
        return
    import ast

    from porter.syntax import SyntaxProblem
    from porter.syntax import parse as parse_python

    try:
        tree = parse_python(text)
    except SyntaxProblem:
        return
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or not isinstance(node.value, str):
            continue
        whole = re.fullmatch(_REQUIREMENT, node.value)
        if whole is None or not re.match(r"[<>=!~@]", whole["rest"]):
            continue
        found = _bounds(whole["rest"], "==")
        yield Bound(path, node.lineno, text.splitlines()[node.lineno - 1].strip(), *found, 0)
