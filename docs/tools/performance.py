"""Measure how fast porter is and how much memory it takes; prints tables in Markdown.

    python docs/tools/performance.py limit PATH...    # against the least that such a tool must do
    python docs/tools/performance.py start            # of the command itself
    python docs/tools/performance.py cache PATH...    # the first run against the second
    python docs/tools/performance.py memory PATH      # on 1, 4 and 16 copies of a tree
    python docs/tools/performance.py large            # files that are larger than any should be
    python docs/tools/performance.py all PATH...

Runs of what is compared take turns, so that other load on the machine meets all alike, and the
fastest run counts, by its CPU time: that of the process and of all that it started. Linux only.
"""

from __future__ import annotations

import argparse
import compileall
import contextlib
import importlib
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, NamedTuple

TARGETS = ("accelerator", "npu")
#: A large file must be dealt with in so many seconds and bytes.
SECONDS, BYTES = 60, 1_500_000_000


# One run ----------------------------------------------------------------------------------------


class Cost(NamedTuple):
    """What one run took: seconds by the clock, seconds of CPU, and what the run itself noted."""

    wall: float
    cpu: float
    notes: tuple[Mapping[str, Any], ...] = ()

    @property
    def peak(self) -> int:
        """The most memory of the first process, in bytes."""
        return max((n["peak"] for n in self.notes if n["who"] == "parent"), default=0)

    @property
    def worker(self) -> int:
        """The most memory of any other process, in bytes."""
        return max((n["peak"] for n in self.notes if n["who"] != "parent"), default=0)

    @property
    def serial(self) -> float:
        """CPU seconds of the first process, which has to run alone for the most part."""
        return sum(n["cpu"] for n in self.notes if n["who"] == "parent")

    def critical(self, jobs: int) -> float:
        """CPU seconds that no number of idle cores would take away, with so many processes.

        Those of the first process, and in each pool of workers those of the busiest.
        """
        workers = [n["cpu"] for n in self.notes if n["who"] != "parent"]
        pools = (workers[i : i + jobs] for i in range(0, len(workers), jobs))
        return self.serial + sum(max(pool) for pool in pools)


#: Runs porter, and has each of its processes note its memory and CPU time at its end.
_NOTING = """
import json, os, resource, sys
from multiprocessing import util

def note(who, number=0):
    use = resource.getrusage(resource.RUSAGE_SELF)
    with open("/proc/self/status") as status:
        peak = next(int(line.split()[1]) * 1024 for line in status if line.startswith("VmHWM"))
    with open(os.environ["PERFORMANCE_NOTES"], "a") as out:
        data = {"who": who, "order": os.getpid(), "cpu": use.ru_utime + use.ru_stime, "peak": peak}
        print(json.dumps(data), file=out)

util.register_after_fork(note, lambda _: util.Finalize(None, note, ["worker"], exitpriority=1))
sys.argv[0] = "porter"
from porter.__main__ import main
try:
    sys.exit(main())
finally:
    note("parent")
"""


def porter(*arguments: object) -> list[str]:
    """The command that runs porter."""
    return [sys.executable, "-m", "porter", *map(str, arguments)]


def noting(*arguments: object) -> list[str]:
    """The command that runs porter and notes memory and CPU time of each of its processes."""
    return [sys.executable, "-c", _NOTING, *map(str, arguments)]


def measured(command: Sequence[str], **variables: str) -> Cost:
    """Run a command, throw away what it prints, and say what it took.

    Raises:
        RuntimeError: it ended in another way than porter does.
    """
    with tempfile.TemporaryDirectory(prefix="performance-") as folder:
        notes = Path(folder, "notes")
        environment = {**os.environ, "PERFORMANCE_NOTES": str(notes), **variables}
        started = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=environment
        ) as process:
            _, status, usage = os.wait4(process.pid, 0)
            wall = time.perf_counter() - started
            process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode not in (0, 1, 2):
            raise RuntimeError(f"{' '.join(command)[:300]}: ended with {process.returncode}")
        lines = notes.read_text().splitlines() if notes.exists() else []
        found = sorted(map(json.loads, lines), key=lambda n: int(n["order"]))
        return Cost(wall, usage.ru_utime + usage.ru_stime, tuple(found))


