"""Instance filtering: what each rule keeps, by hand; what a recipe may say of it; the file it leaves."""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from pydantic import TypeAdapter

from cpt.cli.filter import filter_stage
from cpt.methods.filtering import (
    RIF,
    Filter,
    FilterFile,
    PromptRollouts,
    emptied,
    histogram,
    read_filter,
    select,
    write_filter,
)
from cpt.plan.make import make_plan
from cpt.recipe import RecipeError, expand_arms, load_recipe
from cpt.recipe.schema import Recipe
from cpt.run.filtering import kept_samples
from cpt.train.data import own_samples

RECIPE = """\
version: 1
name: demo
model: builtin/tiny-qwen2_5-vl
tasks: [count-colour, which-row]
arms:
  rif: {method: {type: grpo, max_steps: 10}, filter: FILTER}
"""
SFT = "{type: sft, max_steps: 10, per_device_train_batch_size: 8}"


def rif(**settings: object) -> RIF:
    return TypeAdapter(Filter).validate_python({"type": "rif"} | settings)


def prompt(name: str, right: str, rewards: list[float | None] | None = None) -> PromptRollouts:
    """A prompt with one completion per digit of `right`; the reward is 1 for a right one unless given."""
    bits = tuple(bit == "1" for bit in right)
    given = [float(bit) for bit in bits] if rewards is None else rewards
    return PromptRollouts(name, "t", tuple("yes" if bit else "no" for bit in bits), tuple(given), bits)


NEVER, SOME, ALWAYS = prompt("never", "00000000"), prompt("some", "01001010"), prompt("always", "11111111")
THREE = [ALWAYS, NEVER, SOME]


def kept(rule: RIF, prompts: list[PromptRollouts], seed: str = "0/1") -> list[str]:
    return [one.sample_id for one, chosen in zip(prompts, select(rule, prompts, seed), strict=True) if chosen]


def test_a_prompts_numbers_by_hand():
    assert (NEVER.passes, SOME.passes, ALWAYS.passes) == (0, 3, 8)
    assert (NEVER.pass_rate, SOME.pass_rate, ALWAYS.pass_rate) == (0, 0.375, 1)
    two = prompt("two", "10", [0.9, 0.1])
    assert two.reward_mean == pytest.approx(0.5)
    assert two.reward_std == pytest.approx(0.32**0.5)  # 2 · 0.4² over 2 − 1
    assert histogram([*THREE, SOME]) == [1, 0, 0, 2, 0, 0, 0, 0, 1]
    assert histogram([]) == []


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, ["some"]),
        ({"keep": "learnable"}, ["some"]),
        ({"keep": "solvable"}, ["always", "some"]),
        ({"min_pass": 0.375}, ["always", "some"]),  # inclusive
        ({"min_pass": 0.376}, ["always"]),
        ({"max_pass": 0.375}, ["never", "some"]),
        ({"min_pass": 0.1, "max_pass": 0.9}, ["some"]),
        ({"min_pass": 0.0, "max_pass": 0.0}, ["never"]),
        ({"min_pass": 1.0}, ["always"]),
    ],
)
def test_what_each_rule_keeps_in_order(settings, expected):
    assert kept(rif(**settings), THREE) == expected


def test_a_bound_of_thirds_is_inclusive_too():
    assert kept(rif(rollouts=10, max_pass=0.3), [prompt("three", "1110000000")]) == ["three"]


def test_learnable_asks_the_reward_and_solvable_the_scoring():
    formatted = prompt("formatted", "000", [0.0, 0.1, 0.0])  # never right, now and then in the format
    flat = prompt("flat", "010", [0.5, 0.5, 0.5])  # right once, and paid the same
    tie = prompt("tie", "01", [0.3, 0.1 + 0.2])  # one reward, but for rounding
    assert kept(rif(), [formatted, flat, tie]) == ["formatted"]
    assert kept(rif(keep="solvable"), [formatted, flat, tie]) == ["flat", "tie"]


def test_rewards_that_could_not_be_given_do_not_count():
    assert kept(rif(), [prompt("one", "01", [None, 1.0]), prompt("two", "011", [None, 1.0, 0.0])]) == ["two"]
    nothing = prompt("nothing", "01", [None, None])
    assert (nothing.reward_mean, nothing.reward_std, nothing.varied) == (None, None, False)


def test_the_control_is_a_random_subset_of_the_same_size():
    prompts = [prompt(str(i), "01" if i % 3 == 0 else "11") for i in range(30)]
    control = rif(rollouts=2, control="random_same_size")
    drawn = kept(control, prompts)
    assert len(drawn) == len(kept(rif(rollouts=2), prompts)) == 10
    assert drawn == sorted(drawn, key=int)
    assert drawn != kept(rif(rollouts=2), prompts)
    assert drawn == kept(control, prompts)
    assert drawn != kept(control, prompts, "0/2") != kept(control, prompts, "1/2")
    assert kept(control, [NEVER, ALWAYS]) == []


