"""Does a string reach a place that takes a device? Followed through variables and defaults."""

from __future__ import annotations

import ast
import re
from dataclasses import dataclass
from typing import Any

from porter.module import Module
from porter.scope import Scope

from ._match import DEVICE_NAME

#: Where a device stands among positional arguments: qualified name -> (position, accepts None).
#: "device" takes a torch.device or None, "str" wants a string, "ctor" is torch.device itself.
POSITIONAL: dict[str, tuple[int, str]] = {
    "torch.device": (0, "ctor"),
    "torch.load": (1, "device"),
    "torch.jit.load": (1, "device"),
    "torch.autocast": (0, "str"),
    "torch.amp.autocast": (0, "str"),
    "torch.amp.autocast_mode.autocast": (0, "str"),
    "torch.amp.GradScaler": (0, "str"),
    "torch.amp.is_autocast_available": (0, "str"),
    "torch.is_autocast_enabled": (0, "str"),
    "torch.get_autocast_dtype": (0, "str"),
    "torch.set_autocast_enabled": (0, "str"),
    "torch.set_autocast_dtype": (0, "str"),
    "torch.Generator": (0, "device"),
    "torch.set_default_device": (0, "device"),
    "torch.get_device_module": (0, "device"),
    "torch.distributed.device_mesh.init_device_mesh": (0, "str"),
    "torch.distributed.init_device_mesh": (0, "str"),
    "torch.distributed.device_mesh.DeviceMesh": (0, "str"),
    "torch.distributed.DeviceMesh": (0, "str"),
    "torch.distributed.get_default_backend_for_device": (0, "str"),
    "torch.accelerator.set_device_index": (0, "device"),
    "torch.accelerator.synchronize": (0, "device"),
}
#: Keywords that name a device besides those that `DEVICE_NAME` matches.
KEYWORDS = frozenset({"map_location", "device_map", "pin_memory_device", "use_device", "location"})
#: `x.get("device", "cuda")`: the key is the first argument, the device the second.
KEYED_METHODS = frozenset({"get", "pop", "setdefault", "getenv"})
OPTION_CALLS = frozenset({"add_argument", "option", "argument", "Option", "Argument"})

#: Packages whose `device=` takes any torch device.
TORCH_FAMILY = frozenset(
    "torch torchvision torchaudio torchtext torchmetrics transformers diffusers accelerate timm "
    "ultralytics peft trl sentence_transformers lightning pytorch_lightning open_clip clip whisper "
    "kornia monai torch_geometric fairseq detectron2 mmengine mmcv mmdet mmseg gpytorch botorch "
    "facenet_pytorch segment_anything lpips pyro ignite fastai basicsr gfpgan realesrgan "
    "safetensors e3nn torchdiffeq torchsde functorch einops datasets evaluate unittest pytest "
    "functools dataclasses argparse click typer collections types builtins pydantic attr attrs "
    "contextlib typing copy os omegaconf hydra torchtune torchao torchrl tensordict optimum".split()
)
#: Packages with a CUDA of their own: their "cuda" is not torch's device.
FOREIGN = frozenset(
    "xgboost lightgbm catboost jax tensorflow keras cupy numba onnxruntime faster_whisper "
    "ctranslate2 tensorrt cuml cudf cugraph pycuda warp taichi tvm mxnet paddle faiss rmm dask "
    "pynvml nvidia onnx tensorrt_llm llama_cpp triton".split()
)


@dataclass(frozen=True)
class Sink:
    """The place a string reaches.

    Args:
        kind: "device" (takes a torch.device or None), "ctor" (torch.device itself), "str" (keeps
            a string), "saved" (names where a file was saved), "potential" (looks like one, not
            proven), or "" (no device).
        foreign: the package that takes it, where that is not known to take any torch device.
        stops: whether the original stopped there without its device, so that a short
            expression, which stops too, may replace the string.
    """

    kind: str
    foreign: str = ""
    stops: bool = False

    def __bool__(self) -> bool:
        """Whether it is surely a device."""
        return self.kind not in ("", "potential", "saved")


NO_SINK = Sink("")
POTENTIAL = Sink("potential")
STRING = Sink("str")


def is_device_name(name: str) -> bool:
    """Whether a variable, parameter, attribute, key or option is called like a device."""
    return bool(DEVICE_NAME.search(name.strip("-").replace("-", "_"))) or name in KEYWORDS


