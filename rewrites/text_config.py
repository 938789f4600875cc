"""POR86x: configurations in YAML, JSON and TOML that name CUDA; accelerate and DeepSpeed."""

from __future__ import annotations

import re
from collections.abc import Iterator

from porter.rule import Category, Safety, change, keep
from porter.rule import Finding as Answer
from porter.scalars import Scalar
from porter.targets import Target
from porter.text_site import TextFile, TextSite, text_rule

from . import _artefacts as art

FAMILY = "configurations"
TOPIC = "environment"

_CUDA = re.compile(r"cuda(?::\d+)?\Z")
#: Configurations of CI, editors and packages: what they call a device is not torch's.
_OTHER_TOOLS = re.compile(
    r"(?:^|/)(?:\.github|\.gitlab|\.circleci|\.azure[^/]*|\.buildkite|\.vscode|\.idea)/|(?:^|/)(?:"
    r"\.gitlab-ci\.yml|\.pre-commit-config\.ya?ml|pyproject\.toml|package(?:-lock)?\.json|_config\.yml|"
    r"mkdocs\.ya?ml|codecov\.ya?ml|environment[\w.-]*\.ya?ml|conda[\w.-]*\.ya?ml|meta\.yaml|"
    r"(?:.*/)?versions?\.json|(?:docker-)?compose[\w.-]*\.ya?ml|azure-pipelines[\w.-]*\.yml|\w*\.lock|Pipfile|action\.ya?ml)\Z"
)
_READ_BY_CODE = (
    "the value wins over the device at hand; if the program understands it write auto, else leave "
    "the key out or read the device from torch.accelerator there"
)


#: What a file must say before it is parsed; prose and data say such words seldom as a whole value.
_CONCERNS = re.compile(r"(?i)cuda|cudnn|nccl|\bgpu\b|apex|_bnb_|\bbnb\.|flash|Tensorrt")
_SHORT = re.compile(
    r'"[^"\s]{0,60}(?:cuda|cudnn|nccl|_bnb_|apex_fused|apex\.|flash_attention_|Tensorrt)[^"\s]{0,60}"'
    r'|:\s*"gpu"',
    re.IGNORECASE,
)


def _settings(site: TextSite) -> Iterator[tuple[Scalar, tuple[int, int]]]:
    """The values of a configuration that a program of the project may read."""
    said = _SHORT if site.kind == "json" else _CONCERNS
    if _OTHER_TOOLS.search(site.path) or not said.search(site.text):
        return
    for scalar in site.file.scalars:
        if not scalar.is_key:
            yield scalar, scalar.inner or (scalar.start, scalar.end)


# POR861 -----------------------------------------------------------------------------------------

_DEVICE_KEY = re.compile(
    r"(?:\w*[_-])?(?:device|devices|map[_-]location|device[_-](?:type|name|id|map))\Z",
    re.IGNORECASE,
)


@text_rule(
    "POR861",
    "cuda-device-in-config",
    files=art.SETTINGS,
    examples=[
        change(
            "model:\n  # where\n  device: cuda:0  # first\n  size: 3\ntrain: {device: 'cuda', n: 1}\n",
            None,
            "model:\n  # where\n  device: npu:0  # first\n  size: 3\ntrain: {device: 'npu', n: 1}\n",
            path="conf/train.yaml",
        ),
        change(
            '{"n": 1,\n "device": "cuda"}\n',
            None,
            '{"n": 1,\n "device": "npu"}\n',
            path="config.json",
        ),
        change(
            "[run]\ndevice = 'cuda' # c\n", None, "[run]\ndevice = 'npu' # c\n", path="run.toml"
        ),
        change("map_location: cuda\n", None, "map_location: npu\n", path="a.yaml", unsafe=True),
        keep("map_location: cuda\n", path="a.yaml", finding=True),
        keep("trainer:\n  accelerator: gpu\n", path="a.yaml", finding=True),
        keep("device: cpu  # not cuda\nname: cuda\n", path="a.yaml", finding=False),
        keep(
            "jobs:\n  a:\n    strategy:\n      matrix:\n        device: [cuda, cpu]\n",
            path=".github/workflows/a.yml",
            finding=False,
        ),
    ],
)
def cuda_device_in_config(site: TextSite, target: Target) -> Iterator[Answer]:
    """Checks for settings such as `device: cuda` and `accelerator: gpu`.

    ## Why it matters
    The setting wins over whatever the program would choose by itself.

    ## What it does
    npu: `device: cuda:0` becomes `device: npu:0` where the key is exactly `device`; other keys that
    name a device only with --unsafe. accelerator: a configuration cannot ask which device there
    is, so it is reported.

    ## Safety
    Unsafe for other keys, such as `map_location` and `teacher_device`: what reads them is not
    known. Lists and Lightning's `accelerator: gpu` are reported only.

    ## References
    - https://docs.pytorch.org/docs/stable/tensor_attributes.html#torch.device
    - https://github.com/huggingface/accelerate (state.py reads "auto")
    """
    for scalar, span in _settings(site):
        key = scalar.key
        if key == "accelerator" and scalar.value in ("gpu", "cuda"):
            yield site.gap(span, 'Lightning has no accelerator for NPU; write "auto"'
                           if not target.agnostic else 'write "auto"',
                           category=Category.POTENTIAL, effort=1)  # fmt: skip
        elif not _CUDA.match(scalar.value) or not _DEVICE_KEY.match(key):
            continue
        elif target.agnostic:
            yield site.gap(span, _READ_BY_CODE, category=Category.POTENTIAL)
        elif scalar.inner is None or scalar.listed:
            yield site.gap(span, f"name the NPU here: {scalar.value.replace('cuda', 'npu')}",
                           category=Category.POTENTIAL)  # fmt: skip
        else:
            exact = key == "device"
            yield site.replace(
                (span[0], span[0] + len("cuda")),
                "npu",
                safety=Safety.SAFE if exact else Safety.UNSAFE,
                reason="" if exact else f"make sure that what reads {key} accepts npu",
            )


