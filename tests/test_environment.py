"""Environment variables and strings: all occurrences together, and what must stay."""

from __future__ import annotations

import re

import pytest

from porter import catalog, engine
from porter.rewrites.environment import FAMILY, variables
from porter.rule import Category, Status
from porter.targets import NAMES, Target, version

CATALOG = catalog.load()

EVERY_ACCESS = """\
import os
import subprocess
from unittest import mock

KEY = "CUDA_VISIBLE_DEVICES"


def f(env, ids):
    env[KEY] = ",".join(ids)
    os.environ.setdefault("CUDA_VISIBLE_DEVICES", "0")
    os.environ.pop("CUDA_VISIBLE_DEVICES", None)
    del os.environ["CUDA_VISIBLE_DEVICES"]
    subprocess.Popen(["x"], env=dict(os.environ, CUDA_VISIBLE_DEVICES="1"))
    subprocess.Popen(["x"], env=os.environ | {"CUDA_VISIBLE_DEVICES": "1"})
    os.environ.update({"CUDA_VISIBLE_DEVICES": "1"})
    os.environ.update(CUDA_VISIBLE_DEVICES="1")
    return "CUDA_VISIBLE_DEVICES" in os.environ


@mock.patch.dict(os.environ, {"CUDA_VISIBLE_DEVICES": "0"})
def test_a(monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    print(f"CUDA_VISIBLE_DEVICES={os.environ['CUDA_VISIBLE_DEVICES']}")
"""


def run(text: str, target: str, least: str = "2.10", unsafe: bool = False) -> engine.Outcome:
    outcome = engine.analyse(text, CATALOG, Target(target, version(least)), unsafe=unsafe)
    assert outcome.problem == ""
    return outcome


def test_every_access_is_renamed() -> None:
    new = run(EVERY_ACCESS, "npu").text
    assert new == EVERY_ACCESS.replace("CUDA_VISIBLE_DEVICES", "ASCEND_RT_VISIBLE_DEVICES")
    assert run(new, "npu").text == new


def test_the_accelerator_leaves_them_and_says_so() -> None:
    outcome = run(EVERY_ACCESS, "accelerator")
    assert outcome.text == EVERY_ACCESS
    found = [s for s in outcome.settled if s.finding.rule == "POR701"]
    assert len(found) == EVERY_ACCESS.count("CUDA_VISIBLE_DEVICES") - 1  # one is text
    assert {s.finding.category for s in found} == {Category.POTENTIAL}


@pytest.mark.parametrize(
    "code",
    [
        'for name in ["CUDA_VISIBLE_DEVICES", "PATH"]:\n    os.environ.pop(name)\n',
        'settings["CUDA_VISIBLE_DEVICES"] = "0"\n',
        'os.environ["CUDA_VISIBLE_DEVICES"] = "-1"\n',
        'os.environ["CUDA_VISIBLE_DEVICES"] = "GPU-8932f937"\n',
        'y = os.environ["CUDA_" "VISIBLE_DEVICES"]\n',
    ],
)
def test_one_doubtful_place_keeps_them_all(code: str) -> None:
    text = "import os\n\nx = os.environ.get('CUDA_VISIBLE_DEVICES')\n" + code
    outcome = run(text, "npu")
    assert outcome.text == text
    assert any(s.status is Status.LEFT for s in outcome.settled)


def test_a_file_that_knows_the_target_is_left() -> None:
    text = (
        "import os\n\n"
        'x = os.getenv("CUDA_VISIBLE_DEVICES") or os.getenv("ASCEND_RT_VISIBLE_DEVICES")\n'
    )
    for target in NAMES:
        outcome = run(text, target)
        assert outcome.text == text
        assert all(s.status is Status.INFORMATION for s in outcome.settled)


ALLOC = 'import os\n\nos.environ["PYTORCH_CUDA_ALLOC_CONF"] = {}\n'


@pytest.mark.parametrize(
    ("value", "least", "accelerator"),
    [
        ('"expandable_segments:True"', "2.10", True),
        ('"expandable_segments:True,max_split_size_mb:64"', "2.10", True),
        ('"expandable_segments:True"', "2.9", False),  # CUDA does not read the new name there
        ('"backend:cudaMallocAsync"', "2.10", False),
        ('"roundup_power2_divisions:4"', "2.10", False),
        ("settings", "2.10", False),
    ],
)
def test_the_allocator(value: str, least: str, accelerator: bool) -> None:
    text = ALLOC.format(value)
    new = run(text, "accelerator", least).text
    assert ("PYTORCH_ALLOC_CONF" in new) is accelerator
    assert (new == text) is not accelerator


def test_the_table_is_sound() -> None:
    for name, row in variables().items():
        assert FAMILY.fullmatch(name), name
        assert row.advice, name
        assert row.source, name
        assert bool(row.accelerator) == bool(row.accelerator_since), name
        assert not re.search("CUDA|NCCL|NVIDIA", row.npu), name
    targets = [row.npu for row in variables().values() if row.npu]
    assert len(targets) == len(set(targets)), "two variables would become one"


@pytest.mark.parametrize("target", NAMES)
def test_names_to_patch_need_a_decision(target: str) -> None:
    text = 'def test(monkeypatch):\n    monkeypatch.setattr("torch.cuda.is_available", f)\n'
    assert run(text, target).text == text
    namespace = {"accelerator": "torch.accelerator", "npu": "torch.npu"}[target]
    assert f'"{namespace}.is_available"' in run(text, target, unsafe=True).text


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize(
    ("code", "rule", "status"),
    [
        ('subprocess.run("nvidia-smi -L", shell=True)\n', "POR813", Status.LEFT),
        ('logger.info("see nvidia-smi")\n', "POR813", Status.INFORMATION),
        ('eval("x.cuda()")\n', "POR814", Status.LEFT),
        ('p.add_argument("--use-cuda", dest="cuda")\n', "POR815", Status.INFORMATION),
        ('state["torch.cuda"] = 1\n', "POR811", Status.INFORMATION),
        ('c = getattr(torch, "cuda", None)\n', "POR812", Status.LEFT),
        ('x = "nvcr.io/nvidia/pytorch:24.01-py3"\n', "POR816", Status.LEFT),
        ('os.system(f"CUDA_VISIBLE_DEVICES={i} python a.py")\n', "POR702", Status.LEFT),
    ],
)
def test_reported_and_left(code: str, rule: str, status: Status, target: str) -> None:
    text = "import os\nimport torch\n\n" + code
    outcome = run(text, target)
    assert outcome.text == text
    assert [s.status for s in outcome.settled if s.finding.rule == rule] == [status]


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize(
    "code", ['x = "barracuda"\n', 'x = "nvidia/Cosmos3"\n', 'parse(["--cuda"])\n', '"--no-cuda"\n']
)
def test_look_alikes(code: str, target: str) -> None:
    assert run(code, target).settled == ()
