"""What is surely a tensor, a mask, or on the CPU: for advice, which must not guess.

An expression of which this module says nothing may well be a tensor, but advice about it could be
wrong.
"""

from __future__ import annotations

import ast
from typing import Any

from porter.module import Module
from porter.site import Site

from ._match import argument

#: How many assignments and calls are followed.
DEPTH = 8
#: Functions that make a tensor, on the CPU unless they are given a device.
MAKERS = frozenset(
    f"torch.{n}"
    for n in (
        "arange as_tensor empty eye full from_numpy linspace logspace ones rand randint randn "
        "randperm tensor zeros"
    ).split()
)
#: Functions of torch whose result is one tensor of the device of their first argument.
_LIKE = frozenset(
    f"torch.{n}"
    for n in (
        "abs addmm baddbmm bmm cat clamp clone concat concatenate cumsum diff einsum empty_like exp "
        "flatten full_like gather index_select log matmul maximum mean minimum mm mul norm "
        "ones_like rand_like randn_like relu reshape rsqrt sigmoid softmax sqrt square squeeze "
        "stack sum tanh transpose unsqueeze where zeros_like"
    ).split()
)
_MASKS = frozenset(
    "eq ne gt ge lt le isnan isinf isfinite logical_and logical_or logical_not logical_xor "
    "isclose".split()
)
#: Methods of tensors that return something else.
_NOT_TENSOR = frozenset(
    "item tolist numpy size dim numel data_ptr stride storage backward chunk split unbind topk "
    "sort is_contiguous element_size get_device nelement ndimension type new untyped_storage "
    "requires_grad_ register_hook unique aminmax is_floating_point".split()
)
#: Attributes of tensors that are tensors.
_VIEWS = frozenset({"T", "mT", "data", "grad", "real", "imag"})
#: Methods and functions that return a tuple of tensors.
_PARTS = frozenset({"chunk", "split", "unbind", "tensor_split"})


def is_tensor(module: Module, node: Any, depth: int = 0) -> bool:
    """Whether an expression is surely one tensor."""
    if depth > DEPTH or node is None:
        return False
    if isinstance(node, ast.Call):
        return _call_gives_tensor(module, node, depth)
    if isinstance(node, ast.Attribute):
        return node.attr in _VIEWS and is_tensor(module, node.value, depth + 1)
    if isinstance(node, ast.Subscript):
        return is_tensor(module, node.value, depth + 1)
    if isinstance(node, ast.BinOp):
        return is_tensor(module, node.left, depth + 1) or is_tensor(module, node.right, depth + 1)
    if isinstance(node, ast.UnaryOp):
        return not isinstance(node.op, ast.Not) and is_tensor(module, node.operand, depth + 1)
    if isinstance(node, ast.Compare):
        return is_mask(module, node, depth + 1)
    if isinstance(node, ast.Name):
        return _all_bindings(module, node, depth, is_tensor)
    return False


def _call_gives_tensor(module: Module, call: ast.Call, depth: int) -> bool:
    name = module.name_of(call.func)
    if name:
        return (
            name in MAKERS
            or name in _LIKE
            or name.removeprefix("torch.") in _MASKS
            or name.startswith("torch.nn.functional.")
        )
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr not in _NOT_TENSOR
        and not _pair(call)
        and is_tensor(module, call.func.value, depth + 1)
    )


def _pair(call: ast.Call) -> bool:
    """`x.max(dim)` and the like return values and indices."""
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr in ("max", "min", "median", "mode", "kthvalue", "cummax", "cummin")
        and bool(call.args or call.keywords)
    )


def is_mask(module: Module, node: Any, depth: int = 0) -> bool:
    """Whether an expression is surely a tensor of truth values."""
    if depth > DEPTH or node is None:
        return False
    if isinstance(node, ast.Compare):
        plain = all(
            isinstance(op, (ast.Lt, ast.LtE, ast.Gt, ast.GtE, ast.Eq, ast.NotEq)) for op in node.ops
        )
        sides = (node.left, *node.comparators)
        return plain and any(is_tensor(module, side, depth + 1) for side in sides)
    if isinstance(node, ast.UnaryOp):
        return isinstance(node.op, ast.Invert) and is_mask(module, node.operand, depth + 1)
    if isinstance(node, ast.BinOp):
        both = isinstance(node.op, (ast.BitAnd, ast.BitOr, ast.BitXor))
        return both and all(is_mask(module, side, depth + 1) for side in (node.left, node.right))
    if isinstance(node, ast.Call):
        name = module.name_of(node.func)
        if name:
            return name.startswith("torch.") and name.removeprefix("torch.") in _MASKS
        function = node.func
        return (
            isinstance(function, ast.Attribute)
            and (function.attr in _MASKS or function.attr == "bool")
            and is_tensor(module, function.value, depth + 1)
        )
    if isinstance(node, ast.Name):
        return _all_bindings(module, node, depth, is_mask)
    return False


