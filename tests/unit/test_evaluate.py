"""Evaluation asks every task's test samples in one call and keeps what it takes to score them again."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import pytest
from PIL import Image

from cpt.evaluate.evaluators.generation import ask, prepare_questions
from cpt.rollout.encode import encode_prompts
from cpt.tasks.metric import scale_of
from cpt.types import Completion, GenerationRequest, Sample, SamplingParams
from rewards.registry import make
from rewards.score import Score


class EchoTask:
    """Says what it shows: gold is the sample's number."""

    family = "test"
    role = "stage"
    about = ""

    def __init__(self, name: str) -> None:
        self.name = name

    def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
        assert (split, seed) == ("test", 0)
        picture = (Image.new("RGB", (4, 4)),)
        return [Sample(f"{self.name}/test/{i}", self.name, f"say {i}", picture, (str(i),)) for i in range(n)]

    def messages(self, sample: Sample, prompt: str) -> list[dict[str, Any]]:
        return [
            {"role": "user", "content": [{"type": "image"}, {"type": "text", "text": f"{sample.question} {prompt}"}]}
        ]

    def score(self, sample: Sample, completion: str, prompt: str) -> Score:
        right = float(completion.strip() == sample.gold[0])
        return Score(right, {"strict": right, "tolerant": float(sample.gold[0] in completion)}, completion.strip())


class WordProcessor:
    """One id per character; an image is three of id 0."""

    bos_token = eos_token_id = None
    image_token_ids = (0,)

    def apply_chat_template(self, chats: Sequence[Any], *, tokenize: bool, **_: Any) -> Any:
        assert not tokenize
        blocks = [chat[0]["content"] for chat in chats]
        return ["".join("#" if one["type"] == "image" else one["text"] for one in own) for own in blocks]

    def __call__(self, text: Sequence[str], images: Any = None, **_: Any) -> Any:
        import torch

        if images is None:
            return {"input_ids": [list(map(ord, one)) for one in text]}
        (one,) = text
        ids = torch.tensor([[*([0, 0, 0] * one.count("#")), *map(ord, one.replace("#", ""))]])
        return {"input_ids": ids, "attention_mask": torch.ones_like(ids)}


class Pool:
    """Answers with the second word of the prompt."""

    def __init__(self) -> None:
        self.calls: list[tuple[list[GenerationRequest], SamplingParams, str]] = []

    def generate(self, requests: Any, params: SamplingParams, *, version: str) -> list[list[Completion]]:
        self.calls.append((list(requests), params, version))
        texts = ["".join(chr(i) for i in request.prompt_ids[3:]).split()[1] for request in requests]
        return [[Completion([7, 7], [0.0, 0.0], f" {text}", "stop")] for text in texts]


LABELS = {"arm": "sft", "seed": 3, "stage": 2}


def test_all_tasks_are_asked_in_one_call_and_scored() -> None:
    pool, tasks = Pool(), [EchoTask("one"), EchoTask("two")]
    questions = prepare_questions(WordProcessor(), tasks, samples={"one": 2, "two": 3}, prompt="direct")
    records = ask(pool, "v1", questions, max_tokens=8, **LABELS)
    assert len(pool.calls) == 1
    requests, params, version = pool.calls[0]
    assert (version, params) == ("v1", SamplingParams(max_tokens=8, temperature=0.0, n=1))
    assert [len(request.images) for request in requests] == [1] * 5
    assert requests[0].prompt_ids[:3] == [0, 0, 0]
    assert [record.sample_id for record in records] == [f"one/test/{i}" for i in range(2)] + [
        f"two/test/{i}" for i in range(3)
    ]
    first = records[0]
    assert (first.arm, first.seed, first.stage, first.task) == ("sft", 3, 2, "one")
    assert (first.prompt, first.completion, first.extracted, first.gold) == ("#say 0 direct", " 0", "0", ["0"])
    assert (first.score, first.tolerant, first.n_tokens, first.finish_reason) == (1, 1, 2, "stop")


