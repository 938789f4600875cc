"""The rules about exports: on request only, and true of the exporter."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from porter import catalog, engine
from porter.onnx.advice import advise, within
from porter.rule import Status
from porter.targets import NAMES, Target

CODES = [r.code for r in catalog.load().rules if r.code.startswith("POR95")]
BRANCH = """import torch
from torch import nn


class Model(nn.Module):
    def forward(self, x: torch.Tensor):
        if x.sum() > 0:
            return x * 2
        return torch.linalg.svd(x)[1]
"""


def findings(text: str, *select: str) -> list[tuple[str, int]]:
    chosen = catalog.load().select(select, ())
    settled = engine.analyse(text, chosen, Target("npu")).settled
    return [(s.finding.rule, s.line) for s in settled if s.finding.rule.startswith("POR95")]


# On request -------------------------------------------------------------------------------------


def test_ten_rules() -> None:
    assert [f"POR95{n}" for n in range(10)] == CODES


@pytest.mark.parametrize("select", [(), ("ALL",), ("POR",), ("POR9",)])
def test_silent_unless_asked(select: tuple[str, ...]) -> None:
    assert findings(BRANCH, *select) == []


@pytest.mark.parametrize("select", [("POR95",), ("POR", "POR95"), ("POR951", "POR957")])
def test_asked_for(select: tuple[str, ...]) -> None:
    assert findings(BRANCH, *select) == [("POR951", 7), ("POR957", 9)]
    assert findings(BRANCH, "POR951") == [("POR951", 7)]


def test_files_are_read_for_it_only_if_asked() -> None:
    full = catalog.load()
    assert not full.select((), ()).marker.search(b"def forward(self, x):")
    assert full.select(("POR95",), ()).marker.search(b"def forward(self, x):")


def test_never_asks_for_work() -> None:
    chosen = catalog.load().select(("POR95",), ())
    for target in NAMES:
        for rule in chosen.rules:
            for example in rule.examples:
                settled = engine.analyse(example.before, chosen, Target(target)).settled
                assert {s.status for s in settled} <= {Status.INFORMATION}


def test_the_advice_of_one_file(tmp_path: Path) -> None:
    path = tmp_path / "model.py"
    path.write_text(BRANCH, encoding="utf-8")
    first, second = advise(path, Target("accelerator"), shown="model.py")
    assert (first.code, first.path, first.line, first.column) == ("POR951", "model.py", 7, 12)
    assert "torch.where" in first.text
    assert second.to_json()["source"] == "return torch.linalg.svd(x)[1]"
    path.write_text("def f(:\n", encoding="utf-8")
    assert advise(path, Target("accelerator")) == ()
    assert advise(tmp_path / "none.py", Target("accelerator")) == ()


def test_the_advice_on_the_classes_of_a_model(tmp_path: Path) -> None:
    (tmp_path / "model.py").write_text(f"{BRANCH}\n\n{BRANCH[BRANCH.index('class') :]}", "utf-8")
    found = within([["model.py", 12, 16]], tmp_path)
    assert [(a.code, a.path, a.line) for a in found] == [
        ("POR951", "model.py", 14), ("POR957", "model.py", 16),
    ]  # fmt: skip
    assert within([["none.py", 1, 9]], tmp_path) == []
    assert within([], tmp_path) == []


@pytest.mark.skipif(not importlib.util.find_spec("torch"), reason="needs torch")
def test_where_the_classes_of_a_model_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from porter.onnx.worker import build

    text = BRANCH + (
        "\n\nclass Whole(nn.Module):\n    def __init__(self):\n        super().__init__()\n"
        "        self.parts = nn.Sequential(Model(), nn.ReLU(), Model())\n"
    )
    (tmp_path / "standing.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    import standing  # type: ignore[import-not-found]

    found = build.classes(standing.Whole(), tmp_path)
    assert found == [["standing.py", 5, 9], ["standing.py", 12, 15]]


# What it looks at -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("body", "found"),
    [
        # Methods and functions that forward calls count, others do not.
        ("    def forward(self, x):\n        return self.g(x)\n\n    def g(self, x):\n"
         "        if x.sum() > 0:\n            return x\n", ["POR951"]),
        ("    def forward(self, x):\n        return x\n\n    def g(self, x):\n"
         "        if x.sum() > 0:\n            return x\n", []),
        # Not the words of a condition, but what they are.
        ("    def forward(self, x, scale=1.0):\n        if scale > 1:\n            return x\n", []),
        ("    def forward(self, xs: list[torch.Tensor]):\n        if not xs:\n"
         "            return 0\n", []),
        ("    def forward(self, x: 'torch.Tensor | None'):\n        if x > 0:\n"
         "            return 0\n", ["POR951"]),
        # Behind an exit that evaluation takes.
        ("    def forward(self, x):\n        if not self.training:\n            return x\n"
         "        return x + torch.rand_like(x)\n", []),
        # A name that is also something of Python.
        ("    def forward(self, x):\n        skip = False\n        if self.deep:\n"
         "            skip = x.sum() > 0\n        if skip:\n            return x\n", []),
    ],
)  # fmt: skip
def test_places(body: str, found: list[str]) -> None:
    text = f"import torch\nfrom torch import nn\n\n\nclass Model(nn.Module):\n{body}"
    assert [code for code, _ in findings(text, "POR95")] == found


def test_classes_of_the_file_and_of_packages() -> None:
    text = BRANCH.replace("class Model(nn.Module)", "class Model(Base)").replace(
        "\n\n\nclass", "\n\n\nclass Base(nn.Module):\n    pass\n\n\nclass"
    )
    assert len(findings(text, "POR95")) == 2
    text = BRANCH.replace(
        "from torch import nn", "from transformers import PreTrainedModel"
    ).replace("nn.Module", "PreTrainedModel")
    assert len(findings(text, "POR95")) == 2
    text = BRANCH.replace("class Model(nn.Module)", "class Model(torch.autograd.Function)")
    assert findings(text, "POR95") == []


# What the exporter does -------------------------------------------------------------------------

needs_exporter = pytest.mark.skipif(
    not all(importlib.util.find_spec(n) for n in ("torch", "onnx", "onnxscript", "onnxruntime")),
    reason="needs torch, onnx, onnxscript and onnxruntime",
)
#: Code of an example -> what the exporter must make of it: an error at the export ("fails"), other
#: numbers for another size ("freezes"), or other numbers at once ("differs").
MEASURED = {
    "POR950": "freezes", "POR951": "fails", "POR955": "differs", "POR956": "freezes",
    "POR957": "fails", "POR954": "fails",
}  # fmt: skip
RUN = """
import copy, io, json, logging, sys, warnings
import numpy, onnxruntime, torch

