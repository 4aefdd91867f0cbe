"""Reads yes or no from a text."""

from __future__ import annotations

import re
from typing import Literal

from rewards import prose
from rewards.extract import bare, normalise
from rewards.unanswerable import UNANSWERABLE, as_unanswerable

YesNo = Literal["yes", "no"]
Verdict = Literal["yes", "no", "both", ""]

_YES = frozenset(("yes", "yeah", "yep", "yup"))
_NO = frozenset(("no", "nope", "nah"))
_ALONE: dict[str, YesNo] = {
    **dict.fromkeys(
        prose.words("true y t affirmative sure indeed absolutely definitely certainly sí si oui ja да はい 네 예"),
        "yes",
    ),
    **dict.fromkeys(prose.words("false n f negative not non nein нет いいえ 아니요"), "no"),
}
"""What says yes or no with nothing behind it; y, n, t and f are how data sets abbreviate."""
_NUMBERS: dict[str, YesNo] = {"1": "yes", "0": "no"}
_NOT_A_NO = frozenset(("idea", "clue", "answer", "comment", "way"))
"""After "no" as the first word, these say that there is no answer."""

_SUBJECT = r"(?:there|it|this|that|they|these|those|he|she|i|we|you)"
_VERB = r"(?:is|are|was|were|does|do|did|has|have|had|can|could|will|would)"
# "It is" says yes with nothing behind it: "it is a cat" may well be a no.
_ECHO = re.compile(rf"{_SUBJECT} {_VERB}(?: indeed)?|of course|i (?:think|believe) so")
_DENIED = re.compile(
    rf"{_SUBJECT} (?:{_VERB} (?:not|no|none)"
    r"|(?:is|are|was|were|does|do|did|has|have|had|ca|could|wo|would)n't|cannot)(?!\w)"
    r"[^.;\n]*(?:[.;\n].*)?"
    r"|(?:not (?:at all|really|exactly)|(?:definitely|certainly|absolutely|of course|probably) not)(?!\w).*",
    re.DOTALL,
)
# What may follow a "no" that is an answer; the one before a noun ("but no cat") only counts cats.
_AFTER_NO = frozenset(
    (*prose.words("there it this that they these those he she i we you the not none is are and or but"), *_YES, *_NO)
)
_TOKEN = re.compile(r"[\w']+|[^\w\s']")

_WHERE = r"(?:在?(?:这张|该)?(?:图像?|图片|照片|画面)[中里上]?)?"
_CHINESE: tuple[tuple[YesNo, re.Pattern[str]], ...] = (
    # Yes and no alone, or before a sentence; and what denies a thing: 没有狗 (there is no dog), not 没有信息, 不知道.
    ("yes", re.compile(rf"{_WHERE}(?:是的?|對|对的?|有的?|正确|没错|会的?|能的?|可以的?|存在|嗯)(?!\w)")),
    ("no", re.compile(rf"{_WHERE}(?:否|不对?|错误?|没有?|沒有?|无|不(?:是|会|能|可以|存在)的?)(?!\w)")),
    (
        "no",
        re.compile(
            rf"{_WHERE}(?:并|都)?(?:[没沒]有?(?![错有足办答信法])|无(?![法从])|不(?:是|会|能|存在)(?![不确判回看说知]))"
        ),
    ),
)


def verdict(text: str) -> Verdict:
    """Whether a text says yes, no, both, or neither.

    Its beginning decides: a word for yes or no, alone or before a sentence ("Yes, there is a dog"), an echo of the
    question ("It is."), or a denial ("There is no dog", "Not really"). With a word for the other one anywhere behind it
    says both; a "no" that belongs to a noun ("but no cat") is none. So it does if the sentence behind denies what the
    word affirms ("Yes, there is no dog") or the other way round ("No, it is").
    """
    if as_unanswerable(text) == UNANSWERABLE:
        return ""
    # "It is not a dog" without its lead-in would be "not a dog".
    found = _opening(normalise(text)) or _opening(bare(text))
    if found is None:
        return ""
    first, rest = found
    return "both" if _contradicts(first, rest.lstrip(" ,.;:!()—–-，。；：！（）")) else first


def verdict_of_gold(gold: str) -> Verdict:
    """As `verdict`, and 1 and 0 as data sets have them."""
    return _NUMBERS.get(normalise(gold)) or verdict(gold)


def _opening(said: str) -> tuple[YesNo, str] | None:
    """The yes or no that a normalised text begins with, and what stands behind it."""
    words = [*_TOKEN.findall(said)[:2], "", ""]
    if words[0] in _YES:
        return "yes", said[len(words[0]) :]
    if words[0] in _NO:
        return None if words[1] in _NOT_A_NO else ("no", said[len(words[0]) :])
    if _DENIED.fullmatch(said):
        # "It is not no" and "it isn't, yes" deny an answer, not the question.
        return None if _YES.union(_NO).intersection(_TOKEN.findall(said)[3:]) else ("no", "")
    if _ECHO.fullmatch(said):
        return "yes", ""
    for says, pattern in _CHINESE:
        if chinese := pattern.match(said):
            return says, said[chinese.end() :]
    for word, alone in _ALONE.items():
        if said == word or (len(word) > 1 and said.startswith(word) and said[len(word)] in ",.;\n"):
            return alone, said[len(word) :]
    return None


def _contradicts(first: YesNo, rest: str) -> bool:
    """Whether what stands behind a yes or a no takes it back."""
    sentence = normalise(rest)
    tokens = _TOKEN.findall(sentence)
    if first == "no":
        return (
            bool(_ECHO.fullmatch(sentence)) or any(word in _YES for word in tokens) or bool(_CHINESE[0][1].match(rest))
        )
    if _DENIED.fullmatch(sentence) or (not rest.isascii() and prose.denies(rest)):
        return True
    behind = [*tokens[1:], ""]
    return any(
        word in _NO and (word != "no" or not after or not after[0].isalnum() or after in _AFTER_NO)
        for word, after in zip(tokens, behind, strict=False)
    )
