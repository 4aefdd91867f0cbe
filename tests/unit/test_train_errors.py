"""What the driver tells of an error in the training process."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any
from unittest.mock import MagicMock

import pytest

from cpt.common.errors import RunFailed
from cpt.run.worker import TrainingFailed, run_check, run_evaluator


@pytest.mark.parametrize(
    ("cause", "told"),
    [
        (KeyError("pixel_values"), "KeyError: 'pixel_values'"),
        (ValueError("they disagree"), "ValueError: they disagree"),
        (RunFailed("no room on the disk"), "no room on the disk"),
    ],
)
def test_what_a_process_could_not_do_is_told_with_the_kind_of_error(
    monkeypatch: pytest.MonkeyPatch, cause: Exception, told: str
):
    import ray
    from ray.exceptions import RayTaskError

    def raising(answer: Any) -> None:
        raise RayTaskError("check", "its traceback", cause)

    monkeypatch.setattr(ray, "get", raising)
    with pytest.raises(TrainingFailed) as failed:
        run_check(MagicMock(), MagicMock(), MagicMock())
    assert str(failed.value) == told
    with pytest.raises(TrainingFailed) as failed:
        run_evaluator(MagicMock(), SimpleNamespace(name="drift"), SimpleNamespace(label="sft, stage 1"), MagicMock())
    assert str(failed.value) == f"sft, stage 1: drift: {told}"
