"""`merge:` at the end of a stage: the policy's weights are moved before they are written."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from cpt.methods.merge import StageWeights, distance
from cpt.models.adapters import plain_parameters
from cpt.models.load import load_policy

if TYPE_CHECKING:
    import torch

    from cpt.plan.stages import StagePlan


class Merging:
    """Merging of one stage's policy.

    Args:
        start: the folder that the stage started from.
        trained: the policy as it was trained, with its adapters if it has any.
        others: policy folders of the stage's earlier trainings from the same start.
    """

    def __init__(self, plan: StagePlan, start: Path, trained: Any, others: Sequence[Path] = ()) -> None:
        self.plan, self.others = plan, others
        self.start = self._weights(start)
        self.trained = distance(plain_parameters(trained), self.start)

    def apply(self, policy: Any) -> None:
        """Merge the weights of a plain model in place. A moving average (`ema`) has been put there by its plug-in."""
        for name, value in self._merged(dict(policy.named_parameters())):
            policy.get_parameter(name).detach().copy_(value)

    def record(self, policy: Any) -> dict[str, Any]:
        """Type, and the Euclidean distance to the stage's start: of the last training's end, and of what is written."""
        assert self.plan.merge is not None
        left = distance(plain_parameters(policy), self.start)
        return {"type": self.plan.merge.type, "distance_trained": self.trained, "distance_merged": left}

    def _merged(self, end: dict[str, torch.Tensor]) -> Iterator[tuple[str, torch.Tensor]]:
        assert self.plan.merge is not None
        weights = StageWeights(
            start=self.start,
            end=end,
            base=None if self.plan.index == 1 else lambda: self._weights(Path(self.plan.model.path)),
            others=lambda: list(map(self._weights, self.others)),
        )
        return self.plan.merge.merged(weights)

    def _weights(self, folder: Path) -> dict[str, torch.Tensor]:
        """The parameters in a folder, in the precision and under the names that the policy's have in memory."""
        model: Any = load_policy(
            folder, dtype=self.plan.weights_dtype, trust_remote_code=self.plan.model.trust_remote_code
        )
        return dict(model.named_parameters())
