"""Parts of a report: written by one unit, and put together as one report by another.

A part is a file of lines: its head (all that adds up), then its files, then its sites, each in the
layout and order of a report. Parts follow each other in that order too, so a report of any size is
put together line by line.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import os
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

from porter import temporary
from porter.fleet import gaps, state
from porter.own import UNREADABLE
from porter.report import Report, as_data
from porter.score import concluded

Data = Mapping[str, Any]
SCHEMA = 1


def text(report: Report) -> bytes:
    """A part as it is kept."""
    data = as_data(report)
    head = {
        "part": SCHEMA,
        "files": len(data["files"]),
        "sites": len(data["sites"]),
        "gaps": gaps.of(data),
        "report": {key: value for key, value in data.items() if key not in ("files", "sites")},
    }
    rows = (json.dumps(row, ensure_ascii=True) for row in (head, *data["files"], *data["sites"]))
    return ("\n".join(rows) + "\n").encode()


class Part:
    """A part that was kept; only its head is in memory."""

    def __init__(self, path: Path) -> None:
        """Read the head."""
        self.path = path
        self.head: dict[str, Any] = json.loads(next(state.lines(path, 0, 1)))

    def files(self) -> Iterator[dict[str, Any]]:
        """Its files, in the order of a report."""
        return map(json.loads, state.lines(self.path, 1, self.head["files"]))

    def sites(self) -> Iterator[dict[str, Any]]:
        """Its sites, in the order of a report."""
        return map(json.loads, state.lines(self.path, 1 + self.head["files"], self.head["sites"]))


# Heads ------------------------------------------------------------------------------------------


def total(heads: Sequence[Data]) -> dict[str, Any]:
    """What the reports of several parts say together, but for files and sites."""
    reports = [head["report"] for head in heads]
    first = dict(reports[0])
    first["summary"] = _sum([report["summary"] for report in reports])
    first["summary"]["rules"] = dict(sorted(first["summary"]["rules"].items()))
    rules = {code: about for report in reports for code, about in report["rules"].items()}
    first["rules"] = dict(sorted(rules.items()))
    first["apis"] = _apis(reports)
    verdicts = _sum([{k: r["verdict"][k] for k in ("points", "sites")} for r in reports])
    unread = first["summary"]["rules"].get(UNREADABLE, {})
    first["verdict"] = concluded(
        first,
        verdicts["sites"],
        verdicts["points"],
        first["summary"]["files"]["failed"],
        sum(unread.values()),
    )
    return first


def _sum(values: Sequence[Any]) -> Any:
    """Numbers added up, through mappings of any depth."""
    if not isinstance(values[0], Mapping):
        return sum(values)
    keys = dict.fromkeys(key for value in values for key in value)
    return {key: _sum([value[key] for value in values if key in value]) for key in keys}


def _apis(reports: Sequence[Data]) -> list[dict[str, Any]]:
    found: dict[str, list[Data]] = {}
    for report in reports:
        for api in report["apis"]:
            found.setdefault(api["name"], []).append(api)
    added = []
    for name in sorted(found):
        same = {key: found[name][0][key] for key in ("name", "known")}
        rest = [{k: v for k, v in api.items() if k not in same} for api in found[name]]
        counts = _sum(rest)
        added.append({"name": name, **counts, "known": same["known"]})
    return added


# The report -------------------------------------------------------------------------------------


def write_report(path: Path, parts: Sequence[Part], extra: Report, head: Data) -> str:
    """Write the report that parts give together; as `porter.report.as_json` would.

    Args:
        path: of the report.
        parts: in the order of their files.
        extra: what is said of the project rather than of a file; small.
        head: what `total` gives for all of them.

    Returns:
        The SHA-256 of what was written.
    """
    more = as_data(extra)
    path.parent.mkdir(parents=True, exist_ok=True)
    with temporary.made(path.parent, path.name) as made:
        out = _Out(made.file)
        before = {key: value for key, value in head.items() if key != "provenance"}
        out.write(json.dumps(before, indent=2).removesuffix("\n}"))
        out.rows("files", _merged((p.files() for p in parts), more["files"], _file_order))
        out.rows("sites", _merged((p.sites() for p in parts), more["sites"], _site_order))
        made_with = json.dumps({"provenance": head["provenance"]}, indent=2)
        out.write("," + made_with.removeprefix("{") + "\n")
        made.file.flush()
        made.path.chmod(0o666 & ~_umask())
        made.path.replace(path)
    return out.digest.hexdigest()


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


class _Out:
    """A file that is being written, and the digest of what was."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.digest = hashlib.sha256()

    def write(self, text: str) -> None:
        data = text.encode()
        self._file.write(data)
        self.digest.update(data)

    def rows(self, name: str, rows: Iterable[Data]) -> None:
        """Write a list as json.dumps does with an indent."""
        self.write(f',\n  "{name}": [')
        empty = True
        for row in rows:
            block = json.dumps(row, indent=2).replace("\n", "\n    ")
            self.write(("\n    " if empty else ",\n    ") + block)
            empty = False
        self.write("]" if empty else "\n  ]")


def _merged(
    parts: Iterable[Iterator[Data]], extra: Sequence[Data], order: Callable[[Data], Any]
) -> Iterator[Data]:
    rows = (row for part in parts for row in part)
    return heapq.merge(rows, extra, key=order) if extra else rows


def _file_order(file: Data) -> tuple[Any, ...]:
    return (file["path"], file["status"], file["reason"])


def _site_order(site: Data) -> tuple[Any, ...]:
    return (
        site["path"], site.get("cell") or 0, site["line"], site["column"], site["rule"],
        site["reason"],
    )  # fmt: skip
