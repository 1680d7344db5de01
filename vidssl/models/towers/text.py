"""The frozen text tower of a CLIP model and its tokenizer."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from vidssl.errors import VidsslError
from vidssl.models.sources import hub_reachable


class TextEncoder:
    """Text to the joint image-text space: frozen, in evaluation mode, float32 whatever the autocast dtype.

    It is no `nn.Module`, so that holding one does not register its weights; `copy.deepcopy` returns the same object.

    Args:
        tower: maps token ids (N, context_length) to features (N, D).
        tokenizer_spec: see :func:`build_tokenizer`.
        logit_scale: open_clip's parameter of that name, the LOGARITHM of the factor on cosines.
        logit_bias: what a sigmoid-loss model adds to its logits, None for the others.
        tokenizer_folder: where a transformers tokenizer was saved, instead of its published source.

    Raises:
        VidsslError: when the tokenizer cannot be loaded.
    """

    def __init__(
        self,
        tower: nn.Module,
        tokenizer_spec: Mapping[str, Any],
        logit_scale: float = math.log(1 / 0.07),
        logit_bias: float | None = None,
        tokenizer_folder: Path | None = None,
    ) -> None:
        self.tower = tower.float().eval().requires_grad_(False)
        self.tokenizer_spec = dict(tokenizer_spec)
        self.context_length = int(tokenizer_spec["context_length"])
        self.tokenizer = build_tokenizer(tokenizer_spec, tokenizer_folder)
        self.logit_scale = float(logit_scale)
        self.logit_bias = None if logit_bias is None else float(logit_bias)
        self._fingerprint: str | None = None

    def __deepcopy__(self, memo: dict[int, Any]) -> TextEncoder:
        return self

    @property
    def temperature(self) -> float:
        """Softmax temperature for cosines that the model was trained with: exp(-logit_scale), 0.01 for CLIP."""
        return math.exp(-self.logit_scale)

    @property
    def bias(self) -> float | None:
        """`logit_bias`; a pair matches with probability sigmoid(cosine / temperature + bias) (SigLIP, arXiv 2303.15343, eq. 2)."""
        return self.logit_bias

    @property
    def device(self) -> torch.device:
        """Where the tower is."""
        return next(self.tower.parameters()).device

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over names, shapes and float32 values of the tower's weights; computed once."""
        if self._fingerprint is None:
            digest = hashlib.sha256()
            for name, tensor in sorted(self.tower.state_dict().items()):
                digest.update(f"{name} {tuple(tensor.shape)};".encode())
                digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def to(self, device: torch.device | str) -> TextEncoder:
        """Move the tower; the dtype stays float32."""
        self.tower.to(device)
        return self

    def num_tokens(self, text: str) -> int:
        """Length of a text in tokens, start and end included; what exceeds `context_length` is cut by `encode`."""
        if self.tokenizer_spec["kind"] == "clip-bpe":
            return len(self.tokenizer.encode(text)) + 2
        return len(self.tokenizer.tokenizer(self.tokenizer.clean_fn(text)).input_ids)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Features of texts.

        Args:
            texts: N strings; longer ones are cut at `context_length` tokens.
            batch_size: texts in one pass.

        Returns:
            (N, D) float32 on the tower's device, not normalised, without gradient.

        Raises:
            VidsslError: when `texts` is a single string or holds anything else than strings.
        """
        if isinstance(texts, str) or not all(isinstance(text, str) for text in texts):
            raise VidsslError(f"text encoder: texts must be a list of strings, got {_shorten(repr(texts))}")
        rows = []
        with torch.autocast(self.device.type, enabled=False):
            for start in range(0, len(texts), batch_size):
                tokens = self._shortened(self.tokenizer(list(texts[start : start + batch_size])))
                rows.append(self.tower(tokens.to(self.device)).float())
        if rows:
            return torch.cat(rows)
        width: Tensor = self.tower(self.tokenizer([""]).to(self.device))
        return width[:0].float()

    def _shortened(self, tokens: Tensor) -> Tensor:
        """For a model of transformers, without the columns that are padding in every row: it does not look at them."""
        padding = getattr(getattr(self.tower, "config", None), "pad_token_id", None)
        if padding is None:
            return tokens
        shown = (tokens != padding).any(dim=0).nonzero()
        return tokens[:, : int(shown.max()) + 1] if len(shown) else tokens[:, :1]

    def state_dict(self) -> dict[str, Tensor]:
        """Weights of the tower."""
        return self.tower.state_dict()

    def load_state_dict(self, tensors: Mapping[str, Tensor]) -> None:
        """Strict; the fingerprint follows."""
        self.tower.load_state_dict(dict(tensors))
        self._fingerprint = None


def tokenizer_spec(text_cfg: Mapping[str, Any], folder: Path | None = None) -> dict[str, Any]:
    """Which tokenizer an open_clip `text_cfg` asks for, JSON-able.

    Args:
        text_cfg: the section of the model config.
        folder: of a local model; a transformers tokenizer is then read from its files.
    """
    spec: dict[str, Any] = {
        "kind": "clip-bpe",
        "context_length": int(text_cfg.get("context_length", 77)),
        "options": dict(text_cfg.get("tokenizer_kwargs") or {}),
    }
    source = text_cfg.get("hf_tokenizer_name")
    if source:
        spec |= {
            "kind": "transformers",
            "source": str(folder or source),
            "mode": text_cfg.get("tokenizer_mode"),
        }
    return spec


def clip_num_tokens(text: str) -> int:
    """Length of a text for CLIP's own text tower, start and end included."""
    return len(_clip_tokenizer().encode(text)) + 2


@cache
def _clip_tokenizer() -> Any:
    return build_tokenizer({"kind": "clip-bpe", "context_length": 77})


def build_tokenizer(spec: Mapping[str, Any], folder: Path | None = None) -> Any:
    """The tokenizer, a callable from a list of strings to token ids (N, context_length).

    Args:
        spec: `kind` ``"clip-bpe"`` (bundled with open_clip) or ``"transformers"`` (from `source`), `context_length`,
            `options`, `mode`.
        folder: overrides `source`.

    Raises:
        VidsslError: when a transformers tokenizer can neither be found nor fetched.
    """
    from open_clip.tokenizer import HFTokenizer, SimpleTokenizer

    options = dict(spec.get("options") or {})
    if spec["kind"] == "clip-bpe":
        return SimpleTokenizer(context_length=spec["context_length"], **options)
    source = str(folder or spec["source"])
    if not Path(source).is_dir() and not hub_reachable():
        options["local_files_only"] = True
    try:
        return HFTokenizer(
            source, context_length=spec["context_length"], tokenizer_mode=spec.get("mode"), **options
        )
    except (OSError, ValueError, ImportError) as error:
        raise VidsslError(
            f"tokenizer {source!r}: could not be loaded ({_shorten(str(error))}); load_text=False does without the "
            "text tower"
        ) from None


def _shorten(message: str, length: int = 160) -> str:
    line = " ".join(message.split())
    return line if len(line) <= length else f"{line[: length - 1]}…"
