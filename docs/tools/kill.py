"""Kill porter a thousand times, and look at what it leaves.

python docs/tools/kill.py                      1,000 kills of `migrate` in place, and the others
python docs/tools/kill.py --kills 100 --seed 7 fewer, at other moments
python docs/tools/kill.py --only copy          one kind of run
python docs/tools/kill.py --whole 50           whole processes with workers, too
python docs/tools/kill.py --rehearse 20        and rehearsals, where torch is installed

Every kill hits a run on a fresh copy of a project: several copies of fixtures/sample with notebooks,
CRLF files, executable files, links, and what editors leave about. Half of the moments are drawn from
the whole run; the others are steps of the run that change the disk (a file opened for writing, half
of a write, a flush, a renaming, a removal), drawn from all such steps. The signals are SIGKILL,
SIGINT, SIGTERM and SIGHUP, and sometimes a second one a few steps after the first.

Then every file must be what it was or what an uninterrupted run makes of it, with its mode; nothing
may lie about outside of `.porter`; the undo patch must restore the project; the cache must be
readable; and the same command must complete the work. Exits with 1 if one of this is not so.

So that a run takes a fraction of a second, it is a fork of this process, which has porter loaded;
`--whole` starts processes of its own instead. Needs Linux, git and patch.
"""

from __future__ import annotations

import argparse
import concurrent.futures
import contextlib
import io
import multiprocessing
import os
import random
import shutil
import signal
import stat
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

_CHUNK = 25
ROOT = Path(__file__).resolve().parents[2]
SAMPLE = ROOT / "fixtures" / "sample"
CODES = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}
_STEPS = frozenset(
    {"os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "os.chown", "os.symlink"}
    | {"fcntl.flock", "os.setxattr"}
)

Entry = tuple[str, int, bytes]
"""What a path is: its kind, its mode, its content."""
Tree = dict[str, Entry]


# A project --------------------------------------------------------------------------------------


def project(folder: Path, copies: int) -> None:
    """Fill a folder with a project that looks like those that people have."""
    for number in range(copies):
        part = folder / f"part{number}"
        shutil.copytree(SAMPLE, part)
        (part / "train.py").chmod(0o755)
        utils = part / "utils.py"
        utils.write_bytes(utils.read_bytes().replace(b"\n", b"\r\n"))
        data = part / "data.py"
        data.write_bytes(data.read_bytes().rstrip(b"\n"))
        (part / "entry.py").symlink_to("train.py")
        (part / "run.sh").write_text("#!/bin/sh\nexport CUDA_VISIBLE_DEVICES=0\npython train.py\n")
        (part / "constants.py").write_text("SEED = 1\n")
        (part / "constants.py").chmod(0o444)
        # What editors leave beside a file that is open.
        (part / ".#model.py").symlink_to("user@host.1")
        (part / ".model.py.swp").write_bytes(b"b0VIM\0model.cuda()")
        (part / "model.py~").write_bytes((part / "model.py").read_bytes())
    (folder / "weights.bin").write_bytes(bytes(range(256)) * 64)


def state(folder: Path) -> Tree:
    """What lies in a folder, without git's own files."""
    found: Tree = {}
    for here, folders, files in os.walk(folder):
        if ".git" in folders:
            folders.remove(".git")
        for name in (*files, *(f for f in folders if Path(here, f).is_symlink())):
            path = Path(here, name)
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                entry: Entry = ("link", 0, os.fsencode(path.readlink()))
            else:
                entry = ("file", stat.S_IMODE(mode), path.read_bytes())
            found[path.relative_to(folder).as_posix()] = entry
    return found


def own(name: str) -> bool:
    """Whether a path belongs to porter: its folder, or a file in the making."""
    return ".porter" in Path(name).parts or name.endswith(".porter-tmp")


def without_own(tree: Tree) -> Tree:
    """The rest."""
    return {name: entry for name, entry in tree.items() if not own(name)}


def git(folder: Path, *arguments: str) -> subprocess.CompletedProcess[bytes]:
    """Call git."""
    who = ("-c", "user.name=n", "-c", "user.email=n@example.org", "-c", "core.autocrlf=false")
    return subprocess.run(["git", *who, *arguments], cwd=folder, check=False, capture_output=True)


# Kinds of run -----------------------------------------------------------------------------------


@dataclass(frozen=True)
class Scenario:
    """One kind of run.

    Args:
        name: what the table calls it.
        arguments: of porter, in the folder.
        prepare: fills the folder.
        codes: exit codes of a run that is not killed.
        undo: whether the run leaves patches that undo it.
        repository: whether git must see nothing but changed files.
        share: how many of its kills, in percent of the number asked for.
    """

    name: str
    arguments: tuple[str, ...]
    prepare: Callable[[Path, int], None]
    codes: tuple[int, ...] = (0, 1)
    undo: bool = False
    repository: bool = False
    share: int = 10


def _plain(folder: Path, copies: int) -> None:
    project(folder, copies)


def _committed(folder: Path, copies: int) -> None:
    project(folder, copies)
    git(folder, "init", "-q")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "-m", "start")


