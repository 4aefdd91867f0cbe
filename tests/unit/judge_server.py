"""An OpenAI-compatible server in a thread, which answers as a test tells it to."""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

Answer = Callable[[dict[str, Any], int], tuple[int, Any]]
"""From a request's body and how many came before it: status and the answer's body; headers under `headers`."""


@dataclass
class Server:
    """What was asked, and where."""

    url: str
    bodies: list[dict[str, Any]] = field(default_factory=list)
    headers: list[dict[str, str]] = field(default_factory=list)
    paths: list[str] = field(default_factory=list)

    @property
    def texts(self) -> list[str]:
        """The prompts."""
        return [text_of(body) for body in self.bodies]


def text_of(body: dict[str, Any]) -> str:
    """The text of a request's one message."""
    content = body["messages"][0]["content"]
    return content if isinstance(content, str) else next(part["text"] for part in content if part["type"] == "text")


def said(text: str | None, **more: Any) -> tuple[int, Any]:
    """A chat completion."""
    finish = more.pop("finish_reason", "stop")
    return 200, {"choices": [{"message": {"role": "assistant", "content": text, **more}, "finish_reason": finish}]}


def error(status: int, message: str, **more: Any) -> tuple[int, Any]:
    """An error as OpenAI's server words it."""
    return status, {"error": {"message": message, **more}}


@contextmanager
def serving(answer: Answer, slow: float = 0.0) -> Iterator[Server]:
    """The server, until the block ends."""
    lock = threading.Lock()

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            sent_body = self.rfile.read(int(self.headers["Content-Length"]))
            if not sent_body:
                return  # a client that has been stopped
            body = json.loads(sent_body)
            with lock:
                number = len(found.bodies)
                found.bodies.append(body)
                found.headers.append(dict(self.headers))
                found.paths.append(self.path)
            time.sleep(slow)
            status, content = answer(body, number)
            headers = content.pop("headers", {}) if isinstance(content, dict) else {}
            sent = content.encode() if isinstance(content, str) else json.dumps(content).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(sent)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(sent)

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except ConnectionError:  # a client that has not waited
                self.close_connection = True

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    found = Server(f"http://127.0.0.1:{server.server_port}/v1")
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield found
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
