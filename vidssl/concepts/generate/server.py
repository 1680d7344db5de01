"""Any server that speaks the OpenAI chat interface: vLLM, llama.cpp, Ollama, `transformers serve`, hosted ones.

Time-outs, pauses and further attempts are those of the `openai` package, which is optional and imported when a server
is to be asked.

    >>> backend = OpenAIBackend("http://127.0.0.1:8000/v1", "my-model", api_key_env="MY_KEY")
"""

from __future__ import annotations

import asyncio
import json
import os
import re
from collections.abc import Iterator, Sequence
from concurrent.futures import as_completed
from typing import Any

from vidssl.concepts.generate.asking import MALFORMED, Answer, NoAnswer, Request, Task, clean_text
from vidssl.concepts.prompts import Attributes
from vidssl.errors import VidsslError

_URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[^\s/@?#:\[\]]+)(:\d+)?(/[^\s?#@]*)?")
_LOOPBACK = re.compile(r"https?://(localhost|127\.[\d.]+|\[::1\])(:|/|$)")
_FINAL = {301, 302, 303, 307, 308, 401, 402, 404, 405}  # a status that no other request would escape
_PATIENCE = 8  # requests in a row without an answer after which a server counts as gone


class OpenAIBackend:
    """A chat server.

    Args:
        base_url: up to and with the version, such as ``http://127.0.0.1:8000/v1``.
        model: its name on that server.
        api_key_env: NAME of the environment variable with the key; None sends no key. The key goes into the header of
            requests and nowhere else, and is blotted out of whatever a server sends back.
        timeout: seconds without a sign of the server.
        max_retries: further attempts for one request, where a failure may pass.
        max_concurrency: requests under way at a time.

    Raises:
        VidsslError: for a bad address, a key that is not there, or when `openai` is not installed.
    """

    generator = "openai"
    revision: str | None = None

    def __init__(
        self,
        base_url: str,
        model: str,
        *,
        api_key_env: str | None = None,
        timeout: float = 120.0,
        max_retries: int = 5,
        max_concurrency: int = 4,
    ) -> None:
        try:
            import openai
        except ImportError as error:
            raise VidsslError(f'{error}; for servers: pip install "vidssl[openai]"') from error
        self._openai: Any = openai
        self.model, self._url, self._key_env = model, base_url.strip().rstrip("/"), api_key_env
        if _URL.fullmatch(self._url) is None:  # a message must not repeat a password
            raise VidsslError("base_url: must be http:// or https:// with a host, without user or query")
        self._key = None if api_key_env is None else os.environ.get(api_key_env, "").strip()
        # The client repeats what it cannot send, and what was given as a name may be a key.
        if self._key is not None and not re.fullmatch(r"[\x21-\x7e]+", self._key):
            raise VidsslError("api_key_env: must be the NAME of an environment variable that holds a key")
        self._patience = {"timeout": timeout, "max_retries": max_retries}
        self._concurrency = max_concurrency
        self._refused: frozenset[str] = frozenset()  # by this server, of `chat_body`

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """See `Backend.answer`. Left early, it drops the requests under way.

        Raises:
            VidsslError: when the server does not accept the key, knows no such model or address, or the account is
                empty.
        """
        from anyio.from_thread import start_blocking_portal  # comes with openai

        self._lost = 0  # requests in a row that the server did not answer
        turns = asyncio.Semaphore(self._concurrency)
        # No proxy of the environment stands between this machine and itself; a key travels to no other host.
        local = _LOOPBACK.match(self._url) is not None
        http = self._openai.DefaultAsyncHttpxClient(trust_env=not local, follow_redirects=False)
        where = {"base_url": self._url, "api_key": self._key or "none", "http_client": http}
        client = self._openai.AsyncOpenAI(**where, **self._patience)
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(client):
            asked = {portal.start_task_soon(self._ask, client, turns, each): each for each in requests}
            for future in as_completed(asked):
                yield asked[future], future.result()

    async def _ask(self, client: Any, turns: asyncio.Semaphore, request: Request) -> Answer | NoAnswer:
        async with turns:
            if self._lost >= _PATIENCE:
                return NoAnswer(f"not asked: {self._lost} requests in a row had no answer from {self._url}")
            try:
                text = await self._send(client, request, self._refused)
            except self._openai.APIError as error:
                status = getattr(error, "status_code", 0)  # 0: there was no answer at all
                said = self._blotted(error.response.text) if status else str(error.__cause__ or "")
                reason = f"HTTP {status}: {snippet(said)}" if status else f"{error} {said}".strip()
                if status in _FINAL or "insufficient_quota" in said:
                    self._lost = _PATIENCE  # the others need not try
                    raise VidsslError(f"{self._url}, {self.model!r}, key {self._key_env}: {reason}") from None
                self._lost += 1 if status in (0, 429) or status >= 500 else 0
                return NoAnswer(reason)
        self._lost = 0
        try:
            return read_completion(json.loads(text))
        except MALFORMED:
            return NoAnswer(f"the server sent no answer in JSON: {snippet(text)}")

    async def _send(self, client: Any, request: Request, refused: frozenset[str]) -> str:
        """What the server answers with, spared what it refuses."""
        try:
            text = await client.post("/chat/completions", cast_to=str, body=chat_body(request, refused))
        except (self._openai.BadRequestError, self._openai.UnprocessableEntityError) as error:
            key = "max_tokens" if "max_completion_tokens" in error.response.text else "response_format"
            if key in refused:
                raise
            return await self._send(client, request, refused | {key})
        self._refused |= refused
        return self._blotted(text)

    def _blotted(self, text: str) -> str:
        """Some servers repeat the key in what they send."""
        return text.replace(self._key, "***") if self._key else text


def chat_body(request: Request, refused: frozenset[str] = frozenset()) -> dict[str, Any]:
    """A request as the chat interface wants it.

    Args:
        request: what to ask.
        refused: keys that a server does not take: ``response_format``, ``max_tokens`` (which has a newer name).
    """
    body = {"model": request.model, "messages": request.content["messages"]}
    body |= request.sampling.model_dump(exclude_none=True)
    if "max_new_tokens" in body:
        longest = "max_completion_tokens" if "max_tokens" in refused else "max_tokens"
        body[longest] = body.pop("max_new_tokens")
    if "response_format" not in refused:
        schema = {"name": request.task, "strict": True, "schema": answer_schema(request.task)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def answer_schema(task: Task) -> dict[str, Any]:
    """JSON schema of an answer, in the part of the standard that all servers with such a thing understand."""
    texts = {"type": "array", "items": {"type": "string"}}
    keys = [*Attributes.model_fields, "synonyms"] if task == "attributes" else [task]
    properties = dict.fromkeys(keys, texts)
    return {"type": "object", "properties": properties, "required": keys, "additionalProperties": False}


def read_completion(completion: Any) -> Answer:
    """The first choice of a completion; a refusal or nothing at all is an answer too, though an empty one.

    Raises:
        Exception: one of `MALFORMED`, for what is no completion.
    """
    choice = completion["choices"][0]
    return Answer(choice["message"].get("content") or "", choice.get("finish_reason"))


def snippet(text: str) -> str:
    """The beginning of what somebody sent, in one line."""
    return " ".join(clean_text(text[:600]).split())[:200]
