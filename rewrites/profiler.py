"""POR45x: profiling.

https://docs.pytorch.org/docs/stable/profiler.html
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from porter.module import Module
from porter.rule import Category, Edit, Finding, change, keep, rule
from porter.site import Site
from porter.targets import Target

from ._match import attribute_token, outer_span, torch_at
from .amp import device_type

MARKERS = (r"ProfilerActivity\.CUDA", "use_cuda", r"cuda_(time|memory)", "emit_nvtx")

#: FunctionEvent.device_time_total, and tables that sort by it: torch/autograd/profiler_util.py.
DEVICE_TIME_SINCE = "2.4"
ACTIVITY = tuple(
    f"{m}.ProfilerActivity" for m in ("torch.profiler", "torch.autograd", "torch.autograd.profiler")
)
PROFILES = frozenset({"torch.profiler.profile", "torch.profiler.profiler.profile"})

# POR451 ---------------------------------------------------------------------------------------


@rule(
    "POR451",
    "cuda-profiler-activity",
    names=tuple(f"{a}.CUDA" for a in ACTIVITY),
    category=Category.OPTIONAL,
    effort=3,
    examples=[
        change(
            "import torch\nfrom torch.profiler import ProfilerActivity, profile\n\nwith profile(activities=[ProfilerActivity.CPU, ProfilerActivity.CUDA]) as prof:\n    pass\n",
            "import torch\nfrom torch.profiler import profile\n\nwith profile(activities=torch.profiler.supported_activities()) as prof:\n    pass\n",
            None,
        ),
        change(
            "import torch\nactivities = [torch.profiler.ProfilerActivity.CPU, torch.profiler.ProfilerActivity.CUDA]\n",
            "import torch\nactivities = list(torch.profiler.supported_activities())\n",
            None,
        ),
        keep(
            "from torch.profiler import ProfilerActivity, profile\n\nwith profile(activities=[ProfilerActivity.CUDA]) as prof:\n    pass\n",
            finding=True,
        ),
        keep(
            "import enum\n\nclass Kind(enum.Enum):\n    CUDA = 1\n\nk = [Kind.CUDA]\n",
            finding=False,
        ),
    ],
)
def cuda_profiler_activity(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `ProfilerActivity.CUDA` of `torch.profiler`.

    ## Why it matters
    Without CUDA the profiler warns, and records the CPU alone.

    ## What it does
    accelerator: the list `[CPU, CUDA]` becomes `torch.profiler.supported_activities()`, which is
    exactly that on a machine with CUDA, and the CPU alone without an accelerator. Everything else
    is left. npu: `torch_npu.profiler` has a `profile` and a `ProfilerActivity.NPU` of its own,
    with other results (no `key_averages()`), so that is left to a person.

    ## Safety
    The same activities on CUDA, in a set instead of a list; `profile` makes a set of it anyway.

    ## References
    - https://docs.pytorch.org/docs/stable/profiler.html#torch.profiler.supported_activities
    - Ascend/pytorch, docs/en/developer_notes/ascend_pytorch_profiler_user_guide.md
    """
    if site.kind == "import" or site.stored:
        return
    if not target.agnostic:
        yield site.gap(
            "profile with torch_npu.profiler.profile(activities=[torch_npu.profiler."
            "ProfilerActivity.CPU, torch_npu.profiler.ProfilerActivity.NPU]); it exports traces, "
            "but has no key_averages()"
        )
        return
    whole, made = _both(site), ""
    if whole is not None:
        made = _as_activities(site.module, whole)
    torch = torch_at(site)
    if whole is None or not made or torch is None:
        yield site.gap("take the activities from torch.profiler.supported_activities()")
        return
    span = site.module.span(whole)
    yield site.finding(Edit.of(*span, made.format(torch[0])), imports=torch[1], span=span)


def _both(site: Site) -> Any:
    """The list that holds exactly the activities CPU and CUDA."""
    whole = site.parent
    if not isinstance(whole, (ast.List, ast.Tuple, ast.Set)) or len(whole.elts) != 2:
        return None
    last = {site.module.name_of(e) for e in whole.elts} - {site.name}
    return whole if last & {f"{a}.CPU" for a in ACTIVITY} else None


