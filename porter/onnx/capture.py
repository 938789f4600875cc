"""`porter onnx capture`: run a program, watch its models, and write what `check` needs.

The program runs as it is; torch itself starts the watch when it is imported
(https://docs.pytorch.org/tutorials/unstable/python_extension_autoload.html).
"""

from __future__ import annotations

import ast
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from porter import temporary
from porter.onnx import check, tables
from porter.onnx.spec import Constant, Dim, Group, Input, Model, Tensor, Value
from porter.onnx.tables import FACTORIES
from porter.problem import Mistake
from porter.rehearse import launch

VARIABLE = "PORTER_ONNX_CAPTURE"
#: Sizes of the first dimension where only one was seen: small, so that a check is quick.
BATCH = (2, 5)
_PACKAGE = "porter_onnx_watch"


@dataclass(frozen=True)
class Options:
    """How to capture.

    Args:
        python: the interpreter for scripts; empty for this one.
        module: whether the first word is a module.
        timeout: seconds after which the program is ended; 0 for no limit.
        on_cpu: whether the CPU stands for every device.
        save: where to keep real inputs and weights; None keeps none.
    """

    python: str = ""
    module: bool = False
    timeout: float = 600.0
    on_cpu: bool = False
    save: Path | None = None


@dataclass(frozen=True)
class Captured:
    """What a program showed.

    Args:
        models: that can be checked.
        factories: functions for those whose arguments are no literals, by name.
        notes: what could not be written, and what to look at.
        code: the program's exit code.
        stopped: whether it was ended at the time limit.
    """

    models: tuple[Model, ...]
    factories: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()
    code: int = 0
    stopped: bool = False


def capture(words: Sequence[str], root: Path, options: Options) -> Captured:
    """Run a program and describe its models.

    Args:
        words: a script, module or program with its arguments.
        root: the folder of the user's code; models of other folders are left out.
        options: how.

    Raises:
        Mistake: the program cannot be started.
    """
    if not words:
        raise Mistake("nothing to run: write porter onnx capture -- python train.py")
    with temporary.folder(launch.FOLDER_PREFIX) as folder:
        ended = _run(list(words), root, options, folder)
        rows, others = _read(folder / "seen")
        found = _described(rows, root.resolve())
        found = _saved(found, rows, folder / "seen", options.save, root)
        notes = [*found.notes, *_remarks(found, rows, others, ended)]
    return replace(found, notes=tuple(notes), code=ended.code, stopped=bool(ended.stopped))


def _run(words: list[str], root: Path, options: Options, folder: Path) -> launch.Ended:
    (folder / "seen").mkdir()
    settings = {
        "root": str(root.resolve()),
        "folder": str(folder / "seen"),
        "save": options.save is not None,
        "on_cpu": options.on_cpu,
    }
    (folder / "settings.json").write_text(json.dumps(settings), encoding="utf-8")
    check.boot(folder)
    info = folder / f"{_PACKAGE}-1.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {_PACKAGE}\nVersion: 1\n")
    entry = f"[torch.backends]\n{_PACKAGE} = {check.WORKER}.seen:start\n"
    (info / "entry_points.txt").write_text(entry)
    earlier = os.environ.get("PYTHONPATH", "")
    environment = {
        VARIABLE: str(folder / "settings.json"),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), earlier])),
        # What is compiled is called no more.
        "TORCHDYNAMO_DISABLE": "1",
        "TORCH_DEVICE_BACKEND_AUTOLOAD": "1",
    }
    if options.on_cpu:
        environment = {**check.on_cpu().ENVIRONMENT, **environment}
    python = options.python or sys.executable
    try:
        command = launch.resolve(words, python, options.module)
        return launch.run(
            command,
            environment,
            Path.cwd(),
            launch.Limits(options.timeout),
            output=sys.stderr,
        )
    except launch.NotFound as error:
        raise Mistake(str(error)) from None


