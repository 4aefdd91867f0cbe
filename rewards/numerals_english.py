"""English number words as digits: "twenty-one", "one thousand two hundred", "two and a half", "three quarters"."""

from __future__ import annotations

import re
from collections.abc import Callable

from rewards import prose

SMALL = {
    word: value
    for value, word in enumerate(
        prose.words(
            "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen "
            "seventeen eighteen nineteen"
        )
    )
}
TENS = {
    word: 10 * value
    for value, word in enumerate(prose.words("twenty thirty forty fifty sixty seventy eighty ninety"), start=2)
}
"""With `SMALL`, the words below a hundred and their values."""
_SCALES = {"thousand": 10**3, "million": 10**6, "billion": 10**9, "trillion": 10**12}
_PARTS = dict(half=2, halves=2, third=3, quarter=4, fourth=4, fifth=5, sixth=6, seventh=7, eighth=8, ninth=9, tenth=10)
_PARTS |= {f"{word}s": value for word, value in _PARTS.items() if value > 2}


def _any(words: object) -> str:
    return "|".join(sorted(map(str, words), key=len, reverse=True))  # type: ignore[call-overload]


_SCALE = _any(["hundred", *_SCALES])
_WORD = _any([*SMALL, *TENS, "hundred", *_SCALES])
# A scale alone is none of these words: the million of "5 million" belongs to the 5.
_RUN = re.compile(
    rf"(?<![\w'’-])(?:an?[ ](?:{_SCALE})|{_any([*SMALL, *TENS])})(?![\w'’])"
    rf"(?:(?:[ ]|-|,[ ]|[ ]and[ ])(?:{_WORD})(?![\w'’]))*(?!-(?!(?:{_any(_PARTS)})\b)\w)",
    re.IGNORECASE,
)
_STEP = re.compile(rf"(?P<between>[ ]|-|,[ ]|[ ]and[ ]|)(?P<word>{_WORD})", re.IGNORECASE)
_UNITS = prose.words("hour minute day week month year mile metre meter inch litre liter pound kilo million billion")
_FORMS: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (
        re.compile(r"(?<![\w.])([0-9]+) point ([0-9](?: [0-9])*)(?!\w)", re.IGNORECASE),
        lambda found: f"{found[1]}.{found[2].replace(' ', '')}",
    ),
    (
        re.compile(r"(?<![\w./])([0-9]+) and (?:an?|1)[ -](half|third|quarter)(?!\w)", re.IGNORECASE),
        lambda found: f"{found[1]} 1/{_PARTS[found[2].lower()]}",
    ),
    (
        re.compile(rf"(?<![\w./])([0-9]+)[ -]({_any(_PARTS)})(?![\w-])", re.IGNORECASE),
        lambda found: f"{found[1]}/{_PARTS[found[2].lower()]}",
    ),
    (
        re.compile(r"(?<!\w)an? (half|third|quarter|fifth|tenth)(?![\w-])", re.IGNORECASE),
        lambda found: f"1/{_PARTS[found[1].lower()]}",
    ),
    (re.compile(rf"(?<!\w)half an? (?=(?:{_any(_UNITS)})(?!\w))", re.IGNORECASE), "1/2 "),
    (re.compile(r"^(\W*)half(\W*)$", re.IGNORECASE), r"\g<1>1/2\2"),
]


def plain_english(text: str) -> str:
    """Number words in digits. Words that don't form one number stay several: "five six" is "5 6".

    >>> plain_english("one thousand two hundred thirty-four")
    '1234'
    """
    if not re.search("[a-z]", text, re.IGNORECASE):
        return text
    text = _RUN.sub(_spelled, text)
    for pattern, plain in _FORMS:
        text = pattern.sub(plain, text)
    return text


def _spelled(run: re.Match[str]) -> str:
    """A run of number words: one number, or several with the text between them."""
    said: list[str] = []
    number = _Number()
    for step in _STEP.finditer(re.sub("^an? ", "", run.group(), flags=re.IGNORECASE)):
        between, word = step["between"].lower(), step["word"].lower()
        if not number.take(word, between):
            said += [str(number.value), between]
            number = _Number()
            number.take(word, "")
    return "".join([*said, str(number.value)])


class _Number:
    """A number that is being spelled out, word by word."""

    def __init__(self) -> None:
        self.total = self.section = 0
        self.scale = 10**15
        self.last = ""  # kind of the last word: small, tens, hundred, scale

    @property
    def value(self) -> int:
        return self.total + self.section

    def take(self, word: str, between: str) -> bool:
        """Add a word; False if it can't belong to this number."""
        if between in (" and ", ", ") and self.last not in ("hundred", "scale"):
            return False
        if word in _SCALES:
            if _SCALES[word] >= self.scale or (self.last and not self.section):
                return False
            self.scale = _SCALES[word]
            self.total, self.section, self.last = self.total + (self.section or 1) * self.scale, 0, "scale"
        elif word == "hundred":
            if self.last and not (0 < self.section < 100 and self.last in ("small", "tens")):
                return False
            self.section, self.last = (self.section or 1) * 100, "hundred"
        elif word in TENS:
            if self.last in ("small", "tens"):
                return False
            self.section, self.last = self.section + TENS[word], "tens"
        else:
            value = SMALL[word]
            if self.last == "small" or (self.last == "tens" and not 0 < value < 10) or (self.last and value == 0):
                return False
            self.section, self.last = self.section + value, "small"
        return True
