"""Writing files, copying trees, undoing."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from porter import temporary, workfolder
from porter.treecopy import copy_tree
from porter.workfolder import Change, Undo, opened
from porter.writing import WriteProblem, write_atomic

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX file modes and links")


def content(folder: Path) -> dict[str, bytes | str]:
    return {
        path.relative_to(folder).as_posix(): (
            f"-> {path.readlink()}" if path.is_symlink() else path.read_bytes()
        )
        for path in folder.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def make(folder: Path, files: dict[str, bytes]) -> Path:
    for name, data in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(data)
    return folder


def git(folder: Path, *arguments: str) -> None:
    subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e@e", *arguments],
        cwd=folder,
        check=True,
        capture_output=True,
    )


@posix
def test_write_keeps_mode(tmp_path: Path) -> None:
    path = make(tmp_path, {"x.py": b"old"}) / "x.py"
    path.chmod(0o751)
    write_atomic(path, b"new", expected=b"old")
    assert path.read_bytes() == b"new"
    assert path.stat().st_mode & 0o7777 == 0o751
    assert [p.name for p in tmp_path.iterdir()] == ["x.py"]


def test_write_makes_a_new_file_only_if_nothing_is_expected(tmp_path: Path) -> None:
    write_atomic(tmp_path / "new", b"data", expected=None)
    assert (tmp_path / "new").read_bytes() == b"data"
    with pytest.raises(WriteProblem, match="changed on disk during the run; left alone"):
        write_atomic(tmp_path / "gone", b"data", expected=b"old")
    assert not (tmp_path / "gone").exists()


@pytest.mark.parametrize("now", [b"other", b"old and more", b"ol", b""])
def test_write_refuses_a_changed_file(tmp_path: Path, now: bytes) -> None:
    path = make(tmp_path, {"x.py": now}) / "x.py"
    with pytest.raises(WriteProblem, match="changed on disk"):
        write_atomic(path, b"new", expected=b"old")
    assert content(tmp_path) == {"x.py": now}


def test_write_notices_a_change_while_it_writes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = make(tmp_path, {"x.py": b"old"}) / "x.py"
    monkeypatch.setattr(os, "fsync", lambda _: path.write_bytes(b"edited meanwhile"))
    with pytest.raises(WriteProblem, match="changed on disk"):
        write_atomic(path, b"new", expected=b"old")
    assert content(tmp_path) == {"x.py": b"edited meanwhile"}


@posix
def test_write_through_links(tmp_path: Path) -> None:
    make(tmp_path, {"root/real.py": b"old", "outside.py": b"old"})
    root = tmp_path / "root"
    (root / "inner.py").symlink_to("real.py")
    (root / "outer.py").symlink_to("../outside.py")
    write_atomic(root / "inner.py", b"new", expected=b"old", root=root)
    assert (root / "inner.py").is_symlink()
    assert (root / "real.py").read_bytes() == b"new"
    with pytest.raises(WriteProblem, match="leads out of the folder"):
        write_atomic(root / "outer.py", b"new", expected=b"old", root=root)
    assert (tmp_path / "outside.py").read_bytes() == b"old"


@posix
def test_write_refuses_read_only_and_special_files(tmp_path: Path) -> None:
    path = make(tmp_path, {"x.py": b"old"}) / "x.py"
    path.chmod(0o444)
    with pytest.raises(WriteProblem, match="read-only"):
        write_atomic(path, b"new", expected=b"old")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(WriteProblem, match="not a regular file"):
        write_atomic(tmp_path / "pipe", b"new", expected=b"old")


@pytest.mark.parametrize(
    ("number", "message"),
    [(errno.ENOSPC, "no space left"), (errno.EROFS, "cannot be written"), (errno.EIO, "cannot be")],
)
def test_write_failures_are_one_line_and_leave_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int, message: str
) -> None:
    path = make(tmp_path, {"x.py": b"old"}) / "x.py"

    def fail(_: int) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(WriteProblem) as caught:
        write_atomic(path, b"new", expected=b"old")
    assert message in caught.value.message
    assert str(path) in caught.value.message
    assert "\n" not in caught.value.message
    assert content(tmp_path) == {"x.py": b"old"}


def test_interrupt_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = make(tmp_path, {"x.py": b"old"}) / "x.py"

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", interrupt)
    with pytest.raises(KeyboardInterrupt):
        write_atomic(path, b"new", expected=b"old")
    assert content(tmp_path) == {"x.py": b"old"}


@posix
def test_copy_of_a_plain_folder(tmp_path: Path) -> None:
    root = make(
        tmp_path / "in",
        {"a/x.py": b"x", "run.sh": b"r", "data.bin": b"\0", ".git/config": b"", "build/o": b"o",
         "__pycache__/x.pyc": b"", "env/pyvenv.cfg": b"", "env/x.py": b""},
    )  # fmt: skip
    (root / "run.sh").chmod(0o755)
    (root / "rel").symlink_to("a/x.py")
    (root / "a" / "abs").symlink_to(root / "run.sh")
    (root / "back").symlink_to("../in/run.sh")
    (root / "folder").symlink_to("a")
    (root / "out").symlink_to("/")
    done = copy_tree([root], tmp_path / "o" / "ut", changes={root / "a" / "x.py": b"new"})
    assert content(tmp_path / "o" / "ut") == {
        "a/x.py": b"new",
        "run.sh": b"r",
        "data.bin": b"\0",
        "build/o": b"o",
        "rel": "-> a/x.py",
        "a/abs": "-> ../run.sh",
        "back": "-> run.sh",
        "folder": "-> a",
    }
    assert (tmp_path / "o/ut/run.sh").stat().st_mode & 0o777 == 0o755
    assert done.skipped == (("out", "symbolic link out of the folder"),)
    assert done.files == 8
    assert (root / "a" / "x.py").read_bytes() == b"x"


@needs_git
def test_copy_of_a_work_tree(tmp_path: Path) -> None:
    root = make(
        tmp_path / "in",
        {".gitignore": b"*.log\nsecret/\n", "x.py": b"x", "y.log": b"", "secret/k.py": b"k",
         "new.txt": b"n", "gone.py": b"", "sub/.gitignore": b"*.o\n", "sub/s.py": b"s",
         "sub/s.o": b""},
    )  # fmt: skip
    git(root / "sub", "init", "-q")
    git(root, "init", "-q")
    git(root, "add", ".gitignore", "x.py", "gone.py")
    (root / "gone.py").unlink()
    out = tmp_path / "out"
    copy_tree([root], out, changes={root / "x.py": b"new"})
    assert content(out) == {
        ".gitignore": b"*.log\nsecret/\n",
        "x.py": b"new",
        "new.txt": b"n",
        "sub/.gitignore": b"*.o\n",
        "sub/s.py": b"s",
    }
    named = tmp_path / "named"
    copy_tree([root], named, changes={root / "secret" / "k.py": b"named"})
    assert content(named)["secret/k.py"] == b"named"


def test_copy_refuses_unsuitable_places(tmp_path: Path) -> None:
    root = make(tmp_path / "in", {"x.py": b"x", "sub/y.py": b"y"})
    for out, message in [
        (root / "out", "lies in"),
        (root, "lies in"),
        (tmp_path, "holds"),
        (make(tmp_path, {"full/z": b""}) / "full", "is not empty"),
        (make(tmp_path, {"file": b""}) / "file", "is no folder"),
    ]:
        with pytest.raises(WriteProblem, match=message):
            copy_tree([root], out, changes={})
    with pytest.raises(WriteProblem, match="not in any of the folders"):
        copy_tree([root], tmp_path / "a", changes={tmp_path / "file": b"?"})
    other = make(tmp_path / "in2", {"x.py": b"other"})
    with pytest.raises(WriteProblem, match="belong there"):
        copy_tree([root, other], tmp_path / "b", changes={})
    assert content(root) == {"x.py": b"x", "sub/y.py": b"y"}


@posix
def test_a_copy_goes_on_with_its_own_part_and_follows_no_link(tmp_path: Path) -> None:
    root = make(tmp_path / "in", {"x.py": b"x", "d/y.py": b"y", "z.bin": b"z" * 3_000_000})
    (root / "link").symlink_to("x.py")
    changes = {root / "x.py": b"new"}
    copy_tree([root], tmp_path / "whole", changes=changes)
    whole = content(tmp_path / "whole")
    for count in range(len(whole)):
        out = tmp_path / f"out{count}"
        copy_tree([root], out, changes=changes)
        for name in sorted(whole)[count:]:
            (out / name).unlink()
        (out / ".x.py.abcdefgh.porter-tmp").write_bytes(b"ne")  # of a run that was killed
        assert copy_tree([root], out, changes=changes).files == len(whole)
        assert content(out) == whole
    victim = make(tmp_path, {"victim": b"new"}) / "victim"
    for name, there in [
        ("x.py", b"x"), ("x.py", b"newer"), ("x.py", "../victim"), ("d", ".."), ("link", b"new"),
        ("link", "d"), ("other", b""), ("z.bin", b"z"), ("empty/z", b""),
    ]:  # fmt: skip
        out = tmp_path / "out"
        out.mkdir()
        (out / name).parent.mkdir(exist_ok=True)
        if isinstance(there, str):
            (out / name).symlink_to(there)
        else:
            (out / name).write_bytes(there)
        before = content(out)
        with pytest.raises(WriteProblem, match="is not empty"):
            copy_tree([root], out, changes=changes)
        assert content(out) == before
        shutil.rmtree(out)
    assert victim.read_bytes() == b"new"


def test_copy_of_single_and_overlapping_roots(tmp_path: Path) -> None:
    root = make(tmp_path / "in", {"x.py": b"x", "sub/y.py": b"y"})
    copy_tree([root / "sub" / "y.py"], tmp_path / "a", changes={root / "sub" / "y.py": b"new"})
    assert content(tmp_path / "a") == {"y.py": b"new"}
    copy_tree([root / "sub", root, root / "x.py"], tmp_path / "b", changes={})
    assert content(tmp_path / "b") == {"x.py": b"x", "sub/y.py": b"y"}


def undo_patch(changes: list[Change], folder: Path) -> Undo:
    with opened(folder) as work:
        return work.undo(changes)


CHANGES = [
    Change("a b/x.py", b"one\r\ntwo\r\n", b"one\r\n2\r\n"),
    Change("y.py", b"caf\xe9\x0c\rlone", b"caf\xe9\x0c\r changed\n"),
    Change("caf\u00e9.py", b"x\n", b"import y\nx\n"),
    Change("same.py", b"s\n", b"s\n"),
]


@pytest.mark.parametrize("command", [["git", "apply"], ["patch", "-s", "-p1", "-i"]])
def test_undo_restores_every_byte(tmp_path: Path, command: list[str]) -> None:
    if shutil.which(command[0]) is None:
        pytest.skip(f"{command[0]} is not installed")
    make(tmp_path, {change.path: change.after for change in CHANGES})
    first = undo_patch(CHANGES[:1], tmp_path)
    second = undo_patch(CHANGES, tmp_path)
    assert (first.path.name, second.path.name) == ("undo-1.patch", "undo-2.patch")
    subprocess.run([*command, str(second.path)], cwd=tmp_path, check=True)
    for change in CHANGES:
        assert (tmp_path / change.path).read_bytes() == change.before


@needs_git
def test_undo_is_reduced_to_what_was_written(tmp_path: Path) -> None:
    make(tmp_path, {change.path: change.before for change in CHANGES})
    (tmp_path / "y.py").write_bytes(CHANGES[1].after)
    undo = undo_patch(CHANGES, tmp_path)
    assert undo.only({"y.py"})
    subprocess.run(["git", "apply", str(undo.path)], cwd=tmp_path, check=True)
    for change in CHANGES:
        assert (tmp_path / change.path).read_bytes() == change.before
    assert not undo.only(())
    with opened(tmp_path):
        pass
    assert not (tmp_path / ".porter").exists()


def test_undo_stays_as_it_is_if_the_disk_is_full(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    undo = undo_patch(CHANGES, tmp_path)
    whole = undo.path.read_bytes()

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, "no space")

    monkeypatch.setattr(os, "fsync", full)
    assert undo.only({"y.py"})
    assert undo.path.read_bytes() == whole
    with opened(tmp_path) as work, pytest.raises(WriteProblem, match="nothing was changed") as e:
        work.undo(CHANGES)
    assert "no space left" in e.value.message
    assert sorted(content(tmp_path)) == [".porter/.gitignore", ".porter/undo-1.patch"]


@needs_git
def test_undo_stays_out_of_git(tmp_path: Path) -> None:
    git(tmp_path, "init", "-q")
    undo_patch([Change("x.py", b"a\n", b"b\n")], tmp_path)
    done = subprocess.run(["git", "status", "--porcelain"], cwd=tmp_path, capture_output=True)
    assert done.stdout == b""


@posix
def test_undo_goes_through_no_link(tmp_path: Path) -> None:
    (tmp_path / ".porter").symlink_to("/tmp")
    with opened(tmp_path) as work, pytest.raises(WriteProblem, match="symbolic link"):
        work.undo([])
    assert work.stage is None


def test_a_work_folder_removes_what_a_killed_run_left(tmp_path: Path) -> None:
    home = make(
        tmp_path / ".porter",
        {".gitignore": b"", ".x.py.abcdefgh.porter-tmp": b"half", "undo-1.patch": b""},
    )
    with opened(tmp_path) as work:
        if os.name == "posix":
            assert content(home) == {".gitignore": b"*\n"}
        assert work.stage == home
    make(home, {"undo-3.patch": b"kept"})
    with opened(tmp_path) as work:
        assert work.undo(CHANGES).path.name == "undo-1.patch"
    assert sorted(content(home)) == [".gitignore", "undo-1.patch", "undo-3.patch"]


@posix
def test_one_run_waits_for_the_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workfolder, "WAIT_SECONDS", 0.1)
    again = opened(tmp_path)
    with opened(tmp_path), pytest.raises(WriteProblem, match="another run of porter"):
        again.__enter__()
    with opened(tmp_path) as work:
        assert not work.refusal


@posix
def test_a_file_in_the_making_is_taken_from_no_other_run(tmp_path: Path) -> None:
    with temporary.made(tmp_path, "x.py") as new:
        new.file.write(b"new")
        new.file.close()
        left = make(tmp_path, {".x.py.abcdefgh.porter-tmp": b"half"}) / ".x.py.abcdefgh.porter-tmp"
        temporary.sweep(tmp_path)
        assert not left.exists()
        new.path.replace(tmp_path / "x.py")
    assert content(tmp_path) == {"x.py": b"new"}


@posix
def test_write_by_way_of_another_folder(tmp_path: Path) -> None:
    path = make(tmp_path, {"x.py": b"old", "stage/y": b""}) / "x.py"
    write_atomic(path, b"new", expected=b"old", stage=tmp_path / "stage")
    assert content(tmp_path) == {"x.py": b"new", "stage/y": b""}
    other = Path("/dev/shm")
    if other.is_dir() and other.stat().st_dev != tmp_path.stat().st_dev:
        write_atomic(path, b"newer", expected=b"new", stage=other)
        assert path.read_bytes() == b"newer"
    write_atomic(path, b"again", expected=None, stage=tmp_path / "missing")
    assert path.read_bytes() == b"again"
