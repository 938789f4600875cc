"""Regenerate the table of dtypes that operators of the NPU do not take, `dtypes.tsv`.

Nothing in the table is written by hand. An entry needs three sources to agree:

*   op-plugin (github.com/Ascend/op-plugin), `op_plugin/config/op_plugin_functions.yaml`: only
    operators whose kernel is generated (`gen_opapi`) count, for there the first tensor goes to a
    function of CANN as it is. A kernel that is written by hand may cast before it calls.
*   ops-math and ops-nn (github.com/hicann, mirrors of gitcode.com/cann), `docs/aclnn*.md`: the
    dtypes that the function's documentation has for its first parameter, with what it says of
    single product lines.
*   the same repositories, `aclnn_*.cpp`: the lists of dtypes in the source of that function. The
    documentation of some functions leaves out what their source has (bfloat16 on A2, mostly).

A dtype counts as not taken on a product line if documentation and source both leave it out; where
the source has lists for the 950 only, they do not count for the others.

::

    python docs/tools/build_dtypes.py OP_PLUGIN OPS_MATH OPS_NN      # git directories
"""

from __future__ import annotations

import argparse
import hashlib
import json
import re
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

REPOSITORY = Path(__file__).resolve().parents[2]
SUPPORT = REPOSITORY / "rewrites" / "support"
TABLE = "dtypes.tsv"
FUNCTIONS = "op_plugin/config/op_plugin_functions.yaml"
#: Product lines by the names of their chips in the documentation.
CHIPS = {"910b": "A2", "A3": "A3", "950": "950DT"}
#: Names of CANN, as torch has them.
DTYPES = {
    "BFLOAT16": "bfloat16", "BF16": "bfloat16", "FLOAT16": "float16", "FLOAT": "float32",
    "FLOAT32": "float32", "DOUBLE": "float64", "FLOAT64": "float64", "UINT8": "uint8",
    "INT8": "int8", "INT16": "int16", "INT32": "int32", "INT64": "int64", "BOOL": "bool",
    "COMPLEX64": "complex64", "COMPLEX128": "complex128",
}  # fmt: skip
#: Those that the table speaks of.
ALL = tuple(dict.fromkeys(DTYPES.values()))
_WORD = re.compile(r"[A-Z]+[A-Z0-9_]*")
_BLOCK = re.compile(r'<!-- npu="(?P<chips>[^"]*)" \w+ -->(?P<text>.*?)<!-- end \w+ -->', re.S)
_LIST = re.compile(
    r"initializer_list<(?:op::)?DataType>\s*(?P<name>\w+)\s*=?\s*\{(?P<items>[^}]*)\}", re.S
)
#: Lists that a source has for the 950 alone.
_NEW_ONLY = re.compile(r"950|95|ARCH35|REG_?BASE|DAV_3510", re.IGNORECASE)


@dataclass(frozen=True)
class Repository:
    """A git directory, read at its head."""

    path: Path

    def _git(self, *words: str) -> str:
        done = subprocess.run(
            ["git", "-C", str(self.path), *words], capture_output=True, check=True
        )
        return done.stdout.decode("utf-8", "replace")

    def files(self) -> list[str]:
        """All paths."""
        return self._git("ls-tree", "-r", "--name-only", "HEAD").splitlines()

    def read(self, path: str) -> str:
        """The text of a file."""
        return self._git("show", f"HEAD:{path}")

    def state(self) -> tuple[str, str]:
        """The commit and its date."""
        commit, date = self._git("log", "-1", "--format=%h %cs").split()
        return commit, date


def generated(text: str) -> Iterator[tuple[str, str]]:
    """Operators whose first tensor goes to a function of CANN as it is, with that function.

    Args:
        text: op_plugin_functions.yaml.
    """
    entries = [e for e in yaml.safe_load(text)["official"] if isinstance(e.get("gen_opapi"), dict)]
    calls = {_name(e["func"]): e["gen_opapi"] for e in entries}
    for entry in entries:
        own = entry["gen_opapi"]
        call = calls.get(own.get("structured_inherit", ""), own)
        function, *given = [word.strip() for word in str(call.get("exec") or "").split(",")]
        first = re.match(r"[\w.]+\(Tensor(?:\(\w!\))? (\w+)", entry["func"])
        if function and first and (not given or given[0] == first[1]):
            yield _name(entry["func"]), function


def _name(schema: str) -> str:
    return schema.partition("(")[0]


def documented(page: str, function: str) -> dict[str, frozenset[str]] | None:
    """The dtypes of a function's first parameter by product line; None if that cannot be read."""
    section = re.search(rf"^## {function}GetWorkspaceSize\s*$(.*?)(?=^## |\Z)", page, re.M | re.S)
    said = section and re.search(r"参数说明(.*?)(?:\*\*返回值|返回值\uff1a|\Z)", section[1], re.S)
    table = said and re.search(r"<table.*?</table>", said[1], re.S)
    if not (said and table):
        return None
    rows = [
        [re.sub(r"<.*?>", " ", cell).strip() for cell in re.findall(r"<t[hd][^>]*>(.*?)</t[hd]>", row, re.S)]
        for row in re.findall(r"<tr>(.*?)</tr>", table[0], re.S)
    ]  # fmt: skip
    if "数据类型" not in rows[0]:
        return None
    first = next((row for row in rows[1:] if len(row) == len(rows[0])), None)
    dtypes = _dtypes(first[rows[0].index("数据类型")]) if first else frozenset()
    if first is None or not dtypes:
        return None
    parameter = re.split(r"[\s\uff08(]", first[0])[0]
    rest = said[1][table.end() :]
    return {line: _of_line(dtypes, rest, line, parameter) for line in CHIPS.values()}


