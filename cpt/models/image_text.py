"""Whether a model is of a kind that cpt trains, from its config.json alone: importing transformers takes five seconds.

The kinds are those of transformers' own table for `AutoModelForImageTextToText`, which loads every policy
(`cpt.models.load`). The table is read from the installed source, as `cpt.methods.trl_fields` reads TRL's arguments.
"""

from __future__ import annotations

import ast
import importlib.util
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path
from typing import Any

from cpt.tasks.world.builtin import MODELS

_AUTO_CLASS = "AutoModelForImageTextToText"
_TABLE = "MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES"


def check_image_text(config: Mapping[str, Any], name: str | Path) -> None:
    """Whether a model reads pictures and text and writes text.

    Args:
        config: its config.json.
        name: what to call the model in the message.

    Raises:
        ValueError: it is of another kind, such as a model of text alone.
    """
    kind = str(config.get("model_type"))
    known = image_text_types()
    own_code = config.get("auto_map")
    if not known or kind in known or (isinstance(own_code, Mapping) and _AUTO_CLASS in own_code):
        return
    raise ValueError(
        f"model {name}: {kind} is no image-text model, and cpt trains no other kind; name a model that reads pictures, "
        f"such as {next(iter(MODELS))} or Qwen/Qwen2.5-VL-3B-Instruct"
    )


@lru_cache(maxsize=1)
def image_text_types() -> frozenset[str]:
    """The `model_type`s in transformers' table; empty where transformers is not installed."""
    transformers = importlib.util.find_spec("transformers")
    if transformers is None or not transformers.origin:
        return frozenset()
    path = Path(transformers.origin).parent / "models" / "auto" / "modeling_auto.py"
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.Assign) and [ast.unparse(target) for target in node.targets] == [_TABLE]:
            pairs = (entry for entry in ast.walk(node.value) if isinstance(entry, ast.Tuple))
            return frozenset(str(entry.elts[0].value) for entry in pairs if isinstance(entry.elts[0], ast.Constant))
    raise AssertionError(f"{path} has no {_TABLE}: another version of transformers than the tested one")
