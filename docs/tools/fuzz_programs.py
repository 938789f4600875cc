"""Python programs for docs/tools/fuzz.py, the same ones for the same seed.

They are made of what the rules themselves give as examples, of programs that hypothesmith makes
from Python's grammar, and of real files. Most compile; some are meant not to.
"""

from __future__ import annotations

import ast
import functools
import io
import itertools
import random
import re
import sys
import tokenize
import unicodedata
import warnings
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from porter import catalog
from porter.scan import may_match

#: Kinds of programs, and how many of a hundred are of each.
KINDS = {"compose": 33, "nest": 33, "real": 18, "smith": 11, "bytes": 5}
#: Since PEP 701 an f-string may hold its own quotes.
FREE_QUOTES = sys.version_info >= (3, 12)
#: Larger real files are left out: the time goes into their size, not into new situations.
LARGEST = 200_000
#: How many real files a seed chooses, so that they need not be parsed again for each program.
FILES = 250
#: How many lines of a real file a program takes at most.
MOST_LINES = 45


@dataclass(frozen=True)
class Piece:
    """An example of a rule in parts.

    Args:
        rule: the rule's code.
        changes: whether a target rewrites it.
        imports: its imports at the top level.
        blocks: the other statements there.
        expressions: expressions anywhere in it, each on one line.
    """

    rule: str
    changes: bool
    imports: tuple[str, ...]
    blocks: tuple[str, ...]
    expressions: tuple[str, ...]


@functools.cache
def pieces() -> dict[str, tuple[Piece, ...]]:
    """The examples of all rules for Python, by rule."""
    found: dict[str, list[Piece]] = {}
    for rule in catalog.load().rules:
        for example in rule.examples if not rule.files else ():
            piece = _piece(rule.code, example.changes, example.before)
            if piece is not None:
                found.setdefault(rule.code, []).append(piece)
    return {code: tuple(some) for code, some in found.items()}


@functools.cache
def names() -> tuple[str, ...]:
    """The names in torch that wake a rule."""
    every = {n for rule in catalog.load().rules for n in rule.names}
    return tuple(sorted(n for n in every if re.fullmatch(r"torch(\.\w+)+", n)))


def _piece(rule: str, changes: bool, text: str) -> Piece | None:
    try:
        tree = _parsed(text)
    except SyntaxError:
        return None
    imports, blocks = [], []
    for statement in tree.body:
        segment = _lines_of(text, statement)
        is_import = isinstance(statement, (ast.Import, ast.ImportFrom))
        (imports if is_import else blocks).append(segment)
    return Piece(rule, changes, tuple(imports), tuple(blocks), tuple(_expressions(text, tree)))


def _lines_of(text: str, statement: ast.stmt) -> str:
    first = min([statement.lineno, *(d.lineno for d in getattr(statement, "decorator_list", ()))])
    return "\n".join(text.split("\n")[first - 1 : statement.end_lineno]) + "\n"


_ODD = (ast.Await, ast.Yield, ast.YieldFrom, ast.NamedExpr, ast.Starred)
_KINDS = (ast.Call, ast.Attribute, ast.Compare, ast.Subscript, ast.BoolOp, ast.IfExp, ast.UnaryOp,
          ast.JoinedStr, ast.Dict, ast.BinOp)  # fmt: skip


def _expressions(text: str, tree: ast.Module) -> Iterator[str]:
    for node in ast.walk(tree):
        string = isinstance(node, ast.Constant) and isinstance(node.value, str)
        if not (string or isinstance(node, _KINDS)) or not isinstance(node, ast.expr):
            continue
        if not isinstance(getattr(node, "ctx", ast.Load()), ast.Load):
            continue
        segment = ast.get_source_segment(text, node) or ""
        if "\n" in segment or not 3 < len(segment) < 110:
            continue
        if any(isinstance(inner, _ODD) for inner in ast.walk(node)):
            continue
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                ast.parse(segment, mode="eval")
            except SyntaxError:  # a part of an f-string
                continue
        yield segment


def _parsed(text: str) -> ast.Module:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return ast.parse(text)


