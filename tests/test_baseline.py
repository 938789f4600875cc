"""What an old repository accepts, and what has changed since a revision."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from porter.baseline import Baseline, BaselineProblem, apply, as_json, of, read
from porter.provenance import Provenance
from porter.report import FileReport, FileStatus, Report, SiteReport, assemble
from porter.rule import Category, Safety, Status

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

CODE = "import torch\n\n\ndef f(x, a):\n    return x.cuda(*a)\n"
MORE = "\n\ndef g(y, a):\n    return y.cuda(*a)\n"


def site(path: str, line: int, code: str, rule: str = "POR101") -> SiteReport:
    return SiteReport(
        path, line, 1, rule, Status.LEFT, Safety.MANUAL, Category.MANDATORY, 3, before=code
    )


def report(*sites: SiteReport, files: tuple[str, ...] = (), failed: tuple[str, ...] = ()) -> Report:
    said = [FileReport(p, FileStatus.UNCHANGED) for p in {*files, *(s.path for s in sites)}]
    said += [FileReport(p, FileStatus.FAILED, "x") for p in failed]
    provenance = Provenance(rules=("POR101", "POR102"))
    return assemble("npu", "2.9", sites, said, provenance=provenance)


def accepted(found: Report) -> list[tuple[str, int]]:
    return [(s.path, s.line) for s in found.sites if s.accepted]


OLD = report(site("a.py", 1, "x.cuda()"), site("a.py", 2, "x.cuda()"), site("b.py", 1, "z.cuda()"))
BASE = of(OLD, ".")


def test_everything_known_is_accepted() -> None:
    found = apply(OLD, BASE, ".")
    assert accepted(found.report) == [("a.py", 1), ("a.py", 2), ("b.py", 1)]
    assert found.report.pending == ()
    assert (found.kept, found.gone) == (BASE, 0)


def test_moved_lines_stay_accepted_and_new_ones_are_not() -> None:
    now = report(
        site("a.py", 30, "  x.cuda()"), site("a.py", 31, "x.cuda()"), site("a.py", 32, "x.cuda()"),
        site("a.py", 33, "new.cuda()"), site("b.py", 1, "z.cuda()"),
    )  # fmt: skip
    found = apply(now, BASE, ".")
    assert accepted(found.report) == [("a.py", 30), ("a.py", 31), ("b.py", 1)]
    assert [s.line for s in found.report.pending] == [32, 33]
    assert found.gone == 0


def test_what_is_fixed_leaves_the_baseline() -> None:
    found = apply(report(site("a.py", 1, "x.cuda()"), files=("b.py",)), BASE, ".")
    assert found.gone == 2
    again = apply(OLD, found.kept, ".")
    assert accepted(again.report) == [("a.py", 1)], "what was fixed cannot come back"


def test_what_was_not_looked_at_stays() -> None:
    part = report(site("a.py", 1, "x.cuda()"), site("a.py", 2, "x.cuda()"))
    assert apply(part, BASE, ".", present={"b.py"}).kept == BASE
    broken = report(site("b.py", 1, "z.cuda()"), failed=("a.py",))
    assert apply(broken, BASE, ".").kept == BASE
    fewer = assemble(
        "npu", "2.9", [], [FileReport("a.py", FileStatus.UNCHANGED)],
        provenance=Provenance(rules=("POR102",)),
    )  # fmt: skip
    assert apply(fewer, BASE, ".", present={"b.py"}).kept == BASE, "the rule was not in force"


def test_a_file_that_is_gone_takes_its_entries_along() -> None:
    assert apply(report(files=("a.py",)), BASE, ".").kept.entries == {}
    renamed = report(site("a.py", 1, "x.cuda()"), site("a.py", 2, "x.cuda()"),
                     site("c.py", 9, "z.cuda()"))  # fmt: skip
    found = apply(renamed, BASE, ".")
    assert ("c.py", 9) in accepted(found.report)
    assert {path for path, _, _ in found.kept.entries} == {"a.py", "c.py"}
    assert found.gone == 0


def test_paths_are_relative_to_the_baseline() -> None:
    found = of(report(site("pkg/a.py", 1, "x")), "../src")
    assert [path for path, _, _ in found.entries] == ["../src/pkg/a.py"]


def test_the_file(tmp_path: Path) -> None:
    path = tmp_path / "b.json"
    path.write_text(as_json(BASE))
    assert read(path) == BASE
    assert as_json(read(path)) == as_json(BASE)
    path.write_text(as_json(Baseline("npu", {})))
    assert read(path).entries == {}
    for text in ("{", "[]", '{"porter-baseline": 9}', '{"porter-baseline": 1, "findings": [{}]}'):
        path.write_text(text)
        with pytest.raises(BaselineProblem, match=r"b\.json"):
            read(path)
    with pytest.raises(BaselineProblem, match="--write-baseline"):
        read(tmp_path / "none.json")
    with pytest.raises(BaselineProblem, match="target npu, not accelerator"):
        apply(assemble("accelerator", "2.9", [], []), BASE, ".")


# The command line -------------------------------------------------------------------------------


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porter", *arguments],
        cwd=cwd, capture_output=True, text=True, timeout=120,
    )  # fmt: skip


def git(*arguments: str, cwd: Path) -> None:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.autocrlf=false"]
    subprocess.run(["git", *identity, *arguments], cwd=cwd, check=True, capture_output=True)


def test_adoption(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    code = tmp_path / "src" / "a.py"
    code.write_text(CODE + MORE)
    done = run("check", "src", "--write-baseline", "base.json", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "2 findings are accepted from now on" in done.stderr
    check = ("check", "src", "--baseline", "base.json")
    done = run(*check, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (0, "")
    assert "2 in the baseline" in done.stderr
    code.write_text("# moved\n" + CODE + MORE + MORE)
    done = run(*check, cwd=tmp_path)
    assert done.returncode == 1
    assert [line.split(":")[1] for line in done.stdout.splitlines()] == ["14"]
    code.write_text(CODE)
    done = run(*check, cwd=tmp_path)
    assert done.returncode == 0
    assert "1 accepted findings are gone" in done.stderr
    assert len(json.loads((tmp_path / "base.json").read_text())["findings"]) == 1
    assert run(*check, "-q", cwd=tmp_path).stderr == "", "nothing is left to drop"
    done = run("check", ".", "--baseline", "../base.json", cwd=tmp_path / "src")
    assert done.returncode == 0, "from another folder too"
    data = json.loads(run(*check, "--output-format", "json", cwd=tmp_path).stdout)
    assert data["summary"]["sites"]["accepted"] == 1
    assert data["sites"][0]["accepted"] is True
    assert data["verdict"]["status"] == "BLOCKED", "accepted is not done"


def test_files_other_than_python_leave_the_baseline_too(tmp_path: Path) -> None:
    (tmp_path / "src").mkdir()
    (tmp_path / "src" / "a.py").write_text(CODE + "\n\nprint(torch.accelerator)\n")
    (tmp_path / "pyproject.toml").write_text(
        '[project]\nname = "x"\nversion = "1"\ndependencies = ["torch>=1.0"]\n'
    )
    requirements = tmp_path / "requirements.txt"
    requirements.write_text("torch==1.9.0\ncupy\n")
    (tmp_path / "run.sh").write_text("nvcc a.cu\n")

    def kept() -> set[tuple[str, str]]:
        data = json.loads((tmp_path / "base.json").read_text())
        return {(f["path"], f["rule"]) for f in data["findings"]}

    assert run("check", ".", "--write-baseline", "base.json", cwd=tmp_path).returncode == 0
    assert kept() == {
        ("pyproject.toml", "POR010"), ("requirements.txt", "POR010"), ("run.sh", "POR852"),
        ("requirements.txt", "POR833"), ("src/a.py", "POR101"),
    }  # fmt: skip
    check = ("--baseline", "base.json", "-q")
    requirements.write_text("torch>=2.9\ncupy\n")
    assert run("check", "src", *check, cwd=tmp_path).returncode == 0
    assert ("requirements.txt", "POR010") not in kept(), "a run reads what the project requires"
    assert ("requirements.txt", "POR833") in kept(), "but not the rest of that file"
    assert ("pyproject.toml", "POR010") in kept()
    requirements.write_text("torch>=2.9\n")
    (tmp_path / "run.sh").write_text("cc a.c\n")
    assert run("check", ".", *check, cwd=tmp_path).returncode == 0
    assert kept() == {("pyproject.toml", "POR010"), ("src/a.py", "POR101")}
    (tmp_path / "src" / "a.py").write_text(CODE)
    assert run("check", ".", *check, cwd=tmp_path).returncode == 0
    assert ("pyproject.toml", "POR010") in kept(), "it waits until code asks for a newer torch"


def test_baseline_mistakes(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CODE)
    done = run("check", "a.py", "--baseline", "none.json", cwd=tmp_path)
    assert done.returncode == 2
    assert "none.json: cannot be read" in done.stderr
    both = ("--baseline", "b.json", "--write-baseline", "b.json")
    assert run("check", "a.py", *both, cwd=tmp_path).returncode == 2


@needs_git
def test_changed_files_and_lines(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    one, two, three = (tmp_path / "pkg" / name for name in ("one.py", "two.py", "three.py"))
    for path in (one, two):
        path.write_text(CODE)
    git("init", "-q", "-b", "main", cwd=tmp_path)
    git("add", ".", cwd=tmp_path)
    git("commit", "-qm", "x", cwd=tmp_path)
    assert run("check", ".", "--changed", cwd=tmp_path).stdout == ""
    one.write_text("# moved\n" + CODE + MORE)
    three.write_text(CODE)

    def found(*options: str) -> list[str]:
        lines = run("check", ".", *options, cwd=tmp_path).stdout.splitlines()
        return [":".join(line.split(":")[:2]) for line in lines]

    assert found("--changed") == ["pkg/one.py:6", "pkg/one.py:10", "pkg/three.py:5"]
    assert found("--diff-only", "HEAD") == ["pkg/one.py:10", "pkg/three.py:5"]
    git("checkout", "-qb", "topic", cwd=tmp_path)
    git("add", "pkg/one.py", cwd=tmp_path)
    git("commit", "-qm", "y", cwd=tmp_path)
    assert found("--changed") == ["pkg/three.py:5"]
    assert found("--changed=main") == ["pkg/one.py:6", "pkg/one.py:10", "pkg/three.py:5"]
    git("checkout", "-q", "main", cwd=tmp_path)
    two.write_text("# moved\n" + CODE)
    git("add", "pkg/two.py", cwd=tmp_path)
    git("commit", "-qm", "z", cwd=tmp_path)
    git("checkout", "-q", "topic", cwd=tmp_path)
    assert "pkg/two.py:5" not in found("--changed=main"), "what main did meanwhile is not ours"
    assert found("--diff-only", "main") == ["pkg/one.py:10", "pkg/three.py:5"]
    done = run("check", ".", "--changed=nowhere", cwd=tmp_path)
    assert done.returncode == 2
    assert "no revision 'nowhere'" in done.stderr


@needs_git
def test_a_name_from_a_file_that_has_not_changed_is_still_known(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "compat.py").write_text("from torch.cuda import is_available\n")
    git("init", "-q", cwd=tmp_path)
    git("add", ".", cwd=tmp_path)
    git("commit", "-qm", "x", cwd=tmp_path)
    (tmp_path / "pkg" / "use.py").write_text(
        "from .compat import is_available\n\nprint(is_available())\n"
    )
    done = run("check", ".", "--changed", "--target", "npu", cwd=tmp_path)
    assert "pkg/use.py:3:" in done.stdout
    assert "compat.py" not in done.stdout


@needs_git
def test_cells_of_a_notebook(tmp_path: Path) -> None:
    def notebook(*cells: str) -> str:
        made = [
            {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None,
             "source": text.splitlines(keepends=True)} for text in cells
        ]  # fmt: skip
        return json.dumps({
            "cells": made, "metadata": {"kernelspec": {"language": "python"}}, "nbformat": 4,
            "nbformat_minor": 5,
        }, indent=1)  # fmt: skip

    path = tmp_path / "n.ipynb"
    path.write_text(notebook("import torch\n", "x = torch.ones(1).cuda()\n"))
    git("init", "-q", cwd=tmp_path)
    git("add", ".", cwd=tmp_path)
    git("commit", "-qm", "x", cwd=tmp_path)
    path.write_text(
        notebook("import torch\n", "print()\n", "x = torch.ones(1).cuda()\ny = x.cuda()\n")
    )
    done = run("check", ".", "--diff-only", "HEAD", cwd=tmp_path)
    assert re.findall(r"(?m)^n\.ipynb:cell \d+:\d+", done.stdout) == ["n.ipynb:cell 3:2"]


def test_changed_needs_a_repository(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(CODE)
    done = run("check", "a.py", "--changed", cwd=tmp_path)
    assert done.returncode == 2
    assert "in no git repository" in done.stderr
