"""What code is migrated to, and the lowest torch version the result must run on."""

from __future__ import annotations

import re
from dataclasses import dataclass

#: The accelerator API: https://docs.pytorch.org/docs/stable/accelerator.html (since torch 2.6).
ACCELERATOR_SINCE = (2, 6)
#: torch loads an installed backend (torch_npu) on `import torch` since 2.5:
#: https://docs.pytorch.org/tutorials/unstable/python_extension_autoload.html
AUTOLOAD_SINCE = (2, 5)
#: The version taken when a project names none that has the accelerator API. 2.6 has it too, but
#: there `current_accelerator()` raises where it is None since 2.7 (torch/accelerator/__init__.py).
DEFAULT_MIN_TORCH = (2, 7)

NAMES = ("accelerator", "npu")
#: The target with tables of what it supports.
TABLED = "npu"
_VERSION = re.compile(r"(\d{1,6})\.(\d{1,6})(?:\..*)?", re.ASCII)


@dataclass(frozen=True)
class Target:
    """The target of a migration.

    Args:
        name: "accelerator" (any device through torch.accelerator) or "npu" (torch_npu).
        min_torch: lowest torch version to support, (major, minor).
        torch_npu: the version of torch_npu to run with, such as "2.13"; empty if not chosen.
        hardware: the product line to run on, such as "A2"; empty if not chosen.
    """

    name: str
    min_torch: tuple[int, int] = DEFAULT_MIN_TORCH
    torch_npu: str = ""
    hardware: str = ""

    @property
    def agnostic(self) -> bool:
        """Whether the result must run on any device, a CPU-only machine included."""
        return self.name == "accelerator"

    def has(self, since: str | tuple[int, int]) -> bool:
        """Whether something that exists since `since` may be used."""
        return self.min_torch >= (version(since) if isinstance(since, str) else since)


def version(text: str) -> tuple[int, int]:
    """Read "2.9" or "2.9.1" as (2, 9).

    Raises:
        ValueError: the text is not a version.
    """
    found = _VERSION.fullmatch(text.strip())
    if found is None:
        raise ValueError(f"not a torch version: {text!r} (write it like 2.9)")
    return int(found[1]), int(found[2])
