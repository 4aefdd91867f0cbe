"""Where a model is and whether its folder is whole, found out from files alone: no torch, no transformers."""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from cpt.common.digests import known_digest, open_regular
from cpt.models.image_text import check_image_text
from cpt.tasks.world.builtin import MODELS

_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_PROCESSOR = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json", "tokenizer.json")
_DESCRIBING = (".json", ".jinja", ".txt", ".model", ".tiktoken", ".py")
_BITS = re.compile(r"[A-Z]+([0-9]+)")  # of a number, in the name of its dtype: BF16, F8_E4M3


@dataclass(frozen=True)
class Tensor:
    """One tensor of a checkpoint: shape, and its size in bytes on disk."""

    shape: tuple[int, ...]
    nbytes: int


def locate_model(name_or_path: str) -> Path | str:
    """The folder of a built-in or local model; the name itself when it is an id on the Hugging Face Hub.

    Raises:
        ValueError: if it is neither an existing folder, nor a built-in model, nor could be a Hub id.
    """
    if name_or_path.startswith("builtin/"):
        if name_or_path not in MODELS:
            near = difflib.get_close_matches(name_or_path, MODELS, n=1, cutoff=0.3)
            raise ValueError(f"there is no built-in model {name_or_path!r}; known: {', '.join(near or MODELS)}")
        return MODELS[name_or_path]
    try:
        path = Path(name_or_path).expanduser()
        if path.is_dir():
            return path
    except (RuntimeError, OSError) as error:  # no such user as in ~user; a name too long, a folder that is closed
        reason = error.strerror if isinstance(error, OSError) else str(error).rstrip(".").lower()
        raise ValueError(f"model folder {name_or_path} can't be looked for: {reason}") from error
    # `runs/policy` beside an existing folder `runs` is a local path with a slip, not a model of the user `runs`.
    if _HUB_ID.fullmatch(name_or_path) and not path.parent.is_dir():
        return name_or_path
    raise ValueError(
        f"model folder {name_or_path} does not exist; name an existing folder, {' or '.join(MODELS)}, "
        "or org/name on the Hub"
    )


def check_model_folder(path: str | Path) -> None:
    """Checks that a folder holds a whole image-text model: config, weights of full length, a processor or tokenizer.

    Raises:
        ValueError: naming the file that is missing, cut off or inconsistent, or the kind of model that it is instead.
    """
    folder = Path(path)
    if not folder.is_dir():
        raise ValueError(f"model folder {folder} does not exist")
    for file in describing_files(folder):
        if file.suffix == ".json":
            _read_json(file)
    config = read_config(folder)
    if not isinstance(config.get("model_type"), str):
        raise ValueError(f"{folder / 'config.json'} names no model_type; it is not a Hugging Face model")
    check_image_text(config, folder)
    if not any((folder / name).is_file() for name in _PROCESSOR):
        raise ValueError(f"model folder {folder} has no processor or tokenizer files ({', '.join(_PROCESSOR)})")
    tensors = checkpoint_tensors(folder)
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        missing = sorted(set(_weight_map(index)) - tensors.keys())
        if missing:
            raise ValueError(f"{index} names {len(missing)} tensors that no file holds, the first is {missing[0]}")


def read_config(folder: Path) -> dict[str, Any]:
    """The folder's config.json. ValueError if it is missing or broken."""
    file = folder / "config.json"
    if not file.is_file():
        raise ValueError(f"model folder {folder} has no config.json")
    config = _read_json(file)
    if not isinstance(config, dict):
        raise ValueError(f"{file} is not a JSON object")
    return config


def config_dtype(folder: Path) -> str | None:
    """The dtype that config.json states, such as `float32`; None if it states none."""
    config = read_config(folder)
    dtype = config.get("dtype") or config.get("torch_dtype")
    return str(dtype) if dtype else None


def stated_length(folder: Path) -> int | None:
    """Most tokens of prompt and completion together that config.json states, of its text model; None if it doesn't."""
    config = read_config(folder)
    text = config.get("text_config")
    stated = (text if isinstance(text, dict) else config).get("max_position_embeddings")
    return stated if isinstance(stated, int) else None


