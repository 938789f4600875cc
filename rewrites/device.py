"""POR1xx: where tensors and modules live.

https://docs.pytorch.org/docs/stable/accelerator.html
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from typing import Any

from porter.module import Module
from porter.rule import Category, Edit, Finding, Safety, change, keep, rule
from porter.scope import parent_of
from porter.site import Site, needs_parentheses
from porter.targets import ACCELERATOR_SINCE, AUTOLOAD_SINCE, Target

from ._flow import FOREIGN, KEYED_METHODS, TORCH_FAMILY, Sink, is_device_value, sink
from ._match import (
    CURRENT,
    TOLD_APART,
    TOO_OLD,
    Spelled,
    argument_span,
    attribute_token,
    body_span,
    device_expression,
    distinguishes,
    guarded,
    has_star,
    is_availability,
    open_parenthesis,
    outer_span,
    safe_device_expression,
    torch_at,
    type_expression,
)

MARKERS = ("cuda", "Cuda", "CUDA")
EXPORTED = ("torch.cuda",)
METHODS = ("cuda", "is_cuda")

#: Functions that take the name of an attribute.
ACCESSORS = ("hasattr", "getattr", "setattr", "delattr")
#: Methods that take device text apart or test it.
STRING_METHODS = ("startswith", "endswith", "replace", "split", "find", "count", "index")

#: The method taken from its class: `map(torch.Tensor.cuda, xs)`.
UNBOUND = ("torch.Tensor.cuda", "torch.nn.Module.cuda", "torch.nn.modules.module.Module.cuda")

NAME_TAKEN = "the name torch means something else here; write the device by hand"


def npu_import(target: Target) -> tuple[str, ...]:
    """torch_npu registers itself on `import torch` since 2.5; before, it must be imported."""
    return () if target.has(AUTOLOAD_SINCE) else ("torch_npu",)


# POR101 ---------------------------------------------------------------------------------------


@rule(
    "POR101",
    "cuda-method-call",
    attributes=("cuda",),
    examples=[
        change(
            "import torch\nx = torch.ones(2).cuda()\n",
            "import torch\nx = torch.ones(2).to(torch.accelerator.current_accelerator())\n",
            "import torch\nx = torch.ones(2).npu()\n",
        ),
        change(
            "import torch\n\ndef step(model, x, y):\n    model.cuda()\n    return model(x.cuda(), y.cuda(non_blocking=True))\n",
            "import torch\n\ndef step(model, x, y):\n    device = torch.accelerator.current_accelerator()\n    model.to(device)\n    return model(x.to(device), y.to(device, non_blocking=True))\n",
            "import torch\n\ndef step(model, x, y):\n    model.npu()\n    return model(x.npu(), y.npu(non_blocking=True))\n",
            note="one assignment where a function asks more than once",
        ),
        change(
            'import torch\ndevice = torch.device("cuda" if torch.cuda.is_available() else "cpu")\nx = torch.ones(2).cuda()\n',
            'import torch\ndevice = torch.device(torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu")\nx = torch.ones(2).to(device)\n',
            'import torch\ndevice = torch.device("npu" if torch.npu.is_available() else "cpu")\nx = torch.ones(2).npu()\n',
            note="a device variable in scope is used",
        ),
        change(
            "import torch\nx = torch.ones(2).cuda(0)\ny = x.cuda(1, True)\n",
            "import torch\nx = torch.ones(2).to(0)\ny = x.to(1, non_blocking=True)\n",
            "import torch\nx = torch.ones(2).npu(0)\ny = x.npu(1, True)\n",
            note="an integer means that index of the current accelerator",
        ),
        change(
            "def f(model):\n    return model.cuda()\n",
            "import torch\n\ndef f(model):\n    return model.to(torch.accelerator.current_accelerator())\n",
            "def f(model):\n    return model.npu()\n",
        ),
        change(
            'import torch\n\n\ndef f(x, use_cuda):\n    device = torch.device("cuda" if use_cuda else "cpu")\n    return x.cuda(), device\n',
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\n\ndef f(x, use_cuda):\n    device = torch.device(device_type if use_cuda else "cpu")\n    return x.to(torch.accelerator.current_accelerator()), device\n',
            'import torch\n\n\ndef f(x, use_cuda):\n    device = torch.device("npu" if use_cuda else "cpu")\n    return x.npu(), device\n',
            note="a device that a flag may turn to the CPU is not the accelerator's",
        ),
        change(
            'import torch\n\n\ndef get_device():\n    return torch.device("cuda" if torch.cuda.is_available() else "cpu")\n\n\ndef f(x):\n    return x.cuda()\n',
            'import torch\n\n\ndef get_device():\n    return torch.device(torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu")\n\n\ndef f(x):\n    return x.to(get_device())\n',
            'import torch\n\n\ndef get_device():\n    return torch.device("npu" if torch.npu.is_available() else "cpu")\n\n\ndef f(x):\n    return x.npu()\n',
            note="the project's own helper is used",
        ),
        change(
            "from accelerate import Accelerator\n\naccelerator = Accelerator()\n\n\ndef f(x):\n    return x.cuda()\n",
            "from accelerate import Accelerator\n\naccelerator = Accelerator()\n\n\ndef f(x):\n    return x.to(accelerator.device)\n",
            "from accelerate import Accelerator\n\naccelerator = Accelerator()\n\n\ndef f(x):\n    return x.npu()\n",
        ),
        change(
            'import torch\nx = torch.load("a", map_location=lambda storage, loc: storage.cuda())\ny = torch.load("a", map_location=lambda s, l: s.cuda(1))\n',
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\nx = torch.load("a", map_location=torch.accelerator.current_accelerator())\ny = torch.load("a", map_location=torch.device(device_type, 1))\n',
            'import torch\nx = torch.load("a", map_location=lambda storage, loc: storage.npu())\ny = torch.load("a", map_location=lambda s, l: s.npu(1))\n',
            note="a storage's own .to() takes a device by keyword only",
        ),
        keep("import argparse\n\ndef f(args):\n    return 1 if args.cuda else 0\n", finding=False),
        keep(
            "class Net:\n    def cuda(self):\n        return self\n\n    def go(self):\n        self.cuda()\n"
        ),
        keep("from numba import cuda\n\n@cuda.jit\ndef kernel(a):\n    pass\n", finding=False),
        keep("import torch\n\ndef f(x, **kwargs):\n    return x.cuda(**kwargs)\n", finding=True),
    ],
)
def cuda_method_call(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `.cuda()` on tensors, modules and storages.

    ## Why it matters
    `.cuda()` asks for CUDA by name and fails on every other device.

    ## What it does
    accelerator: `.cuda()` becomes `.to(device)`, where `device` is, in this order, a variable in
    scope that surely holds the accelerator's device, the project's own helper (`accelerator.device`
    of Accelerate, a `get_device()` of the file), one assignment
    `device = torch.accelerator.current_accelerator()` if the function asks more than once, or that
    expression in place. Without an accelerator it is None, and `.to(None)` leaves the tensor where
    it is. An integer argument stays: torch takes it as an index of the current accelerator.

    npu: `.cuda(...)` becomes `.npu(...)`, the method that torch_npu adds with the same arguments.

    ## Safety
    Unsafe where the argument may be None (`.cuda(None)` moves to the current device, `.to(None)`
    does not move), and where a class of the project defines its own `cuda()` and the receiver may
    be one. Left alone where the class itself defines `cuda`.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.Tensor.to.html
    - https://docs.pytorch.org/docs/stable/generated/torch.accelerator.current_accelerator.html
    """
    call = site.call
    if site.name in UNBOUND:
        yield from _unbound(site, target)
        return
    if call is None:
        yield from _uncalled(site)
        return
    foreign = _foreign_receiver(site)
    if foreign is None:
        return
    if foreign:
        yield site.gap(
            f"`{foreign}` has a `cuda` of its own; check whether it can use the target device",
            category=Category.POTENTIAL,
            effort=3,
        )
        return
    own = _own_method(site)
    if own == "self":
        yield site.information(
            "calls the class's own cuda(), which is migrated where it is defined"
        )
        return
    token = attribute_token(site.module, site.node)
    if token is None or has_star(call):
        yield site.gap("arguments are hidden behind a star; write .to(device) by hand")
        return
    note = f"{own} defines its own cuda(); make sure this is not one" if own else ""
    if not target.agnostic:
        yield _note(
            site.finding(Edit.of(*token, "npu"), imports=npu_import(target), span=_call_span(site)),
            note,
        )
        return
    if not target.has(ACCELERATOR_SINCE):
        yield site.gap(TOO_OLD)
        return
    place = _location_lambda(site)
    if place is not None:
        yield _location(site, call, place)
    elif _is_storage(site):
        yield site.gap("a storage is moved by .to(device=...), by keyword and to a device only")
    else:
        yield _note(_to_device(site, call, token), note)


