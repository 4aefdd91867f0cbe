"""How an engine of ours picks tokens: a random stream per completion, so that none depends on its neighbours."""

from __future__ import annotations

from collections.abc import Sequence

import torch

_NUMBERS = 1 << 10  # drawn at a time per completion; what is drawn must not depend on the batch


class Chooser:
    """Picks the next tokens of a batch of completions.

    Args:
        seeds: one per completion.
        temperature: 0 for the likeliest token.
        banned: ids that are never picked.
    """

    def __init__(self, seeds: Sequence[int], temperature: float, banned: Sequence[int]) -> None:
        self.seeds, self.temperature, self.banned = list(seeds), temperature, list(banned)
        self.noise: Noise | None = None

    def __call__(self, logits: torch.Tensor, step: int, rows: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Next tokens and their log-probabilities under what is sampled from, each [R].

        The token of the largest p_i / e_i with e_i standard exponential is distributed as p (the Gumbel-max trick).

        Args:
            logits: [R, vocabulary].
            step: number of the token; steps are asked for in order.
            rows: int [R], places among `seeds`; never more than in the step before.
        """
        scores = logits.float() / (self.temperature or 1.0)
        scores[:, self.banned] = -torch.inf
        logprobs = torch.log_softmax(scores, -1)
        picked = logprobs
        if self.temperature:
            self.noise = self.noise or Noise(self.seeds, logits.shape[-1])
            picked = logprobs - self.noise.at(step, rows).to(logprobs).log()
        chosen = picked.argmax(-1)
        return chosen, logprobs.gather(1, chosen[:, None]).squeeze(1)


class Noise:
    """Standard exponential numbers, one per vocabulary entry and token, from a stream of its own per completion.

    Args:
        seeds: one per completion.
        vocabulary: numbers per token.
    """

    def __init__(self, seeds: Sequence[int], vocabulary: int) -> None:
        self.generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        self.vocabulary = vocabulary
        self.tokens = max(1, _NUMBERS // vocabulary)
        self.drawn: torch.Tensor | None = None

    def at(self, step: int, rows: torch.Tensor) -> torch.Tensor:
        """Numbers [len(rows), vocabulary] of token `step`; ask for steps in order, for rows that never grow."""
        place = step % self.tokens
        if place == 0:
            self.drawn = torch.ones(len(self.generators), self.tokens, self.vocabulary)
            for row in rows.tolist():
                torch.rand(self.tokens, self.vocabulary, generator=self.generators[row], out=self.drawn[row])
            self.drawn.log_().neg_()  # seven times as quick as `exponential_`
        assert self.drawn is not None
        return self.drawn[rows.cpu(), place]
