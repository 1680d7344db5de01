"""Zero-shot classification: the class whose text embedding is nearest to the video's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import torch.nn.functional as F
from einops import rearrange, reduce
from torch import Tensor

from vidssl.errors import VidsslError
from vidssl.evaluation.classes import ClassList
from vidssl.models.encoder import VideoEncoder


def text_classifier(encoder: VideoEncoder, classes: ClassList, templates: Sequence[str]) -> Tensor:
    """(K, D) unit rows: each prompt's embedding normalised, averaged over the templates, normalised again.

    The order of Radford et al. 2021 (CLIP), §3.1.4.

    Raises:
        VidsslError: for an encoder without a text tower.
    """
    if encoder.text is None:
        raise VidsslError("zero-shot: this encoder has no text tower; it has to start from a CLIP model")
    prompts = [template.format(text) for text in classes.texts for template in templates]
    embedded = F.normalize(encoder.text.encode(prompts).float(), dim=-1)
    per_class = rearrange(embedded, "(k t) d -> k t d", t=len(templates))
    return F.normalize(reduce(per_class, "k t d -> k d", "mean"), dim=-1)


def zero_shot_scores(
    features: Tensor, classifier: Tensor, debias: bool = False, ok: Tensor | None = None
) -> Tensor:
    """(N, K) cosines of (N, D) video features with the (K, D) classifier.

    Args:
        debias: subtract each class's mean score over the evaluated videos. This takes away the advantage of class texts
            that are close to every video; it uses the test videos as a set and is therefore transductive.
        ok: (N,) rows that take part in that mean.
    """
    scores = F.normalize(features.float(), dim=-1) @ classifier.to(features.device).float().T
    if debias:
        rows = scores if ok is None else scores[ok]
        scores = scores - rows.mean(0)
    return torch.nan_to_num(scores)
