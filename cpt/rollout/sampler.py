"""The rollout pool behind TRL's trainers.

TRL asks a `VLLMGeneration` object for two things: `sync_weights` before the first generation with new weights, and
`generate`. `PoolGeneration` does both with the pool; `RolloutMixin` puts it into a trainer. The trainer is built with
`use_vllm=False`, so that TRL starts no engine of its own, and told otherwise afterwards: importance-sampling correction
and the comparison of log-probabilities stay TRL's.
"""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from contextlib import nullcontext
from typing import TYPE_CHECKING, Any

from trl.generation.vllm_generation import VLLMGeneration

from cpt.recipe.schema import default_logprob_gap
from cpt.rollout.engine import check_gap, request_seed
from cpt.rollout.sampling import ban_tokens, gap_of, group_rows, refuse_truncation
from cpt.rollout.timing import TimedTrainer
from cpt.types import Completion, GenerationRequest, SamplingParams

if TYPE_CHECKING:
    import torch

    from cpt.rollout.pool import RolloutPool

_GAP_METRIC = "sampling/sampling_logp_difference/max"


class PoolGeneration(VLLMGeneration):
    """TRL's generation backend with completions from the rollout pool.

    Every rank asks the pool for its own prompts, so nothing is gathered or broadcast. Weights are pushed by the main
    process alone.

    Attributes:
        latest: the last call's completions, one per row.
        groups: the last call's requests, as (first row, number of rows).
        with_greedy: whether to ask for a greedy completion of every request, too.
        greedy: the last call's greedy completions, one per request; never trained on.
    """

    def __init__(self, trainer: Any, pool: RolloutPool, key: str, **options: Any) -> None:
        self.trainer, self.pool, self.key = trainer, pool, key
        self.run = uuid.uuid4().hex[:8]  # two trainers' weights never share a version
        self.version = ""
        self.calls_of_step = (-1, 0)
        self.latest: list[Completion] = []
        self.groups: list[tuple[int, int]] = []
        self.with_greedy = False
        self.greedy: list[Completion] = []
        super().__init__(logprobs=0, **options)

    def _init_vllm(self) -> None:
        """There is no engine to start."""
        self.mode = "pool"

    def sync_weights(self) -> None:
        """Push the policy's weights, adapters merged, under a new version."""
        self.version = f"{self.key}:{self.trainer.state.global_step}:{self.run}"
        with self.trainer.phases.measure("push"):
            if self.accelerator.is_main_process:
                self.pool.push(self._iter_named_params(), self.version)
            else:
                for _ in self._iter_named_params():  # takes part in the gathering
                    pass
            self.accelerator.wait_for_everyone()

    def generate(
        self, prompts: list[list[int]], images: list[Any] | None, num_generations: int, profiler: Any = None
    ) -> tuple[list[list[int]], list[list[int]], list[list[list[float]]], None]:
        """See `VLLMGeneration.generate`: rows of prompts, completions and log-probabilities in the order of `prompts`.

        Equal neighbours become one request with several completions.
        """
        with self.trainer.phases.measure("rollout"), profiler or nullcontext():
            groups = group_rows(prompts, images, num_generations)
            requests = [
                GenerationRequest(prompts[row], tuple((images[row] if images else None) or ()), self._seed(row))
                for row, _ in groups
            ]
            completions = self._ask(requests, [size for _, size in groups])
            if self.with_greedy:
                params = SamplingParams(self.max_completion_length, temperature=0.0)
                self.greedy = [one for (one,) in self.pool.generate(requests, params, version=self.version)]
        self.latest, self.groups = completions, groups
        ids = [completion.token_ids for completion in completions]
        return list(prompts), ids, [[[value] for value in one.logprobs] for one in completions], None

    def _ask(self, requests: Sequence[GenerationRequest], sizes: Sequence[int]) -> list[Completion]:
        """One call per distinct group size; there is one size unless a batch cuts a group in two."""
        answers: dict[int, list[Completion]] = {}
        for size in sorted(set(sizes)):
            chosen = [i for i, one in enumerate(sizes) if one == size]
            params = SamplingParams(self.max_completion_length, self.temperature, size)
            found = self.pool.generate([requests[i] for i in chosen], params, version=self.version)
            answers |= dict(zip(chosen, found, strict=True))
        return [completion for i in range(len(requests)) for completion in answers[i]]

    def _seed(self, row: int) -> int:
        """A row's stream depends on the run, the stage, the step, the rank and the row; not on attempts or engines."""
        return request_seed(self.key, self.trainer.state.global_step, self.accelerator.process_index, row)


