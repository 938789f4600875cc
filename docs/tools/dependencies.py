"""What porter depends on: locked, audited, and listed with licences.

    python docs/tools/dependencies.py lock -o build/lock.txt      # asks the package index
    python docs/tools/dependencies.py audit build/lock.txt        # asks the vulnerability service
    python docs/tools/dependencies.py sbom build/lock.txt -o build/sbom.json
    python docs/tools/dependencies.py licences                    # of what is installed here

`audit` needs pip-audit and `sbom` needs cyclonedx-bom (`pip install -e .[release]`). Exit codes: 0
all is well, 1 something is known to be vulnerable, 2 it could not be found out.
"""

from __future__ import annotations

import argparse
import importlib.metadata
import importlib.util
import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[2]
OK, VULNERABLE, TROUBLE = 0, 1, 2
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]*")
_LOCKED = re.compile(r"^([A-Za-z0-9][A-Za-z0-9._-]*)==([^\s;\\]+)", re.MULTILINE)
#: Classifiers and words of old metadata as SPDX names them: https://spdx.org/licenses/
SPDX = {
    "MIT License": "MIT",
    "BSD License": "BSD-3-Clause",
    "BSD 3-Clause License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "MPL 2.0": "MPL-2.0",
    "Mozilla Public License 2.0 (MPL 2.0)": "MPL-2.0",
}


class Trouble(Exception):
    """Something could not be found out; the text is one line."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one of the commands."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    commands = parser.add_subparsers(dest="command", required=True)
    lock_ = commands.add_parser("lock", help="resolve the run-time set, with hashes")
    lock_.add_argument("--extra", action="append", default=[], help="with this extra")
    lock_.add_argument("-o", "--output", type=Path)
    audit_ = commands.add_parser("audit", help="ask for known vulnerabilities")
    audit_.add_argument("lock", type=Path)
    sbom_ = commands.add_parser("sbom", help="a bill of materials in CycloneDX's JSON")
    sbom_.add_argument("lock", type=Path)
    sbom_.add_argument("-o", "--output", type=Path)
    commands.add_parser("licences", help="of what is installed, as docs/dependencies.md has them")
    options = parser.parse_args(arguments)
    try:
        if options.command == "audit":
            return audit(options.lock)
        text = {
            "lock": lambda: lock(options.extra),
            "sbom": lambda: sbom(options.lock),
            "licences": licences,
        }[options.command]()
    except Trouble as problem:
        print(f"error: {problem}", file=sys.stderr)
        return TROUBLE
    if getattr(options, "output", None) is None:
        print(text, end="")
    else:
        options.output.parent.mkdir(parents=True, exist_ok=True)
        options.output.write_text(text, encoding="utf-8")
    return OK


# What pyproject.toml says -----------------------------------------------------------------------


def declared() -> dict[str, list[str]]:
    """Requirements by group: "run-time", the name of an extra, or "build"."""
    data = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))
    project = data["project"]
    return {
        "run-time": project["dependencies"],
        **project.get("optional-dependencies", {}),
        "build": data["build-system"]["requires"],
    }


def split(requirement: str) -> tuple[str, str]:
    """The name of a requirement, and all behind it."""
    found = _NAME.match(requirement)
    if found is None:
        raise Trouble(f"pyproject.toml: not a requirement: {requirement!r}")
    return found.group(), requirement[found.end() :].strip()


# Lock -------------------------------------------------------------------------------------------


def lock(extras: Sequence[str] = ()) -> str:
    """The newest set that the ranges allow for this Python and system, pinned, with hashes."""
    groups = declared()
    unknown = [name for name in extras if name not in groups]
    if unknown:
        raise Trouble(f"pyproject.toml has no extra {unknown[0]!r}")
    wanted = [r for name in ("run-time", *extras) for r in groups[name]]
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        command = [
            *(sys.executable, "-m", "pip", "install", "--dry-run", "--ignore-installed"),
            *("--quiet", "--disable-pip-version-check", "--report", str(report), *wanted),
        ]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode or not report.is_file():
            last = (done.stderr.strip().splitlines() or ["it gives no reason"])[-1]
            raise Trouble(f"pip cannot resolve the dependencies: {last}")
        found = json.loads(report.read_text("utf-8"))["install"]
    head = f"# Python {sys.version_info[0]}.{sys.version_info[1]}, {sys.platform}; "
    head += f"made by docs/tools/dependencies.py of: {', '.join(wanted)}\n"
    return head + "".join(sorted(map(_pinned, found), key=str.lower))


def _pinned(item: Mapping[str, Any]) -> str:
    name, version = item["metadata"]["name"], item["metadata"]["version"]
    digest = item["download_info"].get("archive_info", {}).get("hashes", {}).get("sha256")
    if not digest:
        raise Trouble(f"the package index gives no SHA-256 of {name} {version}")
    return f"{name}=={version} \\\n    --hash=sha256:{digest}\n"


def locked(path: Path) -> dict[str, str]:
    """Names and versions of a lock."""
    try:
        found = dict(_LOCKED.findall(path.read_text("utf-8")))
    except OSError as problem:
        raise Trouble(f"{path}: cannot be read: {problem.strerror}") from None
    if not found:
        raise Trouble(f"{path}: pins nothing; `lock -o {path}` makes one")
    return found


# Audit and bill of materials --------------------------------------------------------------------


def audit(path: Path) -> int:
    """Ask pip-audit, whose answer for a lock it could not check is no answer."""
    count = len(locked(path))
    words = ("--require-hashes", "--disable-pip", "--progress-spinner", "off", "-f", "json")
    done = _tool("pip_audit", "pip-audit", "-r", str(path), *words)
    try:
        found = json.loads(done.stdout)["dependencies"]
    except (ValueError, KeyError, TypeError):
        last = (done.stderr.strip().splitlines() or ["it gives no reason"])[-1]
        raise Trouble(f"pip-audit could not find out: {last}") from None
    skipped = [d["skip_reason"] for d in found if "skip_reason" in d]
    if skipped or len(found) < count:
        looked = f"pip-audit looked at {len(found) - len(skipped)} of {count} packages"
        raise Trouble(f"{looked}: {skipped[0]}" if skipped else looked)
    known = [(d["name"], d["version"], v["id"]) for d in found for v in d["vulns"]]
    for name, version, code in known:
        print(f"{name} {version}: {code}")
    print(f"{count} packages, {len(known)} known vulnerabilities")
    return VULNERABLE if known else OK


def sbom(path: Path) -> str:
    """The packages of a lock in CycloneDX's format, checked against its schema."""
    count = len(locked(path))
    words = ("requirements", str(path), "--pyproject", str(ROOT / "pyproject.toml"))
    form = ("--sv", "1.6", "--output-reproducible", "--of", "JSON", "--validate")
    done = _tool("cyclonedx_py", "cyclonedx-bom", *words, *form)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["it gives no reason"])[-1]
        raise Trouble(f"cyclonedx-bom fails: {last}")
    components = json.loads(done.stdout).get("components", [])
    if len(components) != count:
        raise Trouble(f"cyclonedx-bom lists {len(components)} of {count} packages")
    return done.stdout


