"""Measure `porter fleet` on one large repository: time, and memory of the driver and of units.

python docs/tools/fleet_scale.py FOLDER... --files 100000 --into DIR [-- options of porter fleet]

Copies the folders side by side, as services/0000, services/0001 and so on, until there are so many
Python files; an existing DIR is used as it is. Then it runs the fleet twice: anew, and with
everything found finished.
"""

from __future__ import annotations

import argparse
import json
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

LIST = '[[repo]]\nname = "monorepo"\npath = "tree"\nsplit = "services/*"\n'
#: Runs a fleet in a process of its own, so that its memory can be told from that of its units.
CHILD = """
import json, resource, sys
from porter.cli import start
code = start(sys.argv[1:])
own = resource.getrusage(resource.RUSAGE_SELF)
units = resource.getrusage(resource.RUSAGE_CHILDREN)
print(json.dumps({"code": code, "driver": own.ru_maxrss, "unit": units.ru_maxrss,
                  "cpu": own.ru_utime + own.ru_stime + units.ru_utime + units.ru_stime}))
"""


def main() -> int:
    """Build the tree and measure."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("folders", nargs="+", type=Path)
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--into", type=Path, required=True)
    own, rest = sys.argv[1:], []
    if "--" in own:
        own, rest = own[: own.index("--")], own[own.index("--") + 1 :]
    given = parser.parse_args(own)
    tree = given.into / "tree"
    if not tree.is_dir():
        build(tree, given.folders, given.files)
    count = sum(1 for _ in tree.rglob("*.py"))
    size = sum(path.stat().st_size for path in tree.rglob("*.py"))
    print(f"{count:,} Python files, {size / 1e6:,.0f} MB")
    (given.into / "repos.toml").write_text(LIST, encoding="utf-8")
    measure("anew", given.into, ["--fresh", *rest])
    measure("again", given.into, rest)
    return 0


def build(tree: Path, folders: Sequence[Path], files: int) -> None:
    """Copy the folders in turn until there are enough Python files."""
    ignored = shutil.ignore_patterns("__pycache__", "site-packages", ".git")
    done = number = 0
    while done < files:
        folder = folders[number % len(folders)]
        place = tree / "services" / f"{number:04}"
        shutil.copytree(folder, place / folder.name, ignore=ignored)
        done += sum(1 for _ in place.rglob("*.py"))
        number += 1


def measure(what: str, into: Path, options: Sequence[str]) -> None:
    """Run the fleet once and print what it took."""
    command = [sys.executable, "-c", CHILD, "fleet", "repos.toml", "--quiet", *options]
    start = time.monotonic()
    done = subprocess.run(command, cwd=into, stdout=subprocess.PIPE, text=True, check=True)
    wall = time.monotonic() - start
    found = json.loads(done.stdout.splitlines()[-1])
    scale = 1e6 if sys.platform == "darwin" else 1e3  # bytes there, KiB elsewhere
    data = json.loads((into / "porter-fleet" / "fleet.json").read_text("utf-8"))
    units = len(data["repos"][0].get("units", []))
    print(
        f"{what}: {wall:,.0f} s wall, {found['cpu']:,.0f} s CPU, driver {found['driver'] / scale:,.0f} MB, "
        f"largest unit {found['unit'] / scale:,.0f} MB, {units} folders, exit code {found['code']}"
    )


if __name__ == "__main__":
    sys.exit(main())
