"""The HTML report: what it holds, and how it behaves in a browser (headless Chromium)."""

from __future__ import annotations

import importlib.util
import json
import re
from collections.abc import Iterator
from html import unescape
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from porter.output.html import render
from porter.output.prose import prose, prose_line, sentences

ROOT = Path(__file__).parent.parent
REPORTS = ROOT / "fixtures" / "reports"
SMALL: dict[str, Any] = json.loads((REPORTS / "small.json").read_bytes())
HOSTILE: dict[str, Any] = json.loads((REPORTS / "hostile.json").read_bytes())


def _module() -> ModuleType:
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).parent / "browser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BROWSER = _module()
needs_browser = pytest.mark.skipif(bool(BROWSER.missing()), reason=BROWSER.missing())


class Reader(HTMLParser):
    """Collects elements, attributes and text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.attributes: list[tuple[str, str, str]] = []
        self.feed(page)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.attributes += [(tag, name, value or "") for name, value in attrs]


def large(count: int) -> dict[str, Any]:
    sites = [s for s in SMALL["sites"] if "cell" not in s]
    return {
        **SMALL,
        "sites": [
            {**sites[n % len(sites)], "path": f"deep/f{n % 499}.py", "line": n + 1}
            for n in range(count)
        ],
    }


# The text ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("data", [SMALL, HOSTILE], ids=["small", "hostile"])
def test_one_file_that_loads_nothing(data: dict[str, Any]) -> None:
    page = Reader(render(data))
    assert page.tags.count("script") == 2
    assert page.tags.count("style") == 1
    assert not {"img", "link", "iframe", "object", "embed", "base", "video"} & set(page.tags)
    for tag, name, value in page.attributes:
        assert not name.startswith("on"), (tag, name)
        assert name not in {"src", "srcset", "style", "action", "formaction"}, (tag, name)
        if name == "href":
            assert re.match(r"#|https://", value), value
    policy = next(v for t, n, v in page.attributes if n == "content" and "default-src" in v)
    assert policy.startswith("default-src 'none'")
    assert "unsafe" not in policy


def test_data_cannot_end_its_block() -> None:
    page = render(HOSTILE)
    block = page.split('<script type="application/json" id="data">')[1].split("</script>")[0]
    assert not re.search("[<>&\u2028\u2029]", block)
    data = json.loads(block)
    assert len(data["sites"]) == len(HOSTILE["sites"])
    assert any("</script>" in path for path in data["files"])


def test_readable_without_its_script() -> None:
    page = re.sub(r"<script.*?</script>", "", render(SMALL), flags=re.DOTALL)
    text = re.sub(r"<[^>]+>", "", page)
    assert SMALL["verdict"]["sentence"] in text
    assert f"{SMALL['verdict']['readiness']}%" in text
    for site in SMALL["sites"]:
        if site["status"] == "left":
            assert f"{site['path']}:" in text
    for table in SMALL["provenance"]["tables"]:
        assert table["date"] in text
    assert "aten::grid_sampler" in text, "checks are shown"


def test_a_platform_lead_reads_it_without_the_script() -> None:
    text = re.sub(r"<script.*?</script>", "", render(SMALL), flags=re.DOTALL)
    plain = unescape(re.sub(r"<[^>]+>", " ", text))
    for heading in (
        "By family",
        "What a person must do",
        "Where the work is",
        "What the target has",
    ):
        assert heading in plain
    for title in ("Dependencies", "Environment, scripts", "Containers", "Native code"):
        assert title in plain
    points = SMALL["verdict"]["points"]
    assert f"{points['resolved']} of {points['total']} effort points" in plain
    assert f"{points['open']} points more" in plain
    (choice,) = [s for s in SMALL["sites"] if s["proposed"]]
    assert f"- {choice['before'].strip()}" in plain
    assert f"+ {choice['proposed'].strip()}" in plain
    for api in SMALL["apis"]:
        assert api["name"] in plain
        assert all(row["source"] in plain for row in api["known"] if row["source"])
    skipped = [f for f in SMALL["files"] if f["status"] in ("failed", "skipped")]
    assert skipped
    assert all(f["path"] in plain and f["reason"] in plain for f in skipped)
    assert " hour" not in plain.replace("they are not hours", "")


def test_sentences() -> None:
    assert sentences("one thing of some length; then another") == (
        "One thing of some length", "Then another",
    )  # fmt: skip
    assert sentences("write torch.npu, e.g. here. then there") == (
        "Write torch.npu, e.g. here", "Then there",
    )  # fmt: skip
    assert sentences("`a; b` is one piece of code; c") == ("`a; b` is one piece of code", "C")
    assert sentences("") == ("", "")


def test_prose() -> None:
    assert prose_line("`a<b` & c") == "<code>a&lt;b</code> &amp; c"
    assert prose("one\ntwo\n\n- a\n- b") == "<p>one two</p><ul><li>a</li><li>b</li></ul>"
    assert prose("") == ""


# The browser ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def window(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    with BROWSER.browser(tmp_path_factory.mktemp("profile")) as found:
        yield found


def load(
    window: Any, data: dict[str, Any], folder: Path, width: int = 1280, **options: Any
) -> None:
    path = folder / "report.html"
    path.write_text(render(data).encode("utf-8", "backslashreplace").decode(), "utf-8")
    window.size(width, 900, **options)
    window.log()
    window.log("performance")
    window.open(path)
    window.until("return document.documentElement.dataset.ready === 'yes'")


SHOWN = "return document.querySelectorAll('.row').length"
VISIBLE = "return [...document.querySelectorAll('.row .kind')].map((k) => k.textContent)"


@needs_browser
def test_user_code_stays_text(window: Any, tmp_path: Path) -> None:
    load(window, HOSTILE, tmp_path)
    window.run("document.querySelectorAll('#chips [aria-pressed=false]').forEach((c) => c.click())")
    window.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    window.until("return document.querySelectorAll('.row .body').length >= 5")
    window.until("return document.querySelector('#diffs .sheet')")
    assert window.run("return window.hacked") is None
    counts = "return ['script','img','svg[onload]','iframe','[onerror]'].map((s) => "
    assert window.run(counts + "document.querySelectorAll(s).length)") == [2, 0, 0, 0, 0]
    links = window.run("return [...document.querySelectorAll('a')].map((a) => a.protocol)")
    assert set(links) <= {"file:", "https:"}
    text = window.run("return document.querySelector('#list').textContent")
    assert "<svg/onload=window.hacked=1>" in text
    assert "<img src=x onerror=" in text
    assert window.run("return document.querySelector('#diffs').textContent").count("</script>") > 1
    assert window.log() == [], "no errors, nothing refused by the policy"


@needs_browser
def test_no_network(window: Any, tmp_path: Path) -> None:
    load(window, SMALL, tmp_path)
    events = [json.loads(entry["message"])["message"] for entry in window.log("performance")]
    asked = [
        e["params"]["request"]["url"] for e in events if e["method"] == "Network.requestWillBeSent"
    ]
    assert asked
    assert all(url.startswith("file:") for url in asked)


@needs_browser
def test_filters(window: Any, tmp_path: Path) -> None:
    load(window, SMALL, tmp_path)
    kinds = {s["status"] for s in SMALL["sites"]}
    assert kinds >= {"left", "rewritten"}
    some = sum(s["status"] != "information" for s in SMALL["sites"])
    assert window.run(SHOWN) == some
    window.run("document.querySelector('#chips .safe').click()")
    assert "can be rewritten" not in window.run(VISIBLE)
    window.run("document.querySelector('#chips .safe').click()")
    change = (
        "const e = document.getElementById(arguments[0]); e.value = arguments[1];"
        "e.dispatchEvent(new Event(e.tagName === 'SELECT' ? 'change' : 'input'))"
    )
    window.run(change, "file", "pick.py")
    window.until("return document.querySelectorAll('.row').length === 2")
    window.run(change, "search", "capability")
    window.until("return document.querySelectorAll('.row').length === 1")
    window.run(change, "search", "no such thing")
    window.until("return document.querySelector('.none')")
    window.run("document.getElementById('clear').click()")
    window.until(f"return document.querySelectorAll('.row').length === {some}")
    window.run("document.querySelector('[data-family=packages]').click()")
    family = [SMALL["rules"][s["rule"]]["family"] for s in SMALL["sites"]]
    assert window.run(SHOWN) == family.count("packages")
    window.run("document.getElementById('clear').click()")
    window.until(f"return document.querySelectorAll('.row').length === {some}")
    window.run("document.querySelector('button[data-rule=POR202]').click()")
    assert window.run("return [...document.querySelectorAll('.row .rule')].map((r) => r.textContent)"
                      ) == ["POR202"]  # fmt: skip
    window.run("document.querySelector('a[href^=\"#s\"]').click()")
    window.until("return document.querySelector('.row[open] .sheet')")


@needs_browser
def test_keyboard(window: Any, tmp_path: Path) -> None:
    load(window, SMALL, tmp_path)
    window.keys("/")
    window.keys("pick.py")
    window.until("return document.querySelectorAll('.row').length === 2")
    window.keys("\ue00c")  # Escape
    window.until("return document.querySelectorAll('.row').length > 2")
    window.keys("jj")
    at = "return [...document.querySelectorAll('.row')].indexOf(document.activeElement.parentNode)"
    assert window.run(at) == 1
    window.keys("k")
    assert window.run(at) == 0
    window.keys("\ue007")  # Enter
    window.until("return document.querySelector('.row').open")
    window.keys("?")
    assert window.run("return document.getElementById('help').open")
    window.keys("\ue00c")
    window.until("return !document.getElementById('help').open")
    window.keys("t")
    assert window.run("return document.documentElement.dataset.theme") in {"dark", "light"}


@needs_browser
def test_dark_light_and_print(window: Any, tmp_path: Path) -> None:
    load(window, SMALL, tmp_path)
    colour = "return getComputedStyle(document.body).backgroundColor"
    window.dark(True)
    dark = window.run(colour)
    window.dark(False)
    assert window.run(colour) != dark
    window.run("document.getElementById('theme').click()")
    assert window.run(colour) == dark


@needs_browser
@pytest.mark.parametrize("data", [SMALL, HOSTILE], ids=["small", "hostile"])
def test_phone(window: Any, tmp_path: Path, data: dict[str, Any]) -> None:
    load(window, data, tmp_path, width=360, phone=True)
    window.run("document.querySelectorAll('details').forEach((d) => { d.open = true; })")
    window.until("return document.querySelector('.row .body')")
    assert window.run("return document.documentElement.scrollWidth") <= 360
    assert window.run("return !document.querySelector('.sheet.split')"), "one column is enough"
    window.size(1280, 900)
    window.until("return document.querySelector('#diffs .sheet.split')")


@needs_browser
def test_diffs_face_the_lines_that_became_others(window: Any, tmp_path: Path) -> None:
    load(window, SMALL, tmp_path)
    window.run("document.querySelectorAll('#diffs details').forEach((d) => { d.open = true; })")
    window.until("return document.querySelectorAll('#diffs .sheet').length === 2")
    rows = window.run(
        "return [...document.querySelectorAll('#diffs tr')].map((r) => "
        "[...r.cells].map((c) => c.textContent))"
    )
    facing = {row[1].strip(): row[3].strip() for row in rows if len(row) == 4}
    assert facing['def make(n, device="cuda"):'].startswith("def make(n, device=")
    assert facing["torch.cuda.synchronize()"] == "torch.accelerator.synchronize()"
    assert facing["if torch.cuda.is_available():"].startswith("if torch.accelerator")


@needs_browser
def test_many_findings_are_drawn_as_they_are_needed(window: Any, tmp_path: Path) -> None:
    load(window, large(10_000), tmp_path)
    assert window.run(SHOWN) < 400
    assert "of 10,000 findings" in window.run("return document.getElementById('shown').textContent")
    before = window.run(SHOWN)
    window.run("document.getElementById('more').scrollIntoView()")
    window.until(f"return document.querySelectorAll('.row').length > {before}")
    window.run("location.hash = '#s9999'")
    window.until("return document.getElementById('s9999')?.open")
