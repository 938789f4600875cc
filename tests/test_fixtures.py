"""Whole files and small repositories, before and after, byte for byte.

`fixtures/files/<family>/<case>.in.py` stands beside `<case>.accelerator.py` and `<case>.npu.py`;
`fixtures/projects/<name>/before` beside the folders `accelerator` and `npu`, each with what is left
to a person in `left.<target>.txt`. `pytest --update` writes the expectations anew.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from porter.analysis import FileResult, Plan, Task, analyse
from porter.config import Settings
from porter.notebook import Notebook
from porter.report import FileStatus
from porter.rule import Status
from porter.runner import Request, Run, run
from porter.source import decode_python
from porter.syntax import parse
from porter.targets import NAMES, Target

FIXTURES = Path(__file__).parent.parent / "fixtures"
FILES = sorted(p for p in (FIXTURES / "files").glob("*/*.in.*"))
PROJECTS = sorted(p.parent for p in (FIXTURES / "projects").glob("*/before"))
TARGETS = pytest.mark.parametrize("target", NAMES)
#: Cases that porter must refuse, with what it says.
REFUSED = {"python2": "Python 2", "undecodable": "not valid utf-8", "incomplete": "line 4"}


def named(path: Path) -> str:
    return path.relative_to(FIXTURES).as_posix()


def case(path: Path) -> str:
    return path.name.split(".")[0]


def migrated(data: bytes, target: str, shown: str) -> FileResult:
    kind = "notebook" if shown.endswith(".ipynb") else "python"
    return analyse(Task(shown, shown, kind, "", len(data), data=data), Plan(Target(target)))  # type: ignore[arg-type]


def readable(data: bytes, shown: str) -> None:
    """Fail unless the result is what Python, or Jupyter, can read."""
    if shown.endswith(".ipynb"):
        parse(Notebook.parse(data, parse).text)
    else:
        parse(decode_python(shown, data).text)


@TARGETS
@pytest.mark.parametrize("path", FILES, ids=named)
def test_file(path: Path, target: str, update: bool) -> None:
    before = path.read_bytes()
    shown = path.name.replace(".in.", ".")
    result = migrated(before, target, shown)
    after = before if result.after is None else result.after
    expected = path.with_name(path.name.replace(".in.", f".{target}."))
    if update:
        expected.write_bytes(after)
    assert after == expected.read_bytes()
    if case(path) in REFUSED:
        assert result.status is FileStatus.FAILED
        assert REFUSED[case(path)] in result.reason
        assert len(result.sites) == 1
        assert after == before
        return
    assert (result.status, result.reason) in {
        (FileStatus.CHANGED, ""),
        (FileStatus.UNCHANGED, ""),
    }
    readable(after, shown)
    assert migrated(after, target, shown).after is None, "a second run must change nothing"


def test_no_expectation_is_orphaned() -> None:
    expected = {
        p.with_name(p.name.replace(".in.", f".{kind}.")) for p in FILES for kind in ("in", *NAMES)
    }
    found = {p for p in (FIXTURES / "files").glob("*/*") if p.is_file()}
    assert found == expected
    assert {case(p) for p in FILES} >= REFUSED.keys()


def migrate(folder: Path, target: str) -> Run:
    return run(Request((folder,), Settings(target=target), jobs=1))


def written(done: Run) -> None:
    for change in done.changed:
        change.file.path.write_bytes(change.after)


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and "__pycache__" not in p.parts
    }


def left(done: Run) -> str:
    """One line for each place that porter left to a person."""
    return "".join(
        f"{s.path}:{f'cell {s.cell}:' if s.cell else ''}{s.line} {s.rule} {s.reason}\n"
        for s in done.report.sites
        if s.status is Status.LEFT
    )


@TARGETS
@pytest.mark.parametrize("project", PROJECTS, ids=lambda p: p.name)
def test_project(project: Path, target: str, tmp_path: Path, update: bool) -> None:
    work = tmp_path / project.name
    shutil.copytree(project / "before", work)
    first = migrate(work, target)
    written(first)
    said = left(first)
    expected, notes = project / target, project / f"left.{target}.txt"
    if update:
        shutil.rmtree(expected, ignore_errors=True)
        shutil.copytree(work, expected)
        notes.write_text(said, encoding="utf-8", newline="")
    assert tree(work) == tree(expected)
    assert said == notes.read_text(encoding="utf-8")
    assert not first.report.failed
    for name, data in tree(work).items():
        if name.endswith((".py", ".ipynb")):
            readable(data, name)
    assert not migrate(work, target).changed, "a second run must change nothing"
