"""One name, every table: the answers behind `porter query`."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

from porter.support import Lookup, Status, Support, Unanswerable
from porter.targets import Target

from .. import _table, packages
from ..environment import variables
from . import onnx_ops, tables
from .tables import BINARIES, BINARY, LINES, VERSIONS, Api, Operator, minor

#: Short names that people write for modules.
SHORT = {"F": "torch.nn.functional", "nn": "torch.nn", "Tensor": "torch.Tensor"}
_VERSION = re.compile(r"\d+\.\d+(\.\d+)?(\.?post\d+)?\Z")
#: How a dtype is written in Ascend's lists and in torch.
DTYPES = {
    "bf16": "bfloat16",
    "fp16": "float16",
    "fp32": "float32",
    "fp64": "float64",
}


# The question -----------------------------------------------------------------------------------


def listed(target: Target) -> str:
    """The version of Ascend's lists that is nearest to the target: the last one not newer.

    Raises:
        Unanswerable: the version is malformed, or there is no such product line.
    """
    if target.hardware and target.hardware not in LINES:
        raise Unanswerable(
            f"unknown product line {target.hardware!r} "
            f"(write {', '.join(LINES[:-1])} or {LINES[-1]})"
        )
    if not target.torch_npu:
        return VERSIONS[-1]
    if not _VERSION.match(target.torch_npu):
        raise Unanswerable(f"not a torch_npu version: {target.torch_npu!r} (write it like 2.13)")
    wanted = minor(target.torch_npu)
    older = [v for v in VERSIONS if minor(v) <= wanted]
    return older[-1] if older else VERSIONS[0]


def witnesses(target: Target) -> tuple[str, ...]:
    """The versions whose binaries speak for the target: its own if that was read, else the nearest.

    Raises:
        Unanswerable: the version is malformed.
    """
    listed(target)
    return tables.binaries(target.torch_npu) if target.torch_npu else (BINARY,)


def notes(target: Target) -> Iterator[str]:
    """What to say about the versions asked for."""
    nearest = listed(target)
    if not target.torch_npu:
        return
    if minor(nearest) != minor(target.torch_npu):
        yield (
            f"Ascend's list for torch_npu {target.torch_npu} was not read (only "
            f"{', '.join(VERSIONS)}); API answers are those of {nearest}."
        )
    read = witnesses(target)
    if minor(read[0]) != minor(target.torch_npu):
        yield (
            f"The binary of torch_npu {target.torch_npu} was not read; operator answers are those "
            f"of {' and '.join(read)}."
        )
    if minor(target.torch_npu) != minor(BINARY):
        yield f"Names of torch_npu were read from {BINARY} only."


def spellings(query: str) -> Iterator[str]:
    """The ways in which the tables may write a name, the likeliest first."""
    yield query
    operator = re.fullmatch(r"(?:torch\.)?ops\.(\w+)\.(\w+)(?:\.(\w+))?", query)
    if operator:
        namespace, name, overload = operator.groups()
        suffix = f".{overload}" if overload and overload != "default" else ""
        yield f"{namespace}::{name}{suffix}"
    head, dot, rest = query.partition(".")
    if dot and head in SHORT:
        yield f"{SHORT[head]}.{rest}"
    if "::" not in query:
        yield f"torch.{query}"
        yield f"torch_npu.{query}"
        yield f"npu::{query}"
        yield f"aten::{query}"
    elif query.endswith(".default"):
        yield query.removesuffix(".default")


def names() -> Iterable[str]:
    """Every name that a table knows, for suggestions."""
    yield from tables.api_names()
    yield from tables.operators()
    yield from tables.overloads()
    yield from (n for n in tables.names() if "::" not in n)
    yield from onnx_ops.names()
    yield from _table.names()
    yield from variables()
    for row in packages.packages():
        yield from (*row.imports, *row.pypi)


# API level --------------------------------------------------------------------------------------


def api(name: str, target: Target) -> Iterator[Support]:
    """What Ascend's list says."""
    version = listed(target)
    row = tables.api(name, version)
    if row is None:
        yield from _other_versions(name, version)
        return
    yield Support(
        name,
        "API",
        _status(row, target),
        row.npu_name,
        _since(name, target),
        limits(row),
        tuple((line, line in row.lines) for line in LINES),
        advice(row, target),
        row.source,
        f"torch_npu {row.version}",
    )


