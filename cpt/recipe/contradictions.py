"""Settings of an arm that are right alone and wrong together."""

from __future__ import annotations

from collections.abc import Iterator

from cpt.methods.plugin import Setting
from cpt.recipe.arm_spec import ArmSpec, Problem
from cpt.recipe.methods import PolicyGradient
from cpt.recipe.source import KeyPath


def contradictions(spec: ArmSpec, tasks: int) -> Iterator[Problem]:
    """What is wrong with an arm of a recipe of so many tasks: the key to change, and what to change."""
    for key, message in spec.filter.problems() if spec.filter else ():
        yield ("filter", key), message
    seen: set[str] = set()
    for i, setting in enumerate(spec.regularisers):
        at: KeyPath = ("regularisers", i)
        if setting.type in seen:
            yield at, f"{setting.type} is there twice; leave one"
        seen.add(setting.type)
        if setting.type == "l2" and setting.reference == "base" and not spec.tuning.trains_weights:
            yield (*at, "reference"), "the base model has no adapter to compare with; use stage_start, or tuning: full"
        yield from _with_tuning(at, setting, spec)
        if setting.needs_no_weight_decay and spec.method.weight_decay:
            yield at, f"{setting.type} holds parameters still, weight decay moves them; set method.weight_decay: 0"
        if setting.needs_finished_tasks and spec.schedule != "sequential":
            yield at, f"{setting.type} rehearses finished tasks and a {spec.schedule} arm has none; leave it out"
        elif setting.needs_finished_tasks and tasks == 1:
            yield at, f"{setting.type} rehearses finished tasks; name two `tasks:` or more, or leave it out"
        if setting.needs_second_task and (spec.schedule != "sequential" or tasks == 1):
            yield at, f"{setting.type} acts from an arm's second task on, and this arm has none; leave it out"
        yield from _with_method(at, setting, spec)
    still = [setting.type for setting in spec.regularisers if setting.needs_no_weight_decay]
    if "a-gem" in seen and still:
        at = ("regularisers", [setting.type for setting in spec.regularisers].index("a-gem"))
        yield (
            at,
            f"a-gem projects the gradient of everything trained, and {still[0]} then zeroes a part; keep one",
        )
    if spec.kl is not None:
        yield from _with_method(("kl",), spec.kl, spec)
        if getattr(spec.method, "beta", 0.0):
            yield ("kl",), "is a second KL term beside method.beta; set method.beta: 0, or leave kl out"
    data = getattr(spec.method, "data", None)
    if spec.merge is not None and spec.merge.type == "warp" and data is not None and data.type != "gold":
        yield ("merge",), "warp trains a stage several times, on one set of targets; set method.data: {type: gold}"
    if spec.merge is not None and spec.merge.type != "ema" and not spec.tuning.merged_between_stages:
        yield (
            ("merge",),
            f"the next stage goes on with the adapter, which is not merged; {spec.tuning.to_merge}, or use type: ema",
        )


def _with_tuning(at: KeyPath, setting: Setting, spec: ArmSpec) -> Iterator[Problem]:
    if setting.needs_full_tuning and not spec.tuning.trains_weights:
        yield at, f"{setting.type} needs tuning: full, because an adapter's factors mean something else every stage"
    if setting.needs_lora and not spec.tuning.low_rank:
        yield at, f"{setting.type} acts on adapters; set tuning: {{type: lora}} or leave it out"
    elif setting.needs_new_adapters and not spec.tuning.merged_between_stages:
        yield at, f"{setting.type} compares the adapters of different stages; {spec.tuning.to_merge}"


def _with_method(at: KeyPath, setting: Setting, spec: ArmSpec) -> Iterator[Problem]:
    """What a setting says of itself, and what stands against a change of the reward."""
    found = [((*at, key), message) for key, message in setting.problems()]
    yield from found
    if found or not setting.needs_rollouts:
        return
    method, name = spec.method, setting.type
    if not isinstance(method, PolicyGradient):
        yield at, f"{name} changes the reward, and {method.type.upper()} has none; use kl with in: loss"
    elif method.baseline == "greedy":
        yield (
            at,
            f"{name} changes the reward of what is sampled, but not that of the greedy completion which "
            f"{method.type} compares with; use kl with in: loss, or another method, such as rloo",
        )
    elif setting.own_deviation and (method.baseline != "group_mean" or method.scale_rewards == "none"):
        yield (
            (*at, "normalise"),
            f"moving divides advantages and {method.type} does not; set normalise: method, or use type: grpo",
        )
    elif method.temperature != 1.0:
        yield at, f"{name} compares policies at temperature 1 on what they sample; set method.temperature: 1.0"
    elif not method.vllm_importance_sampling_correction:
        yield (
            at,
            f"{name} needs the trainer's own log-probabilities before the reward; set "
            "method.vllm_importance_sampling_correction: true",
        )
    elif method.scale_rewards == "group" and not any(one.own_deviation for one in _rewarding(spec)):
        yield (
            at,
            f"{name} has no say in a group of equal task rewards, where GRPO's division by the group's deviation "
            "cancels its coefficient; set method.scale_rewards: batch or none"
            + (", or in: loss" if name == "kl" else ", or normalise: moving"),
        )


def _rewarding(spec: ArmSpec) -> Iterator[Setting]:
    """What changes the arm's reward."""
    yield from (one for one in (*spec.regularisers, spec.kl) if one is not None and one.needs_rollouts)
