"""Formulas as text: prepares them for math-verify, finds those that it would misread, and reads their units."""

from __future__ import annotations

import re

from rewards import prose
from rewards.decoration import unwrapped
from rewards.leadins import without_lead_in
from rewards.minus import plain_minus
from rewards.number_pattern import next_number
from rewards.number_text import plain as plain_number
from rewards.quantity import Quantity, read_quantity
from rewards.units import Unit, is_unit, unit_at
from rewards.units import unit as unit_named

_SIGN = re.compile(r"[\d\\+*/^=<>]")
_WORD = re.compile(r"(?<![\\A-Za-z])[A-Za-z]{4,}")
_FUNCTIONS = frozenset(("sqrt", "arcsin", "arccos", "arctan", "sinh", "cosh", "tanh"))
_ENVIRONMENT = re.compile(r"\\(?:begin|end)\{\w+\}")
_PERCENT = re.compile(r"(\d[\d.,]*)\s*\\?%")
_NAMED = re.compile(r"[A-Za-z](?:_\{?\w+\}?)?(?:\(\w\))?\s*=[^=]+")
_SUBSCRIPT_OF_NO_LETTER = re.compile(r"(?:^|[^A-Za-z])\s*_")
_OVER_ZERO = re.compile(r"[:/] ?0+(?![\d.])")

_SPACING = re.compile(r"\\(?:[,;:! ]|(?:q?quad|left|right)(?![A-Za-z]))")
_BRACED = r"\s*\{[^{}]*\}"
_ARGUMENTS = re.compile(
    rf"[_^](?:{_BRACED}|\s*\d+)|\\(?:[dtc]?frac|binom)(?:{_BRACED}{_BRACED}|\s*\d\s*\d)|\\sqrt(?:\[[^][]*\])?{_BRACED}"
)
_OPEN, _CLOSE, _NUMBER = r"\s*\\?[({[]\s*", r"\s*\\?[)}\]]\s*", r"[\d.]+"
_SIDE_BY_SIDE = re.compile(rf"\d\s+\.?\d|\d{_OPEN}{_NUMBER}{_CLOSE}|{_OPEN}{_NUMBER}{_CLOSE}(?:{_OPEN})?\.?\d")

