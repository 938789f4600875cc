"""Verdicts, explanations and their views; versions of the code; what capture writes. No torch."""

from __future__ import annotations

import importlib.util
import json
import subprocess
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from porter.onnx import capture, check, show
from porter.onnx.explain import explain
from porter.onnx.operators import Fact, OperatorReport, OperatorUse, Registration, Summary
from porter.onnx.spec import Dim, Model, Tensor, shown
from porter.onnx.trees import TreeProblem, Trees, at_revision, mirror
from porter.onnx.verdict import MEANING, Ran, Verdict, judge, tally, with_operators
from porter.output import render
from porter.problem import Mistake

ROOT = Path(__file__).parent.parent
MODEL = Model("net:Net", "net")
GRAPH = {
    "opset": 18, "inputs": ["x: float32[b]"], "outputs": ["y: float32[b]"], "nodes": 2,
    "bytes": 2_500_000, "domains": [],
}  # fmt: skip
SAME = {"status": "identical", "error": 0.0, "reason": ""}


def row(ok: bool = True, error: float | None = 1.26e-7, **more: Any) -> dict[str, Any]:
    return {"sizes": {"b": 2}, "ok": ok, "error": error, "recorded": False, **more}


def rung(name: str = "default", outcome: str = "ok", stage: str = "run", **more: Any) -> Any:
    found = {
        "rung": name, "outcome": outcome, "stage": stage, "strategy": "non-strict",
        "engine": "onnxruntime", "dtype": "float32", "tolerance": 1e-4, "sets": [row()],
    }  # fmt: skip
    return {**found, **more}


def failed(message: str, name: str = "default", **more: Any) -> Any:
    failure = {"type": "Error", "message": message, "place": "/t/a.py:3", "functions": []}
    return rung(name, "failed", "export", sets=[], failure={**failure, **more})


def ran(*rungs: Any, **more: Any) -> Ran:
    held = {"rung": rungs[-1]["rung"]} if rungs and rungs[-1]["outcome"] == "ok" else {}
    record = {"step": "done", "rungs": list(rungs), "original": SAME, "graph": GRAPH}
    return Ran({**record, **held, **more})


def judged(migrated: Ran, original: Ran | None = None) -> Any:
    done = original or Ran({"step": "done"})
    return judge(MODEL, done, migrated, lambda text: text.replace("/t/", ""))


GUARD = "Could not guard on data-dependent expression Eq(u0, 1)"
VERDICTS: list[tuple[Ran, Ran | None, Verdict]] = [
    (ran(rung()), None, Verdict.PASS),
    (ran(failed(GUARD), rung("static")), None, Verdict.STATIC),
    (ran(failed(GUARD), rung("legacy")), None, Verdict.LEGACY),
    (ran(failed(GUARD), rung("no-cache")), None, Verdict.PASS),
    (ran(failed(GUARD)), None, Verdict.NOT_EXPORTED),
    (ran(rung(outcome="differs", message="a: 1 of 2 values differ")), None, Verdict.MISMATCH),
    (ran(rung(), original={**SAME, "status": "differs", "reason": "y: 1 of 2"}), None,
     Verdict.CHANGED),
    (ran(unstable="random"), None, Verdict.NOT_COMPARABLE),
    (ran(unstable="state"), None, Verdict.NOT_COMPARABLE),
    (ran(rung()), Ran({"step": "build", "stop": {"step": "build", "reason": "no"}}),
     Verdict.NO_ORIGINAL),
    (Ran({"step": "build", "stop": {"step": "build", "reason": "no module named 'net'"}}), None,
     Verdict.NOT_RUN),
    (Ran({"step": "forward with b=5", "stop": {"step": "forward with b=5", "type": "RuntimeError",
                                               "message": "shape", "place": "/t/a.py:3"}}), None,
     Verdict.NOT_RUN),
    (Ran({"step": "export (default)", "rungs": []}, stopped="time"), None, Verdict.STOPPED),
    (Ran({"step": "forward"}, stopped="memory"), None, Verdict.STOPPED),
    (Ran({"step": "forward"}, code=-11, errors="x\nFatal Python error: Segmentation fault\n\n"
         'Current thread 0x1:\n  File "/t/a.py", line 9 in forward\n'), None, Verdict.STOPPED),
    (Ran({}, code=1, errors="no module named encodings\n"), None, Verdict.NOT_RUN),
]  # fmt: skip


