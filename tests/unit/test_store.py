"""The run folder: whole files, locks, markers, refusal of what is not ours."""

from __future__ import annotations

import os
import subprocess
import sys
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import pytest
from synthetic import RECORD, mark_done

from cpt.common.files import append_jsonl, read_json
from cpt.store.checks import check_results
from cpt.store.run_store import RunStore, read_metrics


@dataclass
class Recipe:
    text: str = "name: test\nseeds: [0]\nlearning_rate: 0.001\n"
    name: str = "test"
    seeds: tuple[int, ...] = (0,)
    may_change = frozenset({"drift"})

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
        return {
            "stages": [stage.as_dict() for stage in self.stages],
            "bases": [{"seed": 0, "prompt": "direct", "key": "base"}],
        }

    def global_batch(self) -> dict[str, int]:
        return {stage.arm: 64 for stage in self.stages}


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
    assert store.root == Path("runs/here")  # shown as it was typed


def test_metrics_of_a_resumed_stage_count_each_step_once(store: RunStore) -> None:
    for step, loss in [(1, 3.0), (2, 2.0), (3, 9.0), (2, 2.0), (3, 1.0)]:
        append_jsonl(store.stage(Stage()).metrics, {"step": step, "loss": loss})
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
    mark_done(store, store.stage(stage), stage.key, [RECORD])
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
    mark_done(store, store.base_dir(0, "direct"), "base-key", [base])
    stage = Stage(arm="grpo")
    trained(store, stage)
    mark_done(store, store.stage(stage), stage.key, [replace(RECORD, arm="grpo")])
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


