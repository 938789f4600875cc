"""The top of the HTML page: the verdict, the numbers, and charts for a look at the whole."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from html import escape

from porter.output import view
from porter.output.prose import prose_line
from porter.output.view import Data, label, plural
from porter.score import CLASSES, QUIET, class_of

#: The class of each verdict in the style sheet, and its words.
VERDICTS = {
    "READY": ("ready", "Ready"),
    "AFTER REVIEW": ("review", "Ready after review"),
    "BLOCKED": ("blocked", "Blocked"),
}
#: Rows of a chart.
ROWS = 8
_BARS = tuple(name for name in CLASSES if name not in QUIET)


def render(data: Data) -> str:
    """The section."""
    verdict = data["verdict"]
    kind, words = VERDICTS[verdict["status"]]
    charts = [_family_chart(data), _work_chart(data), _file_chart(data), _coverage_chart(data)]
    return (
        '<section id="overview" aria-label="Overview">\n'
        f'<div class="hero {kind}"><div><p class="verdict">{words}</p>'
        f"<h1>{escape(verdict['sentence'])}</h1>"
        f'<p class="quiet">Target <b>{escape(data["target"])}</b>, torch &ge; '
        f"{escape(data['min_torch'])}, porter {escape(data['provenance']['porter'])}</p></div>"
        f"{_ring(data)}</div>\n"
        f'<div class="tiles">{"".join(_tiles(data))}</div>\n'
        f'<div class="charts">{"".join(charts)}</div>\n</section>\n'
    )


def _ring(data: Data) -> str:
    verdict = data["verdict"]
    readiness, points = verdict["readiness"], verdict["points"]
    if readiness is None:
        return ""
    open_ = points.get("open", 0)
    more = f"; {plural(open_, 'point')} more of sites that may matter" if open_ else ""
    return (
        '<figure class="ring"><svg viewBox="0 0 120 120" role="img" '
        f'aria-label="Readiness {readiness} percent">'
        '<circle cx="60" cy="60" r="50" pathLength="100" class="track"/>'
        '<circle cx="60" cy="60" r="50" pathLength="100" class="value" '
        f'stroke-dasharray="{readiness} 100" transform="rotate(-90 60 60)"/>'
        f'<text x="60" y="62" class="number">{readiness}%</text>'
        '<text x="60" y="80" class="unit">readiness</text></svg>'
        f"<figcaption>{points['resolved']:,} of {points['total']:,} effort points of the sites "
        f"that must change{more}</figcaption></figure>"
    )


def _tiles(data: Data) -> Iterator[str]:
    counts, files, sites = (
        data["verdict"]["sites"], data["summary"]["files"], data["summary"]["sites"],
    )  # fmt: skip
    found = sites["total"] - sites["information"]
    of = f"of {plural(found, 'site')}"
    blocking = view.of_class(data["sites"], "blocking")
    review = view.of_class(data["sites"], "choice", "potential", "unsafe")
    done = "rewritten" if data["applied"] else "porter can rewrite"
    yield _tile("safe", sites["rewritten"], of, done)
    yield _tile("blocking", counts["blocking"], of,
                f"by hand, {plural(view.points(blocking), 'point')}")  # fmt: skip
    yield _tile("potential", len(review), of,
                f"to review, {plural(view.points(review), 'point')}")  # fmt: skip
    yield _tile("files", files["changed"], f"of {plural(files['read'], 'file')}",
                "changed" if data["applied"] else "would change")  # fmt: skip
    rest = [
        f"{number:,} {words}"
        for number, words in (
            (files["failed"], "unreadable"),
            (files["skipped"], "skipped"),
            (sites["suppressed"], "suppressed"),
            (sites["accepted"], "in the baseline"),
            (counts.get("advice", 0), "with advice"),
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


# Charts -----------------------------------------------------------------------------------------


def _panel(title: str, note: str, body: str) -> str:
    said = f'<p class="quiet">{note}</p>' if note else ""
    return f'<div class="panel"><h2>{escape(title)}</h2>{said}{body}</div>'


def _family_chart(data: Data) -> str:
    rows = [row for row in view.families(data) if row.total]
    if not rows:
        return ""
    most = max(row.total for row in rows)
    used = [name for name in _BARS if any(row.classes[name] for row in rows)]
    lines = []
    for row in rows:
        words = ", ".join(f"{row.classes[n]} {label(data, n)}" for n in used if row.classes[n])
        left = f"{row.left:,} pt" if row.left else ""
        lines.append(
            f'<li><button type="button" data-family="{escape(row.family)}" '
            f'title="{escape(words)}"><span class="name">{escape(row.family)}</span>'
            f"{_stack([(n, row.classes[n]) for n in used], most)}"
            f'<span class="count">{row.total:,}</span><span class="count">{left}</span>'
            "</button></li>"
        )
    legend = "".join(
        f'<li><i class="dot {name}"></i>{escape(label(data, name))}</li>' for name in used
    )
    return _panel(
        "By family",
        "Sites, and the effort points left for a person.",
        f'<ul class="bars families">{"".join(lines)}</ul><ul class="legend">{legend}</ul>',
    )


def _work_chart(data: Data) -> str:
    """What is left for a person, by rule: what blocks first."""
    groups = [
        (section, code, sites)
        for section, classes in (
            ("gaps", ("blocking",)), ("review", ("choice", "potential", "unsafe")),
        )
        for code, sites in view.by_rule(view.of_class(data["sites"], *classes))
    ]  # fmt: skip
    if not groups:
        return ""
    most = max(max(view.points(sites), 1) for _, _, sites in groups[:ROWS])
    lines = "".join(
        f'<li><a href="#{section}-{escape(code)}" title="{escape(plural(len(sites), "site"))}">'
        f'<span class="name">{prose_line(view.title(view.rule(data, code)["title"]) or code)}'
        f"</span>{_stack(_by_class(sites), most)}"
        f'<span class="count">{view.points(sites):,} pt</span></a></li>'
        for section, code, sites in groups[:ROWS]
    )
    rest = sum(len(sites) for _, _, sites in groups[ROWS:])
    more = f'<p class="quiet">{plural(rest, "site")} more of other rules.</p>' if rest else ""
    blocks = "What blocks comes first. " if groups[0][0] == "gaps" else ""
    note = f"{blocks}Effort points by rule."
    return _panel("What a person must do", note, f'<ul class="bars work">{lines}</ul>{more}')


def _by_class(sites: Iterable[Data]) -> list[tuple[str, int]]:
    points = dict.fromkeys(_BARS, 0)
    for site in sites:
        points[class_of(site)] += site["effort"]
    return list(points.items())


def _file_chart(data: Data) -> str:
    rows = view.busiest(data, ROWS)
    if not rows:
        return ""
    most = max(max(points, 1) for _, points, _ in rows)
    needed = ("blocking", "choice", "potential")
    by_file: dict[str, list[Data]] = {}
    for site in data["sites"]:
        if class_of(site) in needed:
            by_file.setdefault(site["path"], []).append(site)
    lines = "".join(
        f'<li><button type="button" data-file="{escape(path)}" '
        f'title="{escape(path)}: {plural(sites, "site")}">'
        f'<span class="name path"><bdi>{escape(path)}</bdi></span>'
        f"{_stack(_by_class(by_file[path]), most)}"
        f'<span class="count">{points:,} pt</span></button></li>'
        for path, points, sites in rows
    )
    return _panel(
        "Where the work is",
        "Effort points of what a person must change or decide.",
        f'<ul class="bars work">{lines}</ul>',
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


# Coverage ---------------------------------------------------------------------------------------

_TONES = {
    "supported": "safe", "replaced": "safe", "ignored": "optional", "limited": "potential",
    "runs on the CPU": "potential", "needs an adapter": "choice", "unverified": "information",
    "unknown": "information", "unsupported": "blocking",
}  # fmt: skip
_MEANINGS = {
    "supported": "supported as it is",
    "replaced": "has a counterpart",
    "ignored": "does nothing there",
    "limited": "with limits",
    "unverified": "nothing verified",
    "unknown": "in no table",
}


def coverage_bar(data: Data) -> str:
    """One bar of all names by what becomes of them, with its legend; empty without names."""
    counts = view.coverage(data)
    total = sum(count for _, count in counts)
    if not total:
        return ""
    legend = "".join(
        f'<li><i class="dot {_TONES.get(status, "information")}"></i>'
        f"<b>{count}</b> {escape(_MEANINGS.get(status, status))}</li>"
        for status, count in counts
    )
    bar = _stack([(_TONES.get(status, "information"), count) for status, count in counts], total)
    return f'<div class="coverage">{bar}<ul class="legend">{legend}</ul></div>'


def _coverage_chart(data: Data) -> str:
    bar = coverage_bar(data)
    if not bar:
        return ""
    total = len(view.names(data))
    good = sum(n for status, n in view.coverage(data) if status in ("supported", "replaced"))
    note = (
        f"{good} of {plural(total, 'name')} behind the findings are there or have a counterpart. "
        '<a href="#names">All names, with sources</a>'
    )
    topics = [
        f"<li><b>{len(items)}</b> {escape(title.lower())}"
        + (f", <b>{open_}</b> to deal with" if open_ else "")
        + "</li>"
        for topic, title in view.TOPICS.items()
        if (items := view.items(data, topic))
        for open_ in [sum(i.worst in ("blocking", "choice", "potential") for i in items)]
    ]
    around = (
        f'<h2>Around the code</h2><ul class="plain">{"".join(topics)}</ul>'
        '<p class="quiet"><a href="#around">What each needs</a></p>'
        if topics
        else ""
    )
    return _panel("What the target has", note, bar + around)
