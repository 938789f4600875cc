"""What rule families share: guards, device values in scope, and how to spell a device."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from porter.module import Module
from porter.rule import Edit, Finding, Safety, Shared
from porter.scope import Binding, Scope
from porter.site import Site, needs_parentheses
from porter.targets import Target

AVAILABLE = frozenset(
    {
        "torch.cuda.is_available",
        "torch.cuda.is_initialized",
        "torch.npu.is_available",
        "torch.accelerator.is_available",
    }
)
COUNTS = frozenset(
    {"torch.cuda.device_count", "torch.npu.device_count", "torch.accelerator.device_count"}
)
ACCELERATOR = "accelerate.accelerator.Accelerator"
DEVICE_NAME = re.compile(
    r"(^|_)(device|dev|devices|device_type|device_name|device_str)(_?\d*)$", re.I
)
#: Other accelerators: a file that tells them apart has its own multi-device logic.
OTHER_ACCELERATORS = frozenset({"mps", "xpu", "npu", "hpu", "xla", "tpu", "musa", "mlu", "hip"})

CURRENT = "accelerator.current_accelerator()"
TOO_OLD = (
    "torch.accelerator exists since torch 2.6; raise the project's minimum (or --min-torch) to "
    "have this rewritten"
)

TOLD_APART = "this code tells several accelerators apart; decide which branch the target takes"


# Guards ---------------------------------------------------------------------------------------


def implies(test: ast.expr, truth: bool, module: Module, depth: int = 0) -> bool:
    """Whether `test` being `truth` means that an accelerator can be used."""
    if depth > 6:
        return False
    if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        return implies(test.operand, not truth, module, depth + 1)
    if isinstance(test, ast.BoolOp):
        one_is_enough = isinstance(test.op, ast.And) == truth
        choose = any if one_is_enough else all
        return choose(implies(v, truth, module, depth + 1) for v in test.values)
    if isinstance(test, ast.NamedExpr):
        return implies(test.value, truth, module, depth + 1)
    if isinstance(test, ast.Call):
        name = module.name_of(test.func)
        if name in AVAILABLE or name in COUNTS:
            return truth
        if isinstance(test.func, ast.Name) and test.func.id == "bool" and len(test.args) == 1:
            return implies(test.args[0], truth, module, depth + 1)
        return False
    if isinstance(test, ast.Compare) and len(test.ops) == 1:
        return _compare_implies(test, truth, module)
    if isinstance(test, ast.Attribute):
        if test.attr == "is_cuda":
            return truth
        return truth and _attribute_implies(test, module, depth)
    if isinstance(test, ast.Name):
        return _name_implies(test, truth, module, depth)
    return False


def _compare_implies(test: ast.Compare, truth: bool, module: Module) -> bool:
    left, op, right = test.left, test.ops[0], test.comparators[0]
    if isinstance(left, ast.Call) and module.name_of(left.func) in COUNTS:
        number = right.value if isinstance(right, ast.Constant) else 0
        if not isinstance(number, int):
            return False
        if isinstance(op, ast.Gt):
            return truth and number >= 0
        if isinstance(op, ast.GtE):
            return truth and number >= 1
        if isinstance(op, (ast.Eq, ast.LtE, ast.Lt)):
            return not truth and number in (0, 1)
        return False
    if isinstance(right, ast.Constant) and right.value in ("cuda", "npu"):
        if isinstance(op, ast.Eq):
            return truth
        if isinstance(op, ast.NotEq):
            return not truth
    return False


def _name_implies(test: ast.Name, truth: bool, module: Module, depth: int) -> bool:
    owner = module.scope(test).owner(test.id)
    if owner is None:
        return False
    values = [b.value for b in owner.bindings.get(test.id, ())]
    if not values or any(v is None for v in values):
        return False
    return all(
        implies(v, truth, module, depth + 1) or (truth and _is_constant(v, False))
        for v in values
        if v is not None
    ) and any(v is not None and not isinstance(v, ast.Constant) for v in values)


def _attribute_implies(test: ast.Attribute, module: Module, depth: int) -> bool:
    """`self.use_gpu` where every assignment to that attribute in the file implies it."""
    values = []
    for node in module.attributes.get(test.attr, ()):
        if isinstance(node.ctx, ast.Store):
            parent: Any = node.parent  # type: ignore[attr-defined]
            if not isinstance(parent, (ast.Assign, ast.AnnAssign)) or parent.value is None:
                return False
            values.append(parent.value)
    return bool(values) and all(
        implies(v, True, module, depth + 1) or _is_constant(v, False) for v in values
    )


def _is_constant(node: ast.AST, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value is value


def guarded(module: Module, node: ast.AST) -> bool:
    """Whether `node` is evaluated only where an accelerator can be used."""
    child: Any = node
    deferred = False
    for parent in module.parents(node):
        if _parent_guards(parent, child, module):
            return True
        if isinstance(parent, (ast.FunctionDef, ast.AsyncFunctionDef)):
            deferred = deferred or child in parent.body
        # Decorators decide whether a function's body runs; defaults, decorators and what stands
        # in the body of a class are evaluated whatever they say.
        if (
            deferred
            and isinstance(parent, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef))
            and child in parent.body
            and any(_decorator_guards(d, module) for d in parent.decorator_list)
        ):
            return True
        if isinstance(child, ast.stmt) and _earlier_exit(parent, child, module):
            return True
        child = parent
    return False


def _parent_guards(parent: Any, child: Any, module: Module) -> bool:
    if isinstance(parent, (ast.If, ast.While)):
        if child in parent.body:
            return implies(parent.test, True, module)
        return child in parent.orelse and implies(parent.test, False, module)
    if isinstance(parent, ast.IfExp):
        if child is parent.body:
            return implies(parent.test, True, module)
        return child is parent.orelse and implies(parent.test, False, module)
    if isinstance(parent, ast.BoolOp) and child in parent.values:
        earlier = parent.values[: parent.values.index(child)]
        return any(implies(v, isinstance(parent.op, ast.And), module) for v in earlier)
    return False


_REQUIRES = re.compile(
    r"require\w*_(gpu|cuda|accelerator)|(gpu|cuda)_only|skip_if_no_(gpu|cuda)", re.I
)


def _decorator_guards(decorator: ast.expr, module: Module) -> bool:
    function = decorator.func if isinstance(decorator, ast.Call) else decorator
    last = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if _REQUIRES.search(last):
        return True
    if isinstance(decorator, ast.Call) and decorator.args:
        if last.lower() in ("skipif",):
            return implies(decorator.args[0], False, module)
        if last.lower() == "skipunless":
            return implies(decorator.args[0], True, module)
    return False


def _earlier_exit(parent: Any, child: ast.stmt, module: Module) -> bool:
    """`if not available: return` or `assert available` before `child` in the same block."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(parent, name, None)
        if not isinstance(block, list) or child not in block:
            continue
        for statement in block[: block.index(child)]:
            if isinstance(statement, ast.Assert) and implies(statement.test, True, module):
                return True
            if (
                isinstance(statement, ast.If)
                and not statement.orelse
                and _leaves(statement.body[-1])
                and implies(statement.test, False, module)
            ):
                return True
    return False


