"""`cpt rewards study`: runs a recipe's arm under several rewards and prints their comparison."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated

import typer

from cpt.cli.arguments import Address, Fresh, Overrides, TrustRewards
from cpt.common import terminal
from cpt.common.console import console
from cpt.plan.make import make_plan
from cpt.plan.preflight import preflight
from cpt.recipe import load_recipe
from cpt.recipe.study import reward_study
from cpt.report.rewards.page import PAGE
from cpt.report.rewards.terminal_table import print_study
from cpt.store.folder import default_folder


def study(
    recipe: Annotated[Path, typer.Argument(metavar="RECIPE", help="A recipe, such as recipes/reward_study.yaml.")],
    overrides: Overrides = None,
    arm: Annotated[
        str | None, typer.Option(help="The arm to run under every reward set. Default: the only one with a reward.")
    ] = None,
    out: Annotated[Path | None, typer.Option(help="Run folder. Default: runs/<name of the study>.")] = None,
    address: Address = None,
    fresh: Fresh = False,
    trust_rewards: TrustRewards = False,
) -> None:
    """Run one arm of a recipe under each of its `reward_sets:`, and compare reward and accuracy.

    Without `reward_sets:`, the usual ones are compared. The same command again goes on where it stopped.
    """
    terminal.ctrl_c.line = terminal.GOES_ON
    raise typer.Exit(
        run_study(recipe, overrides or (), arm=arm, out=out, address=address, fresh=fresh, trust_rewards=trust_rewards)
    )


def run_study(
    path: Path,
    overrides: Sequence[str] = (),
    *,
    arm: str | None = None,
    out: Path | None = None,
    address: str | None = None,
    fresh: bool = False,
    trust_rewards: bool = False,
) -> int:
    """Run the study of a recipe, or continue it; then print its table.

    Args:
        arm: see `cpt.recipe.study.reward_study`.
        out: the run's folder; None for runs/<name of the study>.
        address, fresh: see `cpt.run.loop.run_recipe`.
        trust_rewards: see `cpt.recipe.load.load_recipe`.

    Returns:
        The process's exit code.

    Raises:
        ValueError: the recipe or the folder does not allow it.
    """

    study = reward_study(load_recipe(path, overrides, trust_rewards=trust_rewards), arm)
    folder = out or default_folder(study.name)
    make_plan(study)
    preflight(study, folder, address)
    from cpt.run.loop import run_recipe

    screen = console()
    code = run_recipe(study, out=folder, address=address, fresh=fresh)
    print_study(folder, screen)
    screen.print(f"rewards: {folder / PAGE}", markup=False, highlight=False)
    return code
