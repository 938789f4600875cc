"""Regenerate ``rewrites/api_sources.json``: which CUDA-bound torch names exist in which release.

The facts are read from the Python sources of released wheels with ``ast``; nothing is imported.

Usage::

    for v in 2.1.2 ... 2.14.0; do
        pip download torch==$v --platform macosx_14_0_arm64 --python-version 3.11 \\
            --only-binary=:all: --no-deps -d wheels
        unzip -qo wheels/torch-$v-*.whl 'torch/*.py' 'torch/*.pyi' -d unpacked/$v
        rm wheels/torch-$v-*.whl
    done
    python docs/tools/introspect_torch.py --npu-names torch_npu_names.txt unpacked/*

Every positional argument is a folder named after a version that holds an unpacked ``torch``
folder. ``--npu-names`` is a text file with one ``torch_npu.npu`` name in the first column of a
line and, after two tabs or more, its signature in the last one; without it the names already in
the output file are kept.
"""

from __future__ import annotations

import argparse
import ast
import json
import re
import sys
import typing
from collections.abc import Iterator
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
OUTPUT = REPOSITORY / "rewrites" / "api_sources.json"

#: Packages whose public names are all collected.
PACKAGES = ("torch.cuda", "torch.backends.cuda", "torch.backends.cudnn")

#: The package that replaces them.
TARGET_PACKAGE = "torch.accelerator"

#: Module-level objects whose attributes are part of the documented interface.
INSTANCES = {
    "torch.backends.cuda.matmul": ("torch/backends/cuda/__init__.py", "cuBLASModule"),
    "torch.backends.cuda.cufft_plan_cache": ("torch/backends/cuda/__init__.py", "cuFFTPlanCache"),
    "torch.backends.cudnn": ("torch/backends/cudnn/__init__.py", "CudnnModule"),
    "torch.backends.cudnn.conv": ("torch/backends/__init__.py", "_FP32Precision"),
    "torch.backends.cudnn.rnn": ("torch/backends/cudnn/rnn.py", "CudnnRNNModule"),
}

#: Names outside the packages that are bound to CUDA: the file and the definition to look for.
BOUND_NAMES = {
    "torch.Tensor.cuda": ("torch/_C/__init__.pyi", "*.cuda"),
    "torch.Tensor.is_cuda": ("torch/_C/__init__.pyi", "*.is_cuda"),
    "torch.TypedStorage.cuda": ("torch/storage.py", "TypedStorage.cuda"),
    "torch.TypedStorage.is_cuda": ("torch/storage.py", "TypedStorage.is_cuda"),
    "torch.UntypedStorage.cuda": ("torch/storage.py", "_StorageBase.cuda"),
    "torch.UntypedStorage.is_cuda": ("torch/storage.py", "UntypedStorage.is_cuda"),
    "torch.autograd.profiler.emit_nvtx": ("torch/autograd/profiler.py", "emit_nvtx"),
    "torch.autograd.profiler.load_nvprof": ("torch/autograd/profiler.py", "load_nvprof"),
    "torch.cuda.Event.cuda_event": ("torch/_C/__init__.pyi", "_CudaEventBase.cuda_event"),
    "torch.cuda.Stream.cuda_stream": ("torch/_C/__init__.pyi", "_CudaStreamBase.cuda_stream"),
    "torch.distributed.ProcessGroupNCCL": (
        "torch/_C/_distributed_c10d.pyi",
        "ProcessGroupNCCL",
    ),
    "torch.distributed.is_nccl_available": (
        "torch/distributed/distributed_c10d.py",
        "is_nccl_available",
    ),
    "torch.get_autocast_gpu_dtype": ("torch/_C/__init__.pyi", "get_autocast_gpu_dtype"),
    "torch.has_cuda": ("torch/__init__.py", "_deprecated_attrs[has_cuda]"),
    "torch.has_cudnn": ("torch/__init__.py", "_deprecated_attrs[has_cudnn]"),
    "torch.nn.Module.cuda": ("torch/nn/modules/module.py", "Module.cuda"),
    "torch.nn.utils.rnn.PackedSequence.cuda": ("torch/nn/utils/rnn.py", "PackedSequence.cuda"),
    "torch.nn.utils.rnn.PackedSequence.is_cuda": (
        "torch/nn/utils/rnn.py",
        "PackedSequence.is_cuda",
    ),
    "torch.profiler.ProfilerActivity.CUDA": ("torch/_C/_profiler.pyi", "ProfilerActivity.CUDA"),
    "torch.random.fork_rng": ("torch/random.py", "fork_rng"),
    "torch.set_autocast_gpu_dtype": ("torch/_C/__init__.pyi", "set_autocast_gpu_dtype"),
    "torch.utils.cpp_extension.CUDAExtension": (
        "torch/utils/cpp_extension.py",
        "CUDAExtension",
    ),
    "torch.utils.cpp_extension.CUDA_HOME": ("torch/utils/cpp_extension.py", "CUDA_HOME"),
    "torch.version.cuda": ("torch/version.py", "cuda"),
}

