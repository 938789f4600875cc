"""POR3xx: automatic mixed precision.

https://docs.pytorch.org/docs/stable/amp.html
"""

from __future__ import annotations

import ast
import re
import weakref
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

from porter.module import Module
from porter.rule import Category, Edit, Finding, Safety, Shared, change, keep, rule
from porter.scope import Binding
from porter.site import Site
from porter.suppress import Suppressions
from porter.targets import ACCELERATOR_SINCE, Target

from ._match import (
    TOO_OLD,
    Spelled,
    argument,
    argument_span,
    guarded,
    has_star,
    implies,
    open_parenthesis,
    torch_at,
    type_expression,
    wrapped,
)
from .device import NAME_TAKEN, npu_import

MARKERS = ("cuda", "autocast", "GradScaler")
EXPORTED = ("torch.cuda",)

#: torch.amp.GradScaler: torch/amp/grad_scaler.py, since 2.3.
SCALER_SINCE = "2.3"
#: torch.amp.custom_fwd, torch.get_autocast_dtype(device_type): torch/amp/autocast_mode.py, 2.4.
DEVICE_TYPE_SINCE = "2.4"

AUTOCASTS = ("torch.cuda.amp.autocast", "torch.cuda.amp.autocast_mode.autocast")
SCALERS = ("torch.cuda.amp.GradScaler", "torch.cuda.amp.grad_scaler.GradScaler")
CUSTOMS = (
    "torch.cuda.amp.custom_fwd",
    "torch.cuda.amp.custom_bwd",
    "torch.cuda.amp.autocast_mode.custom_fwd",
    "torch.cuda.amp.autocast_mode.custom_bwd",
)
MODERN_AUTOCASTS = ("torch.autocast", "torch.amp.autocast", "torch.amp.autocast_mode.autocast")
MODERN_SCALERS = ("torch.GradScaler", "torch.amp.GradScaler", "torch.amp.grad_scaler.GradScaler")
NEUTRAL = ("torch.amp.", "torch.autocast", "torch.GradScaler")

FORK = "for an older torch than the branch beside it, left as it is"
UNCERTAIN = (
    "this name has another meaning too (a fallback for an import?); make both take a device type"
)
SCRIPTED = "TorchScript compiles this function and needs constants; write the device type by hand"
STARRED = "arguments are hidden behind a star; write the call of torch.amp by hand"


@dataclass(frozen=True)
class Plan:
    """What must change around a use besides its name.

    Args:
        edits: the changes.
        imports: modules they need.
        problem: why the use cannot be rewritten; empty if it can.
        safety: how far to trust it.
        reason: why it needs review.
        name: what the use becomes, below torch ("amp.autocast").
    """

    edits: tuple[Edit, ...] = ()
    imports: tuple[str, ...] = ()
    problem: str = ""
    safety: Safety = Safety.SAFE
    reason: str = ""
    name: str = ""


Planner = Callable[[Site, Target], Plan]


# Where a use stands ---------------------------------------------------------------------------


def type_use(module: Module, node: Any) -> bool:
    """Whether a class is only named as a type: an annotation, or asked for by isinstance."""
    child = node
    parent = node.parent
    while isinstance(parent, (ast.Subscript, ast.Tuple, ast.BinOp)):
        child, parent = parent, parent.parent  # type: ignore[union-attr]
    if isinstance(parent, ast.arg) or (
        isinstance(parent, ast.AnnAssign) and parent.annotation is child
    ):
        return True
    if isinstance(parent, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return parent.returns is child
    if isinstance(parent, ast.Call) and child in parent.args:
        return isinstance(parent.func, ast.Name) and parent.func.id in ("isinstance", "issubclass")
    return False


def scripted(module: Module, node: ast.AST) -> bool:
    """Whether TorchScript compiles the function around `node`."""
    function = module.function(node)
    return function is not None and any(
        module.name_of(d.func if isinstance(d, ast.Call) else d)
        in ("torch.jit.script", "torch.jit.script_method", "torch.jit.export")
        for d in function.decorator_list
    )


_VERSION = re.compile(r"version|hasattr|torch_?\d|TORCH_?\w*|_?NEW_?AMP|signature", re.I)


def forked(site: Site, neutral: Callable[[ast.AST], bool]) -> bool:
    """Whether the branch beside the site does the same with the device-neutral name."""
    child: Any = site.node
    for parent in site.module.parents(site.node):
        if any(neutral(n) for other in _others(parent, child, site) for n in ast.walk(other)):
            return True
        child = parent
    return False


def _others(parent: Any, child: Any, site: Site) -> list[ast.AST]:
    if isinstance(parent, ast.Try):
        branches: list[list[Any]] = [parent.body, parent.handlers]
        mine = [b for b in branches if child in b]
        return [n for b in branches if mine and b is not mine[0] for n in b]
    if isinstance(parent, (ast.If, ast.IfExp)):
        if child is parent.test or not _VERSION.search(site.module.segment(parent.test)):
            return []
        if isinstance(parent, ast.IfExp):
            return [parent.orelse if child is parent.body else parent.body]
        return [*(parent.orelse if child in parent.body else parent.body)]
    return _left_before(parent, child, site)


def _left_before(parent: Any, child: Any, site: Site) -> list[ast.AST]:
    """The bodies of `if new: return ...` before `child` in the same block."""
    block = getattr(parent, "body", None)
    if not isinstance(block, list) or child not in block:
        return []
    return [
        inner
        for earlier in block[: block.index(child)]
        if isinstance(earlier, ast.If)
        and isinstance(earlier.body[-1], ast.Return)
        and _VERSION.search(site.module.segment(earlier.test))
        for inner in earlier.body
    ]


def _same_below_amp(site: Site) -> Callable[[ast.AST], bool]:
    last = site.name.rpartition(".")[2]
    names = {f"torch.amp.{last}", f"torch.{last}"}

    def same(node: ast.AST) -> bool:
        if isinstance(node, ast.ImportFrom):
            return node.module == "torch.amp" and any(a.name == last for a in node.names)
        return isinstance(node, (ast.Attribute, ast.Name)) and site.module.name_of(node) in names

    return same


def _bindings(site: Site) -> list[Binding]:
    """How the first name of the use is bound."""
    if site.kind == "import":
        local = site.node.asname or site.node.name.partition(".")[0]
    else:
        root: Any = site.node
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name):
            return []
        local = root.id
    owner = site.scope.owner(local)
    return owner.bindings.get(local, []) if owner is not None else []