def _status(row: Api, target: Target) -> Status:
    if (target.hardware or "") not in ("", *row.lines) or not row.lines:
        return Status.UNSUPPORTED
    if row.fallback == "yes":
        return Status.ON_CPU
    return Status.LIMITED if row.limited else Status.SUPPORTED


def limits(row: Api) -> tuple[str, ...]:
    """The restrictions of a row in words."""
    found = [
        f"{'' if parameter == '*' else parameter + ' '}takes {_dtypes(dtypes)} only"
        for parameter, dtypes in row.dtypes
    ]
    if row.missing_dtypes:
        found.append(f"not for {_dtypes(row.missing_dtypes)}")
    if row.fallback:
        found.append(
            {
                "yes": "runs on the CPU",
                "may": "may run on the CPU",
                "cpu_only": "supported on the CPU only",
            }[row.fallback]
        )
    if row.inference_only:
        found.append("for inference only, not for training")
    if row.other:
        found.append("has restrictions that only the page itself tells")
    return tuple(found)


def _dtypes(names: Iterable[str]) -> str:
    return ", ".join(DTYPES.get(n, n) for n in names)


def _since(name: str, target: Target) -> str:
    """The first list that has the name as supported."""
    for version in VERSIONS:
        row = tables.api(name, version)
        if row is not None and (target.hardware in row.lines if target.hardware else row.lines):
            return f"torch_npu {version}" + (" or earlier" if version == VERSIONS[0] else "")
    return ""


def _other_versions(name: str, version: str) -> Iterator[Support]:
    """A name that only lists of other versions have."""
    for other in reversed(VERSIONS):
        row = tables.api(name, other)
        if row is not None:
            yield Support(
                name,
                "API",
                Status.UNKNOWN,
                limits=limits(row),
                lines=tuple((line, line in row.lines) for line in LINES),
                note=f"only the list of {other} has it, not that of {version}",
                source=row.source,
                version=f"torch_npu {other}",
            )
            return


def advice(row: Api, target: Target) -> str:
    """What the operators of an API say about what its list says."""
    hint = tables.advice().get(row.name, "")
    if row.lines:
        return hint
    read = witnesses(target)
    twin = tables.twin(row.name, row.version)
    if twin:
        said = f"the same list has {twin}, which does the same, as supported: test it"
    elif falling := _agreed(read, lambda v: tables.on_cpu(row.name, v)):
        said = f"in {_named(read)} {' and '.join(falling)} falls back to the CPU"
    elif all(tables.runs(row.name, v) for v in read):
        said = f"yet {_named(read)} has {kernels(row.name)}: test it"
    else:
        return hint
    return f"{said}; {hint}" if hint else said


def kernels(name: str) -> str:
    """In words, what the operators of an API are that runs on the device."""
    computed = tables.computed(name)
    shown = ", ".join(computed[:3]) + (", ..." if len(computed) > 3 else "")
    what = f"a kernel or a composite for every operator that it calls ({shown})"
    return what if computed else "all that it needs: it computes nothing"


def _named(versions: tuple[str, ...]) -> str:
    """Like "the binary of torch_npu 2.13.0"."""
    if len(versions) == 1:
        return f"the binary of torch_npu {versions[0]}"
    return f"the binary of torch_npu {' (as that of '.join(versions)})"


def _agreed(versions: tuple[str, ...], ask: Callable[[str], tuple[str, ...]]) -> tuple[str, ...]:
    """What all versions answer; nothing if they differ."""
    answers = {ask(version) for version in versions}
    return answers.pop() if len(answers) == 1 else ()


# Operator level ---------------------------------------------------------------------------------