#: Device-agnostic names that replacements use, besides those of ``TARGET_PACKAGE``.
TARGET_NAMES = {
    "torch.AcceleratorError": ("torch/_C/__init__.pyi", "AcceleratorError"),
    "torch.Event": ("torch/_C/__init__.pyi", "Event"),
    "torch.OutOfMemoryError": ("torch/_C/__init__.pyi", "OutOfMemoryError"),
    "torch.Stream": ("torch/_C/__init__.pyi", "Stream"),
    "torch.Stream.__enter__": ("torch/_C/__init__.pyi", "Stream.__enter__"),
    "torch.amp.GradScaler": ("torch/amp/grad_scaler.py", "GradScaler"),
    "torch.amp.autocast": ("torch/amp/autocast_mode.py", "autocast"),
    "torch.amp.custom_bwd": ("torch/amp/autocast_mode.py", "custom_bwd"),
    "torch.amp.custom_fwd": ("torch/amp/autocast_mode.py", "custom_fwd"),
    "torch.amp.is_autocast_available": ("torch/amp/autocast_mode.py", "is_autocast_available"),
    "torch.distributed.get_default_backend_for_device": (
        "torch/distributed/distributed_c10d.py",
        "get_default_backend_for_device",
    ),
    "torch.get_autocast_dtype": ("torch/_C/__init__.pyi", "get_autocast_dtype"),
    "torch.get_device_module": ("torch/__init__.py", "get_device_module"),
    "torch.nn.attention.sdpa_kernel": ("torch/nn/attention/__init__.py", "sdpa_kernel"),
}

#: Private names that programs are known to use; ``*.py`` sources decide where they exist.
PRIVATE_NAMES = (
    "torch.cuda._device_count_nvml",
    "torch.cuda._get_device",
    "torch.cuda._is_compiled",
    "torch.cuda._lazy_call",
    "torch.cuda._lazy_init",
    "torch.cuda._sleep",
    "torch.cuda.amp.common.amp_definitely_not_available",
    "torch.cuda.memory._dump_snapshot",
    "torch.cuda.memory._get_current_allocator",
    "torch.cuda.memory._record_memory_history",
    "torch.cuda.memory._set_allocator_settings",
    "torch.cuda.memory._snapshot",
)

#: Tensor types that the C++ part adds to ``torch.cuda.sparse``; no Python source shows them.
SPARSE_TYPES = ("BFloat16", "Byte", "Char", "Double", "Float", "Half", "Int", "Long", "Short")

#: Module-level assignments that are an implementation detail although they have no underscore.
INCIDENTAL_CALLS = {"TypeVar", "ParamSpec", "getLogger", "NewType", "TypeAlias"}

#: Names that every module of torch_npu may show because it imports them.
INCIDENTAL_NAMES = {"classproperty", "torch", "torch_npu"}

Facts = dict[str, dict[str, Any]]


