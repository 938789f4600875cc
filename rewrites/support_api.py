"""POR90x: APIs of torch that Ascend lists as unsupported or limited, or that run on the CPU.

The facts are those of `rewrites/support`: Ascend's support lists and the operators of torch_npu.
An API that no list names is unknown and is not reported.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Iterator
from typing import Any

from porter.module import Module
from porter.rule import Category, Edit, Finding, change, keep, rule
from porter.site import Site
from porter.support import Unanswerable
from porter.targets import Target

from ._match import attribute_token
from .amp import type_use
from .support import tables
from .support.lookup import CPU_HINT, DTYPES, advice, listed, witnesses
from .support.tables import Api

# What wakes the rules ---------------------------------------------------------------------------

#: Names that other rules report: everything bound to CUDA, and whatever has rules of its own.
ELSEWHERE = (
    "torch.cuda.",
    "torch.backends.cuda.",
    "torch.backends.cudnn.",
    "torch.utils.cpp_extension.",
    "torch.nn.parallel.data_parallel",
    "torch.autograd.profiler.emit_nvtx",
    "torch.autograd.profiler.load_nvprof",
)
ELSEWHERE_EXACT = frozenset({"torch.nn.DataParallel"})
#: APIs that torch runs on the host whatever the device is: nothing of theirs reaches an NPU.
ON_HOST = (
    "torch.compiler.",
    "torch.backends.opt_einsum.",
    "torch.distributed.elastic.",
    "torch.fx.",
    "torch.jit.",
    "torch.onnx.",
    "torch.profiler.",
    "torch.autograd.profiler.emit_itt",
    "torch.is_deterministic_algorithms_warn_only_enabled",
    "torch.utils.get_cpp_backtrace",
    "torch.utils.backend_registration.",
    "torch.utils.generate_methods_for_privateuse1_backend",
    "torch.sparse.check_sparse_tensor_invariants",
    "torch.nn.LazyLinear.cls_to_become",
    "torch.distributed.fsdp.FullyShardedDataParallel.",
)


def _reported_elsewhere(name: str) -> bool:
    return name.startswith(ELSEWHERE) or name in ELSEWHERE_EXACT or name.endswith(".is_cuda")


def _is_method(name: str) -> bool:
    return name.startswith(("torch.Tensor.", "torch.TypedStorage.", "torch.UntypedStorage."))


def _triggers(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(sorted(n for n in names if n.startswith("torch.") and not _reported_elsewhere(n)))


UNSUPPORTED = _triggers(tables.unsupported())
ON_LINES = tuple(
    n
    for line in tables.LINES
    for n in _triggers(tables.unsupported(line) - tables.unsupported())
    if not n.startswith(ON_HOST)
)
FALLING_BACK = _triggers(tables.ever_on_cpu())
#: Methods that only tensors have: these names are looked at on receivers of unknown type, too.
TENSOR_ONLY = frozenset(
    {
        "chalf",
        "int_repr",
        "share_memory_",
        "sparse_mask",
        "sspaddmm",
        "to_mkldnn",
        "to_sparse",
        "to_sparse_bsc",
        "to_sparse_bsr",
        "to_sparse_csc",
        "to_sparse_csr",
        "unique_consecutive",
    }
)


def _methods(names: Iterable[str]) -> tuple[str, ...]:
    found = {n.removeprefix("torch.Tensor.") for n in names if n.startswith("torch.Tensor.")}
    return tuple(sorted(n for n in found if not n.startswith("__")))


UNSUPPORTED_METHODS = _methods(UNSUPPORTED)
CPU_METHODS = tuple(n for n in _methods(FALLING_BACK) if n not in UNSUPPORTED_METHODS)
#: Makers of tensors whose list says which dtypes they take.
WITH_DTYPES = tuple(sorted(n for n in tables.limited_dtypes() if not _is_method(n)))

#: Last names that are words of everyday code: they mark no file, what stands before them does.
EVERYDAY = frozenset(
    "allow_in_graph disable eig enable enabled export Linear LinearReLU list_backends load "
    "log_prob LSTM lu mark masked_select mode module name narrow predict reset save sgn step strategy mm "
    "from_file type value graph forward is_enabled share_memory register_buffer register_module "
    "register_parameter set_submodule is_shared is_available to_dense code_with_constants "
    "get_extra_state set_extra_state opset_version register_op is_registered_op Constraint mps ipu "
    "hpu npu float8_e4m3fn float8_e5m2 i0 i1 dispatch".split()
)


def _trie(words: Iterable[str]) -> str:
    """A pattern for any of the words that shares what they begin with: much faster to search."""
    root: dict[str, Any] = {}
    for word in words:
        level = root
        for letter in word:
            level = level.setdefault(letter, {})
        level[""] = None
    return _pattern(root)


def _pattern(level: dict[str, Any]) -> str:
    choices = [re.escape(k) + _pattern(v) for k, v in sorted(level.items()) if k]
    if not choices:
        return ""
    text = choices[0] if len(choices) == 1 and "" not in level else f"(?:{'|'.join(choices)})"
    return text + "?" if "" in level else text


def _markers() -> tuple[str, ...]:
    named = {
        n.rpartition(".")[2]
        for n in (*UNSUPPORTED, *FALLING_BACK)
        if not n.startswith(ON_HOST) and n.count(".") < 5
    }
    words = sorted(w for w in named - EVERYDAY if not w.startswith("__"))
    return (
        rf"\b{_trie(words)}\b",
        r"torch\.export",
        r"\bao\.nn",
        r"linalg\.(?:eig|lu)\b",
        r"torch\.(?:lu|mode|i0|nested)\b",
        r"special\.i[01]\b",
        r"sparse\.mm\b",
        r"mobile_optimizer",
        rf"\b(?:{'|'.join(n.rpartition('.')[2] for n in WITH_DTYPES)})\([\s\S]{{0,240}}?\bdtype",
    )


MARKERS = _markers()
#: By product line: half of the list is missing for 950DT, so that any name of torch may be.
LINE_MARKERS = {"950DT": (r"torch",), "A3": (r"backends\.mkldnn",)}

# What a site is ---------------------------------------------------------------------------------


def _used(site: Site) -> bool:
    """Whether a site uses the API, rather than naming it as a type or setting it."""
    if site.kind == "import":
        return not _read(site)
    return not site.stored and not type_use(site.module, site.node) and not _asked(site.node)


def _called(site: Site) -> bool:
    """Whether a site calls the API or builds on it, rather than naming it for later."""
    parent = getattr(site.node, "parent", None)
    return site.call is not None or isinstance(
        parent, (ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
    )


def _read(site: Site) -> bool:
    """Whether an imported name is used in its own file, where the use is reported."""
    local = site.node.asname or site.node.name.partition(".")[0]
    owner = site.scope.owner(local)
    return owner is None or any(True for _ in owner.uses(local))


def _asked(node: Any) -> bool:
    """`type(m) is nn.RNN` and `type(m) in (nn.RNN, ...)` ask about a class without using it."""
    parent = node.parent
    while isinstance(parent, (ast.Tuple, ast.List, ast.Set)):
        parent = parent.parent  # type: ignore[union-attr]
    return isinstance(parent, ast.Compare)


TENSOR_MAKERS = frozenset(
    f"torch.{n}"
    for n in (
        "arange as_tensor bmm cat clone concat concatenate einsum empty empty_like eye from_numpy "
        "full full_like linspace logspace matmul mm ones ones_like rand rand_like randint "
        "randint_like randn randn_like randperm softmax sparse_coo_tensor stack sum tensor where "
        "zeros zeros_like abs exp log sigmoid relu"
    ).split()
)
#: Methods of tensors that return something else.
NOT_TENSOR = frozenset("item tolist numpy size dim numel data_ptr stride storage".split())


def is_tensor(module: Module, node: Any, depth: int = 0) -> bool:
    """Whether an expression is surely a tensor."""
    if depth > 5:
        return False
    if isinstance(node, ast.Call):
        name = module.name_of(node.func)
        if name:
            return name in TENSOR_MAKERS or name.startswith("torch.nn.functional.")
        if isinstance(node.func, ast.Attribute) and node.func.attr not in NOT_TENSOR:
            return is_tensor(module, node.func.value, depth + 1)
        return False
    if isinstance(node, ast.Subscript):
        return is_tensor(module, node.value, depth + 1)
    if isinstance(node, ast.BinOp):
        return is_tensor(module, node.left, depth + 1) or is_tensor(module, node.right, depth + 1)
    if isinstance(node, ast.Name):
        owner = module.scope(node).owner(node.id)
        bindings = owner.bindings.get(node.id, []) if owner is not None else []
        return bool(bindings) and all(_binds_tensor(module, b, depth) for b in bindings)
    return False


def _binds_tensor(module: Module, binding: Any, depth: int) -> bool:
    if binding.kind == "param":
        annotation = getattr(binding.node, "annotation", None)
        return module.name_of(annotation) == "torch.Tensor"
    if binding.kind == "assign" and binding.value is not None:
        return is_tensor(module, binding.value, depth + 1)
    return False


def _method_name(site: Site) -> str:
    """The API behind a method call on a tensor; empty if the receiver may be something else."""
    if site.call is None or not isinstance(site.node, ast.Attribute) or site.name:
        return ""  # a name that leads to an import is a function
    name = site.node.attr
    if name in TENSOR_ONLY or is_tensor(site.module, site.node.value):
        return f"torch.Tensor.{name}"
    return ""


def _row(site: Site, target: Target) -> Api | None:
    """What the list for the target says of the API at a site."""
    name = _method_name(site) if site.kind == "attribute" else site.name
    try:
        return tables.api(name, listed(target)) if name else None
    except Unanswerable:
        return None


# POR901 -----------------------------------------------------------------------------------------


@rule(
    "POR901",
    "unsupported-api",
    names=UNSUPPORTED,
    attributes=UNSUPPORTED_METHODS,
    effort=3,
    targets=("npu",),
    examples=[
        change(
            "import torch\n\ndef f(m):\n    torch.nn.utils.clip_grad_norm(m.parameters(), 1.0)\n",
            None,
            "import torch\n\ndef f(m):\n    torch.nn.utils.clip_grad_norm_(m.parameters(), 1.0)\n",
            note="the old name is refused, its present one is not",
        ),
        keep("import torch\n\ndef f(x):\n    return torch.poisson(x)\n", finding=True),
        keep("import torch\nx = torch.zeros(3)\ny = x.to_sparse_csr()\n", finding=True),
        keep("from torch.func import vmap\n\ndef f(g, x):\n    return vmap(g)(x)\n", finding=True),
        keep("import torch\n\ndef f(x):\n    return isinstance(x, torch.nn.RNN)\n", finding=False),
        keep("import torch\n\ndef f(x):\n    return torch.nn.functional.gelu(x)\n", finding=False),
        keep("def f(frame):\n    return frame.mode().to_dense()\n", finding=False),
    ],
)
def unsupported_api(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for APIs of torch that Ascend lists as unsupported on every product line.

    ## Why it matters
    The list says that they do not run on an NPU with the chosen version of torch_npu.

    ## What it does
    Says what to use instead. The list alone makes a finding mandatory only if nothing speaks against
    it. The finding is potential, and states both facts, where the list has the same function under
    another name as supported, and where the binary of the chosen torch_npu has a kernel or a
    composite for every operator that the API calls, or hands one to the CPU. (For a version whose
    binary was not read, the one before and the one behind it must agree.) It is potential as well
    where the API is only named and not called, or may work on the CPU. A name that is not called and
    that the binary speaks for (an entry of a table, a function to wrap) is information, as is what
    torch does on the host for every device.
    `clip_grad_norm`, the old name of `clip_grad_norm_`, is renamed.

    ## Safety
    The one rewrite is safe: the old name only warns and calls the new one.

    ## References
    - Ascend/pytorch, docs/zh/api/native_api, for torch_npu 2.7.1, 2.11.0, 2.12.0 and 2.13.0
    - the operators of the binaries of torch_npu, docs/support.md
    - https://docs.pytorch.org/docs/stable/generated/torch.nn.utils.clip_grad_norm.html
    """
    row = _row(site, target)
    if row is None or row.lines or not _used(site):
        return
    edit = _renamed(site)
    if edit is not None:
        yield site.finding(edit)
        return
    hint = advice(row, target)
    said = f"{row.name} is not supported by torch_npu {row.version}, says Ascend's list"
    if row.name.startswith(ON_HOST):
        yield site.gap(
            f"{said}; torch runs it on the host whatever the device is",
            category=Category.INFORMATION,
            effort=0,
            symbol=row.name,
        )
        return
    category, called = _category(row, target), _called(site)
    if not called or _may_be_cpu(site):
        category = (
            Category.POTENTIAL if called or category is Category.MANDATORY else Category.INFORMATION
        )
    yield site.gap(
        f"{said}; {hint or 'call it on copies on the CPU, or find another way'}",
        category=category,
        effort=0 if category is Category.INFORMATION else None,
        symbol=row.name,
    )


