"""What every rewrite must stand up to, whichever rule proposes it.

Three kinds of code must not be opened to another device by swapping a name: code that already
tells several accelerators apart, code that leads to kernels written for CUDA, and code that drives
another library with a CUDA of its own.
"""

from __future__ import annotations

import ast
import dataclasses
import math
import re
from collections.abc import Iterator
from typing import Any

from porter.module import Module
from porter.rule import Category, Finding, Safety
from porter.scope import Scope
from porter.site import Site

from ._match import OTHER_ACCELERATORS, TOLD_APART

#: Spellings of other accelerators in identifiers: `is_xpu_available`, `torch.npu`, `IS_HPU`.
OTHERS = OTHER_ACCELERATORS | {"sdaa", "neuron", "mtia", "rocm", "amdsmi", "ipu", "vulkan", "hip"}
#: What torch.cuda itself may be built for: a question about it is none about other devices.
OF_CUDA = frozenset({"rocm", "hip"})
#: Packages that work on CUDA alone or choose devices on their own; code that calls them is not
#: moved by changing torch's side.
COMPANIONS = frozenset(
    "bitsandbytes cupy flash_attn flashinfer megatron nvidia onnxruntime paddle pycuda pynvml "
    "tensorrt tensorrt_llm torch_tensorrt transformer_engine triton xformers".split()
)
#: Names of functions, modules and classes that hold CUDA kernels.
KERNEL = re.compile(r"cuda|triton|cutlass|nvcc|tensorrt|(^|_)(ext|C)$", re.I)

#: Words beside a check for CUDA that say what the branch needs it for.
NATIVE_WORDS = frozenset(
    {"cupy", "cucim", "cuml", "tensorrt", "trt", "nvml", "pynvml", "cutlass", "triton"}
)
#: Files that are named after a library made for CUDA.
NATIVE_FILE = re.compile(
    r"(^|[/_])(trt|tensorrt|cupy|pycuda|bitsandbytes|bnb|nunchaku|transformer_engine|flashinfer)"
    r"(_\w*)?(\.\w+$|/)"
)
#: A file or class named after CUDA is one backend of several, or a tool for CUDA alone.
NAMED_FILE = re.compile(r"(^|/)cuda(_\w+)?(\.py|/)", re.I)
NAMED_CLASS = re.compile(
    r"^_?cuda\w*(accelerator|backend|platform|interface|device|graph\w*)$", re.I
)

OWN_BRANCH = "this code has a branch of its own for the target"


# Words ----------------------------------------------------------------------------------------


def words(node: ast.AST) -> set[str]:
    """The lower-case words of all identifiers and short strings under `node`."""
    found: set[str] = set()
    for child in ast.walk(node):
        text = ""
        if isinstance(child, ast.Name):
            text = child.id
        elif isinstance(child, ast.Attribute):
            text = child.attr
        elif isinstance(child, ast.Constant) and isinstance(child.value, str):
            text = child.value if len(child.value) < 24 else ""
        elif isinstance(child, ast.alias):
            text = child.name
        if text:
            found.update(re.split(r"[^a-z0-9]+", text.lower()))
    return found


def _words_of(module: Module, node: ast.AST) -> set[str]:
    """The same, worked out once for the node."""
    return module.once(("words", id(node)), lambda: words(node))


def _words_of_chain(module: Module, node: ast.If) -> set[str]:
    """The words of all tests of the if/elif chain that `node` belongs to."""
    top = _top(node)
    return module.once(
        ("words of chain", id(top)),
        lambda: {word for arm in _chain(top) for word in words(arm.test)},
    )


def _top(node: ast.If) -> ast.If:
    """The first arm of the if/elif chain that `node` belongs to."""
    top: Any = node
    while isinstance(top.parent, ast.If) and top.parent.orelse == [top]:
        top = top.parent
    found: ast.If = top
    return found


def _chain(top: ast.If) -> list[ast.If]:
    """All arms of an if/elif chain, by its first."""
    arms = [top]
    while len(arms[-1].orelse) == 1 and isinstance(arms[-1].orelse[0], ast.If):
        arms.append(arms[-1].orelse[0])
    return arms


