"""POR921 and POR922: float64 and memory formats, which are not the same on every accelerator."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from porter.module import Module
from porter.rule import Category, Finding, keep, rule
from porter.site import Site
from porter.support import Unanswerable
from porter.targets import Target

from ._match import argument
from ._tensors import first_of, imports_torch, is_cpu, on_cpu
from .support import tables
from .support.lookup import listed

FAMILY = "precision and layout"

#: A file that only compares with float64 need not be looked at.
MARKERS = (
    r"\.double\(\)",
    r"\.to\(torch\.float64",
    r"\.to\(torch\.double",
    r"\.type\(torch\.(?:float64|double)",
    r"dtype=torch\.float64",
    r"dtype=torch\.double",
    r", torch\.(?:float64|double)\)",
    r"set_default_dtype",
    "channels_last",
)

# POR921 -----------------------------------------------------------------------------------------

_FLOAT64 = ("torch.float64", "torch.double")
_CASTS = frozenset({"to", "type"})


@rule(
    "POR921",
    "float64-tensor",
    names=(*_FLOAT64, "torch.set_default_dtype"),
    attributes=("double",),
    category=Category.ADVICE,
    effort=0,
    examples=[
        keep("import torch\n\ndef f(x):\n    return x.double().mean()\n", finding=True),
        keep("import torch\n\ndef f(x):\n    return x.to(torch.float64)\n", finding=True),
        keep(
            "import torch\n\ndef f(x, device):\n    return x.to(device, torch.float64)\n",
            finding=True,
        ),
        keep(
            "import torch\n\ndef f(n, device):\n"
            "    return torch.rand(n, dtype=torch.float64, device=device)\n",
            finding=True,
        ),
        keep(
            "import torch\n\ndef f(a):\n    return torch.from_numpy(a).double()\n",
            finding=False,
            note="on the CPU",
        ),
        keep("import torch\n\ndef f(x):\n    return x.cpu().double()\n", finding=False),
        keep("import torch\n\ndef f(x):\n    return x.dtype == torch.float64\n", finding=False),
        keep("def f(reader):\n    return reader.double()\n", finding=False),
        keep("import torch\nx = torch.rand(3, dtype=torch.float64)\n", finding=False),
    ],
)
def float64_tensor(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for tensors of `float64`, unless they are surely on the CPU.

    ## Why it matters
    Not every accelerator computes in float64. On an Ascend NPU a cast (`x.double()`,
    `x.to(torch.float64)`) gives **float32**, with one warning for the whole run: the precision that
    the code asks for is silently not there. A tensor that is made in float64, or cast while it is
    moved, keeps its dtype; but of the APIs whose dtypes Ascend lists, most do not take it
    ([counts](../advice.md)).

    ## What it does
    Says so once for each statement. A comparison (`x.dtype == torch.float64`) is no use of it.

    ## Safety
    Reported only. Another dtype is another result; what needs float64 is best computed on the CPU:
    `x.cpu().double()`.

    ## References
    - https://github.com/Ascend/pytorch/blob/v2.12.0/torch_npu/csrc/aten/common/ToKernelNpu.cpp
      (the same in the branches for torch 2.1 to 2.12, and in the binary of torch_npu 2.13.0; read
      on 2026-11-24)
    - Ascend/pytorch, docs/zh/api/native_api, for torch_npu 2.7.1 to 2.13.0: Tensor.double and the
      dtypes of each API
    """
    use = _use_of_float64(site, target)
    if use and first_of(site, f"float64 {use}"):
        yield site.advice(_ABOUT_FLOAT64[use][target.agnostic])


#: By what is done, the advice for an NPU and for any accelerator.
_ABOUT_FLOAT64 = {
    "cast": (
        "on an NPU this cast gives float32, with one warning for the whole run; what needs float64 "
        "belongs on the CPU: x.cpu().double()",
        "not every accelerator has float64 (an Ascend NPU gives float32, with one warning): compute "
        "what needs it on the CPU: x.cpu().double()",
    ),
    "made": (
        "many operators of an NPU take no float64 (porter query NAME tells the dtypes of an API); "
        "use float32, or compute this part on the CPU",
        "not every accelerator has float64: use float32, or compute this part on the CPU",
    ),
    "default": (
        "makes float64 the dtype of new tensors; on an NPU many operators take none, and casts to it "
        "give float32: keep float32, and compute what needs float64 on the CPU",
        "makes float64 the dtype of new tensors, which not every accelerator has: keep float32, and "
        "compute what needs float64 on the CPU",
    ),
}


