"""Data as labs have them, trained by SFT and GRPO with YAML alone: a whole run, as its user starts it."""

from __future__ import annotations

from pathlib import Path

import lab_data
import pytest
import yaml

from cpt.cli.app import main
from cpt.common.files import read_jsonl
from cpt.store.records import read_records

pytestmark = pytest.mark.smoke


def test_five_kinds_of_data_are_trained_from_yaml(tmp_path: Path) -> None:
    kinds = {kind: getattr(lab_data, kind) for kind in ("sharegpt", "saved", "parquet", "easyr1", "text_only")}
    entries = [make(tmp_path / kind) for kind, make in kinds.items()]
    sft = {"type": "sft", "max_steps": 2, "per_device_train_batch_size": 8, "gradient_accumulation_steps": 1}
    grpo = {"type": "grpo", "max_steps": 2, "per_device_train_batch_size": 16, "num_generations": 4}
    recipe = {
        "version": 1,
        "name": "labs",
        "model": "builtin/tiny-qwen2_5-vl",
        "tasks": entries,
        "data": {"samples": 32},
        "evaluation": {"samples": 4},
        "drift": {"samples": 0},
        "rollout": {"engine": "hf"},
        "arms": {"sft": {"method": sft}, "grpo": {"method": grpo}},
    }
    (tmp_path / "labs.yaml").write_text(yaml.safe_dump(recipe))
    out = tmp_path / "run"
    with pytest.raises(SystemExit) as end:
        main(["run", str(tmp_path / "labs.yaml"), "--out", str(out)])
    assert end.value.code == 0
    assert (out / "report.html").exists()
    for arm in ("sft", "grpo"):
        for index, entry in enumerate(entries, start=1):
            stage = out / "arms" / arm / "seed-0" / f"{index:02}-{entry['name']}"
            assert [row["step"] for row in read_jsonl(stage / "metrics.jsonl")] == [1, 2]
            records = read_records(stage / "records.parquet")
            asked = {record.task: record for record in records}
            assert {task: record.metric for task, record in asked.items()} == {
                "lab-sharegpt": "exact",
                "lab-vqa": "vqa",
                "lab-choice": "choice",
                "lab-easyr1": "exact",
                "lab-sums": "exact",
            }
            assert len(records) == 20 and len(asked["lab-vqa"].gold) == 10
            pictures = {task: record.prompt.count("<|image_pad|>") for task, record in asked.items()}
            assert pictures["lab-sharegpt"] == pictures["lab-easyr1"] == 1 and pictures["lab-sums"] == 0
            assert {r.prompt.count("<|image_pad|>") for r in records if r.task == "lab-choice"} == {0, 1}
