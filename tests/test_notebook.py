"""Notebooks: one Python text out of the cells, changes back into the same bytes."""

from __future__ import annotations

import ast
import json
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porter import ipython
from porter.notebook import CellPosition, Notebook, parse_python
from porter.source import SourceProblem


@dataclass(frozen=True)
class Edit:
    start: int
    end: int
    text: str


def code(source: object, **more: object) -> dict[str, Any]:
    return {"cell_type": "code", "metadata": {}, "outputs": [], "source": source, **more}


def notebook(*cells: dict[str, Any], **more: object) -> dict[str, Any]:
    return {"cells": list(cells), "metadata": {}, "nbformat": 4, "nbformat_minor": 5, **more}


def written(*sources: object, indent: int | None = 1) -> bytes:
    return json.dumps(notebook(*map(code, sources)), indent=indent, ensure_ascii=False).encode()


def sources(data: bytes) -> list[str]:
    return ["".join(cell["source"]) for cell in json.loads(data)["cells"]]


def replaced(data: bytes, old: str, new: str) -> bytes:
    book = Notebook.parse(data)
    start = book.text.index(old)
    return book.apply([Edit(start, start + len(old), new)])


# Reading


def test_only_code_cells_become_text() -> None:
    data = json.dumps(
        notebook(
            {"cell_type": "markdown", "source": ["# title"]},
            code(["a = 1\n", "b = 2"]),
            {"cell_type": "raw", "source": "raw"},
            code("c = 3\n"),
            code([]),
        )
    ).encode()
    book = Notebook.parse(data)
    assert book.text == "a = 1\nb = 2\n# %% cell 3\nc = 3\n\n# %% cell 4\n"
    assert book.locate(book.text.index("b")) == CellPosition(1, 2, 0)
    assert book.locate(book.text.index("= 3")) == CellPosition(3, 1, 2)
    assert book.locate(0) == CellPosition(1, 1, 0)
    assert book.locate(len(book.text)) == CellPosition(4, 1, 0)
    assert book.locate(book.text.index("# %% cell 3")) == CellPosition(1, 2, 5)


def test_the_border_line_is_not_in_any_cell() -> None:
    book = Notebook.parse(written("# %% cell 1\n", "x"))
    assert book.text == "# %% cell 1\n\n# %%% cell 1\nx"


def test_lines_of_a_cell_end_as_python_lines_do() -> None:
    book = Notebook.parse(written("a\r\nb\rc # \x0c\u2028 d\ne"))
    assert book.locate(book.text.index("d")).line == 3
    assert book.locate(book.text.index("e")) == CellPosition(0, 4, 0)


def test_format_3() -> None:
    cell = {"cell_type": "code", "language": "python", "input": ["x = 1\n", "y"], "outputs": []}
    other = {"cell_type": "code", "language": "ruby", "input": "puts 1"}
    data = json.dumps(
        {"nbformat": 3, "metadata": {}, "worksheets": [{"cells": [cell, other]}, {"cells": [cell]}]}
    ).encode()
    book = Notebook.parse(data)
    assert book.text == "x = 1\ny\n# %% cell 2\nx = 1\ny"
    new = book.rewrite(book.text.replace("x = 1\ny\n#", "x = 2\ny\n#"))
    assert new == data.replace(b"x = 1", b"x = 2", 1)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"", "the notebook is empty"),
        (b" \n", "the notebook is empty"),
        (b"{}", "names no format version"),
        (b"[1]", "names no format version"),
        (b'{"nbformat": 5, "cells": []}', "format 5 is not supported"),
        (b'{"nbformat": 4,\n "cells": [}', "expected a value at line 2, column 12"),
        (b'{"nbformat": 4', "unexpected end"),
        (b'{"nbformat": 4}}', "more text after the end"),
        (b'{"nbformat": 4,}', "expected a key"),
        (b'{"nbformat" 4}', "expected ':'"),
        (b'{"nbformat": 4 "a"}', "expected ',' or '}'"),
        (b'{"nbformat": "4', "unterminated string"),
        (b"\xff", "not valid utf-8"),
        (json.dumps(notebook(code([1]))).encode(), "cell 0: the source is not text"),
        (json.dumps(notebook(code({}))).encode(), "cell 0: the source is not text"),
        (b'{"nbformat":4,"cells":[{"cell_type":"code","source":"\\x"}]}', "wrong escape"),
        (b'{"nbformat":4,"cells":[{"cell_type":"code","source":"\n"}]}', "control character"),
    ],
)
def test_what_is_no_notebook(data: bytes, message: str) -> None:
    with pytest.raises(SourceProblem) as caught:
        Notebook.parse(data)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