def test_an_emptied_task_is_told_with_its_histogram():
    text = emptied(rif(), [NEVER, ALWAYS, NEVER], "count-colour")
    assert "(learnable) keeps none of 3 training samples of count-colour" in text
    assert "0/8 2, 8/8 1" in text
    assert "\n" not in text


# ---- in recipes


def load(tmp_path: Path, settings: str) -> Recipe:
    path = tmp_path / "demo.yaml"
    path.write_text(RECIPE.replace("FILTER", settings))
    return load_recipe(path)


def test_defaults_and_the_short_form(tmp_path):
    for settings in ("rif", "{type: rif}", "{type: rif, keep: learnable, rollouts: 8, control: none}"):
        assert load(tmp_path, settings).arms["rif"].filter == rif()
    found = load(tmp_path, "{type: rif, min_pass: 0.25}")
    assert found.arms["rif"].filter.keep is None
    assert Recipe.model_validate(found.resolved()) == found
    assert load(tmp_path, "rif").resolved_hash() != load(tmp_path, "{type: rif, keep: solvable}").resolved_hash()


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ("{type: rif, keep: solvable, min_pass: 0.1}", "filter.keep: excludes min_pass"),
        ("{type: rif, keep: null}", "filter.keep: is null without min_pass or max_pass; set learnable or solvable"),
        ("{type: rif, min_pass: 0.9, max_pass: 0.1}", "filter.min_pass: is 0.9, above max_pass 0.1"),
        ("{type: rif, max_pass: 1.2}", "filter.max_pass: must be less than or equal to 1, not 1.2"),
        ("{type: rif, rollouts: 1}", "filter.rollouts: one rollout's reward has no variance; set 2 or more"),
        ("{type: rif, rollouts: 0}", "filter.rollouts: must be greater than 0"),
        ("{type: rif, temperature: 0.0}", "filter.temperature: must be greater than or equal to 0.01"),
        ("{type: rif, control: random}", "unknown value 'random'; known: none, random_same_size"),
        ("{type: rff}", "filter.type: unknown value 'rff'; did you mean 'rif'?"),
        ("{type: rif, kep: solvable}", "filter.kep: unknown key; did you mean 'keep'?"),
    ],
)
def test_a_filter_that_cannot_be_is_refused(tmp_path, settings, message):
    with pytest.raises(RecipeError) as caught:
        load(tmp_path, settings)
    assert len(caught.value.problems) == 1
    assert message in caught.value.problems[0]


