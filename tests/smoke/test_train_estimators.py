"""Every policy-gradient estimator on the built-in architecture: its advantages in the loss, and what it is equal to."""

from __future__ import annotations

import dataclasses
import math
import statistics
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from stages import Killed, die_at, difference, digest, planned, replace_tasks, rows

from cpt.plan.stages import StagePlan
from cpt.rollout.local import LocalPool
from cpt.store.folder import StageDir
from cpt.tasks import get_task
from cpt.train.stage import train_stage
from cpt.types import Sample
from rewards.score import Score

pytestmark = [pytest.mark.smoke, pytest.mark.usefixtures("uncompared")]
SHARED = {"learning_rate": 1e-3, "max_steps": 2, "per_device_train_batch_size": 8, "max_completion_length": 6}
ESTIMATORS: dict[str, dict[str, Any]] = {
    "grpo": {"type": "grpo"},
    "grpo by the batch": {"type": "grpo", "scale_rewards": "batch"},
    "grpo without std": {"type": "grpo", "scale_rewards": "none"},
    "dr_grpo": {"type": "dr_grpo"},
    "dapo": {"type": "dapo"},
    "gspo": {"type": "gspo"},
    "rloo": {"type": "rloo"},
    "reinforce": {"type": "reinforce"},
    "remax": {"type": "remax", "num_generations": 1},
    "remax of two": {"type": "remax", "num_generations": 2},
}


class Paid:
    """Questions about pictures and a reward that random weights earn now and then; keeps what it has given."""

    name = "count-colour"

    def __init__(self, given: list[float]) -> None:
        self.given = given
        self.task = get_task("count-colour")
        self.messages, self.target, self.score = self.task.messages, self.task.target, self.task.score
        self.fingerprint = self.task.fingerprint

    def samples(self, split: Any, n: int, seed: int = 0) -> list[Sample]:
        return list(self.task.samples(split, n, seed))

    def reward(self, sample: Sample, completion: str, prompt: Any) -> Score:
        self.given.append(len(completion) % 5 / 4)
        return Score(self.given[-1], {}, completion)


@dataclasses.dataclass
class Seen:
    """What one training run did.

    Attributes:
        rewards: given in the first step, in order.
        advantages: [completion] as the first step's loss had them, in the order of the rewards.
        theirs: the same as TRL computes them.
        asked: temperature and completions per prompt of every call to the engine.
    """

    out: StageDir
    rewards: list[float]
    advantages: list[float]
    theirs: list[float]
    asked: list[tuple[float, int]]
    bound: float


def stage_of(base: Path, name: str, **settings: Any) -> StagePlan:
    (stage,) = planned(base, SHARED | {"num_generations": 4} | ESTIMATORS[name] | settings)
    return stage


@pytest.fixture(scope="module")
def trained(base: Path, pool: LocalPool, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], Seen]:
    """Two steps with the estimator of that name; the same run for whoever asks again."""
    from cpt.train.policy import StageGRPOTrainer

    known: dict[str, Seen] = {}

    def train(name: str) -> Seen:
        if name in known:
            return known[name]
        given: list[float] = []
        stage = stage_of(base, name)
        seen = Seen(StageDir(tmp_path_factory.mktemp("out")), [], [], [], [], stage.max_logprob_gap)
        compute_loss, generate = StageGRPOTrainer._compute_loss, pool.generate

        def watched_loss(self: Any, model: Any, inputs: Any) -> Any:
            if not seen.rewards:
                order = inputs["row"].argsort()
                seen.rewards = given[:]
                seen.advantages = inputs["advantages"][order].tolist()
                seen.theirs = list(self._logs["advantages"])
            return compute_loss(self, model, inputs)

        def watched_generate(requests: Any, params: Any, *, version: str) -> Any:
            seen.asked.append((params.temperature, params.n))
            return generate(requests, params, version=version)

        with pytest.MonkeyPatch.context() as patch:
            replace_tasks(patch, lambda _: Paid(given))
            patch.setattr(StageGRPOTrainer, "_compute_loss", watched_loss)
            patch.setattr(pool, "generate", watched_generate)
            train_stage(stage, start_folder=base, out=seen.out, pool=pool)
        known[name] = seen
        return seen

    return train


