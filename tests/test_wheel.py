"""What is installed: complete, usable from any folder, and without torch."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
SOURCES = ("porter", "rewrites", "pyproject.toml", "README.md", "LICENSE")
#: Packages that porter reads about but must never import.
FOREIGN = {"torch", "torch_npu", "onnx", "onnxruntime", "numpy"}


def run(*command: str | Path, cwd: Path) -> str:
    clean = {k: v for k, v in os.environ.items() if k not in {"PYTHONPATH", "PYTHONHOME"}}
    done = subprocess.run(
        [str(part) for part in command], cwd=cwd, env=clean, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wheel, built from a copy, so that nothing is left behind here."""
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(ROOT / name, source / name, ignore=ignored)
        else:
            shutil.copy(ROOT / name, source)
    build = ("-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation", "-w", folder)
    run(sys.executable, *build, source, cwd=folder)
    (found,) = folder.glob("*.whl")
    return found


def test_the_wheel_holds_every_module_and_table(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    wanted = {
        ("porter/" + path.relative_to(ROOT).as_posix()).replace("porter/porter/", "porter/", 1)
        for folder in ("porter", "rewrites")
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and path.suffix in {".py", ".toml", ".json", ".tsv", ".typed"}
    }
    assert "porter/rewrites/api.toml" in wanted
    assert wanted - names == set()
    assert {name.split("/")[0].split("-")[0] for name in names} == {"porter", "torch_porter"}
    assert any(name.endswith("licenses/LICENSE") for name in names)


def test_it_works_in_a_new_environment_from_another_folder(wheel: Path, tmp_path: Path) -> None:
    environment = tmp_path / "venv"
    run(sys.executable, "-m", "venv", "--without-pip", environment, cwd=tmp_path)
    programs = environment / ("Scripts" if os.name == "nt" else "bin")
    python = programs / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "--disable-pip-version-check")
    run(*pip, "install", "--quiet", wheel, cwd=tmp_path)
    installed = run(*pip, "list", "--format=freeze", cwd=tmp_path).lower()
    assert not FOREIGN & {line.partition("==")[0] for line in installed.splitlines()}

    from porter import __version__

    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "a.py").write_text("import torch\nx = torch.ones(2).cuda()\n")
    assert run(programs / "porter", "--version", cwd=elsewhere) == f"porter {__version__}\n"
    assert "cuda-method-call" in run(programs / "porter", "rule", "POR101", cwd=elsewhere)
    fresh = "from porter import lookout; print(lookout.kept() is not None)"
    assert run(python, "-c", fresh, cwd=elsewhere) == "True\n", "python docs/build.py"
    run(python, "-m", "porter", "migrate", "a.py", "--target", "npu", cwd=elsewhere)
    assert (elsewhere / "a.py").read_text() == "import torch\nx = torch.ones(2).npu()\n"


@pytest.mark.parametrize("command", [["rules"], ["rule", "POR101"], ["check", "a.py"]])
def test_nothing_foreign_is_imported(command: list[str], tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text("import torch\nimport onnx\nx = torch.ones(2).cuda()\n")
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "porter", *command],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )
    assert done.returncode in (0, 1), done.stderr
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    modules = {line.rpartition("|")[2].strip() for line in lines}
    assert "porter.catalog" in modules
    assert not FOREIGN & {module.partition(".")[0] for module in modules}
