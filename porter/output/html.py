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
from collections.abc import Iterator
from html import escape
from typing import Any

from porter.output import overview, view
from porter.output.prose import capital, plain, prose, prose_line, sentences
from porter.output.view import Data, label, plural
from porter.score import CLASSES, QUIET, class_of, measure_text, readiness_text

#: Reasons and places named for each rule in the static part.
REASONS, PLACES = 6, 5
#: Rows of a table before the rest is folded.
ROWS = 8
#: Lines of a hunk in the static part.
HUNK = 16


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
        *_around(data),
        *_names(data),
        *_checks(data),
        *_advice(data),
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
            f"<title>porter: {escape(overview.VERDICTS[verdict][1])}</title>\n",
            f"<style>{style}</style>\n</head>\n<body>\n",
            '<a class="skip" href="#findings">Skip to the findings</a>\n',
            f'<header class="bar"><strong>porter</strong><nav aria-label="Sections">{links}</nav>',
            '<button type="button" id="keys" hidden aria-label="Keyboard shortcuts">?</button>',
            '<button type="button" id="theme" hidden aria-label="Light or dark">\u25d0</button>',
            "</header>\n<main>\n",
            overview.render(data),
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
        plain(about["why"]), plain(about["advice"]),
        [url for url in about["references"] if url.startswith("https://")],
    ]  # fmt: skip


def _site(site: Data, number: dict[str, int], codes: list[str]) -> list[Any]:
    after = view.after(site)
    return [
        number[site["path"]], site["line"], site["column"], site.get("cell", 0),
        codes.index(site["rule"]), CLASSES.index(class_of(site)), site["effort"], site["symbol"],
        site["reason"], site["before"] if after or not site["snippet"]["lines"] else "", after,
        site["snippet"]["start"], site["snippet"]["lines"], int(site["accepted"]),
        int(bool(site["after"])),
    ]  # fmt: skip


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
        yield from _cards(data, name, title, heading, classes)


def _advice(data: Data) -> Iterator[Section]:
    heading = "Advice on precision and speed"
    yield from _cards(data, "advice", "Advice", heading, ("advice",), "All of this may stay.")


def _cards(
    data: Data, name: str, title: str, heading: str, classes: tuple[str, ...], note: str = ""
) -> Iterator[Section]:
    sites = view.of_class(data["sites"], *classes)
    if sites:
        index = {id(site): i for i, site in enumerate(data["sites"])}
        cards = "".join(
            _card(data, code, mine, index, (name, *classes)) for code, mine in view.by_rule(sites)
        )
        text = f'<p class="quiet">{escape(note)}</p>\n' if note else ""
        yield _section(name, title, heading, f'{text}<div class="cards">{cards}</div>\n')


def _card(
    data: Data, code: str, sites: list[Data], index: dict[int, int], kind: tuple[str, ...]
) -> str:
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
    meta = " ".join(f"<span>{escape(t)}</span>" for t in (about["family"], *view.size(sites)))
    advice = f'<div class="remedy">{prose(about["advice"])}</div>' if about["advice"] else ""
    return (
        f'<article class="card" id="{kind[0]}-{escape(code)}"><header>'
        f"<h3>{prose_line(view.title(about['title']))}</h3>"
        f'<p class="meta"><code>{escape(code)}</code> {meta}</p></header>'
        f"{prose(about['why'])}{advice}{shown}{more}"
        f'<p class="more"><button type="button" hidden data-rule="{escape(code)}" '
        f'data-classes="{" ".join(kind[1:])}">'
        f"{show}</button>{links}</p></article>"
    )


def _reason(reason: str, sites: list[Data], index: dict[int, int]) -> str:
    places = "".join(_place(site, index[id(site)]) for site in sites[:PLACES])
    rest = len(sites) - PLACES
    more = f'<li class="quiet">and {rest:,} more</li>' if rest > 0 else ""
    return f'{_said(reason)}<ul class="places">{places}{more}</ul>'


def _said(reason: str) -> str:
    """What is said of sites: the first sentence as a heading, the rest below it."""
    if not reason:
        return ""
    first, rest = sentences(reason)
    return f"<h4>{prose_line(first)}</h4>" + (f"<p>{prose_line(rest)}</p>" if rest else "")


def _place(site: Data, index: int) -> str:
    link = f'<a href="#s{index}"><code>{escape(_where(site))}</code></a>'
    if not view.after(site):
        return f"<li>{link}{_code_line(site)}</li>"
    lines = [
        f"<{tag}>{mark} {escape(line)}</{tag}>"
        for mark, line in view.hunk(site)[:HUNK]
        for tag in ["del" if mark == "-" else "ins"]
    ]
    return f'<li class="hunk">{link}<pre>{"".join(lines)}</pre></li>'


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
    checks = view.checks(data)
    if checks:
        rows = "".join(
            f"<tr><td>{escape(c['kind'])}</td><td>{escape(c['name'])}</td>"
            f'<td><span class="status">{escape(c["verdict"])}</span></td>'
            f"<td>{escape(c['detail'])}</td></tr>"
            for c in checks
        )
        table = _table("<th>check<th>what<th>verdict<th>detail", rows)
        more = "".join(
            f"<details><summary>{escape(c['name'])}: what it did</summary>"
            f"<pre>{escape(chr(10).join(lines))}</pre></details>"
            for c in checks
            if (lines := view.check_lines(c))
        )
        yield _section("checks", "Checks", "Rehearsals and exported models", table + more)


