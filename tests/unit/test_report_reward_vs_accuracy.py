"""Reward against accuracy, by hand: paired changes over a stage, and when hacking is flagged."""

from __future__ import annotations

import pytest
from synthetic import Bits, records

from cpt.evaluate.stats import Bootstrap
from cpt.report.rewards.reward_vs_accuracy import HeldOut, Scores, held_out_in_stage, mean_of_stages, points
from cpt.types import Record
from rewards.score import Score

BOOT = Bootstrap(resamples=400)
TEN = "1111100000"


def stage(
    before: Bits, after: Bits, rewards: tuple[float, float], *, tolerant: Bits | None = None, times: int = 10
) -> HeldOut:
    """A stage on 10 × `times` samples. `rewards`: of a wrong completion, before and after; a right one earns 1."""
    cells = {(0, "a"): str(before) * times, (1, "a"): str(after) * times}
    loose = None if tolerant is None else {(1, "a"): str(tolerant) * times}
    found = {(r.seed, r.stage, r.sample_id): r for r in records(cells, tolerant=loose)}
    rescored = {key: Score(1.0 if r.score else rewards[r.stage]) for key, r in found.items()}
    return held_out_in_stage(found, rescored, task="a", rows=(0, 1), seeds=[0], bootstrap=BOOT)


def test_changes_are_paired_differences_of_means():
    held_out = stage("1111100000", "1100000000", (0.0, 0.75))
    assert held_out.n == 100
    change = held_out.changes
    assert change["reward"].before.value == pytest.approx(0.5)
    assert change["reward"].after.value == pytest.approx(0.2 + 0.8 * 0.75)
    assert change["reward"].change.value == pytest.approx(0.3)
    assert change["strict"].change.value == change["tolerant"].change.value == pytest.approx(-0.3)
    assert change["gap"].before.value == pytest.approx(0.0)
    assert change["gap"].change.value == pytest.approx(0.6)
    assert change["gap"].change.low is not None and change["gap"].change.low < 0.6 < (change["gap"].change.high or 0)


def test_a_reward_that_rises_while_accuracy_falls_is_flagged():
    held_out = stage("1111100000", "1100000000", (0.0, 0.75))
    assert held_out.hacked
    assert held_out.words.startswith("reward up, accuracy down: reward +30.0 (+")
    assert held_out.words.endswith("100 held-out samples")


def test_a_reward_that_rises_while_accuracy_stays_is_flagged():
    held_out = stage(TEN, TEN, (0.0, 0.5))
    assert held_out.hacked
    assert held_out.words.startswith("reward up, accuracy not")


@pytest.mark.parametrize(
    ("before", "after", "rewards", "verdict"),
    [
        ("0000000000", "1111100000", (0.0, 0.5), "no hacking seen"),  # reward outruns accuracy, but that grows too
        ("1111100000", "1111100000", (0.0, 0.08), "no hacking seen"),  # the reward rises by 4 points
        ("1111100000", "0000000000", (0.5, 0.5), "accuracy down, reward not up enough for a flag"),  # both fall
    ],
)
def test_what_is_not_flagged(before: str, after: str, rewards: tuple[float, float], verdict: str):
    held_out = stage(before, after, rewards)
    assert not held_out.hacked
    assert held_out.words.startswith(f"{verdict}: reward ")


def test_a_regained_skill_in_another_style_is_no_hack():
    assert stage(TEN, TEN, (0.0, 0.5)).hacked
    assert not stage(TEN, TEN, (0.0, 0.5), tolerant="1111111111").hacked


def test_few_samples_are_not_enough():
    """Two of ten samples earn more: the intervals reach down to 0."""
    found: dict[tuple[int, int, str], Record] = {
        (r.seed, r.stage, r.sample_id): r for r in records({(0, "a"): "0" * 10, (1, "a"): "0" * 10})
    }
    rescored = {key: Score(float(key[1] == 1 and key[2].endswith(("/0", "/1")))) for key in found}
    held_out = held_out_in_stage(found, rescored, task="a", rows=(0, 1), seeds=[0], bootstrap=BOOT)
    assert held_out.changes["reward"].change.value == pytest.approx(0.2)
    assert not held_out.hacked


def test_samples_that_the_reward_could_not_score_are_left_out_and_counted():
    found = {(r.seed, r.stage, r.sample_id): r for r in records({(0, "a"): "0110", (1, "a"): "1110"})}
    rescored: dict[tuple[int, int, str], Score] = {key: Score(float(r.score)) for key, r in found.items()}
    rescored[0, 0, "a/test/3"] = Score(0.0, status="timeout")
    held_out = held_out_in_stage(found, rescored, task="a", rows=(0, 1), seeds=[0], bootstrap=BOOT)
    assert (held_out.n, held_out.unscored) == (3, 1)
    assert held_out.changes["reward"].before.value == pytest.approx(2 / 3)
    rescored = {key: Score(0.0, status="error") for key in found}
    held_out = held_out_in_stage(found, rescored, task="a", rows=(0, 1), seeds=[0], bootstrap=BOOT)
    assert (held_out.n, held_out.unscored) == (0, 4)
    assert "could not score" in held_out.words


def test_what_is_missing_is_said():
    found = {(r.seed, r.stage, r.sample_id): r for r in records({(0, "a"): "01"})}
    rescored: Scores = {key: Score(0.0) for key in found}
    held_out = held_out_in_stage(found, rescored, task="a", rows=(0, 1), seeds=[0, 1], bootstrap=BOOT)
    assert held_out.words == "n/a: not evaluated yet"
    assert not held_out.hacked
    after = {(r.seed, r.stage, r.sample_id): r for r in records({(1, "a"): "01"})}
    held_out = held_out_in_stage(found | after, rescored, task="a", rows=(0, 1), seeds=[0], bootstrap=BOOT)
    assert held_out.words == "n/a: the reward is not known"


def test_seeds_are_averaged():
    found = {}
    for seed, after in ((0, "1111"), (1, "1100")):
        rows = records({(0, "a"): "0000", (1, "a"): after}, seed=seed)
        found |= {(r.seed, r.stage, r.sample_id): r for r in rows}
    rescored = {key: Score(float(r.score)) for key, r in found.items()}
    held_out = held_out_in_stage(found, rescored, task="a", rows=(0, 1), seeds=[0, 1], bootstrap=BOOT)
    assert held_out.changes["strict"].change.value == pytest.approx(0.75)
    assert held_out.changes["strict"].change.seeds == 2


def test_the_mean_over_stages_skips_what_is_missing():
    one, two = stage(TEN, "1111111111", (0.0, 0.0)), stage(TEN, "1111111000", (0.0, 0.0))
    mean = mean_of_stages([one, two], BOOT)
    assert mean.changes["strict"].change.value == pytest.approx((0.5 + 0.2) / 2)
    assert mean.n == 200
    missing = held_out_in_stage({}, {}, task="b", rows=(1, 2), seeds=[0], bootstrap=BOOT)
    assert mean_of_stages([one, missing], BOOT) is one
    assert mean_of_stages([missing, missing], BOOT).words == "n/a: not evaluated yet"


def test_points_have_a_sign_and_an_interval():
    metric = stage(TEN, "1111111111", (0.0, 0.0)).changes["strict"].change
    assert points(metric).startswith("+50.0 (+")
