"""Recipes: what is accepted and how it resolves: shorthands, `extends`, overrides, sweeps, and steps."""

from __future__ import annotations

import pickle
import re
from functools import partial
from pathlib import Path

import pytest
from demo_recipe import BASE, load_text, problems, write
from picture_packages import home_with_pictures

from cpt.methods.grpo import GRPO
from cpt.methods.sft import SFT
from cpt.recipe import RecipeError, expand_arms, load_recipe
from cpt.recipe.task_files import shipped_task_files

RECIPES = Path(__file__).resolve().parents[2] / "recipes"
NO_RECIPES = {RECIPES / f"{name}.yaml" for name in shipped_task_files()}
FILES = sorted({*RECIPES.rglob("*.yaml")} - NO_RECIPES)


@pytest.fixture
def load(tmp_path: Path):
    return partial(load_text, tmp_path)


# ---- what is accepted


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_shipped_recipe_loads(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    if path.stem == "real_pictures":  # of which only stand-ins are here
        home_with_pictures(tmp_path)
        monkeypatch.setenv("HOME", str(tmp_path))
    assert expand_arms(load_recipe(path))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(RECIPES)))
def test_every_shipped_recipe_begins_with_its_command_hardware_and_measured_time(path: Path):
    first = path.read_text().splitlines()[0]
    name = path.relative_to(RECIPES.parent)
    time = r"(\d+ minutes( on a busy machine)?|not measured as a whole)"
    assert re.fullmatch(rf"# cpt (run|rewards study) {name} +2 CPU cores, {time}", first)


def test_there_are_shipped_recipes():
    assert FILES


def test_defaults_and_shorthands(load):
    recipe = load()
    assert recipe.seeds == [0]
    assert recipe.task_names == ["count-colour", "which-row"]
    assert recipe.model.tuning.type == "full"
    arms = expand_arms(recipe)
    assert list(arms) == ["sft", "grpo"]
    assert isinstance(arms["sft"].method, SFT)
    assert isinstance(arms["grpo"].method, GRPO)
    assert arms["grpo"].prompt == recipe.prompt == "direct"


def test_numbers_are_read_as_yaml_1_2_has_them(load):
    recipe = load("arms.sft.method.adam_epsilon=1e-6", "seeds=[010]")
    method = recipe.arms["sft"].method
    assert method.learning_rate == 1e-4  # YAML 1.1 calls 1e-4 text
    assert method.adam_epsilon == 1e-6
    assert recipe.seeds == [10]  # YAML 1.1 calls 010 eight


def test_an_arm_overrides_what_the_recipe_says(load):
    recipe = load(
        "model.freeze=[vision_tower]",
        "trainer_args={gradient_checkpointing: true, dataloader_num_workers: 1}",
        "arms.sft.prompt=think",
        "arms.sft.tuning={type: lora, r: 8}",
        "arms.sft.freeze=[]",
        "arms.sft.trainer_args.dataloader_num_workers=0",
    )
    sft, grpo = expand_arms(recipe).values()
    assert (sft.prompt, sft.tuning.type, sft.tuning.r, sft.freeze) == ("think", "lora", 8, ())
    assert (grpo.prompt, grpo.tuning.type, grpo.freeze) == ("direct", "full", ("vision_tower",))
    assert sft.trainer_args == {"gradient_checkpointing": True, "dataloader_num_workers": 0}
    assert grpo.trainer_args == {"gradient_checkpointing": True, "dataloader_num_workers": 1}


def test_the_resolved_recipe_reads_back_as_itself(load, tmp_path):
    recipe = load(
        "arms.grpo.sweep={beta: [0.0, 0.01], scale_rewards: [group, none]}", "arms.sft.method.learning_rate=1e-5"
    )
    again = load_recipe(write(tmp_path, recipe.dump_yaml(), "again.yaml"))
    assert again == recipe
    assert again.resolved_hash() == recipe.resolved_hash()
    assert pickle.loads(pickle.dumps(recipe)) == recipe


def test_the_hash_knows_what_changes_numbers_and_nothing_else(load):
    same = [
        (),
        ("arms.sft.method.weight_decay=0.0",),  # the default, written out
        ("rollout.engines=4", "resources.trainer_gpus=1"),
        ("rollout.max_logprob_gap=0.01",),
        ("arms.sft.method.save_steps=5", "arms.grpo.method.save_total_limit=3"),
    ]
    assert len({load(*overrides).resolved_hash() for overrides in same}) == 1
    other = ["arms.sft.method.weight_decay=0.1", "seeds=[1]", "prompt=think", "tasks=[which-row, count-colour]"]
    assert len({load(override).resolved_hash() for override in other} | {load().resolved_hash()}) == 5


