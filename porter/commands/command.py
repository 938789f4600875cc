"""What the commands are made of: click's classes, with help in sections and late imports."""

from __future__ import annotations

import functools
import importlib
import inspect
import sys
from collections.abc import Callable, Mapping
from dataclasses import fields
from enum import Enum
from typing import TYPE_CHECKING, Any, TypeVar

import click

Function = Callable[..., Any]
Decorator = Callable[[Function], Function]
Kind = TypeVar("Kind", bound=Enum)

if TYPE_CHECKING:
    _Choice = click.Choice[str]
else:
    _Choice = click.Choice

#: Settings of every command.
SETTINGS: dict[str, Any] = {
    "help_option_names": ["-h", "--help"],
    "max_content_width": 100,
    "show_default": True,
}
#: The section of arguments, and that of options that name no other.
ARGUMENTS, OPTIONS = "Arguments", "Options"
#: The exit code of a command line that asks for nothing.
_USAGE = 2


class Option(click.Option):
    """An option; `section` is the part of the help that it stands in."""

    def __init__(self, *args: Any, section: str = OPTIONS, **attributes: Any) -> None:
        """Keep the section; an empty default goes without saying."""
        if attributes.get("default") == "":
            attributes.setdefault("show_default", False)
        super().__init__(*args, **attributes)
        self.section = section


class Argument(click.Argument):
    """An argument with a help text, which older releases of click have none for."""

    def __init__(self, *args: Any, help: str = "", **attributes: Any) -> None:
        """Keep the help text."""
        super().__init__(*args, **attributes)
        self.help = help


class Choices(_Choice):
    """One of the values of an enumeration; the command gets the member."""

    def __init__(self, kind: type[Enum]) -> None:
        """Offer the values of `kind`."""
        super().__init__([str(member.value) for member in kind])
        self._kind = kind

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The member of that value."""
        text = value.value if isinstance(value, Enum) else value
        return self._kind(super().convert(text, param, ctx))


class Command(click.Command):
    """A command whose help shows arguments first, then options by section."""

    def format_arguments(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Nothing: `format_options` writes them, whatever the release of click."""

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write one list for each section."""
        for title, rows in sections(self, ctx).items():
            if rows:
                with formatter.section(title):
                    formatter.write_dl(rows, col_max=28)


def sections(command: click.Command, ctx: click.Context) -> dict[str, list[tuple[str, str]]]:
    """Spelling and help of all parameters of a command, by section."""
    found: dict[str, list[tuple[str, str]]] = {ARGUMENTS: [], OPTIONS: []}
    for parameter in command.get_params(ctx):
        if isinstance(parameter, Argument):
            found[ARGUMENTS].append((parameter.human_readable_name, parameter.help or ""))
            continue
        record = parameter.get_help_record(ctx)
        if record is not None:
            found.setdefault(getattr(parameter, "section", OPTIONS), []).append(record)
    return found


class Group(click.Group):
    """Commands of which each is imported when it is called.

    Args:
        table: for each command its place ("module:name") and the first line of its help, so that
            the help of the group needs no import.
    """

    def __init__(self, *args: Any, table: Mapping[str, tuple[str, str]], **attributes: Any) -> None:
        """Keep the table."""
        super().__init__(*args, **attributes)
        self._table = table

    def list_commands(self, ctx: click.Context) -> list[str]:
        """The names, in the order of the table."""
        return list(self._table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """The command of that name, imported now; None if there is none."""
        if cmd_name not in self._table:
            return None
        module, _, name = self._table[cmd_name][0].partition(":")
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that the arguments name; for a name that is none, what may be meant."""
        name = args[0]
        if name not in self._table and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            close = difflib.get_close_matches(name, self._table, n=1)
            meant = f" Did you mean {close[0]!r}?" if close else ""
            ctx.fail(f"No such command {name!r}.{meant}")
        return super().resolve_command(ctx, args)

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Show the help, as a mistake, where no command is named."""
        if not args and not ctx.resilient_parsing:
            print(ctx.get_help(), file=sys.stderr)
            ctx.exit(_USAGE)
        return super().parse_args(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what the table says of each command."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, said) for name, (_, said) in self._table.items()])


def command(name: str, **attributes: Any) -> Callable[[Function], Command]:
    """Make a command of a function; its docstring is the help.

    Args:
        name: what it is called by.
        attributes: as `click.Command` takes them; `context_settings` adds to those of all.
    """
    settings = {**SETTINGS, **attributes.pop("context_settings", {})}

    def decorate(function: Function) -> Command:
        parameters = getattr(function, "__click_params__", [])
        return Command(
            name,
            callback=function,
            params=list(reversed(parameters)),
            help=inspect.cleandoc(function.__doc__ or ""),
            context_settings=settings,
            **attributes,
        )

    return decorate


def option(*names: str, **attributes: Any) -> Decorator:
    """An option of a command, as `click.option` takes it, and its `section`."""
    return click.option(*names, cls=Option, **attributes)


def argument(name: str, **attributes: Any) -> Decorator:
    """An argument of a command, as `click.argument` takes it, and its `help`."""
    return click.argument(name, cls=Argument, **attributes)


def gathered(name: str, kind: type[Any], *parameters: Decorator) -> Decorator:
    """Add parameters to a command, which gets their values in one object.

    Args:
        name: the keyword argument of the command that takes the object.
        kind: its class, a dataclass with one field for each parameter.
        parameters: made by `option` and `argument`, in the order of the help.
    """
    names = [field.name for field in fields(kind)]

    def decorate(function: Function) -> Function:
        @functools.wraps(function)
        def call(*args: Any, **values: Any) -> Any:
            mine = {each: values.pop(each) for each in names}
            return function(*args, **values, **{name: kind(**mine)})

        for add in reversed(parameters):
            add(call)
        return call

    return decorate
