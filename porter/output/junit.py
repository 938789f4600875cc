"""JUnit's XML: a suite for each file, a failing case for each finding."""

from __future__ import annotations

import re
from collections.abc import Iterator
from xml.sax.saxutils import escape, quoteattr

from porter.output import view
from porter.output.view import Data

#: What XML 1.0 cannot hold, not even escaped.
_FORBIDDEN = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def render(data: Data) -> str:
    """Show a report."""
    line = view.present(data)
    groups: dict[str, list[Data]] = {f["path"]: [] for f in data["files"] if _read(f)}
    for site in sorted(view.findings(data), key=view.order):
        groups.setdefault(site["path"], []).append(site)
    failed = {f["path"]: f["reason"] for f in view.files(data, "failed")}
    suites = list(
        _suites(data, groups, failed, {id(s): line(s) for g in groups.values() for s in g})
    )
    failures = sum(sum(not _unreadable(s, failed) for s in sites) for sites in groups.values())
    tests = sum(max(1, _cases(path, sites, failed)) for path, sites in groups.items())
    return "\n".join(
        [
            '<?xml version="1.0" encoding="utf-8"?>',
            f'<testsuites name="porter" tests="{tests}" failures="{failures}" '
            f'errors="{len(failed)}">',
            *suites,
            "</testsuites>",
            "",
        ]
    )


def _read(file: Data) -> bool:
    return bool(file["status"] != "skipped")


def _unreadable(site: Data, failed: dict[str, str]) -> bool:
    """Whether the site only repeats that its file failed."""
    return site["path"] in failed and not site["before"] and not site["symbol"]


def _cases(path: str, sites: list[Data], failed: dict[str, str]) -> int:
    return sum(not _unreadable(s, failed) for s in sites) + (path in failed)


def _suites(
    data: Data, groups: dict[str, list[Data]], failed: dict[str, str], lines: dict[int, int]
) -> Iterator[str]:
    for path, sites in groups.items():
        shown = [s for s in sites if not _unreadable(s, failed)]
        errors = int(path in failed)
        count = max(1, len(shown) + errors)
        yield (
            f'  <testsuite name={_quoted(path)} tests="{count}" failures="{len(shown)}" '
            f'errors="{errors}">'
        )
        if errors:
            yield (
                f'    <testcase classname={_quoted(path)} name="readable">'
                f"<error message={_quoted(failed[path])}/></testcase>"
            )
        elif not shown:
            yield f'    <testcase classname={_quoted(path)} name="no findings"/>'
        for site in shown:
            yield _case(data, site, lines[id(site)])
        yield "  </testsuite>"


def _case(data: Data, site: Data, line: int) -> str:
    where = view.place({**site, "line": line})
    text = f"{site['path']}:{where}\n{site['before']}"
    return (
        f"    <testcase classname={_quoted(site['path'])} "
        f'name={_quoted(site["rule"] + " " + where)} line="{line}">'
        f"<failure type={_quoted(site['rule'])} message={_quoted(view.message(data, site))}>"
        f"{escape(_clean(text))}</failure></testcase>"
    )


def _quoted(text: str) -> str:
    return quoteattr(_clean(text))


def _clean(text: str) -> str:
    return _FORBIDDEN.sub("\ufffd", text)