# POR862 -----------------------------------------------------------------------------------------

_BACKEND_KEY = re.compile(
    r"(?:dist(?:ributed)?[_-]?|ddp[_-]?|torch[_-]?|process[_-]group[_-]?|comm(?:unication)?[_-]?)*backend\Z",
    re.IGNORECASE,
)


@text_rule(
    "POR862",
    "nccl-backend-in-config",
    files=art.SETTINGS,
    examples=[
        change(
            "dist_params:\n  backend: nccl  # fast\n  port: 29500\n",
            None,
            "dist_params:\n  backend: hccl  # fast\n  port: 29500\n",
            path="options/train.yml",
        ),
        change('{"dist_backend": "nccl"}\n', None, '{"dist_backend": "hccl"}\n', path="a.json"),
        change(
            '{"comm_backend_name": "nccl"}\n',
            None,
            '{"comm_backend_name": "hccl"}\n',
            path="a.json",
            unsafe=True,
        ),
        keep(
            '{"optimizer": {"params": {"comm_backend_name": "nccl"}}}\n',
            path="ds.json",
            finding=True,
        ),
        keep("backend: gloo  # nccl\nname: nccl\n", path="a.yml", finding=False),
    ],
)
def nccl_backend_in_config(site: TextSite, target: Target) -> Iterator[Answer]:
    """Checks for settings that choose NCCL: `backend: nccl`, `"comm_backend_name": "nccl"`.

    ## Why it matters
    NCCL works between CUDA devices only.

    ## What it does
    npu: `hccl` under keys such as `backend` and `dist_backend`; DeepSpeed's `comm_backend_name`
    with --unsafe. accelerator: reported; without a backend torch takes the one of the device.

    ## Safety
    Unsafe for `comm_backend_name`: the 1-bit optimisers have a communication of their own for each
    backend (deepspeed/runtime/comm/hccl.py).

    ## References
    - https://docs.pytorch.org/docs/stable/distributed.html#torch.distributed.init_process_group
    - https://www.deepspeed.ai/docs/config-json/
    """
    for scalar, span in _settings(site):
        if scalar.value != "nccl" or "backend" not in scalar.key.lower():
            continue
        if scalar.key == "comm_backend_name" and not target.agnostic and scalar.inner:
            yield site.replace(span, "hccl", safety=Safety.UNSAFE,
                               reason="DeepSpeed's 1-bit optimisers know hccl; compare the results")  # fmt: skip
        elif target.agnostic:
            yield site.gap(span, "leave the backend out, so that torch takes the device's",
                           category=Category.POTENTIAL)  # fmt: skip
        elif _BACKEND_KEY.match(scalar.key) and scalar.inner and not scalar.listed:
            yield site.replace(span, "hccl")
        else:
            yield site.gap(span, "write hccl if this chooses torch.distributed's backend",
                           category=Category.POTENTIAL)  # fmt: skip


# POR863 -----------------------------------------------------------------------------------------

_ACCELERATE_KEYS = frozenset(
    {"distributed_type", "compute_environment", "num_machines", "machine_rank"}
)


def _is_accelerate(file: TextFile) -> bool:
    keys = {s.value for s in file.scalars if s.is_key and len(s.path) == 1}
    return len(keys & _ACCELERATE_KEYS) >= 2


