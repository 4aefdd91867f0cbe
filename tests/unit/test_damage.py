"""One thing wrong in a run folder: report and run say which file, or do without it; no traceback, no silence."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from damage import Case, before_damage, make_case, one_case, refused, resumed, shown
from synthetic import change_json

from cpt.common.digests import listing
from cpt.common.files import read_json
from cpt.report.load import load_run
from cpt.report.page import build_report
from cpt.report.sanity_checks import caveats
from cpt.store.records import read_records, write_records
from cpt.store.run_store import RunStore


@pytest.fixture(scope="module", params=["finished", "unfinished"])
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Case:
    return make_case(tmp_path_factory.mktemp("case") / "run", finished=request.param == "finished")


def test_nothing_wrong_is_told_in_silence(case: Case, tmp_path: Path):
    for first in (0, 1000):
        aside = tmp_path / "aside"
        before, plain = before_damage(case, aside)
        found = [one_case(case, number, before, plain, aside)[1] for number in range(first, first + 30)]
        assert sum("refuses" in outcome for outcome in found) >= 15


@pytest.fixture
def run(tmp_path: Path) -> Case:
    return make_case(tmp_path / "run", finished=True)


def stage(case: Case, arm: str, index: int):
    return RunStore(case.root).stage_dir(arm, 0, index, "abc"[index - 1])


def told(case: Case) -> tuple[str, str]:
    """What report and run refuse with."""
    return refused(lambda: shown(case.root))[1], refused(lambda: resumed(case, case.root))[1]


def rewritten(path: Path, change) -> None:
    write_records(path, change(read_records(path)))


@pytest.mark.parametrize("strict", [0, 1])
def test_one_score_that_was_changed_is_noticed(run: Case, strict: int):
    path = stage(run, "sft", 2).records

    def change(records):
        place = next(i for i, one in enumerate(records) if one.score != strict)
        return [*records[:place], replace(records[place], score=strict), *records[place + 1 :]]

    rewritten(path, change)
    assert all(f"{path} is not what the run wrote" in line for line in told(run))


@pytest.mark.parametrize(
    "name", ["records.parquet", "drift.parquet", "metrics.jsonl", "TRAINED.json", "DONE.json", "evaluated/drift.json"]
)
def test_what_two_arms_have_exchanged_is_noticed(run: Case, name: str):
    one, other = (stage(run, arm, 1).root / name for arm in ("sft", "grpo"))
    kept = one.read_bytes()
    one.write_bytes(other.read_bytes())
    other.write_bytes(kept)
    report, resume = told(run)
    assert str(one) in report or str(other) in report
    if name.endswith(".json"):  # their keys are not the planned ones: a run does the work again
        return
    assert str(one) in resume or str(other) in resume


def test_records_with_their_marker_from_another_arm_are_noticed(run: Case):
    for name in ("records.parquet", "DONE.json"):
        (stage(run, "sft", 1).root / name).write_bytes((stage(run, "grpo", 1).root / name).read_bytes())
    assert "DONE.json: not what the run wrote here" in told(run)[0]
    assert not RunStore(run.root).is_done(run.plan.stages[0])


def test_the_base_models_records_cannot_be_replaced(run: Case):
    base = RunStore(run.root).base_dir(0, "direct")
    base.records.write_bytes(stage(run, "sft", 1).records.read_bytes())
    assert all(f"{base.records} is not what the run wrote" in line for line in told(run))


def test_a_policy_that_was_exchanged_is_not_gone_on_from(tmp_path: Path):
    case = make_case(tmp_path / "run", finished=False)
    one, other = (stage(case, arm, 2).policy / "model.safetensors" for arm in ("sft", "grpo"))
    one.write_bytes(other.read_bytes())
    assert told(case)[0] == ""  # a report needs no policies
    assert f"{one} is not what the run wrote" in told(case)[1]
    assert f"delete {one.parents[1]}" in told(case)[1]


def test_missing_records_are_not_available_and_told(run: Case):
    for path in (stage(run, "grpo", 2).records, RunStore(run.root).base_dir(0, "direct").records):
        path.unlink()
    notes = caveats(load_run(run.root))
    assert "base/direct/seed-0/records.parquet is missing: what is made from it is n/a." in notes
    assert "arms/grpo/seed-0/02-b/records.parquet is missing: what is made from it is n/a." in notes
    page = build_report(run.root).read_text(encoding="utf-8")
    assert "arms/grpo/seed-0/02-b/records.parquet is missing" in page
    assert not RunStore(run.root).is_done(run.plan.stages[4])  # it is evaluated again


def test_a_copy_without_policies_is_reported(run: Case):
    before = shown(run.root)
    for policy in run.root.rglob("policy"):
        shutil.rmtree(policy)
    assert shown(run.root) == before


@pytest.mark.parametrize("content", [b"", b"{}", b"[]", b"null", b"\xff\xfe", b'{"format": "cpt-run"}'])
def test_the_advice_about_a_damaged_manifest_leads_out(run: Case, content: bytes):
    path = run.root / "manifest.json"
    before = resumed(run, run.root)
    path.write_bytes(content)
    if content != b"{}":
        assert all(str(path) in line and "delete the file" in line for line in told(run))
    assert "no manifest.json" not in " ".join(told(run))
    path.unlink()
    assert "its manifest.json is gone; the recipe's command writes a new one" in told(run)[0]
    assert resumed(run, run.root) == before
    assert shown(run.root)[0]["format_version"] == 3


@pytest.mark.parametrize("name", ["plan.json", "events.jsonl"])
def test_the_advice_about_another_damaged_file_leads_out(run: Case, name: str):
    before = resumed(run, run.root)
    (run.root / name).write_text('{"phase"\n')
    assert name in told(run)[1] and "delete the file" in told(run)[1]
    (run.root / name).unlink()
    assert resumed(run, run.root) == before
    assert told(run) == ("", "")


def test_a_plan_of_another_recipe_is_noticed(run: Case):
    change_json(run.root / "plan.json", lambda plan: plan.update(recipe_hash="another"))
    assert "plan.json: not what the run wrote: the plan of another recipe" in told(run)[0]


def test_a_changed_recipe_text_is_noticed_by_the_report_and_mended_by_the_run(run: Case):
    path = run.root / "recipe.yaml"
    text = path.read_text()
    path.write_text(text.replace("sft", "sfx"))
    assert f"{path}: not what the run wrote" in told(run)[0]
    assert path.read_text() == text  # `told` has run it, too
    assert told(run) == ("", "")


def test_a_run_of_format_1_is_reported_and_not_gone_on_with(run: Case):
    """Its JSON has no seals, its lines no sums, its markers no files."""
    before = shown(run.root)
    for path in run.root.rglob("*.json"):
        content = json.loads(path.read_text())
        for name in ("seal", "files", "recipe", "format"):
            content.pop(name, None)
        if path.name == "manifest.json":
            content |= {"format": "cpt-run", "format_version": 1}
        path.write_text(json.dumps(content))
    for path in run.root.rglob("*.jsonl"):
        rows = [json.loads(line) for line in path.read_text().splitlines()]
        path.write_text("".join(json.dumps({k: v for k, v in row.items() if k != "sum"}) + "\n" for row in rows))
    found = shown(run.root)
    assert {arm: records for arm, (records, _) in found[4].items()} == {a: r for a, (r, _) in before[4].items()}
    assert found[5] == ("A run of format 1: its files have no digests, so that a changed one would not be noticed.",)
    assert "a run of format 1, this cpt writes 3; cpt report reads it" in told(run)[1]


def test_a_run_of_format_2_is_reported_and_not_gone_on_with(run: Case):
    """Training measured drift and listed it; records had their score under strict, and did not say how to read it."""
    before = shown(run.root)
    for path in run.root.rglob("records.parquet"):
        table = pq.read_table(path).drop_columns(["metric", "right_from"])
        pq.write_table(table.rename_columns({"score": "strict"}), path)
    for path in run.root.rglob("DONE.json"):
        files = listing(path.parent, [path.parent / "records.parquet"])
        change_json(path, lambda found, files=files: (found.pop("measures"), found.update(files=files)))
    for path in run.root.rglob("TRAINED.json"):
        shutil.rmtree(path.parent / "evaluated")
        files = listing(path.parent, [path.parent / "drift.parquet"])
        change_json(path, lambda found, files=files: found["files"].update(files))
    change_json(run.root / "manifest.json", lambda found: found.update(format_version=2))
    found = shown(run.root)
    assert (found[4], found[5]) == (before[4], ())
    assert "a run of format 2, this cpt writes 3; cpt report reads it" in told(run)[1]
    drift = stage(run, "sft", 1).drift
    drift.write_bytes(stage(run, "sft", 2).drift.read_bytes())
    assert f"{drift} is not what the run wrote" in told(run)[0]


def test_a_later_format_is_refused(run: Case):
    change_json(run.root / "manifest.json", lambda found: found.update(format_version=4))
    assert "a run of format 4, this cpt reads 1 to 3" in told(run)[0]
    assert "a run of format 4, this cpt writes 3" in told(run)[1]


def test_seals_cannot_be_left_out(run: Case):
    path = stage(run, "sft", 1).done
    content = read_json(path)
    path.write_text(json.dumps(content))
    assert all("its seal is missing" in line for line in told(run))
