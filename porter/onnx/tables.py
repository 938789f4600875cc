"""Writes `[[tool.porter.onnx]]` tables, and adds them to a configuration.

Tables are put at the end of the file and nothing else in it is touched; the result is read back
before it replaces the file.
"""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from porter import config
from porter.config import OWN_FILE, SHARED_FILE
from porter.onnx.spec import DEFAULT_OPSET, Model, from_tables, shown
from porter.problem import Problem
from porter.writing import write_atomic

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

#: The file of functions that make models whose arguments are no literals.
FACTORIES = "porter_onnx_models.py"
_LINE = 96


class TablesProblem(Problem):
    """A configuration that tables cannot be added to; the text is one line."""


def written(model: Model, header: str = "tool.porter.onnx") -> str:
    """A model as a table."""
    lines = [f"[[{header}]]"]
    if model.name:
        lines.append(f"name = {_text(model.name)}")
    lines.append(f"model = {_text(model.factory)}")
    if model.inputs:
        lines += _list("inputs", [_text(shown(i)) for i in model.inputs])
    if model.vary:
        sizes = ", ".join(f"{n} = [{', '.join(map(str, s))}]" for n, s in model.vary)
        lines.append(f"vary = {{ {sizes} }}")
    if model.opset != DEFAULT_OPSET:
        lines.append(f"opset = {model.opset}")
    for key in ("root", "weights", "data"):
        if getattr(model, key):
            lines.append(f"{key} = {_text(getattr(model, key))}")
    for key in ("tolerance", "timeout"):
        if getattr(model, key) is not None:
            lines.append(f"{key} = {getattr(model, key)}")
    return "\n".join(lines) + "\n"


def _text(value: str) -> str:
    # A basic string of TOML is one of JSON, but for one character that JSON leaves as it is.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _list(key: str, items: list[str]) -> list[str]:
    line = f"{key} = [{', '.join(items)}]"
    if len(line) <= _LINE:
        return [line]
    return [f"{key} = [", *(f"    {item}," for item in items), "]"]


def add(root: Path, models: Iterable[Model]) -> tuple[Path, list[str], list[str]]:
    """Add tables to the configuration of a folder.

    Args:
        root: the folder; without a configuration in it, its pyproject.toml is taken, or else a
            porter.toml is made.
        models: to write; one whose name is there already is left out.

    Returns:
        The file, the names that were added, and those that were there already.

    Raises:
        TablesProblem: the file cannot be added to.
        porter.config.ConfigProblem: the file is malformed.
    """
    path = _file(root)
    before = path.read_bytes() if path.is_file() else b""
    old = config.read(path).onnx if before and _configured(path) else ()
    known = {model.title for model in old}
    wanted = [m for m in models if m.title not in known]
    there = [m.title for m in models if m.title in known]
    if not wanted:
        return path, [], there
    header = "onnx" if path.name == OWN_FILE else "tool.porter.onnx"
    after = _appended(before, [written(m, header) for m in wanted])
    _check(path, after, [*old, *wanted], header)
    write_atomic(path, after, expected=before if path.is_file() else None)
    return path, [m.title for m in wanted], there


def _file(root: Path) -> Path:
    own, shared = root / OWN_FILE, root / SHARED_FILE
    return own if own.is_file() or not shared.is_file() else shared


def _configured(path: Path) -> bool:
    if path.name == OWN_FILE:
        return True
    found: Any = config.read_toml(path).get("tool", {})
    return "porter" in found


def _appended(before: bytes, tables: list[str]) -> bytes:
    newline = b"\r\n" if b"\r\n" in before else b"\n"
    gap = b"" if not before else (newline if before.endswith(b"\n") else newline * 2)
    return before + gap + "\n".join(tables).encode().replace(b"\n", newline)


def _check(path: Path, after: bytes, models: list[Model], header: str) -> None:
    """The file must hold the old tables and the new ones, and read as what was wanted."""
    try:
        found: Any = tomllib.loads(after.decode("utf-8-sig"))
        for key in header.split("."):
            found = found[key]
        read = from_tables(found)
    except (tomllib.TOMLDecodeError, KeyError, TypeError, ValueError, Problem) as problem:
        raise TablesProblem(
            f"{path}: tables cannot be put at its end ({' '.join(str(problem).split())}); copy "
            "them by hand"
        ) from None
    if list(read) != models:
        raise TablesProblem(f"{path}: the tables would read otherwise; copy them by hand")


# Factories --------------------------------------------------------------------------------------


def factories_text(factories: Mapping[str, str]) -> str:
    """The file of functions that make models."""
    head = '"""Makes the models that `porter onnx check` checks."""\n'
    return "\n\n".join([head, *factories.values()])


def add_factories(root: Path, factories: Mapping[str, str]) -> tuple[Path, list[str], list[str]]:
    """Add functions to the file of factories in a folder; those that it has stay.

    Returns:
        The file, the functions that were added, and those that were there already.

    Raises:
        TablesProblem: the file is not Python.
    """
    path = root / FACTORIES
    before = path.read_bytes() if path.is_file() else None
    text = before.decode("utf-8", "replace") if before is not None else ""
    try:
        known = {n.name for n in ast.parse(text).body if isinstance(n, ast.FunctionDef)}
    except (SyntaxError, ValueError):
        raise TablesProblem(f"{path}: is not Python; mend it or remove it") from None
    new = {name: code for name, code in factories.items() if name not in known}
    if new:
        after = (
            f"{text.rstrip()}\n\n\n{chr(10).join(new.values())}" if text else factories_text(new)
        )
        write_atomic(path, after.encode(), expected=before)
    return path, list(new), [name for name in factories if name in known]