# ---- extends and overrides


def test_extends_merges_one_level(tmp_path):
    write(tmp_path, BASE, "base.yaml")
    child = write(
        tmp_path,
        """\
extends: base.yaml
name: child
tasks: [parity]
arms:
  grpo: null
  sft: {method: {max_steps: 20}}
  rl: {method: {type: grpo}}
""",
    )
    recipe = load_recipe(child)
    assert recipe.name == "child"
    assert recipe.task_names == ["parity"]
    assert list(recipe.arms) == ["sft", "rl"]
    assert (recipe.arms["sft"].method.learning_rate, recipe.arms["sft"].method.max_steps) == (1e-4, 20)


def test_another_type_replaces_the_whole_mapping(tmp_path):
    write(tmp_path, BASE, "base.yaml")
    child = write(tmp_path, "extends: base.yaml\narms: {sft: {method: {type: grpo, beta: 0.1}}}\n")
    assert load_recipe(child).arms["sft"].method == GRPO(type="grpo", beta=0.1)


def test_a_problem_is_reported_in_the_file_that_has_it(tmp_path):
    write(tmp_path, BASE.replace("max_steps: 10\n", "max_step: 10\n"), "base.yaml")
    child = write(tmp_path, "extends: base.yaml\n\ngenral: []\n")
    with pytest.raises(RecipeError) as caught:
        load_recipe(child)
    assert [line.removeprefix(f"{tmp_path}/") for line in sorted(caught.value.problems)] == [
        "base.yaml:11: arms.sft.method.max_step: unknown key; did you mean 'max_steps'?",
        "demo.yaml:3: genral: unknown key; did you mean 'general'?",
    ]


def test_extending_twice_or_nothing_is_refused(tmp_path):
    write(tmp_path, BASE, "a.yaml")
    write(tmp_path, "extends: a.yaml\n", "b.yaml")
    with pytest.raises(RecipeError, match=r"c\.yaml:1: extends: .*b\.yaml extends another file; only one level"):
        load_recipe(write(tmp_path, "extends: b.yaml\n", "c.yaml"))
    with pytest.raises(RecipeError, match=r"d\.yaml:1: extends: there is no file .*nowhere\.yaml"):
        load_recipe(write(tmp_path, "extends: nowhere.yaml\n", "d.yaml"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("data.samples", "'data.samples' is not an override; write key=value, as in data.samples=512"),
        ("=1", "is not an override"),
        ("arms.stf.method.max_steps=1", "there is no arm 'stf'; arms: sft, grpo"),
        ("tasks.7=parity", "tasks is a list with items 0 to 1"),
        ("name.x=1", "name is 'demo'; override it as a whole"),
        ("name=[", "not valid YAML"),
        ("drfit.samples=3", "drfit: unknown key; did you mean 'drift'?"),
        ("name=!!python/object:os.system x", "tags and self-references are not part of a recipe"),
    ],
)
def test_a_bad_override_says_what_is_wrong(load, override, message):
    (problem,) = problems(load, override)
    assert message in problem
    assert problem.startswith("command line")


def test_null_drops_an_arm(load):
    assert list(load("arms.sft=null").arms) == ["grpo"]


# ---- sweeps


def test_a_sweep_makes_one_arm_per_value(load):
    arms = expand_arms(load("arms.sft.sweep.learning_rate=[1e-4, 5e-5]"))
    assert list(arms) == ["sft@learning_rate=0.0001", "sft@learning_rate=5e-05", "grpo"]
    point = arms["sft@learning_rate=5e-05"]
    assert (point.family, dict(point.sweep), point.method.learning_rate) == (
        "sft",
        {"method.learning_rate": 5e-05},
        5e-05,
    )
    assert (arms["grpo"].family, dict(arms["grpo"].sweep)) == ("grpo", {})


