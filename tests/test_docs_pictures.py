"""The pictures of the documentation show what porter prints today."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
from pathlib import Path
from types import ModuleType
from xml.etree import ElementTree

import pytest

pytest.importorskip("rich")
if os.name == "nt" or not shutil.which("bash"):
    pytest.skip("needs a POSIX terminal and bash", allow_module_level=True)

ROOT = Path(__file__).parents[1]
REMEDY = "run: python docs/tools/pictures.py"


def _module() -> ModuleType:
    path = ROOT / "docs" / "tools" / "pictures.py"
    spec = importlib.util.spec_from_file_location("pictures", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


PICTURES = _module()
FOLDER: Path = PICTURES.PICTURES


@pytest.mark.parametrize("name", PICTURES.SCENES)
def test_terminals_are_fresh(name: str) -> None:
    text = PICTURES.plain(PICTURES.shown(PICTURES.SCENES[name]))
    picture = (FOLDER / f"{name}.svg").read_text(encoding="utf-8")
    assert PICTURES.described(picture) == text, REMEDY


def test_the_report_is_of_the_findings_of_today() -> None:
    source = json.loads((FOLDER / PICTURES.SOURCE).read_text(encoding="utf-8"))
    assert source == {"findings": PICTURES.digest()}, f"{REMEDY}, where there is a Chromium"


def test_pictures_are_small_and_load_nothing() -> None:
    for picture in FOLDER.iterdir():
        assert picture.stat().st_size < 300_000, picture.name
        if picture.suffix == ".svg":
            text = picture.read_text(encoding="utf-8")
            ElementTree.fromstring(text)
            addresses = text.replace("http://www.w3.org/2000/svg", "")
            assert "http" not in addresses, picture.name


def test_a_picture_shows_what_it_describes() -> None:
    text = "\x1b[32mdone\x1b[0m, 1 < 2 & {braces}\nsecond line"
    picture = PICTURES.drawn("test", text)
    assert PICTURES.described(picture) == "done, 1 < 2 & {braces}\nsecond line"
    drawn = "".join(ElementTree.fromstring(picture).itertext()).replace("\xa0", " ")
    assert drawn.count("{braces}") == 2
    assert drawn.count("second line") == 2


def test_a_progress_bar_leaves_no_trace() -> None:
    written = "note\n[##..] 1/2 files\r\x1b[Kdone\n"
    assert PICTURES._BAR.sub("", written) == "note\ndone\n"
