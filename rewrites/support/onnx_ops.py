"""What Ascend's compiler (ATC) takes of an ONNX model: the table `onnx_ops.tsv` and its answers.

The compiler looks an operator up as `<domain>::<opset of the model>::<operator>` and stops with
error E16002 if no plugin registered that (ConstructOriType and AdapterOpType in
parser/parser/onnx/onnx_parser.cc of github.com/hicann/ge, commit 0273d4ef01f1). A registered
operator is one that the compiler can read; whether the device has a kernel for these dtypes and
shapes only a run of the compiler can tell.
"""

from __future__ import annotations

import functools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

from porter.onnx.operators import DOMAIN, Fact, Registration, Remark, Summary
from porter.support import Status, Support
from porter.targets import Target

from .tables import HERE

TABLE = "onnx_ops.tsv"
#: How the compiler and the second column are called in reports.
COMPILER = "ATC"
PROVIDER = "ONNX Runtime CANN"
#: The lowest opset of a model whose graph ONNX Runtime's CANN provider takes (cann_graph.cc), and
#: the highest before pull request 23237 of January 2025 removed that bound.
PROVIDER_LOWEST, PROVIDER_HIGHEST = 8, 15
PROVIDER_NOTE = (
    f"{PROVIDER}: the operators that its graph mode lists, for opset {PROVIDER_LOWEST} and later "
    f"(up to {PROVIDER_HIGHEST} before pull request 23237 of January 2025)"
)
#: Element types that the parser knows (onnx_util.cc), as onnx writes them in capitals. Constants
#: may have those of `PARSED` only (onnx_constant_parser.cc).
PARSED = frozenset(
    "FLOAT UINT8 INT8 UINT16 INT16 INT32 INT64 STRING BOOL FLOAT16 DOUBLE UINT32 UINT64 COMPLEX64 "
    "COMPLEX128 BFLOAT16 INT4".split()
)
#: Types of inputs that ATC's documentation names for ONNX models (general_restrictions.md).
INPUTS = ("FLOAT", "FLOAT16", "UINT8")
GE = "github.com/hicann/ge"
INPUTS_NOTE = (
    "ATC's documentation names float32, float16 and uint8 as the types of inputs of ONNX models"
)
INPUTS_SOURCE = f"{GE} docs/zh/user_guides/atc_tools/CLI_options/general_restrictions.md"
PARSER_SOURCE = f"{GE} parser/parser/onnx (0273d4ef01f1, af168448b00c)"

_DTYPES = {
    "fp16": "float16",
    "fp32": "float32",
    "fp64": "float64",
    "bf16": "bfloat16",
}


@dataclass(frozen=True)
class OnnxOperator:
    """One row of the table.

    Args:
        domain: "ai.onnx", or that of a plugin such as "npu".
        name: the operator.
        opsets: opsets of models in which the compiler registers it; None means any.
        becomes: operators of GE that it turns into; "PartitionedCall" is a subgraph.
        provider: "graph" if ONNX Runtime's CANN provider lists it for whole graphs, and
            "kernel" or "kernel:<dtypes>" if it has a kernel of its own.
        dtypes: by input, the only dtypes that a page of Ascend's list names.
        page: that page.
        file: where it is registered.
        standard: whether the ONNX standard has an operator of that name.
    """

    domain: str
    name: str
    opsets: frozenset[int] | None
    becomes: tuple[str, ...] = ()
    provider: tuple[str, ...] = ()
    dtypes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    page: str = ""
    file: str = ""
    standard: bool = False

    def registered(self, opset: int) -> bool:
        """Whether a plugin registers it for models of that opset."""
        return self.opsets is None or opset in self.opsets

    @property
    def ranges(self) -> str:
        """Its opsets in words: "8 to 16 and 18"."""
        return "any" if self.opsets is None else spoken(self.opsets)


