"""Adding `# porter: ignore[CODE]` comments to files in bulk.

A comment goes to the end of the finding's line. Where none can stand there, it goes above the
statement (in files other than Python, above what `porter.comments` calls a unit), which it then
covers. The result is accepted only if the file says the same and every finding is covered.
"""

from __future__ import annotations

import ast
import io
import tokenize
import warnings
from collections.abc import Iterable, Mapping, Sequence

from porter import comments
from porter.analysis import WIDEST
from porter.comments import Layout, lines_of
from porter.report import SiteReport
from porter.suppress import Suppressions, codes_of, with_codes
from porter.syntax import parse
from porter.text_site import TextFile, TextProblem


def add(text: str, wanted: Mapping[int, Iterable[str]], path: str = "a.py") -> str | None:
    """The text with comments that silence these findings.

    Args:
        text: the content of the file.
        wanted: codes by 1-based line.
        path: POSIX, relative to the project; it tells what the file is written in.

    Returns:
        None if that cannot be done with certainty.
    """
    lines = lines_of(text)
    found = layout_of(text, path)
    if found is None or not all(1 <= number <= len(lines) for number in wanted):
        return None
    above: dict[int, set[str]] = {}
    whole: set[str] = set()
    for number, codes in sorted(wanted.items()):
        line = lines[number - 1]
        body = line.rstrip("\r\n")
        if not body[: found.comments.get(number, len(body))].strip() and number not in found.open:
            whole.update(codes)  # no code stands there: the finding is about the file
        elif number in found.comments and number not in found.open:
            column = found.comments[number]
            known = codes_of(body[column:])
            listed = list(dict.fromkeys([*known, *sorted(codes)]))
            comment = with_codes(body[column:], listed, found.mark)
            lines[number - 1] = body[:column] + comment + line[len(body) :]
        elif number in found.open or body.endswith("\\"):
            above.setdefault(found.starts.get(number, number), set()).update(codes)
        else:
            comment = with_codes("", sorted(codes), found.mark)
            lines[number - 1] = f"{body.rstrip()}  {comment}{line[len(body) :]}"
    for number in sorted(above, reverse=True):
        lines.insert(number - 1, _own_line(lines[number - 1], sorted(above[number]), found))
    top = 1 + (lines[0].startswith("#!") if lines else 0)
    if whole:
        lines.insert(top - 1, _own_line(lines[0], sorted(whole), found, "file-ignore"))
    new = "".join(lines)
    shift = sorted([*above, *([top] if whole else ())])
    moved = {n + sum(s <= n for s in shift): codes for n, codes in wanted.items()}
    return new if _right(text, new, moved, path) else None


def is_there(site: SiteReport, lines: Sequence[str], number: int | None = None) -> bool:
    """Whether a line is still the one that a finding is about: other programs write files, too.

    Args:
        site: the finding.
        lines: those of the file as it is now.
        number: the 1-based line to look at; by default that of the finding.
    """
    own, number = site.line - site.snippet_start, number or site.line
    if not 0 <= own < len(site.snippet):
        return True  # the finding is about no line
    shown = site.snippet[own][:WIDEST]
    return number <= len(lines) and lines[number - 1].rstrip("\r\n")[:WIDEST] == shown


def layout_of(text: str, path: str) -> Layout | None:
    """What matters for comments about a file's lines; None if it has none or cannot be read."""
    try:
        if comments.language(path) == "python":
            return layout(text)
        found = comments.layout(TextFile(text, path))
    except (tokenize.TokenError, SyntaxError, ValueError, RecursionError, TextProblem):
        return None
    return found if found.mark else None


def _own_line(statement: str, codes: list[str], found: Layout, what: str = "ignore") -> str:
    body = statement.rstrip("\r\n")
    indent = body[: len(body) - len(body.lstrip())] if found.indented else ""
    comment = f"{found.mark} porter: {what}[{', '.join(codes)}]"
    return f"{indent}{comment}{statement[len(body) :] or chr(10)}"


def layout(text: str) -> Layout:
    """What matters about the lines of Python source.

    Raises:
        tokenize.TokenError, SyntaxError, ValueError, RecursionError: it cannot be read.
    """
    found = Layout()
    first = 0
    outer: list[int] = []  # first lines of f-strings under way
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tokens = list(tokenize.generate_tokens(io.StringIO(text, newline="").readline))
    for token in tokens:
        name = tokenize.tok_name[token.type]
        if token.type == tokenize.COMMENT:
            found.comments[token.start[0]] = token.start[1]
        elif name.endswith("STRING_START"):
            outer.append(token.start[0])
        elif name.endswith("STRING_END"):
            found.open.update(range(outer.pop(), token.end[0]))
        elif token.type == tokenize.STRING:
            found.open.update(range(token.start[0], token.end[0]))
        if name in ("NL", "INDENT", "DEDENT", "COMMENT", "ENDMARKER"):
            continue
        if token.type == tokenize.NEWLINE:
            for line in range(first, token.start[0] + 1) if first else ():
                found.starts.setdefault(line, first)
            first = 0
        elif not first:
            first = token.start[0]
    return found


def _right(old: str, new: str, wanted: Mapping[int, Iterable[str]], path: str) -> bool:
    """Whether the file says the same and all findings are covered."""
    if comments.language(path) == "python":
        silenced, same = Suppressions.read(new), same_code(old, new)
    else:
        before, after = TextFile(old, path), TextFile(new, path)
        silenced, same = Suppressions.read_file(after), comments.same(before, after)
    return same and all(
        silenced.covers(code, line) for line, codes in wanted.items() for code in codes
    )


def same_code(old: str, new: str) -> bool:
    """Whether two Python sources differ in comments and layout alone."""
    try:
        return ast.dump(parse(old)) == ast.dump(parse(new))
    except Exception:  # what does not parse is not touched
        return False
