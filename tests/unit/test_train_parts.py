"""Policy gradients of StageGRPOTrainer on a table of logits: a batch in one part or in four, once or more often."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from folders import second_stage

torch = pytest.importorskip("torch")
pytest.importorskip("trl")

from cpt.methods.kl import KL  # noqa: E402
from cpt.methods.rapo import RaPO  # noqa: E402
from cpt.plan.stages import StagePlan  # noqa: E402
from cpt.train.gap import GapCheck  # noqa: E402


@pytest.fixture(scope="module")
def tables() -> Iterator[Any]:
    """The toy trainer's module; not imported with this one, because TRL takes seconds."""
    import table_trainer

    with table_trainer.with_trls_output_layer():
        yield table_trainer


RAPO = RaPO(type="rapo", coefficient=0.5, sharpness=2.0, decay=0.5)
RLOO_RAPO = RAPO.model_copy(update={"normalise": "method"})
AVERAGE = KL.model_validate({"reference": "ema", "decay": 0.5, "coefficient": 0.5})
IN_REWARD = KL.model_validate({"in": "reward", "estimator": "k1", "coefficient": 0.5})


@pytest.mark.parametrize("iterations", [1, 2])
@pytest.mark.parametrize(
    ("baseline", "scale", "plugins"),
    [
        ("others_mean", "none", [RLOO_RAPO, AVERAGE]),
        ("others_mean", "none", [IN_REWARD]),
        ("greedy", "none", [AVERAGE]),
        ("group_mean", "group", [RAPO]),
        ("group_mean", "batch", [IN_REWARD]),
    ],
)
def test_four_quarters_are_one_batch(tables: Any, baseline: str, scale: str, plugins: Any, iterations: int):
    whole, quarters, plain = (
        tables.trained(parts, baseline, scale, some, iterations=iterations)
        for parts, some in ((1, plugins), (4, plugins), (1, []))
    )
    assert torch.allclose(whole.table, quarters.table, rtol=0, atol=1e-6)
    for ours, theirs in zip(whole.advantages, quarters.advantages, strict=True):
        assert ours == pytest.approx(theirs, abs=1e-5)
    assert not torch.allclose(whole.table, plain.table, rtol=0, atol=1e-4)  # the plug-ins have done something


@pytest.mark.parametrize(("parts", "iterations", "once"), [(1, 1, True), (1, 2, False), (4, 1, False)])
def test_the_graph_of_the_scoring_pass_is_kept_for_one_backward_pass_alone(
    tables: Any, parts: int, iterations: int, once: bool
):
    toy = tables.Toy(parts, "others_mean", "none", None, iterations)
    batch = toy.generate()
    assert (batch.scores is not None) is once
    assert toy.model.passes == ({True: 1, False: 0} if once else {True: 0, False: parts})
    toy.learn(batch, torch.optim.SGD(toy.model.parameters(), lr=0.5))
    assert toy.model.passes[True] == parts  # one for every backward pass


def test_the_kept_graph_is_what_a_second_pass_would_be(tables: Any):
    from trl.trainer.utils import shuffle_sequence_dict, split_tensor_dict

    def learned(**columns: Any) -> Any:
        toy = tables.Toy(1, "group_mean", "group", None, 1)
        torch.manual_seed(0)
        (shuffled,) = split_tensor_dict(shuffle_sequence_dict(toy.generate().columns()), 1)
        toy._compute_loss(toy.model, shuffled | columns).backward()
        return toy.model.table.grad

    nothing = {"logps": None, "entropies": None, "hidden": None}
    assert learned().any()
    assert torch.allclose(learned(), learned(**nothing), rtol=1e-5, atol=1e-8)  # summed in another order


def test_under_gradient_checkpointing_no_graph_is_kept(tables: Any):
    toy = tables.Toy(1, "group_mean", "group", None, 1)
    toy.args.gradient_checkpointing = True
    assert toy.generate().scores is None


