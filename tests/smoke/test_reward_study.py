"""A study of two rewards with real engines, trainers and Ray: same rollouts at the start, a page at the end."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.smoke

RECIPE = """\
version: 1
name: two-rewards
model: {name_or_path: builtin/tiny-qwen2_5-vl}
tasks: [answerable]
data: {samples: 8}
evaluation: {samples: 8}
drift: {samples: 2}
rollout: {engine: hf}
arms:
  sft: {method: {type: sft, max_steps: 1, per_device_train_batch_size: 8}}
  grpo: {method: {type: grpo, learning_rate: 1.0e-4, max_steps: 2, num_generations: 4, per_device_train_batch_size: 16}}
reward_sets:
  accuracy: [{type: accuracy, weight: 1.0}]
  anything: [{type: python, file: anything.py, name: score, label: anything, weight: 1.0}]
"""
ANYTHING = "def score(completion, *, n_tokens, **_):\n    return 0.9 if n_tokens else 0.0\n"
PATIENCE = 900  # seconds; other tests may have the other core


def study(folder: Path) -> str:
    command = [sys.executable, "-m", "cpt.cli", "rewards", "study", "study.yaml", "--out", "run"]
    done = subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=PATIENCE, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_study_of_two_rewards(tmp_path: Path):
    (tmp_path / "study.yaml").write_text(RECIPE)
    (tmp_path / "anything.py").write_text(ANYTHING)
    shown = study(tmp_path)
    assert "anything" in shown and "sft" not in shown
    stages = {name: tmp_path / "run" / "arms" / name / "seed-0" / "01-answerable" for name in ("accuracy", "anything")}
    rows = {
        name: [json.loads(line) for line in (where / "metrics.jsonl").read_text().splitlines()]
        for name, where in stages.items()
    }
    for name in ("true/strict", "true/tolerant", "completion_length"):
        first, other = (of[0][name] for of in rows.values())
        assert first == other, name
    for row in rows["accuracy"]:
        assert row["reward"] == pytest.approx(row["reward/accuracy"]) == pytest.approx(row["true/strict"])
    for row in rows["anything"]:
        assert row["reward"] == pytest.approx(0.9)
        assert row["frac_zero_std"] == 1.0
    found = json.loads((tmp_path / "run" / "summary.json").read_text())["rewards"]
    assert found["anything"]["held_out"]["reward"]["after"]["value"] == pytest.approx(0.9)
    assert found["accuracy"]["held_out"]["samples"] == 8
    page = (tmp_path / "run" / "rewards.html").read_text()
    assert "no hacking seen" in page
    assert 'href="rewards.html"' in (tmp_path / "run" / "report.html").read_text()

    before = {name: (where / "TRAINED.json").stat().st_mtime_ns for name, where in stages.items()}
    study(tmp_path)
    assert {name: (where / "TRAINED.json").stat().st_mtime_ns for name, where in stages.items()} == before
    assert (tmp_path / "run" / "rewards.html").read_text() == page
