"""`porter onnx check`: both versions of the code, both processes of each model, one verdict.

Nothing here imports torch; the processes do, with the Python that they are given.
"""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from porter import temporary
from porter.onnx import spec
from porter.onnx.spec import Model
from porter.onnx.trees import TreeProblem, Trees, at_revision, mirror
from porter.onnx.verdict import ModelCheck, Ran, judge, with_operators
from porter.problem import Mistake
from porter.rehearse import launch

if TYPE_CHECKING:
    from porter.runner import Run

#: What the processes import; porter's own packages are not among it.
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript")
INSTALL = "pip install 'torch-porter[onnx]'"
DEFAULT_TIMEOUT = 600.0
DEFAULT_MEMORY = 16 << 30
#: How many places of a model's source are named.
ADVICE = 6
_HERE = Path(__file__).parent
WORKER = "porter_onnx_worker"
#: Where porter keeps what makes a device the CPU.
_ON_CPU = "porter.rewrites._on_cpu"


@dataclass(frozen=True)
class Options:
    """How to check.

    Args:
        python: the interpreter for the models; empty for this one.
        timeout: seconds for each process; 0 for no limit.
        memory: bytes for each process; 0 for no limit.
        keep: a folder for the graphs; None keeps none.
        operators: whether the compiler is asked.
        gate: whether a model passes only if the compiler takes its operators.
        echo: whether what the processes write is shown.
    """

    python: str = ""
    timeout: float = DEFAULT_TIMEOUT
    memory: int = DEFAULT_MEMORY
    keep: Path | None = None
    operators: bool = True
    gate: bool = True
    echo: bool = False


def missing(python: str = "") -> list[str]:
    """The packages that are not installed, in the order to name them."""
    if not python:
        return [name for name in PACKAGES if importlib.util.find_spec(name) is None]
    code = (
        "import importlib.util as u, sys; "
        f"print(*[n for n in {PACKAGES!r} if u.find_spec(n) is None])"
    )
    try:
        done = subprocess.run([python, "-c", code], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise Mistake(f"--python {python}: cannot be run ({error})") from None
    if done.returncode:
        raise Mistake(f"--python {python}: is no Python")
    return done.stdout.split()


@contextlib.contextmanager
def prepared(root: Path, run: Run | None, original: str) -> Iterator[tuple[Trees, bool]]:
    """Both versions of the code.

    Args:
        root: the user's tree.
        run: what `porter migrate` would do to it, if that is what is compared.
        original: a folder or a revision with the original, if the tree is migrated already;
            empty for none.

    Yields:
        Where they lie, and whether they are the same.

    Raises:
        TreeProblem: the original cannot be had.
    """
    with temporary.folder(launch.FOLDER_PREFIX) as name:
        if original:
            before = Path(original)
            if not before.is_dir():
                before = Path(name, "original")
                at_revision(root, original, before)
                names = {root: "", before: f"{original}:"}
            else:
                names = {root: "", before: f"{original.rstrip(os.sep)}{os.sep}"}
            if os.path.realpath(before) == os.path.realpath(root):
                raise TreeProblem(f"--original {original}: is the tree to check itself")
            yield Trees(root, before, dict(sorted(names.items(), key=_deepest))), False
        elif run is None or not run.changed:
            yield Trees(root, None, {root: ""}), run is not None
        else:
            after = Path(name, "migrated")
            mirror(root, after, {c.file.path: c.after for c in run.changed})
            changed = frozenset(_below(root, c.file.path) for c in run.changed)
            yield Trees(after, root, {after: "", root: ""}, changed), False


def _below(root: Path, path: Path) -> str:
    return os.path.relpath(os.path.realpath(path), os.path.realpath(root))


def _deepest(item: tuple[Path, str]) -> int:
    return -len(os.path.realpath(item[0]))


def check(
    models: Sequence[Model],
    trees: Trees,
    options: Options,
    *,
    same: bool = False,
    told: Callable[[Model], None] = lambda model: None,
) -> list[ModelCheck]:
    """Check models, one after the other.

    Args:
        models: with roots relative to the trees.
        trees: both versions of the code.
        options: how.
        same: whether the original was found to be the same code.
        told: called before each model.

    Raises:
        Mistake: the processes cannot be started.
    """
    found = []
    for model in models:
        told(model)
        with temporary.folder(launch.FOLDER_PREFIX) as folder:
            found.append(_model(model, trees, options, folder, same))
    return found


def _model(model: Model, trees: Trees, options: Options, folder: Path, same: bool) -> ModelCheck:
    boot(folder)
    original = None
    if trees.original is not None:
        original = _run(model, trees, options, folder, "original", compare=False)
    compare = original is not None and original.done
    migrated = _run(model, trees, options, folder, "migrated", compare=compare)
    found = judge(model, original, migrated, trees.rename)
    if same:
        found = replace(found, original={"status": "same code", "error": None, "reason": ""})
    if found.rung and options.operators:
        path = folder / str(migrated.record["file"])
        report, note = _operators(path, found.name)
        found = with_operators(found, report, note, gate=options.gate)
    if found.rung in ("", "static", "legacy"):
        found = replace(
            found, notes=(*found.notes, *_advice(migrated, trees.migrated / model.root))
        )
    if not found.rung:
        return found
    path = folder / str(migrated.record["file"])
    if options.keep is not None:
        _keep(path, options.keep, found.name)
    return found


def boot(folder: Path) -> None:
    """Put the worker where a Python without porter finds it."""
    copy = folder / WORKER
    copy.mkdir()
    for path in (_HERE / "worker").glob("*.py"):
        shutil.copyfile(path, copy / path.name)
    shutil.copyfile(on_cpu().__file__, folder / "porter_on_cpu.py")


def on_cpu() -> Any:
    """What makes a device the CPU."""
    return importlib.import_module(_ON_CPU)


def _run(
    model: Model, trees: Trees, options: Options, folder: Path, stage: str, *, compare: bool
) -> Ran:
    tree = trees.migrated if stage == "migrated" else trees.original
    other = trees.original if stage == "migrated" else trees.migrated
    assert tree is not None
    root = tree / model.root
    job = {
        "stage": stage,
        "model": spec.as_data(model),
        "root": str(root.resolve()),
        "other": str(other.resolve()) if other is not None else "",
        "folder": str(folder),
        "memory": options.memory,
        "original": compare,
    }
    written = folder / f"{stage}.job.json"
    written.write_text(json.dumps(job), encoding="utf-8")
    earlier = os.environ.get("PYTHONPATH", "")
    environment = {
        **on_cpu().ENVIRONMENT,
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), earlier])),
        "PYTHONDONTWRITEBYTECODE": "1",
    }
    limit = options.timeout if model.timeout is None else model.timeout
    try:
        ended = launch.run(
            [options.python or sys.executable, "-m", WORKER, str(written)],
            environment,
            root if root.is_dir() else tree,
            launch.Limits(limit, options.memory),
            output=None if options.echo else subprocess.DEVNULL,
            echo=options.echo,
        )
    except launch.NotFound as error:
        raise Mistake(str(error)) from None
    return Ran(_record(folder / f"{stage}.json"), ended.code, ended.stopped, ended.errors)