@pytest.mark.parametrize(("migrated", "original", "verdict"), VERDICTS)
def test_verdicts(migrated: Ran, original: Ran | None, verdict: Verdict) -> None:
    found = judged(migrated, original)
    assert found.verdict is verdict
    assert found.detail
    assert found.passed == (verdict is Verdict.PASS)
    text = show.text([found])
    assert text.startswith(verdict.value.upper())
    assert MEANING[verdict] in " ".join(text.split())
    assert "/t/" not in text
    assert all(len(line) <= show.WIDTH for line in text.splitlines())
    assert text.endswith(f"1 model: 1 {verdict.value}.\n")


def test_all_verdicts_are_tested() -> None:
    assert {v for _, _, v in VERDICTS} == set(Verdict) - {Verdict.GAP}


def test_what_a_verdict_tells() -> None:
    first = rung(
        outcome="differs",
        message="y: 3 of 8 values differ",
        sets=[row(), row(False, 0.5, reason="y: 3 of 8 values differ")],
        first={"value": "add_3", "operator": "Add", "torch": "aten.add", "place": "/t/a.py:7",
               "reason": "8 of 8", "before": 4},
    )  # fmt: skip
    text = show.text([judged(ran(first))])
    assert "a.py:7: the first value inside that differs is add_3, of Add (aten.add)" in text
    crash = judged(VERDICTS[14][0])
    assert crash.trouble.place == "a.py:9"
    assert "Segmentation fault" in crash.trouble.said
    hung = judged(
        Ran({"step": "forward"}, stopped="time", errors='  File "/t/a.py", line 2 in f\n')
    )
    assert (hung.trouble.place, hung.trouble.kind) == ("a.py:2", "time")
    needs = judged(ran(failed("Found <class 'x.DynamicCache'> in output"), rung("no-cache")))
    assert "needs config.use_cache = False" in needs.detail
    repeated = show.text([judged(ran(failed(GUARD), failed(GUARD, "static"), rung("legacy")))])
    assert repeated.count("an if, while or assert") == 1
    assert "As above." in repeated


def test_models_are_counted() -> None:
    found = [judged(ran(rung())), judged(ran(failed(GUARD))), judged(ran(rung()))]
    assert tally(found) == {"pass": 2, "not exported": 1}
    assert show.text(found).endswith("3 models: 2 pass, 1 not exported.\n")


def operators(registration: Registration) -> OperatorReport:
    use = OperatorUse(
        "ai.onnx", "DFT", 18, 1, ("n",), ("main graph",), registration, "no", "do this"
    )
    assert Fact(registration).registration is registration
    summary = Summary(10, "pytorch", (), (), (), (), (), ())
    return OperatorReport("net", summary, (use,), (), "ATC", "CANN")


def test_an_operator_that_the_compiler_lacks_is_a_gap() -> None:
    passed = judged(ran(rung()))
    gap = with_operators(passed, operators(Registration.UNREGISTERED), "")
    assert gap.verdict is Verdict.GAP
    assert gap.detail == "ATC: not known to be taken: DFT@18"
    text = show.text([gap])
    assert "ATC: 1 unregistered (DFT@18)" in text
    assert "DFT@18: do this" in text
    assert with_operators(passed, operators(Registration.REGISTERED), "").passed
    assert with_operators(passed, operators(Registration.UNKNOWN), "", gate=False).passed
    unknown = with_operators(passed, None, "not looked up: no table")
    assert unknown.passed
    assert "no table" in show.text([unknown])
    static = judged(ran(failed(GUARD), rung("static")))
    assert with_operators(static, operators(Registration.UNKNOWN), "").verdict is Verdict.STATIC


def every_check() -> list[dict[str, Any]]:
    found = [judged(m, o).as_json() for m, o, _ in VERDICTS]
    gap = with_operators(judged(ran(rung())), operators(Registration.UNREGISTERED), "")
    return [*found, gap.as_json()]


def test_reports_hold_the_verdicts() -> None:
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    data = json.loads((ROOT / "fixtures" / "reports" / "small.json").read_text(encoding="utf-8"))
    data["checks"] = [{**c, "name": f"net {i}"} for i, c in enumerate(every_check())]
    data = json.loads(json.dumps(data))
    jsonschema.Draft202012Validator(schema).validate(data)
    outcomes = {c["verdict"]: c["outcome"] for c in data["checks"]}
    assert outcomes["pass"] == "passed"
    assert outcomes["no original"] == outcomes["not comparable"] == "unproved"
    assert outcomes["changed"] == outcomes["gap"] == outcomes["static"] == "failed"
    for form in ("markdown", "html", "text"):
        shown_ = render(data, form)
        for found in data["checks"]:
            assert found["verdict"] in shown_
    assert "a.py:3" in render(data, "markdown")
    assert "float32[b]" in render(data, "html")