def sink(module: Module, node: Any, depth: int = 0) -> Sink:
    """Where the value of `node` goes."""
    if depth > 5:
        return NO_SINK
    parent = node.parent
    if isinstance(parent, ast.keyword):
        return _keyword_sink(module, parent, depth)
    if isinstance(parent, ast.Call):
        return _argument_sink(module, parent, node, depth) if node in parent.args else NO_SINK
    if isinstance(parent, ast.IfExp):
        return sink(module, parent, depth + 1) if node is not parent.test else NO_SINK
    if isinstance(parent, (ast.BoolOp, ast.Starred)):
        return sink(module, parent, depth + 1)
    if isinstance(parent, ast.NamedExpr):
        return _first(sink(module, parent, depth + 1), _target(module, parent.target, depth))
    if isinstance(parent, ast.Assign):
        return _first(*(_target(module, t, depth, node) for t in parent.targets))
    if isinstance(parent, ast.AnnAssign):
        return _target(module, parent.target, depth)
    if isinstance(parent, ast.arguments):
        return _default_sink(module, parent, node, depth)
    if isinstance(parent, ast.Return):
        return _return_sink(module, parent, depth)
    if (names := _literal_type(module, node)) is not None:
        return Sink("literal") if any(map(is_device_name, names)) else NO_SINK
    if isinstance(parent, (ast.List, ast.Tuple, ast.Set)):
        return _sequence_sink(module, parent, node, depth)
    if isinstance(parent, ast.Dict):
        return _dict_sink(module, parent, node, depth)
    return NO_SINK


def _literal_type(module: Module, node: Any) -> list[str] | None:
    """What `Literal["cuda", "cpu"]` annotates; None if the string stands in no such type."""
    parent = node.parent
    if isinstance(parent, ast.Tuple):
        parent = parent.parent  # type: ignore[attr-defined]
    if not isinstance(parent, ast.Subscript) or node is parent.value:
        return None
    if not re.search(r"(^|\.)Literal$", module.segment(parent.value)):
        return None
    for outer in module.parents(parent):
        if isinstance(outer, ast.arg):
            return [outer.arg]
        if isinstance(outer, ast.AnnAssign):
            target = outer.target
            return [getattr(target, "id", getattr(target, "attr", ""))]
        if isinstance(outer, ast.Assign):
            return [t.id for t in outer.targets if isinstance(t, ast.Name)]
        if isinstance(outer, ast.stmt):
            break
    return []


def _first(*sinks: Sink) -> Sink:
    return next((s for s in sinks if s), next((s for s in sinks if s.kind), NO_SINK))


# Calls ----------------------------------------------------------------------------------------


def callee_package(module: Module, call: ast.Call) -> str:
    """The top package of an imported callee, or "" for local ones and methods."""
    name = module.name_of(call.func)
    if not name:
        root: Any = call.func
        while isinstance(root, (ast.Attribute, ast.Call, ast.Subscript)):
            root = root.func if isinstance(root, ast.Call) else root.value
        name = module.name_of(root) if root is not call.func else ""
    if not name or name.startswith("."):
        return ""
    top = name.partition(".")[0]
    return "" if module.dotted and top == module.dotted.partition(".")[0] else top


def _with_package(module: Module, call: ast.Call, kind: str, stops: bool = False) -> Sink:
    top = callee_package(module, call)
    foreign = "" if not top or top in TORCH_FAMILY else top
    return Sink(kind, foreign, stops)


def _keyword_sink(module: Module, keyword: ast.keyword, depth: int) -> Sink:
    call = keyword.parent  # type: ignore[attr-defined]
    if not isinstance(call, ast.Call) or keyword.arg is None:
        return NO_SINK
    name = module.name_of(call.func)
    if name == "torch.device":
        return Sink("type") if keyword.arg == "type" else Sink("ctor")
    if keyword.arg in ("default", "choices", "const", "default_factory", "type", "click_type"):
        return _option_sink(module, call, depth)
    if name.startswith("torch.") and keyword.arg in ("device_type", "device_map"):
        return STRING
    if keyword.arg == "map_location":
        return Sink("device")
    if is_device_name(keyword.arg):
        if name.startswith("torch.") and keyword.arg == "device":
            kind = "str" if POSITIONAL.get(name, (0, ""))[1] == "str" else "device"
            return Sink(kind, stops=kind == "device")
        if _method(call) == "to" and keyword.arg == "device":
            return Sink("device", stops=True)
        return _with_package(module, call, "str")
    parameter = _local_parameter(module, call, keyword.arg)
    if parameter is not None:
        return _parameter_sink(module, *parameter, depth)
    return NO_SINK


