"""The tables as typed rows. Each is read once, when it is first asked for."""

from __future__ import annotations

import functools
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

HERE = Path(__file__).parent

#: Versions of torch_npu whose list of APIs was read, oldest first (the first line of `api.tsv`).
VERSIONS = ("2.7.1", "2.11.0", "2.12.0", "2.13.0")
#: Versions of torch_npu whose binary was read, oldest first (the first line of `operators.tsv`).
BINARIES = ("2.7.1", "2.8.0", "2.9.0", "2.10.0", "2.13.0", "2.14.0")
#: The version of torch_npu that is meant where none is asked for; the names are those of its wheel.
BINARY = "2.13.0"
#: The product lines that Ascend's lists name.
LINES = ("A2", "A3", "950DT")
#: How an operator may run, in the order of the statistics.
KINDS = {
    "npu": "kernel of torch_npu",
    "composite": "composed of other operators (implicit)",
    "composite_explicit": "composed of other operators (explicit)",
    "cpu_fallback": "falls back to the CPU",
    "npu_ops": "operator of torch_npu itself",
}

#: Operators that only look at the same memory in another way, or make an empty or constant tensor.
SHAPES = frozenset(
    "_unsafe_view alias as_strided detach empty_like expand narrow ones_like permute scalar_tensor "
    "select slice split split_with_sizes squeeze squeeze_ t transpose unbind unsqueeze view "
    "zeros_like".split()
)
#: Names of the same object in torch 2.13, where Ascend's lists have both.
SAME = {"torch.func.vmap": "torch.vmap"}
#: An operator for gradients that are zero: nothing is computed.
NOT_COMPUTED = frozenset({"aten::_efficientzerotensor"})


@dataclass(frozen=True)
class Api:
    """What Ascend's list of one version says of one API.

    Args:
        name: the qualified name.
        version: the version of the list.
        page: the page of the list.
        lines: product lines that support it; those of `LINES` that are missing do not.
        npu_name: what it is called on the device, where that is another name.
        dtypes: by parameter ("*" for the API itself), the only dtypes it takes.
        missing_dtypes: dtypes that the list excludes.
        fallback: "yes", "may" or "cpu_only" where the list says that it runs on the CPU.
        inference_only: whether it cannot be used in training.
        other: whether the list has restrictions that only its text tells.
    """

    name: str
    version: str
    page: str
    lines: tuple[str, ...]
    npu_name: str = ""
    dtypes: tuple[tuple[str, tuple[str, ...]], ...] = ()
    missing_dtypes: tuple[str, ...] = ()
    fallback: str = ""
    inference_only: bool = False
    other: bool = False

    @property
    def limited(self) -> bool:
        """Whether the list restricts it in any way."""
        return bool(
            self.dtypes or self.missing_dtypes or self.fallback or self.inference_only or self.other
        )

    @property
    def source(self) -> str:
        """The page that says so, with its commit and date."""
        said = sources()["api.tsv"]
        folder = f"pytorch_{self.version.replace('.', '-')}"
        return f"{said['source']}, {folder}/{self.page}.md ({said['date']})"


@dataclass(frozen=True)
class Operator:
    """How the binary of torch_npu runs one operator.

    Args:
        name: with namespace and overload, "aten::isin.Tensor_Tensor".
        kind: a key of `KINDS`.
        keys: letters of other dispatch keys that have a kernel; the table's first line explains.
        autocast: what autocast does with its arguments, where that was read.
    """

    name: str
    kind: str
    keys: str = ""
    autocast: str = ""


@dataclass(frozen=True)
class Name:
    """A name that an installed torch_npu has.

    Args:
        name: qualified, or an operator such as "npu::npu_fusion_attention".
        kind: "callable", "class", "module", "op" for an operator, "added" for a name in torch.
        signature: the signature or schema, where one is known.
    """

    name: str
    kind: str
    signature: str = ""


@functools.cache
def sources() -> dict[str, dict[str, str]]:
    """For each table its source, date and the digest of its input."""
    found: dict[str, dict[str, str]] = json.loads(_text("sources.json"))
    return found


def _text(name: str) -> str:
    return (HERE / name).read_text(encoding="utf-8")


def _rows(name: str) -> Iterator[tuple[str, list[str]]]:
    """Each row with the section it stands in."""
    section = ""
    for line in _text(name).splitlines():
        if line.startswith("= "):
            section = line[2:]
        elif not line.startswith("#"):
            yield section, line.split("\t")


# API level --------------------------------------------------------------------------------------


@functools.cache
def _api_rows() -> dict[str, list[tuple[str, str, str, str, str]]]:
    """By name: page, versions, lines, name on the device, limits, as they are written."""
    found: dict[str, list[tuple[str, str, str, str, str]]] = {}
    for page, columns in _rows("api.tsv"):
        name, versions, lines, npu_name, limits = (*columns, "", "")[:5]
        found.setdefault(name, []).append((page, versions, lines, npu_name, limits))
    return found


