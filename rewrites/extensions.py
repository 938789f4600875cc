"""POR89x: native code on Python's side: extensions that are built, kernels that are compiled."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from porter.rule import Category, Finding, keep, rule
from porter.site import Site
from porter.targets import Target

FAMILY = "native code from Python"
TOPIC = "native code"

MARKERS = ("cpp_extension", "CUDAExtension", "RawKernel", "triton", "SourceModule")

_CPP = "torch.utils.cpp_extension"


def _category(target: Target) -> Category:
    return Category.POTENTIAL if target.agnostic else Category.MANDATORY


def _strings(node: ast.AST) -> list[str]:
    """Every string constant below a node."""
    return [
        n.value for n in ast.walk(node) if isinstance(n, ast.Constant) and isinstance(n.value, str)
    ]


def _cuda_files(call: ast.Call) -> list[str]:
    return [s for s in _strings(call) if s.endswith((".cu", ".cuh"))]


def _label(call: ast.Call) -> str:
    """The extension's name: the keyword `name` or the first argument."""
    given = [k.value for k in call.keywords if k.arg == "name"] or list(call.args[:1])
    first = given[0] if given else None
    return first.value if isinstance(first, ast.Constant) and isinstance(first.value, str) else ""


# POR891 -----------------------------------------------------------------------------------------


