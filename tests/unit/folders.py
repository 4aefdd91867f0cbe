"""Model folders of a few bytes, for tests that look at files only, and recipes for them."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import Any

import numpy as np
from safetensors.numpy import save_file

from cpt.plan.make import make_plan
from cpt.plan.stages import StagePlan
from cpt.recipe import Recipe, load_recipe

RECIPE = """\
version: 1
name: demo
model: {name_or_path: MODEL}
tasks: [count-colour, which-row]
arms:
  a:
"""
SHAPES = {"model.layers.0.q_proj.weight": (4, 4), "model.layers.0.norm.weight": (4,)}


def model_folder(path: Path, shapes: Mapping[str, tuple[int, ...]] = SHAPES, *, fill: int = 0) -> Path:
    """A folder with float32 weights of these shapes, every byte of them `fill`."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", "dtype": "float32"}))
    (path / "tokenizer.json").write_text("{}")
    tensors = {name: np.full(4 * math.prod(shape), fill, "u1").view("f4") for name, shape in shapes.items()}
    save_file({name: tensors[name].reshape(shape) for name, shape in shapes.items()}, path / "model.safetensors")
    return path


def load_arm(folder: Path, arm: str, *overrides: str) -> Recipe:
    """The recipe with this arm `a`, in YAML, on two tasks; `folder` gets the recipe's file and the model's folder."""
    if not (folder / "model").exists():
        model_folder(folder / "model")
    file = folder / "demo.yaml"
    file.write_text(RECIPE.replace("MODEL", str(folder / "model")) + indent(arm, "    "))
    return load_recipe(file, overrides)


def second_stage(folder: Path, method: Mapping[str, Any], replay: Mapping[str, Any]) -> StagePlan:
    """Stage 2, of which-row after count-colour."""
    arm = json.dumps({"method": method, "replay": replay})  # JSON is YAML
    return make_plan(load_arm(folder, arm)).stages[1]