def compiles(text: str | bytes) -> bool:
    """Whether this Python takes it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            compile(text, "<case>", "exec", dont_inherit=True)
        except (SyntaxError, ValueError, RecursionError, MemoryError, OverflowError):
            return False
    return True


# Templates --------------------------------------------------------------------------------------
# "§" stands for an expression, "¤" for one within an f-string with double quotes.

STATEMENTS = [
    "§", "y = §", "y: § = §", "y += §", "y = z = §", "(y) = (§)", "y, *z = §, §", "f(§, k=§)",
    "f(*§, **§)", "f(k=§, *§)", "y = § if § else §", "y = [§ for i in § if §]",
    "y = {§: § for i in range(3)}", "y = {*(§ for i in range(2)), §}", "y = {'device': §, **§}",
    "y = lambda *a, k=§: §", "y = lambda: (lambda: §)", "assert §, §", "y = § and § or not §",
    "y = not §", "y = (§) == §", "y = § < § == §", "y = -§ ** §", "y = § + §", "y = (§, §)",
    "y = x[§:§, §]", "x[§] = §", "x.device = §", "del x[§]", "print(§, §, sep='')",
    "if (y := §): pass", "while (y := §) and §: break", "y = f(z := §)", "y = (§).attr",
    "y = (§)[0](1)", "y = §.attr.other", 'y = f"{¤}"', 'y = f"a{¤!r:>{¤}}b"', 'y = f"{¤=}"',
    'y = f"{{}}{¤:{¤}.{¤}}"', 'y = rf"\\d{¤}"', 'y = f"é𝔘{¤}ü{¤}"', 'y = "cuda" f"{¤}" "cuda"',
    'y = f"cuda:{¤}"', 'y = f"cuda:{i}" if § else f"{¤}"', 'y = f"""\n  {¤}\n cuda {¤}"""',
    "y = f\"{f'{i}'}{¤}\"", "y = (§\n     if §  # cuda?\n     else §)", "y = (\n    §\n)",
    "y = [\n    §,\n    §,  # cuda\n]", "y = § \\\n    or §", "try: y = §\nexcept (§): y = §",
    "with §: y = §", "for y in §: z = §", "y = §; z = §", "y = §; z = §;", "global w; w = §",
    "class A(§, metaclass=§): y = §", "def g(a=§, *, b: § = §, **k) -> §: return §",
    "@§\ndef g(): pass", "@f(§)\n@f\nclass B: pass", "async def g(): return await §",
    "async def g():\n    async with § as y: return [§ async for i in § if await §]",
    "def g():\n    y = yield §\n    yield from §\n    return §", "raise f(§) from §",
    "match §:\n    case 'cuda' | \"cpu\" if §: y = §\n    case {'device': d, **r}: y = §\n    case _: pass",
    "if §: y = §\nelif §: y = §\nelse: y = §", "while §:\n    y = §\n    continue\nelse:\n    y = §",
    "try:\n    y = §\nexcept* ValueError:\n    y = §", "type Y = §", "def g[T: §](a: T) -> §: return §",
    "class G[*Ts, **P]: y = §", "y = é, ß = §, \"ü\"", "if §: return §", "return §", "y = §,",
    "'''cuda docs'''; y = §", "y = x if not § else x", "with (§ as a, § as b,): pass",
    "y = (yield)", "lambda: §", "nonlocal_ = §", "y = (  # cuda\n    §  # nccl\n)", "y = x @ §",
    "x = x.to(device); y = §", "device = §", "device = §\nx = x.to(device)\ny = §", "torch_ = §",
    "y = 'é𝔘' * 2 + str(§)", "'é𝔘', §", "y = {\"é\": §, 'ü': [§]}",
]  # fmt: skip

#: What a block is put into: lines before it, its depth, lines behind it.
WRAPS = [
    ("class C{n}:\n", 1, ""),
    ("class C{n}(§, metaclass=§):\n    y = §\n    def m(self, x=§):\n", 2, ""),
    ("class C{n}(Base):\n    def forward(self, x, *args, device=None, **kw):\n", 2, ""),
    ("def f{n}(x, device=None, i=0):\n", 1, ""),
    ('def f{n}(x, device=§, *args, **kw):\n    """cuda docs"""\n', 1, "    return x\n"),
    ("async def f{n}(x):\n", 1, "    await x\n"),
    ("def outer{n}():\n    def inner(x, device):\n", 2, "    return inner\n"),
    ("def gen{n}(x):\n", 1, "    yield §\n"),
    ("if §:\n", 1, "else:\n    y = §\n"),
    ("if x:\n    pass\nelif §:\n", 1, ""),
    ("if x:\n    pass\nelse:\n", 1, ""),
    ("if torch.cuda.is_available():\n", 1, "else:\n    pass\n"),
    ('if device.type == "cuda":\n', 1, ""),
    ("if use_cuda and §:\n", 1, "y = §\n"),
    ("try:\n", 1, "except (§, ValueError) as e:\n    raise\n"),
    ("try:\n", 1, "finally:\n    pass\n"),
    ("try:\n", 1, "except* ValueError:\n    y = §\n"),
    ("try:\n    import a\nexcept ImportError:\n", 1, ""),
    ("with §, § as y:\n", 1, ""),
    ("with (\n    § as a,\n    §,\n):\n", 1, ""),
    ("for i in §:\n", 1, "else:\n    pass\n"),
    ("while §:\n", 1, ""),
    ('match §:\n    case "cuda" | "cpu":\n', 2, "    case str(y) if §:\n        pass\n"),
    ("@§\n@decorate(§)\ndef g{n}(x):\n", 1, ""),
    ("def h{n}[T: §](x: T) -> §:\n", 1, ""),
    ("class D{n}[T]:\n    def m(self):\n", 2, ""),
    ("if TYPE_CHECKING:\n", 1, ""),
    ('if __name__ == "__main__":\n', 1, ""),
    ("@triton.jit\ndef kernel{n}(x):\n", 1, ""),
]

IMPORT_PLACES = [
    ("try:\n", 1, "except ImportError:\n    torch = None\n"),
    ("if §:\n", 1, ""),
    ("from __future__ import annotations\n", 0, ""),
    ('"""cuda docs"""\n', 0, ""),
    ('"""cuda docs"""; ', 0, ""),
    ("#!/usr/bin/env python\n# cuda\n\n", 0, ""),
    ("def setup():\n", 1, ""),
    ("import os; ", 0, ""),
    ("", 0, "import torch.distributed as dist\n"),
    ("", 0, "from torch.cuda.amp import autocast, GradScaler\n"),
    ("", 0, "from .compat import torch\n"),
    ("", 0, "from torch import *\n"),
    ("", 0, "device = torch.device('cpu')\n"),
]
PLAIN = ["x", "i", "0", "None", "True", "'a'", '"cuda"', "x.y", "f(x)", "device", "[1, 2]", "1.5",
         "self.x", "...", "'é𝔘'", "args", "torch.zeros(3)", "torch"]  # fmt: skip
COMMENTS = ["# cuda", "# é cuda ü", "#", "# type: ignore", "# noqa", "#: nccl", "# fmt: skip",
            "# pylint: disable=all; cuda", "#\tx.cuda()"]  # fmt: skip
SILENT = ["# porter: ignore[POR101] known", "# porter: ignore[POR2, POR3]", "# noqa: POR102",
          "# porter: ignore", "# porter: ignore[NO123]"]  # fmt: skip


class Maker:
    """Makes one program out of random numbers."""

    def __init__(self, rng: random.Random) -> None:
        """Take the numbers from `rng`."""
        self.rng = rng
        self.number = 0
        self.chosen: list[Piece] = []

    def choose(self, count: int) -> None:
        """Choose examples to work with: rules equally often, those that change something more."""
        every = pieces()
        codes = sorted(every)
        for number in range(count):
            code = self.rng.choice(codes)
            some = every[code]
            changing = [p for p in some if p.changes]
            while not changing and self.rng.random() < (0.5 if number else 0.9):
                some = every[self.rng.choice(codes)]
                changing = [p for p in some if p.changes]
            if changing and self.rng.random() < 0.8:
                some = tuple(changing)
            self.chosen.append(self.rng.choice(some))

    def expression(self, depth: int = 0) -> str:
        """An expression, now and then made of others."""
        roll = self.rng.random()
        if roll < 0.12:
            return self.rng.choice(PLAIN)
        if roll < 0.16:
            return self.rng.choice(names()) + self.rng.choice(
                ["(x)", "()", "(x, device=device)", ""]
            )
        if roll < 0.25 and depth < 2:
            template = self.rng.choice(STATEMENTS)
            if template.startswith("y = ") and "\n" not in template and ";" not in template:
                return f"({self.fill(template[4:], depth + 1)})"
        some = self.rng.choice(self.chosen).expressions if self.chosen else ()
        return self.rng.choice(some) if some else self.rng.choice(PLAIN)

    def fill(self, template: str, depth: int = 0) -> str:
        """The template with an expression for each place."""

        def filled(match: re.Match[str]) -> str:
            text = self.expression(depth)
            if match[0] == "¤":
                if not (FREE_QUOTES and self.rng.random() < 0.3):
                    text = text.replace('"', "'")
                if text.startswith("{"):
                    text = f"({text})"
            return text

        return re.sub("[§¤]", filled, template)

    def statement(self) -> str:
        """A statement, perhaps of several lines, that ends in a newline."""
        return self.fill(self.rng.choice(STATEMENTS)) + "\n"

    def wrap(self, block: str, within: Sequence[tuple[str, int, str]] = WRAPS) -> str:
        """The block within one of the constructs."""
        head, depth, tail = self.rng.choice(within)
        self.number += 1
        head = head.replace("{n}", str(self.number))
        return self.fill(head) + indented(block, depth) + self.fill(tail)

    def imports(self) -> str:
        """The imports of the chosen examples, mostly at the top."""
        lines = list(dict.fromkeys(line for p in self.chosen for line in p.imports))
        if self.rng.random() < 0.9 and "import torch\n" not in lines:
            lines.insert(0, "import torch\n")
        if self.rng.random() < 0.2:
            self.rng.shuffle(lines)
        text = "".join(sorted(lines, key=lambda line: "__future__" not in line))
        if self.rng.random() < 0.25 and "__future__" not in text:
            text = self.wrap(text, IMPORT_PLACES)
        return text

    # Programs -----------------------------------------------------------------------------------

    def compose(self) -> str:
        """Examples of several rules, in and beside each other."""
        self.choose(self.rng.choice([1, 1, 2, 2, 3, 4]))
        blocks = []
        for piece in self.chosen:
            text = "".join(piece.blocks)
            for _ in range(self.rng.choice([0, 0, 1, 1, 2])):
                text = self.wrap(text)
            blocks.append(text)
        for _ in range(self.rng.choice([0, 0, 1, 2])):
            text = self.statement()
            blocks.append(self.wrap(text) if self.rng.random() < 0.6 else text)
        if self.rng.random() < 0.3:
            self.rng.shuffle(blocks)
        return self.imports() + self.rng.choice(["", "\n", "\n\n"]) + "".join(blocks)

    def nest(self) -> str:
        """Expressions of the examples wherever Python's grammar takes one."""
        self.choose(self.rng.choice([1, 2, 3]))
        blocks = []
        for _ in range(self.rng.choice([1, 1, 2, 3])):
            body = "".join(self.statement() for _ in range(self.rng.choice([1, 2, 3, 4])))
            for _ in range(self.rng.choice([0, 1, 1, 2])):
                body = self.wrap(body)
            blocks.append(body)
        return self.imports() + "".join(blocks)

    def smith(self, programs: Sequence[str]) -> str:
        """A program of hypothesmith with device code spliced in."""
        self.choose(self.rng.choice([1, 2]))
        text = self.rng.choice(programs)
        for _ in range(self.rng.choice([1, 2, 3])):
            text = self._spliced(text)
        if self.rng.random() < 0.9:
            text = self.imports() + text
        return text

    def _spliced(self, text: str) -> str:
        if self.rng.random() < 0.5:
            return replaced_expression(text, self.rng, lambda: f"({self.expression()})")
        try:
            tree = _parsed(text)
        except (SyntaxError, ValueError, RecursionError):
            return text + self.statement()
        places = Places(text)
        starts = [
            places.at(n.lineno, n.col_offset) for n in ast.walk(tree) if isinstance(n, ast.stmt)
        ]
        if not starts:
            return text + self.statement()
        at = self.rng.choice(starts)
        lead = text[places.line_start(at) : at]
        block = self.statement() if self.rng.random() < 0.6 else "".join(self.chosen[0].blocks)
        if lead.strip(" \t\f"):
            simple = self.fill("y = §; ")
            return text[:at] + simple + text[at:]
        return text[:at] + block.rstrip("\n").replace("\n", "\n" + lead) + "\n" + lead + text[at:]

    def real(self, corpus: Corpus) -> str:
        """A part of a real file, changed at random."""
        self.choose(1)
        text = corpus.excerpt(self.rng)
        for _ in range(self.rng.choice([0, 1, 1, 2, 3])):
            change = self.rng.choice(MUTATIONS)
            changed = change(text, self, corpus)
            if compiles(changed) or self.rng.random() < 0.04:
                text = changed
        return text