def _use_of_float64(site: Site, target: Target) -> str:
    """What is done with float64: a key of the texts above; empty if nothing is, or on the CPU."""
    module = site.module
    if site.kind == "attribute":
        cast = site.call
        if cast is None or cast.args or cast.keywords or not imports_torch(module):
            return ""
        return "" if on_cpu(module, site.node.value) else "cast"
    if site.name == "torch.set_default_dtype":
        value = argument(site.call, 0, "d") if site.call is not None else None
        return "default" if module.name_of(value) in _FLOAT64 else ""
    call: Any = site.parent
    if isinstance(call, ast.keyword):
        if call.arg != "dtype":
            return ""
        call = call.parent  # type: ignore[attr-defined]
    if not isinstance(call, ast.Call) or site.node is call.func:
        return ""
    return _use_in_call(module, call, target)


def _use_in_call(module: Module, call: ast.Call, target: Target) -> str:
    name = module.name_of(call.func)
    device = next((k.value for k in call.keywords if k.arg == "device"), None)
    if not name and isinstance(call.func, ast.Attribute) and call.func.attr in _CASTS:
        first = call.args[0] if call.args else None
        if device is None and first is not None and module.name_of(first) not in _FLOAT64:
            device = first
        if is_cpu(module, device) or (device is None and on_cpu(module, call.func.value)):
            return ""
        return "cast" if device is None else "made"
    if not name.startswith("torch.") or device is None or is_cpu(module, device):
        return ""
    return "" if _listed_with_dtypes(name, target) else "made"


def _listed_with_dtypes(name: str, target: Target) -> bool:
    """Whether Ascend's list tells the dtypes that a maker takes: POR904 reports that."""
    if target.agnostic:
        return False
    try:
        row = tables.api(name, listed(target))
    except Unanswerable:
        return False
    return row is not None and "dtype" in dict(row.dtypes)


# POR922 -----------------------------------------------------------------------------------------

_KEPT = frozenset({"is_contiguous", "suggest_memory_format"})
#: They pass over the format.
_DEAF = frozenset({"clone", "empty_like", "zeros_like", "ones_like", "randn_like"})


