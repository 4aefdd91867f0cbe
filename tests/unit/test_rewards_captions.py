"""CIDEr-D, BLEU, SARI, F1 of words, edit similarity of code: published and hand-computed values."""

from __future__ import annotations

import math
import pickle

import pytest

from rewards.captions import DocumentFrequencies, corpus_bleu, document_frequencies
from rewards.ngrams import caption_words, marked_words, plain_words
from rewards.registry import make


def score(name: str, answer: str, *gold: str, **rest):
    row = {key: rest.pop(key) for key in ("meta", "question") if key in rest}
    return make(name, **rest)(f"<answer>{answer}</answer>", gold=list(gold), **row)


def test_words_of_captions():
    assert caption_words("Red,blue and 1,000 (two) boats; it isn't Tom’s 3.5 m mast...") == [
        *("red", "blue", "and", "1,000", "two", "boats", "it", "is", "n't", "tom", "'s", "3.5", "m", "mast")
    ]
    assert caption_words("一只 dog") == ["一", "只", "dog"]
    assert caption_words(" .!? ") == []


def test_words_of_the_other_two():
    assert plain_words("A b.c  D.") == ["A", "b", "c", "D"]
    assert marked_words('He said: "1.5, 2.x (don\'t)" 3-4') == [
        *("he", "said", ":", '"', "1.5", ",", "2", ".", "x", "(", "don't", ")", '"', "3", "-", "4")
    ]


TWO = {"document_frequencies": document_frequencies([["a cat"], ["a dog", "the dog"]])}


def test_document_frequencies_count_lists():
    counts = TWO["document_frequencies"]
    assert counts.documents == 2
    assert dict(counts.counts) == {"a": 2, "cat": 1, "a cat": 1, "dog": 1, "a dog": 1, "the": 1, "the dog": 1}


def test_document_frequencies_say_their_content():
    """What holds them can be fingerprinted, and sent to another process."""
    again, other = (
        document_frequencies([["A cat."], ["the dog", "a dog"]]),
        document_frequencies([["a cat"], ["a dog"]]),
    )
    assert repr(again) == repr(TWO["document_frequencies"]) != repr(other)
    sent = pickle.loads(pickle.dumps(again))
    assert (repr(sent), sent.counts) == (repr(again), again.counts)


# "a" is in both documents and weighs ln 2 − ln 2 = 0; everything else ln 2. There are no runs of three or four words,
# whose cosines are 0.
@pytest.mark.parametrize(
    ("answer", "value"),
    [
        ("A cat.", (1 + 1) / 4),
        # Clipped: "cat" once of twice is 1/2; "a cat" beside "cat cat" is 1/√2; one pair of words more.
        ("a cat cat", (1 / 2 + 1 / math.sqrt(2)) / 4 * math.exp(-1 / 72)),
        ("cat", 1 / 4 * math.exp(-1 / 72)),
        ("a", 0),
        ("a dog", 0),
    ],
)
def test_cider_by_hand(answer, value):
    assert score("cider", answer, "a cat", meta=TWO).value == pytest.approx(value)


def test_cider_is_the_mean_over_references():
    # "a cat" as above, "cat": 1/4 in runs of one word, one pair of words more.
    assert score("cider", "a cat", "a cat", "cat", meta=TWO).value == pytest.approx(
        (0.5 + 0.25 * math.exp(-1 / 72)) / 2
    )


def test_a_gold_caption_of_four_words_is_1_where_it_is_the_only_one():
    assert score("cider", "a cat sits here", "A cat sits here.", meta=TWO).value == pytest.approx(1)
    assert score("cider", "dogs run over there", "A cat sits here.", meta=TWO).value == 0


