"""Is the answer one of the accepted ones? And what rewards for answers share: gold, hedges, scores without credit."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Sequence

from rewards import prose
from rewards.extract import Extraction, Template, normalise, read_answer
from rewards.score import Score

ACCURACY_WEIGHT = 0.9
FORMAT_WEIGHT = 0.1

MAX_UNICODE_CHARS = 4_096
"""Longer texts are compared without NFKC, which takes quadratic time on runs of combining characters."""

_ARTICLES = frozenset(("a", "an", "the"))
_LATEX_TEXT = re.compile(r"\\(?:text(?:bf|it|rm)?|math(?:rm|bf|it|sf))(?![a-zA-Z])")
_BRACES = str.maketrans("{}", "  ")
_QUOTES = str.maketrans("‘’‚“”„′″", "'''\"\"\"'\"")


def exact_match(answer: str, gold: Iterable[str]) -> float:
    """1.0 if the normalised answer is one of the normalised accepted answers, else 0.0. An empty answer is wrong."""
    said = normalise(answer)
    return float(bool(said) and said in {normalise(g) for g in gold})


def accuracy_and_format(completion: str, gold: Iterable[str], template: Template) -> dict[str, float]:
    """The components of the central paper's reward, 0.9 accuracy + 0.1 format (arXiv 2507.05386, released code).

    Returns:
        `accuracy` and `format`, each 0 or 1, and `reward` in [0, 1]. Accuracy is read through the strict format, so
        an answer in another format earns nothing.
    """
    read = read_answer(completion, "strict", template)
    accuracy = exact_match(read.answer, gold)
    well_formed = float(read.status == "ok")
    return {
        "accuracy": accuracy,
        "format": well_formed,
        "reward": ACCURACY_WEIGHT * accuracy + FORMAT_WEIGHT * well_formed,
    }


def canonical(text: str, articles: bool = True) -> str:
    """The form in which `normalised` compares answers. In this order:

    1. Unicode NFKC (full-width and other compatibility forms become the plain ones), curly quotes straight, case folded
       (ß is ss), NFKC again;
    2. LaTeX's `\\text{}`, `\\mathrm{}` and the like give way to what they hold;
    3. if `articles`, the words a, an and the are left out, unless nothing else is there;
    4. `normalise`: single spaces, no punctuation at the edges.

    Hyphens, accents and invisible characters inside stay: "ice-cream" is not "ice cream".

    >>> canonical("The  \\\\text{Red} circle.")
    'red circle'
    """
    if not text.isascii() and len(text) <= MAX_UNICODE_CHARS:
        text = unicodedata.normalize("NFKC", text).translate(_QUOTES)
        text = unicodedata.normalize("NFKC", text.casefold())
    text = normalise(text)
    if "\\" in text:
        text = _LATEX_TEXT.sub(" ", text)
        text = normalise(text if "\\" in text else text.translate(_BRACES))
    if articles:
        kept = " ".join(word for word in text.split() if word.strip(prose.EDGES) not in _ARTICLES)
        text = normalise(kept) or text
    return text


def accepted(gold: Sequence[str] | str) -> list[str]:
    """The accepted answers as a list; a lone string is one answer, not a sequence of letters."""
    return [gold] if isinstance(gold, str) else [str(answer) for answer in gold]


def hedges(said: str, gold: Sequence[str], candidates: Sequence[str] = ()) -> bool:
    """Whether a text says more than one thing: a gold answer beside a denial, or several of the known answers.

    For rewards with partial credit, where "not the red circle" would earn most of what "the red circle" does. A gold
    answer that denies or lists as much itself sets the measure. `said` and `gold` have to be normalised.
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


def unpaid(read: Extraction, *parts: str) -> Score:
    """The score of a completion that gave no answer to judge: 0 in every part, with the reading's status."""
    return Score(0.0, dict.fromkeys(parts, 0.0), read.answer, read.status)


def bad_gold(detail: str) -> Score:
    """The score of a row whose gold answer can't be used: the row's fault, not the completion's."""
    return Score(0.0, status="error", detail=detail)
