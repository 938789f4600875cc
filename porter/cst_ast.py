"""Convert LibCST trees to ``ast`` trees with the positions CPython would give.

Used by ``porter.syntax`` for files whose syntax is newer than the running interpreter. Fields the
running ``ast`` lacks are added to the ``_fields`` of the single node, and node types it lacks
are defined here, so ``ast.iter_child_nodes``, ``ast.walk`` and ``ast.NodeVisitor`` see all of it.

Positions of the parts of f-strings are left to ``porter.syntax``. Grammar and positions follow
https://docs.python.org/3/library/ast.html#abstract-grammar and the grammar file of CPython.
"""

from __future__ import annotations

import ast
import re
import sys
import unicodedata
import warnings
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

import libcst as cst
from libcst.metadata import ByteSpanPositionProvider, MetadataWrapper

_Span = tuple[int, int]
_N = TypeVar("_N", bound=ast.AST)


def _ast_type(name: str, base: type[ast.AST], *fields: str) -> type[Any]:
    """Return ``ast.<name>``, or a substitute where the running Python has no such node."""
    existing: type[Any] | None = getattr(ast, name, None)
    if existing is not None:
        return existing
    attributes = ("lineno", "col_offset", "end_lineno", "end_col_offset")
    namespace = {"_fields": fields, "_attributes": attributes, "__module__": "ast"}
    return type(name, (base,), namespace)


_type_param: type[Any] = _ast_type("type_param", ast.AST)
TryStar = _ast_type("TryStar", ast.stmt, "body", "handlers", "orelse", "finalbody")
TypeAlias = _ast_type("TypeAlias", ast.stmt, "name", "type_params", "value")
TypeVarNode = _ast_type("TypeVar", _type_param, "name", "bound", "default_value")
TypeVarTuple = _ast_type("TypeVarTuple", _type_param, "name", "default_value")
ParamSpec = _ast_type("ParamSpec", _type_param, "name", "default_value")
TemplateStr = _ast_type("TemplateStr", ast.expr, "values")
Interpolation = _ast_type("Interpolation", ast.expr, "value", "str", "conversion", "format_spec")


@dataclass(frozen=True)
class Conversion:
    """The tree of a text, and the constructs in it that the running Python does not know."""

    tree: ast.Module
    newer: list[str] = field(default_factory=list)


def parse_newer(text: str) -> ast.Module | None:
    """Return the tree of ``text`` if it is valid only in a newer Python than the running one.

    None means that LibCST refuses the text too, or accepts it without a reason why the running
    interpreter should not: then it is the interpreter that is right.
    """
    conversion = convert(text)
    return conversion.tree if conversion is not None and conversion.newer else None


def convert(text: str) -> Conversion | None:
    """Return the converted LibCST tree of ``text``, None if LibCST cannot parse it.

    Raises RecursionError for source too deep for the running thread.
    """
    clean = _CleanText.of(text)
    try:
        module = cst.parse_module(clean.text)
    except (cst.ParserSyntaxError, cst.CSTValidationError):
        return None
    except BaseException as error:
        if type(error).__name__ != "PanicException":  # the Rust parser's own failure
            raise
        return None
    aligned = clean.aligned(module.code)
    if aligned is None:
        return None  # then no position could be trusted
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # invalid escapes: not for us to say
        try:
            return _Converter(module, aligned).module()
        except (SyntaxError, ValueError, KeyError):
            # A literal that LibCST does not look into, such as "\\x", or a node it is too new for.
            return None


# --- positions ------------------------------------------------------------------------------

_FORM_FEED_INDENT = re.compile(r"^[ \t\f]*\f", re.MULTILINE)
_STRING_OR_COMMENT = re.compile(
    r"#[^\n]*|'{3}(?:[^\\]|\\.)*?'{3}|\"{3}(?:[^\\]|\\.)*?\"{3}"
    r"|'(?:[^\\\n']|\\.)*'|\"(?:[^\\\n\"]|\\.)*\"",
    re.DOTALL,
)


@dataclass(frozen=True)
class _CleanText:
    r"""A text without what LibCST cannot read, and the way back to ``ast`` positions.

    LibCST drops a byte order mark, miscounts a form feed in an indent, and does not keep every
    lone ``\r``. All of these stand at the start or the end of a line, so the line number and the
    number of bytes removed from the start of the line lead back. It also loses some spaces, as
    those of ``except X :``; they are found by comparing its code with the text.
    """

    text: str
    starts: list[int]
    """Byte offset in ``text`` of each line."""
    removed: list[int]
    """Number of bytes removed from the start of each line."""
    gaps: dict[int, list[int]] = field(default_factory=dict)
    """For the lines where LibCST lost whitespace: the byte columns in ``text`` where it stood."""

    @classmethod
    def of(cls, original: str) -> _CleanText:
        """Clean ``original``."""
        text = re.sub(r"\r\n?", "\n", original)
        cuts = _leading_cuts(text)
        lines, starts, removed = list[str](), list[int](), list[int]()
        offset = size = 0
        for line in text.split("\n"):
            cut = cuts.get(offset, 0)
            lines.append(line[cut:])
            starts.append(size)
            removed.append(_size(line[:cut]))
            offset += len(line) + 1
            size += _size(line[cut:]) + 1
        return cls("\n".join(lines), starts, removed)

    def position(self, offset: int) -> tuple[int, int]:
        """Return (lineno, col_offset) in the original of a byte offset in ``text``."""
        line = bisect_right(self.starts, offset)
        column = offset - self.starts[line - 1]
        lost = bisect_left(self.gaps[line], column) if line in self.gaps else 0
        return line, column + lost + self.removed[line - 1]

    def aligned(self, code: str) -> _CleanText | None:
        """Return the text for ``code``, LibCST's rendering of ``text``.

        None if they differ in more than the whitespace that LibCST loses.
        """
        if code == self.text:
            return self
        lines, rendered = self.text.split("\n"), code.split("\n")
        if len(lines) != len(rendered):
            return None
        gaps: dict[int, list[int]] = {}
        starts, size = list[int](), 0
        for number, (line, kept) in enumerate(zip(lines, rendered, strict=True), 1):
            starts.append(size)
            size += _size(kept) + 1
            if line != kept:
                lost = _lost_whitespace(line, kept)
                if lost is None:
                    return None
                gaps[number] = lost
        return _CleanText(code, starts, self.removed, gaps)


