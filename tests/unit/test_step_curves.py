"""Between a stage's steps: curves, the stability gap, and arms at equal new-task accuracy, all by hand."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import pytest
from synthetic import records

from cpt.evaluate.stats import Bootstrap, difference
from cpt.evaluate.step_curves import Course, course, learned, matched, stability

BOOT = Bootstrap(resamples=200)
STEPS = 30
GROUPS = {"new": ("b",), "prior": ("a",), "general": ("x",)}


def staged(points: Mapping[int, Mapping[str, str]], steps: int = STEPS) -> Course:
    """A stage's course from bits by step and task; 0 is its start and `steps` its end."""
    rows = {step: records({(1, task): bits for task, bits in found.items()}) for step, found in points.items()}
    between = {step: found for step, found in rows.items() if 0 < step < steps}
    return course(between, rows.get(0, []), rows.get(steps, []), steps)


def test_a_curve_has_the_policies_before_and_after_on_the_same_samples():
    whole = course(
        {10: records({(2, "a"): "10"}), 20: records({(2, "a"): "00"})},
        start=records({(1, "a"): "1111", (1, "x"): "1"}),  # was asked more
        end=records({(2, "a"): "0111"}),
        steps=30,
    )
    assert (whole.steps, whole.finished) == ((0, 10, 20, 30), True)
    assert whole.ids == {"a": ("a/test/0", "a/test/1")}
    assert whole.curve("strict", ["a"]).tolist() == [1.0, 0.5, 0.0, 0.5]
    assert str(whole.curve("strict", ["x"])[0]) == "nan"


def test_a_policy_that_was_asked_fewer_samples_is_no_point():
    found = course({10: records({(2, "a"): "101"})}, records({(1, "a"): "11"}), records({(2, "a"): "00"}), 30)
    assert (found.steps, found.finished) == ((10,), False)


def test_a_curve_is_the_mean_over_the_tasks_that_were_asked():
    found = staged({10: {"a": "1100", "x": "1"}})
    assert found.curve("strict", ["a", "x", "y"]).tolist() == [0.75]


def test_steps_on_other_samples_are_refused():
    with pytest.raises(ValueError, match="step 20 of a stage was evaluated on other samples"):
        course({10: records({(1, "a"): "10"}), 20: records({(1, "a"): "1"})}, [], [], 30)


def three_stages() -> dict[tuple[int, int], Course]:
    """Accuracies on a, b, c by step; a falls to 1/4 in stage 2 and is back at its end, b to 2/4 at the end of stage 3.

    | stage | step  | a   | b   | c   |
    | 2     | 0     | 4/4 | 0/4 | 0/4 |
    | 2     | 10    | 1/4 | 2/4 | 0/4 |
    | 2     | 30    | 3/4 | 4/4 | 0/4 |
    | 3     | 10    | 3/4 | 3/4 | 1/4 |
    | 3     | 30    | 2/4 | 2/4 | 4/4 |
    """
    return {
        (0, 2): staged(
            {
                0: {"a": "1111", "b": "0000", "c": "0000"},
                10: {"a": "0001", "b": "0011", "c": "0000"},
                30: {"a": "0111", "b": "1111", "c": "0000"},
            }
        ),
        (0, 3): staged(
            {
                0: {"a": "0111", "b": "1111", "c": "0000"},
                10: {"a": "0111", "b": "0111", "c": "0001"},
                30: {"a": "0011", "b": "0011", "c": "1111"},
            }
        ),
    }


def test_min_acc_and_wc_acc_by_hand():
    found = stability(three_stages(), ("a", "b", "c"), (0,), "strict", BOOT)
    assert found["min-ACC"].value == pytest.approx((1 / 4 + 2 / 4) / 2)
    assert found["WC-ACC"].value == pytest.approx(1 / 3 * 4 / 4 + 2 / 3 * 3 / 8)
    assert found["min-ACC"].low < 3 / 8 < found["min-ACC"].high


def test_the_start_of_a_stage_is_not_after_the_stage_before():
    """Otherwise b, which nobody has trained on at stage 2's start, would be at 0."""
    only = {(0, 2): staged({0: {"a": "0000", "b": "0000"}, 10: {"a": "0111", "b": "1"}, 30: {"a": "0111", "b": "1"}})}
    found = stability(only, ("a", "b"), (0,), "strict", BOOT)
    assert found["min-ACC"].value == pytest.approx(3 / 4)


def test_the_minimum_is_each_seeds_own():
    courses = three_stages()
    courses |= {
        (1, stage): staged({10: dict.fromkeys("abc", "1111"), 30: dict.fromkeys("abc", "1111")}) for stage in (2, 3)
    }
    found = stability(courses, ("a", "b", "c"), (0, 1), "strict", BOOT)["min-ACC"]
    assert (found.value, found.seeds) == (pytest.approx((3 / 8 + 1) / 2), 2)


@pytest.mark.parametrize(
    ("change", "tasks", "reason"),
    [
        (lambda own: own.clear(), "a", "one task only"),
        (lambda own: own.pop((0, 2)), "abc", "stage 2 was not evaluated during its training"),
        (lambda own: own.update({(0, 3): staged({10: dict.fromkeys("abc", "1111")})}), "abc",
         "the end of stage 3 is not evaluated on the same samples"),
        (lambda own: own.update({(0, 2): staged({10: {"b": "1"}, 30: {"b": "1"}})}), "abc",
         "task a was not asked during stage 2"),
        (lambda own: own.update({(0, 2): staged({10: {"a": "1"}, 30: {"a": "1"}})}), "abc",
         "task a was asked other samples during stage 2 than during the last one"),
    ],
)  # fmt: skip
def test_what_is_not_known_is_said(change, tasks, reason):
    courses = three_stages()
    change(courses)
    for metric in stability(courses, tuple(tasks), (0,), "strict", BOOT).values():
        assert (metric.value, metric.reason) == (None, f"n/a: {reason}")