def test_a_prompt_is_read_once_for_its_group(tables: Any):
    toy = tables.Toy(4, "group_mean", "group", None)
    batch = toy.generate()
    assert toy.processor.read == tables.TASKS
    assert batch.prompt_ids.tolist() == [[0]] * 8
    assert batch.completion_ids.tolist() == [[*ids, *[0] * (3 - len(ids))] for ids in tables.SAID]
    assert batch.completion_mask.tolist() == [[1] * len(ids) + [0] * (3 - len(ids)) for ids in tables.SAID]
    assert batch.tokens == sum(map(len, tables.SAID)) == 15
    assert toy.state.num_input_tokens_seen == 8 + 15
    assert toy.logged["completions/mean_length"] == [15 / 8]
    assert toy.logged["completions/max_length"] == [3.0]


def test_an_engine_with_other_weights_is_told_at_once(tables: Any):
    for correction in (True, False):
        toy = tables.Toy(1, "group_mean", "group", None, 1)
        toy.args.vllm_importance_sampling_correction = correction
        batch = toy.generate()
        assert toy.logged.get("sampling/sampling_logp_difference/max", [0.0]) == pytest.approx([0.0], abs=1e-6)
        toy.model.table.data[1, 1] += 0.01  # the engine keeps what it had
        wrong = {"importance": None, "engine_logps": batch.engine_logps, "logps": None}
        with pytest.raises(ValueError, match=r"step 1: .* differ by 0\.00\d+ nats per token"):
            toy._compute_loss(toy.model, batch.columns() | wrong)


@pytest.mark.parametrize("correction", [True, False])
def test_with_or_without_correction_bfloat16_has_to_explain_the_differences(tables: Any, correction: bool):
    """Far below the bound on the largest one; nothing rounds here, so that 1e-4 nats are one unit."""
    toy = tables.Toy(4, "group_mean", "group", None)
    toy.args.vllm_importance_sampling_correction = correction
    toy.tools = replace(toy.tools, gap=GapCheck(0.5, by_rounding=True))
    part = next(toy.generate().cut(2))
    toy._compute_loss(toy.model, part.columns())
    off = {"importance": None, "engine_logps": part.engine_logps - 0.01}
    with pytest.raises(ValueError, match=r"step 1: .* differ by 100\.0 times what bfloat16 explains"):
        toy._compute_loss(toy.model, part.columns() | off)
    toy.state.global_step = 1  # the batch is used again: these weights did not sample it
    toy._compute_loss(toy.model, part.columns() | off)