@rule(
    "POR922",
    "channels-last",
    names=("torch.channels_last", "torch.channels_last_3d"),
    category=Category.POTENTIAL,
    examples=[
        keep(
            "import torch\n\ndef f(model):\n    return model.to(memory_format=torch.channels_last)\n",
            finding=True,
        ),
        keep(
            "import torch\n\ndef f(x):\n    return x.contiguous(memory_format=torch.channels_last)\n",
            finding=True,
        ),
        keep(
            "import torch\n\ndef f(x):\n"
            "    return x.is_contiguous(memory_format=torch.channels_last)\n",
            finding=False,
        ),
        keep(
            'import torch\n\ndef f(x):\n    if x.device.type == "cuda":\n'
            "        x = x.to(memory_format=torch.channels_last)\n    return x\n",
            note="the condition stays: behind it is what other devices refuse",
        ),
        keep(
            'import torch\n\ndef f(x):\n    if x.device.type == "cpu":\n'
            "        x = x.to(memory_format=torch.channels_last)\n    return x\n",
            finding=False,
        ),
        keep("channels_last = True\n\ndef f(g):\n    return g(channels_last)\n", finding=False),
        keep(
            "import torch\nx = torch.empty(1, 3, 8, 8, memory_format=torch.channels_last)\n",
            finding=False,
            note="on the CPU",
        ),
    ],
)
def channels_last(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for the memory format `torch.channels_last`, which an NPU refuses.

    ## Why it matters
    `x.to(memory_format=torch.channels_last)` raises an error if `x` is on an NPU or goes there
    ("Only contiguous_format or preserve_format is supported"), and so does a module with weights of
    four dimensions. `x.contiguous(memory_format=torch.channels_last)` raises one as well ("NPU
    contiguous operator only supported contiguous memory format"), unless the tensor has that layout
    already. `clone`, `empty_like` and the like pass over it. NPUs have layouts of their own, which
    torch_npu chooses.

    ## What it does
    npu: reports where the format is asked for; `clone` and the like are advice. accelerator:
    advice, since a CUDA device takes the format and gains from it.

    ## Safety
    Always left: usually an option decides, and that option needs a check of the device. A condition
    that asks for CUDA around it stays, so that the code behind it does not run elsewhere.

    ## What to do by hand
    Leave the format out on the target, or write `torch.contiguous_format`, as Ascend's guide says.

    ## References
    - https://www.hiascend.com/document/detail/en/mindstudio/700/TITools/migrationtoolpt/atlasfmkt_16_0035.html
    - https://github.com/Ascend/pytorch/blob/v2.12.0/torch_npu/csrc/aten/common/ToKernelNpu.cpp,
      TensorFactories.cpp and TensorProperties.cpp (the same in the branches for torch 2.1 to 2.12,
      and in the binary of torch_npu 2.13.0; read on 2026-11-24 and 28)
    - Ascend/pytorch, docs/zh/api/native_api/pytorch_2-13-0/torch-Tensor.md, `to()`
    """
    asked = _format_asked(site)
    if not asked or _is_cpu_branch(site.module, site.node):
        return
    if target.agnostic:
        yield site.advice(
            "not every accelerator takes this format (an Ascend NPU raises an error): ask for it on "
            "CUDA alone, or make it an option that is off elsewhere",
            native_only=True,
        )
    elif asked == "deaf":
        yield site.advice(
            "has no use on an NPU, which keeps layouts of its own: leave it out there"
        )
    else:
        yield site.gap(
            "raises an error for what is on an NPU or goes there: leave the format out, or use "
            "torch.contiguous_format",
            native_only=True,
        )


def _is_cpu_branch(module: Module, node: Any) -> bool:
    """Whether the code runs only where a device was found to be the CPU."""
    child: Any = node
    for parent in module.parents(node):
        if isinstance(parent, (ast.If, ast.IfExp)):
            body = parent.body if isinstance(parent.body, list) else [parent.body]
            if child in body and _asks_for_cpu(parent.test):
                return True
        child = parent
    return False


def _asks_for_cpu(test: ast.expr) -> bool:
    if isinstance(test, ast.BoolOp) and isinstance(test.op, ast.And):
        return any(_asks_for_cpu(value) for value in test.values)
    return (
        isinstance(test, ast.Compare)
        and len(test.ops) == 1
        and isinstance(test.ops[0], ast.Eq)
        and any(isinstance(n, ast.Constant) and n.value == "cpu" for n in test.comparators)
    )


def _format_asked(site: Site) -> str:
    """How the format is asked for: "to", "deaf" where that is passed over, or not at all."""
    holder: Any = site.parent
    while isinstance(holder, ast.IfExp):
        holder = holder.parent  # type: ignore[attr-defined]
    if isinstance(holder, ast.keyword):
        return _format_in_call(site.module, holder)
    names: list[Any] = []
    if isinstance(holder, ast.Assign):
        names = [t.id for t in holder.targets if isinstance(t, ast.Name)]
    elif isinstance(holder, ast.AnnAssign) and isinstance(holder.target, ast.Name):
        names = [holder.target.id]
    return "to" if any(_reaches_format(site, name) for name in names) else ""


def _reaches_format(site: Site, name: str) -> bool:
    owner = site.scope.owner(name)
    if owner is None:
        return False
    if not isinstance(site.parent, ast.IfExp) and len(owner.bindings[name]) == 1:
        return False  # the name means the format: where it is used is a site of its own
    return any(
        isinstance(use.parent, ast.keyword)  # type: ignore[attr-defined]
        and _format_in_call(site.module, use.parent) == "to"  # type: ignore[attr-defined]
        for use in owner.uses(name)
    )


def _format_in_call(module: Module, keyword: Any) -> str:
    call = keyword.parent
    if keyword.arg != "memory_format" or not isinstance(call, ast.Call):
        return ""
    name = module.name_of(call.func)
    last = (name or getattr(call.func, "attr", "")).rpartition(".")[2]
    if last in _KEPT:
        return ""
    if last in _DEAF:
        return "deaf"
    if name.startswith("torch."):
        return "" if on_cpu(module, call) else "to"
    stays = not call.args and not any(k.arg == "device" for k in call.keywords)
    receiver = call.func.value if isinstance(call.func, ast.Attribute) else None
    return "" if stays and on_cpu(module, receiver) else "to"
