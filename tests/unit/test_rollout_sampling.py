"""What trainer and engine agree on: rows that are one request, tokens without probability, what is refused."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from PIL import Image

torch = pytest.importorskip("torch")

from cpt.rollout.sampling import ban_tokens, gap_of, group_rows, refuse_truncation  # noqa: E402
from cpt.types import Completion  # noqa: E402

RED, BLUE = Image.new("RGB", (4, 4), "red"), Image.new("RGB", (4, 4), "blue")


def test_equal_neighbours_are_one_request():
    prompts = [[1], [1], [2], [2], [1]]
    assert group_rows(prompts, None, 8) == [(0, 2), (2, 2), (4, 1)]
    assert group_rows([], None, 8) == []


def test_pictures_tell_rows_apart():
    prompts = [[1]] * 4
    same = Image.new("RGB", (4, 4), "red")
    assert group_rows(prompts, [[RED], [same], [BLUE], None], 8) == [(0, 2), (2, 1), (3, 1)]


def test_two_groups_with_one_prompt_stay_two():
    assert group_rows([[1]] * 6, None, 3) == [(0, 3), (3, 3)]


def test_banned_tokens_have_no_probability_and_leave_no_trace():
    head = torch.nn.Linear(4, 6, bias=False)
    model = SimpleNamespace(
        config=SimpleNamespace(image_token_id=1, video_token_id=4), get_output_embeddings=lambda: head
    )
    x = torch.randn(3, 4)
    before = head(x)
    ban_tokens(model)
    ban_tokens(model)  # twice is once
    after = head(x)
    allowed = [0, 2, 3, 5]
    torch.testing.assert_close(after.log_softmax(-1)[:, allowed], before[:, allowed].log_softmax(-1))
    assert after.softmax(-1)[:, [1, 4]].max() < 1e-40
    assert list(head.state_dict()) == ["weight"]
    assert [name for name, _ in head.named_parameters()] == ["weight"]
    after.log_softmax(-1)[0, 0].backward()
    assert head.weight.grad[[1, 4]].abs().max() < 1e-30


def test_a_head_with_a_bias_of_its_own_is_left_alone():
    head = torch.nn.Linear(4, 6)
    old = head.bias.clone()
    ban_tokens(SimpleNamespace(config=SimpleNamespace(image_token_id=1), get_output_embeddings=lambda: head))
    assert torch.equal(head.bias, old)


@pytest.mark.parametrize("change", [{"top_p": 0.9}, {"top_k": 50}, {"min_p": 0.1}, {"repetition_penalty": 1.1}])
def test_truncated_sampling_is_refused(change):
    neutral = {"top_p": 1.0, "top_k": 0, "min_p": None, "repetition_penalty": 1.0}
    refuse_truncation(SimpleNamespace(**neutral))
    with pytest.raises(ValueError, match=next(iter(change))):
        refuse_truncation(SimpleNamespace(**neutral | change))


def test_gap_ignores_padding():
    completions = [Completion([5, 2], [-1.0, -2.0], "", "stop"), Completion([5], [-3.0], "", "length")]
    assert gap_of(completions, [[-1.0, -2.25], [-3.0, 0.0]]) == 0.25
