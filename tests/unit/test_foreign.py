"""Logs of lm-eval, lmms-eval and Inspect become our records, or are refused with file, sample and remedy."""

from __future__ import annotations

import json
import re
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest
from foreign_logs import chosen, generated, inspect_log, inspect_sample, lines, lm_eval, lmms_eval, pope

from cpt.evaluate.foreign.log import records_of
from cpt.evaluate.foreign.read import read_log, read_task

FILTERS = {"strict": ("blue", 1.0), "flexible": ("red", 0.0)}


def test_lm_eval_answered_freely_has_a_metric_per_filter(tmp_path: Path):
    rows = [*generated(0, "blue ok", FILTERS), *generated(7, "green", {"strict": ("", 0.0), "flexible": ("blue", 1.0)})]
    log = read_log(lm_eval(tmp_path, "gsm8k_cot", rows, exact_match=True))
    assert (log.source, log.task, log.task_version) == ("lm-eval 0.4.13", "gsm8k_cot", "2.0")
    assert log.metrics == ["exact_match,strict", "exact_match,flexible"]
    first, second = records_of(log, None, name="gsm", arm="sft", seed=3, stage=2)
    assert (first.arm, first.seed, first.stage, first.task, first.sample_id) == ("sft", 3, 2, "gsm", "gsm/0")
    assert (first.prompt, first.completion, first.gold) == ("question 0 Answer :", "blue ok", ["blue"])
    assert (first.extracted, first.score, first.tolerant) == ("blue", 1.0, 1.0)
    assert (second.extracted, second.score, second.question_id) == ("", 0.0, f"{7:064x}"[:24])
    assert {first.metric, second.metric} == {"lm-eval:gsm8k_cot/exact_match,strict"}
    other = records_of(log, "exact_match,flexible", name="gsm")
    assert [(one.score, one.extracted) for one in other] == [(0.0, "red"), (1.0, "blue")]


def test_lm_eval_by_log_likelihood_has_said_the_likeliest_option(tmp_path: Path):
    rows = [chosen(0, [-3.1, -2.2, -3.0], 1, acc=1.0, acc_norm=0.0), chosen(1, [-1.0, -2.2], 1, acc=0.0, acc_norm=0.0)]
    log = read_log(lm_eval(tmp_path, "arc_easy", rows))
    first, second = records_of(log, "acc", name="arc")
    assert (first.completion, first.extracted, first.gold, first.score) == ("blue", "blue", ["blue"], 1.0)
    assert (second.completion, second.gold, second.score) == ("red", ["blue"], 0.0)
    assert first.metric == "lm-eval:arc_easy/acc"


def test_a_metric_of_which_less_is_better_is_no_score(tmp_path: Path):
    rows = [chosen(0, [-3.0, -2.0], 1, brier=0.2, acc=1.0)]
    log = read_log(lm_eval(tmp_path, "arc", rows, brier=False, acc=True))
    assert log.choose() == "acc,none"
    with pytest.raises(ValueError, match="of brier less is better"):
        records_of(log, "brier", name="arc")


def test_lmms_eval_has_objects_and_leaves_out_what_is_the_same(tmp_path: Path):
    rows = [pope(0, 1.0), {**pope(1, 0.0, "No."), "resps": ["<think> hm </think> No."]}]
    log = read_log(lmms_eval(tmp_path, rows))
    assert (log.source, log.metrics) == (
        "lmms-eval (version not known)",
        ["pope_accuracy", "pope_f1_score", "submission"],
    )
    first, second = records_of(log, None, name="pope")
    assert (first.completion, first.extracted, first.n_tokens, first.prompt) == (
        *("Yes, there is.", "Yes, there is.", 5),
        "Is there a cat?",
    )
    assert (second.completion, second.extracted, second.score) == ("<think> hm </think> No.", "No.", 0.0)
    assert first.metric == "lmms-eval:pope/pope_accuracy"


def test_inspect_grades_epochs_and_several_values(tmp_path: Path):
    samples = [
        *(inspect_sample("a", "C", 1), inspect_sample("a", "P", 2)),
        *(inspect_sample("b", "I", 1), inspect_sample("b", "N", 2)),
    ]
    path = tmp_path / "log.json"
    path.write_text(json.dumps(inspect_log(samples)))
    log = read_log(path)
    assert (log.source, log.task, log.task_version) == ("inspect 0.3.285", "mmstar", "3")
    first, second = records_of(log, None, name="mmstar")
    assert [(one.sample_id, one.score) for one in (first, second)] == [("mmstar/a", 0.75), ("mmstar/b", 0.0)]
    assert (first.prompt, first.completion, first.extracted) == ("which a?", "ANSWER: B", "B")
    assert (first.finish_reason, first.n_tokens, first.metric) == ("length", 7, "inspect:mmstar/choice")
    path.write_text(json.dumps(inspect_log([inspect_sample("a", {"f1": 0.5, "n": 7})])))
    assert [one.score for one in records_of(read_log(path), None, name="m")] == [0.5]