def _note(finding: Finding, note: str) -> Finding:
    import dataclasses

    if not note or not finding.edits:
        return finding
    return dataclasses.replace(finding, safety=Safety.UNSAFE, reason=note)


def _call_span(site: Site) -> tuple[int, int]:
    end = site.module.end(site.parent)
    token = attribute_token(site.module, site.node)
    return (token[0] if token else site.start), end


def _to_device(site: Site, call: ast.Call, token: tuple[int, int]) -> Finding:
    """`.cuda(...)` as `.to(...)`."""
    module = site.module
    if len(call.args) > 2:
        return site.gap("too many arguments to tell apart; write .to(device, ...) by hand")
    where: ast.expr | None = call.args[0] if call.args else None
    blocking: ast.expr | None = call.args[1] if len(call.args) > 1 else None
    for keyword in call.keywords:
        if keyword.arg == "device":
            where = keyword.value
    edits = [Edit.of(*token, "to")]
    opening = open_parenthesis(module, call)
    imports: tuple[str, ...] = ()
    safety, reason = Safety.SAFE, ""
    if where is None or _is_none(where):
        device = device_expression(site)
        if device is None:
            return site.gap(NAME_TAKEN)
        imports = device.imports
        rest = bool(call.args or call.keywords)
        if where is None:
            edits.append(Edit.of(opening, opening, device.part, ", " if rest else ""))
        else:
            edits.append(Edit.of(*module.span(where), device.part))
    elif not _surely_not_none(module, where):
        safety = Safety.UNSAFE
        reason = (
            "if this argument can be None, .cuda(None) meant the current device, while .to(None) "
            "moves nothing"
        )
    if blocking is not None:
        start, _ = argument_span(module, blocking)
        edits.append(Edit.of(start, start, "non_blocking="))
    return site.finding(
        *edits, imports=imports, safety=safety, reason=reason, span=_call_span(site)
    )


def _location_lambda(site: Site) -> ast.Lambda | None:
    """The lambda of `map_location=lambda storage, loc: storage.cuda(...)`."""
    function: Any = parent_of(site.call)
    receiver = site.node.value
    if not isinstance(function, ast.Lambda) or not isinstance(receiver, ast.Name):
        return None
    names = [a.arg for a in function.args.args]
    around = parent_of(function)
    is_location = (isinstance(around, ast.keyword) and around.arg == "map_location") or (
        isinstance(around, ast.Call) and site.module.name_of(around.func) == "torch.load"
    )
    return function if is_location and names[:1] == [receiver.id] else None


def _location(site: Site, call: ast.Call, function: ast.Lambda) -> Finding:
    """The device itself in place of a lambda that moves every storage to it."""
    module = site.module
    around = site.at(function)
    start, end = module.span(function)
    if len(call.args) > 1 or any(k.arg != "device" for k in call.keywords):
        return site.gap("write map_location=device by hand")
    where = call.args[0] if call.args else call.keywords[0].value if call.keywords else None
    if where is None:
        device = device_expression(around)
        if device is None:
            return site.gap(NAME_TAKEN)
        edit = Edit.of(start, end, device.part)
        return site.finding(edit, imports=device.imports, span=(start, end))
    torch, kind = torch_at(around), type_expression(around, reuse=False)
    if torch is None or kind is None:
        return site.gap(NAME_TAKEN)
    low, high = outer_span(module, where)
    index = _surely_not_none(module, where) and not isinstance(where, ast.JoinedStr)
    return site.finding(
        Edit.of(start, low, f"{torch[0]}.device(", kind.part, ", "),
        Edit.of(high, end, ")"),
        imports=(*torch[1], *kind.imports),
        safety=Safety.SAFE if index else Safety.UNSAFE,
        reason="" if index else "right if the argument is an index, not None or a device",
        span=(start, end),
    )


