"""Views of a report. Each is one pure function from the report's data to text.

The data is what a report's JSON holds (docs/report.schema.json): a view needs neither the code
nor the rules, so that a report can be shown on another machine.
"""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import PurePath
from typing import Any

#: Formats and the extensions that ask for them; the name is also that of the module.
FORMATS: Mapping[str, tuple[str, ...]] = {
    "text": (".txt", ".log"),
    "markdown": (".md", ".markdown"),
    "html": (".html", ".htm"),
    "sarif": (".sarif", ".sarif.json"),
    "github": (),
    "gitlab": ("gl-code-quality-report.json", ".codequality.json"),
    "junit": (".xml",),
    "csv": (".csv",),
    "rdjson": (".rdjson", ".rdjson.json"),
}


def render(data: Mapping[str, Any], form: str) -> str:
    """Show a report.

    Args:
        data: the report.
        form: one of `FORMATS`.

    Returns:
        Text that can be encoded as UTF-8: bytes of file names that are not are escaped.
    """
    module = importlib.import_module(f"porter.output.{form}")
    return encodable(module.render(data))


def encodable(text: str) -> str:
    """The text with what UTF-8 cannot hold escaped."""
    return text.encode("utf-8", "backslashreplace").decode("utf-8")


def form_of(path: PurePath) -> str | None:
    """The format that a file's name asks for; None if it asks for none."""
    name = path.name.lower()
    found = [
        (len(extension), form)
        for form, extensions in FORMATS.items()
        for extension in extensions
        if name.endswith(extension)
    ]
    return max(found)[1] if found else None
