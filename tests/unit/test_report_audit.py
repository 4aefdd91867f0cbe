"""What the audit says of a reward set on a task's own samples, and that it sees the holes of the shipped study."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from cpt.recipe import load_recipe
from cpt.recipe.rewards import RewardSpec
from cpt.recipe.study import default_sets, reward_study
from cpt.report.rewards.audit import Prediction, example_of, predict
from cpt.report.rewards.exploits import NO_KIND, WRONG
from cpt.tasks import get_task
from cpt.types import Sample

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
SAMPLES = get_task("answerable").samples("test", 24)


@pytest.fixture(scope="module")
def shipped() -> dict[str, RewardSpec]:
    arms = reward_study(load_recipe(RECIPES / "reward_study.yaml")).arms
    return {name: arm.reward for name, arm in arms.items() if arm.reward is not None}


def audited(spec: RewardSpec | None) -> Prediction:
    return predict(spec, "answerable", SAMPLES, "direct")


@pytest.mark.parametrize("name", ["accuracy", "accuracy-format", "format-heavy", "gated"])
def test_no_attack_is_rewarded_under_the_sound_sets(shipped: dict[str, RewardSpec], name: str):
    found = audited(shipped[name])
    assert found.rewarded == {}
    assert found.unrewarded == found.failed == ()
    assert found.right == pytest.approx(1.0)
    assert found.tried > 100


def test_a_wrong_answer_in_the_right_format_is_predicted_where_the_format_is_rewarded(shipped: dict[str, RewardSpec]):
    heavy, light = audited(shipped["format-heavy"]), audited(shipped["accuracy-format"])
    assert heavy.wrong == pytest.approx(0.7)
    assert heavy.predicts(WRONG) and heavy.predicts("declined")  # which gets no more than any wrong answer
    assert not heavy.predicts(NO_KIND)
    assert light.wrong == pytest.approx(0.1)
    assert not light.predicts(WRONG)


def test_the_audit_sees_that_abstaining_is_rewarded(shipped: dict[str, RewardSpec]):
    found = audited(shipped["abstain"])
    assert found.rewarded["declined"].value == pytest.approx(0.8)
    assert found.rewarded["declined"].completion == "<answer> unanswerable </answer>"
    assert found.predicts("declined")
    assert not found.predicts(WRONG)
    assert found.unrewarded == ()


def test_the_audit_sees_that_an_honest_refusal_is_not_rewarded(shipped: dict[str, RewardSpec]):
    found = audited(shipped["helpful"])
    assert found.unrewarded == ("unanswerable",)
    assert (found.right, found.wrong) == (0.0, pytest.approx(0.6))
    assert found.predicts(WRONG)


def test_naming_every_answer_is_rewarded_under_a_substring_match():
    found = audited(default_sets()["mention"])
    assert {"every option", "several answers", "denial"} <= set(found.rewarded)


def test_the_tasks_own_reward():
    found = audited(None)
    assert found.rewarded == {}
    assert found.wrong == pytest.approx(0.1)


def test_what_is_kept_is_what_was_found(shipped: dict[str, RewardSpec]):
    found = audited(shipped["helpful"])
    assert Prediction.from_dict(json.loads(json.dumps(found.as_dict()))) == found


def test_an_example_has_a_wrong_answer_of_the_tasks_kind():
    assert {example_of(sample, SAMPLES).wrong for sample in SAMPLES} <= set(SAMPLES[0].meta["candidates"])
    assert all(example_of(sample, SAMPLES).wrong not in sample.gold for sample in SAMPLES)
    one, two = (Sample(f"a/test/{i}", "a", "Read it .", (), (text,)) for i, text in enumerate(("4 5", "6 7")))
    assert example_of(one, [one, two]).wrong == "6 7"
    assert example_of(one, [one]).wrong == "not 4 5"
