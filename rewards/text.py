"""Similarity of texts: ANLS, edit similarity, ROUGE-L, F1 of words. Each is the best over the gold answers."""

from __future__ import annotations

import re
import string
from collections import Counter
from collections.abc import Sequence

from rapidfuzz.distance import Indel, LCSseq, Levenshtein

from rewards.extract import Extraction, Read, Template, bare, read_answer, read_text
from rewards.match import accepted, bad_gold, hedges, unrewarded, words_of
from rewards.registry import reward
from rewards.score import Score
from rewards.scripts import chunks
from rewards.scripts import tokens as tokens_of

MAX_CHARS = 10_000
"""Of longer texts, so many characters are compared; the rest counts as different."""

MAX_TOKENS = 4_000
"""Of longer texts, so many tokens are searched for a common subsequence; all of them count for the length."""

MAX_BETA = 1000.0

_PUNCTUATION = str.maketrans(dict.fromkeys(string.punctuation))
_ARTICLES = frozenset(("a", "an", "the"))
_LITERAL = re.compile(r"<(?:STR|NUM|CHAR)_LIT(?::([^>]*))?>")


@reward(
    "anls",
    source="arXiv 1907.00490, eq. 1",
    formula="max over gold of 1 − NL if NL < threshold, else 0; NL = Levenshtein distance / longer length",
)
def anls(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    threshold: float = 0.5,
    refuse_hedges: bool = True,
    **_: object,
) -> Score:
    """Normalised Levenshtein similarity, 0 from a distance of `threshold` on: forgives misread letters, not answers.

    Lower case, single spaces, without what `rewards.decoration.unwrapped` takes. Parts: `anls`, and `similarity` before
    the threshold. With `refuse_hedges`, a denial of a gold answer ("not the red circle") and a list of known candidates
    are ambiguous; without it the value is the metric to the letter.

    Limits: partial credit is the point of it. Look-alikes of another alphabet cost an edit each, no more, and so does a
    sign, a digit or a full stop: use `number` for numbers. A short addition to a long answer costs little (several
    answers at once included), and words around the answer ("The title is …") cost their letters, as the metric is
    defined. At a distance of exactly `threshold` the paper's formula gives 0,
    the official script gives 1 − threshold. Only the first 10,000 characters are compared.
    """
    if not 0 < threshold <= 1:
        raise ValueError(f"anls: threshold has to be above 0 and at most 1, got {threshold}")
    found = _read(completion, gold, template, candidates, question, read, refuse_hedges, "anls", "similarity")
    if isinstance(found, Score):
        return found
    said, answers = found
    similarity = _similarity(said.raw, answers)
    value = similarity if 1.0 - similarity < threshold else 0.0
    return Score(value, {"anls": value, "similarity": similarity}, said.answer)


@reward(
    "edit",
    source="Levenshtein (1966), normalised as in arXiv 1907.00490",
    formula="max over gold of 1 − Levenshtein distance / longer length",
)
def edit(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    refuse_hedges: bool = True,
    **_: object,
) -> Score:
    """Normalised edit similarity of answer and gold: 1 for the same letters, falling with every edit.

    As for `anls`: lower case, single spaces, `unwrapped`. `refuse_hedges` as for `anls`.

    Limits: nearly any text earns something (partial credit): a wrong word of the right length about a fifth, the gold
    answer among other words its share of the length (several answers, every option, the question repeated, an injected
    verdict, a placeholder, an extremely long text). Look-alikes of another alphabet and a full stop cost an edit each,
    no more. Only the first 10,000 characters are compared.
    Good for transcription; as the only reward of short answers it is too generous.
    """
    found = _read(completion, gold, template, candidates, question, read, refuse_hedges, "similarity")
    if isinstance(found, Score):
        return found
    said, answers = found
    value = _similarity(said.raw, answers)
    return Score(value, {"similarity": value}, said.answer)


