"""Which operators an ONNX file uses, and what the target's compiler is known to do with each.

Works on any ONNX file, without the files of weights beside it. The compiler's table belongs to
`porter.rewrites`; this module asks it, and never says more than it does: an operator that is
registered can be read by the compiler, which is no proof that the device has a kernel for it.
"""

from __future__ import annotations

import collections
import enum
import importlib
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Protocol, cast

from porter.problem import Problem

#: How many node names are kept for each operator.
NODES = 5
#: Above this many bytes the types of values inside the graph are not inferred, only read.
INFERENCE_LIMIT = 512 * 1024 * 1024
DOMAIN = "ai.onnx"
MAIN = "main graph"
WIDTH = 100


class Registration(str, enum.Enum):
    """What is known of an operator at the opset of its model."""

    REGISTERED = "registered"
    UNREGISTERED = "unregistered"
    UNKNOWN = "unknown"


@dataclass(frozen=True)
class Fact:
    """What the table says of one operator at one opset.

    Args:
        registration: whether the compiler can look it up.
        reason: why not; empty if it is registered.
        advice: what to do about it; may be empty.
        dtypes: by input or output, the only element types that are documented.
        page: where these were read.
        provider: what the runtime's own provider does with it.
        source: where the registration was read.
    """

    registration: Registration
    reason: str = ""
    advice: str = ""
    dtypes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    page: str = ""
    provider: str = ""
    source: str = ""


@dataclass(frozen=True)
class Remark:
    """Something about the model as a whole.

    Args:
        text: what it is.
        blocks: whether the compiler is known to stop at it.
        advice: what to do; may be empty.
        source: where that was read; may be empty.
    """

    text: str
    blocks: bool = False
    advice: str = ""
    source: str = ""

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "text": self.text,
            "blocks": self.blocks,
            "advice": self.advice,
            "source": self.source,
        }


@dataclass(frozen=True)
class Value:
    """An input or output of the graph.

    Args:
        name: its name.
        kind: "tensor", "sequence", "optional", "map" or "unknown".
        dtype: the element type as ONNX writes it, such as "FLOAT"; empty if it is not said.
        dims: sizes; a name, or empty text, for a dimension that may vary; None without a shape.
    """

    name: str
    kind: str
    dtype: str
    dims: tuple[int | str, ...] | None


@dataclass(frozen=True)
class Summary:
    """What a model is besides its operators.

    Args:
        ir_version: the version of the file format.
        producer: the program that wrote it, with its version.
        opsets: the version of each domain that it imports.
        inputs: inputs of the graph that have no initial value.
        outputs: outputs of the graph.
        weights: element types of the initial values, each with the name of the first that has it.
        functions: functions of the model that its graph calls, each with the number of calls.
        external: files that hold weights, relative to the model, each with whether it is there.
    """

    ir_version: int
    producer: str
    opsets: tuple[tuple[str, int], ...]
    inputs: tuple[Value, ...]
    outputs: tuple[Value, ...]
    weights: tuple[tuple[str, str], ...]
    functions: tuple[tuple[str, int], ...]
    external: tuple[tuple[str, bool], ...]


@dataclass(frozen=True)
class OperatorUse:
    """One operator of a model.

    Args:
        domain: "ai.onnx", or another.
        name: its type.
        opset: the version of the domain that counts for it; 0 if none is imported.
        count: how many nodes there are.
        nodes: names of the first ones, or of their first output where they have none.
        places: where they stand: the main graph, a branch or body, a function.
        registration: whether the compiler can look it up.
        reason: why not.
        advice: what to do about it.
        limits: documented restrictions that these nodes do not keep.
        provider: what the runtime's own provider does with it.
        source: where the registration was read.
    """

    domain: str
    name: str
    opset: int
    count: int
    nodes: tuple[str, ...]
    places: tuple[str, ...]
    registration: Registration
    reason: str = ""
    advice: str = ""
    limits: tuple[str, ...] = ()
    provider: str = ""
    source: str = ""

    @property
    def title(self) -> str:
        """`Conv@18`, with its domain unless that is ai.onnx."""
        name = self.name if self.domain == DOMAIN else f"{self.domain}::{self.name}"
        return f"{name}@{self.opset}"

    def to_json(self) -> dict[str, Any]:
        """As JSON values."""
        return {
            "domain": self.domain,
            "operator": self.name,
            "opset": self.opset,
            "count": self.count,
            "nodes": list(self.nodes),
            "places": list(self.places),
            "registration": self.registration.value,
            "reason": self.reason,
            "advice": self.advice,
            "limits": list(self.limits),
            "provider": self.provider,
            "source": self.source,
        }


