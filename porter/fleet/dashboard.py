"""What all repositories amount to together, as plain data: fleet.json.

The summaries of the repositories are read one after the other; only their totals stay in memory.
Nothing depends on the time, the machine, the engine, or on how repositories were cut.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from porter import __version__
from porter.fleet import gaps, state
from porter.fleet.drive import Done
from porter.fleet.gaps import NEEDED
from porter.fleet.listing import Fleet, Repo
from porter.score import BLOCKED, CLASSES, READY, REVIEW, percent

#: Version of the layout; raised when a field changes its meaning or goes away.
SCHEMA = 1
FAILED = "FAILED"
STATUSES = (FAILED, BLOCKED, REVIEW, READY)


def build(fleet: Fleet, done: Sequence[Done]) -> dict[str, Any]:
    """The dashboard of a list, whose repositories ended like that."""
    tally = _Tally()
    rows = [_row(repo, each, tally) for repo, each in zip(fleet.repos, done, strict=True)]
    looked_at = [row for row in rows if row["status"] != FAILED]
    return {
        "schema": SCHEMA,
        "kind": "porter fleet",
        "porter": __version__,
        "title": fleet.title,
        "totals": _totals(rows),
        "teams": _teams(rows),
        "repos": rows,
        "rules": tally.rules(),
        "gaps": tally.gaps(),
        "adapters": gaps.unblocked(
            {row["name"]: _names(row["gaps"]) for row in looked_at if row["status"] == BLOCKED},
            {row["name"]: row["weight"] for row in looked_at},
        ),
    }


def _names(found: Iterable[Mapping[str, str]]) -> frozenset[tuple[str, str]]:
    return frozenset((gap["kind"], gap["name"]) for gap in found)


def _row(repo: Repo, done: Done, tally: _Tally) -> dict[str, Any]:
    row: dict[str, Any] = {
        "name": repo.name,
        "path": repo.shown,
        "team": repo.team,
        "labels": list(repo.labels),
        "weight": repo.weight,
        "status": FAILED,
        "reason": done.failed,
    }
    if done.failed:
        return row
    summary = state.read_json(Path(done.summary))
    tally.add(repo.name, summary)
    verdict, counts = summary["verdict"], summary["summary"]
    blocking = sorted({(gap["kind"], gap["name"]) for gap in summary["gaps"] if gap["blocking"]})
    return {
        **row,
        "status": verdict["status"],
        "sentence": verdict["sentence"],
        "target": summary["target"],
        "min_torch": summary["min_torch"],
        "readiness": verdict["readiness"],
        "points": verdict["points"],
        "effort": counts["effort"],
        "sites": verdict["sites"],
        "rewritable": counts["sites"]["rewritten"],
        "pending": counts["sites"]["pending"],
        "files": counts["files"],
        "gaps": [{"kind": kind, "name": name} for kind, name in blocking],
        "units": summary["units"],
        "report": f"repos/{repo.name}.json",
        "page": f"repos/{repo.name}.html" if summary["page"] else "",
    }


def _totals(rows: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Sums over the repositories that could be looked at."""
    sound = [row for row in rows if row["status"] != FAILED]
    points = {key: sum(r["points"][key] for r in sound) for key in ("resolved", "total", "open")}
    return {
        "repos": len(rows),
        "statuses": {status: sum(r["status"] == status for r in rows) for status in STATUSES},
        "readiness": _readiness(points, sound, len(rows)),
        "points": points,
        "effort": {k: sum(r["effort"][k] for r in sound) for k in ("rewritten", "left")},
        "sites": {name: sum(r["sites"][name] for r in sound) for name in CLASSES},
        "rewritable": sum(r["rewritable"] for r in sound),
        "pending": sum(r["pending"] for r in sound),
        "files": {
            key: sum(r["files"][key] for r in sound)
            for key in ("read", "changed", "unchanged", "failed", "skipped")
        },
    }


def _readiness(
    points: Mapping[str, int], sound: Sequence[Mapping[str, Any]], count: int
) -> int | None:
    """As of one repository: below 100 as long as anything is open anywhere."""
    found = percent(points)
    closed = len(sound) == count and all(r["readiness"] in (100, None) for r in sound)
    return 99 if found == 100 and not closed else found


def _teams(rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    names = sorted({row["team"] for row in rows} - {""})
    found = []
    for name in names:
        totals = _totals([row for row in rows if row["team"] == name])
        found.append({"team": name, **totals})
    return found


@dataclass
class _Tally:
    """Gaps over all repositories, by rule and by name."""

    _rules: dict[str, dict[str, Any]] = field(default_factory=dict)
    _gaps: dict[tuple[str, str], dict[str, Any]] = field(default_factory=dict)

    def add(self, repo: str, summary: Mapping[str, Any]) -> None:
        """Count what one repository lacks."""
        for gap in summary["gaps"]:
            rule = gap["rule"]
            about = summary["rules"][rule]
            row = self._rules.setdefault(
                rule, {"rule": rule, "name": about["name"], "title": about["title"], **_zero()}
            )
            _count(row, repo, gap)
            key = (gap["kind"], gap["name"])
            row = self._gaps.setdefault(
                key, {"kind": gap["kind"], "name": gap["name"], "rules": {}, **_zero()}
            )
            row["rules"][rule] = about["name"]
            _count(row, repo, gap)

    def rules(self) -> list[dict[str, Any]]:
        """Rules by the number of repositories in which they leave something to a person."""
        return sorted((_shown(row) for row in self._rules.values()), key=_most)

    def gaps(self) -> list[dict[str, Any]]:
        """Names by the number of repositories that lack them."""
        found = [
            {**_shown(row), "rules": dict(sorted(row["rules"].items()))}
            for row in self._gaps.values()
        ]
        return sorted(found, key=_most)


def _zero() -> dict[str, Any]:
    return {"repos": set(), "blocked": set(), **dict.fromkeys((*NEEDED, "points"), 0)}


def _count(row: dict[str, Any], repo: str, gap: Mapping[str, Any]) -> None:
    row["repos"].add(repo)
    if gap["blocking"]:
        row["blocked"].add(repo)
    for key in (*NEEDED, "points"):
        row[key] += gap[key]


def _shown(row: Mapping[str, Any]) -> dict[str, Any]:
    return {
        **row,
        "sites": sum(row[kind] for kind in NEEDED),
        "repos": sorted(row["repos"]),
        "blocked": len(row["blocked"]),
    }


def _most(row: Mapping[str, Any]) -> tuple[Any, ...]:
    return (
        -len(row["repos"]), -row["blocked"], -row["points"], -row["sites"],
        row.get("kind", ""), row.get("rule", ""), row["name"],
    )  # fmt: skip
