"""From a concept file and a text encoder to a concept space, in one pass over all texts; and the cache of spaces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any, get_args

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vidssl.concepts.attributes import MIN_COUNT, SharedWords, shared_words
from vidssl.concepts.formats.text import split_sentences
from vidssl.concepts.geometry import NEAR_DUPLICATE, Whitener, merge_groups, near_duplicates
from vidssl.concepts.prompts import Concept, ConceptFile, Problem, ProblemsError
from vidssl.concepts.rules import check_concepts
from vidssl.concepts.space import (
    AttributeSpace,
    ConceptSpace,
    SpaceConcept,
    SpaceInfo,
    Whitening,
    load_space,
    save_space,
)
from vidssl.concepts.vocabulary import DEFAULT_VOCABULARY, load_concepts
from vidssl.distributed import on_first
from vidssl.errors import NAMED, VidsslError, check_choice
from vidssl.models.encoder import TextTower
from vidssl.progress import progress_bar

# Rules whose breach leaves a row without meaning; the others a space survives.
_BREAKING = {
    "concepts-empty", "names-only", "template-missing", "template-placeholder", "id-repeated", "name-empty",
    "name-repeated", "description-missing", "description-empty",
}  # fmt: skip
MAX_PAIRS = 1000  # near-duplicates that are kept for the report

Progress = Callable[[int, int], None] | None


def space_builder(text: TextTower | None) -> Callable[..., ConceptSpace] | None:
    """Makes the concept spaces of an encoder's own text tower, once for the same words; None without a text tower."""
    if text is None:
        return None

    def build(
        vocabulary: str | None = None, templates: str | Sequence[str] | None = None, **options: Any
    ) -> ConceptSpace:
        concepts = load_concepts(vocabulary or DEFAULT_VOCABULARY, templates)
        with progress_bar(f"concept space {concepts.name}", "text") as progress:
            return cached_space(concepts, text, progress=progress, **options)

    return build


def cached_space(
    file: ConceptFile, tower: TextTower, progress: Progress = None, folder: Path | None = None, **options: Any
) -> ConceptSpace:
    """`build_space`, done once for the same words, encoder and options.

    With several processes the first one builds or reads it for all.

    Args:
        file, tower, progress: as for `build_space`.
        folder: where spaces are kept; by default ``concepts`` in the user's cache folder.
        options: `whiten`, `merge_threshold`, `attributes` and `attribute_min_count`, as for `build_space`.

    Raises:
        VidsslError: as `build_space`.
    """
    from platformdirs import user_cache_path

    key = space_key(file, tower, **options)
    kept = (folder or user_cache_path("vidssl") / "concepts") / f"{key[:32]}.safetensors"

    def get() -> ConceptSpace:
        with suppress(VidsslError):  # not there, or damaged
            space = load_space(kept)
            if space.info.key == key:
                return space
        space = build_space(file, tower, progress=progress, **options)
        with suppress(VidsslError):  # a cache that cannot be written costs time, not the run
            save_space(space, kept)
        return space

    return on_first(get)


