"""Recipes and overrides that would take all memory, never end, or hide something: one line each, at once."""

from __future__ import annotations

import time
from functools import partial
from pathlib import Path

import pytest
from demo_recipe import BASE, load_text, problems, write

from cpt.cli.app import main
from cpt.plan.make import make_plan
from cpt.recipe import RecipeError, expand_arms, load_recipe
from cpt.recipe.load import MAX_STAGES

LARGE = "9" * 30
DIGITS = "9" * 5000


@pytest.fixture
def load(tmp_path: Path):
    return partial(load_text, tmp_path)


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (f"arms.sft.method.max_steps={LARGE}", "max_steps: a whole number of 30 digits is too large for anything"),
        (f"arms.sft.method.max_steps={DIGITS}", "max_steps: a whole number of 5000 digits is too large"),
        (f"seeds=[{DIGITS}]", "seeds.0: a whole number of 5000 digits is too large"),
        ("arms.sft.method.max_steps=9223372036854775807", "must be less than or equal to 10000000"),
        ("arms.sft.method.num_train_epochs=1e308", "num_train_epochs: must be less than or equal to 100000"),
        (f"arms.sft.tuning={{type: lora, r: {LARGE}}}", "arms.sft.tuning.r: a whole number of 30 digits"),
        ("arms.sft.tuning={type: lora, r: 100000}", "arms.sft.tuning.r: must be less than or equal to 8192"),
        ("arms.sft.method.learning_rate=1e999", "learning_rate: 1e999 is larger than any number a computer has"),
        ("arms.sft.trainer_args.neftune_noise_alpha=1e999", "1e999 is larger than any number a computer has"),
        (
            "reward=[{type: accuracy, weight: 1e308}, {type: format, weight: 1e308}]",
            "reward.0.weight: must be less than or eq",
        ),
        ("reward=[{type: number, relative: 1e300, weight: 1}]", "is larger than anything it could be compared with"),
        ("evaluation.samples=1000000000", "evaluation.samples: must be less than or equal to 1000000, not 1000000000"),
        ("data.samples=1000000000000", "data.samples: must be less than or equal to 10000000"),
        ("rollout.engines=100000", "rollout.engines: must be less than or equal to 4096, not 100000"),
        ("resources.trainer_gpus=2", "2 GPUs are refused: a stage is trained by one process on one GPU"),
        ("resources.engine_gpus=1.5", "above 1 an engine takes whole GPUs; set 1"),
        ("evaluation.temperature=1e-300", "1e-300 is next to greedy"),
        (f"tasks.{DIGITS}=parity", "tasks is a list with items 0 to 1"),
        ("tasks.²=parity", "tasks is a list with items 0 to 1"),
        ("name=" + "[" * 10_000, "more than 64 levels of values in each other"),
        ('name="a\\0b"', "name: text must not hold a NUL or a lone surrogate"),
        ('name="\\ud800"', "name: text must not hold a NUL or a lone surrogate"),
        ("name=a\x07", "name:1: not valid YAML: the character U+0007 is not allowed"),
        ("=".join(["a." * 100 + "b", "1"]), "a key of 101 parts is none of a recipe"),
        ("arms.sft.method.data={type: rollouts, arm: " + "x" * 5000 + "}", "there is no arm 'xxx"),
    ],
)
def test_an_override_beyond_all_measure_is_one_line(load, override, message):
    (problem, *_) = problems(load, override)
    assert message in problem
    assert problem.startswith("command line")
    assert len(problem) < 1100
    assert problem.isprintable()


def test_of_many_problems_the_first_are_told(load):
    found = problems(load, f"model.freeze={list(range(1000))}")
    assert len(found) == 51
    assert found[0].startswith("command line: model.freeze.0: unknown value 0")
    assert found[-1].startswith("command line: model.freeze.50: unknown value 50")
    assert found[-1].endswith("; and 949 problems more")