_SYMBOLS = {
    "π": r"\pi ", "×": r"\times ", "·": r"\cdot ", "⋅": r"\cdot ", "÷": r"\div ", "±": r"\pm ", "∞": r"\infty ",
    "≤": r"\le ", "≥": r"\ge ", "≠": r"\ne ", "∪": r"\cup ", "∩": r"\cap ", "∠": r"\angle ", "°": r"^\circ ",
    "½": r"\frac12", "⅓": r"\frac13", "⅔": r"\frac23", "¼": r"\frac14", "¾": r"\frac34",
    "θ": r"\theta ", "α": r"\alpha ", "β": r"\beta ", "⁄": "/",
}  # fmt: skip
_SYMBOL = str.maketrans(_SYMBOLS)
_RAISED = re.compile("[⁻⁺]?[⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ]+")
_LOWERED = re.compile("[₀₁₂₃₄₅₆₇₈₉]+")
_LEVEL = str.maketrans("⁰¹²³⁴⁵⁶⁷⁸⁹ⁿ⁻⁺₀₁₂₃₄₅₆₇₈₉", "0123456789n-+0123456789")
_ROOT = re.compile(r"(?:√|\\sqrt|(?<![A-Za-z\\])sqrt)\s*\(([^()]*)\)|√\s*(\d+(?:\.\d+)?|[A-Za-z])")
_GROUPED = re.compile("(?<![\\w.,])([1-9]\\d{0,2}(?:(?:\\\\,|\\{,\\}|['\u2009\u202f\u00a0])\\d{3})+)(?!\\d)")
_FORMS = [
    (re.compile(r"\\degree(?![A-Za-z])|\^ ?\{? ?\\degree ?\}?"), r"^\\circ "),
    (re.compile(r"(?<![A-Za-z\\])pi(?![A-Za-z])"), r"\\pi "),
    (re.compile(r"\\varnothing(?![A-Za-z])"), r"\\emptyset "),
    (re.compile("<="), r"\\le "),
    (re.compile(">="), r"\\ge "),
]
_OR = re.compile(
    r"\s*(?:,|;|\\(?:text|mathrm|mbox)\{\s*(?:,?\s*or|,?\s*and)\s*\}|\s(?:or|and)\s|\\lor(?![A-Za-z])|或|和)\s*"
)
_SOLUTION = re.compile(r"(?P<name>[A-Za-z](?:_\{?\w+\}?)?)\s*=\s*(?P<value>[^=<>]+)")
_LETTER = re.compile(r"(?:(?:option|choice|answer) )?\(?([A-Za-z])[.):]?\)?", re.IGNORECASE)
_OPTION = re.compile(r"\(?([A-Za-z])\)?\s*[.:)]\s+(?P<text>.+)")
_LONE_CAPITAL = re.compile(r"(?<![\w'])[A-Z](?![\w'])")
_EXPONENT = re.compile(r"(?<=\d)[eE][-+]?\d+(?![\w.])")
_SHORT = re.compile(r"(?<![A-Za-z\\{])[A-Za-z]{1,2}(?![A-Za-z])")
_SHORT_WORDS = frozenset(["is", "in", "of", "to", "it", "a", "an", "at", "on", "by", "no", "so", "we"])
_FUNCTION = re.compile(
    r"(?<![A-Za-z])(?:sin|cos|tan|cot|sec|csc|log|exp|lim|mod|det|gcd|lcm|max|min|arg|choose)h?(?![A-Za-z])"
)
_NAMELESS = r"(?:square |cubic |sq\.? )?units?"
_UNITS = re.compile(
    rf"(?:\s|\\[,; ])*(?:{_NAMELESS}|\\(?:text|mathrm)\{{\s*{_NAMELESS}\s*\}})(?:\^\{{?[23]\}}?)?\s*$", re.IGNORECASE
)
_DEGREES = re.compile(r"-?[\d.]+(?P<sign> ?\^ ?\{? ?\\circ ?\}?)")
_TEXT_AT_END = re.compile(
    r"(?:\s|\\[,; ])*\\(?:text|textrm|mathrm|mbox|rm)\{\s*(?P<inside>[^{}]+?)\s*\}(?P<power>\^\{?[23]\}?)?\s*$"
)
_WORD_AT_END = re.compile(
    r"(?:(?<=[\d})\]])|(?<=\s))\s*(?P<inside>[A-Za-z]{2,}(?:\^\{?[23]\}?)?)\s*$|\s*\((?P<round>[A-Za-z]{1,12})\)\s*$"
)


def plain(text: str) -> str:
    """The formula in the LaTeX that math-verify reads.

    Single spaces, no `$…$`, \\text{} or lead-in around, no full stop at the end, symbols as commands, no thousands
    separators but commas, 50% as a fraction (math-verify takes it for 50 too), "x=1 or x=2" as "1, 2".
    """
    text = " ".join(plain_minus(without_lead_in(unwrapped(text))).split())
    if len(text) > 1 and text[0] == text[-1] == "$":
        text = text.strip("$").strip()
    text = text.removeprefix("=").removesuffix(".").strip()
    text = _ROOT.sub(lambda found: rf"\sqrt{{{found[1] or found[2]}}}", text)
    text = _GROUPED.sub(lambda found: re.sub(r"\D", "", found[1]), text)
    if not text.isascii():
        text = _RAISED.sub(lambda found: f"^{{{found.group().translate(_LEVEL)}}}", text)
        text = _LOWERED.sub(lambda found: f"_{{{found.group().translate(_LEVEL)}}}", text).translate(_SYMBOL)
    for pattern, written in _FORMS:
        text = pattern.sub(written, text)
    text = " ".join(text.split())
    return _PERCENT.sub(r"\\frac{\1}{100}", _solutions(text))


def _solutions(text: str) -> str:
    """ "x=1 or x=2" as "1, 2": the values of one name; any other text as it is."""
    parts = _OR.split(text)
    first = _SOLUTION.fullmatch(parts[0])
    if len(parts) < 2 or first is None:
        return text
    values = [first["value"].strip()]
    for part in parts[1:]:
        named = _SOLUTION.fullmatch(part)
        if (named and named["name"] != first["name"]) or (
            named is None and ("=" in part or not re.search(r"\d", part))
        ):
            return text
        values.append(named["value"].strip() if named else part)
    return ", ".join(values)


