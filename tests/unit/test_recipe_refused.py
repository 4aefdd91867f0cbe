"""What a recipe's writer is told about everything that cannot be: where it stands, and what to change."""

from __future__ import annotations

from functools import partial
from pathlib import Path

import pytest
from demo_recipe import BASE, load_text, problems, write

from cpt.methods.grpo import GRPO
from cpt.methods.sft import SFT
from cpt.methods.trl_fields import config_fields
from cpt.recipe import RecipeError, load_recipe


@pytest.fixture
def load(tmp_path: Path):
    return partial(load_text, tmp_path)


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        (
            "learning_rate",
            "learnig_rate",
            "10: arms.sft.method.learnig_rate: unknown key; did you mean 'learning_rate'?",
        ),
        ("max_steps: 10\n", "num_generations: 4\n", "11: arms.sft.method.num_generations: belongs to type: grpo"),
        ("type: sft", "type: stf", "8: arms.sft.method: unknown type 'stf'; did you mean 'sft'?"),
        ("max_steps: 10\n", "max_steps: 1.5\n", "11: arms.sft.method.max_steps: must be a whole number, not 1.5"),
        ("max_steps: 10\n", "max_steps: yes\n", "11: arms.sft.method.max_steps: must be a whole number, not 'yes'"),
        ("which-row", "wich-row", "4: tasks.1: unknown task 'wich-row'; did you mean 'which-row'?"),
        ("[exists]", "[exist]", "5: general.0: unknown task 'exist'; did you mean 'exists'?"),
        ("which-row", "exists", "4: tasks.1: 'exists' is a general task, which no stage trains on"),
        ("which-row", "count-colour", "4: tasks.1: 'count-colour' stands here twice"),
        ("[exists]", "[which-row]", "5: general.0: 'which-row' is also a stage"),
        ("version: 1", "version: 2", "1: version: is 2, but this cpt reads version 1"),
        ("version: 1\n", "", "1: has no version; add `version: 1` as the first line"),
        ("{name_or_path: builtin/tiny-qwen2_5-vl}", "{}", "3: model.name_or_path: is missing"),
        ("name: demo", "name: demo\nname: two", "3: name: stands here twice"),
        ("name: demo", "name: a/b", "2: name: 'a/b' is not a valid name"),
        (
            "name: demo",
            "name: [unclosed",
            "2: not valid YAML: the [ in column 7 is not closed, or a comma is missing, before line 3: "
            "expected ',' or ']', but got ':'",
        ),
        ("max_steps: 10}}", "max_steps: 10}", "12: not valid YAML: the { in column 9 is not closed"),
        ("[exists]", "[exists: {a: 1 b: 2}]", "5: not valid YAML"),
        ("tasks: [count-colour, which-row]", "tasks: []", "4: tasks: is empty; give at least one"),
    ],
)
def test_a_mistake_is_named_with_line_key_and_remedy(load, old, new, expected):
    assert old in BASE
    (problem, *_) = problems(load, text=BASE.replace(old, new, 1))
    assert f"demo.yaml:{expected}" in problem


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("arms.sft={}", "arms.sft.method: this arm has no method; say how it trains"),
        ("arms.sft.method=null", "arms.sft.method: this arm has no method"),
        ("arms.sft.method={}", "has no type; set one of sft, grpo"),
        ("arms={}", "arms: is empty"),
        ("arms={'a b': {method: {type: sft}}}", "'a b' is not a valid name"),
        ("seeds=[]", "seeds: is empty"),
        ("seeds=[1, 1]", "seeds.1: 1 stands here twice"),
        ("seeds=[-1]", "must be greater than or equal to 0"),
        ("data.samples=0", "data.samples: must be greater than 0, not 0"),
        ("evaluation.samples=0", "evaluation.samples: must be greater than 0, not 0"),
        ("data.samples=true", "must be a whole number, not true"),
        ("data.samples=63", "63 training samples of count-colour are fewer than one batch of arm sft (64)"),
        ("tasks.0={name: parity, samples: 15}", "tasks.0.samples: 15 training samples of parity are fewer"),
        ("general.0={name: exists, samples: 15}", "general.0.samples: unknown key"),
        ("arms.sft.learning_rate=1", "unknown key here; did you mean 'arms.sft.method.learning_rate'?"),
        ("arms.sft.learnig_rate=1", "unknown key here; did you mean 'arms.sft.method.learning_rate'?"),
        ("arms.grpo.beta=0.1", "unknown key here; did you mean 'arms.grpo.method.beta'?"),  # merge: has a beta, too
        ("arms.sft.num_generations=4", "unknown key here; under method: it belongs to type: grpo or"),
        ("arms.sft.interpolation=0.3", "unknown key here; did you mean 'arms.sft.merge.interpolation'?"),
        ("arms.sft.methd={type: sft}", "arms.sft.methd: unknown key; did you mean 'method'?"),
        ("arms.grpo.sweep={learning_rat: [1e-4]}", "is no key of this arm; did you mean 'learning_rate'?"),
        ("arms.grpo.sweep={kl.coefficient: [0.1]}", "there is nothing to sweep: the arm has no kl:"),
        ("arms.grpo.method.lr=1e-4", "unknown key; did you mean 'learning_rate'?"),
        ("arms.sft.method.num_generation=8", "unknown key; did you mean 'num_generations'?"),
        ("arms.grpo.sweep={method.bta: [0.1]}", "is no key of this arm; did you mean 'beta'?"),
        ("arms.sft.method.num_train_epochs=1", "excludes max_steps; keep one of the two"),
        ("arms.sft.method.warmup_steps=5", "use lr_scheduler_type: constant_with_warmup"),
        ("arms.grpo.method.num_generations=7", "128 completions per generation are not divisible by num_generations 7"),
        ("arms.grpo.method.num_generations=1", "must be greater than or equal to 2"),
        ("arms.grpo.method.loss_type=dappo", "unknown value 'dappo'; did you mean 'dapo'?"),
        ("arms.grpo.method.temperature=0", "must be greater than or equal to 0.01"),
        ("arms.grpo.method.temperature=2.5", "must be less than or equal to 2, not 2.5"),  # the engines' limit
        ("arms.grpo.filter={type: rif, temperature: 2.5}", "must be less than or equal to 2, not 2.5"),
        ("evaluation.temperature=2.5", "must be less than or equal to 2, not 2.5"),
        ("model.tuning={type: full, r: 8}", "model.tuning.r: belongs to type: lora"),
        ("model.tuning=loar", "model.tuning: unknown type 'loar'; did you mean 'lora'?"),
        ("rollout.engine=vlm", "rollout.engine: unknown value 'vlm'; did you mean 'vllm'?"),
        ("evaluation.temperature=.nan", "must be a number"),
    ],
)
def test_a_setting_that_cannot_be_is_refused(load, override, message):
    (problem, *_) = problems(load, override)
    assert message in problem


