"""A causal language model of `transformers` on this machine, from a folder or the Hugging Face hub.

Weights are safetensors and remote code is never run. Sampling uses its own random state and puts back the caller's.

    >>> backend = TransformersBackend("/models/some-instruct-model", batch_size=16)
"""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vidssl.concepts.llm_request import Answer, Backend, Message, NoAnswer, Request
from vidssl.concepts.prompts import Sampling
from vidssl.errors import VidsslError

_EDGE = 2**20  # bytes at either end of a weights file that stand for the whole


class TransformersBackend(Backend):
    """A causal language model, loaded when the first request comes.

    Args:
        model: folder or id on the hub; with ``HF_HUB_OFFLINE=1`` only what is in the cache is used.
        revision: branch, tag or commit on the hub.
        dtype: such as ``bfloat16``; ``auto`` is that of the file.
        device: such as ``cuda:1``; None is a GPU if there is one.
        device_map: how `accelerate` spreads a large model, such as ``auto``, instead of `device`.
        batch_size: requests answered at a time. With 1 an answer depends on its request alone; with more, sampled
            answers depend on which requests stand in one batch.
        generation: further settings of generation, such as ``repetition_penalty``.
    """

    generator = "transformers"

    def __init__(
        self,
        model: str | Path,
        *,
        revision: str | None = None,
        dtype: str = "auto",
        device: str | torch.device | None = None,
        device_map: str | None = None,
        batch_size: int = 8,
        generation: Mapping[str, Any] | None = None,
    ) -> None:
        if batch_size < 1:
            raise VidsslError(f"batch_size={batch_size}: must be 1 or more")
        if dtype != "auto" and not isinstance(getattr(torch, dtype, None), torch.dtype):
            raise VidsslError(f"dtype {dtype!r}: unknown (auto, bfloat16, float16, float32)")
        self._folder = folder if (folder := Path(model).expanduser()).is_dir() else None
        self._model = str(model)
        self._wanted = revision
        self._dtype, self._device, self._device_map = dtype, device, device_map
        self.batch_size = batch_size
        self._generation = dict(generation or {})

    @property
    def model(self) -> str:
        """Id on the hub, or the name of the folder, wherever it lies."""
        return self._model if self._folder is None else self._folder.resolve().name

    @cached_property
    def revision(self) -> str | None:
        """Commit on the hub; for a folder, ``sha256:`` over its configuration and the edges of its weights."""
        if self._folder is not None:
            return f"sha256:{_fingerprint(self._folder)[:32]}"
        commit = getattr(self._config, "_commit_hash", None)
        return commit if isinstance(commit, str) else self._wanted

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """See `Backend.answer`; batch by batch, in order.

        Raises:
            VidsslError: when there is no such model, or it cannot be loaded safely.
        """
        for start in range(0, len(requests), self.batch_size):
            yield from self._answer(requests[start : start + self.batch_size])

    def _answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """One batch, all of the same sampling; prompts that are too long are told apart, a full GPU halves the batch."""
        room = self._context - (requests[0].sampling.max_new_tokens or 1)
        prompts = [self._prompt(request.messages) for request in requests]
        lengths = [len(self._tokens(text)["input_ids"]) for text in prompts]
        fitting = []
        for request, text, length in zip(requests, prompts, lengths, strict=True):
            if length > room:
                limit = (
                    f"{self._context} tokens, {requests[0].sampling.max_new_tokens} of them for the answer"
                )
                yield request, NoAnswer(f"the prompt has {length} tokens; the model takes {limit}")
            else:
                fitting.append((request, text))
        if not fitting:
            return
        answers = self._try([text for _, text in fitting], fitting[0][0].sampling, _seed(fitting))
        if answers is not None:
            yield from zip((request for request, _ in fitting), answers, strict=True)
        elif len(fitting) == 1:
            yield fitting[0][0], NoAnswer("the device has too little memory for this prompt")
        else:
            half = len(fitting) // 2
            yield from self._answer([request for request, _ in fitting[:half]])
            yield from self._answer([request for request, _ in fitting[half:]])

    def _try(self, prompts: Sequence[str], sampling: Sampling, seed: int) -> list[Answer] | None:
        """None when the device is full; left before anything else is tried, because the error holds on to tensors."""
        try:
            return self._generate(prompts, sampling, seed)
        except torch.OutOfMemoryError:
            pass
        if torch.cuda.is_available():
            torch.cuda.empty_cache()
        return None

    def _prompt(self, messages: Sequence[Message]) -> str:
        """As the model's chat template has it; roles and colons for a model without one."""
        tokenizer = self._tokenizer
        if not tokenizer.chat_template:
            said = [f"{message.role.capitalize()}: {message.content}" for message in messages]
            return "\n\n".join([*said, "Assistant:"])
        turns = [message._asdict() for message in messages]
        try:
            return str(tokenizer.apply_chat_template(turns, tokenize=False, add_generation_prompt=True))
        except Exception as error:
            # Some templates refuse a system role, in an error of the template's own.
            if messages[0].role != "system" or len(messages) < 2:
                raise VidsslError(f"{self._model}: its chat template fails: {error}") from error
            first = Message("user", f"{messages[0].content}\n\n{messages[1].content}")
            return self._prompt([first, *messages[2:]])

    def _tokens(self, texts: str | list[str], **options: Any) -> Any:
        """A chat template has put the special tokens into the text already."""
        return self._tokenizer(texts, add_special_tokens=not self._tokenizer.chat_template, **options)

    @torch.inference_mode()
    def _generate(self, prompts: Sequence[str], sampling: Sampling, seed: int) -> list[Answer]:
        tokenizer, network = self._tokenizer, self._network
        batch = self._tokens(list(prompts), return_tensors="pt", padding=True, padding_side="left")
        inputs = {key: batch[key].to(network.device) for key in ("input_ids", "attention_mask")}
        with _seeded(seed):
            output = network.generate(**inputs, generation_config=self._settings(sampling))
        start = inputs["input_ids"].shape[1]
        answers = []
        for row in output[:, start:].tolist():
            text = tokenizer.decode(row, skip_special_tokens=True)
            ended = any(token in self._ends for token in row)
            if not tokenizer.chat_template:
                text = text.split("\n\nUser:")[0]  # a base model goes on with the conversation
            answers.append(Answer(text.strip(), "stop" if ended else "length"))
        return answers

    def _settings(self, sampling: Sampling) -> Any:
        """The model's own generation config with the sampling put in."""
        settings = copy.deepcopy(self._network.generation_config)
        chosen = sampling.model_dump(exclude_none=True, exclude={"seed"})
        if (temperature := chosen.get("temperature")) is not None:
            chosen["do_sample"] = temperature > 0
        if not chosen.get("do_sample", settings.do_sample):
            chosen = {
                key: value for key, value in chosen.items() if key not in ("temperature", "top_p", "top_k")
            }
            chosen |= {"temperature": None, "top_p": None, "top_k": None}
        settings.update(
            **chosen, **self._generation, max_length=None, pad_token_id=self._tokenizer.pad_token_id
        )
        return settings

    @property
    def _context(self) -> int:
        """Tokens that the model takes."""
        longest = getattr(self._config.get_text_config(), "max_position_embeddings", None)
        return longest if isinstance(longest, int) and longest > 0 else 2**31

    @cached_property
    def _ends(self) -> set[int]:
        ends = self._network.generation_config.eos_token_id
        return set(ends) if isinstance(ends, list) else {ends, self._tokenizer.eos_token_id} - {None}

    @cached_property
    def _config(self) -> Any:
        from transformers import AutoConfig

        return self._load(AutoConfig)

    @cached_property
    def _tokenizer(self) -> Any:
        from transformers import AutoTokenizer

        tokenizer = self._load(AutoTokenizer)
        if tokenizer.pad_token_id is None:
            # Padding is masked, so that any token will do.
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.convert_ids_to_tokens(0)
        return tokenizer

    @cached_property
    def _network(self) -> Any:
        from transformers import AutoModelForCausalLM

        with _seeded(0):  # weights that a file lacks are drawn
            network = self._load(
                AutoModelForCausalLM, dtype=self._dtype, device_map=self._device_map, use_safetensors=True
            )
        if self._device_map is None:
            network = network.to(self._device or ("cuda" if torch.cuda.is_available() else "cpu"))
        return network.eval()

    def _load(self, factory: Any, **options: Any) -> Any:
        source = self._model if self._folder is None else str(self._folder)
        try:
            return factory.from_pretrained(source, revision=self._wanted, trust_remote_code=False, **options)
        except (OSError, ValueError, ImportError, KeyError) as error:
            lines = str(error).strip().splitlines() or [type(error).__name__]
            raise VidsslError(f"language model {self._model!r}: cannot be loaded: {lines[0]}") from error


@contextmanager
def _seeded(seed: int) -> Iterator[None]:
    """Torch's random states are set for the block and put back after it, on all devices in use and on no other."""
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_initialized() else []
    with torch.random.fork_rng(devices=devices):
        torch.default_generator.manual_seed(seed)
        if devices:
            torch.cuda.manual_seed_all(seed)
        yield


def _seed(batch: Sequence[tuple[Request, str]]) -> int:
    """The same for the same requests, and another for each batch; the seed of the sampling is in the keys."""
    keys = "".join(request.key for request, _ in batch)
    return int.from_bytes(hashlib.sha256(keys.encode()).digest()[:7], "big")


def _fingerprint(folder: Path) -> str:
    digest = hashlib.sha256()
    for file in sorted(folder.glob("*")):
        if file.suffix in (".json", ".jinja", ".model", ".txt"):
            digest.update(f"{file.name}:".encode() + file.read_bytes())
        elif file.suffix == ".safetensors":
            size = file.stat().st_size
            digest.update(f"{file.name}:{size}:".encode())
            with file.open("rb") as stream:
                digest.update(stream.read(_EDGE))
                stream.seek(max(0, size - _EDGE))
                digest.update(stream.read(_EDGE))
    return digest.hexdigest()