@pytest.mark.parametrize(
    ("meta", "problem"),
    [
        ({}, "meta has no document_frequencies"),
        ({"document_frequencies": {"counts": {}}}, "meta has no document_frequencies"),
        ({"document_frequencies": document_frequencies([["a cat"]])}, "fewer than two rows"),
    ],
)
def test_cider_without_document_frequencies_fails(meta, problem):
    failed = score("cider", "a cat", "a cat", meta=meta)
    assert failed.status == "error" and problem in failed.detail


def test_document_frequencies_as_a_mapping():
    counts = TWO["document_frequencies"]
    meta = {"document_frequencies": {"documents": counts.documents, "counts": dict(counts.counts)}}
    assert score("cider", "a cat", "a cat", meta=meta).value == score("cider", "a cat", "a cat", meta=TWO).value
    assert isinstance(counts, DocumentFrequencies)


# Papineni et al. 2002, example 1: candidate 1 has 17 of 18 words and 10 of 17 pairs, candidate 2 8 of 14 and 1 of 13.
# BLEU-4 of candidate 1 is the value in NLTK's documentation of sentence_bleu.
REFERENCES = (
    "It is a guide to action that ensures that the military will forever heed Party commands",
    "It is the guiding principle which guarantees the military forces always being under the command of the Party",
    "It is the practical guide for the army always to heed the directions of the party",
)


def test_bleu_as_published():
    one = "It is a guide to action which ensures that the military always obeys the commands of the party"
    found = score("bleu", one, *REFERENCES, words="spaces")
    assert found.value == pytest.approx(0.5045666840058485)
    assert found.parts["bleu-1"] == pytest.approx(17 / 18)
    assert found.parts["bleu-2"] == pytest.approx(math.sqrt(17 / 18 * 10 / 17))
    two = "It is to insure the troops forever hearing the activity guidebook that party direct"
    found = score("bleu", two, *REFERENCES, words="spaces", n=2)
    # 14 words, and 16 in the nearest reference.
    assert found.value == pytest.approx(math.exp(1 - 16 / 14) * math.sqrt(8 / 14 * 1 / 13))
    assert found.parts["bleu-4"] == 0


def test_bleu_clips():
    """Example 2 there: the modified unigram precision is 2/7."""
    found = score("bleu", "the the the the the the the", "The cat is on the mat.", "There is a cat on the mat.", n=1)
    assert found.value == pytest.approx(2 / 7)


def test_bleu_of_gold_and_of_a_wrong_answer():
    assert score("bleu", "A red dog runs.", "a red dog runs").value == pytest.approx(1)
    assert score("bleu", "two blue boats lie", "a red dog runs").value == 0
    assert score("bleu", "a red dog", "a red dog").value == 0  # no run of four words
    assert score("bleu", "a red dog", "a red dog", n=3).value == pytest.approx(1)
    assert score("bleu", "a Red dog", "a red dog", n=1, words="spaces").value == pytest.approx(2 / 3)


@pytest.mark.parametrize("name", ["cider", "bleu", "sari", "code-edit"])
def test_texts_are_read_whole_and_in_their_case_in_any_style(name):
    """ "The colour is red" is no short answer here."""
    gold = "The Colour is red."
    for said in (gold, f"<think> a b </think> {gold}", f"Well: <answer>{gold}</answer>"):
        assert make(name, read="tolerant")(said, gold=[gold], question="x y", meta=TWO).value == pytest.approx(1), said


def test_bleu_of_a_set_sums_counts():
    """7 words of 7 and 4 pairs of 5, as long as the references; the mean over texts would be another number."""
    found = corpus_bleu(["a red dog runs", "the big cat"], [["a red dog runs"], ["the blue cat", "a big cat"]])
    # the, big, cat: all three are in some reference; pairs: "big cat" alone.
    assert found[:2] == pytest.approx([7 / 7, math.sqrt(7 / 7 * 4 / 5)])
    # Runs of three: two of two, none of one; of four: one of one.
    assert found[2:] == pytest.approx([(4 / 5 * 2 / 3) ** (1 / 3), (4 / 5 * 2 / 3) ** (1 / 4)])
    with pytest.raises(ValueError, match="1 texts have 2 lists of references"):
        corpus_bleu(["a"], [["a"], ["b"]])


