"""Published metrics beside a second implementation, written from their definitions alone, on thousands of random texts.

The second ones take the slow, plain way: recursion over the first letter or word, exact fractions, one character after
another.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from fractions import Fraction
from functools import cache
from itertools import pairwise
from math import exp, hypot, log

import pytest

from rewards.captions import document_frequencies
from rewards.registry import make
from rewards.vqa import consensus, vqa_normalise

CASES = 1000


def texts(pieces: Sequence[str], most: int, seed: int) -> Callable[[], str]:
    """Draws texts of one to `most` pieces."""
    rng = random.Random(seed)
    return lambda: "".join(rng.choices(pieces, k=rng.randint(1, most)))


@cache
def distance(one: str, other: str) -> int:
    """Levenshtein's: the fewest insertions, deletions and substitutions."""
    if not one or not other:
        return len(one or other)
    if one[0] == other[0]:
        return distance(one[1:], other[1:])
    return 1 + min(distance(one[1:], other), distance(one, other[1:]), distance(one[1:], other[1:]))


def anls_by_definition(said: str, gold: Sequence[str]) -> Fraction:
    """arXiv 1907.00490, eq. 1 with τ = 0.5, for one question."""
    far = [Fraction(distance(said, answer), max(len(said), len(answer))) for answer in gold]
    return max(1 - nl if nl < Fraction(1, 2) else Fraction(0) for nl in far)


def test_anls():
    draw = texts(["a", "b", "é", " a"], 7, seed=0)
    reward, rewarded = make("anls", read="whole", refuse_hedges=False), 0
    for _ in range(CASES):
        said, gold = draw().strip(), [draw().strip() for _ in range(2)]
        expected = anls_by_definition(said, gold)
        assert reward(said.upper(), gold=gold).value == pytest.approx(float(expected), abs=1e-12), (said, gold)
        rewarded += 0 < expected < 1
    assert rewarded > CASES / 10


@cache
def common(one: tuple[str, ...], other: tuple[str, ...]) -> int:
    """Length of the longest common subsequence."""
    if not one or not other:
        return 0
    if one[0] == other[0]:
        return 1 + common(one[1:], other[1:])
    return max(common(one[1:], other), common(one, other[1:]))


@pytest.mark.parametrize("beta", [1, 2])
def test_rouge_l(beta):
    """Lin 2004, eq. 2-4."""
    words = ["the", "red", "cat", "sat", "2"]
    draw = texts([f"{word} " for word in words], 8, seed=beta)
    reward = make("rouge-l", read="whole", refuse_hedges=False, beta=float(beta))
    for _ in range(CASES):
        said, gold = draw(), draw()
        lcs = common(tuple(said.split()), tuple(gold.split()))
        precision, recall = Fraction(lcs, len(said.split())), Fraction(lcs, len(gold.split()))
        f = (1 + beta**2) * recall * precision / (recall + beta**2 * precision) if lcs else Fraction(0)
        found = reward(said, gold=[gold]).parts
        assert found == pytest.approx({"f": float(f), "precision": float(precision), "recall": float(recall)}), said


MARKS = ';/[]"{}()=+\\_-><@`,?!'
NUMBERS = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten"]
CHANGED = {"none": "0", "dont": "don't", "thats": "that's", **{word: str(n) for n, word in enumerate(NUMBERS)}}


def vqa_by_character(text: str) -> str:
    """visualqa.org/evaluation.html: what is done with a machine's answer; a mark as the official code does it."""
    text = text.replace("\n", " ").replace("\t", " ").strip()
    neighbours = set(pairwise(text))
    between_digits = any(
        a.isdigit() and b == "," and c.isdigit() for a, b, c in zip(text, text[1:], text[2:], strict=False)
    )
    kept = ""
    for character in text:
        if character in MARKS:
            beside_space = (character, " ") in neighbours or (" ", character) in neighbours
            kept += "" if between_digits or beside_space else " "
        else:
            kept += character
    words = ""
    for i, character in enumerate(kept):
        if character != "." or kept[i + 1 : i + 2].isdigit():
            words += character.lower()
    said = [CHANGED.get(word, word) for word in words.split()]
    return " ".join([word for word in said if word not in ("a", "an", "the")] or said)


