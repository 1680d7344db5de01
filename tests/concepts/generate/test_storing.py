from __future__ import annotations

import json
import random
from pathlib import Path

import pytest

from tests.concepts.generate.asked import generate, request
from tests.concepts.generate.chat_server import completion, good_sentences
from vidssl.concepts.generate.asking import Answer
from vidssl.concepts.generate.job import Generation
from vidssl.concepts.generate.storing import AnswerStore, FileBackend
from vidssl.errors import VidsslError

NAMES = ["juggling", "archery", "tai chi", "abseiling"]


def lines(path: Path) -> list[dict]:
    return [json.loads(line) for line in path.read_text().splitlines()]


def subject(line: dict) -> str:
    messages = line["body"]["messages"] if "body" in line else line["messages"]
    return messages[1]["content"].split('"')[1]


def said(name: str) -> str:
    return json.dumps({"descriptions": good_sentences(name)})


def batch_line(custom_id: str, text: str) -> str:
    body = json.loads(completion(text))
    return json.dumps(
        {"id": "b", "custom_id": custom_id, "response": {"status_code": 200, "body": body}, "error": None}
    )


def run_files(tmp_path: Path, *answers: Path, **options: object) -> tuple[Generation, FileBackend]:
    backend = FileBackend(tmp_path / "todo.jsonl", answers, model="some-model", **options)  # type: ignore[arg-type]
    return generate(NAMES, backend, store=tmp_path / "store.jsonl", created="2026-01-31"), backend


def test_out_and_back_in_parts_in_any_order(tmp_path):
    result, _ = run_files(tmp_path)
    todo = lines(tmp_path / "todo.jsonl")
    assert [subject(line) for line in todo] == NAMES
    assert all(set(line) == {"custom_id", "method", "url", "body"} for line in todo)
    assert all(
        line["url"] == "/v1/chat/completions" and line["body"]["model"] == "some-model" for line in todo
    )
    assert len(result.concepts) == 0
    assert "waiting for an answer to juggling-" in result.failures[0].reasons[0]

    ids = {subject(line): line["custom_id"] for line in todo}
    part = tmp_path / "part.jsonl"
    good_lines = [batch_line(ids[name], said(name)) for name in ("abseiling", "archery")]
    part.write_text(
        "\n".join([good_lines[0], "not json", batch_line(ids["tai chi"], "I cannot."), "", good_lines[1],
                   batch_line("unknown-1", "x"), json.dumps({"custom_id": ids["juggling"], "error": {"code": 5}})])
    )  # fmt: skip
    result, _ = run_files(tmp_path, part)
    assert result.concepts.names == ("archery", "abseiling")
    todo = lines(tmp_path / "todo.jsonl")
    # One is still open, and the bad answer has become a new question that says what was wrong.
    assert [subject(line) for line in todo] == ["juggling", "tai chi"]
    assert todo[0]["custom_id"] == ids["juggling"]
    assert todo[1]["custom_id"] != ids["tai chi"]
    assert [message["role"] for message in todo[1]["body"]["messages"]][-2:] == ["assistant", "user"]
    assert f"(2 unusable lines: {part}:2: no JSON with" in result.failures[0].reasons[0]

    part.unlink()  # the store has what was in it
    rest = tmp_path / "rest.jsonl"
    rest.write_text("".join(json.dumps({"custom_id": line["custom_id"], "answer": said(subject(line))}) + "\n"
                            for line in todo))  # fmt: skip
    result, _ = run_files(tmp_path, rest)
    assert result.failures == ()
    assert result.concepts.names == tuple(NAMES)
    assert (tmp_path / "todo.jsonl").read_text() == ""
    provenance = result.concepts.provenance
    assert (provenance.generator, provenance.model) == ("file", "some-model")
    again, _ = run_files(tmp_path, rest)
    assert again.concepts == result.concepts


def test_the_order_of_the_lines_does_not_matter(tmp_path):
    results = []
    for seed in range(3):
        folder = tmp_path / str(seed)
        run_files(folder)
        answers = [
            batch_line(line["custom_id"], said(subject(line))) for line in lines(folder / "todo.jsonl")
        ]
        random.Random(seed).shuffle(answers)
        (folder / "a.jsonl").write_text("\n".join(answers))
        results.append(run_files(folder, folder / "a.jsonl")[0].concepts)
    assert results[0] == results[1] == results[2]
    assert len(results[0]) == 4


def answers_in(tmp_path: Path, line: dict) -> dict[str, Answer]:
    file = tmp_path / "a.jsonl"
    file.write_text(json.dumps({"custom_id": "x", **line}))
    return FileBackend(tmp_path / "todo.jsonl", [file], model="m")._answers


