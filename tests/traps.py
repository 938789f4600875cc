"""A repository in which everything that could be run, followed or waited for is a trap.

It is made at test time, in a temporary folder; nothing hostile lies in the project itself. Each
trap that is run leaves a file in a folder of canaries, named after itself.
"""

# Names that are bytes, and folders that no path is short enough for.
# ruff: noqa: PTH109, PTH118, PTH123, PTH208
from __future__ import annotations

import contextlib
import os
import shutil
import socket
import stat
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

#: What porter rewrites; a run that left it as it is would prove nothing.
CODE = "import torch\nx = torch.ones(2).cuda()\n"
#: The same for a file that leaves a canary: it must not fail before what imports it goes on.
LATER = "def f(module):\n    import torch\n    return torch.nn.Module.cuda(module)\n"

#: Modules of porter, of what it uses, of Python itself, and what tools load by their names.
MODULES = (
    "__future__", "click", "yaml", "tomllib", "tomli", "libcst", "typer", "rich", "torch", "torch_npu", "numpy",
    "json", "re", "pathlib", "dataclasses", "contextlib", "enum", "typing", "ast", "pickle",
    "hashlib", "subprocess", "tempfile", "importlib", "encodings", "codecs", "types", "copy",
    "argparse", "difflib", "shutil", "string", "random", "logging", "multiprocessing",
    "concurrent", "signal", "tokenize", "pkgutil", "warnings", "functools", "pkg_resources",
    "setuptools", "sitecustomize", "usercustomize", "conftest", "setup", "noxfile", "tasks",
    "porter_rules", "porter_plugin", "backend", "fabfile", "manage", "_porter", "readline",
)  # fmt: skip

_CONFIG = """\
[build-system]
requires = ["hostile"]
build-backend = "backend"
backend-path = ["."]

[project]
name = "trap"
version = "1"
dependencies = ["torch>=2.9"]

[project.entry-points."porter.rewrites"]
trap = "porter_rules"

[project.scripts]
porter = "porter_plugin:main"

[tool.pytest.ini_options]
addopts = "-p porter_plugin"

[tool.tox]
requires = ["porter_plugin"]

[tool.setuptools.cmdclass]
build = "backend.Build"

[tool.setuptools.dynamic]
version = {attr = "setup.version"}

[tool.mypy]
plugins = ["porter_plugin.py"]
"""

_YAML = {
    "object.yaml": "device: cuda\n"
    "a: !!python/object/apply:os.system ['{command}']\n"
    "b: !!python/object/new:os.system ['{command}']\n"
    "c: !!python/name:porter_plugin.main\nd: !!python/module:porter_plugin\n",
    "laughs.yaml": "device: cuda\na0: &a0 [lol, lol, lol, lol, lol, lol, lol, lol, lol]\n"
    + "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]\n" for i in range(1, 12)),
    "merge.yaml": "device: cuda\nx0: &x0 {a: 1}\n"
    + "".join(f"x{i}: &x{i}\n  <<: [{', '.join([f'*x{i - 1}'] * 9)}]\n" for i in range(1, 12)),
    "self.yaml": "device: cuda\na: &a [*a, *a]\n",
    "deep.yaml": "device: cuda\na: " + "[" * 20_000 + "\n",
}

#: Keys of a repository's configuration that name programs.
PROGRAMS = (
    "core.fsmonitor", "core.pager", "core.sshCommand", "core.editor", "core.askPass",
    "core.gitProxy", "core.alternateRefsCommand", "diff.external", "diff.x.textconv",
    "diff.x.command", "filter.x.clean", "filter.x.smudge", "filter.x.process", "merge.x.driver",
    "credential.helper", "remote.origin.uploadpack", "remote.origin.vcs", "gpg.program",
    "pager.ls-files", "pager.diff-index", "pager.rev-parse", "pager.cat-file", "sequence.editor",
    "interactive.diffFilter", "uploadpack.packObjectsHook", "init.templateDir", "gc.auto",
)  # fmt: skip
HOOKS = (
    "post-index-change", "pre-commit", "post-checkout", "fsmonitor-watchman", "pre-auto-gc",
    "reference-transaction", "post-rewrite", "query-watchman",
)  # fmt: skip


