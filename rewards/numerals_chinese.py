"""Chinese numerals as digits: 十二, 二〇一九, 三点五, 百分之二十五, 四分之三, 三点四十五分, 负三."""

from __future__ import annotations

import re
from collections.abc import Callable

_CHARACTERS = "\u3400-\u4dbf\u4e00-\u9fff"
_DIGITS = {
    sign: value
    for value, signs in enumerate(["零〇", "一壹", "二两贰兩", "三叁", "四肆", "五伍", "六陆", "七柒", "八捌", "九玖"])
    for sign in signs
}
_STEPS = {"十": 10, "拾": 10, "百": 100, "佰": 100, "千": 1000, "仟": 1000}
_SCALES = {"万": 10**4, "萬": 10**4, "亿": 10**8, "億": 10**8}
_SIGNS = "".join([*_DIGITS, *_STEPS, *_SCALES])
_MOST = 10**9
# After a digit, as in 3万, it is a scale and no separate numeral; 二12 is no numeral at all.
_NUMERAL = re.compile(
    rf"(?<![0-9])(?<![0-9] )(?<![{_SIGNS}])[{_SIGNS}]++(?:[点點][{''.join(_DIGITS)}]++(?![{_SIGNS}分]))?(?!\.?[0-9])"
)
_FORMS: list[tuple[re.Pattern[str], str | Callable[[re.Match[str]], str]]] = [
    (re.compile("百分之 ?([0-9]+(?:\\.[0-9]+)?)"), r"\1%"),
    (re.compile("([0-9]+) ?分之 ?([0-9]+)"), r"\2/\1"),
    (re.compile("([0-9]+) ?[点點时時] ?([0-5]?[0-9]) ?分(?!钟)"), lambda found: f"{found[1]}:{int(found[2]):02}"),
    (re.compile("([0-9]+) ?[点點]半"), r"\1:30"),
    (re.compile("[负負] ?(?=[0-9])"), "-"),
    (re.compile(rf"(?<=[{_CHARACTERS}])(?=[-+$€£¥]?[0-9])|(?<=[0-9%])(?=[{_CHARACTERS}])"), " "),
]


def plain_chinese(text: str) -> str:
    """Numerals, percentages, fractions and times in digits; a space between digits and characters.

    >>> plain_chinese("共有十二个")
    '共有 12 个'
    """
    if not re.search(f"[{_CHARACTERS}]", text):
        return text
    text = text.replace("一半", "1/2").replace("百分之", "\0")  # 百 is no hundred there
    text = _NUMERAL.sub(lambda found: _number(found.group()), text).replace("\0", "百分之")
    for pattern, plain in _FORMS:
        text = pattern.sub(plain, text)
    return text


def _number(text: str) -> str:
    """One numeral in digits; unchanged if it is none, such as 万 alone."""
    whole, _, decimals = text.replace("點", "点").partition("点")
    value = _whole(whole)
    if value is None:
        return text
    return f"{value}.{''.join(str(_DIGITS[sign]) for sign in decimals)}" if decimals else str(value)


def _whole(text: str) -> int | None:
    if all(sign in _DIGITS for sign in text):  # digit by digit, as years are written
        return int("".join(str(_DIGITS[sign]) for sign in text))
    total = section = 0
    digit: int | None = None
    step = last = _MOST
    for sign in text:
        if sign in _DIGITS:
            if digit:
                return None
            digit = _DIGITS[sign]
        elif sign in _STEPS:
            if _STEPS[sign] >= step or (not digit and (section or _STEPS[sign] != 10)):
                return None
            step = _STEPS[sign]
            section, digit = section + (digit or 1) * step, None
        else:
            scale, part = _SCALES[sign], section + (digit or 0)
            if not total + part:
                return None
            # 一亿零一万 is 1 0001 0000; 一万二千亿 is 1 2000 times 亿.
            total = total + part * scale if scale < last and part else (total + part) * scale
            section, digit, step, last = 0, None, _MOST, scale
    return total + section + (digit or 0)
