"""What a change of the code adds, fixes and leaves: two reports side by side.

Findings are the same if their rule and their code are the same, wherever the lines have moved;
what is left over is matched once more without its path, for files that were renamed.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from porter.display import visible
from porter.output import view
from porter.output.markdown import LIMIT, code_span, escape, prose
from porter.problem import Problem
from porter.score import readiness_text

Data = Mapping[str, Any]

#: What `--fail-on` can name.
FAILURES = ("new", "any", "never")


class CompareProblem(Problem):
    """Two reports that cannot be compared; the text is one line for the user."""


@dataclass(frozen=True)
class Comparison:
    """Two reports, matched.

    Args:
        base: the older report.
        head: the newer report.
        added: findings of `head` alone.
        fixed: findings of `base` alone.
        left: findings of both, as they are in `head`.
    """

    base: Data
    head: Data
    added: tuple[Data, ...]
    fixed: tuple[Data, ...]
    left: tuple[Data, ...]

    def fails(self, when: str) -> bool:
        """Whether `--fail-on` `when` is met."""
        return bool({"new": self.added, "any": self.added or self.left}.get(when))


def compare(base: Data, head: Data) -> Comparison:
    """Match the findings of two reports.

    Raises:
        CompareProblem: the reports are about different targets.
    """
    if base["target"] != head["target"]:
        raise CompareProblem(
            f"the reports are about different targets: {base['target']} and {head['target']}"
        )
    old, new = _findings(base), _findings(head)
    old, new, same = _matched(old, new, _exact)
    old, new, moved = _matched(old, new, _moved)
    left = sorted([*same, *moved], key=view.order)
    return Comparison(base, head, tuple(new), tuple(old), tuple(left))


def _findings(data: Data) -> list[Data]:
    sites = (s for s in data["sites"] if s["status"] != "information")
    done = data["applied"]
    return [s for s in sites if not (done and s["status"] == "rewritten")]


def _exact(site: Data) -> Hashable:
    return site["path"], site["fingerprint"]


def _moved(site: Data) -> Hashable:
    return str(site["fingerprint"]).partition(":")[0]


def _matched(
    old: Iterable[Data], new: Iterable[Data], key: Callable[[Data], Hashable]
) -> tuple[list[Data], list[Data], list[Data]]:
    """Split into what only the old side has, what only the new side has, and what both have."""
    waiting: dict[Hashable, list[Data]] = {}
    for site in old:
        waiting.setdefault(key(site), []).append(site)
    added, both = [], []
    for site in new:
        if waiting.get(key(site)):
            waiting[key(site)].pop(0)
            both.append(site)
        else:
            added.append(site)
    rest = [site for sites in waiting.values() for site in sites]
    return sorted(rest, key=view.order), added, both


# Views ------------------------------------------------------------------------------------------


def as_data(found: Comparison) -> dict[str, Any]:
    """The comparison as plain data."""
    return {
        "target": found.head["target"],
        "verdict": {
            "base": found.base["verdict"]["status"],
            "head": found.head["verdict"]["status"],
        },
        "readiness": {
            "base": found.base["verdict"]["readiness"],
            "head": found.head["verdict"]["readiness"],
        },
        "added": list(found.added),
        "fixed": list(found.fixed),
        "left": len(found.left),
    }


def as_text(found: Comparison) -> str:
    """The comparison for a terminal."""
    lines = [_sentence(found), _verdicts(found)]
    for title, data, sites in (
        ("new", found.head, found.added),
        ("fixed", found.base, found.fixed),
    ):
        if sites:
            lines += ["", f"{title}:"]
            lines += [
                visible(f"  {s['path']}:{view.place(s)}: {s['rule']} {view.message(data, s)}")
                for s in sites
            ]
    return "\n".join(lines) + "\n"


def as_markdown(found: Comparison) -> str:
    """The comparison for a comment on a pull request; shorter than GitHub's limit."""
    mark = "\U0001f534" if found.added else "\U0001f7e2"
    parts = [f"## {mark} porter: {_sentence(found)}\n\n{escape(_verdicts(found))}\n"]
    size = len(parts[0].encode())
    for title, data, sites in (
        ("New", found.head, found.added),
        ("Fixed", found.base, found.fixed),
    ):
        rows = [_row(data, site) for site in sites]
        if rows:
            text, size = _section(title, rows, size)
            parts.append(text)
    return "".join(parts)


def _section(title: str, rows: Sequence[str], size: int) -> tuple[str, int]:
    opened = " open" if title == "New" else ""
    head = (
        f"\n<details{opened}><summary>{title} ({len(rows)})</summary>\n\n"
        "| place | rule | what |\n|---|---|---|\n"
    )
    taken: list[str] = []
    used = size + len(head) + 200
    for row in rows:
        used += len(row.encode("utf-8", "backslashreplace"))
        if used > LIMIT:
            break
        taken.append(row)
    more = len(rows) - len(taken)
    tail = f"\n_{view.plural(more, 'finding')} more._\n" if more else ""
    text = f"{head}{''.join(taken)}{tail}\n</details>\n"
    return text, size + len(text.encode("utf-8", "backslashreplace"))


def _row(data: Data, site: Data) -> str:
    where = code_span(f"{site['path']}:{view.place(site)}")
    return f"| {where} | {site['rule']} | {prose(view.message(data, site)[:300])} |\n"


def _sentence(found: Comparison) -> str:
    if not found.added and not found.fixed:
        return f"no finding is new or fixed, {len(found.left)} left"
    return f"{len(found.added)} new, {len(found.fixed)} fixed, {len(found.left)} left"


def _verdicts(found: Comparison) -> str:
    before, after = found.base["verdict"]["status"], found.head["verdict"]["status"]
    verdict = after if before == after else f"{before}, now {after}"
    old, new = readiness_text(found.base), readiness_text(found.head)
    readiness = new if old == new else f"{old}, now {new}"
    return f"Verdict: {verdict}. Readiness: {readiness}. Target: {found.head['target']}."
