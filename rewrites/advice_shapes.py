"""POR93x: what makes the host wait for an NPU, or keeps code from running as a graph."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from porter.module import Module
from porter.rule import Category, Finding, keep, rule
from porter.site import Site
from porter.targets import Target, version

from ._tensors import first_of, in_module, is_mask, is_tensor, loop_around, on_cpu

FAMILY = "shapes and graphs"

MARKERS = (
    r"nonzero\(",
    "argwhere",
    "masked_select",
    r"\.unique\(",
    r"torch\.where\([^,()]*\)",
    r"\[[^\]\n,:=<>]* (?:[<>]=?|[=!]=) [^\]\n,:]*\]",
    r"\.backward\(",
    r"torch\.compile",
    r"jit\.script",
)

# POR931 -----------------------------------------------------------------------------------------

_ROWS = frozenset({"nonzero", "argwhere", "where"})
_WAITS = "the size of the result depends on the values, so the host waits for the device here"


@rule(
    "POR931",
    "shape-from-values",
    names=(
        "torch",
        "torch.nn",
        "torch.nonzero",
        "torch.argwhere",
        "torch.masked_select",
        "torch.unique",
        "torch.where",
    ),
    attributes=("nonzero", "argwhere", "masked_select", "unique"),
    category=Category.ADVICE,
    effort=0,
    targets=("npu",),
    examples=[
        keep(
            "import torch\n\ndef f(m):\n    for _ in range(9):\n        rows = torch.nonzero(m)\n",
            finding=True,
        ),
        keep(
            "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n"
            "    def forward(self, x):\n        return x[x > 0].mean()\n",
            finding=True,
        ),
        keep(
            "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n"
            "    def forward(self, x):\n        return torch.where(x > 0, x, 0)\n",
            finding=False,
        ),
        keep(
            "import numpy as np\nimport torch\n\ndef f(a):\n    for b in a:\n"
            "        yield b[b > 0], np.nonzero(b), torch.from_numpy(b).unique()\n",
            finding=False,
        ),
        keep(
            "import torch\nfrom torch import nn\n\nclass Net(nn.Module):\n"
            "    def forward(self, x):\n        x[x > 0] = 1\n        return x\n",
            finding=False,
            note="torch_npu fills a mask without waiting",
        ),
    ],
)
def shape_from_values(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for results whose size depends on values: `nonzero`, `unique`, `x[mask]`.

    ## Why it matters
    The host cannot go on before it knows the size, so it waits until the device has caught up
    (`EXEC_NPU_CMD_SYNC` in op-plugin), and a graph ends there: NPUGraph is not for inputs whose
    shape changes, and `torch.compile` compiles again. On A2 and A3 a new shape does not compile
    operators anew, since `jit_compile` is off by default; older training and inference cards turn
    it on: `torch.npu.set_compile_mode(jit_compile=False)` turns it off.

    ## What it does
    Reports such calls in the `forward` of a module and in loops, where the waiting adds up; `x[mask]`
    only where both are surely tensors. What is surely on the CPU is left out, and so is
    `x[mask] = number`, which torch_npu turns into `masked_fill_`.

    ## Safety
    Reported only.

    ## What to do by hand
    Keep the shape and use the mask: `torch.where(mask, x, 0)`, `(x * mask).sum() / mask.sum()`,
    `topk` with a fixed `k`.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.nonzero.html (host and device wait for
      each other on CUDA, too)
    - Ascend/op-plugin 517f2e7d, op_plugin/ops/opapi: NonzeroKernelNpuOpApi.cpp,
      MaskedSelectKernelNpuOpApi.cpp, Unique2KernelNpuOpApi.cpp, IndexPutKernelNpuOpApi.cpp;
      op_plugin/utils/AdvancedIndex.cpp (2026-08-21)
    - Ascend/op-plugin, docs/zh/custom_APIs/torch_npu-npu: torch_npu.npu.set_compile_mode
    - Ascend/pytorch, docs/zh/developer_notes/npugraph.md
    """
    if site.kind == "import":
        if not site.module.memo.setdefault("masks read", False):
            site.module.memo["masks read"] = True
            yield from _masks_read(site)
        return
    name = _operator(site)
    if name and _is_hot(site.module, site.node) and first_of(site, name):
        if name in _ROWS:
            remedy = "use the mask itself: torch.where(mask, a, b), mask.sum()"
        elif name == "unique":
            remedy = "call it once outside, or on the CPU"
        else:
            remedy = "keep the shape: torch.where(mask, x, 0), (x * mask).sum() / mask.sum()"
        yield site.advice(f"{name}: {_WAITS}; {remedy}")