def _lost_whitespace(line: str, kept: str) -> list[int] | None:
    """Return the byte columns in ``kept`` where characters of ``line`` are missing."""
    lost, position = list[int](), 0
    for char in line:
        if kept[position : position + 1] == char:
            position += 1
        elif char in " \t\f":
            lost.append(_size(kept[:position]))
        else:
            return None
    return lost if position == len(kept) else None


def _leading_cuts(text: str) -> dict[int, int]:
    """Map the offset of a line to the number of characters to cut from its start."""
    cuts: dict[int, int] = {}
    if "\f" in text:
        strings = [match.span() for match in _STRING_OR_COMMENT.finditer(text)]
        begins = [begin for begin, _ in strings]
        for match in _FORM_FEED_INDENT.finditer(text):
            before = bisect_right(begins, match.start()) - 1
            if before < 0 or match.start() >= strings[before][1]:
                cuts[match.start()] = len(match[0])
    if text.startswith("\ufeff"):
        mark = re.match(r"\ufeff(?:[ \t\f]*\f)?", text)
        cuts[0] = len(mark[0]) if mark else 1
    return cuts


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode("utf-8", "surrogatepass"))


# --- the converter --------------------------------------------------------------------------


class _Converter:
    """Convert the nodes of one module; what differs by node type is in the tables below."""

    def __init__(self, module: cst.Module, clean: _CleanText) -> None:
        self._module = module
        self._clean = clean
        self._source = clean.text.encode("utf-8", "surrogatepass")
        wrapper = MetadataWrapper(module, unsafe_skip_copy=True)
        self._spans = wrapper.resolve(ByteSpanPositionProvider)
        self._semicolon_after: dict[ast.AST, int] = {}
        self.newer: list[str] = []

    def module(self) -> Conversion:
        """Convert the module itself."""
        body = self.statements(self._module.body)
        return Conversion(ast.Module(body=body, type_ignores=[]), self.newer)

    # Places

    def span(self, node: cst.CSTNode) -> _Span:
        """Return the byte span of a node without its own parentheses."""
        span = self._spans[node]
        return span.start, span.start + span.length

    def outer(self, node: Any) -> _Span:
        """Return the byte span of a node with its own parentheses."""
        start, end = self.span(node)
        lpar, rpar = getattr(node, "lpar", ()), getattr(node, "rpar", ())
        return (self.span(lpar[0])[0] if lpar else start, self.span(rpar[-1])[1] if rpar else end)

    def in_parentheses(self, node: Any) -> _Span:
        """Return the byte span of a tuple or generator: its innermost parentheses are its own."""
        if not node.lpar:
            return self.span(node)
        return self.span(node.lpar[-1])[0], self.span(node.rpar[0])[1]

    def code_size(self, node: cst.CSTNode) -> int:
        """Return the number of bytes of the source of ``node``, whitespace included."""
        return _size(self._module.code_for_node(node))

    def source(self, start: int, end: int) -> str:
        """Return the text of a byte span."""
        return self._source[start:end].decode("utf-8", "surrogatepass")

    def skip_space(self, offset: int) -> int:
        """Return the first byte offset from ``offset`` on that is not space or comment."""
        match = re.compile(rb"(?:[ \t\f\n]|#[^\n]*)*").match(self._source, offset)
        return match.end() if match else offset

    # Nodes

    def make(self, kind: type[_N], place: cst.CSTNode | _Span | None, /, **fields: Any) -> _N:
        """Return a new node at ``place``; empty fields the running Python lacks are left out."""
        extra = tuple(name for name in fields if name not in kind._fields and fields[name])
        known = {name: value for name, value in fields.items() if name in kind._fields}
        node = kind(**known)
        if extra:
            node._fields = (*kind._fields, *extra)  # type: ignore[misc]
            for name in extra:
                setattr(node, name, fields[name])
        if place is not None:
            start, end = place if isinstance(place, tuple) else self.span(place)
            node.lineno, node.col_offset = self._clean.position(start)  # type: ignore[attr-defined]
            node.end_lineno, node.end_col_offset = self._clean.position(end)  # type: ignore[attr-defined]
        return node

    def needs(self, minor: int, construct: str) -> None:
        """Note a construct of Python 3.``minor`` if the running one is older."""
        if sys.version_info < (3, minor):
            self.newer.append(construct)

    def expression(self, node: cst.CSTNode) -> Any:
        """Convert an expression."""
        return _EXPRESSIONS[type(node)](self, node)

    def optional(self, node: cst.CSTNode | None) -> Any:
        """Convert an expression that may be absent."""
        return None if node is None else self.expression(node)

    def target(self, node: cst.CSTNode, context: type[ast.expr_context] = ast.Store) -> Any:
        """Convert an expression that is assigned to or deleted."""
        return _with_context(self.expression(node), context)

    def pattern(self, node: cst.CSTNode) -> Any:
        """Convert a pattern of a match statement."""
        return _PATTERNS[type(node)](self, node)

    def statements(self, nodes: Iterable[cst.CSTNode]) -> list[Any]:
        """Convert statements and lines of small statements."""
        found: list[Any] = []
        for node in nodes:
            if isinstance(node, cst.SimpleStatementLine):
                found.extend(self.small_statements(node.body))
            else:
                found.append(_STATEMENTS[type(node)](self, node))
        return found

    def body(self, node: Any) -> list[Any]:
        """Convert the suite of a compound statement, or of its else or finally; [] for None."""
        if node is None:
            return []
        if isinstance(node, cst.Else | cst.Finally):
            node = node.body
        if isinstance(node, cst.SimpleStatementSuite):
            return self.small_statements(node.body)
        return self.statements(node.body)

    def small_statements(self, nodes: Sequence[cst.BaseSmallStatement]) -> list[Any]:
        """Convert the statements of one line."""
        found = [_STATEMENTS[type(node)](self, node) for node in nodes]
        if isinstance(nodes[-1].semicolon, cst.Semicolon):
            self._semicolon_after[found[-1]] = self.span(nodes[-1].semicolon)[1]
        return found

    def compound(self, kind: type[_N], node: cst.CSTNode, last: str, /, **fields: Any) -> _N:
        """Return a compound statement that ends where its last statement ends.

        ``last`` names the fields that hold statements, the last one in the text first.
        """
        made = self.make(kind, node, **fields)
        self.end_with(made, next(fields[name][-1] for name in last.split() if fields[name]))
        return made

    def end_with(self, node: Any, last: Any) -> None:
        """Let a compound statement end with its last statement and the semicolon after that."""
        node.end_lineno, node.end_col_offset = last.end_lineno, last.end_col_offset
        if last in self._semicolon_after:
            end = self._clean.position(self._semicolon_after[last])
            node.end_lineno, node.end_col_offset = end