@pytest.mark.parametrize(
    "line",
    [
        {"response": {"status_code": 200, "body": json.loads(completion("hello"))}, "error": None},
        {"answer": "hello"},
    ],
)
def test_answers_in_the_shapes_that_tools_write(tmp_path, line):
    assert answers_in(tmp_path, line)["x"].text == "hello"


@pytest.mark.parametrize(
    "line",
    [
        {},
        {"error": {"message": "quota"}},
        {"response": {"status_code": 500, "body": {"error": "x"}}},
        {"messages": [{"role": "user", "content": "question"}]},
        {"answer": 5},
        {"result": {"type": "errored", "error": "x"}},
        {"choices": "x", "messages": "y", "response": None},
    ],
)
def test_lines_without_an_answer(tmp_path, line):
    assert answers_in(tmp_path, line) == {}


def test_the_first_answer_stays(tmp_path):
    file = tmp_path / "a.jsonl"
    file.write_text('{"custom_id": "x", "answer": "one"}\n{"custom_id": "x", "answer": "two"}\n')
    backend = FileBackend(tmp_path / "todo.jsonl", [file], model="m")
    assert backend._answers == {"x": Answer("one")}


def test_strange_lines_cost_only_themselves(tmp_path):
    file = tmp_path / "a.jsonl"
    endless = b'{"custom_id": "y", "answer": "' + b"x" * 2**21 + b'"}'
    good = b'{"custom_id": "x", "answer": "one"}'
    file.write_bytes(
        b"\xef\xbb\xbf"
        + good
        + b"\r\n"
        + endless
        + b"\n[]\n\xff\n"
        + b"[" * 9999
        + b"\n"
        + good.replace(b"x", b"z")
    )
    backend = FileBackend(tmp_path / "todo.jsonl", [file], model="m")
    assert set(backend._answers) == {"x", "y", "z"}
    assert [line.removeprefix(f"{file}:").split(":")[0] for line in backend._unusable] == ["3", "4", "5"]


@pytest.mark.parametrize(
    ("options", "message"),
    [({"answers": ["missing.jsonl"]}, "missing")],
)  # fmt: skip
def test_impossible_options(tmp_path, options, message):
    with pytest.raises(VidsslError, match=message):
        FileBackend(tmp_path / "todo.jsonl", **{"model": "m", **options})


def fill(path: Path, *texts: str) -> None:
    with AnswerStore(path) as store:
        for text in texts:
            store.add(request(text), Answer(f"answer to {text}\nüé", "stop"))


def test_answers_come_back(tmp_path):
    path = tmp_path / "deep" / "store.jsonl"
    fill(path, "a", "b")
    with AnswerStore(path) as store:
        assert len(store.found) == 2
        assert store.found[request("a").key] == Answer("answer to a\nüé", "stop")
        assert request("c").key not in store.found
    records = [json.loads(line) for line in path.read_text().splitlines()]
    assert records[0]["key"] == request("a").key
    assert records[0]["messages"] == [{"role": "user", "content": "a"}]


def test_a_write_that_was_cut_anywhere_costs_only_itself(tmp_path):
    path = tmp_path / "store.jsonl"
    fill(path, "a", "b")
    whole = path.read_bytes()
    first = whole.index(b"\n") + 1
    for cut in [*range(first, len(whole), 9), len(whole) - 2, len(whole) - 1]:
        path.write_bytes(whole[:cut])
        fill(path, "c")
        with AnswerStore(path) as store:
            found = [request(text).key in store.found for text in "abc"]
            assert found == [True, cut == len(whole) - 1, True]
            assert store.damaged == 0
        assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_tail_of_zeros_as_power_cuts_leave_it(tmp_path):
    path = tmp_path / "store.jsonl"
    fill(path, "a")
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    fill(path, "b")
    with AnswerStore(path) as store:
        assert (len(store.found), store.damaged) == (2, 0)


@pytest.mark.parametrize(
    "line", [b"{}", b"[1]", b'"x"', b'{"key": 1, "answer": "x"}', b"\xff\xfe", b"null", b"[" * 9999]
)
def test_damaged_lines_are_counted_and_passed_over(tmp_path, line):
    path = tmp_path / "store.jsonl"
    fill(path, "a")
    path.write_bytes(line + b"\n" + path.read_bytes())
    fill(path, "b")
    with AnswerStore(path) as store:
        assert (len(store.found), store.damaged) == (2, 1)
    assert path.read_bytes().startswith(line)


def test_one_process_at_a_time(tmp_path):
    path = tmp_path / "store.jsonl"
    with AnswerStore(path), pytest.raises(VidsslError, match="another process"), AnswerStore(path):
        pass
    fill(path, "a")  # both have let go


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(VidsslError, match=str(tmp_path)), AnswerStore(tmp_path):
        pass
