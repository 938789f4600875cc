"""torch.compile: graphs of the device are traced as on the machine, and run without a compiler.

On the machine, Inductor makes kernels for the device with its Triton, and the device's package
brings backends of its own (the entry points of its wheel; `prepare` names them for torch). None of them can run here, so that a graph of the device runs as it
was captured, with the forward and the backward pass traced ahead (torch's backend "aot_eager").
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch

from . import devices
from .record import RECORD, site


def _of_device(values: Iterable[Any]) -> bool:
    return any(isinstance(v, torch.Tensor) and v.device.type == devices.NAME for v in values)


def _touches_device(graph: Any, inputs: Iterable[Any]) -> bool:
    if _of_device(inputs) or _of_device(graph.parameters()) or _of_device(graph.buffers()):
        return True
    return _of_device(node.meta.get("example_value") for node in graph.graph.nodes)


def _traced(backend: str, graph: Any, inputs: Any) -> Any:
    from torch._dynamo.backends.debugging import aot_eager

    RECORD.note(
        f"torch.compile ran a graph without its backend {backend!r}, which makes kernels for the "
        "hardware",
        site(),
    )
    return aot_eager(graph, inputs)


def npu(graph: Any, inputs: Any, **_: object) -> Any:
    """The backend of the device's graph engine (torchair)."""
    return _traced("npu", graph, inputs)


def npugraph_ex(graph: Any, inputs: Any, **_: object) -> Any:
    """The backend that captures and optimises graphs of the device."""
    return _traced("npugraph_ex", graph, inputs)


def npugraphs(graph: Any, inputs: Any, **_: object) -> Any:
    """The backend that captures graphs of the device."""
    return _traced("npugraphs", graph, inputs)


def install() -> None:
    """Let torch.compile run graphs of the device."""
    wrapper = torch._TorchCompileInductorWrapper
    original = wrapper.__call__

    def call(self: Any, graph: Any, inputs: Any, **kwargs: Any) -> Any:
        if not _touches_device(graph, inputs):
            return original(self, graph, inputs, **kwargs)
        return _traced("inductor", graph, inputs)

    wrapper.__call__ = call