warnings.simplefilter("ignore")
logging.disable(logging.CRITICAL)


def outcome(source):
    space = {}
    exec(source, space)
    torch.manual_seed(0)
    model = space["Model"]().eval()
    fresh = copy.deepcopy(model)
    small, large = torch.randn(4, 4), torch.randn(6, 4)
    try:
        done = torch.onnx.export(
            model, (small,), dynamo=True, opset_version=18, verbose=False,
            dynamic_shapes=({0: torch.export.Dim.AUTO},),
        )
    except Exception:
        return "fails"
    buffer = io.BytesIO()
    done.save(buffer)
    session = onnxruntime.InferenceSession(buffer.getvalue(), providers=["CPUExecutionProvider"])
    same = []
    for x in (small, large):
        expected = fresh(x)
        try:
            (got,) = session.run(None, {session.get_inputs()[0].name: x.numpy()})
            same.append(got.shape == tuple(expected.shape)
                        and numpy.allclose(got, expected.numpy(), atol=1e-4))
        except Exception:
            same.append(False)
    return "equal" if all(same) else "differs" if not same[0] else "freezes"


found = {code: outcome(source) for code, source in json.load(sys.stdin).items()}
print("\\n" + json.dumps(found))
"""


def _examples(code: str) -> list[Any]:
    rule = catalog.load().get(code)
    assert rule is not None
    return [e for e in rule.examples if e.finding and "self, x: torch.Tensor)" in e.before]


@needs_exporter
def test_the_exporter_does_what_the_rules_say() -> None:
    sources = {code: _examples(code)[0].before for code in MEASURED}
    done = subprocess.run(
        [sys.executable, "-c", RUN], input=json.dumps(sources), capture_output=True, text=True,
        timeout=240,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr[-3000:]
    assert json.loads(done.stdout.splitlines()[-1]) == MEASURED
