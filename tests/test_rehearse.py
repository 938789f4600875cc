"""Running a command and judging it: no torch is needed for any of this."""

from __future__ import annotations

import io
import json
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from porter.problem import Mistake
from porter.rehearse import cells, launch, show
from porter.rehearse.command import Options, exit_code, rehearse, report
from porter.rehearse.verdict import Verdict, from_text, judge, read
from porter.rewrites.simulated.hardware import refused, remarks, unlisted
from porter.rewrites.simulated.prepare import prepare
from porter.rewrites.simulated.settings import Settings
from porter.rewrites.support import tables

ENDED = launch.Ended(0, 1.0)


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
    ended = launch.run([sys.executable, "-c", text], {}, tmp_path, launch.Limits(1.0))
    assert ended.stopped == launch.TIME
    assert time.monotonic() - start < 9
    assert judge(ended, [RAN], "x").verdict is Verdict.HUNG
    assert not mark.exists()


def test_a_crash_is_a_verdict(tmp_path: Path) -> None:
    script = tmp_path / "a.py"
    script.write_text("import ctypes\n\n\ndef go():\n    ctypes.string_at(1)\n\n\ngo()\n")
    ended = launch.run([sys.executable, str(script)], {}, tmp_path, launch.Limits(20.0))
    found = judge(ended, [RAN], "x")
    assert found.verdict is Verdict.CRASHED
    assert found.reasons == ("killed by SIGSEGV",)
    assert [(f.message, f.place) for f in found.failures] == [
        ("Fatal Python error: Segmentation fault", f"{script}:5")
    ]
    assert not list(tmp_path.glob("core*"))


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
            [record(touches=[["x.is_available", "answered False", "a.py:3", "user", 1]])],
            Verdict.NOT_PROVED,
            "a.py:3: x.is_available answered False",
        ),
        ([{**RAN, "touches": [["x.y", "answered 0", "a.py:3", "user", 1]]}], Verdict.RAN, ""),
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
        # A loader's worker has the rank of the process that started it.
        ([{**RAN, "rank": "1"}, record(rank="1")], Verdict.RAN, ""),
        ([{**RAN, "notes": [["odd", "a.py:9", 1, True]]}], Verdict.NOT_PROVED, "a.py:9: odd"),
        ([{**RAN, "notes": [["odd", "a.py:9", 1, False]]}], Verdict.RAN, ""),
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
    found = judge(launch.Ended(1, 1.0, "", said), [], "x")
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
    assert "RAN on the simulated x" in shown
    assert "6  ran on the device, of 1 kind" in shown
    assert "4  fell back to the host, of 1 kind, at 1 line" in shown
    assert json.loads(report(found, as_json=True))["verdict"] == "ran"


def test_a_parents_error_gives_way_to_the_childs() -> None:
    child = 'Traceback (most recent call last):\n  File "/a/w.py", line 4, in f\n    x\nValueError: no\n'
    failure = {
        "type": "ProcessRaisedException",
        "message": f"\n\n-- Process 0 --\n{child}",
        "frames": [],
    }
    found = judge(launch.Ended(1, 1.0), [record(failures=[failure])], "x")
    assert found.verdict is Verdict.FAILED
    assert found.failures[0].place == "/a/w.py:4"


@pytest.mark.parametrize(
    ("type_", "message", "file", "verdict"),
    [
        ("NotSimulated", "x exists on the real device", "/a.py", Verdict.NOT_PROVED),
        (
            "NotImplementedError",
            "NotImplementedError: quantized tensors are not simulated",
            "/a.py",
            Verdict.NOT_PROVED,
        ),
        (
            "NotImplementedError",
            "NotImplementedError: \"histogram_cpu\" not implemented for 'Int'",
            f"/tmp/{launch.FOLDER_PREFIX}x/quick.py",
            Verdict.NOT_PROVED,
        ),
        (
            "NotImplementedError",
            "NotImplementedError: \"histogram_cpu\" not implemented for 'Int'",
            "/a.py",
            Verdict.FAILED,
        ),
        ("NotImplementedError", "NotImplementedError: write this", "/a.py", Verdict.FAILED),
    ],
)
def test_what_only_the_simulation_lacks_is_no_failure(
    type_: str, message: str, file: str, verdict: Verdict
) -> None:
    frames = [
        {"file": "/a.py", "line": 3, "function": "f", "text": "", "kind": "user"},
        {"file": file, "line": 9, "function": "g", "text": "", "kind": "internal"},
    ]
    failure = {"type": type_, "message": message, "frames": frames}
    found = judge(launch.Ended(1, 1.0), [{**RAN, "failures": [failure]}], "x")
    assert found.verdict is verdict
    if verdict is Verdict.NOT_PROVED:
        assert found.reasons[0].startswith("/a.py:3: the simulation cannot do this")


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
    ended = launch.run([sys.executable, str(script)], {}, tmp_path, launch.Limits(20.0))
    failure = from_text(ended.errors)
    assert failure is not None
    assert failure.place == f"{book}#4:1"
    book.write_text("[]")
    with pytest.raises(cells.NotebookProblem, match="not a notebook"):
        cells.script(book, [], tmp_path)