def _with_context(node: ast.AST, context: type[ast.expr_context]) -> ast.AST:
    """Set the context of an assignment target, and of the targets it consists of."""
    if isinstance(
        node, ast.Name | ast.Attribute | ast.Subscript | ast.Starred | ast.List | ast.Tuple
    ):
        node.ctx = context()
    if isinstance(node, ast.List | ast.Tuple):
        for element in node.elts:
            _with_context(element, context)
    elif isinstance(node, ast.Starred):
        _with_context(node.value, context)
    return node


_Rule = Callable[[_Converter, Any], Any]
_R = TypeVar("_R", bound=_Rule)
_EXPRESSIONS: dict[type[cst.CSTNode], _Rule] = {}
_STATEMENTS: dict[type[cst.CSTNode], _Rule] = {}
_PATTERNS: dict[type[cst.CSTNode], _Rule] = {}


def _converts(
    table: dict[type[cst.CSTNode], _Rule], *kinds: type[cst.CSTNode]
) -> Callable[[_R], _R]:
    """Enter the decorated function in ``table`` for LibCST nodes of the given types."""

    def enter(rule: _R) -> _R:
        for kind in kinds:
            table[kind] = rule
        return rule

    return enter


# --- expressions ----------------------------------------------------------------------------

_UNARY: dict[type[cst.CSTNode], type[ast.unaryop]] = {
    cst.Plus: ast.UAdd,
    cst.Minus: ast.USub,
    cst.BitInvert: ast.Invert,
    cst.Not: ast.Not,
}
_BINARY: dict[type[cst.CSTNode], type[ast.operator]] = {
    cst.Add: ast.Add,
    cst.AddAssign: ast.Add,
    cst.Subtract: ast.Sub,
    cst.SubtractAssign: ast.Sub,
    cst.Multiply: ast.Mult,
    cst.MultiplyAssign: ast.Mult,
    cst.MatrixMultiply: ast.MatMult,
    cst.MatrixMultiplyAssign: ast.MatMult,
    cst.Divide: ast.Div,
    cst.DivideAssign: ast.Div,
    cst.FloorDivide: ast.FloorDiv,
    cst.FloorDivideAssign: ast.FloorDiv,
    cst.Modulo: ast.Mod,
    cst.ModuloAssign: ast.Mod,
    cst.Power: ast.Pow,
    cst.PowerAssign: ast.Pow,
    cst.LeftShift: ast.LShift,
    cst.LeftShiftAssign: ast.LShift,
    cst.RightShift: ast.RShift,
    cst.RightShiftAssign: ast.RShift,
    cst.BitOr: ast.BitOr,
    cst.BitOrAssign: ast.BitOr,
    cst.BitAnd: ast.BitAnd,
    cst.BitAndAssign: ast.BitAnd,
    cst.BitXor: ast.BitXor,
    cst.BitXorAssign: ast.BitXor,
}
_COMPARISONS: dict[type[cst.CSTNode], type[ast.cmpop]] = {
    cst.LessThan: ast.Lt,
    cst.GreaterThan: ast.Gt,
    cst.Equal: ast.Eq,
    cst.LessThanEqual: ast.LtE,
    cst.GreaterThanEqual: ast.GtE,
    cst.NotEqual: ast.NotEq,
    cst.In: ast.In,
    cst.NotIn: ast.NotIn,
    cst.Is: ast.Is,
    cst.IsNot: ast.IsNot,
}
_SINGLETONS = {"True": True, "False": False, "None": None}


@_converts(_EXPRESSIONS, cst.Name)
def _name(c: _Converter, node: cst.Name) -> ast.expr:
    if node.value in _SINGLETONS:
        return c.make(ast.Constant, node, value=_SINGLETONS[node.value], kind=None)
    # The interpreter normalises identifiers, https://docs.python.org/3/reference/lexical_analysis.html#identifiers
    return c.make(ast.Name, node, id=_identifier(node), ctx=ast.Load())


def _identifier(node: cst.Name) -> str:
    return node.value if node.value.isascii() else unicodedata.normalize("NFKC", node.value)


@_converts(_EXPRESSIONS, cst.Integer, cst.Float, cst.Imaginary)
def _number(c: _Converter, node: cst.BaseNumber) -> ast.expr:
    value = ast.literal_eval(node.value)  # type: ignore[attr-defined]
    return c.make(ast.Constant, node, value=value, kind=None)


@_converts(_EXPRESSIONS, cst.Ellipsis)
def _ellipsis(c: _Converter, node: cst.Ellipsis) -> ast.expr:
    return c.make(ast.Constant, node, value=..., kind=None)


@_converts(_EXPRESSIONS, cst.Attribute)
def _attribute(c: _Converter, node: cst.Attribute) -> ast.expr:
    value = c.expression(node.value)
    return c.make(ast.Attribute, node, value=value, attr=_identifier(node.attr), ctx=ast.Load())


@_converts(_EXPRESSIONS, cst.UnaryOperation)
def _unary(c: _Converter, node: cst.UnaryOperation) -> ast.expr:
    operator = _UNARY[type(node.operator)]()
    return c.make(ast.UnaryOp, node, op=operator, operand=c.expression(node.expression))


@_converts(_EXPRESSIONS, cst.BinaryOperation)
def _binary(c: _Converter, node: cst.BinaryOperation) -> ast.expr:
    left, right = c.expression(node.left), c.expression(node.right)
    return c.make(ast.BinOp, node, left=left, op=_BINARY[type(node.operator)](), right=right)


@_converts(_EXPRESSIONS, cst.BooleanOperation)
def _boolean(c: _Converter, node: cst.BooleanOperation) -> ast.expr:
    """``a or b or c`` is one node with three values for ``ast``, two nested ones for LibCST."""
    kind, operands = type(node.operator), [node.right]
    left = node.left
    while isinstance(left, cst.BooleanOperation) and type(left.operator) is kind and not left.lpar:
        operands.append(left.right)
        left = left.left
    values = [c.expression(operand) for operand in (left, *reversed(operands))]
    return c.make(ast.BoolOp, node, op=ast.And() if kind is cst.And else ast.Or(), values=values)


