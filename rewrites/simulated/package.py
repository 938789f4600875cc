"""The device's package (`import torch_npu`), with the names that the real one has."""

from __future__ import annotations

import importlib.abc
import importlib.machinery
import sys
import types
from collections.abc import Sequence
from typing import Any

import torch

from . import fused, package_parts
from .settings import TABLED_DEVICE, load
from .start import start
from .stubs import PACKAGE, WITHIN, SimulatedModule

#: The version whose names the tables have.
VERSION = "2.13.0"


class _Modules(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Finds the modules of the package that the table has."""

    def find_spec(
        self, name: str, path: Sequence[str] | None = None, target: types.ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        if not name.startswith((f"{PACKAGE}.", f"{WITHIN}.")):
            return None
        table = name.replace(f"{WITHIN}.", f"{PACKAGE}.npu.", 1)
        names = load().names
        known = names.get(table, ("", ""))[0] == "module"
        if not known and not any(n.startswith(f"{table}.") for n in names):
            return None
        return importlib.machinery.ModuleSpec(name, self, is_package=True)

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> types.ModuleType:
        return SimulatedModule(spec.name)

    def exec_module(self, module: types.ModuleType) -> None:
        pass


def populate(name: str) -> None:
    """Make the module `name`, the package that is being imported, look like the real one."""
    npu = start()
    module = sys.modules[name]
    module.__class__ = SimulatedModule
    sys.meta_path.append(_Modules())
    sys.modules[f"{PACKAGE}.{TABLED_DEVICE}"] = npu
    for child in ("amp", "graphs", "memory", "random", "streams", "utils"):
        sys.modules[f"{PACKAGE}.{TABLED_DEVICE}.{child}"] = getattr(npu, child)
    found: dict[str, Any] = module.__dict__
    found.update(npu=npu, __version__=VERSION, torch=torch)
    found["unsupported_dtype"] = [
        torch.quint8,
        torch.quint4x2,
        torch.quint2x4,
        torch.qint32,
        torch.qint8,
    ]
    version = types.ModuleType(f"{PACKAGE}.version")
    version.__dict__.update(__version__=VERSION, git_version="simulated")
    found["version"] = sys.modules[f"{PACKAGE}.version"] = version
    for part, make in (
        ("optim", package_parts.optimisers),
        ("profiler", package_parts.profiler),
    ):
        found[part] = sys.modules[f"{PACKAGE}.{part}"] = make(f"{PACKAGE}.{part}")
    fused.install(module)
