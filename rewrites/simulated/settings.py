"""What a rehearsal was asked for, read from the file that `SETTINGS_VARIABLE` names."""

from __future__ import annotations

import functools
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

#: The environment variable with the path of the settings; every process of a rehearsal has it.
SETTINGS_VARIABLE = "PORTER_REHEARSAL"
#: The device that has tables of its own: its operators, its names, its package.
TABLED_DEVICE = "npu"


@dataclass(frozen=True)
class Settings:
    """Everything a simulated process needs to know.

    Args:
        device: the name of the accelerator.
        count: how many devices there are.
        strict: whether an operator without a kernel raises instead of running on the CPU.
        quiet: whether operators that run on the CPU are kept from standard error.
        memory: bytes of memory of each device.
        hardware: the product line, such as "A2"; empty if not chosen.
        record: the folder that each process writes its record to; empty to write none.
        operators: the operators with a kernel, each with what autocast does with its arguments.
        composites: what autocast does with the arguments of operators that torch takes apart.
        sparse: operators that have a kernel for sparse tensors; empty if all have.
        compressed: the same for tensors of compressed rows or columns (CSR and the like).
        names: qualified names of the device's package, each with its kind and signature; empty for
            a device of which nothing is known.
        refused: by operator, dtypes of its first tensor that it does not take, and why.
        unlisted: the same for dtypes that a list of APIs only leaves out.
        original: the folder of which the program runs in a copy; nothing may be imported from it.
        fallbacks: operators that may run on the CPU although they have a kernel, with the reason.
    """

    device: str = TABLED_DEVICE
    count: int = 8
    strict: bool = False
    quiet: bool = False
    memory: int = 64 << 30
    hardware: str = ""
    record: str = ""
    operators: dict[str, str] = field(default_factory=dict)
    composites: dict[str, str] = field(default_factory=dict)
    sparse: tuple[str, ...] = ()
    compressed: tuple[str, ...] = ()
    names: dict[str, tuple[str, str]] = field(default_factory=dict)
    fallbacks: dict[str, str] = field(default_factory=dict)
    original: str = ""
    refused: Mapping[str, tuple[Sequence[str], str]] = field(default_factory=dict)
    unlisted: Mapping[str, tuple[Sequence[str], str]] = field(default_factory=dict)

    @property
    def tabled(self) -> bool:
        """Whether it is known which operators and names the device has."""
        return bool(self.names)

    def dump(self, path: Path) -> None:
        """Write the settings for `load` to read."""
        path.write_text(json.dumps(self.__dict__), encoding="utf-8")


@functools.cache
def load() -> Settings:
    """The settings of this process; the defaults if it has none.

    Raises:
        OSError: the file cannot be read.
    """
    path = os.environ.get(SETTINGS_VARIABLE, "")
    if not path:
        return Settings()
    found: dict[str, Any] = json.loads(Path(path).read_text(encoding="utf-8"))
    found["names"] = {name: tuple(row) for name, row in found.get("names", {}).items()}
    for name in ("sparse", "compressed"):
        found[name] = tuple(found.get(name, ()))
    return Settings(**found)
