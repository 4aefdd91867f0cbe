"""Every parameter is trained."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, Literal

from cpt.models.tuning.kind import Attached, Tuning
from cpt.models.tuning.parts import freeze_parts

if TYPE_CHECKING:
    from cpt.models.locate import Tensor


class Full(Tuning):
    """Every parameter is trained, but those that `freeze` names."""

    trains_weights: ClassVar[bool] = True

    type: Literal["full"]

    def trained_numbers(self, tensors: Mapping[str, Tensor]) -> int:
        """All."""
        return sum(math.prod(tensor.shape) for tensor in tensors.values())

    def attach(self, model: Any, freeze: Sequence[str], kept: Path | None) -> Attached:
        """See `Tuning.attach`."""
        freeze_parts(model, freeze)
        return Attached(model)