def _leaves(statement: ast.stmt) -> bool:
    if isinstance(statement, (ast.Return, ast.Raise, ast.Continue, ast.Break)):
        return True
    if isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call):
        function = statement.value.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        return name in ("exit", "_exit", "skip", "skipTest")
    return False


def body_span(module: Module, node: ast.AST) -> tuple[int, int] | None:
    """The span that runs only where there is the device that `node` asks for.

    That is the body of an `if`, or where the answer is negated, its `else`, or what follows
    `if not ...: return`. None if the test guards nothing.
    """
    child: Any = node
    truth = not (isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.NotEq, ast.NotIn)))
    for parent in module.parents(node):
        if isinstance(parent, ast.If) and child is parent.test:
            block = parent.body if truth else parent.orelse or _behind_exit(parent)
            return (module.start(block[0]), module.end(block[-1])) if block else None
        if isinstance(parent, ast.IfExp) and child is parent.test:
            return module.span(parent.body if truth else parent.orelse)
        if isinstance(parent, ast.Assert) and child is parent.test and truth:
            block = _after(parent)
            return (module.start(block[0]), module.end(block[-1])) if block else None
        if isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not):
            truth = not truth
        elif not (
            isinstance(parent, ast.BoolOp) and isinstance(parent.op, ast.And if truth else ast.Or)
        ):
            return None
        child = parent
    return None


