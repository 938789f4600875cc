"""Feed porter made-up and mutated files that are not plain Python, and check what must hold.

    python docs/tools/fuzz_text.py all --cases 2000 --seed 1
    python docs/tools/fuzz_text.py yaml shell --cases 5000 --seed 7 --keep build/fuzz
    python docs/tools/fuzz_text.py yaml --seed 7 --only 123    # one case again

Files are written from grammars, or made of others (the fixtures, the examples of the rules, and
what `--corpus DIR` names) by swapping, repeating and cutting lines and characters. Case N of a kind
depends on the seed, the kind and N alone. What must hold for each case:

- no exception, and no call that takes more than LIMIT seconds of processor time;
- a changed file has a rewritten site on each line that differs, and a second run changes nothing;
- what was valid stays valid: YAML, JSON, TOML and INI load to the same data but for values on such
  lines, requirements parse, `bash -n` accepts the script, cells compile, and outside of the
  sources of cells the bytes of a notebook are the same;
- a file in which something is found would have been looked at in a run;
- a comment silences what it names, where it speaks of it, and nothing else;
- what porter itself reads (configuration, baselines, reports, arguments) is used as it stands or
  refused in one line that names the file.

The exit code is 1 if something did not hold; the cases are kept in the folder of `--keep`.
"""

from __future__ import annotations

import argparse
import ast
import configparser
import contextlib
import copy
import io
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import yaml
from packaging.requirements import InvalidRequirement, Requirement

from porter import analysis, baseline, catalog, config, ignores, own, patch, requirements
from porter.project import Kind
from porter.report import Report, SiteReport, as_data, assemble
from porter.rule import Status
from porter.survey import Seen, View, look_at
from porter.targets import NAMES, Target
from porter.task import FileResult, Plan, Task

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
#: Seconds of processor time that one analysis may take.
LIMIT = 5.0
#: A longer file is not taken as a seed.
LONGEST = 30_000
CATALOG = catalog.load()
ENDS = re.compile(r"\r\n|\r|\n")


class Broken(Exception):
    """A property that does not hold; the text says which."""


class Slow(BaseException):
    """A call that takes too long; not an Exception, so that nothing takes it for one."""


@dataclass
class Tally:
    """What happened to the cases of one kind."""

    cases: int = 0
    with_sites: int = 0
    edits: int = 0
    failures: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0


@dataclass(frozen=True)
class Case:
    """One input: the kind of file that it is, its path, and its bytes."""

    kind: str
    path: str
    data: bytes


@dataclass(frozen=True)
class Found:
    """What one case came to."""

    sites: int = 0
    edits: int = 0


# Bounds -----------------------------------------------------------------------------------------


@contextlib.contextmanager
def bounded(what: str) -> Iterator[None]:
    """Raise `Slow` in code that takes more than LIMIT seconds of processor time."""

    def stop(signum: int, frame: object) -> None:
        raise Slow(f"{what} took more than {LIMIT:g} s")

    before = signal.signal(signal.SIGVTALRM, stop)
    signal.setitimer(signal.ITIMER_VIRTUAL, LIMIT)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
        signal.signal(signal.SIGVTALRM, before)


def analysed(case: Case, target: str, unsafe: bool) -> FileResult:
    """What porter makes of a case."""
    kind: Kind = "notebook" if case.path.endswith(".ipynb") else "other"
    if case.path.endswith(".py"):
        kind = "python"
    plan = Plan(Target(target, min_torch=(2, 10)), unsafe=unsafe)
    with bounded("the analysis"):
        result = analysis.analyse(Task(case.path, case.path, kind, "", data=case.data), plan)
    if result.trace or "internal error" in result.reason:
        last = result.trace.strip().splitlines()[-1] if result.trace else ""
        raise Broken(f"exception: {result.reason} {last}")
    return result


# Files ------------------------------------------------------------------------------------------


def check_file(case: Case, random: Random) -> Found:
    """Every property of one file."""
    target, unsafe = random.choice(NAMES), random.random() < 0.5
    result = analysed(case, target, unsafe)
    done = [s for s in result.sites if s.status is Status.REWRITTEN]
    _seen_in_a_run(case, target, result.sites)
    if result.after is None:
        if done:
            raise Broken(f"rewritten sites, but no change: {done[0].rule}")
        return Found(len(result.sites))
    if not done:
        raise Broken("changed without a rewritten site")
    if result.after == case.data:
        raise Broken("a change that changes nothing")
    _check_lines(case, result.after, done)
    _VALID.get(case.kind, _no_oracle)(case, result.after, done)
    again = analysed(Case(case.kind, case.path, result.after), target, unsafe)
    if again.after is not None:
        raise Broken(
            f"a second run changes the file again ({_first_change(result.after, again.after)})"
        )
    return Found(len(result.sites), len(done))


def _seen_in_a_run(case: Case, target: str, sites: Sequence[SiteReport]) -> None:
    """The look at the bytes must not leave out a file in which something is found."""
    if all(s.rule in own.CODES for s in sites) or own.MADE.match(case.data):
        return
    kind: Kind = "notebook" if case.kind == "notebook" else "other"
    if case.kind == "python":
        kind = "python"
    seen = Seen(case.path, case.path, case.path, kind, case.data)
    if not look_at(seen, View((), (), target)).concerns:
        rules = sorted({s.rule for s in sites} - set(own.CODES))
        raise Broken(f"a run would not look at this file, in which it finds {', '.join(rules)}")


def _first_change(old: bytes, new: bytes) -> str:
    for before, after in zip(old.split(b"\n"), new.split(b"\n"), strict=False):
        if before != after:
            return f"{before[:80]!r} -> {after[:80]!r}"
    return "length"


def _check_lines(case: Case, after: bytes, done: Sequence[SiteReport]) -> None:
    if case.kind == "notebook":
        return  # lines of its JSON are no lines of a site
    old, new = (ENDS.split(d.decode("utf-8-sig")) for d in (case.data, after))
    if len(old) != len(new):
        raise Broken("the number of lines differs")
    covered = {n for s in done for n in range(s.line, s.line + len(ENDS.split(s.before)))}
    for number, (before, now) in enumerate(zip(old, new, strict=True), 1):
        if before != now and number not in covered:
            raise Broken("a line differs that has no site")


def _no_oracle(case: Case, after: bytes, done: Sequence[SiteReport]) -> None:
    pass


def _text(data: bytes) -> str:
    return data.decode("utf-8-sig")


def _valid_yaml(case: Case, after: bytes, done: Sequence[SiteReport]) -> None:
    lines, text = {s.line for s in done}, _text(case.data)
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
    try:
        old = list(yaml.compose_all(text, Loader=loader))
    except (yaml.YAMLError, RecursionError, ValueError):
        return  # an alias without an anchor, say: porter reads its events
    try:
        new = list(yaml.compose_all(_text(after), Loader=loader))
    except yaml.YAMLError as problem:
        raise Broken(f"YAML that does not load any more: {problem}") from None
    waiting = list(zip(old, new, strict=True)) if len(old) == len(new) else [(None, old)]
    met: set[int] = set()
    while waiting:
        a, b = waiting.pop()
        if id(a) in met:
            continue
        met.add(id(a))
        if type(a) is not type(b) or (a is not None and a.tag != b.tag):
            raise Broken("YAML: another structure or tag")
        if isinstance(a, yaml.ScalarNode):
            if a.value != b.value:
                # YAML knows more line ends than editors do: its own numbers may be others.
                first, last = (
                    len(ENDS.findall(text, 0, m.index)) + 1 for m in (a.start_mark, a.end_mark)
                )
                if not lines & set(range(first, last + 1)):
                    raise Broken("YAML: a value differs that has no site")
        elif a is not None:
            if len(a.value) != len(b.value):
                raise Broken("YAML: another number of entries")
            pairs = zip(a.value, b.value, strict=True)
            if isinstance(a, yaml.MappingNode):
                waiting += [x for (k, v), (m, w) in pairs for x in ((k, m), (v, w))]
            else:
                waiting += pairs


def _differences(old: Any, new: Any) -> list[tuple[Any, Any]]:
    """The leaves in which two values differ.

    Raises:
        Broken: they differ in more than that.
    """
    found, waiting = [], [(old, new)]
    while waiting:
        a, b = waiting.pop()
        if type(a) is not type(b):
            raise Broken("data: another type")
        if isinstance(a, dict):
            if len(a) != len(b):
                raise Broken("data: another number of keys")
            for (k, v), (m, w) in zip(a.items(), b.items(), strict=True):
                waiting += [(k, m), (v, w)]
        elif isinstance(a, (list, tuple)):
            if len(a) != len(b):
                raise Broken("data: another number of items")
            waiting += zip(a, b, strict=True)
        elif a != b and a == a:
            found.append((a, b))
    return found


def _loads_json(data: bytes) -> Any:
    return json.loads(_text(data), object_pairs_hook=tuple, parse_int=str, parse_float=str)


def _same_data(
    load: Callable[[bytes], Any], errors: tuple[type[Exception], ...]
) -> Callable[[Case, bytes, Sequence[SiteReport]], None]:
    def check(case: Case, after: bytes, done: Sequence[SiteReport]) -> None:
        try:
            old = load(case.data)
        except errors:
            return
        try:
            new = load(after)
        except errors as problem:
            raise Broken(f"it does not load any more: {problem}") from None
        differing = _differences(old, new)
        lines = [line for s in done for line in (s.before, s.before.encode().decode("utf-8"))]
        for before, _ in differing:
            if not any(part in line for part in str(before).splitlines()[:1] for line in lines):
                if "\\" in "".join(lines):
                    continue  # escapes: the site shows another spelling
                raise Broken(f"a value differs that has no site: {str(before)[:60]!r}")

    return check


def _loads_ini(data: bytes) -> Any:
    read: Any = configparser.RawConfigParser(strict=False, allow_no_value=True)
    read.optionxform = str
    read.read_string("\n".join(ENDS.split(_text(data))))
    return {name: dict(read.items(name)) for name in read.sections()}


def _valid_requirements(case: Case, after: bytes, done: Sequence[SiteReport]) -> None:
    for before, now in zip(_logical(case.data), _logical(after), strict=True):
        try:
            Requirement(before)
        except InvalidRequirement:
            continue
        try:
            Requirement(now)
        except InvalidRequirement as problem:
            raise Broken(f"no requirement any more: {now!r} ({problem})") from None


def _logical(data: bytes) -> list[str]:
    """The lines of a requirements file as pip joins them, without comments and options."""
    joined = re.sub(r"\\(?:\r\n|\r|\n)", "", _text(data))
    plain = (re.sub(r"(?:^|\s+)#.*$", "", line) for line in ENDS.split(joined))
    return [re.split(r"\s--", line)[0].strip() for line in plain]


def _valid_shell(case: Case, after: bytes, done: Sequence[SiteReport]) -> None:
    if _bash(case.data) and not _bash(after):
        raise Broken("bash -n does not accept the script any more")


def _bash(data: bytes) -> bool:
    done = subprocess.run(["bash", "-n"], input=data, capture_output=True, check=False)
    return done.returncode == 0


# Notebooks --------------------------------------------------------------------------------------


