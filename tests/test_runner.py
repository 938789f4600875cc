"""Runs over many files: order, processes, and files that fail."""

from __future__ import annotations

import os
import pickle
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from porter import catalog, pool, runner
from porter.analysis import Plan, Task, analyse, analyse_all
from porter.config import Settings
from porter.report import FileStatus, as_json
from porter.rule import Check, Finding, Rule, Status
from porter.runner import Request, run
from porter.site import Site
from porter.targets import Target

PLAIN = "import torch\n\n\ndef f(x):\n    return x.cuda()\n"
PLAN = Plan(Target("npu"))
forks = pytest.mark.skipif(sys.platform != "linux", reason="the rule travels by fork")


def task(folder: Path, name: str, text: str = PLAIN) -> Task:
    path = folder / name
    path.write_text(text)
    return Task(str(path), name, "python", "", len(text))


def with_rule(monkeypatch: pytest.MonkeyPatch, check: Check) -> None:
    """Add a rule that looks at calls of `strange.go`."""
    full = catalog.load()
    rule = Rule("TST001", "strange-call", check, names=("strange.go",))
    changed = replace(full, rules=(*full.rules, rule))
    monkeypatch.setattr(catalog, "load", lambda: changed)


def crash(site: Site, target: Target) -> Iterator[Finding]:
    raise ZeroDivisionError("too\nmuch")
    yield


def die(site: Site, target: Target) -> Iterator[Finding]:
    os._exit(7)
    yield


STRANGE = "import strange\n\nstrange.go(x.cuda())\n"


@pytest.mark.parametrize("jobs", [1, 3])
def test_results_keep_the_order_of_the_tasks(tmp_path: Path, jobs: int) -> None:
    tasks = [task(tmp_path, f"f{n}.py", PLAIN + f"# {n}\n") for n in range(40)]
    seen: list[tuple[int, int]] = []
    results = analyse_all(tasks, PLAN, jobs, lambda done, total: seen.append((done, total)))
    texts = [r.after.decode() if r.after else "" for r in results]
    assert texts == [PLAIN.replace("cuda", "npu") + f"# {n}\n" for n in range(40)]
    assert seen[-1] == (40, 40)


def test_results_are_small(tmp_path: Path) -> None:
    text = "# " + "x" * 100_000 + "\n"
    unchanged = analyse(task(tmp_path, "a.py", text + "y = 'cuda_is_a_word'\n"), PLAN)
    assert unchanged.status is FileStatus.UNCHANGED
    assert unchanged.after is None
    assert len(pickle.dumps(unchanged)) < 3_000


def test_a_rule_that_raises_fails_its_file_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with_rule(monkeypatch, crash)
    bad, good = analyse_all([task(tmp_path, "bad.py", STRANGE), task(tmp_path, "good.py")], PLAN, 1)
    assert bad.status is FileStatus.FAILED
    assert bad.reason == "rule TST001 failed at line 3 (ZeroDivisionError: too); please report this"
    assert bad.after is None
    assert "ZeroDivisionError" in bad.trace
    assert [(s.rule, s.line) for s in bad.sites] == [("POR000", 3)]
    assert good.status is FileStatus.CHANGED


@forks
def test_a_worker_that_dies_costs_one_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with_rule(monkeypatch, die)
    tasks = [task(tmp_path, f"f{n}.py", STRANGE if n == 13 else PLAIN) for n in range(40)]
    results = analyse_all(tasks, PLAN, 2)
    assert [n for n, r in enumerate(results) if r.status is FileStatus.FAILED] == [13]
    assert "died" in results[13].reason
    assert all(r.after for n, r in enumerate(results) if n != 13)


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"print 'cuda'\n", "Python 2"),
        (b"x = cuda(\n", ""),
        (b"x = 'cuda\xff'\n", "line 1: byte 0xff is not valid utf-8"),
        (b"# coding: nothing\ncuda\n", "unknown encoding"),
        (b"\xff\xfec\0u\0d\0a\0", "UTF-16"),
        (b"x = 'cuda\0'\n", "NUL"),
        (b"cuda = " + b"(" * 5000 + b")" * 5000, ""),
    ],
)
def test_unreadable_files_have_one_finding_each(tmp_path: Path, data: bytes, said: str) -> None:
    (tmp_path / "a.py").write_bytes(data)
    (tmp_path / "b.py").write_text(PLAIN)
    done = run(Request((tmp_path,), Settings(target="npu")))
    (failed,) = done.report.failed
    assert failed.path == "a.py"
    assert said in failed.reason
    assert "\n" not in failed.reason
    assert [s.rule for s in done.report.sites if s.path == "a.py"] == ["POR000"]
    assert [c.path for c in done.changed] == ["b.py"]