#: Functions that make a tensor, on the CPU unless they are given a device.
_MAKERS = frozenset(
    {
        "torch.fft.fftfreq",
        "torch.fft.rfftfreq",
        "torch.sparse_bsc_tensor",
        "torch.sparse_bsr_tensor",
        "torch.sparse_csc_tensor",
        "torch.sparse_csr_tensor",
    }
)


#: Functions that take what they are given wherever it lies: a model to export, a buffer to exchange.
_ANYWHERE = ("torch.export.", "torch.from_dlpack", "torch.utils.dlpack.")


def _may_be_cpu(site: Site) -> bool:
    """Whether nothing says that the work is done on the device."""
    if site.kind == "attribute":
        receiver = site.node.value
        return not is_tensor(site.module, receiver) or _made_on_cpu(site.module, receiver)
    if site.name.startswith(_ANYWHERE):
        return True
    if site.name in _MAKERS and site.call is not None:
        return not any(k.arg in ("device", None) for k in site.call.keywords)
    return False


def _made_on_cpu(module: Module, node: Any) -> bool:
    """Whether an expression, or all that its name is bound to, makes a tensor and names no device."""
    if isinstance(node, ast.Name):
        owner = module.scope(node).owner(node.id)
        bindings = owner.bindings.get(node.id, []) if owner is not None else []
        values = [b.value for b in bindings if b.kind == "assign"]
        return bool(values) and all(_made_on_cpu(module, v) for v in values)
    return (
        isinstance(node, ast.Call)
        and module.name_of(node.func) in TENSOR_MAKERS
        and not any(k.arg in ("device", None) for k in node.keywords)
        and not any(is_tensor(module, argument) for argument in node.args)
    )