def _dirty(folder: Path, copies: int) -> None:
    _committed(folder, copies)
    with (folder / "part0" / "model.py").open("a") as file:
        file.write("# work in progress\n")
    (folder / "part0" / "fresh.py").write_text("import torch\n\nx = torch.ones(1).cuda()\n")


def _to_copy(folder: Path, copies: int) -> None:
    (folder / "in").mkdir()
    project(folder / "in", copies)


def _with_baseline(folder: Path, copies: int) -> None:
    project(folder, copies)
    with_porter(["check", ".", "--write-baseline", "baseline.json", "-q"], folder)
    (folder / "part0" / "train.py").write_text("import torch\n")


def with_porter(arguments: list[str], folder: Path) -> None:
    """Call porter for a preparation."""
    run(arguments, folder, folder.parent / "cache-of-preparation")


IN_PLACE = ("migrate", ".", "-j", "1")
SCENARIOS = (
    Scenario("in place, outside of git", IN_PLACE, _plain, undo=True, share=40),
    Scenario("in place, committed", IN_PLACE, _committed, repository=True, share=30),
    Scenario(
        "in place, --allow-dirty", (*IN_PLACE, "--allow-dirty"), _dirty, undo=True, share=20
    ),
    Scenario("in place, --annotate", (*IN_PLACE, "--annotate"), _plain, undo=True),
    Scenario("copy: -o DIR", ("migrate", "in", "-o", "out", "-j", "1"), _to_copy),
    Scenario("check --report FILE", ("check", "in", "-j", "1", "--report", "r.json"), _to_copy),
    Scenario(
        "check --baseline FILE", ("check", ".", "-j", "1", "--baseline", "baseline.json"),
        _with_baseline,
    ),
    Scenario("check --add-ignores", ("check", ".", "-j", "1", "--add-ignores"), _plain, (2,)),
)  # fmt: skip


# One run ----------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Kill:
    """When a run is killed, and how.

    Args:
        signals: the first signal, and perhaps a second one.
        moment: seconds from the start; for a kill at any time.
        step: which step that changes the disk; for a kill at a step.
        later: steps from the first signal to the second.
    """

    signals: tuple[signal.Signals, ...]
    moment: float = 0.0
    step: int = -1
    later: int = 0


class Ended(NamedTuple):
    """How a run ended: exit code (negative: the signal), standard error, seconds, steps."""

    code: int
    error: str
    seconds: float
    steps: int


def run(
    arguments: list[str],
    folder: Path,
    cache: Path,
    kill: Kill | None = None,
    user: int | None = None,
) -> Ended:
    """Run porter in a fork of this process, perhaps as another user."""
    with tempfile.TemporaryFile() as error, tempfile.TemporaryFile() as steps:
        start = time.monotonic()
        sys.stdout.flush()
        pid = os.fork()
        if pid == 0:
            _child(arguments, folder, cache, error.fileno(), steps.fileno(), kill, user)
        if kill is not None and kill.step < 0:
            for number in kill.signals:
                time.sleep(kill.moment)
                os.kill(pid, number)
                kill = Kill(kill.signals, kill.later / 1000)
        _, status = os.waitpid(pid, 0)
        seconds = time.monotonic() - start
        error.seek(0)
        text = error.read().decode("utf-8", "replace")
        count = os.fstat(steps.fileno()).st_size
    return Ended(os.waitstatus_to_exitcode(status), text, seconds, count)


