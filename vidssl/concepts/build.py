"""From a concept file and a text encoder to a concept space, in one pass over all texts; and the cache of spaces."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from vidssl import distributed
from vidssl.concepts.formats.text import split_sentences
from vidssl.concepts.geometry import WHITENINGS, Whitener, merge_groups, near_duplicates
from vidssl.concepts.prompts import Concept, ConceptFile, Problem, ProblemsError
from vidssl.concepts.rules import check_concepts
from vidssl.concepts.space import (
    TENSORS,
    ConceptSpace,
    SpaceConcept,
    SpaceInfo,
    Whitening,
    load_space,
    save_space,
)
from vidssl.concepts.templates import render
from vidssl.concepts.vocabulary import DEFAULT_VOCABULARY, load_concepts
from vidssl.errors import NAMED, VidsslError, check_choice
from vidssl.models.encoder import TextTower
from vidssl.progress import progress_bar

# Rules whose breach leaves a row without meaning; the others a space survives.
_BREAKING = {
    "concepts-empty", "names-only", "template-missing", "template-placeholder", "id-repeated", "name-empty",
    "name-repeated", "description-missing", "description-empty",
}  # fmt: skip
NEAR_DUPLICATE = 0.97
MAX_PAIRS = 1000  # near-duplicates that are kept for the report

Progress = Callable[[int, int], None]


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
    file: ConceptFile,
    tower: TextTower,
    whiten: Whitening = "none",
    merge_threshold: float | None = None,
    progress: Progress | None = None,
    folder: Path | None = None,
) -> ConceptSpace:
    """`build_space`, done once for the same words, encoder and options.

    With several processes the first one builds, the others read what it wrote, and all end with the very same numbers,
    also where they do not share a disk.

    Args:
        file, tower, whiten, merge_threshold, progress: as for `build_space`.
        folder: where spaces are kept; by default ``concepts`` in the user's cache folder.

    Raises:
        VidsslError: as `build_space`.
    """
    from platformdirs import user_cache_path

    key = space_key(file, tower, whiten, merge_threshold)
    kept = (folder or user_cache_path("vidssl") / "concepts") / f"{key[:32]}.safetensors"

    def get() -> ConceptSpace:
        with suppress(VidsslError):  # not there, or damaged
            space = load_space(kept)
            if space.info.key == key:
                return space
        space = build_space(file, tower, whiten, merge_threshold, progress=progress)
        with suppress(OSError):  # a cache that cannot be written costs time, not the run
            save_space(space, kept)
        return space

    return _same_everywhere(get) if distributed.is_distributed() else get()


def build_space(
    file: ConceptFile,
    tower: TextTower,
    whiten: Whitening = "none",
    merge_threshold: float | None = None,
    batch_size: int = 256,
    progress: Progress | None = None,
) -> ConceptSpace:
    """Encode all names and descriptions.

    Args:
        file: names, descriptions and templates.
        tower: a frozen text tower; its device is used.
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
    _check(file, whiten, merge_threshold)
    plan = _Plan(file, tower)
    features = _encode(list(plan.rows), tower, batch_size, progress)
    category = F.normalize(features[plan.category].mean(dim=1), dim=-1)
    sentences = [features[rows] for rows in plan.descriptions]
    description = _mean_rows(sentences)
    ids = file.ids
    pairs = near_duplicates(category, ids, "category", NEAR_DUPLICATE)
    pairs += near_duplicates(description, ids, "description", NEAR_DUPLICATE)
    pairs.sort(key=lambda pair: -pair.cosine)
    groups = [[index] for index in range(len(ids))]
    if merge_threshold is not None:
        groups = merge_groups(category, description, merge_threshold)
        category, description = (
            _mean_rows([rows[group] for group in groups]) for rows in (category, description)
        )
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
        key=space_key(file, tower, whiten, merge_threshold),
    )
    return ConceptSpace(
        info,
        Whitener(category, whiten)(category).float(),
        described(description).float(),
        described(pad_sequence(sentences, batch_first=True)).float(),
        torch.tensor([len(rows) for rows in sentences]),
    )


