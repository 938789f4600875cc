"""What to check: models and their inputs, as the command line and the configuration write them.

x=float32[batch,3,224,224]        a tensor; `batch` is a dimension that may vary
ids=int64[batch,seq]{0..1000}     its values: from 0, below 1000
patches=float32[batch,4*n,8]      a dimension that is a multiple
pair=(float32[batch,3], bool[batch])    a tuple; [...] is a list, {"a": ...} a dictionary
scale=2.0                         a constant of Python: a number, text, True, False or None
float32[batch,3]                  without a name: by position
"""

from __future__ import annotations

import ast
import difflib
import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from porter.problem import Problem

#: What ONNX and torch both have.
DTYPES = (
    "float16", "float32", "float64", "bfloat16", "int8", "int16", "int32", "int64", "uint8",
    "uint16", "uint32", "uint64", "bool", "complex64", "complex128",
)  # fmt: skip
#: The opsets that the exporter writes. Ascend's compiler takes those up to 18
#: (https://www.hiascend.com/document, ATC: ONNX models of opset 11 to 18).
OPSETS = range(11, 24)
DEFAULT_OPSET = 18
_NAMED = re.compile(r"\s*([A-Za-z_]\w*)\s*=(?!=)")
_TENSOR = re.compile(r"([A-Za-z]\w*)\s*\[(.*)\]\s*(?:\{(.*)\})?\s*\Z", re.DOTALL)
_DIM = re.compile(r"(?:(\d+)\s*\*\s*)?([A-Za-z_]\w*)\Z")
_PAIRS = {"(": ")", "[": "]", "{": "}"}
_TARGET = re.compile(r"([^:()]+):([A-Za-z_][\w.]*)\s*(\(.*\))?\s*\Z", re.DOTALL)


class SpecProblem(Problem):
    """A model or an input that is not written as it must be; the text is one line."""


@dataclass(frozen=True)
class Dim:
    """A dimension with a name: `times` the size that the name has."""

    name: str
    times: int = 1


@dataclass(frozen=True)
class Tensor:
    """A tensor of random values.

    Args:
        dtype: one of `DTYPES`.
        dims: sizes; none for a scalar.
        low: the lowest value; None for the default of the dtype.
        high: what all values are below.
    """

    dtype: str
    dims: tuple[int | Dim, ...]
    low: float | None = None
    high: float | None = None


@dataclass(frozen=True)
class Constant:
    """A literal of Python; `source` is how it is written."""

    source: str


@dataclass(frozen=True)
class Group:
    """A tuple, list or dict of values; the keys of the first two are empty."""

    kind: str
    items: tuple[tuple[str, Value], ...]


Value = Tensor | Constant | Group


@dataclass(frozen=True)
class Input:
    """An argument of `forward`; without a name it goes by its position."""

    name: str
    value: Value


@dataclass(frozen=True)
class Model:
    """A model to check.

    Args:
        factory: `package.module:name` or `file.py:name`, with literal arguments behind it if it
            needs any; the name is that of a function, a class or a module object.
        name: what it is called in reports.
        inputs: the arguments of `forward`.
        vary: sizes of the named dimensions: the first for the export, each for a comparison.
        opset: the version of ONNX's operators.
        root: the folder that `factory` is found in, relative to that of the configuration.
        weights: a state dict to load, relative to the root; empty draws the weights.
        data: recorded inputs to use in the first comparison, relative to the root.
        tolerance: allowed error; None for that of the dtype.
        timeout: seconds for each of its processes; None for that of the run.
    """

    factory: str
    name: str = ""
    inputs: tuple[Input, ...] = ()
    vary: tuple[tuple[str, tuple[int, ...]], ...] = ()
    opset: int = DEFAULT_OPSET
    root: str = ""
    weights: str = ""
    data: str = ""
    tolerance: float | None = None
    timeout: float | None = None

    @property
    def title(self) -> str:
        """The name, or what stands for it."""
        return self.name or self.factory

    def sizes(self) -> tuple[dict[str, int], ...]:
        """The sizes of the named dimensions, one dictionary for each comparison; at least two."""
        rows = max([2, *(len(sizes) for _, sizes in self.vary)])
        return tuple({n: s[min(i, len(s) - 1)] for n, s in self.vary} for i in range(rows))


