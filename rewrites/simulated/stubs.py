"""Modules that have exactly the names of the device's package.

A name that the real package has and the simulation has not says so when it is used; a name that
the real package has not raises AttributeError, as it would on the machine.
"""

from __future__ import annotations

import importlib
import types
from typing import Any

from .record import RECORD, NotSimulated, site
from .settings import load

#: The package of the device that has a table, and its module within torch.
PACKAGE, WITHIN = "torch_npu", "torch.npu"


def _table_name(module: str) -> str:
    return f"{PACKAGE}.npu{module[len(WITHIN) :]}" if module.startswith(WITHIN) else module


class SimulatedModule(types.ModuleType):
    """A module with the names that the table has for it."""

    def __init__(self, name: str) -> None:
        """Make an empty one; `name` is its qualified name."""
        super().__init__(name)
        self.__path__: list[str] = []

    def __getattr__(self, name: str) -> Any:
        """What stands for a name that is not simulated.

        Raises:
            AttributeError: the real module does not have it either.
        """
        own = self.__name__
        if name.startswith("__"):
            raise AttributeError(f"module {own!r} has no attribute {name!r}")
        known = load().names.get(f"{_table_name(own)}.{name}")
        if known is None:
            RECORD.note(f"{own}.{name} does not exist", site())
            raise AttributeError(f"module {own!r} has no attribute {name!r}")
        made = _stand_in(f"{own}.{name}", *known)
        setattr(self, name, made)
        return made

    def __dir__(self) -> list[str]:
        """The names that the real module has."""
        prefix = _table_name(self.__name__) + "."
        real = [n[len(prefix) :] for n in load().names if n.startswith(prefix)]
        return sorted({*self.__dict__, *(n for n in real if "." not in n)})


def _stand_in(name: str, kind: str, signature: str) -> Any:
    if kind == "module":
        try:
            return importlib.import_module(name)
        except ImportError:
            return SimulatedModule(name)
    if kind == "class":
        return type(name.rpartition(".")[2], (), {"__init__": _refuse(name), "__module__": name})
    if kind == "callable":
        return _refuse(name)
    return None


def _refuse(name: str) -> Any:
    def refuse(*_: object, **__: object) -> Any:
        RECORD.note(f"{name} is not simulated", site())
        raise NotSimulated(f"{name} exists on the real device, but is not simulated")

    refuse.__name__ = name.rpartition(".")[2]
    return refuse
