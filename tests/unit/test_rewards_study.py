"""`cpt rewards study` as a user meets it; the stage loop is a stand-in."""

from __future__ import annotations

import sys
import types
from pathlib import Path
from typing import Any

import pytest
from command import cpt
from folders import model_folder

from cpt.cli.rewards.from_file import rewards_in

RECIPE = """\
version: 1
name: demo
model: ./model
tasks: [count-colour]
rollout: {engine: hf}
arms:
  sft: {method: {type: sft, max_steps: 20}}
  grpo: {method: {type: grpo, max_steps: 20}}
reward_sets:
  accuracy: [{type: accuracy, weight: 1}]
  format: [{type: format, weight: 1}]
"""


@pytest.fixture
def calls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, dict[str, Any]]]:
    """What the stage loop was asked to run, in a folder with a recipe."""
    noted: list[tuple[Any, dict[str, Any]]] = []

    def run_recipe(recipe: Any, **options: Any) -> int:
        noted.append((recipe, options))
        return 0

    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "model")
    Path("demo.yaml").write_text(RECIPE)
    monkeypatch.setitem(sys.modules, "cpt.run.loop", types.SimpleNamespace(run_recipe=run_recipe))

    def print_study(folder: Path, console: Any) -> None:
        console.print(f"table of {folder}")

    monkeypatch.setattr("cpt.cli.rewards.study.print_study", print_study)
    return noted


def test_one_arm_per_set_is_run_and_the_table_is_shown(calls: list[Any], capsys: pytest.CaptureFixture[str]):
    assert cpt("rewards", "study", "demo.yaml", "arms.grpo.method.max_steps=3") == 0
    ((recipe, options),) = calls
    assert list(recipe.arms) == ["accuracy", "format"]
    assert all(arm.method.max_steps == 3 for arm in recipe.arms.values())
    assert (options["out"], options["fresh"], options["address"]) == (Path("runs/demo"), False, None)
    shown = capsys.readouterr().out
    assert "table of runs/demo" in shown
    assert "runs/demo/rewards.html" in shown


def test_options_are_handed_on(calls: list[Any]):
    assert (
        cpt("rewards", "study", "demo.yaml", "--arm", "grpo", "--out", "here", "--fresh", "--address", "ray://a:1") == 0
    )
    ((_, options),) = calls
    assert (options["out"], options["fresh"], options["address"]) == (Path("here"), True, "ray://a:1")


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--arm", "sft"), "arm sft has no reward"),
        (("reward_sets.accuracy.0.type=acuracy",), "there is no reward called 'acuracy'"),
        (("arms.grpo=null",), "no arm of this recipe has a reward"),
    ],
)
def test_what_can_not_be_studied_is_one_line(
    calls: list[Any], capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], message: str
):
    assert cpt("rewards", "study", "demo.yaml", *arguments) == 2
    assert message in capsys.readouterr().err
    assert not calls


def test_the_audit_takes_a_studys_sets_from_its_recipe(calls: list[Any]):
    assert [one.label for one in rewards_in(Path("demo.yaml"))] == ["reward_sets.accuracy", "reward_sets.format"]
