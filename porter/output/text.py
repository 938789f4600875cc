"""A report for a terminal: plain text, 100 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator

from porter.display import visible
from porter.output import view
from porter.output.view import Data, plural
from porter.score import measure_text, readiness_text

WIDTH = 100
#: Places named for each reason.
PLACES = 5


def render(data: Data) -> str:
    """Show a report."""
    sections = [
        _head(data), _checks(data), _families(data), _gaps(data), _review(data),
        *(_around(data, topic) for topic in view.TOPICS), _names(data), _advice(data),
        _files(data), _foot(data),
    ]  # fmt: skip
    blocks = [
        [visible(line) for part in section for line in part.split("\n")] for section in sections
    ]
    return "\n\n".join("\n".join(lines) for lines in blocks if lines) + "\n"


def _head(data: Data) -> Iterator[str]:
    verdict, summary = data["verdict"], data["summary"]
    files, sites = summary["files"], summary["sites"]
    yield f"{verdict['status']}: {verdict['sentence']}"
    yield ""
    measure = f" ({measure_text(data)})" if measure_text(data) else ""
    yield f"target     {data['target']}, torch >= {data['min_torch']}"
    yield f"readiness  {readiness_text(data)}{measure}"
    yield (
        f"files      {files['changed']} of {files['read']} "
        f"{'changed' if data['applied'] else 'would change'}, {files['failed']} failed, "
        f"{files['skipped']} skipped"
    )
    yield (
        f"sites      {sites['rewritten']} of {sites['total'] - sites['information']} "
        f"{'rewritten' if data['applied'] else 'would be rewritten'}, {sites['pending']} for a "
        f"person, {sites['suppressed']} suppressed, {sites['accepted']} in the baseline"
    )


def _checks(data: Data) -> Iterator[str]:
    for check in view.checks(data):
        yield f"{check['kind']}: {check['name']}: {check['verdict']}"
        if check["detail"]:
            yield textwrap.fill(check["detail"], WIDTH, initial_indent="  ", subsequent_indent="  ")


def _families(data: Data) -> Iterator[str]:
    rows = [row for row in view.families(data) if row.total]
    if not rows:
        return
    width = max(len(row.family) for row in rows)
    done = "rewritten" if data["applied"] else "rewritable"
    yield f"{'family':<{width}}  found  {done:<10}  by hand  to review  may stay  points left"
    for row in rows:
        c = row.classes
        yield (
            f"{row.family:<{width}}  {row.total:>5}  {c['safe'] + c['unsafe']:>10}  "
            f"{c['blocking']:>7}  {c['choice'] + c['potential'] + c['unsafe']:>9}  "
            f"{c['optional']:>8}  {row.left:>11}"
        )


def _gaps(data: Data) -> Iterator[str]:
    blocking = view.of_class(data["sites"], "blocking")
    if blocking:
        yield f"Must change by hand ({plural(len(blocking), 'site')}):"
        yield from _groups(data, blocking)


def _review(data: Data) -> Iterator[str]:
    review = view.of_class(data["sites"], "choice", "potential", "unsafe")
    if review:
        yield f"To review ({plural(len(review), 'site')}):"
        yield from _groups(data, review)


def _advice(data: Data) -> Iterator[str]:
    advice = view.of_class(data["sites"], "advice")
    if advice:
        yield f"Advice on precision and speed ({plural(len(advice), 'place')}; all may stay):"
        yield from _groups(data, advice)


def _around(data: Data, topic: str) -> Iterator[str]:
    found = view.items(data, topic)
    if found:
        yield f"{view.TOPICS[topic]}:"
        for item in found[: 3 * PLACES]:
            more = f" and {len(item.places) - 1} more" if len(item.places) > 1 else ""
            kind = view.label(data, item.worst)
            yield f"  {item.name}: {kind} ({item.places[0]}{more})"
        if len(found) > 3 * PLACES:
            yield f"  and {len(found) - 3 * PLACES} more"


def _names(data: Data) -> Iterator[str]:
    found = view.names(data)
    if found:
        counts = ", ".join(f"{count} {status}" for status, count in view.coverage(data))
        yield f"Names behind the findings: {counts}"
        for api in [a for a in found if view.status_of(a) not in ("supported", "replaced")]:
            known = view.known(api)
            source = f" ({known[0]['source']})" if known and known[0]["source"] else ""
            yield f"  {api['name']}: {view.status_of(api)}{source}"


def _groups(data: Data, sites: list[Data]) -> Iterator[str]:
    for code, mine in view.by_rule(sites):
        yield f"  {code} {view.rule(data, code)['name']} ({view.size(mine)[-1]})"
        for reason, those in view.by_reason(mine):
            if reason:
                yield textwrap.fill(reason, WIDTH, initial_indent="    ", subsequent_indent="    ")
            named = ", ".join(f"{s['path']}:{view.place(s)}" for s in those[:PLACES])
            more = f" and {len(those) - PLACES} more" if len(those) > PLACES else ""
            yield f"      {named}{more}"
            if view.after(those[0]):
                yield from (f"        {mark} {line}" for mark, line in view.hunk(those[0]))


def _files(data: Data) -> Iterator[str]:
    for status, heading in (("failed", "Could not be read"), ("skipped", "Skipped")):
        found = view.files(data, status)
        if found:
            yield f"{heading} ({plural(len(found), 'path')}):"
            yield from (f"  {f['path']}: {f['reason']}" for f in found[: 4 * PLACES])
            if len(found) > 4 * PLACES:
                yield f"  and {len(found) - 4 * PLACES} more"


def _foot(data: Data) -> Iterator[str]:
    made = data["provenance"]
    yield f"porter {made['porter']}, {plural(len(made['rules']), 'rule')} in force"
    for table in made["tables"]:
        yield f"  {table['name']} of {table['date']}: {table['source']}"
