"""Positions are exact: on every Python, inside f-strings, and by way of LibCST.

The normal run looks at a sample of the standard library of the running interpreter;
``PORTER_SLOW=1`` looks at all of it.
"""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
import threading
import tokenize
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest

from porter import cst_ast, syntax
from porter.syntax import LineIndex, SyntaxProblem, exact_span, parse

ROOT = Path(__file__).resolve().parent.parent
SLOW = os.environ.get("PORTER_SLOW") == "1"
SAMPLE = 150
STRING_PARTS = {"JoinedStr", "TemplateStr"}


# --- the standard library --------------------------------------------------------------------


def library() -> list[Path]:
    """Return this package's files and a sample, or all, of the running standard library."""
    top = Path(ast.__file__).parent
    skipped = {"site-packages", "test_print.py"}  # the latter shifts print on purpose
    files = [path for path in sorted(top.rglob("*.py")) if skipped.isdisjoint(path.parts)]
    if not SLOW:
        files = [path for path in files if path.stat().st_size < 40_000]
        files = files[:: max(1, len(files) // SAMPLE)]
    return [*sorted((ROOT / "porter").glob("*.py")), *files]


def texts() -> Iterator[tuple[Path, str]]:
    """Yield the files that are Python 3, by the judgement of the interpreter."""
    for path in library():
        try:
            with path.open("rb") as file:
                encoding, _ = tokenize.detect_encoding(file.readline)
            text = path.read_bytes().decode(encoding)
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                ast.parse(text.removeprefix("\ufeff"))
        except (SyntaxError, ValueError):  # the library's own tests hold broken files
            continue
        yield path, text


def converted(text: str) -> ast.Module | None:
    """Return the tree by way of LibCST, whatever the running interpreter thinks of the text."""
    conversion = cst_ast.convert(text)
    if conversion is None:
        return None
    assert conversion.newer == []
    syntax._FStringPositions(text, reparse=False).correct(conversion.tree)
    return conversion.tree


def dump(tree: ast.AST) -> str:
    return ast.dump(tree, include_attributes=True)


def without_context(tree: ast.AST) -> str:
    return re.sub(r", ctx=\w+\(\)", "", ast.dump(tree))


def first_difference(one: str, other: str) -> str:
    at = next((i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), 0)
    return f"{one[max(0, at - 120) : at + 80]}\n!=\n{other[max(0, at - 120) : at + 80]}"


def test_libcst_tree_equals_ast_tree() -> None:
    compared, refused, different = 0, [], []
    for path, text in texts():
        ours = syntax._with_deep_stack(lambda text=text: converted(text))  # type: ignore[misc]
        if ours is None:
            refused.append(path)
            continue
        compared += 1
        expected, got = dump(parse(text)), dump(ours)
        if expected != got:
            different.append(f"{path}: {first_difference(expected, got)}")
    assert not different, "\n".join(different[:5])
    assert compared > SAMPLE // 2
    assert len(refused) <= compared // 50, refused  # LibCST's own limits


def parts_of_strings(tree: ast.AST) -> set[int]:
    """Return the ids of the nodes whose span is not source of their own: texts and specs."""
    found = set()
    for node in ast.walk(tree):
        if type(node).__name__ in STRING_PARTS:
            for value in node.values:  # type: ignore[attr-defined]
                part = value if isinstance(value, ast.Constant) else value.format_spec
                found.add(id(part))
    return found


def wrong_spans(text: str) -> Iterator[str]:
    """Yield the nodes of ``text`` whose span is not their source."""
    tree, lines = parse(text), LineIndex(text)
    parts = parts_of_strings(tree)
    kinds = (ast.Name, ast.Attribute, ast.Call, ast.Constant, ast.JoinedStr, ast.FormattedValue)
    for node in ast.walk(tree):
        if not isinstance(node, kinds) or not exact_span(node):
            continue
        start, end = lines.span(node)
        source = text[start:end]
        if not is_source_of(source, node, id(node) in parts):
            yield f"line {node.lineno}: {type(node).__name__} {source[:80]!r}"


def is_source_of(source: str, node: ast.expr, is_part: bool) -> bool:
    if isinstance(node, ast.FormattedValue):
        return source[0] == "{" and source[-1] == "}"
    if is_part:
        plain = isinstance(node, ast.Constant) and not re.search(r"[\\{}]", source)
        return not plain or re.sub(r"\r\n?", "\n", source) == node.value  # type: ignore[attr-defined]
    if source != source.strip():
        return False
    again = parse(f"({source})").body[0]
    assert isinstance(again, ast.Expr)
    return without_context(again.value) == without_context(node)


def test_spans_are_the_source_of_their_nodes() -> None:
    wrong = [f"{path} {each}" for path, text in texts() for each in wrong_spans(text)]
    assert not wrong, "\n".join(wrong[:10])


# --- f-strings -------------------------------------------------------------------------------


def spans(text: str, *kinds: str) -> list[str]:
    """Return the source of the nodes of some kinds, in order; with a ! where not exact."""
    tree, lines = parse(text), LineIndex(text)
    found = []
    for node in ast.walk(tree):
        if type(node).__name__ in kinds:
            start, end = lines.span(node)
            found.append((start, end, text[start:end] + ("" if exact_span(node) else "!")))
    return [source for _, _, source in sorted(found)]


@pytest.mark.parametrize(
    ("text", "constants", "names"),
    [
        ('x = f"cuda:{i}"\n', ["cuda:"], ["x", "i"]),
        ("é = f'é{ü}é{é}'", ["é", "é"], ["é", "ü", "é"]),
        ('f"a{{b{x!r:>{w}.{p}}}}"\n', ["a{{b", ">", ".", "}}"], ["x", "w", "p"]),
        ('f"{x:}{y}"\n', [], ["x", "y"]),
        ('f"{x:%H:%M}{y}"\n', ["%H:%M"], ["x", "y"]),
        ('rf"\\{a}\\N{b}"', ["\\", "\\N"], ["a", "b"]),
        ('f"\\N{DIGIT ONE}{a}\\{b}"', ["\\N{DIGIT ONE}", "\\"], ["a", "b"]),
        ('f"\\"{a}\\\\{b}"', ['\\"', "\\\\"], ["a", "b"]),
        ("f'''{\na +\n b}'''\n", [], ["a", "b"]),
        ("f'''é\r\n{a}ü{b}\r\n'''\r\n", ["é\r\n", "ü", "\r\n"], ["a", "b"]),
        ("f'''\n{a:\n>{b}}'''", ["\n", "\n>"], ["a", "b"]),
        ("f'{x != y}{d == e!s}{f(k=v)}'", [], ["x", "y", "d", "e", "f", "v"]),
        ("f'{(lambda a: {\"k\": a})}'", ['"k"'], ["a"]),
        ("f'''{f\"{a['b']}c\"}d'''", ["'b'", "c", "d"], ["a"]),
        ("f'{a}' 'b' '' f''", ["b"], ["a"]),
        ("('cuda'\n  f':{i}'  # c ' {\n  'x')", ["cuda'\n  f':!", "x"], ["i"]),
        ("f'a{x=}b{y = !r:>3}'", ["a{x=!", "b{y = !", ">3"], ["x", "y"]),
        ("f'\\\n{x}\\\n'", [], ["x"]),
        ("f'{x}' f'\\\n'", [], ["x"]),
        ("u'a' f'{x}'", ["a"], ["x"]),
        ("f'{ x , }{ *y, z }'", [], ["x", "y", "z"]),
        ("F'{x:{y:{z}}}'", [], ["x", "y", "z"]),
        ("f'{x:{{y}}}z'", ["z"], ["x", "y"]),
        ("f'{a}}}{{{b}'", ["}}{{"], ["a", "b"]),
    ],
)
def test_parts_of_fstrings(text: str, constants: list[str], names: list[str]) -> None:
    assert spans(text, "Constant") == constants
    assert spans(text, "Name") == names


def test_convention_of_fstring_nodes() -> None:
    text = "x = (f'a{b!r:>{c}}' 'd')"
    assert spans(text, "JoinedStr") == ["f'a{b!r:>{c}}' 'd'", ">{c}"]
    assert spans(text, "FormattedValue") == ["{b!r:>{c}}", "{c}"]
    assert spans("f'{ a, b }'", "Tuple") == ["a, b"]
    assert spans("f'{ (a, b) }'", "Tuple") == ["(a, b)"]


def test_nothing_in_an_fstring_is_exact_where_tree_and_text_disagree(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(syntax._FStringScanner, "literals", lambda self, start, end: [])
    joined = next(node for node in ast.walk(parse("f'a{b.c}'")) if isinstance(node, ast.JoinedStr))
    assert exact_span(joined)
    inside = [node for node in ast.walk(joined) if isinstance(node, ast.expr) and node != joined]
    assert len(inside) == 4
    assert not any(map(exact_span, inside))


def test_nodes_without_position_are_not_exact() -> None:
    assert not exact_span(ast.arguments())
    assert exact_span(parse("x").body[0])


# --- syntax newer than the running interpreter -----------------------------------------------

NEWER = [
    ("f'{f'{a['b']}'}'\n", "Constant", ["'b'"]),
    ("f'{a['b']}' f'{c!r:{'d'}}e'\n", "Constant", ["'b'", "'d'", "e"]),
    ("f'{a  # } \"\n}{'\\n'.join(b)}'\n", "Name", ["a", "b"]),
    ("f'{a['b'] = # c\n }d'\n", "Constant", ["a['b'] = # c\n !", "'b'", "d"]),
    ("try: pass\nexcept* A.é as e:\n    b\n", "TryStar", ["try: pass\nexcept* A.é as e:\n    b"]),
    ("try: pass\nexcept A, B: pass\n", "Tuple", ["A, B"]),
    ("x[*a, b]\n", "Starred", ["*a"]),
    ("def f(*args: *Ts): pass\n", "arg", ["args: *Ts"]),
    ("type X[T: int, *Ts, **P] = T\n", "TypeVar", ["T: int"]),
    ("type X[T: int, *Ts, **P] = T\n", "TypeVarTuple", ["*Ts"]),
    ("type X[T: int, *Ts, **P] = T\n", "ParamSpec", ["**P"]),
    ("é = 1; type X = int\n", "TypeAlias", ["type X = int"]),
    (
        "@d\nasync def f[T](x: T): return x\n",
        "AsyncFunctionDef",
        ["async def f[T](x: T): return x"],
    ),
    ("class A[T = int](B, *C, k=1, **D):\n  x: T\n", "keyword", ["k=1", "**D"]),
    ("class A[T = int](B): x: T\n", "TypeVar", ["T = int"]),
    ("t'é{b!r:>{c}}d'\n", "Constant", ["é", ">", "d"]),
    ("t'é{b!r:>{c}}d'\n", "Interpolation", ["{b!r:>{c}}"]),
    ("t'é{b!r:>{c}}d'\n", "Name", ["b", "c"]),
]
BEFORE = {
    "nothing": "",
    "byte order mark": "\ufeff",
    "form feeds": "\f\nif a:\n\f    'é'\n\f# \f\n",
    "lone CR": "'é' # c\rb = '''\r\f'''\r",
    "CRLF": "if a:\r\n\tb = 'é' + \\\r\n  c\r\n",
}


@pytest.mark.parametrize("before", BEFORE)
@pytest.mark.parametrize(("text", "kind", "expected"), NEWER)
def test_newer_syntax(text: str, kind: str, expected: list[str], before: str) -> None:
    # Where the interpreter can read the text, its own tree must pass too.
    start = BEFORE[before]
    assert spans(start + text, kind) == [*spans(start.lstrip("\ufeff"), kind), *expected]


@pytest.mark.parametrize(("text", "kind", "expected"), NEWER)
def test_children_of_newer_nodes_are_visited(text: str, kind: str, expected: list[str]) -> None:
    tree = parse(text)
    assert kind in {type(node).__name__ for node in ast.walk(tree)}
    assert all(hasattr(node, "end_lineno") for node in ast.walk(tree) if isinstance(node, ast.stmt))
    assert ast.dump(tree, include_attributes=True)


def test_echo_in_newer_fstrings() -> None:
    joined = parse("f'{a['b'] = # c\n }d'").body[0].value  # type: ignore[attr-defined]
    assert joined.values[0].value == "a['b'] = \n "
    assert joined.values[1].conversion == ord("r")


def test_type_parameters_are_fields_on_every_python() -> None:
    function = parse("def f[T: int](x): pass").body[0]
    assert "type_params" in function._fields
    assert [type(each).__name__ for each in function.type_params] == ["TypeVar"]  # type: ignore[attr-defined]
    assert isinstance(function, ast.FunctionDef)


def test_only_newer_syntax_overrules_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cst_ast.convert("x = 1\n") is not None
    assert cst_ast.parse_newer("x = 1\n") is None
    monkeypatch.setattr(sys, "version_info", (3, 10))
    assert cst_ast.parse_newer("type X = int\n") is not None
    assert cst_ast.parse_newer("type X = '\\x'\n") is None


def test_libcst_is_not_imported_for_syntax_the_interpreter_knows() -> None:
    code = "import sys, porter.syntax as s; s.parse('x'); print('libcst' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "False"


# --- hand-written cases: both ways give the same, and the spans are right ---------------------

CASES = {
    "CRLF": "a = 1\r\nif b:\r\n\tc = 'é\\\r\nf' + d\r\n",
    "lone CR": "a = 1\rb = '''x\ry''' + c\r",
    "mixed newlines": "a\rb\r\nc\nd = '''\r\r\n\n''' + e",
    "other separators": "a = 'x\u2028y\x0by\x85' + b\nc = d\n",
    "no newline at the end": "a = b",
    "empty": "",
    "only comments": "# a\n  # b\n\f",
    "tabs": "if a:\n\tif\tb:\n\t\tc\t=\td\n",
    "non-ASCII before": "é, 'é€😀', x.ü, y(z)\n",
    "NFKC": "ﬁ = ﬁ.ﬁ(ﬁ=ﬁ)\nimport ﬁ.ﬁ as ﬁ\n",
    "form feeds": """\fa
\f
class B:
    c
\f
    def d(self):
\f        e
  \f        f\f=\f'''
\f  '''
""",
    "byte order mark": "\ufeffa = é\nb\n",
    "byte order mark and form feed": "\ufeff\fa = é\nb\n",
    "continuations": "a = b + \\\n   c \\\n  . d\nassert \\\n  e\n",
    "decorators": "@a.b(c)\n@ d [0]\nclass E: pass\n@f\nasync def g(): pass\n",
    "walrus": "if (a := b): c[d := e]; f(g := h)\n",
    "stars": "*a, (b), [*c] = *d, e; f(*g, *(h), **i, **{'j': k}); [*l, *m]; {**n}\n",
    "lambda": "a = lambda: 0\nb = lambda c, d=1, /, *e, f=2, g, **h: (c, d)\nlambda *, k: k\n",
    "parameters": "def a(b, c: int = 1, /, d=2, *e: f, g, h: int = (3), **i: (j)) -> (k): pass\n",
    "parentheses": "((a)) . b; (c)(d); (e)[(f)]; (g) + (h); -(i); (j) if (k) else (l); (m)\n",
    "tuples": "a = b,; c = (d,); e = (); f = ((1, 2)); g = 1, 2 ,\nfor h, i, in j, : pass\n",
    "return": "def f():\n  return a,  \n  return (b) ,c\n  return\n",
    "del": "del a, b[0], c.d,\ndel (e, f), [g]\ndel (h)\n",
    "slices": "a[:], a[::], a[b:], a[ : c ], a[d:(e):f]\na[1:2, ..., None], a[(b):(c)], a[b,]\n",
    "calls": "f(); f(a,); f(x for x in y); f ( x for x in y ); f((x for x in y))\nf(a=(b), c=d)\n",
    "class calls": "class A(B, *C, k=1, **E): pass\nclass F(): pass\n",
    "comparisons": "a < b <= (c) != d not in e is not f\nnot a\n",
    "and, or": "a and b and c or d or (e or f)\n(a or b) or c\na or (b or c)\n",
    "comprehensions": """
[a async for (a) in b if c if (d) for e, f in g]
{a: b for a in c}
{d for d in e}
""",
    "await": """
async def f():
  await a; yield b; yield
  async with c as d, e: pass
  async for g in h: pass
""",
    "yield": "def f():\n  a = yield\n  b = yield c, d\n  (yield from e)\n  yield (f)\n",
    "with": """
with (a as b, c): pass
with (d), e as (f, g): pass
with (h, i): pass
with (j) as k: pass
""",
    "imports": """
import a.b as c, d . e
from . import (f as g, h,)
from ...i.j import *
from .k import l
""",
    "try": """
try:
  a
except (B, C) as d:
  e
except F: g
except: h
else:
  i
finally:
  j
""",
    "spaces": """
try : a
except b : é ; c
except (d) as e : f
except : g
else : h
finally : i
class j ( k , l = m ) : n
def o ( p , q : r = s , * t , ** u ) -> v : w
if x : y [ a : b ] ( c , d = e ) . f
elif a : { b : c , ** d } ; [ e , f ] ; ( g , h )
else : lambda i , j = k : l
for m , n in o : p
while q : r
with s as t , u : v
import a . b as c , d
from . a import ( b as c , d )
e : f = g
assert h , i ; del j , k ; x = y = z ; not a ; ~ b ; - c
match d :
  case e ( f , g = h ) | [ i , * j ] if k : l
  case { 'm' : n , ** o } : p
""",
    "if": "if a: b\nelif c:\n  d\nelif e: f; g ;\nelse:\n  h\nwhile i: j\nelse: k\n",
    "semicolons": """
def a(b): c;
class d:
  def e(f):
    if g: h ; i ;
match j:
  case k: l;
while m: n;
else:
  o;
try: p;
except: q ;
finally: r;
with s: t; # u
for v in w: x; y;
""",
    "annotations": "a: int\nb.c: int = 1\nd.e: int = 1, 2\ne[0]: 'f' = g\n",
    "assignment": "a = b = (c, d) = e\nf += (g)\nh, i = j = k, \nl @= m; n //= o; p **= q\n",
    "operators": "a ** -b; ~c % d // e @ f << g >> h & i | j ^ k; +l; - - m\n",
    "numbers": "0x_ff, 0o17, 0b1, 1_000, 1e3, 1.5j, .5, 5., 00\n",
    "strings": """
'a' "b"
('c'
 'd'), b'e' rb'\\f', u'g' 'h', 'i' u'j', r'\\k' '''l
m''', '\\
n'
""",
    "scopes": """
def f():
  global a, b
  def g():
    nonlocal c; raise d from e
    raise
    assert f, (g)
""",
    "match": """
match a, *b:
  case 1 | -2 | 3+4j | 'a' 'b' | None | True | c.d: pass
  case [e, *_, f] | (g, *h): pass
  case i, : pass
  case (j, ), ((k)), (l | m) as n: pass
  case {'o': p, -1: _, q.r: 1, **s}: pass
  case t(), u.v(w, 1, x=(y), z=_,): pass
  case *_, aa if (bb := cc): pass
  case dd, * _ : pass
  case {}: pass
  case {**ee}: pass
  case ("ff"), (None): pass
  case _: pass
match (ff):
  case []: pass
""",
}


@pytest.mark.parametrize("name", CASES)
def test_hand_cases(name: str) -> None:
    text = CASES[name]
    expected = parse(text)
    ours = converted(text)
    assert ours is not None
    assert dump(ours) == dump(expected), first_difference(dump(expected), dump(ours))
    assert list(wrong_spans(text)) == []


# --- what cannot be analysed -----------------------------------------------------------------


def problem(text: str) -> SyntaxProblem:
    with pytest.raises(SyntaxProblem) as caught:
        parse(text)
    assert "\n" not in caught.value.message
    return caught.value


@pytest.mark.parametrize(
    ("text", "line", "what"),
    [
        ("print 'a'\n", 1, "print statement"),
        ("x = 1\nprint x, y\n", 2, "print statement"),
        ("def f(x):\n    print >>f, x\n", 2, "print statement"),
        ("print >>f, 'a' % b\n", 1, "print statement"),
        ("exec 'a' in b\n", 1, "exec statement"),
        ("try:\n  pass\nexcept ValueError, e:\n  pass\n", 3, "except"),
        ("try:\n  pass\nexcept (A, B), e:\n  pass\n", 3, "except"),
        ("raise ValueError, 'a'\n", 1, "raise"),
        ("x = 1\ny = 0777\n", 2, "0777"),
        ("x = 10L\n", 1, "10L"),
        ("if a <> b: pass\n", 1, "<>"),
        ("x = `a`\n", 1, "backticks"),
        ("x = ur'a'\n", 1, "ur''"),
        ("f = lambda (a, b): a\n", 1, "tuple parameters"),
        ("def f(a):\n    '''print 'a' '''\n    # print 'b'\n    print 'c'\n", 4, "print statement"),
    ],
)
def test_python2(text: str, line: int, what: str) -> None:
    found = problem(text)
    assert found.python2
    assert (found.line, what in found.message) == (line, True)
    assert "Python 2" in found.message


@pytest.mark.parametrize(
    "text",
    [
        "x = (1\n'''print 'a' '''\n# print 'b'\n",
        "x = 'print a' )\n",
        "class A:\n  def print(self) print\n",
        "x = print if a else b c\n",
        "from a import print as b c\n",
        "x = 0.5 0e5 0x1L0\n",
        "f() = 1\n",
        "x = 'abc\n",
    ],
)
def test_broken_but_not_python2(text: str) -> None:
    assert not problem(text).python2


def test_except_without_parentheses_is_not_python2() -> None:
    parse("from socket import error, timeout\ntry: pass\nexcept error, timeout: pass\n")
    parse("try: pass\nexcept ValueError, TypeError: pass\n")


def test_place_of_a_problem() -> None:
    found = problem("x = 1\né = 'ü' )\n")
    assert (found.line, found.column, found.python2) == (2, 9, False)
    assert str(found).startswith("2:9: ")
    found = problem("\ufeffé = 'ü' )\n")
    assert (found.line, found.column) == (1, 10)


@pytest.mark.parametrize(("text", "place"), [("x = 1\ny\0\n", (2, 2)), ("\0", (1, 1))])
def test_null_byte(text: str, place: tuple[int, int]) -> None:
    found = problem(text)
    assert "null byte" in found.message
    assert (found.line, found.column) == place


def test_lone_surrogate() -> None:
    found = problem("x = '\udc80'\n")
    assert "not Unicode" in found.message
    assert (found.line, found.column) == (1, 6)


DEEP = 20_000


@pytest.mark.parametrize(
    "text",
    [
        "(" * DEEP + ")" * DEEP,
        "[" * DEEP,
        "-" * DEEP + "1",
        "type X = " + "(" * DEEP + ")" * DEEP,
        "try: pass\nexcept* A: " + "x = " + "(" * DEEP + ")" * DEEP,
        "not " * 10 * DEEP + "1 2",
        "type X[T: int = 1] = 1; x = 1 2; " + "lambda: " * DEEP + "1",
        "if a b: pass\n" + "elif a: pass\n" * DEEP,
        "type X = int; x = " + "-\\\n" * DEEP + "1 2",
    ],
)
def test_deep_nesting_is_a_problem_and_no_crash(text: str) -> None:
    limit, size = sys.getrecursionlimit(), threading.stack_size()
    assert problem(text).message
    assert (sys.getrecursionlimit(), threading.stack_size()) == (limit, size)


def test_message_for_deep_nesting() -> None:
    assert "too deeply" in problem("(" * DEEP + ")" * DEEP).message


def test_long_but_flat_files_are_fine() -> None:
    tree = parse("type X = int\nx = [" + "(1, -2),\n" * 4000 + "]\n")
    assert len(tree.body) == 2


def test_moderately_deep_newer_syntax() -> None:
    text = "type X = int\nx = " + "a + " * 700 + "a\n"
    names = sum(isinstance(node, ast.Name) for node in ast.walk(parse(text)))
    assert names == 701 + 3


# --- LineIndex -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text", ["", "a", "a\n", "é\r\nb\rc\nd", "😀x\f\u2028y\r\r\n\n", "abc\ndef\r\n", "\ufeffé\nx"]
)
def test_line_index_inverts(text: str) -> None:
    lines = LineIndex(text)
    pieces = re.split(r"(?<=\n)|(?<=\r)(?!\n)", text)
    offset = 0
    for number, piece in enumerate(pieces, 1):
        assert lines.line_start(number) == offset
        for column in range(len(piece)):
            at = offset + column
            byte_column = len(piece[:column].encode())
            assert lines.position(at) == (number, column + 1)
            assert lines.utf8_position(at) == (number, byte_column)
            assert lines.offset(number, byte_column) == at
        offset += len(piece)
    assert lines.position(len(text)) == (len(pieces), len(pieces[-1]) + 1)
