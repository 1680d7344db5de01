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
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import as_completed
from typing import Any

from vidssl.concepts.generate.asking import Answer, NoAnswer, Request, Task, without_system
from vidssl.concepts.prompts import Attributes
from vidssl.errors import VidsslError

_URL = re.compile(r"https?://(\[[0-9a-fA-F:.]+\]|[^\s/@?#:\[\]]+)(:\d+)?(/[^\s?#@]*)?")
_LOOPBACK = re.compile(r"https?://(localhost|127\.[\d.]+|\[::1\])(:|/|$)")
_FINAL = {301, 302, 303, 307, 308, 401, 402, 404, 405}  # a status that no other request would escape


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
        VidsslError: for bad arguments, a key that is not there, or when `openai` is not installed.
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
        if not (model.strip() and timeout > 0 and max_concurrency >= 1):
            raise VidsslError(
                f"model={model!r}, timeout={timeout:g}, max_concurrency={max_concurrency}: must be a name, above 0, 1 or more"
            )
        self.model, self._url, self._key_env = model, check_url(base_url), api_key_env
        self._key = None if api_key_env is None else read_key(api_key_env)
        self._patience = {"timeout": timeout, "max_retries": max_retries}
        self._concurrency = max_concurrency
        self._conceded: frozenset[str] = frozenset()
        self._lost = 0  # requests in a row that the server did not answer
        self._end: VidsslError | None = None
        try:
            import openai
        except ImportError as error:
            raise VidsslError(
                f'servers are asked through openai, which cannot be imported ({error}); pip install "vidssl[openai]"'
            ) from error
        self._openai: Any = openai

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """See `Backend.answer`. Left early, it drops the requests under way.

        Raises:
            VidsslError: when the server does not accept the key, knows no such model or address, or the account is
                empty.
        """
        from anyio.from_thread import start_blocking_portal  # comes with openai

        self._lost, self._end = 0, None
        turns = asyncio.Semaphore(self._concurrency)
        # No proxy of the environment stands between this machine and itself; a key travels to no other host.
        local = _LOOPBACK.match(self._url) is not None
        http = self._openai.DefaultAsyncHttpxClient(trust_env=not local, follow_redirects=False)
        where = {"base_url": self._url, "api_key": self._key or "none", "http_client": http}
        client = self._openai.AsyncOpenAI(**where, **self._patience)
        with start_blocking_portal() as portal, portal.wrap_async_context_manager(client):
            start = portal.start_task_soon
            asked = {start(self._ask, client, turns, request): request for request in requests}
            for future in as_completed(asked):
                yield asked[future], future.result()

    async def _ask(self, client: Any, turns: asyncio.Semaphore, request: Request) -> Answer | NoAnswer:
        async with turns:
            if self._end is not None:
                raise self._end
            if self._lost >= max(8, 2 * self._concurrency):
                return NoAnswer(f"not asked: {self._lost} requests in a row had no answer from {self._url}")
            try:
                text = await self._send(client, request, self._conceded)
            except self._openai.APIError as error:
                status = getattr(error, "status_code", 0)  # 0: there was no answer at all
                said = self._text(error.response) if status else str(error.__cause__ or "")
                reason = f"HTTP {status}: {snippet(said)}" if status else f"{error} {said}".strip()
                if status in _FINAL or "insufficient_quota" in said:
                    key = "no key" if self._key_env is None else f"the key in ${self._key_env}"
                    self._end = VidsslError(f"{self._url}, model {self.model!r}, {key}: {reason}")
                    raise self._end from None
                self._lost += 1 if status in (0, 429) or status >= 500 else 0
                return NoAnswer(reason)
            self._lost = 0
            return read_completion(text) or NoAnswer(f"the server sent no answer in JSON: {snippet(text)}")

    async def _send(self, client: Any, request: Request, conceded: frozenset[str]) -> str:
        """What the server answers with, spared what it refuses."""
        body = chat_body(request, conceded)
        model, messages = body.pop("model"), body.pop("messages")
        headers = {} if self._key else {"Authorization": self._openai.Omit()}
        try:
            create = client.chat.completions.with_raw_response.create
            reply = await create(model=model, messages=messages, extra_body=body, extra_headers=headers)
        except (self._openai.BadRequestError, self._openai.UnprocessableEntityError) as error:
            if (less := concession(error.response.text, conceded)) is None:
                raise
            return await self._send(client, request, conceded | {less})
        self._conceded |= conceded
        return self._text(reply.http_response)

    def _text(self, response: Any) -> str:
        """Some servers repeat the key in what they send."""
        return str(response.text.replace(self._key, "***") if self._key else response.text)


def check_url(url: str) -> str:
    """An address to which paths can be added.

    Raises:
        VidsslError: for anything but http or https with a host and without user, query, fragment or blanks.
    """
    given = url.strip().rstrip("/").removesuffix("/chat/completions")
    if _URL.fullmatch(given) is None:  # a message must not repeat a password
        raise VidsslError("base_url: must be http:// or https:// with a host, without user, query or blanks")
    return given


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
    messages = without_system(request.messages) if "system" in conceded else request.messages
    sampling = request.sampling.model_dump(exclude_none=True)
    if (longest := sampling.pop("max_new_tokens", None)) is not None:
        sampling["max_completion_tokens" if "max_tokens" in conceded else "max_tokens"] = longest
    body: dict[str, Any] = {"model": request.model, "messages": [message._asdict() for message in messages]}
    body |= sampling
    if "schema" not in conceded:
        schema = {"name": request.task, "strict": True, "schema": answer_schema(request.task)}
        body["response_format"] = {"type": "json_schema", "json_schema": schema}
    return body


def concession(complaint: str, conceded: frozenset[str]) -> str | None:
    """What to spare a server that refused a request as malformed, going by its complaint; None when nothing is left."""
    text = complaint.lower()
    if "max_completion_tokens" in text and "max_tokens" not in conceded:
        return "max_tokens"
    if "system" in text and "role" in text and "system" not in conceded:
        return "system"
    return None if "schema" in conceded else "schema"


def answer_schema(task: Task) -> dict[str, Any]:
    """JSON schema of an answer, in the part of the standard that all servers with such a thing understand."""
    texts = {"type": "array", "items": {"type": "string"}}
    keys = [*Attributes.model_fields, "synonyms"] if task == "attributes" else [task]
    properties = dict.fromkeys(keys, texts)
    return {"type": "object", "properties": properties, "required": keys, "additionalProperties": False}


def read_completion(given: Any) -> Answer | None:
    """The first choice of a completion; a refusal or nothing at all is an answer too, though an empty one.

    Args:
        given: the JSON of a chat server, as text or read.
    """
    try:
        choice = (json.loads(given) if isinstance(given, str) else given)["choices"][0]
        content, finish = choice["message"].get("content"), choice.get("finish_reason")
    except (ValueError, RecursionError, TypeError, KeyError, IndexError, AttributeError):
        return None
    text = "" if content is None else joined(content)
    return None if text is None else Answer(text, finish if isinstance(finish, str) else None)


def joined(content: Any) -> str | None:
    """The text of a message, which may come in parts; None where there is none."""
    if isinstance(content, list):
        texts = [part.get("text") for part in content if isinstance(part, Mapping)]
        return "".join(text for text in texts if isinstance(text, str))
    return content if isinstance(content, str) else None


def snippet(text: str) -> str:
    """The beginning of what a server sent, in one line."""
    line = "".join(letter if letter.isprintable() else "?" for letter in " ".join(text[:600].split()))
    return line if len(line) <= 200 else line[:199] + "…"
