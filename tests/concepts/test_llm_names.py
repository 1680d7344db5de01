from __future__ import annotations

import json
from collections.abc import Iterator, Sequence

import pytest

from vidssl.concepts.llm_echo import EchoBackend
from vidssl.concepts.llm_names import name_fault, suggest_names
from vidssl.concepts.llm_request import Answer, Backend, NoAnswer, Request
from vidssl.errors import VidsslError


class Scripted(Backend):
    generator, model, revision = "scripted", "s", None

    def __init__(self, *answers: list[str]) -> None:
        self.answers = [json.dumps({"names": names}) for names in answers]
        self.asked: list[Request] = []

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        for request in requests:
            self.asked.append(request)
            yield request, Answer(self.answers.pop(0)) if self.answers else NoAnswer("silence")


def test_good_ones_stay_and_the_rest_is_asked_for_again(tmp_path):
    first = [
        "Peeling an Apple",
        "peeling an apple",
        "WashingDishes",
        "apple",
        "slowly stirring a big hot soup",
    ]
    second = ["stirring soup", "kneading dough", "setting the table"]
    backend = Scripted(first, second)
    store = tmp_path / "answers.jsonl"
    result = suggest_names("a kitchen", backend, count=3, existing=["washing dishes"], store=store)
    assert result.names == ("peeling an apple", "stirring soup", "kneading dough")
    assert result.reasons == ()
    assert dict(result.rejected) == {
        "peeling an apple": "is known already",
        "washing dishes": "is known already",
        "apple": "has no verb in -ing",
        "slowly stirring a big hot soup": "has 6 words, more than 4",
    }
    opening, _, _, reply = (message.content for message in (*backend.asked[1].messages,))
    assert "No duplicates of: washing dishes." in backend.asked[0].messages[1].content
    assert "List 3 everyday actions involving a kitchen" in backend.asked[0].messages[1].content
    assert "'apple' has no verb in -ing" in reply and "List 2 further" in reply
    assert opening
    silent = Scripted()
    assert (
        suggest_names("a kitchen", silent, count=3, existing=["washing dishes"], store=store).names
        == result.names
    )
    assert silent.asked == []
    assert (result.provenance.generator, result.provenance.prompt_id) == ("scripted", "names-v1")


def test_too_few_is_said_and_what_there_is_stays():
    result = suggest_names("x", Scripted(["peeling an apple"]), count=3, attempts=2)
    assert result.names == ("peeling an apple",)
    assert result.reasons == ("silence",)
    result = suggest_names("x", Scripted(["peeling an apple"], []), count=3, attempts=2)
    assert result.reasons == ("2 names are still missing",)


def test_the_echo_gives_as_many_as_asked_for():
    result = suggest_names("x", EchoBackend(), count=30)
    assert len(set(result.names)) == 30
    assert result == suggest_names("x", EchoBackend(), count=30)
    more = suggest_names("x", EchoBackend(), count=5, existing=result.names)
    assert not set(more.names) & set(result.names)


@pytest.mark.parametrize(
    ("name", "fault"),
    [("", "no words"), ("king", "-ing"), ("peeling 2 apples", "letters"), ("a b c d peeling", "5 words"),
     ("peeling apples", None), ("jogging", None), ("riding known", "known")],
)  # fmt: skip
def test_names(name, fault):
    found = name_fault(name, {"riding known"})
    assert (found is None) if fault is None else (fault in found)


@pytest.mark.parametrize("options", [{"topic": " "}, {"count": 0}, {"attempts": 0}])
def test_bad_arguments(options):
    with pytest.raises(VidsslError):
        suggest_names(**{"topic": "x", "backend": EchoBackend(), **options})
