"""SDFT's trainer on a table of logits, and what its teacher is asked."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from cpt.methods.sdft import SDFT  # noqa: E402
from cpt.tasks import get_task  # noqa: E402
from cpt.train.data import policy_rows  # noqa: E402

IMAGE, PAD = 5, 0


@pytest.fixture(scope="module")
def trainers() -> Any:
    """The trainer's module; not imported with this one, because TRL takes seconds."""
    from cpt.run.worker import import_trainers

    import_trainers()
    import cpt.train.distillation as module

    return module


@pytest.fixture(scope="module")
def toy(trainers: Any) -> Iterator[Any]:
    """A trainer with a teacher on a table. The teacher's prompts end with word 1, the policy's with word 0."""
    import table_trainer

    class Toy(table_trainer.Toy):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.tools = replace(self.tools, teacher=SimpleNamespace(prompts=lambda *_: [[0, 1], [1]]))

    with table_trainer.with_trls_output_layer():
        yield Toy


@pytest.mark.parametrize("settings", [{"decay": 0.5}, {"teacher": "live", "distillation_alpha": 0.5}])
def test_four_quarters_are_one_batch(toy: Any, settings: dict[str, Any]):
    from table_trainer import trained

    method = SDFT.model_validate({"type": "sdft", **settings})
    setting = SimpleNamespace(type="sdft", plugin=method.plugin, changes_reward=False)
    whole, quarters = (trained(parts, "group_mean", plugins=[setting], iterations=1, kind=toy) for parts in (1, 4))
    assert torch.allclose(whole.table, quarters.table, rtol=0, atol=1e-6)
    start = torch.tensor([[0.3, -0.2], [0.0, 0.5]])
    assert not torch.allclose(whole.table, start, rtol=0, atol=1e-2)
    # After word 0 the policy learns to say what the teacher says, whose prompts end with word 1.
    said = [table.detach().softmax(1) for table in (start, whole.table)]
    before, after = (float((one[0] - one[1]).abs().max()) for one in said)
    assert after < 0.9 * before
    assert "frac_reward_zero_std" not in whole.trainer.logged
    # Entropies after words 0 and 1 in nats, of which the first three rows have 3 and 2; all have 8 and 7.
    first, second = (float(-(p * p.log()).sum()) for p in start.softmax(1))
    assert whole.trainer.logged["entropy"][0] == pytest.approx((11 * first + 4 * second) / 15)


def test_rewards_have_no_part_in_it(toy: Any):
    from table_trainer import trained

    class Otherwise(toy):
        def reward(self, texts: Any, **_: Any) -> list[float]:
            return [float(i) for i, _ in enumerate(texts)]

    method = SDFT(type="sdft")
    setting = SimpleNamespace(type="sdft", plugin=method.plugin, changes_reward=False)
    ours, theirs = (trained(1, "group_mean", plugins=[setting], iterations=1, kind=kind) for kind in (toy, Otherwise))
    assert ours.advantages != theirs.advantages
    assert torch.equal(ours.table, theirs.table)


def test_the_teacher_alone_is_shown_the_answer(trainers: Any):
    (sample,) = get_task("count-colour").samples("train", 1)
    (row,) = policy_rows([sample], "direct")
    asked = trainers.Demonstrations(SDFT(type="sdft"), "direct").chat(row["prompt"], sample)
    (plain,), (turn,) = row["prompt"], asked
    assert turn["content"][: len(plain["content"])] == plain["content"]  # its picture's place and the question
    answer = f"<answer> {sample.gold[0]} </answer>"
    assert turn["content"][-1] == {
        "type": "text",
        "text": "\n\nThis is an example for a response to the question:\n" + answer
        + "\n\nNow answer with a response of your own.",
    }  # fmt: skip
    assert answer not in str(plain)
    bare = trainers.Demonstrations(SDFT(type="sdft", target_style="dataset", demonstration="{demonstration}"), "direct")
    (told,) = bare.chat([{"role": "user", "content": "How many?"}], sample)
    assert told == {"role": "user", "content": f"How many?\n\n{sample.gold[0]}"}


def test_a_question_that_does_not_fit_is_named(trainers: Any):
    samples = get_task("count-colour").samples("train", 2)
    rows = policy_rows(samples, "direct")

    class Processor:
        bos_token = eos_token_id = None
        image_token_ids = (IMAGE,)

        def apply_chat_template(self, chats: Any, **_: Any) -> Any:
            return [str(number) for number in range(len(chats))]

        def __call__(self, text: Any, images: Any, **_: Any) -> Any:
            ids = torch.tensor([[7] * (40 + int(text[0]))])
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    processor = Processor()
    asked = trainers.Demonstrations(SDFT(type="sdft"), "direct")
    assert [len(ids) for ids in asked.prompts(processor, rows, 8, 49)] == [40, 41]
    assert [len(ids) for ids in asked.prompts(processor, rows, 9, None)] == [40, 41]
    with pytest.raises(ValueError, match=f"sample {samples[1].id}: .* 41 tokens, which with 9 of a completion is more"):
        asked.prompts(processor, rows, 9, 49)


def test_the_teachers_prompts_are_padded_on_the_left_and_have_the_policys_pictures(trainers: Any):
    from cpt.train.batch import PolicyBatch

    nothing = torch.zeros(4, 1)
    batch = PolicyBatch(
        prompt_ids=torch.tensor([[PAD, IMAGE, 6]] * 2 + [[IMAGE, IMAGE, 6]] * 2),
        prompt_mask=torch.tensor([[0, 1, 1]] * 2 + [[1, 1, 1]] * 2),
        completion_ids=nothing, completion_mask=nothing, pictures=[], engine_logps=nothing, step=nothing,
        tokens=nothing,
    )  # fmt: skip
    inputs = SimpleNamespace(image=IMAGE, tokenizer=SimpleNamespace(pad_token_id=PAD))
    found = trainers.with_teacher(batch, [[IMAGE, 6], [IMAGE, IMAGE, 6, 4]], inputs)
    assert found.teacher_ids.tolist() == [[PAD, PAD, IMAGE, 6]] * 2 + [[IMAGE, IMAGE, 6, 4]] * 2
    assert found.teacher_mask.tolist() == [[0, 0, 1, 1]] * 2 + [[1, 1, 1, 1]] * 2
    with pytest.raises(AssertionError, match="does not see what the policy sees"):
        trainers.with_teacher(batch, [[6, 6], [IMAGE, IMAGE, 6]], inputs)
