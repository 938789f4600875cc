"""Runs that are cut short: by signals, a full disk, read-only files, and other programs.

docs/tools/kill.py kills a thousand runs; here are a few of the same, at fixed moments.
"""

from __future__ import annotations

import contextlib
import errno
import importlib.util
import json
import os
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from porter import cache, deliver, stopping, temporary, workfolder, writing
from porter.cli import start

ROOT = Path(__file__).parents[1]
needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
linux = pytest.mark.skipif(sys.platform != "linux", reason="forks, and reads /proc")
CODE = "import torch\n\nx = torch.ones(1).cuda()\n"


@pytest.fixture(scope="module")
def kill() -> ModuleType:
    spec = importlib.util.spec_from_file_location("kill_tool", ROOT / "docs" / "tools" / "kill.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def filled(folder: Path, *names: str) -> Path:
    for name in names or ("a.py", "b.py", "c.py"):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(CODE)
    return folder


def files(folder: Path) -> dict[str, bytes]:
    return {
        path.relative_to(folder).as_posix(): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file() and ".git" not in path.parts
    }


def migrated(folder: Path, *arguments: str) -> int:
    return start(["migrate", str(folder), "-j", "1", "--no-cache", *arguments])


# Kills ------------------------------------------------------------------------------------------


@linux
@needs_git
@pytest.mark.parametrize("name", ["outside of git", "--allow-dirty", "-o DIR"])
def test_kills_leave_whole_files_and_the_next_run_completes(kill: ModuleType, name: str) -> None:
    kill.warmed()
    (scenario,) = (s for s in kill.SCENARIOS if name in s.name)
    tally = kill.kills(scenario, 8, seed=1, copies=1)
    assert not tally.problems
    assert (tally.kills, tally.completed, tally.partial) == (8, 8, 0)


@linux
def test_what_is_killed_at_each_step_of_one_write(kill: ModuleType, tmp_path: Path) -> None:
    base = filled(tmp_path / "base", "a.py")
    arguments = ["migrate", ".", "-j", "1", "--no-cache"]
    work = tmp_path / "work"
    shutil.copytree(base, work)
    steps = kill.run(arguments, work, tmp_path / "cache").steps
    after = (work / "a.py").read_bytes()
    seen = set()
    for step in range(0, steps, 2):
        shutil.rmtree(work)
        shutil.copytree(base, work)
        ended = kill.run(arguments, work, tmp_path / "cache", kill.Kill((signal.SIGKILL,), 0, step))
        assert ended.code == -signal.SIGKILL
        now = (work / "a.py").read_bytes()
        assert now in (CODE.encode(), after)
        seen.add(now)
        if now == after:
            assert (work / ".porter" / "undo-1.patch").stat().st_size
        kill.run(arguments, work, tmp_path / "cache")
        assert (work / "a.py").read_bytes() == after
        assert not list(work.rglob("*.porter-tmp"))
    assert seen == {CODE.encode(), after}


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGINT"])
def test_signals_end_a_run_in_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    if not hasattr(signal, name):
        pytest.skip(f"there is no {name}")
    filled(tmp_path)
    write, number = deliver.write_atomic, getattr(signal, name)

    def interrupted(path: Path, *rest: Any, **options: Any) -> None:
        if path.name == "b.py":
            signal.raise_signal(number)
            signal.raise_signal(signal.SIGINT)  # impatient
        write(path, *rest, **options)

    monkeypatch.setattr(deliver, "write_atomic", interrupted)
    assert migrated(tmp_path, "-q") == 128 + number
    undo, line = capsys.readouterr().err.splitlines()
    assert line == (
        "error: interrupted; 2 of 3 files were changed (the same command goes on with the others)"
    )
    patch = tmp_path / ".porter" / "undo-1.patch"
    assert str(patch) in undo
    assert patch.read_bytes().count(b"diff --git") == 2
    if shutil.which("git"):
        subprocess.run(["git", "apply", str(patch)], cwd=tmp_path, check=True)
        assert all((tmp_path / f"{n}.py").read_text() == CODE for n in "abc")


@linux
def test_workers_end_with_a_parent_that_was_killed(kill: ModuleType, tmp_path: Path) -> None:
    filled(tmp_path, *(f"f{n}.py" for n in range(60)))
    program = textwrap.dedent("""
        import sys, time
        from dataclasses import replace
        from porter import catalog, cli
        from porter.rule import Rule
        def slow(site, target):
            time.sleep(600)
            yield
        full = catalog.load()
        rule = Rule("TST001", "slow", slow, names=("torch.ones",))
        changed = replace(full, rules=(*full.rules, rule))
        catalog.load = lambda: changed
        sys.exit(cli.start(["migrate", ".", "-j", "2", "--no-cache"]))
    """)
    process = subprocess.Popen([sys.executable, "-c", program], cwd=tmp_path)
    workers = kill._workers(process)
    try:
        assert len(workers) == 2
        process.kill()
        process.wait()
        assert gone(workers)
    finally:
        process.kill()
        for pid in workers:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def gone(pids: set[int]) -> bool:
    end = time.monotonic() + 20
    while any(Path(f"/proc/{pid}").exists() for pid in pids):
        if time.monotonic() > end:
            return False
        time.sleep(0.02)
    return True


def test_a_signal_waits_for_the_end_of_what_must_not_be_cut() -> None:
    before = signal.getsignal(signal.SIGINT)
    done = []

    def work() -> None:
        with stopping.raising():
            with stopping.deferred() as pending:
                signal.raise_signal(signal.SIGTERM)
                signal.raise_signal(signal.SIGINT)
                done.append(pending.number)
            done.append("never")

    with pytest.raises(stopping.Stopped) as caught:
        work()
    assert done == [signal.SIGTERM]
    assert (caught.value.number, caught.value.code) == (signal.SIGTERM, 143)
    assert signal.getsignal(signal.SIGINT) == before


@pytest.mark.skipif(not hasattr(signal, "SIGHUP"), reason="there is no SIGHUP")
def test_a_signal_that_is_ignored_stays_ignored() -> None:
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
    try:
        with stopping.raising(), stopping.deferred():
            signal.raise_signal(signal.SIGHUP)
    finally:
        signal.signal(signal.SIGHUP, before)


def test_signals_are_left_alone_in_other_threads() -> None:
    seen = []

    def work() -> None:
        with stopping.raising(), stopping.deferred() as pending:
            seen.append(pending.number)

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [0]


# Full disk --------------------------------------------------------------------------------------

LARGE = CODE + "# nothing to see\n" * 4000


def small_disk(folder: Path, command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run a command while a disk with little room is mounted at a folder."""
    script = 'mount -t tmpfs -o size=400k none "$1" && cp -r "$2"/. "$1" && shift 2 && exec "$@"'
    prepared = folder.parent / "prepared"
    return subprocess.run(
        ["unshare", "-m", "sh", "-c", script, "sh", str(folder), str(prepared), *command],
        cwd=folder.parent,
        capture_output=True,
        text=True,
    )


@linux
@needs_git
def test_a_full_disk(tmp_path: Path) -> None:
    (tmp_path / "disk").mkdir()
    (tmp_path / "prepared").mkdir()
    if small_disk(tmp_path / "disk", ["true"]).returncode:
        pytest.skip("this user cannot mount a tmpfs")
    filled(tmp_path / "prepared", "a.py")
    for name in ("b.py", "c.py"):
        (tmp_path / "prepared" / name).write_text(LARGE)
    (tmp_path / "prepared" / "filler").write_bytes(bytes(220_000))
    script = (
        'cd disk; "$0" -m porter migrate . -j 1 --no-cache; echo "code $?" >&2\n'
        'rm filler; cp -r . ../left; "$0" -m porter migrate . -j 1 -q --no-cache; cp -r . ../last'
    )
    done = small_disk(tmp_path / "disk", ["sh", "-c", script, sys.executable])
    left, last = files(tmp_path / "left"), files(tmp_path / "last")
    assert "b.py: no space left to write it; left alone" in done.stderr
    assert "c.py: no space left to write it; left alone" in done.stderr
    assert "code 2" in done.stderr
    assert "Traceback" not in done.stderr
    assert left.pop("a.py") == last["a.py"] != CODE.encode()
    assert left.pop(".porter/undo-1.patch").count(b"diff --git") == 1
    assert left == {
        "b.py": LARGE.encode(), "c.py": LARGE.encode(), ".porter/.gitignore": b"*\n",
    }  # fmt: skip
    assert last["b.py"] == last["c.py"] != LARGE.encode()


@pytest.mark.skipif(os.name != "posix", reason="needs resource limits")
def test_a_limit_of_file_size(tmp_path: Path) -> None:
    filled(tmp_path, "small.py")
    (tmp_path / "large.py").write_text(LARGE)
    program = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))\n"
        "from porter.cli import start; sys.exit(start(sys.argv[1:]))"
    )
    command = [sys.executable, "-c", program, "migrate", ".", "-j", "1", "--no-cache"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert done.returncode == 2
    assert "large.py: no space left to write it; left alone" in done.stderr
    assert (tmp_path / "large.py").read_text() == LARGE
    assert (tmp_path / "small.py").read_text() != CODE
    assert (tmp_path / ".porter" / "undo-1.patch").read_bytes().count(b"diff --git") == 1
    assert not list(tmp_path.rglob("*.porter-tmp"))


def test_without_room_for_the_undo_patch_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path)

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    assert migrated(tmp_path, "-q") == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "nothing was changed" in line
    assert "no space left" in line
    assert files(tmp_path) == {f"{n}.py": CODE.encode() for n in "abc"}


def test_a_copy_to_a_full_disk_can_be_completed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path / "in")
    replace_, out = Path.replace, tmp_path / "out"

    def full(self: Path, target: Any) -> Path:
        if Path(target).name == "b.py":
            raise OSError(errno.ENOSPC, "no space", str(self), None, str(target))
        return replace_(self, target)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "replace", full)
        assert migrated(tmp_path / "in", "-q", "-o", str(out)) == 2
    (line,) = capsys.readouterr().err.splitlines()
    assert "b.py: no space left; " in line
    assert "is incomplete (the same command goes on with it)" in line
    assert list(files(out)) == ["a.py"]
    assert migrated(tmp_path / "in", "-q", "-o", str(out)) == 0
    assert sorted(files(out)) == ["a.py", "b.py", "c.py"]
    assert migrated(tmp_path / "in", "-q", "-o", str(out)) == 0
    (out / "a.py").write_text("edited\n")
    assert migrated(tmp_path / "in", "-q", "-o", str(out)) == 2
    assert "a.py is not what this copy puts there" in capsys.readouterr().err
    assert (out / "a.py").read_text() == "edited\n"


# Read-only --------------------------------------------------------------------------------------


@pytest.fixture
def theirs(tmp_path: Path) -> Iterator[Path]:
    """A folder of somebody whom modes bind."""
    with tempfile.TemporaryDirectory() as name:
        folder = filled(Path(name) / "theirs", "sub/a.py", "b.py")
        if os.getuid() == 0:
            Path(name).chmod(0o755)
            for path in (folder, *folder.rglob("*")):
                os.chown(path, NOBODY, NOBODY)
        yield folder
        for path in (folder, folder / "sub"):
            path.chmod(0o755)


NOBODY = 65534


def unprivileged(kill: ModuleType, folder: Path) -> Any:
    """Migrate as somebody whom modes bind."""
    kill.warmed()
    arguments = ["migrate", ".", "-j", "1", "--no-cache"]
    return kill.run(arguments, folder, folder, user=NOBODY if os.getuid() == 0 else None)


@linux
@pytest.mark.parametrize("locked", ["by its mode", "by an attribute"])
def test_a_read_only_folder(kill: ModuleType, theirs: Path, locked: str) -> None:
    if locked == "by its mode":
        (theirs / "sub").chmod(0o555)
    elif subprocess.run(["chattr", "+i", theirs / "sub"], capture_output=True).returncode:
        pytest.skip("this disk or user does not make files immutable")
    ended = unprivileged(kill, theirs)
    subprocess.run(["chattr", "-i", theirs / "sub"], capture_output=True)
    assert ended.code == 2
    assert "a.py: its folder cannot be written (" in ended.error
    assert (theirs / "sub" / "a.py").read_text() == CODE
    assert (theirs / "b.py").read_text() != CODE
    assert (theirs / ".porter" / "undo-1.patch").read_bytes().count(b"diff --git") == 1
    (theirs / "sub").chmod(0o755)
    assert unprivileged(kill, theirs).code == 0
    assert (theirs / "sub" / "a.py").read_text() != CODE


@linux
def test_a_read_only_project(kill: ModuleType, theirs: Path) -> None:
    theirs.chmod(0o555)
    ended = unprivileged(kill, theirs)
    assert ended.code == 2
    (line,) = (line for line in ended.error.splitlines() if line.startswith("error"))
    assert f"{theirs.name}/.porter: its folder cannot be written (Permission denied)" in line
    assert (theirs / "b.py").read_text() == (theirs / "sub" / "a.py").read_text() == CODE


@pytest.mark.skipif(os.name != "posix", reason="POSIX modes")
def test_a_read_only_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    filled(tmp_path)
    (tmp_path / "b.py").chmod(0o444)
    assert migrated(tmp_path) == 2
    assert "b.py: read-only; left alone (chmod u+w" in capsys.readouterr().err
    assert (tmp_path / "b.py").read_text() == CODE
    assert stat.S_IMODE((tmp_path / "b.py").stat().st_mode) == 0o444
    (tmp_path / "b.py").chmod(0o644)
    assert migrated(tmp_path) == 0
    assert len({p.read_bytes() for p in tmp_path.glob("*.py")}) == 1


@linux
@pytest.mark.skipif(not hasattr(os, "getuid") or os.getuid() != 0, reason="needs two users")
def test_a_file_of_somebody_else_is_left_alone(kill: ModuleType, theirs: Path) -> None:
    os.chown(theirs / "b.py", 0, 0)
    ended = unprivileged(kill, theirs)
    assert ended.code == 2
    assert "b.py: this user may not write it; left alone" in ended.error
    assert (theirs / "b.py").read_text() == CODE
    assert (theirs / "b.py").stat().st_uid == 0


# Other programs ---------------------------------------------------------------------------------


@pytest.mark.parametrize("moment", ["analysed", "before the write", "before the renaming"])
def test_a_file_changed_during_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], moment: str
) -> None:
    filled(tmp_path)
    other = b"somebody else's\n"

    def edit() -> None:
        (tmp_path / "b.py").write_bytes(other)

    if moment == "analysed":
        before = deliver._before

        def read(changed: Any) -> bytes | None:
            edit()
            return before(changed)

        monkeypatch.setattr(deliver, "_before", read)
    elif moment == "before the write":
        write = deliver.write_atomic

        def late(path: Path, *arguments: Any, **options: Any) -> None:
            edit()
            write(path, *arguments, **options)

        monkeypatch.setattr(deliver, "write_atomic", late)
    else:
        take_over = writing._take_over

        def later(new: Path, real: Path, state: os.stat_result | None) -> None:
            take_over(new, real, state)
            edit()

        monkeypatch.setattr(writing, "_take_over", later)
    assert migrated(tmp_path) == 2
    assert (tmp_path / "b.py").read_bytes() == other
    assert "b.py: changed on disk during the run; left alone" in capsys.readouterr().err
    assert (tmp_path / ".porter" / "undo-1.patch").read_bytes().count(b"diff --git") == 2
    assert not list(tmp_path.rglob("*.porter-tmp"))


@pytest.mark.parametrize("option", ["--add-ignores", "--annotate"])
def test_no_comment_goes_to_a_line_that_has_moved_meanwhile(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    option: str,
) -> None:
    from porter import runner

    left = "import torch\n\ntorch.cuda.nvtx.range_pop()\n"
    (tmp_path / "a.py").write_text(left)
    (tmp_path / "b.py").write_text(left)
    run = runner.run

    def slow(*arguments: Any) -> runner.Run:
        found = run(*arguments)
        (tmp_path / "b.py").write_text("# a new line\n" + left)
        return found

    monkeypatch.setattr(runner, "run", slow)
    command = "check" if option == "--add-ignores" else "migrate"
    start([command, str(tmp_path), "-j", "1", "--no-cache", option])
    assert (tmp_path / "a.py").read_text() != left
    assert (tmp_path / "b.py").read_text() == "# a new line\n" + left
    assert "changed on disk during the run" in capsys.readouterr().err


@linux
@needs_git
def test_two_runs_at_once(tmp_path: Path) -> None:
    targets = ("npu", "accelerator")
    names = [f"f{n}.py" for n in range(25)]
    work = filled(tmp_path / "work", *names)
    wanted = {}
    for target in set(targets):
        filled(tmp_path / target, "a.py")
        migrated(tmp_path / target, "--target", target, "-q")
        wanted[target] = (tmp_path / target / "a.py").read_bytes()
    # Both have analysed the files before one of them writes.
    program = textwrap.dedent("""
        import sys, time
        from pathlib import Path
        from porter import deliver
        write, mark = deliver.in_place, Path(sys.argv.pop())
        def together(*arguments, **options):
            mark.touch()
            while len(list(Path("..").glob("ready*"))) < 2:
                time.sleep(0.001)
            return write(*arguments, **options)
        deliver.in_place = together
        from porter.__main__ import main
        main()
    """)
    runs = [
        subprocess.Popen(
            [sys.executable, "-c", program, "migrate", ".", "--target", target, "-q", "-j", "1",
             "--no-cache", f"../ready{number}"],
            cwd=work, stderr=subprocess.PIPE, text=True,
        )
        for number, target in enumerate(targets)
    ]  # fmt: skip
    errors = [run.communicate()[1] for run in runs]
    codes = [run.returncode for run in runs]
    assert sorted(codes) == [0, 2]
    first = codes.index(0)
    assert {(work / name).read_bytes() for name in names} == {wanted[targets[first]]}
    assert errors[1 - first].count("changed on disk during the run; left alone") == len(names)
    patches = list((work / ".porter").glob("undo-*.patch"))
    assert len(patches) == 1  # the other run has written nothing
    subprocess.run(["git", "apply", str(patches[0])], cwd=work, check=True)
    assert {(work / name).read_text() for name in names} == {CODE}


def test_what_editors_leave_is_no_file_of_the_project(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    if os.name != "posix":
        pytest.skip("POSIX links")
    filled(tmp_path, "a.py")
    (tmp_path / ".#a.py").symlink_to("user@host.123:456")
    left = {".a.py.swp": b"b0VIM x.cuda()", "a.py~": CODE.encode(), "#a.py#": CODE.encode(),
            ".a.py.abcdefgh.porter-tmp": CODE.encode(), "a.py.orig": CODE.encode()}  # fmt: skip
    for name, data in left.items():
        (tmp_path / name).write_bytes(data)
    assert migrated(tmp_path) == 0
    assert "1 file changed" in capsys.readouterr().err
    now = files(tmp_path)
    assert now.pop("a.py") != CODE.encode()
    for name, data in left.items():
        assert now.get(name) == data
    assert (tmp_path / ".#a.py").is_symlink()


# What is kept -----------------------------------------------------------------------------------


@needs_git
def test_undo_with_allow_dirty_is_about_all_files(tmp_path: Path) -> None:
    filled(tmp_path)
    who = ["git", "-c", "user.name=n", "-c", "user.email=n@example.org"]
    for words in (["init", "-q"], ["add", "-A"], ["commit", "-q", "-m", "start"]):
        subprocess.run([*who, *words], cwd=tmp_path, check=True)
    (tmp_path / "b.py").write_text(CODE + "# work in progress\n")
    before = files(tmp_path)
    assert migrated(tmp_path, "-q") == 2
    assert files(tmp_path) == before
    assert migrated(tmp_path, "-q", "--allow-dirty") == 0
    assert all(files(tmp_path)[name] != data for name, data in before.items())
    subprocess.run(["git", "apply", ".porter/undo-1.patch"], cwd=tmp_path, check=True)
    shutil.rmtree(tmp_path / ".porter")
    assert files(tmp_path) == before
    subprocess.run([*who, "checkout", "-q", "."], cwd=tmp_path, check=True)
    assert migrated(tmp_path, "-q") == 0
    assert not (tmp_path / ".porter").exists()  # git is the undo


def test_the_disk_keeps_things_in_the_right_order(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After a loss of power: what a name stands for is there, and no change without its undo."""
    filled(tmp_path, "a.py", "b.py")
    log: list[tuple[str, str]] = []
    fsync, replace_ = os.fsync, Path.replace

    def named(descriptor: int) -> str:
        return str(Path(f"/proc/self/fd/{descriptor}").readlink()) if linux_ else ""

    def flushed(descriptor: int) -> None:
        log.append(("flush", named(descriptor)))
        fsync(descriptor)

    def renamed(self: Path, target: Any) -> Path:
        log.append((f"rename {Path(target).name}", str(self)))
        return replace_(self, target)

    linux_ = sys.platform == "linux"
    monkeypatch.setattr(os, "fsync", flushed)
    monkeypatch.setattr(Path, "replace", renamed)
    assert migrated(tmp_path, "-q") == 0
    what = [entry for entry, _ in log]
    names = [entry for entry in what if entry.startswith("rename")]
    assert names == ["rename undo-1.patch", "rename a.py", "rename b.py"]
    if not linux_:
        return
    for index, (entry, path) in enumerate(log):
        if entry.startswith("rename"):
            assert ("flush", path) in log[:index]
            folder = tmp_path / ".porter" if "undo" in entry else tmp_path
            assert log[index + 1] == ("flush", str(folder))
    first = what.index("rename a.py")
    assert ("flush", str(tmp_path / ".porter")) in log[:first]
    assert ("flush", str(tmp_path)) in log[:first]


def test_a_baseline_changed_meanwhile_is_left_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    filled(tmp_path)
    arguments = ["check", ".", "-j", "1", "--no-cache", "-q"]
    assert start([*arguments, "--write-baseline", "base.json"]) == 0
    (tmp_path / "b.py").unlink()
    write, other = writing.write_atomic, b'{"porter-baseline": 1, "target": "x", "findings": []}'

    def late(path: Path, *rest: Any, **options: Any) -> None:
        path.write_bytes(other)
        write(path, *rest, **options)

    with monkeypatch.context() as patch:
        patch.setattr(writing, "write_atomic", late)
        start([*arguments, "--baseline", "base.json"])
    assert "base.json: changed on disk during the run; left alone" in capsys.readouterr().err
    assert (tmp_path / "base.json").read_bytes() == other


def test_a_cache_cut_short_counts_as_empty(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.FOLDER, str(tmp_path / "cache"))
    filled(tmp_path / "in")
    check = ["check", str(tmp_path / "in"), "-j", "1", "--report", str(tmp_path / "r.json"), "-q"]
    start(check)
    (file,) = (tmp_path / "cache").glob(f"*{cache.SUFFIX}")
    whole, report = file.read_bytes(), json.loads((tmp_path / "r.json").read_bytes())
    for size in (0, 1, 40, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:size])
        start(check)
        assert json.loads((tmp_path / "r.json").read_bytes()) == report
        assert cache._entries(file)


@linux
def test_folders_of_rehearsals_that_were_killed_are_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(temporary.tempfile, "tempdir", str(tmp_path))
    program = (
        "import os, tempfile, sys; from porter import temporary; tempfile.tempdir = sys.argv[1]\n"
        "with temporary.folder('porter-copy-') as f: (f / 'x').touch(); os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False)
    (left,) = tmp_path.glob("porter-copy-*")
    with temporary.folder("porter-copy-") as young:
        assert left.exists()  # it might just have been made
        for folder in (left, young):
            os.utime(folder, (0, 0))
        with temporary.folder("porter-copy-"):
            assert not left.exists()
            assert young.exists()
    assert not list(tmp_path.iterdir())


def test_a_run_in_a_project_whose_folder_is_a_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    filled(tmp_path)
    (tmp_path / workfolder.NAME).write_text("mine")
    assert migrated(tmp_path, "-q") == 2
    assert len(capsys.readouterr().err.splitlines()) == 1
    assert files(tmp_path) == {
        **{f"{n}.py": CODE.encode() for n in "abc"}, workfolder.NAME: b"mine",
    }  # fmt: skip
