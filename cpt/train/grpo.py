"""The trainer of a stage with rollouts: GRPO and its relatives, and self-distillation."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from trl import GRPOConfig

from cpt.methods.advantages import GROUP_MEAN, Baseline
from cpt.methods.sdft import SDFT
from cpt.models.inputs import ModelInputs
from cpt.rollout.agreement import judged_by_rounding
from cpt.rollout.sampler import PolicySampler
from cpt.train.advantages import Estimator
from cpt.train.data import as_dataset, policy_rows, stage_data
from cpt.train.distillation import Demonstrations
from cpt.train.gap import GapCheck
from cpt.train.reward import check_stage_golds, reward_function, rewards_of
from cpt.train.settings import config, shared_arguments
from cpt.train.step import StageGRPOTrainer, StepTools

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan
    from cpt.rollout.pool import RolloutPool
    from cpt.train.plugin_terms import PluginTerms
    from cpt.train.rollouts import RolloutLog
    from cpt.train.weighting import Objectives
    from cpt.types import Sample


class OneCompletionConfig(GRPOConfig):
    """GRPOConfig for one completion per prompt, which TRL refuses: it knows no baseline but the group's."""

    num_generations: int

    def __post_init__(self) -> None:
        """TRL's checks, with a number that they let pass."""
        assert self.num_generations == 1
        self.num_generations = self.per_device_train_batch_size * self.steps_per_generation
        super().__post_init__()
        self.num_generations = 1


def grpo_arguments(stage: StagePlan, checkpoints: Path) -> GRPOConfig:
    """GRPOConfig of a stage. The sampling distribution is the policy's own: nothing truncates or reweights it."""
    arguments = shared_arguments(stage, checkpoints) | {
        "max_completion_length": stage.max_completion_length,
        "top_p": 1.0,
        "top_k": 0,
        "min_p": None,
        "repetition_penalty": 1.0,
        "generation_kwargs": None,
        "chat_template_kwargs": None,
        "disable_dropout": False,  # with dropout the policy would not be the one that engines sample; recipes refuse it
        "cast_lm_head_to_fp32": False,
        "reward_weights": [1.0],
        "multi_objective_aggregation": "sum_then_normalize",
        "sync_ref_model": False,
        "top_entropy_quantile": 1.0,
        "entropy_coef": 0.0,
        "use_adaptive_entropy": False,
        "off_policy_mask_threshold": None,
        "use_vllm": False,  # TRL starts no engine of its own
        "log_completions": False,
    }
    cls = OneCompletionConfig if arguments["num_generations"] == 1 else GRPOConfig
    return config(cls, arguments, dict(stage.trainer_args))


def grpo_trainer(
    stage: StagePlan,
    own: Sequence[Sample],
    policy: Any,
    processor: Any,
    checkpoints: Path,
    pool: RolloutPool,
    peft_config: Any = None,
    *,
    plugins: PluginTerms | None = None,
    objectives: Objectives | None = None,
    log: RolloutLog | None = None,
) -> StageGRPOTrainer:
    """A trainer over the stage's samples, rewarded as the stage says.

    Args:
        own: the stage's own samples.
        policy: the model at the stage's start, which is also the reference of the KL term.
        plugins, objectives: of the stage.
        log: keeps the rollouts.
    """
    assert stage.method.needs_rollouts and stage.max_completion_length is not None
    assert not stage.tuning.has_dropout, "engines sample without dropout, and so must the policy"
    arguments = grpo_arguments(stage, checkpoints)
    data = stage_data(stage, own, arguments.world_size)
    specs = rewards_of(stage)
    check_stage_golds(data.samples, specs, stage.prompt)
    baseline: Baseline = getattr(stage.method, "baseline", GROUP_MEAN)
    tools = StepTools(
        inputs=ModelInputs(processor, policy),
        sampler=PolicySampler(
            pool,
            stage.stream,
            max_tokens=stage.max_completion_length,
            temperature=arguments.temperature,
            group=arguments.num_generations,
            greedy=baseline.needs_greedy,
        ),
        tensors=stage.tuning.tensors,
        reward=reward_function(stage.prompt, specs, stage.max_completion_length),
        estimator=Estimator(baseline, arguments.scale_rewards),
        gap=GapCheck(stage.max_logprob_gap, by_rounding=judged_by_rounding(stage.model.dtype, stage.rollout)),
        teacher=Demonstrations(stage.method, stage.prompt) if isinstance(stage.method, SDFT) else None,
        log=log,
    )
    return StageGRPOTrainer(
        tools,
        plugins=plugins,
        objectives=objectives,
        model=policy,
        args=arguments,
        train_dataset=as_dataset(policy_rows(data.samples, stage.prompt), data.order),
        peft_config=peft_config,
    )
