"""Vision attention for many small pictures.

transformers' Qwen2.5-VL and Qwen3-VL towers attend inside each picture (or window) separately. With `sdpa` they do so in
a Python loop, one kernel call per picture and layer, forward and backward: for a batch of 96 pictures of 6 x 6 patches
that is 288 calls of a few microseconds' work each. Pictures of equal size can share one call. `batch_images`
gives a loaded model that one call; nothing else of the model changes, and a saved folder does not know of it.

The way in is transformers' own: an attention function registered under a name that contains "flash" is handed the packed
tokens and their boundaries (`cu_seq_lens_q`) instead of one picture at a time.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, TypeVar

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel

    ModelT = TypeVar("ModelT", bound=PreTrainedModel)

NAME = "cpt_batched_flash"
"""Name in transformers' attention registry; it must contain "flash" (see the module's text)."""


def packed_attention(
    query_1HSD: torch.Tensor,
    key_1HSD: torch.Tensor,
    value_1HSD: torch.Tensor,
    boundaries: torch.Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
) -> torch.Tensor:
    """Full attention inside each segment of a packed sequence, segments of equal length in one kernel call.

    Args:
        query_1HSD: [1, heads, tokens, head size]; `key_1HSD` and `value_1HSD` alike.
        boundaries: int [segments + 1], cumulative segment lengths, first 0, last the number of tokens.
        scaling: factor on the scores; None for 1/sqrt(head size).
        dropout: probability of dropping an attention weight.

    Returns:
        [1, tokens, heads, head size], as transformers' attention functions return it.
    """
    import torch

    lengths = boundaries.diff()
    distinct = torch.unique(lengths).tolist()
    states = [x[0].transpose(0, 1) for x in (query_1HSD, key_1HSD, value_1HSD)]  # each [tokens, heads, head size]

    def attend(length: int, chosen: torch.Tensor | None) -> torch.Tensor:
        """Attention over all segments of one length; `chosen` holds their token positions, None for every token."""
        query, key, value = (
            (x if chosen is None else x[chosen]).unflatten(0, (-1, length)).transpose(1, 2) for x in states
        )
        out = torch.nn.functional.scaled_dot_product_attention(query, key, value, scale=scaling, dropout_p=dropout)
        return out.transpose(1, 2).flatten(0, 1)

    if len(distinct) == 1:
        return attend(distinct[0], None)[None]
    starts = boundaries[:-1]
    positions = [
        (starts[lengths == length, None] + torch.arange(length, device=starts.device)).flatten() for length in distinct
    ]
    outputs = torch.cat([attend(length, chosen) for length, chosen in zip(distinct, positions, strict=True)])
    return outputs[torch.argsort(torch.cat(positions))][None]


def _attention_function(
    module: torch.nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    *,
    cu_seq_lens_q: torch.Tensor,
    scaling: float | None = None,
    dropout: float = 0.0,
    **_: Any,
) -> tuple[torch.Tensor, None]:
    """`packed_attention` in the shape transformers' attention registry wants."""
    assert attention_mask is None, "the vision tower attends fully inside each segment"
    return packed_attention(query, key, value, cu_seq_lens_q.long(), scaling, dropout), None


def batch_images(model: ModelT) -> ModelT:
    """Let the vision tower of `model` attend to all pictures of one size in one call. Returns the same model.

    The outputs and gradients equal stock `sdpa` up to float rounding. A model whose tower does not run `sdpa` (eager or
    flash attention was asked for on purpose), or that has no tower with packed pictures, is left as it is.

    Args:
        model: any transformers model, on any device.
    """
    from transformers import AttentionInterface

    vision = getattr(model.config, "vision_config", None)
    if vision is None or vision._attn_implementation != "sdpa" or not hasattr(vision, "spatial_merge_size"):
        return model
    AttentionInterface.register(NAME, _attention_function)
    model.set_attn_implementation({"": model.config._attn_implementation, "vision_config": NAME})
    return model
