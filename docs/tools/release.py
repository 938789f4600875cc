"""Builds the wheel and the source distribution, the same bytes wherever and whenever it runs.

    python docs/tools/release.py                # into dist/, from the last commit
    python docs/tools/release.py --check        # twice, under different conditions; compares

Needs `build` and the backend that pyproject.toml names (`pip install -e .[release]`). The backend
takes times and modes from the files and the clock, so what it makes is packed anew: sorted, with
one time (SOURCE_DATE_EPOCH, by default that of the commit), one owner and plain modes. The same
bytes need the same versions of Python, zlib and the backend.
https://reproducible-builds.org/docs/source-date-epoch/
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.util
import io
import os
import shutil
import stat
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
NEEDED = ("build", "setuptools")
#: A zip file has no earlier time: https://pkware.cachefly.net/webdocs/casestudies/APPNOTE.TXT
FIRST = 315_532_800
_LEFT_OUT = shutil.ignore_patterns(
    "__pycache__", "*.egg-info", ".git", ".venv", "build", "dist", ".*_cache", ".hypothesis"
)


class Failed(Exception):
    """No release; the text is one line."""


@dataclass(frozen=True)
class Conditions:
    """What must not matter: where, when and how a build runs."""

    folder: str
    umask: int
    touched: int
    environment: Mapping[str, str]


ONE = Conditions("a", 0o022, 1_000_000_000, {"TZ": "Pacific/Kiritimati", "LC_ALL": "C"})
OTHER = Conditions(
    "somewhere/else/b", 0o077, 1_500_000_001, {"TZ": "America/Lima", "LC_ALL": "C.UTF-8"}
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Build, or check that two builds are the same."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--check", action="store_true", help="build twice and compare")
    parser.add_argument("--source", type=Path, default=ROOT, help="the project (default: this)")
    parser.add_argument("--out", type=Path, help="where to (default: dist/ of the project)")
    parser.add_argument(
        "--isolated", action="store_true", help="let `build` fetch the backend that it uses"
    )
    options = parser.parse_args(arguments)
    try:
        missing = [name for name in NEEDED if importlib.util.find_spec(name) is None]
        if missing and not (options.isolated and missing == ["setuptools"]):
            raise Failed(f"{', '.join(missing)}: not installed (pip install -e .[release])")
        epoch = date_of(options.source)
        out = options.out or options.source / "dist"
        made = built(options.source, out, epoch, ONE, options.isolated)
        for path in made:
            print(f"{digest(path)}  {path.name}")
        if options.check:
            same(options.source, made, epoch, options.isolated)
            print("two builds under different conditions are the same, byte by byte")
    except Failed as problem:
        print(f"error: {problem}", file=sys.stderr)
        return 1
    return 0


def same(source: Path, made: Sequence[Path], epoch: int, isolated: bool) -> None:
    """Build once more under other conditions, and compare.

    Raises:
        Failed: something differs.
    """
    with tempfile.TemporaryDirectory() as folder:
        again = built(source, Path(folder), epoch, OTHER, isolated)
        if [p.name for p in made] != [p.name for p in again]:
            raise Failed(f"one build made {made}, the other {again}")
        for one, other in zip(made, again, strict=True):
            if one.read_bytes() != other.read_bytes():
                raise Failed(f"{one.name}: two builds differ{_differing(one, other)}")


def _differing(one: Path, other: Path) -> str:
    first, second = _members(one), _members(other)
    names = sorted(n for n in first.keys() | second.keys() if first.get(n) != second.get(n))
    return f" in {', '.join(names[:5])}" if names else " in how they are packed"


def _members(path: Path) -> dict[str, bytes]:
    if path.suffix == ".whl":
        with zipfile.ZipFile(path) as archive:
            return {name: archive.read(name) for name in archive.namelist()}
    with tarfile.open(path) as archive:
        files = ((m.name, archive.extractfile(m)) for m in archive.getmembers())
        return {name: file.read() for name, file in files if file is not None}


def digest(path: Path) -> str:
    """The SHA-256 of a file, as hex."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def date_of(source: Path) -> int:
    """SOURCE_DATE_EPOCH, or the time of the last commit.

    Raises:
        Failed: neither is known.
    """
    given = os.environ.get("SOURCE_DATE_EPOCH", "")
    if not given:
        done = _git(source, "log", "-1", "--format=%ct")
        if done is None:
            raise Failed(f"{source}: no git repository, and SOURCE_DATE_EPOCH is not set")
        given = done.decode().strip()
    if not given.isdecimal():
        raise Failed(f"SOURCE_DATE_EPOCH cannot be {given!r}: seconds since 1970")
    return max(int(given), FIRST)