def _as_activities(module: Module, whole: Any) -> str:
    """What to write for the list: a set where it goes to the profiler, else a list again."""
    parent = whole.parent
    if isinstance(parent, ast.keyword) and parent.arg == "activities":
        call: Any = parent.parent  # type: ignore[attr-defined]
        called = isinstance(call, ast.Call) and module.name_of(call.func) in PROFILES
        return "{0}.profiler.supported_activities()" if called else ""
    if isinstance(parent, ast.Call) and parent.args[:1] == [whole]:
        called = module.name_of(parent.func) in PROFILES
        return "{0}.profiler.supported_activities()" if called else ""
    if isinstance(parent, ast.Assign) and isinstance(whole, ast.List):
        return "list({0}.profiler.supported_activities())"
    return ""


# POR452 ---------------------------------------------------------------------------------------


@rule(
    "POR452",
    "profiler-use-cuda",
    keywords=("use_cuda",),
    examples=[
        change(
            "import torch\n\nwith torch.autograd.profiler.profile(use_cuda=True) as prof:\n    pass\n",
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\nwith torch.autograd.profiler.profile(use_device=device_type) as prof:\n    pass\n',
            'import torch\n\nwith torch.autograd.profiler.profile(use_device="npu") as prof:\n    pass\n',
        ),
        change(
            "import torch\n\ndef f(on, device):\n    return torch.autograd.profiler.profile(record_shapes=True, use_cuda=on)\n",
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\ndef f(on, device):\n    return torch.autograd.profiler.profile(record_shapes=True, use_device=device_type if on else None)\n',
            'import torch\n\ndef f(on, device):\n    return torch.autograd.profiler.profile(record_shapes=True, use_device="npu" if on else None)\n',
        ),
        keep("import torch\n\ndef train(run):\n    return run(use_cuda=True)\n", finding=False),
        keep("def f(profile):\n    return profile(use_cuda=True)\n", finding=False),
    ],
)
def profiler_use_cuda(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.autograd.profiler.profile(use_cuda=...)`.

    ## Why it matters
    It times CUDA alone; torch 2.14 no longer has the parameter.

    ## What it does
    `use_device=` with the device type, or None where it was off.

    ## Safety
    Without an accelerator "cpu" is no device to time: torch warns and times the CPU, as it did
    for `use_cuda=True` without CUDA.

    ## References
    - torch 2.6 and 2.14, torch/autograd/profiler.py
    """
    call = site.parent
    if not isinstance(call, ast.Call):
        return
    if site.module.name_of(call.func) != "torch.autograd.profiler.profile":
        return
    found = site.module.resolve(call.func)
    if found is None or not found.certain:
        yield site.gap("write use_device with the target's device type")
        return
    value: ast.expr = site.node.value
    start, end = outer_span(site.module, value)
    name = Edit.of(site.start, start, "use_device=")
    if isinstance(value, ast.Constant) and not value.value:
        yield site.finding(name, Edit.of(start, end, "None"))
        return
    kind = device_type(site, target)
    if isinstance(kind, str):
        yield site.gap(kind)
        return
    if isinstance(value, ast.Constant):
        yield site.finding(name, Edit.of(start, end, kind.part), imports=kind.imports)
        return
    if isinstance(value, (ast.IfExp, ast.Lambda)) or "\n" in site.text:
        yield site.gap("write use_device with the target's device type, or None")
        return
    yield site.finding(
        Edit.of(site.start, start, "use_device=", kind.part, " if "),
        Edit.of(end, end, " else None"),
        imports=kind.imports,
    )


# POR453 ---------------------------------------------------------------------------------------

_TIMES = ("cuda_time", "cuda_time_total", "self_cuda_time_total", "self_cuda_memory_usage")


@rule(
    "POR453",
    "profiler-cuda-time",
    strings=r"^(self_)?cuda_(time|time_total|memory_usage)$",
    attributes=_TIMES,
    category=Category.OPTIONAL,
    examples=[
        change(
            'import torch\n\ndef f(prof):\n    print(prof.key_averages().table(sort_by="self_cuda_time_total", row_limit=5))\n',
            'import torch\n\ndef f(prof):\n    print(prof.key_averages().table(sort_by="self_device_time_total", row_limit=5))\n',
            'import torch\n\ndef f(prof):\n    print(prof.key_averages().table(sort_by="self_device_time_total", row_limit=5))\n',
        ),
        change(
            "from torch.profiler import profile\n\ndef f(prof):\n    return sum(e.self_cuda_time_total for e in prof.key_averages())\n",
            "from torch.profiler import profile\n\ndef f(prof):\n    return sum(e.self_device_time_total for e in prof.key_averages())\n",
            "from torch.profiler import profile\n\ndef f(prof):\n    return sum(e.self_device_time_total for e in prof.key_averages())\n",
        ),
        keep('def f(prof):\n    prof.export_stacks("a", "self_cuda_time_total")\n', finding=True),
        keep(
            "from torch.profiler import profile\n\nclass Timer:\n    def __init__(self):\n        self.cuda_time = 0\n\n    def get(self):\n        return self.cuda_time\n",
            finding=False,
        ),
        keep("def f(row):\n    return row.cuda_time\n", finding=False),
        keep('def f(prof):\n    prof.table(sort_by="cuda_time_total")\n', min_torch="2.3"),
    ],
)
def profiler_cuda_time(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for the profiler's times of CUDA: `sort_by="cuda_time_total"`, `e.cuda_time_total`.

    ## Why it matters
    Since torch 2.4 the times of every device are called `device_time_total` and so on. The old
    attributes warn, and `key_averages()` has only `cuda_time` of them left.

    ## What it does
    "cuda" becomes "device" in `sort_by=` and in attributes read in a file that uses the profiler.
    Below torch 2.4 nothing changes. The metric of `export_stacks` keeps its name, torch reads it
    as that of any device.

    ## Safety
    An attribute that the file itself sets or defines is not touched.

    ## References
    - torch 2.4 to 2.14, torch/autograd/profiler_util.py
    """
    if not target.has(DEVICE_TIME_SINCE):
        return
    if site.kind == "string":
        yield from _sort_key(site)
    elif not site.stored and not _own(site.module, site.node.attr):
        token = attribute_token(site.module, site.node)
        if token is not None and re.search(r"profil", site.module.text, re.I):
            new = site.node.attr.replace("cuda", "device")
            yield site.finding(Edit.of(*token, new), span=token)


def _sort_key(site: Site) -> Iterator[Finding]:
    parent = site.parent
    by_keyword = isinstance(parent, ast.keyword) and parent.arg == "sort_by"
    first = (
        isinstance(parent, ast.Call)
        and isinstance(parent.func, ast.Attribute)
        and parent.func.attr == "table"
        and parent.args[:1] == [site.node]
    )
    if by_keyword or first:
        if "cuda" in site.text and site.module.exact(site.node):
            yield site.replace(site.text.replace("cuda", "device", 1))
        else:
            yield site.gap('the name is put together here; write the one with "device"')
    elif isinstance(parent, ast.Call) and getattr(parent.func, "attr", "") == "export_stacks":
        yield site.information("torch reads this as the time of any device")


def _own(module: Module, attribute: str) -> bool:
    """Whether the file sets or defines the attribute itself."""
    if any(not isinstance(n.ctx, ast.Load) for n in module.attributes.get(attribute, ())):
        return True
    return any(attribute in s.bindings for s in module.root.descendants() if s.kind == "class")


# POR454 ---------------------------------------------------------------------------------------


@rule(
    "POR454",
    "emit-nvtx",
    names=("torch.autograd.profiler.emit_nvtx", "torch.autograd.profiler.load_nvprof"),
    effort=3,
    examples=[
        keep("import torch\n\nwith torch.autograd.profiler.emit_nvtx():\n    pass\n", finding=True),
        keep("def emit_nvtx():\n    pass\n\nemit_nvtx()\n", finding=False),
    ],
)
def emit_nvtx(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.autograd.profiler.emit_nvtx` and `load_nvprof`.

    ## Why it matters
    They talk to NVIDIA's profiler and raise without CUDA.

    ## What it does
    Reports them; always left.

    ## References
    - torch 2.14, torch/autograd/profiler.py
    """
    if site.kind == "import":
        return
    yield site.gap("use torch.profiler.profile and torch.profiler.record_function")
