"""Freezing of the bottom layers from the second task on."""

from __future__ import annotations

from typing import ClassVar, Literal

from cpt.methods.blocks import is_text_embedding, text_layer
from cpt.methods.freezing import Freezing
from cpt.methods.plugin import Plugin, Stage
from cpt.methods.setting import Rows, Setting


class FreezeBottom(Setting):
    """∇_θ L = 0 for the bottom `layers` of the language model from the second stage on (arXiv 2501.13453).

    The first stage trains everything. `embeddings` freezes the input embedding, which lies below the bottom layer, as
    the paper does; where a model ties it to the output head, that is frozen too. The vision tower goes on being
    trained: freeze it with `model.freeze`. Under LoRA it is the adapters in those layers that are held.
    """

    needs_no_weight_decay: ClassVar[bool] = True

    type: Literal["freeze-bottom"]
    layers: Rows = 2
    embeddings: bool = True

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return FreezeBottomPlugin(self.layers, self.embeddings)


class FreezeBottomPlugin(Freezing):
    """Holds the bottom layers, by their number in the parameters' names."""

    def __init__(self, layers: int, embeddings: bool) -> None:
        super().__init__()
        self.layers, self.embeddings = layers, embeddings

    def frozen(self, stage: Stage) -> list[str]:
        """Nothing in the first stage. ValueError if the model has fewer text layers than are to be frozen."""
        numbers = {name: number for name in stage.parameters if (number := text_layer(name)) is not None}
        found = len(set(numbers.values()))
        if self.layers > found:
            raise ValueError(f"freeze-bottom: layers is {self.layers}, but {found} text layers are trained; lower it")
        if stage.index == 1:
            return []
        bottom = [name for name, number in numbers.items() if number < self.layers]
        return bottom + [name for name in stage.parameters if self.embeddings and is_text_embedding(name)]
