"""What is kept between runs is used only where it is right."""

from __future__ import annotations

import os
import pickle
from pathlib import Path

import pytest

from porter import cache, runner
from porter.config import Settings
from porter.report import as_json
from porter.rule import Safety

CODE = "import torch\n\nmodel = torch.nn.Linear(2, 2).cuda()\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    place = tmp_path / "kept"
    monkeypatch.setenv(cache.FOLDER, str(place))
    return place


@pytest.fixture
def project(tmp_path: Path) -> Path:
    root = tmp_path / "project"
    root.mkdir()
    (root / "a.py").write_text(CODE)
    (root / "b.py").write_text("print('nothing')\n")
    (root / "compat.py").write_text("from torch.cuda import synchronize as sync\n")
    (root / "user.py").write_text("from compat import sync\n\nsync()\n")
    (root / "run.sh").write_text("nvidia-smi\n")
    return root


def run(root: Path, **settings: object) -> runner.Run:
    return runner.run(runner.Request((root,), Settings(**settings), jobs=1, cache=True))  # type: ignore[arg-type]


def fresh(root: Path, **settings: object) -> runner.Run:
    return runner.run(runner.Request((root,), Settings(**settings), jobs=1))  # type: ignore[arg-type]


def analysed(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The files that runs analyse from now on."""
    seen: list[str] = []
    real = runner.analyse_all

    def watched(tasks, plan, jobs, progress):  # type: ignore[no-untyped-def]
        seen.extend(task.shown for task in tasks)
        return real(tasks, plan, jobs, progress)

    monkeypatch.setattr(runner, "analyse_all", watched)
    return seen


def same(one: runner.Run, other: runner.Run) -> bool:
    return as_json(one.report) == as_json(other.report) and [
        (c.path, c.after, c.digest) for c in one.changed
    ] == [(c.path, c.after, c.digest) for c in other.changed]


def test_nothing_is_analysed_twice(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = run(project)
    seen = analysed(monkeypatch)
    assert same(run(project), first)
    assert seen == []
    assert same(first, fresh(project))


def test_only_what_changed_is_analysed(project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(project)
    (project / "a.py").write_text(CODE.replace("model", "other"))
    seen = analysed(monkeypatch)
    assert same(run(project), fresh(project))
    assert seen.count("a.py") == 2  # once here, once without what was kept
    assert seen.count("user.py") == 1


def test_what_other_files_tell_counts(project: Path) -> None:
    run(project)
    (project / "compat.py").write_text("from torch.cuda import empty_cache as sync\n")
    assert same(run(project), fresh(project))


def test_a_file_of_the_same_size_and_time_is_read_again(project: Path) -> None:
    before = (project / "a.py").stat()
    run(project)
    (project / "a.py").write_text(CODE.replace("cuda", "cudb"))
    os.utime(project / "a.py", ns=(before.st_atime_ns, before.st_mtime_ns))
    assert same(run(project), fresh(project))


@pytest.mark.parametrize(
    "settings", [{"target": "npu"}, {"ignore": ("POR101",)}, {"min_torch": "2.9"}, {"unsafe": True}]
)
def test_options_count(project: Path, settings: dict[str, object]) -> None:
    run(project)
    assert same(run(project, **settings), fresh(project, **settings))
    assert same(run(project), fresh(project))


def test_a_moved_project_is_read_anew(project: Path) -> None:
    run(project)
    other = project.rename(project.with_name("renamed"))
    assert same(run(other), fresh(other))


def files(folder: Path) -> list[Path]:
    return sorted(folder.glob(f"*{cache.SUFFIX}"))


@pytest.mark.parametrize(
    "spoil",
    [
        lambda data: b"",
        lambda data: data[:100],
        lambda data: data[:-1],
        lambda data: data[:60] + b"\0" + data[61:],
        lambda data: data.replace(b"a.py", b"b.py"),
        lambda data: os.urandom(len(data)),
    ],
)
def test_damage_is_no_more_than_forgetting(folder: Path, project: Path, spoil) -> None:  # type: ignore[no-untyped-def]
    run(project)
    [file] = files(folder)
    file.write_bytes(spoil(file.read_bytes()))
    assert same(run(project), fresh(project))


def test_only_own_types_are_read(folder: Path, project: Path) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (os.system, ("echo owned",))

    kept = cache.Cache(folder / "x", {b"k": pickle.dumps(Evil())})
    assert kept.get(b"k") is None
    kept.entries[b"s"] = pickle.dumps(Safety.SAFE)
    assert kept.get(b"s") is Safety.SAFE


def test_a_folder_that_cannot_be_written(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("")
    monkeypatch.setenv(cache.FOLDER, str(blocked / "below"))
    assert same(run(project), fresh(project))


def test_the_size_is_bounded(folder: Path, project: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(project)
    [old] = files(folder)
    os.utime(old, (1_700_000_000, 1_700_000_000))
    monkeypatch.setattr(cache, "MAX_AGE", 1e12)
    monkeypatch.setattr(cache, "MAX_TOTAL", old.stat().st_size + 100)
    run(project, target="npu")
    assert old not in files(folder)
    assert len(files(folder)) == 1
    monkeypatch.setattr(cache, "MAX_FILE", 10)
    run(project, target="npu", unsafe=True)
    assert len(files(folder)) == 1


def test_clean_removes_its_own_files_only(folder: Path, project: Path) -> None:
    run(project)
    (folder / "notes.txt").write_text("mine")
    place, count, size = cache.clean()
    assert (place, count) == (folder, 1)
    assert size > 100
    assert [p.name for p in folder.iterdir()] == ["notes.txt"]


def test_keys_do_not_depend_on_order_or_process() -> None:
    assert cache.key({"a": 1, "b": 2}) == cache.key({"b": 2, "a": 1})
    assert cache.key(frozenset("abc")) == cache.key(frozenset("cba"))
    assert cache.key("ab", "c") != cache.key("a", "bc")
    assert cache.key(1) != cache.key(True) != cache.key("1")
    assert cache.key(("a",), ()) != cache.key((), ("a",))
    with pytest.raises(TypeError):
        cache.key(object())
