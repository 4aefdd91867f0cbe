"""Every arm of every recipe for the built-in world trains: two steps of a stage, and of the next where it remembers.

Not those of real_pictures, whose data are not here: they are quickstart's, and test_open_tasks trains on such data.
"""

from __future__ import annotations

from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import yaml
from stages import kept_by_filter, rows

from cpt.plan.make import make_plan
from cpt.plan.stages import StagePlan
from cpt.recipe import load_recipe
from cpt.recipe.task_files import shipped_task_files
from cpt.rollout.local import LocalPool
from cpt.store.folder import StageDir
from cpt.store.results import write_trained
from cpt.train.stage import train_stage

pytestmark = pytest.mark.smoke
RECIPES = Path(__file__).resolve().parents[2] / "recipes"
# What makes a recipe small and leaves its methods as they are.
SMALL = ["evaluation.samples=4", "drift.samples=0"]  # drift is measured alike for all arms (test_evaluator_drift)
SAMPLES = 16


def arms() -> list[tuple[str, str]]:
    """Recipe and arm; of a sweep its first point."""
    found = []
    task_files = {RECIPES / f"{name}.yaml" for name in shipped_task_files()}
    for path in sorted({*RECIPES.rglob("*.yaml")} - task_files - {RECIPES / "real_pictures.yaml"}):
        recipe = yaml.safe_load(path.read_text())
        assert str(recipe["model"]["name_or_path"]).startswith("builtin/"), "recipes for GPUs need a mark of their own"
        found += [(str(path.relative_to(RECIPES)), arm) for arm in recipe["arms"]]
    return found


@pytest.fixture(scope="module")
def base(shipped: Path, trainers: None) -> Path:
    return shipped


@cache
def planned(recipe: str) -> dict[str, list[StagePlan]]:
    """The first seed's stages by arm."""
    plan = make_plan(load_recipe(RECIPES / recipe, SMALL))
    return {arm: stages for (arm, seed), stages in plan.arms.items() if seed == plan.recipe.seeds[0]}


def small(stage: StagePlan) -> StagePlan:
    """Two steps of two prompts, or of four rows."""
    method = stage.method
    group = method.batch().completions // method.batch().samples
    rows_a_step = 2 * group if method.needs_rollouts and group > 1 else 4
    changed: dict[str, Any] = {"per_device_train_batch_size": rows_a_step, "max_steps": 2}
    method = method.model_copy(update=changed)
    runs = len(stage.trainings)
    batch = method.batch().samples
    few = {
        name: tuple(replace(source, samples=SAMPLES) for source in getattr(stage, name))
        for name in ("finished", "sources")
    }
    return replace(
        stage, method=method, steps=2 * runs, batch_samples=batch, global_batch=rows_a_step, data_samples=SAMPLES, **few
    )


def first_stages(stages: list[StagePlan]) -> list[StagePlan]:
    """The first, and the second if that takes more from it than weights, or ends otherwise (merging)."""
    _, *later = stages
    more = later and (
        later[0].replay or later[0].kl or later[0].merge or later[0].regularisers or later[0].tuning.type != "full"
    )
    return [small(stage) for stage in stages[: 2 if more else 1]]


def in_run(root: Path, stage: StagePlan) -> StageDir:
    """Where a run would have the stage."""
    return StageDir(root / "arms" / stage.arm / "seed-0" / f"{stage.index:02d}-{stage.task}")


@pytest.mark.parametrize(("recipe", "family"), arms())
def test_two_steps_of_every_arm(recipe: str, family: str, pool: LocalPool, tmp_path: Path):
    by_arm = planned(recipe)
    name = next(arm for arm, stages in by_arm.items() if stages[0].family == family)
    imitated = getattr(getattr(by_arm[name][0].method, "data", None), "arm", None)
    for arm in [*([imitated] if imitated else []), name]:
        start: Path | str = by_arm[arm][0].model.path
        for stage in first_stages(by_arm[arm]):
            out = in_run(tmp_path, stage)
            chosen = kept_by_filter(stage, start, out.root, pool)
            result = train_stage(stage, start_folder=start, out=out, kept=chosen, pool=pool)
            assert result.steps == stage.steps == len(rows(out))
            write_trained(out, stage.key, stage.steps)  # as the driver does: others may take its rollouts
            start = result.policy