def _behind_exit(statement: Any) -> list[ast.stmt]:
    """What runs only if the test of `if ...: return` was false."""
    return _after(statement) if _leaves(statement.body[-1]) else []


def _after(statement: Any) -> list[ast.stmt]:
    """The statements behind one in its block."""
    for name in ("body", "orelse", "finalbody"):
        block = getattr(statement.parent, name, None)
        if isinstance(block, list) and statement in block:
            return block[block.index(statement) + 1 :]
    return []


# Device values in scope -----------------------------------------------------------------------


@dataclass(frozen=True)
class DeviceValue:
    """A variable that holds the accelerator's device.

    Args:
        text: how to write it.
        kind: "device" for a torch.device, "str" for a string.
    """

    text: str
    kind: str

    @property
    def type(self) -> str:
        """How to write the device's type as a string."""
        return self.text if self.kind == "str" else f"{self.text}.type"


def classify(value: ast.expr | None, module: Module, depth: int = 0) -> str:
    """ "device" or "str" if `value` is the accelerator's device, without index; else ""."""
    if value is None or depth > 4:
        return ""
    if isinstance(value, ast.Constant):
        return "str" if value.value in ("cuda", "npu") else ""
    if isinstance(value, ast.IfExp):
        # A flag may switch CUDA off where it is available; then the variable is not its device.
        if not is_availability(value.test, module) or _other_than_cpu(value.orelse, module):
            return ""
        return classify(value.body, module, depth + 1)
    if isinstance(value, ast.BoolOp) and isinstance(value.op, ast.Or):
        return classify(value.values[0], module, depth + 1)
    if isinstance(value, ast.Call):
        name = module.name_of(value.func)
        if name == "torch.device" and len(value.args) == 1 and not value.keywords:
            return "device" if classify(value.args[0], module, depth + 1) else ""
        if name == "torch.accelerator.current_accelerator":
            return "device"
        if isinstance(value.func, ast.Name) and not value.args and not value.keywords:
            return _returns(value.func, module, depth)
        return ""
    if isinstance(value, ast.Attribute) and value.attr == "type":
        return "str" if classify(value.value, module, depth + 1) == "device" else ""
    return ""


def is_availability(test: ast.expr, module: Module, depth: int = 0) -> bool:
    """Whether `test` is true exactly where an accelerator can be used."""
    if isinstance(test, ast.Call):
        if module.name_of(test.func) in AVAILABLE:
            return True
        return (
            isinstance(test.func, ast.Name)
            and test.func.id == "bool"
            and len(test.args) == 1
            and is_availability(test.args[0], module, depth)
        )
    if isinstance(test, ast.Name) and depth < 4:
        owner = module.scope(test).owner(test.id)
        bindings = owner.bindings.get(test.id, []) if owner else []
        value = bindings[0].value if len(bindings) == 1 else None
        return value is not None and is_availability(value, module, depth + 1)
    return False


def _other_than_cpu(value: ast.expr, module: Module) -> bool:
    if isinstance(value, ast.Constant):
        return value.value != "cpu"
    if isinstance(value, ast.Call) and module.name_of(value.func) == "torch.device":
        return not (
            value.args and isinstance(value.args[0], ast.Constant) and value.args[0].value == "cpu"
        )
    return True


