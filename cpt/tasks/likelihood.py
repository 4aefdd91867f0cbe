"""Tasks that are answered by the model's log-probabilities: which option is the likeliest, how likely a text is.

Nothing is generated. As in lm-evaluation-harness, options are compared by the sum of their tokens' log-probabilities
(its `acc`), or by that sum per character of the option (its `acc_norm`).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, get_args

from cpt.tasks.metric import scale_of
from cpt.types import AnsweredBy, Sample, Task
from rewards.choice import choice

LIKELIHOOD = "likelihood"
NORMALISED = "likelihood-normalised"
TOKEN_PROBABILITY = "token-probability"
METRICS = {
    LIKELIHOOD: "1 if the option with the largest sum of log-probabilities is right, else 0",
    NORMALISED: "1 if the option with the largest sum of log-probabilities per character is right, else 0",
    TOKEN_PROBABILITY: "exp of the mean log-probability of a text's tokens: 1 / perplexity",
}
"""What the metric of such a task may be called, and what each is."""


def answered_by(task: Task) -> AnsweredBy:
    """How a task is answered, by its attribute `answered_by`, which it may leave out: then it is by generation.

    Raises:
        ValueError: there is no such way, or its metric is none of `METRICS` where it is answered by likelihood.
    """
    found: Any = getattr(task, "answered_by", "generation")
    if found not in get_args(AnsweredBy):
        raise ValueError(f"task {task.name}: answered_by is {found!r}; set generation or likelihood")
    metric = scale_of(task).metric
    if found == "likelihood" and metric not in METRICS:
        raise ValueError(
            f"task {task.name}: metric is {metric!r}, which scores what is generated; a task that is answered by "
            f"likelihood has one of {', '.join(METRICS)}"
        )
    return "likelihood" if found == "likelihood" else "generation"


def has_prompt(task: Task) -> bool:
    """Whether there is something to answer: not in a text whose own probability is asked for."""
    return answered_by(task) == "generation" or scale_of(task).metric != TOKEN_PROBABILITY


def options_of(sample: Sample) -> tuple[str, ...]:
    """The options' texts of a question (`meta["choices"]`). ValueError if there are none, or one is empty."""
    options = tuple(map(str, sample.meta.get("choices", ())))
    if not options or not all(option.strip() for option in options):
        raise ValueError(
            f"sample {sample.id}: its options are {list(options)}; a question that is answered by likelihood needs "
            "options, none of them empty"
        )
    return options


def text_of(sample: Sample) -> str:
    """The text whose probability is asked for: `meta["text"]`, or else the first gold answer. ValueError if empty."""
    text = str(sample.meta.get("text") or next(iter(sample.gold), ""))
    if not text.strip():
        raise ValueError(f"sample {sample.id}: its text is empty; leave the sample out")
    return text


def likeliest(logprobs: Sequence[Sequence[float]], options: Sequence[str], *, normalised: bool) -> int:
    """Place of the option with the largest log-probability; of equal ones the first.

    Args:
        logprobs: of each option's tokens, in nats.
        options: their texts.
        normalised: divide each sum by the number of characters (code points, not bytes) of the option's text.
    """
    sums = [math.fsum(own) for own in logprobs]
    values = [total / len(text) if normalised else total for total, text in zip(sums, options, strict=True)]
    return max(range(len(values)), key=values.__getitem__)


def letter(place: int) -> str:
    """What an option is called by its place: A, B, …; nothing after Z."""
    return chr(ord("A") + place) if 0 <= place < 26 else ""


def is_right(place: int, options: Sequence[str], gold: Sequence[str]) -> bool:
    """Whether the option at a place is a gold one. Gold is read as `rewards.choice` reads it: letter, text or index.

    Raises:
        ValueError: it names no option.
    """
    score = choice(letter(place) or options[place], gold=gold, choices=options, read="whole")
    if score.failed:
        raise ValueError(score.detail)
    return score.value == 1


def token_probability(logprobs: Sequence[float]) -> float:
    """exp(1/T Σ_t log p_t), the geometric mean of T tokens' probabilities: 1 / perplexity, in [0, 1]."""
    return min(1.0, math.exp(math.fsum(logprobs) / len(logprobs)))


def windows(tokens: Sequence[int], first: int, length: int) -> list[tuple[list[int], list[int]]]:
    """A text of T tokens as pieces that fit a model: context and the tokens that are scored after it.

    Each token is scored once. The first piece follows the token `first` alone; of the others, the last is preceded by
    as much of the text as makes it as long as the rest, the ones before it by one token (`loglikelihood_rolling` of
    lm-evaluation-harness). So tokens early in a piece are scored with little context: perplexity depends on `length`.

    Args:
        first: what stands before the text, such as the mark of its beginning.
        length: at most so many tokens are scored in a piece; context and scored tokens are one more at most.
    """
    pieces = []
    for start in range(0, len(tokens), length):
        scored = list(tokens[start : start + length])
        context = [first] if start == 0 else list(tokens[start + len(scored) - length - 1 : start])
        pieces.append((context, scored))
    return pieces
