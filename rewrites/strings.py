"""POR81x: CUDA inside strings of Python files: names to patch, commands, images, code, options."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator

from porter.rule import Category, Edit, Finding, Safety, change, keep, rule
from porter.site import Site
from porter.targets import Target

from ._table import Row, row
from .device import npu_import
from .environment import is_message

MARKERS = ("nvidia", "NVIDIA")

NAMED = re.compile(
    r"(?:^|\.)(torch\.(?:cuda|backends\.cuda|backends\.cudnn|version\.cuda)(?:\.\w+)*)$"
)
PATCHES = frozenset({"patch", "setattr", "delattr", "patch_object", "spy"})
IMPORTS = frozenset({"import_module", "__import__", "find_spec", "importorskip"})
COMMANDS = frozenset(
    "run call check_call check_output Popen system popen getoutput getstatusoutput exec_command "
    "create_subprocess_exec create_subprocess_shell execute sh".split()
)
OPTION_CALLS = frozenset(
    {"add_argument", "option", "Option", "add_option", "DEFINE_bool", "DEFINE_boolean"}
)


def _callee(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _call_around(site: Site) -> ast.Call | None:
    """The call that a string is an argument of, also through a list or an f-string."""
    for parent in site.module.parents(site.node):
        if isinstance(parent, ast.Call):
            return parent
        if not isinstance(
            parent,
            (
                ast.List,
                ast.Tuple,
                ast.JoinedStr,
                ast.BinOp,
                ast.keyword,
                ast.IfExp,
                ast.FormattedValue,
            ),
        ):
            return None
    return None


def _is_key(site: Site) -> bool:
    """Whether a string is the key of a mapping, or looked for in one."""
    parent = site.parent
    if isinstance(parent, ast.Dict):
        return site.node in parent.keys
    if isinstance(parent, ast.Compare):
        return isinstance(parent.ops[0], (ast.In, ast.NotIn)) and parent.left is site.node
    return isinstance(parent, ast.Subscript) and parent.slice is site.node


def _is_docstring(site: Site) -> bool:
    return isinstance(site.parent, ast.Expr)


# POR811 ---------------------------------------------------------------------------------------


@rule(
    "POR811",
    "cuda-name-in-string",
    strings=NAMED.pattern,
    category=Category.POTENTIAL,
    examples=[
        change(
            'from unittest import mock\n\n\n@mock.patch("torch.cuda.is_available", return_value=False)\ndef test_a(m):\n    pass\n',
            'from unittest import mock\n\n\n@mock.patch("torch.accelerator.is_available", return_value=False)\ndef test_a(m):\n    pass\n',
            'from unittest import mock\n\n\n@mock.patch("torch.npu.is_available", return_value=False)\ndef test_a(m):\n    pass\n',
            unsafe=True,
        ),
        change(
            'def test_a(monkeypatch):\n    monkeypatch.setattr("pack.core.torch.cuda.device_count", lambda: 2)\n',
            'def test_a(monkeypatch):\n    monkeypatch.setattr("pack.core.torch.accelerator.device_count", lambda: 2)\n',
            'def test_a(monkeypatch):\n    monkeypatch.setattr("pack.core.torch.npu.device_count", lambda: 2)\n',
            unsafe=True,
        ),
        keep(
            'from unittest import mock\n\n\n@mock.patch("torch.cuda.is_available")\ndef test_a(m):\n    pass\n',
            finding=True,
            note="without --unsafe",
        ),
        keep('import importlib\nm = importlib.import_module("torch.cuda.nvtx")\n', finding=True),
        keep('print("torch.cuda.is_available() is False")\n', finding=False),
        keep('"torch.cuda"\n', finding=False),
    ],
)
def cuda_name_in_string(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for strings that hold the dotted name of something in torch.cuda.

    ## Why it matters
    `mock.patch("torch.cuda.is_available")` has no effect on code that asks
    `torch.accelerator.is_available()`: the test passes or fails for the wrong reason.

    ## What it does
    The name to patch is replaced where its counterpart is known. Other strings are reported.

    ## Safety
    Unsafe: which code runs under the patch is not visible in the file.

    ## References
    - https://docs.python.org/3/library/unittest.mock.html#where-to-patch
    """
    found = NAMED.search(site.node.value)
    if found is None or _is_docstring(site):
        return
    name = found[1]
    # Tensor types and torch.cuda.amp have rules of their own.
    if name.endswith(("Tensor", "Storage")) or name.startswith("torch.cuda.amp"):
        return
    call = site.parent if isinstance(site.parent, ast.Call) else None
    first = call is not None and bool(call.args) and call.args[0] is site.node
    method = _callee(call) if call is not None else ""
    if first and method in PATCHES:
        yield _patched(site, target, name)
    elif first and method in IMPORTS:
        yield site.gap(f"{name} is imported by name here; import the target's module")
    elif is_message(site):
        yield site.information(f"a text that names {name}")
    elif _is_key(site):
        yield site.information("a key, perhaps of a saved state; it stays")
    else:
        yield site.gap(f"a string that names {name}; if it is looked up, name the target's")


