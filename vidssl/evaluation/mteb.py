"""Any encoder of ours in the video tasks of mteb (extra ``mteb``), so that its results stand beside other people's.

Written for mteb 2.26. Classification, clustering, zero-shot and retrieval tasks of video, and of video and text, can be run; those
with sound cannot.

>>> import mteb
>>> from vidssl.evaluation.mteb import MtebEncoder
>>> mteb.evaluate(MtebEncoder("runs/first"), mteb.get_tasks(tasks=["UCF101VideoZeroShotClassification"]))
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from vidssl.data.clips import ClipSpec, uniform_clips
from vidssl.data.views.colour import normalize_
from vidssl.data.views.crop import squash
from vidssl.devices import find_device
from vidssl.errors import VidsslError
from vidssl.evaluation.features.sources import CLIP, UNIT, encoder_digest, encoder_source
from vidssl.models.load import load_encoder


class MtebEncoder:
    """An encoder as mteb calls it (its `EncoderProtocol`).

    A video is shown as one clip of its whole length, squashed to a square, as `vidssl zero-shot --seconds 0` does. Its embedding is the mean
    of the unit frame features where there is a text tower, else the clip feature; a text's is that of the tower, as it is.

    Args:
        source: whatever `load_encoder` takes.
        frames: of the clip; None for those that the encoder was made for.
        device: None takes a GPU if there is one.

    Raises:
        VidsslError: without mteb.
    """

    def __init__(self, source: str | Path, *, frames: int | None = None, device: str | None = None) -> None:
        try:
            from mteb.models.model_meta import ModelMeta, ScoringFunction
        except ImportError as error:
            raise VidsslError(f'mteb cannot be imported ({error}); pip install "vidssl[mteb]"') from None
        self.device = find_device(device)
        self.encoder = load_encoder(source).to(self.device).eval()
        self.frames = frames or self.encoder.usual_frames
        self.encoder.check_size(self.frames, self.encoder.image_size)
        self.kind = CLIP if self.encoder.text is None else UNIT
        self.mteb_model_meta = ModelMeta.create_empty(
            {
                "name": f"vidssl/{Path(source).name.replace(':', '-')}",
                "revision": encoder_digest(self.encoder)[:16],
                "modalities": ["video"] if self.encoder.text is None else ["video", "text"],
                "embed_dim": self.encoder.embed_dim,
                "similarity_fn_name": ScoringFunction.COSINE,
                "framework": ["PyTorch"],
            }
        )

    @torch.no_grad()
    def encode(self, inputs: Any, **_: Any) -> Tensor:
        """(N, D) embeddings of what a loader of mteb has, videos or texts, float32 on the CPU.

        Raises:
            VidsslError: for anything else, texts without a text tower, and features that are not finite.
        """
        inputs.collate_fn = self._collated
        rows = [self._embedded(batch) for batch in inputs]
        found = torch.cat(rows) if rows else torch.zeros(0, self.encoder.embed_dim)
        if not bool(found.isfinite().all()):
            raise VidsslError(
                f"mteb: the features of {int((~found.isfinite().all(dim=1)).sum())} inputs are not finite"
            )
        return found

    def _collated(self, rows: Sequence[dict[str, Any]]) -> dict[str, Any]:
        kinds = {key for key in rows[0] if key in ("video", "text", "audio", "image")}
        if kinds not in ({"video"}, {"text"}):
            raise VidsslError(
                f"mteb: inputs of {', '.join(sorted(kinds)) or 'nothing'}: an input must be a video or a text"
            )
        [kind] = kinds
        values = [row[kind] for row in rows]
        return {kind: values if kind == "text" else torch.stack([self._clip(video) for video in values])}

    def _clip(self, video: Any) -> Tensor:
        """(3, T, S, S) of a torchcodec `VideoDecoder`."""
        total, rate = int(video.metadata.num_frames), float(video.metadata.average_fps or 1.0)
        chosen = uniform_clips(np.arange(total) / rate, ClipSpec(self.frames, seconds=math.inf), 1).indices[0]
        frames = rearrange(video.get_frames_at(chosen.tolist()).data, "t c h w -> t h w c")
        clip = (
            rearrange(squash(frames, self.encoder.image_size, "bicubic"), "t h w c -> c t h w").float() / 255
        )
        return normalize_(clip[None], self.encoder.mean, self.encoder.std)[0]

    def _embedded(self, batch: dict[str, Any]) -> Tensor:
        if "text" in batch:
            if self.encoder.text is None:
                raise VidsslError("mteb: this encoder has no text tower; it has to start from a CLIP model")
            return self.encoder.text.encode(batch["text"]).float().cpu()
        clips = batch["video"].to(self.device)
        return encoder_source(self.encoder, "mteb", [self.kind]).run(clips)[self.kind].cpu()

    def similarity(self, first: Any, second: Any) -> Tensor:
        """(N, M) cosines of rows (N, D) and (M, D)."""
        one, two = (
            F.normalize(torch.atleast_2d(torch.as_tensor(x)).float(), dim=-1) for x in (first, second)
        )
        return one @ two.T

    def similarity_pairwise(self, first: Any, second: Any) -> Tensor:
        """(N,) cosines of rows (N, D) with rows (N, D)."""
        return F.cosine_similarity(torch.as_tensor(first).float(), torch.as_tensor(second).float(), dim=-1)
