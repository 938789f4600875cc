"""The example of a team's own rules, installed as pip would, is found and works."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PACK = Path(__file__).parents[1] / "fixtures" / "rule-pack"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for PYTHONPATH that holds what an installation of the pack leaves."""
    folder = tmp_path_factory.mktemp("site")
    project = tomllib.loads((PACK / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    for module in PACK.glob("*.py"):
        shutil.copy(module, folder)
    information = folder / f"{project['name'].replace('-', '_')}-{project['version']}.dist-info"
    information.mkdir()
    (information / "METADATA").write_text(
        f"Metadata-Version: 2.1\nName: {project['name']}\nVersion: {project['version']}\n"
    )
    lines = []
    for group, entries in project["entry-points"].items():
        lines += [f"[{group}]", *(f"{name} = {value}" for name, value in entries.items())]
    (information / "entry_points.txt").write_text("\n".join(lines) + "\n")
    return folder


def python(site: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(site), "PYTHONDONTWRITEBYTECODE": "1"}
    return subprocess.run(
        [sys.executable, *arguments], cwd=cwd, env=environment, capture_output=True, text=True
    )


def test_its_rule_is_listed(site: Path, tmp_path: Path) -> None:
    done = python(site, "-m", "porter", "rule", "ACM101", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "acme.devices.accelerator()" in done.stdout


def test_its_rule_fires_next_to_those_of_porter(site: Path, tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(
        "import acme.devices\nx = load().to(acme.devices.gpu())\ny = x.cuda()\n"
    )
    (tmp_path / "b.py").write_text("from acme.devices import gpu\nx = gpu()\n")
    done = python(site, "-m", "porter", "migrate", ".", "--target", "npu", cwd=tmp_path)
    assert done.returncode == 1, done.stderr
    assert (tmp_path / "a.py").read_text() == (
        "import acme.devices\nx = load().to(acme.devices.accelerator())\ny = x.npu()\n"
    )
    assert "ACM101" in done.stderr
    assert "b.py:2" in done.stderr


def test_its_own_tests_pass(site: Path, tmp_path: Path) -> None:
    done = python(
        site, "-m", "pytest", "-q", "-p", "no:cacheprovider", "--rootdir", str(site),
        str(site / "test_acme_porter_rules.py"), cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stdout + done.stderr
    assert "2 passed" in done.stdout


def test_a_pack_that_cannot_be_loaded_is_named(site: Path, tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(site, broken)
    (broken / "acme_porter_rules.py").write_text("raise ImportError('no license')\n")
    project = tmp_path / "project"
    project.mkdir()
    done = python(broken, "-m", "porter", "rules", cwd=project)
    assert done.returncode == 2
    assert "'acme' (acme_porter_rules) cannot be loaded" in done.stderr
    assert len(done.stderr.splitlines()) == 1
