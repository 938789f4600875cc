"""The command line as a user meets it: real processes, real git repositories."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import click
import pytest

from porter import cli

needs_git = pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed")

PLAIN = "import torch\n\n\ndef f(x):\n    return x.cuda()\n"
NPU = PLAIN.replace(".cuda()", ".npu()")
STARRED = "def f(x, a):\n    return x.cuda(*a)\n"
NOTEBOOK = json.dumps(
    {
        "cells": [
            {"cell_type": "markdown", "metadata": {}, "source": ["cuda"]},
            {"cell_type": "code", "metadata": {}, "outputs": [], "execution_count": None,
             "source": ["import torch\n", "x = torch.ones(2).cuda()"]},
        ],
        "metadata": {"kernelspec": {"language": "python"}},
        "nbformat": 4,
        "nbformat_minor": 5,
    },
    indent=1,
)  # fmt: skip


def porter(
    *arguments: str, cwd: Path, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    clean = {k: v for k, v in os.environ.items() if k not in {"NO_COLOR", "PORTER_DEBUG"}}
    return subprocess.run(
        [sys.executable, "-m", "porter", *arguments],
        cwd=cwd, input=stdin, capture_output=True, env=clean | environment, timeout=120,
    )  # fmt: skip


def git(*arguments: str, cwd: Path, stdin: bytes = b"") -> bytes:
    identity = ["-c", "user.name=t", "-c", "user.email=t@example.org", "-c", "core.autocrlf=false"]
    done = subprocess.run(
        ["git", *identity, *arguments], cwd=cwd, input=stdin, capture_output=True, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def make(folder: Path) -> Path:
    """A small project with something of everything."""
    files = {
        "train.py": PLAIN,
        "plain.py": "x = 1\n",
        "crlf.py": PLAIN.replace("\n", "\r\n"),
        "no newline.py": PLAIN.rstrip("\n"),
        "pkg/__init__.py": "",
        "pkg/caf\u00e9.py": "# \u00e9\n" + PLAIN,
        "nb.ipynb": NOTEBOOK,
        "README.md": "cuda\n",
    }
    for name, text in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(text.encode())
    (folder / "latin.py").write_bytes(b"# coding: latin-1\n# \xe9\n" + PLAIN.encode())
    return folder


def tree(folder: Path) -> dict[str, bytes]:
    return {
        p.relative_to(folder).as_posix(): p.read_bytes()
        for p in sorted(folder.rglob("*"))
        if p.is_file() and ".git/" not in p.as_posix() and ".porter" not in p.parts
    }


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return make(tmp_path / "project")


@pytest.fixture
def repository(project: Path) -> Path:
    git("init", "-q", cwd=project)
    git("add", ".", cwd=project)
    git("commit", "-qm", "x", cwd=project)
    return project


# Shape ------------------------------------------------------------------------------------------


def test_help_loads_neither_libcst_nor_rules(tmp_path: Path) -> None:
    code = (
        "import sys\nfrom porter.cli import start\n"
        "for a in (['--help'], ['migrate', '--help'], ['--version']):\n    start(a)\n"
        "bad = [m for m in sys.modules if m.split('.')[0] in ('libcst', 'torch')"
        " or m.startswith(('porter.rewrites', 'porter.engine'))]\n"
        "sys.exit(str(bad) if bad else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, cwd=tmp_path)
    assert done.returncode == 0, done.stderr


def test_the_table_of_commands_says_what_the_commands_say() -> None:
    def told(group: click.Group) -> None:
        context = click.Context(group)
        for name in group.list_commands(context):
            command = group.get_command(context, name)
            assert command is not None
            assert (command.help or "").splitlines()[0] == group._table[name][1], name  # type: ignore[attr-defined]
            assert command.name == name
            if isinstance(command, click.Group):
                told(command)

    told(cli.program)


def test_help_is_set_out_in_sections(tmp_path: Path) -> None:
    text = porter("migrate", "-h", cwd=tmp_path, COLUMNS="100").stdout.decode()
    titles = re.findall(r"^(\w+):", text, re.MULTILINE)
    assert titles == [
        "Usage",
        "Arguments",
        "Options",
        "Target",
        "Rules",
        "Files",
        "Run",
        "Rehearsal",
    ]
    assert "PATH...  Files and folders; - reads standard input." in text
    rehearsal = text.partition("Rehearsal:")[2]
    assert re.findall(r"^  (--[a-z-]+)", rehearsal, re.MULTILINE) == [
        "--rehearse", "--rehearse-timeout", "--rehearse-device", "--rehearse-before",
        "--rehearse-python", "--rehearse-link", "--rehearse-copy", "--unproved",
    ]  # fmt: skip
    assert all(len(line) <= 100 for line in text.splitlines())


@pytest.mark.parametrize("group", [[], ["onnx"]])
def test_no_command_is_a_mistake_that_shows_the_help(tmp_path: Path, group: list[str]) -> None:
    done = porter(*group, cwd=tmp_path)
    assert (done.returncode, done.stdout) == (2, b"")
    assert b"Commands:" in done.stderr
    asked = porter(*group, "--help", cwd=tmp_path)
    assert (asked.returncode, asked.stderr) == (0, b"")
    assert asked.stdout == done.stderr


@pytest.mark.skipif(shutil.which("bash") is None, reason="bash is not installed")
def test_completion_is_shown_and_installed_once(tmp_path: Path) -> None:
    home = {"HOME": str(tmp_path), "SHELL": "/bin/bash"}
    shown = porter("--show-completion", cwd=tmp_path, **home)
    assert b"_PORTER_COMPLETE=bash_complete" in shown.stdout
    (tmp_path / ".bashrc").write_text("alias x=y")
    for _ in range(2):
        assert porter("--install-completion", cwd=tmp_path, **home).returncode == 0
    script = tmp_path / ".bash_completions" / "porter.sh"
    assert script.read_text().strip() == shown.stdout.decode().strip()
    assert (tmp_path / ".bashrc").read_text() == f'alias x=y\nsource "{script}"\n'
    other = porter("--show-completion", cwd=tmp_path, HOME=str(tmp_path), SHELL="/bin/csh")
    assert other.returncode == 2
    assert (
        other.stderr
        == b"error: SHELL names no shell with completion (csh; known: bash, zsh, fish)\n"
    )
    offered = porter(
        cwd=tmp_path, _PORTER_COMPLETE="bash_complete", COMP_WORDS="porter mig", COMP_CWORD="1"
    )
    assert offered.stdout.split() == [b"plain,migrate"]


def test_version(tmp_path: Path) -> None:
    done = porter("--version", cwd=tmp_path)
    assert re.fullmatch(rb"porter \d+\.\d+\.\d+\S*\n", done.stdout.replace(b"\r", b""))
    assert done.returncode == 0


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["migrate"], "PATH"),
        (["migrate", "missing"], "no such file or folder: missing"),
        (["migrate", ".", "--target", "gpu"], "--target cannot be 'gpu'"),
        (["migrate", ".", "--min-torch", "new"], "--min-torch cannot be 'new'"),
        (["migrate", ".", "--select", "XYZ"], "'XYZ'"),
        (["migrate", ".", "--jobs", "0"], "--jobs cannot be '0'"),
        (["migrate", ".", "--diff", "-o", "out"], "exclude each other"),
        (["migrate", ".", "--report", "missing/out.json"], "--report"),
        (["migrate", "-", "."], "- cannot be combined"),
        (["migrate", ".", "--bogus"], "--bogus"),
        (["chek", "."], "No such command 'chek'. Did you mean 'check'?"),
        (["check", ".", "--output-format", "x"], "'x' is not one of 'concise', 'full'"),
        (["rehearse", "--devices", "0", "a.py"], "--devices"),
        (["onnx", "check", "--opset", "x"], "--opset"),
        (["rule", "POR10x"], "no rule is called 'POR10x'; did you mean"),
    ],
)
def test_mistakes_are_one_line_and_exit_2(tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "a.py").write_text(PLAIN)
    done = porter(*arguments, cwd=tmp_path)
    assert done.returncode == 2
    assert done.stdout == b""
    error = done.stderr.decode()
    assert error.startswith("error: ")
    assert error.count("\n") == 1
    assert said in error
    assert (tmp_path / "a.py").read_text() == PLAIN


def test_rule_pages(tmp_path: Path) -> None:
    text = porter("rule", "POR101", cwd=tmp_path).stdout.decode()
    assert text.startswith("POR101 cuda-method-call\n")
    assert "## Examples" in text
    assert "+" in text
    by_name = porter("rule", "cuda-method-call", "--output-format", "json", cwd=tmp_path)
    assert json.loads(by_name.stdout)["code"] == "POR101"
    listed = json.loads(porter("rules", "--output-format", "json", cwd=tmp_path).stdout)
    lines = porter("rules", cwd=tmp_path).stdout.decode().splitlines()
    assert [line.split()[0] for line in lines] == [rule["code"] for rule in listed]
    assert all(rule["summary"] for rule in listed)


# Migrate ----------------------------------------------------------------------------------------


@needs_git
def test_the_patch_applied_equals_the_result_in_place(repository: Path) -> None:
    before = tree(repository)
    patch = porter("migrate", ".", "--target", "npu", "--diff", cwd=repository)
    assert patch.returncode == 0, patch.stderr
    assert tree(repository) == before
    git("apply", "-", cwd=repository, stdin=patch.stdout)
    applied = tree(repository)
    git("checkout", "-q", ".", cwd=repository)
    assert tree(repository) == before

    assert porter("migrate", ".", "--target", "npu", cwd=repository).returncode == 0
    assert tree(repository) == applied
    changed = {name for name in before if before[name] != applied[name]}
    assert changed == before.keys() - {"plain.py", "pkg/__init__.py", "README.md"}
    assert applied["crlf.py"] == NPU.replace("\n", "\r\n").encode()
    assert applied["no newline.py"] == NPU.rstrip("\n").encode()
    assert applied["latin.py"].startswith(b"# coding: latin-1\n# \xe9\n")
    assert not (repository / ".porter").exists()

    git("commit", "-qam", "y", cwd=repository)
    again = porter("migrate", ".", "--target", "npu", cwd=repository)
    assert again.returncode == 0
    assert tree(repository) == applied
    assert porter("migrate", ".", "--target", "npu", "--diff", cwd=repository).stdout == b""


@needs_git
def test_a_patch_made_in_a_subfolder_applies_there_and_at_the_top(repository: Path) -> None:
    inner = repository / "pkg"
    patch = porter("migrate", ".", "--target", "npu", "--diff", cwd=inner).stdout
    assert patch
    for place in (inner, repository):
        git("apply", "-", cwd=place, stdin=patch)
        assert b".npu()" in (inner / "caf\u00e9.py").read_bytes()
        git("checkout", "-q", ".", cwd=repository)


def test_a_patch_outside_git_applies_in_the_current_folder(project: Path) -> None:
    patch = porter("migrate", project.name, "--target", "npu", "--diff", cwd=project.parent).stdout
    assert b"+++ b/project/train.py" in patch


@needs_git
def test_uncommitted_changes_are_refused_before_anything_is_written(repository: Path) -> None:
    (repository / "train.py").write_text("# new\n" + PLAIN)
    (repository / "plain.py").write_text("x = 2\n")  # dirty, but not to be changed
    (repository / "fresh.py").write_text(PLAIN)  # unknown to git
    before = tree(repository)
    done = porter("migrate", ".", "--target", "npu", "--report", "r.json", cwd=repository)
    assert done.returncode == 2
    assert tree(repository) == before
    error = done.stderr.decode()
    assert "\n  train.py\n" in error
    assert "\n  fresh.py\n" in error
    assert "\n  plain.py\n" not in error
    assert "--allow-dirty" in error

    allowed = porter("migrate", ".", "--target", "npu", "--allow-dirty", cwd=repository)
    assert allowed.returncode == 0
    assert (repository / "train.py").read_text() == "# new\n" + NPU
    undo = repository / ".porter" / "undo-1.patch"
    git("apply", str(undo), cwd=repository)
    assert (repository / "train.py").read_text() == "# new\n" + PLAIN
    assert (repository / "fresh.py").read_text() == PLAIN
    assert ".porter" not in git("status", "--porcelain", cwd=repository).decode()


@needs_git
@pytest.mark.parametrize("tool", [["git", "apply"], ["patch", "-p1", "--binary", "-s", "-i"]])
def test_outside_git_the_undo_patch_restores_every_byte(project: Path, tool: list[str]) -> None:
    if shutil.which(tool[0]) is None:
        pytest.skip(f"{tool[0]} is not installed")
    if tool[0] == "patch":
        (
            project / "pkg" / "caf\u00e9.py"
        ).unlink()  # patch does not read git's quoted names everywhere
    before = tree(project)
    done = porter("migrate", ".", "--target", "npu", cwd=project)
    assert done.returncode == 0
    assert tree(project) != before
    assert ".porter/undo-1.patch" in done.stderr.decode()
    subprocess.run([*tool, ".porter/undo-1.patch"], cwd=project, check=True)
    assert tree(project) == before


def test_a_copy_equals_the_result_in_place(project: Path, tmp_path: Path) -> None:
    before = tree(project)
    out = tmp_path / "out"
    done = porter("migrate", str(project), "--target", "npu", "-o", str(out), cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert tree(project) == before
    assert not (project / ".porter").exists()
    porter("migrate", ".", "--target", "npu", cwd=project)
    assert tree(out) == tree(project)
    assert porter("migrate", str(project), "-o", str(out), cwd=tmp_path).returncode == 0
    (out / "plain.py").write_text("x = 3\n")
    again = porter("migrate", str(project), "-o", str(out), cwd=tmp_path)
    assert again.returncode == 2
    assert b"not empty" in again.stderr


def test_standard_input(tmp_path: Path) -> None:
    done = porter("migrate", "-", "--target", "npu", cwd=tmp_path, stdin=PLAIN.encode())
    assert (done.returncode, done.stdout.decode()) == (0, NPU)
    same = porter("migrate", "-", cwd=tmp_path, stdin=b"x = 1\r\n")
    assert (same.returncode, same.stdout) == (0, b"x = 1\r\n")
    named = porter(
        "migrate", "-", "--target", "npu", "--stdin-filename", "a/nb.ipynb",
        cwd=tmp_path, stdin=NOTEBOOK.encode(),
    )  # fmt: skip
    assert named.stdout.decode() == NOTEBOOK.replace(".cuda()", ".npu()")
    patch = porter("migrate", "-", "--diff", "--stdin-filename", "a/b.py", "--target", "npu",
                   cwd=tmp_path, stdin=PLAIN.encode())  # fmt: skip
    assert b"+++ b/a/b.py" in patch.stdout
    broken = porter("migrate", "-", cwd=tmp_path, stdin=b"cuda = (\n")
    assert (broken.returncode, broken.stdout) == (2, b"cuda = (\n")
    checked = porter("check", "-", "--stdin-filename", "a.py", cwd=tmp_path, stdin=PLAIN.encode())
    assert checked.returncode == 1
    assert b"a.py:5:" in checked.stdout


# Exit codes and answers -------------------------------------------------------------------------


def test_exit_codes_of_migrate(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(PLAIN)
    assert porter("migrate", ".", "--target", "npu", cwd=tmp_path).returncode == 0
    (tmp_path / "b.py").write_text(STARRED)
    left = porter("migrate", ".", "--target", "npu", cwd=tmp_path)
    assert left.returncode == 1
    assert "b.py:2" in left.stderr.decode()
    (tmp_path / "c.py").write_text(PLAIN)
    (tmp_path / "old.py").write_text("print 'cuda'\n")
    (tmp_path / "bad.py").write_bytes(b"cuda = '\xff'\n")
    done = porter("migrate", ".", "--target", "npu", cwd=tmp_path)
    assert done.returncode == 2
    assert (tmp_path / "c.py").read_text() == NPU, "the others are still migrated"
    assert "old.py: " in done.stderr.decode()
    assert "bad.py: " in done.stderr.decode()
    quiet = porter("migrate", ".", "-q", "--target", "npu", cwd=tmp_path)
    assert quiet.stderr.decode().count("\n") == 2
    assert quiet.stderr.decode().count("error: ") == 2


def test_check(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a.py").write_text(PLAIN)
    (tmp_path / "sub" / "b.py").write_text(STARRED)
    done = porter("check", "sub", cwd=tmp_path)
    assert done.returncode == 1
    lines = done.stdout.decode().splitlines()
    assert len(lines) == 2
    assert re.fullmatch(r"sub/a\.py:5:\d+: POR101 \[\*\] \S+", lines[0])
    assert re.match(r"sub/b\.py:2:\d+: POR101 cuda-method-call: \S", lines[1])
    assert (tmp_path / "sub" / "a.py").read_text() == PLAIN

    assert porter("check", "sub", "--exit-zero", cwd=tmp_path).returncode == 0
    assert porter("check", "sub", "--ignore", "POR1", cwd=tmp_path).stdout == b""
    assert porter("check", "sub", "--exclude", "b.py", cwd=tmp_path).stdout.count(b"\n") == 1
    counted = porter("check", "sub", "--statistics", cwd=tmp_path).stdout.decode()
    assert counted.split() == ["2", "POR101", "[*]", "cuda-method-call"]
    data = json.loads(porter("check", "sub", "--output-format", "json", cwd=tmp_path).stdout)
    assert [site["path"] for site in data["sites"]] == ["a.py", "b.py"]
    hub = porter("check", "sub", "--output-format", "github", cwd=tmp_path).stdout.decode()
    assert hub.startswith("::error title=porter (POR101),file=sub/a.py,line=5,col=")
    full = porter("check", "sub", "--output-format", "full", "--target", "npu", cwd=tmp_path)
    assert "    -     return x.cuda()\n    +     return x.npu()\n" in full.stdout.decode()

    (tmp_path / "sub" / "old.py").write_text("print 'cuda'\n")
    broken = porter("check", "sub", "--exit-zero", cwd=tmp_path)
    assert broken.returncode == 2
    assert "sub/old.py:1:1: POR000 " in broken.stdout.decode()


def test_a_suppressed_site_is_no_finding_and_a_blanket_comment_is_one(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(PLAIN.replace("()\n", "()  # porter: ignore[POR101] kept\n"))
    assert porter("check", ".", cwd=tmp_path).returncode == 0
    (tmp_path / "a.py").write_text(PLAIN.replace("cuda()\n", "cuda()  # porter: ignore\n"))
    done = porter("check", ".", cwd=tmp_path)
    assert [line.split()[1] for line in done.stdout.decode().splitlines()] == ["POR101", "POR002"]


def test_notebook_positions_count_within_the_cell(tmp_path: Path) -> None:
    (tmp_path / "nb.ipynb").write_text(NOTEBOOK)
    done = porter("check", ".", cwd=tmp_path)
    assert re.match(r"nb\.ipynb:cell 2:2:\d+: POR101", done.stdout.decode())
    done = porter("migrate", ".", "--target", "npu", "--report", "r.json", cwd=tmp_path)
    assert done.returncode == 0
    assert (tmp_path / "nb.ipynb").read_text() == NOTEBOOK.replace(".cuda()", ".npu()")
    (site,) = json.loads((tmp_path / "r.json").read_text())["sites"]
    assert (site["cell"], site["line"]) == (2, 2)


def test_no_escape_codes_in_pipes_and_no_progress(project: Path) -> None:
    done = porter("check", ".", "--output-format", "full", cwd=project)
    assert b"\x1b" not in done.stdout + done.stderr
    assert b"\r" not in done.stderr.replace(os.linesep.encode(), b"")


@pytest.mark.skipif(sys.platform == "win32", reason="needs a pseudo terminal")
def test_colours_on_a_terminal_unless_no_color(tmp_path: Path) -> None:
    import pty

    (tmp_path / "a.py").write_text(PLAIN)

    def shown(**environment: str) -> bytes:
        clean = {k: v for k, v in os.environ.items() if k != "NO_COLOR"} | {"TERM": "xterm"}
        parent, child = pty.openpty()
        process = subprocess.Popen(
            [sys.executable, "-m", "porter", "check", "."],
            cwd=tmp_path, stdout=child, stderr=subprocess.DEVNULL, env=clean | environment,
        )  # fmt: skip
        os.close(child)
        pieces = []
        while True:
            try:
                piece = os.read(parent, 65536)
            except OSError:
                break
            if not piece:
                break
            pieces.append(piece)
        process.wait()
        os.close(parent)
        return b"".join(pieces)

    assert b"\x1b[33mPOR101" in shown()
    assert b"\x1b" not in shown(NO_COLOR="1")


def test_a_closed_pipe_is_no_crash(tmp_path: Path) -> None:
    for number in range(40):
        (tmp_path / f"a{number}.py").write_text(PLAIN * 60)
    process = subprocess.Popen(
        [sys.executable, "-m", "porter", "check", "."],
        cwd=tmp_path, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.readline()
    process.stdout.close()
    error = process.stderr.read().decode()
    process.wait()
    assert "Traceback" not in error
    assert "Exception" not in error


# Configuration ----------------------------------------------------------------------------------


def test_configuration_and_command_line(tmp_path: Path) -> None:
    (tmp_path / "a.py").write_text(PLAIN)
    (tmp_path / "skip").mkdir()
    (tmp_path / "skip" / "b.py").write_text(PLAIN)
    config = tmp_path / "pyproject.toml"
    config.write_text('[tool.porter]\ntarget = "npu"\nexclude = ["skip/"]\n')
    done = porter("migrate", ".", "--diff", cwd=tmp_path)
    assert b"+    return x.npu()" in done.stdout
    assert b"skip/" not in done.stdout
    inner = porter("check", "skip", cwd=tmp_path)
    assert inner.stdout == b"", "the pattern is relative to the configuration"
    won = porter("migrate", ".", "--diff", "--target", "accelerator", cwd=tmp_path)
    assert b".npu()" not in won.stdout
    config.write_text('[tool.porter.per-file-ignores]\n"a.py" = ["POR101"]\n')
    checked = porter("check", ".", cwd=tmp_path).stdout.decode()
    assert [line.split(":")[0] for line in checked.splitlines()] == ["skip/b.py"]


@pytest.mark.parametrize("name", ["pyproject.toml", "porter.toml"])
def test_an_unknown_key_names_file_key_and_what_was_meant(tmp_path: Path, name: str) -> None:
    head = "[tool.porter]\n" if name == "pyproject.toml" else ""
    (tmp_path / name).write_text(head + 'taget = "npu"\n')
    (tmp_path / "a.py").write_text(PLAIN)
    done = porter("migrate", "a.py", cwd=tmp_path)
    assert done.returncode == 2
    error = done.stderr.decode()
    assert error.count("\n") == 1
    assert name in error
    assert "'taget'; did you mean 'target'?" in error
    assert (tmp_path / "a.py").read_text() == PLAIN


# Report -----------------------------------------------------------------------------------------


def test_the_report_is_the_same_on_every_run(tmp_path: Path) -> None:
    reports = []
    for number, jobs in enumerate(("1", "2", "2")):
        project = make(tmp_path / str(number) / "project")
        (project / "b.py").write_text(STARRED)
        (project / "old.py").write_text("print 'cuda'\n")
        (project / "requirements.txt").write_text("numpy\ntorch>=1.8\n")
        out = tmp_path / f"{number}.json"
        done = porter("migrate", str(project), "-j", jobs, "--report", str(out), cwd=tmp_path)
        assert done.returncode == 2
        reports.append(out.read_bytes())
    assert reports[0] == reports[1] == reports[2]
    assert str(tmp_path).encode() not in reports[0]
    data = json.loads(reports[0])
    assert list(data)[:3] == ["schema", "target", "min_torch"]
    assert (data["schema"], data["target"]) == (1, "accelerator")
    statuses = {file["path"]: file["status"] for file in data["files"]}
    assert statuses["plain.py"] == "unchanged"
    assert statuses["train.py"] == "changed"
    assert statuses["old.py"] == "failed"
    bound = next(s for s in data["sites"] if s["path"] == "requirements.txt")
    assert (bound["line"], bound["status"], bound["before"]) == (2, "left", "torch>=1.8")
    site = next(s for s in data["sites"] if s["path"] == "train.py")
    assert site["before"] == "    return x.cuda()"
    assert site["after"].startswith("    return x.to(")
    assert set(site) == {
        "path", "line", "column", "rule", "status", "safety", "category", "effort", "symbol",
        "before", "after", "proposed", "reason", "snippet", "accepted", "fingerprint",
    }  # fmt: skip


def test_a_name_that_another_file_passes_on_is_followed(tmp_path: Path) -> None:
    (tmp_path / "pkg").mkdir()
    (tmp_path / "pkg" / "__init__.py").write_text("")
    (tmp_path / "pkg" / "compat.py").write_text("from torch.cuda import is_available\n")
    user = tmp_path / "pkg" / "use.py"
    user.write_text("from .compat import is_available\n\nprint(is_available())\n")
    for path in (".", "pkg/use.py"):
        done = porter("check", path, "--target", "npu", cwd=tmp_path)
        assert "pkg/use.py:3:" in done.stdout.decode(), "found although no byte of it tells"
    (tmp_path / "pkg" / "compat.py").write_text("def is_available():\n    return True\n")
    assert porter("check", ".", "--target", "npu", cwd=tmp_path).stdout == b""


def test_check_names_what_it_does_not_read(tmp_path: Path) -> None:
    (tmp_path / "third_party").mkdir()
    (tmp_path / "third_party" / "a.py").write_text("x.cuda()\n")
    (tmp_path / "b.py").write_text("x = 1\n")
    done = porter("check", ".", cwd=tmp_path)
    said = done.stderr.decode()
    assert "1 path skipped:" in said
    assert "third_party: vendored third-party code; name it to include it" in said
