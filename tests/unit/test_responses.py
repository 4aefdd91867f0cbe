"""Nothing is generated twice in evaluation: what makes two questions the same, and what becomes of damaged files."""

from __future__ import annotations

import math
import sqlite3
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
from PIL import Image

from cpt.common.errors import RunFailed
from cpt.evaluate.evaluators.generation import Question, Questions, ask
from cpt.evaluate.responses import Remembering, Responses, request_key, scoring_key
from cpt.rollout.engine import StaleWeights
from cpt.store.records import write_records
from cpt.tasks import get_task
from cpt.types import Completion, GenerationRequest, SamplingParams, ScoringRequest

GREEDY = SamplingParams(max_tokens=8)
RED, BLUE = (Image.new("RGB", (4, 4), colour) for colour in ("red", "blue"))


class Counting:
    """Engines that say how often they were asked; they hold the weights `v`."""

    def __init__(self) -> None:
        self.asked: list[list[int]] = []

    def push_folder(self, folder: str | Path, version: str) -> str:
        return version

    def generate(
        self, requests: Sequence[GenerationRequest], params: SamplingParams, *, version: str
    ) -> list[list[Completion]]:
        if version != "v":
            raise StaleWeights("v", version)
        self.asked += [list(request.prompt_ids) for request in requests]
        return [
            [Completion([*request.prompt_ids, i], [-0.1, -1e-7 * i], f"née {i}\n", "stop") for i in range(params.n)]
            for request in requests
        ]

    def loglikelihood(self, requests: Sequence[ScoringRequest], *, version: str) -> list[list[float]]:
        if version != "v":
            raise StaleWeights("v", version)
        self.asked += [[*request.prompt_ids, *request.completion_ids] for request in requests]
        return [[-0.5 * token if token else -math.inf for token in request.completion_ids] for request in requests]


def texts(*numbers: int) -> list[ScoringRequest]:
    return [ScoringRequest([1], (RED,), [number, 9]) for number in numbers]


def questions(*numbers: int) -> list[GenerationRequest]:
    return [GenerationRequest([1, number], (RED,), number) for number in numbers]


def remembering(folder: Path, source: str = "weights") -> tuple[Counting, Remembering]:
    engines = Counting()
    return engines, Remembering(engines, Responses(folder / "evaluated" / "responses.sqlite", source), "v")


def test_only_what_is_new_is_generated_and_the_order_is_kept(tmp_path: Path):
    engines, first = remembering(tmp_path)
    fresh = first.generate(questions(0, 1), GREEDY, version="v")
    others, second = remembering(tmp_path)
    assert second.generate(questions(0, 1), GREEDY, version="v") == fresh
    assert others.asked == []
    mixed = second.generate(questions(2, 1, 3, 0), GREEDY, version="v")
    assert others.asked == [[1, 2], [1, 3]]
    assert mixed == Counting().generate(questions(2, 1, 3, 0), GREEDY, version="v")
    assert engines.asked == [[1, 0], [1, 1]]


def test_a_call_with_nothing_known_is_passed_on_as_it_is(tmp_path: Path):
    """Two samples may be one question: with another shape of batch, the engines could round otherwise."""
    engines, remembers = remembering(tmp_path)
    answers = remembers.generate(questions(5, 5), GREEDY, version="v")
    assert engines.asked == [[1, 5], [1, 5]]
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("request_", "params"),
    [
        (GenerationRequest([1, 8], (RED,), 0), GREEDY),
        (GenerationRequest([1, 7], (BLUE,), 0), GREEDY),
        (GenerationRequest([1, 7], (), 0), GREEDY),
        (GenerationRequest([1, 7], (RED, RED), 0), GREEDY),
        (GenerationRequest([1, 7], (Image.new("RGB", (2, 8), "red"),), 0), GREEDY),
        (GenerationRequest([1, 7], (RED,), 0), replace(GREEDY, max_tokens=9)),
        (GenerationRequest([1, 7], (RED,), 0), replace(GREEDY, temperature=1.0)),
        (GenerationRequest([1, 7], (RED,), 1), replace(GREEDY, temperature=1.0)),
        (GenerationRequest([1, 7], (RED,), 0), replace(GREEDY, temperature=1.0, n=2)),
    ],
)
def test_what_makes_another_question(request_: GenerationRequest, params: SamplingParams):
    asked = request_key(GenerationRequest([1, 7], (RED,), 0), GREEDY)
    assert request_key(request_, params) != asked
    sampled = replace(GREEDY, temperature=1.0)
    streams = {request_key(GenerationRequest([1, 7], (RED,), seed), sampled) for seed in (0, 1)}
    assert len(streams) == 2


def test_a_greedy_answer_has_no_random_stream():
    assert len({request_key(GenerationRequest([1, 7], (RED,), seed), GREEDY) for seed in (0, 1)}) == 1