def test_nested_aliases_end_at_once(tmp_path):
    """Ten lines that stand for a thousand million values."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 9)}]" for i in range(1, 10)]
    path = write(tmp_path, "\n".join(lines))
    began = time.process_time()
    with pytest.raises(RecipeError, match=r"demo\.yaml:\d+: a\d\..*: more than 50000 values, aliases written out"):
        load_recipe(path)
    assert time.process_time() - began < 5


def test_an_alias_is_fine_where_it_is_short(tmp_path):
    text = BASE.replace("{name_or_path: builtin/tiny-qwen2_5-vl}", "&m builtin/tiny-qwen2_5-vl")
    text = text.replace(
        "grpo: {method: {type: grpo, max_steps: 10}}", "grpo: {method: &g {type: grpo}}\n  b: {method: *g}"
    )
    assert list(load_recipe(write(tmp_path, text)).arms) == ["sft", "grpo", "b"]


def test_a_file_of_a_gigabyte_is_not_read_whole(tmp_path):
    path = tmp_path / "large.yaml"
    with path.open("wb") as file:
        file.truncate(1 << 30)
    with pytest.raises(RecipeError, match=r"large\.yaml: 4194305 characters are no recipe; it has 1048576 at most"):
        load_recipe(path)


def test_what_is_no_text_says_in_which_line(tmp_path):
    (tmp_path / "demo.yaml").write_bytes(b"version: 1\nname: \xff\n")
    with pytest.raises(RecipeError, match=r"demo\.yaml:2: not a text file in UTF-8"):
        load_recipe(tmp_path / "demo.yaml")


def test_many_seeds_are_bounded_and_so_is_everything_together(load):
    (problem,) = problems(load, f"seeds={list(range(20_000))}")
    assert "seeds: has 20000 entries, and may have 1000 at most" in problem
    sweep = f"{{learning_rate: {[1e-6 * i for i in range(1, 31)]}, max_grad_norm: {[float(i) for i in range(1, 31)]}}}"
    (problem,) = problems(load, f"arms.sft.sweep={sweep}", f"seeds={list(range(10))}")
    assert f"arms.sft.sweep: 901 arms × 10 seeds × 2 tasks are 18020 stages; a run has {MAX_STAGES} at most" in problem
    swept = ("learning_rate", "max_grad_norm", "adam_beta1", "adam_beta2", "adam_epsilon", "weight_decay")
    ten = ", ".join(f"{key}: {[0.1 * i for i in range(1, 11)]}" for key in swept)
    began = time.process_time()
    problems(load, f"arms.sft.sweep={{{ten}}}")  # a million points
    assert time.process_time() - began < 5


def test_points_of_a_sweep_have_names_that_files_can_have(load):
    (problem,) = problems(load, f"arms.sft.sweep.prompt=[direct, {'x' * 300}]")
    assert "arms.sft.sweep.prompt: unknown value 'xxx" in problem
    arguments = "arms.sft.trainer_args.optim_args=momentum=0.5"
    two = f"arms.sft.sweep.trainer_args.optim_args=['momentum=0.5', 'momentum=0.5, nesterov=true{' ' * 200}']"
    assert any("would have 2" in one for one in problems(load, arguments, "arms.sft.method.optim=sgd", two))
    same = "arms.sft.sweep.trainer_args.optim_args=['momentum=0.5 ', 'momentum=0.5;']"
    assert any("two points would be called" in one for one in problems(load, same, "arms.sft.method.optim=sgd"))


@pytest.mark.parametrize(
    "weights", ["{count-colour: 0, which-row: 0}", "{count-colour: 0.0, which-row/format: 0, which-row/accuracy: 0}"]
)
def test_weights_of_nothing_are_refused(load, weights):
    found = problems(load, f"arms.grpo.replay={{type: static, weights: {weights}}}")
    assert any("replay.weights: are 0 for everything, so that nothing would be learned" in one for one in found)
    assert load("arms.grpo.replay={type: static, weights: {count-colour: 0}}")


def test_a_batch_that_is_none_is_told_without_dividing_by_it(load):
    settings = ("arms.grpo.method.per_device_train_batch_size=4", "arms.grpo.replay={type: buffer}")
    (problem,) = problems(load, *settings)
    assert "4 completions per generation are not divisible by num_generations 8" in problem


@pytest.mark.parametrize("name", ["~nosuchuser/model", "x" * 300, "a/" + "b" * 5000, "/nowhere"])
def test_a_model_that_cannot_be_is_told_with_its_place(load, name):
    recipe = load(f"model={name}")
    with pytest.raises(RecipeError, match=r"^command line: model\.name_or_path: "):
        make_plan(recipe)


def test_a_reference_model_that_cannot_be_is_told_with_its_place(load):
    recipe = load("arms.sft.kl={reference: path, path: ~nosuchuser/model}")
    with pytest.raises(RecipeError, match=r"^command line: arms\.sft\.kl\.path: "):
        make_plan(recipe)


@pytest.mark.parametrize("name", ["x" * 300 + ".yaml", "~nosuchuser.yaml", "a\0b"])
def test_a_recipe_whose_name_cannot_be(name):
    with pytest.raises(RecipeError, match="there is no such recipe file"):
        load_recipe(name)


def test_nothing_that_a_recipe_says_acts_on_the_terminal(tmp_path, monkeypatch, capfd):
    monkeypatch.chdir(tmp_path)
    path = write(tmp_path, BASE + '"\\e[31mred\\e[0m\\u202e": 1\n')
    with pytest.raises(SystemExit):
        main(["plan", str(path)])
    shown = capfd.readouterr().err
    assert "\\x1b[31mred\\x1b[0m\\u202e: unknown key" in shown
    assert "\x1b" not in shown and "\u202e" not in shown
    with pytest.raises(SystemExit):
        main(["plan", str(write(tmp_path)), 'model="\\e[31m/nowhere\\n"'])
    (line,) = capfd.readouterr().err.splitlines()
    assert "\\x1b[31m/nowhere\\n does not exist" in line


# ---- shorthands


def test_an_override_reaches_into_what_a_shorthand_stands_for(load, tmp_path):
    text = BASE.replace("{name_or_path: builtin/tiny-qwen2_5-vl}", "builtin/tiny-qwen2_5-vl")
    overrides = (
        "model.tuning=lora", "model.tuning.r=4", "tasks.0.samples=128", "general.0.evaluation_samples=7",
        "arms.grpo.filter=rif", "arms.grpo.filter.rollouts=4", "arms.sft.merge=ema", "arms.sft.merge.decay=0.5",
    )  # fmt: skip
    recipe = load(*overrides, text=text)
    assert (recipe.model.name_or_path, recipe.model.tuning.r) == ("builtin/tiny-qwen2_5-vl", 4)
    assert (recipe.tasks[0].name, recipe.tasks[0].samples) == ("count-colour", 128)
    assert recipe.general[0].evaluation_samples == 7
    arms = expand_arms(recipe)
    assert (arms["grpo"].filter.rollouts, arms["sft"].merge.decay) == (4, 0.5)


def test_an_extending_file_reaches_into_it_as_well(tmp_path):
    write(tmp_path, BASE.replace("{name_or_path: builtin/tiny-qwen2_5-vl}", "builtin/tiny-qwen2_5-vl"), "base.yaml")
    recipe = load_recipe(write(tmp_path, "extends: base.yaml\nmodel: {tuning: lora}\n"))
    assert (recipe.model.name_or_path, recipe.model.tuning.type) == ("builtin/tiny-qwen2_5-vl", "lora")


def test_an_endless_key_leaves_room_for_what_is_wrong(tmp_path: Path):
    with pytest.raises(RecipeError) as caught:
        load_recipe("quickstart", [f"evaluation.{'x' * 5000}={{" + "}" * 300])
    (line,) = caught.value.problems
    assert line.startswith("command line: evaluation.xxx") and "not valid YAML" in line
