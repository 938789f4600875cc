"""Exports a model, rung by rung, until a graph gives its numbers or the ladder ends.

A rung that gives up more stands behind one that gives up less. What a rung changed at the model
stays changed on the next ones.
"""

from __future__ import annotations

import contextlib
import io
import logging
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from . import eager, graph, inputs, locate, outputs
from .inputs import Case, dynamic_shapes
from .record import Record

DEFAULT, ATTENTION, CACHE, STATIC, LEGACY = (
    "default", "eager-attention", "no-cache", "static", "legacy",
)  # fmt: skip
#: What a person reads about a strategy of the exporter.
_STRATEGIES = {"TorchExportNonStrictStrategy": "non-strict", "TorchExportStrictStrategy": "strict"}


_Step = tuple[str, Callable[[], bool]]


@dataclass
class Job:
    """What to export.

    Args:
        spec: of the model.
        model: in evaluation mode.
        example: the inputs to export with.
        cases: the inputs to compare on.
        record: what is found goes here.
        folder: for files.
        original: outputs of the original for each case; empty if it could not run.
        dynamic: whether the named dimensions may vary.
    """

    spec: Mapping[str, Any]
    model: Any
    example: Case
    cases: Sequence[Case]
    record: Record
    folder: Path
    original: Sequence[Mapping[str, Any]] = ()
    dynamic: bool = True
    changed: bool = False
    expected: list[dict[str, Any]] = field(default_factory=list)


def climb(job: Job) -> None:
    """Go up the ladder; the record tells of each rung, and which one held."""
    rungs: list[dict[str, Any]] = []
    for name, prepare in _ladder(job, rungs):
        if not prepare():
            continue
        job.record.put(step=f"export ({name})", rungs=rungs)
        rung = _rung(job, name)
        rungs.append(rung)
        job.record.put(rungs=rungs)
        if rung["outcome"] == "ok":
            job.record.put(rung=name)
            return
        if rung["outcome"] == "differs" and not rung.get("only_other_sizes") and not _hugging(job):
            return


def _ladder(job: Job, rungs: Sequence[Mapping[str, Any]]) -> Iterator[_Step]:
    yield DEFAULT, lambda: True
    for name in _hugging_order(rungs[-1]):
        yield name, (lambda: _eager_attention(job)) if name == ATTENTION else lambda: _no_cache(job)
    yield STATIC, lambda: _static(job, rungs)
    yield LEGACY, lambda: _dynamic_again(job)


def _hugging_order(last: Mapping[str, Any]) -> tuple[str, str]:
    """What to try first: a cache that stands in the way says so."""
    cache = "Cache" in str(last.get("failure", {}).get("message", ""))
    return (CACHE, ATTENTION) if cache else (ATTENTION, CACHE)


def _rung(job: Job, name: str) -> dict[str, Any]:
    found: dict[str, Any] = {"rung": name, "outcome": "failed", "stage": "eager"}
    path = job.folder / f"{name}.onnx"
    try:
        if job.changed or not job.expected:
            job.expected = eager.run(job.model, job.cases, job.record)
            job.changed = False
        job.record.put(step=f"export ({name})")
        found["stage"] = "export"
        program = None
        if name == LEGACY:
            _legacy(job, path)
        else:
            program = _dynamo(job, path)
        found["strategy"] = _strategy(program)
        found["stage"] = "checker"
        described = graph.check(path)
        job.record.put(file=path.name, graph=described)
        found["stage"] = "opset"
        if described["opset"] != job.spec["opset"]:
            found["message"] = f"the graph stays at opset {described['opset']}"
            return found
        found["stage"] = "dimensions"
        lost = _lost(job, path, name)
        if lost:
            found["message"] = f"the exporter made dimensions constant: {', '.join(lost)}"
            found.update(_why_constant(job))
            return found
        found["stage"] = "run"
        found.update(_compared(job, path, name, program))
    except Exception as error:
        found["failure"] = job.record.failure(error)
        if found["stage"] == "export" and _scripted(job.model):
            found["message"] = "a part of the model was made by torch.jit.script"
    return found


