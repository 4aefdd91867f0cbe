"""What any task needs beside its samples: prompt and target in a format, scores under a metric, a default reward."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from functools import cached_property
from typing import Any, Literal

from cpt.tasks.prompts import Format
from cpt.tasks.scoring import Scorer
from cpt.types import AnsweredBy, PromptStyle, Sample, Split, TargetStyle
from rewards.score import Score


class FormattedTask(ABC):
    """A `cpt.types.Task` but for its samples.

    Attributes:
        format: of prompts and targets.
        metric: a name in `rewards.metrics.metric_names`.
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
    answered_by: AnsweredBy = "generation"

    @abstractmethod
    def samples(self, split: Split, n: int, seed: int = 0) -> list[Sample]:
        """See `cpt.types.Task.samples`."""

    def messages(self, sample: Sample, prompt: PromptStyle) -> list[dict[str, Any]]:
        """See `cpt.tasks.prompts.Format.messages`."""
        return self.format.messages(sample, prompt)

    def target(self, sample: Sample, style: TargetStyle, prompt: PromptStyle) -> str:
        """See `cpt.tasks.prompts.Format.target`."""
        return self.format.target(sample, style, prompt)

    @cached_property
    def scorer(self) -> Scorer:
        """Its metric, ready to score. ValueError if there is no such metric."""
        return Scorer(self.metric, {})

    def score(self, sample: Sample, completion: str, prompt: PromptStyle) -> Score:
        """See `cpt.tasks.scoring.Scorer.score`."""
        return self.scorer.score(sample, completion, prompt)

    def reward(self, sample: Sample, completion: str, prompt: PromptStyle) -> Score:
        """See `cpt.tasks.scoring.Scorer.reward`."""
        return self.scorer.reward(sample, completion, prompt)
