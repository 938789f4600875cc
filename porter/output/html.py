"""One page for a browser: opens from a file, asks no network, and needs no other file.

The page is readable without its script, which adds filters, search and diffs. Code of the user
reaches it in two ways only: escaped into the markup here, or as text nodes made by the script
from the data block, in which no character can end the block. A content security policy with the
hashes of the one style sheet and the one script forbids everything else.
"""

from __future__ import annotations

import base64
import hashlib
import importlib.resources
import json
import re
from collections.abc import Iterable, Iterator
from html import escape
from typing import Any

from porter.output import view
from porter.output.view import Data, label, plural
from porter.score import CLASSES, class_of, readiness_text

#: Reasons and places named for each rule in the static part.
REASONS, PLACES = 6, 5
#: Rows of a table before the rest is folded.
ROWS = 8
_VERDICTS = {"READY": "ready", "AFTER REVIEW": "review", "BLOCKED": "blocked"}
_SHORT = {"READY": "Ready", "AFTER REVIEW": "Ready after review", "BLOCKED": "Blocked"}


def render(data: Data) -> str:
    """Show a report."""
    style, script = _part("page.css"), _part("page.js")
    policy = (
        f"default-src 'none'; style-src '{_hash(style)}'; script-src '{_hash(script)}'; "
        "base-uri 'none'; form-action 'none'"
    )
    verdict = data["verdict"]["status"]
    sections = [
        *_gaps(data),
        _findings(data),
        *_changes(data),
        *_checks(data),
        *_names(data),
        *_files(data),
        _made(data),
    ]
    links = "".join(
        f'<a href="#{name}">{escape(title)}</a>' for name, title, _ in sections if title
    )
    return "".join(
        [
            "<!DOCTYPE html>\n",
            '<html lang="en">\n<head>\n<meta charset="utf-8">\n',
            f'<meta http-equiv="Content-Security-Policy" content="{policy}">\n',
            '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
            '<meta name="color-scheme" content="light dark">\n',
            f"<title>porter: {escape(_SHORT[verdict])}</title>\n",
            f"<style>{style}</style>\n</head>\n<body>\n",
            '<a class="skip" href="#findings">Skip to the findings</a>\n',
            f'<header class="bar"><strong>porter</strong><nav aria-label="Sections">{links}</nav>',
            '<button type="button" id="keys" hidden aria-label="Keyboard shortcuts">?</button>',
            '<button type="button" id="theme" hidden aria-label="Light or dark">\u25d0</button>',
            "</header>\n<main>\n",
            _overview(data),
            *(text for _, _, text in sections),
            "</main>\n",
            _shortcuts(),
            f'<script type="application/json" id="data">{_embedded(data)}</script>\n',
            f"<script>{script}</script>\n</body>\n</html>\n",
        ]
    )


def _part(name: str) -> str:
    return importlib.resources.files("porter.output").joinpath(name).read_text("utf-8")


def _hash(text: str) -> str:
    return "sha256-" + base64.b64encode(hashlib.sha256(text.encode()).digest()).decode()


# Data of the script -----------------------------------------------------------------------------


