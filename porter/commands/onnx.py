"""`porter onnx`: check models by exporting them, find them, and look operators up."""

from __future__ import annotations

import json
import os
import re
import sys
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from porter.commands import running
from porter.commands.command import SETTINGS, Group, argument, command, option
from porter.commands.options import (
    PATH,
    Analysis,
    PageFormat,
    page_format,
    quiet,
    report_file,
    target,
)
from porter.commands.running import FINDINGS, OK, TROUBLE
from porter.problem import Mistake
from porter.targets import NAMES, TABLED

if TYPE_CHECKING:
    from porter.config import Settings
    from porter.onnx.spec import Model
    from porter.onnx.verdict import ModelCheck
    from porter.runner import Run

_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(?:i?B)?\Z", re.IGNORECASE)

onnx = Group(
    "onnx",
    help="Check models by ONNX: the same numbers before and after, and in the graph.",
    context_settings=SETTINGS,
    table={
        "check": (
            f"{__name__}:check_",
            "Compare a model with its original, export it, and compare the graph with it.",
        ),
        "capture": (
            f"{__name__}:capture_",
            "Run a program, and write tables for the models in it: `capture -- python train.py`.",
        ),
        "ops": (
            f"{__name__}:ops_",
            "Look up which operators of ONNX files the target's compiler takes.",
        ),
    },
)

_python = option("--python", metavar="PATH", default="", help="A Python that has torch and onnx.")


@command("check")
@argument(
    "models",
    nargs=-1,
    metavar="[MODEL...]",
    help="package.module:name or file.py:name (a function, class or module object), or "
    "names of tables in the configuration; all tables by default.",
)
@option(
    "--input",
    "inputs",
    multiple=True,
    metavar="SPEC",
    help='Such as "x=float32[batch,3,224,224]".',
)
@option("--vary", multiple=True, metavar="NAME=SIZES", help="Such as batch=2,5.")
@option("--opset", type=int, help="11 or later. Default: 18.")
@option("--weights", metavar="FILE", default="", help="A state dict to load.")
@option("--data", metavar="FILE", default="", help="Inputs that capture recorded.")
@option("--tolerance", type=float, help="Allowed error instead of the dtype's.")
@option(
    "--root",
    type=PATH,
    metavar="DIR",
    default=".",
    help="The folder that imports start from.",
)
@target()
@option(
    "--original",
    metavar="DIR|REV",
    default="",
    help="The code before its migration, if this tree is migrated already.",
)
@option("--no-original", is_flag=True, help="Check the graph only, against this code.")
@option(
    "--timeout",
    type=float,
    metavar="SECONDS",
    default=600.0,
    help="For each process; 0 for none.",
)
@option("--memory", metavar="SIZE", default="16G", help="For each process; 0 for no limit.")
@_python
@option("-o", "--output", "keep", type=PATH, metavar="DIR", help="Keep the graphs here.")
@report_file()
@option("--into", type=PATH, metavar="REPORT", help="Add the verdicts to a JSON report.")
@page_format
@quiet()
@option("-v", "--verbose", is_flag=True, help="Show what the models' processes print.")
def check_(
    models: tuple[str, ...],
    inputs: tuple[str, ...],
    vary: tuple[str, ...],
    opset: int | None,
    weights: str,
    data: str,
    tolerance: float | None,
    root: Path,
    target: str | None,
    original: str,
    no_original: bool,
    timeout: float,
    memory: str,
    python: str,
    keep: Path | None,
    report: Path | None,
    into: Path | None,
    output_format: PageFormat,
    quiet: bool,
    verbose: bool,
) -> int:
    """Compare a model with its original, export it, and compare the graph with it.

    The model's code is run, in processes of its own.
    """
    from porter import config
    from porter.onnx import check, show
    from porter.onnx.spec import DEFAULT_OPSET, Model, parse_input, parse_vary

    if original and no_original:
        raise Mistake("--original and --no-original exclude each other")
    if not root.is_dir():
        raise Mistake(f"--root {root}: no such folder")
    if target is not None and target not in NAMES:
        raise Mistake(f"--target cannot be {target!r} (known: {', '.join(NAMES)})")
    running.check_report(report)
    if into is not None:
        from porter import reading

        reading.load(into)
    given = Model(
        factory="",
        inputs=tuple(parse_input(text) for text in inputs),
        vary=tuple(parse_vary(text) for text in vary),
        opset=opset if opset is not None else DEFAULT_OPSET,
        weights=weights,
        data=data,
        tolerance=tolerance,
    )
    settings = config.load([root])
    chosen, tree = _chosen(models, given, settings, root, opset)
    _needed(python)
    run = None
    if report is not None or not (original or no_original):
        run = _migration(tree, target, quiet)
    # The compiler is that of one target; for others, what it takes is worth knowing, no more.
    gate = (target or settings.target) == TABLED
    options = check.Options(python, timeout, _bytes(memory), keep, gate=gate, echo=verbose)
    found: list[ModelCheck] = []
    with (
        running.stoppable(),
        check.prepared(tree, None if no_original or original else run, original) as (trees, same),
    ):
        for number, model in enumerate(chosen, 1):
            if not quiet:
                running.note(f"checking {model.title} ({number} of {len(chosen)})")
            found += check.check([model], trees, options, same=same)
    checks = [c.as_json() for c in found]
    if run is not None:
        running.write_report(replace(run, report=replace(run.report, checks=tuple(checks))), report)
    if into is not None:
        _add(into, checks)
    if output_format is PageFormat.JSON:
        print(json.dumps({"checks": checks}, indent=2))
    else:
        print(show.text(found), end="")
    return _code(found)


