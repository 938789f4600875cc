"""POR35x: the legacy tensor types, `torch.cuda.FloatTensor` and its kin.

https://docs.pytorch.org/docs/stable/tensors.html
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from porter.module import Module
from porter.rule import Category, Edit, Finding, Safety, change, keep, rule
from porter.scope import parent_of
from porter.site import Site
from porter.targets import ACCELERATOR_SINCE, Target

from ._match import (
    TOO_OLD,
    argument_span,
    attribute_token,
    device_expression,
    has_star,
    open_parenthesis,
    torch_at,
    wrapped,
)
from .device import NAME_TAKEN, npu_import

MARKERS = (r"cuda\.\w*Tensor",)
EXPORTED = ("torch.cuda",)

#: The types of torch.cuda (torch 2.14, torch/cuda/__init__.py) and their dtypes. torch_npu 2.13
#: has all of them, also as torch.npu.FloatTensor etc.
DTYPES = {
    "FloatTensor": "float32",
    "DoubleTensor": "float64",
    "HalfTensor": "float16",
    "BFloat16Tensor": "bfloat16",
    "ByteTensor": "uint8",
    "CharTensor": "int8",
    "ShortTensor": "int16",
    "IntTensor": "int32",
    "LongTensor": "int64",
    "BoolTensor": "bool",
}
NAMES = tuple(f"torch.cuda.{t}" for t in DTYPES)
STRING = rf"^torch\.cuda\.({'|'.join(DTYPES)})$"
SET_DEFAULT = "torch.set_default_tensor_type"


def _dtype(name: str) -> str:
    return DTYPES[name.rpartition(".")[2]]


# POR351 ---------------------------------------------------------------------------------------


@rule(
    "POR351",
    "cuda-tensor-type",
    names=NAMES,
    effort=3,
    examples=[
        change(
            "import torch\n\ndef f(n):\n    return torch.cuda.FloatTensor([1.0, 2.0])\n",
            "import torch\n\ndef f(n):\n    device = torch.accelerator.current_accelerator()\n    return torch.tensor([1.0, 2.0], dtype=torch.float32, device=device)\n",
            "import torch\n\ndef f(n):\n    return torch.npu.FloatTensor([1.0, 2.0])\n",
        ),
        change(
            "import torch\n\ndef f(x, n):\n    noise = torch.cuda.FloatTensor(n, 3).normal_()\n    index = torch.cuda.LongTensor(x.size()).fill_(0)\n    return noise, index\n",
            "import torch\n\ndef f(x, n):\n    device = torch.accelerator.current_accelerator()\n    noise = torch.empty(n, 3, dtype=torch.float32, device=device).normal_()\n    index = torch.empty(x.size(), dtype=torch.int64, device=device).fill_(0)\n    return noise, index\n",
            "import torch\n\ndef f(x, n):\n    noise = torch.npu.FloatTensor(n, 3).normal_()\n    index = torch.npu.LongTensor(x.size()).fill_(0)\n    return noise, index\n",
            note="sizes make an empty tensor",
        ),
        change(
            "import torch\n\ndef f(x):\n    return x.type(torch.cuda.FloatTensor)\n",
            "import torch\n\ndef f(x):\n    return x.to(torch.accelerator.current_accelerator(), torch.float32)\n",
            "import torch\n\ndef f(x):\n    return x.type(torch.npu.FloatTensor)\n",
        ),
        change(
            "import torch\n\ndef f(use):\n    return torch.cuda.FloatTensor if use else torch.FloatTensor\n",
            None,
            "import torch\n\ndef f(use):\n    return torch.npu.FloatTensor if use else torch.FloatTensor\n",
            note="a type that is handed around is left for the accelerator",
        ),
        keep("import torch\nx = torch.FloatTensor([1.0])\n", finding=False),
        keep("class cuda:\n    FloatTensor = int\n\nx = cuda.FloatTensor(3)\n", finding=False),
    ],
)
def cuda_tensor_type(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.cuda.FloatTensor` and the other tensor types of CUDA.

    ## Why it matters
    They exist for CUDA alone; there is no type for "the accelerator".

    ## What it does
    npu: torch_npu has a type of the same name for each, used in the same ways.

    accelerator: a call with data (a list, a comprehension, an array made in place) becomes
    `torch.tensor(data, dtype=..., device=...)`, one with sizes `torch.empty(...)`.
    `.type(torch.cuda.FloatTensor)` becomes `.to(device, torch.float32)`. A single argument that
    may be either is left, and so is a type that is stored, passed on or compared.

    ## Safety
    `Module.type()` casts integer buffers too, `.to(dtype)` only those of floating point.

    ## References
    - https://docs.pytorch.org/docs/stable/tensors.html
    - torch_npu 2.13, torch_npu.npu.FloatTensor etc.
    """
    if site.kind == "import" or site.stored:
        return
    if _is_default(site):
        return
    if not site.certain:
        yield site.gap("this name has another meaning too; check both")
        return
    if not target.agnostic:
        torch = torch_at(site)
        if torch is None:
            yield site.gap(NAME_TAKEN)
            return
        last = site.name.rpartition(".")[2]
        yield site.replace(f"{torch[0]}.npu.{last}", imports=(*torch[1], *npu_import(target)))
        return
    if not target.has(ACCELERATOR_SINCE):
        yield site.gap(TOO_OLD)
    elif site.call is not None:
        yield _constructed(site, site.call)
    elif (cast := _type_call(site.node)) is not None:
        yield _cast(site, cast, _dtype(site.name))
    else:
        yield site.gap(_advice(site), native_only=True)