@rule(
    "POR891",
    "cuda-extension-built",
    names=(f"{_CPP}.CUDAExtension",),
    effort=13,
    examples=[
        keep(
            "from setuptools import setup\nfrom torch.utils.cpp_extension import BuildExtension, CUDAExtension\n\nsetup(name='x', ext_modules=[CUDAExtension('x._C', ['a.cpp', 'b.cu'])], cmdclass={'build_ext': BuildExtension})\n",
            finding=True,
        ),
        keep(
            "from torch.utils import cpp_extension\n\next = cpp_extension.CUDAExtension(name='x', sources=['a.cpp'])\n",
            finding=True,
        ),
        keep(
            "from torch.utils.cpp_extension import CppExtension\n\next = CppExtension('x', ['a.cpp'])\n",
            finding=False,
        ),
    ],
)
def cuda_extension_built(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `CUDAExtension`, which compiles C++ and CUDA sources.

    ## Why it matters
    The build needs nvcc and the CUDA toolkit, so that the package cannot be installed without.

    ## What it does
    Names the extension and its CUDA sources. For NPU: `torch_npu.utils.cpp_extension.NpuExtension`
    builds C++ (not CUDA) against torch_npu, with the same BuildExtension.

    ## Safety
    Always left.

    ## References
    - https://docs.pytorch.org/docs/stable/cpp_extension.html
    - torch_npu/utils/cpp_extension.py (2.13.0)
    """
    call = site.call
    if site.kind == "import":
        return
    if call is None:
        yield site.gap("builds CUDA code where it is called; see there", category=_category(target),
                       effort=1)  # fmt: skip
        return
    sources = _cuda_files(call)
    name = f" {_label(call)}" if _label(call) else ""
    count = f" with {len(sources)} CUDA sources ({', '.join(sources[:3])})" if sources else ""
    advice = (
        "make it optional, with a path in torch operators"
        if target.agnostic
        else "build its C++ with torch_npu.utils.cpp_extension.NpuExtension, and write the kernels anew"
    )
    yield site.gap(f"builds the extension{name}{count}: {advice}", category=_category(target))


# POR892 -----------------------------------------------------------------------------------------


@rule(
    "POR892",
    "cuda-extension-loaded",
    names=(f"{_CPP}.load", f"{_CPP}.load_inline", f"{_CPP}.CUDA_HOME", f"{_CPP}.CUDNN_HOME"),
    effort=13,
    examples=[
        keep(
            "from torch.utils.cpp_extension import load\n\nops = load('ops', ['a.cpp', 'b.cu'])\n",
            finding=True,
        ),
        keep(
            "from torch.utils.cpp_extension import load_inline\n\nops = load_inline('ops', cpp_sources='', cuda_sources='x')\n",
            finding=True,
        ),
        keep(
            "from torch.utils.cpp_extension import load\n\nops = load(name='ops', sources=['a.cpp'])\n",
            finding=False,
        ),
        keep("import json\n\nx = json.load(open('a.cu'))\n", finding=False),
    ],
)
def cuda_extension_loaded(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for extensions with CUDA sources that are compiled when the program runs.

    ## Why it matters
    The program stops at this line where there is no nvcc.

    ## What it does
    Reports `load` and `load_inline` where a source ends with `.cu` or `cuda_sources` is given;
    where the sources are not written in the call, as potential. CUDA_HOME is reported as well.

    ## Safety
    Always left.

    ## References
    - https://docs.pytorch.org/docs/stable/cpp_extension.html
    """
    call = site.call
    if site.kind == "import":
        return
    if site.name.endswith("_HOME"):
        if not _first(site, site.name):
            return
        yield site.gap("None without the CUDA toolkit; build for the target's toolkit there",
                       category=Category.POTENTIAL, effort=1)  # fmt: skip
        return
    if call is None:
        return
    named = {k.arg: k.value for k in call.keywords}
    sources = _cuda_files(call)
    given = named.get("sources") or (call.args[1] if len(call.args) > 1 else None)
    inline = site.name.endswith("_inline") and ("cuda_sources" in named or len(call.args) > 2)
    advice = "compiles CUDA code when it runs: offer a path in torch operators or triton"
    if sources or inline:
        shown = f" ({', '.join(sources[:3])})" if sources else ""
        yield site.gap(f"{advice}{shown}", category=_category(target))
    elif site.name.endswith(".load") and not isinstance(given, (ast.List, ast.Tuple)):
        yield site.gap(
            "if its sources hold CUDA code, it compiles on machines with nvcc only: offer a path in "
            "torch operators or triton",
            category=Category.POTENTIAL,
        )


# Kernels ----------------------------------------------------------------------------------------


def _decorated(site: Site, names: tuple[str, ...]) -> list[str]:
    """The functions of the file under one of these decorators."""
    found = []
    for node in ast.walk(site.module.tree):
        if not isinstance(node, ast.FunctionDef):
            continue
        for decorator in node.decorator_list:
            called: Any = decorator.func if isinstance(decorator, ast.Call) else decorator
            if site.module.name_of(called) in names:
                found.append(node.name)
                break
    return found


def _first(site: Site, key: str) -> bool:
    """Whether a file's kernels of one sort are met for the first time."""
    said: set[str] = site.module.memo.setdefault("kernels", set())
    before = key in said
    said.add(key)
    return not before


def _shown(names: list[str]) -> str:
    more = f" and {len(names) - 6} more" if len(names) > 6 else ""
    return ", ".join(names[:6]) + more


_TRITON = ("triton.jit", "triton.heuristics", "triton.autotune")


@rule(
    "POR893",
    "triton-kernel",
    names=("triton", "triton.*"),
    category=Category.POTENTIAL,
    effort=5,
    examples=[
        keep(
            "import triton\nimport triton.language as tl\n\n\n@triton.jit\ndef add(x, n: tl.constexpr):\n    pass\n",
            finding=True,
        ),
        keep("import triton\n\nv = triton.cdiv(3, 2)\n", finding=False),
        keep("class triton:\n    jit = None\n\n\n@triton.jit\ndef f():\n    pass\n", finding=False),
    ],
)
def triton_kernel(site: Site, target: Target) -> Iterator[Finding]:
    """Reports kernels written in Triton: functions under `@triton.jit`.

    ## Why it matters
    Triton compiles for the devices that its installed backend knows; block sizes and numbers of
    warps are tuned for GPUs.

    ## What it does
    One finding for each file, at the first kernel, with the names of all. For NPU: triton-ascend
    is imported by the same name; a kernel needs review for its 1-D grid limit, alignment and
    memory use.

    ## Safety
    Always left.

    ## References
    - https://github.com/triton-lang/triton-ascend
    """
    if site.kind != "name" or site.name not in _TRITON:
        return
    kernels = _decorated(site, ("triton.jit",))
    if kernels and _first(site, "triton"):
        many = "kernels" if len(kernels) > 1 else "kernel"
        yield site.gap(
            f"{len(kernels)} Triton {many} ({_shown(kernels)}): "
            + (
                "runs where Triton has a backend for the device; keep a path in torch operators"
                if target.agnostic
                else "install triton-ascend in place of triton, and review and tune each kernel"
            )
        )


_NUMBA = ("numba.cuda.jit", "numba.cuda.reduce")


@rule(
    "POR894",
    "numba-cuda-kernel",
    names=("numba.cuda", "numba.cuda.*"),
    effort=7,
    examples=[
        keep("from numba import cuda\n\n\n@cuda.jit\ndef k(a):\n    pass\n", finding=True),
        keep(
            "import numba\nfrom numba import cuda\n\n\n@cuda.jit('void(float32[:])', device=True)\ndef k(a):\n    pass\n",
            finding=True,
        ),
        keep("import numba\n\n\n@numba.jit\ndef k(a):\n    pass\n", finding=False),
        keep("from numba import cuda\n\nok = cuda.is_available()\n", finding=False),
    ],
)
def numba_cuda_kernel(site: Site, target: Target) -> Iterator[Finding]:
    """Reports kernels written with numba.cuda: functions under `@cuda.jit`.

    ## Why it matters
    numba compiles them for CUDA only.

    ## What it does
    One finding for each file, with the names of all kernels. Write them with operators of torch or
    with Triton.

    ## Safety
    Always left.

    ## References
    - https://nvidia.github.io/numba-cuda/
    """
    if site.kind == "name" and site.name in _NUMBA:
        kernels = _decorated(site, _NUMBA)
        if kernels and _first(site, "numba"):
            many = "kernels" if len(kernels) > 1 else "kernel"
            yield site.gap(
                f"{len(kernels)} numba {many} for CUDA ({_shown(kernels)}): write with torch "
                "operators or Triton",
                category=_category(target),
            )


_RAW = {
    "cupy.RawKernel", "cupy.RawModule", "cupy.ElementwiseKernel", "cupy.ReductionKernel",
    "cupy.fuse", "cupy.cuda.compile_with_cache", "cupyx.jit.rawkernel",
    "pycuda.compiler.SourceModule", "pycuda.elementwise.ElementwiseKernel",
}  # fmt: skip


@rule(
    "POR895",
    "cuda-kernel-in-string",
    names=("cupy", "cupy.*", "cupyx", "cupyx.*", "pycuda", "pycuda.*"),
    effort=7,
    examples=[
        keep("import cupy as cp\n\nk = cp.RawKernel('', 'k')\n", finding=True),
        keep("from pycuda.compiler import SourceModule\n\nm = SourceModule('')\n", finding=True),
        keep("import cupy as cp\n\nx = cp.zeros(3)\n", finding=False),
        keep("class cp:\n    RawKernel = print\n\n\ncp.RawKernel('k')\n", finding=False),
    ],
)
def cuda_kernel_in_string(site: Site, target: Target) -> Iterator[Finding]:
    """Reports CUDA C++ in strings that cupy or pycuda compiles: `cupy.RawKernel(...)`.

    ## Why it matters
    The text is compiled for CUDA when the program runs.

    ## What it does
    Reports each. Write the kernel with operators of torch or with Triton.

    ## Safety
    Always left.

    ## References
    - https://docs.cupy.dev/en/stable/user_guide/kernel.html
    """
    if site.kind == "name" and site.name in _RAW:
        yield site.gap(
            f"{site.name.rpartition('.')[2]} compiles CUDA code: write it with torch operators or "
            "Triton",
            category=_category(target),
        )
