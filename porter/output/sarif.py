"""SARIF 2.1.0, as code scanning takes it.

https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html. Paths are relative to the
folder that the report is about; results keep their fingerprint when lines move. A file's first
rewritten result holds the fix of the whole file: its rewrites can depend on each other.
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any
from urllib.parse import quote

from porter.output import view
from porter.output.view import Change, Data

SCHEMA = (
    "https://docs.oasis-open.org/sarif/sarif/v2.1.0/errata01/os/schemas/sarif-schema-2.1.0.json"
)
ROOT = "SRCROOT"
#: GitHub takes no more results from one run:
#: https://docs.github.com/en/code-security/code-scanning/integrating-with-code-scanning/sarif-support-for-code-scanning
MOST = 25_000


def render(data: Data) -> str:
    """Show a report."""
    sites = view.findings(data, accepted=True)
    shown, more = sites[:MOST], len(sites) - MOST
    codes = sorted({site["rule"] for site in shown})
    fixes = {} if data["applied"] else _fixes(data)
    line = view.present(data)
    run = {
        "tool": {
            "driver": {
                "name": "porter",
                "version": data["provenance"]["porter"],
                "rules": [_rule(data, code) for code in codes],
            }
        },
        "invocations": [
            {"executionSuccessful": True, "toolExecutionNotifications": _notes(data, more)}
        ],
        "originalUriBaseIds": {ROOT: {"description": {"text": "The folder that was looked at."}}},
        "columnKind": "unicodeCodePoints",
        "results": [_result(data, s, line(s), codes.index(s["rule"]), fixes) for s in shown],
        "properties": {
            "target": data["target"],
            "minTorch": data["min_torch"],
            "verdict": data["verdict"]["status"],
            "readiness": data["verdict"]["readiness"],
        },
    }
    log = {"$schema": SCHEMA, "version": "2.1.0", "runs": [run]}
    return json.dumps(log, indent=2, ensure_ascii=True) + "\n"


def _rule(data: Data, code: str) -> dict[str, Any]:
    about = view.rule(data, code)
    level = view.level({"category": about["category"]})
    text = "\n\n".join(t for t in (about["title"], about["why"], about["advice"]) if t)
    found = {
        "id": code,
        "name": "".join(part.capitalize() for part in about["name"].split("-")),
        "shortDescription": {"text": about["title"] or code},
        "fullDescription": {"text": about["why"] or about["title"] or code},
        "help": {"text": text or code, "markdown": text or code},
        "defaultConfiguration": {"level": level},
        "properties": {
            "tags": [about["family"]],
            "category": about["category"],
            "effort": about["effort"],
            "safety": about["safety"],
        },
    }
    if about["references"]:
        found["helpUri"] = about["references"][0]
    return found


def _result(
    data: Data, site: Data, line: int, index: int, fixes: dict[str, dict[str, Any]]
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "ruleId": site["rule"],
        "ruleIndex": index,
        "level": view.level(site),
        "message": {"text": view.message(data, site)},
        "locations": [_location(site, line)],
        "partialFingerprints": {"porterContent/v1": site["fingerprint"]},
        "properties": {
            "category": site["category"],
            "effort": site["effort"],
            "safety": site["safety"],
            **({"symbol": site["symbol"]} if site["symbol"] else {}),
        },
    }
    if site["accepted"]:
        found["suppressions"] = [{"kind": "external", "justification": "accepted by a baseline"}]
    if site["status"] == "rewritten" and site["path"] in fixes:
        found["fixes"] = [fixes.pop(site["path"])]
    return found


def _location(site: Data, line: int) -> dict[str, Any]:
    physical: dict[str, Any] = {"artifactLocation": _artifact(site["path"])}
    found: dict[str, Any] = {"physicalLocation": physical}
    if "cell" in site:
        # Lines of a cell are not lines of the file; GitHub needs a region all the same.
        physical["region"] = {"startLine": 1}
        found["logicalLocations"] = [
            {"name": f"cell {site['cell']}, line {site['line']}", "kind": "member"}
        ]
        return found
    region: dict[str, Any] = {"startLine": line, "startColumn": site["column"]}
    own = site["line"] - site["snippet"]["start"]
    lines = site["snippet"]["lines"]
    if 0 <= own < len(lines):
        region["snippet"] = {"text": lines[own]}
    physical["region"] = region
    return found


def _artifact(path: str) -> dict[str, str]:
    return {"uri": quote(path, safe="/", errors="surrogateescape"), "uriBaseId": ROOT}


def _notes(data: Data, more: int) -> list[dict[str, Any]]:
    notes: list[dict[str, Any]] = [
        {
            "level": "error",
            "message": {"text": file["reason"] or "could not be read"},
            "locations": [{"physicalLocation": {"artifactLocation": _artifact(file["path"])}}],
        }
        for file in view.files(data, "failed")
    ]
    if more > 0:
        text = f"{more} more results were left out, the least pressing: only {MOST} are taken"
        notes.append({"level": "warning", "message": {"text": text}})
    return notes


# Fixes ------------------------------------------------------------------------------------------


def _fixes(data: Data) -> dict[str, dict[str, Any]]:
    """By path, one fix with all changes of the file."""
    return {
        file["path"]: {
            "description": {"text": "Apply all rewrites of this file, as `porter migrate` does."},
            "artifactChanges": [
                {
                    "artifactLocation": _artifact(file["path"]),
                    "replacements": replacements(view.changes(file["hunks"])),
                }
            ],
        }
        for file in data["files"]
        if file.get("hunks")
    }


def replacements(changes: Iterable[Change]) -> list[dict[str, Any]]:
    """Changes as regions to delete and text to insert."""
    return [_replacement(change) for change in changes]


def _replacement(change: Change) -> dict[str, Any]:
    first, count = change.start, len(change.old)
    text = "".join(line + "\n" for line in change.new)
    if not change.old:
        region = {"startLine": first, "startColumn": 1, "endLine": first, "endColumn": 1}
    elif change.new or change.last:
        # The newline of the last line stays, both characters of it.
        end = first + count - 1
        ending = change.old[-1].endswith("\r") and text.endswith("\r\n")
        column = len(change.old[-1]) - ending + 1
        region = {"startLine": first, "startColumn": 1, "endLine": end, "endColumn": column}
        text = text[: -1 - ending]
    else:
        region = {"startLine": first, "startColumn": 1, "endLine": first + count, "endColumn": 1}
    return {"deletedRegion": region, **({"insertedContent": {"text": text}} if text else {})}