def _read(folder: Path) -> tuple[list[dict[str, Any]], list[str]]:
    """What all processes saw: each model once, with the calls of all."""
    rows: dict[tuple[str, str, str], dict[str, Any]] = {}
    others: dict[str, None] = {}
    for path in sorted(folder.glob("*.json"), key=lambda p: p.stat().st_mtime):
        try:
            data = json.loads(path.read_text(encoding="utf-8"))
        except ValueError:
            continue
        others.update(dict.fromkeys(data["others"]))
        for row in data["seen"]:
            known = rows.setdefault((row["file"], row["name"], row["made"] or ""), row)
            if known is not row:
                known["calls"] += row["calls"]
    return list(rows.values()), list(others)


# Models -----------------------------------------------------------------------------------------


def _described(rows: Sequence[Mapping[str, Any]], root: Path) -> Captured:
    models: list[Model] = []
    factories: dict[str, str] = {}
    notes: list[str] = []
    for row in rows:
        name = _unique(row["name"].rpartition(".")[2], [m.name for m in models])
        try:
            inputs, vary = _inputs(row["calls"])
            factory = _factory(row, root, name, factories)
        except _Cannot as problem:
            notes.append(f"{row['name']} ({_shown(row, root)}): {problem}")
            factory, inputs, vary = "", (), ()
        models.append(Model(factory, name, inputs, vary))
        if factory and _runs_on_import(Path(row["file"]), row["module"]):
            notes.append(
                f"{name}: importing {_shown(row, root)} runs the program; put what it does behind "
                '`if __name__ == "__main__":`'
            )
    return Captured(tuple(models), factories, tuple(notes))


class _Cannot(Exception):
    """Why a model cannot be written; the text continues "NAME (FILE): "."""


def _unique(name: str, taken: Sequence[str]) -> str:
    number = 2
    found = name
    while found in taken:
        found, number = f"{name}_{number}", number + 1
    return found


def _shown(row: Mapping[str, Any], root: Path) -> str:
    return Path(row["file"]).relative_to(root).as_posix()


def _place(row: Mapping[str, Any], root: Path) -> str:
    """How the module of a model is named: as a module if it can be imported from the root."""
    file = Path(row["file"])
    parts = row["module"].split(".")
    for top in (root, root / "src"):
        for place in (top.joinpath(*parts, "__init__.py"), top.joinpath(*parts).with_suffix(".py")):
            if place == file:
                return str(row["module"])
    return _shown(row, root)


def _factory(row: Mapping[str, Any], root: Path, name: str, factories: dict[str, str]) -> str:
    if row["made"] is None:
        raise _Cannot(
            f"write a function that makes it, and a table for it: {row['why_not']} has no "
            "expression"
            if row["why_not"].startswith("argument")
            else f"write a function that makes it, and a table for it: {row['why_not']}"
        )
    place = _place(row, root)
    arguments = row["made"][len(row["name"]) :]
    if row["literal"]:
        return f"{place}:{row['name']}{'' if arguments == '()' else arguments}"
    function = _unique(_snake(name), list(factories))
    factories[function] = _function(function, row, place)
    return f"{Path(FACTORIES).stem}:{function}"


def _snake(name: str) -> str:
    return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()


def _function(function: str, row: Mapping[str, Any], place: str) -> str:
    if place.endswith(".py") and "/" in place:
        raise _Cannot(
            f"write a function that makes it: {place} is no module that can be imported, and its "
            "arguments are no literals"
        )
    modules: set[str] = set()
    names: dict[str, set[str]] = {}
    own = f"{row['module']}:{row['name']}"
    for needed in row["imports"]:
        module, _, name = needed.partition(":")
        if needed == own or module == "__main__":
            module = place.removesuffix(".py")
        if not name:
            modules.add(module)
        elif module != "builtins":
            names.setdefault(module, set()).add(name.partition(".")[0])
    lines = [f"    import {m}" for m in sorted(modules)]
    lines += [f"    from {m} import {', '.join(sorted(n))}" for m, n in sorted(names.items())]
    return "\n".join([f"def {function}():", *lines, "", f"    return {row['made']}", ""])


