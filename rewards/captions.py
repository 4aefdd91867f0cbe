"""Captions and translations: CIDEr-D and BLEU."""

from __future__ import annotations

import hashlib
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Literal

from rewards.extract import Extraction, Read, Template, read_text
from rewards.match import accepted, bad_gold, unrewarded
from rewards.ngrams import Ngram, caption_words, ngrams, plain_words
from rewards.registry import reward
from rewards.remember import remembered
from rewards.score import Score

N = 4
SIGMA = 6.0
MAX_WORDS = 4_000
"""Of longer texts, so many words are counted."""

_Vector = tuple[dict[Ngram, float], float]


class DocumentFrequencies:
    """In how many of a set's lists of references each n-gram of one to four words occurs. Not to be changed.

    Attributes:
        documents: the number of lists.
        counts: n-gram, its words with a space between them → lists that have it.
    """

    __slots__ = ("_shown", "counts", "documents")

    def __init__(self, documents: int, counts: Mapping[str, int]) -> None:
        self.documents, self.counts = documents, counts
        self._shown = ""

    def __repr__(self) -> str:
        """Says its content, so that what holds it can be fingerprinted. Found out once: every row's `meta` has it."""
        if not self._shown:
            content = hashlib.blake2b(repr(sorted(self.counts.items())).encode(errors="surrogatepass"), digest_size=16)
            self._shown = f"DocumentFrequencies(documents={self.documents}, content={content.hexdigest()})"
        return self._shown

    def weight(self, ngram: Ngram) -> float:
        """ln(documents) − ln(max(1, documents with the n-gram))."""
        return math.log(self.documents) - math.log(max(1, self.counts.get(" ".join(ngram), 0)))


def document_frequencies(references: Iterable[Sequence[str]]) -> DocumentFrequencies:
    """The document frequencies of a whole set, for `cider`: make them once and hand them to every row's `meta`.

    Args:
        references: the gold captions of each row of the set on which the metric is computed.
    """
    documents, counts = 0, Counter[str]()
    for texts in references:
        documents += 1
        counts.update({" ".join(ngram) for text in accepted(texts) for ngram in _counted(text)})
    return DocumentFrequencies(documents, counts)


@reward(
    "cider",
    source="CIDEr-D, arXiv 1411.5726, eq. 2-5 and section 6; pycocoevalcap",
    formula="CIDEr-D / 10: mean over n and gold of clipped tf-idf cosine · exp(−(difference in length)² / (2·6²))",
)
def cider(
    completion: str,
    *,
    gold: Sequence[str],
    meta: Mapping[str, Any] | None = None,
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    **_: object,
) -> Score:
    """CIDEr-D of a caption, divided by ten: papers print ten times the mean, or a thousand times, in percent.

    n-grams of one to four words (`rewards.ngrams.caption_words`), weighted by how rare they are in the references of
    the whole set: `meta` has its `document_frequencies`, made by the function of this name here, or a mapping with
    `documents` and `counts`. The cosine's counts are clipped to the reference's, σ is 6, and the mean is over all gold
    captions, as pycocoevalcap computes it. So a gold caption is 1 only where it is the only one and has four words. The
    length of a caption is its number of pairs of neighbouring words, there and here.

    Limits: partial credit is the point of it: shared words earn something whatever they mean (another colour, a
    denial, several answers, an injected verdict, the question repeated). Captions that are fluent,
    long or wrong in one word are hardly told apart. As a reward its scale differs from row to row: normalise by group.
    Of texts beyond 4,000 words the rest is not counted.
    """
    found, answers = _frequencies(meta or {}), [answer for answer in accepted(gold) if caption_words(answer)]
    if isinstance(found, str) or not answers:
        return bad_gold(found if isinstance(found, str) else "the row has no gold answer with a word")
    said = read_text(completion, read, template, question)
    if said.status != "ok":
        return unrewarded(said, "cider")
    counts = _counted(said.raw)
    if not counts:
        return unrewarded(Extraction("", "no_answer"), "cider")
    value = min(sum(_similarity(counts, _counted(answer), found) for answer in answers) / len(answers), 1.0)
    return Score(value, {"cider": value}, said.answer)


def _frequencies(meta: Mapping[str, Any]) -> DocumentFrequencies | str:
    """The set's document frequencies, or what is wrong with them."""
    given = meta.get("document_frequencies")
    if isinstance(given, Mapping) and {"documents", "counts"} <= given.keys():
        given = DocumentFrequencies(given["documents"], given["counts"])
    if not isinstance(given, DocumentFrequencies):
        return "meta has no document_frequencies; make them by rewards.captions.document_frequencies(all references)"
    if given.documents < 2:
        return "its document frequencies are of fewer than two rows, which makes every score 0"
    return given


@remembered()
def _counted(text: str) -> Counter[Ngram]:
    """The n-grams of one to four words of a text; not to be changed."""
    words = caption_words(text)[:MAX_WORDS]
    return sum((ngrams(words, n) for n in range(1, N + 1)), Counter())


