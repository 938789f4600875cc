"""`porter onnx` as a command: whole runs, each model in processes of its own.

A process of torch takes seconds, so what can be asked of one run is asked of one.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from porter import config

ROOT = Path(__file__).parent.parent
PACKAGES = ("torch", "onnx", "onnxruntime", "onnxscript")
MISSING = [n for n in PACKAGES if importlib.util.find_spec(n) is None]
needs_packages = pytest.mark.skipif(bool(MISSING), reason=f"not installed: {', '.join(MISSING)}")

NET = """
import torch
from torch import nn


class Net(nn.Module):
    def __init__(self, width=8, act=nn.ReLU):
        super().__init__()
        self.conv = nn.Conv2d(3, width, 3, padding=1).cuda()
        self.act = act()
        self.head = nn.Linear(width, 5).cuda()

    def forward(self, x):
        x = x.cuda()
        mean = torch.cuda.FloatTensor([0.5, 0.4, 0.3]).view(1, 3, 1, 1)
        with torch.cuda.amp.autocast():
            y = self.conv(x - mean)
        return self.head(self.act(y).mean((2, 3)))


class Slow(Net):
    def forward(self, x):
        while True:
            pass


class Needs(Net):
    def forward(self, x):
        import a_package_that_is_nowhere
"""
TABLES = """
[tool.porter]
target = "npu"

[[tool.porter.onnx]]
name = "net"
model = "net:Net(width=4)"
inputs = ["x=float32[batch,3,8,8]"]
vary = { batch = [2, 5] }

[[tool.porter.onnx]]
name = "needs"
model = "net:Needs"
inputs = ["x=float32[2,3,8,8]"]

