"""`cpt plan`."""

from __future__ import annotations

from typing import Annotated

import typer

from cpt.cli.arguments import Arms, Overrides, RecipePath, TrustRewards
from cpt.cli.plan_table import print_plan
from cpt.common.console import console
from cpt.plan.make import make_plan
from cpt.plan.preflight import check_fit
from cpt.recipe import load_recipe
from cpt.run.rows import check_first_rows, run_reads
from cpt.store.folder import default_folder


def plan(
    recipe: RecipePath,
    overrides: Overrides = None,
    arm: Arms = None,
    resolved: Annotated[
        bool, typer.Option("--resolved", help="Print the recipe with every default filled in.")
    ] = False,
    trust_rewards: TrustRewards = False,
) -> None:
    """Show arms, stages, samples, steps, epochs and disk of a recipe. Starts nothing."""
    loaded = load_recipe(recipe, overrides or (), trust_rewards=trust_rewards)
    if resolved:
        typer.echo(loaded.dump_yaml(), nl=False)
        return
    planned = make_plan(loaded, arm)
    check_fit(planned)
    check_first_rows(run_reads(planned))
    print_plan(planned, console(), default_folder(loaded.name))
