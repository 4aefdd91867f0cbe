"""Mathematical equality: what is equal, what only looks so to math-verify, and a worker that can hang or die."""

from __future__ import annotations

import os
import signal
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.maths import maths
from rewards.maths_process import MathsProcess, shared
from rewards.maths_text import is_text, plain
from rewards.minus import MINUS_SIGNS
from rewards.score import Score

# math-verify computes this number in C, where neither an exception nor another thread can stop it: 9^(9^(9^9)).
HANGS = "9^{9^{9^{9}}}"


def say(answer: str, gold: str, **parameters: object) -> Score:
    return maths(answer, gold=[gold], read="whole", **parameters)


EQUAL = [
    ("1/2", "0.5"),
    ("\\frac{1}{2}", "\\frac12"),
    ("$\\frac{1}{2}$", "1/2"),
    ("1000", "1,000"),
    ("1500", "1.5 \\times 10^3"),
    ("x^2-1", "(x-1)(x+1)"),
    ("(x+1)(2x+3)", "2x^2+5x+3"),
    ("\\frac{5}{3}", "1\\frac{2}{3}"),
    ("2\\sqrt{2}", "\\sqrt{8}"),
    ("12", "x=12"),
    ("x=12", "12"),
    ("12", "12."),
    ("0.5", "50\\%"),
    ("50%", "1/2"),
    ("90^\\circ", "90"),
    ("\\{1,2\\}", "2, 1"),
    ("x=1 or x=2", "1, 2"),
    ("[1,2)", "[1,2)"),
    ("\\log_2(8)", "3"),
    ("\\begin{pmatrix}1 & 2\\\\3 & 4\\end{pmatrix}", "\\begin{bmatrix}1&2\\\\3&4\\end{bmatrix}"),
    ("red circle", "Red circle"),
    ("B", "b"),
    ("3 0 7", "3  0 7"),
]
NUMBERS = [
    ("\\frac{1}{3}", "0.333333"),
    ("\\frac{1}{12}", "0.0833333333333333"),
    ("\\pi", "3.141593"),
    ("0.3333333", "\\frac{1}{3}"),
    ("6.63\\times10^{-34}", "6.63e-34"),
    ("6.63\\times10^{-34}x", "6.630\\times10^{-34}x"),
    ("0.1x+0.2x", "0.3x"),
    ("[0, 1/3]", "[0, 0.333333]"),
    ("\\frac{1}{2004!}", "\\frac{1}{2004!}"),
    ("2^{100}", "1267650600228229401496703205376"),
    ("1234", "1\\,234"),
    ("1234", "1 234"),
    ("\\frac{1}{2}", "½"),
    ("1/2", "one half"),
    ("12", "twelve"),
    ("12", "十二"),
    ("12", "１２"),
    ("-3", "−3"),
    ("5/4", "1 1/4"),
    ("12", "5+7=12"),
    ("12", "= 12"),
    ("12", "\\angle A = 12"),
    ("18", "\\$18.00"),
    ("18", "18 dollars"),
    ("12", "12 (cm)"),
    ("12", "12 units"),
    ("12", "12 \\text{ m}"),
    ("12 cm", "120 mm"),
    ("60", "60 degrees"),
    ("60^\\circ", "60\\degree"),
    ("75\\%", "75"),
    ("12:00", "12:00"),
]
WRITTEN = [
    ("2\\sqrt{3}", "√12"),
    ("2\\sqrt{3}", "2\\sqrt(3)"),
    ("2\\pi r", "2πr"),
    ("x^2", "x²"),
    ("9\\pi", "9 \\pi \\text{ cm}^2"),
    ("2\\sqrt{3}", "2\\sqrt{3} cm"),
    ("6\\pi", "6 pi cm²"),
    ("3\\sqrt{2}", "3\\sqrt{2} \\text{ units}"),
    ("10^{-3}", "10⁻³"),
    ("\\emptyset", "\\varnothing"),
    ("[0,1)", "0 \\le x < 1"),
    ("(2,\\infty)", "x > 2"),
    ("1, 2", "x = 2 \\text{ or } x = 1"),
    ("1, 2", "x=1, x=2"),
    ("A", "\\text{(A)}"),
    ("A", "A. 12 cm"),
    ("B", "option B"),
    ("\\text{(B)}", "B"),
    ("Yes", "\\text{Yes}"),
]


