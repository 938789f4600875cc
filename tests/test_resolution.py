"""Names are resolved, not matched as text; strings are devices only where they reach one."""

from __future__ import annotations

import pytest

from porter import catalog, engine
from porter.module import ProjectFacts
from porter.rule import Status
from porter.targets import Target

CATALOG = catalog.load()


def npu(text: str, **options: object) -> str:
    found = engine.analyse(text, CATALOG, Target("npu"), **options)  # type: ignore[arg-type]
    assert found.problem == ""
    compile(found.text, "<migrated>", "exec", dont_inherit=True)
    return found.text


NAMES = {
    "alias of torch": (
        "import torch as th\nth.cuda.synchronize()\n",
        "import torch as th\nth.npu.synchronize()\n",
    ),
    "alias of torch.cuda": (
        "import torch.cuda as tc\ntc.synchronize()\n",
        "import torch\ntorch.npu.synchronize()\n",
    ),
    "from torch import cuda": (
        "from torch import cuda\ncuda.synchronize()\n",
        "import torch\ntorch.npu.synchronize()\n",
    ),
    "from torch.cuda import a name": (
        "import torch\nfrom torch.cuda import synchronize as sync\nsync()\n",
        "import torch\ntorch.npu.synchronize()\n",
    ),
    "autocast under another name": (
        "from torch.cuda.amp import autocast as ac\n\n\ndef f(x):\n    with ac():\n        return x\n",
        'from torch.amp import autocast as ac\n\n\ndef f(x):\n    with ac("npu"):\n        return x\n',
    ),
    "function-local import": (
        "def f():\n    import torch\n\n    torch.cuda.synchronize()\n",
        "def f():\n    import torch\n\n    torch.npu.synchronize()\n",
    ),
    "alias by assignment": (
        "import torch\n\ncuda = torch.cuda\ncuda.synchronize()\n",
        None,
    ),
    "getattr with a constant": (
        'import torch\ngetattr(torch, "cuda").synchronize()\n',
        "import torch\ntorch.npu.synchronize()\n",
    ),
    "import on trial": (
        "try:\n    import torch\nexcept ImportError:\n    torch = None\n\n\ndef f():\n    torch.cuda.synchronize()\n",
        "try:\n    import torch\nexcept ImportError:\n    torch = None\n\n\ndef f():\n    torch.npu.synchronize()\n",
    ),
    "line continuation": (
        "import torch\ntorch.cuda \\\n    .synchronize()\n",
        None,
    ),
}


@pytest.mark.parametrize("case", NAMES)
def test_names(case: str) -> None:
    before, after = NAMES[case]
    result = npu(before)
    if after is None:
        assert "npu" in result
    else:
        assert result == after


SHADOWED = {
    "parameter": "def f(torch):\n    torch.cuda.synchronize()\n",
    "loop variable": "import torch\n\n\ndef f(xs):\n    for torch in xs:\n        torch.cuda.synchronize()\n",
    "comprehension": "import torch\n\n\ndef f(xs):\n    return [torch.cuda.synchronize() for torch in xs]\n",
    "except as": "import torch\n\n\ndef f():\n    try:\n        pass\n    except OSError as torch:\n        torch.cuda.synchronize()\n",
    "with as": "import torch\n\n\ndef f(g):\n    with g() as torch:\n        torch.cuda.synchronize()\n",
    "walrus": "import torch\n\n\ndef f(g):\n    if torch := g():\n        torch.cuda.synchronize()\n",
    "local function": "import torch\n\n\ndef f():\n    def torch():\n        pass\n\n    torch.cuda.synchronize()\n",
    "lambda parameter": "import torch\n\nf = lambda torch: torch.cuda.synchronize()\n",
    "another package": "import mytorch as torch\n\ntorch.cuda.synchronize()\n",
    "numba": "from numba import cuda\n\ncuda.synchronize()\n",
    "match": "import torch\n\n\ndef f(x):\n    match x:\n        case [torch]:\n            torch.cuda.synchronize()\n",
}


@pytest.mark.parametrize("case", SHADOWED)
def test_shadowed(case: str) -> None:
    assert npu(SHADOWED[case]) == SHADOWED[case]


def test_class_attribute_does_not_shadow_in_methods() -> None:
    text = "import torch\n\n\nclass A:\n    torch = 1\n\n    def f(self):\n        torch.cuda.synchronize()\n"
    assert npu(text) == text.replace("torch.cuda", "torch.npu")


def test_global_and_nonlocal() -> None:
    text = (
        "def f():\n    global torch\n    import torch\n\n\ndef g():\n    torch.cuda.synchronize()\n"
    )
    assert npu(text) == text.replace("torch.cuda", "torch.npu")


