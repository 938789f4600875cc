"""POR7xx: environment variables that CUDA, NCCL and the CUDA side of torch read.

https://docs.pytorch.org/docs/stable/torch_environment_variables.html
"""

from __future__ import annotations

import ast
import functools
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porter.module import Module
from porter.rule import Category, Edit, Finding, Safety, change, keep, rule
from porter.site import Site
from porter.targets import Target, version

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOPIC = "environment"
MARKERS = ("NCCL", "NVIDIA", "CUBLAS")

FAMILY = re.compile(
    r"(CUDA|NCCL|TORCH_NCCL|TORCH_CUDA|NVIDIA|CUBLAS|CUDNN|PYTORCH_CUDA|PYTORCH_NO_CUDA"
    r"|PYTORCH_NVML)_[A-Z0-9_]+"
)
ENVIRONMENT = re.compile(r"(^|_)env(s|iron|ironment|iron_vars|_?vars?|_?dict|_copy)?($|_)", re.I)
FIRST_ARGUMENT = frozenset({"getenv", "putenv", "unsetenv", "setenv", "delenv", "getenvb"})
MAPPING_METHODS = frozenset({"get", "pop", "setdefault", "set", "has", "maybe_get"})
TALK = frozenset(
    "print debug info warning warn error exception critical log write echo fail skip secho".split()
)


@dataclass(frozen=True)
class Variable:
    """What is known of one variable; the columns are explained in `environment.toml`."""

    name: str
    npu: str = ""
    npu_exact: bool = True
    accelerator: str = ""
    accelerator_since: str = ""
    empty: bool = True
    keys: tuple[str, ...] = ()
    ignored: bool = False
    advice: str = ""
    source: str = ""


@functools.cache
def variables() -> dict[str, Variable]:
    """The table, by name."""
    text = (Path(__file__).parent / "environment.toml").read_text(encoding="utf-8")
    return {
        name: Variable(name, **{**data, "keys": tuple(data.get("keys", ()))})
        for name, data in tomllib.loads(text).items()
    }


# Where a name stands --------------------------------------------------------------------------


def is_environment(module: Module, node: Any, depth: int = 0) -> bool:
    """Whether an expression is `os.environ`, a copy of it, or is called like one."""
    if depth > 3:
        return False
    if isinstance(node, ast.Constant):
        return node.value == "os.environ"
    if module.name_of(node) == "os.environ":
        return True
    if isinstance(node, ast.Attribute):
        return bool(ENVIRONMENT.search(node.attr))
    if isinstance(node, ast.Name):
        return bool(ENVIRONMENT.search(node.id)) or _holds_environment(module, node, depth)
    if isinstance(node, ast.Call):
        inner = node.func.value if isinstance(node.func, ast.Attribute) else None
        return any(
            is_environment(module, n, depth + 1) for n in (inner, *node.args[:1]) if n is not None
        )
    if isinstance(node, ast.Dict):
        return any(
            k is None and is_environment(module, v, depth + 1)
            for k, v in zip(node.keys, node.values, strict=True)
        )
    return False


def _holds_environment(module: Module, node: ast.Name, depth: int) -> bool:
    owner = module.scope(node).owner(node.id)
    return any(
        b.value is not None
        and not isinstance(b.value, ast.Constant)
        and is_environment(module, b.value, depth + 1)
        for b in (owner.bindings.get(node.id, ()) if owner else ())
    )


def is_access(module: Module, node: Any, depth: int = 0) -> bool:
    """Whether a name, as a string or keyword, surely names a variable of an environment."""
    parent = node.parent
    if isinstance(node, ast.keyword):
        return isinstance(parent, ast.Call) and _is_environment_call(module, parent)
    if isinstance(parent, ast.Subscript):
        return parent.slice is node and is_environment(module, parent.value)
    if isinstance(parent, ast.Compare):
        return (
            parent.left is node
            and isinstance(parent.ops[0], (ast.In, ast.NotIn))
            and is_environment(module, parent.comparators[0])
        )
    if isinstance(parent, ast.Call):
        return bool(parent.args) and parent.args[0] is node and _reads_argument(module, parent)
    if isinstance(parent, ast.keyword):
        return parent.arg == "envvar"
    if isinstance(parent, ast.Dict):
        return node in parent.keys and _is_environment_dict(module, parent)
    if isinstance(parent, ast.Assign) and depth == 0:
        return _constant_for_access(module, parent)
    return False


