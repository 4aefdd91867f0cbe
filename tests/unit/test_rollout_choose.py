"""`engine: auto`: vLLM on GPUs and for models that are large for a CPU, Hugging Face otherwise."""

from __future__ import annotations

import json
from importlib.machinery import ModuleSpec
from pathlib import Path

import pytest

from cpt.rollout.local import choose_engine


def model_of(parameters: int, folder: Path) -> str:
    """A checkpoint's header that promises so many parameters; nobody reads the rest."""
    entry = {"dtype": "F32", "shape": [parameters], "data_offsets": [0, 4 * parameters]}
    header = json.dumps({"weight": entry}).encode()
    with (folder / "model.safetensors").open("wb") as file:
        file.write(len(header).to_bytes(8, "little") + header)
        file.truncate(8 + len(header) + 4 * parameters)  # sparse
    return str(folder)


@pytest.mark.parametrize(
    ("parameters", "gpus", "installed", "expected"),
    [
        (1_500_000, 0, True, "hf"),
        (2_999_999, 0, True, "hf"),
        (3_000_000, 0, True, "vllm"),
        (1_500_000, 0.5, True, "vllm"),
        (100_000_000, 1, False, "hf"),
    ],
)
def test_choice(parameters, gpus, installed, expected, tmp_path, monkeypatch):
    spec = ModuleSpec("vllm", None) if installed else None
    monkeypatch.setattr("cpt.rollout.local.find_spec", lambda name: spec)
    assert choose_engine(model_of(parameters, tmp_path), gpus) == expected
