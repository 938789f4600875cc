"""Regenerate what porter knows of the support for Ascend NPUs: tables, packages, statistics.

Nothing in these tables is written by hand. Each comes from one JSON or text input that is read
from its upstream source first; `rewrites/support/sources.json` keeps the source, its date and the
digest of the input, and an input that is not given keeps its table as it is.

From the documentation, for the API level::

    git clone https://gitcode.com/Ascend/pytorch    # or its mirror on github.com
    python docs/tools/build_support.py read-docs pytorch --output native_api.json

From wheels of torch_npu, for the operator level: `docs/tools/read_binary.py` loads the binary of one
version and writes operators-X.Y.Z.json, which also holds the messages that say "fallback to run on
the CPU". For the names: `dir()` of the modules of `import torch_npu`, loaded in the same way, and the
schemas of the operators in the namespace npu make names.txt.

From torch itself, which operators an API calls (needs torch, numpy and expecttest)::

    python docs/tools/build_support.py trace --output calls.json

Then, with any of the inputs::

    python docs/tools/build_support.py tables --native-api native_api.json \\
        --operators operators-2.7.1.json ... operators-2.14.0.json --names names.txt \\
        --calls calls.json --packages ecosystem.json
    python docs/tools/build_support.py statistics

`--into FOLDER` writes the tables there instead, to compare them with those in the repository.
"""

# The documentation that is read here is written in Chinese.
# ruff: noqa: RUF001

from __future__ import annotations

import argparse
import collections
import datetime
import hashlib
import html
import json
import re
import subprocess
import sys
import warnings
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

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
    for name, prepare in EXTRA_SAMPLES.items():
        torch.manual_seed(0)
        seen = _calls(prepare(torch))
        if seen is None:
            raise SystemExit(
                f"{name}: the sample of this script fails with torch {torch.__version__}"
            )
        found[name] = [seen]
    calls = {}
    for name, runs in sorted(found.items()):
        forward_ops = set.intersection(*(r[0] for r in runs))
        backward_ops = set.intersection(*(r[1] for r in runs)) - forward_ops
        calls[name] = {"forward": sorted(forward_ops), "backward": sorted(backward_ops)}
        if not forward_ops:
            calls[name]["some"] = sorted(set.union(*(r[0] for r in runs)))
    read = datetime.date.today().isoformat()
    return {"torch": torch.__version__, "read": read, "calls": calls}


def _leaf(torch: Any, *size: int) -> Any:
    return torch.randn(*size, requires_grad=True)


def _packed(torch: Any) -> Any:
    return torch.nn.utils.rnn.pack_padded_sequence(torch.randn(4, 2, 3), [4, 2])


def _loss_of_head(torch: Any) -> Any:
    head = torch.nn.AdaptiveLogSoftmaxWithLoss(8, 20, [4, 10])
    inputs, labels = _leaf(torch, 5, 8), torch.tensor([1, 5, 12, 0, 7])
    return lambda: head(inputs, labels).loss


def _decoder(torch: Any) -> Any:
    layer = torch.nn.TransformerDecoderLayer(8, 2, 16)
    decoder, target, memory = (
        torch.nn.TransformerDecoder(layer, 1),
        *(_leaf(torch, 3, 2, 8) for _ in range(2)),
    )
    return lambda: decoder(target, memory)


def _dense(torch: Any, method: str) -> Any:
    value = torch.eye(3)
    return lambda: getattr(value, method)()


def _given(function: Any, *arguments: Any, **keywords: Any) -> Any:
    return lambda: function(*arguments, **keywords)