def _child(
    arguments: list[str],
    folder: Path,
    cache: Path,
    error: int,
    steps: int,
    kill: Kill | None,
    user: int | None,
) -> None:
    code = 70
    try:
        os.chdir(folder)
        os.environ["PORTER_CACHE_DIR"] = str(cache)
        null = os.open(os.devnull, os.O_RDWR)
        os.dup2(null, 0)
        os.dup2(null, 1)
        os.dup2(error, 2)
        sys.stderr = os.fdopen(2, "w", closefd=False)
        sys.argv = ["porter", *arguments]
        if user is not None:
            os.setgroups([])
            os.setgid(user)
            os.setuid(user)
        _count_steps(steps, kill)
        from porter.__main__ import main

        try:
            main()
        except SystemExit as end:
            code = end.code if isinstance(end.code, int) else 71
        sys.stderr.flush()
    except BaseException:  # what a user would see
        import traceback

        with contextlib.suppress(BaseException):
            traceback.print_exc()
            sys.stderr.flush()
    finally:
        os._exit(code)


def _count_steps(out: int, kill: Kill | None) -> None:
    """Count steps that change the disk, each with a byte in a file, and die at one of them."""
    count = 0
    wanted: dict[int, signal.Signals] = {}
    if kill is not None and kill.step >= 0:
        wanted = {kill.step + n * kill.later: s for n, s in enumerate(kill.signals)}
    me = os.getpid()

    def step() -> None:
        nonlocal count
        if os.getpid() != me:
            return
        os.write(out, b".")
        count += 1
        number = wanted.get(count - 1)
        if number is not None:
            os.kill(me, number)

    def audited(event: str, arguments: tuple[Any, ...]) -> None:
        if event == "open":
            flags = arguments[2]
            if isinstance(flags, int) and flags & (os.O_WRONLY | os.O_RDWR | os.O_CREAT):
                step()
        elif event in _STEPS:
            step()

    class Torn(io.BufferedWriter):
        """A file whose writes happen by halves, with a step between them."""

        def write(self, data: Any) -> int:
            view = memoryview(data)
            half = len(view) // 2
            super().write(view[:half])
            self.flush()
            step()
            super().write(view[half:])
            return len(view)

    def fdopen(descriptor: int, mode: str = "r", *rest: Any, **options: Any) -> Any:
        if mode == "wb":
            return Torn(io.FileIO(descriptor, "wb"))
        return before(descriptor, mode, *rest, **options)

    def fsync(descriptor: int) -> None:
        step()
        flush(descriptor)

    before, flush = os.fdopen, os.fsync
    setattr(os, "fdopen", fdopen)  # noqa: B010
    setattr(os, "fsync", fsync)  # noqa: B010
    sys.addaudithook(audited)


# What is left -----------------------------------------------------------------------------------


@dataclass
class Tally:
    """What came of the kills of one kind of run."""

    name: str
    kills: int = 0
    signals: Counter[str] = field(default_factory=Counter)
    steps: int = 0
    ended: int = 0
    old: int = 0
    new: int = 0
    partial: int = 0
    left: int = 0
    undone: int = 0
    completed: int = 0
    problems: list[str] = field(default_factory=list)

    def add(self, other: Tally) -> None:
        """Count what another process has found, too."""
        for name, value in vars(other).items():
            if name != "name":
                setattr(self, name, getattr(self, name) + value)


@dataclass
class Trial:
    """A kind of run, with what it starts from and what it leads to."""

    scenario: Scenario
    home: Path
    base: Path
    before: Tree
    after: Tree
    seconds: Callable[[bool], float]
    steps: int


@contextlib.contextmanager
def prepared(scenario: Scenario, copies: int) -> Iterator[Trial]:
    """What a kind of run starts from and leads to."""
    with tempfile.TemporaryDirectory(prefix="porter-kill-") as name:
        home = Path(name)
        base = home / "base"
        base.mkdir()
        scenario.prepare(base, copies)
        before = state(base)
        cold, warm = [], []
        counted = Ended(0, "", 0, 0)
        for number in range(3):
            folder = _fresh(base, home / "work")
            counted = run(list(scenario.arguments), folder, home / f"cache{number}")
            cold.append(counted.seconds)
            _fresh(base, folder)
            warm.append(run(list(scenario.arguments), folder, home / f"cache{number}").seconds)
        if counted.code not in scenario.codes:
            raise SystemExit(f"{scenario.name}: {counted.error}")
        after = state(home / "work")
        durations = {False: statistics.median(cold), True: statistics.median(warm)}
        shutil.copytree(home / "cache0", home / "warm")
        yield Trial(
            scenario, home, base, before, without_own(after), durations.__getitem__, counted.steps
        )