@dataclass
class Traps:
    """The repository in `root`; `canaries` is where traps leave a file.

    Args:
        home: holds the repository, the canaries and all that no run may touch.
        skipped: what this machine could not make.
    """

    home: Path
    skipped: list[str] = field(default_factory=list)

    @property
    def root(self) -> Path:
        """The repository."""
        return self.home / "repo"

    @property
    def canaries(self) -> Path:
        """Where traps leave files."""
        return self.home / "canaries"

    @property
    def outside(self) -> Path:
        """A folder beside the repository, which links lead to."""
        return self.home / "outside"

    def sprung(self) -> list[str]:
        """The traps that were run."""
        return sorted(p.name for p in self.canaries.iterdir())

    def python(self, name: str) -> str:
        """Python code that leaves a canary and then fails as a missing module would."""
        file = str(self.canaries / name.replace("/", "_"))
        return (
            f"import posix as _p\n_p.close(_p.open({file!r}, _p.O_CREAT | _p.O_WRONLY, 0o600))\n"
            "def __getattr__(name):\n    return lambda *a, **k: None\n"
        )

    def shell(self, name: str) -> str:
        """A command that leaves a canary."""
        return f"touch {self.canaries / name.replace('/', '_')}"

    def write(self, name: str, data: str | bytes) -> Path:
        """Put a file into the repository."""
        path = self.root / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data.encode() if isinstance(data, str) else data)
        return path

    def program(self, name: str) -> Path:
        """A program that leaves a canary, outside of the repository."""
        path = self.home / "programs" / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"#!/bin/sh\n{self.shell(name)}\ncat\n")
        path.chmod(0o755)
        return path


def build(home: Path, *, small: bool = False) -> Traps:
    """Make the repository; `small` leaves out what takes long to read."""
    traps = Traps(home)
    for folder in (traps.root, traps.canaries, traps.outside):
        folder.mkdir(parents=True)
    traps.write("train.py", CODE)
    _python(traps)
    _settings(traps)
    _links(traps)
    if not small:
        _data(traps)
        _syntax(traps)
        _names(traps)
        _special(traps)
        _deep(traps)
    repository(traps.root)
    hostile(traps)
    for canary in traps.canaries.iterdir():  # of the preparations
        canary.unlink()
    return traps


def remove(traps: Traps) -> None:
    """Take the repository away, also where paths are too long for shutil."""
    top = traps.root / "deep"
    if top.is_dir():
        here = os.open(top, os.O_RDONLY)
        chain = [here]
        with contextlib.suppress(FileNotFoundError):
            while True:
                chain.append(os.open("d" * 200, os.O_RDONLY, dir_fd=chain[-1]))
        for descriptor in reversed(chain):
            for name in os.listdir(descriptor):
                folder = stat.S_ISDIR(os.lstat(name, dir_fd=descriptor).st_mode)
                (os.rmdir if folder else os.unlink)(name, dir_fd=descriptor)
            os.close(descriptor)
    for folder, _, _ in os.walk(traps.root):
        Path(folder).chmod(0o700)
    shutil.rmtree(traps.root, ignore_errors=True)


def repository(root: Path) -> None:
    """Make `root` a git repository with all its files committed."""
    run_git(root, "init", "-q")
    run_git(root, "add", "-A", "--ignore-errors", check=False)
    run_git(root, "commit", "-qm", "m")


def run_git(folder: Path, *arguments: str, check: bool = True) -> None:
    """Call git, as whoever prepares a repository would."""
    environment = {k: v for k, v in os.environ.items() if not k.startswith("GIT_")}
    environment["GIT_CONFIG_GLOBAL"] = os.devnull
    subprocess.run(
        ["git", "-c", "user.name=n", "-c", "user.email=e@e", "-c", "init.defaultBranch=main",
         "-c", "core.safecrlf=false", *arguments],
        cwd=folder, check=check, capture_output=True, env=environment,
    )  # fmt: skip