def test_answers_of_other_weights_are_dropped(tmp_path: Path):
    remembering(tmp_path, "before")[1].generate(questions(0, 1), GREEDY, version="v")
    engines, remembers = remembering(tmp_path, "after")
    remembers.generate(questions(0), GREEDY, version="v")
    assert engines.asked == [[1, 0]]
    with sqlite3.connect(remembers.responses.path) as database:
        assert database.execute("SELECT source FROM answers").fetchall() == [("after",)]


def test_only_new_texts_are_scored(tmp_path: Path):
    engines, first = remembering(tmp_path)
    assert first.loglikelihood(texts(3, 4), version="v") == [[-1.5, -4.5], [-2.0, -4.5]]
    others, second = remembering(tmp_path)
    assert second.loglikelihood(texts(4, 5, 3), version="v") == [[-2.0, -4.5], [-2.5, -4.5], [-1.5, -4.5]]
    assert (engines.asked, others.asked) == ([[1, 3, 9], [1, 4, 9]], [[1, 5, 9]])
    with pytest.raises(StaleWeights):
        second.loglikelihood(texts(3), version="base")


def test_a_text_is_no_question_and_other_pictures_are_another(tmp_path: Path):
    text = ScoringRequest([1], (RED,), [8])
    others = [
        ScoringRequest([1, 8], (RED,), [8]),
        ScoringRequest([1], (BLUE,), [8]),
        ScoringRequest([1], (RED,), [8, 8]),
    ]
    keys = {
        *map(scoring_key, [text, *others]),
        request_key(GenerationRequest([1], (RED,), 0), replace(GREEDY, max_tokens=8)),
    }
    assert len(keys) == 5


def test_an_infinite_number_is_asked_again(tmp_path: Path):
    """JSON has none: what could not be read back as it was is not kept."""
    for _ in range(2):
        engines, remembers = remembering(tmp_path)
        assert remembers.loglikelihood(texts(0, 2), version="v") == [[-math.inf, -4.5], [-1.0, -4.5]]
    assert engines.asked == [[1, 0, 9]]


def test_another_version_of_the_weights_goes_to_the_engines(tmp_path: Path):
    engines, remembers = remembering(tmp_path)
    remembers.generate(questions(0), GREEDY, version="v")
    with pytest.raises(StaleWeights):
        remembers.generate(questions(0), GREEDY, version="base")
    assert engines.asked == [[1, 0]]


def spoilt(path: Path, how: str) -> None:
    content = path.read_bytes()
    if how == "no database":
        path.write_bytes(b"not a database " * 100)
    elif how == "cut off":
        path.write_bytes(content[: len(content) // 2])
    elif how == "another format":
        with sqlite3.connect(path) as database:
            database.execute("PRAGMA user_version = 99")


@pytest.mark.parametrize("how", ["no database", "cut off", "another format"])
def test_a_damaged_file_is_dropped_with_a_note(tmp_path: Path, how: str):
    remembers = remembering(tmp_path)[1]
    remembers.generate(questions(*range(200)), GREEDY, version="v")
    path, told = remembers.responses.path, []
    remembers.responses.check(told.append)
    assert told == [] and path.exists()
    spoilt(path, how)
    remembers.responses.check(told.append)
    (note,) = told
    assert note.startswith(f"{path}: deleted, since ") and note.endswith("its answers are generated again")
    assert not path.exists()
    engines, again = remembering(tmp_path)
    again.generate(questions(0), GREEDY, version="v")
    assert engines.asked == [[1, 0]]


def test_a_changed_row_is_generated_again(tmp_path: Path):
    remembers = remembering(tmp_path)[1]
    fresh = remembers.generate(questions(0, 1), GREEDY, version="v")
    key = request_key(questions(0)[0], GREEDY)
    with sqlite3.connect(remembers.responses.path) as database:
        (row,) = database.execute("SELECT answer FROM answers WHERE key = ?", (key,)).fetchone()
        database.execute("UPDATE answers SET answer = ? WHERE key = ?", (row.replace(b"stop", b"halt"), key))
    engines, again = remembering(tmp_path)
    assert again.generate(questions(0, 1), GREEDY, version="v") == fresh
    assert engines.asked == [[1, 0]]


def test_a_file_that_cannot_be_written_ends_the_run_in_one_line(tmp_path: Path):
    remembers = remembering(tmp_path)[1]
    remembers.responses.path.mkdir(parents=True)
    with pytest.raises(RunFailed, match=r"responses\.sqlite: can't be"):
        remembers.responses.check(print)


def test_records_made_from_known_answers_have_the_same_bytes(tmp_path: Path):
    task = get_task("count-colour")
    samples = task.samples("test", 6)
    asked = Questions("direct", [Question(task, one, "?", "q", [1, i], []) for i, one in enumerate(samples)])
    written = []
    for number, remembers in enumerate((remembering(tmp_path / "a")[1], remembering(tmp_path / "a")[1], Counting())):
        records = ask(remembers, "v", asked, max_tokens=8, arm="a", seed=0, stage=1)
        write_records(tmp_path / f"{number}.parquet", records)
        written.append((tmp_path / f"{number}.parquet").read_bytes())
    assert written[0] == written[1] == written[2]
