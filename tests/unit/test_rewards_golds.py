"""Gold answers that a reward can't use are told before anything is scored or trained, with their row."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
from demo_recipe import problems
from test_recipe_rewards import BASE, load  # noqa: F401  the fixture that loads a recipe

from cpt.recipe.rewards import RewardSpec
from cpt.tasks import get_task
from cpt.train.reward import check_stage_golds
from rewards.golds import check_golds, checks_golds, gold_problem
from rewards.lab.audit_plan import check_examples, read_examples
from rewards.lab.choose import choose
from rewards.lab.saved import read_saved, score_saved
from rewards.registry import get, make, names, reward

NUMBER = [{"type": "number", "weight": 0.9}, {"type": "format", "weight": 0.1}]


def lines(path: Path, *rows: dict[str, object]) -> Path:
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


@pytest.mark.parametrize(
    ("gold", "problem"),
    [
        (["12"], ""),
        (["5'8\""], ""),
        (["12-14", "about 13"], ""),
        (["red"], "gold answer 'red' holds no number"),
        (["12", "11 or 12"], "gold answer '11 or 12' is not one number"),
        (["3,5"], "gold answer '3,5' is not one number"),
        (["1" * 201], f"gold answer '{'1' * 59}…' is too long"),
        ([], "the row has no gold answer"),
    ],
)
def test_golds_of_numbers(gold, problem):
    assert gold_problem(make("number", relative=0.05), {"gold": gold}) == problem


def test_a_row_without_gold_is_left_to_who_needs_it():
    assert gold_problem(make("number"), {}) == ""
    assert gold_problem(make("length"), {"gold": []}) == ""


def test_a_composite_asks_its_components():
    (composite, same, other) = choose([json.dumps(NUMBER), "number", "format"])
    assert gold_problem(composite.reward, {"gold": ["red"]}) == "number: gold answer 'red' holds no number"
    assert checks_golds(composite.reward) and checks_golds(same.reward)
    assert not checks_golds(other.reward)
    with pytest.raises(ValueError, match="b: reward mine can't use it: number: gold answer 'red' holds no number"):
        check_golds(composite.reward, [("a", {"gold": ["1"]}), ("b", {"gold": ["red"]})], "mine")


def test_what_a_reward_can_use_is_no_error_when_it_scores_and_the_other_way_round():
    """Every shipped reward that says something of golds says it of those on which it fails."""
    for name in names():
        if get(name).check_gold is None:
            continue
        for gold in (["12"], ["red"], ["B"], ["yes"], [], [""]):
            failed = make(name)("<answer> no such answer </answer>", gold=gold, choices=["red", "blue"]).failed
            assert failed == bool(gold_problem(make(name), {"gold": gold, "choices": ["red", "blue"]})), (name, gold)


def test_a_saved_file_is_refused_by_its_row(tmp_path):
    rows = [{"completion": "<answer> 1 </answer>", "gold": gold} for gold in (["1"], None, ["red"])]
    saved = read_saved(lines(tmp_path / "rows.jsonl", *rows))
    with pytest.raises(ValueError, match=r"rows.jsonl, row 3: reward number can't use it: gold answer 'red' holds no"):
        score_saved(saved, make("number"), "number")
    assert [score and score.value for score in score_saved(saved, make("exact"), "exact")] == [1, None, 0]


def test_a_users_questions_are_refused_by_their_row(tmp_path):
    path = lines(tmp_path / "mine.jsonl", {"gold": "1", "wrong": "2"}, {"gold": "red", "wrong": "2"})
    (number, exact) = choose(["number", "exact"])
    examples = read_examples(path)
    with pytest.raises(ValueError, match=r"mine.jsonl, row 2: reward number can't use it: gold answer 'red'"):
        check_examples(number, examples, path)
    check_examples(exact, examples, path)


def test_a_recipe_is_refused_where_the_reward_stands(load):  # noqa: F811
    (problem,) = problems(load, text=BASE + "reward: [{type: number, weight: 1}]\n")
    assert (
        "demo.yaml:13: reward: sample which-row/train/0/0: reward 1 number can't use it: number: gold answer" in problem
    )


def test_every_sample_of_a_stage_is_asked_about():
    spec = RewardSpec.model_validate({"components": NUMBER})
    samples = get_task("count-colour").samples("train", 3)
    check_stage_golds(samples, {"count-colour": spec}, "direct")
    samples[2] = replace(samples[2], gold=("several",))
    with pytest.raises(ValueError, match=r"sample count-colour/train/0/2: reward .*: gold answer 'several' holds no"):
        check_stage_golds(samples, {"count-colour": spec}, "direct")
    check_stage_golds(samples, {"count-colour": None, "parity": spec}, "direct")


def test_a_reward_without_a_check_has_none():
    assert get("format").check_gold is None
    assert reward.__kwdefaults__["check_gold"] is None
