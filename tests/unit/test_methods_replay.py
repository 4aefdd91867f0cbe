"""Replay by hand: what a buffer keeps, how sources are mixed, and how long a stage becomes."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import TypeAdapter

from cpt.methods.registry import AnyReplay, Replay
from cpt.methods.replay import buffer, mixture, own_share
from cpt.train.data import presentation_order


def replay(**settings: Any) -> AnyReplay:
    found: AnyReplay = TypeAdapter(Replay).validate_python({"type": "buffer"} | settings)
    return found


def shuffled(among: Sequence[int], length: int, name: str) -> list[int]:
    return [among[position] for position in presentation_order(len(among), length, name)]


def mixed(setting: AnyReplay, length: int, batch: int = 4) -> list[int]:
    """Own samples 0..7; sources 10..13 and 20..21."""
    return mixture(setting, range(8), [range(10, 14), range(20, 22)], length, batch=batch, shuffled=shuffled)


def test_a_large_budget_keeps_everything():
    assert buffer([3, 2], None, "balanced", "s") == [[0, 1, 2], [0, 1]]
    assert buffer([3, 2], 5, "reservoir", "s") == [[0, 1, 2], [0, 1]]


def test_balanced_is_as_many_of_each_task():
    assert [len(kept) for kept in buffer([100, 100, 100], 10, "balanced", "s")] == [4, 3, 3]
    # A task that has fewer than its share leaves the rest to the others.
    assert [len(kept) for kept in buffer([100, 2, 100], 10, "balanced", "s")] == [4, 2, 4]


def test_a_balanced_buffer_only_ever_loses_samples_of_finished_tasks():
    after_one, after_two = buffer([50], 12, "balanced", "s"), buffer([50, 50], 12, "balanced", "s")
    assert set(after_two[0]) < set(after_one[0])
    assert len(after_two[0]) == len(after_two[1]) == 6


@given(st.lists(st.integers(1, 30), min_size=1, max_size=4), st.integers(1, 40), st.integers(0, 50))
def test_a_reservoir_fills_its_budget_and_only_loses_old_samples(sizes: list[int], budget: int, seed: int):
    before, after = buffer(sizes[:-1], budget, "reservoir", str(seed)), buffer(sizes, budget, "reservoir", str(seed))
    assert sum(map(len, after)) == min(budget, sum(sizes))
    assert all(set(late) <= set(early) for early, late in zip(before, after, strict=False))


def test_a_reservoir_keeps_tasks_in_proportion():
    counts = Counter()
    for seed in range(400):
        counts.update({task: len(kept) for task, kept in enumerate(buffer([30, 10], 8, "reservoir", str(seed)))})
    # 8 · 30/40 = 6 of the first task on average; the mean of 400 draws has a standard error of 0.06.
    assert counts[0] / 400 == pytest.approx(6.0, abs=0.25)


def test_a_ratio_holds_in_every_run_of_rows_and_own_samples_keep_their_order():
    rows = mixed(replay(ratio=0.25), 16)
    assert [row >= 10 for row in rows] == [False, False, False, True] * 4
    assert [row for row in rows if row < 10] == shuffled(range(8), 12, "")
    assert Counter(row for row in rows if row >= 10).most_common(1)[0][1] == 1  # six to draw from, four drawn


def test_uniform_is_round_robin_over_homogeneous_batches():
    rows = mixed(replay(sampler="uniform"), 24)
    batches = [rows[start : start + 4] for start in range(0, 24, 4)]
    assert [{row // 10 for row in batch} for batch in batches] == [{0}, {1}, {2}] * 2
    assert [row for batch in batches[::3] for row in batch] == shuffled(range(8), 8, "")


def test_proportional_shuffles_everything_together():
    rows = mixed(replay(sampler="proportional"), 14)
    assert sorted(rows) == [*range(8), *range(10, 14), 20, 21]


def test_without_a_source_the_stage_is_the_plain_one():
    assert mixture(replay(), range(8), [[]], 9, batch=3, shuffled=shuffled) == shuffled(range(8), 9, "")


def test_share_of_own_samples():
    assert own_share(replay(ratio=0.2), 100, [5, 5]) == Fraction(4, 5)
    assert own_share(replay(sampler="uniform"), 100, [5, 5]) == Fraction(1, 3)
    assert own_share(replay(sampler="proportional"), 90, [5, 5]) == Fraction(9, 10)
    assert own_share(replay(ratio=0.2), 100, []) == 1  # a first stage has nothing to replay
    assert own_share(replay(loss="supervised"), 100, [5]) == 1  # a side loss takes no place in a batch
    assert math.ceil(100 / own_share(replay(ratio=0.1), 100, [5])) == 112  # 111.1 rounded up: exact, no float


@pytest.mark.parametrize("ratio", [0.0, 1.0, 1.2, -0.1])
def test_a_ratio_is_a_share(ratio: float):
    with pytest.raises(ValueError, match="ratio"):
        replay(ratio=ratio)
