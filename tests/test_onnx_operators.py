"""Operators of ONNX files, looked up in the table of Ascend's compiler."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from porter.onnx import operators
from porter.onnx.operators import OnnxProblem, Registration, Summary, Value
from porter.rewrites.support import onnx_ops, tables

ROOT = Path(__file__).parent.parent


def _load_builder() -> ModuleType:
    path = ROOT / "docs" / "tools" / "build_onnx_ops.py"
    spec = importlib.util.spec_from_file_location("build_onnx_ops", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BUILDER = _load_builder()


# The table --------------------------------------------------------------------------------------


def test_the_table_is_built_from_facts(tmp_path: Path) -> None:
    facts = {
        "opset_range": "ai.onnx opset v11..v18 (a page)",
        "sources": {
            "github.com/hicann/ops-math": "c41933244c31e44fd496 2026-08-22",
            "github.com/microsoft/onnxruntime .../cann_graph.cc": "0fc067a144c9c1f49209",
        },
        "ops": {
            "Conv": {
                "atc_plugin_opsets": [8, 9, 10, 11, 18], "ge_op": ["PartitionedCall"],
                "evidence": ["hicann-ops-nn:conv.cpp"], "in_onnx_standard": True,
                "ort_cann_ep_graph_list": True, "ort_cann_ep_single_op_dtypes": ["fp16"],
                "hiascend_dtype_facts": {"dtypes": {"x": ["fp16", "fp32"]}, "source": "a page"},
            },
            "Constant": {
                "atc_plugin_opsets": "builtin", "ge_op": ["Constant"], "evidence": [],
                "in_onnx_standard": True, "ort_cann_ep_graph_list": False,
            },
            "Loop": {"atc_plugin_opsets": [], "ge_op": [], "evidence": [],
                     "in_onnx_standard": True, "ort_cann_ep_graph_list": False},
        },
        "custom_domain_ops": {
            "npu::NPUIou": {"opsets": [1], "ge_op": ["Iou"], "evidence": ["hicann-ops-cv:i.cpp"]},
            "torch.onnx.symbolic_opset11.addcmul (no domain)": {
                "opsets": [], "ge_op": [], "evidence": []},
        },
    }  # fmt: skip
    path = tmp_path / "facts.json"
    path.write_text(json.dumps(facts), encoding="utf-8")
    BUILDER.build(path, tmp_path)
    lines = (tmp_path / "onnx_ops.tsv").read_text(encoding="utf-8").splitlines()
    assert lines[0] == "# opsets 11 18"
    assert [line for line in lines if not line.startswith("#")] == [
        "= ai.onnx",
        "Constant\t*\tConstant\t\t\t\tstd",
        "Conv\t8-11,18\tPartitionedCall\tgraph kernel:fp16\tx:fp16,fp32 | a page\tops-nn:conv.cpp\tstd",
        "Loop\t-\t\t\t\t\tstd",
        "= npu",
        "NPUIou\t1\tIou\t\t\tops-cv:i.cpp",
    ]
    source = json.loads((tmp_path / "sources.json").read_text(encoding="utf-8"))["onnx_ops.tsv"]
    assert source["date"] == "2026-08-22"
    assert "ops-math c41933244c31" in source["source"]


def test_the_table_says_when_and_where() -> None:
    said = tables.sources()["onnx_ops.tsv"]
    assert re.fullmatch(r"20\d\d-\d\d-\d\d", said["date"])
    for part in ("hicann", "ops-math", "onnxruntime", "cann_graph.cc"):
        assert part in said["source"]
    assert onnx_ops.opset_range() == (11, 18)


def test_counts_of_the_table() -> None:
    rows = [r for (domain, _), r in onnx_ops.operators().items() if domain == "ai.onnx"]
    standard = [r for r in rows if r.standard]
    assert len(standard) == 203
    assert sum(r.registered(18) for r in rows) == 222
    assert sum("graph" in r.provider for r in rows) == 134
    assert {d for d, _ in onnx_ops.operators()} == {"ai.onnx", "mmdeploy", "npu"}


@pytest.mark.parametrize(
    ("domain", "name", "opset", "registration"),
    [
        ("", "Conv", 18, Registration.REGISTERED),
        ("ai.onnx", "Conv", 11, Registration.REGISTERED),
        ("", "Conv", 19, Registration.UNREGISTERED),
        ("", "Constant", 25, Registration.REGISTERED),
        ("", "Loop", 18, Registration.UNREGISTERED),
        ("", "ReduceL2", 17, Registration.REGISTERED),
        ("", "ReduceL2", 18, Registration.UNREGISTERED),
        ("", "LayerNormalization", 16, Registration.UNREGISTERED),
        ("", "Attention", 23, Registration.UNREGISTERED),
        ("", "NoSuchOperator", 18, Registration.UNKNOWN),
        ("npu", "NPUIou", 1, Registration.REGISTERED),
        ("com.microsoft", "FusedMatMul", 1, Registration.UNKNOWN),
    ],
)
def test_registration(domain: str, name: str, opset: int, registration: Registration) -> None:
    known = onnx_ops.fact(domain, name, opset)
    assert known.registration is registration
    assert bool(known.reason) == (registration is not Registration.REGISTERED)


def test_advice_is_about_operators_of_the_table() -> None:
    rows = onnx_ops.operators()
    for name in onnx_ops.advice():
        row = rows["ai.onnx", name]
        assert not row.registered(18), name


def test_every_unregistered_standard_operator_has_advice() -> None:
    """Exempt are those of later opsets, which a remark speaks of, and those that expand."""
    known = onnx_ops.advice()
    exempt = {"AffineGrid", "BitCast", "BlackmanWindow", "HammingWindow", "HannWindow",
              "LinearAttention", "SwiGLU"}  # fmt: skip
    left = {
        row.name
        for row in onnx_ops.operators().values()
        if row.standard and not row.registered(18) and row.name not in known
    }
    assert left == exempt


def test_provider_column() -> None:
    assert onnx_ops.fact("", "Conv", 18).provider == "graph"
    assert onnx_ops.fact("", "Conv", 7).provider == "kernel"
    assert onnx_ops.fact("", "Einsum", 18).provider == "no"
    assert onnx_ops.fact("npu", "NPUIou", 1).provider == "no"


def test_spoken_ranges() -> None:
    assert onnx_ops.spoken(frozenset({8, 9, 10, 12})) == "8 to 10 and 12"
    assert onnx_ops.spoken(frozenset({18})) == "18"
    assert onnx_ops.spoken(frozenset({1, 6, 8, 9})) == "1, 6 and 8 to 9"


# Remarks ----------------------------------------------------------------------------------------


def _summary(**changes: Any) -> Summary:
    values: dict[str, Any] = {
        "ir_version": 10, "producer": "", "opsets": (("ai.onnx", 18),),
        "inputs": (Value("x", "tensor", "FLOAT", (1, 3)),), "outputs": (), "weights": (),
        "functions": (), "external": (),
    }  # fmt: skip
    return Summary(**{**values, **changes})


@pytest.mark.parametrize(
    ("changes", "blocks", "words"),
    [
        ({"opsets": (("ai.onnx", 20),)}, True, "opset 20"),
        ({"opsets": (("ai.onnx", 9),)}, True, "opset 9"),
        ({"functions": (("f::g", 2),)}, True, "f::g (2)"),
        ({"inputs": ()}, True, "E16001"),
        ({"weights": (("FLOAT4E2M1", "w"),)}, True, "FLOAT4E2M1 (w)"),
        ({"inputs": (Value("ids", "tensor", "INT64", (1, 8)),)}, False, "ids (int64)"),
        ({"inputs": (Value("xs", "sequence", "", None),)}, False, "xs is a sequence"),
        ({"inputs": (Value("x", "tensor", "FLOAT", ("batch", 3)),)}, False, "vary: x"),
        ({"external": (("w.data", False),)}, False, "w.data"),
    ],
)
def test_remarks(changes: dict[str, Any], blocks: bool, words: str) -> None:
    (only,) = onnx_ops.remarks(_summary(**changes))
    assert only.blocks is blocks
    assert words in only.text
    assert only.advice


def test_no_remark_without_need() -> None:
    assert list(onnx_ops.remarks(_summary(external=(("w.data", True),)))) == []


# porter query -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["onnx::Conv", "ai.onnx::Conv", "ATC::Conv", "onnx::18::Conv",
                                  "onnx::Conv@18"])  # fmt: skip
def test_query_finds_an_operator(name: str) -> None:
    (only,) = onnx_ops.query(name, operators_target())
    assert only.name == "ai.onnx::Conv"
    assert only.status.value == "registered"
    assert "8 to 18" in only.note
    assert "not proof of a kernel" in only.note
    assert only.source.startswith("github.com/hicann/ops-nn common/")
    assert only.source.endswith("at e5c3fa9327ea (2026-08-22)")


def operators_target() -> Any:
    from porter.targets import Target

    return Target("npu")


def test_query_of_what_is_not_registered() -> None:
    (only,) = onnx_ops.query("onnx::Loop", operators_target())
    assert only.status.value == "unsupported"
    assert "number of turns" in only.note
    assert list(onnx_ops.query("onnx::NoSuch", operators_target())) == []
    assert list(onnx_ops.query("aten::add", operators_target())) == []
    assert list(onnx_ops.query("Conv", operators_target())) == []
    (limited,) = onnx_ops.query("onnx::LayerNormalization", operators_target())
    assert limited.limits[0] == "x takes float16 only"
    (plugin,) = onnx_ops.query("npu::NPUIou", operators_target())
    assert plugin.name == "npu::NPUIou"


# Files ------------------------------------------------------------------------------------------

onnx = pytest.importorskip("onnx") if importlib.util.find_spec("onnx") else None
needs_onnx = pytest.mark.skipif(onnx is None, reason="needs onnx")


def _model(nodes: list[Any], *, opset: int = 18, **more: Any) -> Any:
    from onnx import TensorProto, helper

    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 4])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, None)
    graph = helper.make_graph(
        nodes, "g", more.pop("inputs", [x]), [y], initializer=more.pop("weights", [])
    )
    opsets = [helper.make_opsetid(d, v) for d, v in {"": opset, **more.pop("domains", {})}.items()]
    return helper.make_model(graph, opset_imports=opsets, **more)


def _node(*args: Any, **kwargs: Any) -> Any:
    from onnx import helper

    return helper.make_node(*args, **kwargs)


def _titles(report: operators.OperatorReport, registration: Registration) -> list[str]:
    return [u.title for u in report.of(registration)]


@needs_onnx
def test_counts_and_names(tmp_path: Path) -> None:
    model = _model([
        _node("Relu", ["x"], ["a"], name="first"), _node("Relu", ["a"], ["b"]),
        _node("Softmax", ["b"], ["y"], name="last"),
    ])  # fmt: skip
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    report = operators.examine(path, shown="m.onnx")
    assert report.clean
    assert report.registration is Registration.REGISTERED
    (relu, softmax) = report.operators
    assert (relu.title, relu.count, relu.nodes) == ("Relu@18", 2, ("first", "b"))
    assert softmax.provider == "graph"
    text = operators.render_text(report)
    assert text.startswith("m.onnx: opset 18, IR version ")
    assert "only compiling shows" in text
    assert json.loads(json.dumps(report.to_json()))["operators"][0]["nodes"] == ["first", "b"]


@needs_onnx
def test_explicit_default_domain_is_the_same() -> None:
    model = _model([_node("Relu", ["x"], ["y"], domain="ai.onnx")])
    (only,) = operators.examine_model(model, "m").operators
    assert (only.title, only.registration) == ("Relu@18", Registration.REGISTERED)


@needs_onnx
def test_branches_and_bodies() -> None:
    from onnx import TensorProto, helper

    y = helper.make_tensor_value_info("t", TensorProto.FLOAT, None)
    inner = helper.make_graph([_node("RNN", ["x", "x", "x"], ["t"])], "then", [], [y])
    other = helper.make_graph([_node("Relu", ["x"], ["t"])], "else", [], [y])
    deep = helper.make_graph(
        [_node("If", ["c"], ["t"], name="choice", then_branch=inner, else_branch=other)],
        "body", [], [y],
    )  # fmt: skip
    model = _model([_node("Loop", ["m", "c", "x"], ["y"], name="loop", body=deep)])
    report = operators.examine_model(model, "m")
    assert _titles(report, Registration.UNREGISTERED) == ["Loop@18", "RNN@18"]
    by_name = {u.name: u for u in report.operators}
    assert by_name["RNN"].places == ("then_branch of If choice",)
    assert by_name["If"].places == ("body of Loop loop",)
    assert "GRU" in by_name["RNN"].advice
    assert "in then_branch of If choice" in operators.render_text(report)


@needs_onnx
def test_functions_are_read_and_reported() -> None:
    from onnx import helper

    opsets = [helper.make_opsetid("", 18)]
    inner = helper.make_function("f", "leaf", ["a"], ["b"], [_node("Loop", ["a"], ["b"])], opsets)
    outer = helper.make_function(
        "f", "whole", ["a"], ["b"], [_node("leaf", ["a"], ["b"], domain="f")],
        [*opsets, helper.make_opsetid("f", 1)],
    )  # fmt: skip
    unused = helper.make_function(
        "f", "unused", ["a"], ["b"], [_node("Scan", ["a"], ["b"])], opsets
    )
    model = _model(
        [_node("whole", ["x"], ["a"], domain="f"), _node("whole", ["a"], ["y"], domain="f")],
        domains={"f": 1}, functions=[inner, outer, unused],
    )  # fmt: skip
    report = operators.examine_model(model, "m")
    assert [(u.title, u.places) for u in report.operators] == [("Loop@18", ("function f::leaf",))]
    assert dict(report.summary.functions) == {"f::whole": 2, "f::leaf": 1}
    (blocks,) = [r for r in report.remarks if r.blocks]
    assert "inline_local_functions" in blocks.advice


@needs_onnx
def test_custom_domains_and_missing_imports() -> None:
    model = _model([
        _node("FusedMatMul", ["x", "x"], ["a"], domain="com.microsoft"),
        _node("MyOperator", ["a"], ["b"], domain="mine"),
        _node("NPUIou", ["b", "b"], ["y"], domain="npu"),
    ], domains={"com.microsoft": 1, "npu": 1})  # fmt: skip
    report = operators.examine_model(model, "m")
    assert _titles(report, Registration.REGISTERED) == ["npu::NPUIou@1"]
    microsoft, mine = report.of(Registration.UNKNOWN)
    assert "before ONNX Runtime optimised" in microsoft.advice
    assert mine.title == "mine::MyOperator@0"
    assert "imports no opset" in mine.reason
    assert report.registration is Registration.UNKNOWN
    assert not report.clean


@needs_onnx
def test_a_newer_opset_is_said_once() -> None:
    nodes = [
        _node("Relu", ["x"], ["a"]),
        _node("Sigmoid", ["a"], ["b"]),
        _node("Tanh", ["b"], ["y"]),
    ]
    report = operators.examine_model(_model(nodes, opset=21), "m")
    assert [r.text for r in report.remarks if r.blocks] == [
        "the model has opset 21; ATC documents opset 11 to 18"
    ]
    assert not report.of(Registration.REGISTERED)
    text = operators.render_text(report)
    assert text.count("export it again with opset 18") == 1
    assert text.count("opset 8 to 18 only") == 1


@needs_onnx
def test_newer_than_the_installed_onnx(tmp_path: Path) -> None:
    model = _model([_node("FromTheFuture", ["x"], ["y"])], opset=99)
    model.ir_version = 99
    path = tmp_path / "m.onnx"
    path.write_bytes(model.SerializeToString())
    report = operators.examine(path)
    assert report.summary.ir_version == 99
    assert [u.registration for u in report.operators] == [Registration.UNKNOWN]


@needs_onnx
def test_weights_in_missing_files(tmp_path: Path) -> None:
    import numpy
    from onnx import numpy_helper

    weight = numpy_helper.from_array(numpy.ones((4, 4), dtype="float32"), "w")
    path = tmp_path / "m.onnx"
    onnx.save(
        _model([_node("MatMul", ["x", "w"], ["y"])], weights=[weight]), path,
        save_as_external_data=True, location="w.data", size_threshold=0,
    )  # fmt: skip
    assert dict(operators.examine(path).summary.external) == {"w.data": True}
    (tmp_path / "w.data").unlink()
    report = operators.examine(path)
    assert dict(report.summary.external) == {"w.data": False}
    assert report.clean
    assert any("w.data" in r.text for r in report.remarks)


@needs_onnx
def test_dtype_limits() -> None:
    from onnx import TensorProto, helper

    scale = helper.make_tensor("s", TensorProto.FLOAT, [4], [1.0] * 4)
    half = helper.make_tensor("h", TensorProto.FLOAT16, [4], [1.0] * 4)
    model = _model([
        _node("Relu", ["x"], ["a"]), _node("LayerNormalization", ["a", "s"], ["b"]),
        _node("Cast", ["b"], ["c"], to=TensorProto.FLOAT16),
        _node("LayerNormalization", ["c", "h"], ["y"]),
    ], weights=[scale, half])  # fmt: skip
    uses = {u.name: u for u in operators.examine_model(model, "m").operators}
    (limit,) = uses["LayerNormalization"].limits
    assert limit.startswith("x, scale are float32; ")
    assert limit.endswith("names float16 only (1 node)")
    assert uses["LayerNormalization"].registration is Registration.REGISTERED


@needs_onnx
def test_constants_that_the_parser_does_not_read() -> None:
    model = _model([_node("Constant", [], ["c"], value_ints=[1, 4]),
                    _node("Reshape", ["x", "c"], ["y"])])  # fmt: skip
    uses = {u.name: u for u in operators.examine_model(model, "m").operators}
    assert uses["Constant"].limits == (
        "the parser of ATC reads the attribute value only, not value_ints (1 node)",
    )


@needs_onnx
def test_the_advised_expansion_works() -> None:
    from onnx import inliner

    model = _model([_node("ReduceL2", ["x"], ["y"], keepdims=1)])
    (only,) = operators.examine_model(model, "m").operators
    assert 'inline_selected_functions(model, [("", "ReduceL2")]' in only.advice
    after = inliner.inline_selected_functions(
        model, [("", "ReduceL2")], inline_schema_functions=True
    )
    assert operators.examine_model(after, "m").clean


@needs_onnx
def test_the_advised_inlining_works() -> None:
    from onnx import helper, inliner

    function = helper.make_function(
        "f", "g", ["a"], ["b"], [_node("Relu", ["a"], ["b"])], [helper.make_opsetid("", 18)]
    )
    model = _model([_node("g", ["x"], ["y"], domain="f")], domains={"f": 1}, functions=[function])
    assert not operators.examine_model(model, "m").clean
    assert operators.examine_model(inliner.inline_local_functions(model), "m").clean


@needs_onnx
def test_no_inputs_and_no_names() -> None:
    model = _model([_node("Constant", [], ["a"], value_float=1.0), _node("Relu", ["a"], ["y"])],
                   inputs=[])  # fmt: skip
    report = operators.examine_model(model, "m")
    assert report.registration is Registration.UNREGISTERED
    assert [r.blocks for r in report.remarks] == [True]


@needs_onnx
@pytest.mark.parametrize("content", [b"", b"hello world, this is no model", b"\x00" * 64])
def test_not_an_onnx_file(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "m.onnx"
    path.write_bytes(content)
    with pytest.raises(OnnxProblem, match=r"^m\.onnx: not an ONNX file"):
        operators.examine(path, shown="m.onnx")


@needs_onnx
def test_no_file(tmp_path: Path) -> None:
    with pytest.raises(OnnxProblem, match=r"^m\.onnx: cannot be read: "):
        operators.examine(tmp_path / "m.onnx", shown="m.onnx")
    with pytest.raises(OnnxProblem, match="cannot be read"):
        operators.examine(tmp_path, shown="folder")


@needs_onnx
def test_text_format(tmp_path: Path) -> None:
    model = _model([_node("Relu", ["x"], ["y"])])
    path = tmp_path / "m.textproto"
    onnx.save(model, path)
    assert operators.examine(path).clean


@needs_onnx
def test_every_model_that_comes_with_onnx() -> None:
    """Of all opsets since 6, with sequences, loops, scans and training operators."""
    paths = sorted(Path(onnx.__file__).parent.rglob("*.onnx"))
    assert len(paths) > 50
    for path in paths:
        report = operators.examine(path, shown=path.name)
        assert report.operators, path
        assert operators.render_text(report).startswith(f"{path.name}: opset ")
        for use in report.operators:
            assert bool(use.reason) == (use.registration is not Registration.REGISTERED), use.title
