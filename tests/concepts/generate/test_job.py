from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.concepts.generate.asked import generate
from tests.concepts.generate.chat_server import Call, Say, chat_server, completion, good, good_sentences
from vidssl.concepts.formats.read import read_concepts
from vidssl.concepts.generate.asking import (
    Answer,
    Backend,
    NoAnswer,
    Request,
    first_requests,
    read_instruction,
)
from vidssl.concepts.generate.job import BACKENDS, SAMPLING, make_backend
from vidssl.concepts.generate.server import OpenAIBackend
from vidssl.concepts.prompts import (
    Attributes,
    Concept,
    ConceptFile,
    Provenance,
    concepts_from_names,
    write_concepts,
)
from vidssl.concepts.rules import check_concepts
from vidssl.errors import VidsslError

NAMES = ["juggling", "archery", "TaiChi", "massaging person's head"]
ATTRIBUTES = {
    "objects": ["cup"],
    "scene": ["kitchen"],
    "body_parts": ["hands"],
    "motion": ["slowly"],
    "phases": ["reaching", "letting go"],
    "synonyms": ["archery", "cup moving"],
}


def said(name: str) -> str:
    return json.dumps({"descriptions": good_sentences(name)})


class Scripted(Backend):
    """Answers by subject from lists, one after the other; None is no answer."""

    generator, model, revision = "scripted", "script-1", "r1"

    def __init__(self, **lists: Sequence[str | None]) -> None:
        self.lists = {name.replace("_", " "): list(answers) for name, answers in lists.items()}
        self.asked: list[Request] = []

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        for request in reversed(requests):  # not in the order of the questions
            self.asked.append(request)
            text = (
                self.lists[request.concept.name].pop(0)
                if request.concept.name in self.lists
                else said(request.concept.name)
            )
            yield request, NoAnswer("the line is dead") if text is None else Answer(text)


def test_from_names_to_a_file_that_passes_all_rules(tmp_path):
    backend = Scripted()
    result = generate(NAMES, backend, name="mine", license="CC0-1.0", created="2026-01-31")
    assert result.failures == ()
    file = result.concepts
    assert file.names == ("juggling", "archery", "tai chi", "massaging person's head")
    assert file.concepts[2].descriptions == tuple(good_sentences("tai chi"))
    assert [problem for problem in check_concepts(file) if problem.rule != "filler"] == []
    assert read_concepts(write_concepts(file, tmp_path / "mine.json")) == file
    instruction = read_instruction("descriptions")
    assert (file.name, file.license) == ("mine", "CC0-1.0")
    assert file.provenance == Provenance(
        generator="scripted",
        model="script-1",
        revision="r1",
        prompt_id="describe-v3",
        prompt_sha256=instruction.sha256,
        sampling=SAMPLING,
        created="2026-01-31",
    )


def test_a_bad_answer_is_asked_again_with_what_was_wrong():
    long = good_sentences("juggling")
    long[2] = " ".join(["word"] * 25) + "."
    backend = Scripted(juggling=["I would rather not.", json.dumps({"descriptions": long}), said("juggling")])
    result = generate(["juggling", "archery"], backend, attempts=3)
    assert result.failures == ()
    assert (result.counts["asked"], result.counts["answered"]) == (4, 4)
    last = [request for request in backend.asked if request.concept.name == "juggling"][-1]
    assert [message.role for message in last.messages] == [
        "system",
        "user",
        "assistant",
        "user",
        "assistant",
        "user",
    ]
    assert last.messages[2].content == "I would rather not."
    assert "no JSON list" in last.messages[3].content
    assert "25 words, more than 20" in last.messages[5].content


def test_failures_are_listed_and_the_others_go_on():
    lists = {"juggling": ["", "  ", "no"], "tai chi": [None]}
    result = generate(NAMES, Scripted(**lists), attempts=3)  # type: ignore[arg-type]
    assert result.concepts.names == ("archery", "massaging person's head")
    bad, dead = result.failures
    assert (bad.concept, bad.task) == ("juggling", "descriptions")
    assert "no JSON list" in bad.reasons[0]
    assert dead == ("tai-chi", "descriptions", ("the line is dead",))
    record = json.loads(json.dumps(result.record()))
    assert (record["concepts"], record["asked"], record["answered"]) == (2, 6, 5)
    assert record["failures"][1]["reasons"] == ["the line is dead"]


def test_the_attempts_are_counted():
    backend = Scripted(juggling=["no"] * 9)
    assert len(generate(["juggling"], backend, attempts=1).failures) == 1
    assert len(backend.asked) == 1


def test_a_sentence_of_another_concept_is_refused_whoever_was_quicker():
    # The scripted back-end answers in reverse; the first in the list keeps the sentences all the same.
    backend = Scripted(archery=[said("juggling"), said("archery")])
    result = generate(["juggling", "archery"], backend)
    assert result.failures == ()
    assert result.concepts.concepts[0].descriptions == tuple(good_sentences("juggling"))
    assert "describes 'juggling' already" in backend.asked[-1].messages[-1].content