def parameters(function: ast.FunctionDef | ast.AsyncFunctionDef, bound: bool) -> list[str]:
    """Return the parameter names of a function, with ``/`` and ``*`` where Python writes them.

    Args:
        function: the definition.
        bound: whether the first parameter is ``self`` or ``cls`` and is left out.
    """
    arguments = function.args
    only = [argument.arg for argument in arguments.posonlyargs]
    both = [argument.arg for argument in arguments.args]
    if bound:
        if only:
            only = only[1:]
        else:
            both = both[1:]
    names = only + (["/"] if only else []) + both
    if arguments.vararg:
        names.append("*" + arguments.vararg.arg)
    elif arguments.kwonlyargs:
        names.append("*")
    names += [argument.arg for argument in arguments.kwonlyargs]
    if arguments.kwarg:
        names.append("**" + arguments.kwarg.arg)
    return names


def class_parameters(node: ast.ClassDef) -> list[str] | None:
    """Return the constructor's parameter names, or None where the class defines no constructor."""
    found: list[str] | None = None
    for name in ("__init__", "__new__"):
        for member in node.body:
            if isinstance(member, ast.FunctionDef) and member.name == name:
                names = parameters(member, bound=True)
                # The first overload is the one that takes a device.
                if names != ["*args", "**kwargs"] and (found is None or "device" in names):
                    return names
                found = found or names
    return found


def is_property(function: ast.FunctionDef) -> bool:
    """Return whether a method is read like an attribute."""
    return any(
        (isinstance(decorator, ast.Name) and decorator.id == "property")
        or (isinstance(decorator, ast.Attribute) and decorator.attr == "setter")
        for decorator in function.decorator_list
    )


def statements(body: list[ast.stmt]) -> Iterator[ast.stmt]:
    """Yield the statements of a module, those under ``if``, ``try`` and ``with`` included."""
    for statement in body:
        yield statement
        if isinstance(statement, ast.If):
            yield from statements(statement.body)
            yield from statements(statement.orelse)
        elif isinstance(statement, ast.Try):
            yield from statements(statement.body)
            yield from statements(statement.orelse)
            for handler in statement.handlers:
                yield from statements(handler.body)
        elif isinstance(statement, ast.With):
            yield from statements(statement.body)


def describe(node: ast.stmt) -> dict[str, Any]:
    """Return what is known of a definition: its kind, and its parameter names if it is called."""
    if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
        if isinstance(node, ast.FunctionDef) and is_property(node):
            return {"kind": "attribute"}
        kind = "call"
        for decorator in node.decorator_list:
            if ast.unparse(decorator).split(".")[-1] == "contextmanager":
                kind = "context"
        return {"kind": kind, "params": parameters(node, bound=False)}
    if isinstance(node, ast.ClassDef):
        members = {member.name for member in node.body if isinstance(member, ast.FunctionDef)}
        fact: dict[str, Any] = {"kind": "context" if "__enter__" in members else "class"}
        names = class_parameters(node)
        if names is not None:
            fact["params"] = names
        return fact
    return {"kind": "attribute"}


def exported(tree: ast.Module) -> list[str]:
    """Return the string items of every assignment to ``__all__``."""
    names: list[str] = []
    for statement in statements(tree.body):
        target: ast.expr | None = None
        value: ast.expr | None = None
        if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
            target, value = statement.targets[0], statement.value
        elif isinstance(statement, ast.AnnAssign | ast.AugAssign):
            target, value = statement.target, statement.value
        if isinstance(target, ast.Name) and target.id == "__all__" and value is not None:
            names += [
                item.value
                for item in ast.walk(value)
                if isinstance(item, ast.Constant) and isinstance(item.value, str)
            ]
    return names


def definitions(tree: ast.Module) -> Iterator[tuple[str, ast.stmt]]:
    """Yield every name a module defines itself, with the defining statement."""
    for statement in statements(tree.body):
        if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield statement.name, statement
        elif isinstance(statement, ast.Assign):
            call = statement.value
            if isinstance(call, ast.Call):
                function = ast.unparse(call.func).split(".")[-1]
                if function in INCIDENTAL_CALLS:
                    continue
            for target in statement.targets:
                if isinstance(target, ast.Name):
                    yield target.id, statement
        elif isinstance(statement, ast.AnnAssign) and isinstance(statement.target, ast.Name):
            yield statement.target.id, statement


