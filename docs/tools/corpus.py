"""Migrate published packages and count what happens.

    python docs/tools/corpus.py            # download, migrate, check, write docs/corpus.md
    python docs/tools/corpus.py --check    # the same without writing

Downloads the packages pinned in fixtures/corpus.toml with pip into `corpus/` (ignored by git),
without installing them and without running any of their code, and migrates each for both
targets. On every file it checks what tests/test_properties.py checks: the result parses, a second
run is empty, a file without a rewritten site is byte-identical. Takes some minutes.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
import zipfile
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from porter import config, runner
from porter.rule import Status
from porter.syntax import parse
from porter.targets import NAMES

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).resolve().parents[2]
FOLDER = ROOT / "corpus"
PAGE = ROOT / "docs" / "corpus.md"
#: How many reasons the page lists.
REASONS = 20


@dataclass
class Tally:
    """What happened to one package for one target."""

    files: int = 0
    changed: int = 0
    failed: int = 0
    sites: Counter[str] = field(default_factory=Counter)
    left: Counter[tuple[str, str]] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)


def main() -> int:
    """Run everything; the exit code is 1 if a property was violated."""
    parser = argparse.ArgumentParser(description="Migrate published packages and count.")
    parser.add_argument("--check", action="store_true", help="do not write the page")
    options = parser.parse_args()
    pinned = tomllib.loads((ROOT / "fixtures" / "corpus.toml").read_text())["packages"]
    table: dict[tuple[str, str], Tally] = {}
    for name, version in sorted(pinned.items()):
        folder = fetch(name, version)
        for target in NAMES:
            table[name, target] = migrate(folder, target)
            print(name, version, target, dict(table[name, target].sites), flush=True)
    problems = [p for tally in table.values() for p in tally.problems]
    print("\n".join(problems) or "all properties hold")
    if not options.check:
        PAGE.write_text(page(pinned, table), encoding="utf-8")
    return 1 if problems else 0


def fetch(name: str, version: str) -> Path:
    """Download and unpack one package, unless that is done.

    Only wheels are taken: to download a source archive pip would run its code.
    """
    folder = FOLDER / f"{name}-{version}"
    if folder.is_dir():
        return folder
    archives = FOLDER / "archives" / name
    archives.mkdir(parents=True, exist_ok=True)
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(archives), f"{name}=={version}"]
    subprocess.run(command, check=True)
    work = folder.with_suffix(".part")
    shutil.rmtree(work, ignore_errors=True)
    with zipfile.ZipFile(next(archives.glob("*.whl"))) as wheel:
        wheel.extractall(work)
    work.rename(folder)
    return folder


def migrate(folder: Path, target: str) -> Tally:
    """Migrate one folder in memory and check the result of every file."""
    settings = config.Settings(target=target)
    run = runner.run(runner.Request(paths=(folder,), settings=settings))
    tally = Tally()
    for file in run.report.files:
        tally.files += file.status.value != "skipped"
        tally.changed += file.status.value == "changed"
        tally.failed += file.status.value == "failed"
    for site in run.report.sites:
        tally.sites[site.status.value] += 1
        if site.status is Status.LEFT:
            tally.left[site.rule, site.reason] += 1
    copy = folder.with_name(folder.name + f".{target}")
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(folder, copy)
    for change in run.changed:
        relative = change.file.path.relative_to(folder)
        (copy / relative).write_bytes(change.after)
        if relative.suffix == ".py":
            parse(change.after.decode("utf-8"))
    again = runner.run(runner.Request(paths=(copy,), settings=settings))
    tally.problems += [f"{target}: a second run changes {c.path}" for c in again.changed]
    rewritten = {s.path for s in run.report.sites if s.status is Status.REWRITTEN}
    touched = {c.path for c in run.changed}
    tally.problems += [f"{target}: {p} changed without a site" for p in touched - rewritten]
    shutil.rmtree(copy)
    return tally


def page(pinned: dict[str, str], table: dict[tuple[str, str], Tally]) -> str:
    """The page with all figures."""
    lines = [
        "# Published packages, migrated",
        "",
        "Written by `python docs/tools/corpus.py`, which downloads these packages, migrates them for",
        "both targets with the default options (safe rewrites only), and checks on every file that",
        "the result parses, that a second run is empty, and that nothing else changed.",
        "",
        "| package | target | files | changed | sites | rewritten | left | information | failed |",
        "| --- | --- | --: | --: | --: | --: | --: | --: | --: |",
    ]
    for (name, target), tally in sorted(table.items()):
        counts = [tally.sites[s.value] for s in (Status.REWRITTEN, Status.LEFT, Status.INFORMATION)]
        row = [f"{name} {pinned[name]}", target, tally.files, tally.changed, sum(counts), *counts]
        lines.append("| " + " | ".join(map(str, [*row, tally.failed])) + " |")
    problems = sum(len(t.problems) for t in table.values())
    lines += ["", f"Violated properties: {problems}.", "", "## Left, by reason", ""]
    for target in NAMES:
        left: Counter[tuple[str, str]] = Counter()
        for (_, goal), tally in table.items():
            if goal == target:
                left.update(tally.left)
        lines += [f"### {target}", "", "| sites | rule | reason |", "| --: | --- | --- |"]
        for (rule, reason), count in left.most_common(REASONS):
            lines.append(f"| {count} | {rule} | {reason.replace('|', '/')} |")
        rest = sum(left.values()) - sum(c for _, c in left.most_common(REASONS))
        lines += [f"| {rest} | | other reasons |", ""]
    return "\n".join(lines).rstrip() + "\n"


if __name__ == "__main__":
    sys.exit(main())
