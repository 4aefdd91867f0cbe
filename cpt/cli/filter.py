"""`cpt filter`: an arm's filter on one task, as a run filters before it trains."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer
from rich.box import SIMPLE_HEAD
from rich.console import Console
from rich.table import Table

from cpt.cli.arguments import Overrides, RecipePath, TrustRewards
from cpt.common.keys import nearest
from cpt.methods.filtering import RIF, FilterFile, write_filter
from cpt.models.load import load_processor
from cpt.plan.make import make_plan
from cpt.plan.preflight import available_model, check_fit, check_machine, gpu_count
from cpt.plan.stages import StagePlan
from cpt.recipe import Recipe, expand_arms, load_recipe
from cpt.recipe.arms import filter_reward_of
from cpt.recipe.schema import StageTask
from cpt.rollout.limits import engine_kind
from cpt.run.cluster import cluster, placement_of
from cpt.run.rows import check_rows, merged, stage_reads
from cpt.store.folder import default_folder

BAR = 28  # characters of the longest bar


def filter_(
    recipe: RecipePath,
    task: Annotated[str, typer.Option(help="A task of the recipe, trained on or general.")],
    overrides: Overrides = None,
    arm: Annotated[
        str | None,
        typer.Option(help="The arm whose filter it is. Default: the first with one, else the first that samples."),
    ] = None,
    policy: Annotated[
        str | None, typer.Option(help="A Hugging Face folder to sample from. Default: the recipe's model.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="Folder for filter.parquet. Default: runs/<name of the recipe>-filter/<task>.")
    ] = None,
    trust_rewards: TrustRewards = False,
) -> None:
    """Filter the training prompts of one task by a policy's rollouts; train nothing."""
    loaded = load_recipe(recipe, overrides or (), trust_rewards=trust_rewards)
    filter_task(loaded, task, arm, policy, out or default_folder(f"{loaded.name}-filter") / task)


def filter_stage(recipe: Recipe, task: str, arm: str | None = None) -> tuple[StagePlan, str]:
    """The stage to sample, of `arm` on `task` with the arm's filter; and a note for the user, or "".

    Args:
        task: any of the recipe's. One that no stage trains on is sampled like one of the first stage; of a joint arm
            only this task.
        arm: None for the first one with a filter, else the first that samples, else the first. An arm without a filter
            gets the default filter.

    Raises:
        ValueError: the recipe has no such task or arm.
    """
    known = [*recipe.task_names, *recipe.general_names]
    if task not in known:
        raise ValueError(f"there is no task {task!r} in this recipe{nearest(task, known)}")
    plan = make_plan(recipe, None if arm is None else [arm])
    stages = [stages for (_, seed), stages in plan.arms.items() if seed == recipe.seeds[0]]
    ranked = sorted(stages, key=lambda own: (own[0].filter is None, not own[0].method.needs_rollouts))
    chosen = ranked[0]
    spec = expand_arms(recipe)[chosen[0].arm]
    stage = next((own for own in chosen if own.task == task), None)
    entry = next((own for own in recipe.tasks if own.name == task), StageTask(name=task))
    if stage is None:  # no stage trains on it, or a joint one on all tasks
        samples = entry.samples or recipe.data.samples
        stage = replace(chosen[0], task=task, data_samples=samples, schedule="sequential", sources=())
    note = ""
    if stage.filter is None:
        note = f"arm {stage.arm} has no filter; taking the defaults of rif"
    rule = stage.filter or RIF(type="rif", keep="learnable")
    return replace(stage, filter=rule, filter_reward=filter_reward_of(recipe, spec, entry)), note


def filter_task(recipe: Recipe, task: str, arm: str | None, policy: str | None, out: Path) -> None:
    """Sample, print keep rate and histogram, and write `out`/filter.parquet.

    Args:
        policy: a Hugging Face folder, a built-in model's name or an id on the Hub; None for the recipe's model.

    Raises:
        ValueError: there is no such task, arm or model, the recipe does not fit the model or this machine, or `out`
            can't be written.
    """
    console = Console()
    available_model(recipe.model.name_or_path)
    stage, note = filter_stage(recipe, task, arm)
    plan = make_plan(recipe, [stage.arm])
    check_fit(plan)
    check_machine(plan)
    folder = available_model(policy or stage.model.name)
    out.mkdir(parents=True, exist_ok=True)
    if note:
        console.print(note, markup=False, highlight=False)
    result = _sample(recipe, stage, str(folder))
    write_filter(out / "filter.parquet", result)
    print_filter(result, f"{stage.arm} on {task}, {policy or stage.model.name}", console)
    console.print(str(out / "filter.parquet"), markup=False, highlight=False, soft_wrap=True)


def _sample(recipe: Recipe, stage: StagePlan, policy: str) -> FilterFile:
    from cpt.run.filtering import filtering, roll_out
    from cpt.run.loop import start_pool
    from cpt.train.data import own_samples

    kind = engine_kind(stage.model.path, recipe.rollout, recipe.resources, gpu=gpu_count() > 0)
    pictures = check_rows(merged(stage_reads(stage)), stage.model, recipe.rollout.max_model_len, kind)
    samples = own_samples(stage)
    with cluster(None):
        pool = start_pool(stage.model, recipe.rollout, placement_of(recipe.rollout, recipe.resources), pictures)
        processor = load_processor(stage.model.path, trust_remote_code=stage.model.trust_remote_code)
        version = pool.push_folder(policy, "filter")
        asked = filtering(stage)
        prompts = roll_out(asked, samples, pool=pool, version=version, processor=processor)
        pool.close()
    return FilterFile("", asked.rule, prompts, asked.select(prompts))


def print_filter(found: FilterFile, title: str, console: Console) -> None:
    """Print the keep rate, and a bar for each number of right completions with its kept part filled."""
    kept, total = sum(found.kept), len(found.kept)
    console.print(f"{title}: {found.rule.describe()}", markup=False, highlight=False, soft_wrap=True)
    console.print(_table(*found.counts()))
    console.print(f"keeps {kept} of {total} prompts, {kept / total:.1%}", markup=False, highlight=False)
    if not kept:
        console.print("a stage would be refused: nothing is left to train on", markup=False, highlight=False)


def _table(everything: Sequence[int], kept: Sequence[int]) -> Table:
    table = Table("right", "pass rate", "prompts", "kept", "", box=SIMPLE_HEAD)
    for column in table.columns[:4]:
        column.justify = "right"
    most, size = max(everything), len(everything) - 1
    for passes, (n, own) in enumerate(zip(everything, kept, strict=True)):
        full = round(BAR * own / most)
        bar = "█" * full + "░" * (round(BAR * n / most) - full)
        table.add_row(f"{passes}/{size}", f"{passes / size:.3f}", str(n), str(own), bar)
    return table
