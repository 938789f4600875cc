"""Markdown for a comment on a pull request.

GitHub takes 65,536 characters. What does not fit is counted, and the command that shows it is
named. Code of the user stands in code spans and fences only, which no content can leave.
"""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field

from porter.output import view
from porter.output.prose import unlinked
from porter.output.view import Data, plural
from porter.score import measure_text, readiness_text

#: Bytes of UTF-8, which are never fewer than characters; some room is kept.
LIMIT = 65_000
#: Places shown with their code for each reason, and named after these.
SHOWN = 3
NAMED = 12
#: Reasons shown for each rule.
REASONS = 8
#: Places named in a table.
NEAR = 3
_MARKS = {"READY": "\U0001f7e2", "AFTER REVIEW": "\U0001f7e1", "BLOCKED": "\U0001f534"}
_OUTCOMES = {"passed": "\u2705 ", "unproved": "\u26a0\ufe0f ", "failed": "\u274c "}
_ROOM = 400
_LANGUAGES = {
    "py": "python", "pyi": "python", "pyw": "python", "ipynb": "python", "sh": "bash",
    "bash": "bash", "yml": "yaml", "yaml": "yaml", "toml": "toml", "json": "json", "cu": "cpp",
    "cuh": "cpp", "cpp": "cpp", "cc": "cpp", "cxx": "cpp", "h": "cpp", "hpp": "cpp",
}  # fmt: skip
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

    def items(
        self,
        head: str,
        items: Iterable[str],
        tail: str = "",
        what: str = "line",
        share: float = 0.15,
    ) -> None:
        """Add as many items as fit between `head` and `tail`, and say how many do not.

        Args:
            head: stands before them.
            items: each a piece of text.
            tail: stands behind them.
            what: what one of them is called.
            share: of the whole text, that they may take; so no section crowds out the others.
        """
        waiting = list(items)
        if not waiting:
            return
        ending = len(tail) + _ROOM + 120
        if not self.add(head, ending):
            self.left_out += len(waiting)
            return
        end = self.size + share * self.limit
        for done, item in enumerate(waiting):
            large = self.size + len(item.encode("utf-8", "backslashreplace")) > end
            if large or not self.add(item, ending):
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
    page.items("\n### Checks\n\n", _checks(data), what="check")
    page.items(
        "\n### By family\n\n"
        f"| family | found | {done} | by hand | to review | may stay | points left |\n"
        "|---|--:|--:|--:|--:|--:|--:|\n",
        _families(data),
    )
    blocking = view.of_class(data["sites"], "blocking")
    page.items("\n### Must change by hand\n", _groups(data, blocking), what="rule",
               share=0.45)  # fmt: skip
    page.left_out += sum(len(view.by_reason(s)) > REASONS for _, s in view.by_rule(blocking))
    review = view.of_class(data["sites"], "choice", "potential", "unsafe")
    page.items("\n### Please review\n", _groups(data, review), what="rule", share=0.3)
    page.items(*_folded("Could not be read", _files(data, "failed")), what="file")
    page.items(*_advice(data), what="rule")
    for topic, title in view.TOPICS.items():
        page.items(*_table(title, "what | status | where | what to do", _around(data, topic)),
                   what="row")  # fmt: skip
    counts = ", ".join(f"{count} {status}" for status, count in view.coverage(data))
    page.items(*_folded(f"API coverage: {_html(counts)}", _apis(data)), what="name")
    page.items(*_folded("Diffs", _diffs(data)), what="file", share=1)
    page.items(*_folded("Skipped", _files(data, "skipped")), what="path")
    page.items(*_folded("Made with", _provenance(data)))
    if page.left_out:
        page.add(f"\n_This comment is shortened. {_FULL}_\n", 0)
    return "".join(page.parts)


def _folded(title: str, items: Iterable[str]) -> tuple[str, list[str], str]:
    listed = list(items)
    head = f"\n<details><summary>{title} ({len(listed)})</summary>\n\n"
    return head, listed, "\n</details>\n"


def _table(title: str, columns: str, rows: Iterable[str]) -> tuple[str, list[str], str]:
    head, listed, tail = _folded(title, rows)
    return f"{head}| {columns} |\n{'|---' * (columns.count('|') + 1)}|\n", listed, tail


