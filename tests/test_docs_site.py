"""The site of the documentation: it builds without a warning, and fetches nothing from elsewhere."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path

import pytest

pytest.importorskip("mkdocs", reason="pip install -e .[docs]")
pytest.importorskip("material", reason="pip install -e .[docs]")

ROOT = Path(__file__).parents[1]
#: Attributes through which a page loads something as soon as it is opened.
LOADING = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "img": ("src", "srcset"),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
}
_AWAY = re.compile(r"^\s*(https?:)?//")


class Loads(HTMLParser):
    """Collects what a page loads, and the targets of its links."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value or "" for name, value in attrs}
        # A canonical address is a statement, nothing is fetched from it.
        if tag == "link" and values.get("rel") in ("canonical", "next", "prev"):
            return
        self.loads += [values[name] for name in LOADING.get(tag, ()) if name in values]
        if tag == "a" and "href" in values:
            self.links.append(values["href"])


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = subprocess.run(
        [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)],
        cwd=ROOT,
        env={**os.environ, "NO_MKDOCS_2_WARNING": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert done.returncode == 0, done.stdout
    return folder


def test_pages_load_nothing_from_elsewhere(site: Path) -> None:
    pages = sorted(site.rglob("*.html"))
    assert len(pages) > 100
    for page in pages:
        loads = Loads(page.read_text(encoding="utf-8")).loads
        assert [load for load in loads if _AWAY.match(load)] == [], page
    for style in site.rglob("*.css"):
        text = style.read_text(encoding="utf-8")
        assert not re.search(r"@import|url\(\s*[\"']?(https?:)?//", text), style


def test_links_within_the_site_lead_somewhere(site: Path) -> None:
    for page in site.rglob("*.html"):
        if page.name == "404.html":
            continue
        for link in Loads(page.read_text(encoding="utf-8")).links:
            path = link.partition("#")[0].partition("?")[0]
            if path and not re.match(r"[a-z]+:", path):
                assert (page.parent / path).exists(), f"{page.relative_to(site)}: {link}"


def test_every_written_page_is_in_the_menu_or_linked(site: Path) -> None:
    home = (site / "index.html").read_text(encoding="utf-8")
    for page in (ROOT / "docs").glob("*.md"):
        assert f"{page.stem}.html" in home, page.name


def test_rules_are_in_the_menu_by_family(site: Path) -> None:
    text = (site / "rules" / "POR301.html").read_text(encoding="utf-8")
    assert "automatic mixed precision" in text
    assert 'href="POR302.html"' in text


def test_files_outside_of_the_pages_are_part_of_the_site(site: Path) -> None:
    assert (site / "source" / "CONTRIBUTING.html").is_file()
    assert (site / "source" / "fixtures" / "rule-pack" / "acme_porter_rules.py").is_file()


def test_search_knows_the_rules(site: Path) -> None:
    index = json.loads((site / "search" / "search_index.json").read_text(encoding="utf-8"))
    assert any(entry["location"].startswith("rules/POR101") for entry in index["docs"])