@_converts(_EXPRESSIONS, cst.Comparison)
def _comparison(c: _Converter, node: cst.Comparison) -> ast.expr:
    return c.make(
        ast.Compare,
        node,
        left=c.expression(node.left),
        ops=[_COMPARISONS[type(target.operator)]() for target in node.comparisons],
        comparators=[c.expression(target.comparator) for target in node.comparisons],
    )


@_converts(_EXPRESSIONS, cst.IfExp)
def _if_expression(c: _Converter, node: cst.IfExp) -> ast.expr:
    test, body = c.expression(node.test), c.expression(node.body)
    return c.make(ast.IfExp, node, test=test, body=body, orelse=c.expression(node.orelse))


@_converts(_EXPRESSIONS, cst.NamedExpr)
def _named(c: _Converter, node: cst.NamedExpr) -> ast.expr:
    target, value = c.target(node.target), c.expression(node.value)
    return c.make(ast.NamedExpr, node, target=target, value=value)


@_converts(_EXPRESSIONS, cst.Await)
def _await(c: _Converter, node: cst.Await) -> ast.expr:
    return c.make(ast.Await, node, value=c.expression(node.expression))


@_converts(_EXPRESSIONS, cst.Yield)
def _yield(c: _Converter, node: cst.Yield) -> ast.expr:
    if isinstance(node.value, cst.From):
        return c.make(ast.YieldFrom, node, value=c.expression(node.value.item))
    return c.make(ast.Yield, node, value=c.optional(node.value))


@_converts(_EXPRESSIONS, cst.Lambda)
def _lambda(c: _Converter, node: cst.Lambda) -> ast.expr:
    return c.make(ast.Lambda, node, args=_arguments(c, node.params), body=c.expression(node.body))


@_converts(_EXPRESSIONS, cst.Element)
def _element(c: _Converter, node: cst.Element) -> ast.expr:
    return c.expression(node.value)  # type: ignore[no-any-return]


@_converts(_EXPRESSIONS, cst.StarredElement)
def _starred(c: _Converter, node: cst.StarredElement) -> ast.expr:
    return c.make(ast.Starred, node, value=c.expression(node.value), ctx=ast.Load())


@_converts(_EXPRESSIONS, cst.Tuple)
def _tuple(c: _Converter, node: cst.Tuple) -> ast.expr:
    place = c.in_parentheses(node)
    if not node.lpar:
        place = _elements_span(c, node.elements)
    elements = [c.expression(element) for element in node.elements]
    return c.make(ast.Tuple, place, elts=elements, ctx=ast.Load())


def _elements_span(c: _Converter, elements: Sequence[Any]) -> _Span:
    """Return the span of elements without brackets; a comma after the last one belongs to it."""
    first, last = elements[0], elements[-1]
    start = c.outer(first if isinstance(first, cst.StarredElement) else first.value)[0]
    if isinstance(last.comma, cst.Comma):
        return start, c.span(last.comma)[1]
    return start, c.outer(last if isinstance(last, cst.StarredElement) else last.value)[1]


@_converts(_EXPRESSIONS, cst.List)
def _list(c: _Converter, node: cst.List) -> ast.expr:
    elements = [c.expression(element) for element in node.elements]
    return c.make(ast.List, node, elts=elements, ctx=ast.Load())


@_converts(_EXPRESSIONS, cst.Set)
def _set(c: _Converter, node: cst.Set) -> ast.expr:
    return c.make(ast.Set, node, elts=[c.expression(element) for element in node.elements])


@_converts(_EXPRESSIONS, cst.Dict)
def _dict(c: _Converter, node: cst.Dict) -> ast.expr:
    keys = [c.optional(getattr(element, "key", None)) for element in node.elements]
    values = [c.expression(element.value) for element in node.elements]
    return c.make(ast.Dict, node, keys=keys, values=values)


@_converts(_EXPRESSIONS, cst.ListComp)
def _list_comprehension(c: _Converter, node: cst.ListComp) -> ast.expr:
    element = _comprehension_element(c, node.elt)
    return c.make(ast.ListComp, node, elt=element, generators=_generators(c, node.for_in))


@_converts(_EXPRESSIONS, cst.SetComp)
def _set_comprehension(c: _Converter, node: cst.SetComp) -> ast.expr:
    element = _comprehension_element(c, node.elt)
    return c.make(ast.SetComp, node, elt=element, generators=_generators(c, node.for_in))


@_converts(_EXPRESSIONS, cst.GeneratorExp)
def _generator(c: _Converter, node: cst.GeneratorExp) -> ast.expr:
    element, generators = _comprehension_element(c, node.elt), _generators(c, node.for_in)
    return c.make(ast.GeneratorExp, c.in_parentheses(node), elt=element, generators=generators)


def _comprehension_element(c: _Converter, node: cst.CSTNode) -> ast.expr:
    if isinstance(node, cst.StarredElement):
        c.needs(15, "unpacking in a comprehension")
    return c.expression(node)  # type: ignore[no-any-return]


@_converts(_EXPRESSIONS, cst.DictComp)
def _dict_comprehension(c: _Converter, node: cst.DictComp) -> ast.expr:
    key, value = c.expression(node.key), c.expression(node.value)
    return c.make(ast.DictComp, node, key=key, value=value, generators=_generators(c, node.for_in))


@_converts(_EXPRESSIONS, cst.StarredDictComp)
def _starred_dict_comprehension(c: _Converter, node: cst.StarredDictComp) -> ast.expr:
    c.needs(15, "unpacking in a comprehension")
    value = c.expression(node.value)  # as PEP 798: the key is the mapping, there is no value
    return c.make(ast.DictComp, node, key=value, value=None, generators=_generators(c, node.for_in))


def _generators(c: _Converter, node: cst.CompFor | None) -> list[ast.comprehension]:
    generators: list[ast.comprehension] = []
    while node is not None:
        generators.append(
            c.make(
                ast.comprehension,
                None,
                target=c.target(node.target),
                iter=c.expression(node.iter),
                ifs=[c.expression(condition.test) for condition in node.ifs],
                is_async=int(node.asynchronous is not None),
            )
        )
        node = node.inner_for_in
    return generators