def indented(text: str, depth: int) -> str:
    """The text, `depth` levels deeper."""
    lead = "    " * depth
    return "".join(lead + line if line.strip() else line for line in text.splitlines(True))


# Positions --------------------------------------------------------------------------------------


class Places:
    """Offsets of the positions that ast and tokenize give, for text whose lines end as Python's."""

    def __init__(self, text: str) -> None:
        """Index the lines."""
        self.text = text
        self.starts = [0, *(m.end() for m in re.finditer(r"\r\n?|\n", text))]

    def at(self, line: int, column: int) -> int:
        """The offset of ast's line and column, which counts bytes of UTF-8."""
        start = self.starts[line - 1]
        end = self.starts[line] if line < len(self.starts) else len(self.text)
        return start + len(self.text[start:end].encode()[:column].decode("utf-8", "ignore"))

    def token(self, position: tuple[int, int]) -> int:
        """The offset of a token's position, which counts characters."""
        line, column = position
        if line > len(self.starts):
            return len(self.text)
        return min(self.starts[line - 1] + column, len(self.text))

    def line_start(self, offset: int) -> int:
        """Where the line begins that holds the offset."""
        return self.starts[bisect_right(self.starts, offset) - 1]

    def span(self, node: Any) -> tuple[int, int]:
        """The offsets of a node."""
        return (
            self.at(node.lineno, node.col_offset),
            self.at(node.end_lineno, node.end_col_offset),
        )


