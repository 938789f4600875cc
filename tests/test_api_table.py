"""The table of CUDA-bound names agrees with the sources it was read from, and with torch."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[1]
TABLE_PATH = ROOT / "rewrites" / "api.toml"
TABLE: dict[str, dict[str, Any]] = tomllib.loads(TABLE_PATH.read_text(encoding="utf-8"))
SOURCES: dict[str, Any] = json.loads(
    (ROOT / "rewrites" / "api_sources.json").read_text(encoding="utf-8")
)
ROWS = {name: row for name, row in TABLE.items() if "alias_of" not in row}
ALIASES = {name: row for name, row in TABLE.items() if "alias_of" in row}

KINDS = {"call", "class", "context", "decorator", "attribute", "constant", "module"}
FATES = {"rename", "guarded", "inert", "gap", "special"}
TEXTS = {
    "kind",
    "fate",
    "accelerator",
    "accelerator_since",
    "accelerator_npu_since",
    "npu",
    "cpu",
    "cpu_cuda_build",
    "device_module_cpu",
    "accelerator_cpu",
    "accelerator_cpu_cuda_build",
    "reason",
    "advice",
    "source",
    "versions",
}
LISTS = {"params", "accelerator_params", "npu_params"}
FLAGS = {"device_module", "npu_exact"}
BEHAVIOUR = re.compile(r"noop|raises|returns: .+")

#: Arguments for the names that cannot be measured without any. They are such that the original
#: would do its work if there were a device.
ARGUMENTS = {
    "torch.backends.cuda.allow_fp16_bf16_reduction_math_sdp": "False",
    "torch.backends.cuda.enable_cudnn_sdp": "True",
    "torch.backends.cuda.enable_flash_sdp": "True",
    "torch.backends.cuda.enable_math_sdp": "True",
    "torch.backends.cuda.enable_mem_efficient_sdp": "True",
    "torch.backends.cudnn.is_acceptable": "torch.zeros(1)",
    "torch.cuda.ExternalStream": "0, device=0",
    "torch.cuda._get_device": "0",
    "torch.cuda._lazy_call": "lambda: None",
    "torch.cuda._sleep": "1",
    "torch.cuda.caching_allocator_alloc": "8, 0",
    "torch.cuda.caching_allocator_delete": "0",
    "torch.cuda.caching_allocator_enable": "False",
    "torch.cuda.can_device_access_peer": "0, 1",
    "torch.cuda.check_error": "0",
    "torch.cuda.device": "0",
    "torch.cuda.device_of": "torch.zeros(1)",
    "torch.cuda.get_device_properties": "0",
    "torch.cuda.get_stream_from_external": "0",
    "torch.cuda.graph": "None",
    "torch.cuda.make_graphed_callables": "torch.nn.Identity(), (torch.zeros(1),)",
    "torch.cuda.manual_seed": "1",
    "torch.cuda.manual_seed_all": "1",
    "torch.cuda.memory._set_allocator_settings": "'expandable_segments:True'",
    "torch.cuda.nccl.all_gather": "[torch.zeros(1)], [torch.zeros(1)]",
    "torch.cuda.nccl.all_reduce": "[torch.zeros(1)]",
    "torch.cuda.nccl.broadcast": "[torch.zeros(1)]",
    "torch.cuda.nccl.is_available": "[torch.zeros(1)]",
    "torch.cuda.nvtx.mark": "'a'",
    "torch.cuda.nvtx.range": "'a'",
    "torch.cuda.nvtx.range_end": "0",
    "torch.cuda.nvtx.range_push": "'a'",
    "torch.cuda.nvtx.range_start": "'a'",
    "torch.cuda.set_device": "0",
    "torch.cuda.set_per_process_memory_fraction": "0.5",
    "torch.cuda.set_rng_state": "torch.get_rng_state()",
    "torch.cuda.set_rng_state_all": "[torch.get_rng_state()]",
    "torch.cuda.set_stream": "None",
    "torch.cuda.set_sync_debug_mode": "0",
    "torch.cuda.stream": "None",
    "torch.cuda.use_mem_pool": "None",
    "torch.set_autocast_gpu_dtype": "torch.float16",
}

#: Runs in a process of its own, since some calls change global state.
MEASURE = """
import json, sys, warnings
warnings.simplefilter("ignore")
import torch