@_converts(_EXPRESSIONS, cst.Call)
def _call(c: _Converter, node: cst.Call) -> ast.expr:
    args, keywords = _call_arguments(c, node.args)
    only = node.args[0].value if len(node.args) == 1 else None
    if isinstance(only, cst.GeneratorExp) and not only.lpar:
        # The parentheses of the call are those of the generator.
        start = c.outer(node.func)[1] + c.code_size(node.whitespace_after_func)
        args = [
            c.make(ast.GeneratorExp, (start, c.span(node)[1]), **dict(ast.iter_fields(args[0])))
        ]
    return c.make(ast.Call, node, func=c.expression(node.func), args=args, keywords=keywords)


def _call_arguments(c: _Converter, nodes: Iterable[cst.Arg]) -> tuple[list[Any], list[Any]]:
    args, keywords = [], []
    for node in nodes:
        value = c.expression(node.value)
        place = c.span(node)[0], c.outer(node.value)[1]
        if node.star == "*":
            args.append(c.make(ast.Starred, place, value=value, ctx=ast.Load()))
        elif node.star == "**" or node.keyword is not None:
            name = None if node.keyword is None else _identifier(node.keyword)
            keywords.append(c.make(ast.keyword, place, arg=name, value=value))
        else:
            args.append(value)
    return args, keywords


@_converts(_EXPRESSIONS, cst.Subscript)
def _subscript(c: _Converter, node: cst.Subscript) -> ast.expr:
    indices = [_index(c, element.slice) for element in node.slice]
    index, place = indices[0]
    starred = any(isinstance(each, ast.Starred) for each, _ in indices)
    if starred:
        c.needs(11, "a star in a subscript")
    comma = node.slice[-1].comma
    if len(indices) > 1 or starred or isinstance(comma, cst.Comma):
        end = c.span(comma)[1] if isinstance(comma, cst.Comma) else indices[-1][1][1]
        elements = [each for each, _ in indices]
        index = c.make(ast.Tuple, (place[0], end), elts=elements, ctx=ast.Load())
    value = c.expression(node.value)
    return c.make(ast.Subscript, node, value=value, slice=index, ctx=ast.Load())


def _index(c: _Converter, node: cst.BaseSlice) -> tuple[Any, _Span]:
    """Return a converted index and its span, parentheses included."""
    if isinstance(node, cst.Slice):
        return _slice(c, node)
    assert isinstance(node, cst.Index)
    place, value = c.outer(node.value), c.expression(node.value)
    if node.star is None:
        return value, place
    place = c.span(node)[0], place[1]
    return c.make(ast.Starred, place, value=value, ctx=ast.Load()), place


def _slice(c: _Converter, node: cst.Slice) -> tuple[Any, _Span]:
    colons = [
        colon for colon in (node.first_colon, node.second_colon) if isinstance(colon, cst.Colon)
    ]
    limits = [limit for limit in (node.lower, node.upper, node.step) if limit is not None]
    spans = [*map(c.span, colons), *map(c.outer, limits)]
    place = min(start for start, _ in spans), max(end for _, end in spans)
    lower, upper, step = map(c.optional, (node.lower, node.upper, node.step))
    return c.make(ast.Slice, place, lower=lower, upper=upper, step=step), place


# --- strings --------------------------------------------------------------------------------


@_converts(_EXPRESSIONS, cst.SimpleString)
def _string(c: _Converter, node: cst.SimpleString) -> ast.expr:
    value = ast.literal_eval(node.value)
    return c.make(ast.Constant, node, value=value, kind=_string_kind(node))


def _string_kind(first: cst.CSTNode) -> str | None:
    return "u" if isinstance(first, cst.SimpleString) and first.value[0] == "u" else None


@_converts(_EXPRESSIONS, cst.FormattedString, cst.TemplatedString)
def _formatted(c: _Converter, node: cst.FormattedString | cst.TemplatedString) -> ast.expr:
    return _joined(c, node, [node])


@_converts(_EXPRESSIONS, cst.ConcatenatedString)
def _concatenated(c: _Converter, node: cst.ConcatenatedString) -> ast.expr:
    literals: list[Any] = [node.left]
    right: cst.BaseString = node.right
    while isinstance(right, cst.ConcatenatedString):
        literals.append(right.left)
        right = right.right
    literals.append(right)
    if not all(isinstance(literal, cst.SimpleString) for literal in literals):
        return _joined(c, node, literals)
    values = [ast.literal_eval(literal.value) for literal in literals]
    value = values[0][:0].join(values)
    return c.make(ast.Constant, node, value=value, kind=_string_kind(literals[0]))


def _joined(c: _Converter, node: cst.CSTNode, literals: Sequence[Any]) -> ast.expr:
    """Convert one f-string or t-string, or a concatenation that holds one."""
    is_template = any(isinstance(literal, cst.TemplatedString) for literal in literals)
    values: list[Any] = []
    for literal in literals:
        if isinstance(literal, cst.SimpleString):
            text = ast.literal_eval(literal.value)
            values.append(c.make(ast.Constant, literal, value=text, kind=_string_kind(literal)))
        else:
            values.extend(_string_parts(c, literal, literal.parts, is_template))
    if is_template:
        c.needs(14, "a template string")
    elif sys.version_info < (3, 12) and not _parses(c.source(*c.span(node))):
        c.newer.append("an f-string of PEP 701")
    kind: type[ast.expr] = TemplateStr if is_template else ast.JoinedStr
    return c.make(kind, node, values=values)


def _parses(expression: str) -> bool:
    try:
        ast.parse(f"({expression}\n)", mode="eval")
    except (SyntaxError, ValueError):
        return False
    return True


def _string_parts(
    c: _Converter, literal: Any, parts: Iterable[Any], is_template: bool, in_spec: bool = False
) -> list[Any]:
    values: list[Any] = []
    for part in parts:
        if isinstance(part, cst.FormattedStringText | cst.TemplatedStringText):
            text = _literal_text(part.value, literal.start, in_spec)
            values.append(c.make(ast.Constant, part, value=text, kind=None))
        else:
            values.extend(_replacement_field(c, literal, part, is_template))
    return values


