"""POR923 to POR926: what an NPU, or an older torch_npu, takes in another way: devices, settings."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from porter.module import Module
from porter.rule import Category, Finding, keep, rule
from porter.site import Site
from porter.targets import Target, version
from porter.text_site import TextSite, text_rule

from . import _artefacts as art
from ._match import argument
from ._tensors import imports_torch
from .environment import is_access, occurrences, written_value

FAMILY = "settings of an NPU"

MARKERS = (
    r"\.to\((?:\d|rank|local_rank|gpu\b|[\w.]+rank\)|int\()",
    r"device=(?:\d|rank|local_rank|gpu\b|[\w.]+rank\b|int\()",
    "allow_internal_format",
    "PYTORCH_ALLOC_CONF",
    "PYTORCH_NPU_ALLOC_CONF",
)
TEXT_WORDS = ("pytorch_alloc_conf", "pytorch_npu_alloc_conf")

# POR923 -----------------------------------------------------------------------------------------

#: https://github.com/pytorch/pytorch/pull/129119
NUMBER_SINCE = "2.5"
_NUMBERS = frozenset(
    {
        "torch.distributed.get_rank",
        "torch.cuda.current_device",
        "torch.npu.current_device",
        "torch.distributed.get_node_local_rank",
    }
)


@rule(
    "POR923",
    "device-by-number",
    names=("torch.device",),
    attributes=("to",),
    keywords=("device",),
    category=Category.POTENTIAL,
    targets=("npu",),
    examples=[
        keep("import torch\n\ndef f(x):\n    return x.to(0)\n", finding=True, min_torch="2.1"),
        keep(
            'import os\nimport torch\n\nlocal_rank = int(os.environ["LOCAL_RANK"])\n'
            "x = torch.zeros(3, device=local_rank)\n",
            finding=True,
            min_torch="2.4",
        ),
        keep("import torch\n\ndef f(x):\n    return x.to(0)\n", finding=False, min_torch="2.5"),
        keep("import torch\n\ndef f(x, d):\n    return x.to(d)\n", finding=False, min_torch="2.1"),
        keep("def f(unit):\n    return unit.to(3)\n", finding=False, min_torch="2.1"),
    ],
)
def device_by_number(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for devices given by their number alone: `x.to(0)`, `device=local_rank`.

    ## Why it matters
    Before torch 2.5 a number alone means a CUDA device: "Torch not compiled with CUDA enabled".
    Since then it means the current accelerator.

    ## What it does
    Reports it, if versions of torch before 2.5 have to be supported.

    ## Safety
    Always left. Write the type: `f"npu:{local_rank}"`.

    ## References
    - https://github.com/pytorch/pytorch/pull/129119
    - https://github.com/Ascend/pytorch/issues/16
    """
    if not _before(target, NUMBER_SINCE) or not imports_torch(site.module):
        return
    value = _device_given(site)
    if value is not None and _is_number(site.module, value):
        text = site.module.segment(value)
        shown = f'"npu:{text}"' if text.isdecimal() else f'f"npu:{{{text}}}"'
        if len(shown) > 60 or "\n" in shown:
            shown = 'f"npu:{number}"'
        yield site.gap(
            f"a number alone is a CUDA device before torch {NUMBER_SINCE}: write {shown}",
            span=site.module.span(value),
            symbol="",
        )


def _before(target: Target, since: str) -> bool:
    """Whether a torch_npu, or a torch, older than `since` may be what runs."""
    try:
        chosen = version(target.torch_npu) if target.torch_npu else target.min_torch
    except ValueError:
        return False
    return min(chosen, target.min_torch) < version(since)


def _device_given(site: Site) -> Any:
    """The expression that says which device, where the site takes one."""
    if site.kind == "keyword":
        call = site.node.parent
        return site.node.value if site.module.name_of(call.func).startswith("torch.") else None
    if site.call is None:
        return None
    return argument(site.call, 0, "device")