def _advice(site: Site) -> str:
    dtype = _dtype(site.name)
    if isinstance(site.parent, ast.Call) and getattr(site.parent.func, "id", "") == "isinstance":
        return f'ask x.dtype == torch.{dtype} and x.device.type not in ("cpu", "meta") instead'
    return (
        f"there is no such type for any accelerator; keep a device and dtype=torch.{dtype}, and "
        "call torch.tensor, torch.empty or .to(device, dtype) where the type is used"
    )


def _is_default(site: Site) -> bool:
    """Whether POR353 looks at the type: it is an argument of set_default_tensor_type."""
    for parent in site.module.parents(site.node):
        if isinstance(parent, ast.stmt):
            return False
        if isinstance(parent, ast.Call) and site.module.name_of(parent.func) == SET_DEFAULT:
            return True
    return False


def _type_call(node: Any) -> ast.Call | None:
    """`x.type(node, ...)`."""
    call = node.parent
    if not (isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute)):
        return None
    return call if call.func.attr == "type" and call.args[:1] == [node] else None


def _cast(site: Site, call: ast.Call, dtype: str) -> Finding:
    """`x.type(T, non_blocking)` as `x.to(device, dtype, non_blocking)`."""
    function: Any = call.func
    token = attribute_token(site.module, function)
    device = device_expression(site)
    torch = torch_at(site)
    if token is None or has_star(call):
        return site.gap(f"write .to(device, torch.{dtype}) by hand", native_only=True)
    if device is None or torch is None:
        return site.gap(NAME_TAKEN)
    return site.finding(
        Edit.of(*token, "to"),
        Edit.of(site.start, site.end, device.part, f", {torch[0]}.{dtype}"),
        imports=(*device.imports, *torch[1]),
        span=(token[0], site.module.end(call)),
    )


def _constructed(site: Site, call: ast.Call) -> Finding:
    """A call of the type as torch.tensor or torch.empty."""
    module, dtype = site.module, _dtype(site.name)
    kind = _argument_kind(module, call)
    if not kind:
        return site.gap(
            f"the argument may be data or sizes; write torch.tensor(data, dtype=torch.{dtype}, "
            f"device=device) or torch.empty(sizes, dtype=torch.{dtype}, device=device)",
            native_only=True,
        )
    device, torch = device_expression(site), torch_at(site)
    if device is None or torch is None:
        return site.gap(NAME_TAKEN)
    name = Edit.of(site.start, site.end, f"{torch[0]}.{kind}")
    more = (f"dtype={torch[0]}.{dtype}, device=", device.part)
    if call.args:
        end = argument_span(module, call.args[-1])[1]
        last = Edit.of(end, end, ", ", *more)
    else:
        opening = open_parenthesis(module, call)
        last = Edit.of(opening - 1, opening, "(0, ", *more)
    return site.finding(
        name, last, imports=(*device.imports, *torch[1]), span=(site.start, module.end(call))
    )


