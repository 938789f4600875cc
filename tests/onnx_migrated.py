"""Are models the same before and after `porter migrate`, in eager mode and as graphs?

Takes models of the fixtures, migrates their folders for both targets, exports all versions and
compares: eager outputs with those of the original, the outputs of the graph with those of the
original's graph. Prints a line of JSON for each. Needs torch, onnx and onnxruntime.

    python tests/onnx_migrated.py [NAME...]
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
import sys
import tempfile
from pathlib import Path
from typing import Any

from porter.config import Settings
from porter.onnx import spec, trees
from porter.onnx.worker import build, eager, export, graph, inputs, outputs
from porter.onnx.worker.record import Record
from porter.runner import Request, run

FIXTURES = Path(__file__).resolve().parent.parent / "fixtures"
SUPERRES = "projects/superres/before"
PATTERNS = "rehearse/patterns"
IMAGES = ["x=float32[batch,3,8,8]"]
#: Name: folder, factory, inputs. The patterns train their model when they are imported.
MODELS: dict[str, tuple[str, str, list[str]]] = {
    "generator": (SUPERRES, "srgan.models:Generator(channels=8)", IMAGES),
    "discriminator": (SUPERRES, "srgan.models:Discriminator", IMAGES),
    "loss": (SUPERRES, "srgan.models:VGGLoss", [*IMAGES, "y=float32[batch,3,8,8]"]),
    "sample": ("sample", "model:SmallNet", ["images=float32[batch,1,16,16]"]),
    "resnet": (PATTERNS, "resnet_block:model", ["input=float32[batch,3,16,16]"]),
    "attention": (PATTERNS, "attention:model", ["input=int64[batch,8]{0..16}"]),
    "cnn": (PATTERNS, "cnn_batchnorm:model", ["x=float32[batch,1,16,16]"]),
    "encoder": (PATTERNS, "transformer_encoder:model", ["x=int64[10,batch]{0..30}",
                                                       "mask=float32[10,10]"]),
}  # fmt: skip


def main(names: list[str]) -> int:
    """Check the models of these names, or all."""
    for name in names or MODELS:
        folder, factory, texts = MODELS[name]
        model = spec.checked(
            spec.Model(
                factory,
                name,
                tuple(spec.parse_input(t) for t in texts),
                (("batch", (2, 5)),),
            )
        )
        with tempfile.TemporaryDirectory() as place:
            before = version(model, FIXTURES / folder, Path(place))
            for target in ("accelerator", "npu"):
                after = version(
                    model, migrated(FIXTURES / folder, target, Path(place)), Path(place)
                )
                print(json.dumps(compared(name, target, before, after)), flush=True)
    return 0


def migrated(folder: Path, target: str, place: Path) -> Path:
    done = run(Request((folder,), Settings(target=target), jobs=1, cache=False))
    assert done.changed, f"{folder} has nothing to migrate"
    copy = place / target
    trees.mirror(folder, copy, {c.file.path: c.after for c in done.changed})
    return copy


def version(model: spec.Model, root: Path, place: Path) -> dict[str, Any]:
    """The outputs of one version in eager mode, and those of its graph."""
    known, paths, here = set(sys.modules), list(sys.path), Path.cwd()
    on_cpu: Any = importlib.import_module("porter.rewrites._on_cpu")
    state = on_cpu.install()
    os.chdir(root)
    try:
        job = spec.as_data(model)
        record = Record(place / "record.json", Path(os.path.realpath(root)))
        with contextlib.redirect_stdout(sys.stderr):
            made = build.model(job, record, "")
        example, cases = inputs.cases(job, made, record)
        build.materialize(made, lambda: eager.forward(made, example))
        state.used.clear()
        rows = eager.run(made, cases, record)
        state.lighten(used=bool(state.used))
        export.climb(export.Job(job, made, example, cases, record, place, expected=rows))
        if "rung" not in record.found:
            raise AssertionError(record.found["rungs"])
        session = graph.Session(place / record.found["file"])
        graphs = [session.run(graph.leaves(c.arguments, c.options)) for c in cases]
    finally:
        state.undo()
        os.chdir(here)
        sys.path[:] = paths
        for name in set(sys.modules) - known:
            file = getattr(sys.modules[name], "__file__", None) or ""
            if os.path.realpath(file).startswith(os.path.realpath(root)):
                del sys.modules[name]
    return {"eager": rows, "graph": graphs, "rung": record.found["rung"]}


def compared(name: str, target: str, before: Any, after: Any) -> dict[str, Any]:
    eagerly = [
        outputs.compare(a, b, 0.0) for a, b in zip(before["eager"], after["eager"], strict=True)
    ]
    by_graph = [
        outputs.compare(dict(enumerate(a)), dict(enumerate(b)), outputs.GRAPH["float32"])
        for a, b in zip(before["graph"], after["graph"], strict=True)
    ]
    return {
        "model": name,
        "target": target,
        "rung": after["rung"],
        "identical": all(row["identical"] for row in eagerly),
        "graphs equal": all(row["ok"] for row in by_graph),
        "error": max(row["error"] or 0.0 for row in by_graph),
    }


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
