"""A step of reinforcement learning, from prompts to the loss.

Once per batch of rollouts, in `_generate_and_score_completions`:

    weights to the engines → prompts → Rollouts (completions, the engine's log-probabilities)
    → PolicyBatch: log-probabilities of policy and reference, engine and trainer compared
    → Rewards → advantages

For each micro-batch, in `_compute_loss`:

    log-probabilities with gradients → loss + plug-ins' terms

Then `StageTrainer.training_step` (`cpt.train.hooks`): backward → plug-ins change the gradients → optimizer step.

`cpt.train.stage` builds this trainer (`cpt.train.grpo`) and calls its `train`. TRL's GRPOTrainer keeps arguments, data
loading, logging and checkpoints. It shuffles a batch, cuts it into micro-batches and may use it for several optimizer
steps. Two of its methods are replaced, those named above. Estimators differ in one pure function of advantages
(`cpt.methods.advantages`) and one of the loss (`cpt.methods.policy_loss`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import torch
from trl import GRPOTrainer
from trl.trainer.utils import use_adapter

from cpt.methods.engine_weights import engine_gap, engine_weights
from cpt.methods.policy_loss import Loss, LossSettings, masked_mean, policy_loss
from cpt.rollout.encode import render_prompts
from cpt.rollout.sampling import ban_tokens
from cpt.rollout.timing import REST
from cpt.train.advantages import Estimator, estimated, rewarded
from cpt.train.batch import PolicyBatch, Rewards, Rollouts, Scores
from cpt.train.data import check_groups
from cpt.train.distillation import Demonstrations, with_teacher
from cpt.train.hooks import StageTrainer
from cpt.train.scoring import as_model_inputs, padded, score

if TYPE_CHECKING:
    from cpt.models.inputs import ModelInputs
    from cpt.rollout.sampler import PolicySampler
    from cpt.train.gap import GapCheck
    from cpt.train.rollouts import RolloutLog
    from rewards.batch import TRLReward

Row = Mapping[str, Any]
"""A prompt's chat and pictures, and its sample: see `cpt.train.data.policy_rows`."""


@dataclass(frozen=True)
class StepTools:
    """What a stage's steps are made with.

    Attributes:
        inputs: makes token ids and pictures of prompts, and the model's arguments of both.
        sampler: asks the engines for completions.
        tensors: of the policy, for the engines.
        reward: `cpt.train.reward.reward_function`.
        estimator: of advantages.
        gap: what engine and trainer may differ by.
        teacher: SDFT's teacher prompts; if set, there is no policy-gradient loss.
        log: keeps the rollouts; None where no arm imitates them.
    """

    inputs: ModelInputs
    sampler: PolicySampler
    tensors: Callable[[Any], Iterable[tuple[str, torch.Tensor]]]
    reward: TRLReward
    estimator: Estimator
    gap: GapCheck
    teacher: Demonstrations | None = None
    log: RolloutLog | None = None


