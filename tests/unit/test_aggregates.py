"""What benchmarks report of many answers: every number computed by hand."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from synthetic import RECORD, Arm, make_run, reseal
from test_evaluate import LABELS, EchoTask, Pool, WordProcessor

from cpt.cli.evaluate import _print
from cpt.evaluate.aggregates import COGNITION, PERCEPTION, measures
from cpt.evaluate.evaluators.generation import ask, prepare_questions
from cpt.report.benchmarks import benchmark_views
from cpt.report.load import load_run
from cpt.report.page import build_report
from cpt.store.records import read_records, write_records
from cpt.types import Record, Sample


def rows(metric: str, *fields: dict[str, object]) -> list[Record]:
    base = replace(RECORD, metric=metric)
    return [replace(base, sample_id=f"t/test/{number}", **own) for number, own in enumerate(fields)]


def found(records: Sequence[Record]) -> dict[str, float]:
    return {one.name: one.value for one in measures(records)}


def answer(gold: str, said: str, score: float | None = None) -> dict[str, object]:
    """Of yes or no; the score is 1 where both are the same, unless it was said in another format."""
    return {"gold": [gold], "extracted": said, "score": float(gold == said) if score is None else score}


def test_pope():
    """Three of four yes are found, with one false one: precision 3/4, recall 3/4, and 4 of 8 say yes."""
    yes = [answer("yes", "yes")] * 3 + [answer("yes", "no")]
    no = [answer("no", "no")] * 3 + [answer("No.", "yes")]
    assert found(rows("pope", *yes, *no)) == pytest.approx(
        {"accuracy": 0.75, "precision": 0.75, "recall": 0.75, "F1": 0.75, "yes ratio": 0.5}
    )


def test_pope_with_unequal_precision_and_recall():
    """One of two yes is found without a false one: precision 1, recall 1/2, F1 2/3; one of four says yes."""
    said = [answer("yes", "yes"), answer("yes", "no"), answer("no", "no"), answer("no", "no")]
    assert found(rows("pope", *said)) == pytest.approx(
        {"accuracy": 0.75, "precision": 1, "recall": 0.5, "F1": 2 / 3, "yes ratio": 0.25}
    )


def test_what_was_said_in_another_format_is_neither_yes_nor_no():
    said = [answer("yes", "yes", score=0), answer("yes", ""), answer("no", "no", score=0)]
    assert found(rows("pope", *said)) == {"accuracy": 0, "precision": 0, "recall": 0, "F1": 0, "yes ratio": 0}


def picture(group: str, *scores: float) -> list[dict[str, object]]:
    return [{"group": group, "score": float(score)} for score in scores]


def test_mme():
    """existence: acc 3/4, acc+ 1/2, so 125; OCR: 50 + 0; code reasoning: 100 + 100."""
    said = [
        *picture("existence/1.png", 1, 1),
        *picture("existence/2.png", 1, 0),
        *picture("OCR/1.png", 0, 1),
        *picture("code_reasoning/1.png", 1, 1),
    ]
    assert found(rows("mme", *said)) == pytest.approx(
        {"acc": 6 / 8, "acc+": 2 / 4, "perception": 175, "cognition": 200, "sum": 375}
    )
    of = {one.name: one.of for one in measures(rows("mme", *said))}
    assert (of["acc"], of["perception"]) == ("4 pictures", "2 subtasks, at most 400")


def test_mme_without_the_second_question_of_a_picture():
    said = [*picture("count/1.png", 1, 1), *picture("count/2.png", 0)]
    assert found(rows("mme", *said)) == {"acc": 1, "acc+": 1, "perception": 200, "sum": 200}
    assert measures(rows("mme", *said))[0].of == "1 picture, 1 without a pair left out"
    assert measures(rows("mme", *picture("count/1.png", 1))) == []
    assert measures(rows("mme", *picture("", 1, 1))) == []


def test_mme_has_fourteen_subtasks():
    assert (len(PERCEPTION), len(COGNITION), PERCEPTION & COGNITION) == (10, 4, frozenset())


def test_ifeval():
    """Four prompts with 1, 2, 2 and 1 instructions; the last response said nothing."""
    said = [
        {"extracted": "+a:b", "score": 1.0, "tolerant": 1.0, "gold": ["a:b"]},
        {"extracted": "+a:b ~c:d", "score": 0.0, "tolerant": 1.0, "gold": ["a:b", "c:d"]},
        {"extracted": "-a:b ~c:d", "score": 0.0, "tolerant": 0.0, "gold": ["a:b", "c:d"]},
        {"extracted": "", "score": 0.0, "tolerant": 0.0, "gold": ["a:b"]},
    ]
    assert found(rows("ifeval", *said)) == pytest.approx(
        {
            "prompts, strict": 1 / 4,
            "instructions, strict": 2 / 6,
            "prompts, loose": 2 / 4,
            "instructions, loose": 4 / 6,
        }
    )


def test_perplexity_is_of_tokens_not_of_texts():
    """3 tokens at 1/2 and 1 at 1/8: six halvings, so 2^(6/4); words 2 + 1, bytes 3 + 3."""
    said = [
        {"prompt": "a b", "score": 0.5, "n_tokens": 3},
        {"prompt": "cé", "score": 0.125, "n_tokens": 1},
    ]
    assert found(rows("token-probability", *said)) == pytest.approx(
        {"perplexity": 2**1.5, "word perplexity": 2**2, "bits per byte": 1.0}
    )
    assert found(rows("token-probability", {"score": 0.0, "n_tokens": 1}))["perplexity"] == math.inf


def test_the_mean_over_groups_weighs_them_alike():
    """Three of physics, all right, and one of law, wrong: 1/2, where the mean over questions is 3/4."""
    said = [{"group": "physics", "score": 1.0}] * 3 + [{"group": "law", "score": 0.0}]
    (one,) = measures(rows("mmlu-pro", *said))
    assert (one.name, one.value, one.of, str(one)) == ("mean of groups", 0.5, "2 groups", "0.500")


def test_mmmu_s_ids_are_counted_by_subject():
    said = [
        {"group": "validation_Art_Theory_1", "score": 1.0},
        {"group": "validation_Art_Theory_22", "score": 0.0},
        {"group": "validation_Math_1", "score": 1.0},
    ]
    (one,) = measures(rows("mmmu", *said))
    assert (one.value, one.of) == (0.75, "2 groups")


def test_other_tasks_have_none():
    assert measures(rows("exact", {}, {})) == [] == measures([])


def test_groups_are_kept_and_older_files_have_none(tmp_path: Path):
    import pyarrow.parquet as pq

    file = tmp_path / "records.parquet"
    write_records(file, [replace(RECORD, group="physics")])
    assert [record.group for record in read_records(file)] == ["physics"]
    pq.write_table(pq.read_table(file).drop_columns(["group"]), file)
    assert [record.group for record in read_records(file)] == [""]


def test_an_evaluation_records_the_group_of_a_sample():
    class Grouped(EchoTask):
        def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
            return [replace(sample, meta={**sample.meta, "group": "law"}) for sample in super().samples(split, n, seed)]

    questions = prepare_questions(WordProcessor(), [Grouped("g"), EchoTask("e")], samples=1, prompt="direct")
    records = ask(Pool(), "v", questions, max_tokens=4, **LABELS)
    assert [record.group for record in records] == ["law", ""]


def test_cpt_eval_prints_them_below_its_table(capsys: pytest.CaptureFixture[str]):
    _print(rows("pope", answer("yes", "yes"), answer("no", "yes")), ["which-row"], {8})
    lines = capsys.readouterr().out.splitlines()
    assert any("precision" in line and "0.500" in line and "2 answered yes" in line for line in lines)
    _print(rows("exact", {}), ["which-row"], {8})
    assert "benchmark" not in capsys.readouterr().out


def test_the_report_has_a_table_of_base_and_last_stage(tmp_path: Path):
    make_run(tmp_path, [Arm("sft", general_loss=0.5)], tasks=["a", "b"], general=["x"], samples=8, seeds=(0, 1))
    assert benchmark_views(load_run(tmp_path)) == []  # of which the page says nothing
    right: dict[int, list[float]] = {0: [], 1: [], 2: []}
    for file in tmp_path.rglob("records.parquet"):
        records = read_records(file)
        right[records[0].stage].append(sum(record.score for record in records if record.task == "x") / 8)
        write_records(file, [replace(one, metric="pope") if one.task == "x" else one for one in records])
    reseal(tmp_path)
    page = build_report(tmp_path).read_text(encoding="utf-8")
    (view,) = json.loads((tmp_path / "summary.json").read_text(encoding="utf-8"))["benchmarks"]
    assert (view["task"], view["metric"], set(view["arms"])) == ("x", "pope", {"sft"})
    # Every answer of these runs is yes: recall is accuracy. Means over two seeds.
    before, after = (sum(right[stage]) / 2 for stage in (0, 2))
    assert before > after
    assert view["arms"]["sft"]["recall"] == pytest.approx({"base": before, "last": after})
    assert view["arms"]["sft"]["precision"] == {"base": 1.0, "last": 1.0}
    table = page.partition('id="benchmarks"')[2].partition("</section>")[0]
    assert f"{before:.3f} → {after:.3f}" in table and "1.000 → 1.000" in table
