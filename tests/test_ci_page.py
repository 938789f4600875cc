"""The configurations that docs/ci.md shows: what they name exists, and the GitLab job runs."""

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

ROOT = Path(__file__).parent.parent
PAGE = (ROOT / "docs" / "ci.md").read_text("utf-8")


def shown(section: str) -> Any:
    """The first YAML of a section."""
    text = PAGE.split(f"\n## {section}\n")[1].split("\n## ")[0]
    found = re.search(r"```yaml\n(.*?)```", text, re.DOTALL)
    assert found is not None
    return yaml.safe_load(found[1])


def test_the_hooks_exist() -> None:
    hooks = {h["id"]: h for h in yaml.safe_load((ROOT / ".pre-commit-hooks.yaml").read_text())}
    (repository,) = shown("pre-commit")["repos"]
    assert {hook["id"] for hook in repository["hooks"]} == set(hooks)
    for hook in hooks.values():
        assert hook["language"] == "python"
        assert hook["require_serial"], "one porter uses all processors by itself"
        assert "--force-exclude" in hook["entry"]
        assert hook["types"] == ["text"], "porter chooses; a list here would miss files"


def test_the_action_has_these_inputs_and_outputs() -> None:
    action = yaml.safe_load((ROOT / "action.yml").read_text("utf-8"))
    steps = shown("GitHub")["jobs"]["porter"]["steps"]
    mine = next(s for s in steps if s.get("id") == "porter")
    assert set(mine["with"]) <= set(action["inputs"])
    used = set(re.findall(r"steps\.porter\.outputs\.(\w+)", json.dumps(steps)))
    assert used <= set(action["outputs"])
    assert all("${{" not in step.get("run", "") for step in steps)
    text = PAGE.split("\n## GitHub\n")[1].split("\n## ")[0]
    named = set(re.findall(r"`([\w-]+)`", " ".join(re.findall(r"(?m)^\| (`.*?) \|", text))))
    assert named == set(action["inputs"]) | (set(action["outputs"]) & named)
    assert set(action["outputs"]) - named == set(), "every output is described"


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_the_gitlab_job(tmp_path: Path) -> None:
    job = shown("GitLab")["porter"]
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "porter").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m porter "$@"\n')
    (tools / "porter").chmod(0o755)
    project = tmp_path / "project"
    project.mkdir()
    (project / "a.py").write_text("import torch\n\n\ndef f(x):\n    return x.cuda()\n")
    install, *script = job["script"]
    assert install.startswith("pip install ")
    environment = {**os.environ, "PATH": os.pathsep.join([str(tools), os.environ["PATH"]])}
    done = subprocess.run(
        ["bash", "-eo", "pipefail", "-c", "\n".join(script)],
        cwd=project, env=environment, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (issue,) = json.loads((project / job["artifacts"]["reports"]["codequality"]).read_bytes())
    assert (issue["check_name"], issue["location"]["path"]) == ("POR101", "a.py")
    for path in job["artifacts"]["paths"]:
        assert (project / path).stat().st_size
