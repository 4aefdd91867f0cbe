"""What vLLM has to be told, in its own process, to take transformers' prompts and names as they are."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from typing import Any

from cpt.models.names import HubNames

LOADER = "cpt_hub_names"
"""`load_format` of a folder whose weights may have the names of any version of transformers."""


def register_loader() -> None:
    """Teach vLLM to read folders under the Hub's names, whatever theirs are. Idempotent."""
    from vllm.model_executor import model_loader
    from vllm.model_executor.model_loader.default_loader import DefaultModelLoader

    if LOADER in model_loader._LOAD_FORMAT_TO_MODEL_LOADER:
        return

    @model_loader.register_model_loader(LOADER)
    class HubLoader(DefaultModelLoader):
        """vLLM's own loader but for the names."""

        def __init__(self, load_config: Any) -> None:
            load_config = copy.copy(load_config)
            load_config.load_format = "auto"
            super().__init__(load_config)

        def get_all_weights(self, model_config: Any, model: Any) -> Iterator[tuple[str, Any]]:
            """Name and tensor of every weight."""
            names = HubNames(model_config.model, trust_remote_code=model_config.trust_remote_code)
            for name, tensor in super().get_all_weights(model_config, model):
                yield names.of(name), tensor


def take_expanded_prompts() -> None:
    """Let vLLM take prompts whose pictures are expanded already, as the trainer's are. Call it once vLLM has started.

    By itself it looks for one placeholder a picture and expands that; of an expanded prompt it would expand the first
    placeholders again. But it also has the expansion of each picture by its own processor: where all of them are in the
    prompt, one after the other, the prompt is taken as it is, and where they are not it is refused. So a picture may be
    any number of runs of tokens, with other tokens between them.
    """
    from vllm.multimodal.processing.processor import BaseMultiModalProcessor

    def find(self: Any, token_ids: list[int], mm_prompt_updates: Any) -> Any:
        found = self._find_mm_placeholders(token_ids, mm_prompt_updates)
        if any(len(found.get(kind, ())) != len(items) for kind, items in mm_prompt_updates.items()):
            raise ValueError(
                "the engine's processor makes other tokens of a prompt's images than the trainer's: their image "
                "processors have different pixel limits (give both the same min_pixels and max_pixels, the processor's "
                "`size`), or vLLM wants them in other places of the prompt than transformers does"
            )
        return token_ids, found

    BaseMultiModalProcessor._apply_prompt_updates = find