@pytest.mark.parametrize(("gold", "answer"), [*EQUAL, *NUMBERS, *WRITTEN])
def test_equal(gold, answer):
    assert say(answer, gold) == Score(1.0, {"match": 1.0}, plain(answer))


# What math-verify by itself calls equal, and what a lenient reading would.
MISREAD = [
    ("12", "5=12"),
    ("12", "\\neq 12"),
    ("12", "5 \\to 12"),
    ("12", "12|5"),
    ("12", "12_5"),
    ("12", "12\\text{ is wrong}"),
    ("3", "3c"),
    ("3t", "3"),
    ("12", "12 less"),
    ("17", "12 5"),
    ("17", "12\\ 5"),
    ("17", "12(5)"),
    ("17", "{12}{5}"),
    ("17", "\\frac{12 5}{1}"),
    ("3 0 7", "7 0 3"),
    ("3 0 7", "10"),
    ("listen", "silent"),
    ("AB", "BA"),
]
SMALL = [
    ("6.63\\times10^{-34}", "9.1\\times10^{-31}"),
    ("6.63e-34", "9.1e-31"),
    ("1.6\\times10^{-19}", "-1.6\\times10^{-18}"),
    ("1.6\\times10^{-19}", "1.6\\times10^{-18}"),
    ("1.6\\times10^{-19}", "0"),
    ("0.0000001", "0.0000002"),
    ("(1.6\\times10^{-19}, 1)", "(1.6\\times10^{-18}, 1)"),
    ("\\{6.63\\times10^{-34}, 1\\}", "9.1\\times10^{-31}, 1"),
    ("x=6.63\\times10^{-34}", "x=9.1\\times10^{-31}"),
    ("6.63\\times10^{-34}x", "9.1\\times10^{-31}x"),
    ("[0, 6.63\\times10^{-34}]", "[0, 9.1\\times10^{-31}]"),
    ("\\begin{pmatrix}6.63\\times10^{-34}\\\\1\\end{pmatrix}", "\\begin{pmatrix}9.1\\times10^{-31}\\\\1\\end{pmatrix}"),
    ("\\frac{1}{2004!}", "\\frac{1}{2006!}"),
    ("\\sqrt{2}", "-\\sqrt{2}"),
    ("12345678901", "12345678902"),
]
ROUNDED = [
    ("1/3", "0.33333"),
    ("1/3", "0.333334"),
    ("\\pi", "3.14159"),
    ("2\\sqrt{3}", "3.4641"),
    ("9\\pi", "28.27"),
    ("1/8", "0.1250001"),
    ("0.12345678", "0.1234568"),
    ("1234567", "1.23457e6"),
]
OTHER = [
    ("12", "13"),
    ("12", ""),
    ("[1,2]", "(1,2)"),
    ("(1,2)", "(2,1)"),
    ("(1,234)", "1234"),
    ("12", "12, 5"),
    ("12", "12 or 5"),
    ("12", "not 12"),
    ("5", "12? no, 5"),
    ("50", "50%"),
    ("12", "thirteen"),
    ("1/2", "half a dozen"),
    ("12", "5+8=12"),
    ("12", "12-14"),
    ("12", "x > 12"),
    ("12", "12 times"),
    ("12", "12 m"),
    ("2", "2 sin"),
    ("3", "3 ab"),
    ("12 cm", "12 kg"),
    ("9\\pi \\text{ cm}^2", "9\\pi \\text{ cm}"),
    ("y=5", "x=5"),
    ("8", "8!"),
    ("45^\\circ", "45 rad"),
    ("2", "1.9999999"),
    ("1", "x=1 or x=2"),
    ("1, 2", "x=1 or y=2"),
    ("1, 2", "x=1"),
    ("12:00", "1:00"),
    ("12:00", "1/0"),
    ("2.5", "2:30"),
    ("[0,1)", "0 < x < 1"),
    ("A", "A. 12 or B. 13"),
    ("A", "(B) 12"),
    ("A", "not A"),
]


@pytest.mark.parametrize(("gold", "answer"), [*MISREAD, *SMALL, *ROUNDED, *OTHER])
def test_not_equal(gold, answer):
    score = say(answer, gold)
    assert score.value == 0.0
    assert not score.failed


