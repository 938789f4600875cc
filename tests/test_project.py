"""Which files are found, and what git is asked."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from porter import git, project
from porter.project import Discovery, Patterns, UsageProblem, discover

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
posix = pytest.mark.skipif(os.name != "posix", reason="POSIX links and pipes")


def make(folder: Path, *names: str, **contents: bytes) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(contents.get(name, b"x = 1\n"))
    return folder


def run_git(folder: Path, *arguments: str) -> str:
    done = subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e@e", "-c", "init.defaultBranch=main",
         "-c", "protocol.file.allow=always", *arguments],
        cwd=folder, check=True, capture_output=True, text=True,
    )  # fmt: skip
    return done.stdout


def names(found: Discovery) -> list[str]:
    return [file.relative for file in found.files]


def reasons(found: Discovery) -> dict[str, str]:
    return dict(found.skipped)


@pytest.fixture(autouse=True)
def _outside_any_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))


# Discovery


def test_kinds(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "b.PYI", "c.pyw", "d.ipynb", "e.txt", "Makefile", "Dockerfile", ".rc")
    found = discover([tmp_path], also=lambda name: name.endswith("Dockerfile"))
    assert [(file.relative, file.kind) for file in found.files] == [
        ("Dockerfile", "other"),
        ("a.py", "python"),
        ("b.PYI", "python"),
        ("c.pyw", "python"),
        ("d.ipynb", "notebook"),
    ]
    assert all(file.root == tmp_path and file.path.is_file() for file in found.files)
    assert found.skipped == ()


@pytest.mark.parametrize(
    ("line", "python"),
    [
        (b"#!/usr/bin/python\n", True),
        (b"#!/usr/bin/env python3\r\n", True),
        (b"#! /usr/bin/env -S python3.11 -u\n", True),
        (b"#!/usr/bin/env -S uv run --script\n", True),
        (b"#!python", True),
        (b"#!/opt/pypy3\n", True),
        (b"#!/opt/python/bin/bash\n", False),
        (b"#!/bin/sh\n# python\n", False),
        (b"#!/bin/bash\n/usr/bin/python x\n", False),
        (b"python\n", False),
        (b"", False),
    ],
)
def test_scripts_without_suffix(tmp_path: Path, line: bytes, python: bool) -> None:
    make(tmp_path, "script", "script.txt", script=line)
    assert names(discover([tmp_path])) == (["script"] if python else [])


def test_folders_of_others(tmp_path: Path) -> None:
    make(
        tmp_path,
        *("a/x.py", ".git/x.py", ".venv/x.py", "node_modules/x.py", "a/__pycache__/x.py"),
        *("my.egg-info/x.py", "third_party/x.py", "a/vendor/deep/x.py", "site-packages/x.py"),
        *("env/x.py", "e/pyvenv.cfg", "e/x.py", "venv/bin/activate", "venv/x.py"),
        *("build/x.py", "dist/__init__.py", "external/x.py", "conda/conda-meta/h", "conda/x.py"),
    )
    found = discover([tmp_path])
    assert names(found) == ["a/x.py", "dist/__init__.py", "env/x.py"]
    assert set(reasons(found)) == {
        "third_party", "a/vendor", "site-packages", "e", "venv", "build", "external", "conda",
    }  # fmt: skip
    assert "name it to include it" in reasons(found)["a/vendor"]


def test_named_folders_and_files_are_taken(tmp_path: Path) -> None:
    make(tmp_path, "a.py", "third_party/x.py", "build/y.py", "notes.txt", "tool", ".venv/z.py")
    found = discover([tmp_path, tmp_path / "third_party", tmp_path / "build" / "y.py"])
    assert names(found) == ["a.py", "y.py", "x.py"]
    assert "third_party" not in reasons(found)
    found = discover([tmp_path / "notes.txt", tmp_path / "tool", tmp_path / ".venv" / "z.py"])
    assert {file.relative: file.kind for file in found.files} == {
        "notes.txt": "other", "tool": "python", "z.py": "python",
    }  # fmt: skip


def test_overlapping_arguments_in_any_order(tmp_path: Path) -> None:
    make(tmp_path, "b/x.py", "b/c/y.py", "a.py")
    paths = [tmp_path / "b" / "c", tmp_path, tmp_path / "a.py", tmp_path / "b", tmp_path]
    found = discover(paths)
    assert names(found) == ["a.py", "b/c/y.py", "b/x.py"]
    assert found == discover(paths[::-1])


def test_missing_path(tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="no such file or folder: "):
        discover([tmp_path, tmp_path / "nowhere"])


def test_large_files_are_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(project, "MAX_BYTES", 100)
    make(tmp_path, "big.py", "small.py", **{"big.py": b"#" * 101})
    found = discover([tmp_path])
    assert names(found) == ["small.py"]
    assert "larger than" in reasons(found)["big.py"]
    assert names(discover([tmp_path / "big.py"])) == ["big.py"]


@posix
def test_links(tmp_path: Path) -> None:
    root = make(tmp_path / "root", "a/x.py", "vendor/v.py")
    make(tmp_path, "outside.py", "elsewhere/y.py", "data.bin")
    for link, target in {
        "same.py": "a/x.py",
        "folder": "a",
        "loop": "..",
        "self.py": "self.py",
        "gone.py": "nowhere.py",
        "gone": "nowhere",
        "out.py": "../outside.py",
        "outdir": "../elsewhere",
        "data": "../data.bin",
        "vendored.py": "vendor/v.py",
    }.items():
        (root / link).symlink_to(target)
    found = discover([root])
    assert names(found) == ["a/x.py"]
    assert reasons(found) == {
        "gone.py": "symbolic link that leads nowhere: No such file or directory",
        "self.py": "symbolic link that leads nowhere: Too many levels of symbolic links",
        "out.py": "symbolic link out of the folder",
        "outdir": "symbolic link out of the folder",
        "loop": "symbolic link out of the folder",
        "vendored.py": "symbolic link to a file that is not read",
        "vendor": "vendored third-party code; name it to include it",
    }
    both = discover([root, tmp_path / "elsewhere", tmp_path / "outside.py"])
    assert names(both) == ["y.py", "outside.py", "a/x.py"]
    assert not {"out.py", "outdir"} & set(reasons(both))
    assert names(discover([root / "out.py", root / "a" / "x.py", root / "same.py"])) == [
        "x.py",
        "out.py",
    ]
    (tmp_path / "alias").symlink_to("root")
    assert names(discover([tmp_path / "alias"])) == ["a/x.py"]
    assert discover([tmp_path / "alias"]).files[0].path == tmp_path / "alias" / "a" / "x.py"


@posix
def test_special_files_are_not_opened(tmp_path: Path) -> None:
    os.mkfifo(make(tmp_path, "x.py") / "pipe.py")
    os.mkfifo(tmp_path / "pipe")
    found = discover([tmp_path, tmp_path / "pipe"])
    assert names(found) == ["x.py"]
    assert reasons(found) == {"pipe.py": "not a regular file", "pipe": "not a regular file"}


def test_unreadable_folder_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a/x.py", "b/y.py")
    scandir = os.scandir

    def refusing(path: str) -> object:
        if path.endswith("/a"):
            raise PermissionError(13, "Permission denied")
        return scandir(path)

    monkeypatch.setattr(os, "scandir", refusing)
    found = discover([tmp_path])
    assert names(found) == ["b/y.py"]
    assert reasons(found) == {"a": "cannot be read: Permission denied"}


@pytest.mark.parametrize(
    ("pattern", "matching", "others"),
    [
        ("tests/", "tests/x.py a/tests/b/x.py", "tests a/tests"),
        ("tests", "tests/x.py a/tests", "tests.py mytests"),
        ("*.py", "x.py a/b/.py", "x.pyi"),
        ("/x.py", "x.py", "a/x.py"),
        ("foo/*.py", "foo/x.py", "foo/a/x.py a/foo/x.py"),
        ("./foo/*.py", "foo/x.py", "foo/a/x.py"),
        ("**/gen_*.py", "gen_a.py a/b/gen_.py", "gen.py a/xgen_a.py"),
        ("a/**/b", "a/b a/x/y/b a/b/c", "ab a/xb"),
        ("a/**", "a/x a/y/z", "a b/a/x"),
        ("**", "x a/b", ""),
        ("x?.[ab-d]", "x1.a y/x2.c", "x.a x1.e x/.a"),
        ("[!a]b", "xb", "ab /b"),
        ("[]x]", "] x", "["),
        ("a.b+(c)", "a.b+(c)", "aXb+(c)"),
        (r"\*x", "*x", "ax"),
        ("[z-a]", "", "z a -"),
        ("#x", "", "#x"),
        ("  ", "", "x"),
        ("[x", "[x", "x"),
    ],
)
def test_patterns(pattern: str, matching: str, others: str) -> None:
    patterns = Patterns([pattern])
    assert [name for name in matching.split() if not patterns.match_below(name)] == []
    assert [name for name in others.split() if patterns.match_below(name)] == []


@needs_git
def test_patterns_agree_with_git(tmp_path: Path) -> None:
    run_git(tmp_path, "init", "-q")
    patterns = [
        "a/",
        "/b",
        "*.c",
        "!keep.c",
        "d/**/e",
        "**/f",
        "g/*",
        "h?",
        "[ij]k",
        "l/**",
        "!l/m",
    ]
    candidates = [
        f"{top}{name}"
        for top in ("", "a/", "b/", "d/", "g/", "l/", "x/", "d/y/", "x/a/", "x/b/", "x/g/")
        for name in ("a", "b", "x.c", "keep.c", "e", "f", "h", "h1", "ik", "jk", "kk", "m", "n/o")
    ]
    (tmp_path / ".gitignore").write_text("\n".join(patterns))
    done = subprocess.run(
        ["git", "check-ignore", "--stdin", "--no-index"],
        cwd=tmp_path, input="\n".join(candidates), capture_output=True, text=True,
    )  # fmt: skip
    ours = Patterns(patterns)
    assert [n for n in candidates if ours.match_below(n)] == done.stdout.split()


def test_exclude(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make(tmp_path, "a.py", "tests/b.py", "tests/keep/c.py", "vendor/d.py")
    found = discover([tmp_path], exclude=["tests/", "vendor", "!b.py"])
    assert names(found) == ["a.py"]
    assert found.skipped == ()
    monkeypatch.chdir(tmp_path)
    named = [Path("tests/b.py")]
    assert names(discover(named, exclude=["tests/"])) == ["tests/b.py"]
    assert names(discover(named, exclude=["tests/"], force_exclude=True)) == []
    monkeypatch.chdir(tmp_path / "tests")
    named = [Path("b.py")]
    assert names(discover(named, exclude=["tests/"], force_exclude=True)) == ["b.py"]
    assert (
        names(discover(named, exclude=["tests/"], force_exclude=True, exclude_base=tmp_path)) == []
    )


def test_files_that_a_program_names(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As pre-commit does: all that have changed, whatever they are."""
    make(
        tmp_path,
        *("a.py", "README.md", "requirements/base.txt", "vendor/v.py", "x/build/b.py", "tool"),
        *("a b\nc.py", ".venv/z.py"),
    )
    (tmp_path / "link.py").symlink_to("a.py")
    monkeypatch.chdir(tmp_path)
    every = [p for p in Path().rglob("*") if p.is_file()]
    wants = Patterns(["**/requirements/*.txt"])
    found = discover(every, force_exclude=True, also=lambda p: wants.match(p, folder=False))
    assert names(found) == ["a b\nc.py", "a.py", "requirements/base.txt"]
    assert set(reasons(found)) == {"vendor", "x/build"}
    assert len(discover(every).files) == len(every) - 1, "a person who names a file wants it"
    monkeypatch.chdir(tmp_path / "vendor")
    assert names(discover([Path("v.py")], force_exclude=True)) == ["v.py"]
    assert names(discover([Path("../a.py")], force_exclude=True)) == ["a.py"]


