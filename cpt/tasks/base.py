"""What any task needs beside its samples: prompt and target in a format, scores under a metric, a default reward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import Any, Literal

from cpt.tasks import scoring
from cpt.tasks.prompts import Format
from cpt.types import PromptStyle, Sample, Split, TargetStyle
from rewards.score import Score


class FormattedTask(ABC):
    """A `cpt.types.Task` but for its samples.

    Attributes:
        format: of prompts and targets.
        metric: a name in `cpt.tasks.scoring.METRICS`.
        max_tokens: by prompt, of a completion.
        answered_by: generation; or likelihood: options, or the text itself, are scored by log-probabilities.
    """

    name: str
    family: str
    role: Literal["stage", "general"] = "stage"
    about: str
    format: Format
    metric: str = "exact"
    max_tokens: Mapping[PromptStyle, int]
    answered_by: Literal["generation", "likelihood"] = "generation"

    @abstractmethod
    def samples(self, split: Split, n: int, seed: int = 0) -> list[Sample]:
        """See `cpt.types.Task.samples`."""

    def messages(self, sample: Sample, prompt: PromptStyle) -> list[dict[str, Any]]:
        """See `cpt.tasks.prompts.Format.messages`."""
        return self.format.messages(sample, prompt)

    def target(self, sample: Sample, style: TargetStyle, prompt: PromptStyle) -> str:
        """See `cpt.tasks.prompts.Format.target`."""
        return self.format.target(sample, style, prompt)

    def score(self, sample: Sample, completion: str, prompt: PromptStyle) -> Score:
        """See `cpt.tasks.scoring.score`."""
        return scoring.score(sample, completion, prompt, self.metric)

    def reward(self, sample: Sample, completion: str, prompt: PromptStyle) -> Score:
        """See `cpt.tasks.scoring.accuracy_reward`."""
        return scoring.accuracy_reward(sample, completion, prompt)
