"""What sentences have around an answer: lead-ins, the question again, denials.

These are heuristics for English. In doubt, a text counts as a denial and not as an answer: a reward that misses a right
answer teaches less, but one that rewards a hedge teaches hedging.
"""

from __future__ import annotations

import re
from collections.abc import Collection

from rewards.scripts import unspaced

MAX_CHARS = 500
"""Sentences are searched for an answer up to this length; it bounds what one may pack into them, and the time."""

EDGES = " \t\r\n.,;:!?\"'"
"""Punctuation that counts for nothing at the ends of an answer."""

# U+0307 is what the lower case of İ ends with: a text has to have the same lead-ins in lower case.
_LEAD_IN = re.compile(
    r"(?<![\w\u0307])(?:(?:answer|it) is\b ?:?|answer ?[:=]|(?:therefore|thus|hence) ?[,:]"
    r"|(?:respuesta|réponse|antwort) ?:)"
    r"|(?<!\S)#### ?|(?:答案|结果|结论|答え|정답)(?:应该?)?(?:是|为|は|은|[:：])+",
    re.IGNORECASE,
)
# A NUL stands where a candidate was (see `mentions`).
_GLUED = re.compile(r"[-−–/^]\0|(?:!=|[<>≤≥≠]=?) ?\0|\0[-−–/^]\w|\0 ?[%°]|[0-9][.,]\0|\0[.,][0-9]")
_NO_SPACE = re.compile(r"\S+")
_WORD = re.compile(r"[\w']+")


def words(text: str) -> list[str]:
    """Lower-case words; an apostrophe is part of a word."""
    return _WORD.findall(text.lower().replace("’", "'"))


_DENIALS = frozenset(
    words(
        "not no never neither nor none without except but unlike instead rather cannot false wrong incorrect "
        "isnt arent wasnt werent cant dont doesnt didnt wont"
    )
)


# 不 (not), 没 (there is none), 非, 无, 未, 否; not in words that deny nothing (非常, very; 不锈钢, stainless).
_CHINESE_DENIAL = re.compile("[不没沒非无無未否](?!常|错|同|止|仅|僅|锈|鏽|线|線|来|來)")


def denies(text: str) -> bool:
    """Whether a word of denial or exclusion occurs: not, n't, no, never, without, anything but, wrong, …; 不, 没, …"""
    if not text.isascii() and _CHINESE_DENIAL.search(text):
        return True
    return any(word in _DENIALS or word.endswith("n't") for word in words(text))


def asks(text: str) -> bool:
    """Whether it ends as a question does."""
    return text.rstrip(" \t\r\n\"'").endswith("?")


def without_lead_in(text: str) -> str:
    """The text after the last "the answer is", "it is" or "answer:". White space has to be single spaces."""
    end = 0
    for found in _LEAD_IN.finditer(text):
        end = found.end()
    return text[end:]


def tail(text: str, rest: str) -> str:
    """The end of the text that equals `rest` except for white space."""
    start, missing = len(text), sum(map(len, rest.split()))
    for word in reversed(list(_NO_SPACE.finditer(text))):
        if missing <= 0:
            break
        start = max(word.start(), word.end() - missing)
        missing -= word.end() - start
    return text[start:]


def without_question(text: str, question: str) -> str:
    """The text without the question at its beginning, even if repeated. `question` has to be normalised."""
    start = 0
    while question:
        begin = start
        while begin < len(text) and text[begin] in EDGES:
            begin += 1
        end = begin + len(question)
        if text[begin:end].lower() != question or (end < len(text) and _in_word(text[end])):
            break
        start = end
    return text[start:]


def mentions(text: str, candidates: Collection[str]) -> tuple[list[str], str]:
    """Candidates that occur in the text as whole words, and the text with NULs in their place.

    A candidate inside a longer one does not count ("3" in "3 0 7"): longer candidates are found first and replaced.
    Text and candidates have to be normalised.
    """
    found: list[str] = []
    for candidate in sorted(candidates, key=lambda c: (-len(c), c)):
        text, times = _blotted(text, candidate)
        if times:
            found.append(candidate)
    return found, text


def glued(rest: str) -> bool:
    """Whether a mention is part of something else: the 2 of "-2", "2.5", "2/3" and "2%", the red of "red-brown"."""
    return _GLUED.search(rest) is not None


def _blotted(text: str, word: str) -> tuple[str, int]:
    """The text with NULs for each occurrence of the word that is no part of a longer one, and their number."""
    kept: list[str] = []
    blot = "\0" * len(word)
    start, at = 0, text.find(word)
    while at >= 0:
        end = at + len(word)
        if (at > 0 and _joined(text[at - 1], word[0])) or (end < len(text) and _joined(word[-1], text[end])):
            at = text.find(word, at + 1)
            continue
        kept.append(text[start:at])
        start = end
        at = text.find(word, max(end, at + 1))
    return (blot.join([*kept, text[start:]]), len(kept)) if kept else (text, 0)


def _joined(one: str, other: str) -> bool:
    """Whether two neighbouring characters are of one word. In scripts without spaces they never are."""
    return _in_word(one) and _in_word(other) and not (unspaced(one) or unspaced(other))


def _in_word(character: str) -> bool:
    return character.isalnum() or character == "_"