def test_a_torn_event_is_no_part_of_what_a_run_is_known_by(store: RunStore) -> None:
    store.add_event("train", 1.0)
    with store.events_path.open("ab") as handle:
        handle.write(b'{"phase": "tra')
    store.finish("failed")
    store.close()
    with RunStore(store.root).open_or_create(Recipe()) as again:
        again.add_event("push", 2.0)  # cuts the torn line off
        assert [event["phase"] for event in again.events()] == ["train", "push"]
        again.finish()
        found = read_json(again.manifest_path)
    assert found["phases_seconds"] == {"train": 1.0, "push": 2.0}
    assert found["events"]["bytes"] == store.events_path.stat().st_size


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
    text = "drift:\n  samples: 16\n" + Recipe.text
    RunStore(tmp_path).open_or_create(Recipe(text)).close()
    changed = Recipe(text.replace("0.001", "0.01").replace("16", "32"))
    with pytest.raises(ValueError, match="--fresh") as error:
        RunStore(tmp_path).open_or_create(changed)
    assert "-learning_rate: 0.001\n+learning_rate: 0.01" in str(error.value)
    assert "samples" not in str(error.value)  # which may change, and is no reason
    RunStore(tmp_path).open_or_create(Recipe(text)).close()  # the refusal gave the lock back


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
        "import os, sys; from pathlib import Path; from cpt.store.folder import lock; held = lock(Path(sys.argv[1])); "
        "os.fork() and print('locked', flush=True); sys.stdin.read()"
    )
    holder = subprocess.Popen(
        [sys.executable, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "locked\n"
        with pytest.raises(ValueError, match=f"in use by another cpt, process {holder.pid}"):
            RunStore(tmp_path).open_or_create(Recipe())
        holder.kill()
        holder.wait()
        # A killed holder leaves no lock behind, nor does a child that it forked and that lives on.
        with RunStore(tmp_path).open_or_create(Recipe()), pytest.raises(ValueError, match="in use by another cpt"):
            RunStore(tmp_path).open_or_create(Recipe())  # of one process, too, only one
    finally:
        holder.kill()
        holder.communicate()


def test_a_lock_that_is_a_link_is_not_written_through(tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    for target in ("mine", "absent"):
        (tmp_path / "run").mkdir(exist_ok=True)
        link = tmp_path / "run" / ".lock"
        link.unlink(missing_ok=True)
        link.symlink_to(tmp_path / target)
        with pytest.raises(ValueError, match=r"\.lock: a link or no file, which cpt does not write to; remove it"):
            RunStore(tmp_path / "run").open_or_create(Recipe())
    assert (tmp_path / "mine").read_text() == "mine"
    assert not (tmp_path / "absent").exists()
    link.unlink()
    os.mkfifo(link)
    with pytest.raises(ValueError, match="a link or no file"):
        RunStore(tmp_path / "run").open_or_create(Recipe())


def test_a_manifest_of_something_else_is_not_called_missing(tmp_path: Path) -> None:
    (tmp_path / "manifest.json").write_text('{"name": "a web app"}')
    with pytest.raises(ValueError, match=r"no cpt run \(it holds manifest\.json; its manifest\.json is not of one\)"):
        RunStore(tmp_path).open_or_create(Recipe())
    (tmp_path / "manifest.json").unlink()
    (tmp_path / "manifest.json").mkdir()
    with pytest.raises(ValueError, match=r"manifest\.json: not a regular file"):
        RunStore(tmp_path).open_or_create(Recipe())


def test_what_another_key_left_unnamed_is_deleted(store: RunStore) -> None:
    """A folder whose stage.json is gone may be anybody's: its checkpoints are not gone on from."""
    where = store.begin_stage(Stage())
    (where.checkpoints / "checkpoint-10").mkdir()
    where.stage_json.unlink()
    store.begin_stage(Stage())
    assert not (where.checkpoints / "checkpoint-10").exists()


def test_every_result_of_a_stage_has_a_digest(store: RunStore) -> None:
    stage = Stage()
    where = store.begin_stage(stage)
    for path in (where.policy / "model.safetensors", where.root / "plugins" / "ewc" / "fisher", where.rollouts):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("content")
    (where.policy / "config.json").write_text("{}")
    (where.checkpoints / "checkpoint-1").mkdir()
    (where.checkpoints / "checkpoint-1" / "optimizer.pt").write_text("not kept")
    store.mark_trained(stage, steps=20)
    assert list(read_json(where.trained)["files"]) == [
        "plugins/ewc/fisher",
        "policy/config.json",
        "policy/model.safetensors",
        "rollouts.jsonl",
    ]
    mark_done(store, store.stage(stage), stage.key, [RECORD])
    assert list(read_json(where.done)["files"]) == ["records.parquet"]
    check_results(store, [stage], [])
    (where.root / "plugins" / "ewc" / "fisher").write_text("contend")
    with pytest.raises(ValueError, match="fisher is not what the run wrote: its bytes have another digest"):
        check_results(store, [stage], [])


def test_what_is_planned_anew_with_another_key_is_refused(store: RunStore) -> None:
    store.write_plan(Plan([Stage()]))
    with pytest.raises(ValueError, match=r"what the recipe reads, or cpt itself, changed since this run was made"):
        store.write_plan(Plan([Stage(key="key-2")]))


def test_a_training_that_is_made_again_has_no_markers_of_the_one_before(store: RunStore) -> None:
    stage = Stage()
    trained(store, stage)
    mark_done(store, store.stage(stage), stage.key, [RECORD])
    where = store.stage(stage)
    (where.policy / "config.json").unlink()  # somebody made room
    store.begin_stage(stage)
    assert not where.trained.exists()
    assert not where.done.exists()
    assert where.records.exists()
    assert not store.is_done(stage)


def test_an_evaluation_that_is_interrupted_again_is_not_taken_for_damage(store: RunStore, monkeypatch) -> None:
    stage = Stage()
    trained(store, stage)
    mark_done(store, store.stage(stage), stage.key, [RECORD])
    store.stage(stage).records.unlink()

    def killed(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr("cpt.store.run_store.write_json_atomic", killed)
        with pytest.raises(KeyboardInterrupt):
            mark_done(store, store.stage(stage), stage.key, [replace(RECORD, completion="another machine's")])
    assert not store.is_done(stage)
    check_results(store, [stage], [])
