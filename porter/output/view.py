"""What views share: which sites they show, in which order, and where."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from porter.score import CLASSES, FAILED, QUIET, UNPROVED, class_of

Data = Mapping[str, Any]

_LEVELS = {
    "mandatory": "error", "potential": "warning", "optional": "note", "advice": "note",
    "information": "note",
}  # fmt: skip


def label(data: Data, name: str) -> str:
    """What people call a class of `porter.score`."""
    done = data["applied"]
    return {
        "blocking": "must change by hand",
        "choice": "rewrite to approve",
        "potential": "may matter",
        "unsafe": "rewritten, to review" if done else "rewrite to review",
        "safe": "rewritten" if done else "can be rewritten",
        "optional": "may stay",
        "advice": "advice",
        "information": "information",
    }[name]


def plural(count: int, word: str) -> str:
    """Like "1 site", "2 sites"."""
    return f"{count:,} {word}" if count == 1 else f"{count:,} {word}s"


def findings(data: Data, *, accepted: bool = False) -> list[Data]:
    """The sites that somebody may want to do something about, the most pressing first.

    Args:
        data: the report.
        accepted: with those that a baseline holds.
    """
    return sorted(
        (
            s
            for s in data["sites"]
            if _matters(s, data["applied"]) and (accepted or not s["accepted"])
        ),
        key=lambda s: (CLASSES.index(class_of(s)), *order(s)),
    )


def _matters(site: Data, applied: bool) -> bool:
    if site["status"] == "rewritten":
        return not applied
    return bool(site["status"] == "left")


def order(site: Data) -> tuple[Any, ...]:
    """What sites of one kind are sorted by."""
    return (site["path"], site.get("cell", 0), site["line"], site["column"], site["rule"])


def place(site: Data) -> str:
    """The position as it is written behind the path."""
    cell = f"cell {site['cell']}:" if "cell" in site else ""
    return f"{cell}{site['line']}:{site['column']}"


def level(site: Data) -> str:
    """One of error, warning and note."""
    return _LEVELS[site["category"]]


def rule(data: Data, code: str) -> Data:
    """What the report says about a rule."""
    found: Data = data["rules"].get(code) or {
        "name": code, "title": "", "family": "other", "why": "", "advice": "", "references": [],
        "category": "mandatory", "effort": 0, "safety": "manual",
    }  # fmt: skip
    return found


def message(data: Data, site: Data) -> str:
    """What a finding says, on one line."""
    about = rule(data, site["rule"])
    reason = " ".join(site["reason"].split())
    if not reason and site["status"] == "rewritten":
        after = " ".join(site["after"].split())
        short = after if len(after) <= 120 else after[:117] + "..."
        reason = f"`porter migrate` writes: {short}" if short else "`porter migrate` rewrites it"
    name = about["name"].replace("-", " ")
    return f"{name}: {reason}" if reason else name


def after(site: Data) -> str:
    """The lines of a site as they are, or would be once somebody approves; may be empty."""
    return str(site["after"] or site.get("proposed", ""))


def hunk(site: Data) -> list[tuple[str, str]]:
    """The lines of a site with "-", and with "+" as they are or would be; indented no more than
    needed."""
    marked = [("-", line) for line in site["before"].splitlines()]
    marked += [("+", line) for line in after(site).splitlines()]
    blank = [len(line) - len(line.lstrip()) for _, line in marked if line.strip()]
    cut = min(blank, default=0)
    return [(mark, line[cut:]) for mark, line in marked]


def link(data: Data, code: str) -> str:
    """A page about a rule's subject; empty if none is known."""
    references = rule(data, code)["references"]
    return str(references[0]) if references else ""


def title(text: str) -> str:
    """A rule's first sentence as a heading, without the words that all of them start with."""
    short = re.sub(r"^(Checks for|Reports) ", "", text).rstrip(".")
    return short[:1].upper() + short[1:]


def rebased(data: Data, prefix: str) -> Data:
    """The report with its paths below another folder.

    Args:
        data: the report.
        prefix: a relative POSIX path; "" and "." change nothing.
    """
    prefix = prefix.strip("/")
    if prefix in ("", "."):
        return data
    moved = {**data}
    for kind in ("files", "sites"):
        moved[kind] = [{**item, "path": f"{prefix}/{item['path']}"} for item in data[kind]]
    return moved


# Checks -----------------------------------------------------------------------------------------


