"""Answers that are right or wrong: exact and normalised match, yes or no, unanswerable."""

from __future__ import annotations

from collections.abc import Sequence

from rewards import prose
from rewards.extract import Extraction, Read, Template, normalise, read_answer
from rewards.match import accepted, bad_gold, canonical, exact_match, unpaid
from rewards.registry import reward
from rewards.score import Score

UNANSWERABLE = "unanswerable"
_NO_GOLD = "the row has no gold answer"

_YES = frozenset(("yes", "yeah", "yep", "yup"))
_NO = frozenset(("no", "nope", "nah"))
_NOT_A_NO = frozenset(("idea", "clue", "answer", "comment"))
"""After "no" as the first word, these say that there is no answer."""

# "it cannot be determined from the image" and "can't determine" come down to "cannot determine".
_FILLER = frozenset(
    prose.words(
        "the a an this that it is it's i we you to be from of in on by with based given question image picture photo "
        "sorry what"
    )
)
_VERBS = prose.words("answer answered tell determine determined see seen say said know known identify identified")
_UNABLE = ("cannot", "unable", "impossible", "not possible")
_WORDINGS = frozenset(
    [UNANSWERABLE, "not answerable", "unsuitable", "unsuitable image", "unknown", "unclear", "not clear"]
    + ["not visible", "not enough information", "insufficient information", "do not know", "don't know"]
    + [f"{unable} {verb}" for unable in _UNABLE for verb in _VERBS]
)
_LONGEST_WORDING = 100


@reward("exact", source="arXiv 2507.05386 (accuracy term)", formula="1 if answer = a gold answer, else 0")
def exact(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """Whether the answer is one of the gold ones, letter for letter but for case, white space and edge punctuation.

    Limits: articles, number words, synonyms and accents count as differences. A minus sign or a bracket at an edge
    counts, a full stop does not, so ".5" and "5" are the same; use `number` for numbers. With read=tolerant, a
    candidate counts wherever it is mentioned alone ("dark red", "red red red" are red); without candidates, an answer
    inside a sentence counts only after "the answer is", "it is" or "answer:".
    """
    answers = accepted(gold)
    if not answers:
        return bad_gold(_NO_GOLD)
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unpaid(said, "match")
    value = exact_match(said.answer, answers)
    return Score(value, {"match": value}, said.answer)


@reward(
    "normalised", source="rewards.match.canonical", formula="1 if canonical(answer) = canonical(a gold answer), else 0"
)
def normalised(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    articles: bool = True,
    **_: object,
) -> Score:
    """Whether the answer is a gold one after normalisation: NFKC, case, articles, LaTeX text, space, edge punctuation.

    `articles` leaves a, an and the out. `rewards.match.canonical` states the rule step by step.

    Limits: fullwidth letters, superscripts and other compatibility forms count as the plain ones (NFKC), so "³" is "3";
    letters of another alphabet that look the same do not. An article that is part of a name ("The The") is lost. As for
    `exact`, ".5" and "5" are the same. Texts beyond 4,096 characters are compared without NFKC. Synonyms, number words
    and hyphens count as differences. With read=tolerant, a candidate counts wherever it is mentioned alone ("dark red",
    "red red red" are red).
    """
    answers = accepted(gold)
    if not answers:
        return bad_gold(_NO_GOLD)
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unpaid(said, "match")
    answer = canonical(said.raw, articles)
    value = float(bool(answer) and answer in {canonical(g, articles) for g in answers})
    return Score(value, {"match": value}, answer)


@reward(
    "yes-no", source="POPE, arXiv 2305.10355 (the question form)", formula="1 if yes or no is said as in gold, else 0"
)
def yes_no(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """Whether the answer's first word is the right one of yes (yeah, yep, yup) and no (nope, nah).

    A text that says both is ambiguous, wherever the second one stands. Any other first word gives no answer, and so do
    "no idea" and "no answer".

    Limits: what follows the first word is not understood: "yes, that is wrong" is a yes, "no doubt about it" a no, and
    "Yes, there is no dog" is ambiguous. "true", "correct" and "it is" are no answers. Texts beyond 500 characters
    are malformed. English only.
    """
    wanted = {_said_yes(normalise(g)) for g in accepted(gold)}
    if not wanted or None in wanted:
        return bad_gold(f"gold has to be yes or no, not {list(gold)!r}")
    said = read_answer(completion, read, template, question=question)
    if said.status != "ok":
        return unpaid(said, "match")
    if len(said.answer) > prose.MAX_CHARS:
        return unpaid(Extraction("", "malformed"), "match")
    if _says_both(said.answer):
        return unpaid(Extraction("", "ambiguous"), "match")
    yes = _said_yes(said.answer)
    if yes is None:
        return unpaid(Extraction("", "no_answer"), "match")
    value = float(yes in wanted)
    return Score(value, {"match": value}, "yes" if yes else "no")


@reward(
    "unanswerable",
    source="VizWiz, arXiv 1802.08218",
    formula="1 if the answer = a gold answer, where all wordings of unanswerable are one answer, else 0",
)
def unanswerable(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """Whether the answer is a gold one; a gold "unanswerable" is matched by its usual wordings.

    Those are: unanswerable, not answerable, unsuitable (image), unknown, unclear, not visible, not enough information,
    (I) do not know, and cannot, unable to, impossible to, not possible to with answer, tell, determine, see, say, know
    or identify, each with "it", "the image" and the like around. Parts: `match`, and `answerability`, 1 if the answer
    and the gold answers agree on whether there is an answer.

    Limits: the whole answer has to be such a wording; an explanation with it ("unanswerable, it is too dark") is not.
    A gold answer that is itself one of the wordings ("unknown") counts as unanswerable. English only.
    """
    answers = {as_unanswerable(g) for g in accepted(gold)} - {""}
    if not answers:
        return bad_gold(_NO_GOLD)
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unpaid(said, "match", "answerability")
    answer = as_unanswerable(said.answer)
    value = float(answer in answers)
    agrees = UNANSWERABLE in answers if answer == UNANSWERABLE else answers != {UNANSWERABLE}
    return Score(value, {"match": value, "answerability": float(agrees)}, answer)


def as_unanswerable(text: str) -> str:
    """`unanswerable` for any of its usual wordings, the normalised text for all else."""
    text = normalise(text)
    if len(text) > _LONGEST_WORDING:
        return text
    core = text.replace("’", "'").replace("can't", "cannot").replace("can not", "cannot").split()
    return UNANSWERABLE if " ".join(word for word in core if word not in _FILLER) in _WORDINGS else text


def _said_yes(text: str) -> bool | None:
    """True for a first word yes, False for no, None for any other."""
    first, second = [*prose.words(text)[:2], "", ""][:2]
    if first in _YES:
        return True
    return False if first in _NO and second not in _NOT_A_NO else None


def _says_both(text: str) -> bool:
    said = set(prose.words(text))
    return bool(said & _YES and said & _NO)