def tokens(text: str) -> list[tokenize.TokenInfo]:
    """The tokens, as far as they can be read."""
    found = []
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            for token in tokenize.generate_tokens(io.StringIO(text, newline="").readline):
                found.append(token)
        except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
            pass
    return found


_START = getattr(tokenize, "FSTRING_START", -1)
_END = getattr(tokenize, "FSTRING_END", -1)
_LAYOUT = {tokenize.NEWLINE, tokenize.NL, tokenize.INDENT, tokenize.DEDENT, tokenize.ENDMARKER,
           tokenize.ENCODING}  # fmt: skip


def outside(found: Sequence[tokenize.TokenInfo]) -> list[bool]:
    """For each token, whether it stands outside of f-strings."""
    depth, result = 0, []
    for token in found:
        depth += token.type == _START
        result.append(depth == 0)
        depth -= token.type == _END
    return result


def string_lines(found: Sequence[tokenize.TokenInfo]) -> set[int]:
    """The lines that begin within a string."""
    lines: set[int] = set()
    started: list[int] = []
    for token in found:
        if token.type == tokenize.STRING:
            lines.update(range(token.start[0] + 1, token.end[0] + 1))
        elif token.type == _START:
            started.append(token.start[0])
        elif token.type == _END and started:
            lines.update(range(started.pop() + 1, token.end[0] + 1))
    return lines


def nodes(text: str, kinds: tuple[type, ...]) -> list[Any]:
    """The nodes of some kinds that stand outside of f-strings."""
    try:
        tree = _parsed(text)
    except (SyntaxError, ValueError, RecursionError):
        return []
    hidden = {
        id(inner)
        for node in ast.walk(tree)
        if isinstance(node, ast.JoinedStr)
        for inner in ast.walk(node)
        if inner is not node
    }
    return [n for n in ast.walk(tree) if isinstance(n, kinds) and id(n) not in hidden]


def replaced_expression(text: str, rng: random.Random, make: Callable[[], str]) -> str:
    """The text with one expression replaced."""
    found = [
        n for n in nodes(text, (ast.expr,)) if isinstance(getattr(n, "ctx", ast.Load()), ast.Load)
    ]
    if not found:
        return text
    start, end = Places(text).span(rng.choice(found))
    return text[:start] + make() + text[end:]


def substituted(text: str, changes: Sequence[tuple[int, int, str]]) -> str:
    """The text with replacements, of which the later ones of overlapping ones are dropped."""
    out, last = [], 0
    for start, end, new in sorted(changes):
        if start >= last:
            out += [text[last:start], new]
            last = end
    return "".join([*out, text[last:]])


# Names ------------------------------------------------------------------------------------------