def checks(data: Data) -> list[Data]:
    """Verdicts of runs of the migrated code and of its exported models; those that failed first."""
    order = {FAILED: 0, UNPROVED: 1}
    return sorted(data.get("checks", ()), key=lambda c: order.get(c.get("outcome", ""), 2))


def check_lines(check: Data) -> list[str]:
    """All that is known of a check, line by line; empty if its detail is all."""
    if "onnx" in check:
        from porter.onnx import show as models

        return models.lines(check)
    if "rehearsal" not in check:
        return []
    from porter.rehearse import show, verdict

    # The first line is the check's name and verdict.
    return list(show.lines(verdict.from_json(check["rehearsal"])))[1:]


# Lines ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Change:
    """Lines of a file that were replaced.

    Args:
        start: 1-based number of the first old line (of the line behind, if there is none).
        old: the old lines.
        new: what stands there now.
        last: whether the old lines reach the end of a file without a newline there.
    """

    start: int
    old: tuple[str, ...]
    new: tuple[str, ...]
    last: bool = False


def changes(hunks: Iterable[Data]) -> list[Change]:
    """The replaced lines of a file, in order."""
    found: list[Change] = []
    for hunk in hunks:
        number, old, new, last = hunk["old"], [], [], False
        for text in [*hunk["lines"], " "]:
            mark, line = text[:1], text[1:]
            if mark == "-":
                old.append(line)
            elif mark == "+":
                new.append(line)
            elif mark == "\\":
                last = True
            elif old or new:
                found.append(Change(number, tuple(old), tuple(new), last))
                number += len(old) + 1
                old, new, last = [], [], False
            else:
                number += 1
    return found


def present(data: Data) -> Callable[[Data], int]:
    """A function that tells on which line a site stands now."""
    shifts: dict[str, list[Change]] = {}
    if data["applied"]:
        for file in data["files"]:
            if "hunks" in file:
                shifts[file["path"]] = changes(file["hunks"])

    def line(site: Data) -> int:
        number: int = site["line"]
        if "cell" in site:
            return number
        before = [c for c in shifts.get(site["path"], ()) if c.start + len(c.old) <= number]
        return number + sum(len(c.new) - len(c.old) for c in before)

    return line


# Groups -----------------------------------------------------------------------------------------


def points(sites: Iterable[Data]) -> int:
    """Effort points of sites."""
    return sum(site["effort"] for site in sites)


def size(sites: Sequence[Data]) -> tuple[str, ...]:
    """How many sites there are and their effort, in words; advice has none."""
    if all(class_of(site) == "advice" for site in sites):
        return (plural(len(sites), "place"),)
    return plural(len(sites), "site"), plural(points(sites), "point")


def by_rule(sites: Iterable[Data]) -> list[tuple[str, list[Data]]]:
    """Sites by rule, the most effort first."""
    groups: dict[str, list[Data]] = {}
    for site in sites:
        groups.setdefault(site["rule"], []).append(site)
    return sorted(groups.items(), key=lambda item: (-points(item[1]), item[0]))


def by_reason(sites: Iterable[Data]) -> list[tuple[str, list[Data]]]:
    """Sites by what is said of them, the most frequent first."""
    groups: dict[str, list[Data]] = {}
    for site in sites:
        groups.setdefault(" ".join(site["reason"].split()), []).append(site)
    return sorted(groups.items(), key=lambda item: (-len(item[1]), item[0]))


@dataclass(frozen=True)
class Row:
    """Counts of one family: `classes` by class, and the points of what a person must do."""

    family: str
    classes: Mapping[str, int]
    left: int

    @property
    def total(self) -> int:
        """All sites but those of which nothing is asked."""
        return sum(n for name, n in self.classes.items() if name not in QUIET)


def families(data: Data) -> list[Row]:
    """The families of rules, the most effort left first."""
    groups: dict[str, list[Data]] = {}
    for site in data["sites"]:
        groups.setdefault(rule(data, site["rule"])["family"], []).append(site)
    rows = []
    for family, sites in groups.items():
        classes = dict.fromkeys(CLASSES, 0)
        for site in sites:
            classes[class_of(site)] += 1
        rows.append(Row(family, classes, points(_needed(sites))))
    return sorted(rows, key=lambda row: (-row.left, -row.total, row.family))


#: Topics other than code, as a heading for each.
TOPICS = {
    "dependencies": "Dependencies",
    "environment": "Environment, scripts and settings",
    "containers": "Containers and clusters",
    "native code": "Native code",
    "other files": "Other files",
}


