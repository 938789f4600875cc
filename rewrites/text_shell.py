"""POR85x: shell scripts and CI: variables, nvidia-smi, toolkits, options that name CUDA, runners."""

from __future__ import annotations

import bisect
import re
from collections.abc import Iterator
from dataclasses import dataclass

from porter.rule import Category, Edit, Finding, Safety, change, keep
from porter.scalars import Scalar
from porter.shell import options
from porter.targets import Target, version
from porter.text_site import TextSite, text_rule

from . import _artefacts as art
from .environment import FAMILY as NAMES
from .environment import Variable, variables

FAMILY = "shell scripts and CI"
TOPIC = "environment"

_WITH_VARIABLES = (*art.SHELL, *art.DOCKER, *art.MAKE, *art.YAML, *art.JSON, *art.TOML, *art.INI)
_WORKFLOWS = (
    "**/.github/workflows/*.yml", "**/.github/workflows/*.yaml", "**/.github/actions/**/*.yml",
    ".gitlab-ci.yml", "**/.gitlab/**/*.yml", "**/.circleci/*.yml", "azure-pipelines*.yml",
    "**/.azure*/**/*.yml", "**/.buildkite/**/*.yml", "buildspec*.yml", "action.yml",
)  # fmt: skip

# POR851 -----------------------------------------------------------------------------------------

_NAME = re.compile(rf"(?<![\w$])(?<!\$\{{){NAMES.pattern}(?!\w)|(?<=\$)(?:{NAMES.pattern})(?!\w)|(?<=\$\{{)(?:{NAMES.pattern})(?!\w)")  # fmt: skip
_DECLARES = frozenset({"export", "unset", "declare", "local", "readonly", "typeset", "setenv", "echo", "printf"})  # fmt: skip
_PASSED = re.compile(r"(?:-e|-x|--env|--build-arg|--export|--genv|-genv)(?:=|\s+)?(?:[\w=,$]*,)?\Z")


@dataclass(frozen=True)
class Place:
    """One place in which a variable is named.

    Args:
        start: where the name begins.
        certain: whether it surely names the environment's variable.
        value: what is written to it; None where nothing is, or where it is expanded.
    """

    start: int
    certain: bool
    value: str | None = None


