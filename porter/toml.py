"""TOML of files that nobody has vetted.

The reader of the standard library needs time that grows with the square of a key's parts, and
some of what it cannot read it reports by other exceptions than its own.
https://docs.python.org/3/library/tomllib.html , https://toml.io/en/v1.0.0#keys
"""

from __future__ import annotations

import re
import sys
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

TOMLDecodeError = tomllib.TOMLDecodeError

#: More parts than this in one dotted key are no settings.
MAX_PARTS = 100
_PART = r"""(?:[\w-]+|"(?:[^"\\\n]|\\.)*"|'[^'\n]*')[ \t]*"""
_LONG_KEY = re.compile(rf"(?m)(?:^|[\[{{,])[ \t]*(?:{_PART}\.[ \t]*){{{MAX_PARTS}}}")


def loads(text: str) -> dict[str, Any]:
    """The content of a TOML document.

    Raises:
        TOMLDecodeError: it is malformed, nested too deeply, or has a key of too many parts.
    """
    found = _LONG_KEY.search(text)
    if found is not None:
        line = text.count("\n", 0, found.start()) + 1
        column = found.start() - text.rfind("\n", 0, found.start())
        raise TOMLDecodeError(
            f"A key of more than {MAX_PARTS} parts (at line {line}, column {column})"
        )
    try:
        data: dict[str, Any] = tomllib.loads(text)
    except RecursionError:
        raise TOMLDecodeError("Nested too deeply") from None
    except TOMLDecodeError:
        raise
    except ValueError as problem:  # such as a number of more digits than Python takes
        raise TOMLDecodeError(str(problem)) from None
    return data