def test_the_vqa_normaliser():
    draw = texts([*MARKS, *"ab12.,.,' '\n\t", " the ", "an ", "two", " None ", " dont", "Thats ", " ten "], 9, seed=0)
    for _ in range(5 * CASES):
        text = draw()
        assert vqa_normalise(text) == vqa_by_character(text), repr(text)


def test_vqa_accuracy():
    rng = random.Random(0)
    for _ in range(CASES):
        gold = rng.choices("abc", k=rng.randint(4, 10))
        leave_one_out = [gold[:i] + gold[i + 1 :] for i in range(len(gold))]
        means = sum(min(Fraction(rest.count("a"), 3), Fraction(1)) for rest in leave_one_out) / len(gold)
        assert consensus("a", gold) == pytest.approx(float(means), abs=1e-12)


@cache
def runs(text: str, n: int) -> list[tuple[str, ...]]:
    """Every run of n words, repeated ones too."""
    words = text.split()
    return [tuple(words[at : at + n]) for at in range(len(words)) if at + n <= len(words)]


def cider_by_definition(said: str, gold: Sequence[str], everything: Sequence[Sequence[str]]) -> float:
    """CIDEr-D / 10: arXiv 1411.5726, eq. 2-5 with section 6's clipping and penalty, lengths in pairs of words."""

    def rarity(run: tuple[str, ...]) -> float:
        found = [texts for texts in everything if any(run in runs(text, len(run)) for text in texts)]
        return log(len(everything) / max(1, len(found)))

    scores = []
    for reference in gold:
        far = len(runs(said, 2)) - len(runs(reference, 2))
        for n in (1, 2, 3, 4):
            known = {run: rarity(run) for run in {*runs(said, n), *runs(reference, n)}}
            mine = [runs(said, n).count(run) * weight for run, weight in known.items()]
            theirs = [runs(reference, n).count(run) * weight for run, weight in known.items()]
            lengths = hypot(*mine) * hypot(*theirs)
            common = sum(min(one, other) * other for one, other in zip(mine, theirs, strict=True))
            scores.append(exp(-(far**2) / 72) * common / lengths if lengths else 0.0)
    return sum(scores) / len(scores)


def bleu_by_definition(said: str, gold: Sequence[str], n: int) -> float:
    """ACL P02-1040, eq. 1-3, for one text."""
    product = Fraction(1)
    for k in range(1, n + 1):
        mine = runs(said, k)
        right = sum(min(mine.count(run), max(runs(one, k).count(run) for one in gold)) for run in set(mine))
        product *= Fraction(right, len(mine)) if mine else 0
    near = min((len(one.split()) for one in gold), key=lambda r: (abs(r - len(said.split())), r))
    return float(product) ** (1 / n) * min(1.0, exp(1 - near / len(said.split())))


def test_cider_and_bleu():
    draw = texts([f"{word} " for word in ("the", "red", "cat", "sat", "on", "2", "mats")], 9, seed=0)
    everything = [[draw() for _ in range(number % 3 + 1)] for number in range(8)]
    meta = {"document_frequencies": document_frequencies(everything)}
    cider, rewarded = make("cider", read="whole"), 0
    for number in range(CASES // 5):
        said, gold = draw(), everything[number % len(everything)]
        expected = cider_by_definition(said, gold, everything)
        assert cider(said, gold=gold, meta=meta).value == pytest.approx(expected), (said, gold)
        bleus = make("bleu", read="whole")(said, gold=gold).parts
        assert bleus == pytest.approx({f"bleu-{n}": bleu_by_definition(said, gold, n) for n in (1, 2, 3, 4)}), said
        rewarded += 0 < expected < 1
    assert rewarded > CASES / 10
