"""A policy becomes a plain Hugging Face folder: whole or absent, and loadable by transformers, vLLM and PEFT alone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from cpt.common.files import disk_may_be_full, fsync_dir
from cpt.models.load import resolve_model
from cpt.models.locate import check_model_folder
from cpt.models.names import keep_hub_names

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WEIGHTS = ("*.safetensors", "*.safetensors.index.json", "*.bin", "*.bin.index.json", "*.pt", "*.pth", "*.gguf", "*.h5")
_OTHERS = ("README.md", "*.md", ".*")


def save_policy(model: PreTrainedModel, like: str | Path, folder: Path) -> None:
    """Write the weights of `model` beside the configuration, processor and chat template of the model `like`.

    Weights keep the precision they were trained in: rounding a stage's result to bfloat16 would undo most of a stage
    with a small learning rate. Tensor names are those of the Hub's checkpoints, not those of the classes in memory.
    Everything else is copied, because trainers leave their marks on the objects (no cache, padding, other
    end-of-text ids).

    Args:
        like: folder or Hub id that the model in memory was loaded from.
    """

    def write(path: Path) -> None:
        keep_hub_names(model)
        model.save_pretrained(path, safe_serialization=True)
        for file in path.iterdir():
            if not _matches(file, _WEIGHTS):
                file.unlink()
        for file in _companions(like):
            shutil.copyfile(file, path / file.name)
        _state_dtype(path / "config.json", str(model.dtype).removeprefix("torch."))
        check_model_folder(path)

    replace_folder(folder, write)


def replace_folder(folder: Path, write: Callable[[Path], None]) -> None:
    """Let `write` fill a new folder and put it in the place of `folder` once it is complete and on disk."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    fresh, old = folder.with_name(f".{folder.name}.new"), folder.with_name(f".{folder.name}.old")
    for left_over in (fresh, old):
        shutil.rmtree(left_over, ignore_errors=True)
    with disk_may_be_full(folder):
        fresh.mkdir()
        write(fresh)
    for file in fresh.rglob("*"):
        if file.is_file():
            _fsync(file)
    if folder.exists():
        os.replace(folder, old)
    os.replace(fresh, folder)
    fsync_dir(folder.parent)
    shutil.rmtree(old, ignore_errors=True)


def _companions(like: str | Path) -> list[Path]:
    """Everything in a model's folder but weights, cards and hidden files; of a Hub model, in its local copy."""
    source = resolve_model(like)
    if not Path(source).is_dir():
        from huggingface_hub import snapshot_download

        source = snapshot_download(source, ignore_patterns=list(_WEIGHTS))
    files = sorted(file for file in Path(source).iterdir() if file.is_file())
    return [file for file in files if not _matches(file, _WEIGHTS + _OTHERS)]


def _matches(file: Path, patterns: tuple[str, ...]) -> bool:
    return any(file.match(pattern) for pattern in patterns)


def _state_dtype(file: Path, dtype: str) -> None:
    """Let a config.json state the dtype its folder's weights have, in its parts too where they state one."""
    config = json.loads(file.read_text(encoding="utf-8"))
    parts = [config, *(part for part in config.values() if isinstance(part, dict))]
    for part in parts:
        for key in ("dtype", "torch_dtype"):
            if key in part:
                part[key] = dtype
    file.write_text(json.dumps(config, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")


def _fsync(file: Path) -> None:
    with file.open("rb") as handle:
        os.fsync(handle.fileno())