def _is_number(module: Module, node: Any, depth: int = 0) -> bool:
    if depth > 4:
        return False
    if isinstance(node, ast.Constant):
        return isinstance(node.value, int) and not isinstance(node.value, bool)
    if isinstance(node, ast.Call):
        plain = isinstance(node.func, ast.Name) and node.func.id == "int"
        return plain or module.name_of(node.func) in _NUMBERS
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mod, ast.FloorDiv)):
        return _is_number(module, node.left, depth + 1) or _is_number(module, node.right, depth + 1)
    if isinstance(node, ast.Name):
        owner = module.scope(node).owner(node.id)
        bindings = owner.bindings.get(node.id, []) if owner is not None else []
        return bool(bindings) and all(_binds_number(module, b, depth) for b in bindings)
    return False


def _binds_number(module: Module, binding: Any, depth: int) -> bool:
    if binding.kind == "param":
        annotation = getattr(binding.node, "annotation", None)
        return isinstance(annotation, ast.Name) and annotation.id == "int"
    return binding.kind == "assign" and _is_number(module, binding.value, depth + 1)


# POR924 and POR925 ------------------------------------------------------------------------------

_NEUTRAL, _OWN = "PYTORCH_ALLOC_CONF", "PYTORCH_NPU_ALLOC_CONF"
_BOTH = (
    f"{_NEUTRAL} is set here too: a torch_npu that reads it (TorchNPU 26.2.0 and later, with torch "
    "2.10 and later) stops with an error if both are set; set one"
)
_ALONE = (
    f"torch_npu reads {_NEUTRAL} since TorchNPU 26.2.0 with torch 2.10, and stops with an error if "
    f"a script or an image sets {_OWN} as well: set one of them in all places"
)


