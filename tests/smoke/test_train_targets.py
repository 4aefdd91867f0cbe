"""SFT on sampled completions with the built-in model: its own, once and in every epoch, and GRPO's rollouts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file
from stages import Killed, die_at, digest, rows

from cpt.models.load import load_policy, load_processor
from cpt.plan.make import make_plan
from cpt.plan.stages import StagePlan
from cpt.recipe import Recipe
from cpt.rollout.engine import EngineSettings
from cpt.rollout.local import LocalPool, build_engine
from cpt.store.folder import StageDir
from cpt.store.results import write_trained
from cpt.tasks import get_task
from cpt.train.answers import read_answers
from cpt.train.data import own_samples, stage_data
from cpt.train.stage import train_stage

pytestmark = [pytest.mark.smoke, pytest.mark.usefixtures("uncompared")]
NAME, TASK = "builtin/tiny-qwen2_5-vl", "count-colour"
SFT = {"type": "sft", "learning_rate": 1e-3, "max_steps": 6, "per_device_train_batch_size": 4}
GRPO = {"type": "grpo", "learning_rate": 1e-4, "max_steps": 4, "per_device_train_batch_size": 8, "num_generations": 4}


class Listening(LocalPool):
    """Remembers the weights it was given."""

    def push(self, named_tensors: Any, version: str) -> float:
        given = {name: value.clone() for name, value in named_tensors}
        self.given = [*getattr(self, "given", []), given]
        return super().push(given.items(), version)


@pytest.fixture(scope="module")
def base(shipped: Path, trainers: None) -> Path:
    return shipped


@pytest.fixture
def pool(base: Path) -> Listening:
    return Listening(build_engine("hf", EngineSettings(str(base))))


def stages(**arms: Any) -> dict[str, StagePlan]:
    """The one stage of each arm."""
    recipe = {"version": 1, "name": "test", "model": NAME, "tasks": [TASK], "data": {"samples": 8}, "arms": arms}
    recipe["drift"] = {"samples": 0}  # its pushes would be counted among those of the arm's own sampling
    return {stage.arm: stage for stage in make_plan(Recipe.model_validate(recipe)).stages}


def own(refresh: str, tuning: Any = "full", **settings: Any) -> StagePlan:
    data = {"type": "self", "rollouts": 4, "refresh": refresh}
    return stages(sft={"method": SFT | {"data": data} | settings, "tuning": tuning})["sft"]


@pytest.fixture
def imitated(monkeypatch: pytest.MonkeyPatch, base: Path) -> list[str]:
    """What every row of training has as its target."""
    from cpt.train.sft import StageSFTTrainer

    tokenizer, found, step = load_processor(base).tokenizer, [], StageSFTTrainer.training_step

    def training_step(self: Any, model: Any, inputs: Any, *args: Any) -> Any:
        found.extend(" ".join(tokenizer.decode(one[one != -100]).split()) for one in inputs["labels"])
        return step(self, model, inputs, *args)

    monkeypatch.setattr(StageSFTTrainer, "training_step", training_step)
    return found


def chosen(path: Path) -> dict[str, str]:
    """Sample → the completion to imitate, with the end of its turn; after a check of the file."""
    found = {}
    for answers in read_answers(path):
        task = get_task(TASK)
        sample = next(one for one in task.samples("train", 8) if one.id == answers.sample_id)
        assert len(answers.candidates) == 4
        for one in answers.candidates:
            assert one.right == (task.score(sample, one.text, "direct").parts["strict"] == 1)
        if answers.chosen is not None:
            assert answers.candidates[answers.chosen].right
            found[answers.sample_id] = f"{answers.candidates[answers.chosen].text} <|im_end|>"
    return found


def same(given: dict[str, Any], folder: Path) -> bool:
    """Whether the weights are those of a policy's folder, or of a checkpoint, where all of them are trained."""
    trained = folder / "trained.safetensors"
    there = load_file(trained) if trained.exists() else dict(load_policy(folder).named_parameters())
    return all(value.equal(given[name]) for name, value in there.items())


def test_one_shot_imitates_what_the_start_has_said(base: Path, pool: Listening, tmp_path: Path, imitated: list[str]):
    out = StageDir(tmp_path)
    stage = own("stage")
    train_stage(stage, start_folder=base, out=out, pool=pool)
    assert [path.name for path in out.generated.iterdir()] == ["stage.jsonl"]
    targets = chosen(out.generated / "stage.jsonl")
    assert 1 <= len(targets) < 8  # some prompts are dropped, and the others read again
    samples = own_samples(stage)
    read = [targets.get(samples[position].id) for position in stage_data(stage, samples).order]
    kept = [text for text in read if text is not None]
    assert imitated == (kept * 8)[:24]
    assert len(pool.given) == 1
    assert same(pool.given[0], base)
    first, *others = rows(out)
    assert first["targets/kept"] == len(targets) / 8
    assert 0 < first["targets/right"] < 1
    assert not any("targets/kept" in row for row in others)
    assert digest(out.policy) != digest(base)


