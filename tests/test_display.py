"""What people see: the bar on terminals, colours, workflow commands."""

from __future__ import annotations

import io
from typing import Any

import pytest

from porter import display
from porter.catalog import load
from porter.report import FileReport, FileStatus, SiteReport, assemble
from porter.rule import Category, Safety, Status


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def site(path: str, line: int, **values: Any) -> SiteReport:
    defaults: dict[str, Any] = {
        "column": 2, "rule": "POR101", "status": Status.LEFT, "safety": Safety.MANUAL,
        "category": Category.MANDATORY, "effort": 1, "reason": "do it\nby hand",
    }  # fmt: skip
    return SiteReport(path, line, **(defaults | values))


def test_the_bar_waits_and_leaves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    bar = display.Bar(stream)
    bar(1, 2)
    bar.clear()
    assert stream.getvalue() == "", "what ends soon needs no bar"
    monkeypatch.setattr(display, "PATIENCE", 0.0)
    bar(1, 2)
    bar.clear()
    assert "1/2 files" in stream.getvalue()
    assert stream.getvalue().endswith("\r\x1b[K")


@pytest.mark.parametrize("case", ["pipe", "quiet", "dumb"])
def test_no_bar(monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.setattr(display, "PATIENCE", 0.0)
    monkeypatch.setenv("TERM", "dumb" if case == "dumb" else "xterm")
    stream = io.StringIO() if case == "pipe" else Terminal()
    bar = display.Bar(stream, quiet=case == "quiet")
    bar(1, 2)
    bar.clear()
    assert stream.getvalue() == ""


def test_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert display.Ink(Terminal())("red", "x") == "\x1b[31mx\x1b[0m"
    assert display.Ink(io.StringIO())("red", "x") == "x"
    monkeypatch.setenv("NO_COLOR", "1")
    assert display.Ink(Terminal())("red", "x") == "x"


def test_workflow_commands_are_escaped() -> None:
    line = display.github(site("a,b:c.py", 3, reason="50%\nmore"), "a,b:c.py", load())
    assert line == (
        "::error title=porter (POR101),file=a%2Cb%3Ac.py,line=3,col=2"
        "::POR101 cuda-method-call: 50%25 more"
    )


def test_names_and_code_stay_on_their_line() -> None:
    evil = "a\n::error::b\x1b[2J\u202e.py"
    line = display.concise(
        site(evil, 3, reason="\x1b[1m"), evil, load(), display.Ink(io.StringIO())
    )
    assert line == (
        r"a\n::error::b\x1b[2J\u202e.py:3:2: POR101 cuda-method-call: \x1b[1m"
    )  # fmt: skip
    assert display.visible("\tfine caf\u00e9 \U0001f600") == "\tfine caf\u00e9 \U0001f600"


def test_the_summary_groups_by_rule_and_reason() -> None:
    sites = [site("a.py", n) for n in range(1, 6)] + [site("b.py", 1, reason="another")]
    files = [FileReport("a.py", FileStatus.UNCHANGED), FileReport("b.py", FileStatus.UNCHANGED)]
    report = assemble("npu", "2.9", sites, files)
    ink = display.Ink(io.StringIO())
    lines = display.summary(report, load(), "x/", ink, wrote=True)
    assert lines == [
        "2 files read, 0 files changed, 0 sites rewritten.",
        "6 sites left for a person (6 points):",
        "  POR101 cuda-method-call (6)",
        "    do it by hand",
        "      x/a.py:1, x/a.py:2, x/a.py:3 and 2 more",
        "    another",
        "      x/b.py:1",
    ]
    everything = display.summary(report, load(), "x/", ink, wrote=True, verbose=True)
    assert "      x/a.py:1, x/a.py:2, x/a.py:3, x/a.py:4, x/a.py:5" in everything