def _runs_on_import(file: Path, module: str) -> bool:
    """Whether a script does something when it is imported: it was run, and has no guard."""
    if module != "__main__":
        return False
    try:
        tree = ast.parse(file.read_text(encoding="utf-8"))
    except (OSError, ValueError, SyntaxError):
        return False
    return not any(
        isinstance(node, ast.If) and "__name__" in ast.unparse(node.test) for node in tree.body
    )


# Inputs -----------------------------------------------------------------------------------------


@dataclass
class _Names:
    """Names of dimensions, by the sizes that they had in each call."""

    calls: int
    found: dict[tuple[int, ...], list[str]] = field(default_factory=dict)
    sizes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    batch: int = 0

    def name(self, sizes: tuple[int, ...], axis: int, rank: int, used: set[str]) -> str:
        known = [n for n in self.found.get(sizes, []) if n not in used]
        if known:
            return known[0]
        wanted = "batch" if axis == 0 else _AXES.get((rank, axis), f"size{axis}")
        name = _unique(wanted, list(self.sizes))
        self.found.setdefault(sizes, []).append(name)
        self.sizes[name] = sizes
        return name


_AXES = {
    (2, 1): "length", (3, 1): "length", (3, 2): "width", (4, 2): "height", (4, 3): "width",
    (5, 2): "depth", (5, 3): "height", (5, 4): "width",
}  # fmt: skip


def _inputs(
    calls: Sequence[Mapping[str, Any]],
) -> tuple[tuple[Input, ...], tuple[tuple[str, tuple[int, ...]], ...]]:
    """The inputs that all calls are instances of, and the sizes of what varies in them."""
    first = calls[0]
    alike = [c for c in calls if _shape(c) == _shape(first)]
    names = _Names(len(alike))
    tensors = [t for t in _tensors(first) if t["shape"]]
    rows = [[t for t in _tensors(c) if t["shape"]] for c in alike]
    firsts = {t["shape"][0] for t in tensors}
    varies = any(len({row[i]["shape"][0] for row in rows}) > 1 for i in range(len(tensors)))
    if tensors and len(firsts) == 1 and not varies:
        names.batch = firsts.pop()
    merged = [
        *((n, _merged([c["named"][n] for c in alike], names)) for n in first["named"]),
        *(("", _merged([c["rest"][i] for c in alike], names)) for i in range(len(first["rest"]))),
    ]
    inputs = [Input(name, value) for name, value in merged]
    if first["rest"]:
        inputs = [Input("", i.value) for i in inputs]
    vary = tuple((n, _varied(sizes)) for n, sizes in names.sizes.items())
    return tuple(inputs), vary


def _shape(call: Mapping[str, Any]) -> str:
    """What two calls must share: the arguments and their kinds."""

    def plain(value: Any) -> Any:
        if isinstance(value, Mapping):
            if value.get("kind") == "tensor":
                return [value["dtype"], len(value["shape"])]
            return {k: plain(v) for k, v in value.items()}
        return [plain(v) for v in value] if isinstance(value, list) else value

    return json.dumps(plain(call), sort_keys=True)


def _tensors(value: Any) -> Iterator[Mapping[str, Any]]:
    if isinstance(value, Mapping):
        if value.get("kind") == "tensor":
            yield value
        else:
            for item in value.values():
                yield from _tensors(item)
    elif isinstance(value, list):
        for item in value:
            yield from _tensors(item)


