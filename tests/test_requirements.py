"""Which torch version a project asks for, and which one is taken."""

from __future__ import annotations

from pathlib import Path

import pytest

from porter.requirements import choose, declared, parse, project_folder
from porter.targets import DEFAULT_MIN_TORCH

DEFAULT = f"{DEFAULT_MIN_TORCH[0]}.{DEFAULT_MIN_TORCH[1]}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("torch", (None, None)),
        ("torch>=2.6", ((2, 6), None)),
        ("torch >= 2.6.1, < 3", ((2, 6), (2, 999))),
        ("torch==1.13.1+cu117", ((1, 13), (1, 13))),
        ("torch~=2.1 ; python_version > '3.8'", ((2, 1), None)),
        ("torch[opt-einsum]>=2", ((2, 0), None)),
        ("torch (>=1.8)", ((1, 8), None)),
        ("torch==2.*", ((2, 0), (2, 999))),
        ("torch<2.2", (None, (2, 1))),
        ("torch<=2.2", (None, (2, 2))),
        ("torch!=2.0", (None, None)),
        ("torch>=1.9,!=2.0.0", ((1, 9), None)),
        ("torch @ https://example.org/torch-2.1.0-cp310.whl", ((2, 1), (2, 1))),
        ("pytorch=2.0=py3.10_cuda11", ((2, 0), (2, 0))),
        ("conda-forge::pytorch>=1.8", ((1, 8), None)),
        ("torchvision>=0.15", None),
        ("torch-geometric>=2", None),
        ("torch.extra>=2", None),
        ("numpy", None),
    ],
)
def test_specifiers(text: str, expected: object) -> None:
    assert parse(text) == expected


def write(folder: Path, **files: str) -> Path:
    for name, text in files.items():
        (folder / name.replace("__", ".")).write_text(text)
    return folder


@pytest.mark.parametrize(
    ("name", "text", "line"),
    [
        ("pyproject.toml", '[project]\nname = "x"\ndependencies = [\n  "torch>=2.7",\n]\n', 4),
        ("pyproject.toml", '[project.optional-dependencies]\ngpu = ["torch>=2.7"]\n', 2),
        ("pyproject.toml", '[tool.poetry.dependencies]\ntorch = "^2.7"\n', 2),
        ("pyproject.toml", '[tool.poetry.group.a.dependencies]\ntorch = {version = ">=2.7"}\n', 2),
        ("setup.cfg", "[options]\ninstall_requires =\n    numpy\n    torch>=2.7\n", 4),
        ("setup.py", "from setuptools import setup\nsetup(install_requires=['torch>=2.7'])\n", 2),
        ("setup.py", "import os\nos._exit(9)\nNEEDS = [\n  'torch>=2.7',\n]\n", 4),
        ("requirements.txt", "# torch>=1.0\nnumpy\ntorch>=2.7  # fast\n", 3),
        ("requirements-dev.txt", "torch>=2.7\n", 1),
        ("environment.yml", "dependencies:\n  - pytorch>=2.7\n", 2),
        ("environment.yml", "dependencies:\n  - pip:\n    - 'torch>=2.7'\n", 3),
    ],
)
def test_files(tmp_path: Path, name: str, text: str, line: int) -> None:
    (tmp_path / name).write_text(text)
    (bound,) = declared(tmp_path)
    assert (bound.path.name, bound.line, bound.lower) == (name, line, (2, 7))
    choice = choose("accelerator", "auto", [bound])
    assert (choice.text, choice.origin, choice.too_low) == ("2.7", name, ())


def test_without_a_bound_the_default_is_taken(tmp_path: Path) -> None:
    assert choose("accelerator", "auto", []).text == DEFAULT
    write(tmp_path, requirements__txt="torch\n")
    choice = choose("accelerator", "auto", declared(tmp_path))
    assert (choice.text, choice.origin, choice.too_low) == (DEFAULT, "default", ())


def test_a_bound_without_the_accelerator_api_is_reported(tmp_path: Path) -> None:
    write(tmp_path, requirements__txt="torch>=1.8\n")
    bounds = declared(tmp_path)
    choice = choose("accelerator", "auto", bounds)
    assert (choice.text, choice.origin) == (DEFAULT, "default")
    assert choice.too_low == tuple(bounds)
    npu = choose("npu", "auto", bounds)
    assert (npu.text, npu.origin, npu.too_low) == ("1.8", "requirements.txt", ())


def test_an_upper_bound_that_is_too_low_is_reported(tmp_path: Path) -> None:
    write(tmp_path, requirements__txt="torch<2.0\n")
    assert len(choose("accelerator", "auto", declared(tmp_path)).too_low) == 1


def test_what_the_package_needs_outweighs_a_list(tmp_path: Path) -> None:
    write(
        tmp_path,
        requirements__txt="torch==2.6.0\n",
        pyproject__toml='[project]\ndependencies = ["torch>=2.8"]\n',
    )
    choice = choose("accelerator", "auto", declared(tmp_path))
    assert (choice.text, choice.origin) == ("2.8", "pyproject.toml")
    assert [b.path.name for b in choice.too_low] == ["requirements.txt"]


def test_a_given_version_wins(tmp_path: Path) -> None:
    write(tmp_path, requirements__txt="torch>=2.7\n")
    choice = choose("accelerator", "2.9", declared(tmp_path))
    assert (choice.text, choice.origin) == ("2.9", "given")
    assert len(choice.too_low) == 1


def test_odd_files_are_no_crash(tmp_path: Path) -> None:
    write(tmp_path, setup__py="print 'torch'\n", setup__cfg="torch>=\n[[[\n")
    (tmp_path / "requirements.txt").write_bytes(b"\xff\xfet\0o\0")
    (tmp_path / "environment.yml").mkdir()
    assert declared(tmp_path) == []


def test_project_folder(tmp_path: Path) -> None:
    package = tmp_path / "pkg" / "sub"
    package.mkdir(parents=True)
    for folder in (package, package.parent):
        (folder / "__init__.py").write_text("")
    (tmp_path / ".git").mkdir()
    assert project_folder(package / "x.py") == tmp_path
    (tmp_path / "pkg" / "setup.py").write_text("")
    assert project_folder(package) == tmp_path / "pkg"
