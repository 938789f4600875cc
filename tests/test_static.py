"""Nothing of the code looked at is run, and nothing is written where no one asked for it.

The repository in question is made by tests/traps.py. An audit hook
(https://docs.python.org/3/library/audit_events.html), which a sitecustomize of our own puts into
the processes under test, records what they execute, write and start.
"""

# Paths as the audit events have them: text, of files that may not be there.
# ruff: noqa: PTH117, PTH118, PTH119, PTH120
from __future__ import annotations

import csv
import hashlib
import importlib.util
import io
import json
import os
import pickle
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest

from porter import cache, files, git, isolate, project, toml
from porter.cli import COMMANDS, start
from porter.display import visible
from porter.problem import Problem

pytestmark = [
    pytest.mark.skipif(sys.platform != "linux", reason="links, pipes and devices of Linux"),
    pytest.mark.skipif(shutil.which("git") is None, reason="git is not installed"),
]
ROOT = Path(__file__).parents[1]


def _load() -> Any:
    spec = importlib.util.spec_from_file_location(
        "porter_traps", Path(__file__).parent / "traps.py"
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["porter_traps"] = module
    spec.loader.exec_module(module)
    return module


traps_module = _load()
#: No command may take longer, whatever the repository holds.
BOUND = 120

AUDIT = """
import os, sys

_log = os.open(os.environ["TRAP_LOG"], os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
_writing = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_paths = {"os.remove", "os.rmdir", "os.mkdir", "os.chmod", "os.chown", "os.truncate", "os.utime",
          "os.setxattr", "os.removexattr", "os.mkfifo", "os.mknod"}
_folders = {"os.remove", "os.rmdir", "os.mkdir"}  # their last argument is an open folder, or -1
_pairs = {"os.rename", "os.link", "os.symlink"}
_programs = {"subprocess.Popen", "os.system", "os.exec", "os.posix_spawn", "os.spawn", "pty.spawn"}
_others = {"socket.connect", "socket.bind", "socket.getaddrinfo", "ctypes.dlopen",
           "cpython.run_file", "cpython.run_startup", "cpython.run_interactivehook"}

def _text(value):
    return os.fsdecode(value) if isinstance(value, bytes) else str(value)

def _write(*words):
    line = "\\x1f".join(_text(word).replace("\\n", "\\x1e") for word in words)
    os.write(_log, line.encode("utf-8", "surrogateescape") + b"\\n")

def _at(path, folder):
    # shutil removes trees by names in open folders.
    if isinstance(path, int):
        return "/proc/self/fd/" + str(path)
    base = os.readlink("/proc/self/fd/" + str(folder)) if folder >= 0 else os.getcwd()
    return os.path.normpath(os.path.join(base, _text(path)))

def _hook(event, args):
    if event == "open":
        path, mode, flags = args
        if path is None or isinstance(path, int):
            return
        if (isinstance(flags, int) and flags & _writing) or (mode and set(mode) & set("wax+")):
            _write("write", os.path.abspath(path))
    elif event == "exec":
        code = args[0]
        name = getattr(code, "co_filename", "?")
        frame = sys._getframe().f_back
        _write("exec", name, frame.f_code.co_filename if frame else "<frozen start>")
    elif event == "import" and args[1]:
        _write("exec", args[1], "")
    elif event in _paths:
        _write("write", _at(args[0], args[-1] if event in _folders else -1))
    elif event in _pairs:
        folders = args[2:] if event != "os.symlink" else (-1, args[2])
        for path, folder in list(zip(args[:2], folders))[event == "os.symlink":]:
            _write("write", _at(path, folder))
    elif event in _programs:
        words = args[1] if isinstance(args[1:2] and args[1], (list, tuple)) else [args[0]]
        env = args[3] if len(args) > 3 and args[3] is not None else {}
        _write("run", event, *map(_text, words), "\\x1d", *sorted(map(_text, env)))
    elif event in _others:
        _write("other", event, *args)

sys.addaudithook(_hook)
"""


@dataclass(frozen=True)
class Done:
    """A command under test: its exit code, what it printed, and what its processes did."""

    code: int
    out: bytes
    err: str
    events: list[list[str]]

    def of(self, kind: str) -> Iterator[list[str]]:
        return (event[1:] for event in self.events if event[0] == kind)


class Run:
    """Runs commands in and beside a repository of traps."""

    def __init__(self, traps: Any, home: Path) -> None:
        self.traps = traps
        self.home = home
        self.user = home / "user"
        self._audit = home / "audit"
        for folder in (self.user, self._audit):
            folder.mkdir()
        self._program = str(traps.program("environment"))
        (self._audit / "sitecustomize.py").write_text(AUDIT)

    def __call__(
        self, *words: str, how: str = "console", cwd: Path | None = None, **env: str
    ) -> Done:
        log = self.home / "events"
        log.unlink(missing_ok=True)
        program = [str(_script())] if how == "console" else [sys.executable, "-m", "porter"]
        outside = self.traps.outside
        done = subprocess.run(
            [*program, *words],
            cwd=cwd or outside, capture_output=True, stdin=subprocess.DEVNULL, timeout=BOUND,
            env=self._environment(log) | env, check=False,
        )  # fmt: skip
        lines = log.read_bytes().decode("utf-8", "surrogateescape").split("\n")
        events = [line.replace("\x1e", "\n").split("\x1f") for line in lines if line]
        err = done.stderr.decode("utf-8", "backslashreplace")
        assert "Traceback" not in err, err
        assert "internal error" not in err, err
        return Done(done.returncode, done.stdout, err, events)

    def _environment(self, log: Path) -> dict[str, str]:
        program = self._program
        return {
            "PATH": os.environ["PATH"], "HOME": str(self.user), "PYTHONPATH": str(self._audit),
            "TRAP_LOG": str(log), "PYTHONDONTWRITEBYTECODE": "1", "LC_ALL": "C.UTF-8",
            "GIT_CEILING_DIRECTORIES": str(self.home.parent),
            # What a shell may have inherited from a hook, or from a hostile profile.
            "GIT_SSH_COMMAND": program, "GIT_EXTERNAL_DIFF": program, "GIT_PAGER": program,
            "GIT_ASKPASS": program, "GIT_CONFIG_COUNT": "1",
            "GIT_CONFIG_KEY_0": "core.fsmonitor", "GIT_CONFIG_VALUE_0": program,
            "GIT_DIR": str(self.home / "nowhere"), "GIT_EXEC_PATH": str(Path(program).parent),
            "PAGER": program, "EDITOR": program,
        }  # fmt: skip


def _script() -> Path:
    return Path(sysconfig.get_path("scripts")) / "porter"


@pytest.fixture
def _console() -> None:
    if not _script().is_file():
        pytest.skip("the porter command is not installed beside this Python")


def _built(home: Path, small: bool) -> Iterator[Run]:
    traps = traps_module.build(home / "traps", small=small)
    yield Run(traps, home)
    traps_module.remove(traps)


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    yield from _built(tmp_path_factory.mktemp("small"), True)


@pytest.fixture(scope="module")
def large(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Run]:
    yield from _built(tmp_path_factory.mktemp("large"), False)


@pytest.fixture
def own(tmp_path: Path) -> Iterator[Run]:
    """A repository that the test may change."""
    yield from _built(tmp_path, False)


# Judging a run ----------------------------------------------------------------------------------


def assert_static(done: Done, run: Run, *allowed: Path) -> None:
    """No trap was sprung, nothing of the repository was executed, and only `allowed` written to."""
    traps = run.traps
    assert traps.sprung() == []
    root = str(traps.home)
    trusted = _trusted()
    for name, caller in done.of("exec"):
        assert not name.startswith(root), (name, caller)
        if not os.path.isabs(name):  # "<string>": what the standard library makes, not we
            assert name.startswith("<"), name
            assert caller.startswith(("<frozen", *trusted)), (name, caller)
            continue
        assert name.startswith((*trusted, str(run.home / "audit"))), (name, caller)
    places = [os.path.realpath(path) for path in (*allowed, run.user / ".cache" / "porter")]
    for (name,) in done.of("write"):
        real = os.path.join(os.path.realpath(os.path.dirname(name)), os.path.basename(name))
        if real in (os.devnull, *(os.path.dirname(p) for p in places[-1:])):
            continue
        assert any(real == p or real.startswith(p + os.sep) for p in places), name
    for event, *words in done.of("run"):
        assert event == "subprocess.Popen", words
        _assert_safe_git(words)
    for event, *words in done.of("other"):
        assert (event, *words[:1]) == ("cpython.run_file", str(_script())), (event, words)


def _trusted() -> list[str]:
    """Where code may come from: Python, what is installed there, and porter."""
    paths = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "scripts")}
    paths |= {str(ROOT / "porter"), str(ROOT / "rewrites"), os.path.dirname(project.__file__)}
    real = {os.path.realpath(path) for path in paths}
    return sorted(paths | real)


