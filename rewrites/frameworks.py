"""POR46x: arguments of training frameworks, and wrappers of torch, that ask for CUDA.

https://lightning.ai/docs/pytorch/stable/extensions/accelerator.html
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from porter.rule import Category, Edit, Finding, Safety, change, keep, rule
from porter.site import Site
from porter.targets import Target

from ._match import argument
from .amp import type_use

MARKERS = (
    "accelerator", "gpus", "no_cuda", "DataParallel", "data_parallel", "cudagraphs",
    "reduce-overhead",
)  # fmt: skip

LIGHTNING = frozenset(
    f"{package}.{name}"
    for package, names in {
        "pytorch_lightning": ("Trainer", "trainer.Trainer", "trainer.trainer.Trainer"),
        "lightning": ("Trainer", "Fabric", "pytorch.Trainer", "fabric.Fabric"),
        "lightning.pytorch": ("trainer.Trainer", "trainer.trainer.Trainer"),
        "lightning_fabric": ("Fabric", "fabric.Fabric"),
    }.items()
    for name in names
)
NO_NPU = (
    "Lightning has no accelerator for NPU; register one of your own, or hand it one that a plugin "
    "brings"
)
AUTO = 'on an NPU "auto" finds nothing and takes the CPU: Lightning has no accelerator for NPU'

# POR461 ---------------------------------------------------------------------------------------


@rule(
    "POR461",
    "lightning-gpu",
    keywords=("accelerator", "gpus"),
    safety=Safety.UNSAFE,
    effort=5,
    examples=[
        change(
            'import pytorch_lightning as pl\ntrainer = pl.Trainer(accelerator="gpu", devices=1)\n',
            'import pytorch_lightning as pl\ntrainer = pl.Trainer(accelerator="auto", devices=1)\n',
            None,
            unsafe=True,
        ),
        keep('from lightning import Trainer\ntrainer = Trainer(accelerator="gpu")\n', finding=True),
        keep("from pytorch_lightning import Trainer\ntrainer = Trainer(gpus=2)\n", finding=True),
        keep(
            'from lightning import Trainer\ntrainer = Trainer(accelerator="auto")\n', finding=False
        ),
        keep('def f(Trainer):\n    return Trainer(accelerator="gpu", gpus=1)\n', finding=False),
    ],
)
def lightning_gpu(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for Lightning's `Trainer(accelerator="gpu")`, `Fabric(accelerator="cuda")`, `gpus=`.

    ## Why it matters
    "gpu" means CUDA or MPS. Lightning (2.6.6) has accelerators for CPU, CUDA, MPS and XLA only.

    ## What it does
    accelerator: "auto", which takes CUDA where it is there. npu: reported. `gpus=` went away with
    Lightning 2.0 and is reported.

    ## Safety
    Unsafe: where the original stopped without a GPU, "auto" goes on with the CPU; on an NPU too.

    ## References
    - https://lightning.ai/docs/pytorch/stable/extensions/accelerator.html
    - lightning 2.6.6, lightning/pytorch/accelerators
    """
    call = site.parent
    if not isinstance(call, ast.Call) or site.module.name_of(call.func) not in LIGHTNING:
        return
    if site.name == "gpus":
        yield site.gap('write accelerator="auto", devices=... instead of gpus; ' + NO_NPU)
        return
    for value in _choices(site.node.value):
        if not (isinstance(value, ast.Constant) and value.value in ("gpu", "cuda")):
            continue
        span = site.module.span(value)
        if not target.agnostic or not site.module.exact(value):
            yield site.gap(NO_NPU, span=span)
            continue
        quote = site.module.text[span[1] - 1]
        yield site.finding(Edit.of(*span, f"{quote}auto{quote}"), reason=AUTO, span=span)


def _choices(node: ast.expr) -> Iterator[ast.expr]:
    """The values that an expression may have."""
    if isinstance(node, ast.IfExp):
        yield from _choices(node.body)
        yield from _choices(node.orelse)
    else:
        yield node


# POR462 ---------------------------------------------------------------------------------------

_ARGUMENTS = frozenset(
    f"transformers.{m}"
    for m in (
        "TrainingArguments",
        "Seq2SeqTrainingArguments",
        "training_args.TrainingArguments",
        "training_args_seq2seq.Seq2SeqTrainingArguments",
    )
)