def _next_choices(node: ast.If) -> list[ast.If]:
    """`if a: return x`, `if b: return y`: a chain, written without `else`."""
    block = next(
        (
            b
            for name in ("body", "orelse", "finalbody")
            if isinstance(b := getattr(node.parent, name, None), list) and node in b  # type: ignore[attr-defined]
        ),
        [],
    )
    at = block.index(node) if node in block else 0
    ends = (ast.Return, ast.Raise)
    found = []
    for other in block[at + 1 :]:
        if not isinstance(node.body[-1], ends) or not isinstance(other, ast.If):
            break
        found.append(other)
    for other in reversed(block[:at]):
        if not isinstance(other, ast.If) or not isinstance(other.body[-1], ends):
            break
        found.append(other)
    return found


# Told apart -----------------------------------------------------------------------------------


def _others_around(site: Site, everything: bool) -> set[str]:
    """Other accelerators that the code around the site mentions in the same decision."""
    module = site.module
    function: Any = module.function(site.node)
    child: Any = site.node
    found: set[str] = set()
    for parent in module.parents(site.node):
        if parent is function or isinstance(parent, (ast.ClassDef, ast.Lambda)):
            break
        if isinstance(parent, ast.If):
            if not isinstance(child, ast.If) or parent.orelse != [child]:
                # Else the chain was met at the arm below.
                found |= _words_of_chain(module, parent)
            for other in _next_choices(parent):
                found |= _words_of(module, other.test)
            if function is not None and _asks_for_cuda(module, parent.test):
                found |= _words_of(module, function)
        elif isinstance(parent, ast.IfExp):
            found |= words(parent.test) | words(parent.orelse)
        elif isinstance(parent, (ast.BoolOp, ast.Compare)):
            found |= words(parent)
            if function is not None and _compares(parent):
                found |= _words_of(module, function)
        elif isinstance(parent, (ast.List, ast.Tuple, ast.Set)) and child is site.node:
            found |= {e.value for e in parent.elts if _is_text(e)}  # type: ignore[attr-defined]
        elif isinstance(parent, ast.Dict) and child is site.node:
            found |= {k.value for k in parent.keys if k is not None and _is_text(k)}  # type: ignore[attr-defined]
        child = parent
    if function is not None and re.search(r"cuda", function.name, re.I):
        found |= _file_words(module)
    if everything and function is not None:
        found |= _words_of(module, function)
    return found & OTHERS


def _file_words(module: Module) -> set[str]:
    return module.once(
        "words",
        lambda: {w for n in (*module.names, *module.attributes) for w in n.lower().split("_")},
    )


def _is_text(node: ast.AST) -> bool:
    return isinstance(node, ast.Constant) and isinstance(node.value, str)


def _compares(node: ast.AST) -> bool:
    """Whether a test asks a device or tensor for CUDA."""
    for child in ast.walk(node):
        if isinstance(child, ast.Attribute) and child.attr == "is_cuda":
            return True
        if isinstance(child, ast.Compare) and any(
            isinstance(c, ast.Constant) and c.value == "cuda"
            for c in (child.left, *child.comparators)
        ):
            return True
    return False


def _asks_for_cuda(module: Module, test: ast.expr) -> bool:
    """`device == "cuda"`, `is_cuda_available()`: a test that names CUDA, but not torch's own."""
    return module.once(("asks for cuda", id(test)), lambda: _names_cuda(module, test))


def _names_cuda(module: Module, test: ast.expr) -> bool:
    if _compares(test):
        return True
    return any(
        isinstance(n, ast.Call)
        and not module.name_of(n.func).startswith("torch.")
        and "cuda" in _last_name(n.func).lower()
        for n in ast.walk(test)
    )


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def review_told_apart(site: Site, finding: Finding) -> Finding:
    """Leave decisions that already know several accelerators to their author."""
    comparison = finding.guards is not None and site.kind in ("string", "attribute")
    others = _others_around(site, everything=comparison and site.target.agnostic)
    others |= _others_around_variable(site)
    if not comparison and _moves_along(site):
        # On a Mac the accelerator is MPS: `cuda, else mps, else cpu` selects the same device.
        others -= {"mps"}
    if "npu" in others:
        return _left(finding, OWN_BRANCH, Category.INFORMATION, 0)
    if others and site.target.agnostic:
        return _left(finding, TOLD_APART, Category.MANDATORY, 3)
    if others & OF_CUDA:
        return _left(finding, "asks for a build of torch.cuda", Category.INFORMATION, 0)
    if others - {"mps"} and finding.safety is Safety.SAFE:
        return _unsafe(finding, TOLD_APART)
    return finding


