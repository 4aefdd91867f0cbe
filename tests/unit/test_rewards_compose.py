"""Composites from plain data: the sum, gates, clipping, statuses, and what is refused."""

from __future__ import annotations

import inspect

import pytest

from rewards import registry
from rewards.compose import Composite, filled, label_of, problems
from rewards.score import Score

ACCURACY = {"type": "accuracy", "weight": 0.9}
FORMAT = {"type": "format", "weight": 0.1}
RIGHT, WRONG, BARE = "<answer> 3 </answer>", "<answer> 4 </answer>", "3"


@pytest.mark.parametrize(("completion", "value"), [(RIGHT, 1.0), (WRONG, 0.1), (BARE, 0.0)])
def test_the_weighted_sum(completion, value):
    score = Composite([ACCURACY, FORMAT])(completion, gold=["3"])
    assert score.value == pytest.approx(value)
    assert score.value == pytest.approx(0.9 * score.parts["accuracy"] + 0.1 * score.parts["format"])


def test_a_gate():
    tolerant = ACCURACY | {"read": "tolerant"}
    assert Composite([tolerant, FORMAT])(BARE, gold=["3"]).value == pytest.approx(0.9)
    gated = Composite([tolerant | {"requires": "format"}, FORMAT])
    assert gated(BARE, gold=["3"]).parts == {"accuracy": 0.0, "format": 0.0}
    assert gated(RIGHT, gold=["3"]).parts == {"accuracy": 1.0, "format": 1.0}


def test_a_gate_wants_the_full_value_and_may_weigh_nothing():
    shape = {"type": "repetition", "weight": 0, "n": 1}
    gated = Composite([{"type": "accuracy", "weight": 1, "read": "whole", "requires": "repetition"}, shape])
    assert gated("a b", gold=["a b"]).value == 1.0
    assert gated("a a", gold=["a a"]).value == 0.0


def test_clipping():
    doubled = [ACCURACY, FORMAT | {"weight": 0.5}]
    assert Composite(doubled, clip=[0, 1])(RIGHT, gold=["3"]).value == 1.0
    assert Composite([ACCURACY], clip=[0.2, 0.8])(RIGHT, gold=["3"]).value == 0.8
    assert Composite([ACCURACY], clip=[0.2, 0.8])(WRONG, gold=["3"]).value == 0.2
    # A penalty: negative weights are bounded below by 0 in any case.
    penalty = Composite([ACCURACY, {"type": "truncation", "weight": -0.5}])
    assert penalty(RIGHT, gold=["3"], finish_reason="stop").value == pytest.approx(0.4)
    assert penalty(WRONG, gold=["3"], finish_reason="stop").value == 0.0


def test_parts_of_parts():
    score = Composite([{"type": "accuracy-format", "weight": 0.5}, FORMAT])(WRONG, gold=["3"])
    assert score.parts == {
        "accuracy-format": pytest.approx(0.1),
        "accuracy-format/accuracy": 0.0,
        "accuracy-format/format": 1.0,
        "format": 1.0,
    }


def test_labels():
    short, long = {"type": "length", "weight": 0.1, "high": 4}, {"type": "length", "weight": 0.1, "high": 8}
    score = Composite([short | {"label": "short"}, long])("a b", n_tokens=2)
    assert score.parts == {"short": 0.5, "length": 0.75}
    assert label_of({"type": "python", "file": "a.py", "name": "score", "weight": 1}) == "score"


def test_a_component_can_fix_a_column_for_all_rows():
    boxed = Composite([FORMAT | {"template": "think_boxed", "weight": 1}])
    completion = "<think> a </think> \\boxed{3}"
    assert boxed(completion, template="think").value == 1.0
    assert Composite([FORMAT | {"weight": 1}])(completion, template="think").value == 0.0


def test_the_columns_a_row_has_to_have():
    composite = Composite([ACCURACY, {"type": "cosine-length", "weight": 0.05}, {"type": "truncation", "weight": 0.05}])
    assert composite.required == {"gold", "n_tokens", "max_tokens", "finish_reason"}


def test_the_status_is_the_first_that_is_not_ok():
    composite = Composite([ACCURACY | {"read": "whole"}, FORMAT])
    assert (composite(RIGHT, gold=["3"]).status, composite(BARE, gold=["3"]).status) == ("ok", "malformed")
    assert composite("", gold=["3"]).status == "no_answer"
    assert composite(RIGHT, gold=["3"]).extracted


