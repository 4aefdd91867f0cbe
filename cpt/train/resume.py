"""Going on inside a stage: which checkpoint can be trusted, and what transformers 5.17 gets wrong when it loads one."""

from __future__ import annotations

import json
import re
import shutil
import zipfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.models.locate import checkpoint_tensors
from cpt.train.plugin_state import missing_state

if TYPE_CHECKING:
    # The mixin stands before one of TRL's trainers in a class's bases.
    from transformers import Trainer as _Trainer
else:
    _Trainer = object

_NAME = re.compile(r"checkpoint-(\d+)")
_PICKLED = ("optimizer.pt", "scheduler.pt", "rng_state.pth")  # all three are loaded with weights_only=True


@dataclass(frozen=True)
class Found:
    """Where a stage can go on.

    Attributes:
        path: the checkpoint; None for a start from the beginning.
        step: optimizer steps done; 0 without a checkpoint.
        notes: what is wrong with newer checkpoints.
    """

    path: Path | None = None
    step: int = 0
    notes: tuple[str, ...] = ()


def last_checkpoint(folder: Path, plugins: Iterable[str] = ()) -> Found:
    """The newest checkpoint that is complete. Broken ones that are newer are deleted, and the notes say so.

    Args:
        folder: holds `checkpoint-<step>` folders; may be absent.
        plugins: those whose state belongs to a checkpoint.
    """
    names = tuple(plugins)
    found = [(int(match[1]), path) for path in _entries(folder) if (match := _NAME.fullmatch(path.name))]
    notes: list[str] = []
    for step, path in sorted(found, reverse=True):
        problem = what_is_missing(path, step, names)
        if problem is None:
            return Found(path, step, tuple(notes))
        notes.append(f"{path.name} can't be used ({problem}); going back to the one before")
        shutil.rmtree(path)
    return Found(notes=tuple(notes))


def what_is_missing(checkpoint: Path, step: int, plugins: Iterable[str] = ()) -> str | None:
    """Why a checkpoint can't be resumed from; None if every file is there, of full length, and of this step."""
    state = checkpoint / "trainer_state.json"  # written last
    if not state.is_file():
        return "trainer_state.json is missing: the save was interrupted"
    try:
        if json.loads(state.read_text(encoding="utf-8"))["global_step"] != step:
            return "trainer_state.json belongs to another step"
        if (checkpoint / "adapter_config.json").is_file():
            _check_adapter(checkpoint / "adapter_model.safetensors")
        else:
            checkpoint_tensors(checkpoint)
        lost = missing_state(checkpoint, plugins)
    except (ValueError, KeyError) as error:
        return str(error)
    # torch.save writes zip archives, whose directory is at the very end: a file that was cut off has none.
    broken = [name for name in _PICKLED if not zipfile.is_zipfile(checkpoint / name)]
    return f"{', '.join(broken)} missing or cut off" if broken else lost


def _check_adapter(file: Path) -> None:
    from safetensors import SafetensorError, safe_open

    try:
        with safe_open(file, framework="numpy") as handle:  # checks the header against the file's length
            handle.keys()
    except (SafetensorError, OSError) as error:
        raise ValueError(f"{file.name}: {error}") from error


def _entries(folder: Path) -> list[Path]:
    return list(folder.iterdir()) if folder.is_dir() else []


class Resumable(_Trainer):
    """Mixin before a TRL trainer: checkpoints that load, and no work for anything else while saving them."""

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        """Loads full weights through `from_pretrained`, which knows how names on disk map to names in memory.

        transformers 5.17 hands the file's tensors to `load_state_dict(strict=False)` as they are. Models whose saved
        names differ from their modules' (the Qwen-VL families) then load nothing, with no more than a warning.
        """
        if hasattr(self.model, "peft_config"):
            super()._load_from_checkpoint(resume_from_checkpoint, model)
            return
        policy: Any = self.accelerator.unwrap_model(self.model if model is None else model)
        saved = type(policy).from_pretrained(resume_from_checkpoint, dtype=policy.dtype)
        policy.load_state_dict(saved.state_dict(), strict=True)

    def create_model_card(self, *args: Any, **kwargs: Any) -> None:
        """None: a checkpoint is for this machine, and the stage's own files say what was trained."""
