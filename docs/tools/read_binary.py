"""Read from the binary of torch_npu how it runs each operator: no NPU and no CANN needed.

A wheel of torch_npu needs the libraries of CANN only to resolve symbols. With empty ones in their
place its `libtorch_npu.so` can be loaded into a CPU build of the same torch; the dispatcher of torch
then tells what was registered. Two steps, since the second may run on another architecture.

First, unpack the wheels of torch and torch_npu (`pip download --no-deps`, then `unzip`) and make the
libraries; this needs gcc and nm, and runs on any Python::

    python docs/tools/read_binary.py stubs --torch TORCH --torch-npu TORCH_NPU --output STUBS

Then, in a Python that can import that torch::

    python docs/tools/read_binary.py operators --torch-npu TORCH_NPU --stubs STUBS \\
        --output operators-2.13.0.json

For x86-64, PyPI has CUDA builds of torch that weigh gigabytes, but for aarch64, up to torch 2.10,
builds for the CPU of about 100 MB; torch_npu has wheels for both. They can be read on x86-64 with an
emulator (Debian: qemu-user-static, gcc-aarch64-linux-gnu, and python3.11-minimal, libpython3.11-stdlib,
libc6, libstdc++6, libgomp1 and what they need for arm64, unpacked with `dpkg-deb -x` into ROOT)::

    python docs/tools/read_binary.py stubs ... --tools aarch64-linux-gnu-
    PYTHONPATH=TORCH:PURE qemu-aarch64-static -L ROOT -E LD_LIBRARY_PATH=TORCH/torch/lib \\
        ROOT/usr/bin/python3.11 docs/tools/read_binary.py operators ...

where PURE holds typing_extensions, sympy, mpmath, filelock, networkx, jinja2 and fsspec
(`pip install --no-deps --target PURE ...`). That takes half a minute for one version.

A build of torch for CUDA serves as well where its libraries are at hand, but since torch 2.14 its
allocator and that of torch_npu may not both register the same settings. Interpose the function
`c10::CachingAllocator::AcceleratorAllocatorConfig::getMutableKeys` (LD_PRELOAD) by one that returns
a new set at each call.

What autocast does with the arguments of an operator is no part of the dispatch table: give the
`torch_npu/csrc/aten/AutoCastOps.cpp` of that version as `--autocast`.
"""

from __future__ import annotations

import argparse
import ctypes
import datetime
import json
import os
import platform
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

#: Dispatch keys under which torch_npu registers kernels, besides PrivateUse1 itself.
KEYS = (
    "AutogradPrivateUse1",
    "AutocastPrivateUse1",
    "SparsePrivateUse1",
    "SparseCsrPrivateUse1",
    "QuantizedPrivateUse1",
    "NestedTensorPrivateUse1",
    "BackendSelect",
)
#: Libraries of CANN that torch_npu is linked against; the first holds all symbols.
CANN = ("ascendcl", "hccl", "acl_op_compiler", "ge_runner", "graph", "acl_tdt_channel")
#: Libraries of the system, whose symbols are not CANN's.
SYSTEM = re.compile(r"^(?:_ITM_|__cxa_|__gmon|__cpp|__tls_get_addr|Py|_Py)")
_IN_MESSAGES = re.compile(rb"[ -~]{24,}")
_FALLS_BACK = re.compile(r"aten::.*fallback to run on the CPU")


# Empty libraries --------------------------------------------------------------------------------


def stubs(torch: Path, torch_npu: Path, output: Path, tools: str) -> int:
    """Make empty libraries in place of CANN's; the number of symbols that they define.

    Args:
        torch: the folder that holds the package `torch`.
        torch_npu: the folder that holds the package `torch_npu`.
        output: where the libraries go.
        tools: what the names of `gcc` and `nm` begin with, such as "aarch64-linux-gnu-".
    """
    own = sorted((torch_npu / "torch_npu" / "lib").glob("*.so"))
    libraries = [*own, *(torch / "torch" / "lib").glob("*.so*")]
    libraries += (torch / "torch.libs").glob("*") if (torch / "torch.libs").is_dir() else ()
    defined = {s for library in libraries for s in _symbols(library, "--defined-only", tools)}
    needed = {s for library in own for s in _symbols(library, "--undefined-only", tools)}
    missing = sorted(
        s for s in needed - defined if s.isidentifier() and not SYSTEM.match(s) and _of_cann(s)
    )
    output.mkdir(parents=True, exist_ok=True)
    source = output / "stub.c"
    source.write_text("".join(f"long {s}(void) {{ return 0; }}\n" for s in missing))
    (output / "empty.c").write_text("")
    for name in CANN:
        written = source if name == CANN[0] else output / "empty.c"
        library = output / f"lib{name}.so"
        subprocess.run(
            [f"{tools}gcc", "-shared", "-fPIC", "-w", "-fno-builtin", "-o", library,
             f"-Wl,-soname,{library.name}", written],
            check=True,
        )  # fmt: skip
    return len(missing)


def _of_cann(symbol: str) -> bool:
    """Whether a symbol that torch lacks is one of CANN rather than of the C or C++ library."""
    return (
        re.match(r"(?:acl|rt[A-Z]|Msprof|Hccl|hccl|ge|Adx|tdt|halt|_ZN?K?\d*(?:2ge|3ge))", symbol)
        is not None
    )


