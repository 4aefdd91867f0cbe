"""`cpt filter` as a command of its own, with Ray."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from cpt.methods.filtering import read_filter

pytestmark = pytest.mark.smoke


def test_the_command_alone(tmp_path: Path):
    recipe = tmp_path / "demo.yaml"
    recipe.write_text(
        "version: 1\nname: demo\nmodel: builtin/tiny-qwen2_5-vl\ntasks: [count-colour]\ndata: {samples: 48}\n"
        "rollout: {engine: hf}\narms:\n  rif: {method: {type: grpo, max_steps: 1}, filter: rif}\n"
    )
    command = [sys.executable, "-m", "cpt.cli", "filter", str(recipe), "--task", "count-colour", "--out"]
    done = subprocess.run([*command, str(tmp_path / "out")], capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stderr
    found = read_filter(tmp_path / "out" / "filter.parquet")
    assert [prompt.task for prompt in found.prompts] == ["count-colour"] * 48
    everything, kept = found.counts()
    assert f"keeps {sum(kept)} of 48 prompts, {sum(kept) / 48:.1%}" in done.stdout
    for passes, (n, own) in enumerate(zip(everything, kept, strict=True)):
        (line,) = [line.split() for line in done.stdout.splitlines() if line.strip().startswith(f"{passes}/8")]
        assert line[:4] == [f"{passes}/8", f"{passes / 8:.3f}", str(n), str(own)]
