"""`cpt run`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cpt.cli.arguments import Address, Arms, Fresh, Overrides, RecipePath, TrustRewards
from cpt.common import terminal
from cpt.plan.make import make_plan
from cpt.plan.preflight import preflight
from cpt.recipe import load_recipe
from cpt.store.folder import default_folder


def run(
    recipe: RecipePath,
    overrides: Overrides = None,
    arm: Arms = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/<name of the recipe>.")] = None,
    address: Address = None,
    fresh: Fresh = False,
    trust_rewards: TrustRewards = False,
) -> None:
    """Run a recipe, or go on where the same command stopped."""
    loaded = load_recipe(recipe, overrides or (), trust_rewards=trust_rewards)
    folder = out or default_folder(loaded.name)
    make_plan(loaded, arm)  # an unknown --arm is an error before the folder is touched
    preflight(loaded, folder, address)
    from cpt.run.loop import run_recipe

    terminal.ctrl_c.line = terminal.GOES_ON
    raise typer.Exit(run_recipe(loaded, out=folder, arms=arm, address=address, fresh=fresh))
