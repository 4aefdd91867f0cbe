"""One arm that runs, with everything that its recipe leaves out filled in."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from cpt.methods.filtering import RIF
from cpt.methods.kl import KL
from cpt.methods.registry import AnyMerge, AnyMethod, AnyRegulariser, AnyReplay
from cpt.methods.setting import ArmView
from cpt.methods.targets import SavedRollouts
from cpt.recipe.rewards import RewardSpec
from cpt.recipe.schema import Arm, Frozen, Full, LoRA, Recipe, Scalar, StageTask
from rewards.compose import label_of


@dataclass(frozen=True, kw_only=True)
class ArmSpec(ArmView):
    """One arm that runs.

    Attributes:
        name: as the recipe has it, or `family@key=value` for a point of a sweep; safe as a folder's name.
        family: the arm's name in the recipe; the points of one sweep share it.
        sweep: dotted path in the arm → this point's value; empty without a sweep.
        reward: the arm's own; None for the task's, or the recipe's (`reward_of`).
        rewards: by task, what the arm is rewarded for; None for the task's own reward.
        filter: which training samples are kept; None for all.
        kl: nearness to a reference policy; None for no such term.
    """

    sweep: Mapping[str, Scalar]
    method: AnyMethod
    tuning: Full | LoRA
    freeze: tuple[Frozen, ...]
    trainer_args: Mapping[str, Any]
    regularisers: tuple[AnyRegulariser, ...] = ()
    reward: RewardSpec | None = None
    rewards: Mapping[str, RewardSpec | None] = field(default_factory=dict)
    replay: AnyReplay | None = None
    filter: RIF | None = None
    kl: KL | None = None
    merge: AnyMerge | None = None

    @property
    def imitates(self) -> str | None:
        """The arm whose rollouts are this one's targets."""
        data = getattr(self.method, "data", None)
        return data.arm if isinstance(data, SavedRollouts) else None

    def known_tasks(self) -> list[str]:
        """See `ArmView.known_tasks`."""
        from cpt.tasks import task_names

        return list(task_names())

    def components(self, task: str) -> dict[str, float | None]:
        """See `ArmView.components`."""
        from cpt.tasks import get_task, read_samples

        reward = self.rewards.get(task)
        if reward is not None:
            return {label_of(one): one["weight"] for one in reward.data()}
        if task not in self.known_tasks():
            return {}
        known = get_task(task)
        sample = read_samples(known, "train", 1)[0]
        return dict.fromkeys(known.reward(sample, known.target(sample, "policy", self.prompt), self.prompt).parts)


def reward_of(recipe: Recipe, arm: Arm | ArmSpec, task: StageTask) -> RewardSpec | None:
    """What an arm is rewarded for on a task; None for the task's own reward, and for methods without rollouts."""
    return filter_reward_of(recipe, arm, task) if arm.method.needs_rollouts else None


def filter_reward_of(recipe: Recipe, arm: Arm | ArmSpec, task: StageTask) -> RewardSpec | None:
    """What a filter's rollouts are rewarded for, also in an arm whose method has no reward; None for the task's own."""
    return arm.reward or task.reward or recipe.reward
