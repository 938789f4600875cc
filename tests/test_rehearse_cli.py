"""`porter rehearse` as a command."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path

import pytest

HAS_TORCH = importlib.util.find_spec("torch") is not None

RUNS = """
import torch

device = torch.accelerator.current_accelerator()
x = torch.ones(4, device=device)
print((x + x).sum().item())
"""
FAILS = "import torch\nx = torch.ones(4).cuda()\n"


def porter(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porter", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.mark.skipif(HAS_TORCH, reason="torch is installed")
def test_without_torch_one_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(RUNS)
    done = porter("rehearse", "a.py", cwd=tmp_path)
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert "pip install" in done.stderr


@pytest.mark.skipif(not HAS_TORCH, reason="needs an installed torch")
def test_verdicts(tmp_path: Path) -> None:
    (tmp_path / "runs.py").write_text(RUNS)
    (tmp_path / "fails.py").write_text(FAILS)
    good = porter("rehearse", "runs.py", cwd=tmp_path)
    assert good.returncode == 0, good.stderr
    assert good.stdout.startswith("RAN")
    assert "8.0" in good.stderr
    bad = porter("rehearse", "--output-format", "json", "fails.py", cwd=tmp_path)
    assert bad.returncode == 1
    assert "fails.py:2" in json.dumps(json.loads(bad.stdout))
    assert porter("rehearse", "missing.py", cwd=tmp_path).returncode == 2