def _is_storage(site: Site) -> bool:
    receiver = site.node.value
    if isinstance(receiver, ast.Name):
        return receiver.id in ("storage", "untyped_storage")
    return (
        isinstance(receiver, ast.Call)
        and isinstance(receiver.func, ast.Attribute)
        and (receiver.func.attr in ("storage", "untyped_storage", "typed_storage"))
    )


def _is_none(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value is None


def _surely_not_none(module: Module, node: ast.expr) -> bool:
    """Whether an index or device given to `.cuda()` cannot be None."""
    if isinstance(node, ast.Constant):
        return node.value is not None
    if isinstance(node, (ast.JoinedStr, ast.BinOp, ast.Subscript)):
        return True
    if isinstance(node, ast.Call):
        name = module.name_of(node.func)
        return name.startswith("torch.") or (
            isinstance(node.func, ast.Name) and node.func.id in ("int", "str")
        )
    if _tested_not_none(module, node):
        return True
    if isinstance(node, ast.Attribute):
        return node.attr == "device"
    if isinstance(node, ast.Name):
        owner = module.scope(node).owner(node.id)
        bindings = owner.bindings.get(node.id, []) if owner else []
        return bool(bindings) and all(_never_none(module, b) for b in bindings)
    return False


def _never_none(module: Module, binding: Any) -> bool:
    if binding.kind == "for":
        return True
    if binding.kind == "param":
        default = binding.value
        annotation = getattr(binding.node, "annotation", None)
        if annotation is not None:
            return module.segment(annotation) in ("int", "torch.device", "str", "device")
        return default is not None and not _is_none(default)
    value = binding.value
    return value is not None and not isinstance(value, ast.Name) and _surely_not_none(module, value)


def _tested_not_none(module: Module, node: ast.expr) -> bool:
    """`if args.gpu is not None:` around the call."""
    wanted = ast.dump(node)
    child: Any = node
    for parent in module.parents(node):
        if isinstance(parent, ast.If) and child in parent.body:
            for test in ast.walk(parent.test):
                if (
                    isinstance(test, ast.Compare)
                    and isinstance(test.ops[0], ast.IsNot)
                    and _is_none(test.comparators[0])
                    and ast.dump(test.left) == wanted
                ):
                    return True
        child = parent
    return False


def _unbound(site: Site, target: Target) -> Iterator[Finding]:
    token = attribute_token(site.module, site.node)
    if site.stored or token is None:
        yield site.gap("the method is replaced here; replace the target's instead")
    elif target.agnostic:
        yield site.gap("the method of the class itself; use its .to with a device as an argument")
    else:
        yield site.finding(Edit.of(*token, "npu"), imports=npu_import(target))


def _uncalled(site: Site) -> Iterator[Finding]:
    """`x.cuda` without a call: a flag, or the method handed on."""
    parent = site.parent
    if site.name == "torch.cuda":
        yield from _module_itself(site)
        return
    if site.stored or site.name or not isinstance(parent, (ast.Call, ast.Assign)):
        return
    if isinstance(parent, ast.Call) and site.node not in parent.args:
        return
    if _flag(site):
        return
    yield site.gap(
        "the method cuda is handed on without being called (or this is a flag); if it moves "
        "data, hand on a function that calls .to(device)",
        category=Category.POTENTIAL,
    )


def _module_itself(site: Site) -> Iterator[Finding]:
    """`f(torch.cuda)`, `setattr(torch.cuda, ...)`: what is done with it then is not seen."""
    parent = site.parent
    if isinstance(parent, (ast.Attribute, ast.Expr)) or _only_asked(site):
        return
    if isinstance(parent, ast.Assign) and all(
        isinstance(t, ast.Name) and _followed(site, t) for t in parent.targets
    ):
        return
    yield site.gap(
        "torch.cuda itself is handed on here, and what is then asked of it is not seen; "
        + ("use torch.get_device_module()" if site.target.agnostic else "use torch.npu")
    )


def _only_asked(site: Site) -> bool:
    parent = site.parent
    return (
        isinstance(parent, ast.Call)
        and isinstance(parent.func, ast.Name)
        and parent.func.id == "hasattr"
    )


def _followed(site: Site, name: ast.Name) -> bool:
    """Whether every use of a variable for the module is a use of one of its names."""
    owner = site.scope.owner(name.id)
    return owner is not None and all(
        isinstance(parent_of(use), ast.Attribute) and site.module.name_of(use) == "torch.cuda"
        for use in owner.uses(name.id)
    )


def _flag(site: Site) -> bool:
    """Whether `.cuda` is a plain attribute: set somewhere in the file, or read off options."""
    stored = any(isinstance(n.ctx, ast.Store) for n in site.module.attributes.get("cuda", ()))
    receiver = site.module.segment(site.node.value)
    return stored or bool(
        re.search(
            r"(^|\.|_)(args?|opts?|options|cfg|conf|config|params|flags|hparams|FLAGS)$", receiver
        )
    )


def _foreign_receiver(site: Site) -> str | None:
    """ "" if the receiver may be torch's; the package if it has a cuda of its own; None: ignore."""
    receiver: Any = site.node.value
    name = site.module.name_of(receiver)
    root = receiver
    while not name and isinstance(root, (ast.Call, ast.Attribute, ast.Subscript)):
        root = root.func if isinstance(root, ast.Call) else root.value
        name = site.module.name_of(root)
    top = name.partition(".")[0]
    if top in FOREIGN:
        return top
    if name == top and top in TORCH_FAMILY and root is receiver:
        return None
    return ""


def _own_method(site: Site) -> str:
    """ "self" if the call surely reaches a `cuda` of the file's own class, else who defines one."""
    module = site.module
    receiver = site.node.value
    owner = module.enclosing_class(site.node)
    if owner is not None and _defines(owner, "cuda"):
        if isinstance(receiver, ast.Name) and receiver.id in ("self", "cls"):
            return "self"
        if isinstance(receiver, ast.Call) and module.segment(receiver.func) == "super":
            return ""
    classes = module.once("moves", lambda: _with_own_move(module))
    for node in classes:
        if _instance_of(module, receiver, node):
            return "self"
    if _surely_torch(module, receiver):
        return ""
    known = [getattr(c, "name", "") for c in classes]
    known += list(module.facts.methods.get("cuda", ()))
    return known[0] if known else ""


def _with_own_move(module: Module) -> list[ast.AST]:
    """The classes of the file that define `cuda`."""
    scopes = module.root.descendants()
    return [s.node for s in scopes if s.kind == "class" and _defines(s.node, "cuda")]


def _defines(node: Any, method: str) -> bool:
    return any(
        isinstance(f, (ast.FunctionDef, ast.AsyncFunctionDef)) and f.name == method
        for f in node.body
    )


def _instance_of(module: Module, receiver: Any, owner: Any) -> bool:
    if isinstance(receiver, ast.Name):
        scope = module.scope(receiver).owner(receiver.id)
        values = [b.value for b in scope.bindings.get(receiver.id, ())] if scope else []
        return any(
            v is not None and _instance_of(module, v, owner)
            for v in values
            if not isinstance(v, ast.Name)
        )
    return (
        isinstance(receiver, ast.Call)
        and isinstance(receiver.func, ast.Name)
        and receiver.func.id == owner.name
    )


def _surely_torch(module: Module, receiver: Any) -> bool:
    """A tensor or module that torch itself made."""
    if isinstance(receiver, ast.Name):
        scope = module.scope(receiver).owner(receiver.id)
        bindings = scope.bindings.get(receiver.id, ()) if scope else ()
        return bool(bindings) and all(
            b.value is not None
            and not isinstance(b.value, ast.Name)
            and _surely_torch(module, b.value)
            for b in bindings
        )
    while isinstance(receiver, (ast.Call, ast.Attribute, ast.Subscript)):
        inner = receiver.func if isinstance(receiver, ast.Call) else receiver.value
        name = module.name_of(inner)
        if name.startswith("torch."):
            return True
        receiver = inner
    return False


# POR102 ---------------------------------------------------------------------------------------


@rule(
    "POR102",
    "cuda-device-string",
    strings=r"^cuda(:\d+)?$",
    examples=[
        change(
            'import torch\nx = torch.zeros(2, device="cuda")\n',
            "import torch\nx = torch.zeros(2, device=torch.accelerator.current_accelerator())\n",
            'import torch\nx = torch.zeros(2, device="npu")\n',
        ),
        keep(
            'import torch\nx = torch.load("a", map_location={"cuda:0": "cpu"})\n',
            note="the key tells where the file was saved",
        ),
        change(
            'import torch\n\ndef f(x):\n    return x.to(f"cuda:0")\n',
            'import torch\n\ndef f(x):\n    return x.to(f"{torch.accelerator.current_accelerator().type}:0")\n',
            'import torch\n\ndef f(x):\n    return x.to(f"npu:0")\n',
        ),
        change(
            'import torch\ndevice = torch.device("cuda")\nx = torch.zeros(2).to(device)\n',
            'import torch\ndevice = torch.accelerator.current_accelerator() or torch.device("cpu")\nx = torch.zeros(2).to(device)\n',
            'import torch\ndevice = torch.device("npu")\nx = torch.zeros(2).to(device)\n',
        ),
        change(
            'import torch\ndevice = "cuda:0" if torch.cuda.is_available() else "cpu"\n',
            'import torch\ndevice = f"{torch.accelerator.current_accelerator().type}:0" if torch.accelerator.is_available() else "cpu"\n',
            'import torch\ndevice = "npu:0" if torch.npu.is_available() else "cpu"\n',
        ),
        change(
            'import torch\n\n\ndef load(path, device="cuda"):\n    return torch.load(path, map_location=device)\n',
            'import torch\n\n\ndef load(path, device=(torch.accelerator.current_accelerator() or torch.device("cpu")).type):\n    return torch.load(path, map_location=device)\n',
            'import torch\n\n\ndef load(path, device="npu"):\n    return torch.load(path, map_location=device)\n',
            note="a default is evaluated at import: it must not fail on a machine without accelerator",
        ),
        change(
            'import argparse\nimport torch\n\nparser = argparse.ArgumentParser()\nparser.add_argument("--device", default="cuda", choices=["cuda", "cpu"])\n',
            'import argparse\nimport torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\nparser = argparse.ArgumentParser()\nparser.add_argument("--device", default=device_type, choices=[device_type, "cpu"])\n',
            'import argparse\nimport torch\n\nparser = argparse.ArgumentParser()\nparser.add_argument("--device", default="npu", choices=["npu", "cpu"])\n',
        ),
        keep(
            '"""Runs on cuda."""\nURL = "https://example.org/cuda"\nNAME = "barracuda"\n',
            finding=False,
        ),
        keep('options = {"cuda": 1}\n', finding=False),
        keep('import xgboost\nmodel = xgboost.XGBClassifier(device="cuda")\n', finding=True),
        keep('import logging\nlogging.info("cuda")\n', finding=True),
    ],
)
def cuda_device_string(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `"cuda"` and `"cuda:N"` where they name a device.

    ## Why it matters
    The string selects CUDA by name; on another device torch raises at that place.

    ## What it does
    A string is rewritten only where it is a device: an argument or keyword that takes one, also
    through a variable, a parameter's default, a dataclass field, an argparse default or choice, or
    a dict entry. Everything else that reads "cuda" is left, and reported if it might be one.

    accelerator: where torch takes a device, `torch.accelerator.current_accelerator()`; where a
    string is needed, its `.type`, with "cpu" as the fallback wherever the original line ran without
    CUDA. npu: `"npu"`, `"npu:N"`.

    ## Safety
    Unsafe where the string goes to a package not known to take any torch device.

    ## References
    - https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.device
    """
    if _compared(site):
        return
    found = sink(site.module, site.node)
    if found.kind == "saved":
        yield _saved(site, site.node)
        return
    if found.kind == "":
        if _is_key(site) or _is_docstring(site):
            return
        found = Sink("potential")
    if found.kind == "literal" and target.agnostic:
        yield site.gap("a Literal type cannot hold an expression; annotate it with str", effort=1)
        return
    if found.kind == "potential":
        yield site.gap(
            'this "cuda" is not proven to be a device; if it is one, write the target\'s device',
            category=Category.POTENTIAL,
        )
        return
    if found.foreign in FOREIGN:
        yield site.gap(
            f"`{found.foreign}` has its own CUDA backend; it must be configured for the target by hand",
            category=Category.POTENTIAL,
            effort=3,
        )
        return
    if not site.module.exact(site.node):
        yield site.gap("the string is part of a concatenation; write the device by hand")
        return
    reason = (
        f"`{found.foreign}` must accept the target's device here; check its documentation"
        if found.foreign
        else ""
    )
    safety = Safety.UNSAFE if found.foreign else Safety.SAFE
    if not target.agnostic:
        quoted = _requoted(site.text, "npu")
        yield site.replace(quoted, safety=safety, reason=reason, imports=npu_import(target))
        return
    if not target.has(ACCELERATOR_SINCE):
        yield site.gap(TOO_OLD)
        return
    yield _accelerator_string(site, found, safety, reason)


def _requoted(text: str, word: str) -> str:
    """The literal with its own quotes, "cuda" replaced."""
    if "cuda" not in text:  # "cu" "da", "\\x63uda"
        value: str = ast.literal_eval(f"({text})")
        return f'"{value.replace("cuda", word, 1)}"'
    return text.replace("cuda", word, 1)


def _is_key(site: Site) -> bool:
    """Whether the string names an entry, an attribute or an option, which is no device."""
    parent = site.parent
    if isinstance(parent, ast.keyword):
        return parent.arg in ("dest", "metavar", "help")
    if isinstance(parent, ast.Call):
        name = parent.func
        if isinstance(name, ast.Attribute):
            return name.attr in KEYED_METHODS and parent.args[:1] == [site.node]
        accessor = isinstance(name, ast.Name) and name.id in ACCESSORS
        return accessor and parent.args[1:2] == [site.node]
    return (isinstance(parent, ast.Dict) and site.node in parent.keys) or (
        isinstance(parent, ast.Subscript) and parent.slice is site.node
    )


def _saved(site: Site, key: ast.expr) -> Finding:
    """A key of `map_location={"cuda:0": ...}`: what the file says, whatever device is there now."""
    around: Any = parent_of(key)
    value = around.values[around.keys.index(key)]
    if isinstance(value, ast.Constant) and value.value == "cpu":
        return site.information("names where the file was saved")
    return site.gap(
        "names where the file was saved: give files that the target saves a key of their own, or "
        "write map_location=device if all in the file may move there",
        category=Category.POTENTIAL,
        effort=1,
    )


def _is_docstring(site: Site) -> bool:
    return isinstance(site.parent, ast.Expr)


def _compared(site: Site) -> bool:
    """Whether another rule (POR103) looks at this string."""
    parent = site.parent
    if isinstance(parent, (ast.Compare, ast.MatchValue)):
        return True
    within = isinstance(parent, (ast.Tuple, ast.List, ast.Set))
    if within and isinstance(parent_of(parent), ast.Compare):
        return True
    return _string_method(site) != ""


def _string_method(site: Site) -> str:
    parent = site.parent
    if not (isinstance(parent, ast.Call) and isinstance(parent.func, ast.Attribute)):
        return ""
    return parent.func.attr if parent.func.attr in STRING_METHODS else ""


def _accelerator_string(site: Site, found: Sink, safety: Safety, reason: str) -> Finding:
    index = site.node.value.partition(":")[2]
    spelled: Spelled | None
    if index:
        spelled = _indexed(site, found)
        if spelled is None:
            return site.gap(NAME_TAKEN)
        return site.replace(
            'f"{',
            spelled.part,
            f'}}:{index}"',
            safety=safety,
            reason=reason,
            imports=spelled.imports,
        )
    if found.kind == "ctor":
        return _constructor(site)
    takes_device = found.kind == "device"
    spelled = device_expression(site) if takes_device else type_expression(site)
    if spelled is None:
        return site.gap(NAME_TAKEN)
    return site.replace(spelled.part, safety=safety, reason=reason, imports=spelled.imports)


def _indexed(site: Site, found: Sink) -> Spelled | None:
    """The type of an f-string "type:N"."""
    if found.stops:
        torch = torch_at(site)
        return None if torch is None else Spelled(f"{torch[0]}.{CURRENT}.type", torch[1])
    return type_expression(site, in_string=True, reuse=False)


def _constructor(site: Site) -> Finding:
    """`torch.device("cuda")`: the whole call where it stands alone, else the string in it."""
    module = site.module
    call = site.parent
    alone = isinstance(call, ast.Call) and len(call.args) == 1 and not call.keywords
    if not alone:
        spelled = type_expression(site, reuse=False)
        if spelled is None:
            return site.gap(NAME_TAKEN)
        return site.replace(spelled.part, imports=spelled.imports)
    span = module.span(call)
    around = site.at(call)
    goes = sink(module, call)
    if goes.kind == "device":
        device = device_expression(around)
    elif guarded(module, call):
        torch = torch_at(site)
        device = None if torch is None else Spelled(f"{torch[0]}.{CURRENT}", torch[1])
    else:
        device = safe_device_expression(around)
        if device is not None and isinstance(device.part, str) and needs_parentheses(call):
            device = Spelled(f"({device.part})", device.imports)
    if device is None:
        return site.gap(NAME_TAKEN)
    return site.finding(Edit.of(*span, device.part), imports=device.imports, span=span)


# POR103 ---------------------------------------------------------------------------------------


@rule(
    "POR103",
    "cuda-device-comparison",
    strings=r"^cuda(:\d+)?:?$",
    examples=[
        change(
            'import torch\n\ndef f(x, device):\n    if device.type == "cuda":\n        x = x.half()\n    return x\n',
            'import torch\n\ndef f(x, device):\n    if device.type not in ("cpu", "meta"):\n        x = x.half()\n    return x\n',
            'import torch\n\ndef f(x, device):\n    if device.type == "npu":\n        x = x.half()\n    return x\n',
        ),
        change(
            'import torch\n\ndef f(device):\n    assert device in ("cuda", "cpu")\n',
            'import torch\n\ndef f(device):\n    assert device in ((torch.accelerator.current_accelerator() or torch.device("cpu")).type, "cpu")\n',
            'import torch\n\ndef f(device):\n    assert device in ("npu", "cpu")\n',
        ),
        change(
            'import torch\n\ndef f(device):\n    return str(device).startswith("cuda")\n',
            "import torch\n\ndef f(device):\n    return torch.accelerator.is_available() and str(device).startswith(torch.accelerator.current_accelerator().type)\n",
            'import torch\n\ndef f(device):\n    return str(device).startswith("npu")\n',
        ),
        keep(
            'import torch\n\ndef f(device):\n    if device.type == "cuda":\n        torch.backends.cudnn.benchmark = True\n',
            note="a branch around CUDA-only switches stays as it is",
        ),
        change(
            'def f(device):\n    if device.type == "cuda":\n        return 1\n    if device.type == "mps":\n        return 2\n    return 0\n',
            None,
            'def f(device):\n    if device.type == "npu":\n        return 1\n    if device.type == "mps":\n        return 2\n    return 0\n',
            note="only its author knows which branch any other accelerator takes",
        ),
        keep(
            'def f(device):\n    if device.type == "cuda":\n        return 1\n    if device.type == "npu":\n        return 2\n    return 0\n',
            finding=True,
        ),
        keep('def f(fish):\n    return fish == "barracuda"\n', finding=False),
    ],
)
def cuda_device_comparison(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for comparisons of a device with `"cuda"`.

    ## Why it matters
    On another accelerator the comparison is false, and the code silently takes the CPU's path.

    ## What it does
    npu: `"npu"`. accelerator: `device.type == "cuda"` becomes
    `device.type not in ("cpu", "meta")`, which is true on exactly the same tensors on a CUDA
    machine and needs no accelerator to be evaluated. Other comparisons ask
    `torch.accelerator.is_available()` first, since `current_accelerator()` is None without one.
    A branch that holds nothing but CUDA-only switches stays as it is.

    ## Safety
    Code that already tells several accelerators apart ("mps", "xpu", ...) is left: only its author
    knows which branch another device should take.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.accelerator.is_available.html
    """
    if not _compared(site):
        return
    parent = site.parent
    if isinstance(parent, ast.MatchValue):
        yield from _match_case(site, target)
        return
    method = _string_method(site)
    if method:
        receiver = parent.func.value
        if method in ("replace", "split") or not is_device_value(site.module, receiver):
            if is_device_value(site.module, receiver):
                yield site.gap(
                    "device text is taken apart here; use torch.device(...).type and .index"
                )
            return
        yield from _comparison(site, target, parent)
        return
    comparison = parent if isinstance(parent, ast.Compare) else parent.parent
    others = [comparison.left, *comparison.comparators]
    others = [o for o in others if o is not site.node and o is not parent]
    if len(comparison.ops) != 1 or not any(is_device_value(site.module, o) for o in others):
        yield site.gap(
            'compared with "cuda", but not proven to be a device', category=Category.POTENTIAL
        )
        return
    yield from _comparison(site, target, comparison)


def _match_case(site: Site, target: Target) -> Iterator[Finding]:
    if target.agnostic:
        yield site.gap("a case pattern cannot hold an expression; add a case for the accelerator")
        return
    yield site.replace(_requoted(site.text, "npu"))


def _comparison(site: Site, target: Target, node: Any) -> Iterator[Finding]:
    guards = body_span(site.module, node)
    if target.agnostic and distinguishes(site):
        yield site.gap(TOLD_APART, effort=3)
        return
    if not target.agnostic:
        if not site.module.exact(site.node):
            yield site.gap("the string is part of a concatenation; compare with the target by hand")
            return
        yield site.replace(_requoted(site.text, "npu"), guards=guards)
        return
    if not target.has(ACCELERATOR_SINCE):
        yield site.gap(TOO_OLD)
        return
    if not _plain_type_test(site, node) and _own_abstraction(site.module, node):
        yield site.gap(
            "compared through an abstraction of the project's own; ask it for the target"
        )
        return
    yield _accelerator_comparison(site, node, guards)


def _accelerator_comparison(site: Site, node: Any, guards: tuple[int, int] | None) -> Finding:
    module = site.module
    torch = torch_at(site)
    if torch is None:
        return site.gap(NAME_TAKEN)
    name, imports = torch
    span = module.span(node)
    bare = site.node.value.rstrip(":")
    if ":" in bare:
        return site.gap("compared with one device index; compare .type and .index apart")
    if _plain_type_test(site, node):
        operator = module.text.index(
            "==" if isinstance(node.ops[0], ast.Eq) else "!=", module.end(node.left)
        )
        word = "not in" if isinstance(node.ops[0], ast.Eq) else "in"
        return site.finding(
            Edit.of(operator, outer_span(module, site.node)[1], f'{word} ("cpu", "meta")'),
            guards=guards,
            span=span,
        )
    current = f"{name}.{CURRENT}.type"
    if isinstance(site.parent, (ast.Tuple, ast.List, ast.Set)):
        spelled = type_expression(site, reuse=False)
        if spelled is None:
            return site.gap(NAME_TAKEN)
        return site.replace(spelled.part, imports=spelled.imports, guards=guards)
    if _asked_in_vain(module, node):
        return _not_the_cpu(site, node, guards)
    value = f'f"{{{current}}}:"' if site.node.value.endswith(":") else current
    if guarded(module, site.node):
        return site.replace(value, imports=imports, guards=guards)
    negative = isinstance(node, ast.Compare) and isinstance(node.ops[0], (ast.NotEq, ast.NotIn))
    prefix = (
        f"not {name}.accelerator.is_available() or "
        if negative
        else f"{name}.accelerator.is_available() and "
    )
    edits = [Edit.of(site.start, site.end, value)]
    if needs_parentheses(node) and not _joins(node, negative):
        edits += [Edit.of(span[0], span[0], "(", prefix), Edit.of(span[1], span[1], ")")]
    else:
        edits.append(Edit.of(span[0], span[0], prefix))
    return site.finding(*edits, imports=imports, guards=guards, span=span)


def _asked_in_vain(module: Module, node: Any) -> bool:
    """`device == "cuda" and not torch.cuda.is_available()`: asked for, and there is none."""
    parent = node.parent
    return (
        isinstance(parent, ast.BoolOp)
        and isinstance(parent.op, ast.And)
        and any(
            isinstance(v, ast.UnaryOp)
            and isinstance(v.op, ast.Not)
            and is_availability(v.operand, module)
            for v in parent.values
        )
    )


def _not_the_cpu(site: Site, node: Any, guards: tuple[int, int] | None) -> Finding:
    """Without an accelerator, whatever is not the CPU was asked for in vain."""
    module = site.module
    string = Edit.of(site.start, site.end, site.text.replace("cuda", "cpu", 1))
    start, end = module.span(node)
    if isinstance(node, ast.Call):
        return site.finding(Edit.of(start, start, "not "), string, guards=guards, span=(start, end))
    word, new = ("==", "!=") if isinstance(node.ops[0], ast.Eq) else ("in", "not in")
    if not isinstance(node.ops[0], (ast.Eq, ast.In)) or site.text.count("cuda") != 1:
        return site.gap("asks for CUDA where there is none; ask for the target's device")
    at = module.text.index(word, module.end(node.left))
    return site.finding(Edit.of(at, at + len(word), new), string, guards=guards, span=(start, end))


def _joins(node: Any, negative: bool) -> bool:
    """Whether `a and node` needs no parentheses where `node` stands."""
    parent = node.parent
    if isinstance(parent, ast.BoolOp):
        return not negative or isinstance(parent.op, ast.Or)
    return (isinstance(parent, ast.IfExp) and parent.test is node) or isinstance(
        parent, (ast.Assert, ast.comprehension)
    )


def _own_abstraction(module: Module, node: ast.AST) -> bool:
    """`get_accelerator().device_name() == "cuda"`: the project has a layer that knows devices."""
    return any(
        isinstance(child, ast.Call)
        and re.search(r"accelerator|platform|backend", module.segment(child.func))
        and not module.name_of(child.func).startswith("torch.")
        for child in ast.walk(node)
    )


def _plain_type_test(site: Site, node: Any) -> bool:
    value: object = site.node.value
    return (
        isinstance(node, ast.Compare)
        and len(node.ops) == 1
        and isinstance(node.ops[0], (ast.Eq, ast.NotEq))
        and _is_type(site.module, node.left)
        and node.comparators[0] is site.node
        and value == "cuda"
    )


def _is_type(module: Module, node: ast.expr) -> bool:
    """`x.device.type`, also under a name that means nothing else."""
    if isinstance(node, ast.Name):
        owner = module.scope(node).owner(node.id)
        bindings = owner.bindings.get(node.id, []) if owner else []
        value = bindings[0].value if len(bindings) == 1 else None
        return isinstance(value, ast.Attribute) and _is_type(module, value)
    return isinstance(node, ast.Attribute) and node.attr == "type"


# POR104 ---------------------------------------------------------------------------------------


@rule(
    "POR104",
    "is-cuda-attribute",
    attributes=("is_cuda",),
    examples=[
        change(
            "import torch\n\ndef f(x):\n    return x.is_cuda\n",
            'import torch\n\ndef f(x):\n    return x.device.type not in ("cpu", "meta")\n',
            "import torch\n\ndef f(x):\n    return x.is_npu\n",
        ),
        change(
            "import torch\n\ndef f(x):\n    if not x.is_cuda:\n        return x + 1\n    return x\n",
            'import torch\n\ndef f(x):\n    if x.device.type in ("cpu", "meta"):\n        return x + 1\n    return x\n',
            "import torch\n\ndef f(x):\n    if not x.is_npu:\n        return x + 1\n    return x\n",
        ),
        keep(
            "class Box:\n    def __init__(self):\n        self.is_cuda = False\n\n    def go(self):\n        return self.is_cuda\n"
        ),
        keep(
            "import torch\nfrom torch.nn.utils.rnn import PackedSequence\n\ndef f(x):\n    return x.is_cuda\n",
            finding=True,
        ),
    ],
)
def is_cuda_attribute(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `tensor.is_cuda`.

    ## Why it matters
    It is False for a tensor on any other accelerator.

    ## What it does
    accelerator: `x.device.type not in ("cpu", "meta")`. npu: `x.is_npu`, which torch_npu adds.

    ## Safety
    Left alone where a class sets or defines `is_cuda` itself, and in files that use
    `PackedSequence`, which has `is_cuda` but no `device`.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.Tensor.is_cuda.html
    """
    module = site.module
    if site.stored or site.name.startswith(tuple(f"{f}." for f in FOREIGN)):
        return
    own = any(isinstance(n.ctx, ast.Store) for n in module.attributes.get("is_cuda", ()))
    own = own or any(
        s.kind == "class" and _defines(s.node, "is_cuda") for s in module.root.descendants()
    )
    if own:
        receiver = site.node.value
        if isinstance(receiver, ast.Name) and receiver.id in ("self", "cls"):
            yield site.information("is_cuda is an attribute of the project's own")
        else:
            yield site.gap(
                "a class of this file has an is_cuda of its own; if this is a tensor, write the "
                "test with x.device.type",
                category=Category.POTENTIAL,
            )
        return
    elsewhere = module.facts.methods.get("is_cuda", ())
    if elsewhere and not _surely_torch(module, site.node.value):
        yield site.gap(
            f"{elsewhere[0]} has an is_cuda of its own; if this is a tensor, write the test with "
            "x.device.type",
            category=Category.POTENTIAL,
        )
        return
    if "PackedSequence" in module.text or "pack_padded_sequence" in module.text:
        yield site.gap("a PackedSequence has is_cuda but no device; look at x.data.device")
        return
    guards = body_span(module, site.node)
    token = attribute_token(module, site.node)
    if token is None or site.call is not None:
        yield site.gap("write the test with x.device.type by hand")
        return
    if not target.agnostic:
        yield site.finding(Edit.of(*token, "is_npu"), guards=guards, imports=npu_import(target))
        return
    if distinguishes(site):
        yield site.gap(TOLD_APART, effort=3)
        return
    yield _device_type_test(site, token, guards)


def _device_type_test(
    site: Site, token: tuple[int, int], guards: tuple[int, int] | None
) -> Finding:
    parent = site.parent
    if isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not):
        start = site.module.start(parent)
        operand = outer_span(site.module, site.node)[0]
        operator = Edit.of(start, operand, "")
        test = Edit.of(*token, 'device.type in ("cpu", "meta")')
        edits = [operator, test]
        if needs_parentheses(parent) and not isinstance(parent.parent, (ast.BoolOp, ast.IfExp)):  # type: ignore[attr-defined]
            edits = [Edit.of(start, operand, "("), Edit.of(*token, test.text + ")")]
        return site.finding(*edits, span=site.module.span(parent))
    text = 'device.type not in ("cpu", "meta")'
    simple = not needs_parentheses(site.node) or isinstance(
        parent, (ast.BoolOp, ast.IfExp, ast.Assert, ast.comprehension)
    )
    if simple:
        return site.finding(Edit.of(*token, text), guards=guards)
    return site.finding(
        Edit.of(site.start, site.start, "("), Edit.of(*token, text + ")"), guards=guards
    )


# POR105 ---------------------------------------------------------------------------------------


@rule(
    "POR105",
    "cuda-index-string",
    strings=r"^cuda:",
    examples=[
        change(
            'import torch\n\ndef f(x, rank):\n    return x.to(f"cuda:{rank}")\n',
            'import torch\n\ndef f(x, rank):\n    return x.to(f"{torch.accelerator.current_accelerator().type}:{rank}")\n',
            'import torch\n\ndef f(x, rank):\n    return x.to(f"npu:{rank}")\n',
        ),
        change(
            'import torch\n\ndef f(rank):\n    return torch.device("cuda:" + str(rank))\n',
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\ndef f(rank):\n    return torch.device(device_type + ":" + str(rank))\n',
            'import torch\n\ndef f(rank):\n    return torch.device("npu:" + str(rank))\n',
        ),
        change(
            'import torch\n\ndef f(rank):\n    device = "cuda:%d" % rank\n    return torch.ones(1, device=device)\n',
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\ndef f(rank):\n    device = f"{device_type}:%d" % rank\n    return torch.ones(1, device=device)\n',
            'import torch\n\ndef f(rank):\n    device = "npu:%d" % rank\n    return torch.ones(1, device=device)\n',
        ),
        change(
            'import torch\n\ndef f(path, rank):\n    map_location = {"cuda:%d" % 0: "cuda:%d" % rank}\n    return torch.load(path, map_location=map_location)\n',
            'import torch\n\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\ndef f(path, rank):\n    map_location = {"cuda:%d" % 0: f"{device_type}:%d" % rank}\n    return torch.load(path, map_location=map_location)\n',
            'import torch\n\ndef f(path, rank):\n    map_location = {"cuda:%d" % 0: "npu:%d" % rank}\n    return torch.load(path, map_location=map_location)\n',
            note="the key tells where the file was saved: files of CUDA are still read",
        ),
        keep('def f(n):\n    print(f"cuda: {n} devices")\n', finding=False),
        keep('def f(n):\n    print("cuda:" + n)\n', finding=True),
    ],
)
def cuda_index_string(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for device strings with a computed index: `f"cuda:{i}"`, `"cuda:" + str(i)`.

    ## Why it matters
    They name a CUDA device.

    ## What it does
    The word before the colon becomes the device's type, the index stays. npu: `f"npu:{i}"`.

    ## Safety
    Rewritten only where the whole string reaches a place that takes a device.

    ## References
    - https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.device
    """
    if re.match(r"cuda:\d+\Z", site.node.value) or _string_method(site) == "startswith":
        return
    whole = _composed(site)
    if whole is None:
        return
    found = sink(site.module, whole)
    if found.kind == "saved":
        yield _saved(site, whole)
        return
    if not found:
        comparison = isinstance(whole.parent, ast.Compare)
        yield site.gap(
            "compared with one device; compare .type and .index apart"
            if comparison
            else "this looks like a device string but is not proven to be used as one",
            category=Category.MANDATORY if comparison else Category.POTENTIAL,
        )
        return
    if not site.module.exact(site.node):
        yield site.gap("the string is part of a concatenation; write the device by hand")
        return
    word = site.module.text.find("cuda", site.start, site.end)
    if word < 0 or found.foreign in FOREIGN:
        yield site.gap("write the device by hand")
        return
    safety = Safety.UNSAFE if found.foreign else Safety.SAFE
    reason = f"`{found.foreign}` must accept the target's device here" if found.foreign else ""
    if not target.agnostic:
        yield site.finding(
            Edit.of(word, word + 4, "npu"), safety=safety, reason=reason, imports=npu_import(target)
        )
        return
    if not target.has(ACCELERATOR_SINCE):
        yield site.gap(TOO_OLD)
        return
    yield _index_string(site, whole, found, word, safety, reason)


def _composed(site: Site) -> Any:
    """The expression that is the whole device string, or None if it is some other text."""
    value: str = site.node.value
    parent = site.parent
    if isinstance(parent, ast.JoinedStr):
        pieces = parent.values
        simple = value == "cuda:" and pieces[0] is site.node and len(pieces) == 2
        return parent if simple else None
    if isinstance(parent, ast.BinOp) and parent.left is site.node:
        if isinstance(parent.op, ast.Add) and value == "cuda:":
            return parent
        if isinstance(parent.op, ast.Mod) and re.match(r"cuda:%[dsi]\Z", value):
            return parent
    if (
        isinstance(parent, ast.Attribute)
        and parent.attr == "format"
        and re.match(r"cuda:\{\w*\}\Z", value)
        and isinstance(parent.parent, ast.Call)  # type: ignore[attr-defined]
    ):
        return parent.parent  # type: ignore[attr-defined]
    return None


def _index_string(
    site: Site, whole: Any, found: Sink, word: int, safety: Safety, reason: str
) -> Finding:
    in_f = isinstance(whole, ast.JoinedStr)
    around = site.at(whole, "string")
    if found.stops:
        torch = torch_at(site)
        spelled = None if torch is None else Spelled(f"{torch[0]}.{CURRENT}.type", torch[1])
    else:
        spelled = type_expression(around, in_string=True, reuse=False)
    if spelled is None:
        return site.gap(NAME_TAKEN)
    options: dict[str, Any] = {"safety": safety, "reason": reason, "imports": spelled.imports}
    if in_f:
        return site.finding(Edit.of(word, word + 4, "{", spelled.part, "}"), **options)
    text = site.text
    if text[0] not in "\"'" or text[:3] in ('"""', "'''"):
        return site.gap("write the device by hand")
    if isinstance(whole, ast.BinOp) and isinstance(whole.op, ast.Add):
        return site.finding(
            Edit.of(site.start, site.end, spelled.part, f" + {text[0]}:{text[0]}"), **options
        )
    rest = text[text.index("cuda") + 4 :].replace("{", "{{").replace("}", "}}")
    return site.finding(
        Edit.of(site.start, site.end, f"f{text[0]}{{", spelled.part, "}" + rest), **options
    )