def _chosen(
    names: Sequence[str], given: Model, settings: Settings, root: Path, opset: int | None
) -> tuple[list[Model], Path]:
    """The models to check, and the folder of their code."""
    from porter.onnx.spec import checked

    factories = [name for name in names if ":" in name]
    if factories:
        if len(factories) < len(names):
            raise Mistake("name factories or tables, not both")
        own = (given.inputs, given.vary, given.weights, given.data)
        if len(factories) > 1 and any(own):
            raise Mistake(
                "--input, --vary, --weights and --data are for one model; write tables "
                "[[tool.porter.onnx]] for several"
            )
        return [checked(replace(given, factory=factory)) for factory in factories], root
    if given.inputs or given.vary or given.weights or given.data:
        raise Mistake("--input, --vary, --weights and --data go with package.module:factory")
    known = {model.title: model for model in settings.onnx}
    if not known:
        where = settings.source or f"{root}/pyproject.toml"
        raise Mistake(
            f"no model to check: name one, like package.module:factory, or write tables "
            f"[[tool.porter.onnx]] in {where} (`porter onnx capture` finds models)"
        )
    for name in names:
        if name not in known:
            raise Mistake(f"no model is called {name!r} (known: {', '.join(known)})")
    models = [known[name] for name in names or known]
    if opset is not None:
        models = [checked(replace(model, opset=opset)) for model in models]
    if given.tolerance is not None:
        models = [replace(model, tolerance=given.tolerance) for model in models]
    return models, settings.folder or root


def _needed(python: str) -> None:
    from porter.onnx import check

    if os.name != "posix":
        raise Mistake("models are checked on Linux and macOS only")
    missing = check.missing(python)
    if missing:
        where = f"in {python}" if python else "here"
        raise Mistake(f"not installed {where}: {', '.join(missing)}; {check.INSTALL}")


def _migration(tree: Path, target: str | None, quiet: bool) -> Run:
    return running.run(running.request(Analysis((tree,), target=target)), quiet)


def _bytes(text: str) -> int:
    match = _SIZE.match(text.strip())
    if match is None:
        raise Mistake(f"--memory cannot be {text!r}: write it like 8G, or 0 for no limit")
    return int(float(match[1]) * 1024 ** " KMGT".index(match[2].upper() or " "))


