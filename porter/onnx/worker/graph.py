"""Checks and runs a graph, on the ONNX Runtime or on the reference evaluator."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

RUNTIME, REFERENCE = "onnxruntime", "onnx.reference"
_NAMES = {
    1: "float32", 2: "uint8", 3: "int8", 4: "uint16", 5: "int16", 6: "int32", 7: "int64",
    9: "bool", 10: "float16", 11: "float64", 12: "uint32", 13: "uint64", 16: "bfloat16",
}  # fmt: skip

_FLOATING = ("bfloat16", "float16", "float32", "float64")


class CannotRun(Exception):
    """The runtime takes the file and fails on it, or does not take it; the text is its message."""


def check(path: Path) -> dict[str, Any]:
    """Check a file against the standard, and describe it.

    Returns:
        `opset`, `inputs` and `outputs` as text, `nodes`, `bytes` with all weights, `domains`
        other than the standard's own.

    Raises:
        onnx.checker.ValidationError: the file is not valid.
    """
    import onnx

    onnx.checker.check_model(str(path), full_check=True)
    model = onnx.load(str(path), load_external_data=False)
    opsets = {o.domain: o.version for o in model.opset_import}
    used = {n.domain for n in model.graph.node} | {
        n.domain for f in model.functions for n in f.node
    }
    own = {f.domain for f in model.functions}
    size = sum(p.stat().st_size for p in path.parent.glob(f"{path.name}*"))
    return {
        "opset": opsets.get("", 0),
        "inputs": [_shown(v) for v in model.graph.input],
        "outputs": [_shown(v) for v in model.graph.output],
        "nodes": len(model.graph.node),
        "bytes": size,
        "domains": sorted(used - own - {"", "ai.onnx"}),
    }


def _shown(value: Any) -> str:
    tensor = value.type.tensor_type
    dims = ",".join(d.dim_param or str(d.dim_value) for d in tensor.shape.dim)
    return f"{value.name}: {_NAMES.get(tensor.elem_type, 'other')}[{dims}]"


def rename(path: Path, names: Sequence[Mapping[int, str]]) -> None:
    """Give the dimensions of the inputs the names that the user gave them.

    Args:
        path: the file.
        names: of the dimensions of each input.
    """
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    if len(model.graph.input) != len(names):
        return
    found: dict[str, str] = {}
    for value, row in zip(model.graph.input, names, strict=True):
        dims = value.type.tensor_type.shape.dim
        found.update((dims[i].dim_param, name) for i, name in row.items() if dims[i].dim_param)
    found = {old: new for old, new in found.items() if old != new and old.isidentifier()}
    if not found:
        return
    pattern = re.compile(rf"\b(?:{'|'.join(map(re.escape, found))})\b")
    for value in (*model.graph.input, *model.graph.output, *model.graph.value_info):
        for dim in value.type.tensor_type.shape.dim:
            if dim.dim_param:
                dim.dim_param = pattern.sub(lambda m: found[m[0]], dim.dim_param)
    onnx.save(model, str(path))


def dimensions(path: Path) -> list[tuple[str, list[int | str]]]:
    """The inputs and their dimensions: numbers, or names of what may vary."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    return [
        (v.name, [d.dim_param or int(d.dim_value) for d in v.type.tensor_type.shape.dim])
        for v in model.graph.input
    ]


class Session:
    """A graph that is ready to run.

    Args:
        path: the file.
        engine: RUNTIME or REFERENCE; the runtime gives way to the reference where it has no
            kernel for a dtype.
        optimize: whether the runtime may rearrange the graph.
    """

    def __init__(self, path: Path, engine: str = RUNTIME, *, optimize: bool = True) -> None:
        """Load the file.

        Raises:
            CannotRun: the engine does not take it.
        """
        self.engine = engine
        self._path = path
        if engine == RUNTIME:
            self._load_runtime(optimize)
        else:
            self._load_reference()

    def _load_runtime(self, optimize: bool) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.log_severity_level = 4
        options.intra_op_num_threads = 2
        if not optimize:
            options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        try:
            self._session: Any = onnxruntime.InferenceSession(
                str(self._path), options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            if "NOT_IMPLEMENTED" in str(error) and "Could not find an implementation" in str(error):
                self.engine = REFERENCE
                self._load_reference()
                return
            raise CannotRun(str(error)) from None
        self.inputs = [i.name for i in self._session.get_inputs()]
        self.outputs = [o.name for o in self._session.get_outputs()]
        #: Declared sizes of the outputs: numbers, names or None; of the reference none.
        self.shapes = [list(o.shape or ()) for o in self._session.get_outputs()]

    def _load_reference(self) -> None:
        from onnx.reference import ReferenceEvaluator

        try:
            self._session = ReferenceEvaluator(str(self._path))
        except Exception as error:
            raise CannotRun(f"{type(error).__name__}: {error}") from None
        self.inputs = list(self._session.input_names)
        self.outputs = list(self._session.output_names)
        # The evaluator computes some operators of bfloat16 in float32; the graph says what it is.
        self._types = [
            _NAMES.get(v.type.tensor_type.elem_type, "") for v in self._session.proto_.graph.output
        ]
        self.shapes = [[] for _ in self.outputs]

    def run(self, tensors: Sequence[Any]) -> list[Any]:
        """The outputs for inputs, in the order of the graph.

        Raises:
            CannotRun: the run fails.
        """
        feed = {n: array(t) for n, t in zip(self.inputs, tensors, strict=True)}
        try:
            found = [tensor(v) for v in self._session.run(None, feed)]
            return found if self.engine == RUNTIME else self._declared(found)
        except Exception as error:
            raise CannotRun(f"{type(error).__name__}: {error}") from None

    def _declared(self, values: list[Any]) -> list[Any]:
        """Floating outputs in the dtype that the graph declares for them."""
        import torch

        return [
            value.to(getattr(torch, name))
            if name in _FLOATING and value.is_floating_point()
            else value
            for value, name in zip(values, self._types, strict=True)
        ]


def array(value: Any) -> Any:
    """A tensor as NumPy's array; bfloat16 with the dtype of ml_dtypes."""
    import torch

    value = value.detach().to("cpu").contiguous()
    if value.dtype is torch.bfloat16:
        import ml_dtypes

        return value.view(torch.int16).numpy().view(ml_dtypes.bfloat16)
    return value.numpy()


def tensor(value: Any) -> Any:
    """NumPy's array as a tensor."""
    import numpy
    import torch

    if isinstance(value, (list, tuple)):
        raise CannotRun("an output is a sequence, which is not compared")
    value = numpy.ascontiguousarray(value).reshape(numpy.shape(value))
    if value.dtype.name == "bfloat16":
        return torch.from_numpy(value.view(numpy.int16)).view(torch.bfloat16)
    return torch.from_numpy(value.copy())


def leaves(arguments: Sequence[Any], options: Mapping[str, Any]) -> list[Any]:
    """The tensors of a call, in the order in which the exporter makes inputs of them."""
    import torch

    found = torch.utils._pytree.tree_leaves((tuple(arguments), dict(options)))
    return [leaf for leaf in found if isinstance(leaf, torch.Tensor)]


def versions() -> dict[str, str]:
    """The versions that a verdict depends on."""
    names = ("torch", "onnx", "onnxruntime", "onnxscript")
    return {n: str(getattr(sys.modules[n], "__version__", "")) for n in names if n in sys.modules}
