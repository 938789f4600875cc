"""The verdict: what counts, and what must never be said."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from porter.score import measure_text, readiness_text, verdict


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
        ([DONE, PERHAPS], 0, "AFTER REVIEW", 99),
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
    assert found["points"] == {"resolved": 12, "total": 25, "open": 0}
    assert found["readiness"] == 48


def test_nothing_found_is_not_zero_percent() -> None:
    for found in (data(), data(NOTE)):
        assert readiness_text(found) == "nothing found"
        assert measure_text(found) == ""
    assert data()["verdict"]["sentence"].startswith("Nothing found")
    for found in (data(OPTIONAL), data(PERHAPS), data(UNREAD, failed=1)):
        assert readiness_text(found) == "nothing that must change"


def test_what_may_matter_is_said_beside_the_measure() -> None:
    found = data(DONE, site(category="potential", effort=13), site(category="potential", effort=0))
    assert found["verdict"]["points"] == {"resolved": 1, "total": 1, "open": 14}
    assert measure_text(found) == (
        "1 of 1 points over mandatory sites; 14 more at sites that may matter"
    )


def test_sentence() -> None:
    assert verdict(data(DONE, GAP, GAP, PERHAPS))["sentence"] == (
        "2 sites need work by hand; 1 site to review; 1 site can be rewritten by porter."
    )
    assert verdict(data(DONE, applied=True))["sentence"] == "1 site rewritten."
    assert verdict(data(OPTIONAL))["sentence"] == "Nothing that must change."
    assert verdict(data(UNREAD, failed=1))["sentence"] == "1 file could not be read."


ANY_SITE = st.builds(
    site,
    st.sampled_from(["left", "rewritten", "information"]),
    category=st.sampled_from(["mandatory", "potential", "optional", "advice", "information"]),
    safety=st.sampled_from(["safe", "unsafe", "manual"]),
    effort=st.sampled_from([0, 1, 3, 5, 7, 13]),
    rule=st.sampled_from(["POR101", "POR000"]),
)


@given(
    st.lists(ANY_SITE),
    st.integers(0, 2),
    st.booleans(),
    st.lists(st.sampled_from(["passed", "unproved", "failed"]), max_size=2),
)
def test_an_open_gap_never_reads_as_done(
    sites: list[dict[str, Any]], failed: int, applied: bool, checks: list[str]
) -> None:
    made = data(*sites, failed=failed, applied=applied)
    made["checks"] = [
        {"kind": "rehearsal", "name": "x", "verdict": c, "outcome": c, "detail": ""} for c in checks
    ]
    found = verdict(made)
    left = [s for s in sites if s["status"] == "left"]
    gaps = [s for s in left if s["category"] == "mandatory" and s["rule"] != "POR000"]
    asked = [s for s in left if s["category"] not in ("advice", "information")]
    perhaps = [s for s in asked if s["category"] == "potential" or s["rule"] == "POR000"]
    measured = [
        s for s in sites
        if s["category"] == "mandatory" and s["status"] != "information" and s["rule"] != "POR000"
    ]  # fmt: skip
    readiness, points = found["readiness"], found["points"]
    assert (readiness is None) == (not measured), "without a measure there is no number, not 0"
    assert 0 <= points["resolved"] <= points["total"]
    if readiness is not None:
        assert 0 <= readiness <= 100
        exact = 100 * points["resolved"] / points["total"]
        assert exact - 1 <= readiness <= exact, "rounded down, by less than a point"
        done = not gaps and not perhaps and not failed and "failed" not in checks
        assert (readiness == 100) == done
    if gaps:
        assert found["status"] != "READY"
    if found["status"] == "READY":
        assert not perhaps
        assert not failed
        assert "failed" not in checks
        assert readiness in (None, 100)
    assert sum(found["sites"].values()) == len(sites)
    assert "hour" not in found["sentence"]
    assert "0 %" not in readiness_text({**made, "verdict": found}) or readiness is not None
