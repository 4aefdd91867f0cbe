"""A group of rollouts shares one prompt: encode it once, not once per completion.

TRL tokenises every row of a batch and runs its pictures through the image processor, twice a step; with eight
completions to a prompt seven eighths of that is repetition (a third of a step's CPU time for the built-in model).
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpt.models.inputs import ModelInputs, Pictures


def run_lengths(keys: Sequence[Any]) -> list[int]:
    """Lengths of the runs of equal neighbours: [a, a, b, a] gives [2, 1, 1]."""
    breaks = [0, *(i for i, (a, b) in enumerate(pairwise(keys), start=1) if a != b), len(keys)]
    return [stop - start for start, stop in pairwise(breaks)] if keys else []


def repeated(items: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    """Every item `count` times, neighbours together."""
    return [item for item, count in zip(items, counts, strict=True) for _ in range(count)]


def first_of_runs(items: Sequence[Any], counts: Sequence[int]) -> list[Any]:
    """The inverse of `repeated`."""
    starts = [sum(counts[:i]) for i in range(len(counts))]
    return [items[start] for start in starts]


class PictureRows(list["Pictures"]):
    """What belongs to the pictures of each row of a batch, in the place where TRL expects one tensor for all rows.

    TRL's own code takes such tensors apart and joins them again family by family; this it hands on as it is.
    """

    ndim = 0  # TRL asks whether it is made of tiles


class OncePerPrompt:
    """A processor whose batches may hold a prompt several times in a row: reads it once.

    What it returns for prompts with pictures holds them row by row (`PictureRows`), each as the processor makes it of
    that prompt alone. Pictures count as equal when they are the same object. Everything else is the processor's own.
    """

    def __init__(self, inputs: ModelInputs) -> None:
        self.plain, self._inputs = inputs.processor, inputs
        self._rendered: tuple[Any, Any, str] | None = None
        self._known: dict[tuple[Any, ...], tuple[Any, Pictures]] = {}  # of the prompts that were tokenised last

    def __getattr__(self, name: str) -> Any:
        return getattr(self.plain, name)

    def apply_chat_template(self, conversation: Any, **options: Any) -> Any:
        """As the processor's: token ids of a batch of chats, or their text; that of one chat twice in a row once."""
        if options.pop("tokenize", True):
            return {"input_ids": self._tokenised(conversation, options)}
        if self._rendered is None or self._rendered[:2] != (conversation, options):
            text = self.plain.apply_chat_template(conversation, tokenize=False, **options)
            self._rendered = (conversation, options, text)
        return self._rendered[2]

    def __call__(self, images: Any = None, text: Any = None, **options: Any) -> Any:
        """As the processor's without pictures; with them `PictureRows` as `pixel_values`, and nothing else.

        In a mixed batch TRL writes None for a row without pictures.
        """
        if images is None:
            return self.plain(text=text, **options)
        rows = [tuple(pictures or ()) for pictures in images]
        counts = run_lengths([_key(line, pictures) for line, pictures in zip(text, rows, strict=True)])
        lines, few = first_of_runs(text, counts), first_of_runs(rows, counts)
        keys = [_key(line, pictures) for line, pictures in zip(lines, few, strict=True)]
        if not self._known.keys() >= set(keys):
            self._read(lines, few)
        return {"pixel_values": PictureRows(repeated([self._known[key][1] for key in keys], counts))}

    def _tokenised(self, conversations: Sequence[Any], options: dict[str, Any]) -> list[list[int]]:
        options = {name: value for name, value in options.items() if name != "return_dict"}
        lines = [self.plain.apply_chat_template(chat, tokenize=False, **options) for chat in conversations]
        blocks = [[part for turn in chat for part in turn["content"]] for chat in conversations]
        images = [tuple(part["image"] for part in own if part["type"] == "image") for own in blocks]
        return self._read(lines, images)

    def _read(self, lines: Sequence[str], images: Sequence[tuple[Any, ...]]) -> list[list[int]]:
        prompts = list(self._inputs.read(lines, images))
        rows = zip(lines, images, prompts, strict=True)
        # The pictures are kept with their keys, so that no other one gets their identity meanwhile.
        self._known = {_key(line, own): (own, prompt.pictures) for line, own, prompt in rows}
        return [prompt.ids for prompt in prompts]


def _key(line: str, pictures: Sequence[Any]) -> tuple[Any, ...]:
    return (line, *map(id, pictures))
