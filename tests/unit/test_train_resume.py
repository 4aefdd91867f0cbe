"""Which checkpoints of a stage can be resumed from."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cpt.train.resume import Found, last_checkpoint, what_is_missing


def write_checkpoint(folder: Path, step: int, weights: str = "model.safetensors") -> Path:
    """A checkpoint as transformers lays it out, with arrays and archives of a few bytes."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"w": np.arange(64, dtype=np.float32)}, path / weights)
    if weights.startswith("adapter"):
        (path / "adapter_config.json").write_text("{}")
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(path / name, "w") as archive:
            archive.writestr("data", b"state" * 20)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    return path


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    for step in (2, 10, 4):
        write_checkpoint(tmp_path, step)
    assert last_checkpoint(tmp_path) == Found(tmp_path / "checkpoint-10", 10)


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "absent") == Found()
    (tmp_path / "runs").mkdir()
    assert last_checkpoint(tmp_path) == Found()


@pytest.mark.parametrize("weights", ["model.safetensors", "adapter_model.safetensors"])
def test_a_checkpoint_of_either_kind_is_whole(tmp_path: Path, weights: str) -> None:
    assert what_is_missing(write_checkpoint(tmp_path, 3, weights), 3) is None


@pytest.mark.parametrize("weights", ["model.safetensors", "adapter_model.safetensors"])
def test_cut_off_weights_are_found(tmp_path: Path, weights: str) -> None:
    path = write_checkpoint(tmp_path, 3, weights)
    cut(path / weights)
    assert weights in (what_is_missing(path, 3) or "")


@pytest.mark.parametrize("name", ["optimizer.pt", "scheduler.pt", "rng_state.pth"])
def test_cut_off_or_missing_state_is_found(tmp_path: Path, name: str) -> None:
    path = write_checkpoint(tmp_path, 3)
    cut(path / name)
    assert name in (what_is_missing(path, 3) or "")
    (path / name).unlink()
    assert name in (what_is_missing(path, 3) or "")


def test_an_interrupted_save_is_found(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 3)
    assert "another step" in (what_is_missing(path, 4) or "")
    cut(path / "trainer_state.json")
    assert what_is_missing(path, 3)
    (path / "trainer_state.json").unlink()
    assert "interrupted" in (what_is_missing(path, 3) or "")


def test_a_checkpoint_without_its_plugins_state_gives_way(tmp_path: Path) -> None:
    whole = write_checkpoint(tmp_path, 2)
    (whole / "plugins.json").write_text('{"ewc": {}}')
    (write_checkpoint(tmp_path, 4) / "plugins.json").write_text("{")
    write_checkpoint(tmp_path, 6)
    assert what_is_missing(whole, 2) is None
    found = last_checkpoint(tmp_path, ["ewc"])
    assert (found.path, len(found.notes)) == (whole, 2)
    assert "checkpoint-6 can't be used (plugins.json is missing)" in found.notes[0]


def test_a_broken_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2)
    cut(write_checkpoint(tmp_path, 4) / "model.safetensors")
    found = last_checkpoint(tmp_path)
    assert (found.path, found.step) == (tmp_path / "checkpoint-2", 2)
    assert len(found.notes) == 1
    assert "checkpoint-4" in found.notes[0]
    assert not (tmp_path / "checkpoint-4").exists()
    assert last_checkpoint(tmp_path).notes == ()
