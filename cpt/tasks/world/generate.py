"""The built-in model's generation loop, for a model so small that what `generate()` does around it would cost most.

Each prompt and each picture is encoded once for all its completions, the key-value cache is not copied for each token,
and finished rows leave the batch.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    Choose = Callable[[torch.Tensor, int, torch.Tensor], tuple[torch.Tensor, torch.Tensor]]
    """From logits [R, V], the number of the token and the rows' places among all completions [R] to the next tokens
    and their log-probabilities, each [R]."""

_COMPACT_BELOW = 0.75  # share of rows still running at which the others are dropped from the batch


def generate(
    model: Any, inputs: dict[str, torch.Tensor], choose: Choose, *, n: int, limit: int, stop: tuple[int, ...], pad: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """`n` completions for each of B prompts: tokens and log-probabilities [B * n, limit]; `pad` and 0 after the end.

    Args:
        inputs: the model's arguments for B prompts, padded on the left.
        choose: picks the next tokens.
        limit: tokens of a completion at most.
        stop: ids that end a completion.
    """
    device = inputs["input_ids"].device
    mask = torch.nn.functional.pad(inputs["attention_mask"], (0, limit), value=1).repeat_interleave(n, 0)
    width = inputs["input_ids"].shape[1]
    output = model(**inputs, use_cache=True, logits_to_keep=1)
    position = inputs["attention_mask"].sum(1)
    if "position_ids" not in inputs:
        position = position + output.rope_deltas.flatten()
    position = position.repeat_interleave(n)
    cache = roomy(output.past_key_values, n, limit)
    logits = output.logits[:, -1].repeat_interleave(n, 0)

    rows = torch.arange(len(logits), device=device)  # of the completions still in the batch
    running = torch.ones_like(rows, dtype=torch.bool)
    ends = torch.tensor(stop, device=device)
    tokens = torch.full((len(rows), limit), pad, device=device)
    logprobs = torch.zeros(len(rows), limit, device=device)
    for step in range(limit):
        chosen, logprob = choose(logits, step, rows)
        tokens[rows[running], step] = chosen[running]
        logprobs[rows[running], step] = logprob[running]
        running = running & ~torch.isin(chosen, ends)
        left = int(running.sum())
        if left == 0 or step + 1 == limit:
            break
        if left <= _COMPACT_BELOW * len(rows):
            kept = running.nonzero().flatten()
            rows, chosen, position, mask = rows[kept], chosen[kept], position[kept], mask[kept]
            cache.batch_select_indices(kept)
            running = running[kept]
        logits = model(
            input_ids=chosen[:, None],
            attention_mask=mask[:, : width + step + 1],
            position_ids=(position + step)[:, None],
            past_key_values=cache,
            use_cache=True,
            logits_to_keep=1,
        ).logits[:, -1]
    return tokens, logprobs


def roomy(cache: Any, repeats: int, room: int) -> Any:
    """A key-value cache with every row `repeats` times, neighbours together, and memory for `room` more tokens.

    transformers' own dynamic cache copies all keys and values for each new token.
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer

    class RoomyLayer(DynamicLayer):
        """Keys and values of one layer in a buffer that is longer than they are."""

        def __init__(self, layer: Any) -> None:
            super().__init__()
            self.length = layer.keys.shape[-2]
            self.keys, self.values = (self._widened(old) for old in (layer.keys, layer.values))
            self.dtype, self.device, self.is_initialized = self.keys.dtype, self.keys.device, True

        def _widened(self, old: torch.Tensor) -> torch.Tensor:
            rows, heads, length, size = old.shape
            buffer = old.new_empty(rows * repeats, heads, length + room, size)
            buffer[:, :, :length] = old.repeat_interleave(repeats, 0)
            return buffer

        def update(
            self, key_states: torch.Tensor, value_states: torch.Tensor, *args: Any, **kwargs: Any
        ) -> tuple[torch.Tensor, torch.Tensor]:
            """Append, and return everything so far."""
            start, self.length = self.length, self.length + key_states.shape[-2]
            self.keys[:, :, start : self.length] = key_states
            self.values[:, :, start : self.length] = value_states
            return self.keys[:, :, : self.length], self.values[:, :, : self.length]

        def get_seq_length(self) -> int:
            """Tokens so far."""
            return int(self.length)

    result = DynamicCache()
    result.layers = [RoomyLayer(layer) for layer in cache.layers]
    return result