def _option_sink(module: Module, call: ast.Call, depth: int) -> Sink:
    """`add_argument("--device", default="cuda")`, `field(default="cuda")`."""
    names = [a.value for a in call.args if isinstance(a, ast.Constant) and isinstance(a.value, str)]
    names += [
        k.value.value
        for k in call.keywords
        if k.arg == "dest" and isinstance(k.value, ast.Constant) and isinstance(k.value.value, str)
    ]
    if _method(call) in OPTION_CALLS or isinstance(call.func, ast.Name):
        if any(is_device_name(n) for n in names):
            return STRING
        attributes = [n.lstrip("-").replace("-", "_") for n in names if n.startswith("-")]
        for attribute in attributes:
            if _attribute_reaches(module, attribute, depth):
                return STRING
        parent = getattr(call, "parent", None)
        if isinstance(parent, ast.AnnAssign):
            return _target(module, parent.target, depth)
        if isinstance(parent, ast.arguments):
            return _default_sink(module, parent, call, depth)
        if names:
            return POTENTIAL
    return NO_SINK


def _method(call: ast.Call) -> str:
    function = call.func
    if isinstance(function, ast.Attribute):
        return function.attr
    return function.id if isinstance(function, ast.Name) else ""


def _argument_sink(module: Module, call: ast.Call, node: ast.expr, depth: int) -> Sink:
    name = module.name_of(call.func)
    position = call.args.index(node)
    if any(isinstance(a, ast.Starred) for a in call.args[:position]):
        return NO_SINK
    if name in POSITIONAL:
        at, kind = POSITIONAL[name]
        return Sink(kind) if at == position else NO_SINK
    if name.startswith("torch.cuda."):
        return Sink("device")
    method = _method(call)
    if isinstance(call.func, ast.Attribute) and method in ("to", "to_empty") and position == 0:
        return _with_package(module, call, "device", stops=True)
    if position == 1 and method in KEYED_METHODS and _is_device_key(call.args[0]):
        return STRING
    if position == 2 and method in ("getattr", "setattr") and _is_device_key(call.args[1]):
        return STRING
    if method in ("Option", "Argument", "Field", "field") and position == 0:
        return _option_sink(module, call, depth)
    if name == "pytest.param":
        return STRING if _parametrizes(call, position) else NO_SINK
    if method in ("str",) and position == 0:
        return sink(module, call, depth + 1)
    parameter = _local_parameter(module, call, position)
    if parameter is not None:
        return _parameter_sink(module, *parameter, depth)
    return NO_SINK


def _is_device_key(node: ast.expr) -> bool:
    return (
        isinstance(node, ast.Constant)
        and isinstance(node.value, str)
        and is_device_name(node.value.lower())
    )


def _local_parameter(module: Module, call: ast.Call, which: int | str) -> tuple[Scope, str] | None:
    """The parameter of a function or class of this file that an argument goes to."""
    if not isinstance(call.func, ast.Name):
        return None
    owner = module.scope(call.func).owner(call.func.id)
    bindings = owner.bindings.get(call.func.id, []) if owner else []
    if len(bindings) != 1:
        return None
    function: Any = bindings[0].node
    skip = 0
    if isinstance(function, ast.ClassDef):
        function = next(
            (f for f in function.body if isinstance(f, ast.FunctionDef) and f.name == "__init__"),
            None,
        )
        skip = 1
    if not isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
        return None
    names = [a.arg for a in (*function.args.posonlyargs, *function.args.args)]
    if isinstance(which, int):
        if which + skip >= len(names):
            return None
        return module.scopes[id(function)], names[which + skip]
    every = names + [a.arg for a in function.args.kwonlyargs]
    return (module.scopes[id(function)], which) if which in every else None


# Variables ------------------------------------------------------------------------------------


def _parameter_sink(module: Module, scope: Scope, name: str, depth: int) -> Sink:
    if is_device_name(name):
        return STRING
    return _uses_sink(module, scope, name, depth)


def _uses_sink(module: Module, scope: Scope, name: str, depth: int) -> Sink:
    for use in scope.uses(name):
        if sink(module, use, depth + 1):
            return STRING
    return NO_SINK


