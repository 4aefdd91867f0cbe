"""Instance filtering on the built-in model: what it keeps is what training would learn from, and it is done once."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest
from stages import Killed, die_at, digest, kept_by_filter, planned, rows, trained

from cpt.methods.filtering import read_filter
from cpt.plan.make import make_plan
from cpt.plan.stages import StagePlan
from cpt.recipe import Recipe
from cpt.rollout.local import LocalPool
from cpt.run.cluster import Placement
from cpt.run.filtering import filtering
from cpt.run.loop import Run
from cpt.run.progress import PlainProgress
from cpt.store.folder import StageDir
from cpt.store.run_store import RunStore
from cpt.train.data import own_samples

pytestmark = [pytest.mark.smoke, pytest.mark.usefixtures("uncompared")]
MODEL = Path("builtin/tiny-qwen2_5-vl")
GRPO = {
    "type": "grpo", "learning_rate": 1e-4, "max_steps": 1, "per_device_train_batch_size": 96, "num_generations": 8,
}  # fmt: skip
SFT = {"type": "sft", "learning_rate": 1e-4, "max_steps": 2, "per_device_train_batch_size": 8}
RIF = {"type": "rif"}


@pytest.fixture(scope="module")
def base(shipped: Path, trainers: None) -> Path:
    return shipped


@pytest.fixture
def calls(pool: LocalPool, monkeypatch: pytest.MonkeyPatch) -> list[tuple[int, int]]:
    """Prompts and completions per prompt of every call to the engine."""
    seen: list[tuple[int, int]] = []
    generate = pool.generate

    def watched(requests: Any, params: Any, *, version: str) -> Any:
        seen.append((len(requests), params.n))
        return generate(requests, params, version=version)

    monkeypatch.setattr(pool, "generate", watched)
    return seen


def stage_of(method: dict[str, Any], **settings: Any) -> StagePlan:
    (stage,) = planned(MODEL, method, **({"samples": 48} | settings))
    return stage


def train(stage: StagePlan, out: Path, pool: LocalPool | None, **options: Any) -> StageDir:
    """As a run does: the filter first, if there is one, and what it keeps to the training."""
    start = Path(stage.model.path)
    return trained(stage, start, out, pool, kept=kept_by_filter(stage, start, out, pool), **options)


def choose(stage: StagePlan, out: Path, pool: LocalPool | None) -> list[str]:
    """Ids of the samples that the filter keeps."""
    samples = own_samples(stage)
    return [samples[position].id for position in kept_by_filter(stage, stage.model.path, out, pool) or ()]


def test_no_group_of_the_first_batch_has_one_reward(pool: LocalPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """The first batch drawn with the filter's own seeds: the very completions that the filter saw, from training's own
    prompts, weights and reward. With training's seeds a prompt that is right 7 times in 8 may be right 8 times."""
    from cpt.train.step import StageGRPOTrainer

    stage = stage_of(GRPO, filter=RIF)
    drawn: list[str] = []
    rollouts = StageGRPOTrainer._rollouts

    def watched(self: Any, asked: Any) -> Any:
        ids, size = [row["sample"].id for row in asked], self.args.num_generations
        drawn.extend(ids)
        seeds = filtering(stage).seed_of
        monkeypatch.setattr("cpt.rollout.sampler.request_seed", lambda key, step, rank, row: seeds(ids[row // size]))
        return rollouts(self, asked)

    monkeypatch.setattr(StageGRPOTrainer, "_rollouts", watched)
    plain = rows(train(stage_of(GRPO), tmp_path / "plain", pool))
    assert plain[0]["frac_zero_std"] > 0
    drawn.clear()
    out = train(stage, tmp_path / "rif", pool)
    (first,) = rows(out)
    assert first["frac_zero_std"] == 0
    seen = {prompt.sample_id: prompt for prompt in read_filter(out.filter).prompts}
    assert len(drawn) == 12
    assert first["reward"] == pytest.approx(sum(seen[name].reward_mean or 0.0 for name in drawn) / 12)
    assert first["true/strict"] == pytest.approx(sum(seen[name].pass_rate for name in drawn) / 12)


def test_every_arm_sees_the_same_rollouts_and_the_control_keeps_as_many(
    pool: LocalPool, tmp_path: Path, calls: list[tuple[int, int]]
):
    settings = {
        "learnable": RIF,
        "solvable": RIF | {"keep": "solvable"},
        "control": RIF | {"control": "random_same_size"},
        "hard": RIF | {"max_pass": 0.5},
    }
    kept = {name: choose(stage_of(SFT, filter=one), tmp_path / name, pool) for name, one in settings.items()}
    assert calls == [(48, 8)] * 4
    files = {name: read_filter(tmp_path / name / "filter.parquet") for name in settings}
    seen = files["learnable"].prompts
    assert all(file.prompts == seen for file in files.values())
    assert kept["learnable"] == [one.sample_id for one in seen if len(set(one.rewards)) > 1]
    assert kept["solvable"] == [one.sample_id for one in seen if any(one.right)]
    assert kept["hard"] == [one.sample_id for one in seen if sum(one.right) <= 4]
    assert 0 < len(kept["learnable"]) == len(kept["control"]) < 48
    assert kept["control"] != kept["learnable"]
    for one in seen:
        assert one.right == tuple(reward == 1 for reward in one.rewards)  # the task's own reward, in full


def test_supervised_training_is_on_what_was_kept(pool: LocalPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    import cpt.train.sft as sft

    taught: list[str] = []

    def watched(samples: Any, *args: Any) -> Any:
        taught.extend(sample.id for sample in samples)
        return rows_of(samples, *args)

    rows_of = sft.sft_rows
    monkeypatch.setattr(sft, "sft_rows", watched)
    stage = stage_of(SFT, filter=RIF)
    out = train(stage, tmp_path, pool)
    found = read_filter(out.filter)
    assert taught == [one.sample_id for one, kept in zip(found.prompts, found.kept, strict=True) if kept]
    assert [row["step"] for row in rows(out)] == [1, 2]


def test_a_stage_that_goes_on_samples_nothing_again(pool: LocalPool, tmp_path: Path, calls: list[tuple[int, int]]):
    stage = stage_of(SFT | {"save_steps": 1}, filter=RIF)
    whole = train(stage, tmp_path / "whole", pool)
    with pytest.raises(Killed):
        train(stage, tmp_path / "killed", pool, on_step=die_at(2))
    assert len(calls) == 2
    killed = train(stage, tmp_path / "killed", None)  # not even a pool is needed
    assert len(calls) == 2
    assert digest(killed.policy) == digest(whole.policy)
    other = stage_of(SFT, filter=RIF | {"keep": "solvable"})  # a file of another stage counts for nothing
    choose(other, tmp_path / "killed", pool)
    assert len(calls) == 3
    assert read_filter(killed.filter).key == other.key


def test_fewer_samples_than_a_batch_are_cycled(pool: LocalPool, tmp_path: Path):
    stage = stage_of(GRPO, filter=RIF, samples=6)
    out = train(stage, tmp_path, pool)
    assert 0 < sum(read_filter(out.filter).kept) < stage.batch_samples
    assert len(rows(out)) == stage.steps


def test_the_driver_filters_before_the_trainer_and_tells(
    pool: LocalPool, tmp_path: Path, calls: list[tuple[int, int]], monkeypatch: pytest.MonkeyPatch
):
    recipe = Recipe.model_validate(
        {
            "version": 1,
            "name": "test",
            "model": {"name_or_path": str(MODEL)},
            "tasks": ["count-colour"],
            "data": {"samples": 48},
            "arms": {"rif": {"method": SFT | {"per_device_train_batch_size": 40}, "filter": RIF}},
        }
    )
    plan, shown = make_plan(recipe), io.StringIO()
    (stage,) = plan.stages
    monkeypatch.setattr(Run, "_prepare_worker", lambda self: None)
    with RunStore(tmp_path).open_or_create(recipe) as store:
        run = Run(plan, store, PlainProgress(shown), Placement(0, 0))
        run.pool = pool
        where = store.begin_stage(stage)
        for _ in range(2):
            run.filter(stage, stage.model.path, where)
        assert [(event["phase"], event["arm"], event["stage"]) for event in store.events()] == [
            ("filter", "rif", 1)
        ] * 2
    assert calls == [(48, 8)]
    kept = sum(read_filter(where.filter).kept)
    first, said = [line.split("] ", 1)[1] for line in shown.getvalue().splitlines()[:2]]
    assert first == "rif seed 0 stage 1/0 count-colour: filter"
    assert said == (
        f"rif, seed 0, stage 1 (count-colour): the filter keeps {kept} of 48 training samples, "
        "fewer than one batch of 40"
    )
    train(stage, where.root, None)
    assert calls == [(48, 8)]


def test_an_emptied_task_is_refused_before_training(pool: LocalPool, tmp_path: Path):
    stage = stage_of(GRPO, filter=RIF | {"rollouts": 2, "min_pass": 0.1, "max_pass": 0.2})
    with pytest.raises(ValueError, match=r"^arm, seed 0, stage 1 \(count-colour\): the filter .* keeps none of 48"):
        train(stage, tmp_path, pool)
    assert not StageDir(tmp_path).metrics.exists()
    assert len(read_filter(StageDir(tmp_path).filter).prompts) == 48  # what was seen is there to look at
    with pytest.raises(ValueError, match="needs a rollout pool"):
        choose(stage_of(SFT, filter=RIF), tmp_path / "none", None)
