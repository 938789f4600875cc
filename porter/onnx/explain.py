"""From the message of an exporter, a checker or a runtime to what it means and what to do.

The messages are those of torch 2.13, onnx 1.23 and ONNX Runtime 1.32; each was seen on a model,
but "multiple-size" and "equal-sizes" were not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Explanation:
    """What stands in the way.

    Args:
        kind: a word for it, for programs.
        text: what it is, in a sentence.
        remedy: what to do.
        place: the user's line; empty if it is not known.
        said: the exporter's own first line.
    """

    kind: str
    text: str
    remedy: str
    place: str = ""
    said: str = ""

    def as_json(self) -> dict[str, str]:
        """As plain data."""
        return {
            "kind": self.kind,
            "text": self.text,
            "remedy": self.remedy,
            "place": self.place,
            "said": self.said,
        }


@dataclass(frozen=True)
class _Known:
    """A message that is known: pattern of the text, or of the functions that were running."""

    kind: str
    pattern: str
    text: str
    remedy: str
    functions: str = ""


_OPERATOR = r"(?:op='|operator '|namespace )(?P<op>[\w.:]+)"

#: The first that matches counts.
KNOWN = (
    _Known(
        "memory",
        r"can't allocate memory|Cannot allocate memory|std::bad_alloc|MemoryError",
        "the memory limit was reached",
        "raise --memory, or check a smaller configuration of the model",
    ),
    _Known(
        "causal-mask",
        r"make_causal",
        "nn.Transformer looks at the values of the mask, to see whether it is causal",
        "pass is_causal=True or False with the mask",
        r"_detect_is_causal_mask",
    ),
    _Known(
        "packed-sequence",
        r"_pack_padded_sequence|PackedSequence|failed to unpack the object at pos 2 with error "
        r"\"type must be tuple of ints,but got FakeTensor",
        "packed sequences cannot be captured",
        "run the network on the padded sequence and mask its output, or pick the last valid step "
        "with gather",
        r"pack_padded_sequence|pad_packed_sequence",
    ),
    _Known(
        "data-dependent-size",
        r"Could not extract specialized integer from data-dependent",
        "a number of Python is read from a tensor (int(), .item(), .tolist(), range()), and the "
        "graph would depend on it",
        "pass it as a number (n=4 instead of n=int64[]), take sizes from x.shape, or use "
        "torch.while_loop for a loop",
    ),
    _Known(
        "data-dependent-branch",
        r"Could not guard on data-dependent|GuardOnDataDependentSymNode|"
        r"DataDependentOutputException|Data-dependent (?:branching|assertion)",
        "an if, while or assert of Python depends on the values of a tensor; a graph has no such "
        "branch",
        "choose with torch.where, branch with torch.cond, drop the assertion or write it as "
        "torch._check",
    ),
    _Known(
        "constant-size",
        r"specialized it to be a constant|made dimensions constant",
        "the code fixes a size that was to vary: a number of the example is written into it, or "
        "read from a tensor or by int()",
        "use x.shape[i] where the number stands, or write the number into the input if it never "
        "varies",
    ),
    _Known(
        "multiple-size",
        r"(?s:Suggested fixes:.*\b\w+ = \d+\*\w+)",
        "the code only takes multiples of a size",
        "write the dimension as a multiple, like 8*n, as the suggestion says",
    ),
    _Known(
        "bounded-size",
        r"Not all values of \w+ .* satisfy the generated guard",
        "a branch of Python depends on a size, or only some sizes work: the graph holds for one "
        "side of the branch",
        "take the branch out (the suggested bounds say where it is), or give only sizes of one "
        "side to --vary",
    ),
    _Known(
        "equal-sizes",
        r"Suggested fixes:\s+\w+ = [A-Za-z_]\w*\s",
        "two dimensions with different names are always the same",
        "give them one name",
    ),
    _Known(
        "numpy",
        r"\.numpy\(\) is not supported|__array__|can't convert .* numpy|numpy\(\) on",
        "a tensor goes through NumPy; the exporter cannot follow it there",
        "use the function of torch with the same name",
    ),
    _Known(
        "no-data",
        r"Cannot access data pointer of|data is not allocated yet|storage that is meta|"
        r"Tensor subclass .* data_ptr",
        "code outside of torch (an extension, a kernel, a pointer) reads a tensor while it is "
        "captured",
        "register it as a custom operator (torch.library.custom_op) with a fake implementation, "
        "or use operators of torch in the exported model",
    ),
    _Known(
        "custom-operator",
        r"No ONNX function found for <OpOverload\(op='(?!aten\.|prims\.)(?P<op>[\w.]+)|"
        r"unrecognized namespace (?P<op2>[\w:]+)",
        "{op} is an operator of your own, which ONNX does not know",
        "write it with operators of torch in the exported model, or give torch.onnx.export a "
        "custom_translation_table; an operator in a domain of its own runs neither in ONNX "
        "Runtime nor at the target's compiler without a plugin",
    ),
    _Known(
        "no-operator",
        r"(?:No ONNX function found for <OpOverload\(|Exporting the )" + _OPERATOR,
        "the exporter has no translation for {op}",
        "compute it otherwise (for a decomposition: outside of the model), or give "
        "torch.onnx.export a custom_translation_table",
    ),
    _Known(
        "operator-case",
        r"is not supported in this export path|NotImplementedError",
        "the exporter translates this operator, but not with these arguments",
        "use other arguments, or other operators",
    ),
    _Known(
        "dtype",
        r"op_type:(?P<op>\w+).*has unsupported type: tensor\((?P<dtype>\w+)\)",
        "{op} of this opset does not take {dtype}",
        "export in float16 or float32, or with a later opset if the target takes it",
    ),
    _Known(
        "opset",
        r"stays at opset (?P<op>\d+)",
        "the graph cannot be written with the wanted opset; the exporter kept opset {op}",
        "use opset 18, for which the exporter is written",
    ),
    _Known(
        "inputs-constant",
        r"the graph has \d+ inputs, forward was given \d+",
        "an input became a constant of the graph: it holds for the example alone",
        "see what the other rungs say; do not use this graph",
    ),
    _Known(
        "outputs-lost",
        r"the graph has \d+ outputs, forward gave \d+",
        "the graph has other outputs than forward",
        "return tensors only; numbers of Python and None become no outputs",
    ),
    _Known(
        "cache",
        r"(?P<op>\w*Cache)'?>? in (?:in|out)put|(?P<op2>\w*Cache).*(?:pytree|[Uu]nsupported)",
        "forward returns or takes a cache of keys and values ({op}), no tensor",
        "set config.use_cache = False (or pass use_cache=False)",
    ),
    _Known(
        "not-a-tree",
        r"register a pytree|pytree-flattenable|Unsupported (?:input|output) type|"
        r"not supported or pytree|is not a valid (?:input|output) type|"
        r"[Ee]xpected (?:a )?tensors? or",
        "an input or output is an object that torch cannot take apart into tensors",
        "return tensors, tuples, lists, dictionaries or dataclasses, or register the class with "
        "torch.export.register_dataclass; for Hugging Face models set use_cache=False",
    ),
    _Known(
        "state",
        r"was assigned during export|attributes? .* assigned during export|mutat\w+ .* attribute",
        "forward keeps a tensor in an attribute of the module",
        "return it, or register it as a buffer",
    ),
    _Known(
        "script",
        r"torch\.jit\.script|ScriptFunction",
        "a part is compiled by torch.jit.script, which cannot be captured",
        "leave the decorator away when exporting (PYTORCH_JIT=0 switches it off)",
    ),
    _Known(
        "device",
        r"(?:at least two devices|FakeTensor Device Propagation|not on the expected device)",
        "tensors of different devices meet: one was made on a fixed device",
        "make it on the device of an input, as in torch.zeros(n, device=x.device)",
    ),
    _Known(
        "fixed-reshape",
        r"(?:Reshape|reshape).*(?:cannot be reshaped|requested shape|input_shape_size)|"
        r"[Bb]roadcast|Got invalid dimensions for input",
        "the graph runs with the sizes of the export and fails with others: a size is written "
        "into it",
        "use x.shape[i] or -1 where a number of the example stands",
    ),
    _Known(
        "not-captured",
        r"torch\._dynamo|Unsupported|graph break|Dynamo",
        "Python code cannot be captured",
        "move it out of forward, or write it with operators of torch",
    ),
    _Known(
        "package",
        r"No module named '(?P<op>[\w.]+)'",
        "the module {op} is not here",
        "install its package, or say with --root where imports start from",
    ),
    _Known(
        "name",
        r"cannot import name '(?P<op>\w+)'",
        "{op} cannot be imported",
        "see the line",
    ),
)  # fmt: skip


def explain(failure: Mapping[str, Any], message: str = "") -> Explanation:
    """What a failure means.

    Args:
        failure: `type`, `message`, `place` and `functions` (that were running), as the worker
            writes them; may be empty.
        message: what is known without an error.
    """
    said = str(failure.get("message", ""))
    running = " ".join(failure.get("functions", ()))
    text = "\n".join(t for t in (message, str(failure.get("type", "")), said) if t)
    place = str(failure.get("place", ""))
    first = _first_line(said or message)
    for known in KNOWN:
        match = re.search(known.pattern, text)
        if match is None and known.functions:
            match = re.search(known.functions, running)
        if match:
            groups = {k: v for k, v in match.groupdict().items() if v}
            op = groups.get("op") or groups.get("op2") or ""
            words = known.text.format(op=op.replace("::", "."), dtype=groups.get("dtype", ""))
            suggested = _suggested(said) if known.kind.endswith(("-size", "-sizes")) else ""
            return Explanation(known.kind, words, known.remedy + suggested, place, first)
    return Explanation("other", first or "no message", "", place, first)


def _first_line(text: str) -> str:
    for line in text.splitlines():
        if line.strip():
            return " ".join(line.split())[:300]
    return ""


def _suggested(text: str) -> str:
    match = re.search(r"Suggested fixes:\n((?:[ \t]+\S.*\n?)+)", text)
    if match is None:
        return ""
    return f" (torch suggests: {'; '.join(match[1].split(chr(10))).strip('; ').replace('  ', '')})"


#: What each rung of the ladder gives up, for a person.
RUNGS = {
    "default": "torch.onnx.export(dynamo=True): non-strict capture, then strict",
    "eager-attention": 'the same with set_attn_implementation("eager")',
    "no-cache": "the same with config.use_cache = False",
    "static": "the same with all sizes fixed to those of the example",
    "legacy": "the legacy exporter (dynamo=False), which records one run: branches and numbers of "
    "Python are frozen as they were for the example, without a word, and torch no longer works on "
    "it",
}
