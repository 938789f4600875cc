"""A run over a list: from the options to the dashboard on disk."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from porter.fleet import dashboard, listing, page, state
from porter.fleet.drive import Done, Progress, drive
from porter.fleet.engine import Engine
from porter.fleet.listing import Fleet
from porter.fleet.unit import Job, code
from porter.output import encodable
from porter.problem import Problem
from porter.writing import write_atomic

JSON, HTML = "fleet.json", "fleet.html"


class OutputProblem(Problem):
    """The dashboard cannot be written; the text is one line."""


@dataclass(frozen=True)
class Options:
    """What to do with a list.

    Args:
        source: the list.
        output: folder of the dashboard.
        state: folder of what is kept; None puts it into the output.
        engine: "local" or "ray".
        jobs: the most units at a time; 0 chooses.
        address: of a Ray cluster.
        fresh: use nothing that earlier runs kept.
        limit: seconds that a unit may take; 0 for any.
        target: overrules that of all repositories.
    """

    source: Path
    output: Path
    state: Path | None = None
    engine: str = "local"
    jobs: int = 0
    address: str = ""
    fresh: bool = False
    limit: float = 0.0
    target: str = ""


@dataclass(frozen=True)
class Result:
    """The dashboard, and what became of each repository."""

    data: Mapping[str, Any]
    done: Sequence[Done]


def run(options: Options, progress: Progress) -> Result:
    """Look at all repositories of a list, and write the dashboard.

    Raises:
        ListProblem: the list is malformed.
        OutputProblem: a folder cannot be written.
        RayProblem: there is no Ray cluster.
    """
    output = options.output.absolute()
    kept = (options.state or options.output / "state").absolute()
    fleet = listing.read(options.source, options.target, (output, kept))
    try:
        output.mkdir(parents=True, exist_ok=True)
    except OSError as problem:
        raise OutputProblem(f"{options.output}: cannot be written: {problem.strerror}") from None
    engine = _engine(options)
    try:
        work = state.begun(kept)
        try:
            job = Job(str(kept), str(work), str(output), fleet.folder, code(),
                      options.fresh, options.limit)  # fmt: skip
            done = drive(fleet, job, engine, progress)
            data = dashboard.build(fleet, done)
        finally:
            engine.close()
            state.ended(kept, work)
    finally:
        engine.close()
    _tidy(output, fleet, done)
    text = json.dumps(data, indent=2, ensure_ascii=True) + "\n"
    write_atomic(output / JSON, text.encode(), expected=None)
    write_atomic(output / HTML, encodable(page.render(data)).encode(), expected=None)
    return Result(data, done)


def _engine(options: Options) -> Engine:
    if options.engine == "ray":
        from porter.fleet.ray import Ray

        return Ray(options.address, options.jobs)
    from porter.fleet.local import Local
    from porter.pool import processes

    return Local(processes(options.jobs, 1, 0))


def _tidy(output: Path, fleet: Fleet, done: Sequence[Done]) -> None:
    """Remove reports of an earlier run that this one does not stand for."""
    gone = {repo.name for repo, each in zip(fleet.repos, done, strict=True) if each.failed}
    with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
        before = json.loads((output / JSON).read_bytes())
        gone |= {row["name"] for row in before["repos"]} - {repo.name for repo in fleet.repos}
    for name in gone:
        if ".." in Path(name).parts or Path(name).is_absolute():
            continue
        for suffix in (".json", ".html"):
            with contextlib.suppress(OSError):
                (output / "repos" / f"{name}{suffix}").unlink()