def _assert_safe_git(words: list[str]) -> None:
    end = words.index("\x1d")
    command, variables = words[:end], set(words[end + 1 :])
    assert os.path.basename(command[0]) == "git", command
    assert os.path.isabs(command[0])
    for setting in ("core.fsmonitor=false", "core.hooksPath=/dev/null", "core.pager=cat",
                    "diff.external=", "safe.bareRepository=explicit"):  # fmt: skip
        assert setting in command, (setting, command)
    ours = {"GIT_CONFIG_NOSYSTEM", "GIT_OPTIONAL_LOCKS", "GIT_TERMINAL_PROMPT", "GIT_PAGER",
            "GIT_NO_LAZY_FETCH", "GIT_ALLOW_PROTOCOL", "GIT_CEILING_DIRECTORIES"}  # fmt: skip
    assert {name for name in variables if name.startswith("GIT_")} <= ours
    subcommand = command[command.index("-C") + 2 :]
    known = ("rev-parse", "ls-files", "check-ignore", "diff-index", "ls-tree", "cat-file",
             "merge-base", "--literal-pathspecs")  # fmt: skip
    assert subcommand[0] in known, subcommand


# Nothing is run ---------------------------------------------------------------------------------


@pytest.mark.usefixtures("_console")
@pytest.mark.parametrize("how", ["console", "module"])
@pytest.mark.parametrize("inside", [True, False], ids=["inside", "outside"])
def test_no_command_runs_code_of_the_repository(small: Run, how: str, inside: bool) -> None:
    root, out = small.traps.root, small.home / f"out-{how}-{inside}"
    out.mkdir()
    cwd, here = (root, ".") if inside else (small.home, str(root))
    before = traps_module.tree(small.traps.home)
    report = str(out / "report.json")
    commands: list[tuple[list[str], set[int]]] = [
        (["check", here, "--report", report], {1}),
        (["migrate", here, "--diff", "--target", "npu"], {1}),
        (["migrate", here, "-o", str(out / "copy")], {1}),
        (["report", report, "-f", "html", "-o", str(out / "report.html")], {0}),
        (["rules"], {0}),
        (["rule", "POR101"], {0}),
        (["query", "torch.cuda.amp.autocast"], {0, 1}),
        (["clean"], {0}),
    ]
    if "fleet" in COMMANDS:
        (out / "list.toml").write_text(f"[[repo]]\npath = {json.dumps(str(root))}\n")
        words = ["fleet", str(out / "list.toml"), "-o", str(out / "fleet"), "-j", "1"]
        commands.append((words, {0, 1}))
    if how == "module" and not inside:  # as the others
        commands = [c for c in commands if c[0][0] not in ("migrate", "report", "rule")]
    for words, codes in commands:
        done = small(*words, how=how, cwd=cwd)
        assert done.code in codes, (words, done.code, done.err)
        assert_static(done, small, out)
        if words[0] == "check":
            assert b"train.py:2:" in done.out
        if words[0] == "migrate" and "--diff" in words:
            assert b"+x = torch.ones(2).npu()" in done.out
        if words[0] == "rules":
            assert b"porter_rules" not in done.out
    assert traps_module.tree(small.traps.home) == before
    if not (out / "copy").is_dir():
        return
    copied = {p.relative_to(out / "copy").as_posix() for p in (out / "copy").rglob("*")}
    assert "train.py" in copied
    assert not copied & {"links/file.py", "links/folder", "links/relative.py", "links/root"}