class RolloutMixin(TimedTrainer):
    """Rollouts from the pool for TRL's GRPOTrainer and RLOOTrainer; put it before the trainer's class.

    Adds what belongs to sampling: the ban on vision tokens, a bound on the gap of log-probabilities at every step, and
    `phases` with the seconds of a step: push, rollout, old_logprobs, forward_backward, optimizer, rest.

    The policy that is sampled, trained and evaluated is the model with vision tokens excluded: a completion with an
    image placeholder would make the forward pass look for an image. The engines exclude them before the softmax; the
    trainer does the same by a constant bias of its output layer. Otherwise its log-probabilities would differ from the
    engines' by log(1 - m), with m what the model puts on those tokens: a millionth for a healthy policy, but an
    unstable one would look as if engine and trainer held different weights.

    Args:
        rollout_pool: a handle that nobody else pushes through.
        rollout_key: what the random streams depend on beside step, rank and row, e.g. run seed and stage; None for the
            trainer's own seed.
        max_logprob_gap: bound on |engine - trainer|, in nats per token; None for the engines' precision's own.
    """

    def __init__(
        self,
        *args: Any,
        rollout_pool: RolloutPool,
        rollout_key: str | None = None,
        max_logprob_gap: float | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(*args, **kwargs)
        trainer: Any = self
        if trainer.use_vllm:
            raise ValueError("use_vllm must be off: rollouts come from the rollout pool")
        refuse_truncation(trainer)
        for model in (trainer.model, getattr(trainer, "ref_model", None)):
            if model is not None:
                ban_tokens(trainer.accelerator.unwrap_model(model))
        self.max_logprob_gap = max_logprob_gap or default_logprob_gap(rollout_pool.settings.dtype)
        self.vllm_generation = PoolGeneration(
            self,
            rollout_pool,
            str(trainer.args.seed) if rollout_key is None else rollout_key,
            model=trainer.model,
            accelerator=trainer.accelerator,
            processing_class=trainer.processing_class,
            temperature=trainer.temperature,
            max_completion_length=trainer.max_completion_length,
        )
        self.use_vllm, self.vllm_mode, self._last_loaded_step = True, "pool", -1

    def _generate_and_score_completions(self, *args: Any, **kwargs: Any) -> Any:
        trainer: Any = self
        output = super()._generate_and_score_completions(*args, **kwargs)  # type: ignore[misc]
        metrics = trainer._metrics["train" if trainer.model.training else "eval"]
        if not getattr(trainer, "vllm_importance_sampling_correction", False) and "old_per_token_logps" in output:
            logps = output["old_per_token_logps"].tolist()
            metrics[_GAP_METRIC].append(gap_of(self.vllm_generation.latest, logps))  # RLOO, where TRL doesn't compare
        if metrics.get(_GAP_METRIC):
            check_gap(metrics[_GAP_METRIC][-1], self.max_logprob_gap, f"step {trainer.state.global_step + 1}")
        return output

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> Any:
        """Without importance-sampling correction TRL doesn't compare log-probabilities: the loss's own serve."""
        self._sampled = inputs if "sampling_per_token_logps" in inputs else None
        return super()._compute_loss(model, inputs)  # type: ignore[misc]

    def _get_per_token_logps_and_entropies(self, *args: Any, **kwargs: Any) -> Any:
        inside = nullcontext() if self._in_loss else self.phases.measure("old_logprobs")
        with inside:
            result = super()._get_per_token_logps_and_entropies(*args, **kwargs)  # type: ignore[misc]
        self._compare(result[0])
        return result

    @property
    def _in_loss(self) -> bool:
        return self.phases.innermost == "forward_backward"

    def _compare(self, logps_BT: torch.Tensor) -> None:
        """Log and check the gap where TRL does not: GRPO without correction, on the first update after a rollout."""
        trainer: Any = self
        inputs, self._sampled = getattr(self, "_sampled", None), None
        if inputs is None or trainer.vllm_importance_sampling_correction:
            return
        if trainer.state.global_step != trainer._last_loaded_step:
            return  # the weights have moved on since the rollout
        difference = (logps_BT.detach() - inputs["sampling_per_token_logps"]).abs()
        difference = difference[inputs["completion_mask"].bool()]
        trainer._metrics["train"][_GAP_METRIC].append(difference.max().item())
        trainer._metrics["train"][_GAP_METRIC.replace("max", "mean")].append(difference.mean().item())
        check_gap(difference.max().item(), self.max_logprob_gap, f"step {trainer.state.global_step + 1}")
