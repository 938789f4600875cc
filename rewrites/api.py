"""POR2xx: the names of torch.cuda, torch.backends.cuda and torch.backends.cudnn.

https://docs.pytorch.org/docs/stable/cuda.html
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from porter.rule import Category, Edit, Finding, Safety, change, keep, rule
from porter.scope import parent_of
from porter.site import Site, needs_parentheses
from porter.targets import ACCELERATOR_SINCE, Target

from ._match import TOO_OLD, body_span, guarded, outer_span, torch_at
from ._table import DEVICE_MODULE_SINCE, Row, row
from .device import NAME_TAKEN, npu_import

EXPORTED = ("torch.cuda", "torch.backends.cuda", "torch.backends.cudnn")
MARKERS = ("cudnn",)


@rule(
    "POR201",
    "cuda-is-available",
    names=["torch.cuda.is_available"],
    examples=[
        change(
            "import torch\nif torch.cuda.is_available():\n    x = torch.ones(1).cuda()\n",
            "import torch\nif torch.accelerator.is_available():\n    x = torch.ones(1).to(torch.accelerator.current_accelerator())\n",
            "import torch\nif torch.npu.is_available():\n    x = torch.ones(1).npu()\n",
        ),
        change(
            "from torch.cuda import is_available\nuse = is_available()\n",
            "import torch\nuse = torch.accelerator.is_available()\n",
            "import torch\nuse = torch.npu.is_available()\n",
        ),
        change(
            "import torch.cuda as tc\nimport torch as th\nuse = tc.is_available()\n",
            "import torch as th\nuse = th.accelerator.is_available()\n",
            "import torch as th\nuse = th.npu.is_available()\n",
        ),
        keep(
            "import torch\nif torch.cuda.is_available():\n    torch.backends.cudnn.benchmark = True\n",
            note="the branch holds nothing but a switch of cuDNN",
        ),
        keep("def f(torch):\n    return torch.cuda.is_available()\n", finding=False),
    ],
)
def cuda_is_available(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `torch.cuda.is_available()`.

    ## Why it matters
    It is False on every other accelerator, so the program quietly runs on the CPU there.

    ## What it does
    accelerator: `torch.accelerator.is_available()`, which is the same on a CUDA machine and False
    on a machine without accelerator. npu: `torch.npu.is_available()`. A check around nothing but
    CUDA-only switches (cuDNN, TF32, NVTX) stays.

    ## Safety
    On a Mac the accelerator is MPS and the answer becomes True.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.accelerator.is_available.html
    """
    if site.kind == "import":
        yield from _import_site(site)
        return
    if site.stored:
        yield site.gap("the function is replaced here; replace the target's function instead")
        return
    guards = body_span(site.module, site.call or site.node)
    if not target.agnostic:
        yield rename(site, "torch.npu.is_available", npu_import(target), guards)
    elif target.has(ACCELERATOR_SINCE):
        yield rename(site, "torch.accelerator.is_available", (), guards)
    else:
        yield site.gap(TOO_OLD)