def in_turns(commands: Mapping[str, Sequence[str]], runs: int) -> dict[str, list[Cost]]:
    """Run commands in turns, each so many times."""
    costs: dict[str, list[Cost]] = {name: [] for name in commands}
    for _ in range(runs):
        for name, command in commands.items():
            costs[name].append(measured(command))
    return costs


def least_cpu(costs: Iterable[Cost]) -> float:
    """The CPU time of the fastest run."""
    return min(cost.cpu for cost in costs)


def least_wall(costs: Iterable[Cost]) -> float:
    """The time by the clock of the fastest run."""
    return min(cost.wall for cost in costs)


# Tables -----------------------------------------------------------------------------------------


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table in Markdown."""
    lines = [head, ["---"] * len(head), *([str(cell) for cell in row] for row in rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def machine(runs: int) -> str:
    """What the figures were measured on."""
    name = platform.processor()
    cpuinfo = Path("/proc/cpuinfo")
    for line in cpuinfo.read_text().splitlines() if cpuinfo.exists() else ():
        if line.startswith("model name"):
            name = line.partition(":")[2].strip()
            break
    packages = []
    for package in ("torch-porter", "libcst"):
        try:
            packages.append(f"{package} {version(package)}")
        except PackageNotFoundError:
            packages.append(f"{package} unknown")
    return (
        f"{name}, {len(os.sched_getaffinity(0))} cores; Python {platform.python_version()}, "
        f"{', '.join(packages)}; {runs} runs of each, in turns. "
        f"Load when this was printed: {os.getloadavg()[0]:.1f}.\n"
    )


def _seconds(value: float) -> str:
    return f"{value:.2f} s"


def _megabytes(value: float) -> str:
    return f"{value / 1e6:.0f} MB"


# Limit ------------------------------------------------------------------------------------------


class Tree(NamedTuple):
    """What porter says of a tree: the Python files it looks at, and those of them with a site."""

    files: tuple[str, ...]
    sites: tuple[str, ...]


def surveyed(path: Path, target: str) -> Tree:
    """Ask porter for the Python files of a tree, and for those in which it found something."""
    command = porter(
        "check",
        "--no-cache",
        "-q",
        "--exit-zero",
        "--output-format",
        "json",
        "--target",
        target,
        path,
    )
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False)
    data = json.loads(done.stdout)
    base = path if path.is_dir() else path.parent
    files = [f["path"] for f in data["files"] if f["path"].endswith(".py")]
    sites = {s["path"] for s in data["sites"] if s["path"].endswith(".py")}
    return Tree(tuple(str(base / f) for f in files), tuple(str(base / f) for f in sorted(sites)))


def marker_of(target: str) -> dict[str, list[Any]]:
    """The words and patterns one of which a file must hold, as porter's own rules say."""
    from porter import lookout

    marker = lookout.selected((), ()).serving(target).marker
    patterns = [[p.text.decode(), [w.decode() for w in p.words]] for p in marker.patterns]
    return {"words": [w.decode() for w in marker.words], "patterns": patterns}


def least_work(job: Path) -> int:
    """What no tool of this kind can spare: search all files, parse and print those with a site.

    The files, the marker, and which files have a site are given, so that finding all that costs
    nothing here.
    """
    import libcst

    from porter.scan import Marker, Pattern

    data = json.loads(job.read_text())
    patterns = [
        Pattern(text.encode(), tuple(word.encode() for word in words))
        for text, words in data["patterns"]
    ]
    marker = Marker(tuple(word.encode() for word in data["words"]), tuple(patterns))
    sites, found = set(data["sites"]), 0
    for path in data["files"]:
        content = Path(path).read_bytes()
        found += marker.search(content)
        if path in sites:
            with contextlib.suppress(libcst.ParserSyntaxError):
                found += bool(libcst.parse_module(content).code)
    return found


