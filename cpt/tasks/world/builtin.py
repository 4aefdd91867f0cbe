"""The built-in world and its model as the rest of cpt knows them. What else is in this folder concerns nobody.

A model is the built-in one by its architecture and sizes, which training leaves as they are: so are the shipped folder,
every policy that was trained from it, and one that `cpt model build` made anew.
"""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.tasks.world.format import MAX_COMPLETION_TOKENS, MAX_PROMPT_TOKENS
from cpt.tasks.world.tasks import TASKS
from cpt.tasks.world.tiny import is_tiny
from cpt.types import Task

if TYPE_CHECKING:
    import torch

    from cpt.tasks.world.generate import Choose

__all__ = [
    "MAX_COMPLETION_TOKENS", "MAX_PROMPT_TOKENS", "MODELS", "accelerate", "generate", "is_accelerated", "tasks",
]  # fmt: skip

MODELS: dict[str, Path] = {"builtin/tiny-qwen2_5-vl": Path(__file__).parent / "tiny"}


@lru_cache(maxsize=1)
def tasks() -> tuple[Task, ...]:
    """The tasks: what the built-in model's vocabulary and training are made from."""
    return tuple(cls() for cls in TASKS)


def accelerate(model: Any, attention: str = "auto") -> Any:
    """The same model, whose pictures go through it together if it is the built-in one (`cpt.tasks.world.attention`).

    Args:
        attention: that the recipe asks for; the built-in model too does what it names.
    """
    from cpt.tasks.world.attention import batch_images

    return batch_images(model) if attention == "auto" and is_tiny(model.config) else model


def is_accelerated(model: Any) -> bool:
    """Whether `accelerate` changed this model."""
    from cpt.tasks.world.attention import is_batched

    return is_batched(model)


def generate(
    model: Any, inputs: dict[str, torch.Tensor], choose: Choose, *, n: int, limit: int, stop: tuple[int, ...], pad: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """See `cpt.tasks.world.generate.generate`."""
    from cpt.tasks.world.generate import generate

    return generate(model, inputs, choose, n=n, limit=limit, stop=stop, pad=pad)