def _neutral_beside(site: Site) -> bool:
    """Whether the name is also imported from torch.amp: `try: ... except ImportError: ...`."""
    return any(b.kind == "import" and b.target.startswith(NEUTRAL) for b in _bindings(site))


# Moving an import -----------------------------------------------------------------------------

_MOVABLE: weakref.WeakKeyDictionary[Module, dict[tuple[int, Target], bool]] = (
    weakref.WeakKeyDictionary()
)


def _movable(module: Module, binding: Binding, code: str, plan: Planner, target: Target) -> bool:
    """Whether a name imported from torch.cuda.amp may come from torch.amp instead.

    All uses must be rewritten with it, since the signature is another one there.
    """
    known = _MOVABLE.setdefault(module, {})
    key = (id(binding), target)
    if key not in known:
        known[key] = _all_uses_follow(module, binding, code, plan, target)
    return known[key]


def _all_uses_follow(
    module: Module, binding: Binding, code: str, plan: Planner, target: Target
) -> bool:
    statement: Any = binding.statement
    alias: Any = binding.node
    local = alias.asname or alias.name
    scope = module.scope(statement)
    owner = scope.owner(local)
    if not isinstance(statement, ast.ImportFrom) or module.path.endswith("__init__.py"):
        return False
    if owner is None or owner.bindings[local] != [binding]:
        return False
    if any(constant.value == local for constant, _ in module.strings):
        return False  # __all__, getattr: someone else may call it
    if local in module.facts.imported.get(module.dotted, ()):
        return False  # other files call it with the signature it has here
    found = module.resolve_name(local, scope)
    if found is None or found.name != module.absolute(binding.target):
        return False  # it comes through another file, whose import may stay
    silenced = Suppressions.read(module.text)
    if silenced.covers(code, alias.lineno):
        return False
    return all(
        _use_follows(module, use, plan, target) and not silenced.covers(code, use.lineno)
        for use in owner.uses(local)
    )


def _use_follows(module: Module, use: ast.Name, plan: Planner, target: Target) -> bool:
    if isinstance(use.parent, ast.Attribute):  # type: ignore[attr-defined]
        return False
    name = module.name_of(use)
    site = Site(module, use, module.scope(use), "name", name, target=target)
    found = plan(site, target)
    if found.problem or found.safety is not Safety.SAFE or not found.name.startswith("amp."):
        return False
    return not _may_clash(site, found)


_INSERTS = re.compile(r"""["'][^"']*cuda|is_cuda""")


def _may_clash(site: Site, plan: Plan) -> bool:
    """Whether another rule may insert where the plan does: one of them would have to wait.

    The name would have moved by then, and the call would no longer be seen.
    """
    if site.call is None:
        return False
    ends = {e.start for e in plan.edits if e.start == e.end}
    return any(
        ends.intersection(site.module.span(a)) and _INSERTS.search(site.module.segment(a))
        for a in (*site.call.args, *(k.value for k in site.call.keywords))
    )


def _rewrite_use(site: Site, target: Target, code: str, plan: Planner) -> Iterator[Finding]:
    """A site of a name of torch.cuda.amp: import or use."""
    if _neutral_beside(site) or forked(site, _same_below_amp(site)):
        yield site.information(FORK)
        return
    if site.kind == "import":
        yield from _import(site, target, code, plan)
        return
    if site.stored:
        return
    if not site.certain:
        yield site.gap(UNCERTAIN)
        return
    found = plan(site, target)
    if found.problem:
        yield site.gap(found.problem)
        return
    span = (site.start, site.module.end(site.call)) if site.call is not None else None
    bindings = _bindings(site)
    imported = isinstance(site.node, ast.Name) and len(bindings) == 1 and bindings[0].statement
    if imported and _movable(site.module, bindings[0], code, plan, target):
        if found.edits:
            follows = site.finding(*found.edits, imports=found.imports, span=span)
            yield replace(follows, together=site.module.start(bindings[0].node))
        return
    torch = torch_at(site)
    if torch is None:
        yield site.gap(NAME_TAKEN)
        return
    name = Edit.of(site.start, site.end, f"{torch[0]}.{found.name}")
    yield site.finding(
        name,
        *found.edits,
        imports=(*torch[1], *found.imports),
        safety=found.safety,
        reason=found.reason,
        span=span,
    )


def _import(site: Site, target: Target, code: str, plan: Planner) -> Iterator[Finding]:
    binding = next((b for b in _bindings(site) if b.node is site.node), None)
    if binding is None:
        return
    local = site.node.asname or site.node.name
    owner = site.scope.owner(local)
    if owner is None or not any(True for _ in owner.uses(local)):
        yield site.gap(
            "imported for others; they must pass a device type to the name in torch.amp",
            category=Category.POTENTIAL,
        )
        return
    if _movable(site.module, binding, code, plan, target):
        alias = site.module.start(site.node)
        yield replace(site.finding(moves=((alias, "torch.amp"),)), together=alias)


# Writing a call -------------------------------------------------------------------------------


def device_type(site: Site, target: Target) -> Spelled | str:
    """The device type as a string expression, or why it cannot be written."""
    if not target.agnostic:
        return Spelled('"npu"', npu_import(target))
    if not target.has(ACCELERATOR_SINCE):
        return TOO_OLD
    return type_expression(site) or NAME_TAKEN


