"""Order of a stage's samples, rows for the trainers, and the gates against leaks and mixed groups."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from types import SimpleNamespace
from typing import Any, cast

import pytest

from cpt.methods.grpo import GRPO, DrGRPO
from cpt.methods.remax import ReMax
from cpt.methods.rloo import RLOO
from cpt.methods.sft import SFT
from cpt.plan.stages import StagePlan
from cpt.tasks import get_task
from cpt.tasks.chat import check_blocks, checked_prompt
from cpt.tasks.world.base import BuiltinTask
from cpt.train.data import (
    RowLookup,
    check_groups,
    policy_rows,
    presentation_order,
    sft_rows,
    stage_data,
)
from cpt.types import PromptStyle, Sample


def plan(method: SFT | GRPO, steps: int, *, seed: int = 0, index: int = 1) -> StagePlan:
    stage = SimpleNamespace(
        method=method,
        steps=steps,
        seed=seed,
        index=index,
        batch_samples=method.batch().samples,
        arm=method.type,
        stream=f"{seed}/{index}",
        replay=None,
        schedule="sequential",
    )
    return cast("StagePlan", stage)


def order(stage: StagePlan, unique: int) -> list[int]:
    return stage_data(stage, cast("list[Sample]", list(range(unique)))).order


def test_order_is_permutations_one_after_another() -> None:
    order = presentation_order(5, 12, "0/1")
    assert len(order) == 12
    assert sorted(order[:5]) == sorted(order[5:10]) == [0, 1, 2, 3, 4]
    assert order[:5] != order[5:10]
    assert order == presentation_order(5, 12, "0/1")
    assert order != presentation_order(5, 12, "0/2")


def test_order_of_a_longer_stage_starts_with_that_of_a_shorter_one() -> None:
    assert presentation_order(7, 30, "s")[:11] == presentation_order(7, 11, "s")


def test_no_samples_is_an_error() -> None:
    with pytest.raises(ValueError, match="at least one training sample"):
        presentation_order(0, 4, "s")


def test_every_method_walks_through_the_same_samples_in_the_same_order() -> None:
    sft = SFT(type="sft", per_device_train_batch_size=6, gradient_accumulation_steps=2)
    grpo = GRPO(type="grpo", per_device_train_batch_size=8, num_generations=4)
    by_sft = order(plan(sft, steps=3), 10)
    by_grpo = order(plan(grpo, steps=5), 10)
    assert len(by_sft) == 3 * 12
    assert len(by_grpo) == 5 * 2  # two prompts a step
    assert by_sft[:10] == by_grpo


@pytest.mark.parametrize(("kind", "name"), [(GRPO, "grpo"), (DrGRPO, "dr_grpo"), (RLOO, "rloo"), (ReMax, "remax")])
def test_two_passes_over_completions_need_half_the_prompts(kind: type[GRPO], name: str) -> None:
    sizes = {"per_device_train_batch_size": 8, "num_generations": 4, "num_iterations": 2}
    method = kind.model_validate({"type": name} | sizes)
    assert len(order(plan(method, steps=5), 10)) == 3 * 2  # five steps are three batches
    assert method.trl_arguments()["num_iterations"] == 2


def test_seeds_and_stages_have_orders_of_their_own() -> None:
    method = SFT(type="sft", per_device_train_batch_size=20)
    orders = [order(plan(method, 1, seed=seed, index=index), 20) for seed in (0, 1) for index in (1, 2)]
    assert len({tuple(order) for order in orders}) == 4


def test_sft_row_is_prompt_completion_and_pictures() -> None:
    task = get_task("count-colour")
    sample = task.samples("train", 1)[0]
    (row,) = sft_rows([sample], "direct", "policy")
    assert row["prompt"] == task.messages(sample, "direct")
    assert row["completion"] == [{"role": "assistant", "content": f"<answer> {sample.gold[0]} </answer>"}]
    assert row["images"] is sample.images  # read when a batch is made
    assert row["task"] == "count-colour"


def test_policy_row_holds_no_completion() -> None:
    task = get_task("count-colour")
    sample = task.samples("train", 1)[0]
    (row,) = policy_rows([sample], "think")
    assert set(row) == {"prompt", "images", "sample"}
    assert row["sample"] is sample


def test_a_lookup_returns_the_same_pictures_again() -> None:
    task = get_task("count-colour")
    rows = policy_rows(task.samples("train", 3), "direct")
    batch = RowLookup(rows)({"row": [2, 2, 0]})
    assert [sample.id for sample in batch["sample"]] == [rows[i]["sample"].id for i in (2, 2, 0)]
    assert batch["images"][0][0] is batch["images"][1][0]


class Leaky(BuiltinTask):
    """A stand-in whose prompt can be made to give the answer away."""

    name, family, about = "leaky", "test", "a test's task"

    def __init__(self, leak: str) -> None:
        super().__init__()
        self.leak = leak

    def draw(self, rng: Any, split: Any) -> Any:
        raise NotImplementedError

    def messages(self, sample: Sample, prompt: PromptStyle) -> list[dict[str, Any]]:
        text = {"gold": f"{sample.question} {sample.gold[0]}", "shown": "3 plus 4 : seven is 3 plus 4"}
        chat = [{"role": "user", "content": text.get(self.leak, sample.question)}]
        return [*chat, {"role": "assistant", "content": "7"}] if self.leak == "turn" else chat


@pytest.fixture
def sum_of_two() -> Sample:
    return Sample("leaky/train/0", "leaky", "3 plus 4 ?", (), ("7",), "seven is 3 plus 4")


@pytest.mark.parametrize("leak", ["gold", "shown", "turn"])
def test_a_prompt_that_gives_the_answer_away_is_refused(leak: str, sum_of_two: Sample) -> None:
    with pytest.raises(ValueError, match="leaky/train/0"):
        checked_prompt(Leaky(leak), sum_of_two, "direct")


def test_a_prompt_without_the_answer_passes(sum_of_two: Sample) -> None:
    turns = SimpleNamespace(
        messages=lambda *_: [{"role": role, "content": "?"} for role in ("user", "assistant", "user")],
        target=Leaky("").target,
    )
    with pytest.raises(
        ValueError, match=f"{sum_of_two.id} has a turn of the assistant: chats of several turns are not"
    ):
        checked_prompt(turns, sum_of_two, "direct")
    assert checked_prompt(Leaky(""), sum_of_two, "direct") == [{"role": "user", "content": "3 plus 4 ?"}]


def test_an_option_that_is_the_answer_is_no_leak(sum_of_two: Sample) -> None:
    choice = replace(sum_of_two, question="3 plus 4 ? A : 6 B : 7", gold=("B",))
    assert checked_prompt(Leaky(""), choice, "direct")


def test_pictures_without_placeholders_are_refused(sum_of_two: Sample) -> None:
    picture = get_task("count-colour").samples("train", 1)[0].images
    with pytest.raises(ValueError, match="1 pictures and 0 image placeholders"):
        checked_prompt(Leaky(""), replace(sum_of_two, images=picture), "direct")


def test_a_picture_inside_the_chat_is_refused(sum_of_two: Sample) -> None:
    """Trainers would take this one, engines the sample's, and nobody has prepared it."""
    picture = get_task("count-colour").samples("train", 1)[0].images
    sample = replace(sum_of_two, images=picture)
    chat = [{"role": "user", "content": [{"type": "image", "image": picture[0]}, {"type": "text", "text": "?"}]}]
    with pytest.raises(ValueError, match=f"prompt of sample {sample.id} brings a picture of its own"):
        check_blocks(sample, chat)
    with pytest.raises(ValueError, match="a block of type video; use text and image"):
        check_blocks(sample, [{"role": "user", "content": [{"type": "video"}]}])


@pytest.mark.parametrize("prompt", ["direct", "think"])
def test_no_built_in_task_leaks(prompt: PromptStyle) -> None:
    from cpt.tasks import task_names

    checked = Counter[str]()
    for name in task_names("stage"):
        task = get_task(name)
        for sample in task.samples("train", 20):
            checked_prompt(task, sample, prompt)
            checked[name] += 1
    assert set(checked.values()) == {20}


def test_a_group_of_two_prompts_is_caught() -> None:
    check_groups(["a", "a", "b", "b"], 2)
    with pytest.raises(AssertionError, match="mixes the prompts"):
        check_groups(["a", "b", "b", "a"], 2)
    with pytest.raises(AssertionError, match="no whole groups"):
        check_groups(["a", "a", "b"], 2)
