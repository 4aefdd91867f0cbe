"""Encoding a group's prompt once must give what encoding it for every completion gives."""

from __future__ import annotations

from typing import Any

import torch

from cpt.train.prompts import OncePerPrompt, first_of_runs, picture_slices, repeated, run_lengths


def test_runs_of_equal_neighbours() -> None:
    assert run_lengths(["a", "a", "b", "a"]) == [2, 1, 1]
    assert run_lengths([]) == []
    assert first_of_runs(["a", "a", "b", "c"], [2, 1, 1]) == ["a", "b", "c"]
    assert repeated(["a", "b"], [2, 1]) == ["a", "a", "b"]


def test_chunks_of_rows_know_their_pictures_and_patches() -> None:
    # Five rows: one picture of 4 patches, none, two of 2 and 3, none, one of 6; two rows to a chunk.
    chunks = picture_slices([1, 0, 2, 0, 1], [4, 2, 3, 6], 2)
    assert chunks == [
        (slice(0, 2), slice(0, 1), slice(0, 4)),
        (slice(2, 4), slice(1, 3), slice(4, 9)),
        (slice(4, 6), slice(3, 4), slice(9, 15)),
    ]
    assert picture_slices([0, 0], [], 2) == [(slice(0, 2), slice(0, 0), slice(0, 0))]


class FakeProcessor:
    """Encodes a prompt as its length, a picture as `size` patches of its value; counts what it is asked."""

    name = "fake"

    def __init__(self, extra: str | None = None) -> None:
        self.extra, self.encoded, self.rendered = extra, 0, 0

    def __call__(self, images: Any = None, text: Any = None, **_: Any) -> dict[str, torch.Tensor]:
        self.encoded += len(text)
        width = max(len(line) for line in text)
        result = {"input_ids": torch.tensor([[len(line)] * width for line in text])}
        pictures = [picture for row in images or [] for picture in row or []]
        if pictures:
            result["image_grid_thw"] = torch.tensor([[1, picture["size"], 1] for picture in pictures])
            result["pixel_values"] = torch.tensor([[p["value"]] for p in pictures for _ in range(p["size"])])
        if self.extra:
            result[self.extra] = torch.zeros(len(text))
        return result

    def apply_chat_template(self, conversation: Any, **_: Any) -> str:
        self.rendered += 1
        return str(conversation)


def same(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> bool:
    return set(a) == set(b) and all(torch.equal(a[name], b[name]) for name in a)


RED, BLUE = {"size": 2, "value": 7.0}, {"size": 3, "value": 9.0}


def test_equal_prompts_are_encoded_once() -> None:
    text = ["one", "one", "three", "three", "one"]
    images = [[RED], [RED], [], None, [BLUE, RED]]
    processor = FakeProcessor()
    once = OncePerPrompt(processor)(images=images, text=text)
    assert processor.encoded == 3
    assert same(once, FakeProcessor()(images=images, text=text))


def test_equal_words_about_other_pictures_are_another_prompt() -> None:
    processor = FakeProcessor()
    encoded = OncePerPrompt(processor)(images=[[RED], [BLUE]], text=["same", "same"])
    assert processor.encoded == 2
    assert encoded["pixel_values"].flatten().tolist() == [7, 7, 9, 9, 9]


def test_a_batch_without_pictures() -> None:
    processor = FakeProcessor()
    encoded = OncePerPrompt(processor)(images=[[], [], []], text=["ab", "ab", "c"])
    assert encoded["input_ids"].tolist() == [[2, 2], [2, 2], [1, 1]]
    assert processor.encoded == 2


def test_unknown_layouts_are_left_to_the_processor() -> None:
    processor = FakeProcessor(extra="image_sizes")
    images, text = [[RED], [RED]], ["a", "a"]
    encoded = OncePerPrompt(processor)(images=images, text=text)
    assert same(encoded, FakeProcessor(extra="image_sizes")(images=images, text=text))


def test_a_chat_is_rendered_once_in_a_row() -> None:
    processor = FakeProcessor()
    once = OncePerPrompt(processor)
    chats = [[{"role": "user", "content": word}] for word in ("a", "a", "b")]
    assert [once.apply_chat_template(chat, tokenize=False) for chat in chats] == [str(chat) for chat in chats]
    assert processor.rendered == 2


def test_everything_else_is_the_processors_own() -> None:
    assert OncePerPrompt(FakeProcessor()).name == "fake"
