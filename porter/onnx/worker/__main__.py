"""The process of one model: `python -m porter_onnx_worker JOB.json`.

A job has `stage` ("original": run it and keep its outputs; "migrated": compare, export, compare),
`model`, `root`, `other`, `folder`, `memory` (bytes; 0 for no limit) and `original` (the file that
the first stage wrote; empty without one).
"""

from __future__ import annotations

import contextlib
import json
import os
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import build, eager, export, graph, inputs, outputs
from .record import Record, Stop


def main() -> int:
    """Do the job; the record tells what came of it."""
    job: dict[str, Any] = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(job["folder"])
    record = Record(folder / f"{job['stage']}.json", Path(os.path.realpath(job["root"])))
    record.put(step="start")
    _limit(job["memory"])
    try:
        devices = _devices()
        if job["stage"] == "original":
            _original(job, record, folder)
        else:
            _migrated(job, record, folder, devices)
        record.put(step="done", devices=sorted(devices.used), versions=graph.versions())
    except Stop as stop:
        record.put(stop={"step": stop.step, "reason": str(stop)})
    except MemoryError as error:
        record.put(stop={"step": record.found["step"], "memory": True, **record.failure(error)})
    except (Exception, SystemExit) as error:
        record.put(stop={"step": record.found["step"], **record.failure(error)})
    return 0


def _limit(memory: int) -> None:
    if memory:
        import resource

        # Counts what can be written to, so neither the code of libraries nor reserved addresses.
        with contextlib.suppress(ValueError, OSError):
            resource.setrlimit(resource.RLIMIT_DATA, (memory, memory))


def _devices() -> Any:
    import porter_on_cpu  # type: ignore[import-not-found]

    return porter_on_cpu.install()


def _prepare(job: Mapping[str, Any], record: Record) -> tuple[Any, Any, list[Any]]:
    record.put(step="build")
    model = build.model(job["model"], record, job["other"])
    record.put(classes=build.classes(model, record.root))
    record.put(step="inputs")
    example, cases = inputs.cases(job["model"], model, record)
    record.put(step="forward")
    build.materialize(model, lambda: eager.forward(model, example))
    weights = job["model"]["weights"]
    if weights:
        record.put(step="weights")
        build.load(model, build.weights(record.root / weights), weights)
    return model, example, cases


def _original(job: Mapping[str, Any], record: Record, folder: Path) -> None:
    model, _, cases = _prepare(job, record)
    state = build.tensors(model)
    rows = eager.run(model, cases, record)
    eager.save(folder / "original.pt", state, rows, eager.within(model, cases[0]))


def _migrated(job: Mapping[str, Any], record: Record, folder: Path, devices: Any) -> None:
    import torch

    model, example, cases = _prepare(job, record)
    saved = folder / "original.pt"
    original: list[Any] = []
    if job["original"]:
        record.put(original=eager.against(saved, model, cases, record))
        original = torch.load(saved, map_location="cpu", weights_only=True)["outputs"]
    made = dict(devices.used)
    devices.used.clear()
    rows = eager.run(model, cases, record)
    record.put(outputs=[_shown(k, v) for k, v in rows[0].items()])
    why = eager.unstable(model, cases[0])
    if why:
        record.put(unstable=why)
        return
    devices.lighten(used=bool(devices.used))
    devices.used.update(made)
    dull = outputs.dull(rows)
    if dull:
        record.note(dull)
    export.climb(
        export.Job(job["model"], model, example, cases, record, folder, original, expected=rows)
    )


def _shown(name: str, value: Any) -> str:
    return f"{name}: {str(value.dtype).rpartition('.')[2]}{list(value.shape)}"


if __name__ == "__main__":
    sys.exit(main())
