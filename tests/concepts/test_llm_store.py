from __future__ import annotations

import json
from pathlib import Path

import pytest

from vidssl.concepts.llm_request import Answer, Message, Request
from vidssl.concepts.llm_store import AnswerStore
from vidssl.concepts.prompts import Sampling
from vidssl.errors import VidsslError


def request(text: str) -> Request:
    return Request("x", "descriptions", 4, "m", None, (Message("user", text),), Sampling(seed=0))


def fill(path: Path, *texts: str) -> None:
    with AnswerStore(path) as store:
        for text in texts:
            store.add(request(text), Answer(f"answer to {text}\nüé", "stop"))


def test_answers_come_back(tmp_path):
    path = tmp_path / "deep" / "store.jsonl"
    fill(path, "a", "b")
    with AnswerStore(path) as store:
        assert len(store) == 2
        assert store.get(request("a").key) == Answer("answer to a\nüé", "stop")
        assert store.get(request("c").key) is None
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
            found = [store.get(request(text).key) is not None for text in "abc"]
            assert found == [True, cut == len(whole) - 1, True]
            assert store.damaged == 0
        assert all(json.loads(line) for line in path.read_bytes().splitlines())


def test_a_tail_of_zeros_as_power_cuts_leave_it(tmp_path):
    path = tmp_path / "store.jsonl"
    fill(path, "a")
    path.write_bytes(path.read_bytes() + b"\0" * 512)
    fill(path, "b")
    with AnswerStore(path) as store:
        assert (len(store), store.damaged) == (2, 0)


@pytest.mark.parametrize(
    "line", [b"{}", b"[1]", b'"x"', b'{"key": 1, "answer": "x"}', b"\xff\xfe", b"null", b"[" * 9999]
)
def test_damaged_lines_are_counted_and_passed_over(tmp_path, line):
    path = tmp_path / "store.jsonl"
    fill(path, "a")
    path.write_bytes(line + b"\n" + path.read_bytes())
    fill(path, "b")
    with AnswerStore(path) as store:
        assert (len(store), store.damaged) == (2, 1)
    assert path.read_bytes().startswith(line)


def test_one_process_at_a_time(tmp_path):
    path = tmp_path / "store.jsonl"
    with AnswerStore(path), pytest.raises(VidsslError, match="another process"), AnswerStore(path):
        pass
    fill(path, "a")  # both have let go


def test_a_look_changes_nothing(tmp_path):
    path = tmp_path / "store.jsonl"
    assert len(AnswerStore(path).peek()) == 0
    assert not path.exists()
    fill(path, "a")
    path.write_bytes(path.read_bytes() + b'{"torn')
    before = path.read_bytes()
    with AnswerStore(path):
        pass
    path.write_bytes(before)
    assert len(AnswerStore(path).peek()) == 1
    assert path.read_bytes() == before


def test_a_folder_is_no_store(tmp_path):
    with pytest.raises(VidsslError, match=str(tmp_path)), AnswerStore(tmp_path):
        pass


def test_memory(tmp_path):
    with AnswerStore() as store:
        store.add(request("a"), Answer("x"))
        assert store.get(request("a").key) == Answer("x")
