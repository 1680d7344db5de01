from __future__ import annotations

import random
import shutil
import socket
from pathlib import Path

import numpy as np
import pytest
import torch

from tests.concepts.generate.asked import generate, request
from tests.concepts.generate.tiny_llm import NO_SYSTEM, write_tiny_llm
from vidssl.concepts.generate.asking import Answer, Message, Request
from vidssl.concepts.generate.local import TransformersBackend
from vidssl.concepts.prompts import Sampling
from vidssl.errors import VidsslError

GREEDY = Sampling(temperature=0, max_new_tokens=12)
SAMPLED = Sampling(temperature=1.0, top_p=0.95, max_new_tokens=12, seed=0)


@pytest.fixture(scope="module")
def llm(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_llm(tmp_path_factory.mktemp("tiny-llm"))


def requests(*texts: str, sampling: Sampling = GREEDY) -> list[Request]:
    return [request(text, Message("system", "S"), Message("user", text), sampling=sampling) for text in texts]


def texts_of(backend: TransformersBackend, asked: list[Request]) -> list[str]:
    outcomes = dict(backend.answer(asked))
    assert all(isinstance(outcome, Answer) for outcome in outcomes.values())
    return [outcomes[request].text for request in asked]


def by_hand(folder: Path, text: str, new: int) -> str:
    """Greedy decoding of one prompt, one forward pass a token, without padding, cache or `generate`."""
    from transformers import AutoTokenizer, LlamaForCausalLM

    tokenizer = AutoTokenizer.from_pretrained(folder)
    model = LlamaForCausalLM.from_pretrained(folder).eval()
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    start = len(ids)
    for _ in range(new):
        with torch.inference_mode():
            ids.append(int(model(torch.tensor([ids])).logits[0, -1].argmax()))
        if ids[-1] == tokenizer.eos_token_id:
            break
    return tokenizer.decode(ids[start:], skip_special_tokens=True).strip()


def test_batches_of_unequal_prompts_answer_as_each_alone(llm):
    texts = ["hello", "a much longer question with many more words in it", "é 太極拳"]
    expected = [by_hand(llm, f"<|system|>S\n<|user|>{text}\n<|assistant|>", 12) for text in texts]
    assert len(set(expected)) == 3
    for batch_size in (1, 2, 8):
        assert texts_of(TransformersBackend(llm, batch_size=batch_size), requests(*texts)) == expected


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{ raise_exception('never') }}", "never"),
        (NO_SYSTEM, "no system role"),
        (None, "no chat template"),
    ],
)
def test_a_template_that_always_fails_is_named(tmp_path, template, message):
    folder = write_tiny_llm(tmp_path, chat_template=template)
    with pytest.raises(VidsslError, match=message) as caught:
        list(TransformersBackend(folder).answer(requests("hello")))
    assert "\n" not in str(caught.value)


def test_the_seed_decides_and_the_callers_random_state_does_not_change(llm):
    def draw(seed: int, state: int) -> list[str]:
        torch.manual_seed(state)
        random.seed(state)
        np.random.seed(state)  # noqa: NPY002
        before = (torch.get_rng_state(), random.getstate(), str(np.random.get_state()))  # noqa: NPY002
        sampling = SAMPLED.model_copy(update={"seed": seed})
        texts = texts_of(TransformersBackend(llm), requests("a", "b", sampling=sampling))
        assert torch.equal(torch.get_rng_state(), before[0])
        assert (random.getstate(), str(np.random.get_state())) == before[1:]  # noqa: NPY002
        return texts

    assert draw(0, 1) == draw(0, 2)
    assert draw(0, 1) != draw(1, 1)
    assert draw(0, 1) != texts_of(TransformersBackend(llm), requests("a", "b"))


def test_one_at_a_time_an_answer_depends_on_its_request_alone(llm):
    backend = TransformersBackend(llm, batch_size=1)
    together = texts_of(backend, requests("a", "b", "c", sampling=SAMPLED))
    assert together[2:] == texts_of(TransformersBackend(llm, batch_size=1), requests("c", sampling=SAMPLED))


