"""What a report amounts to: a verdict, and how much of the work is done.

Readiness counts effort points over mandatory sites: resolved / total, each site at least one
point. It is rounded down, so that an open gap never reads as 100 %; without a mandatory site
there is nothing to measure, which is not 0 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from porter.own import UNREADABLE

READY, REVIEW, BLOCKED = "READY", "AFTER REVIEW", "BLOCKED"

Data = Mapping[str, Any]


def verdict(data: Data) -> dict[str, Any]:
    """The verdict on a report.

    Args:
        data: a report's `sites`, `files`, `applied` and `target`.

    Returns:
        `status` (READY, AFTER REVIEW or BLOCKED), `sentence`, `readiness` (a whole number of
        percent, None without a mandatory site), `points` ({"resolved", "total"}) and `sites`
        (numbers of sites by what became of them).
    """
    sites = data["sites"]
    counts = tally(sites)
    resolved, total = points(sites)
    failed = sum(file["status"] == "failed" for file in data["files"])
    readiness = resolved * 100 // total if total else None
    if failed and readiness == 100:
        readiness = 99
    status = _status(counts, failed)
    return {
        "status": status,
        "sentence": _sentence(status, counts, failed, data),
        "readiness": readiness,
        "points": {"resolved": resolved, "total": total},
        "sites": counts,
    }


def tally(sites: Iterable[Data]) -> dict[str, int]:
    """How many sites there are by what became of them.

    `safe` and `unsafe` were rewritten. Of those left, `blocking` are mandatory, `choice` have a
    rewrite that somebody must approve, `potential` may matter, `optional` may stay.
    """
    counts = dict.fromkeys(CLASSES, 0)
    for site in sites:
        counts[class_of(site)] += 1
    return counts


#: What can become of a site, the most pressing first.
CLASSES = ("blocking", "choice", "potential", "unsafe", "safe", "optional", "information")


def class_of(site: Data) -> str:
    """What became of a site; one of `CLASSES`."""
    status, category = site["status"], site["category"]
    if status == "rewritten":
        return "unsafe" if site["safety"] == "unsafe" else "safe"
    if site["rule"] == UNREADABLE:  # nobody knows what the file would have needed
        return "potential"
    if status == "information" or category == "information":
        return "information"
    if category == "mandatory":
        return "choice" if site["safety"] == "unsafe" else "blocking"
    return str(category)


def points(sites: Iterable[Data]) -> tuple[int, int]:
    """Effort points of the mandatory sites: resolved and total."""
    resolved = total = 0
    for site in sites:
        if site["category"] != "mandatory" or site["status"] == "information":
            continue
        if site["rule"] == UNREADABLE:
            continue
        weight = max(1, site["effort"])
        total += weight
        resolved += weight if site["status"] == "rewritten" else 0
    return resolved, total


def readiness_text(data: Data) -> str:
    """Readiness for people."""
    readiness = data["verdict"]["readiness"]
    return "nothing to measure" if readiness is None else f"{readiness} %"


def _status(counts: Mapping[str, int], failed: int) -> str:
    if counts["blocking"]:
        return BLOCKED
    review = counts["choice"] + counts["potential"] + counts["unsafe"]
    return REVIEW if review or failed else READY


def _sentence(status: str, counts: Mapping[str, int], failed: int, data: Data) -> str:
    done = counts["safe"] + counts["unsafe"]
    if not any(counts.values()) and not failed:
        return "Nothing found: no code is bound to one device."
    rewritten = "rewritten" if data.get("applied") else "can be rewritten by porter"
    parts = []
    if counts["blocking"]:
        them = "site needs" if counts["blocking"] == 1 else "sites need"
        parts.append(f"{counts['blocking']} {them} work by hand")
    unread = sum(site["rule"] == UNREADABLE for site in data["sites"])
    review = counts["choice"] + counts["potential"] + counts["unsafe"] - unread
    if review:
        parts.append(f"{review} {'site' if review == 1 else 'sites'} to review")
    if failed:
        parts.append(f"{failed} {'file' if failed == 1 else 'files'} could not be read")
    if done:
        parts.append(f"{done} {'site' if done == 1 else 'sites'} {rewritten}")
    if not parts:
        return "Nothing that must change."
    return f"{'; '.join(parts)}."
