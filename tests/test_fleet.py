"""`porter fleet`: the same findings as one run for each repository, whatever happens on the way."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from porter import runner
from porter.config import load
from porter.fleet import drive, gaps, listing, local, part, ray, state, steps, unit
from porter.fleet.cut import Cutter
from porter.fleet.listing import ListProblem
from porter.fleet.run import Options, Result, run
from porter.fleet.unit import NODE, Outcome, Unit, perform
from porter.report import as_json
from porter.runner import Request


def _browser() -> ModuleType:
    spec = importlib.util.spec_from_file_location("browser", Path(__file__).parent / "browser.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


BROWSER = _browser()
CUDA = "import torch\nx = torch.ones(2).cuda()\n"
#: Blocks with one name, and with another.
GRAPH = "import torch\ng = torch.cuda.CUDAGraph()\n"
NVTX = "import torch\nwith torch.autograd.profiler.emit_nvtx():\n    pass\n"


def write(folder: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    return folder


def fleet(folder: Path, text: str, output: str = "out", **options: Any) -> Result:
    (folder / "repos.toml").write_text(text, encoding="utf-8")
    found = Options(folder / "repos.toml", folder / output, **{"jobs": 2, **options})
    return run(found, lambda done, total: None)


def repos(*entries: str) -> str:
    return "".join(f"[[repo]]\n{entry}\n" for entry in entries)


def row(result: Result, name: str) -> Any:
    (found,) = [row for row in result.data["repos"] if row["name"] == name]
    return found


def alone(path: Path) -> str:
    """The report of `porter check` on a folder."""
    return as_json(runner.run(Request((path,), load([path]))).report)


@pytest.fixture
def monorepo(tmp_path: Path) -> Path:
    """A repository in which names pass between folders, and odd files lie around."""
    files = {
        "pyproject.toml": '[project]\nname = "mono"\ndependencies = ["torch>=1.13"]\n',
        "services/a/compat.py": "from torch.cuda.amp import autocast, GradScaler\n",
        "services/a-b/run.py": CUDA,
        "services/b/train.py": "from services.a.compat import autocast\nwith autocast():\n    pass\n",
        "services/b/model.py": "class Net:\n    def cuda(self):\n        return self\n",
        "services/c/again.py": "from services.b.train import autocast as cast\nwith cast():\n    pass\n",
        "services/c/broken.py": "import torch\nx = torch.ones(2).cuda(\n",
        "services/c/requirements.txt": "torch==2.1.0+cu118\nflash-attn\n",
        "services/d/deep/er/x.py": GRAPH,
        "services/d/bind.cpp": '#include <torch/extension.h>\nPYBIND11_MODULE(x, m) { m.def("add", &add); }\n',
        "services/d/use.py": "import x\nx.add(1)\n",
        "services/e/vendor/v.py": CUDA,
        "setup.py": "from setuptools import setup\nsetup(install_requires=['torch>=1.13'])\n",
        "tool.py": "net = object()\nnet.cuda()\n",
        "übung.py": CUDA,
    }
    files |= {f"services/f/{i}.py": CUDA for i in range(6)}
    files |= {f"services/{n}/__init__.py": "" for n in "abcd"} | {"services/__init__.py": ""}
    return write(tmp_path / "mono", files)


# The same findings ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "settings",
    ["", "max-files = 1", "max-files = 3", "max-bytes = 60", 'split = "services/*"\nmax-files = 5',
     'split = ["services/d", "services/?/deep"]'],
)  # fmt: skip
def test_a_cut_repository_has_the_report_of_the_whole(monorepo: Path, settings: str) -> None:
    result = fleet(monorepo.parent, repos(f'path = "mono"\n{settings}'))
    assert result.done[0].failed == ""
    report = (monorepo.parent / "out/repos/mono.json").read_text(encoding="utf-8")
    assert report == alone(monorepo)
    data = json.loads(report)
    found = row(result, "mono")
    assert found["status"] == data["verdict"]["status"]
    assert found["readiness"] == data["verdict"]["readiness"]
    assert found["effort"] == data["summary"]["effort"]
    assert found["files"]["failed"] == 1
    passed_on = [s for s in data["sites"] if s["path"] == "services/c/again.py"]
    assert passed_on, "names pass through two other folders"
    if settings:
        assert result.done[0].units > 4


def test_a_folder_inside_a_project_hears_of_the_rest(monorepo: Path) -> None:
    result = fleet(monorepo.parent, repos('path = "mono/services/c"\nmax-files = 2'))
    report = (monorepo.parent / "out/repos/c.json").read_text(encoding="utf-8")
    assert report == alone(monorepo / "services/c")
    assert row(result, "c")["sites"]["safe"], "what services/a exports is known"


def test_nothing_depends_on_jobs_or_cuts(monorepo: Path) -> None:
    one = repos('path = "mono"', 'path = "mono/services/f"', 'paths = ["mono/services/[bd]"]')
    many = one.replace('path = "mono"\n', 'path = "mono"\nmax-files = 2\n')
    folder = monorepo.parent
    texts = []
    for name, text, jobs in (("x", one, 1), ("y", one, 2), ("z", many, 2)):
        fleet(folder, text, name, jobs=jobs)
        files = sorted(p for p in (folder / name).rglob("*.*") if "state" not in p.parts)
        texts.append({p.relative_to(folder / name): p.read_bytes() for p in files})
    assert len(texts[0]) == 10
    assert texts[0] == texts[1] == texts[2]


def test_files_are_cut_between_folders() -> None:
    names = ["a/1", "a/2", "a-b/1", "b/x/1", "b/x/2", "b/y/1", "c", "d/1"]
    cutter = Cutter(names, [1] * 8, (), 2, 100)
    assert [[names[i] for i in s.members] for s in cutter.shards()] == [
        ["a-b/1"], ["a/1", "a/2"], ["b/x/1", "b/x/2"], ["b/y/1"], ["c", "d/1"],
    ]  # fmt: skip
    grouped = Cutter(names, [60] * 8, ("b/*", "d"), 9, 100).shards()
    assert [(s.group, [names[i] for i in s.members]) for s in grouped] == [
        ("", ["a-b/1"]), ("", ["a/1"]), ("", ["a/2"]), ("b/x", ["b/x/1"]), ("b/x", ["b/x/2"]),
        ("b/y", ["b/y/1"]), ("", ["c"]), ("d", ["d/1"]),
    ]  # fmt: skip


def test_folders_of_a_split_are_told_apart(monorepo: Path) -> None:
    result = fleet(monorepo.parent, repos('path = "mono"\nsplit = "services/*"\nmax-files = 5'))
    units = {each["folder"]: each for each in row(result, "mono")["units"]}
    assert set(units) == {"", *(f"services/{n}" for n in ("a", "a-b", "b", "c", "d", "f"))}
    assert units["services/f"]["files"]["read"] == 6
    assert units["services/f"]["sites"]["safe"] == 6
    assert units["services/d"]["status"] == "BLOCKED"
    total = sum(each["files"]["read"] for each in units.values())
    assert total == row(result, "mono")["files"]["read"]


# Interruptions ----------------------------------------------------------------------------------


def test_a_second_run_finds_all_finished_until_something_changes(monorepo: Path) -> None:
    folder, text = monorepo.parent, repos('path = "mono"\nsplit = "services/*"')
    first = fleet(folder, text)
    before = (folder / "out/fleet.json").read_bytes()
    again = fleet(folder, text)
    assert (folder / "out/fleet.json").read_bytes() == before
    done = again.done[0]
    # What fails is tried again: only its shard, and the summary that depends on it.
    assert done.units == first.done[0].units
    assert done.kept >= done.units - 4, done
    anew = fleet(folder, text, fresh=True)
    assert anew.done[0].kept == 0
    (monorepo / "services/f/3.py").write_text(GRAPH)
    changed = fleet(folder, text)
    assert changed.done[0].kept >= done.kept - 4
    report = (folder / "out/repos/mono.json").read_text(encoding="utf-8")
    assert report == alone(monorepo)
    (folder / "out/repos/mono.html").unlink()
    fleet(folder, text)
    assert (folder / "out/repos/mono.html").is_file(), "a report that is gone is made again"


@pytest.mark.parametrize("number", ["SIGKILL", "SIGTERM"])
def test_a_killed_run_goes_on_where_it_was(tmp_path: Path, number: str) -> None:
    slow = "import torch\n" + "x = torch.ones(2).cuda()\n" * 300
    for i in range(6):
        write(tmp_path / f"r{i}", {"a.py": slow + f"# {i}\n"})
    (tmp_path / "repos.toml").write_text(repos('paths = ["r*"]'))
    command = [sys.executable, "-m", "porter", "fleet", "repos.toml", "-j1", "-o", "out"]
    process = subprocess.Popen(command, cwd=tmp_path, stderr=subprocess.PIPE, text=True)
    shelf = tmp_path / "out/repos"
    while len(list(shelf.glob("*.json"))) < 2 and process.poll() is None:
        time.sleep(0.01)
    process.send_signal(getattr(signal, number))
    _, said = process.communicate(timeout=60)
    assert not (tmp_path / "out/fleet.json").exists()
    if number != "SIGKILL":
        assert "finished units are kept" in said
        assert process.returncode == 128 + getattr(signal, number)
    result = fleet(tmp_path, repos('paths = ["r*"]'))
    assert 1 <= sum(done.kept for done in result.done) < 6
    fleet(tmp_path, repos('paths = ["r*"]'), "other")
    one, other = ((tmp_path / n / "fleet.json").read_bytes() for n in ("out", "other"))
    assert one == other


def dying(monkeypatch: pytest.MonkeyPatch, when: Callable[[Unit], bool], how: str = "die") -> None:
    """Have processes of some units end, or hang."""

    def broken(each: Unit) -> Outcome:
        if when(each):
            if how == "die":
                os.kill(os.getpid(), signal.SIGKILL)
            while how == "hang":
                pass
        return perform(each)

    monkeypatch.setattr(local, "perform", broken)


def holds(each: Unit, name: str) -> bool:
    """Whether a unit is about a file."""
    if each.lost or each.step not in ("look", "analyse"):
        return False
    rows = json.loads(Path(each.job.work, str(each.number), f"files-{each.shard}").read_text())
    return any(found[2] == name for found in rows[each.start : each.stop])


def test_a_unit_that_dies_is_cut_until_one_file_is_to_blame(
    monorepo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, text = monorepo.parent, repos('path = "mono"', 'path = "mono/services/a-b"')
    fleet(folder, text, "sound")
    dying(monkeypatch, lambda u: u.number == 0 and (u.step == "whole" or holds(u, "tool.py")))
    result = fleet(folder, text)
    assert row(result, "mono")["status"] == "BLOCKED"
    report = json.loads((folder / "out/repos/mono.json").read_bytes())
    failed = {
        file["path"]: file["reason"] for file in report["files"] if file["status"] == "failed"
    }
    assert set(failed) == {"services/c/broken.py", "tool.py"}
    assert "died" in failed["tool.py"]
    sound = json.loads((folder / "sound/repos/mono.json").read_bytes())
    assert [s for s in sound["sites"] if s["path"] != "tool.py"] == [
        s for s in report["sites"] if s["path"] != "tool.py"
    ]
    assert result.data["repos"][1]["status"] == "BLOCKED", "as in the other run"
    monkeypatch.undo()
    fleet(folder, text)
    assert (folder / "out/fleet.json").read_bytes() == (folder / "sound/fleet.json").read_bytes()


def test_a_unit_that_dies_once_costs_nothing(
    monorepo: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, text = monorepo.parent, repos('path = "mono"\nmax-files = 4')
    fleet(folder, text, "sound")
    mark = folder / "died"

    def once(each: Unit) -> bool:
        if each.step not in ("join", "merge") or (mark / each.step).exists():
            return False
        mark.mkdir(exist_ok=True)
        (mark / each.step).touch()
        return True

    dying(monkeypatch, once)
    fleet(folder, text)
    assert sorted(p.name for p in mark.iterdir()) == ["join", "merge"]
    assert (folder / "out/fleet.json").read_bytes() == (folder / "sound/fleet.json").read_bytes()


def test_a_step_that_always_dies_fails_its_repository_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a/x.py": CUDA, "b/x.py": CUDA})
    dying(monkeypatch, lambda u: u.number == 0 and u.step in ("whole", "join"))
    result = fleet(tmp_path, repos('path = "a"', 'path = "b"'))
    assert [each["status"] for each in result.data["repos"]] == ["FAILED", "READY"]
    assert "died" in row(result, "a")["reason"]


def test_a_unit_that_hangs_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path, {"a/x.py": CUDA, "a/y.py": CUDA, "b/x.py": CUDA})

    def hanging(each: Unit) -> Outcome:
        def hang(what: Unit) -> dict[str, Any]:
            stuck = each.step == "whole" or (each.step == "analyse" and holds(each, "y.py"))
            while each.number == 0 and stuck:
                time.sleep(1)
            return original(what)

        original = steps.do
        steps.do = hang  # in the process of this unit alone
        return perform(each)

    monkeypatch.setattr(local, "perform", hanging)
    result = fleet(tmp_path, repos('path = "a"', 'path = "b"'), limit=3.0)
    report = json.loads((tmp_path / "out/repos/a.json").read_bytes())
    assert [(f["path"], f["status"]) for f in report["files"]] == [
        ("x.py", "changed"), ("y.py", "failed"),
    ]  # fmt: skip
    assert report["files"][1]["reason"] == "took longer than 3 seconds (--timeout)"
    assert row(result, "b")["status"] == "READY"
    assert result.data["totals"]["files"]["failed"] == 1


def test_a_lost_machine_is_no_fault_of_the_unit(tmp_path: Path) -> None:
    write(tmp_path, {"a/x.py": CUDA})
    (tmp_path / "repos.toml").write_text(repos('path = "a"'))

    class Losing:
        """An engine that loses every unit, some times."""

        def __init__(self, times: int) -> None:
            self.times, self.waiting = times, list[Unit]()

        def room(self) -> int:
            return 1 - len(self.waiting)

        def start(self, each: Unit) -> None:
            self.waiting.append(each)

        def finished(self) -> list[tuple[Unit, Outcome]]:
            each = self.waiting.pop()
            self.times -= 1
            here = Path.cwd()
            try:
                return [(each, Outcome(lost=NODE) if self.times >= 0 else perform(each))]
            finally:
                os.chdir(here)

        def close(self) -> None:
            pass

    for times, failed in ((drive.MACHINES, ""), (99, "whole: the machine that did it was lost")):
        listed = listing.read(tmp_path / "repos.toml")
        work = state.begun(tmp_path / "state")
        job = unit.Job(str(tmp_path / "state"), str(work), str(tmp_path / "out"), listed.folder,
                       unit.code())  # fmt: skip
        (done,) = drive.drive(listed, job, Losing(times), lambda a, b: None)
        assert done.failed.startswith(failed)
        assert bool(done.failed) is bool(failed)


# Bad repositories and bad lists -----------------------------------------------------------------


def test_one_bad_repository_does_not_stop_the_others(tmp_path: Path) -> None:
    write(tmp_path, {"good/x.py": CUDA, "bad/x.py": CUDA, "bad/porter.toml": "target = 3\n"})
    text = repos('path = "bad"', 'path = "gone"', 'path = "good"', 'path = "repos.toml"')
    result = fleet(tmp_path, text)
    assert [each["status"] for each in result.data["repos"]] == [
        "FAILED", "FAILED", "READY", "FAILED",
    ]  # fmt: skip
    assert "bad/porter.toml: target must be" in row(result, "bad")["reason"]
    assert "[[repo]] 2 ('gone'): path: no such folder: gone" in row(result, "gone")["reason"]
    assert "is not a folder" in row(result, "repos.toml")["reason"]
    assert str(tmp_path) not in (tmp_path / "out/fleet.json").read_text().replace(
        json.dumps(str(tmp_path / "repos.toml"))[1:-1], ""
    )


def test_reports_of_repositories_that_are_gone_are_removed(tmp_path: Path) -> None:
    write(tmp_path, {"a/x.py": CUDA, "b/x.py": CUDA})
    fleet(tmp_path, repos('path = "a"', 'path = "b"'))
    (tmp_path / "out/repos/mine.html").write_text("not made here")
    (tmp_path / "b/porter.toml").write_text("target = 3\n")
    fleet(tmp_path, repos('path = "b"'))
    assert sorted(p.name for p in (tmp_path / "out/repos").iterdir()) == ["mine.html"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no repository"),
        ("[[repo]", "not valid TOML"),
        ("[[repos]]\n", "unknown key 'repos'; did you mean 'repo'?"),
        ("repo = 3", "names no repository"),
        ("[[repo]]\n", "[[repo]] 1 needs path = FOLDER, or paths"),
        ('[[repo]]\npath = "a"\npaths = ["a"]\n', "one of them"),
        ('[[repo]]\npath = "a"\npath = "b"\n', "not valid TOML"),
        ('[[repo]]\npath = 3\n', "[[repo]] 1: path must be text, not a number"),
        ('[[repo]]\npath = "https://x.example/a.git"\n', "clone it"),
        ('[[repo]]\npath = "git@x.example:a.git"\n', "path cannot be a URL"),
        ('[[repo]]\npaths = ["nothing*"]\n', "paths: no folder matches 'nothing*'"),
        ('[[repo]]\npaths = ["../*"]\n', "paths must stay below"),
        ('[[repo]]\npaths = ["*"]\nname = "x"\n', "name goes with path"),
        ('[[repo]]\npath = "a"\n[[repo]]\nname = "A"\npath = "b"\n',
         "[[repo]] 2 ('A'): name 'A' is taken by [[repo]] 1 ('a')"),
        ('[[repo]]\npath = "a"\nname = "../a"\n', "name '../a' must be a name"),
        ('[[repo]]\npath = "a"\nname = "a:b"\n', "name 'a:b' holds a character"),
        ('[[repo]]\npath = "a"\nmin_torch = "2.7"\n',
         "[[repo]] 1 ('a'): unknown key 'min_torch'; did you mean 'min-torch'?"),
        ('[fleet]\ntarget = "gpu"\n[[repo]]\npath = "a"\n', "[fleet]: target cannot be 'gpu'"),
        ('[[repo]]\npath = "a"\nmax-files = 0\n', "max-files must be a whole number from 1"),
        ('[[repo]]\npath = "a"\nweight = -1\n', "weight must be a number above 0"),
        ('[[repo]]\npath = "a"\nselect = "POR1"\n', "select must be a list of text"),
        ('fleet = 3\n[[repo]]\npath = "a"\n', "[fleet] must be a table"),
    ],
)  # fmt: skip
def test_a_bad_list_is_one_line_that_names_file_and_key(
    tmp_path: Path, text: str, said: str
) -> None:
    write(tmp_path, {"a/x.py": "", "b/x.py": ""})
    with pytest.raises(ListProblem) as problem:
        fleet(tmp_path, text)
    assert "repos.toml: " in problem.value.message
    assert said in problem.value.message
    assert "\n" not in problem.value.message


def test_an_entry_of_its_own_wins_over_a_pattern(tmp_path: Path) -> None:
    write(tmp_path, {"s/a/x.py": CUDA, "s/b/x.py": CUDA, "s/b/y.py": CUDA, "s/c.py": CUDA})
    text = (
        '[fleet]\ntarget = "npu"\nteam = "core"\nlabels = ["all"]\nexclude = ["gen/"]\n'
        + repos('paths = ["s/*"]\nlabels = ["few"]',
                'path = "s/b"\nname = "b"\ntarget = "accelerator"\nexclude = ["y.py"]\nteam = "x"')
    )  # fmt: skip
    result = fleet(tmp_path, text)
    assert [each["name"] for each in result.data["repos"]] == ["s/a", "b"]
    a, b = result.data["repos"]
    assert (a["target"], a["team"], a["labels"]) == ("npu", "core", ["all", "few"])
    assert (b["target"], b["team"], b["labels"]) == ("accelerator", "x", ["all"])
    assert b["files"]["read"] == 1
    assert (tmp_path / "out/repos/s/a.html").is_file()
    assert [t["team"] for t in result.data["teams"]] == ["core", "x"]
    assert {r["target"] for r in fleet(tmp_path, text, target="npu").data["repos"]} == {"npu"}


def test_a_pattern_does_not_match_the_output(tmp_path: Path) -> None:
    write(tmp_path, {"a/x.py": CUDA})
    for _ in range(2):
        assert len(fleet(tmp_path, repos('paths = ["*"]')).data["repos"]) == 1
    # The output of another list is looked at, and nothing is found in it.
    again = fleet(tmp_path, repos('paths = ["*"]'), "other")
    assert row(again, "out")["sites"] == dict.fromkeys(row(again, "out")["sites"], 0)


def test_its_own_output_is_not_looked_at(tmp_path: Path) -> None:
    write(tmp_path, {"x.py": CUDA})
    for _ in range(2):
        result = fleet(tmp_path, repos('name = "me"\npath = "."'))
        assert row(result, "me")["files"]["read"] == 2, "the list is a file of it"
    assert result.done[0].kept


# The dashboard ----------------------------------------------------------------------------------


@pytest.fixture
def four(tmp_path: Path) -> Result:
    files = {
        "ready/x.py": CUDA,
        "one/x.py": GRAPH,
        "two/x.py": GRAPH + NVTX,
        "also/x.py": GRAPH + "# other\n",
        "three/x.py": GRAPH + NVTX + "p = torch.cuda.profiler.profile()\n",
    }
    write(tmp_path, files)
    return fleet(
        tmp_path,
        repos('path = "ready"', 'path = "one"', 'path = "two"', 'path = "also"\nweight = 3',
              'path = "three"', 'path = "gone<b>"\nname = "gone"'),
    )  # fmt: skip


def test_what_one_adapter_would_unblock(four: Result) -> None:
    graph = {"kind": "API", "name": "torch.cuda.CUDAGraph"}
    nvtx = {"kind": "API", "name": "torch.autograd.profiler.emit_nvtx"}
    assert four.data["adapters"] == [
        {"gaps": [nvtx, graph], "repos": ["also", "one", "two"], "weight": 5.0},
        {"gaps": [graph], "repos": ["also", "one"], "weight": 4.0},
    ]
    first = four.data["gaps"][0]
    assert (first["name"], first["blocked"]) == ("torch.cuda.CUDAGraph", 4)
    assert first["repos"] == ["also", "one", "three", "two"]


def test_a_report_that_is_too_large_has_no_page(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(tmp_path, {"a/x.py": CUDA * 3})
    monkeypatch.setattr(steps, "MAX_PAGE_SITES", 2)
    found = row(fleet(tmp_path, repos('path = "a"')), "a")
    assert found["page"] == ""
    assert not (tmp_path / "out/repos/a.html").exists()
    assert "too many findings for a page" in (tmp_path / "out/fleet.html").read_text()


def test_totals_are_those_of_the_repositories(four: Result) -> None:
    totals, rows = four.data["totals"], four.data["repos"]
    assert totals["repos"] == 6
    assert totals["statuses"] == {"FAILED": 1, "BLOCKED": 4, "AFTER REVIEW": 0, "READY": 1}
    sound = [each for each in rows if each["status"] != "FAILED"]
    resolved, total = (sum(r["points"][k] for r in sound) for k in ("resolved", "total"))
    assert totals["readiness"] == resolved * 100 // total
    assert totals["pending"] == sum(r["pending"] for r in sound)


def test_packages_are_called_as_the_index_calls_them() -> None:
    site = {"symbol": "flash_attn", "rule": "POR821"}
    assert gaps.name_of(site, "dependencies") == ("package", "flash-attn")
    assert gaps.name_of({**site, "symbol": ""}, "code") == ("rule", "POR821")


class Rows(HTMLParser):
    """Rows of the table of repositories, and everything that a page asks for."""

    def __init__(self) -> None:
        super().__init__()
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.inside = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        given = dict(attrs)
        self.inside |= tag == "tbody"
        if tag == "tr" and "data-words" in given:
            self.rows.append([])
        self.links += [str(given[key]) for key in ("href", "src") if key in given]

    def handle_data(self, data: str) -> None:
        if self.rows and self.inside and data.strip():
            self.rows[-1].append(data.strip())


def test_the_page_has_a_row_for_each_repository(four: Result, tmp_path: Path) -> None:
    text = (tmp_path / "out/fleet.html").read_text(encoding="utf-8")
    page = Rows()
    page.feed(text)
    assert {cells[0] for cells in page.rows} == {"ready", "one", "two", "also", "three", "gone"}
    assert page.rows[0][0] == "gone", "what failed stands first"
    assert "gone<b>" not in text, "names are escaped"
    links = [link for link in page.links if not link.startswith("#")]
    assert len(links) == 10
    assert all((tmp_path / "out" / link).is_file() for link in links)
    assert "http" not in "".join(page.links)
    assert "What one adapter would unblock" in text


@pytest.mark.skipif(bool(BROWSER.missing()), reason=BROWSER.missing())
def test_the_page_works_in_a_browser(four: Result, tmp_path: Path) -> None:
    with BROWSER.browser(tmp_path / "profile") as window:
        window.open(tmp_path / "out/fleet.html")
        window.until("return document.documentElement.dataset.ready === 'yes'")
        names = "return [...document.querySelectorAll('#fleet tbody tr:not([hidden])')].map(r => r.cells[0].dataset.value)"
        window.run("document.querySelectorAll('#fleet th button')[0].click()")
        assert window.run(names) == ["also", "gone", "one", "ready", "three", "two"]
        window.run(
            "const f = document.getElementById('filter'); f.value = 'emit_nvtx';"
            "f.dispatchEvent(new Event('input'))"
        )
        assert window.run(names) == ["three", "two"]
        assert window.log() == []


# The command ------------------------------------------------------------------------------------


def porter(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porter", "fleet", "repos.toml", *options],
        cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip


def test_exit_codes_and_formats(tmp_path: Path) -> None:
    write(tmp_path, {"a/x.py": CUDA, "b/x.py": GRAPH})
    (tmp_path / "repos.toml").write_text(repos('path = "a"'))
    done = porter(tmp_path, "-j1")
    assert done.returncode == 0
    assert "1 repository: 1 ready." in done.stdout
    assert "a           READY" in done.stdout
    assert "dashboard: porter-fleet" in done.stderr
    (tmp_path / "repos.toml").write_text(repos('path = "a"', 'path = "b"'))
    done = porter(tmp_path, "-j1", "--format", "json")
    assert done.returncode == 1
    assert json.loads(done.stdout) == json.loads(
        (tmp_path / "porter-fleet/fleet.json").read_bytes()
    )
    (tmp_path / "repos.toml").write_text(repos('path = "a"', 'path = "b"', 'path = "c"'))
    done = porter(tmp_path, "-j1", "--format", "markdown")
    assert done.returncode == 2
    assert "| b | BLOCKED |" in done.stdout
    assert "error: c: repos.toml: [[repo]] 3 ('c'): path: no such folder: c" in done.stderr
    done = porter(tmp_path, "-q", "--address", "x:1")
    assert (done.returncode, done.stderr) == (2, "error: --address goes with --engine ray\n")
    (tmp_path / "repos.toml").write_text("[[repo]]\n")
    done = porter(tmp_path)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: repos.toml: [[repo]] 1 needs path")
    assert done.stderr.count("\n") == 1


def test_ray_is_asked_for_only_when_it_is_wanted(
    tmp_path: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    write(tmp_path, {"a/x.py": CUDA})
    without = tmp_path_factory.mktemp("without")
    write(without, {"ray/__init__.py": "raise ImportError('not here')\n"})
    (tmp_path / "repos.toml").write_text(repos('path = "a"'))
    done = subprocess.run(
        [sys.executable, "-m", "porter", "fleet", "repos.toml", "--engine", "ray"],
        cwd=tmp_path, capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(
            [str(without), os.environ.get("PYTHONPATH", "")])},
    )  # fmt: skip
    assert done.returncode == 2
    assert "pip install 'torch-porter[ray]'" in done.stderr


def test_no_cluster_is_started() -> None:
    with pytest.raises(ValueError, match="starts none"):
        ray._reach("local")


def test_the_driver_keeps_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Reports are read by units alone, in their own processes."""
    write(tmp_path, {"a/x.py": CUDA})
    here = os.getpid()
    original = part.Part.__init__

    def watched(self: part.Part, path: Path) -> None:
        assert os.getpid() != here
        original(self, path)

    monkeypatch.setattr(part.Part, "__init__", watched)
    assert not fleet(tmp_path, repos('path = "a"')).done[0].failed