def limit(paths: Sequence[Path], runs: int, targets: Sequence[str] = TARGETS) -> str:
    """The table of cold runs against the least work, and of two processes against one."""
    rows, speedups = [], []
    with tempfile.TemporaryDirectory(prefix="performance-") as folder:
        for path in paths:
            for target in targets:
                tree = surveyed(path, target)
                job = Path(folder, "job.json")
                job.write_text(json.dumps({**tree._asdict(), **marker_of(target)}))
                migrate = ("migrate", "--diff", "--no-cache", "-q", "--target", target)
                costs = in_turns(
                    {
                        "least": [sys.executable, __file__, "_least", str(job)],
                        "one": porter(*migrate, "-j1", path),
                        "two": porter(*migrate, "-j2", path),
                        "noted": noting(*migrate, "-j2", path),
                    },
                    runs,
                )
                least, one = least_cpu(costs["least"]), least_cpu(costs["one"])
                size = sum(Path(file).stat().st_size for file in tree.files)
                rows.append(
                    (path.name, target, len(tree.files), _megabytes(size), len(tree.sites),
                     _seconds(least), _seconds(one), f"**{one / least:.2f}**")
                )  # fmt: skip
                wall, walls = least_wall(costs["one"]), least_wall(costs["two"])
                noted = min(costs["noted"], key=lambda cost: cost.critical(2))
                speedups.append(
                    (path.name, target, _seconds(wall), _seconds(walls), f"{wall / walls:.2f}",
                     _seconds(noted.serial), _seconds(noted.critical(2)),
                     f"**{one / noted.critical(2):.2f}**")
                )  # fmt: skip
    head = ("Tree", "Target", "Python files", "Size", "With a site", "Least", "porter", "Ratio")
    other = (
        "Tree", "Target", "`-j1`, clock", "`-j2`, clock", "Ratio", "First process, CPU",
        "Longest chain, CPU", "Ratio by CPU",
    )  # fmt: skip
    return f"{table(head, rows)}\n{table(other, speedups)}"


# Start ------------------------------------------------------------------------------------------

UNRELATED = "import json\n\n\ndef read(path):\n    with open(path) as file:\n        return json.load(file)\n"
RELATED = "import torch\n\n\ndef move(x):\n    return x.cuda()\n"


