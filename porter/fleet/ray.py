"""Units as tasks of a Ray cluster that exists already.

Nothing is started here, and nothing but the units travels: repositories, list and output must lie
where every machine of the cluster sees them.
"""

from __future__ import annotations

import os
import socket
from typing import Any

from porter.fleet.unit import DIED, LATE, NODE, Outcome, Unit, overdue, perform
from porter.problem import Problem

#: How long a machine may take to answer.
CONNECT_SECONDS = 10
INSTALL = "pip install 'torch-porter[ray]'"


class RayProblem(Problem):
    """There is no Ray, or no cluster; the text names the remedy."""


class Ray:
    """The engine of a cluster."""

    def __init__(self, address: str, jobs: int) -> None:
        """Connect.

        Args:
            address: of the cluster; empty takes RAY_ADDRESS, or else the one of this machine.
            jobs: the most units at a time; 0 for as many as the cluster has CPUs.

        Raises:
            RayProblem: Ray is not installed, or there is no such cluster.
        """
        self._ray = _imported()
        self._jobs = jobs
        self._running: dict[Any, Unit] = {}
        # Within a program that is connected already, that connection is used.
        self._ours = not self._ray.is_initialized()
        if self._ours:
            self._connect(address or os.environ.get("RAY_ADDRESS") or "auto")
        # Ray does not retry: it would do so without end where memory is short
        # (https://docs.ray.io/en/latest/ray-core/scheduling/ray-oom-prevention.html), and
        # the run knows better what to do with a unit that was lost: it cuts it.
        self._task = self._ray.remote(num_cpus=1, max_retries=0)(perform)

    def _connect(self, address: str) -> None:
        try:
            _reach(address)
            self._ray.init(address=address, log_to_driver=False, logging_level="error")
        except Exception as problem:
            reason = " ".join(str(problem).split())
            raise RayProblem(
                f"no Ray cluster at {address}: {reason[:200]}; start one (ray start --head) or "
                "name its address (--address HOST:PORT)"
            ) from None

    def room(self) -> int:
        """How many more units it would start at once."""
        cpus = int(self._ray.cluster_resources().get("CPU", 0))
        return max(1, min(cpus, self._jobs or cpus)) - len(self._running)

    def start(self, unit: Unit) -> None:
        """Begin with a unit."""
        self._running[self._task.remote(unit)] = unit

    def finished(self) -> list[tuple[Unit, Outcome]]:
        """Wait until at least one unit has ended."""
        done, _ = self._ray.wait(list(self._running), num_returns=1)
        return [(unit, self._outcome(each, unit)) for each in done
                for unit in [self._running.pop(each)]]  # fmt: skip

    def _outcome(self, done: Any, unit: Unit) -> Outcome:
        errors = self._ray.exceptions
        try:
            outcome: Outcome = self._ray.get(done)
        except (errors.NodeDiedError, errors.ObjectLostError, errors.LocalRayletDiedError):
            return Outcome(lost=NODE)
        except (errors.WorkerCrashedError, errors.OutOfMemoryError):
            return Outcome(lost=LATE if overdue(unit) else DIED)
        except errors.RayTaskError as problem:  # before the unit began: porter is not there
            reason = str(problem.cause or problem).strip().splitlines()[-1]
            return Outcome(failed=f"a machine of the cluster cannot run porter: {reason}")
        except errors.RayError as problem:
            return Outcome(failed=" ".join(f"Ray: {problem}".split())[:300])
        return outcome

    def close(self) -> None:
        """End whatever still runs, and leave the cluster."""
        for each in self._running:
            self._ray.cancel(each, force=True)
        self._running.clear()
        if self._ours:
            self._ray.shutdown()


def _reach(address: str) -> None:
    """Fail at once where nobody listens: Ray would try for minutes.

    Raises:
        OSError: nobody does.
        ValueError: Ray would start a cluster of its own.
    """
    if address == "local":
        raise ValueError("porter starts none")
    host, _, port = address.rpartition(":")
    if host and port.isdecimal() and "://" not in address:
        socket.create_connection((host.strip("[]"), int(port)), CONNECT_SECONDS).close()


def _imported() -> Any:
    try:
        import ray
        import ray.exceptions
    except ImportError as problem:
        raise RayProblem(f"--engine ray needs Ray ({problem}): {INSTALL}") from None
    return ray
