"""The run folder: whole files, locks, markers, refusal of what is not ours."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest

from cpt.files import append_jsonl, atomic_path, read_json, read_jsonl, read_records, write_json_atomic, write_records
from cpt.store import RunStore, read_metrics
from cpt.types import Record


@dataclass
class Recipe:
    text: str = "name: test\nseeds: [0]\nlearning_rate: 0.001\n"
    name: str = "test"
    seeds: tuple[int, ...] = (0,)

    def resolved_hash(self) -> str:
        return str(hash(self.text))

    def dump_yaml(self) -> str:
        return self.text


@dataclass(frozen=True)
class Stage:
    arm: str = "sft@lr=0.001"
    seed: int = 0
    index: int = 1
    task: str = "which-row"
    steps: int = 20
    key: str = "key-1"

    def as_dict(self) -> dict[str, object]:
        return asdict(self)


@dataclass
class Plan:
    stages: list[Stage]

    def as_dict(self) -> dict[str, object]:
        return {"stages": [stage.as_dict() for stage in self.stages], "bases": [{"seed": 0, "prompt": "direct"}]}

    def global_batch(self) -> dict[str, int]:
        return {stage.arm: 64 for stage in self.stages}


RECORD = Record(
    arm="sft",
    seed=0,
    stage=1,
    task="which-row",
    sample_id="which-row/test/0",
    prompt="<user> which row ? <assistant>",
    completion="<answer> top </answer>",
    finish_reason="stop",
    extracted="top",
    gold=["top", "upper"],
    strict=1,
    tolerant=1,
    n_tokens=4,
    question_id="0f",
)


@pytest.fixture
def store(tmp_path: Path):
    with RunStore(tmp_path / "run").open_or_create(Recipe()) as opened:
        yield opened


def trained(store: RunStore, stage: Stage) -> None:
    where = store.begin_stage(stage)
    where.policy.mkdir()
    (where.policy / "config.json").write_text("{}")
    store.mark_trained(stage, steps=stage.steps)


def test_folders_of_stages_are_absolute_for_processes_that_work_elsewhere(tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    store = RunStore("runs/here")
    where = store.stage(Stage())
    monkeypatch.chdir("/")
    assert where.policy == tmp_path / "runs/here/arms/sft@lr=0.001/seed-0/01-which-row/policy"
    assert store.report_path == Path("runs/here/report.html")  # shown as it was typed


def test_records_come_back_as_written(tmp_path: Path) -> None:
    records = [RECORD, replace(RECORD, sample_id="which-row/test/1", completion='"zeilen\n<script>', gold=[])]
    write_records(tmp_path / "a.parquet", records)
    write_records(tmp_path / "b.parquet", records)
    assert read_records(tmp_path / "a.parquet") == records
    assert (tmp_path / "a.parquet").read_bytes() == (tmp_path / "b.parquet").read_bytes()


def test_no_records_are_a_readable_file(tmp_path: Path) -> None:
    write_records(tmp_path / "empty.parquet", [])
    assert read_records(tmp_path / "empty.parquet") == []


@pytest.mark.parametrize("keep", [0, 3, 100, -10])
def test_truncated_records_are_a_clear_error(tmp_path: Path, keep: int) -> None:
    path = tmp_path / "records.parquet"
    write_records(path, [RECORD] * 50)
    whole = path.read_bytes()
    path.write_bytes(whole[:keep])
    with pytest.raises(ValueError, match=r"records\.parquet: not a whole parquet file"):
        read_records(path)


def test_records_from_before_questions_had_ids_are_read(tmp_path: Path) -> None:
    import pyarrow.parquet as pq

    path = tmp_path / "records.parquet"
    write_records(path, [RECORD])
    pq.write_table(pq.read_table(path).drop_columns("question_id"), path)
    assert read_records(path) == [replace(RECORD, question_id="")]


def test_records_of_another_layout_are_refused(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    pq.write_table(pa.table({"arm": ["a"]}), tmp_path / "records.parquet")
    with pytest.raises(ValueError, match="columns missing: seed"):
        read_records(tmp_path / "records.parquet")


def test_a_failed_write_leaves_the_old_file_and_no_rest(tmp_path: Path) -> None:
    path = tmp_path / "x.json"
    write_json_atomic(path, {"a": 1})

    def interrupted_write() -> None:
        with atomic_path(path) as temporary:
            temporary.write_text("half")
            raise RuntimeError("boom")

    with pytest.raises(RuntimeError, match="boom"):
        interrupted_write()
    assert read_json(path) == {"a": 1}
    assert [p.name for p in tmp_path.iterdir()] == ["x.json"]


def test_json_never_holds_nan(tmp_path: Path) -> None:
    write_json_atomic(tmp_path / "x.json", {"a": float("nan"), "b": [float("inf"), 1.5]})
    assert json.loads((tmp_path / "x.json").read_text()) == {"a": None, "b": [None, 1.5]}


def test_damaged_json_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "DONE.json").write_text('{"key": ')
    with pytest.raises(ValueError, match=r"DONE\.json: damaged JSON"):
        read_json(tmp_path / "DONE.json")


def test_a_line_cut_off_by_a_kill_is_skipped_and_the_next_one_is_whole(tmp_path: Path) -> None:
    path = tmp_path / "metrics.jsonl"
    append_jsonl(path, {"step": 1})
    with path.open("a") as handle:
        handle.write('{"step": 2, "lo')
    append_jsonl(path, {"step": 2, "loss": 0.5})
    assert read_jsonl(path) == [{"step": 1}, {"step": 2, "loss": 0.5}]


def test_metrics_of_a_resumed_stage_count_each_step_once(store: RunStore) -> None:
    for step, loss in [(1, 3.0), (2, 2.0), (3, 9.0), (2, 2.0), (3, 1.0)]:
        store.append_metrics(Stage(), {"step": step, "loss": loss})
    rows = read_metrics(store.stage(Stage()).metrics)
    assert [(row["step"], row["loss"]) for row in rows] == [(1, 3.0), (2, 2.0), (3, 1.0)]


def test_a_stage_is_trained_only_with_the_plans_key_and_steps(store: RunStore) -> None:
    stage = Stage()
    assert not store.is_trained(stage)
    trained(store, stage)
    assert store.is_trained(stage)
    assert not store.is_trained(replace(stage, key="key-2"))
    assert not store.is_trained(replace(stage, steps=21))
    (store.stage(stage).policy / "config.json").unlink()
    assert not store.is_trained(stage)


def test_fewer_steps_than_planned_are_not_complete(store: RunStore) -> None:
    with pytest.raises(ValueError, match="trained 19 of 20 steps"):
        store.mark_trained(Stage(), steps=19)


def test_a_stage_is_done_after_its_evaluation(store: RunStore) -> None:
    stage = Stage()
    trained(store, stage)
    assert not store.is_done(stage)
    store.mark_done(stage, [RECORD])
    assert store.is_done(stage)
    assert not store.is_done(replace(stage, key="other"))
    store.stage(stage).records.unlink()
    assert not store.is_done(stage)


def test_what_a_stage_of_another_key_left_is_deleted(store: RunStore) -> None:
    trained(store, Stage())
    (store.stage(Stage()).checkpoints / "checkpoint-10").mkdir()
    where = store.begin_stage(Stage())
    assert (where.checkpoints / "checkpoint-10").exists()
    store.begin_stage(replace(Stage(), key="key-2"))
    assert not (where.checkpoints / "checkpoint-10").exists()
    assert not where.trained.exists()


def test_base_rows_become_stage_0_of_every_arm_with_that_prompt(store: RunStore) -> None:
    base = replace(RECORD, arm="base", stage=0)
    store.mark_base_done(0, "direct", "base-key", [base])
    assert store.is_base_done(0, "direct", "base-key")
    assert not store.is_base_done(0, "think", "base-key")
    assert not store.is_base_done(0, "direct", "changed")
    stage = Stage(arm="grpo")
    trained(store, stage)
    store.mark_done(stage, [replace(RECORD, arm="grpo")])
    rows = store.arm_records("grpo", 0, "direct", [(1, "which-row"), (2, "unfinished")])
    assert [(row.arm, row.stage) for row in rows] == [("grpo", 0), ("grpo", 1)]


def test_phases_are_timed_also_when_they_fail(store: RunStore) -> None:
    with store.phase("evaluate", arm="sft", stage=1):
        pass
    with pytest.raises(RuntimeError), store.phase("train", arm="sft"):
        raise RuntimeError
    store.add_event("push", 1.5, arm="sft")
    events = store.events()
    assert [(e["phase"], e["ok"]) for e in events] == [("evaluate", True), ("train", False), ("push", True)]
    store.finish()
    found = read_json(store.manifest_path)
    assert found["phases_seconds"]["push"] == 1.5
    assert found["attempts"][-1]["status"] == "complete"


def test_the_manifest_names_versions_hardware_seeds_and_batch(store: RunStore) -> None:
    store.write_plan(Plan([Stage(arm="sft")]))
    found = read_json(store.manifest_path)
    assert found["versions"]["numpy"]
    assert found["hardware"]["cores"] >= 1
    assert found["seeds"] == [0]
    assert found["global_batch"] == {"sft": 64}
    assert {"working_directory", "cpt"} == set(found["git"])


def test_the_plan_of_further_arms_is_added_to_that_of_earlier_ones(store: RunStore) -> None:
    store.write_plan(Plan([Stage(arm="sft")]))
    store.write_plan(Plan([Stage(arm="grpo"), Stage(arm="sft", steps=30)]))
    plan = read_json(store.plan_path)
    assert [(stage["arm"], stage["steps"]) for stage in plan["stages"]] == [("grpo", 20), ("sft", 30)]
    assert len(plan["bases"]) == 1
    store.write_plan(Plan([Stage(arm="sft")]))
    assert [stage["arm"] for stage in read_json(store.plan_path)["stages"]] == ["sft", "grpo"]
    assert read_json(store.manifest_path)["global_batch"] == {"sft": 64, "grpo": 64}


def test_the_same_recipe_again_continues(tmp_path: Path) -> None:
    for _ in range(2):
        with RunStore(tmp_path).open_or_create(Recipe()) as store:
            store.finish()
    assert len(read_json(tmp_path / "manifest.json")["attempts"]) == 2


def test_a_changed_recipe_is_refused_with_the_difference(tmp_path: Path) -> None:
    RunStore(tmp_path).open_or_create(Recipe()).close()
    changed = Recipe(text=Recipe().text.replace("0.001", "0.01"))
    with pytest.raises(ValueError, match="--fresh") as error:
        RunStore(tmp_path).open_or_create(changed)
    assert "-learning_rate: 0.001\n+learning_rate: 0.01" in str(error.value)
    RunStore(tmp_path).open_or_create(Recipe()).close()  # the refusal gave the lock back


def test_fresh_deletes_the_run_and_nothing_else(tmp_path: Path) -> None:
    with RunStore(tmp_path).open_or_create(Recipe()) as store:
        trained(store, Stage())
    (tmp_path / "notes.txt").write_text("mine")
    changed = Recipe(text="name: other\n")
    RunStore(tmp_path).open_or_create(changed, fresh=True).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == [".lock", "manifest.json", "notes.txt", "recipe.yaml"]
    assert (tmp_path / "recipe.yaml").read_text() == "name: other\n"


@pytest.mark.parametrize("fresh", [False, True])
def test_a_strangers_folder_is_left_alone(tmp_path: Path, fresh: bool) -> None:
    (tmp_path / "arms").mkdir()
    (tmp_path / "thesis.tex").write_text("years of work")
    with pytest.raises(ValueError, match=r"no cpt run.*thesis\.tex"):
        RunStore(tmp_path).open_or_create(Recipe(), fresh=fresh)
    assert (tmp_path / "thesis.tex").exists()
    assert not (tmp_path / ".lock").exists()


def test_a_manifest_of_something_else_is_no_run(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}')
    with pytest.raises(ValueError, match="no cpt run"):
        RunStore(tmp_path).open_or_create(Recipe(), fresh=True)


def test_a_file_in_place_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "run").write_text("")
    with pytest.raises(ValueError, match="not a folder"):
        RunStore(tmp_path / "run").open_or_create(Recipe())


def test_a_folder_below_a_file_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ValueError, match="can't be written"):
        RunStore(tmp_path / "file" / "run").open_or_create(Recipe())


def test_a_second_driver_is_refused_and_told_which_process_holds_the_folder(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from cpt.folder import lock; lock(Path(sys.argv[1])); "
        "print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match=f"in use by another cpt, process {holder.pid}"):
            RunStore(tmp_path).open_or_create(Recipe())
    finally:
        holder.kill()
        holder.communicate()
    RunStore(tmp_path).open_or_create(Recipe()).close()  # a killed holder leaves no lock behind


def test_scores_are_kept_as_they_are_and_those_of_earlier_versions_are_read(tmp_path: Path) -> None:
    import pyarrow as pa
    import pyarrow.parquet as pq

    row = Record("sft", 0, 1, "a", "a/test/0", "p", "c", "stop", "c", ["c"], 0.55, 1.0, 3, "q")
    write_records(tmp_path / "now.parquet", [row])
    assert read_records(tmp_path / "now.parquet") == [row]
    table = pq.read_table(tmp_path / "now.parquet")
    for name, value in (("strict", 0), ("tolerant", 1)):  # whole numbers, as they were once written
        table = table.set_column(table.column_names.index(name), name, pa.array([value], pa.int8()))
    pq.write_table(table, tmp_path / "before.parquet")
    (old,) = read_records(tmp_path / "before.parquet")
    assert (old.strict, old.tolerant) == (0.0, 1.0)