def _similarity(said: Counter[Ngram], gold: Counter[Ngram], frequencies: DocumentFrequencies) -> float:
    """CIDEr-D of one caption and one reference, in [0, 1]: the mean over n."""
    one, other = _vectors(said, frequencies), _vectors(gold, frequencies)
    delta = _pairs(said) - _pairs(gold)
    cosines = []
    for (mine, length), (theirs, other_length) in zip(one, other, strict=True):
        common = sum(min(weight, theirs[ngram]) * theirs[ngram] for ngram, weight in mine.items() if ngram in theirs)
        cosines.append(common / (length * other_length) if length and other_length else 0.0)
    return sum(cosines) / N * math.exp(-(delta**2) / (2 * SIGMA**2))


def _pairs(counts: Counter[Ngram]) -> int:
    """Pairs of neighbouring words: pycocoevalcap's length of a caption."""
    return sum(count for ngram, count in counts.items() if len(ngram) == 2)


def _vectors(counts: Counter[Ngram], frequencies: DocumentFrequencies) -> list[_Vector]:
    """For each n the tf-idf weights and their norm."""
    weights: list[dict[Ngram, float]] = [{} for _ in range(N)]
    for ngram, count in counts.items():
        weights[len(ngram) - 1][ngram] = count * frequencies.weight(ngram)
    return [(one, math.sqrt(sum(weight**2 for weight in one.values()))) for one in weights]


@reward(
    "bleu",
    source="Papineni et al. 2002, ACL P02-1040, eq. 1-3",
    formula="min(1, exp(1 − r/c)) · geometric mean of the clipped precisions of 1 to n words",
)
def bleu(
    completion: str,
    *,
    gold: Sequence[str],
    template: Template = "direct",
    question: str = "",
    read: Read = "strict",
    n: Literal[1, 2, 3, 4] = 4,
    words: Literal["caption", "spaces"] = "caption",
    **_: object,
) -> Score:
    """BLEU-n of one text; all gold answers are its references. Not smoothed: 0 where no run of n words is gold's.

    `words` says what a word is: `caption` as for `cider` (pycocoevalcap), `spaces` what stands between white space and
    full stops, in its case (TRACE). r is the length of the reference that is nearest, the shorter of two. pycocoevalcap
    puts a very small number in place of a precision of 0, which is a few thousandths in the end. BLEU of a whole set,
    which papers report, is `rewards.captions.corpus_bleu`; the mean of this one is not. Parts: `bleu-1` to `bleu-4`.

    Limits: a gold answer of fewer than n words scores 0. Partial credit: shared runs of words earn something whatever
    they mean (another colour, a denial, several answers, several tagged answers in one, the question repeated, an
    injected verdict). Of texts beyond 4,000 words the rest is not counted.
    """
    split = caption_words if words == "caption" else plain_words
    references = [tokens for answer in accepted(gold) if (tokens := split(answer)[:MAX_WORDS])]
    if not references:
        return bad_gold("the row has no gold answer with a word")
    parts = [f"bleu-{order}" for order in range(1, N + 1)]
    said = read_text(completion, read, template, question)
    if said.status != "ok":
        return unrewarded(said, *parts)
    tokens = split(said.raw)[:MAX_WORDS]
    if not tokens:
        return unrewarded(Extraction("", "no_answer"), *parts)
    scores = dict(zip(parts, _bleus([(tokens, references)]), strict=True))
    return Score(scores[f"bleu-{n}"], scores, said.answer)


def corpus_bleu(texts: Sequence[str], gold: Sequence[Sequence[str]]) -> list[float]:
    """BLEU-1 to BLEU-4 of a set, as pycocoevalcap computes it but for its smoothing: counts are summed over all texts.

    Args:
        texts: one a row.
        gold: the references of each row.

    Raises:
        ValueError: the two are not equally long.
    """
    if len(texts) != len(gold):
        raise ValueError(f"corpus_bleu: {len(texts)} texts have {len(gold)} lists of references")
    rows = zip(texts, gold, strict=True)
    return _bleus([(caption_words(text), [caption_words(one) for one in accepted(those)]) for text, those in rows])


def _bleus(rows: Sequence[tuple[Sequence[str], Sequence[Sequence[str]]]]) -> list[float]:
    """BLEU-1 to BLEU-4 over rows of words and their references."""
    right, all_said = [0] * N, [0] * N
    length = reference = 0
    for said, references in rows:
        length += len(said)
        reference += min((abs(len(one) - len(said)), len(one)) for one in references)[1]
        for k in range(N):
            counted, most = ngrams(said, k + 1), Counter[Ngram]()
            for one in references:
                most |= ngrams(one, k + 1)
            right[k] += (counted & most).total()
            all_said[k] += counted.total()
    if not length:
        return [0.0] * N
    brevity = min(1.0, math.exp(1 - reference / length))
    logs = [math.log(one / said) if one else -math.inf for one, said in zip(right, all_said, strict=True)]
    return [brevity * math.exp(sum(logs[: k + 1]) / (k + 1)) for k in range(N)]
