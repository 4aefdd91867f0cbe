"""Multiple choice, by letter or by text."""

from __future__ import annotations

import re
from collections.abc import Sequence

from rewards import prose
from rewards.extract import Extraction, Read, ReadStatus, Template, normalise, read_answer
from rewards.match import accepted, bad_gold, unpaid
from rewards.registry import reward
from rewards.score import Score

_WORDS = re.compile(r"[^\W_]+")
# Words that may stand beside a lone letter in any case: "the correct answer is (b)", "option b", "a or b".
_BESIDE = frozenset(
    prose.words(
        "the correct best right final answer answers option options choice choices letter is are or and both either"
    )
)
# (b)  b)  b.  b:  option b  B
_LABEL = re.compile(
    r"(?<![\w'’])(?:[(\[]([A-Za-z])[)\]]|([A-Za-z])(?:[)\]]|[.:](?=\s|$))"
    r"|(?i:option|choice|letter) ([A-Za-z])(?![\w'’])|([A-Z])(?![\w'’]))"
)
# "A circle", "I see": a capital that starts a sentence, unless one of these follows: "A or B".
_NEXT_WORD = re.compile(r"\s([a-z]+)")
_AFTER_LETTER = frozenset(prose.words("or and nor is because since as not but"))


@reward(
    "choice",
    source="arXiv 2209.09513 (ScienceQA's form)",
    formula="1 if the one option that is named, by letter or text, is a gold one, else 0",
)
def choice(
    completion: str,
    *,
    gold: Sequence[str],
    choices: Sequence[str] = (),
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """Whether the right option is named: "B", "(b)", "B.", "option B", "B: red", or its text, "red".

    Gold is a letter or an option's text. In a sentence, a letter counts if it is a capital or marked as a label, an
    option's text if it stands as whole words. A letter with another option's text, several options, a denial ("not B")
    and a question are ambiguous. Case, white space and edge punctuation do not matter.

    Limits: a letter wins over an option whose whole text is another letter. "A" and "I" before a small letter are taken
    for words. What follows a letter and is no option's text is not understood: "B, I guess" is B. Without `choices`
    only letters count. Beyond 500 characters nothing but an option's text counts.
    """
    right = {index for answer in accepted(gold) for index in _named(answer, choices)}
    if not right:
        return bad_gold(f"gold has to be a letter or one of the choices, not {list(gold)!r}")
    said = read_answer(completion, read, template, question=question)
    if said.status != "ok":
        return unpaid(said, "match")
    named, status = _read_choice(said.raw, choices)
    if status != "ok":
        return unpaid(Extraction("", status), "match")
    value = float(not right.isdisjoint(named))
    return Score(value, {"match": value}, chr(ord("A") + min(named)))


def _read_choice(text: str, choices: Sequence[str]) -> tuple[set[int], ReadStatus]:
    """The one option that a text names, as the indices of the choices with its text; empty unless the status is ok."""
    named = _named(text, choices)
    if not named:
        if len(text) > prose.MAX_CHARS:
            return set(), "malformed"
        named, rest = _labelled(" ".join(text.split()), choices)
        if not named:
            return set(), "no_answer"
        if prose.denies(rest) or prose.asks(text) or prose.glued(rest):
            return set(), "ambiguous"
    texts = {normalise(choices[index]) if choices else str(index) for index in named}
    return (named, "ok") if len(texts) == 1 else (set(), "ambiguous")


def _named(text: str, choices: Sequence[str]) -> set[int]:
    """The options that a text names, doing nothing else: letters alone, or one option's text. Empty if it does not."""
    said = normalise(text)
    if len(said) <= prose.MAX_CHARS:
        rest = [word for word in _WORDS.findall(said) if word not in _BESIDE]
        if rest and all(len(word) == 1 and _index(word, choices) is not None for word in rest):
            return {index for word in rest if (index := _index(word, choices)) is not None}
    return {index for index, option in enumerate(choices) if normalise(option) == said and said}


def _labelled(text: str, choices: Sequence[str]) -> tuple[set[int], str]:
    """The options that a sentence names by label or text, and the sentence without their texts."""
    lower = text.lower()
    if len(lower) != len(text):
        text = lower
    found, rest = prose.mentions(lower, {normalise(option) for option in choices} - {""})
    named = {index for index, option in enumerate(choices) if normalise(option) in found}
    # A letter within an option's text is no label.
    text = "".join(blotted if blotted == "\0" else letter for letter, blotted in zip(text, rest, strict=True))
    for label in _LABEL.finditer(text):
        index = _index(next(filter(None, label.groups())), choices)
        if index is not None and not _is_word(label, text):
            named.add(index)
    return named, text


def _is_word(label: re.Match[str], text: str) -> bool:
    """Whether a bare capital A or I is the article or the pronoun."""
    if label[4] not in ("A", "I"):
        return False
    following = _NEXT_WORD.match(text, label.end())
    return following is not None and following[1] not in _AFTER_LETTER


def _index(letter: str, choices: Sequence[str]) -> int | None:
    """Place of a letter's option; without choices every letter has one."""
    index = ord(letter.upper()[0]) - ord("A") if letter.isascii() and letter.isalpha() else -1
    return index if 0 <= index < (len(choices) or 26) else None