[[tool.porter.onnx]]
name = "slow"
model = "net:Slow"
inputs = ["x=float32[2,3,8,8]"]
timeout = 4
"""


def porter(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porter", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "net.py").write_text(NET)
    (tmp_path / "pyproject.toml").write_text(TABLES)
    return tmp_path


@pytest.mark.skipif(not MISSING, reason="all packages are installed")
def test_without_the_packages_one_line_says_what_to_install(project: Path) -> None:
    for words in (["net"], ["net:Net", "--no-original"]):
        done = porter("onnx", "check", *words, cwd=project)
        assert done.returncode == 2
        assert done.stderr.count("\n") == 1
        assert "pip install 'torch-porter[onnx]'" in done.stderr
        assert all(name in done.stderr for name in MISSING)


def test_what_is_missing_is_named(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from porter.cli import start
    from porter.onnx import check

    monkeypatch.chdir(project)
    monkeypatch.setattr(check, "PACKAGES", ("json", "no_such_package"))
    errors: list[str] = []
    monkeypatch.setattr("porter.cli.error", lambda text, code: (errors.append(text), code)[1])
    assert start(["onnx", "check", "net"]) == 2
    assert errors == ["not installed here: no_such_package; pip install 'torch-porter[onnx]'"]
    assert check.missing(sys.executable) == ["no_such_package"]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["other"], "no model is called 'other' (known: net, needs, slow)"),
        (["net", "net:Net"], "name factories or tables, not both"),
        (["net", "--input", "x=int8[2]"], "go with package.module:factory"),
        (["net:Net", "net:Slow", "--input", "x=int8[2]"], "are for one model"),
        (["net:Net", "--input", "x=int9[2]"], "did you mean"),
        (["net", "--original", "a", "--no-original"], "exclude each other"),
        (["net", "--root", "nowhere"], "--root nowhere: no such folder"),
        (["net", "--into", "nowhere.json"], "nowhere.json: cannot be read"),
        (["net", "--report", "nowhere/r.json"], "--report"),
        (["net", "--opset", "5"], "opset 5"),
    ],
)
def test_mistakes_are_one_line(project: Path, words: list[str], said: str) -> None:
    from porter.cli import start

    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        errors: list[str] = []
        patch.setattr("porter.cli.error", lambda text, code: (errors.append(text), code)[1])
        assert start(["onnx", "check", *words]) == 2
    (error,) = errors
    assert said in error
    assert "\n" not in error


@needs_packages
def test_a_model_of_a_project(project: Path) -> None:
    report = project / "report.json"
    done = porter(
        "onnx", "check", "net", "-q", "--report", str(report), "-o", "graphs", cwd=project
    )
    assert done.returncode == 0, done.stdout + done.stderr
    data = json.loads(report.read_bytes())
    (found,) = data["checks"]
    assert (found["name"], found["verdict"], found["outcome"]) == ("net", "pass", "passed")
    net = found["onnx"]
    assert net["original"]["status"] == "identical"
    assert net["rung"] == "default"
    assert [s["sizes"] for s in net["attempts"][0]["sets"]] == [{"batch": 2}, {"batch": 5}]
    assert net["graph"]["inputs"] == ["x: float32[batch,3,8,8]"]
    assert "on the CPU instead of a device" in net["notes"][0]
    assert [p.name for p in (project / "graphs").iterdir()] == ["net.onnx"]
    assert (project / "net.py").read_text() == NET, "the tree is left as it was"
    assert sorted(p.name for p in project.iterdir()) == [
        "graphs", "net.py", "pyproject.toml", "report.json",
    ]  # fmt: skip
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((ROOT / "docs" / "report.schema.json").read_text(encoding="utf-8"))
    jsonschema.Draft202012Validator(schema).validate(data)


@needs_packages
def test_one_model_never_stops_the_others(project: Path) -> None:
    words = ["needs", "slow", "-q", "--no-original", "--output-format", "json"]
    done = porter("onnx", "check", *words, cwd=project)
    assert done.returncode == 2, "one model could not even be called"
    found = {c["name"]: c for c in json.loads(done.stdout)["checks"]}
    assert {n: c["verdict"] for n, c in found.items()} == {"needs": "not run", "slow": "stopped"}
    assert found["slow"]["onnx"]["trouble"]["kind"] == "time"
    needs = found["needs"]["onnx"]["trouble"]
    line = NET.splitlines().index("        import a_package_that_is_nowhere") + 1
    assert (needs["kind"], needs["place"]) == ("package", f"net.py:{line}")


@needs_packages
def test_other_numbers_than_the_original_are_found(project: Path) -> None:
    old = project / "old"
    old.mkdir()
    (old / "net.py").write_text(NET)
    (project / "net.py").write_text(NET.replace("0.5, 0.4", "0.5, 0.41"))
    words = ["onnx", "check", "net", "-q", "--original", "old", "--output-format", "json"]
    done = porter(*words, "--memory", "8G", cwd=project)
    assert done.returncode == 1, done.stderr
    (found,) = json.loads(done.stdout)["checks"]
    assert found["verdict"] == "changed"
    assert "the first module within that gives others is conv" in found["detail"]


TRAIN = """
import sys
import torch
from torch import nn
from net import Net

net = Net(6, act=nn.GELU)
for batch in (4, 4, 3):
    net(torch.rand(batch, 3, 8, 8).cuda())
