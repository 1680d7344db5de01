from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest

from tests.concepts.generate.asked import request as ask_about
from tests.concepts.generate.chat_server import Call, ChatServer, Say, chat_server, completion, good
from vidssl.concepts.generate.asking import Answer, Message, NoAnswer, Request
from vidssl.concepts.generate.server import OpenAIBackend, chat_body, read_completion
from vidssl.concepts.prompts import Sampling
from vidssl.errors import VidsslError

KEY = "sk-Very+Secret/Key_0123456789"


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    """Between the attempts of the client."""
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)


def request(name: str = "juggling", **sampling: object) -> Request:
    messages = (Message("system", "Answer in JSON."), Message("user", f'Action: "{name}"'))
    return ask_about(name, *messages, sampling=Sampling(**(sampling or {"seed": 0})))


def backend(server: ChatServer, **options: object) -> OpenAIBackend:
    return OpenAIBackend(server.url, "m", **{"timeout": 5.0, "max_retries": 3, **options})  # type: ignore[arg-type]


def ask(
    answer: Callable[[Call], Say], *names: str, **options: object
) -> tuple[dict[str, object], ChatServer]:
    with chat_server(answer) as server:
        outcomes = backend(server, **options).answer([request(name) for name in names or ("juggling",)])
        return {asked.concept.name: outcome for asked, outcome in outcomes}, server


def first(bad: Say, times: int = 1) -> Callable[[Call], Say]:
    return lambda call: bad if call.number <= times else good(call)


def test_a_question_and_its_answer():
    outcomes, server = ask(good, "juggling", "archery")
    assert isinstance(outcomes["archery"], Answer)
    assert "descriptions" in outcomes["archery"].text
    assert outcomes["archery"].finish == "stop"
    body = next(call.body for call in server.calls if call.subject == "archery")
    assert body == chat_body(request("archery"))


def test_the_body_is_what_the_interface_defines():
    body = chat_body(request(temperature=0.5, top_p=0.9, max_new_tokens=77, seed=3))
    assert body["messages"] == [
        {"role": "system", "content": "Answer in JSON."},
        {"role": "user", "content": 'Action: "juggling"'},
    ]
    assert (body["temperature"], body["top_p"], body["max_tokens"], body["seed"]) == (0.5, 0.9, 77, 3)
    assert "top_k" not in body
    assert body["response_format"]["type"] == "json_schema"
    assert body["response_format"]["json_schema"]["schema"]["required"] == ["descriptions"]


@pytest.mark.parametrize(
    "bad",
    [
        Say("slow down", 429),
        Say("oops", 500),
        Say("<html>gateway</html>", 502),
        Say("busy", 503),
        Say(completion("x" * 500), cut=100),  # closed in the middle of the body
    ],
)
def test_what_may_pass_is_tried_again(bad):
    outcomes, server = ask(first(bad, 2))
    assert isinstance(outcomes["juggling"], Answer)
    assert server.count["juggling"] == 3


@pytest.mark.parametrize(
    "bad",
    [
        Say(completion("x" * 500)[:300]),  # truncated JSON, though the length is right
        Say(completion("x" * 500), cut=100, announce=False),
        Say("{}"),
        Say('{"error": {"message": "overloaded"}}'),
        Say('{"choices": []}'),
        Say("[" * 100_000),
    ],
)
def test_what_is_no_completion_is_no_answer(bad):
    outcomes, server = ask(first(bad), "juggling", "archery", max_concurrency=1)
    assert outcomes["juggling"].reason.startswith("the server sent no answer in JSON: ")  # type: ignore[attr-defined]
    assert server.count["juggling"] == 1


def test_nobody_waits_for_ever():
    late = Say(good(Call("juggling", 1, {}, {})).body, delay=0.8)
    outcomes, server = ask(first(late), timeout=0.4)
    assert isinstance(outcomes["juggling"], Answer)
    assert server.count["juggling"] == 2


def test_patience_ends():
    outcomes, server = ask(lambda call: Say("no luck", 500), max_retries=2)
    assert outcomes["juggling"] == NoAnswer("HTTP 500: no luck")
    assert server.count["juggling"] == 3


def test_a_server_that_asks_for_too_long_is_given_up():
    outcomes, server = ask(lambda call: Say("later", 429, headers={"Retry-After": "3600"}))
    assert outcomes["juggling"] == NoAnswer("HTTP 429: later")
    assert len(server.calls) == 1


