"""What `cpt plan` prints."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.common.console import counted, printable
from cpt.common.keys import dotted
from cpt.plan.disk import estimate_bytes, size
from cpt.plan.during import during_lines
from cpt.plan.epochs import epoch_lines
from cpt.plan.preflight import machine_problems
from cpt.plan.run_plan import RunPlan
from cpt.plan.stages import Source, StagePlan

if TYPE_CHECKING:
    from rich.console import Console

COLUMNS = ("arm", "method", "learning rate", "tuning", "prompt", "steps", "samples a batch", "global batch", "tokens")


def row(stages: list[StagePlan]) -> tuple[str, ...]:
    """The line of one arm, in the order of `COLUMNS`; its stages differ in task and steps only."""
    first = stages[0]
    method, batch = first.method, first.method.batch()
    rollouts = batch.completions // batch.samples
    same = len({stage.steps for stage in stages}) == 1
    steps = f"{len(stages)} × {first.steps}" if same else " + ".join(str(stage.steps) for stage in stages)
    return (
        first.arm,
        method.title,
        f"{method.learning_rate:g}",
        first.tuning.type,
        first.prompt,
        steps,
        str(batch.samples) if batch.samples == batch.completions else f"{batch.samples} × {rollouts}",
        str(first.global_batch),
        "" if first.max_completion_length is None else str(first.max_completion_length),
    )


def print_plan(plan: RunPlan, console: Console, out: Path) -> None:
    """Arms, stages, samples, steps, epochs, evaluations and disk; `out` is where the run would go."""
    from rich.box import SIMPLE_HEAD
    from rich.table import Table

    recipe = plan.recipe
    arms = plan.by_arm
    table = Table(box=SIMPLE_HEAD)
    for title in COLUMNS:
        table.add_column(title, no_wrap=True)
    for stages in arms.values():
        table.add_row(*row(stages))
    known = plan.model.nbytes
    weight = "from the Hugging Face Hub (no such folder here)" if known is None else size(known)
    samples = {task.name: recipe.training_samples(task) for task in recipe.tasks}
    evaluation = plan.bases[0].evaluation
    disk = estimate_bytes(plan)
    console.print(
        f"{recipe.name}: {counted(len(arms), 'arm')} × {counted(len(recipe.seeds), 'seed')} × "
        f"{counted(len(samples), 'stage')}",
        highlight=False,
    )
    console.print(
        f"run folder  {out} (`cpt run --out` chooses another)\n"
        f"model       {printable(plan.model.name)}, {plan.model.dtype}, {weight}\n"
        f"stages      {', '.join(f'{i}. {task} ({n} samples)' for i, (task, n) in enumerate(samples.items(), 1))}\n"
        f"general     {', '.join(recipe.general_names) or 'none'}\n"
        f"evaluation  {plan.evaluated_samples()} completions in all, at most {evaluation.max_tokens} tokens each, "
        f"{'greedy' if not evaluation.temperature else f'temperature {evaluation.temperature:g}'}\n"
        f"drift       {_drift(plan)}\n"
        f"disk        {'unknown until the model is here' if disk is None else 'about ' + size(disk)}",
        highlight=False,
        soft_wrap=True,
        markup=False,
    )
    console.print(table)
    for line in (
        *machine_lines(plan),
        *epoch_lines(arms),
        *during_lines(arms, len(recipe.seeds)),
        *beside_lines(arms),
        *reward_lines(arms),
        *filter_lines(arms),
        *rollout_lines(arms),
    ):
        console.print(line, highlight=False, soft_wrap=True, markup=False)


def machine_lines(plan: RunPlan) -> list[str]:
    """Why this machine can't run the plan; empty if it can."""
    return [f"not here    {dotted(path)}: {message}" for path, message in machine_problems(plan)]


def _drift(plan: RunPlan) -> str:
    """What measuring drift samples: for every prompt one completion of the stage's policy and one of the base model."""
    prompts = sum(
        sum(stage.drift.samples[task] for tasks in stage.drift.groups.values() for task in tasks)
        for stage in plan.stages
    )
    if not prompts:
        return "not measured"
    limit = plan.stages[0].evaluation.max_tokens
    return f"{2 * prompts} completions in all, at most {limit} tokens each, temperature 1"


def beside_lines(arms: Mapping[str, Sequence[StagePlan]]) -> list[str]:
    """What each arm does in addition to its method, one line per arm."""
    lines = []
    for arm, stages in arms.items():
        stage = stages[-1]
        said: list[str] = [stage.schedule] if stage.schedule != "sequential" else []
        if stage.replay is not None:
            said.append(f"replay {stage.replay.type}, sampler {stage.replay.sampler}")
        said += [_said(setting) for setting in stage.regularisers]
        if stage.kl is not None:
            kl = stage.kl
            said.append(f"kl {kl.coefficient:g} {kl.estimator} in the {kl.into}, to {kl.reference}")
        if stage.merge is not None:
            said.append(f"merge {stage.merge.type}")
        if said:
            lines.append(f"beside      {arm}: {'; '.join(said)}")
    return lines


def _said(setting: Any) -> str:
    coefficient = getattr(setting, "coefficient", None)
    return setting.type if coefficient is None else f"{setting.type} {coefficient:g}"


def reward_lines(arms: Mapping[str, Sequence[StagePlan]]) -> list[str]:
    """The rewards that are not the tasks' own, one line for each with its arms or stages."""
    rewarded: dict[str, list[str]] = {}
    for arm, stages in arms.items():
        if not stages[0].method.needs_rollouts:
            continue
        parts: Sequence[Source | StagePlan] = stages[0].sources if stages[0].schedule == "joint" else stages
        texts = [None if one.reward is None else one.reward.describe() for one in parts]
        everywhere = len(set(texts)) == 1
        for one, text in zip(parts[:1] if everywhere else parts, texts, strict=False):
            if text is not None:
                rewarded.setdefault(text, []).append(arm if everywhere else f"{arm} on {one.task}")
    return [f"reward      {text}: {', '.join(where)}" for text, where in rewarded.items()]


def filter_lines(arms: Mapping[str, Sequence[StagePlan]]) -> list[str]:
    """One line for each filter with its arms: the rule, and how many completions it samples before each stage."""
    found: dict[str, list[str]] = {}
    for arm, stages in arms.items():
        rule = stages[0].filter
        if rule is not None:
            sampled = " + ".join(str(stage.data_samples * rule.rollouts) for stage in stages)
            found.setdefault(f"{rule.describe()}, {sampled} rollouts", []).append(arm)
    return [f"filter      {text}: {', '.join(where)}" for text, where in found.items()]


def rollout_lines(arms: Mapping[str, Sequence[StagePlan]]) -> list[str]:
    """The arms whose rollouts are kept on disk."""
    kept = [arm for arm, stages in arms.items() if stages[0].leaves_rollouts]
    return [f"rollouts    kept of {', '.join(kept)}: another arm imitates them"] if kept else []