def _git(source: Path, *arguments: str) -> bytes | None:
    if not (source / ".git").exists():
        return None
    done = subprocess.run(["git", "-C", source, *arguments], capture_output=True, check=False)
    return done.stdout if done.returncode == 0 else None


# Building ---------------------------------------------------------------------------------------


def built(
    source: Path, out: Path, epoch: int, conditions: Conditions, isolated: bool
) -> list[Path]:
    """Build from a copy of the project, and pack the results anew into `out`.

    Raises:
        Failed: the build fails.
    """
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        tree = Path(folder, conditions.folder, "source")
        copied(source, tree)
        for path in (tree, *tree.rglob("*")):
            os.utime(path, (conditions.touched, conditions.touched))
        words = [sys.executable, "-P", "-m", "build", "--outdir", f"{folder}/dist", str(tree)]
        if sys.version_info < (3, 11):
            words.remove("-P")
        environment = {
            **os.environ,
            **conditions.environment,
            "SOURCE_DATE_EPOCH": str(epoch),
            "PYTHONHASHSEED": str(conditions.umask),
        }
        done = subprocess.run(
            words if isolated else [*words, "--no-isolation"],
            cwd=folder,
            env=environment,
            umask=conditions.umask,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            lines = (done.stdout + done.stderr).strip().splitlines()
            raise Failed("the build fails: " + " | ".join(lines[-4:]))
        made = sorted(Path(folder, "dist").iterdir())
        return [packed(path, out / path.name, epoch, str(tree)) for path in made]


def copied(source: Path, tree: Path) -> None:
    """Copy what the last commit holds; without git, all but caches and builds."""
    archive = _git(source, "archive", "--format=tar", "HEAD")
    if archive is None:
        shutil.copytree(source, tree, ignore=_LEFT_OUT)
        return
    tree.mkdir(parents=True)
    with tarfile.open(fileobj=io.BytesIO(archive)) as files:
        # The archive is git's own; Python before 3.10.12 has no filters.
        members = [m for m in files.getmembers() if m.isfile() or m.isdir()]
        files.extractall(tree, members)


# Packing ----------------------------------------------------------------------------------------


def packed(path: Path, into: Path, epoch: int, tree: str) -> Path:
    """Pack a wheel or source distribution anew, so that only its content counts.

    Raises:
        Failed: it names the folder that it was built in.
    """
    for name, data in _members(path).items():
        if tree.encode() in data:
            raise Failed(f"{path.name}: {name} names the folder that it was built in")
    if path.suffix == ".whl":
        _pack_wheel(path, into, epoch)
    else:
        _pack_source(path, into, epoch)
    return into


def _pack_wheel(path: Path, into: Path, epoch: int) -> None:
    moment = time.gmtime(epoch)[:6]
    with zipfile.ZipFile(path) as old, zipfile.ZipFile(into, "w") as new:
        for entry in sorted(old.infolist(), key=_wheel_order):
            if entry.is_dir():
                continue
            info = zipfile.ZipInfo(entry.filename, moment)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # modes are those of Unix
            info.external_attr = (stat.S_IFREG | _mode(entry.external_attr >> 16)) << 16
            new.writestr(info, old.read(entry), compresslevel=9)


def _wheel_order(entry: zipfile.ZipInfo) -> tuple[bool, str]:
    """Metadata last, as the format advises, so that installers find it quickly."""
    return ".dist-info/" in entry.filename, entry.filename


def _pack_source(path: Path, into: Path, epoch: int) -> None:
    tar = io.BytesIO()
    with (
        tarfile.open(path) as old,
        tarfile.open(fileobj=tar, mode="w", format=tarfile.PAX_FORMAT) as new,
    ):
        for entry in _entries(old):
            info = tarfile.TarInfo(entry.name)
            info.type, info.size, info.mtime = entry.type, entry.size, epoch
            info.mode = 0o755 if entry.isdir() else _mode(entry.mode)
            new.addfile(info, old.extractfile(entry) if entry.isfile() else None)
    with into.open("wb") as file, gzip.GzipFile("", "wb", 9, file, mtime=epoch) as compressed:
        compressed.write(tar.getvalue())


def _entries(archive: tarfile.TarFile) -> Iterator[tarfile.TarInfo]:
    for entry in sorted(archive.getmembers(), key=lambda member: member.name):
        if not (entry.isfile() or entry.isdir()):
            raise Failed(f"{entry.name}: neither a file nor a folder")
        yield entry


def _mode(mode: int) -> int:
    return 0o755 if mode & 0o100 else 0o644


if __name__ == "__main__":
    sys.exit(main())
