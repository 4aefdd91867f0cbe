"""Whether an answer is an accepted one; and helpers of all rewards for answers: gold, hedges, scores without credit."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rewards import prose
from rewards.arithmetic import solved
from rewards.decoration import composed, straight, unwrapped
from rewards.extract import Extraction, Read, bare, normalise
from rewards.numerals_english import SMALL, TENS
from rewards.score import Score

MAX_UNICODE_CHARS = 4_096
"""Longer texts are compared without NFKC, which takes quadratic time on runs of combining characters."""

MAX_ROW = 500
"""Characters of an annotator's row as JSON text; a longer text is itself the answer."""

_ARTICLES = frozenset(("a", "an", "the"))
_LATEX_TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it|sf))(?![a-zA-Z])")
_BRACES = str.maketrans("{}", "  ")
_QUOTES = str.maketrans("‘’‚“”„′″", "'''\"\"\"'\"")
_STOP_IN_WORD = re.compile(r"(?<=[^\W\d_])\.")
_UNIT = re.compile(r"(?<=\d) (?=[^\W\d_]|%)")
_HYPHEN = re.compile(r"(?<=[^\W\d_])[-‐‑–_](?=[^\W\d_])")
_ACCENT = re.compile(r"(?<=[a-z])[\u0300-\u036f]+")
_ANNOTATION = re.compile(r'\s*\{(?=[^{}]{0,300}"answer"\s*:)')


def exact_match(answer: str, gold: Iterable[str]) -> float:
    """1.0 if the answer equals one of the accepted answers, else 0.0. An empty answer is wrong.

    Both are normalised by `rewards.extract.bare` and `spelled`. The value of a true equation counts too ("5 + 7 = 12"
    is 12), unless gold is an equation itself.
    """
    said = bare(answer)
    if not said:
        return 0.0
    right = {spelled(bare(g)) for g in gold}
    return float(spelled(said) in right or ("=" in said and spelled(bare(solved(said))) in right))


def spelled(text: str) -> str:
    """A normalised text without differences of spelling: U.S.A. and USA, St. Louis and St Louis, 3 pm and 3pm.

    Curly apostrophes are straight.

    >>> spelled("3 p.m"), spelled("don’t")
    ('3pm', "don't")
    """
    return _UNIT.sub("", _STOP_IN_WORD.sub("", straight(text)))


def canonical(text: str, articles: bool = True) -> str:
    """The form in which `normalised` compares answers. In this order:

    1. Unicode NFKC (full-width and other compatibility forms become the plain ones), curly quotes straight, case folded
       (ß is ss), NFKC again;
    2. `rewards.extract.bare`: no decoration, no lead-in, single spaces, no punctuation at the edges; LaTeX's
       `\\text{}`, `\\mathrm{}` and the like give way to what they hold;
    3. Latin letters lose their accents, hyphens between letters are spaces, `spelled`;
    4. number words up to ninety-nine become digits;
    5. if `articles`, the words a, an and the are left out, unless nothing else is there.

    >>> canonical("The  \\\\text{Red} circle."), canonical("an ice-cream"), canonical("twenty-one cafés")
    ('red circle', 'ice cream', '21cafes')
    """
    before = None
    while text != before:
        before, text = text, _canonical(text, articles)
    return text


def _canonical(text: str, articles: bool) -> str:
    if not text.isascii() and len(text) <= MAX_UNICODE_CHARS:
        text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
        text = unicodedata.normalize("NFKC", text.casefold())
    text = bare(text)
    if "\\" in text:
        text = _LATEX_TEXT.sub(" ", text)
        text = bare(text if "\\" in text else text.translate(_BRACES))
    if not text.isascii() and len(text) <= MAX_UNICODE_CHARS:
        text = unicodedata.normalize("NFC", _ACCENT.sub("", unicodedata.normalize("NFD", text)))
    words = _in_digits(_STOP_IN_WORD.sub("", _HYPHEN.sub(" ", text)).split())
    if articles:
        words = [word for word in words if word.strip(prose.EDGES) not in _ARTICLES] or words
    return spelled(normalise(" ".join(words)))


def _in_digits(words: Sequence[str]) -> list[str]:
    """The words with number words as digits: twenty one is 21."""
    said: list[str] = []
    tens = 0
    for word in words:
        one = SMALL.get(word)
        if tens and one and one < 10:
            said[-1], tens = str(tens + one), 0
            continue
        tens = TENS.get(word, 0)
        said.append(str(tens or one) if tens or one is not None else word)
    return said


def accepted(gold: Sequence[Any] | Mapping[str, Any] | str) -> list[str]:
    """The accepted answers as a list, `unwrapped`; a lone string is one answer, not a sequence of letters.

    An annotator's row as VQA has them, {"answer": "red", "answer_confidence": "yes"}, is its answer, also as JSON text.
    None is no answer.

    Raises:
        ValueError: such a row has no answer.
    """
    answers = [gold] if isinstance(gold, str | Mapping) else gold
    return [unwrapped(composed(text)) for answer in answers if answer is not None for text in _texts(answer)]


def _texts(answer: Any) -> list[str]:
    if (
        isinstance(answer, str)
        and len(answer) <= MAX_ROW
        and _ANNOTATION.match(answer)
        and answer.rstrip().endswith("}")
    ):
        answer = _as_json(answer)
    if not isinstance(answer, Mapping):
        return [str(answer)]
    said = answer.get("answer")
    if isinstance(said, str | int | float):
        return [str(said)]
    if isinstance(said, list) and said and all(isinstance(one, str | int | float) for one in said):
        return [str(one) for one in said]
    raise ValueError(f"gold is a mapping without an answer: {dict(answer)!r}; give the text, or {{'answer': text}}")


def _as_json(text: str) -> Any:
    """The object that a text is in JSON, or the text."""
    try:
        return json.loads(text)
    except json.JSONDecodeError:
        return text


def hedges(said: str, gold: Sequence[str], candidates: Sequence[str] = ()) -> bool:
    """Whether a text has more than one answer: a gold answer with a denial, or several of the known answers.

    For rewards with partial credit, where "not the red circle" would get most of the credit of "the red circle". If a
    gold answer itself denies or lists as much, it is no hedge. `said` and `gold` have to be normalised.
    """
    if said in gold:
        return False
    if prose.denies(said) and not any(map(prose.denies, gold)) and prose.mentions(said, set(gold) - {""})[0]:
        return True
    known = {normalise(candidate) for candidate in candidates} - {""}
    if len(known) < 2:
        return False
    listed = len(prose.mentions(said, known)[0])
    return listed > max([1, *(len(prose.mentions(answer, known)[0]) for answer in gold)])


def words_of(said: Extraction, read: Read) -> str:
    """The words that a metric on the whole answer compares.

    With a tolerant reading they are those of the answer found in a sentence.
    """
    return said.answer if read == "tolerant" else said.raw


def unrewarded(read: Extraction, *parts: str) -> Score:
    """The score of a completion without an answer: 0 in every part, with the reading's status."""
    return Score(0.0, dict.fromkeys(parts, 0.0), read.answer, read.status)


def bad_gold(detail: str) -> Score:
    """The score of a row whose gold answer can't be used."""
    return Score(0.0, status="error", detail=detail)
