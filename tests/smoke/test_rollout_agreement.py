"""After a push engine and trainer agree on a few prompts with pictures, and what is wrong if they don't."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from stages import planned, trained

from cpt.rollout.engine import EngineSettings
from cpt.rollout.local import LocalPool, build_engine

pytestmark = pytest.mark.smoke

SFT = {"type": "sft", "max_steps": 1, "per_device_train_batch_size": 8}
TASKS = {"arithmetic": 4, "which-row": 4, "exists": 4}  # the first one has no pictures


class Turned(LocalPool):
    """An engine that turns pictures by their orientation, where the trainer doesn't."""

    def generate(self, requests: Any, params: Any, *, version: str) -> Any:
        turned = [replace(one, images=tuple(image.rotate(180) for image in one.images)) for one in requests]
        return super().generate(turned, params, version=version)


class Stale(LocalPool):
    """An engine that misses a push of one tensor."""

    def push(self, named_tensors: Any, version: str) -> float:
        moved = ((name, value * (1.1 if "layers.0.mlp" in name else 1)) for name, value in named_tensors)
        return super().push(moved, version)


def pool_of(kind: type[LocalPool], shipped: Path, dtype: str = "float32") -> LocalPool:
    return kind(build_engine("hf", EngineSettings(str(shipped), dtype=dtype)))


def agreement(pool: LocalPool, shipped: Path, **options: Any) -> float:
    from cpt.models.load import load_policy, load_processor
    from cpt.rollout.agreement import Terms, check_agreement

    terms = Terms("row 0", **{"samples": TASKS, "prompt": "think", "max_tokens": 8, "bound": 1e-4} | options)
    policy = load_policy(shipped, dtype=pool.settings.dtype)
    version = pool.push_folder(shipped, "v")
    return check_agreement(terms, policy, load_processor(shipped), pool, version)


def test_they_agree_in_both_precisions(shipped: Path):
    assert 0 < agreement(pool_of(LocalPool, shipped), shipped) <= 1e-4
    assert 1e-4 < agreement(pool_of(LocalPool, shipped, "bfloat16"), shipped, bound=0.5, relative=True) < 0.1


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("kind", "cause"),
    [(Turned, "they see other pixels, for without its 1 pictures"), (Stale, "they hold other weights")],
)
def test_the_message_tells_pixels_from_weights_and_names_the_sample(shipped: Path, kind: Any, cause: str, dtype: str):
    half = dtype == "bfloat16"
    options = {"bound": 0.5 if half else 1e-4, "relative": half}
    with pytest.raises(ValueError, match=f"row 0: sample which-row/test/0/.*{cause}") as caught:
        agreement(pool_of(kind, shipped, dtype), shipped, **options)
    assert ("what bfloat16 explains" in str(caught.value)) is half


def test_without_pictures_it_can_only_be_the_weights(shipped: Path):
    assert agreement(pool_of(Turned, shipped), shipped, samples={"arithmetic": 4}) <= 1e-4
    with pytest.raises(ValueError, match=r"sample arithmetic/test/.*they hold other weights, or compute something"):
        agreement(pool_of(Stale, shipped), shipped, samples={"arithmetic": 4})


def test_a_processor_that_reads_pictures_otherwise_beside_text_is_refused(shipped: Path, monkeypatch: Any):
    from cpt.models.inputs import ModelInputs

    pictures = ModelInputs.pictures

    def brighter(self: Any, images: Any) -> Any:
        tensors = [{**one.tensors, "pixel_values": one.tensors["pixel_values"] + 1} for one in pictures(self, images)]
        return [replace(one, tensors=own) for one, own in zip(pictures(self, images), tensors, strict=True)]

    monkeypatch.setattr(ModelInputs, "pictures", brighter)
    with pytest.raises(ValueError, match=r"sample which-row/test/0/0: .* makes other pixels of its pictures with the"):
        agreement(pool_of(LocalPool, shipped), shipped)


def test_a_stage_of_sft_stops_when_the_engines_see_other_pixels(shipped: Path, trainers: None, tmp_path: Path):
    (stage,) = planned(shipped, SFT, tasks=["which-row"], samples=8)
    trained(stage, shipped, tmp_path / "fine", pool_of(LocalPool, shipped))
    with pytest.raises(ValueError, match=r"stage 1 .*sample .*they see other pixels"):
        trained(stage, shipped, tmp_path / "turned", pool_of(Turned, shipped))


def test_the_base_model_is_checked_in_the_process_that_trains_next(shipped: Path, trainers: None):
    from cpt.plan.make import make_plan
    from cpt.recipe import Recipe
    from cpt.run.worker import TrainWorker

    asked = {"version": 1, "name": "test", "model": {"name_or_path": str(shipped)}, "tasks": ["which-row"]}
    (base,) = make_plan(Recipe.model_validate(asked | {"arms": {"arm": {"method": SFT}}})).bases
    assert TrainWorker().check(base, pool_of(LocalPool, shipped)) <= 1e-4
    with pytest.raises(ValueError, match=r"the base model: sample which-row/test/0/0: .*they see other pixels"):
        TrainWorker().check(base, pool_of(Turned, shipped))
