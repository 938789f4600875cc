"""Regenerate what porter knows of the support for Ascend NPUs: tables, packages, statistics.

Nothing in these tables is written by hand. Each comes from one JSON or text input that is read
from its upstream source first; `rewrites/support/sources.json` keeps the source, its date and the
digest of the input, and an input that is not given keeps its table as it is.

From the documentation, for the API level::

    git clone https://gitcode.com/Ascend/pytorch    # or its mirror on github.com
    python docs/tools/build_support.py read-docs pytorch --output native_api.json

From a torch_npu wheel, for the operator level and the names. The wheel needs CANN libraries only to
resolve symbols: build an empty `libascendcl.so` that defines every symbol that `nm -D` shows as
undefined in torch_npu and defined in no library of torch, and empty `libhccl.so`,
`libacl_op_compiler.so`, `libge_runner.so`, `libgraph.so` and `libacl_tdt_channel.so`. Then, in a
CPU build of the same torch, load `libtorch_npu.so` with `ctypes.CDLL(..., RTLD_LAZY|RTLD_GLOBAL)`
and read, for every operator, the line "PrivateUse1:" of
`torch._C._dispatch_dump_table(operator)`: it ends in [kernel] for the wheel's own kernels ("npu"),
names a math kernel ("composite"), a default backend kernel ("composite_explicit") or the fallback
("cpu_fallback"). That makes operators.json. `dir()` of the modules of `import torch_npu` and the
schemas of the operators in the namespace npu make names.txt; the messages of the binary
that say "fallback to run on the CPU" (`strings libtorch_npu.so`) make fallbacks.txt.

From torch itself, which operators an API calls (needs torch, numpy and expecttest)::

    python docs/tools/build_support.py trace --output calls.json

Then, with any of the inputs::

    python docs/tools/build_support.py tables --native-api native_api.json \\
        --operators operators.json --names names.txt --fallbacks fallbacks.txt \\
        --calls calls.json --packages ecosystem.json
    python docs/tools/build_support.py statistics
"""

# The documentation that is read here is written in Chinese.
# ruff: noqa: RUF001

from __future__ import annotations

import argparse
import collections
import hashlib
import html
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SUPPORT = REPOSITORY / "rewrites" / "support"
PACKAGES = REPOSITORY / "rewrites" / "packages.toml"
STATISTICS = REPOSITORY / "docs" / "support.md"

NATIVE_API = "docs/zh/api/native_api"
#: The product lines, as the documentation calls them.
LINES = {
    "Atlas A2": "A2",
    "Atlas A3": "A3",
    "Ascend 950DT": "950DT",
    "Atlas": "Atlas",
}
CLASSES = ("npu", "composite", "composite_explicit", "cpu_fallback")
#: Dispatch keys besides the plain one under which torch_npu registers kernels, with a letter each.
KEYS = {
    "AutogradPrivateUse1": "A",
    "AutocastPrivateUse1": "C",
    "SparsePrivateUse1": "S",
    "SparseCsrPrivateUse1": "R",
    "QuantizedPrivateUse1": "Q",
    "NestedTensorPrivateUse1": "N",
    "BackendSelect": "B",
}
#: What wraps every operator of torch_npu: it says nothing.
GENERIC = "(*args: _P.args, **kwargs: _P.kwargs) -> ~_T"
#: Operators that torch calls on a CPU only.
CPU_ONLY = re.compile(r"mkldnn|_for_cpu|xnnpack|_cpu$")


# Reading the documentation ----------------------------------------------------------------------


def read_docs(checkout: Path) -> dict[str, Any]:
    """The support lists of a checkout of Ascend/pytorch.

    Args:
        checkout: the folder that holds `docs/`.

    Raises:
        SystemExit: there are no lists.
    """
    folders = sorted((checkout / NATIVE_API).glob("pytorch_*"))
    if not folders:
        raise SystemExit(f"no support lists: {checkout / NATIVE_API}/pytorch_* does not exist")
    versions = {}
    for folder in folders:
        version = folder.name.removeprefix("pytorch_").replace("-", ".")
        entries: dict[str, dict[str, Any]] = {}
        for page in sorted(folder.glob("*.md")):
            entries.update(read_page(page.read_text(encoding="utf-8"), page.stem))
        versions[version] = dict(sorted(entries.items()))
    commit, date = _git(checkout)
    source = {
        "repo": "github.com/Ascend/pytorch",
        "path": NATIVE_API,
        "commit": commit,
        "date": date,
    }
    return {"source": source, "versions": versions}