def _embedded(data: Data) -> str:
    """The sites and diffs as JSON that can stand inside a script element."""
    paths = sorted({s["path"] for s in data["sites"]} | {f["path"] for f in data["files"]
                   if f.get("hunks")})  # fmt: skip
    number = {path: i for i, path in enumerate(paths)}
    codes = sorted({site["rule"] for site in data["sites"]})
    families = [row.family for row in view.families(data)]
    content = {
        "applied": data["applied"],
        "classes": [[name, label(data, name)] for name in CLASSES],
        "families": families,
        "files": paths,
        "rules": [_rule(data, code, families) for code in codes],
        "sites": [_site(site, number, codes) for site in data["sites"]],
        "diffs": [
            [number[f["path"]], [[h["old"], h["new"], h["lines"]] for h in f["hunks"]]]
            for f in data["files"]
            if f.get("hunks")
        ],
    }
    text = json.dumps(content, ensure_ascii=True, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return text


def _rule(data: Data, code: str, families: list[str]) -> list[Any]:
    about = view.rule(data, code)
    return [
        code, about["name"], view.title(about["title"]), families.index(about["family"]),
        about["why"], about["advice"],
        [url for url in about["references"] if url.startswith("https://")],
    ]  # fmt: skip


def _site(site: Data, number: dict[str, int], codes: list[str]) -> list[Any]:
    return [
        number[site["path"]], site["line"], site["column"], site.get("cell", 0),
        codes.index(site["rule"]), CLASSES.index(class_of(site)), site["effort"], site["symbol"],
        site["reason"], site["before"] if site["after"] or not site["snippet"]["lines"] else "",
        site["after"], site["snippet"]["start"], site["snippet"]["lines"], int(site["accepted"]),
    ]  # fmt: skip


# Overview ---------------------------------------------------------------------------------------


def _overview(data: Data) -> str:
    verdict = data["verdict"]
    kind = _VERDICTS[verdict["status"]]
    return (
        '<section id="overview" aria-label="Overview">\n'
        f'<div class="hero {kind}"><div><p class="verdict">{_SHORT[verdict["status"]]}</p>'
        f"<h1>{escape(verdict['sentence'])}</h1>"
        f'<p class="quiet">Target <b>{escape(data["target"])}</b>, torch &ge; '
        f"{escape(data['min_torch'])}, porter {escape(data['provenance']['porter'])}</p></div>"
        f"{_ring(data)}</div>\n"
        f'<div class="tiles">{"".join(_tiles(data))}</div>\n'
        f'<div class="charts">{_family_chart(data)}{_file_chart(data)}</div>\n</section>\n'
    )


def _ring(data: Data) -> str:
    readiness = data["verdict"]["readiness"]
    done, total = data["verdict"]["points"]["resolved"], data["verdict"]["points"]["total"]
    if readiness is None:
        return ""
    return (
        '<figure class="ring"><svg viewBox="0 0 120 120" role="img" '
        f'aria-label="Readiness {readiness} percent">'
        '<circle cx="60" cy="60" r="50" pathLength="100" class="track"/>'
        '<circle cx="60" cy="60" r="50" pathLength="100" class="value" '
        f'stroke-dasharray="{readiness} 100" transform="rotate(-90 60 60)"/>'
        f'<text x="60" y="62" class="number">{readiness}%</text>'
        '<text x="60" y="80" class="unit">readiness</text></svg>'
        f"<figcaption>{done} of {total} effort points of the sites that must change</figcaption>"
        "</figure>"
    )


def _tiles(data: Data) -> Iterator[str]:
    counts, files, sites = (
        data["verdict"]["sites"], data["summary"]["files"], data["summary"]["sites"],
    )  # fmt: skip
    found = sites["total"] - sites["information"]
    would = "" if data["applied"] else "can be "
    blocking = view.of_class(data["sites"], "blocking")
    review = view.of_class(data["sites"], "choice", "potential", "unsafe")
    yield _tile("safe", sites["rewritten"], f"of {found} sites", f"{would}rewritten")
    yield _tile("blocking", counts["blocking"], f"of {found} sites",
                f"by hand, {plural(view.points(blocking), 'point')}")  # fmt: skip
    yield _tile("potential", len(review), f"of {found} sites", "to review")
    yield _tile("files", files["changed"], f"of {files['read']:,} files",
                "changed" if data["applied"] else "would change")  # fmt: skip
    rest = [
        f"{number:,} {words}"
        for number, words in (
            (files["failed"], "unreadable"),
            (files["skipped"], "skipped"),
            (sites["suppressed"], "suppressed"),
            (sites["accepted"], "in the baseline"),
        )
        if number
    ]
    if rest:
        items = "".join(f"<li>{escape(text)}</li>" for text in rest)
        yield f'<div class="tile rest"><ul>{items}</ul></div>'


def _tile(kind: str, number: int, of: str, what: str) -> str:
    return (
        f'<div class="tile {kind}"><b>{number:,}</b> <span>{escape(of)}</span>'
        f"<p>{escape(what)}</p></div>"
    )


_BARS = tuple(name for name in CLASSES if name != "information")


def _family_chart(data: Data) -> str:
    rows = [row for row in view.families(data) if row.total]
    if not rows:
        return ""
    most = max(row.total for row in rows)
    used = [name for name in _BARS if any(row.classes[name] for row in rows)]
    lines = []
    for row in rows:
        words = ", ".join(f"{row.classes[n]} {label(data, n)}" for n in used if row.classes[n])
        lines.append(
            f'<li><button type="button" data-family="{escape(row.family)}" '
            f'title="{escape(words)}"><span class="name">{escape(row.family)}</span>'
            f"{_stack([(n, row.classes[n]) for n in used], most)}"
            f'<span class="count">{row.total}</span></button></li>'
        )
    legend = "".join(
        f'<li><i class="dot {name}"></i>{escape(label(data, name))}</li>' for name in used
    )
    return (
        f'<div class="panel"><h2>Sites by family</h2><ul class="bars">{"".join(lines)}</ul>'
        f'<ul class="legend">{legend}</ul></div>'
    )


def _stack(parts: Iterable[tuple[str, int]], most: int) -> str:
    x, bars = 0.0, []
    for name, count in parts:
        if count:
            width = 100 * count / most
            size = f'width="{max(width, 0.6):.2f}" height="10"'
            bars.append(f'<rect class="{name}" x="{x:.2f}" y="0" {size}/>')
            x += width
    return (
        '<svg class="stack" viewBox="0 0 100 10" preserveAspectRatio="none" aria-hidden="true">'
        f"{''.join(bars)}</svg>"
    )


def _file_chart(data: Data) -> str:
    rows = view.busiest(data, 8)
    if not rows:
        return ""
    most = max(max(points, 1) for _, points, _ in rows)
    lines = "".join(
        f'<li><button type="button" data-file="{escape(path)}" '
        f'title="{escape(path)}: {plural(sites, "site")}">'
        f'<span class="name path"><bdi>{escape(path)}</bdi></span>'
        f"{_stack([('blocking', points)], most)}"
        f'<span class="count">{points}</span></button></li>'
        for path, points, sites in rows
    )
    return (
        '<div class="panel wide"><h2>Where the work is</h2>'
        f'<ul class="bars files">{lines}</ul>'
        '<p class="quiet">Effort points of what a person must change or decide.</p></div>'
    )


# Sections ---------------------------------------------------------------------------------------

Section = tuple[str, str, str]


def _section(name: str, title: str, heading: str, body: str) -> Section:
    text = f'<section id="{name}"><h2>{escape(heading)}</h2>\n{body}</section>\n'
    return name, title, text


def _gaps(data: Data) -> Iterator[Section]:
    for name, title, heading, classes in (
        ("gaps", "By hand", "What must change by hand", ("blocking",)),
        ("review", "Review", "What to review", ("choice", "potential", "unsafe")),
    ):
        sites = view.of_class(data["sites"], *classes)
        if sites:
            index = {id(site): i for i, site in enumerate(data["sites"])}
            cards = "".join(
                _card(data, code, mine, index, " ".join(classes))
                for code, mine in view.by_rule(sites)
            )
            yield _section(name, title, heading, f'<div class="cards">{cards}</div>\n')


def _card(data: Data, code: str, sites: list[Data], index: dict[int, int], classes: str) -> str:
    about = view.rule(data, code)
    groups = view.by_reason(sites)
    shown = "".join(_reason(reason, those, index) for reason, those in groups[:REASONS])
    hidden = sum(len(those) for _, those in groups[REASONS:])
    more = (
        f'<p class="quiet">{plural(hidden, "site")} more for other reasons.</p>' if hidden else ""
    )
    links = "".join(
        f'<a href="{escape(url)}" rel="noreferrer">{escape(_host(url))}</a>'
        for url in about["references"]
        if url.startswith("https://")
    )
    show = "Show it" if len(sites) == 1 else f"Show all {len(sites):,}"
    advice = f'<div class="advice">{prose(about["advice"])}</div>' if about["advice"] else ""
    return (
        f'<article class="card"><header><h3>{prose_line(view.title(about["title"]))}</h3>'
        f'<p class="meta"><code>{escape(code)}</code> <span>{escape(about["family"])}</span> '
        f"<span>{plural(len(sites), 'site')}</span> "
        f"<span>{plural(view.points(sites), 'point')}</span></p></header>"
        f"{prose(about['why'])}{advice}{shown}{more}"
        f'<p class="more"><button type="button" hidden data-rule="{escape(code)}" '
        f'data-classes="{classes}">'
        f"{show}</button>{links}</p></article>"
    )


def _reason(reason: str, sites: list[Data], index: dict[int, int]) -> str:
    places = "".join(
        f'<li><a href="#s{index[id(s)]}"><code>{escape(_where(s))}</code></a>{_code_line(s)}</li>'
        for s in sites[:PLACES]
    )
    rest = len(sites) - PLACES
    more = f'<li class="quiet">and {rest:,} more</li>' if rest > 0 else ""
    head = f"<h4>{prose_line(reason)}</h4>" if reason else ""
    return f'{head}<ul class="places">{places}{more}</ul>'


def _where(site: Data) -> str:
    return f"{site['path']}:{view.place(site)}"


def _code_line(site: Data) -> str:
    own = site["line"] - site["snippet"]["start"]
    lines = site["snippet"]["lines"]
    text = lines[own] if 0 <= own < len(lines) else site["before"].partition("\n")[0]
    return f"<pre>{escape(text.strip()[:200])}</pre>" if text.strip() else ""


def _host(url: str) -> str:
    parts = url.split("#")[0].rstrip("/").split("/")
    last = re.sub(r"\.html?$", "", parts[-1])
    return f"{parts[2]}: {last}" if len(parts) > 3 else parts[2]


def _findings(data: Data) -> Section:
    options = "".join(
        f'<option value="{i}">{escape(row.family)}</option>'
        for i, row in enumerate(view.families(data))
    )
    body = (
        '<noscript><p class="note">Filters, search and diffs need the page\'s own script, which '
        "this browser does not run. All else on the page can be read without it.</p></noscript>\n"
        '<form class="filters" id="filters" role="search" hidden>'
        '<input type="search" id="search" placeholder="Search code, files, rules, reasons  ( / )" '
        'aria-label="Search">'
        '<select id="family" aria-label="Family"><option value="">All families</option>'
        f"{options}</select>"
        '<input type="text" id="file" list="paths" placeholder="File or folder" '
        'aria-label="File or folder"><datalist id="paths"></datalist>'
        '<select id="sort" aria-label="Order"><option value="class">Most pressing first</option>'
        '<option value="place">By file</option><option value="effort">Most effort first</option>'
        "</select>"
        '<div class="chips" id="chips" role="group" aria-label="Kinds of findings"></div>'
        '<p class="quiet" id="shown" role="status"></p>'
        '<button type="button" id="clear" hidden>Clear filters</button></form>\n'
        '<div class="list" id="list"></div><div id="more" aria-hidden="true"></div>\n'
    )
    return _section("findings", "Findings", "All findings", body)


def _changes(data: Data) -> Iterator[Section]:
    changed = [f for f in data["files"] if f.get("hunks")]
    if not changed:
        return
    body = (
        f'<p class="quiet">{plural(len(changed), "file")} '
        f"{'changed' if data['applied'] else 'would change'}.</p>"
        '<p class="tools" id="difftools" hidden><button type="button" id="split">Side by side'
        '</button><button type="button" id="unfold">Open all</button></p>'
        '<div id="diffs"></div>\n'
    )
    yield _section("changes", "Changes", "What porter writes", body)


def _checks(data: Data) -> Iterator[Section]:
    """Verdicts of runs of the migrated code and of its exported models, where there are any."""
    checks = data.get("checks", ())
    if checks:
        rows = "".join(
            f"<tr><td>{escape(c['kind'])}</td><td>{escape(c['name'])}</td>"
            f'<td><span class="status">{escape(c["verdict"])}</span></td>'
            f"<td>{escape(c['detail'])}</td></tr>"
            for c in checks
        )
        table = _table("<th>check<th>what<th>verdict<th>detail", rows)
        yield _section("checks", "Checks", "Rehearsals and exported models", table)


def _names(data: Data) -> Iterator[Section]:
    groups: dict[str, list[Data]] = {"API": [], "Packages": [], "Environment": []}
    for api in sorted(data["apis"], key=lambda a: (-a["uses"], a["name"])):
        groups[_group(api)].append(api)
    if any(groups.values()):
        body = "".join(
            f"<h3>{escape(title)}</h3>{_api_table(rows)}" for title, rows in groups.items() if rows
        )
        body += (
            '<p class="quiet">A name in no table is shown as unknown and never counted as '
            "supported.</p>"
        )
        yield _section(
            "names", "API", "Names, packages, environment and what is known of them", body
        )


def _group(api: Data) -> str:
    kinds = [row["kind"] for row in api["known"]]
    if any(kind.startswith("package") for kind in kinds):
        return "Packages"
    return "Environment" if any("environment" in kind for kind in kinds) else "API"


def _api_table(rows: list[Data]) -> str:
    head = "<th>name<th>uses<th>files<th>what is known"
    table = _table(head, "".join(map(_api_row, rows[:ROWS])))
    rest = rows[ROWS:]
    if rest:
        folded = _table(head, "".join(map(_api_row, rest)))
        table += f"<details><summary>{len(rest)} more</summary>{folded}</details>"
    return table


def _api_row(api: Data) -> str:
    known = "".join(map(_known, api["known"])) or '<span class="status">unknown</span>'
    return (
        f"<tr><td><code>{escape(api['name'])}</code></td>"
        f'<td data-label="uses">{api["uses"]}</td><td data-label="files">{api["files"]}</td>'
        f"<td>{known}</td></tr>"
    )


def _known(row: Data) -> str:
    equivalent = f"<code>{escape(row['equivalent'])}</code>" if row["equivalent"] else ""
    since = f", since {row['since']}" if row["since"] else ""
    source = f"; {row['source']}" if row["source"] else ""
    return (
        f'<div class="known"><span class="status {_slug(row["status"])}">{escape(row["status"])}'
        f"</span> {equivalent} {escape(row['note'])}"
        f"<small>{escape(row['kind'] + since + source)}</small></div>"
    )


def _files(data: Data) -> Iterator[Section]:
    failed, skipped = view.files(data, "failed"), view.files(data, "skipped")
    held = [f for f in view.files(data, "unchanged") if f["reason"]]
    body = "".join(
        f"<details{' open' if files is failed else ''}><summary>{title} ({len(files):,})</summary>"
        f"{_table('<th>path<th>reason', ''.join(_file_row(f) for f in files))}</details>"
        for title, files in (
            ("Could not be read", failed), ("Left as they were", held), ("Skipped", skipped),
        )
        if files
    )  # fmt: skip
    if body:
        yield _section("files", "Files", "Files that were not migrated", body)


def _file_row(file: Data) -> str:
    return f"<tr><td><code>{escape(file['path'])}</code></td><td>{escape(file['reason'])}</td></tr>"


def _made(data: Data) -> Section:
    made = data["provenance"]
    done, total = data["verdict"]["points"]["resolved"], data["verdict"]["points"]["total"]
    facts = [
        ("porter", made["porter"]),
        ("Target", f"{data['target']}, torch >= {data['min_torch']} ({made['min_torch_origin']})"),
        ("Rules", f"{len(made['rules'])} in force: {', '.join(made['rules'])}"),
        ("Selected", ", ".join(made["select"])),
        ("Ignored", ", ".join(made["ignore"])),
        ("Unsafe rewrites", "applied too" if made["unsafe"] else "not applied"),
        (
            "Readiness",
            f"{readiness_text(data)}: {done} of {total} effort points over the sites that must "
            "change, each at least one point; rounded down, so an open gap never reads as 100 %. "
            "Points compare sites with each other; they are not hours.",
        ),
        *(("Table", f"{t['name']} of {t['date']}: {t['source']}") for t in made["tables"]),
    ]
    body = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts if text
    )
    return _section("about", "About", "How this report was made", f"<dl>{body}</dl>\n")


