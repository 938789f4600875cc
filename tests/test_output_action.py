"""The action for GitHub: its steps, and its script run as the runner does."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")
pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or shutil.which("git") is None, reason="needs bash and git"
)

ROOT = Path(__file__).parent.parent
CODE = "import torch\n\n\ndef f(x, a):\n    return x.cuda(*a)\n"


def action() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    return found


def script() -> str:
    return str(next(s for s in action()["runs"]["steps"] if s.get("id") == "check")["run"])


def git(*arguments: str, cwd: Path) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


def run(repository: Path, **inputs: str) -> tuple[dict[str, str], str]:
    """Run the script; returns its outputs and the summary."""
    temporary = repository.parent / "temporary"
    shutil.rmtree(temporary, ignore_errors=True)
    (temporary / "bin").mkdir(parents=True)
    program = temporary / "bin" / "porter"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m porter "$@"\n')
    program.chmod(0o755)
    defaults = {"PATHS": ".", "FAIL": "true"}
    names = ("PATHS", "TARGET", "MIN_TORCH", "BASELINE", "BASE", "FAIL")
    environment = {
        **os.environ, **dict.fromkeys(names, ""), **defaults, **inputs,
        "PORTER": str(program), "RUNNER_TEMP": str(temporary),
        "GITHUB_OUTPUT": str(temporary / "output"), "GITHUB_STEP_SUMMARY": str(temporary / "md"),
    }  # fmt: skip
    done = subprocess.run(
        ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", script()],
        cwd=repository, env=environment, capture_output=True, text=True, timeout=180,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    lines = (temporary / "output").read_text().splitlines()
    outputs = dict(line.split("=", 1) for line in lines)
    summary = (temporary / "md").read_text("utf-8") if (temporary / "md").exists() else ""
    return outputs | {"printed": done.stdout}, summary


@pytest.fixture
def repository(tmp_path: Path) -> Path:
    folder = tmp_path / "repository"
    (folder / "src").mkdir(parents=True)
    (folder / "src" / "a.py").write_text(CODE)
    git("init", "-q", "-b", "main", cwd=folder)
    git("add", ".", cwd=folder)
    git("commit", "-qm", "x", cwd=folder)
    return folder


def test_inputs_reach_scripts_as_variables_only() -> None:
    found = action()
    assert found["runs"]["using"] == "composite"
    for step in found["runs"]["steps"]:
        assert "${{" not in step.get("run", "")
        if "run" in step:
            assert step["shell"] == "bash"
    used = set(re.findall(r"inputs\.([\w-]+)", (ROOT / "action.yml").read_text("utf-8")))
    assert used == set(found["inputs"])
    assert all(i.get("description") for i in found["inputs"].values())


def test_a_whole_repository(repository: Path) -> None:
    outputs, summary = run(repository, PATHS="src")
    assert (outputs["code"], outputs["verdict"]) == ("1", "BLOCKED")
    log = json.loads(Path(outputs["sarif"]).read_bytes())
    artifact = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact["uri"] == "src/a.py", "relative to the repository, as code scanning wants it"
    assert "::error title=porter (POR101),file=src/a.py,line=5" in outputs["printed"]
    assert "BLOCKED" in summary
    assert Path(outputs["html"]).read_text("utf-8").startswith("<!DOCTYPE html>")
    assert run(repository, FAIL="false")[0]["code"] == "0"


def test_a_pull_request(repository: Path) -> None:
    git("checkout", "-qb", "topic", cwd=repository)
    (repository / "src" / "a.py").write_text("# moved\n" + CODE)
    git("commit", "-qam", "y", cwd=repository)
    outputs, summary = run(repository, PATHS="src", BASE="main")
    assert outputs["code"] == "0", "what was there before does not fail"
    assert "no finding is new" in summary
    (repository / "src" / "b.py").write_text(CODE)
    git("add", ".", cwd=repository)
    git("commit", "-qm", "z", cwd=repository)
    outputs, summary = run(repository, PATHS="src", BASE="main")
    assert outputs["code"] == "1"
    assert "`src/b.py:5:12`" in summary
    assert not (repository / ".git" / "worktrees").exists() or not any(
        (repository / ".git" / "worktrees").iterdir()
    )


def test_a_mistake_is_told(repository: Path) -> None:
    outputs, _ = run(repository, PATHS="nowhere")
    assert outputs["code"] == "2"
    assert "sarif" not in outputs
