"""Prepares a folder from which any Python with torch starts with the simulated device.

Runs in porter's process, without torch. The folder holds a copy of this package, the device's
package with an entry point of the group "torch.backends", which torch loads on `import torch`
(https://docs.pytorch.org/tutorials/unstable/python_extension_autoload.html), and the settings.
"""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path

from ..support import tables
from . import hardware
from .settings import SETTINGS_VARIABLE, TABLED_DEVICE, Settings

HERE = Path(__file__).parent
#: The name of the copy.
COPY = "porter_simulated"
#: Not needed in the copy.
PARENT_ONLY = frozenset(["hardware.py", "prepare.py"])
_ENTRY = "[torch.backends]\n{package} = {package}:_autoload\n"
#: Backends of torch.compile that the package of the tabled device has.
_COMPILERS = "\n[torch_dynamo_backends]\n" + "".join(
    f"{name} = {COPY}.compiler:{name}\n" for name in ("npu", "npugraph_ex", "npugraphs")
)
_METADATA = "Metadata-Version: 2.1\nName: {package}\nVersion: {version}\n"
_MODULE = '''"""The simulated package of the device."""

import os

# Imported before torch, the package must not be loaded again by torch while it loads torch.
_autoload_was = os.environ.get("TORCH_DEVICE_BACKEND_AUTOLOAD")
os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = "0"
import torch  # noqa: E402, F401

if _autoload_was is None:
    del os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"]
else:
    os.environ["TORCH_DEVICE_BACKEND_AUTOLOAD"] = _autoload_was

from porter_simulated import package as _package  # noqa: E402

_package.populate(__name__)


def _autoload():
    """What torch calls when it loads the device."""
'''
_OTHER = '''"""Loads the simulated device."""

from porter_simulated.start import start


def _autoload():
    """What torch calls when it loads the device."""
    start()
'''


def with_tables(settings: Settings) -> Settings:
    """The settings with all that is known of the device.

    A device without tables gets the same kernels, but nothing is said of those that it lacks.
    """
    operators = {n: o.autocast for n, o in tables.operators().items() if o.kind == "npu"}
    composites = {
        n: o.autocast for n, o in tables.operators().items() if o.autocast and o.kind != "npu"
    }
    settings = replace(settings, operators=operators, composites=composites)
    if settings.device != TABLED_DEVICE:
        return settings
    if settings.hardware:
        settings = replace(
            settings,
            refused=hardware.refused(settings.hardware),
            unlisted=hardware.unlisted(settings.hardware),
        )
    names = {n: (row.kind, row.signature) for n, row in tables.names().items()}
    fallbacks = {n: "; ".join(when) for n, when in tables.conditions().items()}
    every = tables.operators().items()
    sparse, compressed = (
        tuple(n.removeprefix("aten::") for n, o in every if key in o.keys) for key in "SR"
    )
    return replace(settings, sparse=sparse, compressed=compressed, names=names, fallbacks=fallbacks)


def prepare(folder: Path, settings: Settings) -> dict[str, str]:
    """Fill a folder, and tell the environment variables that make a process use it.

    Args:
        folder: an existing empty folder.
        settings: what the device is like.

    Raises:
        ValueError: the name of the device cannot be one.
        OSError: the folder cannot be written.
    """
    if not settings.device.isidentifier() or not settings.device.islower():
        raise ValueError(f"not a name for a device: {settings.device!r}")
    copy = folder / COPY
    copy.mkdir()
    for path in HERE.glob("*.py"):
        if path.name not in PARENT_ONLY:
            (copy / path.name).write_bytes(path.read_bytes())
    tabled = settings.device == TABLED_DEVICE
    package = "torch_npu" if tabled else f"torch_{settings.device}"
    module = folder / package
    module.mkdir()
    (module / "__init__.py").write_text(_MODULE if tabled else _OTHER, encoding="utf-8")
    info = folder / f"{package}-{tables.BINARY}.dist-info"
    info.mkdir()
    (info / "METADATA").write_text(
        _METADATA.format(package=package, version=tables.BINARY), encoding="utf-8"
    )
    entries = _ENTRY.format(package=package) + (_COMPILERS if tabled else "")
    (info / "entry_points.txt").write_text(entries, encoding="utf-8")
    path = folder / "settings.json"
    with_tables(settings).dump(path)
    earlier = os.environ.get("PYTHONPATH", "")
    plugins = filter(None, [os.environ.get("PYTEST_PLUGINS"), f"{COPY}.pytest_plugin"])
    return {
        "PYTEST_PLUGINS": ",".join(plugins),
        SETTINGS_VARIABLE: str(path),
        "PYTHONPATH": os.pathsep.join(filter(None, [str(folder), earlier])),
    }
