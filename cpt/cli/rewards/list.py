"""`cpt rewards list`."""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.padding import Padding

from cpt.cli.rewards.cells import new_table, plain
from cpt.common.console import console
from rewards import registry
from rewards.registry import Entry


def list_rewards(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Show this one in full.")] = None,
) -> None:
    """List the rewards with formula, parameters and source."""

    if name is None:
        print_list([registry.get(one) for one in registry.names()], console())
    else:
        print_entry(registry.get(name), console())


def print_list(entries: Iterable[Entry], out: Console) -> None:
    """Print every reward in a few lines: name, family, parameters, summary, formula, source."""

    for entry in entries:
        title = plain(entry.name, "bold")
        title.append(f"  {entry.family}  {parameters(entry)}", "not bold")
        out.print(title, highlight=False)
        for line in (entry.summary, f"value   {entry.formula}", f"source  {entry.source}"):
            out.print(Padding(plain(line), (0, 0, 0, 4)))
        out.print()


def print_entry(entry: Entry, out: Console) -> None:
    """Print one reward in full."""
    fields = {
        "family": entry.family,
        "formula": entry.formula,
        "columns": ", ".join(entry.required) or "none",
        "parameters": parameters(entry) or "none",
        "source": entry.source,
        "limits": entry.limits or "none stated",
    }
    out.print(plain(f"{entry.name}: {entry.summary}", "bold"), soft_wrap=True)
    table = new_table("", "", header=False)
    for name, text in fields.items():
        table.add_row(plain(name), plain(text))
    out.print(table)


def parameters(entry: Entry) -> str:
    """A reward's parameters with their defaults, as in `read=strict`."""
    shown = {name: _value(parameter.default) for name, parameter in entry.parameters.items()}
    return ", ".join(f"{name}={value}" for name, value in shown.items())


def _value(default: Any) -> str:
    if default is inspect.Parameter.empty:
        return "…"
    return default if isinstance(default, str) and default else repr(default)
