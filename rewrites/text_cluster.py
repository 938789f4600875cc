"""POR87x: Kubernetes, Slurm and other schedulers that hand out GPUs."""

from __future__ import annotations

import re
from collections.abc import Iterator

from porter.rule import Category, Finding, keep
from porter.shell import options
from porter.targets import Target
from porter.text_site import TextSite, text_rule

from . import _artefacts as art

FAMILY = "clusters"
TOPIC = "containers"

# POR871 -----------------------------------------------------------------------------------------

_GPU_LABEL = re.compile(r"(?:^|[./])nvidia(?:\.com)?[/.]|cloud\.google\.com/gke-(?:accelerator|gpu)|^k8s\.amazonaws\.com/accelerator|^(?:requests|limits)\.nvidia\.com/")  # fmt: skip
_ACCELERATOR = re.compile(
    r"(?:nvidia[-_])?(?:tesla[-_])?(?:[ABHVPKTL]\d{1,3}[a-zA-Z]{0,2}|RTX\w*)(?:-\d+GB)?(?::\d+)?\Z",
    re.I,
)


@text_rule(
    "POR871",
    "kubernetes-gpu-resource",
    files=(*art.YAML, *art.JSON),
    effort=3,
    examples=[
        keep(
            "spec:\n  containers:\n  - name: a\n    resources:\n      limits:\n        nvidia.com/gpu: 2\n",
            path="pod.yaml",
            finding=True,
        ),
        keep("spec:\n  runtimeClassName: nvidia\n", path="pod.yaml", finding=True),
        keep("resources:\n  accelerators: A100:8\n", path="sky.yaml", finding=True),
        keep("a: see nvidia.com/gpu\nb: nvidia.com\n", path="x.yaml", finding=False),
        keep("# nvidia.com/gpu: 1\na: 1\n", path="x.yaml", finding=False),
    ],
)
def kubernetes_gpu_resource(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for manifests that ask for NVIDIA GPUs: `nvidia.com/gpu`, node labels, tolerations.

    ## Why it matters
    The scheduler never finds a node, or places the pod on one with GPUs.

    ## What it does
    Reports the line. For NPU: `huawei.com/Ascend910: N`, in limits and in requests.

    ## Safety
    Always left: the name of the resource depends on the chip, and with shared devices the number
    means percent.

    ## References
    - https://kubernetes.io/docs/tasks/manage-gpus/scheduling-gpus/
    - https://gitcode.com/Ascend/mind-cluster (Ascend device plugin)
    """
    advice = (
        "keep this in an overlay for CUDA, with one for each other device"
        if target.agnostic
        else "ask for huawei.com/Ascend910: N in limits and requests (the name depends on the chip)"
    )
    category = Category.POTENTIAL if target.agnostic else Category.MANDATORY
    if not re.search(
        r"nvidia\.com|[\"' ]nvidia\b|gke-|k8s\.amazonaws|accelerators[\"']?:", site.text
    ):
        return
    for scalar in site.file.scalars:
        span = scalar.inner or (scalar.start, scalar.end)
        label = scalar.value
        if scalar.is_key and _GPU_LABEL.search(label) and " " not in label:
            yield site.gap(span, advice, category=category, symbol=label)
        elif scalar.is_key:
            continue
        elif scalar.key == "key" and _GPU_LABEL.search(label):
            yield site.gap(span, f"a node's label or taint; {advice}", category=category)
        elif (scalar.key, label) == ("runtimeClassName", "nvidia"):
            yield site.gap(span, "NVIDIA's runtime class; the target has its own or none",
                           category=category)  # fmt: skip
        elif scalar.key == "accelerators" and _ACCELERATOR.match(label):
            yield site.gap(
                span, "asks for NVIDIA GPUs by name; name the target's", category=category
            )


# POR872 -----------------------------------------------------------------------------------------

_DIRECTIVE = re.compile(r"^#(?:SBATCH|PBS|BSUB|\$|PJM|OAR|COBALT)[ \t]+([^\r\n]*)", re.MULTILINE)
_GPU_REQUEST = re.compile(
    r"(?:--gres(?:-flags)?[= ]\s*gpu\S*|--gpus(?:-per-(?:node|task|socket))?(?:[= ]\s*\S+)?|--gpu-bind\S*"
    r"|-G[ =]?\s*\S+|--constraint[= ]\S*(?:gpu|[ahv]100)\S*|(?:--partition|-p|-q)[= ]?\S*gpu\S*"
    r"|\bngpus=\d+|\bgpus=\d+|\bgpu=\d+|-gpu\s+\S+|\bnum=\d+:\S*gpu\S*)",
    re.IGNORECASE,
)


@text_rule(
    "POR872",
    "scheduler-gpu-request",
    files=(*art.SHELL, *art.YAML, *art.MAKE, *art.JSON),
    category=Category.POTENTIAL,
    effort=3,
    examples=[
        keep(
            "#!/bin/bash\n#SBATCH --job-name=a\n#SBATCH --gres=gpu:8\nsrun python a.py\n",
            path="train.slurm",
            finding=True,
        ),
        keep("srun -N 2 --gres=gpu:8 python a.py\n", path="a.sh", finding=True),
        keep("#!/bin/bash\n#SBATCH --nodes=2\n# --gres=gpu:8\n", path="a.sh", finding=False),
        keep("python a.py --gpus=2\n", path="a.sh", finding=False),
    ],
)
def scheduler_gpu_request(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for jobs that ask Slurm, PBS or LSF for GPUs: `#SBATCH --gres=gpu:8`.

    ## Why it matters
    The job waits for, or runs on, a machine with GPUs.

    ## What it does
    Reports the request: what the target's devices are called is a matter of the site
    (`scontrol show node` lists the names).

    ## Safety
    Always left.

    ## References
    - https://slurm.schedmd.com/gres.html
    """
    advice = "ask the site what it calls the target's devices (Slurm: gres of scontrol show node)"
    if site.kind == "shell":
        for line in _DIRECTIVE.finditer(site.text):
            for found in _GPU_REQUEST.finditer(re.sub(r"\s#.*", "", line[1])):
                start = line.start(1) + found.start()
                yield site.gap((start, start + len(found.group())), advice)
    for run in art.runs(site.file):
        if run.program in ("srun", "sbatch", "salloc", "qsub", "bsub"):
            for name, word in options(run.arguments):
                value = word.value if word is not None else ""
                if re.match(r"--gpus|-G\Z", name) or (name == "--gres" and "gpu" in value):
                    place = word if word is not None else run.words[0]
                    yield site.gap((place.start, place.end), advice)
    for scalar in site.file.scalars if re.search(r"\bgres[\"']?:\s*[\"']?gpu", site.text) else ():
        if not scalar.is_key and scalar.key == "gres" and scalar.value.startswith("gpu"):
            yield site.gap(scalar.inner or (scalar.start, scalar.end), advice)


# POR873 -----------------------------------------------------------------------------------------

_MODULE = re.compile(r"(?:[\w.-]+/)*(?:cuda(?:toolkit)?|cudnn|nccl|nvhpc|tensorrt|nvidia[\w-]*)(?:[/_-]?\d[\w.-]*)?(?:/\S*)?\Z", re.I)  # fmt: skip


@text_rule(
    "POR873",
    "cuda-module-loaded",
    files=(*art.SHELL, *art.YAML, *art.MAKE),
    category=Category.POTENTIAL,
    examples=[
        keep("module purge\nmodule load gcc/12 cuda/12.8\n", path="a.sh", finding=True),
        keep("export PATH=/usr/local/cuda-12.8/bin:$PATH\n", path="a.sh", finding=True),
        keep("module load gcc/12 barracuda\n", path="a.sh", finding=False),
        keep("# module load cuda\npython a.py\n", path="a.sh", finding=False),
    ],
)
def cuda_module_loaded(site: TextSite, target: Target) -> Iterator[Finding]:
    """Checks for `module load cuda` and for paths of the CUDA toolkit in variables.

    ## Why it matters
    The module or folder does not exist where there is no CUDA.

    ## What it does
    Reports it. For NPU: `source /usr/local/Ascend/ascend-toolkit/set_env.sh`.

    ## Safety
    Always left: names of modules and folders belong to a site.

    ## References
    - https://modules.readthedocs.io/en/latest/module.html
    - https://gitcode.com/Ascend/pytorch (installation guide: set_env.sh)
    """
    advice = (
        "load it only where there is CUDA"
        if target.agnostic
        else "leave it out; source /usr/local/Ascend/ascend-toolkit/set_env.sh instead"
    )
    for run in art.runs(site.file):
        if run.program in ("module", "ml", "spack"):
            for word in run.arguments:
                if _MODULE.match(word.value):
                    yield site.gap((word.start, word.end), advice)
        words = run.words if run.program in ("export", "source", ".") else ()
        for word in (*run.assignments, *words):
            if re.search(
                r"/cuda(?:-[\d.]+)?(?:/|:|$)|/(?:cudnn|nccl)/",
                word.value.partition("=")[2] or word.value,
            ):
                yield site.gap((word.start, word.end), f"a folder of the CUDA toolkit; {advice}")
