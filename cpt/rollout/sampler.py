"""Completions of a policy in training from the rollout pool."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from cpt.rollout.engine import request_seed
from cpt.types import Completion, GenerationRequest, SamplingParams

if TYPE_CHECKING:
    import torch
    from PIL.Image import Image

    from cpt.rollout.pool import RolloutPool

_RANK = 0  # a stage is trained by one process; seeds leave room for more


class PolicyWeights:
    """Pushes the weights of a policy in training, those of one step once.

    Args:
        pool: a handle through which others push, too, at most between two pushes of this one.
        key: of the training, for the version.
    """

    def __init__(self, pool: RolloutPool, key: str) -> None:
        self.pool, self.key = pool, key
        self._run = uuid.uuid4().hex[:8]  # two trainers' weights never share a version
        self._step = -1

    def push(self, tensors: Iterable[tuple[str, torch.Tensor]], step: int) -> str:
        """Give the engines the weights that `step` optimizer steps have made, unless they have them. Their version."""
        if step != self._step:
            self._step = step
            self.pool.push(tensors, self._version)
        return self._version

    @property
    def _version(self) -> str:
        return f"{self.key}:{self._step}:{self._run}"


class PolicySampler(PolicyWeights):
    """Pushes the policy's weights, and asks for completions by just these weights.

    Args:
        pool: a handle that nobody else pushes through.
        key: what the random streams depend on beside step and row, e.g. run seed and stage.
        max_tokens: of a completion.
        group: completions of each prompt.
        greedy: whether to ask for a greedy completion of every prompt, too.
    """

    def __init__(
        self, pool: RolloutPool, key: str, *, max_tokens: int, temperature: float, group: int, greedy: bool = False
    ) -> None:
        super().__init__(pool, key)
        self.sampled = SamplingParams(max_tokens, temperature, group)
        self.greedy = SamplingParams(max_tokens, temperature=0.0) if greedy else None

    def sample(
        self, prompts: Sequence[list[int]], images: Sequence[tuple[Image, ...]]
    ) -> tuple[list[Completion], list[Completion]]:
        """Completions of the prompts, group by group, and a greedy one of each if they are asked for.

        A prompt's random stream depends on run, stage, step and row; not on attempts or engines.
        """
        requests = [
            GenerationRequest(ids, pictures, request_seed(self.key, self._step, _RANK, number * self.sampled.n))
            for number, (ids, pictures) in enumerate(zip(prompts, images, strict=True))
        ]
        found = self.pool.generate(requests, self.sampled, version=self._version)
        greedy = [] if self.greedy is None else self.pool.generate(requests, self.greedy, version=self._version)
        return [one for group in found for one in group], [one for (one,) in greedy]
