"""POR94x: hand-written parts of a model, and optimisers, for which torch_npu has one operator."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from typing import Any

from porter.module import Module
from porter.rule import Category, Finding, keep, rule
from porter.site import Site
from porter.targets import Target

from ._match import argument
from ._tensors import first_of, parts_of

FAMILY = "fused operators"

MARKERS = (
    r"optim\.",
    r"torch\.optim",
    "rsqrt",
    r"nn\.RMSNorm",
    "nn import RMSNorm",
    r"\.rms_norm\(",
    "import rms_norm",
    r"\.silu\(",
    "import silu",
    r"cat\(\s*[(\[]\s*-",
    r"stack\(\s*[(\[]\s*-",
    r"softmax\(",
)


def _offered(target: Target, *lines: str) -> bool:
    """Whether the documentation has an operator for the chosen product line, if one was chosen."""
    return not target.hardware or target.hardware in lines


# POR941 -----------------------------------------------------------------------------------------

#: Optimisers of torch and what torch_npu has in their place.
OPTIMISERS = {
    "Adadelta": "NpuFusedAdadelta",
    "Adam": "NpuFusedAdam",
    "AdamW": "NpuFusedAdamW",
    "RMSprop": "NpuFusedRMSprop",
    "SGD": "NpuFusedSGD",
}
#: Those that take `fused=True`, for which torch_npu 2.13.0 has kernels.
_FUSED = frozenset({"Adam", "AdamW", "SGD"})


@rule(
    "POR941",
    "unfused-optimizer",
    names=tuple(f"torch.optim.{name}" for name in OPTIMISERS),
    category=Category.ADVICE,
    effort=0,
    targets=("npu",),
    examples=[
        keep("import torch\n\ndef f(p):\n    return torch.optim.AdamW(p, lr=1e-3)\n", finding=True),
        keep("from torch.optim import SGD\n\ndef f(p):\n    return SGD(p, 0.1)\n", finding=True),
        keep(
            "import torch\n\ndef f(p):\n    return torch.optim.AdamW(p, lr=1e-3, fused=True)\n",
            finding=False,
        ),
        keep("import torch\n\n\nclass A(torch.optim.AdamW):\n    pass\n", finding=False),
        keep("from apex.optimizers import Adam\n\ndef f(p):\n    return Adam(p)\n", finding=False),
    ],
)
def unfused_optimizer(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for optimisers of torch that torch_npu has in a fused form.

    ## Why it matters
    A fused optimiser updates all parameters with a few operators, not with several for each group.

    ## What it does
    Names the class of torch_npu, and `fused=True` where torch_npu 2.13.0 has the kernel for it,
    which keeps the code the same for all devices. Calls that are fused already are left out.

    ## Safety
    Reported only. The classes of torch_npu join the parameters in one block of memory: nothing may
    give a parameter new memory afterwards (`model.cpu()`, a new tensor, None). They take the
    arguments of the first years of torch only, not `foreach`, `capturable` or `maximize`.

    ## References
    - Ascend/op-plugin 517f2e7d, docs/zh/custom_APIs/torch_npu-optim (2026-08-21)
    - the operators of torch_npu 2.13.0: `porter query aten::_fused_adamw_`
    - https://docs.pytorch.org/docs/stable/generated/torch.optim.AdamW.html
    """
    call = site.call
    if call is None or any(k.arg in ("fused", None) for k in call.keywords):
        return
    if not _offered(target, "A2", "A3"):
        return
    name = site.name.rpartition(".")[2]
    own = f"torch_npu.optim.{OPTIMISERS[name]}"
    if name in _FUSED:
        yield site.advice(
            f"pass fused=True, or use {own} if no parameter gets new memory later (no model.cpu())"
        )
    else:
        yield site.advice(f"{own} does the same faster, if no parameter gets new memory later")


# POR942 -----------------------------------------------------------------------------------------

_NORM = (
    "one operator does this on an NPU: torch_npu.npu_rms_norm(x, weight, epsilon=eps)[0]; keep this "
    "code for other devices"
)
_TORCH_NORM = (
    "torch_npu composes this of five operators, here and wherever the file uses it; "
    "torch_npu.npu_rms_norm(x, weight, epsilon=eps)[0] is one"
)