@text_rule(
    "POR851",
    "cuda-environment-in-file",
    files=_WITH_VARIABLES,
    category=Category.POTENTIAL,
    examples=[
        change(
            '#!/bin/bash\nexport CUDA_VISIBLE_DEVICES=0,1  # two\nNCCL_SOCKET_IFNAME=eth0 python a.py --n "${CUDA_VISIBLE_DEVICES}"\n',
            None,
            '#!/bin/bash\nexport ASCEND_RT_VISIBLE_DEVICES=0,1  # two\nHCCL_SOCKET_IFNAME=eth0 python a.py --n "${ASCEND_RT_VISIBLE_DEVICES}"\n',
            path="run.sh",
        ),
        change(
            "services:\n  a:\n    environment:\n      # which\n      - CUDA_VISIBLE_DEVICES=0\n      - A=1\n",
            None,
            "services:\n  a:\n    environment:\n      # which\n      - ASCEND_RT_VISIBLE_DEVICES=0\n      - A=1\n",
            path="compose.yml",
        ),
        change(
            "FROM a\nENV PYTORCH_CUDA_ALLOC_CONF=expandable_segments:True \\\n    A=1\n",
            "FROM a\nENV PYTORCH_ALLOC_CONF=expandable_segments:True \\\n    A=1\n",
            "FROM a\nENV PYTORCH_NPU_ALLOC_CONF=expandable_segments:True \\\n    A=1\n",
            path="Dockerfile",
            min_torch="2.10",
        ),
        change(
            "export NCCL_IB_TC=106\n",
            None,
            "export HCCL_RDMA_TC=106\n",
            path="a.sh",
            unsafe=True,
        ),
        keep("export NCCL_IB_TC=106\n", path="a.sh", finding=True),
        keep("CUDA_VISIBLE_DEVICES= python a.py\n", path="a.sh", finding=True),
        keep("# export CUDA_VISIBLE_DEVICES=0\n", path="a.sh", finding=False),
        keep(
            "export CUDA_VISIBLE_DEVICES=0\nfoo CUDA_VISIBLE_DEVICES\n",
            path="a.sh",
            finding=True,
            note="all occurrences in a file are renamed, or none",
        ),
    ],
)
def cuda_environment_in_file(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for variables such as `CUDA_VISIBLE_DEVICES` in scripts, images, CI and configurations.

    ## Why it matters
    Other devices read other variables: the setting silently has no effect there.

    ## What it does
    As POR701 does in Python. npu: the variable that Ascend reads with the same meaning, in every
    place of the file or in none. accelerator: only `PYTORCH_CUDA_ALLOC_CONF`, which all devices
    read as `PYTORCH_ALLOC_CONF` since torch 2.10. What is left is named once for each file.

    ## Safety
    Renamed only where each place is an assignment, an expansion, an `export` or the key of a
    mapping, and where the value has a counterpart. Comments stay. Unsafe where the range of values
    was not compared.

    ## References
    - https://docs.pytorch.org/docs/stable/torch_environment_variables.html
    - https://github.com/Ascend/pytorch/tree/master/docs/zh/api/environment_variable
    - rewrites/environment.toml names the source of each row
    """
    found: dict[str, list[Place]] = {}
    for match in _NAME.finditer(site.text):
        if art.in_comment(site.file, match.start()):
            continue
        place = _place(site, match.group(), match.start())
        if place is not None:
            found.setdefault(match.group(), []).append(place)
    for name, places in found.items():
        known = variables().get(name)
        if known is not None:
            yield from _variable(site, target, known, places)
        elif any(p.certain for p in places) and not re.search(rf"\bARG\s+{name}\b", site.text):
            yield _once(site, name, places, "read by CUDA's side only", Category.INFORMATION)


def _place(site: TextSite, name: str, start: int) -> Place | None:
    """How a variable is named at a place; None if the place is not about the variable."""
    text, end = site.text, start + len(name)
    if text[start - 1 : start] == "$" or text[max(start - 2, 0) : start] == "${":
        return Place(start, True)
    scalar = art.scalar_at(site.file, start)
    if scalar is not None and (scalar.is_key or scalar.value == name):
        if scalar.inner is None or scalar.value != name:
            return Place(start, False)
        if scalar.is_key:
            return Place(start, True, _value_of(site, scalar.path, scalar.start))
        return Place(start, scalar.key == "name" and scalar.below("env"))
    run = art.outermost(site.file, start)
    if run is None:
        return _outside_commands(site, name, start, scalar is not None)
    before = text[max(start - 80, 0) : start]
    assigned = text.startswith("=", end) and not re.search(r"[\w./-]\Z", before)
    if assigned and (run.program not in art.TALK):
        return Place(start, True, _written(text, end + 1))
    certain = run.program in _DECLARES or bool(_PASSED.search(before))
    return Place(start, certain)


def _outside_commands(site: TextSite, name: str, start: int, in_data: bool) -> Place | None:
    text, end = site.text, start + len(name)
    assigned = text.startswith("=", end)
    if site.kind == "dockerfile":
        inside = next((i for i in site.file.instructions if i.body <= start < i.end), None)
        if inside is None or inside.name not in ("ENV", "ARG"):
            return None
        value = _written(text, end + 1) if assigned else text[end : inside.end].strip()
        return Place(start, True, value if inside.name == "ENV" or assigned else None)
    if site.kind in ("shell", "make") or in_data:
        ahead = text[max(start - 1, 0) : start]
        return Place(start, assigned and ahead in ("", " ", "\t", "\n", '"', "'"),
                     _written(text, end + 1) if assigned else None)  # fmt: skip
    return Place(start, False)


def _written(text: str, start: int) -> str | None:
    """The value that is written behind `=`; None if it is expanded."""
    found = re.compile(r"\"([^\"\r\n]*)\"|'([^'\r\n]*)'|([^\s;&|)\"']*)").match(text, start)
    value = next((g for g in found.groups() if g is not None), "") if found else ""
    return None if re.search(r"[$`{]", value) or text.startswith("$", start) else value


def _value_of(site: TextSite, path: tuple[str | int, ...], start: int) -> str | None:
    if "values" not in site.file.memo:
        values: dict[tuple[str | int, ...], list[Scalar]] = {}
        for scalar in site.file.scalars:
            if not scalar.is_key:
                values.setdefault(scalar.path, []).append(scalar)
        site.file.memo["values"] = values
    known: list[Scalar] = site.file.memo["values"].get(path, [])
    behind = bisect.bisect_right(known, start, key=lambda s: s.start)
    value = known[behind].value if behind < len(known) else None
    return None if value is None or "${" in value or "$(" in value else value


def _variable(
    site: TextSite, target: Target, known: Variable, places: list[Place]
) -> Iterator[Finding]:
    new = _new_name(target, known)
    others = [n for n in (known.npu, known.accelerator) if n]
    if any(re.search(rf"\b{other}\b", site.text) for other in others):
        yield _once(site, known.name, places, "the file names the target's variable already",
                    Category.INFORMATION)  # fmt: skip
        return
    if not new:
        category = Category.INFORMATION if known.ignored else None
        yield _once(site, known.name, places, known.advice, category)
        return
    if not all(p.certain for p in places):
        advice = f"not every use of it in this file can be renamed; rename all to {new} by hand"
        yield _once(site, known.name, places, advice, None)
        return
    problems = [p for place in places if (p := _value_problem(place.value, known))]
    if problems:
        yield _once(site, known.name, places, f"{problems[0]}; {known.advice}", None)
        return
    doubtful = not known.npu_exact and not target.agnostic
    for place in places:
        span = place.start, place.start + len(known.name)
        yield site.finding(
            span,
            Edit.of(*span, new),
            reason=known.advice if doubtful else "",
            safety=Safety.UNSAFE if doubtful else Safety.SAFE,
            symbol=known.name,
        )


def _new_name(target: Target, known: Variable) -> str:
    if not target.agnostic:
        return known.npu
    since = known.accelerator_since
    return known.accelerator if since and target.has(version(since)) else ""


def _once(
    site: TextSite, name: str, places: list[Place], reason: str, category: Category | None
) -> Finding:
    more = f" ({len(places)} places in this file)" if len(places) > 1 else ""
    span = places[0].start, places[0].start + len(name)
    effort = 0 if category is Category.INFORMATION else None
    return site.gap(span, reason + more, category=category, effort=effort, symbol=name)


def _value_problem(value: str | None, known: Variable) -> str:
    """Why a written value does not carry over."""
    if value is None:
        return ""
    text = value.strip().strip("'\"")
    if not known.empty and not re.fullmatch(r"\d+(?: *, *\d+)*", text):
        return f"there is no documented counterpart of the value {text!r}"
    if known.keys:
        settings = [s.partition(":")[0].strip() for s in text.split(",") if s.strip()]
        strange = [s for s in settings if s not in known.keys]
        if strange:
            return f"an NPU does not know the setting {strange[0]!r}"
    return ""


# POR852 -----------------------------------------------------------------------------------------

_TOOLS = {
    "nvidia-smi": "npu-smi info prints another format: change what reads it",
    "nvcc": "compiles CUDA sources; on NPU they must be written anew (Ascend C, triton-ascend)",
    "nsys": "profiles CUDA; on NPU use msprof or torch_npu.profiler",
    "ncu": "profiles CUDA kernels; on NPU use msprof op",
    "nvprof": "profiles CUDA; on NPU use msprof or torch_npu.profiler",
    "cuda-gdb": "debugs CUDA kernels",
    "compute-sanitizer": "checks CUDA kernels; on NPU use mssanitizer",
    "cuda-memcheck": "checks CUDA kernels; on NPU use mssanitizer",
    "gpustat": "shows NVIDIA GPUs; on NPU use npu-smi info",
    "nvtop": "shows NVIDIA GPUs; on NPU use npu-smi info",
    "nvidia-cuda-mps-control": "NVIDIA's multi-process service; there is nothing like it to start",
    "trtexec": "builds TensorRT engines; on NPU use atc on the ONNX model",
    "update-alternatives": "",
}
_PROBES = frozenset({"which", "type", "hash", "command", "if", "[", "[["})


@text_rule(
    "POR852",
    "cuda-tool-in-command",
    files=art.RUNNING,
    effort=3,
    examples=[
        change(
            "nvidia-smi\npython a.py  # nvidia-smi\n",
            None,
            "npu-smi info\npython a.py  # nvidia-smi\n",
            path="a.sh",
        ),
        change(
            "jobs:\n  a:\n    steps:\n      - run: nvidia-smi  # show\n",
            None,
            "jobs:\n  a:\n    steps:\n      - run: npu-smi info  # show\n",
            path=".github/workflows/a.yml",
            unsafe=True,
        ),
        keep("if command -v nvidia-smi; then echo yes; fi\n", path="a.sh", finding=True),
        keep("N=$(nvidia-smi -L | wc -l)\n", path="a.sh", finding=True),
        keep("nvcc --version\n", path="a.sh", finding=True),
        keep("echo nvidia-smi\n", path="a.sh", finding=False),
        keep("# nvidia-smi\n", path="a.sh", finding=False),
    ],
)
def cuda_tool_in_command(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for commands that run NVIDIA's programs: `nvidia-smi`, `nvcc`, `nsys`.

    ## Why it matters
    The program does not exist on a machine without NVIDIA's driver or toolkit.

    ## What it does
    npu: `nvidia-smi` without options, whose output nobody reads, becomes `npu-smi info`.
    Everything else is reported. accelerator: reported.

    ## Safety
    A captured or piped output has another format, so that such a use is never rewritten.

    ## References
    - https://docs.nvidia.com/deploy/nvidia-smi/index.html
    - https://gitcode.com/Ascend/pytorch (installation guide: npu-smi info)
    """
    for run in art.runs(site.file):
        name = run.program if run.program in _TOOLS else _started(run)
        advice = _TOOLS.get(name, "")
        if not advice:
            continue
        word = next(w for w in run.words if w.value.rpartition("/")[2] == name)
        bare = len(run.words) == 1 and not run.captured and word.raw == name
        if name == "nvidia-smi" and bare and not target.agnostic:
            yield site.replace((word.start, word.end), "npu-smi info", symbol=name)
        else:
            asked = {"--version", "-V", "-v"} & set(run.values()) or run.program != name
            printed = (name == "nvidia-smi" or bool(asked)) and not run.captured
            yield site.gap(
                (word.start, word.end),
                "only a machine with CUDA has it" if printed else advice,
                category=Category.POTENTIAL if printed or target.agnostic else Category.MANDATORY,
                effort=1 if printed else None,
                symbol=name,
            )


def _started(run: art.Run) -> str:
    """A tool that another program starts or asks for."""
    if run.program in (
        "which",
        "type",
        "hash",
        "command",
        "srun",
        "mpirun",
        "exec",
        "watch",
        "time",
    ):
        names = [w.value.rpartition("/")[2] for w in run.arguments]
        return next((n for n in names if n in _TOOLS), "")
    return ""


# POR853 -----------------------------------------------------------------------------------------

_DEVICE_VALUE = re.compile(r"cuda(?::\d+(?:,\d+)*)?\Z")
_DEVICE_OPTION = re.compile(
    r"(?:^|[-_.])(?:device|dev|device[-_]type|map[-_]location|gpu|target[-_]device)$", re.I
)
_BACKEND_OPTION = re.compile(r"(?:^|[-_.])(?:backend|dist)$|backend", re.I)


@text_rule(
    "POR853",
    "cuda-option-in-command",
    files=art.RUNNING,
    category=Category.POTENTIAL,
    examples=[
        change(
            "python train.py --device cuda:0 --lr 1  # c\n",
            None,
            "python train.py --device npu:0 --lr 1  # c\n",
            path="a.sh",
            unsafe=True,
        ),
        change(
            "torchrun train.py --dist-backend=nccl\n",
            None,
            "torchrun train.py --dist-backend=hccl\n",
            path="a.sh",
            unsafe=True,
        ),
        keep("python train.py --device cuda\n", path="a.sh", finding=True),
        keep("python train.py trainer.accelerator=gpu\n", path="a.sh", finding=True),
        keep("python cuda.py --device cpu --out cuda\n", path="a.sh", finding=False),
        keep("echo --device cuda\n", path="a.sh", finding=False),
    ],
)
def cuda_option_in_command(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for options such as `--device cuda`, `--backend nccl` and `accelerator=gpu`.

    ## Why it matters
    The option wins over what the program would choose by itself.

    ## What it does
    npu, with --unsafe: `npu` and `hccl` in place of `cuda` and `nccl`. accelerator: reported; if
    the program's default is the device at hand, drop the option.

    ## Safety
    Unsafe: the program may accept a fixed list of values.

    ## References
    - https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.device
    - https://docs.pytorch.org/docs/stable/distributed.html#torch.distributed.init_process_group
    """
    for run in art.runs(site.file):
        if run.program in art.TALK or run.program in ("conda", "pip", "docker", "cmake"):
            continue
        for name, word in options(run.arguments):
            if word is not None and (found := _meant(name, word.value)):
                yield _option(site, target, name, word.start, word.raw, found)


def _meant(name: str, written: str) -> tuple[str, str] | None:
    """(what is written, what it is on an NPU) if an option names CUDA's device or backend."""
    value = written.partition("=")[2] if written.startswith(name + "=") else written
    if _DEVICE_OPTION.search(name) and _DEVICE_VALUE.match(value):
        return value, value.replace("cuda", "npu")
    if re.search(r"accelerator$", name) and value in ("gpu", "cuda"):
        return value, ""
    if _BACKEND_OPTION.search(name) and value == "nccl":
        return value, "hccl"
    return None


def _option(
    site: TextSite, target: Target, name: str, start: int, raw: str, found: tuple[str, str]
) -> Finding:
    value, new = found
    at = start + raw.rindex(value)
    span = at, at + len(value)
    if target.agnostic or not new:
        return site.gap(
            span,
            f"{name.lstrip('-')} is fixed to {value}: drop the option if the program finds the device "
            "itself, or name the device there",
            symbol=value,
        )
    reason = f"the program must accept {new} for {name.lstrip('-')}"
    return site.replace(span, new, reason=reason, safety=Safety.UNSAFE, symbol=value)


# POR854 -----------------------------------------------------------------------------------------

_RUNNER = re.compile(
    r"(?:^|[-_./\s\d])(?:gpus?|cuda|nvidia|[ahvl]100|a10g?|t4|v100|h200|rtx\d*|g[456]dn?|p3|p4d)(?![a-z])"
    r"|\bg[456]dn?\.\w+|\bp[345]\w*\.\d*xlarge",
    re.IGNORECASE,
)
_LABELS = frozenset({"runs-on", "tags", "runner", "runner_label", "runs_on", "pool", "queue", "resource_class", "instance_type", "machine_type"})  # fmt: skip


@text_rule(
    "POR854",
    "gpu-runner-in-ci",
    files=_WORKFLOWS,
    category=Category.POTENTIAL,
    effort=5,
    examples=[
        keep(
            "jobs:\n  a:\n    runs-on: [self-hosted, gpu]\n",
            path=".github/workflows/a.yml",
            finding=True,
        ),
        keep("test:\n  tags:\n    - nvidia\n", path=".gitlab-ci.yml", finding=True),
        keep(
            "jobs:\n  a:\n    runs-on: ubuntu-latest  # no gpu\n",
            path=".github/workflows/a.yml",
            finding=False,
        ),
        keep(
            "jobs:\n  a:\n    name: gpu\n    runs-on: macos-14\n",
            path=".github/workflows/a.yml",
            finding=False,
        ),
    ],
)
def gpu_runner_in_ci(site: TextSite, target: Target) -> Iterator[Finding]:
    """Reports CI jobs that need a runner with a GPU, or set CUDA up.

    ## Why it matters
    The tests of such a job never run on another device.

    ## What it does
    Points at the label of the runner, at `cuda` in the job matrix and at actions that install
    CUDA. Add a job for the target; see tests_npu.yml of LLaMA-Factory for an example.

    ## Safety
    Always left: labels of runners belong to a site.

    ## References
    - https://docs.github.com/en/actions/reference/workflows-and-actions/workflow-syntax#jobsjob_idruns-on
    - https://github.com/hiyouga/LLaMA-Factory/blob/main/.github/workflows/tests_npu.yml
    """
    device = "another device" if target.agnostic else "an NPU"
    said: set[tuple[object, ...]] = set()
    for scalar in site.file.scalars:
        span = scalar.inner or (scalar.start, scalar.end)
        if scalar.is_key:
            if re.fullmatch(r"cuda(?:[-_]?version)?s?", scalar.value, re.I) and scalar.below(
                "matrix"
            ):
                yield site.gap(span, f"a matrix over versions of CUDA; add a job for {device}")
        elif scalar.below("matrix") and re.fullmatch(r"cuda|gpu|nvidia", scalar.value, re.I):
            yield site.gap(span, f"a case of the matrix for CUDA; add one for {device}", effort=1)
        elif scalar.key in _LABELS and "${{" not in scalar.value and _RUNNER.search(scalar.value):
            job = scalar.path[: len(scalar.path) - scalar.listed]
            if job in said:
                continue
            said.add(job)
            yield site.gap(
                span, f"a runner with an NVIDIA GPU; add a job on a runner with {device}"
            )
        elif scalar.key == "uses" and re.search(r"cuda|nvidia", scalar.value, re.I):
            yield site.gap(span, "an action that sets CUDA up", effort=1)


# POR855 -----------------------------------------------------------------------------------------


@text_rule(
    "POR855",
    "cuda-in-build-file",
    files=(*art.CMAKE, *art.MAKE),
    effort=7,
    examples=[
        keep("find_package(CUDAToolkit REQUIRED)\n", path="CMakeLists.txt", finding=True),
        keep("project(x LANGUAGES CXX CUDA)\n", path="CMakeLists.txt", finding=True),
        keep("NVCC = nvcc\n", path="Makefile", finding=True),
        keep(
            "# find_package(CUDA)\nproject(barracuda CXX)\n", path="CMakeLists.txt", finding=False
        ),
        keep('message("CUDA off")\n', path="CMakeLists.txt", finding=False),
    ],
)
def cuda_in_build_file(site: TextSite, target: Target) -> Iterator[Finding]:
    """Reports CMake and make files that build CUDA code.

    ## Why it matters
    The build needs nvcc and the CUDA toolkit.

    ## What it does
    One finding for each file, at the first such line, with the number of such lines.

    ## Safety
    Always left.

    ## References
    - https://cmake.org/cmake/help/latest/module/FindCUDAToolkit.html
    - https://gitcode.com/Ascend/pytorch (torch_npu.utils.cpp_extension)
    """
    pattern = _CMAKE if site.kind == "cmake" else _MAKE
    places = [
        (start + found.start(), start + found.end())
        for start, line in site.file.lines()
        if (found := pattern.search(re.sub(r"(?:^|\s)#.*", "", line)))
    ]
    if places:
        optional = Category.POTENTIAL if target.agnostic else Category.MANDATORY
        yield site.gap(
            places[0],
            f"builds CUDA code ({len(places)} lines); make it optional, and build the target's own "
            "kernels beside it (torch_npu.utils.cpp_extension.NpuExtension, Ascend C)",
            category=optional,
        )


_CMAKE = re.compile(
    r"(?i)\b(?:find_package|find_cuda|enable_language|include)\s*\(\s*(?:CUDA\w*|NCCL|CUDNN)\b"
    r"|\bproject\s*\([^)]*\bCUDA\b|\bcuda_add_\w+\s*\(|\bCMAKE_CUDA_\w+|\bCUDA_(?:ARCHITECTURES|SEPARABLE\w*|STANDARD)\b"
    r"|\bCUDA::\w+|\b\w+\.cu\b"
)
_MAKE = re.compile(
    r"\bnvcc\b|\bCUDA_(?:HOME|PATH|DIR|ROOT)\b|-l(?:cudart|cublas|cudnn|nccl)\b|\.cu\b", re.I
)