def spoken(numbers: frozenset[int]) -> str:
    """Numbers in words: {8, 9, 10, 12} is "8 to 10 and 12"."""
    parts: list[str] = []
    left = sorted(numbers)
    while left:
        last = 0
        while last + 1 < len(left) and left[last + 1] == left[last] + 1:
            last += 1
        parts.append(str(left[0]) if last == 0 else f"{left[0]} to {left[last]}")
        left = left[last + 1 :]
    return " and ".join(filter(None, [", ".join(parts[:-1]), *parts[-1:]]))


# The table --------------------------------------------------------------------------------------


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


@functools.cache
def _head() -> dict[str, str]:
    """The first lines: the range of opsets and the sources."""
    found = {}
    for line in _text(TABLE).splitlines():
        match = re.match(r"# (opsets|compiler|provider) (.*)", line)
        if match is None:
            break
        found[match[1]] = match[2]
    return found


def opset_range() -> tuple[int, int]:
    """The opsets of models that the compiler documents, lowest and highest."""
    lowest, highest = _head()["opsets"].split()
    return int(lowest), int(highest)


@functools.cache
def operators() -> dict[tuple[str, str], OnnxOperator]:
    """Every row, by domain and name."""
    found, domain = {}, ""
    for line in _text(TABLE).splitlines():
        if line.startswith("= "):
            domain = line[2:]
        elif not line.startswith("#"):
            row = _row(domain, line.split("\t"))
            found[domain, row.name] = row
    return found


def _row(domain: str, columns: list[str]) -> OnnxOperator:
    name, opsets, becomes, provider, limits, file, standard = (*columns, *[""] * 6)[:7]
    dtypes, _, page = limits.partition(" | ")
    return OnnxOperator(
        domain,
        name,
        None if opsets == "*" else frozenset(_numbers(opsets)),
        tuple(filter(None, becomes.split(","))),
        tuple(provider.split()),
        tuple(
            (key, tuple(_DTYPES.get(d, d) for d in kinds.split(",")))
            for key, _, kinds in (part.partition(":") for part in dtypes.split())
        ),
        page,
        file,
        standard == "std",
    )


def _numbers(text: str) -> Iterator[int]:
    for part in text.split(",") if text not in ("", "-") else ():
        first, _, last = part.partition("-")
        yield from range(int(first), int(last or first) + 1)


@functools.cache
def advice() -> dict[str, str]:
    """What to do about operators that are not registered, by name."""
    found: dict[str, str] = tomllib.loads(_text("onnx_advice.toml"))
    return found


# Answers ----------------------------------------------------------------------------------------


def fact(domain: str, name: str, opset: int) -> Fact:
    """What is known of an operator in a model of that opset.

    Args:
        domain: its domain; empty means "ai.onnx".
        name: its type.
        opset: the version that the model imports of the domain.
    """
    domain = domain or DOMAIN
    row = operators().get((domain, name))
    if row is None:
        return Fact(
            Registration.UNKNOWN, _unheard(domain, name, opset), _other_domain(domain, name)
        )
    provider = _provider(row, opset)
    if row.registered(opset):
        return Fact(Registration.REGISTERED, "", "", row.dtypes, row.page, provider, _source(row))
    return Fact(
        Registration.UNREGISTERED,
        _missing(row),
        _do(row, opset),
        (),
        "",
        provider,
        _head()["compiler"],
    )


def _source(row: OnnxOperator) -> str:
    """The file that registers an operator, with the commit of its repository."""
    repository, _, path = row.file.partition(":")
    commit = re.search(rf"{re.escape(repository)} (\w+)", _head()["compiler"])
    date = re.search(r"\(([\d-]+)\)", _head()["compiler"])
    return (
        f"github.com/hicann/{repository} {path.split()[0] if path else ''}"
        f" at {commit[1] if commit else ''} ({date[1] if date else ''})"
    )


def _unheard(domain: str, name: str, opset: int) -> str:
    if not opset:
        return f"the model imports no opset of {domain}; {COMPILER} stops at that"
    key = f"{domain}::{opset}::{name}"
    if domain == DOMAIN:
        return f"the table does not have it; {COMPILER} looks for {key}"
    return f"no plugin that was read registers {key}"


