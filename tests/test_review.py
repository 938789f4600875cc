"""Rewrites that look right and are wrong: what the reviews leave alone, and why."""

from __future__ import annotations

import pytest

from porter import catalog, engine
from porter.rule import Status
from porter.targets import Target

CATALOG = catalog.load()


def outcome(
    text: str, target: str = "accelerator", path: str = "a.py", **options: bool
) -> engine.Outcome:
    return engine.analyse(text, CATALOG, Target(target), path=path, **options)


def reasons(found: engine.Outcome) -> str:
    return " | ".join(s.finding.reason for s in found.settled)


KEPT = {
    "an arm beside other accelerators": (
        "import torch\n\n\ndef free():\n    if torch.cuda.is_available():\n        torch.cuda.empty_cache()\n"
        "    elif torch.xpu.is_available():\n        torch.xpu.empty_cache()\n",
        "tells several accelerators apart",
    ),
    "a list of device types": (
        'import torch\n\nSUPPORTED = ["cuda", "xpu", "hpu"]\n\n\ndef f(device):\n    return device in SUPPORTED\n',
        "",
    ),
    "a fallback after other accelerators": (
        'import torch\n\n\ndef f(kind):\n    device = kind if kind in {"xpu", "hpu"} else "cuda"\n'
        "    return torch.zeros(1, device=device)\n",
        "tells several accelerators apart",
    ),
    "a kernel behind the check": (
        "import torch\nfrom .kernels import dtw_cuda, dtw_cpu\n\n\ndef f(x):\n    if x.is_cuda:\n"
        "        return dtw_cuda(x)\n    return dtw_cpu(x)\n",
        "dtw_cuda",
    ),
    "a kernel behind a negative check": (
        "import torch\nfrom . import deform_ext\n\n\ndef f(x):\n    if not x.is_cuda:\n"
        "        raise NotImplementedError\n    return deform_ext.forward(x)\n",
        "deform_ext",
    ),
    "a build of CUDA sources": (
        "import torch\nfrom torch.utils.cpp_extension import CUDAExtension, CppExtension\n\n"
        "kind = CppExtension\nif torch.cuda.is_available():\n    kind = CUDAExtension\n",
        "CUDAExtension",
    ),
    "a condition that needs a CUDA-only answer": (
        "import torch\n\n\ndef f(x):\n"
        "    return x.is_cuda and torch.cuda.get_device_capability(x.device)[0] >= 8\n",
        "rest of this condition",
    ),
    "a property other devices lack": (
        "import torch\n\n\ndef f(device):\n    if device.type == 'cuda':\n"
        "        return torch.cuda.get_device_properties(device).multi_processor_count\n    return 1\n",
        "multi_processor_count",
    ),
    "a library of its own beside it": (
        "import cupy\nimport torch\n\n\ndef f(x):\n    y = cupy.asarray(x)\n    return torch.as_tensor(y, device='cuda')\n",
        "cupy",
    ),
    "cupy in the condition": (
        "import torch\nhas_cupy = False\n\n\ndef f(x):\n    return x if x.is_cuda and has_cupy else None\n",
        "cupy",
    ),
    "a class named after CUDA": (
        "import torch\n\n\nclass CUDAAccelerator:\n    def count(self):\n        return torch.cuda.device_count()\n",
        "named after CUDA",
    ),
}


@pytest.mark.parametrize("case", KEPT)
def test_left_alone(case: str) -> None:
    text, reason = KEPT[case]
    found = outcome(text)
    assert found.text == text
    assert reason in reasons(found)


def test_own_branch_for_the_target_is_information() -> None:
    text = (
        "import torch\n\n\ndef pick(device):\n    if device == 'cuda':\n        return torch.cuda.device_count()\n"
        "    elif device == 'npu':\n        return torch.npu.device_count()\n"
    )
    for target in ("accelerator", "npu"):
        found = outcome(text, target)
        assert found.text == text
    assert all(s.status is Status.INFORMATION for s in outcome(text, "npu").settled)


def test_mps_as_the_next_choice_is_no_obstacle() -> None:
    text = (
        'import torch\n\ndevice = "cuda" if torch.cuda.is_available() else "mps" '
        'if torch.backends.mps.is_available() else "cpu"\n'
    )
    assert "torch.accelerator.is_available()" in outcome(text).text
    assert '"npu" if torch.npu.is_available()' in outcome(text, "npu").text