def test_settings_of_generation_reach_the_model(llm):
    few = texts_of(
        TransformersBackend(llm), requests("hello", sampling=Sampling(temperature=0, max_new_tokens=3))
    )
    many = texts_of(TransformersBackend(llm), requests("hello"))
    assert many[0].startswith(few[0]) and len(many[0]) > len(few[0])


def test_greedy_answers_need_no_sampling_settings(llm, caplog):
    sampling = Sampling(temperature=0, top_p=0.9, top_k=5, max_new_tokens=12)
    assert texts_of(TransformersBackend(llm), requests("hello", sampling=sampling)) == texts_of(
        TransformersBackend(llm), requests("hello")
    )
    assert "generation flags" not in caplog.text


def test_a_full_device_is_no_answer(llm, monkeypatch):
    backend = TransformersBackend(llm)

    def short_of_memory(**inputs):
        raise torch.OutOfMemoryError

    monkeypatch.setattr(backend._network, "generate", short_of_memory)
    assert ["memory" in outcome.reason for _, outcome in backend.answer(requests("a", "b"))] == [True, True]


def test_noise_ends_in_the_list_of_failures(llm, tmp_path):
    store = tmp_path / "answers.jsonl"
    sampling = Sampling(temperature=1.0, max_new_tokens=16, seed=0)

    def run():
        backend = TransformersBackend(llm)
        return generate(["juggling", "archery"], backend, what=("descriptions", "attributes"), attempts=3,
                        sampling=sampling, store=store, created="2026-01-01")  # fmt: skip

    result = run()
    assert len(result.concepts) == 0
    assert [(failure.concept, failure.task) for failure in result.failures] == [
        ("juggling", "descriptions"),
        ("juggling", "attributes"),
        ("archery", "descriptions"),
        ("archery", "attributes"),
    ]
    assert (result.counts["asked"], result.counts["answered"]) == (12, 12)
    provenance = result.concepts.provenance
    assert (provenance.generator, provenance.model) == ("transformers", llm.name)
    assert provenance.revision.startswith("sha256:")
    again = run()
    assert (again.counts["asked"], again.counts["stored"]) == (0, 12)
    assert again.failures == result.failures


def test_the_revision_tells_weights_apart_and_not_folders(llm, tmp_path):
    copy = shutil.copytree(llm, tmp_path / "elsewhere")
    assert TransformersBackend(copy).revision == TransformersBackend(llm).revision
    weights = copy / "model.safetensors"
    data = bytearray(weights.read_bytes())
    data[-1] ^= 1
    weights.write_bytes(data)
    assert TransformersBackend(copy).revision != TransformersBackend(llm).revision


def test_pickled_weights_and_remote_code_are_refused(llm, tmp_path):
    copy = shutil.copytree(llm, tmp_path / "pickled")
    (copy / "model.safetensors").unlink()
    torch.save({}, copy / "pytorch_model.bin")
    with pytest.raises(VidsslError, match="safetensors"):
        list(TransformersBackend(copy).answer(requests("hello")))
    copy = shutil.copytree(llm, tmp_path / "remote")
    config = (copy / "config.json").read_text().replace('"llama"', '"strange"')
    (copy / "config.json").write_text(config.replace("{", '{"auto_map": {"AutoConfig": "evil.Config"},', 1))
    (copy / "evil.py").write_text(f"from pathlib import Path\nPath({str(tmp_path / 'ran')!r}).touch()\n")
    with pytest.raises(VidsslError, match="cannot be loaded"):
        list(TransformersBackend(copy).answer(requests("hello")))
    assert not (tmp_path / "ran").exists()


def test_offline_a_missing_model_is_one_line_and_no_connection_is_tried(llm, monkeypatch):
    def connect(*args: object) -> None:
        raise AssertionError("a connection was tried")

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)  # as HF_HUB_OFFLINE=1 at the start
    monkeypatch.setattr(socket.socket, "connect", connect)
    assert len(list(TransformersBackend(llm).answer(requests("hello")))) == 1
    with pytest.raises(VidsslError, match="language model 'no-such/model'") as caught:
        list(TransformersBackend("no-such/model").answer(requests("hello")))
    assert "\n" not in str(caught.value)


def test_nothing_to_ask_loads_nothing(llm):
    backend = TransformersBackend(llm)
    assert list(backend.answer([])) == []
    assert not {"_network", "_tokenizer"} & vars(backend).keys()