def aliased(text: str, rng: random.Random) -> str:
    """The same program with torch or a part of it under another name."""
    if not re.search(r"^import torch$", text, re.MULTILINE):
        return text
    attributes = [n for n in nodes(text, (ast.Attribute,)) if _dotted(n).startswith("torch.")]
    short = rng.choice(["t", "th", "c", "tc", "ç", "cuda", "_torch"])
    places = Places(text)
    way = rng.randrange(5)
    if way == 0:
        names = [n for n in nodes(text, (ast.Name,)) if n.id == "torch"]
        changes = [(*places.span(n), short) for n in names]
        return re.sub(r"^import torch$", f"import torch as {short}", substituted(text, changes),
                      flags=re.MULTILINE)  # fmt: skip
    if not attributes:
        return text
    dotted = _dotted(rng.choice(attributes))
    parent, _, last = dotted.rpartition(".")
    if way == 4:
        changes = [(*places.span(n), f'getattr({parent}, "{last}")')
                   for n in attributes if _dotted(n) == dotted]  # fmt: skip
        return substituted(text, changes)
    changes = [(*places.span(n), short) for n in attributes if _dotted(n) == dotted]
    line = {
        1: f"from {parent} import {last} as {short}",
        2: f"import torch\n{short} = {dotted}",
        3: f"import torch\nimport {dotted} as {short}",
    }[way]
    return re.sub(r"^import torch$", line, substituted(text, changes), count=1, flags=re.MULTILINE)


def _dotted(node: Any) -> str:
    if isinstance(node, ast.Name):
        return node.id
    if isinstance(node, ast.Attribute):
        base = _dotted(node.value)
        return f"{base}.{node.attr}" if base else ""
    return ""


def renamed(text: str, rng: random.Random) -> str:
    """The same program with a variable in another script."""
    old = rng.choice(["x", "y", "i", "model", "device", "f", "self", "args", "m"])
    new = rng.choice(["ξ", "模型", "ñandú", "ⅷ", "𐐷x", "cuda", "npu", "torch_npu", "accelerator"])
    return _named(text, lambda name: new if name == old else name)


def styled(text: str, rng: random.Random) -> str:
    """Some names in mathematical letters, which Python reads as plain ones (PEP 3131)."""

    def other(name: str) -> str:
        if rng.random() > 0.1 or not name.isascii() or not name.isalpha():
            return name
        at = rng.randrange(len(name))
        letter = chr(
            (0x1D5BA if name[at].islower() else 0x1D5A0) + ord(name[at].lower()) - ord("a")
        )
        if unicodedata.normalize("NFKC", letter) != name[at]:
            return name
        return name[:at] + letter + name[at + 1 :]

    return _named(text, other)


def _named(text: str, new: Callable[[str], str]) -> str:
    places = Places(text)
    found = tokens(text)
    changes = []
    for token, free in zip(found, outside(found), strict=True):
        if token.type == tokenize.NAME and free and new(token.string) is not token.string:
            changes.append((places.token(token.start), places.token(token.end), new(token.string)))
    return substituted(text, changes)


# Layout -----------------------------------------------------------------------------------------


def spaced(text: str, rng: random.Random) -> str:
    """More space, continued lines and comments between tokens."""
    places, found = Places(text), tokens(text)
    rate = rng.choice([0.03, 0.1, 0.3])
    changes, depth, first = [], 0, True
    previous: tokenize.TokenInfo | None = None
    for token, free in zip(found, outside(found), strict=True):
        if token.type in _LAYOUT or token.type == tokenize.COMMENT:
            first = first or token.type == tokenize.NEWLINE
            previous = None if token.type in _LAYOUT else token
            continue
        same = previous is not None and previous.end[0] == token.start[0]
        if not first and free and same and previous is not None and rng.random() < rate:
            start, end = places.token(previous.end), places.token(token.start)
            ways = ["  ", "\t", " \f ", " \\\n   ", " \\\n"]
            if depth:
                ways += ["\n", "\n\n    ", f"  {rng.choice(COMMENTS)}\n  ", " \n# cuda\n\t"]
            changes.append((start, end, rng.choice(ways)))
        if token.type == tokenize.OP:
            depth += (token.string in "([{") - (token.string in ")]}")
        first, previous = False, token
    return substituted(text, changes)


def commented(text: str, rng: random.Random) -> str:
    """Comments at ends of lines and on lines of their own."""
    places, found = Places(text), tokens(text)
    changes = []
    for token in found:
        if token.type in (tokenize.NEWLINE, tokenize.NL) and rng.random() < 0.15 and token.string:
            at = places.token(token.start)
            if text[places.line_start(at) : at].rstrip().endswith("\\"):
                continue
            own = "\n" + " " * rng.randrange(6) + rng.choice(COMMENTS)
            line = text[places.line_start(at) : at]
            changes.append((at, at, own if "#" in line else f"  {rng.choice(COMMENTS)}"))
    return substituted(text, changes)


def silenced(text: str, rng: random.Random) -> str:
    """One comment that speaks to porter."""
    lines = text.split("\n")
    at = rng.randrange(len(lines))
    if rng.random() < 0.05:
        return "# porter: file-ignore[POR1]\n" + text
    lines[at] += "  " + rng.choice(SILENT)
    return "\n".join(lines)


def joined(text: str, rng: random.Random) -> str:
    """Two lines as one, with a semicolon."""
    places = Places(text)
    pairs = []
    for node in nodes(text, (ast.AST,)):
        for block in (getattr(node, "body", None), getattr(node, "orelse", None)):
            if isinstance(block, list):
                pairs += [(a, b) for a, b in itertools.pairwise(block)
                          if not hasattr(a, "body") and not hasattr(b, "body")]  # fmt: skip
    if not pairs:
        return text
    changes = []
    for a, b in rng.sample(pairs, min(len(pairs), rng.choice([1, 2, 5]))):
        changes.append((places.span(a)[1], places.span(b)[0], rng.choice(["; ", ";", " ;\t"])))
    return substituted(text, changes)


