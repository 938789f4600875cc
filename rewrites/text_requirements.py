"""POR83x: requirements, environments and installations that ask for CUDA."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator

from porter.rule import Category, Finding, change, keep, rule
from porter.site import Site
from porter.targets import Target
from porter.text_site import TextSite, text_rule

from . import _artefacts as art
from .packages import Package, describe, packages

FAMILY = "requirements and environments"
TOPIC = "dependencies"

MARKERS = ("install_requires", "extras_require", "setup_requires")

LISTS = (*art.REQUIREMENTS, *art.TOML, *art.INI, *art.YAML)
EVERYWHERE = (*LISTS, *art.SHELL, *art.DOCKER, *art.MAKE)

#: Wheels of torch itself that exist with and without the local version of a CUDA build.
_TORCH = frozenset({"torch", "torchvision", "torchaudio"})
_LOCAL = re.compile(r"\+cu\d{2,3}\b")
_SMALL = (
    "[project]\nname = 'x'\nversion = '1'\ndependencies = [\n  # the model\n  '{}',  # pinned\n]\n"
)


# POR831 -----------------------------------------------------------------------------------------


@text_rule(
    "POR831",
    "cuda-build-pinned",
    files=EVERYWHERE,
    examples=[
        change(
            "numpy\ntorch==2.7.1+cu128  # pinned\ntorchvision == 0.22.1+cu128 ; python_version > '3'\n",
            None,
            "numpy\ntorch==2.7.1  # pinned\ntorchvision == 0.22.1 ; python_version > '3'\n",
            path="requirements.txt",
        ),
        change(
            _SMALL.format("torch==2.7.1+cu128"),
            None,
            _SMALL.format("torch==2.7.1"),
            path="pyproject.toml",
        ),
        change(
            "#!/bin/bash\npip install \\\n  torch==2.7.1+cu128 numpy  # c\n",
            None,
            "#!/bin/bash\npip install \\\n  torch==2.7.1 numpy  # c\n",
            path="install.sh",
        ),
        keep("# torch==2.7.1+cu128\ntorch==2.7.1\n", path="requirements.txt", finding=False),
        keep("torch-scatter==2.1.2+pt27cu128\n", path="requirements.txt", finding=False),
        keep("echo torch==2.7.1+cu128\n", path="install.sh", finding=False),
        keep("torch==${TORCH}+cu${CUDA}\n", path="requirements.txt", finding=False),
    ],
)
def cuda_build_pinned(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for requirements such as `torch==2.7.1+cu128`, which name a build for CUDA.

    ## Why it matters
    `+cu128` names wheels for CUDA, which another machine cannot install or use.

    ## What it does
    npu: drops the local version for torch, torchvision and torchaudio: `torch==2.7.1` is satisfied
    by every build of 2.7.1, a CPU build included, which torch_npu extends.
    accelerator: reported, since CUDA users still need a way to ask for that build.

    ## Safety
    Comments, other requirements and the layout are not touched.

    ## References
    - https://packaging.python.org/en/latest/specifications/version-specifiers/#local-version-identifiers
    - https://pypi.org/project/torch-npu/
    """
    for item in art.wanted(site.file):
        found = _LOCAL.search(item.text)
        if found is None or item.name not in _TORCH:
            continue
        span = item.start + found.start(), item.start + found.end()
        written = site.text[slice(*span)] == found.group()
        # Hashes are those of the wheels for CUDA; of two clauses, one may exclude such a build.
        sure = written and len(_LOCAL.findall(item.text)) == 1 and not art.hashed(site.file, item)
        if target.agnostic:
            yield site.gap(
                item.span,
                f"drop {found.group()} and let whoever installs choose the build, by an extra "
                "requirements file or index for each device",
                category=Category.POTENTIAL,
                symbol=item.name,
            )
        elif sure and re.search(r"==\s*[\d.]+\w*\+cu\d+", item.text):
            yield site.replace(span, "", symbol=item.name)
        else:
            yield site.gap(item.span, f"ask for {item.name} without {found.group()}")


# POR832 -----------------------------------------------------------------------------------------