def _git(checkout: Path) -> tuple[str, str]:
    """The commit of the checkout and its date; empty outside a repository."""
    shown = subprocess.run(
        ["git", "-C", str(checkout), "log", "-1", "--format=%H %cs"],
        capture_output=True,
        text=True,
    )
    commit, _, date = shown.stdout.strip().partition(" ")
    return commit, date


_ENTRY = re.compile(r"^\*\*原生文档\*\*：\s*\[([^\]]+)\]", re.M)
_ROW = re.compile(r"^\|\s*(?:<term>)?([^<|]+?)(?:</term>)?\s*\|\s*([✔✘])", re.M)
_LIMITS = re.compile(r"\*\*限制与说明\*\*[:：]?(.*)", re.S)
_DEVICE_NAME = re.compile(r"^\*\*NPU 形式名称\*\*：\s*([\w.]+)", re.M)
_ONLY = re.compile(r"((?:`\w+`[、，和及/ ]*)+)仅支持([a-z0-9，、, 和]+)")
_DTYPES = re.compile(
    r"bf16|fp16|fp32|fp64|double|uint8|uint16|uint32|uint64|int8|int16|int32|int64|bool"
    r"|complex32|complex64|complex128"
)
_NOT = re.compile(r"(?<!下)不支持([a-z0-9，、, 和]+)")


def read_page(text: str, module: str) -> dict[str, dict[str, Any]]:
    """The entries of one page of the support lists, by API name."""
    parts = _ENTRY.split(html.unescape(text))
    entries: dict[str, dict[str, Any]] = {}
    for name, body in zip(parts[1::2], parts[2::2], strict=True):
        # The heading of the next entry follows; what is above it belongs to this one.
        body = re.split(r"^(?:#{2,4} |> <font)", body, maxsplit=1, flags=re.M)[0]
        entry = _entry(body, module)
        if entry is not None:
            name = name.strip().replace("\\_", "_")
            entries.setdefault(f"torch.{name}" if name.startswith("Tensor.") else name, entry)
    return entries


def _entry(body: str, module: str) -> dict[str, Any] | None:
    found = {_line(row): mark == "✔" for row, mark in _ROW.findall(body)}
    hardware = {line: yes for line, yes in sorted(found.items()) if line}
    if not hardware:
        return None
    entry: dict[str, Any] = {"hardware": hardware, "module": module}
    device_name = _DEVICE_NAME.search(body)
    if device_name:
        entry["npu_name"] = device_name[1]
    limits = _LIMITS.search(body)
    if limits and limits[1].strip(" \n</div>"):
        entry |= {"has_limits": True, **_limits(limits[1])}
    return entry


def _line(row: str) -> str:
    return next((short for name, short in LINES.items() if row.startswith(name)), "")


def _limits(text: str) -> dict[str, Any]:
    """What of the restrictions can be told by machine."""
    found: dict[str, Any] = {}
    text = re.sub(r"```.*?```", "", text, flags=re.S)
    by_parameter: dict[str, list[str]] = {}
    for parameters, names in _ONLY.findall(text):
        dtypes = _dtypes(names)
        for parameter in re.findall(r"\w+", parameters) if dtypes else ():
            by_parameter.setdefault(parameter, dtypes)
    if by_parameter:
        found["dtypes_by_param"] = by_parameter
    missing = [d for m in _NOT.finditer(text) for d in _dtypes(m[1] or "")]
    if missing:
        found["unsupported_dtypes"] = list(dict.fromkeys(missing))
    if "仅CPU支持" in text:
        found["cpu_fallback"] = "cpu_only"
    elif "可能回退至CPU" in text:
        found["cpu_fallback"] = "may"
    elif "回退至CPU" in text:
        found["cpu_fallback"] = "yes"
    if "仅支持推理" in text:
        found["inference_only"] = True
    return found


def _dtypes(text: str) -> list[str]:
    return ["fp64" if d == "double" else d for d in _DTYPES.findall(text)]


# Tracing torch ----------------------------------------------------------------------------------