def hostile(traps: Traps) -> None:
    """Let the repository's own configuration name programs wherever git allows it."""
    root = traps.root
    (root / ".git/hooks").mkdir(exist_ok=True)
    for hook in HOOKS:
        shutil.copy(traps.program(hook), root / ".git/hooks" / hook)
    for key in PROGRAMS:
        run_git(root, "config", key, str(traps.program(key)))
    for command in ("ls-files", "rev-parse", "diff-index", "cat-file", "check-ignore", "ls-tree"):
        run_git(root, "config", f"alias.{command}", f"!{traps.program('alias-' + command)}")
    run_git(root, "config", "core.hooksPath", str(root / ".git/hooks"))
    run_git(root, "config", "remote.origin.url", f"ext::{traps.program('transport')}")
    run_git(root, "config", "remote.origin.promisor", "true")
    run_git(root, "config", "extensions.partialClone", "origin")
    run_git(root, "config", "protocol.allow", "always")
    run_git(root, "config", "safe.directory", "*")
    included = root / ".git" / "included"
    included.write_text(f"[core]\n\tfsmonitor = {traps.program('included')}\n")
    run_git(root, "config", "include.path", str(included))
    run_git(root, "config", f"includeIf.gitdir:{root}/.path", str(included))
    (root / ".gitattributes").write_text("* filter=x diff=x merge=x\n")


# Parts ------------------------------------------------------------------------------------------


def _python(traps: Traps) -> None:
    for name in MODULES:
        traps.write(f"{name}.py", traps.python(name) + LATER)
    for name in ("libcst", "encodings", "pkg_resources", "yaml", "click"):
        (traps.root / f"{name}.py").unlink()
        traps.write(f"{name}/__init__.py", traps.python(f"{name}-package") + LATER)
    traps.write("trap.pth", f"import os; os.system({traps.shell('pth')!r})\n")
    traps.write("pyvenv.cfg.txt", "home = /nowhere\n")
    for kind in ("dist-info", "egg-info"):
        name = f"trap-1.{kind}"
        traps.write(f"{name}/METADATA", "Metadata-Version: 2.1\nName: trap\nVersion: 1\n")
        traps.write(f"{name}/PKG-INFO", "Metadata-Version: 2.1\nName: trap\nVersion: 1\n")
        traps.write(f"{name}/entry_points.txt", "[porter.rewrites]\ntrap = porter_rules\n")
    compiled = traps.root / "__pycache__"
    compiled.mkdir()
    for suffix in ("cpython-310", "cpython-311", "cpython-312", "cpython-313"):
        (compiled / f"train.{suffix}.pyc").write_bytes(b"\x00" * 16)
    traps.write("script", "#!/usr/bin/env python3\n" + traps.python("script") + CODE)


def _settings(traps: Traps) -> None:
    traps.write("pyproject.toml", _CONFIG)
    traps.write(
        "tox.ini", "[tox]\nrequires = porter_plugin\n[pytest]\naddopts = -p porter_plugin\n"
    )
    traps.write("setup.cfg", "[options]\nversion = attr: setup.version\n"
                "install_requires =\n    torch>=2.9\n")  # fmt: skip
    traps.write("pytest.ini", "[pytest]\naddopts = -p porter_plugin\n")
    traps.write(".pre-commit-config.yaml", _YAML["object.yaml"].format(command="false"))
    for name, text in _YAML.items():
        command = traps.shell(name)
        traps.write(name, text.format(command=command) if "{command}" in text else text)
    traps.write("requirements.txt", "torch>=2.9\n-r ../../../etc/passwd\n-e .\n--pre\n"
                "hostile @ file:///etc/passwd\n")  # fmt: skip
    for name in (".porter", ".porter_cache", ".cache/porter"):
        traps.write(f"{name}/x.porter-cache", b"porter cache 1\n" + bytes(32) + _pickle(traps))


def _pickle(traps: Traps) -> bytes:
    command = traps.shell("pickle")
    return b"cos\nsystem\n(S" + repr(command).encode() + b"\ntR."


def _data(traps: Traps) -> None:
    traps.write("deep.json", '{"device": "cuda", "x": ' + "[" * 100_000 + "]" * 100_000 + "}")
    traps.write("deep.ipynb", '{"cells": ' + "[" * 100_000 + "]" * 100_000 + ', "torch.cuda": 1}')
    traps.write("nest.toml", 'device = "cuda"\nx = ' + "[" * 100_000 + "]" * 100_000 + "\n")
    traps.write("dots.toml", 'device = "cuda"\n' + "a." * 20_000 + "b = 1\n")
    traps.write("inline.toml", 'device = "cuda"\nx = ' + "{a=" * 5_000 + "1" + "}" * 5_000 + "\n")
    traps.write("config.json", '{"device": "cuda:0", "</script><script>alert(1)</script>": 1}')
    cell = {"</script><img src=x onerror=alert(1)>": 1}
    traps.write("cells.ipynb", _notebook("import torch\nx = torch.ones(2).cuda()\n", cell))
    traps.write("magic.ipynb", _notebook(f"!{traps.shell('magic')} # cuda nvidia-smi\n", {}))
    traps.write(
        "run.sh", f"{traps.shell('run.sh')}\nCUDA_VISIBLE_DEVICES=0 $({traps.shell('sub')})\n"
    )
    traps.write("Dockerfile", f"FROM nvidia/cuda:12\nRUN {traps.shell('Dockerfile')}\n")


