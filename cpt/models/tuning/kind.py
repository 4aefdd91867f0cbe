"""What a kind of tuning is: which parameters of a policy are trained, and everything that follows from it.

A kind is one class in one file, and its name in `cpt.models.tuning.registry`: fields are what a recipe may say of it,
properties what rules and plans ask of it, and methods what it does to a model. Methods alone import torch. A kind
keeps no state: what is trained is in the model, and what outlasts a stage is in folders.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple

from cpt.common.strict import Strict

if TYPE_CHECKING:
    import torch

    from cpt.models.locate import Tensor


class Attached(NamedTuple):
    """A model that is ready to be trained.

    Attributes:
        model: only what is to be trained requires gradients.
        peft_config: of adapters that TRL still has to add, as it knows what DeepSpeed needs of them; None otherwise.
    """

    model: Any
    peft_config: Any = None


class Tuning(Strict):
    """One kind. Methods are handed the model in memory, as `attach` has left it.

    Attributes:
        trains_weights: what is trained are weights of the plain model itself, and mean the same in every stage.
        low_rank: what is trained are factors A and B, under the names that PEFT gives them.
        packages: that it needs beside those that training needs anyway.
        to_merge: what a recipe has to say so that the next stage starts from plain weights.
    """

    trains_weights: ClassVar[bool] = False
    low_rank: ClassVar[bool] = False
    packages: ClassVar[tuple[str, ...]] = ()
    to_merge: ClassVar[str] = "use tuning: full"

    type: str

    @property
    def merged_between_stages(self) -> bool:
        """Whether the next stage starts from the policy's plain weights alone, and not from what `keep` wrote."""
        return True

    @property
    def has_dropout(self) -> bool:
        """Whether no two forward passes in training are alike."""
        return False

    def weights_dtype(self, model_dtype: str) -> str:
        """Precision of the plain weights in memory and in the policy's folder, for a model that states `model_dtype`.

        Weights that are trained are float32, and computed with in bfloat16: a step of 1e-6 is smaller than the
        distance between neighbouring bfloat16 numbers at the size of a weight, so it would be rounded away.
        """
        return "float32" if self.trains_weights else model_dtype

    @abstractmethod
    def trained_numbers(self, tensors: Mapping[str, Tensor]) -> int:
        """How many numbers a checkpoint holds, at most, for a model of these tensors."""

    def model_problems(self, tensors: Mapping[str, Tensor]) -> Iterator[tuple[tuple[str | int, ...], str]]:
        """What it asks for and a model has not: (path of the key below `tuning`, what to change).

        Args:
            tensors: of the model, but for those of frozen parts.
        """
        yield from ()

    @abstractmethod
    def attach(self, model: Any, freeze: Sequence[str], kept: Path | None) -> Attached:
        """Make a plain model one that is trained this way. Names of parameters are the same at every call.

        Called before every stage, and again before one that goes on from a checkpoint: that holds the values of all
        parameters that require gradients, by name.

        Args:
            model: in the precision of `weights_dtype`. Its weights are the start's, or with `kept` the base model's.
            freeze: parts of the model that are not trained: `vision_tower`, `projector`. It has all of them.
            kept: the folder that `keep` wrote at the stage before; None where there is none.

        Raises:
            ValueError: the model, or what is in `kept`, does not suit the setting.
        """

    def tensors(self, model: Any) -> Iterator[tuple[str, torch.Tensor]]:
        """Name and value of everything that rollout engines need, one at a time; nothing is changed.

        Here these are the names that the model has in memory, which for a kind with modules of its own are others than
        the plain model's.
        """
        for name, parameter in model.named_parameters():
            yield name, parameter.detach()

    def keep(self, model: Any, folder: Path) -> None:
        """Write what the next stage's `attach` reads, a whole folder or none; only if not `merged_between_stages`."""
        raise NotImplementedError  # not abstract: most kinds keep nothing

    def plain(self, model: Any) -> Any:
        """The plain model whose weights are the policy's, made in place: what is saved, evaluated, started from."""
        return model