def test_a_batch_that_mixes_prompts_in_a_group_is_refused(tables: Any):
    toy = tables.Toy(1, "group_mean", "group", None)
    rows = [{"sample": SimpleNamespace(id=str(number // 3))} for number in range(8)]
    with pytest.raises(AssertionError, match="an advantage group mixes the prompts"):
        toy._generate_and_score_completions(rows)


def recap(folder: Path, weigh: str) -> StagePlan:
    """A second stage under RECAP."""
    method = {"type": "grpo", "max_steps": 6, "per_device_train_batch_size": 8, "num_generations": 4}
    return second_stage(folder, method, {"type": "recap", "weigh": weigh, "window": 1, "temperature": 0.5})


@pytest.mark.parametrize("weigh", ["rewards", "advantages"])
def test_recaps_weights_do_not_know_how_a_batch_is_cut(tables: Any, weigh: str, tmp_path: Path):
    plan = recap(tmp_path, weigh)

    class Later(tables.Toy):
        def generate(self) -> Any:
            """The policy gets better at one thing: rewards, and so weights, move."""
            if self.state.global_step:
                self.said = [*tables.SAID[:3], [0, 1], *tables.SAID[4:]]
            return super().generate()

    whole, quarters = (tables.trained(parts, "group_mean", "group", replay=plan, kind=Later) for parts in (1, 4))
    assert torch.allclose(whole.table, quarters.table, rtol=0, atol=1e-6)
    assert whole.advantages == quarters.advantages
    logged = [
        {name: values for name, values in seen.trainer.logged.items() if name.startswith(("objective/", "reward"))}
        for seen in (whole, quarters)
    ]
    assert logged[0] == logged[1]
    # In the second generation accuracy's loss fell from 1/2 to 1/4: c = 2, i = (1/4)/√2 over 3/4; in the others c = 1,
    # i = 0. λ = 4 · softmax(s / 0.5) acts on that very generation. In the third all losses stand still. There is one
    # number for a generation, not one for a step.
    s = 2 + 1 / (3 * math.sqrt(2))
    moved = 4 * math.exp(2 * s) / (math.exp(2 * s) + 3 * math.exp(2))
    assert logged[0]["objective/which-row/accuracy/weight"] == pytest.approx([1.0, moved, 1.0])
    if weigh == "rewards":  # a right completion of which-row earned λ · 1 and, in the format, λ' · 1 beside it
        other = 4 * math.exp(2) / (math.exp(2 * s) + 3 * math.exp(2))
        rewards = [moved * right + other * form for right, form in ((1, 1), (1, 0), (0, 1), (1, 0))]
        mean = sum(rewards) / 4
        deviation = math.sqrt(sum((one - mean) ** 2 for one in rewards) / 3)
        assert whole.advantages[1][:4] == pytest.approx(
            [(one - mean) / (deviation + 1e-4) for one in rewards], abs=1e-5
        )


def test_rapos_coefficient_counts_in_a_group_of_equal_task_rewards(tables: Any):
    """Under the group's own deviation it would cancel."""

    class Even(tables.Toy):
        def reward(self, texts: Any, **_: Any) -> list[float]:
            return [1.0, 1.0, 1.0, 1.0, 0.0, 0.0, 1.0, 1.0]

    def sizes(**changes: Any) -> float:
        seen = tables.trained(1, "group_mean", "group", [RAPO.model_copy(update=changes)], kind=Even)
        return sum(abs(one) for one in seen.advantages[0][:4]) / 4

    full, tenth = sizes(coefficient=0.01), sizes(coefficient=0.001)
    assert full / tenth == pytest.approx(10, rel=0.05)
    cancelled = [sizes(coefficient=one, normalise="method") for one in (0.5, 0.05)]
    assert cancelled[0] == pytest.approx(cancelled[1], rel=0.02)


def test_rloo_compares_with_what_the_others_earned_in_all(tables: Any):
    first = tables.trained(4, "others_mean", plugins=[RLOO_RAPO]).advantages[0]
    logps = torch.tensor([[0.3, -0.2], [0.0, 0.5]]).log_softmax(-1)
    earned = []
    for ids in tables.SAID:
        gained = [float(logps[last, token]) - math.log(0.5) for last, token in pairwise([0, *ids])]
        bonus = 0.5 * math.exp(-2.0 * max(0.0, sum(gained) / len(ids)))
        earned.append(tables.score_of("".join(map(str, ids))).value + bonus)
    expected = [one - (sum(group) - one) / 3 for group in (earned[:4], earned[4:]) for one in group]
    assert first == pytest.approx(expected, abs=1e-5)


def test_remax_compares_with_the_greedy_completion_of_the_prompt(tables: Any):
    seen = tables.trained(4, "greedy", plugins=[AVERAGE])
    earned = [1.0, 0.9, 0.1, 0.0, 0.1, 1.0, 0.9, 1.0]
    assert seen.advantages[0] == pytest.approx([one - 0.1 for one in earned[:4]] + [one - 0.9 for one in earned[4:]])
    # [1, 1, 0] earns what the greedy [1, 0] does, [0, 0, 1] what [0, 1] does
    assert seen.trainer.logged["frac_reward_zero_std"] == [0.25] * 3
    assert seen.trainer.logged["baseline/greedy"] == pytest.approx([0.5] * 3)


def test_a_group_is_wasted_if_no_component_tells_its_completions_apart(tables: Any, tmp_path: Path):
    class Even(tables.Toy):
        def reward(self, texts: Any, *, sample: Any, noted: Any = None, **_: Any) -> list[float]:
            """The first group's two components make up for each other, the second group's do not move."""
            parts = [(1.0, 0.0), (0.0, 1.0)] * 2 + [(1.0, 1.0)] * 4
            noted += [(one.task, {"accuracy": a, "format": b}) for one, (a, b) in zip(sample, parts, strict=True)]
            return [0.5 * a + 0.5 * b for a, b in parts]

    def share(weigh: str) -> float:
        toy = Even(1, "group_mean", "group", tables.Objectives(recap(tmp_path / weigh, weigh)))
        toy.generate()
        (found,) = toy.logged["frac_reward_zero_std"]
        return found

    assert share("advantages") == 0.5
    assert share("rewards") == 1.0