def _others_around_variable(site: Site) -> set[str]:
    """The same for an answer that is kept: `has_cuda = torch.cuda.is_available()`."""
    child: Any = site.node
    for parent in site.module.parents(site.node):
        if isinstance(parent, ast.Assign) and child is parent.value:
            targets = [t for t in parent.targets if isinstance(t, ast.Name)]
            owners = [(site.scope.owner(t.id), t.id) for t in targets]
            return {w for o, name in owners if o for w in _others_around_uses(site, o, name)}
        if not isinstance(parent, (ast.Call, ast.BoolOp, ast.UnaryOp, ast.Compare)):
            break
        child = parent
    return set()


def _others_around_uses(site: Site, owner: Scope, name: str) -> set[str]:
    """The same for all tests of one variable, which may be assigned any number of times."""
    return site.module.once(
        ("others", site.scope, owner, name),
        lambda: {
            word
            for use in owner.uses(name)
            if _is_test(use)
            for word in _others_around(site.at(use, "name"), everything=False)
        },
    )


def _is_test(use: Any) -> bool:
    while isinstance(use.parent, (ast.BoolOp, ast.UnaryOp)):
        use = use.parent
    return isinstance(use.parent, (ast.If, ast.IfExp)) and use is use.parent.test


def _moves_along(site: Site) -> bool:
    """Whether what is chosen by a test is rewritten with it: it says "cuda" itself.

    The arms of one chain are opened together, or none is: half of a chain would choose wrongly.
    """
    return all(map(_says_cuda, [_guarded_nodes(site), *_behind_chain(site)]))


def _says_cuda(region: list[ast.AST]) -> bool:
    return not region or any(
        (isinstance(n, ast.Constant) and isinstance(n.value, str) and n.value.startswith("cuda"))
        or (isinstance(n, ast.Attribute) and n.attr == "cuda")
        for part in region
        for n in ast.walk(part)
    )


def _behind_chain(site: Site) -> Iterator[list[ast.AST]]:
    """What runs behind each check for CUDA in the if/elif chain of the site."""
    child: Any = site.node
    for parent in site.module.parents(site.node):
        if isinstance(parent, ast.stmt):
            break
        child = parent
    else:
        return
    if not isinstance(parent, ast.If) or child is not parent.test:
        return
    for arm in _chain(_top(parent)):
        for node in ast.walk(arm.test):
            if (
                isinstance(node, ast.Call)
                and site.module.name_of(node.func) == "torch.cuda.is_available"
            ):
                yield _behind(arm, _negated(site.module, node))


def _negated(module: Module, node: ast.expr) -> bool:
    negations = 0
    for parent in module.parents(node):
        if isinstance(parent, ast.stmt):
            break
        negations += isinstance(parent, ast.UnaryOp) and isinstance(parent.op, ast.Not)
    return bool(negations % 2)


def _left(finding: Finding, reason: str, category: Category, effort: int) -> Finding:
    return dataclasses.replace(
        finding,
        edits=(),
        moves=(),
        imports=(),
        reason=reason,
        safety=Safety.MANUAL,
        category=category,
        effort=effort,
        native_only=True,
    )


def _unsafe(finding: Finding, reason: str) -> Finding:
    return dataclasses.replace(finding, safety=Safety.UNSAFE, reason=reason)


# Kernels --------------------------------------------------------------------------------------


