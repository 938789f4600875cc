"""Decoding and encoding files."""

from __future__ import annotations

import codecs

import pytest
from hypothesis import given
from hypothesis import strategies as st

from porter.source import Source, SourceProblem, decode_python, decode_text

BOM = codecs.BOM_UTF8


@pytest.mark.parametrize(
    ("data", "encoding", "text"),
    [
        (b"", "utf-8", ""),
        (b"x = 1\r\n\x0cy = 2\rz\n", "utf-8", "x = 1\r\n\x0cy = 2\rz\n"),
        ("s = '\u00e9\u2028'\n".encode(), "utf-8", "s = '\u00e9\u2028'\n"),
        (b"# -*- coding: latin-1 -*-\ns = '\xe9'\n", "iso8859-1", None),
        (b"# -*- coding: latin-1-unix -*-\ns = '\xe9'\n", "iso8859-1", None),
        (b"#!/usr/bin/python\n# vim: set fileencoding=cp1252 :\ns = '\x80'\n", "cp1252", None),
        (b"#!/usr/bin/python\r# coding: cp1252\rs = '\x80'\r", "cp1252", None),
        (b"# coding: shift_jis\ns = '\x83\x5c\x82\xa0'\n", "shift_jis", None),
        (b"# coding: utf8\nx\n", "utf-8", None),
        (b"# coding: utf-8-sig\nx\n", "utf-8", None),
        (b"x = 1\n# coding: latin-1\ny = '\xc3\xa9'\n", "utf-8", None),
        (b"\n\n# coding: latin-1\ny = '\xc3\xa9'\n", "utf-8", None),
    ],
)
def test_python_encodings(data: bytes, encoding: str, text: str | None) -> None:
    source = decode_python("x.py", data)
    assert source.encoding == encoding
    assert source.text == (data.decode(encoding) if text is None else text)
    assert source.encode(source.text) == data
    assert not source.bom


def test_byte_order_mark_is_kept_apart() -> None:
    source = decode_python("x.py", BOM + b"# coding: utf-8\nx = 1\n")
    assert source.bom
    assert source.text.startswith("# coding")
    assert source.encode("# coding: utf-8\ny\n") == BOM + b"# coding: utf-8\ny\n"


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"x = '\0'\n", "NUL bytes"),
        ("x = 1\n".encode("utf-16"), "NUL bytes"),
        (b"ok\r\nx = '\xe9'\n", "line 2: byte 0xe9 is not valid utf-8"),
        (b"# coding: klingon\n", "unknown encoding 'klingon'"),
        (b"# coding: hex\n41\n", "no text encoding"),
        (b"# coding: rot13\nk\n", "no text encoding"),
        (b"# coding: undefined\nk\n", "undefined"),
        (BOM + b"# coding: latin-1\n", "byte order mark but declares 'latin-1'"),
        (b"# coding: utf-16-le\nx\n", "utf-16-le"),
        (b"# coding: ascii\n# \xe9\n", "line 2: byte 0xe9 is not valid ascii"),
        (b"# coding: utf-7\nx = '+AGE-'\n", "not round-trippable"),
    ],
)
def test_python_problems(data: bytes, message: str) -> None:
    with pytest.raises(SourceProblem) as caught:
        decode_python("x.py", data)
    assert message in caught.value.message
    assert "\n" not in caught.value.message


def test_character_outside_the_encoding() -> None:
    source = decode_python("x.py", b"# coding: latin-1\nx = 1\n")
    with pytest.raises(SourceProblem, match="does not exist in the file's encoding iso8859-1"):
        source.encode("# coding: latin-1\nx = '\u6771'\n")


def test_coding_line_pushed_out_of_the_first_two_lines() -> None:
    source = decode_python("x.py", b"#!/usr/bin/python\n# coding: latin-1\nx = '\xe9'\n")
    with pytest.raises(SourceProblem, match="coding line"):
        source.encode("#!/usr/bin/python\nimport a\n" + source.text.partition("\n")[2])


def test_lone_surrogate_cannot_be_written() -> None:
    with pytest.raises(SourceProblem, match="udc80"):
        decode_python("x.py", b"x\n").encode("\udc80")


def test_other_files_are_utf8() -> None:
    source = decode_text("run.sh", BOM + "# coding: latin-1\n\u00e9\r\n".encode())
    assert source == Source(
        path="run.sh",
        data=source.data,
        text="# coding: latin-1\n\u00e9\r\n",
        encoding="utf-8",
        bom=True,
    )
    assert source.encode("\u00e8\r\n") == BOM + "\u00e8\r\n".encode()
    with pytest.raises(SourceProblem, match="line 1: byte 0xff"):
        decode_text("run.sh", b"\xff\n")


@given(st.binary())
def test_any_bytes_round_trip_or_are_refused(data: bytes) -> None:
    for decode in (decode_python, decode_text):
        try:
            source = decode("x", data)
        except SourceProblem:
            continue
        assert source.encode(source.text) == data


@given(st.sampled_from(sorted(set(codecs_names := [
    "ascii", "big5", "cp437", "cp932", "euc_jp", "gb18030", "hz", "idna", "iso2022_jp", "koi8_r",
    "mac_roman", "punycode", "raw_unicode_escape", "shift_jis", "unicode_escape", "utf-16-be",
    "utf-32", "utf-7", "zlib"]))), st.binary(max_size=20))  # fmt: skip
def test_declared_encodings_round_trip_or_are_refused(name: str, tail: bytes) -> None:
    data = b"# coding: " + name.encode() + b"\n" + tail
    try:
        source = decode_python("x.py", data)
    except SourceProblem:
        return
    assert source.encode(source.text) == data
    assert source.text.startswith(f"# coding: {name}\n")
