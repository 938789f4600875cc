"""The verdict: what counts, and what must never be said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from porter.score import readiness_text, verdict


def site(status: str = "left", **values: Any) -> dict[str, Any]:
    defaults = {
        "status": status, "category": "mandatory", "safety": "manual", "effort": 1,
        "rule": "POR101",
    }  # fmt: skip
    return defaults | values


def data(*sites: dict[str, Any], failed: int = 0, applied: bool = False) -> dict[str, Any]:
    files = [{"path": f"{n}.py", "status": "failed", "reason": "x"} for n in range(failed)]
    found: dict[str, Any] = {"sites": list(sites), "files": files, "applied": applied}
    return found | {"verdict": verdict(found)}


DONE = site("rewritten", safety="safe")
UNSAFE = site("rewritten", safety="unsafe")
GAP = site()
CHOICE = site(safety="unsafe")
PERHAPS = site(category="potential")
OPTIONAL = site(category="optional")
NOTE = site("information", category="information", effort=0)
UNREAD = site(rule="POR000", effort=0)


@pytest.mark.parametrize(
    ("sites", "failed", "status", "readiness"),
    [
        ([], 0, "READY", None),
        ([NOTE], 0, "READY", None),
        ([DONE], 0, "READY", 100),
        ([DONE, OPTIONAL, NOTE], 0, "READY", 100),
        ([DONE, PERHAPS], 0, "AFTER REVIEW", 100),
        ([PERHAPS], 0, "AFTER REVIEW", None),
        ([UNSAFE], 0, "AFTER REVIEW", 100),
        ([DONE, CHOICE], 0, "AFTER REVIEW", 50),
        ([DONE, GAP], 0, "BLOCKED", 50),
        ([GAP], 0, "BLOCKED", 0),
        ([UNREAD], 1, "AFTER REVIEW", None),
        ([DONE, UNREAD], 1, "AFTER REVIEW", 99),
    ],
)
def test_verdicts(
    sites: list[dict[str, Any]], failed: int, status: str, readiness: int | None
) -> None:
    found = verdict(data(*sites, failed=failed))
    assert (found["status"], found["readiness"]) == (status, readiness)


def test_one_large_gap_outweighs_many_small_rewrites() -> None:
    found = verdict(data(*[DONE] * 12, site(effort=13)))
    assert found["points"] == {"resolved": 12, "total": 25}
    assert found["readiness"] == 48


def test_nothing_found_is_not_zero_percent() -> None:
    found = data()
    assert readiness_text(found) == "nothing to measure"
    assert found["verdict"]["sentence"].startswith("Nothing found")


def test_sentence() -> None:
    assert verdict(data(DONE, GAP, GAP, PERHAPS))["sentence"] == (
        "2 sites need work by hand; 1 site to review; 1 site can be rewritten by porter."
    )
    assert verdict(data(DONE, applied=True))["sentence"] == "1 site rewritten."
    assert verdict(data(OPTIONAL))["sentence"] == "Nothing that must change."
    assert verdict(data(UNREAD, failed=1))["sentence"] == "1 file could not be read."


@given(
    st.lists(
        st.builds(
            site,
            st.sampled_from(["left", "rewritten"]),
            category=st.sampled_from(["mandatory", "potential", "optional"]),
            safety=st.sampled_from(["safe", "unsafe", "manual"]),
            effort=st.sampled_from([0, 1, 3, 5, 7, 13]),
        )
    )
)
def test_an_open_gap_never_reads_as_done(sites: list[dict[str, Any]]) -> None:
    found = verdict(data(*sites))
    open_ = any(s["category"] == "mandatory" and s["status"] == "left" for s in sites)
    if open_:
        assert found["readiness"] < 100
        assert found["status"] != "READY"
    elif found["readiness"] is not None:
        assert found["readiness"] == 100
    assert sum(found["sites"].values()) == len(sites)
