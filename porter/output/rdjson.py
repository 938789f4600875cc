"""reviewdog's format: https://github.com/reviewdog/reviewdog/tree/master/proto/rdf.

A rewrite is offered as a suggestion only where it is all that its file needs: reviewers accept
suggestions one by one, and a rewrite can depend on an import or a variable written elsewhere.
"""

from __future__ import annotations

import json
from typing import Any

from porter.output import view
from porter.output.view import Change, Data

_SEVERITIES = {"error": "ERROR", "warning": "WARNING", "note": "INFO"}


def render(data: Data) -> str:
    """Show a report."""
    line = view.present(data)
    whole = {} if data["applied"] else _whole(data)
    result = {
        "source": {"name": "porter"},
        "diagnostics": [_diagnostic(data, s, line(s), whole) for s in view.findings(data)],
    }
    return json.dumps(result, indent=2, ensure_ascii=True) + "\n"


def _whole(data: Data) -> dict[str, Change]:
    """The only change of each file that needs no other."""
    found = {}
    for file in data["files"]:
        changes = view.changes(file.get("hunks", ()))
        if len(changes) == 1 and changes[0].old and not file["path"].endswith(".ipynb"):
            found[file["path"]] = changes[0]
    return found


def _diagnostic(data: Data, site: Data, line: int, whole: dict[str, Change]) -> dict[str, Any]:
    location: dict[str, Any] = {"path": site["path"]}
    if "cell" not in site:
        location["range"] = {"start": {"line": line, "column": _bytes(site)}}
    code = {"value": site["rule"]}
    if view.link(data, site["rule"]):
        code["url"] = view.link(data, site["rule"])
    cell = f" (cell {site['cell']}, line {site['line']})" if "cell" in site else ""
    diagnostic: dict[str, Any] = {
        "message": view.message(data, site) + cell,
        "location": location,
        "severity": _SEVERITIES[view.level(site)],
        "code": code,
    }
    change = whole.get(site["path"])
    if change is not None and site["status"] == "rewritten":
        last = change.start + len(change.old) - 1
        if change.start <= site["line"] <= last and change.new:
            diagnostic["suggestions"] = [
                {
                    "range": {"start": {"line": change.start}, "end": {"line": last}},
                    "text": "\n".join(text.rstrip("\r") for text in change.new),
                }
            ]
    return diagnostic


def _bytes(site: Data) -> int:
    """The column in bytes of UTF-8, as the format wants it."""
    own = site["line"] - site["snippet"]["start"]
    lines = site["snippet"]["lines"]
    column: int = site["column"]
    if not 0 <= own < len(lines):
        return column
    return len(lines[own][: column - 1].encode("utf-8", "replace")) + 1
