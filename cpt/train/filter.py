"""A stage's training samples as its filter leaves them: rollouts of the policy that the stage starts from.

The driver calls `filtered` first, so that its time and progress show; the training process calls it again and finds the
file. The number of optimizer steps stays what was planned over all samples: with fewer of them the stage cycles
through the kept ones, so that a filtered arm differs from a plain one in the prompts alone, not in the training.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.methods.filtering import FilterFile, PromptRollouts, emptied, read_filter, select, write_filter
from cpt.rollout.engine import request_seed
from cpt.tasks.world.builtin import MAX_COMPLETION_TOKENS
from cpt.train.requests import training_requests
from cpt.train.reward import check_stage_golds, reward_function
from cpt.train.truth import strictly_right
from cpt.types import Completion, Sample, SamplingParams

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan
    from cpt.rollout.pool import RolloutPool
    from cpt.store.folder import StageDir


def filtered(
    stage: StagePlan,
    samples: Sequence[Sample],
    *,
    start_folder: str | Path,
    out: StageDir,
    pool: RolloutPool | None,
    processor: Any,
) -> list[Sample]:
    """The samples that a stage with a filter trains on, in their order.

    What was seen of every prompt is in `out.filter`. A file with this stage's key there is read, and nothing sampled.

    Args:
        start_folder: the policy the stage starts from. The pool is left with its weights.
        processor: its Hugging Face processor.

    Raises:
        ValueError: the filter keeps no sample of a task, or there is no pool to sample with.
    """
    rule = stage.filter
    assert rule is not None
    found = read_filter(out.filter) if out.filter.exists() else None
    ids = [sample.id for sample in samples]
    if found is None or found.key != stage.key or [prompt.sample_id for prompt in found.prompts] != ids:
        if pool is None:
            raise ValueError(f"{stage.label}: the filter needs a rollout pool")
        version = pool.push_folder(start_folder, f"{stage.parent_key}:final")  # as the stage before was evaluated
        prompts = roll_out(stage, samples, pool=pool, version=version, processor=processor)
        kept = select(rule, prompts, f"{stage.seed}/{stage.index}")
        found = FilterFile(stage.key, rule, prompts, kept)
        write_filter(out.filter, found)
    left = {prompt.task for prompt, kept in zip(found.prompts, found.kept, strict=True) if kept}
    for task in dict.fromkeys(prompt.task for prompt in found.prompts):  # a joint stage has several
        if task not in left:
            own = [prompt for prompt in found.prompts if prompt.task == task]
            raise ValueError(f"{stage.label}: {emptied(rule, own, task)}")
    return [sample for sample, kept in zip(samples, found.kept, strict=True) if kept]


def roll_out(
    stage: StagePlan, samples: Sequence[Sample], *, pool: RolloutPool, version: str, processor: Any
) -> list[PromptRollouts]:
    """`stage.filter.rollouts` completions of every sample by the weights `version`, scored and rewarded.

    Prompts, length limit and reward are those of the stage's training. An arm without rollouts (SFT) has no reward of
    its own in training; it takes the one that the recipe pays other arms.
    """
    rule = stage.filter
    assert rule is not None
    seeds = [filter_seed(stage, sample.id) for sample in samples]
    paid = {source.task: source.reward for source in stage.sources} | {stage.task: stage.filter_reward}
    check_stage_golds(samples, paid, stage.prompt)
    requests = training_requests(samples, seeds, stage.prompt, processor)
    limit = completion_limit(stage)
    params = SamplingParams(limit, rule.temperature, rule.rollouts)
    groups = pool.generate(requests, params, version=version)
    flat = [(sample, one) for sample, group in zip(samples, groups, strict=True) for one in group]
    pay = reward_function(stage.prompt, paid, limit)
    rewards = pay(
        [one.text for _, one in flat],
        [sample for sample, _ in flat],
        [one.token_ids for _, one in flat],
        finish_reason=[one.finish_reason for _, one in flat],
    )
    size = rule.rollouts
    return [
        _scored(stage, sample, group, rewards[i * size : (i + 1) * size])
        for i, (sample, group) in enumerate(zip(samples, groups, strict=True))
    ]


def filter_seed(stage: StagePlan, sample_id: str) -> int:
    """Seed of a sample's rollouts, from the run's seed, the stage's position and the sample; the same for every arm.

    The k-th completion draws from the k-th stream of its request (`cpt.rollout.engine`), so this and k decide it,
    whatever else is in the call. Training draws from other streams, which know the step and the row
    (`cpt.rollout.trl`): there a kept prompt may still, by chance, earn one reward eight times.
    """
    return request_seed("filter", stage.seed, stage.index, sample_id)


def completion_limit(stage: StagePlan) -> int:
    """Tokens per rollout: training's, or for a method without rollouts what its policy's styles take."""
    styles = stage.method.styles(stage.prompt)
    return stage.max_completion_length or max(MAX_COMPLETION_TOKENS[style] for style in styles)


def _scored(
    stage: StagePlan, sample: Sample, group: Sequence[Completion], rewards: Sequence[float | None]
) -> PromptRollouts:
    right = [strictly_right(sample, one.text, stage.prompt) for one in group]
    return PromptRollouts(sample.id, sample.task, tuple(one.text for one in group), tuple(rewards), tuple(right))
