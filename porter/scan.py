"""Decide from its bytes whether a Python file can hold a site at all."""

from __future__ import annotations

import re

# Exact for valid Python: a string ends at its own quotes, raw or not, and a backslash always takes
# the next character with it. One-line strings are matched so that quotes and "#" inside them do
# not start anything; they stay in the text, since rules look at them.
_TOKENS = re.compile(
    rb"\"\"\"(?:[^\\\"]|\\.|\"(?!\"\"))*\"\"\""
    rb"|'''(?:[^\\']|\\.|'(?!''))*'''"
    rb"|#[^\r\n]*"
    rb"|\"(?:[^\\\"\r\n]|\\.)*\""
    rb"|'(?:[^\\'\r\n]|\\.)*'",
    re.DOTALL,
)
_CODE_IN_STRINGS = re.compile(rb"\b(?:exec|eval|compile|load_inline)\s*\(")


def may_match(data: bytes, marker: re.Pattern[bytes]) -> bool:
    """Whether any rule could find something in a file.

    Args:
        data: the file's bytes.
        marker: what must occur for a rule to wake.

    Returns:
        False if the marker occurs nowhere, or in comments and triple-quoted text only. Text that
        is executed counts as code.
    """
    if marker.search(data) is None:
        return False
    if _CODE_IN_STRINGS.search(data):
        return True
    return marker.search(_TOKENS.sub(_without_prose, data)) is not None


def _without_prose(found: re.Match[bytes]) -> bytes:
    text = found.group()
    return b"" if text[:1] == b"#" or text[:3] in (b'"""', b"'''") else text
