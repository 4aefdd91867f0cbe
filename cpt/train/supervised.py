"""Prompts and what is to be said after them, as a batch: for SFT and for whatever else imitates answers.

A prompt's token ids and pictures are read as those of an engine are (`cpt.models.inputs`), so that a policy is trained
on the very prompts that it is asked. TRL's own collator tokenises them by another rule (it never adds a begin-of-text
mark, engines' prompts may have one), and marks the answers of a family as if they were questions (PaliGemma).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch

if TYPE_CHECKING:
    from cpt.models.inputs import ModelInputs, Prompt

IGNORED = -100  # label of a token that is no part of an answer


def answered(
    inputs: ModelInputs, prompts: Sequence[Prompt], answers: Sequence[str], device: Any = None
) -> tuple[dict[str, torch.Tensor], torch.Tensor]:
    """The model's arguments for B prompts with an answer each, padded on the right; labels [B, L] on the answers."""
    said = inputs.tokenizer(list(answers), add_special_tokens=False)["input_ids"]
    rows = [[*prompt.ids, *ids] for prompt, ids in zip(prompts, said, strict=True)]
    longest = max(map(len, rows))
    pad = inputs.tokenizer.pad_token_id
    ids = torch.full((len(rows), longest), 0 if pad is None else pad)
    mask, labels = torch.zeros_like(ids), torch.full_like(ids, IGNORED)
    for row, (prompt, whole) in enumerate(zip(prompts, rows, strict=True)):
        ids[row, : len(whole)] = torch.tensor(whole)
        mask[row, : len(whole)] = 1
        labels[row, len(prompt.ids) : len(whole)] = ids[row, len(prompt.ids) : len(whole)]
    ids, mask, labels = (one.to(device) for one in (ids, mask, labels))
    vision = inputs.vision([prompt.pictures for prompt in prompts], device)
    return inputs.batch(ids, mask, vision, labels != IGNORED), labels


class AnswerCollator:
    """TRL's rows of prompt, completion and images to a batch; the loss covers the completion."""

    def __init__(self, inputs: ModelInputs) -> None:
        self.inputs = inputs

    def __call__(self, examples: list[dict[str, Any]]) -> dict[str, Any]:
        """Arguments of the model and `labels`."""
        from trl.data_utils import apply_chat_template, prepare_multimodal_messages

        texts = []
        for example in examples:
            chat = {name: prepare_multimodal_messages(example[name], images=own) for name, own in _parts(example)}
            texts.append(apply_chat_template(chat, self.inputs.processor))
        prompts = list(self.inputs.read([text["prompt"] for text in texts], [row["images"] for row in examples]))
        inputs, labels = answered(self.inputs, prompts, [text["completion"] for text in texts])
        return {**inputs, "labels": labels}


def _parts(example: dict[str, Any]) -> list[tuple[str, list[Any]]]:
    return [("prompt", list(example["images"])), ("completion", [])]
