"""Scores made elsewhere in the matrix of a run, and a run's records as the logs of other programs."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command import cpt
from foreign_logs import chosen, inspect_log, inspect_sample, lm_eval, lmms_eval, pope
from rich.console import Console
from synthetic import Arm, make_run

from cpt.evaluate.foreign.log import records_of
from cpt.evaluate.foreign.read import read_log
from cpt.evaluate.stats import Bootstrap
from cpt.report.load import load_run
from cpt.report.page import build_report
from cpt.report.summary import summarise
from cpt.report.terminal_table import print_summary
from cpt.store.checks import check_results
from cpt.store.records import read_records
from cpt.store.run_store import RunStore
from cpt.types import Record


@pytest.fixture
def run(tmp_path: Path) -> Path:
    """Two arms, two stages, of which the last one is not trained yet."""
    root = tmp_path / "run"
    make_run(root, [Arm("sft"), Arm("grpo", method="grpo")], tasks=("a", "b"), samples=4, stop_after=3)
    return root


def scored(folder: Path, *scores: float, **more: Any) -> Path:
    """A log of lm-eval with these scores."""
    rows = [chosen(number, [-1.0, -2.0], 0, acc=score, **more) for number, score in enumerate(scores)]
    return lm_eval(folder, "arc_easy", rows)


def imported(run: Path, log: Path, *place: str, task: str = "arc") -> int:
    return cpt("import", str(log), "--run", str(run), "--task", task, *place)


STAGE = ("--arm", "sft", "--stage", "1")


def values(run: Path, arm: int = 0) -> list[list[float | None]]:
    """Stage by task; None where nothing was imported."""
    scores = load_run(run).arms[arm].scores
    means = [scores.strict[task].mean(axis=-1)[0] for task in scores.imported]
    return [[None if mean[stage] != mean[stage] else float(mean[stage]) for mean in means] for stage in range(3)]


def first_stage(run: Path) -> Any:
    """The planned stage 1 of sft."""
    plan = json.loads((run / "plan.json").read_text())["stages"][0]
    return SimpleNamespace(**plan, as_dict=lambda: plan)


def test_a_score_made_elsewhere_stands_in_the_matrix(run: Path, tmp_path: Path, capsys: Any):
    few = Bootstrap(resamples=20)
    before = summarise(load_run(run), few).as_dict()
    assert imported(run, scored(tmp_path / "base", 1.0, 1.0, 0.0, 1.0), "--base") == 0
    assert imported(run, scored(tmp_path / "sft", 1.0, 0.0, 0.0, 0.0), *STAGE) == 0
    told = capsys.readouterr().out
    assert (
        "arc: 4 samples scored by lm-eval 0.4.13, lm-eval:arc_easy/acc, mean 0.7500; imported for the base model"
        in told
    )
    assert "mean 0.2500; imported for sft, seed 0, stage 1" in told
    assert values(run) == [[0.75], [0.25], [None]]
    assert values(run, 1) == [[0.75], [None], [None]]  # the base model's is every arm's
    summary = summarise(load_run(run), few)
    last = summary.arms[1].numbers["strict"].imported.cell(1, 0)
    assert last.reason == "n/a: not imported: stage 1 × task arc"
    found = summary.as_dict()
    assert found["imported"] == {"arc": {"source": "lm-eval 0.4.13"}}
    assert found["arms"]["sft"]["strict"]["imported"]["values"] == [[0.75], [0.25], [None]]
    assert found["scores"]["arc"] == {"metric": "lm-eval:arc_easy/acc", "right_from": 0.5}
    for name, arm in before["arms"].items():  # nothing else has another number
        for scoring in ("strict", "tolerant"):
            assert {**found["arms"][name][scoring], "imported": None} == {**arm[scoring], "imported": None}
        assert {key: found["arms"][name][key] for key in ("transitions", "drift")} == {
            key: arm[key] for key in ("transitions", "drift")
        }


def test_page_and_terminal_say_by_whom(run: Path, tmp_path: Path):
    imported(run, scored(tmp_path, 1.0, 0.0), "--base")
    page = build_report(run).read_text()
    assert "<th><span>arc †</span></th>" in page
    assert "scored by lm-eval 0.4.13, lm-eval:arc_easy/acc" in page
    assert "arc (by lm-eval 0.4.13)" in page
    assert "not imported: stage 2 × task arc" in page
    console = Console(width=120, record=True)
    print_summary(run, console)
    shown = console.export_text()
    assert "arc ↑, by lm-eval 0.4.13" in shown
    assert "n/a (50.0)" in shown


def test_a_run_without_imports_says_nothing_of_them(run: Path):
    summary = summarise(load_run(run), Bootstrap(resamples=20))
    assert "imported" not in json.dumps(summary.as_dict())
    console = Console(width=120, record=True)
    print_summary(summary, console)
    assert "elsewhere" not in console.export_text()


def test_imports_are_files_of_their_own_with_their_source(run: Path, tmp_path: Path):
    store, log = RunStore(run), scored(tmp_path, 1.0, 0.5)
    where = store.stage_dir("sft", 0, 1, "a")
    before = where.records.read_bytes(), where.done.read_bytes()
    imported(run, log, *STAGE)
    assert (where.records.read_bytes(), where.done.read_bytes()) == before
    records = read_records(where.evaluated / "imported-arc.parquet")
    assert [(one.arm, one.stage, one.task, one.sample_id, one.score) for one in records] == [
        ("sft", 1, "arc", "arc/0", 1.0),
        ("sft", 1, "arc", "arc/1", 0.5),
    ]
    marker = json.loads((where.evaluated / "imported-arc.json").read_text())
    assert (marker["key"], marker["harness"], marker["version"]) == ("sft/0/1", "lm-eval", "0.4.13")
    assert (marker["task_version"], marker["logs"][0]["path"]) == ("2.0", str(log))
    assert marker["config"]["task"]["dataset_path"] == "json"


def test_a_changed_import_is_noticed(run: Path, tmp_path: Path):
    imported(run, scored(tmp_path, 1.0), *STAGE)
    store = RunStore(run)
    where = store.stage_dir("sft", 0, 1, "a")
    file = where.evaluated / "imported-arc.parquet"
    file.write_bytes(file.read_bytes()[:-1])
    with pytest.raises(ValueError, match=r"imported-arc\.parquet is not what the run wrote.*import it again"):
        load_run(run)
    with pytest.raises(ValueError, match=r"delete .*imported-arc\.json: import it again"):
        check_results(store, [first_stage(run)], [])
    file.unlink()
    with pytest.raises(ValueError, match=r"imported-arc\.parquet is missing; put it back, or delete"):
        load_run(run)


def test_a_policy_that_is_trained_again_loses_what_was_imported(run: Path, tmp_path: Path):
    imported(run, scored(tmp_path, 1.0), *STAGE)
    RunStore(run).begin_stage(first_stage(run))
    assert load_run(run).imported == {}


def test_the_same_task_again_replaces_what_was_there(run: Path, tmp_path: Path):
    imported(run, scored(tmp_path / "1", 1.0, 1.0), *STAGE)
    assert imported(run, scored(tmp_path / "2", 0.0, 1.0, 1.0, 1.0), *STAGE) == 0  # alone: nothing to be alike to
    assert values(run)[1] == [0.75]


def test_all_kinds_of_logs_and_a_scale(run: Path, tmp_path: Path):
    assert imported(run, lmms_eval(tmp_path, [pope(0, 1.0), pope(1, 0.0)]), *STAGE, task="pope") == 0
    (tmp_path / "log.json").write_text(json.dumps(inspect_log([inspect_sample("a", "C"), inspect_sample("b", "P")])))
    assert imported(run, tmp_path / "log.json", *STAGE, task="star") == 0
    assert imported(run, scored(tmp_path, 50.0, 100.0), *STAGE, "--scale", "100") == 0
    assert load_run(run).imported == {
        "arc": "lm-eval 0.4.13",
        "pope": "lmms-eval (version not known)",
        "star": "inspect 0.3.285",
    }
    assert values(run)[1] == [0.75, 0.5, 0.75]


REFUSED: list[tuple[Sequence[str], str]] = [
    (["--task", "a", *STAGE], "--task a: a task of the run, which cpt scores itself"),
    (["--task", "x", "--base"], "--task x: a task of the run"),
    (["--task", "a/b", *STAGE], "--task a/b: letters, digits"),
    (["--task", "arc"], "which policy was scored"),
    (["--task", "arc", "--arm", "sft"], "which policy was scored"),
    (["--task", "arc", "--arm", "sff", "--stage", "1"], "there is no arm 'sff'; did you mean 'sft'"),
    (["--task", "arc", "--arm", "sft", "--stage", "3"], "sft, seed 0: has stages 1, 2, and no stage 3"),
    (["--task", "arc", "--arm", "sft", "--stage", "1", "--seed", "1"], "sft, seed 1: has no stages"),
    (["--task", "arc", "--arm", "grpo", "--stage", "2"], "grpo, seed 0, stage 2: not trained yet"),
    (["--task", "arc", "--base", "--stage", "1"], "--base: is the same for all of a run; leave --stage out"),
    (["--task", "arc", *STAGE, "--metric", "f1"], "no metric 'f1'"),
    (["--task", "arc", *STAGE, "--scale", "0"], "--scale 0: has to be above 0"),
]


@pytest.mark.parametrize(("options", "told"), REFUSED, ids=str)
def test_what_cannot_be_imported(run: Path, tmp_path: Path, capsys: Any, options: Sequence[str], told: str):
    assert cpt("import", str(scored(tmp_path, 1.0)), "--run", str(run), *options) == 2
    assert told in capsys.readouterr().err
    assert load_run(run).imported == {}


def test_what_stands_side_by_side_is_alike(run: Path, tmp_path: Path, capsys: Any):
    imported(run, scored(tmp_path, 1.0, 1.0, f1=0.5), "--base")
    assert imported(run, scored(tmp_path, 1.0, 1.0, f1=0.5), *STAGE, "--metric", "f1") == 2
    error = capsys.readouterr().err
    assert "scored by lm-eval:arc_easy/f1, but for base, seed 0, stage 0 by lm-eval:arc_easy/acc" in error
    assert "imported-arc.json" in error
    assert imported(run, scored(tmp_path, 1.0, 1.0, 0.0), *STAGE) == 2
    assert "arc: 3 samples, of which 2 are among the 2 of base, seed 0, stage 0" in capsys.readouterr().err


def test_a_run_that_is_under_way_is_not_written_to(run: Path, tmp_path: Path, capsys: Any):
    from cpt.store.folder import lock

    held = lock(run)
    try:
        assert imported(run, scored(tmp_path, 1.0), *STAGE) == 2
    finally:
        held.release()
    assert "in use by another cpt" in capsys.readouterr().err


def our_records(run: Path) -> dict[tuple[str, int, str], list[Record]]:
    found: dict[tuple[str, int, str], list[Record]] = {}
    for arm in load_run(run).arms:
        for (_, stage, _), record in arm.records.items():
            found.setdefault((arm.name if stage else "base", stage, record.task), []).append(record)
    return {place: records for place, records in found.items() if place[0] != "base"}


@pytest.mark.parametrize("to", ["lmms-eval", "inspect"])
def test_an_export_is_read_back(run: Path, tmp_path: Path, capsys: Any, to: str):
    imported(run, scored(tmp_path, 1.0), *STAGE)  # which is not ours to export
    capsys.readouterr()
    out = tmp_path / "out"
    assert cpt("export", str(run), "--to", to, "--out", str(out)) == 0
    # The base model and three stages, four tasks each, of four samples.
    assert capsys.readouterr().out == f"{out}: 64 samples in 16 logs of {to}\n"
    kind = "*_samples_*.jsonl" if to == "lmms-eval" else "*.json"
    logs = {(path.parent.relative_to(out).as_posix(), (log := read_log(path)).task): log for path in out.rglob(kind)}
    assert len(logs) == 16
    assert {place for place, _ in logs} == {
        *("base/direct/seed-0", "arms/sft/seed-0/01-a", "arms/sft/seed-0/02-b", "arms/grpo/seed-0/01-a"),
    }
    assert {log.harness for log in logs.values()} == {"cpt"}
    for (arm, stage, task), ours in our_records(run).items():
        log = logs[f"arms/{arm}/seed-0/{stage:02d}-{'ab'[stage - 1]}", task]
        theirs = records_of(log, None, name="x")
        for one, other in zip(ours, theirs, strict=True):
            for name in ("prompt", "completion", "extracted", "gold", "score", "n_tokens", "finish_reason"):
                assert getattr(one, name) == getattr(other, name), name
    tolerant = records_of(log, log.metrics[1], name="x")
    assert [one.score for one in tolerant] == [one.tolerant for one in ours]


def test_an_export_goes_into_a_folder_of_its_own(run: Path, tmp_path: Path, capsys: Any):
    assert cpt("export", str(run), "--to", "inspect", "--out", str(tmp_path)) == 2
    assert f"{tmp_path}: exists and is not empty" in capsys.readouterr().err


def test_lmms_evals_results_file(run: Path, tmp_path: Path):
    """By hand: what base gives on `a` under strict scoring, and its standard error."""
    cpt("export", str(run), "--to", "lmms-eval", "--out", str(tmp_path / "out"))
    folder = tmp_path / "out/base/direct/seed-0"
    (path,) = folder.glob("*_results.json")
    results = json.loads(path.read_text())["results"]["a"]
    (samples,) = folder.glob("*_samples_a.jsonl")
    rows = [json.loads(line) for line in samples.read_text().splitlines()]
    scores = [row["score"] for row in rows]
    assert [row["doc_id"] for row in rows] == [0, 1, 2, 3]
    assert results["score,none"] == sum(scores) / 4
    share = sum(scores) / 4
    assert results["score_stderr,none"] == pytest.approx((share * (1 - share) / 3) ** 0.5)
    assert results["samples"] == 4