def space_key(
    file: ConceptFile, tower: TextTower, whiten: str = "none", merge_threshold: float | None = None
) -> str:
    """sha256 (hex) over all that `build_space` makes a space of: known without encoding anything."""
    parts = {
        "version": 1,  # of the way from words to rows
        "concepts": [[c.id, c.name, c.aliases, c.descriptions] for c in file.concepts],
        "templates": [file.templates.category, file.templates.description],
        "encoder": tower.fingerprint,
        "context_length": tower.context_length,
        "whiten": whiten,
        "merge_threshold": merge_threshold,
    }
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


class _Plan:
    """Which texts to encode, each once, and which of them make which row."""

    def __init__(self, file: ConceptFile, tower: TextTower) -> None:
        self.problems: list[Problem] = []
        self.rows: dict[str, int] = {}  # text -> row of its feature
        self._tower = tower
        category, self.descriptions = [], []
        for concept in file.concepts:
            names = [render(template, concept.name) for template in file.templates.category]
            category.append([self._row(concept.id, text) for text in names])
            sentences = [
                render(template, concept.name, sentence)
                for sentence in concept.descriptions
                for template in file.templates.description
            ]
            self.descriptions.append([self._row(concept.id, text) for text in sentences])
        self.category = torch.tensor(category)

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


def _encode(texts: Sequence[str], tower: TextTower, batch_size: int, progress: Progress | None) -> Tensor:
    """(N, D) float64 unit features on the CPU."""
    rows = []
    for start in range(0, len(texts), batch_size):
        batch = texts[start : start + batch_size]
        rows.append(tower.encode(batch, batch_size=batch_size).detach().cpu().double())
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


def _mean_rows(groups: Sequence[Tensor]) -> Tensor:
    """(K, D) unit rows, each the mean of the rows of one group."""
    return torch.stack([F.normalize(rows.mean(dim=0), dim=-1) for rows in groups])


def _check(file: ConceptFile, whiten: str, merge_threshold: float | None) -> None:
    check_choice("whiten", whiten, WHITENINGS, NAMED)
    if merge_threshold is not None and not 0 < merge_threshold <= 1:
        raise VidsslError(
            f"merge_threshold {merge_threshold}: must be a cosine in (0, 1], such as {NEAR_DUPLICATE}"
        )
    breaking = [problem for problem in check_concepts(file) if problem.rule in _BREAKING]
    if breaking:
        where = f"{file.name}: {breaking[0].concept}" if breaking[0].concept else file.name
        raise ProblemsError(where, breaking)


def _merged_concept(members: Sequence[Concept]) -> SpaceConcept:
    first = members[0]
    names = [alias for member in members for alias in (member.name, *member.aliases)]
    sentences = [text for member in members for text in member.descriptions]
    aliases = dict.fromkeys(names[1:])
    return SpaceConcept(id=first.id, name=first.name, aliases=tuple(aliases), descriptions=tuple(sentences))


def _same_everywhere(get: Callable[[], ConceptSpace]) -> ConceptSpace:
    """First one process, then the others; a failure of any is raised on all, so that none waits for ever."""
    space: ConceptSpace | None = None
    for turn in (distributed.rank() == 0, distributed.rank() > 0):
        fault = None
        if turn:
            try:
                space = get()
            except VidsslError as error:
                fault = str(error)
        faults = [text for text in distributed.gather_objects(fault) if text is not None]
        if faults:
            raise VidsslError(faults[0])
    assert space is not None
    if len(set(distributed.gather_objects(space.sha256))) == 1:
        return space
    # Other hardware, other last bits: the numbers of the first process count.
    device = "cuda" if torch.distributed.get_backend() == "nccl" else "cpu"
    first = [getattr(space, name).to(device) for name in TENSORS]
    if distributed.rank() > 0:
        first = [tensor[:0] for tensor in first]
    return ConceptSpace(space.info, *(distributed.gather_rows(tensor).cpu() for tensor in first))
