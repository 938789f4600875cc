"""The action for GitHub: its shell steps are run as the runner does, with what they are given."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

yaml = pytest.importorskip("yaml")
pytestmark = pytest.mark.skipif(
    shutil.which("bash") is None or shutil.which("git") is None, reason="needs bash and git"
)

ROOT = Path(__file__).parent.parent
CODE = "import torch\n\n\ndef f(x, a):\n    return x.cuda(*a)\n"
_EXPRESSION = re.compile(r"\$\{\{\s*([\w.-]+)\s*\}\}")


def action() -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    return found


def git(*arguments: str, cwd: Path) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


@dataclass
class Runner:
    """A runner that knows this action only: no marketplace, no network."""

    repository: Path
    inputs: dict[str, str]
    outputs: dict[str, str] = field(default_factory=dict)
    printed: str = ""

    @property
    def temporary(self) -> Path:
        return self.repository.parent / "temporary folder"

    def value(self, text: str) -> str:
        """What the runner puts in place of its expressions."""
        known = {f"inputs.{name}": value for name, value in self.inputs.items()}
        known |= {f"steps.check.outputs.{name}": value for name, value in self.outputs.items()}
        known["github.action_path"] = str(self.repository.parent / "the action")
        return _EXPRESSION.sub(lambda found: known.get(found[1], ""), text)

    def step(self, name: str, **more: str) -> int:
        """Run a step; returns its exit code."""
        step = next(s for s in action()["runs"]["steps"] if s.get("name") == name)
        self.temporary.mkdir(exist_ok=True)
        files = {
            variable: str(self.temporary / variable.lower())
            for variable in ("GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY", "GITHUB_ENV", "GITHUB_PATH")
        }
        environment = {
            **os.environ, **files, **more, "RUNNER_TEMP": str(self.temporary),
            **{name: self.value(str(value)) for name, value in step.get("env", {}).items()},
        }  # fmt: skip
        script = self.temporary / "script.sh"
        script.write_text(self.value(step["run"]))
        done = subprocess.run(
            ["bash", "--noprofile", "--norc", "-eo", "pipefail", str(script)],
            cwd=self.repository, env=environment, timeout=300, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT, errors="surrogateescape",
        )  # fmt: skip
        self.printed = done.stdout
        said = Path(files["GITHUB_OUTPUT"])
        if said.exists():
            self.outputs = dict(line.split("=", 1) for line in said.read_text().splitlines())
        return done.returncode

    def summary(self) -> str:
        return (self.temporary / "github_step_summary").read_text("utf-8")


def run(repository: Path, **inputs: str) -> Runner:
    """Run the check with the porter of this tree."""
    defaults = {name: str(i.get("default", "")) for name, i in action()["inputs"].items()}
    runner = Runner(repository, defaults | {k.replace("_", "-"): v for k, v in inputs.items()})
    shutil.rmtree(runner.temporary, ignore_errors=True)
    runner.temporary.mkdir()
    program = runner.temporary / "a porter"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m porter "$@"\n')
    program.chmod(0o755)
    assert runner.step("Check", PORTER=str(program)) == 0, runner.printed
    return runner


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


def test_other_actions_are_pinned_to_commits() -> None:
    text = (ROOT / "action.yml").read_text("utf-8")
    used = re.findall(r"uses: (\S+)(.*)", text)
    assert used
    for name, comment in used:
        assert re.fullmatch(r"[\w-]+/[\w/-]+@[0-9a-f]{40}", name)
        assert re.fullmatch(r" # v\d+\.\d+\.\d+", comment), "people read versions"


def test_a_whole_repository(repository: Path) -> None:
    runner = run(repository, paths="src")
    outputs = runner.outputs
    assert (outputs["code"], outputs["verdict"]) == ("1", "BLOCKED")
    log = json.loads(Path(outputs["sarif"]).read_bytes())
    artifact = log["runs"][0]["results"][0]["locations"][0]["physicalLocation"]["artifactLocation"]
    assert artifact["uri"] == "src/a.py", "relative to the repository, as code scanning wants it"
    assert "::error title=porter (POR101),file=src/a.py,line=5" in runner.printed
    assert "BLOCKED" in runner.summary()
    assert Path(outputs["html"]).read_text("utf-8").startswith("<!DOCTYPE html>")
    assert runner.step("Result") == 1
    runner.outputs["code"] = ""
    assert runner.step("Result") == 2, "a step that never got so far has failed"


def test_a_pull_request(repository: Path) -> None:
    git("checkout", "-qb", "topic", cwd=repository)
    (repository / "src" / "a.py").write_text("# moved\n" + CODE)
    git("commit", "-qam", "y", cwd=repository)
    runner = run(repository, paths="src", base="main")
    assert runner.outputs["code"] == "0", "what was there before does not fail"
    assert "no finding is new" in runner.summary()
    (repository / "src" / "b.py").write_text(CODE)
    git("add", ".", cwd=repository)
    git("commit", "-qm", "z", cwd=repository)
    runner = run(repository, paths="src", base="main")
    assert runner.outputs["code"] == "1"
    assert "`src/b.py:5:12`" in runner.summary()
    worktrees = repository / ".git" / "worktrees"
    assert not worktrees.exists() or not any(worktrees.iterdir())


def test_names_and_inputs_run_nothing(repository: Path) -> None:
    evil = [
        "$(touch pwned).py", "`touch pwned`.py", "a; touch pwned;.py", "-q.py", "' \" b.py",
        "x\n::error::made up\n.py", "y\n::set-output name=verdict::READY.py",
    ]  # fmt: skip
    for name in evil:
        (repository / "src" / name).write_text(CODE + f"# {name.splitlines()[-1]}\n")
    git("add", ".", cwd=repository)
    git("commit", "-qm", "evil", cwd=repository)
    runner = run(repository, paths="src\n$(touch pwned)\n", fail="false")
    assert runner.outputs["code"] == "2", "there is no such folder, and nothing else happened"
    runner = run(repository, paths="src", base="--output=pwned", fail="false")
    assert runner.outputs["code"] == "0"
    assert "::warning title=porter::The base could not be checked" in runner.printed
    assert not list(repository.parent.rglob("pwned"))
    assert runner.outputs["verdict"] == "BLOCKED"
    data = json.loads(Path(runner.outputs["report"]).read_bytes())
    assert {s["path"] for s in data["sites"]} == {"a.py", *evil}
    # Between these lines the runner takes nothing for a command.
    stop, token = re.match(r"::stop-commands::((\w{32}))\n", runner.printed).groups()  # type: ignore[union-attr]
    outside = re.sub(rf"(?s)::stop-commands::{stop}\n.*?::{token}::\n", "", runner.printed)
    for line in outside.splitlines():
        assert re.match(r"::(error|warning|notice) title=porter", line), line


def test_a_mistake_is_told(repository: Path) -> None:
    runner = run(repository, paths="nowhere")
    assert runner.outputs["code"] == "2"
    assert "sarif" not in runner.outputs
    assert "no such file or folder: nowhere" in runner.printed


def test_installation(repository: Path) -> None:
    """From the folder of the action, whose name holds a blank; here a stand-in without needs."""
    package = repository.parent / "the action"
    package.mkdir()
    (package / "pyproject.toml").write_text(
        '[build-system]\nrequires = ["setuptools"]\nbuild-backend = "setuptools.build_meta"\n'
        '[project]\nname = "stand-in"\nversion = "1"\n'
        '[project.scripts]\nporter = "stand_in:main"\n[tool.setuptools]\npy-modules = ["stand_in"]\n'
    )
    (package / "stand_in.py").write_text('def main():\n    print("here")\n')
    runner = Runner(repository, {"version": ""})
    python = runner.temporary / "bin"
    python.mkdir(parents=True)
    (python / "python").symlink_to(sys.executable)
    path = os.pathsep.join([str(python), os.environ["PATH"]])
    assert runner.step("Install porter", PATH=path) == 0, runner.printed
    program = runner.temporary / "porter" / "bin" / "porter"
    assert subprocess.run([program], capture_output=True, text=True).stdout == "here\n"
