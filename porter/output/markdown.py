"""Markdown for a comment on a pull request.

GitHub takes 65,536 characters. What does not fit is counted, and the command that shows it is
named. Code of the user stands in code spans and fences only, which no content can leave.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from porter.output import view
from porter.output.view import Data, plural
from porter.score import readiness_text

#: Bytes of UTF-8, which are never fewer than characters; some room is kept.
LIMIT = 65_000
#: Places shown with their code for each reason, and named after these.
SHOWN = 3
NAMED = 12
_MARKS = {"READY": "\U0001f7e2", "AFTER REVIEW": "\U0001f7e1", "BLOCKED": "\U0001f534"}
_ROOM = 400
_FULL = "`porter report report.json -f html -o report.html` shows all of it."


@dataclass
class _Page:
    """Text that stops growing at the limit."""

    limit: int
    parts: list[str] = field(default_factory=list)
    size: int = 0
    left_out: int = 0

    def add(self, text: str, room: int = _ROOM) -> bool:
        """Add `text` if that leaves `room`; otherwise nothing."""
        size = len(text.encode("utf-8", "backslashreplace"))
        if self.size + size + room > self.limit:
            return False
        self.parts.append(text)
        self.size += size
        return True

    def items(self, head: str, items: Iterable[str], tail: str = "", what: str = "entry") -> None:
        """Add as many items as fit between `head` and `tail`, and say how many do not."""
        waiting = list(items)
        if not waiting:
            return
        ending = len(tail) + _ROOM + 120
        if not self.add(head, ending):
            self.left_out += len(waiting)
            return
        for done, item in enumerate(waiting):
            if not self.add(item, ending):
                more = len(waiting) - done
                self.left_out += more
                self.add(f"\n_{plural(more, what)} more in the full report._\n", len(tail))
                break
        self.add(tail, 0)


def render(data: Data, limit: int = LIMIT) -> str:
    """Show a report.

    Args:
        data: the report.
        limit: bytes of UTF-8 that the text may have.
    """
    page = _Page(limit)
    done = "rewritten" if data["applied"] else "rewritable"
    page.add(_head(data), 0)
    page.items(
        "\n### By family\n\n"
        f"| family | found | {done} | by hand | to review | may stay | points left |\n"
        "|---|--:|--:|--:|--:|--:|--:|\n",
        _families(data),
    )
    blocking = view.of_class(data["sites"], "blocking")
    page.items("\n### Must change by hand\n", _groups(data, blocking), what="rule")
    review = view.of_class(data["sites"], "choice", "potential", "unsafe")
    page.items("\n### Please review\n", _groups(data, review), what="rule")
    page.items(*_folded("Could not be read", _files(data, "failed")), what="file")
    page.items(*_folded("Names of the API and what is known of them", _apis(data)), what="name")
    page.items(*_folded("Diffs", _diffs(data)), what="file")
    page.items(*_folded("Skipped", _files(data, "skipped")), what="path")
    page.items(*_folded("Made with", _provenance(data)))
    if page.left_out:
        page.add(f"\n_This comment is shortened. {_FULL}_\n", 0)
    return "".join(page.parts)


def _folded(title: str, items: Iterable[str]) -> tuple[str, list[str], str]:
    listed = list(items)
    head = f"\n<details><summary>{title} ({len(listed)})</summary>\n\n"
    return head, listed, "\n</details>\n"


def _head(data: Data) -> str:
    verdict, files, sites = data["verdict"], data["summary"]["files"], data["summary"]["sites"]
    done, total = verdict["points"]["resolved"], verdict["points"]["total"]
    measure = f" ({done} of {total} points over mandatory sites)" if total else ""
    would = "" if data["applied"] else "would be "
    found = sites["total"] - sites["information"]
    also = [
        f"{sites[name]} {words}"
        for name, words in (("suppressed", "suppressed"), ("accepted", "in the baseline"))
        if sites[name]
    ]
    return (
        f"## {_MARKS[verdict['status']]} porter: {verdict['status']}\n\n"
        f"{escape(verdict['sentence'])}\n\n"
        "| | |\n|---|---|\n"
        f"| Target | {escape(data['target'])}, torch >= {escape(data['min_torch'])} |\n"
        f"| Readiness | {readiness_text(data)}{measure} |\n"
        f"| Sites | {sites['rewritten']} of {found} {would}rewritten, {sites['pending']} for a "
        f"person{''.join(', ' + text for text in also)} |\n"
        f"| Files | {files['changed']} of {files['read']} {would}changed, {files['failed']} "
        f"failed, {files['skipped']} skipped |\n"
    )


def _families(data: Data) -> Iterator[str]:
    for row in view.families(data):
        c = row.classes
        if row.total:
            numbers = (
                row.total, c["safe"] + c["unsafe"], c["blocking"],
                c["choice"] + c["potential"] + c["unsafe"], c["optional"], row.left,
            )  # fmt: skip
            yield f"| {escape(row.family)} | {' | '.join(str(n or '-') for n in numbers)} |\n"


def _groups(data: Data, sites: list[Data]) -> Iterator[str]:
    for code, mine in view.by_rule(sites):
        about = view.rule(data, code)
        heading = f"{code} {escape(view.title(about['title']) or about['name'])}"
        text = [
            f"\n<details{' open' if len(mine) <= SHOWN else ''}><summary><b>"
            f"{_html(heading)}</b> ({plural(len(mine), 'site')}, "
            f"{plural(view.points(mine), 'point')})</summary>\n\n"
        ]
        if about["why"]:
            text.append(f"{about['why']}\n\n")
        for reason, those in view.by_reason(mine):
            if reason:
                text.append(f"**{escape(reason)}**\n\n")
            text += [_site(s) for s in those[:SHOWN]]
            rest = those[SHOWN:]
            if rest:
                named = ", ".join(code_span(f"{s['path']}:{view.place(s)}") for s in rest[:NAMED])
                more = f" and {len(rest) - NAMED} more" if len(rest) > NAMED else ""
                text.append(f"Also at {named}{more}.\n\n")
        text.append("</details>\n")
        yield "".join(text)


def _site(site: Data) -> str:
    where = code_span(f"{site['path']}:{view.place(site)}")
    if site["after"]:
        old = [f"-{line}" for line in site["before"].splitlines()]
        new = [f"+{line}" for line in site["after"].splitlines()]
        return f"{where}\n{fence(old + new, 'diff')}\n"
    start, lines = site["snippet"]["start"], site["snippet"]["lines"]
    own = site["line"] - start
    near = lines[max(0, own - 1) : own + 2] if 0 <= own < len(lines) else []
    shown = near or site["before"].splitlines()[:3]
    return f"{where}\n{fence(shown, 'python')}\n" if shown else f"{where}\n\n"


def _files(data: Data, status: str) -> Iterator[str]:
    for file in view.files(data, status):
        yield f"- {code_span(file['path'])}: {escape(file['reason'])}\n"


def _apis(data: Data) -> Iterator[str]:
    for api in sorted(data["apis"], key=lambda a: (-a["uses"], a["name"])):
        known = "; ".join(
            " ".join(
                part
                for part in (
                    f"{row['kind']}: {row['status']}",
                    f"-> {row['equivalent']}" if row["equivalent"] else "",
                    f"(since {row['since']})" if row["since"] else "",
                    f"[{row['source']}]" if row["source"] else "",
                )
                if part
            )
            for row in api["known"]
        )
        yield (
            f"- {code_span(api['name'])}: {plural(api['uses'], 'use')} in "
            f"{plural(api['files'], 'file')}; {escape(known or 'in no table')}\n"
        )


def _diffs(data: Data) -> Iterator[str]:
    for file in data["files"]:
        if file.get("hunks"):
            lines = []
            for hunk in file["hunks"]:
                lines += [f"@@ -{hunk['old']} +{hunk['new']} @@", *hunk["lines"]]
            yield f"\n{code_span(file['path'])}\n{fence(lines, 'diff')}\n"


def _provenance(data: Data) -> Iterator[str]:
    made = data["provenance"]
    options = [f"{name} {', '.join(made[name])}" for name in ("select", "ignore") if made[name]]
    options += ["unsafe rewrites too"] if made["unsafe"] else []
    yield f"- porter {made['porter']}, {plural(len(made['rules']), 'rule')} in force"
    yield f"{escape('; ' + '; '.join(options)) if options else ''}\n"
    for table in made["tables"]:
        yield f"- {code_span(table['name'])} of {table['date']}: {escape(table['source'])}\n"


# Escaping ---------------------------------------------------------------------------------------


def escape(text: str) -> str:
    """Text that Markdown shows as it is, on one line, and that mentions nobody."""
    text = " ".join(text.split())
    text = re.sub(r"([\\`*_\[\]<>|~&$])", r"\\\1", text)
    return re.sub(r"([@#])(?=\w)", "\\1\u200b", text)


def _html(text: str) -> str:
    """Escaped Markdown for a place where only tags are read."""
    plain = re.sub(r"\\([\\`*_\[\]<>|~&$])", r"\1", text)
    return plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")


def code_span(text: str) -> str:
    """A code span, also around backticks and inside tables."""
    text = re.sub(r"\s+", " ", text).replace("|", "\\|") if "|" in text else " ".join(text.split())
    ticks = "`" * (_longest(text) + 1)
    pad = " " if text.startswith("`") or text.endswith("`") or not text else ""
    return f"{ticks}{pad}{text}{pad}{ticks}"


def fence(lines: Iterable[str], language: str) -> str:
    """A fenced block that its content cannot end."""
    text = "\n".join(re.sub(r"[\r\x0b\x0c\x1c-\x1e\x85\u2028\u2029]", "", line) for line in lines)
    ticks = "`" * max(3, _longest(text) + 1)
    return f"{ticks}{language}\n{text}\n{ticks}\n"


def _longest(text: str) -> int:
    return max((len(run) for run in re.findall("`+", text)), default=0)
