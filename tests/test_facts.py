"""What files of a project know of each other."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from porter import catalog, config, engine, runner
from porter.facts import Found, collect
from porter.places import place
from porter.project import discover
from porter.scan import Signs
from porter.targets import Target

CATALOG = catalog.load()


def search(root: Path, **files: str) -> tuple[Found, dict[str, int]]:
    for name, text in files.items():
        path = root / (name.replace("__", "/").replace("/init", "/__init__") + ".py")
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    found = discover([root]).files
    places = [place(f, f.relative) for f in found]
    data = [f.path.read_bytes() for f in found]
    signs = Signs(CATALOG.exported, CATALOG.methods)
    exporters = [i for i, text in enumerate(data) if signs.may_export(text)]
    methods = [i for i, text in enumerate(data) if signs.may_define(text)]
    facts = collect(places, exporters, methods, data.__getitem__, CATALOG)
    return facts, {f.relative: i for i, f in enumerate(found)}


def package(root: Path, *names: str) -> None:
    for name in names:
        (root / name).mkdir(parents=True, exist_ok=True)
        (root / name / "__init__.py").write_text("")


@pytest.mark.parametrize(
    "statement",
    [
        "from torch.cuda.amp import autocast",
        "from torch.cuda import (\n    Stream,\n    amp,\n)\nautocast = amp.autocast",
        "import torch.cuda.amp\nautocast = torch.cuda.amp.autocast",
        "from torch.cuda.amp import GradScaler, autocast",
        "from torch import cuda\nautocast = cuda.amp.autocast",
        "try:\n    from torch.cuda.amp import autocast\nexcept ImportError:\n    autocast = None",
    ],
)
def test_exports(tmp_path: Path, statement: str) -> None:
    package(tmp_path, "pkg")
    found, _ = search(tmp_path, pkg__compat=statement + "\n")
    assert found.facts.exports["pkg.compat"]["autocast"] == "torch.cuda.amp.autocast"
    assert found.facts.uncertain == frozenset()


def test_a_name_with_two_meanings_is_uncertain(tmp_path: Path) -> None:
    package(tmp_path, "pkg")
    text = "try:\n    from torch.cuda.amp import autocast\nexcept ImportError:\n    from other import autocast\n"
    found, _ = search(tmp_path, pkg__compat=text)
    assert found.facts.uncertain == {"pkg.compat.autocast"}


@pytest.mark.parametrize(
    "text",
    [
        "from .compat import autocast\n",
        "from pkg.compat import autocast as ac\n",
        "from pkg.compat import (\n    autocast,\n)\n",
        "from . import compat\ncompat.autocast()\n",
        "import pkg.compat as c\nc.autocast()\n",
        "import pkg.compat\npkg.compat.autocast()\n",
        "def f():\n    from .compat import autocast\n",
        "from .compat import *\n",
    ],
)
def test_users_are_found_without_a_marker(tmp_path: Path, text: str) -> None:
    package(tmp_path, "pkg")
    found, at = search(
        tmp_path, pkg__compat="from torch.cuda.amp import autocast\n", pkg__use=text,
        pkg__not="from .other import autocast\nx.autocast()\n",
    )  # fmt: skip
    assert found.needed == {at["pkg/use.py"]}
    assert found.facts.imported == {"pkg.compat": {"autocast"}}


def test_chains_and_packages(tmp_path: Path) -> None:
    package(tmp_path, "src/pkg/sub")
    found, at = search(
        tmp_path / "src",
        pkg__compat="from torch.cuda.amp import autocast as ac\n",
        pkg__init="from .compat import ac as amp\n",
        pkg__sub__a="from .. import amp\n",
        pkg__sub__b="from pkg.sub.a import amp\nwith amp():\n    pass\n",
    )
    exports = found.facts.exports
    assert exports["pkg"] == {"amp": "torch.cuda.amp.autocast"}
    assert exports["pkg.sub.a"] == {"amp": "torch.cuda.amp.autocast"}
    assert found.needed == {at[n] for n in ("pkg/__init__.py", "pkg/sub/a.py", "pkg/sub/b.py")}
    assert found.facts.imported["pkg.compat"] == {"ac"}
    assert found.facts.imported["pkg.__init__"] == {"amp"}


def test_scripts_without_a_package(tmp_path: Path) -> None:
    found, at = search(
        tmp_path,
        tools__compat="from torch.cuda.amp import autocast\n",
        tools__train="from compat import autocast\n",
        tools__other="from tools.compat import autocast\n",
    )
    assert found.needed == {at["tools/train.py"], at["tools/other.py"]}
    assert found.facts.uncertain == frozenset()


def test_a_bare_name_that_several_files_have_is_not_certain(tmp_path: Path) -> None:
    found, _ = search(
        tmp_path,
        compat="from torch.cuda.amp import autocast\n",
        tools__compat="def autocast():\n    pass\n",
        tools__train="from compat import autocast\n",
    )
    assert "compat.autocast" in found.facts.uncertain


def test_src_layout(tmp_path: Path) -> None:
    package(tmp_path, "src/pkg")
    found, at = search(
        tmp_path,
        src__pkg__compat="from torch.cuda.amp import autocast\n",
        tests__test_x="from pkg.compat import autocast\n",
    )
    assert found.needed == {at["tests/test_x.py"]}


def test_methods(tmp_path: Path) -> None:
    text = "class Batch:\n    x = 1\n\n    def cuda(self):\n        return self\n\ndef cuda(x):\n    return x\n"
    found, _ = search(tmp_path, a__b=text)
    assert found.facts.methods == {"cuda": ("a/b.py:4 Batch",)}


def test_broken_files_are_no_crash(tmp_path: Path) -> None:
    found, _ = search(tmp_path, a="from torch.cuda.amp import (\n", b="class A:\n  def cuda(\n")
    assert found.facts.exports == {}
    assert found.facts.methods == {}


def test_an_import_that_others_use_stays(tmp_path: Path) -> None:
    package(tmp_path, "pkg")
    text = "from torch.cuda import is_available\n\nready = is_available()\n"
    found, _ = search(tmp_path, pkg__compat=text, pkg__use="from .compat import is_available\n")
    with_user = engine.analyse(
        text, CATALOG, Target("npu"), path="pkg/compat.py", dotted="pkg.compat", facts=found.facts
    )
    alone = engine.analyse(text, CATALOG, Target("npu"), path="pkg/compat.py", dotted="pkg.compat")
    assert "from torch.cuda import is_available\n" in with_user.text
    assert "from torch.cuda" not in alone.text
    assert "torch.npu.is_available()" in with_user.text


def test_a_star_import_is_followed_but_never_certain(tmp_path: Path) -> None:
    package(tmp_path, "pkg")
    text = "from .compat import *\n\nready = is_available()\n"
    found, _ = search(tmp_path, pkg__compat="from torch.cuda import is_available\n", pkg__use=text)
    outcome = engine.analyse(
        text, CATALOG, Target("npu"), path="pkg/use.py", dotted="pkg.use", facts=found.facts
    )
    assert outcome.text == text
    assert [s.line for s in outcome.settled] == [3]


def test_an_ignored_folder_is_no_part_of_the_project_around_it(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    (tmp_path / ".gitignore").write_text("/download/\n")
    (tmp_path / "pyproject.toml").write_text("[project]\nname = 'around'\nversion = '1'\n")
    (tmp_path / "own.py").write_text("class Batch:\n    def cuda(self):\n        return self\n")
    inner = tmp_path / "download"
    inner.mkdir()
    file = inner / "a.py"
    file.write_text("def f(x):\n    return x.cuda()\n")
    found = runner.run(runner.Request(paths=(inner,), settings=config.Settings()))
    assert [c.path for c in found.changed] == ["a.py"]
    file = tmp_path / "b.py"
    file.write_text("def f(x):\n    return x.cuda()\n")
    found = runner.run(runner.Request(paths=(file,), settings=config.Settings()))
    assert not found.changed