def _notebook(source: str, metadata: dict[str, object]) -> str:
    import json

    cell = {"cell_type": "code", "execution_count": None, "metadata": metadata, "outputs": [],
            "source": source, "id": "../../../etc/passwd"}  # fmt: skip
    return json.dumps({"cells": [cell], "metadata": {}, "nbformat": 4, "nbformat_minor": 5})


def _syntax(traps: Traps) -> None:
    """Code that is hard to read: deep, long, or both."""
    traps.write("codec.py", "# -*- coding: porter_plugin -*-\n" + CODE)
    for name, text in {
        "parentheses": "x = " + "(" * 100_000 + ")" * 100_000,
        "calls": "x = " + "f(" * 50_000 + ")" * 50_000,
        "signs": "x = " + "-" * 100_000 + "1",
        "attributes": "x = torch" + ".cuda" * 50_000,
        "sums": "x = 1" + " + 1" * 100_000,
        "blocks": "".join(" " * i + "if 1:\n" for i in range(1_000)) + " " * 1_000 + "x = 1",
        "elses": "if a:\n    pass\n" + "elif a:\n    pass\n" * 20_000,
        "strings": "x = (" + '"cuda" ' * 50_000 + ")",
        "line": "x = '" + "cuda " * 200_000 + "'",
        "comment": "# porter: ignore[" + "POR101," * 100_000,
        "blanks": "x = 1" + " " * 1_000_000 + "# porter: ignore",
    }.items():
        traps.write(f"hard/{name}.py", f"import torch\ny = torch.ones(2).cuda()\n{text}\n")


def _names(traps: Traps) -> None:
    """Names that a terminal, a spreadsheet, a browser, a CI system or a shell would act on."""
    for name in ODD_NAMES:
        try:
            traps.write("odd/" + name, CODE)
        except OSError:
            traps.skipped.append(name)
    for name in (b"odd/\xff\xfe.py", b"odd/caf\xe9\n.py", b"odd/" + b"\xe6\x97\xa5" * 84 + b".py"):
        path = os.path.join(os.fsencode(traps.root), name)
        try:
            with open(path, "wb") as file:
                file.write(CODE.encode())
        except OSError:
            traps.skipped.append(os.fsdecode(name))


ODD_NAMES = (
    "new\nline.py", "\x1b[2J\x1b]0;owned\x07red.py", "\x1b]8;;https:evil\x1b\\link.py",
    "-rf.py", "--output=x.py", "-.py", "@file.py", "=cmd|' C'!A0.py", "+1.py", "\t=1.py",
    "::set-env name=X::y.py", "::error file=a,line=1::b.py", "##[add-mask]x.py",
    "##vso[task.setvariable variable=a]b.py", "a,title=b:c.py", "%0A::warning::x.py",
    "<script>alert(1)<:script>.py", "\"><img src=x onerror=alert(1)>.py", "'onload=alert(1).py",
    "[x](javascript:alert(1)).py", "![x](https:evil).py", "`x`.py", "|pipe|.py", "@team.py",
    "</details>".replace("/", ":") + ".py", "$(touch x).py", "`touch x`.py", "a;touch x.py",
    "..py", "...py", ".. .py", "a\\..\\b.py", "\u202egnp.py", "\u2028.py", "\x85.py", "\x7f.py",
    " lead.py", "trail .py", "~.py", "~root.py", "*.py", "?.py", "[a].py", ":(top)a.py", ":!a.py",
    "x" * 252 + ".py", "con.py", "nul.py", "]]>.py", "\x01\x0b\x0c.py", "\ufffe.py", "{0}.py",
    "{path}.py", "%s%n.py", "\r::warning::x.py", "section_start:1:x\r\x1b[0K.py",
)  # fmt: skip