class StageGRPOTrainer(StageTrainer, GRPOTrainer):
    """TRL's trainer with our step. Arguments beside `tools` are those of `StageTrainer` and GRPOTrainer."""

    def __init__(self, tools: StepTools, **arguments: Any) -> None:
        super().__init__(reward_funcs=[tools.reward], processing_class=tools.inputs.processor, **arguments)
        self.tools, self.loss_settings = tools, LossSettings.of(self.args)
        for model in (self.model, self.ref_model):
            if model is not None:
                ban_tokens(self.accelerator.unwrap_model(model))

    def _generate_and_score_completions(self, inputs: Sequence[Row]) -> dict[str, Any]:
        """In place of TRL's: rollouts for the next optimizer steps, as the columns of a `PolicyBatch`.

        Args:
            inputs: P rows, each G times.
        """
        check_groups([row["sample"].id for row in inputs], self.args.num_generations)
        with self.phases.measure(REST):
            rows = inputs[:: self.args.num_generations]
            rollouts = self._rollouts(rows)
            batch = self._scored(self._padded(rollouts))
            rewards = self._rewarded(rollouts)
            batch = replace(batch, advantages=self._advantages(rewards, batch))
            if self.tools.teacher is not None:
                batch = self._with_teacher(batch, rows, self.tools.teacher)
        return batch.columns()

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        """In place of TRL's: the loss of a micro-batch, scaled as its part of the optimizer step's."""
        batch = PolicyBatch(**inputs)
        inputs |= {"logps": None, "entropies": None, "hidden": None}  # the graph of a pass serves once
        scores = batch.scores or self._score(model, batch, keep_hidden=True)
        loss = self._loss(scores, batch)
        self.record(loss.metrics)
        if not self.plugins:
            return loss.loss
        with self.phases.measure("plugins"):
            hidden = [] if scores.hidden is None else [scores.hidden]
            policy = self.accelerator.unwrap_model(model)
            terms = self.plugins.term(model, policy, as_model_inputs(batch), hidden, self.accelerator.autocast)
            total: torch.Tensor = loss.loss + terms / self.current_gradient_accumulation_steps
        return total

    def _rollouts(self, rows: Sequence[Row]) -> Rollouts:
        """Completions by the policy as it is now."""
        inputs, sampler, step = self.tools.inputs, self.tools.sampler, self.state.global_step
        texts = render_prompts(inputs.processor, [row["prompt"] for row in rows])
        prompts = list(inputs.read(texts, [row["images"] for row in rows]))
        with self.phases.measure("push"):
            sampler.push(self.tools.tensors(self.accelerator.unwrap_model(self.model)), step)
        with self.phases.measure("rollout"):
            pictures = [tuple(row["images"]) for row in rows]
            completions, greedy = sampler.sample([prompt.ids for prompt in prompts], pictures)
        rollouts = Rollouts([row["sample"] for row in rows], prompts, completions, greedy)
        self.state.num_input_tokens_seen += rollouts.tokens
        self.record(rollouts.metrics())
        return rollouts

    def _padded(self, rollouts: Rollouts) -> PolicyBatch:
        """Rollouts as tensors."""
        return padded(
            rollouts,
            self.state.global_step,
            pad=self.tools.inputs.tokenizer.pad_token_id,
            drop_truncated=self.args.mask_truncated_completions,
            device=self.accelerator.device,
        )

    def _scored(self, batch: PolicyBatch) -> PolicyBatch:
        """With the log-probabilities of the policy that sampled and of its reference, and the engine's correction.

        The loss needs a pass with gradients. Where the completions serve one backward pass the weights are the same
        both times, so one pass does, and the batch carries its graph. Not under gradient checkpointing, where a kept
        graph would cost the memory that was to be saved.
        """
        args = self.args
        correction = args.vllm_importance_sampling_correction
        micro_batches = args.steps_per_generation * args.num_iterations  # that are trained on, counted with repeats
        if correction and micro_batches * args.gradient_accumulation_steps == 1 and not args.gradient_checkpointing:
            with self.phases.measure("forward_backward"):
                kept = self._score(self.model, batch, keep_hidden=True)
            batch = replace(batch, logps=kept.logps, entropies=kept.entropies, hidden=kept.hidden)
            batch = replace(batch, old_logps=kept.logps.detach())
        elif correction or args.gradient_accumulation_steps % micro_batches:
            batch = replace(batch, old_logps=self._without_gradients(self.model, batch))
        if args.beta:
            batch = replace(batch, reference_logps=self._reference(batch))
        return self._corrected(batch) if correction else batch

    def _corrected(self, batch: PolicyBatch) -> PolicyBatch:
        """With weights for the engine's rounding, after a check that it is no more than that."""
        args = self.args
        assert batch.old_logps is not None
        weights, metrics = engine_weights(
            batch.old_logps,
            batch.engine_logps,
            batch.completion_mask,
            args.vllm_importance_sampling_mode,
            args.vllm_importance_sampling_clip_min,
            args.vllm_importance_sampling_clip_max,
        )
        self._compared(batch, batch.old_logps, metrics)
        return replace(batch, importance=weights)

    def _compared(self, batch: PolicyBatch, logps_BT: torch.Tensor, metrics: Mapping[str, torch.Tensor]) -> None:
        """Log what engine and trainer differ by, after a check that it is no more than precision explains.

        Args:
            logps_BT: of the weights that sampled.
            metrics: of `cpt.methods.engine_weights`.
        """
        policy, step = self.accelerator.unwrap_model(self.model), self.state.global_step + 1
        self.tools.gap.largest(metrics, step)
        self.tools.gap.rounding(batch, logps_BT.detach(), policy, self.accelerator.autocast, step)
        self.record(metrics)

    def _rewarded(self, rollouts: Rollouts) -> Rewards:
        """What the completions earn."""
        step = self.state.global_step
        with self.phases.measure("reward"):
            rewards = rewarded(self.tools.reward, rollouts, self.objectives, step, self.accelerator.device)
        self.record(rewards.metrics)
        if self.tools.log is not None:
            samples = rollouts.by_row(rollouts.samples)
            self.tools.log.write(step + 1, samples, rollouts.completions, rewards.rewards_B.tolist())
        return rewards

    def _advantages(self, rewards: Rewards, batch: PolicyBatch) -> torch.Tensor:
        """Of every completion [B]; where plug-ins add to the rewards, of all that it earns."""
        added = None
        if self.plugins.change_rewards:
            assert not self.tools.estimator.baseline.needs_greedy, "the greedy reward lacks what is added"
            parts = batch.cut(self.args.per_device_train_batch_size)
            with self.phases.measure("plugins"):
                added = torch.cat([self.plugins.added_reward(part) for part in parts])
        advantages, metrics = estimated(
            self.tools.estimator, rewards, self.args.num_generations, self.objectives, added, self.plugins.deviation
        )
        if self.tools.teacher is not None:
            metrics.pop("frac_reward_zero_std")  # the share from which a policy gradient would learn nothing
        self.record(metrics)
        return advantages

    def _with_teacher(self, batch: PolicyBatch, rows: Sequence[Row], teacher: Demonstrations) -> PolicyBatch:
        """With what the teacher is asked about the same completions."""
        config = self.accelerator.unwrap_model(self.model).config.get_text_config()
        limit = getattr(config, "max_position_embeddings", None)
        asked = teacher.prompts(self.tools.inputs.processor, rows, self.args.max_completion_length, limit)
        return with_teacher(batch, asked, self.tools.inputs)

    def _loss(self, scores: Scores, batch: PolicyBatch) -> Loss:
        """The policy gradient's loss; none where a teacher is imitated."""
        assert scores.entropies is not None and batch.advantages is not None
        if batch.importance is None and int(batch.step) == self.state.global_step:
            # Not compared yet. These are still the weights that sampled.
            self._compared(batch, scores.logps, engine_gap(scores.logps, batch.engine_logps, batch.completion_mask))
        if self.tools.teacher is not None:
            entropy = masked_mean(scores.entropies, batch.completion_mask)
            return Loss(scores.logps.new_zeros(()), {"entropy": entropy})
        return policy_loss(
            self.loss_settings,
            scores.logps,
            scores.entropies,
            mask_BT=batch.completion_mask,
            advantages_B=batch.advantages,
            old_logps_BT=batch.old_logps,
            reference_logps_BT=batch.reference_logps,
            engine_logps_BT=batch.engine_logps,
            weights=batch.importance,
            batch_tokens=batch.tokens,
            micro_batches=self.current_gradient_accumulation_steps,
        )

    def _score(self, model: Any, batch: PolicyBatch, most: int | None = None, *, keep_hidden: bool = False) -> Scores:
        """Log-probabilities and entropies of the completions' tokens; hidden states where plug-ins use them."""
        policy = self.accelerator.unwrap_model(model)
        with self.plugins.catching(policy) if keep_hidden else nullcontext([]) as caught:
            options: Any = {"temperature": self.args.temperature, "autocast": self.accelerator.autocast}
            scores = score(model, batch, most=most, **options)
        return replace(scores, hidden=torch.cat(caught)) if caught else scores

    def _without_gradients(self, model: Any, batch: PolicyBatch) -> torch.Tensor:
        """Log-probabilities [B, T], a micro-batch at a time."""
        with torch.no_grad(), self.phases.measure("old_logprobs"):
            return self._score(model, batch, self.args.per_device_train_batch_size).logps

    def _reference(self, batch: PolicyBatch) -> torch.Tensor:
        """Log-probabilities [B, T] of the policy that the stage started from; an adapter is taken off for it."""
        if self.ref_model is not None:
            return self._without_gradients(self.ref_model, batch)
        policy = self.accelerator.unwrap_model(self.model)
        with use_adapter(policy, adapter_name="ref" if "ref" in policy.peft_config else None):
            return self._without_gradients(self.model, batch)