@settings(max_examples=20)
@given(st.integers(1, 999), st.integers(-300, 290), st.integers(1, 999), st.integers(-300, 290))
def test_numbers_are_equal_only_if_they_are(a, m, b, n):
    one, other = Fraction(a) * Fraction(10) ** m, Fraction(b) * Fraction(10) ** n
    gold, answer = f"\\sqrt{{2}} \\times {a} \\times 10^{{{m}}}", f"{b} \\times 10^{{{n}}} \\times \\sqrt{{2}}"
    assert say(answer, gold).value == (one == other)
    assert say(f"-{answer}", gold).value == 0


@pytest.mark.parametrize("sign", MINUS_SIGNS)
def test_every_minus_sign_is_one(sign):
    assert say(f"{sign}3", "-3").value == 1.0
    assert say(f"{sign}3", "3").value == 0.0


def test_any_accepted_answer_will_do():
    assert maths("<answer> 0.5 </answer>", gold=["3", "1/2"]).value == 1.0


def test_the_answer_is_read_as_asked():
    assert maths("<think> 7 </think> \\boxed{\\frac{1}{2}}", gold=["0.5"], template="think_boxed").value == 1.0
    assert maths("\\boxed{0.5}", gold=["0.5"], template="think_boxed") == Score(0.0, {"match": 0.0}, "", "malformed")
    assert maths("\\boxed{1} \\boxed{2}", gold=["1"], read="boxed").status == "ambiguous"


def test_a_row_without_gold_is_an_error_of_the_row():
    assert maths("<answer> 1 </answer>", gold=[]).status == "error"


@pytest.mark.parametrize(
    ("gold", "text"),
    [("red circle", True), ("x", True), ("room 12", True), ("12 5", True), ("x+1", False), ("\\pi", False)],
)
def test_which_gold_answers_are_text(gold, text):
    assert is_text(gold) is text


def test_a_long_answer_is_wrong_unasked(monkeypatch):
    monkeypatch.setattr(shared, "equal", lambda *_: pytest.fail("asked"))
    assert say("1+" * 300 + "1", "301").status == "malformed"
    # Nor is anything asked about the same text, or about a gold answer that is text.
    assert say("\\frac{1}{2}", "\\frac{1}{2}").value == 1.0
    assert say("0.5", "a seventh").value == 0.0
    # Nor about numbers that `number` finds equal.
    assert say("0.5", "\\frac{1}{2}").value == 1.0


def test_an_answer_that_hangs_is_a_timeout_and_the_next_one_works():
    assert say("\\sqrt{4}", "2").value == 1.0
    worker = shared.pid
    for limit in (0.3, 1.5):
        score = say(HANGS, "12", limit=limit)
        assert (score.status, score.value, score.parts) == ("timeout", 0.0, {})
        assert score.detail == f"not decided within {limit:g} s"
    assert say("\\sqrt{4}", "2").value == 1.0
    assert shared.pid not in (None, worker)


def test_a_worker_that_dies_is_an_error_and_the_next_one_works():
    say("\\sqrt{4}", "2")
    os.kill(shared.pid, signal.SIGKILL)
    score = say("\\sqrt{4}", "2")
    assert (score.status, score.detail) == ("error", "the process that runs math-verify was ended by signal 9")
    assert say("\\sqrt{4}", "2").value == 1.0


FAKE = """
from types import SimpleNamespace
from dataclasses import make_dataclass
Rules = make_dataclass("Rules", ["units", "boxed"])
def LatexExtractionConfig(normalization_config=Rules(True, "all")):
    return SimpleNamespace(normalization_config=normalization_config)
def parse(text, *_, **__):
    raise ZeroDivisionError(f"in {text}")
"""


@pytest.mark.parametrize(
    ("module", "message"),
    [(FAKE, "math-verify raised ZeroDivisionError: in $1$"), ("raise ImportError", "ended with code 1")],
)
def test_what_math_verify_raises_is_an_error(monkeypatch, tmp_path, module, message):
    (tmp_path / "math_verify.py").write_text(module)
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    process = MathsProcess()
    monkeypatch.setattr("rewards.maths.shared", process)
    try:
        score = say("1", "2")
    finally:
        process.close()
    assert score.status == "error"
    assert message in score.detail


@settings(max_examples=60)
@given(st.text(st.characters(codec=None), max_size=60) | st.text("0123456789+-=^_{}()\\frac xsqrt|,.%$", max_size=40))
def test_any_answer_has_a_verdict(text):
    score = maths(text, gold=["12"], read="whole", limit=60.0)
    assert score.value in (0.0, 1.0)
    assert not score.failed, (text, score.detail)