def test_the_traps_work(small: Run) -> None:
    """A Python that does import them springs them, and so does a git that is not kept from it."""
    traps = small.traps
    root = traps.root
    code = "import click, yaml, tomllib, conftest, porter_rules"
    subprocess.run([sys.executable, "-c", code], cwd=root, check=False, capture_output=True)
    subprocess.run(["git", "status"], cwd=root, check=False, capture_output=True)
    entries = "import importlib.metadata as m; [e.load() for e in m.entry_points(group='porter.rewrites')]"
    subprocess.run([sys.executable, "-c", entries], cwd=root, check=False, capture_output=True)
    sprung = set(traps.sprung())
    for canary in traps.canaries.iterdir():
        canary.unlink()
    assert {"click-package", "yaml-package", "conftest", "porter_rules"} <= sprung
    assert sprung & {"core.fsmonitor", "included"}


@pytest.mark.usefixtures("_console")
@pytest.mark.parametrize("path", [".", ":", "{root}", "{root}/inner"])
def test_a_project_on_pythonpath_is_not_imported(tmp_path: Path, path: str) -> None:
    """What Python itself imports while it starts is Python's to decide; the rest is not."""
    root, canaries = tmp_path / "repo", tmp_path / "canaries"
    canaries.mkdir()
    for folder in (root, root / "inner"):
        folder.mkdir()
        for name in ("click", "yaml", "libcst", "tomllib", "pickle", "difflib", "porter_rules"):
            (folder / f"{name}.py").write_text(f"open({str(canaries / name)!r}, 'w')\n")
        (folder / "x-1.dist-info").mkdir()
        (folder / "x-1.dist-info" / "METADATA").write_text("Name: x\nVersion: 1\n")
        entry = "[porter.rewrites]\nx = porter_rules\n"
        (folder / "x-1.dist-info" / "entry_points.txt").write_text(entry)
    (root / "train.py").write_text(traps_module.CODE)
    environment = os.environ | {"PYTHONPATH": path.format(root=root)}
    cwd, here = (root, ".") if path in (".", ":") else (tmp_path, "repo")
    for words in ([_script()], [sys.executable, "-m", "porter"]):
        done = subprocess.run(
            [*words, "check", here], cwd=cwd, env=environment, capture_output=True, text=True
        )
        assert done.returncode == 1, done.stderr
        assert "POR101" in done.stdout
    assert list(canaries.iterdir()) == []


