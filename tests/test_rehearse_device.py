"""The simulated device itself, and the training patterns of real programs on it.

Each run of torch takes seconds, so the checks of one kind share a process.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from porter import catalog, engine
from porter.rehearse.command import Options, rehearse
from porter.rehearse.verdict import Rehearsal, Verdict
from porter.targets import Target

if importlib.util.find_spec("torch") is None:
    pytest.skip("needs torch (pip install '.[rehearse]')", allow_module_level=True)
if sys.platform != "linux":
    pytest.skip("the simulated device was tried on Linux only", allow_module_level=True)

FIXTURES = Path(__file__).parents[1] / "fixtures" / "rehearse"
DEVICES = ("npu", "other")
PATTERNS = sorted(p.stem for p in (FIXTURES / "patterns").glob("*.py"))
CHECKS = [
    (file, name)
    for file in ("device_checks", "library_checks", "limit_checks")
    for name in re.findall(r"@check\ndef (\w+)", (FIXTURES / f"{file}.py").read_text())
]
#: Operators of torch's own tests that are compared; `op_sweep.py` alone compares all.
SWEPT = 40
#: Scripts that go on without CUDA: they end well, and only the verdict tells.
SILENT = {"cnn_batchnorm", "gan", "vae"}
LIMIT = 400.0


def answers(text: str) -> dict[str, Any]:
    lines = [line for line in text.splitlines() if line.startswith("RESULTS ")]
    assert lines, text[-3000:]
    found: dict[str, Any] = json.loads(lines[-1].removeprefix("RESULTS "))
    return found


def simulated(where: Path, words: list[str], device: str, **options: Any) -> tuple[Rehearsal, str]:
    with (where / f"said-{device}").open("w+") as out:
        kept = Options(device=device, limit=LIMIT, quiet=True, **options)
        found = rehearse(words, kept, out)
        out.seek(0)
        return found, out.read()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    return tmp_path_factory.mktemp("rehearse")


@functools.cache
def _checks(folder: Path, device: str, file: str) -> dict[str, str]:
    _, said = simulated(folder, [str(FIXTURES / f"{file}.py")], device)
    return answers(said)


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("file", "name"), CHECKS)
def test_the_device(folder: Path, device: str, file: str, name: str) -> None:
    assert not _checks(folder, device, file)[name]


@pytest.mark.parametrize("dtype", ["float32", "complex64"])
def test_operators_give_the_numbers_of_the_host(folder: Path, dtype: str) -> None:
    words = [str(FIXTURES / "op_sweep.py"), "--every", str(SWEPT), "--dtype", dtype]
    _, said = simulated(folder, words, "npu")
    found = answers(said)
    assert found["different"] == {}
    assert found["counts"]["same"] > 30


@functools.cache
def _assumptions(folder: Path, device: str) -> dict[str, dict[str, str]]:
    _, said = simulated(folder, [str(FIXTURES / "assumptions.py")], device)
    return answers(said)


ASSUMPTIONS = {
    kind: re.findall(rf"@{kind}\ndef (\w+)", (FIXTURES / "assumptions.py").read_text())
    for kind in ("named", "free")
}


@pytest.mark.parametrize("name", ASSUMPTIONS["named"])
def test_what_names_the_npu_fails_on_another_device(folder: Path, name: str) -> None:
    assert not _assumptions(folder, "npu")["named"][name]
    assert _assumptions(folder, "other")["named"][name]


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize("name", ASSUMPTIONS["free"])
def test_what_names_no_device_runs_on_each(folder: Path, device: str, name: str) -> None:
    assert not _assumptions(folder, device)["free"][name]


# Training patterns ------------------------------------------------------------------------------

#: Stands for the CUDA module on the host, where a pattern runs for its numbers.
STAND_IN = """
import torch as _torch
class _Host:
    def __init__(self, *a, **k): pass
    def __getattr__(self, name): return lambda *a, **k: ANSWERS.get(name, self)
    def __enter__(self): return self
    def __exit__(self, *a): return None
