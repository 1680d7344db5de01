"""Text towers of CLIP, SigLIP and SigLIP 2 in transformers, beside their image towers.

All texts are filled up to the same number of tokens and no token is masked, as these models were trained; CLIP reads at the end token,
before which nothing sees what comes after it.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.models.towers.huggingface.kinds import TEXTS
from vidssl.models.towers.huggingface.network import build_network, load_network
from vidssl.models.towers.text import TextEncoder

_CLIP_WORDS = 49408  # of the vocabulary that open_clip brings along
_OWN_TOKENIZER = ("tokenizer.json", "tokenizer_config.json", "spiece.model", "vocab.json")


class TextTower(nn.Module):
    """Token ids (N, S) to features (N, D) in the space of the image tower."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.net: Any = network

    def forward(self, tokens: Tensor) -> Tensor:
        """(N, S) -> (N, D)."""
        output = self.net(tokens)
        found: Tensor = output.text_embeds if hasattr(output, "text_embeds") else output.pooler_output
        return found


def tokenizer_of(config: Mapping[str, Any], source: str) -> dict[str, Any] | None:
    """Description of the tokenizer, see `build_tokenizer`; None for a model without text tower, or a folder without tokenizer.

    CLIP's own vocabulary is known without files.

    Args:
        config: of the model. source: its folder, or name on the hub.
    """
    kind = TEXTS.get(config["model_type"])
    if kind is None:
        return None
    from transformers import CONFIG_MAPPING

    family: Any = CONFIG_MAPPING[config["model_type"]]
    section = family(text_config=dict(config.get("text_config") or {})).text_config
    folder = Path(source).expanduser()
    length = int(section.max_position_embeddings)
    if not folder.is_dir() or any((folder / name).is_file() for name in _OWN_TOKENIZER):
        return {
            "kind": "transformers",
            "source": source,
            "context_length": length,
            "options": {},
            "mode": None,
        }
    if config["model_type"] == "clip" and section.vocab_size == _CLIP_WORDS:
        return {"kind": "clip-bpe", "context_length": length, "options": {}}
    return None


def build_text(spec: Mapping[str, Any], tokenizer_folder: Path | None = None) -> TextEncoder:
    """The text tower of an encoder's spec, with random values, which leave torch's default generator as it was."""
    with torch.random.fork_rng(devices=[]):
        network = build_network(spec["config"], str(spec["name"]), TEXTS[spec["config"]["model_type"]])
    return TextEncoder(TextTower(network), spec["tokenizer"], tokenizer_folder=tokenizer_folder)


def load_text(spec: Mapping[str, Any], tensors: Mapping[str, Tensor], source: str) -> TextEncoder:
    """The text tower with the weights of the whole model.

    Raises:
        VidsslError: as `load_network`, and when the tokenizer cannot be loaded.
    """
    try:
        network = load_network(spec["config"], tensors, source, TEXTS[spec["config"]["model_type"]])
    except VidsslError as error:
        raise VidsslError(f"{error}; load_text=False loads the image tower only") from None
    scale, bias = (tensors.get(name) for name in ("logit_scale", "logit_bias"))
    return TextEncoder(
        TextTower(network),
        spec["tokenizer"],
        math.log(1 / 0.07) if scale is None else float(scale),
        None if bias is None else float(bias),
    )