@pytest.mark.parametrize("score", [1.2, -0.1, float("nan")])
def test_a_score_out_of_range_is_refused_by_name(score: float) -> None:
    class Odd(EchoTask):
        def score(self, sample: Sample, completion: str, prompt: str) -> Score:
            return Score(0.0, {"strict": 0.5, "tolerant": score})

    questions = prepare_questions(WordProcessor(), [Odd("odd")], samples=1, prompt="direct")
    with pytest.raises(ValueError, match=re.escape(f"task odd, sample odd/test/0: its tolerant score is {score}; ")):
        ask(Pool(), "v", questions, max_tokens=4, arm="a", seed=0, stage=0)


def test_a_graded_score_is_recorded_as_it_is() -> None:
    """`vizwiz`: the mean over the ten ways to leave one annotator out, two of ten agreeing: 0.6."""

    class Graded(EchoTask):
        metric = "vizwiz"
        right_from = 0.7

        def score(self, sample: Sample, completion: str, prompt: str) -> Score:
            found = make("vizwiz", read="whole")("red", gold=["red"] * 2 + ["blue"] * 8)
            return Score(found.value, {"strict": found.value, "tolerant": found.value})

    questions = prepare_questions(WordProcessor(), [Graded("g")], samples=1, prompt="direct")
    (record,) = ask(Pool(), "v", questions, max_tokens=4, arm="a", seed=0, stage=0)
    assert (record.score, record.tolerant) == (0.6, 0.6)
    assert (record.metric, record.right_from, record.right) == ("vizwiz", 0.7, False)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"right_from": 0}, "task odd: right_from is 0; set a number above 0 and at most 1"),
        ({"right_from": 1.5}, "task odd: right_from is 1.5; "),
        ({"right_from": True}, "task odd: right_from is True; "),
        ({"metric": ""}, "task odd: metric is ''; set the name of its score"),
    ],
)
def test_a_task_that_says_what_cannot_be_of_its_scores_is_refused(values: dict[str, Any], message: str) -> None:
    task = EchoTask("odd")
    vars(task).update(values)
    with pytest.raises(ValueError, match=re.escape(message)):
        scale_of(task)


def test_each_request_has_its_own_repeatable_stream() -> None:
    pool = Pool()
    questions = prepare_questions(WordProcessor(), [EchoTask("one")], samples=2, prompt="think")
    for stage in (1, 1, 2):
        ask(pool, "v", questions, max_tokens=4, temperature=1.0, arm="a", seed=0, stage=stage)
    first, again, later = ([request.seed for request in call[0]] for call in pool.calls)
    assert first == again
    assert len({*first, *later}) == 4
    assert later == [1375985452, 1493821364]  # those of every run so far


def test_a_question_is_its_text_and_its_pictures() -> None:
    class Twice(EchoTask):
        def samples(self, split: str, n: int, seed: int = 0) -> list[Sample]:
            pictures = {name: (Image.new("RGB", (4, 4), name),) for name in ("red", "blue")}
            asked = [("say 1", "red"), ("say 1", "red"), ("say 1", "blue"), ("say 2", "red")]
            return [Sample(f"t/{i}", "t", text, pictures[name], ("1",)) for i, (text, name) in enumerate(asked)]

    questions = prepare_questions(WordProcessor(), [Twice("t")], samples=4, prompt="direct")
    first, copy, *others = (
        record.question_id for record in ask(Pool(), "v", questions, max_tokens=4, arm="a", seed=0, stage=0)
    )
    assert first == copy
    assert len({first, *others}) == 3
    assert [record.question_id for record in ask(Pool(), "v", questions, max_tokens=4, arm="b", seed=1, stage=2)] == [
        first, copy, *others,
    ]  # fmt: skip


def test_zero_samples_are_refused() -> None:
    with pytest.raises(ValueError, match="evaluation of one: 0 samples"):
        prepare_questions(WordProcessor(), [EchoTask("one")], samples=0, prompt="direct")


PICTURE = Image.new("RGB", (4, 4))


@pytest.mark.parametrize(
    ("content", "images", "message"),
    [
        ([{"type": "image"}, {"type": "text", "text": "what ?"}], [], "more image blocks than pictures (0): what ?"),
        ([{"type": "text", "text": "what ?"}], [PICTURE], "1 pictures, 1 without a block: what ?"),
    ],
)
def test_blocks_and_pictures_must_agree(content, images, message) -> None:
    with pytest.raises(ValueError, match=re.escape(message)):
        encode_prompts(WordProcessor(), [[{"role": "user", "content": content}]], [images])
