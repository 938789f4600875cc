"""The tables of support: regenerated from small inputs, consistent, and read right."""

from __future__ import annotations

import importlib.util
import json
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from porter import catalog, engine, runner
from porter.config import Settings
from porter.engine import Settled
from porter.rewrites import packages, support_api
from porter.rewrites.environment import variables
from porter.rewrites.support import tables
from porter.rule import Category
from porter.scan import may_match
from porter.targets import Target

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
SUPPORT = ROOT / "rewrites" / "support"
CATALOG = catalog.load()


def _builder() -> ModuleType:
    path = ROOT / "docs" / "tools" / "build_support.py"
    spec = importlib.util.spec_from_file_location("build_support", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDER = _builder()


# Regenerating -----------------------------------------------------------------------------------

#: Entries as they stand in Ascend's documentation (torch_npu 2.13.0), with everything that the
#: reader looks at.
PAGE = """\
# torch.optim

### <code><i>class</i></code> torch.nn.functional.soft_margin_loss

**原生文档**：[torch.nn.functional.soft_margin_loss](https://pytorch.org/)

**支持情况**：

| 硬件 | 是否支持 |
| ---- | :----: |
| <term>Atlas A2 训练系列产品</term> | ✔ |
| <term>Atlas A3 训练系列产品</term> | &#10004; |
| <term>Ascend 950DT</term> | ✘ |

**限制与说明**：`input`仅支持bf16，fp16，fp32，不支持fp64，complex64，complex128

</div>

> <font size="3">acosh()</font>

**原生文档**：[Tensor.acosh](https://pytorch.org/)

| <term>Atlas A2 训练系列产品</term> | ✔ |
| <term>Atlas A3 训练系列产品</term> | ✔ |
| <term>Ascend 950DT</term> | ✔ |

**限制与说明**：

- `query`、`key`仅支持fp16、fp32
- 可能回退至CPU执行

### torch.cuda.CUDAGraph

**原生文档**：[torch.cuda.CUDAGraph](https://pytorch.org/)

**NPU 形式名称**：torch.npu.NPUGraph

| <term>Atlas A2 训练系列产品</term> | ✘ |
| <term>Atlas A3 训练系列产品</term> | ✘ |
| <term>Ascend 950DT</term> | ✘ |

**限制与说明**： 当前仅支持推理场景，不支持训练场景
"""


def test_the_documentation_is_read() -> None:
    entries = BUILDER.read_page(PAGE, "torch")
    assert entries == {
        "torch.nn.functional.soft_margin_loss": {
            "hardware": {"950DT": False, "A2": True, "A3": True},
            "module": "torch",
            "has_limits": True,
            "dtypes_by_param": {"input": ["bf16", "fp16", "fp32"]},
            "unsupported_dtypes": ["fp64", "complex64", "complex128"],
        },
        "torch.Tensor.acosh": {
            "hardware": {"950DT": True, "A2": True, "A3": True},
            "module": "torch",
            "has_limits": True,
            "dtypes_by_param": {"query": ["fp16", "fp32"], "key": ["fp16", "fp32"]},
            "cpu_fallback": "may",
        },
        "torch.cuda.CUDAGraph": {
            "hardware": {"950DT": False, "A2": False, "A3": False},
            "module": "torch",
            "has_limits": True,
            "npu_name": "torch.npu.NPUGraph",
            "inference_only": True,
        },
    }


#: Parts of the inputs that the shipped tables were made from, as they were read.
SLICE = Path(__file__).parent / "support_slice"


def _inputs() -> dict[str, Any]:
    return {
        "native_api": SLICE / "native_api.json",
        "operators": sorted(SLICE.glob("operators-*.json")),
        "calls": SLICE / "calls.json",
        "names": SLICE / "names.txt",
        "packages": SLICE / "ecosystem.json",
    }


def _named(text: str) -> dict[str, list[str]]:
    """The rows of a table with the section each stands in, by their first column."""
    found: dict[str, list[str]] = {}
    section = ""
    for line in text.splitlines():
        if line.startswith("= "):
            section = line
        elif not line.startswith("#"):
            found.setdefault(line.partition("\t")[0], []).append(f"{section} {line}")
    return found


@pytest.fixture(scope="module")
def rebuilt(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tables, made from the slice."""
    folder = tmp_path_factory.mktemp("support")
    BUILDER.build(_inputs(), folder, folder / "packages.toml")
    return folder


@pytest.mark.parametrize(
    ("table", "rows"),
    [("api.tsv", 10), ("operators.tsv", 34), ("calls.tsv", 6), ("names.tsv", 12),
     ("fallbacks.tsv", 8)],
)  # fmt: skip
def test_a_slice_is_regenerated(rebuilt: Path, table: str, rows: int) -> None:
    made = _named((rebuilt / table).read_text(encoding="utf-8"))
    shipped = _named((SUPPORT / table).read_text(encoding="utf-8"))
    assert len(made) >= rows
    for name, lines in made.items():
        assert lines == shipped.get(name), name


def test_a_slice_of_the_packages_is_regenerated(rebuilt: Path) -> None:
    made = tomllib.loads((rebuilt / "packages.toml").read_text(encoding="utf-8"))
    text = (ROOT / "rewrites" / "packages.toml").read_text(encoding="utf-8")
    shipped = {row["name"]: row for row in tomllib.loads(text)["package"]}
    assert len(made["package"]) >= 6
    for row in made["package"]:
        assert row == shipped[row["name"]]


@pytest.mark.parametrize("version", tables.VERSIONS)
def test_the_slice_has_every_version_of_the_lists(version: str) -> None:
    facts = json.loads((SLICE / "native_api.json").read_text(encoding="utf-8"))
    for name, entry in facts["versions"][version].items():
        row = tables.api(name, version)
        assert row is not None
        assert {line: line in row.lines for line in tables.LINES} == entry["hardware"]


@pytest.mark.parametrize("version", tables.BINARIES)
def test_the_slice_has_every_binary(version: str) -> None:
    facts = json.loads((SLICE / f"operators-{version}.json").read_text(encoding="utf-8"))
    known = tables.operators(version)
    checked = 0
    for kind in tables.KINDS:
        for name in facts[kind]:
            assert known[name].kind == kind
            checked += 1
    assert checked >= 20
    said = tables.sources()[f"operators.tsv {version}"]["source"]
    assert facts["git"][:8] in said
    assert f"torch {facts['torch']} ({facts['machine']})" in said


def test_binaries_that_speak_for_a_version() -> None:
    assert tables.binaries("2.9") == ("2.9.0",)
    assert tables.binaries("2.12.0") == ("2.10.0", "2.13.0")
    assert tables.binaries("2.6") == ("2.7.1",)
    assert tables.binaries("3.0") == ("2.14.0",)


def test_versions_differ_where_the_binaries_do() -> None:
    """As the dispatcher said when each was loaded."""
    facts = {v: json.loads((SLICE / f"operators-{v}.json").read_text()) for v in tables.BINARIES}
    changed = [
        n
        for n in facts["2.7.1"]["npu"]
        if n in facts["2.8.0"]["cpu_fallback"] and n in facts["2.9.0"]["npu"]
    ]
    assert changed
    for name in changed:
        kinds = [tables.operators(v)[name].kind for v in ("2.7.1", "2.8.0", "2.9.0")]
        assert kinds == ["npu", "cpu_fallback", "npu"]


def test_known_rows_of_the_documentation() -> None:
    """Read from the pages by eye, not by the builder."""
    stft = tables.api("torch.stft", "2.13.0")
    assert stft is not None
    assert stft.lines == ("A2", "A3")
    assert dict(stft.dtypes) == {"input": ("fp32", "fp64", "complex64", "complex128")}
    assert stft.source.endswith("pytorch_2-13-0/torch.md (2026-08-21)")
    mean = tables.api("torch.std_mean", "2.13.0")
    assert mean is not None
    assert mean.lines == ()
    assert tables.api("torch.no_such_name", "2.13.0") is None


def test_tables_are_built_from_each_input(tmp_path: Path) -> None:
    inputs: dict[str, dict[str, Any]] = {
        "operators": {
            "npu": ["aten::bmm"], "composite": ["aten::absolute"],
            "composite_explicit": ["aten::lgamma"], "cpu_fallback": ["aten::lgamma.out"],
            "npu_ops": ["npu::npu_dtype_cast"], "AutogradPrivateUse1": ["aten::bmm"],
            "autocast_policy": {"aten::bmm": "lower_precision_fp"},
            "torch_npu": "2.13.0", "torch": "2.13.0+cpu", "git": "c798c6532a0d", "read": "2026-11-24",
            "machine": "x86_64",
            "messages": [
                "CAUTION: The operator aten::logit, aten::logit_ and aten::logit.out is currently "
                "not supported on the NPU backend. Now this operator will fallback to run on the CPU."
            ],
        },
        "calls": {"torch": "2.13.0+cpu", "read": "2026-11-24", "calls": {
            "torch.lgamma": {"forward": ["aten::lgamma", "aten::detach"], "backward": []}}},
    }  # fmt: skip
    older = {**inputs["operators"], "torch_npu": "2.7.1.post11", "autocast_policy": {},
             "npu": ["aten::bmm", "aten::lgamma.out"], "cpu_fallback": []}  # fmt: skip
    files: dict[str, Any] = {}
    for option, facts in inputs.items():
        files[option] = tmp_path / f"{option}.json"
        files[option].write_text(json.dumps(facts), encoding="utf-8")
    (tmp_path / "older.json").write_text(json.dumps(older), encoding="utf-8")
    files["operators"] = [files["operators"], tmp_path / "older.json"]
    files["names"] = tmp_path / "names.txt"
    files["names"].write_text(
        f"# torch_npu: 1 public names\ntorch_npu.fast_gelu\tcallable\t__all__\t{BUILDER.GENERIC}\n"
        "torch.Tensor.npu\nop\tnpu::npu_dtype_cast(Tensor input, ScalarType dtype) -> Tensor\n",
        encoding="utf-8",
    )
    BUILDER.build(files, tmp_path, tmp_path / "packages.toml")

    def rows(name: str) -> list[str]:
        text = (tmp_path / name).read_text(encoding="utf-8")
        return [line for line in text.splitlines() if not line.startswith("#")]

    assert rows("operators.tsv") == [
        "= npu", "bmm\t\tA\tlower_precision_fp", "lgamma.out\t0", "= composite", "absolute",
        "= composite_explicit", "lgamma", "= cpu_fallback", "lgamma.out\t1", "= npu_ops",
        "npu::npu_dtype_cast",
    ]  # fmt: skip
    assert rows("calls.tsv") == ["torch.lgamma\tlgamma"]
    assert rows("names.tsv") == [
        "torch_npu.fast_gelu\tcallable",
        "torch.Tensor.npu\tadded",
        "npu::npu_dtype_cast\top\t(Tensor input, ScalarType dtype) -> Tensor",
    ]
    assert [r.partition("\t")[0] for r in rows("fallbacks.tsv")] == ["logit", "logit.out", "logit_"]
    sources = json.loads((tmp_path / "sources.json").read_text(encoding="utf-8"))
    assert set(sources) == {
        "operators.tsv", "operators.tsv 2.7.1", "operators.tsv 2.13.0", "calls.tsv", "names.tsv",
        "fallbacks.tsv",
    }  # fmt: skip
    assert "2.7.1.post11 (git c798c653)" in sources["operators.tsv 2.7.1"]["source"]
    assert all(re.fullmatch(r"[0-9a-f]{64}", s["input_sha256"]) for s in sources.values())


def test_statistics_are_those_of_the_tables() -> None:
    assert (ROOT / "docs" / "support.md").read_text(encoding="utf-8") == BUILDER.statistics()


# Consistency ------------------------------------------------------------------------------------


def test_every_table_has_a_source() -> None:
    listed = tables.sources()
    files = {p.name for p in SUPPORT.glob("*.tsv")} | {"packages.toml", "environment.toml"}
    files |= {f"operators.tsv {version}" for version in tables.BINARIES}
    assert set(listed) == files
    for name, said in listed.items():
        assert said["source"], name
        assert re.fullmatch(r"20\d\d-\d\d-\d\d", said["date"]), name


def test_the_tables_stay_small() -> None:
    assert sum(p.stat().st_size for p in SUPPORT.glob("*.t*")) < 600_000


@pytest.mark.parametrize("version", tables.VERSIONS)
def test_every_row_of_the_lists_has_a_source(version: str) -> None:
    for row in tables.apis(version).values():
        assert re.search(r"pytorch_[\d-]+/[\w.-]+\.md \(20\d\d-\d\d-\d\d\)\Z", row.source), row


def test_every_package_and_variable_has_a_source() -> None:
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", packages.read())
    for row in packages.packages():
        assert row.evidence or not row.verified, row.name
    for name, variable in variables().items():
        assert variable.source, name


def test_the_versions_are_those_of_the_table() -> None:
    for table, versions in (("api.tsv", tables.VERSIONS), ("operators.tsv", tables.BINARIES)):
        first = (SUPPORT / table).read_text(encoding="utf-8").splitlines()[0]
        assert first == f"# versions {' '.join(versions)}"


def test_counts_of_the_binary() -> None:
    """As the binary was counted when it was read."""
    kinds = [o.kind for o in tables.operators().values()]
    counted = {kind: kinds.count(kind) for kind in tables.KINDS}
    assert counted == {
        "npu": 1077, "composite": 697, "composite_explicit": 945, "cpu_fallback": 391,
        "npu_ops": 419,
    }  # fmt: skip


def test_advice_is_about_unsupported_apis() -> None:
    assert set(tables.advice()) <= set(tables.unsupported())


def test_traced_operators_exist() -> None:
    """A misspelt or renamed operator would silently count as no fallback."""
    known = tables.operators()
    unknown = {
        o
        for forward, backward in tables.calls().values()
        for o in (*forward, *backward)
        if o.startswith("aten::") and "prims::" not in o and o not in known
    }
    assert unknown == set()


def test_no_rule_hides_another() -> None:
    """An exact name wakes its own rules only, and none that watch for what it begins with."""
    mine = [r for r in CATALOG.rules if r.code.startswith(("POR90", "POR82"))]
    others = [r for r in CATALOG.rules if r not in mine]
    for rule in mine:
        for name in rule.names:
            for other in others:
                for watched in other.names:
                    below = watched.endswith(".*") and name.startswith(watched[:-1])
                    hidden = below and name != watched
                    # POR95x speak of what runs well, and need not speak where something does not run.
                    advice = other.code.startswith("POR95")
                    assert not hidden or advice, (rule.code, name, other.code)
                    # POR902 speaks of product lines and POR89x of kernels, whoever else speaks
                    # of the name.
                    apart = rule.code == "POR902" or other.code.startswith(("POR89", "POR95"))
                    assert name != watched or apart, (rule.code, name, other.code)


# Findings ---------------------------------------------------------------------------------------


def findings(text: str, code: str, target: Target | None = None) -> list[Settled]:
    outcome = engine.analyse(text, CATALOG, target or Target("npu"))
    return [s for s in outcome.settled if s.finding.rule == code]


def test_not_for_the_accelerator_target() -> None:
    text = "import torch\n\ndef f(x):\n    return torch.poisson(x)\n"
    assert findings(text, "POR901", Target("accelerator")) == []


@pytest.mark.parametrize(
    ("text", "category"),
    [
        (
            "from torch.distributed.tensor import parallel\n\nx = parallel.RowwiseParallel()\n",
            Category.MANDATORY,
        ),
        # The binary hands its operator to the CPU.
        ("import torch\n\ndef f(x):\n    return torch.poisson(x)\n", Category.POTENTIAL),
        # A function of Python, all of whose operators have kernels.
        ("import torch.nn.functional as F\nx = F.gumbel_softmax(y)\n", Category.POTENTIAL),
        # A model may be exported on the CPU.
        ("import torch\nx = torch.export.export(m, ())\n", Category.POTENTIAL),
        # Kernels are there although the list says no.
        ("import torch\n\ndef f(x):\n    return torch.std_mean(x)\n", Category.POTENTIAL),
        # The list has the same function under another name.
        ("import torch\n\ndef f(x):\n    return torch.func.vmap(x)\n", Category.POTENTIAL),
        # Made on the CPU.
        ("import torch\nx = torch.fft.fftfreq(8)\n", Category.POTENTIAL),
        ('import torch\nx = torch.sparse_bsr_tensor(a, b, c, device="npu")\n', Category.MANDATORY),
        ("import torch\nx = torch.zeros(3)\nx.share_memory_()\n", Category.POTENTIAL),
        ("import torch\nx = torch.zeros(3, device=d)\nx.share_memory_()\n", Category.MANDATORY),
        # Perhaps no tensor, or one on the CPU.
        ("def f(x):\n    return x.share_memory_()\n", Category.POTENTIAL),
        # Named, not called.
        ("import torch\nTABLE = {1: torch.poisson}\n", Category.INFORMATION),
        ("import torch\nTABLE = {1: torch.nn.utils.clip_grad_norm}\n", Category.POTENTIAL),
        ("import torch\n\n\nclass A(torch.ao.nn.qat.Linear):\n    pass\n", Category.MANDATORY),
        ("import torch\n\n@torch.compiler.disable\ndef f(x):\n    pass\n", Category.INFORMATION),
    ],
)
def test_category(text: str, category: Category) -> None:
    (only,) = findings(text, "POR901")
    assert only.finding.category is category


@pytest.mark.parametrize("version", ["", "2.7", "2.11", "2.12.0", "2.13"])
def test_list_and_binary_are_both_stated(version: str) -> None:
    text = "import torch\n\ndef f(x):\n    return torch.std_mean(x)\n"
    (only,) = findings(text, "POR901", Target("npu", torch_npu=version))
    assert only.finding.category is Category.POTENTIAL
    assert "says Ascend's list; yet the binary of torch_npu" in only.finding.reason
    read = (
        ("2.10.0", "2.13.0")
        if version in ("2.11", "2.12.0")
        else tables.binaries(version or "2.13")
    )
    assert all(v in only.finding.reason for v in read)


def test_a_product_line_must_be_chosen() -> None:
    text = "import torch\n\ndef f(x):\n    return torch.dequantize(x) + torch.dequantize(x + 1)\n"
    assert findings(text, "POR902") == []
    assert findings(text, "POR902", Target("npu", hardware="A2")) == []
    (only,) = findings(text, "POR902", Target("npu", hardware="950DT"))
    assert only.finding.category is Category.POTENTIAL
    assert "not for 950DT" in only.finding.reason


def test_kernels_make_a_product_line_information() -> None:
    text = "import torch\n\ndef f(x, y):\n    return torch.bmm(x, y)\n"
    (only,) = findings(text, "POR902", Target("npu", hardware="950DT"))
    assert only.finding.category is Category.INFORMATION
    python = "import torch\nx = torch.distributed.checkpoint.save({})\n"
    assert findings(python, "POR902", Target("npu", hardware="A2")) == []


def test_an_import_for_others_is_reported_where_it_stands() -> None:
    (only,) = findings("from torch import poisson\n", "POR901")
    assert only.line == 1
    used = findings("from torch import poisson\nx = poisson(1)\n", "POR901")
    assert [s.line for s in used] == [2]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("import torch\nx = torch.zeros(3)\nx.mode()\n", True),
        ("import torch\n\ndef f(x: torch.Tensor):\n    return (x + 1).mode()\n", True),
        ("import torch\nx = torch.zeros(3)\nx = g(x)\nx.mode()\n", False),
        ("def f(x):\n    return x.mode()\n", False),
        ("def f(x):\n    return x.to_sparse_csr()\n", True),
        ("import tensorflow as tf\ny = tf.sparse.to_sparse_csr(1)\n", False),
    ],
)
def test_methods_need_a_tensor(text: str, found: bool) -> None:
    assert bool(findings(text, "POR901")) == found


def test_every_trigger_marks_its_file() -> None:
    """A file that holds nothing else must still be read."""
    names = [
        n
        for n in (*support_api.UNSUPPORTED, *support_api.FALLING_BACK)
        if not n.startswith(support_api.ON_HOST) and not n.startswith("torch.Tensor.")
    ]
    missed = []
    for name in names:
        row = tables.api(name.rpartition(".")[0], "2.13.0")
        if row is not None or name.endswith(".forward") or "Storage" in name or name.count(".") > 4:
            continue  # a method of a class, called on its instances
        if not may_match(f"import torch\n{name}(x)\n".encode(), CATALOG.marker):
            missed.append(name)
    assert missed == []


def test_every_package_marks_its_file() -> None:
    missed = [
        name
        for name in packages.by_import()
        if not may_match(f"import os, {name}\n".encode(), CATALOG.marker)
    ]
    assert missed == []


def test_a_product_line_wakes_files_that_never_name_a_device(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import torch\n\nx = torch.bmm(a, b)\n")
    (tmp_path / "b.py").write_text("import numpy\n\nx = numpy.zeros(3)\n")

    def codes(hardware: str) -> list[str]:
        settings = Settings(target="npu", hardware=hardware)
        done = runner.run(runner.Request((tmp_path,), settings))
        return [site.rule for site in done.report.sites]

    assert codes("") == []
    assert codes("A2") == []
    assert codes("950DT") == ["POR902"]


def test_what_calls_have_in_common_is_not_needed() -> None:
    """`torch.matmul` calls one of several operators: all of them must run."""
    assert tables.calls()["torch.matmul"] == ((), ())
    assert tables.runs("torch.matmul")