@rule(
    "POR942",
    "rms-norm",
    names=("torch.rsqrt", "torch.nn.RMSNorm", "torch.nn.functional.rms_norm"),
    attributes=("rsqrt",),
    category=Category.ADVICE,
    effort=0,
    targets=("npu",),
    examples=[
        keep(
            "import torch\nfrom torch import nn\n\nclass RMSNorm(nn.Module):\n"
            "    def forward(self, x):\n"
            "        x = x * torch.rsqrt(x.pow(2).mean(-1, keepdim=True) + self.eps)\n"
            "        return x * self.weight\n",
            finding=True,
        ),
        keep(
            "def norm(x, w, eps):\n    var = x.float().square().mean(dim=-1, keepdim=True)\n"
            "    return w * (x * (var + eps).rsqrt())\n",
            finding=True,
        ),
        keep("import torch\n\nnorm = torch.nn.RMSNorm(64)\n", finding=True),
        keep(
            "def norm(x, eps):\n    x = x - x.mean(-1, keepdim=True)\n"
            "    return x * (x.var(-1, keepdim=True) + eps).rsqrt()\n",
            finding=False,
        ),
        keep("import torch\n\ndef f(v):\n    return torch.rsqrt(v + 1e-6)\n", finding=False),
    ],
)
def rms_norm(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for RMSNorm: `x * rsqrt(mean(x ** 2) + eps)`, or the one of torch.

    ## Why it matters
    Written out it is five operators and as many passes over the data; torch_npu has it as one,
    forward and backward. `torch.nn.RMSNorm` too is composed of five with torch_npu 2.13.0.

    ## What it does
    Names the place where the root is taken of a mean of squares over the last dimension; the norm
    of torch once in a file.

    ## Safety
    Reported only. `npu_rms_norm` computes in float32 inside and gives the dtype of `x`; it needs a
    weight (ones, if there is none), and the weight in the dtype of `x` or float32.

    ## References
    - Ascend/op-plugin 517f2e7d, docs/zh/custom_APIs/torch_npu, torch_npu.npu_rms_norm (2026-08-21)
    - `porter query torch.nn.RMSNorm`: the operators that it calls
    """
    if site.call is None or _knows(site.module, "npu_rms_norm"):
        return
    if not _offered(target, "A2", "A3"):
        return
    if site.kind == "name" and site.name != "torch.rsqrt":
        if first_of(site, "rms_norm", site.module.tree):
            yield site.advice(_TORCH_NORM)
        return
    if site.kind == "attribute" and site.name:
        return
    inner = site.call.args[0] if site.kind == "name" and site.call.args else None
    if site.kind == "attribute":
        inner = site.node.value
    if isinstance(inner, ast.BinOp) and isinstance(inner.op, ast.Add):
        for side in (inner.left, inner.right):
            if _is_mean_of_squares(site.module, side, site.node):
                yield site.advice(_NORM, span=site.module.span(site.call))
                return


def _is_mean_of_squares(module: Module, node: Any, at: Any, depth: int = 0) -> bool:
    """`x.pow(2).mean(-1)`, `torch.mean(x * x, dim=-1)`, or a variable that holds one."""
    if depth > 2:
        return False
    if isinstance(node, ast.Name):
        return any(
            _is_mean_of_squares(module, value, at, depth + 1) for value in _values(module, node, at)
        )
    if not isinstance(node, ast.Call):
        return False
    name = module.name_of(node.func)
    inner: Any = None
    if name == "torch.mean":
        inner, dims = argument(node, 0, "input"), argument(node, 1, "dim")
    elif not name and isinstance(node.func, ast.Attribute) and node.func.attr == "mean":
        inner, dims = node.func.value, argument(node, 0, "dim")
    if inner is None or not _is_last(dims):
        return False
    return _is_square(module, inner, at)


def _is_last(dims: Any) -> bool:
    if isinstance(dims, (ast.List, ast.Tuple)):
        return len(dims.elts) == 1 and _is_last(dims.elts[0])
    return (
        isinstance(dims, ast.UnaryOp)
        and isinstance(dims.op, ast.USub)
        and isinstance(dims.operand, ast.Constant)
        and dims.operand.value == 1
    )


def _is_square(module: Module, node: Any, at: Any) -> bool:
    if isinstance(node, ast.Name):
        return any(
            not isinstance(v, ast.Name) and _is_square(module, v, at)
            for v in _values(module, node, at)
        )
    if isinstance(node, ast.BinOp):
        if isinstance(node.op, ast.Pow):
            return isinstance(node.right, ast.Constant) and node.right.value == 2
        return isinstance(node.op, ast.Mult) and _same(node.left, node.right)
    if not isinstance(node, ast.Call):
        return False
    name = module.name_of(node.func)
    last = name or getattr(node.func, "attr", "")
    if last in ("square", "torch.square"):
        return True
    power = argument(node, 1 if name else 0, "exponent")
    return last in ("pow", "torch.pow") and isinstance(power, ast.Constant) and power.value == 2


def _values(module: Module, name: ast.Name, at: Any) -> list[Any]:
    """What was assigned to a variable of the same function before a place."""
    owner = module.scope(name).owner(name.id)
    if owner is None or owner.kind not in ("function", "lambda"):
        return []
    return [
        b.value
        for b in owner.bindings.get(name.id, [])
        if b.kind == "assign" and b.value is not None and module.end(b.value) <= module.start(at)
    ]


def _same(left: Any, right: Any) -> bool:
    return ast.dump(left) == ast.dump(right)


def _knows(module: Module, name: str) -> bool:
    """Whether the file names the operator already: it has a path for NPUs."""
    return name in module.attributes or name in module.names


# POR943 -----------------------------------------------------------------------------------------


@rule(
    "POR943",
    "swiglu",
    names=("torch.nn.functional.silu",),
    category=Category.ADVICE,
    effort=0,
    targets=("npu",),
    examples=[
        keep(
            "import torch\nimport torch.nn.functional as F\n\ndef f(x: torch.Tensor):\n"
            "    a, b = x.chunk(2, dim=-1)\n    return F.silu(a) * b\n",
            finding=True,
        ),
        keep(
            "import torch.nn.functional as F\nfrom torch import nn\n\nclass MLP(nn.Module):\n"
            "    def forward(self, x):\n        return self.w2(F.silu(self.w1(x)) * self.w3(x))\n",
            finding=True,
        ),
        keep(
            "import torch.nn.functional as F\n\ndef f(x, g):\n    return F.silu(x) * 2\n",
            finding=False,
        ),
        keep(
            "import torch.nn.functional as F\n\ndef f(x, g):\n    return F.silu(x) + g\n",
            finding=False,
        ),
        keep(
            "import torch.nn.functional as F\n\ndef f(x, g):\n    return F.silu(x) * g\n",
            finding=False,
        ),
    ],
)
def swiglu(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for SwiGLU: `silu(a) * b` with both halves of one tensor, or with two layers.

    ## Why it matters
    torch_npu has it as one operator, which reads the data once.

    ## What it does
    Reports `silu(a) * b` where `a, b = x.chunk(2, dim)`, and `silu(w1(x)) * w3(x)` of one `x`.

    ## Safety
    Reported only. `npu_swiglu(x, dim)` applies silu to the first half.

    ## References
    - Ascend/op-plugin 517f2e7d, docs/zh/custom_APIs/torch_npu, torch_npu.npu_swiglu: A2, float32,
      float16 and bfloat16 (2026-08-21)
    """
    call, product = site.call, getattr(site.call, "parent", None)
    if call is None or len(call.args) != 1 or _knows(site.module, "npu_swiglu"):
        return
    if not _offered(target, "A2"):
        return
    if not isinstance(product, ast.BinOp) or not isinstance(product.op, ast.Mult):
        return
    gate, other = call.args[0], product.right if product.left is call else product.left
    whole = _halves(site.module, gate, other)
    if whole is not None:
        text = site.module.segment(whole)
        yield site.advice(
            f"torch_npu.npu_swiglu({text}, dim) is this in one operator, with the dim of the chunk",
            span=site.module.span(product),
        )
    elif _two_layers(gate, other):
        yield site.advice(
            "one layer with the weights of both, then torch_npu.npu_swiglu(y, dim=-1), is one matrix "
            "product and one operator",
            span=site.module.span(product),
        )


def _halves(module: Module, gate: Any, other: Any) -> Any:
    """The tensor of which the two are the first and the second half."""
    if not isinstance(gate, ast.Name) or not isinstance(other, ast.Name):
        return None
    owner = module.scope(gate).owner(gate.id)
    bindings = owner.bindings.get(gate.id, []) if owner is not None else []
    if len(bindings) != 1:
        return None
    pair = bindings[0].node.parent  # type: ignore[attr-defined]
    statement = getattr(pair, "parent", None)
    if not isinstance(pair, ast.Tuple) or not isinstance(statement, ast.Assign):
        return None
    if [getattr(e, "id", "") for e in pair.elts] != [gate.id, other.id]:
        return None
    value = statement.value
    if not isinstance(value, ast.Call) or getattr(value.func, "attr", "") != "chunk":
        return None
    whole = parts_of(module, value)
    return whole if whole is not None else getattr(value.func, "value", None)


def _two_layers(gate: Any, other: Any) -> bool:
    """`self.w1(x)` and `self.w3(x)`."""
    layers = [n for n in (gate, other) if _is_own_layer(n)]
    return (
        len(layers) == 2
        and not _same(layers[0].func, layers[1].func)
        and _same(layers[0].args[0], layers[1].args[0])
    )


def _is_own_layer(node: Any) -> bool:
    return (
        isinstance(node, ast.Call)
        and len(node.args) == 1
        and not node.keywords
        and isinstance(node.func, ast.Attribute)
        and isinstance(node.func.value, ast.Name)
        and node.func.value.id == "self"
    )


# POR944 -----------------------------------------------------------------------------------------


@rule(
    "POR944",
    "rotary-embedding",
    names=("torch.cat", "torch.stack"),
    category=Category.ADVICE,
    effort=0,
    targets=("npu",),
    examples=[
        keep(
            "import torch\n\ndef rotate_half(x):\n    x1, x2 = x.chunk(2, dim=-1)\n"
            "    return torch.cat((-x2, x1), dim=-1)\n\n\ndef rope(q, cos, sin):\n"
            "    return q * cos + rotate_half(q) * sin\n",
            finding=True,
        ),
        keep(
            "import torch\n\ndef rot(x):\n"
            "    return torch.stack([-x[..., 1::2], x[..., ::2]], -1).reshape(x.shape)\n\n\n"
            "def rope(x, cos, sin):\n    return x * cos + rot(x) * sin\n",
            finding=True,
        ),
        keep(
            "import torch\n\ndef turn(x, y):\n    return torch.cat((-y, x), dim=-1)\n",
            finding=False,
        ),
        keep(
            "import torch\n\ndef join(x):\n    return torch.cat((x, x), dim=-1)\n\n\n"
            "def f(q, cos, sin):\n    return q * cos + join(q) * sin\n",
            finding=False,
        ),
    ],
)
def rotary_embedding(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for rotary position embeddings: `x * cos + rotate_half(x) * sin`.

    ## Why it matters
    Written out they are two products, a sum, and two copies for the rotation; torch_npu has them as
    one operator.

    ## What it does
    Finds the function of the file that turns `(x1, x2)` to `(-x2, x1)`, and the sums that use it.

    ## Safety
    Reported only. The operator takes three or four dimensions, with limits on the layout, and
    keeps `x` for the backward pass, which takes memory.

    ## References
    - Ascend/op-plugin 517f2e7d, docs/zh/custom_APIs/torch_npu, torch_npu.npu_rotary_mul (2026-08-21)
    """
    if site.call is None or _knows(site.module, "npu_rotary_mul"):
        return
    if not _offered(target, "A2", "A3"):
        return
    function = site.module.function(site.node)
    if function is None or not _turns(site.call):
        return
    mode = "half" if site.name == "torch.cat" else "interleave"
    for whole in _sums(site.module, function):
        yield site.advice(
            f'one operator does this on an NPU: torch_npu.npu_rotary_mul(x, cos, sin, "{mode}")',
            span=site.module.span(whole),
            symbol="torch_npu.npu_rotary_mul",
        )


def _turns(call: ast.Call) -> bool:
    """`torch.cat((-b, a), ...)`."""
    parts = call.args[0] if call.args else None
    return (
        isinstance(parts, (ast.Tuple, ast.List))
        and len(parts.elts) == 2
        and isinstance(parts.elts[0], ast.UnaryOp)
        and isinstance(parts.elts[0].op, ast.USub)
        and not isinstance(parts.elts[1], ast.UnaryOp)
        and not _same(parts.elts[0].operand, parts.elts[1])
    )


def _sums(module: Module, function: Any) -> Iterator[ast.BinOp]:
    """`x * cos + f(x) * sin` for a function `f`."""
    for node in _calls(module, function):
        if len(node.args) != 1:
            continue
        turned = node.args[0]
        product = node.parent  # type: ignore[attr-defined]
        whole: Any = getattr(product, "parent", None)
        if not (_is_op(product, ast.Mult) and _is_op(whole, ast.Add)):
            continue
        other = whole.right if whole.left is product else whole.left
        if _is_op(other, ast.Mult) and any(_same(s, turned) for s in (other.left, other.right)):
            yield whole


def _calls(module: Module, function: Any) -> Iterator[ast.Call]:
    owner = module.scope(function)
    for use in owner.uses(function.name):
        call: Any = use.parent  # type: ignore[attr-defined]
        if isinstance(call, ast.Call) and call.func is use:
            yield call
    for node in module.attributes.get(function.name, ()):
        call = node.parent  # type: ignore[attr-defined]
        if isinstance(call, ast.Call) and call.func is node:
            yield call


def _is_op(node: Any, kind: type[ast.operator]) -> bool:
    return isinstance(node, ast.BinOp) and isinstance(node.op, kind)


# POR945 -----------------------------------------------------------------------------------------

_PRODUCTS = frozenset({"matmul", "bmm", "einsum", "baddbmm"})


@rule(
    "POR945",
    "written-out-attention",
    names=("torch.softmax", "torch.nn.functional.softmax"),
    attributes=("softmax",),
    category=Category.ADVICE,
    effort=0,
    targets=("npu",),
    examples=[
        keep(
            "def attend(q, k, v, scale):\n    attn = (q @ k.transpose(-2, -1)) * scale\n"
            "    attn = attn.softmax(dim=-1)\n    return attn @ v\n",
            finding=True,
        ),
        keep(
            "import torch\n\ndef attend(q, k, v, mask, dropout):\n"
            "    scores = torch.matmul(q, k.transpose(-1, -2)) / 8\n"
            "    scores = scores.masked_fill(mask, -1e9)\n"
            "    probs = dropout(torch.softmax(scores, dim=-1))\n"
            "    return torch.matmul(probs, v)\n",
            finding=True,
        ),
        keep(
            "def attend(q, k, v, bias):\n    attn = q @ k.transpose(-2, -1) + bias\n"
            "    return attn.softmax(-1) @ v\n",
            finding=False,
            note="a bias is added",
        ),
        keep(
            "def attend(self, q, k, v):\n    attn = (q @ k.transpose(-2, -1)).softmax(-1)\n"
            "    attn = self.mix(attn)\n    return attn @ v\n",
            finding=False,
            note="the weights pass through a layer",
        ),
        keep(
            "import torch.nn.functional as F\n\ndef attend(q, k, v, fused):\n    if fused:\n"
            "        return F.scaled_dot_product_attention(q, k, v)\n"
            "    return (q @ k.transpose(-2, -1)).softmax(-1) @ v\n",
            finding=False,
        ),
        keep("def f(x, w):\n    return (x @ w).softmax(-1)\n", finding=False),
        keep("def f(x, w):\n    return x.softmax(-1) @ w\n", finding=False),
    ],
)
def written_out_attention(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for attention that is written out: `softmax(q @ k.T) @ v`.

    ## Why it matters
    `torch.nn.functional.scaled_dot_product_attention` is one operator on CUDA and on an NPU, where
    it runs as `npu_fusion_attention`, and it does not keep the matrix of all weights in memory.

    ## What it does
    Reports a softmax of a product that is multiplied again, in functions that do not call
    `scaled_dot_product_attention` for another case. Scores to which numbers are added (a position
    bias, a mask of numbers) and weights that pass through a layer are left out: the fused operator
    does not take them.

    ## Safety
    Reported only: the call returns no weights, and scales by itself unless it is given `scale`.

    ## What to do by hand
    Call `scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)` with tensors of four
    dimensions (batch, heads, length, size). On an NPU the fused operator takes no mask or one of
    truth values; with a mask of numbers torch_npu computes it step by step.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.scaled_dot_product_attention.html
    - Ascend/op-plugin 517f2e7d, op_plugin/ops/opapi/ScaledDotProductAttentionKernelNpuOpApi.cpp
      (2026-08-21)
    """
    call = site.call
    if call is None or (site.kind == "attribute" and site.name):
        return
    module = site.module
    function = module.function(site.node)
    if function is None or _calls_fused(module, function):
        return
    if site.kind == "name":
        scores = argument(call, 0, "input")
    else:
        scores = site.node.value
        if isinstance(scores, ast.Attribute) or not (call.args or call.keywords):
            return
    if _from_product(module, scores, site.node) and _is_multiplied(module, call):
        yield site.advice(
            "scaled_dot_product_attention does this in one operator, on an NPU too (for four "
            "dimensions, and no mask or one of truth values)",
            span=module.span(call),
        )


def _calls_fused(module: Module, function: Any) -> bool:
    fused = "scaled_dot_product_attention", "npu_fusion_attention", "flash_attn_func"
    for name in fused:
        found = [*module.attributes.get(name, ())]
        if any(module.function(node) is function for node in found):
            return True
    return any(isinstance(n, ast.Name) and n.id in fused for n in ast.walk(function))


def _is_product(module: Module, node: Any) -> bool:
    if isinstance(node, ast.BinOp):
        return isinstance(node.op, ast.MatMult)
    if not isinstance(node, ast.Call):
        return False
    name = module.name_of(node.func)
    last = name.removeprefix("torch.") if name else getattr(node.func, "attr", "")
    return last in _PRODUCTS


def _from_product(module: Module, node: Any, at: Any, depth: int = 0) -> bool:
    """Whether scores are a product of two matrices, at most scaled, reshaped, or masked by truth."""
    if depth > 6 or node is None:
        return False
    if _is_product(module, node):
        return True
    if isinstance(node, ast.BinOp) and isinstance(node.op, (ast.Mult, ast.Div)):
        sides = (node.left, node.right)
        return any(_from_product(module, side, at, depth + 1) for side in sides)
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        if module.name_of(node.func) or node.func.attr not in _HARMLESS:
            return False
        return _from_product(module, node.func.value, at, depth + 1)
    if isinstance(node, ast.Name):
        values = _values(module, node, at)
        return (
            bool(values)
            and all(
                _from_product(module, v, at, depth + 1) or _is_own_update(v, node.id)
                for v in values
            )
            and any(_from_product(module, v, at, depth + 1) for v in values)
        )
    return False


#: Methods that scores may pass through, none of which adds numbers to them.
_HARMLESS = frozenset(
    "float half to type type_as masked_fill view reshape mul div contiguous unsqueeze".split()
)
#: Methods that weights may pass through.
_CASTS = frozenset({"to", "type_as", "float", "half", "type", "contiguous"})


def _is_own_update(value: Any, name: str) -> bool:
    """`scores = scores / d`, `scores = scores.masked_fill(mask, x)`."""
    if isinstance(value, ast.BinOp) and isinstance(value.op, (ast.Mult, ast.Div)):
        return isinstance(value.left, ast.Name) and value.left.id == name
    function = getattr(value, "func", None)
    return (
        isinstance(function, ast.Attribute)
        and function.attr in (*_HARMLESS, "softmax")
        and isinstance(function.value, ast.Name)
        and function.value.id == name
    )


def _is_multiplied(module: Module, weights: Any, depth: int = 0) -> bool:
    """Whether weights, as they are or through a dropout or a cast, are the left of a product."""
    if depth > 6:
        return False
    parent: Any = weights.parent
    if isinstance(parent, ast.BinOp):
        return isinstance(parent.op, ast.MatMult) and parent.left is weights
    if isinstance(parent, ast.Call):
        return _call_multiplies(module, parent, weights, depth)
    if isinstance(parent, ast.Attribute):
        call: Any = parent.parent  # type: ignore[attr-defined]
        if not isinstance(call, ast.Call) or call.func is not parent:
            return False
        return parent.attr in _PRODUCTS or (
            parent.attr in _CASTS and _is_multiplied(module, call, depth + 1)
        )
    if isinstance(parent, ast.Assign) and len(parent.targets) == 1:
        return _variable_is_multiplied(module, parent, depth)
    return False


def _call_multiplies(module: Module, call: ast.Call, weights: Any, depth: int) -> bool:
    """Whether a call multiplies the weights, or is a dropout whose result is multiplied."""
    last = getattr(call.func, "attr", getattr(call.func, "id", ""))
    if _is_product(module, call):
        return weights in call.args[1:] if last == "einsum" else call.args[:1] == [weights]
    drops = "drop" in last.lower() and call.args[:1] == [weights]
    return drops and _is_multiplied(module, call, depth + 1)


def _variable_is_multiplied(module: Module, statement: ast.Assign, depth: int) -> bool:
    target = statement.targets[0]
    owner = module.scope(target).owner(target.id) if isinstance(target, ast.Name) else None
    if owner is None or not isinstance(target, ast.Name):
        return False
    start = module.end(statement)
    later = [
        module.end(module.statement(b.node))
        for b in owner.bindings.get(target.id, [])
        if module.start(b.node) >= start
    ]
    # Behind its next assignment the variable is something else.
    end = min(later, default=len(module.text))
    return any(
        start <= module.start(use) < end and _is_multiplied(module, use, depth + 1)
        for use in owner.uses(target.id)
    )