def start(runs: int) -> str:
    """The table of what the command takes before and besides its work."""
    with tempfile.TemporaryDirectory(prefix="performance-") as folder:
        unrelated, related = Path(folder, "unrelated.py"), Path(folder, "related.py")
        unrelated.write_text(UNRELATED)
        related.write_text(RELATED)
        parser = "click"
        for name in ("typer", "click"):
            probe = [sys.executable, "-c", f"import {name}"]
            if not subprocess.run(probe, stderr=subprocess.DEVNULL, check=False).returncode:
                parser = name
                break
        commands = {
            "`python -c pass`": [sys.executable, "-c", "pass"],
            f'`python -c "import {parser}"`': [sys.executable, "-c", f"import {parser}"],
            "porter's version": porter("--version"),
            "the help of porter": porter("--help"),
            "`porter check` of a file without a site": porter("check", "-q", unrelated),
            "`porter check` of a file with a site": porter("check", "-q", "--no-cache", related),
        }
        costs = in_turns(commands, runs)
    base = least_cpu(costs["`python -c pass`"])
    rows = []
    for name, found in costs.items():
        middle = sorted(cost.cpu for cost in found)[len(found) // 2]
        rows.append((name, f"{least_cpu(found) * 1e3:.0f} ms", f"{middle * 1e3:.0f} ms",
                     f"{least_wall(found) * 1e3:.0f} ms", f"{least_cpu(found) / base:.1f}"))  # fmt: skip
    return table(("Command", "CPU, fastest", "CPU, median", "Clock, fastest", "Ratio"), rows)


# Cache ------------------------------------------------------------------------------------------


def cache(paths: Sequence[Path], runs: int, targets: Sequence[str] = TARGETS) -> str:
    """The table of first and second runs."""
    rows = []
    for path in paths:
        for target in targets:
            first, second = [], []
            for _ in range(runs):
                with tempfile.TemporaryDirectory(prefix="performance-") as folder:
                    command = porter("check", "-q", "-j1", "--target", target, path)
                    first.append(measured(command, PORTER_CACHE_DIR=folder))
                    second.append(measured(command, PORTER_CACHE_DIR=folder))
            cold, warm = least_cpu(first), least_cpu(second)
            rows.append(
                (path.name, target, _seconds(cold), _seconds(warm), f"**{cold / warm:.1f}**")
            )
    return table(("Tree", "Target", "First run", "Second run", "Times faster"), rows)


# Memory -----------------------------------------------------------------------------------------


def memory(path: Path, copies: Sequence[int] = (1, 4, 16), jobs: int = 2) -> str:
    """The table of the memory that runs over several copies of a tree take."""
    rows: list[tuple[object, ...]] = []
    growth: list[tuple[int, int, int]] = []
    with tempfile.TemporaryDirectory(prefix="performance-") as folder:
        for count in copies:
            root = Path(folder, f"times{count}")
            for number in range(count):
                shutil.copytree(path, root / f"copy{number}", symlinks=True)
            cost = measured(
                noting("migrate", "--diff", "--no-cache", "-q", f"-j{jobs}", root),
            )
            report = json.loads(
                subprocess.run(
                    porter("check", "--no-cache", "-q", "--output-format", "json", root),
                    stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=False,
                ).stdout
            )  # fmt: skip
            files, sites = len(report["files"]), len(report["sites"])
            size = sum(f.stat().st_size for f in root.rglob("*") if f.is_file())
            rows.append((f"{count} times {path.name}", files, sites, _megabytes(size),
                         _megabytes(cost.peak), _megabytes(cost.worker)))  # fmt: skip
            growth.append((files, sites, cost.peak))
            shutil.rmtree(root)
    head = ("Tree", "Files", "Findings", "Size", "First process", "Largest worker")
    (few, _, low), (many, _, high) = growth[0], growth[-1]
    each = (high - low) / max(many - few, 1)
    return f"{table(head, rows)}\nThe first process grows by {each / 1e3:.1f} kB for each file.\n"


# Large ------------------------------------------------------------------------------------------

_HEAD = "import torch\n\nx = torch.zeros(1).cuda()\n"


def _functions(n: int) -> str:
    return "import torch\n" + "".join(
        f"def f{i}(x):\n    return x.cuda() + torch.cuda.device_count()\n" for i in range(n // 2)
    )


def _one_function(n: int) -> str:
    return "import torch\ndef f(x):\n" + "".join(f"    y{i} = x.cuda()\n" for i in range(n))


def _one_line(n: int) -> str:
    return "import torch\ndef f(x):\n    return [" + ", ".join(["x.cuda()"] * n) + "]\n"


def _guards(n: int) -> str:
    return "import torch\n" + "".join(
        f"if torch.cuda.is_available():\n    a{i} = torch.zeros({i}).cuda()\n" for i in range(n)
    )


def _imported(n: int) -> str:
    return "from torch.cuda import synchronize\n" + "synchronize()\n" * n


def _lines(n: int) -> str:
    return _HEAD + "".join(f"value_{i} = compute(value_{i // 2}, {i})\n" for i in range(n))


def _literal(n: int) -> str:
    return f"{_HEAD}text = '{'word ' * (n // 5)}'\n"


def _numbers(n: int) -> str:
    return f"{_HEAD}data = [{', '.join(map(str, range(n)))}]\n"


def _brackets(n: int) -> str:
    return f"{_HEAD}y = {'(' * n}1{')' * n}\n"


def _sum(n: int) -> str:
    return f"{_HEAD}y = {' + '.join(['1'] * n)}\n"


def _calls(n: int) -> str:
    return f"{_HEAD}y = x{'.view(1)' * n}\n"


def _elif(n: int) -> str:
    arms = "".join(f"elif y == {i}:\n    x.cuda()\n" for i in range(n))
    return f"{_HEAD}if y is None:\n    pass\n{arms}"


def _blocks(n: int) -> str:
    lines = [" " * i + "if y:\n" for i in range(n)]
    return f"{_HEAD}{''.join(lines)}{' ' * n}x.cuda()\n"


#: What a large file is made of, the number of them, and how it is written.
LARGE: tuple[tuple[str, int, Callable[[int], str]], ...] = (
    ("sites, two in each function", 5_000, _functions),
    ("sites in one function", 5_000, _one_function),
    ("sites on one line", 2_500, _one_line),
    ("guards with a site", 2_500, _guards),
    ("uses of an imported name", 5_000, _imported),
    ("lines of code, one site", 50_000, _lines),
    ("characters in one string", 2_500_000, _literal),
    ("numbers in one list", 500_000, _numbers),
)
#: What is nested, and how it is written.
DEEP: tuple[tuple[str, Callable[[int], str]], ...] = (
    ("brackets", _brackets),
    ("operands of one sum", _sum),
    ("calls in one chain", _calls),
    ("arms of one if", _elif),
    ("blocks", _blocks),
)
DEPTHS = (500, 5_000, 100_000)


class Handled(NamedTuple):
    """What became of one file, and what that took."""

    size: int
    cpu: float
    peak: int
    result: str


def handled(text: str, target: str = TARGETS[0]) -> Handled:
    """Have porter migrate one file that holds `text`."""
    with tempfile.TemporaryDirectory(prefix="performance-") as folder:
        file, report = Path(folder, "large.py"), Path(folder, "report.json")
        file.write_text(text)
        cost = measured(
            noting("migrate", "--diff", "--no-cache", "-q", "-j1", "--target", target,
                   "--report", report, file)
        )  # fmt: skip
        data = json.loads(report.read_text())
        status = data["files"][0]["status"]
        reason = data["files"][0].get("reason", "")
        rewritten = sum(site["status"] == "rewritten" for site in data["sites"])
        result = f"{rewritten:,} rewritten" if status == "changed" else f"{status}: {reason}"
        return Handled(len(text), cost.cpu, cost.peak, result)


def large(
    kinds: Sequence[tuple[str, int, Callable[[int], str]]] = LARGE,
    deep: Sequence[tuple[str, Callable[[int], str]]] = DEEP,
    depths: Sequence[int] = DEPTHS,
) -> str:
    """The tables of files that are larger, or nested deeper, than any should be."""
    rows = []
    for what, count, make in kinds:
        found = [handled(make(count * times)) for times in (1, 2, 4)]
        bound = found[-1].cpu <= SECONDS and found[-1].peak <= BYTES
        rows.append(
            (f"{count:,}, {2 * count:,}, {4 * count:,} {what}", _megabytes(found[-1].size),
             ", ".join(f"{f.cpu:.1f}" for f in found) + " s",
             ", ".join(f"{f.peak / 1e6:.0f}" for f in found) + " MB",
             found[-1].result + ("" if bound else " (beyond the bound)"))
        )  # fmt: skip
    nested = [
        (f"{depth:,} {what}", f"{one.cpu:.1f} s", _megabytes(one.peak), one.result)
        for what, make in deep
        for depth in depths
        if make is not _blocks or depth <= DEPTHS[1]  # whose size grows with the square
        for one in [handled(make(depth))]
    ]
    return (
        f"{table(('File with', 'Largest', 'CPU', 'Memory', 'Result of the largest'), rows)}\n"
        f"{table(('Nested', 'CPU', 'Memory', 'Result'), nested)}"
    )


# Command ----------------------------------------------------------------------------------------


def sections(what: str, paths: Sequence[Path], runs: int, targets: Sequence[str]) -> Iterator[str]:
    """The tables asked for, each as soon as it is there."""
    yield machine(runs)
    if what in ("limit", "all"):
        yield limit(paths, runs, targets)
    if what in ("start", "all"):
        yield start(3 * runs)
    if what in ("cache", "all"):
        yield cache(paths, runs, targets)
    if what in ("memory", "all"):
        yield memory(paths[0])
    if what in ("large", "all"):
        yield large()


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line."""
    given = sys.argv[1:] if arguments is None else list(arguments)
    if given[:1] == ["_least"]:
        return 0 if least_work(Path(given[1])) >= 0 else 1
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("what", choices=("limit", "start", "cache", "memory", "large", "all"))
    parser.add_argument("paths", nargs="*", type=Path, help="trees to measure on")
    parser.add_argument("--runs", type=int, default=5, help="runs of each command (5)")
    parser.add_argument("--target", action="append", choices=TARGETS, help="only this target")
    options = parser.parse_args(given)
    if options.what in ("limit", "cache", "memory", "all") and not options.paths:
        parser.error(f"{options.what} needs a tree to measure on")
    targets = options.target or TARGETS
    # As an installation has it; a checkout may be kept without.
    for name in ("porter", "porter.rewrites"):
        for folder in importlib.import_module(name).__path__:
            compileall.compile_dir(folder, quiet=2)
    for text in sections(options.what, options.paths, options.runs, targets):
        print(text, flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