#: Calls of APIs that Ascend lists as unsupported and for which torch's tests have no samples, each
#: with its inputs made beforehand, so that only its own operators are seen.
EXTRA_SAMPLES: dict[str, Any] = {
    "torch.nn.functional.gumbel_softmax": lambda t: _given(
        t.nn.functional.gumbel_softmax, _leaf(t, 3, 4), hard=True
    ),
    "torch.nn.AdaptiveLogSoftmaxWithLoss": _loss_of_head,
    "torch.nn.MaxUnpool3d": lambda t: _given(
        t.nn.MaxUnpool3d(2),
        *t.nn.MaxPool3d(2, return_indices=True)(t.randn(1, 1, 4, 4, 4)),
    ),
    "torch.nn.RReLU": lambda t: _given(t.nn.RReLU(), _leaf(t, 4)),
    "torch.nn.TransformerDecoder": _decoder,
    "torch.nn.utils.rnn.pack_padded_sequence": lambda t: _given(
        t.nn.utils.rnn.pack_padded_sequence, t.randn(4, 2, 3), t.tensor([4, 2])
    ),
    "torch.nn.utils.rnn.pack_sequence": lambda t: _given(
        t.nn.utils.rnn.pack_sequence, [t.randn(4, 3), t.randn(2, 3)]
    ),
    "torch.nn.utils.rnn.pad_packed_sequence": lambda t: _given(
        t.nn.utils.rnn.pad_packed_sequence, _packed(t)
    ),
    "torch.nn.utils.rnn.unpack_sequence": lambda t: _given(
        t.nn.utils.rnn.unpack_sequence, _packed(t)
    ),
    "torch.nn.utils.rnn.unpad_sequence": lambda t: _given(
        t.nn.utils.rnn.unpad_sequence, t.randn(4, 2, 3), t.tensor([4, 2])
    ),
    "torch.poisson": lambda t: _given(t.poisson, t.rand(3)),
    "torch.fft.fftfreq": lambda t: _given(t.fft.fftfreq, 8),
    "torch.fft.rfftfreq": lambda t: _given(t.fft.rfftfreq, 8),
    "torch.Tensor.to_sparse": lambda t: _dense(t, "to_sparse"),
    "torch.Tensor.to_sparse_csr": lambda t: _dense(t, "to_sparse_csr"),
    "torch.Tensor.to_sparse_csc": lambda t: _dense(t, "to_sparse_csc"),
    "torch.Tensor.to_mkldnn": lambda t: _dense(t, "to_mkldnn"),
    "torch.quantize_per_tensor": lambda t: _given(
        t.quantize_per_tensor, t.randn(3), 0.1, 0, t.qint8
    ),
    "torch.quantize_per_channel": lambda t: _given(
        t.quantize_per_channel, t.randn(2, 2), t.ones(2), t.zeros(2), 0, t.qint8
    ),
}


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


def operator_table(facts: Sequence[Mapping[str, Any]]) -> str:
    """The text of `operators.tsv`.

    Args:
        facts: for each version of torch_npu, what `read_binary.py` read from its binary.
    """
    read = sorted(facts, key=lambda f: _number(_plain(f["torch_npu"])))
    # By kind and name: the other columns with the versions that have them.
    rows: dict[str, dict[str, dict[tuple[str, str], str]]] = {}
    for position, one in enumerate(read):
        letters: dict[str, str] = {}
        for key, letter in KEYS.items():
            for name in one.get(key, ()):
                letters[name] = letters.get(name, "") + letter
        policies = one.get("autocast_policy", {})
        for kind in (*CLASSES, "npu_ops"):
            for name in one[kind]:
                found = rows.setdefault(kind, {}).setdefault(name.removeprefix("aten::"), {})
                columns = (letters.get(name, ""), policies.get(name, ""))
                found[columns] = found.get(columns, "") + str(position)
    with_policies = [_plain(f["torch_npu"]) for f in read if f.get("autocast_policy")]
    lines = [
        "# versions " + " ".join(_plain(f["torch_npu"]) for f in read),
        "# autocast " + " ".join(with_policies),
        "# keys " + " ".join(f"{letter}={key}" for key, letter in KEYS.items()),
        "# A section is how an operator runs on the device. Columns: name (aten:: left out),"
        " versions (numbers in",
        "# the first line; empty for all), other keys with a kernel, what autocast does with its"
        " arguments (read for",
        "# the versions in the second line alone).",
    ]
    everything = "".join(map(str, range(len(read))))
    for kind in (*CLASSES, "npu_ops"):
        lines.append(f"= {kind}")
        for name, found in sorted(rows.get(kind, {}).items()):
            for (keys, policy), where in _policies_joined(found).items():
                shown = "" if where == everything else where
                lines.append(f"{name}\t{shown}\t{keys}\t{policy}".rstrip("\t"))
    return "\n".join(lines) + "\n"


def _policies_joined(found: Mapping[tuple[str, str], str]) -> dict[tuple[str, str], str]:
    """Rows that differ in nothing but a policy that was not read, as one."""
    joined: dict[tuple[str, str], str] = {}
    for (keys, policy), where in sorted(found.items(), key=lambda item: item[0][1] == ""):
        known = next((k for k in joined if k[0] == keys and not policy), None)
        target = known or (keys, policy)
        joined[target] = "".join(sorted(joined.get(target, "") + where))
    return joined


def _plain(version: str) -> str:
    """A version without its post-release."""
    return version.partition(".post")[0]


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
        "# those of its backward pass, and where the second column is empty those that some inputs"
        " lead to.",
    ]
    for name, entry in sorted(facts["calls"].items()):
        columns = [name]
        for direction in ("forward", "backward", "some"):
            kept = [
                o.removeprefix("aten::")
                for o in entry.get(direction, ())
                if not CPU_ONLY.search(o) and o != "aten::detach"
            ]
            columns.append(" ".join(kept))
        lines.append("\t".join(columns).rstrip("\t"))
    return "\n".join(lines) + "\n"


