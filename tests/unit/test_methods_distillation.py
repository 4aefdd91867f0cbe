"""Self-distillation's term and teacher, on a table of two words."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

import toys  # noqa: E402
from toy_stage import stage_of  # noqa: E402
from toys import batch, gradients, move  # noqa: E402

from cpt.methods.plugin import Batch  # noqa: E402
from cpt.methods.sdft import SDFT, Distillation  # noqa: E402
from cpt.models.inputs import ModelInputs, Pictures  # noqa: E402
from cpt.train.objective import rollout_batch  # noqa: E402

# After word 0 the next is [½, ½], after word 1 it is [¼, ¾].
TABLE = [[0.0, 0.0], [0.0, math.log(3.0)]]
FORWARD = 0.75 * math.log(3) - math.log(2)  # KL([¼, ¾] ‖ [½, ½])
REVERSE = 0.5 * math.log(4 / 3)


class Lookup(toys.Lookup):
    """Keeps the last logits alone if it is told to."""

    def forward(self, input_ids: Any, logits_to_keep: int = 0) -> Any:
        return SimpleNamespace(logits=super().forward(input_ids).logits[:, -logits_to_keep:])


def rows(student: int = 0, teacher: int = 1) -> Batch:
    """The completions [1] and [1, 0] after one word of the student's, and after 0 and one word of the teacher's."""
    asked = batch((0, teacher, 1), (0, teacher, 1, 0))
    asked.labels[:, 1] = toys.IGNORED
    return replace(batch((student, 1), (student, 1, 0)), teacher=asked)


def begun(model: Any, *, reference: Any = None, **settings: Any) -> Distillation:
    plugin = SDFT.model_validate({"type": "sdft", **settings}).plugin()
    assert isinstance(plugin, Distillation)
    plugin.before_stage(stage_of(model, Path(), references={"stage_start": reference}))
    return plugin


@pytest.mark.parametrize("teacher", ["ema", "live"])
@pytest.mark.parametrize(
    ("alpha", "value", "slope"),
    [
        (0.0, FORWARD, 0.25),  # p − q
        (1.0, REVERSE, 0.25 * math.log(3)),  # p (ln(p/q) − KL)
    ],
)
def test_value_and_gradient_by_hand(teacher: str, alpha: float, value: float, slope: float):
    """At the first word student and teacher differ, at the second they do not: means of 1 and ½, over the rows ¾."""
    model = Lookup(TABLE)
    plugin = begun(model, teacher=teacher, distillation_alpha=alpha)
    term = plugin.term(model, rows())
    assert term.item() == pytest.approx(0.75 * value, rel=1e-6)
    assert plugin.metrics() == {"divergence": pytest.approx(0.75 * value, rel=1e-6)}
    found = gradients(model, term)["table"]
    assert found[0] == pytest.approx([0.75 * slope, -0.75 * slope], rel=1e-5)
    assert found[1] == pytest.approx([0.0, 0.0], abs=1e-7)  # what is said there is the teacher's: no gradient


def test_the_default_is_the_forward_divergence_of_all_tokens():
    model = Lookup(TABLE)
    assert begun(model).term(model, rows()).item() == pytest.approx(0.75 * FORWARD, rel=1e-6)


def test_gradients_between_the_ends_are_autograds():
    model = Lookup(TABLE)
    found = gradients(model, begun(model, distillation_alpha=0.25).term(model, rows()))["table"]
    p, q = torch.tensor([0.5, 0.5]), torch.tensor([0.25, 0.75])
    m = 0.25 * q + 0.75 * p
    # d KL(q ‖ m) / dp = −¾ q/m, d KL(p ‖ m) / dp = ln(p/m) + 1 − ¾ p/m; then the softmax.
    by_p = 0.25 * (-0.75 * q / m) + 0.75 * ((p / m).log() + 1 - 0.75 * p / m)
    expected = 0.75 * p * (by_p - (p * by_p).sum())
    assert found[0] == pytest.approx(expected.tolist(), rel=1e-4)


def test_the_first_tokens_may_be_left_out():
    """The second word is after 1 for both; a teacher of its own has [¼, ¾] there where the student has [½, ½]."""
    model, other = Lookup([[0.0, 0.0], [0.0, 0.0]]), Lookup(TABLE)
    plugin = begun(model, teacher="stage_start", reference=other, num_loss_tokens_to_skip=1)
    assert plugin.term(model, rows(teacher=0)).item() == pytest.approx(0.5 * FORWARD, rel=1e-6)  # of the second row
    assert begun(model, num_loss_tokens_to_skip=2).term(model, rows()).item() == 0


@pytest.mark.parametrize(("teacher", "last"), [("ema", 0.75), ("stage_start", 0.0), ("live", 1.0)])
def test_where_the_teacher_is_after_two_steps(teacher: str, last: float, tmp_path: Path):
    """From 0 the policy goes to 1 and stays: with a decay of ½ its average is at ½, then at ¾."""

    def log_odds(plugin: Distillation) -> float:
        logits = plugin.teacher(input_ids=torch.tensor([[1]])).logits[0, 0]
        return float((logits[1] - logits[0]).detach())

    model = Lookup([[0.0, 0.0], [0.0, 0.0]])
    settings = {"teacher": teacher, "reference": Lookup([[0.0, 0.0], [0.0, 0.0]])}
    settings |= {"decay": 0.5} if teacher == "ema" else {}
    plugin = begun(model, **settings)
    move(model, table=[[0.0, 0.0], [0.0, 1.0]])
    plugin.after_step()
    plugin.after_step()
    assert log_odds(plugin) == pytest.approx(last)
    plugin.save(tmp_path)
    assert list(tmp_path.iterdir()) == ([tmp_path / "average.safetensors"] if teacher == "ema" else [])
    again = begun(model, **settings)
    again.load(tmp_path)
    assert log_odds(again) == pytest.approx(last)


def test_rollouts_after_both_prompts_are_the_same_tokens():
    marks = ModelInputs(SimpleNamespace(image_token_ids=[6]))
    marks.__dict__["_rules"] = {"mm_token_type_ids": lambda ids, said: (ids == 6).long()}
    inputs = {
        "prompt_ids": torch.tensor([[0, 5, 6], [5, 6, 7]]),
        "prompt_mask": torch.tensor([[0, 1, 1], [1, 1, 1]]),
        "completion_ids": torch.tensor([[8, 9], [9, 0]]),
        "completion_mask": torch.tensor([[1, 1], [1, 0]]),
        "pictures": [Pictures(marks, {"pixel_values": torch.full((rows, 2), float(rows))}) for rows in (1, 3)],
    }
    assert rollout_batch(inputs).teacher is None
    inputs |= {
        "teacher_prompt_ids": torch.tensor([[5, 6, 4, 4], [0, 0, 5, 6]]),
        "teacher_prompt_mask": torch.tensor([[1, 1, 1, 1], [0, 0, 1, 1]]),
    }
    own = rollout_batch(inputs)
    told = own.teacher
    assert own.inputs["input_ids"].tolist() == [[0, 5, 6, 8, 9], [5, 6, 7, 9, 0]]
    assert told.inputs["input_ids"].tolist() == [[5, 6, 4, 4, 8, 9], [0, 0, 5, 6, 9, 0]]
    assert told.inputs["attention_mask"].tolist() == [[1, 1, 1, 1, 1, 1], [0, 0, 1, 1, 1, 0]]
    assert told.inputs["mm_token_type_ids"].tolist() == [[0, 1, 0, 0, 0, 0], [0, 0, 0, 1, 0, 0]]
    assert own.inputs["mm_token_type_ids"].tolist() == [[0, 0, 1, 0, 0], [0, 1, 0, 0, 0]]
    assert told.inputs["pixel_values"] is own.inputs["pixel_values"]
    assert own.inputs["pixel_values"][:, 0].tolist() == [1, 3, 3, 3]
    for one in (own, told):
        assert one.labels[:, 1:][one.predicting].tolist() == [8, 9, 9]