@pytest.fixture
def bare(tmp_path: Path) -> Options:
    """Rehearsals in a Python whose torch does nothing, so that they need none."""
    fake = tmp_path / "fake" / "torch"
    fake.mkdir(parents=True)
    (fake / "__init__.py").write_text("")
    path = f"PYTHONPATH={fake.parent}"
    return Options(folder=str(tmp_path), limit=60, echo=False, variables=(path,))


def test_a_script_without_torch_is_not_proved(tmp_path: Path, bare: Options) -> None:
    script = tmp_path / "a.py"
    script.write_text("print('hello')\n")
    with (tmp_path / "out").open("w+") as out:
        found = rehearse([str(script)], bare, out)
        out.seek(0)
        assert out.read() == "hello\n"
    assert found.verdict is Verdict.NOT_PROVED
    assert found.reasons == ("no process loaded torch with the simulated device",)


def test_an_error_before_torch_names_its_line(tmp_path: Path, bare: Options) -> None:
    script = tmp_path / "a.py"
    script.write_text("def go():\n    raise ValueError('early')\n\n\ngo()\n")
    found = rehearse([str(script)], bare)
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


def test_dtypes_that_fail_differ_by_product_line() -> None:
    bf16 = {line: "bfloat16" in refused(line)["aten::batch_norm_stats"][0] for line in tables.LINES}
    assert bf16 == {"A2": True, "A3": True, "950DT": False}
    dtypes, why = refused("A2")["aten::relu"]
    assert set(dtypes) >= {"float64", "complex64"}
    assert not {"float32", "float16", "bfloat16"} & set(dtypes)
    assert why == "aclnnRelu of CANN does not take it on A2"


@pytest.mark.parametrize("line", tables.LINES)
def test_what_is_said_of_dtypes_is_of_known_operators(line: str) -> None:
    known = tables.operators()
    for name, (dtypes, _) in refused(line).items():
        assert known[name].kind != "", name
        assert dtypes, name
    # A list that leaves bfloat16 out says nothing: models are trained with it.
    assert not any("bfloat16" in dtypes for dtypes, _ in unlisted(line).values())
    assert "float64" in unlisted(line)["aten::mul.Tensor"][0]
    assert "float32" not in unlisted(line)["aten::mul.Tensor"][0]


def test_settings_tell_of_dtypes_only_for_a_product_line(tmp_path: Path) -> None:
    for hardware in ("", "A2"):
        folder = tmp_path / (hardware or "none")
        folder.mkdir()
        prepare(folder, Settings(hardware=hardware))
        settings = json.loads((folder / "settings.json").read_text())
        assert bool(settings["refused"]) == bool(hardware)
        assert bool(settings["unlisted"]) == bool(hardware)


def test_a_failure_is_explained_by_what_porter_left_in_its_file(
    tmp_path: Path, bare: Options
) -> None:
    script = tmp_path / "a.py"
    script.write_text(
        "try:\n    import torch\nexcept ImportError:\n    pass\n\n\n"
        "def late():\n    return torch.cuda.FloatTensor\n\n\nraise ValueError('elsewhere')\n"
    )
    found = rehearse([str(script)], Options(**{**bare.__dict__, "device": "other"}))
    assert found.failures[0].place == f"{script}:11"
    assert [r.split(" ")[:2] for r in found.rules] == [[f"{script}:8:", "POR351"]]


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
