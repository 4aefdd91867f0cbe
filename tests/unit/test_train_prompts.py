"""Reading a group's prompt once must give what reading it for every completion gives."""

from __future__ import annotations

from typing import Any

import torch

from cpt.models.inputs import ModelInputs
from cpt.train.prompts import OncePerPrompt, PictureRows, first_of_runs, repeated, run_lengths

IMAGE, END = 1, 9


def test_runs_of_equal_neighbours() -> None:
    assert run_lengths(["a", "a", "b", "a"]) == [2, 1, 1]
    assert run_lengths([]) == []
    assert first_of_runs(["a", "a", "b", "c"], [2, 1, 1]) == ["a", "b", "c"]
    assert repeated(["a", "b"], [2, 1]) == ["a", "a", "b"]


class FakeProcessor:
    """Reads a prompt as its length and an image token a picture, a picture as `size` tiles of its value; counts."""

    name, image_token, image_token_ids = "fake", "*", [IMAGE]
    bos_token, eos_token, eos_token_id, pad_token_id = None, "|", END, 0

    def __init__(self) -> None:
        self.read, self.rendered = 0, 0
        self.tokenizer = self

    def __call__(self, images: Any = None, text: Any = None, **_: Any) -> dict[str, Any]:
        rows = images or [[]] * len(text)
        if not all(isinstance(picture, dict) for own in rows for picture in own):
            return {}  # to what it makes of any picture it has no answer
        self.read += len(text)
        ids = [[len(line)] + [IMAGE] * len(own) for line, own in zip(text, rows, strict=True)]
        pictures = [picture for own in rows for picture in own]
        if not pictures:
            return {"input_ids": ids}
        width = max(map(len, ids))
        padded = torch.tensor([[0] * (width - len(row)) + row for row in ids])
        tiles = torch.tensor([[p["value"]] for p in pictures for _ in range(p["size"])])
        return {"input_ids": padded, "attention_mask": padded.ne(0).long(), "pixel_values": tiles}

    def apply_chat_template(self, conversation: Any, **_: Any) -> str:
        self.rendered += 1
        return str(conversation)


RED, BLUE = {"size": 2, "value": 7.0}, {"size": 3, "value": 9.0}


def reader() -> tuple[FakeProcessor, OncePerPrompt]:
    processor = FakeProcessor()
    return processor, OncePerPrompt(ModelInputs(processor))


def values(rows: PictureRows) -> list[list[float]]:
    return [row.tensors["pixel_values"].flatten().tolist() if row.tensors else [] for row in rows]


def test_equal_prompts_are_read_once_and_every_row_has_its_own_tiles() -> None:
    text = ["one", "one", "three", "three", "one"]
    images = [[RED], [RED], [], None, [BLUE, RED]]
    processor, once = reader()
    rows = once(images=images, text=text)["pixel_values"]
    assert processor.read == 3
    assert values(rows) == [[7, 7], [7, 7], [], [], [9, 9, 9, 7, 7]]


def test_equal_words_about_other_pictures_are_another_prompt() -> None:
    processor, once = reader()
    assert values(once(images=[[RED], [BLUE]], text=["same", "same"])["pixel_values"]) == [[7, 7], [9, 9, 9]]
    assert processor.read == 2


def test_a_batch_without_pictures_is_the_processors() -> None:
    _, once = reader()
    assert once(text=["ab", "ab", "c"]) == {"input_ids": [[2], [2], [1]]}


def test_what_was_tokenised_is_not_read_again() -> None:
    chats = [[{"role": "user", "content": [{"type": "image", "image": one}]}] for one in (RED, BLUE)]
    processor, once = reader()
    found = once.apply_chat_template(conversation=chats, tokenize=True, return_dict=True)
    assert found == {"input_ids": [[len(str(chat)), IMAGE] for chat in chats]}
    text = [str(chat) for chat in chats for _ in range(3)]
    rows = once(images=[[RED]] * 3 + [[BLUE]] * 3, text=text)["pixel_values"]
    assert values(rows) == [[7, 7]] * 3 + [[9, 9, 9]] * 3
    assert processor.read == 2


def test_a_chat_is_rendered_once_in_a_row() -> None:
    processor, once = reader()
    chats = [[{"role": "user", "content": word}] for word in ("a", "a", "b")]
    assert [once.apply_chat_template(chat, tokenize=False) for chat in chats] == [str(chat) for chat in chats]
    assert processor.rendered == 2


def test_everything_else_is_the_processors_own() -> None:
    assert reader()[1].name == "fake"
