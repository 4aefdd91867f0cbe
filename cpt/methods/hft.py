"""Half fine-tuning: in every stage a random half of each block stays where it is."""

from __future__ import annotations

import hashlib
from typing import ClassVar, Literal

from cpt.methods.blocks import block_of
from cpt.methods.freezing import Freezing
from cpt.methods.plugin import Plugin, Stage
from cpt.methods.setting import Seed, Setting


class HFT(Setting):
    """∇_θ L = 0 for ⌊n/2⌋ of the n parameter tensors of every transformer block (HFT, arXiv 2404.18466).

    Which ones is drawn anew in every stage, the first included, and for every seed of a recipe, from the stage's seed,
    `seed` and the tensors' names: arms that name the same `seed` freeze the same halves. The paper draws within
    attention, feed-forward part and norms of a block; here it is one draw per block, vision and text alike. What is in
    no block (embeddings, output head, the last norm, the projector) is trained.
    """

    needs_full_tuning: ClassVar[bool] = True
    needs_no_weight_decay: ClassVar[bool] = True

    type: Literal["hft"]
    seed: Seed = 0

    def plugin(self) -> Plugin:
        """See `Setting.plugin`."""
        return HFTPlugin(self.seed)


class HFTPlugin(Freezing):
    """Orders a block's tensors by a hash and holds the first half."""

    def __init__(self, seed: int) -> None:
        super().__init__()
        self.seed = seed

    def frozen(self, stage: Stage) -> list[str]:
        """Half of each block, another one in every stage."""
        blocks: dict[str, list[str]] = {}
        for name in stage.parameters:
            block = block_of(name)
            if block is not None:
                blocks.setdefault(block, []).append(name)

        def draw(name: str) -> bytes:
            return hashlib.blake2b(f"{self.seed}/{stage.seed}/{name}".encode()).digest()

        return [name for names in blocks.values() for name in sorted(names, key=draw)[: len(names) // 2]]
