"""Multiple choice, by letter or by text."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from fractions import Fraction

from rewards import prose
from rewards.arithmetic import solved
from rewards.decoration import composed
from rewards.extract import Extraction, Read, ReadStatus, Template, bare, normalise, read_answer
from rewards.match import accepted, bad_gold, spelled, unrewarded
from rewards.registry import reward
from rewards.remember import remembered
from rewards.score import Score
from rewards.scripts import UNSPACED

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
# "B. green", "B-green", "(b) green", "B、绿色": a letter, a sign, an option's text.
_LETTER_AND_TEXT = re.compile(r"[(\[]?([A-Za-z])(?:[)\]]\s*[-–—:.,、]?|\s*[-–—:.,、])\s*(\S.*)", re.DOTALL)
# 选B, 故选B, 选项B, B选项, B项正确
_CHOSEN = re.compile(
    r"(?:所以|因此|综上|故|因而)?[,，]?\s*(?:我|本题|应该?|正确)*(?:选择?|选项|答案)?(?:是|为|:)?\s*[(\[]?([A-Za-z])[)\]]?\s*"
    r"(?:选?项)?(?:是?正确的?|是?对的?)?"
)
_BETWEEN_SCRIPTS = re.compile(rf"(?<=[{UNSPACED}])(?=[A-Za-z0-9])|(?<=[A-Za-z0-9])(?=[{UNSPACED}])")
_NUMBER = re.compile(r"[-−+]?[0-9]{1,15}(?:,[0-9]{3}){0,5}(?:\.[0-9]{1,15})?")
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
    """Whether the right option is named: "B", "(b)", "B.", "option B", "B: red", 选B, or its text, "red".

    Gold is a letter, an option's text, both ("B. red"), or else the option's index, counted from 0. In a sentence, a
    letter counts if it is a capital or marked as a label, an option's text if it stands as whole words. A letter with
    another option's text, several options, a denial ("not B") and a question are ambiguous. Case, white space and edge
    punctuation do not matter, and 15.0 is the option 15. Options may have their letters in front of them ("A. red").

    Limits: a letter wins over an option whose whole text is another letter, and a gold text over an index. "A" and "I"
    before a small letter are taken for words. What follows a letter and is no option's text is not understood: "B, I
    guess" is B. Without `choices` only letters count. Beyond 500 characters nothing but an option's text counts.
    """
    options = without_labels(tuple(composed(str(option)) for option in choices))
    right = {index for answer in accepted(gold) for index in options_of_gold(answer, options)}
    if not right:
        return bad_gold(f"gold has to be a letter, one of the choices or its index, not {list(gold)!r}")
    said = read_answer(completion, read, template, question=question)
    if said.status != "ok":
        return unrewarded(said, "match")
    named, status = _read_choice(said.raw, options)
    if status != "ok":
        return unrewarded(Extraction("", status), "match")
    value = float(not right.isdisjoint(named))
    return Score(value, {"match": value}, chr(ord("A") + min(named)))


def without_labels(options: tuple[str, ...]) -> tuple[str, ...]:
    """The options' texts, where each has its own letter in front."""
    found = [_LETTER_AND_TEXT.fullmatch(option.strip()) for option in options]
    texts = tuple(match[2] for i, match in enumerate(found) if match and ord(match[1].upper()) == ord("A") + i)
    return texts if len(texts) == len(options) else options


def options_of_gold(answer: str, choices: tuple[str, ...]) -> set[int]:
    """The options that a gold answer stands for; empty if for none, or for several texts."""
    named, status = _read_choice(answer, choices)
    if status == "ok":
        return named
    digits = answer.strip()
    index = int(digits) if digits.isascii() and digits.isdigit() and len(digits) < 4 else -1
    return {index} if 0 <= index < len(choices) else set()


@remembered()
def _read_choice(text: str, choices: tuple[str, ...]) -> tuple[set[int], ReadStatus]:
    """The one option that a text names, as the indices of the choices with its text; empty unless the status is ok."""
    named = _named(text, choices)
    if not named:
        if len(text) > prose.MAX_CHARS:
            return set(), "malformed"
        named, rest = _labelled(" ".join(_BETWEEN_SCRIPTS.sub(" ", text).split()), choices)
        if not named:
            return set(), "no_answer"
        if prose.denies(rest) or prose.asks(text) or prose.glued(rest):
            return set(), "ambiguous"
    texts = {normalise(choices[index]) if choices else str(index) for index in named}
    return (named, "ok") if len(texts) == 1 else (set(), "ambiguous")


def _named(text: str, choices: Sequence[str]) -> set[int]:
    """The options if the text only names options: letters, or one option's text. Else empty."""
    plain, said = normalise(text), bare(text)
    if len(plain) <= prose.MAX_CHARS:
        rest = [word for word in _WORDS.findall(plain) if word not in _BESIDE]
        if rest and all(len(word) == 1 and _index(word, choices) is not None for word in rest):
            return {index for word in rest if (index := _index(word, choices)) is not None}
        chosen = _CHOSEN.fullmatch(said)
        if chosen and (index := _index(chosen[1], choices)) is not None:
            return {index}
        both = _LETTER_AND_TEXT.fullmatch(said)
        if both and (index := _index(both[1], choices)) is not None and (texts := _with_text(both[2], choices)):
            return {index} if index in texts else {index, *texts}
    return _with_text(plain, choices) or _with_text(said, choices) or _with_text(solved(said), choices)


def _with_text(said: str, choices: Sequence[str]) -> set[int]:
    """The options with this text: letter for letter, else without lead-ins, else as a number or however spelled."""
    if not bare(said):
        return set()
    forms: tuple[Callable[[str], object], ...] = (normalise, bare, _number_or_spelled)
    for form in forms:
        wanted = form(said)
        if found := {index for index, option in enumerate(choices) if form(option) == wanted}:
            return found
    return set()


def _number_or_spelled(text: str) -> Fraction | str:
    """The number if the text is only a number, else its words."""
    plain = bare(text)
    return Fraction(plain.replace(",", "").replace("−", "-")) if _NUMBER.fullmatch(plain) else spelled(plain)


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
