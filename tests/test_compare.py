"""Two reports side by side, as `porter report --compare` shows them."""

from __future__ import annotations

import json
import random
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from porter.compare import CompareProblem, as_data, as_markdown, as_text, compare
from porter.report import FileReport, FileStatus, SiteReport, assemble
from porter.report import as_data as report_data
from porter.rule import Category, Safety, Status

HEAD_LINES = "import torch\n\n\n"
ONE = "def f(x):\n    return x.cuda(*x)\n"


def site(path: str, line: int, code: str, **values: Any) -> SiteReport:
    defaults: dict[str, Any] = {
        "column": 1, "rule": "POR101", "status": Status.LEFT, "safety": Safety.MANUAL,
        "category": Category.MANDATORY, "effort": 3, "before": code,
    }  # fmt: skip
    return SiteReport(path, line, **(defaults | values))


def report(*sites: SiteReport, target: str = "npu") -> dict[str, Any]:
    files = [FileReport(s.path, FileStatus.UNCHANGED) for s in sites]
    return report_data(assemble(target, "2.9", sites, files))


def places(found: tuple[Any, ...]) -> list[tuple[str, int]]:
    return [(s["path"], s["line"]) for s in found]


def test_new_fixed_and_left() -> None:
    base = report(site("a.py", 1, "x.cuda()"), site("a.py", 5, "y.cuda()"))
    head = report(site("a.py", 9, "y.cuda()"), site("b.py", 2, "z.cuda()"))
    found = compare(base, head)
    assert places(found.added) == [("b.py", 2)]
    assert places(found.fixed) == [("a.py", 1)]
    assert places(found.left) == [("a.py", 9)]
    assert found.fails("new")
    assert found.fails("any")
    assert not found.fails("never")
    assert not compare(base, base).fails("new")
    assert compare(base, base).fails("any")


def test_lines_indentation_and_renamed_files_do_not_matter() -> None:
    base = report(site("old.py", 1, "x.cuda()"), site("a.py", 1, "x.cuda()"))
    head = report(site("new.py", 70, "        x.cuda()"), site("a.py", 30, "x.cuda()"))
    found = compare(base, head)
    assert (found.added, found.fixed) == ((), ())
    assert len(found.left) == 2


def test_one_more_copy_of_a_line_is_new() -> None:
    base = report(site("a.py", 1, "x.cuda()"))
    head = report(site("a.py", 1, "x.cuda()"), site("a.py", 7, "x.cuda()"))
    assert places(compare(base, head).added) == [("a.py", 7)]


def test_another_rule_on_the_line_is_new() -> None:
    base = report(site("a.py", 1, "x.cuda()"))
    head = report(site("a.py", 1, "x.cuda()", rule="POR102"))
    found = compare(base, head)
    assert (len(found.added), len(found.fixed)) == (1, 1)


def test_information_is_no_finding() -> None:
    note = site("a.py", 1, "x", status=Status.INFORMATION, category=Category.INFORMATION)
    assert not compare(report(), report(note)).fails("any")


def test_different_targets_cannot_be_compared() -> None:
    with pytest.raises(CompareProblem, match="different targets: npu and accelerator"):
        compare(report(), report(target="accelerator"))


def test_every_finding_is_counted_once() -> None:
    chance = random.Random(1)
    for _ in range(50):
        base, head = (
            report(*[
                site(chance.choice("ab"), n + 1, chance.choice("xyz"))
                for n in range(chance.randrange(12))
            ])
            for _ in range(2)
        )  # fmt: skip
        found = compare(base, head)
        assert len(found.added) + len(found.left) == len(head["sites"])
        assert len(found.fixed) + len(found.left) == len(base["sites"])


def test_views() -> None:
    base = report(site("a.py", 1, "x.cuda()", reason="do this"))
    evil = "<script>|`@someone"
    head = report(site(f"{evil}.py", 2, "z.cuda()", reason=evil))
    found = compare(base, head)
    text = as_text(found)
    assert text.startswith("1 new, 1 fixed, 0 left\n")
    assert f"  {evil}.py:2:1: POR101" in text
    page = as_markdown(found)
    assert "<script>" not in page.replace(f"`` {evil}".replace("|", "\\|"), "").replace(
        f"``{evil}".replace("|", "\\|"), ""
    )
    data = as_data(found)
    assert (len(data["added"]), len(data["fixed"]), data["left"]) == (1, 1, 0)
    many = report(*[site(f"f{n}.py", 1, f"x{n}.cuda()", reason="r" * 250) for n in range(2000)])
    long = as_markdown(compare(base, many))
    assert len(long) < 65_536
    assert "findings more" in long


def run(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-m", "porter", *arguments], cwd=cwd, capture_output=True, timeout=120
    )


def test_the_command(tmp_path: Path) -> None:
    code = tmp_path / "src" / "a.py"
    code.parent.mkdir()
    code.write_text(HEAD_LINES + ONE)
    run("check", "src", "--report", "base.json", cwd=tmp_path)
    code.write_text("# moved\n" + HEAD_LINES + ONE)
    run("check", "src", "--report", "head.json", cwd=tmp_path)
    compared = ("report", "--compare", "base.json", "head.json", "--fail-on", "new")
    done = run(*compared, cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, b"")
    assert done.stdout.startswith(b"no finding is new or fixed, 1 left")
    code.write_text(HEAD_LINES + ONE + "\n\ndef g(y):\n    return y.cuda(*y)\n")
    run("check", "src", "--report", "head.json", cwd=tmp_path)
    done = run(*compared, "--prefix", "src", "-o", "c.md", cwd=tmp_path)
    assert (done.returncode, done.stdout) == (1, b"")
    assert "`src/a.py:9:12`" in (tmp_path / "c.md").read_text("utf-8")
    assert run(*compared[:-2], cwd=tmp_path).returncode == 0, "a comparison alone fails nothing"
    data = json.loads(run(*compared, "-f", "json", cwd=tmp_path).stdout)
    assert len(data["added"]) == 1


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["a.json", "a.json"], "write one report"),
        (["--compare", "a.json"], "write two reports: BASE HEAD"),
        (["a.json", "--fail-on", "new"], "--fail-on goes with --compare"),
        (["none.json"], "none.json: cannot be read"),
        (["bad.json"], "bad.json: not valid JSON"),
        (["list.json"], "list.json: not a report of porter"),
        (["old.json"], "old.json: made by another version of porter"),
        (["a.json", "-o", "no/where.md"], "--output: "),
        (["--compare", "a.json", "a.json", "-f", "sarif"], "--compare has no sarif"),
        (["torn.json", "-f", "html"], "the report is damaged"),
    ],
)
def test_mistakes_are_one_line(arguments: list[str], said: str, tmp_path: Path) -> None:
    good = report(site("a.py", 1, "x.cuda()"))
    (tmp_path / "a.json").write_text(json.dumps(good))
    (tmp_path / "bad.json").write_text("{")
    (tmp_path / "list.json").write_text("[]")
    (tmp_path / "old.json").write_text(json.dumps({"schema": 1, "sites": []}))
    (tmp_path / "torn.json").write_text(json.dumps({**good, "sites": [{"path": "a"}]}))
    done = run("report", *arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == b""
    assert said in done.stderr.decode()
    assert done.stderr.count(b"\n") == 1