def review_kernels(site: Site, finding: Finding) -> Finding:
    """Keep a check that stands before kernels written for CUDA."""
    region = _guarded_nodes(site)
    kernel = next((k for n in region for k in _kernels(site.module, n)), "")
    if not kernel and isinstance(site.parent, (ast.BoolOp, ast.Compare)):
        whole = site.parent if isinstance(site.parent, ast.BoolOp) else site.parent.parent  # type: ignore[attr-defined]
        if isinstance(whole, ast.BoolOp):
            kernel = min(words(whole) & NATIVE_WORDS, default="")
            kernel = kernel or next(iter(_kernels(site.module, whole)), "")
    if not kernel:
        return finding
    reason = f"`{kernel}` looks like code for CUDA alone; give the target a path of its own"
    return _left(finding, reason, Category.MANDATORY, 5)


def _guarded_nodes(site: Site) -> list[ast.AST]:
    """The statements that run only if the check at the site succeeds."""
    if site.kind == "name" and not site.name.endswith(".is_available"):
        return []
    if site.kind == "string" and not isinstance(_comparison_of(site), ast.Compare):
        return []
    if site.kind == "attribute" and site.node.attr != "is_cuda":
        return []
    if site.kind not in ("name", "string", "attribute"):
        return []
    negated = _negated(site.module, site.node)
    child: Any = site.node
    for parent in site.module.parents(site.node):
        if isinstance(parent, ast.If) and child is parent.test:
            return _behind(parent, negated)
        if isinstance(parent, ast.IfExp) and child is parent.test:
            return [parent.orelse if negated else parent.body]
        if isinstance(parent, ast.stmt):
            return []
        child = parent
    return []


def _behind(branch: ast.If, negated: bool) -> list[ast.AST]:
    """The statements that run only if a check in the test of a branch succeeds."""
    if _fails(branch.body):
        return _after(branch) + list(branch.orelse)
    if not negated:
        return list(branch.body)
    ends = isinstance(branch.body[-1], (ast.Return, ast.Continue, ast.Break))
    return list(branch.orelse) + (_after(branch) if ends else [])


def _comparison_of(site: Site) -> Any:
    parent: Any = site.parent
    within = isinstance(parent, (ast.Tuple, ast.List, ast.Set))
    return getattr(parent, "parent", None) if within else parent


def _fails(body: list[ast.stmt]) -> bool:
    return isinstance(body[-1], ast.Raise)


def _after(statement: Any) -> list[ast.AST]:
    """The statements behind one in its block, as far as the function goes."""
    found: list[ast.AST] = []
    current = statement
    while not isinstance(
        current, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Module, ast.ClassDef)
    ):
        parent = current.parent
        for name in ("body", "orelse", "finalbody"):
            block = getattr(parent, name, None)
            if isinstance(block, list) and current in block:
                found += block[block.index(current) + 1 :]
        current = parent
    return found


def _kernels(module: Module, node: ast.AST) -> list[str]:
    """Names of CUDA kernels that are called or imported under `node`."""
    found = []
    for child in ast.walk(node):
        if isinstance(child, ast.Call):
            name = _kernel_name(module, child.func)
        elif isinstance(child, ast.ImportFrom):
            name = next(
                (n for n in ((child.module or ""), *(a.name for a in child.names)) if _native(n)),
                "",
            )
        elif isinstance(child, ast.Name) and re.match(r"CUDA[A-Z]\w*|CUDA_HOME|Cuda\w+", child.id):
            name = child.id
        else:
            continue
        if name:
            found.append(name)
    return found


def _native(name: str) -> bool:
    last = name.rpartition(".")[2]
    return not name.startswith("torch.") and name != "torch" and bool(KERNEL.search(last))


def _kernel_name(module: Module, function: ast.expr) -> str:
    qualified = module.name_of(function)
    if "cudagraph" in qualified:
        return qualified.rpartition(".")[2]
    if qualified.startswith("torch.") and not qualified.startswith("torch.ops"):
        return ""
    last = _last_name(function)
    if last in ("cuda", "is_cuda"):
        return ""
    if re.search(r"(^is_|available|_?use_)", last):
        return ""
    if KERNEL.search(last):
        return last
    root: Any = function
    while isinstance(root, ast.Attribute):
        root = root.value
    if root is not function and isinstance(root, ast.Name) and root.id not in ("self", "cls"):
        return root.id if re.search(r"cuda|triton|(^|_)ext$|^_C$", root.id, re.I) else ""
    return ""


# Companions -----------------------------------------------------------------------------------


