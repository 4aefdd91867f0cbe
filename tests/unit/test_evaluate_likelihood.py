"""Questions answered by log-probabilities, limits of tokens by task, and pictures that are not held all at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image
from test_evaluate import LABELS, EchoTask, Pool, WordProcessor

from cpt.common.stored_pictures import StoredPicture, StoredPictures
from cpt.evaluate.evaluators.generation import GenerationEvaluator, ask, prepare_questions
from cpt.plan.stages import EvaluationPlan
from cpt.types import Sample, ScoringRequest


class Letters(WordProcessor):
    """One id per character, the chat template ends in a line break, texts begin with id 1."""

    bos_token_id, eos_token_id, model_max_length = None, 1, 12

    def apply_chat_template(self, chats: Sequence[Any], **options: Any) -> Any:
        return [f"{text}:\n" for text in super().apply_chat_template(chats, **options)]


class Options(EchoTask):
    """Which colour: two options, the second is right."""

    answered_by, metric = "likelihood", "likelihood"

    def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
        picture = (Image.new("RGB", (4, 4)),)
        meta = {"choices": ["dark red", "blue"]}
        return [Sample(f"{self.name}/test/{i}", self.name, f"say {i}", picture, ("blue",), "", meta) for i in range(n)]


class Prose(EchoTask):
    """A text of its own."""

    answered_by, metric = "likelihood", "token-probability"
    text = "abcd"

    def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
        return [Sample(f"{self.name}/test/{i}", self.name, "", (), (self.text,)) for i in range(n)]

    def messages(self, sample: Sample, prompt: str) -> list[dict[str, Any]]:
        raise AssertionError("a text has no prompt")


class Scorer(Pool):
    """Every character has log-probability -1, in "blue" -1.5, in a piece of prose that of 1/4."""

    def __init__(self) -> None:
        super().__init__()
        self.scored: list[ScoringRequest] = []

    def loglikelihood(self, requests: Any, *, version: str) -> list[list[float]]:
        assert version == "v"
        self.scored += requests
        return [[self.value(request)] * len(request.completion_ids) for request in requests]

    def value(self, request: ScoringRequest) -> float:
        text = "".join(map(chr, request.completion_ids))
        return -1.5 if text == "\nblue" else -1.0 if text == "\ndark red" else math.log(0.25)


def test_options_are_scored_after_the_prompt_and_the_likeliest_is_the_answer():
    """Sums: -9 for "dark red" with the line break before it, -7.5 for "blue"."""
    pool = Scorer()
    questions = prepare_questions(Letters(), [Options("o")], samples=1, prompt="direct")
    (record,) = ask(pool, "v", questions, max_tokens={}, **LABELS)
    assert (record.completion, record.extracted, record.gold, record.n_tokens) == ("blue", "B", ["blue"], 5)
    assert (record.score, record.tolerant, record.metric, record.finish_reason) == (1, 1, "likelihood", "stop")
    assert record.prompt == "#say 0 direct:\n"
    assert pool.calls == []
    before = [0, 0, 0, *map(ord, "say 0 direct:")]
    assert [(list(one.prompt_ids), len(one.images)) for one in pool.scored] == [(before, 1)] * 2
    assert ["".join(map(chr, one.completion_ids)) for one in pool.scored] == ["\ndark red", "\nblue"]


def test_per_character_the_longer_option_may_win():
    """-9 / 8 characters = -1.125, -7.5 / 4 = -1.875."""
    task = Options("o")
    task.metric = "likelihood-normalised"
    questions = prepare_questions(Letters(), [task], samples=1, prompt="direct")
    (record,) = ask(Scorer(), "v", questions, max_tokens={}, **LABELS)
    assert (record.completion, record.extracted, record.score) == ("dark red", "A", 0)
    assert record.metric == "likelihood-normalised"


def test_a_text_is_scored_token_by_token_without_a_chat():
    pool = Scorer()
    questions = prepare_questions(Letters(), [Prose("p")], samples=1, prompt="think")
    (record,) = ask(pool, "v", questions, max_tokens=9, **LABELS)
    assert (record.score, record.tolerant) == pytest.approx((0.25, 0.25))
    assert (record.metric, record.completion, record.extracted, record.n_tokens) == ("token-probability", "", "", 4)
    assert record.prompt == "abcd"
    assert [(list(one.prompt_ids), list(one.completion_ids)) for one in pool.scored] == [([1], list(map(ord, "abcd")))]


def test_a_long_text_is_scored_in_pieces_that_fit_the_model():
    """12 tokens at most: one before, ten scored, one that an engine generates."""
    task, pool = Prose("p"), Scorer()
    task.text = "abcdefghijklm"
    (record,) = ask(pool, "v", prepare_questions(Letters(), [task], samples=1, prompt="direct"), max_tokens=9, **LABELS)
    pieces = ["".join(map(chr, [*one.prompt_ids, *one.completion_ids])) for one in pool.scored]
    assert pieces == ["\x01abcdefghij", "cdefghijklm"]
    assert [len(one.completion_ids) for one in pool.scored] == [10, 3]
    assert (record.n_tokens, record.score) == (13, pytest.approx(0.25))


def test_both_kinds_of_tasks_stand_in_the_tasks_order():
    pool, tasks = Scorer(), [Prose("p"), EchoTask("e"), Options("o"), EchoTask("f")]
    questions = prepare_questions(Letters(), tasks, samples=2, prompt="direct")
    records = ask(pool, "v", questions, max_tokens={"e": 4, "f": 4}, **LABELS)
    assert [record.sample_id for record in records] == [f"{name}/test/{i}" for name in "peof" for i in range(2)]
    assert [len(call[0]) for call in pool.calls] == [4]
    assert [record.completion for record in records] == ["", "", " 0", " 1", "blue", "blue", " 0", " 1"]


def test_a_text_has_room_in_the_engines_or_is_refused():
    questions = prepare_questions(Letters(), [Prose("p")], samples=1, prompt="direct", longest=4)
    assert [len(scored) for _, scored in questions.items[0].pairs] == [2, 2]
    with pytest.raises(ValueError, match=r"sample p/test/0: rollout.max_model_len 2 leaves no room to score a text"):
        prepare_questions(Letters(), [Prose("p")], samples=1, prompt="direct", longest=2)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"gold": ("yellow",)}, "sample o/test/0: gold has to be a letter, one of the choices"),
        ({"meta": {"choices": ["blue", ""]}}, "sample o/test/0: its options are"),
        ({"meta": {}}, "sample o/test/0: its options are"),
    ],
)
def test_a_question_without_a_right_option_is_refused_by_name(change: dict[str, Any], message: str):
    from dataclasses import replace

    class Wrong(Options):
        def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
            return [replace(one, **change) for one in super().samples(split, n, seed)]

    with pytest.raises(ValueError, match=message):
        ask(
            Scorer(), "v", prepare_questions(Letters(), [Wrong("o")], samples=1, prompt="direct"), max_tokens=4,
            **LABELS,
        )  # fmt: skip


def test_how_tasks_are_answered_is_part_of_what_is_measured(monkeypatch: pytest.MonkeyPatch):
    """Keys of runs without such tasks stay what they were; a text's pieces depend on what the engines take."""
    known = {"e": EchoTask("e"), "o": Options("o"), "p": Prose("p")}
    monkeypatch.setattr("cpt.evaluate.evaluators.generation.get_task", known.__getitem__)

    def measured(*names: str, longest: int | None = None) -> dict[str, Any]:
        evaluation = EvaluationPlan(dict.fromkeys(names, 1), dict.fromkeys(names, 4), 0.0)
        plan = SimpleNamespace(rollout=SimpleNamespace(max_model_len=longest))
        return GenerationEvaluator().measures(SimpleNamespace(evaluation=evaluation, seed=0, plan=plan))  # type: ignore

    assert set(measured("e")) == {"evaluation", "scales", "seed"}
    assert measured("e", longest=5) == measured("e")
    assert measured("e", "o")["by_likelihood"] == ["o"]
    assert measured("o", longest=5) == measured("o")
    assert measured("p", longest=5) != measured("p")