def _callee(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _reads_argument(module: Module, call: ast.Call) -> bool:
    method = _callee(call)
    if method in FIRST_ARGUMENT:
        return True
    receiver = getattr(call.func, "value", None)
    return method in MAPPING_METHODS and receiver is not None and is_environment(module, receiver)


def _is_environment_call(module: Module, call: ast.Call) -> bool:
    """`dict(os.environ, X=...)`, `os.environ.update(X=...)`, `patch_environment(X=...)`."""
    if any(is_environment(module, a) for a in call.args):
        return True
    receiver = getattr(call.func, "value", None)
    if receiver is not None and _callee(call) == "update":
        return is_environment(module, receiver)
    if ENVIRONMENT.search(_callee(call)):
        return True
    return _callee(call) == "dict" and _goes_to_environment(module, call)


def _is_environment_dict(module: Module, mapping: ast.Dict) -> bool:
    return is_environment(module, mapping) or _goes_to_environment(module, mapping)


def _goes_to_environment(module: Module, node: Any) -> bool:
    parent = node.parent
    if isinstance(parent, ast.keyword):
        return bool(parent.arg and ENVIRONMENT.search(parent.arg))
    if isinstance(parent, ast.Call) and node in parent.args:
        method, receiver = _callee(parent), getattr(parent.func, "value", None)
        if method == "update" and receiver is not None:
            return is_environment(module, receiver)
        return method == "dict" and is_environment(module, parent.args[0])
    if isinstance(parent, (ast.Assign, ast.AnnAssign)):
        targets = parent.targets if isinstance(parent, ast.Assign) else [parent.target]
        return any(is_environment(module, t) for t in targets)
    if isinstance(parent, ast.BinOp) and isinstance(parent.op, ast.BitOr):
        return is_environment(module, parent.left) or is_environment(module, parent.right)
    if isinstance(parent, ast.Dict) and node in parent.values:
        key = parent.keys[parent.values.index(node)]
        return (
            isinstance(key, ast.Constant)
            and isinstance(key.value, str)
            and bool(ENVIRONMENT.search(key.value))
        )
    return False


def _constant_for_access(module: Module, statement: ast.Assign) -> bool:
    """`KEY = "CUDA_VISIBLE_DEVICES"` where every use of KEY is an access."""
    target = statement.targets[0]
    if len(statement.targets) != 1 or not isinstance(target, ast.Name):
        return False
    owner = module.scope(target).owner(target.id)
    if owner is None or len(owner.bindings.get(target.id, ())) != 1:
        return False
    uses = list(owner.uses(target.id))
    return bool(uses) and all(is_access(module, use, 1) for use in uses)


def written_value(node: Any) -> ast.expr | None:
    """The value that is written under a name, where there is one."""
    parent = node.parent
    if isinstance(node, ast.keyword):
        return node.value
    if isinstance(parent, ast.Subscript) and isinstance(parent.parent, ast.Assign):  # type: ignore[attr-defined]
        return parent.parent.value if parent in parent.parent.targets else None  # type: ignore[attr-defined]
    if isinstance(parent, ast.Call) and _callee(parent) in (
        "setdefault", "setenv", "putenv", "set",
    ):  # fmt: skip
        return parent.args[1] if len(parent.args) > 1 else None
    if isinstance(parent, ast.Dict) and node in parent.keys:
        return parent.values[parent.keys.index(node)]
    return None


def occurrences(module: Module, name: str) -> list[Any]:
    """Every string and keyword of the file that is exactly this name."""
    found: list[Any] = [c for c, _ in module.strings if c.value == name]
    found += [k for k, _ in module.keywords if k.arg == name and name.isupper()]
    return [n for n in found if not isinstance(n.parent, ast.Expr)]


# POR701 ---------------------------------------------------------------------------------------


@rule(
    "POR701",
    "cuda-environment-variable",
    strings=rf"^{FAMILY.pattern}$",
    keywords=sorted(variables()),
    category=Category.POTENTIAL,
    examples=[
        change(
            'import os\n\nos.environ["CUDA_VISIBLE_DEVICES"] = "0,1"\nprint(os.getenv("CUDA_VISIBLE_DEVICES"))\n',
            None,
            'import os\n\nos.environ["ASCEND_RT_VISIBLE_DEVICES"] = "0,1"\nprint(os.getenv("ASCEND_RT_VISIBLE_DEVICES"))\n',
        ),
        change(
            'import os\nimport subprocess\n\nsubprocess.run(["x"], env={**os.environ, "NCCL_SOCKET_IFNAME": "eth0"})\nsubprocess.run(["x"], env=dict(os.environ, TORCH_NCCL_BLOCKING_WAIT="1"))\n',
            None,
            'import os\nimport subprocess\n\nsubprocess.run(["x"], env={**os.environ, "HCCL_SOCKET_IFNAME": "eth0"})\nsubprocess.run(["x"], env=dict(os.environ, TORCH_HCCL_BLOCKING_WAIT="1"))\n',
        ),
        change(
            'import os\n\nif "PYTORCH_CUDA_ALLOC_CONF" not in os.environ:\n    os.environ["PYTORCH_CUDA_ALLOC_CONF"] = "expandable_segments:True"\n',
            'import os\n\nif "PYTORCH_ALLOC_CONF" not in os.environ:\n    os.environ["PYTORCH_ALLOC_CONF"] = "expandable_segments:True"\n',
            'import os\n\nif "PYTORCH_NPU_ALLOC_CONF" not in os.environ:\n    os.environ["PYTORCH_NPU_ALLOC_CONF"] = "expandable_segments:True"\n',
            min_torch="2.10",
        ),
        change(
            'import os\n\nos.environ.setdefault("NCCL_IB_TC", "106")\n',
            None,
            'import os\n\nos.environ.setdefault("HCCL_RDMA_TC", "106")\n',
            unsafe=True,
        ),
        keep(
            'import os\n\nos.environ["CUDA_VISIBLE_DEVICES"] = ""\n',
            finding=True,
            note="how Ascend reads an empty list is not documented",
        ),
        keep(
            'import os\n\nos.environ["PYTORCH_CUDA_ALLOC_CONF"] = "backend:cudaMallocAsync"\n',
            finding=True,
            min_torch="2.10",
            note="an NPU does not know this setting",
        ),
        keep(
            'import os\n\nos.environ["CUDA_VISIBLE_DEVICES"] = "0"\nfor name in ["CUDA_VISIBLE_DEVICES"]:\n    os.environ.pop(name)\n',
            finding=True,
            note="all occurrences in a file are renamed, or none",
        ),
        keep('"""Set CUDA_VISIBLE_DEVICES."""\n"CUDA_VISIBLE_DEVICES"\n', finding=False),
        keep('CUDA_SYSTEM = 1\nkinds = ["CUDA_SYSTEM"]\n', finding=False),
    ],
)
def cuda_environment_variable(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for environment variables such as `CUDA_VISIBLE_DEVICES` and `NCCL_SOCKET_IFNAME`.

    ## Why it matters
    Other devices read other variables: the setting silently has no effect there.

    ## What it does
    npu: the variable that Ascend reads with the same meaning, in every place of the file or in
    none. accelerator: variables belong to a device, so they are reported; only
    `PYTORCH_CUDA_ALLOC_CONF` becomes `PYTORCH_ALLOC_CONF`, which torch reads on every device since
    2.10. What other devices ignore without harm is information.

    ## Safety
    Renamed only where the string surely names an environment variable. Left where the value has no
    counterpart, and where the file names the target's variable already. Unsafe where the range of
    values was not compared.

    ## References
    - https://docs.pytorch.org/docs/stable/torch_environment_variables.html
    - https://github.com/Ascend/pytorch/tree/master/docs/zh/api/environment_variable
    - rewrites/environment.toml names the source of each row
    """
    name = site.node.arg if site.kind == "keyword" else site.node.value
    if isinstance(site.parent, ast.Expr):
        return
    known = variables().get(name)
    certain = is_access(site.module, site.node)
    if known is None:
        if certain and FAMILY.fullmatch(name):
            yield site.information("read by CUDA's side only", span=_token(site, name))
        return
    if site.kind == "keyword" and not certain:
        return
    yield _variable(site, target, known, certain)


def _token(site: Site, name: str) -> tuple[int, int]:
    if site.kind == "keyword":
        return site.start, site.start + len(name)
    return site.start, site.end


def _variable(site: Site, target: Target, known: Variable, certain: bool) -> Finding:
    span = _token(site, known.name)
    new = _new_name(target, known)
    if not new:
        return _left(site, known, certain, span)
    places = occurrences(site.module, known.name)
    if any(occurrences(site.module, other) for other in _others(known)):
        return site.information("the file names the target's variable already", span=span)
    if not all(is_access(site.module, n) and _plain(site.module, n, known.name) for n in places):
        return site.gap(
            f"not every use of it in this file can be renamed; rename all to {new} by hand",
            span=span,
        )
    problems = [p for n in places if (p := _value_problem(written_value(n), known))]
    if problems:
        return site.gap(f"{problems[0]}; {known.advice}", span=span)
    doubtful = not known.npu_exact and not target.agnostic
    unread = bool(known.keys) and any(_unreadable(written_value(n)) for n in places)
    reason = ""
    if doubtful:
        reason = known.advice
    elif unread:
        reason = f"the target reads these settings only: {', '.join(known.keys)}"
    return site.finding(
        *(Edit.of(at, at + len(known.name), new) for at in _spellings(site, known.name, span)),
        span=span,
        safety=Safety.UNSAFE if reason else Safety.SAFE,
        reason=reason,
    )


def _spellings(site: Site, name: str, span: tuple[int, int]) -> Iterator[int]:
    """Where the name stands: here, and in the text of an f-string that shows its value."""
    text = site.module.text
    yield text.index(name, *span)
    around = next((p for p in site.module.parents(site.node) if isinstance(p, ast.JoinedStr)), None)
    for piece in around.values if around is not None else ():
        if isinstance(piece, ast.Constant) and site.module.exact(piece):
            low, high = site.module.span(piece)
            for found in re.finditer(rf"\b{name}\b", text[low:high]):
                yield low + found.start()


def _new_name(target: Target, known: Variable) -> str:
    if not target.agnostic:
        return known.npu
    since = known.accelerator_since
    return known.accelerator if since and target.has(version(since)) else ""


def _others(known: Variable) -> Iterator[str]:
    yield from (n for n in (known.npu, known.accelerator) if n)


def _left(site: Site, known: Variable, certain: bool, span: tuple[int, int]) -> Finding:
    if known.ignored:
        return site.information(known.advice, span=span)
    if known.npu and occurrences(site.module, known.npu):
        return site.information(f"the file names {known.npu} too", span=span)
    advice = known.advice if certain else f"if this names the environment variable: {known.advice}"
    return site.gap(advice, span=span)


def _plain(module: Module, node: Any, name: str) -> bool:
    """Whether the name is spelled in one piece in the source."""
    if isinstance(node, ast.keyword):
        return module.text.startswith(name, module.start(node))
    return module.exact(node) and module.segment(node).count(name) == 1


def _value_problem(value: ast.expr | None, known: Variable) -> str:
    """Why a written value does not carry over."""
    if not isinstance(value, ast.Constant) or not isinstance(value.value, str):
        return ""
    text = value.value.strip()
    if not known.empty and not re.fullmatch(r"\d+( *, *\d+)*", text):
        return f"there is no documented counterpart of the value {text!r}"
    if known.keys:
        settings = [s.partition(":")[0].strip() for s in text.split(",") if s.strip()]
        strange = [s for s in settings if s not in known.keys]
        if strange:
            return f"an NPU does not know the setting {strange[0]!r}"
    return ""


def _unreadable(value: ast.expr | None) -> bool:
    return value is not None and not isinstance(value, ast.Constant)


# POR702 ---------------------------------------------------------------------------------------


@rule(
    "POR702",
    "cuda-environment-in-command",
    strings=rf"\b{FAMILY.pattern}=",
    category=Category.POTENTIAL,
    examples=[
        keep(
            'import os\n\ndef f(i):\n    os.system(f"CUDA_VISIBLE_DEVICES={i} python a.py")\n',
            finding=True,
        ),
        keep('"""Run with CUDA_VISIBLE_DEVICES=0."""\n', finding=False),
        keep('print("set CUDA_VISIBLE_DEVICES=0")\n', finding=True),
    ],
)
def cuda_environment_in_command(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for commands in strings that set such a variable: `"CUDA_VISIBLE_DEVICES=0 python"`.

    ## Why it matters
    The variable has no effect on another device.

    ## What it does
    Nothing: what a string is used for cannot be proven.

    ## Safety
    Reported only; as information where the string is a message.

    ## References
    - https://docs.pytorch.org/docs/stable/torch_environment_variables.html
    """
    if isinstance(site.parent, ast.Expr):
        return
    names = [n for m in re.finditer(rf"\b({FAMILY.pattern})=", site.node.value) if (n := m[1])]
    known = variables().get(names[0])
    renamed = f" ({known.npu} on NPU)" if known is not None and known.npu else ""
    if is_message(site):
        yield site.information(f"a text that names {names[0]}{renamed}")
    elif known is not None and known.ignored:
        yield site.information(f"sets {names[0]}, which other devices ignore{renamed}")
    else:
        yield site.gap(f"sets {names[0]} in a command; set the target's variable{renamed}")


def is_message(site: Site) -> bool:
    """Whether a string is printed, logged, raised, or the help of an option."""
    child: Any = site.node
    for parent in site.module.parents(site.node):
        if isinstance(parent, ast.Raise):
            return True
        if isinstance(parent, ast.Assert) and child is parent.msg:
            return True
        if isinstance(parent, ast.keyword) and parent.arg in (
            "help",
            "description",
            "reason",
            "msg",
        ):
            return True
        if isinstance(parent, ast.Call) and child in parent.args and _callee(parent) in TALK:
            return True
        if isinstance(parent, ast.stmt):
            return False
        child = parent
    return False
