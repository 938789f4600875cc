"""Models and inputs as they are written: command line, configuration, tables."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from porter import config
from porter.onnx import tables
from porter.onnx.spec import (
    Constant,
    Dim,
    Group,
    Input,
    Model,
    SpecProblem,
    Tensor,
    as_data,
    checked,
    from_tables,
    parse_input,
    parse_vary,
    shown,
    target,
)

BATCH = (("batch", (2, 5)),)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("x=float32[batch,3,8,8]", Tensor("float32", (Dim("batch"), 3, 8, 8))),
        ("ids = int64[b, s]{0..1000}", Tensor("int64", (Dim("b"), Dim("s")), 0, 1000)),
        ("x=float32[4*n]{-1..1.5}", Tensor("float32", (Dim("n", 4),), -1, 1.5)),
        ("x=bool[]", Tensor("bool", ())),
        ("scale=2.0", Constant("2.0")),
        ("mask=None", Constant("None")),
        ("mode='a, b'", Constant("'a, b'")),
        (
            "p=(float32[2], (int8[3], True))",
            Group(
                "tuple",
                (
                    ("", Tensor("float32", (2,))),
                    ("", Group("tuple", (("", Tensor("int8", (3,))), ("", Constant("True"))))),
                ),
            ),
        ),
        ("p=[float32[2,3]]", Group("list", (("", Tensor("float32", (2, 3))),))),
        ('p={"a": int64[2]{0..9}}', Group("dict", (("a", Tensor("int64", (2,), 0, 9)),))),
        ("p=(float32[2],)", Group("tuple", (("", Tensor("float32", (2,))),))),
    ],
)
def test_inputs(text: str, value: Any) -> None:
    found = parse_input(text)
    assert found.value == value
    assert parse_input(shown(found)) == found, "what is shown reads as the same"


def test_an_input_may_have_no_name() -> None:
    assert parse_input("float32[2]") == Input("", Tensor("float32", (2,)))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("x=flot32[2]", "did you mean 'float32'"),
        ("x=float32", "write a tensor like"),
        ("x=float32[two words]", "a dimension cannot be 'two words'"),
        ("x=float32[-1]", "a dimension cannot be '-1'"),
        ("x=float32[0*n]", "a dimension cannot be"),
        ("x=int64[2]{9}", "write them like {0..1000}"),
        ("x=int64[2]{9..3}", "the first must be below"),
        ("x=bool[2]{0..1}", "takes no values"),
        ("x=", "nothing stands behind"),
        ("x=[1,, 2]", "nothing"),
        ("x={1: int64[2]}", "a dictionary is written"),
        ("x=a b", "neither a tensor"),
    ],
)
def test_mistakes_in_inputs(text: str, said: str) -> None:
    with pytest.raises(SpecProblem) as caught:
        parse_input(text)
    assert said in str(caught.value)
    assert repr(text) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_sizes() -> None:
    assert parse_vary("batch=2,5") == ("batch", (2, 5))
    for wrong in ("batch", "batch=", "batch=2,x", "batch=0,1", "=2,3"):
        with pytest.raises(SpecProblem):
            parse_vary(wrong)
    inputs = (parse_input("x=float32[b,s]"),)
    model = checked(Model("m:f", inputs=inputs, vary=(("b", (2, 5, 7)), ("s", (4, 6)))))
    assert model.sizes() == ({"b": 2, "s": 4}, {"b": 5, "s": 6}, {"b": 7, "s": 6})
    assert Model("m:f").sizes() == ({}, {}), "two sets of inputs, also without dimensions"


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"inputs": ("x=float32[b]",)}, "which sizes has 'b'"),
        ({"inputs": ("x=float32[2]",), "vary": BATCH}, "no input has a dimension 'batch'"),
        ({"inputs": ("x=float32[b]",), "vary": (("b", (2, 2)),)}, "two different sizes"),
        ({"inputs": ("x=int8[2]", "x=int8[2]")}, "two inputs are called 'x'"),
        ({"inputs": ("x=int8[2]", "int8[2]")}, "an input without a name stands behind"),
        ({"opset": 10}, "opset 10 is not in 11 to"),
        ({"factory": "nothing"}, "package.module:name"),
        ({"factory": "a/b:f"}, "neither a module nor a .py file"),
        ({"factory": "m:f(x)"}, "must be literals"),
        ({"factory": "m:f(**{})"}, "must be literals"),
    ],
)
def test_parts_that_do_not_fit(given: dict[str, Any], said: str) -> None:
    inputs = tuple(parse_input(t) for t in given.pop("inputs", ()))
    with pytest.raises(SpecProblem) as caught:
        checked(Model(given.pop("factory", "m:f"), inputs=inputs, **given))
    assert said in str(caught.value)


def test_factories() -> None:
    assert target("a.b:C") == ("a.b", "C", "")
    assert target("dir/a.py:C.make(1, b='x:y')") == ("dir/a.py", "C.make", "(1, b='x:y')")


def test_what_the_worker_is_told() -> None:
    model = Model("m:f(2)", inputs=(parse_input("x=float32[2*b,3]{0..1}"),), vary=(("b", (2, 5)),))
    data = as_data(checked(model))
    assert data["inputs"][0]["value"]["dims"] == [[2, "b"], 3]
    assert data["sizes"] == [{"b": 2}, {"b": 5}]
    assert data["dynamic"] == ["b"]
    assert (data["module"], data["attribute"], data["arguments"]) == ("m", "f", "(2)")


# Configuration ----------------------------------------------------------------------------------

TABLE = """
[[tool.porter.onnx]]
name = "net"
model = "net:Net(width=4)"
inputs = ["x=float32[batch,3]", "mask=bool[batch]"]
vary = { batch = [2, 5] }
opset = 17
weights = "w.pt"
tolerance = 0.01
"""


def test_tables_of_the_configuration(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(f'[tool.porter]\ntarget = "npu"\n{TABLE}')
    settings = config.load([tmp_path])
    (model,) = settings.onnx
    assert model.title == "net"
    assert model.opset == 17
    assert model.inputs[1] == Input("mask", Tensor("bool", (Dim("batch"),)))
    assert settings.target == "npu"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("onnx = 3", "onnx must be tables"),
        ("onnx = [3]", "table 1 must be a table"),
        ("[[tool.porter.onnx]]\nname = 'a'", 'table 1 needs model = "package.module:name"'),
        ("[[tool.porter.onnx]]\nmodell = 'a:b'", "did you mean 'model'"),
        ("[[tool.porter.onnx]]\nmodel = 'a:b'\ninputs = 'x'", "inputs must be a list of text"),
        ("[[tool.porter.onnx]]\nmodel = 'a:b'\ninputs = [1]", "inputs must be a list of text"),
        ("[[tool.porter.onnx]]\nmodel = 'a:b'\nopset = true", "opset must be a number"),
        ("[[tool.porter.onnx]]\nmodel = 'a:b'\nvary = {b = 2}", "vary.b must be a list of sizes"),
        ("[[tool.porter.onnx]]\nmodel = 'a:b'\n" * 2, "two models 'a:b'"),
        (
            "[[tool.porter.onnx]]\nmodel = 'a:b'\ninputs = ['x=int9[2]']",
            "no dtype is called 'int9'",
        ),
    ],
)
def test_mistakes_in_tables(tmp_path: Path, text: str, said: str) -> None:
    head = "" if text.startswith("[[") else "[tool.porter]\n"
    (tmp_path / "pyproject.toml").write_text(head + text)
    with pytest.raises(config.ConfigProblem) as caught:
        config.load([tmp_path])
    assert said in caught.value.message
    assert "pyproject.toml" in caught.value.message
    assert "\n" not in caught.value.message


# Tables that capture writes ---------------------------------------------------------------------

NET = Model(
    "net:Net(act='a\"b\\\\c')",
    "Net é",
    tuple(parse_input(f"a_rather_long_name_{i}=float32[batch,3,224,224]") for i in range(4)),
    BATCH,
    weights="kept/w.pt",
    data="kept/i.pt",
)


@pytest.mark.parametrize(
    "before",
    [
        "",
        '[tool.porter]\ntarget = "npu"\n',
        '[project]\nname = "x"  # a comment\n\n[tool.other]\nkey = [\n  1,\n]',
        "[tool.porter]\r\nunsafe = true\r\n",
        TABLE,
        "\ufeff[project]\nname = 'x'\n",
    ],
)
def test_tables_are_added_and_nothing_else_changes(tmp_path: Path, before: str) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_bytes(before.encode())
    written, added, there = tables.add(tmp_path, [NET])
    assert (written, added, there) == (path, [NET.name], [])
    after = path.read_bytes()
    assert after.startswith(before.encode())
    assert (b"\r\n" in after) == ("\r\n" in before)
    assert b"\n" not in after.replace(b"\r\n", b"") or "\r\n" not in before
    assert config.read(path).onnx[-1] == NET
    assert tables.add(tmp_path, [NET]) == (path, [], [NET.name])
    assert path.read_bytes() == after


def test_tables_go_to_the_own_file_of_porter(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    (tmp_path / "porter.toml").write_text('target = "npu"\n')
    path, _, _ = tables.add(tmp_path, [NET])
    assert path.name == "porter.toml"
    assert config.load([tmp_path]).onnx == (NET,)
    fresh = tmp_path / "fresh"
    fresh.mkdir()
    assert tables.add(fresh, [NET])[0] == fresh / "porter.toml"
    assert config.load([fresh]).onnx == (NET,)


@pytest.mark.parametrize(
    "before", ["tool = {porter = {unsafe = true}}\n", "tool.porter.onnx = []\n"]
)
def test_a_file_that_cannot_take_tables_is_left_alone(tmp_path: Path, before: str) -> None:
    path = tmp_path / "pyproject.toml"
    path.write_text(before)
    with pytest.raises(tables.TablesProblem, match="by hand"):
        tables.add(tmp_path, [NET])
    assert path.read_text() == before


def test_the_file_of_factories(tmp_path: Path) -> None:
    first = {"net": "def net():\n    return 1\n"}
    path, added, there = tables.add_factories(tmp_path, first)
    assert (added, there) == (["net"], [])
    both = {"net": "def net():\n    return 2\n", "other": "def other():\n    return 3\n"}
    assert tables.add_factories(tmp_path, both) == (path, ["other"], ["net"])
    space: dict[str, Any] = {}
    exec(compile(path.read_text(), "models", "exec"), space)
    assert (space["net"](), space["other"]()) == (1, 3)
    path.write_text("def (")
    with pytest.raises(tables.TablesProblem, match="not Python"):
        tables.add_factories(tmp_path, both)


def test_models_of_a_configuration_have_names_of_their_own() -> None:
    with pytest.raises(SpecProblem, match="two models 'a'"):
        from_tables([{"model": "m:f", "name": "a"}, {"model": "m:g", "name": "a"}])
