"""What a run reads of its tasks, and what checks need of each sample."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from cpt.methods.sdft import SDFT
from cpt.types import PromptStyle, Split, TargetStyle


@dataclass(frozen=True)
class Use:
    """What samples are used for.

    Attributes:
        new_tokens: at most so many are generated after the prompt; None where none are.
        target: the style of what is imitated; None where nothing is.
        teacher: whose demonstration is added to the prompt, for the trainer alone; None where there is none.
    """

    prompt: PromptStyle
    new_tokens: int | None = None
    target: TargetStyle | None = None
    teacher: SDFT | None = field(default=None, hash=False)


@dataclass(frozen=True)
class Read:
    """The first samples of one split of a task, and all that a run uses them for."""

    task: str
    split: Split
    seed: int
    samples: int
    uses: tuple[Use, ...]


@dataclass(frozen=True)
class Row:
    """What the checks need of one sample, without its pictures.

    Attributes:
        sizes: (width, height) of each picture, in pixels.
        chats, targets: of each use, in their order; the text that is imitated is empty where nothing is.
    """

    sample: str
    sizes: tuple[tuple[int, int], ...]
    chats: tuple[list[dict[str, Any]], ...]
    targets: tuple[str, ...]
