"""Whether samples suit a model: its processor takes their pictures, and their prompts are not too long for it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from PIL import Image

from cpt.common.console import counted
from cpt.models.load import load_processor
from cpt.models.locate import stated_length
from cpt.rollout.encode import encode_prompts, render_prompts

if TYPE_CHECKING:
    from cpt.plan.stages import ModelPlan
    from cpt.run.reads import Read, Row, Use

SHOWN = 10
"""Samples that a message names; of more it says how many."""

_SLACK = 16
"""Tokens that counting from sizes may be off by for a picture (separators of rows and tiles)."""

Size = tuple[int, int]


def own_limit(model: ModelPlan) -> int | None:
    """The model's own limit of prompt and completion together, in tokens; None if its config names none."""
    if Path(model.path).is_dir():
        stated = stated_length(Path(model.path))
        if stated is not None:
            return stated
    from transformers import AutoConfig

    config = AutoConfig.from_pretrained(model.path, trust_remote_code=model.trust_remote_code)
    found = getattr(config.get_text_config(), "max_position_embeddings", None)
    return None if found is None else int(found)


@dataclass
class Fit:
    """Collects rows, then checks them all.

    Attributes:
        max_model_len: the engines' limit, where it is set.
    """

    model: ModelPlan
    max_model_len: int | None
    rows: list[tuple[Read, Row]] = field(default_factory=list)
    _tokens: dict[Size, int] = field(default_factory=dict)
    _processor: Any = None

    def add(self, read: Read, rows: Sequence[Row]) -> None:
        """Take rows in."""
        self.rows += [(read, row) for row in rows]

    def check(self) -> None:
        """Every row at once.

        Raises:
            ValueError: samples don't suit the model; their names, and what to do. Or its processor can't be loaded.
        """
        if reason := _failure(lambda: self.processor):  # which is no picture's fault
            raise ValueError(f"{self.model.name}: the model's processor can't be loaded ({reason})")
        faults = list(self._refused_pictures())
        if not faults:  # what a processor refuses can't be counted
            faults = list(self._marked_up()) or list(self._failing_prompts()) or list(self._too_long())
        if faults:
            more = [f"and {len(faults) - SHOWN} more"] if len(faults) > SHOWN else []
            raise ValueError("\n".join([*faults[:SHOWN], *more]))

    @property
    def processor(self) -> Any:
        """The model's, loaded when it is first needed: that imports transformers."""
        if self._processor is None:
            self._processor = load_processor(self.model.path, trust_remote_code=self.model.trust_remote_code)
        return self._processor

    def _refused_pictures(self) -> Iterator[str]:
        """Shapes are tried from the most extreme one on, until the processor takes one."""
        sizes = {size for _, row in self.rows for size in row.sizes}
        orders = (
            sorted(sizes, key=lambda size: max(size) / min(size), reverse=True),
            sorted(sizes, key=min),
        )
        reasons: dict[Size, str] = {}
        for order in orders:
            for size in order:
                reason = reasons.get(size) or self._refusal(size)
                if not reason:
                    break
                reasons[size] = reason
        for _, row in self.rows:
            for number, size in enumerate(row.sizes, start=1):
                if size in reasons:
                    yield (
                        f"sample {row.sample}: picture {number} of {size[0]} × {size[1]} pixels is refused by the "
                        f"model's processor ({reasons[size]}); crop, pad or scale it, or leave the sample out"
                    )

    def _refusal(self, size: Size) -> str:
        return _failure(lambda: self.processor.image_processor(images=[_blank(size)], return_tensors="pt"))

    def _marked_up(self) -> Iterator[str]:
        for read, row in self.rows:
            found = (self.markup(chat, target) for chat, target in zip(row.chats, row.targets, strict=True))
            if told := next(filter(None, found), ""):
                yield f"sample {row.sample}: {told}; take it out of the data of {read.task}, or leave the sample out"

    def markup(self, chat: Sequence[dict[str, Any]], target: str) -> str:
        """Which token that is no text (`<|im_end|>`) stands in the text of a prompt or its target; "" where none does.

        It would end a turn, open another one, or stand for a picture that there is not.
        """
        texts = [block.get("text", "") for turn in chat for block in _blocks(turn["content"])]
        found = self._marks.search("\0".join([*texts, target]))
        if found is None:
            return ""
        return f"its text has {found[0]}, which the model reads as a mark of the chat or of a picture"

    def unknown(self, text: str) -> int:
        """Tokens of a text that the model's vocabulary does not have, and reads as one and the same."""
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        if tokenizer.unk_token_id is None:
            return 0
        return int(tokenizer(text)["input_ids"].count(tokenizer.unk_token_id))

    @cached_property
    def _marks(self) -> re.Pattern[str]:
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        marks = {*tokenizer.all_special_tokens, getattr(self.processor, "image_token", None)}
        marks -= {None, "", tokenizer.unk_token}  # the last is in published texts, and changes no structure
        return re.compile("|".join(map(re.escape, sorted(marks))) or r"(?!)")

    def _failing_prompts(self) -> Iterator[str]:
        """Of every task, split and use the sample with most pictures is encoded, with blank ones."""
        seen = set()
        for read, row in sorted(self.rows, key=lambda item: len(item[1].sizes), reverse=True):
            for use, chat in zip(read.uses, row.chats, strict=True):
                if (read.task, read.split, use) in seen:
                    continue
                seen.add((read.task, read.split, use))
                if reason := _failure(partial(self._encoded, row, chat)):
                    yield (
                        f"sample {row.sample}: the model's processor can't encode its prompt with "
                        f"{counted(len(row.sizes), 'picture')} ({reason}); change the task's messages, or the model"
                    )

    def _too_long(self) -> Iterator[str]:
        own = own_limit(self.model)
        for read, row in self.rows:
            for use, chat, target in zip(read.uses, row.chats, row.targets, strict=True):
                engines = use.new_tokens is not None and use.teacher is None
                limit = self.max_model_len if engines and self.max_model_len is not None else own
                length = None if limit is None else self.excess(row, chat, target, use.new_tokens or 0, limit)
                if limit is not None and length is not None:
                    yield _said(read, row, use, *length, limit, self.max_model_len)
                    break

    def excess(self, row: Row, chat: list[dict[str, Any]], target: str, new: int, limit: int) -> tuple[int, int] | None:
        """Tokens of prompt and of what comes after it, if they are more than `limit` together; None if they fit.

        No tokenizer makes more tokens of a text than it has bytes, but for a few at its ends; counting bytes first
        spares nearly all prompts the tokenizer. What seems too long is encoded as training would.
        """
        (text,) = render_prompts(self.processor, [chat])
        pictures = sum(self._picture_tokens(size) for size in row.sizes)
        slack = _SLACK * (len(row.sizes) + 1)
        if len(text.encode()) + len(target.encode()) + pictures + new + slack <= limit:
            return None
        after = new + self._text_tokens(target)
        if self._text_tokens(text) + pictures + after + slack <= limit:
            return None
        prompt = len(self._encoded(row, chat))
        return (prompt, after) if prompt + after > limit else None

    def _picture_tokens(self, size: Size) -> int:
        """By the processor's own count where it has one, which costs nothing; else by encoding a blank picture."""
        if size not in self._tokens:
            if hasattr(self.processor, "_get_num_multimodal_tokens"):
                found = self.processor._get_num_multimodal_tokens(image_sizes=[size[::-1]])
                self._tokens[size] = int(found.num_image_tokens[0])
            else:
                chat = [{"role": "user", "content": [{"type": "image"}]}]
                (ids,) = encode_prompts(self.processor, [chat], [[_blank(size)]])
                self._tokens[size] = len(ids)
        return self._tokens[size]

    def _text_tokens(self, text: str) -> int:
        tokenizer = getattr(self.processor, "tokenizer", self.processor)
        return len(tokenizer(text)["input_ids"]) if text else 0

    def prompt_tokens(self, row: Row, chat: list[dict[str, Any]]) -> int:
        """Tokens of a prompt, its pictures' included."""
        return len(self._encoded(row, chat))

    def _encoded(self, row: Row, chat: list[dict[str, Any]]) -> list[int]:
        (ids,) = encode_prompts(self.processor, [chat], [[_blank(size) for size in row.sizes]])
        return ids


