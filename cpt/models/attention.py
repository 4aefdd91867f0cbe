"""Whether a model has an attention implementation of transformers, asked of transformers before anything starts."""

from __future__ import annotations

PACKAGES = {"flash_attention_2": "flash_attn", "flash_attention_3": "flash_attn_interface"}
"""What has to be installed; these compute in half precision, and on GPUs alone."""


def check_attention(path: str, attention: str, *, trust_remote_code: bool = False) -> None:
    """Builds the model without weights, as transformers itself would refuse it.

    Args:
        path: Hugging Face folder, or an id whose config.json is in the Hub's cache.
        attention: name of an implementation.

    Raises:
        ValueError: the model has no such implementation; the first sentence of what transformers says.
    """
    import torch
    from transformers import AutoConfig, AutoModelForImageTextToText

    config = AutoConfig.from_pretrained(path, trust_remote_code=trust_remote_code)
    try:
        with torch.device("meta"):
            AutoModelForImageTextToText.from_config(
                config, attn_implementation=attention, trust_remote_code=trust_remote_code
            )
    except (ImportError, ValueError) as error:
        reason = " ".join(str(error).split()).partition(". ")[0].rstrip(".")
        raise ValueError(f"{reason}; set auto, or another one") from error
