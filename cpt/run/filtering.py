"""A stage's training samples as its filter leaves them: rollouts of the policy that the stage starts from.

The driver has this done before it starts the training, and passes on what was kept. The number of optimizer steps stays
what was planned over all samples: with fewer of them the stage cycles through the kept ones, so that a filtered arm
differs from a plain one in the prompts alone, not in the training.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.methods.filtering import RIF, FilterFile, PromptRollouts, emptied, read_filter, select, write_filter
from cpt.plan.stages import finished_version
from cpt.recipe.rewards import RewardSpec
from cpt.rollout.engine import request_seed
from cpt.train.accuracy import strictly_right
from cpt.train.requests import sampled
from cpt.train.reward import check_stage_golds, reward_function, values_of
from cpt.types import Completion, PromptStyle, Sample, SamplingParams

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan
    from cpt.rollout.pool import RolloutPool


@dataclass(frozen=True)
class Filtering:
    """What a filter asks of the policy that a stage starts from. All as in the stage's training.

    Attributes:
        rewards: task → what its rollouts are rewarded for; None for the task's own reward.
        limit: tokens per rollout.
        seed, index: the run's seed and the stage's position.
    """

    rule: RIF
    prompt: PromptStyle
    rewards: Mapping[str, RewardSpec | None]
    limit: int
    seed: int
    index: int

    def select(self, prompts: Sequence[PromptRollouts]) -> list[bool]:
        """Which prompts are trained on."""
        return select(self.rule, prompts, f"{self.seed}/{self.index}")

    def seed_of(self, sample_id: str) -> int:
        """Seed of a sample's rollouts, the same for every arm.

        The k-th completion draws from the k-th stream of its request (`cpt.rollout.engine`), so this and k decide it,
        whatever else is in the call. Training draws from other streams, which know the step and the row
        (`cpt.rollout.sampler`): there a kept prompt may still, by chance, earn one reward eight times.
        """
        return request_seed("filter", self.seed, self.index, sample_id)


def filtering(stage: StagePlan) -> Filtering:
    """Of a stage with a filter.

    An arm without rollouts (SFT) has no reward of its own in training; its filter takes the one that the recipe gives
    other arms.
    """
    assert stage.filter is not None
    rewards = {source.task: source.reward for source in stage.sources} | {stage.task: stage.filter_reward}
    return Filtering(stage.filter, stage.prompt, rewards, stage.filter_limit, stage.seed, stage.index)


def kept_samples(
    stage: StagePlan,
    samples: Sequence[Sample],
    *,
    start_folder: str | Path,
    file: Path,
    pool: RolloutPool | None,
    processor: Any,
) -> list[int]:
    """Positions of those of its own samples that a stage with a filter trains on, in order.

    Args:
        start_folder: the policy the stage starts from. The pool is left with its weights.
        file: where it is written what was seen of every prompt. If that is there, with this stage's key, it is read,
            and nothing sampled.
        processor: the policy's Hugging Face processor.

    Raises:
        ValueError: the filter keeps no sample of a task, or there is no pool to sample with.
    """
    asked = filtering(stage)
    found = read_filter(file) if file.exists() else None
    ids = [sample.id for sample in samples]
    if found is None or found.key != stage.key or [prompt.sample_id for prompt in found.prompts] != ids:
        if pool is None:
            raise ValueError(f"{stage.label}: the filter needs a rollout pool")
        # The engines may hold these weights: the stage before was evaluated under this version.
        version = pool.push_folder(start_folder, finished_version(stage.parent_key))
        prompts = roll_out(asked, samples, pool=pool, version=version, processor=processor)
        found = FilterFile(stage.key, asked.rule, prompts, asked.select(prompts))
        write_filter(file, found)
    left = {prompt.task for prompt, kept in zip(found.prompts, found.kept, strict=True) if kept}
    for task in dict.fromkeys(prompt.task for prompt in found.prompts):  # a joint stage has several
        if task not in left:
            own = [prompt for prompt in found.prompts if prompt.task == task]
            raise ValueError(f"{stage.label}: {emptied(asked.rule, own, task)}")
    return [position for position, kept in enumerate(found.kept) if kept]


def roll_out(
    asked: Filtering, samples: Sequence[Sample], *, pool: RolloutPool, version: str, processor: Any
) -> list[PromptRollouts]:
    """`asked.rule.rollouts` completions of every sample by the weights `version`, scored and rewarded."""
    check_stage_golds(samples, asked.rewards, asked.prompt)
    size = asked.rule.rollouts
    params = SamplingParams(asked.limit, asked.rule.temperature, size)
    seeds = [asked.seed_of(sample.id) for sample in samples]
    groups = sampled(pool, params, version, samples, seeds, asked.prompt, processor)
    rewards = values_of(
        reward_function(asked.prompt, asked.rewards, asked.limit),
        [sample for sample, group in zip(samples, groups, strict=True) for _ in group],
        [one for group in groups for one in group],
    )
    return [
        _scored(sample, asked.prompt, group, rewards[i * size : (i + 1) * size])
        for i, (sample, group) in enumerate(zip(samples, groups, strict=True))
    ]


def _scored(
    sample: Sample, prompt: PromptStyle, group: Sequence[Completion], rewards: Sequence[float | None]
) -> PromptRollouts:
    right = [strictly_right(sample, one.text, prompt) for one in group]
    return PromptRollouts(sample.id, sample.task, tuple(one.text for one in group), tuple(rewards), tuple(right))