def test_concurrency_is_used_and_bounded():
    outcomes, server = ask(
        lambda call: Say(good(call).body, delay=0.03), *map(str, range(20)), max_concurrency=3
    )
    assert len(outcomes) == 20
    assert server.most_at_once == 3
    assert max(server.count.values()) == 1


def test_one_bad_question_does_not_hurt_the_others():
    outcomes, server = ask(
        lambda call: Say("content policy", 403) if call.subject == "2" else good(call), *map(str, range(5))
    )
    assert outcomes.pop("2") == NoAnswer("HTTP 403: content policy")
    assert all(isinstance(outcome, Answer) for outcome in outcomes.values())
    assert server.count["2"] == 1


@pytest.mark.parametrize("status", [400, 422])
def test_a_server_without_schemas_is_asked_without_and_remembered(status):
    def answer(call: Call) -> Say:
        refused = Say('{"error": "response_format is not supported"}', status)
        return refused if "response_format" in call.body else Say(completion("- one\n- two"))

    outcomes, server = ask(answer, *map(str, range(6)), max_concurrency=1)
    assert {outcome.text for outcome in outcomes.values()} == {"- one\n- two"}  # type: ignore[attr-defined]
    assert len(server.calls) == 7  # learned once


def test_other_concessions():
    def answer(call: Call) -> Say:
        if "max_tokens" in call.body:
            return Say("Unsupported parameter: 'max_tokens'; use 'max_completion_tokens'", 400)
        return good(call)

    with chat_server(answer) as server:
        [(_, outcome)] = backend(server).answer([request(max_new_tokens=9)])
    assert isinstance(outcome, Answer)
    last = server.calls[-1].body
    assert last["max_completion_tokens"] == 9
    assert "response_format" in last


def test_a_request_that_is_refused_anyway_teaches_nothing():
    def answer(call: Call) -> Say:
        return Say("prompt too long", 400) if call.subject == "0" else good(call)

    outcomes, server = ask(answer, "0", "1", max_concurrency=1)
    assert outcomes["0"] == NoAnswer("HTTP 400: prompt too long")
    assert "response_format" in server.calls[-1].body


@pytest.mark.parametrize(
    ("say", "message"),
    [
        (Say("who are you", 401), "'m', key None: HTTP 401: who are you"),
        (Say("pay", 402), "402"),
        (Say("no such model", 404), "'m', key None: HTTP 404: no such model"),
        (Say("", 307, headers={"Location": "http://elsewhere/"}), "HTTP 307"),
    ],
)
def test_what_will_not_pass_is_said_at_once(say, message):
    with chat_server(lambda call: say) as server:
        with pytest.raises(VidsslError, match=message):
            list(backend(server, max_concurrency=1).answer([request(str(n)) for n in range(5)]))
        time.sleep(0.05)
        assert len(server.calls) == 1


def test_an_empty_account_ends_it():
    with chat_server(
        lambda call: Say('{"error": {"message": "' + "x" * 500 + '", "code": "insufficient_quota"}}', 429)
    ) as server:
        with pytest.raises(VidsslError, match="HTTP 429"):
            list(backend(server, max_concurrency=1).answer([request(str(n)) for n in range(5)]))
        assert set(server.count) == {"0"}


def test_a_redirect_is_not_followed_with_the_key(monkeypatch):
    monkeypatch.setenv("TEST_KEY", KEY)
    with chat_server() as elsewhere:
        say = Say("", 302, headers={"Location": elsewhere.url + "/chat/completions"})
        with chat_server(lambda call: say) as server, pytest.raises(VidsslError, match="302"):
            list(backend(server, api_key_env="TEST_KEY").answer([request()]))
        assert elsewhere.calls == []


def test_a_server_that_is_not_there_does_not_cost_a_long_wait():
    with chat_server() as server:
        pass
    gone = backend(server, max_concurrency=2, max_retries=1)
    outcomes = [outcome for _, outcome in gone.answer([request(str(n)) for n in range(100)])]
    assert len(outcomes) == 100
    assert all(isinstance(outcome, NoAnswer) for outcome in outcomes)
    assert sum("not asked" in outcome.reason for outcome in outcomes) >= 90  # type: ignore[union-attr]
    assert any("Connection error" in outcome.reason for outcome in outcomes)  # type: ignore[union-attr]


