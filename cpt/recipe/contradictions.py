"""Parts of an arm that are right alone and wrong together. What concerns one part alone it says itself."""

from __future__ import annotations

from collections.abc import Iterator

from cpt.common.keys import KeyPath, Problem
from cpt.methods.policy_gradient import PolicyGradient
from cpt.methods.setting import ArmView, Part, Setting


def contradictions(arm: ArmView) -> Iterator[Problem]:
    """What is wrong with an arm: the key to change, and what to change."""
    unsound = [(("method", key), message) for key, message in arm.method.problems()]
    yield from unsound
    yield from _of_part(("filter",), arm.filter, arm)
    seen: set[str] = set()
    for i, setting in enumerate(arm.regularisers):
        at: KeyPath = ("regularisers", i)
        if setting.type in seen:
            yield at, f"{setting.type} is there twice; leave one"
        seen.add(setting.type)
        yield from _needs(at, setting, arm)
        yield from _of_part(at, setting, arm)
        yield from _reward_change(at, setting, arm)
    if arm.kl is not None:
        yield from _of_part(("kl",), arm.kl, arm)
        yield from _reward_change(("kl",), arm.kl, arm)
    yield from _of_part(("merge",), arm.merge, arm)
    if not unsound:  # or its batch may be no batch
        yield from _of_part(("replay",), arm.replay, arm)


def _of_part(at: KeyPath, part: Part | None, arm: ArmView) -> Iterator[Problem]:
    """What a part of the arm says itself."""
    if part is None:
        return
    yield from (((*at, key), message) for key, message in part.problems())
    yield from (((*at, *below), message) for below, message in part.clashes(arm))


def _needs(at: KeyPath, setting: Setting, arm: ArmView) -> Iterator[Problem]:
    """What a setting needs and the arm has not."""
    name, tuning = setting.type, arm.tuning
    if setting.needs_full_tuning and not tuning.trains_weights:
        yield at, f"{name} needs tuning: full, because an adapter's factors mean something else every stage"
    if setting.needs_lora and not tuning.low_rank:
        yield at, f"{name} acts on adapters; set tuning: {{type: lora}} or leave it out"
    elif setting.needs_new_adapters and not tuning.merged_between_stages:
        yield at, f"{name} compares the adapters of different stages; {tuning.to_merge}"
    if setting.needs_no_weight_decay and arm.method.weight_decay:
        yield at, f"{name} holds parameters still, weight decay moves them; set method.weight_decay: 0"
    if setting.needs_finished_tasks and arm.schedule != "sequential":
        yield at, f"{name} rehearses finished tasks and a {arm.schedule} arm has none; leave it out"
    elif setting.needs_finished_tasks and len(arm.tasks) == 1:
        yield at, f"{name} rehearses finished tasks; name two `tasks:` or more, or leave it out"
    if setting.needs_second_task and (arm.schedule != "sequential" or len(arm.tasks) == 1):
        yield at, f"{name} acts from an arm's second task on, and this arm has none; leave it out"


def _reward_change(at: KeyPath, setting: Setting, arm: ArmView) -> Iterator[Problem]:
    """What stands against a change of the reward."""
    if not setting.changes_reward or any(setting.problems()):
        return
    method, name = arm.method, setting.type
    if not isinstance(method, PolicyGradient):
        yield at, f"{name} changes the reward, and {method.type.upper()} has none; use kl with in: loss"
    elif method.baseline.needs_greedy:
        yield (
            at,
            f"{name} changes the reward of what is sampled, but not that of the greedy completion which "
            f"{method.type} compares with; use kl with in: loss, or another method, such as rloo",
        )
    elif setting.own_deviation and method.scale_rewards == "none":
        return  # the setting says it itself
    elif method.temperature != 1.0:
        yield at, f"{name} compares policies at temperature 1 on what they sample; set method.temperature: 1.0"
    elif not method.vllm_importance_sampling_correction:
        yield (
            at,
            f"{name} needs the trainer's own log-probabilities before the reward; set "
            "method.vllm_importance_sampling_correction: true",
        )
    elif method.scale_rewards == "group" and not any(one.own_deviation for one in arm.reward_changes):
        yield (
            at,
            f"{name} has no say in a group of equal task rewards, where GRPO's division by the group's deviation "
            f"cancels its coefficient; set method.scale_rewards: batch or none, or {setting.beside_group_scale}",
        )