def absolute(statement: ast.ImportFrom, package: str) -> str:
    """Return the full name of the module that a statement imports from."""
    if not statement.level:
        return statement.module or ""
    parent = package.split(".")
    parent = parent[: len(parent) - statement.level + 1]
    return ".".join(parent + ([statement.module] if statement.module else []))


def imported(tree: ast.Module, package: str) -> Iterator[tuple[str, str]]:
    """Yield the public names a module imports from its own package, with their full origin."""
    for statement in statements(tree.body):
        if not isinstance(statement, ast.ImportFrom):
            continue
        origin = absolute(statement, package)
        for alias in statement.names:
            yield alias.asname or alias.name, f"{origin}.{alias.name}"


def module_name(path: Path, root: Path) -> str:
    """Return the dotted name of a source file under the folder ``root``."""
    parts = list(path.relative_to(root).with_suffix("").parts)
    if parts[-1] == "__init__":
        parts.pop()
    return ".".join(parts)


def read_package(package: str, root: Path) -> Facts:
    """Return the public names of a package and of its public modules."""
    folder = root.joinpath(*package.split("."))
    found: Facts = {}
    origins: dict[str, list[str]] = {}
    if not folder.is_dir():
        return found
    for path in sorted(folder.rglob("*.py")):
        module = module_name(path, root)
        inner = module[len(package) :]
        if "._" in inner:
            continue
        tree = ast.parse(path.read_text(encoding="utf-8"))
        found[module] = {"kind": "module"}
        listed = set(exported(tree))
        defined: dict[str, ast.stmt] = {}
        for name, node in definitions(tree):
            # A definition under ``else`` is a stand-in where CUDA is missing: the first one counts,
            # unless a later one says more than a bare assignment.
            if name not in defined or isinstance(defined[name], ast.AnnAssign):
                defined[name] = node
        here = module if path.name == "__init__.py" else module.rpartition(".")[0]
        brought = dict(imported(tree, here))
        for name in {*listed, *defined, *brought}:
            full = f"{module}.{name}"
            public = name in listed or not name.startswith("_")
            if not public and full not in PRIVATE_NAMES:
                continue
            if name in defined:
                found[full] = describe(defined[name])
            elif name != "*" and (name in listed or brought[name].startswith(package + ".")):
                origins[full] = [brought[name]] if name in brought else stars(tree, here, name)
                found.setdefault(full, {"kind": "attribute"})
    for full, candidates in origins.items():
        for origin in candidates:
            if origin in found and origin != full:
                found[full] = {**found[origin], "alias_of": origin}
    return found


def stars(tree: ast.Module, package: str, name: str) -> list[str]:
    """Return where a name may come from that a module lists but neither defines nor imports."""
    found = []
    for statement in tree.body:
        if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
            found.append(f"{absolute(statement, package)}.{name}")
    return found


def string_comparisons(node: ast.ClassDef) -> Iterator[str]:
    """Yield the names that ``__getattr__`` and ``__setattr__`` of a class answer to."""
    for member in node.body:
        if isinstance(member, ast.FunctionDef) and member.name in ("__getattr__", "__setattr__"):
            for item in ast.walk(member):
                if isinstance(item, ast.Compare) and isinstance(item.comparators[0], ast.Constant):
                    value = item.comparators[0].value
                    if isinstance(value, str):
                        yield value