def _symbols(library: Path, which: str, tools: str) -> set[str]:
    shown = subprocess.run(
        [f"{tools}nm", "-D", which, library], capture_output=True, text=True, check=False
    )
    return {line.split()[-1].partition("@")[0] for line in shown.stdout.splitlines() if line}


# Reading ----------------------------------------------------------------------------------------


def operators(torch_npu: Path, stub_folder: Path) -> dict[str, Any]:
    """How each operator runs, and which versions say so. Needs torch; loads the binary.

    Returns:
        By kind ("npu", "composite", "composite_explicit", "cpu_fallback", "npu_ops") and by other
        dispatch key, the full names of operators; "torch", "torch_npu" and "git"; the messages
        about fallbacks; the schemas of torch_npu's own operators.
    """
    import torch

    dispatcher = torch._C
    registered = dispatcher._dispatch_get_registrations_for_dispatch_key
    stock = set(dispatcher._dispatch_get_all_op_names())
    before = {key: set(registered(key)) for key in KEYS}
    library = torch_npu / "torch_npu" / "lib" / "libtorch_npu.so"
    for name in CANN:
        ctypes.CDLL(str(stub_folder / f"lib{name}.so"), mode=os.RTLD_LAZY | os.RTLD_GLOBAL)
    ctypes.CDLL(str(library), mode=os.RTLD_LAZY | os.RTLD_GLOBAL)
    everything = set(dispatcher._dispatch_get_all_op_names())
    found: dict[str, Any] = {
        kind: [] for kind in ("npu", "composite", "composite_explicit", "cpu_fallback")
    }
    for name in sorted(n for n in stock if n.startswith("aten::")):
        found[_kind(dispatcher._dispatch_dump_table(name), name)].append(name)
    found["npu_ops"] = sorted(n for n in everything - stock if n.startswith("npu::"))
    found["schemas"] = [_schema(dispatcher, n) for n in found["npu_ops"]]
    for key in KEYS:
        found[key] = sorted(set(registered(key)) - before[key])
    version = (torch_npu / "torch_npu" / "version.py").read_text(encoding="utf-8")
    values = dict(re.findall(r"(\w+) = '([^']*)'", version))
    found |= {
        "read": datetime.date.today().isoformat(),
        "machine": platform.machine(),
        "torch": torch.__version__,
        "torch_npu": values["__version__"],
        "git": values.get("git_version", ""),
        "messages": messages(library.read_bytes()),
    }
    return found


def autocast(source: str) -> dict[str, str]:
    """What autocast does with the arguments of operators, from torch_npu's AutoCastOps.cpp."""
    found = re.findall(r"^ *KERNEL_PRIVATEUSEONE\((\w+), (?:(\w+), )?(\w+)\)", source, re.MULTILINE)
    return {
        f"aten::{name}{overload and '.' + overload}": policy for name, overload, policy in found
    }


def _kind(table: str, name: str) -> str:
    """Which kind of kernel the dispatcher would take for PrivateUse1."""
    (line,) = (row for row in table.splitlines() if row.startswith("PrivateUse1:"))
    if line.endswith("[kernel]"):
        return "npu"
    if "math kernel" in line:
        return "composite"
    if "default backend kernel" in line:
        return "composite_explicit"
    if "fallback" in line:
        return "cpu_fallback"
    raise SystemExit(f"{name}: unknown kind of kernel: {line}")


def _schema(dispatcher: Any, name: str) -> str:
    base, _, overload = name.partition(".")
    try:
        return str(dispatcher._get_schema(base, overload))
    except RuntimeError:
        return name


def messages(binary: bytes) -> list[str]:
    """What the binary says when it runs an operator on the CPU that has a kernel."""
    texts = (found.group().decode("ascii") for found in _IN_MESSAGES.finditer(binary))
    return sorted({text for text in texts if _FALLS_BACK.search(text)})


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the steps."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    commands = parser.add_subparsers(dest="command", required=True)
    making = commands.add_parser("stubs", help="make empty libraries in place of CANN's")
    making.add_argument("--torch", type=Path, required=True)
    making.add_argument("--tools", default="")
    reading = commands.add_parser("operators", help="load the binary and read the dispatcher")
    reading.add_argument("--stubs", type=Path, required=True)
    reading.add_argument("--autocast", type=Path, help="torch_npu's AutoCastOps.cpp")
    for command in (making, reading):
        command.add_argument("--torch-npu", type=Path, required=True)
        command.add_argument("--output", type=Path, required=True)
    chosen = parser.parse_args(arguments)
    if chosen.command == "stubs":
        count = stubs(chosen.torch, chosen.torch_npu, chosen.output, chosen.tools)
        print(f"{chosen.output}: {count} symbols")
        return 0
    facts = operators(chosen.torch_npu.absolute(), chosen.stubs.absolute())
    if chosen.autocast is not None:
        facts["autocast_policy"] = autocast(chosen.autocast.read_text(encoding="utf-8"))
    text = json.dumps(facts, indent=0, sort_keys=True)
    chosen.output.write_text(text + "\n", encoding="utf-8")
    print(chosen.output, {k: len(v) for k, v in facts.items() if isinstance(v, list)})
    sys.stdout.flush()
    os._exit(0)  # the library's own clean-up wants a device


if __name__ == "__main__":
    sys.exit(main())
