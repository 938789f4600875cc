"""Running a command and judging it: no torch is needed for any of this."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from porter.rehearse import cells, launch, show
from porter.rehearse.command import Mistake, Options, exit_code, rehearse, report
from porter.rehearse.verdict import Verdict, from_text, judge, read
from porter.rewrites.simulated.hardware import remarks
from porter.rewrites.simulated.prepare import prepare
from porter.rewrites.simulated.settings import Settings
from porter.rewrites.support import tables

ENDED = launch.Ended(0, 1.0, False, "")


def record(**given: Any) -> dict[str, Any]:
    empty: dict[str, Any] = {"operators": {}, "memory": {}, "rank": "", "failures": []}
    lists: dict[str, Any] = {k: [] for k in ("fallbacks", "transfers", "touches", "notes")}
    return {**empty, **lists, **given}


RAN = record(operators={"aten::add": [3, "a.py:1"]})


def test_a_script_a_module_and_a_program_are_found(tmp_path: Path) -> None:
    script = tmp_path / "a.py"
    script.write_text("")
    python = sys.executable
    assert launch.resolve([str(script), "-x"], python, False) == [python, str(script), "-x"]
    assert launch.resolve(["a.py"], python, False, tmp_path) == [python, "a.py"]
    assert launch.resolve(["json.tool", "-h"], python, True) == [python, "-m", "json.tool", "-h"]
    assert launch.resolve(["python", "-c", ""], python, False) == [python, "-c", ""]
    for missing in (str(tmp_path / "b.py"), "no-such-program-anywhere"):
        with pytest.raises(launch.NotFound, match="no such"):
            launch.resolve([missing], python, False)


def test_a_hanging_command_and_its_children_are_stopped(tmp_path: Path) -> None:
    mark = tmp_path / "mark"
    child = f"import time, pathlib; time.sleep(9); pathlib.Path({str(mark)!r}).write_text('alive')"
    text = f"import subprocess, sys, time; subprocess.Popen([sys.executable, '-c', {child!r}]); time.sleep(60)"
    start = time.monotonic()
    ended = launch.run([sys.executable, "-c", text], {}, tmp_path, 1.0)
    assert ended.stopped
    assert time.monotonic() - start < 9
    assert judge(ended, [RAN], "x").verdict is Verdict.HUNG
    assert not mark.exists()


def test_a_crash_is_a_verdict(tmp_path: Path) -> None:
    text = "import os, signal; os.kill(os.getpid(), signal.SIGSEGV)"
    ended = launch.run([sys.executable, "-c", text], {}, tmp_path, 20.0)
    assert judge(ended, [RAN], "x").verdict is Verdict.CRASHED


def test_the_last_traceback_of_a_text_is_read() -> None:
    text = (
        "noise\nTraceback (most recent call last):\n"
        '  File "/a/train.py", line 7, in <module>\n    go()\n'
        '  File "/v/site-packages/torch/x.py", line 9, in go\n    raise\n'
        "torch.SomeError: bad thing\n"
    )
    failure = from_text(text)
    assert failure is not None
    assert (failure.type, failure.place) == ("SomeError", "/a/train.py:7")
    assert failure.message == "torch.SomeError: bad thing"
    assert from_text("nothing of the kind") is None


@pytest.mark.parametrize(
    ("records", "verdict", "said"),
    [
        ([RAN], Verdict.RAN, ""),
        ([], Verdict.NOT_PROVED, "no process loaded torch"),
        ([record()], Verdict.NOT_PROVED, "no operator ran"),
        (
            [record(touches=[["x.is_available", "consulted", "a.py:3", "user", 1]])],
            Verdict.NOT_PROVED,
            "a.py:3: x.is_available consulted",
        ),
        ([{**RAN, "touches": [["x.y", "consulted", "a.py:3", "user", 1]]}], Verdict.RAN, ""),
        (
            [{**RAN, "touches": [["scaler", "without effect", "a.py:3", "user", 1]]}],
            Verdict.NOT_PROVED,
            "a.py:3: scaler without effect",
        ),
        (
            [{**RAN, "touches": [["x.y", "without effect", "l.py:3", "library", 1]]}],
            Verdict.RAN,
            "",
        ),
        ([RAN, record(rank="1")], Verdict.NOT_PROVED, "rank 1 ran no operator"),
        (
            [{**RAN, "notes": [["an optimiser steps parameters on the host", "a.py:9", 4]]}],
            Verdict.NOT_PROVED,
            "a.py:9: the optimiser steps",
        ),
    ],
)
def test_ending_well_is_not_proof(records: Any, verdict: Verdict, said: str) -> None:
    found = judge(ENDED, records, "x")
    assert found.verdict is verdict
    assert any(said in r for r in found.reasons) or not said
    assert exit_code(found) == (0 if verdict is Verdict.RAN else 1)
    assert found.reasons or found.proved


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "x.start.Unsupported: the device runs on torch 2.13; this is 2.5\nRuntimeError: Failed",
            "the device runs on torch 2.13; this is 2.5",
        ),
        (
            'Traceback (most recent call last):\n  File "a.py", line 1, in <module>\n'
            "ModuleNotFoundError: No module named 'torch'\n",
            "this Python has no torch",
        ),
    ],
)
def test_a_torch_that_cannot_carry_the_device_is_named(said: str, reason: str) -> None:
    found = judge(launch.Ended(1, 1.0, False, said), [], "x")
    assert found.verdict is Verdict.UNSUPPORTED
    assert found.reasons[0].startswith(reason)


def test_counts_of_processes_are_added() -> None:
    rows = [
        {**RAN, "fallbacks": [["f", "a.py:2", 2]], "memory": {"x:0": {"peak": n, "held": 1}}}
        for n in (5, 7)
    ]
    found = judge(ENDED, rows, "x")
    assert found.runs == 6
    assert [(f.what, f.times) for f in found.fallbacks] == [("f", 4)]
    assert found.memory["x:0"]["peak"] == 7
    shown = show.text(found)
    assert "RAN on simulated x: 6 operators of 1 kinds, fell back to the host 4 times" in shown
    assert json.loads(report(found, as_json=True))["verdict"] == "ran"


def test_a_parents_error_gives_way_to_the_childs() -> None:
    child = 'Traceback (most recent call last):\n  File "/a/w.py", line 4, in f\n    x\nValueError: no\n'
    failure = {
        "type": "ProcessRaisedException",
        "message": f"\n\n-- Process 0 --\n{child}",
        "frames": [],
    }
    found = judge(launch.Ended(1, 1.0, False, ""), [record(failures=[failure])], "x")
    assert found.verdict is Verdict.FAILED
    assert found.failures[0].place == "/a/w.py:4"


def test_a_record_that_was_cut_off_is_left_out(tmp_path: Path) -> None:
    (tmp_path / "1.json").write_text('{"operators":')
    (tmp_path / "2.json").write_text(json.dumps(RAN))
    assert len(read(tmp_path)) == 1


def test_a_notebook_runs_cell_by_cell(tmp_path: Path) -> None:
    book = tmp_path / "a.ipynb"
    source = [["%matplotlib inline\n", "x = 1\n"], ["!ls\n", "print('sum', x + 1)"], ["1 / 0"]]
    rows = [{"cell_type": "code", "source": s} for s in source]
    book.write_text(json.dumps({"cells": [{"cell_type": "markdown", "source": "# t"}, *rows]}))
    script = cells.script(book, ["-v"], tmp_path)
    ended = launch.run([sys.executable, str(script)], {}, tmp_path, 20.0)
    failure = from_text(ended.errors)
    assert failure is not None
    assert failure.place == f"{book}#4:1"
    book.write_text("[]")
    with pytest.raises(cells.NotebookProblem, match="not a notebook"):
        cells.script(book, [], tmp_path)


def test_a_script_without_torch_is_not_proved(tmp_path: Path) -> None:
    script = tmp_path / "a.py"
    script.write_text("print('hello')\n")
    with (tmp_path / "out").open("w+") as out:
        found = rehearse([str(script)], Options(folder=str(tmp_path), limit=60), out)
        out.seek(0)
        assert out.read() == "hello\n"
    assert found.verdict is Verdict.NOT_PROVED
    assert found.reasons == ("no process loaded torch with the simulated device",)


def test_an_error_before_torch_names_its_line(tmp_path: Path) -> None:
    script = tmp_path / "a.py"
    script.write_text("def go():\n    raise ValueError('early')\n\n\ngo()\n")
    found = rehearse([str(script)], Options(folder=str(tmp_path), limit=60))
    assert found.verdict is Verdict.FAILED
    assert found.failures[0].place == f"{script}:2"
    assert "ValueError: early" in show.text(found)


@pytest.mark.parametrize(
    ("words", "options"),
    [
        ([], Options()),
        (["no-such-file.py"], Options()),
        (["-c"], Options(python="/no/such/python", module=True)),
        (["x"], Options(device="not a name")),
    ],
)
def test_mistakes_are_one_line(words: list[str], options: Options) -> None:
    with pytest.raises(Mistake) as caught:
        rehearse(words, options, io.StringIO() if not words else None)
    assert "\n" not in str(caught.value)


def test_operators_that_a_product_line_lacks_are_remarked() -> None:
    lacking = [n for n in ("addmm", "add", *tables.api_names()) if _lacks(n, "A2")]
    name = lacking[0].rpartition(".")[2]
    found = dict(remarks([f"aten::{name}", "aten::relu", "aten::_private", "hccl::x"], "A2"))
    assert set(found) == {f"aten::{name}"}
    assert found[f"aten::{name}"].endswith("for A2")
    assert not list(remarks([f"aten::{name}"], ""))


def _lacks(api: str, line: str) -> bool:
    if not api.startswith("torch.") or api.count(".") != 1:
        return False
    places = (api, f"torch.Tensor.{api[6:]}", f"torch.nn.functional.{api[6:]}")
    rows = [row for row in (tables.api(p, tables.BINARY) for p in places) if row is not None]
    return bool(rows) and not any(line in row.lines for row in rows)


def test_what_is_prepared_needs_nothing_of_porter(tmp_path: Path) -> None:
    environment = prepare(tmp_path, Settings())
    settings = json.loads((tmp_path / "settings.json").read_text())
    assert len(settings["operators"]) > 1000
    assert "torch_npu.npu.Stream" in settings["names"]
    assert environment["PYTHONPATH"].startswith(str(tmp_path))
    for path in tmp_path.rglob("*.py"):
        text = path.read_text()
        assert "import porter\n" not in text
        assert "from porter." not in text, path
        assert "from .." not in text, path
