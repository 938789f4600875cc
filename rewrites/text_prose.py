"""POR837, POR856, POR857: files that are read for one remark each: locks, Windows, documentation."""

from __future__ import annotations

import re
from collections.abc import Iterator

from porter.rule import Category, Finding, keep
from porter.targets import Target
from porter.text_site import TextSite, text_rule

from .packages import packages

FAMILY = "locks, Windows scripts and documentation"
TOPIC = "other files"

LOCKS = ("poetry.lock", "uv.lock", "pdm.lock", "pylock*.toml", "Pipfile.lock", "conda-lock.yml")
WINDOWS = ("*.bat", "*.cmd", "*.ps1")
PROSE = ("*.md", "*.markdown", "*.rst")

#: How many names or places a remark shows.
SHOWN = 5


def _several(names: list[str]) -> str:
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


# POR837 -----------------------------------------------------------------------------------------

#: A package of a lock file: `name = "x"` in TOML, `"x": {` in JSON, `- name: x` in YAML.
_LOCKED = re.compile(
    r"^(?:name = \"(?P<toml>[\w.-]+)\"|[ \t]+\"(?P<json>[\w.-]+)\": \{|- name: (?P<yaml>[\w.-]+))",
    re.MULTILINE,
)
_FOR_CUDA = re.compile(
    r"nvidia-[\w-]+|cuda-(?:bindings|pathfinder|python|toolkit)|cupy-cuda\w+|[\w-]+-cu\d{2,3}"
    r"|pytorch-cuda|cudatoolkit|cudnn"
)


def _bound() -> frozenset[str]:
    """Packages with nothing for NPU under their own name, as they are installed."""
    return frozenset(
        re.sub(r"[-_.]+", "-", name).lower()
        for row in packages()
        if row.cuda_bound and row.verified and row.status in ("adapter", "replace", "none")
        for name in row.pypi
        if name not in ("torch", "torchvision", "torchaudio")
    )


@text_rule(
    "POR837",
    "cuda-packages-locked",
    files=LOCKS,
    category=Category.POTENTIAL,
    examples=[
        keep(
            '[[package]]\nname = "nvidia-cublas-cu12"\nversion = "12.8.4.1"\n',
            path="uv.lock",
            finding=True,
        ),
        keep(
            '{\n    "default": {\n        "nvidia-nccl-cu12": {\n        }\n    }\n}\n',
            path="Pipfile.lock",
            finding=True,
        ),
        keep('[[package]]\nname = "torch"\nversion = "2.9.0"\n', path="uv.lock", finding=False),
    ],
)
def cuda_packages_locked(site: TextSite, target: Target) -> Iterator[Finding]:
    """Reports lock files that pin packages made for CUDA.

    ## Why it matters
    A lock that was made where torch means its build for CUDA installs that build, with its
    libraries, wherever its markers allow it.

    ## What it does
    One finding for each file: how many such packages it names, and the first of them. npu: the lock
    has to be made again, from requirements that name the CPU build of torch, and torch-npu.
    accelerator: information, since CUDA users still need that lock.

    ## Safety
    Never changed: only the tool that made a lock can make it again.

    ## References
    - https://python-poetry.org/docs/basic-usage/#installing-with-poetrylock
    - https://docs.astral.sh/uv/concepts/projects/sync/
    - https://packaging.python.org/en/latest/specifications/pylock-toml/
    """
    bound = _bound()
    found = []
    for row in _LOCKED.finditer(site.text):
        name = re.sub(r"[-_.]+", "-", row[row.lastgroup or 0]).lower()
        if _FOR_CUDA.fullmatch(name) or name in bound:
            found.append((row, name))
    names = list(dict.fromkeys(name for _, name in found))
    if not names:
        return
    first = found[0][0]
    span = first.start(first.lastgroup or 0), first.end(first.lastgroup or 0)
    count = f"{len(names)} package{'s' if len(names) > 1 else ''} for CUDA"
    said = f"the lock names {count}: {_several(names)}"
    if target.agnostic:
        yield site.information(span, f"{said}; other devices need a lock of their own")
    else:
        yield site.gap(span, f"{said}; lock again with torch's CPU build and torch-npu")


# POR856 -----------------------------------------------------------------------------------------

_IN_WINDOWS = re.compile(
    r"CUDA_VISIBLE_DEVICES|nvidia-smi|\bnvcc\b|PYTORCH_CUDA_ALLOC_CONF|CUDA_(?:PATH|HOME)"
    r"|/whl/(?:nightly/)?cu\d+|\+cu\d{2,3}\b|--(?:device|gpus?)[= ]+\"?(?:cuda|\d)",
    re.IGNORECASE,
)
_REMARK = re.compile(r"[ \t]*(?:@?rem\b|::|#)", re.IGNORECASE)


