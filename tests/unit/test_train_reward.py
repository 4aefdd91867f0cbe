"""A stage's reward as trainers call it: what weighed objectives are told."""

from __future__ import annotations

from typing import Any

from cpt.tasks import get_task
from cpt.train.reward import reward_function
from rewards.score import Score


class Fragile:
    """A reward of the recipe's that fails on one completion."""

    def build(self) -> Any:
        def score(completion: str, **_: Any) -> Score:
            if completion == "bad":
                raise KeyError("gold")
            return Score(float(completion == "yes"), {"said": float(completion == "yes")})

        return score


def test_a_failed_completion_keeps_its_place_among_what_is_weighed():
    noted: list[Any] = []
    specs: Any = {"exists": Fragile(), "colour": None}
    samples = [*get_task("exists").samples("train", 3), *get_task("colour").samples("train", 1)]
    right = get_task("colour").target(samples[3], "policy", "direct")
    reward = reward_function("direct", specs)
    rewards = reward(["yes", "bad", "no", right], sample=samples, completion_ids=[[1]] * 4, noted=noted)
    assert rewards == [1.0, None, 0.0, 1.0]
    *strange, (task, parts) = noted
    assert strange == [("exists", {"said": 1.0}), ("exists", {}), ("exists", {"said": 0.0})]
    assert task == "colour" and set(parts.values()) == {1.0}
