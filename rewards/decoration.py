"""Removes what is around an answer but not part of it: Markdown, LaTeX, quotes, a full stop, "The answer is".

`undecorated` takes all of it away, `unwrapped` only what a typesetter would: a metric whose definition compares the
whole answer (VQA accuracy, ANLS, ROUGE-L) still sees its words. Nothing here chooses between answers: what is left is
the whole answer, so a second answer or a denial stays where it is, and is scored.

Signs that can be a part of an answer stay: a minus, brackets around several things (points, intervals, sets), a
factorial, a prime, a full stop before a digit, names such as __init__ and *args.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable

from rewards.arithmetic import solved
from rewards.leadins import without_lead_in
from rewards.minus import signed

MAX_CHARS = 2_000
"""A longer text is no short answer in decoration: only its white space is taken away."""

MAX_WORD = 1_000
"""A longer word is not normalised to NFC."""

_NO_SPACE = re.compile(r"\S+")
# Zero width spaces, joiners of words, soft hyphens, marks of direction. Not U+200C and U+200D, which spell words.
_INVISIBLE = re.compile("[\u00ad\u200b\u200e\u200f\u202a-\u202e\u2060\u2066-\u2069\ufeff]")
_WIDE = {code + 0xFEE0: chr(code) for code in range(0x21, 0x7F)} | {0x3000: " "}
_APOSTROPHES = str.maketrans("‘’‛ʼ＇", "'''''")

_FENCE = re.compile(r"```[A-Za-z]*\s((?:(?!```).)+)```|```((?:(?!```)\S)+)```", re.DOTALL)
_CODE = re.compile(r"`([^`]+)`|``([^`]+)``")
# Bold and italics, also within a sentence; 2**3 and *args are neither.
_EMPHASIS = re.compile(r"(?<![A-Za-z0-9_*\\)\]])(\*{1,3})(?![\s*])([^*\n]*\w[^*\n]*)(?<!\s)\1(?![A-Za-z0-9_*(\[])")
_UNDERLINED = re.compile(r"(_{1,3})(?![\s_])([^_]+)(?<![\s_])\1")
_HEADING = re.compile(r"#{1,6}\s+(?=\S)")
_HTML = re.compile(r"<(b|i|u|em|strong|code|mark|p|span)>(.+)</\1>", re.DOTALL | re.IGNORECASE)
_FORMULA = re.compile(r"\$\$([^$]+)\$\$|\$([^$]+)\$|\\\(((?:(?!\\\)).)+)\\\)|\\\[((?:(?!\\\]).)+)\\\]", re.DOTALL)
_COMMAND = re.compile(
    r"\\(?:boxed|fbox|mbox|text(?:bf|it|rm|sf|tt|normal)?|math(?:rm|bf|it|sf|tt)|emph|underline|displaystyle)\s*\{"
)
_QUOTES = {
    **{mark: mark for mark in "\"'"},
    **dict(zip("“‘«‹„‚「『《〈＂〝", "”’»›“‘」』》〉＂〞", strict=True)),
}
_OTHER_ENDS = {"„": "”", "‚": "’", "”": "”", "»": "«", "›": "‹"}
_ROUND = re.compile(r"\(([^()\[\]{},;]*\w[^()\[\]{},;]*)\)|\[([^()\[\]{},;]*\w[^()\[\]{},;]*)\]")
_WIDE_END = "。！；，、：．｡､"
_END = re.compile(rf"(?:[.,;:{_WIDE_END}\s]|(?<=[^\W\d_][^\W\d_])!|(?<=!)!)+\Z")


def undecorated(text: str, *, equations: bool = True) -> str:
    """The answer alone. Pure, idempotent, never empty for an answer that is not, and a plain answer stays as it is.

    Beside what `unwrapped` takes: full stops and the like at the end, brackets around one thing, headings, lead-ins
    (`rewards.leadins`: "The answer is", "It is", "Therefore,", 答案是), and what a true equation comes to
    ("5 + 7 = 12", "x = 12"; "5 + 6 = 12" stays), unless `equations` is false: where gold is "y = 3", "x = 3" is wrong.

    >>> undecorated("The answer is **12**.")
    '12'
    >>> undecorated("$\\\\boxed{\\\\text{Yes}}$")
    'Yes'
    """
    return _settled(text, _ALL if equations else _ALL[:-1])


def unwrapped(text: str) -> str:
    """The words as they were said: without Markdown, LaTeX's boxes and text commands, quotes around all of it.

    Unicode NFC, fullwidth letters and digits as plain ones, no invisible characters; the minus sign of a number,
    however it is typed, as "-".

    >>> unwrapped("**“It is red.”**")
    'It is red.'
    """
    return _settled(text, _TYPESETTING)


def composed(text: str) -> str:
    """Unicode NFC, in which é is one character whether it was typed as one or as two.

    Words beyond MAX_WORD characters stay: normalising takes quadratic time on runs of combining characters.
    """
    return text if text.isascii() else _NO_SPACE.sub(_composed_word, text)


def _composed_word(word: re.Match[str]) -> str:
    return unicodedata.normalize("NFC", word[0]) if len(word[0]) <= MAX_WORD else word[0]


def straight(text: str) -> str:
    """The text with straight apostrophes."""
    return text if text.isascii() else text.translate(_APOSTROPHES)


def _settled(text: str, steps: tuple[Callable[[str], str], ...]) -> str:
    """Repeat the steps until nothing more is removed. A step that would leave nothing is skipped."""
    text = text.strip()
    if len(text) > MAX_CHARS:
        return text
    before = None
    while text != before:
        before = text
        for step in steps:
            text = step(text).strip() or text
    return text


def _plain_letters(text: str) -> str:
    if text.isascii():
        return text
    seen = _INVISIBLE.sub("", text)
    # A fullwidth mark at the end is the sentence's; as a plain one it could be a factorial.
    kept = seen.rstrip(_WIDE_END + " ") or seen
    return signed(composed(kept).translate(_WIDE))


def _without_markdown(text: str) -> str:
    for pattern in (_FENCE, _CODE, _HTML):
        if found := pattern.fullmatch(text):
            text = [group for group in found.groups() if group is not None][-1].strip()
    if "*" in text:
        text = _EMPHASIS.sub(r"\2", text)
    if (found := _UNDERLINED.fullmatch(text)) and not (found[2].isidentifier() and found[2].islower()):
        text = found[2]
    return _HEADING.sub("", text, count=1) if text.startswith("#") else text


def _without_latex(text: str) -> str:
    if found := _FORMULA.fullmatch(text):
        text = next(group for group in found.groups() if group is not None).strip()
    command = _COMMAND.match(text)
    if command and text.endswith("}") and _closes(text, command.end()) == len(text) - 1:
        text = text[command.end() : -1]
    return text


def _closes(text: str, start: int) -> int:
    """The place of the brace that closes the one before `start`; -1 if there is none."""
    depth = 1
    for at in range(start, len(text)):
        if text[at] in "{}" and text[at - 1] != "\\":
            depth += 1 if text[at] == "{" else -1
            if depth == 0:
                return at
    return -1


def _without_quotes(text: str) -> str:
    first, last, inside = text[:1], text[-1:], text[1:-1]
    if not inside.strip() or last not in (_QUOTES.get(first), _OTHER_ENDS.get(first)):
        return text
    return text if first in inside or last in inside else inside


def _without_brackets(text: str) -> str:
    found = _ROUND.fullmatch(text)
    return text if found is None else found[1] or found[2]


def _without_end(text: str) -> str:
    return _END.sub("", text)


_TYPESETTING = (_plain_letters, _without_markdown, _without_latex, _without_quotes)
_ALL = (*_TYPESETTING, _without_brackets, _without_end, without_lead_in, solved)
