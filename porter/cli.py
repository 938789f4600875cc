"""The command line: which commands there are, and what their failures look like.

The commands themselves are in porter.commands, and each is imported when it is called. Everything
heavy is imported within them, so that `porter --help` is quick.
"""

from __future__ import annotations

import errno
import os
import sys
from collections.abc import Sequence

import click

from porter import stopping
from porter.commands.command import SETTINGS, Group, Option
from porter.commands.running import FINDINGS, INTERRUPTED, OK, TROUBLE, Interrupted, error
from porter.problem import Problem

#: Where each command is, and the first line of its help.
COMMANDS = {
    "migrate": (
        "porter.commands.migrate:migrate",
        "Rewrite code in place, and say what is left for a person.",
    ),
    "check": (
        "porter.commands.check:check",
        "Print what migrate would rewrite and leave; write nothing.",
    ),
    "report": (
        "porter.commands.report:report_",
        "Show a report in another format, or compare two.",
    ),
    "rule": ("porter.commands.rules:rule_", "Explain a rule."),
    "rules": ("porter.commands.rules:rules_", "List all rules."),
    "rehearse": (
        "porter.commands.rehearse:rehearse_",
        "Run a command on a simulated device: `porter rehearse train.py --epochs 1`.",
    ),
    "fleet": (
        "porter.commands.fleet:fleet",
        "Look at many repositories, or a very large one, and write one dashboard.",
    ),
    "query": (
        "porter.commands.query:query_",
        "Say what the target offers for a name: status, equivalent, limits, source.",
    ),
    "clean": (
        "porter.commands.clean:clean",
        "Remove the cache: what earlier runs found out and kept for the next.",
    ),
    "onnx": (
        "porter.commands.onnx:onnx",
        "Check models by ONNX: the same numbers before and after, and in the graph.",
    ),
}


def start(arguments: Sequence[str] | None = None) -> int:
    """Run the command line with these arguments (default: the program's own).

    Returns:
        The exit code.
    """
    try:
        with stopping.raising():
            given = sys.argv[1:] if arguments is None else arguments
            code = program.main(args=_spelled(given), prog_name="porter", standalone_mode=False)
            sys.stdout.flush()
    except stopping.Stopped as stop:
        return _interrupted(stop.note, 128 + stop.number)
    except (Interrupted, KeyboardInterrupt):
        return _interrupted("", INTERRUPTED)
    except Exception as problem:
        if isinstance(problem, OSError) and problem.errno == errno.EPIPE:
            # The reader has gone (`| head`); keep Python from flushing into the closed pipe.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
            return FINDINGS
        text = _one_line(problem)
        if text is None and os.environ.get("PORTER_DEBUG"):
            raise
        return error(text or _internal(problem), TROUBLE)
    return code if isinstance(code, int) else OK


def _interrupted(note: str, code: int) -> int:
    with stopping.deferred() as more:
        error(f"interrupted; {note or 'no further file is changed'}", code)
        stopping.answer(code)
        more.number = 0  # it ends already
    return code


def _spelled(arguments: Sequence[str]) -> list[str]:
    """The arguments with the value that `--changed` has if it stands alone."""
    end = list(arguments).index("--") if "--" in arguments else len(arguments)
    options = [f"{a}=HEAD" if a == "--changed" else a for a in arguments[:end]]
    return [*options, *arguments[end:]]


def _one_line(problem: Exception) -> str | None:
    """What to tell the user about a mistake of theirs; None for a mistake of porter."""
    if isinstance(problem, click.ClickException):
        return " ".join(problem.format_message().split())
    if isinstance(problem, click.Abort):
        return "interrupted"
    if isinstance(problem, OSError) and problem.filename is not None:  # a name too long, say
        return f"{os.fsdecode(problem.filename)}: {problem.strerror}"
    return " ".join(str(problem).split()) if isinstance(problem, Problem) else None


def _internal(problem: Exception) -> str:
    what = " ".join(f"{type(problem).__name__}: {problem}".split())
    return f"internal error ({what}); please report it with what PORTER_DEBUG=1 shows"


def _version(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from porter import __version__

        print(f"porter {__version__}")
        context.exit(OK)


def _completion(context: click.Context, parameter: click.Parameter, wanted: bool) -> None:
    if wanted and not context.resilient_parsing:
        from porter.commands import completion

        if parameter.name == "show_completion":
            print(completion.script(program))
        else:
            print(completion.install(program))
        context.exit(OK)


def _asks(name: str, callback: object, help: str) -> Option:
    """An option that is answered at once."""
    return Option(
        [name], is_flag=True, is_eager=True, expose_value=False, callback=callback, help=help
    )


program = Group(
    "porter",
    help="Move device-bound PyTorch code to any accelerator, or to one other device.",
    table=COMMANDS,
    context_settings=SETTINGS,
    params=[
        _asks("--version", _version, "Print the version."),
        _asks("--install-completion", _completion, "Install completion for the current shell."),
        _asks(
            "--show-completion",
            _completion,
            "Show completion for the current shell, to copy it or customize the installation.",
        ),
    ],
)
