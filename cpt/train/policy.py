"""Policy-gradient training of one stage with TRL's GRPOTrainer, our advantages and rollouts from the pool."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from trl import GRPOConfig, GRPOTrainer

from cpt.methods.advantages import GROUP_MEAN
from cpt.rollout.trl import RolloutMixin
from cpt.train.advantages import Advantages, OneCompletionConfig
from cpt.train.agreement import judged_by_rounding
from cpt.train.data import as_dataset, check_groups, policy_rows, stage_data
from cpt.train.objective import PolicyPlugins
from cpt.train.objectives import Objectives, Parts, means, objectives_of
from cpt.train.pictures import RowsOfPictures
from cpt.train.prompts import first_of_runs, repeated, run_lengths
from cpt.train.resume import Resumable
from cpt.train.reward import check_stage_golds, reward_function, rewards_of
from cpt.train.rounding import check_rounding
from cpt.train.settings import config, shared_arguments

if TYPE_CHECKING:
    from cpt.plan.stages import StagePlan
    from cpt.rollout.pool import RolloutPool
    from cpt.train.rollouts import RolloutLog
    from cpt.types import Sample

Scores = tuple[Any, Any, Any]
"""Log-probabilities and entropies, each [B, T], and a mixture of experts' auxiliary loss; None where not asked for."""