def _fresh(base: Path, folder: Path) -> Path:
    if folder.exists():
        shutil.rmtree(folder)
    shutil.copytree(base, folder, symlinks=True)
    return folder


def drawn(trial: Trial, chance: random.Random, warm: bool) -> Kill:
    """A kill at a random moment or step."""
    number = chance.choice([signal.SIGKILL] * 4 + [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
    signals: tuple[signal.Signals, ...] = (number,)
    if number != signal.SIGKILL and chance.random() < 0.5:
        signals = (number, chance.choice([signal.SIGINT, number]))
    later = chance.randint(1, 4)
    if chance.random() < 0.5:
        return Kill(signals, moment=chance.random() * trial.seconds(warm), later=later)
    return Kill(signals, step=chance.randrange(trial.steps), later=later)


def judged(trial: Trial, kill: Kill, tally: Tally, *, warm: bool) -> None:
    """Kill one run, and look at what it leaves."""
    folder, cache = _fresh(trial.base, trial.home / "work"), trial.home / "cache"
    shutil.rmtree(cache, ignore_errors=True)
    if warm:
        shutil.copytree(trial.home / "warm", cache)
    ended = run(list(trial.scenario.arguments), folder, cache, kill)
    if ended.code in trial.scenario.codes:
        tally.ended += 1  # the run was over before the signal came: no kill
        return
    tally.kills += 1
    tally.steps += kill.step >= 0
    tally.signals["+".join(s.name.removeprefix("SIG") for s in kill.signals)] += 1
    found = state(folder)

    def wrong(what: str) -> None:
        tally.problems.append(f"{trial.scenario.name}: {kill} (warm: {warm}): {what}")

    _check_end(ended, kill, wrong)
    _check_files(trial, found, tally, wrong)
    if not hard(ended) and any(name.endswith(".porter-tmp") for name in found):
        wrong("a file in the making is left though the run could tidy up")
    _check_cache(cache, wrong)
    if trial.scenario.repository:
        _check_repository(trial, folder, wrong)
    if trial.scenario.undo:
        good = _undoes(trial, folder, hard(ended), wrong)
        tally.undone += good
    again = run(list(trial.scenario.arguments), folder, cache)
    if trial.scenario.undo and "not committed" in again.error:
        wrong("the next run was refused")
    last = state(folder)
    if again.code not in trial.scenario.codes or without_own(last) != trial.after:
        wrong(f"the next run did not complete the work: {again.code}: {again.error}")
        return
    rest = [n for n in last if own(n) and not Path(n).name.startswith(("undo-", ".gitignore"))]
    if rest:
        wrong(f"the next run left {rest}")
        return
    if trial.scenario.undo:
        for patch in sorted((folder / ".porter").glob("undo-*.patch")):
            git(folder, "apply", str(patch))
        if without_own(state(folder)) != trial.before:
            wrong("the patches, one after the other, do not undo both runs")
            return
    tally.completed += 1


def hard(ended: Ended) -> bool:
    """Whether a run had no chance to tidy up."""
    return ended.code == -signal.SIGKILL


def _check_end(ended: Ended, kill: Kill, wrong: Callable[[str], None]) -> None:
    lines = ended.error.splitlines()
    if "Traceback" in ended.error or "internal error" in ended.error:
        wrong(f"a traceback: {ended.error}")
    if ended.code in (0, 1) or hard(ended):
        return
    if ended.code not in [CODES.get(s) for s in kill.signals]:
        # The program before and after porter: the system's own answer to a signal.
        if ended.code not in [-s for s in kill.signals]:
            wrong(f"exit code {ended.code}: {ended.error}")
    elif sum(line.startswith("error: interrupted; ") for line in lines) != 1:
        wrong(f"not one line: {ended.error}")


def _check_files(trial: Trial, found: Tree, tally: Tally, wrong: Callable[[str], None]) -> None:
    for name in sorted(trial.before.keys() | trial.after.keys()):
        entry, old, new = found.get(name), trial.before.get(name), trial.after.get(name)
        if old == new:
            if entry != old:
                tally.partial += 1
                wrong(f"{name}: was not to be changed")
        elif entry == old:
            tally.old += 1
        elif entry == new:
            tally.new += 1
        else:
            tally.partial += 1
            wrong(f"{name}: neither the old nor the new file")
    others = [n for n in found if n not in trial.before and n not in trial.after]
    for name in others:
        if not own(name):
            wrong(f"{name}: lies about")
    tally.left += any(name.endswith(".porter-tmp") for name in others)


def _check_cache(cache: Path, wrong: Callable[[str], None]) -> None:
    from porter import cache as kept

    for file in cache.glob(f"*{kept.SUFFIX}") if cache.is_dir() else ():
        if not kept._entries(file):
            wrong("the cache cannot be read")


def _check_repository(trial: Trial, folder: Path, wrong: Callable[[str], None]) -> None:
    lines = git(folder, "status", "--porcelain").stdout.decode().splitlines()
    strange = [line for line in lines if not line.startswith(" M ")]
    # Between the making of the folder and that of its .gitignore lies a system call.
    if strange and strange != ["?? .porter/"]:
        wrong(f"git status shows {strange}")


def _undoes(trial: Trial, folder: Path, killed: bool, wrong: Callable[[str], None]) -> bool:
    """Whether the patch restores what was there, in a copy."""
    changed = any(
        (folder / name).is_file() and (folder / name).read_bytes() == entry[2]
        for name, entry in trial.after.items()
        if entry != trial.before.get(name)
    )
    patches = [p for p in (folder / ".porter").glob("undo-*.patch") if p.stat().st_size]
    if not patches:
        if changed:
            wrong("files were changed, and there is no patch to undo it")
        return not changed
    if not changed and not killed:
        wrong("there is a patch to undo nothing")
        return False
    copy = trial.home / "undone"
    _fresh(folder, copy)
    patch = copy / ".porter" / patches[0].name
    if killed:  # the patch is about files too that were not reached
        command = ["patch", "-p1", "-N", "-F0", "-s", "--binary", "-r", "-", "-i", str(patch)]
        subprocess.run(command, cwd=copy, check=False, capture_output=True)
        by_patch = without_own(state(copy)) == trial.before
        _fresh(folder, copy)
        git(copy, "apply", "--reject", str(patch))
        for rejected in copy.rglob("*.rej"):
            rejected.unlink()
        good = by_patch and without_own(state(copy)) == trial.before
    else:
        done = git(copy, "apply", str(patch))
        good = done.returncode == 0 and without_own(state(copy)) == trial.before
    if not good:
        wrong("the patch does not restore what was there")
    return good


def kills(scenario: Scenario, count: int, seed: object, copies: int = 2) -> Tally:
    """Kill one kind of run so many times."""
    chance = random.Random(f"{seed} {scenario.name}")
    tally = Tally(scenario.name)
    with prepared(scenario, copies) as trial:
        while tally.kills < count:
            warm = chance.random() < 0.5
            judged(trial, drawn(trial, chance, warm), tally, warm=warm)
    return tally


def all_kills(wanted: list[tuple[Scenario, int]], seed: int, jobs: int) -> list[Tally]:
    """Kill several kinds of run, in chunks that do not depend on the number of jobs."""
    tallies = {scenario.name: Tally(scenario.name) for scenario, _ in wanted}
    with concurrent.futures.ProcessPoolExecutor(jobs, multiprocessing.get_context("fork")) as pool:
        chunks = [
            pool.submit(kills, scenario, min(_CHUNK, count - start), f"{seed}.{start}")
            for scenario, count in wanted
            for start in range(0, count, _CHUNK)
        ]
        for number, done in enumerate(concurrent.futures.as_completed(chunks), 1):
            found = done.result()
            tallies[found.name].add(found)
            print(f"{number} of {len(chunks)}: {found.name}, {found.kills} kills", flush=True)
            for problem in found.problems[:20]:
                print(f"  {problem}", flush=True)
    return list(tallies.values())


# Whole processes --------------------------------------------------------------------------------


def whole(count: int, seed: int, copies: int = 12) -> Tally:
    """Kill processes that have workers: the parent, or a worker.

    The workers of a parent that was killed must end; the file of a worker that was killed must be
    migrated all the same.
    """
    chance = random.Random(f"{seed} whole")
    tally = Tally("in place, -j 2, whole processes")
    scenario = Scenario(tally.name, ("migrate", ".", "-j", "2", "--no-cache"), _plain, undo=True)
    with tempfile.TemporaryDirectory(prefix="porter-kill-") as name:
        home = Path(name)
        base = home / "base"
        base.mkdir()
        project(base, copies)
        folder = _fresh(base, home / "work")
        start = time.monotonic()
        _process(scenario, folder).communicate()
        seconds = time.monotonic() - start
        trial = Trial(
            scenario, home, base, state(base), without_own(state(folder)), lambda _: seconds, 0
        )
        for number in range(count):
            _kill_whole(trial, chance, tally, worker=number % 3 == 2, seconds=seconds)
    return tally


def _process(
    scenario: Scenario, folder: Path, temporary: Path | None = None
) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "porter", *scenario.arguments]
    return subprocess.Popen(
        command, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
        env={**os.environ, "TMPDIR": str(temporary or folder.parent)},
    )  # fmt: skip


def _kill_whole(
    trial: Trial, chance: random.Random, tally: Tally, *, worker: bool, seconds: float
) -> None:
    folder = _fresh(trial.base, trial.home / "work")
    number = signal.SIGKILL if worker else chance.choice([signal.SIGKILL, *CODES])
    process = _process(trial.scenario, folder)
    workers = _workers(process)
    if worker:
        if not workers:
            process.wait()
            return
        time.sleep(chance.random() * seconds * 0.5)
        with contextlib.suppress(ProcessLookupError):
            os.kill(chance.choice(sorted(workers)), number)
    else:
        time.sleep(chance.random() * seconds)
        workers |= _children(process.pid)
        process.send_signal(number)
    error = process.communicate()[1].decode()
    code = process.returncode
    kill = Kill((number,))
    tally.kills += 1
    tally.signals[number.name.removeprefix("SIG") + (" (worker)" if worker else "")] += 1

    def wrong(what: str) -> None:
        tally.problems.append(f"{trial.scenario.name}: {kill} (worker: {worker}): {what}")

    if worker:
        if code not in (0, 1) or without_own(state(folder)) != trial.after:
            wrong(f"the work of a worker that died is missing: {code}: {error}")
    else:
        _check_end(Ended(code, error, 0, 0), kill, wrong)
    end = time.monotonic() + 5
    while any(Path(f"/proc/{pid}").exists() for pid in workers):
        if time.monotonic() > end:
            wrong("workers outlive the run")
            break
        time.sleep(0.02)
    _check_files(trial, state(folder), tally, wrong)
    tally.undone += _undoes(trial, folder, code == -signal.SIGKILL, wrong)
    again = run(list(trial.scenario.arguments), folder, trial.home / "cache")
    if again.code in (0, 1) and without_own(state(folder)) == trial.after:
        tally.completed += 1
    else:
        wrong(f"the next run did not complete the work: {again.error}")


_TRAIN = "import torch\n\nx = torch.ones(2).cuda()\nprint(float(x.sum()))\n"


def rehearsals(count: int, seed: int) -> Tally:
    """Kill migrations that rehearse first: they work in folders for temporary files."""
    chance = random.Random(f"{seed} rehearse")
    command = ("migrate", ".", "-j", "1", "--no-cache", "--rehearse", "python train.py")
    scenario = Scenario("migrate --rehearse, whole processes", command, _plain, undo=True)
    tally = Tally(scenario.name)
    with tempfile.TemporaryDirectory(prefix="porter-kill-") as name:
        home = Path(name)
        (home / "base").mkdir()
        (home / "temporary").mkdir()
        (home / "base" / "train.py").write_text(_TRAIN)
        folder = _fresh(home / "base", home / "work")
        start = time.monotonic()
        done = _process(scenario, folder, home / "temporary")
        error = done.communicate()[1].decode()
        if done.returncode:
            raise SystemExit(f"{scenario.name}: {error}")
        seconds = time.monotonic() - start
        before, after = state(home / "base"), without_own(state(folder))
        trial = Trial(scenario, home, home / "base", before, after, lambda _: seconds, 0)
        for _ in range(count):
            _kill_rehearsal(trial, chance, tally)
    return tally


def _kill_rehearsal(trial: Trial, chance: random.Random, tally: Tally) -> None:
    folder, place = _fresh(trial.base, trial.home / "work"), trial.home / "temporary"
    number = chance.choice([signal.SIGKILL, *CODES])
    process = _process(trial.scenario, folder, place)
    time.sleep(chance.random() * trial.seconds(True))
    process.send_signal(number)
    ended = Ended(process.wait(), "", 0, 0)
    assert process.stderr is not None
    tally.kills += 1
    tally.signals[number.name.removeprefix("SIG")] += 1

    def wrong(what: str) -> None:
        tally.problems.append(f"{trial.scenario.name}: {number.name}: {what}")

    left = sorted(path.name for path in place.iterdir())
    process.stderr.close()
    if ended.code not in (0, -signal.SIGTERM, -signal.SIGHUP, -signal.SIGKILL, CODES.get(number)):
        wrong(f"exit code {ended.code}")
    if left and not hard(ended):
        wrong(f"folders are left: {left}")
    tally.left += bool(left)
    _check_files(trial, state(folder), tally, wrong)
    tally.undone += _undoes(trial, folder, hard(ended), wrong)
    for path in place.iterdir():  # as if a minute had passed, see porter/temporary.py
        os.utime(path, (0, 0))
    again = _process(trial.scenario, folder, place)
    again.communicate()
    if again.returncode or without_own(state(folder)) != trial.after:
        wrong("the next run did not complete the work")
    elif any(place.iterdir()):
        wrong("the next run did not remove the folders")
    else:
        tally.completed += 1


def _workers(process: subprocess.Popen[bytes]) -> set[int]:
    """The workers of a run, as soon as there are two."""
    end = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < end:
        found = {pid for pid in _children(process.pid) if b"porter" in _command(pid)}
        if len(found) >= 2:
            return found
        time.sleep(0.005)
    return set()


def _children(pid: int) -> set[int]:
    with contextlib.suppress(OSError):
        return {int(n) for n in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()}
    return set()


def _command(pid: int) -> bytes:
    with contextlib.suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    return b""


# The table --------------------------------------------------------------------------------------


def table(tallies: list[Tally]) -> str:
    """The results, in Markdown."""
    rows = [
        "| Run | Kills | at a step | SIGKILL | twice | Ended before | Files old | Files new "
        "| Neither | Temporary left | Undone | Completed by the next run |",
        "| --- " + "| --: " * 11 + "|",
    ]
    for t in tallies:
        hard = sum(n for s, n in t.signals.items() if s.startswith("KILL"))
        twice = sum(n for s, n in t.signals.items() if "+" in s)
        undone = f"{t.undone}" if t.undone else "-"
        cells = (
            t.name, t.kills, t.steps, hard, twice, t.ended, t.old, t.new, t.partial, t.left, undone,
            t.completed,
        )  # fmt: skip
        rows.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(rows)


def main() -> int:
    """Do what the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--kills", type=int, default=1000, help="of migrate in place (1000)")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=os.cpu_count(), help="processes at once")
    parser.add_argument("--only", default="", help="runs whose name holds this text")
    parser.add_argument("--whole", type=int, default=0, help="kills of whole processes (0)")
    parser.add_argument("--rehearse", type=int, default=0, help="kills of rehearsals (0)")
    asked = parser.parse_args()
    print(f"seed {asked.seed}, Python {sys.version.split()[0]}", flush=True)
    warmed()
    start = time.monotonic()
    wanted = [
        (scenario, max(1, asked.kills * scenario.share // 100))
        for scenario in SCENARIOS
        if asked.only in scenario.name
    ]
    tallies = all_kills(wanted, asked.seed, asked.jobs)
    for count, killed in ((asked.whole, whole), (asked.rehearse, rehearsals)):
        if count:
            tallies.append(killed(count, asked.seed))
            for problem in tallies[-1].problems[:20]:
                print(f"  {problem}", flush=True)
    print(f"\n{table(tallies)}\n\n{time.monotonic() - start:.0f} s")
    return 1 if any(t.problems for t in tallies) else 0


def warmed() -> None:
    """Load in this process what every run needs."""
    from porter.cli import start

    with tempfile.TemporaryDirectory(prefix="porter-kill-") as name:
        before = Path.cwd()
        project(Path(name), 1)
        os.chdir(name)
        quiet = io.StringIO()
        with contextlib.redirect_stdout(quiet), contextlib.redirect_stderr(quiet):
            start(["migrate", ".", "--no-cache", "-j", "1", "-q"])
            start(["check", ".", "--no-cache", "-j", "1", "-q", "--report", "r.json"])
        os.chdir(before)


if __name__ == "__main__":
    sys.exit(main())
