"""Model folders of a few bytes, for tests that look at files only."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

SHAPES = {"model.layers.0.q_proj.weight": (4, 4), "model.layers.0.norm.weight": (4,)}


def model_folder(path: Path, shapes: Mapping[str, tuple[int, ...]] = SHAPES, *, fill: int = 0) -> Path:
    """A folder with float32 weights of these shapes, every byte of them `fill`."""
    path.mkdir(parents=True)
    (path / "config.json").write_text(json.dumps({"model_type": "qwen2_5_vl", "dtype": "float32"}))
    (path / "tokenizer.json").write_text("{}")
    header: dict[str, object] = {"__metadata__": {"format": "pt"}}
    end = 0
    for name, shape in shapes.items():
        start, end = end, end + 4 * math.prod(shape)
        header[name] = {"dtype": "F32", "shape": list(shape), "data_offsets": [start, end]}
    text = json.dumps(header).encode()
    (path / "model.safetensors").write_bytes(len(text).to_bytes(8, "little") + text + bytes([fill]) * end)
    return path