def test_errors_have_one_digit() -> None:
    found = judged(ran(rung())).as_json()["onnx"]
    assert found["attempts"][0]["sets"][0]["error"] == 1e-7


# Explanations -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("message", "kind", "said"),
    [
        ("Could not guard on data-dependent expression Eq(u0, 1)", "data-dependent-branch", "torch.cond"),
        ("Could not extract specialized integer from data-dependent expression u0", "data-dependent-size", "x.shape"),
        (
            "Constraints violated (b)!\n  - You marked b as dynamic but your code specialized it to be a constant (2).\n"
            "Suggested fixes:\n  b = 2\n\nThe error above",
            "constant-size", "torch suggests: b = 2)",
        ),
        (
            "Constraints violated (b)!\n  - Not all values of b = L['x'].size()[0] in the specified range satisfy the "
            "generated guard 2 <= b\nSuggested fixes:\n  b = Dim('b', max=3)\n",
            "bounded-size", "Dim('b', max=3)",
        ),
        ("Constraints violated!\n  - Not all\nSuggested fixes:\n  _b = Dim('_b')\n  b = 8*_b\n", "multiple-size", "8*n"),
        (".numpy() is not supported for tensor subclasses.", "numpy", "torch"),
        ("No ONNX function found for <OpOverload(op='aten._linalg_svd', overload='default')>.", "no-operator", "custom_translation_table"),
        ("Exporting the operator 'aten::linalg_svd' to ONNX opset version 18 is not supported", "no-operator", "table"),
        ("No ONNX function found for <OpOverload(op='mylib.twice', overload='default')>.", "custom-operator", "plugin"),
        ("ONNX export failed on an operator with unrecognized namespace mylib::twice.", "custom-operator", "plugin"),
        ("aten_histc with min == max (0.0) is not supported in this export path.", "operator-case", "other arguments"),
        ("(op_type:Conv, node name: n): X typestr: T, has unsupported type: tensor(bfloat16)", "dtype", "float16"),
        ("Found <class 'transformers.cache_utils.DynamicCache'> in output, which is not a known type", "cache", "use_cache"),
        ("Found <class 'a.Boxes'> in output, which is not a known type. you need to register a pytree", "not-a-tree", "register_dataclass"),
        ("DefaultCPUAllocator: can't allocate memory: you tried to allocate 4 bytes", "memory", "--memory"),
        ("No module named 'triton'", "package", "install"),
        ("Cannot access data pointer of Tensor (e.g. FakeTensor)", "no-data", "custom_op"),
        ("something that nobody has seen", "other", ""),
    ],
)  # fmt: skip
def test_messages_are_explained(message: str, kind: str, said: str) -> None:
    found = explain({"type": "Error", "message": message, "place": "a.py:3"})
    assert found.kind == kind
    assert said in found.remedy
    assert found.place == "a.py:3"
    assert found.text
    assert "{" not in found.text, "all blanks are filled"


def test_functions_that_ran_explain_too() -> None:
    failure = {"message": "no idea", "functions": ["forward", "_detect_is_causal_mask"]}
    assert explain(failure).kind == "causal-mask"
    assert (
        explain({"message": "no idea", "functions": ["pad_packed_sequence"]}).kind
        == "packed-sequence"
    )
    assert explain({}, "the graph has 1 inputs, forward was given 2").kind == "inputs-constant"
    assert explain({}, "the graph stays at opset 18").kind == "opset"


# Versions of the code ---------------------------------------------------------------------------


def tree(root: Path, files: Mapping[str, str]) -> Path:
    for name, text in files.items():
        path = root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return root


def test_a_mirror_copies_code_and_links_the_rest(tmp_path: Path) -> None:
    root = tree(
        tmp_path / "tree",
        {"a.py": "1", "pkg/b.py": "2", "pkg/data/x.bin": "xx", "weights/w.pt": "ww", "c.cfg": "old",
         ".git/config": "no", ".venv/pyvenv.cfg": "", ".venv/lib.py": "no", "gone.py": "3"},
    )  # fmt: skip
    (root / "broken").symlink_to("nowhere")
    out = tmp_path / "out"
    changes = {root / "a.py": b"new", root / "c.cfg": b"new", root / "weights/added.py": b"more"}
    mirror(root, out, changes, without=[root / "gone.py"])
    assert (out / "a.py").read_text() == (out / "c.cfg").read_text() == "new"
    assert not (out / "pkg" / "b.py").is_symlink(), "code must not lead back to the tree"
    assert (out / "pkg" / "data").is_symlink()
    assert (out / "weights" / "w.pt").read_text() == "ww"
    assert (out / "weights" / "added.py").read_text() == "more"
    assert not (root / "weights" / "added.py").exists()
    assert (root / "a.py").read_text() == "1"
    for name in (".git", ".venv", "gone.py"):
        assert not (out / name).exists()


