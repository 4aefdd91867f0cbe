"""Regularisers: LwF by hand, what a coefficient does, what recipes may say of them, and the guide's example."""

from __future__ import annotations

import importlib.util
import math
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, get_args

import pytest
import torch
import yaml
from folders import load_arm
from pydantic import TypeAdapter
from torch import nn
from toy_stage import stage_of
from toys import TABLE, Lookup, Toy, adapter, batch, factors, gradients, plugin

from cpt.methods.likelihood import nll
from cpt.methods.registry import AnyRegulariser
from cpt.methods.setting import Setting
from cpt.recipe import RecipeError

GUIDE = Path(__file__).resolve().parents[2] / "docs" / "adding_a_method.md"


def test_lwf_is_the_divergence_from_the_stages_start(tmp_path: Path):
    start, model = Lookup([[0.0, 0.0], [7.0, 0.0]]), Lookup([[2.0, 0.0], [0.0, 0.0]])
    lwf = plugin(type="lwf", coefficient=3.0, temperature=2.0)
    lwf.before_stage(stage_of(model, tmp_path, references={"stage_start": start}))
    loss = lwf.term(model, batch([0, 1]))  # the row of token 1 is not looked at
    q = math.e / (1 + math.e)  # softmax((2, 0) / 2)
    kl = 0.5 * math.log(0.5 / q) + 0.5 * math.log(0.5 / (1 - q))
    assert loss.item() == pytest.approx(3 * 2**2 * kl, rel=1e-5)
    assert lwf.metrics() == {"kl": pytest.approx(kl, rel=1e-5)}
    # d/dz of T² KL(p‖softmax(z/T)) = T (q − p)
    expected = 3 * 2 * (q - 0.5)
    assert gradients(model, loss)["table"] == [pytest.approx([expected, -expected], rel=1e-5), [0.0, 0.0]]
    assert start.table.grad is None
    assert lwf.term(start, batch([0, 1])).item() == 0.0


# ---- more of it keeps nearer


def new_adapter() -> Toy:
    return adapter([[1.0, 0.5]], [[0.0], [0.0]])


def fit_first(model: nn.Module) -> torch.Tensor:
    """Loss of a first task: token 1 after token 0, or a BA with one large entry."""
    return nll(model, batch([0, 1])) if isinstance(model, Lookup) else distance(model, [[2.0, 0.0], [0.0, 0.0]])


def fit_second(model: nn.Module) -> torch.Tensor:
    """Loss of a second task that pulls at what the first one needs."""
    return nll(model, batch([0, 0])) if isinstance(model, Lookup) else distance(model, [[-2.0, 1.0], [0.0, 1.0]])


def distance(model: nn.Module, target: list[list[float]]) -> torch.Tensor:
    a, b = factors(model)
    return (b @ a - torch.tensor(target)).square().sum()


@pytest.mark.parametrize(
    ("settings", "make", "little", "much"),
    [
        ({"type": "ewc", "samples": 1}, lambda: Lookup(TABLE), 0.1, 10.0),
        ({"type": "mas", "samples": 1}, lambda: Lookup(TABLE), 0.01, 1.0),
        ({"type": "l2"}, lambda: Lookup(TABLE), 0.01, 1.0),
        ({"type": "cpo", "share": 0.5}, lambda: Lookup(TABLE), 0.01, 0.5),
        ({"type": "o-lora"}, new_adapter, 0.001, 0.5),
        ({"type": "reg-lora", "share": 0.25}, new_adapter, 0.01, 1.0),
    ],
    ids=lambda value: value["type"] if isinstance(value, dict) else "",
)
def test_a_larger_coefficient_keeps_nearer(
    tmp_path: Path, settings: dict[str, Any], make: Callable[[], nn.Module], little: float, much: float
):
    left = []
    for coefficient in (little, much):
        model, earlier = make(), None
        for index, fit in ((1, fit_first), (2, fit_second)):
            memory = tmp_path / f"{coefficient}" / str(index)
            if index == 2 and not isinstance(model, Lookup):
                model = make()
            regulariser = plugin(coefficient=coefficient, **settings)
            stage = stage_of(model, memory, index, earlier, [batch([0, 1])])
            regulariser.before_stage(stage)
            optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
            for _ in range(20):
                penalty = regulariser.penalty()
                loss = fit(model) if penalty is None else fit(model) + penalty
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            end = regulariser.penalty()
            regulariser.after_stage(stage)
            earlier = memory
        left.append(end.item() / coefficient)
    assert 0 < left[1] < 0.9 * left[0]


# ---- every regulariser


@pytest.mark.parametrize("setting", get_args(AnyRegulariser), ids=lambda setting: setting.__name__)
def test_every_regulariser_says_what_it_is_and_costs(setting: type[Setting]):
    (name,) = get_args(setting.model_fields["type"].annotation)
    assert setting(type=name).plugin().metrics()  # every other setting has a default
    assert "arXiv" in setting.__doc__
    assert f"| `{name}` |" in GUIDE.read_text(encoding="utf-8")