def _all_bindings(module: Module, name: ast.Name, depth: int, holds: Any) -> bool:
    owner = module.scope(name).owner(name.id)
    bindings = owner.bindings.get(name.id, []) if owner is not None else []
    return bool(bindings) and all(_binds(module, b, depth, holds) for b in bindings)


def _binds(module: Module, binding: Any, depth: int, holds: Any) -> bool:
    if binding.kind == "param":
        return holds is is_tensor and _parameter_is_tensor(module, binding)
    if binding.kind == "augment":
        return True
    if binding.kind != "assign":
        return False
    if binding.value is not None:
        return bool(holds(module, binding.value, depth + 1))
    return holds is is_tensor and _is_part(module, binding.node, depth)


def _is_part(module: Module, node: Any, depth: int) -> bool:
    """`a, b = x.chunk(2)`."""
    parent = node.parent
    statement = getattr(parent, "parent", None)
    if not isinstance(parent, ast.Tuple) or not isinstance(statement, ast.Assign):
        return False
    return parts_of(module, statement.value, depth) is not None


def parts_of(module: Module, value: Any, depth: int = 0) -> ast.expr | None:
    """The tensor of which `x.chunk(2)` or `torch.chunk(x, 2)` gives parts."""
    if not isinstance(value, ast.Call):
        return None
    name = module.name_of(value.func)
    if name:
        whole = argument(value, 0, "input") if name.startswith("torch.") else None
        return whole if name.removeprefix("torch.") in _PARTS else None
    function = value.func
    if isinstance(function, ast.Attribute) and function.attr in _PARTS:
        return function.value if is_tensor(module, function.value, depth + 1) else None
    return None


def imports_torch(module: Module) -> bool:
    """Whether a file imports torch or something of it."""
    return module.once(
        "imports torch",
        lambda: any(
            module.absolute(b.target).partition(".")[0] == "torch"
            for scope in module.root.descendants()
            for bindings in scope.bindings.values()
            for b in bindings
            if b.kind == "import"
        ),
    )


# Parameters -------------------------------------------------------------------------------------


def _parameter_is_tensor(module: Module, binding: Any) -> bool:
    annotation = binding.node.annotation
    if annotation is not None:
        return _names_tensor(module, annotation)
    function = getattr(binding.node.parent, "parent", None)
    if not isinstance(function, ast.FunctionDef) or function.name != "forward":
        return False
    first = [*function.args.posonlyargs, *function.args.args][1:2]
    # The first argument of a module's `forward` is a tensor more often than all else, but it can
    # be a list or a dictionary: only what is not taken apart as one counts.
    return (
        binding.node in first and in_module(module, function) and not _taken_apart(module, binding)
    )


def _names_tensor(module: Module, annotation: Any) -> bool:
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        return annotation.value in ("torch.Tensor", "Tensor")
    if isinstance(annotation, ast.Subscript):
        outer = module.name_of(annotation.value)
        return outer == "typing.Optional" and _names_tensor(module, annotation.slice)
    if isinstance(annotation, ast.BinOp):
        sides = (annotation.left, annotation.right)
        others = [s for s in sides if not _names_tensor(module, s)]
        return len(others) == 1 and isinstance(others[0], ast.Constant)
    return module.name_of(annotation) == "torch.Tensor"


def in_module(module: Module, function: Any) -> bool:
    """Whether a function is a method of a class that derives from `torch.nn.Module`."""
    owner = module.enclosing_class(function)
    return (
        owner is not None
        and function in owner.body
        and any(is_module_class(module, base) for base in owner.bases)
    )


def is_module_class(module: Module, base: ast.expr, depth: int = 0) -> bool:
    """Whether a base of a class is `torch.nn.Module`, or a class of this file that derives from it."""
    if module.name_of(base) == "torch.nn.Module":
        return True
    if not isinstance(base, ast.Name) or depth > DEPTH:
        return False
    owner = module.scope(base).owner(base.id)
    bindings = owner.bindings.get(base.id, []) if owner is not None else []
    return len(bindings) == 1 and (
        isinstance(bindings[0].node, ast.ClassDef)
        and any(is_module_class(module, b, depth + 1) for b in bindings[0].node.bases)
    )


