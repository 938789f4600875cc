"""`python -m porter`, and the `porter` command."""

from __future__ import annotations

import contextlib
import sys


def main() -> None:
    """Run the command line and exit with its code."""
    for stream in (sys.stdout, sys.stderr):
        # A path may hold bytes that the terminal's encoding lacks; showing it must not fail.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    from porter.cli import start

    sys.exit(start())


if __name__ == "__main__":
    main()
