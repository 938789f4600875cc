"""POR4xx: process groups and their backend.

https://docs.pytorch.org/docs/stable/distributed.html
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from porter.module import Module
from porter.rule import Category, Edit, Finding, Safety, Shared, change, keep, rule
from porter.scope import Scope, parent_of
from porter.site import Site
from porter.targets import ACCELERATOR_SINCE, Target

from ._flow import FOREIGN, TORCH_FAMILY, callee_package
from ._match import (
    CURRENT,
    NONE_SINCE,
    TOO_OLD,
    Spelled,
    argument,
    device_in_scope,
    guarded,
    outer_span,
    torch_at,
    type_expression,
)
from .device import NAME_TAKEN, npu_import

MARKERS = ("nccl", "NCCL", "gloo")

#: torch.distributed.get_default_backend_for_device is exported since 2.6
#: (torch/distributed/distributed_c10d.py, `__all__`).
DEFAULT_BACKEND = "get_default_backend_for_device"

#: Collectives libraries of accelerators. A file that names one of these beside "nccl" tells
#: backends apart itself.
OTHER_BACKENDS = frozenset({"hccl", "xccl", "cncl", "mccl", "ccl", "eccl", "tccl", "flagcx"})
#: What a comparison with "nccl" means: a backend that moves device memory.
DEVICE_BACKENDS = ("nccl", "hccl", "xccl")

BACKEND_NAME = re.compile(r"(^|_)(backend|pg_backend)(_name|_type|_str|_?\d+)?$", re.I)
KEYED_METHODS = frozenset({"get", "pop", "setdefault", "getenv", "getattr", "setattr"})
OPTION_CALLS = frozenset(
    {"add_argument", "option", "argument", "Option", "Argument", "Field", "field"}
)
#: Keys of a table from devices to backends, and of texts for people.
DEVICE_KEYS = frozenset({"cuda", "gpu", "cpu", "npu", "xpu", "hpu", "mps", "mlu", "musa"})
TEXT_KEYS = frozenset({"help", "description", "doc", "title"})
#: Calls that fail at once where the backend they are given is not built in.
STOPS = frozenset(
    f"torch.distributed.{package}{name}"
    for package in ("", "distributed_c10d.")
    for name in ("init_process_group", "new_group", "new_subgroups", "new_subgroups_by_enumeration")
)
AVAILABLE = frozenset(
    {
        "torch.distributed.is_backend_available",
        "torch.distributed.distributed_c10d.is_backend_available",
    }
)
#: Packages that hand a backend on to torch.distributed.
DISTRIBUTED_FAMILY = TORCH_FAMILY | frozenset(
    {"deepspeed", "lightning_fabric", "fairscale", "colossalai", "composer", "megatron", "torchft"}
)
#: Packages with NCCL communicators of their own.
OWN_NCCL = FOREIGN | frozenset({"ray", "cupyx", "horovod", "bagua", "oneflow", "mindspore", "vllm"})


@dataclass(frozen=True)
class Reach:
    """The place a backend name reaches.

    Args:
        kind: "value" (surely a backend), "choice" (one of several allowed), "compare", "case",
            "available", "table" (looked up by device), "key", "listed", "potential" or "".
        foreign: the package that takes it, where that is not known to use torch.distributed.
        stops: whether the original failed there without CUDA.
    """

    kind: str
    foreign: str = ""
    stops: bool = False

    def __bool__(self) -> bool:
        """Whether it is surely a backend."""
        return self.kind == "value"


NOWHERE = Reach("")
POTENTIAL = Reach("potential")
VALUE = Reach("value")
CHOICE = Reach("choice")


# Where a backend name goes --------------------------------------------------------------------


def is_backend_name(name: str) -> bool:
    """Whether a variable, parameter, key or option is called like a backend."""
    return bool(BACKEND_NAME.search(name.strip("-").replace("-", "_")))


def reach(module: Module, node: Any, depth: int = 0) -> Reach:
    """Where the value of `node` goes."""
    if depth > 5:
        return NOWHERE
    parent = node.parent
    if isinstance(parent, ast.keyword):
        return _keyword(module, parent, depth)
    if isinstance(parent, ast.Call):
        return _argument(module, parent, node, depth) if node in parent.args else NOWHERE
    if isinstance(parent, ast.IfExp):
        return reach(module, parent, depth + 1) if node is not parent.test else POTENTIAL
    if isinstance(parent, ast.BoolOp):
        return reach(module, parent, depth + 1)
    if isinstance(parent, ast.NamedExpr):
        return _either(_target(module, parent.target, depth), reach(module, parent, depth + 1))
    if isinstance(parent, ast.Assign):
        return _either(*(_target(module, t, depth) for t in parent.targets))
    if isinstance(parent, ast.AnnAssign):
        return _target(module, parent.target, depth)
    if isinstance(parent, ast.arguments):
        return _default(module, parent, node, depth)
    if isinstance(parent, ast.Return):
        return _returned(module, parent, depth)
    if isinstance(parent, ast.Compare):
        return Reach("compare")
    if isinstance(parent, ast.MatchValue):
        return Reach("case")
    if isinstance(parent, (ast.List, ast.Tuple, ast.Set)):
        return _listed(module, parent, node, depth)
    if isinstance(parent, ast.Dict):
        return _entry(parent, node)
    if isinstance(parent, ast.Subscript):
        return _subscript(module, parent)
    return NOWHERE if isinstance(parent, (ast.Expr, ast.JoinedStr)) else POTENTIAL


def _either(*found: Reach) -> Reach:
    return next((f for f in found if f), next((f for f in found if f.kind), NOWHERE))


def _packaged(module: Module, call: ast.Call, stops: bool = False) -> Reach:
    top = callee_package(module, call)
    return Reach("value", "" if not top or top in DISTRIBUTED_FAMILY else top, stops)


def _callee(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _keyword(module: Module, keyword: ast.keyword, depth: int) -> Reach:
    call = keyword.parent  # type: ignore[attr-defined]
    if not isinstance(call, ast.Call) or keyword.arg is None:
        return POTENTIAL
    if keyword.arg in ("default", "const", "default_factory"):
        return _option(module, call, depth)
    if keyword.arg == "choices":
        return CHOICE if _option(module, call, depth) else POTENTIAL
    if is_backend_name(keyword.arg):
        return _packaged(module, call, module.name_of(call.func) in STOPS)
    found = _parameter(module, call.func, keyword.arg, 0)
    return _variable(module, *found, depth) if found else POTENTIAL


def _argument(module: Module, call: ast.Call, node: ast.expr, depth: int) -> Reach:
    name = module.name_of(call.func)
    position = call.args.index(node)
    if any(isinstance(a, ast.Starred) for a in call.args[:position]):
        return POTENTIAL
    if name in AVAILABLE:
        return Reach("available")
    if name.startswith("torch.distributed."):
        return Reach("value", stops=name in STOPS)
    if name == "deepspeed.init_distributed" and position == 0:
        return VALUE
    method = _callee(call)
    if method in KEYED_METHODS and position in (1, 2):
        return VALUE if _is_key(call.args[position - 1]) else POTENTIAL
    if method in ("Option", "Argument", "Field", "field") and position == 0:
        return _option(module, call, depth)
    if method == "str":
        return reach(module, call, depth + 1)
    if method == "Choice":
        return CHOICE
    if isinstance(call.func, ast.Attribute) and method in ("startswith", "endswith"):
        return POTENTIAL
    found = _parameter(module, call.func, position, 0)
    return _variable(module, *found, depth) if found else POTENTIAL


def _is_key(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and is_backend_name(node.value)
    )


def _option(module: Module, call: ast.Call, depth: int) -> Reach:
    """`add_argument("--dist-backend", default="nccl")`, `field(default="nccl")`."""
    texts = [*call.args, *(k.value for k in call.keywords if k.arg == "dest")]
    if _callee(call) in OPTION_CALLS and any(_is_key(t) for t in texts):
        return VALUE
    parent = call.parent  # type: ignore[attr-defined]
    if isinstance(parent, ast.AnnAssign):
        return _target(module, parent.target, depth)
    if isinstance(parent, ast.arguments):
        return _default(module, parent, call, depth)
    return POTENTIAL


def _parameter(
    module: Module, function: ast.expr, which: int | str, skip: int
) -> tuple[Scope, str] | None:
    """The parameter of a function or class of this file that an argument goes to."""
    if not isinstance(function, ast.Name):
        return None
    owner = module.scope(function).owner(function.id)
    bindings = owner.bindings.get(function.id, []) if owner else []
    if len(bindings) != 1:
        return None
    found: Any = bindings[0].node
    if isinstance(found, ast.ClassDef):
        methods = [f for f in found.body if isinstance(f, ast.FunctionDef)]
        found, skip = next((f for f in methods if f.name == "__init__"), None), skip + 1
    if not isinstance(found, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
    names = [a.arg for a in (*found.args.posonlyargs, *found.args.args)]
    scope = module.scopes[id(found)]
    if isinstance(which, int):
        return (scope, names[which + skip]) if which + skip < len(names) else None
    every = [*names, *(a.arg for a in found.args.kwonlyargs)]
    return (scope, which) if which in every else None


def _variable(module: Module, scope: Scope, name: str, depth: int) -> Reach:
    if is_backend_name(name):
        return VALUE
    for use in scope.uses(name):
        found = reach(module, use, depth + 1)
        if found:
            return Reach("value", found.foreign)
    return POTENTIAL


def _target(module: Module, target: Any, depth: int) -> Reach:
    if isinstance(target, ast.Name):
        owner = module.scope(target).owner(target.id)
        if owner is None:
            return VALUE if is_backend_name(target.id) else POTENTIAL
        return _variable(module, owner, target.id, depth)
    if isinstance(target, ast.Attribute):
        return VALUE if is_backend_name(target.attr) else POTENTIAL
    if isinstance(target, ast.Subscript):
        return VALUE if _is_key(target.slice) else POTENTIAL
    return POTENTIAL


def _default(module: Module, arguments: ast.arguments, node: Any, depth: int) -> Reach:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaulted = positional[len(positional) - len(arguments.defaults) :]
    pairs = [*zip(defaulted, arguments.defaults, strict=True)]
    pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d]
    scope = module.scopes[id(arguments.parent)]  # type: ignore[attr-defined]
    named = next((a.arg for a, d in pairs if d is node), None)
    return _variable(module, scope, named, depth) if named else POTENTIAL


def _returned(module: Module, statement: ast.Return, depth: int) -> Reach:
    function = module.function(statement)
    if function is None:
        return POTENTIAL
    if is_backend_name(function.name):
        return VALUE
    owner = module.scope(function)
    for use in owner.uses(function.name):
        call = use.parent  # type: ignore[attr-defined]
        if isinstance(call, ast.Call) and call.func is use and reach(module, call, depth + 2):
            return VALUE
    return POTENTIAL


def _listed(module: Module, sequence: Any, node: Any, depth: int) -> Reach:
    parent = sequence.parent
    if isinstance(parent, ast.Compare):
        return Reach("compare")
    if isinstance(parent, ast.keyword) and parent.arg == "choices":
        return _keyword(module, parent, depth)
    if isinstance(parent, ast.keyword) and parent.arg == "args":
        return _spawned(module, parent.parent, sequence.elts.index(node), depth)  # type: ignore[attr-defined]
    if isinstance(parent, ast.Subscript) and module.name_of(parent.value).endswith(".Literal"):
        return CHOICE
    if isinstance(parent, ast.Call) and sequence in parent.args:
        if _callee(parent) == "Choice":
            return CHOICE
        earlier = parent.args[: parent.args.index(sequence)]
        if _callee(parent) == "parametrize" and earlier and _is_key(earlier[-1]):
            return Reach("listed")
        if module.name_of(parent.func).endswith("multiprocessing.spawn"):
            return _spawned(module, parent, sequence.elts.index(node), depth)
    return POTENTIAL


def _spawned(module: Module, call: Any, position: int, depth: int) -> Reach:
    """`mp.spawn(worker, args=(world_size, "nccl"))`, `mp.Process(target=worker, args=...)`."""
    if not isinstance(call, ast.Call):
        return POTENTIAL
    function = next((k.value for k in call.keywords if k.arg in ("fn", "target")), None)
    spawns = _callee(call) == "spawn"
    if function is None and spawns and call.args:
        function = call.args[0]
    if function is None:
        return POTENTIAL
    found = _parameter(module, function, position, 1 if spawns else 0)
    return _variable(module, *found, depth) if found else POTENTIAL


def _entry(mapping: ast.Dict, node: Any) -> Reach:
    if node not in mapping.values:
        return Reach("key")
    key = mapping.keys[mapping.values.index(node)]
    if not isinstance(key, ast.Constant):
        return Reach("table")
    if _is_key(key):
        return VALUE
    if key.value in TEXT_KEYS:
        return NOWHERE
    return Reach("table") if key.value in DEVICE_KEYS else POTENTIAL


def _subscript(module: Module, parent: ast.Subscript) -> Reach:
    literal = module.name_of(parent.value).endswith(".Literal")
    return Reach("listed") if literal else Reach("key")


def is_backend_value(module: Module, node: ast.expr, depth: int = 0) -> bool:
    """Whether an expression that is compared with "nccl" is a backend."""
    if depth > 4:
        return False
    if isinstance(node, ast.Attribute):
        return is_backend_name(node.attr)
    if isinstance(node, ast.Name):
        if is_backend_name(node.id):
            return True
        owner = module.scope(node).owner(node.id)
        bindings = owner.bindings.get(node.id, ()) if owner else ()
        return any(
            b.value is not None
            and not isinstance(b.value, ast.Name)
            and is_backend_value(module, b.value, depth + 1)
            for b in bindings
        )
    if isinstance(node, ast.Subscript):
        return _is_key(node.slice)
    if isinstance(node, ast.NamedExpr):
        return is_backend_value(module, node.value, depth + 1)
    if isinstance(node, ast.Call):
        method = _callee(node)
        if method == "str" and node.args:
            return is_backend_value(module, node.args[0], depth + 1)
        if method in ("lower", "strip") and isinstance(node.func, ast.Attribute):
            return is_backend_value(module, node.func.value, depth + 1)
        if method in KEYED_METHODS:
            return any(_is_key(a) for a in node.args)
        return is_backend_name(method)
    return False


# Spelling a backend ---------------------------------------------------------------------------


def distributed_at(site: Site) -> Spelled | None:
    """How to write `torch.distributed` at the site, with the import to add."""
    local = site.module.spelling("torch.distributed", site.scope)
    if local is not None:
        return Spelled(local)
    found = torch_at(site)
    return None if found is None else Spelled(f"{found[0]}.distributed", found[1])


def _is_call_argument(site: Site) -> bool:
    """Whether the value goes straight into a call that needs distributed anyway."""
    around = parent_of(site.node)
    call = parent_of(around) if isinstance(around, ast.keyword) else around
    return isinstance(call, ast.Call) and "distributed" in site.module.name_of(call.func)


def backend_expression(site: Site, target: Target, stops: bool) -> Spelled | None:
    """The default backend of the accelerator; of the CPU where there is none.

    Args:
        site: where it is written.
        target: decides which torch must understand it.
        stops: whether the original failed at this place without CUDA.
    """
    module = site.module
    dist, torch = distributed_at(site), torch_at(site)
    if dist is None or torch is None:
        return None
    imports = tuple(sorted({*dist.imports, *torch[1]}))
    known = device_in_scope(site)
    if known is not None and not _may_be_none(site, known.text):
        return Spelled(f"{dist.part}.{DEFAULT_BACKEND}({known.text})", dist.imports)
    current = f"{torch[0]}.{CURRENT}"
    if guarded(module, site.node):
        return Spelled(f"{dist.part}.{DEFAULT_BACKEND}({current})", imports)
    if target.has(NONE_SINCE) or stops:
        device = f'{current} or "cpu"'
    else:
        device = f'{current} if {torch[0]}.accelerator.is_available() else "cpu"'
    text = f"{dist.part}.{DEFAULT_BACKEND}({device})"
    if isinstance(parent_of(site.node), ast.arguments) or module.function(site.node) is None:
        # Evaluated at import, which must not fail where torch is built without distributed.
        eager = not stops and not _is_call_argument(site)
        text += f' if {dist.part}.is_available() else "gloo"' if eager else ""
    if _imported_inside(site) or (stops and not target.has(NONE_SINCE)):
        return Spelled(text, imports)  # must not be moved to an earlier line
    return Spelled(Shared("default_backend", text), imports)


def _may_be_none(site: Site, name: str) -> bool:
    """Whether a device variable is `torch.accelerator.current_accelerator()` as it stands."""
    owner = site.scope.owner(name)
    bindings = owner.bindings.get(name, ()) if owner else ()
    return any(
        isinstance(b.value, ast.Call)
        and site.module.name_of(b.value.func) == "torch.accelerator.current_accelerator"
        for b in bindings
    ) and not guarded(site.module, site.node)


def _imported_inside(site: Site) -> bool:
    """Whether torch or torch.distributed is imported in the function itself."""
    return any(
        b.target in ("torch", "torch.distributed")
        for scope in _functions(site.scope)
        for bindings in scope.bindings.values()
        for b in bindings
        if b.kind == "import"
    )


def _functions(scope: Scope | None) -> Iterator[Scope]:
    while scope is not None and scope.kind != "module":
        yield scope
        scope = scope.parent


def tells_backends_apart(site: Site) -> set[str]:
    """The other accelerators' backends that the code around the site names."""
    module = site.module
    around = module.function(site.node) or module.enclosing_class(site.node) or module.tree
    low, high = (0, len(module.text)) if around is module.tree else module.span(around)
    low = min([low, *map(module.start, getattr(around, "decorator_list", ()))])
    return {
        str(c.value).lower()
        for c, _ in module.strings
        if str(c.value).lower() in OTHER_BACKENDS and low <= module.start(c) < high
    }


