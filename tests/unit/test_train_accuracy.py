"""The task's own scoring of a step's rollouts, by hand."""

from __future__ import annotations

from cpt.tasks import get_task
from cpt.train.accuracy import accuracy

TASK = get_task("answerable")
SAMPLES = TASK.samples("train", 4)


def tagged(answer: str) -> str:
    return f"<answer> {answer} </answer>"


def test_means_over_the_completions_and_lengths_by_correctness():
    first, second, third, fourth = (sample.gold[0] for sample in SAMPLES)
    wrong = "red" if fourth != "red" else "blue"
    texts = [tagged(first), tagged(second), f"the answer is {third}", tagged(wrong)]
    assert accuracy(SAMPLES, texts, "direct", [4, 6, 7, 2]) == {
        "true/strict": 0.5,
        "true/tolerant": 0.75,
        "length/right": 5.0,
        "length/wrong": 4.5,
    }


def test_a_length_that_no_completion_has_is_absent():
    right = [tagged(sample.gold[0]) for sample in SAMPLES]
    found = accuracy(SAMPLES, right, "direct", [4, 4, 4, 8])
    assert found == {"true/strict": 1.0, "true/tolerant": 1.0, "length/right": 5.0}
    assert "length/right" not in accuracy(SAMPLES, ["", "", "", ""], "direct", [1, 1, 1, 1])


def test_without_lengths_only_the_truth():
    assert accuracy(SAMPLES, [""] * 4, "direct") == {"true/strict": 0.0, "true/tolerant": 0.0}
