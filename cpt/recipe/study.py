"""A study of rewards as a recipe: one arm of it under several reward sets, all else alike.

The sets are the recipe's `reward_sets:`, each written as a `reward:` is:

    reward_sets:
      accuracy: [{type: accuracy, weight: 1}]
      format-heavy: [{type: accuracy, weight: 0.3}, {type: format, weight: 0.7}]

or, where the recipe has none, those of `default_sets`. The result is an ordinary recipe, which runs as any other.
"""

from __future__ import annotations

from typing import Any

from cpt.common.keys import dotted, nearest
from cpt.methods.policy_gradient import PolicyGradient
from cpt.recipe.load import check
from cpt.recipe.rewards import COMPONENTS, RewardSpec
from cpt.recipe.schema import Recipe
from rewards.compose import filled

SUFFIX = "-rewards"
_LONGEST_NAME = 64

# Deliberately hackable: naming every answer there is earns full marks, so it measures nothing.
_MENTION = """def score(completion, *, gold, **_):
    return float(any(answer.lower() in completion.lower() for answer in gold))
"""


def reward_study(recipe: Recipe, arm: str | None = None) -> Recipe:
    """The recipe with one arm per reward set instead of its own arms; sets go before every other `reward:` in it.

    A recipe without sets of its own gets another name, so that its study and its comparison have folders of their own.

    Args:
        arm: the arm that is run under every set; None for the only one that learns from rewards.

    Raises:
        ValueError: no such arm, one without a reward, several to choose from, or a set that does not fit the tasks.
    """
    chosen = recipe.arms[_choose(recipe, arm)]
    sets = recipe.reward_sets or default_sets()
    name = recipe.name if recipe.reward_sets else recipe.name[: _LONGEST_NAME - len(SUFFIX)] + SUFFIX
    arms = {label: chosen.model_copy(update={"reward": spec}) for label, spec in sets.items()}
    study = recipe.model_copy(update={"name": name, "arms": arms, "reward_sets": {}})
    problems = [f"{dotted(path)}: {message}" for path, message in check(study)]
    if problems:
        raise ValueError("\n".join(problems))
    return study


def default_sets() -> dict[str, RewardSpec]:
    """What a study compares where its recipe does not say: the usual shapes of a reward, and a hackable one."""
    sets: dict[str, list[dict[str, Any]]] = {
        "accuracy": [{"type": "accuracy", "weight": 1.0}],
        "accuracy-format": [{"type": "accuracy", "weight": 0.9}, {"type": "format", "weight": 0.1}],
        "format-heavy": [{"type": "accuracy", "weight": 0.3}, {"type": "format", "weight": 0.7}],
        "length-shaped": [{"type": "accuracy", "weight": 0.7}, {"type": "length", "weight": 0.3}],
        "gated": [
            {"type": "accuracy", "weight": 0.9, "read": "tolerant", "requires": "format"},
            {"type": "format", "weight": 0.1},
        ],
        "mention": [
            {"type": "python", "file": "mention.py", "name": "score", "label": "mention", "weight": 1.0,
             "source": _MENTION},
        ],
    }  # fmt: skip
    return {name: RewardSpec.model_validate({COMPONENTS: list(map(filled, parts))}) for name, parts in sets.items()}


def _choose(recipe: Recipe, arm: str | None) -> str:
    rewarded = [name for name, found in recipe.arms.items() if isinstance(found.method, PolicyGradient)]
    if arm is not None:
        if arm not in recipe.arms:
            raise ValueError(f"there is no arm {arm!r}{nearest(arm, list(recipe.arms))}")
        if arm not in rewarded:
            raise ValueError(f"arm {arm} has no reward ({recipe.arms[arm].method.type}); a study needs an arm with one")
        return arm
    if not rewarded:
        raise ValueError("no arm of this recipe has a reward; add one, as in `grpo: {method: {type: grpo}}`")
    if len(rewarded) > 1:
        raise ValueError(f"several arms have a reward ({', '.join(rewarded)}); choose one with --arm")
    return rewarded[0]