def _argument_kind(module: Module, call: ast.Call) -> str:
    """ "tensor" for data, "empty" for sizes, "" where that is not certain."""
    if call.keywords:
        return ""
    if not call.args:
        return "empty"
    if any(isinstance(a, ast.Starred) for a in call.args):
        return "empty" if all(_is_size_tuple(module, a) for a in call.args) else ""
    if len(call.args) > 1:
        return "empty"
    return _kind(module, call.args[0])


def _is_size_tuple(module: Module, node: ast.expr) -> bool:
    if not isinstance(node, ast.Starred):
        return True
    value = node.value.value if isinstance(node.value, ast.Subscript) else node.value
    word = getattr(value, "attr", getattr(value, "id", ""))
    return _kind(module, value) == "empty" or bool(
        re.search(r"(^|_)(size|shape|sizes|dims)$", word)
    )


#: Calls that give numbers, or a torch.Size, which the types take as sizes.
_SIZES = frozenset({"len", "int"})


def _kind(module: Module, node: ast.expr, depth: int = 0) -> str:
    if isinstance(node, (ast.List, ast.ListComp, ast.Tuple)):
        return "tensor"
    if isinstance(node, ast.Constant):
        return "empty" if type(node.value) is int else ""
    if isinstance(node, ast.BinOp):
        sides = {_kind(module, node.left, depth), _kind(module, node.right, depth)}
        if isinstance(node.op, (ast.Add, ast.Mult)) and "tensor" in sides:
            return "tensor"
        return "empty" if sides == {"empty"} else ""
    if isinstance(node, ast.Subscript):
        # The shape of an array is a tuple, which counts as data; one entry of it is a size.
        shape = isinstance(node.value, ast.Attribute) and node.value.attr == "shape"
        if shape and not isinstance(node.slice, ast.Slice):
            return "empty"
        return "empty" if _kind(module, node.value, depth) == "empty" else ""
    if isinstance(node, ast.Call):
        return _call_kind(module, node)
    if isinstance(node, ast.Name) and depth < 3:
        owner = module.scope(node).owner(node.id)
        values = [b.value for b in owner.bindings[node.id]] if owner is not None else []
        if len(values) == 1 and values[0] is not None and not isinstance(values[0], ast.Tuple):
            return _kind(module, values[0], depth + 1)
    return ""


def _call_kind(module: Module, node: ast.Call) -> str:
    if isinstance(node.func, ast.Name) and node.func.id in _SIZES:
        return "empty"
    if isinstance(node.func, ast.Attribute) and node.func.attr in ("size", "numel"):
        return "empty"
    if isinstance(node.func, ast.Attribute) and node.func.attr == "tolist":
        return "tensor"
    name = module.name_of(node.func)
    arrays = ("numpy.array", "numpy.asarray", "numpy.zeros", "numpy.ones", "numpy.random.normal")
    return "tensor" if name in arrays else ""


# POR352 ---------------------------------------------------------------------------------------


