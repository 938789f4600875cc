"""From the first commit to the comment on a pull request, with the real git and pre-commit.

pre-commit clones the hooks from a repository made of this tree and installs them with pip into an
environment of its own; that takes most of the time (about half a minute).
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
    pytest.mark.skipif(
        importlib.util.find_spec("pre_commit") is None, reason="pre-commit is not installed"
    ),
]

ROOT = Path(__file__).parent.parent
CLEAN = "import torch\n\n\ndef train(model, data):\n    for batch in data:\n        model(batch)\n"
BOUND = (
    "import torch\n\n\ndef train(model, data):\n    model = model.cuda()\n    for batch in data:\n"
    "        model(batch.cuda())\n    torch.cuda.synchronize()\n"
)
GAP = "\n\ndef place(x, where):\n    return x.cuda(*where)\n"
CHECK = "      - id: porter-check\n"
MANUAL = "      - id: porter-migrate\n        stages: [manual]\n"


class Repository:
    """A throwaway repository whose hooks are those of this tree."""

    def __init__(self, folder: Path, hooks: Path, environment: dict[str, str]) -> None:
        self.folder = folder
        self.environment = environment
        self._hooks = hooks
        folder.mkdir()
        self.git("init", "-q", "-b", "main")
        self.write("src/train.py", CLEAN)
        self.write("README.md", "# Trains on cuda\n")

    def configure(self, *hooks: str) -> None:
        head = self._revision()
        self.write(
            ".pre-commit-config.yaml",
            f"repos:\n  - repo: {self._hooks.as_posix()}\n    rev: {head}\n    hooks:\n"
            + "".join(hooks),
        )
        self.run("-m", "pre_commit", "install", "--install-hooks", "--overwrite")

    def _revision(self) -> str:
        command = ["git", "rev-parse", "HEAD"]
        done = subprocess.run(command, cwd=self._hooks, check=True, capture_output=True, text=True)
        return done.stdout.strip()

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def git(self, *arguments: str) -> str:
        return self._done(["git", *arguments]).stdout

    def run(self, *arguments: str, code: int = 0) -> str:
        done = self._done([sys.executable, *arguments], check=False)
        assert done.returncode == code, done.stdout + done.stderr
        return done.stdout + done.stderr

    def shell(self, script: str) -> None:
        self._done(["bash", "-c", script], check=False)

    def commit(self, message: str) -> tuple[bool, str]:
        """Whether a commit of everything passes, and what its user reads."""
        self.git("add", "-A")
        done = self._done(["git", "commit", "-m", message], check=False)
        return done.returncode == 0, done.stdout + done.stderr

    def head(self) -> str:
        return self.git("log", "-1", "--format=%s").strip()

    def _done(self, command: list[str], *, check: bool = True) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            command, cwd=self.folder, env=self.environment, check=check, capture_output=True,
            text=True, errors="surrogateescape", timeout=300,
        )  # fmt: skip


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the hooks' repository and what pre-commit installs."""
    folder = tmp_path_factory.mktemp("story")
    hooks = folder / "hooks"
    hooks.mkdir()
    for name in (".pre-commit-hooks.yaml", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, hooks)
    for name in ("porter", "rewrites"):
        unwanted = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / name, hooks / name, ignore=unwanted)
    environment = {**os.environ, **IDENTITY}
    for arguments in (["init", "-q"], ["add", "-A", "-f"], ["commit", "-qm", "hooks"]):
        subprocess.run(["git", *arguments], cwd=hooks, check=True, env=environment)
    return folder


IDENTITY = {
    f"GIT_{who}_{what}": value
    for who in ("AUTHOR", "COMMITTER")
    for what, value in (("NAME", "t"), ("EMAIL", "t@example.org"))
} | {"GIT_CONFIG_GLOBAL": os.devnull, "GIT_CONFIG_NOSYSTEM": "1"}


@pytest.fixture
def repository(home: Path, tmp_path: Path) -> Repository:
    # As on a user's machine: porter is not on the path.
    kept = [p for p in os.environ["PATH"].split(os.pathsep) if not (Path(p) / "porter").exists()]
    tools = tmp_path / "tools"
    tools.mkdir()
    (tools / "pre-commit").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m pre_commit "$@"\n')
    (tools / "pre-commit").chmod(0o755)
    environment = {
        **os.environ, **IDENTITY, "PRE_COMMIT_HOME": str(home / "home"), "PRE_COMMIT_COLOR": "never",
        "PORTER_CACHE_DIR": str(home / "cache"), "PATH": os.pathsep.join([str(tools), *kept]),
    }  # fmt: skip
    return Repository(tmp_path / "project", home / "hooks", environment)


def offered(text: str) -> str:
    """The commands under "To rewrite ...", as a user copies them."""
    block = text.split("then commit again:\n")[1]
    found = re.match(r"(?:  .*\n)+", block)
    assert found is not None
    return found.group()