@dataclass(frozen=True)
class Item:
    """Something that a project needs besides its Python code.

    Args:
        name: what the tables or the files call it.
        sites: where it was found, the most pressing first.
        known: what the tables know of it.
    """

    name: str
    sites: tuple[Data, ...]
    known: tuple[Data, ...]

    @property
    def worst(self) -> str:
        """The most pressing class of its sites."""
        return class_of(self.sites[0])

    @property
    def reasons(self) -> list[str]:
        """What is said of it, without repeats."""
        said = (re.sub(r" \(used [^()]* here\)$", "", s["reason"]) for s in self.sites)
        return list(dict.fromkeys(" ".join(text.split()) for text in said if text))

    @property
    def places(self) -> list[str]:
        """Where it is, without repeats."""
        return list(dict.fromkeys(f"{s['path']}:{place(s)}" for s in self.sites))


def items(data: Data, topic: str) -> list[Item]:
    """What is known of one topic, the most pressing first."""
    known = {api["name"]: tuple(api["known"]) for api in data["apis"]}
    groups: dict[str, list[Data]] = {}
    for site in data["sites"]:
        if rule(data, site["rule"]).get("topic", "code") == topic:
            groups.setdefault(_item_name(site, topic), []).append(site)
    found = []
    for name, sites in groups.items():
        ordered = sorted(sites, key=lambda s: (CLASSES.index(class_of(s)), *order(s)))
        found.append(Item(name, tuple(ordered), known.get(ordered[0]["symbol"], ())))
    return sorted(found, key=lambda i: (CLASSES.index(i.worst), -points(i.sites), i.name))


def _item_name(site: Data, topic: str) -> str:
    if topic == "native code" and not site["symbol"]:
        return str(site["path"])
    own = site["line"] - site["snippet"]["start"]
    lines = site["snippet"]["lines"]
    line = lines[own] if 0 <= own < len(lines) else site["before"].partition("\n")[0]
    text = " ".join(str(site["symbol"] or line).split()).removeprefix("- ")
    return text if len(text) <= 90 else text[:87] + "..."


def names(data: Data) -> list[Data]:
    """The names behind the sites in code, the most used first."""
    elsewhere = {
        site["symbol"]
        for site in data["sites"]
        if rule(data, site["rule"]).get("topic", "code") in TOPICS
    }
    found = [api for api in data["apis"] if api["name"] not in elsewhere]
    return sorted(found, key=lambda api: (-api["uses"], api["name"]))


def known(api: Data) -> list[Data]:
    """What the tables say of a name: first of what takes its place, then of the name itself."""
    return sorted(api["known"], key=lambda row: row["kind"] == "API")


def status_of(api: Data) -> str:
    """What becomes of a name on the target."""
    rows = known(api)
    return str(rows[0]["status"]) if rows else "unknown"


#: Statuses from good to bad; a name in no table is unknown, which is never good.
STATUSES = (
    "supported", "replaced", "ignored", "limited", "runs on the CPU", "needs an adapter",
    "unverified", "unknown", "unsupported",
)  # fmt: skip


def coverage(data: Data) -> list[tuple[str, int]]:
    """How many of the names behind the sites have each status, those with none left out."""
    counts = dict.fromkeys(STATUSES, 0)
    for api in names(data):
        status = status_of(api)
        counts[status] = counts.get(status, 0) + 1
    return [(status, count) for status, count in counts.items() if count]


def busiest(data: Data, count: int) -> list[tuple[str, int, int]]:
    """Files with most effort left: path, points, number of sites."""
    groups: dict[str, list[Data]] = {}
    for site in _needed(data["sites"]):
        groups.setdefault(site["path"], []).append(site)
    rows = [(path, points(sites), len(sites)) for path, sites in groups.items()]
    return sorted(rows, key=lambda row: (-row[1], -row[2], row[0]))[:count]


def _needed(sites: Iterable[Data]) -> list[Data]:
    return [s for s in sites if class_of(s) in ("blocking", "choice", "potential")]


def of_class(sites: Sequence[Data], *classes: str) -> list[Data]:
    """The sites of these classes, in order of place."""
    return sorted((s for s in sites if class_of(s) in classes), key=order)


def files(data: Data, status: str) -> list[Data]:
    """The files with this status."""
    return [file for file in data["files"] if file["status"] == status]