_MESSAGE = re.compile(
    r"The operators? (?P<names>aten::\S+(?:(?:,| and) aten::\S+)*) (?:is|are|need)(?P<rest>.*)"
)


def fallback_table(facts: Sequence[Mapping[str, Any]]) -> str:
    """The text of `fallbacks.tsv`, from the messages of the binaries.

    Raises:
        SystemExit: the binaries do not say the same; the table has no column for that.
    """
    spoken = {tuple(f["messages"]) for f in facts}
    if len(spoken) != 1:
        raise SystemExit("the messages of the binaries differ; add a column for the version")
    lines = ["# Columns: operator, when torch_npu runs it on the CPU, in the words of its message."]
    for line in spoken.pop():
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
    from porter.rewrites.environment import variables
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
    calls = tables.calls()
    kinds = {
        version: collections.Counter(o.kind for o in tables.operators(version).values())
        for version in tables.BINARIES
    }
    lines += [
        "",
        "## Operator level",
        "",
        "Read from the binaries themselves with `docs/tools/read_binary.py`, each loaded into a torch "
        "of its version, with empty libraries in place of CANN's.",
        "",
        "| how the operator runs, in overloads | " + " | ".join(tables.BINARIES) + " |",
        "|---" * (len(tables.BINARIES) + 1) + "|",
        *(
            f"| {tables.KINDS[kind]} | "
            + " | ".join(str(kinds[v][kind]) for v in tables.BINARIES)
            + " |"
            for kind in tables.KINDS
        ),
        "",
        *(f"- {_said(sources[f'operators.tsv {v}'])}" for v in tables.BINARIES),
        "",
        NOT_LOADED,
        "",
        f"{len(calls)} APIs are joined to the operators that they call. {_said(sources['calls.tsv'])}",
        "",
        "| APIs that run an operator on the CPU | " + " | ".join(tables.BINARIES) + " |",
        "|---" * (len(tables.BINARIES) + 1) + "|",
        "| in the forward pass | "
        + " | ".join(str(sum(bool(tables.on_cpu(n, v)) for n in calls)) for v in tables.BINARIES)
        + " |",
        "| in the backward pass | "
        + " | ".join(
            str(sum(bool(tables.backward_on_cpu(n, v)) for n in calls)) for v in tables.BINARIES
        )
        + " |",
        "",
        "What Ascend's list says and what the binary does are two facts. "
        + _contradictions(tables),
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
    known = variables()
    lines += [
        "",
        "## Environment variables",
        "",
        _said(sources["environment.toml"]),
        "",
        f"{len(known)} variables of CUDA, NCCL and the CUDA side of torch; "
        f"{sum(bool(v.npu) for v in known.values())} have a counterpart that Ascend reads, "
        f"{sum(bool(v.npu and v.npu_exact) for v in known.values())} of these with the same values; "
        f"{sum(bool(v.accelerator) for v in known.values())} have a name that every device reads.",
    ]
    return "\n".join(lines) + "\n"


#: Versions whose binary could not be loaded, and why; one paragraph of docs/support.md.
NOT_LOADED = (
    "Not read: torch_npu 2.11 and 2.12. PyPI has torch of these versions for Linux only as builds for "
    "CUDA, which were not at hand, and their binaries do not load into another torch (2.12: the "
    "numbers of the dispatch keys differ from those of torch 2.13). The registrations of 2.11.0.post3 "
    "could be listed by loading it into torch 2.10.0 with five missing symbols left empty; they were "
    "those of 2.10.0.post7, but for two operators on sparse tensors. The tables do not rest on that: "
    "for a version whose binary was not read, the one before and the one behind it must agree, and "
    "the answer names them. 2.14.0 was read in a build of torch for CUDA, with the table of "
    "allocator settings replaced."
)


def _contradictions(tables: Any) -> str:
    """How often an API that the newest list refuses has all its operators on the device."""
    version = tables.VERSIONS[-1]
    refused = [name for name, row in tables.apis(version).items() if not row.lines]
    running = [name for name in refused if tables.runs(name, version)]
    falling = [name for name in refused if tables.on_cpu(name, version)]
    traced = [name for name in refused if name in tables.calls()]
    return (
        f"Of the {len(refused)} APIs that the list of {version} has for no product line, {len(traced)} "
        f"were traced; for {len(running)} of these the binary has a kernel or a composite for every "
        f"operator, for {len(falling)} it hands one to the CPU. Such a finding of POR901 is potential "
        "and states both facts."
    )


def _said(source: Mapping[str, str]) -> str:
    return f"Source: {source['source']}, {source['date']}."


# Command line -----------------------------------------------------------------------------------


class Made(NamedTuple):
    """A table that was made.

    Args:
        output: the name of its file.
        text: the table.
        sources: for it, and for its parts if it has several sources: what it was read from, and when.
    """

    output: str
    text: str
    sources: Mapping[str, tuple[str, str]]


def build(inputs: Mapping[str, Path | Sequence[Path]], support: Path, packages: Path) -> list[Path]:
    """Write the tables whose inputs are given.

    Args:
        inputs: by option name ("native_api"), the file to read; for "operators" one for each version.
        support: the folder of the tables.
        packages: where the table of packages goes.
    """
    listing = support / "sources.json"
    sources = json.loads(listing.read_text(encoding="utf-8")) if listing.exists() else {}
    written = []
    for option, given in inputs.items():
        paths = [given] if isinstance(given, Path) else list(given)
        data = [path.read_bytes() for path in paths]
        for made in _made(option, [one.decode("utf-8") for one in data]):
            target = packages if made.output == packages.name else support / made.output
            target.write_text(made.text, encoding="utf-8", newline="\n")
            for stale in [name for name in sources if name.partition(" ")[0] == made.output]:
                del sources[stale]
            digest = hashlib.sha256(b"".join(data)).hexdigest()
            for name, (source, date) in made.sources.items():
                sources[name] = {"source": source, "date": date, "input_sha256": digest}
            written.append(target)
    listing.write_text(
        json.dumps(sources, indent=1, sort_keys=True) + "\n", encoding="utf-8", newline="\n"
    )
    return written


#: The wheel whose names were read, and when.
WHEEL = "torch_npu 2.13.0 (git c798c653), its binary loaded into torch 2.13.0"
WHEEL_READ = "2026-11-24"


def _made(option: str, texts: Sequence[str]) -> Iterator[Made]:
    """The tables that come from one kind of input."""
    if option == "names":
        yield Made("names.tsv", name_table(texts[0]), {"names.tsv": (WHEEL, WHEEL_READ)})
        return
    facts = [json.loads(text) for text in texts]
    one = facts[0]
    if option == "operators":
        yield from _of_binaries(facts)
    elif option == "native_api":
        source = one["source"]
        where = f"{source['repo']} {source['path']} at {source['commit'][:12]}"
        yield Made("api.tsv", api_table(one), {"api.tsv": (where, source["date"])})
    elif option == "calls":
        where = f"torch {one['torch']}, torch.testing._internal, traced on a CPU"
        yield Made("calls.tsv", call_table(one), {"calls.tsv": (where, one["read"])})
    elif option == "packages":
        where = "the documentation and wheels named in each row"
        yield Made("packages.toml", package_table(one), {"packages.toml": (where, one["read"])})


def _of_binaries(facts: Sequence[Mapping[str, Any]]) -> Iterator[Made]:
    versions = [
        _plain(f["torch_npu"]) for f in sorted(facts, key=lambda f: _number(_plain(f["torch_npu"])))
    ]
    dates = max(f["read"] for f in facts)
    said = f"the binaries of torch_npu {', '.join(versions)}"
    sources = {"operators.tsv": (said, dates)}
    for f in facts:
        where = (
            f"torch_npu {f['torch_npu']} (git {f['git'][:8]}), its binary loaded into torch "
            f"{f['torch']} ({f['machine']})"
        )
        sources[f"operators.tsv {_plain(f['torch_npu'])}"] = (where, f["read"])
    yield Made("operators.tsv", operator_table(facts), sources)
    yield Made(
        "fallbacks.tsv",
        fallback_table(facts),
        {"fallbacks.tsv": (f"{said}: their messages", dates)},
    )


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
    for option in ("native-api", "names", "calls", "packages"):
        tables.add_argument(f"--{option}", type=Path)
    tables.add_argument("--operators", type=Path, nargs="+", help="one file for each version")
    tables.add_argument("--into", type=Path, help="write the tables into this folder instead")
    commands.add_parser("statistics", help="write docs/support.md")
    chosen = parser.parse_args(arguments)
    if chosen.command == "tables":
        left_out = ("command", "into")
        given = {k: v for k, v in vars(chosen).items() if k not in left_out and v is not None}
        into = chosen.into or SUPPORT
        for path in build(given, into, into / PACKAGES.name if chosen.into else PACKAGES):
            print(path, path.stat().st_size, "bytes")
    elif chosen.command == "statistics":
        STATISTICS.write_text(statistics(), encoding="utf-8", newline="\n")
    else:
        facts = trace() if chosen.command == "trace" else read_docs(chosen.checkout)
        text = json.dumps(facts, ensure_ascii=False, indent=0, sort_keys=True)
        chosen.output.write_text(text + "\n", encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
