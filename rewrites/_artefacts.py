"""What several rules for files other than Python need: file patterns, commands, requirements.

Formats: https://pip.pypa.io/en/stable/reference/requirements-file-format/ ,
https://packaging.python.org/en/latest/specifications/dependency-specifiers/ ,
https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-environments.html
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from porter.around import Around, length
from porter.rule import Category, Finding, Safety
from porter.scalars import Scalar
from porter.shell import Command, Script, ShellProblem, Word, effective, program
from porter.shell import read as read_shell
from porter.text_site import DATA, TextFile, TextSite

from .packages import packages

# Files ------------------------------------------------------------------------------------------

SHELL = (
    "*.sh", "*.bash", "*.zsh", "*.ksh", "*.sbatch", "*.slurm", "*.slrm", "*.pbs", "*.lsf", "*.job",
    "*.env", ".env.*", ".envrc",
)  # fmt: skip
DOCKER = (
    "[Dd]ockerfile", "[Dd]ockerfile[._-]*", "*.[Dd]ockerfile", "[Cc]ontainerfile",
    "[Cc]ontainerfile[._-]*", "*.[Cc]ontainerfile",
)  # fmt: skip
YAML = ("*.yml", "*.yaml")
JSON = ("*.json", "*.jsonc")
TOML = ("*.toml", "Pipfile")
INI = ("setup.cfg", "tox.ini")
REQUIREMENTS = (
    *(
        f"*{word}*.{suffix}"
        for word in ("requirement", "constraint", "reqs")
        for suffix in ("txt", "in")
    ),
    "**/requirements/**/*.txt",
    "**/requirements/**/*.in",
)
MAKE = ("[Mm]akefile", "GNUmakefile", "[Mm]akefile.*", "*.mk")
CMAKE = ("CMakeLists.txt", "*.cmake")
CUDA_SOURCES = ("*.cu", "*.cuh")
CPP = ("*.cpp", "*.cc", "*.cxx", "*.c", "*.h", "*.hh", "*.hpp", "*.hxx", "*.inl")

SETTINGS = (*YAML, *JSON, *TOML)
#: Files that hold commands.
RUNNING = (*SHELL, *DOCKER, *MAKE, *YAML, *JSON, *INI)

#: What a file must hold, in lower case, for any rule of these modules to look at it.
TEXT_WORDS = (
    "cuda", "gpu", "torch", "nvidia", "nccl", "cudnn", "cublas", "nvcc", "nvtx", "nsys", "tensorrt",
    "trtexec", "nvcr.io", "--gres", "gres:", "nvprof", "nvtop", "ncu -", "__global__", "__device__",
    "__host__", "accelerators:", "sparse_attention", "onebit", "zerooneadam", "quantize_training",
    "compression_training", "kernel_inject", "_bnb_", "--nv",
    # Wheels and indexes for CUDA (whl/cu128, +cu121, a variable behind it), sources to compile.
    *(f"{mark}cu{digit}" for mark in "/+_-" for digit in "19$"), "%2bcu", ".cu",
    # Packages that one may install without naming any of these.
    *sorted(
        {n.lower() for r in packages() if r.cuda_bound for n in (*r.pypi, *r.imports)}
        - {"apex", "ray", "jax", "dgl", "numba", "lightning", "taichi"}
    ),
    "nvidia/apex", " apex",
)  # fmt: skip


# Reviews ----------------------------------------------------------------------------------------

_NAMED_CUDA = re.compile(r"(?:^|[/_.-])(?:cuda\d*|nvidia|cu\d{2,3})(?=[/_.-]|\Z)", re.IGNORECASE)
_NAMED_GPU = re.compile(r"(?:^|[/_.-])gpu(?=[/_.-]|\Z)", re.IGNORECASE)
_NAMED_OTHER = re.compile(
    r"(?:^|[/_.-])(?:rocm|hip|amd|npu|ascend|xpu|hpu|gaudi\d?|habana|mps|metal|musa|mlu|tpu|cpu)(?=[/_.-]|\Z)",
    re.IGNORECASE,
)
_IN_CI = re.compile(
    r"(?:^|/)\.(?:github|circleci|buildkite|gitlab)/|(?:^|/)(?:\.gitlab-ci|azure-pipelines[\w.-]*)\.yml\Z"
)


def _for_its_device(site: TextSite, finding: Finding) -> Finding:
    """A file that is named after a device serves that device: nothing of it is changed unasked."""
    if site.path.endswith((".cu", ".cuh")):
        return finding
    named = _NAMED_CUDA.search(site.path) or (site.kind != "shell" and _NAMED_GPU.search(site.path))
    if _NAMED_OTHER.search(site.path) and not named:
        return replace(finding, edits=(), safety=Safety.MANUAL, category=Category.INFORMATION,
                       effort=0, reason=f"in a file for another device; {finding.reason}")  # fmt: skip
    if not finding.edits:
        return finding
    if named:
        reason = "the file is named after CUDA: keep it, and add one for the target"
    elif _IN_CI.search(site.path):
        reason = "the job needs a runner with the target's device first"
    else:
        return finding
    joined = f"{reason}; {finding.reason}" if finding.reason else reason
    return replace(finding, safety=Safety.UNSAFE, reason=joined)


TEXT_REVIEWS = (_for_its_device,)

# Commands ---------------------------------------------------------------------------------------

#: Keys whose text is run by a shell: GitHub, GitLab, CircleCI, Azure, compose, Kubernetes, SkyPilot.
_SHELL_KEYS = frozenset(
    "run script before_script after_script command commands cmd args entrypoint setup bash exec "
    "inline-script test_command postCreateCommand onCreateCommand postStartCommand runArgs "
    "CIBW_BEFORE_BUILD commands_pre commands_post build_commands".split()
)
#: JSON that holds commands; any other may be data with such keys.
EDITOR = re.compile(r"(?:^|/)(?:\.?devcontainer|\.vscode)(?:\.json\Z|/)")
#: Keys whose lists are the words of one command.
_WORD_LISTS = frozenset({"command", "args", "entrypoint", "cmd", "exec", "runArgs"})
_SHELLS = frozenset({"bash", "sh", "zsh", "ksh", "dash"})


@dataclass(frozen=True)
class Run:
    """A command somewhere in a file, behind `sudo`, `env` and their like.

    Args:
        program: what is run, without its folder; empty if variables are only set.
        words: the program and its arguments.
        assignments: the variables set for it.
        captured: whether its output is read.
    """

    program: str
    words: tuple[Word, ...]
    assignments: tuple[Word, ...]
    captured: bool

    @property
    def span(self) -> tuple[int, int]:
        """Where it stands."""
        both = (*self.assignments, *self.words)
        return min(w.start for w in both), max(w.end for w in both)

    @property
    def arguments(self) -> tuple[Word, ...]:
        """What follows the program."""
        return self.words[1:]

    def values(self) -> list[str]:
        """The words without quotes."""
        return [word.value for word in self.words]


def runs(file: TextFile) -> tuple[Run, ...]:
    """Every command of a file, in order.

    Raises:
        TextProblem: the file cannot be read as its kind.
    """
    if "runs" not in file.memo:
        found = [_run(command) for script in scripts(file) for command in script.commands]
        found += [
            run
            for script in scripts(file)
            for command in script.commands
            for word in command.assignments
            for run in _kept_options(file.text, word)
        ]
        file.memo["runs"] = tuple(
            sorted((r for r in found if r.words or r.assignments), key=lambda r: r.span)
        )
    known: tuple[Run, ...] = file.memo["runs"]
    return known


_KEPT = re.compile(r"\w+\+?=([\"'])(\s*(?:\\\r?\n\s*)*-.*)\1\Z", re.DOTALL)


def _kept_options(text: str, word: Word) -> Iterator[Run]:
    """Options that a variable keeps for a later command: `ARGS="--device x --n 1"`."""
    kept = _KEPT.match(word.raw)
    if kept is not None:
        for script in _tolerant(
            text, word.start + kept.start(2), word.start + kept.end(2), folded=True
        ):
            for command in script.commands:
                yield Run("", (word, *command.words), (), False)


def _run(command: Command) -> Run:
    assignments, words = effective(command)
    return Run(program(words), tuple(words), tuple(assignments), command.captured)


def scripts(file: TextFile) -> tuple[Script, ...]:
    """The shell scripts that a file holds, those in strings of `bash -c` included.

    Raises:
        TextProblem: the file cannot be read as its kind.
    """
    if "scripts" not in file.memo:
        outer = list(_outer_scripts(file))
        inner = [s for script in outer for s in _inner_scripts(file, script)]
        file.memo["scripts"] = (*outer, *inner)
    known: tuple[Script, ...] = file.memo["scripts"]
    return known


def _outer_scripts(file: TextFile) -> Iterator[Script]:
    if file.kind == "shell":
        yield file.script()
    elif file.kind == "dockerfile":
        for instruction in file.instructions:
            if instruction.name in ("RUN", "CMD", "ENTRYPOINT"):
                yield file.commands(instruction)
    elif file.kind == "make":
        yield from _recipes(file.text)
    elif file.kind in DATA and (file.kind != "json" or EDITOR.search(file.path)):
        yield from _in_data(file)


def _inner_scripts(file: TextFile, script: Script) -> Iterator[Script]:
    """Strings given to another shell, and here-documents for one."""
    remote = False
    for command in script.commands:
        _, words = effective(command)
        name = program(words)
        remote = remote or name in _SHELLS or name in ("ssh", "sbatch", "srun", "qsub")
        if name in _SHELLS | {"ssh", "su", "eval", "tmux", "screen", "docker", "srun", "pdsh"}:
            for word in words[1:]:
                quoted = word.raw[:1] in "'\"" and word.raw[1:-1] == word.value
                if quoted and re.search(r"\s", word.value):
                    yield from _tolerant(file.text, word.start + 1, word.end - 1)
    for start, end in script.bodies if remote else ():
        yield from _tolerant(file.text, start, end)


def _tolerant(text: str, start: int, end: int, *, folded: bool = False) -> Iterator[Script]:
    """The script in a part of a text; line by line where the whole cannot be followed."""
    try:
        yield read_shell(text, start, end, folded=folded)
    except ShellProblem:
        for line in re.finditer(r"[^\r\n]+", text[start:end]):
            try:
                yield read_shell(text, start + line.start(), start + line.end())
            except ShellProblem:
                continue


_RECIPE = re.compile(r"(?:\A|(?<=[\r\n]))\t[@+-]*((?:\\(?:\r\n|\r|\n)|[^\r\n])*)")
_SHELL_FUNCTION = re.compile(r"\$\(shell[ \t]+((?:[^()\r\n]|\([^()\r\n]*\))*)\)")


def _recipes(text: str) -> Iterator[Script]:
    # Text of the same length in which make's own variables are no substitutions.
    plain = re.sub(r"\$\(([\w.]+)\)", lambda m: "${" + m[1] + "}", text)
    for found in _RECIPE.finditer(text):
        yield from _tolerant(plain, *found.span(1))
    for found in _SHELL_FUNCTION.finditer(text):
        for script in _tolerant(plain, *found.span(1)):
            yield Script([replace(c, captured=True) for c in script.commands])


def _in_data(file: TextFile) -> Iterator[Script]:
    words: dict[tuple[object, ...], list[Word]] = {}
    for scalar in file.scalars:
        if scalar.is_key or scalar.inner is None or scalar.key not in _SHELL_KEYS:
            continue
        start, end = scalar.inner
        if scalar.listed and scalar.key in _WORD_LISTS:
            word = Word(
                scalar.start, scalar.end, file.text[scalar.start : scalar.end], scalar.value
            )
            words.setdefault((scalar.document, *scalar.path[:-1]), []).append(word)
            if not re.search(r"\s", scalar.value.strip()):
                continue
        yield from _tolerant(file.text, start, end, folded=scalar.style == "folded")
    for listed in words.values():
        yield Script([Command((), tuple(listed))])


# Where a place of the text lies -----------------------------------------------------------------


def in_comment(file: TextFile, offset: int) -> bool:
    """Whether an offset lies in a comment, which nothing reads.

    Raises:
        TextProblem: the file cannot be read as its kind.
    """
    if file.kind in ("yaml", "json", "toml"):
        if scalar_at(file, offset) is None:
            return True
    elif file.kind in ("requirements", "ini", "dockerfile", "make", "cmake"):
        mark = _commented_from(file, file.index.position(offset)[0])
        if mark is not None and mark <= offset:
            return True
    comments = _around(
        file, "comments", lambda: [span for script in scripts(file) for span in script.comments]
    )
    return comments.at(offset) is not None


def _commented_from(file: TextFile, line: int) -> int | None:
    """Where a line begins to be a comment."""
    known: dict[int, int | None] = file.memo.setdefault("commented", {})
    if line not in known:
        begin = file.index.line_start(line)
        marked = _COMMENT_LINE if file.kind == "dockerfile" else _COMMENT
        found = marked.match(file.text, begin)
        known[line] = found.end() if found else None
    return known[line]


_COMMENT_LINE = re.compile(r"[^\S\r\n]*#")
_COMMENT = re.compile(r"(?:[^\S\r\n]*|[^\r\n]*?\s)#")


def _around(
    file: TextFile,
    what: str,
    spans: Callable[[], Iterable[tuple[int, int]]],
    rank: Callable[[tuple[int, int]], int] | None = None,
) -> Around:
    """The spans of one sort in a file, to ask which lies around an offset."""
    if what not in file.memo:
        file.memo[what] = Around(spans(), rank) if rank is not None else Around(spans())
    known: Around = file.memo[what]
    return known


def outermost(file: TextFile, offset: int) -> Run | None:
    """The longest command around an offset."""
    found = _around(file, "outermost", lambda: [r.span for r in runs(file)], length).at(offset)
    return None if found is None else runs(file)[found]


#: Programs that only say what they are given.
TALK = frozenset({"echo", "printf", "cat", "log", "info", "warn", "grep", "sed", "awk", "git"})


def is_said(file: TextFile, offset: int) -> bool:
    """Whether an offset lies in a text that is only printed or searched for."""
    run = outermost(file, offset)
    return run is not None and run.program in TALK


def scalar_at(file: TextFile, offset: int) -> Scalar | None:
    """The scalar around an offset."""
    spans = _around(file, "scalars", lambda: [(s.start, s.end) for s in file.scalars])
    found = spans.at(offset)
    return None if found is None else file.scalars[found]


# Requirements -----------------------------------------------------------------------------------

_NAME = re.compile(r"[A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?")
_PIP = frozenset({"pip", "pip3"})
_CONDA = frozenset({"conda", "mamba", "micromamba"})
_SYSTEM = frozenset({"apt-get", "apt", "yum", "dnf", "microdnf", "zypper", "aptitude", "apk"})
_TAKES_VALUE = frozenset(
    "-c -r -e -i -f -t -b -n -p --index-url --extra-index-url --find-links --requirement "
    "--constraint --editable --target --prefix --root --name --channel --index --python "
    "--platform --trusted-host --proxy --cache-dir --src --upgrade-strategy".split()
)


@dataclass(frozen=True)
class Wanted:
    """A package that a file asks for.

    Args:
        name: normalized (lower case, dashes).
        start: offset of the requirement.
        end: offset behind it.
        text: as written.
        installer: "pip", "conda" or "system".
    """

    name: str
    start: int
    end: int
    text: str
    installer: str = "pip"

    @property
    def span(self) -> tuple[int, int]:
        """Where it stands."""
        return self.start, self.end

    @property
    def extras(self) -> tuple[str, ...]:
        """What stands in brackets."""
        found = re.match(r"[\w.-]+\s*\[([^\]]*)\]", self.text)
        return tuple(e.strip().lower() for e in found[1].split(",")) if found else ()


def wanted(file: TextFile) -> tuple[Wanted, ...]:
    """Every package that a file asks for, in order.

    Raises:
        TextProblem: the file cannot be read as its kind.
    """
    if "wanted" not in file.memo:
        file.memo["wanted"] = tuple(sorted(_wanted(file), key=lambda w: w.start))
    known: tuple[Wanted, ...] = file.memo["wanted"]
    return known


def hashed(file: TextFile, item: Wanted) -> bool:
    """Whether a line of a requirements file says which wheels alone may be installed."""
    if file.kind != "requirements":
        return False
    line = re.compile(r"(?:\\(?:\r\n|\r|\n)|[^\r\n])*").match(file.text, item.start)
    return line is not None and "--hash" in line.group()


def _wanted(file: TextFile) -> Iterator[Wanted]:
    if file.kind == "requirements":
        for start, line in file.lines():
            content = re.sub(r"(?:^|\s)#.*", "", line)
            if not content.lstrip().startswith("-") or content.lstrip().startswith("-e git+"):
                yield from _requirement(content, start)
    elif file.kind == "toml":
        for scalar in file.scalars:
            if _in_metadata(scalar) or (scalar.is_key and _poetry(scalar)):
                yield from _requirement(scalar.value, (scalar.inner or (scalar.start, 0))[0])
    elif file.kind == "ini":
        for scalar in file.scalars:
            if not scalar.is_key and (
                scalar.path[0] == "options.extras_require"
                or scalar.key in ("install_requires", "setup_requires", "tests_require", "deps")
            ):
                yield from _requirement(scalar.value, scalar.start)
    elif file.kind == "yaml":
        yield from _conda_environment(file)
    for run in runs(file) if file.kind in ("shell", "dockerfile", "make", *DATA) else ():
        yield from _installed(run)


_REPOSITORY = re.compile(
    r"(?:-e\s+)?(?:[\w.-]+\s*@\s*)?git\+\w+://[\w.@:-]+/[\w.-]+/([\w.-]+?)(?:\.git)?(?:[@#/?].*)?\Z"
)


def _requirement(text: str, start: int, installer: str = "pip") -> Iterator[Wanted]:
    stripped = text.strip()
    cloned = _REPOSITORY.match(stripped)
    if cloned is not None:
        at = start + text.index(stripped)
        name = re.sub(r"[-_.]+", "-", cloned[1]).lower()
        yield Wanted(name, at, at + len(stripped), stripped, installer)
        return
    found = _NAME.match(stripped)
    wheel = re.match(r"(?:[\w./${}-]*/)?([A-Za-z0-9_.]+?)-\d[^/]*\.whl\Z", stripped)
    if wheel is not None and "://" not in stripped:
        at = start + text.index(stripped)
        name = re.sub(r"[-_.]+", "-", wheel[1]).lower()
        yield Wanted(name, at, at + len(stripped), stripped, installer)
        return
    if found is None or re.match(r"[a-z+]+://|[\w.-]*/", stripped):
        return
    if not re.match(r"\s*(?:$|[\[<>=!~;@(,]|\\)", stripped[found.end() :]):
        return
    at = start + text.index(stripped)
    name = re.sub(r"[-_.]+", "-", found.group()).lower()
    yield Wanted(name, at, at + len(stripped), stripped, installer)


def _in_metadata(scalar: Scalar) -> bool:
    """Whether a string of a pyproject.toml is a requirement (PEP 518, 621, 735; uv)."""
    if scalar.is_key or not scalar.listed:
        return False
    match scalar.path[:-1]:
        case ("project", "dependencies") | ("build-system", "requires"):
            return True
        case ("project", "optional-dependencies", _) | ("dependency-groups", _):
            return True
        case (
            "tool",
            "uv",
            "dev-dependencies" | "constraint-dependencies" | "override-dependencies",
        ):
            return True
        case ("tool", "pdm", "dev-dependencies", _):
            return True
        case ("tool", "hatch", "envs", _, "dependencies" | "extra-dependencies"):
            return True
    return False


def _poetry(scalar: Scalar) -> bool:
    """Whether a key of a TOML file is a package (Poetry, Pipenv, pixi)."""
    match scalar.path:
        case ("tool", "poetry", "dependencies" | "dev-dependencies", _):
            return True
        case ("tool", "poetry", "group", _, "dependencies", _):
            return True
        case ("packages" | "dev-packages" | "dependencies" | "pypi-dependencies", _):
            return True
        case ("tool", "pixi", "dependencies" | "pypi-dependencies", _):
            return True
    return False


def _conda_environment(file: TextFile) -> Iterator[Wanted]:
    for scalar in file.scalars:
        if scalar.is_key or scalar.inner is None or not scalar.listed:
            continue
        match scalar.path:
            case ("dependencies", int()):
                yield from _conda(scalar.value, scalar.inner[0])
            case ("dependencies", int(), "pip", int()):
                yield from _requirement(scalar.value, scalar.inner[0])


def _conda(text: str, start: int) -> Iterator[Wanted]:
    """`channel::name=version=build` or `name[version='x']`."""
    channel = re.match(r"[\w./-]+::", text)
    begin = channel.end() if channel else 0
    found = _NAME.match(text, begin)
    if found is not None and not text.startswith("-"):
        name = re.sub(r"[_.]+", "-", found.group()).lower()
        yield Wanted(name, start, start + len(text), text, "conda")


def _installed(run: Run) -> Iterator[Wanted]:
    """What `pip install`, `conda install` and `apt-get install` ask for."""
    name, words = run.program, list(run.words)
    values = [w.value for w in words]
    if re.fullmatch(r"python[\d.]*|\$\{?\w+\}?", name) and values[1:2] == ["-m"]:
        words, name = words[2:], values[2] if len(values) > 2 else ""
    if name == "uv" and values[1:2] == ["pip"]:
        words, name = words[1:], "pip"
    installer = _installer(name, [w.value for w in words])
    if not installer:
        return
    for word in _operands(words[1:]):
        if installer == "conda":
            yield from _conda_word(word)
        elif installer == "system":
            if re.fullmatch(r"[a-z0-9][a-z0-9+.:=~*-]+", word.value):
                package = re.split(r"[=:]", word.value)[0]
                yield Wanted(package, word.start, word.end, word.value, "system")
        elif (inner := _inside(word)) is not None:
            yield from _requirement(word.value, inner)


def _conda_word(word: Word) -> Iterator[Wanted]:
    inner = _inside(word)
    if inner is not None:
        yield from _conda(word.value, inner)


def _installer(name: str, values: Sequence[str]) -> str:
    if "install" in values[1:3] or (name in ("uv", "poetry", "pdm") and "add" in values[1:3]):
        if name in _PIP or name.startswith("pip3.") or name in ("uv", "poetry", "pdm"):
            return "pip"
        if name in _CONDA:
            return "conda"
    if name in _CONDA and "create" in values[1:3]:
        return "conda"
    if name in _SYSTEM and ({"install", "add"} & set(values[1:6])):
        return "system"
    return ""


def _operands(words: Iterable[Word]) -> Iterator[Word]:
    skip = False
    for word in words:
        if skip:
            skip = False
        elif word.value.startswith("-"):
            skip = word.value in _TAKES_VALUE
        elif word.value not in ("install", "add", "create"):
            yield word


def _inside(word: Word) -> int | None:
    """The offset of a word's value in the text, where it is written letter by letter."""
    at = word.raw.find(word.value)
    return word.start + at if at >= 0 else None