@dataclass(frozen=True)
class OperatorReport:
    """The operators of one file.

    Args:
        path: the file, as it was given.
        summary: what the model is besides its operators.
        operators: sorted by registration (the worst first), domain and name.
        remarks: about the model as a whole.
        compiler: how the compiler is called.
        provider: how the runtime's provider is called.
        sources: where the columns of the compiler and of the provider were read.
        provider_note: what the provider's column means.
    """

    path: str
    summary: Summary
    operators: tuple[OperatorUse, ...]
    remarks: tuple[Remark, ...]
    compiler: str
    provider: str
    sources: tuple[str, str] = field(default=("", ""))
    provider_note: str = ""

    @property
    def clean(self) -> bool:
        """Whether every operator is registered and nothing is known to stop the compiler."""
        return not any(r.blocks for r in self.remarks) and all(
            u.registration is Registration.REGISTERED for u in self.operators
        )

    @property
    def registration(self) -> Registration:
        """That of the model: the worst of its operators; unregistered if a remark blocks."""
        if any(r.blocks for r in self.remarks):
            return Registration.UNREGISTERED
        found = {u.registration for u in self.operators}
        return next((r for r in _WORST_FIRST if r in found), Registration.REGISTERED)

    def of(self, registration: Registration) -> tuple[OperatorUse, ...]:
        """The operators of one kind."""
        return tuple(u for u in self.operators if u.registration is registration)

    def to_json(self) -> dict[str, Any]:
        """As JSON values; keys are stable."""
        return {
            "path": self.path,
            "registration": self.registration.value,
            "ir_version": self.summary.ir_version,
            "producer": self.summary.producer,
            "opsets": dict(self.summary.opsets),
            "operators": [u.to_json() for u in self.operators],
            "remarks": [r.to_json() for r in self.remarks],
            "functions": dict(self.summary.functions),
            "external_data": dict(self.summary.external),
            "compiler": {"name": self.compiler, "source": self.sources[0]},
            "provider": {
                "name": self.provider,
                "note": self.provider_note,
                "source": self.sources[1],
            },
        }


_WORST_FIRST = (Registration.UNREGISTERED, Registration.UNKNOWN, Registration.REGISTERED)


class OnnxProblem(Problem):
    """A file that cannot be examined; the text names it and the remedy."""


class _Table(Protocol):
    """What `porter.rewrites` answers about the compiler."""

    COMPILER: str
    PROVIDER: str
    PROVIDER_NOTE: str

    def fact(self, domain: str, name: str, opset: int) -> Fact: ...
    def node_limits(
        self, domain: str, name: str, attributes: frozenset[str]
    ) -> tuple[str, ...]: ...
    def remarks(self, summary: Summary) -> Iterable[Remark]: ...
    def sources(self) -> tuple[str, str]: ...


def _table() -> _Table:
    return cast(_Table, importlib.import_module("porter.rewrites.support.onnx_ops"))


# Reading ----------------------------------------------------------------------------------------


def examine(path: Path, *, shown: str = "") -> OperatorReport:
    """Look every operator of an ONNX file up in the table of the target's compiler.

    Args:
        path: the file; files with weights beside it are not opened.
        shown: how the report names the file; empty takes the path.

    Raises:
        OnnxProblem: the file cannot be read, is no ONNX file, or onnx is not installed.
    """
    model = _load(path, shown or str(path))
    return examine_model(model, shown or str(path), path.parent)