def test_a_negated_check_leads_to_the_arms_behind_it() -> None:
    text = (
        "import torch\n\n\ndef f(model, gpu):\n"
        "    if not torch.cuda.is_available() and not torch.backends.mps.is_available():\n"
        "        print('this will be slow')\n"
        "    elif gpu is not None and torch.cuda.is_available():\n        model = model.cuda()\n"
        "    elif torch.backends.mps.is_available():\n        model = model.to('mps')\n    return model\n"
    )
    found = outcome(text).text
    assert "torch.cuda" not in found
    assert found.count("torch.accelerator.is_available()") == 2


def test_the_arms_of_a_chain_are_opened_together_or_not_at_all() -> None:
    text = (
        "import torch\n\n\ndef f(model, loud):\n"
        "    if torch.cuda.is_available() and loud:\n        print('fast')\n"
        "    elif torch.cuda.is_available():\n        model = model.to('cuda')\n"
        "    elif torch.backends.mps.is_available():\n        model = model.to('mps')\n    return model\n"
    )
    found = outcome(text)
    assert found.text.count("torch.cuda.is_available()") == 2
    assert reasons(found).count("tells several accelerators apart") == 2


def test_unsafe_applies_what_review_marked() -> None:
    text = KEPT["a class named after CUDA"][0]
    assert "torch.accelerator.device_count()" in outcome(text, unsafe=True).text


def test_named_file() -> None:
    text = "import torch\nn = torch.cuda.device_count()\n"
    assert outcome(text, path="accelerators/cuda.py").text == text
    assert outcome(text, path="accelerators/barracuda.py").text != text


NPU_KEPT = {
    "an arm beside other accelerators": (
        "import torch\n\n\ndef free():\n    if torch.cuda.is_available():\n        torch.cuda.empty_cache()\n"
        "    elif torch.xpu.is_available():\n        torch.xpu.empty_cache()\n",
        "tells several accelerators apart",
    ),
    "a question about a build of torch.cuda": (
        "import torch\n\n\ndef f():\n    return torch.version.hip is not None and torch.cuda.is_available()\n",
        "a build of torch.cuda",
    ),
    "a value that is named after CUDA": (
        "import torch\n\n\ndef f(self, q):\n    return self.cuda_config if q.is_cuda else self.cpu_config\n",
        "`cuda_config` may be made for CUDA alone",
    ),
}


@pytest.mark.parametrize("case", NPU_KEPT)
def test_left_alone_for_npu(case: str) -> None:
    text, said = NPU_KEPT[case]
    found = outcome(text, "npu")
    assert found.text == text
    assert said in reasons(found)


USES = (
    '\n\ndef f(n, device="cuda"):\n    return torch.ones(n, device=device)\n'
    '\n\ndef g(n, device="cuda"):\n    return torch.ones(n, device=device)\n'
)


@pytest.mark.parametrize(
    "head",
    [
        "import os\n\nos.environ['A'] = '1'\nimport torch\n",
        "import os\n\nos.environ['A'] = '1'\ntry:\n    import torch\nexcept ImportError:\n    raise\n",
        "import os\n\nx = 1\nimport torch as torch\nimport sys\n",
    ],
)
def test_a_shared_line_stands_behind_the_import_that_it_needs(head: str) -> None:
    found = outcome(head + USES)
    assert found.text.startswith(head + "\ndevice_type = ")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        (f"import os\n{USES}\nimport torch\n", "imported further down"),
        (
            f"import os\ntry:\n    import torch\nexcept ImportError:\n    torch = None\n{USES}",
            "torch may be missing",
        ),
        (f"import os\nif os.name:\n    import torch\n{USES}", "torch may be missing"),
    ],
)
def test_torch_is_not_asked_before_it_is_there(text: str, said: str) -> None:
    found = outcome(text)
    assert found.text == text
    assert said in reasons(found)


def test_an_f_string_without_fields_is_a_string() -> None:
    found = outcome('import torch\n\n\ndef f():\n    return torch.device(f"cuda")\n', "npu")
    assert 'torch.device(f"npu")' in found.text


def test_a_decorator_of_a_nested_function_belongs_to_the_outer_one() -> None:
    choice = '"nccl" if dist.is_nccl_available() else "gloo"'
    found = outcome(
        "import torch\nimport torch.distributed as dist\n\n\ndef f(mark):\n"
        f"    @mark({choice})\n    def g():\n        pass\n\n    return g, ({choice})\n",
        unsafe=True,
    )
    assert found.text.count("default_backend = ") == 1
    assert "def f(mark):\n    default_backend = " in found.text
