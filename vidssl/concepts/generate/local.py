"""A causal language model of `transformers` on this machine, from a folder or the Hugging Face hub.

Weights are safetensors and remote code is never run. Sampling uses its own random state and puts back the caller's.

    >>> backend = TransformersBackend("/models/some-instruct-model", batch_size=16)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vidssl.concepts.generate.asking import Answer, Message, NoAnswer, Request, without_system
from vidssl.concepts.prompts import Sampling
from vidssl.errors import VidsslError

_EDGE = 2**20  # bytes at either end of a weights file that stand for the whole
# For a model without a template of its own; what it goes on to say for the user is cut off.
_NEXT_TURN = "\n\nUser:"
_TEMPLATE = "{{ bos_token or '' }}{% for m in messages %}{{ m['role'] | capitalize }}: {{ m['content'] }}\n\n{% endfor %}Assistant:"


class TransformersBackend:
    """A causal language model, loaded when the first request comes.

    Args:
        model: folder or id on the hub; with ``HF_HUB_OFFLINE=1`` only what is in the cache is used.
        device: such as ``cuda:1``; None is a GPU if there is one.
        batch_size: requests answered at a time. With 1 an answer depends on its request alone; with more, sampled
            answers depend on which requests stand in one batch.
    """

    generator = "transformers"

    def __init__(self, model: str | Path, *, device: str | None = None, batch_size: int = 8) -> None:
        if batch_size < 1:
            raise VidsslError(f"batch_size={batch_size}: must be 1 or more")
        self._folder = folder if (folder := Path(model).expanduser()).is_dir() else None
        self._source = str(self._folder or model)
        # The name of a folder stands for it, wherever it lies.
        self.model = str(model) if self._folder is None else self._folder.resolve().name
        self._device, self._batch_size = device, batch_size

    @cached_property
    def revision(self) -> str | None:
        """Commit on the hub; for a folder, ``sha256:`` over its configuration and the edges of its weights."""
        if self._folder is not None:
            return f"sha256:{_fingerprint(self._folder)[:32]}"
        commit = getattr(self._load("AutoConfig"), "_commit_hash", None)
        return commit if isinstance(commit, str) else None

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """See `Backend.answer`; batch by batch, all of the same sampling, in order.

        Raises:
            VidsslError: when there is no such model, or it cannot be loaded safely.
        """
        for start in range(0, len(requests), self._batch_size):
            some = requests[start : start + self._batch_size]
            batch = {request: self._prompt(request.messages) for request in some}
            for request, prompt in list(batch.items()):
                if (fault := self._too_long(prompt, request.sampling)) is not None:
                    yield request, fault
                    del batch[request]
            if batch:
                yield from zip(batch, self._generate(batch), strict=True)

    def _prompt(self, messages: tuple[Message, ...]) -> str:
        """As the chat template has it; some templates refuse a system role, in an error of their own."""
        turns = [message._asdict() for message in messages]
        try:
            return str(self._tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except Exception as error:
            if messages[0].role != "system":
                raise VidsslError(f"{self._source}: its chat template fails: {error}") from error
            return self._prompt(without_system(messages))

    def _too_long(self, prompt: str, sampling: Sampling) -> NoAnswer | None:
        length = len(self._tokens(prompt)["input_ids"])
        longest = getattr(self._network.config.get_text_config(), "max_position_embeddings", None)
        if not longest or length + (sampling.max_new_tokens or 1) <= longest:
            return None
        limit = f"{longest} tokens, {sampling.max_new_tokens} of them for the answer"
        return NoAnswer(f"the prompt has {length} tokens; the model takes {limit}")

    @torch.inference_mode()
    def _generate(self, batch: dict[Request, str]) -> Sequence[Answer | NoAnswer]:
        tokenizer, network = self._tokenizer, self._network
        sampling = next(iter(batch)).sampling
        chosen = sampling.model_dump(exclude_none=True, exclude={"seed"})
        if sampling.temperature is not None:
            chosen["do_sample"] = sampling.temperature > 0
        if sampling.temperature == 0:
            chosen |= {"temperature": None, "top_p": None, "top_k": None}
        tokens = self._tokens(list(batch.values()), padding=True, padding_side="left", return_tensors="pt")
        inputs = {key: tokens[key].to(network.device) for key in ("input_ids", "attention_mask")}
        # The same for the same requests, and another for each batch; the seed of the sampling is in the keys.
        seed = hashlib.sha256("".join(request.key for request in batch).encode()).digest()[:7]
        try:
            with _seeded(int.from_bytes(seed, "big")):
                output = network.generate(**inputs, **chosen, pad_token_id=tokenizer.pad_token_id)
        except torch.OutOfMemoryError:
            return [NoAnswer("the device has too little memory for this prompt")] * len(batch)
        ends = network.generation_config.eos_token_id
        ends = set(ends) if isinstance(ends, list) else {ends, tokenizer.eos_token_id}
        answers = []
        for row in output[:, inputs["input_ids"].shape[1] :].tolist():
            text = tokenizer.decode(row, skip_special_tokens=True).split(_NEXT_TURN)[0]
            answers.append(Answer(text.strip(), "length" if ends.isdisjoint(row) else "stop"))
        return answers

    def _tokens(self, texts: str | list[str], **options: Any) -> Any:
        """The chat template has put the special tokens into the text already."""
        return self._tokenizer(texts, add_special_tokens=False, **options)

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = self._load("AutoTokenizer")
        tokenizer.chat_template = tokenizer.chat_template or _TEMPLATE
        if tokenizer.pad_token_id is None:
            # Padding is masked, so that any token will do.
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        return tokenizer

    @cached_property
    def _network(self) -> Any:
        with _seeded(0):  # weights that a file lacks are drawn
            network = self._load("AutoModelForCausalLM", dtype="auto", use_safetensors=True)
        return network.to(self._device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()

    def _load(self, kind: str, **options: Any) -> Any:
        import transformers  # takes seconds

        try:
            return getattr(transformers, kind).from_pretrained(
                self._source, trust_remote_code=False, **options
            )
        except (OSError, ValueError, ImportError, KeyError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise VidsslError(f"language model {self._source!r}: cannot be loaded: {lines[0]}") from error


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's random states are set for the block and put back after it, on all devices in use and on no other."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.suffix in (".json", ".jinja", ".model", ".txt"):
            digest.update(f"{file.name}:".encode() + file.read_bytes())
        elif file.suffix == ".safetensors":
            size = file.stat().st_size
            with file.open("rb") as stream:
                digest.update(f"{file.name}:{size}:".encode() + stream.read(_EDGE))
                stream.seek(max(0, size - _EDGE))
                digest.update(stream.read(_EDGE))
    return digest.hexdigest()