print("arguments", sys.argv[1:])
"""


@needs_packages
def test_capture_writes_tables_that_check_reads(project: Path) -> None:
    (project / "train.py").write_text(TRAIN)
    (project / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    words = ["onnx", "capture", "--on-cpu", "--write", "--save", "kept"]
    done = porter(*words, "--", "python", "train.py", "--epochs", "1", cwd=project)
    assert done.returncode == 0, done.stderr
    assert "arguments ['--epochs', '1']" in done.stderr
    assert done.stdout == ""
    (model,) = config.load([project]).onnx
    assert (model.name, model.factory) == ("Net", "porter_onnx_models:net")
    assert dict(model.vary) == {"batch": (4, 3)}
    assert "return Net(6, act=GELU)" in (project / "porter_onnx_models.py").read_text()
    assert sorted(p.name for p in (project / "kept").iterdir()) == [
        "Net.inputs.pt",
        "Net.weights.pt",
    ]
    checked = porter("onnx", "check", "-q", "--no-original", cwd=project)
    assert checked.returncode == 0, checked.stdout + checked.stderr
    assert checked.stdout.startswith("PASS  Net")
    assert "at recorded inputs" in " ".join(checked.stdout.split())


@needs_packages
def test_migrated_models_are_the_originals() -> None:
    """More models with `python tests/onnx_migrated.py`."""
    names = ["generator", "attention"]
    done = subprocess.run(
        [sys.executable, str(ROOT / "tests" / "onnx_migrated.py"), *names],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-3000:]
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert len(rows) == 2 * len(names)
    for found in rows:
        assert found["rung"] == "default", found
        assert found["identical"], found
        assert found["graphs equal"], found


ON_CPU = """
import importlib, sys
import torch
state = importlib.import_module("porter.rewrites._on_cpu").install()
import torch_npu, torch_npu.contrib
from torch import nn
device = torch.device("cuda:1")
assert device.type == "cpu" and torch.device(0).type == "cpu" and torch.device("npu").type == "cpu"
x = torch.ones(2, device="cuda").cuda().to("cuda:0", non_blocking=True).npu()
assert x.device.type == "cpu" and x.is_cuda and x.get_device() == 0
assert nn.Linear(2, 2).cuda().to("npu:0").weight.device.type == "cpu"
assert torch.cuda.FloatTensor([1.0]).dtype is torch.float32
assert x.type("torch.cuda.HalfTensor").dtype is torch.float16
assert torch.cuda.is_available() and torch.npu.is_available() and torch.cuda.device_count() == 1
assert torch.accelerator.is_available()
assert torch.accelerator.current_accelerator().type == "cpu"
torch.cuda.synchronize(); torch.npu.empty_cache(); torch.cuda.set_device(0)
with torch.cuda.stream(torch.cuda.Stream()), torch.cuda.device(0):
    x.record_stream(torch.cuda.current_stream())
with torch.autocast("cuda", dtype=torch.float16):
    assert (nn.Linear(2, 2)(torch.ones(2))).dtype is torch.float32
generator = torch.Generator(device="cuda").manual_seed(3)
first = torch.randn(3, generator=generator, device="npu")
assert torch.equal(first, torch.randn(3, generator=torch.Generator().manual_seed(3)))
torch.manual_seed(1)
assert state.used
state.undo()
assert torch.device("cuda:1").type == "cuda"
assert not torch.cuda.is_available() and not hasattr(torch, "npu")
assert "torch_npu" not in sys.modules
state = importlib.import_module("porter.rewrites._on_cpu").install()
state.lighten(used=True)
x = torch.zeros(2, device="cuda").cuda().to("npu")
assert x.device.type == "cpu" and x.is_cuda and x.is_npu
assert {".is_cuda", ".is_npu"} <= set(state.used)
state.undo()
assert not torch.zeros(2).is_cuda and not hasattr(torch.zeros(2), "is_npu")
try:
    torch.zeros(2).cuda()
except AssertionError:
    print("done")
"""


@needs_packages
def test_the_cpu_stands_for_devices_and_all_is_taken_back() -> None:
    done = subprocess.run(
        [sys.executable, "-c", ON_CPU], capture_output=True, text=True, check=False, timeout=120
    )
    assert done.stdout.strip() == "done", done.stderr


def test_the_command_line_starts_without_torch(tmp_path: Path) -> None:
    code = (
        "import sys; from porter.cli import start; start(['onnx', '--help']); "
        "print([m for m in sys.modules if m.split('.')[0] in ('torch', 'onnx', 'numpy')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, cwd=tmp_path
    )
    assert done.stdout.splitlines()[-1] == "[]"


def test_operators_of_a_file_that_is_none(tmp_path: Path, capsys: Any) -> None:
    from porter.cli import start

    (tmp_path / "a.onnx").write_bytes(b"no graph")
    assert start(["onnx", "ops", str(tmp_path / "a.onnx"), str(tmp_path / "b.onnx")]) == 2
    assert capsys.readouterr().err.count("error: ") == 2
