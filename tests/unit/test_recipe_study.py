"""From a recipe to its study of rewards: one arm under every reward set, all else alike."""

from __future__ import annotations

from pathlib import Path

import pytest

from cpt.plan.make import make_plan
from cpt.recipe import Recipe, RecipeError, load_recipe
from cpt.recipe.study import default_sets, reward_study

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
TEXT = """\
version: 1
name: demo
model: builtin/tiny-qwen2_5-vl
tasks: [count-colour, {name: answerable, reward: [{type: format, weight: 1}]}]
general: [exists]
data: {samples: 64}
rollout: {engine: hf}
arms:
  sft: {method: {type: sft, max_steps: 2}}
  grpo:
    method: {type: grpo, max_steps: 2, num_generations: 4, per_device_train_batch_size: 16}
    prompt: think
"""
SETS = """\
reward_sets:
  plain: [{type: accuracy, weight: 1}]
  mine: [{type: python, file: mine.py, name: score, weight: 1, bonus: 0.25}]
"""
MINE = "def score(completion, *, gold, bonus=0.5, **_):\n    return 1.0 if gold[0] in completion else bonus\n"


def recipe(tmp_path: Path, text: str, *overrides: str) -> Recipe:
    (tmp_path / "demo.yaml").write_text(text)
    (tmp_path / "mine.py").write_text(MINE)
    return load_recipe(tmp_path / "demo.yaml", overrides)


def test_every_set_makes_an_arm_that_differs_in_nothing_else(tmp_path: Path):
    before = recipe(tmp_path, TEXT + SETS)
    study = reward_study(before)
    assert list(study.arms) == ["plain", "mine"]
    assert study.name == "demo"
    for name, arm in study.arms.items():
        assert arm.reward == before.reward_sets[name]
        assert arm.model_copy(update={"reward": None}) == before.arms["grpo"]
    kept = {name: value for name, value in before.resolved().items() if name not in ("arms", "reward_sets")}
    assert {name: value for name, value in study.resolved().items() if name in kept} == kept


def test_stages_differ_in_their_reward_alone_and_in_their_keys(tmp_path: Path):
    plan = make_plan(reward_study(recipe(tmp_path, TEXT + SETS)))
    plain, mine = (plan.arms[name, 0] for name in ("plain", "mine"))
    for one, other in zip(plain, mine, strict=True):
        different = {name for name, value in one.as_dict().items() if other.as_dict()[name] != value}
        assert different == {"arm", "family", "reward", "key"} | ({"parent_key"} if one.index > 1 else set())
    assert plain[1].reward is not None
    assert plain[1].reward.describe() == "1 accuracy"  # a set goes before the task's own `reward:`


def test_the_study_runs_without_the_users_file(tmp_path: Path):
    study = reward_study(recipe(tmp_path, TEXT + SETS))
    (tmp_path / "mine.py").unlink()
    (tmp_path / "copy.yaml").write_text(study.dump_yaml())
    again = load_recipe(tmp_path / "copy.yaml", trust_rewards=True)
    assert again.resolved_hash() == study.resolved_hash()
    reward = again.arms["mine"].reward
    assert reward is not None
    assert reward.build()("nothing", gold=["red"]).value == 0.25


def test_the_sets_say_nothing_of_an_ordinary_run(tmp_path: Path):
    assert recipe(tmp_path, TEXT + SETS).resolved_hash() == recipe(tmp_path, TEXT).resolved_hash()


def test_without_sets_the_usual_ones_under_another_name(tmp_path: Path):
    study = reward_study(recipe(tmp_path, TEXT))
    assert list(study.arms) == list(default_sets())
    assert study.name == "demo-rewards"
    long = "x" * 64
    assert reward_study(recipe(tmp_path, TEXT, f"name={long}")).name == "x" * 56 + "-rewards"


def test_the_default_sets_pay_what_they_say():
    row = {"gold": ["red"], "template": "direct", "candidates": ["red", "blue"], "n_tokens": 2, "max_tokens": 8}
    right, wrong, bare = "<answer> red </answer>", "<answer> blue </answer>", "red"
    paid = {
        name: [round(spec.build()(text, **row).value, 3) for text in (right, wrong, bare)]
        for name, spec in default_sets().items()
    }
    assert paid == {
        "accuracy": [1.0, 0.0, 0.0],
        "accuracy-format": [1.0, 0.1, 0.0],
        "format-heavy": [1.0, 0.7, 0.0],
        "length-shaped": [0.925, 0.225, 0.225],
        "gated": [1.0, 0.1, 0.0],
        "mention": [1.0, 0.0, 1.0],
    }
    mention = default_sets()["mention"].build()
    assert mention("red or blue or green", **row).value == 1.0


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        ("grp", "there is no arm 'grp'; did you mean 'grpo'?"),
        ("sft", "arm sft has no reward"),
    ],
)
def test_an_arm_that_can_not_be_studied(tmp_path: Path, arm: str, message: str):
    with pytest.raises(ValueError, match=message):
        reward_study(recipe(tmp_path, TEXT), arm)


def test_several_arms_want_a_choice(tmp_path: Path):
    two = recipe(tmp_path, TEXT + "  other: {method: {type: grpo, max_steps: 2}}\n")
    with pytest.raises(ValueError, match=r"several arms have a reward \(grpo, other\); choose one with --arm"):
        reward_study(two)
    assert next(iter(reward_study(two, "other").arms.values())).prompt is None
    with pytest.raises(ValueError, match="no arm of this recipe has a reward"):
        reward_study(recipe(tmp_path, TEXT, "arms.grpo=null"))


def test_a_broken_set_is_told_with_its_line(tmp_path: Path):
    with pytest.raises(RecipeError) as caught:
        recipe(tmp_path, TEXT + SETS.replace("type: accuracy", "type: acuracy"))
    assert caught.value.problems == [
        f"{tmp_path / 'demo.yaml'}:14: reward_sets.plain.0.type: there is no reward called 'acuracy'; "
        "did you mean 'accuracy'?"
    ]
    with pytest.raises(RecipeError, match="bonus"):
        recipe(tmp_path, TEXT + SETS.replace("bonus", "bonsu"))


def test_the_shipped_study_has_rewards_with_a_hole():
    study = reward_study(load_recipe(RECIPES / "reward_study.yaml"))
    row = {"gold": ["red"], "template": "direct"}
    declined, wrong = "<answer> unanswerable </answer>", "<answer> blue </answer>"
    paid = {}
    for name in ("accuracy", "abstain", "helpful"):
        spec = study.arms[name].reward
        assert spec is not None
        paid[name] = [spec.build()(text, **row).value for text in (declined, wrong)]
    assert paid == {"accuracy": [0.0, 0.0], "abstain": [0.8, 0.0], "helpful": [0.0, 0.6]}