def _target(module: Module, target: Any, depth: int, value: Any = None) -> Sink:
    if isinstance(target, ast.Name):
        if is_device_name(target.id):
            return STRING
        owner = module.scope(target).owner(target.id)
        if owner is not None and owner.kind == "class":
            # A field: read as an attribute of whatever holds the instance.
            return STRING if _attribute_reaches(module, target.id, depth) else NO_SINK
        return _uses_sink(module, owner, target.id, depth) if owner else NO_SINK
    if isinstance(target, ast.Attribute):
        if is_device_name(target.attr) or _attribute_reaches(module, target.attr, depth):
            return STRING
        return NO_SINK
    if isinstance(target, ast.Subscript):
        return STRING if _is_device_key(target.slice) else NO_SINK
    return NO_SINK


def _attribute_reaches(module: Module, attribute: str, depth: int) -> bool:
    """Whether any `x.attribute` of the file reaches a device."""
    if depth > 3:
        return False
    return any(
        isinstance(n.ctx, ast.Load) and bool(sink(module, n, depth + 2))
        for n in module.attributes.get(attribute, ())[:50]
    )


def _default_sink(module: Module, arguments: ast.arguments, node: Any, depth: int) -> Sink:
    positional = [*arguments.posonlyargs, *arguments.args]
    defaulted = positional[len(positional) - len(arguments.defaults) :]
    pairs = [*zip(defaulted, arguments.defaults, strict=True)]
    pairs += [(a, d) for a, d in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True) if d]
    for argument, default in pairs:
        if default is node:
            scope = module.scopes[id(arguments.parent)]  # type: ignore[attr-defined]
            return _parameter_sink(module, scope, argument.arg, depth)
    return NO_SINK


def _return_sink(module: Module, statement: ast.Return, depth: int) -> Sink:
    function = module.function(statement)
    if function is None:
        return NO_SINK
    if re.search(r"device|(^|_)dev($|_)", function.name, re.I):
        return STRING
    owner = module.scope(function)
    for use in owner.uses(function.name):
        call = use.parent  # type: ignore[attr-defined]
        if isinstance(call, ast.Call) and call.func is use and sink(module, call, depth + 2):
            return STRING
    return NO_SINK


# Containers -----------------------------------------------------------------------------------


def _parametrizes(case: Any, position: int) -> bool:
    """Whether an element of a case of `pytest.mark.parametrize` is a device."""
    call = getattr(case.parent, "parent", None)
    if not isinstance(call, ast.Call) or _method(call) != "parametrize" or len(call.args) < 2:
        return False
    names = call.args[0]
    if not isinstance(names, ast.Constant) or not isinstance(names.value, str):
        return False
    split = [n.strip() for n in names.value.split(",")]
    return call.args[1] is case.parent and position < len(split) and is_device_name(split[position])


def _sequence_sink(module: Module, sequence: Any, node: Any, depth: int) -> Sink:
    parent = sequence.parent
    if isinstance(parent, (ast.List, ast.Tuple)) and _parametrizes(
        sequence, sequence.elts.index(node)
    ):
        return STRING
    if isinstance(parent, (ast.For, ast.AsyncFor, ast.comprehension)):
        return _target(module, parent.target, depth) if parent.iter is sequence else NO_SINK
    if isinstance(parent, ast.Call) and sequence in parent.args:
        position = parent.args.index(sequence)
        earlier = parent.args[position - 1] if position else None
        if (
            _method(parent) == "parametrize"
            and isinstance(earlier, ast.Constant)
            and isinstance(earlier.value, str)
            and any(is_device_name(n.strip()) for n in earlier.value.split(","))
        ):
            return STRING
        if _method(parent) == "Choice" and not position:
            found = sink(module, parent, depth + 1)
            return Sink("str", found.foreign) if found else found
        return NO_SINK
    if isinstance(parent, ast.Assign) and all(_unpacked(t, sequence) for t in parent.targets):
        place = sequence.elts.index(node)
        return _first(*(_target(module, t.elts[place], depth) for t in parent.targets))  # type: ignore[attr-defined]
    if isinstance(parent, (ast.keyword, ast.Assign, ast.AnnAssign)):
        found = sink(module, sequence, depth + 1)
        return Sink("str", found.foreign) if found else found
    return NO_SINK


def _unpacked(target: ast.expr, sequence: Any) -> bool:
    """`device, count = "cuda", 2`: whether each element has a target of its own."""
    return (
        isinstance(target, (ast.Tuple, ast.List))
        and len(target.elts) == len(sequence.elts)
        and not any(isinstance(e, ast.Starred) for e in (*target.elts, *sequence.elts))
    )


