"""Gold answers that a reward can't use, found before anything is scored or trained.

A reward declares them by `check_gold` in its registration (`rewards.registry.reward`). Code that reads rows for a
reward, from a file or a task, checks every row here; a row that can't be used is a ValueError that names it.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import partial
from typing import Any

from rewards.compose import Composite
from rewards.registry import entry_of
from rewards.score import Reward


def checks_golds(reward: Reward) -> bool:
    """Whether the reward checks gold answers. A user's function does not."""
    if isinstance(reward, Composite):
        return any(checks_golds(one.reward) for one in reward.components)
    entry = entry_of(reward.func) if isinstance(reward, partial) else None
    return entry is not None and entry.check_gold is not None


def gold_problem(reward: Reward, row: Mapping[str, Any]) -> str:
    """What is wrong with a row's gold answers for this reward, or for a component of it; empty if nothing is.

    Args:
        row: the keywords that the reward is called with. A row without gold answers, where the reward needs none, is
            no problem.
    """
    if isinstance(reward, Composite):
        found = ((one.label, gold_problem(one.reward, {**row, **one.columns})) for one in reward.components)
        return next((f"{label}: {problem}" for label, problem in found if problem), "")
    entry = entry_of(reward.func) if isinstance(reward, partial) else None
    if entry is None or entry.check_gold is None or not isinstance(reward, partial) or row.get("gold") is None:
        return ""
    return entry.check_gold(**{**row, **reward.keywords})


def check_golds(reward: Reward, rows: Iterable[tuple[str, Mapping[str, Any]]], name: str) -> None:
    """Check every row.

    Args:
        rows: the place of each, as in "data.jsonl, row 3", and its keywords.
        name: of the reward, for the message.

    Raises:
        ValueError: the first row whose gold answers the reward can't use.
    """
    if not checks_golds(reward):
        return
    for where, row in rows:
        if problem := gold_problem(reward, row):
            raise ValueError(f"{where}: reward {name} can't use it: {problem}")
