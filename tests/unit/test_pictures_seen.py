"""Engine and trainer are given the same pixels, whatever kind of picture a task hands over."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from PIL import Image
from test_pictures import reopened, tagged

torch = pytest.importorskip("torch")
pytest.importorskip("transformers")

from cpt.models.image_text import image_text_types  # noqa: E402
from cpt.rollout.encode import encode_prompts, fill_images  # noqa: E402
from cpt.rollout.engine import EngineSettings  # noqa: E402
from cpt.rollout.engine_hf import HFEngine  # noqa: E402
from cpt.rollout.local import LocalPool, local_folder  # noqa: E402
from cpt.tasks import get_task  # noqa: E402
from cpt.train.data import policy_rows  # noqa: E402
from cpt.types import GenerationRequest, Sample, SamplingParams  # noqa: E402

MODEL = str(local_folder("builtin/tiny-qwen2_5-vl"))


def kinds() -> dict[str, Image.Image]:
    """A picture of every kind that engines or image processors take differently."""
    palette = Image.new("P", (12, 8), 1)
    palette.putpalette([10, 200, 30, 240, 50, 60])
    palette.paste(0, (0, 0, 5, 3))
    half = Image.new("RGBA", (12, 8), (200, 10, 10, 100))
    half.paste((10, 10, 200, 255), (0, 0, 5, 3))
    found = {f"orientation {number}": tagged(number) for number in range(1, 9)}
    found |= {f"{name} of RGB": picture.convert("RGB") for name, picture in found.items()}
    found |= {"palette": palette, "palette, transparent": reopened(palette, "PNG", transparency=0), "RGBA": half}
    for mode in ("LA", "L", "1", "CMYK"):
        found[mode] = half.convert("RGB").convert(mode)
    found["I;16"] = Image.new("I;16", (12, 8), 30_000)
    return found


def sampled(picture: Any) -> Sample:
    question, gold = "How many red things are there ?", ("1",)
    return Sample("count-colour/train/0/0", "count-colour", question, (picture,), gold, "", {"candidates": ("1",)})


@pytest.fixture(scope="module")
def pool() -> LocalPool:
    found = LocalPool(HFEngine(EngineSettings(model_path=MODEL)))
    found.push_folder(MODEL, "base")
    return found


def engine_pixels(pool: LocalPool, sample: Sample) -> torch.Tensor:
    """What the engine's model is given, of a request that has come through Ray's pickle."""
    engine: Any = pool.local
    chat = get_task(sample.task).messages(sample, "direct")
    (ids,) = encode_prompts(engine.processor, [chat], [sample.images])
    request = pickle.loads(pickle.dumps(GenerationRequest(ids, sample.images, 0)))
    given: list[torch.Tensor] = []

    def look(_: Any, __: Any, inputs: dict[str, Any]) -> None:
        if inputs.get("pixel_values") is not None:
            given.append(inputs["pixel_values"])

    hook = engine.model.register_forward_pre_hook(look, with_kwargs=True)
    pool.generate([request], SamplingParams(max_tokens=1), version="base")
    hook.remove()
    (pixels,) = given
    return pixels


def trainer_pixels(processor: Any, sample: Sample) -> torch.Tensor:
    """What the processor makes of a trainer's row."""
    (row,) = policy_rows([sample], "direct")
    chat = fill_images(row["prompt"], row["images"])
    text = processor.apply_chat_template(chat, tokenize=False, add_generation_prompt=True)
    pixels: torch.Tensor = processor(images=[row["images"]], text=[text], return_tensors="pt")["pixel_values"]
    return pixels


def test_engine_and_trainer_see_the_same_pixels(pool: LocalPool):
    processor = pool.local.processor  # type: ignore[attr-defined]
    seen = {}
    for name, picture in kinds().items():
        sample = sampled(picture)
        seen[name] = engine_pixels(pool, sample)
        assert torch.equal(seen[name], trainer_pixels(processor, sample)), name
    upright = seen["orientation 1"]
    assert all(torch.equal(pixels, upright) for name, pixels in seen.items() if name.startswith("orientation"))
    raw = processor.image_processor(images=[kinds()["orientation 3"]], return_tensors="pt")["pixel_values"]
    assert not torch.equal(raw, upright)  # what it was before: this processor does not turn it


def test_the_kinds_are_those_that_transformers_loads():
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    assert image_text_types() == set(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES)