def test_a_failed_component_fails_the_whole(monkeypatch):
    composite = Composite([FORMAT, ACCURACY])
    score = composite(RIGHT, gold=[])
    assert (score.value, score.status, score.parts) == (0.0, "error", {"format": 1.0})
    assert score.detail == "accuracy: the row has no gold answer"
    late = Score(0.0, {}, "", "timeout", "too slow")
    monkeypatch.setattr("rewards.maths._judged", lambda *_: late)
    timed_out = Composite([FORMAT, {"type": "maths", "weight": 0.9}])(RIGHT, gold=["4"])
    assert (timed_out.status, timed_out.detail) == ("timeout", "maths: too slow")


@pytest.mark.parametrize(
    ("components", "clip", "where", "message"),
    [
        ([], None, (), "is empty; give at least one component"),
        ([{"weight": 1}], None, (0,), "has no type; name a reward, as in `type: accuracy`"),
        ([{"type": "acuracy", "weight": 1}], None, (0, "type"), "no reward called 'acuracy'; did you mean 'accuracy'?"),
        ([{"type": "accuracy"}], None, (0,), "has no weight"),
        ([ACCURACY | {"weight": "1"}], None, (0, "weight"), "must be a number, not '1'"),
        ([ACCURACY | {"weight": True}], None, (0, "weight"), "must be a number, not True"),
        ([ACCURACY | {"weight": float("nan")}], None, (0, "weight"), "must be a number, not nan"),
        ([ACCURACY | {"raed": "whole"}], None, (0, "raed"), "has no parameter 'raed'; did you mean 'read'?"),
        ([ACCURACY | {"read": "hole"}], None, (0, "read"), "must be 'strict'"),
        ([FORMAT | {"template": "thnk"}], None, (0, "template"), "must be 'direct'"),
        ([ACCURACY | {"gold": ["3"]}], None, (0, "gold"), "'gold' is a column of the data"),
        ([{"type": "length", "weight": 1, "high": "4"}], None, (0, "high"), "must be a valid integer, not '4'"),
        ([FORMAT, FORMAT], None, (1,), "is the second component called 'format'; name it, as in `label: format-2`"),
        ([FORMAT | {"label": "errors"}], None, (0,), "can't be called 'errors'"),
        ([FORMAT | {"label": "a/b"}], None, (0,), "can't be called 'a/b'"),
        ([FORMAT | {"label": 3}], None, (0, "label"), "must be a component's name, not 3"),
        ([ACCURACY | {"requires": "fromat"}, FORMAT], None, (0, "requires"), "'fromat'; did you mean 'format'?"),
        ([FORMAT | {"requires": "format"}], None, (0, "requires"), "can't require itself"),
        ([ACCURACY, FORMAT | {"weight": 0.2}], None, (), "positive weights add up to 1.1"),
        ([ACCURACY], [0, 2], ("clip",), "must be two numbers, 0 ≤ low < high ≤ 1, not [0, 2]"),
        ([ACCURACY], [1, 0], ("clip",), "must be two numbers"),
        ([ACCURACY], [0.5], ("clip",), "must be two numbers"),
        ([{"type": "python", "weight": 1, "file": "a.py"}], None, (0,), "type python needs `name:`"),
        ([{"type": "python", "weight": 1, "file": "a.py", "name": "f"}], None, (0,), "there is no file a.py"),
    ],
)
def test_what_is_refused(components, clip, where, message):
    found = list(problems(components, clip))
    assert found[0][0] == where
    assert message in found[0][1]
    with pytest.raises(ValueError, match=r"^reward "):
        Composite(components, clip)


def test_all_problems_are_told_at_once():
    assert len(list(problems([{"type": "acuracy"}, ACCURACY | {"raed": 1, "weight": None}]))) == 4


def test_defaults_are_written_out():
    written = filled({"type": "length", "weight": 0.5, "low": 3})
    assert written == {"type": "length", "weight": 0.5, "low": 3, "high": None, "unit": "tokens"}
    assert filled(written) == written
    assert filled(FORMAT | {"template": "boxed"}) == FORMAT | {"template": "boxed"}


@pytest.mark.parametrize("name", registry.names())
def test_every_reward_can_be_a_component(name):
    component = {"type": name, "weight": 1}
    composite = Composite([filled(component)])
    assert composite.required == set(registry.get(name).required)
    signature = inspect.signature(registry.get(name).function)
    assert signature.parameters["_"].kind is inspect.Parameter.VAR_KEYWORD