def _scripted(model: Any) -> bool:
    import torch

    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


def _strategy(program: Any) -> str:
    return _STRATEGIES.get(str(getattr(program, "_capture_strategy", "")), "")


# Exporters --------------------------------------------------------------------------------------


def _dynamo(job: Job, path: Path) -> Any:
    shapes = dynamic_shapes(job.spec, job.model, job.example) if job.dynamic else None
    program = _exported(job, path, shapes)
    if shapes is not None and _lost(job, path, DEFAULT):
        # With named dimensions the exporter makes some constant that it keeps with mere hints
        # (torch 2.13, F.max_pool1d). The comparison at other sizes tells whether that is right.
        try:
            program = _exported(job, path, _hints(shapes))
        except Exception:
            program = _exported(job, path, shapes)
    if shapes is not None:
        graph.rename(path, _names(shapes, job.example))
    return program


def _exported(job: Job, path: Path, shapes: Mapping[str, Any] | None) -> Any:
    import torch

    arguments, options = job.example.fresh()
    with _quiet(), torch.no_grad():
        program = torch.onnx.export(
            job.model,
            arguments,
            kwargs=options,
            dynamo=True,
            dynamic_shapes=shapes,
            opset_version=job.spec["opset"],
            verbose=False,
        )
        program.save(str(path))
    return program


def _hints(shapes: Any) -> Any:
    """The same shapes with a hint in place of each name."""
    import torch

    if isinstance(shapes, Mapping):
        return {key: _hints(value) for key, value in shapes.items()}
    if isinstance(shapes, (list, tuple)):
        return type(shapes)(_hints(value) for value in shapes)
    return None if shapes is None else torch.export.Dim.AUTO


def _names(shapes: Mapping[str, Any], case: Case) -> list[dict[int, str]]:
    """The names of dimensions that vary by themselves, for each tensor among the inputs."""
    return [
        {i: d.__name__ for i, d in row.items() if d.__name__.isidentifier()}
        for row in _leaf_shapes(shapes, case.arguments, case.options)
    ]


def _legacy(job: Job, path: Path) -> None:
    import torch

    arguments, options = job.example.fresh()
    names = [f"input_{i}" for i, _ in enumerate(graph.leaves(arguments, options))]
    shapes = dynamic_shapes(job.spec, job.model, job.example) if job.dynamic else None
    axes = {}
    if shapes is not None:
        rows = _leaf_shapes(shapes, arguments, options)
        axes = {n: {i: f"{n}_{i}" for i in row} for n, row in zip(names, rows, strict=True) if row}
    with _quiet(), torch.no_grad():
        torch.onnx.export(
            job.model,
            arguments,
            str(path),
            kwargs=options,
            dynamo=False,
            input_names=names,
            dynamic_axes=axes or None,
            opset_version=job.spec["opset"],
        )


def _leaf_shapes(
    shapes: Mapping[str, Any], arguments: Sequence[Any], options: Mapping[str, Any]
) -> Iterator[dict[int, Any]]:
    """The named dimensions of each tensor among the inputs, in their order."""
    import torch

    def walk(value: Any, dims: Any) -> Iterator[dict[int, Any]]:
        if isinstance(value, torch.Tensor):
            yield dims or {}
        elif isinstance(value, Mapping):
            for key, item in value.items():
                yield from walk(item, dims[key] if dims else None)
        elif isinstance(value, (list, tuple)):
            for i, item in enumerate(value):
                yield from walk(item, dims[i] if dims else None)

    values = list(shapes.values())
    for i, argument in enumerate(arguments):
        yield from walk(argument, values[i] if i < len(values) else None)
    for name, argument in options.items():
        yield from walk(argument, shapes[name])


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Keep the exporters from talking about themselves."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


# Rungs ------------------------------------------------------------------------------------------


def _configs(job: Job) -> list[Any]:
    """The configurations of Hugging Face models within the model."""
    found: list[Any] = []
    for module in job.model.modules():
        config = getattr(module, "config", None)
        if hasattr(config, "_attn_implementation") and all(config is not c for c in found):
            found.append(config)
    return found


def _hugging(job: Job) -> bool:
    return bool(_configs(job))


