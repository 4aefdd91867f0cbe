"""`cpt eval` again: only what has not been answered yet is generated, and the records are those made afresh."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace

import pytest

from cpt.cli.evaluate import evaluate_folder
from cpt.rollout.local import LocalPool
from cpt.types import Completion, GenerationRequest, SamplingParams

pytestmark = pytest.mark.smoke
TASKS = ["count-colour", "arithmetic"]  # the second has no pictures


@pytest.fixture(scope="module")
def base(shipped: Path) -> Path:
    """Answers that differ from question to question."""
    return shipped


@pytest.fixture
def calls(pool: LocalPool, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many questions each call of the engines got; 0 where they start."""
    found: list[int] = []

    def generate(
        requests: Sequence[GenerationRequest], params: SamplingParams, *, version: str
    ) -> list[list[Completion]]:
        found.append(len(requests))
        return pool.generate(requests, params, version=version)

    counting = SimpleNamespace(push_folder=pool.push_folder, generate=generate, close=lambda: None)
    monkeypatch.setattr("cpt.cli.evaluate.cluster", lambda address: nullcontext())
    monkeypatch.setattr("cpt.cli.evaluate.placement_of", lambda rollout, wanted: None)

    def start(*_: object) -> SimpleNamespace:
        found.append(0)
        return counting

    monkeypatch.setattr("cpt.run.loop.start_pool", start)
    return found


def test_a_second_evaluation_generates_only_what_is_new(
    base: Path, calls: list[int], tmp_path: Path, capsys: pytest.CaptureFixture[str]
):
    def records(out: str, samples: int, tasks: Sequence[str] = TASKS) -> bytes:
        evaluate_folder(str(base), tasks, "direct", samples, tmp_path / out)
        return (tmp_path / out / "records.parquet").read_bytes()

    first = records("kept", 3)
    assert records("kept", 3) == first
    assert calls == [0, 6]  # the second time no engines started
    more = records("kept", 5)
    assert calls == [0, 6, 0, 4]
    records("kept", 5, [*TASKS, "parity"])
    assert calls == [0, 6, 0, 4, 0, 5]
    (file,) = (tmp_path / "kept").glob("*.sqlite")
    file.write_bytes(file.read_bytes()[:5000])
    assert records("kept", 5) == more == records("fresh", 5)
    assert calls[6:] == [0, 10, 0, 10]
    told = capsys.readouterr().err
    assert told.count("deleted, since it is damaged") == 1