def api(name: str, version: str) -> Api | None:
    """What the list of `version` (one of `VERSIONS`) says of an API; None if nothing."""
    position = str(VERSIONS.index(version))
    for page, versions, lines, npu_name, limits in _api_rows().get(name, ()):
        if not versions or position in versions:
            return _api(name, version, page, lines, npu_name, limits)
    return None


def apis(version: str) -> dict[str, Api]:
    """The whole list of one version."""
    rows = ((name, api(name, version)) for name in _api_rows())
    return {name: row for name, row in rows if row is not None}


def api_names() -> tuple[str, ...]:
    """Every API of every list."""
    return tuple(_api_rows())


def _api(name: str, version: str, page: str, lines: str, npu_name: str, limits: str) -> Api:
    dtypes: list[tuple[str, tuple[str, ...]]] = []
    missing: tuple[str, ...] = ()
    fallback = ""
    for part in limits.split():
        if part.startswith("!"):
            missing = tuple(part[1:].split(","))
        elif part.startswith("cpu="):
            fallback = part[4:]
        elif ":" in part:
            parameter, _, names = part.partition(":")
            dtypes.append((parameter, tuple(names.split(","))))
    return Api(
        name,
        version,
        page,
        _lines(lines),
        npu_name,
        tuple(dtypes),
        missing,
        fallback,
        "inference" in limits.split(),
        "other" in limits.split(),
    )


def _lines(text: str) -> tuple[str, ...]:
    if text == "*":
        return LINES
    return () if text == "-" else tuple(text.split(","))


def unsupported(line: str = "") -> frozenset[str]:
    """APIs that some list says do not run on `line`, or on no product line at all."""
    return _unsupported()[line]


@functools.cache
def _unsupported() -> dict[str, frozenset[str]]:
    """By product line, and by "" for all of them: the APIs that do not run there."""
    found: dict[str, set[str]] = {line: set() for line in ("", *LINES)}
    for name, rows in _api_rows().items():
        for row in rows:
            if row[2] == "*":
                continue
            lines = _lines(row[2])
            for line in LINES:
                if line not in lines:
                    found[line].add(name)
            if not lines:
                found[""].add(name)
    return {line: frozenset(names) for line, names in found.items()}


# Operator level ---------------------------------------------------------------------------------


def operators(version: str = BINARY) -> dict[str, Operator]:
    """Every operator of torch and of torch_npu, by its full name, for one of `BINARIES`."""
    return _all_operators()[version]


@functools.cache
def _all_operators() -> dict[str, dict[str, Operator]]:
    """The operators of every version; one pass, since rules ask for all of them."""
    found: dict[str, dict[str, Operator]] = {version: {} for version in BINARIES}
    by_position = {str(i): (version, found[version]) for i, version in enumerate(BINARIES)}
    every = "".join(by_position)
    read = _with_autocast()
    for kind, columns in _rows("operators.tsv"):
        name, versions, keys, autocast = (*columns, "", "", "")[:4]
        full = name if "::" in name else f"aten::{name}"
        plain = Operator(full, kind, keys)
        told = Operator(full, kind, keys, autocast) if autocast else plain
        for position in versions or every:
            version, operators = by_position[position]
            operators[full] = told if version in read else plain
    return found


def _with_autocast() -> frozenset[str]:
    """The versions for which it was read what autocast does."""
    line = next(r for r in _text("operators.tsv").splitlines() if r.startswith("# autocast"))
    return frozenset(line.split()[2:])


def binaries(version: str) -> tuple[str, ...]:
    """The versions whose binaries speak for a version of torch_npu.

    Those are that version itself where it was read, else its neighbours on both sides.
    """
    wanted = minor(version)
    same = [b for b in BINARIES if minor(b) == wanted]
    if same:
        return tuple(same)
    older = [b for b in BINARIES if minor(b) < wanted]
    newer = [b for b in BINARIES if minor(b) > wanted]
    return (*older[-1:], *newer[:1])


def minor(version: str) -> tuple[int, int]:
    """(major, minor) of a version such as "2.13.0"."""
    parts = version.split(".")
    return int(parts[0]), int(parts[1])


@functools.cache
def overloads(version: str = BINARY) -> Mapping[str, tuple[Operator, ...]]:
    """Operators by their name without the overload."""
    found: dict[str, list[Operator]] = {}
    for name, operator in operators(version).items():
        found.setdefault(name.partition(".")[0], []).append(operator)
    return {name: tuple(rows) for name, rows in found.items()}


@functools.cache
def conditions() -> dict[str, tuple[str, ...]]:
    """When an operator with a kernel runs on the CPU all the same, by its full name."""
    found: dict[str, tuple[str, ...]] = {}
    for _, (name, when) in _rows("fallbacks.tsv"):
        found[f"aten::{name}"] = (*found.get(f"aten::{name}", ()), when)
    return found


@functools.cache
def _traced() -> dict[str, tuple[tuple[str, ...], tuple[str, ...], tuple[str, ...]]]:
    """By API: the operators of every call, of the backward pass, and of some calls."""
    found = {}
    for _, columns in _rows("calls.tsv"):
        name, *rest = (*columns, "", "", "")[:4]
        every, backward, some = (tuple(f"aten::{o}" for o in c.split()) for c in rest)
        found[name] = (every, backward, some)
    return found


