"""GitLab's Code Quality report, for `artifacts:reports:codequality`.

Format: https://docs.gitlab.com/ci/testing/code_quality/#code-quality-report-format. GitLab shows
findings with the same fingerprint as one, and tells what a merge request adds and resolves by
them: they name file and content, not the line.
"""

from __future__ import annotations

import hashlib
import json
from typing import Any

from porter.output import view
from porter.output.view import Data
from porter.score import class_of

_SEVERITIES = {"error": "major", "warning": "minor", "note": "info"}


def render(data: Data) -> str:
    """Show a report."""
    line = view.present(data)
    issues = [_issue(data, site, line(site)) for site in view.findings(data)]
    return json.dumps(issues, indent=2, ensure_ascii=True) + "\n"


def _issue(data: Data, site: Data, line: int) -> dict[str, Any]:
    cell = f" (cell {site['cell']}, line {site['line']})" if "cell" in site else ""
    severity = "critical" if class_of(site) == "blocking" else _SEVERITIES[view.level(site)]
    return {
        "description": f"{site['rule']} {view.message(data, site)}{cell}",
        "check_name": site["rule"],
        "fingerprint": _fingerprint(site),
        "severity": severity,
        "location": {
            "path": site["path"],
            # Lines of a cell are not lines of the file.
            "lines": {"begin": 1 if "cell" in site else line},
        },
    }


def _fingerprint(site: Data) -> str:
    name = f"{site['path']}\0{site['fingerprint']}"
    return hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:32]