def test_type_checking_import_gives_no_name_at_run_time() -> None:
    text = (
        "from typing import TYPE_CHECKING\n\nif TYPE_CHECKING:\n    import torch\n\n\n"
        "def f(x):\n    return x.cuda()\n"
    )
    found = engine.analyse(text, CATALOG, Target("accelerator")).text
    assert found == text or "\nimport torch\n" in found


def test_ambiguous_name_is_not_rewritten_by_default() -> None:
    text = (
        "try:\n    from torch.cuda import synchronize\nexcept ImportError:\n"
        "    def synchronize():\n        pass\n\n\ndef f():\n    synchronize()\n"
    )
    assert npu(text) == text


def test_reexport_inside_the_project() -> None:
    facts = ProjectFacts(exports={"pkg.compat": {"sync": "torch.cuda.synchronize"}})
    text = "import torch\nfrom .compat import sync\n\n\ndef f():\n    sync()\n"
    assert "torch.npu.synchronize()" in npu(text, dotted="pkg.train", facts=facts)


DEVICES = {
    "keyword": 'import torch\nx = torch.zeros(1, device="cuda")\n',
    "keyword of a local function": 'def f(device):\n    pass\n\n\nf(device="cuda")\n',
    "variable": 'import torch\nwhere = "cuda"\nx = torch.zeros(1, device=where)\n',
    "default": 'def f(x, device="cuda"):\n    return x.to(device)\n',
    "keyword-only default": 'def f(x, *, where="cuda"):\n    return x.to(where)\n',
    "dataclass field": 'import dataclasses\n\n\n@dataclasses.dataclass\nclass C:\n    device: str = "cuda"\n',
    "argparse default": 'import argparse\np = argparse.ArgumentParser()\np.add_argument("--device", default="cuda")\n',
    "argparse choices": 'import argparse\np = argparse.ArgumentParser()\np.add_argument("-d", "--device", choices=["cuda", "cpu"])\n',
    "argparse under another name": 'import argparse\np = argparse.ArgumentParser()\np.add_argument("--where", default="cuda")\n\n\ndef f(x, args):\n    return x.to(args.where)\n',
    "click": 'import click\n\n\n@click.option("--device", default="cuda")\ndef f(device):\n    pass\n',
    "dict that reaches a call": 'import torch\no = {"device": "cuda"}\nx = torch.zeros(1, **o)\n',
    "dict entry that is read": 'import torch\no = {"where": "cuda"}\nx = torch.zeros(1, device=o["where"])\n',
    "type comparison": 'def f(device):\n    return device.type == "cuda"\n',
    "reversed comparison": 'def f(device):\n    return "cuda" == device.type\n',
    "membership": 'def f(device):\n    return device in ("cuda", "cpu")\n',
    "text membership": 'def f(device):\n    return "cuda" in str(device)\n',
    "startswith": 'def f(device):\n    return device.startswith("cuda")\n',
    "f-string": 'import torch\n\n\ndef f(i):\n    return torch.device(f"cuda:{i}")\n',
    "concatenation": 'import torch\n\n\ndef f(i):\n    return torch.device("cuda:" + str(i))\n',
    "percent": 'import torch\n\n\ndef f(i):\n    return torch.device("cuda:%d" % i)\n',
    "format": 'import torch\n\n\ndef f(i):\n    return torch.device("cuda:{}".format(i))\n',
    "loop": 'import torch\nfor device in ["cpu", "cuda"]:\n    torch.zeros(1, device=device)\n',
    "conditional": 'import torch\n\n\ndef f(g):\n    return torch.zeros(1, device="cuda" if g else "cpu")\n',
    "or": 'import torch\n\n\ndef f(d):\n    return torch.zeros(1, device=d or "cuda")\n',
    "map_location": 'import torch\nx = torch.load("a", map_location="cuda:0")\n',
    "getattr default": 'def f(args):\n    return getattr(args, "device", "cuda")\n',
    "returned by a helper": 'def get_device():\n    return "cuda"\n',
    "attribute": 'class A:\n    def __init__(self):\n        self.device = "cuda"\n',
    "single quotes": "import torch\nx = torch.zeros(1, device='cuda')\n",
    "click choices": 'import click\n\n\n@click.option("--device", type=click.Choice(["cuda", "cpu"]), default="cuda")\ndef f(device):\n    pass\n',
    "typer default": 'import typer\n\n\ndef f(device: str = typer.Option("cuda", "--device")):\n    pass\n',
    "Literal": 'from typing import Literal\n\n\ndef f(x, device: Literal["cuda", "cpu"] = "cuda"):\n    return x.to(device)\n',
    "unpacked": 'def f(x):\n    where, n = "cuda", 2\n    return x.to(where), n\n',
    "field under another name": 'import dataclasses\n\n\n@dataclasses.dataclass\nclass C:\n    where: str = "cuda"\n\n\ndef f(x, c):\n    return x.to(c.where)\n',
    "match": 'def f(device):\n    match device.type:\n        case "cuda":\n            return 1\n',
}


