"""Names of weights: those of transformers' classes in memory, and those of the Hub's checkpoints, which vLLM reads.

transformers keeps the rules between both. It drops those that a loaded folder made no use of, and for a model that was
made from scratch those that only add a prefix, so that what it saves may have names that neither the Hub nor vLLM knows
(`vision_tower.embeddings` for `vision_tower.vision_model.embeddings`). Here all rules always apply.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

Value = TypeVar("Value")


def keep_hub_names(model: Any) -> None:
    """Let `model.save_pretrained` write the Hub's names, whatever the folder's were that the model came from."""
    from transformers.conversion_mapping import get_model_conversion_mapping

    model._weight_conversions = get_model_conversion_mapping(model, add_legacy=False) or None


class HubNames:
    """The Hub's names of one model's weights.

    Args:
        model_path: Hugging Face folder or Hub id; its config alone is read.
    """

    def __init__(self, model_path: str, *, trust_remote_code: bool = False) -> None:
        import torch
        from transformers import AutoConfig, AutoModelForImageTextToText
        from transformers.conversion_mapping import get_model_conversion_mapping
        from transformers.core_model_loading import WeightConverter, WeightRenaming

        config = AutoConfig.from_pretrained(model_path, trust_remote_code=trust_remote_code)
        with torch.device("meta"):
            self._model: Any = AutoModelForImageTextToText.from_config(config, trust_remote_code=trust_remote_code)
        self._own = {name for name, _ in self._model.named_parameters()}
        rules = get_model_conversion_mapping(self._model, add_legacy=False)
        self._in = [rule for rule in rules if isinstance(rule, WeightRenaming)]
        back = [rule.reverse_transform() for rule in reversed(rules)]
        self._out = [rule for rule in back if isinstance(rule, WeightRenaming)]
        # Rules that also join or split tensors (experts): such a model's names are left as they are.
        self._plain = not any(isinstance(rule, WeightConverter) for rule in rules)

    def __call__(self, given: Mapping[str, Value]) -> dict[str, Value]:
        """The same values under the Hub's names, from those in memory or in a folder of any version of transformers.

        What the model does not know keeps its name.
        """
        return {self.of(name): value for name, value in given.items()}

    def of(self, name: str) -> str:
        """The Hub's name of one weight."""
        from transformers.core_model_loading import rename_source_key

        if not self._plain:
            return name
        inside = name
        if name not in self._own:
            own = dict.fromkeys(self._own, True)
            inside, _ = rename_source_key(name, self._in, [], self._model.base_model_prefix, own)
        if inside not in self._own:
            return name
        found: str = rename_source_key(inside, self._out, [], reverse=True)[0]
        return found
