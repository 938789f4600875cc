"""Every example of every rule: exact text, compiles, second run changes nothing."""

from __future__ import annotations

import pytest

from porter import catalog, engine
from porter.rule import Example, Rule, Status
from porter.targets import NAMES, Target, version

CATALOG = catalog.load()
CASES = [
    pytest.param(rule, example, target, id=f"{rule.code}-{number}-{target}")
    for rule in CATALOG.rules
    if not rule.files
    for number, example in enumerate(rule.examples)
    for target in NAMES
    if target in rule.targets
]


def run(text: str, target: str, example: Example) -> engine.Outcome:
    least = Target(target)
    if example.min_torch:
        least = Target(target, version(example.min_torch))
    return engine.analyse(text, CATALOG, least, unsafe=example.unsafe)


@pytest.mark.parametrize(("rule", "example", "target"), CASES)
def test_example(rule: Rule, example: Example, target: str) -> None:
    expected = getattr(example, target)
    outcome = run(example.before, target, example)
    assert outcome.problem == ""
    assert outcome.text == (example.before if expected is None else expected)
    compile(outcome.text, "<example>", "exec", dont_inherit=True)

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
