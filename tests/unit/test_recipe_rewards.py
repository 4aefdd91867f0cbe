"""`reward:` in recipes: where it may stand, what goes before what, what it does to plans, and what is refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path

import pytest
from demo_recipe import problems
from folders import model_folder

from cpt.cli.plan_table import reward_lines
from cpt.cli.rewards.from_file import examples_in, rewards_in
from cpt.plan.make import make_plan
from cpt.recipe import Recipe, RewardSpec, load_recipe
from cpt.recipe.source import RecipeError
from cpt.tasks import get_task, task_names
from cpt.tasks.row import reward_row

BASE = """\
version: 1
name: demo
model: {name_or_path: MODEL}
tasks:
  - count-colour
  - {name: which-row, samples: 256}
data: {samples: 256}
arms:
  grpo:
    method: {type: grpo, max_steps: 2}
  sft:
    method: {type: sft, max_steps: 2}
"""
COMPOSITE = "[{type: accuracy, weight: 0.9, requires: format}, {type: format, weight: 0.1}]"
EXACT = "[{type: exact, weight: 1}]"
SCORE = "def score(completion, *, gold, bonus=0.5, **_):\n    return 1.0 if gold[0] in completion else bonus\n"


@pytest.fixture
def load(tmp_path: Path):
    model = model_folder(tmp_path / "model")

    def load_text(*overrides: str, text: str = BASE) -> Recipe:
        (tmp_path / "demo.yaml").write_text(text.replace("MODEL", str(model)))
        return load_recipe(tmp_path / "demo.yaml", overrides)

    return load_text


def rewards(recipe: Recipe) -> dict[tuple[str, str], str]:
    """The reward of every stage that has one of its own, in one line each."""
    return {(s.arm, s.task): s.reward.describe() for s in make_plan(recipe).stages if s.reward is not None}


def test_without_a_reward_nothing_changes(load):
    recipe = load()
    assert recipe.reward is None
    assert rewards(recipe) == {}
    assert reward_lines({"grpo": make_plan(recipe).arms["grpo", 0]}) == []


def test_the_keys_of_stages_without_a_reward_are_those_from_before_there_was_one(load, monkeypatch):
    keys = [stage.key for stage in make_plan(load()).stages]
    plain = make_plan(load(f"reward={EXACT}"))
    assert [stage.key for stage in plain.arms["sft", 0]] == keys[2:], "SFT has no reward"
    assert not {stage.key for stage in plain.arms["grpo", 0]} & set(keys)

    def as_before(stage):
        content = original(stage)
        assert content.pop("reward") is None
        return {**content, "reward": None}

    from cpt.plan.stages import StagePlan

    original = StagePlan.as_dict
    monkeypatch.setattr(StagePlan, "as_dict", as_before)
    assert [stage.key for stage in make_plan(load()).stages] == keys


def test_recipe_task_and_arm(load):
    everywhere = rewards(load(f"reward={COMPOSITE}"))
    line = "0.9 accuracy (if format) + 0.1 format"
    assert everywhere == {("grpo", "count-colour"): line, ("grpo", "which-row"): line}
    one_task = rewards(load(f"reward={COMPOSITE}", "tasks.1.reward=" + EXACT))
    assert one_task == {("grpo", "count-colour"): line, ("grpo", "which-row"): "1 exact"}
    arm = rewards(load(f"reward={COMPOSITE}", f"tasks.1.reward={EXACT}", "arms.grpo.reward=[{type: maths, weight: 1}]"))
    assert set(arm.values()) == {"1 maths"}
    assert rewards(load(f"tasks.1.reward={EXACT}")) == {("grpo", "which-row"): "1 exact"}


def test_the_long_form_has_bounds(load):
    recipe = load("reward={components: [{type: exact, weight: 2}, {type: truncation, weight: -0.5}], clip: [0, 0.75]}")
    stage = make_plan(recipe).stages[0]
    assert stage.reward.describe() == "2 exact − 0.5 truncation, clipped to 0 to 0.75"
    score = stage.reward.build()("<answer> 3 </answer>", gold=["3"], finish_reason="stop")
    assert (score.value, score.parts) == (0.75, {"exact": 1.0, "truncation": 1.0})


def test_defaults_are_part_of_the_resolved_recipe(load, tmp_path):
    recipe = load(f"reward={COMPOSITE}")
    assert recipe.resolved()["reward"]["components"][0]["equality"] == "exact"
    written_out = COMPOSITE.replace("weight: 0.9", "weight: 0.9, read: strict, equality: exact, limit: 5.0")
    assert load(f"reward={written_out}").resolved_hash() == recipe.resolved_hash()
    assert load("reward=" + COMPOSITE.replace("0.1", "0.05")).resolved_hash() != recipe.resolved_hash()
    (tmp_path / "again.yaml").write_text(recipe.dump_yaml())
    again = load_recipe(tmp_path / "again.yaml")
    assert (again, again.resolved_hash()) == (recipe, recipe.resolved_hash())


def test_a_plan_with_rewards_is_plain_data(load):
    for stage in make_plan(load(f"reward={COMPOSITE}")).stages:
        assert pickle.loads(pickle.dumps(stage)) == stage
        assert (stage.as_dict()["reward"] is None) is (stage.arm == "sft")


def test_the_plans_table_names_rewards(load):
    plan = make_plan(load(f"reward={COMPOSITE}", f"tasks.1.reward={EXACT}"))
    arms = {arm: stages for (arm, _), stages in plan.arms.items()}
    assert reward_lines(arms) == [
        "reward      0.9 accuracy (if format) + 0.1 format: grpo on count-colour",
        "reward      1 exact: grpo on which-row",
    ]
    everywhere = make_plan(load(f"reward={EXACT}"))
    assert reward_lines({"grpo": everywhere.arms["grpo", 0]}) == ["reward      1 exact: grpo"]
    joint = make_plan(load(f"tasks.1.reward={EXACT}", "arms.grpo.schedule=joint"))
    assert reward_lines({"grpo": joint.arms["grpo", 0]}) == ["reward      1 exact: grpo on which-row"]


# ---- users' functions


@pytest.fixture
def my_reward(tmp_path: Path) -> Path:
    path = tmp_path / "my_reward.py"
    path.write_text(SCORE)
    return path


PYTHON = "[{type: python, file: my_reward.py, name: score, weight: 1, bonus: 0.25}]"


def test_a_file_is_relative_to_the_recipe_and_travels_with_it(load, my_reward, tmp_path, monkeypatch):
    monkeypatch.chdir("/")
    recipe = load(text=BASE + f"reward: {PYTHON}\n")
    my_reward.unlink()
    reward = make_plan(recipe).stages[0].reward.build()
    assert [reward(text, gold=["3"]).value for text in ("3", "4")] == [1.0, 0.25]
    (tmp_path / "again.yaml").write_text(recipe.dump_yaml())
    assert load_recipe(tmp_path / "again.yaml", trust_rewards=True) == recipe


def test_code_in_the_file_itself_is_executed_only_with_consent(load, tmp_path):
    """As in the recipe.yaml of a run folder that somebody has sent: loading a recipe tries its rewards out."""
    witness = tmp_path / "witness"
    code = f"open({str(witness)!r}, 'w').close()\ndef score(completion, **_):\n    return 1.0\n"
    carried = json.dumps({"type": "python", "file": "nice.py", "name": "score", "weight": 1, "source": code})
    text, path = BASE + f"reward: [{carried}]\n", tmp_path / "demo.yaml"
    told = r"demo\.yaml:\d+: reward\.0: is Python code .* \(of nice\.py\) and .* --trust-rewards$"
    with pytest.raises(RecipeError, match=told):
        load(text=text)
    with pytest.raises(RecipeError, match=told):
        rewards_in(path)
    path.with_name("list.yaml").write_text(f"[{carried}]")
    with pytest.raises(RecipeError, match=r"list\.yaml:1: reward\.0: .* --trust-rewards$"):
        rewards_in(path.with_name("list.yaml"))
    assert not witness.exists()
    load_recipe(path, trust_rewards=True)
    assert witness.exists()


@pytest.mark.parametrize("sign", ["manifest.json", "plan.json"])
def test_a_file_that_a_run_folder_names_is_executed_only_with_consent(load, tmp_path, sign):
    """The folder may have come with both: the recipe that names a file, and the file."""
    witness, own, folder = tmp_path / "witness", tmp_path / "own.py", tmp_path / "run"
    (folder / "below").mkdir(parents=True)
    code = f"open({str(witness)!r}, 'w').close()\n" + SCORE
    named = "[{type: python, file: evil.py, name: score, weight: 1, bonus: 0.25}]"
    for place in (folder, folder / "below"):
        (place / "evil.py").write_text(code)
    load()
    text = (tmp_path / "demo.yaml").read_text() + f"reward: {named}\n"
    (folder / "recipe.yaml").write_text(text)
    (folder / "list.yaml").write_text(named)
    (folder / "below" / "base.yaml").write_text(text)
    (folder / "extending.yaml").write_text("extends: below/base.yaml\nname: child\n")
    (tmp_path / "from_elsewhere.yaml").write_text("extends: run/recipe.yaml\nname: child\n")
    (folder / sign).write_text("{}")
    told = r"\.yaml:\d+: reward\.0: is Python code that came with the recipe \(of evil\.py\) and .* --trust-rewards$"
    for path in (folder / "recipe.yaml", folder / "extending.yaml", tmp_path / "from_elsewhere.yaml"):
        with pytest.raises(RecipeError, match=told):
            load_recipe(path)
    for name in ("recipe.yaml", "list.yaml"):
        with pytest.raises(RecipeError, match=told):
            rewards_in(folder / name)
    assert not witness.exists()
    own.write_text(SCORE)
    chosen = f"reward={named.replace('evil.py', str(own))}"
    assert load_recipe(folder / "recipe.yaml", [chosen]).reward.build()("4", gold=["3"]).value == 0.25
    assert not witness.exists()
    load_recipe(folder / "recipe.yaml", trust_rewards=True)
    assert witness.exists()


def test_another_text_is_another_reward(load, my_reward):
    before = load(text=BASE + f"reward: {PYTHON}\n")
    my_reward.write_text(SCORE.replace("0.5", "0.125"))
    after = load(text=BASE + f"reward: {PYTHON}\n")
    assert before.resolved_hash() != after.resolved_hash()
    assert make_plan(before).stages[0].key != make_plan(after).stages[0].key


def test_in_an_extended_recipe_it_is_beside_the_file_that_names_it(load, my_reward, tmp_path):
    load(text=BASE + f"reward: {PYTHON}\n")
    (tmp_path / "below").mkdir()
    (tmp_path / "below" / "child.yaml").write_text("extends: ../demo.yaml\nname: child\n")
    assert load_recipe(tmp_path / "below" / "child.yaml").reward.build()("3", gold=["3"]).value == 1.0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def scores(completion, **_): return 1.0", "has no function 'score'; did you mean 'scores'?"),
        ("def score(completion, *, golds, bonus, **_): return 1.0", "needs 'golds', which is no column"),
        ("def score(completion, **_): return 1.0", "score has no parameter 'bonus'"),
        ("def score(completion, *, bonus, **_): return 2.0", "a dry run on '<answer>"),
        ("def score(completion, *, bonus, **_): return 2.0", "score returned 2.0"),
        (
            "def score(completion, *, bonus, **_): return 1 / len(completion)",
            "a dry run on '' failed: ZeroDivisionError",
        ),
        (
            "import random\ndef score(completion, *, bonus, **_): return random.random()",
            "a reward has to be deterministic",
        ),
    ],
)
def test_a_function_is_tried_on_load(load, my_reward, text, message):
    my_reward.write_text(text)
    found = problems(load, text=BASE + f"reward: {PYTHON}\n")
    assert any(message in problem for problem in found), found
    assert all("demo.yaml:13: reward.0: " in problem and "my_reward.py" in problem for problem in found)


def test_a_missing_file(load):
    (problem,) = problems(load, text=BASE + f"reward: {PYTHON}\n")
    assert "demo.yaml:13: reward.0: there is no file my_reward.py" in problem


# ---- what is refused


@pytest.mark.parametrize(
    ("reward", "expected"),
    [
        (
            "[{type: acuracy, weight: 1}]",
            "reward.0.type: there is no reward called 'acuracy'; did you mean 'accuracy'?",
        ),
        (
            "[{type: exact, weight: 1, raed: whole}]",
            "reward.0.raed: reward exact has no parameter 'raed'; did you mean",
        ),
        ("[{type: exact, weight: 1, read: hole}]", "reward.0.read: must be 'strict'"),
        ("[{type: exact, weight: one}]", "reward.0.weight: must be a number, not 'one'"),
        ("[{type: exact}]", "reward.0.weight: is missing; a recipe has to set it"),
        ("[{weight: 1}]", "reward.0.type: is missing"),
        ("[exact]", "reward.0: must be a mapping of key: value"),
        ("exact", "reward: must be a mapping of key: value"),
        ("[]", "reward: is empty; give at least one"),
        ("{components: []}", "reward.components: is empty; give at least one"),
        ("{components: [{type: exact, weight: 2}]}", "reward: positive weights add up to 2"),
        ("{components: [{type: exact, weight: 1}], clip: [1, 0]}", "reward.clip: must be two numbers"),
        ("{components: [{type: exact, weight: 1}], clop: [0, 1]}", "reward.clop: unknown key; did you mean 'clip'?"),
        ("{components: [{type: exat, weight: 1}]}", "reward.components.0.type: there is no reward called 'exat'"),
        ("[{type: exact, weight: 1, requires: format}]", "reward.0.requires: there is no component called 'format'"),
        ("[{type: choice, weight: 1}]", "reward: on task count-colour: a dry run on '<answer>"),
        ("[{type: yes-no, weight: 1}]", "reward: on task which-row: a dry run on '<answer>"),
    ],
)
def test_a_mistake_is_named_with_line_key_and_remedy(load, reward, expected):
    found = problems(load, text=BASE + f"reward: {reward}\n")
    assert f"demo.yaml:13: {expected}" in found[0]


def test_mistakes_in_tasks_and_arms_are_found_where_they_stand(load):
    wrong = "{type: fromat, weight: 0}"
    text = BASE.replace("samples: 256}\ndata", f"samples: 256, reward: [{wrong}]}}\ndata")
    text = text.replace(
        "max_steps: 2}\n  sft", f"max_steps: 2}}\n    reward:\n    - {EXACT[1:-1]}\n    - {wrong}\n  sft"
    )
    first, second = problems(load, text=text)
    assert "demo.yaml:6: tasks.1.reward.0.type: there is no reward called 'fromat'; did you mean 'format'?" in first
    assert "demo.yaml:13: arms.grpo.reward.1.type: there is no reward called 'fromat'" in second


def test_a_column_that_a_task_lacks(load, my_reward):
    my_reward.write_text("def score(completion, *, choices, bonus, **_): return 1.0")
    found = problems(load, text=BASE + f"reward: {PYTHON}\n")
    assert "demo.yaml:13: reward: needs the column 'choices', which task count-colour does not have" in found[0]


def test_sft_has_no_reward(load):
    (problem,) = problems(load, f"arms.sft.reward={EXACT}")
    assert problem == "command line: arms.sft.reward: SFT has no reward; remove it"


def test_dropout_is_refused_where_completions_are_sampled(load):
    lora = "{type: lora, dropout: 0.1}"
    (problem,) = problems(load, f"arms.grpo.tuning={lora}")
    assert problem == "command line: arms.grpo.tuning.dropout: must be 0 with GRPO: engines sample without dropout"
    (problem,) = problems(load, f"model.tuning={lora}")
    assert "model.tuning.dropout: must be 0 with GRPO" in problem
    (problem,) = problems(load, "arms.grpo.tuning=lora", "arms.grpo.sweep={tuning.dropout: [0.0, 0.1]}")
    assert "must be 0 with GRPO" in problem
    assert load(f"arms.sft.tuning={lora}")


# ---- rows


@pytest.mark.parametrize("reward", [COMPOSITE, "[{type: number, weight: 1}]"], ids=["on a sample", "on golds"])
def test_data_that_can_not_be_read_are_named(load, monkeypatch, reward):
    monkeypatch.setattr(get_task("count-colour"), "samples", lambda *_: Path("gone.jsonl").read_text())
    with pytest.raises(ValueError, match=r"task count-colour, split train: .*No such file.*gone\.jsonl"):
        load(f"reward={reward}")


def test_data_that_a_rewards_trial_can_not_read_are_named(load, tmp_path, monkeypatch):
    load(f"reward={EXACT}")
    monkeypatch.setattr(get_task("count-colour"), "samples", lambda *_: Path("gone.jsonl").read_text())
    with pytest.raises(ValueError, match=r"task count-colour, split test: .*gone\.jsonl"):
        examples_in(tmp_path / "demo.yaml")


def test_every_task_pays_a_right_answer_in_full():
    """A composite runs on every built-in task, on the row that is made of its samples."""
    components = [{"type": "accuracy", "weight": 0.9, "requires": "format"}, {"type": "format", "weight": 0.1}]
    reward = RewardSpec.model_validate({"components": components}).build()
    for task in map(get_task, task_names("stage")):
        sample = task.samples("train", 1)[0]
        for prompt in ("direct", "think"):
            row = reward_row(sample, prompt, finish_reason="stop", n_tokens=3, max_tokens=8)
            assert reward(task.target(sample, "policy", prompt), **row).value == pytest.approx(1.0)
            assert reward("", **row).value == 0.0


def test_a_row_holds_what_is_known():
    sample = get_task("count-colour").samples("train", 1)[0]
    row = reward_row(sample, "think", finish_reason="length", n_tokens=8, max_tokens=8)
    assert (row["gold"], row["question"], row["template"]) == (list(sample.gold), sample.question, "think")
    assert (row["finish_reason"], row["n_tokens"], row["max_tokens"]) == ("length", 8, 8)
    assert row["candidates"] == list(sample.meta["candidates"])
    assert row["meta"] == dict(sample.meta)
    assert not {"finish_reason", "n_tokens", "max_tokens", "choices"} & set(reward_row(sample, "direct"))
