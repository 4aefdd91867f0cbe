"""How MMMU's evaluation reads an option's letter or an open answer from a free text.

Written from the behaviour of mmmu/utils/eval_utils.py of MMMU-Benchmark/MMMU (arXiv 2311.16502) and of its copy in
lmms-eval, which adds the step "a letter with a full stop".
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

_ENDS = ",.!?;:'"
_SHORT = 5
"""Options' texts are looked for in longer responses only, in words."""

_LEADS = ("could be ", "so ", "is ", "thus ", "therefore ", "final ", "answer ", "result ")
# With thousands; with an exponent; all others, and what is left of those two: 234 of 1,234 and 3 of 1e3.
_NUMBERS = (
    re.compile(r"-?\b\d{1,3}(?:,\d{3})++\b"),
    re.compile(r"-?(?<!\d)\d++(?:\.\d++)?[eE][-+]?\d++"),
    re.compile(r"-?(?:(?<!\d)\d++\.\d++|\.\d++|(?<!\d)\d++\b)(?![eE][-+]?\d)(?![,\d])"),
)
_ONLY_NUMBER = re.compile(r"[-+]?(?:\d++(?:\.\d*+)?|\.\d++)(?:[eE][-+]?\d{1,3}+)?")


def option(response: str, choices: Sequence[str]) -> str:
    """The letter of the option that a response names; empty if none, where MMMU draws one at random.

    In this order, the first that finds something: "(B)"; "B" between spaces; "B." behind a space; in responses of more
    than five words an option's text, in any case and also within a word. Of several the one that stands last.
    """
    for sign in _ENDS:
        response = response.strip(sign)
    text = f" {response} "
    letters = [chr(ord("A") + i) for i in range(len(choices))]
    for form in ("({})", " {} ", " {}."):
        if named := _last(text, ((letter, form.format(letter)) for letter in letters)):
            return named
    if len(text.split()) <= _SHORT:
        return ""
    return _last(text.lower(), zip(letters, (choice.lower() for choice in choices), strict=True))


def _last(text: str, signs: Iterable[tuple[str, str]]) -> str:
    """The letter whose sign stands last in a text, the first letter of several there; empty if none does."""
    found = [(text.rfind(sign), letter) for letter, sign in signs if sign]
    at = max((at for at, _ in found), default=-1)
    return next((letter for place, letter in found if place == at), "") if at >= 0 else ""


def open_answers(response: str) -> set[str | float]:
    """What a response to an open question may mean: key phrases in lower case, and the numbers in them.

    A key phrase is the shortest text behind one of "could be", "so", "is", "thus", "therefore", "final", "answer",
    "result" in a line, and in the last line also behind "="; one of these with nothing behind it discards what the ones
    before it in this list gave. Without any, it is the whole response. Sentences do not count: the official pattern
    looks for their capitals when the text is in lower case already. 1,234 is also 234, and 1e3 also 3.
    """
    text = response.strip().strip(".").lower()
    lines = text.split("\n")
    phrases = []
    for number, line in enumerate(lines, 1):
        leads = (*_LEADS, "=") if number == len(lines) else _LEADS
        phrase = ""
        for tail in (line.rpartition(lead)[2].strip() for lead in leads if lead in line):
            if not phrase or len(tail) < len(phrase):
                phrase = tail
        if phrase and phrase not in _ENDS:
            phrases.append(phrase)
    phrases = phrases or [text]
    numbers = [number for phrase in phrases for pattern in _NUMBERS for number in pattern.findall(phrase)]
    return {form for said in (*phrases, *numbers) for form in forms(said)}


def forms(text: str) -> list[str | float]:
    """An answer as it is compared: a number with two decimals; else lower case, a single letter beside a space."""
    text = text.strip()
    if _ONLY_NUMBER.fullmatch(plain := text.replace(",", "")):
        return [round(float(plain), 2)]
    text = text.lower()
    return [f" {text}", f"{text} "] if len(text) == 1 else [text]


def open_match(said: Iterable[str | float], gold: Iterable[str]) -> bool:
    """Whether a phrase contains a gold answer, or a number is one."""
    wanted = [form for answer in gold for form in forms(answer)]
    texts = [form for form in wanted if isinstance(form, str) and form.strip()]
    return any(
        any(text in phrase for text in texts) if isinstance(phrase, str) else phrase in wanted for phrase in said
    )
