"""Defects known from another migration tool, each as a test by name."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from porter import catalog, engine
from porter.module import ProjectFacts
from porter.targets import NAMES, Target

CATALOG = catalog.load()
TARGETS = pytest.mark.parametrize("target", NAMES)


def migrate(text: str, target: str, **options: object) -> str:
    found = engine.analyse(text, CATALOG, Target(target), **options)  # type: ignore[arg-type]
    assert found.problem == ""
    compile(found.text, "<migrated>", "exec", dont_inherit=True)
    return found.text


UNTOUCHED = {
    "super().to(*args, **kwargs)": (
        "import torch\n\n\nclass Net(torch.nn.Module):\n    def to(self, *args, **kwargs):\n"
        "        return super().to(*args, **kwargs)\n"
    ),
    ".to(copy=True)": "def f(x):\n    return x.to(copy=True)\n",
    "x.to(non_blocking=True, device=d)": "def f(x, d):\n    return x.to(non_blocking=True, device=d)\n",
    "f-string around a move": 'def f(x, device):\n    return f"{x.to(device)}"\n',
    "user Enum .CUDA": (
        "import enum\n\n\nclass Kind(enum.Enum):\n    CUDA = 1\n\n\ndef f(k):\n    return k is Kind.CUDA\n"
    ),
    "import of ProfilerActivity": (
        "from torch.profiler import ProfilerActivity\n\n\ndef f():\n    return ProfilerActivity.CPU\n"
    ),
    "def cuda": (
        "class Batch:\n    def cuda(self):\n        return self\n\n\ndef f():\n    return Batch().cuda()\n"
    ),
    'dest="cuda" with args.cuda': (
        "import argparse\n\np = argparse.ArgumentParser()\n"
        'p.add_argument("--no-gpu", dest="cuda", action="store_false")\nargs = p.parse_args()\n'
        "use = args.cuda\n"
    ),
    'hasattr(model.module, "x")': 'def f(model):\n    return hasattr(model.module, "x")\n',
    "barracuda": 'FISH = "barracuda"\nbarracuda = FISH\n\n\ndef barracudas(cudart):\n    return cudart\n',
    "image name": 'IMAGE = "nvidia/cuda:12.1"\n\n\ndef f():\n    return IMAGE\n',
}


@TARGETS
@pytest.mark.parametrize("case", UNTOUCHED)
def test_untouched(case: str, target: str) -> None:
    assert migrate(UNTOUCHED[case], target) == UNTOUCHED[case]


@TARGETS
def test_is_nccl_available_becomes_no_nonsense(target: str) -> None:
    text = "import torch\n\n\ndef f():\n    return torch.distributed.is_nccl_available()\n"
    result = migrate(text, target)
    assert "is_npu_available" not in result
    assert result == text or "is_hccl_available" in result or "is_backend_available" in result


@TARGETS
def test_callers_of_a_class_with_its_own_cuda_in_another_file(target: str) -> None:
    facts = ProjectFacts(methods={"cuda": ("data.py:3 Batch",)})
    text = "from data import make\n\n\ndef f():\n    return make().cuda()\n"
    assert migrate(text, target, facts=facts) == text


@TARGETS
def test_nested_move_in_an_f_string(target: str) -> None:
    text = 'import torch\n\n\ndef f(x):\n    return f"{x.cuda()} and {x}"\n'
    new = ".to(torch.accelerator.current_accelerator())" if target == "accelerator" else ".npu()"
    assert migrate(text, target) == text.replace(".cuda()", new)


@TARGETS
def test_second_run_changes_nothing(target: str) -> None:
    text = (
        "import torch\n\n\ndef f(m, x, rank):\n    torch.cuda.set_device(rank)\n    m = m.cuda()\n"
        '    return m(x.to(f"cuda:{rank}")), torch.zeros(1, device="cuda")\n'
    )
    once = migrate(text, target)
    assert once != text
    assert migrate(once, target) == once


def porter(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porter", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )


def test_latin_1_file_keeps_its_encoding(tmp_path: Path) -> None:
    source = "# -*- coding: latin-1 -*-\n# café\nimport torch\nx = torch.ones(1).cuda()  # à\n"
    file = tmp_path / "a.py"
    file.write_bytes(source.encode("latin-1"))
    assert porter("migrate", "a.py", "--target", "npu", cwd=tmp_path).returncode == 0
    assert file.read_bytes() == source.replace(".cuda()", ".npu()").encode("latin-1")


@pytest.mark.skipif(os.name == "nt", reason="Windows has no exec bit")
def test_exec_bit_survives(tmp_path: Path) -> None:
    file = tmp_path / "train.py"
    file.write_text("#!/usr/bin/env python3\nimport torch\nx = torch.ones(1).cuda()\n")
    file.chmod(0o755)
    porter("migrate", "train.py", cwd=tmp_path)
    assert "accelerator" in file.read_text()
    assert file.stat().st_mode & 0o777 == 0o755


def test_environments_inside_the_repository_are_left_alone(tmp_path: Path) -> None:
    library = tmp_path / ".venv" / "lib" / "python3.11" / "site-packages" / "lib.py"
    library.parent.mkdir(parents=True)
    (tmp_path / ".venv" / "pyvenv.cfg").write_text("home = /usr\n")
    text = "import torch\nx = torch.ones(1).cuda()\n"
    library.write_text(text)
    (tmp_path / "a.py").write_text(text)
    porter("migrate", ".", cwd=tmp_path)
    assert library.read_text() == text
    assert (tmp_path / "a.py").read_text() != text


def test_one_odd_file_does_not_abort_the_run(tmp_path: Path) -> None:
    (tmp_path / "bad.py").write_text("def f(:\n    x.cuda()\n")
    (tmp_path / "old.py").write_text('print "cuda"\n')
    (tmp_path / "null.py").write_bytes(b"x.cuda()\x00")
    (tmp_path / "good.py").write_text("import torch\nx = torch.ones(1).cuda()\n")
    done = porter("migrate", ".", cwd=tmp_path)
    assert done.returncode == 2
    assert "accelerator" in (tmp_path / "good.py").read_text()
    for name in ("bad.py", "old.py", "null.py"):
        assert name in done.stderr
    assert "Traceback" not in done.stderr
