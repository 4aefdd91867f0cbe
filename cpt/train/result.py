"""What a trained stage leaves, for the process that trains it and for the driver, which loads no training library."""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.store.folder import StageDir


@dataclass(frozen=True)
class TrainResult:
    """What became of a stage.

    Attributes:
        steps: optimizer steps in total; equal to the plan's.
        resumed_from: step that this process went on from; 0 for a start from the beginning.
        seconds: wall time by phase of this process: load, train, save, check.
        policy: the plain Hugging Face folder.
        notes: what the user should know, such as a checkpoint that could not be used.
        merge: what merging did (`cpt.train.merging.Merging.record`); None where nothing was merged.
        during: what was measured between the steps (`cpt.train.during.During.finish`); None where nothing was asked.
    """

    steps: int
    resumed_from: int
    seconds: dict[str, float]
    policy: Path
    notes: tuple[str, ...] = ()
    merge: dict[str, Any] | None = None
    during: dict[str, Any] | None = None


def other_training(out: StageDir, run: int) -> StageDir:
    """Folder in a stage's of a training that is not its last one."""
    return StageDir(out.root / "trainings" / str(run))


def drop_checkpoints(out: StageDir) -> None:
    """Delete a finished stage's checkpoints and other trainings: its policy folder replaces them."""
    for folder in (out.checkpoints, other_training(out, 0).root.parent):
        shutil.rmtree(folder, ignore_errors=True)
