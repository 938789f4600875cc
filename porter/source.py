"""A file's bytes as text, and back again without losing a byte.

Python files declare their encoding (PEP 263, https://peps.python.org/pep-0263/). Newlines, form
feeds and every other character stay as they are; the byte order mark is kept aside.
"""

from __future__ import annotations

import codecs
import re
from dataclasses import dataclass

from porter.scan import UTF16 as UTF16

_COOKIE = re.compile(rb"^[ \t\f]*#.*?coding[:=][ \t]*([-\w.]+)", re.ASCII)
_BLANK_OR_COMMENT = re.compile(rb"^[ \t\f]*(?:#.*)?$")
_NEWLINE = re.compile(rb"\r\n|\r|\n")
_DEFAULT = "utf-8"
_HEAD = 1000  # characters in which to look for the coding line once more


class SourceProblem(Exception):
    """A file that cannot be read or written back faithfully; ``message`` is one line.

    The message does not repeat the file's name: whoever reports it knows the path.
    """

    def __init__(self, message: str) -> None:
        """Keep ``message`` as the one line to show."""
        super().__init__(message)
        self.message = message


@dataclass(frozen=True)
class Source:
    """One decoded file.

    ``path`` is the POSIX path to show, ``text`` is without the byte order mark that ``bom`` tells
    of, and ``encoding`` is the codec that turns ``text`` into the rest of ``data``.
    """

    path: str
    data: bytes
    text: str
    encoding: str
    bom: bool

    def encode(self, text: str) -> bytes:
        """Return ``text`` as bytes in this file's encoding, byte order mark included.

        Raises:
            SourceProblem: a character does not exist in the encoding, the bytes would not read
                back as ``text``, or ``text`` no longer declares the encoding it is written in.
        """
        data = _encode(text, self.encoding)
        if self.bom:
            data = codecs.BOM_UTF8 + data
        if _declares(self.data, self.encoding) and not _declares(data, self.encoding):
            raise SourceProblem(f"the change would lose the {self.encoding} coding line")
        return data


def decode_python(path: str, data: bytes) -> Source:
    """Decode a Python file as the interpreter would: byte order mark, coding line, else UTF-8.

    Raises:
        SourceProblem: NUL bytes, an unknown or contradictory encoding, bytes that are not valid
            in it, or text that does not encode back to exactly ``data``.
    """
    if b"\0" in data:
        raise SourceProblem("contains NUL bytes: a binary or UTF-16 file, not Python source")
    source = _decode(path, data, _python_encoding(data))
    # A codec such as utf-16-le can map ASCII bytes one to one onto other text.
    if _declared(source.text[:_HEAD].encode("ascii", "replace")) != _declared(data[:_HEAD]):
        raise SourceProblem(f"declares {source.encoding!r} but is not written in it")
    return source


def decode_text(path: str, data: bytes) -> Source:
    """Decode a file of any other kind as UTF-8, with or without a byte order mark.

    Raises:
        SourceProblem: NUL bytes or bytes that are not UTF-8.
    """
    if b"\0" in data:
        raise SourceProblem("contains NUL bytes: a binary or UTF-16 file, not text")
    return _decode(path, data, _DEFAULT)


def _decode(path: str, data: bytes, encoding: str) -> Source:
    bom = data.startswith(codecs.BOM_UTF8)
    body = data[len(codecs.BOM_UTF8) :] if bom else data
    try:
        text = body.decode(encoding)
    except UnicodeDecodeError as problem:
        line = len(_NEWLINE.findall(body[: problem.start])) + 1
        raise SourceProblem(
            f"line {line}: byte 0x{body[problem.start]:02x} is not valid {encoding}"
        ) from None
    except (LookupError, ValueError):
        # Known names that are no text encodings (hex, rot13), or codecs that refuse (undefined).
        raise SourceProblem(f"declares {encoding!r}, which is no text encoding") from None
    source = Source(path=path, data=data, text=text, encoding=encoding, bom=bom)
    try:
        same = source.encode(text) == data
    except SourceProblem:
        same = False
    if not same:
        raise SourceProblem(f"not round-trippable as {encoding}, left alone")
    return source


def _encode(text: str, encoding: str) -> bytes:
    try:
        data = text.encode(encoding)
    except UnicodeEncodeError as problem:
        character = text[problem.start : problem.start + 1]
        raise SourceProblem(
            f"character {character!a} does not exist in the file's encoding {encoding}"
        ) from None
    except (LookupError, ValueError):
        raise SourceProblem(f"text cannot be written as {encoding}") from None
    try:
        if data.decode(encoding) == text:
            return data
    except ValueError:
        pass
    raise SourceProblem(f"not round-trippable as {encoding}, left alone")


def _python_encoding(data: bytes) -> str:
    """Return the codec a Python file is written in, by PEP 263."""
    bom = data.startswith(codecs.BOM_UTF8)
    declared = _declared(data)
    if declared is None:
        return _DEFAULT
    name = _canonical(declared)
    if name is None:
        raise SourceProblem(f"unknown encoding {declared!r} in the coding line")
    if bom and name != _DEFAULT:
        raise SourceProblem(f"starts with a UTF-8 byte order mark but declares {declared!r}")
    return name


def _declared(data: bytes) -> str | None:
    """Return the name in the coding line, which may only stand in the first two lines."""
    head = data[len(codecs.BOM_UTF8) :] if data.startswith(codecs.BOM_UTF8) else data
    for _ in range(2):
        newline = _NEWLINE.search(head)
        line, head = (head[: newline.start()], head[newline.end() :]) if newline else (head, b"")
        if found := _COOKIE.match(line):
            return found.group(1).decode("ascii")
        if not _BLANK_OR_COMMENT.match(line):
            return None
    return None


def _canonical(name: str) -> str | None:
    """Return the codec's own name; utf-8-sig counts as UTF-8 because the mark is kept apart.

    The interpreter accepts Emacs' suffixes, as in ``latin-1-unix`` (see tokenize.detect_encoding).
    """
    plain = name.lower().replace("_", "-")
    for base in ("utf-8", "latin-1", "iso-8859-1", "iso-latin-1"):
        if plain == base or plain.startswith(base + "-"):
            name = _DEFAULT if base == _DEFAULT else "latin-1"
    try:
        found = codecs.lookup(name).name
    except (LookupError, ValueError):
        return None
    return _DEFAULT if found == "utf-8-sig" else found


def _declares(data: bytes, encoding: str) -> bool:
    declared = _declared(data)
    return encoding == _DEFAULT if declared is None else _canonical(declared) == encoding