def _add(path: Path, checks: list[dict[str, object]]) -> None:
    from porter import reading
    from porter.rehearse import merge
    from porter.writing import write_atomic

    data = merge.added(reading.load(path), checks)
    write_atomic(path, (json.dumps(data, indent=2) + "\n").encode(), expected=None)


def _code(found: list[ModelCheck]) -> int:
    from porter.onnx.verdict import Verdict

    # An error in forward is something that was found out; one before it leaves nothing to check.
    asked = [c.trouble.kind for c in found if c.verdict is Verdict.NOT_RUN and c.trouble]
    if any(kind != "forward" for kind in asked):
        return TROUBLE
    return OK if all(check.passed for check in found) else FINDINGS


@command(
    "capture",
    # What follows the first word belongs to the program.
    context_settings={"allow_extra_args": True, "allow_interspersed_args": False},
    options_metavar="[OPTIONS] PROGRAM...",
)
@option("-m", "module", is_flag=True, help="The first word is a module.")
@option("--root", type=PATH, metavar="DIR", default=".", help="The folder of the models' code.")
@option("--write", is_flag=True, help="Add the tables to the configuration of the folder.")
@option(
    "--save",
    type=PATH,
    metavar="DIR",
    help="Keep real inputs and weights, and name them in the tables.",
)
@option("--on-cpu", is_flag=True, help="Let the CPU stand for a device that is not here.")
@option(
    "--timeout",
    type=float,
    metavar="SECONDS",
    default=600.0,
    help="End the program then; 0 never.",
)
@_python
@click.pass_context
def capture_(
    context: click.Context,
    module: bool,
    root: Path,
    write: bool,
    save: Path | None,
    on_cpu: bool,
    timeout: float,
    python: str,
) -> int:
    """Run a program, and write tables for the models in it: `capture -- python train.py`."""
    from porter.onnx import capture

    words = list(context.args)
    if "--" in words:
        words.remove("--")
    if not root.is_dir():
        raise Mistake(f"--root {root}: no such folder")
    if os.name != "posix":
        raise Mistake("models are captured on Linux and macOS only")
    options = capture.Options(python, module, timeout, on_cpu, save)
    with running.stoppable():
        found = capture.capture(words, root, options)
    for text in found.notes:
        running.note(text)
    models = [model for model in found.models if model.factory]
    if write:
        _write(root, models, found.factories)
    else:
        print(capture.text(found), end="")
    return OK if models else FINDINGS


def _write(root: Path, models: list[Model], factories: Mapping[str, str]) -> None:
    """Add tables and factories to the files of a folder, and tell of each."""
    from porter.onnx import tables

    if factories:
        path, added, there = tables.add_factories(root, factories)
        if added:
            running.note(f"{path}: {', '.join(added)} written")
        if there:
            running.note(f"{path}: {', '.join(there)} left as they are")
    path, added, there = tables.add(root, models)
    if added:
        running.note(f"{path}: tables for {', '.join(added)} written")
    if there:
        running.note(f"{path}: tables for {', '.join(there)} left as they are")


@command("ops")
@argument("files", nargs=-1, required=True, type=PATH, metavar="FILE...", help="ONNX files.")
@page_format
def ops_(files: tuple[Path, ...], output_format: PageFormat) -> int:
    """Look up which operators of ONNX files the target's compiler takes."""
    from porter.onnx import operators

    code, reports = OK, []
    for file in files:
        try:
            found = operators.examine(file)
        except operators.OnnxProblem as problem:
            print(f"error: {problem}", file=sys.stderr)
            code = TROUBLE
            continue
        reports.append(found)
        if code == OK and not found.clean:
            code = FINDINGS
    if output_format is PageFormat.JSON:
        print(json.dumps([found.to_json() for found in reports], indent=2))
    else:
        print("\n".join(operators.render_text(found) for found in reports), end="")
    return code