@text_rule(
    "POR863",
    "accelerate-multi-gpu",
    files=(*art.YAML, *art.JSON),
    examples=[
        change(
            "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_GPU  # c\nnum_machines: 1\n",
            None,
            "compute_environment: LOCAL_MACHINE\ndistributed_type: MULTI_NPU  # c\nnum_machines: 1\n",
            path="accelerate.yaml",
        ),
        keep("distributed_type: MULTI_GPU\n", path="x.yaml", finding=True),
        keep("distributed_type: FSDP  # MULTI_GPU\n", path="x.yaml", finding=False),
        keep("num_machines: 1\ndistributed_type: DEEPSPEED\n", path="x.yaml", finding=False),
    ],
)
def accelerate_multi_gpu(site: TextSite, target: Target) -> Iterator[Answer]:
    """Checks for `distributed_type: MULTI_GPU` in configurations of accelerate.

    ## Why it matters
    accelerate launches processes for the kind of device that the file names.

    ## What it does
    npu: MULTI_NPU, where the file has other keys of accelerate as well. accelerator: reported; one
    file for each device, or `accelerate launch --multi_gpu` and `--config_file` by hand.

    ## References
    - https://github.com/huggingface/accelerate (utils/dataclasses.py: DistributedType.MULTI_NPU)
    """
    if "MULTI_GPU" not in site.text:
        return
    for scalar in site.file.scalars:
        if scalar.is_key or scalar.key != "distributed_type" or scalar.value != "MULTI_GPU":
            continue
        span = scalar.inner or (scalar.start, scalar.end)
        if not target.agnostic and scalar.inner and _is_accelerate(site.file):
            yield site.replace(span, "MULTI_NPU")
        else:
            yield site.gap(span, "accelerate needs MULTI_NPU here on NPUs: keep a file for each "
                           "device", category=Category.POTENTIAL)  # fmt: skip


# POR864 -----------------------------------------------------------------------------------------

_DEEPSPEED = frozenset({"zero_optimization", "train_micro_batch_size_per_gpu", "train_batch_size"})
_NO_BUILDER = {
    "sparse_attention": "DeepSpeed has no sparse attention for NPU",
    "quantize_training": "DeepSpeed has no quantizer for NPU",
    "compression_training": "DeepSpeed has no quantizer for NPU",
    "fp8": "DeepSpeed's fp8 needs Transformer Engine",
    "cuda_graphs": "CUDA graphs exist on CUDA only",
    "enable_cuda_graph": "CUDA graphs exist on CUDA only",
    "replace_with_kernel_inject": "the injected kernels are CUDA's; op_builder/npu has a part of them",
}


_FEATURES = re.compile(rf"\b(?:{'|'.join(_NO_BUILDER)})[\"']?\s*:|OneBit(?:Adam|Lamb)|ZeroOneAdam")


@text_rule(
    "POR864",
    "deepspeed-feature-of-cuda",
    files=(*art.JSON, *art.YAML),
    category=Category.POTENTIAL,
    effort=5,
    examples=[
        keep(
            '{"zero_optimization": {"stage": 2}, "sparse_attention": {"mode": "fixed"}}\n',
            path="ds.json",
            finding=True,
        ),
        keep(
            '{"train_batch_size": 8, "optimizer": {"type": "OneBitAdam"}}\n',
            path="ds.json",
            finding=True,
        ),
        keep(
            '{"zero_optimization": {"stage": 3}, "train_batch_size": 8}\n',
            path="ds.json",
            finding=False,
        ),
        keep('{"sparse_attention": true}\n', path="model.json", finding=False),
    ],
)
def deepspeed_feature_of_cuda(site: TextSite, target: Target) -> Iterator[Answer]:
    """Checks for features in DeepSpeed's configuration that only its CUDA side has.

    ## Why it matters
    ZeRO and the offloading work on NPU; some features have kernels for CUDA alone and fail when
    their operators are built.

    ## What it does
    Reports sparse attention, quantisation, kernel injection, fp8, CUDA graphs and the 1-bit
    optimisers.

    ## Safety
    Always left.

    ## References
    - https://github.com/deepspeedai/DeepSpeed/tree/master/op_builder/npu
    - https://www.deepspeed.ai/docs/config-json/
    """
    if not _FEATURES.search(site.text):
        return
    top = {s.value for s in site.file.scalars if s.is_key and len(s.path) == 1}
    if not top & _DEEPSPEED:
        return
    for scalar in site.file.scalars:
        span = scalar.inner or (scalar.start, scalar.end)
        if scalar.is_key and scalar.value in _NO_BUILDER and not _off(site.file, scalar):
            yield site.gap(span, _NO_BUILDER[scalar.value])
        elif scalar.key == "type" and re.fullmatch(r"OneBit\w+|ZeroOneAdam", scalar.value):
            yield site.gap(span, "the 1-bit optimisers need comm_backend_name hccl on NPU, and "
                           "DeepSpeed's own communication there: compare with Adam")  # fmt: skip


