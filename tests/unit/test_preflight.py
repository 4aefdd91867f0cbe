"""What a recipe asks of its model, its tasks and this machine, found before anything starts."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from command import cpt as run_cpt
from demo_recipe import BASE, load_text, problems
from folders import model_folder

import cpt.tasks.registry
from cpt.cli.filter import filter_task
from cpt.plan.make import make_plan
from cpt.plan.preflight import check_fit, gpu_count, gpu_shares, machine_problems, preflight
from cpt.recipe import RecipeError
from cpt.recipe.schema import Resources, Rollout
from cpt.run.cluster import placement_of

GB = 1 << 30


@pytest.fixture
def load(tmp_path: Path):
    return partial(load_text, tmp_path)


@pytest.fixture
def machine(monkeypatch):
    """A machine with so many processors, GPUs and bytes."""

    def make(cpus: int = 4, gpus: int = 0, memory: int = 16 * GB) -> None:
        monkeypatch.setattr("os.cpu_count", lambda: cpus)
        monkeypatch.setattr("cpt.plan.preflight.gpu_count", lambda: gpus)
        monkeypatch.setattr("os.sysconf", {"SC_PAGE_SIZE": 1, "SC_PHYS_PAGES": memory}.__getitem__)

    return make


def unfit(recipe: Any) -> list[str]:
    with pytest.raises(RecipeError) as caught:
        check_fit(make_plan(recipe))
    return caught.value.problems


# ---- the model


@pytest.mark.parametrize(
    ("modules", "message"),
    [
        ("[lm_head]", "arms.sft.tuning.target_modules.0: lm_head can't have an adapter: the loss reads its weights"),
        ("[q_proj, embed_tokens]", "target_modules.1: embed_tokens can't have an adapter"),
        ("[q_porj]", "target_modules.0: the model has no linear layer 'q_porj'; did you mean 'q_proj'?"),
        ("[q_proj, nothing_like_it]", "the model has no linear layer 'nothing_like_it'; known: 0, 2, down_proj"),
    ],
)
def test_adapters_go_on_layers_that_the_model_has(load, modules, message):
    (problem, *_) = unfit(load(f"arms.sft.tuning={{type: lora, target_modules: {modules}}}"))
    assert problem.startswith("command line: ")
    assert message in problem
    check_fit(make_plan(load("arms.sft.tuning={type: lora, target_modules: [q_proj, v_proj]}")))


def test_a_model_that_has_none_of_the_usual_layers_says_which_it_has(load, tmp_path):
    model_folder(tmp_path / "model", {"layers.0.query_key_value.weight": (4, 4), "layers.0.norm.weight": (4,)})
    recipe = load(f"model={{name_or_path: {tmp_path / 'model'}, tuning: lora}}")
    (problem,) = unfit(recipe)
    assert "model.tuning.target_modules: the model has none of these linear layers; it has query_key_value" in problem


@pytest.mark.parametrize("tuning", ["full", "{type: lora, target_modules: [q_proj]}"])
def test_a_part_that_is_frozen_is_one_that_the_model_has(load, tmp_path, tuning):
    tensors = {"layers.0.q_proj.weight": (4, 4), "vision_tower.k_proj.weight": (4, 4)}
    model_folder(tmp_path / "model", tensors)
    settings = [f"model={{name_or_path: {tmp_path / 'model'}, tuning: {tuning}}}"]
    check_fit(make_plan(load(*settings, "model.freeze=[vision_tower]")))
    told = "the model has no projector; leave it out"
    (problem,) = unfit(load(*settings, "model.freeze=[vision_tower, projector]"))
    assert problem == f"command line: model.freeze.1: {told}"
    (problem,) = unfit(load(*settings, "arms.sft.freeze=[projector]"))
    assert problem == f"command line: arms.sft.freeze.0: {told}"


def test_what_is_frozen_is_not_there_to_be_trained(load, tmp_path):
    model_folder(tmp_path / "model", {"layers.0.k_proj.weight": (4, 4), "vision_tower.q_proj.weight": (4, 4)})
    model = f"model={{name_or_path: {tmp_path / 'model'}, freeze: [vision_tower]}}"
    (problem, *_) = unfit(load(model, "model.tuning={type: lora, target_modules: [q_proj]}"))
    assert "model.tuning.target_modules.0: the model has no linear layer 'q_proj'" in problem
    assert problem.endswith(", beside the frozen vision_tower")
    model_folder(tmp_path / "blind", {"vision_tower.q_proj.weight": (4, 4)})
    (problem,) = unfit(load(f"model={{name_or_path: {tmp_path / 'blind'}, freeze: [vision_tower]}}"))
    assert problem.endswith("model.freeze: leaves nothing to train; freeze less")


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "evaluation.max_tokens=512",
            "evaluation.max_tokens: 512 tokens leave no room for a prompt: the model's limit is",
        ),
        (
            "arms.grpo.method.max_completion_length=600",
            "arms.grpo.method.max_completion_length: 600 tokens leave no room",
        ),
        ("rollout={max_model_len: 1024}", "rollout.max_model_len: 1024 tokens are more than the model has, 512"),
        (
            "rollout={max_model_len: 8}",
            "8 tokens leave no room for a prompt: rollout.max_model_len is 8 tokens for both",
        ),
    ],
)
def test_completions_leave_room_for_a_prompt(load, override, message):
    assert any(message in problem for problem in unfit(load(override)))


# ---- the tasks


def test_more_samples_than_a_task_has_are_refused(load, monkeypatch):
    known = {**cpt.tasks.registry._registry()}
    sized = SimpleNamespace(**{name: getattr(known["count-colour"], name) for name in ("name", "role", "samples")})
    sized.size = lambda split: {"train": 100, "test": 20}[split]
    monkeypatch.setattr(cpt.tasks.registry, "_registry", lambda: {**known, "count-colour": sized, "exists": sized})
    recipe = load("data.samples=101", "evaluation.samples=21")  # what is said of all tasks is all of a smaller one
    assert (recipe.training_samples(recipe.tasks[0]), recipe.test_samples(recipe.tasks[0])) == (100, 20)
    assert (recipe.training_samples(recipe.tasks[1]), recipe.test_samples(recipe.tasks[1])) == (101, 21)
    given = "tasks=[{name: count-colour, samples: 200, evaluation_samples: 30}]"
    assert [problem.split(": ")[1] for problem in problems(load, given, "evaluation.samples=20")] == [
        "tasks.0.samples",
        "tasks.0.evaluation_samples",
    ]


# ---- the machine


@pytest.mark.parametrize(
    ("overrides", "there", "message"),
    [
        (["rollout.engines=5"], {}, ("rollout.engines", "5 engines need a CPU core each, and this machine has 4")),
        (
            ["resources.trainer_gpus=1"],
            {},
            ("resources.trainer_gpus", "1 GPU for training and 0 for each of 1 engines"),
        ),
        (["resources.engine_gpus=1.0"], {"gpus": 1}, ("resources.engine_gpus", "more than this machine has, 1")),
        (["rollout.engines=2"], {"gpus": 1}, ("rollout.engines", "0.5 GPU for training and 0.5 for each of 2 engines")),
        (["data.samples=1000000"], {}, ("data.samples", "1000000 samples at once take about 20.0 GB")),
        (["evaluation.samples=500000"], {}, ("evaluation.samples", "1500000 samples at once take about 30.0 GB")),
        (["model.attention=flash_attention_2"], {}, ("model.attention", "flash_attention_2 computes on GPUs alone")),
        (
            ["model.attention=flash_attention_2", "resources.engine_gpus=0", "rollout.engine=hf"],
            {"gpus": 1},
            ("model.attention", "flash_attention_2 computes on GPUs alone"),
        ),
        (
            ["model.attention=flash_attention_3"],
            {"gpus": 2},
            ("model.attention", "flash_attn_interface is not installed"),
        ),
    ],
)
def test_a_machine_that_is_too_small_is_told(load, machine, tmp_path, overrides, there, message):
    machine(**there)
    recipe = load(*overrides)
    (problem,) = machine_problems(make_plan(recipe))
    assert ".".join(map(str, problem[0])) == message[0]
    assert message[1] in problem[1]
    with pytest.raises(RecipeError, match=r"^command line: "):
        preflight(recipe, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_flash_attention_does_not_compute_in_float32(load, machine, monkeypatch):
    monkeypatch.setattr("cpt.plan.preflight.PACKAGES", {"flash_attention_2": "json"})  # a package that is there
    machine(gpus=2)
    flash = "model.attention=flash_attention_2"
    (problem,) = machine_problems(make_plan(load(flash, "model.dtype=float32")))
    assert problem == (
        ("model", "attention"),
        "flash_attention_2 does not compute in float32; set model.dtype: bfloat16, or auto here",
    )
    assert list(machine_problems(make_plan(load(flash, "model.dtype=bfloat16")))) == []


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("rollout.engines=64", "64 engines need a CPU core each, and this machine has 4; set fewer"),
        ("rollout={max_model_len: 1024}", "1024 tokens are more than the model has, 512"),
    ],
)
def test_cpt_filter_checks_the_same(load, machine, tmp_path, override, message):
    machine()
    with pytest.raises(RecipeError, match=message):
        filter_task(load(override), "count-colour", None, None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(("visible", "count"), [(None, 2), ("", 0), ("-1", 0), ("3", 1), ("0,3", 2), ("0,1,2", 2)])
def test_gpus_are_those_that_processes_would_see(monkeypatch, visible, count):
    """Not the first one of a machine alone: a container may be given others."""
    names = ["nvidia1", "nvidia3", "nvidiactl", "nvidia-uvm"]
    monkeypatch.setattr(Path, "glob", lambda folder, pattern: (folder / name for name in names))
    if visible is None:
        monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    else:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    assert gpu_count() == count


def test_a_cluster_may_be_larger_than_this_machine(load, machine, tmp_path):
    machine()
    recipe = load("rollout.engines=64", "resources={trainer_gpus: 1, engine_gpus: 1.0}")
    preflight(recipe, tmp_path / "out", address="head:6379")


def test_what_fits_is_no_problem(load, machine):
    for there, overrides in (
        ({}, ()),
        ({"cpus": 1}, ("rollout.engines=3",)),  # a local Ray is given three at least
        ({"gpus": 1}, ()),
        ({"gpus": 2}, ("resources={trainer_gpus: 1, engine_gpus: 1.0}",)),
        ({"gpus": 4, "cpus": 32}, ("rollout.engines=3",)),
    ):
        machine(**there)
        assert list(machine_problems(make_plan(load(*overrides)))) == []


@pytest.mark.parametrize("gpus", [0, 1, 2, 3, 8])
def test_ray_is_asked_for_what_was_checked(monkeypatch, gpus):
    monkeypatch.setattr("ray.cluster_resources", lambda: {"GPU": float(gpus)})
    placement = placement_of(Rollout(engines=2), Resources())
    assert (placement.trainer_gpus, placement.engine_gpus) == gpu_shares(gpus, 2)


def test_plan_says_what_this_machine_could_not_run(tmp_path, machine, capfd, monkeypatch):
    monkeypatch.chdir(tmp_path)
    machine()
    (tmp_path / "demo.yaml").write_text(BASE)
    assert run_cpt("plan", "demo.yaml", "rollout.engines=5") == 0
    assert "not here    rollout.engines: 5 engines need a CPU core each" in capfd.readouterr().out
