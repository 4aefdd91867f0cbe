"""`merge:` at the end of a stage: the policy's weights are moved before they are written."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.methods.merge import StageWeights, distance
from cpt.methods.registry import AnyMerge

if TYPE_CHECKING:
    import torch


class Merging:
    """Merging of one stage's policy.

    Args:
        load: the model in a policy's folder, in the precision that the policy has in memory.
        start: the folder that the stage started from.
        base: the base model's folder or Hub id; None where that is the start.
        trained: name and value of the policy's weights as they were trained, adapters added.
        others: policy folders of the stage's earlier trainings from the same start.
    """

    def __init__(
        self,
        setting: AnyMerge,
        load: Callable[[Path], Any],
        start: Path,
        base: Path | None,
        trained: Iterable[tuple[str, torch.Tensor]],
        others: Sequence[Path] = (),
    ) -> None:
        self.setting, self.load, self.base, self.others = setting, load, base, others
        self.start = self._weights(start)
        self.trained = distance(trained, self.start)

    def apply(self, policy: Any) -> None:
        """Merge the weights of a plain model in place. A moving average (`ema`) has been put there by its plug-in."""
        for name, value in self._merged(dict(policy.named_parameters())):
            policy.get_parameter(name).detach().copy_(value)

    def record(self, policy: Any) -> dict[str, Any]:
        """Type, and the Euclidean distance to the stage's start: of the last training's end, and of what is written."""
        left = distance(((name, value.detach()) for name, value in policy.named_parameters()), self.start)
        return {"type": self.setting.type, "distance_trained": self.trained, "distance_merged": left}

    def _merged(self, end: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        base = self.base
        weights = StageWeights(
            start=self.start,
            end=end,
            base=None if base is None else lambda: self._weights(base),
            others=lambda: list(map(self._weights, self.others)),
        )
        return self.setting.merged(weights)

    def _weights(self, folder: Path) -> dict[str, torch.Tensor]:
        return dict(self.load(folder).named_parameters())