def zipped(path: Path, zstandard: bool) -> Path:
    """Two samples as Inspect writes them: in Zstandard, which Python's zipfile can't write, or as it once did."""
    samples = [inspect_sample("a", True), inspect_sample("b", 0.25)]
    contents = {"header.json": inspect_log([]), **{f"samples/{one['id']}_epoch_1.json": one for one in samples}}
    texts = {name: json.dumps(content).encode() for name, content in contents.items()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED if zstandard else zipfile.ZIP_DEFLATED) as parts:
        for name, text in texts.items():
            parts.writestr(name, pa.compress(text, "zstd", asbytes=True) if zstandard else text)
        places = {one.filename: one.header_offset for one in parts.infolist()}
    content = bytearray(path.read_bytes())
    for name, text in texts.items() if zstandard else ():
        entry = content.rindex(name.encode()) - 46  # in the directory at the end; its fields are two bytes further on
        for start in (places[name] + 8, entry + 10):
            struct.pack_into("<H", content, start, 93)
            struct.pack_into("<I", content, start + 6, zlib.crc32(text))
            struct.pack_into("<I", content, start + 14, len(text))
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("zstandard", [True, False])
def test_an_inspect_log_as_a_zip(tmp_path: Path, zstandard: bool):
    path = zipped(tmp_path / "log.eval", zstandard)
    assert [one.score for one in records_of(read_log(path), None, name="m")] == [1.0, 0.25]
    content = path.read_bytes()
    place = content.index(b"header.json") + 40
    path.write_bytes(content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :])
    with pytest.raises(ValueError, match=r"header\.json in it (is damaged|can't be read)"):
        read_log(path)


def write(path: Path, content: Any) -> Path:
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


REFUSED = {
    "no such file": (lambda folder: folder / "none.jsonl", "none.jsonl: can't be read"),
    "another kind": (lambda folder: write(folder / "a.csv", "a,b\n"), "not a log that cpt reads"),
    "empty": (lambda folder: write(folder / "a.jsonl", ""), "a.jsonl: empty"),
    "damaged": (lambda folder: write(folder / "a.jsonl", '{"doc_id": 0, "filt'), "line 1: damaged JSON"),
    "another file": (lambda folder: lines(folder / "a.jsonl", [pope(0, 1), {"x": 1}]), "line 2: no sample of lm-eval"),
    "twice, lmms-eval": (
        lambda folder: lmms_eval(folder, [pope(0, 1), pope(1, 1), pope(0, 1)]),
        "line 3: sample 0 is there twice, first in .*line 1",
    ),
    "twice, lm-eval": (
        lambda folder: lm_eval(folder, "t", generated(0, "a", FILTERS) * 2),
        "line 3: sample 0 is there twice, first in .*line 1",
    ),
    "twice, inspect": (
        lambda folder: write(folder / "a.json", inspect_log([inspect_sample("a", 1), inspect_sample("a", 1)])),
        "sample a is there twice",
    ),
    "no log": (lambda folder: write(folder / "a.json", {"version": 2}), "no Inspect log"),
    "another schema": (lambda folder: write(folder / "a.json", inspect_log([], version=3)), "of schema 3.*convert it"),
    "an error": (lambda folder: write(folder / "a.json", inspect_log([], status="error")), "ended with 'error'"),
    "a list for an object": (
        lambda folder: write(folder / "a.json", inspect_log([{**inspect_sample("a", 1), "output": [1]}])),
        "not laid out as a log",
    ),
    "no samples": (lambda folder: write(folder / "a.json", inspect_log([])), "has no samples"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_is_no_whole_log_is_refused(tmp_path: Path, name: str):
    make, told = REFUSED[name]
    with pytest.raises(ValueError, match=told):
        read_log(make(tmp_path))


def test_scores_are_between_0_and_1_or_divided(tmp_path: Path):
    log = read_log(
        lm_eval(tmp_path, "t", [chosen(0, [-1.0, -2.0], 0, bleu=50.0), chosen(1, [-1.0, -2.0], 0, bleu=100.0)])
    )
    with pytest.raises(ValueError, match=r"line 1: sample 0 scores 50 by bleu.*--scale 100 for percent"):
        records_of(log, "bleu", name="t")
    with pytest.raises(ValueError, match=r"no metric of t gives every sample a score from 0 to 1.*there are: bleu"):
        records_of(log, None, name="t")
    assert [one.score for one in records_of(log, None, name="t", scale=100)] == [0.5, 1.0]
    with pytest.raises(ValueError, match=r"no metric 'blue'; did you mean 'bleu'"):
        records_of(log, "blue", name="t")


@pytest.mark.parametrize("value", ["NaN", "-0.5", "null", '"yes"'])
def test_a_sample_without_a_score_is_named(tmp_path: Path, value: str):
    path = lm_eval(tmp_path, "t", [chosen(0, [-1.0, -2.0], 0, acc=1.0), chosen(1, [-1.0, -2.0], 0, acc=0.125)])
    path.write_text(path.read_text().replace("0.125", value))
    with pytest.raises(ValueError, match=rf"{re.escape(str(path))}, line 2: sample 1 (has no score|scores) .*acc"):
        records_of(read_log(path), "acc", name="t")


def test_subtasks_of_a_group_are_one_task(tmp_path: Path):
    row = chosen(0, [-1.0, -2.0], 0, acc=1.0)
    paths = [lm_eval(tmp_path / name, name, [row]) for name in ("mmlu_law", "mmlu_art")]
    records = records_of(read_task(paths, "mmlu"), None, name="mmlu")
    assert [one.sample_id for one in records] == ["mmlu/mmlu_law/0", "mmlu/mmlu_art/0"]
    assert {one.metric for one in records} == {"lm-eval:mmlu/acc"}
    with pytest.raises(ValueError, match="sample 0 is there twice"):
        read_task([paths[0], paths[0]], "mmlu")
    with pytest.raises(ValueError, match=r"of lmms-eval .*import one at a time"):
        read_task([paths[0], lmms_eval(tmp_path, [pope(0, 1.0)])], "mmlu")
