"""Groups of commands, each in a module of its own that is imported when the command is called.

The help of a group lists its commands from a table, and imports none of them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from typing import Any

import typer
from typer.core import TyperGroup

from cpt.common import terminal


@dataclass(frozen=True)
class Command:
    """A command that is not imported yet.

    Attributes:
        place: `module:name` below `cpt.cli`; the name is that of a function, or of what `group` made.
        about: its line in the help of the group.
    """

    place: str
    about: str

    def load(self) -> Any:
        """Import it."""
        module, _, name = self.place.partition(":")
        found = getattr(import_module(f"cpt.cli.{module}"), name)
        if isinstance(found, typer.Typer):
            return typer.main.get_group(found)
        alone = typer.Typer(add_completion=False, rich_markup_mode=None)
        alone.command()(found)
        return typer.main.get_command(alone)


class Group(TyperGroup):
    """Commands that are imported when they are called. Ctrl-C ends each with one line and exit code 130."""

    table: Mapping[str, Command]
    default: str | None = None

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:
        """See `click.Group.parse_args`. Without a command, the default one is meant."""
        return super().parse_args(ctx, args or [self.default] if self.default else args)

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands: Any = dict.fromkeys(self.table)  # only the names are read

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """See `click.Group.get_command`."""
        return self.table[cmd_name].load() if cmd_name in self.table else None

    def format_commands(self, ctx: Any, formatter: Any) -> None:
        """See `click.Group.format_commands`."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.about) for name, command in self.table.items()])

    def invoke(self, ctx: Any) -> Any:
        """See `click.Group.invoke`."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            terminal.ctrl_c.tell()
            raise typer.Exit(terminal.INTERRUPTED) from None


def group(about: str, table: Mapping[str, Command], default: str | None = None) -> typer.Typer:
    """A group of the commands in `table`, by their names on the command line.

    Args:
        default: the command that is meant where none is named; None shows the help.
    """
    return typer.Typer(
        cls=type("Commands", (Group,), {"table": table, "default": default}),
        help=about,
        no_args_is_help=True,
        add_completion=False,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
    )
