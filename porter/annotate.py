"""`# porter: TODO[CODE] what to do` comments above what is left for a person.

Each run writes them anew, so that they go when their finding goes; taking all of them out gives
the code without them back, byte for byte. No other comment is touched. Formats without comments
(JSON) and the cells of notebooks get none.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from porter import comments, files, own
from porter.comments import lines_of
from porter.hunks import Hunk, compare
from porter.ignores import is_there, layout_of, same_code
from porter.output.view import changes
from porter.project import InputFile
from porter.report import FileReport, FileStatus, Report, SiteReport
from porter.runner import Changed, Run
from porter.source import SourceProblem, decode_python, decode_text
from porter.text_site import TextFile

_TODO = re.compile(r"[ \t]*(?:#|//) porter: TODO\[[A-Z]{3,6}\d{3}\]")
_MARK = re.compile(rb"(?:#|//) porter: TODO\[")
#: How long a comment may be, without its indentation.
WIDTH = 100


@dataclass(frozen=True)
class Annotated:
    """A run with comments in its files.

    Args:
        run: what is to be written.
        without: files in which a person has something to do and no comment says so, and why.
    """

    run: Run
    without: Mapping[str, str]


def annotated(run: Run, *, wanted: bool) -> Annotated:
    """The run with comments in its files.

    Args:
        run: what is to be written.
        wanted: whether there are to be comments; otherwise those of earlier runs are taken out.
    """
    changed = {item.path: item for item in run.changed}
    files: dict[str, FileReport] = {file.path: file for file in run.report.files}
    todo = _todo(run.report) if wanted else {}
    without: dict[str, str] = {}
    for path, file in list(files.items()):
        if file.status in (FileStatus.FAILED, FileStatus.SKIPPED):
            continue
        sites = todo.get(path, ())
        why = _unmarked(path)
        made = None if why else _annotate(run.base, path, changed.get(path), sites, file.hunks)
        if isinstance(made, str) or made is None:
            if sites and (why or made):
                without[path] = why or str(made)
            continue
        after, digest, hunks = made
        place = changed[path].file if path in changed else _input(run, path)
        changed.pop(path, None)
        if hunks:
            changed[path] = Changed.of(place, path, after, digest)
        status = FileStatus.CHANGED if hunks else FileStatus.UNCHANGED
        files[path] = file._replace(status=status, hunks=hunks)
    report = replace(run.report, files=tuple(files[f.path] for f in run.report.files))
    marked = tuple(changed[path] for path in sorted(changed))
    return Annotated(replace(run, report=report, changed=marked), without)


def _unmarked(path: str) -> str:
    """Why a file gets no comments; empty if it may."""
    language = comments.language(path)
    if language == "notebook":
        return "notebooks get no comments"
    if language == "python":
        return ""
    return "" if comments.mark(TextFile("", path)) else "its format has no comments"


def _input(run: Run, path: str) -> InputFile:
    python = comments.language(path) == "python"
    return InputFile(run.base, run.base / path, path, "python" if python else "other")


def _todo(report: Report) -> dict[str, list[SiteReport]]:
    found: dict[str, list[SiteReport]] = {}
    for site in report.pending:
        if site.rule not in own.CODES:
            found.setdefault(site.path, []).append(site)
    return found


def _annotate(
    base: Path,
    path: str,
    changed: Changed | None,
    sites: Sequence[SiteReport],
    hunks: Sequence[Hunk],
) -> tuple[bytes, str, tuple[Hunk, ...]] | str | None:
    """The new bytes, the digest of the old ones, and what differs.

    Returns:
        Why that is not possible, or None if nothing has to be done.
    """
    place = base / path
    try:
        data = files.read(place)
    except OSError:
        return None
    digest = hashlib.sha256(data).hexdigest()
    if (not sites and not _MARK.search(data)) or (changed and changed.digest != digest):
        return None
    decode = decode_python if comments.language(path) == "python" else decode_text
    try:
        before = decode(str(place), data)
        text = before.text if changed is None else decode(str(place), changed.after).text
    except SourceProblem:
        return None
    if not all(is_there(site, lines_of(before.text)) for site in sites):
        return "it changed on disk during the run"
    new = with_comments(text, _placed(sites, hunks), path)
    if new is None:
        return "a comment cannot be added with certainty"
    return None if new == text else (before.encode(new), digest, compare(before.text, new))


def _placed(sites: Sequence[SiteReport], hunks: Sequence[Hunk]) -> dict[int, list[SiteReport]]:
    """The sites by the line on which they stand in the new text."""
    moves = changes([{"old": hunk.old, "lines": hunk.lines} for hunk in hunks])
    found: dict[int, list[SiteReport]] = {}
    for site in sites:
        before = [m for m in moves if m.start + len(m.old) <= site.line]
        line = site.line + sum(len(m.new) - len(m.old) for m in before)
        found.setdefault(line, []).append(site)
    return found


def with_comments(
    text: str, sites: Mapping[int, Sequence[SiteReport]], path: str = "a.py"
) -> str | None:
    """The text with these comments and no others of their kind.

    Args:
        text: the content of the file.
        sites: what to say, by the 1-based line to say it of.
        path: POSIX, relative to the project; it tells what the file is written in.

    Returns:
        None if the comments cannot be placed with certainty.
    """
    lines = lines_of(text)
    found = layout_of(text, path)
    if found is None:
        return None
    old = {n for n in found.comments if _TODO.match(lines[n - 1])}
    above: dict[int, list[str]] = {}
    for number, said in sorted(sites.items()):
        at = found.starts.get(number, number)
        above.setdefault(at, []).extend(_comment(site, found.mark) for site in said)
    parts = []
    for number, line in enumerate(lines, 1):
        body = line.rstrip("\r\n")
        indent = body[: len(body) - len(body.lstrip())] if found.indented else ""
        ending = line[len(body) :] or "\n"
        parts += [f"{indent}{said}{ending}" for said in dict.fromkeys(above.get(number, ()))]
        if number not in old:
            parts.append(line)
    new = "".join(parts)
    if comments.language(path) == "python":
        return new if same_code(text, new) else None
    return new if comments.same(TextFile(text, path), TextFile(new, path)) else None


def _comment(site: SiteReport, mark: str) -> str:
    text = re.sub(r"[^ -~\u00a0-\uffff]", " ", " ".join(site.reason.split()))
    text = re.sub(r"(?<=\.\w\w):\d+\b|(?<=\.\w\w\w):\d+\b", "", text)  # comments move lines
    whole = f"{mark} porter: TODO[{site.rule}] {text}".rstrip("\\ ")
    return whole if len(whole) <= WIDTH else whole[: WIDTH - 3].rstrip() + "..."
