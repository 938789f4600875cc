"""Backends of process groups: sites that depend on each other, and what must stay."""

from __future__ import annotations

import pytest

from porter import catalog, engine
from porter.rule import Status
from porter.targets import Target, version

CATALOG = catalog.load()
IMPORTS = "import torch\nimport torch.distributed as dist\n"
DEFAULT = 'dist.get_default_backend_for_device(torch.accelerator.current_accelerator() or "cpu")'


def run(text: str, target: str, least: str = "2.7", unsafe: bool = False) -> engine.Outcome:
    return engine.analyse(text, CATALOG, Target(target, version(least)), unsafe=unsafe)


def rewritten(text: str, target: str, least: str = "2.7") -> str:
    outcome = run(text, target, least)
    assert outcome.problem == ""
    again = run(outcome.text, target, least)
    assert again.text == outcome.text
    return outcome.text


def left(text: str, target: str) -> list[str]:
    outcome = run(text, target)
    assert outcome.text == text
    return [s.finding.rule for s in outcome.settled if s.status is not Status.REWRITTEN]


def test_one_assignment_serves_a_function() -> None:
    body = 'def main():\n    dist.init_process_group("nccl")\n    return dist.new_group(backend="nccl")\n'
    assert rewritten(IMPORTS + body, "accelerator") == IMPORTS + (
        f"def main():\n    default_backend = {DEFAULT}\n"
        "    dist.init_process_group(default_backend)\n"
        "    return dist.new_group(backend=default_backend)\n"
    )


def test_nothing_is_asked_earlier_where_torch_raises_without_an_accelerator() -> None:
    """In 2.6 current_accelerator() raises: a shared line above the branch would break the CPU."""
    body = (
        "def main(parallel):\n    if parallel:\n"
        '        dist.init_process_group("nccl")\n        dist.new_group(backend="nccl")\n'
    )
    text = rewritten(IMPORTS + body, "accelerator", "2.6")
    assert "default_backend =" not in text
    assert text.count("get_default_backend_for_device") == 2


@pytest.mark.parametrize(
    ("code", "npu"),
    [
        ('backend = os.environ.get("DIST_BACKEND", "nccl")\n', '"hccl"'),
        ('cfg = {"backend": "nccl"}\n', '"hccl"'),
        ('cfg = dict(type="Dist", backend="nccl")\n', '"hccl"'),
        ('def setup():\n    kind = "nccl"\n    dist.init_process_group(kind)\n', '"hccl"'),
        (
            "def work(rank, kind):\n    dist.init_process_group(kind)\n\n\n"
            'mp.spawn(work, args=("nccl",))\n',
            '"hccl"',
        ),
        ("def get_backend():\n    return 'nccl'\n", "'hccl'"),
        ('self.backend = args.backend or "nccl"\n', '"hccl"'),
    ],
)
def test_followed_to_its_use(code: str, npu: str) -> None:
    text = "import os\nimport torch.multiprocessing as mp\n" + IMPORTS + code
    assert npu in rewritten(text, "npu")
    assert "nccl" not in rewritten(text, "npu")
    assert "get_default_backend_for_device" in rewritten(text, "accelerator")


@pytest.mark.parametrize("target", ["accelerator", "npu"])
@pytest.mark.parametrize(
    "code",
    [
        'library = find_library("nccl")\n',
        'tables = {"cuda": "nccl", "cpu": "gloo"}\n',
        'tables = {"nccl": 1}\n',
        'if name == "nccl":\n    pass\n',
        'extension = Extension("x", libraries=["nccl"])\n',
        'class Kind(Enum):\n    NCCL = "nccl"\n',
    ],
)
def test_left_where_it_is_not_proven(code: str, target: str) -> None:
    assert "POR401" in left(code, target)


@pytest.mark.parametrize("target", ["accelerator", "npu"])
def test_texts_are_ignored(target: str) -> None:
    code = '"""nccl"""\nprint("NCCL")\nfield(metadata={"help": "nccl"})\nx = f"nccl{y}"\n'
    assert left(code, target) == []


def test_another_package_is_unsafe() -> None:
    code = 'from somewhere import launch\nlaunch(backend="nccl")\n'
    assert "POR401" in left(code, "npu")
    assert 'backend="hccl"' in run(code, "npu", unsafe=True).text


@pytest.mark.parametrize("other", ["hccl", "xccl", "cncl"])
def test_code_that_tells_backends_apart_is_left(other: str) -> None:
    code = IMPORTS + (
        "def pick(kind):\n    if kind == 1:\n"
        f'        backend = "{other}"\n    else:\n        backend = "nccl"\n    return backend\n'
    )
    assert "POR401" in left(code, "accelerator")


def test_a_class_is_judged_as_a_whole() -> None:
    """The default and the comparison change together, whatever the rest of the file names."""
    code = (
        'OTHER = "hccl"\n\n\nclass Options:\n    backend: str = "nccl"\n\n'
        '    def long(self):\n        return self.backend != "nccl"\n'
    )
    assert rewritten(code, "npu").count("nccl") == 0


def test_a_comparison_is_false_on_the_cpu_as_before() -> None:
    """The default backend of the CPU is gloo: to compare with it would be true there."""
    code = IMPORTS + 'ids = [0] if dist.get_backend() == "nccl" else None\n'
    text = rewritten(code, "accelerator")
    assert "get_default_backend_for_device" not in text
    assert 'dist.get_backend() in ("nccl", "hccl", "xccl")' in text


def test_membership_keeps_what_it_allowed() -> None:
    code = "def f(backend):\n    assert backend in ['nccl', 'gloo']\n"
    assert "['nccl', 'hccl', 'xccl', 'gloo']" in rewritten(code, "accelerator")
    assert "['hccl', 'gloo']" in rewritten(code, "npu")


def test_a_case_pattern() -> None:
    code = 'def f(backend):\n    match backend:\n        case "nccl":\n            return 1\n'
    assert 'case "nccl" | "hccl" | "xccl":' in rewritten(code, "accelerator")


def test_imported_names_are_dropped_with_their_last_use() -> None:
    code = (
        "from torch.distributed import Backend, init_process_group, is_nccl_available\n\n\n"
        "def f():\n    if is_nccl_available():\n        backend = Backend.NCCL\n"
        '    else:\n        backend = "gloo"\n    init_process_group(backend)\n'
    )
    text = rewritten(code, "accelerator")
    assert "from torch.distributed import init_process_group\n" in text
    assert "is_backend_available(default_backend)" in text
    assert "is_nccl_available" not in rewritten(code, "npu")


def test_availability_alone_is_left_for_the_accelerator() -> None:
    code = IMPORTS + "assert dist.is_nccl_available()\n"
    assert "POR402" in left(code, "accelerator")
    assert "is_hccl_available()" in rewritten(code, "npu")


def test_old_torch_needs_the_import_of_torch_npu() -> None:
    assert "import torch_npu" in rewritten(
        IMPORTS + 'dist.init_process_group("nccl")\n', "npu", "2.4"
    )


def test_data_parallel_with_an_index_stays() -> None:
    code = "from torch.nn.parallel import DistributedDataParallel as DDP\nm = DDP(m, device_ids=[r], output_device=r)\n"
    for target in ("accelerator", "npu"):
        assert run(code, target).text == code
