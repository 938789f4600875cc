"""POR95x: what breaks or freezes when a model is exported to ONNX.

Only on request: who never exports need not read it. `--select POR95` asks for it, and
`porter onnx check` says it of the files of the models that it checks.

The statements were measured with torch 2.13.0 and onnxruntime 1.32.0: small models with each
construct, exported by `torch.onnx.export(dynamo=True, opset_version=18)` with a dimension that may
vary, and run with two sizes (tests/test_export_advice.py repeats a part of that).
"""

from __future__ import annotations

import ast
from collections.abc import Callable, Iterator
from typing import Any

from porter.rule import Category, Finding, keep, rule
from porter.site import Site
from porter.targets import Target

from ._forward import Forward, forwards

MARKERS = ("forward",)
#: Rules that run only if their codes are selected.
ON_REQUEST = True
#: What wakes every rule of this file; each looks at the whole file once.
WAKING = (
    "torch.nn.*",
    "torch.jit.ScriptModule",
    "pytorch_lightning.LightningModule",
    "lightning.LightningModule",
    "lightning.pytorch.LightningModule",
    "transformers.PreTrainedModel",
)
REFERENCE = "https://docs.pytorch.org/docs/stable/export.html"

Look = Callable[[Forward], Iterator[tuple[ast.AST, str]]]


def _each(site: Site, code: str, look: Look) -> Iterator[Finding]:
    """The findings of one rule in all forward passes of a file, at its first site only."""
    if site.module.memo.setdefault(code, site.node) is not site.node:
        return
    for forward in forwards(site.module):
        seen: set[int] = set()
        for node, remedy in look(forward):
            if id(node) not in seen and not forward.decided(node):
                seen.add(id(node))
                yield site.at(node).advice(remedy)


def _module(
    *body: str, before: str = "", init: str = "", signature: str = "self, x: torch.Tensor"
) -> str:
    """A whole file with one module, for the examples."""
    lines = ["import torch", "from torch import nn", *before.splitlines(), "", "",
             "class Model(nn.Module):"]  # fmt: skip
    if init:
        lines += ["    def __init__(self):", "        super().__init__()",
                  *(f"        {part}" for part in init.splitlines()), ""]  # fmt: skip
    lines += [f"    def forward({signature}):", *(f"        {line}" for line in body)]
    return "\n".join(lines) + "\n"


# POR950 ---------------------------------------------------------------------------------------

BRANCH_ON_SIZE = (
    "the graph keeps the side that the size of the example takes; let `porter onnx check --vary` "
    "compare sizes of both sides, or write it without a branch"
)
LOOP_OVER_SIZE = (
    "the exporter unrolls this loop for the size of the example, and the graph is wrong for others; "
    "write it with operations on whole tensors, or let that dimension not vary"
)
RNN = (
    "the exporter unrolls nn.RNN for the length of the example, and the graph is wrong for others; "
    "nn.GRU and nn.LSTM become one operator"
)


