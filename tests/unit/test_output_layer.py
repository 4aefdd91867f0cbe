"""Log-probabilities from logits, by hand; TRL's own output layer, which does without, in test_trl_oracle.py."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
import torch

from cpt.run.worker import import_trainers

import_trainers()

from trl import trainer  # noqa: E402

from cpt.tasks.world.tiny import make_model, make_processor  # noqa: E402
from cpt.train.output_layer import IN_TILES, from_outputs, label_scores  # noqa: E402


def test_labels_are_scored_by_the_logits_before_them():
    # Odds 3 : 1 after the first token, 1 : 1 after the second; at temperature ½ 9 : 1. The third predicts nothing.
    logits = torch.tensor([[[math.log(3), 0.0], [0.0, 0.0], [5.0, 0.0]]], requires_grad=True)
    found = from_outputs(SimpleNamespace(logits=logits), torch.tensor([[7, 1, -100]]))
    assert found.log_probs.tolist() == [[pytest.approx(math.log(1 / 4)), 0.0]]
    entropy = -(0.75 * math.log(0.75) + 0.25 * math.log(0.25))
    assert found.entropy.tolist() == [[pytest.approx(entropy), 0.0]]
    assert found.label_mask.tolist() == [[True, False]]
    found.log_probs.sum().backward()
    torch.testing.assert_close(logits.grad[0], torch.tensor([[-0.75, 0.75], [0.0, 0.0], [0.0, 0.0]]))
    cold = from_outputs(SimpleNamespace(logits=logits), torch.tensor([[7, 1, 0]]), temperature=0.5)
    assert cold.log_probs.tolist() == [[pytest.approx(math.log(1 / 10)), pytest.approx(math.log(1 / 2))]]


def test_what_is_scored_already_stays_as_it_is():
    outputs = SimpleNamespace(log_probs=torch.zeros(1, 1))
    assert from_outputs(outputs, torch.zeros(1, 2)) is outputs


@pytest.mark.skipif(not IN_TILES, reason="this TRL forms logits")
def test_trls_output_layer_says_the_same():
    torch.manual_seed(0)
    model = make_model(make_processor().tokenizer)
    trainer.add_fused_lm_head(model, temperature=0.7, outputs=("log_probs", "entropy"))
    ids = torch.randint(8, 40, (2, 6))
    labels = torch.where(torch.rand(2, 6) < 0.5, ids, -100)
    tiles = label_scores(model, labels, temperature=0.7, input_ids=ids)
    logits = from_outputs(model(input_ids=ids), labels, temperature=0.7)
    torch.testing.assert_close(logits.log_probs, tiles.log_probs, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(logits.entropy, tiles.entropy, rtol=1e-5, atol=1e-5)
    assert logits.label_mask.equal(tiles.label_mask)
