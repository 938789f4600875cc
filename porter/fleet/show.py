"""The dashboard for a terminal and for a comment."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from porter.display import visible
from porter.fleet.dashboard import FAILED, STATUSES
from porter.output.view import plural

Data = Mapping[str, Any]
#: Rows of the lists of gaps and adapters.
ROWS = 10
#: Repositories named in one row.
NAMED = 5
_HEADINGS = (
    "repository", "verdict", "readiness", "by hand", "approve", "may matter", "rewritable",
    "points left",
)  # fmt: skip


def repos(count: int) -> str:
    """Like "1 repository", "2 repositories"."""
    return f"{count:,} repository" if count == 1 else f"{count:,} repositories"


def sentence(data: Data) -> str:
    """What it amounts to."""
    totals = data["totals"]
    counts = ", ".join(
        f"{totals['statuses'][status]} {status.lower()}"
        for status in reversed(STATUSES)
        if totals["statuses"][status]
    )
    return f"{repos(totals['repos'])}: {counts}."


def measure(totals: Data) -> str:
    """Readiness, and what it was measured by."""
    if totals["readiness"] is None:
        return "nothing that must change"
    points = totals["points"]
    return (
        f"{totals['readiness']} % ({points['resolved']:,} of {points['total']:,} points over "
        "mandatory sites)"
    )


def percent_of(row: Data) -> str:
    """Readiness of a repository in a cell of a table."""
    return "-" if row["readiness"] is None else f"{row['readiness']} %"


def gap_name(gap: Data, data: Data) -> str:
    """What a gap is called."""
    if gap["kind"] != "rule":
        return f"{gap['kind']} {gap['name']}"
    names = {row["rule"]: row["name"] for row in data["rules"]}
    return f"{gap['name']} {names.get(gap['name'], '')}".strip()


def listed(names: Sequence[str], most: int = NAMED) -> str:
    """Some names, and how many more there are."""
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more


def as_text(data: Data) -> str:
    """For a terminal."""
    blocks = [list(_head(data)), _table(_cells(data)), list(_gaps(data)), list(_adapters(data)),
              list(_failed(data))]  # fmt: skip
    return "\n\n".join("\n".join(map(visible, lines)) for lines in blocks if lines) + "\n"


def _head(data: Data) -> Iterator[str]:
    totals = data["totals"]
    files = totals["files"]
    yield sentence(data)
    yield f"readiness  {measure(totals)}"
    unread = f", {files['failed']:,} could not be read" if files["failed"] else ""
    yield f"files      {files['read']:,} read{unread}"
    yield (
        f"sites      {totals['rewritable']:,} can be rewritten, {totals['pending']:,} are left for "
        "a person"
    )


def _cells(data: Data) -> list[tuple[str, ...]]:
    rows: list[tuple[str, ...]] = [_HEADINGS]
    for row in data["repos"]:
        if row["status"] == FAILED:
            rows.append((row["name"], FAILED, *[""] * 6))
            continue
        sites = row["sites"]
        numbers = (
            sites["blocking"], sites["choice"], sites["potential"], row["rewritable"],
            row["effort"]["left"],
        )  # fmt: skip
        rows.append((row["name"], row["status"], percent_of(row), *map(str, numbers)))
    return rows


def _table(rows: Sequence[tuple[str, ...]]) -> list[str]:
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    return [
        "  ".join(
            cell.ljust(width) if i < 2 else cell.rjust(width)
            for i, (cell, width) in enumerate(zip(row, widths, strict=True))
        ).rstrip()
        for row in rows
    ]


def _gaps(data: Data) -> Iterator[str]:
    if data["gaps"]:
        yield "Most common gaps:"
        for gap in data["gaps"][:ROWS]:
            yield (
                f"  {repos(len(gap['repos']))}, {plural(gap['sites'], 'site')}: "
                f"{gap_name(gap, data)}"
            )
        yield from _more(data["gaps"])


def _adapters(data: Data) -> Iterator[str]:
    if data["adapters"]:
        yield "What one adapter, or two, would unblock:"
        for row in data["adapters"][:ROWS]:
            names = " and ".join(gap_name(gap, data) for gap in row["gaps"])
            yield f"  {repos(len(row['repos']))}: {names} ({listed(row['repos'])})"
        yield from _more(data["adapters"])


def _more(rows: Sequence[object]) -> Iterator[str]:
    if len(rows) > ROWS:
        yield f"  and {len(rows) - ROWS} more"


def _failed(data: Data) -> Iterator[str]:
    found = [row for row in data["repos"] if row["status"] == FAILED]
    if found:
        yield "Could not be looked at:"
        yield from (f"  {row['name']}: {row['reason']}" for row in found)


# Markdown ---------------------------------------------------------------------------------------


def as_markdown(data: Data) -> str:
    """For a comment or a page."""
    totals = data["totals"]
    lines = [
        f"**{_marked(sentence(data))}**",
        "",
        f"Readiness: {measure(totals)}. {totals['rewritable']:,} sites can be rewritten, "
        f"{totals['pending']:,} are left for a person.",
        "",
        *_rows(_cells(data), right=2),
    ]
    if data["gaps"]:
        lines += ["", "### Most common gaps", ""]
        cells = [("repositories", "sites", "gap")]
        for gap in data["gaps"][:ROWS]:
            cells.append((str(len(gap["repos"])), str(gap["sites"]), gap_name(gap, data)))
        lines += _rows(cells, right=0, left=2)
    if data["adapters"]:
        lines += ["", "### What one adapter, or two, would unblock", ""]
        cells = [("repositories", "adapter", "which")]
        for row in data["adapters"][:ROWS]:
            names = " and ".join(gap_name(gap, data) for gap in row["gaps"])
            cells.append((str(len(row["repos"])), names, listed(row["repos"])))
        lines += _rows(cells, right=0, left=1)
    failed = [row for row in data["repos"] if row["status"] == FAILED]
    if failed:
        lines += ["", "### Could not be looked at", ""]
        lines += [f"- {_marked(row['name'])}: {_marked(row['reason'])}" for row in failed]
    return "\n".join(lines) + "\n"


def _rows(
    cells: Sequence[tuple[str, ...]], *, right: int, left: int | None = None
) -> Iterator[str]:
    """A table whose columns from `right` up to `left` hold numbers."""
    width = len(cells[0])
    end = width if left is None else left
    yield "| " + " | ".join(cells[0]) + " |"
    yield "|" + "|".join(" ---: " if right <= i < end else " --- " for i in range(width)) + "|"
    for row in cells[1:]:
        yield "| " + " | ".join(map(_marked, row)) + " |"


def _marked(text: str) -> str:
    """Text in which nothing means anything to Markdown."""
    plain = visible(text).replace("&", "&amp;").replace("<", "&lt;")
    return "".join(f"\\{c}" if c in "\\`*_[]|#~" else c for c in plain)