def _replacement_field(c: _Converter, literal: Any, part: Any, is_template: bool) -> list[Any]:
    """Convert ``{...}``; the echo of ``{x=}`` is a constant before it."""
    echo: list[Any] = []
    conversion = ord(part.conversion) if part.conversion else -1
    if part.equal is not None:
        start, end = c.span(part)[0] + 1, c.skip_space(c.span(part.equal)[1])
        text = _without_comments(c.source(start, end))
        echo = [c.make(ast.Constant, (start, end), value=text, kind=None)]
        if part.conversion is None and part.format_spec is None:
            conversion = ord("r")
    spec = None
    if part.format_spec is not None:
        # Also the spec of a template's field is an ordinary f-string.
        values = _string_parts(c, literal, part.format_spec, is_template=False, in_spec=True)
        spec = c.make(ast.JoinedStr, part, values=values)
    fields = {"value": c.expression(part.expression), "conversion": conversion, "format_spec": spec}
    if is_template:
        fields["str"] = c.source(*c.outer(part.expression))
        return [*echo, c.make(Interpolation, part, **fields)]
    return [*echo, c.make(ast.FormattedValue, part, **fields)]


def _without_comments(source: str) -> str:
    return _STRING_OR_COMMENT.sub(lambda m: "" if m[0][0] == "#" else m[0], source)


_ESCAPE_OR_BRACES = re.compile(r"\\N\{[^}]*\}|\\\\|\{\{|\}\}")
_RAW_BRACES = re.compile(r"\{\{|\}\}")


def _literal_text(source: str, opening: str, in_spec: bool) -> str:
    """Return the value of the text ``source`` in an f-string that starts with ``opening``."""
    quote = opening.lstrip("fFrRtT")
    raw = "r" in opening.lower()
    if not in_spec:
        braces = _RAW_BRACES if raw else _ESCAPE_OR_BRACES
        source = braces.sub(lambda match: match[0][0] if match[0] in "{{}}" else match[0], source)
    # The space keeps a last quote or backslash of the text apart from the closing quotes.
    text: str = ast.literal_eval(f"{'r' if raw else ''}{quote}{source} {quote}")
    return text[:-1]


# --- parameters -----------------------------------------------------------------------------


def _arguments(c: _Converter, node: cst.Parameters) -> ast.arguments:
    star = node.star_arg if isinstance(node.star_arg, cst.Param) else None
    positional = [*node.posonly_params, *node.params]
    return c.make(
        ast.arguments,
        None,
        posonlyargs=[_parameter(c, param) for param in node.posonly_params],
        args=[_parameter(c, param) for param in node.params],
        vararg=None if star is None else _parameter(c, star),
        kwonlyargs=[_parameter(c, param) for param in node.kwonly_params],
        kw_defaults=[c.optional(param.default) for param in node.kwonly_params],
        kwarg=None if node.star_kwarg is None else _parameter(c, node.star_kwarg),
        defaults=[c.expression(param.default) for param in positional if param.default is not None],
    )


def _parameter(c: _Converter, node: cst.Param) -> ast.arg:
    place, annotation = c.span(node.name), None
    if node.annotation is not None:
        annotation = _annotation(c, node.annotation)
        place = place[0], c.outer(node.annotation.annotation)[1]
    return c.make(
        ast.arg, place, arg=_identifier(node.name), annotation=annotation, type_comment=None
    )


def _annotation(c: _Converter, node: cst.Annotation | None) -> Any:
    if node is None:
        return None
    if isinstance(node.annotation, cst.StarredElement):
        c.needs(11, "a star in an annotation")
    return c.expression(node.annotation)


def _type_parameters(c: _Converter, node: cst.TypeParameters | None) -> list[Any]:
    if node is None:
        return []
    c.needs(12, "type parameters")
    return [_type_parameter(c, param) for param in node.params]


def _type_parameter(c: _Converter, node: cst.TypeParam) -> Any:
    param, place, default = node.param, c.span(node.param), None
    if node.default is not None:
        c.needs(13, "the default of a type parameter")
        default, place = c.expression(node.default), (place[0], c.outer(node.default)[1])
        if node.star:
            assert isinstance(node.equal, cst.AssignEqual)
            starred = c.skip_space(c.span(node.equal)[1]), place[1]
            default = c.make(ast.Starred, starred, value=default, ctx=ast.Load())
    name = _identifier(param.name)
    if isinstance(param, cst.TypeVar):
        bound = c.optional(param.bound)
        return c.make(TypeVarNode, place, name=name, bound=bound, default_value=default)
    kind = TypeVarTuple if isinstance(param, cst.TypeVarTuple) else ParamSpec
    return c.make(kind, place, name=name, default_value=default)


# --- simple statements ----------------------------------------------------------------------


@_converts(_STATEMENTS, cst.Pass, cst.Break, cst.Continue)
def _keyword_statement(c: _Converter, node: cst.Pass | cst.Break | cst.Continue) -> ast.stmt:
    kinds: dict[type[Any], type[ast.stmt]] = {cst.Pass: ast.Pass, cst.Break: ast.Break}
    return c.make(kinds.get(type(node), ast.Continue), node)


@_converts(_STATEMENTS, cst.Expr)
def _expression_statement(c: _Converter, node: cst.Expr) -> ast.stmt:
    value = c.expression(node.value)
    return c.make(ast.Expr, _value_statement_span(c, node, node.value), value=value)


def _value_statement_span(c: _Converter, node: cst.CSTNode, last: cst.CSTNode | None) -> _Span:
    """Return the span of a statement that ends with the expression ``last``."""
    start, end = c.span(node)
    if isinstance(last, cst.Tuple) and not last.lpar:
        end = _elements_span(c, last.elements)[1]
    return start, end


@_converts(_STATEMENTS, cst.Return)
def _return(c: _Converter, node: cst.Return) -> ast.stmt:
    place = _value_statement_span(c, node, node.value)
    return c.make(ast.Return, place, value=c.optional(node.value))


@_converts(_STATEMENTS, cst.Raise)
def _raise(c: _Converter, node: cst.Raise) -> ast.stmt:
    cause = None if node.cause is None else c.expression(node.cause.item)
    return c.make(ast.Raise, node, exc=c.optional(node.exc), cause=cause)


