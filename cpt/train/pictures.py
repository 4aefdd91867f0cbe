"""Pictures in TRL's policy trainers, whatever the family: each row of a batch carries its own.

TRL joins the pictures of a batch into tensors that it takes apart, shuffles, cuts and joins again by rules for each
family that it knows. Here a row's pictures stay beside it in a list (`pictures`), which TRL shuffles and cuts like
everything else, and become the model's arguments at the forward pass, by `cpt.models.inputs`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

from cpt.models.inputs import ModelInputs, Pictures
from cpt.train.prompts import OncePerPrompt, PictureRows

if TYPE_CHECKING:
    # The mixin stands before TRL's trainer in a class's bases.
    from trl import GRPOTrainer as _Trainer
else:
    _Trainer = object


class RowsOfPictures(_Trainer):
    """For GRPOTrainer; put it after `RolloutMixin`.

    Attributes:
        inputs: makes the model's arguments.
    """

    inputs: ModelInputs
    _pictures: Sequence[Pictures] | None = None  # of the rows whose loss is computed

    def __init__(self, *args: Any, processing_class: Any, **kwargs: Any) -> None:
        super().__init__(*args, processing_class=processing_class, **kwargs)
        self.inputs = ModelInputs(processing_class, self.model)
        self.processing_class: Any = OncePerPrompt(self.inputs)

    def _generate_and_score_completions(self, inputs: list[dict[str, Any]]) -> dict[str, Any]:
        self._pictures = None
        output: dict[str, Any] = super()._generate_and_score_completions(inputs)
        output.pop("num_images", None)
        output["pictures"] = list(output.pop("pixel_values", None) or [Pictures(self.inputs)] * len(inputs))
        return output

    def _compute_loss(self, model: Any, inputs: dict[str, Any]) -> torch.Tensor:
        self._pictures = inputs["pictures"]
        loss: torch.Tensor = super()._compute_loss(model, inputs)
        return loss

    def _get_per_token_logps_and_entropies(
        self,
        model: Any,
        ids: torch.Tensor,
        mask: torch.Tensor,
        keep: int,
        *,
        batch_size: int | None = None,
        pixel_values: PictureRows | None = None,
        compute_entropy: bool = False,
        compute_aux_loss: bool = False,
        **_: Any,
    ) -> tuple[Any, Any, Any]:
        """TRL's forward pass, with all that belongs to the pictures and tokens of these rows."""
        rows = self._pictures if pixel_values is None else pixel_values
        rows = [Pictures(self.inputs)] * len(ids) if rows is None else rows
        said = torch.zeros_like(ids, dtype=torch.bool)
        said[:, -keep:] = True
        size, parts = batch_size or len(ids), []
        for start in range(0, len(ids), size):
            chunk = slice(start, start + size)
            vision = self.inputs.vision(rows[chunk], ids.device)
            given = self.inputs.batch(ids[chunk], mask[chunk], vision, said[chunk])

            def whole(given: Any = given, **more: Any) -> Any:
                return model(**given | more)

            options = {"compute_entropy": compute_entropy, "compute_aux_loss": compute_aux_loss}
            parts.append(super()._get_per_token_logps_and_entropies(whole, ids[chunk], mask[chunk], keep, **options))
        if len(parts) == 1:
            (only,) = parts
            return only[0], only[1], only[2]
        logps, entropies, losses = zip(*parts, strict=True)
        aux = None if losses[0] is None else torch.stack(losses).mean()
        return torch.cat(logps), None if entropies[0] is None else torch.cat(entropies), aux