FRESH, CONTINUED = "{type: lora}", "{type: lora, between_stages: continue}"


def problems(tmp_path: Path, kind: str, tuning: str = "full", decay: float = 0.0) -> list[str]:
    method = f"method: {{type: sft, max_steps: 1, weight_decay: {decay}}}"
    try:
        load_arm(tmp_path, f"{method}\ntuning: {tuning}\nregularisers: [{{type: {kind}}}]")
    except RecipeError as error:
        return error.problems
    return []


@pytest.mark.parametrize(
    ("kind", "tuning", "decay", "remedy"),
    [
        ("mas", FRESH, 0.0, "mas needs tuning: full"),
        ("cpo", FRESH, 0.0, "cpo needs tuning: full"),
        ("hft", FRESH, 0.0, "hft needs tuning: full"),
        ("hft", "full", 0.01, "hft holds parameters still, weight decay moves them; set method.weight_decay: 0"),
        ("freeze-bottom", "full", 0.01, "freeze-bottom holds parameters still"),
        ("o-lora", "full", 0.0, "o-lora acts on adapters; set tuning: {type: lora}"),
        ("reg-lora", "full", 0.0, "reg-lora acts on adapters"),
        (
            "o-lora",
            CONTINUED,
            0.0,
            "o-lora compares the adapters of different stages; set tuning.between_stages: merge",
        ),
        ("reg-lora", CONTINUED, 0.0, "reg-lora compares the adapters of different stages"),
    ],
)
def test_what_cannot_work_together_is_refused(tmp_path: Path, kind: str, tuning: str, decay: float, remedy: str):
    (problem,) = problems(tmp_path, kind, tuning, decay)
    assert "arms.a.regularisers.0: " + remedy in problem


def test_the_base_model_has_no_adapter_to_be_near(tmp_path: Path):
    (problem,) = problems(tmp_path, "l2, reference: base", FRESH)
    assert "arms.a.regularisers.0.reference: the base model has no adapter" in problem
    assert problems(tmp_path, "l2, reference: base") == []


@pytest.mark.parametrize(
    ("kind", "tuning", "decay"),
    [
        *((kind, "full", 0.0) for kind in ("ewc", "mas", "l2", "lwf", "cpo", "freeze-bottom", "hft")),
        *((kind, FRESH, 0.01) for kind in ("l2", "lwf", "o-lora", "reg-lora")),
        *((kind, CONTINUED, 0.0) for kind in ("l2", "lwf", "freeze-bottom")),
    ],
)
def test_what_works_together_is_accepted(tmp_path: Path, kind: str, tuning: str, decay: float):
    assert problems(tmp_path, kind, tuning, decay) == []


# ---- the guide's worked example


@pytest.fixture
def guide(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """The module that the guide writes, as it stands there."""
    (source,) = re.findall(
        r"<!-- file: cpt/methods/confidence\.py -->\n```python\n(.+?)```", GUIDE.read_text("utf-8"), re.DOTALL
    )
    file = tmp_path / "confidence.py"
    file.write_text(source)
    spec = importlib.util.spec_from_file_location("confidence", file)
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "confidence", module)
    spec.loader.exec_module(module)
    return module


def test_the_guides_example_is_one_more_regulariser(guide: Any):
    registry = TypeAdapter(AnyRegulariser | guide.Confidence)
    (written,) = re.findall(r"regularisers: \[(\{type: confidence.*?\})\]", GUIDE.read_text("utf-8"))
    setting = registry.validate_python(yaml.safe_load(written))
    assert isinstance(setting, guide.Confidence)
    assert isinstance(setting.plugin(), guide.ConfidencePlugin)


def test_the_guides_example_does_what_it_says(guide: Any):
    even = Lookup([[3.0, 3.0], [9.0, 0.0]])
    plugin = guide.Confidence(type="confidence", coefficient=0.5).plugin()
    loss = plugin.term(even, batch([0, 1]))
    assert loss.item() == pytest.approx(-0.5 * math.log(2))
    assert gradients(even, loss)["table"] == [pytest.approx([0.0, 0.0], abs=1e-6), [0.0, 0.0]]  # the largest entropy
    p = math.e / (1 + math.e)
    sure = Lookup([[1.0, 0.0], [0.0, 0.0]])
    loss = plugin.term(sure, batch([0, 1]))
    entropy = -p * math.log(p) - (1 - p) * math.log(1 - p)
    assert loss.item() == pytest.approx(-0.5 * entropy, rel=1e-5)
    assert plugin.metrics() == {"entropy": pytest.approx(entropy, rel=1e-5)}
    # ∂(−H)/∂z_0 = p (log p + H)
    expected = 0.5 * p * (math.log(p) + entropy)
    assert gradients(sure, loss)["table"][0] == pytest.approx([expected, -expected], rel=1e-4)
