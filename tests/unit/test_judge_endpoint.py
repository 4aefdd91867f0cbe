"""A judge behind an address: what is sent, asked again, refused and told, against a server in a thread."""

from __future__ import annotations

import base64
import io
import re
import time
from collections import Counter

import pytest
from judge_server import error, said, serving, text_of
from PIL import Image

from cpt.common.errors import RunFailed
from cpt.judge import endpoint
from cpt.judge.asked import Question, Reply
from cpt.judge.endpoint import IN_A_ROW, Endpoint, checked_url, data_url
from cpt.types import Sample

KEY = "sk-secret-0123456789"


@pytest.fixture(autouse=True)
def no_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    """And no proxy of this machine."""
    monkeypatch.setattr(endpoint, "FIRST_WAIT", 0.001)


def questions(n: int) -> list[Question]:
    return [Question(f"digest-{number}", f"question {number}") for number in range(n)]


def ask(server, asked: list[Question], **settings) -> dict[str, Reply]:
    """The replies by digest; each was kept once."""
    kept: list[tuple[str, Reply]] = []
    judge = Endpoint(server.url, "judge-1", **{"retries": 2, **settings})
    judge.ask(asked, lambda question, reply: kept.append((question.digest, reply)))
    assert len(dict(kept)) == len(kept)
    return dict(kept)


def test_a_question_is_sent_as_the_protocol_has_it():
    with serving(lambda body, number: said("7")) as server:
        found = ask(server, questions(1), key=KEY, seed=3, max_tokens=9)
    assert found == {"digest-0": Reply("7")}
    assert server.paths == ["/v1/chat/completions"]
    assert server.bodies == [
        {
            "model": "judge-1",
            "messages": [{"role": "user", "content": "question 0"}],
            "temperature": 0,
            "seed": 3,
            "max_tokens": 9,
        }
    ]
    assert server.headers[0]["Authorization"] == f"Bearer {KEY}"


def test_without_a_key_no_header_is_sent():
    with serving(lambda body, number: said("7")) as server:
        ask(server, questions(1))
    assert not {name.lower() for name in server.headers[0]} & {"authorization"}


def test_pictures_go_with_the_words():
    small, large = Image.new("RGB", (4, 6), (200, 10, 10)), Image.new("RGB", (700, 20))
    sample = Sample("t/test/0", "t", "?", (small, large), ("a",))
    with serving(lambda body, number: said("7")) as server:
        ask(server, [Question("d", "look", "shown", sample)])
    *pictures, words = server.bodies[0]["messages"][0]["content"]
    assert words == {"type": "text", "text": "look"}
    kinds = []
    for picture, original in zip(pictures, (small, large), strict=True):
        head, data = picture["image_url"]["url"].split(",")
        kinds.append(head)
        assert Image.open(io.BytesIO(base64.b64decode(data))).size == original.size
    assert kinds == ["data:image/png;base64", "data:image/jpeg;base64"]
    assert data_url(small) == data_url(small.copy())


def test_every_question_is_asked_once_and_never_more_at_a_time_than_allowed():
    running, most = 0, 0

    def answer(body, number):
        nonlocal running, most
        running += 1
        most = max(most, running)
        time.sleep(0.01)
        running -= 1
        return said(text_of(body).removeprefix("question "))

    with serving(answer) as server:
        found = ask(server, questions(20), concurrency=4)
    assert {digest: reply.text for digest, reply in found.items()} == {f"digest-{n}": str(n) for n in range(20)}
    assert Counter(server.texts) == {f"question {n}": 1 for n in range(20)}
    assert 2 <= most <= 4


@pytest.mark.parametrize("status", [429, 500, 503, 408])
def test_a_busy_server_is_asked_again(status: int):
    with serving(lambda body, number: error(status, "slow down") if number == 0 else said("7")) as server:
        assert ask(server, questions(1)) == {"digest-0": Reply("7")}
    assert len(server.bodies) == 2


def test_the_server_says_how_long_to_wait(monkeypatch: pytest.MonkeyPatch):
    waits: list[float] = []

    async def sleep(seconds: float) -> None:
        waits.append(seconds)

    monkeypatch.setattr(endpoint.asyncio, "sleep", sleep)
    monkeypatch.setattr(endpoint.random, "uniform", lambda low, high: 1.0)
    late = {"Retry-After": "9"}
    with serving(lambda body, number: (429, {"headers": late}) if number == 0 else said("7")) as server:
        ask(server, questions(1))
    assert [seconds for seconds in waits if seconds] == [9.0]


def test_a_question_that_fails_for_ever_is_failed_and_the_others_go_on():
    def answer(body, number):
        return error(500, "out of memory") if text_of(body) == "question 3" else said("7")

    with serving(answer) as server:
        found = ask(server, questions(6))
    assert found.pop("digest-3") == Reply(failure="HTTP 500: out of memory (3 times)")
    assert set(found.values()) == {Reply("7")} and len(found) == 5
    assert Counter(server.texts)["question 3"] == 3


def test_a_slow_answer_fails_after_its_time():
    def answer(body, number):
        if text_of(body) == "question 1":
            time.sleep(0.3)
        return said("7")

    with serving(answer) as server:
        found = ask(server, questions(2), timeout=0.1, retries=0)
    assert found["digest-0"] == Reply("7")
    assert found["digest-1"].failure == "no answer within 0.1 s; --timeout sets another limit"


def test_a_server_that_only_fails_ends_it_before_anything_is_judged():
    with (
        serving(lambda body, number: error(500, "broken")) as server,
        pytest.raises(RunFailed, match=r"answers no question: HTTP 500: broken \(3 times\)"),
    ):
        ask(server, questions(50))
    assert set(server.texts) == {"question 0"}


