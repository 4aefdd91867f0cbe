"""From a recipe's arms to the arms that run: what an arm leaves out is filled in, a sweep becomes one arm per value."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from pydantic import ValidationError

from cpt.common.keys import KeyPath, Problem, nearest
from cpt.methods.filtering import RIF
from cpt.methods.kl import KL
from cpt.methods.registry import AnyMerge, AnyMethod, AnyRegulariser, AnyReplay
from cpt.methods.setting import ArmView
from cpt.methods.targets import SavedRollouts
from cpt.models.tuning.kind import Tuning
from cpt.recipe.contradictions import contradictions
from cpt.recipe.errors import explain
from cpt.recipe.rewards import RewardSpec
from cpt.recipe.schema import Arm, Frozen, Recipe, Scalar, StageTask
from cpt.tasks import get_task, read_samples, task_names
from cpt.types import PromptStyle
from rewards.compose import label_of

_LONGEST_NAME = 200  # of an arm: file systems take names of 255 bytes


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
    tuning: Tuning
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
        return list(task_names())

    def components(self, task: str) -> dict[str, float | None]:
        """See `ArmView.components`."""
        if self.rewards.get(task) is None and task not in self.known_tasks():
            return {}
        return components_of(self.rewards.get(task), task, self.prompt)


def components_of(reward: RewardSpec | None, task: str, prompt: PromptStyle) -> dict[str, float | None]:
    """Weights of a reward's components by label; of the task's own reward (None) the labels alone."""
    if reward is not None:
        return {label_of(one): one["weight"] for one in reward.data()}
    known = get_task(task)
    sample = read_samples(known, "train", 1)[0]
    return dict.fromkeys(known.reward(sample, known.target(sample, "policy", prompt), prompt).parts)


def reward_of(recipe: Recipe, arm: Arm | ArmSpec, task: StageTask) -> RewardSpec | None:
    """What an arm is rewarded for on a task; None for the task's own reward, and for methods without rollouts."""
    return filter_reward_of(recipe, arm, task) if arm.method.needs_rollouts else None


def filter_reward_of(recipe: Recipe, arm: Arm | ArmSpec, task: StageTask) -> RewardSpec | None:
    """What a filter's rollouts are rewarded for, also in an arm whose method has no reward; None for the task's own."""
    return arm.reward or task.reward or recipe.reward


def expand_arms(recipe: Recipe) -> dict[str, ArmSpec]:
    """The arms that run, by name, in the recipe's order.

    Raises:
        ValueError: if a sweep names a key that its arm lacks, or a value that the key refuses.
    """
    arms: dict[str, ArmSpec] = {}
    problems: list[Problem] = []
    for family in recipe.arms:
        specs, found = expand_arm(recipe, family)
        problems += found
        arms |= {spec.name: spec for spec in specs}
    if problems:
        raise ValueError("\n".join(f"{'.'.join(map(str, path))}: {message}" for path, message in problems))
    return arms


def expand_arm(recipe: Recipe, family: str) -> tuple[list[ArmSpec], list[Problem]]:
    """The points of one arm's sweep (one without a sweep), and what is wrong with them."""
    arm = recipe.arms[family]
    at: KeyPath = ("arms", family)
    filled = arm.model_dump()
    filled["tuning"] = (arm.tuning or recipe.model.tuning).model_dump()
    filled["trainer_args"] = {**recipe.trainer_args, **arm.trainer_args}
    keys: dict[str, KeyPath] = {}
    problems: list[Problem] = []
    for key, values in arm.sweep.items():
        path = _sweep_path(key, filled)
        if path is None:
            # As one writes them: the method's own settings without its name.
            known = sorted(path.removeprefix("method.") for path in _scalar_paths(filled))
            near = nearest(key.removeprefix("method."), known)
            group = key.partition(".")[0]
            missing = group != key and group in filled and filled[group] is None
            told = f"there is nothing to sweep: the arm has no {group}:" if missing else f"is no key of this arm{near}"
            problems.append(((*at, "sweep", key), told))
        elif path in keys.values():
            problems.append(((*at, "sweep", key), "is swept twice"))
        elif len({(type(value), value) for value in values}) < len(values):
            problems.append(((*at, "sweep", key), "holds a value twice"))
        else:
            keys[key] = path
    if problems:
        return [], problems
    specs: list[ArmSpec] = []
    seen: set[str] = set()
    for combination in itertools.product(*(arm.sweep[key] for key in keys)):
        chosen = dict(zip(keys.values(), combination, strict=True))
        point = {".".join(map(str, path)): value for path, value in chosen.items()}
        changed = filled | {"sweep": {}}
        for path, value in chosen.items():
            changed = _with(changed, path, value)
        try:
            spec = _spec(recipe, family, point, Arm.model_validate(changed))
            if len(spec.name) > _LONGEST_NAME:
                told = (
                    f"this point's name, and its folder's, would have {len(spec.name)} characters; {_LONGEST_NAME} at"
                )
                problems.append(((*at, "sweep"), f"{told} most"))
            elif spec.name in seen:
                problems.append(((*at, "sweep"), f"two points would be called {spec.name}; sweep other values"))
            seen.add(spec.name)
            problems += [((*at, *path), message) for path, message in contradictions(spec)]
            specs.append(spec)
        except ValidationError as error:
            problems += _sweep_problems(error, changed, at, keys)
    return specs, problems