_MEANING = {
    "npu": Status.SUPPORTED,
    "npu_ops": Status.SUPPORTED,
    "composite": Status.SUPPORTED,
    "composite_explicit": Status.SUPPORTED,
    "cpu_fallback": Status.ON_CPU,
}


def operator(name: str, target: Target) -> Iterator[Support]:
    """What the binary does with one operator, or with all overloads of a name."""
    # By answer but for its version: the versions that give it, in the order of the table.
    answers: dict[Support, list[str]] = {}
    for version in witnesses(target):
        known = tables.operators(version)
        if "." in name:
            rows: tuple[Operator, ...] = (known[name],) if name in known else ()
        else:
            rows = tables.overloads(version).get(name, ())
        for row in rows:
            answers.setdefault(_operator(row, version), []).append(version)
    for support, versions in answers.items():
        source = "; ".join(_binary_source(v) for v in versions)
        yield replace(support, source=source, version=f"torch_npu {' and '.join(versions)}")


def _operator(row: Operator, version: str) -> Support:
    settled = tables.effective_kind(row.name, version)
    status = _MEANING[settled]
    said = [tables.KINDS[row.kind]]
    if settled != row.kind:
        said.append(f"its work is done by the out overload: {tables.KINDS[settled]}")
    if row.autocast:
        said.append(f"autocast: {row.autocast}")
    if status is Status.ON_CPU:
        said.append(CPU_HINT)
    conditions = tuple(f"runs on the CPU: {w}" for w in tables.conditions().get(row.name, ()))
    if conditions and status is Status.SUPPORTED:
        status = Status.LIMITED
    schema = tables.names().get(row.name)
    if schema is not None and schema.signature:
        said.append(f"schema {schema.signature}" + (f" in {BINARY}" if version != BINARY else ""))
    return Support(
        row.name,
        "operator",
        status,
        since="" if status is Status.ON_CPU else _on_device_since(row.name, version),
        limits=conditions,
        note="; ".join(said),
    )


def _on_device_since(name: str, version: str) -> str:
    """The first binary from which on all up to `version` run the operator on the device."""
    first = ""
    for earlier in reversed(BINARIES[: BINARIES.index(version) + 1]):
        if _MEANING.get(tables.effective_kind(name, earlier)) is not Status.SUPPORTED:
            break
        first = earlier
    return f"torch_npu {first}" + (" or earlier" if first == BINARIES[0] else "") if first else ""


def _binary_source(version: str) -> str:
    source = tables.sources()[f"operators.tsv {version}"]
    return f"{source['source']} ({source['date']})"


CPU_HINT = "TORCH_NPU_FALLBACK_CPU_DISABLE=1 turns the fallback into an error, for a test run"


def called(name: str, target: Target) -> Iterator[Support]:
    """Operators of an API that run on the CPU, whatever its list says."""
    read = witnesses(target)
    for version in read:
        forward = tables.on_cpu(name, version)
        backward = tables.backward_on_cpu(name, version)
        if not forward and not backward:
            continue
        said = [f"{' and '.join(forward)}"] if forward else []
        if backward:
            said.append(f"in the backward pass {' and '.join(backward)}")
        yield Support(
            name,
            "operators of the API",
            Status.ON_CPU,
            note=f"falls back to the CPU: {'; '.join(said)}; {CPU_HINT}",
            source=_joined_source(version),
            version=f"torch_npu {version}",
        )
        return
    if name in tables.calls() and tables.api(name, listed(target)) is None:
        yield _unlisted(name, read[-1])


def _joined_source(version: str) -> str:
    """Where it was read which operators an API calls, and what the binary does with them."""
    source = tables.sources()["calls.tsv"]
    return f"{source['source']} ({source['date']}), and {_binary_source(version)}"


def _unlisted(name: str, version: str) -> Support:
    """An API that no list names, from the operators that it calls."""
    operators = tables.calls()[name][0]
    known = tables.operators(version)
    kinds = [
        f"{o} ({tables.KINDS[tables.effective_kind(o, version)]})" for o in operators if o in known
    ]
    return Support(
        name,
        "operators of the API",
        Status.SUPPORTED if tables.runs(name, version) else Status.UNKNOWN,
        note="Ascend's list does not name it; it calls " + (", ".join(kinds) or "no operator"),
        source=_joined_source(version),
        version=f"torch_npu {version}",
    )


