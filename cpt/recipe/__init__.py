"""Recipes: one YAML file that says what is compared. `load_recipe` reads one, `expand_arms` lists what runs."""

from __future__ import annotations

from cpt.methods.registry import AnyMethod
from cpt.recipe.arms import ArmSpec, expand_arms
from cpt.recipe.load import load_recipe
from cpt.recipe.rewards import RewardSpec
from cpt.recipe.schema import Recipe, Rollout, content_hash, without_neutral
from cpt.recipe.source import RecipeError

__all__ = [
    "AnyMethod",
    "ArmSpec",
    "Recipe",
    "RecipeError",
    "RewardSpec",
    "Rollout",
    "content_hash",
    "expand_arms",
    "load_recipe",
    "without_neutral",
]