def _record(path: Path) -> dict[str, Any]:
    try:
        found: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return found


def _operators(path: Path, name: str) -> tuple[Any, str]:
    """What the target's compiler takes of a graph, or why that is not known."""
    try:
        operators = importlib.import_module("porter.onnx.operators")
        return operators.examine(path, shown=name), ""
    except ImportError as error:
        return None, f"not looked up: {error}"
    except Exception as error:
        # The numbers stand whatever became of the table.
        return None, f"not looked up: {error}"


def _advice(ran: Ran, root: Path) -> Iterator[str]:
    """What the rules about exports say of the classes that a model is made of."""
    advice = importlib.import_module("porter.onnx.advice")
    places = advice.within(ran.record.get("classes", ()), root)
    for place in places[:ADVICE]:
        yield f"{place.path}:{place.line}: {place.text} ({place.code})"
    if len(places) > ADVICE:
        more = len(places) - ADVICE
        yield f"{more} more places of this kind: porter check --select {advice.CODES}"


def _keep(path: Path, keep: Path, name: str) -> None:
    """Keep a graph, with the file of its weights if there is one."""
    keep.mkdir(parents=True, exist_ok=True)
    plain = re.sub(r"[^\w.-]+", "_", name).strip("_.") or "model"
    weights = path.with_name(f"{path.name}.data")
    if weights.is_file():
        # The graph names this file, so both keep their names, in a folder of their own.
        place = keep / plain
        place.mkdir(exist_ok=True)
        shutil.copyfile(path, place / path.name)
        shutil.copyfile(weights, place / weights.name)
    else:
        shutil.copyfile(path, keep / f"{plain}.onnx")