@functools.cache
def calls() -> dict[str, tuple[tuple[str, ...], tuple[str, ...]]]:
    """By API: the operators that every call of it runs, and those of its backward pass."""
    return {name: (every, backward) for name, (every, backward, _) in _traced().items()}


def on_cpu(name: str, version: str = BINARY) -> tuple[str, ...]:
    """The operators of an API that the binary hands to the CPU."""
    forward, _ = calls().get(name, ((), ()))
    found = _fallbacks(forward, version)
    return () if found and _has_kernel(name, version) else found


def twin(name: str, version: str) -> str:
    """Another name for the same work that the same list has as supported; empty if none.

    A function of torch and the method of that name call the same operator; `SAME` are the same
    object in torch 2.13.
    """
    other = SAME.get(name, "")
    if not other and name.count(".") == 1:
        other = f"torch.Tensor.{name.rpartition('.')[2]}"
    elif name.startswith("torch.Tensor."):
        other = f"torch.{name.rpartition('.')[2]}"
    row = api(other, version) if other else None
    return other if row is not None and row.lines else ""


def backward_on_cpu(name: str, version: str = BINARY) -> tuple[str, ...]:
    """The operators of an API's backward pass that the binary hands to the CPU."""
    _, backward = calls().get(name, ((), ()))
    return _fallbacks(backward, version)


#: What becomes of an operator that a binary runs on the device, by itself or by others.
ON_DEVICE = frozenset({"npu", "composite", "composite_explicit"})


def runs(name: str, version: str = BINARY) -> bool:
    """Whether the binary has, for every operator that an API calls, a kernel or a composite.

    Where calls have no operator in common (`torch.matmul`), all that some call runs must have one.
    """
    every, _, some = _traced().get(name, ((), (), ()))
    return bool(every or some) and all(
        effective_kind(o, version) in ON_DEVICE or o.partition(".")[0][6:] in SHAPES
        for o in every or some
    )


def computed(name: str) -> tuple[str, ...]:
    """The operators of an API that compute something."""
    every, _, some = _traced().get(name, ((), (), ()))
    return tuple(o for o in every or some if o.partition(".")[0][6:] not in SHAPES)


def _has_kernel(name: str, version: str) -> bool:
    """Whether the operator of that very name has a kernel: torch_npu does not take it apart."""
    last = name.rpartition(".")[2]
    return any(o.kind == "npu" for o in overloads(version).get(f"aten::{last}", ()))


def _fallbacks(names: tuple[str, ...], version: str) -> tuple[str, ...]:
    return tuple(n for n in names if n in falling_back(version))


@functools.cache
def falling_back(version: str) -> frozenset[str]:
    """The operators that a binary hands to the CPU and that compute something."""
    mine = {o for _, names in _called_anywhere() for o in names}
    return frozenset(
        n for n in mine if effective_kind(n, version) == "cpu_fallback" and n not in NOT_COMPUTED
    )


@functools.cache
def _called_anywhere() -> tuple[tuple[str, tuple[str, ...]], ...]:
    """By API, every operator that it calls, forwards or backwards."""
    return tuple((name, (*ahead, *back)) for name, (ahead, back) in calls().items())


def ever_on_cpu() -> tuple[str, ...]:
    """The APIs of which some binary hands an operator to the CPU."""
    ever = frozenset(n for version in BINARIES for n in falling_back(version))
    return tuple(
        name
        for name, called in _called_anywhere()
        if not ever.isdisjoint(called)
        and any(on_cpu(name, v) or backward_on_cpu(name, v) for v in BINARIES)
    )


def limited_dtypes() -> frozenset[str]:
    """The APIs of which some list says which values of `dtype=` they take."""
    return frozenset(
        name
        for name, rows in _api_rows().items()
        if any(part.startswith("dtype:") for row in rows for part in row[4].split())
    )


def effective_kind(name: str, version: str = BINARY) -> str:
    """How an operator runs in the end; empty if the table does not have it.

    A structured operator without a kernel of its own does its work in its `out` overload
    (torch/csrc: CompositeExplicitAutogradNonFunctional kernels).
    """
    known = operators(version).get(name)
    if known is None:
        return ""
    if known.kind == "composite_explicit":
        base, _, overload = name.partition(".")
        out = f"{base.rstrip('_')}.{overload}_out" if overload else f"{base.rstrip('_')}.out"
        settled = operators(version).get(out)
        if settled is not None and settled.kind in ("npu", "cpu_fallback"):
            return settled.kind
    return known.kind


@functools.cache
def advice() -> dict[str, str]:
    """What to do about APIs that do not run: porter's own words, by name."""
    found: dict[str, str] = tomllib.loads(_text("advice.toml"))
    return found


# Names ------------------------------------------------------------------------------------------


@functools.cache
def names() -> dict[str, Name]:
    """Every name of an installed torch_npu, and what it adds to torch."""
    found: dict[str, Name] = {}
    for _, columns in _rows("names.tsv"):
        name, kind, signature = (*columns, "", "")[:3]
        found.setdefault(name, Name(name, kind, signature))
    return found
