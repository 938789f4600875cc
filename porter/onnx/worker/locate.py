"""Finds the first value within a graph that differs from the same value in torch.

The exporter names values of the graph after those of the captured program. All that kept their
name become outputs of the graph; the program is run step by step beside it.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from . import graph, outputs
from .inputs import Case
from .record import Record


def first(path: Path, program: Any, case: Case, tolerance: float, record: Record) -> dict[str, Any]:
    """The first value that differs.

    Args:
        path: the graph.
        program: what the exporter returned; it holds the captured program.
        case: the inputs on which the outputs differ.
        tolerance: as for the outputs.
        record: knows which lines are the user's.

    Returns:
        `value`, `operator` of the graph, `torch`, `place`, `reason`, and how many values
        `before` it were equal; only `reason` if none is found.
    """
    try:
        return _first(path, program, case, tolerance, record)
    except Exception as error:
        # The mismatch itself stands; that it cannot be narrowed down is no second failure.
        return {"reason": f"not narrowed down ({type(error).__name__}: {str(error)[:300]})"}


def _first(
    path: Path, program: Any, case: Case, tolerance: float, record: Record
) -> dict[str, Any]:
    captured = program.exported_program
    expected, nodes = _steps(captured, case)
    actual, operators = _values(path, list(expected), case)
    equal = 0
    for name, value in expected.items():
        if name not in actual:
            continue
        other = actual[name]
        if other.is_floating_point() and value.is_floating_point():
            other = other.to(value.dtype)  # inside, an evaluator may compute in a wider dtype
        found = outputs.tensors(value, other, tolerance)
        if not found["ok"]:
            return {
                "value": name,
                "operator": operators.get(name, ""),
                "torch": str(nodes[name].target),
                "place": record.line(str(nodes[name].meta.get("stack_trace") or "")),
                "reason": found["reason"],
                "before": equal,
            }
        equal += 1
    return {"reason": f"each of the {equal} values inside that could be compared is equal"}


def _steps(captured: Any, case: Case) -> tuple[dict[str, Any], dict[str, Any]]:
    """All values of the captured program by name, in order, and their nodes."""
    import torch

    values: dict[str, Any] = {}
    nodes: dict[str, Any] = {}

    class Steps(torch.fx.Interpreter):  # type: ignore[misc]
        def run_node(self, node: Any) -> Any:
            result = super().run_node(node)
            if node.op == "call_function" and isinstance(result, torch.Tensor):
                values[node.name] = result.detach().clone()
                nodes[node.name] = node
            return result

    arguments, options = case.fresh()
    flat, _ = captured._get_flat_args_with_check(arguments, options)
    with torch.no_grad():
        Steps(captured.module()).run(*flat)
    return values, nodes


def _values(path: Path, names: list[str], case: Case) -> tuple[dict[str, Any], dict[str, str]]:
    """The values of the graph with these names, and the operators that give them."""
    import onnx

    model = onnx.load(str(path), load_external_data=False)
    wanted = set(names)
    made = {o: n.op_type for n in model.graph.node for o in n.output if o in wanted}
    present = {o.name for o in model.graph.output}
    model.graph.output.extend(onnx.ValueInfoProto(name=n) for n in made if n not in present)
    opened = path.with_name(f"{path.stem}.open.onnx")
    onnx.save(model, str(opened))
    try:
        session = graph.Session(opened)
        results = session.run(graph.leaves(case.arguments, case.options))
    finally:
        opened.unlink(missing_ok=True)
    return dict(zip(session.outputs, results, strict=True)), made