def git(folder: Path, *words: str) -> None:
    base = ["git", "-c", "user.email=a@example.org", "-c", "user.name=a"]
    subprocess.run([*base, *words], cwd=folder, check=True, capture_output=True)


def test_a_revision_gives_the_original(tmp_path: Path) -> None:
    root = tree(tmp_path / "tree", {"a.py": "1", "b.py": "2", "c.yaml": "3", "d.py": "4"})
    git(root, "init", "-q")
    git(root, "add", "-A")
    git(root, "commit", "-qm", "before")
    tree(root, {"a.py": "new", "c.yaml": "new", "added.py": "new", "data.bin": "xx"})
    (root / "d.py").unlink()
    out = tmp_path / "out"
    out.mkdir()
    at_revision(root, "HEAD", out)
    found = {p.name: p.read_text() for p in out.iterdir()}
    assert found == {"a.py": "1", "b.py": "2", "c.yaml": "3", "d.py": "4", "data.bin": "xx"}
    for wrong, where in (("nope", root), ("HEAD", tmp_path), ("--all", root)):
        with pytest.raises(TreeProblem, match="--original"):
            at_revision(where, wrong, tmp_path / "other")


def test_paths_are_those_that_the_user_knows(tmp_path: Path) -> None:
    trees = Trees(tmp_path / "m", tmp_path / "t", {tmp_path / "m": "", tmp_path / "t": ""},
                  frozenset(["pkg/a.py"]))  # fmt: skip
    assert trees.rename(f"in {tmp_path}/m/pkg/a.py:3") == "in migrated pkg/a.py:3"
    assert trees.rename(f"in {tmp_path}/m/pkg/b.py:3") == "in pkg/b.py:3"
    assert trees.rename(f"in {tmp_path}/t/pkg/a.py:3") == "in pkg/a.py:3"


def test_the_original_is_another_tree(tmp_path: Path) -> None:
    with pytest.raises(TreeProblem, match="itself"), check.prepared(tmp_path, None, str(tmp_path)):
        pass
    other = tree(tmp_path / "old", {"a.py": ""})
    with check.prepared(tmp_path, None, str(other)) as (trees, same):
        assert (trees.migrated, trees.original, same) == (tmp_path, other, False)
    with check.prepared(tmp_path, None, "") as (trees, same):
        assert (trees.original, same) == (None, False)


def test_a_python_without_the_packages_is_named() -> None:
    with pytest.raises(Mistake, match="cannot be run"):
        check.missing("/no/such/python")
    found = importlib.util.find_spec("torch") is None
    assert ("torch" in check.missing()) == found


# What capture writes ----------------------------------------------------------------------------


def tensor(
    *shape: int, dtype: str = "float32", low: Any = None, high: Any = None
) -> dict[str, Any]:
    return {"kind": "tensor", "dtype": dtype, "shape": list(shape), "low": low, "high": high}


def call(**named: Any) -> dict[str, Any]:
    return {"named": named, "rest": []}


def inputs(*calls: dict[str, Any]) -> tuple[list[str], dict[str, tuple[int, ...]]]:
    found, vary = capture._inputs(calls)
    return [shown(i) for i in found], dict(vary)


def test_sizes_that_varied_get_names() -> None:
    found, vary = inputs(
        call(ids=tensor(8, 20, dtype="int64", low=0, high=90), mask=tensor(8, 20, dtype="bool")),
        call(ids=tensor(8, 31, dtype="int64", low=3, high=99), mask=tensor(8, 31, dtype="bool")),
        call(ids=tensor(5, 20, dtype="int64", low=0, high=7), mask=tensor(5, 20, dtype="bool")),
    )
    assert found == ["ids=int64[batch,length]{0..100}", "mask=bool[batch,length]"]
    assert vary == {"batch": (8, 5), "length": (31, 20)}


