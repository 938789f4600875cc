"""Notes every use of another accelerator: the machine has none, and code may go on without.

`torch.cuda.is_available()` answers False and a script then trains on the host: it ends well and
proves nothing. Only calls from the user's code and from libraries count, not those of torch.
"""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable
from typing import Any

import torch
from torch.optim.optimizer import register_optimizer_step_post_hook

from . import random
from .devices import NAME
from .record import INTERNAL, RECORD, caller_kind, site

#: Questions, so that the program takes another way. A machine that has the other accelerator
#: answers as one that has not: a rehearsal must not run on it.
QUESTIONS: dict[str, Any] = {"is_available": False, "device_count": 0}
#: Questions that torch answers itself.
CONSULTED = "is_initialized is_bf16_supported get_device_name".split()
#: Functions that do nothing without a device.
SILENT = (
    "empty_cache memory_allocated max_memory_allocated "
    "memory_reserved max_memory_reserved reset_peak_memory_stats ipc_collect get_rng_state_all "
    "set_rng_state_all seed seed_all memory_stats memory_summary"
).split()
#: They do nothing either; but `torch.manual_seed` seeds every accelerator.
SEEDING = ("manual_seed", "manual_seed_all")
FOREIGN = "cuda"
#: What the verdict shows for a question.
ANSWERED = "answered {!r}"
WITHOUT_EFFECT = "without effect"
#: What the verdict shows for a call that changes nothing, as the device has it already.
NEEDLESS = "needless: torch.manual_seed gave the device this seed"


def _noting(name: str, function: Callable[..., Any], outcome: str) -> Callable[..., Any]:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        owner = caller_kind()
        answer = function(*args, **kwargs)
        if owner != INTERNAL:
            RECORD.touch(name, outcome.format(answer), site(), owner)
        return answer

    return call


#: Calls that came before `torch.manual_seed`, by their seed.
_early: dict[int, list[tuple[str, str, int]]] = {}


def _seeding(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    """Tell a seed that the device has anyway from one that it does not get."""

    @functools.wraps(function)
    def call(seed: Any, *args: Any, **kwargs: Any) -> Any:
        owner = caller_kind()
        answer = function(seed, *args, **kwargs)
        if owner != INTERNAL:
            same = int(seed) == random.initial_seed()
            RECORD.touch(name, NEEDLESS if same else WITHOUT_EFFECT, site(), owner)
            if not same:
                _early.setdefault(int(seed), []).append((name, site(), owner))
        return answer

    return call


def _watch_seeds() -> None:
    original = torch.random._seed_custom_device

    def seed_custom_device(seed: Any) -> None:
        original(seed)
        for name, line, owner in _early.pop(int(seed), ()):
            RECORD.touch(name, WITHOUT_EFFECT, line, owner, times=-1)
            RECORD.touch(name, NEEDLESS, line, owner)

    torch.random._seed_custom_device = seed_custom_device


def _answering(function: Callable[..., Any], answer: Any) -> Callable[..., Any]:
    return functools.wraps(function)(lambda *_, **__: answer)


def install() -> None:
    """Watch torch's other accelerator, and what else ends well without having done anything."""
    foreign = torch.cuda
    for name, answer in QUESTIONS.items():
        setattr(foreign, name, _answering(getattr(foreign, name), answer))
    for names, outcome in (([*QUESTIONS, *CONSULTED], ANSWERED), (SILENT, WITHOUT_EFFECT)):
        for name in names:
            function = getattr(foreign, name, None)
            if function is not None:
                setattr(foreign, name, _noting(f"torch.{FOREIGN}.{name}", function, outcome))
    for name in SEEDING:
        setattr(foreign, name, _seeding(f"torch.{FOREIGN}.{name}", getattr(foreign, name)))
    _watch_seeds()
    _watch_initialisation(foreign)
    _watch_autocast()
    _watch_spawning()
    register_optimizer_step_post_hook(_stepped)


def _watch_spawning() -> None:
    """A program that starts a process for each device starts none where it counts none."""
    module = sys.modules["torch.multiprocessing.spawn"]
    original = module.start_processes

    @functools.wraps(original)
    def start_processes(fn: Any, args: Any = (), nprocs: int = 1, *more: Any, **kwargs: Any) -> Any:
        if nprocs < 1:
            RECORD.note("a function was spawned over no process at all", site(), doubt=True)
        return original(fn, args, nprocs, *more, **kwargs)

    module.start_processes = start_processes  # type: ignore[attr-defined]
    torch.multiprocessing.start_processes = start_processes


def _stepped(optimizer: Any, *_: object) -> None:
    """Training on the host only is the quiet way to prove nothing."""
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            where = "host" if parameter.is_cpu else "device"
            RECORD.note(f"an optimiser steps parameters on the {where}", site())
            return


def _watch_initialisation(foreign: Any) -> None:
    """Every real use of the device begins with this function, which raises."""
    lazy = foreign._lazy_init

    def _lazy_init() -> None:
        RECORD.touch(f"torch.{FOREIGN}", "failed", site())
        if not foreign._is_compiled():
            lazy()
        # In the words of a build with this accelerator on a machine that has none.
        raise RuntimeError(f"No {FOREIGN.upper()} GPUs are available")

    foreign._lazy_init = _lazy_init


def _elsewhere(device: Any) -> str:
    """What comes of autocast or a scaler for a device; empty if it is one of this machine."""
    kind = str(device).partition(":")[0]
    if kind == FOREIGN:
        return WITHOUT_EFFECT
    return "" if kind in ("cpu", "meta", NAME) else f"names a device other than {NAME}"


def _watch_autocast() -> None:
    """`autocast("cuda")` and its scaler switch themselves off without a device."""
    kinds = (torch.amp.autocast_mode.autocast, torch.amp.GradScaler)
    for kind, default in zip(kinds, ("", FOREIGN), strict=True):
        original = kind.__init__

        def init(
            self: Any,
            *args: Any,
            _original: Callable[..., Any] = original,
            _default: str = default,
            _kind: str = kind.__name__,
            **kwargs: Any,
        ) -> None:
            named = "device_type" if not _default else "device"
            device = args[0] if args else kwargs.get(named, _default)
            said = "" if not kwargs.get("enabled", True) else _elsewhere(device)
            if said:
                RECORD.touch(f"{_kind}({str(device)!r})", said, site())
            _original(self, *args, **kwargs)

        kind.__init__ = functools.wraps(original)(init)