def _returns(function: ast.Name, module: Module, depth: int) -> str:
    """What a function of this file returns: the project's own `get_device()`."""
    owner = module.scope(function).owner(function.id)
    bindings = owner.bindings.get(function.id, []) if owner else []
    if len(bindings) != 1 or not isinstance(bindings[0].node, ast.FunctionDef):
        return ""
    return _kind_of_returns(bindings[0].node, module, depth)


def _kind_of_returns(function: ast.FunctionDef, module: Module, depth: int) -> str:
    returns = [n.value for n in ast.walk(function) if isinstance(n, ast.Return)]
    kinds = {classify(value, module, depth + 1) for value in returns}
    return kinds.pop() if len(kinds) == 1 else ""


def device_in_scope(site: Site) -> DeviceValue | None:
    """A variable visible at the site that surely holds the accelerator's device."""
    module = site.module
    current: Scope | None = site.scope
    while current is not None:
        for name, binding, kind in _devices(module, current):
            if site.scope.owner(name) is current and _reaches(binding, current, site):
                return DeviceValue(name, kind)
        current = current.parent
    return _self_device(site) or _helper(site)


def _devices(module: Module, scope: Scope) -> list[tuple[str, Binding, str]]:
    """The variables of a scope that hold a device, each with what kind of value it is."""
    return module.once(
        ("devices", id(scope)),
        lambda: [
            (name, bindings[0], kind)
            for name, bindings in scope.bindings.items()
            if DEVICE_NAME.search(name) and len(bindings) == 1 and bindings[0].kind == "assign"
            if (kind := classify(bindings[0].value, module))
        ],
    )


def _reaches(binding: Binding, owner: Scope, site: Site) -> bool:
    """Whether the assignment surely ran before the site."""
    module = site.module
    statement = module.statement(binding.node)
    if _within(statement, site.node):
        return False
    if module.end(statement) > site.start and owner is site.scope.function:
        return False
    block: Any = statement.parent  # type: ignore[attr-defined]
    if block is owner.node:
        # A module variable may be read by a function above it, once the module has run.
        return owner.kind == "module" or module.end(statement) <= site.start
    return _within(block, site.node) and module.end(statement) <= site.start


def _within(outer: ast.AST, node: Any) -> bool:
    while node is not None:
        if node is outer:
            return True
        node = getattr(node, "parent", None)
    return False


def _helper(site: Site) -> DeviceValue | None:
    """The project's own way to a device: `accelerator.device`, `get_device()`."""
    current: Scope | None = site.scope
    while current is not None:
        for name, binding in _helpers(site.module, current):
            if site.scope.owner(name) is current:
                found = _helper_value(site, name, binding, current)
                if found is not None:
                    return found
        current = current.parent
    return None


def _helpers(module: Module, scope: Scope) -> list[tuple[str, Binding]]:
    """The names of a scope that may lead to a device: results of calls, and functions."""
    return module.once(
        ("ways to a device", id(scope)),
        lambda: [
            (name, bindings[0])
            for name, bindings in scope.bindings.items()
            if len(bindings) == 1 and _may_lead_to_device(module, name, bindings[0])
        ],
    )


def _may_lead_to_device(module: Module, name: str, binding: Binding) -> bool:
    if isinstance(binding.value, ast.Call):
        known = ("accelerate.Accelerator", ACCELERATOR)
        return binding.kind == "assign" and module.name_of(binding.value.func) in known
    return isinstance(binding.node, ast.FunctionDef) and bool(DEVICE_NAME.search(name))


def _helper_value(site: Site, name: str, binding: Binding, owner: Scope) -> DeviceValue | None:
    """The device that such a name leads to (see `_may_lead_to_device`), if it surely does here."""
    value, function = binding.value, binding.node
    if isinstance(value, ast.Call):
        # Accelerator(cpu=True) has another device than the accelerator's.
        plain = not any(k.arg in ("cpu", None) for k in value.keywords)
        if plain and _reaches(binding, owner, site):
            return DeviceValue(f"{name}.device", "device")
        return None
    if not isinstance(function, ast.FunctionDef) or owner.kind != "module":
        return None
    if _parameters(function.args) or _within(function, site.node):
        return None
    kind = _kind_of_returns(function, site.module, 0)
    return DeviceValue(f"{name}()", kind) if kind else None


