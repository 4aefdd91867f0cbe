"""Which attention a model computes with: transformers' choice, the recipe's, and the built-in model's own."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

import families  # noqa: E402

from cpt.models import precision  # noqa: E402
from cpt.models.attention import check_attention  # noqa: E402
from cpt.models.export import save_policy  # noqa: E402
from cpt.models.load import load_policy  # noqa: E402
from cpt.tasks.world import builtin, tiny  # noqa: E402

(FOLDER,) = builtin.MODELS.values()


@pytest.fixture(scope="module")
def other(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small model of the built-in one's family."""
    return families.save_family("qwen2_5_vl", tmp_path_factory.mktemp("qwen"))


def implementations(model: Any) -> tuple[str, str]:
    return model.config._attn_implementation, model.config.vision_config._attn_implementation


def test_the_built_in_model_is_known_after_training_too(tmp_path: Path):
    model = load_policy(FOLDER)
    assert builtin.is_accelerated(model)
    with torch.no_grad():
        model.lm_head.weight.mul_(2)
    save_policy(model, FOLDER, tmp_path / "policy")
    trained = load_policy(tmp_path / "policy", dtype="bfloat16")
    assert builtin.is_accelerated(trained) and builtin.is_accelerated(copy.deepcopy(trained))
    anew = tiny.make_model(tiny.make_processor().tokenizer)
    assert builtin.is_accelerated(builtin.accelerate(anew))


@pytest.mark.parametrize(
    "change", [{"text": {"hidden_size": 64}}, {"vision": {"patch_size": 16}}, {"text": {"num_hidden_layers": 5}}]
)
def test_another_size_is_another_model(change: dict[str, dict[str, int]]):
    config = transformers.AutoConfig.from_pretrained(FOLDER)
    assert tiny.is_tiny(config)
    for part, values in change.items():
        for name, value in values.items():
            setattr(getattr(config, f"{part}_config"), name, value)
    assert not tiny.is_tiny(config)


def test_another_model_takes_transformers_way(other: Path):
    model = load_policy(other)
    assert not builtin.is_accelerated(model) and implementations(model) == ("sdpa", "sdpa")
    assert implementations(load_policy(other, attention="eager")) == ("eager", "eager")


def test_the_built_in_model_too_does_what_the_recipe_names():
    for name in ("eager", "sdpa"):
        model = load_policy(FOLDER, attention=name)
        assert not builtin.is_accelerated(model) and implementations(model) == (name, name)


def test_what_a_model_has_not_is_said_in_a_sentence(other: Path):
    for name in ("eager", "sdpa"):
        check_attention(str(other), name)
    with pytest.raises(
        ValueError, match=r"^Qwen2_5_VL\w+ does not support .* torch's flex_attention; set auto, or ano"
    ):
        check_attention(str(other), "flex_attention")


def test_flash_attention_gives_way_where_a_model_computes_in_float32(other: Path, monkeypatch: pytest.MonkeyPatch):
    """Eager stands for it: flash attention itself needs a GPU."""
    monkeypatch.setattr(precision, "PACKAGES", {"eager": "its package"})
    model = load_policy(other, dtype="bfloat16", attention="eager")
    with precision.in_float32(model):
        assert implementations(model) == ("sdpa", "sdpa")
    assert implementations(model) == ("eager", "eager")