@pytest.mark.parametrize(
    ("tuning", "settings", "died"),
    [("full", {}, 4), ({"type": "lora", "r": 2, "alpha": 4}, {"gradient_accumulation_steps": 2, "max_steps": 3}, 2)],
)
def test_every_epoch_imitates_the_policy_before_it(
    base: Path, pool: Listening, tmp_path: Path, imitated: list[str], tuning: Any, settings: Any, died: int
):
    """Eight samples: an epoch is two steps of four rows, or one of eight."""
    stage = own("epoch", tuning, save_steps=1, save_total_limit=10, **settings)
    whole, killed = StageDir(tmp_path / "whole"), StageDir(tmp_path / "killed")
    train_stage(stage, start_folder=base, out=whole, pool=pool)
    files = [whole.generated / f"epoch-{number}.jsonl" for number in range(3)]
    assert sorted(whole.generated.iterdir()) == files
    for number, path in enumerate(files):
        said = set(imitated[number * 8 : number * 8 + 8])
        assert said == set(chosen(path).values())
    assert len({path.read_text() for path in files}) == 3
    assert len(pool.given) == 3
    assert same(pool.given[0], base)
    if tuning == "full":
        assert same(pool.given[1], whole.checkpoints / "checkpoint-2")
        assert same(pool.given[2], whole.checkpoints / "checkpoint-4")
    else:
        moved = [name for name, value in pool.given[1].items() if not value.equal(pool.given[0][name])]
        assert moved
        assert not any("lora" in name for name in pool.given[1])
    # Killed in the second epoch's last step: what that epoch imitates is on disk, and is not sampled again.
    with pytest.raises(Killed):
        train_stage(stage, start_folder=base, out=killed, pool=pool, on_step=die_at(died))
    before = len(pool.given)
    assert train_stage(stage, start_folder=base, out=killed, pool=pool).resumed_from == died - 1
    assert len(pool.given) == before + 1
    assert digest(killed.policy) == digest(whole.policy)
    assert rows(killed) == rows(whole)
    assert all((killed.generated / path.name).read_text() == path.read_text() for path in files)


def test_rollouts_of_another_arm(base: Path, pool: Listening, tmp_path: Path, imitated: list[str]):
    data = {"type": "rollouts", "arm": "grpo"}
    plan = stages(grpo={"method": GRPO | {"save_steps": 1}}, sft={"method": SFT | {"data": data}})
    theirs, ours = (StageDir(tmp_path / "arms" / arm / "seed-0" / f"01-{TASK}") for arm in ("grpo", "sft"))
    with pytest.raises(ValueError, match="run grpo before this arm"):
        train_stage(plan["sft"], start_folder=base, out=ours)
    with pytest.raises(Killed):
        train_stage(plan["grpo"], start_folder=base, out=theirs, pool=pool, on_step=die_at(3))
    train_stage(plan["grpo"], start_folder=base, out=theirs, pool=pool)
    write_trained(theirs, plan["grpo"].key, plan["grpo"].steps)
    lines = [json.loads(line) for line in theirs.rollouts.read_text().splitlines()]
    assert [line["step"] for line in lines] == [step for step in (1, 2, 3, 4) for _ in range(8)]
    for step, row in enumerate(rows(theirs), start=1):
        now = [line for line in lines if line["step"] == step]
        assert row["reward"] == pytest.approx(sum(line["reward"] for line in now) / 8)
        assert row["true/strict"] == sum(line["right"] for line in now) / 8
    train_stage(plan["sft"], start_folder=base, out=ours)
    right = {f"{line['completion']} <|im_end|>" for line in lines if line["right"]}
    assert set(imitated) <= right
    assert rows(ours)[0]["targets/kept"] == len({line["sample_id"] for line in lines if line["right"]}) / 8
    assert not theirs.generated.exists()
    assert not ours.rollouts.exists()


def test_an_arm_that_samples_needs_a_pool(base: Path, tmp_path: Path):
    with pytest.raises(ValueError, match="needs a rollout pool"):
        train_stage(own("stage"), start_folder=base, out=StageDir(tmp_path))


def test_a_policy_that_is_never_right_has_nothing_to_imitate(base: Path, pool: Listening, tmp_path: Path):
    data = {"type": "self", "rollouts": 2, "max_completion_length": 1}
    stage = stages(sft={"method": SFT | {"data": data}})["sft"]
    with pytest.raises(ValueError, match=r"none of 8 prompts has a completion to imitate.*fallback: gold"):
        train_stage(stage, start_folder=base, out=StageDir(tmp_path / "drop"), pool=pool)
    assert not (tmp_path / "drop" / "metrics.jsonl").exists()
    stage = stages(sft={"method": SFT | {"data": data | {"fallback": "gold"}, "max_steps": 1}})["sft"]
    assert train_stage(stage, start_folder=base, out=StageDir(tmp_path / "gold"), pool=pool).steps == 1


def test_worked_solutions_are_imitated_under_either_prompt(base: Path, tmp_path: Path, imitated: list[str]):
    task = get_task(TASK)
    solutions = {f"{task.target(sample, 'think', 'direct')} <|im_end|>" for sample in task.samples("train", 8)}
    for prompt in ("direct", "think"):
        method = SFT | {"target_style": "think", "max_steps": 2}
        stage = stages(sft={"method": method, "prompt": prompt})["sft"]
        train_stage(stage, start_folder=base, out=StageDir(tmp_path / prompt))
        assert set(imitated) == solutions
        imitated.clear()