def test_one_call_for_each_limit_of_tokens():
    pool, tasks = Pool(), [EchoTask(name) for name in ("a", "b", "c")]
    questions = prepare_questions(WordProcessor(), tasks, samples=2, prompt="direct")
    records = ask(pool, "v", questions, max_tokens={"a": 4, "b": 9, "c": 4}, **LABELS)
    assert [(params.max_tokens, len(requests)) for requests, params, _ in pool.calls] == [(4, 4), (9, 2)]
    assert [record.sample_id for record in records] == [f"{name}/test/{i}" for name in "abc" for i in range(2)]
    equal, single = Pool(), Pool()
    assert ask(equal, "v", questions, max_tokens=dict.fromkeys("abc", 4), **LABELS) == records
    assert ask(single, "v", questions, max_tokens=4, **LABELS) == records
    assert equal.calls == single.calls and len(single.calls) == 1


class Noted(StoredPicture):
    """A picture that counts how often it is read."""

    def __init__(self, number: int, read: list[int]) -> None:
        self.name, self.number, self.seen = f"{number}.png", number, read

    def read(self) -> bytes:
        import io

        self.seen.append(self.number)
        held = io.BytesIO()
        Image.new("RGB", (10, 10), (self.number, 0, 0)).save(held, "PNG")
        return held.getvalue()


def test_stored_pictures_are_read_for_the_call_that_shows_them(monkeypatch: pytest.MonkeyPatch):
    """300 of 600 pixels at a time: three prompts to a call."""
    monkeypatch.setattr("cpt.rollout.chunks.PIXELS", 300)
    read: list[int] = []

    class Stored(EchoTask):
        def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
            shown = [StoredPictures([Noted(i, read)], "a sample") for i in range(n)]
            return [Sample(f"s/test/{i}", "s", f"say {i}", shown[i], (str(i),)) for i in range(n)]

    questions = prepare_questions(WordProcessor(), [Stored("s")], samples=6, prompt="direct")
    assert read == list(range(6))
    pool = Pool()
    records = ask(pool, "v", questions, max_tokens=4, **LABELS)
    assert read == [*range(6), *range(6)]
    assert [[one.images[0].getpixel((0, 0))[0] for one in requests] for requests, *_ in pool.calls] == [
        [0, 1, 2], [3, 4, 5],
    ]  # fmt: skip
    assert [record.score for record in records] == [1] * 6
    assert len({record.question_id for record in records}) == 6