def _renamed(site: Site) -> Edit | None:
    if site.name != "torch.nn.utils.clip_grad_norm" or not isinstance(site.node, ast.Attribute):
        return None
    span = attribute_token(site.module, site.node)
    return Edit.of(*span, "clip_grad_norm_") if span is not None and site.call is not None else None


def _category(row: Api, target: Target) -> Category:
    """Mandatory, unless the list itself, or the binary of the target, speaks against it."""
    read = witnesses(target)
    contradicted = (
        bool(tables.twin(row.name, row.version))
        or all(tables.runs(row.name, version) for version in read)
        or all(tables.on_cpu(row.name, version) for version in read)
    )
    return Category.POTENTIAL if contradicted else Category.MANDATORY


#: Names that say nothing of what a product line can do: types, questions, tensors from Python values.
ANYWHERE = (
    "torch.Tensor",
    "torch.tensor",
    "torch.backends.mps.",
    "torch.backends.mkldnn.",
    "torch.distributed.is_",
    "torch.nn.Module.",
)


# POR902 -----------------------------------------------------------------------------------------


@rule(
    "POR902",
    "unsupported-on-product-line",
    names=ON_LINES,
    category=Category.POTENTIAL,
    effort=3,
    targets=("npu",),
    examples=[
        keep("import torch\n\ndef f(x, y):\n    return torch.bmm(x, y)\n", finding=False),
        keep("import torch\n\ndef f(x):\n    return torch.stft(x, 400)\n", finding=False),
    ],
)
def unsupported_on_product_line(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for APIs that the chosen product line does not support, though others do.

    ## Why it matters
    Ascend's lists give A2, A3 and 950DT each its own column. For 950DT about half of the APIs have
    no tick yet, among them many that compute nothing on the device.

    ## What it does
    Reports nothing unless a product line is chosen, then each API once in a file. Where the binary of
    the chosen torch_npu has a kernel or a composite for every operator that the API calls, it is
    information: the binary is one for all product lines, and the list has not even
    `torch.nn.Linear` for 950DT.

    ## Safety
    Always left.

    ## References
    - Ascend/pytorch, docs/zh/api/native_api
    """
    if not target.hardware:
        return
    row = _row(site, target)
    if row is None or not row.lines or target.hardware in row.lines or not _used(site):
        return
    said: set[str] = site.module.memo.setdefault("product lines", set())
    if row.name in said:
        return
    said.add(row.name)
    kernels = row.name.startswith(ANYWHERE) or all(
        tables.runs(row.name, version) for version in witnesses(target)
    )
    yield site.gap(
        f"Ascend's list for torch_npu {row.version} has {row.name} for {', '.join(row.lines)}, "
        f"not for {target.hardware}: test it there",
        category=Category.INFORMATION if kernels else Category.POTENTIAL,
        effort=0 if kernels else 3,
        symbol=row.name,
    )


# POR903 -----------------------------------------------------------------------------------------


@rule(
    "POR903",
    "api-on-the-cpu",
    names=FALLING_BACK,
    attributes=CPU_METHODS,
    category=Category.INFORMATION,
    effort=0,
    targets=("npu",),
    examples=[
        keep("import torch\n\ndef f(x):\n    return torch.lgamma(x)\n", finding=True),
        keep("import torch\n\ndef f(x: torch.Tensor):\n    return x.digamma()\n", finding=True),
        keep("import math\n\ndef f(x):\n    return math.lgamma(x)\n", finding=False),
        keep("def f(x):\n    return x.digamma()\n", finding=False),
        keep("import torch\n\ndef f(x):\n    return torch.logaddexp(x, x)\n", finding=False),
    ],
)
def api_on_the_cpu(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for APIs whose work torch_npu hands to the CPU.

    ## Why it matters
    They run, but every call copies its tensors to the host and back: slow in a loop.

    ## What it does
    Names the operators. Which operators an API calls was seen with the sample inputs of torch's own
    tests; only those that every sample calls count. What the binary of the chosen torch_npu does
    with them was read from its dispatch table.

    ## Safety
    Nothing needs to change.

    ## References
    - docs/support.md, and `porter query NAME` for one API
    - Ascend/pytorch, docs/zh/api/environment_variable: TORCH_NPU_FALLBACK_CPU_DISABLE
    """
    name = _method_name(site) if site.kind == "attribute" else site.name
    if not name or not _used(site) or _listed_as_unsupported(name, target):
        return
    try:
        version = witnesses(target)[-1]
    except Unanswerable:
        return
    forward, backward = tables.on_cpu(name, version), tables.backward_on_cpu(name, version)
    if not forward and not backward:
        return
    said = f"runs {' and '.join(forward or backward)} on the CPU"
    if not forward:
        said += " in the backward pass"
    yield site.gap(
        f"torch_npu {version} {said}; {CPU_HINT}",
        category=Category.INFORMATION,
        effort=0,
        symbol=name,
    )


def _listed_as_unsupported(name: str, target: Target) -> bool:
    try:
        row = tables.api(name, listed(target))
    except Unanswerable:
        return False
    return row is not None and not row.lines


# POR904 -----------------------------------------------------------------------------------------

_LISTED = {**{v: k for k, v in DTYPES.items()}, "double": "fp64", "float": "fp32", "half": "fp16",
           "long": "int64", "int": "int32", "short": "int16", "cdouble": "complex128",
           "cfloat": "complex64"}  # fmt: skip


@rule(
    "POR904",
    "unsupported-dtype",
    names=WITH_DTYPES,
    category=Category.POTENTIAL,
    targets=("npu",),
    examples=[
        keep(
            "import torch\n\ndef f(d):\n    return torch.eye(3, dtype=torch.float64, device=d)\n",
            finding=True,
        ),
        keep(
            "import torch\n\ndef f(d):\n    return torch.arange(3, dtype=torch.uint8, device=d)\n",
            finding=True,
        ),
        keep(
            "import torch\n\ntorch.set_default_device('npu')\nx = torch.eye(3, dtype=torch.float64)\n",
            finding=True,
        ),
        keep(
            "import torch\nx = torch.eye(3, dtype=torch.float64)\n",
            finding=False,
            note="on the CPU",
        ),
        keep(
            "import torch\n\ndef f(d):\n    return torch.arange(3, dtype=torch.int64, device=d)\n",
            finding=False,
        ),
        keep(
            "import torch\n\ndef f(t, d):\n    return torch.eye(3, dtype=t, device=d)\n",
            finding=False,
        ),
        keep('import torch\nx = torch.eye(3, dtype=torch.float64, device="cpu")\n', finding=False),
        keep(
            "import torch\n\nhost = torch.device('cpu')\n"
            "x = torch.eye(3, dtype=torch.float64, device=host)\n",
            finding=False,
        ),
    ],
)
def unsupported_dtype(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `dtype=` that Ascend's list does not have for the function that makes a tensor.

    ## Why it matters
    The list names the only dtypes that the function takes on an NPU.

    ## What it does
    Reports calls with a `device=` that is not surely the CPU, and calls without one in files that
    choose a default device: elsewhere the function makes the tensor on the CPU, and from there it
    can be moved in any dtype. A default device chosen in another file is not seen.

    ## Safety
    Always left: another dtype is another result. Make the tensor in a dtype that is listed and
    convert it, if the rest of the code needs it.

    ## References
    - Ascend/pytorch, docs/zh/api/native_api, torch.md
    """
    call = site.call
    row = _row(site, target)
    if call is None or row is None:
        return
    allowed = dict(row.dtypes).get("dtype", ())
    given = {k.arg: k.value for k in call.keywords}
    written = site.module.name_of(given.get("dtype"))
    dtype = _LISTED.get(written.removeprefix("torch."), written.removeprefix("torch."))
    if not allowed or not written.startswith("torch.") or dtype in allowed:
        return
    device = given.get("device")
    if _on_cpu(site.module, device) if device is not None else not _default_device(site.module):
        return
    names = ", ".join(DTYPES.get(d, d) for d in allowed)
    yield site.gap(
        f"Ascend's list for torch_npu {row.version} has {row.name} with {names} only; make it in "
        "one of these and convert it",
        symbol=row.name,
    )


_DEFAULTS = re.compile(r"set_default_(?:device|tensor_type)|with\s+(?:torch\.)?device\(")


def _default_device(module: Module) -> bool:
    """Whether a file chooses the device of tensors that are made without naming one."""
    return module.once("default device", lambda: _DEFAULTS.search(module.text) is not None)


def _on_cpu(module: Module, node: ast.expr | None) -> bool:
    """Whether a device is the CPU, in so many words or by the one value of a name."""
    if isinstance(node, ast.Name):
        owner = module.scope(node).owner(node.id)
        bindings = owner.bindings.get(node.id, []) if owner is not None else []
        values = [b.value for b in bindings if b.kind == "assign" and b.value is not None]
        whole = bool(values) and len(values) == len(bindings)
        return whole and not any(isinstance(v, ast.Name) or not _on_cpu(module, v) for v in values)
    if isinstance(node, ast.Call) and node.args:
        node = node.args[0]
    return isinstance(node, ast.Constant) and node.value == "cpu"
