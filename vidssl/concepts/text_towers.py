"""Text towers that can make a concept space: CLIP's own (`vidssl.models.towers.text`) and those of transformers."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from vidssl.errors import NAMED, VidsslError, check_choice

POOLINGS = ("auto", "projection", "mean", "cls")
# Tensors of a two-tower checkpoint that the text side does not use.
_NOT_TEXT = ("vision_model.", "visual_projection.", "logit_scale", "logit_bias")


class TextTower(Protocol):
    """What a concept space asks of a text encoder; `vidssl.models.towers.text.TextEncoder` is one."""

    context_length: int

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over the weights and whatever else decides the features."""

    def num_tokens(self, text: str) -> int:
        """Length of a text in tokens, start and end included."""

    def encode(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """(N, D) float32 features, not normalised, without gradient."""


class TransformersTextEncoder:
    """A text tower of transformers from a local folder: a CLIP-like one, or a sentence encoder.

    Args:
        folder: with config.json, safetensors and tokenizer files; nothing is fetched and no code of it is run.
        pooling: ``projection`` takes the joint space of a two-tower model, ``mean`` averages the last hidden states
            over the tokens, ``cls`` takes the first; ``auto`` is the projection where there is one, else what the
            folder's sentence-transformers files say, else the mean.
        context_length: tokens to read; by default as many as the model can.

    Raises:
        VidsslError: when the folder cannot be loaded, weights are missing, or it has layers after the pooling.
    """

    def __init__(self, folder: str | Path, pooling: str = "auto", context_length: int | None = None) -> None:
        check_choice("pooling", pooling, POOLINGS, NAMED)
        self.folder = Path(folder).expanduser()
        self.model, self.tokenizer = _load(self.folder)
        projects = hasattr(self.model, "get_text_features") or "WithProjection" in type(self.model).__name__
        if pooling == "auto":
            pooling = "projection" if projects else _sentence_pooling(self.folder)
        if pooling == "projection" and not projects:
            raise VidsslError(
                f"{self.folder}: {type(self.model).__name__} has no projection; use pooling='mean'"
            )
        self.pooling = pooling
        # SigLIP was trained on texts padded to the full length, without a mask; its feature is at the last place.
        self._pads_fully = "siglip" in str(self.model.config.model_type)
        self.context_length = context_length or self._longest_input()
        self._fingerprint: str | None = None

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        device: torch.device = next(self.model.parameters()).device
        return device

    def to(self, device: torch.device | str) -> TransformersTextEncoder:
        """Move the model; the dtype stays float32."""
        self.model.to(device)
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> TransformersTextEncoder:
        return self

    @property
    def fingerprint(self) -> str:
        """sha256 (hex) over pooling, names, shapes and values of the weights that the text side uses; computed once."""
        if self._fingerprint is None:
            digest = hashlib.sha256(f"pooling {self.pooling};".encode())
            for name, tensor in sorted(self.model.state_dict().items()):
                if not name.startswith(_NOT_TEXT):
                    digest.update(f"{name} {tuple(tensor.shape)};".encode())
                    digest.update(tensor.detach().cpu().contiguous().numpy().tobytes())
            self._fingerprint = digest.hexdigest()
        return self._fingerprint

    def num_tokens(self, text: str) -> int:
        """Length of a text in tokens, start and end included."""
        return len(self.tokenizer(text, truncation=False, verbose=False).input_ids)

    @torch.no_grad()
    def encode(self, texts: Sequence[str], batch_size: int = 256) -> Tensor:
        """Features of texts.

        Args:
            texts: N strings; longer ones are cut at `context_length` tokens.
            batch_size: texts in one pass.

        Returns:
            (N, D) float32 on the model's device, not normalised, without gradient.

        Raises:
            VidsslError: when `texts` is a single string.
        """
        if isinstance(texts, str):
            raise VidsslError(f"text encoder: texts must be a list of strings, got {texts!r}")
        rows = []
        with torch.autocast(self.device.type, enabled=False):
            for start in range(0, max(len(texts), 1), batch_size):
                rows.append(self._features(list(texts[start : start + batch_size]) or [""]))
        return torch.cat(rows)[: len(texts)]

    def _features(self, texts: list[str]) -> Tensor:
        batch = self.tokenizer(
            texts,
            padding="max_length" if self._pads_fully else "longest",
            truncation=True,
            max_length=self.context_length,
            return_tensors="pt",
        ).to(self.device)
        if self._pads_fully:
            batch.pop("attention_mask", None)
        if self.pooling == "projection":
            if hasattr(self.model, "get_text_features"):
                output = self.model.get_text_features(**batch)
                # transformers 5 wraps the projected features into an output object.
                features = output if isinstance(output, Tensor) else output.pooler_output
            else:
                features = self.model(**batch).text_embeds
        else:
            hidden = self.model(**batch).last_hidden_state
            if self.pooling == "cls":
                features = hidden[:, 0]
            else:
                mask = batch["attention_mask"][..., None].to(hidden.dtype)
                features = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return features.float()

    def _longest_input(self) -> int:
        config = getattr(self.model.config, "text_config", self.model.config)
        limits = [self.tokenizer.model_max_length, getattr(config, "max_position_embeddings", None)]
        file = self.folder / "sentence_bert_config.json"
        if file.is_file():
            limits.append(json.loads(file.read_text(encoding="utf-8")).get("max_seq_length"))
        return min(int(limit) for limit in limits if limit)


def load_text_tower(name: str | Path, pretrained: str | None = None) -> TextTower:
    """A text tower from whatever names one.

    Args:
        name: run, checkpoint or exported encoder; folder of an open_clip or a transformers model; or a name for
            `vidssl.create_model`.
        pretrained: weights for an architecture's name.

    Raises:
        VidsslError: when it cannot be loaded or has no text tower.
    """
    folder = Path(str(name).removeprefix("local-dir:")).expanduser()
    if folder.is_dir() and _is_transformers(folder):
        return TransformersTextEncoder(folder)
    if folder.is_dir() and not (folder / "open_clip_config.json").is_file():
        from vidssl.models.load import load

        encoder = load(folder)
    else:
        from vidssl.models.factory import create_model

        encoder = create_model(
            f"local-dir:{folder}" if folder.is_dir() else str(name), pretrained, temporal="none"
        )
    text: TextTower | None = encoder.text
    if text is None:
        raise VidsslError(f"{name}: has no text tower")
    return text


def _is_transformers(folder: Path) -> bool:
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    return isinstance(config, dict) and "model_type" in config


def _load(folder: Path) -> tuple[Any, Any]:
    import transformers

    if not (folder / "config.json").is_file():
        raise VidsslError(f"{folder}: no transformers model (no config.json)")
    options = {"local_files_only": True, "trust_remote_code": False}
    try:
        config = transformers.AutoConfig.from_pretrained(folder, **options)
        kind = _model_class(config)
        model, report = kind.from_pretrained(
            folder,
            config=config,
            use_safetensors=True,
            dtype=torch.float32,
            output_loading_info=True,
            **options,
        )
        tokenizer = transformers.AutoTokenizer.from_pretrained(folder, **options)
    except (OSError, ValueError, ImportError, KeyError) as error:
        line = " ".join(str(error).split())
        raise VidsslError(f"{folder}: cannot be loaded by transformers: {line[:200]}") from None
    # The pooler of a sentence encoder is often not saved, and not used here.
    missing = sorted(key for key in report["missing_keys"] if not key.startswith("pooler."))
    if missing:
        raise VidsslError(f"{folder}: {len(missing)} weights are missing: {', '.join(missing[:5])}")
    return model.eval().requires_grad_(False), tokenizer


def _model_class(config: Any) -> Any:
    """The class the weights were saved from where it gives text features, else the bare model."""
    import transformers

    for name in getattr(config, "architectures", None) or ():
        kind = getattr(transformers, name, None)
        if kind is not None and (
            hasattr(kind, "get_text_features") or name.endswith("TextModelWithProjection")
        ):
            return kind
    return transformers.AutoModel


def _sentence_pooling(folder: Path) -> str:
    """What sentence-transformers' files beside the model say; ``mean`` without any."""
    modules = folder / "modules.json"
    if not modules.is_file():
        return "mean"
    kinds = [
        str(module["type"]).rsplit(".", 1)[-1] for module in json.loads(modules.read_text(encoding="utf-8"))
    ]
    extra = set(kinds) - {"Transformer", "Pooling", "Normalize"}
    if extra:
        raise VidsslError(
            f"{folder}: has layers after the pooling, which are not supported: {', '.join(sorted(extra))}"
        )
    file = folder / "1_Pooling" / "config.json"
    modes = json.loads(file.read_text(encoding="utf-8")) if file.is_file() else {}
    return "cls" if modes.get("pooling_mode_cls_token") else "mean"
