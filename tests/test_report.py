"""Reports: order, counts, and the JSON layout."""

from __future__ import annotations

import json
import random
from typing import Any

from porter.report import SCHEMA, FileReport, FileStatus, SiteReport, as_data, as_json, assemble
from porter.rule import Category, Safety, Status


def site(path: str = "a.py", line: int = 1, **values: Any) -> SiteReport:
    defaults: dict[str, Any] = {
        "column": 1,
        "rule": "POR101",
        "status": Status.LEFT,
        "safety": Safety.MANUAL,
        "category": Category.MANDATORY,
        "effort": 3,
    }
    return SiteReport(path, line, **(defaults | values))


SITES = [
    site(line=10),
    site(line=9, status=Status.REWRITTEN, effort=1),
    site("b.py", category=Category.OPTIONAL, effort=1),
    site("b.py", category=Category.POTENTIAL, rule="POR102"),
    site("c.ipynb", cell=3, status=Status.INFORMATION, category=Category.INFORMATION, effort=0),
    site("c.ipynb", cell=2, line=7),
]
FILES = [
    FileReport("a.py", FileStatus.CHANGED),
    FileReport("b.py", FileStatus.UNCHANGED),
    FileReport("c.ipynb", FileStatus.UNCHANGED),
    FileReport("old.py", FileStatus.FAILED, "Python 2"),
    FileReport("vendor", FileStatus.SKIPPED, "vendored"),
]


def test_order_and_bytes_do_not_depend_on_the_order_of_work() -> None:
    expected = as_json(assemble("npu", "2.9", SITES, FILES))
    for seed in range(5):
        chance = random.Random(seed)
        sites, files = SITES.copy(), FILES.copy()
        chance.shuffle(sites)
        chance.shuffle(files)
        assert as_json(assemble("npu", "2.9", sites, files)) == expected
    places = [(s["path"], s.get("cell"), s["line"]) for s in json.loads(expected)["sites"]]
    assert places == [
        ("a.py", None, 9), ("a.py", None, 10), ("b.py", None, 1), ("b.py", None, 1),
        ("c.ipynb", 2, 7), ("c.ipynb", 3, 1),
    ]  # fmt: skip


def test_summary() -> None:
    summary = as_data(assemble("npu", "2.9", SITES, FILES, suppressed=4))["summary"]
    assert summary["files"] == {
        "read": 4, "changed": 1, "unchanged": 2, "failed": 1, "skipped": 1,
    }  # fmt: skip
    assert summary["sites"] == {
        "total": 6, "rewritten": 1, "left": 4, "information": 1, "pending": 3, "suppressed": 4,
        "accepted": 0,
    }  # fmt: skip
    assert summary["effort"] == {"rewritten": 1, "left": 10}
    assert summary["rules"]["POR102"] == {"rewritten": 0, "left": 1, "information": 0}


def test_layout() -> None:
    data = as_data(assemble("accelerator", "2.9", SITES, FILES))
    assert (data["schema"], data["target"], data["min_torch"]) == (SCHEMA, "accelerator", "2.9")
    assert data["files"][3] == {"path": "old.py", "status": "failed", "reason": "Python 2"}
    assert "cell" not in data["sites"][0]
    assert data["sites"][4]["cell"] == 2
    assert data["sites"][0]["status"] == "rewritten"


def test_what_could_not_be_written_is_not_called_rewritten() -> None:
    report = assemble("npu", "2.9", SITES, FILES).without({"a.py": "read-only"})
    assert [f.path for f in report.failed] == ["a.py", "old.py"]
    assert report.having(Status.REWRITTEN) == ()
    assert len(report.pending) == 4


def test_names_that_are_not_unicode_can_be_written() -> None:
    text = as_json(assemble("npu", "2.9", [site("a\udcff.py")], []))
    assert text.isascii()
    assert json.loads(text)["sites"][0]["path"] == "a\udcff.py"
