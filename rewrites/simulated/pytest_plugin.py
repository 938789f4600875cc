"""Keeps the errors of tests: pytest catches them, so the process never sees them end it."""

from __future__ import annotations

from typing import Any

from .record import RECORD


def pytest_exception_interact(node: Any, call: Any, report: Any) -> None:
    """Called by pytest for each error that is not a skip."""
    info = call.excinfo
    if info is not None and report.failed:
        RECORD.fail(info.value, info.value.__traceback__, getattr(node, "nodeid", str(node)))