@rule(
    "POR950",
    "export-size-in-control-flow",
    names=WAKING,
    category=Category.ADVICE,
    effort=0,
    examples=[
        keep(_module("if x.shape[0] > 4:", "    return x * 2", "return x"), finding=True),
        keep(
            _module("rows = []", "for i in range(x.size(0)):", "    rows.append(x[i] * i)",
                    "return torch.stack(rows)"),
            finding=True,
        ),
        keep(_module("return torch.stack([row * 2 for row in x])"), finding=True),
        keep(
            _module("return self.rnn(x)[0]", init="self.rnn = nn.RNN(8, 16, batch_first=True)"),
            finding=True,
        ),
        keep(_module("if x.dim() == 3:", "    x = x[None]", "return x"), finding=False),
        keep(
            _module("if x.shape[1] != 3:", '    raise ValueError("three channels")', "return x * 2"),
            finding=False,
            note="a check that only raises",
        ),
        keep(
            _module("for _ in range(3):", "    x = x * 2", "return x.view(x.shape[0], -1)"),
            finding=False,
        ),
    ],
)  # fmt: skip
def size_in_control_flow(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for Python's `if` and `for` on sizes of tensors in a forward pass, and for `nn.RNN`.

    ## Why it matters
    The exporter runs the forward pass once. A loop over a size is unrolled, and of a branch only
    one side is kept. The graph is then wrong, without any error, for inputs of another size:
    measured with torch 2.13.

    ## What it does
    Only speaks, and only on request. Branches that do nothing but raise an error are left out.

    ## References
    - https://docs.pytorch.org/docs/stable/export.html
    """
    yield from _each(site, "POR950", _size_flow)


def _size_flow(forward: Forward) -> Iterator[tuple[ast.AST, str]]:
    for node in forward.nodes():
        if isinstance(node, (ast.If, ast.IfExp)):
            if forward.is_size(_plain(node.test)) and not _only_raises(node):
                yield node.test, BRANCH_ON_SIZE
        elif isinstance(node, (ast.For, ast.comprehension)):
            if _over_size(forward, node.iter):
                yield node.iter, LOOP_OVER_SIZE
        elif isinstance(node, ast.While) and forward.is_size(_plain(node.test)):
            yield node.test, LOOP_OVER_SIZE
    owner = forward.owner
    if owner is not None and forward.node.name == "forward":
        for node in ast.walk(owner.node):
            if isinstance(node, ast.Call) and forward.module.name_of(node.func) == "torch.nn.RNN":
                yield node, RNN


def _plain(test: ast.expr) -> ast.expr:
    while isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
        test = test.operand
    return test


def _only_raises(node: ast.AST) -> bool:
    """Whether a branch does nothing but complain."""
    if not isinstance(node, ast.If) or node.orelse:
        return False
    return all(
        isinstance(s, (ast.Raise, ast.Assert, ast.Pass))
        or (isinstance(s, ast.Expr) and _is_talk(s.value))
        for s in node.body
    )


def _is_talk(node: ast.expr) -> bool:
    if not isinstance(node, ast.Call):
        return isinstance(node, ast.Constant)
    function = node.func
    last = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    return last in ("print", "warn", "warning", "debug", "info", "warning_once", "warn_once")


def _over_size(forward: Forward, node: ast.expr) -> bool:
    """Whether a loop turns as often as a tensor is long."""
    if isinstance(node, ast.Call):
        function = node.func
        if isinstance(function, ast.Name) and function.id == "range":
            return any(forward.is_size(a) for a in node.args)
        if isinstance(function, ast.Name) and function.id in ("enumerate", "zip", "reversed"):
            return any(_over_size(forward, a) for a in node.args)
        if isinstance(function, ast.Attribute) and function.attr in (
            "chunk",
            "split",
            "tensor_split",
        ):
            return False
        if forward.module.name_of(function) in ("torch.chunk", "torch.split"):
            return False
    return forward.is_tensor(node)


# POR951 ---------------------------------------------------------------------------------------

BRANCH_ON_VALUE = (
    "the exporter cannot follow a branch on the values of tensors; compute both sides and choose "
    "with torch.where, or write torch.cond"
)
LOOP_ON_VALUE = (
    "the exporter cannot follow a loop whose number of turns is in a tensor; write a fixed number "
    "of turns with a mask, or keep the loop outside the model"
)


@rule(
    "POR951",
    "export-value-in-control-flow",
    names=WAKING,
    category=Category.ADVICE,
    effort=0,
    examples=[
        keep(_module("if x.sum() > 0:", "    return x * 2", "return x"), finding=True),
        keep(_module("while x.abs().max() > 1:", "    x = x / 2", "return x"), finding=True),
        keep(
            _module("for _ in range(int(steps)):", "    x = x * 2", "return x",
                    signature="self, x, steps: torch.Tensor"),
            finding=True,
        ),
        keep(
            _module("n = lengths.max().item()", "if n > 3:", "    x = x[:, :3]", "return x",
                    signature="self, x, lengths: torch.Tensor"),
            finding=True,
        ),
        keep(_module("return x * (1 if torch.isnan(x).any() else 2)"), finding=True),
        keep(
            _module("if mask is not None:", "    x = x * mask", "return x",
                    signature="self, x, mask=None"),
            finding=False,
        ),
        keep(
            _module("if scale > 1:", "    x = x * scale", "return x",
                    signature="self, x, scale: float"),
            finding=False,
        ),
        keep(
            _module("if self.training and x.sum() > 0:", "    x = x * 2", "return x"),
            finding=False,
            note="not in evaluation",
        ),
        keep(_module("return torch.where(x.sum() > 0, x, -x)"), finding=False),
        keep("import torch\n\n\ndef f(x: torch.Tensor):\n    if x.sum() > 0:\n        return 1\n",
             finding=False, note="not in a forward pass"),
    ],
)  # fmt: skip
def value_in_control_flow(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for Python's `if`, `while` and `for` on values of tensors in a forward pass.

    ## Why it matters
    The exporter follows tensors without their values: it stops at "Could not guard on
    data-dependent expression". On an accelerator such a place costs time too, since Python waits
    for the value.

    ## What it does
    Only speaks, and only on request. `assert` is left out, since the exporter drops it.

    ## References
    - https://docs.pytorch.org/docs/stable/export.html
    - https://docs.pytorch.org/docs/stable/cond.html
    """
    yield from _each(site, "POR951", _value_flow)


def _value_flow(forward: Forward) -> Iterator[tuple[ast.AST, str]]:
    for node in forward.nodes():
        if isinstance(node, (ast.If, ast.IfExp)):
            if forward.decides_by_value(node.test):
                yield _blamed(forward, node.test), BRANCH_ON_VALUE
        elif isinstance(node, ast.While):
            if forward.decides_by_value(node.test):
                yield _blamed(forward, node.test), LOOP_ON_VALUE
        elif isinstance(node, (ast.For, ast.comprehension)):
            if _counts(forward, node.iter):
                yield node.iter, LOOP_ON_VALUE
            for test in getattr(node, "ifs", ()):
                if forward.decides_by_value(test):
                    yield test, BRANCH_ON_VALUE


def _blamed(forward: Forward, test: ast.expr) -> ast.expr:
    """The part of a condition that depends on values."""
    if isinstance(test, ast.BoolOp):
        return next((v for v in test.values if forward.decides_by_value(v)), test)
    return test


def _counts(forward: Forward, node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Name)
        and node.func.id == "range"
        and any(forward.reads_value(a) or forward.is_tensor(a) for a in node.args)
    )