def _of_line(dtypes: frozenset[str], text: str, line: str, parameter: str) -> frozenset[str]:
    """What is left of `dtypes` on a product line; whatever is named for it is added."""
    for block in _BLOCK.finditer(text):
        if line not in {CHIPS.get(chip) for chip in block["chips"].split(",")}:
            continue
        for sentence in re.split(r"[\u3002\uff1b\n]", block["text"]):
            mentioned = _dtypes(sentence)
            if "不支持" not in sentence:
                dtypes |= mentioned
            elif re.search(rf"\b{parameter}\b", sentence) or not re.search(r"`\w+`", sentence):
                dtypes -= mentioned
    return dtypes


def _dtypes(text: str) -> frozenset[str]:
    return frozenset(DTYPES[word] for word in _WORD.findall(text) if word in DTYPES)


def in_source(text: str) -> dict[str, frozenset[str]] | None:
    """The dtypes that the lists of a source have, by product line; None if it has no list."""
    old: set[str] = set()
    new: set[str] = set()
    for found in _LIST.finditer(text):
        dtypes = {DTYPES[w] for w in re.findall(r"DT_(\w+)", found["items"]) if w in DTYPES}
        (new if _NEW_ONLY.search(found["name"]) else old).update(dtypes)
    if not old:
        return None
    return {line: frozenset(old | new if line == "950DT" else old) for line in CHIPS.values()}


def rows(plugin: Repository, kernels: Sequence[Repository]) -> Iterator[tuple[str, str, str]]:
    """Operator, function of CANN, and the dtypes that it does not take, as the table has them."""
    pages: dict[str, tuple[Repository, str]] = {}
    sources: dict[str, tuple[Repository, str]] = {}
    for repository in kernels:
        for path in repository.files():
            if path.startswith("experimental/"):
                continue
            page = re.search(r"docs/(aclnn[^/]*)\.md$", path)
            for name in page[1].split("&") if page else ():
                pages.setdefault(name, (repository, path))
            if re.search(r"/aclnn_\w+\.cpp$", path) and "/tests/" not in path:
                sources.setdefault(path, (repository, path))
    functions = _defined(sources.values())
    for name, function in generated(plugin.read(FUNCTIONS)):
        if function not in pages or function not in functions:
            continue
        repository, path = pages[function]
        said = documented(repository.read(path), function)
        coded = in_source(functions[function])
        if said is None or coded is None:
            continue
        missing = {
            line: [d for d in ALL if d not in said[line] and d not in coded[line]] for line in said
        }
        if any(missing.values()):
            yield name, function, _written(missing)


def _defined(sources: Any) -> dict[str, str]:
    """The text of the source of each function of CANN."""
    found: dict[str, str] = {}
    for repository, path in sources:
        text = repository.read(path)
        for function in re.findall(r"\baclnnStatus (aclnn\w+)GetWorkspaceSize\(", text):
            found.setdefault(function, text)
    return found


def _written(missing: Mapping[str, Sequence[str]]) -> str:
    """Dtypes of all lines, and then those of single ones."""
    everywhere = [d for d in ALL if all(d in dtypes for dtypes in missing.values())]
    parts = [",".join(everywhere)] if everywhere else []
    for line, dtypes in missing.items():
        own = [d for d in dtypes if d not in everywhere]
        if own:
            parts.append(f"{line}:{','.join(own)}")
    return " ".join(parts)


def main() -> None:
    """Write the table and its source."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    for name in ("op_plugin", "ops_math", "ops_nn"):
        parser.add_argument(name, type=Path)
    options = parser.parse_args()
    plugin, *kernels = (
        Repository(path) for path in (options.op_plugin, options.ops_math, options.ops_nn)
    )
    found = sorted(rows(plugin, kernels))
    text = (
        "# Columns: operator (aten:: left out), the function of CANN that takes its first tensor, "
        "dtypes that it\n# does not take: on all product lines, then on single ones.\n"
        + "".join("\t".join(row) + "\n" for row in found)
    )
    (SUPPORT / TABLE).write_text(text, encoding="utf-8")
    states = [repository.state() for repository in (plugin, *kernels)]
    names = ("github.com/Ascend/op-plugin", "github.com/hicann/ops-math", "ops-nn")
    known = SUPPORT / "sources.json"
    sources = json.loads(known.read_text(encoding="utf-8"))
    sources[TABLE] = {
        "date": max(date for _, date in states),
        "input_sha256": hashlib.sha256(text.encode()).hexdigest(),
        "source": ", ".join(f"{n} {s[0]}" for n, s in zip(names, states, strict=True)),
    }
    known.write_text(json.dumps(sources, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    print(f"{len(found)} operators")


if __name__ == "__main__":
    main()
