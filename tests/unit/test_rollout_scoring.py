"""Which texts are scored together, and which prompts' pictures are held together."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from cpt.rollout.chunks import in_chunks
from cpt.rollout.engine import EngineSettings, check_scoring
from cpt.rollout.scoring import Bounds, Part, batches, in_calls, parts
from cpt.types import ScoringRequest


def text(prompt: int, completion: int) -> ScoringRequest:
    return ScoringRequest([1] * prompt, (), [2] * completion)


def test_a_long_completion_is_scored_in_parts():
    assert parts([text(3, 5), text(2, 2)], 2) == [
        Part(0, 3, 3, 5), Part(0, 3, 5, 7), Part(0, 3, 7, 8), Part(1, 2, 2, 4),
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("bounds", "expected"),
    [
        (Bounds(10, 1000, 1000), [[1, 2, 0]]),
        (Bounds(2, 1000, 1000), [[1, 2], [0]]),
        (Bounds(10, 20, 1000), [[1, 2], [0]]),  # 2 rows of 9 tokens, then 3 rows of 30 would be too many
        (Bounds(10, 1000, 8), [[1, 2], [0]]),  # 2 rows of 3 + 1 logits, then 3 rows of 5
        (Bounds(10, 1, 1000), [[1], [2], [0]]),  # none fits: each goes alone
    ],
    ids=str,
)
def test_texts_of_like_length_go_together_within_bounds(bounds: Bounds, expected: list[list[int]]):
    requests = [text(26, 4), text(5, 1), text(6, 3)]
    assert [[part.request for part in batch] for batch in batches(requests, bounds)] == expected


def test_parts_of_one_text_stay_in_order():
    found = [part for batch in batches([text(2, 9), text(4, 1)], Bounds(3, 100, 4)) for part in batch]
    own = [(part.start, part.stop) for part in found if part.request == 0]
    assert own == [(2, 5), (5, 8), (8, 11)]
    assert sum(part.scored for part in found) == 10


def test_what_can_not_be_scored_is_refused():
    settings = EngineSettings("model", limit_images=0)
    check_scoring(text(10, 9), settings, 20)
    with pytest.raises(ValueError, match=r"a text of 20 tokens, .* less than 20; raise rollout.max_model_len"):
        check_scoring(text(10, 10), settings, 20)
    for empty in (text(0, 3), text(3, 0)):
        with pytest.raises(ValueError, match="needs a token before it, and at least one of its own"):
            check_scoring(empty, settings, 20)
    with pytest.raises(ValueError, match="a prompt has 1 images; the engines allow 0"):
        check_scoring(ScoringRequest([1], (Image.new("RGB", (8, 8)),), [2]), settings, 20)


def test_calls_are_bounded_in_tokens():
    lengths = [4, 6, 2, 20, 3, 3]
    found = list(in_calls([text(1, length - 1) for length in lengths], 10))
    assert [[1 + len(one.completion_ids) for one in call] for call in found] == [[4, 6], [2], [20], [3, 3]]
    assert list(in_calls([], 10)) == []


class Shelf(Sequence[Any]):
    """Pictures that note when they are read."""

    def __init__(self, read: list[int], number: int, sides: Sequence[int]) -> None:
        self.read, self.number, self.sides = read, number, sides

    def __len__(self) -> int:
        return len(self.sides)

    def __getitem__(self, place: Any) -> Any:
        side = self.sides[place]
        self.read.append(self.number)
        return SimpleNamespace(width=side, height=side)

    def __iter__(self) -> Iterator[Any]:
        return (self[place] for place in range(len(self)))


def test_pictures_are_read_once_a_bounded_number_of_pixels_at_a_time(monkeypatch: pytest.MonkeyPatch):
    """Pixels of the prompts: 1 + 4, 0, 4, 100, 1; ten at a time."""
    monkeypatch.setattr("cpt.rollout.chunks.PIXELS", 10)
    read: list[int] = []
    albums = [Shelf(read, number, sides) for number, sides in enumerate([(1, 2), (), (2,), (10,), (1,)])]
    sizes, known = [], []
    for chunk in in_chunks(albums):
        sizes.append([len(album) for album in chunk])
        known.append(max(read))
    assert sizes == [[2, 0, 1], [1], [1]]
    assert known == [3, 4, 4]  # one prompt is read ahead: its pictures do not fit any more
    assert read == [0, 0, 2, 3, 4]
