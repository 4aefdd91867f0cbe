"""SDFT's trainer on a table of logits, and what its teacher is asked."""

from __future__ import annotations

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
    from cpt.train.worker import import_trainers

    import_trainers()
    import cpt.train.distillation as module

    return module


@pytest.fixture(scope="module")
def toy(trainers: Any) -> Any:
    """`StageSDFTTrainer` on a table. The teacher's prompts end with word 1, the policy's with word 0."""
    import table_trainer

    class Toy(trainers.StageSDFTTrainer, table_trainer.Toy):
        def __init__(self, *args: Any) -> None:
            super().__init__(*args)
            self.demonstrations = SimpleNamespace(prompts=lambda *_: [[0, 1], [1]] * 4)
            self._tokenizer = SimpleNamespace(pad_token_id=0)
            self.max_completion_length = table_trainer.LONGEST
            self.accelerator.reduce = lambda value, reduction: value

        def _get_per_token_logps_and_entropies(self, model: Any, ids: Any, mask: Any, keep: int, **_: Any) -> Any:
            return torch.zeros(len(ids), keep), torch.ones(len(ids), keep), None

    return Toy


@pytest.mark.parametrize("settings", [{"decay": 0.5}, {"teacher": "live", "distillation_alpha": 0.5}])
def test_four_quarters_are_one_batch(toy: Any, settings: dict[str, Any]):
    from table_trainer import trained

    method = SDFT.model_validate({"type": "sdft", **settings})
    setting = SimpleNamespace(type="sdft", plugin=method.plugin, needs_rollouts=False)
    whole, quarters = (trained(parts, "group_mean", plugins=[setting], iterations=1, kind=toy) for parts in (1, 4))
    assert torch.allclose(whole.table, quarters.table, rtol=0, atol=1e-6)
    start = torch.tensor([[0.3, -0.2], [0.0, 0.5]])
    assert not torch.allclose(whole.table, start, rtol=0, atol=1e-2)
    # After word 0 the policy learns to say what the teacher says, whose prompts end with word 1.
    said = [table.detach().softmax(1) for table in (start, whole.table)]
    before, after = (float((one[0] - one[1]).abs().max()) for one in said)
    assert after < 0.9 * before
    logged = whole.trainer._metrics["train"]
    assert "frac_reward_zero_std" not in logged
    assert set(logged["entropy"]) == {1.0}


def test_rewards_have_no_part_in_it(toy: Any):
    from table_trainer import trained

    class Otherwise(toy):
        def _pay(self, texts: Any, **_: Any) -> list[float]:
            return [float(i) for i, _ in enumerate(texts)]

    method = SDFT(type="sdft")
    setting = SimpleNamespace(type="sdft", plugin=method.plugin, needs_rollouts=False)
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
    rows = policy_rows([samples[0], samples[0], samples[1]], "direct")
    calls: list[int] = []

    class Processor:
        bos_token = eos_token_id = None
        image_token_ids = (IMAGE,)

        def apply_chat_template(self, chats: Any, **_: Any) -> Any:
            calls.append(len(chats))
            return [str(number) for number in range(len(chats))]

        def __call__(self, text: Any, images: Any, **_: Any) -> Any:
            ids = torch.tensor([[7] * (40 + int(text[0]))])
            return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}

    processor = Processor()
    config = SimpleNamespace(get_text_config=lambda: SimpleNamespace(max_position_embeddings=49))
    asked = trainers.Demonstrations(SDFT(type="sdft"), "direct")
    assert [len(ids) for ids in asked.prompts(processor, rows, 8, config)] == [40, 40, 41]
    assert calls == [2]  # once per group
    with pytest.raises(ValueError, match=f"sample {samples[1].id}: .* 41 tokens, which with 9 of a completion is more"):
        asked.prompts(processor, rows, 9, config)


def test_the_teachers_prompts_are_padded_on_the_left_and_have_the_policys_pictures(trainers: Any):
    output = {
        "prompt_ids": torch.tensor([[PAD, IMAGE, 6], [IMAGE, IMAGE, 6]]),
        "prompt_mask": torch.tensor([[0, 1, 1], [1, 1, 1]]),
        "completion_ids": torch.tensor([[8, 9], [9, 0]]),
    }
    config = SimpleNamespace(image_token_id=IMAGE)
    found = trainers.teacher_prompts([[IMAGE, 6], [IMAGE, IMAGE, 6, 4]], output, PAD, config)
    assert found["teacher_prompt_ids"].tolist() == [[PAD, PAD, IMAGE, 6], [IMAGE, IMAGE, 6, 4]]
    assert found["teacher_prompt_mask"].tolist() == [[0, 0, 1, 1], [1, 1, 1, 1]]
    with pytest.raises(AssertionError, match="does not see what the policy sees"):
        trainers.teacher_prompts([[6, 6], [IMAGE, IMAGE, 6]], output, PAD, config)