def review_companions(site: Site, finding: Finding) -> Finding:
    """Mark rewrites in functions that also drive a library made for CUDA as unsafe."""
    if finding.safety is not Safety.SAFE:
        return finding
    if site.name.partition(".")[0] in COMPANIONS:
        return finding  # this rewrite is what takes the library out
    users = _companions(site.module)
    around = (users.get(id(p), "") for p in site.module.parents(site.node))
    used = next(filter(None, around), "")
    if named := NATIVE_FILE.search(site.module.path):
        used = named.group(2)
    if not used:
        return finding
    return _unsafe(
        finding, f"the code around also uses `{used}`, which does not follow torch's device"
    )


def review_named(site: Site, finding: Finding) -> Finding:
    """Mark rewrites in files and classes that are named after CUDA as unsafe."""
    if finding.safety is not Safety.SAFE:
        return finding
    owner = site.module.enclosing_class(site.node)
    if owner is not None and NAMED_CLASS.search(owner.name):
        what = f"class {owner.name}"
    elif NAMED_FILE.search(site.module.path):
        what = "this file"
    else:
        return finding
    return _unsafe(finding, f"{what} is named after CUDA: it may be one backend of several")


def review_chosen(site: Site, finding: Finding) -> Finding:
    """Mark a choice of a value that is named after CUDA as unsafe: it may be made for CUDA alone."""
    region = _guarded_nodes(site) if finding.safety is Safety.SAFE else []
    if len(region) != 1 or not isinstance(region[0], (ast.Name, ast.Attribute)):
        return finding
    name = _last_name(region[0])
    if name in ("cuda", "is_cuda") or not re.search(r"(^|_)cuda(_|$)", name, re.I):
        return finding
    return _unsafe(finding, f"`{name}` may be made for CUDA alone; check where it gets its value")


def review_imported(site: Site, finding: Finding) -> Finding:
    """Hold back what asks torch while the file is imported, if torch may not be there by then."""
    if not finding.rewrites or site.kind != "string" or not site.target.agnostic:
        return finding
    torch = site.spell("torch")
    if torch is None or site.module.function(site.node) is not None:
        return finding
    there = site.module.imported_at(torch.partition(".")[0])
    if there <= site.start:
        return finding
    if not math.isinf(there):
        reason = "torch is imported further down; move the import up, then write the device"
        return dataclasses.replace(_left(finding, reason, Category.MANDATORY, 1), native_only=False)
    around = (p for p in site.module.parents(site.node) if isinstance(p, (ast.If, ast.Try)))
    if finding.safety is not Safety.SAFE or any(True for _ in around):
        return finding  # it stands where torch is there, for all that can be told
    return _unsafe(
        finding, "torch may be missing when this file is imported, and the new text needs it"
    )


def _companions(module: Module) -> dict[int, str]:
    """For each function that uses one, the package."""
    users: dict[int, str] | None = module.memo.get("companions")
    if users is not None:
        return users
    users = module.memo["companions"] = {}
    for chain, scope in module.chains:
        root: Any = chain
        while isinstance(root, ast.Attribute):
            root = root.value
        if not isinstance(root, ast.Name):
            continue
        top = _package(module, root, scope)
        function = module.function(chain) if top in COMPANIONS else None
        if function is not None:
            users[id(function)] = top
    return users


def _package(module: Module, root: ast.Name, scope: Scope) -> str:
    """The package behind a name: imported, or the decorator of a kernel defined here."""
    found = module.resolve(root, scope)
    if found is not None:
        return found.name.partition(".")[0]
    owner = scope.owner(root.id)
    if owner is None:
        return ""
    return module.once(("decorated", owner, root.id), lambda: _decorated(module, owner, root.id))


def _decorated(module: Module, owner: Scope, name: str) -> str:
    for binding in owner.bindings.get(name, ()):
        for decorator in getattr(binding.node, "decorator_list", ()):
            function = decorator.func if isinstance(decorator, ast.Call) else decorator
            top = module.name_of(function).partition(".")[0]
            if top in COMPANIONS:
                return top
    return ""


REVIEWS = (
    review_told_apart,
    review_kernels,
    review_companions,
    review_named,
    review_chosen,
    review_imported,
)
