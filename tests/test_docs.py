"""The pages are fresh, their links work, and what they say of options, keys and codes is so."""

from __future__ import annotations

import dataclasses
import importlib.util
import json
import re
import shlex
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

from porter import catalog, cli, config, report
from porter.analysis import said
from porter.report import FileReport, FileStatus
from porter.rule import Category, Safety, Status

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
DOCS = ROOT / "docs"
PAGES = sorted(
    [*ROOT.glob("*.md"), *DOCS.rglob("*.md"), *(ROOT / "fixtures").rglob("*.md")],
    key=lambda path: path.as_posix(),
)
WRITTEN = [page for page in PAGES if page.parent in (ROOT, DOCS) and page.name != "cli.md"]
each_written = pytest.mark.parametrize("page", WRITTEN, ids=lambda page: page.name)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # Dataclasses look their module up.
    sys.modules[path.stem] = module
    spec.loader.exec_module(module)
    return module


CONSOLE = load(Path(__file__).parent / "console.py")


def read(page: Path) -> str:
    return page.read_text(encoding="utf-8")


def blocks(page: Path, *languages: str) -> Iterator[str]:
    for language, body in re.findall(r"^```(\w+)\n(.*?)^```", read(page), re.DOTALL | re.MULTILINE):
        if language in languages:
            yield body


# Generated pages --------------------------------------------------------------------------------


def test_generated_pages_are_fresh() -> None:
    build = load(DOCS / "build.py")
    assert build.stale(build.pages()) == [], "run: python docs/build.py"


def test_staleness_is_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    build = load(DOCS / "build.py")
    monkeypatch.setattr(build, "DOCS", tmp_path)
    (tmp_path / "rules").mkdir()
    for name in ("same.md", "rules/other.md", "rules/gone.md"):
        (tmp_path / name).write_text("x\n")
    wanted = {"same.md": "x\n", "rules/other.md": "y\n", "rules/missing.md": "x\n"}
    assert build.stale(wanted) == ["rules/gone.md", "rules/missing.md", "rules/other.md"]


def test_every_rule_has_a_page_in_the_index() -> None:
    index = read(DOCS / "rules" / "index.md")
    for rule in catalog.load().rules:
        assert f"[{rule.code}]({rule.code}.md)" in index


# Links ------------------------------------------------------------------------------------------


def links(page: Path) -> Iterator[str]:
    text = re.sub(r"^(`{3,}).*?^\1", "", read(page), flags=re.DOTALL | re.MULTILINE)
    text = re.sub(r"(?<!\[)`[^`\n]*`(?!\])", "", text)
    yield from re.findall(r"\]\(([^)\s]+)\)", text)


def anchors(page: Path) -> set[str]:
    text = re.sub(r"^(`{3,}).*?^\1", "", read(page), flags=re.DOTALL | re.MULTILINE)
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_relative_links_work(page: Path) -> None:
    for link in links(page):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        place = (page.parent / path).resolve() if path else page
        assert place.is_relative_to(ROOT), link
        assert place.exists(), link
        if anchor:
            assert anchor in anchors(place), link


def test_every_page_is_reached_from_the_readme() -> None:
    reached, waiting = set(), [ROOT / "README.md"]
    while waiting:
        page = waiting.pop()
        if page in reached or page.suffix != ".md":
            continue
        reached.add(page)
        local = (link.partition("#")[0] for link in links(page) if ":" not in link)
        waiting += [(page.parent / link).resolve() for link in local if link]
    data = [ROOT / "fixtures" / name for name in ("artefacts", "projects", "reports")]
    pages = [p for p in PAGES if not any(folder in p.parents for folder in data)]
    assert [p for p in pages if p not in reached] == []


# What the pages say -----------------------------------------------------------------------------


def commands(page: Path) -> Iterator[list[str]]:
    """The words behind porter, in what the page shows, whether it is run or not."""
    for block in CONSOLE.blocks(read(page)):
        for command in block.commands:
            for part in re.split(r"[|<>\n]", command.text):
                words = shlex.split(part, comments=True)
                if words and words[0] in ("porter", ".venv/bin/porter"):
                    yield words[1:]


def options(words: list[str]) -> Iterator[str]:
    """The options among them; what follows the program to rehearse is the program's."""
    for word in words[1:]:
        if word == "--" or (words[0] == "rehearse" and word.endswith((".py", ".ipynb"))):
            return
        if word.startswith("-") and word != "-":
            yield word.partition("=")[0]
        if words[0] == "rehearse" and word == "-m":
            return