@pytest.mark.parametrize("case", DEVICES)
def test_device_strings(case: str) -> None:
    assert npu(DEVICES[case]) == DEVICES[case].replace("cuda", "npu")


NOT_DEVICES = {
    "docstring": '"""cuda"""\n\n\ndef f():\n    """cuda"""\n',
    "comment": "x = 1  # cuda\n",
    "url": 'URL = "https://example.org/cuda/"\n',
    "message": 'print("cuda")\nraise SystemExit("no cuda")\n',
    "log": 'import logging\nlogging.info("using cuda:0")\n',
    "dict key": 'd = {"cuda": 1}\nx = d["cuda"]\n',
    "identifier": "def cuda_time(cuda):\n    return cuda\n",
    "name of a thing": 'class A:\n    name = "cuda"\n',
    "flag": 'import argparse\np = argparse.ArgumentParser()\np.add_argument("--cuda", action="store_true")\n',
    "part of a word": 'NAME = "cudart"\nOTHER = "precuda"\n',
    "name of an attribute": 'def f(a):\n    setattr(a, "cuda", hasattr(a, "cuda") and getattr(a, "cuda"))\n',
    "name of an option": 'import argparse\np = argparse.ArgumentParser()\np.add_argument("--gpu", dest="cuda", default=True)\n',
    "name of an entry": 'def f(d):\n    return d.get("cuda"), d.pop("cuda", None)\n',
    "another library's device": 'import xgboost\nm = xgboost.XGBClassifier(device="cuda")\n',
    "exception text": 'def f(e):\n    return "CUDA out of memory" in str(e)\n',
}


@pytest.mark.parametrize("case", NOT_DEVICES)
def test_other_strings(case: str) -> None:
    assert npu(NOT_DEVICES[case]) == NOT_DEVICES[case]


def test_nested_sites_in_one_run() -> None:
    text = 'def f(m, x):\n    return m.cuda()(x.to("cuda").cuda(), y=x.cuda(0).half())\n'
    assert npu(text) == text.replace('"cuda"', '"npu"').replace(".cuda(", ".npu(")


@pytest.mark.parametrize("case", ["name of an attribute", "name of an option", "name of an entry"])
def test_names_of_other_things_are_not_reported(case: str) -> None:
    found = engine.analyse(NOT_DEVICES[case], CATALOG, Target("npu"))
    assert [s.finding.rule for s in found.settled if s.finding.rule == "POR102"] == []


@pytest.mark.parametrize("literal", ['"cu" "da"', '"\\x63uda"', '("cuda")', "r'cuda'"])
def test_every_spelling_of_the_string_is_rewritten(literal: str) -> None:
    text = f"import torch\nx = torch.zeros(1, device={literal})\n"
    assert "npu" in npu(text)


NEVER_SILENT = {
    "the method of the class": "import torch\n\n\ndef f(xs):\n    return map(torch.Tensor.cuda, xs)\n",
    "the class's method called": "import torch\n\n\ndef f(m):\n    torch.nn.Module.cuda(m)\n",
    "the module handed on": "import torch\n\n\ndef f(g):\n    g(torch.cuda)\n",
    "the module patched": 'import torch\n\n\ndef f(m):\n    m.setattr(torch.cuda, "is_available", lambda: True)\n',
    "the module under two meanings": "import torch\n\nif torch.__version__:\n    c = torch.cuda\nelse:\n    c = None\nc.synchronize()\n",
    "star import": "from torch.cuda import *\n\nsynchronize()\n",
    "listed in __all__": 'from torch.cuda import is_available\n\n__all__ = ["is_available"]\nprint(is_available())\n',
}


@pytest.mark.parametrize("case", NEVER_SILENT)
def test_what_cannot_be_rewritten_is_reported(case: str) -> None:
    found = engine.analyse(NEVER_SILENT[case], CATALOG, Target("accelerator"))
    assert any(s.status is Status.LEFT for s in found.settled)


@pytest.mark.parametrize(
    "text",
    [
        'import pytest\nimport torch\n\n\n@pytest.mark.skipif(not torch.cuda.is_available(), reason="")\n'
        '@pytest.mark.parametrize("device", ["cpu", "cuda"])\ndef test(device):\n    pass\n',
        'import unittest\nimport torch\n\n\n@unittest.skipUnless(torch.cuda.is_available(), "")\n'
        'class T(unittest.TestCase):\n    device = torch.device("cuda")\n',
        'import pytest\nimport torch\n\n\n@pytest.mark.skipif(not torch.cuda.is_available(), reason="")\n'
        'def test(device=torch.device("cuda")):\n    pass\n',
    ],
    ids=["parametrize", "class body", "default"],
)
def test_a_decorator_does_not_guard_what_the_import_evaluates(text: str) -> None:
    new = engine.analyse(text, CATALOG, Target("accelerator")).text
    assert "current_accelerator() or " in new
