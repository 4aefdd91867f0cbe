"""Our advantages in place of TRL's, and the greedy completions that some of them are taken against."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import torch
from accelerate.utils import gather
from trl import GRPOConfig

from cpt.methods.advantages import GROUP_MEAN, Baseline, advantages, one_reward

if TYPE_CHECKING:
    # The mixin stands before TRL's trainer in a class's bases.
    from trl import GRPOTrainer as _Trainer

    from cpt.train.objectives import Parts
else:
    _Trainer = object


class Advantages(_Trainer):
    """For GRPOTrainer behind a rollout pool, with one reward function. Put it before `RolloutMixin`.

    Args:
        baseline: what a reward is compared with; the group's mean is TRL's own.
    """

    def __init__(self, *args: Any, baseline: Baseline = GROUP_MEAN, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.baseline = baseline
        self.vllm_generation.with_greedy = baseline.needs_greedy
        self._rewards_N: torch.Tensor | None = None
        self._greedy_N: torch.Tensor | None = None
        self._one_P: torch.Tensor | None = None
        self._divisor: float | None = None

    def _calculate_rewards(self, inputs: list[dict[str, Any]], *args: Any, **kwargs: Any) -> torch.Tensor:
        """Rewards of the rows of all processes; those of the greedy completions are kept beside them."""
        rewards = self._weighed(super()._calculate_rewards(inputs, *args, **kwargs))
        assert rewards.shape[1] == 1, "a stage has one reward function"
        self._rewards_N, self._one_P = rewards[:, 0], None
        self._greedy_N = self._reward_greedy(inputs) if self.baseline.needs_greedy else None
        return rewards

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        added = self._added_reward(output)
        if added is not None:
            assert self._rewards_N is not None and not self.baseline.needs_greedy, (
                "the greedy reward lacks what is added"
            )
            self._rewards_N = self._rewards_N + gather(added)
        self._divisor = self._deviation()
        start = self.accelerator.process_index * len(inputs)
        output["advantages"] = (found := self._advantages())[start : start + len(inputs)]
        # TRL asks whether a group has one reward. A group of one always has; under `scale_rewards: batch` it asks for
        # the whole batch; and it knows neither what was added nor components that have advantages of their own.
        if self._greedy_N is not None:
            self._metrics["train"]["frac_reward_zero_std"][-1] = (found == 0).float().mean().item()
        elif added is not None or self.scale_rewards == "batch" or self._one_P is not None:
            assert self._rewards_N is not None
            rewards_PG = self._rewards_N.view(-1, self.num_generations)
            wasted = one_reward(rewards_PG) if self._one_P is None else self._one_P
            self._metrics["train"]["frac_reward_zero_std"][-1] = wasted.float().mean().item()
        return output

    def _weighed(self, rewards_N1: torch.Tensor) -> torch.Tensor:
        """What becomes of the rewards of all processes' rows, [N, 1]; here they stay as they are."""
        return rewards_N1

    def _weighed_greedy(self, rewards: list[float]) -> list[float]:
        """What becomes of the rewards of this process's greedy completions; here they stay as they are."""
        return rewards

    def _added_reward(self, output: Mapping[str, Any]) -> torch.Tensor | None:
        """What is added to the rewards of this process's rows before advantages are taken [N]; None for nothing."""
        return None

    def _deviation(self) -> float | None:
        """What advantages are divided by in place of the method's own scale; None for that."""
        return None

    def _reward_greedy(self, inputs: list[dict[str, Any]]) -> torch.Tensor:
        """Reward of the greedy completion of each row's prompt, by the same function; NaN where it gives none. [N]"""
        (reward,) = self.reward_funcs
        generation = self.vllm_generation
        firsts = [
            inputs[row] | {"finish_reason": completion.finish_reason}
            for (row, _), completion in zip(generation.groups, generation.greedy, strict=True)
        ]
        ids = [completion.token_ids for completion in generation.greedy]
        texts = self.processing_class.batch_decode(ids, skip_special_tokens=True)
        columns = {key: [row[key] for row in firsts] for key in firsts[0] if key != "prompt"}
        own = [math.nan if value is None else value for value in reward(texts, completion_ids=ids, **columns)]
        found = self._weighed_greedy(own)
        sizes = torch.tensor([size for _, size in generation.groups])
        rewards: torch.Tensor = gather(torch.tensor(found).repeat_interleave(sizes).to(self.accelerator.device))
        if not rewards.isnan().all():
            self._log_metric("baseline/greedy", rewards.nanmean().item())
        return rewards

    def _weighed_advantages(self, parts: Sequence[Parts], weight: Callable[[str], float]) -> torch.Tensor:
        """Σ_k λ_k · A_k: the advantages of every component by itself, weighed. Rows of all processes, [N].

        Args:
            parts: of the batch's rows, of all processes.
            weight: λ of `source/component`.
        """
        assert not self.baseline.needs_greedy, "recipes refuse it"
        total = torch.zeros(len(parts), device=self.accelerator.device)
        self._one_P = torch.ones(len(parts) // self.num_generations, dtype=torch.bool)  # until a component differs
        for name in sorted({name for _, found in parts for name in found}):
            values = torch.tensor([found.get(name, math.nan) for _, found in parts]).view(-1, self.num_generations)
            weights = torch.tensor([weight(f"{task}/{name}") if name in found else 0.0 for task, found in parts])
            own = advantages(self.baseline, values, scale=self.scale_rewards).reshape(-1)
            total += (weights * own).to(total.device)
            self._one_P &= one_reward(values)
        return total

    def _advantages(self) -> torch.Tensor:
        """Advantages of the last batch's rows, of all processes. [N]"""
        assert self._rewards_N is not None
        rewards_PG, greedy = self._rewards_N.view(-1, self.num_generations), self._greedy_N
        greedy_P = None if greedy is None else greedy.view(-1, self.num_generations)[:, 0]
        found = advantages(
            self.baseline, rewards_PG, scale=self.scale_rewards, greedy_P=greedy_P, deviation=self._divisor
        )
        return found.reshape(-1)


class OneCompletionConfig(GRPOConfig):
    """GRPOConfig for one completion per prompt, which TRL refuses: it knows no baseline but the group's."""

    num_generations: int

    def __post_init__(self) -> None:
        """TRL's checks, with a number that they let pass."""
        assert self.num_generations == 1
        self.num_generations = self.per_device_train_batch_size * self.steps_per_generation
        super().__post_init__()
        self.num_generations = 1
