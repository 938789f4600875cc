"""Memory statistics: what tensors of the device hold, to the block."""

from __future__ import annotations

from collections import OrderedDict
from typing import Any

from . import devices
from .tensors import MEMORIES, SEGMENT, Memory


def _of(device: Any) -> Memory:
    return MEMORIES[devices.index_of(device)]


def memory_allocated(device: Any = None) -> int:
    """Bytes that tensors hold now."""
    return _of(device).live


def max_memory_allocated(device: Any = None) -> int:
    """The most bytes that tensors have held."""
    memory = _of(device)
    return max(memory.peak, memory.live)


def memory_reserved(device: Any = None) -> int:
    """Bytes that the allocator has taken from the device."""
    return _of(device).reserved


def max_memory_reserved(device: Any = None) -> int:
    """The most bytes that the allocator has taken from the device."""
    memory = _of(device)
    return max(memory.peak_reserved, memory.reserved)


def reset_peak_memory_stats(device: Any = None) -> None:
    """Let the peaks start from what is held now."""
    memory = _of(device)
    memory.peak, memory.peak_reserved = memory.live, memory.reserved


def reset_accumulated_memory_stats(device: Any = None) -> None:
    """Let the counts of allocations start from none."""
    memory = _of(device)
    memory.allocations = memory.frees = 0


def empty_cache() -> None:
    """Give back what the allocator has taken and no tensor holds."""
    for memory in MEMORIES:
        memory.reserved = -(-memory.live // SEGMENT) * SEGMENT


def mem_get_info(device: Any = None) -> tuple[int, int]:
    """Free and total bytes of a device."""
    memory = _of(device)
    return memory.limit - memory.reserved, memory.limit


def memory_stats(device: Any = None) -> OrderedDict[str, int]:
    """The statistics by name, as torch names them."""
    memory = _of(device)
    live, peak = memory.live, max(memory.peak, memory.live)
    rows: dict[str, tuple[int, int]] = {
        "allocated_bytes": (live, peak),
        "active_bytes": (live, peak),
        "reserved_bytes": (memory.reserved, max(memory.peak_reserved, memory.reserved)),
        "requested_bytes": (live, peak),
        "allocation": (memory.allocations - memory.frees, memory.allocations),
    }
    found: OrderedDict[str, int] = OrderedDict()
    for name, (current, most) in rows.items():
        found[f"{name}.all.current"] = current
        found[f"{name}.all.peak"] = most
        found[f"{name}.all.allocated"] = most
        found[f"{name}.all.freed"] = most - current
    found.update({"num_alloc_retries": 0, "num_ooms": 0, "max_split_size": -1})
    return found


def memory_summary(device: Any = None, abbreviated: bool = False) -> str:
    """The statistics as a text."""
    rows = [f"{name:32} {value:>16}" for name, value in memory_stats(device).items()]
    return "\n".join([f"memory of {devices.NAME}:{devices.index_of(device)}", *rows])


def memory_snapshot(*_: object, **__: object) -> list[dict[str, Any]]:
    """What the allocator holds, by segment; the simulation has no segments."""
    return []


def peaks() -> dict[str, dict[str, int]]:
    """For each device that was used, its peak and what is still held."""
    return {
        f"{devices.NAME}:{i}": {"peak": max(m.peak, m.live), "held": m.live}
        for i, m in enumerate(MEMORIES)
        if m.allocations
    }
