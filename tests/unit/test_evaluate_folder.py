"""`cpt eval`: how long a completion may be, and what is said of those that were longer."""

from __future__ import annotations

from contextlib import nullcontext
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from synthetic import record

from cpt.cli.evaluate import evaluate_folder
from cpt.evaluate.evaluators.base import Subject
from cpt.evaluate.evaluators.generation import GenerationEvaluator
from cpt.types import Record


@pytest.fixture
def limits(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Stands in for engines and evaluation: the token limits that were asked for. One of two samples is cut off."""
    asked: list[int] = []

    def records(self: Any, subject: Subject, pool: Any) -> list[Record]:
        asked.append(subject.evaluation.max_tokens)
        rows = [record("base", 0, 0, "parity", number, 1) for number in (0, 1)]
        return [rows[0], replace(rows[1], finish_reason="length")]

    pool = SimpleNamespace(push_folder=lambda path, version: version, close=lambda: None)
    monkeypatch.setattr("cpt.cli.evaluate.cluster", lambda address: nullcontext())
    monkeypatch.setattr("cpt.cli.evaluate.placement_of", lambda rollout, wanted: None)
    monkeypatch.setattr("cpt.run.loop.start_pool", lambda model, rollout, share, pictures: pool)
    monkeypatch.setattr(GenerationEvaluator, "records", records)
    return asked


MODEL = "builtin/tiny-qwen2_5-vl"


def test_the_limit_is_a_recipe_s_unless_it_is_given(limits: list[int]):
    evaluate_folder(MODEL, ["parity"], "direct", 2, None)
    evaluate_folder(MODEL, ["parity"], "think", 2, None)
    evaluate_folder(MODEL, ["parity"], "think", 2, None, 64)
    assert limits == [8, 32, 64]


def test_completions_that_were_cut_off_are_mentioned(limits: list[int], capsys: pytest.CaptureFixture[str]):
    evaluate_folder(MODEL, ["parity"], "direct", 2, None)
    assert "1 of 2 completions are cut off at 8 tokens; --max-tokens sets another limit" in capsys.readouterr().out
