"""Every example of every rule for files other than Python: exact text, second run changes nothing."""

from __future__ import annotations

import pytest

from porter import catalog
from porter.engine import Outcome
from porter.rule import Example, Rule, Status
from porter.targets import NAMES, Target, version
from porter.text import analyse_text, rules_for

CATALOG = catalog.load()
RULES = [rule for rule in CATALOG.rules if rule.files]
CASES = [
    pytest.param(rule, example, target, id=f"{rule.code}-{number}-{target}")
    for rule in RULES
    for number, example in enumerate(rule.examples)
    for target in NAMES
    if target in rule.targets
]


def run(text: str, target: str, example: Example) -> Outcome:
    least = Target(target)
    if example.min_torch:
        least = Target(target, version(example.min_torch))
    return analyse_text(text, CATALOG, least, example.path, unsafe=example.unsafe)


@pytest.mark.parametrize(("rule", "example", "target"), CASES)
def test_example(rule: Rule, example: Example, target: str) -> None:
    assert rule in rules_for(CATALOG, example.path), "the rule does not look at such a file"
    expected = getattr(example, target)
    outcome = run(example.before, target, example)
    assert outcome.problem == ""
    assert outcome.text == (example.before if expected is None else expected)

    codes = [s.finding.rule for s in outcome.settled]
    if expected is not None:
        assert rule.code in codes, f"another rule made this change: {codes}"
    if example.finding is True:
        assert any(
            s.finding.rule == rule.code and s.status is not Status.REWRITTEN
            for s in outcome.settled
        )
    if example.finding is False:
        assert rule.code not in codes

    again = run(outcome.text, target, example)
    assert again.text == outcome.text, "a second run must change nothing"
