"""`porter rehearse` as a command."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

HAS_TORCH = importlib.util.find_spec("torch") is not None

RUNS = """
import torch

device = torch.accelerator.current_accelerator()
x = torch.ones(4, device=device)
print((x + x).sum().item())
"""
FAILS = "import torch\nx = torch.ones(4).cuda()\n"


def porter(*arguments: str, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porter", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **more,
    )


@pytest.mark.skipif(HAS_TORCH, reason="torch is installed")
def test_without_torch_one_line_says_what_to_install(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(RUNS)
    # No other Python that might have it is on the way.
    done = porter("rehearse", "a.py", cwd=tmp_path, env={**os.environ, "PATH": ""})
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
    assert porter("rehearse", "--hardware", "A99", "runs.py", cwd=tmp_path).returncode == 2


@pytest.mark.skipif(not HAS_TORCH, reason="needs an installed torch")
def test_a_verdict_goes_into_a_report(tmp_path: Path) -> None:
    (tmp_path / "fails.py").write_text(FAILS)
    porter("check", "fails.py", "--report", "report.json", cwd=tmp_path)
    early = porter("rehearse", "--report-into", "no.json", "fails.py", cwd=tmp_path)
    assert early.returncode == 2
    assert "Traceback" not in early.stderr, "the script must not have run"
    done = porter("rehearse", "--report-into", "report.json", "fails.py", cwd=tmp_path)
    assert done.returncode == 1
    shown = porter("report", "report.json", cwd=tmp_path).stdout
    assert "rehearsal: fails.py on the simulated npu: failed" in shown
    assert shown.startswith("AFTER REVIEW")
    # The same from the file of a rehearsal.
    alone = porter("rehearse", "--output-format", "json", "fails.py", cwd=tmp_path)
    (tmp_path / "r.json").write_text(alone.stdout)
    porter("check", "fails.py", "--report", "report.json", cwd=tmp_path)
    merged = porter("report", "report.json", "--with", "r.json", cwd=tmp_path)
    assert merged.stdout == shown