def trace(samples: int = 4) -> dict[str, Any]:
    """Which operators each API of torch calls, forwards and backwards, on its sample inputs.

    Only what it calls with every one of the first inputs that torch's own tests use is kept.
    """
    import torch
    from torch.testing._internal.common_methods_invocations import op_db
    from torch.testing._internal.common_modules import module_db

    warnings.simplefilter("ignore")
    found: dict[str, list[tuple[set[str], set[str]]]] = collections.defaultdict(list)
    for info in op_db:
        dtype = next(
            (d for d in (torch.float32, torch.int64, torch.bool) if d in info.dtypes), None
        )
        names = list(_public(info, torch))
        if dtype is None or not names:
            continue
        inputs = info.sample_inputs("cpu", dtype, requires_grad=dtype.is_floating_point)
        for sample in _first(inputs, samples):
            arguments, keywords = (sample.input, *sample.args), sample.kwargs
            seen = _calls(lambda: info.op(*arguments, **keywords))  # noqa: B023
            for name in names if seen else ():
                found[name].append(seen)  # type: ignore[arg-type]
    for info in module_db:
        name = _module_name(info.module_cls)
        inputs = info.module_inputs_func(
            info, device="cpu", dtype=torch.float32, requires_grad=True, training=True
        )
        for sample in _first(inputs, samples):
            build, forward = sample.constructor_input, sample.forward_input
            if forward is None or not name:
                continue
            module = info.module_cls(*build.args, **build.kwargs)
            seen = _calls(lambda: module(*forward.args, **forward.kwargs))  # noqa: B023
            if seen:
                found[name].append(seen)
    calls = {}
    for name, runs in sorted(found.items()):
        forward_ops = set.intersection(*(r[0] for r in runs))
        backward_ops = set.intersection(*(r[1] for r in runs)) - forward_ops
        calls[name] = {"forward": sorted(forward_ops), "backward": sorted(backward_ops)}
    return {"torch": torch.__version__, "calls": calls}


def _first(samples: Iterable[Any], count: int) -> Iterator[Any]:
    try:
        for number, sample in enumerate(samples):
            if number >= count:
                return
            yield sample
    except Exception:
        return


def _public(info: Any, torch: Any) -> Iterator[str]:
    """The documented names behind an entry of torch's test database."""
    for name in (info.name, *(a.name.removeprefix("torch.") for a in info.aliases)):
        found: Any = torch
        for part in name.split("."):
            found = getattr(found, part, None)
        if found is not None and not name.startswith("_"):
            yield f"torch.{name}"
    if info.method_variant is not None and hasattr(torch.Tensor, info.name):
        yield f"torch.Tensor.{info.name}"


def _module_name(module: Any) -> str:
    path = module.__module__
    return f"torch.nn.{module.__name__}" if path.startswith("torch.nn.modules.") else ""


def _calls(function: Any) -> tuple[set[str], set[str]] | None:
    """The operators of one call and of its backward pass; None if it fails."""
    import torch
    from torch.utils._python_dispatch import TorchDispatchMode

    class Recorder(TorchDispatchMode):  # type: ignore[misc]
        def __init__(self) -> None:
            super().__init__()
            self.names: set[str] = set()

        def __torch_dispatch__(
            self, function: Any, types: Any, args: Any = (), kwargs: Any = None
        ) -> Any:
            schema = function._schema
            overload = f".{schema.overload_name}" if schema.overload_name else ""
            self.names.add(schema.name + overload)
            return function(*args, **(kwargs or {}))

    forward, backward = Recorder(), Recorder()
    try:
        with forward:
            result = function()
    except Exception:
        return None
    outputs = [
        t
        for t in (result if isinstance(result, (tuple, list)) else [result])
        if isinstance(t, torch.Tensor) and t.requires_grad
    ]
    if outputs:
        try:
            gradients = [torch.ones_like(t) for t in outputs]
            with backward:
                torch.autograd.backward(outputs, gradients)
        except Exception:
            backward.names.clear()
    return forward.names, backward.names


# Writing the tables -----------------------------------------------------------------------------


def api_table(facts: Mapping[str, Any]) -> str:
    """The text of `api.tsv`."""
    versions = sorted(facts["versions"], key=_number)
    # By page and name: each record with the versions that have it.
    rows: dict[str, dict[str, dict[str, str]]] = {}
    for position, version in enumerate(versions):
        for name, entry in facts["versions"][version].items():
            # Some pages name members of classes only; the page says whose they are.
            shown = _qualified(name, entry["module"])
            record = (_hardware(entry["hardware"]), entry.get("npu_name", ""), _limit_text(entry))
            found = rows.setdefault(entry["module"], {}).setdefault(shown, {})
            text = "\t".join(record)
            found[text] = found.get(text, "") + str(position)
    lines = [
        f"# versions {' '.join(versions)}",
        "# A section is a page of the documentation. Columns: name, versions (numbers in the line"
        " above; empty for",
        "# all), product lines that support it (* for A2 A3 950DT, which are always listed; - for"
        " none), name on",
        "# the device, limits.",
    ]
    everything = "".join(map(str, range(len(versions))))
    for module in sorted(rows):
        lines.append(f"= {module}")
        for name in sorted(rows[module]):
            for text, where in rows[module][name].items():
                shown_where = "" if where == everything else where
                lines.append(f"{name}\t{shown_where}\t{text}".rstrip("\t"))
    return "\n".join(lines) + "\n"