def measure(expression):
    try:
        value = eval(expression, {"torch": torch})
    except Exception:
        return "raises"
    if value is None:
        return "noop"
    text = repr(value)
    if type(value).__name__ == "OrderedDict" and not value:
        text = "{}"
    if isinstance(value, (bool, int, str, list, tuple, dict)) and len(text) <= 24:
        return "returns: " + text
    return "returns: object"

print("RESULT" + json.dumps({key: measure(text) for key, text in json.load(sys.stdin).items()}))
"""


def measure(expressions: dict[str, str], folder: Path) -> dict[str, str]:
    """Return what each expression does in a fresh interpreter that has torch."""
    done = subprocess.run(
        [sys.executable, "-c", MEASURE],
        input=json.dumps(expressions),
        capture_output=True,
        text=True,
        check=True,
        cwd=folder,
    )
    results: dict[str, str] = json.loads(done.stdout.partition("RESULT")[2])
    return results


def expression(name: str, row: dict[str, Any]) -> str:
    """Return Python text that uses a name as a program would."""
    if row["kind"] in ("attribute", "constant"):
        return name
    call = f"{name}({ARGUMENTS.get(name, '')})"
    if row["kind"] == "context" or name == "torch.cuda.stream":
        call += ".__enter__()"
    return call


def first(versions: str) -> str:
    """Return the release in which a name appeared."""
    return re.split("[-,]", versions)[0]


def release(text: str) -> tuple[int, int]:
    """Return the first two numbers of a version."""
    major, minor = re.findall(r"\d+", text)[:2]
    return int(major), int(minor)


def without_accelerator() -> ModuleType:
    """Return torch, or skip the test where it is missing or has a device to use."""
    torch = pytest.importorskip("torch", reason="needs an installed torch")
    if torch.cuda.is_available() or torch.backends.mps.is_available():
        pytest.skip("measures what happens without an accelerator, but this machine has one")
    assert isinstance(torch, ModuleType)
    return torch


def introspection() -> ModuleType:
    """Return the script that reads names from torch's sources."""
    path = ROOT / "docs" / "tools" / "introspect_torch.py"
    spec = importlib.util.spec_from_file_location("introspect_torch", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_rows_are_sorted_and_unique() -> None:
    written = re.findall(r'^\["(.+)"\]$', TABLE_PATH.read_text(encoding="utf-8"), re.M)
    assert written == sorted(set(written))
    assert set(written) == set(TABLE)


def test_every_source_name_has_a_row_and_no_row_is_made_up() -> None:
    assert set(TABLE) == set(SOURCES["names"])


def test_aliases_point_at_rows() -> None:
    for name, row in ALIASES.items():
        assert row.keys() == {"alias_of", "versions"}, name
        assert row["alias_of"] in ROWS, name
        assert row["alias_of"].count(".") <= name.count("."), name


@pytest.mark.parametrize("name", ROWS)
def test_fields_are_valid(name: str) -> None:
    row = ROWS[name]
    assert row["kind"] in KINDS
    assert row["fate"] in FATES
    for key, value in row.items():
        if key in LISTS:
            assert isinstance(value, list)
            assert all(isinstance(item, str) for item in value)
        elif key in FLAGS:
            assert isinstance(value, bool)
        else:
            assert key in TEXTS, key
            assert isinstance(value, str), key
            assert value, key
        if key.endswith(("cpu", "cpu_cuda_build")):
            assert BEHAVIOUR.fullmatch(value), key
    assert ("accelerator" in row) == ("accelerator_since" in row) == ("accelerator_cpu" in row)
    assert re.fullmatch(r"torch \d+\.\d+ torch/[\w/]+\.pyi?", row["source"])


@pytest.mark.parametrize("name", ROWS)
def test_what_is_not_rewritten_is_explained(name: str) -> None:
    row = ROWS[name]
    if row["fate"] in ("gap", "inert") or "npu" not in row or row.get("npu_exact") is False:
        assert row.get("reason")
    if row["fate"] == "gap":
        assert row.get("advice")
    for key in ("reason", "advice"):
        assert row.get(key, "Text.").endswith(".")


@pytest.mark.parametrize("name", ROWS)
def test_facts_agree_with_the_sources(name: str) -> None:
    row = ROWS[name]
    source = SOURCES["names"][name]
    assert row["versions"] == source["versions"]
    assert row.get("params") == source.get("params")
    if "accelerator" in row:
        target = SOURCES["targets"][row["accelerator"]]
        assert row["accelerator_since"] == first(target["versions"])
        assert row.get("accelerator_params") == target.get("params")
    if "npu" in row and row["npu"] != "torch.npu":
        assert any(
            row["npu"] == f"torch.{known}" or row["npu"].startswith(f"torch.{known}.")
            for known in SOURCES["npu_names"]
        )
        known = SOURCES["npu_names"].get(row["npu"].removeprefix("torch."))
        if known is not None and "params" in row:
            assert row.get("npu_params", row["params"]) == known


def test_alias_versions_agree_with_the_sources() -> None:
    for name, row in ALIASES.items():
        assert row["versions"] == SOURCES["names"][name]["versions"], name


@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if row["fate"] == "rename"])
def test_renames_fail_nowhere_that_the_original_did_not(name: str) -> None:
    row = ROWS[name]
    assert row["device_module"] or "accelerator" in row
    form = "accelerator" if "accelerator" in row else "device_module"
    original = row.get("cpu", "raises")
    assert original in ("raises", row.get(f"{form}_cpu", original))
    if form == "accelerator":
        # On a CUDA build the device module is torch.cuda itself, so only this form can differ.
        original = row.get("cpu_cuda_build", original)
        replaced = row.get("accelerator_cpu_cuda_build", row["accelerator_cpu"])
        assert original in ("raises", replaced)


