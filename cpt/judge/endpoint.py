"""A judge behind an OpenAI-compatible address: `POST …/chat/completions`, several questions at a time.

The key goes into the header of requests and nowhere else: not into a file, not into a message, and it is blacked out of
whatever the server says.
"""

from __future__ import annotations

import asyncio
import base64
import io
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

import httpx

from cpt.common.console import printable
from cpt.common.errors import RunFailed
from cpt.common.keys import shortened
from cpt.judge.asked import Keep, Question, Reply

if TYPE_CHECKING:
    from PIL.Image import Image

FIRST_WAIT, LONGEST_WAIT = 1.0, 60.0  # seconds before a question is asked again; doubled every time
IN_A_ROW = 16  # questions that may fail one after the other, before the rest is not asked
TRIED = 3  # questions that may be refused as requests, before the first is answered
_AGAIN = (408, 409, 425, 429)  # and every 5xx
_PNG_SIDE = 512  # pixels: larger pictures, most of them photos, go as JPEG
_HERE = ("localhost", "127.0.0.1", "::1")


@dataclass
class Endpoint:
    """See `cpt.judge.asked.Judge`.

    Attributes:
        url: up to `/v1`, as OpenAI's clients take it.
        key: empty for a server that wants none.
        timeout: seconds that one answer may take.
        retries: how often a question is asked again where the server is busy, broken or silent.
    """

    url: str
    model: str
    key: str = field(default="", repr=False)
    max_tokens: int = 512
    seed: int = 0
    concurrency: int = 8
    timeout: float = 120.0
    retries: int = 5

    def __post_init__(self) -> None:
        self.url = checked_url(self.url)
        if not (self.key.isascii() and self.key.isprintable()) or " " in self.key:
            raise ValueError("the key has characters that no key has, such as a line break; set the variable again")

    @property
    def where(self) -> str:
        """Host and port."""
        return urlsplit(self.url).netloc

    def ask(self, questions: Sequence[Question], keep: Keep) -> None:
        """See `cpt.judge.asked.Judge.ask`. The first question goes alone: what is wrong with all of them shows there.

        Raises:
            ValueError: there is no such server, it does not know the address, the model or the key, or it takes no
                request of this kind.
            RunFailed: many questions in a row have failed.
        """
        asyncio.run(self._ask(questions, keep))

    async def _ask(self, questions: Sequence[Question], keep: Keep) -> None:
        headers = {"Authorization": f"Bearer {self.key}"} if self.key else {}
        here = urlsplit(self.url).hostname in _HERE  # a proxy would be asked in vain
        limits = httpx.Limits(max_connections=self.concurrency)
        async with httpx.AsyncClient(
            headers=headers, timeout=self.timeout, limits=limits, trust_env=not here
        ) as client:
            left = iter(questions)
            await self._first(client, left, keep)
            row = _Row(self.where)

            async def work() -> None:
                for question in left:  # all workers take from the same
                    reply = await self._reply(client, question)
                    keep(question, reply)
                    row.add(reply)

            await asyncio.gather(*(work() for _ in range(self.concurrency)))

    async def _first(self, client: httpx.AsyncClient, left: Iterator[Question], keep: Keep) -> None:
        """Ask one after the other until the first is answered. A single one may be too long, say."""
        reply = Reply()
        for _, question in zip(range(TRIED), left, strict=False):
            reply = await self._reply(client, question, first=True)
            keep(question, reply)
            if not isinstance(reply, _Rejected):
                break
        if isinstance(reply, _Rejected):
            raise ValueError(f"{self.where} takes no question: {reply.failure}")
        if reply.failure:
            raise RunFailed(f"{self.where} answers no question: {reply.failure}; nothing is judged by this command")

    async def _reply(self, client: httpx.AsyncClient, question: Question, *, first: bool = False) -> Reply:
        body, wait, problem = self._body(question), FIRST_WAIT, ""
        for attempt in range(self.retries + 1):
            if attempt:
                await asyncio.sleep(min(wait, LONGEST_WAIT) * random.uniform(0.75, 1.0))
            wait = FIRST_WAIT * 2**attempt
            try:
                async with asyncio.timeout(self.timeout):  # httpx's own is for every piece of an answer
                    response = await client.post(self.url, json=body)
            except (httpx.ConnectError, httpx.ConnectTimeout) as error:
                problem = f"no server answers at {self.where} ({self._told(error)})"
                if first:
                    raise ValueError(f"{problem}; check --endpoint, and that the server runs") from None
            except (TimeoutError, httpx.TimeoutException):
                problem = f"no answer within {self.timeout:g} s; --timeout sets another limit"
            except httpx.TransportError as error:
                problem = f"the connection broke ({self._told(error)})"
            else:
                if response.is_success:
                    return self._read(response)
                problem = f"HTTP {response.status_code}: {self._said(response)}"
                self._check_open(response, problem)
                if response.status_code not in _AGAIN and response.status_code < 500:
                    return self._refused(response) or _Rejected(failure=problem)
                wait = max(wait, _seconds(response.headers.get("retry-after", "")))
        return Reply(failure=f"{problem} ({self.retries + 1} times)" if self.retries else problem)

    def _body(self, question: Question) -> dict[str, Any]:
        parts = [{"type": "image_url", "image_url": {"url": data_url(image)}} for image in question.images]
        content = [*parts, {"type": "text", "text": question.text}] if parts else question.text
        return {
            "model": self.model,
            "messages": [{"role": "user", "content": content}],
            "temperature": 0,
            "seed": self.seed,
            "max_tokens": self.max_tokens,
        }

    def _check_open(self, response: httpx.Response, problem: str) -> None:
        """ValueError for an answer that every other question would get, too."""
        status = response.status_code
        if response.is_redirect:
            to = urlsplit(response.headers.get("location", "")).netloc or "elsewhere"
            raise ValueError(f"{self.where} sends on to {printable(to)}; give that address to --endpoint")
        if status in (401, 403):
            sent = "the key is not accepted" if self.key else "it wants a key, and none is set"
            raise ValueError(f"{self.where}: {sent}; --key-env names the variable it is read from ({problem})")
        if status in (404, 405):
            raise ValueError(
                f"{self.where}: no such address or model; give --endpoint up to /v1, and --model as the server names "
                f"it ({problem})"
            )

    def _refused(self, response: httpx.Response) -> Reply | None:
        """A request that a filter of contents has stopped."""
        error = _object(_object(_json(response)).get("error"))
        return Reply(refusal=self._said(response)) if error.get("code") == "content_filter" else None

    def _read(self, response: httpx.Response) -> Reply:
        choices = _object(_json(response)).get("choices")
        choice = _object(choices[0]) if isinstance(choices, list) and choices else {}
        if not isinstance(choice.get("message"), dict):
            return Reply(failure=f"the server's answer is no chat completion: {self._said(response)}")
        message, ended = choice["message"], choice.get("finish_reason")
        text, refusal = message.get("content"), message.get("refusal")
        if isinstance(text, list):
            text = "".join(str(_object(part).get("text", "")) for part in text)
        if ended == "content_filter" and not refusal:
            refusal = "stopped by a filter of contents"
        said = self._without_key(text) if isinstance(text, str) else ""
        refused = shortened(self._without_key(refusal), 1000) if isinstance(refusal, str) else ""
        return Reply(said, cut=ended == "length", refusal=refused)

    def _said(self, response: httpx.Response) -> str:
        """The server's message, in one line."""
        error = _object(_json(response)).get("error")
        message = _object(error).get("message") or _object(_json(response)).get("message") or error
        text = message if isinstance(message, str) else response.text
        return shortened(printable(self._without_key(" ".join(text.split()))), 200) or response.reason_phrase

    def _told(self, error: Exception) -> str:
        return shortened(printable(self._without_key(str(error) or type(error).__name__)), 120)

    def _without_key(self, text: str) -> str:
        """And without half characters, which no file takes."""
        text = text.encode("utf-8", "replace").decode("utf-8")
        return text.replace(self.key, "[key]") if self.key else text


