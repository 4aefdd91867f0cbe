"""`kl:` and `rapo` in recipes: what is refused, sweeps, and what they do to a stage's key."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from folders import load_arm, model_folder

from cpt.plan.make import make_plan
from cpt.recipe import Recipe, RecipeError, content_hash, expand_arms, load_recipe

SFT, GRPO = "{type: sft, max_steps: 1}", "{type: grpo, max_steps: 1, KEYS}"
IN_REWARD = "kl: {in: reward, estimator: k1}"
RAPO = "regularisers: [{type: rapo}]"


@pytest.fixture
def load(tmp_path: Path) -> Callable[..., Recipe]:
    def read(plugin: str, method: str = SFT) -> Recipe:
        return load_arm(tmp_path, f"method: {method.replace(', KEYS', '')}\n{plugin}")

    return read


def grpo(keys: str) -> str:
    return GRPO.replace("KEYS", keys)


@pytest.mark.parametrize(
    ("plugin", "method", "remedy"),
    [
        ("kl: {estimator: k1}", GRPO, "kl.estimator: k1 in the loss has no gradient but noise"),
        ("kl: {in: reward}", GRPO, "kl.estimator: exact is the same whatever token was sampled, so as a reward it"),
        ("kl: {reference: path}", SFT, "kl.path: reference: path needs one; set path: to a model's folder"),
        ("kl: {path: old}", SFT, "kl.path: belongs to reference: path, not to stage_start; set that, or remove it"),
        ("kl: {decay: 0.9}", SFT, "kl.decay: belongs to reference: ema, not to stage_start; set that, or remove it"),
        ("kl: {reference: ema, decay: 1.0}", SFT, "kl.decay: must be less than 1"),
        ("kl: {in: prompt}", SFT, "kl.in: unknown value 'prompt'"),
        ("kl: {coeficient: 0.1}", SFT, "kl.coeficient: unknown key; did you mean 'coefficient'?"),
        ("kl: {}", grpo("beta: 0.1"), "kl: is a second KL term beside method.beta; set method.beta: 0, or leave kl"),
        (IN_REWARD, SFT, "kl: kl changes the reward, and SFT has none; use kl with in: loss"),
        (IN_REWARD, "{type: remax, max_steps: 1}", "kl: kl changes the reward of what is sampled, but not that of the"),
        (
            IN_REWARD,
            GRPO,
            "kl: kl has no say in a group of equal task rewards, where GRPO's division by the group's dev",
        ),
        (
            "regularisers: [{type: rapo, normalise: method}]",
            GRPO,
            "regularisers.0: rapo has no say in a group of equal task rewards, where GRPO's division by the group's "
            "deviation cancels its coefficient; set method.scale_rewards: batch or none, or normalise: moving",
        ),
        (
            RAPO,
            "{type: rloo, max_steps: 1}",
            "regularisers.0.normalise: moving divides advantages and rloo does not; set normalise: method, or use",
        ),
        (f"{RAPO}\nschedule: single", GRPO, "regularisers.0: rapo acts from an arm's second task on, and this arm has"),
        (IN_REWARD, grpo("temperature: 0.9"), "kl: kl compares policies at temperature 1 on what they sample; set"),
        (
            IN_REWARD,
            grpo("vllm_importance_sampling_correction: false"),
            "kl: kl needs the trainer's own log-probabilities before the reward; set "
            "method.vllm_importance_sampling_correction: true",
        ),
        ("regularisers: [{type: rapo}]", SFT, "regularisers.0: rapo changes the reward, and SFT has none; use kl with"),
        ("regularisers: [{type: rapo}]", "{type: remax, max_steps: 1}", "regularisers.0: rapo changes the reward of"),
    ],
)
def test_what_cannot_be_is_refused(load: Any, plugin: str, method: str, remedy: str):
    with pytest.raises(RecipeError) as caught:
        load(plugin, method)
    (problem,) = caught.value.problems
    assert f"arms.a.{remedy}" in problem


@pytest.mark.parametrize(
    ("plugin", "method"),
    [
        ("kl: {}", SFT),
        ("kl: {}", grpo("temperature: 0.9")),
        ("kl: {reference: ema}", "{type: remax, max_steps: 1}"),
        (IN_REWARD, "{type: rloo, max_steps: 1}"),
        (IN_REWARD, grpo("scale_rewards: batch")),
        ("regularisers: [{type: rapo, normalise: method}]", "{type: rloo, max_steps: 1}"),
        (RAPO, GRPO),
        (f"{IN_REWARD}\ntuning: lora\nregularisers: [{{type: rapo}}, {{type: lwf}}]", GRPO),
    ],
)
def test_what_can_be_is_accepted(load: Any, plugin: str, method: str):
    assert expand_arms(load(plugin, method))


def test_the_resolved_recipe_reads_back_as_itself(load: Any, tmp_path: Path):
    recipe = load("kl: {in: reward, estimator: k1, reference: ema, decay: 0.9}", grpo("scale_rewards: none"))
    file = tmp_path / "again.yaml"
    file.write_text(recipe.dump_yaml())
    assert load_recipe(file) == recipe
    assert "in: reward" in file.read_text()
    spec = expand_arms(recipe)["a"].kl
    assert (spec.into, spec.estimator, spec.reference, spec.decay, spec.coefficient) == (
        "reward",
        "k1",
        "ema",
        0.9,
        0.01,
    )


def test_a_sweep_reaches_every_key(load: Any):
    arms = expand_arms(load("kl: {}\nsweep: {kl.coefficient: [0.0, 0.1], kl.reference: [base, ema]}"))
    assert list(arms)[:2] == ["a@coefficient=0.0,reference=base", "a@coefficient=0.0,reference=ema"]
    assert [(arm.kl.coefficient, arm.kl.reference) for arm in arms.values()][2:] == [(0.1, "base"), (0.1, "ema")]
    places = expand_arms(load("kl: {estimator: k3}\nsweep: {kl: {in: [loss, reward]}}", grpo("scale_rewards: none")))
    assert [arm.kl.into for arm in places.values()] == ["loss", "reward"]


def test_stages_without_kl_are_the_work_they_were(load: Any, monkeypatch: pytest.MonkeyPatch):
    hashed: list[Any] = []
    monkeypatch.setattr("cpt.plan.make.content_hash", lambda content: hashed.append(content) or content_hash(content))
    make_plan(load("regularisers: []"))
    assert not [content for content in hashed if "kl" in content]
    plain = make_plan(load("regularisers: []")).stages[0].key
    assert make_plan(load("kl: {}")).stages[0].key != plain


def test_a_references_folder_counts_by_what_is_in_it(load: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    def key(folder: str) -> str:
        found: str = make_plan(load(f"kl: {{reference: path, path: {folder}}}")).stages[0].key
        return found

    with pytest.raises(ValueError, match=r"model folder .*nowhere does not exist"):
        key(str(tmp_path / "nowhere"))
    one, same, other = (model_folder(tmp_path / name, fill=fill) for name, fill in (("a", 1), ("b", 1), ("c", 2)))
    assert key(str(one)) == key(str(same)) != key(str(other))
    monkeypatch.chdir(tmp_path)
    assert key("a") == key(str(one))
    assert make_plan(load("kl: {reference: path, path: a}")).stages[0].kl.path == str(one.resolve())
    (one / "model.safetensors").unlink()
    with pytest.raises(ValueError, match=r"has no model\.safetensors"):
        key("a")
