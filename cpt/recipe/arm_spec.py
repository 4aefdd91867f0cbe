"""One arm that runs, with everything that its recipe leaves out filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from cpt.methods.filtering import RIF
from cpt.methods.kl import KL
from cpt.methods.registry import AnyRegulariser
from cpt.methods.replay import AnyReplay
from cpt.methods.targets import SavedRollouts
from cpt.models.tuning.kind import Tuning
from cpt.recipe.merge import AnyMerge
from cpt.recipe.registry import AnyMethod
from cpt.recipe.rewards import RewardSpec
from cpt.recipe.schema import Frozen, Scalar, Schedule
from cpt.recipe.source import KeyPath
from cpt.types import PromptStyle

Problem = tuple[KeyPath, str]
"""The key to change, and what is wrong with it."""


@dataclass(frozen=True)
class ArmSpec:
    """One arm that runs.

    Attributes:
        name: as the recipe has it, or `family@key=value` for a point of a sweep; safe as a folder's name.
        family: the arm's name in the recipe; the points of one sweep share it.
        sweep: dotted path in the arm → this point's value; empty without a sweep.
        reward: the arm's own; None for the task's, or the recipe's (`cpt.recipe.reward_checks.reward_of`).
        filter: which training samples are kept; None for all.
        kl: nearness to a reference policy; None for no such term.
    """

    name: str
    family: str
    sweep: Mapping[str, Scalar]
    method: AnyMethod
    prompt: PromptStyle
    tuning: Tuning
    freeze: tuple[Frozen, ...]
    trainer_args: Mapping[str, Any]
    regularisers: tuple[AnyRegulariser, ...] = ()
    reward: RewardSpec | None = None
    schedule: Schedule = "sequential"
    replay: AnyReplay | None = None
    filter: RIF | None = None
    kl: KL | None = None
    merge: AnyMerge | None = None

    @property
    def imitates(self) -> str | None:
        """The arm whose rollouts are this one's targets."""
        data = getattr(self.method, "data", None)
        return data.arm if isinstance(data, SavedRollouts) else None