# Names of torch_npu -----------------------------------------------------------------------------


def device_name(name: str, target: Target) -> Iterator[Support]:
    """A name that torch_npu itself has."""
    known = tables.names()
    aliased = re.sub(r"^torch\.npu(?=\.|$)", "torch_npu.npu", name)
    row = known.get(name) or known.get(aliased)
    if row is None or row.kind == "op":
        return
    schema = known.get(f"npu::{name.rpartition('.')[2]}")
    text = row.signature or (schema.signature if schema is not None else "")
    source = tables.sources()["names.tsv"]
    yield Support(
        row.name,
        row.kind if row.kind != "added" else "name that torch_npu adds",
        Status.SUPPORTED,
        note=f"signature {text}" if text else "",
        source=f"{source['source']} ({source['date']})",
        version=f"torch_npu {BINARY}",
    )


def cuda_name(name: str, target: Target) -> Iterator[Support]:
    """What the table of CUDA-bound names says."""
    row = _table.row(name)
    if row is None:
        return
    equivalents = [e for e in (row.npu, row.accelerator) if e]
    fates = {"gap": Status.UNSUPPORTED, "inert": Status.IGNORED}
    status = Status.REPLACED if equivalents else fates.get(row.fate, Status.REPLACED)
    yield Support(
        row.name,
        "CUDA-bound name",
        status,
        " or ".join(equivalents),
        f"torch {row.accelerator_since} ({row.accelerator})" if row.accelerator else "",
        note=row.explanation,
        source=row.source,
    )


# Environment variables and packages -------------------------------------------------------------


def environment(name: str, target: Target) -> Iterator[Support]:
    """An environment variable of CUDA or NCCL, or the one that took its place."""
    known = variables()
    read = tables.sources()["environment.toml"]["date"]
    if name in known:
        row = known[name]
        equivalents = [e for e in (row.npu, row.accelerator) if e]
        status = Status.REPLACED if equivalents else Status.UNSUPPORTED
        if not equivalents and row.ignored:
            status = Status.IGNORED
        yield Support(
            name,
            "environment variable",
            status,
            " or ".join(equivalents),
            f"torch {row.accelerator_since} ({row.accelerator})" if row.accelerator_since else "",
            () if row.npu_exact else ("values may differ",),
            note=row.advice,
            source=f"{row.source} ({read})",
        )
        return
    for row in known.values():
        if name in (row.npu, row.accelerator):
            yield Support(
                name,
                "environment variable",
                Status.SUPPORTED,
                note=f"takes the place of {row.name}",
                source=f"{row.source} ({read})",
            )


_PACKAGE = {
    "native": Status.SUPPORTED,
    "agnostic-works": Status.SUPPORTED,
    "adapter": Status.ADAPTER,
    "partial": Status.LIMITED,
    "replace": Status.REPLACED,
    "none": Status.UNSUPPORTED,
    "unverified": Status.UNVERIFIED,
}


def package(name: str, target: Target) -> Iterator[Support]:
    """A package, by what is imported or what is installed."""
    wanted = name.lower().replace("_", "-")
    for row in packages.packages():
        written = [*row.imports, *row.pypi]
        if name not in written and wanted not in [w.lower().replace("_", "-") for w in written]:
            continue
        yield Support(
            name,
            "package" if row.name == name else f"package {row.name}",
            _PACKAGE[row.status],
            row.adapter,
            row.since,
            () if row.verified else ("not verified: " + (row.evidence or "no evidence was read"),),
            note=row.action,
            source=f"{row.evidence or 'none'} ({packages.read()})",
        )


LOOKUPS: tuple[Lookup, ...] = (
    api,
    called,
    cuda_name,
    device_name,
    operator,
    environment,
    package,
    onnx_ops.query,
)
