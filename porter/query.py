"""`porter query NAME`: what is known of one name, for people and for programs."""

from __future__ import annotations

import json
import textwrap
from collections.abc import Iterator
from typing import Any

from porter.support import Answer, Support, Unanswerable, ask
from porter.targets import TABLED, Target

#: Exit codes.
FOUND, UNKNOWN, USAGE = 0, 1, 2
FORMATS = ("text", "json")
WIDTH = 100


def query(
    name: str, *, torch_npu: str = "", hardware: str = "", output_format: str = "text"
) -> tuple[str, int]:
    """Answer one question.

    Args:
        name: a qualified name, an operator, an environment variable or a package.
        torch_npu: the version of torch_npu to answer for; empty takes the newest known.
        hardware: the product line to answer for; empty names all of them.
        output_format: one of `FORMATS`.

    Returns:
        What to print, and the exit code: 0 found, 1 unknown, 2 a question that makes no sense.
    """
    if output_format not in FORMATS:
        return f"error: unknown format {output_format!r} (write {' or '.join(FORMATS)})", USAGE
    if not name.strip():
        return "error: no name to look up", USAGE
    try:
        answer = ask(name, Target(TABLED, torch_npu=torch_npu, hardware=hardware))
    except Unanswerable as problem:
        return f"error: {problem}", USAGE
    code = FOUND if answer.found else UNKNOWN
    if output_format == "json":
        return json.dumps(as_json(answer), indent=2, ensure_ascii=False), code
    return "\n".join(_text(answer)), code


def as_json(answer: Answer) -> dict[str, Any]:
    """The answer as JSON values; keys are stable."""
    return {
        "query": answer.query,
        "found": [_entry(s) for s in answer.found],
        "suggestions": list(answer.suggestions),
        "notes": list(answer.notes),
    }


def _entry(support: Support) -> dict[str, Any]:
    return {
        "name": support.name,
        "kind": support.kind,
        "status": support.status.value,
        "equivalent": support.equivalent,
        "since": support.since,
        "limits": list(support.limits),
        "product_lines": dict(support.lines),
        "note": support.note,
        "source": support.source,
        "version": support.version,
    }


def _text(answer: Answer) -> Iterator[str]:
    for number, support in enumerate(answer.found):
        if number:
            yield ""
        yield from _paragraph(support)
    if not answer.found:
        yield f"{answer.query}: unknown. That a table lacks a name does not mean it is unsupported."
        if answer.suggestions:
            yield "Did you mean:"
            yield from (f"  {name}" for name in answer.suggestions)
    if answer.notes:
        yield ""
        yield from answer.notes


def _paragraph(support: Support) -> Iterator[str]:
    yield f"{support.name} ({support.kind}): {support.status.value}"
    lines = ", ".join(f"{line} {'yes' if yes else 'no'}" for line, yes in support.lines)
    rows = [
        ("use", support.equivalent),
        ("since", support.since),
        ("product lines", lines),
        *(("limit", limit) for limit in support.limits),
        ("note", support.note),
        ("version", support.version),
        ("source", support.source),
    ]
    for label, value in rows:
        if not value:
            continue
        indent = " " * 17
        yield from textwrap.wrap(
            value,
            WIDTH,
            initial_indent=f"  {label:<15}",
            subsequent_indent=indent,
            break_long_words=False,
            break_on_hyphens=False,
        )
