"""The first look knows of the rules what they say themselves, and needs none of them for it."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import zipfile
from importlib import metadata
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from porter import catalog, lookout, packs, runner
from porter.config import Settings
from porter.lookout import CatalogProblem, Lookout
from porter.report import as_json
from porter.runner import Request
from porter.scan import PLAIN, Marker, Pattern
from porter.targets import NAMES

SHIPPED = catalog.collect(catalog.shipped())
SELECTIONS: list[tuple[tuple[str, ...], tuple[str, ...]]] = [
    ((), ()),
    (("POR1",), ()),
    (("ALL",), ("POR3", "POR902")),
    (("POR95",), ()),
    (("por951", "POR4"), ("POR401",)),
]


@pytest.fixture(scope="module")
def kept() -> Lookout:
    found = lookout.kept()
    assert found is not None, "out of date: python docs/build.py"
    return found


def shown(marker: Marker) -> tuple[object, ...]:
    return marker.words, [pattern.text for pattern in marker.patterns]


@pytest.mark.parametrize(("select", "ignore"), SELECTIONS)
@pytest.mark.parametrize("target", NAMES)
@pytest.mark.parametrize("line", ["", "950DT", "A3"])
def test_the_data_says_what_the_rules_say(
    kept: Lookout, target: str, line: str, select: tuple[str, ...], ignore: tuple[str, ...]
) -> None:
    data, rules = kept.select(select, ignore), SHIPPED.select(select, ignore)
    assert [e.code for e in data.rules] == [r.code for r in rules.rules]
    assert all(
        (e.name, e.category, e.effort, e.files) == (r.name, r.category, r.effort, r.files)
        for e, r in zip(data.rules, rules.rules, strict=True)
    )
    assert (data.exported, data.methods) == (rules.exported, rules.methods)
    assert (data.text_words, data.text_files) == (rules.text_words, rules.text_files)
    assert shown(data.serving(target, line).marker) == shown(rules.serving(target, line).marker)
    assert data.packages == ("porter",)


@pytest.mark.parametrize("chosen", [(("XYZ",), ()), ((), ("POR9x",)), (("POR1", "NO"), ())])
def test_a_prefix_of_no_rule_is_the_same_mistake(
    kept: Lookout, chosen: tuple[tuple[str, ...], tuple[str, ...]]
) -> None:
    with pytest.raises(CatalogProblem) as one:
        kept.select(*chosen)
    with pytest.raises(CatalogProblem) as other:
        SHIPPED.select(*chosen)
    assert str(one.value) == str(other.value)


def test_data_of_other_rules_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lookout, "state", lambda place: -1)
    assert lookout.kept() is None
    lookout.load.cache_clear()
    try:
        assert [e.code for e in lookout.load().rules] == [r.code for r in catalog.load().rules]
    finally:
        lookout.load.cache_clear()


MARKERS = {
    *(p for _, family in SHIPPED.families for p in family),
    *(p for _, _, family in SHIPPED.on_request for p in family),
    *(p for _, lines in SHIPPED.on_lines for family in lines.values() for p in family),
}
PATTERNS = sorted(p for p in MARKERS if not re.fullmatch(PLAIN, p, re.ASCII))


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_match_holds_one_of_the_literals(kept: Lookout, pattern: str) -> None:
    words = [word.encode() for word in kept.literals.get(pattern, ())]

    @settings(max_examples=15, deadline=None, derandomize=True, database=None)
    @given(st.from_regex(re.compile(pattern.encode())))
    def check(text: bytes) -> None:
        assert any(word in text for word in words)

    if words:  # nothing is skipped without them
        check()


def test_literals_change_no_answer(kept: Lookout) -> None:
    found = kept.serving(NAMES[1]).marker
    plain = Marker(found.words, tuple(Pattern(p.text) for p in found.patterns))
    texts = [e.before.encode() for r in SHIPPED.rules for e in r.examples]
    answers = [found.search(text) for text in texts]
    assert answers == [plain.search(text) for text in texts]
    assert set(answers) == {True, False}


# What is loaded ---------------------------------------------------------------------------------

HEAVY = (
    "libcst",
    "torch",
    "onnx",
    "multiprocessing",
    "concurrent",
    "yaml",
    "subprocess",
    "tomllib",
)
PROGRAM = """
import sys
from porter.cli import start
code = start(sys.argv[1:])
print(code, *sorted(sys.modules))
"""


def loaded(*arguments: str, cwd: Path) -> tuple[str, list[str]]:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, *arguments],
        cwd=cwd, capture_output=True, text=True, env=os.environ | {"PRE_COMMIT": "1"},
    )  # fmt: skip
    code, *modules = done.stdout.splitlines()[-1].split()
    return code, modules


@pytest.mark.parametrize(
    "options", [[], ["--target", "npu", "--force-exclude"], ["--unsafe", "-q"]]
)
def test_a_check_that_finds_nothing_loads_no_rules(tmp_path: Path, options: list[str]) -> None:
    (tmp_path / "pyproject.toml").write_text('[project]\nname = "x"\n')
    (tmp_path / "tools.py").write_text("import os\n\n\ndef here():\n    return os.getcwd()\n")
    (tmp_path / "one.py").write_text("import json\n\nfrom tools import here\n\nprint(here())\n")
    code, modules = loaded("check", "one.py", *options, cwd=tmp_path)
    assert code == "0"
    rules = ("porter.rewrites", "porter.rule", "porter.catalog", "porter.engine")
    assert [m for m in modules if m.startswith(rules) or m.split(".")[0] in HEAVY] == []
    (tmp_path / "one.py").write_text("import torch\n\nx = torch.ones(2).cuda()\n")
    code, modules = loaded("check", "one.py", *options, cwd=tmp_path)
    assert code == "1"
    assert "porter.rewrites.device" in modules


# Packs ------------------------------------------------------------------------------------------


def test_packs_are_found_where_python_finds_them(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def agree() -> bool:
        known = any(True for _ in metadata.entry_points(group=packs.GROUP))
        assert packs.installed() or not known
        return packs.installed()

    monkeypatch.setattr(sys, "path", [str(tmp_path)])
    assert not agree()
    for folder in ("other-1.dist-info", "some-1.egg-info", "mine-2.Dist-Info"):
        (tmp_path / folder).mkdir()
        for name in ("METADATA", "PKG-INFO"):
            text = f"Metadata-Version: 2.1\nName: {folder.partition('-')[0]}\nVersion: 1\n"
            (tmp_path / folder / name).write_text(text)
    (tmp_path / "other-1.dist-info" / "entry_points.txt").write_text("[console_scripts]\na = b\n")
    assert not agree()
    for folder in ("some-1.egg-info", "mine-2.Dist-Info"):
        point = tmp_path / folder / "entry_points.txt"
        point.write_text(f"[{packs.GROUP}]\nmine = rules\n")
        assert agree()
        point.unlink()
    with zipfile.ZipFile(tmp_path / "packed.zip", "w") as archive:
        archive.writestr("mine-1.dist-info/entry_points.txt", f"[{packs.GROUP}]\nmine = rules\n")
        archive.writestr("mine-1.dist-info/METADATA", "Metadata-Version: 2.1\nName: mine\n")
    monkeypatch.setattr(sys, "path", [str(tmp_path / "packed.zip")])
    assert agree()


# Files around -----------------------------------------------------------------------------------

USERS = [
    "from .compat import autocast\n\nwith autocast():\n    pass\n",
    "from pkg.compat import (  # (old)\n    autocast,\n)\n\nautocast()\n",
    "from pkg import (\n    compat,\n)\n\ncompat.autocast()\n",
    "from . import compat\n\ncompat.autocast()\n",
    "import pkg.compat as c\n\nc.autocast()\n",
    "import pkg.compat\n\npkg.compat.autocast()\n",
    "import pkg\n\npkg . compat . autocast()\n",
    "from pkg \\\n    import compat\n\ncompat.autocast()\n",
    "import os, \\\n    pkg.compat\n\npkg.compat.autocast()\n",
    "def f():\n    from .compat import autocast\n    autocast()\n",
    "from .compat import *\n\nautocast()\n",
    "from . import passed\n\npassed()\n",
    "from .inner.deep import passed as p\n\np()\n",
    "import json; from pkg.inner import deep\n\ndeep.passed()\n",
    "import json\n\njson.dumps(1)\n",
    "def f():\n    return 'compat autocast import pkg'\n",
    "",
]


@pytest.mark.parametrize("user", USERS)
@pytest.mark.parametrize("metadata_file", ["pyproject.toml", ""])
def test_the_shortcut_gives_the_report_of_the_whole_look(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, user: str, metadata_file: str
) -> None:
    files = {
        "pkg/__init__.py": "from .compat import autocast as passed\n",
        "pkg/compat.py": "from torch.cuda.amp import autocast\n",
        "pkg/inner/__init__.py": "",
        "pkg/inner/deep.py": "from .. import passed\n",
        "pkg/use.py": user,
        "pkg/idle.py": "import os\n",
    }
    if metadata_file:
        files[metadata_file] = '[project]\nname = "pkg"\n'
    for name, text in files.items():
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    monkeypatch.chdir(tmp_path)
    request = Request((Path("pkg/use.py"), Path("pkg/idle.py")), Settings(target="npu"))
    quick = runner.run(request)
    monkeypatch.setattr(runner, "FEW", -1)
    whole = runner.run(request)
    assert as_json(quick.report) == as_json(whole.report)
    assert quick.changed == whole.changed
    assert (quick.base, quick.choice, quick.notes) == (whole.base, whole.choice, whole.notes)