def _sweep_problems(error: ValidationError, data: Any, at: KeyPath, keys: Mapping[str, KeyPath]) -> Iterator[Problem]:
    """A value that the schema refuses is reported where the sweep names it."""
    written = {path: key for key, path in keys.items()}
    for path, message in explain(error, data, at):
        key = written.get(path[len(at) :])
        yield ((*at, "sweep", key) if key else path), message


def _spec(recipe: Recipe, family: str, point: Mapping[str, Scalar], arm: Arm) -> ArmSpec:
    name = f"{family}@{_label(point)}" if point else family
    freeze = tuple(recipe.model.freeze if arm.freeze is None else arm.freeze)
    tuning = arm.tuning or recipe.model.tuning
    return ArmSpec(
        name=name,
        family=family,
        tasks=tuple((task.name, recipe.training_samples(task)) for task in recipe.tasks),
        sweep=point,
        method=arm.method,
        prompt=arm.prompt or recipe.prompt,
        tuning=tuning,
        freeze=freeze,
        trainer_args=arm.trainer_args,
        regularisers=tuple(arm.regularisers),
        reward=arm.reward,
        rewards={task.name: reward_of(recipe, arm, task) for task in recipe.tasks},
        schedule=arm.schedule,
        replay=arm.replay,
        filter=arm.filter,
        kl=arm.kl,
        merge=arm.merge,
    )


def _label(point: Mapping[str, Scalar]) -> str:
    """`learning_rate=0.0001,beta=0.01`: last parts of the paths where they differ; safe as a folder's name."""
    last = [path.rsplit(".", 1)[-1] for path in point]
    short = last if len(set(last)) == len(last) else list(point)
    text = ",".join(f"{key}={_value(value)}" for key, value in zip(short, point.values(), strict=True))
    return re.sub(r"[^A-Za-z0-9._=,+-]", "-", text)


def _value(value: Scalar) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


def _sweep_path(key: str, arm: Mapping[str, Any]) -> KeyPath | None:
    """Where a sweep's key stands in the arm; a bare name is one of the arm's own or one of its method's."""
    for path in (tuple(key.split(".")), ("method", *key.split("."))):
        if ".".join(path) in _scalar_paths(arm) or (path[0] == "trainer_args" and len(path) == 2):
            return path
    return None


def _scalar_paths(arm: Mapping[str, Any], prefix: str = "") -> set[str]:
    """Dotted paths of everything in an arm that holds one value, but for `type`, which makes another arm."""
    found: set[str] = set()
    for key, value in arm.items():
        if isinstance(value, Mapping):
            found |= _scalar_paths(value, f"{prefix}{key}.") if key != "sweep" else set()
        elif key == "regularisers":  # one of a list is called by its type
            for one in value:
                found |= _scalar_paths(one, f"{prefix}{key}.{one['type']}.")
        elif not isinstance(value, list) and key != "type":
            found.add(f"{prefix}{key}")
    return found


def _with(data: Mapping[str, Any], path: KeyPath, value: Scalar) -> dict[str, Any]:
    head, *rest = map(str, path)
    if not rest:
        return {**data, head: value}
    inner = data[head]
    if isinstance(inner, list):
        kind, *rest = rest
        return {**data, head: [_with(one, tuple(rest), value) if one["type"] == kind else one for one in inner]}
    return {**data, head: _with(inner, tuple(rest), value)}