@rule(
    "POR462",
    "no-cuda-argument",
    keywords=("no_cuda",),
    safety=Safety.UNSAFE,
    category=Category.OPTIONAL,
    examples=[
        change(
            'from transformers import TrainingArguments\nargs = TrainingArguments("out", no_cuda=True)\n',
            'from transformers import TrainingArguments\nargs = TrainingArguments("out", use_cpu=True)\n',
            'from transformers import TrainingArguments\nargs = TrainingArguments("out", use_cpu=True)\n',
            unsafe=True,
        ),
        keep(
            'from transformers import TrainingArguments\nargs = TrainingArguments("out", no_cuda=True)\n',
            finding=True,
        ),
        keep("def f(Config):\n    return Config(no_cuda=True)\n", finding=False),
    ],
)
def no_cuda_argument(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `no_cuda=` of the training arguments of transformers.

    ## Why it matters
    The name says CUDA but means every accelerator. It is deprecated, to go in transformers 5.

    ## What it does
    `use_cpu=`, with the same meaning.

    ## Safety
    Unsafe, since `use_cpu` came with transformers 4.33.

    ## References
    - transformers 4.33.3 and 4.34.1, src/transformers/training_args.py
    """
    call = site.parent
    if isinstance(call, ast.Call) and site.module.name_of(call.func) in _ARGUMENTS:
        yield site.finding(
            Edit.of(site.start, site.start + len("no_cuda"), "use_cpu"),
            reason="needs transformers 4.33",
        )


# POR463 ---------------------------------------------------------------------------------------


@rule(
    "POR463",
    "data-parallel",
    names=(
        "torch.nn.DataParallel",
        "torch.nn.parallel.DataParallel",
        "torch.nn.parallel.data_parallel.DataParallel",
        "torch.nn.parallel.data_parallel",
    ),
    effort=3,
    examples=[
        keep(
            "import torch\n\ndef f(model):\n    return torch.nn.DataParallel(model)\n", finding=True
        ),
        keep(
            "import torch\n\ndef f(model, x):\n    return torch.nn.parallel.data_parallel(model, x)\n",
            finding=True,
        ),
        keep(
            "import torch.nn as nn\n\ndef f(model):\n    return isinstance(model, nn.DataParallel)\n",
            finding=False,
        ),
        keep(
            "from torch.nn.parallel import DistributedDataParallel\n\ndef f(model):\n    return DistributedDataParallel(model)\n",
            finding=False,
        ),
    ],
)
def data_parallel(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.nn.DataParallel`.

    ## Why it matters
    torch_npu does not support it on any chip. With one device, or on the CPU, it only calls the
    model.

    ## What it does
    Reports it; always left: DistributedDataParallel needs a process for each device.

    ## References
    - Ascend/pytorch, docs/zh/api/native_api/pytorch_2-13-0/torch-nn.md: DataParallel not supported
    - https://docs.pytorch.org/docs/stable/generated/torch.nn.DataParallel.html
    """
    if site.kind == "import" or site.stored or type_use(site.module, site.node):
        return
    if site.call is None and isinstance(site.parent, (ast.Attribute, ast.Tuple, ast.List)):
        return  # a list of classes is there for isinstance
    yield site.gap(
        "train with torch.nn.parallel.DistributedDataParallel, one process for each device"
        + (" (with CUDA this works as it is)" if target.agnostic else ""),
        category=Category.POTENTIAL if target.agnostic else Category.MANDATORY,
    )


# POR464 ---------------------------------------------------------------------------------------


@rule(
    "POR464",
    "compile-for-cuda-graphs",
    names=("torch.compile",),
    category=Category.OPTIONAL,
    effort=3,
    examples=[
        keep(
            'import torch\n\ndef f(m):\n    return torch.compile(m, backend="cudagraphs")\n',
            finding=True,
        ),
        keep(
            'import torch\n\ndef f(m):\n    return torch.compile(m, mode="reduce-overhead")\n',
            finding=True,
        ),
        keep("import torch\n\ndef f(m):\n    return torch.compile(m)\n", finding=False),
    ],
)
def compile_for_cuda_graphs(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.compile` with CUDA graphs.

    ## Why it matters
    The backend "cudagraphs" is for CUDA alone. The mode "reduce-overhead" speeds up by CUDA graphs
    and is worth measuring anew on another device.

    ## What it does
    Reports it; always left.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.compile.html
    """
    call = site.call
    if call is None:
        return
    backend, mode = argument(call, 99, "backend"), argument(call, 99, "mode")
    if _says(backend, "cudagraphs"):
        yield site.gap(
            "choose a backend that the target has (the default is inductor)",
            category=Category.MANDATORY,
        )
    if _says(mode, "reduce-overhead"):
        yield site.gap("this mode works by CUDA graphs; measure whether it gains on the target")


def _says(node: Any, text: str) -> bool:
    return isinstance(node, ast.Constant) and node.value == text
