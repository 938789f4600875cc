"""What stands in the way, under names that are the same in every repository."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import combinations
from typing import Any

from porter.score import class_of

Data = Mapping[str, Any]
#: Classes of sites that a person must deal with.
NEEDED = ("blocking", "choice", "potential")
#: The most gaps that are solved together.
TOGETHER = 2

_SEPARATORS = re.compile(r"[-_.]+")


def name_of(site: Data, topic: str) -> tuple[str, str]:
    """What kind of thing a site lacks, and its name.

    Args:
        site: of a report.
        topic: that of the site's rule.

    Returns:
        "API", "package", "native code" or another topic, with the name behind the site (packages
        as PyPI spells them); "rule" and the rule's code where there is no such name.
    """
    symbol = site["symbol"]
    if not symbol:
        return "rule", site["rule"]
    if topic == "dependencies":
        # https://packaging.python.org/en/latest/specifications/name-normalization/
        return "package", _SEPARATORS.sub("-", symbol).lower()
    return ("API" if topic == "code" or symbol.startswith("torch.") else topic), symbol


def of(data: Data) -> list[dict[str, Any]]:
    """The gaps of a report or of a part of one, in a fixed order.

    Returns:
        For each name and rule: numbers of sites by class, `files`, effort `points`, and the first
        `place`.
    """
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    paths: dict[tuple[str, str, str], set[str]] = {}
    for site in data["sites"]:
        kind = class_of(site)
        if kind not in NEEDED:
            continue
        key = (*name_of(site, data["rules"][site["rule"]]["topic"]), site["rule"])
        gap = found.setdefault(key, _empty(key, f"{site['path']}:{site['line']}"))
        gap[kind] += 1
        gap["points"] += site["effort"]
        paths.setdefault(key, set()).add(site["path"])
    return [{**found[key], "files": len(paths[key])} for key in sorted(found)]


def _empty(key: tuple[str, str, str], place: str) -> dict[str, Any]:
    kind, name, rule = key
    counts = dict.fromkeys((*NEEDED, "points", "files"), 0)
    return {"kind": kind, "name": name, "rule": rule, "place": place, **counts}


def added(lists: Iterable[Sequence[Data]]) -> list[dict[str, Any]]:
    """The gaps of several parts of one report, which have no file in common."""
    found: dict[tuple[str, str, str], dict[str, Any]] = {}
    for gaps in lists:
        for gap in gaps:
            key = (gap["kind"], gap["name"], gap["rule"])
            total = found.setdefault(key, _empty(key, gap["place"]))
            for field in (*NEEDED, "points", "files"):
                total[field] += gap[field]
    return [found[key] for key in sorted(found)]


# Across repositories ----------------------------------------------------------------------------


def unblocked(
    blocking: Mapping[str, frozenset[tuple[str, str]]], weights: Mapping[str, float]
) -> list[dict[str, Any]]:
    """What one adapter, or two, would unblock.

    Args:
        blocking: for each repository the names of all gaps that block it.
        weights: how much each repository counts.

    Returns:
        For each set of at most `TOGETHER` gaps that is all that blocks some repository: the
        `gaps`, and the `repos` that nothing else blocks; those that unblock most come first.
    """
    alone: dict[frozenset[tuple[str, str]], list[str]] = {}
    for repo, gaps in blocking.items():
        if 0 < len(gaps) <= TOGETHER:
            alone.setdefault(gaps, []).append(repo)
    found = []
    for gaps in alone:
        inside = [
            repo
            for size in range(1, len(gaps) + 1)
            for part in combinations(sorted(gaps), size)
            for repo in alone.get(frozenset(part), ())
        ]
        found.append(
            {
                "gaps": [{"kind": kind, "name": name} for kind, name in sorted(gaps)],
                "repos": sorted(inside),
                "weight": sum(weights[repo] for repo in sorted(inside)),
            }
        )
    return sorted(
        found,
        key=lambda row: (
            -row["weight"],
            len(row["gaps"]),
            [(gap["kind"], gap["name"]) for gap in row["gaps"]],
        ),
    )
