"""Gold answers as data sets write them: after a worked solution, or in the format that the model is to learn."""

from __future__ import annotations

import re

from rewards.templates import boxed_answers

_THOUGHT = re.compile(r"\s*<think>(.*?)</think>(.*)", re.DOTALL | re.IGNORECASE)
_TAGGED = re.compile(r"<answer>(.*?)</answer>", re.DOTALL | re.IGNORECASE)
_GSM8K = re.compile(r"(.*\n)?####[ \t]*([^\n]+)", re.DOTALL)


def gold_of(text: str) -> tuple[str, str]:
    """The worked solution (or "") and the answer that a gold text holds.

    `<think> … </think>` at the beginning is the solution, and so is what stands before GSM8K's `####` or around the
    only `\\boxed{}`. `<answer> </answer>` and `\\boxed{}` (also in dollars) around an answer are taken off.
    """
    reasoning, answer = "", text.strip()
    thought = _THOUGHT.fullmatch(answer)
    if thought is not None:
        reasoning, answer = thought[1].strip(), thought[2].strip()
    tagged = _TAGGED.fullmatch(answer)
    if tagged is not None:
        answer = tagged[1].strip()
    worked = _GSM8K.fullmatch(answer)
    if worked is not None:
        return reasoning or (worked[1] or "").strip(), worked[2].strip()
    boxes = boxed_answers(answer)
    if len(boxes) == 1 and boxes[0].strip():
        alone = answer.strip("$ \n").removeprefix("\\boxed{").removesuffix("}") == boxes[0]
        return reasoning or ("" if alone else answer), boxes[0].strip()
    return reasoning, answer
