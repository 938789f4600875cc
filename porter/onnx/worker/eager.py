"""Runs a model as it is, and says whether its outputs can be compared at all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from . import build, outputs
from .inputs import Case
from .record import Record, Stop

#: Bytes of the outputs of inner modules that are kept.
INNER_BYTES = 64 << 20


def forward(model: Any, case: Case, seed: int = build.SEED) -> Any:
    """The output of one call, with all generators at a given state."""
    import torch

    build.seed(seed)
    arguments, options = case.fresh()
    with torch.no_grad():
        return model(*arguments, **options)


def run(model: Any, cases: Sequence[Case], record: Record) -> list[dict[str, Any]]:
    """The tensors of the outputs for each case.

    Raises:
        Stop: `forward` gives no tensor.
    """
    rows = []
    for case in cases:
        sizes = ", ".join(f"{n}={size}" for n, size in case.sizes.items())
        record.put(step=f"forward with {sizes}" if sizes else "forward")
        found, others = outputs.flat(forward(model, case))
        if not found:
            raise Stop("forward", "forward gives no tensor, so there is nothing to compare")
        if others:
            record.note(f"not compared, for they are no tensors: {', '.join(others[:6])}")
        rows.append(found)
    return rows


def unstable(model: Any, case: Case) -> str:
    """Why two calls with the same input differ; empty if they do not."""
    first = outputs.flat(forward(model, case))[0]
    again = outputs.flat(forward(model, case))[0]
    if not outputs.compare(first, again, 0.0)["ok"]:
        return "state"
    other = outputs.flat(forward(model, case, build.SEED + 1))[0]
    return "" if outputs.compare(first, other, 0.0)["ok"] else "random"


def save(
    path: Path,
    state: dict[str, Any],
    rows: list[dict[str, Any]],
    inner: dict[str, dict[str, Any]],
) -> None:
    """Write what the other version is compared with."""
    import torch

    torch.save({"state": state, "outputs": rows, "inner": inner}, path)


def within(model: Any, case: Case) -> dict[str, dict[str, Any]]:
    """The outputs of the modules within a model at their first calls, in the order they end.

    Large ones end the list, so that a big model does not fill the disk.
    """
    found: dict[str, dict[str, Any]] = {}
    kept = 0

    def keep(name: str, output: Any) -> None:
        nonlocal kept
        if name in found or kept > INNER_BYTES:
            return
        found[name] = outputs.flat(output)[0]
        kept += sum(t.numel() * t.element_size() for t in found[name].values())

    hooks = [
        module.register_forward_hook(lambda m, a, output, name=name: keep(name, output))
        for name, module in model.named_modules()
        if name
    ]
    try:
        forward(model, case)
    finally:
        for hook in hooks:
            hook.remove()
    return found


def _first_module(model: Any, case: Case, saved: dict[str, Any], tolerance: float) -> str:
    """Which module within is the first to give other numbers; empty if none is known."""
    mine = within(model, case)
    for name, expected in saved.items():
        if name in mine and not outputs.compare(expected, mine[name], tolerance)["ok"]:
            return f" (the first module within that gives others is {name})"
    return "; the modules within give the same" if saved else ""


def against(path: Path, model: Any, cases: Sequence[Case], record: Record) -> dict[str, Any]:
    """Compare with the original: the weights that it drew, then its outputs.

    Args:
        path: what the original's process wrote.
        model: of the migrated code; it gets the original's weights.
        cases: the same inputs.
        record: for remarks.

    Returns:
        `status` (identical, equal or differs), `error`, `reason`.
    """
    import torch

    saved = torch.load(path, map_location="cpu", weights_only=True)
    state, mine = saved["state"], build.tensors(model)
    if list(state) != list(mine):
        only = sorted(set(state) ^ set(mine))
        reason = f"other weights: {', '.join(only[:6])}" if only else "weights in another order"
        return {"status": "differs", "error": None, "reason": reason}
    drawn = outputs.compare(state, mine, 0.0)
    if not drawn["ok"]:
        try:
            model.load_state_dict(state, strict=False)
        except RuntimeError as error:
            said = " ".join(str(error).split())[:300]
            return {"status": "differs", "error": None, "reason": said}
        record.note(
            f"the same seed draws other weights ({drawn['where']}); the original's are used"
        )
    tolerance = outputs.EAGER[outputs.precision(model, *(c.arguments for c in cases))]
    worst: dict[str, Any] = {"status": "identical", "error": 0.0, "reason": ""}
    for expected, actual in zip(saved["outputs"], run(model, cases, record), strict=True):
        found = outputs.compare(expected, actual, tolerance)
        if not found["ok"]:
            where = f"{found['where']}: " if found["where"] else ""
            first = _first_module(model, cases[0], saved["inner"], tolerance)
            reason = f"{where}{found['reason']}{first}"
            return {"status": "differs", "error": found["error"], "reason": reason}
        if not found["identical"]:
            worst["status"] = "equal"
            worst["error"] = max(worst["error"], found["error"])
    return worst
