"""Pictures handled together give what stock transformers gives picture by picture."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")
transformers = pytest.importorskip("transformers")

from cpt.tasks.world.attention import (  # noqa: E402
    NAME,
    batch_images,
    first_occurrences,
    mrope_positions,
    packed_attention,
)

IMAGE, VIDEO, START, END = 3, 6, 4, 5


def qwen2_5_vl(windows: bool = True):
    """A random Qwen2.5-VL of a few thousand parameters; with `windows` its first layer attends in 16-pixel windows."""
    config = transformers.Qwen2_5_VLConfig(
        text_config=dict(
            hidden_size=32, intermediate_size=48, num_hidden_layers=2, num_attention_heads=2, num_key_value_heads=2,
            vocab_size=40, max_position_embeddings=256, pad_token_id=0, bos_token_id=1, eos_token_id=2,
            rope_parameters={"rope_type": "default", "mrope_section": [2, 3, 3], "rope_theta": 10000.0},
        ),
        vision_config=dict(
            depth=2, hidden_size=16, intermediate_size=24, num_heads=2, out_hidden_size=32, patch_size=4,
            spatial_merge_size=2, temporal_patch_size=1, window_size=16,
            fullatt_block_indexes=[1] if windows else [0, 1],
            in_channels=3,
        ),
        image_token_id=IMAGE, video_token_id=VIDEO, vision_start_token_id=START, vision_end_token_id=END,
    )  # fmt: skip
    torch.manual_seed(0)
    return transformers.Qwen2_5_VLForConditionalGeneration._from_config(config, attn_implementation="sdpa")


def batch(grids: list[tuple[int, int]], which: list[int]) -> dict:
    """One row per entry of `which`, showing that picture among `grids` (patches high, wide); rows padded both sides."""
    torch.manual_seed(1)
    pictures = [torch.randn(h * w, 3 * 4 * 4) for h, w in grids]
    rows = []
    for i, k in enumerate(which):
        h, w = grids[k]
        row = [7] * (i % 3 + 1) + [START] + [IMAGE] * (h * w // 4) + [END] + [8 + i % 20] * (4 - i % 2)
        rows.append([0] * (i % 2) + row)
    width = max(map(len, rows)) + 1
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    return dict(
        input_ids=ids,
        attention_mask=(ids != 0).long(),
        mm_token_type_ids=(ids == IMAGE).long(),
        pixel_values=torch.cat([pictures[k] for k in which]),
        image_grid_thw=torch.tensor([[1, *grids[k]] for k in which]),
        labels=ids.masked_fill(ids == 0, -100),
    )


def outputs(model, inputs):
    model.zero_grad()
    result = model(**inputs)
    result.loss.backward()
    return result.logits.detach(), {n: p.grad.clone() for n, p in model.named_parameters() if p.grad is not None}


@pytest.mark.parametrize(
    ("grids", "which"),
    [
        ([(8, 8), (8, 8), (8, 8)], [0, 1, 2]),  # all different
        ([(8, 8), (8, 8)], [0, 1, 0, 0, 1]),  # repeated, not next to each other
        ([(8, 8), (4, 8), (8, 8)], [0, 1, 2, 1]),  # several sizes
    ],
)
def test_model_keeps_its_outputs_and_gradients(grids, which):
    stock = qwen2_5_vl()
    ours = batch_images(copy.deepcopy(stock))
    assert ours.config.vision_config._attn_implementation == NAME
    inputs = batch(grids, which)
    expected, expected_gradients = outputs(stock, inputs)
    logits, gradients = outputs(ours, inputs)
    torch.testing.assert_close(logits, expected, atol=2e-6, rtol=1e-5)
    assert gradients.keys() == expected_gradients.keys()
    for name, gradient in gradients.items():
        torch.testing.assert_close(gradient, expected_gradients[name], atol=2e-6, rtol=1e-4)


def test_generation_is_unchanged():
    stock = qwen2_5_vl().eval()
    ours = batch_images(copy.deepcopy(stock))
    inputs = batch([(8, 8), (8, 8)], [0, 1, 0])
    inputs.pop("labels")
    for key in ("input_ids", "attention_mask", "mm_token_type_ids"):  # generation pads on the left
        inputs[key] = inputs[key].flip(1)
    settings = dict(max_new_tokens=5, do_sample=False, suppress_tokens=[IMAGE, VIDEO, START, END])
    assert torch.equal(stock.generate(**inputs, **settings), ours.generate(**inputs, **settings))


def test_a_copy_of_a_prepared_model_stands_alone():
    first = batch_images(qwen2_5_vl())
    second = copy.deepcopy(first)
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    inputs = batch([(8, 8)], [0, 0])
    torch.testing.assert_close(second(**inputs).logits, qwen2_5_vl()(**inputs).logits, atol=2e-6, rtol=1e-5)


def test_preparing_twice_and_saving_leave_no_trace(tmp_path):
    model = batch_images(batch_images(qwen2_5_vl()))
    assert len(model.model.visual._forward_hooks) == 1
    model.save_pretrained(tmp_path)
    assert NAME not in (tmp_path / "config.json").read_text()


def test_packed_attention_by_hand():
    """Scores of 0 average the values of a segment; segments of lengths 2, 1, 2 don't see each other."""
    zeros = torch.zeros(1, 1, 5, 1)
    values = torch.tensor([1.0, 3.0, 10.0, 20.0, 40.0]).view(1, 1, 5, 1)
    out = packed_attention(zeros, zeros, values, torch.tensor([0, 2, 3, 5]))
    assert out.flatten().tolist() == [2.0, 2.0, 10.0, 30.0, 30.0]


def test_positions_by_hand():
    """Two rows: a text token, a 2 x 2 picture, a text token; and only two text tokens, padded on the left."""
    image = torch.tensor([[0, 1, 1, 1, 1, 0], [0, 0, 0, 0, 0, 0]]).bool()
    mask = torch.tensor([[1, 1, 1, 1, 1, 1], [0, 0, 0, 0, 1, 1]])
    positions, delta = mrope_positions(image, mask, (1, 4, 4), merge=2)
    assert positions[:, 0].tolist() == [[0, 1, 1, 1, 1, 3], [0, 1, 1, 2, 2, 3], [0, 1, 2, 1, 2, 3]]
    assert positions[:, 1].tolist() == [[0, 0, 0, 0, 0, 1]] * 3
    assert delta.tolist() == [[-2], [0]]


def test_positions_equal_those_of_transformers():
    model = qwen2_5_vl().model
    inputs = batch([(8, 4)], [0, 0, 0, 0])
    twice = {
        key: torch.cat([inputs[key], inputs[key]], 1) for key in ("input_ids", "attention_mask", "mm_token_type_ids")
    }
    grids = inputs["image_grid_thw"].repeat(2, 1)
    expected, expected_delta = model.get_rope_index(image_grid_thw=grids, **twice)
    positions, delta = mrope_positions(twice["mm_token_type_ids"] == 1, twice["attention_mask"], (1, 8, 4), merge=2)
    assert torch.equal(positions, expected) and torch.equal(delta, expected_delta)


def test_first_occurrences_by_hand():
    kept, places = first_occurrences(torch.tensor([[1.0, 2.0], [3.0, 4.0], [1.0, 2.0], [5.0, 6.0], [3.0, 4.0]]))
    assert kept.tolist() == [0, 1, 3]
    assert places.tolist() == [0, 1, 0, 2, 1]