def _tool(module: str, package: str, *words: str) -> subprocess.CompletedProcess[str]:
    if importlib.util.find_spec(module) is None:
        raise Trouble(f"{package} is not installed (pip install -e .[release])")
    command = [sys.executable, "-m", module, *words]
    return subprocess.run(command, capture_output=True, text=True, check=False)


# Licences ---------------------------------------------------------------------------------------


def licences() -> str:
    """One line for each declared package: its group, licence and version here."""
    lines = []
    for group, requirements in declared().items():
        for requirement in requirements:
            name = split(requirement)[0]
            lines.append(f"{group:<10}  {name:<20}  {licence(name) or 'not installed here'}\n")
    return "".join(dict.fromkeys(lines))


def licence(name: str) -> str | None:
    """The licence that an installed package declares, as SPDX names it; None if it is not here."""
    try:
        metadata = importlib.metadata.metadata(name)
    except importlib.metadata.PackageNotFoundError:
        return None
    return next(_stated(metadata), "not declared")


def _stated(metadata: importlib.metadata.PackageMetadata) -> Iterator[str]:
    expression = metadata.get("License-Expression")
    if expression:
        yield expression
    names = [
        c.rpartition(" :: ")[2]
        for c in metadata.get_all("Classifier") or ()
        if c.startswith("License ::") and not c.endswith("OSI Approved")
    ]
    if names:
        yield " AND ".join(SPDX.get(n, n) for n in names)
    text = (metadata.get("License") or "").strip()
    if text and "\n" not in text:  # not the text of the licence itself
        yield SPDX.get(text, text)


if __name__ == "__main__":
    sys.exit(main())