def read_instances(root: Path) -> Facts:
    """Return the attributes of the objects in ``INSTANCES``."""
    found: Facts = {}
    for owner, (file, class_name) in INSTANCES.items():
        tree = ast.parse(root.joinpath(file).read_text(encoding="utf-8"))
        for node in statements(tree.body):
            if not (isinstance(node, ast.ClassDef) and node.name == class_name):
                continue
            for name in string_comparisons(node):
                found[f"{owner}.{name}"] = {"kind": "attribute"}
            for member in statements(node.body):
                if isinstance(member, ast.FunctionDef):
                    if not member.name.startswith("_"):
                        found[f"{owner}.{member.name}"] = {
                            "kind": "call",
                            "params": parameters(member, bound=True),
                        }
                elif isinstance(member, ast.Assign):
                    for target in member.targets:
                        if isinstance(target, ast.Name) and not target.id.startswith("_"):
                            found[f"{owner}.{target.id}"] = {"kind": "attribute"}
    return found


def find_definition(tree: ast.Module, wanted: str) -> dict[str, Any] | None:
    """Return the facts of ``Class.member``, ``*.member`` (any class), ``table[key]`` or a name."""
    if "[" in wanted:
        table, key = wanted[:-1].split("[")
        for name, node in definitions(tree):
            value = getattr(node, "value", None)
            if name == table and isinstance(value, ast.Dict):
                keys = [item.value for item in value.keys if isinstance(item, ast.Constant)]
                return {"kind": "attribute"} if key in keys else None
        return None
    owner, _, member = wanted.rpartition(".")
    if not owner:
        for name, node in definitions(tree):
            if name == member:
                return describe(node)
        return None
    for node in statements(tree.body):
        if not isinstance(node, ast.ClassDef) or owner not in ("*", node.name):
            continue
        for item in node.body:
            if isinstance(item, ast.FunctionDef) and item.name == member:
                if is_property(item):
                    return {"kind": "attribute"}
                return {"kind": "call", "params": parameters(item, bound=True)}
            targets = item.targets if isinstance(item, ast.Assign) else []
            if isinstance(item, ast.AnnAssign):
                targets = [item.target]
            if any(isinstance(target, ast.Name) and target.id == member for target in targets):
                return {"kind": "attribute"}
    return None


def read_others(root: Path, wanted_names: dict[str, tuple[str, str]]) -> Facts:
    """Return the facts of the names in ``BOUND_NAMES`` or ``TARGET_NAMES``."""
    found: Facts = {}
    trees: dict[Path, ast.Module] = {}
    for full, (file, wanted) in wanted_names.items():
        path = root / file
        if not path.is_file():
            continue
        if path not in trees:
            trees[path] = ast.parse(path.read_text(encoding="utf-8"))
        fact = find_definition(trees[path], wanted)
        if fact is not None:
            found[full] = fact
    return found


def read_release(root: Path) -> tuple[Facts, Facts]:
    """Return the CUDA-bound names of one release, and the device-agnostic ones.

    Args:
        root: the folder that holds the unpacked ``torch`` folder.
    """
    bound: Facts = {}
    for package in PACKAGES:
        bound.update(read_package(package, root))
    if "torch.cuda.sparse" in bound:
        for name in SPARSE_TYPES:
            bound[f"torch.cuda.sparse.{name}Tensor"] = {"kind": "attribute"}
    bound.update(read_instances(root))
    bound.update(read_others(root, BOUND_NAMES))
    targets = read_package(TARGET_PACKAGE, root)
    targets.update(read_others(root, TARGET_NAMES))
    return bound, targets


def minor(version: str) -> str:
    """Return ``2.13`` for ``2.13.0``."""
    return ".".join(version.split(".")[:2])


def version_key(version: str) -> tuple[int, ...]:
    """Return a sort key for a dotted version."""
    return tuple(int(part) for part in re.findall(r"\d+", version))


def ranges(present: list[str], known: list[str]) -> str:
    """Return ``2.1-2.14`` or ``2.1-2.3,2.6`` for the releases in which a name exists."""
    parts: list[str] = []
    start: str | None = None
    last = ""
    for version in [*known, ""]:
        if version in present:
            start = start or version
            last = version
        elif start is not None:
            parts.append(start if start == last else f"{start}-{last}")
            start = None
    return ",".join(parts)