def test_leaving_early_ends_the_threads():
    with chat_server(lambda call: Say(good(call).body, delay=0.02)) as server:
        before = threading.active_count()
        answers = backend(server, max_concurrency=2).answer([request(str(n)) for n in range(50)])
        next(answers)
        answers.close()  # type: ignore[attr-defined]
        deadline = time.monotonic() + 5
        while threading.active_count() > before and time.monotonic() < deadline:
            time.sleep(0.01)
        assert threading.active_count() <= before
        assert len(server.calls) < 10


def test_the_key_is_sent_and_seen_nowhere_else(monkeypatch):
    monkeypatch.setenv("TEST_KEY", f"{KEY}\n")

    def tell(call: Call) -> Say:
        if call.subject == "answer":
            return Say(completion(f"your key is {KEY}"))
        return Say(f"you sent {KEY}, which is busy", 503 if call.number == 1 else 403)

    with chat_server(tell) as server:
        client = backend(server, api_key_env="TEST_KEY")
        outcomes = list(client.answer([request("answer"), request("error")]))
    assert {call.headers["authorization"] for call in server.calls} == {f"Bearer {KEY}"}
    assert KEY not in f"{outcomes} {client} {client!r}"
    assert "your key is ***" in str(outcomes)
    with chat_server(lambda call: Say(f"bad key {KEY}", 401)) as server:
        client = backend(server, api_key_env="TEST_KEY")
        with pytest.raises(VidsslError, match=r"key TEST_KEY") as caught:
            list(client.answer([request()]))
    assert KEY not in str(caught.value)


def test_a_key_given_in_place_of_a_name_is_not_repeated(monkeypatch):
    for given in (KEY, "sk_live_0123abc", "", "a b", "TEST_KEY"):
        monkeypatch.delenv("TEST_KEY", raising=False)
        with pytest.raises(VidsslError, match="NAME of an environment variable") as caught:
            OpenAIBackend("http://127.0.0.1/v1", "m", api_key_env=given)
        assert not given or given not in str(caught.value).replace("api_key_env", "")
    monkeypatch.setenv("TEST_KEY", "one\r\nInjected: header")
    with pytest.raises(VidsslError, match="NAME of an environment variable") as caught:
        OpenAIBackend("http://127.0.0.1/v1", "m", api_key_env="TEST_KEY")
    assert "Injected" not in str(caught.value)


def test_no_key_is_sent_that_nobody_named(monkeypatch):
    monkeypatch.setenv("OPENAI_API_KEY", KEY)  # which nobody has named
    _, server = ask(good)
    assert server.calls[0].headers["authorization"] == "Bearer none"


@pytest.mark.parametrize(
    "url",
    ["", "localhost:8000/v1", "ftp://host/v1", "file:///etc/passwd", "http://", "http:///v1", "http://a:b@host/v1",
     "http://host:port/v1", "http://host/v1?x=y", "http://host/v1#x", "http://ho st/v1", "http://[::1", "http://h/\nx"],
)  # fmt: skip
def test_addresses_that_are_none(url):
    with pytest.raises(VidsslError, match="base_url"):
        OpenAIBackend(url, "m")


def test_passwords_in_addresses_are_not_repeated():
    with pytest.raises(VidsslError) as caught:
        OpenAIBackend("http://user:hunter2@host/v1", "m")
    assert "hunter2" not in str(caught.value)


@pytest.mark.parametrize(
    ("given", "url"),
    [
        (" https://host.example:8443/v1/ ", "https://host.example:8443/v1"),
        ("http://[::1]:8000/v1", "http://[::1]:8000/v1"),
    ],
)
def test_addresses(given, url):
    assert OpenAIBackend(given, "m")._url == url


def test_proxies_do_not_stand_between_this_machine_and_itself(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    outcomes, _ = ask(good)
    assert isinstance(outcomes["juggling"], Answer)


@pytest.mark.parametrize(
    ("message", "text"),
    [
        ({"content": "hello"}, "hello"),
        ({"content": None, "refusal": "I will not"}, ""),
    ],
)
def test_contents_of_messages(message, text):
    data = {"choices": [{"message": message, "finish_reason": "length"}]}
    assert read_completion(data) == Answer(text, "length")


def test_without_the_extra_it_is_said_how_to_get_it(monkeypatch):
    monkeypatch.setitem(sys.modules, "openai", None)
    with pytest.raises(VidsslError, match=r'pip install "vidssl\[openai\]"'):
        OpenAIBackend("http://h/v1", "m")


def test_the_client_is_imported_only_where_a_server_is_asked():
    program = "import sys, vidssl.concepts.generate.job; sys.exit('openai' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", program]).returncode == 0
