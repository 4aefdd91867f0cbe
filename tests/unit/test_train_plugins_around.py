"""Plug-ins around a stage: their order, the stage's seed, the moving average, and their part in checkpoints."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from folders import model_folder
from pydantic import TypeAdapter
from torch import nn

from cpt.methods.ema import Average
from cpt.methods.merge import EMA
from cpt.methods.plugin import Plugin
from cpt.methods.registry import Regulariser
from cpt.plan.make import make_plan
from cpt.plan.stages import StagePlan
from cpt.recipe import Recipe
from cpt.store.folder import StageDir
from cpt.train.plugin_state import load_states, missing_state, save_states
from cpt.train.plugins import StagePlugins, make_plugins


class Line(nn.Module):
    """Eight blocks of four numbers each, in two tensors."""

    def __init__(self) -> None:
        super().__init__()
        block = {"a": nn.Parameter(torch.zeros(2)), "b": nn.Parameter(torch.zeros(2))}
        self.layers = nn.ModuleList([nn.ParameterDict({k: v.clone() for k, v in block.items()}) for _ in range(8)])


@pytest.fixture
def stage(tmp_path: Path) -> StagePlan:
    model = str(model_folder(tmp_path / "model"))
    arms = {"arm": {"method": {"type": "sft", "max_steps": 2}}}
    content = {"version": 1, "name": "test", "model": {"name_or_path": model}, "tasks": ["parity"], "arms": arms}
    return make_plan(Recipe.model_validate(content)).stages[0]


def with_plugins(stage: StagePlan, *types: str, **changes: Any) -> StagePlan:
    settings = tuple(TypeAdapter(Regulariser).validate_python({"type": kind}) for kind in types)
    return replace(stage, regularisers=settings, **changes)


def begun(stage: StagePlan, model: nn.Module, folder: Path) -> Mapping[str, Any]:
    """The plug-ins of a stage that is about to train `model`."""
    trainer = SimpleNamespace(
        model=model,
        attach=lambda plugins, paying: None,
        accelerator=SimpleNamespace(unwrap_model=lambda wrapped: wrapped),
    )
    around = StagePlugins(stage, [], folder / "start", StageDir(folder / "out"), Any)
    around.before(trainer)
    return around.plugins


def test_what_holds_parameters_still_has_the_last_word(stage: StagePlan):
    plugins = make_plugins(with_plugins(stage, "freeze-bottom", "l2", "hft", "ewc", merge=EMA(type="ema")))
    assert list(plugins) == ["merge", "l2", "ewc", "freeze-bottom", "hft"]


def test_other_kinds_of_merging_need_no_plugin(stage: StagePlan):
    from cpt.methods.merge import LinearMerge

    assert make_plugins(with_plugins(stage, merge=LinearMerge(type="linear"))) == {}


def test_every_seed_and_stage_has_its_own_halves(stage: StagePlan, tmp_path: Path):
    def held(**changes: Any) -> list[str]:
        model = Line()
        names = {id(parameter): name for name, parameter in model.named_parameters()}
        found = begun(with_plugins(stage, "hft", **changes), model, tmp_path)["hft"]
        return sorted(names[id(parameter)] for parameter in found.held)

    assert len(held()) == 8
    assert held() == held(arm="other")
    assert held(seed=1) != held() != held(index=2)


# ---- the moving average


def average_of(model: nn.Module, decay: float) -> Average:
    plugin = Average(decay)
    plugin.before_stage(SimpleNamespace(parameters=dict(model.named_parameters())))
    return plugin


def walk(model: nn.Linear, plugin: Average, *weights: float) -> None:
    """Optimizer steps that put the weight at these places."""
    for weight in weights:
        model.weight.data.fill_(weight)
        plugin.after_step()


def averaged(model: nn.Linear, plugin: Average) -> float:
    plugin.after_stage(Any)
    return model.weight.item()


def line(start: float) -> nn.Linear:
    model = nn.Linear(1, 1, bias=False)
    model.weight.data.fill_(start)
    return model


def test_the_average_over_three_steps():
    model = line(8.0)
    plugin = average_of(model, 0.75)
    walk(model, plugin, 12.0, 4.0, 0.0)
    # 8 → 9 → 0.75 · 9 + 1 = 7.75 → 0.75 · 7.75 = 5.8125
    assert averaged(model, plugin) == 5.8125


def test_without_decay_it_is_the_policy():
    model = line(0.3)
    plugin = average_of(model, 0.0)
    walk(model, plugin, 0.1, 0.7)
    assert averaged(model, plugin) == torch.tensor(0.7).item()


def test_the_average_goes_on_from_a_checkpoint(tmp_path: Path):
    model, again = line(8.0), line(8.0)
    plugin, resumed = average_of(model, 0.75), average_of(again, 0.75)
    walk(model, plugin, 12.0, 4.0)
    save_states({"merge": plugin}, tmp_path)
    load_states({"merge": resumed}, tmp_path)
    walk(model, plugin, 0.0)
    walk(again, resumed, 0.0)
    assert averaged(again, resumed) == averaged(model, plugin) == 5.8125


# ---- in checkpoints


class Remembers(Plugin):
    """Leaves a note in a folder below its own."""

    def __init__(self, note: str = "") -> None:
        self.note = note

    def save(self, folder: Path) -> None:
        (folder / "deep").mkdir()
        (folder / "deep" / "note").write_text(self.note)

    def load(self, folder: Path) -> None:
        self.note = (folder / "deep" / "note").read_text()


def test_every_plugin_finds_its_own_state(tmp_path: Path):
    save_states({"a": Remembers("ours"), "b": Remembers("theirs"), "c": Plugin()}, tmp_path)
    found = {"a": Remembers(), "b": Remembers(), "c": Plugin()}
    load_states(found, tmp_path)
    assert (found["a"].note, found["b"].note) == ("ours", "theirs")
    assert missing_state(tmp_path, found) is None


def test_what_a_checkpoint_lacks_is_named(tmp_path: Path):
    assert missing_state(tmp_path, []) is None
    assert missing_state(tmp_path, ["a"]) == "plugins.json is missing"
    save_states({"a": Remembers("note")}, tmp_path)
    assert missing_state(tmp_path, ["a", "b"]) == "plugins.json does not know b"
    note = tmp_path / "plugins" / "a" / "deep" / "note"
    note.write_text("not")
    assert missing_state(tmp_path, ["a"]) == "plugins/a/deep/note missing or cut off"
    note.unlink()
    assert missing_state(tmp_path, ["a"]) == "plugins/a/deep/note missing or cut off"