@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if row["fate"] == "guarded"])
def test_guards_are_needed(name: str) -> None:
    row = ROWS[name]
    assert row["device_module"]
    assert row["cpu"] != "raises"
    assert row.get("accelerator_cpu", row["device_module_cpu"]) != row["cpu"]


@pytest.mark.parametrize("name", [n for n, row in ROWS.items() if row["fate"] == "inert"])
def test_inert_names_do_not_raise(name: str) -> None:
    assert ROWS[name].get("cpu") != "raises"
    assert ROWS[name].get("cpu_cuda_build") != "raises"


def test_device_module_names_exist_on_npu() -> None:
    for name, row in ROWS.items():
        if row.get("device_module"):
            assert row["npu"] == name.replace("torch.cuda.", "torch.npu."), name
            assert row.get("npu_exact") is not False, name


def test_no_name_of_the_installed_torch_lacks_a_row() -> None:
    torch = pytest.importorskip("torch", reason="needs an installed torch")
    assert torch.__file__ is not None
    bound, targets = introspection().read_release(Path(torch.__file__).parents[1])
    assert len(bound) > 300
    assert not set(bound) - set(TABLE), "run docs/tools/introspect_torch.py and add rows"
    assert not set(targets) - set(SOURCES["targets"])


def test_no_live_name_of_the_installed_torch_lacks_a_row() -> None:
    """The static reading misses nothing that the imported packages really offer."""
    torch = pytest.importorskip("torch", reason="needs an installed torch")
    importlib.import_module("torch.cuda.comm")
    packages = ("torch.cuda", "torch.backends.cuda", "torch.backends.cudnn")
    missing = []
    for module_name, module in sorted(sys.modules.items()):
        if not module_name.startswith(packages) or "._" in module_name:
            continue
        listed = set(getattr(module, "__all__", ()))
        for name in dir(module):
            value = getattr(module, name, None)
            home = value.__name__ if isinstance(value, ModuleType) else None
            own = (home or getattr(value, "__module__", None) or "").startswith(packages)
            if (name in listed or (own and not name.startswith("_"))) and (
                f"{module_name}.{name}" not in TABLE
            ):
                missing.append(f"{module_name}.{name}")
    # An instance that stands in for a module shows the module it hides as m.
    missing = [name for name in missing if not name.endswith((".cudnn.m", ".rnn.m"))]
    assert torch.cuda is sys.modules["torch.cuda"]
    assert not missing


