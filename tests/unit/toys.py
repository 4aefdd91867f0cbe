"""Modules of a few numbers, rows for them, and plug-ins on them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from pydantic import TypeAdapter
from torch import nn
from toy_stage import stage_of

from cpt.methods.plugin import Batch, Plugin
from cpt.methods.registry import AnyRegulariser, Regulariser

TABLE = [[1.0, 2.0], [0.0, 3.0]]  # for a `Lookup`
MODULE = "base_model.model.layers.0.q_proj"  # that an `adapter` is on
IGNORED = -100  # label of a token that is no completion


class Toy(nn.Module):
    """Holds tensors under given names, dots included, so that the names can be those of a large model."""

    def __init__(self, tensors: Mapping[str, Any]) -> None:
        super().__init__()
        for name, value in tensors.items():
            *path, last = name.split(".")
            module: nn.Module = self
            for part in path:
                if not hasattr(module, part):
                    module.add_module(part, nn.Module())
                module = getattr(module, part)
            module.register_parameter(last, nn.Parameter(torch.tensor(value, dtype=torch.float32)))


class Lookup(nn.Module):
    """Logits of the next token are a row of a table: [vocabulary, vocabulary]. Counts its forward passes."""

    def __init__(self, table: list[list[float]]) -> None:
        super().__init__()
        self.table = nn.Parameter(torch.tensor(table))
        self.passes = 0

    def forward(self, input_ids: torch.Tensor) -> SimpleNamespace:
        self.passes += 1
        return SimpleNamespace(logits=self.table[input_ids])


def adapter(a: list[list[float]], b: list[list[float]]) -> Toy:
    """A LoRA module's factors."""
    return Toy({f"{MODULE}.lora_A.default.weight": a, f"{MODULE}.lora_B.default.weight": b})


def factors(model: nn.Module) -> tuple[nn.Parameter, nn.Parameter]:
    """A and B of an `adapter`."""
    a, b = (model.get_parameter(f"{MODULE}.lora_{kind}.default.weight") for kind in "AB")
    return a, b


def batch(*rows: Sequence[int]) -> Batch:
    """Rows after a prompt of one token, padded with token 0 on the right."""
    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows])
    labels = torch.tensor([[IGNORED, *row[1:], *[IGNORED] * (longest - len(row))] for row in rows])
    return Batch({"input_ids": ids}, labels)


def plugin(**settings: Any) -> Plugin:
    setting: AnyRegulariser = TypeAdapter(Regulariser).validate_python(settings)
    return setting.plugin()


def move(model: nn.Module, **values: Any) -> None:
    """Set parameters."""
    with torch.no_grad():
        for name, value in values.items():
            model.get_parameter(name).copy_(torch.tensor(value, dtype=torch.float32))


def gradients(model: nn.Module, loss: torch.Tensor) -> dict[str, list[Any]]:
    model.zero_grad()
    loss.backward()
    return {name: p.grad.tolist() for name, p in model.named_parameters() if p.grad is not None}


def finished(model: nn.Module, memory: Path, index: int, earlier: Path | None, **settings: Any) -> None:
    """A stage that ends with the model as it is now, and started with it too."""
    done = plugin(**settings)
    stage = stage_of(model, memory, index, earlier)
    done.before_stage(stage)
    done.after_stage(stage)