def _off(file: TextFile, key: Scalar) -> bool:
    below = [s for s in file.scalars if not s.is_key and s.path[: len(key.path)] == key.path]
    if len(below) == 1 and below[0].value.lower() in ("false", "null", "none", "0", ""):
        return True
    return any(s.key == "enabled" and s.value.lower() == "false" for s in below)


# POR865 -----------------------------------------------------------------------------------------

_CUDA_KEY = re.compile(r"(?:^|[_.-])(?:cuda|cudnn|nccl)(?:[_.-]|$)|[a-z]C[uU][dD][aA](?![a-z])")
_CUDA_VALUE = re.compile(
    r"cuda(?::\d+(?:,\d+)*)?\Z|nccl\Z|torch\.(?:cuda|backends\.cudnn)\.\S+\Z|(?:CUDA|Tensorrt)ExecutionProvider\Z"
    r"|apex\.\S+\Z|\w*[Ff]lash_?[Aa]ttention_?[23]\Z|bnb\.\S+\Z|(?:paged_)?adamw?_bnb_\w+\Z|adamw_apex_fused\Z"
)
#: More settings than these in one file are counted, not listed.
MOST = 20
_OFF_VALUE = re.compile(r"(?:false|no|off|null|none|~|0|)\Z", re.IGNORECASE)
_PROSE = re.compile(r"description|help|title|comment|text|prompt|question|answer|doc|instruction|output|input|response|content", re.I)  # fmt: skip


@text_rule(
    "POR865",
    "cuda-option-in-config",
    files=art.SETTINGS,
    category=Category.POTENTIAL,
    effort=3,
    examples=[
        keep("scaler:\n  _target_: torch.cuda.amp.GradScaler\n", path="a.yaml", finding=True),
        keep("use_cuda: true\n", path="a.yaml", finding=True),
        keep("cudnn_benchmark: true\n", path="a.yaml", finding=True),
        keep('{"providers": ["CUDAExecutionProvider"]}\n', path="a.json", finding=True),
        keep("use_cuda: false\nname: barracuda\ntext: about cuda\n", path="a.yaml", finding=False),
        keep('{"text": "cuda"}\n', path="data.json", finding=False),
    ],
)
def cuda_option_in_config(site: TextSite, target: Target) -> Iterator[Answer]:
    """Checks for other settings that name something of CUDA: `use_cuda`, `torch.cuda.amp.GradScaler`.

    ## Why it matters
    The program may do something that works on CUDA alone, or skip the device at hand.

    ## What it does
    Reports keys with the word cuda that are switched on, and values that are the dotted name of
    something in torch.cuda, an execution provider, an optimiser or an attention made for CUDA.
    What cuDNN alone reads is information. Long texts and data are left out.

    ## Safety
    Always left: what reads the setting is not known.

    ## References
    - https://docs.pytorch.org/docs/stable/cuda.html
    - https://onnxruntime.ai/docs/execution-providers/
    """
    answers = [
        answer
        for scalar, span in _settings(site)
        if len(scalar.value) <= 80 and (answer := _other(site, scalar, span)) is not None
    ]
    yield from answers[:MOST]
    if len(answers) > MOST:
        last = answers[MOST]
        yield site.gap((last.start, last.end), f"{len(answers) - MOST} more such settings follow")


def _other(site: TextSite, scalar: Scalar, span: tuple[int, int]) -> Answer | None:
    key = scalar.key
    if _DEVICE_KEY.match(key) or "backend" in key.lower() or _PROSE.search(key):
        return None
    if key.isupper() or key in art._SHELL_KEYS or scalar.below("env", "environment"):
        return None  # a variable or a command: other rules look at these
    if _CUDA_VALUE.match(scalar.value):
        if re.search(r"[Ff]lash", scalar.value):
            return site.information(span, "transformers routes it to the NPU's fused attention; "
                                    "elsewhere choose sdpa")  # fmt: skip
        return site.gap(span, f"{scalar.value} exists on CUDA only; name the target's")
    # The switch is the key: a message that only mentions the word is none.
    if _CUDA_KEY.search(key) and not _OFF_VALUE.match(scalar.value) and " " not in scalar.value:
        if re.match(r"v?\d+\.\d", scalar.value) and key.lower().rpartition("_")[2] in (
            "cuda",
            "cudnn",
            "version",
        ):
            return None  # a table of versions
        if re.search(r"cudnn|allow_tf32", key):
            return site.information(span, "read by cuDNN only; other devices ignore it")
        how = "is set" if re.search(r"[/:.\\]", scalar.value) else "is switched on"
        return site.gap(span, f"{key} {how}; check what the program does with it")
    return None