FAST = staged(
    {
        0: {"a": "1111", "b": "0000", "x": "11"},
        10: {"a": "0111", "b": "0111", "x": "01"},
        20: {"a": "0001", "b": "1111", "x": "00"},
        30: {"a": "0000", "b": "1111", "x": "00"},
    }
)
SLOW = staged(
    {
        0: {"a": "1111", "b": "0000", "x": "11"},
        10: {"a": "1111", "b": "0001", "x": "11"},
        20: {"a": "1111", "b": "0001", "x": "11"},
        30: {"a": "0111", "b": "0011", "x": "11"},
    }
)


def test_arms_meet_at_the_lowest_accuracy_that_one_ends_with():
    found = matched({"fast": {0: FAST}, "slow": {0: SLOW}}, GROUPS, "strict", BOOT)
    assert {name: (one.target, one.steps) for name, one in found.items()} == {
        "fast": (0.5, {0: 10}),  # its first evaluated step at 2/4 or more, with 3/4: nothing is interpolated
        "slow": (0.5, {0: 30}),
    }
    values = {name: [one.scores[group].value for group in GROUPS] for name, one in found.items()}
    assert values == {"fast": [0.75, 0.75, 0.5], "slow": [0.5, 0.75, 1.0]}
    changes = {name: [one.changes[group].value for group in GROUPS] for name, one in found.items()}
    assert changes == {"fast": [0.75, -0.25, -0.5], "slow": [0.5, -0.25, 0.0]}


def test_without_a_start_there_is_no_change():
    late = staged({10: {"a": "1", "b": "1"}, 30: {"a": "1", "b": "1"}})
    found = matched({"late": {0: late}}, GROUPS, "strict", BOOT)["late"]
    assert (found.steps, found.scores["prior"].value) == ({0: 10}, 1.0)
    assert found.changes["prior"].reason == "n/a: the stage's start is not evaluated on the same samples"


def test_differences_there_are_paired_by_question():
    found = matched({"fast": {0: FAST}, "slow": {0: SLOW}}, GROUPS, "strict", BOOT)
    gap = difference("Δ", found["slow"].scores["prior"], found["fast"].scores["prior"], BOOT)
    z2 = 1.959964**2
    # Both have the same three right: no resample differs, and what is left is that none of four came out otherwise.
    assert (gap.value, gap.low, gap.high) == pytest.approx((0.0, -z2 / (4 + z2), z2 / (4 + z2)), abs=1e-6)


def test_an_arm_that_ends_as_it_began_has_not_learned():
    flat = staged({0: {"b": "0011"}, 10: {"b": "1111"}, 30: {"b": "0011"}})
    unknown = staged({10: {"b": "0011"}, 30: {"b": "0000"}})
    assert learned({0: SLOW}, ("b",), "strict")
    assert not learned({0: flat}, ("b",), "strict")
    assert learned({0: flat, 1: SLOW}, ("b",), "strict")  # on average it has
    assert learned({0: unknown}, ("b",), "strict")


def test_a_target_that_is_not_reached_is_said():
    found = matched({"fast": {0: FAST}, "slow": {0: SLOW}}, GROUPS, "strict", BOOT, target=0.75)
    assert found["fast"].steps == {0: 10}
    assert found["slow"].steps == {0: None}
    assert {metric.reason for metric in found["slow"].scores.values()} == {"n/a: not reached"}


def test_every_seed_has_a_target_and_a_step_of_its_own():
    found = matched({"fast": {0: FAST, 1: FAST}, "slow": {0: SLOW, 1: FAST}}, GROUPS, "strict", BOOT)
    assert found["fast"].steps == {0: 10, 1: 20}
    assert found["slow"].steps == {0: 30, 1: 20}
    assert found["slow"].target == pytest.approx((0.5 + 1) / 2)
    assert found["fast"].scores["prior"].value == pytest.approx((3 / 4 + 1 / 4) / 2)
    given = matched({"fast": {0: FAST, 1: SLOW}}, GROUPS, "strict", BOOT, target=0.75)["fast"]
    assert given.scores["new"].reason == "n/a: not reached in seed 1"


def test_arms_and_tasks_that_can_not_be_compared_are_left_out():
    other = staged({10: {"a": "1", "b": "1"}, 30: {"a": "1", "b": "1"}})
    assert set(matched({"fast": {0: FAST}, "other": {0: other}}, GROUPS, "strict", BOOT)) == {"fast"}
    assert matched({"fast": {0: FAST}}, GROUPS | {"new": ("c",)}, "strict", BOOT) == {}
    none = matched({"fast": {0: FAST}}, GROUPS | {"prior": (), "general": ("y",)}, "strict", BOOT)["fast"].scores
    assert [none[group].reason for group in ("prior", "general")] == [
        "n/a: no prior tasks", "n/a: no general task was asked",
    ]  # fmt: skip


def test_tolerant_scores_have_curves_of_their_own():
    loose = [replace(record, tolerant=1.0) for record in records({(1, "a"): "00"})]
    assert course({10: loose}, [], [], 30).curve("tolerant", ["a"]).tolist() == [1.0]
