"""POR84x: container images and how containers get devices: Dockerfile, compose, docker run."""

from __future__ import annotations

import re
from collections.abc import Iterator

from porter.rule import Category, Finding, keep
from porter.targets import Target
from porter.text_site import TextSite, text_rule

from . import _artefacts as art

FAMILY = "containers"
TOPIC = "containers"

_CONTAINERS = (*art.DOCKER, *art.SHELL, *art.MAKE, *art.YAML, *art.JSON)

# POR841 -----------------------------------------------------------------------------------------

_IMAGE = re.compile(
    r"(?:^|/)nvidia/\S|(?:^|\.)nvcr\.io/|[:/\w.-]*[:_-]\S*(?:cuda|cudnn|\bcu\d{2,3}\b|[-_.]cu\d{3})|^rapidsai/"
    r"|(?:^|/)cuda(?::|\Z)|^[\w./-]+:(?:[\w.-]*-)?gpu(?:-[\w.-]+)?\Z|^[\w./-]+-gpu(?::|\Z)",
    re.IGNORECASE,
)
_NAMED_IMAGE = re.compile(r"[\w.-]+(?::\d+)?(?:/[\w.-]+)*(?::[\w.${}-]+)?(?:@sha256:\w+)?\Z")
_BASE = (
    "an image for CUDA: start from quay.io/ascend/torch-npu:VERSION-CHIP-OS-pyPYTHON (torch-npu "
    "inside) or quay.io/ascend/cann:VERSION-CHIP-OS-pyPYTHON; choose the chip (910b or a3), the OS "
    "(ubuntu22.04, openeuler24.03) and the Python, for example as an ARG"
)
_OTHER_BASE = (
    "an image for CUDA: take the image from a build argument, so that each device can have its own"
)