def quantity_in(text: str, bare: bool = False) -> Quantity | None:
    """The number with or without a unit that a text is, in maths: "3c" is a product, and "12-14" a difference.

    Args:
        text: has to be `plain`.
        bare: nothing may stand beside it; else harmless words may, of three letters and more.
    """
    text = re.sub(r"\\frac\{([\d.,]+)\}\{100\}", r"\1%", text)
    text = re.sub(r"\^\\circ ?([CF])(?![A-Za-z])", r"°\1", text)
    if ("=" in text and bare) or _FUNCTION.search(text) or re.search(r"\d ?!", text):  # a factorial
        return None
    short = _SHORT.findall(re.sub("°[CF]", "°", _EXPONENT.sub("", text.rpartition("=")[2])))
    if any(word not in _SHORT_WORDS and not (len(word) > 1 and is_unit(word)) for word in short):
        return None
    if re.search(r"[(\[][^()\[\]]*,", text):  # a point
        return None
    if bare and not _is_bare(plain_number(text)):
        return None
    quantity, _ = read_quantity(text)
    return None if quantity is None or quantity.high is not None or quantity.bound else quantity


def _is_bare(text: str) -> bool:
    """Whether the text is only a number with its unit."""
    number = next_number(text, 0)
    if number is None or number.start:
        return False
    unit = unit_at(text, number.end)
    return (unit[1] if unit else number.end) == len(text)


def letter_of(answer: str) -> str:
    """The option's letter, in lower case, of "(A)", "A. 12" and "(A) 12"; empty if another one or a denial follows."""
    if alone := _LETTER.fullmatch(answer):
        return alone[1].lower()
    found = _OPTION.fullmatch(answer)
    if found is None or _LONE_CAPITAL.search(found["text"]) or prose.denies(found["text"]):
        return ""
    return "" if {"or", "and"} & set(prose.words(found["text"])) else found[1].lower()


def without_unit(text: str) -> tuple[str, Unit | None]:
    """A formula and the unit that stands after it: "9\\pi \\text{ cm}^2" is 9π in cm². A lone letter is a variable."""
    if degrees := _DEGREES.fullmatch(text):
        return text[: degrees.start("sign")], unit_named("degree")
    if found := _UNITS.search(text):
        return text[: found.start()].strip(), None
    found = _TEXT_AT_END.search(text) or _WORD_AT_END.search(text)
    if found is None or not found.start():
        return text, None
    groups = found.groupdict()
    name = f"{groups.get('inside') or groups.get('round')}{groups.get('power') or ''}"
    unit = unit_at(name, 0)
    if unit is None or unit[1] != len(name) or unit[0].dimension in ("factor", "share"):
        return text, None
    return text[: found.start()].strip(), unit[0]


def is_text(text: str) -> bool:
    """Whether a gold answer is words, a letter or a row of numbers rather than a formula. It has to be `plain`.

    As formulas, "listen" and "silent" would be one product of letters, and "3 0 7" and "7 0 3" one sum. A time such as
    12:00 would be a division by zero.
    """
    words = set(_WORD.findall(_ENVIRONMENT.sub(" ", without_unit(text)[0])))
    return bool(words - _FUNCTIONS) or not _SIGN.search(text) or bool(_OVER_ZERO.search(text)) or _misread(text)


def comparable(answer: str, gold: str) -> bool:
    """Whether an answer may be given to math-verify, which reads 5=12 as 12 even if no equation was asked for."""
    named = "=" not in answer or "=" in gold or bool(_NAMED.fullmatch(answer))
    return named and answer.isprintable() and not _misread(answer)


def _misread(text: str) -> bool:
    """Whether math-verify would misread it: 12_5 as 12, and adjacent numbers as a sum.

    It adds them because of mixed numbers such as 1\\frac{2}{3}: it reads "12 5", "12(5)" and "{12}{5}" as 17.
    """
    if _SUBSCRIPT_OF_NO_LETTER.search(text):
        return True
    text = _SPACING.sub(" ", text)
    while found := _ARGUMENTS.search(text):
        arguments = re.findall(r"[{[]([^{}]*)[}\]]", found.group())
        if any(map(_SIDE_BY_SIDE.search, arguments)):
            return True
        text = f"{text[: found.start()]}F{text[found.end() :]}"
    return bool(_SIDE_BY_SIDE.search(text))