def _blocks(content: str | list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [{"text": content}] if isinstance(content, str) else content


def _failure(attempt: Callable[[], object]) -> str:
    """What goes wrong with it, in one line; empty if nothing does."""
    try:
        attempt()
    except Exception as error:  # noqa: BLE001  # processors and chat templates refuse in ways of their own
        return " ".join(str(error).split()) or type(error).__name__
    return ""


def _said(read: Read, row: Row, use: Use, prompt: int, after: int, limit: int, max_model_len: int | None) -> str:
    pictures = f" ({counted(len(row.sizes), 'picture')})" if row.sizes else ""
    remedies = ["shorten it", "scale its pictures down"] if row.sizes else ["shorten it"]
    what, whose = "its answer", "the model's limit"
    if use.teacher is not None:
        remedies.append("shorten method.demonstration")
    if use.target is None:
        what = "a completion"
        remedies.append(f"lower {'evaluation.max_tokens' if read.split == 'test' else 'method.max_completion_length'}")
        if max_model_len is not None and use.teacher is None:
            whose = "rollout.max_model_len"
            remedies.append(f"raise {whose}")
    return (
        f"sample {row.sample}: its prompt of {prompt} tokens{pictures} and {after} of {what} exceed {whose} of "
        f"{limit}; {', '.join(remedies)}, or leave the sample out"
    )


def _blank(size: Size) -> Image.Image:
    return Image.new("RGB", size)
