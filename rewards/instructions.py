"""The instructions of IFEval that a program can check (arXiv 2311.07911, table 1): whether a text follows one.

Written from the behaviour of the published checks. Known differences:

- `language:response_language` is not there: it needs a language detector. The two instructions for the case of English
  text are checked by case alone.
- Sentences are counted by rule: a full stop, question or exclamation mark ends one before white space, but not a full
  stop after a usual abbreviation, an initial or a number that begins a line. The published check asks NLTK's punkt.
- Words in capitals are runs of letters and digits, joined by hyphens, stops and apostrophes; there, NLTK's tokens.
- Keywords are texts; there, they are patterns. A letter to be counted may be any sign; there, a sign
  that is no letter is replaced by a random one.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any

UNCHECKED = frozenset(("language:response_language",))
"""Instructions of IFEval that are not checked here."""

_RELATIONS = ("less than", "at least")
_ANSWERS = ("My answer is yes.", "My answer is no.", "My answer is maybe.")
_FENCES = ("```json", "```Json", "```JSON", "```")
_PUNCTUATION = re.compile(r"[.,?!'\"]")
_END = re.compile(r"[.?!]+[\"'”’)\]]*(?=\s)")
_ABBREVIATED = (
    "mr mrs ms dr st prof sr jr inc ltd co corp vs etc e.g i.e al no fig gen rep sen gov capt lt col u.s u.k a.m p.m "
    "ph.d approx dept est"
)
_ABBREVIATIONS = frozenset(_ABBREVIATED.split())
_CAPITALS = re.compile(r"\w+(?:[-.'’&]\w+)*")


def follows(name: str, text: str, arguments: Mapping[str, Any]) -> bool:
    """Whether a text follows an instruction; an empty one follows none.

    Args:
        name: as `punctuation:no_comma`.
        arguments: of the instruction; those that are None, and those of other instructions, do not count.

    Raises:
        ValueError: see `problem`.
    """
    if told := problem(name, arguments):
        raise ValueError(told)
    check, needed = _CHECKS[name]
    return bool(text.strip()) and check(text, *(arguments[key] for key in needed))


_ANY: Any = object()


def problem(name: str, arguments: Any = _ANY) -> str:
    """Why an instruction can't be checked, in one line, or "". Without `arguments` only the name is looked at."""
    if name in UNCHECKED:
        return f"instruction {name} needs a language detector, and there is none"
    if name not in _CHECKS:
        return f"there is no instruction {name!r}"
    if arguments is _ANY:
        return ""
    for key in _CHECKS[name][1]:
        value = arguments.get(key) if isinstance(arguments, Mapping) else None
        if value is None or value == "" or value == []:
            return f"instruction {name} needs {key}, and its kwargs have none"
        if key.endswith("relation") and value not in _RELATIONS:
            return f"instruction {name}: {key} is {value!r}; it has to be one of {', '.join(_RELATIONS)}"
        if not _fits(key, value):
            return f"instruction {name}: {key} is {value!r}, which is not of its kind"
    return ""


def _fits(key: str, value: Any) -> bool:
    """Whether an argument is a number, a list of texts or a text, whichever its name asks for."""
    if key.startswith(("num_", "nth_")) or key.endswith("frequency"):
        return isinstance(value, int | float) and not isinstance(value, bool)
    if key in ("keywords", "forbidden_words"):
        return isinstance(value, list | tuple) and all(isinstance(word, str) for word in value)
    return isinstance(value, str)


def loosened(text: str) -> list[str]:
    """The text and what IFEval's loose scoring looks at beside it: without first and last line, without asterisks."""
    lines = text.split("\n")
    cut = [text, *("\n".join(part).strip() for part in (lines[1:], lines[:-1], lines[1:-1]))]
    return list(dict.fromkeys([*cut, *(one.replace("*", "") for one in cut)]))


def sentences(text: str) -> int:
    """How many there are. See the module for the rule."""
    text = text.strip()
    count = begin = 0
    for end in _END.finditer(text):
        before = text[begin : end.start()].split()
        last = before[-1].lower().lstrip("(\"'“‘[") if before else ""
        stop = end.group().startswith(".") and not end.group().startswith("..")
        initial = len(last) == 1 and last.isalpha()
        numbers_a_line = text[text.rfind("\n", 0, end.start()) + 1 : end.start()].strip().isdecimal()
        if stop and (last in _ABBREVIATIONS or initial or numbers_a_line):
            continue
        count += bool(before)
        begin = end.end()
    return count + bool(text[begin:].strip())


def _compared(number: int, relation: str, threshold: float) -> bool:
    return number < threshold if relation == "less than" else number >= threshold


def _occurrences(word: str, text: str) -> int:
    return len(re.findall(re.escape(word), text, re.IGNORECASE))


def _keywords(text: str, keywords: Sequence[str]) -> bool:
    return all(_occurrences(word, text) for word in keywords)


def _frequency(text: str, keyword: str, relation: str, frequency: float) -> bool:
    return _compared(_occurrences(keyword.strip(), text), relation, frequency)


def _forbidden(text: str, words: Sequence[str]) -> bool:
    return not any(re.search(rf"\b{re.escape(word)}\b", text, re.IGNORECASE) for word in words)


def _letters(text: str, letter: str, relation: str, frequency: float) -> bool:
    return _compared(text.lower().count(letter.strip().lower()), relation, frequency)


def _sentences(text: str, relation: str, number: float) -> bool:
    return _compared(sentences(text), relation, number)


def _words(text: str, relation: str, number: float) -> bool:
    return _compared(len(re.findall(r"\w+", text)), relation, number)