def one_line(text: str, rng: random.Random) -> str:
    """The body of a compound statement behind its colon."""
    places = Places(text)
    some = []
    for node in nodes(text, (ast.stmt,)):
        body = getattr(node, "body", None)
        if isinstance(body, list) and body and not any(hasattr(s, "body") for s in body):
            some.append(body)
    if not some:
        return text
    body = rng.choice(some)
    start = places.span(body[0])[0]
    colon = text.rfind(":", 0, start)
    if "#" in text[colon:start] or '"' in text[colon:start]:
        return text
    changes = [(colon + 1, start, " ")]
    for a, b in itertools.pairwise(body):
        changes.append((places.span(a)[1], places.span(b)[0], "; "))
    return substituted(text, changes)


def bracketed(text: str, rng: random.Random) -> str:
    """Expressions in parentheses, perhaps over several lines."""
    found = [
        n for n in nodes(text, (ast.expr,)) if isinstance(getattr(n, "ctx", ast.Load()), ast.Load)
    ]
    places, changes = Places(text), []
    for node in rng.sample(found, min(len(found), rng.choice([1, 2, 4]))):
        start, end = places.span(node)
        left, right = rng.choice(
            [("(", ")"), ("((", "))"), ("(\n", "\n)"), ("(  # cuda\n  ", "\n)"), ("( ", " )")]
        )
        changes.append((start, end, left + text[start:end] + right))
    return substituted(text, changes)


def strings(text: str, rng: random.Random) -> str:
    """String literals written in other ways."""
    places, found = Places(text), tokens(text)
    changes = []
    for token, free in zip(found, outside(found), strict=True):
        match = re.fullmatch(r"(['\"])([\w:.\-/ ]+)\1", token.string)
        if token.type != tokenize.STRING or not match or not free or rng.random() > 0.3:
            continue
        body = match[2]
        at = rng.randrange(len(body) + 1)
        head, tail = body[:at], body[at:]
        ways = [f"'{body}'", f'"{body}"', f'"""{body}"""', f"r'{body}'", f'u"{body}"', f'f"{body}"',
                f"'{head}' \"{tail}\"", f"('{head}'\n '{tail}')", f'"{head}\\\n{tail}"', f'("{body}")',
                f'"{body}" ""', f'"{head}" + "{tail}"', f'b"{body}"'.replace("b", "R", 1)]  # fmt: skip
        if tail and tail[0].isascii():
            ways += [
                f'"{head}\\x{ord(tail[0]):02x}{tail[1:]}"',
                f'"{head}\\{ord(tail[0]):03o}{tail[1:]}"',
            ]
        changes.append((places.token(token.start), places.token(token.end), rng.choice(ways)))
    return substituted(text, changes)


def prefixed(text: str, rng: random.Random) -> str:
    """Wide characters before a statement on its line."""
    places = Places(text)
    simple = [n for n in nodes(text, (ast.stmt,)) if not hasattr(n, "body")]
    simple = [n for n in simple if not (isinstance(n, ast.ImportFrom) and n.module == "__future__")]
    changes = []
    for node in rng.sample(simple, min(len(simple), rng.choice([1, 3]))):
        at = places.span(node)[0]
        lead = rng.choice(['é = "ü𝔘"; ', '"\U0001f600";', "ß, ü = 'é', 1; ", "ñ: 'ß' = 2 ;\t"])
        changes.append((at, at, lead))
    return substituted(text, changes)


def tabbed(text: str, rng: random.Random) -> str:
    """Indents by tabs, two spaces, or both."""
    unit = rng.choice(["\t", "  ", "\t", "        \t", " "])
    inside = string_lines(tokens(text))
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        if number not in inside:
            stripped = line.lstrip(" ")
            depth, rest = divmod(len(line) - len(stripped), 4)
            lines[number - 1] = unit * depth + " " * rest + stripped
    return "\n".join(lines)


def fed(text: str, rng: random.Random) -> str:
    """Form feeds, trailing and blank space."""
    inside = string_lines(tokens(text))
    lines = text.split("\n")
    for _ in range(rng.choice([1, 2, 5])):
        at = rng.randrange(len(lines))
        if at + 1 in inside:
            continue
        way = rng.randrange(5)
        before = lines[at - 1] if at else ""
        if way == 0 and not before.endswith("\\"):
            lines[at] = "\f" + lines[at]
        elif way == 1 and not lines[at].endswith("\\"):
            lines[at] += rng.choice(["  ", "\t", " \f"])
        elif way == 2 and not before.endswith("\\"):
            lines[at] = rng.choice(["", "   ", "\t", "\f"]) + "\n" + lines[at]
        elif way == 3 and not lines[at].endswith("\\") and "\u2028" not in lines[at]:
            lines[at] += "  # \u2028\x85 \x0b\x1c"  # ends of lines for str.splitlines alone
        else:
            lines[at] = lines[at].rstrip() + (" ;" if re.search(r"[\w)\]]$", lines[at]) else "")
    return "\n".join(lines)


LAYOUTS = [
    (aliased, 0.25), (renamed, 0.08), (styled, 0.04), (strings, 0.12), (bracketed, 0.15),
    (prefixed, 0.12), (joined, 0.15), (one_line, 0.1), (spaced, 0.2), (commented, 0.15),
    (silenced, 0.05), (tabbed, 0.12), (fed, 0.12),
]  # fmt: skip