def by_hand(name: str, rewards: list[float]) -> list[float]:
    """Advantages of the first step, in plain arithmetic. Rewards: eight completions, then greedy ones if any."""
    sampled, greedy = rewards[:8], rewards[8:]
    if name.startswith("remax"):
        size = 8 // len(greedy)
        return [reward - greedy[i // size] for i, reward in enumerate(sampled)]
    assert not greedy
    found = []
    for group in (sampled[:4], sampled[4:]):
        for reward in group:
            if name == "rloo":
                found.append(reward - (sum(group) - reward) / 3)
                continue
            scale = 1.0
            if name in ("grpo", "dapo", "gspo"):
                scale = statistics.stdev(group) + 1e-4
            if name == "grpo by the batch":
                scale = statistics.stdev(sampled) + 1e-4
            found.append((reward - sum(group) / 4) / scale)
    return found


@pytest.mark.parametrize("name", ESTIMATORS)
def test_two_steps_with_the_advantages_of_the_definition(name: str, trained: Callable[[str], Seen], base: Path):
    seen = trained(name)
    assert seen.advantages == pytest.approx(by_hand(name, seen.rewards), abs=2e-5)
    assert len(set(seen.rewards)) > 1 and any(seen.advantages)
    first, second = rows(seen.out)
    for row in (first, second):
        assert row["logprob_gap"] <= seen.bound
        assert math.isfinite(row["loss"]) and row["grad_norm"] > 0
        assert row.get("frac_clipped", 0.0) == 0  # one step per batch: every ratio is 1
    assert digest(seen.out.policy) != digest(base)


class PaidByQuestion(Paid):
    """Whatever is said to a question earns the same, and another question's answers earn something else."""

    def reward(self, sample: Sample, completion: str, prompt: Any) -> Score:
        return Score(sum(map(ord, sample.id)) % 7 / 7, {}, completion)


@pytest.mark.parametrize("name", ["grpo", "grpo by the batch", "rloo", "remax of two"])
def test_groups_of_one_reward_are_counted_whatever_the_estimator(
    name: str, base: Path, pool: LocalPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    replace_tasks(monkeypatch, lambda _: PaidByQuestion([]))
    train_stage(stage_of(base, name, max_steps=1), start_folder=base, out=StageDir(tmp_path), pool=pool)
    (row,) = rows(StageDir(tmp_path))
    assert row["reward_std"] > 0
    assert row["frac_zero_std"] == 1


@pytest.mark.parametrize("name", ["grpo", "grpo by the batch", "grpo without std"])
def test_grpos_advantages_are_trls_to_the_last_bit(name: str, trained: Callable[[str], Seen]):
    assert trained(name).advantages == trained(name).theirs


@pytest.mark.parametrize("scale", ["group", "batch", "none"])
def test_so_they_are_for_rewards_of_many_shapes(scale: Any):
    """TRL's steps (GRPOTrainer._generate_and_score_completions), some rewards missing."""
    import torch
    from trl.trainer.utils import nanstd

    from cpt.methods.advantages import against_group_mean

    random = torch.Generator().manual_seed(0)
    for size in (2, 3, 5, 8, 16):
        for prompts in (1, 2, 7, 33):
            rewards = torch.rand(prompts * size, generator=random)
            rewards[torch.rand(len(rewards), generator=random) < 0.1] = math.nan
            grouped = rewards.view(-1, size)
            theirs = rewards - torch.nanmean(grouped, dim=1).repeat_interleave(size)
            if scale == "group":
                theirs = theirs / (nanstd(grouped, dim=1).repeat_interleave(size) + 1e-4)
            if scale == "batch":
                theirs = theirs / (nanstd(rewards).expand_as(rewards) + 1e-4)
            ours = against_group_mean(grouped, scale).view(-1)
            assert torch.equal(ours, torch.nan_to_num(theirs, nan=0.0))


@pytest.mark.parametrize(("name", "size"), [("remax", 1), ("remax of two", 2)])
def test_remax_asks_for_one_greedy_completion_per_prompt(name: str, size: int, trained: Callable[[str], Seen]):
    seen = trained(name)
    assert seen.asked == [(1.0, size), (0.0, 1)] * 2
    assert len(seen.rewards) == 8 + 8 // size
    first = rows(seen.out)[0]
    assert first["reward"] == pytest.approx(sum(seen.rewards[:8]) / 8)
    assert first["baseline/greedy"] == pytest.approx(sum(seen.rewards[8:]) / (8 // size))
    assert first["frac_zero_std"] == sum(one == 0 for one in seen.advantages) / 8


def test_what_is_equal_on_policy_and_what_is_not(trained: Callable[[str], Seen]):
    """One step per batch of rollouts: see the docstrings of the methods."""
    assert digest(trained("reinforce").out.policy) == digest(trained("dr_grpo").out.policy)
    (grpo, _), (gspo, _) = rows(trained("grpo").out), rows(trained("gspo").out)
    assert gspo["grad_norm"] == pytest.approx(grpo["grad_norm"], rel=1e-4)
    (rloo, _), (reinforce, _) = rows(trained("rloo").out), rows(trained("reinforce").out)
    assert rloo["grad_norm"] == pytest.approx(reinforce["grad_norm"] * 4 / 3, rel=1e-4)
    assert difference(trained("grpo").out, trained("dapo").out) > 1e-5  # it averages over other tokens


@pytest.mark.parametrize("name", ["rloo", "remax"])
def test_a_killed_stage_resumes_to_the_same_weights(
    name: str, base: Path, pool: LocalPool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    replace_tasks(monkeypatch, lambda _: Paid([]))
    stage = stage_of(base, name, max_steps=3, save_steps=1)
    whole, killed = StageDir(tmp_path / "whole"), StageDir(tmp_path / "killed")
    train_stage(stage, start_folder=base, out=whole, pool=pool)
    with pytest.raises(Killed):
        train_stage(stage, start_folder=base, out=killed, pool=pool, on_step=die_at(2))
    assert train_stage(stage, start_folder=base, out=killed, pool=pool).resumed_from == 1
    assert digest(killed.policy) == digest(whole.policy)
    assert rows(killed) == rows(whole)
