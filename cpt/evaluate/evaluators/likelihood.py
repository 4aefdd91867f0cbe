"""Questions that are answered by log-probabilities: which tokens are scored, and what their scores say.

Prompt and option are split as lm-evaluation-harness splits them: white space at the prompt's end goes to the option,
both are tokenised together and as the prompt alone, and the option's tokens are those beyond the prompt's number of
tokens. Nothing stands between them but what the chat template ends with.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from cpt.evaluate.evaluators.asking import Answer
from cpt.tasks.likelihood import (
    NORMALISED,
    has_prompt,
    is_right,
    letter,
    likeliest,
    options_of,
    text_of,
    token_probability,
    windows,
)
from cpt.tasks.metric import scale_of
from cpt.types import Sample, Task

WINDOW = 1024  # most tokens of a text that are scored after one another; fewer where the model takes fewer

Pair = tuple[list[int], list[int]]
"""Token ids of what stands before, and of what is scored."""


def option_pairs(processor: Any, sample: Sample, text: str, prompt_ids: list[int]) -> list[Pair]:
    """What is scored to answer a question: its options, each after the prompt.

    Args:
        text: the prompt as the chat template renders it.
        prompt_ids: the same without white space at its end, pictures expanded.

    Raises:
        ValueError: an option is empty or has no token of its own.
    """
    options, context = options_of(sample), text.rstrip()
    before, *whole = _tokens(processor, [context, *(text + option for option in options)])
    found = [ids[len(before) :] for ids in whole]
    for option, ids in zip(options, found, strict=True):
        if not ids:
            raise ValueError(f"sample {sample.id}: the option {option!r} adds no token to its prompt")
    return [(prompt_ids, ids) for ids in found]


def text_pairs(processor: Any, sample: Sample, longest: int | None) -> list[Pair]:
    """What is scored of a text: all its tokens, after the mark of a text's beginning, or of its end if there is none.

    No chat template has a part in it. Of a text that is longer than `WINDOW`, or than model and engines take, see
    `cpt.tasks.likelihood.windows`.

    Args:
        longest: most tokens that the engines take, where it is not the model's own limit.
    """
    tokenizer = getattr(processor, "tokenizer", processor)
    (ids,) = _tokens(processor, [text_of(sample)])
    if not ids:
        raise ValueError(f"sample {sample.id}: its text has no tokens; leave the sample out")
    first = tokenizer.eos_token_id if tokenizer.bos_token_id is None else tokenizer.bos_token_id
    if first is None:
        raise ValueError(
            f"sample {sample.id}: the tokenizer has no mark of a text's beginning or end to score it after"
        )
    # Beside what is scored there is a token before it, and the one that vLLM generates after it.
    room = min(tokenizer.model_max_length, longest or tokenizer.model_max_length) - 2
    if room < 1:
        raise ValueError(
            f"sample {sample.id}: rollout.max_model_len {longest} leaves no room to score a text; raise it"
        )
    return windows(ids, first, min(WINDOW, room))


def judge(task: Task, sample: Sample, logprobs: Sequence[Sequence[float]]) -> Answer:
    """What the scores say: the likeliest option and whether it is right, or how likely the text is.

    Args:
        logprobs: of the tokens of each of the sample's pairs.

    Raises:
        ValueError: no gold answer is an option; the sample is named.
    """
    if not has_prompt(task):
        every = [value for part in logprobs for value in part]
        score = token_probability(every)
        return Answer("", "stop", "", score, score, len(every))
    options = options_of(sample)
    place = likeliest(logprobs, options, normalised=scale_of(task).metric == NORMALISED)
    try:
        score = float(is_right(place, options, sample.gold))
    except ValueError as error:
        raise ValueError(f"sample {sample.id}: {error}") from None
    said = options[place]
    return Answer(said, "stop", letter(place) or said, score, score, len(logprobs[place]))


def _tokens(processor: Any, texts: Sequence[str]) -> list[list[int]]:
    tokenizer = getattr(processor, "tokenizer", processor)
    return [list(ids) for ids in tokenizer(text=list(texts), add_special_tokens=False)["input_ids"]]