@reward(
    "rouge-l",
    source="Lin 2004, ACL W04-1013, eq. 2-4",
    formula="max over gold of (1 + β²)·R·P / (R + β²·P); R, P = LCS of tokens / length of gold, of the answer",
)
def rouge_l(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    beta: float = 1.0,
    refuse_hedges: bool = True,
    **_: object,
) -> Score:
    """ROUGE-L: the F-measure of the longest common subsequence of words. `beta` above 1 weighs recall more.

    Words are runs of letters and digits in lower case; nothing is stemmed. Where words have no spaces between them
    (Han, kana, Thai and the like), every character counts as one, as LCSTS measures Chinese (arXiv 1506.05865). Parts:
    `f`, `precision`, `recall` of the best gold answer. `refuse_hedges` as for `anls`.

    Limits: shared words earn something whatever they mean (partial credit): several answers, every option, an injected
    verdict, an extremely long text or the question repeated with the gold words in it. Signs and punctuation are lost
    ("-5" is "5"). Of answers beyond 4,000 words the rest counts as different. With a large `beta` long answers cost
    nothing.
    """
    if not 0 < beta <= MAX_BETA:
        raise ValueError(f"rouge-l: beta has to be above 0 and at most {MAX_BETA:g}, got {beta}")
    parts = ("f", "precision", "recall")
    found = _read(completion, gold, template, candidates, question, read, refuse_hedges, *parts)
    if isinstance(found, Score):
        return found
    said, answers = found
    tokens = tokens_of(said.raw)
    if not tokens:
        return unrewarded(Extraction("", "no_answer"), *parts)
    f, precision, recall = max(_rouge(tokens, tokens_of(answer), beta) for answer in answers)
    return Score(f, {"f": f, "precision": precision, "recall": recall}, said.answer)


@reward(
    "token-f1",
    source="SQuAD, arXiv 1606.05250, and its evaluate-v1.1.py",
    formula="max over gold of 2·P·R / (P + R); P, R = common words / words of the answer, of gold",
)
def token_f1(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    candidates: Sequence[str] = (),
    question: str = "",
    read: Read = "strict",
    refuse_hedges: bool = True,
    **_: object,
) -> Score:
    """F1 of the words of answer and gold, in any order: SQuAD's F1.

    Words in lower case, without ASCII punctuation and the articles a, an and the; where an answer is nothing but an
    article, it stays. In scripts without spaces every character is a word, which the script does not know. Parts: `f1`,
    `precision`, `recall` of the best gold answer. `refuse_hedges` as for `anls`.

    Limits: shared words earn something whatever they mean (partial credit): several answers, every option, the question
    repeated with the gold words in it. Order and signs are lost ("-5" is "5"). Of texts beyond 4,000 words the rest
    counts as different.
    """
    parts = ("f1", "precision", "recall")
    found = _read(completion, gold, template, candidates, question, read, refuse_hedges, *parts)
    if isinstance(found, Score):
        return found
    said, answers = found
    words = _squad(said.raw)
    if not words:
        return unrewarded(Extraction("", "no_answer"), *parts)
    f1, precision, recall = max(_shared(words, _squad(answer)) for answer in answers)
    return Score(f1, {"f1": f1, "precision": precision, "recall": recall}, said.answer)


def _squad(text: str) -> list[str]:
    words = chunks(text.translate(_PUNCTUATION))
    return [word for word in words if word not in _ARTICLES] or words


def _shared(said: Sequence[str], gold: Sequence[str]) -> tuple[float, float, float]:
    """F1, precision and recall of one gold answer."""
    common = (Counter(said[:MAX_TOKENS]) & Counter(gold[:MAX_TOKENS])).total()
    if not common:
        return 0.0, 0.0, 0.0
    return 2 * common / (len(said) + len(gold)), common / len(said), common / len(gold)