@rule(
    "POR924",
    "allocator-set-twice",
    strings=rf"^(?:{_NEUTRAL}|{_OWN})$",
    category=Category.POTENTIAL,
    targets=("npu",),
    examples=[
        keep(
            f'import os\n\nos.environ["{_NEUTRAL}"] = "expandable_segments:True"\n'
            f'os.environ["{_OWN}"] = "expandable_segments:True"\n',
            finding=True,
        ),
        keep(f'import os\n\nos.environ["{_NEUTRAL}"] = "expandable_segments:True"\n', finding=True),
        keep(f'import os\n\nx = os.environ.get("{_NEUTRAL}")\n', finding=False),
        keep(f'import os\n\nos.environ["{_OWN}"] = "expandable_segments:True"\n', finding=False),
    ],
)
def allocator_set_twice(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for settings of the memory allocator that can be made twice.

    ## Why it matters
    New versions of torch_npu read `PYTORCH_ALLOC_CONF` besides `PYTORCH_NPU_ALLOC_CONF`. If both
    are set, wherever that happens, the program ends at its start: "Both PYTORCH_NPU_ALLOC_CONF and
    PYTORCH_ALLOC_CONF have been set".

    ## What it does
    Reports a file that sets both; where it sets `PYTORCH_ALLOC_CONF` alone, that is advice.

    ## Safety
    Always left: porter does not see the environment in which the program starts.

    ## References
    - https://github.com/Ascend/pytorch/blob/master/torch_npu/csrc/core/npu/NPUAllocatorConfig.cpp
    - Ascend/pytorch, docs/zh/api/environment_variable/memory_management/PYTORCH_NPU_ALLOC_CONF.md
      (read on 2026-11-24)
    """
    if not _sets(site.module, site.node):
        return
    others = [n for n in occurrences(site.module, _NEUTRAL) if _sets(site.module, n)]
    if site.node.value == _OWN:
        if others:
            yield site.gap(_BOTH, symbol=_OWN)
    elif not any(_sets(site.module, n) for n in occurrences(site.module, _OWN)):
        yield site.advice(_ALONE, symbol=_NEUTRAL)


def _sets(module: Module, node: Any) -> bool:
    return is_access(module, node) and written_value(node) is not None


_SET = re.compile(rf"(?<![\w$])({_NEUTRAL}|{_OWN})(?=\s*[=:]\s*\S|\s+\S)")


@text_rule(
    "POR925",
    "allocator-set-twice-in-file",
    files=(*art.SHELL, *art.DOCKER, *art.MAKE, *art.YAML, *art.JSON, *art.TOML, *art.INI),
    category=Category.POTENTIAL,
    targets=("npu",),
    examples=[
        keep(
            f"export {_NEUTRAL}=expandable_segments:True\nexport {_OWN}=expandable_segments:True\n",
            path="run.sh",
            finding=True,
        ),
        keep(f"FROM a\nENV {_NEUTRAL}=expandable_segments:True\n", path="Dockerfile", finding=True),
        keep(f"export {_OWN}=expandable_segments:True\n", path="run.sh", finding=False),
        keep(f'# {_NEUTRAL}=a\necho "${_NEUTRAL}"\n', path="run.sh", finding=False),
    ],
)
def allocator_set_twice_in_file(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for scripts and images whose allocator settings can be made twice.

    ## Why it matters
    As for [POR924](POR924.md): with both variables set, the program ends at its start.

    ## What it does
    Reports a file that sets both; where it sets `PYTORCH_ALLOC_CONF` alone, that is advice.

    ## Safety
    Always left.

    ## References
    - https://github.com/Ascend/pytorch/blob/master/torch_npu/csrc/core/npu/NPUAllocatorConfig.cpp
    - Ascend/pytorch, docs/zh/api/environment_variable/memory_management/PYTORCH_NPU_ALLOC_CONF.md
    """
    places: dict[str, tuple[int, int]] = {}
    for match in _SET.finditer(site.text):
        if not art.in_comment(site.file, match.start()):
            places.setdefault(match[1], match.span(1))
    if len(places) == 2:
        yield site.gap(places[_OWN], _BOTH, symbol=_OWN)
    elif _NEUTRAL in places:
        yield site.advice(places[_NEUTRAL], _ALONE, symbol=_NEUTRAL)


# POR926 -----------------------------------------------------------------------------------------

_INTERNAL = ("torch_npu.npu.config.allow_internal_format", "torch.npu.config.allow_internal_format")


@rule(
    "POR926",
    "internal-format",
    names=_INTERNAL,
    category=Category.ADVICE,
    effort=0,
    targets=("npu",),
    examples=[
        keep(
            "import torch_npu\n\ntorch_npu.npu.config.allow_internal_format = True\n", finding=True
        ),
        keep(
            "import torch_npu\n\ntorch_npu.npu.config.allow_internal_format = False\n",
            finding=False,
        ),
        keep(
            "import torch_npu\n\nprint(torch_npu.npu.config.allow_internal_format)\n", finding=False
        ),
    ],
)
def internal_format(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for code that allows the private layouts of an NPU, such as NZ.

    ## Why it matters
    Some operators give other results on tensors in NZ format. Off is the default on A2 and A3;
    there, weights in such a layout are converted before they are used.

    ## What it does
    Names the line that turns it on.

    ## Safety
    Reported only.

    ## References
    - Ascend/pytorch, docs/zh/user_guide/troubleshooting/troubleshooting_cases/nz_format_precision_issue.md
    - Ascend/op-plugin, docs/zh/custom_APIs/torch_npu-npu, torch_npu.npu.config.allow_internal_format
      (read on 2026-11-24)
    """
    statement: Any = site.module.statement(site.node)
    value = getattr(statement, "value", None)
    if site.stored and isinstance(value, ast.Constant) and value.value is True:
        yield site.advice(
            "lets tensors keep private layouts such as NZ, in which some operators give other "
            "results: if precision is off, leave it False, or cast inputs with npu_format_cast(x, 2)"
        )
