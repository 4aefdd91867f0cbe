"""How a stage's rollouts are rewarded: by each sample's own task, or by what the recipe says instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from cpt.tasks import get_task
from cpt.tasks.row import reward_row
from cpt.train.accuracy import accuracy
from cpt.train.batch import Parts
from rewards.batch import TRLReward, as_trl_reward, guarded, text_of
from rewards.golds import check_golds

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan
    from cpt.recipe import RewardSpec
    from cpt.types import Completion, PromptStyle, Sample
    from rewards.score import Score


def rewards_of(stage: StagePlan) -> dict[str, RewardSpec | None]:
    """The reward of every task that the stage has samples of; None for the task's own."""
    return {stage.task: stage.reward} | {source.task: source.reward for source in stage.sources}


def check_stage_golds(samples: Sequence[Sample], specs: Mapping[str, RewardSpec | None], prompt: PromptStyle) -> None:
    """ValueError that names the first sample whose gold answer its reward can't use. Costs no rollout."""
    for task, spec in specs.items():
        if spec is not None:
            rows = ((f"sample {one.id}", reward_row(one, prompt)) for one in samples if one.task == task)
            check_golds(spec.build(), rows, spec.describe())


def values_of(
    reward: TRLReward, samples: Sequence[Sample], completions: Sequence[Completion], **wanted: Any
) -> list[float | None]:
    """A stage's reward of these completions, each of the sample at its place; None where it failed.

    Args:
        reward: see `reward_function`, whose keywords `log_metric` and `noted` may be `wanted`.
    """
    return reward(
        [one.text for one in completions],
        sample=list(samples),
        completion_ids=[one.token_ids for one in completions],
        finish_reason=[one.finish_reason for one in completions],
        **wanted,
    )


def reward_function(
    prompt: PromptStyle, specs: Mapping[str, RewardSpec | None], max_tokens: int | None = None
) -> TRLReward:
    """A stage's reward as TRL calls it. A completion that was cut off at the limit is scored as it is.

    `rewards.batch.as_trl_reward` says what is logged, and what becomes of a reward that fails; beside that, the tasks'
    own scoring of the same completions (`cpt.train.accuracy`). With the keyword `noted`, a list, every completion's
    task and components are added to it in order, also of those whose reward failed.

    Args:
        specs: the recipe's reward for the samples of each task; None for the task's own.
        max_tokens: the limit of a completion's length.
    """
    composites = {task: None if spec is None else spec.build() for task, spec in specs.items()}

    def row(columns: Mapping[str, Any]) -> Mapping[str, Any]:
        return reward_row(
            columns["sample"],
            prompt,
            finish_reason=columns.get("finish_reason"),
            n_tokens=len(columns["completion_ids"]),
            max_tokens=max_tokens,
        )

    def by_task(completion: str, **columns: Any) -> Score:
        sample: Sample = columns["sample"]
        composite = composites[sample.task]
        if composite is None:
            return get_task(sample.task).reward(sample, completion, prompt)
        return composite(completion, **row(columns))

    one = next(iter(composites.values())) if len(composites) == 1 else None
    # A recipe's one reward tells TRL's glue itself which columns it needs.
    plain = as_trl_reward(by_task, dict) if one is None else as_trl_reward(one, row)

    def noting(noted: list[Parts]) -> TRLReward:
        def note(completion: str, **columns: Any) -> Score:
            score = guarded(by_task, completion, columns)
            parts = {} if score.failed else {name: part for name, part in score.parts.items() if "/" not in name}
            noted.append((columns["sample"].task, parts))
            return score

        return as_trl_reward(note, dict)

    def reward(
        completions: Sequence[Any],
        sample: Sequence[Sample],
        completion_ids: Sequence[Sequence[int]] | None = None,
        log_metric: Callable[[str, float], None] | None = None,
        noted: list[Parts] | None = None,
        **columns: Any,
    ) -> list[float | None]:
        if log_metric is not None:
            tokens = None if completion_ids is None else [len(ids) for ids in completion_ids]
            for name, value in accuracy(sample, list(map(text_of, completions)), prompt, tokens).items():
                log_metric(name, value)
        rewarded = plain if noted is None else noting(noted)
        return rewarded(completions, sample=sample, completion_ids=completion_ids, log_metric=log_metric, **columns)

    return reward
