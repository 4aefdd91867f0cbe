"""Numerals of every typography, number words, arithmetic and units as text."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rewards.arithmetic import value_of
from rewards.minus import MINUS_SIGNS, plain_minus, signed
from rewards.numerals import plain_numerals
from rewards.prose import words
from rewards.registry import make
from rewards.units import UNITS, unit, unit_at


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("−１２ or 2½", "-12 or 2 1/2"),
        ("٣ and १२", "3 and 12"),
        ("10⁻³", "10^-3"),
        ("5²", "5²"),
        ("1⁄2 ⅔", "1/2 2/3"),
        ("12 345 678", "12345678"),
        ("0 123", "0 123"),
        ("12 3456", "12 3456"),
        ("1,2,3,4", "1,2,3,4"),
        ("1.234.567,8", "1234567.8"),
        ("1.234", "1.234"),
        ("3,5", "3,5"),
    ],
)
def test_digits(text, plain):
    assert plain_numerals(text) == plain


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("zero", "0"),
        ("ninety-nine", "99"),
        ("two thousand and five", "2005"),
        ("a hundred and five", "105"),
        ("twelve hundred", "1200"),
        ("two million five hundred thousand", "2500000"),
        ("five six", "5 6"),
        ("five, six and seven", "5, 6 and 7"),
        ("twenty thirteen", "20 13"),
        ("one hundred and five and six", "105 and 6"),
        ("3.5 million", "3.5 million"),
        ("three point one four", "3.14"),
        ("two-thirds", "2/3"),
        ("a quarter", "1/4"),
        ("half", "1/2"),
        ("half of it", "half of it"),
        ("half a dozen", "half a dozen"),
        ("someone", "someone"),
        ("twenty-five-year-old", "twenty-five-year-old"),
    ],
)
def test_english(text, plain):
    assert plain_numerals(text) == plain


@pytest.mark.parametrize(
    ("text", "plain"),
    [
        ("十二", "12"),
        ("二十一个", "21 个"),
        ("一百零五", "105"),
        ("一万二千", "12000"),
        ("三亿", "300000000"),
        ("二〇一九年", "2019 年"),
        ("三点五", "3.5"),
        ("负三", "-3"),
        ("百分之二十五", "25%"),
        ("四分之三", "3/4"),
        ("三点四十五分", "3:45"),
        ("三点半", "3:30"),
        ("共有12个", "共有 12 个"),
        ("3万", "3 万"),
        ("千万", "千万"),
    ],
)
def test_chinese(text, plain):
    assert plain_numerals(text) == plain


@given(st.integers(0, 10**12 - 1))
def test_number_words_say_the_number(number):
    assert plain_numerals(in_english(number)) == str(number)
    assert plain_numerals(in_chinese(number)) == str(number)


ONES = words(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen "
    "eighteen nineteen"
)


def in_english(number: int) -> str:
    if number < 20:
        return ONES[number]
    if number < 100:
        tens = ["twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"][number // 10 - 2]
        return tens + (f"-{ONES[number % 10]}" if number % 10 else "")
    size, word = next(
        (size, word)
        for size, word in ((10**9, "billion"), (10**6, "million"), (1000, "thousand"), (100, "hundred"))
        if number >= size
    )
    rest = f" {in_english(number % size)}" if number % size else ""
    return f"{in_english(number // size)} {word}{rest}"


def in_chinese(number: int) -> str:
    digits = "零一二三四五六七八九"
    if number < 10:
        return digits[number]
    size, sign = next(
        (size, sign)
        for size, sign in ((10**8, "亿"), (10**4, "万"), (1000, "千"), (100, "百"), (10, "十"))
        if number >= size
    )
    rest = number % size
    zero = "零" if rest and rest * 10 < size else ""
    return f"{in_chinese(number // size)}{sign}{zero}{in_chinese(rest) if rest else ''}"


@pytest.mark.parametrize("reward", ["exact", "normalised", "set", "ordered-list", "choice", "number", "maths"])
@pytest.mark.parametrize("sign", MINUS_SIGNS)
def test_every_reward_reads_every_minus_sign(reward, sign):
    """As the sign that it is: −3 is -3, and never 3."""
    score = make(reward)
    assert score(f"<answer> {sign}3 </answer>", gold=["-3"], choices=["-3", "3", "5"]).value == 1
    assert score(f"<answer> {sign}3 </answer>", gold=["3"], choices=["-3", "3", "5"]).value == 0
    tolerant = make("exact", read="tolerant")
    assert tolerant(f"It is {sign}3.", gold=["3"], candidates=["3", "4"]).value == 0


def test_dashes_that_are_no_signs_stay():
    assert signed("12–14, x–3, (a)—1, red – blue, – 3") == "12–14, x–3, (a)—1, red – blue, – 3"
    assert signed("−3 and (–.5) and —$4") == "-3 and (-.5) and -$4"


@given(st.text(f"0123456789 .,abc{MINUS_SIGNS}", max_size=30))
def test_plain_numerals_are_not_changed_again(text):
    once = plain_numerals(text)
    assert plain_numerals(once) == once or " " in text  # a space between groups may become visible
    assert not set(plain_minus(text)) & set(MINUS_SIGNS)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("5 + 7", 12),
        ("2 + 3 × 4", 14),
        ("10 / 4", Fraction(5, 2)),
        ("5 − 7", -2),
        ("1/0", None),
        ("5 +", None),
        ("x+1", None),
    ],
)
def test_arithmetic(text, value):
    assert value_of(text) == value


@pytest.mark.parametrize(
    ("text", "dimension", "size"),
    [
        ("km", "length", 1000),
        ("KM", "length", 1000),
        ("square feet", "length^2", Fraction("0.3048") ** 2),
        ("cm³", "length^3", Fraction(1, 10**6)),
        ("km/h", "length/time", Fraction(5, 18)),
        ("miles per hour", "length/time", Fraction("1609.344") / 3600),
        ("m/s^2", "length/time^2", 1),
        ("(kg)", "mass", 1),
        ("-inch", "length", Fraction("0.0254")),
        ("°C", "celsius", 1),
        ("MW", "power", 10**6),
    ],
)
def test_units(text, dimension, size):
    found = unit_at(text, 0)
    assert found is not None
    assert found[0].meanings == ((dimension, size),)
    assert found[1] == len(text)


@pytest.mark.parametrize("text", ["M", "mw", "in the box", "metric", "secondary", "kgs2x", ""])
def test_no_units(text):
    found = unit_at(text, 0)
    assert found is None or found[1] < len(text)
    assert found is None or text == "kgs2x"


def test_units_that_measure_several_things_agree_with_each():
    assert unit("pounds").shared(unit("kg")) and unit("pounds").shared(unit("gbp"))
    assert unit("$").shared(unit("HK$")) and unit("dollars").shared(unit("US$"))
    assert not unit("US$").shared(unit("HK$"))
    assert not unit("month").shared(unit("day"))


@pytest.mark.parametrize("name", UNITS)
def test_every_unit_is_read_by_its_name(name):
    found = unit_at(f" {name}", 0)
    assert found is not None
    assert found[0].meanings == UNITS[name].meanings
