"""The text of classes as a classifier: prompts, and the mean of their embeddings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.concepts.templates import render
from vidssl.errors import NAMED, VidsslError, check_choice
from vidssl.evaluation.classes import ClassList
from vidssl.models.encoder import TextTower, VideoEncoder

Texts = Literal["category", "description", "both"]


def text_classifier(
    encoder: VideoEncoder, classes: ClassList, templates: Sequence[str], texts: str = "category"
) -> Tensor:
    """(K, D) unit rows: each prompt's embedding normalised, averaged over the class, normalised again.

    The order of Radford et al. 2021 (CLIP), §3.1.4.

    Args:
        templates: filled with the classes' texts.
        texts: ``category`` takes those prompts, ``description`` the classes' sentences instead, ``both`` the
            normalised mean of the two rows.

    Raises:
        VidsslError: for an encoder without a text tower, another `texts`, classes without descriptions, or embeddings that
            are not finite.
    """
    prompts = class_prompts(classes, templates, texts)
    rows = torch.stack([_class_rows(text_tower(encoder), kind) for kind in prompts])
    finite = rows.isfinite().all(dim=-1).all(dim=0)
    if not bool(finite.all()):
        named = ", ".join(name for name, fine in zip(classes.names, finite.tolist(), strict=True) if not fine)
        raise VidsslError(f"zero-shot: the text tower gives nothing finite for {named}")
    return F.normalize(rows.mean(dim=0), dim=-1)


def class_prompts(
    classes: ClassList, templates: Sequence[str], texts: str = "category"
) -> list[Sequence[Sequence[str]]]:
    """For each kind of text that `texts` asks for, the prompts of each class; arguments as in `text_classifier`.

    Raises:
        VidsslError: for another `texts`, or classes without descriptions.
    """
    check_choice("texts", texts, get_args(Texts), NAMED)
    if texts != "category" and not classes.descriptions:
        raise VidsslError(
            f"texts {texts!r}: {classes.source} has no descriptions; name a concept file or a vocabulary as classes"
        )
    prompts: list[Sequence[Sequence[str]]] = []
    if texts != "description":
        prompts.append([[render(template, text) for template in templates] for text in classes.texts])
    if texts != "category":
        prompts.append(classes.descriptions)
    return prompts


def cut_texts(encoder: VideoEncoder, prompts: Sequence[Sequence[Sequence[str]]]) -> dict[str, Any]:
    """The tower's `context_length` in tokens, and the `texts` that are longer: it sees only their beginning."""
    tower = text_tower(encoder)
    texts = dict.fromkeys(text for kind in prompts for own in kind for text in own)
    # A token is at least a byte; start and end are one each.
    long = [text for text in texts if len(text.encode()) + 2 > tower.context_length]
    cut = [text for text in long if tower.num_tokens(text) > tower.context_length]
    return {"context_length": tower.context_length, "texts": cut}


def text_tower(encoder: VideoEncoder) -> TextTower:
    """The text tower of an encoder.

    Raises:
        VidsslError: when it has none.
    """
    if encoder.text is None:
        raise VidsslError("zero-shot: this encoder has no text tower; it has to start from a CLIP model")
    return encoder.text


def _class_rows(tower: TextTower, prompts: Sequence[Sequence[str]]) -> Tensor:
    embedded = F.normalize(tower.encode([text for own in prompts for text in own]).float(), dim=-1)
    means = [rows.mean(dim=0) for rows in embedded.split([len(own) for own in prompts])]
    return F.normalize(torch.stack(means), dim=-1)
