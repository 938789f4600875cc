"""Regenerate the table of ONNX operators that Ascend's compiler takes, `onnx_ops.tsv`.

Nothing in the table is written by hand: it comes from one JSON file of facts that are read from
upstream sources first. `rewrites/support/sources.json` keeps the source, its date and the digest of
that file.

What the facts are, and how to read them again:

*   `ops`: for each operator of the domain ai.onnx the opsets that a plugin registers, that is the
    strings `ai.onnx::<opset>::<operator>` in `OriginOpType(...)` of every `*_onnx_plugin.cpp` of
    the repositories ops-math, ops-nn, ops-cv and of the parser of ge (all in
    github.com/hicann, mirrors of gitcode.com/cann), with the operator of GE that it becomes.
    Operators of the ONNX standard that no plugin registers have an empty list.
*   `custom_domain_ops`: the same for other domains.
*   `ort_cann_ep_graph_list`: the set `cann_supported_ops` in
    onnxruntime/core/providers/cann/cann_graph.cc of github.com/microsoft/onnxruntime;
    `ort_cann_ep_single_op_dtypes`: the kernels that cann_execution_provider.cc registers.
*   `hiascend_dtype_facts`: what a page of Ascend's list of ONNX operators says of dtypes.

::

    python docs/tools/build_onnx_ops.py ascend_onnx_ops.json
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
SUPPORT = REPOSITORY / "rewrites" / "support"
TABLE = "onnx_ops.tsv"
DEFAULT_DOMAIN = "ai.onnx"
#: A key of `custom_domain_ops` that names an operator: "npu::NPUIou".
QUALIFIED = re.compile(r"[\w.]+::\w+\Z")
#: How the repositories of the compiler are written in the facts.
OWNER = "github.com/hicann/"
PROVIDER = "onnxruntime/core/providers/cann/"


def table(facts: Mapping[str, Any]) -> str:
    """The text of `onnx_ops.tsv`.

    Raises:
        ValueError: the facts do not name the range of opsets.
    """
    lowest, highest = _opset_range(facts["opset_range"])
    lines = [
        f"# opsets {lowest} {highest}",
        f"# compiler {_compiler_source(facts)}",
        f"# provider {_provider_source(facts)}",
        "# A section is a domain. Columns: operator; opsets of models in which the compiler"
        " registers it (- none,",
        "# * any); the operator of GE; what ONNX Runtime's CANN provider does (graph, and kernels"
        " for dtypes);",
        "# dtypes by input where a page of Ascend's list was read; the file that registers it;"
        " std if the",
        "# ONNX standard has an operator of that name.",
    ]
    for domain, rows in sorted(_domains(facts).items()):
        lines.append(f"= {domain}")
        lines.extend("\t".join((name, *rows[name])).rstrip("\t") for name in sorted(rows))
    return "\n".join(lines) + "\n"


def _opset_range(text: str) -> tuple[int, int]:
    found = re.search(r"v(\d+)\.\.v(\d+)", text)
    if found is None:
        raise ValueError(f"no range of opsets in {text!r}")
    return int(found[1]), int(found[2])


def _compiler_source(facts: Mapping[str, Any]) -> str:
    """The repositories of the compiler, each with its commit, and the latest date."""
    parts, dates = [], []
    for name, said in facts["sources"].items():
        if name.startswith(OWNER):
            commit, _, date = said.partition(" ")
            parts.append(f"{name.removeprefix(OWNER)} {commit[:12]}")
            dates.append(date)
    return f"{OWNER}: {', '.join(parts)} ({max(dates)})"


def _provider_source(facts: Mapping[str, Any]) -> str:
    said = {
        name.rpartition("/")[2]: commit[:12]
        for name, commit in facts["sources"].items()
        if name.endswith(".cc")
    }
    files = ", ".join(f"{name} {commit}" for name, commit in said.items())
    return f"github.com/microsoft/onnxruntime {PROVIDER}: {files}"


def _domains(facts: Mapping[str, Any]) -> dict[str, dict[str, tuple[str, ...]]]:
    """By domain and operator: the columns behind the name."""
    found: dict[str, dict[str, tuple[str, ...]]] = {DEFAULT_DOMAIN: {}}
    for name, entry in facts["ops"].items():
        found[DEFAULT_DOMAIN][name] = _columns(entry)
    for key, entry in facts["custom_domain_ops"].items():
        if not QUALIFIED.match(key) or not entry["opsets"]:
            continue  # registered without an opset: nothing can be looked up under it
        domain, _, name = key.partition("::")
        found.setdefault(domain, {})[name] = _columns(
            {"atc_plugin_opsets": entry["opsets"], **entry}
        )
    return found


def _columns(entry: Mapping[str, Any]) -> tuple[str, ...]:
    opsets = entry["atc_plugin_opsets"]
    return (
        "*" if isinstance(opsets, str) else ranges(opsets) or "-",
        ",".join(entry["ge_op"]),
        _provider(entry),
        _limits(entry.get("hiascend_dtype_facts", {})),
        " ".join(e.removeprefix("hicann-") for e in entry["evidence"]),
        "std" if entry.get("in_onnx_standard") else "",
    )


def ranges(numbers: Sequence[int]) -> str:
    """Numbers as ranges: `[8, 9, 10, 18]` is "8-10,18"."""
    return ",".join(_runs(sorted(numbers)))


def _runs(numbers: Sequence[int]) -> Iterator[str]:
    start = 0
    for position, number in enumerate(numbers):
        if position + 1 < len(numbers) and numbers[position + 1] == number + 1:
            continue
        first = numbers[start]
        yield str(number) if first == number else f"{first}-{number}"
        start = position + 1


def _provider(entry: Mapping[str, Any]) -> str:
    parts = ["graph"] if entry.get("ort_cann_ep_graph_list") else []
    kernels = entry.get("ort_cann_ep_single_op_dtypes")
    if kernels is not None:
        parts.append("kernel" + (f":{','.join(kernels)}" if kernels else ""))
    return " ".join(parts)


def _limits(said: Mapping[str, Any]) -> str:
    if not said:
        return ""
    dtypes = " ".join(f"{name}:{','.join(kinds)}" for name, kinds in said["dtypes"].items())
    return f"{dtypes} | {said['source']}"


def build(path: Path, folder: Path = SUPPORT) -> None:
    """Write the table and its source.

    Args:
        path: the JSON file of facts.
        folder: where the tables are.
    """
    data = path.read_bytes()
    text = table(json.loads(data))
    (folder / TABLE).write_text(text, encoding="utf-8")
    listed = folder / "sources.json"
    sources = json.loads(listed.read_text(encoding="utf-8")) if listed.exists() else {}
    compiler = re.search(r"^# compiler (.*) \((.*)\)$", text, re.M)
    provider = re.search(r"^# provider (.*)$", text, re.M)
    assert compiler is not None
    assert provider is not None
    sources[TABLE] = {
        "date": compiler[2],
        "input_sha256": hashlib.sha256(data).hexdigest(),
        "source": f"{compiler[1]}; {provider[1]}",
    }
    listed.write_text(json.dumps(sources, indent=1, sort_keys=True) + "\n", encoding="utf-8")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("facts", type=Path, help="the JSON file of facts")
    build(parser.parse_args().facts)


if __name__ == "__main__":
    main()