# POR952 ---------------------------------------------------------------------------------------

NUMPY = "the exporter may lose the way through numpy, or stop; write it with torch"
DATA = "torch 2.13 fails to export .data, and may crash; write .detach()"
DLPACK = "the exporter cannot follow DLPack; pass the tensor itself"


@rule(
    "POR952",
    "export-tensor-leaves-graph",
    names=WAKING,
    category=Category.ADVICE,
    effort=0,
    examples=[
        keep(_module("order = np.argsort(x.numpy())", "return x[order]", before="import numpy as np"),
             finding=True),
        keep(_module("return torch.from_numpy(np.tanh(x))", before="import numpy as np"),
             finding=True),
        keep(_module("return x.data * 2"), finding=True),
        keep(_module("return x.detach() * 2"), finding=False),
        keep(_module("return x * np.sqrt(x.shape[-1])", before="import numpy as np"), finding=False),
        keep("import torch\n\n\ndef show(x: torch.Tensor):\n    return x.numpy()\n", finding=False),
    ],
)  # fmt: skip
def tensor_leaves_graph(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `.numpy()`, functions of numpy on tensors, `.data` and DLPack in a forward pass.

    ## Why it matters
    What happens outside torch is no part of a graph. Some functions of numpy are translated,
    others stop the export or give a graph that the runtime refuses; exporting `.data` ends
    torch 2.13 with an error, or with a crash of the process. On an accelerator, numpy means a copy
    to the host and back.

    ## What it does
    Only speaks, and only on request.

    ## References
    - https://docs.pytorch.org/docs/stable/export.html
    """
    yield from _each(site, "POR952", _leaves)


def _leaves(forward: Forward) -> Iterator[tuple[ast.AST, str]]:
    for node in forward.nodes():
        if isinstance(node, ast.Attribute) and node.attr == "data":
            if isinstance(node.ctx, ast.Load) and forward.is_tensor(node.value):
                yield node, DATA
        elif isinstance(node, ast.Call):
            name = forward.module.name_of(node.func)
            if name.startswith("torch.utils.dlpack."):
                yield node, DLPACK
            elif _through_numpy(forward, node, name):
                yield node, NUMPY


def _through_numpy(forward: Forward, node: ast.Call, name: str) -> bool:
    """Whether a call hands a tensor to numpy."""
    if name.startswith("numpy."):
        return any(forward.is_tensor(a) or _has_numpy(a) for a in node.args)
    return _is_numpy(node) and not _inside_numpy(forward, node)


def _is_numpy(node: ast.AST) -> bool:
    """Whether it is `x.numpy()`."""
    return (
        isinstance(node, ast.Call)
        and isinstance(node.func, ast.Attribute)
        and node.func.attr == "numpy"
        and not node.args
    )


def _has_numpy(node: ast.AST) -> bool:
    return any(_is_numpy(n) for n in ast.walk(node))


def _inside_numpy(forward: Forward, node: ast.AST) -> bool:
    """Whether a call of numpy around it is reported already."""
    for parent in forward.module.parents(node):
        if isinstance(parent, ast.Call) and forward.module.name_of(parent.func).startswith(
            "numpy."
        ):
            return True
        if isinstance(parent, ast.stmt):
            return False
    return False


# POR953 ---------------------------------------------------------------------------------------

DEVICE = (
    "the export needs this device; make new tensors with device=x.device, and move the model and "
    "its inputs before the call"
)


@rule(
    "POR953",
    "export-device-in-forward",
    names=WAKING,
    category=Category.ADVICE,
    effort=0,
    examples=[
        keep(_module('return x + torch.zeros(4, device="npu:0")'), finding=True),
        keep(_module("return x + torch.ones(4).npu()"), finding=True),
        keep(_module("return x + torch.zeros(4, device=x.device)"), finding=False),
        keep(_module("return x.to(torch.float32).cpu()"), finding=False),
    ],
)  # fmt: skip
def device_in_forward(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for `.cuda()`, `.to("cuda")` and `device="cuda"` in a forward pass.

    ## Why it matters
    Models are exported on a CPU as a rule, where such a line fails, and the moves would be no part
    of the graph. The rules POR101 to POR105 speak of the same lines for their own reasons.

    ## What it does
    Only speaks, and only on request.

    ## References
    - https://docs.pytorch.org/docs/stable/export.html
    """
    yield from _each(site, "POR953", _devices)


def _devices(forward: Forward) -> Iterator[tuple[ast.AST, str]]:
    for node in forward.nodes():
        if not isinstance(node, ast.Call):
            continue
        method = node.func.attr if isinstance(node.func, ast.Attribute) else ""
        moves = method in ("cuda", "npu") and not forward.module.name_of(node.func)
        values = [k.value for k in node.keywords if k.arg == "device"]
        values += node.args[:1] if method == "to" else []
        if moves or any(map(_names_device, values)):
            yield node, DEVICE


def _names_device(node: ast.expr) -> bool:
    if isinstance(node, ast.JoinedStr) and node.values:
        node = node.values[0]
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and node.value.partition(":")[0] in ("cuda", "npu")
    )


