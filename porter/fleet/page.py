"""The dashboard for a browser: one file that asks no network, and is readable without its script.

The script sorts the table and filters it. Names of the list and of code reach the page escaped.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
from collections.abc import Iterable, Iterator, Sequence
from html import escape
from urllib.parse import quote

from porter.fleet.dashboard import FAILED, STATUSES
from porter.fleet.show import Data, gap_name, measure, percent_of, repos, sentence
from porter.output.prose import prose_line
from porter.output.view import plural, title

#: Rows of the lists of gaps, rules and adapters.
ROWS = 100
_KINDS = {"FAILED": "blocked", "BLOCKED": "blocked", "AFTER REVIEW": "review", "READY": "ready"}
_WORDS = {"FAILED": "failed", "BLOCKED": "blocked", "AFTER REVIEW": "after review",
          "READY": "ready"}  # fmt: skip
_COLUMNS = (
    ("Repository", "text"), ("Verdict", "number"), ("Readiness", "number"),
    ("Points left", "number"), ("By hand", "number"), ("To approve", "number"),
    ("May matter", "number"), ("May stay", "number"), ("Rewritable", "number"),
    ("Files", "number"), ("Unreadable", "number"),
)  # fmt: skip


def render(data: Data) -> str:
    """Show a dashboard."""
    style = _part("porter.output", "page.css") + _part("porter.fleet", "fleet.css")
    script = _part("porter.fleet", "fleet.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    sections = [
        ("repos", "Repositories", _table(data)),
        ("gaps", "Most common gaps", _gaps(data)),
        ("adapters", "What one adapter would unblock", _adapters(data)),
        ("teams", "Teams", _teams(data)),
        ("folders", "Folders", _folders(data)),
        ("about", "How to read it", _about(data)),
    ]
    links = "".join(f'<a href="#{name}">{escape(words)}</a>' for name, words, body in sections
                    if body)  # fmt: skip
    return "".join(
        [
            '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n',
            f"<title>porter fleet: {escape(data['title'])}</title>\n",
            f"<style>{style}</style>\n</head>\n<body>\n",
            '<a class="skip" href="#repos">Skip to the repositories</a>\n',
            f'<header class="bar"><strong>{escape(data["title"])}</strong>',
            f'<nav aria-label="Sections">{links}</nav></header>\n<main>\n',
            _overview(data),
            *(
                f'<section id="{name}"><h2>{escape(words)}</h2>\n{body}</section>\n'
                for name, words, body in sections
                if body
            ),
            f"</main>\n<script>{script}</script>\n</body>\n</html>\n",
        ]
    )


def _part(package: str, name: str) -> str:
    return importlib.resources.files(package).joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# Overview ---------------------------------------------------------------------------------------


def _overview(data: Data) -> str:
    totals = data["totals"]
    worst = next((s for s in STATUSES if totals["statuses"][s]), "READY")
    statuses = ", ".join(
        f"{totals['statuses'][status]} {_WORDS[status]}"
        for status in reversed(STATUSES)
        if totals["statuses"][status]
    )
    tiles = [
        ("safe", totals["rewritable"], "sites", "porter can rewrite"),
        ("blocking", totals["sites"]["blocking"], "sites", "by hand"),
        ("potential", totals["pending"] - totals["sites"]["blocking"], "sites", "to review"),
        ("files", totals["files"]["read"], "files", "read"),
    ]
    return (
        '<section id="overview" aria-label="Overview">\n'
        f'<div class="hero {_KINDS[worst]}"><div><p class="verdict">{escape(statuses)}</p>'
        f"<h1>{escape(sentence(data))}</h1>"
        f'<p class="quiet">Readiness {escape(measure(totals))}; porter {escape(data["porter"])}'
        "</p></div></div>\n"
        '<div class="tiles">'
        + "".join(
            f'<div class="tile {kind}"><b>{count:,}</b> <span>{what}</span><p>{words}</p></div>'
            for kind, count, what, words in tiles
        )
        + "</div>\n</section>\n"
    )


# Repositories -----------------------------------------------------------------------------------


def _table(data: Data) -> str:
    rows = sorted(
        data["repos"],
        key=lambda r: (STATUSES.index(r["status"]), -r.get("effort", {}).get("left", 0), r["name"]),
    )
    heads = "".join(
        f'<th scope="col" data-kind="{kind}"><button type="button">{words}</button></th>'
        for words, kind in _COLUMNS
    )
    return (
        '<p class="tools" id="tools" hidden><input type="search" id="filter" '
        'placeholder="Name, team, label, gap" aria-label="Filter the repositories"> '
        '<span class="quiet" id="shown" aria-live="polite"></span></p>\n'
        f'<div class="scroll fleet"><table id="fleet"><thead><tr>{heads}</tr></thead>\n<tbody>\n'
        + "".join(map(_repo, rows))
        + "</tbody></table></div>\n"
    )


def _repo(row: Data) -> str:
    words = " ".join(
        [row["name"], row["path"], row["team"], *row["labels"],
         *(gap["name"] for gap in row.get("gaps", ()))]
    ).lower()  # fmt: skip
    status = row["status"]
    verdict = (
        f'<td data-value="{STATUSES.index(status)}"><span class="status {_KINDS[status]}">'
        f"{_WORDS[status]}</span></td>"
    )
    start = f'<tr data-words="{escape(words)}"><th scope="row" data-value="{escape(row["name"])}">'
    if status == FAILED:
        return (
            f"{start}{escape(row['name'])}{_meta(row)}</th>{verdict}"
            f'<td colspan="{len(_COLUMNS) - 2}">{escape(row["reason"])}</td></tr>\n'
        )
    name = escape(row["name"])
    page = f'<a href="{_link(row["page"])}">{name}</a>' if row["page"] else name
    more = f' <a class="quiet" href="{_link(row["report"])}">JSON</a>'
    more += "" if row["page"] else ' <span class="quiet">(too many findings for a page)</span>'
    sites = row["sites"]
    numbers = (
        row["effort"]["left"], sites["blocking"], sites["choice"], sites["potential"],
        sites["optional"], row["rewritable"], row["files"]["read"], row["files"]["failed"],
    )  # fmt: skip
    return (
        f"{start}{page}{more}{_meta(row)}</th>{verdict}{_readiness(row)}"
        + "".join(f'<td class="n" data-value="{n}">{n:,}</td>' for n in numbers)
        + "</tr>\n"
    )


def _link(path: str) -> str:
    return escape(quote(path.encode("utf-8", "surrogateescape")))


def _meta(row: Data) -> str:
    said = [row["team"], *row["labels"]]
    if row.get("target"):
        said.append(f"{row['target']}, torch >= {row['min_torch']}")
    tags = "".join(f'<span class="tag">{escape(word)}</span> ' for word in said if word)
    return f'<div class="meta">{tags}</div>' if tags else ""


def _readiness(row: Data) -> str:
    """A cell; where nothing must change there is no number, which sorts behind all others."""
    value = row["readiness"]
    if value is None:
        return '<td class="n" data-value="101">-</td>'
    points = row["points"]
    said = f"{points['resolved']:,} of {plural(points['total'], 'point')}"
    return (
        f'<td class="n" data-value="{value}" title="{escape(said)}">{percent_of(row)}'
        '<svg class="stack" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f'<rect class="safe" x="0" y="0" width="{value}" height="10"/></svg></td>'
    )


# Gaps -------------------------------------------------------------------------------------------


def _rows(heads: Sequence[str], rows: Iterable[Sequence[str]], numbers: int) -> str:
    """A table; the first `numbers` columns hold numbers."""
    top = "".join(f'<th scope="col">{escape(words)}</th>' for words in heads)
    body = "".join(
        "<tr>"
        + "".join(
            f'<td class="n">{cell}</td>' if i < numbers else f"<td>{cell}</td>"
            for i, cell in enumerate(row)
        )
        + "</tr>\n"
        for row in rows
    )
    return (
        f'<div class="scroll plainer"><table><thead><tr>{top}</tr></thead><tbody>\n{body}'
        "</tbody></table></div>\n"
    )


def _gaps(data: Data) -> str:
    if not data["gaps"]:
        return ""
    names = _rows(
        ("Repositories", "blocked by it", "Sites", "Points", "What", "Where"),
        (
            (
                str(len(gap["repos"])), str(gap["blocked"]), f"{gap['sites']:,}",
                f"{gap['points']:,}", f"<code>{escape(gap_name(gap, data))}</code>",
                _named(gap["repos"]),
            )
            for gap in data["gaps"][:ROWS]
        ),
        4,
    )  # fmt: skip
    rules = _rows(
        ("Repositories", "blocked by it", "Sites", "Points", "Rule", "Where"),
        (
            (
                str(len(rule["repos"])), str(rule["blocked"]), f"{rule['sites']:,}",
                f"{rule['points']:,}",
                f"<code>{escape(rule['rule'])}</code> {prose_line(title(rule['title']))}",
                _named(rule["repos"]),
            )
            for rule in data["rules"][:ROWS]
        ),
        4,
    )  # fmt: skip
    return (
        f"<h3>By name</h3>{_rest(data['gaps'])}{names}<h3>By rule</h3>{_rest(data['rules'])}{rules}"
    )


def _named(names: Sequence[str]) -> str:
    """Names, folded where they are many."""
    text = escape(", ".join(names))
    if len(names) <= 8:
        return text
    return f"<details><summary>{repos(len(names))}</summary>{text}</details>"


def _rest(rows: Sequence[object]) -> str:
    if len(rows) <= ROWS:
        return ""
    return f'<p class="quiet">{len(rows) - ROWS:,} more are in fleet.json.</p>'


def _adapters(data: Data) -> str:
    if not data["totals"]["statuses"]["BLOCKED"]:
        return ""
    if not data["adapters"]:
        return "<p>Every blocked repository has more than two blocking gaps.</p>\n"
    note = (
        '<p class="quiet">Repositories that nothing else blocks: with this gap closed, or these '
        "two, their verdict is no longer BLOCKED. What is to review in them stays.</p>"
    )
    rows = _rows(
        ("Repositories", "Weight", "Gap", "Which"),
        (
            (
                str(len(row["repos"])), f"{row['weight']:g}",
                " and ".join(f"<code>{escape(gap_name(g, data))}</code>" for g in row["gaps"]),
                _named(row["repos"]),
            )
            for row in data["adapters"][:ROWS]
        ),
        2,
    )  # fmt: skip
    return note + _rest(data["adapters"]) + rows


def _teams(data: Data) -> str:
    if not data["teams"]:
        return ""
    return _rows(
        ("Readiness", "Repositories", "Ready", "Blocked", "Failed", "Points left", "Team"),
        (
            (
                percent_of(team), str(team["repos"]), str(team["statuses"]["READY"]),
                str(team["statuses"]["BLOCKED"]), str(team["statuses"][FAILED]),
                f"{team['effort']['left']:,}", escape(team["team"]),
            )
            for team in data["teams"]
        ),
        6,
    )  # fmt: skip


def _folders(data: Data) -> str:
    return "".join(_folder_parts(data))


def _folder_parts(data: Data) -> Iterator[str]:
    for repo in data["repos"]:
        units = repo.get("units")
        if not units:
            continue
        yield f"<h3>{escape(repo['name'])}</h3>"
        yield _rows(
            ("Readiness", "By hand", "To review", "Rewritable", "Files", "Folder"),
            (
                (
                    percent_of(unit), f"{unit['sites']['blocking']:,}",
                    f"{unit['sites']['choice'] + unit['sites']['potential']:,}",
                    f"{unit['sites']['safe'] + unit['sites']['unsafe']:,}",
                    f"{unit['files']['read']:,}", escape(unit["folder"] or "(elsewhere)"),
                )
                for unit in units
            ),
            5,
        )  # fmt: skip


def _about(data: Data) -> str:
    failed = data["totals"]["statuses"][FAILED]
    more = f" {repos(failed)} that could not be looked at count nowhere." if failed else ""
    return (
        '<p class="quiet">Readiness is the share of effort points over mandatory sites that is '
        "resolved, rounded down; below 100 % while anything is open. By hand: sites that must "
        "change and that only a person can change; they block. To approve: a rewrite waits for "
        "<code>--unsafe</code>. May matter: nobody can tell from the code alone. Points left: the "
        f"effort of all sites that are left.{escape(more)}</p>\n"
    )