@pytest.mark.parametrize(
    "metadata",
    [{"kernelspec": {"language": "R"}}, {"language_info": {"name": "julia"}, "kernelspec": None}],
)
def test_other_languages(metadata: object) -> None:
    with pytest.raises(SourceProblem, match="not Python"):
        Notebook.parse(json.dumps(notebook(code("x"), metadata=metadata)).encode())


def test_cell_of_another_language() -> None:
    metadata = {"vscode": {"languageId": "shellscript"}}
    data = json.dumps(notebook(code("ls -l", metadata=metadata), code("x"))).encode()
    assert Notebook.parse(data).text == "x"


def test_duplicate_keys_and_deep_nesting() -> None:
    deep = "[" * 50_000 + "]" * 50_000
    text = (
        '{"nbformat": 4, "nbformat": 4, "cells": [{"cell_type": "code", "source": "old", '
        f'"outputs": {deep}, "source": ["x = 1"]}}], "metadata": {{"n": NaN}}}}'
    )
    book = Notebook.parse(text.encode())
    assert book.text == "x = 1"
    assert book.rewrite("x = 2").decode() == text.replace("x = 1", "x = 2")


def test_byte_order_mark() -> None:
    data = b"\xef\xbb\xbf" + written("x = 1")
    assert replaced(data, "1", "2") == data.replace(b"x = 1", b"x = 2")


# Magics


@pytest.mark.parametrize(
    "source",
    [
        "%matplotlib inline\nx = 1",
        "!pip install torch\n",
        "if a:\n    !pip install \\\n      torch\nelse:\n\t%cd ..\n\ty = 1",
        "for x in y:\n  !x\n  ?y\n  !\n",
        "files = !ls\nx = %env HOME\nd['a'] = !ls -l\na, b = !ls\nif c: y = !ls",
        "torch.cuda?\n",
        "x = torch.cuda.foo??\n?torch\n%timeit?\n",
        "%%time\nx = 1\n",
        "\n\n%%capture out\n%%time\n%env A=1\nx = 1\n",
        "%%bash\nif [ -e x ]; then\n  echo 'un\nfi",
        "%%writefile train.py\nimport torch\ntorch.nn.Module.cuda(x)\n",
        "s = '''\n%not a magic\n!neither\n'''\n!yes it's\nt = [\n'%d'\n% 3]\n",
        "x = 1 \\\n% 3\n%magic\n",
        "def f():\n    '''doc?'''\n    !ls ?\r\n    return 1\r\n!ls\r\n",
        "# comment?\n'?' # ?\nx = 'it''s' # it's\n%magic 'x\n",
        "!!ls\n",
        '!echo "\ud800"\n',
    ],
)
def test_magics_are_hidden_behind_python_of_the_same_shape(source: str) -> None:
    data = json.dumps(notebook(code(source.splitlines(keepends=True)), code("z = 1"))).encode()
    book = Notebook.parse(data)
    assert book.unparsed == ()
    ast.parse(book.text)
    shown = book.text[: len(source)]
    assert [c for c in shown if c in "\r\n"] == [c for c in source if c in "\r\n"]
    kept = list(source)
    for magic in book.magics:
        assert magic.text == source[magic.start : magic.end]
        assert magic.cell_index == 0
        kept[magic.start : magic.end] = shown[magic.start : magic.end]
    assert "".join(kept) == shown
    assert book.rewrite(book.text) == data
    assert sources(book.rewrite(book.text.replace("z = 1", "z = 2"))) == [source, "z = 2"]


