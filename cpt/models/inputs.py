"""A prompt and its pictures as a model's arguments: the one place for engines, trainers, drift and checks.

Families differ in what belongs to a picture: tiles or patches, their places, masks, which tokens see each other.
Nothing here knows a family by name. What a processor returns is passed on as far as the model's `forward` takes it:

- what belongs to the pictures (`Pictures`): every prompt goes through the processor by itself, with all its pictures,
  so that whatever comes back is that prompt's, be it a row per prompt, per picture, per tile or per patch. A batch
  joins prompts along the first dimension; shorter ones are filled up with zeros, as processors fill up;
- what belongs to the tokens (`token_type_ids`, `mm_token_type_ids`): made from token ids by the processor's own rule,
  since an engine knows ids and no text. Which rule is found out from what the processor returns for one picture.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from PIL import Image

from cpt.models.policy import inner

if TYPE_CHECKING:
    import torch

_KINDS = ("token_type_ids", "mm_token_type_ids")
_OF_TOKENS = {"input_ids", "attention_mask", "labels", *_KINDS}
_GRID = "image_grid_thw"  # the processor says how many rows each picture has: a batch of prompts can be taken apart
_TOGETHER = 32  # prompts in one call of such a processor
_PIXELS = 1 << 24  # of their pictures, which a processor makes some 24 bytes of


@dataclass(frozen=True)
class Pictures:
    """What a processor makes of one prompt's pictures.

    Attributes:
        tensors: arguments of the model by name. Rows of several prompts can be joined.
        runs: of each picture its tokens in the prompt, from the first that stands for a part of it to the last.
        made_by: what joins them with others and with token ids.
    """

    made_by: ModelInputs
    tensors: dict[str, torch.Tensor] = field(default_factory=dict)
    runs: tuple[tuple[int, ...], ...] = ()


@dataclass(frozen=True)
class Prompt:
    """A rendered prompt as token ids, pictures expanded, and what belongs to its pictures."""

    ids: list[int]
    pictures: Pictures


class ModelInputs:
    """Makes a model's arguments.

    Args:
        processor: the model's Hugging Face processor.
        model: the model, perhaps with adapters; None where only token ids are needed.
    """

    def __init__(self, processor: Any, model: Any = None) -> None:
        self.processor = processor
        self.tokenizer = getattr(processor, "tokenizer", processor)
        plain = inner(model)
        self.image = _image_token(processor, None if plain is None else plain.config)
        self.accepted = None if plain is None else _arguments(plain)
        # In these families (Qwen-VL) a picture advances positions by other than its number of tokens.
        self.own_positions = hasattr(getattr(plain, "base_model", None), "get_rope_index")

    def read(self, texts: Sequence[str], images: Sequence[Sequence[Image.Image]]) -> Iterator[Prompt]:
        """Rendered prompts, with one placeholder a picture, and their pictures as the processor reads them.

        Args:
            texts: B prompts as the chat template renders them.
            images: B sequences of pictures.

        Raises:
            ValueError: the processor refuses a prompt, for example one without a picture.
        """
        group: list[tuple[str, list[Image.Image]]] = []
        for text, own in zip(texts, images, strict=True):
            row = (text, list(own))  # stored pictures are read here
            if group and not self._go_together([*group, row]):
                yield from self._call(group)
                group = []
            group.append(row)
        if group:
            yield from self._call(group)

    def pictures(self, images: Sequence[Sequence[Image.Image]]) -> list[Pictures]:
        """The same of prompts whose text is not known, but their token ids are: B sequences of pictures."""
        texts = [(self.tokenizer.eos_token or "").join([self._placeholder] * len(own)) for own in images if own]
        found = self.read(texts, [own for own in images if own])
        return [next(found).pictures if own else Pictures(self) for own in images]

    def vision(
        self, pictures: Sequence[Pictures], device: Any = None, dtype: torch.dtype | None = None
    ) -> dict[str, torch.Tensor]:
        """What belongs to the pictures of a batch: of B prompts, joined.

        Args:
            dtype: of floating-point numbers; None for what the processor makes.
        """
        together = joined([one.tensors for one in pictures])
        cast = {name: dtype if value.is_floating_point() else None for name, value in together.items()}
        return {name: value.to(device, cast[name] or value.dtype) for name, value in together.items()}

    def batch(
        self,
        ids: torch.Tensor,
        mask: torch.Tensor,
        vision: Mapping[str, torch.Tensor],
        said: torch.Tensor | None = None,
    ) -> dict[str, torch.Tensor]:
        """All arguments of the model for rows of token ids.

        Args:
            ids, mask: [B, L], padded on either side.
            vision: what belongs to the pictures of these rows.
            said: bool [B, L], the tokens that the policy has said; None if there are none, only prompts.
        """
        kinds = {name: rule(ids, said) for name, rule in self._rules.items()}
        return {"input_ids": ids, "attention_mask": mask, **vision, **kinds}

    def prompts(
        self,
        prompts: Sequence[Sequence[int]],
        pictures: Sequence[Pictures],
        device: Any = None,
        dtype: torch.dtype | None = None,
        said: Sequence[int] | None = None,
    ) -> dict[str, torch.Tensor]:
        """Arguments for B prompts that are about to be answered, padded on the left, with positions.

        Args:
            said: of each prompt how many of its last tokens the policy has said already; None for none.
        """
        import torch

        pad = self.tokenizer.pad_token_id
        ids = torch.full((len(prompts), max(map(len, prompts))), 0 if pad is None else pad)
        mask = torch.zeros_like(ids)
        for row, prompt in enumerate(prompts):
            ids[row, ids.shape[1] - len(prompt) :] = torch.tensor(list(prompt))
            mask[row, ids.shape[1] - len(prompt) :] = 1
        answer = None
        if said is not None:
            answer = (torch.arange(ids.shape[1]) >= ids.shape[1] - torch.tensor(said)[:, None]).to(device)
        inputs = self.batch(ids.to(device), mask.to(device), self.vision(pictures, device, dtype), answer)
        if not self.own_positions or not any(one.tensors for one in pictures):
            inputs["position_ids"] = (inputs["attention_mask"].cumsum(1) - 1).clamp(min=0)
        return inputs

    def check(self, prompt: Sequence[int], pictures: Pictures) -> None:
        """Whether a prompt's ids have the tokens of its pictures, all of them, in their order, and no others.

        Raises:
            ValueError: they don't; the message says what was counted.
        """
        ids, place = tuple(prompt), 0
        for run in pictures.runs:
            found = _find(run, ids, place)
            if found < 0 or self.image in ids[place:found]:
                break
            place = found + len(run)
        else:
            if self.image not in ids[place:]:
                return
        ours, theirs = sum(run.count(self.image) for run in pictures.runs), ids.count(self.image)
        raise ValueError(wrong_pictures(ours, theirs))

    def _go_together(self, rows: Sequence[tuple[str, Sequence[Image.Image]]]) -> bool:
        """Whether one call of the processor takes these rows, all but the last of which it takes."""
        (_, first), (_, last) = rows[0], rows[-1]
        if bool(first) is not bool(last) or len(rows) > (_TOGETHER if self._by_grid or not first else 1):
            return False
        return sum(picture.width * picture.height for _, own in rows for picture in own) <= _PIXELS

    def _call(self, rows: Sequence[tuple[str, list[Image.Image]]]) -> Iterator[Prompt]:
        """One call of the processor: for rows with pictures, or for rows without any."""
        texts, images = [text for text, _ in rows], [own for _, own in rows]
        bos = self.tokenizer.bos_token  # the rule of transformers' `apply_chat_template`
        plain = {"add_special_tokens": False} if bos is not None and texts[0].startswith(bos) else {}
        if not images[0]:
            out = self.processor(text=texts, **plain)
            yield from (Prompt(list(ids), Pictures(self)) for ids in out["input_ids"])
            return
        out = self.processor(text=texts, images=images, padding=True, padding_side="left", return_tensors="pt", **plain)
        ids = [row[real.bool()].tolist() for row, real in zip(out["input_ids"], out["attention_mask"], strict=True)]
        tensors = {name: value for name, value in out.items() if name not in _OF_TOKENS and self._takes(name)}
        parts = [tensors] if len(rows) == 1 else _by_grid(tensors, [len(own) for own in images])
        for row, part, own in zip(ids, parts, images, strict=True):
            yield Prompt(row, Pictures(self, part, self._runs(row, len(own))))

    def _takes(self, name: str) -> bool:
        return self.accepted is None or name in self.accepted

    def _runs(self, ids: list[int], pictures: int) -> tuple[tuple[int, ...], ...]:
        """Of each picture the tokens from its first part to its last, where end-of-text marks lie between pictures.

        In a chat's text they don't: then it is one run for all.
        """
        runs, end = [], self.tokenizer.eos_token_id
        part: list[int] = []
        for token in [*ids, end]:
            part.append(token)
            if token == end and self.image in part:
                last = len(part) - part[::-1].index(self.image)
                runs.append(tuple(part[part.index(self.image) : last]))
            part = [] if token == end else part
        return tuple(runs)

    @property
    def _placeholder(self) -> str:
        token = getattr(self.processor, "image_token", None)
        if not isinstance(token, str):
            raise ValueError(
                f"{type(self.processor).__name__} names no image_token, so no picture can go into a prompt"
            )
        return token

    @cached_property
    def _probe(self) -> dict[str, Any]:
        """What the processor returns for one grey picture; nothing if it is none for pictures."""
        if not isinstance(getattr(self.processor, "image_token", None), str):
            return {}
        grey = Image.new("RGB", (64, 64), (127, 127, 127))
        return dict(self.processor(text=[self._placeholder], images=[[grey]], return_tensors="pt"))

    @cached_property
    def _by_grid(self) -> bool:
        rows = {name for name in self._probe if name not in _OF_TOKENS and self._takes(name)}
        return rows == {"pixel_values", _GRID}

    @cached_property
    def _rules(self) -> dict[str, Callable[[torch.Tensor, torch.Tensor | None], torch.Tensor]]:
        """How kinds of tokens follow from ids: marks of pictures' tokens, or prompts told apart from what is said."""
        import torch

        found: dict[str, Any] = {}
        for name in _KINDS:
            if name not in self._probe or not self._takes(name):
                continue
            ids, kinds = self._probe["input_ids"][0], self._probe[name][0]
            marks = torch.tensor(self.processor.create_mm_token_type_ids([list(range(len(self.tokenizer)))])[0])
            if kinds.any() and marks[ids].equal(kinds):
                found[name] = lambda ids, said, marks=marks: marks.to(ids.device)[ids.clamp(max=len(marks) - 1)]
            elif not kinds.any():  # prefix and suffix (PaliGemma); BERT's two sentences
                found[name] = lambda ids, said: torch.zeros_like(ids) if said is None else said.to(ids.dtype)
            else:
                raise ValueError(f"{type(self.processor).__name__} makes {name} by a rule that cpt doesn't know")
        return found


