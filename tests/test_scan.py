"""The byte scan may only say no where no rule could find anything."""

from __future__ import annotations

import io
import re
import sysconfig
import tokenize
from pathlib import Path

import pytest

from porter.scan import Marker, may_match

MARKER = Marker.of(["cuda"])


@pytest.mark.parametrize(
    "code",
    [
        b"x.cuda()",
        b'x.to("cuda")',
        b"# note\nx.cuda()",
        b'"""doc"""\nx.cuda()',
        b"s = '#'\nx.cuda()",
        b's = \'"""\'\nx.cuda()\nt = \'"""\'',
        b"s = r'\\'; x.cuda()",
        b's = "a\\\nb"; x.cuda()',
        b'exec("""\nx.cuda()\n""")',
        b'x = """torch.cuda"""',
        b"f(\n    '''cuda''')",
        b'return """cuda"""',
    ],
)
def test_code_counts(code: bytes) -> None:
    assert may_match(code, MARKER)


@pytest.mark.parametrize(
    "code",
    [
        b"x = 1",
        b"# cuda\nx = 1",
        b'"""runs on cuda"""\nx = 1',
        b"'''cuda \\''' cuda'''  # cuda",
        b"def f(x):\n    r'''cuda'''",
    ],
)
def test_prose_does_not(code: bytes) -> None:
    assert not may_match(code, MARKER)


def test_agrees_with_the_tokenizer() -> None:
    """On real files: a word outside comments and triple-quoted strings is always seen."""
    files = sorted(Path(sysconfig.get_path("stdlib")).glob("*.py"))[:120]
    checked = 0
    for file in files:
        data = file.read_bytes()
        marker = Marker.of([r"\bself\b"])
        expected = False
        for token in tokenize.tokenize(io.BytesIO(data).readline):
            if token.type == tokenize.COMMENT or token.string[:3] in ('"""', "'''"):
                continue
            expected = expected or bool(re.search(r"\bself\b", token.string))
        if expected:
            checked += 1
            assert may_match(data, marker), file
    assert checked > 50