def test_which_magics_are_found() -> None:
    data = written(
        ["if a:\n", "    !nvidia-smi -L\n", "y = !ls\n", "x?\n", "z = '''\n", "!no'''"],
        "%%time\nprint(1)",
        "%%bash\nls\n",
        "print('%d?' % 3)",
    )
    book = Notebook.parse(data)
    assert [(magic.cell_index, magic.text) for magic in book.magics] == [
        (0, "!nvidia-smi -L"),
        (0, "!ls"),
        (0, "x?"),
        (1, "%%time"),
        (2, "%%bash\nls\n"),
    ]
    assert book.text.startswith("if a:\n    pass #0       \ny = 0  \n0 \nz = '''\n!no'''\n# %%")


def test_cells_that_are_not_python() -> None:
    data = written(["print 'x'\n", "!ls\n"], "def f(:\n", "s = 'a\\ud800'", "ok = 1")
    book = Notebook.parse(data.replace(b"'a\\\\ud800'", b"'a\\ud800'"))
    assert [index for index, _ in book.unparsed] == [0, 1, 2]
    assert book.unparsed[1][1].startswith("line 1: ")
    assert [magic.text for magic in book.magics] == ["!ls"]
    assert [node.targets[0].id for node in ast.parse(book.text).body] == ["ok"]  # type: ignore


def test_the_callers_parser_decides() -> None:
    def parse(text: str) -> None:
        if "forbidden" in text:
            raise RuntimeError("no\nway")

    book = Notebook.parse(written("forbidden", "print 1"), parse)
    assert book.unparsed == ((0, "no"),)
    assert book.text == "         \n# %% cell 1\nprint 1"


def test_await_outside_a_function_is_python_in_notebooks() -> None:
    assert Notebook.parse(written("await f()")).unparsed == ()


# Changing


def test_only_the_string_changes() -> None:
    data = written(["import torch\n", "x = torch.a(1)\n", "y"], "z")
    assert replaced(data, "torch.a", "torch.b") == data.replace(b"torch.a", b"torch.b")


def test_new_lines_become_new_strings() -> None:
    data = written(["import a\n", "x"], ["only"])
    assert replaced(data, "x", "import b\nx") == data.replace(
        b'    "x"\n', b'    "import b\\n",\n    "x"\n'
    )
    assert replaced(data, "only", "one\ntwo") == data.replace(
        b'    "only"\n', b'    "one\\n",\n    "two"\n'
    )


def test_removed_lines_leave_valid_json() -> None:
    data = written(["a\n", "b\n", "c"])
    assert replaced(data, "a\n", "") == written(["b\n", "c"])
    assert replaced(data, "b\n", "") == written(["a\n", "c"])
    assert replaced(data, "\nc", "") == written(["a\n", "b"])
    assert replaced(data, "a\nb\nc", "") == written([""])
    assert replaced(data, "\nb\n", " = ") == written(["a = c"])
    assert replaced(data, "\n", " = ") == written(["a = b\n", "c"])
    book = Notebook.parse(data)
    assert book.apply([Edit(2, 4, ""), Edit(4, 5, "")]) == written(["a\n"])
    assert book.apply([Edit(0, 2, ""), Edit(2, 4, ""), Edit(4, 5, "")]) == written([""])


def test_empty_cells_can_be_filled() -> None:
    book = Notebook.parse(written([], ""))
    end = len(book.text)
    new = book.apply([Edit(0, 0, "a\nb"), Edit(end, end, "c\n")])
    assert sources(new) == ["a\nb", "c\n"]
    assert b'"source": ["a\\n", "b"]' in new


