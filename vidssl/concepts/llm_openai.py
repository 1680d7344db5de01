"""Any server that speaks the OpenAI chat interface: vLLM, llama.cpp, Ollama, `transformers serve`, hosted ones.

Plain HTTP, a few requests at a time, with patience: what may pass (429, 5xx, a lost connection) is tried again after a
growing pause or after the time that the server asks for; what will not pass is said at once.

    >>> backend = OpenAIBackend("http://127.0.0.1:8000/v1", "my-model", api_key_env="MY_KEY")
"""

from __future__ import annotations

import json
import os
import queue
import random
import re
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

from vidssl.concepts.llm_http import Reply, Unreachable, check_url, opener_for, post, retry_after
from vidssl.concepts.llm_request import Answer, Backend, NoAnswer, Request, answer_schema
from vidssl.errors import VidsslError

PATH = "/chat/completions"
PASSING = {408, 409, 425, 429, 500, 502, 503, 504, 520, 521, 522, 523, 524, 529}
_Outcome = Answer | NoAnswer | BaseException


class OpenAIBackend(Backend):
    """A chat server.

    Args:
        base_url: up to and with the version, such as ``http://127.0.0.1:8000/v1``.
        model: its name on that server.
        api_key_env: NAME of the environment variable with the key; None sends no key. The key goes into the header of
            requests and nowhere else, and is blotted out of whatever a server sends back.
        revision: of the model, for the provenance.
        timeout: seconds for one attempt.
        max_retries: further attempts for one request.
        max_concurrency: requests under way at a time.
        json_schema: ask for answers in the shape of a JSON schema; a server that refuses is asked without.
        backoff, max_backoff: seconds of the first pause, which doubles, and of the longest.
        max_wait: seconds a server may ask to wait; for more, the request is given up.
        notify: called with one line for every pause.
    """

    generator = "openai"

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        revision: str | None = None,
        timeout: float = 120.0,
        max_retries: int = 5,
        max_concurrency: int = 4,
        json_schema: bool = True,
        backoff: float = 1.0,
        max_backoff: float = 60.0,
        max_wait: float = 300.0,
        notify: Callable[[str], None] | None = None,
    ) -> None:
        if not model.strip():
            raise VidsslError("model: empty; give the name that the server knows it by")
        if not timeout > 0 or max_retries < 0 or max_concurrency < 1:
            raise VidsslError(
                f"timeout={timeout:g}, max_retries={max_retries}, max_concurrency={max_concurrency}: must be above 0,"
                " 0 or more, and 1 or more"
            )
        self._url = check_url(base_url).removesuffix(PATH)
        self._model, self._revision = model, revision
        self._key = None if api_key_env is None else read_key(api_key_env)
        self._key_env = api_key_env
        self.timeout, self.max_retries, self.max_concurrency = timeout, max_retries, max_concurrency
        self.backoff, self.max_backoff, self.max_wait = backoff, max_backoff, max_wait
        self._notify = notify or (lambda line: None)
        self._opener = opener_for(self._url)
        self._random = random.SystemRandom()
        self._lock = threading.Lock()
        self._conceded: frozenset[str] = frozenset() if json_schema else frozenset({"schema"})
        self._resume_at = 0.0  # monotonic seconds before which nobody asks
        self._lost = 0  # requests in a row that were given up

    def __repr__(self) -> str:
        return f"OpenAIBackend({self._url!r}, {self._model!r})"

    @property
    def model(self) -> str:
        """Its name on the server."""
        return self._model

    @property
    def revision(self) -> str | None:
        """As given."""
        return self._revision

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """See `Backend.answer`. Ends its threads when it is left early; answers under way are then lost.

        Raises:
            VidsslError: when the server does not accept the key, knows no such model or address, or the account is
                empty.
        """
        todo: queue.SimpleQueue[Request] = queue.SimpleQueue()
        done: queue.SimpleQueue[tuple[Request, _Outcome]] = queue.SimpleQueue()
        for request in requests:
            todo.put(request)
        self._lost, stop = 0, threading.Event()
        for _ in range(min(self.max_concurrency, len(requests))):
            threading.Thread(target=self._work, args=(todo, done, stop), daemon=True).start()
        try:
            for _ in requests:
                request, outcome = done.get()
                if isinstance(outcome, BaseException):
                    raise outcome
                yield request, outcome
        finally:
            stop.set()

    def _work(
        self,
        todo: queue.SimpleQueue[Request],
        done: queue.SimpleQueue[tuple[Request, _Outcome]],
        stop: threading.Event,
    ) -> None:
        while not stop.is_set():
            try:
                request = todo.get_nowait()
            except queue.Empty:
                return
            try:
                done.put((request, self._ask(request, stop)))
            except BaseException as error:  # noqa: BLE001  # raised again where the answers are read
                done.put((request, error))
                stop.set()  # after the error is in the queue, so that it is what is seen first

    def _ask(self, request: Request, stop: threading.Event) -> Answer | NoAnswer:
        """Until there is an answer, or no hope of one."""
        reason = ""
        conceded = self._conceded
        attempt = 0
        while attempt <= self.max_retries:
            if self._lost >= max(8, 2 * self.max_concurrency):
                return NoAnswer(f"not asked: {self._lost} requests in a row had no answer from {self._url}")
            if stop.wait(max(0.0, self._resume_at - time.monotonic())):
                return NoAnswer("stopped")
            wait = None
            try:
                reply = self._post(request, conceded)
            except Unreachable as error:
                reason = str(error)
            else:
                if reply.status == 200:
                    outcome = read_reply(reply.body)
                    if isinstance(outcome, Answer):
                        with self._lock:
                            self._conceded, self._lost = self._conceded | conceded, 0
                        return outcome
                    reason = outcome.reason
                else:
                    reason = f"HTTP {reply.status}: {snippet(reply.body)}"
                    if reply.status in (400, 422) and (less := concession(reply.body, conceded)):
                        conceded = conceded | {less}
                        continue
                    self._raise_if_final(reply, reason)
                    if reply.status not in PASSING:
                        return NoAnswer(reason)
                    wait = retry_after(reply.headers, time.time())
                    if wait is not None and wait > self.max_wait:
                        return self._give_up(f"{reason} (to be tried again in {wait:.0f} s)")
            if attempt < self.max_retries:
                self._pause(attempt, wait, reason, stop)
            attempt += 1
        return self._give_up(f"{reason} ({attempt} attempts)")

    def _give_up(self, reason: str) -> NoAnswer:
        with self._lock:
            self._lost += 1
        return NoAnswer(reason)

    def _pause(self, attempt: int, wait: float | None, reason: str, stop: threading.Event) -> None:
        """A server that asks for time gets it from all threads; otherwise only this request waits."""
        pause = min(self.max_backoff, self.backoff * 2**attempt) * self._random.uniform(0.5, 1.0)
        if wait is not None:
            with self._lock:
                self._resume_at = max(self._resume_at, time.monotonic() + wait)
            pause = wait + self._random.uniform(0.0, 0.1 * self.backoff)
        self._notify(f"{self._url}: {reason}; trying again in {pause:.1f} s")
        stop.wait(pause)

    def _post(self, request: Request, conceded: frozenset[str]) -> Reply:
        headers = {"Content-Type": "application/json", "Accept": "application/json", "User-Agent": "vidssl"}
        if self._key is not None:
            headers["Authorization"] = f"Bearer {self._key}"
        body = json.dumps(chat_body(request, conceded)).encode()
        reply = post(self._opener, self._url + PATH, body, headers, self.timeout)
        return reply if self._key is None else reply._replace(body=_blot(reply.body, self._key))

    def _raise_if_final(self, reply: Reply, reason: str) -> None:
        if reply.status in (401, 402):
            key = f"the key in ${self._key_env}" if self._key_env else "a request without a key"
            raise VidsslError(f"{self._url}: does not accept {key}: {reason}")
        if reply.status in (404, 405):
            raise VidsslError(f"{self._url}: no model {self._model!r} at this address: {reason}")
        if 300 <= reply.status < 400:
            raise VidsslError(f"{self._url}: has moved to {reply.headers.get('Location', '?')[:200]!r}")
        if b"insufficient_quota" in reply.body:
            raise VidsslError(f"{self._url}: {reason}")