def _load(path: Path, shown: str) -> Any:
    try:
        import onnx
    except ImportError:
        raise OnnxProblem(
            "reading ONNX files needs the package onnx: pip install 'torch-porter[onnx]'"
        ) from None
    try:
        data = path.read_bytes()
    except OSError as error:
        raise OnnxProblem(f"{shown}: cannot be read: {error.strerror or error}") from None
    try:
        model = onnx.load_model_from_string(data, format=_format(path))
    except Exception as error:  # the parsers of the formats raise errors of their own
        first = (str(error).strip().splitlines() or [type(error).__name__])[0]
        raise OnnxProblem(f"{shown}: not an ONNX file ({first[:120]})") from None
    if not model.HasField("graph") or not (model.graph.node or model.graph.output):
        raise OnnxProblem(f"{shown}: not an ONNX file (it holds no graph)")
    return model


def _format(path: Path) -> str:
    """The serialisation that the name of a file stands for, as onnx calls it."""
    known = {".json": "json", ".onnxjson": "json", ".textproto": "textproto",
             ".prototxt": "textproto", ".pbtxt": "textproto", ".onnxtxt": "onnxtxt"}  # fmt: skip
    return known.get(path.suffix.lower(), "protobuf")


def examine_model(model: Any, shown: str, folder: Path | None = None) -> OperatorReport:
    """The same for a model in memory.

    Args:
        model: an `onnx.ModelProto`; its weights may be missing.
        shown: how the report names it.
        folder: where its files with weights would be.
    """
    table = _table()
    walk = _Walk(model)
    summary = _summary(model, walk, folder)
    dtypes = _Types(model)
    uses = [_use(table, key, found, dtypes) for key, found in walk.found.items()]
    uses.sort(key=lambda u: (_WORST_FIRST.index(u.registration), u.domain != DOMAIN, u.domain,
                             u.name, u.opset))  # fmt: skip
    return OperatorReport(
        shown,
        summary,
        tuple(uses),
        tuple(table.remarks(summary)),
        table.COMPILER,
        table.PROVIDER,
        table.sources(),
        table.PROVIDER_NOTE,
    )


@dataclass
class _Found:
    """The nodes of one operator, while the graph is walked."""

    nodes: list[Any] = field(default_factory=list)
    places: dict[str, None] = field(default_factory=dict)


class _Walk:
    """Every node of a model, by domain, name and opset: branches, bodies and functions too."""

    def __init__(self, model: Any) -> None:
        self.found: dict[tuple[str, str, int], _Found] = {}
        self.calls: collections.Counter[str] = collections.Counter()
        self._functions = {_key(f.domain, f.name, f.overload): f for f in model.functions}
        self._seen: set[tuple[str, str, str]] = set()
        self._opsets = _opsets(model)
        self._graph(model.graph.node, MAIN, self._opsets)

    def _graph(self, nodes: Iterable[Any], place: str, opsets: Mapping[str, int]) -> None:
        for node in nodes:
            domain = node.domain or DOMAIN
            key = _key(node.domain, node.op_type, node.overload)
            if key in self._functions:
                self._call(key)
            else:
                use = self.found.setdefault((domain, node.op_type, opsets.get(domain, 0)), _Found())
                use.nodes.append(node)
                use.places[place] = None
            for attribute in node.attribute:
                for graph in (*([attribute.g] if attribute.HasField("g") else []),
                              *attribute.graphs):  # fmt: skip
                    inner = f"{attribute.name} of {node.op_type} {_called(node)}".rstrip()
                    self._graph(graph.node, inner, opsets)

    def _call(self, key: tuple[str, str, str]) -> None:
        function = self._functions[key]
        name = f"{key[0]}::{key[1]}" + (f":{key[2]}" if key[2] else "")
        self.calls[name] += 1
        if key in self._seen:
            return
        self._seen.add(key)
        own = {(i.domain or DOMAIN): i.version for i in function.opset_import}
        self._graph(function.node, f"function {name}", {**self._opsets, **own})


