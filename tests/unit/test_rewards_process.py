"""Users' code runs in a process that can be killed: whatever it does, it is an error of that reward and of no more."""

from __future__ import annotations

import os
import time
from functools import partial
from pathlib import Path

import pytest
from demo_recipe import load_text, problems

from rewards import python_file
from rewards.batch import guarded
from rewards.python_file import PythonProcess, load

GOOD = "def score(completion, **_): return 1.0"


@pytest.fixture
def reward(tmp_path: Path):
    """The function `score` of a file with this text."""

    def make(text: str):
        (tmp_path / "mine.py").write_text(text)
        return load({"file": "mine.py", "name": "score"}, tmp_path)

    return make


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("import sys; sys.exit(3)", r"mine\.py can't be loaded: it called sys\.exit\(3\)"),
        ("raise KeyboardInterrupt", r"mine\.py can't be loaded: KeyboardInterrupt"),
        ("import os; os._exit(7)", r"mine\.py can't be loaded: the process that runs .*mine\.py ended with code 7"),
        ("import os; os.kill(os.getpid(), 9)", r"mine\.py can't be loaded: the process .* was ended by signal 9"),
        ("def f(): f()\nf()", r"mine\.py can't be loaded: RecursionError"),
        ("x = " + "(" * 300 + ")" * 300, r"mine\.py:1: too many nested parentheses"),
        ("TIME_LIMIT = 'long'", r"mine\.py: TIME_LIMIT has to be seconds, as in TIME_LIMIT = 30, not 'long'"),
    ],
)
def test_a_file_that_ends_its_process(reward, text, message):
    with pytest.raises(ValueError, match=message):
        reward(text)


def test_a_file_that_never_ends(reward, monkeypatch):
    monkeypatch.setattr(python_file, "LOAD_SECONDS", 0.5)
    began = time.monotonic()
    with pytest.raises(ValueError, match=r"mine\.py can't be loaded: it did not end within 0\.5 s"):
        reward("while True: pass")
    assert time.monotonic() - began < 60


ENDS = {
    "exit": ("sys.exit(1)", "error", "it called sys.exit(1)"),
    "dies": ("os._exit(5)", "error", "ended with code 5"),
    "hangs": ("time.sleep(1000)", "timeout", "not decided within 0.5 s"),
    "raises": ("1 / 0", "error", "ZeroDivisionError: division by zero"),
    "odd": ("Score(1.0, {'a': object()})", "error", "TypeError: float() argument must be"),
}


def test_a_completion_that_ends_the_process_is_an_error_and_the_next_one_works(reward):
    cases = "\n".join(f"    if completion == {name!r}: return {code}" for name, (code, _, _) in ENDS.items())
    imports = "import os, sys, time\nfrom rewards.score import Score\nTIME_LIMIT = 0.5\n"
    found = reward(f"{imports}def score(completion, **_):\n{cases}\n    return 0.5\n")
    for name, (_, status, detail) in ENDS.items():
        score = guarded(found, name, {})
        assert (score.status, score.value) == (status, 0.0)
        assert detail in score.detail
        assert found("fine").value == 0.5


def test_what_it_prints_and_reads_is_none_of_our_business(reward, capfd):
    text = "print('{\"value\": 1.0}')\ndef score(completion, **_):\n    print('heard')\n    return len(input('?')) / 10"
    found = guarded(reward(text), "x", {})
    assert found.detail == "EOFError: EOF when reading a line"
    shown = capfd.readouterr()
    assert shown.out == ""
    assert "heard" in shown.err


def test_a_row_comes_as_it_is(reward):
    same = "meta == {'box': (1, 2), 'n': None} and gold == ['é\\ud800']"
    text = f"def score(completion, *, meta, gold, **row): return float({same})"
    assert reward(text)("x", gold=["é\ud800"], meta={"box": (1, 2), "n": None}, n_tokens=3).value == 1.0
    score = guarded(reward(text), "x", {"gold": [], "meta": {"open": open}, "n_tokens": lambda: 3})
    assert (score.status, "can't be handed to it" in score.detail) == ("error", True)


def test_rewards_of_one_file_share_a_process_that_goes_with_them(tmp_path):
    process = PythonProcess(tmp_path / "mine.py", f"{GOOD}\ndef other(completion, **_): return 0.0")
    assert process.describe("score")["keywords"] == process.describe("other")["keywords"] == {}
    pid = process.worker.pid
    assert process.score("score", "x", {}, {})["value"] == 1.0
    assert process.score("other", "x", {}, {})["value"] == 0.0
    assert process.worker.pid == pid
    del process
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)


def test_a_debugger_can_have_it_in_this_process(reward, monkeypatch):
    monkeypatch.setenv("CPT_DEBUG", "1")
    here = reward("import os\ndef score(completion, **_): return float(completion == str(os.getpid()))")
    assert here(str(os.getpid())).value == 1.0


# ---- in recipes


@pytest.fixture
def load_recipe(tmp_path: Path):
    return partial(load_text, tmp_path)


def test_a_recipe_with_such_a_file_is_refused_by_name(load_recipe, tmp_path):
    for text in ("import sys; sys.exit(0)", "def score(c, **_):\n    raise SystemExit"):
        (tmp_path / "mine.py").write_text(text)
        (problem, *_) = problems(load_recipe, "reward=[{type: python, file: mine.py, name: score, weight: 1}]")
        assert problem.startswith("command line: reward.0: ")
        assert "it called sys.exit(" in problem