class _Rejected(Reply):
    """A failure that is the request's, and would come again."""

    __slots__ = ()


class _Row:
    """Counts failures without a success between them."""

    def __init__(self, where: str) -> None:
        self.where, self.failed = where, 0

    def add(self, reply: Reply) -> None:
        """RunFailed if this was one too many."""
        self.failed = self.failed + 1 if reply.failure else 0
        if self.failed >= IN_A_ROW:
            raise RunFailed(
                f"{self.where}: {IN_A_ROW} questions in a row have failed ({reply.failure}); what is judged is kept, "
                "and the same command goes on from there"
            )


def checked_url(url: str) -> str:
    """The address of chat completions below `url`.

    Raises:
        ValueError: it is none, or holds a password or parameters, which would end up in files and messages.
    """
    example = "give one such as http://localhost:8000/v1"
    try:
        parts = urlsplit(url)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and parts.port != 0
    except ValueError:
        valid = False
    if not valid or not url.isprintable() or " " in url:
        raise ValueError(f"--endpoint: not an address; {example}")  # which is not repeated: it may hold a password
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ValueError(f"--endpoint: an address without user, password and parameters is needed; {example}")
    return url.rstrip("/").removesuffix("/chat/completions") + "/chat/completions"


def is_private(url: str) -> bool:
    """Whether nobody on the way can read what is sent: it is encrypted, or stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "https" or parts.hostname in _HERE


def data_url(image: Image) -> str:
    """The picture as a data URL: PNG, or JPEG where a side is longer than 512 pixels."""
    buffer = io.BytesIO()
    kind = "PNG" if max(image.size) <= _PNG_SIDE else "JPEG"
    image.save(buffer, format=kind, **({"quality": 92} if kind == "JPEG" else {}))
    return f"data:image/{kind.lower()};base64," + base64.b64encode(buffer.getvalue()).decode("ascii")


def _json(response: httpx.Response) -> Any:
    try:
        return response.json()
    except (ValueError, RecursionError):  # a page of a proxy, say
        return None


def _object(value: Any) -> dict[str, Any]:
    return value if isinstance(value, dict) else {}


def _seconds(text: str) -> float:
    """Of a Retry-After; 0 for a date, which is rare."""
    return min(float(text), LONGEST_WAIT) if text.strip().isdigit() else 0.0