@_converts(_STATEMENTS, cst.Assert)
def _assert(c: _Converter, node: cst.Assert) -> ast.stmt:
    return c.make(ast.Assert, node, test=c.expression(node.test), msg=c.optional(node.msg))


@_converts(_STATEMENTS, cst.Del)
def _delete(c: _Converter, node: cst.Del) -> ast.stmt:
    target = node.target
    if isinstance(target, cst.Tuple) and not target.lpar:
        targets = [c.target(element, ast.Del) for element in target.elements]
    else:
        targets = [c.target(target, ast.Del)]
    return c.make(ast.Delete, _value_statement_span(c, node, target), targets=targets)


@_converts(_STATEMENTS, cst.Global)
def _global(c: _Converter, node: cst.Global) -> ast.stmt:
    return c.make(ast.Global, node, names=[_identifier(item.name) for item in node.names])


@_converts(_STATEMENTS, cst.Nonlocal)
def _nonlocal(c: _Converter, node: cst.Nonlocal) -> ast.stmt:
    return c.make(ast.Nonlocal, node, names=[_identifier(item.name) for item in node.names])


@_converts(_STATEMENTS, cst.Import, cst.LazyImport)
def _import(c: _Converter, node: cst.Import | cst.LazyImport) -> ast.stmt:
    if isinstance(node, cst.LazyImport):
        c.needs(15, "a lazy import")
    return c.make(ast.Import, node, names=[_alias(c, alias) for alias in node.names])


@_converts(_STATEMENTS, cst.ImportFrom, cst.LazyImportFrom)
def _import_from(c: _Converter, node: cst.ImportFrom | cst.LazyImportFrom) -> ast.stmt:
    if isinstance(node, cst.LazyImportFrom):
        c.needs(15, "a lazy import")
    if isinstance(node.names, cst.ImportStar):
        names = [c.make(ast.alias, node.names, name="*", asname=None)]
    else:
        names = [_alias(c, alias) for alias in node.names]
    module = None if node.module is None else _dotted(node.module)
    return c.make(ast.ImportFrom, node, module=module, names=names, level=len(node.relative))


def _alias(c: _Converter, node: cst.ImportAlias) -> ast.alias:
    start, end = c.span(node.name)
    asname = None
    if node.asname is not None:
        assert isinstance(node.asname.name, cst.Name)
        asname, end = _identifier(node.asname.name), c.span(node.asname.name)[1]
    return c.make(ast.alias, (start, end), name=_dotted(node.name), asname=asname)


def _dotted(node: cst.BaseExpression) -> str:
    if isinstance(node, cst.Attribute):
        return f"{_dotted(node.value)}.{_identifier(node.attr)}"
    assert isinstance(node, cst.Name)
    return _identifier(node)


@_converts(_STATEMENTS, cst.Assign)
def _assign(c: _Converter, node: cst.Assign) -> ast.stmt:
    return c.make(
        ast.Assign,
        _value_statement_span(c, node, node.value),
        targets=[c.target(target.target) for target in node.targets],
        value=c.expression(node.value),
        type_comment=None,
    )


@_converts(_STATEMENTS, cst.AnnAssign)
def _annotated_assign(c: _Converter, node: cst.AnnAssign) -> ast.stmt:
    return c.make(
        ast.AnnAssign,
        _value_statement_span(c, node, node.value),
        target=c.target(node.target),
        annotation=_annotation(c, node.annotation),
        value=c.optional(node.value),
        simple=int(isinstance(node.target, cst.Name) and not node.target.lpar),
    )


@_converts(_STATEMENTS, cst.AugAssign)
def _augmented_assign(c: _Converter, node: cst.AugAssign) -> ast.stmt:
    return c.make(
        ast.AugAssign,
        _value_statement_span(c, node, node.value),
        target=c.target(node.target),
        op=_BINARY[type(node.operator)](),
        value=c.expression(node.value),
    )


@_converts(_STATEMENTS, cst.TypeAlias)
def _type_alias(c: _Converter, node: cst.TypeAlias) -> Any:
    c.needs(12, "a type alias")
    return c.make(
        TypeAlias,
        node,
        name=c.target(node.name),
        type_params=_type_parameters(c, node.type_parameters),
        value=c.expression(node.value),
    )


# --- compound statements --------------------------------------------------------------------


@_converts(_STATEMENTS, cst.FunctionDef)
def _function(c: _Converter, node: cst.FunctionDef) -> ast.stmt:
    return c.compound(
        ast.FunctionDef if node.asynchronous is None else ast.AsyncFunctionDef,
        node,
        "body",
        name=_identifier(node.name),
        args=_arguments(c, node.params),
        body=c.body(node.body),
        decorator_list=[c.expression(decorator.decorator) for decorator in node.decorators],
        returns=_annotation(c, node.returns),
        type_comment=None,
        type_params=_type_parameters(c, node.type_parameters),
    )


@_converts(_STATEMENTS, cst.ClassDef)
def _class(c: _Converter, node: cst.ClassDef) -> ast.stmt:
    bases, keywords = _call_arguments(c, sorted([*node.bases, *node.keywords], key=c.span))
    return c.compound(
        ast.ClassDef,
        node,
        "body",
        name=_identifier(node.name),
        bases=bases,
        keywords=keywords,
        body=c.body(node.body),
        decorator_list=[c.expression(decorator.decorator) for decorator in node.decorators],
        type_params=_type_parameters(c, node.type_parameters),
    )


@_converts(_STATEMENTS, cst.If)
def _if(c: _Converter, node: cst.If) -> ast.stmt:
    orelse = [_if(c, node.orelse)] if isinstance(node.orelse, cst.If) else c.body(node.orelse)
    test, body = c.expression(node.test), c.body(node.body)
    return c.compound(ast.If, node, "orelse body", test=test, body=body, orelse=orelse)


@_converts(_STATEMENTS, cst.While)
def _while(c: _Converter, node: cst.While) -> ast.stmt:
    test, body, orelse = c.expression(node.test), c.body(node.body), c.body(node.orelse)
    return c.compound(ast.While, node, "orelse body", test=test, body=body, orelse=orelse)


@_converts(_STATEMENTS, cst.For)
def _for(c: _Converter, node: cst.For) -> ast.stmt:
    return c.compound(
        ast.For if node.asynchronous is None else ast.AsyncFor,
        node,
        "orelse body",
        target=c.target(node.target),
        iter=c.expression(node.iter),
        body=c.body(node.body),
        orelse=c.body(node.orelse),
        type_comment=None,
    )