@text_rule(
    "POR841",
    "cuda-base-image",
    files=_CONTAINERS,
    effort=5,
    examples=[
        keep(
            "FROM nvidia/cuda:12.8.0-cudnn-devel-ubuntu22.04 AS base\n",
            path="Dockerfile",
            finding=True,
        ),
        keep(
            "ARG BASE=pytorch/pytorch:2.7.1-cuda12.8-cudnn9-runtime\nFROM ${BASE}\n",
            path="docker/Dockerfile",
            finding=True,
        ),
        keep(
            "services:\n  a:\n    image: nvcr.io/nvidia/pytorch:25.01-py3\n",
            path="compose.yml",
            finding=True,
        ),
        keep("# FROM nvidia/cuda\nFROM python:3.11\n", path="Dockerfile", finding=False),
        keep("FROM me/barracuda:1\n", path="Dockerfile", finding=False),
    ],
)
def cuda_container_image(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for container images that hold CUDA: `FROM nvidia/cuda:...`, `image: nvcr.io/...`.

    ## Why it matters
    The image has no driver library and no toolkit of another device.

    ## What it does
    Reports the line with what to take instead. An ARG is reported where FROM uses it.

    ## Safety
    Always left: chip, operating system and Python of an Ascend image must be chosen.

    ## References
    - https://gitcode.com/Ascend/pytorch/blob/master/docs/zh/installation_guide/references/installation_via_docker.md
    - https://github.com/hiyouga/LLaMA-Factory/blob/main/docker/docker-npu/Dockerfile
    """
    for start, image in _images(site):
        if _is_cuda_image(image):
            yield site.gap(
                (start, start + len(image)),
                _OTHER_BASE if target.agnostic else _BASE,
                category=Category.POTENTIAL if target.agnostic else Category.MANDATORY,
                symbol=image,
            )


_STARTERS = frozenset({"docker", "podman", "nvidia-docker", "singularity", "apptainer", "enroot"})


def _is_cuda_image(image: str) -> bool:
    found = _IMAGE.search(image)
    return found is not None and re.search(r"barracuda", image, re.IGNORECASE) is None


def _images(site: TextSite) -> Iterator[tuple[int, str]]:
    if site.kind == "dockerfile":
        yield from _dockerfile_images(site)
    elif _may_name_image(site):
        for scalar in site.file.scalars:
            named = not scalar.is_key and scalar.inner and _is_image_key(scalar.path)
            if named and scalar.inner and _NAMED_IMAGE.match(scalar.value):
                yield scalar.inner[0], scalar.value
    for run in art.runs(site.file):
        if run.program in _STARTERS and not {"build", "tag", "push"} & set(run.values()[1:3]):
            for word in run.arguments:
                value = re.sub(r"^docker://", "", word.value)
                if (
                    _NAMED_IMAGE.match(value)
                    and re.search(r"[/:]", value)
                    and (at := word.find(value)) >= 0
                ):
                    yield at, value


def _may_name_image(site: TextSite) -> bool:
    if site.kind == "json" and not art.EDITOR.search(site.path):
        return False
    return site.kind in ("yaml", "json") and re.search(r"image|container", site.text) is not None


def _is_image_key(path: tuple[str | int, ...]) -> bool:
    names = [k for k in path if isinstance(k, str)]
    last = names[-1] if names else ""
    if last in ("image", "container", "docker_image", "image_id", "image_name", "base_image"):
        return True
    return bool(re.search(r"(?:^|[-_])image(?:[-_]name|[-_]uri)?$", last, re.IGNORECASE))


def _dockerfile_images(site: TextSite) -> Iterator[tuple[int, str]]:
    froms: set[str] = set()
    for instruction in site.file.instructions:
        if instruction.name == "FROM":
            froms |= set(re.findall(r"\$\{?(\w+)", site.text[instruction.body : instruction.end]))
    for instruction in site.file.instructions:
        words = [w for w in site.file.words(instruction) if not w.value.startswith("--")]
        if instruction.name == "FROM" and words:
            yield words[0].start, words[0].value
        elif instruction.name == "ARG":
            for word in words:
                name, _, value = word.value.partition("=")
                if name in froms and (at := word.find(value)) >= 0:
                    yield at, value


# POR842 -----------------------------------------------------------------------------------------

_RUNS = frozenset({"docker", "podman", "nvidia-docker", "nvidia-docker2"})
_DEVICES = (
    "give the container the NPU instead: --device /dev/davinciN --device /dev/davinci_manager "
    "--device /dev/devmm_svm --device /dev/hisi_hdc, and mount /usr/local/dcmi, npu-smi, "
    "/usr/local/Ascend/driver and /etc/ascend_install.info read-only"
)


@text_rule(
    "POR842",
    "gpu-container-run",
    files=_CONTAINERS,
    effort=3,
    examples=[
        keep("docker run --rm --gpus all -it img\n", path="run.sh", finding=True),
        keep("docker run --runtime=nvidia img\n", path="run.sh", finding=True),
        keep("singularity exec --nv img.sif python a.py\n", path="run.sh", finding=True),
        keep(
            "services:\n  a:\n    deploy:\n      resources:\n        reservations:\n          devices:\n            - driver: nvidia\n              count: 1\n              capabilities: [gpu]\n",
            path="docker-compose.yml",
            finding=True,
        ),
        keep("python train.py --gpus 2\n", path="run.sh", finding=False),
        keep("echo 'docker run --gpus all'\n", path="run.sh", finding=False),
    ],
)
def gpu_container_run(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for containers that are given NVIDIA GPUs: `docker run --gpus`, `driver: nvidia`.

    ## Why it matters
    NVIDIA's container runtime does not exist on another machine, so the container does not start.

    ## What it does
    Reports the line with the devices and mounts of an NPU.

    ## Safety
    Always left: which of the devices the container may use must be chosen.

    ## References
    - https://docs.docker.com/engine/containers/resource_constraints/#gpu
    - https://gitcode.com/Ascend/pytorch/blob/master/docs/zh/installation_guide/references/installation_via_docker.md
    - https://github.com/hiyouga/LLaMA-Factory/blob/main/docker/docker-npu/docker-compose.yml
    """
    advice = (
        "only with NVIDIA's runtime does this start: keep it in a variant for CUDA"
        if target.agnostic
        else _DEVICES
    )
    category = Category.POTENTIAL if target.agnostic else Category.MANDATORY
    for span in _given(site):
        yield site.gap(span, advice, category=category)


def _given(site: TextSite) -> Iterator[tuple[int, int]]:
    for run in art.runs(site.file):
        options = [w for w in run.words if _is_gpu_option(run, w.value)]
        if run.program.startswith("nvidia-docker"):
            yield run.words[0].start, run.words[0].end
        elif options:
            yield options[0].start, options[0].end
    if site.kind == "yaml":
        for scalar in site.file.scalars:
            place = scalar.inner or (scalar.start, scalar.end)
            if scalar.is_key:
                continue
            if scalar.key in ("driver", "runtime") and scalar.value == "nvidia":
                yield place
            elif scalar.key == "options" and re.search(
                r"--gpus\b|--runtime[= ]nvidia", scalar.value
            ):
                yield place  # the container of a GitHub job
            elif scalar.key == "device_ids" and scalar.below("nvidia"):
                yield place
    elif site.kind == "json" and re.search(r"devcontainer|daemon\.json\Z", site.path):
        for scalar in site.file.scalars:
            known = (
                ("hostRequirements", "gpu"),
                ("runtimes", "nvidia", "path"),
                ("default-runtime",),
            )
            asked = scalar.value in ("true", "optional") or "nvidia" in scalar.value
            if scalar.path in known and asked and not scalar.is_key:
                yield scalar.start, scalar.end


def _is_gpu_option(run: art.Run, value: str) -> bool:
    if run.program in _RUNS or run.program.startswith("--"):
        words = run.values()
        if value in ("--runtime=nvidia", "--gpus") or value.startswith("--gpus="):
            return True
        return value == "nvidia" and "--runtime" in words
    if run.program in ("singularity", "apptainer"):
        return value in ("--nv", "--nvccli")
    return False
