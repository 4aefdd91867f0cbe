"""Recipes: one YAML file that says what is compared. `load_recipe` reads one, `expand_arms` lists what runs."""

from __future__ import annotations

from cpt.methods.grpo import GRPO
from cpt.methods.policy_gradient import PolicyGradient
from cpt.methods.registry import AnyMethod
from cpt.methods.setting import BaseMethod
from cpt.methods.sft import SFT
from cpt.recipe.arms import ArmSpec, expand_arms, reward_of
from cpt.recipe.load import load_recipe
from cpt.recipe.rewards import RewardSpec
from cpt.recipe.schema import Evaluation, Full, LoRA, Recipe, Rollout, content_hash, without_neutral
from cpt.recipe.source import RecipeError

__all__ = [
    "GRPO",
    "SFT",
    "AnyMethod",
    "ArmSpec",
    "BaseMethod",
    "Evaluation",
    "Full",
    "LoRA",
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