def _eager_attention(job: Job) -> bool:
    changed = False
    for module in job.model.modules():
        config = getattr(module, "config", None)
        chosen = getattr(config, "_attn_implementation", "eager")
        if config is None or chosen == "eager":
            continue
        if hasattr(module, "set_attn_implementation"):
            module.set_attn_implementation("eager")
        else:
            config._attn_implementation = "eager"
        changed = True
    job.changed = job.changed or changed
    return changed


def _no_cache(job: Job) -> bool:
    changed = False
    for config in _configs(job):
        if getattr(config, "use_cache", False):
            config.use_cache = False
            changed = True
    job.changed = job.changed or changed
    return changed


def _static(job: Job, rungs: Sequence[Mapping[str, Any]]) -> bool:
    last = rungs[-1]
    # An operator or a dtype that ONNX lacks is lacking for every size.
    lacking = "ConversionError" in last.get("failure", {}).get("chain", ())
    if not job.spec["dynamic"] or lacking or last["stage"] in ("checker", "opset"):
        return False
    job.dynamic = False
    return True


def _dynamic_again(job: Job) -> bool:
    job.dynamic = True
    return True


def _lost(job: Job, path: Path, name: str) -> list[str]:
    """The named dimensions that the exporter fixed all the same."""
    if not job.dynamic or not job.spec["dynamic"] or name == LEGACY:
        return []
    shapes = dynamic_shapes(job.spec, job.model, job.example) or {}
    arguments, options = job.example.arguments, job.example.options
    rows = list(_leaf_shapes(shapes, arguments, options))
    inputs = graph.dimensions(path)
    if len(rows) != len(inputs):
        return []
    return [
        f"{dim.__name__} of {name} is {dims[i]}"
        for row, (name, dims) in zip(rows, inputs, strict=True)
        for i, dim in row.items()
        if isinstance(dims[i], int)
    ]


def _why_constant(job: Job) -> dict[str, Any]:
    """What torch.export says to the dimensions; the ONNX exporter follows its advice in silence."""
    import torch

    arguments, options = job.example.fresh()
    shapes = dynamic_shapes(job.spec, job.model, job.example)
    try:
        with _quiet(), torch.no_grad():
            torch.export.export(job.model, arguments, options, dynamic_shapes=shapes, strict=False)
    except Exception as error:
        return {"failure": job.record.failure(error)}
    return {}


# Numbers ----------------------------------------------------------------------------------------


def _compared(job: Job, path: Path, name: str, program: Any) -> dict[str, Any]:
    dtype = outputs.precision(job.model, job.example.arguments, job.example.options)
    limit = job.spec["tolerance"]
    tolerance = outputs.GRAPH[dtype] if limit is None else limit
    session = graph.Session(path, graph.REFERENCE if dtype == "bfloat16" else graph.RUNTIME)
    found: dict[str, Any] = {
        "engine": session.engine, "dtype": dtype, "tolerance": tolerance, "sets": [],
    }  # fmt: skip
    given = len(graph.leaves(job.example.arguments, job.example.options))
    if given != len(session.inputs):
        message = f"the graph has {len(session.inputs)} inputs, forward was given {given}"
        return {**found, "message": message}
    fixed = job.example.sizes if not job.dynamic else None
    for number, case in enumerate(job.cases):
        if fixed is not None and case.sizes != fixed:
            continue
        row = _case(job, session, case, job.expected[number], tolerance)
        if row["ok"] and job.original:
            row.update(_against_original(job, session, number, tolerance))
        found["sets"].append(row)
    if fixed is not None or name == LEGACY:
        found["sets"] += _other_values(job, session, tolerance)
    bad = [row for row in found["sets"] if not row["ok"]]
    if not bad:
        return {**found, "outcome": "ok"}
    first = found["sets"].index(bad[0])
    found["only_other_sizes"] = all(r["sizes"] != job.example.sizes for r in bad)
    if bad[0].get("failed"):
        return {**found, "outcome": "failed", "message": bad[0]["reason"]}
    found.update(outcome="differs", message=bad[0]["reason"])
    if found["only_other_sizes"] and name != LEGACY:
        found.update(_why_constant(job))
    if program is not None:
        case = [c for c in job.cases if fixed is None or c.sizes == fixed][first]
        found["first"] = locate.first(path, program, case, tolerance, job.record)
        if session.engine == graph.RUNTIME:
            plain = graph.Session(path, optimize=False)
            again = _case(job, plain, case, job.expected[job.cases.index(case)], tolerance)
            found["without_optimizations"] = again["ok"]
    return found