SOURCE = "About 95 species are currently accepted."


def test_sari_as_published():
    """The example of the Hugging Face metric's page: 26.953601953601954, in percent."""
    gold = (
        *("About 95 species are currently known.", "About 95 species are now accepted."),
        "95 species are now accepted.",
    )
    assert score("sari", "About 95 you now get in.", *gold, question=SOURCE).value == pytest.approx(0.26953601953601954)


def test_sari_by_hand():
    # Source "a b", answer "a c", gold "a d". Words: kept a, as wanted; deleted b, as wanted; added c for d: 1, 1, 0.
    # Pairs: nothing is kept or to be kept (0/0 is 1), "a b" is deleted as wanted, "a c" added for "a d": 1, 1, 0.
    # Of three and four words there are none: 1, 1, 1 each.
    found = score("sari", "a c", "a d", question="a b")
    assert found.parts == {"keep": 1, "delete": 1, "add": 0.5}
    assert found.value == pytest.approx(2.5 / 3)


def test_sari_of_gold_of_the_source_and_of_a_wrong_answer():
    gold = "About 95 species are now accepted."
    assert score("sari", gold, gold, question=SOURCE).value == pytest.approx(1)
    unchanged, wrong = score("sari", SOURCE, gold, question=SOURCE), score("sari", "a boat", gold, question=SOURCE)
    assert 0.5 < unchanged.value < 1
    # Rightly deleted are 1 of 7 words, 2 of 6 pairs, 3 of 5 and 3 of 4 longer runs; nothing is kept or well added.
    assert wrong.parts == pytest.approx({"keep": 0, "delete": (1 / 7 + 2 / 6 + 3 / 5 + 3 / 4) / 4, "add": 0})
    assert wrong.value < unchanged.value


def test_the_source_may_stand_in_meta():
    assert score("sari", "a c", "a d", question="simplify: a b", meta={"source": "a b"}).value == pytest.approx(2.5 / 3)
    assert score("sari", "a c", "a d").status == "error"


@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("The red cat!", "a red cat", 1),
        ("red cats", "the red cat", 0.5),  # one word of two on both sides
        ("red red cat", "red cat dog", 2 / 3),
        ("blue", "red cat", 0),
        ("the", "a", 0),
        ("the", "the", 1),
        ("红猫", "红狗", 0.5),
    ],
)
def test_f1_of_words(answer, gold, value):
    assert score("token-f1", answer, gold).value == pytest.approx(value)


def test_f1_of_words_has_its_parts_and_takes_the_best():
    found = score("token-f1", "a big red cat", "dog", "red cat")
    assert found.parts == pytest.approx({"f1": 4 / 5, "precision": 2 / 3, "recall": 1})
    assert score("token-f1", "not red", "red").status == "ambiguous"
    assert score("token-f1", "!", "red").status == "no_answer"


# The first two are from the page of fuzzywuzzy, whose ratio in whole percent Py150's score is.
@pytest.mark.parametrize(
    ("answer", "gold", "value"),
    [
        ("this is a test", "this is a test!", 0.97),
        ("fuzzy wuzzy was a bear", "wuzzy fuzzy was a bear", 0.91),
        ("x = 1", "x = 1", 1),
        ("ab", "cd", 0),
        ("Ab", "ab", 0.5),
        ('print("red")', 'print("<STR_LIT:red>")', 1),
        ("x = 0", "x = <NUM_LIT>", 1),
        ("x = 0", "x = <NUM_LIT:0>", 1),
        ('x = ""', 'x = "<STR_LIT>"', 1),
    ],
)
def test_edit_similarity_of_code(answer, gold, value):
    assert score("code-edit", answer, gold).value == value