def _links(traps: Traps) -> None:
    root, outside = traps.root, traps.outside
    (outside / "secret.py").write_text(CODE)
    (outside / "hard.py").write_text(CODE)
    (outside / "requirements.txt").write_text("torch==1.0\n")
    (outside / "folder").mkdir()
    (outside / "folder" / "deep.py").write_text(CODE)
    links = root / "links"
    links.mkdir()
    for name, target in {
        "file.py": outside / "secret.py",
        "folder": outside / "folder",
        "relative.py": Path("../../outside/secret.py"),
        "loop.py": Path("loop.py"),
        "one": Path("two"),
        "two": Path("one"),
        "up": Path("../.."),
        "here": Path(),
        "zero.py": Path("/dev/zero"),
        "random.ipynb": Path("/dev/urandom"),
        "stdin.py": Path("/dev/stdin"),
        "tty.py": Path("/dev/tty"),
        "passwd.py": Path("/etc/passwd"),
        "kmsg.py": Path("/proc/kmsg"),
        "mem.py": Path("/proc/self/mem"),
        "pagemap.py": Path("/proc/self/pagemap"),
        "root": Path("/"),
        "gone.py": Path("nowhere.py"),
        "zero.yaml": Path("/dev/zero"),
        "environment.yml": Path("/dev/zero"),
        "Dockerfile": Path("/dev/zero"),
    }.items():
        (links / name).symlink_to(target)
    with contextlib.suppress(OSError):
        os.link(outside / "hard.py", links / "hard.py")
    # Names that porter opens itself, without any search.
    lists = root / "lists"
    lists.mkdir()
    (lists / "a.py").write_text(CODE)
    for name, target in {
        "pyproject.toml": "/proc/self/pagemap",
        "requirements.txt": "/dev/zero",
        "requirements-dev.txt": "/proc/self/pagemap",
        "setup.cfg": "/proc/self/pagemap",
        "environment.yaml": "/dev/urandom",
    }.items():
        (lists / name).symlink_to(target)


def _special(traps: Traps) -> None:
    folder = traps.root / "special"
    folder.mkdir()
    for name in ("pipe.py", "pipe.ipynb", "pipe", "pipe.yaml", "Dockerfile", "requirements.txt",
                 "pyproject.toml", "setup.py", "porter.toml", "environment.yml"):  # fmt: skip
        os.mkfifo(folder / name)
    with contextlib.suppress(OSError):
        here = os.getcwd()
        os.chdir(folder)
        try:
            with socket.socket(socket.AF_UNIX) as made:
                made.bind("socket.py")
        finally:
            os.chdir(here)
    for name, major, minor in (("zero.py", 1, 5), ("random.yaml", 1, 9), ("tty.py", 5, 0)):
        try:
            os.mknod(folder / name, 0o666 | stat.S_IFCHR, os.makedev(major, minor))
        except OSError:
            traps.skipped.append(name)
    sealed = traps.write("sealed/inner.py", CODE).parent
    traps.write("sealed.py", CODE).chmod(0)
    sealed.chmod(0)


def _deep(traps: Traps) -> None:
    """Folders whose path is longer than the system takes."""
    here = os.open(traps.root, os.O_RDONLY)
    for name in ("deep", *["d" * 200] * 30):
        os.mkdir(name, dir_fd=here)
        inner = os.open(name, os.O_RDONLY, dir_fd=here)
        os.close(here)
        here = inner
    descriptor = os.open("deepest.py", os.O_CREAT | os.O_WRONLY, dir_fd=here)
    os.write(descriptor, CODE.encode())
    os.close(descriptor)
    os.close(here)


def tree(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Every file below a folder: its mode, and its content if it is a regular one."""
    found = {}
    for path in sorted(_below(folder)):
        mode = os.lstat(path).st_mode
        data = path.read_bytes() if stat.S_ISREG(mode) and mode & 0o400 else b""
        found[str(path.relative_to(folder))] = (mode, data)
    return found


def _below(folder: Path) -> Iterator[Path]:
    for here, folders, files in os.walk(folder):
        folders[:] = [name for name in folders if name not in {".git", "deep"}]
        for name in files:
            yield Path(here, name)
