"""Mixed precision: whole files in which imports, comments and other rules meet."""

from __future__ import annotations

import textwrap

import pytest

from porter import catalog, engine
from porter.rule import Status
from porter.targets import Target

CATALOG = catalog.load()
SAFE_TYPE = '(torch.accelerator.current_accelerator() or torch.device("cpu")).type'


def run(text: str, target: str = "accelerator", path: str = "a.py") -> engine.Outcome:
    outcome = engine.analyse(text, CATALOG, Target(target), path=path)
    assert outcome.problem == ""
    again = engine.analyse(outcome.text, CATALOG, Target(target), path=path)
    assert again.text == outcome.text
    return outcome


def block(text: str) -> str:
    return textwrap.dedent(text).lstrip("\n")


def test_arguments_on_lines_of_their_own() -> None:
    before = block(
        """
        import torch
        from torch.cuda.amp import GradScaler, autocast

        scaler = GradScaler(
            init_scale=2.0**14,
            enabled=True,
        )

        def step(model, x, cfg):
            with autocast(
                cfg.amp or cfg.half,
                torch.float16,  # half
            ):
                return model(x)
        """
    )
    after = block(
        f"""
        import torch
        from torch.amp import GradScaler, autocast

        device_type = {SAFE_TYPE}

        scaler = GradScaler(
            device_type,
            init_scale=2.0**14,
            enabled=device_type != "cpu",
        )

        def step(model, x, cfg):
            with autocast(
                device_type,
                enabled=(cfg.amp or cfg.half) and device_type != "cpu",
                dtype=torch.float16,  # half
            ):
                return model(x)
        """
    )
    assert run(before).text == after


def test_parentheses_around_enabled_stay_balanced() -> None:
    before = "import torch\nc = torch.cuda.amp.autocast(enabled=(a or b), dtype=torch.float16)\n"
    assert 'enabled=((a or b) and device_type != "cpu"), dtype' in run(before).text


@pytest.mark.parametrize("comment", ["# porter: ignore[POR301] later", "# noqa: POR301"])
def test_a_silenced_call_keeps_its_import(comment: str) -> None:
    before = block(
        f"""
        import torch
        from torch.cuda.amp import autocast

        def f(m, x):
            with autocast():  {comment}
                m(x)
            with autocast():
                return m(x)
        """
    )
    text = run(before, "npu").text
    assert "from torch.cuda.amp import autocast\n" in text
    assert f"with autocast():  {comment}\n" in text
    assert 'with torch.amp.autocast("npu"):\n' in text


def test_one_use_that_stays_keeps_the_import() -> None:
    before = block(
        """
        import torch
        from torch.cuda.amp import autocast

        context = autocast

        def f(m, x):
            with autocast(enabled=False):
                return m(x)
        """
    )
    outcome = run(before, "npu")
    assert outcome.text == before.replace("with autocast(", 'with torch.amp.autocast("npu", ')
    assert [s.line for s in outcome.settled if s.status is Status.LEFT] == [4]


def test_an_argument_that_another_rule_extends_is_not_lost() -> None:
    before = block(
        """
        import torch
        from torch.cuda.amp import autocast

        def f(m, x, device, force):
            with autocast(str(device).startswith("cuda") or force):
                return m(x)
        """
    )
    text = run(before).text
    assert "torch.cuda" not in text
    assert "autocast(device_type, enabled=(" in text


def test_names_in_all_and_packages_are_spelled_out() -> None:
    body = "import torch\nfrom torch.cuda.amp import autocast\n\nctx = autocast(enabled=False)\n"
    wanted = 'ctx = torch.amp.autocast("npu", enabled=False)\n'
    assert run(body, "npu", "pkg/__init__.py").text.endswith(wanted)
    listed = run(body + '__all__ = ["autocast"]\n', "npu").text
    assert "from torch.cuda.amp import autocast\n" in listed
    assert wanted in listed


def test_a_file_without_torch_gets_the_import() -> None:
    before = "from torch.cuda.amp import autocast\n\nctx = autocast()\n"
    text = run(before).text
    assert text.startswith("import torch\nfrom torch.amp import autocast\n")
    compile(text, "<text>", "exec")


def test_other_branch_without_version_test_is_no_fork() -> None:
    before = block(
        """
        import torch

        def f(half):
            if half:
                return torch.cuda.amp.autocast(dtype=torch.float16)
            else:
                return torch.amp.autocast("cuda", dtype=torch.bfloat16)
        """
    )
    assert "torch.cuda" not in run(before, "npu").text


def test_version_test_with_return_is_a_fork() -> None:
    before = block(
        """
        import torch
        from packaging import version

        def f(on):
            if version.parse(torch.__version__) >= version.parse("2.4"):
                return torch.amp.autocast("cpu", enabled=on)
            return torch.cuda.amp.autocast(on)
        """
    )
    outcome = run(before, "npu")
    assert outcome.text == before
    assert [s.status for s in outcome.settled] == [Status.INFORMATION]


def test_literal_cuda_and_its_switch_share_one_assignment() -> None:
    before = block(
        """
        import torch
        from torch.amp import GradScaler

        def f(amp, m, x):
            scaler = GradScaler(device="cuda", enabled=amp)
            with torch.autocast("cuda", dtype=torch.float16):
                return m(x), scaler
        """
    )
    accelerator = block(
        f"""
        import torch
        from torch.amp import GradScaler

        device_type = {SAFE_TYPE}

        def f(amp, m, x):
            scaler = GradScaler(device=device_type, enabled=amp and device_type != "cpu")
            with torch.autocast(device_type, dtype=torch.float16, enabled=device_type != "cpu"):
                return m(x), scaler
        """
    )
    assert run(before).text == accelerator
    assert run(before, "npu").text == before.replace('"cuda"', '"npu"')


def test_guarded_calls_need_no_switch() -> None:
    before = block(
        """
        import torch

        def f(m, x):
            if not torch.cuda.is_available():
                return m(x)
            with torch.cuda.amp.autocast():
                return m(x)
        """
    )
    current = "torch.accelerator.current_accelerator().type"
    assert f"with torch.amp.autocast({current}):\n" in run(before).text


def test_alias_of_the_module_and_of_the_name() -> None:
    before = block(
        """
        import torch
        import torch.cuda.amp as amp

        scaler = amp.GradScaler(enabled=False)
        Scaler = amp.grad_scaler.GradScaler
        """
    )
    outcome = run(before, "npu")
    assert 'scaler = torch.amp.GradScaler("npu", enabled=False)\n' in outcome.text
    assert "Scaler = amp.grad_scaler.GradScaler\n" in outcome.text
    assert any(s.status is Status.LEFT and s.line == 5 for s in outcome.settled)