def test_escapes_stay_as_they_are() -> None:
    raw = rb'"x = \"\u00e9\/\u65e5\ud83d\ude00\"; y\u000Az"'
    data = b'{"nbformat":4,"cells":[{"cell_type":"code","source":[' + raw + b"]}]}"
    book = Notebook.parse(data)
    assert book.text == 'x = "\u00e9/\u65e5\U0001f600"; y\nz'
    new = book.rewrite(book.text.replace("y", "\u00fc\t"))
    assert new == data.replace(b"; y\\u000Az", rb'; \u00fc\t\u000A", "z')


def test_characters_beyond_ascii_are_written_as_the_file_does() -> None:
    assert replaced(written("x = '\u65e5'"), "x", "\u00e9").count("\u00e9".encode()) == 1
    assert replaced(written("x"), "x", "\u00e9").count("\u00e9".encode()) == 1
    escaped = json.dumps(notebook(code("x = '\u65e5'"))).encode()
    assert rb"\u00e9" in replaced(escaped, "x", "\u00e9")


def test_changes_that_are_refused() -> None:
    book = Notebook.parse(written("if a:\n    !ls -l\n    x", "print 1", "y"))
    for edit, message in [
        (Edit(len("if a:\n    !ls -l\n    x"), 30, ""), "beyond its cell"),
        (Edit(6, 12, ""), "touches a magic"),
        (Edit(0, 16, ""), "touches a magic"),
    ]:
        with pytest.raises(SourceProblem, match=message):
            book.apply([edit])
    with pytest.raises(SourceProblem, match="overlap"):
        book.apply([Edit(0, 2, "a"), Edit(1, 2, "b")])
    with pytest.raises(SourceProblem, match="touches a magic"):
        book.rewrite(book.text.replace("pass", "continue"))
    with pytest.raises(SourceProblem, match="border"):
        book.rewrite(book.text.replace("# %% cell 1\n", ""))


def test_a_magic_itself_can_be_changed() -> None:
    data = written(["!nvidia-smi -L\n", "x"])
    book = Notebook.parse(data)
    (magic,) = book.magics
    new = book.apply([Edit(magic.start, magic.start + len("!nvidia-smi"), "!npu-smi")])
    assert new == data.replace(b"nvidia", b"npu")


def test_rewrite_finds_each_cell_again() -> None:
    data = written(["%load_ext x\n", "a = 1\n"], ["b = 1\n", "%%s\n"], ["a = 1\n"], "%%time\na = 1")
    book = Notebook.parse(data)
    new = book.rewrite(
        "import q\n" + book.text.replace("a = 1", "a = 2").replace("b", "import r\nb")
    )
    assert sources(new) == [
        "import q\n%load_ext x\na = 2\n",
        "import r\nb = 1\n%%s\n",
        "a = 2\n",
        "%%time\na = 2",
    ]


LINE = st.sampled_from(
    ["x = 1", "if x:\n    !ls", "%magic", "y = '\u00e9'", "z = \"a\\\\n\"", "", "# c\ttab",
     "def f():\n    pass", "print 'no'", "v = !ls", "w?", "a = '''\n!\n'''", "\u65e5 = 2"]
)  # fmt: skip
SOURCE = st.builds(
    lambda lines, newline, end: newline.join(lines).replace("\n", newline) + end,
    st.lists(LINE, max_size=6),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "\n"]),
)


def chunked(source: str, cuts: list[int]) -> list[str]:
    bounds = [0, *sorted(min(cut, len(source)) for cut in cuts), len(source)]
    return [source[a:b] for a, b in pairwise(bounds)]


FORM = st.one_of(
    st.just(lambda source: source),
    st.just(lambda source: source.splitlines(keepends=True)),
    st.builds(
        lambda cuts: lambda source: chunked(source, cuts), st.lists(st.integers(0, 30), max_size=4)
    ),
)


