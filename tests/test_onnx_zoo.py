"""The verdict of `porter onnx check` on models of every kind."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from porter.onnx import spec
from porter.onnx.verdict import Verdict

ROOT = Path(__file__).parent.parent
#: Models that are checked here, a few seconds each; `docs/tools/onnx_models.py measure` checks all.
CHECKED = (
    "mlp_bfloat16", "nested", "embedding_bag", "rows", "branch", "packed_gru", "svd",
    "fixed_batch", "random",
)  # fmt: skip


def _load_tool() -> ModuleType:
    path = ROOT / "docs" / "tools" / "onnx_models.py"
    found = importlib.util.spec_from_file_location("onnx_models", path)
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    found.loader.exec_module(module)
    return module


TOOL = _load_tool()
MODELS: list[dict[str, Any]] = TOOL.models()
MEASURED: dict[str, Any] = json.loads(TOOL.MEASURED.read_text(encoding="utf-8"))


# What was measured ------------------------------------------------------------------------------


def test_models_of_every_kind() -> None:
    names = [m["name"] for m in MODELS]
    assert len(set(names)) == len(names)
    counts = Counter(m["group"] for m in MODELS)
    assert counts.keys() == TOOL.GROUPS.keys()
    assert counts["nn"] >= 30
    assert counts["negative"] >= 10
    assert counts["transformers"] >= 10
    assert counts["timm"] >= 5


def test_every_model_is_a_table_that_porter_takes() -> None:
    for number, model in enumerate(MODELS, 1):
        spec.from_table({k: v for k, v in model.items() if k not in TOOL.OWN}, number)
        assert model["expect"] in {v.value for v in Verdict}, model["name"]
        assert bool(model.get("why")) == (model["expect"] not in ("pass", "gap")), model["name"]


def test_every_verdict_was_the_expected_one() -> None:
    wrong = {
        m["name"]: found
        for m in MODELS
        if (found := MEASURED["models"][m["name"]])
        and TOOL.expected(m) != (found["verdict"], tuple(found["operators"]))
    }
    assert wrong == {}
    assert MEASURED["models"].keys() == {m["name"] for m in MODELS}


def test_the_page_is_that_of_the_measurement() -> None:
    page = (ROOT / "docs" / "onnx-models.md").read_text(encoding="utf-8")
    assert page == TOOL.page(), "run docs/tools/onnx_models.py page"


# Measured again ---------------------------------------------------------------------------------

needs_exporter = pytest.mark.skipif(
    not all(importlib.util.find_spec(n) for n in ("torch", "onnx", "onnxscript", "onnxruntime")),
    reason="needs torch, onnx, onnxscript and onnxruntime",
)


@pytest.fixture(scope="module")
def verdicts(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict[str, Any]]:
    """The verdicts of one run over all models that are checked here, by name."""
    folder = tmp_path_factory.mktemp("zoo")
    TOOL.project(folder, [m for m in MODELS if m["name"] in CHECKED])
    done = subprocess.run(
        [sys.executable, "-m", "porter", "onnx", "check", "--root", str(folder), "-q",
         "--target", "npu", "--no-original", "--output-format", "json"],
        capture_output=True, text=True, timeout=600,
    )  # fmt: skip
    assert done.returncode == 1, done.stdout + done.stderr
    found = json.loads(done.stdout)["checks"]
    return {check["name"]: check for check in found}


@needs_exporter
@pytest.mark.parametrize("name", CHECKED)
def test_verdict(name: str, verdicts: dict[str, dict[str, Any]]) -> None:
    (model,) = (m for m in MODELS if m["name"] == name)
    found = TOOL.summary(verdicts[name])
    assert (found["verdict"], tuple(found["operators"])) == TOOL.expected(model), verdicts[name]
