"""What must not grow faster than the work: slices of docs/performance.md, without a clock.

The figures themselves come from `python docs/tools/performance.py`.
"""

from __future__ import annotations

import ast
import gc
import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

from porter import catalog, engine, imports, pool, syntax
from porter.analysis import Plan, Task, analyse
from porter.module import Module
from porter.patch import unified
from porter.report import FileStatus
from porter.rule import Status
from porter.runner import Changed
from porter.targets import Target
from porter.task import packed, unpacked

ROOT = Path(__file__).parent.parent
CATALOG = catalog.load()


def migrated(text: str, target: str = "accelerator") -> engine.Outcome:
    found = engine.analyse(text, CATALOG, Target(target))
    assert found.problem == ""
    return found


def analysed(path: Path, text: str) -> FileStatus:
    path.write_text(text)
    return analyse(Task(str(path), path.name, "python", "x", len(text)), Plan(Target("npu"))).status


# Large ------------------------------------------------------------------------------------------


def test_thousands_of_sites_on_one_line_are_rewritten() -> None:
    line = "    return [" + ", ".join(["x.cuda()"] * 3000) + "]\n"
    found = migrated("import torch\n\n\ndef f(x):\n" + line)
    assert found.text.count("x.to(device)") == 3000
    assert "cuda" not in found.text
    assert len(found.settled) == 3000
    # Each site shows what stands near, not all of the line.
    assert max(len(s.before) + len(s.after) for s in found.settled) < 5 * engine.NEAR
    assert all("x.cuda()" in s.before and "x.to(device)" in s.after for s in found.settled)


def test_a_short_line_is_shown_whole() -> None:
    found = migrated("import torch\n\n\ndef f(x, y):\n    return x.cuda(), y.cuda()  # both\n")
    assert {s.before for s in found.settled} == {"    return x.cuda(), y.cuda()  # both"}
    assert all(s.after.endswith("\n    return x.to(device), y.to(device)  # both")
               for s in found.settled)  # fmt: skip


MANY = {
    "one function": lambda n: (
        "import torch\ndef f(x):\n" + "".join(f"    y{i} = x.cuda()\n" for i in range(n))
    ),
    "an imported name": lambda n: "from torch.cuda import synchronize\n" + "synchronize()\n" * n,
    "guards": lambda n: "import torch\n" + "if torch.cuda.is_available():\n    a = b.cuda()\n" * n,
}


@pytest.mark.parametrize("kind", MANY)
def test_twice_as_many_sites_take_twice_as_much(kind: str) -> None:
    """Counted in calls of functions, which are the same on every machine."""
    assert steps(MANY[kind](120)) < 2.6 * steps(MANY[kind](60))


def test_nested_arms_take_no_more_than_the_square() -> None:
    def arms(n: int) -> str:
        return "import torch\nif a:\n    pass\n" + "elif x == 'cuda':\n    y.cuda()\n" * n

    assert steps(arms(120)) < 4.4 * steps(arms(60))


