"""What every rule owes its readers, and what every module owes the layout."""

from __future__ import annotations

import ast
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from porter import catalog, own
from porter.rule import EFFORTS, Example, Rule, Safety
from porter.targets import NAMES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
RULES = catalog.load().rules
#: Rules of porter's own look at no site, so they have no examples.
SHIPPED = [rule for rule in RULES if rule.code not in own.CODES]
REWRITING = [rule for rule in SHIPPED if any(example.changes for example in rule.examples)]
SECTIONS = {"Why it matters", "What it does", "What to do by hand", "Safety", "References"}
#: Rules that report only what an option asks for, which examples cannot.
SILENT = {"POR902"}
MODULES = sorted((ROOT / "rewrites").glob("*.py"))
each_rule = pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.code)


def sections(rule: Rule) -> dict[str, str]:
    parts = re.split(r"^## (.+)$", rule.doc, flags=re.MULTILINE)
    return {
        title.strip(): text.strip() for title, text in zip(parts[1::2], parts[2::2], strict=True)
    }


# Rules ------------------------------------------------------------------------------------------


def test_codes_and_names_are_unique_and_in_order() -> None:
    codes = [rule.code for rule in RULES]
    assert codes == sorted(set(codes))
    assert len({rule.name for rule in RULES}) == len(RULES)


def test_rules_of_porter_are_the_listed_ones() -> None:
    found = {rule.code for rule in RULES if rule.check.__module__ == own.__name__}
    assert found == set(own.CODES)


@each_rule
def test_name_and_effort(rule: Rule) -> None:
    assert re.fullmatch(r"[a-z0-9]+(-[a-z0-9]+)*", rule.name)
    assert rule.effort in EFFORTS
    assert set(rule.targets) <= set(NAMES)


@each_rule
def test_page(rule: Rule) -> None:
    found = sections(rule)
    assert re.match(r"(Checks for|Reports) .+\.$", rule.summary), rule.summary
    assert found.get("Why it matters")
    assert found.get("What it does")
    assert set(found) <= SECTIONS
    if rule.safety is Safety.UNSAFE:
        assert found.get("Safety"), "an unsafe rewrite must say what may change"


@pytest.mark.parametrize("rule", SHIPPED, ids=lambda rule: rule.code)
def test_references(rule: Rule) -> None:
    lines = [line for line in sections(rule)["References"].splitlines() if line.strip()]
    assert lines
    assert lines[0].startswith("- ")


@pytest.mark.parametrize("rule", SHIPPED, ids=lambda rule: rule.code)
def test_examples(rule: Rule) -> None:
    kept = [example for example in rule.examples if not example.changes]
    assert len(kept) >= 2, "what a rule must leave alone is as important as what it changes"
    if rule not in REWRITING and rule.code not in SILENT:
        assert any(example.finding for example in kept), "a rule without rewrites must report"


@pytest.mark.parametrize("rule", REWRITING, ids=lambda rule: rule.code)
def test_rewriting_rules_show_each_target(rule: Rule) -> None:
    for target in rule.targets:
        if not any(getattr(example, target) is not None for example in rule.examples):
            assert any(target in part for part in sections(rule).values()), (
                f"no example changes anything for {target}, and the page does not say why"
            )


def _unsafe_examples() -> list[tuple[Rule, Example]]:
    return [(r, e) for r in RULES for e in r.examples if e.unsafe and e.changes]


@pytest.mark.parametrize(
    "rule", {rule.code: rule for rule, _ in _unsafe_examples()}.values(), ids=lambda r: r.code
)
def test_unsafe_rewrites_are_explained(rule: Rule) -> None:
    assert sections(rule).get("Safety"), "it has unsafe rewrites: say when, and what may change"


# Modules and tables -----------------------------------------------------------------------------


@pytest.mark.parametrize("path", MODULES, ids=lambda path: path.name)
def test_rule_modules_have_a_docstring(path: Path) -> None:
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8")))
    assert text
    assert text.splitlines()[0].rstrip().endswith((".", "?", ":"))


def _keys(path: Path) -> list[str]:
    table: dict[str, Any] = tomllib.loads(path.read_text(encoding="utf-8"))
    return list(table)


@pytest.mark.parametrize("name", ["api.toml"])
def test_tables_are_sorted(name: str) -> None:
    keys = _keys(ROOT / "rewrites" / name)
    assert keys == sorted(keys)


def _constants(tree: ast.AST) -> Iterator[tuple[int, str]]:
    """Strings that the program uses: docstrings explain, so they may name anything."""
    explaining = {id(node.value) for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if not isinstance(node, ast.Constant) or id(node) in explaining:
            continue
        if isinstance(node.value, str):
            yield node.lineno, node.value


@pytest.mark.parametrize("path", sorted((ROOT / "porter").rglob("*.py")), ids=lambda p: p.name)
def test_the_engine_knows_no_device(path: Path) -> None:
    if path.name == "targets.py":
        return
    tree = ast.parse(path.read_text(encoding="utf-8"))
    # `torch_npu` is a setting of `Target`, and so an option.
    named = re.compile(r"cuda|nccl|hccl|cudnn|(?<!torch[-_])(?<![a-z])npu(?![a-z])", re.IGNORECASE)
    assert [found for found in _constants(tree) if named.search(found[1])] == []


# The repository ---------------------------------------------------------------------------------


@pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
def test_no_paths_of_a_machine() -> None:
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
    )
    if listed.returncode:
        pytest.skip("not a git work tree")
    machine = re.compile(rb"(?<![\w.~-])/(?:home|root|work|Users|mnt)/[\w.-]+/")
    found = []
    for name in listed.stdout.split(b"\0"):
        path = ROOT / name.decode()
        if path.is_file() and path != Path(__file__):
            lines = path.read_bytes().splitlines()
            found += [f"{name.decode()}:{n}" for n, t in enumerate(lines, 1) if machine.search(t)]
    assert found == []
