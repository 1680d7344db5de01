"""A chat server on this machine that answers well, or as badly as a test wants."""

from __future__ import annotations

import hashlib
import json
import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Call:
    """A request as it arrived; `number` counts those about the same subject from 1."""

    subject: str
    number: int
    body: dict[str, Any]
    headers: dict[str, str]

    @property
    def prompt(self) -> str:
        return "\n".join(message["content"] for message in self.body["messages"])


@dataclass
class Say:
    """What to send: after `delay` seconds, `body` cut after `cut` bytes though announced whole."""

    body: str
    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    delay: float = 0.0
    cut: int | None = None
    announce: bool = True
    drip: float = 0.0


def code(*parts: object) -> str:
    """Eight letters for anything."""
    digest = hashlib.sha256(repr(parts).encode()).digest()
    return "".join(chr(ord("a") + byte % 26) for byte in digest[:8])


def good_sentences(name: str, count: int = 4) -> list[str]:
    """Sentences that pass all rules and that no two names share."""
    frames = (
        "Somebody moves both arms along path {} and back.",
        "Both palms hold tool {} above wooden planks.",
        "Grey walls with sign {} surround every participant.",
        "Everywhere else, shape {} stays visible throughout.",
        "Late sunlight draws shadow {} across bare ground.",
        "Two spectators near post {} watch without stirring.",
    )
    return [frame.format(code(name, frame)) for frame in frames[:count]]


def completion(text: str | None, finish: str = "stop") -> str:
    """The JSON around an answer."""
    message = {"role": "assistant", "content": text}
    return json.dumps({"id": "x", "choices": [{"index": 0, "message": message, "finish_reason": finish}]})


def good(call: Call) -> Say:
    """A good answer to a question for descriptions."""
    return Say(completion(json.dumps({"descriptions": good_sentences(call.subject)})))


class ChatServer:
    """Use as ``with chat_server(answer) as server``; `calls` are all requests in the order of arrival."""

    def __init__(self, answer: Callable[[Call], Say]) -> None:
        self.answer = answer
        self.calls: list[Call] = []
        self.times: list[float] = []
        self.most_at_once = 0
        self._at_once = 0
        self._lock = threading.Lock()
        server = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                server._serve(self)

            def log_message(self, *args: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self._server.daemon_threads = True
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def count(self) -> Counter[str]:
        """Requests by subject."""
        return Counter(call.subject for call in self.calls)

    def _serve(self, handler: BaseHTTPRequestHandler) -> None:
        body = json.loads(handler.rfile.read(int(handler.headers["Content-Length"])))
        text = "\n".join(message["content"] for message in body["messages"])
        found = re.search(r'Action: "(.*?)"', text)
        with self._lock:
            subject = found[1] if found else ""
            headers = {key.lower(): value for key, value in handler.headers.items()}
            call = Call(subject, self.count[subject] + 1, body, headers)
            self.calls.append(call)
            self.times.append(time.monotonic())
            self._at_once += 1
            self.most_at_once = max(self.most_at_once, self._at_once)
        try:
            say = self.answer(call)
            time.sleep(say.delay)
        finally:
            with self._lock:  # before the answer leaves: it lets the other side ask again
                self._at_once -= 1
        with suppress(OSError):  # the other side has gone, as some tests want
            self._send(handler, say)

    def _send(self, handler: BaseHTTPRequestHandler, say: Say) -> None:
        data = say.body.encode()
        handler.send_response(say.status)
        for key, value in say.headers.items():
            handler.send_header(key, value)
        if say.announce:
            handler.send_header("Content-Length", str(len(data)))
        handler.end_headers()
        for part in [data[: say.cut]] if not say.drip else [data[i : i + 1] for i in range(len(data))]:
            handler.wfile.write(part)
            handler.wfile.flush()
            time.sleep(say.drip)


@contextmanager
def chat_server(answer: Callable[[Call], Say] = good) -> Iterator[ChatServer]:
    """A running server on a free port of 127.0.0.1."""
    server = ChatServer(answer)
    thread = threading.Thread(
        target=server._server.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True
    )
    thread.start()
    try:
        yield server
    finally:
        server._server.shutdown()
        server._server.server_close()
        thread.join()