@rule(
    "POR352",
    "cuda-tensor-type-string",
    strings=STRING,
    effort=3,
    examples=[
        change(
            'import torch\n\ndef f(x):\n    return x.type("torch.cuda.HalfTensor")\n',
            "import torch\n\ndef f(x):\n    return x.to(torch.accelerator.current_accelerator(), torch.float16)\n",
            'import torch\n\ndef f(x):\n    return x.type("torch.npu.HalfTensor")\n',
        ),
        change(
            'import torch\n\ndef f(x):\n    if x.type() == "torch.cuda.FloatTensor":\n        return x\n',
            'import torch\n\ndef f(x):\n    if x.dtype == torch.float32 and x.device.type not in ("cpu", "meta"):\n        return x\n',
            'import torch\n\ndef f(x):\n    if x.type() == "torch.npu.FloatTensor":\n        return x\n',
        ),
        keep('def f(make):\n    return make("torch.cuda.FloatTensor")\n', finding=True),
        keep('"""torch.cuda.FloatTensor"""\n', finding=False),
        keep('NAME = "my.torch.cuda.FloatTensor"\n', finding=False),
    ],
)
def cuda_tensor_type_string(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `"torch.cuda.FloatTensor"` and its kin as strings.

    ## Why it matters
    `x.type()` gives another text on another device, and `x.type(text)` moves to CUDA.

    ## What it does
    npu: `"torch.npu.FloatTensor"`. accelerator: `x.type(text)` becomes `.to(device, dtype)`, and
    `x.type() == text` asks for the dtype and for the device's type. Other uses are left.

    ## Safety
    A comparison is rewritten only where its receiver is a plain name, since it is read twice then.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.Tensor.type.html
    """
    if isinstance(site.parent, ast.Expr) or _is_default(site):
        return
    cast, comparison = _type_call(site.node), _type_comparison(site)
    if cast is None and comparison is None:
        yield site.gap(
            "the name of a type in a string; write the target's device and dtype instead",
            category=Category.POTENTIAL,
        )
        return
    if not site.module.exact(site.node):
        yield site.gap("the string is part of a concatenation; write device and dtype by hand")
        return
    if not target.agnostic:
        start = site.module.text.find("cuda", site.start, site.end)
        if start < 0:
            yield site.gap("the name is written with escapes; write it by hand")
            return
        yield site.finding(Edit.of(start, start + 4, "npu"), imports=npu_import(target))
        return
    if not target.has(ACCELERATOR_SINCE):
        yield site.gap(TOO_OLD)
    elif cast is not None:
        yield _cast(site, cast, _dtype(site.node.value))
    elif comparison is not None:
        yield _compared(site, comparison)


def _type_comparison(site: Site) -> ast.Compare | None:
    """`x.type() == "..."`."""
    node = site.parent
    if not (isinstance(node, ast.Compare) and node.comparators == [site.node]):
        return None
    left = node.left
    if not (isinstance(left, ast.Call) and isinstance(left.func, ast.Attribute)):
        return None
    return node if left.func.attr == "type" and not (left.args or left.keywords) else None


def _compared(site: Site, node: ast.Compare) -> Finding:
    dtype = _dtype(site.node.value)
    torch = torch_at(site)
    left: Any = node.left
    receiver = site.module.segment(left.func.value)
    plain = re.fullmatch(r"\w+(\.\w+)*", receiver) is not None
    if torch is None or not plain or not isinstance(node.ops[0], ast.Eq):
        return site.gap(
            f'compare x.dtype with torch.{dtype}, and ask x.device.type not in ("cpu", "meta")'
        )
    text = (
        f'{receiver}.dtype == {torch[0]}.{dtype} and {receiver}.device.type not in ("cpu", "meta")'
    )
    around = parent_of(node)
    joined = isinstance(around, ast.BoolOp) and isinstance(around.op, ast.And)
    span = site.module.span(node)
    new = text if joined else wrapped(text, node)
    return site.finding(Edit.of(*span, new), imports=torch[1], span=span)


# POR353 ---------------------------------------------------------------------------------------

_DEFAULT_REASON = (
    "torch.set_default_device does not reach the legacy constructors (torch.Tensor(2, 3) stays on "
    "the CPU) nor other threads; check what is created after it"
)


@rule(
    "POR353",
    "cuda-default-tensor-type",
    names=(SET_DEFAULT,),
    safety=Safety.UNSAFE,
    effort=3,
    examples=[
        change(
            'import torch\n\nif torch.cuda.is_available():\n    torch.set_default_tensor_type("torch.cuda.FloatTensor")\n',
            "import torch\n\nif torch.accelerator.is_available():\n    torch.set_default_dtype(torch.float32)\n    torch.set_default_device(torch.accelerator.current_accelerator())\n",
            'import torch\n\nif torch.npu.is_available():\n    torch.set_default_dtype(torch.float32)\n    torch.set_default_device("npu")\n',
            unsafe=True,
        ),
        change(
            "import torch\ntorch.set_default_tensor_type(torch.cuda.HalfTensor)\n",
            "import torch\ntorch.set_default_dtype(torch.float16)\ntorch.set_default_device(torch.accelerator.current_accelerator())\n",
            'import torch\ntorch.set_default_dtype(torch.float16)\ntorch.set_default_device("npu")\n',
            unsafe=True,
        ),
        keep(
            'import torch\ntorch.set_default_tensor_type("torch.cuda.FloatTensor")\n', finding=True
        ),
        keep("import torch\ntorch.set_default_tensor_type(torch.FloatTensor)\n", finding=False),
        keep(
            "import torch\n\ndef f(use):\n    torch.set_default_tensor_type(torch.cuda.FloatTensor if use else torch.FloatTensor)\n",
            finding=True,
            unsafe=True,
        ),
    ],
)
def cuda_default_tensor_type(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.set_default_tensor_type` with a type of CUDA.

    ## Why it matters
    From there on tensors are created on CUDA. torch_npu does not accept its types there.

    ## What it does
    Two statements: `torch.set_default_dtype(...)` and `torch.set_default_device(...)` (torch 2.0).

    ## Safety
    Unsafe. `torch.set_default_device` works by a mode of the current thread: it does not reach
    `torch.Tensor(2, 3)` and other legacy constructors, nor threads started later.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.set_default_device.html
    - https://docs.pytorch.org/docs/stable/generated/torch.set_default_tensor_type.html
    - Ascend/pytorch, docs/zh/api/native_api/pytorch_2-13-0/torch.md: torch.npu.DtypeTensor not
      supported by set_default_tensor_type
    """
    call = site.call
    if call is None or not call.args:
        return
    module, argument = site.module, call.args[0]
    if "cuda" not in re.sub(r"#[^\r\n]*", "", module.segment(argument)):
        return
    name = _default_name(module, argument)
    statement: Any = call.parent  # type: ignore[attr-defined]
    if not name or not isinstance(statement, ast.Expr) or len(call.args) > 1:
        yield site.gap(
            "call torch.set_default_dtype and torch.set_default_device with the target's device"
        )
        return
    torch = torch_at(site)
    if torch is None:
        yield site.gap(NAME_TAKEN)
        return
    if target.agnostic and not target.has(ACCELERATOR_SINCE):
        yield site.gap(TOO_OLD)
        return
    # The place of the call decides which device variable is in scope.
    device = device_expression(site) if target.agnostic else None
    if target.agnostic and device is None:
        yield site.gap(NAME_TAKEN)
        return
    span = module.span(statement)  # with parentheses around the call
    indent = module.index.lead(span[0])
    joint = "; " if indent is None else module.index.newline + indent
    found = site.finding(
        Edit.of(
            *span,
            f"{torch[0]}.set_default_dtype({torch[0]}.{_dtype(name)}){joint}",
            f"{torch[0]}.set_default_device(",
            device.part if device is not None else '"npu"',
            ")",
        ),
        imports=(*torch[1], *(device.imports if device is not None else npu_import(target))),
        safety=Safety.UNSAFE,
        reason=_DEFAULT_REASON,
        span=span,
    )
    yield replace(found, category=Category.MANDATORY)


def _default_name(module: Module, argument: ast.expr) -> str:
    """The type that is made the default, if it is one of CUDA for certain."""
    if isinstance(argument, ast.Constant) and isinstance(argument.value, str):
        return argument.value if re.search(STRING, argument.value) else ""
    found = module.resolve(argument)
    return found.name if found is not None and found.certain and found.name in NAMES else ""