def _parameters(arguments: ast.arguments) -> bool:
    return bool(
        arguments.args
        or arguments.posonlyargs
        or arguments.kwonlyargs
        or arguments.vararg
        or arguments.kwarg
    )


def _self_device(site: Site) -> DeviceValue | None:
    """`self.device` where the class sets it once, in __init__, to the accelerator's device."""
    module = site.module
    function, owner = module.function(site.node), module.enclosing_class(site.node)
    if function is None or owner is None or function not in owner.body or not function.args.args:
        return None
    this = function.args.args[0].arg
    if this != "self" or function.decorator_list:
        return None
    for attribute in ("device", "_device"):
        stores = [
            n
            for n in module.attributes.get(attribute, ())
            if isinstance(n.ctx, ast.Store) and _within(owner, n)
        ]
        if len(stores) != 1 or not isinstance(stores[0].value, ast.Name):
            continue
        store = stores[0]
        statement: Any = module.statement(store)
        setter = module.function(store)
        if setter is None or setter.name != "__init__" or statement not in setter.body:
            continue
        kind = classify(getattr(statement, "value", None), module)
        before = setter is not function or module.end(statement) <= site.start
        if kind and before and isinstance(store.value, ast.Name) and store.value.id == "self":
            return DeviceValue(f"self.{attribute}", kind)
    return None


# Spelling a device ----------------------------------------------------------------------------


@dataclass(frozen=True)
class Spelled:
    """New text with what it needs."""

    part: str | Shared
    imports: tuple[str, ...] = ()


def torch_at(site: Site) -> tuple[str, tuple[str, ...]] | None:
    """How to write `torch` at the site, and the import to add; None if the name is taken."""
    name = site.spell("torch")
    return None if name is None else (name, site.needs("torch"))


#: `current_accelerator()` returns None without an accelerator since 2.7; torch 2.6 raises.
NONE_SINCE = "2.7"


def _cpu_safe(torch: str, target: Target) -> str:
    """A torch.device on every machine."""
    if target.has(NONE_SINCE):
        return f'{torch}.{CURRENT} or {torch}.device("cpu")'
    available = f"{torch}.accelerator.is_available()"
    return f'{torch}.{CURRENT} if {available} else {torch}.device("cpu")'


def device_expression(site: Site) -> Spelled | None:
    """The accelerator's device, or None where there is none: for calls that take a device.

    Without an accelerator `.to(None)` and `device=None` leave a tensor on the CPU.
    """
    known = device_in_scope(site)
    if known is not None:
        return Spelled(known.text)
    found = torch_at(site)
    if found is None:
        return None
    torch, imports = found
    short = f"{torch}.{CURRENT}"
    if site.target.has(NONE_SINCE):
        return Spelled(Shared("device", short), imports)
    # Hoisted, the line may run where the original did not ask for CUDA.
    return Spelled(Shared("device", _cpu_safe(torch, site.target), inline_text=short), imports)


def safe_device_expression(site: Site) -> Spelled | None:
    """A torch.device on every machine: the accelerator's, else the CPU's."""
    found = torch_at(site)
    if found is None:
        return None
    torch, imports = found
    text = _cpu_safe(torch, site.target)
    if isinstance(site.parent, ast.arguments):
        # Defaults are evaluated once, with the module.
        return Spelled(Shared("default_device", text, "module"), imports)
    return Spelled(text, imports)


