"""Which rewards are metrics, and in one line why one does not fit a row."""

from __future__ import annotations

import pytest

from rewards.captions import document_frequencies
from rewards.metrics import metric, metric_names, misfit
from rewards.registry import get, names

BOX = {"gold": ["[1, 2, 3, 4]"]}
SIZE = {**BOX, "meta": {"width": 10, "height": 20}}
FREQUENCIES = {"document_frequencies": document_frequencies([["a cat"], ["a dog"]])}


def test_metrics_are_the_rewards_for_answers():
    assert metric_names() == [name for name in names() if get(name).family == "answer"]
    assert metric("vqa").about == get("vqa").summary
    assert metric("choice").needs == ("choices",)
    assert metric("exact").needs == () and metric("exact").gold_is_full
    assert not metric("vqa").gold_is_full and not metric("cider").gold_is_full


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("choise", "there is no metric called 'choise'; did you mean 'choice'?"),
        ("length", "reward length is no metric, it does not say whether an answer is right; known: exact, "),
        ("accuracy-format", "reward accuracy-format is no metric, .*; did you mean 'accuracy'?"),
    ],
)
def test_what_is_no_metric_is_told(name, message):
    with pytest.raises(ValueError, match=message):
        metric(name)
    with pytest.raises(ValueError, match=message):
        misfit(name, {"gold": ["red"]})


@pytest.mark.parametrize(
    ("name", "row", "parameters", "problem"),
    [
        ("exact", {"gold": ["red"]}, {}, ""),
        ("exact", {"gold": []}, {}, "metric exact needs an answer: name the column under data.columns.answer"),
        ("exact", {}, {}, "metric exact needs an answer: name the column under data.columns.answer"),
        ("exact", {"gold": [" "]}, {}, "metric exact needs an answer: name the column under data.columns.answer"),
        ("choice", {"gold": ["B"]}, {}, ""),
        (
            "choice",
            {"gold": ["red"]},
            {},
            "metric choice needs choices: name their column under data.columns.choices",
        ),
        (
            "choice",
            {"gold": ["pink"], "choices": ["red", "blue"]},
            {},
            "metric choice: gold has to be a letter, one of the choices or its index, not ['pink']",
        ),
        ("choice", {"gold": ["1"], "choices": ["red", "blue"]}, {}, ""),
        (
            "mmlu-pro",
            {"gold": ["1"]},
            {},
            "metric mmlu-pro needs choices: name their column under data.columns.choices",
        ),
        ("mmmu", {"gold": ["red"]}, {}, ""),
        ("number", {"gold": ["red"]}, {}, "metric number: gold answer 'red' holds no number"),
        ("yes-no", {"gold": ["red"]}, {}, "metric yes-no: gold has to be yes or no, not ['red']"),
        ("iou", BOX, {}, ""),
        ("iou", {"gold": [{"bbox_2d": [1, 2, 3, 4]}]}, {}, ""),
        (
            "iou",
            {"gold": ["red"]},
            {},
            "metric iou: every gold answer has to be one box [x1, y1, x2, y2] with an area, not ['red']",
        ),
        (
            "iou-threshold",
            BOX,
            {"coordinates": "square"},
            "metric iou-threshold needs the picture's width and height: its coordinates are measured on the picture, "
            "so every row needs one",
        ),
        ("iou-threshold", SIZE, {"coordinates": "square"}, ""),
        (
            "cider",
            {"gold": ["a cat"]},
            {},
            "metric cider needs document frequencies: hand in those of all rows' answers "
            "(rewards.captions.document_frequencies)",
        ),
        ("cider", {"gold": ["a cat"], "meta": FREQUENCIES}, {}, ""),
        (
            "sari",
            {"gold": ["a cat"]},
            {},
            "metric sari needs the text to be simplified: name its column under data.columns.question",
        ),
        ("sari", {"gold": ["a cat"], "question": "a dog"}, {}, ""),
        (
            "first-label",
            {"gold": ["red"]},
            {},
            "metric first-label needs labels: set labels under metric_options, or name their column under "
            "data.columns.choices",
        ),
        ("first-label", {"gold": ["red"]}, {"labels": ["red", "blue"]}, ""),
        (
            "first-label",
            {"gold": ["red"]},
            {"labels": ["blue"]},
            "metric first-label: gold answer 'red' has none of the labels blue",
        ),
    ],
)
def test_why_a_metric_does_not_fit_a_row(name, row, parameters, problem):
    assert misfit(name, row, **parameters) == problem


def test_a_wrong_parameter_is_told():
    with pytest.raises(ValueError, match="reward choice has no parameter 'relative'"):
        misfit("choice", {"gold": ["B"]}, relative=0.1)
