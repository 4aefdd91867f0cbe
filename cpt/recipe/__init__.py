"""Recipes: one YAML file that says what is compared. `load_recipe` reads one, `expand_arms` lists what runs."""

from __future__ import annotations

from cpt.recipe.arm_spec import ArmSpec
from cpt.recipe.arms import expand_arms
from cpt.recipe.load import load_recipe
from cpt.recipe.methods import GRPO, SFT, BaseMethod, Batch, PolicyGradient
from cpt.recipe.registry import AnyMethod
from cpt.recipe.reward_checks import reward_of
from cpt.recipe.rewards import RewardSpec
from cpt.recipe.schema import Evaluation, Recipe, Rollout, content_hash, without_neutral
from cpt.recipe.source import RecipeError

__all__ = [
    "GRPO",
    "SFT",
    "AnyMethod",
    "ArmSpec",
    "BaseMethod",
    "Batch",
    "Evaluation",
    "PolicyGradient",
    "Recipe",
    "RecipeError",
    "RewardSpec",
    "Rollout",
    "content_hash",
    "expand_arms",
    "load_recipe",
    "reward_of",
    "without_neutral",
]
