"""Supervised fine-tuning. Whose answers it imitates is `cpt.methods.targets`."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import ClassVar, Literal

from cpt.methods.setting import BaseMethod, BatchSize, LearningRate, Rows
from cpt.methods.targets import Gold, SavedRollouts, SelfSampled, Targets
from cpt.types import PromptStyle, TargetStyle


class SFT(BaseMethod):
    """Supervised fine-tuning; the loss covers the completion only.

    `data` says whose answers are imitated, gold ones unless it says otherwise (`cpt.methods.targets`). Of gold answers
    `target_style` is the style: `dataset` the bare answer, `policy` the format that the prompt asks for, `think` the
    worked solution. The default learning rate is that of arXiv 2507.05386.
    """

    own: ClassVar[frozenset[str]] = BaseMethod.own | {"target_style", "data"}
    trl_config: ClassVar[tuple[str, str]] = ("sft_config", "SFTConfig")
    needs_rollouts: ClassVar[bool] = False

    type: Literal["sft"]
    target_style: TargetStyle = "policy"
    data: Targets = Gold(type="gold")
    learning_rate: LearningRate = 1e-5
    per_device_train_batch_size: Rows = 64
    loss_type: Literal["nll", "dft"] = "nll"

    @property
    def title(self) -> str:
        """Names what is imitated: it decides as much as the method."""
        if isinstance(self.data, SavedRollouts):
            return f"sft (rollouts of {self.data.arm})"
        if isinstance(self.data, SelfSampled):
            return "sft (self)" if self.data.refresh == "stage" else "sft (self, each epoch)"
        return f"sft ({self.target_style})"

    @property
    def needs_pool(self) -> bool:
        """Only the policy's own answers have to be sampled."""
        return isinstance(self.data, SelfSampled)

    def completion_limit(self, prompt: PromptStyle, limits: Mapping[PromptStyle, int]) -> int | None:
        """Of the policy's own answers."""
        if not isinstance(self.data, SelfSampled):
            return None
        return self.data.max_completion_length or limits[prompt]

    def styles(self, prompt: PromptStyle) -> set[PromptStyle]:
        """A policy taught to reason does so whatever the prompt asks for."""
        return {prompt, "think"} if self.target_style == "think" else {prompt}

    def batch(self) -> BatchSize:
        """A batch holds one row per sample."""
        rows = self.per_device_train_batch_size * self.gradient_accumulation_steps
        return BatchSize(samples=rows, completions=rows, steps=1)

    def problems(self) -> Iterator[tuple[str, str]]:
        """Also: sampled completions are in whatever style they are."""
        yield from super().problems()
        if self.data.type != "gold" and self.target_style != "policy":
            yield "target_style", f"is the style of gold answers, and data.type is {self.data.type}; leave it out"
