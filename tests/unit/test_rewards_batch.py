"""Rewards as TRL's trainers call them: rows that don't apply, rows that fail, what is logged."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from rewards.batch import as_trl_reward, guarded, plain_row, text_of
from rewards.compose import Composite
from rewards.registry import make
from rewards.score import Score

COMPOSITE = [{"type": "accuracy", "weight": 0.9}, {"type": "format", "weight": 0.1}]


class Log:
    """Takes what a reward hands to TRL."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.columns: dict[str, list[Any]] = {}

    def keywords(self) -> dict[str, Any]:
        return {"log_metric": self.metrics.__setitem__, "log_extra": self.columns.__setitem__}


def call(reward: Any, completions: list[Any], log: Log | None = None, **columns: Any) -> list[float | None]:
    prompts = [[{"role": "user", "content": "?"}]] * len(completions)
    ids = [list(range(3))] * len(completions)
    own = {"prompts": prompts, "completion_ids": ids, "trainer_state": SimpleNamespace(global_step=1)}
    return reward(completions=completions, **own, **(log.keywords() if log else {}), **columns)


def test_texts_and_chats():
    reward = as_trl_reward(Composite(COMPOSITE))
    texts = ["<answer> 3 </answer>", "<answer> 4 </answer>", "3"]
    chats = [[{"role": "assistant", "content": text}] for text in texts]
    blocks = [[{"role": "assistant", "content": [{"type": "text", "text": text}]}] for text in texts]
    for completions in (texts, chats, blocks):
        assert call(reward, completions, gold=[["3"]] * 3) == pytest.approx([1.0, 0.1, 0.0])
    assert text_of([{"role": "assistant", "content": "a"}, {"role": "assistant", "content": "b"}]) == "b"
    assert reward.__name__ == "reward"


def test_what_is_logged():
    log = Log()
    completions = ["<answer> 3 </answer>", "<answer> 4 </answer>", "3", ""]
    call(as_trl_reward(Composite(COMPOSITE)), completions, log, gold=[["3"]] * 4)
    assert log.metrics == {
        "reward/accuracy": 0.25,
        "reward/format": 0.5,
        "reward/errors": 0.0,
        "answers/ok": 0.5,
        "answers/malformed": 0.5,
    }
    assert log.columns == {
        "extracted": ["3", "4", "", ""],
        "status": ["ok", "ok", "malformed", "malformed"],
    }


def test_rows_without_a_column_get_none():
    log = Log()
    reward = as_trl_reward(make("exact"))
    completions = ["<answer> 3 </answer>"] * 4
    assert call(reward, completions, log, gold=[["3"], None, ["4"], ["3"]]) == [1.0, None, 0.0, 1.0]
    assert log.metrics["reward/not_applicable"] == 0.25
    assert log.metrics["answers/ok"] == 1.0
    assert log.columns["status"] == ["ok", None, "ok", "ok"]


def test_a_column_that_no_row_has_is_a_mistake():
    with pytest.raises(ValueError, match="no row of this batch has the column 'gold', which the reward needs"):
        call(as_trl_reward(make("exact")), ["3"] * 4)


def test_columns_reach_the_reward_by_name():
    seen: list[dict[str, object]] = []

    def spy(completion: str, **row: object) -> Score:
        seen.append(row)
        return Score(1.0)

    call(as_trl_reward(spy), ["a", "b"], gold=[["1"], ["2"]], meta=[{"x": 1}, None])
    assert seen == [{"gold": ["1"], "meta": {"x": 1}, "n_tokens": 3}, {"gold": ["2"], "n_tokens": 3}]
    assert plain_row({"prompts": 1, "gold": None, "question": "?"}) == {"question": "?"}


def crashes_on_x(completion: str, **_: object) -> Score:
    if completion == "x":
        raise KeyError("x")
    if completion == "slow":
        return Score(0.0, {"part": 0.5}, status="timeout", detail="too slow")
    return Score(0.5, {"part": 1.0})


def test_an_exception_is_an_error_and_no_wrong_answer():
    score = guarded(crashes_on_x, "x", {})
    assert (score.status, score.detail) == ("error", "KeyError: 'x'")
    log = Log()
    assert call(as_trl_reward(crashes_on_x), ["x"] + ["a"] * 9, log) == [None] + [0.5] * 9
    assert log.metrics == {
        "reward/part": 1.0,
        "reward/errors": 0.1,
        "answers/error": 0.1,
        "answers/ok": 0.9,
    }


def test_an_interrupt_is_no_error_of_the_reward():
    def interrupted(completion: str, **_: object) -> Score:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        guarded(interrupted, "x", {})


def test_too_many_errors_end_the_training():
    reward = as_trl_reward(crashes_on_x)
    assert call(reward, ["x"] * 2 + ["a"] * 18)[:3] == [None, None, 0.5]  # 10 % are allowed
    with pytest.raises(ValueError, match=r"3 of 20 completions could not be scored, more than 10%. The first: error:"):
        call(reward, ["x", "slow", "x"] + ["a"] * 17)
    assert call(reward, ["slow", "a"]) == [None, 0.5]  # one row of a small batch
    with pytest.raises(ValueError, match="timeout: too slow; completion 'slow'"):
        call(reward, ["slow", "x"])
    assert call(as_trl_reward(crashes_on_x, max_errors=1.0), ["x", "x"]) == [None, None]


def test_rows_can_be_made_from_other_columns():
    reward = as_trl_reward(make("exact"), lambda row: {"gold": row["answer"].split("/")}, name="mine")
    assert call(reward, ["<answer> 3 </answer>"], answer=["2/3"]) == [1.0]
    assert reward.__name__ == "mine"