def steps(text: str) -> int:
    """How many functions of porter's own are called while a text is migrated."""
    count = 0

    def seen(frame: object, event: str, _: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    migrated(text)  # what is worked out once for all files
    sys.setprofile(seen)
    try:
        engine.analyse(text, CATALOG, Target("accelerator"))
    finally:
        sys.setprofile(None)
    return count


def test_a_long_run_of_numbers_is_not_made_into_nodes() -> None:
    numbers = ", ".join(str(n % 7 / 2) for n in range(30_000))
    text = f"x = a -1, {numbers}, 5\ny = x.cuda()\nz = [\n{numbers.replace(', ', chr(10) + ',')}]\n"
    blank = syntax.without_data(text)
    assert len(blank) == len(text)
    assert [len(line) for line in blank.split("\n")] == [len(line) for line in text.split("\n")]
    tree = syntax.parse(text)
    assert sum(1 for _ in ast.walk(tree)) < 100
    first, call = tree.body[0], tree.body[1]
    assert isinstance(first, ast.Assign)
    assert isinstance(first.value, ast.Tuple)
    assert isinstance(first.value.elts[0], ast.BinOp)
    index = syntax.LineIndex(text)
    start, end = index.span(call)
    assert text[start:end] == "y = x.cuda()"


def test_short_runs_of_numbers_and_small_files_stay() -> None:
    small = f"x = [{', '.join(map(str, range(5000)))}]\n"
    assert syntax.without_data(small) is small
    large = small + "# long\n" * 20_000
    runs = syntax.without_data(large)
    assert len(runs) == len(large)
    assert syntax.without_data("x = 'a b'\n" * 20_000) == "x = 'a b'\n" * 20_000


def test_more_code_than_fits_into_memory_is_said(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(syntax, "_MAX_WORDS", 1000)
    path = tmp_path / "a.py"
    path.write_text("import torch\n" + "a = b.cuda()\n" * 1000)
    found = analyse(Task(str(path), "a.py", "python", "a"), Plan(Target("accelerator")))
    assert found.status is FileStatus.FAILED
    assert "words of code" in found.reason
    assert "split the file or exclude it" in found.reason
    assert len(found.sites) == 1
    comments = "import torch\n" + "# a b c d e f\n" * 1000 + "a = b.cuda()\n"
    assert migrated(comments).settled


# Deep -------------------------------------------------------------------------------------------

DEEP = {
    "brackets": lambda n: f"y = {'(' * n}1{')' * n}\n",
    "sum": lambda n: f"y = {' + '.join(['1'] * n)}\n",
    "calls": lambda n: f"y = x{'.view(1)' * n}\n",
    "elif": lambda n: "if y:\n    pass\n" + "elif y == 1:\n    x.cuda()\n" * n,
    "signs": lambda n: f"y = {'-' * n}1\n",
    "lambdas": lambda n: f"y = {'lambda: ' * n}1\n",
    "subscripts": lambda n: f"y = x{'[0]' * n}\n",
}


@pytest.mark.parametrize("kind", DEEP)
@pytest.mark.parametrize("depth", [200, 20_000, 100_000])
def test_deep_nesting_is_analysed_or_said(tmp_path: Path, kind: str, depth: int) -> None:
    path = tmp_path / "a.py"
    path.write_text("import torch\n\nx = torch.zeros(1).cuda()\n" + DEEP[kind](depth))
    found = analyse(Task(str(path), "a.py", "python", "a"), Plan(Target("accelerator")))
    if found.status is FileStatus.FAILED:
        assert "nested too deeply" in found.reason
        assert "internal error" not in found.reason
    else:
        assert depth == 200
        assert found.after is not None


def test_deep_nesting_does_not_stop_what_reads_other_files() -> None:
    """The search for names that pass between files parses in the first process."""
    with pytest.raises(syntax.SyntaxProblem):
        Module("y = x" + ".view(1)" * 30_000 + "\n")


# Parts ------------------------------------------------------------------------------------------


def test_quick_search_of_strings_misses_nothing() -> None:
    quick, anywhere = (
        CATALOG.any_string,
        engine._anywhere(tuple(pattern.pattern for pattern, _ in CATALOG.strings)),
    )
    assert quick is not None
    texts = {
        node.value
        for path in (ROOT / "porter").rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and isinstance(node.value, str)
    }
    texts |= {t + s for t in ("", "a\n", "see ", "x.") for s in (
        "cuda", "cuda:0", "gpu:nccl", "NCCL_DEBUG=1", "torch.cuda.amp", "nvidia-smi", "+cu118",
        "nvidia/cuda:12", "pytorch/pytorch:2-cuda", "CUDA_HOME", "--use_cuda",
    )}  # fmt: skip
    for text in texts:
        if quick.search(text):
            assert any(p.search(text) for p in anywhere), text


def test_alternatives_of_a_pattern() -> None:
    assert list(engine._alternatives(r"^(a|b)$|\b[|(]x|c\|d|[^]|]e")) == [
        "^(a|b)$", r"\b[|(]x", r"c\|d", "[^]|]e",
    ]  # fmt: skip


def test_replaced_names() -> None:
    from porter.edit import Span

    spans = [Span(0, 4, "new"), Span(4, 4, "old"), Span(6, 9, "old.x"), Span(12, 15, "a.old")]
    found = imports._Replaced(spans)
    assert found.without("old", 0, 3)
    assert not found.without("old", 4, 5)
    assert not found.without("old", 6, 9)
    assert found.without("old", 12, 15)
    assert not found.without("old", 14, 17)


def test_the_heaviest_items_are_begun_first() -> None:
    work = pool.Work(lambda item, state: item, None, lambda item: item, weight=lambda item: item)
    items = [1, 50, 2, 3, 900, 4, 5, 6]
    chunks = pool._Spread(work, items, None).chunks(2)
    assert chunks[0] == [4]
    assert chunks[1] == [1]
    assert sorted(index for chunk in chunks for index in chunk) == list(range(len(items)))
    assert pool.spread(work, items, 2) == items


def test_garbage_is_left_as_it_was() -> None:
    work = pool.Work(lambda item, state: item, None, lambda item: item)
    assert gc.isenabled()
    pool.spread(work, [1, 2, 3], 1)
    assert gc.isenabled()
    assert gc.get_freeze_count() == 0


def test_new_content_is_kept_small(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    text = "import torch\n\n\ndef f(x):\n" + "    x = x.cuda()\n" * 500
    path.write_text(text)
    found = analyse(Task(str(path), "a.py", "python", "a"), Plan(Target("accelerator")))
    assert found.after is not None
    assert found.packed is not None
    assert len(found.packed) < len(found.after) / 4
    assert unpacked(packed(b"\x00\xff")) == b"\x00\xff"
    changed = Changed.of(None, "a.py", found.after, found.digest)  # type: ignore[arg-type]
    assert changed.after == found.after
    assert [s.status for s in found.sites] == [Status.REWRITTEN] * 500
    assert unified("a.py", text.encode(), found.after).count(b"\n+    x = x.to(device)") == 500


# The script -------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def script() -> ModuleType:
    found = importlib.util.spec_from_file_location(
        "performance", ROOT / "docs" / "tools" / "performance.py"
    )
    assert found is not None
    assert found.loader is not None
    module = importlib.util.module_from_spec(found)
    sys.modules["performance"] = module
    found.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tree")
    (folder / "a.py").write_text("import torch\n\n\ndef f(x):\n    return x.cuda()\n")
    (folder / "b.py").write_text("import json\n")
    return folder


def test_limit(script: ModuleType, tree: Path) -> None:
    found = script.surveyed(tree, "accelerator")
    assert [Path(p).name for p in found.files] == ["a.py", "b.py"]
    assert [Path(p).name for p in found.sites] == ["a.py"]
    lines = script.limit([tree], 1, ("accelerator",)).splitlines()
    assert lines[0].startswith("| Tree | Target |")
    assert f"| {tree.name} | accelerator | 2 |" in lines[2]


def test_memory_notes_every_process(script: ModuleType, tree: Path) -> None:
    cost = script.measured(script.noting("check", "-q", "--no-cache", "-j2", tree))
    assert {note["who"] for note in cost.notes} == {"parent", "worker"}
    assert cost.peak > 10_000_000
    assert cost.worker > 10_000_000
    assert 0 < cost.serial <= cost.critical(2)


def test_large_says_what_became_of_a_file(script: ModuleType) -> None:
    assert script.handled(script._one_line(20)).result == "20 rewritten"
    assert "nested too deeply" in script.handled(script._calls(50_000)).result


def test_a_command_that_fails_is_no_measurement(script: ModuleType) -> None:
    with pytest.raises(RuntimeError, match="ended with 3"):
        script.measured([sys.executable, "-c", "raise SystemExit(3)"])


@pytest.mark.parametrize("make", ["_functions", "_guards", "_imported", "_lines", "_numbers"])
def test_what_is_measured_is_python(script: ModuleType, make: str, tmp_path: Path) -> None:
    text = getattr(script, make)(10)
    assert analysed(tmp_path / "a.py", text) is FileStatus.CHANGED
