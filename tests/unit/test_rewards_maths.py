"""Mathematical equality: what is equal, what only looks so to math-verify, and a worker that can hang or die."""

from __future__ import annotations

import os
import signal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rewards.maths import is_text, maths, plain
from rewards.maths_process import MathsProcess, shared
from rewards.score import Score

# math-verify computes this number in C, where neither an exception nor another thread can stop it: 9^(9^(9^9)).
HANGS = "9^{9^{9^{9}}}"


def say(answer: str, gold: str, **parameters: object) -> Score:
    return maths(answer, gold=[gold], read="whole", **parameters)


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("1/2", "0.5"),
        ("\\frac{1}{2}", "\\frac12"),
        ("$\\frac{1}{2}$", "1/2"),
        ("\\frac{1}{3}", "0.333333"),
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
    ],
)
def test_equal(gold, answer):
    assert say(answer, gold) == Score(1.0, {"match": 1.0}, plain(answer))


@pytest.mark.parametrize(
    ("gold", "answer"),
    [
        ("12", "13"),
        ("12", ""),
        ("[1,2]", "(1,2)"),
        ("(1,2)", "(2,1)"),
        ("12", "12, 5"),
        ("12", "12 or 5"),
        ("12", "not 12"),
        ("5", "12? no, 5"),
        ("12", "twelve"),
        ("50", "50%"),
        # What math-verify by itself calls equal.
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
    ],
)
def test_not_equal(gold, answer):
    score = say(answer, gold)
    assert score.value == 0.0
    assert not score.failed


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
    assert say("0.5", "half").value == 0.0


def test_an_answer_that_hangs_is_a_timeout_and_the_next_one_works():
    assert say("0.5", "1/2").value == 1.0
    worker = shared.pid
    for limit in (0.3, 1.5):
        score = say(HANGS, "12", limit=limit)
        assert (score.status, score.value, score.parts) == ("timeout", 0.0, {})
        assert score.detail == f"not decided within {limit:g} s"
    assert say("0.5", "1/2").value == 1.0
    assert shared.pid not in (None, worker)


def test_a_worker_that_dies_is_an_error_and_the_next_one_works():
    say("0.5", "1/2")
    os.kill(shared.pid, signal.SIGKILL)
    score = say("0.5", "1/2")
    assert (score.status, score.detail) == ("error", "the process that runs math-verify was ended by signal 9")
    assert say("0.5", "1/2").value == 1.0


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
    monkeypatch.setattr("rewards.maths_process.shared", process)
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