def laid_out(text: str, rng: random.Random) -> str:
    """The program with some of the layouts; what would no longer compile is left out."""
    good = compiles(text)
    for layout, share in LAYOUTS:
        if rng.random() >= share:
            continue
        changed = layout(text, rng)
        if changed != text and (compiles(changed) or not good):
            text = changed
    return text


def encoded(text: str, rng: random.Random) -> bytes:
    """The program as bytes: line ends, byte order mark, coding line, end of the file."""
    roll = rng.random()
    if rng.random() < 0.12:
        text = text.rstrip("\n")
    if rng.random() < 0.05:
        text = rng.choice(["\n", "\n\n", " \n", "# cuda\n", "\f\n", "\\\n"]) + text
    if rng.random() < 0.03:
        text += rng.choice(["\\\n", "   ", "#", "\f", "\n\n\n", "\t\n"])
    coding = ""
    if roll < 0.08:
        coding = rng.choice(["latin-1", "utf-8", "cp1252", "utf8", "iso-8859-15", "latin-1-unix",
                             "ascii", "utf-8-sig", "cp932", "gbk"])  # fmt: skip
        line = rng.choice(["# -*- coding: {} -*-", "# vim: set fileencoding={} :", "#coding={}"])
        shebang = rng.choice(["", "#!/usr/bin/python\n", "\n"])
        text = shebang + line.format(coding) + "\n" + text
    newline = rng.choices(["\n", "\r\n", "\r", "mixed"], [70, 20, 5, 5])[0]
    if newline == "mixed":
        text = "".join(
            line + rng.choice(["\n", "\r\n", "\n", "\r"]) for line in text.split("\n")[:-1]
        ) + text.split("\n")[-1]  # fmt: skip
    elif newline != "\n":
        text = text.replace("\n", newline)
    if coding:
        name = "latin-1" if coding == "latin-1-unix" else coding
        try:
            return text.encode("utf-8" if name == "utf-8-sig" else name)
        except UnicodeEncodeError:
            text = text.encode("ascii", "replace").decode().replace("?", "e")
            return text.encode()
    mark = b"\xef\xbb\xbf" if rng.random() < 0.06 else b""
    return mark + text.encode("utf-8", "surrogatepass")


def broken(data: bytes, rng: random.Random) -> bytes:
    """Bytes that may be anything."""
    out = bytearray(data)
    for _ in range(rng.choice([1, 1, 2, 8])):
        at = rng.randrange(len(out) + 1)
        way = rng.randrange(8)
        if way == 0 and at < len(out):
            out[at] = rng.randrange(256)
        elif way == 1:
            out[at:at] = bytes([rng.randrange(256)])
        elif way == 2:
            del out[at : at + rng.choice([1, 2, 10])]
        elif way == 3 and rng.random() < 0.3:
            del out[at:]
        elif way == 4:
            out[at:at] = rng.choice([b"\0", b"\xef\xbb\xbf", b"\xff\xfe", b"\xed\xa0\x80", b"\x1a"])
        elif way == 5:
            out[0:0] = rng.choice([b"# coding: utf-7\n", b"# coding: nope\n", b"# coding: hex\n",
                                   b"# coding: utf-16\n", b"\xff\xfe", b"\xef\xbb\xbf# coding: gbk\n",
                                   b"# coding: ascii\n", b"# coding: euc-jp\n"])  # fmt: skip
        elif way == 6:
            out[at:at] = rng.choice([b"(" * 120, b"-" * 300, b"x." * 400 + b"y", b"print 'a'\n",
                                     b"\\", b"'''", b'f"{', b"}", b"\n\t \n x", b"not " * 250])  # fmt: skip
        else:
            out[at:at] = out[at : at + 30]
    return bytes(out) if rng.random() > 0.02 else b""


# Real files -------------------------------------------------------------------------------------


@dataclass
class Corpus:
    """Real files that rules may look at."""

    files: Sequence[Path]
    marker: re.Pattern[str] = field(default=re.compile(
        r"\bcuda|nccl|npu\b|autocast|GradScaler|\bis_cuda"
    ))  # fmt: skip

    @classmethod
    def of(cls, folder: Path, seed: int) -> Corpus:
        """Some of the files below a folder in which rules may find something."""
        marker = catalog.load().marker
        every = sorted(folder.rglob("*.py"))
        found: list[Path] = []
        for path in random.Random(seed).sample(every, len(every)):
            if (
                path.is_file()
                and path.stat().st_size < LARGEST
                and may_match(path.read_bytes(), marker)
            ):
                found.append(path)
            if len(found) == FILES:
                break
        return cls(found)

    def excerpt(self, rng: random.Random) -> str:
        """The imports of a file and some of its statements."""
        for _ in range(20):
            header, parts = _parts(rng.choice(self.files))
            keep = [line for line in header if "torch" in line or rng.random() < 0.2]
            good = [p for p in parts if self.marker.search(p)]
            if not good and rng.random() < 0.95:
                continue
            some = rng.sample(good or parts, min(len(good or parts), rng.choice([1, 1, 2, 3])))
            lines = [line for part in some for line in [*part.split("\n"), ""]]
            return "".join(keep) + "\n".join(lines[: MOST_LINES * 2])
        return "import torch\n"


