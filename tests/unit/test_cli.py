"""The command line as a user meets it: exit codes, one-line errors, nothing started for a bad recipe."""

from __future__ import annotations

import subprocess
import sys
import types
from pathlib import Path
from typing import Any

import pytest
from command import cpt
from folders import model_folder

from cpt import __version__
from cpt.cli import build_model
from cpt.cli.app import COMMANDS, main
from cpt.cli.rewards import GROUP

RECIPE = """\
version: 1
name: demo
model: MODEL
tasks: [count-colour, which-row]
general: [exists]
rollout: {engine: hf}
arms:
  sft: {method: {type: sft, max_steps: 20}}
  grpo: {method: {type: grpo, max_steps: 20}}
"""


@pytest.fixture
def recipe(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.chdir(tmp_path)
    model_folder(tmp_path / "model")
    Path("demo.yaml").write_text(RECIPE.replace("MODEL", "./model"))
    return "demo.yaml"


@pytest.fixture
def calls(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, tuple[Any, ...], dict[str, Any]]]:
    """Stands in for the stage loop and notes what it is asked to do."""
    noted: list[tuple[str, tuple[Any, ...], dict[str, Any]]] = []

    def run_recipe(*args: Any, **kwargs: Any) -> int:
        noted.append(("run", args, kwargs))
        return 0

    def evaluate_folder(*args: Any, **kwargs: Any) -> None:
        noted.append(("eval", args, kwargs))

    monkeypatch.setitem(sys.modules, "cpt.run.loop", types.SimpleNamespace(run_recipe=run_recipe))
    monkeypatch.setattr("cpt.cli.evaluate.evaluate_folder", evaluate_folder)
    return noted


def test_run_hands_over_what_was_asked_for(recipe, calls):
    args = [
        "run",
        recipe,
        "data.samples=256",
        "--arm",
        "sft",
        "--arm",
        "grpo",
        "--out",
        "here",
        "--address",
        "ray://x:1",
    ]
    assert cpt(*args, "--fresh") == 0
    ((name, (loaded,), options),) = calls
    assert name == "run"
    assert loaded.data.samples == 256
    assert options == {
        "out": Path("here"),
        "arms": ["sft", "grpo"],
        "address": "ray://x:1",
        "fresh": True,
    }


def test_run_has_a_default_folder(recipe, calls):
    assert cpt("run", recipe) == 0
    options = calls[0][2]
    assert (options["out"], options["fresh"], options["address"], options["arms"]) == (
        Path("runs/demo"),
        False,
        None,
        None,
    )


def test_the_loop_decides_the_exit_code(recipe, calls, monkeypatch):
    monkeypatch.setattr(sys.modules["cpt.run.loop"], "run_recipe", lambda *args, **kwargs: 1)
    assert cpt("run", recipe) == 1


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (["arms.sft.method.learnig_rate=1"], "unknown key; did you mean 'learning_rate'?"),
        (["tasks=[parrity]"], "unknown task 'parrity'; did you mean 'parity'?"),
        (["model=/nowhere"], "model folder /nowhere does not exist"),
        (["data.samples=0"], "data.samples: must be greater than 0"),
        (["arms.sft.method=null"], "this arm has no method"),
        (["version=7"], "version: is 7, but this cpt reads version 1"),
        (["--arm", "gpro"], "there is no arm 'gpro'; did you mean 'grpo'?"),
        (["--out", "demo.yaml/run"], "demo.yaml/run: can't be written"),
    ],
)
def test_bad_input_is_one_line_and_exit_code_2_before_anything_starts(recipe, calls, capfd, override, message):
    assert cpt("run", recipe, *override) == 2
    shown = capfd.readouterr()
    assert shown.out == ""
    (line,) = shown.err.splitlines()
    assert line.startswith("cpt: error: ")
    assert message in line
    assert calls == []
    assert not Path("runs").exists()


def test_a_truncated_checkpoint_is_refused(recipe, calls, capfd):
    weights = Path("model/model.safetensors")
    weights.write_bytes(weights.read_bytes()[:-1])
    for args in (["run", recipe], ["plan", recipe], ["eval", "./model"]):
        assert cpt(*args) == 2
        assert "model.safetensors is cut off" in capfd.readouterr().err
    assert calls == []


def test_every_problem_gets_its_line(recipe, capfd):
    assert cpt("plan", recipe, "data.samples=0", "sedes=[1]") == 2
    lines = capfd.readouterr().err.splitlines()
    assert [line.split(":")[1] for line in lines] == [" error", " error"]


def test_a_traceback_is_shown_on_demand(recipe, monkeypatch):
    monkeypatch.setenv("CPT_DEBUG", "1")
    with pytest.raises(ValueError, match="must be greater than 0"):
        main(["plan", recipe, "data.samples=0"])