@_converts(_STATEMENTS, cst.With)
def _with(c: _Converter, node: cst.With) -> ast.stmt:
    return c.compound(
        ast.With if node.asynchronous is None else ast.AsyncWith,
        node,
        "body",
        items=[_with_item(c, item) for item in node.items],
        body=c.body(node.body),
        type_comment=None,
    )


def _with_item(c: _Converter, node: cst.WithItem) -> ast.withitem:
    variables = None if node.asname is None else c.target(node.asname.name)
    context = c.expression(node.item)
    return c.make(ast.withitem, None, context_expr=context, optional_vars=variables)


@_converts(_STATEMENTS, cst.Try, cst.TryStar)
def _try(c: _Converter, node: cst.Try | cst.TryStar) -> Any:
    if isinstance(node, cst.TryStar):
        c.needs(11, "except*")
    return c.compound(
        TryStar if isinstance(node, cst.TryStar) else ast.Try,
        node,
        "finalbody orelse handlers",
        body=c.body(node.body),
        handlers=[_except(c, handler) for handler in node.handlers],
        orelse=c.body(node.orelse),
        finalbody=c.body(node.finalbody),
    )


def _except(c: _Converter, node: cst.ExceptHandler | cst.ExceptStarHandler) -> ast.excepthandler:
    if isinstance(node.type, cst.Tuple) and not node.type.lpar:
        c.needs(14, "except without parentheses")
    name = None
    if node.name is not None:
        assert isinstance(node.name.name, cst.Name)
        name = _identifier(node.name.name)
    caught, body = c.optional(node.type), c.body(node.body)
    return c.compound(ast.ExceptHandler, node, "body", type=caught, name=name, body=body)


# --- match ----------------------------------------------------------------------------------


@_converts(_STATEMENTS, cst.Match)
def _match(c: _Converter, node: cst.Match) -> ast.stmt:
    cases = []
    for case in node.cases:
        pattern, guard = c.pattern(case.pattern), c.optional(case.guard)
        body = c.body(case.body)
        cases.append(c.make(ast.match_case, None, pattern=pattern, guard=guard, body=body))
    made = c.make(ast.Match, node, subject=c.expression(node.subject), cases=cases)
    c.end_with(made, cases[-1].body[-1])
    return made


@_converts(_PATTERNS, cst.MatchValue)
def _match_value(c: _Converter, node: cst.MatchValue) -> ast.pattern:
    return c.make(ast.MatchValue, node.value, value=c.expression(node.value))


@_converts(_PATTERNS, cst.MatchSingleton)
def _match_singleton(c: _Converter, node: cst.MatchSingleton) -> ast.pattern:
    return c.make(ast.MatchSingleton, node.value, value=_SINGLETONS[node.value.value])


@_converts(_PATTERNS, cst.MatchSequenceElement, cst.MatchOrElement)
def _match_element(c: _Converter, node: Any) -> ast.pattern:
    value = node.value if isinstance(node, cst.MatchSequenceElement) else node.pattern
    return c.pattern(value)  # type: ignore[no-any-return]


@_converts(_PATTERNS, cst.MatchStar)
def _match_star(c: _Converter, node: cst.MatchStar) -> ast.pattern:
    return c.make(ast.MatchStar, _match_star_span(c, node), name=_capture(node.name))


def _match_star_span(c: _Converter, node: cst.MatchStar) -> _Span:
    """Return the span of ``*name``; LibCST has no node for the name ``_`` and counts the comma."""
    start = c.span(node)[0]
    if node.name is not None:
        return start, c.span(node.name)[1]
    return start, start + len("*") + c.code_size(node.whitespace_before_name) + len("_")


def _capture(name: cst.Name | None) -> str | None:
    return None if name is None or name.value == "_" else _identifier(name)


@_converts(_PATTERNS, cst.MatchList, cst.MatchTuple)
def _match_sequence(c: _Converter, node: cst.MatchList | cst.MatchTuple) -> ast.pattern:
    if isinstance(node, cst.MatchTuple):
        place = c.in_parentheses(node)
    elif node.lbracket is not None:
        place = c.span(node)
    else:
        place = _elements_span_of_patterns(c, node.patterns)
    patterns = [c.pattern(element) for element in node.patterns]
    return c.make(ast.MatchSequence, place, patterns=patterns)


def _elements_span_of_patterns(c: _Converter, elements: Sequence[Any]) -> _Span:
    first, last = elements[0], elements[-1]
    start = c.span(first)[0] if isinstance(first, cst.MatchStar) else c.outer(first.value)[0]
    if isinstance(last.comma, cst.Comma):
        return start, c.span(last.comma)[1]
    if isinstance(last, cst.MatchStar):
        return start, _match_star_span(c, last)[1]
    return start, c.outer(last.value)[1]


@_converts(_PATTERNS, cst.MatchMapping)
def _match_mapping(c: _Converter, node: cst.MatchMapping) -> ast.pattern:
    keys = [c.expression(element.key) for element in node.elements]
    patterns = [c.pattern(element.pattern) for element in node.elements]
    rest = None if node.rest is None else _identifier(node.rest)
    return c.make(ast.MatchMapping, node, keys=keys, patterns=patterns, rest=rest)


@_converts(_PATTERNS, cst.MatchClass)
def _match_class(c: _Converter, node: cst.MatchClass) -> ast.pattern:
    return c.make(
        ast.MatchClass,
        node,
        cls=c.expression(node.cls),
        patterns=[c.pattern(element) for element in node.patterns],
        kwd_attrs=[_identifier(keyword.key) for keyword in node.kwds],
        kwd_patterns=[c.pattern(keyword.pattern) for keyword in node.kwds],
    )


@_converts(_PATTERNS, cst.MatchAs)
def _match_as(c: _Converter, node: cst.MatchAs) -> ast.pattern:
    pattern = None if node.pattern is None else c.pattern(node.pattern)
    return c.make(ast.MatchAs, node, pattern=pattern, name=_capture(node.name))


@_converts(_PATTERNS, cst.MatchOr)
def _match_or(c: _Converter, node: cst.MatchOr) -> ast.pattern:
    return c.make(ast.MatchOr, node, patterns=[c.pattern(element) for element in node.patterns])