@rule(
    "POR202",
    "cuda-api",
    names=["torch.cuda.*", "torch.version.cuda"],
    effort=3,
    examples=[
        change(
            "import torch\nfor i in range(torch.cuda.device_count()):\n    torch.cuda.set_device(i)\n    torch.cuda.synchronize()\n",
            "import torch\nfor i in range(torch.accelerator.device_count()):\n    torch.accelerator.set_device_index(i)\n    torch.accelerator.synchronize()\n",
            "import torch\nfor i in range(torch.npu.device_count()):\n    torch.npu.set_device(i)\n    torch.npu.synchronize()\n",
        ),
        change(
            "import torch\n\ndef free():\n    torch.cuda.empty_cache()\n",
            "import torch\n\ndef free():\n    if torch.accelerator.is_available():\n        torch.get_device_module().empty_cache()\n",
            "import torch\n\ndef free():\n    torch.npu.empty_cache()\n",
            note="without CUDA the original does nothing, the other form raises",
        ),
        change(
            "import torch\n\ndef free():\n    if torch.cuda.is_available():\n        torch.cuda.empty_cache()\n",
            "import torch\n\ndef free():\n    if torch.accelerator.is_available():\n        torch.accelerator.empty_cache()\n",
            "import torch\n\ndef free():\n    if torch.npu.is_available():\n        torch.npu.empty_cache()\n",
            min_torch="2.13",
            note="torch_npu serves torch.accelerator's memory functions since 2.13",
        ),
        change(
            "import torch\n\ndef used():\n    return torch.cuda.memory_allocated() / 1e9\n",
            "import torch\n\ndef used():\n    return (torch.get_device_module().memory_allocated() if torch.accelerator.is_available() else 0) / 1e9\n",
            "import torch\n\ndef used():\n    return torch.npu.memory_allocated() / 1e9\n",
        ),
        change(
            "import torch\n\ndef f(x):\n    s = torch.cuda.Stream()\n    with torch.cuda.stream(s):\n        return x + 1\n",
            "import torch\n\ndef f(x):\n    s = torch.get_device_module().Stream()\n    with torch.get_device_module().stream(s):\n        return x + 1\n",
            "import torch\n\ndef f(x):\n    s = torch.npu.Stream()\n    with torch.npu.stream(s):\n        return x + 1\n",
        ),
        change(
            "import torch\ntry:\n    x = torch.ones(1)\nexcept torch.cuda.OutOfMemoryError:\n    pass\n",
            "import torch\ntry:\n    x = torch.ones(1)\nexcept torch.OutOfMemoryError:\n    pass\n",
            "import torch\ntry:\n    x = torch.ones(1)\nexcept torch.OutOfMemoryError:\n    pass\n",
        ),
        keep("import torch\nmajor, minor = torch.cuda.get_device_capability()\n", finding=True),
        keep("import torch\ntorch.cuda.cudart().cudaProfilerStart()\n", finding=True),
        keep(
            "import torch\n\ndef f():\n    if not torch.cuda.is_available():\n        return 0\n"
            "    made = torch.cuda.get_device_properties(torch.device('cuda'))\n    return made.major\n",
            note="a call that stays keeps its arguments, and the check that leads to it",
        ),
        keep("import torch\ntorch.manual_seed(3)\n", finding=False),
    ],
)
def cuda_api(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for the names of `torch.cuda`.

    ## Why it matters
    Without CUDA most of them raise, and the rest answers as if there were no accelerator.

    ## What it does
    Each public name has a row in the API tables. accelerator: the name in `torch.accelerator` if
    it means the same in every release from `--min-torch` on, on an NPU too; otherwise the same name
    of `torch.get_device_module()`, which is `torch.cuda` itself on a CUDA machine. Where the
    original answered without CUDA and the replacement would raise, the availability is asked
    first. npu: the same name in `torch.npu`, if torch_npu has it with the same meaning.

    ## What to do by hand
    Names without a counterpart are gaps; the message says what to use.

    ## References
    - https://docs.pytorch.org/docs/stable/accelerator.html
    - https://docs.pytorch.org/docs/stable/generated/torch.get_device_module.html
    """
    yield from _by_table(site, target)


@rule(
    "POR203",
    "cuda-backend-switch",
    names=["torch.backends.cuda.*", "torch.backends.cudnn.*"],
    category=Category.MANDATORY,
    effort=3,
    examples=[
        keep("import torch\ntorch.backends.cudnn.benchmark = True\n", finding=True),
        keep("import torch.backends.cudnn as cudnn\ncudnn.deterministic = True\n", finding=True),
        keep("import torch\nprint(torch.backends.mkldnn.enabled)\n", finding=False),
        change(
            'import torch\n\ndef f(device):\n    if device.type == "cuda":\n        torch.backends.cudnn.benchmark = True\n        return 1\n    return 0\n',
            'import torch\n\ndef f(device):\n    if device.type not in ("cpu", "meta"):\n        torch.backends.cudnn.benchmark = True\n        return 1\n    return 0\n',
            'import torch\n\ndef f(device):\n    if device.type == "npu":\n        torch.backends.cudnn.benchmark = True\n        return 1\n    return 0\n',
            note="the switch is harmless elsewhere and stays",
        ),
    ],
)
def cuda_backend_switch(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for switches of cuDNN and of CUDA's matrix products.

    ## Why it matters
    They act on NVIDIA's libraries alone. Setting them is allowed without CUDA and changes nothing.

    ## What it does
    They stay, and are reported as information; the few names that fail elsewhere are gaps.

    ## References
    - https://docs.pytorch.org/docs/stable/backends.html
    """
    yield from _by_table(site, target)


def _by_table(site: Site, target: Target) -> Iterator[Finding]:
    if site.kind == "import":
        yield from _import_site(site)
        return
    found = _row_of(site)
    if found is None:
        yield site.gap(
            f"{site.name} is not a public name of torch; find out what it is for",
            native_only=True,
        )
        return
    call = found[0].call
    holds = (site.module.end(call.func), site.module.end(call)) if call is not None else None
    for finding in _by_row(*found, target):
        yield replace(finding, holds=holds)


def _by_row(site: Site, known: Row, target: Target) -> Iterator[Finding]:
    if known.fate == "inert":
        yield site.information(known.reason or "harmless on other devices")
    elif site.stored:
        yield site.gap("the name is replaced here; replace the target's instead", native_only=True)
    elif known.kind == "call" and _asked_about(site):
        yield site.gap("the function itself is asked about here, not called", native_only=True)
    elif _redundant_seed(site, target):
        yield site.information("torch.manual_seed(...) above seeds every device already")
    elif known.name.endswith("get_device_properties") and (field := _native_field(site)):
        yield site.gap(
            f"only name and total_memory mean the same on every device, not {field}",
            native_only=True,
        )
    elif not target.agnostic:
        yield from _npu(site, known, target)
    else:
        yield from _accelerator(site, known, target)


def _row_of(site: Site) -> tuple[Site, Row] | None:
    """The longest part of the name that has a row."""
    node, name = site.node, site.name
    while True:
        known = row(name)
        if known is not None:
            return site.at(node, site.kind, name), known
        if not isinstance(node, ast.Attribute):
            return None
        node, name = node.value, name.rpartition(".")[0]


def _import_site(site: Site) -> Iterator[Finding]:
    """Imports follow their uses; one without a use is there for others."""
    if site.node.name == "*":
        yield site.gap("a star import hides which names are used; import them by name", effort=1)
        return
    known = row(site.name)
    local = site.node.asname or site.node.name.partition(".")[0]
    if known and known.kind == "module":
        return
    if any(True for _ in site.scope.uses(local)):
        exported = local in site.module.facts.imported.get(site.module.dotted, ())
        if exported or _in_all(site, local):
            yield site.gap(
                "others import it from here and get CUDA's; export the target's as well",
                category=Category.POTENTIAL,
                effort=1,
            )
        return
    yield site.information("imported but not used in this file")


def _in_all(site: Site, local: str) -> bool:
    """Whether `__all__` of the file lists a name."""
    return any(
        constant.value == local
        and any(
            isinstance(p, (ast.Assign, ast.AugAssign)) and "__all__" in site.module.segment(p)[:12]
            for p in site.module.parents(constant)
        )
        for constant, _ in site.module.strings
    )


# npu ------------------------------------------------------------------------------------------


def _npu(site: Site, known: Row, target: Target) -> Iterator[Finding]:
    generic = known.accelerator if not known.accelerator.startswith("torch.accelerator") else ""
    name = generic or known.npu
    if not name or (known.fate == "gap" and not _same_parameters(site, known.npu_params, known)):
        yield _gap(site, known)
        return
    edits = _keyword_edits(site, known, known.npu_params)
    if edits is None:
        yield _gap(site, known)
        return
    yield rename(site, name, npu_import(target), None, edits)


def _same_parameters(site: Site, parameters: tuple[str, ...], known: Row) -> bool:
    return (
        site.call is None
        or parameters == known.params
        or _keyword_edits(site, known, parameters) is not None
    )


# accelerator ----------------------------------------------------------------------------------


def _accelerator(site: Site, known: Row, target: Target) -> Iterator[Finding]:
    if known.fate == "gap":
        yield _gap(site, known)
        return
    if known.accelerator and target.has(known.accelerator_since):
        name, parameters, there = known.accelerator, known.accelerator_params, known.accelerator_cpu
    elif known.device_module and target.has(DEVICE_MODULE_SINCE):
        last = known.name.removeprefix("torch.cuda.")
        name, parameters = f"torch.get_device_module().{last}", known.npu_params
        there = known.device_module_cpu
    else:
        yield site.gap(TOO_OLD) if known.accelerator else _gap(site, known)
        return
    if _is_base_class(site):
        yield site.gap("a class is derived from it; derive from the target's class by hand")
        return
    if known.kind == "class" and _is_annotation(site):
        yield _annotation(site, known)
        return
    edits = _keyword_edits(site, known, parameters)
    if edits is None:
        yield site.gap(f"its parameters differ: {known.explanation}")
        return
    if known.cpu in ("raises", there) or guarded(site.module, site.node):
        yield rename(site, name, (), None, edits)
        return
    yield _asked_first(site, known, name, edits, target)


def _asked_first(
    site: Site, known: Row, name: str, edits: tuple[Edit, ...], target: Target
) -> Finding:
    """The call, where an accelerator is available; what the original answered elsewhere."""
    torch = torch_at(site)
    if torch is None:
        return site.gap(NAME_TAKEN)
    if not target.has(ACCELERATOR_SINCE):
        return site.gap(TOO_OLD)
    call = site.call
    if call is None:
        return site.gap(
            "handed on without being called; without an accelerator the replacement raises"
        )
    available = f"{torch[0]}.accelerator.is_available()"
    renamed = rename(site, name, (), None, edits)
    parent: Any = call.parent  # type: ignore[attr-defined]
    if isinstance(parent, ast.Expr):
        return _guarded_statement(site, renamed, parent, available)
    if known.cpu == "noop":
        answer = "None"
    else:
        answer = known.cpu.removeprefix("returns: ")
        if answer not in ("0", "False", "True", "{}", "None", "[]", "''", "-1"):
            return site.gap(
                f"asked without an accelerator it answers {answer}: {known.explanation}"
            )
    if answer == "''" and _in_f_string(site):
        return site.gap(f"take it out of the f-string: {known.explanation}")
    start, end = site.module.span(call)
    left, right = ("(", ")") if needs_parentheses(call) or _in_f_string(site) else ("", "")
    tail = f" if {available} else {answer}{right}"
    if left:
        renamed = _prefixed(renamed, start, left)
    return _with(renamed, Edit.of(end, end, tail))


def _prefixed(finding: Finding, start: int, text: str) -> Finding:
    """Put text before a finding's first edit, joined where they meet."""
    import dataclasses

    edits = []
    done = False
    for edit in finding.edits:
        if edit.start == start and not done:
            edits.append(Edit(edit.start, edit.end, (text, *edit.parts)))
            done = True
        else:
            edits.append(edit)
    if not done:
        edits.insert(0, Edit.of(start, start, text))
    return dataclasses.replace(finding, edits=tuple(edits))


def _with(finding: Finding, *edits: Edit) -> Finding:
    import dataclasses

    return dataclasses.replace(finding, edits=(*finding.edits, *edits))


def _guarded_statement(
    site: Site, renamed: Finding, statement: ast.Expr, available: str
) -> Finding:
    module = site.module
    start = module.start(statement)
    indent = module.index.lead(start)
    rest = module.text[module.end(statement) : _line_end(module.text, module.end(statement))]
    if indent is None or rest.lstrip()[:1] == ";":
        return _prefixed(renamed, start, f"{available} and ")
    newline = module.index.newline
    unit = "\t" if indent.endswith("\t") else "    "
    return _prefixed(renamed, start, f"if {available}:{newline}{indent}{unit}")


def _line_end(text: str, offset: int) -> int:
    while offset < len(text) and text[offset] not in "\r\n":
        offset += 1
    return offset


def _in_f_string(site: Site) -> bool:
    return any(isinstance(p, ast.FormattedValue) for p in site.module.parents(site.node))


def _is_base_class(site: Site) -> bool:
    parent = site.parent
    return isinstance(parent, ast.ClassDef) and site.node in parent.bases


def _is_annotation(site: Site) -> bool:
    child: Any = site.node
    for parent in site.module.parents(site.node):
        if isinstance(parent, ast.arg):
            return True
        if isinstance(parent, ast.AnnAssign):
            return child is parent.annotation
        if isinstance(parent, (ast.FunctionDef, ast.AsyncFunctionDef)):
            return child is parent.returns
        if isinstance(parent, ast.stmt):
            return False
        child = parent
    return False


def _annotation(site: Site, known: Row) -> Finding:
    """torch.Stream and torch.Event are the base classes of every device's."""
    last = known.name.rpartition(".")[2]
    around = site.parent
    if isinstance(around, ast.BinOp) and f"torch.{last}" in site.module.segment(around):
        return site.information(f"the annotation names torch.{last} already")
    if last in ("Stream", "Event"):
        return rename(site, f"torch.{last}")
    return site.gap(known.explanation or "write the annotation for every device")


def _gap(site: Site, known: Row) -> Finding:
    return site.gap(known.explanation or "no counterpart on the target", native_only=True)


def _asked_about(site: Site) -> bool:
    """`f.cache_clear`, `hasattr(f, ...)`: what is true of one function need not be of another."""
    parent = site.parent
    if isinstance(parent, ast.Attribute):
        return True
    return (
        isinstance(parent, ast.Call)
        and site.node in parent.args
        and isinstance(parent.func, ast.Name)
        and parent.func.id in ("hasattr", "getattr", "setattr", "isinstance", "callable")
    )


def _native_field(site: Site) -> str:
    """A field of the device's properties that other devices lack or fill differently."""
    functions = [site.node, *_assigned_uses(site, site.node)]
    around = ((f, parent_of(f)) for f in functions)
    calls = [p for f, p in around if isinstance(p, ast.Call) and p.func is f]
    for call in calls:
        for use in (call, *_assigned_uses(site, call)):
            field = parent_of(use)
            if isinstance(field, ast.Attribute) and field.attr not in ("name", "total_memory"):
                return field.attr
    return ""


def _assigned_uses(site: Site, node: Any) -> list[Any]:
    """The uses of the variable that an expression is assigned to."""
    target = node.parent.targets[0] if isinstance(node.parent, ast.Assign) else None
    if not isinstance(target, ast.Name):
        return []
    owner = site.module.scope(target).owner(target.id)
    return list(owner.uses(target.id)) if owner else []


def _redundant_seed(site: Site, target: Target) -> bool:
    """`torch.cuda.manual_seed(s)` beside `torch.manual_seed(s)`, which seeds every device."""
    last = site.name.rpartition(".")[2]
    call = site.call
    if last not in ("manual_seed", "manual_seed_all") or call is None or not target.agnostic:
        return False
    if len(call.args) != 1 or call.keywords:
        return False
    wanted = ast.dump(call.args[0])
    function: Any = site.module.function(site.node) or site.module.tree
    for node in ast.walk(function):
        if (
            isinstance(node, ast.Call)
            and site.module.name_of(node.func) in ("torch.manual_seed", "torch.random.manual_seed")
            and len(node.args) == 1
            and ast.dump(node.args[0]) == wanted
        ):
            return True
    return False


# Names and parameters -------------------------------------------------------------------------


def rename(
    site: Site,
    name: str,
    imports: tuple[str, ...] = (),
    guards: tuple[int, int] | None = None,
    edits: tuple[Edit, ...] = (),
) -> Finding:
    """Write another qualified name of torch in place of the site, touching as little as can be."""
    module = site.module
    new = name.removeprefix("torch.")
    base = _torch_node(site)
    if base is not None:
        start = module.end(base) + 1
        old = module.text[start : site.end]
        # In `(torch.cuda).x` a parenthesis would stay without its other half.
        if module.text[start - 1 : start] == "." and not {"(", ")"} & set(old):
            old_parts = old.split(".")
            start, end, text = _shortest(start, site.end, old_parts, new.split("."))
            return site.finding(Edit.of(start, end, text), *edits, imports=imports, guards=guards)
    torch = torch_at(site)
    if torch is None:
        return site.gap(NAME_TAKEN)
    return site.finding(
        Edit.of(site.start, site.end, f"{torch[0]}.{new}"),
        *edits,
        imports=(*imports, *torch[1]),
        guards=guards,
    )


def _torch_node(site: Site) -> ast.expr | None:
    """The part of the chain that stands for torch itself."""
    node = site.node
    while isinstance(node, ast.Attribute):
        node = node.value
        if site.module.name_of(node) == "torch":
            return node
    return None


def _shortest(start: int, end: int, old: list[str], new: list[str]) -> tuple[int, int, str]:
    """Leave equal parts at the end alone."""
    while len(old) > 1 and len(new) > 1 and old[-1] == new[-1]:
        end -= len(old[-1]) + 1
        old, new = old[:-1], new[:-1]
    return start, end, ".".join(new)


def _keyword_edits(site: Site, known: Row, parameters: tuple[str, ...]) -> tuple[Edit, ...] | None:
    """Edits that fit the call's arguments to other parameter names; None if they cannot fit."""
    call = site.call
    if call is None or parameters == known.params:
        return ()
    positional_only = "/" in parameters
    names = [p for p in parameters if p not in ("/", "*") and not p.startswith("*")]
    if any(p.startswith("**") for p in parameters):
        return ()
    if len(call.args) > len(names) or any(isinstance(a, ast.Starred) for a in call.args):
        return None
    edits = []
    old = [p for p in known.params if not p.startswith("*") and p != "/"]
    for position, keyword in enumerate(call.keywords):
        if keyword.arg is None:
            return None
        if keyword.arg in names and not positional_only:
            continue
        # A keyword in its own place may be written by position.
        place = len(call.args) + position
        if place >= len(names) or place >= len(old) or old[place] != keyword.arg:
            return None
        module = site.module
        value, _ = outer_span(module, keyword.value)
        edits.append(Edit.of(module.start(keyword), value, ""))
    return tuple(edits)


__all__ = [
    "Safety",
    "cuda_api",
    "cuda_backend_switch",
    "cuda_is_available",
    "rename",
]