class _Json:
    """A reader of its own that tells where the sources of cells stand."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.sources: dict[tuple[Any, ...], tuple[int, int]] = {}
        self.end = self.value(0, ())

    def blank(self, at: int) -> int:
        while at < len(self.text) and self.text[at] in " \t\r\n":
            at += 1
        return at

    def value(self, at: int, path: tuple[Any, ...]) -> int:
        at = start = self.blank(at)
        if self.text[at] in "{[":
            closer, count = "}" if self.text[at] == "{" else "]", 0
            at = self.blank(at + 1)
            while self.text[at] != closer:
                key: Any = count
                if closer == "}":
                    end = self.value(at, ("key",))
                    key = json.loads(self.text[at:end])
                    at = self.blank(end) + 1
                at = self.blank(self.value(at, (*path, key)))
                if self.text[at] == ",":
                    at = self.blank(at + 1)
                count += 1
            at += 1
        elif self.text[at] == '"':
            at += 1
            while self.text[at] != '"':
                at += 2 if self.text[at] == "\\" else 1
            at += 1
        else:
            while at < len(self.text) and self.text[at] not in " \t\r\n,]}":
                at += 1
        if path[-1:] in (("source",), ("input",)) and "cells" in path:
            self.sources[path] = start, at  # of repeated keys the last counts
        return at


def _valid_notebook(case: Case, after: bytes, done: Sequence[SiteReport]) -> None:
    old, new = (d.decode("utf-8") for d in (case.data, after))
    try:
        json.loads(old.removeprefix("\ufeff"), parse_int=str)
    except ValueError:
        return  # what is wrong is in a string that nobody asked for
    try:
        json.loads(new.removeprefix("\ufeff"), parse_int=str)
    except ValueError as problem:
        raise Broken(f"the notebook is no JSON any more: {problem}") from None
    bom = int(old.startswith("\ufeff"))
    before, now = _Json(old[bom:]), _Json(new[bom:])
    if list(before.sources) != list(now.sources) or old[:bom] != new[:bom]:
        raise Broken("other cells")
    if _outside(before) != _outside(now):
        raise Broken("bytes outside of the cells' sources differ")
    for path in before.sources:
        (a, b), (c, d) = before.sources[path], now.sources[path]
        one, two = json.loads(before.text[a:b]), json.loads(now.text[c:d])
        if before.text[a:b] == now.text[c:d]:
            continue
        if one == two or isinstance(one, str) != isinstance(two, str):
            raise Broken("a source is spelled otherwise")
        if _compiles("".join(one)) and not _compiles("".join(two)):
            raise Broken("a cell does not compile any more")


def _outside(read: _Json) -> list[str]:
    pieces, last = [], 0
    for start, end in sorted(read.sources.values()):
        pieces.append(read.text[last:start])
        last = end
    return [*pieces, read.text[last:]]


def _compiles(text: str) -> bool:
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            ast.parse(text)
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return False
    return True


_VALID: dict[str, Callable[[Case, bytes, Sequence[SiteReport]], None]] = {
    "yaml": _valid_yaml,
    "json": _same_data(_loads_json, (ValueError, RecursionError)),
    "toml": _same_data(lambda data: tomllib.loads(_text(data)), (ValueError, RecursionError)),
    "ini": _same_data(_loads_ini, (configparser.Error,)),
    "requirements": _valid_requirements,
    "shell": _valid_shell,
    "notebook": _valid_notebook,
}


# Seeds ------------------------------------------------------------------------------------------

#: What the last part of a path must match for a file to be a seed of a kind.
NAMES_OF = {
    "notebook": r".*\.ipynb",
    "yaml": r".*\.ya?ml",
    "toml": r".*\.toml|Pipfile",
    "json": r".*\.jsonc?",
    "ini": r"setup\.cfg|tox\.ini",
    "requirements": r".*(?:requirement|constraint|reqs).*\.(?:txt|in)",
    "dockerfile": r"Dockerfile.*|.*\.Dockerfile",
    "shell": r".*\.(?:sh|bash|slurm|env|sbatch)|\.env.*",
    "make": r"Makefile.*|.*\.mk",
    "cmake": r"CMakeLists\.txt|.*\.cmake",
    "native": r".*\.(?:cu|cuh|cpp|cc|h|hpp)",
    "prose": r".*\.(?:md|rst|bat|ps1)",
    "lock": r"(?:poetry|uv|pdm|Pipfile)\.lock|pylock.*\.toml|conda-lock\.yml",
}
#: A path for a file of a kind that is made up; some rules look at certain names only.
PATHS = {
    "notebook": ["a.ipynb", "notebooks/Train model.ipynb"],
    "yaml": [
        "conf/train.yaml", "a.yml", ".github/workflows/ci.yml", "docker-compose.yml", "job.yaml",
        "environment.yml", ".gitlab-ci.yml", ".circleci/config.yml", "azure-pipelines.yml",
        "accelerate.yaml", "conda-env.yaml",
    ],
    "toml": ["pyproject.toml", "conf/run.toml", "pixi.toml", "Pipfile"],
    "json": ["ds.json", "config.json", ".vscode/tasks.json", ".devcontainer/devcontainer.json", "a.jsonc"],
    "ini": ["setup.cfg", "tox.ini"],
    "requirements": ["requirements.txt", "requirements/gpu.txt", "requirements-dev.in", "constraints.txt"],
    "dockerfile": ["Dockerfile", "docker/Dockerfile.gpu", "train.Dockerfile"],
    "shell": ["run.sh", "train.slurm", ".env", "scripts/a.bash", "prod.env"],
    "make": ["Makefile", "rules.mk"],
    "cmake": ["CMakeLists.txt", "cmake/cuda.cmake"],
    "native": ["ops/add.cu", "ops/a.cuh", "ops/bind.cpp", "a.h"],
    "prose": ["README.md", "docs/install.rst", "run.bat", "a.ps1", "docs/a.markdown"],
    "lock": ["poetry.lock", "uv.lock", "Pipfile.lock", "pylock.toml", "conda-lock.yml"],
    "python": ["a.py"],
}  # fmt: skip


@dataclass
class Seeds:
    """Files to start from, by kind."""

    files: dict[str, list[Case]] = field(default_factory=dict)

    def add(self, path: str, data: bytes) -> None:
        """Take a file for each kind whose names it has."""
        name = path.rpartition("/")[2]
        for kind, pattern in NAMES_OF.items():
            if re.fullmatch(pattern, name, re.IGNORECASE) and len(data) <= LONGEST:
                self.files.setdefault(kind, []).append(Case(kind, path, data))

    @classmethod
    def collect(cls, folders: Sequence[Path]) -> Seeds:
        """The examples of the rules, the fixtures, and the files of further folders."""
        found = cls()
        for rule in CATALOG.rules:
            for example in rule.examples:
                if example.path:
                    found.add(example.path, example.before.encode())
        for folder in (ROOT / "fixtures", *folders):
            for file in sorted(folder.rglob("*")):
                if file.is_file() and "onnx" not in file.parts and not file.is_symlink():
                    path = file.relative_to(folder).as_posix()
                    path = path.partition("/before/")[2] or path
                    found.add(path, file.read_bytes())
        return found


# Mutations --------------------------------------------------------------------------------------

#: Pieces that mean something in at least one format.
PIECES = [
    "cuda", "cuda:0", "nccl", "gpu", "CUDA_VISIBLE_DEVICES", "CUDA_VISIBLE_DEVICES=0,1", "NCCL_DEBUG",
    "PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True", "nvidia-smi", "nvcc", "torch==2.7.1+cu128",
    "https://download.pytorch.org/whl/cu128", "nvidia/cuda:12.8.0-devel", "flash-attn", "xformers",
    "device", "backend", "MULTI_GPU", "--device cuda", "--gpus all", "torch.cuda.amp.GradScaler",
    "{", "}", "[", "]", "(", ")", "((", "))", "$(", "${", "`", "```", "'", '"', '"""', "'''", "\\",
    "\\\n", "\\\r\n", "#", "# ", " #", "//", "/*", "*/", ":", ": ", "- ", "-", "=", "==", "=>", ",", ";",
    "|", "||", "&&", "&", "<", "<<", "<<EOF\n", "<<-'EOF'\n", "EOF\n", ">", "|-\n", ">\n", "|2\n", "!", "!!str ", "!env ",
    "&a ", "*a", "<<: *a", "---\n", "...\n", "%YAML 1.2\n---\n", "? ", "~", "null", "true", "@", "%", "%%", "?", "\t", " ",
    "\n", "\r", "\r\n", "\n\n", "\0", "\ufeff", "\u2028", "\x85", "\x0b", "\x0c", "\x1b[31m", "\u202e", "é", "\U0001d518", "\u0301",
    "9" * 30, "1e999", "-0", "NaN", "0x1F", "1_000", "RUN ", "FROM a\n", "ONBUILD RUN ", "HEALTHCHECK CMD ", "# escape=`\n",
    "if true; then\n", "fi\n", "case $x in\n", "esac\n", "do\n", "done\n", "define X\n", "endef\n", "__global__ void f(",
    'R"(', ')"', "#include <cuda.h>\n", "PYBIND11_MODULE(a, m) {", 'm.def("f", &f);', "-r other.txt\n", "-e .", "--hash=sha256:" + "a" * 64,
    "# porter: ignore[POR851]", "# porter: TODO[POR851] x", "# noqa: POR101",
]  # fmt: skip


def mutated(random: Random, text: str, others: Sequence[Case]) -> str:
    """A text that differs from another in some places."""
    for _ in range(random.choice((1, 1, 2, 3, 5, 9))):
        lines = text.splitlines(keepends=True) or [""]
        at = random.randrange(len(lines))
        here = random.randrange(len(text) + 1)
        there = min(len(text), here + random.choice((1, 1, 2, 5, 20)))
        match random.randrange(15):
            case 0:
                del lines[at]
                text = "".join(lines)
            case 1:
                lines.insert(at, random.choice(lines))
                text = "".join(lines)
            case 2:
                lines[at] = random.choice((" ", "  ", "\t", "    ")) + lines[at]
                text = "".join(lines)
            case 3:
                lines[at] = lines[at].lstrip()
                text = "".join(lines)
            case 4 | 5 | 6 | 7:
                text = text[:here] + random.choice(PIECES) + text[here:]
            case 8:
                text = text[:here] + text[there:]
            case 9:
                text = text[:here] + text[here:there] * random.choice((2, 3, 30)) + text[there:]
            case 10:
                text = text[:here]
            case 11 if others:
                other = (
                    random.choice(others).data.decode("utf-8", "replace").splitlines(keepends=True)
                )
                start = random.randrange(len(other) + 1)
                lines[at:at] = other[start : start + random.choice((1, 3, 10))]
                text = "".join(lines)
            case 12:
                words = re.findall(r"[\w:./-]+", text) or [""]
                text = text.replace(random.choice(words), random.choice(PIECES), 1)
            case 13:
                text = text.replace("\r\n", "\n").replace("\n", random.choice(("\r\n", "\r", "\n")))
            case _:
                text = text[:here] + text[here:there].swapcase() + text[there:]
    return text


