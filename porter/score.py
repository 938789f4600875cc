"""What a report amounts to: a verdict, and how much of the work is done.

Readiness counts effort points over mandatory sites: resolved / total, each site at least one
point. It is rounded down, and stays below 100 % as long as anything is open: a gap, a site that
may be one, a file that could not be read, a check that failed. Without a mandatory site there is
nothing to measure, which is not 0 %.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from porter.codes import UNREADABLE

READY, REVIEW, BLOCKED = "READY", "AFTER REVIEW", "BLOCKED"
#: What a check came to: a run of the migrated code, or of a model exported from it.
PASSED, UNPROVED, FAILED = "passed", "unproved", "failed"

Data = Mapping[str, Any]


def verdict(data: Data) -> dict[str, Any]:
    """The verdict on a report.

    Args:
        data: a report's `sites`, `files`, `applied` and `target`, and its `checks`, if any.

    Returns:
        `status` (READY, AFTER REVIEW or BLOCKED), `sentence`, `readiness` (a whole number of
        percent, None without a mandatory site), `points` ("resolved" of "total" over mandatory
        sites, and those of sites that may matter, "open") and `sites` (numbers of sites by what
        became of them).
    """
    sites = data["sites"]
    resolved, total = points(sites)
    measured = {"resolved": resolved, "total": total, "open": _open(sites)}
    failed = sum(file["status"] == "failed" for file in data["files"])
    unread = sum(site["rule"] == UNREADABLE for site in sites)
    return concluded(data, tally(sites), measured, failed, unread)


def concluded(
    data: Data, counts: Mapping[str, int], points: Mapping[str, int], failed: int, unread: int
) -> dict[str, Any]:
    """The verdict on numbers that add up over the parts of a report.

    Args:
        data: `applied` and `checks`, if any, of the report.
        counts: what `tally` gives.
        points: effort points, "resolved" of "total", and "open".
        failed: files that could not be read.
        unread: sites that say so.
    """
    readiness = percent(points)
    if readiness == 100 and (failed or counts["potential"] or _checked(data, FAILED)):
        readiness = 99
    said = _sentence(counts, failed, unread, data)
    return {
        "status": _status(counts, failed or _checked(data, FAILED)),
        "sentence": " ".join([said, *_check_sentences(data)]),
        "readiness": readiness,
        "points": dict(points),
        "sites": dict(counts),
    }


def percent(points: Mapping[str, int]) -> int | None:
    """The share of the points that is resolved, rounded down; None without any."""
    return points["resolved"] * 100 // points["total"] if points["total"] else None


def tally(sites: Iterable[Data]) -> dict[str, int]:
    """How many sites there are by what became of them.

    `safe` and `unsafe` were rewritten. Of those left, `blocking` are mandatory, `choice` have a
    rewrite that somebody must approve, `potential` may matter, `optional` may stay; what has
    `advice` works as it is.
    """
    counts = dict.fromkeys(CLASSES, 0)
    for site in sites:
        counts[class_of(site)] += 1
    return counts


#: What can become of a site, the most pressing first.
CLASSES = (
    "blocking", "choice", "potential", "unsafe", "safe", "optional", "advice", "information",
)  # fmt: skip
#: Those that ask nothing of anybody.
QUIET = frozenset({"advice", "information"})


def class_of(site: Data) -> str:
    """What became of a site; one of `CLASSES`."""
    status, category = site["status"], site["category"]
    if status == "rewritten":
        return "unsafe" if site["safety"] == "unsafe" else "safe"
    if status == "information" or category in QUIET:
        return str(category) if category in QUIET else "information"
    if site["rule"] == UNREADABLE:  # nobody knows what the file would have needed
        return "potential"
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


def _open(sites: Iterable[Data]) -> int:
    """Effort points of the sites that may matter; nobody knows whether they must change."""
    return sum(max(1, site["effort"]) for site in sites if class_of(site) == "potential")


def readiness_text(data: Data) -> str:
    """Readiness for people."""
    readiness = data["verdict"]["readiness"]
    if readiness is not None:
        return f"{readiness} %"
    counts = data["verdict"]["sites"]
    asked = any(count for name, count in counts.items() if name not in QUIET)
    failed = any(file["status"] == "failed" for file in data["files"])
    return "nothing that must change" if asked or failed else "nothing found"


def measure_text(data: Data) -> str:
    """What readiness was measured by, for people; empty if there was nothing to measure."""
    points = data["verdict"]["points"]
    if not points["total"]:
        return ""
    open_ = points.get("open", 0)
    more = f"; {open_} more at sites that may matter" if open_ else ""
    return f"{points['resolved']} of {points['total']} points over mandatory sites{more}"


def _status(counts: Mapping[str, int], failed: int) -> str:
    if counts["blocking"]:
        return BLOCKED
    review = counts["choice"] + counts["potential"] + counts["unsafe"]
    return REVIEW if review or failed else READY


def _checked(data: Data, outcome: str) -> int:
    return sum(check.get("outcome") == outcome for check in data.get("checks", ()))


def _check_sentences(data: Data) -> Iterable[str]:
    """What the checks say of the verdict; a report without checks says nothing."""
    for outcome, said in (
        (FAILED, "failed: it is not ready"),
        (UNPROVED, "ended well, but proved nothing"),
        (PASSED, "passed"),
    ):
        kinds: dict[str, int] = {}
        for check in data.get("checks", ()):
            if check.get("outcome") == outcome:
                kinds[check["kind"]] = kinds.get(check["kind"], 0) + 1
        for kind, count in kinds.items():
            yield f"{count} {kind}{'' if count == 1 else 's'} {said}."


def _sentence(counts: Mapping[str, int], failed: int, unread: int, data: Data) -> str:
    done = counts["safe"] + counts["unsafe"]
    if not any(counts.values()) and not failed:
        return "Nothing found: no code is bound to one device."
    rewritten = "rewritten" if data.get("applied") else "can be rewritten by porter"
    parts = []
    if counts["blocking"]:
        them = "site needs" if counts["blocking"] == 1 else "sites need"
        parts.append(f"{counts['blocking']} {them} work by hand")
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