def _key(domain: str, name: str, overload: str) -> tuple[str, str, str]:
    return domain or DOMAIN, name, overload


def _called(node: Any) -> str:
    """The name of a node, or of its first output."""
    return str(node.name) or next((str(o) for o in node.output if o), "")


def _opsets(model: Any) -> dict[str, int]:
    """The version of each domain; files older than opsets (IR 1 and 2) have version 1."""
    found = {(i.domain or DOMAIN): int(i.version) for i in model.opset_import}
    return found or {DOMAIN: 1}


# The model as a whole ---------------------------------------------------------------------------


def _summary(model: Any, walk: _Walk, folder: Path | None) -> Summary:
    graph = model.graph
    filled = {i.name for i in graph.initializer} | {s.values.name for s in graph.sparse_initializer}
    producer = f"{model.producer_name} {model.producer_version}".strip()
    return Summary(
        int(model.ir_version),
        producer,
        tuple(sorted(_opsets(model).items())),
        tuple(_value(v) for v in graph.input if v.name not in filled),
        tuple(_value(v) for v in graph.output),
        _weights(model),
        tuple(sorted(walk.calls.items())),
        tuple(_external(model, folder)),
    )


def _value(info: Any) -> Value:
    kinds = {"tensor_type": "tensor", "sparse_tensor_type": "tensor", "sequence_type": "sequence",
             "optional_type": "optional", "map_type": "map"}  # fmt: skip
    which = info.type.WhichOneof("value") or ""
    if which not in ("tensor_type", "sparse_tensor_type"):
        return Value(info.name, kinds.get(which, "unknown"), "", None)
    tensor = getattr(info.type, which)
    dims: tuple[int | str, ...] | None = None
    if tensor.HasField("shape"):
        dims = tuple(
            int(d.dim_value) if d.WhichOneof("value") == "dim_value" else str(d.dim_param)
            for d in tensor.shape.dim
        )
    return Value(info.name, "tensor", _dtype(tensor.elem_type), dims)


def _dtype(number: int) -> str:
    import onnx

    try:
        return str(onnx.TensorProto.DataType.Name(number)) if number else ""
    except ValueError:  # newer than the installed onnx
        return f"type {number}"


def _tensors(model: Any) -> Iterator[Any]:
    """Every tensor that a model holds: initial values and constants."""
    graphs = [model.graph]
    while graphs:
        graph = graphs.pop()
        yield from graph.initializer
        for node in graph.node:
            for attribute in node.attribute:
                if attribute.HasField("t"):
                    yield attribute.t
                yield from attribute.tensors
                if attribute.HasField("g"):
                    graphs.append(attribute.g)
                graphs.extend(attribute.graphs)


def _weights(model: Any) -> tuple[tuple[str, str], ...]:
    first: dict[str, str] = {}
    for tensor in _tensors(model):
        first.setdefault(_dtype(tensor.data_type), tensor.name or "a constant")
    return tuple(sorted(first.items()))


def _external(model: Any, folder: Path | None) -> Iterator[tuple[str, bool]]:
    names: dict[str, None] = {}
    for tensor in _tensors(model):
        if tensor.data_location == tensor.EXTERNAL:
            names.update({e.value: None for e in tensor.external_data if e.key == "location"})
    for name in names:
        yield name, folder is not None and (folder / name).is_file()


# One operator -----------------------------------------------------------------------------------