def test_a_size_seen_once_is_taken_for_the_batch() -> None:
    found, vary = inputs(call(x=tensor(64, 3, 32, 32, low=0.0, high=1.0), t=tensor(64)))
    assert found == ["x=float32[batch,3,32,32]{0..1}", "t=float32[batch]"]
    assert vary == {"batch": capture.BATCH}
    found, vary = inputs(call(a=tensor(4, 2), b=tensor(3, 2)))
    assert found == ["a=float32[4,2]", "b=float32[3,2]"], "they have no batch in common"
    assert vary == {}


def test_two_sizes_of_one_tensor_have_two_names() -> None:
    found, vary = inputs(call(x=tensor(1, 3, 32, 32)), call(x=tensor(1, 3, 64, 64)))
    assert found == ["x=float32[batch,3,height,width]"]
    assert vary == {"batch": (2, 5), "height": (64, 32), "width": (64, 32)}


def test_arguments_that_are_no_tensors() -> None:
    constant = {"kind": "constant", "source": "None"}
    pair = {"kind": "tuple", "items": [tensor(2, 3), constant]}
    named = {"kind": "dict", "items": {"a": tensor(2)}}
    found, _ = inputs(call(x=tensor(2), mask=constant, pair=pair, named=named))
    assert found == ["x=float32[batch]", "mask=None", "pair=(float32[batch,3], None)",
                     'named={"a": float32[batch]}']  # fmt: skip
    with pytest.raises(capture._Cannot, match="an argument of forward is a Boxes"):
        capture._inputs([call(x={"kind": "object", "what": "a Boxes"})])


def test_calls_of_another_kind_are_left_out() -> None:
    found, vary = inputs(call(x=tensor(4, 2)), call(x=tensor(4, 2, 9)), call(x=tensor(6, 2)))
    assert found == ["x=float32[batch,2]"]
    assert vary == {"batch": (6, 4)}


def seen(root: Path, **given: Any) -> dict[str, Any]:
    found = {
        "module": "net", "file": str(root / "net.py"), "name": "Net", "made": "Net(width=4)",
        "imports": ["net:Net"], "literal": True, "why_not": "", "saved": "",
        "calls": [call(x=tensor(4, 3))],
    }  # fmt: skip
    return {**found, **given}


def test_a_model_with_literal_arguments_needs_no_file(tmp_path: Path) -> None:
    tree(
        tmp_path,
        {"net.py": "", "pkg/sub/deep.py": "", "scripts/run.py": "print(1)", "src/lay.py": ""},
    )
    rows = [
        seen(tmp_path),
        seen(tmp_path, made="Net()"),
        seen(tmp_path, file=str(tmp_path / "pkg/sub/deep.py"), module="pkg.sub.deep"),
        seen(tmp_path, file=str(tmp_path / "scripts/run.py"), module="__main__"),
        seen(tmp_path, file=str(tmp_path / "src/lay.py"), module="lay"),
    ]
    found = capture._described(rows, tmp_path)
    assert [m.factory for m in found.models] == [
        "net:Net(width=4)", "net:Net", "pkg.sub.deep:Net(width=4)", "scripts/run.py:Net(width=4)",
        "lay:Net(width=4)",
    ]  # fmt: skip
    assert [m.name for m in found.models] == ["Net", "Net_2", "Net_3", "Net_4", "Net_5"]
    assert found.factories == {}
    (note,) = found.notes
    assert "importing scripts/run.py runs the program" in note
    assert found.models[0].inputs[0].value == Tensor("float32", (Dim("batch"), 3))


def test_other_arguments_need_a_function(tmp_path: Path) -> None:
    tree(tmp_path, {"net.py": ""})
    rows = [
        seen(tmp_path, name="BigNet", made="BigNet(act=ReLU, d=torch.float16)", literal=False,
             imports=["net:BigNet", "torch.nn:ReLU", "torch"]),
        seen(tmp_path, made=None, why_not="argument 'config' (a Config)"),
    ]  # fmt: skip
    found = capture._described(rows, tmp_path)
    assert found.models[0].factory == "porter_onnx_models:big_net"
    assert found.factories["big_net"] == (
        "def big_net():\n    import torch\n    from net import BigNet\n    from torch.nn import ReLU\n\n"
        "    return BigNet(act=ReLU, d=torch.float16)\n"
    )
    assert found.models[1].factory == ""
    assert "write a function that makes it" in found.notes[0]
    assert "argument 'config' (a Config)" in found.notes[0]
    text = capture.text(replace(found, models=found.models[:1]))
    assert 'model = "porter_onnx_models:big_net"' in text
    assert "# def big_net():" in text
