"""Migrated scripts are run: without an accelerator they print what the originals printed."""

from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from porter import catalog, engine
from porter.targets import Target, version

pytest.importorskip("torch", reason="needs an installed torch")

CATALOG = catalog.load()

SCRIPTS = {
    "training loop behind a check": """
        import torch
        import torch.nn as nn

        torch.manual_seed(0)
        if torch.cuda.is_available():
            torch.cuda.manual_seed_all(0)
            torch.backends.cudnn.benchmark = True
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        model = nn.Linear(4, 1).to(device)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        for step in range(5):
            x = torch.randn(8, 4, device=device)
            if torch.cuda.is_available():
                x = x.cuda(non_blocking=True)
            loss = model(x).pow(2).mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            torch.cuda.empty_cache()
        print(f"{loss.item():.8f}", device)
    """,
    "memory figures": """
        import torch

        def report():
            used = torch.cuda.memory_allocated() / 2**20
            peak = torch.cuda.max_memory_allocated() / 2**20
            return f"{used:.1f} {peak:.1f} {torch.cuda.memory_reserved()} {torch.cuda.device_count()}"

        print(report())
        print(torch.cuda.is_initialized(), torch.cuda.is_bf16_supported())
    """,
    "mixed precision with the old names": """
        import torch
        from torch.cuda.amp import GradScaler, autocast

        torch.manual_seed(1)
        model = torch.nn.Linear(3, 3)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
        scaler = GradScaler()
        for _ in range(3):
            with autocast():
                y = model(torch.ones(2, 3))
                loss = y.sum()
            optimizer.zero_grad()
            scaler.scale(loss).backward()
            scaler.step(optimizer)
            scaler.update()
        print(y.dtype, f"{loss.item():.6f}", scaler.get_scale())
    """,
    "autocast by device string": """
        import torch

        with torch.autocast("cuda", dtype=torch.float16):
            y = torch.ones(2, 2) @ torch.ones(2, 2)
        print(y.dtype)
    """,
    "constants and defaults at import": """
        import argparse
        import dataclasses

        import torch

        DEVICE = torch.device("cuda")

        @dataclasses.dataclass
        class Config:
            device: str = "cuda"
            index: int = 0

        def move(x, device="cuda", rank=0):
            where = device if torch.cuda.is_available() else "cpu"
            return x.to(where)

        parser = argparse.ArgumentParser()
        parser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])
        options = parser.parse_args(["--device", "cpu"])
        print(move(torch.ones(1)), options.device, isinstance(Config().device, str))
    """,
    "comparisons": """
        import torch

        def kind(x, device):
            first = x.is_cuda
            second = x.device.type == "cuda"
            third = device == "cuda" or str(device).startswith("cuda")
            fourth = x.device.type != "cuda" and "cuda" not in str(x.device)
            return first, second, third, fourth

        print(kind(torch.ones(1), torch.device("cpu")), kind(torch.ones(1, device="meta"), "cpu"))
        assert torch.device("cpu").type in ("cuda", "cpu")
    """,
    "checkpoints": """
        import io

        import torch

        buffer = io.BytesIO()
        torch.save({"w": torch.arange(3.0)}, buffer)
        buffer.seek(0)
        where = "cuda" if torch.cuda.is_available() else "cpu"
        state = torch.load(buffer, map_location=where)
        print(state["w"], where == "cpu")
    """,
    "streams behind a check": """
        import torch

        use_cuda = torch.cuda.is_available()
        stream = torch.cuda.Stream() if use_cuda else None
        if use_cuda:
            with torch.cuda.stream(stream):
                torch.cuda.synchronize()
        start = torch.cuda.Event(enable_timing=True) if use_cuda else None
        print(stream, start)
    """,
    "flags": """
        import argparse

        import torch

        parser = argparse.ArgumentParser()
        parser.add_argument("--no-cuda", action="store_true")
        args = parser.parse_args([])
        args.cuda = not args.no_cuda and torch.cuda.is_available()
        device = torch.device("cuda" if args.cuda else "cpu")
        loader = {"pin_memory": True} if args.cuda else {}
        model = torch.nn.Linear(1, 1)
        if args.cuda:
            model.cuda()
        print(device, loader, next(model.parameters()).device)
    """,
}


def run(folder: Path, name: str, text: str) -> str:
    file = folder / name
    file.write_text(text)
    done = subprocess.run(
        [sys.executable, "-W", "ignore", file.name],
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{text}\n{done.stderr}"
    return done.stdout


@pytest.mark.parametrize("case", SCRIPTS)
def test_prints_the_same_without_an_accelerator(case: str, tmp_path: Path) -> None:
    original = textwrap.dedent(SCRIPTS[case]).lstrip()
    expected = run(tmp_path, "original.py", original)
    for least in ("2.6", "2.7", "2.13"):
        outcome = engine.analyse(original, CATALOG, Target("accelerator", version(least)))
        assert outcome.problem == ""
        assert outcome.text != original
        assert run(tmp_path, "migrated.py", outcome.text) == expected, outcome.text