def _parts(text: str, divider: str) -> list[str] | None:
    """What dividers separate; None where two of them have nothing between them."""
    first, *rest = text.split(divider)
    if not all(part.strip() for part in rest[:-1]):
        return None
    return [part for part in (first, *rest) if part.strip()]


def _paragraphs(text: str, number: float) -> bool:
    parts = _parts(text, "***")
    return parts is not None and len(parts) == number


def _two_responses(text: str) -> bool:
    parts = _parts(text, "******")
    return parts is not None and len(parts) == 2 and parts[0].strip() != parts[1].strip()


def _nth_paragraph(text: str, number: float, nth: float, first_word: str) -> bool:
    """Empty paragraphs are counted where the nth is looked for, and not where all are counted, as published."""
    paragraphs = text.split("\n\n")
    there = sum(bool(paragraph.strip()) for paragraph in paragraphs)
    if not 1 <= nth <= there or not (words := paragraphs[int(nth) - 1].split()):
        return False
    said = _PUNCTUATION.split(words[0].lstrip("'").lstrip('"'))[0]
    return there == number and said.lower() == first_word.lower()


def _placeholders(text: str, number: float) -> bool:
    return sum(_brackets(line) for line in text.split("\n")) >= number


def _brackets(line: str) -> int:
    """`[…]` in a line, from each opening bracket to the next closing one."""
    count, at = 0, line.find("[")
    while at >= 0 and (closed := line.find("]", at)) >= 0:
        count, at = count + 1, line.find("[", closed)
    return count


def _postscript(text: str, marker: str) -> bool:
    known = {"P.P.S": r"p\.\s?p\.\s?s", "P.S.": r"p\.\s?s\."}
    return bool(re.search(known.get(marker.strip(), re.escape(marker.strip().lower())), text.lower()))


def _bullets(text: str, number: float) -> bool:
    lines = [line.lstrip() for line in text.split("\n")]
    return sum(line[:1] == "-" or (line[:1] == "*" and line[1:2] != "*") for line in lines) == number


def _constrained(text: str) -> bool:
    return any(answer in text for answer in _ANSWERS)


def _highlighted(text: str, number: float) -> bool:
    found = [*re.findall(r"\*[^\n*]*\*", text), *re.findall(r"\*\*[^\n*]*\*\*", text)]
    return sum(bool(one.strip("*").strip()) for one in found) >= number


def _sections(text: str, splitter: str, number: float) -> bool:
    return len(re.findall(rf"{re.escape(splitter.strip())}\s?\d+", text)) >= number


def _json(text: str) -> bool:
    text = text.strip()
    for fence in _FENCES:
        text = text.removeprefix(fence)
    try:
        json.loads(text.removesuffix("```").strip())
    except (ValueError, RecursionError):
        return False
    return True


def _title(text: str) -> bool:
    """`<<…>>` in one line, with more than brackets and spaces in it."""
    for line in text.split("\n"):
        begin, end = line.find("<<"), line.rfind(">>")
        if begin >= 0 and end > begin + 2 and line[begin : end + 2].lstrip("<").rstrip(">").strip():
            return True
    return False


def _repeats(text: str, prompt: str) -> bool:
    return text.strip().lower().startswith(prompt.strip().lower())


def _ends(text: str, phrase: str) -> bool:
    return text.strip().strip('"').lower().endswith(phrase.strip().lower())


def _capital_words(text: str, relation: str, frequency: float) -> bool:
    return _compared(sum(word.isupper() for word in _CAPITALS.findall(text)), relation, frequency)


def _quoted(text: str) -> bool:
    text = text.strip()
    return len(text) > 1 and text[0] == text[-1] == '"'


_CHECKS: Mapping[str, tuple[Callable[..., bool], tuple[str, ...]]] = {
    "keywords:existence": (_keywords, ("keywords",)),
    "keywords:frequency": (_frequency, ("keyword", "relation", "frequency")),
    "keywords:forbidden_words": (_forbidden, ("forbidden_words",)),
    "keywords:letter_frequency": (_letters, ("letter", "let_relation", "let_frequency")),
    "length_constraints:number_sentences": (_sentences, ("relation", "num_sentences")),
    "length_constraints:number_words": (_words, ("relation", "num_words")),
    "length_constraints:number_paragraphs": (_paragraphs, ("num_paragraphs",)),
    "length_constraints:nth_paragraph_first_word": (_nth_paragraph, ("num_paragraphs", "nth_paragraph", "first_word")),
    "detectable_content:number_placeholders": (_placeholders, ("num_placeholders",)),
    "detectable_content:postscript": (_postscript, ("postscript_marker",)),
    "detectable_format:number_bullet_lists": (_bullets, ("num_bullets",)),
    "detectable_format:constrained_response": (_constrained, ()),
    "detectable_format:number_highlighted_sections": (_highlighted, ("num_highlights",)),
    "detectable_format:multiple_sections": (_sections, ("section_spliter", "num_sections")),
    "detectable_format:json_format": (_json, ()),
    "detectable_format:title": (_title, ()),
    "combination:two_responses": (_two_responses, ()),
    "combination:repeat_prompt": (_repeats, ("prompt_to_repeat",)),
    "startend:end_checker": (_ends, ("end_phrase",)),
    "startend:quotation": (_quoted, ()),
    "change_case:capital_word_frequency": (_capital_words, ("capital_relation", "capital_frequency")),
    "change_case:english_capital": (str.isupper, ()),
    "change_case:english_lowercase": (str.islower, ()),
    "punctuation:no_comma": (lambda text: "," not in text, ()),
}
INSTRUCTIONS = tuple(_CHECKS)
"""Those that are checked."""
