"""`porter query`: what it finds, what it suggests, and its exit codes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from porter.query import FOUND, UNKNOWN, USAGE, query
from porter.support import Unanswerable, ask
from porter.targets import Target


def found(name: str, **options: str) -> list[dict[str, Any]]:
    text, code = query(name, output_format="json", **options)
    assert code == FOUND, text
    entries: list[dict[str, Any]] = json.loads(text)["found"]
    assert all(entry["source"] for entry in entries)
    return entries


def test_an_api_of_the_list() -> None:
    (entry,) = found("torch.stft", torch_npu="2.13")
    assert entry["status"] == "limited"
    assert entry["product_lines"] == {"A2": True, "A3": True, "950DT": False}
    assert entry["limits"] == ["input takes float32, float64, complex64, complex128 only"]
    assert entry["since"] == "torch_npu 2.7.1 or earlier"
    assert "pytorch_2-13-0/torch.md (2026-08-21)" in entry["source"]


def test_hardware_decides() -> None:
    assert found("torch.stft", hardware="A2")[0]["status"] == "limited"
    (entry,) = found("torch.stft", hardware="950DT")
    assert (entry["status"], entry["since"]) == ("unsupported", "")


def test_the_version_decides() -> None:
    old = found("torch.bmm", torch_npu="2.7")[0]["limits"]
    new = found("torch.bmm", torch_npu="2.13.0")[0]["limits"]
    assert old == ["input takes bfloat16, float16, float32 only"]
    assert new == ["input takes float16, float32 only"]


def test_a_version_without_a_list_is_said() -> None:
    text, code = query("torch.stft", torch_npu="2.9")
    assert code == FOUND
    assert "torch_npu 2.7.1" in text
    assert "list for torch_npu 2.9 was not read" in text


def test_an_operator() -> None:
    (entry,) = found("aten::isin.Tensor_Tensor_out")
    assert (entry["kind"], entry["status"]) == ("operator", "supported")
    assert found("torch.ops.aten.isin.Tensor_Tensor_out")[0]["name"] == entry["name"]


def test_all_overloads_of_an_operator() -> None:
    assert {e["name"] for e in found("aten::isin")} >= {
        "aten::isin.Tensor_Tensor",
        "aten::isin.Tensor_Scalar",
    }


def test_an_operator_whose_out_overload_does_the_work() -> None:
    (entry,) = (e for e in found("aten::lgamma") if e["name"] == "aten::lgamma")
    assert entry["status"] == "runs on the CPU"


def test_a_conditional_fallback() -> None:
    (entry,) = (e for e in found("aten::_masked_softmax") if e["name"] == "aten::_masked_softmax")
    assert entry["status"] == "limited"
    assert any("mask_type = 2" in limit for limit in entry["limits"])


def test_a_package() -> None:
    (entry,) = found("flash_attn")
    assert (entry["status"], entry["equivalent"]) == ("needs an adapter", "flash-attn-npu")
    assert found("flash-attn")[0]["status"] == "needs an adapter"


def test_a_package_without_evidence_says_so() -> None:
    (entry,) = found("horovod")
    assert entry["status"] == "unverified"
    assert entry["limits"] == ["not verified: no evidence was read"]


def test_an_environment_variable() -> None:
    (entry,) = found("NCCL_SOCKET_IFNAME")
    assert (entry["status"], entry["equivalent"]) == ("replaced", "HCCL_SOCKET_IFNAME")


def test_a_cuda_name_has_both_answers() -> None:
    entries = found("torch.cuda.CUDAGraph")
    assert {e["kind"] for e in entries} == {"API", "CUDA-bound name"}
    assert all(e["equivalent"] == "torch.npu.NPUGraph" for e in entries)
    assert "for inference only, not for training" in entries[0]["limits"]


def test_a_name_of_torch_npu() -> None:
    (entry,) = found("torch_npu.npu_fusion_attention")
    assert "head_num" in entry["note"]


def test_short_spellings() -> None:
    assert found("F.gelu")[0]["name"] == "torch.nn.functional.gelu"
    assert found("stft")[0]["name"] == "torch.stft"
    assert found("torch.stft()")[0]["name"] == "torch.stft"


def test_an_api_that_no_list_names_is_never_unsupported() -> None:
    (entry,) = found("torch.linalg.svdvals")
    assert entry["status"] in ("unknown", "supported")
    assert "Ascend's list does not name it" in entry["note"]


@pytest.mark.parametrize(
    ("name", "meant"),
    [
        ("torch.stfft", "torch.stft"),
        ("NCCL_SOKET_IFNAME", "NCCL_SOCKET_IFNAME"),
        ("xformer", "xformers"),
        ("torch.functional.gelu", "torch.nn.functional.gelu"),
    ],
)
def test_near_misses_are_suggested(name: str, meant: str) -> None:
    text, code = query(name)
    assert code == UNKNOWN
    assert meant in text
    assert meant in json.loads(query(name, output_format="json")[0])["suggestions"]


def test_unknown_is_not_unsupported() -> None:
    text, code = query("torch.no_such_function_at_all_zzz")
    assert code == UNKNOWN
    assert "does not mean it is unsupported" in text


@pytest.mark.parametrize(
    "options",
    [{"torch_npu": "new"}, {"hardware": "A9"}, {"output_format": "xml"}],
)
def test_questions_that_make_no_sense(options: dict[str, str]) -> None:
    text, code = query("torch.stft", **options)
    assert code == USAGE
    assert text.startswith("error: ")
    assert "\n" not in text


def test_an_empty_name() -> None:
    assert query(" ")[1] == USAGE


def test_ask_raises_for_programs() -> None:
    with pytest.raises(Unanswerable, match="product line"):
        ask("torch.stft", Target("npu", hardware="A9"))
