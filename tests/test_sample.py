"""The sample repository: migrated as a whole, it is settled, and it trains on a CPU."""

from __future__ import annotations

import ast
import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from porter.targets import NAMES

SAMPLE = Path(__file__).parents[1] / "fixtures" / "sample"
#: What is left for a person on each target: the site's rule and file.
LEFT = {
    "accelerator": {
        ("POR010", "requirements.txt"),
        ("POR202", "train.py"),
        ("POR852", "explore.ipynb"),
    },
    # torch_npu exists for torch 2.1, so that bound is no obstacle there.
    "npu": {("POR202", "train.py"), ("POR834", "requirements.txt")},
}


def porter(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porter", *arguments], cwd=cwd, capture_output=True, text=True
    )


@pytest.fixture(params=NAMES)
def migrated(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, Path]:
    """A target, and a copy of the sample migrated to it."""
    out = tmp_path / "out"
    done = porter(
        "migrate", str(SAMPLE), "-o", str(out), "--target", request.param, "--report", "r.json",
        cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    return request.param, out


def test_what_is_left_is_what_must_be(migrated: tuple[str, Path], tmp_path: Path) -> None:
    target, _ = migrated
    report = json.loads((tmp_path / "r.json").read_text())
    left = {(s["rule"], s["path"]) for s in report["sites"] if s["status"] == "left"}
    assert left == LEFT[target]
    assert report["summary"]["files"]["failed"] == 0
    assert report["summary"]["sites"]["rewritten"] > 30


def test_a_second_run_changes_nothing(migrated: tuple[str, Path]) -> None:
    target, out = migrated
    done = porter("migrate", ".", "--diff", "--target", target, cwd=out)
    assert done.stdout == ""


def test_what_was_not_rewritten_stays(migrated: tuple[str, Path]) -> None:
    _, out = migrated
    for name in ("README.md", "requirements.txt", "pyproject.toml"):
        assert (out / name).read_bytes() == (SAMPLE / name).read_bytes()
    before, after = (json.loads((p / "explore.ipynb").read_text()) for p in (SAMPLE, out))
    assert before.keys() == after.keys()
    assert [c["id"] for c in before["cells"]] == [c["id"] for c in after["cells"]]
    for path in out.glob("*.py"):
        ast.parse(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("options", [[], ["--amp"]], ids=["plain", "amp"])
def test_the_result_trains_on_a_cpu(tmp_path: Path, options: list[str]) -> None:
    pytest.importorskip("torch", reason="needs an installed torch")
    out = tmp_path / "out"
    porter("migrate", str(SAMPLE), "-o", str(out), cwd=tmp_path)
    train = [sys.executable, "train.py", "--workers", "0", "--steps", "12", *options]
    saving = subprocess.run(
        [*train, "--epochs", "2", "--checkpoint", "last.pt"],
        cwd=out,
        capture_output=True,
        text=True,
    )
    assert saving.returncode == 0, saving.stderr
    resuming = subprocess.run(
        [*train, "--epochs", "1", "--checkpoint", "last.pt", "--resume"],
        cwd=out,
        capture_output=True,
        text=True,
    )
    assert resuming.returncode == 0, resuming.stderr
    assert float(resuming.stdout.split()[-1]) > 0.9, "it learns, and goes on from the checkpoint"


def test_the_original_needs_cuda(tmp_path: Path) -> None:
    torch = pytest.importorskip("torch", reason="needs an installed torch")
    if torch.cuda.is_available():
        pytest.skip("has CUDA")
    shutil.copytree(SAMPLE, tmp_path / "sample")
    done = subprocess.run(
        [sys.executable, "train.py", "--workers", "0", "--steps", "1"],
        cwd=tmp_path / "sample",
        capture_output=True,
        text=True,
    )
    assert done.returncode != 0
