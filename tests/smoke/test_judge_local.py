"""`cpt judge --local` with the built-in model, which can say no score: that its replies are read, counted and kept."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path

import pyarrow.parquet as pq
import pytest

from cpt.cli.app import main
from cpt.evaluate.evaluators.generation import question_digest
from cpt.judge import local
from cpt.rollout.engine import EngineSettings
from cpt.rollout.local import LocalPool, build_engine
from cpt.store.records import write_records
from cpt.tasks import get_task
from cpt.types import Record

pytestmark = pytest.mark.smoke

RUBRIC = """\
name: short
reply: number
pictures: true
aspects: [{name: right, range: [0, 10], about: right or not}]
prompt: "is {completion} right ?"
"""


def records(completions: list[str]) -> list[Record]:
    """Of the first samples of a task with pictures."""
    found = []
    for sample, text in zip(get_task("which-row").samples("test", len(completions)), completions, strict=True):
        asked = question_digest(sample.question, sample.images)
        row = ("model", 0, 0, "which-row", sample.id, sample.question, text, "stop", "", list(sample.gold), 0.0, 0.0, 1)
        found.append(Record(*row, question_id=asked))
    return found


def test_a_model_folder_is_asked_with_pictures_in_its_own_chat(
    shipped: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
):
    """Without Ray: the engine is in this process."""
    pool = LocalPool(build_engine("hf", EngineSettings(str(shipped))))
    monkeypatch.setattr("cpt.cli.judge.cluster", lambda address: nullcontext())
    monkeypatch.setattr("cpt.cli.judge.placement_of", lambda rollout, wanted: None)
    monkeypatch.setattr("cpt.run.loop.start_pool", lambda model, rollout, share, pictures: pool)
    monkeypatch.setattr(local, "TOGETHER", 2)
    (tmp_path / "short.yaml").write_text(RUBRIC)
    write_records(tmp_path / "records.parquet", records(["<answer> top </answer>", "top", "word " * 600]))

    options = ["--rubric", str(tmp_path / "short.yaml"), "--local", "builtin/tiny-qwen2_5-vl", "--max-tokens", "16"]
    with pytest.raises(SystemExit) as ended:
        main(["judge", str(tmp_path), *options])

    assert ended.value.code == 1
    assert "nothing usable was judged: 2 unparsed, 1 failed" in capfd.readouterr().err
    (parquet,) = (tmp_path / "judgements").glob("*.parquet")
    rows = pq.read_table(parquet).to_pylist()
    assert [row["status"] for row in rows] == ["unparsed", "unparsed", "failed"]
    assert {row["picture"] for row in rows} == {"shown"}
    assert "exceed the judge's limit of 512" in rows[2]["reason"]
    about = json.loads(parquet.with_suffix(".json").read_text())
    assert about["judge"]["where"] == ["this machine"]
    assert about["judge"]["fingerprint"]