def hub_folder(name: str) -> Path | None:
    """Where the Hub's cache on this machine keeps a model's config.json, with or without weights; None if nowhere."""
    from huggingface_hub import try_to_load_from_cache

    found = try_to_load_from_cache(name, "config.json")
    return Path(found).parent if isinstance(found, str) else None


def checkpoint_tensors(folder: Path) -> dict[str, Tensor]:
    """Every tensor of the folder's safetensors files, by name. ValueError if a file is missing or cut off."""
    tensors: dict[str, Tensor] = {}
    for file in weight_files(folder):
        tensors |= file_tensors(file)
    return tensors


def weight_files(folder: Path) -> list[Path]:
    """The folder's safetensors files, sorted. ValueError if there is none or the index names one that is missing."""
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        files = [folder / name for name in sorted(set(_weight_map(index).values()))]
    else:
        files = [folder / "model.safetensors"]
    for file in files or [index]:
        if not file.is_file() or not files:
            raise ValueError(f"model folder {folder} has no {file.name}; its weights are incomplete")
    return files


def model_bytes(folder: Path) -> int:
    """Size of everything directly in the folder, in bytes: what one more copy of the model takes."""
    return sum(file.stat().st_size for file in folder.iterdir() if file.is_file())


def describing_files(folder: Path) -> list[Path]:
    """The files in a model's folder that say what its weights are: configuration, tokenizer, processor, template, code.

    Raises:
        ValueError: one of them leads nowhere or is no file, such as a link into a cache that has been emptied.
    """
    found = sorted(path for path in folder.iterdir() if path.suffix in _DESCRIBING and not path.is_dir())
    for path in found:
        if not path.is_file():
            what = "a link that leads nowhere" if path.is_symlink() else "not a regular file"
            raise ValueError(f"{path} is {what}; remove it, or copy the model again")
    return found


def fingerprint(folder: Path) -> str:
    """Identity of a model: every byte of its config, tokenizer, processor, template, code and weights.

    A file is read once: its digest is kept by path, size and times (`cpt.common.digests.known_digest`).
    32 hexadecimal digits.
    """
    digest = hashlib.blake2b(digest_size=16)
    for file in (*describing_files(folder), *weight_files(folder)):
        digest.update(f"{file.name}:{known_digest(file)}\n".encode("utf-8", "surrogateescape"))
    return digest.hexdigest()


def _weight_map(index: Path) -> dict[str, str]:
    """Tensor → file in the same folder. ValueError if the index says anything else."""
    content = _read_json(index)
    found = content.get("weight_map") if isinstance(content, dict) else None
    if not isinstance(found, dict) or not all(isinstance(name, str) and _is_name(name) for name in found.values()):
        raise ValueError(f"{index} is damaged: its weight_map does not say which file of this folder holds each tensor")
    return found


def _is_name(name: str) -> bool:
    return name not in ("", ".", "..") and "/" not in name and "\0" not in name


def file_tensors(file: Path) -> dict[str, Tensor]:
    """Every tensor of a safetensors file, by name; only its header is read.

    Raises:
        ValueError: it can't be read, is cut off, or its header does not describe exactly what it holds.
    """
    from safetensors import SafetensorError, safe_open  # late: `cpt doctor` also looks where it is not installed

    open_regular(file).close()
    try:
        with safe_open(file, "numpy") as weights:
            slices = {name: weights.get_slice(name) for name in weights.keys()}  # noqa: SIM118  has no __iter__
            return {name: _tensor(tuple(one.get_shape()), one.get_dtype()) for name, one in slices.items()}
    except SafetensorError as error:
        told = str(error).removeprefix("Error while deserializing header: ")
        raise ValueError(f"{file} is cut off or damaged: {told}; copy or train it again") from None


def _tensor(shape: tuple[int, ...], dtype: str) -> Tensor:
    bits = _BITS.match(dtype)
    return Tensor(shape, (math.prod(shape) * int(bits[1] if bits else 8) + 7) // 8)  # BOOL is a byte


def _read_json(file: Path) -> Any:
    with open_regular(file) as handle:
        return _parse_json(handle.read(), file)


def _parse_json(content: bytes, file: Path) -> Any:
    try:
        return json.loads(content)
    except (ValueError, RecursionError):  # cut off, or not text at all, or nested too deep
        raise ValueError(f"{file} is damaged: not valid JSON") from None