def _other_domain(domain: str, name: str) -> str:
    """What to do about an operator of a domain that the table does not have."""
    if domain.startswith(("com.microsoft", "ai.onnxruntime")):
        return "use the model as it was before ONNX Runtime optimised it"
    if domain.startswith("ai.onnx.ml"):
        return "keep this part of the pipeline outside the model"
    if domain != DOMAIN:
        return "write it with operators of ai.onnx, or write a plugin for the compiler"
    return ""


def _missing(row: OnnxOperator) -> str:
    if not row.opsets:
        return "no plugin that was read registers it for any opset"
    return f"it is registered for models of opset {row.ranges} only"


def _do(row: OnnxOperator, opset: int) -> str:
    """What to do: the written advice, else another opset where one serves."""
    lowest, highest = opset_range()
    usable = [o for o in sorted(row.opsets or ()) if lowest <= o <= highest]
    if usable and not lowest <= opset <= highest and row.domain == DOMAIN:
        return ""  # the remark on the model's opset says it
    if row.name in advice():
        return advice()[row.name]
    if not usable:
        return ""
    return f"export with opset {usable[-1]}"


def _provider(row: OnnxOperator, opset: int) -> str:
    """The second column: "graph", "kernel", or "no"."""
    if row.domain != DOMAIN or not row.provider:
        return "no"
    if row.provider[0] == "graph" and opset >= PROVIDER_LOWEST:
        return "graph"
    return "kernel" if any(p.startswith("kernel") for p in row.provider) else "no"


def sources() -> tuple[str, str]:
    """Where the two columns were read."""
    return _head()["compiler"], _head()["provider"]


# The model as a whole ---------------------------------------------------------------------------


def node_limits(domain: str, name: str, attributes: frozenset[str]) -> tuple[str, ...]:
    """What of a node the parser is not known to read."""
    if (domain, name) != (DOMAIN, "Constant") or "value" in attributes:
        return ()
    return (
        f"the parser of {COMPILER} reads the attribute value only, not {min(attributes, default='')}",
    )


def remarks(summary: Summary) -> Iterator[Remark]:
    """What the compiler's sources and documentation say of the rest of a model."""
    yield from _opset_remarks(summary)
    if summary.functions:
        calls = ", ".join(f"{name} ({count})" for name, count in summary.functions)
        yield Remark(
            f"the graph calls functions of the model, which the parser of {COMPILER} does not read: "
            f"{calls}; their operators are listed as if they stood in the graph",
            True,
            "expand them: onnx.save(onnx.inliner.inline_local_functions(onnx.load(path)), path)",
            PARSER_SOURCE,
        )
    if not summary.inputs:
        yield Remark(
            f"the graph has no inputs: {COMPILER} stops with E16001",
            True,
            "pass at least one tensor to the model",
            PARSER_SOURCE,
        )
    yield from _type_remarks(summary)
    yield from _dim_remarks(summary)
    missing = [name for name, there in summary.external if not there]
    if missing:
        yield Remark(
            f"files with weights are missing: {', '.join(missing[:3])}"
            + (f" and {len(missing) - 3} more" if len(missing) > 3 else ""),
            False,
            f"the operators could be examined all the same; {COMPILER} needs the files beside the "
            "model",
        )


def _opset_remarks(summary: Summary) -> Iterator[Remark]:
    lowest, highest = opset_range()
    opset = dict(summary.opsets).get(DOMAIN)
    if opset is not None and not lowest <= opset <= highest:
        yield Remark(
            f"the model has opset {opset}; {COMPILER} documents opset {lowest} to {highest}",
            True,
            f"export it again with opset {highest}"
            + ("; later opsets seldom convert down" if opset > highest else
               f", or convert it: onnx.version_converter.convert_version(model, {lowest})"),
            f"{GE} docs/zh/user_guides/atc_tools/CLI_options/--framework.md",
        )  # fmt: skip


