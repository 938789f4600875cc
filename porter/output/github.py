"""Workflow commands that GitHub shows at the lines of a pull request.

See "Workflow commands for GitHub Actions". GitHub shows ten of each level for a step: the most
pressing findings come first.
"""

from __future__ import annotations

import re

from porter.display import control
from porter.output import view
from porter.output.view import Data

_LEVELS = {"error": "error", "warning": "warning", "note": "notice"}


def render(data: Data) -> str:
    """Show a report."""
    line = view.present(data)
    return "".join(
        _command(_LEVELS[view.level(site)], _place(data, site, line(site)), _text(data, site))
        + "\n"
        for site in view.findings(data)
    )


def _place(data: Data, site: Data, line: int) -> dict[str, str]:
    # GitHub counts the lines of a notebook's JSON: only the file is certain there.
    where = {"line": str(line), "col": str(site["column"])} if "cell" not in site else {"line": "1"}
    return {"title": f"porter ({site['rule']})", "file": site["path"], **where}


def _text(data: Data, site: Data) -> str:
    cell = f" (cell {site['cell']}, line {site['line']})" if "cell" in site else ""
    return f"{site['rule']} {view.message(data, site)}{cell}"


def _command(level: str, properties: dict[str, str], text: str) -> str:
    listed = ",".join(f"{name}={_escaped(value, True)}" for name, value in properties.items())
    return f"::{level} {listed}::{_escaped(text)}"


def _escaped(text: str, property_: bool = False) -> str:
    # What a terminal would act on; line ends have a form of their own here.
    text = "".join(p if p in "\r\n" else control(p) for p in re.split(r"([\r\n])", text))
    pairs = [("%", "%25"), ("\r", "%0D"), ("\n", "%0A")]
    if property_:
        pairs += [(":", "%3A"), (",", "%2C")]
    for old, new in pairs:
        text = text.replace(old, new)
    return text
