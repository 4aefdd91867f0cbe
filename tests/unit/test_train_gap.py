"""What engine and trainer may differ by: a bound, and in bfloat16 what rounding explains."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest

torch = pytest.importorskip("torch")

from cpt.models.inputs import ModelInputs, Pictures  # noqa: E402
from cpt.train.batch import PolicyBatch  # noqa: E402
from cpt.train.gap import LARGEST, GapCheck, measured_noise  # noqa: E402


class Rounded(torch.nn.Module):
    """Under autocast every second of its logits is off by 0.02: the deviation from their mean is 0.01."""

    def __init__(self) -> None:
        super().__init__()
        self.logits = torch.nn.Parameter(torch.zeros(8))
        self.half, self.asked = False, 0

    def forward(self, input_ids: Any, attention_mask: Any, logits_to_keep: int) -> Any:
        self.asked += 1
        error = torch.tensor([0.02, 0.0] * 4) * self.half
        return SimpleNamespace(logits=(self.logits + error).expand(*input_ids.shape, 8)[:, -logits_to_keep:])

    @contextmanager
    def autocast(self) -> Iterator[None]:
        self.half = True
        yield
        self.half = False


def batch(difference: float) -> tuple[PolicyBatch, Any]:
    """Three completions with tokens of probability 1/2, all of which the engine finds less likely, and the trainer's
    log-probabilities; the padding is far off."""
    pictures = [Pictures(ModelInputs(SimpleNamespace()))] * 3
    mask = torch.tensor([[1, 1], [1, 0], [1, 1]])
    ours = torch.tensor(0.5).log().expand(3, 2) - 100.0 * (1 - mask)
    ids = torch.ones(3, 2, dtype=torch.long)
    engine = torch.tensor(0.5).log().expand(3, 2) - difference
    rows = {"prompt_ids": ids, "prompt_mask": ids, "completion_ids": ids, "completion_mask": mask}
    return PolicyBatch(**rows, pictures=pictures, engine_logps=engine, step=ids[0, 0], tokens=mask.sum()), ours


def test_the_largest_difference_keeps_the_bound():
    check = GapCheck(0.125, by_rounding=False)
    check.largest({LARGEST: torch.tensor(0.125)}, 3)
    with pytest.raises(
        ValueError, match=r"step 3: .* differ by 0\.25 nats per token, more than .*max_logprob_gap 0\.125"
    ):
        check.largest({LARGEST: torch.tensor(0.25)}, 3)
    with pytest.raises(ValueError, match="nan"):
        check.largest({LARGEST: torch.tensor(float("nan"))}, 3)


def test_noise_is_that_of_the_logits():
    model = Rounded()
    rows, _ = batch(0.0)
    assert measured_noise(rows, model, model.autocast) == pytest.approx(0.01)
    masked = torch.tensor([[0, 0], [0, 0], [1, 1]])  # the first completions count nowhere
    assert measured_noise(replace(rows, completion_mask=masked), model, model.autocast) == pytest.approx(0.01)


def test_what_rounding_explains_passes_and_is_measured_only_when_it_must_be():
    """One unit is 2 · 0.01 · ½ and 1e-4 beside; three of them pass."""
    model, check = Rounded(), GapCheck(1.0, by_rounding=True)
    rows, logps = batch(2.9 * 0.0101)
    check.rounding(rows, logps, model, model.autocast, 1)
    assert model.asked == 2
    check.rounding(rows, logps, model, model.autocast, 2)
    assert model.asked == 2
    rows, logps = batch(3.1 * 0.0101)
    with pytest.raises(ValueError, match=r"step 3: .* by 3\.1 times what bfloat16 explains \(up to 0\.0313 nats"):
        check.rounding(rows, logps, model, model.autocast, 3)
    assert model.asked == 4  # the weights may have moved


def test_in_float32_nothing_is_put_down_to_rounding():
    model, check = Rounded(), GapCheck(1.0, by_rounding=False)
    check.rounding(*batch(0.5), model, model.autocast, 1)
    assert model.asked == 0