def test_an_interrupted_run_says_how_to_go_on(recipe, calls, monkeypatch, capfd):
    def interrupted(*args: Any, **kwargs: Any) -> int:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["cpt.run.loop"], "run_recipe", interrupted)
    assert cpt("run", recipe) == 130
    assert "the same command again goes on from here" in capfd.readouterr().err


def test_plan_shows_the_work_and_starts_nothing(recipe, calls, capfd):
    assert cpt("plan", recipe, "arms.sft.sweep.learning_rate=[1e-3, 1e-4]") == 0
    shown = capfd.readouterr().out
    for part in (
        "3 arms × 1 seed × 2 stages",
        "run folder  runs/demo",
        "sft@learning_rate=0.001",
        "16 × 8",
        "2 × 20",
        "disk",
        "1. count-colour",
        # Stage 1: 64 prompts each of its task and of the general one; stage 2: of both tasks and the general one.
        "drift       1920 completions in all",
        "0.156 in each stage, over 320 different prompts: grpo",
    ):
        assert part in shown
    assert calls == []
    assert sorted(path.name for path in Path().iterdir()) == ["demo.yaml", "model"]


def test_plan_can_print_the_resolved_recipe(recipe, capfd, tmp_path):
    assert cpt("plan", recipe, "--resolved") == 0
    (tmp_path / "again.yaml").write_text(capfd.readouterr().out)
    assert cpt("plan", "again.yaml") == 0


def test_eval_checks_its_input_and_hands_over(recipe, calls, capfd):
    assert cpt("eval", "./model", "--task", "parity", "--task", "exists", "--prompt", "think", "--samples", "8") == 0
    assert calls == [("eval", ("./model", ["parity", "exists"], "think", 8, None, None, None), {})]
    assert cpt("eval", "./model", "--task", "parity", "--max-tokens", "64") == 0
    assert calls.pop() == ("eval", ("./model", ["parity"], "direct", 256, None, 64, None), {})
    assert cpt("eval", "./model", "--task", "parrity") == 2
    assert "did you mean 'parity'" in capfd.readouterr().err
    assert cpt("eval", "./nowhere") == 2
    assert cpt("eval", "./model", "--samples", "0") == 2
    assert cpt("eval", "./model", "--max-tokens", "0") == 2
    assert len(calls) == 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "count-color"], "there is no task 'count-color' in this recipe; did you mean 'count-colour'?"),
        (["--task", "parity"], "there is no task 'parity' in this recipe"),  # one of cpt's, but not the recipe's
        (["--task", "exists", "--arm", "grop"], "there is no arm 'grop'; did you mean 'grpo'?"),
        (["--task", "exists", "--policy", "./nowhere"], "model folder ./nowhere does not exist"),
        (["--task", "exists", "arms.grpo.filter.type=rff"], "unknown value 'rff'; did you mean 'rif'?"),
    ],
)
def test_filter_refuses_bad_input_in_one_line(recipe, calls, capfd, arguments, message):
    assert cpt("filter", recipe, *arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert message in line
    assert not calls  # nothing of a run was imported


def test_tasks_lists_all_of_them(capfd):
    from cpt.tasks import task_names

    assert cpt("tasks") == 0
    shown = capfd.readouterr().out
    assert all(name in shown for name in task_names())


def test_help_and_version(capfd):
    assert cpt("--version") == 0
    assert capfd.readouterr().out == f"cpt {__version__}\n"
    assert cpt("--help") == 0
    shown = capfd.readouterr().out
    assert all(
        f"\n  {name} " in shown for name in ("run", "plan", "report", "eval", "filter", "tasks", "doctor", "model")
    )
    assert cpt("nonsense") == 2


def test_every_command_has_its_own_help(capfd):
    for args, groups in (
        ([], COMMANDS),
        (["rewards"], GROUP.info.cls.table),
        (["model"], build_model.GROUP.info.cls.table),
    ):
        for name in groups:
            assert cpt(*args, name, "--help") == 0
            assert f"Usage: cpt {' '.join([*args, name])} " in capfd.readouterr().out


def test_a_misspelt_command_is_told_the_nearest(capfd):
    assert cpt("rnu") == 2
    assert "No such command 'rnu'. Did you mean 'run'?" in capfd.readouterr().err


def test_help_imports_nothing_that_takes_time():
    heavy = ("torch", "transformers", "trl", "ray", "vllm", "matplotlib", "pyarrow", "numpy", "pydantic", "rich", "PIL")
    code = (
        "import sys\nfrom cpt.cli.app import main\ntry:\n    main(['--help'])\nexcept SystemExit:\n"
        f"    print('heavy:', [name for name in {heavy!r} if name in sys.modules])"
    )
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert shown.stdout.splitlines()[-1] == "heavy: []"
