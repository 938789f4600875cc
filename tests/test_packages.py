"""Findings about packages: the table behind them, and what counts as which."""

from __future__ import annotations

import pytest

from porter import catalog, engine
from porter.engine import Settled
from porter.rewrites import packages
from porter.rule import Category, Status
from porter.scan import may_match
from porter.targets import Target

CATALOG = catalog.load()
STATUSES = {"native", "adapter", "partial", "replace", "agnostic-works", "none", "unverified"}


def findings(
    text: str, target: str = "npu", dotted: str = "", prefix: str = "POR82"
) -> list[Settled]:
    assert may_match(text.encode(), CATALOG.marker), "the file would not even be read"
    outcome = engine.analyse(text, CATALOG, Target(target), dotted=dotted)
    return [s for s in outcome.settled if s.finding.rule.startswith(prefix)]


def test_rows_are_complete() -> None:
    rows = packages.packages()
    assert len(rows) == 86
    assert packages.read() == "2026-11-24"
    for row in rows:
        assert row.status in STATUSES, row.name
        assert row.imports, row.name
        # Nothing is verified without evidence, and "unverified" says that there is none.
        assert not row.verified or row.evidence, row.name
        assert row.status != "unverified" or not row.verified, row.name
        assert packages.describe(row) if row.status != "agnostic-works" else True


def test_unverified_rows_are_shown_as_such() -> None:
    for row in packages.packages():
        if not row.verified and row.status != "agnostic-works":
            assert "verified" in packages.describe(row), row.name


def test_one_finding_for_a_statement_with_its_uses() -> None:
    (only,) = findings("from cupy import zeros, ones\nx = zeros(3)\ny = ones(3) + zeros(1)\n")
    assert only.line == 1
    assert "(used 3 times here)" in only.finding.reason
    assert only.finding.category is Category.POTENTIAL  # the row is not verified


@pytest.mark.parametrize(
    ("text", "category"),
    [
        ("import xformers\n", Category.MANDATORY),
        (
            "try:\n    import xformers\nexcept ImportError:\n    xformers = None\n",
            Category.POTENTIAL,
        ),
        ("import sys\nif sys.argv:\n    import xformers\n", Category.POTENTIAL),
        ("def f():\n    import xformers\n", Category.MANDATORY),
        ("import deepspeed\n", Category.INFORMATION),
        ("import horovod\n", Category.POTENTIAL),
        ("import bitsandbytes\n", Category.POTENTIAL),
    ],
)
def test_category(text: str, category: Category) -> None:
    (only,) = findings(text)
    assert only.finding.category is category


def test_the_accelerator_target_keeps_cuda() -> None:
    (only,) = findings("import xformers\n", "accelerator")
    assert only.finding.category is Category.POTENTIAL


def test_a_native_package_is_named_once() -> None:
    assert len(findings("import deepspeed\nfrom deepspeed import comm\n")) == 1


@pytest.mark.parametrize(
    ("text", "dotted"),
    [
        ("from triton.language import load\n", "triton.runtime"),
        ("from . import triton\n", "pack.kernels"),
        ("import awq.tools\n", "awq.main"),
    ],
)
def test_own_modules_are_no_packages(text: str, dotted: str) -> None:
    assert findings(text, dotted=dotted) == []


def test_neutral_packages_are_not_named() -> None:
    text = "import torch, transformers, torchvision, faiss, onnxruntime  # cuda\nx = 'cuda'\n"
    assert findings(text) == []


def test_the_trainer_counts_unless_it_names_its_accelerator() -> None:
    plain = "import pytorch_lightning as pl\nt = pl.Trainer()\n"
    assert [s.finding.rule for s in findings(plain)] == ["POR822"]
    assert findings('import pytorch_lightning as pl\nt = pl.Trainer(accelerator="gpu")\n') == []


def test_uses_of_an_optional_import_are_potential() -> None:
    text = (
        "try:\n    from apex import amp\nexcept ImportError:\n    amp = None\n\n\n"
        "def f(m, o):\n    return amp.initialize(m, o)\n"
    )
    assert {s.finding.category for s in findings(text, prefix="POR824")} == {Category.POTENTIAL}


@pytest.mark.parametrize(
    "call",
    [
        "flash_attn_func(q, k, v, causal=True)",
        "flash_attn_func(q, k, v, causal=flag)",
        "flash_attn_func(q, k, v, window_size=(128, 0))",
        "flash_attn_func(q, k, v, softcap=30.0)",
        "flash_attn_func(q, k, v, return_attn_probs=True)",
        "flash_attn_func(*qkv)",
        "flash_attn_func(q, k, v, **options)",
        "partial(flash_attn_func, causal=True)",
    ],
)
def test_flash_attention_that_torch_cannot_do_alike_is_left(call: str) -> None:
    text = (
        "import torch\nfrom functools import partial\nfrom flash_attn import flash_attn_func\n\n\n"
        f"def f(q, k, v, qkv, flag, options):\n    return {call}\n"
    )
    outcome = engine.analyse(text, CATALOG, Target("npu"), unsafe=True)
    assert outcome.text == text
    assert any(s.finding.rule == "POR823" and s.status is Status.LEFT for s in outcome.settled)


def test_default_arguments_do_not_stop_the_rewrite() -> None:
    text = (
        "import torch\nfrom flash_attn import flash_attn_func\n\n\n"
        "def f(q, k, v):\n"
        "    return flash_attn_func(q, k + 1, v, 0.1, None, False, window_size=(-1, -1))\n"
    )
    outcome = engine.analyse(text, CATALOG, Target("npu"), unsafe=True)
    assert (
        "scaled_dot_product_attention(q.transpose(1, 2), (k + 1).transpose(1, 2), "
        "v.transpose(1, 2), dropout_p=0.1, scale=None).transpose(1, 2).contiguous()"
    ) in outcome.text
    assert "flash_attn" not in outcome.text


def test_rewritten_attention_computes_the_same() -> None:
    torch = pytest.importorskip("torch")
    q, k, v = (torch.randn(2, 5, 3, 4) for _ in range(3))
    weights = torch.einsum("bqhd,bkhd->bhqk", q, k).mul(4**-0.5).softmax(-1)
    expected = torch.einsum("bhqk,bkhd->bqhd", weights, v)
    written = (
        torch.nn.functional.scaled_dot_product_attention(
            q.transpose(1, 2), k.transpose(1, 2), v.transpose(1, 2), dropout_p=0.0, scale=None
        )
        .transpose(1, 2)
        .contiguous()
    )
    assert torch.allclose(written, expected, atol=1e-5)
    assert written.shape == q.shape
    assert written.is_contiguous()
