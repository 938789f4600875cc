"""One row for each site, for spreadsheets (RFC 4180)."""

from __future__ import annotations

import csv
import io

from porter.output.view import Data, rule
from porter.score import class_of

COLUMNS = (
    "path", "cell", "line", "column", "rule", "name", "family", "class", "status", "category",
    "safety", "effort", "symbol", "reason", "before", "after", "accepted", "fingerprint",
)  # fmt: skip
#: A cell that starts with one of these is a formula to a spreadsheet.
_FORMULA = (
    "=", "+", "-", "@", "\t", "\r", "\n", "\uff1d", "\uff0b", "\uff0d", "\uff20",
)  # fmt: skip


def render(data: Data) -> str:
    """Show a report."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\r\n")
    writer.writerow(COLUMNS)
    for site in data["sites"]:
        about = rule(data, site["rule"])
        row = {**site, "name": about["name"], "family": about["family"], "class": class_of(site)}
        writer.writerow([_cell(row.get(column, "")) for column in COLUMNS])
    return out.getvalue()


def _cell(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    text = str(value).replace("\0", "\ufffd")
    formula = text.startswith(_FORMULA) or text.lstrip().startswith(_FORMULA)
    return "'" + text if isinstance(value, str) and formula else text
