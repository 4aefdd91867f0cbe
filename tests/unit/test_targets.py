"""Whose answers SFT imitates: the choice among completions, recipes and their refusals, keys, and what lies on disk."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, cast

import pytest
from folders import model_folder

from cpt.cli.plan_table import rollout_lines, row
from cpt.common.files import read_jsonl, write_json_atomic
from cpt.methods.targets import Candidate, choose, cycled
from cpt.plan.disk import estimate_bytes
from cpt.plan.make import make_plan
from cpt.plan.run_plan import RunPlan
from cpt.plan.stages import StagePlan
from cpt.recipe import Recipe, RecipeError, load_recipe
from cpt.store.folder import StageDir
from cpt.store.results import written
from cpt.tasks import get_task
from cpt.train.answers import Answers, OwnAnswers, SavedAnswers, read_answers, write_answers
from cpt.train.data import StageData, sft_rows
from cpt.train.log import keep_until
from cpt.train.rollouts import RolloutLog, saved_rollouts
from cpt.train.targets import TargetRows
from cpt.types import Completion, Sample

RIGHT, WRONG, CUT = Candidate("a", True, True), Candidate("b", False, True), Candidate("c", True, False)
BASE = """\
version: 1
name: demo
seeds: [0, 1]
model: {name_or_path: MODEL}
tasks: [count-colour, which-row]
data: {samples: 64}
arms:
  grpo: {method: {type: grpo, max_steps: 10, per_device_train_batch_size: 32}}
  swept: {method: {type: rloo, max_steps: 10, per_device_train_batch_size: 32}, sweep: {learning_rate: [0.1, 0.2]}}
  sft: {method: {type: sft, max_steps: 3, per_device_train_batch_size: 32}}
  late: {method: {type: grpo, max_steps: 10, per_device_train_batch_size: 32}}