def long(random: Random, text: str) -> str:
    """A text in which something is repeated very often: what is slow shows here."""
    size = random.choice((2_000, 10_000, 30_000))
    piece = "".join(random.choice(PIECES) for _ in range(random.choice((1, 1, 2, 3))))
    if random.random() < 0.3:
        lines = text.splitlines(keepends=True) or ["\n"]
        start = random.randrange(len(lines))
        piece = "".join(lines[start : start + random.choice((1, 2, 5))])
    repeated = (piece or "\n") * (size // max(len(piece), 1))
    here = random.randrange(len(text) + 1)
    return text[:here] + repeated + text[here:]


def encoded(random: Random, text: str) -> bytes:
    """The bytes of a text; sometimes they are not what its name promises."""
    data = text.encode("utf-8", "surrogatepass" if random.random() < 0.5 else "replace")
    chance = random.random()
    if chance < 0.03:
        return b"\xef\xbb\xbf" + data
    if chance < 0.04:
        return text.encode(random.choice(("utf-16", "latin-1", "utf-16-le")), "replace")
    if chance < 0.05:
        at = random.randrange(len(data) + 1)
        return data[:at] + random.randbytes(random.choice((1, 2, 9))) + data[at:]
    return data


def file_case(kind: str, random: Random, seeds: Seeds) -> Case:
    """One file of a kind."""
    known = seeds.files.get(kind, [])
    if known and random.random() < 0.5:
        seed = random.choice(known)
        text, path = seed.data.decode("utf-8", "replace").removeprefix("\ufeff"), seed.path
        if random.random() < 0.1:
            path = random.choice(PATHS[kind])
    else:
        text, path = MADE[kind](random), random.choice(PATHS[kind])
    chance = random.random()
    if chance < 0.6:
        text = mutated(random, text, known)
    elif chance < 0.63:
        text = long(random, text)
    return Case(kind, path, encoded(random, text))


def long_case(kind: str, random: Random, seeds: Seeds) -> Case:
    """A file in which something is repeated until it is large."""
    kind = random.choice(list(MADE))
    base = file_case(kind, random, seeds)
    text = base.data.decode("utf-8", "replace")[:3000]
    pieces = [*PIECES, *COMMANDS, *VALUES, *CELL_LINES]
    piece = "".join(random.choice(pieces) for _ in range(random.choice((1, 1, 1, 2, 2, 3))))
    if random.random() < 0.3:
        piece += "\n"
    if random.random() < 0.2:
        lines = text.splitlines(keepends=True) or ["\n"]
        start = random.randrange(len(lines))
        piece = "".join(lines[start : start + random.choice((1, 2, 5))])
    if kind == "notebook" and random.random() < 0.7:
        source = json.dumps((piece or "x") * (60_000 // max(len(piece), 1)))
        text = f'{{"cells": [{{"cell_type": "code", "source": {source}}}], "metadata": {{}}, "nbformat": 4}}'
        return Case("notebook", "a.ipynb", text.encode("utf-8", "replace"))
    here = random.randrange(len(text) + 1)
    many = (piece or "x") * (random.choice((30_000, 100_000)) // max(len(piece), 1))
    text = text[:here] + many + random.choice(("", "\n", "x", " cuda\n")) + text[here:]
    return Case(kind, base.path, text.encode("utf-8", "replace"))


def check_long(case: Case, random: Random) -> Found:
    """A large file takes time in proportion, whatever is in it."""
    result = analysed(case, random.choice(NAMES), random.random() < 0.5)
    text = case.data.decode("utf-8")
    with bounded("adding comments"):
        ignores.add(text, {1: ["POR851"]}, case.path)
    if re.fullmatch(r"requirements.*\.txt|pyproject\.toml|setup\.cfg|environment\.yml", case.path):
        check_declared(Case("declared", case.path, case.data), random)
    return Found(len(result.sites), sum(s.status is Status.REWRITTEN for s in result.sites))


# Grammars ---------------------------------------------------------------------------------------

Make = Callable[[Random], str]
NEWLINES = ("\n", "\n", "\n", "\n", "\r\n", "\r")


def some(random: Random, choices: Sequence[str], least: int = 0, most: int = 6) -> list[str]:
    """Some of the choices, in any order, repeats included."""
    return [random.choice(choices) for _ in range(random.randint(least, most))]


VALUES = [
    "cuda", "cuda:0", "'cuda'", '"cuda"', '"cuda:1"', "nccl", "'nccl'", "gpu", "[cuda, cpu]", "[0, 1]", "true", "false",
    "~", "12.8", "torch.cuda.amp.GradScaler", "!!str cuda", "!env ${DEVICE}", "&d cuda", "*d", "{device: cuda, n: 1}",
    "${DEVICE:-cuda}", '"c\\u0075da"', "cuda # here", "cuda#not", "MULTI_GPU", "nvidia/cuda:12.8.0-devel-ubuntu22.04", "1e3",
    "nvcr.io/nvidia/pytorch:25.01-py3", "https://download.pytorch.org/whl/cu128", "NVIDIA A100", "0o17", "2026-01-01",
]  # fmt: skip
KEYS = [
    "device", "backend", "dist_backend", "map_location", "accelerator", "image", "driver", "runtime", "run", "script", "command",
    "args", "env", "environment", "name", "value", "use_cuda", "cudnn_benchmark", "distributed_type", "num_machines", "runs-on",
    "tags", "dependencies", "options", "gres", "CUDA_VISIBLE_DEVICES", "NCCL_DEBUG", "'device'", '"device"', "? device", "<<", "index-url",
    "resources", "limits", "nvidia.com/gpu", "nodeSelector", "capabilities", "pip", "comm_backend_name", "fp8", "zero_optimization", "1", "null",
]  # fmt: skip
COMMANDS = [
    "nvidia-smi", "nvidia-smi -L | wc -l", "N=$(nvidia-smi -L | wc -l)", "export CUDA_VISIBLE_DEVICES=0,1", "CUDA_VISIBLE_DEVICES=0 python a.py",
    "python train.py --device cuda:0 --backend nccl", "torchrun --nproc_per_node=2 a.py --dist-backend=nccl", "echo $CUDA_VISIBLE_DEVICES",
    'echo "${CUDA_VISIBLE_DEVICES:-none}"', "pip install torch==2.7.1+cu128 --index-url https://download.pytorch.org/whl/cu128",
    "pip3 install -r requirements.txt flash-attn 'xformers>=0.0.20'", "docker run --rm --gpus all -e NCCL_DEBUG=INFO nvidia/cuda:12.8.0 nvidia-smi",
    "nvcc --version", "apt-get install -y cuda-toolkit-12-8 libnccl2", "srun --gres=gpu:8 python a.py", "module load cuda/12.8", "sudo -E nvidia-smi",
    "bash -c 'nvidia-smi && python a.py --device cuda'", "ssh host \"export CUDA_VISIBLE_DEVICES=0; nvidia-smi\"", "conda install pytorch-cuda=12.1 -c nvidia",
    "unset CUDA_VISIBLE_DEVICES", "ARGS=\"--device cuda --n 1\"", "A=(nvidia-smi --x)", "eval \"nvidia-smi\"", "cat > x <<EOF\nnvidia-smi $(nvidia-smi)\nEOF",
    "cat <<-'E O'\n\tnvidia-smi\n\tE O", "export PATH=/usr/local/cuda/bin:$PATH", "x=$((1 + $(nvidia-smi -L | wc -l)))", "[[ -n $CUDA_VISIBLE_DEVICES ]] && nvidia-smi",
    "echo 'nvidia-smi' # nvidia-smi", "nvidia-smi > /dev/null 2>&1", "nvidia-smi & wait", "diff <(nvidia-smi) b", "python - <<'PY'\nx.cuda()\nPY", "true",
    "${CUDA_HOME}/bin/nvcc a.cu", "env CUDA_VISIBLE_DEVICES=1 nohup python a.py > log &", "PYTORCH_CUDA_ALLOC_CONF='expandable_segments:True' python a.py", "nvidia-smi;nvidia-smi",
    "accelerate launch --multi_gpu a.py", "deepspeed --num_gpus=8 a.py", "time nvidia-smi", "export NCCL_IB_TC=106 NCCL_SOCKET_IFNAME=eth0", "printf '%s' \"$(nvidia-smi)\"",
]  # fmt: skip


def made_yaml(random: Random, depth: int = 0) -> str:
    """A document of mappings, lists and scalars of every style."""
    lines: list[str] = []
    if depth == 0 and random.random() < 0.2:
        lines.append(random.choice(("---", "%YAML 1.1\n---", "# head", "--- # doc")))
    pad = "  " * depth
    for _ in range(random.randint(1, 5)):
        key = random.choice(KEYS)
        chance = random.random()
        if chance < 0.2 and depth < 4:
            lines += [
                f"{pad}{key}:" + random.choice(("", " &a", " # c", " !!map")),
                made_yaml(random, depth + 1).rstrip("\n"),
            ]
        elif chance < 0.4:
            lines.append(f"{pad}{key}:")
            step = random.choice(("", "  "))
            for _ in range(random.randint(1, 4)):
                item = random.choice(
                    (
                        *VALUES,
                        "CUDA_VISIBLE_DEVICES=0",
                        "torch==2.7.1+cu128",
                        "pytorch-cuda=12.1",
                        "conda-forge::cudnn",
                        "pip:",
                        *COMMANDS[:9],
                    )
                )
                lines.append(f"{pad}{step}- {item}".replace("\n", f"\n{pad}{step}  "))
        elif chance < 0.6:
            style = random.choice(("|", ">", "|-", ">-", "|+", "|2", ">1-", "| # c"))
            lines.append(f"{pad}{key}: {style}")
            indent = pad + " " * random.choice((1, 2, 2, 2, 4))
            lines += [indent + part for c in some(random, COMMANDS, 1, 4) for part in c.split("\n")]
        elif chance < 0.7:
            quote = random.choice("'\"")
            lines.append(
                f"{pad}{key}: {quote}{random.choice(COMMANDS).replace(quote, '')}\n{pad}    more{quote}".replace(
                    "\n\n", "\n"
                )
            )
        else:
            comment = random.choice(("", "", "  # cuda here", " #x", "\t# tab"))
            lines.append(f"{pad}{key}: {random.choice(VALUES)}{comment}")
    if depth == 0 and random.random() < 0.15:
        lines += ["---", made_yaml(random, 1)]
    newline = random.choice(NEWLINES) if depth == 0 else "\n"
    return newline.join(lines) + (newline if random.random() < 0.9 else "")


def made_ci(random: Random) -> str:
    """A workflow, a compose file, a job of Kubernetes or an environment of conda."""
    steps = "".join(
        f"      - run: {c}\n" if "\n" not in c and ": " not in c and " #" not in c and c[0] not in "[\"'" else
        "      - run: |\n" + "".join(f"          {p}\n" for p in c.split("\n"))
        for c in some(random, COMMANDS, 1, 4)
    )  # fmt: skip
    match random.randrange(4):
        case 0:
            return f"on: push\njobs:\n  a:\n    runs-on: [self-hosted, gpu]\n    env:\n      CUDA_VISIBLE_DEVICES: 0\n    container:\n      image: nvidia/cuda:12.8.0\n      options: --gpus all\n    strategy:\n      matrix:\n        cuda: ['12.8', \"12.6\"]\n    steps:\n{steps}"
        case 1:
            return f"x-common: &c\n  image: {random.choice(VALUES)}\nservices:\n  a:\n    <<: *c\n    command: {json.dumps(random.choice(COMMANDS).split())}\n    environment:\n      - CUDA_VISIBLE_DEVICES={random.choice('01')}\n      - NCCL_DEBUG\n    deploy: {{resources: {{reservations: {{devices: [{{driver: nvidia, count: 1, capabilities: [gpu]}}]}}}}}}\n"
        case 2:
            return (
                f'apiVersion: batch/v1\nkind: Job\nspec:\n  template:\n    spec:\n      containers:\n      - name: a\n        image: {random.choice(VALUES)}\n        command: [bash, -c, {json.dumps(random.choice(COMMANDS))}]\n        env:\n        - name: CUDA_VISIBLE_DEVICES\n          value: "0"\n        resources:\n          limits: {{nvidia.com/gpu: 1}}\n---\n'
                + made_yaml(random)
            )
    names = [
        "pytorch=2.5=*cuda12*",
        "pytorch-cuda=12.1",
        "nvidia::cuda-toolkit",
        "python=3.11  # c",
        "conda-forge::pytorch[version='2.5',build='*cuda*']",
        "cudnn",
        "'torch'",
    ]
    pip = [
        "torch==2.7.1+cu128",
        "--extra-index-url https://download.pytorch.org/whl/cu128",
        "flash-attn",
        "-r requirements.txt",
        '"xformers"',
    ]
    return (
        "name: a\nchannels: [nvidia, pytorch]\ndependencies:\n"
        + "".join(f"  - {n}\n" for n in some(random, names, 1, 4))
        + "  - pip:\n"
        + "".join(f"    - {p}\n" for p in some(random, pip, 1, 3))
    )


def made_toml(random: Random) -> str:
    """Tables, arrays and strings of every style; a pyproject of one of the usual tools."""
    values = ["'cuda'", '"cuda"', '"cuda:0"', '"""cuda"""', "'''\ncuda'''", '"""\\\n  cuda"""', '"c\\u0075da"', "'nccl'", "true", "1", "9" * 40, "0x1f", "1e9", "inf", "1979-05-27T07:32:00Z",
              "['cuda', 'cpu']", "[\n  'torch==2.7.1+cu128', # c\n  \"xformers\",\n]", "{ version = '2.7.1+cu128', index = 'pytorch' }", "[[1, 2], ['cuda']]", "{}", "[]", '"a\\"cuda"', "''", '""""q""""']  # fmt: skip
    keys = [
        "device",
        "'device'",
        '"device"',
        "a.device",
        "dist_backend",
        "torch",
        "use_cuda",
        "CUDA_VISIBLE_DEVICES",
        "run",
        "cmd",
        "dependencies",
        "requires",
        "url",
        '""',
        "1",
        "accelerator",
        "x-y_z",
    ]
    tables = [
        "",
        "[project]",
        "[project.optional-dependencies]",
        "[tool.poetry.dependencies]",
        "[[tool.uv.index]]",
        "[tool.pixi.tasks]",
        "[dependency-groups]",
        "[build-system]",
        "[a.'b.c'.\"d\"]",
        "[[x]]",
        "[ run ]",
        "[tool.uv.sources]",
        "[env]",
        "[[tool.poetry.source]]",
    ]
    lines: list[str] = []
    for number in range(random.randint(1, 5)):
        lines.append(random.choice(tables))
        for key in random.sample(keys, random.randint(0, 4)):
            equals = random.choice((" = ", "=", "\t=  "))
            lines.append(
                f"{key}{equals}{random.choice(values)}{random.choice(('', '', '  # cuda', '#x'))}"
            )
        if number and random.random() < 0.7:
            lines = [*lines[:-1]]
    newline = random.choice(("\n", "\n", "\r\n"))
    return newline.join(line.replace("\n", newline) for line in lines) + newline


def made_json(random: Random) -> str:
    """Data with the keys of DeepSpeed and of editors."""
    text = json.dumps(_json_value(random, 0), indent=random.choice((None, 1, 2, 4, "\t")), ensure_ascii=random.random() < 0.5,
                      separators=random.choice((None, (",", ":"), (" , ", " : "))))  # fmt: skip
    if random.random() < 0.2:
        text = text.replace("cuda", "c\\u0075da", 1).replace("/", "\\/")
    if random.random() < 0.2:
        text = text.replace(",", ", // cuda\n", 2).replace("}", ",}", 1)
    return text + random.choice(("", "\n", "\r\n", "  "))


def _json_value(random: Random, depth: int) -> Any:
    chance = random.random()
    if depth == 0 or (chance < 0.3 and depth < 5):
        keys = [k.strip("'\"? ") for k in KEYS] + [
            "tasks",
            "optimizer",
            "params",
            "type",
            "train_batch_size",
            "sparse_attention",
            "hostRequirements",
            "gpu",
            "postCreateCommand",
            "runArgs",
            "ké\ud83d\ude00",
        ]
        return {
            random.choice(keys): _json_value(random, depth + 1) for _ in range(random.randint(0, 6))
        }
    if chance < 0.45:
        return [_json_value(random, depth + 1) for _ in range(random.randint(0, 4))]
    return random.choice(
        (
            "cuda",
            "cuda:0",
            "nccl",
            "gpu",
            "MULTI_GPU",
            "OneBitAdam",
            "nvidia-smi",
            'a"b\\c\n',
            "\ud800",
            "é",
            "",
            None,
            True,
            False,
            0,
            -1.5,
            10**40,
            float("nan"),
            float("inf"),
            *COMMANDS[:6],
        )
    )


def made_ini(random: Random) -> str:
    """setup.cfg and tox.ini."""
    deps = [
        "torch==2.7.1+cu128",
        "xformers>=0.0.20 ; python_version > '3'",
        "flash-attn",
        "# c",
        "torch @ https://download.pytorch.org/whl/cu128/torch-2.7.1%2Bcu128-cp311.whl",
        "nvidia-cublas-cu12",
    ]
    rows = [
        "[options]", "install_requires =\n" + "\n".join(f"    {d}" for d in some(random, deps, 0, 4)), "[options.extras_require]", "gpu = cupy-cuda12x; torch",
        "all: xformers", "[testenv]", "deps =\n\ttorch==2.7.1+cu128", "commands =\n    " + random.choice(COMMANDS).replace("\n", "\n    "), "setenv =\n    CUDA_VISIBLE_DEVICES=0", "passenv = CUDA_VISIBLE_DEVICES", "; c", "# cuda", "",
        "[tool:x] # y", "key", "[testenv:{py3,gpu}]", "a = %(b)s", "[", "x = 1\n  # c\n  2",
    ]  # fmt: skip
    newline = random.choice(NEWLINES)
    return newline.join(r.replace("\n", newline) for r in some(random, rows, 1, 9)) + newline


def made_requirements(random: Random) -> str:
    """Everything that pip takes, and more."""
    rows = [
        "torch==2.7.1+cu128", "torch == 2.7.1+cu128 ; python_version >= '3.9'", "torchvision==0.22.1+cu128  # pinned", "torch[opt]==2.7.1+cu128", "TORCH===2.7.1+cu128", "torch>=2.1,!=2.2.*,<3",
        "xformers", "flash_attn>=2 --no-build-isolation", "nvidia-cublas-cu12==12.4.5.8", "cupy-cuda12x", "-r other.txt", "-rrequirements.txt", "-c constraints.txt", "--requirement=requirements.txt", "-e .", "-e git+https://github.com/NVIDIA/apex.git@master#egg=apex",
        "--index-url https://download.pytorch.org/whl/cu128", "--extra-index-url=https://download.pytorch.org/whl/nightly/cu126", "-f https://data.pyg.org/whl/torch-2.7.0+cu128.html", "--find-links ./wheels", "--no-binary :all:", "--hash=sha256:abc",
        "torch==2.7.1+cu128 \\\n    --hash=sha256:" + "a" * 64 + " \\\n    --hash=sha256:" + "b" * 64, "torch \\\n  ==2.7.1+cu128", "torch @ https://download.pytorch.org/whl/cu128/torch-2.7.1%2Bcu128-cp311-cp311-linux_x86_64.whl",
        "git+https://github.com/Dao-AILab/flash-attention.git", "./wheels/torch-2.7.1+cu128-cp311-cp311-linux_x86_64.whl", "# torch==2.7.1+cu128", "", "  ", "\ttorch==2.7.1+cu128", "torch==${TORCH_VERSION}", "torch ; sys_platform == 'linux' and (extra == 'gpu')",
        "numpy<2#not a comment", "pytorch-cuda=12.1", "torch~=2.7.1+cu128", "torch==2.7.1+cu128,<3", "torch==2.7.1+cu128;python_version<'3.13'#c", "torch==" + "9" * 50 + ".0", "torch (==2.7.1+cu128)", "bitsandbytes; platform_system!='Windows'",
    ]  # fmt: skip
    newline = random.choice(NEWLINES)
    return newline.join(r.replace("\n", newline) for r in some(random, rows, 1, 8)) + random.choice(
        (newline, "")
    )


def made_docker(random: Random) -> str:
    """Stages, continued commands, here-documents and the JSON form."""
    escape = random.choice("\\\\\\\\`")
    join = f" {escape}\n  "
    head = [f"# escape={escape}"] if escape == "`" else []
    head += random.choice(
        ([], ["# syntax=docker/dockerfile:1"], ["ARG BASE=nvidia/cuda:12.8.0-devel-ubuntu22.04"])
    )
    command = random.choice(COMMANDS).replace("\n", f"{escape}\n")
    rows = [
        "FROM nvidia/cuda:12.8.0-cudnn-devel-ubuntu22.04 AS base", "FROM ${BASE} as b", "FROM --platform=$BUILDPLATFORM python:3.11", "ARG CUDA_VERSION=12.8", "ENV CUDA_VISIBLE_DEVICES=0 NCCL_DEBUG=INFO", "ENV CUDA_VISIBLE_DEVICES 0,1",
        f"ENV A=1{join}CUDA_VISIBLE_DEVICES=0{join}PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True", f"RUN {command}", f"RUN nvidia-smi &&{join}python a.py --device cuda{join}# c", f"RUN a{join}# a comment\n\n  && pip install torch==2.7.1+cu128{join}--index-url https://download.pytorch.org/whl/cu128",
        'CMD ["nvidia-smi"]', 'CMD ["python", "a.py", "--device", "cuda"]', "ENTRYPOINT nvidia-smi", 'ENTRYPOINT ["bash", "-c", "nvidia-smi"]', "ONBUILD RUN nvidia-smi", "ONBUILD ENV CUDA_VISIBLE_DEVICES=0", "HEALTHCHECK --interval=5s CMD nvidia-smi", "HEALTHCHECK NONE",
        "RUN <<EOF\nnvidia-smi\nexport CUDA_VISIBLE_DEVICES=0\nEOF", "RUN <<-'A' cat > x && <<B bash\n\tnvidia-smi\n\tA\nnvidia-smi\nB", "COPY --from=base /a /b", "COPY <<EOF /x.sh\nnvidia-smi\nEOF", "LABEL a=\"nvidia-smi\" com.nvidia.volumes.needed=nvidia_driver", "SHELL [\"powershell\"]",
        "run --mount=type=cache,target=/x nvidia-smi", "# RUN nvidia-smi", "", "WORKDIR /cuda", "USER root", "RUN [\"nvidia-smi\"]", "RUN [ -x nvidia-smi ]", "RUN echo \"a", "EXPOSE 80", "RUN echo $(nvidia-smi) ${CUDA_VISIBLE_DEVICES}", "STOPSIGNAL 9",
    ]  # fmt: skip
    newline = random.choice(NEWLINES)
    return (
        newline.join(r.replace("\n", newline) for r in [*head, *some(random, rows, 1, 8)]) + newline
    )


def made_shell(random: Random) -> str:
    """Commands within control structures, functions, quotes and substitutions."""
    frames = [
        "{a}", "{a}", "{a} && {b} || {a}", "if {a}; then\n  {b}\nelse\n  {a}\nfi", "for i in 0 1; do\n  {a}\ndone", "while {a}; do {b}; done", "case $1 in\n  cuda) {a} ;;\n  *|x) {b};;\nesac", "f() {{\n  {a}\n}}", "function g {{ {a}; }}",
        "( {a}; {b} )", "{{ {a}; {b}; }} > log 2>&1", "X=$({a})", "X=`{a}`", "echo \"$({a})\"", "echo \"`{a}`\"", "((i++)) && {a}", "[[ $x =~ ^a(b|c)$ ]] && {a}", "cat <<EOF | bash\n{a}\nEOF", "A=(1 2 {a})", "{a} | tee log | grep \"x y\"", "trap '{a}' EXIT",
        "export -n X; {a}", "local device=${{1:-cuda}}", "echo ${{x//cuda/npu}} ${{#x}} ${{x%%:*}}", "coproc {a}", "{a} # {b}", "#SBATCH --gres=gpu:8", "set -euo pipefail", "echo $'a\\'b' \"c'd\" 'e\"f'", "x=${{CUDA_VISIBLE_DEVICES:-$(nvidia-smi -L)}}",
        "select x in a b; do {a}; done", "until {a}; do :; done", "{a} \\\n  --more", "echo $((2 ** 3)) $[1+2]", "! {a}", "a=1 b=$c {a}", "{a};;", "<<< \"x\" {a}", "{a} <<A <<B\nx\nA\ny\nB",
    ]  # fmt: skip
    lines = ["#!/bin/bash"] if random.random() < 0.7 else []
    for frame in some(random, frames, 1, 8):
        lines.append(frame.format(a=random.choice(COMMANDS), b=random.choice(COMMANDS)))
    newline = random.choice(NEWLINES)
    return newline.join(line.replace("\n", newline) for line in lines) + random.choice(
        (newline, "")
    )


def made_make(random: Random) -> str:
    """Rules, recipes and variables."""
    rows = [
        "all: build\n\tnvidia-smi", "N := $(shell nvidia-smi -L | wc -l)", "export CUDA_VISIBLE_DEVICES = 0", "CUDA_VISIBLE_DEVICES ?= 0", "train:\n\t@CUDA_VISIBLE_DEVICES=$(GPU) python a.py \\\n\t  --device cuda\n\t-nvidia-smi", "define X\nnvidia-smi\nendef", "ifeq ($(CUDA),1)\nX = 1\nendif",
        "# nvidia-smi", ".PHONY: all", "%.o: %.cu\n\tnvcc -c $< -o $@", "x: ; nvidia-smi", "include cuda.mk", "A = $(foreach x,$(Y),$(shell nvidia-smi))", "\tnvidia-smi # c", "run:\n\t\"nvidia-smi\n\t'", "N = $$(nvidia-smi)", "t:\n\t" + random.choice(COMMANDS).replace("\n", "\n\t"),
    ]  # fmt: skip
    newline = random.choice(NEWLINES)
    return newline.join(r.replace("\n", newline) for r in some(random, rows, 1, 6)) + newline


def made_cmake(random: Random) -> str:
    """Calls, long brackets and comments."""
    rows = ["find_package(CUDA REQUIRED)", "enable_language(CUDA)", "project(x LANGUAGES CXX CUDA)", "set(X \"a # cuda\")", "#[[ long\ncuda ]]", "#[==[ a ]] ]==]", "[[ raw cuda ]]", "# find_package(CUDA)", "target_link_libraries(a ${CUDA_LIBRARIES} cudart)", "if(WITH_CUDA)\nendif()", "cuda_add_library(x a.cu)", "set(A \"b\\\"c", "message(STATUS [=[cuda]=])", "add_definitions(-DWITH_CUDA)"]  # fmt: skip
    return "\n".join(some(random, rows, 1, 8)) + "\n"


def made_native(random: Random) -> str:
    """C++ and CUDA: kernels, bindings, raw strings and comments."""
    rows = [
        "#include <cuda_runtime.h>", "#include <ATen/cuda/CUDAContext.h>", "__global__ void add(float* a) { a[0] += 1; }", "template <typename T>\n__global__ void __launch_bounds__(256, 2)\nf(T* x) {}", "// __global__ void g() {}", "/* cuda\n *\n */", 'R"(raw __global__ "x)"', 'R"x()" )x"',
        'PYBIND11_MODULE(TORCH_EXTENSION_NAME, m) {\n  m.def("add_one", &add_one, "adds");\n}', 'TORCH_LIBRARY(a, m) { m.def("f(Tensor x) -> Tensor"); }', "cudaMalloc(&p, 8);", "at::cuda::getCurrentCUDAStream();", 'const char* s = "cudaFree\\"";', "char c = '\"';", "x.is_cuda()", "#define A \\\n  cudaFree(p)",
        "f<<<1, 2>>>(a);", "// porter: ignore[POR881] x", "'", '"', 'R"(', "/*", "//\\", "int x = 1'000'000;", "__device__ __host__ int h();", "TORCH_LIBRARY_IMPL(a, CUDA, m) { m.impl(\"f\", f); }",
    ]  # fmt: skip
    newline = random.choice(NEWLINES)
    return newline.join(r.replace("\n", newline) for r in some(random, rows, 1, 9)) + newline


def made_prose(random: Random) -> str:
    """Markdown and reStructuredText with code; scripts for Windows."""
    rows = ["# Use cuda", "```sh\n{}\n```", "~~~~python\nx.cuda()\n~~~~", "````\n```\n{}\n````", "    {}", "- a\n\n  ```\n  {}\n  ```", "```", "`x.cuda()`", "Install::\n\n    {}\n", ".. code-block:: sh\n\n   {}", "set CUDA_VISIBLE_DEVICES=0", "rem nvidia-smi", "<!-- cuda -->", "| cuda | b |", "```{{python}}\n{}\n```  ", "> ```\n> {}\n> ```", "$env:CUDA_VISIBLE_DEVICES = 0"]  # fmt: skip
    newline = random.choice(NEWLINES)
    return (
        newline.join(
            r.format(random.choice(COMMANDS)).replace("\n", newline)
            for r in some(random, rows, 1, 7)
        )
        + newline
    )


def made_lock(random: Random) -> str:
    """Packages as the usual tools pin them."""
    names = [
        "torch",
        "nvidia-cublas-cu12",
        "xformers",
        "flash-attn",
        "NumPy",
        "cupy.cuda12x",
        "a" * 50,
    ]
    rows = [
        f'[[package]]\nname = "{random.choice(names)}"\nversion = "1"\n'
        for _ in range(random.randint(0, 5))
    ]
    rows += [
        f'{{\n    "default": {{\n        "{n}": {{}}\n    }}\n}}' for n in some(random, names, 0, 2)
    ]
    rows += [f"- name: {n}\n  version: 1" for n in some(random, names, 0, 2)]
    random.shuffle(rows)
    return "\n".join(rows) + "\n"


# Notebooks, made --------------------------------------------------------------------------------

CELL_LINES = [
    "import torch", "import torch.distributed as dist", "from torch.cuda import amp", "x = x.cuda()", "x = torch.zeros(3, device='cuda')", 'd = "cuda:0"', "torch.cuda.synchronize()", "if torch.cuda.is_available():\n    y = x.cuda()", "dist.init_process_group('nccl')",
    "!nvidia-smi", "!pip install torch==2.7.1+cu128", "%pip install xformers", "%env CUDA_VISIBLE_DEVICES=0", "out = !nvidia-smi -L", "%%bash\nnvidia-smi\nexport CUDA_VISIBLE_DEVICES=0", "%%time\nx = x.cuda()", "%%writefile a.py\nx.cuda()", "x.cuda?", "?torch.cuda", "%timeit x.cuda()",
    "for i in range(2):\n    !nvidia-smi\n    x.cuda()", "# cuda", "s = '''\n!nvidia-smi\n'''", "é = '\U0001d518\\u00e9'", "x = 1  # \u2028", "", "def f(:", "x.cuda()  # porter: ignore[POR101]", "!echo {x} $y", "!!nvidia-smi", "%%script bash --bg\nnvidia-smi", "torch.cuda.empty_cache();", "a = f'{x.cuda()}'",
    "print(\"tab\\t\")\t", "!nvidia-smi \\\n  -L", "%cd /x", "%load_ext autoreload", "with torch.cuda.amp.autocast():\n    pass", "x = (torch.\n     cuda.is_available())", "\tx.cuda()", "return x.cuda()", "await x", "# %% cell 1", "os.environ['CUDA_VISIBLE_DEVICES'] = '0'", "device = 'cuda'\\\n  ''",
]  # fmt: skip


def made_notebook(random: Random) -> str:
    """A notebook of any format, in any style of JSON, with what editors leave behind."""
    version = random.choice((4, 4, 4, 4, 3, 2, 5, "4", None))
    key = "input" if version in (2, 3) else "source"
    cells = [_cell(random, key) for _ in range(random.randint(0, 5))]
    book: dict[str, Any] = {"cells": cells}
    if version in (2, 3):
        book = {"worksheets": [{"cells": cells[:2], "metadata": {}}, {"cells": cells[2:]}]}
    book["metadata"] = random.choice(
        (
            {},
            {},
            {"kernelspec": {"language": "python", "name": "python3"}},
            {"language_info": {"name": "python", "version": "3.1"}},
            {"kernelspec": {"language": "R"}},
            None,
            3,
            {"kernelspec": None},
            {"x": {"source": "x.cuda()", "cells": [1]}},
        )
    )
    book["nbformat"], book["nbformat_minor"] = version, random.choice((0, 4, 5, 10**25))
    if random.random() < 0.2:
        book["cells2"] = [{"cell_type": "code", "source": "x.cuda()"}]
    items = list(book.items())
    random.shuffle(items)
    return _Writer(random).text(dict(items))


def _cell(random: Random, key: str) -> Any:
    source: Any = random.choice(("\n", "\n", "\n", "\r\n", "\r")).join(
        some(random, CELL_LINES, 0, 5)
    ) + random.choice(("", "\n"))
    chance = random.random()
    if chance < 0.6:
        source = source.splitlines(keepends=True)
    elif chance < 0.7:
        cuts = sorted(random.randrange(len(source) + 1) for _ in range(random.randint(0, 5)))
        source = [source[a:b] for a, b in zip([0, *cuts], [*cuts, len(source)], strict=True)]
    elif chance < 0.74:
        source = random.choice((None, 3, [1], {}, [["x"]], True, [], "", [""]))
    cell: dict[str, Any] = {
        "cell_type": random.choice(("code",) * 8 + ("markdown", "raw", None, "x")),
        key: source,
    }
    extra = {
        "metadata": random.choice(({}, {"collapsed": True}, {"vscode": {"languageId": "shellscript"}}, {"vscode": {"languageId": "python"}}, [], None, {"source": "x.cuda()"})),
        "outputs": random.choice(([], [{"text": ["cuda\n", "\x1b[31m\ud83d\ude00"]}], [{"data": {"image/png": "aGk=" * 20, "source": ["x.cuda()"]}}], None, [{"cells": [{"source": "x"}]}])),
        "execution_count": random.choice((None, 1, 10**400, -1, "1", 1.5, float("nan"))),
        "id": random.choice(("a", 3, "\ud800", '"\\')),
        "language": random.choice(("python", "python", "bash")),
    }  # fmt: skip
    for name in random.sample(sorted(extra), random.randint(0, 5)):
        cell[name] = extra[name]
    if random.random() < 0.03:
        return random.choice((None, 1, "x", [], {}))
    items = list(cell.items())
    random.shuffle(items)
    return dict(items)


@dataclass
class _Writer:
    """JSON in a style of its own: blanks, escapes, repeated keys."""

    random: Random

    def __post_init__(self) -> None:
        self.indent = self.random.choice((None, None, " ", "  ", "\t", "    "))
        self.newline = self.random.choice(("\n", "\n", "\n", "\r\n"))
        self.comma, self.colon = self.random.choice(
            ((",", ": "), (",", ":"), (" ,", " : "), (", ", ": "))
        )
        self.ascii = self.random.random() < 0.5
        self.strange = self.random.choice((0.0, 0.0, 0.0, 0.02, 0.3))
        self.repeat = self.random.choice((0.0, 0.0, 0.0, 0.05))
        self.flat = self.random.random() < 0.2  # lists on one line, as some editors write them

    def text(self, value: Any) -> str:
        ends = ("", "\n", "\n", "\r\n", " \n\n")
        return (
            self.random.choice(("", "", "", "\n "))
            + self.value(value, 0)
            + self.random.choice(ends)
        )

    def value(self, value: Any, depth: int) -> str:
        if isinstance(value, str):
            return self.string(value)
        if isinstance(value, dict):
            pairs = [
                self.string(k) + self.colon + self.value(v, depth + 1) for k, v in value.items()
            ]
            if pairs and self.random.random() < self.repeat:
                pairs.insert(0, pairs[-1].replace("cuda", "cudb"))
            return "{" + self.joined(pairs, depth) + "}"
        if isinstance(value, list):
            return (
                "[" + self.joined([self.value(v, depth + 1) for v in value], depth, self.flat) + "]"
            )
        return json.dumps(value)

    def joined(self, items: list[str], depth: int, flat: bool = False) -> str:
        if self.indent is None or flat or not items:
            return self.comma.join(items)
        line = self.newline + self.indent * (depth + 1)
        return line + (self.comma + line).join(items) + self.newline + self.indent * depth

    def string(self, value: str) -> str:
        return '"' + "".join(self.character(c) for c in value) + '"'

    def character(self, c: str) -> str:
        if self.random.random() < self.strange and ord(c) < 0xD800:
            return f"\\u{ord(c):04x}" if self.random.random() < 0.5 else f"\\u{ord(c):04X}"
        if c == "/" and self.strange:
            return "\\/"
        return json.dumps(c, ensure_ascii=self.ascii or "\ud800" <= c <= "\udfff")[1:-1]


MADE: dict[str, Make] = {
    "notebook": made_notebook,
    "yaml": lambda random: made_ci(random) if random.random() < 0.3 else made_yaml(random),
    "toml": made_toml,
    "json": made_json,
    "ini": made_ini,
    "requirements": made_requirements,
    "dockerfile": made_docker,
    "shell": made_shell,
    "make": made_make,
    "cmake": made_cmake,
    "native": made_native,
    "prose": made_prose,
    "lock": made_lock,
}


# Comments that silence --------------------------------------------------------------------------

COMMENTS = [
    "# porter: ignore[{}]", "# porter: ignore[{}] because", "#porter:ignore[{}]", "# PORTER: Ignore[{}]", "# noqa: {}", "# porter: file-ignore[{}]", "# x # porter: ignore[{}]", "// porter: ignore[{}]", "# porter: ignore [ {} ]",
    "# porter: ignore", "# porter: ignore[]", "# porter: ignore[{}", "# porter: ignore[{},]", "# porter: ignore[,{}]", "# porter: ignore[x{}]", "# porter: ignored[{}]", "# porter: ignore[[{}]]", "# porter ignore[{}]", "# noqa", "# porter: ignore[{}, {}]", "'# porter: ignore[{}]'",
    "# porter: file-ignore", "# porter: ignore({})", "\"# porter: file-ignore[{}]\"", "# porter: ignore[{}]\u2028x", "# porter: ignore[é{}]",
]  # fmt: skip
COMMENTED = [
    "requirements",
    "yaml",
    "toml",
    "shell",
    "dockerfile",
    "make",
    "cmake",
    "native",
    "ini",
    "notebook",
    "json",
]


def check_suppress(case: Case, random: Random) -> Found:
    """Comments in a file silence what they name and nothing else."""
    try:
        text = case.data.decode("utf-8")
    except UnicodeDecodeError:
        return Found()
    target = random.choice(NAMES)
    blind = re.sub(
        r"(?i)porter:(?=\s*(?:file-)?ignore)",
        lambda m: m[0].replace("r", "n", 1).replace("R", "N", 1),
        text,
    )
    blind = re.sub(r"(?i)(#|//)(\s*)noqa", r"\1\2nova", blind)
    seen = analysed(case, target, False)
    without = analysed(Case(case.kind, case.path, blind.encode()), target, False)
    silenced, shown = _keys(without), _keys(seen)
    if shown - silenced:
        raise Broken(f"a comment brings up a finding: {sorted(shown - silenced)[0]}")
    lists = re.findall(r"(?i)ignore\s*\[([^\]\r\n]*)\]", text) + re.findall(
        r"(?i)noqa\s*:\s*([^\r\n]*)", text
    )
    named = {c.upper() for part in lists for c in re.split(r"[\s,;:]+", part)}
    gone = silenced - shown
    for rule, line, *_ in gone:
        if not any(code and rule.startswith(code) for code in named):
            raise Broken(f"{rule} on line {line} is gone, and no comment names it")
    if case.kind == "requirements" and not re.search(r"\\(?:[\r\n]|\Z)", text):
        wanted = _spoken_of(text.removeprefix("\ufeff"))
        for key in silenced:
            meant = any(key[0].startswith(c) for c in (*wanted.get(key[1], ()), *wanted.get(0, ())))
            if meant != (key in gone):
                raise Broken(
                    f"{key[0]} on line {key[1]} is {'shown' if meant else 'gone'}, against what the comments say"
                )
    _check_added(case, random, target)
    return Found(len(seen.sites), len(gone))


def _spoken_of(text: str) -> dict[int, set[str]]:
    """The codes that comments of a requirements file name for each line; 0 is the whole file."""
    found: dict[int, set[str]] = {}
    lines = ENDS.split(text)
    marks = [re.search(r"(?:^|(?<=\s))#", line) for line in lines]
    bare = [
        not (line[: m.start()] if m else line).strip() for line, m in zip(lines, marks, strict=True)
    ]
    for number, (line, mark) in enumerate(zip(lines, marks, strict=True)):
        comment = line[mark.start() :] if mark else ""
        said = re.search(
            r"(?i)(?:#|//)\s*porter:\s*(ignore|file-ignore)\b\s*(?:\[([^\]]*)\])?", comment
        )
        if said:
            names = re.split(r"[,\s]+", (said[2] or "").upper())
        else:
            noqa = re.search(r"(?i)(?:#|//)\s*noqa\s*:\s*([A-Z]+\d+(?:[\s,]+[A-Z]+\d+)*)", comment)
            names = re.split(r"[,\s]+", noqa[1].upper()) if noqa else []
        about = number
        if bare[number]:
            about = next((n for n in range(number + 1, len(lines)) if not bare[n]), number)
        place = 0 if said and said[1].lower() == "file-ignore" else about + 1
        found.setdefault(place, set()).update(n for n in names if re.fullmatch(r"[A-Z]+\d+", n))
    return found


def _keys(result: FileResult) -> Counter[tuple[Any, ...]]:
    sites = (s for s in result.sites if s.rule not in own.CODES)
    return Counter((s.rule, s.line, s.column, s.cell or 0, s.symbol) for s in sites)


def _check_added(case: Case, random: Random, target: str) -> None:
    """What `--add-ignores` writes: the file says the same, and just these findings are gone."""
    if case.kind == "notebook":
        return
    before = analysed(case, target, False)
    sites = [s for s in before.sites if s.rule not in own.CODES]
    if not sites:
        return
    chosen = random.sample(sites, random.randint(1, len(sites)))
    wanted: dict[int, set[str]] = {}
    for site in chosen:
        wanted.setdefault(site.line, set()).add(site.rule)
    text = case.data.decode("utf-8-sig")
    with bounded("adding comments"):
        new = ignores.add(text, wanted, case.path)
    if new is None:
        return
    after = analysed(Case(case.kind, case.path, new.encode()), target, False)
    codes = {code for found in wanted.values() for code in found}
    left = Counter(s.rule for s in after.sites if s.rule not in own.CODES)
    had = Counter(s.rule for s in sites)
    gone = Counter(s.rule for s in sites if s.rule in wanted.get(s.line, ()))
    for rule in had | left:
        if left[rule] > had[rule] - gone[rule]:
            raise Broken(f"{rule} is still there after a comment was added")
        if rule not in codes and left[rule] != had[rule]:
            raise Broken(f"{rule} is gone, which the added comment does not name")
    check = {"yaml": _same_yaml, "json": _same_json, "toml": _same_toml}.get(case.kind)
    if check is not None:
        check(text, new)


def _same_yaml(old: str, new: str) -> None:
    loader = getattr(yaml, "CSafeLoader", yaml.SafeLoader)

    def events(text: str) -> list[tuple[Any, ...]]:
        return [
            (type(e).__name__, getattr(e, "value", None), getattr(e, "tag", None))
            for e in yaml.parse(text, Loader=loader)
        ]

    if events(old) != events(new):
        raise Broken("the added comment changes what the YAML says")


def _same_json(old: str, new: str) -> None:
    pass  # plain JSON has no comments; with comments there is no reader to ask


def _same_toml(old: str, new: str) -> None:
    if repr(tomllib.loads(old)) != repr(tomllib.loads(new)):
        raise Broken("the added comment changes what the TOML says")


def suppress_case(kind: str, random: Random, seeds: Seeds) -> Case:
    """A file with comments of every form in any place."""
    base = file_case(random.choice(COMMENTED), random, seeds)
    lines = base.data.decode("utf-8", "replace").splitlines(keepends=True) or ["\n"]
    if len(lines) > 500:
        lines = lines[:500]
    codes = [
        "POR831",
        "POR832",
        "POR833",
        "POR851",
        "POR852",
        "POR861",
        "POR8",
        "POR",
        "POR101",
        "E501",
        "XYZ123",
        "por852",
        "POR862",
        "POR835",
        "POR881",
        "POR853",
        "POR10",
    ]
    for _ in range(random.randint(1, 4)):
        at = random.randrange(len(lines))
        form = random.choice(COMMENTS)
        comment = form.format(*random.sample(codes, 2))
        if base.path.endswith(".ipynb"):
            comment = json.dumps(comment)[1:-1]
        if base.kind in ("native", "json") and random.random() < 0.7:
            comment = comment.replace("#", "//")
        body = lines[at].rstrip("\r\n")
        end = lines[at][len(body) :]
        if random.random() < 0.6:
            lines[at] = body + random.choice(("  ", " ", "", "\t")) + comment + end
        else:
            pad = re.match(r"[ \t]*", body)
            lines.insert(at, (pad[0] if pad else "") + comment + (end or "\n"))
    return Case(base.kind, base.path, "".join(lines).encode("utf-8", "replace"))


# What porter itself reads -----------------------------------------------------------------------

_NO_TARGET = object()
#: Values for settings as TOML writes them.
TOML_VALUES = [
    '"npu"', '"accelerator"', '"cuda"', '""', "''", '"2.9"', '"auto"', '"2"', '"2.9.1"', '"x"', '"\\u0000"', '"é"', "2.9", "2", "0", "-1", "9" * 30, "9" * 5000, "1e400", "nan", "true", "false", "[]", "{}", '["POR1"]', '["POR1", 2]', "[[]]", "[true]",
    '["**/*.py", "[", "[z-a]", "a[", "\\\\", "!", "#", "", "/", "***", "\\n"]', '{ "tests/*" = ["POR2"] }', '{ "tests/*" = "POR2" }', '{ "[" = ["POR1"] }', "{ a = 1 }", '{ "" = [] }', "2026-01-01", "07:32:00", '"910B"', '"a2"', '"2.7"', "[{}]", '[{ name = "a" }]', '"9999999999999999999.1"', '["NOPE"]', '[""]', '["por101"]',
]  # fmt: skip
SETTINGS = [
    "target",
    "min-torch",
    "select",
    "ignore",
    "exclude",
    "force-exclude",
    "unsafe",
    "torch-npu",
    "hardware",
    "per-file-ignores",
    "onnx",
]
OTHER_KEYS = ["min_torch", "Target", "selct", "", "a.b", "porter", "é", "x" * 300, "0", "unsafe "]


def _wrong(key: str, value: Any) -> bool | None:
    """Whether a value is surely wrong for a setting; None where that is for porter to say."""
    texts = isinstance(value, list) and all(isinstance(v, str) for v in value)
    match key:
        case "target":
            return value not in NAMES
        case "select" | "ignore" | "exclude":
            return not texts or None
        case "force-exclude" | "unsafe":
            return not isinstance(value, bool)
        case "torch-npu" | "hardware" | "min-torch":
            return not isinstance(value, str) or None
        case "per-file-ignores":
            fits = isinstance(value, dict) and all(
                isinstance(v, list) and all(isinstance(c, str) for c in v) for v in value.values()
            )
            return not fits or None
        case "onnx":
            return not (isinstance(value, list) and all(isinstance(v, dict) for v in value)) or None
    return True


def config_case(kind: str, random: Random, seeds: Seeds) -> Case:
    """A configuration of porter, mostly wrong."""
    shared = random.random() < 0.5
    keys = random.sample(SETTINGS, random.randint(0, 3)) + some(
        random, OTHER_KEYS, 0, 1 if random.random() < 0.3 else 0
    )
    lines = [
        f"{k if re.fullmatch(r'[A-Za-z-]+', k) else json.dumps(k)} = {random.choice(TOML_VALUES)}"
        for k in keys
    ]
    if shared:
        lines.insert(
            0,
            random.choice(
                (
                    "[tool.porter]",
                    "[tool.porter]",
                    "[tool.porter]",
                    "[[tool.porter]]",
                    "tool.porter = 1",
                    "[tool]\nporter = 'x'",
                    "[project]\nname = 'porter'",
                    "tool = 3\n# porter",
                )
            ),
        )
    text = "\n".join(lines) + "\n"
    if random.random() < 0.2:
        text = mutated(random, text, ())
    return Case("config", "pyproject.toml" if shared else "porter.toml", encoded(random, text))


def check_config(case: Case, random: Random) -> Found:
    """A configuration is used as it stands, or refused in a line that names file and key."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, case.path)
        file.write_bytes(case.data)
        (Path(folder) / ".git").mkdir()
        with bounded("reading the configuration"):
            try:
                found: config.Settings | str = config.load([Path(folder)])
            except config.ConfigProblem as problem:
                found = problem.message
        _check_settings(case, found)
        if random.random() < 0.1:
            Path(folder, "a.py").write_text("x = 1\n")
            code, _, err = _start(["check", folder, "--no-cache"])
            if isinstance(found, str):
                _one_line(code, err, case.path)
            elif code not in (0, 1, 2):
                raise Broken(f"exit code {code}")
    return Found(int(isinstance(found, str)))


def _check_settings(case: Case, found: config.Settings | str) -> None:
    if isinstance(found, str) and ("\n" in found or case.path not in found):
        raise Broken(f"the message is no line with the file's name: {found!r}")
    try:
        table: Any = tomllib.loads(case.data.decode("utf-8-sig"))
    except (ValueError, RecursionError):
        if not isinstance(found, str) and b"porter" in case.data:
            raise Broken("a malformed configuration is accepted") from None
        if not isinstance(found, str) and case.path == "porter.toml":
            raise Broken("a malformed porter.toml is accepted") from None
        return
    if case.path == "pyproject.toml":
        tool = table.get("tool")
        table = tool.get("porter", {}) if isinstance(tool, dict) else {}
    if not isinstance(table, dict):
        if not isinstance(found, str):
            raise Broken("a configuration that is no table is accepted")
        return
    wrong = [k for k, v in table.items() if _wrong(k, v)]
    if wrong and not isinstance(found, str):
        raise Broken(f"a wrong value of {wrong[0]!r} is accepted")
    if isinstance(found, str) and table and not any(_printed(k) in found for k in table):
        raise Broken(f"the message names no key: {found!r}")


def _printed(key: str) -> str:
    return repr(key)[1:-1]


_MAIN = Case(
    "python",
    "a.py",
    b"import torch\nx = torch.zeros(3).cuda()\ny = x.to('cuda')  # c\nz = torch.cuda.nvtx.mark('a')\n",
)


def _report() -> Report:
    sites: list[SiteReport] = []
    files = []
    from porter.report import FileReport

    for case in (
        _MAIN,
        Case("shell", "run.sh", b"nvidia-smi -L | wc -l\nexport CUDA_VISIBLE_DEVICES=0\n"),
        Case(
            "notebook",
            "b.ipynb",
            json.dumps(
                {
                    "cells": [{"cell_type": "code", "source": ["x.cuda()"]}],
                    "metadata": {},
                    "nbformat": 4,
                }
            ).encode(),
        ),
        Case("python", "c.py", b"def f(:\n cuda"),
    ):
        result = analysed(case, "npu", False)
        sites += result.sites
        files.append(FileReport(case.path, result.status, result.reason, result.hunks))
    return assemble("npu", "2.9", sites, files)


_MADE_ONCE: dict[str, Any] = {}


def once(name: str, make: Callable[[], Any]) -> Any:
    """What is made but once for all cases."""
    if name not in _MADE_ONCE:
        _MADE_ONCE[name] = make()
    return _MADE_ONCE[name]


HOSTILE: list[Any] = [
    None, True, False, 0, 1, -1, 1.5, 10**30, float("nan"), float("inf"), "", "x", "\ud800", "\x1b[2J", "a\nb", "..", "/etc/passwd", "../../x", [], {}, [[]], [None], {"a": 1}, "é" * 50, "<script>alert(1)</script>", "|`*_", "POR101", "mandatory", "left", "9" * 30, {"path": 1}, ["x"],
]  # fmt: skip


def changed_value(random: Random, data: Any) -> Any:
    """Data with some nodes replaced, removed, repeated or put elsewhere."""
    data = copy.deepcopy(data)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        places: list[tuple[Any, Any]] = []
        waiting = [data]
        while waiting:
            node = waiting.pop()
            keys = (
                list(node)
                if isinstance(node, dict)
                else range(len(node))
                if isinstance(node, list)
                else []
            )
            for key in keys:
                places.append((node, key))
                waiting.append(node[key])
        if not places:
            return random.choice(HOSTILE)
        # Rules' texts are most of a report: a choice among names first reaches the rest as often.
        names = sorted({str(k) for _, k in places})
        name = random.choice(names)
        node, key = random.choice([p for p in places if str(p[1]) == name])
        match random.randrange(5):
            case 0:
                del node[key]
            case 1 if isinstance(node, list):
                node.insert(key, copy.deepcopy(random.choice(node)))
            case 2:
                other, its = random.choice(places)
                with contextlib.suppress(KeyError, IndexError, TypeError):
                    node[key] = copy.deepcopy(other[its])
            case _:
                node[key] = copy.deepcopy(random.choice(HOSTILE))
    return data


def _json_bytes(random: Random, data: Any) -> bytes:
    text = json.dumps(data, indent=random.choice((None, 2)))
    chance = random.random()
    if chance < 0.1:
        text = mutated(random, text, ())
    elif chance < 0.12:
        text = "[" * 100_000 + "]" * 100_000
    elif chance < 0.14:
        text = text.replace(": 1", ": " + "9" * 5000, 1)
    return encoded(random, text)


def baseline_case(kind: str, random: Random, seeds: Seeds) -> Case:
    """A baseline, mostly damaged."""
    made = once(
        "baseline", lambda: json.loads(baseline.as_json(baseline.of(once("report", _report), ".")))
    )
    return Case("baseline", "baseline.json", _json_bytes(random, changed_value(random, made)))


def check_baseline(case: Case, random: Random) -> Found:
    """A baseline is right in every type, or refused in a line that names the file."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, case.path)
        file.write_bytes(case.data)
        report = once("report", _report)
        with bounded("reading the baseline"):
            try:
                found = baseline.read(file)
                baseline.as_json(baseline.apply(report, found, ".").kept)
            except baseline.BaselineProblem as problem:
                said = " ".join(str(problem).split())
                if "\n" in said or (case.path not in said and "is about the target" not in said):
                    raise Broken(f"the message is no line with the file's name: {said!r}") from None
                return Found(1)
    if not _right_baseline(json.loads(case.data)):
        raise Broken("a baseline with wrong types is accepted")
    return Found(0, 1)


def _right_baseline(data: Any) -> bool:
    return (
        isinstance(data, dict)
        and data.get("porter-baseline") == 1
        and not isinstance(data.get("porter-baseline"), (bool, float))
        and isinstance(data.get("target"), str)
        and isinstance(data.get("findings"), list)
        and all(
            isinstance(e, dict)
            and all(isinstance(e.get(k), str) for k in ("path", "rule", "content"))
            and isinstance(e.get("count"), int)
            and not isinstance(e.get("count"), bool)
            and e["count"] > 0
            for e in data["findings"]
        )
    )


FORMS = ["text", "markdown", "html", "sarif", "github", "gitlab", "junit", "csv", "rdjson", "json"]


def report_case(kind: str, random: Random, seeds: Seeds) -> Case:
    """A report, mostly damaged."""
    made = once("report data", lambda: as_data(once("report", _report)))
    return Case("report", "report.json", _json_bytes(random, changed_value(random, made)))


def check_report(case: Case, random: Random) -> Found:
    """Every view of a report, and the comparison with a good one, is shown or refused in a line."""
    with tempfile.TemporaryDirectory() as folder:
        file, good = Path(folder, case.path), Path(folder, "good.json")
        file.write_bytes(case.data)
        good.write_text(json.dumps(once("report data", lambda: as_data(once("report", _report)))))
        form = random.choice(FORMS)
        words = ["report", str(file), "--format", form]
        if random.random() < 0.3:
            pair = [str(file), str(good)]
            random.shuffle(pair)
            words = [
                "report",
                "--compare",
                *pair,
                "--format",
                random.choice(("text", "markdown", "json")),
                "--fail-on",
                random.choice(("new", "any", "never")),
            ]
        elif random.random() < 0.1:
            words = ["report", str(good), "--with", str(file), "--format", form]
        code, _, err = _start(words)
        if code == 2:
            _one_line(
                code,
                err,
                "about different targets" if "about different targets" in err else case.path,
            )
        elif code not in (0, 1):
            raise Broken(f"exit code {code}")
        elif "--with" not in words and (wrong := _wrong_type(case.data)):
            raise Broken(f"a report with a wrong type is accepted: {wrong}")
    return Found(int(code == 2), int(code != 2))


def _wrong_type(data: bytes) -> str:
    """What docs/report.schema.json says of the types in a report; empty if they are right."""
    import jsonschema

    schema = once("schema", lambda: json.loads((ROOT / "docs" / "report.schema.json").read_text()))
    validator = once("validator", lambda: jsonschema.Draft202012Validator(schema))
    try:
        value = json.loads(data)
    except (ValueError, RecursionError):
        return "no JSON"
    for error in validator.iter_errors(value):
        if error.validator in ("type", "required"):
            return f"{'.'.join(map(str, error.absolute_path))}: {error.message[:60]}"
    return ""


# The command line -------------------------------------------------------------------------------


def _start(words: Sequence[str], stdin: bytes = b"") -> tuple[int, str, str]:
    """Run the command line in this process; exit code, and what it printed."""
    from porter.cli import start

    out, err = io.BytesIO(), io.BytesIO()
    kept = sys.stdout, sys.stderr, sys.stdin
    given = io.BytesIO(stdin)
    wrapped = [
        io.TextIOWrapper(b, "utf-8", "backslashreplace", write_through=True)
        for b in (out, err, given)
    ]
    sys.stdout, sys.stderr, sys.stdin = wrapped
    try:
        with bounded("the command"):
            code = start(list(words))
    except SystemExit as problem:
        code = problem.code if isinstance(problem.code, int) else 99
    except Exception as problem:
        raise Broken(f"exception: {type(problem).__name__}: {problem}") from problem
    finally:
        sys.stdout, sys.stderr, sys.stdin = kept
    said = err.getvalue().decode("utf-8", "replace")
    if "internal error" in said or "Traceback" in said:
        raise Broken(f"exception: {said.strip().splitlines()[-1][:300]}")
    return code, out.getvalue().decode("utf-8", "replace"), said


def _one_line(code: int, err: str, name: str) -> None:
    """A refusal: exit code 2, and one line that names the file."""
    lines = [line for line in err.splitlines() if line.strip()]
    if code != 2 or len(lines) != 1 or name not in lines[0]:
        raise Broken(f"no refusal in one line that names {name}: exit {code}, {err[:300]!r}")


WORDS = [
    "", "-", ".", "a.py", "run.sh", "b.ipynb", "missing", "a b", "é", "\udcff", "-1", "0", "1", "3", "99999999999999999999", "auto", "npu", "accelerator", "cuda", "2.9", "2.x", "2.7", "9.9", "POR1", "POR101", "POR1,POR8", "NOPE", ",", "*", "[", "!x", "**/*.py", "report.json", "out.html", "out.json", "out.md",
    "HEAD", "HEAD~9", "--", "json", "text", "sarif", "html", "new", "any", "--all", "-x", "=", "a=b", "%s", "{}", "\n", "\t", "a" * 5000, "torch.cuda.Event", "torch.cuda.amp", "baseline.json", "sub", "sub/missing/x", "910B", "a2", "never",
]  # fmt: skip
#: These start other processes or leave this folder; here they get arguments that stop them before.
_HELD = {"rehearse", "onnx"}


def arguments_case(kind: str, random: Random, seeds: Seeds) -> Case:
    """A command line: a command, some of its options, and words."""
    commands = once("commands", _commands)
    name = random.choice([*commands, *(n for n in commands if n not in _HELD)])
    words = [name] if random.random() < 0.97 else some(random, WORDS, 0, 1)
    if name in _HELD:
        return Case(
            "arguments",
            "argv",
            json.dumps(
                [name, random.choice(("--help", "--nope", "-x", "check", "\udcff")), "--help"]
            ).encode(),
        )
    options = commands[name]
    for _ in range(random.randint(0, 5)):
        option, takes = random.choice(options)
        if takes and random.random() < 0.85:
            value = random.choice(WORDS)
            words += [f"{option}={value}"] if random.random() < 0.3 else [option, value]
        else:
            words.append(option)
    for word in (
        some(random, WORDS, 0, 2)
        if random.random() < 0.5
        else [random.choice((".", "a.py", "sub"))]
    ):
        words.insert(random.randint(1, len(words)) if words else 0, word)
    return Case("arguments", "argv", json.dumps(words).encode())


def _commands() -> dict[str, list[tuple[str, bool]]]:
    """The options of each command, and whether each takes a value."""
    import click

    from porter.cli import program

    context = click.Context(program)
    found = {}
    for name in program.list_commands(context):
        command = program.get_command(context, name)
        parameters = command.params if command is not None else []
        found[name] = [
            (option, not getattr(p, "is_flag", False))
            for p in parameters
            if p.param_type_name == "option"
            for option in (*p.opts, *p.secondary_opts)
        ] or [("--help", False)]
    return found


def check_arguments(case: Case, random: Random) -> Found:
    """No command line ends in a traceback, and each refusal says why."""
    words = json.loads(case.data)
    here = Path.cwd()
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / "sub").mkdir()
        (Path(folder) / ".git").mkdir()
        for name, data in (
            ("a.py", _MAIN.data),
            ("run.sh", b"nvidia-smi\n"),
            ("sub/c.py", _MAIN.data),
            ("b.ipynb", b"{}"),
        ):
            Path(folder, name).write_bytes(data)
        Path(folder, "report.json").write_text(
            json.dumps(once("report data", lambda: as_data(once("report", _report))))
        )
        Path(folder, "baseline.json").write_text(
            baseline.as_json(baseline.of(once("report", _report), "."))
        )
        os.environ["PORTER_CACHE_DIR"] = str(Path(folder, "cache"))
        os.chdir(folder)
        try:
            code, out, err = _start(words, _MAIN.data)
        finally:
            os.chdir(here)
    if code not in (0, 1, 2):
        raise Broken(f"exit code {code}")
    if code == 2 and not (err + out).strip():
        raise Broken("exit code 2 without a word")
    return Found(int(code == 2), int(code != 2))


# Requirements of a project ----------------------------------------------------------------------


def declared_case(kind: str, random: Random, seeds: Seeds) -> Case:
    """A file at the top of a project that may ask for torch."""
    base = file_case(random.choice(("toml", "ini", "requirements", "yaml")), random, seeds)
    name = {
        "toml": "pyproject.toml",
        "ini": "setup.cfg",
        "requirements": "requirements.txt",
        "yaml": "environment.yml",
    }[base.kind]
    text = base.data.decode("utf-8", "replace")
    if random.random() < 0.5:
        asked = random.choice(
            (
                'dependencies = ["torch>=2.1"]',
                "  - pytorch>=2.4",
                "torch==2.7.1+cu128",
                "torch<=" + "9" * 5000,
                "torch>=2." + "9" * 5000,
                "torch @ https://x/torch-" + "9" * 5000 + ".1.whl",
                "torch" + " " * 5000 + "x",
                "torch >=, <",
                "install_requires = torch>=2.4",
                "torch>=" + "1." * 3000,
                "torch ==2.*",
                "torch==²",
            )
        )
        lines = text.splitlines()
        lines.insert(random.randrange(len(lines) + 1), asked)
        text = "\n".join(lines)
    return Case("declared", name, text.encode("utf-8", "replace"))


def check_declared(case: Case, random: Random) -> Found:
    """Any metadata of a project gives bounds, or none; never an exception."""
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, case.path)
        file.parent.mkdir(exist_ok=True)
        file.write_bytes(case.data)
        with bounded("reading requirements"):
            bounds = requirements.declared(Path(folder))
            requirements.problems(Path(folder))
            requirements.choose(random.choice(NAMES), "auto", bounds)
    lines = case.data.decode("utf-8-sig", "replace").splitlines()
    for bound in bounds:
        if bound.line > len(lines) or bound.text != lines[bound.line - 1].strip():
            raise Broken("a bound names another line than its own")
    return Found(len(bounds))


# Patches ----------------------------------------------------------------------------------------

PIECES_OF_LINES = [
    b"a\n",
    b"b\n",
    b"\n",
    b"\r\n",
    b"c\r",
    b"\x0c\n",
    b"-x\n",
    b"+y\n",
    b"@@ -1 +1 @@\n",
    b"\\ No newline at end of file\n",
    b"\xff\xfe\n",
    b"--- a/x\n",
    b"d",
    b" \n",
    b"\xe2\x80\xa8\n",
]


def patch_case(kind: str, random: Random, seeds: Seeds) -> Case:
    """Two versions of a file and its path."""
    old = [random.choice(PIECES_OF_LINES) for _ in range(random.choice((0, 1, 3, 10, 40)))]
    new = list(old)
    for _ in range(random.choice((0, 1, 2, 6))):
        at = random.randrange(len(new) + 1)
        new[at : at + random.choice((0, 1, 2))] = [
            random.choice(PIECES_OF_LINES) for _ in range(random.choice((0, 1, 3)))
        ]
    path = random.choice(
        ("a.py", "a b.py", 'q"x.py', "é/ü.py", "tab\t.py", "sub/dir/x.sh", "-x", "back\\slash")
    )
    return Case(
        "patch",
        path,
        json.dumps([b"".join(old).decode("latin-1"), b"".join(new).decode("latin-1")]).encode(),
    )


def check_patch(case: Case, random: Random) -> Found:
    """A patch makes one version of the other; git takes it."""
    old, new = (t.encode("latin-1") for t in json.loads(case.data))
    with bounded("the patch"):
        text = patch.unified(case.path, old, new)
    if bool(text) != (old != new):
        raise Broken("a patch for equal versions, or none for different ones")
    if not text or not old:
        return Found()
    if _patched(old, text) != new:
        raise Broken("the patch makes another version")
    if random.random() < 0.05:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, case.path)
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_bytes(old)
            done = subprocess.run(
                ["git", "-c", "core.autocrlf=false", "apply", "--whitespace=nowarn", "-"],
                input=text,
                cwd=folder,
                capture_output=True,
                check=False,
            )
            if done.returncode or file.read_bytes() != new:
                raise Broken(f"git does not take the patch: {done.stderr[:200]!r}")
    return Found(1, text.count(b"\n@@ "))


def _patched(old: bytes, text: bytes) -> bytes:
    lines = (
        old.splitlines(keepends=True)
        if b"\r" not in old and b"\x0c" not in old
        else re.findall(rb"[^\n]*\n|[^\n]+", old)
    )
    out: list[bytes] = []
    at, rest = 0, re.findall(rb"[^\n]*\n", text)[3:]
    number = 0
    while number < len(rest):
        head = re.match(rb"@@ -(\d+)(?:,(\d+))? \+(\d+)(?:,(\d+))? @@", rest[number])
        if head is None:
            raise Broken("no head of a hunk where one must stand")
        start = int(head[1]) - (0 if head[2] == b"0" else 1)
        out += lines[at:start]
        at, number = start, number + 1
        left, right = int(head[2] or 1), int(head[4] or 1)
        while left or right:
            line = rest[number]
            body = line[1:]
            if rest[number + 1 : number + 2] == [b"\\ No newline at end of file\n"]:
                body, number = body[:-1], number + 1
            if line[:1] in b" -" and lines[at] != body:
                raise Broken("a line of the patch is not the one of the file")
            left -= line[:1] in b" -"
            right -= line[:1] in b" +"
            at += line[:1] in b" -"
            out += [body] if line[:1] in b" +" else []
            number += 1
    return b"".join([*out, *lines[at:]])


# Running ----------------------------------------------------------------------------------------

Maker = Callable[[str, Random, Seeds], Case]
Checker = Callable[[Case, Random], Found]
KINDS: dict[str, tuple[Maker, Checker]] = {
    **dict.fromkeys(MADE, (file_case, check_file)),
    "long": (long_case, check_long),
    "suppress": (suppress_case, check_suppress),
    "config": (config_case, check_config),
    "baseline": (baseline_case, check_baseline),
    "report": (report_case, check_report),
    "arguments": (arguments_case, check_arguments),
    "declared": (declared_case, check_declared),
    "patch": (patch_case, check_patch),
}


def fuzz(
    kind: str, cases: int, seed: int, seeds: Seeds, keep: Path | None = None, first: int = 0
) -> Tally:
    """Run cases `first` to `first + cases` of a kind."""
    make, check = KINDS[kind]
    tally = Tally()
    begin = time.monotonic()
    for number in range(first, first + cases):
        name = f"{seed}:{kind}:{number}"
        case = make(kind, Random(name), seeds)
        tally.cases += 1
        try:
            found = check(case, Random(name + ":check"))
            tally.with_sites += found.sites > 0
            tally.edits += found.edits
        except (Exception, Slow) as problem:
            said = (
                f"{type(problem).__name__}: {problem}"
                if not isinstance(problem, Broken)
                else str(problem)
            )
            said = " ".join(said.split())
            tally.failures[re.sub(r"\d+|'[^']*'|\"[^\"]*\"", "_", said)[:100]] += 1
            if keep is not None:
                _keep(keep, case, name, said)
    tally.seconds = time.monotonic() - begin
    return tally


def _keep(folder: Path, case: Case, name: str, said: str) -> None:
    place = folder / name.replace(":", "-")
    file = place / case.path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_bytes(case.data)
    (place / "WHY").write_text(
        f"{name}\n{said}\n\n{traceback.format_exc()}", errors="backslashreplace"
    )


def main() -> int:
    """Fuzz what is asked for and print a table."""
    parser = argparse.ArgumentParser(description="Fuzz everything that is not plain Python.")
    parser.add_argument(
        "kinds",
        nargs="+",
        metavar="KIND",
        choices=[*KINDS, "all"],
        help=f"all, or of: {', '.join(KINDS)}",
    )
    parser.add_argument(
        "--cases", type=int, default=1000, help="of each kind; of long a tenth (default: 1000)"
    )
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, help="folder for cases that fail")
    parser.add_argument(
        "--corpus",
        type=Path,
        action="append",
        default=[],
        help="folder with further files to start from",
    )
    parser.add_argument("--only", type=int, help="the number of one case")
    options = parser.parse_args()
    seeds = Seeds.collect(options.corpus)
    print(
        f"files to start from: {sum(map(len, seeds.files.values()))}; LIMIT {LIMIT:g} s", flush=True
    )
    print(
        f"{'kind':14}{'cases':>8}{'sites':>8}{'edits':>8}{'failures':>10}{'seed':>6}{'seconds':>9}"
    )
    total = Tally()
    for kind in KINDS if "all" in options.kinds else options.kinds:
        # A case of "long" takes as much time as many others.
        cases = max(options.cases // 10, 1) if kind == "long" else options.cases
        first, cases = (options.only, 1) if options.only is not None else (0, cases)
        found = fuzz(kind, cases, options.seed, seeds, options.keep, first)
        print(_row(kind, found, options.seed), flush=True)
        for said, count in found.failures.most_common():
            print(f"    {count} x {said}", flush=True)
        total.cases += found.cases
        total.with_sites += found.with_sites
        total.edits += found.edits
        total.failures += found.failures
        total.seconds += found.seconds
    print(_row("all", total, options.seed))
    return 1 if total.failures else 0


def _row(kind: str, found: Tally, seed: int) -> str:
    bad = sum(found.failures.values())
    return f"{kind:14}{found.cases:8}{found.with_sites:8}{found.edits:8}{bad:10}{seed:6}{found.seconds:9.0f}"


if __name__ == "__main__":
    sys.exit(main())