def test_several_keys_are_crossed(load):
    arms = expand_arms(load("arms.grpo.sweep={method: {beta: [0.0, 0.1]}, prompt: [direct, think]}", "arms.sft=null"))
    assert [(arm.method.beta, arm.prompt) for arm in arms.values()] == [
        (0.0, "direct"),
        (0.0, "think"),
        (0.1, "direct"),
        (0.1, "think"),
    ]
    assert list(arms)[1] == "grpo@beta=0.0,prompt=think"


def test_a_recipe_wide_setting_can_be_swept(load):
    arms = expand_arms(load("model.tuning=lora", "arms.sft.sweep.tuning.r=[4, 8]", "arms.grpo=null"))
    assert [arm.tuning.r for arm in arms.values()] == [4, 8]


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("arms.sft.sweep.learning_rat=[1]", "arms.sft.sweep.learning_rat: is no key of this arm; did you mean"),
        ("arms.sft.sweep.learning_rate=[0.1, -1]", "arms.sft.sweep.learning_rate: must be greater than 0, not -1"),
        ("arms.sft.sweep.learning_rate=[]", "is empty; give at least one"),
        ("arms.sft.sweep.learning_rate=[0.1, 0.1]", "holds a value twice"),
        ("arms.sft.sweep={learning_rate: [0.1], method.learning_rate: [0.2]}", "is swept twice"),
        ("arms.sft.sweep.method.type=[sft, grpo]", "is no key of this arm"),
        ("arms.grpo.sweep.num_generations=[8, 7]", "not divisible by num_generations 7"),
    ],
)
def test_a_bad_sweep_says_what_is_wrong(load, override, message):
    (problem,) = problems(load, override)
    assert message in problem


def test_an_override_that_a_sweep_would_undo_is_refused(load):
    (problem,) = problems(load, "arms.sft.sweep.learning_rate=[0.1]", "arms.sft.method.learning_rate=0.2")
    assert "this arm sweeps it; override arms.sft.sweep.learning_rate=[…] instead" in problem


def test_a_sweep_reaches_a_regulariser_by_its_type(load):
    swept = "arms.sft.sweep={regularisers.ewc.coefficient: [1.0, 10.0]}"
    recipe = load("arms.sft.regularisers=[{type: l2}, {type: ewc}]", swept)
    arms = expand_arms(recipe)
    assert [arm for arm in arms if arm.startswith("sft")] == ["sft@coefficient=1.0", "sft@coefficient=10.0"]
    assert [spec.regularisers[1].coefficient for name, spec in arms.items() if name.startswith("sft")] == [1.0, 10.0]
    assert {spec.regularisers[0].coefficient for name, spec in arms.items() if name.startswith("sft")} == {1.0}


# ---- arithmetic of methods


@pytest.mark.parametrize(
    ("settings", "samples", "steps"),
    [
        ({"max_steps": 7}, 1000, 7),
        ({"num_train_epochs": 1.0}, 100, 4),  # batches of 32: 3 whole ones and one filled up
        ({}, 100, 4),
        ({"num_train_epochs": 2.5}, 64, 5),
        ({"gradient_accumulation_steps": 2}, 128, 2),
    ],
)
def test_steps_of_sft(settings, samples, steps):
    assert SFT(type="sft", per_device_train_batch_size=32, **settings).steps(samples) == steps


@pytest.mark.parametrize(
    ("settings", "batch", "steps"),
    [
        ({}, (4, 32, 1), 16),
        ({"gradient_accumulation_steps": 2}, (8, 64, 1), 8),
        ({"steps_per_generation": 4}, (16, 128, 4), 16),  # four optimizer steps on one batch of 16 prompts
        ({"num_iterations": 2}, (4, 32, 2), 32),
    ],
)
def test_batches_and_steps_of_grpo(settings, batch, steps):
    method = GRPO(type="grpo", per_device_train_batch_size=32, num_generations=8, **settings)
    assert (method.batch().samples, method.batch().completions, method.batch().steps) == batch
    assert method.steps(64) == steps


def test_what_trl_would_derive_in_silence_is_filled_in():
    arguments = GRPO(type="grpo", gradient_accumulation_steps=4, epsilon=0.1).trl_arguments()
    assert (arguments["steps_per_generation"], arguments["epsilon_high"]) == (4, 0.1)
    assert (arguments["loss_type"], arguments["beta"]) == ("grpo", 0.0)
    assert arguments["save_strategy"] == "no"
    assert SFT(type="sft", save_steps=5).trl_arguments()["save_steps"] == 5