def _type_remarks(summary: Summary) -> Iterator[Remark]:
    for dtype, name in summary.weights:
        if dtype and dtype not in PARSED:
            yield Remark(
                f"the parser of {COMPILER} does not know constants of type {dtype} ({name})",
                True,
                "export the model in float16 or float32",
                PARSER_SOURCE,
            )
    for value in summary.inputs:
        if value.kind in ("sequence", "optional", "map"):
            yield Remark(
                f"input {value.name} is a {value.kind}; the parser of {COMPILER} reads the types of "
                "tensors only",
                False,
                "pass tensors",
                PARSER_SOURCE,
            )
    others = [f"{v.name} ({v.dtype.lower()})" for v in summary.inputs
              if v.dtype and v.dtype not in INPUTS]  # fmt: skip
    if others:
        yield Remark(
            f"{INPUTS_NOTE}; here: {', '.join(others)}",
            False,
            "compile early, to see whether your version takes them",
            INPUTS_SOURCE,
        )


def _dim_remarks(summary: Summary) -> Iterator[Remark]:
    varying = [v for v in summary.inputs if any(isinstance(d, str) for d in v.dims or ())]
    if varying:
        shapes = ";".join(
            f"{v.name}:{','.join(str(d) if isinstance(d, int) else '-1' for d in v.dims or ())}"
            for v in varying
        )
        yield Remark(
            f"inputs with dimensions that vary: {', '.join(v.name for v in varying)}",
            False,
            f'{COMPILER} must be told their sizes: --input_shape="{shapes}" with a size or a range '
            "like 1~8 for each -1, or with --dynamic_dims",
            f"{GE} docs/zh/user_guides/atc_tools/CLI_options/--input_shape.md",
        )


# porter query -----------------------------------------------------------------------------------


def query(name: str, target: Target) -> Iterator[Support]:
    """An ONNX operator, as `onnx::Conv`, `ai.onnx::18::Conv`, or `npu::NPUIou`."""
    domain, wanted, opset = _asked(name)
    row = operators().get((domain, wanted))
    if row is None:
        return
    yield _support(row, opset)


def names() -> Iterator[str]:
    """Every operator as it is asked for, for suggestions."""
    for domain, name in operators():
        yield f"{'onnx' if domain == DOMAIN else domain}::{name}"


def _asked(name: str) -> tuple[str, str, int]:
    """Domain, operator and opset (0: none was named) of a question."""
    parts = [p for p in name.split("::") if p]
    opset = 0
    if len(parts) > 1:
        last, _, version = parts[-1].partition("@")
        parts[-1] = last
        digits = [p for p in (version, *parts[1:-1]) if p.isdecimal()]
        opset = int(digits[0]) if digits else 0
        domain = parts[0]
        return DOMAIN if domain.lower() in ("onnx", "atc", DOMAIN) else domain, parts[-1], opset
    return "", name, 0


def _models(row: OnnxOperator) -> str:
    return "any opset" if row.opsets is None else f"opset {row.ranges}"


def _support(row: OnnxOperator, opset: int) -> Support:
    highest = opset_range()[1]
    opset = opset or (highest if row.domain == DOMAIN else max(row.opsets or {1}))
    known = fact(row.domain, row.name, opset)
    status = {
        Registration.REGISTERED: Status.REGISTERED,
        Registration.UNREGISTERED: Status.UNSUPPORTED,
        Registration.UNKNOWN: Status.UNKNOWN,
    }[known.registration]
    limits = tuple(f"{key} takes {', '.join(kinds)} only" for key, kinds in row.dtypes)
    notes = [f"{COMPILER} registers it for models of {_models(row)}"]
    if not (row.opsets or row.opsets is None):
        notes = [f"{COMPILER}: {known.reason}"]
    if status is Status.REGISTERED:
        notes.append("registered is not proof of a kernel")
    notes += [known.advice] if known.advice else []
    notes.append(f"{PROVIDER} provider: {', '.join(row.provider) or 'no'}")
    return Support(
        f"{row.domain}::{row.name}",
        "ONNX operator",
        status,
        limits=limits,
        note="; ".join(notes),
        source=known.source,
        version=f"opset {opset}",
    )