def test_a_filters_settings_can_be_swept(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text(RECIPE.replace("FILTER", "rif, sweep: {filter.keep: [learnable, solvable]}"))
    assert [spec.filter.keep for spec in expand_arms(load_recipe(path)).values()] == ["learnable", "solvable"]


def test_a_plan_with_a_filter_is_other_work_of_the_same_length(tmp_path):
    from dataclasses import replace

    plain, rule = make_plan(load(tmp_path, "null")).stages, make_plan(load(tmp_path, "rif")).stages
    assert plain[0].filter is None
    assert [stage.steps for stage in rule] == [stage.steps for stage in plain]
    assert {stage.key for stage in rule}.isdisjoint(stage.key for stage in plain)
    assert plain[0].as_dict()["filter"] is None
    assert replace(rule[0], filter=None, key="") == replace(plain[0], key="")


def test_a_plan_says_what_filters_sample(tmp_path):
    import io

    from rich.console import Console

    from cpt.cli.plan_table import print_plan

    stream = io.StringIO()
    recipe = load(tmp_path, "{type: rif, rollouts: 4, min_pass: 0.25, control: random_same_size}")
    print_plan(make_plan(recipe), Console(file=stream, width=160), tmp_path / "run")
    line = next(line for line in stream.getvalue().splitlines() if line.startswith("filter"))
    assert "pass rate 0.25 to 1, 4 rollouts a prompt, control random_same_size, 8192 + 8192 rollouts: rif" in line


def test_an_arm_without_a_reward_filters_by_the_one_that_others_train_on(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text(
        RECIPE.replace("FILTER", "rif").replace("arms:", "reward: [{type: accuracy, weight: 1.0}]\narms:")
        + "  sft: {method: {type: sft, max_steps: 10}, filter: rif}\n"
    )
    rl, _, sft, _ = make_plan(load_recipe(path)).stages
    assert sft.reward is None
    assert sft.filter_reward == rl.filter_reward == rl.reward is not None


def test_a_joint_arm_filters_by_the_reward_of_each_task(tmp_path):
    path = tmp_path / "demo.yaml"
    path.write_text(
        RECIPE.replace("FILTER", "rif").replace("arms:", "reward: [{type: accuracy, weight: 1.0}]\narms:")
        + "  sft: {method: {type: sft, max_steps: 10}, schedule: joint, filter: rif}\n"
        + "  plain: {method: {type: sft, max_steps: 10}, schedule: joint}\n"
    )
    rl, _, filtered, plain = make_plan(load_recipe(path)).stages
    assert [source.reward for source in filtered.sources] == [rl.reward, rl.reward]
    assert rl.reward is not None
    assert [source.reward for source in plain.sources] == [None, None]


def test_a_joint_stage_must_keep_some_of_every_task(tmp_path):
    (stage,) = make_plan(alone(tmp_path, f"  a: {{method: {SFT}, schedule: joint, filter: rif}}\n")).stages
    samples = own_samples(stage)
    # All of the second task's rewards are alike.
    prompts = [
        PromptRollouts(one.id, one.task, ("", ""), (0.0, float(one.task == "count-colour")), (False, False))
        for one in samples
    ]
    file = tmp_path / "filter.parquet"
    write_filter(file, FilterFile(stage.key, rif(), prompts, select(rif(), prompts, "0/2")))
    with pytest.raises(ValueError, match=r"keeps none of 64 training samples of which-row; prompts by right"):
        kept_samples(stage, samples, start_folder=tmp_path, file=file, pool=None, processor=None)


# ---- alone


def alone(tmp_path: Path, arms: str) -> Recipe:
    path = tmp_path / "demo.yaml"
    head = RECIPE.partition("arms:")[0].replace("which-row]", "which-row]\ngeneral: [exists]\ndata: {samples: 64}")
    path.write_text(f"{head}arms:\n{arms}")
    return load_recipe(path)


def test_cpt_filter_asks_one_task_of_a_joint_arm(tmp_path):
    recipe = alone(tmp_path, f"  a: {{method: {SFT}, schedule: joint, filter: rif}}\n")
    stage, note = filter_stage(recipe, "which-row")
    assert (stage.task, stage.data_samples, note) == ("which-row", 64, "")
    assert {sample.task for sample in own_samples(stage)} == {"which-row"}


def test_which_stage_cpt_filter_takes(tmp_path):
    sft, grpo = "{type: sft, max_steps: 1, per_device_train_batch_size: 8}", "{type: grpo, max_steps: 1}"
    arms = f"  sft: {{method: {sft}}}\n  grpo: {{method: {grpo}}}\n"
    recipe = alone(tmp_path, arms + f"  rif: {{method: {grpo}, filter: {{type: rif, keep: solvable}}}}\n")
    stage, note = filter_stage(recipe, "which-row")
    assert (stage.arm, stage.task, stage.index, stage.filter.keep, note) == ("rif", "which-row", 2, "solvable", "")
    stage, note = filter_stage(recipe, "exists", "sft")
    assert (stage.arm, stage.task, stage.data_samples, stage.filter) == ("sft", "exists", 64, rif())
    assert note == "arm sft has no filter; taking the defaults of rif"
    assert filter_stage(alone(tmp_path, arms), "count-colour")[0].arm == "grpo"


# ---- the file


def test_the_file_gives_back_what_was_written(tmp_path):
    path = tmp_path / "stage" / "filter.parquet"
    third = prompt("third", "00000001", [None] * 7 + [0.5])
    written = FilterFile("key", rif(min_pass=0.5, control="random_same_size"), [SOME, third], [False, True])
    write_filter(path, written)
    found = read_filter(path)
    assert found == written
    assert found.counts() == ([0, 1, 0, 1, 0, 0, 0, 0, 0], [0, 1, 0, 0, 0, 0, 0, 0, 0])
    row = pq.read_table(path).to_pylist()[0]
    assert (row["rollouts"], row["passes"], row["pass_rate"], row["reward_mean"]) == (8, 3, 0.375, 0.375)
    assert row["completions"] == ["no", "yes", "no", "no", "yes", "no", "yes", "no"]


def test_a_damaged_or_foreign_file_is_named(tmp_path):
    with pytest.raises(FileNotFoundError):
        read_filter(tmp_path / "filter.parquet")
    cut = tmp_path / "cut.parquet"
    write_filter(cut, FilterFile("key", rif(), [SOME], [True]))
    cut.write_bytes(cut.read_bytes()[:-20])
    with pytest.raises(ValueError, match=r"cut\.parquet: not a whole parquet file"):
        read_filter(cut)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "other.parquet")
    with pytest.raises(ValueError, match=r"other\.parquet: columns missing: sample_id"):
        read_filter(tmp_path / "other.parquet")