def _operator(site: Site) -> str:
    """The operator that is called; empty if none is, or if it surely runs on the CPU."""
    call = site.call
    if call is None:
        return ""
    if site.kind == "attribute":
        receiver = site.node.value
        if site.name or not is_tensor(site.module, receiver) or on_cpu(site.module, receiver):
            return ""
        return str(site.node.attr)
    name = site.name.removeprefix("torch.")
    if not call.args or "." in name or on_cpu(site.module, call.args[0]):
        return ""
    if name == "where" and (len(call.args) != 1 or call.keywords):
        return ""
    return "" if name in ("", "torch", "nn") else name


def _is_hot(module: Module, node: Any) -> bool:
    """Whether a node runs again and again: in a loop, or in the `forward` of a module."""
    if loop_around(module, node) is not None:
        return True
    function = module.function(node)
    return function is not None and function.name == "forward" and in_module(module, function)


def _masks_read(site: Site) -> Iterator[Finding]:
    """`x[mask]` where it is read."""
    module = site.module
    for node in module.subscripts:
        if (
            isinstance(node.ctx, ast.Load)
            and isinstance(node.slice, (ast.Compare, ast.Name, ast.UnaryOp, ast.BinOp, ast.Call))
            and _is_hot(module, node)
            and is_mask(module, node.slice)
            and is_tensor(module, node.value)
            and not on_cpu(module, node.value)
            and first_of(site, "x[mask]", module.statement(node))
        ):
            yield site.advice(
                f"x[mask]: {_WAITS}; keep the shape: torch.where(mask, x, 0), "
                "(x * mask).sum() / mask.sum()",
                span=module.span(node),
            )


# POR932 -----------------------------------------------------------------------------------------