"""
OTHER = "arms.sft.method.data={type: rollouts, arm: grpo}"


@pytest.fixture
def load(tmp_path: Path):
    model = model_folder(tmp_path / "model")

    def load(*overrides: str) -> Recipe:
        path = tmp_path / "demo.yaml"
        path.write_text(BASE.replace("MODEL", str(model)))
        return load_recipe(path, overrides)

    return load


def keys(plan: RunPlan, arm: str) -> list[str]:
    return [stage.key for stage in plan.arms[arm, 0]]


# ---- the choice


def test_only_whole_and_right_completions_are_imitated():
    among = [WRONG, CUT, RIGHT, WRONG]
    assert {choose(among, "right", f"seed {i}") for i in range(20)} == {2}
    assert {choose(among, "all", f"seed {i}") for i in range(40)} == {0, 2, 3}
    assert choose([WRONG, CUT], "right", "seed") is None
    assert choose([CUT], "all", "seed") is None
    assert choose([], "all", "seed") is None


def test_the_seed_decides():
    among = [RIGHT] * 8
    found = [choose(among, "right", f"0/1/0/sample-{i}") for i in range(100)]
    assert found == [choose(among, "right", f"0/1/0/sample-{i}") for i in range(100)]
    assert set(found) == set(range(8))


def test_what_is_left_keeps_its_order_and_is_repeated():
    assert cycled([3, 1, 2, 0, 3, 1], {0, 1}) == [1, 0, 1, 1, 0, 1]
    assert cycled([3, 1, 2], {1, 2, 3}) == [3, 1, 2]
    assert cycled([3, 1, 2], set()) == []


# ---- rows


def stage_of(plan: RunPlan, arm: str = "sft") -> StagePlan:
    return plan.arms[arm, 0][0]


def rows_of(load: Any, setting: str, right: Sequence[int], order: Sequence[int], epoch: int) -> tuple[Any, list[Any]]:
    """Rows over four samples of which those at `right` have an answer, and the calls of their source."""
    stage = stage_of(make_plan(load(f"arms.sft.method.data={setting}")))
    samples = get_task("count-colour").samples("train", 4)
    calls: list[Any] = []

    def source(number: int, asked: Sequence[Sample], new: bool) -> list[Answers]:
        calls.append((number, [samples.index(sample) for sample in asked], new))
        found = []
        for sample in asked:
            mine = Candidate(f"{samples.index(sample)} in epoch {number}", True, True)
            found.append(Answers(sample.id, (mine,), 0 if samples.index(sample) in right else None))
        return found

    gold = sft_rows(samples, "direct", "policy")
    return TargetRows(stage, StageData(samples, list(order)), gold, epoch, source), calls


def said(row: dict[str, Any]) -> str:
    return row["completion"][0]["content"]


def test_prompts_without_an_answer_are_left_out_of_their_epoch(load):
    rows, calls = rows_of(load, "{type: self, refresh: epoch}", [0, 2], [3, 0, 1, 2, 2, 1], epoch=4)
    assert [said(rows[i]) for i in range(6)] == [
        *("0 in epoch 0", "2 in epoch 0", "0 in epoch 0", "2 in epoch 0"),
        *("2 in epoch 1", "2 in epoch 1"),
    ]
    assert calls == [(0, [0, 1, 2, 3], True), (1, [1, 2], True)]
    assert rows[1]["prompt"] == rows.gold[2]["prompt"]
    assert rows[1]["images"] == rows.gold[2]["images"]


def test_or_get_the_gold_answer(load):
    rows, _ = rows_of(load, "{type: self, fallback: gold}", [0, 2], [3, 0, 1, 2], epoch=4)
    gold = [said(row) for row in rows.gold]
    assert [said(rows[i]) for i in range(4)] == [gold[3], "0 in epoch 0", gold[1], "2 in epoch 0"]
    assert gold[3].startswith("<answer> ")


def test_a_resumed_epoch_is_not_a_new_one(load):
    rows, calls = rows_of(load, "{type: self, refresh: epoch}", [0, 1, 2, 3], [3, 0, 1, 2, 2, 1, 0, 3], epoch=4)
    assert said(rows[5]) == "1 in epoch 1"
    assert calls == [(1, [0, 1, 2, 3], False)]
    assert rows.take_metrics() == {}


def test_an_epoch_that_begins_is_logged_once(load):
    rows, _ = rows_of(load, "{type: self}", [2], [3, 0, 1, 2], epoch=4)
    rows[0]
    assert rows.take_metrics() == {"targets/kept": 0.25, "targets/right": 1.0}
    rows[1]
    assert rows.take_metrics() == {}


def test_nothing_to_imitate_is_an_error(load):
    rows, _ = rows_of(load, "{type: self}", [], [3, 0, 1, 2], epoch=4)
    with pytest.raises(
        ValueError, match=r"sft, seed 0, stage 1 .*none of 4 prompts has a completion.*set method.data.fallback: gold"
    ):
        rows[0]


# ---- recipes


def test_gold_answers_are_the_default_and_leave_the_keys_alone(load):
    plain = make_plan(load())
    said_so = make_plan(load("arms.sft.method.data={type: gold}"))
    assert keys(said_so, "sft") == keys(plain, "sft")
    assert stage_of(plain).method.title == "sft (policy)"
    assert (stage_of(plain).max_completion_length, stage_of(plain).method.needs_pool) == (None, False)


def test_own_answers_are_other_work(load):
    found = {}
    for setting in ("", "keep: all", "refresh: epoch", "rollouts: 4", "fallback: gold", "temperature: 0.5"):
        plan = make_plan(load(f"arms.sft.method.data={{type: self, {setting}}}"))
        found[setting] = keys(plan, "sft")[0]
        assert stage_of(plan).max_completion_length == 8
        assert stage_of(plan).method.needs_pool
    assert len({*found.values(), keys(make_plan(load()), "sft")[0]}) == 7
    limited = make_plan(load("arms.sft.method.data={type: self, refresh: epoch, max_completion_length: 5}"))
    assert row(limited.arms["sft", 0])[1] == "sft (self, each epoch)"
    assert row(limited.arms["sft", 0])[-1] == "5"


def test_imitated_rollouts_are_part_of_the_key(load):
    plan = make_plan(load(OTHER))
    for ours, theirs in zip(plan.arms["sft", 1], plan.arms["grpo", 1], strict=True):
        assert (ours.rollouts_key, ours.leaves_rollouts) == (theirs.key, False)
        assert (theirs.rollouts_key, theirs.leaves_rollouts) == (None, True)
    changed = make_plan(load(OTHER, "arms.grpo.method.learning_rate=0.5"))
    assert not set(keys(changed, "sft")) & set(keys(plan, "sft"))
    # Another arm's wish for rollouts does not change the work that makes them.
    assert keys(plan, "grpo") == keys(make_plan(load()), "grpo")
    assert rollout_lines({arm: stages for (arm, _), stages in plan.arms.items()}) == [
        "rollouts    kept of grpo: another arm imitates them"
    ]
    assert rollout_lines({arm: stages for (arm, _), stages in make_plan(load()).arms.items()}) == []


def test_an_arm_alone_knows_whom_it_imitates(load):
    both = make_plan(load(OTHER))
    assert keys(make_plan(load(OTHER), ["sft"]), "sft") == keys(both, "sft")
    assert make_plan(load(OTHER), ["grpo"]).arms["grpo", 0][0].leaves_rollouts


def test_a_point_of_a_sweep_can_be_imitated(load):
    plan = make_plan(load("arms.sft.method.data={type: rollouts, arm: swept@learning_rate=0.2}"))
    assert stage_of(plan).rollouts_key == keys(plan, "swept@learning_rate=0.2")[0]
    assert not stage_of(plan, "swept@learning_rate=0.1").leaves_rollouts
    assert stage_of(plan).method.title == "sft (rollouts of swept@learning_rate=0.2)"


def test_kept_completions_take_room(load):
    before = estimate_bytes(make_plan(load()))
    assert before is not None
    # 2 seeds × 2 stages × 10 batches of 32 completions of at most 8 tokens.
    assert estimate_bytes(make_plan(load(OTHER))) == before + 4 * 320 * (120 + 4 * 8)
    # 96 rows are one and a half passes over 64 samples.
    own = "arms.sft.method.data={type: self, refresh: epoch, rollouts: 4}"
    assert estimate_bytes(make_plan(load(own))) == before + 4 * 96 * 4 * (120 + 4 * 8)


@pytest.mark.parametrize(
    ("overrides", "problem"),
    [
        (["arms.sft.method.data={type: rollouts, arm: gpro}"], "there is no arm 'gpro'; did you mean 'grpo'?"),
        (["arms.sft.method.data={type: rollouts, arm: sft}"], "'sft' trains by sft, which samples nothing to imitate"),
        (
            ["arms.sft.method.data={type: rollouts, arm: swept}"],
            "'swept' is a sweep; name one of its points, such as 'swept@learning_rate=0.1'",
        ),
        ([OTHER, "arms.grpo.prompt=think"], "'grpo' was asked with prompt: think, this arm with direct"),
        ([OTHER, "arms.grpo.schedule=joint"], "'grpo' has schedule: joint, this arm sequential; give both the same"),
        ([OTHER, "arms.sft.merge=warp"], "arms.sft.merge: warp trains a stage several times, on one set of targets"),
        (["arms.sft.method.data={type: self}", "arms.sft.merge=warp"], "set method.data: {type: gold}"),
        (
            [OTHER, "arms.grpo.merge=warp"],
            "'grpo' trains a stage several times (merge: warp) and keeps the rollouts of",
        ),
        ([OTHER.replace("grpo", "late")], "'late' runs after this arm; move it above"),
        (
            ["arms.sft.method.data={type: self}", "arms.sft.replay={type: buffer}"],
            "arms.sft.replay: replayed samples have gold answers alone",
        ),
        (
            ["arms.sft.method.data={type: self}", "arms.sft.method.target_style=think"],
            "arms.sft.method.target_style: is the style of gold answers, and data.type is self; leave it out",
        ),
        (["arms.sft.method.data={type: self, arm: grpo}"], "arms.sft.method.data.arm: belongs to type: rollouts"),
        (["arms.sft.method.data={type: self, rollouts: 0}"], "arms.sft.method.data.rollouts: must be greater than 0"),
        (["arms.sft.method.data={type: selv}"], "unknown type 'selv'; did you mean 'self'?"),
        (["arms.grpo.method.data={type: self}"], "arms.grpo.method.data: belongs to type: sft"),
    ],
)
def test_contradictions_say_what_to_change(load, overrides: list[str], problem: str):
    with pytest.raises(RecipeError) as error:
        load(*overrides)
    assert problem in str(error.value)


def test_the_kind_of_own_answers_can_be_swept(load):
    recipe = load("arms.sft.method.data={type: self}", "arms.sft.sweep={data.refresh: [stage, epoch]}")
    assert [arm for arm, seed in make_plan(recipe).arms if seed == 0 and "sft" in arm] == [
        "sft@refresh=stage",
        "sft@refresh=epoch",
    ]


def test_joint_stages_may_imitate_too(load):
    plan = make_plan(load(OTHER, "arms.sft.schedule=joint", "arms.grpo.schedule=joint"))
    assert stage_of(plan).rollouts_key == keys(plan, "grpo")[0]


# ---- on disk


def test_answers_come_back_as_they_were_written(tmp_path: Path):
    found = [Answers("x/0", (RIGHT, replace(CUT, text="line\u2028end\n")), 0), Answers("x/1", (WRONG,), None)]
    write_answers(tmp_path / "a.jsonl", found)
    assert read_answers(tmp_path / "a.jsonl") == found
    (first, _) = read_jsonl(tmp_path / "a.jsonl")
    assert first["right"] == [True, True]
    assert first["whole"] == [True, False]


def own_answers(load: Any, folder: Path) -> OwnAnswers:
    stage = stage_of(make_plan(load("arms.sft.method.data={type: self, refresh: epoch}")))
    return OwnAnswers(stage, folder, cast("Any", None), None)  # a pool and a trainer that must not be asked


def test_an_epoch_whose_file_is_there_is_not_sampled_again(load, tmp_path: Path):
    source = own_answers(load, tmp_path)
    samples = get_task("count-colour").samples("train", 2)
    found = [Answers(sample.id, (RIGHT,), 0) for sample in samples]
    write_answers(source.file(3), found)
    assert source(3, samples, False) == source(3, samples, True) == found
    with pytest.raises(ValueError, match=r"epoch-3\.jsonl: answers to other samples"):
        source(3, samples[:1], True)
    with pytest.raises(ValueError, match=r"epoch-2\.jsonl: missing, and the policy that it was sampled from has moved"):
        source(2, samples, False)


def test_rollouts_are_found_by_sample_in_the_stage_they_came_from(load, tmp_path: Path):
    stage = stage_of(make_plan(load(OTHER)))
    ours = StageDir(tmp_path / "arms" / "sft" / "seed-0" / "01-count-colour")
    theirs = ours.of_arm("grpo")
    assert theirs.root == tmp_path / "arms" / "grpo" / "seed-0" / "01-count-colour"
    samples = get_task("count-colour").samples("train", 3)
    good, bad = f"<answer> {samples[0].gold[0]} </answer>", "<answer> none </answer>"
    log = RolloutLog(theirs.rollouts, "direct")

    def completions(*texts: str) -> list[Completion]:
        return [Completion([1], [0.0], text, "length" if text == good + " so" else "stop") for text in texts]

    log.write(1, [samples[0]] * 2, completions(bad, good), [0.0, 1.0])
    log.write(2, [samples[0], samples[1]], completions(good + " so", bad), [0.5, float("nan")])
    log.write(3, [samples[2]], completions(bad), [0.0])
    keep_until(theirs.rollouts, 2)
    lines = [json.loads(line) for line in theirs.rollouts.read_text().splitlines()]
    assert [(line["step"], line["reward"], line["right"]) for line in lines] == [
        (1, 0.0, False),
        (1, 1.0, True),
        (2, 0.5, lines[2]["right"]),
        (2, None, False),
    ]
    with pytest.raises(ValueError, match=r"the rollouts of arm grpo are not there; run grpo before this arm"):
        saved_rollouts(theirs, "key", "grpo")
    theirs.policy.mkdir()
    marker = {"steps": 2, "files": written(theirs)}
    write_json_atomic(theirs.trained, {"key": "another", **marker}, sealed=True)
    with pytest.raises(ValueError, match="run grpo before this arm"):
        saved_rollouts(theirs, "key", "grpo")
    write_json_atomic(theirs.trained, {"key": "key", **marker}, sealed=True)
    found = SavedAnswers(stage, saved_rollouts(theirs, "key", "grpo"))(0, samples, True)
    assert [[one.text for one in answers.candidates] for answers in found] == [[bad, good, good + " so"], [bad], []]
    assert [answers.chosen for answers in found] == [1, None, None]
    theirs.rollouts.write_text(theirs.rollouts.read_text().replace("0.5", "0.7"))
    with pytest.raises(ValueError, match=r"rollouts\.jsonl is not what the run wrote"):
        saved_rollouts(theirs, "key", "grpo")