@each_written
def test_commands_and_options_exist(page: Path) -> None:
    known = {
        name: {option for p in command.params for option in (*p.opts, *p.secondary_opts)}
        for name, command in every_command(cli.program)
    }
    for words in commands(page):
        name = " ".join(words[:2]) if " ".join(words[:2]) in known else words[0]
        assert name in known, words
        for option in options(words):
            assert option in known[name], words


def every_command(group: Any, before: str = "") -> Iterator[tuple[str, Any]]:
    """All commands by name, those of groups too."""
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from every_command(command, f"{before}{name} ")
        else:
            yield f"{before}{name}", command


@each_written
def test_options_in_the_text_exist(page: Path) -> None:
    known = {
        option
        for _, command in every_command(cli.program)
        for parameter in command.params
        for option in (*parameter.opts, *parameter.secondary_opts)
    }
    text = re.sub(r"^(`{3,}).*?^\1", "", read(page), flags=re.DOTALL | re.MULTILINE)
    for code in re.findall(r"`([^`\n]+)`", text):
        words = code.split()
        if words[0] in ("mypy", "pip", "git"):
            continue
        for word in words:
            if word.startswith("--"):
                assert word.partition("=")[0] in known, code


@each_written
def test_codes_exist(page: Path) -> None:
    known = [rule.code for rule in catalog.load().rules]
    text = read(page)
    for code in set(re.findall(r"\bPOR\d+\b", text)) - {"POR299"}:
        assert any(rule.startswith(code) for rule in known), code


def test_every_setting_is_described() -> None:
    page = DOCS / "configuration.md"
    described = re.findall(r"^## (.+)$", read(page), re.MULTILINE)
    assert sorted(described) == sorted(config.READERS)


def test_the_example_of_a_configuration_is_valid(tmp_path: Path) -> None:
    (block,) = blocks(DOCS / "configuration.md", "toml")
    source = tmp_path / "pyproject.toml"
    source.write_text(block, encoding="utf-8")
    assert config.read(source).target == tomllib.loads(block)["tool"]["porter"]["target"]


def _report() -> dict[str, Any]:
    rule = catalog.load().get("POR101")
    assert rule is not None
    sites = [dataclasses.replace(said("a.ipynb", rule, 2, 5, "x", ""), cell=1, symbol="torch.cuda")]
    sites += [said("a.py", rule, 2, 5, "x", "")]
    files = [FileReport("a.py", FileStatus.CHANGED)]
    return report.as_data(report.assemble("accelerator", "2.7", sites, files))


def keys(value: Any) -> Iterator[str]:
    """The names of fields; rule codes are data, not names."""
    if isinstance(value, dict):
        for key, inner in value.items():
            yield from [] if key.startswith("POR") else [key]
            yield from keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from keys(inner)


def test_every_field_of_the_report_is_described() -> None:
    described = set(re.findall(r"`(\w+)`", read(DOCS / "report-schema.md")))
    assert set(keys(_report()["sites"])) | set(_report()) <= described
    assert set(keys(_report()["verdict"])) | set(keys(_report()["summary"])) <= described
    assert set(keys(_report()["files"])) | set(_report()["provenance"]) <= described
    for kinds in (FileStatus, Status, Safety, Category):
        assert {kind.value for kind in kinds} <= described


def test_the_example_of_a_report_has_the_layout_of_one() -> None:
    (block,) = blocks(DOCS / "report-schema.md", "json")
    example, real = json.loads(block), _report()
    assert example["schema"] == real["schema"]
    assert example.keys() <= real.keys()
    assert example["verdict"].keys() <= real["verdict"].keys()
    assert example["sites"][0].keys() <= real["sites"][0].keys()
    assert example["files"][0].keys() - {"hunks"} <= real["files"][0].keys()


def test_the_readme_names_the_commands_that_ci_and_newcomers_run() -> None:
    text = read(ROOT / "README.md")
    ran = read(ROOT / ".ci" / "run")
    assert "python3 run.py test" in text
    assert "python3 run.py sample" in text
    assert "run.py test" in ran


def test_the_hooks_call_commands_that_exist() -> None:
    program = cli.program
    entries = re.findall(
        r"^  entry: porter (\w+)(.*)$", read(ROOT / ".pre-commit-hooks.yaml"), re.M
    )
    assert [name for name, _ in entries] == ["check", "migrate"]
    for name, options in entries:
        params = dict(every_command(program))[name].params
        known = {option for parameter in params for option in parameter.opts}
        assert {word for word in options.split() if word.startswith("-")} <= known
