"""From a concept file and a text encoder to a concept space, in one pass over all texts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from vidssl.concepts.geometry import WHITENINGS, Whitener, merge_groups, near_duplicates
from vidssl.concepts.prompts import ConceptFile, Problem
from vidssl.concepts.rules import check_concepts
from vidssl.concepts.sources import split_sentences
from vidssl.concepts.space import ConceptSpace, SpaceConcept, SpaceInfo, Whitening
from vidssl.concepts.templates import category_templates, render
from vidssl.concepts.text_towers import TextTower
from vidssl.errors import NAMED, VidsslError, check_choice

# Rules whose breach leaves a row without meaning; the others a space survives.
_BREAKING = {
    "concepts-empty", "names-only", "template-missing", "template-placeholder", "id-repeated", "name-empty",
    "name-repeated", "description-missing", "description-empty",
}  # fmt: skip
NEAR_DUPLICATE = 0.97
MAX_PAIRS = 1000  # near-duplicates that are kept for the report

Progress = Callable[[int, int], None]


def build_space(
    concepts: ConceptFile,
    text_encoder: TextTower,
    *,
    templates: str | Sequence[str] | None = None,
    whiten: Whitening = "none",
    merge_threshold: float | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> ConceptSpace:
    """Encode all names and descriptions.

    Args:
        concepts: names, descriptions and templates.
        text_encoder: a frozen tower; its device is used.
        templates: category templates instead of the file's: a preset such as ``"clip_k700"``, a template, or a list.
        whiten: ``none``, ``center`` or ``zca``, see :class:`Whitener`; each space on its own.
        merge_threshold: concepts closer than this cosine in both spaces become one row; None merges nothing.
        batch_size: texts in one pass of the encoder.
        progress: called with the number of texts encoded and their total after each pass.

    Returns:
        The space on the CPU. Texts longer than the encoder reads were cut at the end of a sentence and stand in
        ``info.problems``; pairs of rows closer than 0.97 in ``info.near_duplicates``.

    Raises:
        VidsslError: for a file that leaves a row without meaning (no descriptions, names twice, a template without its
            placeholder), bad options, or features that are not finite.
    """
    file = _with_templates(concepts, templates)
    _check(file, whiten, merge_threshold)
    plan = _Plan(file, text_encoder)
    features = _encode(plan.texts, text_encoder, batch_size, progress)
    category = F.normalize(features[plan.category].mean(dim=1), dim=-1)
    sentences = [features[rows] for rows in plan.descriptions]
    description = torch.stack([F.normalize(rows.mean(dim=0), dim=-1) for rows in sentences])
    ids = [concept.id for concept in file.concepts]
    pairs = near_duplicates(category, ids, "category", NEAR_DUPLICATE)
    pairs += near_duplicates(description, ids, "description", NEAR_DUPLICATE)
    pairs.sort(key=lambda pair: -pair.cosine)
    if merge_threshold is None:
        groups = [[index] for index in range(len(ids))]
    else:
        groups = merge_groups(category, description, merge_threshold)
        category = torch.stack([F.normalize(category[group].mean(dim=0), dim=-1) for group in groups])
        sentences = [torch.cat([sentences[index] for index in group]) for group in groups]
        description = torch.stack([F.normalize(description[group].mean(dim=0), dim=-1) for group in groups])
    described = Whitener(description, whiten)
    info = SpaceInfo(
        name=file.name,
        concepts=tuple(_merged_concept(file, group) for group in groups),
        category_templates=file.templates.category,
        description_templates=file.templates.description,
        encoder=text_encoder.fingerprint,
        context_length=text_encoder.context_length,
        whiten=whiten,
        merge_threshold=merge_threshold,
        merged=tuple((ids[index], ids[group[0]]) for group in groups for index in group[1:]),
        near_duplicates=tuple(pairs[:MAX_PAIRS]),
        near_duplicate_count=len(pairs),
        problems=tuple(plan.problems),
        key=space_key(file, text_encoder, whiten=whiten, merge_threshold=merge_threshold),
    )
    return ConceptSpace(
        info,
        Whitener(category, whiten)(category).float(),
        described(description).float(),
        described(_padded(sentences)).float(),
        torch.tensor([len(rows) for rows in sentences]),
    )


def space_key(
    concepts: ConceptFile,
    text_encoder: TextTower,
    *,
    templates: str | Sequence[str] | None = None,
    whiten: Whitening = "none",
    merge_threshold: float | None = None,
) -> str:
    """sha256 (hex) over all that `build_space` makes a space of: known without encoding anything."""
    file = _with_templates(concepts, templates)
    parts = {
        "version": 1,  # of the way from words to rows
        "concepts": [[c.id, c.name, c.aliases, c.descriptions] for c in file.concepts],
        "templates": [file.templates.category, file.templates.description],
        "encoder": text_encoder.fingerprint,
        "context_length": text_encoder.context_length,
        "whiten": whiten,
        "merge_threshold": merge_threshold,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _Plan:
    """Which texts to encode, each once, and which of them make which row."""

    def __init__(self, file: ConceptFile, text_encoder: TextTower) -> None:
        self.problems: list[Problem] = []
        self._encoder = text_encoder
        self._rows: dict[str, int] = {}
        category, self.descriptions = [], []
        for concept in file.concepts:
            category.append(
                [
                    self._row(concept.id, render(template, concept.name))
                    for template in file.templates.category
                ]
            )
            self.descriptions.append(
                [
                    self._row(concept.id, render(template, concept.name, sentence))
                    for sentence in concept.descriptions
                    for template in file.templates.description
                ]
            )
        self.category = torch.tensor(category)

    @property
    def texts(self) -> list[str]:
        return list(self._rows)

    def _row(self, concept: str, text: str) -> int:
        if text not in self._rows and self._encoder.num_tokens(text) > self._encoder.context_length:
            text = self._cut(concept, text)
        return self._rows.setdefault(text, len(self._rows))

    def _cut(self, concept: str, text: str) -> str:
        """As many whole sentences as fit; the encoder itself cuts a first sentence that is too long."""
        longest = self._encoder.context_length
        kept = split_sentences(text)
        while len(kept) > 1 and self._encoder.num_tokens(" ".join(kept)) > longest:
            kept.pop()
        shorter = " ".join(kept)
        message = f"{self._encoder.num_tokens(text)} tokens, the encoder reads {longest}: cut after {shorter[-60:]!r}"
        self.problems.append(Problem("warning", concept, "tokens-cut", message))
        return shorter


def _encode(
    texts: Sequence[str], text_encoder: TextTower, batch_size: int, progress: Progress | None
) -> Tensor:
    """(N, D) float64 unit features on the CPU."""
    rows = []
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        rows.append(text_encoder.encode(batch, batch_size=batch_size).detach().cpu().double())
        if progress is not None:
            progress(start + len(batch), len(texts))
    features = torch.cat(rows)
    norms = features.norm(dim=1)
    bad = torch.nonzero(~torch.isfinite(norms) | (norms == 0)).flatten().tolist()
    if bad:
        raise VidsslError(
            f"text encoder: the feature of {texts[bad[0]]!r} is not finite or zero ({len(bad)} such texts)"
        )
    unit: Tensor = features / norms[:, None]
    return unit


def _padded(sentences: Sequence[Tensor]) -> Tensor:
    """(K, M, D) from K matrices of up to M rows."""
    padded: Tensor = torch.nn.utils.rnn.pad_sequence(list(sentences), batch_first=True)
    return padded


def _with_templates(concepts: ConceptFile, templates: str | Sequence[str] | None) -> ConceptFile:
    if templates is None:
        return concepts
    chosen = concepts.templates.model_copy(update={"category": category_templates(templates)})
    return concepts.model_copy(update={"templates": chosen})


def _check(file: ConceptFile, whiten: str, merge_threshold: float | None) -> None:
    check_choice("whiten", whiten, WHITENINGS, NAMED)
    if merge_threshold is not None and not 0 < merge_threshold <= 1:
        raise VidsslError(
            f"merge_threshold {merge_threshold}: must be a cosine in (0, 1], such as {NEAR_DUPLICATE}"
        )
    breaking = [problem for problem in check_concepts(file) if problem.rule in _BREAKING]
    if breaking:
        first = breaking[0]
        more = f" (and {len(breaking) - 1} more)" if len(breaking) > 1 else ""
        where = f"{file.name}: {first.concept}: " if first.concept else f"{file.name}: "
        raise VidsslError(f"{where}{first.message}{more}")


def _merged_concept(file: ConceptFile, group: Sequence[int]) -> SpaceConcept:
    members = [file.concepts[index] for index in group]
    names = [alias for member in members for alias in (member.name, *member.aliases)]
    return SpaceConcept(
        id=members[0].id,
        name=members[0].name,
        aliases=tuple(dict.fromkeys(names[1:])),
        descriptions=tuple(text for member in members for text in member.descriptions),
    )
