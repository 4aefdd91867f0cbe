"""A folder on disk becomes a policy that can be trained: model, processor, precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.models.lean import lean_imports
from cpt.models.locate import check_model_folder, locate_model
from cpt.tasks.world import builtin

if TYPE_CHECKING:
    import torch
    from transformers import PreTrainedModel


def resolve_model(name_or_path: str | Path) -> str:
    """What `from_pretrained` takes for a built-in model, a local folder or an id on the Hub.

    Raises:
        ValueError: the folder is missing, incomplete or damaged; the message names the file.
    """
    found = locate_model(str(name_or_path))
    if isinstance(found, Path):
        check_model_folder(found)
    return str(found)


def torch_dtype(name: str) -> torch.dtype | str:
    """The dtype a plan names, or `auto`. ValueError for anything but float32, bfloat16 and auto."""
    import torch

    known: dict[str, torch.dtype | str] = {"float32": torch.float32, "bfloat16": torch.bfloat16, "auto": "auto"}
    if name not in known:
        raise ValueError(f"dtype {name!r} can't be trained in; use one of {', '.join(known)}")
    return known[name]


def load_policy(
    path: str | Path, *, dtype: str = "float32", attention: str = "auto", trust_remote_code: bool = False
) -> PreTrainedModel:
    """The image-text model in a folder.

    Args:
        path: a Hugging Face folder, a built-in model's name or an id on the Hub.
        dtype: of the weights in memory: float32, bfloat16, or auto for the one they are stored in.
        attention: one of transformers' implementations by its name; auto for the one that transformers chooses, and for
            the built-in model its own (`cpt.tasks.world.builtin`).

    Raises:
        ValueError: the folder is missing, incomplete or damaged, or holds weights of another architecture.
    """
    with lean_imports("transformers"):
        from transformers import AutoModelForImageTextToText

    source = resolve_model(path)
    model, found = AutoModelForImageTextToText.from_pretrained(
        source,
        dtype=torch_dtype(dtype),
        attn_implementation=None if attention == "auto" else attention,
        trust_remote_code=trust_remote_code,
        output_loading_info=True,
    )
    missing = sorted(found["missing_keys"])
    if missing:  # transformers fills them with random numbers and only warns
        raise ValueError(f"{source} lacks {len(missing)} weights of {type(model).__name__}, the first is {missing[0]}")
    return builtin.accelerate(model, attention)


def load_processor(path: str | Path, *, trust_remote_code: bool = False) -> Any:
    """The folder's processor: tokenizer, image processor and chat template.

    Raises:
        ValueError: the folder is missing or damaged, or its processor has no chat template.
    """
    with lean_imports("transformers"):
        from transformers import AutoProcessor

    source = resolve_model(path)
    processor = AutoProcessor.from_pretrained(source, trust_remote_code=trust_remote_code)
    if not processor.chat_template:
        raise ValueError(f"the processor of {source} has no chat template; add chat_template.jinja to the folder")
    return processor