def first_argument(module: Module, call: ast.Call, *parts: str | Shared) -> Edit:
    """Put a new first argument into a call, on a line of its own if the others have one."""
    opening = open_parenthesis(module, call)
    every = [*call.args, *call.keywords]
    if not every:
        return Edit.of(opening - 1, opening, "(", *parts)
    gap = module.text[opening : min(argument_span(module, a)[0] for a in every)]
    if "\n" in gap and "#" not in gap:
        return Edit.of(opening - 1, opening, "(", gap, *parts, ",")
    return Edit.of(opening - 1, opening, "(", *parts, "," if gap[:1].isspace() else ", ")


def last_argument(module: Module, call: ast.Call, *parts: str | Shared) -> Edit:
    """Put a new argument behind the others of a call that has some."""
    every = [*call.args, *call.keywords]
    first = min(argument_span(module, a)[0] for a in every)
    gap = module.text[open_parenthesis(module, call) : first]
    space = gap if "\n" in gap and "#" not in gap else " "
    end = max(argument_span(module, a)[1] for a in every)
    return Edit.of(end, end, ",", space, *parts)


def switched_off(
    site: Site, call: ast.Call, enabled: ast.expr | None, kind: str | Shared
) -> tuple[list[Edit], tuple[str | Shared, ...]]:
    """Keep `enabled` false on a machine without an accelerator, as it was there for CUDA.

    Returns:
        Edits of an existing argument, and the argument to add if there is none.
    """
    module = site.module
    on: tuple[str | Shared, ...] = (kind, ' != "cpu"')
    if guarded(module, site.node):
        return [], ()
    if enabled is None:
        return [], ("enabled=", *on)
    if isinstance(enabled, ast.Constant):
        if enabled.value is not True:
            return [], ()
        return [Edit.of(*module.span(enabled), *on)], ()
    if implies(enabled, True, module) or _off_on_cpu(enabled) or _was_enabled(module, enabled):
        return [], ()
    start, end = module.span(enabled)
    loose = isinstance(enabled, (ast.IfExp, ast.Lambda, ast.NamedExpr)) or (
        isinstance(enabled, ast.BoolOp) and isinstance(enabled.op, ast.Or)
    )
    if not loose:
        return [Edit.of(end, end, " and ", *on)], ()
    return [Edit.of(start, start, "("), Edit.of(end, end, ") and ", *on)], ()


def _off_on_cpu(node: ast.expr) -> bool:
    """`device.type != "cpu"`, alone or with more conditions."""
    if isinstance(node, ast.BoolOp) and isinstance(node.op, ast.And):
        return any(_off_on_cpu(v) for v in node.values)
    return (
        isinstance(node, ast.Compare)
        and len(node.ops) == 1
        and isinstance(node.ops[0], ast.NotEq)
        and isinstance(node.comparators[0], ast.Constant)
        and node.comparators[0].value == "cpu"
    )


def _was_enabled(module: Module, node: ast.expr) -> bool:
    """Whether it is the state that torch.is_autocast_enabled() told before."""
    if isinstance(node, ast.Call):
        return module.name_of(node.func) == "torch.is_autocast_enabled"
    if not isinstance(node, ast.Name):
        return False
    owner = module.scope(node).owner(node.id)
    values = [b.value for b in owner.bindings[node.id]] if owner is not None else []
    return bool(values) and all(
        v is not None and not isinstance(v, ast.Name) and _was_enabled(module, v) for v in values
    )


# POR301 ---------------------------------------------------------------------------------------