@functools.lru_cache(maxsize=FILES)
def _parts(path: Path) -> tuple[list[str], list[str]]:
    """The imports of a file, and its other statements; long classes without most methods."""
    try:
        text = re.sub(r"\r\n?", "\n", path.read_bytes().decode())
        tree = _parsed(text)
    except (SyntaxError, ValueError):
        return [], ["x = 1\n"]
    header, parts = [], []
    for number, statement in enumerate(tree.body):
        segment = _lines_of(text, statement)
        trial = isinstance(statement, (ast.Try, ast.If)) and "import " in segment and number < 40
        if isinstance(statement, (ast.Import, ast.ImportFrom)) or (
            trial and segment.count("\n") < 9
        ):
            header.append(segment)
        elif segment.count("\n") <= MOST_LINES:
            parts.append(segment)
        elif isinstance(statement, ast.ClassDef):
            head = _lines_of(text, statement).split("\n")[
                : statement.body[0].lineno - statement.lineno
            ]
            parts += ["\n".join(head) + "\n" + inner for inner in (
                _lines_of(text, s) for s in statement.body) if inner.count("\n") <= MOST_LINES]  # fmt: skip
    return header, parts or ["x = 1\n"]


def _without(text: str, maker: Maker, corpus: Corpus) -> str:
    return _at_token(text, maker.rng, lambda a, b: "")


def _twice(text: str, maker: Maker, corpus: Corpus) -> str:
    return _at_token(text, maker.rng, lambda a, b: f"{a} {a}")


def _swapped(text: str, maker: Maker, corpus: Corpus) -> str:
    return _at_token(text, maker.rng, lambda a, b: b)


def _at_token(text: str, rng: random.Random, new: Callable[[str, str], str]) -> str:
    """Up to six tries to change a token so that the program compiles."""
    places = Places(text)
    found = tokens(text)
    some = [t for t, free in zip(found, outside(found), strict=True)
            if free and t.type in (tokenize.NAME, tokenize.OP, tokenize.NUMBER, tokenize.STRING)]  # fmt: skip
    changed = text
    for _ in range(6 if some else 0):
        token, other = rng.choice(some), rng.choice(some)
        start, end = places.token(token.start), places.token(token.end)
        changed = text[:start] + new(token.string, other.string) + text[end:]
        if changed != text and compiles(changed):
            break
    return changed


def _spliced_lines(text: str, maker: Maker, corpus: Corpus) -> str:
    other = corpus.excerpt(maker.rng).split("\n")
    lines = text.split("\n")
    for _ in range(6):
        at, start = maker.rng.randrange(len(lines)), maker.rng.randrange(len(other))
        some = other[start : start + maker.rng.choice([1, 2, 5])]
        here = re.match(r"\s*", lines[at])
        lead = here[0] if here else ""
        changed = "\n".join([*lines[:at], *(lead + s.lstrip() for s in some), *lines[at:]])
        if compiles(changed):
            return changed
    return text


def _without_lines(text: str, maker: Maker, corpus: Corpus) -> str:
    lines = text.split("\n")
    for _ in range(6):
        at = maker.rng.randrange(len(lines))
        changed = "\n".join(lines[:at] + lines[at + maker.rng.choice([1, 1, 2, 4]) :])
        if compiles(changed):
            return changed
    return text


def _wrapped(text: str, maker: Maker, corpus: Corpus) -> str:
    return maker.wrap(text)


def _other_expression(text: str, maker: Maker, corpus: Corpus) -> str:
    return replaced_expression(text, maker.rng, lambda: f"({maker.expression()})")


def _spliced_statement(text: str, maker: Maker, corpus: Corpus) -> str:
    return maker._spliced(text)


MUTATIONS = [_without, _twice, _swapped, _spliced_lines, _without_lines, _wrapped,
             _other_expression, _spliced_statement]  # fmt: skip


# Hypothesmith -----------------------------------------------------------------------------------


def smithed(seed: int, count: int) -> list[str]:
    """Programs that hypothesmith makes from Python's grammar; none if it is not installed."""
    try:
        import hypothesmith
        from hypothesis import HealthCheck, Phase, given, settings
        from hypothesis import seed as seeded
    except ImportError:
        return []
    found: list[str] = []
    for strategy in (hypothesmith.from_grammar(), hypothesmith.from_node()):

        @seeded(seed)
        @settings(
            max_examples=count // 2 + 1,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        @given(strategy)
        def collect(text: str) -> None:
            found.append(text)

        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            collect()
    return sorted(set(found))


# All together -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Sources:
    """What programs are made of besides the examples."""

    corpus: Corpus | None = None
    smith: Sequence[str] = ()

    def kinds(self) -> dict[str, int]:
        """The kinds that can be made, with their shares."""
        missing = {"real"} if not (self.corpus and self.corpus.files) else set()
        missing |= {"smith"} if not self.smith else set()
        return {kind: share for kind, share in KINDS.items() if kind not in missing}


def program(kind: str, rng: random.Random, sources: Sources) -> bytes:
    """One program."""
    for attempt in range(4):
        maker = Maker(rng)
        text = _text(kind, maker, rng, sources)
        # A program that does not compile says little; some are wanted all the same.
        if compiles(text) or rng.random() < 0.05 or attempt == 3:
            break
    text = laid_out(text, rng)
    data = encoded(text, rng)
    return broken(data, rng) if kind == "bytes" else data


def _text(kind: str, maker: Maker, rng: random.Random, sources: Sources) -> str:
    if kind == "real" and sources.corpus:
        return maker.real(sources.corpus)
    if kind == "smith":
        return maker.smith(sources.smith)
    if kind == "compose" or rng.random() < 0.5:
        return maker.compose()
    return maker.nest()
