"""Users' reward functions: what is checked on load, and that their file is only read."""

from __future__ import annotations

from pathlib import Path

import pytest

from rewards.compose import Composite
from rewards.python_file import load, try_out
from rewards.score import Score, required_columns

SCORE = '''\
from __future__ import annotations
from dataclasses import dataclass

@dataclass
class Words:
    count: int

def score(completion, *, gold, bonus: float = 0.25, **_):
    """Right or brief."""
    if completion == gold[0]:
        return 1
    return bonus if Words(len(completion.split())).count < 3 else 0.0
'''


@pytest.fixture
def write(tmp_path: Path):
    def write_file(text: str) -> Path:
        (tmp_path / "my_reward.py").write_text(text)
        return tmp_path

    return write_file


def component(**keys: object) -> dict[str, object]:
    return {"file": "my_reward.py", "name": "score"} | keys


def test_a_function_of_a_file(write):
    folder = write(SCORE)
    reward = load(component(), folder)
    row = {"gold": ["3"], "question": "how many", "template": "direct"}
    assert [reward(text, **row) for text in ("3", "four", "I don't know")] == [Score(1.0), Score(0.25), Score(0.0)]
    assert load(component(bonus=0.5), folder)("four", **row) == Score(0.5)
    assert required_columns(reward) == {"gold"}
    assert [path.name for path in folder.rglob("*")] == ["my_reward.py"], "nothing is written beside it"


def test_the_text_of_the_file_will_do(tmp_path):
    assert load(component(source=SCORE), tmp_path / "nowhere")("3", gold=["3"]).value == 1.0


def test_as_a_component(write):
    folder = write(SCORE)
    composite = Composite(
        [{"type": "python", "weight": 0.5, "bonus": 1.0, **component()}, {"type": "format", "weight": 0.5}],
        None,
        folder,
    )
    score = composite("<answer> 3 </answer>", gold=["3"], n_tokens=3)
    assert (score.value, score.parts) == (0.5, {"score": 0.0, "format": 1.0})


def test_a_function_gets_what_it_names(write):
    reward = load(component(), write("def score(completion, question='', meta=None): return float(question == 'q')"))
    assert reward("x", gold=["3"], question="q", n_tokens=3) == Score(1.0)


@pytest.mark.parametrize(
    ("text", "keys", "message"),
    [
        ("def other(c, **_): return 1.0", {}, "my_reward.py has no function 'score'; known: other"),
        ("def scores(c, **_): return 1.0", {}, "has no function 'score'; did you mean 'scores'?"),
        ("score = 3", {}, "score is no function"),
        ("def score(:", {}, "my_reward.py:1: invalid syntax"),
        ("import nowhere_at_all", {}, "can't be loaded: ModuleNotFoundError: No module named 'nowhere_at_all'"),
        ("1 / 0", {}, "can't be loaded: ZeroDivisionError: division by zero"),
        (SCORE, {"bonsu": 1.0}, "score has no parameter 'bonsu'; did you mean 'bonus'?"),
        (SCORE, {"gold": ["3"]}, "score has no parameter 'gold'"),
        ("def score(c, **_): return 1.0", {"bonus": 1.0}, "score has no parameter 'bonus'"),
        ("def score(): return 1.0", {}, "has to take the completion first"),
        ("def score(*, completion): return 1.0", {}, "has to take the completion first"),
        ("def score(c, gold, /): return 1.0", {}, "takes more than the completion by place"),
        ("def score(c, *, golds, **_): return 1.0", {}, "needs 'golds', which is no column; set it here, or name"),
        ("def score(c, *, golds, **_): return 1.0", {}, "did you mean 'gold'?"),
    ],
)
def test_what_is_refused_on_load(write, text, keys, message):
    with pytest.raises(ValueError, match=r"my_reward\.py") as caught:
        load(component(**keys), write(text))
    assert message in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_file_that_is_not_there_or_no_text(tmp_path):
    with pytest.raises(ValueError, match=r"there is no file .*my_reward\.py"):
        load(component(), tmp_path)
    (tmp_path / "my_reward.py").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="no text in UTF-8"):
        load(component(), tmp_path)


@pytest.mark.parametrize("said", ["1.5", "-0.1", "None", "'1'", "float('nan')", "[1.0]", "Score(2.0)"])
def test_anything_but_a_score_is_refused(write, said):
    reward = load(component(), write(f"from rewards.score import Score\ndef score(c, **_): return {said}"))
    with pytest.raises(ValueError, match=r"score returned .*; it has to return a number in \[0, 1\] or a Score"):
        reward("x")


def test_a_score_is_passed_on(write):
    text = "from rewards.score import Score\ndef score(c, **_): return Score(0.5, {'a': 1.0}, 'x', 'ambiguous')"
    assert load(component(), write(text))("x") == Score(0.5, {"a": 1.0}, "x", "ambiguous")


def test_a_dry_run(write):
    try_out(load(component(), write(SCORE)), "3", {"gold": ["3"]}, "reward")
    crashing = load(component(), write("def score(completion, *, meta, **_): return meta['depth']"))
    with pytest.raises(ValueError, match="reward: a dry run on 'x' failed: KeyError: 'depth'"):
        try_out(crashing, "x", {"meta": {}}, "reward")
    random = load(component(), write("import random\ndef score(completion, **_): return random.random()"))
    with pytest.raises(ValueError, match=r"got 0\.\d+, then 0\.\d+; a reward has to be deterministic"):
        try_out(random, "x", {}, "reward")
