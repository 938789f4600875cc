"""What a Python has, asked of that Python itself: its torch, and where it looks for modules."""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

#: Seconds that the answer may take.
_TIMEOUT = 60
#: Run by the interpreter in question. Packages installed for editing are found through entries of
#: sys.path, or through finders of setuptools, whose modules hold a table of folders.
_ASK = """
import importlib.metadata as m, importlib.util as u, json, os, sys
try:
    version = m.version("torch")
except Exception:
    version = ""
found = [p for p in sys.path if p]
for name, module in list(sys.modules.items()):
    if name.startswith("__editable__"):
        found += [os.path.dirname(p) for p in getattr(module, "MAPPING", {}).values()]
print(json.dumps([version, u.find_spec("torch") is not None, sys.platform, found]))
"""


class NoAnswer(Exception):
    """The interpreter cannot be asked; the text is one line."""


@dataclass(frozen=True)
class Interpreter:
    """What one Python answered.

    Args:
        torch: the version of its torch; empty if that is not known.
        has_torch: whether it finds a torch.
        platform: as `sys.platform` names it.
        path: the folders that it imports from.
    """

    torch: str
    has_torch: bool
    platform: str
    path: tuple[str, ...]


def ask(python: str, folder: Path, environment: Mapping[str, str]) -> Interpreter:
    """Ask an interpreter.

    Args:
        python: its path.
        folder: where it runs.
        environment: variables to add to those of this process.

    Raises:
        NoAnswer: it is no Python, or does not answer.
    """
    try:
        done = subprocess.run(
            [python, "-c", _ASK],
            cwd=folder,
            env={**os.environ, **environment},
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT,
            check=False,
        )
        answer: Any = json.loads(done.stdout.splitlines()[-1]) if done.stdout else None
        version, has_torch, platform, path = answer
    except OSError as error:
        raise NoAnswer(f"{python}: {error.strerror}") from None
    except (subprocess.TimeoutExpired, ValueError, TypeError):
        raise NoAnswer(f"{python}: does not answer as a Python does") from None
    return Interpreter(version, has_torch, platform, tuple(path))