def _around(data: Data, topic: str) -> Iterator[str]:
    """What the project needs besides its code."""
    for item in view.items(data, topic):
        places = ", ".join(code_span(place) for place in item.places[:NEAR])
        more = f" and {len(item.places) - NEAR} more" if len(item.places) > NEAR else ""
        said = prose("; ".join(item.reasons[:2]))
        kind = escape(view.label(data, item.worst))
        yield f"| {code_span(item.name)} | {kind} | {places}{more} | {said} |\n"


def _advice(data: Data) -> tuple[str, list[str], str]:
    """What works and could be better, folded: it must not crowd out what has to be done."""
    sites = view.of_class(data["sites"], "advice")
    title = f"Advice on precision and speed ({plural(len(sites), 'place')}; all may stay)"
    head = f"\n<details><summary>{title}</summary>\n"
    return head, list(_groups(data, sites)), "\n</details>\n"


def _head(data: Data) -> str:
    verdict, files, sites = data["verdict"], data["summary"]["files"], data["summary"]["sites"]
    measure = f" ({measure_text(data)})" if measure_text(data) else ""
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


def _checks(data: Data) -> Iterator[str]:
    """Runs of the migrated code and of its exported models, with what came of each."""
    for check in view.checks(data):
        mark = _OUTCOMES.get(check.get("outcome", ""), "")
        name, verdict = code_span(check["name"]), escape(check["verdict"])
        text = f"{mark}{escape(check['kind'])} {name}: **{verdict}**. {escape(check['detail'])}\n"
        lines = view.check_lines(check)
        if lines:
            text += f"\n<details><summary>What it did</summary>\n\n{fence(lines, 'text')}\n"
            text += "</details>\n"
        yield f"{text}\n"


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
            f"{_html(heading)}</b> ({', '.join(view.size(mine))})</summary>\n\n"
        ]
        if about["why"]:
            text.append(f"{unlinked(about['why'])}\n\n")
        groups = view.by_reason(mine)
        for reason, those in groups[:REASONS]:
            if reason:
                text.append(f"**{prose(reason)}**\n\n")
            text += [_site(s) for s in those[:SHOWN]]
            rest = those[SHOWN:]
            if rest:
                named = ", ".join(code_span(f"{s['path']}:{view.place(s)}") for s in rest[:NAMED])
                more = f" and {len(rest) - NAMED} more" if len(rest) > NAMED else ""
                text.append(f"Also at {named}{more}.\n\n")
        hidden = sum(len(those) for _, those in groups[REASONS:])
        if hidden:
            text.append(
                f"_{plural(hidden, 'site')} more in the full report, for other reasons._\n\n"
            )
        text.append("</details>\n")
        yield "".join(text)


def _site(site: Data) -> str:
    where = code_span(f"{site['path']}:{view.place(site)}")
    if view.after(site):
        lines = [f"{mark} {line}" for mark, line in view.hunk(site)]
        return f"{where}\n{fence(lines, 'diff')}\n"
    start, lines = site["snippet"]["start"], site["snippet"]["lines"]
    own = site["line"] - start
    near = lines[max(0, own - 1) : own + 2] if 0 <= own < len(lines) else []
    shown = textwrap.dedent("\n".join(near or site["before"].splitlines()[:3])).split("\n")
    return f"{where}\n{fence(shown, _language(site['path']))}\n" if any(shown) else f"{where}\n\n"


def _language(path: str) -> str:
    """What GitHub colours the lines of a file as."""
    name = path.rpartition("/")[2].lower()
    if name.startswith(("dockerfile", "containerfile")):
        return "dockerfile"
    return _LANGUAGES.get(name.rpartition(".")[2], "text")


def _files(data: Data, status: str) -> Iterator[str]:
    for file in view.files(data, status):
        yield f"- {code_span(file['path'])}: {escape(file['reason'])}\n"


def _apis(data: Data) -> Iterator[str]:
    for api in view.names(data):
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
            for row in view.known(api)
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


def prose(text: str) -> str:
    """A sentence on one line, in which backticks mark code."""
    parts = re.split(r"`([^`]+)`", " ".join(text.split()))
    return "".join(code_span(part) if i % 2 else escape(part) for i, part in enumerate(parts))


def _html(text: str) -> str:
    """Escaped Markdown for a place where only tags are read."""
    plain = re.sub(r"\\([\\`*_\[\]<>|~&$])", r"\1", text)
    safe = plain.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;")
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", safe)


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
