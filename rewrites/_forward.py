"""What runs in the forward pass of a module, and which of its values are tensors or sizes.

Used by the advice on exports. Everything here errs on the side of silence: a value counts as a
tensor only if the file itself shows it.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from porter.module import Module

Function = ast.FunctionDef | ast.AsyncFunctionDef

#: Methods of a tensor that give no tensor.
PLAIN_METHODS = frozenset(
    "size dim numel nelement ndimension stride element_size item tolist is_floating_point "
    "is_complex is_contiguous is_signed is_inference is_shared get_device data_ptr type numpy "
    "storage storage_offset untyped_storage register_hook backward names".split()
)
#: Methods that only a tensor has, or that give one whatever is called so in a forward pass.
TENSOR_METHODS = frozenset(
    "sum mean amax amin argmax argmin any all abs exp log sqrt softmax sigmoid relu tanh clamp "
    "masked_fill masked_select unsqueeze squeeze permute transpose reshape view flatten "
    "contiguous detach float half bfloat16 double long bool isnan isinf isfinite nonzero norm "
    "logsumexp log_softmax cumsum matmul bmm chunk unbind index_select gather eq ne gt lt ge le "
    "logical_not logical_and logical_or median argsort topk expand expand_as repeat_interleave "
    "new_zeros new_ones new_full".split()
)
#: Attributes of a tensor that are tensors.
TENSOR_ATTRIBUTES = frozenset("T mT H mH real imag data grad".split())
#: Functions of torch, by their last name, that give no tensor.
PLAIN_FUNCTIONS = frozenset(
    "device dtype Size Generator no_grad enable_grad inference_mode autocast finfo iinfo compile "
    "numel equal allclose typename result_type promote_types can_cast manual_seed seed save load "
    "broadcast_shapes Tensor cond".split()
)
PLAIN_PREFIXES = ("is_", "get_", "set_", "use_", "are_", "sym_")
#: Modules of torch whose functions give tensors.
TENSOR_MODULES = ("torch", "torch.nn.functional", "torch.linalg", "torch.fft", "torch.special")
#: Layers that do not give one tensor.
TUPLE_LAYERS = frozenset("RNN LSTM GRU RNNBase MultiheadAttention LSTMCell AdaptiveLogSoftmaxWithLoss "
                         "ModuleList ModuleDict ParameterList ParameterDict".split())  # fmt: skip
#: Functions that read the values of tensors and answer in Python.
READERS = frozenset({"torch.equal", "torch.allclose", "torch.is_nonzero"})
#: Words in a condition that the exporter itself decides, or that are false in evaluation.
DECIDED = frozenset(
    "training is_in_onnx_export is_exporting is_tracing is_scripting is_compiling "
    "is_dynamo_compiling is_torchdynamo_compiling torchscript".split()
)
BASES = ("LightningModule", "PreTrainedModel", "ModelMixin", "ScriptModule")


@dataclass(frozen=True, eq=False)
class Owner:
    """A class of modules.

    Args:
        node: the class.
        layers: attributes that hold a layer of torch.nn that gives one tensor.
        tensors: attributes that hold a parameter or buffer.
    """

    node: ast.ClassDef
    layers: frozenset[str]
    tensors: frozenset[str]


@dataclass(eq=False)
class Forward:
    """A function that runs in a forward pass.

    Args:
        node: the function.
        owner: its class; None for a function of the file that a forward pass calls.
        sure: names that are tensors.
        maybe: parameters that may be.
        sizes: names that are sizes of tensors.
        values: names that are numbers taken out of tensors.
        plain: names that are constants or collections of Python somewhere.
    """

    module: Module
    node: Function
    owner: Owner | None
    sure: set[str] = field(default_factory=set)
    maybe: set[str] = field(default_factory=set)
    sizes: set[str] = field(default_factory=set)
    values: set[str] = field(default_factory=set)
    plain: set[str] = field(default_factory=set)

    # Expressions ------------------------------------------------------------------------------

    def is_tensor(self, node: ast.AST | None) -> bool:
        """Whether an expression is surely a tensor."""
        if isinstance(node, ast.Name):
            return node.id in self.sure
        if isinstance(node, ast.Attribute):
            return self._tensor_attribute(node)
        if isinstance(node, ast.Call):
            return self._tensor_call(node)
        if isinstance(node, ast.BinOp):
            return self.is_tensor(node.left) or self.is_tensor(node.right)
        if isinstance(node, ast.UnaryOp):
            return not isinstance(node.op, ast.Not) and self.is_tensor(node.operand)
        if isinstance(node, ast.Compare):
            plain = (ast.Is, ast.IsNot, ast.In, ast.NotIn)
            return not any(isinstance(o, plain) for o in node.ops) and any(
                self.is_tensor(n) for n in (node.left, *node.comparators)
            )
        if isinstance(node, ast.Subscript):
            return self.is_tensor(node.value)
        if isinstance(node, ast.IfExp):
            return self.is_tensor(node.body) and self.is_tensor(node.orelse)
        return False

    def _tensor_attribute(self, node: ast.Attribute) -> bool:
        if isinstance(node.value, ast.Name) and node.value.id == "self":
            return self.owner is not None and node.attr in self.owner.tensors
        return node.attr in TENSOR_ATTRIBUTES and self.is_tensor(node.value)

    def _tensor_call(self, node: ast.Call) -> bool:
        name = self.module.name_of(node.func)
        if name:
            base, _, last = name.rpartition(".")
            return (
                base in TENSOR_MODULES
                and last not in PLAIN_FUNCTIONS
                and not last.startswith(PLAIN_PREFIXES)
            )
        if not isinstance(node.func, ast.Attribute):
            return False
        receiver, method = node.func.value, node.func.attr
        if isinstance(receiver, ast.Name) and receiver.id == "self":
            return self.owner is not None and method in self.owner.layers
        if self.is_tensor(receiver):
            return method not in PLAIN_METHODS
        return self.may_be_tensor(receiver) and method in TENSOR_METHODS

    def may_be_tensor(self, node: ast.AST | None) -> bool:
        """Whether an expression is a tensor, or a parameter that may be one."""
        while isinstance(node, ast.Subscript):
            node = node.value
        return self.is_tensor(node) or (isinstance(node, ast.Name) and node.id in self.maybe)

    def is_size(self, node: ast.AST | None) -> bool:
        """Whether an expression is, or is computed from, the size of a tensor."""
        if isinstance(node, ast.Name):
            return node.id in self.sizes
        if isinstance(node, ast.Attribute):
            return (
                node.attr == "shape"
                and not _rooted_in_self(node)
                and self.may_be_tensor(node.value)
            )
        if isinstance(node, ast.Subscript):
            return self.is_size(node.value)
        if isinstance(node, ast.Call):
            return self._size_call(node)
        if isinstance(node, ast.BinOp):
            return self.is_size(node.left) or self.is_size(node.right)
        if isinstance(node, ast.UnaryOp):
            return self.is_size(node.operand)
        if isinstance(node, ast.Compare):
            return any(self.is_size(n) for n in (node.left, *node.comparators))
        if isinstance(node, ast.BoolOp):
            return any(self.is_size(n) for n in node.values)
        if isinstance(node, (ast.Tuple, ast.List)):
            return any(self.is_size(n) for n in node.elts)
        return False

    def _size_call(self, node: ast.Call) -> bool:
        if isinstance(node.func, ast.Name):
            if node.func.id == "len":
                return bool(node.args) and self.is_tensor(node.args[0])
            return node.func.id in ("int", "min", "max", "abs", "round") and any(
                self.is_size(a) for a in node.args
            )
        return (
            isinstance(node.func, ast.Attribute)
            and node.func.attr in ("size", "numel")
            and not _rooted_in_self(node.func)
            and self.may_be_tensor(node.func.value)
        )

    def reads_value(self, node: ast.AST | None) -> bool:
        """Whether an expression is a number of Python that was taken out of a tensor."""
        if isinstance(node, ast.Name):
            return node.id in self.values
        if isinstance(node, ast.Call):
            return self._reading_call(node)
        if isinstance(node, ast.BinOp):
            return self.reads_value(node.left) or self.reads_value(node.right)
        if isinstance(node, ast.UnaryOp):
            return self.reads_value(node.operand)
        if isinstance(node, ast.Compare):
            return any(self.reads_value(n) for n in (node.left, *node.comparators))
        if isinstance(node, ast.Subscript):
            return self.reads_value(node.value)
        return False

    def _reading_call(self, node: ast.Call) -> bool:
        function = node.func
        if isinstance(function, ast.Attribute) and function.attr in ("item", "tolist"):
            return not node.args and not self.module.name_of(function).startswith("numpy.")
        name = self.module.name_of(function)
        if name in READERS:
            return True
        if isinstance(function, ast.Name) and function.id in ("int", "float", "bool", "min", "max"):
            convert = function.id in ("int", "float", "bool")
            return any((convert and self.is_tensor(a)) or self.reads_value(a) for a in node.args)
        return name.startswith("math.") and any(
            self.is_tensor(a) or self.reads_value(a) for a in node.args
        )

    def decides_by_value(self, test: ast.expr) -> bool:
        """Whether a condition depends on the values of tensors."""
        if isinstance(test, ast.UnaryOp) and isinstance(test.op, ast.Not):
            return self.decides_by_value(test.operand)
        if isinstance(test, ast.BoolOp):
            return any(self.decides_by_value(v) for v in test.values)
        return self.is_tensor(test) or self.reads_value(test)

    # Walking ----------------------------------------------------------------------------------

    def nodes(self) -> Iterator[Any]:
        """Every node of the body that an export runs; not those of functions inside it."""
        waiting: list[ast.AST] = list(reversed(self.node.body))
        while waiting:
            node = waiting.pop()
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                continue
            yield node
            waiting.extend(reversed(list(ast.iter_child_nodes(node))))

    def decided(self, node: ast.AST) -> bool:
        """Whether a node runs only under a condition that an export decides by itself."""
        child = node
        for parent in self.module.parents(node):
            if isinstance(parent, (ast.If, ast.IfExp)) and _mentions(parent.test, DECIDED):
                return True
            if isinstance(child, ast.stmt) and _behind_exit(parent, child):
                return True
            if parent is self.node:
                return False
            child = parent
        return False


def _behind_exit(parent: Any, child: ast.stmt) -> bool:
    """Whether a statement above, in the same block, leaves unless the model is in training."""
    for name in ("body", "orelse"):
        block = getattr(parent, name, None)
        if isinstance(block, list) and child in block:
            return any(
                isinstance(s, ast.If)
                and _mentions(s.test, DECIDED)
                and isinstance(s.body[-1], (ast.Return, ast.Raise, ast.Continue))
                for s in block[: block.index(child)]
            )
    return False


def _rooted_in_self(node: ast.AST) -> bool:
    while isinstance(node, (ast.Attribute, ast.Subscript)):
        node = node.value
    return isinstance(node, ast.Name) and node.id == "self"


def _mentions(test: ast.AST, words: frozenset[str]) -> bool:
    return any(
        (isinstance(n, ast.Attribute) and n.attr in words)
        or (isinstance(n, ast.Name) and n.id in words)
        for n in ast.walk(test)
    )


# Classes ----------------------------------------------------------------------------------------


def forwards(module: Module) -> tuple[Forward, ...]:
    """The functions of a file that run in forward passes."""
    return module.once("forwards", lambda: tuple(_forwards(module)))


def _forwards(module: Module) -> Iterator[Forward]:
    classes = {n.name: n for n in ast.walk(module.tree) if isinstance(n, ast.ClassDef)}
    functions = {n.name: n for n in module.tree.body if isinstance(n, ast.FunctionDef)}
    called: dict[str, None] = {}
    for node in classes.values():
        if not _is_module(module, node, classes):
            continue
        owner = _owner(module, node, classes)
        for method in _reachable(node):
            forward = _analysed(Forward(module, method, owner))
            called.update(dict.fromkeys(_local_calls(forward, functions)))
            yield forward
    for name in called:
        yield _analysed(Forward(module, functions[name], None))


def _is_module(module: Module, node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> bool:
    seen: set[str] = set()
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if current.name in seen:
            continue
        seen.add(current.name)
        for base in current.bases:
            name = module.name_of(base)
            last = name.rpartition(".")[2] or (base.id if isinstance(base, ast.Name) else "")
            if name.startswith(("torch.nn.", "torch.jit.ScriptModule")) or last.endswith(BASES):
                return True
            if last in classes:
                waiting.append(classes[last])
    return False


def _owner(module: Module, node: ast.ClassDef, classes: dict[str, ast.ClassDef]) -> Owner:
    layers: set[str] = set()
    tensors: set[str] = set()
    for current in _family(module, node, classes):
        for inside in ast.walk(current):
            if isinstance(inside, ast.Assign):
                for target in inside.targets:
                    _sort_attribute(module, target, inside.value, layers, tensors)
            elif isinstance(inside, ast.AnnAssign):
                _sort_attribute(module, inside.target, inside.value, layers, tensors)
            elif isinstance(inside, ast.Call):
                tensors.update(_buffer(inside))
    return Owner(node, frozenset(layers), frozenset(tensors))


def _family(
    module: Module, node: ast.ClassDef, classes: dict[str, ast.ClassDef]
) -> Iterator[ast.ClassDef]:
    """The class, and those of its bases that the file has."""
    seen: set[str] = set()
    waiting = [node]
    while waiting:
        current = waiting.pop()
        if current.name in seen:
            continue
        seen.add(current.name)
        yield current
        waiting += [
            classes[b.id] for b in current.bases if isinstance(b, ast.Name) and b.id in classes
        ]


def _sort_attribute(
    module: Module, target: ast.expr, value: ast.expr | None, layers: set[str], tensors: set[str]
) -> None:
    """Note `self.x = nn.Linear(...)` and `self.x = nn.Parameter(...)`."""
    if not (isinstance(target, ast.Attribute) and isinstance(target.value, ast.Name)):
        return
    if target.value.id != "self" or not isinstance(value, ast.Call):
        return
    name = module.name_of(value.func)
    base, _, last = name.rpartition(".")
    if last in ("Parameter", "Buffer", "UninitializedParameter") and base.startswith("torch.nn"):
        tensors.add(target.attr)
    elif base in ("torch.nn", "torch.nn.modules") and last not in TUPLE_LAYERS:
        layers.add(target.attr)


def _buffer(call: ast.Call) -> Iterator[str]:
    if not (isinstance(call.func, ast.Attribute) and call.args):
        return
    if call.func.attr in ("register_buffer", "register_parameter"):
        name = call.args[0]
        if isinstance(name, ast.Constant) and isinstance(name.value, str):
            yield name.value


def _reachable(node: ast.ClassDef) -> Iterator[Function]:
    """`forward`, and the methods of the class that it calls."""
    methods = {
        n.name: n for n in node.body if isinstance(n, (ast.FunctionDef, ast.AsyncFunctionDef))
    }
    waiting, seen = ["forward"], set()
    while waiting:
        name = waiting.pop()
        method = methods.get(name)
        if method is None or name in seen or _is_static(method):
            continue
        seen.add(name)
        yield method
        for call in ast.walk(method):
            if isinstance(call, ast.Call) and isinstance(call.func, ast.Attribute):
                receiver = call.func.value
                if isinstance(receiver, ast.Name) and receiver.id == "self":
                    waiting.append(call.func.attr)


def _is_static(method: Function) -> bool:
    """Whether a method takes no instance, as that of an autograd function."""
    return any(isinstance(d, ast.Name) and d.id == "staticmethod" for d in method.decorator_list)


def _local_calls(forward: Forward, functions: dict[str, ast.FunctionDef]) -> Iterator[str]:
    for node in forward.nodes():
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            name = node.func.id
            if name in functions and any(forward.may_be_tensor(a) for a in node.args):
                yield name


# Names ------------------------------------------------------------------------------------------


def _analysed(forward: Forward) -> Forward:
    """Sort the names of a function; twice, since a name may be used above where it is bound."""
    for parameter, default in _parameters(forward.node.args):
        flag = isinstance(default, ast.Constant) and default.value is not None
        kind = "other" if flag else _annotated(parameter.annotation)
        if kind == "tensor":
            forward.sure.add(parameter.arg)
        elif kind == "" and parameter.arg not in ("self", "cls"):
            forward.maybe.add(parameter.arg)
    for _ in range(2):
        for node in forward.nodes():
            _bind(forward, node)
    return forward


def _parameters(arguments: ast.arguments) -> Iterator[tuple[ast.arg, ast.expr | None]]:
    """Each parameter with its default."""
    positional = [*arguments.posonlyargs, *arguments.args]
    without = len(positional) - len(arguments.defaults)
    yield from ((parameter, None) for parameter in positional[:without])
    yield from zip(positional[without:], arguments.defaults, strict=True)
    yield from zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)


_TENSORS = frozenset({"Tensor", "FloatTensor", "LongTensor", "BoolTensor", "IntTensor"})


def _annotated(annotation: ast.expr | None) -> str:
    """Whether an annotation says "tensor", says something else ("other"), or nothing ("")."""
    if isinstance(annotation, ast.Constant) and isinstance(annotation.value, str):
        try:
            annotation = ast.parse(annotation.value, mode="eval").body
        except SyntaxError:
            return "other"
    if annotation is None:
        return ""
    if isinstance(annotation, ast.BinOp):
        kinds = {_annotated(annotation.left), _annotated(annotation.right)} - {"none"}
        return "tensor" if kinds == {"tensor"} else "other"
    if isinstance(annotation, ast.Constant) and annotation.value is None:
        return "none"
    if isinstance(annotation, ast.Subscript) and _last(annotation.value) == "Optional":
        return _annotated(annotation.slice)
    return "tensor" if _last(annotation) in _TENSORS else "other"


def _last(node: ast.expr) -> str:
    return node.attr if isinstance(node, ast.Attribute) else getattr(node, "id", "")


def _bind(forward: Forward, node: Any) -> None:
    if isinstance(node, ast.Assign):
        for target in node.targets:
            _assign(forward, target, node.value)
    elif isinstance(node, (ast.AnnAssign, ast.NamedExpr)) and node.value is not None:
        _assign(forward, node.target, node.value)
    elif isinstance(node, (ast.For, ast.comprehension)) and forward.is_tensor(node.iter):
        forward.sure.update(_names(node.target))


def _assign(forward: Forward, target: ast.expr, value: ast.expr) -> None:
    names = set(_names(target))
    if isinstance(target, ast.Tuple) and isinstance(value, ast.Tuple):
        if len(target.elts) == len(value.elts):
            for one, part in zip(target.elts, value.elts, strict=True):
                _assign(forward, one, part)
        return
    if _is_plain(value):
        forward.plain |= names
        forward.sure -= names
        forward.maybe -= names
    elif forward.is_tensor(value):
        forward.sure |= names - forward.values - forward.sizes - forward.plain
    elif forward.reads_value(value):
        forward.values |= names
        forward.sure -= names
    elif forward.is_size(value):
        forward.sizes |= names
        forward.sure -= names
    elif not (isinstance(value, ast.Constant) and value.value is None):
        # Bound to something unknown as well: no longer sure.
        forward.sure -= names
        if isinstance(value, ast.Call) and any(forward.may_be_tensor(a) for a in value.args):
            forward.maybe |= names - forward.plain  # what a module makes of a tensor
        else:
            forward.maybe -= names


def _is_plain(value: ast.expr) -> bool:
    """Whether it is a constant or a collection of Python: its name is never surely a tensor."""
    if isinstance(value, ast.Constant):
        return value.value is not None
    kinds = (ast.List, ast.Dict, ast.Set, ast.ListComp, ast.DictComp, ast.SetComp)
    return isinstance(value, kinds)


def _names(target: ast.expr) -> Iterable[str]:
    if isinstance(target, ast.Name):
        yield target.id
    elif isinstance(target, (ast.Tuple, ast.List)):
        for element in target.elts:
            yield from _names(element)
    elif isinstance(target, ast.Starred):
        yield from _names(target.value)
