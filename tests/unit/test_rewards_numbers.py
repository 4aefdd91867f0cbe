"""Numbers: their forms, units and tolerances, and what is not one number."""

from __future__ import annotations

import pytest

from rewards.quantity import read_quantity
from rewards.registry import make


def value(answer: str, gold: str, **parameters) -> float:
    return make("number", **parameters)(f"<answer> {answer} </answer>", gold=[gold]).value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("5", "5"),
        ("-5.", "-5"),
        ("− 5", "-5"),
        ("minus five", "-5"),
        ("-(5)", "-5"),
        ("+5", "5"),
        (".5", "0.5"),
        ("1,234.5", "1234.5"),
        ("12\u202f345", "12345"),
        ("1e3", "1000"),
        ("3 × 10^5", "300000"),
        ("3x10^{-2}", "0.03"),
        ("1/2", "0.5"),
        ("-2 1/2", "-2.5"),
        ("\\frac{3}{4}", "0.75"),
        ("five million", "5000000"),
        ("nineteen", "19"),
        ("about 5 apples", "5"),
        ("x = 5", "5"),
        ("5 in the box", "5"),
        ("50%", "50 %"),
        ("-$5", "-5 $"),
        ("5cm", "5 cm"),
        ("5 KM", "5 km"),
        ("5-inch", "5 inch"),
        ("90^\\circ", "90 °"),
        ("\\text{5 m/s}", "5 m/s"),
        ("1 m = 100 cm", "1 m"),
        ("0.5 (50%)", "0.5"),
    ],
)
def test_forms(text, said):
    quantity, status = read_quantity(text)
    assert (str(quantity), status) == (said, "ok")


SEVERAL = [
    "5-3",
    "5 - 3",
    "5 or 6",
    "five six",
    "twenty one",
    "5:30",
    "1 h 30 min",
    "3/4/2020",
    "1 m = 10 cm",
    "5 x 103",
]
SEPARATORS = ["3,5", "0,123", "1,2345", "1.5.2", "v2.0", "abc5"]
OPERATORS = ["5^2", "5²", "√5", "sqrt 5", "\\sqrt{5}", "5\\pi", ">5", "--5", "±5", "1/0", "1e999"]
CHANGED = ["half of 5", "over 5", "5 dozen", "not 5", "5?", "3rd", "5k", "5 M", "5 cm or m", "５", "½"]


@pytest.mark.parametrize("text", [*SEVERAL, *SEPARATORS, *OPERATORS, *CHANGED])
def test_not_one_number(text):
    assert read_quantity(text) == (None, "ambiguous")


@pytest.mark.parametrize(
    "text", ["", "none", "nan", "inf", "-inf", "someone", "twenty-one", "the answer is correct", "\0"]
)
def test_no_number(text):
    assert read_quantity(text) == (None, "no_answer")


def test_a_long_text_is_no_number():
    assert read_quantity("5 " * 101) == (None, "malformed")


@pytest.mark.parametrize(
    ("answer", "gold", "right"),
    [
        ("seven", "7", 1),
        ("7.0", "7", 1),
        ("7e0", "7", 1),
        ("1,000", "1000", 1),
        ("-7", "7", 0),
        ("70", "7", 0),
        ("7.001", "7", 0),
        ("50 mm", "5 cm", 1),
        ("0.05 m", "5 cm", 1),
        ("5", "5 cm", 1),
        ("5 apples", "5 cm", 1),
        ("5 m", "5 cm", 0),
        ("5 kg", "5 cm", 0),
        ("5 cm²", "5 cm", 0),
        ("5 °F", "5 °C", 0),
        ("90 min", "1.5 h", 1),
        ("36 km/h", "10 m/s", 1),
        ("5 cm", "5", 1),
        ("3%", "3", 0),
        ("50%", "0.5", 1),
        ("0.5", "50%", 1),
        ("50", "50%", 1),
        ("5 percent", "5%", 1),
        ("$5", "5 dollars", 1),
        ("€5", "$5", 0),
    ],
)
def test_values_and_units(answer, gold, right):
    assert value(answer, gold) == right


def test_tolerances():
    assert value("3.13", "3.14", absolute=0.01) == 1
    assert value("3.12", "3.14", absolute=0.01) == 0
    assert value("95", "100", relative=0.05) == 1  # |95 - 100| = 5 = 0.05 · 100
    assert value("94.9", "100", relative=0.05) == 0
    assert value("-95", "-100", relative=0.05) == 1
    assert value("4.9 cm", "5 cm", absolute=0.1) == 1
    assert value("49 mm", "5 cm", absolute=0.1) == 1
    assert value("48 mm", "5 cm", absolute=0.1) == 0
    assert value("0", "0", relative=0.05) == 1


def test_a_required_unit():
    assert value("5", "5 cm", require_unit=True) == 0
    assert value("5 cm", "5 cm", require_unit=True) == 1
    assert value("5", "5", require_unit=True) == 1


def test_parts_tell_the_number_from_the_unit():
    assert make("number")("<answer>5 kg</answer>", gold=["5 cm"]).parts == {"number": 1, "unit": 0}
    assert make("number")("<answer>5 m</answer>", gold=["5 cm"]).parts == {"number": 0, "unit": 1}
    assert make("number")("<answer>6</answer>", gold=["5 cm", "6 cm"]).parts == {"number": 1, "unit": 1}


def test_useless_rows_and_parameters():
    assert make("number")("<answer>5</answer>", gold=["red"]).status == "error"
    with pytest.raises(ValueError, match="must not be negative"):
        value("5", "5", relative=-0.1)


def test_read_from_prose():
    number = make("number", read="tolerant")
    assert number("I count 2 and 3. The answer is 5 cm.", gold=["5 cm"]).extracted == "5 cm"
    assert number("it is -5", gold=["5"], candidates=["5"]).value == 0
    assert number("there are 2 or 3", gold=["3"]).status == "ambiguous"
