"""What flows through a step of reinforcement learning, from the prompts to the loss.

Shapes: P prompts, G completions of each (a group; neighbours), B = P · G rows; T tokens of a completion.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from cpt.models.inputs import Pictures, Prompt
    from cpt.types import Completion, Sample

Parts = tuple[str, Mapping[str, float]]
"""A completion's task and the components of its reward; none if the reward failed."""


@dataclass(frozen=True)
class Rollouts:
    """The completions of a batch of prompts.

    Attributes:
        samples: P, whose prompts were asked.
        prompts: P, their token ids and pictures.
        completions: B, group by group.
        greedy: P, never trained on; empty where no baseline needs them.
    """

    samples: Sequence[Sample]
    prompts: Sequence[Prompt]
    completions: Sequence[Completion]
    greedy: Sequence[Completion] = ()

    @property
    def group_size(self) -> int:
        """G."""
        return len(self.completions) // len(self.prompts)

    def by_row(self, items: Sequence[Any]) -> list[Any]:
        """P items as B: each once for every completion of its group."""
        return [item for item in items for _ in range(self.group_size)]

    @property
    def tokens(self) -> int:
        """Of prompts and completions, row by row."""
        prompts = sum(len(prompt.ids) for prompt in self.by_row(self.prompts))
        return prompts + sum(len(one.token_ids) for one in self.completions)

    def metrics(self) -> dict[str, torch.Tensor]:
        """Lengths in tokens, and the share of completions that were cut off at the limit; named as TRL names them."""
        lengths = torch.tensor([len(one.token_ids) for one in self.completions]).float()
        cut_off = torch.tensor([one.finish_reason != "stop" for one in self.completions]).float()
        return {
            "completions/mean_length": lengths.mean(),
            "completions/min_length": lengths.min(),
            "completions/max_length": lengths.max(),
            "completions/clipped_ratio": cut_off.mean(),
        }


@dataclass(frozen=True)
class Rewards:
    """What the completions earned.

    Attributes:
        rewards_B: NaN where the reward failed: such a row gets no advantage and counts in no mean.
        parts: B, where components are weighed; otherwise empty.
        greedy_P: of the greedy completions; None without them.
        metrics: what the reward tells of this batch.
    """

    rewards_B: torch.Tensor
    parts: Sequence[Parts]
    greedy_P: torch.Tensor | None
    metrics: Mapping[str, float]


@dataclass(frozen=True)
class Scores:
    """A model's forward pass over the completions of B rows.

    Attributes:
        logps: [B, T], log-probabilities of the tokens.
        entropies: [B, T], of the distributions they were drawn from; None of a reference.
        hidden: [B, L, H], what the output layer was given, for plug-ins; None where none asks for it.
    """

    logps: torch.Tensor
    entropies: torch.Tensor | None
    hidden: torch.Tensor | None = None


@dataclass(frozen=True)
class PolicyBatch:
    """Rows for the loss. TRL shuffles and cuts them as columns; a column is a tensor, a list, or None.

    Attributes:
        prompt_ids, prompt_mask: [B, P'], padded on the left.
        completion_ids, completion_mask: [B, T], padded on the right. A completion that is masked out counts nowhere.
        pictures: B, what belongs to each row's pictures.
        engine_logps: [B, T], as sampled.
        step: scalar, optimizer steps done by the policy that sampled.
        tokens: scalar, completion tokens of all rows that were sampled together.
        advantages: [B].
        old_logps: [B, T], of the policy that sampled by its own forward pass; None if that is the loss's pass.
        importance: [B, T] or [B, 1], π_old / π_engine, cut; None without correction.
        reference_logps: [B, T], of the KL term's reference; None without it.
        teacher_ids, teacher_mask: [B, P''], other prompts for the same completions; None where there is no teacher.
        logps, entropies, hidden: of a pass whose graph the loss can take over (`Scores`); None otherwise.
    """

    prompt_ids: torch.Tensor
    prompt_mask: torch.Tensor
    completion_ids: torch.Tensor
    completion_mask: torch.Tensor
    pictures: Sequence[Pictures]
    engine_logps: torch.Tensor
    step: torch.Tensor
    tokens: torch.Tensor
    advantages: torch.Tensor | None = None
    old_logps: torch.Tensor | None = None
    importance: torch.Tensor | None = None
    reference_logps: torch.Tensor | None = None
    teacher_ids: torch.Tensor | None = None
    teacher_mask: torch.Tensor | None = None
    logps: torch.Tensor | None = None
    entropies: torch.Tensor | None = None
    hidden: torch.Tensor | None = None

    def columns(self) -> dict[str, Any]:
        """As TRL takes them; `PolicyBatch(**columns)` is the way back."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def rows(self, chosen: slice) -> PolicyBatch:
        """Some of the rows."""
        columns = self.columns()
        whole = {name for name, value in columns.items() if value is None or getattr(value, "ndim", 1) == 0}
        return replace(self, **{name: value[chosen] for name, value in columns.items() if name not in whole})

    def cut(self, size: int) -> Iterator[PolicyBatch]:
        """In parts of `size` rows."""
        for start in range(0, len(self.completion_ids), size):
            yield self.rows(slice(start, start + size))

    @property
    def scores(self) -> Scores | None:
        """The pass that the loss can take over."""
        return None if self.logps is None else Scores(self.logps, self.entropies, self.hidden)