class _Types:
    """The element types of values in the main graph, inferred only if they are asked for."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._known: dict[str, str] | None = None

    def of(self, name: str) -> str:
        """Such as "float32"; empty if it is not known."""
        if self._known is None:
            self._known = self._read(self._model.graph)
        return self._known.get(name, "")

    def _read(self, graph: Any) -> dict[str, str]:
        known = {t.name: _dtype(t.data_type) for t in graph.initializer}
        for info in (*graph.input, *graph.value_info, *graph.output):
            if info.type.HasField("tensor_type"):
                known[info.name] = _dtype(info.type.tensor_type.elem_type)
        produced = {o for node in graph.node for o in node.output if o}
        if not produced <= known.keys() and self._model.ByteSize() < INFERENCE_LIMIT:
            known = {**self._inferred(), **known}
        names = {"FLOAT": "float32", "DOUBLE": "float64"}
        return {name: names.get(dtype, dtype.lower()) for name, dtype in known.items()}

    def _inferred(self) -> dict[str, str]:
        import onnx.shape_inference

        try:
            graph = onnx.shape_inference.infer_shapes(self._model).graph
        except Exception:  # a graph that is not well formed, or with unknown operators
            return {}
        return {
            info.name: _dtype(info.type.tensor_type.elem_type)
            for info in graph.value_info
            if info.type.HasField("tensor_type")
        }


def _use(table: _Table, key: tuple[str, str, int], found: _Found, dtypes: _Types) -> OperatorUse:
    domain, name, opset = key
    known = table.fact(domain, name, opset)
    advice = known.advice
    if known.registration is not Registration.REGISTERED:
        advice = "; or ".join(filter(None, (advice, _expansion(table, domain, name, opset))))
    return OperatorUse(
        domain,
        name,
        opset,
        len(found.nodes),
        tuple(_called(n) for n in found.nodes[:NODES]),
        tuple(found.places),
        known.registration,
        known.reason,
        advice,
        tuple(_limits(table, known, key, found.nodes, dtypes)),
        known.provider,
        known.source,
    )


def _expansion(table: _Table, domain: str, name: str, opset: int) -> str:
    """How to write an operator with others, where the standard itself says how."""
    import onnx.defs

    if domain != DOMAIN:
        return ""
    try:
        schema = onnx.defs.get_schema(name, opset, "")
    except Exception:  # the installed onnx has no such operator
        return ""
    body = [n.op_type for n in schema.function_body.node] if schema.has_function else []
    if not body or any(
        table.fact(DOMAIN, n, opset).registration is not Registration.REGISTERED for n in body
    ):
        return ""
    return (
        "expand it into registered operators, as the ONNX standard defines it: "
        f'onnx.inliner.inline_selected_functions(model, [("", "{name}")], '
        "inline_schema_functions=True)"
    )


def _limits(
    table: _Table, known: Fact, key: tuple[str, str, int], nodes: Sequence[Any], dtypes: _Types
) -> Iterator[str]:
    """Documented restrictions that some of the nodes do not keep."""
    counted: collections.Counter[str] = collections.Counter()
    for node in nodes:
        counted.update(table.node_limits(key[0], key[1], frozenset(a.name for a in node.attribute)))
        counted.update(_types_outside(known, key, node, dtypes))
    for text, count in counted.items():
        yield f"{text} ({_many(count, 'node')})"


def _types_outside(
    known: Fact, key: tuple[str, str, int], node: Any, dtypes: _Types
) -> Iterator[str]:
    """The inputs and outputs of a node whose type the table's page does not name."""
    found: dict[tuple[str, tuple[str, ...]], list[str]] = {}
    for parameter, allowed in known.dtypes:
        value = _argument(node, key, parameter)
        dtype = dtypes.of(value) if value else ""
        if dtype and dtype not in allowed:
            found.setdefault((dtype, allowed), []).append(parameter)
    for (dtype, allowed), parameters in found.items():
        verb = "is" if len(parameters) == 1 else "are"
        names = ", ".join(parameters)
        yield f"{names} {verb} {dtype}; {known.page} names {' and '.join(allowed)} only"


def _argument(node: Any, key: tuple[str, str, int], parameter: str) -> str:
    """The value that a node has for an input or output of that name."""
    import onnx.defs

    try:
        schema = onnx.defs.get_schema(key[1], key[2], "" if key[0] == DOMAIN else key[0])
    except Exception:
        return ""
    for formal, actual in ((schema.inputs, node.input), (schema.outputs, node.output)):
        for position, one in enumerate(formal):
            if one.name.lower() == parameter.lower() and position < len(actual):
                return str(actual[position])
    return ""


