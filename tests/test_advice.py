"""Advice: found where its rules say, shown apart, and never a reason to stop anything."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from porter import catalog, engine
from porter.engine import Settled
from porter.output import render
from porter.rule import Category, Rule, Status
from porter.scan import Marker, may_match
from porter.targets import Target

MODULES = ("advice_precision", "advice_npu", "advice_shapes", "advice_fused")
RULES = [
    rule for rule in catalog.load().rules if rule.check.__module__.rpartition(".")[2] in MODULES
]


def found(text: str, target: Target | None = None) -> list[Settled]:
    outcome = engine.analyse(text, catalog.load(), target or Target("npu"))
    return [s for s in outcome.settled if s.finding.rule in {rule.code for rule in RULES}]


# Rules ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_a_file_with_a_finding_is_looked_at(rule: Rule) -> None:
    module = importlib.import_module(rule.check.__module__)
    marker = Marker.of(module.MARKERS)
    for example in rule.examples:
        if example.finding and not rule.files:
            assert may_match(example.before.encode(), marker), example.before


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)
def test_advice_costs_nothing(rule: Rule) -> None:
    assert (rule.effort == 0) == (rule.category is Category.ADVICE)
    assert "## References" in rule.doc


@pytest.mark.parametrize(
    ("body", "code"),
    [
        ("x = x.cpu().double()", ""),
        ("x = torch.from_numpy(a).to(torch.float64)", ""),
        ('host = torch.device("cpu")\n    x = x.to(host).double()', ""),
        ("x = torch.zeros(3, dtype=torch.float64)", ""),
        ("x = x.to(d).double()", "POR921"),
        ("x = x.type(torch.double)", "POR921"),
        ("torch.set_default_dtype(torch.float64)", "POR921"),
        ("torch.set_default_dtype(torch.float32)", ""),
        ("x = x.contiguous(memory_format=torch.channels_last)", "POR922"),
        ("f = torch.channels_last\n    x = x.to(memory_format=f)", "POR922"),
        ("f = torch.channels_last if d else None\n    x = x.to(memory_format=f)", "POR922"),
        ("f = torch.channels_last\n    print(f)", ""),
        ("for y in x:\n        i = torch.where(y > 0)[0]", "POR931"),
        ("i = torch.where(x > 0)[0]", ""),
        ("for y in x:\n        i = torch.where(y > 0, y, d)", ""),
        ("for y in a:\n        b = y[y > 0]", ""),
        ("for y in a:\n        m = torch.rand(3, device=d)\n        b = m[m > 0]", "POR931"),
        ("for y in a:\n        m = torch.rand(3)\n        b = m[m > 0]", ""),
        ("torch.compile(f, disable=True)", ""),
        ("torch.compile(f, backend='tvm')", "POR933"),
        ("torch.optim.SGD(x, 0.1, **a)", ""),
    ],
)
def test_cases(body: str, code: str) -> None:
    text = f"import torch\n\ndef f(x, a, d):\n    {body}\n"
    assert [s.finding.rule for s in found(text)] == ([code] if code else [])


def test_two_casts_in_a_statement_are_one_piece_of_advice() -> None:
    text = "import torch\n\ndef f(x, y):\n    return x.double() + y.double()\n"
    assert len(found(text)) == 1


def test_a_cast_to_float64_is_not_said_to_be_the_same_everywhere() -> None:
    text = "import torch\n\ndef f(x):\n    return x.double()\n"
    (npu,), (other,) = found(text), found(text, Target("accelerator"))
    assert npu.finding.reason.startswith("on an NPU")
    assert other.finding.reason.startswith("not every accelerator")


def test_a_condition_around_channels_last_stays_for_cuda() -> None:
    text = (
        "import torch\n\ndef f(x):\n"
        '    if x.device.type == "cuda":\n        x = x.to(memory_format=torch.channels_last)\n'
        "    return x\n"
    )
    for name in ("npu", "accelerator"):
        outcome = engine.analyse(text, catalog.load(), Target(name))
        assert outcome.text == text
        assert {s.status for s in outcome.settled} == {Status.INFORMATION}


@pytest.mark.parametrize(
    ("torch_npu", "said"),
    [("", "triton-ascend"), ("2.7.1", "triton-ascend"), ("2.5.1", "before 2.6 has no inductor")],
)
def test_compiling_is_judged_by_the_version_of_torch_npu(torch_npu: str, said: str) -> None:
    (only,) = found("import torch\n\nf = torch.compile(g)\n", Target("npu", torch_npu=torch_npu))
    assert said in only.finding.reason


@pytest.mark.parametrize(
    ("hardware", "codes"),
    [("", ["POR943"]), ("A2", ["POR943"]), ("A3", []), ("950DT", [])],
)
def test_an_operator_is_named_where_it_is_offered(hardware: str, codes: list[str]) -> None:
    text = (
        "import torch.nn.functional as F\n\ndef f(x):\n    a, b = x.chunk(2, -1)\n"
        "    return F.silu(a) * b\n"
    )
    target = Target("npu", hardware=hardware)
    assert [s.finding.rule for s in found(text, target)] == codes


def test_a_file_with_a_path_for_npus_gets_no_operator_again() -> None:
    text = (
        "import torch\nimport torch_npu\n\ndef norm(x, w, eps):\n    if x.is_npu:\n"
        "        return torch_npu.npu_rms_norm(x, w, epsilon=eps)[0]\n"
        "    return w * x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + eps)\n"
    )
    assert not found(text)


def test_numbers_of_the_page_are_those_of_the_table() -> None:
    from porter.rewrites.support import tables

    page = (Path(__file__).parents[1] / "docs" / "advice.md").read_text(encoding="utf-8")
    stated = [
        {dtype for _, dtypes in row.dtypes for dtype in dtypes}
        for row in tables.apis("2.13.0").values()
        if row.dtypes
    ]
    floats = [dtypes for dtypes in stated if dtypes & {"fp32", "fp64", "float32", "float64"}]
    taken = sum(bool(dtypes & {"fp64", "float64"}) for dtypes in floats)
    assert f"Of {len(floats):,} APIs" in page
    assert f"{taken:,} name float64" in page


# What becomes of it -----------------------------------------------------------------------------

TEXT = "import torch\n\ndef f(x):\n    return x.double()\n"


def porter(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porter", *arguments],
        cwd=folder, capture_output=True, text=True, check=False, timeout=100,
    )  # fmt: skip


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    tmp_path = tmp_path_factory.mktemp("advised")
    (tmp_path / "a.py").write_text(TEXT)
    (tmp_path / "b.py").write_text(TEXT + "\n\ndef g(x):\n    return x.double()\n")
    done = porter(tmp_path, "check", ".", "--target", "npu", "--report", "r.json")
    assert done.returncode == 0, done.stderr
    assert "a.py" not in done.stdout
    assert "Advice on precision and speed for 3 places in 2 files" in done.stderr
    loaded: dict[str, Any] = json.loads((tmp_path / "r.json").read_text())
    return loaded


def test_advice_blocks_nothing(report: dict[str, Any]) -> None:
    assert report["verdict"]["status"] == "READY"
    assert report["verdict"]["readiness"] is None
    assert report["verdict"]["sites"]["advice"] == 3
    assert report["summary"]["sites"]["pending"] == 0
    assert {s["status"] for s in report["sites"]} == {"information"}
    assert {s["category"] for s in report["sites"]} == {"advice"}


@pytest.mark.parametrize("form", ["text", "markdown", "html"])
def test_views_show_it_in_a_section_of_its_own(report: dict[str, Any], form: str) -> None:
    assert "Advice on precision and speed" in render(report, form)


@pytest.mark.parametrize("form", ["github", "junit", "sarif", "rdjson"])
def test_machines_are_not_told(report: dict[str, Any], form: str) -> None:
    assert "POR921" not in render(report, form)


def test_it_is_shown_when_it_is_asked_for(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(TEXT)
    for options in (["--select", "POR92"], ["-v"]):
        done = porter(tmp_path, "check", ".", "--target", "npu", *options)
        assert "a.py:4:12: POR921 float64-tensor: on an NPU" in done.stdout
        assert done.returncode == 0
    done = porter(tmp_path, "check", ".", "--target", "npu", "--select", "POR")
    assert "POR921" not in done.stdout


def test_a_comment_silences_it(tmp_path: Path) -> None:
    text = TEXT.replace("double()", "double()  # porter: ignore[POR921]")
    (tmp_path / "a.py").write_text(text)
    done = porter(tmp_path, "check", ".", "--target", "npu", "-v")
    assert "POR921" not in done.stdout
    assert "Advice" not in done.stderr
