from __future__ import annotations

import hashlib
import json

import pytest

from vidssl.concepts.generate.asking import Message, Request, check_sampling
from vidssl.concepts.prompts import Sampling
from vidssl.errors import VidsslError


def request(**changes: object) -> Request:
    base = {
        "subject": "Über-käse é 太極拳 " + "long " * 20,
        "task": "descriptions",
        "count": 4,
        "model": "m",
        "revision": None,
        "messages": (Message("user", "hello"),),
        "sampling": Sampling(temperature=0.7, seed=0),
    }
    return Request(**{**base, **changes})  # type: ignore[arg-type]


def test_keys_depend_on_all_that_an_answer_depends_on_and_on_nothing_else():
    keys = [
        request().key,
        request(model="n").key,
        request(revision="abc").key,
        request(messages=(Message("user", "hello "),)).key,
        request(messages=(Message("system", "hello"),)).key,
        request(sampling=Sampling(temperature=0.7, seed=1)).key,
        request(sampling=Sampling(temperature=0.8, seed=0)).key,
    ]
    assert len(set(keys)) == len(keys)
    assert request(subject="other", count=5).key == keys[0]
    # A key that changed between versions would have everybody pay twice.
    expected = json.dumps(
        {
            "messages": [{"content": "hello", "role": "user"}],
            "model": "m",
            "parameters": {"seed": 0, "temperature": 0.7},
            "revision": None,
        },
        separators=(",", ":"),
    )
    assert keys[0] == hashlib.sha256(expected.encode()).hexdigest()


def test_custom_ids_suit_batch_interfaces():
    for subject in ("juggling", request().subject, "太極拳", ""):
        custom_id = request(subject=subject).custom_id
        assert 33 <= len(custom_id) <= 64
        assert custom_id.isascii() and custom_id.replace("-", "").isalnum()
        assert custom_id.endswith(request().key[:32])


@pytest.mark.parametrize(
    "bad",
    [{"temperature": -1}, {"top_p": 0}, {"top_p": 1.1}, {"top_k": 0}, {"max_new_tokens": 0}, {"seed": -1}],
)
def test_impossible_sampling(bad):
    with pytest.raises(VidsslError, match=next(iter(bad))):
        check_sampling(Sampling(**bad))