def joined(rows: Sequence[dict[str, torch.Tensor]]) -> dict[str, torch.Tensor]:
    """Tensors of several prompts, one after the other; in later dimensions the shorter ones end in zeros."""
    import torch

    together: dict[str, torch.Tensor] = {}
    for name in dict.fromkeys(name for row in rows for name in row):
        parts = [row[name] for row in rows if name in row]
        sizes = [max(part.shape[dim] for part in parts) for dim in range(1, parts[0].dim())]
        together[name] = torch.cat([_filled(part, sizes) for part in parts])
    return together


def wrong_pictures(engine: int, trainer: int) -> str:
    """Says that a prompt's ids don't fit its pictures."""
    if engine == trainer:
        return (
            f"the {engine} image tokens of a prompt are not where its pictures have them: the pictures are in another "
            "order, or engine and trainer have other processors"
        )
    return (
        f"the engine makes {engine} image tokens of a prompt's images, the trainer {trainer}: their image processors "
        "have different pixel limits; give both the same min_pixels and max_pixels (the processor's `size`)"
    )


def _filled(part: torch.Tensor, sizes: Sequence[int]) -> torch.Tensor:
    import torch

    missing = [size - have for size, have in zip(sizes, part.shape[1:], strict=True)]
    if not any(missing):
        return part
    return torch.nn.functional.pad(part, [n for size in reversed(missing) for n in (0, size)])


def _by_grid(tensors: dict[str, torch.Tensor], pictures: Sequence[int]) -> list[dict[str, torch.Tensor]]:
    """Patches and grids of each prompt, of a batch of prompts with so many pictures each."""
    grids = tensors[_GRID].split(list(pictures))
    patches = tensors["pixel_values"].split([int(grid.prod(dim=1).sum()) for grid in grids])
    return [{"pixel_values": own, _GRID: grid} for own, grid in zip(patches, grids, strict=True)]


def _arguments(model: Any) -> frozenset[str]:
    """Names of the arguments that a model's forward pass lists."""
    return frozenset(inspect.signature(type(model).forward).parameters)


def _image_token(processor: Any, config: Any) -> int | None:
    """Id of the token that stands for a part of a picture; None for a text-only model."""
    found = getattr(config, "image_token_id", None)
    return found if config is not None else next(iter(getattr(processor, "image_token_ids", None) or [None]))


def _find(run: tuple[int, ...], ids: tuple[int, ...], start: int) -> int:
    """Where `run` begins in `ids` from `start` on; -1 if nowhere."""
    for place in range(start, len(ids) - len(run) + 1):
        if ids[place] == run[0] and ids[place : place + len(run)] == run:
            return place
    return -1
