"""POR88x: C++ and CUDA sources: kernels, what they offer to Python, and who calls it."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from porter.native import Export, code_of, exports
from porter.rule import Category, Finding, keep
from porter.targets import Target
from porter.text_site import TextSite, text_rule

from . import _artefacts as art

FAMILY = "native sources"
TOPIC = "native code"
#: Their name alone says for which compiler they are.
TEXT_FILES = art.CUDA_SOURCES

_KERNEL = re.compile(
    r"__global__\s+(?:(?:static|inline|void|__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\))\s+)*?"
    r"(?:[\w:<>]+\s+)?(?:__launch_bounds__\s*\((?:[^()]|\([^()]*\))*\)\s*)?(\w+)\s*\("
)
_GLOBAL = re.compile(r"__global__")


def _listed(names: Sequence[str], limit: int = 6) -> str:
    unique = list(dict.fromkeys(names))
    more = f" and {len(unique) - limit} more" if len(unique) > limit else ""
    return ", ".join(unique[:limit]) + more


def _called(site: TextSite, found: Sequence[Export]) -> str:
    """Where Python calls what a file offers, in words."""
    places = [(e.name, p) for e in found for p in site.file.callers.get(e.name, ())]
    if not places:
        return ""
    shown = [f"{name} at {place}" for name, place in places[:4]]
    more = f" and {len(places) - 4} more" if len(places) > 4 else ""
    return "; called in Python: " + ", ".join(shown) + more


# POR881 -----------------------------------------------------------------------------------------


@text_rule(
    "POR881",
    "cuda-source",
    files=art.CUDA_SOURCES,
    effort=13,
    examples=[
        keep(
            '#include <torch/extension.h>\n\n// __global__ void old() {}\n__global__ void add(float* a) { a[0] += 1; }\n\nPYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {\n  m.def("add_one", &add_one, "adds");\n}\n',
            path="ops/add.cu",
            finding=True,
        ),
        keep("// a header without kernels\nint f();\n", path="ops/a.cuh", finding=True),
    ],
)
def cuda_source(site: TextSite, target: Target) -> Iterator[Finding]:
    """Reports sources in CUDA C++ (.cu, .cuh): their kernels, what they export and who calls it.

    ## Why it matters
    No compiler of another device takes them; each kernel must be written anew or replaced.

    ## What it does
    One finding for each file, at its first kernel: the names of its kernels, the functions that it
    binds for Python (PYBIND11_MODULE, TORCH_LIBRARY), and the lines of Python that call them. Choose for each: operators of torch, triton-ascend, or Ascend C.

    ## Safety
    Never converted. Callers are found by their names and by how the extension is loaded.

    ## References
    - https://docs.pytorch.org/tutorials/advanced/cpp_custom_ops.html
    - https://github.com/triton-lang/triton-ascend
    """
    code = code_of(site.text, strings=False)
    kernels = [m[1] for m in _KERNEL.finditer(code)]
    # Without a kernel the first line of code counts, not a comment above it.
    first = _GLOBAL.search(code) or re.search(r"\S+", code)
    if first is None:
        return  # nothing, or nothing but comments
    offered = exports(site.text)
    span = first.span()
    parts = []
    count = len(_GLOBAL.findall(code))
    if count:
        names = f": {_listed(kernels)}" if kernels else ""
        parts.append(f"{count} CUDA kernel{'s' if count > 1 else ''}{names}")
    else:
        parts.append("CUDA source without kernels of its own")
    if offered:
        parts.append(f"binds {_listed([e.name for e in offered])}")
    optional = target.agnostic
    advice = (
        "works on CUDA only: offer a path in torch operators or Triton for other devices"
        if optional
        else "write it anew: operators of torch, triton-ascend or Ascend C"
    )
    yield site.gap(
        span,
        f"{'; '.join(parts)}{_called(site, offered)}; {advice}",
        category=Category.POTENTIAL if optional else Category.MANDATORY,
        effort=13 if count else 5,
        symbol=offered[0].name if offered else (kernels[0] if kernels else ""),
    )


# POR882 -----------------------------------------------------------------------------------------

_CUDA_CODE = re.compile(
    r"#\s*include\s*[<\"](?:cuda\w*(?:\.h)?|cub/|thrust/|cublas\w*\.h|cudnn\w*\.h|cufft\w*\.h|nccl\.h|nvToolsExt\.h"
    r"|ATen/cuda/|c10/cuda/|cooperative_groups|cutlass/|curand\w*\.h|cusparse\w*\.h|cusolver\w*\.h)[^>\"]*"
    r"|\b(?:at|c10|torch)::cuda::\w+|\bcuda(?:Stream_t|Error_t|Event_t|Malloc\w*|Memcpy\w*|Free\w*|Set\w+|Get\w+|Launch\w*"
    r"|DeviceSynchronize|StreamSynchronize)\b|\b(?:AT|TORCH)_CUDA_\w+|\bk(?:CUDA)\b|\.is_cuda\(\)|\.type\(\)\.is_cuda"
    r"|\bWITH_CUDA\b|\bnccl[A-Z]\w+|__CUDACC__|__CUDA_ARCH__|\bDeviceType::CUDA\b"
)
_WEAK = re.compile(r"(?:\.type\(\))?\.is_cuda(?:\(\))?|WITH_CUDA|__CUDACC__|__CUDA_ARCH__")
_BINDING = re.compile(r"\bPYBIND11_MODULE|\bTORCH_LIBRARY")
_NAMED_CUDA = re.compile(r"\b\w*cuda\w*\b", re.IGNORECASE)


@text_rule(
    "POR882",
    "cuda-in-cpp",
    files=art.CPP,
    effort=7,
    examples=[
        keep(
            '#include <torch/extension.h>\n#define CHECK_CUDA(x) TORCH_CHECK(x.type().is_cuda())\nvoid add_cuda(at::Tensor x);\nPYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {\n  m.def("add", &add_cuda);\n}\n',
            path="ops/add.cpp",
            finding=True,
        ),
        keep("#include <ATen/cuda/CUDAContext.h>\n", path="a.h", finding=True),
        keep("// at::cuda::getCurrentCUDAStream()\nint f();\n", path="a.cpp", finding=False),
        keep('const char* s = "cudaMalloc";\n', path="a.cpp", finding=False),
    ],
)
def cuda_in_cpp(site: TextSite, target: Target) -> Iterator[Finding]:
    """Reports C++ sources that call CUDA or bind functions that need it.

    ## Why it matters
    They do not compile without the toolkit, or reject tensors of another device.

    ## What it does
    One finding for each file, at the first such line, with the number of lines, the functions it
    binds for Python and the lines of Python that call them. A file that only binds is information.

    ## What to do by hand
    A check such as `is_cuda()` can become `is_privateuseone()` or be dropped. Streams and guards of
    NPU are in `torch_npu/csrc/core/npu/NPUStream.h` and `NPUGuard.h`.

    ## Safety
    Never converted. Callers are found by their names and by how the extension is loaded.

    ## References
    - https://docs.pytorch.org/tutorials/advanced/privateuseone.html
    - https://github.com/Ascend/pytorch (torch_npu/csrc/core/npu)
    """
    code = code_of(site.text, strings=False)
    places = [(m.start(), m.end()) for m in _uses(site.text, code)]
    offered = exports(site.text)
    if not places and offered and _binds_cuda(code):
        first = _BINDING.search(code)
        places = [first.span()] if first else []
    if not places and offered and _called(site, offered):
        first = _BINDING.search(code)
        yield site.information(
            first.span() if first else (0, 1),
            f"binds {_listed([e.name for e in offered])}{_called(site, offered)}; what stands behind "
            "each, on which device, is decided in other files",
        )
    if not places:
        return
    if not offered and all(_WEAK.fullmatch(site.text[slice(*place)]) for place in places):
        yield site.gap(
            places[0],
            "is_cuda() and the like are false for tensors of another device: check what follows",
            category=Category.POTENTIAL,
            effort=1,
        )
        return
    lines = {site.file.index.position(start)[0] for start, _ in places}
    binds = f"; binds {_listed([e.name for e in offered])}" if offered else ""
    yield site.gap(
        places[0],
        f"needs CUDA in {len(lines)} line{'s' if len(lines) > 1 else ''}{binds}{_called(site, offered)}; "
        + ("make it optional" if target.agnostic else "use torch_npu's headers or torch operators"),
        category=Category.POTENTIAL if target.agnostic else Category.MANDATORY,
        symbol=offered[0].name if offered else "",
    )


def _uses(text: str, code: str) -> Iterator[re.Match[str]]:
    """Matches in code; an include's name may be written like a string."""
    kept = code_of(text)
    for found in _CUDA_CODE.finditer(kept):
        if found.group().startswith("#") or code[found.start() : found.end()].strip():
            yield found


def _binds_cuda(code: str) -> bool:
    first = _BINDING.search(code)
    return first is not None and _NAMED_CUDA.search(code, first.end()) is not None