def type_expression(site: Site, *, in_string: bool = False, reuse: bool = True) -> Spelled | None:
    """The accelerator's device type as a string; "cpu" where there is no accelerator."""
    known = device_in_scope(site) if reuse else None
    if known is not None:
        return Spelled(known.type)
    found = torch_at(site)
    if found is None:
        return None
    torch, imports = found
    if guarded(site.module, site.node):
        return Spelled(f"{torch}.{CURRENT}.type", imports)
    if in_string and not imports and not _can_hoist(site.module):
        return None
    expression = f"({_cpu_safe(torch, site.target)}).type"
    return Spelled(Shared("device_type", expression, "module", inline=not in_string), imports)


def _can_hoist(module: Module) -> bool:
    return any(
        isinstance(s, ast.Import) and any(a.name == "torch" for a in s.names)
        for s in module.tree.body
    )


def distinguishes(site: Site) -> bool:
    """Whether the code around the site already tells other accelerators apart."""
    module = site.module
    scope = module.function(site.node) or module.tree
    return any(
        constant.value in OTHER_ACCELERATORS and _within(scope, constant)
        for constant, _ in module.strings
    ) or any(
        _within(scope, node)
        for node in (*module.attributes.get("mps", ()), *module.attributes.get("xpu", ()))
    )


# Calls ----------------------------------------------------------------------------------------


def open_parenthesis(module: Module, call: ast.Call) -> int:
    """Offset behind the opening parenthesis of a call."""
    return module.text.index("(", module.end(call.func)) + 1


_OPENED = re.compile(r"\((?:\s|\\\s|#[^\r\n]*[\r\n])*\Z")
_CLOSED = re.compile(r"(?:\s|\\\s|#[^\r\n]*[\r\n])*\)")


def outer_span(module: Module, node: Any) -> tuple[int, int]:
    """Both offsets of an expression with the parentheses around it that are its own."""
    start, end = module.span(node)
    parent = node.parent
    if isinstance(parent, (ast.ClassDef, ast.MatchValue)):
        return start, end
    low = 0
    if isinstance(parent, ast.Call) and node is not parent.func:
        low = open_parenthesis(module, parent)
    while True:
        opened = _OPENED.search(module.text, max(low, start - _REACH), start)
        closed = _CLOSED.match(module.text, end)
        if opened is None or closed is None:
            return start, end
        line = module.index.line_start(module.index.position(opened.start())[0])
        if "#" in module.text[line : opened.start()]:  # it may stand in a comment
            return start, end
        start, end = opened.start(), closed.end()


#: How much space may stand behind a parenthesis that is looked for.
_REACH = 200


def argument_span(module: Module, given: ast.AST) -> tuple[int, int]:
    """Both offsets of an argument of a call, with the parentheses around its value."""
    if isinstance(given, (ast.keyword, ast.Starred)):
        return module.start(given), outer_span(module, given.value)[1]
    return outer_span(module, given)


def attribute_token(module: Module, node: ast.Attribute) -> tuple[int, int] | None:
    """Span of the attribute's own name; None if it is not spelled plainly."""
    end = module.end(node)
    start = end - len(node.attr)
    return (start, end) if module.text[start:end] == node.attr else None


def argument(call: ast.Call, position: int, keyword: str) -> ast.expr | None:
    """An argument by position or keyword; None if absent or hidden behind a star."""
    for found in call.keywords:
        if found.arg == keyword:
            return found.value
    before = call.args[: position + 1]
    if len(call.args) > position and not any(isinstance(a, ast.Starred) for a in before):
        return call.args[position]
    return None


def has_star(call: ast.Call) -> bool:
    """Whether arguments are hidden behind `*args` or `**kwargs`."""
    return any(isinstance(a, ast.Starred) for a in call.args) or any(
        k.arg is None for k in call.keywords
    )


def wrapped(text: str, node: ast.AST) -> str:
    """A compound expression, in parentheses where its place needs them."""
    return f"({text})" if needs_parentheses(node) else text


__all__ = [
    "AVAILABLE",
    "Edit",
    "Finding",
    "Iterator",
    "Safety",
    "Target",
]
