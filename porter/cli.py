"""The command line: which commands there are, and what their failures look like.

The commands themselves are in porter.commands. Everything heavy is imported within them, so that
`porter --help` is quick.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence
from typing import Annotated

import typer

from porter.commands import check, clean, migrate, onnx, query, rehearse, report, rules
from porter.commands.running import FINDINGS, INTERRUPTED, OK, TROUBLE, Interrupted, error
from porter.problem import Problem

app = typer.Typer(
    name="porter",
    help="Move device-bound PyTorch code to any accelerator, or to one other device.",
    pretty_exceptions_enable=False,
    rich_markup_mode="rich",
    context_settings={"help_option_names": ["-h", "--help"]},
)


def start(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments (default: the program's own).

    Returns:
        The exit code.
    """
    try:
        given = sys.argv[1:] if arguments is None else arguments
        code = app(args=_spelled(given), prog_name="porter", standalone_mode=False)
        sys.stdout.flush()
    except (Interrupted, KeyboardInterrupt):
        return error("interrupted; no further file is changed", INTERRUPTED)
    except OSError as problem:
        if problem.errno != errno.EPIPE:
            raise
        # The reader has gone (`| head`); keep Python from flushing into the closed pipe.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return FINDINGS
    except Exception as problem:
        text = _one_line(problem)
        if text is None and os.environ.get("PORTER_DEBUG"):
            raise
        return error(text or _internal(problem), TROUBLE)
    return code if isinstance(code, int) else OK


def _spelled(arguments: Sequence[str]) -> list[str]:
    """The arguments with the value that `--changed` has if it stands alone."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    options = [f"{a}=HEAD" if a == "--changed" else a for a in arguments[:end]]
    return [*options, *arguments[end:]]


def _one_line(problem: Exception) -> str | None:
    """What to tell the user about a mistake of theirs; None for a mistake of porter."""
    if hasattr(problem, "format_message"):  # raised by the option parser
        return str(problem.format_message()).replace("\n", " ")
    if type(problem).__name__ == "Abort":
        return "interrupted"
    return " ".join(str(problem).split()) if isinstance(problem, Problem) else None


def _internal(problem: Exception) -> str:
    what = " ".join(f"{type(problem).__name__}: {problem}".split())
    return f"internal error ({what}); please report it with what PORTER_DEBUG=1 shows"


@app.callback(invoke_without_command=True)
def _program(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
) -> int:
    if version:
        from porter import __version__

        print(f"porter {__version__}")
        raise typer.Exit(OK)
    if context.invoked_subcommand is None:
        print(context.get_help(), file=sys.stderr)
        raise typer.Exit(TROUBLE)
    return OK


app.command("migrate")(migrate.migrate)
app.command("check")(check.check)
app.command("report")(report.report_)
app.command("rule")(rules.rule_)
app.command("rules")(rules.rules_)
app.command(
    "rehearse",
    # What follows the first word belongs to the command that is rehearsed.
    context_settings={"allow_extra_args": True, "allow_interspersed_args": False},
)(rehearse.rehearse_)
app.add_typer(onnx.app)
app.command("query")(query.query_)
app.command("clean")(clean.clean)