class StageGRPOTrainer(PolicyPlugins, Advantages, RolloutMixin, RowsOfPictures, Resumable, GRPOTrainer):
    """TRL's trainer with rollouts from the pool, checkpoints that resume, whole groups, and no work done twice.

    Attributes:
        by_rounding: whether engine and trainer may differ by what bfloat16 explains, and not by more.
    """

    by_rounding = False
    _noise = 0.0  # not measured yet

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.rollout_log: RolloutLog | None = None
        self._sample_ids: list[str] = []
        self._kept: list[torch.Tensor] | None = None
        self._rows: torch.Tensor | None = None
        self.objectives: Objectives | None = None
        self._parts: list[Parts] = []

    def at_stage(self, stage: StagePlan) -> None:
        """What a kind of trainer takes in of its stage beside TRL's arguments: here nothing."""

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._sample_ids = [row["sample"].id for row in inputs]
        check_groups(self._gathered(self._sample_ids), self.num_generations)
        self._kept = None
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        if self.by_rounding and {"old_per_token_logps", "sampling_per_token_logps"} <= output.keys():
            self._noise = check_rounding(self, output, self._noise)
        output["row"] = torch.arange(len(inputs), device=output["prompt_ids"].device)
        return output

    def _gathered(self, local: list[Any]) -> list[Any]:
        from accelerate.utils import gather_object

        return list(gather_object(local))

    def _tokenize_prompts(self, prompts: list[Any]) -> tuple[list[list[int]], list[Any] | None, dict[str, Any]]:
        """Once per group. The pool takes pictures, not pixels, so no multimodal fields are returned."""
        counts = run_lengths(self._sample_ids)
        ids, images, _ = super()._tokenize_prompts(first_of_runs(prompts, counts))
        return repeated(ids, counts), None if images is None else repeated(images, counts), {}

    def _calculate_rewards(self, inputs: list[dict[str, Any]], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Also tells the reward how each completion ended.

        A row without a reward is NaN: it is left out of its group's mean and deviation and gets no advantage.
        """
        ended = [completion.finish_reason for completion in self.vllm_generation.latest]
        rows = [row | {"finish_reason": reason} for row, reason in zip(inputs, ended, strict=True)]
        with self.phases.measure("reward"):
            rewards: torch.Tensor = super()._calculate_rewards(rows, *args, **kwargs)
        if self.rollout_log is not None:
            start = self.accelerator.process_index * len(inputs)
            paid = rewards[start : start + len(inputs), 0].tolist()
            samples = [row["sample"] for row in inputs]
            self.rollout_log.write(self.state.global_step + 1, samples, self.vllm_generation.latest, paid)
        return rewards

    def _weighed(self, rewards_N1: torch.Tensor) -> torch.Tensor:
        """The batch's rewards by the weights of the objectives, which it moves first."""
        if self.objectives is None:
            return rewards_N1
        self._parts = self._gathered(self.objectives.take())
        self.objectives.log(self, means(self._parts), self.state.global_step, supervised=False)
        if not self.objectives.on_rewards:
            return rewards_N1
        return rewards_N1.new_tensor([self.objectives.reward(seen) for seen in self._parts])[:, None]

    def _weighed_greedy(self, rewards: list[float]) -> list[float]:
        """By the weights of the batch that they are compared with."""
        return rewards if self.objectives is None else [self.objectives.reward(seen) for seen in self.objectives.take()]

    def _advantages(self) -> torch.Tensor:
        """Where weights act on advantages, every component has its own."""
        if self.objectives is None or self.objectives.on_rewards:
            return super()._advantages()
        return self._weighed_advantages(self._parts, self.objectives.weight)

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        inputs = dict(inputs)
        self._rows = inputs.pop("row")
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        return loss

    def _get_per_token_logps_and_entropies(self, model: Any, *args: Any, **kwargs: Any) -> Scores:
        """One forward pass where TRL takes two.

        TRL computes the log-probabilities of fresh completions without gradients, to compare them with the engine's,
        and once more for the loss. When each batch of completions serves one optimizer step the weights are the same
        both times, so the first pass keeps its graph and the loss takes that, its rows in the order TRL has shuffled
        them to since.
        """
        score: Callable[..., Scores] = super()._get_per_token_logps_and_entropies
        if torch.is_grad_enabled() and self._kept is not None:
            assert self._rows is not None
            logps, entropies, *self.hidden = (kept.index_select(0, self._rows) for kept in self._kept)
            self._kept = None
            return logps, entropies, None
        if torch.is_grad_enabled() or self._kept is not None or not self._one_pass:
            return score(model, *args, **kwargs)
        with self.phases.measure("forward_backward"), torch.enable_grad(), self._caught(model) as hidden:
            logps, entropies, _ = score(model, *args, **{**kwargs, "compute_entropy": True})
            self._kept = [logps, entropies, *([torch.cat(hidden)] if hidden else [])]
        return logps.detach(), None, None

    @property
    def _one_pass(self) -> bool:
        """Whether TRL takes two passes, and one would do: completions serve one backward pass.

        Not under gradient checkpointing: a kept graph costs memory.
        """
        args = self.args
        two = self.vllm_importance_sampling_correction and self.accelerator.num_processes == 1
        once = args.steps_per_generation * args.gradient_accumulation_steps * self.num_iterations == 1
        return bool(two and once and not args.gradient_checkpointing)


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
        "use_vllm": False,  # the rollout mixin brings its own engines
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
    kind: type[StageGRPOTrainer] = StageGRPOTrainer,
) -> StageGRPOTrainer:
    """A trainer over `samples`, rewarded as the stage says.

    Args:
        own: the stage's own samples.
        policy: the model at the stage's start, which is also the reference of the KL term.
        kind: the class to make.
    """
    assert stage.method.needs_rollouts
    assert not stage.tuning.has_dropout, "engines sample without dropout, and so must the policy"
    arguments = grpo_arguments(stage, checkpoints)
    data = stage_data(stage, own, arguments.world_size)
    check_stage_golds(data.samples, rewards_of(stage), stage.prompt)
    objectives = objectives_of(stage)
    see = None if objectives is None else objectives.see
    trainer = kind(
        model=policy,
        args=arguments,
        reward_funcs=[reward_function(stage.prompt, rewards_of(stage), stage.max_completion_length, see)],
        train_dataset=as_dataset(policy_rows(data.samples, stage.prompt), data.order),
        processing_class=processor,
        peft_config=peft_config,
        rollout_pool=pool,
        rollout_key=stage.stream,
        max_logprob_gap=stage.max_logprob_gap,
        baseline=getattr(stage.method, "baseline", GROUP_MEAN),
    )
    if not (trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled):
        trainer.vllm_generation._iter_named_params = partial(stage.tuning.tensors, trainer.model)
    trainer.objectives = objectives
    trainer.by_rounding = judged_by_rounding(stage.model.dtype, stage.rollout)
    trainer.at_stage(stage)
    return trainer
