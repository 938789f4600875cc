"""A package that the project itself holds is not one that it depends on."""

from __future__ import annotations

from pathlib import Path

import pytest

from porter import runner
from porter.config import Settings
from porter.runner import Request


def codes(root: Path, file: str) -> list[str]:
    done = runner.run(Request((root,), Settings(target="npu")))
    return [site.rule for site in done.report.sites if site.path == file]


@pytest.mark.parametrize("folder", ["detectron2", "src/detectron2", "python/detectron2"])
def test_imports_of_the_projects_own_package_are_silent(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(parents=True)
    (tmp_path / folder / "__init__.py").write_text("")
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests" / "test_it.py").write_text("import detectron2\nimport xformers\n")
    assert codes(tmp_path, "tests/test_it.py") == ["POR821"]


def test_a_folder_of_that_name_elsewhere_is_not_the_package(tmp_path: Path) -> None:
    (tmp_path / "kernels" / "triton").mkdir(parents=True)
    (tmp_path / "kernels" / "triton" / "__init__.py").write_text("")
    (tmp_path / "a.py").write_text("import triton\nprint(triton)\n")
    assert codes(tmp_path, "a.py") == ["POR821"]