ANSWERS = {"is_available": True, "is_bf16_supported": True, "device_count": 1, "max_memory_allocated": 1, "elapsed_time": 0}
_torch.Tensor.record_stream = lambda self, s: None
_host = _Host()
""".strip()
AMP = {
    "from torch.cuda.amp import GradScaler, autocast": "import functools\nGradScaler = functools.partial(torch.amp.GradScaler, 'cpu')\nautocast = functools.partial(torch.autocast, 'cpu', dtype=torch.float16)",
    "from torch.cuda.amp import custom_bwd, custom_fwd": "import functools\ncustom_fwd = functools.partial(torch.amp.custom_fwd, device_type='cpu')\ncustom_bwd = functools.partial(torch.amp.custom_bwd, device_type='cpu')",
    "ProfilerActivity.CPU, ProfilerActivity.CUDA": "ProfilerActivity.CPU",
    "storage.cuda()": "storage",
}


def on_host(text: str) -> str:
    """The pattern for the host: what it computes, without the device."""
    for old, new in AMP.items():
        text = text.replace(old, new)
    text = re.sub(r'"cuda(:\d)?"', '"cpu"', text)
    text = text.replace(".cuda(", '.to("cpu", ').replace("torch.cuda.", "_host.")
    return STAND_IN + "\n" + re.sub(r'(?m)^    (\w+)\.to\("cpu", \)$', "    pass", text)


def migrated(target: str, text: str) -> str:
    return engine.analyse(text, catalog.load(), Target(target)).text


def written(folder: Path, name: str, change: Any) -> Path:
    made = folder / name
    made.mkdir(exist_ok=True)
    for pattern in PATTERNS:
        source = (FIXTURES / "patterns" / f"{pattern}.py").read_text()
        (made / f"{pattern}.py").write_text(change(source))
    return made


@functools.cache
def _host_run(folder: Path) -> dict[str, Any]:
    scripts = written(folder, "host", on_host)
    command = [sys.executable, str(FIXTURES / "run_all.py"), str(scripts)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=LIMIT)
    return answers(done.stdout)


@functools.cache
def _run(folder: Path, name: str, device: str) -> dict[str, Any]:
    change = functools.partial(migrated, name) if name != "original" else str
    scripts = written(folder, f"{name}-{device}", change)
    _, said = simulated(folder, [str(FIXTURES / "run_all.py"), str(scripts)], device)
    return answers(said)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_fails_before(folder: Path, pattern: str) -> None:
    found = _run(folder, "original", "npu")[pattern]
    assert found["error"] or pattern in SILENT
    assert not found["operators"]


@pytest.mark.parametrize(
    ("target", "device"), [("accelerator", "other"), ("accelerator", "npu"), ("npu", "npu")]
)
@pytest.mark.parametrize("pattern", PATTERNS)
def test_it_runs_after_with_the_same_losses(
    folder: Path, pattern: str, target: str, device: str
) -> None:
    found, host = _run(folder, target, device)[pattern], _host_run(folder)[pattern]
    assert not host["error"]
    assert not found["error"]
    assert found["operators"]
    source = (FIXTURES / "patterns" / f"{pattern}.py").read_text()
    said = re.search(r"tolerance: ([\d.e-]+)", source)
    tolerance = float(said[1]) if said else 1e-4
    assert found["losses"] == pytest.approx(host["losses"], rel=tolerance, abs=tolerance)
    assert host["losses"]


@pytest.mark.parametrize("device", DEVICES)
def test_processes_communicate(folder: Path, device: str) -> None:
    words = ["torchrun", "--nproc_per_node", "2", str(FIXTURES / "distributed_checks.py")]
    found, said = simulated(folder, words, device)
    assert found.verdict is Verdict.RAN, found
    assert said.count("DONE") == 2


# The verdict on whole scripts -------------------------------------------------------------------

LINES = {
    "fallback": ("import torch\nx = torch.eye(3, device='npu')\ntorch.linalg.lstsq(x, x)\n", 3),
    "cuda": ("import torch\n\n\ndef go(x):\n    return x.cuda()\n\n\ngo(torch.ones(1))\n", 5),
    "silent": (
        "import torch\nd = 'cuda' if torch.cuda.is_available() else 'cpu'\ntorch.ones(1, device=d)\n",
        2,
    ),
    "count": (
        "import torch\n\nfor i in range(torch.cuda.device_count()):\n    torch.ones(1, device=f'cuda:{i}')\n",
        3,
    ),
    "spawn over none": (
        "import torch\nimport torch.multiprocessing as mp\n\n\ndef work(i):\n    torch.ones(1, device=i)\n\n\nif __name__ == '__main__':\n    n = len('')\n    mp.spawn(work, nprocs=n)\n",
        11,
    ),
    "one step of many": (
        "import torch\nimport torch.multiprocessing as mp\n\nprint(torch.ones(2, device='npu') * 2)\nmp.start_processes(print, nprocs=0)\n",
        5,
    ),
    "scaler": (
        "import torch\nx = torch.ones(2, device='npu') * 2\nwith torch.autocast('cuda'):\n    x @ x\n",
        3,
    ),
    "training on the host": (
        "import torch\nmodel = torch.nn.Linear(2, 2)\nstep = torch.optim.SGD(model.parameters(), 0.1)\nx = torch.ones(2, 2, device='npu') * 2\nmodel(x.cpu()).sum().backward()\nstep.step()\n",
        6,
    ),
    "caught": (
        "import torch\nx = torch.ones(2, device='npu') * 2\ntry:\n    x = x.cuda()\nexcept Exception:\n    pass\n",
        4,
    ),
    "skipped": (
        "import os\nimport torch\nprint(torch.ones(2, device='npu') * 2, flush=True)\nos._exit(0)\n",
        4,
    ),
    "segfault": (
        "import ctypes\nimport torch\ntorch.ones(2, device='npu') * 2\nctypes.string_at(1)\n",
        4,
    ),
    "dtype": (
        "import torch\nx = torch.ones(2, device='npu', dtype=torch.float64).cumsum(0)\ntorch.relu(x)\n",
        3,
    ),
    "copies": (
        "import torch\nx = torch.ones(256).to('npu')\ny = x.to('npu:1')\ny.cpu()\ny.sum().item()\ny.copy_(torch.ones(256))\n",
        2,
    ),
    "backward": (
        "import torch\nimport torch.nn.functional as F\n\n\ndef loss(x):\n    return F.fractional_max_pool2d(x, 2, output_size=2).sum()\n\n\nx = torch.ones(1, 1, 4, 4, device='npu', requires_grad=True)\nfound = loss(x)\nfound.backward()\n",
        11,
    ),
    "compiled": (
        "import torch\n\n\n@torch.compile\ndef twice(x):\n    return x * 2\n\n\nprint(twice(torch.ones(2, device='npu')))\n",
        9,
    ),
    "replicas": (
        "import torch\nfrom torch import nn\n\nmodel = nn.DataParallel(nn.Linear(2, 2).npu(), device_ids=[0, 1])\nmodel(torch.ones(4, 2, device='npu')).sum().backward()\n",
        5,
    ),
    "channels last": (
        "import torch\nx = torch.ones(1, 3, 4, 4, device='npu')\nx = x.to(memory_format=torch.channels_last)\n",
        3,
    ),
    "seeded elsewhere": (
        "import torch\ntorch.cuda.manual_seed(5)\ntorch.manual_seed(5)\nprint(torch.ones(1, device='npu') * 2)\ntorch.cuda.manual_seed_all(5)\n",
        5,
    ),
    "seeded with another number": (
        "import torch\ntorch.manual_seed(5)\nprint(torch.ones(1, device='npu') * 2)\ntorch.cuda.manual_seed_all(6)\n",
        4,
    ),
    "scaler of another": (
        "import torch\nx = torch.ones(2, device='npu') * 2\ntorch.amp.GradScaler('xpu')\n",
        3,
    ),
    "quantized": (
        "import torch\nx = torch.ones(2, device='npu')\ntorch.quantize_per_tensor(x, 0.1, 0, torch.qint8)\n",
        3,
    ),
    "missing": ("import torch_npu\n\ntorch_npu.npu.nothing_like_it()\n", 3),
    "hang": ("import time\nimport torch\ntorch.ones(1, device='npu')\ntime.sleep(99)\n", 4),
    "spawn": (
        "import torch\nimport torch.multiprocessing as mp\n\n\ndef work(i):\n    torch.ones(1, device='npu') + torch.ones(2)\n\n\nif __name__ == '__main__':\n    mp.spawn(work, nprocs=1)\n",
        6,
    ),
}


def verdict_on(folder: Path, name: str, **options: Any) -> tuple[Rehearsal, str]:
    script = folder / f"case_{name.replace(' ', '_')}.py"
    script.write_text(LINES[name][0])
    found, _ = simulated(folder, [str(script)], "npu", folder=str(folder), **options)
    return found, f"{script}:{LINES[name][1]}"


def test_a_fallback_is_counted_at_its_line(folder: Path) -> None:
    found, place = verdict_on(folder, "fallback")
    assert found.verdict is Verdict.RAN
    assert [f.place for f in found.fallbacks] == [place]


def test_a_fallback_raises_if_strict(folder: Path) -> None:
    found, place = verdict_on(folder, "fallback", strict=True)
    assert found.verdict is Verdict.FAILED
    assert found.failures[0].place == place
    assert found.failures[0].type == "NotImplementedError"


def test_a_fallback_of_a_backward_pass_is_at_the_line_that_asks_for_it(folder: Path) -> None:
    found, place = verdict_on(folder, "backward")
    backward = [f for f in found.fallbacks if "backward" in f.what]
    step = f"{place} (backward of FractionalMaxPool2DBackward0)"
    assert [f.place for f in backward] == [step], found.fallbacks


def test_a_compiler_that_is_not_there_is_remarked(folder: Path) -> None:
    found, place = verdict_on(folder, "compiled")
    assert found.verdict is Verdict.RAN
    assert any(n.place == place and "'inductor'" in n.what for n in found.notes), found.notes


def test_copies_are_counted_by_line_and_direction(folder: Path) -> None:
    found, place = verdict_on(folder, "copies")
    script = place.rpartition(":")[0]
    rows = {(t.place.removeprefix(f"{script}:"), t.what): t.bytes for t in found.transfers}
    assert rows == {
        ("2", "host to npu"): 1024,
        ("3", "npu to npu"): 1024,
        ("4", "npu to host"): 1024,
        ("5", "npu to host"): 4,
        ("6", "host to npu"): 1024,
    }
    assert found.memory["npu:0"]["peak"] == 1024
    assert found.memory["npu:1"]["peak"] == 1024 + 512


def test_a_dtype_that_the_product_line_does_not_take(folder: Path) -> None:
    found, place = verdict_on(folder, "dtype", hardware="A2")
    assert found.verdict is Verdict.NOT_PROVED
    said = f"{place}: aten::relu with float64: aclnnRelu of CANN does not take it on A2"
    assert said in found.reasons
    assert any("aten::cumsum with float64" in n.what for n in found.notes)
    assert verdict_on(folder, "dtype")[0].verdict is Verdict.RAN
    found, _ = verdict_on(folder, "dtype", hardware="A2", strict=True)
    assert found.verdict is Verdict.FAILED
    assert found.failures[0].type == "UnsupportedDtype"
    assert found.failures[0].place == place


def test_cuda_fails_with_the_users_line_and_the_rule(folder: Path) -> None:
    found, place = verdict_on(folder, "cuda")
    assert found.verdict is Verdict.FAILED
    assert found.failures[0].place == place
    assert any("POR101" in r for r in found.rules)


@pytest.mark.parametrize(
    ("case", "said"),
    [
        ("silent", "torch.cuda.is_available answered False"),
        ("count", "torch.cuda.device_count answered 0"),
        ("spawn over none", "spawned over no process"),
        ("one step of many", "spawned over no process"),
        ("scaler", "autocast('cuda') without effect"),
        ("training on the host", "the optimiser steps parameters on the host only"),
        ("caught", "torch.cuda failed"),
        ("seeded with another number", "torch.cuda.manual_seed_all without effect"),
        ("scaler of another", "GradScaler('xpu') names a device other than npu"),
        ("replicas", "DataParallel over several devices"),
    ],
)
def test_ending_well_on_the_host_is_not_proof(folder: Path, case: str, said: str) -> None:
    found, place = verdict_on(folder, case)
    assert found.verdict is Verdict.NOT_PROVED
    assert any(place in r and said in r for r in found.reasons), found.reasons


def test_channels_last_fails_with_the_rule(folder: Path) -> None:
    found, place = verdict_on(folder, "channels last")
    assert found.verdict is Verdict.FAILED
    assert found.failures[0].place == place
    assert "Only contiguous_format or preserve_format is supported." in found.failures[0].message
    assert [r for r in found.rules if "POR922" in r and place in r]


def test_what_is_not_simulated_is_a_gap_and_no_failure(folder: Path) -> None:
    found, place = verdict_on(folder, "quantized")
    assert found.verdict is Verdict.NOT_PROVED
    assert [r for r in found.reasons if place in r and "not simulated" in r]


def test_a_seed_that_the_device_has_anyway_is_no_doubt(folder: Path) -> None:
    found, _ = verdict_on(folder, "seeded elsewhere")
    assert found.verdict is Verdict.RAN, found.reasons
    assert [t.times for t in found.touches] == [1, 1]
    assert all(t.outcome.startswith("needless") for t in found.touches)


def test_an_early_exit_is_remarked(folder: Path) -> None:
    found, place = verdict_on(folder, "skipped")
    assert found.verdict is Verdict.RAN, found
    assert [n.what for n in found.notes if n.place == place] == ["os._exit(0) ended the process"]


def test_a_crash_names_its_line(folder: Path) -> None:
    found, place = verdict_on(folder, "segfault")
    assert found.verdict is Verdict.CRASHED
    assert found.operators, "what it had done is known"
    assert [f.place for f in found.failures] == [place]


def test_a_name_that_does_not_exist_fails(folder: Path) -> None:
    found, place = verdict_on(folder, "missing")
    assert found.failures[0].type == "AttributeError"
    assert found.failures[0].place == place


def test_an_error_in_a_spawned_process_names_its_line(folder: Path) -> None:
    found, place = verdict_on(folder, "spawn")
    assert found.verdict is Verdict.FAILED
    assert found.failures[0].place == place


def test_a_hang_tells_where_it_was(folder: Path) -> None:
    script = folder / "case_hang.py"
    script.write_text(LINES["hang"][0])
    found = rehearse([str(script)], Options(limit=16.0, folder=str(folder)))
    assert found.verdict is Verdict.HUNG
    assert 'case_hang.py", line 4' in found.stacks


def test_a_test_suite_is_rehearsed(folder: Path) -> None:
    tests = folder / "test_it.py"
    tests.write_text(
        "import torch\n\n\ndef test_a():\n    assert torch.ones(1, device='npu').item()\n\n\ndef test_b():\n    torch.ones(1).cuda()\n"
    )
    found, _ = simulated(folder, ["pytest", "-q", str(tests)], "npu")
    assert found.verdict is Verdict.FAILED
    assert [f.place for f in found.failures] == [f"{tests}:9"]
    assert found.failures[0].where.endswith("test_b")


def test_a_notebook_is_rehearsed(folder: Path) -> None:
    book = folder / "book.ipynb"
    source = ["%time\n", "import torch\n", "x = torch.ones(2, device='npu')"]
    rows = [{"cell_type": "code", "source": s} for s in (source, ["print((x * 2).sum().item())"])]
    book.write_text(json.dumps({"cells": rows}))
    found, said = simulated(folder, [str(book)], "npu", folder=str(folder))
    assert found.verdict is Verdict.RAN
    assert said == "4.0\n"
    assert any(o.place == f"{book}#2:1" for o in found.operators)