def build_space(
    file: ConceptFile,
    tower: TextTower,
    whiten: Whitening = "none",
    merge_threshold: float | None = None,
    attributes: Sequence[str] = (),
    attribute_min_count: int = MIN_COUNT,
    batch_size: int = 256,
    progress: Progress = None,
) -> ConceptSpace:
    """Encode all names and descriptions, and the attributes that concepts share.

    Args:
        file: names, descriptions and templates.
        tower: a frozen text tower; its device is used.
        whiten: ``none``, ``center`` or ``zca``, see :class:`Whitener`; each space on its own.
        merge_threshold: concepts closer than this cosine in both spaces become one row; None merges nothing.
        attributes: kinds of attributes to make spaces of, see `vidssl.concepts.attributes`.
        attribute_min_count: concepts that an attribute needs to be in its space.
        batch_size: texts in one pass of the encoder.
        progress: called with the number of texts encoded and their total after each pass.

    Returns:
        The space on the CPU. Texts longer than the encoder reads were cut at the end of a sentence and stand in
        ``info.problems``; pairs of rows closer than 0.97 in ``info.near_duplicates``.

    Raises:
        VidsslError: for a file that leaves a row without meaning (no descriptions, names twice, a template without its
            placeholder), bad options, a kind of attributes of which fewer than two are shared, or features that are not
            finite.
    """
    _check(file, whiten, merge_threshold)
    shared = [_shared(file, kind, attribute_min_count) for kind in attributes]
    plan = _Plan(file, tower, shared)
    features = _encode(list(plan.rows), tower, batch_size, progress)
    category = F.normalize(features[torch.tensor(plan.category)].mean(dim=1), dim=-1)
    sentences = [features[rows] for rows in plan.descriptions]
    description = _mean_rows(sentences)
    ids = file.ids
    pairs = near_duplicates(category, ids, "category") + near_duplicates(description, ids, "description")
    pairs.sort(key=lambda pair: -pair.cosine)
    groups = [[index] for index in range(len(ids))]
    if merge_threshold is not None:
        groups = merge_groups(category, description, merge_threshold)
        category = _mean_rows([category[group] for group in groups])
        description = _mean_rows([description[group] for group in groups])
        sentences = [torch.cat([sentences[index] for index in group]) for group in groups]
    described = Whitener(description, whiten)
    info = SpaceInfo(
        name=file.name,
        concepts=tuple(_merged_concept([file.concepts[index] for index in group]) for group in groups),
        category_templates=file.templates.category,
        description_templates=file.templates.description,
        encoder=tower.fingerprint,
        context_length=tower.context_length,
        whiten=whiten,
        merge_threshold=merge_threshold,
        merged=tuple((ids[index], ids[group[0]]) for group in groups for index in group[1:]),
        near_duplicates=tuple(pairs[:MAX_PAIRS]),
        near_duplicate_count=len(pairs),
        problems=tuple(plan.problems),
        key=space_key(file, tower, whiten, merge_threshold, attributes, attribute_min_count),
    )
    kinds = {}
    for one in shared:
        rows = _mean_rows([features[own] for own in plan.attributes[one.kind]])
        kinds[one.kind] = AttributeSpace(
            one.words, Whitener(rows, whiten)(rows).float(), _incidence(one, groups)
        )
    return ConceptSpace(
        info,
        Whitener(category, whiten)(category).float(),
        described(description).float(),
        described(pad_sequence(sentences, batch_first=True)).float(),
        torch.tensor([len(rows) for rows in sentences]),
        kinds,
    )


def space_key(
    file: ConceptFile,
    tower: TextTower,
    whiten: str = "none",
    merge_threshold: float | None = None,
    attributes: Sequence[str] = (),
    attribute_min_count: int = MIN_COUNT,
) -> str:
    """sha256 (hex) over all that `build_space` makes a space of: known without encoding anything."""
    parts: dict[str, Any] = {
        "version": 1,  # of the way from words to rows
        "concepts": [[c.id, c.name, c.aliases, c.descriptions] for c in file.concepts],
        "templates": [file.templates.category, file.templates.description],
        "encoder": tower.fingerprint,
        "context_length": tower.context_length,
        "whiten": whiten,
        "merge_threshold": merge_threshold,
    }
    if attributes:
        shared = [shared_words(file.concepts, kind, attribute_min_count) for kind in attributes]
        parts["attributes"] = [[*one, file.templates.words("", one.kind)] for one in shared]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _Plan:
    """Which texts to encode, each once, and which of them make which row."""

    def __init__(self, file: ConceptFile, tower: TextTower, shared: Sequence[SharedWords] = ()) -> None:
        self.problems: list[Problem] = []
        self.rows: dict[str, int] = {}  # text -> row of its feature
        self._tower = tower
        self.category, self.descriptions = [], []
        for concept in file.concepts:
            self.category.append([self._row(concept.id, text) for text in file.templates.names(concept)])
            sentences = file.templates.sentences(concept)
            self.descriptions.append([self._row(concept.id, text) for text in sentences])
        self.attributes = {
            one.kind: [
                [self._row(f"{one.kind}: {word}", text) for text in file.templates.words(word, one.kind)]
                for word in one.words
            ]
            for one in shared
        }

    def _row(self, concept: str, text: str) -> int:
        tokens, longest = self._tower.num_tokens, self._tower.context_length
        if text not in self.rows and tokens(text) > longest:
            # As many whole sentences as fit; the encoder itself cuts a first sentence that is too long.
            kept = split_sentences(text)
            while len(kept) > 1 and tokens(" ".join(kept)) > longest:
                kept.pop()
            shorter = " ".join(kept)
            message = f"{tokens(text)} tokens, the encoder reads {longest}: cut after {shorter[-60:]!r}"
            self.problems.append(Problem("warning", concept, "tokens-cut", message))
            text = shorter
        return self.rows.setdefault(text, len(self.rows))