def _patched(site: Site, target: Target, name: str) -> Finding:
    known = row(name)
    new = _counterpart(known, target) if known is not None else ""
    at = site.module.text.find(name, site.start, site.end)
    if not new or at < 0 or not site.module.exact(site.node):
        return site.gap(f"{name} is patched here; patch what the tested code calls on the target")
    return site.finding(
        Edit.of(at, at + len(name), new),
        safety=Safety.UNSAFE,
        reason=f"make sure that the tested code calls {new} now",
        imports=() if target.agnostic else npu_import(target),
    )


def _counterpart(known: Row, target: Target) -> str:
    if not target.agnostic:
        return known.npu
    if known.accelerator and target.has(known.accelerator_since):
        return known.accelerator
    return ""


# POR812 ---------------------------------------------------------------------------------------


@rule(
    "POR812",
    "cuda-looked-up",
    strings=r"^(cuda|cudnn)$",
    category=Category.POTENTIAL,
    examples=[
        keep('import torch\ncuda = getattr(torch, "cuda", None)\n', finding=True),
        keep('import torch\nok = hasattr(torch, "cuda")\n', finding=True),
        keep('ok = hasattr(object(), "cuda")\n', finding=False),
    ],
)
def cuda_looked_up(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `getattr(torch, "cuda", None)` and `hasattr(torch, "cuda")`.

    ## Why it matters
    What is reached this way escapes every other rule, and `hasattr` is true on every build.

    ## What it does
    Nothing.

    ## Safety
    Reported only; `hasattr` as information.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.get_device_module.html
    """
    call = site.parent
    if not isinstance(call, ast.Call) or len(call.args) < 2 or call.args[1] is not site.node:
        return
    name = site.module.name_of(call.args[0])
    if name not in ("torch", "torch.backends"):
        return
    if _callee(call) == "hasattr":
        yield site.information("true on every build of torch, whatever the device")
    elif _callee(call) in ("getattr", "setattr", "delattr") and len(call.args) != 2:
        yield site.gap(
            "what is called on it is not seen by porter; use torch.get_device_module()",
            category=Category.MANDATORY,
        )


# POR813 ---------------------------------------------------------------------------------------


@rule(
    "POR813",
    "nvidia-smi",
    strings=r"\bnvidia-smi\b",
    effort=3,
    examples=[
        keep(
            'import subprocess\nout = subprocess.check_output(["nvidia-smi", "-L"])\n', finding=True
        ),
        keep('import os\nos.system("nvidia-smi")\n', finding=True),
        keep('"""Ask nvidia-smi."""\n', finding=False),
    ],
)
def nvidia_smi(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for calls of `nvidia-smi`.

    ## Why it matters
    The program does not exist on a machine without NVIDIA's driver.

    ## What it does
    Nothing: `npu-smi info` prints another format, so what reads the output must change.

    ## Safety
    Reported only; as information where the string is a message.

    ## References
    - https://docs.pytorch.org/docs/stable/accelerator.html
    """
    if _is_docstring(site):
        return
    advice = (
        "ask torch.accelerator (device_count, memory_allocated) instead of parsing nvidia-smi"
        if target.agnostic
        else "npu-smi info prints another format; ask torch.npu instead where possible"
    )
    call = _call_around(site)
    if is_message(site):
        yield site.information("a text that names nvidia-smi")
    elif call is not None and _callee(call) in COMMANDS:
        yield site.gap(advice)
    else:
        yield site.gap(advice, category=Category.POTENTIAL)


# POR814 ---------------------------------------------------------------------------------------


@rule(
    "POR814",
    "cuda-in-code-string",
    strings=r"\bcuda\b",
    examples=[
        keep('exec("x = x.cuda()")\n', finding=True),
        keep(
            'import subprocess, sys\nsubprocess.run([sys.executable, "-c", "import torch; torch.cuda.init()"])\n',
            finding=True,
        ),
        keep('CODE = """\nimport torch\nx = torch.ones(1).cuda()\n"""\n', finding=True),
        keep('print("no cuda here")\n', finding=False),
    ],
)
def cuda_in_code_string(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for Python code in strings that uses CUDA.

    ## Why it matters
    Code that is executed from a string is not migrated with the file.

    ## What it does
    Nothing.

    ## Safety
    Reported only.

    ## References
    - https://docs.python.org/3/library/functions.html#exec
    """
    if _is_docstring(site):
        return
    call, value = _call_around(site), site.node.value
    method = _callee(call) if call is not None else ""
    code = bool(re.search(r"^\s*(import|from) +torch\b|; *torch\.cuda\.", value, re.M)) and bool(
        re.search(r"torch\.cuda\b|\.cuda\(|[\"']cuda", value)
    )
    if method in ("exec", "eval", "compile") and not (
        isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)
    ):
        yield site.gap("this code is executed from a string; migrate it by hand")
    elif code and not is_message(site):
        yield site.gap(
            "Python code in a string; migrate it by hand if it is executed",
            category=Category.MANDATORY if method in COMMANDS else Category.POTENTIAL,
        )


# POR815 ---------------------------------------------------------------------------------------


@rule(
    "POR815",
    "cuda-option",
    strings=r"^--?(\w+[-_])*cuda([-_]\w+)*$|^(use_|no_)?cuda$",
    category=Category.INFORMATION,
    effort=0,
    examples=[
        keep(
            'import argparse\np = argparse.ArgumentParser()\np.add_argument("--no-cuda", dest="cuda", action="store_false")\n',
            finding=True,
        ),
        keep('command = ["train", "--cuda"]\n', finding=False),
        keep('kind = "use_cuda"\n', finding=False),
    ],
)
def cuda_option(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for command line options named after CUDA, such as `--no-cuda`.

    ## Why it matters
    Users' scripts and documents name them.

    ## What it does
    Nothing: an option is an interface. What the program does with it is migrated.

    ## Safety
    Information.

    ## References
    - https://docs.python.org/3/library/argparse.html
    """
    call = site.parent
    if not isinstance(call, ast.Call) or _callee(call) not in OPTION_CALLS:
        return
    named = [
        a for a in call.args
        if isinstance(a, ast.Constant) and isinstance(a.value, str) and "cuda" in a.value
    ]  # fmt: skip
    if _callee(call) in ("option", "Option") and not site.node.value.startswith("-"):
        return  # typer.Option("cuda", ...): the default
    if named and named[0] is site.node:
        yield site.information("an option named after CUDA; its name is an interface and stays")


# POR816 ---------------------------------------------------------------------------------------


@rule(
    "POR816",
    "cuda-image-in-string",
    strings=r"\bnvidia/cuda[:@]|\bnvcr\.io/|\bpytorch/pytorch:\S*cuda",
    category=Category.POTENTIAL,
    effort=3,
    examples=[
        keep('IMAGE = "nvidia/cuda:12.1.0-devel-ubuntu22.04"\n', finding=True),
        keep('MODEL = "nvidia/Cosmos3-Nano"\n', finding=False),
        keep('"""Built on nvidia/cuda:12.1."""\n', finding=False),
    ],
)
def cuda_container_image(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for names of container images that hold CUDA.

    ## Why it matters
    The image has no driver libraries for another device.

    ## What it does
    Nothing: the target's image depends on the chip and the system.

    ## Safety
    Reported only.

    ## References
    - https://github.com/Ascend/pytorch/blob/master/docs/zh/installation_guide/references/installation_via_docker.md
    """
    if not _is_docstring(site):
        yield site.gap("a container image with CUDA; choose one for the target")
