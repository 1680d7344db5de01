"""A causal language model of `transformers` on this machine, from a folder or the Hugging Face hub.

Weights are safetensors and remote code is never run. Sampling uses its own random state and puts back the caller's.

    >>> backend = TransformersBackend("/models/some-instruct-model", batch_size=16)
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from vidssl.concepts.generate.asking import Answer, NoAnswer, Request
from vidssl.devices import find_device
from vidssl.errors import VidsslError

_EDGE = 2**20  # bytes at either end of a weights file that stand for the whole
_GREEDY = {"do_sample": False, "temperature": None, "top_p": None, "top_k": None}


class TransformersBackend:
    """A causal language model with a chat template. Its weights are loaded when the first request comes.

    Args:
        model: folder or id on the hub; with ``HF_HUB_OFFLINE=1`` only what is in the cache is used.
        device: such as ``cuda:1``; None is a GPU if there is one.
        batch_size: requests answered at a time. With 1 an answer depends on its request alone; with more, sampled
            answers depend on which requests stand in one batch.

    Attributes:
        revision: commit on the hub; for a folder, ``sha256:`` over its configuration and the edges of its weights.

    Raises:
        VidsslError: when there is no such model.
    """

    generator = "transformers"

    def __init__(self, model: str | Path, *, device: str | None = None, batch_size: int = 8) -> None:
        folder = Path(model).expanduser()
        self._source = str(folder if folder.is_dir() else model)
        self._device, self._batch_size = find_device(device), batch_size
        self.revision: str | None
        if folder.is_dir():
            # The name of a folder stands for it, wherever it lies.
            self.model, self.revision = folder.resolve().name, f"sha256:{_fingerprint(folder)[:32]}"
        else:
            self.model, self.revision = str(model), getattr(self._load("AutoConfig"), "_commit_hash", None)

    def answer(self, requests: Sequence[Request]) -> Iterator[tuple[Request, Answer | NoAnswer]]:
        """See `Backend.answer`; batch by batch, all of the same sampling, in order.

        Raises:
            VidsslError: when the model cannot be loaded safely, or its chat template is missing or fails.
        """
        for start in range(0, len(requests), self._batch_size):
            batch = requests[start : start + self._batch_size]
            try:
                yield from zip(batch, self._generate(batch), strict=True)
            except torch.OutOfMemoryError:
                yield from ((request, NoAnswer("the device has too little memory")) for request in batch)

    @torch.inference_mode()
    def _generate(self, batch: Sequence[Request]) -> list[Answer]:
        tokenizer, sampling = self._tokenizer, batch[0].sampling
        chosen = sampling.model_dump(exclude_none=True, exclude={"seed"})
        chosen |= _GREEDY if sampling.temperature == 0 else {"do_sample": True}
        turns = [[message._asdict() for message in request.messages] for request in batch]
        try:
            tokens = tokenizer.apply_chat_template(
                turns, add_generation_prompt=True, return_dict=True, padding=True, return_tensors="pt"
            )
        except Exception as error:  # templates raise errors of their own
            raise self._unusable("no chat template, or one that fails", error) from error
        # The same for the same requests, and another for each batch; the seed of the sampling is in the keys.
        seed = hashlib.sha256("".join(request.key for request in batch).encode()).digest()[:7]
        with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
            network = self._network
            inputs = {key: tokens[key].to(network.device) for key in ("input_ids", "attention_mask")}
            torch.manual_seed(int.from_bytes(seed, "big"))
            output = network.generate(**inputs, **chosen, pad_token_id=tokenizer.pad_token_id)
        texts = tokenizer.batch_decode(output[:, inputs["input_ids"].shape[1] :], skip_special_tokens=True)
        return [Answer(text.strip()) for text in texts]

    @cached_property
    def _tokenizer(self) -> Any:
        tokenizer = self._load("AutoTokenizer", padding_side="left")
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.eos_token  # padding is masked, so that any token will do
        return tokenizer

    @cached_property
    def _network(self) -> Any:
        torch.manual_seed(0)  # weights that a file lacks are drawn
        network = self._load("AutoModelForCausalLM", dtype="auto", use_safetensors=True)
        return network.to(self._device).eval()

    def _load(self, kind: str, **options: Any) -> Any:
        import transformers  # takes seconds

        load = getattr(transformers, kind).from_pretrained
        try:
            return load(self._source, trust_remote_code=False, **options)
        except (OSError, ValueError, ImportError, KeyError) as error:
            raise self._unusable("cannot be loaded", error) from error

    def _unusable(self, why: str, error: Exception) -> VidsslError:
        line = next(iter(str(error).strip().splitlines()), type(error).__name__)
        return VidsslError(f"language model {self._source!r}: {why}: {line}")


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
