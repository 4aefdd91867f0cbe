"""Which checkpoints of a stage can be resumed from."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from cpt.common.files import append_jsonl
from cpt.train.resume import (
    LIST,
    NOTHING,
    Found,
    Origin,
    drop_older,
    last_checkpoint,
    seal_checkpoint,
    what_is_wrong,
)

PARTS = ("trained.safetensors", "optimizer.pt", "scheduler.pt", "rng_state.pth", "trainer_state.json")


def write_checkpoint(
    folder: Path, step: int, weights: str = "trained.safetensors", plugins: str = "", origin: Origin = NOTHING
) -> Path:
    """A checkpoint as transformers lays it out, with arrays and archives of a few bytes."""
    path = folder / f"checkpoint-{step}"
    path.mkdir(parents=True)
    save_file({"w": np.arange(64, dtype=np.float32)}, path / weights)
    for name in ("optimizer.pt", "scheduler.pt", "rng_state.pth"):
        with zipfile.ZipFile(path / name, "w") as archive:
            archive.writestr("data", b"state" * 20)
    if plugins:
        (path / "plugins.json").write_text(plugins)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    seal_checkpoint(path, step, origin)
    return path


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:-40])


def test_the_newest_whole_checkpoint_is_taken(tmp_path: Path) -> None:
    for step in (2, 10, 4):
        write_checkpoint(tmp_path, step)
    assert last_checkpoint(tmp_path) == Found(tmp_path / "checkpoint-10", 10)


def test_the_oldest_checkpoints_are_dropped(tmp_path: Path) -> None:
    for step in (2, 10, 4):
        write_checkpoint(tmp_path, step)
    (tmp_path / "runs").mkdir()
    drop_older(tmp_path, 2)
    assert {path.name for path in tmp_path.iterdir()} == {"checkpoint-4", "checkpoint-10", "runs"}


def test_without_checkpoints_there_is_none(tmp_path: Path) -> None:
    assert last_checkpoint(tmp_path / "absent") == Found()
    (tmp_path / "runs").mkdir()
    assert last_checkpoint(tmp_path) == Found()


def test_a_checkpoint_of_another_version_is_not_taken(tmp_path: Path) -> None:
    assert what_is_wrong(write_checkpoint(tmp_path, 3), 3) is None
    found = what_is_wrong(write_checkpoint(tmp_path, 4, weights="model.safetensors"), 4)
    assert found == "trained.safetensors is missing: another version of cpt saved it"


@pytest.mark.parametrize("name", PARTS)
def test_a_file_that_is_cut_off_zeroed_flipped_or_missing_is_found(tmp_path: Path, name: str) -> None:
    path = write_checkpoint(tmp_path, 3)
    whole = (path / name).read_bytes()
    half = len(whole) // 2
    for damaged in (
        whole[:-1],
        whole[:half] + bytes(len(whole) - half),
        whole[:half] + bytes([whole[half] ^ 1]) + whole[half + 1 :],
    ):
        (path / name).write_bytes(damaged)
        assert name in (what_is_wrong(path, 3) or "")
    (path / name).unlink()
    assert f"{name} is missing" in (what_is_wrong(path, 3) or "")
    (path / name).write_bytes(whole)
    assert what_is_wrong(path, 3) is None


def test_an_interrupted_save_is_found(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 3)
    cut(path / LIST)
    assert "damaged JSON" in (what_is_wrong(path, 3) or "")
    (path / LIST).unlink()
    assert "interrupted" in (what_is_wrong(path, 3) or "")


def test_a_checkpoint_of_another_step_or_stage_is_not_taken(tmp_path: Path) -> None:
    origin = Origin("key-1")
    path = write_checkpoint(tmp_path, 3, origin=origin)
    assert what_is_wrong(path, 3, origin=origin) is None
    assert "another step" in (what_is_wrong(path, 4, origin=origin) or "")
    assert "another stage" in (what_is_wrong(path, 3, origin=replace(origin, key="key-2")) or "")


def test_nothing_may_have_come_to_a_checkpoint(tmp_path: Path) -> None:
    path = write_checkpoint(tmp_path, 3)
    (path / "adapter_config.json").write_text("{}")
    assert what_is_wrong(path, 3) == "adapter_config.json was not saved with it"


def test_what_the_stage_wrote_beside_must_begin_as_it_did_when_it_was_saved(tmp_path: Path) -> None:
    metrics, generated = tmp_path / "metrics.jsonl", tmp_path / "generated"
    origin = Origin("key", (metrics, generated, tmp_path / "rollouts.jsonl"))
    append_jsonl(metrics, {"step": 2, "loss": 0.5})
    generated.mkdir()
    (generated / "epoch-0.jsonl").write_text("answers")
    path = write_checkpoint(tmp_path / "checkpoints", 2, origin=origin)
    append_jsonl(metrics, {"step": 3, "loss": 0.25})  # a step that will be made again
    assert what_is_wrong(path, 2, origin=origin) is None
    whole = metrics.read_bytes()
    metrics.write_bytes(whole.replace(b"0.5", b"0.6"))
    assert "metrics.jsonl is not what it was" in (what_is_wrong(path, 2, origin=origin) or "")
    metrics.write_bytes(whole)
    (generated / "epoch-0.jsonl").unlink()
    assert "epoch-0.jsonl is not what it was" in (what_is_wrong(path, 2, origin=origin) or "")


def test_a_checkpoint_without_its_plugins_state_gives_way(tmp_path: Path) -> None:
    whole = write_checkpoint(tmp_path, 2, plugins='{"ewc": {}}')
    write_checkpoint(tmp_path, 4, plugins="{")
    write_checkpoint(tmp_path, 6)
    assert what_is_wrong(whole, 2) is None
    found = last_checkpoint(tmp_path, ["ewc"])
    assert (found.path, len(found.notes)) == (whole, 2)
    assert "checkpoint-6 can't be used (plugins.json is missing)" in found.notes[0]


def test_a_broken_checkpoint_gives_way_to_the_one_before(tmp_path: Path) -> None:
    write_checkpoint(tmp_path, 2)
    cut(write_checkpoint(tmp_path, 4) / "trained.safetensors")
    (tmp_path / "checkpoint-5").write_text("no folder")
    found = last_checkpoint(tmp_path)
    assert (found.path, found.step) == (tmp_path / "checkpoint-2", 2)
    assert len(found.notes) == 2
    assert "checkpoint-4" in found.notes[1]
    assert not (tmp_path / "checkpoint-4").exists()
    assert not (tmp_path / "checkpoint-5").exists()
    assert last_checkpoint(tmp_path).notes == ()