@rule(
    "POR301",
    "cuda-amp-autocast",
    names=AUTOCASTS,
    examples=[
        change(
            "import torch\n\ndef f(model, x):\n    with torch.cuda.amp.autocast():\n        return model(x)\n",
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\ndef f(model, x):\n    with torch.amp.autocast(device_type, enabled=device_type != "cpu"):\n        return model(x)\n',
            'import torch\n\ndef f(model, x):\n    with torch.amp.autocast("npu"):\n        return model(x)\n',
            note="without an accelerator autocast stays off, as it was without CUDA",
        ),
        change(
            "import torch\nfrom torch.cuda.amp import autocast\n\ndef f(model, x, device, amp):\n    with autocast(amp):\n        return model(x)\n",
            'import torch\nfrom torch.amp import autocast\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\ndef f(model, x, device, amp):\n    with autocast(device_type, enabled=amp and device_type != "cpu"):\n        return model(x)\n',
            'import torch\nfrom torch.amp import autocast\n\ndef f(model, x, device, amp):\n    with autocast("npu", enabled=amp):\n        return model(x)\n',
            note="the first positional argument was enabled",
        ),
        change(
            'import torch\nfrom torch.cuda import amp\n\ndevice = torch.device("cuda" if torch.cuda.is_available() else "cpu")\n\ndef f(model, x):\n    with amp.autocast(enabled=device.type == "cuda"):\n        return model(x)\n',
            'import torch\n\ndevice = torch.device(torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu")\n\ndef f(model, x):\n    with torch.amp.autocast(device.type, enabled=device.type not in ("cpu", "meta")):\n        return model(x)\n',
            'import torch\n\ndevice = torch.device("npu" if torch.npu.is_available() else "cpu")\n\ndef f(model, x):\n    with torch.amp.autocast("npu", enabled=device.type == "npu"):\n        return model(x)\n',
        ),
        change(
            "import torch\nfrom torch.cuda.amp import autocast as ac\n\nclass Net(torch.nn.Module):\n    @ac(enabled=False)\n    def forward(self, x):\n        return x\n",
            'import torch\nfrom torch.amp import autocast as ac\n\nclass Net(torch.nn.Module):\n    @ac((torch.accelerator.current_accelerator() or torch.device("cpu")).type, enabled=False)\n    def forward(self, x):\n        return x\n',
            'import torch\nfrom torch.amp import autocast as ac\n\nclass Net(torch.nn.Module):\n    @ac("npu", enabled=False)\n    def forward(self, x):\n        return x\n',
        ),
        keep(
            "import torch\n\ntry:\n    from torch.amp import autocast\nexcept ImportError:\n    from torch.cuda.amp import autocast\n",
            finding=True,
            note="a fallback for an older torch stays",
        ),
        keep(
            "import torch\n\ndef context(amp):\n    return torch.cuda.amp.autocast if amp else None\n",
            finding=True,
        ),
        keep(
            "import torch\n\ndef f(args):\n    return torch.cuda.amp.autocast(*args)\n",
            finding=True,
        ),
        keep(
            "import torch\n\n@torch.jit.script\ndef f(x):\n    with torch.cuda.amp.autocast():\n        return x @ x\n",
            finding=True,
        ),
    ],
)
def cuda_amp_autocast(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.cuda.amp.autocast`.

    ## Why it matters
    It is autocast for CUDA alone; on another device it changes nothing, and the model silently
    runs in full precision. Since torch 2.4 it warns that it is deprecated.

    ## What it does
    `torch.amp.autocast`, with the device type in front. There `dtype` comes before `enabled`, so
    positional arguments get their names. An import moves to `torch.amp` if every use of the name
    in the file is such a call; otherwise the calls are spelled out. A fallback for an older torch
    (`try: from torch.amp import ... except ImportError: ...`) stays.

    accelerator: the type is that of the accelerator. Without one, `torch.cuda.amp.autocast` was
    off (with a warning), while `torch.amp.autocast("cpu")` is on and computes in bfloat16, with
    `dtype=torch.float16` in float16 (torch 2.6 to 2.14 alike). A result in bfloat16 cannot become
    a NumPy array, so that would stop code that ran before. Therefore `enabled` becomes false on
    the CPU, unless the call runs only where there is an accelerator.

    ## Safety
    The default dtype is the device's own, float16 on CUDA and on NPU, unless the call stands
    inside an autocast of another dtype, or torch.set_autocast_dtype was called; torch.cuda.amp
    always took float16. On a machine without an accelerator the call also ends an autocast for
    the CPU around it.

    ## References
    - https://docs.pytorch.org/docs/stable/amp.html#torch.autocast
    - torch 2.6 and 2.14, torch/amp/autocast_mode.py and torch/cuda/amp/autocast_mode.py
    """
    yield from _rewrite_use(site, target, "POR301", _plan_autocast)


def _plan_autocast(site: Site, target: Target) -> Plan:
    module, call = site.module, site.call
    if call is None:
        if type_use(module, site.node):
            return Plan(name="amp.autocast")
        return Plan(
            problem="autocast is handed on without being called; hand on "
            "functools.partial(torch.amp.autocast, device_type)"
        )
    if scripted(module, site.node):
        return Plan(problem=SCRIPTED)
    if any(isinstance(a, ast.Starred) for a in call.args) or len(call.args) > 3:
        return Plan(problem=STARRED)
    kind = device_type(site, target)
    if isinstance(kind, str):
        return Plan(problem=kind)
    names = ("enabled=", "dtype=", "cache_enabled=")
    first = names[0] if call.args else ""
    edits: list[Edit] = []
    added: tuple[str | Shared, ...] = ()
    if target.agnostic:
        if has_star(call) and not guarded(module, site.node):
            return Plan(problem=STARRED)
        edits, added = switched_off(site, call, argument(call, 0, "enabled"), kind.part)
    for name, value in zip(names[1:], call.args[1:], strict=False):
        start, _ = argument_span(module, value)
        edits.append(Edit.of(start, start, name))
    return _call(site, call, kind, first, edits, added, "amp.autocast")


def _call(
    site: Site,
    call: ast.Call,
    kind: Spelled,
    first: str,
    edits: list[Edit],
    added: tuple[str | Shared, ...],
    name: str,
) -> Plan:
    """The device type in front, `added` behind."""
    module = site.module
    if added and not (call.args or call.keywords):
        opening = first_argument(module, call, kind.part, ", ", *added)
    else:
        opening = first_argument(module, call, kind.part)
        if added:
            edits = [*edits, last_argument(module, call, *added)]
    if first and opening.parts[-1] == ",":
        # The first argument stands apart from the parenthesis.
        edits = _named(edits, argument_span(module, call.args[0])[0], first)
    elif first:
        opening = replace(opening, parts=(*opening.parts, first))
    return Plan((opening, *edits), kind.imports, name=name)


def _named(edits: list[Edit], start: int, name: str) -> list[Edit]:
    """Put a name in front of an argument; one offset takes one insertion."""
    for position, edit in enumerate(edits):
        if edit.start == edit.end == start:
            return [
                *edits[:position],
                replace(edit, parts=(name, *edit.parts)),
                *edits[position + 1 :],
            ]
    return [*edits, Edit.of(start, start, name)]


# POR302 ---------------------------------------------------------------------------------------


@rule(
    "POR302",
    "cuda-amp-grad-scaler",
    names=SCALERS,
    examples=[
        change(
            "import torch\nscaler = torch.cuda.amp.GradScaler()\n",
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\nscaler = torch.amp.GradScaler(device_type, enabled=device_type != "cpu")\n',
            'import torch\nscaler = torch.amp.GradScaler("npu")\n',
        ),
        change(
            "import torch\nfrom torch.cuda.amp import GradScaler\n\ndef f(args, device):\n    scaler: GradScaler = GradScaler(1024.0, enabled=args.amp)\n    return isinstance(scaler, GradScaler)\n",
            'import torch\nfrom torch.amp import GradScaler\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\ndef f(args, device):\n    scaler: GradScaler = GradScaler(device_type, 1024.0, enabled=args.amp and device_type != "cpu")\n    return isinstance(scaler, GradScaler)\n',
            'import torch\nfrom torch.amp import GradScaler\n\ndef f(args, device):\n    scaler: GradScaler = GradScaler("npu", 1024.0, enabled=args.amp)\n    return isinstance(scaler, GradScaler)\n',
            note="types follow",
        ),
        change(
            "import torch\nscaler = torch.cuda.amp.GradScaler() if torch.cuda.is_available() else None\n",
            "import torch\nscaler = torch.amp.GradScaler(torch.accelerator.current_accelerator().type) if torch.accelerator.is_available() else None\n",
            'import torch\nscaler = torch.amp.GradScaler("npu") if torch.npu.is_available() else None\n',
        ),
        change(
            "import torch\n\ndef f(**kwargs):\n    return torch.cuda.amp.GradScaler(**kwargs)\n",
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\ndef f(**kwargs):\n    return torch.amp.GradScaler(device_type, **kwargs)\n',
            'import torch\n\ndef f(**kwargs):\n    return torch.amp.GradScaler("npu", **kwargs)\n',
            unsafe=True,
        ),
        keep(
            "import torch\n\nclass Scaler(torch.cuda.amp.GradScaler):\n    pass\n",
            finding=True,
        ),
        keep(
            'import torch\n\ndef f(new):\n    if hasattr(torch.amp, "GradScaler"):\n        return torch.amp.GradScaler("cpu")\n    else:\n        return torch.cuda.amp.GradScaler()\n',
            finding=True,
        ),
        keep(
            "import torch\n\ndef f(make):\n    return make(torch.cuda.amp.GradScaler)\n",
            finding=True,
        ),
    ],
)
def cuda_amp_grad_scaler(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.cuda.amp.GradScaler`.

    ## Why it matters
    Without CUDA it turns itself off with a warning, and training in float16 loses small gradients.

    ## What it does
    `torch.amp.GradScaler` (since torch 2.3), with the device type in front of the other arguments.
    An import moves along if every use in the file allows it. Annotations and `isinstance` follow;
    `torch.cuda.amp.GradScaler` is a subclass of the new one. npu below torch 2.3:
    `torch.npu.amp.GradScaler`.

    accelerator: a scaler for "cpu" is on, the original was off without CUDA and saved an empty
    state. So `enabled` becomes false on the CPU, unless there surely is an accelerator.

    ## Safety
    Unsafe where keywords are hidden in `**kwargs` and there may be no accelerator: the scaler is
    on then. A subclass is left, since the first parameter of the base class is the device now.

    ## References
    - https://docs.pytorch.org/docs/stable/amp.html#torch.amp.GradScaler
    - torch 2.14, torch/amp/grad_scaler.py and torch/cuda/amp/grad_scaler.py
    """
    yield from _rewrite_use(site, target, "POR302", _plan_scaler)


def _plan_scaler(site: Site, target: Target) -> Plan:
    module, call = site.module, site.call
    old = not target.agnostic and not target.has(SCALER_SINCE)
    name = "npu.amp.GradScaler" if old else "amp.GradScaler"
    if target.agnostic and not target.has(ACCELERATOR_SINCE):
        return Plan(problem=TOO_OLD)
    if call is None:
        if type_use(module, site.node):
            return Plan(name=name)
        if isinstance(site.parent, ast.ClassDef):
            return Plan(
                problem="derive from torch.amp.GradScaler and hand the device type to its "
                "__init__ as the first argument"
            )
        return Plan(
            problem="the class is handed on without being called; hand on "
            "functools.partial(torch.amp.GradScaler, device_type)"
        )
    if any(isinstance(a, ast.Starred) for a in call.args) or len(call.args) > 5:
        return Plan(problem=STARRED)
    if old:
        if len(call.args) > 4:
            return Plan(problem="name the argument enabled; torch.npu's fifth one is dynamic")
        return Plan(imports=npu_import(target), name=name)
    kind = device_type(site, target)
    if isinstance(kind, str):
        return Plan(problem=kind)
    edits: list[Edit] = []
    added: tuple[str | Shared, ...] = ()
    safety, reason = Safety.SAFE, ""
    if target.agnostic and has_star(call) and not guarded(module, site.node):
        safety = Safety.UNSAFE
        reason = "on a machine without an accelerator this scaler is on now; see to enabled"
    elif target.agnostic:
        edits, added = switched_off(site, call, argument(call, 4, "enabled"), kind.part)
    plan = _call(site, call, kind, "", edits, added, name)
    return replace(plan, safety=safety, reason=reason)


# POR303 ---------------------------------------------------------------------------------------


@rule(
    "POR303",
    "cuda-amp-custom-function",
    names=CUSTOMS,
    examples=[
        change(
            "import torch\nfrom torch.cuda.amp import custom_bwd, custom_fwd\n\nclass F(torch.autograd.Function):\n    @staticmethod\n    @custom_fwd\n    def forward(ctx, x):\n        return x\n\n    @staticmethod\n    @custom_bwd\n    def backward(ctx, g):\n        return g\n",
            'import torch\nfrom torch.amp import custom_bwd, custom_fwd\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\nclass F(torch.autograd.Function):\n    @staticmethod\n    @custom_fwd(device_type=device_type)\n    def forward(ctx, x):\n        return x\n\n    @staticmethod\n    @custom_bwd(device_type=device_type)\n    def backward(ctx, g):\n        return g\n',
            'import torch\nfrom torch.amp import custom_bwd, custom_fwd\n\nclass F(torch.autograd.Function):\n    @staticmethod\n    @custom_fwd(device_type="npu")\n    def forward(ctx, x):\n        return x\n\n    @staticmethod\n    @custom_bwd(device_type="npu")\n    def backward(ctx, g):\n        return g\n',
        ),
        change(
            "import torch\n\nclass F(torch.autograd.Function):\n    @staticmethod\n    @torch.cuda.amp.custom_fwd(cast_inputs=torch.float32)\n    def forward(ctx, x):\n        return x\n",
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\nclass F(torch.autograd.Function):\n    @staticmethod\n    @torch.amp.custom_fwd(device_type=device_type, cast_inputs=torch.float32)\n    def forward(ctx, x):\n        return x\n',
            'import torch\n\nclass F(torch.autograd.Function):\n    @staticmethod\n    @torch.amp.custom_fwd(device_type="npu", cast_inputs=torch.float32)\n    def forward(ctx, x):\n        return x\n',
        ),
        change(
            "import torch\n\ndef f(forward):\n    return torch.cuda.amp.custom_fwd(forward)\n",
            None,
            "import torch\nimport torch_npu  # noqa: F401\n\ndef f(forward):\n    return torch.npu.amp.custom_fwd(forward)\n",
            min_torch="2.3",
        ),
        keep(
            "import torch\n\ndef f(make):\n    return make(torch.cuda.amp.custom_fwd)\n",
            finding=True,
        ),
        keep(
            "try:\n    from torch.amp import custom_fwd\nexcept ImportError:\n    from torch.cuda.amp import custom_fwd\n",
            finding=True,
        ),
    ],
)
def cuda_amp_custom_function(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `custom_fwd` and `custom_bwd` of `torch.cuda.amp`.

    ## Why it matters
    They look at the autocast state of CUDA, which says nothing about another device.

    ## What it does
    The functions of the same name in `torch.amp` (since torch 2.4) with `device_type=`, as
    decorators with or without parentheses and as calls. npu below torch 2.4: `torch.npu.amp`.

    ## Safety
    Without an accelerator they follow the autocast state of the CPU.

    ## References
    - https://docs.pytorch.org/docs/stable/amp.html#torch.amp.custom_fwd
    """
    yield from _rewrite_use(site, target, "POR303", _plan_custom)


def _plan_custom(site: Site, target: Target) -> Plan:
    module, call = site.module, site.call
    last = site.name.rpartition(".")[2]
    decorates = site.node in getattr(site.parent, "decorator_list", ())
    if call is None and not decorates:
        return Plan(
            problem=f"handed on without being called; hand on "
            f"functools.partial(torch.amp.{last}, device_type=...)"
        )
    if not target.agnostic and not target.has(DEVICE_TYPE_SINCE):
        return Plan(imports=npu_import(target), name=f"npu.amp.{last}")
    kind = device_type(site, target)
    if isinstance(kind, str):
        return Plan(problem=kind)
    name = f"amp.{last}"
    if call is None:
        edit = Edit.of(site.end, site.end, "(device_type=", kind.part, ")")
        return Plan((edit,), kind.imports, name=name)
    if call.args:
        return Plan(
            (last_argument(module, call, "device_type=", kind.part),), kind.imports, name=name
        )
    return Plan((first_argument(module, call, "device_type=", kind.part),), kind.imports, name=name)


# POR304 ---------------------------------------------------------------------------------------

#: name: (name with a device type, name in torch.npu)
STATE = {
    "torch.is_autocast_enabled": ("is_autocast_enabled", "npu.is_autocast_enabled"),
    "torch.set_autocast_enabled": ("set_autocast_enabled", "npu.set_autocast_enabled"),
    "torch.get_autocast_gpu_dtype": ("get_autocast_dtype", "npu.get_autocast_dtype"),
    "torch.set_autocast_gpu_dtype": ("set_autocast_dtype", "npu.set_autocast_dtype"),
}


@rule(
    "POR304",
    "autocast-state-of-cuda",
    names=tuple(STATE),
    examples=[
        change(
            "import torch\n\ndef f(x):\n    if torch.is_autocast_enabled():\n        x = x.to(torch.get_autocast_gpu_dtype())\n    return x\n",
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\ndef f(x):\n    if torch.is_autocast_enabled(device_type):\n        x = x.to(torch.get_autocast_dtype(device_type))\n    return x\n',
            'import torch\n\ndef f(x):\n    if torch.is_autocast_enabled("npu"):\n        x = x.to(torch.get_autocast_dtype("npu"))\n    return x\n',
        ),
        change(
            "import torch\n\ndef f(x):\n    before = torch.is_autocast_enabled()\n    torch.set_autocast_enabled(False)\n    y = x @ x\n    torch.set_autocast_enabled(before)\n    return y\n",
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\ndef f(x):\n    before = torch.is_autocast_enabled(device_type)\n    torch.set_autocast_enabled(device_type, False)\n    y = x @ x\n    torch.set_autocast_enabled(device_type, before)\n    return y\n',
            'import torch\n\ndef f(x):\n    before = torch.is_autocast_enabled("npu")\n    torch.set_autocast_enabled("npu", False)\n    y = x @ x\n    torch.set_autocast_enabled("npu", before)\n    return y\n',
        ),
        change(
            "import torch\ntorch.set_autocast_gpu_dtype(torch.bfloat16)\n",
            None,
            "import torch\nimport torch_npu  # noqa: F401\ntorch.npu.set_autocast_dtype(torch.bfloat16)\n",
            min_torch="2.3",
        ),
        keep(
            "import torch\n\ndef f(x):\n    return torch.is_autocast_enabled(x.device.type)\n",
            finding=False,
        ),
        keep(
            "import torch\n\ndef f(call):\n    return call(torch.is_autocast_enabled)\n",
            finding=True,
        ),
        keep(
            "import torch\n\ndef f(kind):\n    try:\n        return torch.is_autocast_enabled(kind)\n    except TypeError:\n        return torch.is_autocast_enabled()\n",
            finding=True,
        ),
    ],
)
def autocast_state_of_cuda(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for autocast functions that ask or set the state of CUDA.

    ## Why it matters
    `torch.is_autocast_enabled()` without a device type is about CUDA, like
    `torch.get_autocast_gpu_dtype()`, `torch.set_autocast_gpu_dtype()` and
    `torch.set_autocast_enabled(flag)`. Under autocast on another device they tell the wrong state.

    ## What it does
    The device type goes in front (torch 2.4). npu below that: the functions of `torch.npu`.

    ## Safety
    Without an accelerator they are about the CPU: `torch.get_autocast_dtype("cpu")` is bfloat16.
    There, `torch.set_autocast_enabled(True)` stays without effect, as it was.

    ## References
    - https://docs.pytorch.org/docs/stable/amp.html
    - torch 2.4, torch/amp/autocast_mode.py
    """
    new, npu = STATE[site.name]
    if site.kind == "import":
        return
    call = site.call
    if call is None:
        yield site.gap("handed on without being called; it is about CUDA: hand on a lambda")
        return
    taken = 1 if "set_" in site.name else 0
    if has_star(call) or len(call.args) + len(call.keywords) != taken:
        if not has_star(call) and len(call.args) + len(call.keywords) > taken:
            return  # has a device type
        yield site.gap(STARRED)
        return
    if forked(site, lambda n: _with_device_type(site.module, n, new)):
        yield site.information(FORK)
        return
    if scripted(site.module, site.node):
        yield site.gap(SCRIPTED)
        return
    torch = torch_at(site)
    if torch is None:
        yield site.gap(NAME_TAKEN)
        return
    if not target.agnostic and not target.has(DEVICE_TYPE_SINCE):
        yield site.replace(f"{torch[0]}.{npu}", imports=(*torch[1], *npu_import(target)))
        return
    kind = device_type(site, target)
    if isinstance(kind, str):
        yield site.gap(kind)
        return
    edits = [first_argument(site.module, call, kind.part)]
    if site.name != f"torch.{new}" or not isinstance(site.node, ast.Attribute):
        edits.append(Edit.of(site.start, site.end, f"{torch[0]}.{new}"))
    if site.name == "torch.set_autocast_enabled" and target.agnostic:
        value = call.args[0] if call.args else call.keywords[0].value
        edits += switched_off(site, call, value, kind.part)[0]
    yield site.finding(
        *edits, imports=(*torch[1], *kind.imports), span=(site.start, site.module.end(call))
    )


def _with_device_type(module: Module, node: ast.AST, new: str) -> bool:
    if not isinstance(node, ast.Call) or module.name_of(node.func) != f"torch.{new}":
        return False
    return len(node.args) + len(node.keywords) == (2 if new.startswith("set_") else 1)


# POR305 ---------------------------------------------------------------------------------------


@rule(
    "POR305",
    "amp-definitely-not-available",
    names=(
        "torch.cuda.amp.amp_definitely_not_available",
        "torch.cuda.amp.common.amp_definitely_not_available",
        "torch.cuda.amp.grad_scaler.amp_definitely_not_available",
    ),
    examples=[
        change(
            "import torch\nfrom torch.cuda.amp.common import amp_definitely_not_available\n\nenabled = not amp_definitely_not_available()\n",
            "import torch\n\nenabled = torch.accelerator.is_available()\n",
            "import torch\n\nenabled = torch.npu.is_available()\n",
        ),
        change(
            "import torch\n\nif torch.cuda.amp.common.amp_definitely_not_available():\n    print(1)\n",
            "import torch\n\nif not torch.accelerator.is_available():\n    print(1)\n",
            "import torch\n\nif not torch.npu.is_available():\n    print(1)\n",
        ),
        keep(
            "import torch\nf = torch.cuda.amp.common.amp_definitely_not_available\n", finding=True
        ),
        keep("def amp_definitely_not_available():\n    return True\n", finding=False),
    ],
)
def amp_definitely_not_available(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.cuda.amp.common.amp_definitely_not_available`.

    ## Why it matters
    It asks for CUDA (or XLA).

    ## What it does
    `not torch.accelerator.is_available()`; npu: `not torch.npu.is_available()`.

    ## Safety
    torch_xla, which the original also looked for, is no longer asked.

    ## References
    - torch 2.14, torch/cuda/amp/common.py
    """
    if site.kind == "import" or site.stored:
        return
    if site.call is None or not site.certain:
        yield site.gap("ask torch.accelerator.is_available() or torch.npu.is_available() instead")
        return
    if target.agnostic and not target.has(ACCELERATOR_SINCE):
        yield site.gap(TOO_OLD)
        return
    torch = torch_at(site)
    if torch is None:
        yield site.gap(NAME_TAKEN)
        return
    namespace = "accelerator" if target.agnostic else "npu"
    asked = f"{torch[0]}.{namespace}.is_available()"
    imports = (*torch[1], *(() if target.agnostic else npu_import(target)))
    outer: Any = site.call.parent  # type: ignore[attr-defined]
    if isinstance(outer, ast.UnaryOp) and isinstance(outer.op, ast.Not):
        span = site.module.span(outer)
        yield site.finding(Edit.of(*span, asked), imports=imports, span=span)
        return
    span = site.module.span(site.call)
    logical = isinstance(outer, (ast.BoolOp, ast.IfExp, ast.Assert, ast.UnaryOp))
    text = f"not {asked}" if logical else wrapped(f"not {asked}", site.call)
    yield site.finding(Edit.of(*span, text), imports=imports, span=span)


# POR306 ---------------------------------------------------------------------------------------


@rule(
    "POR306",
    "cuda-amp-internals",
    names=("torch.cuda.amp", "torch.cuda.amp.*"),
    strings=r"^torch\.cuda\.amp\.\w+(\.\w+)?$",
    category=Category.POTENTIAL,
    examples=[
        change(
            "from torch.cuda.amp.grad_scaler import OptState\n\nREADY = OptState.READY\n",
            "from torch.amp.grad_scaler import OptState\n\nREADY = OptState.READY\n",
            "from torch.amp.grad_scaler import OptState\n\nREADY = OptState.READY\n",
        ),
        change(
            'def f(scaler: "torch.cuda.amp.GradScaler"):\n    return scaler\n',
            'def f(scaler: "torch.amp.GradScaler"):\n    return scaler\n',
            'def f(scaler: "torch.amp.GradScaler"):\n    return scaler\n',
        ),
        keep("from torch.cuda.amp import *\n", finding=True),
        keep("import torch\nimport torch.cuda.amp\n", finding=False),
        keep(
            "import torch\n\ndef f(x):\n    return torch.cuda.amp.autocast_mode._cast(x, torch.float16)\n",
            finding=True,
        ),
        keep('NAME = "torch.cuda.amp.GradScaler"\n', finding=True),
    ],
)
def cuda_amp_internals(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for the rest of `torch.cuda.amp`: star imports, internals, names in strings.

    ## Why it matters
    They are about CUDA, and some are internals of torch that change without notice.

    ## What it does
    `OptState` comes from `torch.amp.grad_scaler` (torch 2.3), the quoted annotation
    `"torch.cuda.amp.GradScaler"` becomes `"torch.amp.GradScaler"`. The rest is reported.

    ## Safety
    What is rewritten is the same object, or its base class in an annotation.

    ## References
    - torch 2.14, torch/cuda/amp/grad_scaler.py
    """
    if site.kind == "string":
        yield from _quoted(site, target)
        return
    if site.kind == "import":
        if site.node.name == "*":
            yield site.gap(
                "import the names by hand, from torch.amp; their calls need a device type"
            )
        elif (
            site.name.endswith(".OptState")
            and target.has(SCALER_SINCE)
            and not _neutral_beside(site)
        ):
            yield site.finding(moves=((site.module.start(site.node), "torch.amp.grad_scaler"),))
        return
    if site.name == "torch.cuda.amp":
        if not isinstance(site.parent, (ast.Assign, ast.Attribute)):
            yield site.gap("the module is handed on; hand on torch.amp, and pass a device type")
        return
    if isinstance(site.node, ast.Name) and site.name.endswith(".OptState"):
        return
    if re.search(r"\.grad_scaler\.OptState\b", site.name) and target.has(SCALER_SINCE):
        if isinstance(site.node, ast.Attribute) and "cuda.amp" in site.text:
            start = site.start + site.text.index("cuda.amp")
            yield site.finding(Edit.of(start, start + len("cuda.amp"), "amp"))
        return
    yield site.gap("an internal of torch.cuda.amp; look for its counterpart in torch.amp")


def _quoted(site: Site, target: Target) -> Iterator[Finding]:
    scaler = re.fullmatch(r"torch\.cuda\.amp\.(grad_scaler\.)?GradScaler", site.node.value)
    if scaler and type_use(site.module, site.node) and target.has(SCALER_SINCE):
        start = site.module.text.find("cuda.amp", site.start, site.end)
        if start > 0 and site.module.exact(site.node):
            yield site.finding(Edit.of(start, start + len("cuda.amp"), "amp"))
            return
    if not isinstance(site.parent, ast.Expr):
        yield site.gap(
            "a name of torch.cuda.amp in a string; write the one in torch.amp if it is looked up"
        )


# POR307 ---------------------------------------------------------------------------------------


@rule(
    "POR307",
    "amp-for-cuda",
    names=(*MODERN_AUTOCASTS, *MODERN_SCALERS),
    examples=[
        change(
            "import torch\nscaler = torch.amp.GradScaler()\n",
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\nscaler = torch.amp.GradScaler(device_type, enabled=device_type != "cpu")\n',
            'import torch\nscaler = torch.amp.GradScaler("npu")\n',
            note="the default is CUDA",
        ),
        keep(
            "import torch\n\ndef f(x):\n    with torch.autocast(x.device.type):\n        return x @ x\n",
            finding=False,
        ),
        keep('import torch\nscaler = torch.amp.GradScaler("cpu")\n', finding=False),
        keep(
            "try:\n    from torch.amp import GradScaler\nexcept ImportError:\n    from torch.cuda.amp import GradScaler\n\nscaler = GradScaler()\n",
            finding=True,
        ),
    ],
)
def amp_for_cuda(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.autocast("cuda")` and for `torch.amp.GradScaler()` without a device.

    ## Why it matters
    `torch.amp.GradScaler()` means CUDA. On another device it turns itself off with a warning.
    `torch.autocast("cuda")` is off on a machine without CUDA; with "cpu" it would be on.

    ## What it does
    The scaler gets the device type. accelerator: where the type may turn out to be "cpu",
    `enabled` becomes false there, so that a machine without an accelerator computes as before
    (see `cuda-amp-autocast`). The string itself is replaced by `cuda-device-string`.

    ## Safety
    A call that takes its keywords from `**kwargs` is left.

    ## References
    - https://docs.pytorch.org/docs/stable/amp.html
    - torch 2.14, torch/amp/grad_scaler.py
    """
    call = site.call
    if call is None or (target.agnostic and not target.has(ACCELERATOR_SINCE)):
        return
    scaler = site.name in MODERN_SCALERS
    where = argument(call, 0, "device" if scaler else "device_type")
    if where is None and scaler and not has_star(call) and not call.args:
        yield from _without_device(site, call, target)
        return
    if not (target.agnostic and isinstance(where, ast.Constant) and where.value == "cuda"):
        return
    if not site.module.exact(where) or guarded(site.module, site.node):
        return
    if has_star(call):
        yield site.gap(
            "without an accelerator this is on now; pass enabled", category=Category.POTENTIAL
        )
        return
    around = site.at(where, "string")
    kind = type_expression(around)
    if kind is None:
        return
    enabled = argument(call, 5 if scaler else 2, "enabled")
    edits, added = switched_off(site, call, enabled, kind.part)
    if added:
        edits = [last_argument(site.module, call, *added)]
    if edits:
        # Both classes of a fallback import know `enabled`, so another meaning does no harm.
        certain = replace(site, certain=site.certain or _neutral_beside(site))
        span = (site.start, site.module.end(call))
        yield certain.finding(*edits, imports=kind.imports, span=span)


def _without_device(site: Site, call: ast.Call, target: Target) -> Iterator[Finding]:
    if not site.certain:
        yield site.gap("a scaler is for CUDA by default; pass the device type")
        return
    kind = device_type(site, target)
    if isinstance(kind, str):
        yield site.gap(kind)
        return
    edits: list[Edit] = []
    added: tuple[str | Shared, ...] = ()
    if target.agnostic:
        edits, added = switched_off(site, call, argument(call, 5, "enabled"), kind.part)
    plan = _call(site, call, kind, "", edits, added, "")
    yield site.finding(*plan.edits, imports=plan.imports, span=(site.start, site.module.end(call)))