def test_a_file_without_a_marker_is_not_parsed(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_bytes(b"print 'two' \xff\n")
    done = run(Request((tmp_path,)))
    assert [f.status for f in done.report.files] == [FileStatus.UNCHANGED]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root reads all")
def test_a_file_that_may_not_be_read_is_reported(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(PLAIN)
    (tmp_path / "a.py").chmod(0)
    (failed,) = run(Request((tmp_path,))).report.failed
    assert "Permission denied" in failed.reason


def test_several_roots_share_one_base(tmp_path: Path) -> None:
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "a.py").write_text(PLAIN)
    done = run(Request((tmp_path / "two", tmp_path / "one" / "a.py")))
    assert [f.path for f in done.report.files] == ["one/a.py", "two/a.py"]
    assert done.base == tmp_path


def test_the_report_does_not_depend_on_the_number_of_processes(tmp_path: Path) -> None:
    for n in range(30):
        (tmp_path / f"f{n}.py").write_text(PLAIN + f"x.cuda(*a)  # {n}\n")
    texts = {as_json(run(Request((tmp_path,), jobs=jobs)).report) for jobs in (1, 2, 4)}
    assert len(texts) == 1


def test_other_languages_in_notebooks(tmp_path: Path) -> None:
    (tmp_path / "j.ipynb").write_text(
        '{"nbformat": 4, "metadata": {"kernelspec": {"language": "julia"}},'
        ' "cells": [{"cell_type": "code", "source": "using CUDA"}]}'
    )
    (tmp_path / "p.ipynb").write_text(
        '{"nbformat": 4, "metadata": {}, "cells": ['
        '{"cell_type": "code", "source": "!CUDA_VISIBLE_DEVICES=0 python x.py"},'
        '{"cell_type": "code", "source": "%%bash\\necho $CUDA_HOME"}]}'
    )
    done = run(Request((tmp_path,)))
    assert {f.path: f.status for f in done.report.files} == {
        "j.ipynb": FileStatus.SKIPPED, "p.ipynb": FileStatus.UNCHANGED,
    }  # fmt: skip
    assert [(s.rule, s.cell, s.pending) for s in done.report.sites] == [
        ("POR851", 1, True), ("POR851", 2, True),
    ]  # fmt: skip


def test_the_bound_is_reported_only_where_the_code_needs_it(tmp_path: Path) -> None:
    (tmp_path / "requirements.txt").write_text("torch>=1.8\n")
    (tmp_path / "a.py").write_text("x = 1\n")
    assert run(Request((tmp_path,))).report.sites == ()
    (tmp_path / "a.py").write_text("import torch\ntorch.accelerator.synchronize()\n")
    (site,) = run(Request((tmp_path,))).report.sites
    assert (site.path, site.line, site.pending) == ("requirements.txt", 1, True)
    nothing = Settings(ignore=(site.rule,))
    assert run(Request((tmp_path,), nothing)).report.sites == ()
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "b.py").write_text(PLAIN)
    inner = run(Request((tmp_path / "sub",)))
    assert [s.path for s in inner.report.sites if s.rule == site.rule] == ["requirements.txt"] or (
        inner.report.having(Status.REWRITTEN)
    )


@forks
def test_an_interrupt_stops_all_processes_and_writes_nothing(tmp_path: Path) -> None:
    project = tmp_path / "project"
    project.mkdir()
    for n in range(30):
        (project / f"f{n}.py").write_text("import strange\nstrange.go(x.cuda())\n")
    program = tmp_path / "slow.py"
    program.write_text(
        textwrap.dedent("""
        import os, sys, time
        from dataclasses import replace
        from porter import catalog, cli
        from porter.rule import Rule
        def slow(site, target):
            open(sys.argv[1], "a").write(f"{os.getpid()}\\n")
            time.sleep(60)
            yield
        full = catalog.load()
        rule = Rule("TST001", "slow", slow, names=("strange.go",))
        changed = replace(full, rules=(*full.rules, rule))
        catalog.load = lambda: changed
        sys.exit(cli.start(["migrate", "project", "-j", "2"]))
    """)
    )
    marks = tmp_path / "marks"
    process = subprocess.Popen(
        [sys.executable, str(program), str(marks)], cwd=tmp_path, stderr=subprocess.PIPE
    )
    for _ in range(600):
        if marks.exists() and len(set(marks.read_text().split())) == 2:
            break
        time.sleep(0.05)
    process.send_signal(signal.SIGINT)
    _, error = process.communicate(timeout=30)
    assert process.returncode == 130
    assert error.decode().splitlines() == ["error: interrupted; no further file is changed"]
    assert not (project / ".porter").exists()
    for worker in set(marks.read_text().split()):
        with pytest.raises(ProcessLookupError):
            os.kill(int(worker), 0)


def test_small_runs_start_no_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pool, "ProcessPoolExecutor", None)
    (tmp_path / "a.py").write_text(PLAIN)
    assert len(run(Request((tmp_path,))).changed) == 1


def test_a_lone_script_does_not_draw_in_the_folders_around_it(tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "b.py").write_text(PLAIN)
    (tmp_path / "compat.py").write_text("from torch.cuda import is_available\n")
    (tmp_path / "a.py").write_text("from compat import is_available\nis_available()\n")
    request = Request((tmp_path / "a.py",), Settings(target="npu"))
    neighbours = {f.relative for f in runner._surroundings(request, [])}
    assert neighbours == {"compat.py"}
    done = run(request)
    assert [f.path for f in done.report.files] == ["a.py"]
    assert [(s.path, s.line) for s in done.report.sites] == [("a.py", 2)]