@reward(
    "code-edit",
    source="TRACE, arXiv 2310.06762, released scoring of Py150; CodeXGLUE, arXiv 2102.04664",
    formula="max over gold of round(100·(1 − insertions and deletions / sum of lengths)) / 100",
)
def code_edit(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """Edit similarity of code, as Py150 is scored: fuzzywuzzy's ratio in whole percent.

    Unlike in `edit`, case counts, a substitution costs a deletion and an insertion, and the sum of both lengths
    divides. Py150's placeholders give way to what they hold: <STR_LIT:red> to red, <NUM_LIT> to 0, the others to
    nothing. Without python-Levenshtein, fuzzywuzzy falls back to difflib, whose ratio can be lower. Part: `similarity`.

    Limits: nearly any text earns something (partial credit): the gold line among others (several answers, several
    tagged answers in one, a denial, the question repeated, an injected verdict, look-alikes), and another name of the
    same length (another colour). Code is not run. Only the first 10,000 characters are compared.
    """
    answers = [code for answer in accepted(gold) if (code := _code(answer))]
    if not answers:
        return bad_gold("the row has no gold answer")
    said = read_text(completion, read, template, question)
    if said.status != "ok":
        return unrewarded(said, "similarity")
    text = _code(said.raw)
    if not text:
        return unrewarded(Extraction("", "no_answer"), "similarity")
    value = max(round(100 * _indel(text, answer)) for answer in answers) / 100
    return Score(value, {"similarity": value}, said.answer)


def _code(text: str) -> str:
    return _LITERAL.sub(lambda found: found[1] or ("0" if found[0] == "<NUM_LIT>" else ""), text).strip()


def _indel(said: str, gold: str) -> float:
    unseen = max(len(said) - MAX_CHARS, 0) + max(len(gold) - MAX_CHARS, 0)
    return 1.0 - (Indel.distance(said[:MAX_CHARS], gold[:MAX_CHARS]) + unseen) / (len(said) + len(gold))


def _read(
    completion: str,
    gold: Sequence[str],
    template: Template,
    candidates: Sequence[str],
    question: str,
    read: Read,
    refuse_hedges: bool,
    *parts: str,
) -> tuple[Extraction, list[str]] | Score:
    """The answer, its `raw` in lower case and single spaces, and gold alike; or the score, with these parts, of a row
    without gold, or of a completion that gives no answer or hedges.
    """
    answers = [lowered for answer in accepted(gold) if (lowered := " ".join(answer.lower().split()))]
    if not answers:
        return bad_gold("the row has no gold answer")
    said = read_answer(completion, read, template, candidates, question)
    if said.status != "ok":
        return unrewarded(said, *parts)
    if refuse_hedges and hedges(said.answer, [bare(answer) for answer in answers], candidates):
        return unrewarded(Extraction("", "ambiguous"), *parts)
    return Extraction(said.answer, "ok", " ".join(words_of(said, read).lower().split())), answers


def _similarity(said: str, gold: Sequence[str]) -> float:
    """The best of 1 − Levenshtein distance / longer length."""
    return max(
        1.0 - _distance(Levenshtein.distance(said[:MAX_CHARS], answer[:MAX_CHARS]), said, answer) for answer in gold
    )


def _distance(shown: int, said: str, answer: str) -> float:
    """The distance of what was compared plus what was not, by the longer length."""
    unseen = max(len(said), len(answer)) - max(len(said[:MAX_CHARS]), len(answer[:MAX_CHARS]))
    return (shown + unseen) / max(len(said), len(answer))


def _rouge(said: Sequence[str], gold: Sequence[str], beta: float) -> tuple[float, float, float]:
    """F, precision and recall of one gold answer."""
    common = LCSseq.similarity(said[:MAX_TOKENS], gold[:MAX_TOKENS]) if gold else 0
    if not common:
        return 0.0, 0.0, 0.0
    precision, recall = common / len(said), common / len(gold)
    f = (1 + beta**2) * precision * recall / (recall + beta**2 * precision)
    return min(f, 1.0), precision, recall