def read_key(variable: str) -> str:
    """The key in an environment variable.

    Raises:
        VidsslError: when what was given is no name of a variable, or the variable is not set or no key. The message
            holds no value, and no name that may be a key given by mistake.
    """
    if not re.fullmatch(r"[A-Z_][A-Z0-9_]{0,63}", variable):
        raise VidsslError(
            "api_key_env: must be the NAME of an environment variable in capitals, such as OPENAI_API_KEY, not the key"
        )
    key = os.environ.get(variable, "").strip()
    if not key:
        raise VidsslError(f"api_key_env: the environment variable {variable} is not set")
    if not re.fullmatch(r"[\x21-\x7e]+", key):
        raise VidsslError(f"api_key_env: the value of {variable} has blanks or characters that no key has")
    return key


def chat_body(request: Request, conceded: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A request as the chat interface wants it.

    Args:
        request: what to ask.
        conceded: what this server has to be spared: ``schema``, ``max_tokens`` (its older name), ``system`` (role).
    """
    messages = [message._asdict() for message in request.messages]
    if "system" in conceded and messages[0]["role"] == "system":
        first, second, *rest = messages
        messages = [{"role": "user", "content": f"{first['content']}\n\n{second['content']}"}, *rest]
    sampling = request.sampling.model_dump(exclude_none=True)
    if (longest := sampling.pop("max_new_tokens", None)) is not None:
        sampling["max_completion_tokens" if "max_tokens" in conceded else "max_tokens"] = longest
    body: dict[str, Any] = {"model": request.model, "messages": messages, **sampling}
    if "schema" not in conceded:
        schema = {"name": request.task, "strict": True, "schema": answer_schema(request.task)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def concession(body: bytes, conceded: frozenset[str]) -> str | None:
    """What to spare a server that refused a request as malformed, going by its complaint; None when nothing is left."""
    text = body.decode("utf-8", "replace").lower()
    if "max_completion_tokens" in text and "max_tokens" not in conceded:
        return "max_tokens"
    if "system" in text and "role" in text and "system" not in conceded:
        return "system"
    return "schema" if "schema" not in conceded else None


def read_reply(body: bytes) -> Answer | NoAnswer:
    """The answer in the JSON of a chat server."""
    try:
        data = json.loads(body)
    except (ValueError, RecursionError):
        return NoAnswer(f"the server sent no whole JSON: {snippet(body)}")
    answer = read_completion(data)
    return answer or NoAnswer(f"the server sent JSON without an answer: {snippet(body)}")


def read_completion(data: Any) -> Answer | None:
    """The first choice of a completion; a refusal or nothing at all is an answer too, though an empty one."""
    try:
        choice = data["choices"][0]
        content = choice["message"].get("content")
        finish = choice.get("finish_reason")
    except (TypeError, KeyError, IndexError, AttributeError):
        return None
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, dict)]
        content = "".join(text for text in texts if isinstance(text, str))
    if content is not None and not isinstance(content, str):
        return None
    return Answer(content or "", finish if isinstance(finish, str) else None)


def snippet(body: bytes) -> str:
    """The beginning of what a server sent, in one line."""
    text = " ".join(body[:600].decode("utf-8", "replace").split())
    text = "".join(character if character.isprintable() else "?" for character in text)
    return text if len(text) <= 200 else text[:199] + "…"


def _blot(body: bytes, key: str) -> bytes:
    """Some servers repeat the key in their complaint."""
    return body.replace(key.encode(), b"***")
