"""`# porter: TODO[CODE] what to do` comments above what is left for a person.

Each run writes them anew, so that they go when their finding goes; taking all of them out gives
the code without them back, byte for byte. No other comment is touched.
"""

from __future__ import annotations

import ast
import hashlib
import re
import tokenize
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from porter import own
from porter.hunks import Hunk, compare
from porter.ignores import layout, lines_of
from porter.output.view import changes
from porter.project import InputFile
from porter.report import FileReport, FileStatus, Report, SiteReport
from porter.runner import Changed, Run
from porter.source import SourceProblem, decode_python
from porter.syntax import parse

_TODO = re.compile(r"[ \t]*# porter: TODO\[[A-Z]{3,6}\d{3}\]")
_MARK = b"# porter: TODO["
_SUFFIXES = (".py", ".pyi", ".pyw")
#: How long a comment may be, without its indentation.
WIDTH = 100


def annotated(run: Run, *, wanted: bool) -> Run:
    """The run with comments in its files.

    Args:
        run: what is to be written.
        wanted: whether there are to be comments; otherwise those of earlier runs are taken out.
    """
    changed = {item.path: item for item in run.changed}
    files: dict[str, FileReport] = {file.path: file for file in run.report.files}
    todo = _todo(run.report) if wanted else {}
    for path, file in list(files.items()):
        if not path.lower().endswith(_SUFFIXES) or file.status is FileStatus.FAILED:
            continue
        made = _annotate(run.base / path, changed.get(path), todo.get(path, ()), file.hunks)
        if made is None:
            continue
        after, digest, hunks = made
        place = changed[path].file if path in changed else _input(run, path)
        changed.pop(path, None)
        if hunks:
            changed[path] = Changed(place, path, after, digest)
        status = FileStatus.CHANGED if hunks else FileStatus.UNCHANGED
        files[path] = replace(file, status=status, hunks=hunks)
    report = replace(run.report, files=tuple(files[f.path] for f in run.report.files))
    return replace(run, report=report, changed=tuple(changed[path] for path in sorted(changed)))


def _input(run: Run, path: str) -> InputFile:
    return InputFile(run.base, run.base / path, path, "python")


def _todo(report: Report) -> dict[str, list[SiteReport]]:
    found: dict[str, list[SiteReport]] = {}
    for site in report.pending:
        if site.rule not in own.CODES and site.cell is None:
            found.setdefault(site.path, []).append(site)
    return found


def _annotate(
    path: Path, changed: Changed | None, sites: Sequence[SiteReport], hunks: Sequence[Hunk]
) -> tuple[bytes, str, tuple[Hunk, ...]] | None:
    """The new bytes, the digest of the old ones, and what differs; None to leave it as it is."""
    try:
        data = path.read_bytes()
    except OSError:
        return None
    digest = hashlib.sha256(data).hexdigest()
    if (not sites and _MARK not in data) or (changed is not None and changed.digest != digest):
        return None
    try:
        before = decode_python(str(path), data)
        text = before.text
        if changed is not None:
            text = decode_python(str(path), changed.after).text
    except SourceProblem:
        return None
    new = with_comments(text, _placed(sites, hunks))
    if new is None or new == text:
        return None
    return before.encode(new), digest, compare(before.text, new)


def _placed(sites: Sequence[SiteReport], hunks: Sequence[Hunk]) -> dict[int, list[SiteReport]]:
    """The sites by the line on which they stand in the new text."""
    moves = changes([{"old": hunk.old, "lines": hunk.lines} for hunk in hunks])
    found: dict[int, list[SiteReport]] = {}
    for site in sites:
        before = [m for m in moves if m.start + len(m.old) <= site.line]
        line = site.line + sum(len(m.new) - len(m.old) for m in before)
        found.setdefault(line, []).append(site)
    return found


def with_comments(text: str, sites: Mapping[int, Sequence[SiteReport]]) -> str | None:
    """The text with these comments and no others of their kind.

    Args:
        text: Python source.
        sites: what to say, by the 1-based line to say it of.

    Returns:
        None if the comments cannot be placed with certainty.
    """
    lines = lines_of(text)
    try:
        found = layout(text)
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError):
        return None
    old = {n for n in found.comments if _TODO.match(lines[n - 1])}
    above: dict[int, list[str]] = {}
    for number, said in sorted(sites.items()):
        above.setdefault(found.starts.get(number, number), []).extend(map(_comment, said))
    parts = []
    for number, line in enumerate(lines, 1):
        if number in old:
            continue
        body = line.rstrip("\r\n")
        indent = body[: len(body) - len(body.lstrip())]
        ending = line[len(body) :] or "\n"
        parts += [f"{indent}{said}{ending}" for said in dict.fromkeys(above.get(number, ()))]
        parts.append(line)
    new = "".join(parts)
    try:
        return new if ast.dump(parse(text)) == ast.dump(parse(new)) else None
    except Exception:  # what does not parse is not touched
        return None


def _comment(site: SiteReport) -> str:
    text = re.sub(r"[^ -~\u00a0-\uffff]", " ", " ".join(site.reason.split()))
    whole = f"# porter: TODO[{site.rule}] {text}".rstrip()
    return whole if len(whole) <= WIDTH else whole[: WIDTH - 3].rstrip() + "..."