# POR954 ---------------------------------------------------------------------------------------

SCRIPT = (
    "torch.export does not take a scripted module; keep the plain one, and script it only where it "
    "is deployed"
)


@rule(
    "POR954",
    "export-scripted-module",
    names=(*WAKING, "torch.jit.script", "torch.jit.load"),
    category=Category.ADVICE,
    effort=0,
    examples=[
        keep(_module("return self.body(x)", init="self.body = torch.jit.script(nn.Linear(4, 4))"),
             finding=True),
        keep(_module("return self.body(x)", init='self.body = torch.jit.load("body.pt")'),
             finding=True),
        keep("import torch\n\n\nclass Body(torch.jit.ScriptModule):\n    def forward(self, x):\n"
             "        return x * 2\n", finding=True),
        keep("import torch\n\n\n@torch.jit.script\ndef gelu(x: torch.Tensor):\n    return x * 2\n",
             finding=False, note="a function, which the exporter follows"),
        keep("import torch\n\nfrom model import Body\n\ntorch.jit.script(Body()).save('body.pt')\n",
             finding=False, note="not a part of a module"),
    ],
)  # fmt: skip
def scripted_module(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for modules made by `torch.jit.script` or `torch.jit.load` inside a module.

    ## Why it matters
    `torch.onnx.export(dynamo=True)` stops: "Exporting a ScriptModule is not supported" for the
    model itself, and a wrong number of arguments for a part of it. Scripted functions, and parts
    that were traced, are followed (measured with torch 2.13).

    ## What it does
    Only speaks, and only on request.

    ## References
    - https://docs.pytorch.org/docs/stable/export.html
    """
    yield from _each(site, "POR954", _scripted)


def _scripted(forward: Forward) -> Iterator[tuple[ast.AST, str]]:
    if forward.owner is None or forward.node.name != "forward":
        return
    for base in forward.owner.node.bases:
        if forward.module.name_of(base) == "torch.jit.ScriptModule":
            yield base, SCRIPT
    for node in ast.walk(forward.owner.node):
        if not isinstance(node, ast.Call):
            continue
        name = forward.module.name_of(node.func)
        made = bool(node.args) and isinstance(node.args[0], ast.Call)
        if name == "torch.jit.load" or (name == "torch.jit.script" and made):
            yield node, SCRIPT


# POR955 ---------------------------------------------------------------------------------------

DROPOUT = (
    "drops in evaluation too, and in the graph: pass training=self.training, or use the layer "
    "nn.Dropout"
)
RANDOM = (
    "the runtime draws other numbers than torch, so that no comparison can succeed; pass the noise "
    "as an input"
)
DROPOUTS = frozenset(
    "dropout dropout1d dropout2d dropout3d alpha_dropout feature_alpha_dropout".split()
)
DRAWS = frozenset(
    "rand randn randint rand_like randn_like randint_like normal bernoulli multinomial randperm "
    "poisson".split()
)
DRAWING_METHODS = frozenset("normal_ uniform_ bernoulli_ random_ exponential_ multinomial".split())


@rule(
    "POR955",
    "export-random-in-forward",
    names=WAKING,
    category=Category.ADVICE,
    effort=0,
    examples=[
        keep(_module("return F.dropout(x, 0.1)", before="import torch.nn.functional as F"),
             finding=True),
        keep(_module("return x + torch.randn_like(x)"), finding=True),
        keep(_module("return F.gumbel_softmax(x)", before="import torch.nn.functional as F"),
             finding=True),
        keep(_module("return F.dropout(x, 0.1, self.training)",
                     before="import torch.nn.functional as F"), finding=False),
        keep(_module("return F.dropout(x, p=0.1, training=self.training)",
                     before="import torch.nn.functional as F"), finding=False),
        keep(_module("if self.training:", "    x = x + torch.randn_like(x)", "return x"),
             finding=False),
    ],
)  # fmt: skip
def random_in_forward(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for random numbers in a forward pass, and for `F.dropout` without `training`.

    ## Why it matters
    `torch.nn.functional.dropout` drops by default, whatever mode the module is in: its graph drops
    as well. Random numbers of the runtime differ from those of torch, so a check of the graph
    against the model cannot succeed.

    ## What it does
    Only speaks, and only on request. What stands under `if self.training` is left out.

    ## References
    - https://docs.pytorch.org/docs/stable/generated/torch.nn.functional.dropout.html
    """
    yield from _each(site, "POR955", _random)


def _random(forward: Forward) -> Iterator[tuple[ast.AST, str]]:
    for node in forward.nodes():
        if not isinstance(node, ast.Call):
            continue
        name = forward.module.name_of(node.func)
        base, _, last = name.rpartition(".")
        if base == "torch.nn.functional" and last in DROPOUTS:
            if len(node.args) < 3 and not any(k.arg in ("training", None) for k in node.keywords):
                yield node, DROPOUT
        elif _draws(forward, node.func, name):
            yield node, RANDOM


def _draws(forward: Forward, function: ast.expr, name: str) -> bool:
    """Whether a call draws random numbers."""
    if name:
        base, _, last = name.rpartition(".")
        return (base == "torch" and last in DRAWS) or last == "gumbel_softmax"
    return (
        isinstance(function, ast.Attribute)
        and function.attr in DRAWING_METHODS
        and forward.may_be_tensor(function.value)
    )


# POR956 ---------------------------------------------------------------------------------------

STATE = (
    "the graph keeps nothing between calls: it goes on with what {} was at the export; pass it in "
    "and return it"
)
GROWING = frozenset(
    "append extend insert add update pop popitem remove clear setdefault appendleft".split()
)


@rule(
    "POR956",
    "export-state-in-forward",
    names=WAKING,
    category=Category.ADVICE,
    effort=0,
    examples=[
        keep(_module("self.steps += 1", "return x * self.steps", init="self.steps = 0"),
             finding=True),
        keep(_module("self.seen.append(x)", "return x + len(self.seen)", init="self.seen = []"),
             finding=True),
        keep(_module("self.mean.mul_(0.9)", "return x - self.mean",
                     init='self.register_buffer("mean", torch.zeros(4))'), finding=True),
        keep(_module("self.last = x", "return x * 2"), finding=False,
             note="kept for others; the graph does not need it"),
        keep(_module("if self.training:", "    self.steps += 1", "return x",
                     init="self.steps = 0"), finding=False),
        keep(_module("seen = []", "seen.append(x)", "return torch.cat(seen)"), finding=False),
        keep(_module("self.table = self.table.to(x.device)", "return x + self.table",
                     init="self.table = torch.zeros(4)"), finding=False),
        keep(_module("self.table = self.table.to(x.device)", "return x + self.table",
                     init="self.table = torch.zeros(4)"), finding=False),
    ],
)  # fmt: skip
def state_in_forward(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for attributes that a forward pass both changes and reads.

    ## Why it matters
    A graph has no memory. A counter, a list or a buffer that forward changes is frozen at what it
    was during the export: no error, other numbers (measured with torch 2.13).

    ## What it does
    Only speaks, and only on request. An attribute that forward writes and never reads is left out.

    ## References
    - https://docs.pytorch.org/docs/stable/export.html
    """
    yield from _each(site, "POR956", _state)


def _state(forward: Forward) -> Iterator[tuple[ast.AST, str]]:
    if forward.owner is None:
        return
    mine = [f for f in forwards(forward.module) if f.owner is forward.owner]
    read = {
        n.attr
        for f in mine
        for n in f.nodes()
        if _own_attribute(n) and isinstance(n.ctx, ast.Load) and not _changes(n)
    }
    for node in forward.nodes():
        for attribute in _changed(forward, node):
            if attribute.attr in read or isinstance(node, ast.AugAssign):
                yield node, STATE.format(f"self.{attribute.attr}")


def _own_attribute(node: ast.AST) -> bool:
    return (
        isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "self"
    )


def _changes(node: Any) -> bool:
    """Whether `self.x` stands before a method that changes it, or is an item's owner."""
    parent = node.parent
    if isinstance(parent, ast.Attribute):
        return parent.attr in GROWING or (parent.attr.endswith("_") and parent.attr[0] != "_")
    return isinstance(parent, ast.Subscript) and not isinstance(parent.ctx, ast.Load)


def _changed(forward: Forward, node: ast.AST) -> Iterator[ast.Attribute]:
    """The attributes of the module that one statement or call changes."""
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = [t for t in node.targets if not _moves(t, node.value)]
    elif isinstance(node, ast.AugAssign):
        targets = [node.target]
    elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute):
        owner = node.func.value
        if _own_attribute(owner) and isinstance(owner, ast.Attribute):
            method = node.func.attr
            inplace = method.endswith("_") and not method.startswith("_")
            held = forward.owner is not None and owner.attr in forward.owner.tensors
            if method in GROWING or (inplace and held):
                yield owner
    for target in targets:
        while isinstance(target, ast.Subscript):
            target = target.value
        if _own_attribute(target) and isinstance(target, ast.Attribute):
            yield target


def _moves(target: ast.expr, value: ast.expr) -> bool:
    """Whether it is `self.x = self.x.to(...)`, which changes no value."""
    return (
        isinstance(value, ast.Call)
        and isinstance(value.func, ast.Attribute)
        and value.func.attr in ("to", "cuda", "cpu", "type_as", "contiguous")
        and ast.unparse(value.func.value) == ast.unparse(target)
    )


# POR957 ---------------------------------------------------------------------------------------

#: Functions that `torch.onnx.export(dynamo=True)` of torch 2.13 could not translate to opset 18.
NO_OPERATOR = frozenset(
    [
        *(f"torch.linalg.{n}" for n in (
            "svd svdvals eigh eig eigvals eigvalsh qr cholesky inv pinv solve lstsq lu lu_factor "
            "solve_triangular slogdet matrix_exp matrix_rank cond householder_product"
        ).split()),
        *(f"torch.{n}" for n in (
            "svd qr cholesky cholesky_solve cholesky_inverse inverse pinverse triangular_solve "
            "slogdet matrix_exp cdist histc histogram searchsorted unique_consecutive median "
            "nanmedian mode kthvalue cummax cummin cumprod istft lgamma digamma polygamma erfinv "
            "igamma nextafter gcd copysign hypot frexp randperm poisson vander cov corrcoef "
            "combinations quantize_per_tensor quantize_per_channel index_reduce"
        ).split()),
        *(f"torch.special.{n}" for n in "i0 bessel_j0 zeta digamma polygamma erfinv".split()),
        *(f"torch.nn.functional.{n}" for n in "pdist fractional_max_pool2d ctc_loss".split()),
    ]
)  # fmt: skip
#: The same as methods, by their last name; those that other objects have too are left out.
NO_OPERATOR_METHODS = frozenset(
    "svd qr cholesky inverse pinverse slogdet matrix_exp histc median nanmedian mode kthvalue "
    "cummax cummin cumprod lgamma digamma erfinv index_reduce to_sparse to_sparse_csr".split()
)
MISSING = "the exporter (torch 2.13, opset 18) has no translation of {}; {}"
REMEDIES = {
    "cdist": "write ((a.unsqueeze(-2) - b.unsqueeze(-3)) ** 2).sum(-1).sqrt()",
    "median": "write x.sort(dim)[0] and take the middle",
    "nanmedian": "write x.sort(dim)[0] and take the middle",
    "kthvalue": "use topk",
    "cumprod": "write the product out, or sum logarithms",
    "searchsorted": "use torch.bucketize for fixed boundaries",
    "randperm": "pass the order as an input",
    "slogdet": "use torch.logdet, which is translated",
    "hypot": "write (a * a + b * b).sqrt()",
    "inv": "for small fixed sizes write it out; otherwise keep this step outside the model",
    "inverse": "for small fixed sizes write it out; otherwise keep this step outside the model",
    "to_sparse": "keep the tensor dense",
    "to_sparse_csr": "keep the tensor dense",
}
OUTSIDE = "keep this step outside the model, or give the exporter a translation (custom_translation_table)"


@rule(
    "POR957",
    "export-without-operator",
    names=WAKING,
    category=Category.ADVICE,
    effort=0,
    examples=[
        keep(_module("return torch.linalg.svd(x)[1]"), finding=True),
        keep(_module("return x.median(-1)[0]"), finding=True),
        keep(_module("return torch.cdist(x, x)"), finding=True),
        keep(_module("return torch.linalg.det(x)"), finding=False),
        keep(_module("return torch.sort(x)[0]"), finding=False),
        keep("import torch\n\n\ndef rank(x):\n    return torch.linalg.svd(x)[1]\n", finding=False),
    ],
)  # fmt: skip
def without_operator(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for functions in a forward pass that the exporter cannot translate.

    ## Why it matters
    The export stops with a ConversionError that names an operator of aten.

    ## What it does
    Only speaks, and only on request. The list was measured: each function was called in a small
    model and exported with torch 2.13, opset 18. Others may be missing too.

    ## References
    - https://docs.pytorch.org/docs/stable/onnx_export.html
    """
    yield from _each(site, "POR957", _untranslated)


def _untranslated(forward: Forward) -> Iterator[tuple[ast.AST, str]]:
    for node in forward.nodes():
        if not isinstance(node, ast.Call):
            continue
        name = forward.module.name_of(node.func)
        last = name.rpartition(".")[2]
        if name in NO_OPERATOR:
            yield node, MISSING.format(name, REMEDIES.get(last, OUTSIDE))
        elif not name and isinstance(node.func, ast.Attribute):
            method = node.func.attr
            if method in NO_OPERATOR_METHODS and forward.is_tensor(node.func.value):
                yield node, MISSING.format(f"Tensor.{method}", REMEDIES.get(method, OUTSIDE))


# POR958 ---------------------------------------------------------------------------------------

PACKED = (
    "the exporter cannot follow packed sequences; run the padded sequence and mask the output by "
    "its lengths"
)
NESTED = "the exporter cannot follow nested tensors; pad the sequences and pass a mask"
PACKING = frozenset(
    f"torch.nn.utils.rnn.{n}"
    for n in "pack_padded_sequence pack_sequence pad_packed_sequence unpack_sequence".split()
)


@rule(
    "POR958",
    "export-packed-sequence",
    names=WAKING,
    category=Category.ADVICE,
    effort=0,
    examples=[
        keep(
            _module("packed = pack_padded_sequence(x, lengths, batch_first=True)",
                    "return self.rnn(packed)[1]",
                    before="from torch.nn.utils.rnn import pack_padded_sequence",
                    init="self.rnn = nn.GRU(8, 16, batch_first=True)",
                    signature="self, x, lengths"),
            finding=True,
        ),
        keep(_module("return torch.nested.nested_tensor([x, x]).to_padded_tensor(0.0)"),
             finding=True),
        keep(_module("return self.rnn(x)[0]", init="self.rnn = nn.GRU(8, 16, batch_first=True)"),
             finding=False),
        keep(_module("return nn.utils.rnn.pad_sequence([x[0], x[1]])"), finding=False),
    ],
)  # fmt: skip
def packed_sequence(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for packed sequences and nested tensors in a forward pass.

    ## Why it matters
    Their sizes depend on values: `torch.export` stops at them (measured with torch 2.13).

    ## What it does
    Only speaks, and only on request.

    ## References
    - https://docs.pytorch.org/docs/stable/export.html
    """
    yield from _each(site, "POR958", _packed)


def _packed(forward: Forward) -> Iterator[tuple[ast.AST, str]]:
    for node in forward.nodes():
        if isinstance(node, ast.Call):
            name = forward.module.name_of(node.func)
            if name in PACKING:
                yield node, PACKED
            elif name.startswith("torch.nested."):
                yield node, NESTED


# POR959 ---------------------------------------------------------------------------------------

#: What the exporter writes at opset 18 that no plugin of ATC registers; measured.
UNREGISTERED: dict[str, str] = {
    **{f"torch.fft.{n}": "DFT" for n in (
        "fft ifft rfft irfft fft2 ifft2 rfft2 irfft2 fftn ifftn rfftn irfftn hfft ihfft").split()},
    "torch.stft": "STFT",
    "torch.linalg.norm": "ReduceL2 or ReduceL1",
    "torch.linalg.vector_norm": "ReduceL2 or ReduceL1",
    "torch.linalg.matrix_norm": "ReduceL2",
    "torch.norm": "ReduceL2 or ReduceL1",
    "torch.renorm": "ReduceL2",
    "torch.nn.functional.normalize": "ReduceL2",
    "torch.nn.functional.cosine_similarity": "ReduceL2",
    "torch.nn.functional.embedding_bag": "Loop",
    "torch.nn.EmbeddingBag": "Loop",
    "torch.nn.CosineSimilarity": "ReduceL2",
    "torch.fake_quantize_per_tensor_affine": "QuantizeLinear and DequantizeLinear",
}  # fmt: skip
NOT_REGISTERED = "the exporter writes {}, which Ascend's compiler does not register at opset 18; {}"
INSTEAD = {
    "DFT": "compute the transform outside the model, or as a product with a constant matrix",
    "STFT": "compute the transform outside the model, or as a convolution with constant weights",
    "Loop": "use nn.Embedding and a mean or sum over the bag",
    "QuantizeLinear and DequantizeLinear": "export the model in float and quantise it with AMCT",
}


@rule(
    "POR959",
    "export-unregistered-operator",
    names=WAKING,
    category=Category.ADVICE,
    effort=0,
    targets=("npu",),
    examples=[
        keep(_module("return torch.fft.rfft(x).abs()"), finding=True),
        keep(_module("return F.normalize(x, dim=-1)", before="import torch.nn.functional as F"),
             finding=True),
        keep(_module("return self.bag(x)", init="self.bag = nn.EmbeddingBag(20, 6)"), finding=True),
        keep(_module("return (x * x).sum(-1).sqrt()"), finding=False),
        keep(_module("return self.table(x)", init="self.table = nn.Embedding(20, 6)"),
             finding=False),
    ],
)  # fmt: skip
def unregistered_operator(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for functions whose ONNX operator Ascend's compiler (ATC) does not register.

    ## Why it matters
    ATC stops with error E16002 at an operator that no plugin registers for the opset of the model.
    `porter onnx ops` looks up every operator of a finished file.

    ## What it does
    Only speaks, and only on request. What the exporter writes was measured with torch 2.13,
    opset 18; what ATC registers was read from its sources (see `porter query onnx::ReduceL2`).

    ## References
    - https://github.com/hicann/ge, parser/parser/onnx/onnx_parser.cc
    """
    yield from _each(site, "POR959", _unregistered)


def _unregistered(forward: Forward) -> Iterator[tuple[ast.AST, str]]:
    nodes = list(forward.nodes())
    if forward.owner is not None and forward.node.name == "forward":
        nodes = list(ast.walk(forward.owner.node))
    for node in nodes:
        if isinstance(node, ast.Call):
            operator = UNREGISTERED.get(forward.module.name_of(node.func))
            if operator:
                remedy = INSTEAD.get(operator, "write (x * x).sum(dim).sqrt(), or x.abs().sum(dim)")
                yield node, NOT_REGISTERED.format(operator, remedy)
