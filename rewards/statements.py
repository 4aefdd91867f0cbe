"""A plain sentence that states a number or property: "There are 12 apples.", "The colour is red.", 一共有12个苹果."""

from __future__ import annotations

import re

from rewards import prose
from rewards.decoration import undecorated
from rewards.numerals_english import SMALL

MAX_CHARS = 200
"""A longer sentence says more than one thing."""

_COUNTING = (
    r"(?:(?:so|thus|therefore|hence),? )?"
    r"(?:there (?:are|is|were|was)|(?:i|we) (?:can )?(?:count|counted|see|saw|find|found|have)"
    r"|(?:the|this) (?:image|picture|photo|figure|scene) (?:shows|has|contains))(?: (?:exactly|only|a total of))? "
)
_CHINESE = r"(?:图[片中里]*)?(?:我?数[了到]*|看到)?(?:总共|一共|共)?(?:有|是)? ?"
_NUMBER = r"[-+−]?[0-9]+(?:[.,][0-9]+)*"
_WORDS = [*SMALL, "twenty"]
_NUMBER_WORD = "|".join(_WORDS)
_ONE_NUMBER = re.compile(
    rf"{_COUNTING}({_NUMBER}|{_NUMBER_WORD})(?![\w.,/-]*\w)(?P<rest>[^.!?;:]*)[.!]?", re.IGNORECASE
)
_COUNTED = re.compile(
    rf"{_CHINESE}({_NUMBER}) ?(?P<rest>[个只位名条张件匹辆本座棵朵颗块片支头人把双台根枚种][^，。,.!?；;]*)[。.!]?"
)
_PROPERTY = re.compile(r"the (?!answer\b)[^\W\d_]+(?: [^\W\d_]+){0,5}? (?:is|are|was|were) ", re.IGNORECASE)
_SENTENCE_END = re.compile(r"[.!?;](?=\s+\S)|[。！？；](?=\s*\S)")


def stated(sentence: str) -> str:
    """What a sentence states, or the sentence. It has to have single spaces.

    A sentence with another number, a denial, a choice ("12 or 13") or a question says more: it stays as it is.

    >>> stated("There are 12 apples in the image."), stated("The ball is red."), stated("There are 12 or 13.")
    ('12', 'red', 'There are 12 or 13.')
    """
    said = undecorated(sentence)
    if len(said) > MAX_CHARS or _SENTENCE_END.search(said) or prose.denies(said) or prose.asks(sentence):
        return sentence
    if counted := _ONE_NUMBER.fullmatch(said) or _COUNTED.fullmatch(said):
        return sentence if _says_more(counted["rest"]) else counted[1]
    if (found := _PROPERTY.match(said)) and "or" not in prose.words(said):
        return said[found.end() :]
    return sentence


def _says_more(text: str) -> bool:
    """Whether a text holds a number or a choice."""
    words = set(prose.words(text))
    return any(map(str.isnumeric, text)) or "or" in words or not words.isdisjoint(_WORDS)