@text_rule(
    "POR856",
    "windows-script-for-cuda",
    files=WINDOWS,
    category=Category.INFORMATION,
    effort=0,
    examples=[
        keep("set CUDA_VISIBLE_DEVICES=0\r\npython train.py\r\n", path="run.bat", finding=True),
        keep("$env:CUDA_VISIBLE_DEVICES = 0\npython train.py\n", path="run.ps1", finding=True),
        keep("rem nvidia-smi\npython train.py\n", path="run.bat", finding=False),
    ],
)
def windows_script_for_cuda(site: TextSite, target: Target) -> Iterator[Finding]:
    """Reports Windows scripts that choose or ask for CUDA.

    ## Why it matters
    They are not read command by command, and nothing else would tell of them.

    ## What it does
    One remark for each file, with the lines. torch_npu is published for Linux alone, so that such
    a script goes on serving machines with CUDA.

    ## Safety
    Never changed.

    ## References
    - https://pypi.org/project/torch-npu/#files
    """
    places = []
    for start, line in site.file.lines():
        found = _IN_WINDOWS.search(line)
        if found is not None and not _REMARK.match(line):
            places.append((start + found.start(), start + found.end()))
    if places:
        yield site.information(
            places[0], f"{_lines_of(site, places)}; torch_npu has no Windows build"
        )


def _lines_of(site: TextSite, places: list[tuple[int, int]]) -> str:
    numbers = sorted({site.file.index.position(start)[0] for start, _ in places})
    shown = _several([str(n) for n in numbers])
    return f"CUDA is named in line{'s' if len(numbers) > 1 else ''} {shown}"


# POR857 -----------------------------------------------------------------------------------------

_FENCE = re.compile(r"[ \t]*(?P<fence>`{3,}(?=[^`]*\Z)|~{3,})(?P<more>.*)", re.DOTALL)
_COMMANDS = re.compile(
    r"CUDA_VISIBLE_DEVICES=|\bnvidia-smi\b|/whl/(?:nightly/)?cu\d+|==[\d.]+\+cu\d{2,3}\b"
    r"|--gpus[ =]|--runtime[= ]nvidia|--device[= ]+[\"']?cuda|\bPYTORCH_CUDA_ALLOC_CONF="
    r"|\bpytorch-cuda[= ]|\bcudatoolkit\b|device[ ]?=[ ]?[\"']cuda|\.cuda\(\)|\.to\([\"']cuda"
    r"|pip3? install[^\n]*\b(?:flash[-_]attn|xformers|bitsandbytes|cupy-cuda\w+|nvidia-[\w-]+|apex)\b"
)


@text_rule(
    "POR857",
    "documentation-for-cuda",
    files=PROSE,
    category=Category.INFORMATION,
    effort=0,
    examples=[
        keep(
            "# Use\n\n```sh\nCUDA_VISIBLE_DEVICES=0 python train.py\n```\n",
            path="README.md",
            finding=True,
        ),
        keep(
            "Install::\n\n    pip install torch --index-url https://download.pytorch.org/whl/cu128\n",
            path="docs/install.rst",
            finding=True,
        ),
        keep(
            "Runs on CUDA. Set CUDA_VISIBLE_DEVICES=0 if needed.\n", path="README.md", finding=False
        ),
        keep("# Use\n\n```sh\npython train.py\n```\n", path="README.md", finding=False),
    ],
)
def documentation_for_cuda(site: TextSite, target: Target) -> Iterator[Finding]:
    """Reports documentation whose examples work with CUDA only.

    ## Why it matters
    Who follows a README after the migration types what it says.

    ## What it does
    One remark for each Markdown or reStructuredText file with the lines of its code blocks that
    install for CUDA, choose CUDA devices or write `"cuda"` in code. Prose is not looked at.

    ## Safety
    Never changed: which devices the documentation speaks of is for its authors to say.

    ## References
    - https://spec.commonmark.org/current/#fenced-code-blocks
    """
    places = [
        (start + found.start(), start + found.end())
        for start, code in _code(site)
        for found in _COMMANDS.finditer(code)
    ]
    if not places:
        return
    numbers = sorted({site.file.index.position(start)[0] for start, _ in places})
    lines = f"line{'s' if len(numbers) > 1 else ''} {_several([str(n) for n in numbers])}"
    yield site.information(places[0], f"the examples work with CUDA only ({lines})")


def _code(site: TextSite) -> Iterator[tuple[int, str]]:
    """The lines of the code blocks of a document, each with its offset."""
    if site.path.endswith(".rst"):
        for start, line in site.file.lines():
            if line[:1] in (" ", "\t"):
                yield start, line
        return
    fence = ""
    for start, line in site.file.lines():
        found = _FENCE.match(line)
        mark = found["fence"] if found is not None else ""
        if found is None or (fence and not mark.startswith(fence)):
            if fence:
                yield start, line
        elif not fence:
            fence = mark
        elif not found["more"].strip():
            fence = ""
