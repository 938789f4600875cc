"""`porter migrate --rehearse`: a copy is migrated and tried, and only then something is written."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from porter.config import Settings
from porter.problem import Mistake
from porter.rehearse import command, copies, merge, migration
from porter.rehearse.migration import Wanted, parsed, place
from porter.rehearse.verdict import Count, Failure, Frame, Rehearsal, Verdict, from_json
from porter.report import as_data
from porter.runner import Request, Run, run

HAS_TORCH = importlib.util.find_spec("torch") is not None
RAN = Rehearsal(Verdict.RAN, "npu", operators=(Count("aten::add", "/p/a.py:1", 3),))

TRAIN = """import torch


def main():
    x = torch.ones(4).cuda()
    print((x + x).sum().item())


main()
"""


# The command --------------------------------------------------------------------------------------


def test_a_command_is_read_as_a_shell_reads_it() -> None:
    assert parsed("python train.py --name 'a b'") == ((), ["python", "train.py", "--name", "a b"])
    assert parsed("A=1 B='x y' pytest -q") == (("A=1", "B=x y"), ["pytest", "-q"])
    assert parsed("torchrun --x=1 t.py") == ((), ["torchrun", "--x=1", "t.py"])


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "names no command"),
        ("A=1", "names no command"),
        ("python 'train.py", "No closing quotation"),
        ("cd src && python train.py", "without '&&'"),
        ("python train.py > log", "without '>'"),
    ],
)
def test_what_is_no_command_is_a_mistake(text: str, said: str) -> None:
    with pytest.raises(Mistake, match=said):
        parsed(text)


def test_the_project_is_the_work_tree_or_the_folder(tmp_path: Path) -> None:
    project = tmp_path / "p"
    inner = project / "src"
    inner.mkdir(parents=True)
    assert place([inner], project) == (project, project)
    assert place([project], tmp_path / "elsewhere") == (project, project)
    subprocess.run(["git", "init", "-q", str(project)], check=True)
    assert place([project], inner) == (project, inner)
    assert place([inner], project) == (project, project)
    with pytest.raises(Mistake, match="run porter in the project's folder"):
        place([project, tmp_path], inner)


def test_the_target_decides_on_the_devices() -> None:
    assert migration.devices("npu") == ("npu",)
    assert migration.devices("accelerator") == ("npu", "other")


# The copy -----------------------------------------------------------------------------------------


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and ".git/" not in p.as_posix()
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    made = tmp_path / "project"
    for name in ("data", "empty", "pkg/__pycache__", "big", ".venv/bin"):
        (made / name).mkdir(parents=True)
    for name, text in {
        "train.py": TRAIN, "pkg/__init__.py": "", "data/numbers": "1 2 3", "big/blob": "b" * 5000,
        ".gitignore": "data\n.venv\n", ".venv/pyvenv.cfg": "", "pkg/__pycache__/x.pyc": "",
    }.items():  # fmt: skip
        (made / name).write_text(text)
    (tmp_path / "outside").mkdir()
    (made / "out").symlink_to(tmp_path / "outside")
    (made / "same").symlink_to("data/numbers")
    (made / "whole").symlink_to(made / "data")
    (made / "gone").symlink_to("nothing")
    os.mkfifo(made / "pipe")
    (made / "read-only").write_text("r")
    (made / "read-only").chmod(0o444)
    return made


def test_a_copy_has_what_a_program_reads(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    out.mkdir()
    copies.copy(project, out, {project / "train.py": b"new"}, [project / "big"])
    assert (out / "train.py").read_bytes() == b"new"
    assert (out / "data/numbers").read_text() == "1 2 3"
    assert (out / "empty").is_dir()
    assert (out / "big").is_symlink()
    assert (out / ".venv").is_symlink()
    assert not (out / "pkg/__pycache__").exists()
    assert not (out / "pipe").exists()
    assert os.access(out / "read-only", os.W_OK)
    # Links within the project stay within the copy.
    for name in ("same", "whole"):
        assert os.path.realpath(out / name).startswith(str(out))
    assert os.path.realpath(out / "out") == str(tmp_path / "outside")
    assert (out / "gone").is_symlink()


def test_what_is_written_to_a_copy_does_not_reach_the_original(
    project: Path, tmp_path: Path
) -> None:
    before = tree(project)
    out = tmp_path / "copy"
    out.mkdir()
    copies.copy(project, out, {})
    for name in ("train.py", "data/numbers", "same", "whole/numbers", "read-only"):
        (out / name).write_text("changed")
    (out / "data/more").write_text("more")
    assert tree(project) == before


def test_a_project_too_large_to_copy_is_refused(project: Path, tmp_path: Path) -> None:
    out = tmp_path / "copy"
    out.mkdir()
    with pytest.raises(copies.CopyProblem, match=r"largest: big .*--rehearse-link"):
        copies.copy(project, out, {}, limit=4000)
    assert not list(out.iterdir())
    copies.copy(project, out, {}, [project / "big"], limit=4000)


# Paths and lines ----------------------------------------------------------------------------------


def test_a_copy_is_reported_with_the_paths_of_the_project() -> None:
    frame = Frame("/tmp/c/p/train.py", 7, "main", "x", "user")
    found = replace(
        RAN,
        reasons=("/tmp/c/p/train.py:7: odd", "/tmp/c/plain/x.py:1"),
        failures=(Failure("E", "in /tmp/c/p/data", (frame,)),),
        rules=("/tmp/c/p/train.py:7: POR101",),
    )
    moved = migration.with_paths(found, "/tmp/c/p", "/srv/p")
    assert moved.reasons == ("/srv/p/train.py:7: odd", "/tmp/c/plain/x.py:1")
    assert moved.failures[0].place == "/srv/p/train.py:7"
    assert moved.failures[0].message == "in /srv/p/data"
    assert moved.rules == ("/srv/p/train.py:7: POR101",)


def test_lines_of_migrated_files_become_those_of_the_originals(tmp_path: Path) -> None:
    path = tmp_path / "a.py"
    path.write_text("a\nb\nc\nd\n")
    after = b"new\nother\na\nB\nc\nd\n"
    found = replace(RAN, reasons=tuple(f"{path}:{n}: x" for n in range(1, 7)))
    moved = migration.with_old_lines(found, {path: after})
    lines = [int(r.split(":")[1]) for r in moved.reasons]
    assert lines == [1, 1, 1, 2, 3, 4]


# The report ---------------------------------------------------------------------------------------


def failed() -> Rehearsal:
    frame = Frame("/p/train.py", 5, "main", "x = y.cuda()", "user")
    library = Frame("/v/lib/python3.11/site-packages/torch/x.py", 9, "f", "", "library")
    return Rehearsal(
        Verdict.FAILED,
        "npu",
        ("exit code 1",),
        1,
        2.5,
        failures=(Failure("AssertionError", "AssertionError: no CUDA", (frame, library)),),
        command="python train.py",
    )


def test_a_rehearsal_in_a_report_is_the_same_every_time(tmp_path: Path) -> None:
    check = merge.check(failed(), (Path("/p"),))
    assert check == merge.check(replace(failed(), seconds=9.0, stacks="0x7f"), (Path("/p"),))
    assert check["outcome"] == "failed"
    assert check["detail"] == "train.py:5: AssertionError: no CUDA"
    assert "/p/" not in json.dumps(check)
    assert "/v/" not in json.dumps(check)
    assert from_json(check["rehearsal"]).verdict is Verdict.FAILED


def report_of(tmp_path: Path, text: str = "x = 1\n") -> dict[str, Any]:
    (tmp_path / "a.py").write_text(text)
    return as_data(run(Request((tmp_path / "a.py",), Settings(target="npu"))).report)


@pytest.mark.parametrize(
    ("verdict", "status", "said"),
    [
        (Verdict.RAN, "READY", "1 rehearsal passed."),
        (Verdict.NOT_PROVED, "READY", "1 rehearsal ended well, but proved nothing."),
        (Verdict.FAILED, "AFTER REVIEW", "1 rehearsal failed: it is not ready."),
        (Verdict.HUNG, "AFTER REVIEW", "1 rehearsal failed: it is not ready."),
        (Verdict.CRASHED, "AFTER REVIEW", "1 rehearsal failed: it is not ready."),
    ],
)
def test_the_verdict_of_a_report_counts_rehearsals(
    tmp_path: Path, verdict: Verdict, status: str, said: str
) -> None:
    data = report_of(tmp_path)
    assert data["verdict"]["status"] == "READY"
    merged = merge.added(data, [merge.check(replace(RAN, verdict=verdict))])
    assert merged["verdict"]["status"] == status
    assert merged["verdict"]["sentence"].endswith(said)
    again = merge.added(merged, [merge.check(RAN)])
    assert len(again["checks"]) == 1, "the same run takes the place of the earlier one"


def test_a_rehearsal_never_makes_a_blocked_report_ready(tmp_path: Path) -> None:
    data = report_of(tmp_path, "import torch\n\ntorch.ones(1).cuda()\n")
    sites = [{**site, "status": "left", "safety": "manual"} for site in data["sites"]]
    merged = merge.added({**data, "sites": sites}, [merge.check(RAN)])
    assert merged["verdict"]["status"] == "BLOCKED"


def test_every_view_shows_it_and_the_schema_has_it(tmp_path: Path) -> None:
    from porter.output import FORMATS, render

    data = merge.added(report_of(tmp_path), [merge.check(failed(), (Path("/p"),))])
    for form in FORMATS:
        shown = render(data, form)
        if form in ("text", "markdown", "html"):
            assert "AssertionError: no CUDA" in shown
            assert "failed" in shown
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(__file__).parents[1] / "docs" / "report.schema.json").read_bytes())
    validator = jsonschema.Draft202012Validator(schema)
    validator.validate(json.loads(json.dumps(data)))
    alone = {**schema["$defs"]["rehearsal"], "$defs": schema["$defs"]}
    jsonschema.validate(json.loads(command.report(failed(), as_json=True)), alone)


def test_files_are_merged(tmp_path: Path) -> None:
    report, rehearsal = tmp_path / "report.json", tmp_path / "rehearsal.json"
    report.write_text(json.dumps(report_of(tmp_path)))
    rehearsal.write_text(command.report(failed(), as_json=True))
    merge.into(report, failed(), Path("/p"))
    assert json.loads(report.read_bytes())["checks"][0]["verdict"] == "failed"
    assert merge.load(rehearsal)[0]["verdict"] == "failed"
    assert merge.load(report)[0]["verdict"] == "failed"
    for text in ("", "[]", "{}", '{"rehearsal": 1}', '{"rehearsal": 1, "verdict": "x"}'):
        rehearsal.write_text(text)
        with pytest.raises(merge.RehearsalProblem) as caught:
            merge.load(rehearsal)
        assert str(rehearsal) in str(caught.value)
        assert "\n" not in str(caught.value)


# A migration that is tried ------------------------------------------------------------------------


@pytest.fixture
def tried(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> tuple[Run, list[tuple[list[str], command.Options, str]]]:
    """A run, and what was rehearsed for it, with the text of the script that the command saw."""
    seen: list[tuple[list[str], command.Options, str]] = []

    def rehearse(words: list[str], options: command.Options, output: Any = None) -> Rehearsal:
        text = (Path(options.folder) / "train.py").read_text()
        seen.append((words, options, text))
        verdict = Verdict.FAILED if ".cuda()" in text else Verdict.RAN
        place = f"{options.folder}/train.py:5"
        return replace(RAN, verdict=verdict, device=options.device, reasons=(place,))

    monkeypatch.setattr(command, "rehearse", rehearse)
    monkeypatch.chdir(project)
    return run(Request((Path(),), Settings(target="accelerator"))), seen


def test_a_copy_is_migrated_and_rehearsed(tried: Any, project: Path) -> None:
    done, seen = tried
    before = tree(project)
    said: list[str] = []
    wanted = Wanted(f"X={project}/data python {project}/train.py", before=True)
    trial = migration.rehearse(done, [Path()], wanted, said.append)
    assert trial.proved
    assert trial.before is not None
    assert trial.before.verdict is Verdict.FAILED
    assert [o.device for _, o, _ in seen] == ["npu", "npu", "other"]
    assert len(said) == 3
    assert ".cuda()" in seen[0][2]
    assert ".cuda()" not in seen[1][2]
    for words, options, _ in seen:
        assert options.folder != str(project)
        assert words == ["python", f"{options.folder}/train.py"]
        assert options.variables == (f"X={options.folder}/data",)
        assert not Path(options.folder).exists(), "the copy is gone"
    assert tree(project) == before
    assert trial.rehearsals[0].reasons == (f"{project}/train.py:5",)
    assert "before the migration: failed" in trial.checks()[0]["detail"]
    shown = migration.block(trial)
    assert shown.startswith("before FAILED")
    assert "after  RAN" in shown
    assert shown.endswith("ran on the simulated npu and on the simulated other.\n")


def test_what_fails_on_the_first_device_is_not_tried_on_the_next(tried: Any) -> None:
    done, seen = tried
    trial = migration.rehearse(replace(done, changed=()), [Path()], Wanted("x"), str)
    assert not trial.proved
    assert trial.possible
    assert len(seen) == 1
    assert "FAILED" in migration.block(trial)


def porter(*arguments: str, cwd: Path, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "porter", *arguments],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        **more,
    )


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["-", "--rehearse", "python train.py"], "--rehearse needs files"),
        ([".", "--rehearse", "a | b"], "without '|'"),
        ([".", "--rehearse", "python x.py", "--rehearse-link", "nowhere"], "is no folder"),
        ([".", "--rehearse", "python train.py", "-o", "data"], "choose another place"),
    ],
)
def test_mistakes_are_told_before_anything_runs(
    project: Path, arguments: list[str], said: str
) -> None:
    done = porter("migrate", *arguments, cwd=project, input="")
    assert done.returncode == 2
    assert said in done.stderr
    assert (project / "train.py").read_text() == TRAIN


def test_uncommitted_changes_are_told_before_anything_runs(project: Path) -> None:
    for words in (["init", "-q"], ["add", "train.py"]):
        subprocess.run(["git", *words], cwd=project, check=True)
    done = porter("migrate", ".", "--rehearse", "python train.py", cwd=project)
    assert done.returncode == 2
    assert "not committed" in done.stderr
    assert "rehearsing" not in done.stderr


# With torch ---------------------------------------------------------------------------------------

needs_torch = pytest.mark.skipif(not HAS_TORCH, reason="needs an installed torch")


@needs_torch
def test_proved_code_is_written(project: Path) -> None:
    done = porter(
        "migrate", ".", "--target", "npu", "--rehearse", "python train.py", "--rehearse-before",
        "--report", "report.json", cwd=project,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "before FAILED on the simulated npu: train.py:5: AssertionError" in done.stderr
    assert "after  RAN on the simulated npu: " in done.stderr
    assert ".npu()" in (project / "train.py").read_text()
    report = json.loads((project / "report.json").read_text())
    assert report["applied"]
    assert report["checks"][0]["outcome"] == "passed"
    assert report["verdict"]["sentence"].endswith("1 rehearsal passed.")


BAD = TRAIN.replace("print(", "getattr(x, 'cu' + 'da')()\n    print(")


@needs_torch
@pytest.mark.parametrize("delivery", [(), ("--diff",), ("-o", "../made")])
def test_code_that_fails_is_not_written(project: Path, delivery: tuple[str, ...]) -> None:
    (project / "train.py").write_text(BAD)
    before = tree(project)
    done = porter(
        "migrate", ".", *delivery, "--target", "npu", "--rehearse", "python train.py", cwd=project
    )
    assert done.returncode == 1
    assert not done.stdout
    assert "FAILED: python train.py on the simulated npu" in done.stderr
    assert "train.py:6 in main" in done.stderr
    assert done.stderr.rstrip().splitlines()[-1].startswith("error: nothing was written")
    assert tree(project) == before
    assert not (project.parent / "made").exists()


@needs_torch
def test_code_that_fails_is_written_if_that_is_wanted(project: Path) -> None:
    (project / "train.py").write_text(BAD)
    done = porter(
        "migrate", ".", "--target", "npu", "--rehearse", "python train.py", "--unproved", "-q",
        cwd=project,
    )  # fmt: skip
    assert done.returncode == 1
    assert ".npu()" in (project / "train.py").read_text()


@needs_torch
def test_a_package_installed_for_editing_is_taken_from_the_copy(project: Path) -> None:
    """Of two ways to install for editing, both lead to the original, which is not migrated."""
    source = project / "src"
    (source / "mine").mkdir(parents=True)
    (source / "mine" / "__init__.py").write_text(TRAIN)
    (project / "train.py").write_text("import mine\n")
    done = porter(
        "migrate", ".", "--diff", "--target", "npu", "--rehearse", "python train.py",
        cwd=project, env={**os.environ, "PYTHONPATH": str(source)},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout != b""
    # Whoever imports from the original all the same is found out.
    (project / "train.py").write_text(
        f"import sys\nsys.path.insert(0, {str(source)!r})\nimport mine\n"
    )
    (source / "mine" / "__init__.py").write_text(
        "import torch\nprint(torch.ones(1, device='npu') + 1)\n"
    )
    done = porter("migrate", ".", "--rehearse", "python train.py", cwd=project)
    assert done.returncode == 1
    assert "src/mine/__init__.py: it was imported from the original" in done.stderr