@pytest.mark.parametrize("hooks", [(CHECK,), (CHECK, MANUAL)], ids=["check", "check and migrate"])
def test_stopped_fixed_and_through(repository: Repository, hooks: tuple[str, ...]) -> None:
    repository.configure(*hooks)
    passed, said = repository.commit("Start")
    assert passed, said
    repository.write("src/train.py", BOUND)
    passed, said = repository.commit("Train on CUDA")
    assert not passed
    assert repository.head() == "Start"
    assert re.search(r"(?m)^src/train\.py:5:\d+: POR101 \[\*\] cuda-method-call$", said)
    assert "-     model = model.cuda()" in said
    assert "+     model = model.to(" in said
    assert "Traceback" not in said
    script = offered(said)
    assert ("pre-commit run porter-migrate" in script) == (len(hooks) == 2)
    repository.shell(script)
    assert ".cuda" not in (repository.folder / "src" / "train.py").read_text()
    passed, said = repository.commit("Train on any accelerator")
    assert passed, said
    assert repository.head() == "Train on any accelerator"
    assert repository.git("status", "--porcelain") == ""


def test_what_a_person_must_do_is_said_and_can_be_accepted(repository: Repository) -> None:
    repository.configure(CHECK)
    repository.write("src/train.py", CLEAN + GAP)
    repository.write("run.sh", "#!/bin/sh\nnvidia-smi | grep Tesla\n")
    passed, said = repository.commit("Place")
    assert not passed
    assert "run.sh:2:1: POR852 cuda-tool-in-command: " in said
    assert "arguments are hidden behind a star; write .to(device) by hand" in said
    explain = next(line for line in said.splitlines() if line.endswith("rule POR101"))
    done = subprocess.run(
        ["bash", "-c", explain], env=repository.environment, capture_output=True, text=True
    )
    assert done.stdout.startswith("POR101 cuda-method-call")
    text = (CLEAN + GAP).replace("*where)", "*where)  # porter: ignore[POR101] the old cluster")
    repository.write("src/train.py", text)
    repository.write("run.sh", "#!/bin/sh\n# porter: ignore[POR852] the old cluster\nnvidia-smi\n")
    passed, said = repository.commit("Place")
    assert passed, said


def test_only_code_of_the_project_stops_a_commit(repository: Repository) -> None:
    repository.configure(CHECK)
    repository.write("pyproject.toml", '[tool.porter]\nexclude = ["legacy/"]\n')
    repository.write("legacy/old.py", BOUND)
    repository.write("vendor/theirs.py", BOUND)
    repository.write("notes.txt", "torch.cuda.synchronize()\n")
    repository.write("a b.py", CLEAN)
    passed, said = repository.commit("Add")
    assert passed, said
    (repository.folder / "a b.py").unlink()
    repository.write("new\nline.py", BOUND)
    repository.write("requirements/base.txt", "cupy-cuda12x\n")
    repository.write("Dockerfile", "FROM nvidia/cuda:12.1.0-devel-ubuntu22.04\n")
    repository.write("ci/test.yml", 'env:\n  CUDA_VISIBLE_DEVICES: "0"\n')
    passed, said = repository.commit("More")
    assert not passed
    for name in ("new\\nline.py:5:", "requirements/base.txt:1:", "Dockerfile:1:", "ci/test.yml:2:"):
        assert name in said, said
    repository.shell(offered(said))
    assert ".cuda" not in (repository.folder / "new\nline.py").read_text()


def test_the_rewriting_hook_alone(repository: Repository) -> None:
    repository.configure("      - id: porter-migrate\n        args: [--target, npu]\n")
    repository.write("src/train.py", BOUND)
    passed, said = repository.commit("Train")
    assert not passed
    assert "files were modified by this hook" in said
    assert "1 file changed, 3 sites rewritten" in said
    passed, said = repository.commit("Train")
    assert passed, said
    assert "model.npu()" in repository.git("show", "HEAD:src/train.py")


def test_a_pull_request_is_compared_with_its_base(repository: Repository) -> None:
    porter = ("-m", "porter")
    repository.write("src/train.py", BOUND + GAP)
    repository.git("add", "-A")
    repository.git("commit", "-qm", "Base")
    repository.run(*porter, "check", ".", "-q", "--report", "../base.json", code=1)
    repository.git("checkout", "-qb", "topic")
    repository.run(*porter, "migrate", ".", code=1)
    repository.write("src/more.py", "# moved\n" + CLEAN + GAP.replace("place", "move"))
    repository.git("add", "-A")
    repository.git("commit", "-qm", "Head")
    repository.run(*porter, "check", ".", "-q", "--report", "../head.json", code=1)
    compare = (*porter, "report", "--compare", "../base.json", "../head.json")
    page = repository.run(*compare, "-f", "markdown", "--fail-on", "new", code=1)
    assert "1 new, 3 fixed, 1 left" in page.splitlines()[0]
    assert "`src/more.py:11:12`" in page
    repository.write("src/more.py", CLEAN)
    repository.run(*porter, "check", ".", "-q", "--report", "../head.json", code=1)
    page = repository.run(*compare, "-f", "markdown", "--fail-on", "new")
    assert "0 new, 3 fixed, 1 left" in page.splitlines()[0]