#: How documentation pages write members of classes without their module.
_OWNERS = {
    "FunctionCtx": "torch.autograd",
    "Node": "torch.autograd.graph",
    "Optimizer": "torch.optim",
    "profile": "torch.autograd.profiler",
}


def _qualified(name: str, module: str) -> str:
    if name.startswith("torch"):
        return name
    owner = _OWNERS.get(name.partition(".")[0])
    return f"{owner}.{name}" if owner else f"{module.replace('-', '.')}.{name}"


def _number(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _hardware(lines: Mapping[str, bool]) -> str:
    supported = [line for line in LINES.values() if lines.get(line)]
    if supported == ["A2", "A3", "950DT"]:
        return "*"
    return ",".join(supported) or "-"


def _limit_text(entry: Mapping[str, Any]) -> str:
    parts = []
    by_parameter = entry.get("dtypes_by_param", {})
    parts += [f"{name}:{','.join(dtypes)}" for name, dtypes in sorted(by_parameter.items())]
    if entry.get("dtypes") and not by_parameter:
        parts.append(f"*:{','.join(entry['dtypes'])}")
    if entry.get("unsupported_dtypes"):
        parts.append(f"!{','.join(entry['unsupported_dtypes'])}")
    if entry.get("cpu_fallback"):
        parts.append(f"cpu={entry['cpu_fallback']}")
    if entry.get("inference_only"):
        parts.append("inference")
    if entry.get("has_limits") and not parts:
        parts.append("other")
    return " ".join(parts)


def operator_table(facts: Mapping[str, Any]) -> str:
    """The text of `operators.tsv`."""
    letters: dict[str, str] = {}
    for key, letter in KEYS.items():
        for name in facts.get(key, ()):
            letters[name] = letters.get(name, "") + letter
    policies = facts.get("autocast_policy", {})
    lines = [
        "# keys " + " ".join(f"{letter}={key}" for key, letter in KEYS.items()),
        "# A section is how an operator runs on the device. Columns: name (aten:: left out), other"
        " keys with a kernel,",
        "# what autocast does with its arguments.",
    ]
    for group in (*CLASSES, "npu_ops"):
        lines.append(f"= {group}")
        for name in sorted(facts[group]):
            columns = (name.removeprefix("aten::"), letters.get(name, ""), policies.get(name, ""))
            lines.append("\t".join(columns).rstrip("\t"))
    return "\n".join(lines) + "\n"


def name_table(text: str) -> str:
    """The text of `names.tsv`, from the list of names of an installed torch_npu."""
    lines = [
        "# Columns: name, kind, signature or schema. Modules of torch_npu first, then what it adds"
        " to torch, then",
        "# its operators.",
    ]
    for line in text.splitlines():
        if not line or line.startswith("#"):
            continue
        columns = line.split("\t")
        if columns[0] == "op":
            name, bracket, rest = columns[1].partition("(")
            lines.append("\t".join((name, "op", bracket + rest)).rstrip("\t"))
        elif len(columns) >= 4:
            signature = "" if columns[3] == GENERIC else columns[3]
            signature = re.sub(r"(<module '[\w.]+') from '[^']*'>", r"\1>", signature)
            lines.append("\t".join((columns[0], columns[1], signature)).rstrip("\t"))
        else:
            lines.append(f"{columns[0]}\tadded")
    return "\n".join(lines) + "\n"


def call_table(facts: Mapping[str, Any]) -> str:
    """The text of `calls.tsv`."""
    lines = [
        f"# torch {facts['torch'].partition('+')[0]}",
        "# Columns: API, operators (aten:: left out) that it calls with every sample input of"
        " torch's own tests,",
        "# those of its backward pass.",
    ]
    for name, entry in sorted(facts["calls"].items()):
        columns = [name]
        for direction in ("forward", "backward"):
            kept = [
                o.removeprefix("aten::")
                for o in entry[direction]
                if not CPU_ONLY.search(o) and o != "aten::detach"
            ]
            columns.append(" ".join(kept))
        lines.append("\t".join(columns).rstrip("\t"))
    return "\n".join(lines) + "\n"


_MESSAGE = re.compile(
    r"The operators? (?P<names>aten::\S+(?:(?:,| and) aten::\S+)*) (?:is|are|need)(?P<rest>.*)"
)


def fallback_table(text: str) -> str:
    """The text of `fallbacks.tsv`, from messages of the binary."""
    lines = ["# Columns: operator, when torch_npu runs it on the CPU, in the words of its message."]
    for line in text.splitlines():
        found = _MESSAGE.search(line)
        if found is None:
            continue
        rest = found["rest"]
        condition = re.search(r"following conditions to run on the NPU backend: (.*?)\. Now", rest)
        when = f"unless {condition[1]}" if condition else "not supported by this CANN version"
        if "CANN" not in rest and condition is None:
            when = "in cases that its message does not name"
        for name in re.findall(r"aten::[\w.]+", found["names"]):
            lines.append(f"{name.removeprefix('aten::')}\t{when}")
    return "\n".join([lines[0], *sorted(set(lines[1:]))]) + "\n"


def package_table(facts: Mapping[str, Any]) -> str:
    """The text of `packages.toml`."""
    lines = [
        f"# Read {facts['read']}. Generated by docs/tools/build_support.py; do not edit.",
        "#",
        *(f"# {name:<15} {meaning}" for name, meaning in facts["status_meaning"].items()),
        "#",
        f"# {facts['note']}",
        "",
        f"read = {_toml(facts['read'])}",
    ]
    for row in facts["packages"]:
        adapter = row.get("adapter") or {}
        values = {
            "name": row["name"],
            "imports": row["imports"],
            "pypi": row["pypi"],
            "status": row["status"],
            "likely": row.get("likely"),
            "since": row["since"],
            "adapter_imports": adapter.get("imports"),
            "adapter_pypi": adapter.get("pypi"),
            "adapter_repo": adapter.get("repo"),
            "adapter_api": adapter.get("api"),
            "action": row["action"],
            "evidence": row["evidence"],
            "verified": row["verified"],
            "cuda_bound": row["cuda_bound"],
            "seen": [
                f"{name} {seen['version']} ({seen['month']})"
                for name, seen in row.get("pypi_versions", {}).items()
            ],
        }
        lines += ["", "[[package]]"]
        lines += [
            f"{key} = {_toml(value)}"
            for key, value in values.items()
            if value not in (None, "", [])
        ]
    return "\n".join(lines) + "\n"


def _toml(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False)


# Statistics -------------------------------------------------------------------------------------


def statistics() -> str:
    """The text of `docs/support.md`, from the tables as they are."""
    from porter.rewrites import packages
    from porter.rewrites.support import tables

    sources = tables.sources()
    apis = {version: list(tables.apis(version).values()) for version in tables.VERSIONS}
    lines = [
        "# What porter knows of Ascend NPUs",
        "",
        "Generated by `docs/tools/build_support.py statistics`; do not edit.",
        "",
        "An API that Ascend does not list is *unknown* to porter, never *unsupported*.",
        "",
        "## API level",
        "",
        _said(sources["api.tsv"]),
        "",
        "| torch_npu | APIs listed | on A2 | on A3 | on 950DT | on none | with limits "
        "| CPU fallback | inference only |",
        "|---|---|---|---|---|---|---|---|---|",
    ]
    for version, rows in apis.items():
        counts = [
            len(rows),
            *(sum(line in r.lines for r in rows) for line in ("A2", "A3", "950DT")),
            sum(not r.lines for r in rows),
            sum(r.limited for r in rows),
            sum(bool(r.fallback) for r in rows),
            sum(r.inference_only for r in rows),
        ]
        lines.append(f"| {version} | " + " | ".join(map(str, counts)) + " |")
    operators = collections.Counter(o.kind for o in tables.operators().values())
    calls = tables.calls()
    lines += [
        "",
        "## Operator level",
        "",
        _said(sources["operators.tsv"]),
        "",
        "| how the operator runs | overloads |",
        "|---|---|",
        *(f"| {tables.KINDS[kind]} | {operators[kind]} |" for kind in tables.KINDS),
        "",
        f"{len(calls)} APIs are joined to the operators that they call. "
        f"{_said(sources['calls.tsv'])} "
        f"{sum(bool(tables.on_cpu(n)) for n in calls)} of them run an operator on the CPU, "
        f"{sum(bool(tables.backward_on_cpu(n)) for n in calls)} do so in the backward pass.",
        "",
        "## Names of torch_npu",
        "",
        _said(sources["names.tsv"]),
        "",
        f"{len(tables.names())} names, "
        f"{sum(n.kind == 'op' for n in tables.names().values())} of them operators.",
        "",
        "## Packages",
        "",
        _said(sources["packages.toml"]),
        "",
        "| status | packages | verified |",
        "|---|---|---|",
    ]
    rows_by_status = collections.defaultdict(list)
    for row in packages.packages():
        rows_by_status[row.status].append(row)
    lines += [
        f"| {status} | {len(rows)} | {sum(r.verified for r in rows)} |"
        for status, rows in sorted(rows_by_status.items())
    ]
    return "\n".join(lines) + "\n"


def _said(source: Mapping[str, str]) -> str:
    return f"Source: {source['source']}, {source['date']}."


# Command line -----------------------------------------------------------------------------------


def build(inputs: Mapping[str, Path], support: Path, packages: Path) -> list[Path]:
    """Write the tables whose inputs are given.

    Args:
        inputs: by option name ("native_api"), the files to read.
        support: the folder of the tables.
        packages: where the table of packages goes.
    """
    listing = support / "sources.json"
    sources = json.loads(listing.read_text(encoding="utf-8")) if listing.exists() else {}
    written = []
    for option, path in inputs.items():
        data = path.read_bytes()
        text = data.decode("utf-8")
        table, source, date, output = _table(option, text)
        target = packages if output == packages.name else support / output
        target.write_text(table, encoding="utf-8", newline="\n")
        digest = hashlib.sha256(data).hexdigest()
        sources[output] = {"source": source, "date": date, "input_sha256": digest}
        written.append(target)
    listing.write_text(
        json.dumps(sources, indent=1, sort_keys=True) + "\n", encoding="utf-8", newline="\n"
    )
    return written


#: torch_npu 2.13.0 is the wheel whose binary and names were read.
WHEEL = "torch_npu 2.13.0 (git c798c653), its binary loaded into torch 2.13.0"
WHEEL_READ = "2026-11-24"


def _table(option: str, text: str) -> tuple[str, str, str, str]:
    """A table with its source, the date and the name of its file."""
    if option == "native_api":
        facts = json.loads(text)
        source = facts["source"]
        where = f"{source['repo']} {source['path']} at {source['commit'][:12]}"
        return api_table(facts), where, source["date"], "api.tsv"
    if option == "operators":
        return operator_table(json.loads(text)), WHEEL, WHEEL_READ, "operators.tsv"
    if option == "names":
        return name_table(text), WHEEL, WHEEL_READ, "names.tsv"
    if option == "fallbacks":
        return fallback_table(text), f"{WHEEL}: its messages", WHEEL_READ, "fallbacks.tsv"
    if option == "calls":
        facts = json.loads(text)
        where = f"torch {facts['torch']}, torch.testing._internal, traced on a CPU"
        return call_table(facts), where, WHEEL_READ, "calls.tsv"
    facts = json.loads(text)
    where = "the documentation and wheels named in each row"
    return package_table(facts), where, facts["read"], "packages.toml"


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    docs = commands.add_parser("read-docs", help="read the support lists of a docs checkout")
    docs.add_argument("checkout", type=Path)
    docs.add_argument("--output", type=Path, required=True)
    tracing = commands.add_parser("trace", help="see which operators each API calls")
    tracing.add_argument("--output", type=Path, required=True)
    tables = commands.add_parser("tables", help="write the tables")
    for option in ("native-api", "operators", "names", "fallbacks", "calls", "packages"):
        tables.add_argument(f"--{option}", type=Path)
    commands.add_parser("statistics", help="write docs/support.md")
    chosen = parser.parse_args(arguments)
    if chosen.command == "tables":
        given = {k: v for k, v in vars(chosen).items() if k != "command" and v is not None}
        for path in build(given, SUPPORT, PACKAGES):
            print(path.relative_to(REPOSITORY), path.stat().st_size, "bytes")
    elif chosen.command == "statistics":
        STATISTICS.write_text(statistics(), encoding="utf-8", newline="\n")
    else:
        facts = trace() if chosen.command == "trace" else read_docs(chosen.checkout)
        text = json.dumps(facts, ensure_ascii=False, indent=0, sort_keys=True)
        chosen.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
