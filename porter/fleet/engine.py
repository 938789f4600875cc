"""What an engine is: whatever runs units."""

from __future__ import annotations

from typing import Protocol

from porter.fleet.unit import Outcome, Unit


class Engine(Protocol):
    """Runs units, several at a time, in any order."""

    def room(self) -> int:
        """How many more units it would start at once."""

    def start(self, unit: Unit) -> None:
        """Begin with a unit; returns at once."""

    def finished(self) -> list[tuple[Unit, Outcome]]:
        """Wait until at least one unit has ended; returns those that have."""

    def close(self) -> None:
        """End whatever still runs."""
