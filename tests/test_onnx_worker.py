"""What the process of a model does, part by part, within one process. Needs torch and onnx."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import math
import sys
from pathlib import Path
from typing import Any

import pytest

from porter.onnx import spec
from porter.onnx.explain import explain
from porter.onnx.worker import build, eager, export, expression, graph, inputs, locate, outputs
from porter.onnx.worker.expression import CannotWrite, write
from porter.onnx.worker.record import Record, Stop

MISSING = [
    n for n in ("torch", "onnx", "onnxruntime", "onnxscript") if not importlib.util.find_spec(n)
]
if MISSING:
    pytest.skip(f"not installed: {', '.join(MISSING)}", allow_module_level=True)

import numpy  # noqa: E402
import onnx  # noqa: E402
import torch  # noqa: E402
from torch import nn  # noqa: E402


def record(folder: Path) -> Record:
    return Record(folder / "record.json", Path(__file__).parent)


def described(*texts: str, vary: tuple[str, ...] = (), **more: Any) -> dict[str, Any]:
    sizes = tuple(spec.parse_vary(v) for v in vary)
    model = spec.Model("m:f", "m", tuple(spec.parse_input(t) for t in texts), sizes, **more)
    return spec.as_data(spec.checked(model))


def climb(folder: Path, model: nn.Module, *texts: str, **more: Any) -> dict[str, Any]:
    """All that the ladder says of a model."""
    job = described(*texts, **more)
    kept = record(folder)
    model.eval()
    example, cases = inputs.cases(job, model, kept)
    rows = eager.run(model, cases, kept)
    export.climb(export.Job(job, model, example, cases, kept, folder, expected=rows))
    return kept.found


# Comparison -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("expected", "actual", "ok", "said"),
    [
        ([1.0, 2.0], [1.0, 2.0], True, ""),
        ([1.0, 2.0], [1.00001, 2.0], True, ""),
        ([1.0, 2.0], [1.01, 2.0], False, "1 of 2 values differ by more than 0.0001"),
        ([1000.0, 1e-6], [1000.0, 3e-6], True, ""),
        ([1e-3, 2e-3], [1.1e-3, 2e-3], False, "1 of 2"),
        ([0.0, 0.0], [0.0, 1e-12], True, ""),
        ([0.0, 0.0], [0.0, 1e-6], False, "1 of 2"),
        ([1.0, math.nan], [1.0, math.nan], True, ""),
        ([1.0, math.nan], [1.0, 2.0], False, "infinite or no numbers on one side"),
        ([1.0, math.inf], [1.0, -math.inf], False, "infinite or no numbers"),
        ([1.0, math.inf], [1.0, math.inf], True, ""),
        ([1.0, 2.0], [1.0], False, "shape [1] instead of [2]"),
        ([1.0], [1], False, "dtype int64 instead of float32"),
        ([1, 2, 3], [1, 2, 4], False, "1 of 3 values differ"),
        ([True, False], [True, False], True, ""),
    ],
)  # fmt: skip
def test_tensors_are_compared(expected: Any, actual: Any, ok: bool, said: str) -> None:
    found = outputs.tensors(torch.tensor(expected), torch.tensor(actual), 1e-4)
    assert found["ok"] is ok
    assert said in found.get("reason", "")
    assert not found["identical"] or str(expected) == str(actual)


def test_outputs_are_taken_apart() -> None:
    @dataclasses.dataclass
    class Pair:
        a: Any
        b: Any

    found, others = outputs.flat(
        {"x": [torch.ones(1), None], "y": Pair(torch.ones(2), 3), "z": object()}
    )
    assert list(found) == ["['x'][0]", "['y'].a", "['y'].b"]
    assert found["['y'].b"].item() == 3
    assert others == ["['z'] (object)"]
    assert list(outputs.flat(torch.ones(1))[0]) == ["output"]
    assert not outputs.compare({"a": torch.ones(1)}, {"b": torch.ones(1)}, 1.0)["ok"]


def test_the_coarsest_dtype_decides() -> None:
    model = nn.Linear(2, 2)
    assert outputs.precision(model) == "float32"
    assert outputs.precision(model, [torch.ones(1).half()]) == "float16"
    assert outputs.precision(model.double()) == "float64"
    assert outputs.precision(nn.ReLU(), torch.ones(1, dtype=torch.int64)) == "float32"


def test_outputs_that_prove_nothing_are_remarked() -> None:
    assert outputs.dull([{"a": torch.zeros(4)}]) != ""
    assert outputs.dull([{"a": torch.full((2,), math.nan)}]) != ""
    assert outputs.dull([{"a": torch.tensor([1.0, 2.0])}]) == ""
    assert outputs.dull([{"a": torch.tensor([1, 1])}]) == ""


# Inputs -----------------------------------------------------------------------------------------


class Takes(nn.Module):
    def forward(self, x: Any, mask: Any = None, *, scale: float = 1.0) -> Any:
        return x * scale


class Many(nn.Module):
    def forward(self, *xs: Any) -> Any:
        return sum(xs)


def test_inputs_are_bound_to_forward(tmp_path: Path) -> None:
    job = described("x=float32[b,2]", "scale=2.0", "mask=int64[b]{5..9}", vary=("b=2,3",))
    example, (same, other) = inputs.cases(job, Takes(), record(tmp_path))
    assert [tuple(v.shape) for v in example.arguments] == [(2, 2), (2,)]
    assert example.options == {"scale": 2.0}
    assert tuple(other.arguments[0].shape) == (3, 2)
    assert not torch.equal(example.arguments[0], same.arguments[0]), (
        "other values of the same sizes"
    )
    assert 5 <= int(other.arguments[1].min()) <= int(other.arguments[1].max()) < 9
    shapes = inputs.dynamic_shapes(job, Takes(), example)
    assert shapes is not None
    assert list(shapes) == ["x", "mask", "scale"]
    assert (list(shapes["x"]), shapes["scale"]) == ([0], None)
    again, _ = inputs.cases(job, Takes(), record(tmp_path))
    assert torch.equal(example.arguments[0], again.arguments[0]), "the same on every run"


def test_inputs_by_position(tmp_path: Path) -> None:
    job = described("float32[2]", "(float32[b], float32[3])", vary=("b=2,3",))
    example, _ = inputs.cases(job, Many(), record(tmp_path))
    assert len(example.arguments) == 2
    shapes = inputs.dynamic_shapes(job, Many(), example)
    assert shapes is not None
    assert list(shapes) == ["xs"]
    assert shapes["xs"][0] is None
    assert list(shapes["xs"][1][0]) == [0]


@pytest.mark.parametrize(
    ("texts", "said"),
    [
        (["y=float32[2]"], "forward has no argument 'y' (it has: x, mask, scale)"),
        ([], "forward needs x: add --input x=..."),
        (["float32[1]", "float32[1]", "float32[1]"], "forward takes 2 arguments, not 3"),
    ],
)
def test_inputs_that_do_not_fit(tmp_path: Path, texts: list[str], said: str) -> None:
    with pytest.raises(Stop) as caught:
        inputs.cases(described(*texts), Takes(), record(tmp_path))
    assert str(caught.value) == said


def test_sizes_of_one_are_not_exported_with(tmp_path: Path) -> None:
    job = described("x=float32[b]", vary=("b=1,4",))
    example, cases = inputs.cases(job, Takes(), record(tmp_path))
    assert (example.sizes, [c.sizes["b"] for c in cases]) == ({"b": 4}, [4, 1])


def test_recorded_inputs_come_first(tmp_path: Path) -> None:
    torch.save({"arguments": [torch.ones(4, 2)], "options": {"scale": 3.0}}, tmp_path / "i.pt")
    job = described("x=float32[b,2]", vary=("b=2,3",), data="i.pt")
    kept = Record(tmp_path / "record.json", tmp_path)
    _, cases = inputs.cases(job, Takes(), kept)
    assert (cases[0].recorded, tuple(cases[0].arguments[0].shape)) == (True, (4, 2))
    torch.save({"arguments": [object()]}, tmp_path / "i.pt")
    with pytest.raises(Stop, match="no recorded inputs"):
        inputs.cases(job, Takes(), kept)


# The model --------------------------------------------------------------------------------------


def made(folder: Path, factory: str, monkeypatch: pytest.MonkeyPatch) -> Any:
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    kept = Record(folder / "record.json", folder)
    return build.model(spec.as_data(spec.Model(factory)), kept, "")


CODE = """
import torch
from torch import nn