def _around(data: Data) -> Iterator[Section]:
    """What the project needs besides its code: dependencies, environment, containers, kernels."""
    index = {id(site): i for i, site in enumerate(data["sites"])}
    parts = []
    for topic, title in view.TOPICS.items():
        items = view.items(data, topic)
        if items:
            rows = [_item(data, item, index) for item in items]
            head = "<th>what<th>status<th>where<th>what to do"
            parts.append(f"<h3>{escape(title)} ({len(items)})</h3>{_long_table(head, rows)}")
    if parts:
        yield _section("around", "Around the code", "Around the code", "".join(parts))


def _item(data: Data, item: view.Item, index: dict[int, int]) -> str:
    places = "".join(
        f'<li><a href="#s{index[id(s)]}"><code>{escape(_where(s))}</code></a></li>'
        for s in item.sites[:2]
    )
    rest = len(item.sites) - 2
    more = f'<li class="quiet">and {rest:,} more</li>' if rest > 0 else ""
    known = "".join(
        f"<small>{escape('; '.join(t for t in (row['kind'], row['source']) if t))}</small>"
        for row in item.known
    )
    tags = f'<span class="status {item.worst}">{escape(label(data, item.worst))}</span>'
    if item.known and item.worst in QUIET:
        status = str(item.known[0]["status"])
        tags = f'<span class="status {_slug(status)}">{escape(status)}</span>'
    said = "".join(f"<p>{prose_line(capital(reason))}</p>" for reason in item.reasons[:2])
    return (
        f"<tr><td><code>{escape(item.name)}</code></td>"
        f"<td>{tags}</td>"
        f'<td><ul class="where-list">{places}{more}</ul></td>'
        f'<td class="known">{said}{known}</td></tr>'
    )


def _long_table(head: str, rows: list[str]) -> str:
    """A table of which all but the first rows are folded."""
    table = _table(head, "".join(rows[:ROWS]))
    rest = rows[ROWS:]
    if rest:
        table += (
            f"<details><summary>{len(rest)} more</summary>{_table(head, ''.join(rest))}</details>"
        )
    return table


def _names(data: Data) -> Iterator[Section]:
    apis = view.names(data)
    if not apis:
        return
    head = "<th>name<th>uses<th>files<th>status<th>what is known"
    body = (
        f"{overview.coverage_bar(data)}{_long_table(head, [_api_row(api) for api in apis])}"
        '<p class="quiet">A name in no table is unknown, and never counted as supported.</p>\n'
    )
    yield _section(
        "names", "API coverage", "Names behind the findings, and what the target has", body
    )


def _api_row(api: Data) -> str:
    status = view.status_of(api)
    known = "".join(map(_known, view.known(api))) or '<span class="quiet">in no table</span>'
    return (
        f"<tr><td><code>{escape(api['name'])}</code></td>"
        f'<td data-label="uses">{api["uses"]}</td><td data-label="files">{api["files"]}</td>'
        f'<td><span class="status {_slug(status)}">{escape(status)}</span></td>'
        f'<td class="known">{known}</td></tr>'
    )


def _known(row: Data) -> str:
    equivalent = f"<code>{escape(row['equivalent'])}</code>" if row["equivalent"] else ""
    since = f", since {row['since']}" if row["since"] else ""
    source = f"<small>{escape(row['kind'] + ': ' + row['status'] + since)}</small>"
    source += f"<small>{escape(row['source'])}</small>" if row["source"] else ""
    note = prose_line(row["note"]) if row["note"] else ""
    if len(row["note"]) > 140:
        note = f"<details><summary>note</summary>{note}</details>"
    return f"<div>{equivalent} {note}{source}</div>"


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
    measure = measure_text(data)
    facts = [
        ("porter", made["porter"]),
        ("Target", f"{data['target']}, torch >= {data['min_torch']} ({made['min_torch_origin']})"),
        ("Rules", f"{len(made['rules'])} in force: {', '.join(made['rules'])}"),
        ("Selected", ", ".join(made["select"])),
        ("Ignored", ", ".join(made["ignore"])),
        ("Unsafe rewrites", "applied too" if made["unsafe"] else "not applied"),
        ("Looked up for", _lookups(made)),
        (
            "Readiness",
            f"{readiness_text(data)}{f' ({measure})' if measure else ''}. Effort points of the "
            "sites that must change, each at least one; rounded down, and below 100 % while "
            "anything is open. Points compare sites with each other; they are not hours.",
        ),
        *(("Table", f"{t['name']} of {t['date']}: {t['source']}") for t in made["tables"]),
    ]
    body = "".join(
        f"<dt>{escape(name)}</dt><dd>{escape(text)}</dd>" for name, text in facts if text
    )
    return _section("about", "About", "How this report was made", f"<dl>{body}</dl>\n")


def _lookups(made: Data) -> str:
    version, line = made.get("torch_npu", ""), made.get("hardware", "")
    return " ".join(text for text in (f"torch_npu {version}" if version else "", line) if text)


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


def _slug(text: str) -> str:
    return re.sub(r"[^a-z]+", "-", text.lower()).strip("-")
