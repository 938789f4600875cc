"""Patches are judged by the programs that apply them."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from porter.patch import unified

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")
needs_patch = pytest.mark.skipif(shutil.which("patch") is None, reason="patch is not installed")
few = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)

LINES = st.sampled_from(
    [
        b"a",
        b"b",
        b"",
        b"x = 1\r",
        b"\x0c",
        b"lone\rreturn",
        b"caf\xe9",
        b"\xe2\x80\xa8",
        b"  ",
        b"-",
    ]
)
CONTENT = st.builds(
    lambda lines, end: b"\n".join(lines) + end,
    st.lists(LINES, max_size=30),
    st.sampled_from([b"\n", b""]),
)
NAMES = [
    "x.py",
    "a dir/x y.py",
    'qu"ote.py',
    "tab\there.py",
    "back\\slash.py",
    "caf\u00e9/\u6771.py",
    "line\nfeed.py",
    " lead.py",
    "b/x.py",
    "byte\udcff.py",
]


def applied(tmp: Path, name: str, before: bytes, patch: bytes, *command: str) -> bytes:
    shutil.rmtree(tmp / "w", ignore_errors=True)
    target = tmp / "w" / name
    target.parent.mkdir(parents=True)
    target.write_bytes(before)
    done = subprocess.run(command, cwd=tmp / "w", input=patch, capture_output=True)
    assert done.returncode == 0, (done.stdout, done.stderr, patch)
    return target.read_bytes()


@needs_git
@few
@given(before=CONTENT, after=CONTENT)
def test_git_apply_yields_after(tmp_path: Path, before: bytes, after: bytes) -> None:
    patch = unified("x.py", before, after)
    if before == after:
        assert patch == b""
    else:
        assert applied(tmp_path, "x.py", before, patch, "git", "apply", "-") == after


@needs_patch
@few
@given(before=CONTENT, after=CONTENT)
def test_patch_program_yields_after(tmp_path: Path, before: bytes, after: bytes) -> None:
    if before != after:
        patch = unified("x.py", before, after)
        assert applied(tmp_path, "x.py", before, patch, "patch", "-s", "-p1") == after


@needs_git
@pytest.mark.parametrize("name", NAMES)
def test_names_are_quoted_as_git_does(tmp_path: Path, name: str) -> None:
    before, after = b"one\ntwo\n", b"one\n2\n"
    patch = unified(name, before, after)
    assert applied(tmp_path, name, before, patch, "git", "apply", "-") == after
    (tmp_path / "w" / name).write_bytes(before)
    git = ["git", "-C", str(tmp_path / "w"), "-c", "core.quotePath=true"]
    subprocess.run([*git, "init", "-q"], check=True)
    subprocess.run([*git, "add", "."], check=True)
    (tmp_path / "w" / name).write_bytes(after)
    theirs = subprocess.run([*git, "diff", "--no-ext-diff"], capture_output=True).stdout
    assert patch == b"\n".join(
        line for line in theirs.split(b"\n") if not line.startswith(b"index ")
    )


def test_two_far_edits_make_two_small_hunks() -> None:
    lines = [b"line %d\n" % i for i in range(50)]
    after = [*lines]
    after[5], after[40] = b"changed\n", b"changed too\n"
    patch = unified("x.py", b"".join(lines), b"".join(after))
    assert patch == (
        b"diff --git a/x.py b/x.py\n--- a/x.py\n+++ b/x.py\n"
        b"@@ -3,7 +3,7 @@\n line 2\n line 3\n line 4\n-line 5\n+changed\n"
        b" line 6\n line 7\n line 8\n"
        b"@@ -38,7 +38,7 @@\n line 37\n line 38\n line 39\n-line 40\n+changed too\n"
        b" line 41\n line 42\n line 43\n"
    )


def test_lost_final_newline_is_marked() -> None:
    assert unified("x", b"a\nb\n", b"a\nb").endswith(
        b"@@ -1,2 +1,2 @@\n a\n-b\n+b\n\\ No newline at end of file\n"
    )


def test_large_file_of_equal_lines_keeps_its_hunks_small() -> None:
    lines = [b"x\n"] * 100_000
    after = [*lines]
    after[10], after[99_000] = b"y\n", b"z\n"
    patch = unified("x.py", b"".join(lines), b"".join(after))
    assert patch.count(b"\n-") == 2 + 1  # and the header's ---
    assert patch.count(b"\n+") == 2 + 1


def test_regions_only_help() -> None:
    before, after = b"a\nb\nc\n", b"a\nB\nc\n"
    plain = unified("x", before, after)
    assert unified("x", before, after, regions=[(1, 2, 1, 2)]) == plain
    assert unified("x", before, after, regions=[(0, 3, 0, 3)]) == plain
    assert unified("x", before, after, regions=[(0, 1, 0, 1)]) == plain
    assert unified("x", before, after, regions=[(7, 9, 7, 1)]) == plain
