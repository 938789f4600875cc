"""Files that are not what their names say: one clear finding each, and the run goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from porter import runner
from porter.config import ConfigProblem, Settings, load
from porter.report import SiteReport
from porter.rule import Status
from porter.runner import Request, Run

CODE = "import torch\nx = torch.zeros(3).cuda()\n"
BROKEN = '[project]\nname = "x"\ndependencies = ["torch>=2.9"\n'


def run(*paths: Path) -> Run:
    return runner.run(Request(paths, Settings(target="npu")))


def of(done: Run, name: str) -> list[SiteReport]:
    return [site for site in done.report.sites if site.path == name]


def test_a_broken_pyproject_is_one_finding_and_no_end(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(BROKEN)
    (tmp_path / "a.py").write_text(CODE)
    done = run(tmp_path)
    (site,) = of(done, "pyproject.toml")
    assert (site.rule, site.status) == ("POR004", Status.LEFT)
    assert "not valid TOML" in site.reason
    assert [site.rule for site in of(done, "a.py")] == ["POR101"]
    (note,) = done.notes
    assert "pyproject.toml" in note
    assert "was not read" in note


def test_a_broken_pyproject_above_what_is_asked_for_is_a_note(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(BROKEN)
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text(CODE)
    done = run(tmp_path / "src")
    assert [site.rule for site in done.report.sites] == ["POR101"]
    assert len(done.notes) == 1


def test_a_broken_pyproject_is_an_error_only_as_configuration(tmp_path: Path) -> None:
    (tmp_path / ".git").mkdir()
    file = tmp_path / "pyproject.toml"
    file.write_text(BROKEN)
    assert load([tmp_path]) == Settings()
    file.write_text('[tool.porter]\ntarget = "npu\n')
    with pytest.raises(ConfigProblem, match="not valid TOML"):
        load([tmp_path])


def test_a_nested_project_has_requirements_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\ndependencies = ["torch>=2.9"]\n'
    )
    nested = tmp_path / "examples" / "one"
    nested.mkdir(parents=True)
    (nested / "a.py").write_text(CODE)
    assert run(nested).choice.version == (2, 9)
    (nested / "requirements.txt").write_text("numpy\n")
    assert run(nested).choice.version == (2, 9), "it does not say which torch"
    (nested / "requirements.txt").write_text("torch==2.4.0\n")
    done = run(nested)
    assert (done.choice.version, done.choice.origin) == ((2, 4), "requirements.txt")
    assert run(tmp_path).choice.version == (2, 9)


@pytest.mark.parametrize(
    ("name", "data", "reason"),
    [
        ("a.yaml", b"device: cuda\n  bad: [\n", "not valid YAML"),
        ("a.json", b'{"device": "cuda"', "not valid JSON"),
        ("a.toml", b'device = "cuda', "not valid TOML"),
        ("b.yaml", b"\x00\x01cuda\xff\xfe", "NUL bytes"),
        ("b.sh", "# pr\xe9\nnvidia-smi\n".encode("latin-1"), "not valid utf-8"),
        ("c.yaml", "device: cuda\n".encode("utf-16"), "UTF-16"),
    ],
)
def test_text_that_cannot_be_read(tmp_path: Path, name: str, data: bytes, reason: str) -> None:
    (tmp_path / name).write_bytes(data)
    (tmp_path / "a.py").write_text(CODE)
    done = run(tmp_path)
    (site,) = of(done, name)
    assert site.rule == "POR004"
    assert reason in site.reason
    assert [c.path for c in done.changed] == ["a.py"]
    assert (tmp_path / name).read_bytes() == data


@pytest.mark.parametrize(
    ("name", "data"),
    [
        ("a.py", b"\x7fELF\x00\x00cuda"),
        ("a.py", "# \xe9\nimport torch\ntorch.cuda.x()\n".encode("latin-1")),
        ("a.ipynb", b'{"cells": [ cuda'),
    ],
)
def test_code_that_cannot_be_read(tmp_path: Path, name: str, data: bytes) -> None:
    (tmp_path / name).write_bytes(data)
    (tmp_path / "b.py").write_text(CODE)
    done = run(tmp_path)
    (site,) = of(done, name)
    assert (site.rule, site.status) == ("POR000", Status.LEFT)
    assert [c.path for c in done.changed] == ["b.py"]


def test_a_huge_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "data.json").write_bytes(b'{"device": "cuda", "x": "' + b"x" * 11_000_000 + b'"}')
    (tmp_path / "code.py").write_bytes(CODE.encode() + b"#" * 11_000_000)
    done = run(tmp_path)
    (data,), (code,) = of(done, "data.json"), of(done, "code.py")
    assert (data.rule, data.status) == ("POR004", Status.INFORMATION)
    assert (code.rule, code.status) == ("POR004", Status.LEFT)
    assert "name it to include it" in data.reason
