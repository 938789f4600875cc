"""Made-up programs go through every rule; docs/tools/fuzz.py says what must hold, and runs more."""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from porter import catalog, engine
from porter.rule import Status
from porter.targets import NAMES, Target

ROOT = Path(__file__).parent.parent
#: What one run of the normal suite looks at. The same cases on every Python of one version.
CASES, SEED, SMITH = 300, 2026, 8


def load() -> Any:
    spec = importlib.util.spec_from_file_location("fuzz", ROOT / "docs" / "tools" / "fuzz.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["fuzz"] = module
    spec.loader.exec_module(module)
    return module


fuzz = load()


def explained(failures: list[Any]) -> str:
    return "\n\n".join(
        f"case {f.case.index}, {f.case.goal}\n{f.check}: {f.message}\n{f.case.data!r}"
        for f in failures
    )


def test_a_slice_of_the_fuzzing() -> None:
    programs = fuzz.programs
    sources = programs.Sources(
        programs.Corpus.of(ROOT / "fixtures", SEED), programs.smithed(SEED, SMITH)
    )
    result = fuzz.fuzz(SEED, CASES, sources)
    assert not result.failures, explained(result.failures)
    total = result.total()
    assert total.cases == CASES
    assert total.rewritten * 2 >= total.cases, "most cases tried nothing"
    assert total.compiled * 10 >= total.cases * 8


def test_the_same_seed_makes_the_same_cases() -> None:
    sources = fuzz.Sources()
    for index in range(40):
        assert fuzz.case(7, index, sources) == fuzz.case(7, index, sources)


# Cases that once failed ---------------------------------------------------------------------------

FOUND = [
    # Keywords run into what stands beside them.
    'def f(x):\n    return x.type=="cuda"if x else 1\n',
    'import torch\n\ndef f(x):\n    return"cuda"if x.is_cuda else"cpu"\n',
    'import torch\n\ndef f(x):\n    assert"cuda"==x.device.type,x\n',
    # Parentheses that a span of ast does not hold.
    "import torch\nif(torch.cuda).is_available():\n    x = torch.zeros(3).cuda()\n",
    "import torch\nif((torch.cuda)).is_available():\n    pass\n",
    'def g(x):\n    if x.type==(("cuda")):\n        pass\n',
    "def g(x):\n    if\\\nnot(x.is_cuda):\n        pass\n",
    "x = {'': a, **x.is_cuda}\n",
    "import torch\nwith torch.autograd.profiler.profile(use_cuda=(e))as f:\n    pass\n",
    "import torch\nif torch.cuda.FloatTensor(([])):\n    pass\n",
    "import torch\nx.cuda(0, (True))\n",
    'import torch\n(torch.set_default_tensor_type("torch.cuda.FloatTensor"))\n',
    "import torch.distributed as dist\n\ndef f(kind):\n    return dist.get_backend()==('nccl')\n",
    "from torch.cuda.amp import GradScaler\ns = GradScaler(\n    (\n    2.0)\n)\n",
    "from torch.cuda.amp import autocast\n\ndef f():\n    with autocast(\n(p)):\n        pass\n",
    "import torch\nx = torch.cuda.FloatTensor((#\n[]))\n",
    "def kernel():\n    import torch\n\n    def h1[T: torch.cuda.Event](x: T): pass\n",
    # An import that stays, and a call written for its new place.
    "if npu.g:\n    from torch.cuda.amp import GradScaler\n\ndef f():\n    y = GradScaler()\n",
    "import torch.distributed as dist\n\n@f(dist.get_backend() == dist.Backend.NCCL)\nclass B: pass\n",
    "def f(t):\n    return (t.cuda)(r, '', '')\n",
    "import torch.distributed as dist\nx = ('nccl' if t else '') == dist.get_backend()\n",
    "from torchvision .ops import nms\ny = nms\n",
    # A shared line and its import at one place: the import was lost.
    "y.cuda()\nx[t]: z.cuda()\n",
    "import os, \\\n cupy\n",
    "import torch\nx = torch.arange(\n    len(y),\n    dtype=torch.uint8,\n    device=d,\n)\n",
    # Before 3.12 an f-string cannot hold its own quotes.
    'from torch.cuda.amp import autocast\ny = f"{autocast()}"\n',
    "import torch\ny = f'{torch.cuda.amp.GradScaler(**k)}'\n",
    'y = f"{n:{e.type == \'cuda\'}}"\n',
    "import torch\ny = f\"{f'{torch.GradScaler()}'}\"\n",
    'import torch.distributed as dist\nfrom h import n;dist.init_process_group("cuda:nccl")\n',
    # Line ends, and lines that go on.
    'import torch\rclass C:\r    torch.set_default_tensor_type("torch.cuda.FloatTensor")\r',
    "import torch\r\ndef f():\r\n    torch.cuda.empty_cache()",
    "import torch\\\n\n;f(torch.set_autocast_gpu_dtype(6))\n".replace("\\\n\n", "\\\n"),
    "import torch\nif x: \\\n  torch.cuda.empty_cache()\n",
    "x = 1; \\\nfrom torch import cuda\ny = cuda.device_count()\n",
    "from torch.cuda.amp.common import amp_definitely_not_available\r"
    "d = not(#\ramp_definitely_not_available())\r",
    # Names of modules in several parts.
    "from torch.cuda .amp import OptState\n",
    "from torch.cuda.amp\\\nimport OptState\n",
    "h;from torch.profiler import ProfilerActivity,profile\n"
    "with profile([ProfilerActivity.CPU,ProfilerActivity.CUDA])as f:\n    pass\n",
    "from\\\napex.normalization import FusedLayerNorm\nn = FusedLayerNorm()\n",
    # Two values under one name.
    'import torch\nparser.add_argument("--backend", default="nccl", choices=["nccl"])\n'
    'def f():\n    @g(parser.add_argument("--backend", default="nccl"))\n    def h(): pass\n',
    # Literals in unusual forms.
    'import pytorch_lightning as pl\nt = pl.Trainer(accelerator=R"gpu")\n',
    "f(sort_by='cu'\"da_time_total\")\ng(sort_by=\"cuda_time_total\")\n",
    'def f(x):\n    return x.type("torch.c\\x75da.FloatTensor") or "torch.cuda.FloatTensor"\n',
    # Left at first and rewritten by the second run.
    "import torch\nç = torch.cuda.get_device_properties\n\ndef f():\n"
    "    if not torch.cuda.is_available():\n        return\n"
    "    made = ç(torch.device('cuda'))\n    return made.minor\n",
    "def n(x):\n    return (x.is_cuda if x.is_cuda else 1)\n",
    # Passed over by the quick look at the bytes.
    'import os\nos.system("""CUDA_VISIBLE_DEVICES=0 x""")\n',
    'code = """\nimport torch\ntorch.cuda.synchronize()\n"""\n',
    "x = 1  #noqa:POR101\n",
]  # fmt: skip


@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("number", range(len(FOUND)))
def test_case_that_failed_once(number: int, target: str) -> None:
    case = fuzz.Case(0, 0, "found", FOUND[number].encode(), Target(target, (2, 13)))
    _, failure = fuzz.attempt(case)
    assert failure is None, explained([failure])


def rewritten(text: str, target: str, unsafe: bool = False) -> str:
    return engine.analyse(text, catalog.load(), Target(target), unsafe=unsafe).text


@pytest.mark.parametrize(
    ("before", "accelerator", "npu"),
    [
        (
            'def f(x):\n    return x.type=="cuda"\n',
            'def f(x):\n    return x.type not in ("cpu", "meta")\n',
            'def f(x):\n    return x.type=="npu"\n',
        ),
        (
            "import torch\nif(torch.cuda).is_available():\n    pass\n",
            "import torch\nif torch.accelerator.is_available():\n    pass\n",
            "import torch\nif torch.npu.is_available():\n    pass\n",
        ),
        (
            "def f(x):\n    return not(x.is_cuda)\n",
            'def f(x):\n    return (x.device.type in ("cpu", "meta"))\n',
            "def f(x):\n    return not(x.is_npu)\n",
        ),
        (
            "import torch\nx = torch.cuda.FloatTensor(([1.0]))\n",
            "import torch\n\ndevice = torch.accelerator.current_accelerator()\n\n"
            "x = torch.tensor(([1.0]), dtype=torch.float32, device=device)\n",
            "import torch\nx = torch.npu.FloatTensor(([1.0]))\n",
        ),
        (
            'import torch\ny = f"{torch.is_autocast_enabled()}{torch.cuda.amp.autocast(x)}"\n',
            None,
            "import torch\ny = f\"{torch.is_autocast_enabled('npu')}"
            "{torch.amp.autocast('npu', enabled=x)}\"\n",
        ),
    ],
)
def test_exact_text(before: str, accelerator: str | None, npu: str) -> None:
    if accelerator is not None:
        assert rewritten(before, "accelerator").replace("import torch_npu", "") == accelerator
    assert rewritten(before, "npu").replace("import torch_npu  # noqa: F401\n", "") == npu


# The checks see what they are made for ------------------------------------------------------------


def broken(
    monkeypatch: pytest.MonkeyPatch, change: Any, text: str = "import torch\nx.cuda()\n"
) -> str:
    """Which check fails if `change` spoils what the engine makes of a text."""
    fuzz.listen()
    analyse = engine.analyse

    def spoilt(*args: Any, **options: Any) -> Any:
        outcome = change(analyse(*args, **options))
        fuzz.LOG.outcomes[options.get("unsafe", False)] = outcome
        return outcome

    monkeypatch.setattr(engine, "analyse", spoilt)
    _, failure = fuzz.attempt(fuzz.Case(0, 0, "", text.encode(), Target("npu")))
    return failure.check if failure is not None else ""


def with_text(old: str, new: str) -> Any:
    from dataclasses import replace

    return lambda outcome: replace(outcome, text=outcome.text.replace(old, new))


def test_checks_can_fail(monkeypatch: pytest.MonkeyPatch) -> None:
    from dataclasses import replace

    def raising(outcome: engine.Outcome) -> engine.Outcome:
        raise ValueError("no")

    def forgetful(outcome: engine.Outcome) -> engine.Outcome:
        left = tuple(replace(s, status=Status.LEFT) for s in outcome.settled)
        return replace(outcome, settled=left)

    expected = {
        "": lambda outcome: outcome,
        "compile": with_text("npu()", "npu(("),
        "spans": with_text("x.", "y."),
        "silent": forgetful,
        "discarded": lambda outcome: replace(outcome, problem="x"),
        "crash": raising,
        "newlines": with_text("()\n", "()\r\n"),
    }
    found = {}
    for check, change in expected.items():
        with monkeypatch.context() as patch:
            found[check] = broken(patch, change)
    assert found.pop("newlines") in ("newlines", "spans")
    assert all(found[check] == check for check in found), found


@pytest.mark.parametrize(
    ("before", "after", "check"),
    [
        ("x = 1  # a\n", "x = 1\n", "comments"),
        ("import a\nx = a.b\n", "import a\nx = c.b\n", "undefined"),
        ('x = f"{a}"\n', 'x = f"{a("b")}"\n', "f-string"),
    ],
)
def test_checks_of_texts_can_fail(before: str, after: str, check: str) -> None:
    if check == "f-string" and not fuzz.FREE:
        pytest.skip("this Python cannot read such an f-string")
    checked = fuzz._names_defined if check == "undefined" else fuzz._prose
    with pytest.raises(fuzz.Broken, match=check):
        checked(before, after)


def test_trees_differ_at_sites_only() -> None:
    before = "import torch\n\ndef f(x):\n    y = x.is_cuda == 1\n    return x\n"
    same = fuzz._Trees(before, before, ())
    same.check()
    after = before.replace("return x", "return y")
    with pytest.raises(fuzz.Broken, match="tree"):
        fuzz._Trees(before, after, ()).check()
    late = before.replace("    return x\n", "    z = device\n    device = 1\n    return x\n")
    with pytest.raises(fuzz.Broken, match="order"):
        fuzz._Trees(before, late, ()).check()


def test_a_failing_case_is_made_smaller_and_kept(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fuzz.listen()
    analyse = engine.analyse

    def failing(text: str, *args: Any, **options: Any) -> Any:
        if "bad" in text:
            raise ValueError("bad")
        return analyse(text, *args, **options)

    monkeypatch.setattr(engine, "analyse", failing)
    case = fuzz.Case(1, 2, "nest", b"import torch\nx = 1\ny = bad\nz = 3\n", Target("npu"))
    _, failure = fuzz.attempt(case)
    assert failure is not None
    small = fuzz.minimal(failure)
    assert small == b"bad"
    path = fuzz.keep(tmp_path, failure, small)
    assert fuzz.kept(path) == case
    assert fuzz.kept(path, "minimal").data == small


def test_check_and_migrate_say_the_same(tmp_path: Path) -> None:
    """On a folder of programs, as commands: the same sites, and what `check` announced is done."""
    folder = tmp_path / "project"
    folder.mkdir()
    sources = fuzz.Sources()
    made = {f"case_{i}.py": fuzz.case(11, i, sources).data for i in range(40)}
    for name, data in made.items():
        (folder / name).write_bytes(data)

    def sites(*command: str) -> tuple[list[tuple[object, ...]], int]:
        report = tmp_path / "report.json"
        done = subprocess.run(
            [sys.executable, "-m", "porter", *command, str(folder), "--target", "npu",
             "--no-cache", "--report", str(report)],
            capture_output=True, text=True, timeout=600, check=False,
        )  # fmt: skip
        assert "Traceback" not in done.stderr
        found = json.loads(report.read_text())["sites"]
        return [
            (s["path"], s["line"], s["column"], s["rule"], s["status"], s["after"]) for s in found
        ], done.returncode

    announced, _ = sites("check")
    assert {name: (folder / name).read_bytes() for name in made} == made
    applied, _ = sites("migrate", "--allow-dirty")
    assert applied == announced
    changed = {name for name, data in made.items() if (folder / name).read_bytes() != data}
    assert changed == {Path(str(s[0])).name for s in announced if s[4] == "rewritten"}
    assert len(changed) > 12
    again, _ = sites("check")
    assert not [s for s in again if s[4] == "rewritten"]