def _table(head: str, rows: str) -> str:
    table = f"<table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
    return f'<div class="scroll">{table}</div>'


def _shortcuts() -> str:
    keys = (
        ("/", "search"), ("j k", "next, previous finding"), ("Enter", "open or close it"),
        ("Esc", "clear the search"), ("t", "light or dark"), ("?", "this list"),
    )  # fmt: skip
    rows = "".join(f"<dt><kbd>{escape(k)}</kbd></dt><dd>{escape(t)}</dd>" for k, t in keys)
    return (
        f'<dialog id="help" aria-label="Keyboard shortcuts"><h2>Keyboard</h2><dl>{rows}</dl>'
        '<form method="dialog"><button>Close</button></form></dialog>\n'
    )


# Text -------------------------------------------------------------------------------------------


def prose_line(text: str) -> str:
    """Escaped text, with code where backticks are."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", escape(" ".join(text.split())))


def prose(text: str) -> str:
    """Escaped paragraphs and lists of a rule's page."""
    parts = []
    for block in re.split(r"\n\s*\n", text.strip()):
        if re.match(r"\s*- ", block):
            items = re.split(r"(?m)^\s*- ", block)[1:]
            parts.append(f"<ul>{''.join(f'<li>{prose_line(i)}</li>' for i in items)}</ul>")
        elif block.strip():
            parts.append(f"<p>{prose_line(block)}</p>")
    return "".join(parts)


def _slug(text: str) -> str:
    return re.sub(r"[^a-z]+", "-", text.lower()).strip("-")
