"""Words and n-grams, as metrics of captions and translations count them."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Sequence

from rewards.scripts import UNSPACED

Ngram = tuple[str, ...]

# A character of a script without spaces; a word with what may stand inside it (3.5, t-shirt, o'clock); any other sign
# but those that PTBTokenizer's wrapper in pycocoevalcap removes.
_CAPTION = re.compile(rf"[{UNSPACED}]|[^\W_{UNSPACED}]+(?:[-'.,/][^\W_{UNSPACED}]+)*|[^\s\w.?!,:;'\"`()\[\]{{}}…–—-]")
_CLITIC = re.compile(r"(.+?)(n't|'(?:s|m|d|re|ve|ll))")
_LIST = re.compile(r"[^\W\d_],[^\W\d_]")
_STOPS = re.compile(r"\s|\.")
# mteval-v13a: marks are words of their own; a point or a comma between digits is none, a hyphen is one after a digit.
_MARK = re.compile(r"[!-&(-+/:-@\[-`{-~]|(?<![0-9])[.,]|[.,](?![0-9])|(?<=[0-9])-")


def caption_words(text: str) -> list[str]:
    """The words of a caption, near those of the Penn Treebank tokenizer that pycocoevalcap starts (Stanford's, Java).

    Lower case, without punctuation; "n't", "'s", "'re" and the like are words of their own; "t-shirt", "3.5", "1,000"
    are one each. In a script without spaces every character is one. Not the tokenizer itself: rare words can differ.

    >>> caption_words("The dog's T-shirt isn't red, is it?")
    ['the', 'dog', "'s", 't-shirt', 'is', "n't", 'red', 'is', 'it']
    """
    text = text.lower().replace("’", "'")
    found: list[str] = []
    for word in _CAPTION.findall(_LIST.sub(lambda pair: pair[0].replace(",", ", "), text)):
        clitic = _CLITIC.fullmatch(word) if "'" in word else None
        found += clitic.groups() if clitic else [word]
    return found


def plain_words(text: str) -> list[str]:
    """What stands between white space and full stops, in its case: TRACE's tokenisation for BLEU."""
    return list(filter(None, _STOPS.split(text)))


def marked_words(text: str) -> list[str]:
    """mteval-v13a's words in lower case, as sacrebleu has them: punctuation is one, "1.5" and "don't" are."""
    return _MARK.sub(r" \g<0> ", text.lower()).split()


def ngrams(words: Sequence[str], n: int) -> Counter[Ngram]:
    """How often each run of n words occurs."""
    return Counter(tuple(words[i : i + n]) for i in range(len(words) - n + 1))