def _other_values(job: Job, session: graph.Session, tolerance: float) -> Iterator[dict[str, Any]]:
    """Other values of the same sizes, to come to the other side of a branch that was frozen."""
    yield _case(job, session, job.example, eager.run(job.model, [job.example], job.record)[0],
                tolerance)  # fmt: skip
    for factor in (-3.0, 0.01):
        case = inputs.scaled(job.example, factor)
        if case is None:
            return
        try:
            expected = eager.run(job.model, [case], job.record)[0]
        except Exception:
            # Not every model takes such values; that is no fault of the graph.
            continue
        row = _case(job, session, case, expected, tolerance)
        yield {**row, "values": f"{factor:g} times as large"}


def _case(
    job: Job, session: graph.Session, case: Case, expected: Mapping[str, Any], tolerance: float
) -> dict[str, Any]:
    row: dict[str, Any] = {"sizes": case.sizes, "recorded": case.recorded, "error": None}
    try:
        actual = session.run(graph.leaves(case.arguments, case.options))
    except graph.CannotRun as error:
        return {**row, "ok": False, "failed": True, "reason": str(error)[:2000]}
    if len(actual) != len(expected):
        reason = f"the graph has {len(actual)} outputs, forward gave {len(expected)}"
        return {**row, "ok": False, "reason": reason}
    _declared(job, session, case, actual)
    named = {n: _narrowed(job, n, expected[n], a) for n, a in zip(expected, actual, strict=True)}
    row.update(outputs.compare(expected, named, tolerance))
    if not row["ok"] and row["where"]:
        row["reason"] = f"{row['where']}: {row['reason']}"
    return row


def _narrowed(job: Job, name: str, expected: Any, actual: Any) -> Any:
    """An output in the floating dtype of the model; the exporter makes some wider (a sum)."""
    if expected.dtype == actual.dtype or not (
        expected.is_floating_point() and actual.is_floating_point()
    ):
        return actual
    names = [str(t.dtype).rpartition(".")[2] for t in (actual, expected)]
    job.record.note(f"the graph gives {name} as {names[0]}, the model as {names[1]}")
    return actual.to(expected.dtype)


def _declared(job: Job, session: graph.Session, case: Case, actual: Sequence[Any]) -> None:
    """Remark outputs whose size is declared as a number and is another."""
    for name, dims, value in zip(session.outputs, session.shapes, actual, strict=True):
        wrong = [
            (d, s) for d, s in zip(dims, value.shape, strict=False) if isinstance(d, int) and d != s
        ]
        if wrong:
            sizes = ", ".join(f"{n}={size}" for n, size in case.sizes.items())
            job.record.note(
                f"the graph declares {wrong[0][0]} for a size of its output {name} that is "
                f"{wrong[0][1]} with {sizes}; a compiler may take the declaration at its word"
            )


def _against_original(
    job: Job, session: graph.Session, number: int, tolerance: float
) -> dict[str, Any]:
    """The graph against the original's own numbers, where a rung left the outputs as they were."""
    expected = job.original[number]
    case = job.cases[number]
    actual = session.run(graph.leaves(case.arguments, case.options))
    named = job.expected[number]
    mine = {n: _narrowed(job, n, named[n], a) for n, a in zip(named, actual, strict=True)}
    common = [n for n in mine if n in expected]
    found = outputs.compare(
        {n: expected[n] for n in common}, {n: mine[n] for n in common}, tolerance
    )
    if found["ok"]:
        return {"original": True}
    where = f"{found['where']}: " if found["where"] else ""
    return {"ok": False, "reason": f"against the original, {where}{found['reason']}"}