def test_a_server_that_breaks_on_the_way_ends_it():
    with (
        serving(lambda body, number: said("7") if number < 5 else error(502, "gone")) as server,
        pytest.raises(
            RunFailed, match=f"{IN_A_ROW} questions in a row have failed .*HTTP 502: gone.*goes on from there"
        ),
    ):
        ask(server, questions(100), retries=0)
    assert len(server.bodies) < 60


@pytest.mark.parametrize(
    ("status", "told"),
    [
        (401, "the key is not accepted; --key-env names the variable"),
        (403, "the key is not accepted"),
        (404, "no such address or model; give --endpoint up to /v1"),
    ],
)
def test_what_is_wrong_with_all_questions_ends_it_at_the_first(status: int, told: str):
    with (
        serving(lambda body, number: error(status, f"Incorrect API key provided: {KEY}")) as server,
        pytest.raises(ValueError, match=re.escape(told)) as caught,
    ):
        ask(server, questions(20), key=KEY)
    assert len(server.bodies) == 1
    assert KEY not in str(caught.value) and "[key]" in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_key_is_said_to_be_missing():
    with (
        serving(lambda body, number: error(401, "unauthorised")) as server,
        pytest.raises(ValueError, match="it wants a key, and none is set"),
    ):
        ask(server, questions(1))


def test_nobody_answers():
    with serving(lambda body, number: said("7")) as server:
        pass
    with pytest.raises(ValueError, match=r"no server answers at 127\.0\.0\.1:\d+ .*check --endpoint"):
        ask(server, questions(1))


def test_a_redirect_is_not_followed():
    elsewhere = {"Location": "http://elsewhere.invalid/v1/chat/completions"}
    with (
        serving(lambda body, number: (307, {"headers": dict(elsewhere)})) as server,
        pytest.raises(ValueError, match=r"sends on to elsewhere\.invalid; give that address"),
    ):
        ask(server, questions(1), key=KEY)


def test_one_question_that_is_no_request_fails_alone():
    def answer(body, number):
        return error(400, "the prompt is too long") if text_of(body) == "question 0" else said("7")

    with serving(answer) as server:
        found = ask(server, questions(3))
    assert found["digest-0"].failure == "HTTP 400: the prompt is too long"
    assert found["digest-1"] == found["digest-2"] == Reply("7")
    assert Counter(server.texts)["question 0"] == 1


def test_a_server_that_takes_no_such_request_is_not_asked_a_thousand_times():
    with (
        serving(lambda body, number: error(400, "max_tokens is not supported")) as server,
        pytest.raises(ValueError, match="takes no question: HTTP 400: max_tokens is not supported"),
    ):
        ask(server, questions(1000))
    assert len(server.bodies) == 3


def test_refusals_that_the_server_names():
    answers = [
        said(None, refusal="I won't"),
        said("half of", finish_reason="content_filter"),
        error(400, "flagged", code="content_filter"),
    ]
    with serving(lambda body, number: answers[int(text_of(body)[-1])]) as server:
        found = ask(server, questions(3), concurrency=1)
    assert [reply.refusal for reply in found.values()] == ["I won't", "stopped by a filter of contents", "flagged"]
    assert not any(reply.failure for reply in found.values())


def test_other_shapes_of_an_answer():
    answers = [
        said("cut", finish_reason="length"),
        said([{"type": "text", "text": "in "}, {"type": "text", "text": "parts"}]),
        said(None),
        (200, "<html>a proxy</html>"),
        (200, {"choices": []}),
        said("half \ud83d a character"),
    ]
    with serving(lambda body, number: answers[int(text_of(body)[-1])]) as server:
        found = list(ask(server, questions(6), concurrency=1).values())
    assert found[:3] == [Reply("cut", cut=True), Reply("in parts"), Reply("")]
    assert found[3].failure == "the server's answer is no chat completion: <html>a proxy</html>"
    assert found[4].failure.startswith("the server's answer is no chat completion")
    assert found[5] == Reply("half ? a character")


def test_a_key_that_the_server_repeats_is_blacked_out():
    with serving(lambda body, number: said(f"your key is {KEY}")) as server:
        assert ask(server, questions(1), key=KEY)["digest-0"].text == "your key is [key]"


def test_the_key_is_in_no_representation():
    assert KEY not in repr(Endpoint("http://localhost:1/v1", "m", KEY))


def test_a_key_with_a_line_break_is_refused_without_being_shown():
    with pytest.raises(ValueError, match="characters that no key has") as caught:
        Endpoint("http://localhost:1/v1", "m", f"{KEY}\nX-Other: 1")
    assert KEY not in str(caught.value)


@pytest.mark.parametrize(
    "url",
    [
        *("localhost:8000", "ftp://localhost", "http://", "http://host:port/v1", "", "http://ho st/v1"),
        *("https://me:sk-secret@host/v1", "https://host/v1?key=sk-secret", "https://host/v1#sk-secret"),
    ],
)
def test_an_address_that_is_none_is_not_repeated(url: str):
    with pytest.raises(ValueError, match=r"--endpoint: .*http://localhost:8000/v1") as caught:
        checked_url(url)
    assert "sk-secret" not in str(caught.value)


def test_addresses_are_completed():
    for url in ("http://h:1/v1", "http://h:1/v1/", "http://h:1/v1/chat/completions"):
        assert checked_url(url) == "http://h:1/v1/chat/completions"
