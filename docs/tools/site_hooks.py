"""Hooks of mkdocs: which pages stand where, and files outside of this folder that pages link to.

GitHub shows these pages as they are, so their links are paths of the repository. On the site a
page outside of docs/ becomes a page of the site, another file a file to download, and a link to a
folder its text.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

DOCS = Path(__file__).resolve().parents[1]
ROOT = DOCS.parent
#: Where files from outside of docs/ stand on the site.
OUTSIDE = "source"
#: The site's menu: a title, and a page or more of such pairs. "rules" stands for the rules by
#: family, "api" for the tables of names, "*" for pages that the menu does not name. Pages that do
#: not exist are left out.
MENU: Sequence[Any] = (
    (
        "Start",
        (
            ("porter", "index.md"),
            ("Tutorial", "tutorial.md"),
            ("Questions", "faq.md"),
            ("Other tools", "comparison.md"),
        ),
    ),
    (
        "Use",
        (
            ("Commands one by one", "usage.md"),
            ("Safety", "safety.md"),
            ("Configuration", "configuration.md"),
            ("Reports", "reports.md"),
            ("Pull requests and CI", "ci.md"),
            ("Files other than Python", "artefacts.md"),
            ("Advice for NPU", "advice.md"),
            ("Many repositories", "fleet.md"),
            ("Rehearsal", "rehearse.md"),
            ("ONNX models", "onnx.md"),
        ),
    ),
    (
        "Reference",
        (
            ("Command line", "cli.md"),
            ("JSON report", "report-schema.md"),
            ("Support of torch_npu", "support.md"),
            ("Looking a name up", "query.md"),
            ("API tables", "api"),
            ("Published packages, migrated", "corpus.md"),
            ("ONNX models, checked", "onnx-models.md"),
            ("Speed", "performance.md"),
            ("Dependencies", "dependencies.md"),
            ("", "*"),
        ),
    ),
    ("Rules", "rules"),
    (
        "Develop",
        (
            ("How it works", "how-it-works.md"),
            ("Adding a rule", "adding-a-rule.md"),
            ("Contributing", f"{OUTSIDE}/CONTRIBUTING.md"),
            ("Changelog", f"{OUTSIDE}/CHANGELOG.md"),
        ),
    ),
)
_LINK = re.compile(r"(?<!!)\[((?:[^\[\]]|\[[^\]]*\])*)\]\(([^)\s]+)\)")
_CELL = re.compile(r"<td\b.*?</td>", re.DOTALL)
_CODE = re.compile(r"<code>[^<]*</code>")
_FENCED = re.compile(r"^ *(`{3,}).*?^ *\1", re.DOTALL | re.MULTILINE)


# Menu -------------------------------------------------------------------------------------------


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Set the menu from the pages that exist."""
    config.nav = [entry for title, content in MENU for entry in _entries(title, content)]
    config.watch = [str(ROOT / name) for name in ("CONTRIBUTING.md", "CHANGELOG.md")]
    return config


def _entries(title: str, content: Any) -> Iterator[Any]:
    if content == "rules":
        yield {title: ["rules/index.md", *_families()]}
    elif content == "api":
        pages = sorted(path.name for path in (DOCS / "api").glob("*.md"))
        yield {title: ["api/index.md", *(f"api/{p}" for p in pages if p != "index.md")]}
    elif content == "*":
        named = set(_named(MENU))
        yield from sorted(path.name for path in DOCS.glob("*.md") if path.name not in named)
    elif isinstance(content, str):
        path = ROOT / content.removeprefix(f"{OUTSIDE}/")
        if (path if content.startswith(OUTSIDE) else DOCS / content).is_file():
            yield {title: content}
    else:
        yield {title: [entry for pair in content for entry in _entries(*pair)]}


def _named(menu: Any) -> Iterator[str]:
    for _, content in menu:
        if isinstance(content, str):
            yield content
        else:
            yield from _named(content)


def _families() -> Iterator[dict[str, list[str]]]:
    """The pages of rules by the titles of their index."""
    text = (DOCS / "rules" / "index.md").read_text(encoding="utf-8")
    for part in text.split("\n## ")[1:]:
        title = part.splitlines()[0].replace("`", "")
        yield {title: [f"rules/{page}" for page in re.findall(r"\]\((POR\d+\.md)\)", part)]}


# Tables -----------------------------------------------------------------------------------------


def on_page_content(html: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Let names in tables break behind their dots."""
    return _CELL.sub(lambda cell: _CODE.sub(lambda code: _breakable(code[0]), cell[0]), html)


def _breakable(code: str) -> str:
    return re.sub(r"(?<=\w)([._])(?=\w)", r"\1<wbr>", code)


# Links ------------------------------------------------------------------------------------------


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add what pages link to outside of docs/, and what those files link to in turn."""
    waiting = [f for f in files if f.is_documentation_page()]
    while waiting:
        file = waiting.pop()
        for _, target in _links(file.content_string):
            path = _outside(file.src_uri, target)
            if path is None or files.get_file_from_path(_place(path)):
                continue
            added = File.generated(config, _place(path), abs_src_path=str(path))
            files.append(added)
            if added.is_documentation_page():
                waiting.append(added)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at where their files stand on the site."""
    here = page.file.src_uri
    if here.startswith("api/"):
        # Its tables need the width, and it has no sections to list.
        page.meta["hide"] = ["toc"]

    def moved(link: re.Match[str]) -> str:
        text, target = link[1], link[2]
        bare, _, anchor = target.partition("#")
        path = _resolved(here, bare)
        if path is None or path.is_dir():
            return link[0] if path is None else text
        inside = path.is_relative_to(DOCS)
        wanted = path.relative_to(DOCS).as_posix() if inside else _place(path)
        if not files.get_file_from_path(wanted):
            return link[0]
        new = posixpath.relpath(wanted, posixpath.dirname(here) or ".")
        return f"[{text}]({new}{'#' + anchor if anchor else ''})"

    return _prose(markdown, lambda text: _LINK.sub(moved, text))


def _links(text: str) -> Iterator[tuple[str, str]]:
    for link in _LINK.finditer(_FENCED.sub("", text)):
        yield link[1], link[2]


def _prose(text: str, change: Callable[[str], str]) -> str:
    """The text with everything but its fenced blocks changed."""
    parts, end = [], 0
    for fenced in _FENCED.finditer(text):
        parts += [change(text[end : fenced.start()]), fenced[0]]
        end = fenced.end()
    return "".join([*parts, change(text[end:])])


def _outside(here: str, target: str) -> Path | None:
    """The file of the repository, outside of docs/, that a link means."""
    path = _resolved(here, target.partition("#")[0])
    if path is None or path.is_relative_to(DOCS) or not path.is_file():
        return None
    return path


def _resolved(here: str, target: str) -> Path | None:
    if not target or re.match(r"[a-z]+:", target):
        return None
    original = ROOT / here.removeprefix(f"{OUTSIDE}/") if here.startswith(OUTSIDE) else DOCS / here
    path = (original.parent / target).resolve()
    return path if path.is_relative_to(ROOT) and path.exists() else None


def _place(path: Path) -> str:
    return f"{OUTSIDE}/{path.relative_to(ROOT).as_posix()}"
