"""Makes the model: imports the user's module and calls what the specification names."""

from __future__ import annotations

import ast
import importlib
import importlib.util
import inspect
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from .record import Record, Stop

SEED = 2024


def paths(root: Path) -> list[str]:
    """What goes to the front of sys.path: the folder, and the `src` in it."""
    return [str(p) for p in (root, root / "src") if p.is_dir()]


def model(spec: Mapping[str, Any], record: Record, other: str) -> Any:
    """The model, in evaluation mode, its weights drawn from a fixed seed.

    Args:
        spec: of the model.
        record: for remarks.
        other: the tree that this process must not import from; may be empty.

    Raises:
        Stop: it cannot be made.
    """
    import torch

    sys.path[:0] = paths(record.root)
    seed(SEED)
    made = _made(spec)
    if not isinstance(made, torch.nn.Module):
        raise Stop(
            "build",
            f"{spec['module']}:{spec['attribute']} gives {_kind(made)}, not a torch.nn.Module",
        )
    _check_origin(spec, record, other)
    made.eval()
    return made


def materialize(model: Any, run: Callable[[], object]) -> None:
    """Give weights to lazy modules, which have none before the first call.

    Args:
        model: may have lazy modules.
        run: calls it.
    """
    import torch

    if any(torch.nn.parameter.is_lazy(p) for p in (*model.parameters(), *model.buffers())):
        run()


def seed(number: int) -> None:
    """Start all generators anew."""
    import random

    import numpy
    import torch

    random.seed(number)
    numpy.random.seed(number)
    torch.manual_seed(number)


def _made(spec: Mapping[str, Any]) -> Any:
    import torch

    module = _module(spec["module"])
    found: Any = module
    for part in spec["attribute"].split("."):
        if not hasattr(found, part):
            raise Stop("build", f"{spec['module']} has no {spec['attribute']!r}")
        found = getattr(found, part)
    if isinstance(found, torch.nn.Module):
        return found
    if not callable(found):
        raise Stop("build", f"{spec['attribute']} is {_kind(found)}, nothing that makes a model")
    arguments, options = _arguments(spec["arguments"])
    try:
        inspect.signature(found).bind(*arguments, **options)
    except TypeError as error:
        raise Stop(
            "build",
            f"{spec['attribute']}{spec['arguments'] or '()'}: {error}; write its arguments behind "
            "the name, or name a function that makes the model",
        ) from None
    except ValueError:
        pass  # Something without a signature: the call will tell.
    return found(*arguments, **options)


def _module(name: str) -> Any:
    if name.endswith(".py"):
        path = Path(name)
        for folder in sys.path[:2]:
            if (Path(folder) / name).is_file():
                path = Path(folder) / name
        if not path.is_file():
            raise Stop("build", f"{name}: no such file")
        sys.path.insert(0, str(path.parent.resolve()))
        found = importlib.util.spec_from_file_location(path.stem, path.resolve())
        if found is None or found.loader is None:
            raise Stop("build", f"{name}: not a Python file")
        module = importlib.util.module_from_spec(found)
        sys.modules[path.stem] = module
        found.loader.exec_module(module)
        return module
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name and (name == error.name or name.startswith(f"{error.name}.")):
            raise Stop("build", f"no module named {name!r} in this folder") from None
        raise


def _arguments(text: str) -> tuple[list[Any], dict[str, Any]]:
    if not text:
        return [], {}
    call = ast.parse(f"f{text}", mode="eval").body
    assert isinstance(call, ast.Call)
    arguments = [ast.literal_eval(a) for a in call.args]
    return arguments, {str(k.arg): ast.literal_eval(k.value) for k in call.keywords}


def _kind(value: Any) -> str:
    return "a module" if inspect.ismodule(value) else f"{type(value).__name__!r}"


def _check_origin(spec: Mapping[str, Any], record: Record, other: str) -> None:
    """An installed copy of the package, or the other tree, would prove nothing of this one."""
    name = spec["module"]
    key = Path(name).stem if name.endswith(".py") else name
    file = getattr(sys.modules.get(key), "__file__", None)
    if other:
        top, own = os.path.realpath(other) + os.sep, f"{record.root}{os.sep}"
        for module in list(sys.modules.values()):
            place = getattr(module, "__file__", None)
            loaded = os.path.realpath(place) if isinstance(place, str) else ""
            # One version may lie in a folder of the other.
            if loaded.startswith(top) and not (own.startswith(top) and loaded.startswith(own)):
                raise Stop(
                    "build",
                    f"{module.__name__} was imported from the other version of the code: the two "
                    "cannot be told apart (does something change sys.path?)",
                )
    if file is not None and not os.path.realpath(file).startswith(f"{record.root}{os.sep}"):
        record.note(f"{key} is not of this folder: {os.path.basename(file)} is an installed file")  # noqa: PTH119


def weights(path: Path) -> dict[str, Any]:
    """A state dict from a file; no code in it is run.

    Raises:
        Stop: there is none.
    """
    import torch

    try:
        found = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError:
        raise Stop("weights", f"{path.name}: no such file") from None
    except Exception as error:
        said = str(error).strip().splitlines() or [type(error).__name__]
        raise Stop(
            "weights", f"{path.name}: not loaded with weights_only=True: {said[0]}"
        ) from None
    for key in ("state_dict", "model", "model_state_dict"):
        if isinstance(found, dict) and isinstance(found.get(key), dict):
            found = found[key]
    if not isinstance(found, dict):
        raise Stop("weights", f"{path.name}: holds {type(found).__name__}, not a state dict")
    return found


def load(model: Any, state: Mapping[str, Any], name: str) -> None:
    """Load a state dict, all of it.

    Raises:
        Stop: it does not fit the model.
    """
    try:
        model.load_state_dict(state)
    except RuntimeError as error:
        said = " ".join(str(error).split())
        raise Stop("weights", f"{name} does not fit the model: {said[:400]}") from None


def tensors(model: Any) -> dict[str, Any]:
    """The tensors of a model's state dict, copied."""
    import torch

    state = model.state_dict()
    return {k: v.detach().clone() for k, v in state.items() if isinstance(v, torch.Tensor)}


def classes(model: Any, root: Path) -> list[list[Any]]:
    """Where the classes of a model and its parts stand: path below the root, first, last line."""
    found = set()
    for kind in {type(m) for m in model.modules()}:
        try:
            file = os.path.realpath(inspect.getsourcefile(kind) or "")
            lines, first = inspect.getsourcelines(kind)
        except (TypeError, OSError):
            continue  # made at run time, or its file is gone
        if file.startswith(f"{os.path.realpath(root)}{os.sep}"):
            found.add(
                (os.path.relpath(file, os.path.realpath(root)), first, first + len(lines) - 1)
            )
    return [list(place) for place in sorted(found)]