@needs_git
def test_tracked_build_folders_are_code_also_if_a_program_names_their_files(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make(tmp_path, "build/t.py", "build/u.py")
    run_git(tmp_path, "init", "-q")
    run_git(tmp_path, "add", "build/t.py")
    monkeypatch.chdir(tmp_path)
    named = [Path("build/t.py")]
    assert names(discover(named, force_exclude=True)) == ["build/t.py"]
    assert names(discover([Path("build/u.py")], force_exclude=True)) == []


@needs_git
def test_work_tree(tmp_path: Path) -> None:
    root = make(
        tmp_path / "r",
        *("a.py", "new.py", "gone.py", "ignored/i.py", "build/t.py", "build/u.py", "dist/o.py"),
        *("sub/s.py", "inner/n.py", "vendor/v.py", "p/q/z.py"),
    )
    (root / ".gitignore").write_text("ignored/\n")
    run_git(root / "sub", "init", "-q")
    run_git(root / "sub", "add", ".")
    run_git(root / "sub", "commit", "-qm", "s")
    run_git(root, "init", "-q")
    run_git(root, "add", "a.py", "gone.py", "build/t.py", "vendor", "p")
    run_git(root, "-c", "advice.addEmbeddedRepo=false", "add", "sub")
    run_git(root / "inner", "init", "-q")
    (root / "gone.py").unlink()
    found = discover([root])
    assert names(found) == ["a.py", "build/t.py", "build/u.py", "new.py", "p/q/z.py"]
    assert reasons(found) == {
        "sub": "another git repository; name it to include it",
        "inner": "another git repository; name it to include it",
        "vendor": "vendored third-party code; name it to include it",
        "dist": "build output; name it to include it",
    }
    assert names(discover([root / "p"])) == ["q/z.py"]
    assert names(discover([root / "ignored"])) == ["i.py"]
    assert names(discover([root / "ignored" / "i.py"])) == ["i.py"]
    assert names(discover([root / "sub"])) == ["s.py"]
    assert discover([root], exclude=["b*/"]).files[1].relative == "new.py"
    assert sorted(git.tracked_and_untracked(root / "p") or []) == ["q/z.py"]


@needs_git
def test_repositories_below_a_plain_folder(tmp_path: Path) -> None:
    make(tmp_path, "x.py", "one/a.py", "one/i.py", "two/b.py")
    run_git(tmp_path / "one", "init", "-q")
    (tmp_path / "one/.gitignore").write_text("i.py\n")
    assert names(discover([tmp_path])) == ["one/a.py", "two/b.py", "x.py"]


@needs_git
@posix
def test_folder_replaced_by_a_link(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "a/x.py", "y.py")
    make(tmp_path / "out", "x.py")
    run_git(root, "init", "-q")
    run_git(root, "add", ".")
    shutil.rmtree(root / "a")
    (root / "a").symlink_to("../out")
    assert names(discover([root])) == ["y.py"]


@needs_git
def test_odd_names(tmp_path: Path) -> None:
    odd = ["sp ace.py", 'qu"ote.py', "caf\u00e9.py", "new\nline.py", "-dash.py"]
    make(tmp_path, *odd)
    plain = names(discover([tmp_path]))
    run_git(tmp_path, "init", "-q")
    assert names(discover([tmp_path])) == plain == sorted(odd)
    run_git(tmp_path, "add", ".")
    assert names(discover([tmp_path])) == plain


# git


@needs_git
def test_toplevel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make(tmp_path / "r", "a/x.py")
    assert git.toplevel(root) is None
    assert git.tracked_and_untracked(root) is None
    assert git.refusal(root) is None
    run_git(root, "init", "-q")
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    assert git.toplevel(root / "a") == git.toplevel(root / "a" / "x.py") == root.resolve()
    monkeypatch.setattr(git, "_run", lambda *_: None)
    assert git.toplevel(root) is None
    assert git.refusal(root) == "git is not installed or does not answer"
    assert discover([root]).notes[0].startswith(f"{root}: git cannot read this repository")


@needs_git
def test_work_tree_elsewhere_is_none(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "x.py")
    make(tmp_path / "other", "secret.py")
    run_git(root, "init", "-q")
    run_git(root, "config", "core.worktree", str(tmp_path / "other"))
    assert git.toplevel(root) is None
    assert git.refusal(root) == "the work tree lies elsewhere"
    assert names(discover([root])) == ["x.py"]


def _hostile(root: Path, marker: Path) -> None:
    """Make a repository whose configuration runs a program wherever git lets it."""
    program = root.parent / "evil.sh"
    program.write_text(f"#!/bin/sh\necho $0 $@ >> {marker}\ncat\n")
    program.chmod(0o755)
    for hook in (
        "post-index-change", "pre-commit", "post-checkout", "fsmonitor-watchman",
        "reference-transaction",
    ):  # fmt: skip
        (root / ".git/hooks").mkdir(exist_ok=True)
        shutil.copy(program, root / ".git/hooks" / hook)
    for key in (
        "core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "diff.external",
        "filter.x.clean", "filter.x.smudge", "diff.x.textconv", "diff.x.command",
        "core.askPass", "credential.helper", "remote.origin.uploadpack", "pager.ls-files",
        "pager.diff-index", "core.gitProxy", "core.alternateRefsCommand", "alias.ls-files",
        "remote.origin.vcs", "gpg.program",
    ):  # fmt: skip
        run_git(root, "config", key, str(program))
    run_git(root, "config", "core.hooksPath", str(root / ".git/hooks"))
    run_git(root, "config", "remote.origin.url", f"ext::{program}")
    run_git(root, "config", "protocol.allow", "always")
    run_git(root, "config", "remote.origin.promisor", "true")
    (root / ".gitattributes").write_text("* filter=x diff=x\n")


@needs_git
@posix
def test_no_program_of_the_repository_runs(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "a.py", "b.py", "c.py", "d.py")
    marker = tmp_path / "ran"
    run_git(root, "init", "-q")
    run_git(root, "add", ".")
    run_git(root, "commit", "-qm", "m")
    blob = run_git(root, "rev-parse", ":d.py").strip()
    _hostile(root, marker)
    (root / "b.py").write_text("changed")
    os.utime(root / "c.py")
    (root / ".git/objects" / blob[:2] / blob[2:]).unlink()
    marker.unlink(missing_ok=True)  # what the preparations ran
    assert git.toplevel(root) == root.resolve()
    assert len(git.tracked_and_untracked(root) or []) == 5
    assert len(discover([root]).files) == 4
    (root / "d.py").write_text("changed too")
    assert git.dirty([root / n for n in ("a.py", "b.py", "c.py", "d.py")]) == {
        root / "b.py",
        root / "d.py",
    }
    assert not marker.exists(), marker.read_text()
    run_git(root, "status")
    assert marker.exists()  # the trap does work


@needs_git
def test_dirty(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "clean.py", "staged.py", "edited.py", "sub/clean.py", "touched.py",
                "both.py", "gone.py", "crlf.py")  # fmt: skip
    (root / ".gitignore").write_text("ignored.py\n")
    run_git(root, "init", "-q")
    run_git(root, "add", ".")
    files = [root / name for name in ("clean.py", "staged.py", "sub/clean.py")]
    assert git.dirty(files) == set(files)  # nothing is committed yet
    run_git(root, "commit", "-qm", "m")
    assert git.dirty(files) == set()
    make(root, "new.py", "ignored.py")
    make(tmp_path, "outside.py")
    (root / "staged.py").write_text("y")
    run_git(root, "add", "staged.py")
    (root / "both.py").write_text("y")
    run_git(root, "add", "both.py")
    make(root, "both.py")
    (root / "edited.py").write_text("y")
    (root / "gone.py").unlink()
    (root / "crlf.py").write_bytes(b"x = 1\r\n")
    os.utime(root / "touched.py", (1, 1))
    everything = [*root.rglob("*.py"), root / "gone.py", tmp_path / "outside.py"]
    assert {path.name for path in git.dirty(everything)} == {
        "staged.py", "edited.py", "both.py", "new.py", "ignored.py", "gone.py",
    }  # fmt: skip


@needs_git
@posix
def test_dirty_through_links(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "a.py", "b.py")
    (root / "link.py").symlink_to("b.py")
    run_git(root, "init", "-q")
    run_git(root, "add", ".")
    run_git(root, "commit", "-qm", "m")
    (tmp_path / "alias").symlink_to("r")
    alias = tmp_path / "alias"
    assert git.dirty([alias / "a.py", alias / "link.py"]) == set()
    (root / "b.py").write_text("y")
    assert git.dirty([alias / "a.py", alias / "link.py"]) == {alias / "link.py"}


@needs_git
def test_dirty_with_filters(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "lfs.py", "lfs2.py", "strip.ipynb", "strip2.ipynb")
    run_git(root, "init", "-q")
    real = b"x = 1\n"
    pointer = b"version https://git-lfs.github.com/spec/v1\noid sha256:%b\nsize %d\n" % (
        hashlib.sha256(real).hexdigest().encode(),
        len(real),
    )
    for name in ("lfs.py", "lfs2.py"):
        (root / name).write_bytes(pointer)
        run_git(root, "add", name)
        (root / name).write_bytes(real)
    (root / "lfs2.py").write_bytes(b"x = 2\n")
    (root / ".git/info/attributes").write_text("*.ipynb filter=strip\n")
    run_git(root, "config", "filter.strip.clean", "sed s/secret//")
    for name in ("strip.ipynb", "strip2.ipynb"):
        (root / name).write_text("a secret")
        os.utime(root / name, (time.time() - 100,) * 2)
        run_git(root, "add", name)
    run_git(root, "commit", "-qm", "m")
    (root / "strip2.ipynb").write_text("no secret")
    files = [path for path in root.iterdir() if path.is_file()]
    assert {path.name for path in git.dirty(files)} == {"lfs2.py", "strip2.ipynb"}


@needs_git
def test_dirty_during_a_conflict(tmp_path: Path) -> None:
    root = make(tmp_path / "r", "x.py", "y.py")
    run_git(root, "init", "-q")
    run_git(root, "add", ".")
    run_git(root, "commit", "-qm", "m")
    run_git(root, "checkout", "-qb", "other")
    (root / "x.py").write_text("theirs\n")
    run_git(root, "commit", "-qam", "o")
    run_git(root, "checkout", "-q", "main")
    (root / "x.py").write_text("ours\n")
    run_git(root, "commit", "-qam", "p")
    with pytest.raises(subprocess.CalledProcessError):
        run_git(root, "merge", "other")
    assert git.dirty([root / "x.py", root / "y.py"]) == {root / "x.py"}