def merge(releases: dict[str, Facts]) -> Facts:
    """Return the union of all releases; what the newest one says of a name is what is kept."""
    known = sorted(releases, key=version_key)
    merged: Facts = {}
    for version in known:
        for name, fact in releases[version].items():
            merged[name] = {key: value for key, value in fact.items() if key != "alias_of"}
            if "alias_of" in fact:
                merged[name]["alias_of"] = fact["alias_of"]
    for name, fact in merged.items():
        fact["versions"] = ranges([v for v in known if name in releases[v]], known)
    return merged


def read_npu_names(path: Path) -> dict[str, list[str] | None]:
    """Return the names of ``torch_npu.npu`` in a listing, with their parameter names if known."""
    names: dict[str, list[str] | None] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        columns = line.split("\t")
        name = columns[0]
        if not name.startswith("torch_npu.npu.") or len(columns) < 2:
            continue
        last = name.rpartition(".")[2]
        listed = "__all__" in columns
        if last in sys.stdlib_module_names and last != "random":
            continue
        # What a module merely imports is not its interface, but a few names of the package and
        # of its ``backends`` are documented without being listed.
        nested = name.count(".") > 2 and ".backends." not in name
        if not listed and (nested or last in vars(typing) or last in INCIDENTAL_NAMES):
            continue
        short = name.removeprefix("torch_npu.")
        names[short] = None
        signature = columns[-1].split(" -> ")[0].strip()
        if signature.startswith("(") and signature.endswith(")"):
            try:
                tree = ast.parse(f"def f{re.sub(r'<[^>]*>', 'None', signature)}: pass")
            except SyntaxError:
                continue
            function = tree.body[0]
            if isinstance(function, ast.FunctionDef):
                names[short] = parameters(function, bound=False)
    return names


def write(path: Path, content: dict[str, Any]) -> None:
    """Write the facts, one name a line so that a change shows as a short difference."""
    lines = ["{"]
    sections = list(content)
    for section in sections:
        value = content[section]
        comma = "," if section != sections[-1] else ""
        if section in ("names", "targets", "npu_names"):
            lines.append(f"{json.dumps(section)}: {{")
            items = sorted(value.items())
            for index, (name, fact) in enumerate(items):
                end = "," if index < len(items) - 1 else ""
                text = json.dumps(fact, separators=(",", ":"), sort_keys=True)
                lines.append(f"{json.dumps(name)}:{text}{end}")
            lines.append(f"}}{comma}")
        else:
            lines.append(f"{json.dumps(section)}: {json.dumps(value)}{comma}")
    lines.append("}")
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def main() -> None:
    """Read the folders named on the command line and write the facts file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path, help="unpacked/<version> folders")
    parser.add_argument("--npu-names", type=Path, help="listing of torch_npu.npu names")
    parser.add_argument("--npu-source", default="", help="where and when that listing was read")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    options = parser.parse_args()
    releases: dict[str, Facts] = {}
    targets: dict[str, Facts] = {}
    patches: dict[str, str] = {}
    for folder in options.folders:
        patch = folder.name
        if not (folder / "torch").is_dir() or not version_key(patch):
            parser.error(f"{folder}: needs the name of a version and an unpacked torch folder")
        version = minor(patch)
        if version in patches and version_key(patches[version]) > version_key(patch):
            continue
        patches[version] = patch
        releases[version], targets[version] = read_release(folder)
    previous: dict[str, Any] = {}
    if options.output.is_file():
        previous = json.loads(options.output.read_text(encoding="utf-8"))
    npu_names = previous.get("npu_names", {})
    npu_source = previous.get("npu_source", "")
    if options.npu_names:
        npu_names = read_npu_names(options.npu_names)
        npu_source = options.npu_source
    content = {
        "source": "Python sources of the torch wheels "
        + ", ".join(patches[version] for version in sorted(patches, key=version_key)),
        "npu_source": npu_source,
        "names": merge(releases),
        "targets": merge(targets),
        "npu_names": npu_names,
    }
    write(options.output, content)


if __name__ == "__main__":
    main()