class Net(nn.Module):
    def __init__(self, width=2):
        super().__init__()
        self.layer = nn.Linear(3, width)

def factory(*, wide):
    return Net(8 if wide else 2)

net, number = Net(), 3
"""


def test_models_are_made(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "src" / "onnx_code").mkdir(parents=True)
    (tmp_path / "src" / "onnx_code" / "nets.py").write_text(CODE)
    (tmp_path / "nets_file.py").write_text(CODE)
    for factory, width in (
        ("onnx_code.nets:Net", 2),
        ("onnx_code.nets:Net(width=5)", 5),
        ("onnx_code.nets:factory(wide=True)", 8),
        ("onnx_code.nets:net", 2),
        ("nets_file.py:Net(7)", 7),
    ):
        model = made(tmp_path, factory, monkeypatch)
        assert model.layer.out_features == width, factory
        assert not model.training
    once = made(tmp_path, "nets_file.py:Net", monkeypatch).layer.weight
    assert torch.equal(once, made(tmp_path, "nets_file.py:Net", monkeypatch).layer.weight)


@pytest.mark.parametrize(
    ("factory", "said"),
    [
        ("nets:nothing", "nets has no 'nothing'"),
        ("nowhere:Net", "no module named 'nowhere'"),
        ("nowhere.py:Net", "nowhere.py: no such file"),
        ("nets:number", "number is 'int'"),
        ("nets:factory", "missing a required argument: 'wide'"),
        ("nets:Net(depth=3)", "unexpected keyword argument 'depth'"),
        ("nets:nn.ReLU.__name__.upper", "gives 'str', not a torch.nn.Module"),
    ],
)
def test_what_is_no_model(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, factory: str, said: str
) -> None:
    (tmp_path / "nets.py").write_text(CODE)
    with pytest.raises(Stop) as caught:
        made(tmp_path, factory, monkeypatch)
    assert said in str(caught.value)


def test_the_other_version_must_not_be_imported(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    old = tmp_path / "old"
    old.mkdir()
    (old / "nets.py").write_text(CODE)
    (tmp_path / "user.py").write_text(
        f"import sys; sys.path.insert(0, {str(old)!r}); from nets import Net\n"
    )
    monkeypatch.setattr(sys, "path", list(sys.path))
    monkeypatch.setattr(sys, "modules", dict(sys.modules))
    kept = Record(tmp_path / "record.json", tmp_path)
    with pytest.raises(Stop, match="other version of the code"):
        build.model(spec.as_data(spec.Model("user:Net")), kept, str(old))


def test_weights_are_loaded_without_running_code(tmp_path: Path) -> None:
    model = nn.Linear(2, 2)
    torch.save({"state_dict": model.state_dict()}, tmp_path / "w.pt")
    other = nn.Linear(2, 2)
    build.load(other, build.weights(tmp_path / "w.pt"), "w.pt")
    assert torch.equal(other.weight, model.weight)
    torch.save(model, tmp_path / "whole.pt")
    with pytest.raises(Stop, match="weights_only=True"):
        build.weights(tmp_path / "whole.pt")
    with pytest.raises(Stop, match="no such file"):
        build.weights(tmp_path / "none.pt")
    with pytest.raises(Stop, match="does not fit the model"):
        build.load(nn.Linear(3, 3), build.weights(tmp_path / "w.pt"), "w.pt")


def test_calls_that_differ_are_told() -> None:
    case = inputs.Case((torch.ones(3),), {}, {})

    class Counts(nn.Module):
        calls = 0

        def forward(self, x: Any) -> Any:
            self.calls += 1
            return x * self.calls

    class Draws(nn.Module):
        def forward(self, x: Any) -> Any:
            return x + torch.randn_like(x)

    assert eager.unstable(Counts(), case) == "state"
    assert eager.unstable(Draws(), case) == "random"
    assert eager.unstable(nn.ReLU(), case) == ""


def test_the_original_is_compared(tmp_path: Path) -> None:
    torch.manual_seed(0)
    before = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    cases = [inputs.Case((torch.randn(2, 3),), {}, {})]
    kept = record(tmp_path)
    path = tmp_path / "original.pt"
    eager.save(
        path, build.tensors(before), eager.run(before, cases, kept), eager.within(before, cases[0])
    )
    torch.manual_seed(1)
    after = nn.Sequential(nn.Linear(3, 4), nn.ReLU(), nn.Linear(4, 2)).eval()
    assert eager.against(path, after, cases, kept)["status"] == "identical"
    assert "draws other weights" in kept.found["notes"][0]
    wrong = nn.Sequential(nn.Linear(3, 4), nn.GELU(), nn.Linear(4, 2)).eval()
    found = eager.against(path, wrong, cases, kept)
    assert found["status"] == "differs"
    assert "the first module within that gives others is 1" in found["reason"]
    fewer = nn.Sequential(nn.Linear(3, 2)).eval()
    assert "other weights" in eager.against(path, fewer, cases, kept)["reason"]


# The ladder -------------------------------------------------------------------------------------


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(3, 4), nn.Linear(4, 2)

    def forward(self, x: Any, pair: Any = None, scale: float = 1.0) -> Any:
        y = self.b(torch.relu(self.a(x))) * scale
        return {"y": y, "sum": y.sum(1)} if pair is None else (y + pair[0], ~pair[1])


def test_a_model_passes_on_other_sizes(tmp_path: Path) -> None:
    found = climb(tmp_path, Net(), "x=float32[batch,3]", "pair=(float32[batch,2], bool[batch])",
                  "scale=2.0", vary=("batch=2,5",))  # fmt: skip
    (rung,) = found["rungs"]
    assert (found["rung"], rung["outcome"], rung["engine"]) == ("default", "ok", "onnxruntime")
    assert [s["sizes"] for s in rung["sets"]] == [{"batch": 2}, {"batch": 5}]
    assert found["graph"]["opset"] == 18
    assert found["graph"]["inputs"] == [
        "x: float32[batch,3]", "pair_0: float32[batch,2]", "pair_1: bool[batch]",
    ]  # fmt: skip
    assert json.loads((tmp_path / "record.json").read_text())["rung"] == "default"
    wanted = climb(tmp_path, Net(), "x=float32[batch,3]", vary=("batch=2,5",), opset=17)
    last = wanted["rungs"][0]
    assert wanted.get("graph", {}).get("opset", 18) == 17 or last["stage"] == "opset"


def test_bfloat16_goes_to_the_reference(tmp_path: Path) -> None:
    found = climb(tmp_path, Net().bfloat16(), "x=bfloat16[2,3]")
    (rung,) = found["rungs"]
    assert (rung["outcome"], rung["engine"], rung["dtype"]) == ("ok", "onnx.reference", "bfloat16")
    assert found["notes"] == ["the graph gives ['sum'] as float32, the model as bfloat16"]


def test_a_size_that_the_code_fixes(tmp_path: Path) -> None:
    class Fixed(nn.Module):
        def forward(self, x: Any) -> Any:
            return x.mean(0) if x.shape[0] <= 3 else x.sum(0)

    found = climb(tmp_path, Fixed(), "x=float32[batch,4]", vary=("batch=2,5",))
    first, second = found["rungs"]
    assert (first["outcome"], first["only_other_sizes"]) == ("differs", True)
    assert explain(first["failure"]).kind == "bounded-size"
    assert (found["rung"], second["outcome"]) == ("static", "ok")
    assert len(second["sets"]) >= 2, "other values, for the size may not vary"


def test_a_branch_on_values_ends_the_ladder(tmp_path: Path) -> None:
    class Branch(nn.Module):
        def forward(self, x: Any) -> Any:
            if x.sum() > 100:
                return x * 0
            return x + 1

    found = climb(tmp_path, Branch(), "x=float32[batch,4]{-9..-1}", vary=("batch=2,5",))
    assert [r["rung"] for r in found["rungs"]] == ["default", "static", "legacy"]
    assert "rung" not in found
    first, _, legacy = found["rungs"]
    what = explain(first["failure"])
    assert what.kind == "data-dependent-branch"
    assert what.place.endswith(f"{Path(__file__).name}:{_line('if x.sum() > 100')}")
    assert legacy["outcome"] == "differs", "values of the other side of the branch were tried"


def _line(text: str) -> int:
    lines = Path(__file__).read_text(encoding="utf-8").splitlines()
    return next(i for i, line in enumerate(lines, 1) if text in line)


def test_a_cache_is_left_away(tmp_path: Path) -> None:
    class Config:
        use_cache = True
        _attn_implementation = "sdpa"

    class Cache:
        pass

    class Model(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.config = Config()

        def forward(self, x: Any) -> Any:
            return {"y": x * 2, **({"cache": Cache()} if self.config.use_cache else {})}

    model = Model()
    found = climb(tmp_path, model, "x=float32[batch,4]", vary=("batch=2,5",))
    assert [(r["rung"], r["outcome"]) for r in found["rungs"]] == [
        ("default", "failed"),
        ("no-cache", "ok"),
    ]
    assert explain(found["rungs"][0]["failure"]).kind == "cache"
    assert model.config._attn_implementation == "sdpa", "what was not in the way stays"
    assert "Cache" in found["notes"][0]


def test_a_missing_operator_skips_fixed_sizes(tmp_path: Path) -> None:
    class Svd(nn.Module):
        def forward(self, x: Any) -> Any:
            return torch.linalg.svd(x)[1]

    found = climb(tmp_path, Svd(), "x=float32[batch,3,3]", vary=("batch=2,5",))
    assert [r["rung"] for r in found["rungs"]] == ["default", "legacy"]
    assert "aten._linalg_svd" in explain(found["rungs"][0]["failure"]).text


def test_the_first_value_that_differs_is_found(tmp_path: Path) -> None:
    model, path = Net().eval(), tmp_path / "net.onnx"
    x = torch.randn(2, 3)
    program = torch.onnx.export(
        model, (x,), dynamo=True, opset_version=18, verbose=False, optimize=False
    )
    program.save(str(path))
    proto = onnx.load(str(path))
    weights = next(i for i in proto.graph.initializer if i.name == "b.bias")
    weights.CopyFrom(onnx.numpy_helper.from_array(numpy.ones(2, numpy.float32) * 9, "b.bias"))
    onnx.save(proto, str(path))
    case = inputs.Case((x,), {}, {})
    found = locate.first(path, program, case, 1e-4, record(tmp_path))
    assert found["torch"] == "aten.addmm.default" or "linear" in found["value"]
    assert found["place"].endswith(f":{_line('y = self.b(torch.relu')}")
    assert found["before"] >= 1
    assert "differ" in found["reason"]
    assert list(tmp_path.glob("*.open.onnx")) == []


def test_a_graph_that_the_runtime_refuses(tmp_path: Path) -> None:
    path = tmp_path / "x.onnx"
    path.write_bytes(b"no graph")
    with pytest.raises(graph.CannotRun):
        graph.Session(path)


def test_numpy_and_torch_agree() -> None:
    for dtype in (torch.float32, torch.bfloat16, torch.int64, torch.bool, torch.float16):
        value = torch.tensor([[1, 0], [2, 3]]).to(dtype)
        assert torch.equal(graph.tensor(graph.array(value)), value)
    assert graph.tensor(graph.array(torch.tensor(2.5))).shape == ()


# Expressions ------------------------------------------------------------------------------------


@dataclasses.dataclass
class Config:
    width: int = 3
    act: Any = nn.ReLU


def again(found: expression.Expression) -> Any:
    """What an expression gives, with its imports and nothing else."""
    space: dict[str, Any] = {}
    for needed in found.imports:
        module, _, name = needed.partition(":")
        first = name.partition(".")[0]
        text = f"from {module} import {first}" if name else f"import {module}"
        if module != __name__:
            exec(text, space)
        else:
            space[first] = globals()[first]
    return eval(found.text, space)


def test_values_are_written_as_python(monkeypatch: pytest.MonkeyPatch) -> None:
    import argparse
    import functools
    import pathlib

    monkeypatch.setitem(sys.modules, __name__, sys.modules.get(__name__) or _this_module())
    for value in (
        None, 3, -2.5, "a'b", b"c", [1, (2,), {"k": [True]}], float("inf"), torch.float16,
        torch.device("cpu"), nn.ReLU, torch.nn.functional.relu, argparse.Namespace(a=1, b=[2]),
        pathlib.PurePosixPath("a/b"), numpy.float32(2.0),
    ):  # fmt: skip
        found = write(value)
        assert again(found) == value or str(again(found)) == str(value), found.text
    tensor = torch.tensor([[1.5, 2.0]], dtype=torch.float64)
    assert torch.equal(again(write(tensor)), tensor)
    partial = again(write(functools.partial(nn.Linear, 3, bias=False)))
    assert (partial.func, partial.args, partial.keywords) == (nn.Linear, (3,), {"bias": False})
    assert write([1, "a"]).literal
    assert not write(nn.ReLU).literal


def _this_module() -> Any:
    module = type(sys)(__name__)
    module.__dict__.update(globals())
    return module


def test_configurations_are_written(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, __name__, _this_module())
    found = write(Config(5))
    assert found.text == "Config(width=5, act=ReLU)"
    assert again(found) == Config(5)


@pytest.mark.parametrize(
    "value",
    [lambda: 1, object(), torch.zeros(1000), open, iter([]), nn.Linear(2, 2)],
    ids=["lambda", "object", "tensor", "function", "iterator", "module"],
)
def test_what_cannot_be_written(value: Any) -> None:
    if value is open:
        assert write(value).text == "open"
        return
    with pytest.raises(CannotWrite):
        write([value])
    with pytest.raises(CannotWrite, match="argument 'x'"):
        expression.call("m:f", (), {"x": value})
