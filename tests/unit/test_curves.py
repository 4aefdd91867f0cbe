"""Families compared along their sweeps: interpolation by hand, what holds where, and that the intervals hold it."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from synthetic import Arm, make_run

from cpt.evaluate.curves import GRID, Sweep, gaps, interpolate, mean_gap, shared_range
from cpt.evaluate.intervals import Floats, percentile
from cpt.evaluate.stats import Bootstrap, Metric
from cpt.report.comparison import Along
from cpt.report.load import load_run
from cpt.report.page import render
from cpt.report.summary import Summary, summarise
from cpt.report.verdict import verdicts


def test_straight_lines_between_the_settings_in_the_order_of_their_accuracy() -> None:
    x, y = np.array([[0.7, 0.5, 0.6]]), np.array([[0.30, 0.10, 0.10]])
    at = np.array([0.4, 0.5, 0.55, 0.65, 0.7, 0.9])
    assert interpolate(x, y, at)[0] == pytest.approx([0.10, 0.10, 0.10, 0.20, 0.30, 0.30])  # level beyond the ends
    assert interpolate(np.array([[0.5]]), np.array([[0.2]]), at[:2]).tolist() == [[0.2, 0.2]]
    equal = interpolate(np.array([[0.5, 0.5]]), np.array([[0.2, 0.4]]), np.array([0.5]))
    assert equal[0] == pytest.approx([0.3])  # two settings of one accuracy: between their losses


def sweep(*accuracies: list[float]) -> Sweep:
    """One list per seed."""
    found = np.array(accuracies)
    return Sweep(tuple(range(len(found))), found, np.tile(found, (4, 1, 1)))


def test_the_range_is_what_both_reach_in_every_seed() -> None:
    one, two = sweep([0.5, 0.8], [0.55, 0.9]), sweep([0.4, 0.7], [0.6, 0.75])
    assert shared_range(one, two) == pytest.approx((0.6, 0.7))
    assert shared_range(one, sweep([0.1, 0.4], [0.2, 0.5])) is None
    assert shared_range(one, sweep([0.6], [0.7])) == pytest.approx((0.65, 0.65))  # one setting, at its own accuracy
    assert shared_range(one, sweep([0.1], [0.2])) is None


def test_gaps_along_the_range_by_hand() -> None:
    one, two = sweep([0.5, 0.7]), sweep([0.6, 0.8])
    lost, other = ((np.array([values]), np.tile(np.array([values]), (4, 1, 1))) for values in ([0.0, 0.2], [0.0, 0.4]))
    found = gaps(one, two, (lost, other), (0.6, 0.7), 100)
    assert len(found) == GRID
    # At 60 % the first has lost 10, the second 0; at 70 % both 20.
    assert [run.values[0] for run in (found[0], found[10], found[-1])] == pytest.approx([0.10, 0.05, 0.0])
    assert mean_gap(found).values[0] == pytest.approx(0.05)


def family(name: str, points: dict[float, tuple[float, float]]) -> list[Arm]:
    """Settings by rate: what they gain on a new task and what they lose."""
    return [Arm(f"{name}@lr={rate}", name, {"method.lr": rate}, gain=gain, forget=loss, general_loss=loss)
            for rate, (gain, loss) in points.items()]  # fmt: skip


def summed(root: Path, arms: list[Arm], seeds: tuple[int, ...] = (0,)) -> Summary:
    make_run(root, arms, tasks=("a", "b"), general=("x",), samples=100, steps=2, seeds=seeds)
    return summarise(load_run(root), Bootstrap(resamples=500))


CHEAP = {0.1: (0.1, 0.0), 0.2: (0.3, 0.05), 0.3: (0.45, 0.1)}
DEAR = {0.1: (0.15, 0.3), 0.2: (0.4, 0.4)}


def test_what_holds_along_the_whole_range_is_said(tmp_path: Path) -> None:
    overshot = {0.9: (0.2, 0.6)}  # less accurate than grpo at 0.3 and worse in everything: left out
    summary = summed(tmp_path, family("sft", DEAR) + family("grpo", CHEAP | overshot))
    (along,) = (one for one in summary.along if one.scoring == "strict")
    assert along.families == ("sft", "grpo")
    assert [item.arm.name for item in along.overshot] == ["grpo@lr=0.9"]
    assert along.between == pytest.approx((0.6, 0.85), abs=0.06)
    assert (along.throughout("forgetting"), along.throughout("general")) == (1, 1)
    (text,) = verdicts(summary)
    assert text.startswith("sft against grpo at equal new-task accuracy, ")
    assert ", one seed, so of these policies only: net forgetting since the own stage +" in text
    assert "] on average: the sft policies lost more, all along; " in text
    page = render(summary)
    assert "Along the sweeps" in page and "left out: grpo · lr 0.9" in page
    assert "it need not represent their sweeps" in page
    assert summary.as_dict()["along"][0]["new_task_accuracy"] == list(along.between)


def test_over_seeds_a_method_is_spoken_of(tmp_path: Path) -> None:
    (text,) = verdicts(summed(tmp_path, family("sft", DEAR) + family("grpo", CHEAP), seeds=(0, 1, 2)))
    assert " %, 3 seeds: net forgetting" in text
    assert "] on average: sft loses more, all along; " in text


def test_sweeps_without_an_accuracy_in_common_are_not_compared(tmp_path: Path) -> None:
    low = family("sft", {0.1: (0.0, 0.0), 0.2: (0.1, 0.1)})
    (text,) = verdicts(summed(tmp_path, low + family("grpo", {0.1: (0.3, 0.0), 0.2: (0.4, 0.1)})))
    assert text.startswith("Not a fair comparison of sft and grpo: no new-task accuracy in common (sft ")


def test_one_setting_is_compared_at_its_own_accuracy(tmp_path: Path) -> None:
    summary = summed(tmp_path, [Arm("sft", forget=0.4), *family("grpo", CHEAP)])
    along = summary.along[0]
    assert along.between is not None and along.between[0] == along.between[1]
    assert along.shown == (0,)
    assert " on average" not in verdicts(summary)[0]


def test_the_pair_to_look_at_is_in_the_middle_and_not_at_the_high_end(tmp_path: Path) -> None:
    points = {0.1: (0.05, 0.0), 0.2: (0.25, 0.1), 0.3: (0.45, 0.5)}
    summary = summed(tmp_path, family("sft", points) + family("grpo", points))
    pair = summary.pairs[0]
    assert (pair.first.arm.name, pair.second.arm.name) == ("sft@lr=0.2", "grpo@lr=0.2")


def told(signs: list[int], values: list[float]) -> Along:
    """A comparison with these differences, shown where their sign is not 0."""
    found = tuple(
        Metric("", value, value - 0.001 if sign > 0 else -1, value + 0.001 if sign < 0 else 1, "")
        for sign, value in zip(signs, values, strict=True)
    )
    accuracies = tuple(0.5 + 0.1 * i for i in range(len(signs)))
    mean = Metric("", float(np.mean(values)), -0.5, 0.5, "")
    return Along("strict", ("sft", "grpo"), ((), ()), (), (0, 1), (0.5, accuracies[-1]), accuracies,
                 {"general": found}, {"general": mean})  # fmt: skip


def test_where_a_difference_holds_and_where_curves_cross_is_said() -> None:
    from cpt.report.verdict import _along

    text = _along(told([1, 1, 0, -1], [0.2, 0.1, -0.02, -0.1]))
    assert text == (
        "sft against grpo at equal new-task accuracy, 50.0 to 80.0 %, 2 seeds: general skill lost +4.5 [−50.0, +50.0] "
        "on average: sft loses more from 50.0 to 60.0 % and grpo loses more at 80.0 %, no difference shown elsewhere; "
        "the curves cross near 70.0 %."
    )
    none = told([0, 0, 0], [0.02, 0.01, -0.005])
    assert _along(none).endswith("on average: no difference shown.")
    on_the_whole = replace(none, means={"general": Metric("", 0.01, 0.005, 0.015, "")})
    assert _along(on_the_whole).endswith(
        "on average: sft loses more on the whole, no difference shown at any one accuracy."
    )


def test_intervals_along_the_curve_hold_the_truth() -> None:
    """Two families on one and the same curve, loss = accuracy − 0.5: at every accuracy the difference is 0."""
    rng = np.random.default_rng(3)
    n, boot = 256, Bootstrap(resamples=300)

    def measured(luck: Floats, rates: Floats) -> tuple[Floats, Floats]:
        """Right on the new task, and lost: easy questions are right in all settings, but for answers that vary."""
        varies = (rng.random((len(rates), n)) < 0.05).astype(bool)
        return (luck[0] < rates[:, None]) ^ varies, luck[1] < rates[:, None] - 0.5

    held = []
    for _ in range(150):
        luck = rng.random((2, n))
        sweeps, losses = [], []
        for rates in ([0.55, 0.7, 0.85], [0.6, 0.65, 0.8]):
            right, lost = (of.astype(np.float64) for of in measured(luck, np.array(rates)))
            sweeps.append(Sweep((0,), right.mean(-1)[None], boot.means(right, "a")[:, None]))
            losses.append((lost.mean(-1)[None], boot.means(lost, "b")[:, None]))
        between = shared_range(*sweeps)
        assert between is not None
        found = gaps(sweeps[0], sweeps[1], (losses[0], losses[1]), between, n)
        ends = [percentile(run.replicates[:, 0], 0.95) for run in found]
        # Answers that vary raise the low accuracies a little and lower the high ones: of both curves alike.
        held.append([low <= 0 <= high for low, high in ends])
    assert np.mean(held) >= 0.92
    assert np.min(np.mean(held, axis=0)) >= 0.85  # at the worst single accuracy, of 150 tries
