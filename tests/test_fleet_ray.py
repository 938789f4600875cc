"""`porter fleet --engine ray` on a real cluster of two machines' worth of workers.

    pip install ray && python -m pytest tests/test_fleet_ray.py

One cluster serves all tests; it takes about ten seconds to start.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from porter.fleet.run import Options, Result, run

CLUSTER = pytest.importorskip("ray.cluster_utils", reason="ray is not installed")

SLOW = "import torch\n" + "x = torch.ones(2).cuda()\n" * 120


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """A cluster whose first machine has one processor; tests add others."""
    import ray

    found = CLUSTER.Cluster(
        initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False}
    )
    yield found
    ray.shutdown()
    found.shutdown()


@pytest.fixture(scope="module")
def fleet(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Eight repositories, one of them in pieces, one broken, and their list."""
    tmp_path = tmp_path_factory.mktemp("fleet")
    for i in range(6):
        folder = tmp_path / f"r{i}"
        folder.mkdir()
        (folder / "a.py").write_text(SLOW + f"# {i}\n")
    mono = tmp_path / "mono"
    for i in range(4):
        (mono / f"s{i}").mkdir(parents=True)
        (mono / f"s{i}" / "a.py").write_text("from s0.b import autocast\nwith autocast(): pass\n")
    (mono / "s0" / "b.py").write_text("from torch.cuda.amp import autocast\n")
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "porter.toml").write_text("target = 3\n")
    (tmp_path / "repos.toml").write_text(
        '[[repo]]\npaths = ["r[0-9]", "bad"]\n[[repo]]\npath = "mono"\nmax-files = 1\n'
    )
    return tmp_path


def on(folder: Path, output: str, **options: Any) -> Result:
    given = Options(folder / "repos.toml", folder / output, **options)
    return run(given, lambda done, total: None)


def written(folder: Path) -> dict[str, bytes]:
    """Everything that a run leaves for people."""
    files = (path for path in folder.rglob("*.*") if "state" not in path.parts and path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


@pytest.fixture(scope="module")
def alone(fleet: Path) -> dict[str, bytes]:
    """What a run on this machine leaves."""
    on(fleet, "alone", jobs=1)
    return written(fleet / "alone")


def test_two_machines_give_what_one_gives(
    cluster: Any, fleet: Path, alone: dict[str, bytes]
) -> None:
    node = cluster.add_node(num_cpus=1)
    try:
        on(fleet, "two", engine="ray", address=cluster.address)
    finally:
        cluster.remove_node(node)
    assert len(alone) == 2 + 2 * 7
    assert written(fleet / "two") == alone


def test_a_machine_may_be_lost_on_the_way(
    cluster: Any, fleet: Path, alone: dict[str, bytes]
) -> None:
    node = cluster.add_node(num_cpus=2)
    shelf = fleet / "lost" / "repos"

    def lose() -> None:
        while len(list(shelf.glob("*.json"))) < 2:
            time.sleep(0.02)
        cluster.remove_node(node, allow_graceful=False)

    losing = threading.Thread(target=lose, daemon=True)
    losing.start()
    result = on(fleet, "lost", engine="ray", address=cluster.address)
    losing.join()
    assert written(fleet / "lost") == alone
    assert [row["name"] for row in result.data["repos"] if row["status"] == "FAILED"] == ["bad"]


def test_a_worker_that_dies_is_retried(cluster: Any, fleet: Path, alone: dict[str, bytes]) -> None:
    """One is killed while it works."""
    shelf = fleet / "killed" / "repos"
    here = os.getpid()

    def kill() -> None:
        while len(list(shelf.glob("*.json"))) < 2:
            time.sleep(0.02)
        for line in subprocess.run(
            ["ps", "-eo", "pid,args"], capture_output=True, text=True, check=True
        ).stdout.splitlines():
            number, _, command = line.strip().partition(" ")
            # Workers that do a task are called after it.
            if command.strip().startswith("ray::perform") and int(number) != here:
                os.kill(int(number), signal.SIGKILL)
                return

    killing = threading.Thread(target=kill, daemon=True)
    killing.start()
    on(fleet, "killed", engine="ray", address=cluster.address)
    killing.join()
    assert written(fleet / "killed") == alone


def test_an_interrupted_run_goes_on_with_another_engine(
    cluster: Any, fleet: Path, alone: dict[str, bytes]
) -> None:
    command = [
        sys.executable, "-m", "porter", "fleet", "repos.toml", "-o", "out", "-j1",
        "--engine", "ray", "--address", cluster.address,
    ]  # fmt: skip
    process = subprocess.Popen(command, cwd=fleet, stderr=subprocess.PIPE, text=True)
    while len(list((fleet / "out/repos").glob("*.json"))) < 2 and process.poll() is None:
        time.sleep(0.05)
    process.kill()
    process.communicate()
    result = on(fleet, "out", jobs=2)
    assert sum(done.kept for done in result.done) >= 1
    assert written(fleet / "out") == alone


def test_a_unit_takes_no_longer_than_it_may(cluster: Any, tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    # Work for far longer, in one file, while every other step takes next to nothing.
    lines = "".join(f"def f{i}(x):\n    return x.cuda()\n" for i in range(20_000))
    (tmp_path / "a" / "slow.py").write_text(f"import torch\n{lines}")
    (tmp_path / "repos.toml").write_text('[[repo]]\npath = "a"\n')
    on(tmp_path, "out", engine="ray", address=cluster.address, limit=3.0)
    report = json.loads((tmp_path / "out/repos/a.json").read_bytes())
    assert report["files"][0]["reason"] == "took longer than 3 seconds (--timeout)"


def test_a_folder_that_a_machine_does_not_see_is_said(cluster: Any, tmp_path: Path) -> None:
    """A machine that has another file system: here, one on which the folder is gone again."""
    from porter.fleet import listing, ray, state, unit

    (tmp_path / "a").mkdir()
    (tmp_path / "repos.toml").write_text('[[repo]]\npath = "a"\n')
    (repo,) = listing.read(tmp_path / "repos.toml").repos
    (tmp_path / "a").rmdir()
    work = state.begun(tmp_path / "state")
    job = unit.Job(str(tmp_path / "state"), str(work), str(tmp_path), str(tmp_path), unit.code())
    engine = ray.Ray(cluster.address, 0)
    said = []
    for other in (
        job,
        unit.Job(**{**vars(job), "work": str(tmp_path / "gone")}),
    ):
        engine.start(unit.Unit(other, repo, 0, "whole"))
        said += [outcome.failed for _, outcome in engine.finished()]
    engine.close()
    assert f"does not see {tmp_path / 'a'}" in said[0]
    assert "does not see the state folder" in said[1]


def test_no_cluster_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "repos.toml").write_text('[[repo]]\npath = "."\n')
    clean = {key: value for key, value in os.environ.items() if key != "RAY_ADDRESS"}
    done = subprocess.run(
        [sys.executable, "-m", "porter", "fleet", "repos.toml", "--engine", "ray",
         "--address", "127.0.0.1:1"],
        cwd=tmp_path, env=clean, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 2
    assert done.stderr.splitlines()[-1].startswith("error: no Ray cluster at 127.0.0.1:1")
    assert "ray start --head" in done.stderr
