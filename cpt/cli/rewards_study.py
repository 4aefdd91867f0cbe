"""`cpt rewards study`: a recipe's arm under several rewards, as an ordinary run; then what each reward taught."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path


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
    """Run the study of a recipe, or go on where an earlier call stopped; then print its table.

    Args:
        arm: see `cpt.recipe.study.reward_study`.
        out: the run's folder; None for runs/<name of the study>.
        address, fresh: see `cpt.run.loop.run_recipe`.
        trust_rewards: see `cpt.recipe.load.load_recipe`.

    Returns:
        The process's exit code.

    Raises:
        ValueError: something in the recipe, or the folder, does not allow it.
    """
    from cpt.common.console import console
    from cpt.plan.make import make_plan
    from cpt.plan.preflight import preflight
    from cpt.recipe import load_recipe
    from cpt.recipe.study import reward_study
    from cpt.store.folder import default_folder

    study = reward_study(load_recipe(path, overrides, trust_rewards=trust_rewards), arm)
    folder = out or default_folder(study.name)
    make_plan(study)
    preflight(study, folder, address)
    from cpt.report.rewards.study_page import PAGE
    from cpt.report.rewards.study_terminal import print_study
    from cpt.run.loop import run_recipe

    screen = console()
    code = run_recipe(study, out=folder, address=address, fresh=fresh)
    print_study(folder, screen)
    screen.print(f"rewards: {folder / PAGE}", markup=False, highlight=False)
    return code
