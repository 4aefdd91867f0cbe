"""A small recipe as a file, to be changed and loaded."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from cpt.recipe import Recipe, RecipeError, load_recipe

BASE = """\
version: 1
name: demo
model: {name_or_path: builtin/tiny-qwen2_5-vl}
tasks: [count-colour, which-row]
general: [exists]
arms:
  sft:
    method:
      type: sft
      learning_rate: 1e-4
      max_steps: 10
  grpo: {method: {type: grpo, max_steps: 10}}
"""


def write(tmp_path: Path, text: str = BASE, name: str = "demo.yaml") -> Path:
    path = tmp_path / name
    path.write_text(text)
    return path


def load_text(tmp_path: Path, *overrides: str, text: str = BASE) -> Recipe:
    return load_recipe(write(tmp_path, text), overrides)


def problems(load: Callable[..., Recipe], *overrides: str, **text: str) -> list[str]:
    """What `load` complains of; `text` as it takes it."""
    with pytest.raises(RecipeError) as caught:
        load(*overrides, **text)
    return caught.value.problems
