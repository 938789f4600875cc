"""`porter rule` and `porter rules`: what the rules do, and why."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from typing import Any

from porter.commands import running
from porter.commands.command import argument, command
from porter.commands.options import PageFormat, page_format
from porter.commands.running import OK
from porter.problem import Mistake


@command("rule")
@argument("code", metavar="CODE", help="Code or name of a rule.")
@page_format
def rule_(code: str, output_format: PageFormat) -> int:
    """Explain a rule."""
    from porter import display

    catalog = running.catalog()
    found = catalog.get(code)
    if found is None:
        known = [name for r in catalog.rules for name in (r.code, r.name)]
        raise Mistake(f"no rule is called {code!r}{_suggestion(code, known)}")
    if output_format is PageFormat.JSON:
        _print_json(display.rule_data(found))
    else:
        print(display.rule_page(found, display.Ink(sys.stdout)), end="")
    return OK


@command("rules")
@page_format
def rules_(output_format: PageFormat) -> int:
    """List all rules."""
    from porter import display

    catalog = running.catalog()
    if output_format is PageFormat.JSON:
        _print_json([display.rule_data(r) for r in catalog.rules])
    else:
        print("\n".join(display.rule_lines(catalog.rules)))
    return OK


def _suggestion(word: str, known: Sequence[str]) -> str:
    import difflib

    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6)
    return f"; did you mean {close[0]!r}?" if close else "; see `porter rules`"


def _print_json(data: Any) -> None:
    print(json.dumps(data, indent=2))
