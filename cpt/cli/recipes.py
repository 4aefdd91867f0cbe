"""`cpt recipes`."""

from __future__ import annotations

from typing import Annotated

import typer

from cpt.recipe.shipped_recipes import headline, shipped, text_of


def recipes(
    name: Annotated[str | None, typer.Argument(metavar="NAME", help="Print this one, to start your own from.")] = None,
) -> None:
    """List the recipes that come with cpt. Their names stand for their files in every command."""
    if name is not None:
        typer.echo(text_of(name), nl=False)
        return
    for one, path in shipped().items():
        typer.echo(f"{one:16} {headline(path)}")
