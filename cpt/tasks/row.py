"""What a reward is told of a sample: the one place where samples become `rewards.registry.COLUMNS`."""

from __future__ import annotations

from typing import Any

from cpt.types import PromptStyle, Sample


def reward_row(
    sample: Sample,
    prompt: PromptStyle,
    *,
    finish_reason: str | None = None,
    n_tokens: int | None = None,
    max_tokens: int | None = None,
) -> dict[str, Any]:
    """Keywords for a reward. What is not known is left out.

    Args:
        finish_reason, n_tokens, max_tokens: of the completion that is scored.
    """
    row = {
        "gold": list(sample.gold),
        "candidates": list(sample.meta.get("candidates", ())) or None,
        "choices": list(sample.meta.get("choices", ())) or None,
        "question": sample.question,
        "template": sample.meta.get("template", {}).get(prompt, prompt),
        "finish_reason": finish_reason,
        "n_tokens": n_tokens,
        "max_tokens": max_tokens,
        "meta": dict(sample.meta),
    }
    return {name: value for name, value in row.items() if value is not None}