def test_replacements_behave_as_stated_without_an_accelerator(tmp_path: Path) -> None:
    torch = without_accelerator()
    installed = release(torch.__version__)
    suffix = "_cuda_build" if torch.version.cuda else ""
    expected: dict[str, str] = {}
    texts: dict[str, str] = {}
    for name, row in ROWS.items():
        if "accelerator" not in row or release(row["accelerator_since"]) > installed:
            continue
        texts[name] = expression(row["accelerator"], row)
        if name in ARGUMENTS:
            texts[name] = f"{row['accelerator']}({ARGUMENTS[name]})"
        expected[name] = row.get(f"accelerator_cpu{suffix}", row["accelerator_cpu"])
    assert installed < (2, 9) or len(texts) > 15
    assert measure(texts, tmp_path) == expected


def test_originals_behave_as_stated_without_an_accelerator(tmp_path: Path) -> None:
    torch = without_accelerator()
    if torch.version.cuda or release(torch.__version__) != (2, 13):
        pytest.skip("the table states what a CPU build of torch 2.13 does")
    expected = {name: row["cpu"] for name, row in ROWS.items() if "cpu" in row}
    texts = {name: expression(name, ROWS[name]) for name in expected}
    expected = {
        name: "noop" if text == "returns: None" else text for name, text in expected.items()
    }
    assert len(texts) > 150
    assert measure(texts, tmp_path) == expected


def test_device_module_behaves_as_stated_without_an_accelerator(tmp_path: Path) -> None:
    torch = without_accelerator()
    if torch.version.cuda or release(torch.__version__) != (2, 13):
        pytest.skip("the table states what a CPU build of torch 2.13 does")
    expected = {
        name: row["device_module_cpu"] for name, row in ROWS.items() if "device_module_cpu" in row
    }
    texts = {
        name: expression(name, ROWS[name]).replace("torch.cuda.", "torch.get_device_module().", 1)
        for name in expected
    }
    assert len(texts) > 40
    assert measure(texts, tmp_path) == expected


def test_flags_called_inert_can_be_set(tmp_path: Path) -> None:
    torch = without_accelerator()
    installed = release(torch.__version__)
    texts = {}
    for name, row in ROWS.items():
        owner, _, attribute = name.rpartition(".")
        settable = owner.startswith("torch.backends.") and row["kind"] == "attribute"
        present = first(row["versions"])
        if row["fate"] != "inert" or not settable or attribute.endswith(("split_k", "conv")):
            continue
        if attribute != "matmul" and release(present) <= installed:
            texts[name] = f"setattr({owner}, {attribute!r}, {name})"
    assert len(texts) > 8
    assert set(measure(texts, tmp_path).values()) == {"noop"}


def test_generic_errors_are_the_same_objects() -> None:
    torch = pytest.importorskip("torch", reason="needs an installed torch")
    for name in ("OutOfMemoryError", "AcceleratorError"):
        if release(ROWS[f"torch.cuda.{name}"]["accelerator_since"]) <= release(torch.__version__):
            assert getattr(torch, name) is getattr(torch.cuda, name)