# Text -------------------------------------------------------------------------------------------


def render_text(report: OperatorReport) -> str:
    """The report for people."""
    return "\n".join(_lines(report))


def _lines(report: OperatorReport) -> Iterator[str]:
    nodes = sum(u.count for u in report.operators)
    opsets = ", ".join(
        f"opset {v}" if d == DOMAIN else f"{d} {v}" for d, v in report.summary.opsets
    )
    written = f", written by {report.summary.producer}" if report.summary.producer else ""
    yield (
        f"{report.path}: {opsets}, IR version {report.summary.ir_version}, "
        f"{_many(len(report.operators), 'operator')} in {_many(nodes, 'node')}{written}"
    )
    for remark in report.remarks:
        yield ""
        yield from _wrapped(("stops: " if remark.blocks else "note: ") + remark.text, 2)
        if remark.advice:
            yield from _wrapped(f"to do: {remark.advice}", 4)
    for registration, heading in (
        (Registration.UNREGISTERED, f"Not registered with {report.compiler}"),
        (Registration.UNKNOWN, "Unknown: no table has them"),
    ):
        yield from _detailed(heading, report.of(registration))
    yield from _registered(report)
    yield ""
    yield from _wrapped(_verdict(report), 0)
    yield from _wrapped(
        f"Registered means that {report.compiler} can read the operator; only compiling shows "
        "whether the device has a kernel for these types and shapes.",
        0,
    )
    yield from _wrapped(report.provider_note, 0)
    yield from _wrapped(f"Sources: {report.sources[0]}; {report.sources[1]}", 0)


def _verdict(report: OperatorReport) -> str:
    parts = []
    for registration in _WORST_FIRST:
        uses = report.of(registration)
        if uses:
            parts.append(f"{len(uses)} {registration.value}")
    stops = sum(r.blocks for r in report.remarks)
    if stops:
        parts.append(f"{_many(stops, 'reason')} for {report.compiler} to stop")
    return f"{report.path}: {', '.join(parts) or 'no operators'}."


def _detailed(heading: str, uses: Sequence[OperatorUse]) -> Iterator[str]:
    """Operators with what is said of them; those of which the same is said stand together."""
    if not uses:
        return
    yield ""
    yield f"{heading}:"
    groups: dict[tuple[str, str, tuple[str, ...]], list[OperatorUse]] = {}
    for use in uses:
        groups.setdefault((use.reason, use.advice, use.limits), []).append(use)
    for (reason, advice, limits), members in groups.items():
        for use in members:
            yield from _wrapped(f"{use.title}: {_places(use)}", 2)
        yield from _wrapped(reason, 6)
        if advice:
            yield from _wrapped(f"to do: {advice}", 6)
        for limit in limits:
            yield from _wrapped(f"limit: {limit}", 6)


def _places(use: OperatorUse) -> str:
    names = ", ".join(filter(None, use.nodes))
    more = f" and {use.count - len(use.nodes)} more" if use.count > len(use.nodes) else ""
    where = "" if use.places == (MAIN,) else f", in {', '.join(use.places)}"
    return f"{_many(use.count, 'node')} ({names}{more}){where}"


def _registered(report: OperatorReport) -> Iterator[str]:
    uses = report.of(Registration.REGISTERED)
    if not uses:
        return
    width = max(len(u.title) for u in uses)
    yield ""
    yield f"Registered with {report.compiler} (nodes; {report.provider}):"
    for use in uses:
        yield f"  {use.title:<{width}}  {use.count:>5}  {use.provider}".rstrip()
        for limit in use.limits:
            yield from _wrapped(f"limit: {limit}", 6)


def _many(count: int, noun: str) -> str:
    return f"{count} {noun}" if count == 1 else f"{count} {noun}s"


def _wrapped(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(
        text,
        WIDTH,
        initial_indent=margin,
        subsequent_indent=margin + ("  " if indent else ""),
        break_long_words=False,
        break_on_hyphens=False,
    )