def _encode(texts: Sequence[str], tower: TextTower, batch_size: int, progress: Progress) -> Tensor:
    """(N, D) float64 unit features on the CPU."""
    rows = []
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        rows.append(tower.encode(batch, batch_size=batch_size).detach().cpu().double())
        if progress is not None:
            progress(start + len(batch), len(texts))
    features = torch.cat(rows)
    norms = features.norm(dim=1)
    bad = [text for text, norm in zip(texts, norms.tolist(), strict=True) if norm == 0 or not isfinite(norm)]
    if bad:
        count = f"{len(bad)} such texts"
        raise VidsslError(f"text encoder: the feature of {bad[0]!r} is not finite or zero ({count})")
    return features.div(norms[:, None])


def _mean_rows(groups: Sequence[Tensor]) -> Tensor:
    """(K, D) unit rows, each the mean of the rows of one group."""
    return torch.stack([F.normalize(rows.mean(dim=0), dim=-1) for rows in groups])


def _shared(file: ConceptFile, kind: str, min_count: int) -> SharedWords:
    found = shared_words(file.concepts, kind, min_count)
    if len(found.words) < 2:
        raise VidsslError(
            f"{file.name}: {len(found.words)} {kind} that {min_count} or more concepts have, and a space needs 2; leave "
            f"{kind} out of the spaces, or write more attributes"
        )
    return found


def _incidence(shared: SharedWords, groups: Sequence[Sequence[int]]) -> Tensor:
    """(K, M) uint8; a row of several concepts has the attributes of all."""
    matrix = torch.zeros(len(groups), len(shared.words), dtype=torch.uint8)
    for row, group in enumerate(groups):
        for member in group:
            matrix[row, list(shared.columns[member])] = 1
    return matrix


def _check(file: ConceptFile, whiten: str, merge_threshold: float | None) -> None:
    check_choice("whiten", whiten, get_args(Whitening), NAMED)
    if merge_threshold is not None and not 0 < merge_threshold <= 1:
        allowed = f"a cosine in (0, 1], such as {NEAR_DUPLICATE}"
        raise VidsslError(f"merge_threshold {merge_threshold}: must be {allowed}")
    breaking = [problem for problem in check_concepts(file) if problem.rule in _BREAKING]
    if breaking:
        where = f"{file.name}: {breaking[0].concept}" if breaking[0].concept else file.name
        raise ProblemsError(where, breaking)


def _merged_concept(members: Sequence[Concept]) -> SpaceConcept:
    name, *aliases = (alias for member in members for alias in (member.name, *member.aliases))
    sentences = tuple(text for member in members for text in member.descriptions)
    distinct = tuple(dict.fromkeys(aliases))
    return SpaceConcept(id=members[0].id, name=name, aliases=distinct, descriptions=sentences)