def test_attributes_fill_a_file_that_has_descriptions():
    old = Provenance(generator="hand", created="2025-01-01", note="by hand", reviewed_by_hand=True)
    concepts = [Concept(id=name, name=name, aliases=("x y",), descriptions=tuple(good_sentences(name)))
                for name in ("juggling", "archery")]  # fmt: skip
    file = ConceptFile(name="f", license="CC0-1.0", concepts=tuple(concepts), provenance=old)
    backend = Scripted(juggling=[json.dumps(ATTRIBUTES)], archery=["no"] * 3)
    result = generate(file, backend, what=("attributes",), created="2026-01-31", license="ignored")
    first, second = result.concepts.concepts
    assert first.attributes == Attributes(objects=("cup",), scene=("kitchen",), body_parts=("hands",),
                                          motion=("slowly",), phases=("reaching", "letting go"))  # fmt: skip
    assert first.aliases == ("x y", "cup moving")
    assert first.descriptions == concepts[0].descriptions
    assert second == concepts[1]
    assert [failure.concept for failure in result.failures] == ["archery"]
    assert result.concepts.license == "CC0-1.0"
    provenance = result.concepts.provenance
    assert (provenance.generator, provenance.created, provenance.reviewed_by_hand) == (
        "hand",
        "2025-01-01",
        False,
    )
    assert provenance.note == "by hand; attributes: scripted, script-1, attributes-v1, 2026-01-31"


def test_prompts_carry_what_is_known_of_a_concept():
    file = ConceptFile(
        name="f",
        concepts=(
            Concept(id="pick", name="pick", sources=("hmdb51",)),
            Concept(id="pick-fruit", name="pick fruit", sources=("k400",)),
            Concept(id="archery", name="archery"),
        ),
    )
    asked = first_requests(file, Scripted(), ("descriptions",), 4, SAMPLING)
    prompts = {request.concept.name: request.messages[-1].content for request in asked}
    assert 'Action: "pick" (context: taking an object up' in prompts["pick"]
    assert "similar actions (pick fruit)" in prompts["pick"]
    assert 'Action: "archery" (context: none)' in prompts["archery"]
    assert "similar actions." in prompts["archery"]


def test_the_plan_is_what_is_sent_and_sends_nothing():
    backend = Scripted()
    planned = first_requests(concepts_from_names(NAMES, "mine"), backend, ("descriptions",), 4, SAMPLING)
    assert backend.asked == []
    generate(NAMES, backend)
    assert {request.key for request in backend.asked} == {request.key for request in planned}


def test_nothing_is_asked_twice(tmp_path):
    store = tmp_path / "answers.jsonl"
    lists = {"juggling": ["no", said("juggling")], "archery": ["no"] * 2}
    first = generate(NAMES, Scripted(**lists), store=store, attempts=2, created="2026-01-31")  # type: ignore[arg-type]
    silent = Scripted()
    second = generate(NAMES, silent, store=store, attempts=2, created="2026-01-31")
    assert silent.asked == []
    assert second.concepts == first.concepts
    assert second.failures == first.failures
    assert (second.counts["asked"], second.counts["stored"]) == (0, 6)
    # One more attempt goes on with the conversation instead of beginning again.
    third = generate(NAMES, silent, store=store, attempts=3)
    assert third.failures == ()
    assert [len(request.messages) for request in silent.asked] == [6]


def test_progress_ends_where_it_should():
    seen: list[tuple[int, int]] = []
    lists = {"juggling": ["no", said("juggling")], "archery": [None]}
    generate(NAMES, Scripted(**lists), progress=lambda done, total: seen.append((done, total)))  # type: ignore[arg-type]
    assert seen[0] == (0, 4)
    assert seen[-1] == (5, 5)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)


@pytest.mark.parametrize("options", [{"what": ()}, {"what": ("descripions",)}])
def test_bad_arguments(options):
    with pytest.raises(VidsslError, match=r"nothing to ask for|did you mean 'descriptions'"):
        generate(NAMES, Scripted(), **options)


def test_files_that_are_no_list_of_concepts():
    with pytest.raises(VidsslError, match="no concepts"):
        generate(ConceptFile(name="f", concepts=()), Scripted())


def test_backends_by_name(tmp_path):
    made = {
        "openai": make_backend("openai", model="m", base_url="http://h/v1", api_key_env=None),
        "file": make_backend("file", model="m", requests=tmp_path / "x"),
        "transformers": make_backend("transformers", model=tmp_path, batch_size=2),
    }
    assert {kind: backend.generator for kind, backend in made.items()} == {kind: kind for kind in BACKENDS}
    with pytest.raises(VidsslError, match=r"backend openai: .*missing .*'base_url'"):
        make_backend("openai", model="m")
    with pytest.raises(VidsslError, match=r"backend file: .*unexpected keyword argument 'base_url'"):
        make_backend("file", model="m", requests=tmp_path / "x", base_url="http://h/v1")


