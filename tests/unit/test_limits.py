"""What a family of models can't do is said before anything starts, with a sample and what to change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import cpt.rollout.limits as limits


def folder(path: Path, kind: str) -> str:
    (path / "config.json").write_text(json.dumps({"model_type": kind}))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "engine", "gpu", "pictures", "message"),
    [
        ("paligemma", "hf", False, 0, "s/0 has no picture: .* leave its task out"),
        ("paligemma", "vllm", True, 1, "vLLM lets a prompt's words .* rollout.engine: hf"),
        ("gemma3", "vllm", False, 1, "on a CPU vLLM lets a picture's tokens .* rollout.engine: hf"),
        ("llava_onevision", "vllm", True, 3, "s/0 has 3 pictures: .* rollout.engine: hf"),
        ("gemma3", "vllm", False, 0, ""),
        ("gemma3", "vllm", True, 2, ""),
        ("gemma3", "hf", False, 2, ""),
        ("llava_onevision", "vllm", False, 1, ""),
        ("llava_onevision", "hf", False, 3, ""),
        ("paligemma", "hf", False, 2, ""),
        ("qwen2_5_vl", "vllm", False, 4, ""),
    ],
)
def test_what_is_refused_and_what_is_not(tmp_path: Path, kind, engine, gpu, pictures, message):
    asked = [("s/0", pictures)]
    if message:
        with pytest.raises(ValueError, match=message):
            limits.check_family(folder(tmp_path, kind), engine, gpu=gpu, pictures=asked)
    else:
        limits.check_family(folder(tmp_path, kind), engine, gpu=gpu, pictures=asked)


def test_a_processor_without_its_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="the processor of smolvlm needs the package num2words"):
        limits.check_family(folder(tmp_path, "smolvlm"), "hf", gpu=False, pictures=[])