def _taken_apart(module: Module, binding: Any) -> bool:
    scope = module.scopes[id(binding.node.parent.parent)]
    for use in scope.uses(binding.node.arg):
        parent: Any = use.parent  # type: ignore[attr-defined]
        if isinstance(parent, (ast.For, ast.comprehension, ast.Starred)):
            return True
        if isinstance(parent, ast.Subscript) and _is_text(parent.slice):
            return True
        if isinstance(parent, ast.Call) and getattr(parent.func, "id", "") in ("len", "isinstance"):
            return True
        if isinstance(parent, ast.Attribute) and parent.attr in ("keys", "values", "items", "get"):
            return True
    return False


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


# The CPU ----------------------------------------------------------------------------------------


def on_cpu(module: Module, node: Any, depth: int = 0) -> bool:
    """Whether an expression is surely on the CPU: made there and not moved, or brought there."""
    if depth > DEPTH or node is None:
        return False
    if isinstance(node, ast.Call):
        name = module.name_of(node.func)
        if name:
            return _made_on_cpu(module, node, name, depth)
        if not isinstance(node.func, ast.Attribute):
            return False
        if node.func.attr in ("cpu", "numpy", "tolist", "item"):
            return True
        if node.func.attr in ("to", "cuda", "npu", "type", "to_empty"):
            device = argument(node, 0, "device")
            stays = device is None or module.name_of(device).startswith("torch.")
            return is_cpu(module, device) or (
                node.func.attr in ("to", "type")
                and stays
                and on_cpu(module, node.func.value, depth + 1)
            )
        return on_cpu(module, node.func.value, depth + 1)
    if isinstance(node, (ast.Subscript, ast.Attribute)):
        return on_cpu(module, node.value, depth + 1)
    if isinstance(node, ast.UnaryOp):
        return on_cpu(module, node.operand, depth + 1)
    if isinstance(node, ast.BinOp):
        return on_cpu(module, node.left, depth + 1) or on_cpu(module, node.right, depth + 1)
    if isinstance(node, ast.Compare):
        return any(on_cpu(module, n, depth + 1) for n in (node.left, *node.comparators))
    if isinstance(node, ast.Name):
        owner = module.scope(node).owner(node.id)
        bindings = owner.bindings.get(node.id, []) if owner is not None else []
        return bool(bindings) and all(
            b.kind in ("assign", "augment") and on_cpu(module, b.value, depth + 1) for b in bindings
        )
    return False


def _made_on_cpu(module: Module, call: ast.Call, name: str, depth: int) -> bool:
    device = next((k.value for k in call.keywords if k.arg == "device"), None)
    if device is not None:
        return is_cpu(module, device)
    if name in MAKERS:
        if "set_default_device" in module.attributes:
            return False
        return name != "torch.as_tensor" or not any(is_tensor(module, a) for a in call.args)
    if name.startswith(("numpy.", "PIL.", "cv2.")):
        return True
    first = call.args[0] if call.args else None
    if isinstance(first, (ast.List, ast.Tuple)):
        first = first.elts[0] if first.elts else None
    return name.startswith("torch.") and on_cpu(module, first, depth + 1)


def is_cpu(module: Module, device: Any) -> bool:
    """Whether an expression surely is the CPU as a device."""
    if isinstance(device, ast.Name):
        owner = module.scope(device).owner(device.id)
        bindings = owner.bindings.get(device.id, []) if owner is not None else []
        device = bindings[0].value if len(bindings) == 1 and bindings[0].kind == "assign" else None
    if isinstance(device, ast.Call) and module.name_of(device.func) == "torch.device":
        device = device.args[0] if device.args else None
    return isinstance(device, ast.Constant) and device.value == "cpu"


def first_of(site: Site, what: str, place: Any = None) -> bool:
    """Whether this is the first site in a place (the statement, or another node) with this key."""
    module = site.module
    where = module.statement(site.node) if place is None else place
    seen: set[tuple[int, str]] = module.memo.setdefault("advice given", set())
    key = (id(where), what)
    if key in seen:
        return False
    seen.add(key)
    return True


def loop_around(module: Module, node: Any) -> Any:
    """The innermost loop of the same function in whose body a node stands, or None."""
    child: Any = node
    for parent in module.parents(node):
        if isinstance(parent, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef)):
            return None
        if isinstance(parent, (ast.For, ast.While)) and child in parent.body:
            return parent
        child = parent
    return None
