"""What a family of models can't do is said before anything starts, with a sample and what to change."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from folders import load_arm, model_folder

import cpt.rollout.limits as limits
from cpt.cli.evaluate import evaluate_folder
from cpt.cli.filter import filter_task
from cpt.recipe.schema import Resources, Rollout
from cpt.run.loop import run_recipe
from cpt.tasks.world.builtin import MODELS


def folder(path: Path, kind: str) -> str:
    (path / "config.json").write_text(json.dumps({"model_type": kind}))
    return str(path)


@pytest.mark.parametrize(
    ("kind", "engine", "gpu", "pictures", "message"),
    [
        ("paligemma", "hf", False, 0, "s/0 has no picture: .* leave its task out"),
        ("paligemma", "vllm", True, 1, "vLLM lets a prompt's words .* rollout.engine: hf"),
        ("gemma3", "vllm", False, 1, "on a CPU vLLM lets a picture's tokens .* rollout.engine: hf"),
        ("llava_onevision", "vllm", True, 3, "s/0 has 3 pictures: .* rollout.engine: hf"),
        ("gemma3", "vllm", False, 0, ""),
        ("gemma3", "vllm", True, 2, ""),
        ("gemma3", "hf", False, 2, ""),
        ("llava_onevision", "vllm", False, 1, ""),
        ("llava_onevision", "hf", False, 3, ""),
        ("paligemma", "hf", False, 2, ""),
        ("qwen2_5_vl", "vllm", False, 4, ""),
    ],
)
def test_what_is_refused_and_what_is_not(tmp_path: Path, kind, engine, gpu, pictures, message):
    asked = [("s/0", pictures)]
    if message:
        with pytest.raises(ValueError, match=message):
            limits.check_family(folder(tmp_path, kind), engine, gpu=gpu, pictures=asked)
    else:
        limits.check_family(folder(tmp_path, kind), engine, gpu=gpu, pictures=asked)


@pytest.mark.parametrize(
    ("engine", "gpus", "there", "kind"),
    [
        ("vllm", "auto", False, ("vllm", False)),
        ("vllm", "auto", True, ("vllm", True)),
        ("vllm", 0, True, ("vllm", False)),
        ("hf", 0.5, False, ("hf", True)),  # where there is none the machine is refused
        ("auto", "auto", True, ("vllm", True)),
        ("auto", 0, True, ("hf", False)),  # small enough for a CPU
    ],
)
def test_the_engines_that_a_recipe_gets(monkeypatch: pytest.MonkeyPatch, engine, gpus, there, kind):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: name)
    tiny = str(MODELS["builtin/tiny-qwen2_5-vl"])
    found = limits.engine_kind(tiny, Rollout(engine=engine), Resources(engine_gpus=gpus), gpu=there)
    assert (found.name, found.gpu) == kind


def test_a_run_that_a_family_can_t_do_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("cpt.plan.preflight.gpu_count", lambda: 0)
    recipe = load_arm(tmp_path, "{method: {type: sft, max_steps: 2}}", "evaluation.samples=2", "rollout.engine=vllm")
    folder(tmp_path / "model", "gemma3")
    with pytest.raises(ValueError, match="has 1 pictures: on a CPU vLLM"):
        run_recipe(recipe, out=tmp_path / "run")
    assert not (tmp_path / "run").exists()


def test_cpt_eval_says_it_too(tmp_path: Path):
    model = model_folder(tmp_path / "model")
    folder(model, "paligemma")
    with pytest.raises(ValueError, match="has no picture: PaliGemma"):
        evaluate_folder(str(model), ["exists", "arithmetic"], "direct", 2, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_cpt_filter_says_it_too(tmp_path: Path):
    arm = "{method: {type: grpo, max_steps: 2}}"
    recipe = load_arm(tmp_path, arm, "data.samples=64", "general=[arithmetic]")
    folder(tmp_path / "model", "paligemma")
    with pytest.raises(ValueError, match="has no picture: PaliGemma"):
        filter_task(recipe, "arithmetic", None, None, tmp_path / "out")
    assert not list((tmp_path / "out").glob("*"))


def test_a_processor_without_its_package_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(limits.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match="the processor of smolvlm needs the package num2words"):
        limits.check_family(folder(tmp_path, "smolvlm"), "hf", gpu=False, pictures=[])