def test_a_server_that_misbehaves_in_every_way_at_once(tmp_path, monkeypatch):
    key = "sk-Very+Secret/Key_0123456789"
    monkeypatch.setenv("TEST_KEY", key)
    names = [f"action {code}ing" for code in "abcdefghijkl"]
    faults = [
        Say(f"busy {key}", 429, headers={"Retry-After": "0.05"}),
        Say("oops", 500),
        Say(completion("x" * 300), cut=120),
        Say(completion("x" * 300)[:150]),
        Say(completion("Sorry.")),
    ]

    def answer(call: Call) -> Say:
        if "response_format" in call.body:
            return Say("unknown field response_format", 400)
        plain = sum(
            "response_format" not in other.body for other in server.calls if other.subject == call.subject
        )
        position = names.index(call.subject)
        if plain == 1 and position < len(faults):
            return faults[position]
        sentences = good_sentences(call.subject)
        return Say(
            completion("```json\n" + json.dumps({"descriptions": sentences})[:-2] + ', "a fifth that is c')
        )

    store = tmp_path / "answers.jsonl"
    monkeypatch.setattr("openai._base_client.INITIAL_RETRY_DELAY", 0.01)
    with chat_server(answer) as server:
        backend = OpenAIBackend(server.url, "m", api_key_env="TEST_KEY", max_concurrency=3, timeout=10)
        half = generate(names, backend, store=store, created="2026-01-31")
        # What came whole but is no JSON is not asked again in the same run.
        assert [failure.concept for failure in half.failures] == ["action-ding"]
        result = generate(names, backend, store=store, created="2026-01-31")
        asked = len(server.calls)
        again = generate(names, backend, store=store, created="2026-01-31")
        assert len(server.calls) == asked
    assert result.failures == ()
    assert result.concepts == again.concepts
    assert [list(concept.descriptions) for concept in result.concepts.concepts] == [
        good_sentences(n) for n in names
    ]
    assert server.most_at_once <= 3
    plain = [call for call in server.calls if "response_format" not in call.body]
    assert len(plain) == len(names) + len(faults)
    assert 1 <= asked - len(plain) <= 3  # who was under way when the schema was first refused
    write_concepts(result.concepts, tmp_path / "file.json")
    (tmp_path / "report.json").write_text(json.dumps(result.record()))
    everything = "".join(path.read_text() for path in tmp_path.iterdir()) + repr(half) + repr(result)
    assert key not in everything


PROGRAM = """
import sys
from vidssl.concepts.generate.job import generate
from vidssl.concepts.generate.server import OpenAIBackend
from vidssl.concepts.prompts import concepts_from_names
url, store, *names = sys.argv[1:]
generate(concepts_from_names(names, "generated"), OpenAIBackend(url, "m", max_concurrency=2), store)
"""


def test_a_process_killed_in_the_middle_loses_nothing(tmp_path):
    names = [f"action {letter}ing" for letter in "abcdefghijkl"]
    store = tmp_path / "answers.jsonl"

    def slow(call: Call) -> Say:
        return Say(good(call).body, delay=0.1)

    with chat_server(slow) as server:
        process = subprocess.Popen(
            [sys.executable, "-c", PROGRAM, server.url, str(store), *names], cwd=Path(__file__).parents[3]
        )
        deadline = time.monotonic() + 120
        while (not store.exists() or store.read_bytes().count(b"\n") < 4) and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)
        assert process.wait(10) == -signal.SIGKILL
        kept = [json.loads(line)["subject"] for line in store.read_bytes().splitlines(keepends=True)
                if line.endswith(b"\n")]  # fmt: skip
        assert 4 <= len(kept) < len(names)
        with store.open("ab") as stream:  # the kill could have come in the middle of a line
            stream.write(b'{"key": "0123", "answer": "half a li')
        server.answer = good
        time.sleep(0.2)
        before = server.count
        result = generate(names, OpenAIBackend(server.url, "m"), store=store)
    assert result.failures == ()
    assert result.concepts.names == tuple(names)
    assert result.counts["stored"] == len(kept)
    again = server.count - before
    assert all(again[name] == 0 for name in kept)
    assert sum(again.values()) == len(names) - len(kept)
    assert all(json.loads(line)["key"] for line in store.read_text().splitlines())


def test_a_file_that_holds_more_is_noticed(tmp_path):
    path = tmp_path / "mine.json"
    whole = generate(NAMES, Scripted())
    assert whole.losses(path) == []
    write_concepts(whole.concepts, path)
    assert whole.losses(path) == []
    dead = generate(NAMES, Scripted(**{"juggling": [None], "archery": [None]}))
    assert dead.losses(path) == ["juggling", "archery"]
    assert generate(["knitting"], Scripted(knitting=[None])).losses(path) == []
