"""metrics.jsonl: one line per optimizer step, on disk as soon as the step is done."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from transformers import TrainerCallback

from cpt.common.files import append_jsonl
from cpt.rollout.timing import EVALUATE

# Names in TRL's logs → names in metrics.jsonl.
_RENAMED = {
    "frac_reward_zero_std": "frac_zero_std",  # share of completions whose group has one reward: no update from them
    "completions/mean_length": "completion_length",  # tokens
    "completions/max_length": "completion_length_max",
    "completions/clipped_ratio": "frac_truncated",  # cut off at the limit
    "sampling/sampling_logp_difference/max": "logprob_gap",  # |engine − trainer|, nats per token
    "sampling/sampling_logp_difference/mean": "logprob_gap_mean",
    "sampling/importance_sampling_ratio/min": "importance_ratio_min",
    "sampling/importance_sampling_ratio/max": "importance_ratio_max",
    "clip_ratio/region_mean": "frac_clipped",  # tokens outside the trust region
    "mean_token_accuracy": "token_accuracy",
}
_KEPT = ("loss", "reward", "reward_std", "kl", "entropy", "grad_norm", "learning_rate")
_PREFIXES = ("reward/", "answers/", "true/", "length/", "phase/", "plugin/", "baseline/", "objective/", "targets/")
# Nats per token between a policy and the very weights it starts from.
_KL_AT_START = {"float32": 1e-6, "bfloat16": 1e-2}


class StepMetrics(TrainerCallback):
    """Writes each step's numbers and stops a stage that has gone wrong.

    Args:
        path: metrics.jsonl.
        phases: seconds per phase since it was last asked.
        on_step: also told of every row.
        zero_at_start: names of KL divergences from where the stage starts → what each may be before the first step.
        before: steps of the stage's earlier trainings; rows are counted on from there.
    """

    def __init__(
        self,
        path: Path,
        phases: Callable[[], Mapping[str, float]],
        on_step: Callable[[dict[str, Any]], None] | None = None,
        zero_at_start: Mapping[str, float] | None = None,
        before: int = 0,
    ) -> None:
        self.before = before
        self.path, self.on_step, self.phases, self.zero_at_start = path, on_step, phases, zero_at_start or {}
        self.tokens = 0.0
        self.clock = time.perf_counter()

    def on_train_begin(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Start the first step's clock; a resumed stage goes on counting tokens where its checkpoint stopped."""
        self.tokens = float(state.num_input_tokens_seen)
        self.clock = time.perf_counter()

    def on_step_end(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """No checkpoint after the last step: the finished policy follows at once."""
        if state.global_step >= state.max_steps:
            control.should_save = False

    def on_save(self, args: Any, state: Any, control: Any, **_: Any) -> None:
        """Writing a checkpoint belongs to no step."""
        self.phases()
        self.clock = time.perf_counter()

    def on_log(self, args: Any, state: Any, control: Any, logs: dict[str, Any], **_: Any) -> None:
        """One line.

        Raises:
            FloatingPointError: the loss or the gradient is no longer a finite number.
            AssertionError: the policy is not its own reference at the start.
        """
        if "loss" not in logs:  # the summary at the end of training
            return
        row = {"step": self.before + state.global_step, **_renamed(logs)}
        now, spent = time.perf_counter(), self.phases()
        row["step_s"] = now - self.clock - spent.get(EVALUATE, 0.0)
        # SFT counts for its logs alone. A step on the completions of the step before adds none.
        tokens = float(logs.get("num_tokens", state.num_input_tokens_seen))
        row["tokens"] = tokens - self.tokens
        row["tokens_per_s"] = row["tokens"] / row["step_s"]
        row |= {f"phase/{name}_s": seconds for name, seconds in spent.items()}
        self.tokens, self.clock = tokens, now
        append_jsonl(self.path, row)
        if self.on_step is not None:
            self.on_step(row)
        self._check(row)

    def _check(self, row: dict[str, Any]) -> None:
        for name in ("loss", "grad_norm"):
            if not math.isfinite(row.get(name, 0.0)):
                raise FloatingPointError(f"{name} is {row[name]} at step {row['step']}; lower the learning rate")
        for name, bound in self.zero_at_start.items() if row["step"] == 1 else ():
            assert abs(row[name]) <= bound, f"KL to the stage's start ({name}) is {row[name]} before the first update"


def kl_bound(dtype: str) -> float:
    """What rounding alone may make of the KL divergence between equal policies, in nats per token."""
    return _KL_AT_START.get(dtype, _KL_AT_START["bfloat16"])


def _renamed(logs: Mapping[str, Any]) -> dict[str, Any]:
    row = {name: logs[name] for name in _KEPT if name in logs}
    row |= {new: logs[old] for old, new in _RENAMED.items() if old in logs}
    return row | {name: value for name, value in logs.items() if name.startswith(_PREFIXES)}