def target(factory: str) -> tuple[str, str, str]:
    """The parts of a factory: module or file, name, and arguments with their parentheses.

    Raises:
        SpecProblem: it is malformed.
    """
    match = _TARGET.match(factory.strip())
    if match is None:
        raise SpecProblem(f"model {factory!r}: write it like package.module:name or file.py:name")
    where, name, arguments = match[1].strip(), match[2], match[3] or ""
    file = where.endswith(".py")
    if not file and not all(part.isidentifier() for part in where.split(".")):
        raise SpecProblem(f"model {factory!r}: {where!r} is neither a module nor a .py file")
    if arguments:
        _literal_arguments(factory, arguments)
    return where, name, arguments


def _literal_arguments(factory: str, arguments: str) -> None:
    try:
        call = ast.parse(f"f{arguments}", mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError
        for value in (*call.args, *(k.value for k in call.keywords)):
            ast.literal_eval(value)
        if any(k.arg is None for k in call.keywords):
            raise ValueError
    except (SyntaxError, ValueError):
        raise SpecProblem(
            f"model {factory!r}: its arguments must be literals, like (width=8); for others write "
            "a function without arguments that makes the model"
        ) from None


def parse_input(text: str) -> Input:
    """An input as it is written.

    Raises:
        SpecProblem: it is malformed.
    """
    match = _NAMED.match(text)
    name, rest = (match[1], text[match.end() :]) if match else ("", text)
    try:
        return Input(name, _value(rest.strip()))
    except _Wrong as problem:
        raise SpecProblem(f"input {text!r}: {problem}") from None


def parse_vary(text: str) -> tuple[str, tuple[int, ...]]:
    """Sizes of a dimension, like `batch=2,5`.

    Raises:
        SpecProblem: it is malformed.
    """
    name, _, numbers = text.partition("=")
    parts = [part.strip() for part in numbers.split(",")]
    if not name.strip().isidentifier() or not all(p.isdecimal() and int(p) > 0 for p in parts):
        raise SpecProblem(f"--vary {text!r}: write it like batch=2,5")
    return name.strip(), tuple(int(p) for p in parts)


class _Wrong(Exception):
    """What is wrong; the text continues "input '...': "."""


def _value(text: str) -> Value:
    if not text:
        raise _Wrong("nothing stands behind the =")
    match = _TENSOR.match(text)
    if match:
        return _tensor(match[1], match[2], match[3])
    close = _PAIRS.get(text[0])
    if close and text.endswith(close):
        return _group(text)
    try:
        ast.literal_eval(text)
    except (ValueError, SyntaxError):
        raise _Wrong(_unclear(text)) from None
    return Constant(text)


def _unclear(text: str) -> str:
    word = re.match(r"\w+", text)
    if word and (word[0] in DTYPES or difflib.get_close_matches(word[0], DTYPES, n=1)):
        return "write a tensor like float32[batch,3]"
    return "neither a tensor like float32[batch,3] nor a constant of Python"


def _tensor(dtype: str, dims: str, values: str | None) -> Tensor:
    if dtype not in DTYPES:
        close = difflib.get_close_matches(dtype, DTYPES, n=1)
        hint = f"; did you mean {close[0]!r}?" if close else f" (known: {', '.join(DTYPES)})"
        raise _Wrong(f"no dtype is called {dtype!r}{hint}")
    sizes = tuple(_dim(part.strip()) for part in dims.split(",")) if dims.strip() else ()
    low, high = _range(dtype, values) if values is not None else (None, None)
    return Tensor(dtype, sizes, low, high)


def _dim(text: str) -> int | Dim:
    if text.isdecimal():
        return int(text)
    match = _DIM.match(text)
    if match is None or match[1] == "0":
        raise _Wrong(f"a dimension cannot be {text!r}: a number, a name, or like 8*name")
    return Dim(match[2], int(match[1] or 1))


def _range(dtype: str, text: str) -> tuple[float, float]:
    parts = text.split("..")
    try:
        low, high = (float(part) for part in parts)
    except ValueError:
        raise _Wrong(f"values {{{text}}}: write them like {{0..1000}}") from None
    if not (math.isfinite(low) and math.isfinite(high) and low < high):
        raise _Wrong(f"values {{{text}}}: the first must be below the second")
    if dtype == "bool" or dtype.startswith("complex"):
        raise _Wrong(f"{dtype} takes no values in braces")
    return low, high


def _group(text: str) -> Group:
    parts = list(_parts(text[1:-1]))
    if text[0] == "{":
        items = []
        for part in parts:
            key, colon, value = part.partition(":")
            try:
                name = ast.literal_eval(key.strip())
            except (ValueError, SyntaxError):
                name = None
            if not colon or not isinstance(name, str):
                raise _Wrong('a dictionary is written like {"a": float32[batch,3]}')
            items.append((name, _value(value.strip())))
        return Group("dict", tuple(items))
    kind = "tuple" if text[0] == "(" else "list"
    return Group(kind, tuple(("", _value(part)) for part in parts))


def _parts(text: str) -> Iterator[str]:
    """What stands between the commas that are in no bracket and no text."""
    depth, quote, start = 0, "", 0
    for i, c in enumerate(text):
        if quote:
            quote = "" if c == quote and text[i - 1] != "\\" else quote
        elif c in "'\"":
            quote = c
        elif c in "([{":
            depth += 1
        elif c in ")]}":
            depth -= 1
        elif c == "," and not depth:
            yield text[start:i].strip()
            start = i + 1
    if text[start:].strip():
        yield text[start:].strip()


# The whole model --------------------------------------------------------------------------------


def checked(model: Model) -> Model:
    """The model, if its parts fit together.

    Raises:
        SpecProblem: they do not.
    """
    where = f"model {model.title!r}"
    target(model.factory)
    if model.opset not in OPSETS:
        raise SpecProblem(f"{where}: opset {model.opset} is not in {OPSETS[0]} to {OPSETS[-1]}")
    used = {d.name for i in model.inputs for d in _dims(i.value)}
    known = dict(model.vary)
    for name in sorted(used - known.keys()):
        raise SpecProblem(f"{where}: which sizes has {name!r}? Say two, like --vary {name}=2,5")
    for name in sorted(known.keys() - used):
        raise SpecProblem(f"{where}: no input has a dimension {name!r}")
    for name, sizes in known.items():
        if len(set(sizes)) < 2:
            raise SpecProblem(
                f"{where}: {name!r} needs two different sizes, like --vary {name}=2,5; write the "
                "number into the input if it never varies"
            )
    names = [i.name for i in model.inputs if i.name]
    for name in names:
        if names.count(name) > 1:
            raise SpecProblem(f"{where}: two inputs are called {name!r}")
    positions = [bool(i.name) for i in model.inputs]
    if positions != sorted(positions):
        raise SpecProblem(f"{where}: an input without a name stands behind one with a name")
    return model


def _dims(value: Value) -> Iterator[Dim]:
    if isinstance(value, Tensor):
        yield from (d for d in value.dims if isinstance(d, Dim))
    elif isinstance(value, Group):
        for _, item in value.items:
            yield from _dims(item)


def shown(model_input: Input) -> str:
    """An input as it is written."""
    text = _shown(model_input.value)
    return f"{model_input.name}={text}" if model_input.name else text


def _shown(value: Value) -> str:
    if isinstance(value, Constant):
        return value.source
    if isinstance(value, Group):
        if value.kind == "dict":
            return "{" + ", ".join(f'"{k}": {_shown(v)}' for k, v in value.items) + "}"
        text = ", ".join(_shown(v) for _, v in value.items)
        if value.kind == "list":
            return f"[{text}]"
        return f"({text},)" if len(value.items) == 1 else f"({text})"
    sizes = ",".join(
        str(d) if isinstance(d, int) else (d.name if d.times == 1 else f"{d.times}*{d.name}")
        for d in value.dims
    )
    values = f"{{{value.low:g}..{value.high:g}}}" if value.low is not None else ""
    return f"{value.dtype}[{sizes}]{values}"


def as_data(model: Model) -> dict[str, Any]:
    """The model as plain data, for the worker."""
    where, name, arguments = target(model.factory)
    return {
        "module": where,
        "attribute": name,
        "arguments": arguments,
        "inputs": [{"name": i.name, "value": _value_data(i.value)} for i in model.inputs],
        "sizes": list(model.sizes()),
        "dynamic": sorted({d.name for i in model.inputs for d in _dims(i.value)}),
        "opset": model.opset,
        "weights": model.weights,
        "data": model.data,
        "tolerance": model.tolerance,
    }


def _value_data(value: Value) -> dict[str, Any]:
    if isinstance(value, Constant):
        return {"kind": "constant", "source": value.source}
    if isinstance(value, Group):
        return {"kind": value.kind, "items": [[k, _value_data(v)] for k, v in value.items]}
    return {
        "kind": "tensor",
        "dtype": value.dtype,
        "dims": [d if isinstance(d, int) else [d.times, d.name] for d in value.dims],
        "low": value.low,
        "high": value.high,
    }


# Configuration ----------------------------------------------------------------------------------


def from_tables(tables: Sequence[Any]) -> tuple[Model, ...]:
    """The models that the tables of a configuration describe.

    Raises:
        SpecProblem: one is malformed, or two have one name.
    """
    models = tuple(from_table(table, number) for number, table in enumerate(tables, 1))
    titles = [model.title for model in models]
    for title in titles:
        if titles.count(title) > 1:
            raise SpecProblem(f'has two models {title!r}: give them different names, name = "..."')
    return models


def from_table(table: Any, number: int) -> Model:
    """A model as a table of the configuration has it.

    Args:
        table: the table.
        number: which of the tables it is, from 1.

    Raises:
        SpecProblem: it is malformed; the text continues "FILE: [tool.porter]: onnx ".
    """
    if not isinstance(table, Mapping):
        raise SpecProblem(f"table {number} must be a table")
    for key in table:
        if key not in _KEYS:
            close = difflib.get_close_matches(key.replace("_", "-"), _KEYS, n=1)
            hint = f"; did you mean {close[0]!r}?" if close else f" (known: {', '.join(_KEYS)})"
            raise SpecProblem(f"table {number}: unknown key {key!r}{hint}")
    for key, (kinds, words) in _KEYS.items():
        value = table.get(key, _MISSING)
        if value is _MISSING:
            continue
        if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
            raise SpecProblem(f"table {number}: {key} must be {words}")
    if "model" not in table:
        raise SpecProblem(f'table {number} needs model = "package.module:name"')
    return checked(
        Model(
            factory=table["model"],
            name=table.get("name", ""),
            inputs=tuple(parse_input(t) for t in _texts(table.get("inputs", ()), number)),
            vary=tuple(_varied(n, sizes, number) for n, sizes in table.get("vary", {}).items()),
            opset=table.get("opset", DEFAULT_OPSET),
            root=table.get("root", ""),
            weights=table.get("weights", ""),
            data=table.get("data", ""),
            tolerance=table.get("tolerance"),
            timeout=table.get("timeout"),
        )
    )


_MISSING = object()
_KEYS: dict[str, tuple[tuple[type, ...], str]] = {
    "model": ((str,), "text"),
    "name": ((str,), "text"),
    "inputs": ((list,), "a list of text"),
    "vary": ((dict,), "a table of dimension = [sizes]"),
    "opset": ((int,), "a number"),
    "root": ((str,), "text"),
    "weights": ((str,), "text"),
    "data": ((str,), "text"),
    "tolerance": ((int, float), "a number"),
    "timeout": ((int, float), "a number of seconds"),
}


def _texts(values: Sequence[Any], number: int) -> Iterator[str]:
    for value in values:
        if not isinstance(value, str):
            raise SpecProblem(f"table {number}: inputs must be a list of text")
        yield value


def _varied(name: str, sizes: Any, number: int) -> tuple[str, tuple[int, ...]]:
    if not isinstance(sizes, list) or not all(
        isinstance(s, int) and not isinstance(s, bool) and s > 0 for s in sizes
    ):
        raise SpecProblem(f"table {number}: vary.{name} must be a list of sizes, like [2, 5]")
    return name, tuple(sizes)