@rule(
    "POR932",
    "host-read-in-loop",
    attributes=("item", "tolist", "numpy"),
    category=Category.ADVICE,
    effort=0,
    targets=("npu",),
    examples=[
        keep(
            "def train(net, data, loss_of, optimizer):\n    total = 0\n    for x, y in data:\n"
            "        loss = loss_of(net(x), y)\n        loss.backward()\n        optimizer.step()\n"
            "        total += loss.item()\n    return total\n",
            finding=True,
        ),
        keep(
            "def train(net, data, loss_of, optimizer):\n    for i, (x, y) in enumerate(data):\n"
            "        loss = loss_of(net(x), y)\n        loss.backward()\n        optimizer.step()\n"
            "        if i % 100 == 0:\n            print(loss.item())\n",
            finding=False,
            note="every hundredth step only",
        ),
        keep("def f(a):\n    for b in a:\n        print(b.item())\n", finding=False),
    ],
)
def host_read_in_loop(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for values that the host reads from the device in each step of a training loop.

    ## Why it matters
    `loss.item()` waits until the device has computed the loss. Until then nothing more is sent to
    it, so that it stands still while the host catches up: an NPU needs operators ahead in its queue.

    ## What it does
    Reports `item()`, `tolist()` and `numpy()` of what the same loop calls `backward()` on, unless an
    `if` with `%` lets it happen now and then only.

    ## Safety
    Reported only.

    ## What to do by hand
    Add up `loss.detach()` on the device, and read the sum after the loop or every hundredth step.

    ## References
    - https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html ("Avoid unnecessary CPU-GPU
      synchronization")
    - Ascend/pytorch, docs/zh/api/environment_variable/op_execution/TASK_QUEUE_ENABLE.md
    """
    call = site.call
    if call is None or call.args or call.keywords:
        return
    module, receiver = site.module, site.node.value
    loop = loop_around(module, site.node)
    if loop is None or not _is_trained(module, receiver, loop):
        return
    if not _now_and_then(module, site.node, loop):
        yield site.advice(
            f"waits for the device in every step: add up {module.segment(receiver)}.detach() there, "
            "and read the sum after the loop or every hundredth step"
        )


def _is_trained(module: Module, receiver: Any, loop: Any) -> bool:
    """Whether the loop calls `backward()` on the variable, or hands it to one that does."""
    while isinstance(receiver, ast.Call) and isinstance(receiver.func, ast.Attribute):
        if receiver.func.attr not in ("detach", "float", "mean", "cpu"):
            return False
        receiver = receiver.func.value
    if isinstance(receiver, ast.Attribute) and receiver.attr == "data":
        receiver = receiver.value
    if not isinstance(receiver, ast.Name):
        return False
    for node in module.attributes.get("backward", ()):
        if loop_around(module, node) is not loop:
            continue
        call: Any = node.parent  # type: ignore[attr-defined]
        given = call.args if isinstance(call, ast.Call) and call.func is node else []
        for each in (node.value, *given):
            if any(isinstance(n, ast.Name) and n.id == receiver.id for n in ast.walk(each)):
                return True
    return False


def _now_and_then(module: Module, node: Any, loop: Any) -> bool:
    child: Any = node
    for parent in module.parents(node):
        if parent is loop:
            return False
        if isinstance(parent, (ast.If, ast.IfExp)) and child is not parent.test:
            test = parent.test
            if any(isinstance(n, ast.BinOp) and isinstance(n.op, ast.Mod) for n in ast.walk(test)):
                return True
        child = parent
    return False


# POR933 -----------------------------------------------------------------------------------------

#: Backends that Ascend documents for `torch.compile`, by their names.
BACKENDS = ("inductor", "npugraphs", "npugraph_ex", "aot_eager")
#: Those that only look at the graph, or run it as it is, on every device.
_ANYWHERE = frozenset({"eager", "aot_eager", "aot_eager_decomp_partition"})
_ELSEWHERE = frozenset({"cudagraphs"})
#: The first torch_npu with an inductor backend: branches v2.5.1-7.1.0 and v2.6.0-7.1.0.
INDUCTOR_SINCE = "2.6"


@rule(
    "POR933",
    "torch-compile-backend",
    names=("torch.compile",),
    category=Category.ADVICE,
    effort=0,
    targets=("npu",),
    examples=[
        keep("import torch\n\ndef f(m):\n    return torch.compile(m)\n", finding=True),
        keep(
            'import torch\n\ndef f(m):\n    return torch.compile(m, mode="max-autotune")\n',
            finding=True,
        ),
        keep(
            'import torch\n\ndef f(m):\n    return torch.compile(m, backend="tensorrt")\n',
            finding=True,
        ),
        keep(
            'import torch\n\ndef f(m):\n    return torch.compile(m, backend="aot_eager")\n',
            finding=False,
        ),
        keep(
            'import torch\n\ndef f(m):\n    return torch.compile(m, backend="npugraph_ex")\n',
            finding=False,
        ),
        keep("import re\n\np = re.compile('a')\n", finding=False),
    ],
)
def torch_compile_backend(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.compile` with what an NPU needs for it.

    ## Why it matters
    The default backend, inductor, works on an NPU from torch_npu 2.6 on, and with the package
    triton-ascend, which has the import name of triton and takes its place. Ascend documents the
    backends inductor, npugraphs, npugraph_ex and aot_eager and those of torchair, and the modes
    None and "reduce-overhead".

    ## What it does
    Says what the call needs, once in a file, judged by `--torch-npu` (without it, by the newest
    list). Backends by another name than those are named. CUDA graphs have a rule of their own (POR464).

    ## Safety
    Reported only.

    ## References
    - Ascend/pytorch, docs/zh/user_guide/torch_compile: overview.md and
      compilation_backend/inductor.md (2026-08-07)
    - the branches of Ascend/pytorch: torch_npu/_inductor is in v2.6.0-7.1.0, and not in
      v2.5.1-7.1.0 (read on 2026-11-24)
    """
    call = _compiling_call(site)
    if call is None or _disabled(call):
        return
    backend = next((k.value for k in call.keywords if k.arg == "backend"), None)
    mode = next((k.value for k in call.keywords if k.arg == "mode"), None)
    text = _about_backend(backend, target)
    if not text and _is_inductor(backend):
        text = _about_inductor(mode, target)
    if text and first_of(site, text, site.module.tree):
        yield site.advice(text)


def _compiling_call(site: Site) -> ast.Call | None:
    """The call, or for `@torch.compile` one without arguments; None where it is only named."""
    if site.call is not None:
        return site.call
    parent: Any = getattr(site.node, "parent", None)
    decorates = isinstance(parent, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
    if decorates and site.kind == "name" and site.node in parent.decorator_list:
        return ast.Call(func=site.node, args=[], keywords=[])
    return None


def _disabled(call: ast.Call) -> bool:
    return any(
        k.arg == "disable" and isinstance(k.value, ast.Constant) and k.value.value is True
        for k in call.keywords
    )


def _is_inductor(backend: Any) -> bool:
    return backend is None or (
        isinstance(backend, ast.Constant) and backend.value in (None, "inductor")
    )


def _about_backend(backend: Any, target: Target) -> str:
    if not isinstance(backend, ast.Constant) or not isinstance(backend.value, str):
        return ""
    name = backend.value
    if name in BACKENDS or name in _ANYWHERE or name in _ELSEWHERE:
        return ""
    return (
        f"Ascend documents no backend {name!r}; its backends are {', '.join(BACKENDS)}, and "
        "torchair.get_npu_backend()"
    )


def _about_inductor(mode: Any, target: Target) -> str:
    if _older(target, INDUCTOR_SINCE):
        return (
            f'torch_npu before {INDUCTOR_SINCE} has no inductor backend: pass backend="aot_eager" '
            "there, or compile on later versions only"
        )
    said = mode.value if isinstance(mode, ast.Constant) else None
    if isinstance(said, str) and said not in ("default", "reduce-overhead"):
        return (
            f"Ascend documents no mode {said!r} for inductor (only the default and "
            "'reduce-overhead'), and inductor needs the package triton-ascend in place of triton"
        )
    if said == "reduce-overhead":
        return ""  # POR464
    return (
        "on an NPU inductor needs the package triton-ascend in place of triton; without it pass "
        'backend="npugraph_ex" (inference) or leave the model as it is'
    )


def _older(target: Target, since: str) -> bool:
    """Whether the chosen torch_npu is older; without a choice, the newest is taken."""
    try:
        return bool(target.torch_npu) and version(target.torch_npu) < version(since)
    except ValueError:
        return False


# POR934 -----------------------------------------------------------------------------------------


@rule(
    "POR934",
    "torchscript",
    names=("torch.jit.script", "torch.jit.script_method"),
    category=Category.ADVICE,
    effort=0,
    targets=("npu",),
    examples=[
        keep(
            "import torch\n\n@torch.jit.script\ndef f(x):\n    return x * x.sigmoid()\n",
            finding=True,
        ),
        keep("import torch\n\ndef f(m):\n    return torch.jit.script(m.eval())\n", finding=True),
        keep(
            "import torch\n\ndef f(m, x):\n    return torch.jit.trace(m, x)\n",
            finding=False,
            note="nearly always an export",
        ),
        keep("import torch\n\ndef f(p):\n    return torch.jit.load(p)\n", finding=False),
        keep(
            "import torch\n\ndef f(m):\n    return isinstance(m, torch.jit.ScriptModule)\n",
            finding=False,
        ),
        keep("class jit:\n    script = 1\n\n\nprint(jit.script)\n", finding=False),
    ],
)
def torchscript(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for TorchScript: `torch.jit.script`.

    ## Why it matters
    torch says since version 2.10 that it is deprecated. Ascend's list for torch 2.7.1 has it, those
    for 2.11 to 2.13 no longer do, and the one-line migration of Ascend (`transfer_to_npu`) turns it
    off.

    ## What it does
    Names each use in a call or as a decorator. `torch.jit.trace` is left out: of the uses that were
    read, all exported a model.

    ## Safety
    Reported only: an exported model may be what the code is for.

    ## References
    - torch 2.10.0 and 2.13.0, torch/jit/_script.py ("`torch.jit.script` is deprecated")
    - Ascend/pytorch, docs/zh/api/native_api: pytorch_2-7-1/torch-jit.md, and no such page in
      pytorch_2-11-0 to pytorch_2-13-0 (2026-08-21)
    - Ascend/pytorch, torch_npu/contrib/transfer_to_npu.py
    """
    if site.kind == "name" and _compiling_call(site) is not None:
        yield site.advice(
            "TorchScript is deprecated since torch 2.10 and no longer in Ascend's list of APIs: call "
            "the plain function, or compile it with torch.compile"
        )