_URL = re.compile(r"https?://[^\s'\"<>|;)\],]+")
_CUDA_URL = re.compile(r"[/+_.-]cu(?:\d{2,3}(?!\d)|\$|da)|%2Bcu\d+", re.IGNORECASE)
_NVIDIA_HOST = re.compile(
    r"https?://(?:pypi(?:\.ngc)?\.nvidia\.com|developer\.download\.nvidia\.(?:com|cn)"
    r"|nvidia\.github\.io|[\w.-]*\.ngc\.nvidia\.com)\b"
)
_TORCH_INDEX = re.compile(
    r"(https?://download\.pytorch\.org/whl/(?:nightly/|test/)?)(cu\d{2,3})(?=/?\Z)"
)
_PROJECT_PAGE = re.compile(r"https?://(?:www\.)?(?:github|gitlab)\.com/[^/]+/[^/]+/?\Z|\.md\Z")


@text_rule(
    "POR832",
    "cuda-wheel-index",
    files=EVERYWHERE,
    examples=[
        change(
            "--extra-index-url https://download.pytorch.org/whl/cu128\ntorch==2.7.1\n",
            None,
            "--extra-index-url https://download.pytorch.org/whl/cpu\ntorch==2.7.1\n",
            path="requirements.txt",
        ),
        change(
            "FROM python:3.11\nRUN pip install torch \\\n    # wheels\n    --index-url https://download.pytorch.org/whl/cu128\n",
            None,
            "FROM python:3.11\nRUN pip install torch \\\n    # wheels\n    --index-url https://download.pytorch.org/whl/cpu\n",
            path="Dockerfile",
        ),
        change(
            "[[tool.uv.index]]\nname = 'pytorch'  # c\nurl = 'https://download.pytorch.org/whl/cu128'\n",
            None,
            "[[tool.uv.index]]\nname = 'pytorch'  # c\nurl = 'https://download.pytorch.org/whl/cpu'\n",
            path="pyproject.toml",
        ),
        keep(
            "-f https://data.pyg.org/whl/torch-2.7.0+cu128.html\n",
            path="requirements.txt",
            finding=True,
        ),
        keep("--index-url https://pypi.org/simple\n", path="requirements.txt", finding=False),
        keep("# see https://download.pytorch.org/whl/cu128\n", path="install.sh", finding=False),
        keep("repo: https://github.com/me/barracuda\n", path="x.yml", finding=False),
    ],
)
def cuda_wheel_index(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for indexes and links of wheels for CUDA, such as `.../whl/cu128`.

    ## Why it matters
    They hold builds for CUDA only.

    ## What it does
    npu: torch's own index becomes the one of its CPU builds, which torch_npu extends; wheels of
    other packages are reported. accelerator: reported, since CUDA users still need the index.

    ## References
    - https://pytorch.org/get-started/locally/
    - https://pypi.org/project/torch-npu/
    """
    for found in _URL.finditer(site.text):
        url = found.group()
        foreign = _NVIDIA_HOST.match(url) is not None
        if site.text[max(found.start() - 4, 0) : found.start()] == "git+":
            continue  # the name of the repository decides: POR833
        if not foreign and (_CUDA_URL.search(url) is None or _PROJECT_PAGE.search(url)):
            continue
        if art.in_comment(site.file, found.start()) or art.is_said(site.file, found.start()):
            continue
        if not _is_installed(site, found.start()):
            continue
        yield _index(site, target, found, foreign)


def _is_installed(site: TextSite, offset: int) -> bool:
    """Whether a URL is one to install from, rather than a homepage or a repository to clone."""
    if site.kind in ("shell", "dockerfile", "make", "requirements"):
        return True
    scalar = art.scalar_at(site.file, offset)
    if scalar is None:
        return site.kind == "ini"
    if art.outermost(site.file, offset) is not None or site.kind == "toml":
        return not scalar.below("urls")
    return scalar.listed or bool(re.search(r"index|url|wheel|link|channel", scalar.key, re.I))


def _index(site: TextSite, target: Target, found: re.Match[str], foreign: bool) -> Finding:
    span = found.span()
    known = _TORCH_INDEX.match(found.group())
    if target.agnostic:
        advice = "holds builds for CUDA; let whoever installs choose the index for the device"
        return site.gap(span, advice, category=Category.POTENTIAL)
    if known is not None:
        start = span[0] + known.start(2)
        return site.replace((start, span[0] + known.end(2)), "cpu")
    if foreign:
        return site.gap(span, "holds packages of NVIDIA; nothing there runs on an NPU: drop it")
    return site.gap(
        span, "a wheel or list of wheels built for CUDA; use a build for CPU or NPU", effort=3
    )


# POR833 -----------------------------------------------------------------------------------------

#: Packages whose name alone says nothing of the device.
_NEUTRAL = _TORCH | {"numba", "jax", "ray", "lightning", "pytorch-lightning", "dgl", "torchdata"}
_VENDOR = re.compile(r"nvidia-(?!ml-py|dali)[\w-]+|cuda-(?:bindings|core|toolkit)|libnv\w*")
#: Names of one package for several versions of CUDA.
_VERSIONED = re.compile(r"(.+?)-?(?:cu|cuda)-?\d{2,3}x?(?:-.*)?\Z")
_EXTRA = re.compile(r"(?:cu(?:da)?\d*(?:[-_].*)?|gpu|nvidia|tensorrt)\Z")
_EFFORT = {"native": 0, "adapter": 1, "partial": 3, "replace": 3, "none": 5, "unverified": 5}


@functools.cache
def _table() -> dict[str, Package]:
    return {
        re.sub(r"[-_.]+", "-", name).lower(): row
        for row in packages()
        if row.cuda_bound and row.status != "agnostic-works"
        for name in (*row.pypi, *(() if row.pypi else (row.name, *row.imports)))
    } | {
        name: row
        for row in packages()
        for name, package in (
            ("flash-attention", "flash-attn"),
            ("transformerengine", "transformer-engine"),
        )
        if package in row.pypi
    }


def package_of(name: str) -> Package | None:
    """What is known of a required package; None if it is not bound to CUDA."""
    if name in _NEUTRAL:
        return None
    if name.startswith("nvidia-ml-py"):
        name = "nvidia-ml-py"
    known = _table().get(name)
    if known is None and (versioned := _VERSIONED.fullmatch(name)) is not None:
        short = versioned[1]
        known = next(
            (r for n, r in _table().items() if n == short or n.startswith(f"{short}-cu")), None
        )
    return known


@text_rule(
    "POR833",
    "cuda-bound-requirement",
    files=EVERYWHERE,
    effort=5,
    examples=[
        keep("xformers>=0.0.20\n", path="requirements.txt", finding=True),
        keep(
            "nvidia-cublas-cu12==12.4\nnvidia-cudnn-cu12==9.1\n",
            path="requirements.txt",
            finding=True,
        ),
        keep("# xformers\nnumpy\n", path="requirements.txt", finding=False),
        keep(_SMALL.format("cupy-cuda12x"), path="pyproject.toml", finding=True),
        keep("RUN = 1\n", path="x.env", finding=False),
        keep("cd xformers && pip install -e .\n", path="a.sh", finding=False),
    ],
)
def cuda_bound_requirement(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for required packages that are bound to CUDA, such as flash-attn or cupy-cuda12x.

    ## Why it matters
    They cannot be installed, or do not run, without CUDA.

    ## What it does
    Names the adapter, the first version with an NPU path, or what to use instead, as POR821 does
    for imports. What torch's CUDA wheels pull in (`nvidia-*-cu12`) is named once for each file.
    accelerator: potential, since CUDA remains a device to run on.

    ## Safety
    Always left: which version fits is not known.

    ## References
    - rewrites/packages.toml, with the evidence for each package
    """
    vendor: list[art.Wanted] = []
    native: set[str] = set()
    for item in art.wanted(site.file):
        row = package_of(item.name) if item.installer != "system" else None
        if item.installer == "pip" and _VENDOR.fullmatch(item.name) and item.name != "nvidia-ml-py":
            vendor.append(item)
        elif row is not None and row.name not in native:
            native |= {row.name} if row.status == "native" else set()
            yield _required(site, target, item, row)
        elif item.installer == "pip" and (known := _unknown(item)):
            yield site.gap(item.span, known, category=Category.POTENTIAL, symbol=item.name)
    if vendor:
        every = list(dict.fromkeys(item.name for item in vendor))
        names = ", ".join(every[:3]) + (", ..." if every[3:] else "")
        yield site.gap(
            vendor[0].span,
            f"{len(every)} of NVIDIA's packages ({names}) that only builds for CUDA need: drop them",
            category=Category.POTENTIAL if target.agnostic else Category.MANDATORY,
            effort=1,
        )


def _required(site: TextSite, target: Target, item: art.Wanted, row: Package) -> Finding:
    return site.gap(
        item.span,
        describe(row),
        category=category_of(row, target),
        effort=_EFFORT[row.status],
        symbol=item.name,
    )


def category_of(row: Package, target: Target) -> Category:
    """How a required package counts."""
    if row.status == "native":
        return Category.INFORMATION
    needed = row.verified and row.status in ("adapter", "replace", "none")
    return Category.MANDATORY if needed and not target.agnostic else Category.POTENTIAL


def _unknown(item: art.Wanted) -> str:
    """Advice about a package that only its name or extra ties to CUDA; empty if nothing does."""
    extra = next((e for e in item.extras if _EXTRA.fullmatch(e)), "")
    if extra:
        return f"the extra [{extra}] asks for a build for CUDA; ask for {item.name} without it"
    if _VERSIONED.fullmatch(item.name) or re.search(
        r"(?:^|-)(?:cuda|gpu|nvidia)(?:-|\Z)", item.name
    ):
        return f"{item.name} is made for CUDA by its name; nothing is known about it on NPU"
    return ""


# POR834 -----------------------------------------------------------------------------------------

#: The lowest torch for which the package index has a torch-npu (read 2026-11-24).
FIRST = (2, 1)
_EXACT = re.compile(r"==\s*(\d+\.\d+(?:\.\d+)?)")


@text_rule(
    "POR834",
    "adapter-not-required",
    files=(*art.REQUIREMENTS, *art.TOML, *art.INI, *art.YAML, *art.DOCKER),
    targets=("npu",),
    examples=[
        keep("torch==2.7.1\n", path="requirements.txt", finding=True),
        keep("torch==2.7.1\ntorch-npu==2.7.1\n", path="requirements.txt", finding=False),
        keep("numpy\n# torch\n", path="requirements.txt", finding=False),
    ],
)
def adapter_not_required(site: TextSite, target: Target) -> Iterator[Finding]:
    """Reports lists of requirements that name torch but not torch-npu.

    ## Why it matters
    Without torch-npu of the same version, torch has no NPU.

    ## What it does
    One finding for each file, with the requirement to add where torch's version is fixed.

    ## Safety
    Always left: torch-npu's releases (2.7.1, 2.10.0.post2, ...) must be chosen to fit CANN.

    ## References
    - https://pypi.org/project/torch-npu/
    """
    if site.kind == "yaml" and "dependencies:" not in site.text:
        return  # commands of CI are no list of requirements
    items = art.wanted(site.file)
    names = {"torch": "torch", "pytorch": "torch"}
    first = next((i for i in items if names.get(i.name) and i.installer != "system"), None)
    if first is None or any(i.name == "torch-npu" for i in items):
        return
    if re.search(r"(?:^|[/_.-])(?:docs?|readthedocs|sphinx|\.github)(?:[/_.-])", site.path):
        return
    exact = _EXACT.search(first.text)
    if exact and tuple(map(int, exact[1].split(".")[:2])) < FIRST:
        yield site.gap(first.span, "torch-npu's releases begin with 2.1: raise torch, and add it")
        return
    add = f"torch-npu=={exact[1]}.*" if exact else "torch-npu of torch's version"
    yield site.gap(first.span, f"add {add}, fitting the installed CANN; it needs pyyaml as well")


# POR835 -----------------------------------------------------------------------------------------

_TOOLKIT = re.compile(
    r"cudatoolkit(?:-dev)?|pytorch-cuda|cuda(?:-[\w.-]+)?|cudnn\d*|nccl|nvidia-[\w.-]+|libcu[a-z]+[\w.+-]*"
    r"|libcudnn[\w.-]*|libnccl[\w.-]*|libnv[a-z]+[\w.-]*|tensorrt[\w.-]*|libnpp[\w.-]*|nsight-[\w.-]+"
    r"|cutensor|magma-cuda[\w.-]*|libcurand[\w.-]*|datacenter-gpu-manager"
)
_NOT_CUDA = re.compile(r"libcurl[\w.-]*|libcups[\w.-]*|libcunit[\w.-]*|libcue[\w.-]*")
_CUDA_BUILD = re.compile(r"=[^=]*(?:cuda|cu)\d|\[build=['\"]?\*?cuda", re.IGNORECASE)


@text_rule(
    "POR835",
    "cuda-toolkit-package",
    files=(*art.YAML, *art.SHELL, *art.DOCKER, *art.MAKE),
    effort=3,
    examples=[
        keep(
            "dependencies:\n  - pytorch=1.13\n  - pytorch-cuda=11.7  # c\n",
            path="environment.yml",
            finding=True,
        ),
        keep("apt-get install -y libnccl2 cuda-toolkit-12-1\n", path="a.sh", finding=True),
        keep("apt-get install -y libcurl4 git\n", path="a.sh", finding=False),
        keep("echo apt-get install cuda\n", path="a.sh", finding=False),
    ],
)
def cuda_toolkit_package(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for CUDA's toolkit and libraries among packages of conda and the system.

    ## Why it matters
    On another device they are of no use, and conda takes them as the reason for a CUDA build.

    ## What it does
    Reports each. For NPU: leave them out, take torch and torch-npu from pip, and CANN from its
    installer or image.

    ## Safety
    Always left: what a bare `pytorch` without them resolves to depends on channels and machine.

    ## References
    - https://docs.conda.io/projects/conda/en/stable/user-guide/tasks/manage-virtual.html
    - https://gitcode.com/Ascend/pytorch (installation guide)
    """
    advice = (
        "only machines with CUDA need it: move it to an environment of its own"
        if target.agnostic
        else "leave it out; on NPU install torch and torch-npu with pip, and CANN itself"
    )
    category = Category.POTENTIAL if target.agnostic else Category.MANDATORY
    for item in art.wanted(site.file):
        if item.installer == "pip" or _NOT_CUDA.fullmatch(item.name):
            continue
        if _TOOLKIT.fullmatch(item.name):
            yield site.gap(item.span, advice, category=category, symbol=item.name)
        elif item.installer == "conda" and _CUDA_BUILD.search(item.text):
            yield site.gap(item.span, f"names a build for CUDA; {advice}", category=category)


# POR836 -----------------------------------------------------------------------------------------

_IN_SETUP = (
    r"\+cu\d{2,3}\b|^nvidia-\w|^(?i:"
    + "|".join(re.escape(name).replace(r"\-", "[-_.]") for name in sorted(_table()))
    + r")(?![\w-])"
)


@rule(
    "POR836",
    "cuda-requirement-in-setup",
    strings=_IN_SETUP,
    effort=3,
    examples=[
        keep("from setuptools import setup\n\nsetup(name='x')\n", finding=False),
        keep("NAMES = ['xformers']\n", finding=False),
        keep(
            "from setuptools import setup\n\nsetup(name='x', install_requires=['xformers'])\n",
            finding=True,
        ),
        keep(
            "from setuptools import setup\n\nsetup(name='x', install_requires=['torch==2.7.1+cu128'])\n",
            finding=True,
        ),
    ],
)
def cuda_requirement_in_setup(site: Site, target: Target) -> Iterator[Finding]:
    """Checks for requirements in setup.py that are bound to CUDA.

    ## Why it matters
    They cannot be installed, or do not run, without CUDA.

    ## What it does
    Looks at the lists given to `install_requires`, `setup_requires` and `extras_require`.

    ## Safety
    Always left.

    ## References
    - https://setuptools.pypa.io/en/latest/references/keywords.html
    - rewrites/packages.toml, with the evidence for each package
    """
    if not _is_required(site):
        return
    text = site.node.value.strip()
    found = re.match(r"[A-Za-z0-9][\w.-]*", text)
    if found is None:
        return
    name = re.sub(r"[-_.]+", "-", found.group()).lower()
    row = package_of(name)
    category = Category.POTENTIAL if target.agnostic else Category.MANDATORY
    if _LOCAL.search(text):
        yield site.gap("ask for a version without +cu: it names a build for CUDA",
                       category=category, effort=1)  # fmt: skip
    elif row is not None and row.status != "native":
        yield site.gap(describe(row), category=category_of(row, target),
                       effort=_EFFORT[row.status], symbol=name)  # fmt: skip
    elif _VENDOR.fullmatch(name):
        yield site.gap("only builds for CUDA need it: drop it", category=category, effort=1)


def _is_required(site: Site) -> bool:
    for parent in site.module.parents(site.node):
        name = getattr(parent, "arg", None)
        if name in ("install_requires", "setup_requires", "extras_require", "tests_require"):
            return True
        if type(parent).__name__ not in ("List", "Tuple", "Dict", "BinOp"):
            return False
    return False
