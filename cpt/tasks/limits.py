"""How long completions may get where nothing else is said."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import get_args

from cpt.tasks.registry import get_task
from cpt.tasks.world.format import MAX_COMPLETION_TOKENS
from cpt.types import PromptStyle, Task


def limits_of(task: Task) -> Mapping[PromptStyle, int]:
    """Tokens of a completion by style of prompt: the task's `max_tokens`, or those of the built-in world."""
    found: Mapping[PromptStyle, int] = getattr(task, "max_tokens", MAX_COMPLETION_TOKENS)
    return found


def completion_limits(tasks: Iterable[str]) -> dict[PromptStyle, int]:
    """The largest limit of several tasks, by style of prompt."""
    limits = [limits_of(get_task(name)) for name in tasks]
    return {style: max(limit[style] for limit in limits) for style in get_args(PromptStyle)}
