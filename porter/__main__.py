"""`python -m porter`, and the `porter` command."""

# Nothing else may be imported before the current folder is off Python's path.
import sys

from porter import isolate


def main() -> None:
    """Run the command line and exit with its code."""
    isolate.from_projects(sys.argv[1:])
    import contextlib
    import gc

    # Starting makes many objects, all of which stay: to look for unused ones among them costs a
    # twentieth of a run that finds nothing.
    gc.set_threshold(50_000)

    for stream in (sys.stdout, sys.stderr):
        # A path may hold bytes that the terminal's encoding lacks; showing it must not fail.
        with contextlib.suppress(AttributeError):
            stream.reconfigure(errors="backslashreplace")  # type: ignore[union-attr]
    from porter import stopping

    code = None
    try:
        with stopping.raising():
            from porter.cli import start

            code = start()
            stopping.ignored()
    except (stopping.Stopped, KeyboardInterrupt) as stop:
        # A second signal may come when the first one has been answered, or the work is done.
        code = stopping.answered() if code is None else code
        if code is None:
            print("error: interrupted; no file was changed", file=sys.stderr)
            code = 128 + getattr(stop, "number", 2)
    stopping.ignored()
    sys.exit(code)


if __name__ == "__main__":
    main()