# POR401 ---------------------------------------------------------------------------------------

BEFORE = "import torch\nimport torch.distributed as dist\n"


@rule(
    "POR401",
    "nccl-backend",
    strings=r"^(nccl|NCCL)$|\b(cuda|gpu):nccl\b",
    examples=[
        change(
            BEFORE + 'dist.init_process_group("nccl")\n',
            BEFORE
            + '\ndefault_backend = dist.get_default_backend_for_device(torch.accelerator.current_accelerator() or "cpu")\n\ndist.init_process_group(default_backend)\n',
            BEFORE + 'dist.init_process_group("hccl")\n',
        ),
        change(
            'import torch\nbackend = "nccl" if torch.cuda.is_available() else "gloo"\ntorch.distributed.init_process_group(backend=backend)\n',
            'import torch\nbackend = torch.distributed.get_default_backend_for_device(torch.accelerator.current_accelerator()) if torch.accelerator.is_available() else "gloo"\ntorch.distributed.init_process_group(backend=backend)\n',
            'import torch\nbackend = "hccl" if torch.npu.is_available() else "gloo"\ntorch.distributed.init_process_group(backend=backend)\n',
        ),
        change(
            BEFORE
            + 'device = torch.device("cuda" if torch.cuda.is_available() else "cpu")\ndist.init_process_group(backend="nccl")\n',
            BEFORE
            + 'device = torch.device(torch.accelerator.current_accelerator().type if torch.accelerator.is_available() else "cpu")\ndist.init_process_group(backend=dist.get_default_backend_for_device(device))\n',
            BEFORE
            + 'device = torch.device("npu" if torch.npu.is_available() else "cpu")\ndist.init_process_group(backend="hccl")\n',
            note="a device variable in scope is used",
        ),
        change(
            BEFORE
            + '\n\ndef setup(rank, backend="nccl"):\n    dist.init_process_group(backend, rank=rank)\n',
            BEFORE
            + '\ndefault_backend = dist.get_default_backend_for_device(torch.accelerator.current_accelerator() or "cpu") if dist.is_available() else "gloo"\n\n\ndef setup(rank, backend=default_backend):\n    dist.init_process_group(backend, rank=rank)\n',
            BEFORE
            + '\n\ndef setup(rank, backend="hccl"):\n    dist.init_process_group(backend, rank=rank)\n',
            min_torch="2.7",
        ),
        change(
            'import argparse\nimport torch\nparser = argparse.ArgumentParser()\nparser.add_argument("--dist-backend", default="nccl", choices=["nccl", "gloo"])\n',
            'import argparse\nimport torch\nparser = argparse.ArgumentParser()\ndefault_backend = torch.distributed.get_default_backend_for_device(torch.accelerator.current_accelerator() if torch.accelerator.is_available() else "cpu") if torch.distributed.is_available() else "gloo"\nparser.add_argument("--dist-backend", default=default_backend, choices=["nccl", "hccl", "xccl", "gloo"])\n',
            'import argparse\nimport torch\nparser = argparse.ArgumentParser()\nparser.add_argument("--dist-backend", default="hccl", choices=["hccl", "gloo"])\n',
            min_torch="2.6",
            note="in 2.6 current_accelerator() raises without an accelerator",
        ),
        change(
            'import torch.distributed as dist\n\ndef ids(backend):\n    return [0] if dist.get_backend() == "nccl" and backend != "nccl" else None\n',
            'import torch.distributed as dist\n\ndef ids(backend):\n    return [0] if dist.get_backend() in ("nccl", "hccl", "xccl") and backend not in ("nccl", "hccl", "xccl") else None\n',
            'import torch.distributed as dist\n\ndef ids(backend):\n    return [0] if dist.get_backend() == "hccl" and backend != "hccl" else None\n',
        ),
        change(
            BEFORE + '\ndist.init_process_group("cpu:gloo,cuda:nccl")\n',
            BEFORE
            + '\ndevice_type = (torch.accelerator.current_accelerator() or torch.device("cpu")).type\n\ndist.init_process_group(f"cpu:gloo,{device_type}:{dist.get_default_backend_for_device(device_type)}")\n',
            BEFORE + '\ndist.init_process_group("cpu:gloo,npu:hccl")\n',
            min_torch="2.7",
        ),
        keep(
            'import torch\n\ndef setup(kind):\n    backend = "hccl" if kind == "npu" else "nccl"\n    torch.distributed.init_process_group(backend)\n',
            finding=True,
            note="the code tells backends apart itself",
        ),
        keep('BACKENDS = {"cuda": "nccl", "cpu": "gloo"}\n', finding=True),
        keep(
            'from ray.util import collective\ncollective.init_collective_group(2, 0, backend="nccl")\n',
            finding=True,
        ),
        keep('"""Needs nccl."""\nprint(f"nccl{1}")\n', finding=False),
        keep('import torch\ntorch.distributed.init_process_group("gloo")\n', finding=False),
    ],
)
def nccl_backend(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `"nccl"` where it is the backend of a process group.

    ## Why it matters
    NCCL moves data between CUDA devices only. Another accelerator has its own library (HCCL on
    Ascend NPU), and torch refuses a backend that is not built in.

    ## What it does
    accelerator: `torch.distributed.get_default_backend_for_device(device)`, which is "nccl" for
    CUDA, "hccl" for NPU and "gloo" for the CPU; `device` is a variable in scope or the current
    accelerator. A comparison with "nccl" asks for any backend of an accelerator, and the choices
    of an option are extended. npu: `"hccl"`.

    ## Safety
    Followed through variables, defaults, options and conditions; rewritten only where the string
    surely is a backend. Unsafe where it goes to a package not known to use torch.distributed. Code
    that names the backend of another accelerator is left: its author decides. Evaluated at import
    (a default, an option), the expression needs a torch built with distributed, as all released
    builds are.

    ## References
    - https://docs.pytorch.org/docs/stable/distributed.html#backends
    - torch/distributed/distributed_c10d.py, get_default_backend_for_device (since torch 2.6)
    """
    yield from _backend(site, target)


def _backend(site: Site, target: Target) -> Iterator[Finding]:
    """A string, or `Backend.NCCL`, that may be a backend."""
    found = reach(site.module, site.node)
    value = site.node.value if isinstance(site.node, ast.Constant) else ""
    shouted = isinstance(value, str) and value.isupper()
    if not found.kind or (found.kind in ("potential", "key") and shouted):
        return
    others = tells_backends_apart(site)
    if others and not (found.kind == "value" and found.stops):
        yield _already_apart(site, target, others)
        return
    if found.foreign in OWN_NCCL:
        yield site.gap(
            f"`{found.foreign}` has NCCL communicators of its own; look up what it offers for the "
            "target",
            category=Category.POTENTIAL,
            effort=3,
        )
        return
    composite = isinstance(value, str) and ":" in value
    if composite:
        yield _composite(site, target, found)
    elif found.kind == "compare":
        yield _comparison(site, target)
    elif not target.agnostic:
        yield _renamed(site, target, found)
    elif not target.has(ACCELERATOR_SINCE):
        yield site.gap(TOO_OLD)
    else:
        yield _accelerator(site, target, found)


def _already_apart(site: Site, target: Target, others: set[str]) -> Finding:
    if "hccl" in others:
        return site.information("the code around already knows the NPU's backend, hccl")
    if target.agnostic:
        advice = "let torch.distributed.get_default_backend_for_device(device) choose"
    else:
        advice = 'add "hccl" for npu'
    return site.gap(f"this code tells several backends apart; {advice}", effort=3)


def _unsure(found: Reach) -> tuple[str, Category]:
    if found.kind == "table":
        return (
            "a table of backends; ask torch.distributed.get_default_backend_for_device(device) "
            "(torch 2.6), or add the target's entry",
            Category.MANDATORY,
        )
    if found.kind == "key":
        return "looked up by backend; add an entry for the target's backend", Category.POTENTIAL
    if found.kind == "listed":
        return "a list of backends; add the target's backend to it", Category.POTENTIAL
    return (
        "this string is not proven to be a backend; if it is one, write the target's backend",
        Category.POTENTIAL,
    )


def _options(found: Reach) -> dict[str, Any]:
    if not found.foreign:
        return {}
    return {
        "safety": Safety.UNSAFE,
        "reason": f"`{found.foreign}` must accept the target's backend here",
    }


def _hccl(site: Site) -> str | None:
    """The site's text with hccl for nccl; None if it is not spelled plainly."""
    if isinstance(site.node, ast.Attribute):
        return re.sub(r"NCCL$", "HCCL", site.text) if site.text.endswith("NCCL") else '"hccl"'
    if not site.module.exact(site.node) or not isinstance(site.node, ast.Constant):
        return '"hccl"' if isinstance(site.node, ast.Name) else None
    text = re.sub(r"\b(cuda|gpu):nccl\b", "npu:nccl", site.text)
    found = re.search("nccl", text, re.I)
    if found is None:
        return None
    word = "HCCL" if found[0].isupper() else "hccl"
    return text[: found.start()] + word + text[found.end() :]


def _renamed(site: Site, target: Target, found: Reach) -> Finding:
    if found.kind not in ("value", "choice", "available", "case") and not (
        found.kind == "listed" and not isinstance(site.parent, ast.Subscript)
    ):
        advice, category = _unsure(found)
        return site.gap(advice, category=category)
    text = _hccl(site)
    if text is None:
        return site.gap("the string is part of a concatenation; write the backend by hand")
    return site.replace(text, imports=npu_import(target), **_options(found))


def _accelerator(site: Site, target: Target, found: Reach) -> Finding:
    if found.kind == "choice":
        return site.replace(_extended(site))
    if found.kind == "case":
        return site.replace(_extended(site, " | "))
    if found.kind == "available" and chooses_backend(site.module, site.parent):
        found = VALUE
    if found.kind == "available":
        return _not_a_choice(site)
    if not found:
        advice, category = _unsure(found)
        return site.gap(advice, category=category)
    if isinstance(site.node, ast.Constant) and not site.module.exact(site.node):
        return site.gap("the string is part of a concatenation; write the backend by hand")
    spelled = backend_expression(site, target, found.stops)
    if spelled is None:
        return site.gap(NAME_TAKEN)
    return site.replace(spelled.part, imports=spelled.imports, **_options(found))


def _extended(site: Site, joint: str = ", ") -> str:
    """`"nccl", "hccl", "xccl"` in the quotes of the original."""
    quote = "'" if site.text.startswith("'") else '"'
    return joint.join(f"{quote}{b}{quote}" for b in DEVICE_BACKENDS)


def _comparison(site: Site, target: Target) -> Finding:
    """`backend == "nccl"`, `backend in ("nccl", "gloo")`."""
    module, parent = site.module, site.parent
    member = not isinstance(parent, ast.Compare)
    node: Any = parent.parent if member else parent
    holder = parent if member else site.node
    sides = [s for s in (node.left, *node.comparators) if s is not holder]
    proven = len(sides) == 1 and is_backend_value(module, sides[0])
    if not proven:
        return site.gap(
            'compared with "nccl", but not proven to be a backend', category=Category.POTENTIAL
        )
    operator = node.ops[0]
    if not target.agnostic:
        text = _hccl(site)
        if text is None:
            return site.gap("the string is part of a concatenation; write the backend by hand")
        return site.replace(text)
    if member:
        if not isinstance(parent, (ast.Tuple, ast.List, ast.Set)):
            return site.gap("one of the values that are compared; compare with the target's too")
        return site.replace(_extended(site))
    if holder is node.left or not isinstance(operator, (ast.Eq, ast.NotEq)):
        return site.gap(
            f"compared with one vendor's backend; ask for any of {', '.join(DEVICE_BACKENDS)}"
        )
    start = module.text.index("==" if isinstance(operator, ast.Eq) else "!=", module.end(node.left))
    word = "in" if isinstance(operator, ast.Eq) else "not in"
    return site.finding(
        Edit.of(start, outer_span(module, site.node)[1], f"{word} ({_extended(site)})"),
        span=module.span(node),
    )


def _composite(site: Site, target: Target, found: Reach) -> Finding:
    """`"cpu:gloo,cuda:nccl"`: a backend for each type of device."""
    if not found:
        return site.gap(
            "names a backend for each type of device; write the target's device and backend",
            category=Category.POTENTIAL if found.kind == "potential" else Category.MANDATORY,
        )
    if not target.agnostic:
        return _renamed(site, target, found)
    dist = distributed_at(site)
    plain = re.fullmatch(r"""(['"])[\w:,]+\1""", site.text)
    if dist is None or plain is None or not site.module.exact(site.node):
        return site.gap("write the device and its backend by hand")
    if not target.has(ACCELERATOR_SINCE):
        return site.gap(TOO_OLD)
    if not target.has(NONE_SINCE) and not guarded(site.module, site.node):
        return site.gap(
            "names the device and its backend; write both for the current accelerator "
            "(needs torch 2.7 to do so on a machine without one)"
        )
    kind = type_expression(site, in_string=True, reuse=False)
    if kind is None:
        return site.gap(NAME_TAKEN)
    at = site.text.lower().index("cuda:nccl") if "cuda:nccl" in site.text.lower() else -1
    if at < 0:
        return site.gap("write the device and its backend by hand")
    before, after = site.text[:at], site.text[at + len("cuda:nccl") :]
    return site.replace(
        f"f{before}{{",
        kind.part,
        f"}}:{{{dist.part}.{DEFAULT_BACKEND}(",
        kind.part,
        f")}}{after}",
        imports=tuple(sorted({*kind.imports, *dist.imports})),
        **_options(found),
    )


# POR402 ---------------------------------------------------------------------------------------


def chooses_backend(module: Module, node: Any) -> bool:
    """Whether a test does nothing but choose between "nccl" and another backend."""
    child = node
    parent = node.parent
    while isinstance(parent, ast.BoolOp) and isinstance(parent.op, ast.And):
        child, parent = parent, parent.parent  # type: ignore[attr-defined]
    if isinstance(parent, ast.IfExp) and child is parent.test:
        return _is_nccl(module, parent.body) and _is_backend(parent.orelse)
    if isinstance(parent, ast.If) and child is parent.test:
        return _assigns(parent.body, lambda v: _is_nccl(module, v)) and _assigns(
            parent.orelse, _is_backend
        )
    return False


def _assigns(block: list[ast.stmt], accepts: Any) -> bool:
    return len(block) == 1 and isinstance(block[0], ast.Assign) and accepts(block[0].value)


def _is_nccl(module: Module, node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return node.value == "nccl"
    return module.name_of(node).endswith("Backend.NCCL")


def _is_backend(node: ast.expr) -> bool:
    return isinstance(node, ast.Constant) and node.value in ("gloo", "mpi", "ucc")


def _not_a_choice(site: Site) -> Finding:
    return site.gap(
        "false on every other accelerator; ask torch.distributed.is_backend_available("
        "torch.distributed.get_default_backend_for_device(device)), which is true for the CPU too"
    )


@rule(
    "POR402",
    "nccl-availability",
    names=[
        "torch.distributed.is_nccl_available",
        "torch.distributed.distributed_c10d.is_nccl_available",
    ],
    examples=[
        change(
            BEFORE
            + '\ndef setup():\n    dist.init_process_group("nccl" if dist.is_nccl_available() else "gloo")\n',
            BEFORE
            + '\ndef setup():\n    default_backend = dist.get_default_backend_for_device(torch.accelerator.current_accelerator() or "cpu")\n    dist.init_process_group(default_backend if dist.is_backend_available(default_backend) else "gloo")\n',
            BEFORE
            + '\ndef setup():\n    dist.init_process_group("hccl" if dist.is_hccl_available() else "gloo")\n',
            min_torch="2.7",
        ),
        change(
            "from torch.distributed import is_nccl_available\nassert is_nccl_available()\n",
            None,
            "import torch\nassert torch.distributed.is_hccl_available()\n",
        ),
        keep("import other as dist\nassert dist.is_nccl_available()\n", finding=False),
        keep(
            "class A:\n    def is_nccl_available(self):\n        return self.is_nccl_available()\n",
            finding=False,
        ),
    ],
)
def nccl_availability(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.distributed.is_nccl_available()`.

    ## Why it matters
    It is False on every other accelerator, so the program takes a slower path or stops.

    ## What it does
    npu: `torch.distributed.is_hccl_available()`, which torch_npu adds. accelerator: where the test
    does nothing but choose between "nccl" and a backend for the CPU,
    `torch.distributed.is_backend_available(...)` of the accelerator's default backend.

    ## Safety
    Elsewhere it is left for the accelerator: the default backend of a machine without accelerator
    is available too, where NCCL is not.

    ## References
    - https://docs.pytorch.org/docs/stable/distributed.html#torch.distributed.is_nccl_available
    """
    if site.kind == "import":
        return
    if site.stored or site.call is None:
        yield site.gap("handed on or replaced here; do the same for the target's backend")
        return
    if tells_backends_apart(site):
        yield _already_apart(site, target, tells_backends_apart(site))
        return
    dist = distributed_at(site)
    if dist is None:
        yield site.gap(NAME_TAKEN)
        return
    if not target.agnostic:
        yield site.replace(
            f"{dist.part}.is_hccl_available", imports=(*dist.imports, *npu_import(target))
        )
        return
    if not chooses_backend(site.module, site.call):
        yield _not_a_choice(site)
        return
    if not target.has(ACCELERATOR_SINCE):
        yield site.gap(TOO_OLD)
        return
    spelled = backend_expression(site, target, False)
    if spelled is None or site.call.args or site.call.keywords:
        yield site.gap(NAME_TAKEN)
        return
    span = site.module.span(site.call)
    yield site.finding(
        Edit.of(*span, f"{dist.part}.is_backend_available(", spelled.part, ")"),
        span=span,
        imports=tuple(sorted({*dist.imports, *spelled.imports})),
    )


# POR403 ---------------------------------------------------------------------------------------


@rule(
    "POR403",
    "nccl-backend-constant",
    names=[
        "torch.distributed.Backend.NCCL",
        "torch.distributed.distributed_c10d.Backend.NCCL",
    ],
    examples=[
        change(
            BEFORE + "dist.init_process_group(dist.Backend.NCCL)\n",
            BEFORE
            + '\ndefault_backend = dist.get_default_backend_for_device(torch.accelerator.current_accelerator() or "cpu")\n\ndist.init_process_group(default_backend)\n',
            BEFORE + "dist.init_process_group(dist.Backend.HCCL)\n",
        ),
        change(
            "import torch.distributed as dist\nfast = dist.get_backend() == dist.Backend.NCCL\n",
            'import torch.distributed as dist\nfast = dist.get_backend() in ("nccl", "hccl", "xccl")\n',
            "import torch.distributed as dist\nfast = dist.get_backend() == dist.Backend.HCCL\n",
        ),
        keep("import torch.distributed as dist\nnames = {dist.Backend.NCCL: 1}\n", finding=True),
        keep("class Backend:\n    NCCL = 1\n\nprint(Backend.NCCL)\n", finding=False),
    ],
)
def nccl_backend_constant(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.distributed.Backend.NCCL`.

    ## Why it matters
    It is the string "nccl".

    ## What it does
    What `nccl-backend` does with the string. npu: `Backend.HCCL`, which torch adds when torch_npu
    registers its backend.

    ## Safety
    As for the string.

    ## References
    - https://docs.pytorch.org/docs/stable/distributed.html#torch.distributed.Backend
    - torch/distributed/distributed_c10d.py, Backend.register_backend
    """
    if site.kind != "import" and not site.stored:
        yield from _backend(site, target)


# POR404 ---------------------------------------------------------------------------------------


@rule(
    "POR404",
    "nccl-process-group",
    effort=5,
    names=[
        "torch.distributed.ProcessGroupNCCL",
        "torch.distributed.distributed_c10d.ProcessGroupNCCL",
        "torch._C._distributed_c10d.ProcessGroupNCCL",
    ],
    examples=[
        keep(
            "import torch.distributed as dist\noptions = dist.ProcessGroupNCCL.Options()\n",
            finding=True,
        ),
        keep("from torch.distributed import ProcessGroupNCCL\n", finding=True),
        keep("class ProcessGroupNCCL:\n    pass\n\npg = ProcessGroupNCCL()\n", finding=False),
    ],
)
def nccl_process_group(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.distributed.ProcessGroupNCCL` and its options.

    ## Why it matters
    The class exists only where torch is built with NCCL; importing it fails elsewhere.

    ## What it does
    Nothing; options for a process group differ from library to library.

    ## Safety
    Reported only.

    ## References
    - https://docs.pytorch.org/docs/stable/distributed.html#torch.distributed.new_group
    """
    yield site.gap(
        "exists only with NCCL; leave pg_options out on other backends, or build them for the "
        "target (torch_npu has ProcessGroupHCCL.Options)"
    )


# POR405 ---------------------------------------------------------------------------------------

_GROUPS = frozenset(
    f"torch.distributed.{package}init_process_group" for package in ("", "distributed_c10d.")
)
_PARALLEL = frozenset(
    {
        "torch.nn.parallel.DistributedDataParallel",
        "torch.nn.parallel.distributed.DistributedDataParallel",
    }
)
_ON_GLOO = (
    "import torch.distributed as dist\n"
    "from torch.nn.parallel import DistributedDataParallel as DDP\n\n\n"
    'def setup(rank, model):\n    dist.init_process_group("gloo", rank=rank, world_size=2)\n'
)


@rule(
    "POR405",
    "gloo-with-device-ids",
    names=sorted(_GROUPS),
    category=Category.POTENTIAL,
    examples=[
        keep(
            _ON_GLOO + "    return DDP(model.to(rank), device_ids=[rank])\n",
            finding=True,
        ),
        keep(_ON_GLOO + "    return DDP(model)\n", finding=False),
        keep(
            _ON_GLOO + "    return DDP(model, device_ids=[rank] if rank else None)\n",
            finding=False,
        ),
        keep(
            _ON_GLOO.replace('"gloo"', "backend=choose()") + "    return DDP(model, [rank])\n",
            finding=False,
        ),
        keep(_ON_GLOO + "    return model\n", finding=False),
    ],
)
def gloo_with_device_ids(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `init_process_group("gloo")` in a file that gives DDP models on devices.

    ## Why it matters
    `gloo` serves tensors of the CPU and of CUDA only. `DistributedDataParallel(device_ids=[...])`
    has its parameters on a device, so that on another accelerator it ends at "No backend type
    associated with device type npu".

    ## What it does
    Reports the call, if it names "gloo" itself, no other process group is made in the file, and a
    list of device ids is given to DDP there.

    ## Safety
    Reported only: the author may have wanted gloo, and a test may run on the CPU.

    ## What to do by hand
    npu: `"hccl"`. accelerator: `torch.distributed.get_default_backend_for_device(device)`, or no
    backend at all.

    ## References
    - torch/distributed/distributed_c10d.py, `Backend.backend_capability` (torch 2.13: gloo has "cpu"
      and "cuda"), and `_get_default_backend_for_device` there
    - torch/nn/parallel/distributed.py: device ids are refused for a module on the CPU
    """
    call = site.call
    module = site.module
    if call is None or not _says_gloo(argument(call, 0, "backend")):
        return
    calls = module.once("calls of groups and DDP", lambda: _group_calls(module))
    groups = [c for c, name in calls if name in _GROUPS]
    if len(groups) != 1 or not any(_gives_devices(c) for c, name in calls if name in _PARALLEL):
        return
    better = DEFAULT_BACKEND + "(device)" if target.agnostic else '"hccl"'
    yield site.gap(
        "gloo serves the CPU and CUDA only, and DDP with device_ids has its parameters on a device: "
        f"use {better}",
        category=Category.POTENTIAL,
    )


def _group_calls(module: Module) -> list[tuple[ast.Call, str]]:
    calls = (n for n in ast.walk(module.tree) if isinstance(n, ast.Call))
    named = ((call, module.name_of(call.func)) for call in calls)
    return [(call, name) for call, name in named if name in _GROUPS | _PARALLEL]


def _says_gloo(backend: ast.expr | None) -> bool:
    return isinstance(backend, ast.Constant) and backend.value == "gloo"


def _gives_devices(call: ast.Call) -> bool:
    given = argument(call, 1, "device_ids")
    return isinstance(given, ast.List) and bool(given.elts)
