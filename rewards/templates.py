"""The tags around an answer: `<think>`, `<answer>`, `\\boxed{}`.

Model families differ in the case of tags, so tags count in any case, except in the strict templates. Every function
takes time linear in the text: no pattern here can match the same part in two ways.
"""

from __future__ import annotations

import re
from typing import Literal, get_args

Template = Literal["direct", "think", "think_boxed", "boxed", "plain", "think_plain"]
TEMPLATES: tuple[Template, ...] = get_args(Template)
TAGGED: tuple[Template, ...] = ("direct", "think", "think_boxed", "boxed")
"""Those whose answer stands in a tag or a box."""

_THINK = re.compile(r"</?think>", re.IGNORECASE)
_ANSWER = re.compile(r"</?answer>", re.IGNORECASE)
_ANY_TAG = re.compile(r"</?(?:think|answer)>", re.IGNORECASE)
# An escaped brace is text; `\boxed {x}` is how some write it.
_BOX = re.compile(r"\\boxed\s*+\{", re.IGNORECASE)
_BRACE = re.compile(rf"(?P<box>{_BOX.pattern})|\\[{{}}]|[{{}}]", re.IGNORECASE)
_OPEN_THINK, _CLOSE_THINK = "<think>", "</think>"
_OPEN_ANSWER, _CLOSE_ANSWER = "<answer>", "</answer>"
_OPEN_BOX = "\\boxed{"


def body(completion: str, template: Template) -> str | None:
    """The text in the place of the answer; None unless the whole completion has the template.

    `direct`: `<answer> x </answer>`. `think`: `<think> … </think>` before it. `boxed`: `\\boxed{x}` with balanced
    braces. `think_boxed`: `<think> … </think>` before that. `plain`: the whole text, without any of these tags and
    boxes; `think_plain`: all that follows `<think> … </think>`. White space may stand around and between, nothing else.
    Neither the reasoning nor the answer may contain one of the four tags, nor the answer another `\\boxed{}`.

    Raises:
        ValueError: there is no such template.
    """
    if template not in TEMPLATES:
        raise ValueError(f"template {template!r} is not known; it has to be one of {', '.join(TEMPLATES)}")
    text = completion.strip()
    if template.startswith("think"):
        reasoning, closed, text = text.partition(_CLOSE_THINK)
        if not closed or not reasoning.startswith(_OPEN_THINK) or _ANY_TAG.search(reasoning, len(_OPEN_THINK)):
            return None
        text = text.lstrip()
    if template in ("plain", "think_plain"):
        return None if _ANY_TAG.search(text) or holds_box(text) else text
    opened, closing = (_OPEN_ANSWER, _CLOSE_ANSWER) if template in ("direct", "think") else (_OPEN_BOX, "}")
    inside = text[len(opened) : -len(closing)]
    if not text.startswith(opened) or not text.endswith(closing) or len(text) < len(opened) + len(closing):
        return None
    if _ANY_TAG.search(inside):
        return None
    if opened is _OPEN_BOX and boxed_answers(text) != [inside]:
        return None
    return None if opened is _OPEN_BOX and holds_box(inside) else inside


def outside_reasoning(text: str) -> str:
    """The text without its `<think> … </think>` blocks, nested ones counted.

    An unclosed block runs to the end. A `</think>` without an opening tag closes a block that began in the prompt, so
    the text before it is reasoning too.
    """
    if "<" not in text:
        return text
    kept: list[str] = []
    depth = end = 0
    for tag in _THINK.finditer(text):
        opens = tag.group()[1] != "/"
        if depth == 0:
            if opens:
                kept.append(text[end : tag.start()])
            else:
                kept.clear()
        depth = depth + 1 if opens else max(depth - 1, 0)
        end = tag.end()
    if depth == 0:
        kept.append(text[end:])
    return " ".join(kept)


def tagged_answers(text: str) -> list[str]:
    """The content of each `<answer>`, in order. The next tag or the end of the text closes an open one."""
    found: list[str] = []
    start: int | None = None
    for tag in _ANSWER.finditer(text):
        closes = tag.group()[1] == "/"
        if start is not None and (closes or text[start : tag.start()].strip()):
            found.append(text[start : tag.start()])
        start = None if closes else tag.end()
    if start is not None:
        found.append(text[start:])
    return found


def boxed_answers(text: str) -> list[str]:
    """What stands in each balanced `\\boxed{}`, in order. Of nested ones only the outermost is there."""
    first = _BOX.search(text)
    if first is None:
        return []
    opened: list[int] = []
    spans: list[tuple[int, int]] = []
    for brace in _BRACE.finditer(text, first.start()):
        token = brace.group()
        if brace["box"]:
            opened.append(brace.end())
        elif token == "{":
            opened.append(-1)
        elif token == "}" and opened:
            start = opened.pop()
            if start >= 0:
                while spans and spans[-1][0] > start:
                    spans.pop()
                spans.append((start, brace.start()))
    return [text[start:end] for start, end in spans]


def holds_box(text: str) -> bool:
    """Whether a `\\boxed{` opens in the text."""
    return _BOX.search(text) is not None