def _dict_sink(module: Module, mapping: ast.Dict, node: Any, depth: int) -> Sink:
    if node not in mapping.values:
        return _map_location_key(mapping)
    key = mapping.keys[mapping.values.index(node)]
    parent = mapping.parent  # type: ignore[attr-defined]
    if isinstance(parent, ast.keyword) and parent.arg in ("map_location", "device_map"):
        return STRING
    if isinstance(parent, ast.Assign) and any(_is_device_place(t) for t in parent.targets):
        return STRING
    if not (isinstance(key, ast.Constant) and isinstance(key.value, str)):
        return NO_SINK
    if isinstance(parent, ast.keyword) and parent.arg is None and is_device_name(key.value):
        return _with_package(module, parent.parent, "str")  # type: ignore[attr-defined]
    if isinstance(parent, ast.Assign):
        for target in parent.targets:
            if isinstance(target, ast.Name) and _entry_reaches(module, target, key.value, depth):
                return STRING
    return POTENTIAL if is_device_name(key.value) else NO_SINK


def _is_device_place(target: ast.expr) -> bool:
    """`device_map = {"": "cuda:0"}`, `kwargs["device_map"] = {...}`."""
    if isinstance(target, ast.Subscript):
        return _is_device_key(target.slice)
    return is_device_name(getattr(target, "id", getattr(target, "attr", "")))


def _map_location_key(mapping: ast.Dict) -> Sink:
    parent = mapping.parent  # type: ignore[attr-defined]
    is_location = isinstance(parent, ast.keyword) and parent.arg == "map_location"
    if isinstance(parent, ast.Assign):
        is_location = any(
            isinstance(t, ast.Name) and t.id == "map_location" for t in parent.targets
        )
    return Sink("saved") if is_location else NO_SINK


def _has_value(node: ast.AST, value: object) -> bool:
    return isinstance(node, ast.Constant) and node.value == value


def _entry_reaches(module: Module, target: ast.Name, key: str, depth: int) -> bool:
    """Whether `d[key]`, `d.get(key)` or `f(**d)` with a device key reaches a device."""
    owner = module.scope(target).owner(target.id)
    if owner is None:
        return False
    for use in owner.uses(target.id):
        parent: Any = use.parent  # type: ignore[attr-defined]
        if isinstance(parent, ast.Subscript) and parent.value is use:
            same = isinstance(parent.slice, ast.Constant) and parent.slice.value == key
            if same and sink(module, parent, depth + 1):
                return True
        elif isinstance(parent, ast.keyword) and parent.arg is None and is_device_name(key):
            call: Any = parent.parent  # type: ignore[attr-defined]
            found = _with_package(module, call, "str")
            if not found.foreign:
                return True
        elif isinstance(parent, ast.Attribute) and parent.attr in KEYED_METHODS:
            call = parent.parent  # type: ignore[attr-defined]
            named = isinstance(call, ast.Call) and call.args and _has_value(call.args[0], key)
            if named and sink(module, call, depth + 1):
                return True
    return False


# Comparisons ----------------------------------------------------------------------------------


def is_device_value(module: Module, node: ast.expr, depth: int = 0) -> bool:
    """Whether an expression that is compared with "cuda" is a device or its type."""
    if depth > 5:
        return False
    if isinstance(node, ast.Attribute):
        return node.attr == "type" or is_device_name(node.attr)
    if isinstance(node, ast.Name):
        if is_device_name(node.id):
            return True
        owner = module.scope(node).owner(node.id)
        if owner is None:
            return False
        if any(
            b.value is not None and is_device_value(module, b.value, depth + 1)
            for b in owner.bindings[node.id]
            if b.value is not None and not isinstance(b.value, ast.Name)
        ):
            return True
        return bool(_uses_sink(module, owner, node.id, 2))
    if isinstance(node, ast.Call):
        method = _method(node)
        if method in ("str", "lower", "strip", "split"):
            inner = node.args[0] if method == "str" and node.args else None
            if inner is None and isinstance(node.func, ast.Attribute):
                inner = node.func.value
            return inner is not None and is_device_value(module, inner, depth + 1)
        if method in KEYED_METHODS or method == "getattr":
            return any(_is_device_key(a) for a in node.args)
        return bool(re.search(r"device", method)) and "count" not in method
    if isinstance(node, ast.Subscript):
        return _is_device_key(node.slice) or is_device_value(module, node.value, depth + 1)
    if isinstance(node, ast.NamedExpr):
        return is_device_value(module, node.value, depth + 1)
    return False