def test_what_is_taken_off_the_path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = os.path.dirname(os.__file__)
    project_, other = tmp_path / "project", tmp_path / "other"
    (project_ / "src").mkdir(parents=True)
    packages = project_ / ".venv" / "lib" / "site-packages"
    packages.mkdir(parents=True)
    other.mkdir()
    own = os.path.dirname(os.path.dirname(isolate.__file__))
    monkeypatch.chdir(project_)
    path = ["", str(project_ / "src"), str(tmp_path), str(packages), str(other), own, library,
            str(project_ / "src")]  # fmt: skip
    monkeypatch.setattr(sys, "path", list(path))
    isolate.from_projects([])
    assert sys.path == [str(packages), str(other), own, library, str(project_ / "src")]
    monkeypatch.setattr(sys, "path", list(path))
    isolate.from_projects(["--quiet", str(other), "no such file"])
    assert sys.path == [str(packages), own, library, str(project_ / "src")]


def test_workers_that_import_anew_do_not_look_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on macOS and Windows, where Python puts the current folder first in each worker."""
    if sys.version_info < (3, 11):
        pytest.skip("Python 3.10 has no PYTHONSAFEPATH")
    (tmp_path / "multiprocessing.py").write_text("open('canary', 'w')\nraise SystemExit(3)\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}")
    program = [sys.executable, "-c", "import multiprocessing"]
    assert subprocess.run(program, check=False, capture_output=True).returncode == 3
    (tmp_path / "canary").unlink()
    with isolate.Spawning():
        assert subprocess.run(program, check=False, capture_output=True).returncode == 0
    assert not (tmp_path / "canary").exists()
    assert os.environ["PYTHONPATH"] == f"{tmp_path}{os.pathsep}"
    assert "PYTHONSAFEPATH" not in os.environ


# Nothing else is written, and everything ends ---------------------------------------------------


def _writes(text: str) -> list[str]:
    """Control characters in what is shown to people."""
    return re.findall("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", text)


def _commands(text: str) -> list[str]:
    """Lines that the runner of a CI job would take for commands."""
    return [
        line
        for line in text.splitlines()
        if re.match(r"\s*::[\w-]+( [^:]*)?::", line) or re.search(r"##(vso|teamcity)?\[", line)
    ]


@dataclass(frozen=True)
class Checked:
    """A check of the whole repository, its report, and what was there before."""

    done: Done
    report: Path
    before: dict[str, tuple[int, bytes]]


@pytest.fixture(scope="module")
def checked(large: Run) -> Checked:
    if not _script().is_file():
        pytest.skip("the porter command is not installed beside this Python")
    out = large.home / "out"
    out.mkdir()
    before = traps_module.tree(large.traps.home)
    words = ["check", ".", "--output-format", "full", "-v", "-j", "2"]
    done = large(*words, "--report", str(out / "report.json"), cwd=large.traps.root)
    return Checked(done, out / "report.json", before)


def test_everything_ends_and_every_name_is_escaped(large: Run, checked: Checked) -> None:
    full = checked.done
    assert full.code == 2, full.err
    assert_static(full, large, checked.report.parent)
    text = full.out.decode() + full.err
    assert _writes(text) == []
    assert _commands(text) == []
    data = json.loads(checked.report.read_bytes())
    states = {f["path"]: (f["status"], f["reason"]) for f in data["files"]}
    found = {site["path"] for site in data["sites"] if site["rule"] == "POR101"}
    # Whatever stands beside it, a file is read, or named with the reason why not.
    for name in traps_module.ODD_NAMES:
        if name.strip(".") != "py":  # which has no suffix
            assert f"odd/{name}" in found, name
    assert {os.fsdecode(b"odd/\xff\xfe.py"), "train.py", "script", "links/hard.py"} <= found
    for name in ("links/file.py", "links/zero.py", "links/loop.py", "links/gone.py"):
        assert states[name][0] == "skipped", name
    for name in ("hard/parentheses.py", "deep.ipynb"):
        assert states[name][0] in ("failed", "unchanged"), (name, states[name])
    unread = {s["path"] for s in data["sites"] if s["rule"] == "POR004"}
    assert {"deep.json", "deep.yaml", "nest.toml", "dots.toml"} <= unread
    assert not {s["path"] for s in data["sites"]} & {"links/secret.py", "links/passwd.py"}
    deep = [name for name, (state, _) in states.items() if name.startswith("deep/d")]
    assert deep, "a folder with too long a path is named"
    assert traps_module.tree(large.traps.home) == checked.before


@pytest.mark.usefixtures("_console")
def test_migrate_writes_below_its_root_alone(own: Run) -> None:
    root, outside = own.traps.root, own.traps.outside
    beside = traps_module.tree(outside)
    before = traps_module.tree(root)
    done = own("migrate", str(root), "--allow-dirty", "--target", "npu", "-q")
    assert done.code == 2, done.err
    assert_static(done, own, root)
    assert _writes(done.err) == []
    after = traps_module.tree(root)
    assert traps_module.tree(outside) == beside
    changed = {name for name in before if after[name] != before[name]}
    assert {"train.py", "odd/-rf.py", "odd/new\nline.py", "links/hard.py"} <= changed
    assert all(after[name][0] == before[name][0] for name in before), "no mode, no link changes"
    assert not any(name.endswith((".tmp", ".porter-tmp")) for name in after)
    long = os.fsdecode(b"odd/" + b"\xe6\x97\xa5" * 84 + b".py")
    assert b".npu()" in after[long][1], "a name of 255 bytes leaves no room for a longer one"


def test_links_do_not_lead_writes_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    root, outside = tmp_path / "repo", tmp_path / "outside"
    root.mkdir()
    outside.mkdir()
    code = traps_module.CODE
    (root / "train.py").write_text(code)
    (outside / "secret.py").write_text(code)
    for name, target in {"link.py": "secret.py", ".porter": "", "report.json": "secret.py",
                         "base.json": "secret.py"}.items():  # fmt: skip
        (root / name).symlink_to(outside / target)

    monkeypatch.chdir(root)
    for words in (
        ("migrate", "link.py", "--target", "npu"),
        ("migrate", ".", "--target", "npu"),
        ("check", ".", "--report", "report.json"),
        ("check", ".", "--write-baseline", "base.json"),
        ("check", ".", "--add-ignores"),
        ("migrate", ".", "-o", "../outside/../outside"),
    ):
        start(words)
        assert (outside / "secret.py").read_text() == code, words
        assert [p.name for p in outside.iterdir()] == ["secret.py"], words
    capfd.readouterr()
    assert start(["migrate", "link.py", "--diff"]) == 2
    printed = capfd.readouterr()
    assert printed.out == "", "a patch for a file that migrate would not write"
    assert "link.py: a symbolic link leads out of the folder" in printed.err


@pytest.mark.parametrize("with_git", [True, False])
def test_what_may_not_be_read_is_named(tmp_path: Path, with_git: bool) -> None:
    """As root nothing is closed, unless it gives up what makes it root."""
    words = [sys.executable, "-m", "porter", "check", "."]
    if os.geteuid() == 0:
        if shutil.which("setpriv") is None:
            pytest.skip("root reads everything")
        words = ["setpriv", "--inh-caps=-all", "--bounding-set=-all", *words]
    for name in ("tracked/a.py", "untracked/b.py", "c.py", "d.py"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(traps_module.CODE)
    if with_git:
        traps_module.run_git(tmp_path, "init", "-q")
        traps_module.run_git(tmp_path, "add", "tracked", "c.py")
    closed = [tmp_path / name for name in ("tracked", "untracked", "c.py")]
    for path in closed:
        path.chmod(0)
    done = subprocess.run(words, cwd=tmp_path, capture_output=True, text=True)
    for path in closed:
        path.chmod(0o700)
    assert done.returncode == 2, done.stderr
    for name in ("tracked", "untracked", "c.py"):
        assert re.search(rf"^(note|error): {name}: cannot be read.*Permission denied", done.stderr,
                         re.M), name  # fmt: skip
    assert "d.py:2:" in done.stdout


# What the outputs hold --------------------------------------------------------------------------


def _view(run: Run, report: Path, form: str) -> str:
    done = run("report", str(report), "-f", form)
    assert done.code == 0, done.err
    assert_static(done, run)
    return done.out.decode()


class _Page(HTMLParser):
    """Collects what a browser would act on."""

    def __init__(self) -> None:
        super().__init__()
        self.acts: list[str] = []
        self.scripts = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.scripts += tag == "script"
        if tag in {"img", "iframe", "object", "embed", "link", "base", "video", "audio"}:
            self.acts.append(tag)
        for name, value in attrs:
            if name.startswith("on") or name in {"style", "srcdoc", "src", "action"}:
                self.acts.append(f"{tag} {name}={value}")
            if name == "href" and not (value or "").startswith(("#", "https://")):
                self.acts.append(f"{tag} {name}={value}")


@pytest.mark.usefixtures("_console")
def test_views_hold_names_and_code_as_text_alone(large: Run, checked: Checked) -> None:
    report = checked.report
    page = _Page()
    page.feed(_view(large, report, "html"))
    assert (page.acts, page.scripts) == ([], 2)
    csv.field_size_limit(1 << 24)
    rows = list(csv.reader(io.StringIO(_view(large, report, "csv"), newline="")))
    assert len(rows) > 60
    assert not [cell for row in rows for cell in row if cell.lstrip()[:1] in tuple("=+-@\t\r")
                and not cell.lstrip("-").isdigit() and cell.strip()]  # fmt: skip
    for form in ("gitlab", "sarif", "rdjson", "json"):
        json.loads(_view(large, report, form))
    suites = ElementTree.fromstring(_view(large, report, "junit"))
    assert any("]]>" in suite.get("name", "") for suite in suites)
    text = _view(large, report, "text")
    assert (_writes(text), _commands(text)) == ([], [])
    for line in _view(large, report, "github").removesuffix("\n").split("\n"):
        assert _writes(line) == []
        assert re.match(r"::(error|warning|notice) title=[^:,]*,file=[^:,]*,line=\d+", line), line
    markdown = _view(large, report, "markdown")
    outside_code = re.sub(r"(?s)(?m)^(`{3,})[^\n]*\n.*?^\1$|(?<!`)(`+)(?!`).*?(?<!`)\2(?!`)", "",
                          markdown)  # fmt: skip
    assert not re.search(r"<(?!/?(details|summary|b|code)\b)\w", outside_code)
    assert "javascript:" not in outside_code


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("::set-env name=X::y.py", r"\x3a:set-env name=X::y.py"),
        ("    ::add-mask::x", r"    \x3a:add-mask::x"),
        ("a ##[add-mask]x", r"a \x23#[add-mask]x"),
        ("##vso[task.complete]", r"\x23#vso[task.complete]"),
        ("std::move(x)", "std::move(x)"),
        ("## heading", "## heading"),
        ("x[::2]", "x[::2]"),
        ("\x1b[2J\n", r"\x1b[2J\n"),
    ],
)
def test_what_a_log_would_take_for_a_command(text: str, shown: str) -> None:
    assert visible(text) == shown


# Bombs ------------------------------------------------------------------------------------------


def test_no_pattern_takes_exponential_time() -> None:
    name = "a" * 255
    for pattern, path in (
        ("*a" * 120 + "b", name),
        ("**/a/" * 60 + "b", "/".join("a" * 1500)),
        ("**/*a*a*a/" * 40 + "b", "/".join(["a" * 20] * 190)),
        ("a*/" * 500 + "b", "/".join(["a"] * 1000)),
    ):
        assert not project.Patterns([pattern]).match(path, folder=False)
    assert project.Patterns(["*a" * 120]).match(name, folder=False)
    with pytest.raises(Problem, match="longer than"):
        project.Patterns(["*a" * 3000])


def test_patterns_mean_what_the_plain_translation_means() -> None:
    """Compared with the translation that tries every place where a star could end."""
    import itertools

    names = ["/".join(n) for k in (1, 2, 3) for n in itertools.product(("a", "b", "ab"), repeat=k)]
    for parts in itertools.product(("a", "*", "/", "**/", "/**/", "?b"), repeat=4):
        glob = "".join(parts).strip("/")
        plain = "".join(
            {"**/": "(?:.*/)?", "/**/": "(?:/.*)?/", "/**": "/.+", "?": "[^/]"}.get(
                piece, "[^/]*" if piece[0] == "*" else piece
            )
            for piece in re.findall(r"^\*\*/|/\*\*(?=/)|/\*\*$|\*+|.", glob)
        )
        plain = re.sub(r"/\*\*", "(?:/.*)?", plain)
        ours = project.Patterns([glob])
        if "***" in glob or not glob or plain != _plain(glob):
            plain = _plain(glob)
        regex = re.compile(plain if "/" in glob else f"(?:.*/)?{plain}")
        for name in names:
            assert ours.match(name, folder=False) == bool(regex.fullmatch(name)), (glob, name)


def _plain(glob: str) -> str:
    def piece(found: re.Match[str]) -> str:
        kinds = {"lead": "(?:.*/)?", "middle": "(?:/.*)?", "tail": "/.+", "star": "[^/]*",
                 "any": "[^/]"}  # fmt: skip
        return kinds.get(found.lastgroup or "", found.group())

    tokens = r"(?P<lead>^\*\*/)|(?P<middle>/\*\*(?=/))|(?P<tail>/\*\*$)|(?P<star>\*+)|(?P<any>\?)"
    return re.sub(tokens, piece, glob)


def test_toml_that_takes_too_long_is_refused() -> None:
    for text in ("a." * 300_000 + "b = 1", "[" + "a . " * 300_000 + "b]", "x = " + "[" * 100_000,
                 "x = " + "9" * 10_000):  # fmt: skip
        with pytest.raises(toml.TOMLDecodeError):
            toml.loads(text)
    assert toml.loads("a.b.c = '" + "1.2." * 200 + "'")["a"]["b"]


@pytest.fixture
def bounded() -> Iterator[None]:
    """Raise where something would go on and on."""

    def raising(number: int, frame: object) -> None:
        raise TimeoutError

    before = signal.signal(signal.SIGALRM, raising)
    signal.alarm(BOUND)
    yield
    signal.alarm(0)
    signal.signal(signal.SIGALRM, before)


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("porter.toml", "/dev/zero"),
        ("porter.toml", "/proc/self/pagemap"),
        ("pyproject.toml", "/proc/self/pagemap"),
        ("porter.toml", b"exclude = ['" + b"*a" * 50 + b"b']\n"),
        ("porter.toml", b"exclude = ['" + b"*a" * 50_000 + b"b']\n"),
        ("porter.toml", b"a." * 100_000 + b"b = 1\n"),
        ("porter.toml", b"x = " + b"[" * 100_000),
        ("porter.toml", b"#" * 2_000_000),
        ("porter.toml", None),
    ],
)
def test_settings_that_are_bombs(
    tmp_path: Path,
    name: str,
    content: str | bytes | None,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / ("a" * 200 + ".py")).write_text(traps_module.CODE)
    if content is None:
        os.mkfifo(tmp_path / name)
    elif isinstance(content, bytes):
        (tmp_path / name).write_bytes(content)
    else:
        (tmp_path / name).symlink_to(content)
    code = start(["check", "."])
    err = capsys.readouterr().err
    assert "internal error" not in err
    assert code in (1, 2)
    if code == 2:
        assert err.startswith("error: ")
        assert err.count("\n") == 1


@pytest.mark.usefixtures("bounded")
@pytest.mark.parametrize("command", ["report", "check --baseline"])
@pytest.mark.parametrize("content", ["pipe", "/dev/zero", b"[" * 100_000, b'{"a":' * 50_000])
def test_reports_and_baselines_that_are_bombs(
    tmp_path: Path, command: str, content: str | bytes, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "file.json"
    if content == "pipe":
        os.mkfifo(file)
    elif isinstance(content, bytes):
        file.write_bytes(content)
    else:
        file.symlink_to(content)
    (tmp_path / "a.py").write_text("x = 1\n")
    check = ["check", str(tmp_path / "a.py"), "--baseline", str(file)]
    assert start(["report", str(file)] if command == "report" else check) == 2
    err = capsys.readouterr().err
    assert "internal error" not in err
    assert "file.json" in err


def test_files_are_read_as_far_as_they_go(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    for path in (tmp_path / "pipe", tmp_path, Path("/dev/zero"), Path("/proc/self/pagemap")):
        with pytest.raises(OSError):  # noqa: PT011 - which one is the system's to say
            files.read(path, 1000)
        with pytest.raises(OSError):  # noqa: PT011
            files.read(path)
    (tmp_path / "a").write_bytes(b"x" * 1001)
    assert files.read(tmp_path / "a") == b"x" * 1001
    assert len(files.read("/proc/self/status", 100_000)) > 100
    with pytest.raises(OSError, match="holds more than 1,000 bytes"):
        files.read(tmp_path / "a", 1000)


# git --------------------------------------------------------------------------------------------


def test_a_pipe_where_git_reads_costs_one_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(git, "_TIMEOUT", 0.5)
    monkeypatch.setattr(git, "_silent", [])
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    (tmp_path / "a.py").write_text("x = 1\n")
    traps_module.run_git(tmp_path, "init", "-q")
    shutil.rmtree(tmp_path / ".git" / "info", ignore_errors=True)
    (tmp_path / ".git" / "info").mkdir()
    os.mkfifo(tmp_path / ".git" / "info" / "exclude")
    asked: list[object] = []
    original = subprocess.run

    def counted(*words: object, **named: object) -> object:
        asked.append(words)
        return original(*words, **named)

    monkeypatch.setattr(subprocess, "run", counted)
    found = project.discover([tmp_path])
    assert [file.relative for file in found.files] == ["a.py"]
    before = len(asked)
    again = project.discover([tmp_path])
    assert len(asked) == before, "git is not asked again where it does not answer"
    assert "does not answer" in again.notes[0]


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() != 0, reason="needs chown")
@pytest.mark.usefixtures("_console")
def test_a_repository_of_another_user(small: Run, tmp_path: Path) -> None:
    root = tmp_path / "theirs"
    shutil.copytree(small.traps.root, root, symlinks=True)
    for here, folders, names in os.walk(root):
        for name in (*folders, *names):
            os.chown(os.path.join(here, name), 65534, 65534, follow_symlinks=False)
    os.chown(root, 65534, 65534)
    done = small("check", str(root))
    assert done.code == 1, done.err
    assert "git cannot read this repository" in done.err
    assert_static(done, small)
    assert b"train.py:2:" in done.out


@pytest.mark.usefixtures("_console")
def test_a_git_file_that_points_to_a_hostile_repository(small: Run, tmp_path: Path) -> None:
    root = tmp_path / "pointing"
    root.mkdir()
    (root / "train.py").write_text(traps_module.CODE)
    hostile = small.traps.root / ".git"
    (root / ".git").write_text(f"gitdir: {hostile}\n")
    done = small("check", str(root))
    assert done.code == 1, done.err
    assert_static(done, small)
    bare = tmp_path / "bare"
    shutil.copytree(hostile, bare / "inner.git", symlinks=True)
    (bare / "inner.git" / "train.py").write_text(traps_module.CODE)
    assert_static(small("check", str(bare)), small)
    assert_static(small("check", ".", cwd=bare / "inner.git"), small)


# The cache --------------------------------------------------------------------------------------


def _hostile_values(canary: Path) -> list[bytes]:
    command = f"touch {canary}"

    class System:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return os.system, (command,)

    class Evaluated:
        def __reduce__(self) -> tuple[Callable[..., object], tuple[object, ...]]:
            return eval, (f"__import__('os').system({command!r})",)

    plain = [
        pickle.dumps(value, protocol=p) for value in (System(), Evaluated()) for p in (0, 2, 5)
    ]
    by_name = [
        b"\x80\x04\x8c\x0aporter.git\x8c\x0esubprocess.run\x93.",
        b"\x80\x04\x8c\x0aporter.git\x8c\x04_run\x93.",
        b"cporter.git\n_run\n(S'x'\ntR.",
        b"cporter.cache\nimportlib\n.",
        b"cporter.main\nmain\n(tR.",
        b"cporter_rules\nx\n.",
    ]
    return [*plain, *by_name]


def test_hostile_values_are_not_unpacked(tmp_path: Path) -> None:
    canary = tmp_path / "canary"
    for blob in _hostile_values(canary):
        with pytest.raises((pickle.UnpicklingError, ImportError, AttributeError)):
            cache.unpacked(blob)
        kept = cache.Cache(tmp_path / "x", {b"key": blob})
        assert kept.get(b"key") is None
        file = tmp_path / "file.porter-cache"
        file.write_bytes(b"porter cache 1\n" + hashlib.sha256(blob).digest() + blob)
        assert cache._entries(file) == {}
    assert not canary.exists()


@pytest.mark.usefixtures("_console")
def test_a_hostile_cache_runs_nothing(small: Run) -> None:
    root = small.traps.root
    first = small("check", str(root))
    place = small.user / ".cache" / "porter"
    kept = list(place.glob("*.porter-cache"))
    assert kept, "without PORTER_CACHE_DIR the cache is the user's own"
    canary = small.traps.canaries / "cache"
    for file in kept:
        entries = cache._entries(file)
        blobs = _hostile_values(canary)
        spoiled = {key: blobs[i % len(blobs)] for i, key in enumerate(entries)}
        payload = pickle.dumps(spoiled, protocol=5)
        file.write_bytes(b"porter cache 1\n" + hashlib.sha256(payload).digest() + payload)
    again = small("check", str(root))
    assert_static(again, small)
    assert again.out == first.out


def test_only_its_own_files_are_cleaned(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(cache.FOLDER, str(tmp_path))
    for name in ("mine.tmp", "notes.txt", "x.porter-cache", ".y.porter-cache.tmp"):
        (tmp_path / name).write_bytes(b"x")
    cache.clean()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["mine.tmp", "notes.txt"]