def outside(data: bytes) -> str:
    """Return the JSON with each cell's source cut down to one mark."""
    text = data.decode()
    decoder = json.JSONDecoder()
    pieces: list[str] = []
    last = 0
    while (at := text.find('"source": ', last)) >= 0:
        at += len('"source": ')
        _, end = decoder.raw_decode(text, at)
        pieces += [text[last:at], "[" if text[at] == "[" else '"']
        last = end
    return "".join([*pieces, text[last:]])


@settings(deadline=None)
@given(
    cells=st.lists(st.tuples(SOURCE, FORM), min_size=1, max_size=4),
    indent=st.sampled_from([None, 1, 4]),
    ascii_only=st.booleans(),
    data=st.data(),
)
def test_any_edits_change_only_their_sources(
    cells: list[tuple[str, Any]], indent: int | None, ascii_only: bool, data: st.DataObject
) -> None:
    content = notebook(*(code(form(source)) for source, form in cells), metadata={"a": "\u00e9"})
    raw = json.dumps(content, indent=indent, ensure_ascii=ascii_only).encode()
    book = Notebook.parse(raw)
    expected = [source for source, _ in cells]
    edits: list[Edit] = []
    offset = 0
    for number, (source, _) in enumerate(cells):
        points = sorted(data.draw(st.lists(st.integers(0, len(source)), max_size=6)))
        points = points[: len(points) // 2 * 2]
        for start, end in list(zip(points[::2], points[1::2], strict=True))[::-1]:
            new = data.draw(
                st.sampled_from(["", "n", "n\n", "a\nb", "\u00e8", '"\\', "\n", "\r\n"])
            )
            edit = Edit(offset + start, offset + end, new)
            try:
                book.apply([edit])
            except SourceProblem:
                continue
            edits.append(edit)
            source = source[:start] + new + source[end:]
        expected[number] = source
        offset += len(cells[number][0]) + len(f"\n# %% cell {number + 1}\n")
    edits.sort(key=lambda e: (e.start, e.end))
    if any(a.start == b.start for a, b in pairwise(edits)):
        return  # two insertions in one place: their order is the caller's business
    new_raw = book.apply(edits)
    assert sources(new_raw) == expected
    assert outside(new_raw) == outside(raw)
    if not edits:
        assert new_raw == raw


PLAIN = st.builds(
    lambda lines, end: "\n".join(lines) + end,
    st.lists(
        st.sampled_from(
            ["x = 1", "y = '\u00e9'", "", "# c\ttab", "def f():\n    pass", "x = 1 # \r"]
        ),
        max_size=8,
    ),
    st.sampled_from(["", "\n"]),
)


@settings(deadline=None)
@given(st.lists(st.tuples(PLAIN, PLAIN, FORM), min_size=1, max_size=3), st.booleans())
def test_rewrite_gives_back_the_text_asked_for(
    cells: list[tuple[str, str, Any]], ascii_only: bool
) -> None:
    raw = json.dumps(
        notebook(code("!ls\n%%magic"), *(code(form(old)) for old, _, form in cells)),
        ensure_ascii=ascii_only,
    ).encode()
    book = Notebook.parse(raw)
    first, *_ = book.text.partition("\n# %% cell 1\n")
    wanted = first + "".join(
        f"\n# %% cell {number}\n{new}" for number, (_, new, _) in enumerate(cells, 1)
    )
    data = book.rewrite(wanted)
    assert sources(data) == ["!ls\n%%magic", *(new for _, new, _ in cells)]
    assert outside(data) == outside(raw)


@given(SOURCE)
def test_masking_keeps_length_and_lines(source: str) -> None:
    spans = ipython.hidden(source)
    masked = ipython.masked(source, spans)
    assert len(masked) == len(source)
    assert [c for c in masked if c in "\r\n"] == [c for c in source if c in "\r\n"]
    try:
        parse_python(source)
    except SyntaxError:
        return
    assert spans == []