@pytest.mark.parametrize("place", ["arms.grpo.method", "rollout", "trainer_args", "arms.grpo.trainer_args"])
@pytest.mark.parametrize("key", ["top_p", "top_k", "min_p"])
def test_truncated_sampling_is_refused_with_the_reason(load, place, key):
    (problem, *_) = problems(load, f"{place}.{key}=0.9")
    assert f"{place}.{key}: training rollouts sample from the whole distribution" in problem


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("resources.trainer_gpus=0.5", "must be a whole number, not 0.5"),
        ("resources.trainer_gpus=atuo", "unknown value 'atuo'; did you mean 'auto'?"),
        ("resources.engine_gpus=-1", "must be greater than or equal to 0, not -1"),
        ("rollout.engine=3", "unknown value 3; known: auto, vllm, hf"),  # no number may stand there
    ],
)
def test_where_a_number_or_a_word_may_stand_one_line_says_what_is_wrong(load, override, message):
    (problem,) = problems(load, override)
    assert message in problem


def test_all_problems_are_told_at_once(load):
    assert len(problems(load, "sedes=[1]", "data.samples=0", "arms.sft.method.max_step=1")) == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [("", "a recipe is a mapping"), ("- a\n", "a recipe is a mapping"), ("a: &x {b: *x}\n", "self-references")],
)
def test_what_is_no_recipe_is_called_that(tmp_path, content, message):
    with pytest.raises(RecipeError, match=message):
        load_recipe(write(tmp_path, content))


def test_a_missing_file_or_a_picture_is_no_recipe(tmp_path):
    with pytest.raises(RecipeError, match="there is no such recipe file"):
        load_recipe(tmp_path / "none.yaml")
    write(tmp_path)
    for asked in (tmp_path, tmp_path / "dmeo.yaml"):
        with pytest.raises(RecipeError, match=r"is it .*/demo\.yaml\?"):
            load_recipe(asked)
    (tmp_path / "picture.yaml").write_bytes(b"\x89PNG\xff\xfe")
    with pytest.raises(RecipeError, match="not a text file in UTF-8"):
        load_recipe(tmp_path / "picture.yaml")


def test_a_projection_and_frozen_parameters_exclude_each_other(load):
    (problem,) = problems(load, "arms.sft.regularisers=[{type: hft}, {type: a-gem}]")
    assert "a-gem projects the gradient of everything trained, and hft then zeroes a part; keep one" in problem


# ---- trainer_args


@pytest.mark.parametrize(
    ("key", "message"),
    [
        ("learning_rate", "set it in the arm's method: learning_rate"),
        ("output_dir", "cpt sets this; the run folder decides"),
        ("use_vllm", "cpt sets this; set rollout.engine"),
        ("vllm_mode", "cpt sets this; set rollout"),
        ("gradient_chekpointing", "unknown argument of TRL's SFTConfig; did you mean 'gradient_checkpointing'?"),
        ("max_length", "nothing is truncated"),
    ],
)
def test_trainer_args_are_checked_against_trl(load, key, message):
    (problem,) = problems(load, f"arms.sft.trainer_args.{key}=1")
    assert f"arms.sft.trainer_args.{key}: {message}" in problem


def test_a_common_argument_must_suit_every_arm(load):
    (problem,) = problems(load, "trainer_args.entropy_coef=0.1")
    assert "trainer_args.entropy_coef: does nothing in sft (policy)" in problem
    assert load("arms.grpo.trainer_args.entropy_coef=0.1")


@pytest.mark.parametrize("method", [SFT, GRPO])
def test_every_setting_of_a_method_is_ours_or_an_argument_of_trl(method):
    known = config_fields(*method.trl_config)
    assert {"learning_rate", "output_dir", "gradient_checkpointing"} <= known
    assert set(method(type=method.model_fields["type"].annotation.__args__[0]).trl_arguments()) <= known
    assert not set(method.own) & known - {"max_steps", "num_train_epochs", "max_completion_length"}