def _merged(values: Sequence[Mapping[str, Any]], names: _Names) -> Value:
    first = values[0]
    kind = first["kind"]
    if kind == "object":
        raise _Cannot(f"an argument of forward is {first['what']}; pass tensors")
    if kind == "constant":
        return Constant(first["source"])
    if kind == "dict":
        return Group(
            kind,
            tuple((k, _merged([v["items"][k] for v in values], names)) for k in first["items"]),
        )
    if kind in ("list", "tuple"):
        rows = range(len(first["items"]))
        return Group(
            kind, tuple(("", _merged([v["items"][i] for v in values], names)) for i in rows)
        )
    return _tensor(values, names)


def _tensor(values: Sequence[Mapping[str, Any]], names: _Names) -> Tensor:
    first = values[0]
    used: set[str] = set()
    dims: list[int | Dim] = []
    for axis, size in enumerate(first["shape"]):
        sizes = tuple(v["shape"][axis] for v in values)
        guessed = axis == 0 and names.batch and sizes[0] == names.batch
        if len(set(sizes)) == 1 and not guessed:
            dims.append(size)
            continue
        name = names.name(sizes, axis, len(first["shape"]), used)
        used.add(name)
        dims.append(Dim(name))
    low, high = _range(first["dtype"], values)
    return Tensor(first["dtype"], tuple(dims), low, high)


def _range(dtype: str, values: Sequence[Mapping[str, Any]]) -> tuple[float | None, float | None]:
    lows = [v["low"] for v in values if v["low"] is not None]
    highs = [v["high"] for v in values if v["high"] is not None]
    if not lows or not highs:
        return None, None
    low, high = min(lows), max(highs)
    if dtype.startswith(("int", "uint")):
        return low, high + 1
    # Values that are never negative are often such by their meaning: images, masks, weights.
    return (0.0, _above(high)) if low >= 0 < high else (None, None)


def _above(value: float) -> float:
    """A short number that is at least as large."""
    return max(float(f"{value:.2g}"), float(f"{value * 1.05:.2g}")) if value != 1 else 1.0


def _varied(sizes: tuple[int, ...]) -> tuple[int, ...]:
    different = sorted(set(sizes))
    return BATCH if len(different) == 1 else (different[-1], different[0])


# What is kept -----------------------------------------------------------------------------------


def _saved(
    found: Captured, rows: Sequence[Mapping[str, Any]], seen: Path, save: Path | None, root: Path
) -> Captured:
    """The models with the files of their real inputs and weights, copied to where they stay."""
    if save is None:
        return found
    save.mkdir(parents=True, exist_ok=True)
    models = []
    for model, row in zip(found.models, rows, strict=True):
        if row["saved"]:
            for kind in ("inputs", "weights"):
                source = seen / f"{row['saved']}.{kind}.pt"
                if source.is_file():
                    shutil.copyfile(source, save / f"{model.name}.{kind}.pt")
            below = Path(os.path.relpath(save, root)).as_posix()
            model = replace(
                model,
                data=f"{below}/{model.name}.inputs.pt",
                weights=f"{below}/{model.name}.weights.pt",
            )
        models.append(model)
    return replace(found, models=tuple(models))


def _remarks(
    found: Captured,
    rows: Sequence[Mapping[str, Any]],
    others: Sequence[str],
    ended: launch.Ended,
) -> Iterator[str]:
    if ended.stopped:
        yield "the program was ended at the time limit; what it had called by then is written"
    elif ended.code:
        yield f"the program ended with exit code {ended.code}"
    if not rows and not others:
        yield "no module was called: does the program import torch, with the Python that runs it?"
    if others and not rows:
        yield f"only modules of installed packages were called: {', '.join(others[:5])}"


def text(found: Captured) -> str:
    """The tables, and the file of factories if one is needed, for a person to copy."""
    parts = [tables.written(m) for m in found.models if m.factory]
    if found.factories:
        parts.append(f"# {FACTORIES}:\n#\n" + _commented(tables.factories_text(found.factories)))
    return "\n".join(parts)


def _commented(code: str) -> str:
    return "".join(f"# {line}".rstrip() + "\n" for line in code.splitlines())
